"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Door(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    connection_id: str
    issuer: str
    client_id: str
    client_secret_sealed: str


class EnterByConnectionRow(Struct, frozen=True):
    """One row of enter_by_connection."""

    user_id: str | None
    refusal: str | None


class Connection(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    connection_id: str
    name: str
    issuer: str
    client_id: str
    client_secret_sealed: str
    domains: list[str]
    default_role: str
    status: str
    created_at: datetime
    updated_at: datetime
    approved_domains: list[str]


class Link(Struct, frozen=True):
    """One row of a result."""

    connection_id: str
    connection_name: str
    issuer: str
    workspace_id: str
    workspace_name: str
    linked_at: datetime | None
    agreed_at: datetime | None


_FIND_CONNECTION = """
SELECT c.workspace_id::text AS workspace_id, c.connection_id::text AS connection_id, c.issuer::text AS issuer,
    c.client_id::text AS client_id, c.client_secret_sealed::text AS client_secret_sealed
FROM find_connection($1::text, $2::text)
    AS c (workspace_id, connection_id, issuer, client_id, client_secret_sealed)
"""


async def find_connection(conn: AsyncConnection[Any], *, connection_id: str, email: str) -> Door | None:
    """The active connection that somebody who is not signed in names, by its id or by the domain of an address."""
    async with AsyncRawCursor(conn, row_factory=args_row(Door)) as cursor:
        await cursor.execute(_FIND_CONNECTION, (connection_id, email))
        fetched: Door | None = await cursor.fetchone()
        return fetched


_ENTER_BY_CONNECTION = """
SELECT p.user_id::text AS user_id, p.refusal::text AS refusal
FROM connection_person($1::text, $2::text, $3::text,
    $4::text, $5::text) AS p (user_id, refusal)
"""


async def enter_by_connection(
    conn: AsyncConnection[Any],
    *,
    connection_id: str,
    subject: str,
    email: str,
    name: str,
    consenting: str,
) -> EnterByConnectionRow:
    """Whom a workspace's provider vouches for, made a member where the connection says so; or why not."""
    async with AsyncRawCursor(conn, row_factory=args_row(EnterByConnectionRow)) as cursor:
        await cursor.execute(_ENTER_BY_CONNECTION, (connection_id, subject, email, name, consenting))
        fetched: EnterByConnectionRow | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("enter_by_connection gave no row")
        return fetched


_LIST_CONNECTIONS = """
SELECT c.workspace_id, c.connection_id, c.name, c.issuer, c.client_id, c.client_secret_sealed, c.domains, c.default_role,
    c.status, c.created_at, c.updated_at, ARRAY(
        SELECT d.domain FROM approved_domains AS d WHERE d.domain = ANY(c.domains) ORDER BY d.domain)::text[] AS approved_domains
FROM oidc_connections AS c WHERE c.workspace_id = $1 ORDER BY c.created_at, c.connection_id
"""


async def list_connections(conn: AsyncConnection[Any], *, workspace_id: str) -> list[Connection]:
    """The workspace's connections, oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(Connection)) as cursor:
        await cursor.execute(_LIST_CONNECTIONS, (workspace_id,))
        fetched: list[Connection] = await cursor.fetchall()
        return fetched


_GET_CONNECTION = """
SELECT c.workspace_id, c.connection_id, c.name, c.issuer, c.client_id, c.client_secret_sealed, c.domains, c.default_role,
    c.status, c.created_at, c.updated_at, ARRAY(
        SELECT d.domain FROM approved_domains AS d WHERE d.domain = ANY(c.domains) ORDER BY d.domain)::text[] AS approved_domains
FROM oidc_connections AS c
WHERE c.workspace_id = $1 AND c.connection_id = $2 FOR UPDATE OF c
"""


async def get_connection(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connection_id: str,
) -> Connection | None:
    """A connection of the workspace, locked."""
    async with AsyncRawCursor(conn, row_factory=args_row(Connection)) as cursor:
        await cursor.execute(_GET_CONNECTION, (workspace_id, connection_id))
        fetched: Connection | None = await cursor.fetchone()
        return fetched


_INSERT_CONNECTION = """
INSERT INTO oidc_connections (workspace_id, connection_id, name, issuer, client_id, client_secret_sealed, domains,
    default_role, status, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $9, $10,
    $10)
ON CONFLICT DO NOTHING
"""


async def insert_connection(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connection_id: str,
    name: str,
    issuer: str,
    client_id: str,
    client_secret_sealed: str,
    domains: list[str],
    default_role: str,
    status: str,
    created_at: datetime,
) -> int:
    """Keep a new connection; 0 rows when the workspace has one to the same client of the same provider."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_CONNECTION, (workspace_id, connection_id, name, issuer, client_id, client_secret_sealed, domains, default_role, status, created_at))
        return cursor.rowcount


_UPDATE_CONNECTION = """
UPDATE oidc_connections SET name = $1, client_id = $2,
    client_secret_sealed = $3, domains = $4,
    default_role = $5, status = $6, updated_at = $7
WHERE workspace_id = $8 AND connection_id = $9
"""


async def update_connection(
    conn: AsyncConnection[Any],
    *,
    name: str,
    client_id: str,
    client_secret_sealed: str,
    domains: list[str],
    default_role: str,
    status: str,
    updated_at: datetime,
    workspace_id: str,
    connection_id: str,
) -> int:
    """Change a connection."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_CONNECTION, (name, client_id, client_secret_sealed, domains, default_role, status, updated_at, workspace_id, connection_id))
        return cursor.rowcount


_DELETE_CONNECTION = """
DELETE FROM oidc_connections WHERE workspace_id = $1 AND connection_id = $2
"""


async def delete_connection(conn: AsyncConnection[Any], *, workspace_id: str, connection_id: str) -> int:
    """Forget a connection, with the identities it vouched for."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_CONNECTION, (workspace_id, connection_id))
        return cursor.rowcount


_REVOKE_CONNECTION_SESSIONS = """
UPDATE sessions SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND connection_id = $3::text AND revoked_at IS NULL
"""


async def revoke_connection_sessions(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    connection_id: str,
) -> int:
    """End the sessions that a connection vouched for."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_CONNECTION_SESSIONS, (revoked_at, workspace_id, connection_id))
        return cursor.rowcount


_GET_SSO_ENFORCED = """
SELECT sso_enforced FROM workspaces WHERE workspace_id = $1 FOR NO KEY UPDATE
"""


async def get_sso_enforced(conn: AsyncConnection[Any], *, workspace_id: str) -> bool | None:
    """Whether the workspace lets people in by its own provider only; locked, so that of two last ones one stays."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_SSO_ENFORCED, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        return fetched


_LIST_LINKS = """
SELECT l.connection_id::text AS connection_id, l.connection_name::text AS connection_name, l.issuer::text AS issuer,
    l.workspace_id::text AS workspace_id, l.workspace_name::text AS workspace_name, l.linked_at::timestamptz AS linked_at,
    l.agreed_at::timestamptz AS agreed_at
FROM links($1::text)
    AS l (connection_id, connection_name, issuer, workspace_id, workspace_name, linked_at, agreed_at)
"""


async def list_links(conn: AsyncConnection[Any], *, connection_id: str) -> list[Link]:
    """The connection that is named, or with an empty name all that speak for the transaction's person."""
    async with AsyncRawCursor(conn, row_factory=args_row(Link)) as cursor:
        await cursor.execute(_LIST_LINKS, (connection_id,))
        fetched: list[Link] = await cursor.fetchall()
        return fetched


_UNLINK = """
SELECT unlink($1::text, $2::text)::boolean AS was_linked
"""


async def unlink(conn: AsyncConnection[Any], *, connection_id: str, ip: str | None) -> bool:
    """A connection speaks no longer for the transaction's person; whether it did."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_UNLINK, (connection_id, ip))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("unlink gave no row")
        return fetched
