"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class TakeAuthorizationRow(Struct, frozen=True):
    """One row of take_authorization."""

    connector_id: str
    verifier_sealed: str
    redirect_uri: str
    requested_by: str | None
    expires_at: datetime


class BegunPush(Struct, frozen=True):
    """One row of a result."""

    recommendation_id: str
    connector_id: str
    target: str
    requested_by: str | None
    begun_at: datetime
    n_attempts: int


class GetPaceRow(Struct, frozen=True):
    """One row of get_pace."""

    free_at: float
    back_at: float


_INSERT_AUTHORIZATION = """
INSERT INTO authorizations (workspace_id, state_sha256, connector_id, verifier_sealed, redirect_uri, requested_by,
    created_at, expires_at)
VALUES ($1, $2, $3, $4,
    $5, $6, $7, $8)
"""


async def insert_authorization(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    state_sha256: str,
    connector_id: str,
    verifier_sealed: str,
    redirect_uri: str,
    requested_by: str | None,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    """Remember a sign-in that a person has gone away to end."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_AUTHORIZATION, (workspace_id, state_sha256, connector_id, verifier_sealed, redirect_uri, requested_by, created_at, expires_at))


_TAKE_AUTHORIZATION = """
DELETE FROM authorizations WHERE workspace_id = $1 AND state_sha256 = $2
RETURNING connector_id, verifier_sealed, redirect_uri, requested_by, expires_at
"""


async def take_authorization(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    state_sha256: str,
) -> TakeAuthorizationRow | None:
    """Take a sign-in that came back; nobody can take it again."""
    async with AsyncRawCursor(conn, row_factory=args_row(TakeAuthorizationRow)) as cursor:
        await cursor.execute(_TAKE_AUTHORIZATION, (workspace_id, state_sha256))
        fetched: TakeAuthorizationRow | None = await cursor.fetchone()
        return fetched


_BEGIN_PUSH = """
INSERT INTO pushes AS p (workspace_id, ticket_id, recommendation_id, connector_id, target, requested_by, begun_at, n_attempts,
    leased_until)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, 1, $8)
ON CONFLICT (workspace_id, ticket_id) DO UPDATE SET n_attempts = p.n_attempts + 1, leased_until = excluded.leased_until
    WHERE p.leased_until <= $7
RETURNING recommendation_id, connector_id, target, requested_by, begun_at, n_attempts
"""


async def begin_push(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ticket_id: str,
    recommendation_id: str,
    connector_id: str,
    target: str,
    requested_by: str | None,
    now: datetime,
    leased_until: datetime,
) -> BegunPush | None:
    """Begin to make a ticket, or try again what nobody has in hand; no row where somebody has."""
    async with AsyncRawCursor(conn, row_factory=args_row(BegunPush)) as cursor:
        await cursor.execute(_BEGIN_PUSH, (workspace_id, ticket_id, recommendation_id, connector_id, target, requested_by, now, leased_until))
        fetched: BegunPush | None = await cursor.fetchone()
        return fetched


_TAKE_UP_PUSH = """
UPDATE pushes SET n_attempts = n_attempts + 1, leased_until = $1
WHERE workspace_id = $2 AND ticket_id = $3 AND leased_until <= $4
RETURNING recommendation_id, connector_id, target, requested_by, begun_at, n_attempts
"""


async def take_up_push(
    conn: AsyncConnection[Any],
    *,
    leased_until: datetime,
    workspace_id: str,
    ticket_id: str,
    now: datetime,
) -> BegunPush | None:
    """Take up a ticket whose making nobody has in hand; no row where somebody has, or it is settled."""
    async with AsyncRawCursor(conn, row_factory=args_row(BegunPush)) as cursor:
        await cursor.execute(_TAKE_UP_PUSH, (leased_until, workspace_id, ticket_id, now))
        fetched: BegunPush | None = await cursor.fetchone()
        return fetched


_KEEP_PUSH = """
UPDATE pushes SET leased_until = $1
WHERE workspace_id = $2 AND ticket_id = $3
    AND begun_at = $4 AND n_attempts = $5
RETURNING ticket_id
"""


async def keep_push(
    conn: AsyncConnection[Any],
    *,
    leased_until: datetime,
    workspace_id: str,
    ticket_id: str,
    begun_at: datetime,
    n_attempts: int,
) -> str | None:
    """Hold a ticket longer, unless another try has taken it up; no row where one has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_KEEP_PUSH, (leased_until, workspace_id, ticket_id, begun_at, n_attempts))
        fetched: str | None = await cursor.fetchone()
        return fetched


_RELEASE_PUSH = """
UPDATE pushes SET leased_until = $1
WHERE workspace_id = $2 AND ticket_id = $3
    AND begun_at = $4 AND n_attempts = $5
"""


async def release_push(
    conn: AsyncConnection[Any],
    *,
    leased_until: datetime,
    workspace_id: str,
    ticket_id: str,
    begun_at: datetime,
    n_attempts: int,
) -> None:
    """Let a ticket go that may have been made, until a time at which it can be looked up, unless another try has it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RELEASE_PUSH, (leased_until, workspace_id, ticket_id, begun_at, n_attempts))


_END_PUSH = """
DELETE FROM pushes
WHERE workspace_id = $1 AND ticket_id = $2
    AND begun_at = $3 AND n_attempts = $4
"""


async def end_push(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ticket_id: str,
    begun_at: datetime,
    n_attempts: int,
) -> None:
    """End the making of a ticket: the log has it, or it is known not to be there; unless another try has it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_PUSH, (workspace_id, ticket_id, begun_at, n_attempts))


_LIST_LAPSED_PUSHES = """
SELECT lapsed_pushes($1::timestamptz, $2::integer)::text AS lapsed
"""


async def list_lapsed_pushes(conn: AsyncConnection[Any], *, now: datetime, row_limit: int) -> list[str]:
    """Workspace and ticket, a slash between, whose making somebody began and nobody ended: of each workspace one, then the next."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_LAPSED_PUSHES, (now, row_limit))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_GET_PACE = """
SELECT free_at, back_at FROM paces WHERE account = $1
"""


async def get_pace(conn: AsyncConnection[Any], *, account: str) -> GetPaceRow | None:
    """How far the turns of an account are given out; no row where nobody has asked it yet."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetPaceRow)) as cursor:
        await cursor.execute(_GET_PACE, (account,))
        fetched: GetPaceRow | None = await cursor.fetchone()
        return fetched


_KEEP_PACE = """
INSERT INTO paces AS p (account, free_at, back_at, kept_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (account) DO UPDATE
SET free_at = excluded.free_at, back_at = excluded.back_at, kept_at = excluded.kept_at
WHERE p.free_at = $5 AND p.back_at = $6
"""


async def keep_pace(
    conn: AsyncConnection[Any],
    *,
    account: str,
    free_at: float,
    back_at: float,
    now: datetime,
    known_free_at: float,
    known_back_at: float,
) -> int:
    """Note how far they are given out, unless somebody else has done so since it was read; how many rows that is."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_KEEP_PACE, (account, free_at, back_at, now, known_free_at, known_back_at))
        return cursor.rowcount


_FORGET_PACES = """
DELETE FROM paces WHERE kept_at < $1
"""


async def forget_paces(conn: AsyncConnection[Any], *, kept_before: datetime) -> int:
    """Forget accounts that nobody has asked for long."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_PACES, (kept_before,))
        return cursor.rowcount
