"""Connectors: make, look at, change, pause and delete them; what they sign in with goes in and never comes out."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from contracts import connector
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.errors import ConnectorRefusedError
from services.gateway.identity.people.acting import Category
from services.gateway.identity.people.scribe import Ending
from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.connector_catalog import sources
from services.gateway.routes.connector_limit import room_for_one
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    settle,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, read_one, shown
from services.gateway.vocabulary import VISIBLE, Line

R = TypeVar("R")

VENDOR_SECONDS: Final = 30.0
"""How long a command may take that asks a vendor."""
INBOUND_PATH: Final = "/v1/webhooks/inbound"
"""Where vendors call, with a connector's id behind it."""

Status: TypeAlias = Literal["pending", "connected", "paused", "error", "oauth_expired"]
Health: TypeAlias = Literal["pending", "active", "paused", "error"]
_HEALTH: Final[Mapping[str, Health]] = {
    "pending": "pending",
    "connected": "active",
    "paused": "paused",
    "error": "error",
    "oauth_expired": "error",
}
RunStatus: TypeAlias = Literal["queued", "running", "succeeded", "error", "cancelled"]
RunKind: TypeAlias = Literal["scheduled", "manual", "backfill", "remap"]
RUN_STATUSES: Final[Mapping[str, RunStatus]] = {
    "queued": "queued",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "error",
    "cancelled": "cancelled",
}
"""Status of a run as the log says it → as the API does."""

_Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$(?!\n)")]
_Setting: TypeAlias = Annotated[str, Meta(max_length=2_000, pattern=r"^[^\x00]*$")]
_Secret: TypeAlias = Annotated[str, Meta(min_length=1, max_length=16_384, pattern=r"^[^\x00]*$")]
Expressions: TypeAlias = Annotated[
    dict[_Key, _Setting],
    Meta(max_length=40, description="Field of an issue to JMESPath over a record; over the type's own."),
]
Config: TypeAlias = Annotated[
    dict[_Key, _Setting], Meta(max_length=50, description="As `config` of the catalogue asks.")
]
Credentials: TypeAlias = Annotated[
    dict[_Key, _Secret],
    Meta(
        max_length=20,
        description="As `auth` of the catalogue asks. Kept encrypted, and never shown again; those named are replaced.",
    ),
]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100, pattern=VISIBLE)]
Type: TypeAlias = Annotated[str, Meta(max_length=64, pattern=r"^[a-z][a-z0-9_]*$(?!\n)")]
Streams: TypeAlias = Annotated[tuple[_Key, ...], Meta(max_length=50)]
Seconds: TypeAlias = Annotated[
    int, Meta(ge=60, le=604_800, description="From the start of one run to the next.")
]


class ConnectorRow(Struct, frozen=True):
    """One row of connector_rows."""

    connector_id: str
    seq: int
    type: str
    display_name: str
    config: str
    auth: int
    schedule: str | None
    streams: str
    mapping: str
    manifest: str | None
    status: str
    reason: str
    detail: str
    status_changed_at: datetime
    secrets: str
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    run_id: str | None
    run_kind: str | None
    run_status: str | None
    run_requested_at: datetime | None
    run_ended_at: datetime | None
    run_n_records: int | None
    run_n_created: int | None
    run_n_updated: int | None
    run_n_rejected: int | None
    run_reason: str | None
    run_detail: str | None
    last_succeeded_at: datetime | None


class Schedule(Struct, frozen=True, kw_only=True):
    """When it is polled: by one of the two."""

    poll_interval_seconds: int | None
    cron: Annotated[str | None, Meta(description="Minute, hour, day of month, month, day of week.")]
    timezone: Annotated[str, Meta(description="IANA time zone that cron is meant in.")]


class LastRun(Struct, frozen=True, kw_only=True):
    """The run that was asked for last."""

    sync_run_id: str
    kind: RunKind
    status: RunStatus
    requested_at: datetime
    ended_at: datetime | None
    records: int
    created: int
    updated: int
    rejected: int
    error_code: str | None
    details: Annotated[str | None, Meta(description="Of a failure, with the vendor's words.")]


class Connector(Struct, frozen=True, kw_only=True):
    """What connects the workspace with a source."""

    id: str
    type: str
    display_name: str
    status: Status
    health: Annotated[Health, Meta(description="The same, coarser: active is connected.")]
    status_reason: Annotated[str | None, Meta(description="A stable code, such as credentials_rejected.")]
    status_detail: Annotated[str | None, Meta(description="For people, with the vendor's words.")]
    status_changed_at: datetime
    auth: Annotated[int, Meta(description="Which way to sign in, a position in `auth` of the catalogue.")]
    secrets: Annotated[tuple[str, ...], Meta(description="Names of what is kept encrypted.")]
    config: dict[str, str]
    schedule: Annotated[Schedule | None, Meta(description="Null: polled only when somebody asks.")]
    poll_interval_seconds: int | None
    streams: Annotated[tuple[str, ...], Meta(description="That are polled; empty: all of the type.")]
    mapping: dict[str, str]
    manifest: Annotated[dict[str, Any] | None, Meta(description="A custom type's; null: the catalogue's.")]
    inbound_url: Annotated[str, Meta(description="Where the source sends its webhooks.")]
    last_run: Annotated[LastRun | None, Meta(description="Null: there was none yet.")]
    last_synced_at: Annotated[datetime | None, Meta(description="When a run last succeeded.")]
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class ConnectorPage(Struct, frozen=True, kw_only=True):
    """A page of connectors."""

    data: tuple[Connector, ...]
    page: PageInfo


class ConnectorQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of connectors."""

    type: Annotated[tuple[Line, ...], Meta(max_length=50)] | None = None
    status: Annotated[
        tuple[Literal["pending", "connected", "active", "paused", "error", "oauth_expired"], ...] | None,
        Meta(description="active is the same as connected."),
    ] = None
    sort: Literal["created_at", "-created_at", "display_name", "-display_name"] = "-created_at"


class ScheduleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to poll: `cron` or `poll_interval_seconds`."""

    cron: Annotated[
        str | None,
        Meta(description="Minute, hour, day of month, month, day of week."),
    ] = None
    timezone: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)")] = "UTC"
    poll_interval_seconds: Seconds | None = None


class NewConnector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A connector to make."""

    type: Type
    display_name: Annotated[Name | None, Meta(description="Absent: as the type is called.")] = None
    config: Config = {}
    auth: Annotated[int, Meta(ge=0, le=20)] = 0
    credentials: Credentials = {}
    poll_interval_seconds: Annotated[
        Seconds | None,
        Meta(
            description="Instead of `schedule`. Without either it is polled every half hour, if it is polled."
        ),
    ] = None
    schedule: ScheduleRequest | None = None
    streams: Streams = ()
    mapping: Expressions = {}
    manifest: Annotated[
        dict[str, Any] | None, Meta(description="Of a type of your own, whose name begins with custom_.")
    ] = None


class ConnectorChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is absent stays."""

    display_name: Name | UnsetType = UNSET
    config: Annotated[Config | UnsetType, Meta(description="Fields to set; the others stay.")] = UNSET
    auth: Annotated[int, Meta(ge=0, le=20)] | UnsetType = UNSET
    credentials: Credentials | UnsetType = UNSET
    poll_interval_seconds: Seconds | UnsetType = UNSET
    schedule: Annotated[
        ScheduleRequest | UnsetType | None, Meta(description="Null: only when somebody asks.")
    ] = UNSET
    streams: Annotated[Streams | UnsetType, Meta(description="Empty: all of the type.")] = UNSET
    mapping: Annotated[Expressions | UnsetType, Meta(description="Empty: the type's own.")] = UNSET
    is_paused: bool | UnsetType = UNSET
    manifest: dict[str, Any] | UnsetType = UNSET


LISTING = Listing(
    name="connectors",
    view="connector_rows",
    row=ConnectorRow,
    key="connector_id",
    sorts={
        "created_at": SortKey("created_at", "timestamptz"),
        "display_name": SortKey("display_name", "text"),
    },
    default_sort="-created_at",
    filters=(
        Filter("type", "type = ANY({value}::text[])", list),
        Filter(
            "status",
            "status = ANY({value}::text[])",
            lambda given: ["connected" if word == "active" else word for word in given],
        ),
    ),
)


def present(gateway: Gateway, row: ConnectorRow) -> Connector:
    """A row as the API shows it."""
    schedule = None if row.schedule is None else _schedule_of(row.schedule)
    fields = msgspec.structs.asdict(row) | {
        "id": row.connector_id,
        "health": _HEALTH[row.status],
        "status_reason": row.reason or None,
        "status_detail": row.detail or None,
        "secrets": msgspec.json.decode(row.secrets),
        "config": msgspec.json.decode(row.config),
        "schedule": schedule,
        "poll_interval_seconds": None if schedule is None else schedule.poll_interval_seconds,
        "streams": msgspec.json.decode(row.streams),
        "mapping": msgspec.json.decode(row.mapping),
        "manifest": None if row.manifest is None else msgspec.json.decode(row.manifest),
        "inbound_url": inbound_url(gateway, row.connector_id),
        "last_run": _last_run(row),
        "last_synced_at": row.last_succeeded_at,
    }
    return msgspec.convert(fields, Connector)


def inbound_url(gateway: Gateway, connector_id: str) -> str:
    """Where the source of a connector sends its webhooks."""
    return f"{gateway.settings.public_address}{INBOUND_PATH}/{connector_id}"


def _schedule_of(text: str) -> Schedule:
    schedule = msgspec.json.decode(text, type=connector.ConnectorSchedule)
    return Schedule(
        poll_interval_seconds=schedule.interval_seconds, cron=schedule.cron, timezone=schedule.timezone
    )


def _last_run(row: ConnectorRow) -> LastRun | None:
    if row.run_id is None or row.run_status is None:
        return None
    fields = {
        "sync_run_id": row.run_id,
        "kind": row.run_kind,
        "status": RUN_STATUSES[row.run_status],
        "requested_at": row.run_requested_at,
        "ended_at": row.run_ended_at,
        "records": row.run_n_records,
        "created": row.run_n_created,
        "updated": row.run_n_updated,
        "rejected": row.run_n_rejected,
        "error_code": row.run_reason or None,
        "details": row.run_detail or None,
    }
    return msgspec.convert(fields, LastRun)


async def find(gateway: Gateway, call: Call[Any, Any]) -> ConnectorRow:  # Any: whatever is asked
    """The connector that the path names. Raises NotFoundError."""
    return await read_one(gateway, call.workspace_id, LISTING, call.path["connector_id"])


async def list_connectors(gateway: Gateway, call: Call[ConnectorQuery, None]) -> ConnectorPage:
    """A page of connectors."""
    found = await list_page(gateway, call, LISTING)
    return ConnectorPage(data=shown(found, partial(present, gateway)), page=page_info(found))


async def get_connector(gateway: Gateway, call: Call[NoQuery, None]) -> Connector:
    """One connector."""
    return present(gateway, await find(gateway, call))


async def create_connector(gateway: Gateway, call: Call[NoQuery, NewConnector]) -> Connector:
    """Make a connector."""
    body = call.body
    source = None if body.display_name else (await sources(gateway, call)).get(body.type)
    name = body.display_name or (source.name if source is not None else body.type)
    request = connector.CreateConnector(
        settings=connector.ConnectorSettings(
            type=body.type,
            display_name=name,
            config=body.config,
            auth=body.auth,
            schedule=_schedule_wanted(body.schedule, body.poll_interval_seconds),
            streams=body.streams,
            mapping=body.mapping,
            manifest=body.manifest,
        ),
        sealed_credentials=sealed_credentials(gateway, call.workspace_id, body.credentials),
    )
    # Its id is ingest's to give, so the deed is named with the workspace.
    workspace, named = (
        ("workspace", call.workspace_id),
        {"type": body.type, "secrets": _names(body.credentials)},
    )
    async with (
        room_for_one(gateway, call.principal),
        gateway.scribe.deed(act_of(gateway, call), "connector.created", "create", workspace, named) as ending,
    ):
        reply = await command(gateway, call.principal, request, reply=connector.ConnectorChanged)
        ending.target = ("connector", reply.connector_id)
    await settle(gateway, call.workspace_id, reply.sequence, location=f"{_ALL}/{reply.connector_id}")
    row = await read_one(gateway, call.workspace_id, LISTING, reply.connector_id)
    return present(gateway, row)


def sealed_credentials(gateway: Gateway, workspace_id: str, credentials: Mapping[str, str]) -> str | None:
    """Secrets as they may travel to ingest; None: there are none."""
    if not credentials:
        return None
    plain = msgspec.json.encode(credentials).decode()
    return gateway.vault.masters.bus.seal(plain, workspace_id=workspace_id, what="credentials")


def _every(seconds: int) -> connector.ConnectorSchedule:
    return connector.ConnectorSchedule(interval_seconds=seconds, timezone="UTC")


def _schedule_wanted(
    schedule: ScheduleRequest | None, poll_interval_seconds: int | None
) -> connector.ConnectorSchedule | None:
    """What was asked for in either way. Raises ConnectorRefusedError for both, or for neither inside a schedule."""
    if schedule is None:
        return None if poll_interval_seconds is None else _every(poll_interval_seconds)
    if poll_interval_seconds is not None:
        fault = "give poll_interval_seconds or schedule, not both"
        raise ConnectorRefusedError(fault, details={"poll_interval_seconds": fault})
    if (schedule.cron is None) == (schedule.poll_interval_seconds is None):
        fault = "give cron or poll_interval_seconds, one of the two"
        raise ConnectorRefusedError(f"schedule: {fault}.", details={"cron": fault})
    return connector.ConnectorSchedule(
        cron=schedule.cron, interval_seconds=schedule.poll_interval_seconds, timezone=schedule.timezone
    )


def _names(given: Mapping[str, object]) -> str:
    """Which there are, and not what is in them."""
    return " ".join(sorted(given))


def deed(
    gateway: Gateway,
    call: Call[Any, Any],  # Any: whatever was asked
    action: str,
    category: Category,
    connector_id: str,
    **metadata: str | None,
) -> AbstractAsyncContextManager[Ending]:
    """Ask ingest inside, and only that: who did it is in the audit log, whoever is killed (`Scribe.deed`).

    metadata: ids, names and words; never a secret.
    """
    return gateway.scribe.deed(act_of(gateway, call), action, category, ("connector", connector_id), metadata)


async def _configured(
    gateway: Gateway,
    call: Call[Any, Any],  # Any: whatever was asked
    request: connector.ConfigureConnector,
    action: str,
    **metadata: str | None,
) -> Connector:
    """Have it changed, write down who did, and show it as it is then."""
    row = await find(gateway, call)
    async with deed(gateway, call, action, "update", row.connector_id, **metadata):
        reply = await command(gateway, call.principal, request, reply=connector.ConnectorChanged)
    await settle(gateway, call.workspace_id, reply.sequence, location=f"{_ALL}/{row.connector_id}")
    return present(gateway, await find(gateway, call))


async def update_connector(gateway: Gateway, call: Call[NoQuery, ConnectorChange]) -> Connector:
    """Change a connector."""
    given = {
        name: value
        for name in ConnectorChange.__struct_fields__
        if (value := getattr(call.body, name)) is not UNSET
    }
    change: dict[str, object] = {"connector_id": call.path["connector_id"]}
    change |= {
        name: given[name]
        for name in ("display_name", "config", "auth", "manifest", "is_paused")
        if name in given
    }
    change |= _replaced(given, "streams", "all_streams") | _replaced(given, "mapping", "manifest_mapping")
    secrets = call.body.credentials or {}
    if "poll_interval_seconds" in given or "schedule" in given:
        schedule = _schedule_wanted(call.body.schedule or None, call.body.poll_interval_seconds or None)
        change |= {"schedule": schedule} if schedule is not None else {"without_schedule": True}
    request = msgspec.convert(change, connector.ConfigureConnector)
    sealed = sealed_credentials(gateway, call.workspace_id, secrets)
    request = msgspec.structs.replace(request, sealed_credentials=sealed)
    return await _configured(
        gateway, call, request, "connector.changed", changed=_names(given), secrets=_names(secrets)
    )


def _replaced(given: Mapping[str, object], name: str, emptied: str) -> dict[str, object]:
    """A list or map to put in the place of the one before; the bus says of an empty one that there is none."""
    if name not in given:
        return {}
    return {name: given[name]} if given[name] else {emptied: True}


async def delete_connector(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """Delete a connector with its secrets; its issues stay."""
    row = await find(gateway, call)
    request = connector.DeleteConnector(connector_id=row.connector_id)
    async with deed(gateway, call, "connector.deleted", "delete", row.connector_id, type=row.type):
        reply = await command(gateway, call.principal, request, reply=connector.ConnectorGone)
    await settle(gateway, call.workspace_id, reply.sequence)


async def set_schedule(gateway: Gateway, call: Call[NoQuery, ScheduleRequest]) -> Connector:
    """Have it polled by this schedule."""
    request = connector.ConfigureConnector(
        connector_id=call.path["connector_id"], schedule=_schedule_wanted(call.body, None)
    )
    return await _configured(gateway, call, request, "connector.changed", changed="schedule")


async def drop_schedule(gateway: Gateway, call: Call[NoQuery, None]) -> Connector:
    """Have it polled only when somebody asks."""
    request = connector.ConfigureConnector(connector_id=call.path["connector_id"], without_schedule=True)
    return await _configured(gateway, call, request, "connector.changed", changed="schedule")


async def pause_connector(gateway: Gateway, call: Call[NoQuery, None]) -> Connector:
    """Stop it for now."""
    request = connector.ConfigureConnector(connector_id=call.path["connector_id"], is_paused=True)
    return await _configured(gateway, call, request, "connector.paused")


async def resume_connector(gateway: Gateway, call: Call[NoQuery, None]) -> Connector:
    """Let it go on."""
    request = connector.ConfigureConnector(connector_id=call.path["connector_id"], is_paused=False)
    return await _configured(gateway, call, request, "connector.resumed")


_ALL, _ONE = "/v1/connectors", "/v1/connectors/{connector_id}"
_Operation = partial(Operation, tag="Connectors")
_Read = partial(_Operation, method="GET", scope="connectors:read")
_Change = partial(
    _Operation,
    method="POST",
    scope="connectors:admin",
    replies={200: Connector, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listConnectors",
        path=_ALL,
        summary="List connectors, newest first.",
        query=ConnectorQuery,
        replies={200: ConnectorPage},
        handle=list_connectors,
    ),
    _Change(
        id="createConnector",
        path=_ALL,
        summary="Connect a source.",
        description="It is `pending` until its credentials were accepted; a type without credentials is `connected` at"
        " once. 422 `plan_limit`: the plan allows no more connectors; `details` names the limit.",
        scope="connectors:write",
        body=NewConnector,
        replies={201: Connector, 202: Accepted},
        handle=create_connector,
    ),
    _Read(
        id="getConnector",
        path=_ONE,
        summary="Look at a connector.",
        replies={200: Connector},
        handle=get_connector,
    ),
    _Change(
        id="updateConnector",
        method="PATCH",
        path=_ONE,
        summary="Change a connector's credentials or settings.",
        body=ConnectorChange,
        handle=update_connector,
    ),
    _Change(
        id="deleteConnector",
        method="DELETE",
        path=_ONE,
        summary="Delete a connector.",
        description="With its secrets, raw records, dead letters and the history of its runs. The issues that it brought"
        " stay.",
        replies={204: None, 202: Accepted},
        handle=delete_connector,
    ),
    _Change(
        id="setConnectorSchedule",
        method="PUT",
        path=f"{_ONE}/schedule",
        summary="Have a connector polled at times or every so often.",
        body=ScheduleRequest,
        handle=set_schedule,
    ),
    _Change(
        id="dropConnectorSchedule",
        method="DELETE",
        path=f"{_ONE}/schedule",
        summary="Have a connector polled only when somebody asks.",
        handle=drop_schedule,
    ),
    _Change(
        id="pauseConnector",
        path=f"{_ONE}/pause",
        summary="Stop a connector for now.",
        scope="connectors:write",
        handle=pause_connector,
    ),
    _Change(
        id="resumeConnector",
        path=f"{_ONE}/resume",
        summary="Let a paused connector go on.",
        scope="connectors:write",
        handle=resume_connector,
    ),
)
