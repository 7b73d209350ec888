"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class TakeEventsRow(Struct, frozen=True):
    """One row of take_events."""

    plan: str
    events_per_month: int | None
    events_before: int
    is_taken: bool


class ClaimKeyRow(Struct, frozen=True):
    """One row of claim_key."""

    claim_id: bytes
    request_hash: bytes
    status: int | None
    answer: bytes | None


_TAKE_EVENTS = """
SELECT t.plan::text AS plan, t.events_per_month::bigint AS events_per_month, t.events_before::bigint AS events_before,
    t.is_taken::boolean AS is_taken
FROM take_events($1::text, $2::date, $3::bigint)
    AS t (plan, events_per_month, events_before, is_taken)
"""


async def take_events(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    month: date,
    n: int,
) -> TakeEventsRow | None:
    """Count events of a month for a workspace's organization, all of them or none; no row: there is no such workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(TakeEventsRow)) as cursor:
        await cursor.execute(_TAKE_EVENTS, (workspace_id, month, n))
        fetched: TakeEventsRow | None = await cursor.fetchone()
        return fetched


_CLAIM_KEY = """
WITH claimed AS (
    INSERT INTO idempotency_keys AS k (workspace_id, key_hash, request_hash, claim_id, leased_until, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (workspace_id, key_hash) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, claim_id = EXCLUDED.claim_id, leased_until = EXCLUDED.leased_until,
        expires_at = EXCLUDED.expires_at, status = NULL, answer = NULL
    WHERE k.expires_at <= $7 OR (k.status IS NULL AND k.leased_until <= $7)
    RETURNING k.claim_id, k.request_hash, k.status, k.answer
)
SELECT c.claim_id, c.request_hash, c.status, c.answer FROM claimed AS c
UNION ALL
SELECT k.claim_id, k.request_hash, k.status, k.answer FROM idempotency_keys AS k
WHERE k.workspace_id = $1 AND k.key_hash = $2 AND NOT EXISTS (SELECT FROM claimed)
"""


async def claim_key(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    key_hash: bytes,
    request_hash: bytes,
    claim_id: bytes,
    leased_until: datetime,
    expires_at: datetime,
    now: datetime,
) -> ClaimKeyRow | None:
    """Take a key that is free, over or left by a process that died; otherwise see who has it. No row: taken just now."""
    async with AsyncRawCursor(conn, row_factory=args_row(ClaimKeyRow)) as cursor:
        await cursor.execute(_CLAIM_KEY, (workspace_id, key_hash, request_hash, claim_id, leased_until, expires_at, now))
        fetched: ClaimKeyRow | None = await cursor.fetchone()
        return fetched


_KEEP_ANSWER = """
UPDATE idempotency_keys SET status = $1, answer = $2
WHERE workspace_id = $3 AND key_hash = $4 AND claim_id = $5
"""


async def keep_answer(
    conn: AsyncConnection[Any],
    *,
    status: int | None,
    answer: bytes | None,
    workspace_id: str,
    key_hash: bytes,
    claim_id: bytes,
) -> None:
    """Keep what a claimed request was answered with, unless somebody else has the claim by now."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_KEEP_ANSWER, (status, answer, workspace_id, key_hash, claim_id))


_RELEASE_KEY = """
DELETE FROM idempotency_keys
WHERE workspace_id = $1 AND key_hash = $2 AND claim_id = $3
"""


async def release_key(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    key_hash: bytes,
    claim_id: bytes,
) -> None:
    """Free a key whose request was refused or failed."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RELEASE_KEY, (workspace_id, key_hash, claim_id))


_PURGE_KEYS = """
SELECT purge_idempotency_keys($1, $2) AS n
"""


async def purge_keys(conn: AsyncConnection[Any], *, before: datetime, at_most: int) -> int | None:
    """Delete keys of every workspace that are over, some at a time; how many."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PURGE_KEYS, (before, at_most))
        fetched: int | None = await cursor.fetchone()
        return fetched
