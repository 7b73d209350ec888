"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class ListSecretsRow(Struct, frozen=True):
    """One row of list_secrets."""

    name: str
    sealed: str


class ListSecretsOfRow(Struct, frozen=True):
    """One row of list_secrets_of."""

    connector_id: str
    name: str
    sealed: str


_GET_DATA_KEY = """
SELECT wrapped FROM data_keys WHERE workspace_id = $1
"""


async def get_data_key(conn: AsyncConnection[Any], *, workspace_id: str) -> str | None:
    """The wrapped data key of a workspace."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_DATA_KEY, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        return fetched


_INSERT_DATA_KEY = """
INSERT INTO data_keys (workspace_id, master_key_id, wrapped, created_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id) DO NOTHING
"""


async def insert_data_key(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    master_key_id: str,
    wrapped: str,
    created_at: datetime,
) -> int:
    """Keep a workspace's first data key; 0 rows when another request was faster."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_DATA_KEY, (workspace_id, master_key_id, wrapped, created_at))
        return cursor.rowcount


_HOLD_SECRETS = """
SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 0))
"""


async def hold_secrets(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Wait until nobody else holds the secrets of a connector; until the transaction ends, nobody else does."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_HOLD_SECRETS, (workspace_id, connector_id))


_LIST_SECRETS = """
SELECT name, sealed FROM secrets
WHERE workspace_id = $1 AND connector_id = $2 ORDER BY name
"""


async def list_secrets(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
) -> list[ListSecretsRow]:
    """Whatever a connector has of secrets."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListSecretsRow)) as cursor:
        await cursor.execute(_LIST_SECRETS, (workspace_id, connector_id))
        fetched: list[ListSecretsRow] = await cursor.fetchall()
        return fetched


_LIST_SECRETS_OF = """
SELECT s.connector_id, s.name, s.sealed
FROM unnest($1::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT k.connector_id, k.name, k.sealed FROM secrets AS k
    WHERE k.workspace_id = $2 AND k.connector_id = i.id
    OFFSET 0
) AS s
"""


async def list_secrets_of(
    conn: AsyncConnection[Any],
    *,
    connector_ids: list[str],
    workspace_id: str,
) -> list[ListSecretsOfRow]:
    """Whatever some connectors have of secrets; one by one, by the primary key."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListSecretsOfRow)) as cursor:
        await cursor.execute(_LIST_SECRETS_OF, (connector_ids, workspace_id))
        fetched: list[ListSecretsOfRow] = await cursor.fetchall()
        return fetched


_PUT_SECRET = """
INSERT INTO secrets (workspace_id, connector_id, name, sealed, updated_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, connector_id, name)
DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at
"""


async def put_secret(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    name: str,
    sealed: str,
    updated_at: datetime,
) -> None:
    """Keep a secret in place of the one before."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PUT_SECRET, (workspace_id, connector_id, name, sealed, updated_at))


_DELETE_SECRETS = """
DELETE FROM secrets
WHERE workspace_id = $1 AND connector_id = $2
    AND name = ANY($3::text[])
"""


async def delete_secrets(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    names: list[str],
) -> None:
    """Delete some secrets of a connector."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_SECRETS, (workspace_id, connector_id, names))


_FORGET_SECRETS = """
DELETE FROM secrets WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_secrets(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete everything secret of a connector (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_SECRETS, (workspace_id, connector_id))


_FORGET_AUTHORIZATIONS = """
DELETE FROM authorizations WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_authorizations(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete the sign-ins that have begun for a connector (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_AUTHORIZATIONS, (workspace_id, connector_id))
