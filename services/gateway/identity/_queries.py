"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Person(Struct, frozen=True):
    """One row of a result."""

    user_id: str
    email: str
    name: str
    external_id: str | None
    status: str


class Profile(Struct, frozen=True):
    """One row of a result."""

    user_id: str
    email: str
    name: str
    avatar_url: str | None
    timezone: str | None
    locale: str | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime


class ListMembershipsRow(Struct, frozen=True):
    """One row of list_memberships."""

    workspace_id: str
    role: str


class Seat(Struct, frozen=True):
    """One row of a result."""

    role: str
    sso_enforced: bool


class Session(Struct, frozen=True):
    """One row of a result."""

    session_id: str
    user_id: str
    method: str
    user_agent: str
    ip: str
    second_factor_at: datetime | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    seq: int | None


class GetRefreshTokenRow(Struct, frozen=True):
    """One row of get_refresh_token."""

    workspace_id: str
    session_id: str
    user_id: str
    expires_at: datetime
    used_at: datetime | None


_IDENTIFY = """
SELECT concat(
    set_config('app.current_user', $1::text, true),
    set_config('app.current_workspace', $2::text, true))::text AS scope
"""


async def identify(conn: AsyncConnection[Any], *, user_id: str, workspace_id: str) -> str:
    """Name what this transaction may see: a workspace, a person, or neither."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IDENTIFY, (user_id, workspace_id))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("identify gave no row")
        return fetched


_PRESENT = """
SELECT concat(
    set_config('app.presented_hash', $1::text, true),
    set_config('app.presented_subject', $2::text, true),
    set_config('app.presented_email', $3::text, true))::text AS scope
"""


async def present(conn: AsyncConnection[Any], *, token_hash: str, external_id: str, email: str) -> str:
    """Show a secret's hash, an issuer's subject or a verified address, to see the row that it is about."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PRESENT, (token_hash, external_id, email))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("present gave no row")
        return fetched


_GET_USER_BY_SUBJECT = """
SELECT user_id, email, name, external_id, status FROM users WHERE external_id = $1::text
"""


async def get_user_by_subject(conn: AsyncConnection[Any], *, external_id: str) -> Person | None:
    """The person that the issuer's subject is bound to."""
    async with AsyncRawCursor(conn, row_factory=args_row(Person)) as cursor:
        await cursor.execute(_GET_USER_BY_SUBJECT, (external_id,))
        fetched: Person | None = await cursor.fetchone()
        return fetched


_GET_USER_BY_EMAIL = """
SELECT user_id, email, name, external_id, status FROM users WHERE email = $1
"""


async def get_user_by_email(conn: AsyncConnection[Any], *, email: str) -> Person | None:
    """The person with this e-mail address, spelled exactly so."""
    async with AsyncRawCursor(conn, row_factory=args_row(Person)) as cursor:
        await cursor.execute(_GET_USER_BY_EMAIL, (email,))
        fetched: Person | None = await cursor.fetchone()
        return fetched


_GET_USER = """
SELECT user_id, email, name, external_id, status FROM users WHERE user_id = $1
"""


async def get_user(conn: AsyncConnection[Any], *, user_id: str) -> Person | None:
    """A person."""
    async with AsyncRawCursor(conn, row_factory=args_row(Person)) as cursor:
        await cursor.execute(_GET_USER, (user_id,))
        fetched: Person | None = await cursor.fetchone()
        return fetched


_MIRROR_EMAIL = """
UPDATE users SET email = $1, updated_at = $2 WHERE user_id = $3
"""


async def mirror_email(conn: AsyncConnection[Any], *, email: str, updated_at: datetime, user_id: str) -> int:
    """Take over a person's address from the issuer that they are bound to."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MIRROR_EMAIL, (email, updated_at, user_id))
        return cursor.rowcount


_UPDATE_PROFILE = """
UPDATE users SET name = COALESCE($1::text, name),
    avatar_url = CASE WHEN $2::boolean THEN $3::text ELSE avatar_url END,
    timezone = CASE WHEN $4::boolean THEN $5::text ELSE timezone END,
    locale = CASE WHEN $6::boolean THEN $7::text ELSE locale END,
    updated_at = $8
WHERE user_id = $9
RETURNING user_id, email, name, avatar_url, timezone, locale, external_id, created_at, updated_at
"""


async def update_profile(
    conn: AsyncConnection[Any],
    *,
    name: str | None,
    sets_avatar_url: bool,
    avatar_url: str | None,
    sets_timezone: bool,
    timezone: str | None,
    sets_locale: bool,
    locale: str | None,
    updated_at: datetime,
    user_id: str,
) -> Profile | None:
    """Change what a person says of themself; what is null stays."""
    async with AsyncRawCursor(conn, row_factory=args_row(Profile)) as cursor:
        await cursor.execute(_UPDATE_PROFILE, (name, sets_avatar_url, avatar_url, sets_timezone, timezone, sets_locale, locale, updated_at, user_id))
        fetched: Profile | None = await cursor.fetchone()
        return fetched


_GET_PROFILE = """
SELECT user_id, email, name, avatar_url, timezone, locale, external_id, created_at, updated_at FROM users
WHERE user_id = $1
"""


async def get_profile(conn: AsyncConnection[Any], *, user_id: str) -> Profile | None:
    """What is known of a person."""
    async with AsyncRawCursor(conn, row_factory=args_row(Profile)) as cursor:
        await cursor.execute(_GET_PROFILE, (user_id,))
        fetched: Profile | None = await cursor.fetchone()
        return fetched


_AUDIT = """
SELECT audit_here($1::text, $2::text, $3::text, $4::text,
    $5::text, $6::jsonb, $7::text)
"""


async def audit(
    conn: AsyncConnection[Any],
    *,
    actor: str,
    action: str,
    category: str,
    target_type: str,
    target_id: str,
    metadata: str,
    ip: str | None,
) -> None:
    """Add to the audit log of the workspace that the transaction names."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_AUDIT, (actor, action, category, target_type, target_id, metadata, ip))


_AUDIT_SELF = """
SELECT audit_self($1::text, $2::jsonb, $3::text)
"""


async def audit_self(conn: AsyncConnection[Any], *, action: str, metadata: str, ip: str | None) -> None:
    """Write down what happened to the identity of the person that the transaction names, wherever they are a member."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_AUDIT_SELF, (action, metadata, ip))


_IS_KNOWN_ELSEWHERE = """
SELECT is_known_elsewhere()::boolean AS is_known
"""


async def is_known_elsewhere(conn: AsyncConnection[Any]) -> bool:
    """Whether another client than the transaction's workspace's also has its person among its members."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_KNOWN_ELSEWHERE)
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_known_elsewhere gave no row")
        return fetched


_BIND_SUBJECT = """
UPDATE users SET external_id = $1::text, updated_at = $2
WHERE user_id = $3 AND external_id IS NULL
"""


async def bind_subject(
    conn: AsyncConnection[Any],
    *,
    external_id: str,
    updated_at: datetime,
    user_id: str,
) -> int:
    """Bind a person to the issuer's subject at the first sign-in; never a second time."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_BIND_SUBJECT, (external_id, updated_at, user_id))
        return cursor.rowcount


_LIST_MEMBERSHIPS = """
SELECT m.workspace_id, m.role FROM memberships AS m
WHERE m.user_id = $1 AND m.status = 'active'
ORDER BY m.created_at, m.workspace_id
"""


async def list_memberships(conn: AsyncConnection[Any], *, user_id: str) -> list[ListMembershipsRow]:
    """The active memberships of a person, oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListMembershipsRow)) as cursor:
        await cursor.execute(_LIST_MEMBERSHIPS, (user_id,))
        fetched: list[ListMembershipsRow] = await cursor.fetchall()
        return fetched


_GET_SEAT = """
SELECT m.role, w.sso_enforced FROM memberships AS m
JOIN users AS u ON u.user_id = m.user_id
JOIN workspaces AS w ON w.workspace_id = m.workspace_id
JOIN organizations AS o ON o.organization_id = w.organization_id
WHERE m.workspace_id = $1 AND m.user_id = $2 AND m.status = 'active'
  AND u.status = 'active' AND w.status = 'active' AND o.status = 'active'
"""


async def get_seat(conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> Seat | None:
    """What a person is in a workspace now, if anything; nothing while one of them or the client is suspended."""
    async with AsyncRawCursor(conn, row_factory=args_row(Seat)) as cursor:
        await cursor.execute(_GET_SEAT, (workspace_id, user_id))
        fetched: Seat | None = await cursor.fetchone()
        return fetched


_INSERT_SESSION = """
INSERT INTO sessions (workspace_id, session_id, user_id, method, connection_id, user_agent, ip, created_at,
    last_seen_at, expires_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $8, $9)
"""


async def insert_session(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    session_id: str,
    user_id: str,
    method: str,
    connection_id: str | None,
    user_agent: str,
    ip: str,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    """Begin a session."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_SESSION, (workspace_id, session_id, user_id, method, connection_id, user_agent, ip, created_at, expires_at))


_PROLONG_SESSION = """
UPDATE sessions SET last_seen_at = $1, expires_at = $2,
    user_agent = $3, ip = $4
WHERE workspace_id = $5 AND session_id = $6 AND revoked_at IS NULL
RETURNING connection_id
"""


async def prolong_session(
    conn: AsyncConnection[Any],
    *,
    seen_at: datetime,
    expires_at: datetime,
    user_agent: str,
    ip: str,
    workspace_id: str,
    session_id: str,
) -> str | None:
    """A session goes on: it was used, from there, and ends later."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PROLONG_SESSION, (seen_at, expires_at, user_agent, ip, workspace_id, session_id))
        fetched: str | None = await cursor.fetchone()
        return fetched


_GET_SESSION = """
SELECT session_id, user_id, method, user_agent, ip, second_factor_at, created_at, last_seen_at, expires_at, seq
FROM sessions
WHERE workspace_id = $1 AND session_id = $2 AND user_id = $3
    AND revoked_at IS NULL AND expires_at > $4::timestamptz
"""


async def get_session(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    session_id: str,
    user_id: str,
    now: datetime,
) -> Session | None:
    """A session as its person sees it."""
    async with AsyncRawCursor(conn, row_factory=args_row(Session)) as cursor:
        await cursor.execute(_GET_SESSION, (workspace_id, session_id, user_id, now))
        fetched: Session | None = await cursor.fetchone()
        return fetched


_REVOKE_SESSION = """
UPDATE sessions SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND session_id = $3 AND revoked_at IS NULL
"""


async def revoke_session(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    session_id: str,
) -> int:
    """End a session, with every token of it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_SESSION, (revoked_at, workspace_id, session_id))
        return cursor.rowcount


_DELETE_ENDED_SESSIONS = """
DELETE FROM sessions
WHERE workspace_id = $1
    AND (expires_at < $2::timestamptz OR revoked_at < $2::timestamptz)
"""


async def delete_ended_sessions(conn: AsyncConnection[Any], *, workspace_id: str, before_at: datetime) -> int:
    """Forget a workspace's sessions that ended some time ago; the audit log still tells of them."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_ENDED_SESSIONS, (workspace_id, before_at))
        return cursor.rowcount


_INSERT_REFRESH_TOKEN = """
INSERT INTO refresh_tokens (workspace_id, token_hash, session_id, user_id, issued_at, expires_at)
VALUES ($1, $2, $3, $4, $5,
    $6)
"""


async def insert_refresh_token(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    token_hash: str,
    session_id: str,
    user_id: str,
    issued_at: datetime,
    expires_at: datetime,
) -> None:
    """Keep a new refresh token."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_REFRESH_TOKEN, (workspace_id, token_hash, session_id, user_id, issued_at, expires_at))


_GET_REFRESH_TOKEN = """
SELECT workspace_id, session_id, user_id, expires_at, used_at FROM refresh_tokens
WHERE token_hash = $1
"""


async def get_refresh_token(conn: AsyncConnection[Any], *, token_hash: str) -> GetRefreshTokenRow | None:
    """The refresh token with this hash."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetRefreshTokenRow)) as cursor:
        await cursor.execute(_GET_REFRESH_TOKEN, (token_hash,))
        fetched: GetRefreshTokenRow | None = await cursor.fetchone()
        return fetched


_USE_REFRESH_TOKEN = """
UPDATE refresh_tokens AS t SET used_at = $1::timestamptz
FROM sessions AS s
WHERE t.workspace_id = $2 AND t.token_hash = $3 AND t.used_at IS NULL
  AND s.workspace_id = t.workspace_id AND s.session_id = t.session_id AND s.revoked_at IS NULL
"""


async def use_refresh_token(
    conn: AsyncConnection[Any],
    *,
    used_at: datetime,
    workspace_id: str,
    token_hash: str,
) -> int:
    """Mark a refresh token used; 0 rows when another request was faster, or its session has ended."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_USE_REFRESH_TOKEN, (used_at, workspace_id, token_hash))
        return cursor.rowcount


_DELETE_EXPIRED_TOKENS = """
DELETE FROM refresh_tokens
WHERE workspace_id = $1 AND expires_at < $2::timestamptz
"""


async def delete_expired_tokens(conn: AsyncConnection[Any], *, workspace_id: str, before_at: datetime) -> int:
    """Forget a workspace's refresh tokens that expired."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_EXPIRED_TOKENS, (workspace_id, before_at))
        return cursor.rowcount


_FIND_PLATFORM_PERSON = """
SELECT platform_person($1::text, $2::text, $3::text)::text AS user_id
"""


async def find_platform_person(
    conn: AsyncConnection[Any],
    *,
    issuer: str,
    subject: str,
    email: str,
) -> str | None:
    """Whom the platform's own provider vouches for, if anybody; bound by a verified address at the first sign-in."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FIND_PLATFORM_PERSON, (issuer, subject, email))
        fetched: str | None = await cursor.fetchone()
        return fetched


_BIND_PLATFORM_SUBJECT = """
INSERT INTO user_identities (provider, subject, user_id)
VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""


async def bind_platform_subject(
    conn: AsyncConnection[Any],
    *,
    issuer: str,
    subject: str,
    user_id: str,
) -> int:
    """Bind a person to a subject of the platform's own provider; 0 rows when that is so, or either is bound otherwise."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_BIND_PLATFORM_SUBJECT, (issuer, subject, user_id))
        return cursor.rowcount


_IS_PLATFORM_SUBJECT = """
SELECT EXISTS (SELECT FROM user_identities AS i WHERE i.provider = $1 AND i.subject = $2
    AND i.user_id = $3)::boolean AS is_bound
"""


async def is_platform_subject(conn: AsyncConnection[Any], *, issuer: str, subject: str, user_id: str) -> bool:
    """Whether a person is bound to a subject of the platform's own provider."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_PLATFORM_SUBJECT, (issuer, subject, user_id))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_platform_subject gave no row")
        return fetched


_GET_DOOR = """
SELECT connection_id FROM oidc_connections WHERE workspace_id = $1 AND status = 'active'
ORDER BY created_at, connection_id LIMIT 1
"""


async def get_door(conn: AsyncConnection[Any], *, workspace_id: str) -> str | None:
    """The connection that members of a workspace sign in through, the oldest active one."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_DOOR, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        return fetched
