"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import scalar_row


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
