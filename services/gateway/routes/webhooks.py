"""Outbound webhooks: where events are sent, with which secret, and what became of each."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from contracts import WEBHOOK_SECRET, connector, new_id
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import StateConflictError, UnavailableError
from runtime.outbound import OutboundError

from services.gateway.errors import WebhookRefusedError
from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.messages import (
    OF_CONNECTORS,
    EventType,
)
from services.gateway.listing import Condition, Filter, Listing, SortKey
from services.gateway.routes import connector_access, connectors
from services.gateway.routes.connector_catalog import sources
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import (
    Answer,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, read_one, shown

WEBHOOKS_MAX: Final = 50
"""Of one workspace."""
DOWN_AFTER: Final = timedelta(hours=1)

Health: TypeAlias = Literal["healthy", "degraded", "down"]
Address: TypeAlias = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=2000,
        pattern=r"^https?://[^\s/?#@\\]+(?:[/?][^\s#]*)?$(?!\n)",
        description="https, and on the internet; other networks are the operator's to allow.",
    ),
]
Words: TypeAlias = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$(?!\n)")]
Types: TypeAlias = Annotated[tuple[EventType, ...], Meta(min_length=1, max_length=50)]
ConnectorId: TypeAlias = Annotated[str, Meta(pattern=r"^con_[0-9A-HJKMNP-TV-Z]{26}$(?!\n)")]


class Webhook(Struct, frozen=True, kw_only=True, tag_field="direction", tag="outbound"):
    """An address that is told of events."""

    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    connector_id: Annotated[str | None, Meta(description="Only events of this connector; null: of all.")]
    is_active: bool
    disabled_reason: Annotated[
        Literal["gone", "nothing_taken", "backlog_full"] | None,
        Meta(description="Why it was switched off by itself; switch it on again with is_active."),
    ]
    health: Annotated[
        Health,
        Meta(
            description="degraded: the last attempt failed. down: all have for an hour, or it was switched off."
        ),
    ]
    failing_since: datetime | None
    last_delivered_at: datetime | None
    previous_secret_until: Annotated[
        datetime | None, Meta(description="Until when the secret before the last rotation signs too.")
    ]
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class InboundAddress(Struct, frozen=True, kw_only=True, tag_field="direction", tag="inbound"):
    """Where a connector's source posts its own webhooks."""

    connector_id: str
    display_name: Annotated[str, Meta(description="Of the connector.")]
    type: str
    url: str
    health: Annotated[
        Health,
        Meta(
            description="degraded: the connector has an error. down: it is paused or has no webhook secret, so nothing is"
            " taken."
        ),
    ]
    last_received_at: Annotated[
        datetime | None,
        Meta(description="When it last took something; null: nothing in the last 7 days."),
    ]
    created_at: datetime


class NewWebhook(Webhook, frozen=True, kw_only=True, tag="outbound"):
    """A webhook with its secret, which is not shown again."""

    secret: str


class InboundWebhook(Struct, frozen=True, kw_only=True):
    """What a source's own webhooks are proved with; the secret is the connector's and not shown again."""

    direction: Literal["inbound"]
    connector_id: str
    url: Annotated[str, Meta(description="Where the source sends them.")]
    secret: str
    previous_secret_until: Annotated[
        datetime | None, Meta(description="Until when the one before is taken; null: there was none.")
    ]


class WebhookPage(Struct, frozen=True, kw_only=True):
    """A page of webhooks."""

    data: tuple[Webhook | InboundAddress, ...]
    page: PageInfo


class WebhookQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of webhooks."""

    direction: Annotated[
        Literal["outbound", "inbound"],
        Meta(description="inbound: the addresses to which sources post, of connectors that take webhooks."),
    ] = "outbound"
    is_active: Annotated[bool | None, Meta(description="Inbound: whether its connector is not paused.")] = (
        None
    )
    connector_id: ConnectorId | None = None
    sort: Literal["created_at", "-created_at"] = "-created_at"


class WebhookRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to make."""

    direction: Annotated[
        Literal["outbound", "inbound"],
        Meta(
            description="outbound: events are sent to `url`, which it needs with `event_types`. inbound: a secret for what"
            " the source of `connector_id` sends us; it takes nothing else."
        ),
    ] = "outbound"
    url: Address | None = None
    event_types: Types | None = None
    connector_id: Annotated[
        ConnectorId | None,
        Meta(description="Outbound: only events of this connector, which are issue.* and connector.*."),
    ] = None
    description: Words = ""
    is_active: bool = True


class WebhookChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a webhook; what is absent stays."""

    url: Address | None = None
    event_types: Types | None = None
    description: Words | None = None
    is_active: Annotated[
        bool | None,
        Meta(description="true also clears disabled_reason; what happened meanwhile is not sent."),
    ] = None


class RotatedSecret(Struct, frozen=True, kw_only=True):
    """Another secret, which is not shown again."""

    secret: str
    previous_secret_until: Annotated[datetime, Meta(description="Until then the one before signs too.")]


LISTING = Listing(
    name="webhooks",
    view="webhooks",
    row=_queries.Webhook,
    key="webhook_id",
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
    filters=(
        Filter("is_active", "is_active = {value}::boolean", lambda given: "true" if given else "false"),
        Filter("connector_id", "connector_id = {value}"),
    ),
)

INBOUND = Listing(
    name="inbound_webhooks",
    view="connector_rows",
    row=connectors.ConnectorRow,
    key="connector_id",
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
    filters=(
        Filter(
            "is_active", "(status <> 'paused') = {value}::boolean", lambda given: "true" if given else "false"
        ),
        Filter("connector_id", "connector_id = {value}"),
    ),
)
_OF_CONNECTOR: Final[Mapping[str, Health]] = {
    "paused": "down",
    "error": "degraded",
    "oauth_expired": "degraded",
}


def _health_of_address(row: connectors.ConnectorRow) -> Health:
    names = msgspec.json.decode(row.secrets, type=list[str])
    return _OF_CONNECTOR.get(row.status, "healthy") if WEBHOOK_SECRET in names else "down"


def _health(row: _queries.Webhook, now: datetime) -> Health:
    if row.disabled_reason is not None:
        return "down"
    if row.failing_since is None:
        return "healthy"
    return "down" if now - row.failing_since >= DOWN_AFTER else "degraded"


def _fields(gateway: Gateway, row: _queries.Webhook) -> dict[str, object]:
    now = gateway.resources.clock()
    is_old = row.previous_until is None or row.previous_until <= now
    return msgspec.structs.asdict(row) | {
        "id": row.webhook_id,
        "health": _health(row, now),
        "previous_secret_until": None if is_old else row.previous_until,
    }


def _present(gateway: Gateway, row: _queries.Webhook) -> Webhook:
    return msgspec.convert(_fields(gateway, row), Webhook)


async def list_webhooks(gateway: Gateway, call: Call[WebhookQuery, None]) -> WebhookPage:
    """A page of webhooks."""
    if call.query.direction == "inbound":
        return await _list_inbound(gateway, call)
    found = await list_page(gateway, call, LISTING, source=gateway.people)
    return WebhookPage(data=shown(found, partial(_present, gateway)), page=page_info(found))


async def _list_inbound(gateway: Gateway, call: Call[WebhookQuery, None]) -> WebhookPage:
    known = await sources(gateway, call)
    posting = [slug for slug, source in known.items() if source.webhook_schemes]
    takes = Condition(
        "CASE WHEN manifest IS NULL THEN type = ANY({value}::text[]) ELSE jsonb_typeof(manifest::jsonb -> 'webhook') = 'object' END",
        posting,
    )
    found = await list_page(gateway, call, INBOUND, conditions=[takes], of="inbound")
    asked = connector.ListReceived(connector_ids=tuple(row.connector_id for row in found.rows))
    listed = (
        await command(gateway, call.principal, asked, reply=connector.ReceivedListed) if found.rows else None
    )
    last = {one.connector_id: one.last_received_at for one in (listed.received if listed else ())}

    def address(row: connectors.ConnectorRow) -> InboundAddress:
        return InboundAddress(
            connector_id=row.connector_id,
            display_name=row.display_name,
            type=row.type,
            url=connectors.inbound_url(gateway, row.connector_id),
            health=_health_of_address(row),
            last_received_at=last.get(row.connector_id),
            created_at=row.created_at,
        )

    return WebhookPage(data=shown(found, address), page=page_info(found))


async def get_webhook(gateway: Gateway, call: Call[Any, Any]) -> Webhook:
    """A webhook."""
    return _present(gateway, await find(gateway, call))


async def find(gateway: Gateway, call: Call[Any, Any]) -> _queries.Webhook:  # Any: whatever is asked
    """The webhook that the path names. Raises NotFoundError."""
    webhook_id = call.path["webhook_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        row = await _queries.get_webhook(conn, workspace_id=call.workspace_id, webhook_id=webhook_id)
    if row is None:
        raise not_found("webhook", webhook_id)
    return row


async def create_webhook(gateway: Gateway, call: Call[NoQuery, WebhookRequest]) -> NewWebhook | Answer:
    """A webhook that is told of what happens from now on, or the secret of a connector's."""
    if call.body.direction == "inbound":
        return Answer(200, await _inbound(gateway, call))
    wanted, act, space = call.body, act_of(gateway, call), call.workspace_id
    if wanted.url is None or wanted.event_types is None:
        missing = [name for name in ("url", "event_types") if getattr(wanted, name) is None]
        raise WebhookRefusedError(
            "An outbound webhook needs url and event_types.", details=dict.fromkeys(missing, "missing")
        )
    if wanted.connector_id is not None:
        await read_one(gateway, space, connectors.LISTING, wanted.connector_id)
    _check_types(wanted.event_types, wanted.connector_id)
    await _check_url(gateway, space, wanted.url)
    webhook_id = new_id("whk_", now=act.now, rng=gateway.rng)
    log = gateway.resources.event_log
    partition = log.partition_of(space)
    end = await log.last_seq(partition)
    busy = UnavailableError("Many webhooks of this workspace are being made. Try again in a moment.")
    async with gateway.once.alone(space, "webhooks", busy=busy), tenant(gateway.people, space) as conn:
        if await _queries.count_webhooks(conn, workspace_id=space) >= WEBHOOKS_MAX:
            raise StateConflictError(f"There are {WEBHOOKS_MAX} webhooks already; delete one first.")
        secret, sealed = await gateway.webhooks.seal_new(conn, space, webhook_id)
        row = await _queries.insert_webhook(
            conn,
            workspace_id=space,
            webhook_id=webhook_id,
            url=wanted.url,
            description=wanted.description,
            event_types=list(dict.fromkeys(wanted.event_types)),
            connector_id=wanted.connector_id,
            is_active=wanted.is_active,
            secret_sealed=sealed,
            log_partition=partition,
            from_sequence=end,
            created_by=call.principal.user_id,
            created_at=act.now,
        )
        if row is None:
            raise LookupError("the new webhook gave no row")
        await act.write_down(
            conn, "webhook.created", "create", ("webhook", webhook_id), events=" ".join(row.event_types)
        )
    return msgspec.convert(_fields(gateway, row) | {"secret": secret}, NewWebhook)


async def _inbound(gateway: Gateway, call: Call[NoQuery, WebhookRequest]) -> InboundWebhook:
    connector_id = call.body.connector_id
    if connector_id is None or call.body.url is not None or call.body.event_types is not None:
        raise WebhookRefusedError(
            "An inbound webhook is that of a connector: it needs connector_id, and neither url nor event_types.",
            details={"connector_id": "needed, without url and event_types"},
        )
    rotated = await connector_access.rotated(gateway, call, connector_id, None)
    return InboundWebhook(
        direction="inbound",
        connector_id=connector_id,
        url=rotated.inbound_url,
        secret=rotated.secret,
        previous_secret_until=rotated.previous_until,
    )


def _check_types(types: Sequence[str], connector_id: str | None) -> None:
    never = [name for name in types if connector_id is not None and name not in OF_CONNECTORS]
    if never:
        raise WebhookRefusedError(
            f"No connector has events of {', '.join(never)}; a webhook of one connector would never get them.",
            details={"event_types": "not of a connector"},
        )


async def _check_url(gateway: Gateway, workspace_id: str, url: str) -> None:
    try:
        await gateway.webhooks.check(workspace_id, url)
    except OutboundError as error:
        raise WebhookRefusedError(
            f"Nothing may be sent there: {error}.", details={"url": str(error)}
        ) from error


async def change_webhook(gateway: Gateway, call: Call[NoQuery, WebhookChange]) -> Webhook:
    """Another address, other events, a pause, the end of one."""
    change, act, webhook_id = call.body, act_of(gateway, call), call.path["webhook_id"]
    fields = [name for name in change.__struct_fields__ if getattr(change, name) is not None]
    row = await find(gateway, call)
    if not fields:
        return _present(gateway, row)
    _check_types(change.event_types or (), row.connector_id)
    if change.url is not None:
        await _check_url(gateway, call.workspace_id, change.url)
    log = gateway.resources.event_log
    end = await log.last_seq(log.partition_of(call.workspace_id))
    async with tenant(gateway.people, call.workspace_id) as conn:
        changed = await _queries.update_webhook(
            conn,
            workspace_id=call.workspace_id,
            webhook_id=webhook_id,
            url=change.url,
            description=change.description,
            event_types=None if change.event_types is None else list(dict.fromkeys(change.event_types)),
            is_active=change.is_active,
            from_sequence=end,
            updated_at=act.now,
        )
        if changed is None:
            raise not_found("webhook", webhook_id)
        await act.write_down(
            conn, "webhook.updated", "update", ("webhook", webhook_id), fields=",".join(fields)
        )
    return _present(gateway, changed)


async def delete_webhook(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of a webhook and of its deliveries."""
    act, webhook_id = act_of(gateway, call), call.path["webhook_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        deleted = await _queries.delete_webhook(conn, workspace_id=call.workspace_id, webhook_id=webhook_id)
        if not deleted:
            raise not_found("webhook", webhook_id)
        await act.write_down(conn, "webhook.deleted", "delete", ("webhook", webhook_id))


async def rotate_secret(gateway: Gateway, call: Call[NoQuery, None]) -> RotatedSecret:
    """Another secret."""
    act, webhook_id = act_of(gateway, call), call.path["webhook_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        rotated = await gateway.webhooks.rotate(conn, call.workspace_id, webhook_id)
        if rotated is None:
            raise not_found("webhook", webhook_id)
        await act.write_down(conn, "webhook.secret_rotated", "update", ("webhook", webhook_id))
    secret, until = rotated
    return RotatedSecret(secret=secret, previous_secret_until=until)


_ONE = "/v1/webhooks/{webhook_id}"
_Hook = partial(Operation, tag="Webhooks", scope="webhooks:admin")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Hook(
        id="listWebhooks",
        method="GET",
        path="/v1/webhooks",
        summary="List webhooks, of one direction.",
        description="503, inbound only: nothing takes sources in at the moment, so that nobody can say when something was"
        " last received; ask again.",
        query=WebhookQuery,
        replies={200: WebhookPage},
        handle=list_webhooks,
    ),
    _Hook(
        id="createWebhook",
        method="POST",
        path="/v1/webhooks",
        summary="Have events sent to an address.",
        description="Of what happens from now on. The secret is shown in this answer and never again; how to verify with"
        " it: docs/how-to/send-webhooks.md. With `direction: inbound` it gives the connector another secret for what its"
        " source sends, as `rotateConnectorWebhookSecret` does.",
        body=WebhookRequest,
        replies={201: NewWebhook, 200: InboundWebhook},
        refusals=(404, 409, 422),
        handle=create_webhook,
    ),
    _Hook(
        id="getWebhook",
        method="GET",
        path=_ONE,
        summary="Look at a webhook and its health.",
        replies={200: Webhook},
        handle=get_webhook,
    ),
    _Hook(
        id="updateWebhook",
        method="PATCH",
        path=_ONE,
        summary="Change a webhook, switch it off or on.",
        body=WebhookChange,
        replies={200: Webhook},
        refusals=(422,),
        handle=change_webhook,
    ),
    _Hook(
        id="deleteWebhook",
        method="DELETE",
        path=_ONE,
        summary="Delete a webhook with what waits for it.",
        replies={204: None},
        handle=delete_webhook,
    ),
    _Hook(
        id="rotateWebhookSecret",
        method="POST",
        path=f"{_ONE}/rotate",
        summary="Give a webhook another secret.",
        description="It is shown in this answer and never again; for 24 hours the one before signs too.",
        replies={200: RotatedSecret},
        handle=rotate_secret,
    ),
)
