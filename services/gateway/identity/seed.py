"""The workspace that mock mode starts with: its rows, and its first event in the log, once."""

from datetime import datetime

import structlog
from contracts import record, workspace
from eventlog import Append, ConflictError, EventLog
from psycopg import AsyncConnection, AsyncRawCursor

from services.gateway.identity import _queries

log = structlog.get_logger()

ORGANIZATION_ID = "org_01J00000000000000000000000"
WORKSPACE_ID = "ws_01J00000000000000000000000"
USER_ID = "usr_01J00000000000000000000000"
MEMBERSHIP_ID = "mem_01J00000000000000000000000"
SLUG, NAME, TIMEZONE = "demo", "Demo workspace", "UTC"


async def seed_workspace(owner_url: str, event_log: EventLog, *, now: datetime) -> str:
    """Make the demo client with its workspace and owner unless it is there; returns the workspace's id.

    owner_url: the role that owns the schema identity; no other may make a client with ids of its choice.
    The event is appended guarded, so that two gateways that start at once emit it once.
    """
    options = "-c search_path=identity"
    async with await AsyncConnection.connect(
        owner_url, options=options, cursor_factory=AsyncRawCursor, connect_timeout=5
    ) as conn:
        await _queries.insert_organization(
            conn, organization_id=ORGANIZATION_ID, slug=SLUG, name=NAME, plan="enterprise"
        )
        await _queries.insert_workspace(
            conn,
            workspace_id=WORKSPACE_ID,
            organization_id=ORGANIZATION_ID,
            slug=SLUG,
            name=NAME,
            timezone=TIMEZONE,
        )
        await _queries.insert_user(conn, user_id=USER_ID, email="owner@demo.example", name="Demo Owner")
        await _queries.insert_membership(
            conn, workspace_id=WORKSPACE_ID, membership_id=MEMBERSHIP_ID, user_id=USER_ID, role="owner"
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
