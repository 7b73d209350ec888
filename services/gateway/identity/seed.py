"""The workspace that mock mode starts with: its rows, and its first event in the log, once."""

from datetime import datetime

import structlog
from contracts import record, workspace
from eventlog import Append, ConflictError, EventLog
from runtime.database import Pool, tenant

from services.gateway.identity import _queries

log = structlog.get_logger()

WORKSPACE_ID = "ws_01J00000000000000000000000"
USER_ID = "usr_01J00000000000000000000000"
MEMBERSHIP_ID = "mem_01J00000000000000000000000"
SLUG, NAME, TIMEZONE = "demo", "Demo workspace", "UTC"


async def seed_workspace(pool: Pool, event_log: EventLog, *, now: datetime) -> str:
    """Make the demo workspace with its owner unless it is there; returns its id.

    The event is appended guarded, so that two gateways that start at once emit it once.
    """
    async with tenant(pool, WORKSPACE_ID) as conn:
        await _queries.insert_workspace(
            conn, workspace_id=WORKSPACE_ID, slug=SLUG, name=NAME, timezone=TIMEZONE, created_at=now
        )
        await _queries.insert_user(
            conn, user_id=USER_ID, email="owner@demo.example", name="Demo Owner", created_at=now
        )
        await _queries.insert_membership(
            conn,
            workspace_id=WORKSPACE_ID,
            membership_id=MEMBERSHIP_ID,
            user_id=USER_ID,
            role="owner",
            created_at=now,
        )
    created = workspace.WorkspaceCreated(workspace_id=WORKSPACE_ID, slug=SLUG, name=NAME, timezone=TIMEZONE)
    event = record(
        created,
        workspace_id=WORKSPACE_ID,
        aggregate_id=WORKSPACE_ID,
        occurred_at=now,
        recorded_at=now,
        source="gateway",
        correlation_id=f"seed/{WORKSPACE_ID}",
    )
    try:
        await event_log.append(Append(event, expected=0))
    except ConflictError:
        return WORKSPACE_ID
    log.info("workspace.seeded", workspace_id=WORKSPACE_ID)
    return WORKSPACE_ID
