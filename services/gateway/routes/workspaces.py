"""The workspace: its name and the four settings that the services judge by."""

from datetime import datetime
from typing import Annotated

import msgspec
from contracts import record, workspace
from eventlog import Append
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.telemetry import current_trace_id, current_traceparent

from services.gateway import _queries
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
    settle,
)

Share = Annotated[float, Meta(ge=0, le=1)]
ConfidenceThreshold = Annotated[
    Share, Meta(description="Least confidence to link or to recommend by itself.")
]
AlertProbability = Annotated[Share, Meta(description="Probability at which an alert fires.")]
# JSON knows one kind of number: 14.0 is a whole one.
WholeClusterSize = Annotated[
    float, Meta(ge=2, le=50, multiple_of=1, description="Issues before a pattern is shown.")
]
WholeProofDays = Annotated[
    float, Meta(ge=7, le=365, multiple_of=1, description="Days of quiet that prove a fix.")
]
MinimumClusterSize = Annotated[int, Meta(ge=2, le=50, description="Issues before a pattern is shown.")]
ProofWindowDays = Annotated[int, Meta(ge=7, le=365, description="Days of quiet that prove a fix.")]


class Settings(Struct, frozen=True, kw_only=True):
    """How the services judge."""

    confidence_threshold: ConfidenceThreshold
    alert_probability: AlertProbability
    minimum_cluster_size: MinimumClusterSize
    proof_window_days: ProofWindowDays


class Workspace(Struct, frozen=True, kw_only=True):
    """The workspace that the token is for."""

    id: str
    slug: str
    name: str
    timezone: str
    settings: Settings
    created_at: datetime
    updated_at: datetime


class SettingsChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings to change; what is absent stays."""

    confidence_threshold: ConfidenceThreshold | None = None
    alert_probability: AlertProbability | None = None
    minimum_cluster_size: WholeClusterSize | None = None
    proof_window_days: WholeProofDays | None = None


async def read_workspace(gateway: Gateway, workspace_id: str) -> _queries.WorkspacesRow:
    """The workspace's row. Raises NotFoundError while the log does not know it."""
    async with tenant(gateway.pool, workspace_id) as conn:
        row = await _queries.get_workspace(conn, workspace_id=workspace_id)
    if row is None:
        raise not_found("workspace", workspace_id)
    return row


def _present(row: _queries.WorkspacesRow) -> Workspace:
    fields = msgspec.structs.asdict(row)
    settings = {name: fields[name] for name in Settings.__struct_fields__}
    return msgspec.convert({**fields, "id": row.workspace_id, "settings": settings}, Workspace)


async def get_workspace(gateway: Gateway, call: Call[NoQuery, None]) -> Workspace:
    """The workspace."""
    return _present(await read_workspace(gateway, call.workspace_id))


async def change_settings(gateway: Gateway, call: Call[NoQuery, SettingsChange]) -> Workspace:
    """Change settings; the services hear of it from the log."""
    row = await read_workspace(gateway, call.workspace_id)
    given = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not None}
    if not given:
        return _present(row)
    now = gateway.resources.clock()
    event = record(
        msgspec.convert(
            {"workspace_id": call.workspace_id, **given}, workspace.WorkspaceSettingsChanged, strict=False
        ),
        workspace_id=call.workspace_id,
        aggregate_id=call.workspace_id,
        occurred_at=now,
        recorded_at=now,
        source="gateway",
        actor=call.principal.user_id,
        correlation_id=current_trace_id(),
        traceparent=current_traceparent(),
    )
    # Whatever the row says: it may lag behind the log. Unguarded: each setting is set, not computed from what it was, so the last one wins.
    sequence = await gateway.resources.event_log.append(Append(event, expected=None))
    await settle(gateway, call.workspace_id, sequence)
    return _present(await read_workspace(gateway, call.workspace_id))


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getWorkspace",
        method="GET",
        path="/v1/workspace",
        tag="Workspace",
        summary="Look at the workspace and its settings.",
        scope="workspace:read",
        replies={200: Workspace},
        refusals=(404,),
        handle=get_workspace,
    ),
    Operation(
        id="updateWorkspace",
        method="PATCH",
        path="/v1/workspace",
        tag="Workspace",
        summary="Change settings of the workspace.",
        scope="workspace:write",
        body=SettingsChange,
        replies={200: Workspace},
        refusals=(404,),
        handle=change_settings,
    ),
)
