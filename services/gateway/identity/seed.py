"""The client that mock mode starts with: its rows, and its first fact in the outbox, once."""

import structlog
from contracts import derived_id
from psycopg import AsyncConnection, AsyncRawCursor

from services.gateway.identity.governance._queries import is_erased
from services.gateway.identity.tenancy import _queries

log = structlog.get_logger()

ORGANIZATION_ID = "org_01J00000000000000000000000"
WORKSPACE_ID = "ws_01J00000000000000000000000"
USER_ID = "usr_01J00000000000000000000000"
MEMBERSHIP_ID = "mem_01J00000000000000000000000"
SLUG, NAME, TIMEZONE = "demo", "Demo workspace", "UTC"


async def seed_workspace(owner_url: str) -> str:
    """Make the demo client with its workspace and owner unless it is there or was erased; returns the workspace's id.

    owner_url: the role that owns the schema identity; no other may make a client with ids of its choice.
    """
    options = "-c search_path=identity"
    async with await AsyncConnection.connect(
        owner_url, options=options, cursor_factory=AsyncRawCursor, connect_timeout=5
    ) as conn:
        # What was erased stays so in the log, and would not be heard there again.
        if await is_erased(conn, workspace_id=WORKSPACE_ID):
            return WORKSPACE_ID
        await _queries.insert_organization(
            conn, organization_id=ORGANIZATION_ID, slug=SLUG, name=NAME, plan="enterprise"
        )
        is_new = await _queries.insert_workspace(
            conn,
            workspace_id=WORKSPACE_ID,
            organization_id=ORGANIZATION_ID,
            slug=SLUG,
            name=NAME,
            timezone=TIMEZONE,
            # The same in every database, so that a log that outlived one is not told again.
            event_id=derived_id("evt_", "WorkspaceCreated", WORKSPACE_ID),
        )
        await _queries.insert_user(conn, user_id=USER_ID, email="owner@demo.example", name="Demo Owner")
        await _queries.insert_membership(
            conn, workspace_id=WORKSPACE_ID, membership_id=MEMBERSHIP_ID, user_id=USER_ID, role="owner"
        )
    if is_new:
        log.info("workspace.seeded", workspace_id=WORKSPACE_ID)
    return WORKSPACE_ID
