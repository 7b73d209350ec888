"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class ListForeignDataKeysRow(Struct, frozen=True):
    """One row of list_foreign_data_keys."""

    owner_id: str
    wrapped: str


_GET_DATA_KEY = """
SELECT wrapped FROM data_keys WHERE owner_id = $1
"""


async def get_data_key(conn: AsyncConnection[Any], *, owner_id: str) -> str | None:
    """The wrapped data key of a workspace or a person."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_DATA_KEY, (owner_id,))
        fetched: str | None = await cursor.fetchone()
        return fetched


_INSERT_DATA_KEY = """
INSERT INTO data_keys (owner_id, workspace_id, user_id, master_key_id, wrapped, created_at)
VALUES ($1, $2, $3, $4, $5,
    $6)
ON CONFLICT (owner_id) DO NOTHING
"""


async def insert_data_key(
    conn: AsyncConnection[Any],
    *,
    owner_id: str,
    workspace_id: str | None,
    user_id: str | None,
    master_key_id: str,
    wrapped: str,
    created_at: datetime,
) -> int:
    """Keep an owner's first data key; 0 rows when another request was faster."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_DATA_KEY, (owner_id, workspace_id, user_id, master_key_id, wrapped, created_at))
        return cursor.rowcount


_LIST_FOREIGN_DATA_KEYS = """
SELECT owner_id, wrapped FROM data_keys WHERE master_key_id <> $1 ORDER BY owner_id
"""


async def list_foreign_data_keys(
    conn: AsyncConnection[Any],
    *,
    master_key_id: str,
) -> list[ListForeignDataKeysRow]:
    """The data keys that another master key than the current one wraps."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListForeignDataKeysRow)) as cursor:
        await cursor.execute(_LIST_FOREIGN_DATA_KEYS, (master_key_id,))
        fetched: list[ListForeignDataKeysRow] = await cursor.fetchall()
        return fetched


_UPDATE_DATA_KEY = """
UPDATE data_keys SET master_key_id = $1, wrapped = $2
WHERE owner_id = $3
"""


async def update_data_key(
    conn: AsyncConnection[Any],
    *,
    master_key_id: str,
    wrapped: str,
    owner_id: str,
) -> int:
    """Wrap a data key anew."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_DATA_KEY, (master_key_id, wrapped, owner_id))
        return cursor.rowcount
