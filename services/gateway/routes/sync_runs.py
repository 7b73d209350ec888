"""Runs of connectors: ask for one, follow it, end it."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from contracts import connector
from msgspec import Meta, Struct, field

from services.gateway.edge.preconditions import patience
from services.gateway.errors import ConnectorRefusedError
from services.gateway.listing import Condition, Filter, Listing, SortKey
from services.gateway.routes import connectors
from services.gateway.routes.connectors import RUN_STATUSES, RunKind, RunStatus
from services.gateway.routes.issues import Moment
from services.gateway.routes.operation import (
    Accepted,
    Answer,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
    settle,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, read_one, shown


class SyncRunRow(Struct, frozen=True):
    """One row of sync_runs."""

    run_id: str
    connector_id: str
    seq: int
    kind: str
    status: str
    window_start: datetime | None
    window_end: datetime | None
    requested_by: str | None
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    n_chunks_done: int
    n_chunks: int
    n_records: int
    n_created: int
    n_updated: int
    n_unchanged: int
    n_ignored: int
    n_rejected: int
    reason: str
    detail: str


class Counts(Struct, frozen=True, kw_only=True):
    """What became of the records."""

    records: int
    created: int
    updated: int
    unchanged: int
    ignored: Annotated[int, Meta(description="No failures.")]
    rejected: Annotated[int, Meta(description="Dead letters now.")]


class SyncRun(Struct, frozen=True, kw_only=True):
    """A run of a connector."""

    sync_run_id: str
    connector_id: str
    kind: RunKind
    status: RunStatus
    counts: Counts
    chunks_done: Annotated[int, Meta(description="Stretches of time that are done.")]
    chunks: int
    error_code: Annotated[str | None, Meta(description="A stable code, such as rate_limited.")]
    details: Annotated[
        str | None,
        Meta(description="Of a failure, or of what a run had to leave out, with the vendor's words."),
    ]
    window_start: Annotated[datetime | None, Meta(description="Of a backfill.")]
    window_end: datetime | None
    requested_by: Annotated[str | None, Meta(description="Null: the schedule.")]
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class SyncRunPage(Struct, frozen=True, kw_only=True):
    """A page of runs."""

    data: tuple[SyncRun, ...]
    page: PageInfo


class SyncRunQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of runs."""

    status: Annotated[
        tuple[Literal["queued", "running", "succeeded", "error", "failed", "cancelled"], ...] | None,
        Meta(description="failed is the same as error."),
    ] = None
    kind: tuple[RunKind, ...] | None = None
    sort: Literal["requested_at", "-requested_at"] = "-requested_at"


class SyncBegun(Struct, frozen=True, kw_only=True):
    """A run is on its way."""

    status: Literal["accepted"]
    sync_run_id: str
    location: Annotated[str, Meta(description="What shows how it goes.")]


class Stretch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of history."""

    since: Annotated[Moment, Meta(description="Its start.")] = field(name="from")
    until: Annotated[Moment | None, Meta(description="Its end; absent: now.")] = field(
        name="to", default=None
    )


LISTING = Listing(
    name="sync_runs",
    view="sync_runs",
    row=SyncRunRow,
    key="run_id",
    sorts={"requested_at": SortKey("requested_at", "timestamptz")},
    default_sort="-requested_at",
    filters=(
        Filter(
            "status",
            "status = ANY({value}::text[])",
            lambda given: ["failed" if word == "error" else word for word in given],
        ),
        Filter("kind", "kind = ANY({value}::text[])", list),
    ),
)


def present(row: SyncRunRow) -> SyncRun:
    """A row as the API shows it."""
    fields = msgspec.structs.asdict(row)
    fields |= {
        "sync_run_id": row.run_id,
        "status": RUN_STATUSES[row.status],
        "counts": {name.removeprefix("n_"): n for name, n in fields.items() if name.startswith("n_")},
        # Only a backfill tells of each; what succeeded has read them all.
        "chunks_done": row.n_chunks if row.status == "succeeded" else row.n_chunks_done,
        "chunks": row.n_chunks,
        "error_code": row.reason or None,
        "details": row.detail or None,
    }
    return msgspec.convert(fields, SyncRun)


async def list_runs(gateway: Gateway, call: Call[SyncRunQuery, None]) -> SyncRunPage:
    """A page of a connector's runs."""
    row = await connectors.find(gateway, call)
    found = await list_page(
        gateway,
        call,
        LISTING,
        conditions=[Condition("connector_id = {value}", row.connector_id)],
        of=row.connector_id,
    )
    return SyncRunPage(data=shown(found, present), page=page_info(found))


async def _find(gateway: Gateway, call: Call[Any, Any]) -> SyncRunRow:  # Any: whatever is asked
    """The run that the path names. Raises NotFoundError for one of another connector, too."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["run_id"])
    if row.connector_id != call.path["connector_id"]:
        raise not_found("run", row.run_id)
    return row


async def get_run(gateway: Gateway, call: Call[NoQuery, None]) -> SyncRun:
    """One run."""
    return present(await _find(gateway, call))


async def _begin(
    gateway: Gateway,
    call: Call[Any, Any],  # Any: whatever is asked
    kind: connector.SyncKind,
    stretch: Stretch | None = None,
) -> Answer:
    row = await connectors.find(gateway, call)
    request = connector.StartSync(
        connector_id=row.connector_id,
        kind=kind,
        window_start=None if stretch is None else stretch.since,
        window_end=None if stretch is None else stretch.until,
    )
    action = f"connector.{kind.value}_sync_started"
    async with connectors.deed(gateway, call, action, "other", row.connector_id) as ending:
        begun = await command(gateway, call.principal, request, reply=connector.SyncAccepted)
        ending.metadata["run"] = begun.run_id
    # The run is durable; whoever looks at once should find it, and need not.
    await gateway.resources.reached(call.workspace_id, begun.sequence, timeout=patience.get())
    location = f"{_ONE.format(connector_id=row.connector_id)}/sync-runs/{begun.run_id}"
    return Answer(
        202,
        SyncBegun(status="accepted", sync_run_id=begun.run_id, location=location),
        {"Location": location},
    )


async def sync_now(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """Have it asked for what is new."""
    return await _begin(gateway, call, connector.SyncKind.MANUAL)


async def backfill(gateway: Gateway, call: Call[NoQuery, Stretch]) -> Answer:
    """Have it asked for a stretch of history."""
    since, until = call.body.since, call.body.until or gateway.resources.clock()
    if since >= until:
        fault = "has to be before `to`"
        raise ConnectorRefusedError(f"from: {fault}.", details={"from": fault})
    return await _begin(gateway, call, connector.SyncKind.BACKFILL, call.body)


async def remap(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """Have its kept records mapped again."""
    return await _begin(gateway, call, connector.SyncKind.REMAP)


async def cancel(gateway: Gateway, call: Call[NoQuery, None]) -> SyncRun:
    """End a run."""
    row = await _find(gateway, call)
    request = connector.CancelSync(connector_id=row.connector_id, run_id=row.run_id)
    action = "connector.sync_cancelled"
    async with connectors.deed(gateway, call, action, "other", row.connector_id, run=row.run_id):
        reply = await command(gateway, call.principal, request, reply=connector.SyncAccepted)
    location = f"{_ONE.format(connector_id=row.connector_id)}/sync-runs/{row.run_id}"
    await settle(gateway, call.workspace_id, reply.sequence, location=location)
    return present(await _find(gateway, call))


_ONE = "/v1/connectors/{connector_id}"
_Operation = partial(Operation, tag="Connectors")
_Read = partial(_Operation, method="GET", scope="connectors:read")
_Begin = partial(
    _Operation, method="POST", scope="connectors:write", replies={202: SyncBegun}, refusals=(409, 422)
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Begin(
        id="syncConnector",
        path=f"{_ONE}/sync",
        summary="Ask a source for what is new.",
        description="A run that waits already is answered with, instead of a second one.",
        handle=sync_now,
    ),
    _Begin(
        id="backfillConnector",
        path=f"{_ONE}/backfill",
        summary="Ask a source for a stretch of its history.",
        body=Stretch,
        handle=backfill,
    ),
    _Begin(
        id="remapConnector",
        path=f"{_ONE}/remap",
        summary="Map a connector's kept records again, with the present mapping.",
        description="`POST …/remap/preview` shows before what would change.",
        handle=remap,
    ),
    _Read(
        id="listSyncRuns",
        path=f"{_ONE}/sync-runs",
        summary="List a connector's runs, newest first.",
        query=SyncRunQuery,
        replies={200: SyncRunPage},
        handle=list_runs,
    ),
    _Read(
        id="getSyncRun",
        path=f"{_ONE}/sync-runs/{{run_id}}",
        summary="See how a run goes, or how it went.",
        replies={200: SyncRun},
        handle=get_run,
    ),
    _Operation(
        id="cancelSyncRun",
        method="POST",
        path=f"{_ONE}/sync-runs/{{run_id}}/cancel",
        summary="End a run that waits or runs.",
        description="What it has read stays. 409: it is over.",
        scope="connectors:write",
        replies={200: SyncRun, 202: Accepted},
        refusals=(409,),
        handle=cancel,
    ),
)
