"""What must hold for every projection, as one call for its test."""

import asyncio
import random
from collections.abc import Iterator, Sequence

import psycopg
from contracts import Event, Recorded
from eventlog import Append, EventLog, Projection, Projector, apply_schema, verify
from msgspec.structs import replace
from psycopg import AsyncConnection, AsyncRawCursor

from testkit.servers import Database

Rows = dict[str, list[str]]
Batches = Sequence[Sequence[Recorded[Event]]]

_ROWS = "SELECT r::text FROM {} AS r ORDER BY 1"


async def assert_projection_laws(
    projection: Projection, events: Sequence[Recorded[Event]], *, database: Database, seed: int = 1
) -> Rows:
    """Replaying twice gives the same rows, and so does every way to cut the events into batches.

    events: in log order; sequences are given to those that have none. Returns the rows by table.
    """
    numbered = in_order(*events)
    expected = await rows_after(projection, [numbered], database=database, schema="law_whole")
    assert any(expected.values()), "the events leave no row, so the laws say nothing"
    for number, batches in enumerate(_cuts(numbered, seed)):
        found = await rows_after(projection, batches, database=database, schema=f"law_{number}")
        sizes = [len(batch) for batch in batches]
        assert found == expected, f"cut into batches of {sizes}, the rows differ"
    return expected


def in_order(*events: Recorded[Event]) -> list[Recorded[Event]]:
    """The events with the sequences that they have in an otherwise empty log; those that have one keep it."""
    return [event if event.seq else replace(event, seq=i) for i, event in enumerate(events, start=1)]


def _cuts(events: Sequence[Recorded[Event]], seed: int) -> Iterator[Batches]:
    """The whole again, one by one, and a few random ways."""
    yield [events]
    yield [[event] for event in events]
    rng = random.Random(seed)
    for _ in range(4):
        batches: list[list[Recorded[Event]]] = [[]]
        for event in events:
            if batches[-1] and rng.random() < 0.4:
                batches.append([])
            batches[-1].append(event)
        yield batches


async def rows_after(projection: Projection, batches: Batches, *, database: Database, schema: str) -> Rows:
    """Every table's rows as text after projecting batches into a fresh schema."""
    owner = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await apply_schema(owner, schema, projection.schema_sql)
    conn = await AsyncConnection.connect(
        database.projector_url,
        autocommit=True,
        cursor_factory=AsyncRawCursor,
        options=f"-c search_path={schema}",
    )
    async with conn:
        for batch in batches:
            async with conn.transaction():
                await projection.project(batch, conn)
        return await _rows(conn, schema)


async def _rows(conn: psycopg.AsyncConnection[tuple[object, ...]], schema: str) -> Rows:
    cursor = await conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY 1",
        (schema,),
    )
    rows: Rows = {}
    for (table,) in await cursor.fetchall():
        if table != "checkpoint":
            found = await conn.execute(_ROWS.format(f'"{table}"').encode())
            rows[str(table)] = [str(text) for (text,) in await found.fetchall()]
    return rows


async def assert_rebuild_equals_live(
    projection: Projection,
    events: Sequence[Recorded[Event]],
    *,
    database: Database,
    event_log: EventLog,
    deadline: float = 30.0,
) -> None:
    """What a projector wrote live equals what a replay of the same log writes."""
    owner = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await apply_schema(owner, projection.name, projection.schema_sql)
    projector = Projector(event_log, projection, url=database.projector_url)
    running = asyncio.create_task(projector.run())
    try:
        last = 0
        for event in events:
            last = await event_log.append(Append(event=event, expected=None))
        assert await projector.reached(last, timeout=deadline), projector.status
        certificate = await verify(
            event_log, projection, owner_url=database.owner_url, projector_url=database.projector_url
        )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    differing = [table for table in certificate.tables if not table.is_equal]
    assert not differing, f"live and rebuilt differ: {differing}"
    assert certificate.tables, "the events leave no row, so the law says nothing"
