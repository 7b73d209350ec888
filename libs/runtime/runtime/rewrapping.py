"""Wraps every data key anew when the master key has changed, of all schemas: `python -m runtime.rewrapping`."""

import asyncio
import os
import sys
from typing import Final

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection, sql

from runtime.sealing import MasterKeys, Place, SealError, read_master_keys


class KeyTable(Struct, frozen=True):
    """Where a schema has its data keys. owner: the column that says whose. place: the table's name in what is sealed."""

    schema: str
    owner: str
    place: str


KEY_TABLES: Final = (
    KeyTable("identity", "owner_id", "data_keys"),
    KeyTable("sources", "workspace_id", "sources.data_keys"),
)


async def rewrap(owner_url: str, masters: MasterKeys) -> int:
    """Wrap every data key with the current master key, all or none; how many were not. Raises SealError.

    owner_url: the role that owns the schemas; one that is not there has no keys.
    """
    async with await AsyncConnection.connect(owner_url, connect_timeout=5) as conn:
        return sum([await _rewrap(conn, table, masters) for table in KEY_TABLES])


async def _rewrap(conn: AsyncConnection, table: KeyTable, masters: MasterKeys) -> int:
    names = {"table": sql.Identifier(table.schema, "data_keys"), "owner": sql.Identifier(table.owner)}
    cursor = await conn.execute("SELECT to_regclass(%s) IS NULL", (f"{table.schema}.data_keys",))
    if await cursor.fetchone() == (True,):
        return 0
    key_id = masters.current.key_id
    foreign = sql.SQL("SELECT {owner}, wrapped FROM {table} WHERE master_key_id <> %s ORDER BY 1 FOR UPDATE")
    found = await (await conn.execute(foreign.format(**names), (key_id,))).fetchall()
    update = sql.SQL("UPDATE {table} SET master_key_id = %s, wrapped = %s WHERE {owner} = %s").format(**names)
    for owner_id, wrapped in found:
        place = Place(table.place, owner_id, "wrapped")
        await conn.execute(update, (key_id, masters.seal(masters.open(wrapped, place), place), owner_id))
    return len(found)


def main() -> int:
    """Rewrap what DATABASE_OWNER_URL holds with CAUSELOOP_MASTER_KEY; prints one line."""
    url, current = os.environ.get("DATABASE_OWNER_URL", ""), os.environ.get("CAUSELOOP_MASTER_KEY", "")
    if not url or not current:
        sys.stderr.write("DATABASE_OWNER_URL and CAUSELOOP_MASTER_KEY are needed.\n")
        return 2
    previous = [text.strip() for text in os.environ.get("CAUSELOOP_MASTER_KEY_PREVIOUS", "").split(",")]
    try:
        masters = read_master_keys(current, list(filter(None, previous)))
        n_rewrapped = asyncio.run(rewrap(url, masters))
    except (psycopg.Error, SealError, ValueError) as error:
        sys.stderr.write(f"Nothing was changed: {error}\n")
        return 1
    sys.stdout.write(f"data keys: {n_rewrapped} wrapped anew with {masters.current.key_id}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
