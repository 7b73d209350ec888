"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Fact(Struct, frozen=True):
    """One row of a result."""

    outbox_id: int
    workspace_id: str
    event_id: str
    event_type: str
    data: object
    actor: str | None
    traceparent: str | None
    recorded_at: datetime


_TRY_LEAD = """
SELECT pg_try_advisory_lock(hashtextextended('identity/outbox', 0)) AS leads
"""


async def try_lead(conn: AsyncConnection[Any]) -> bool:
    """Lead the outbox, if nobody does: one relay works for all gateways, until its connection ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_TRY_LEAD)
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("try_lead gave no row")
        return fetched


_LIST_UNTOLD_FACTS = """
SELECT f.outbox_id, f.workspace_id, f.event_id, f.event_type, f.data, f.actor, f.traceparent, f.recorded_at
FROM untold_facts($1::integer, $2::text[]) AS f
ORDER BY f.outbox_id
"""


async def list_untold_facts(conn: AsyncConnection[Any], *, page_size: int, without: list[str]) -> list[Fact]:
    """The oldest facts that the log does not have yet, except those of the workspaces that wait."""
    async with AsyncRawCursor(conn, row_factory=args_row(Fact)) as cursor:
        await cursor.execute(_LIST_UNTOLD_FACTS, (page_size, without))
        fetched: list[Fact] = await cursor.fetchall()
        return fetched


_FORGET_FACTS = """
SELECT forget_facts($1::bigint[]) AS n_forgotten
"""


async def forget_facts(conn: AsyncConnection[Any], *, outbox_ids: list[int]) -> int:
    """Delete the facts that the log has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FORGET_FACTS, (outbox_ids,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("forget_facts gave no row")
        return fetched


_INSERT_ORGANIZATION = """
INSERT INTO organizations (organization_id, slug, name, plan) VALUES ($1, $2,
    $3, $4)
ON CONFLICT (organization_id) DO NOTHING
"""


async def insert_organization(
    conn: AsyncConnection[Any],
    *,
    organization_id: str,
    slug: str,
    name: str,
    plan: str,
) -> int:
    """Make the client of the demo, unless it is there."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ORGANIZATION, (organization_id, slug, name, plan))
        return cursor.rowcount


_INSERT_WORKSPACE = """
WITH made AS (
    INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone) VALUES ($1,
        $2, $3, $4, $5)
    ON CONFLICT (workspace_id) DO NOTHING
    RETURNING workspace_id, slug, name, timezone
), settings AS (
    INSERT INTO workspace_settings (workspace_id) SELECT workspace_id FROM made
), fact AS (
    INSERT INTO outbox (workspace_id, event_id, event_type, data)
    SELECT workspace_id, $6::text, 'WorkspaceCreated', jsonb_build_object('workspace_id', workspace_id,
        'slug', slug, 'name', name, 'timezone', timezone)
    FROM made
)
INSERT INTO onboarding_states (workspace_id) SELECT workspace_id FROM made
"""


async def insert_workspace(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    organization_id: str,
    slug: str,
    name: str,
    timezone: str,
    event_id: str,
) -> int:
    """Make the demo's workspace with its settings and its onboarding, and the fact of it, unless it is there."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_WORKSPACE, (workspace_id, organization_id, slug, name, timezone, event_id))
        return cursor.rowcount


_INSERT_USER = """
INSERT INTO users (user_id, email, name) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO NOTHING
"""


async def insert_user(conn: AsyncConnection[Any], *, user_id: str, email: str, name: str) -> int:
    """Make a person, unless there is one with this id."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_USER, (user_id, email, name))
        return cursor.rowcount


_INSERT_MEMBERSHIP = """
INSERT INTO memberships (workspace_id, membership_id, user_id, role)
VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, user_id) DO NOTHING
"""


async def insert_membership(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str,
    user_id: str,
    role: str,
) -> int:
    """Make a person a member, unless that is so."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_MEMBERSHIP, (workspace_id, membership_id, user_id, role))
        return cursor.rowcount
