"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row


class TakeAuthorizationRow(Struct, frozen=True):
    """One row of take_authorization."""

    connector_id: str
    verifier_sealed: str
    redirect_uri: str
    requested_by: str | None
    expires_at: datetime


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
