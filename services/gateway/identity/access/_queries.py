"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row


class GetSessionStandingRow(Struct, frozen=True):
    """One row of get_session_standing."""

    workspace_id: str
    organization_id: str
    principal_id: str
    role: str
    is_active: bool
    owes_second_factor: bool
    expires_at: datetime
    requests_per_minute: int | None


class GetTokenStandingRow(Struct, frozen=True):
    """One row of get_token_standing."""

    workspace_id: str
    organization_id: str
    principal_id: str
    token_id: str
    role: str | None
    scopes: list[str]
    is_active: bool
    expires_at: datetime | None
    requests_per_minute: int | None


_GET_SESSION_STANDING = """
SELECT s.workspace_id::text AS workspace_id, s.organization_id::text AS organization_id,
    s.principal_id::text AS principal_id, s.role::text AS role, s.is_active::boolean AS is_active,
    s.owes_second_factor::boolean AS owes_second_factor, s.expires_at::timestamptz AS expires_at,
    s.requests_per_minute::integer AS requests_per_minute
FROM session_standing($1::text, $2::text, $3::text)
    AS s (workspace_id, organization_id, principal_id, role, is_active, owes_second_factor, expires_at,
        requests_per_minute)
"""


async def get_session_standing(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
    session_id: str,
) -> GetSessionStandingRow | None:
    """What a session is good for now; nothing when it was revoked, or is nobody's of that workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetSessionStandingRow)) as cursor:
        await cursor.execute(_GET_SESSION_STANDING, (workspace_id, user_id, session_id))
        fetched: GetSessionStandingRow | None = await cursor.fetchone()
        return fetched


_GET_TOKEN_STANDING = """
SELECT t.workspace_id::text AS workspace_id, t.organization_id::text AS organization_id,
    t.principal_id::text AS principal_id, t.token_id::text AS token_id, t.role::text AS role, t.scopes::text[] AS scopes,
    t.is_active::boolean AS is_active, t.expires_at::timestamptz AS expires_at,
    t.requests_per_minute::integer AS requests_per_minute
FROM token_standing($1::text)
    AS t (workspace_id, organization_id, principal_id, token_id, role, scopes, is_active, expires_at,
        requests_per_minute)
"""


async def get_token_standing(conn: AsyncConnection[Any], *, token_hash: str) -> GetTokenStandingRow | None:
    """What an API token is good for now; nothing when it was revoked or never was."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetTokenStandingRow)) as cursor:
        await cursor.execute(_GET_TOKEN_STANDING, (token_hash,))
        fetched: GetTokenStandingRow | None = await cursor.fetchone()
        return fetched


_MARK_USED = """
SELECT mark_used($1::jsonb)
"""


async def mark_used(conn: AsyncConnection[Any], *, used: str) -> None:
    """Note when sessions and tokens were used last; rows are [{workspace_id, user_id, used_id, used_at}]."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MARK_USED, (used,))
