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
    is_vouched: bool


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


class ApiToken(Struct, frozen=True):
    """One row of a result."""

    token_id: str
    user_id: str | None
    service_account_id: str | None
    name: str
    hint: str
    scopes: list[str]
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    seq: int | None


class ServiceAccount(Struct, frozen=True):
    """One row of a result."""

    service_account_id: str
    name: str
    description: str
    status: str
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    seq: int | None


_GET_SESSION_STANDING = """
SELECT s.workspace_id::text AS workspace_id, s.organization_id::text AS organization_id,
    s.principal_id::text AS principal_id, s.role::text AS role, s.is_active::boolean AS is_active,
    s.owes_second_factor::boolean AS owes_second_factor, s.expires_at::timestamptz AS expires_at,
    s.requests_per_minute::integer AS requests_per_minute, s.is_vouched::boolean AS is_vouched
FROM session_standing($1::text, $2::text, $3::text)
    AS s (workspace_id, organization_id, principal_id, role, is_active, owes_second_factor, expires_at,
        requests_per_minute, is_vouched)
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
FROM token_standing($1::text, $2::text)
    AS t (workspace_id, organization_id, principal_id, token_id, role, scopes, is_active, expires_at,
        requests_per_minute)
"""


async def get_token_standing(
    conn: AsyncConnection[Any],
    *,
    token_hash: str,
    token_id: str,
) -> GetTokenStandingRow | None:
    """What an API token, found by the hash of its secret or by its id, is good for now; nothing when it was revoked or never was."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetTokenStandingRow)) as cursor:
        await cursor.execute(_GET_TOKEN_STANDING, (token_hash, token_id))
        fetched: GetTokenStandingRow | None = await cursor.fetchone()
        return fetched


_MARK_USED = """
SELECT mark_used($1::jsonb)
"""


async def mark_used(conn: AsyncConnection[Any], *, used: str) -> None:
    """Note when sessions and tokens were used last; rows are [{workspace_id, user_id, used_id, used_at}]."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MARK_USED, (used,))


_FREE_TOKEN_NAME = """
UPDATE api_tokens AS t SET revoked_at = t.expires_at
WHERE t.workspace_id = $1 AND COALESCE(t.user_id, t.service_account_id) = $2::text
    AND t.name = $3 AND t.revoked_at IS NULL
    AND NOT EXISTS (SELECT FROM api_tokens_shown AS s WHERE s.workspace_id = t.workspace_id AND s.token_id = t.token_id)
"""


async def free_token_name(conn: AsyncConnection[Any], *, workspace_id: str, owner_id: str, name: str) -> None:
    """Let go of the name of a token that expired so long ago that nobody is shown it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FREE_TOKEN_NAME, (workspace_id, owner_id, name))


_INSERT_API_TOKEN = """
INSERT INTO api_tokens (workspace_id, token_id, user_id, service_account_id, name, token_hash, hint, scopes, created_by,
    created_at, expires_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $9, $10,
    $11)
RETURNING token_id, user_id, service_account_id, name, hint, scopes, created_by, created_at, expires_at, last_used_at,
    seq
"""


async def insert_api_token(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    token_id: str,
    user_id: str | None,
    service_account_id: str | None,
    name: str,
    token_hash: str,
    hint: str,
    scopes: list[str],
    created_by: str | None,
    created_at: datetime,
    expires_at: datetime | None,
) -> ApiToken | None:
    """Make an API token of a person or of a service account."""
    async with AsyncRawCursor(conn, row_factory=args_row(ApiToken)) as cursor:
        await cursor.execute(_INSERT_API_TOKEN, (workspace_id, token_id, user_id, service_account_id, name, token_hash, hint, scopes, created_by, created_at, expires_at))
        fetched: ApiToken | None = await cursor.fetchone()
        return fetched


_LOCK_API_TOKEN = """
SELECT t.token_id, t.user_id, t.service_account_id, t.name, t.hint, t.scopes, t.created_by, t.created_at, t.expires_at,
    t.last_used_at, t.seq
FROM api_tokens AS t
WHERE t.workspace_id = $1 AND t.token_id = $2
    AND COALESCE(t.user_id, t.service_account_id) = $3::text AND t.revoked_at IS NULL
    AND EXISTS (SELECT FROM api_tokens_shown AS s WHERE s.workspace_id = t.workspace_id AND s.token_id = t.token_id)
FOR UPDATE
"""


async def lock_api_token(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    token_id: str,
    owner_id: str,
) -> ApiToken | None:
    """An API token of an owner that was not revoked, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(ApiToken)) as cursor:
        await cursor.execute(_LOCK_API_TOKEN, (workspace_id, token_id, owner_id))
        fetched: ApiToken | None = await cursor.fetchone()
        return fetched


_CHANGE_SECRET = """
UPDATE api_tokens SET token_hash = $1, hint = $2
WHERE workspace_id = $3 AND token_id = $4
"""


async def change_secret(
    conn: AsyncConnection[Any],
    *,
    token_hash: str,
    hint: str,
    workspace_id: str,
    token_id: str,
) -> None:
    """Give an API token another secret; the old one is dead at once."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_SECRET, (token_hash, hint, workspace_id, token_id))


_REVOKE_API_TOKEN = """
UPDATE api_tokens SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND token_id = $3
"""


async def revoke_api_token(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    token_id: str,
) -> None:
    """End an API token for ever."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_API_TOKEN, (revoked_at, workspace_id, token_id))


_INSERT_SERVICE_ACCOUNT = """
INSERT INTO service_accounts (workspace_id, service_account_id, name, description, created_by, created_at, updated_at)
VALUES ($1, $2, $3, $4,
    $5, $6, $6)
RETURNING service_account_id, name, description, status, created_by, created_at, updated_at, seq
"""


async def insert_service_account(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    service_account_id: str,
    name: str,
    description: str,
    created_by: str | None,
    created_at: datetime,
) -> ServiceAccount | None:
    """Make a service account."""
    async with AsyncRawCursor(conn, row_factory=args_row(ServiceAccount)) as cursor:
        await cursor.execute(_INSERT_SERVICE_ACCOUNT, (workspace_id, service_account_id, name, description, created_by, created_at))
        fetched: ServiceAccount | None = await cursor.fetchone()
        return fetched


_GET_SERVICE_ACCOUNT = """
SELECT service_account_id, name, description, status, created_by, created_at, updated_at, seq FROM service_accounts
WHERE workspace_id = $1 AND service_account_id = $2
"""


async def get_service_account(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    service_account_id: str,
) -> ServiceAccount | None:
    """A service account."""
    async with AsyncRawCursor(conn, row_factory=args_row(ServiceAccount)) as cursor:
        await cursor.execute(_GET_SERVICE_ACCOUNT, (workspace_id, service_account_id))
        fetched: ServiceAccount | None = await cursor.fetchone()
        return fetched


_UPDATE_SERVICE_ACCOUNT = """
UPDATE service_accounts SET name = COALESCE($1::text, name),
    description = COALESCE($2::text, description),
    status = COALESCE($3::text, status), updated_at = $4
WHERE workspace_id = $5 AND service_account_id = $6
RETURNING service_account_id, name, description, status, created_by, created_at, updated_at, seq
"""


async def update_service_account(
    conn: AsyncConnection[Any],
    *,
    name: str | None,
    description: str | None,
    status: str | None,
    updated_at: datetime,
    workspace_id: str,
    service_account_id: str,
) -> ServiceAccount | None:
    """Change a service account; what is null stays."""
    async with AsyncRawCursor(conn, row_factory=args_row(ServiceAccount)) as cursor:
        await cursor.execute(_UPDATE_SERVICE_ACCOUNT, (name, description, status, updated_at, workspace_id, service_account_id))
        fetched: ServiceAccount | None = await cursor.fetchone()
        return fetched


_DELETE_SERVICE_ACCOUNT = """
DELETE FROM service_accounts
WHERE workspace_id = $1 AND service_account_id = $2
"""


async def delete_service_account(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    service_account_id: str,
) -> int:
    """Delete a service account with its tokens."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_SERVICE_ACCOUNT, (workspace_id, service_account_id))
        return cursor.rowcount
