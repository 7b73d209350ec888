"""The raw limits: the same bytes and rows, with nothing of ours in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import psycopg
from contracts import decode
from nats.aio.client import Client
from nats.aio.msg import Msg
from psycopg import sql

WINDOW = 1024


async def publish_rate(nc: Client, payloads: Sequence[bytes]) -> float:
    """Messages per second into a stream of its own: plain publishes, acknowledgements on one wildcard inbox."""
    js = nc.jetstream()
    await js.add_stream(name="BARE", subjects=["bare.>"])
    room = asyncio.Semaphore(WINDOW)
    left = len(payloads)
    done = asyncio.Event()

    async def acknowledged(_: Msg) -> None:
        nonlocal left
        left -= 1
        room.release()
        if not left:
            done.set()

    inbox = nc.new_inbox()
    subscription = await nc.subscribe(
        f"{inbox}.*", cb=acknowledged, pending_msgs_limit=0, pending_bytes_limit=0
    )
    started = time.perf_counter()
    for number, payload in enumerate(payloads):
        await room.acquire()
        await nc.publish(f"bare.{number}", payload, f"{inbox}.{number}")
    await done.wait()
    rate = len(payloads) / (time.perf_counter() - started)
    await subscription.unsubscribe()
    await js.delete_stream("BARE")
    return rate


async def read_rate(nc: Client, stream: str, n_events: int) -> float:
    """Events per second through nats-py's own ordered consumer, each decoded."""
    started = time.perf_counter()
    subscription = await nc.jetstream().subscribe("evt.>", stream=stream, ordered_consumer=True)
    for number in range(n_events):
        message = await subscription.next_msg(timeout=10)
        decode(message.data, seq=number + 1, partition=0)
    rate = n_events / (time.perf_counter() - started)
    await subscription.unsubscribe()
    return rate


async def write_rate(
    admin_url: str, schema: str, table: str, key: str, *, limit: int, batch: int = 1000
) -> float:
    """Rows per second into a copy of a table, indexes included: one json_to_recordset upsert a batch, one transaction each."""
    async with await psycopg.AsyncConnection.connect(
        admin_url, autocommit=True, cursor_factory=psycopg.AsyncRawCursor
    ) as conn:
        source = sql.Identifier(schema, table)
        await conn.execute(b"DROP TABLE IF EXISTS bare_copy")
        await conn.execute(
            sql.SQL("CREATE TABLE bare_copy (LIKE {} INCLUDING ALL)").format(source).as_string(conn).encode()
        )
        columns = await _columns(conn, schema, table)
        rows = await (
            await conn.execute(
                sql.SQL("SELECT to_json(r)::text FROM {} r ORDER BY seq DESC LIMIT {}")
                .format(source, sql.Literal(limit))
                .as_string(conn)
                .encode()
            )
        ).fetchall()
        batches = [
            f"[{','.join(row[0] for row in rows[start : start + batch])}]"
            for start in range(0, len(rows), batch)
        ]
        names = ", ".join(f'"{name}"' for name, _ in columns)
        typed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name, _ in columns)
        statement = (
            f"INSERT INTO bare_copy ({names}) SELECT {names} FROM json_to_recordset($1::json) AS r({typed})"
            f" ON CONFLICT ({key}) DO UPDATE SET {updates}"
        ).encode()
        started = time.perf_counter()
        for body in batches:
            async with conn.transaction():
                await conn.execute(statement, (body,))
        rate = len(rows) / (time.perf_counter() - started)
        await conn.execute(b"DROP TABLE bare_copy")
    return rate


async def _columns(
    conn: psycopg.AsyncConnection[tuple[object, ...]], schema: str, table: str
) -> list[tuple[str, str]]:
    """Name and type of every column that is written, generated ones left out."""
    cursor = await conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = ($1 || '.' || $2)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (schema, table),
    )
    return [(str(name), str(kind)) for name, kind in await cursor.fetchall()]
