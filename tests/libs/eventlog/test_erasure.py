"""An erased workspace leaves nothing in rows, log and memory, whenever its last events come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import psycopg
import pytest
from contracts import Event, Recorded, record, workspace
from eventlog import Append, Connection, EventLog, Projection, Projector, apply_schema, rebuild, verify
from msgspec.structs import replace
from nats.aio.client import Client
from testkit.servers import Database
from testkit.waiting import eventually

from .conftest import NOW, SCHEMA, TALLY, closed, new, reported


class Listener:
    """A reaction that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Recorded[Event]] = []

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Nothing to load."""

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Remember."""
        self.heard += batch

    async def tick(self, *, now: datetime) -> None:
        """Nothing is ever due."""


def erased(workspace_id: str) -> Recorded[Event]:
    """The end of a workspace."""
    return record(
        workspace.WorkspaceErased(workspace_id=workspace_id),
        workspace_id=workspace_id,
        aggregate_id=workspace_id,
        occurred_at=NOW,
        recorded_at=NOW,
        source="gateway",
    )


@pytest.fixture
async def tally(database: Database) -> Database:
    """A database with the empty read model."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await apply_schema(owner, "tally", SCHEMA)
    return database


async def counts(database: Database) -> dict[str, int]:
    """How many issues each workspace has in the rows."""
    async with await psycopg.AsyncConnection.connect(database.projector_url) as conn:
        cursor = await conn.execute("SELECT workspace_id, count(*) FROM tally.issues GROUP BY 1")
        return {str(name): int(count) for name, count in await cursor.fetchall()}


async def test_an_erased_workspace_is_gone_from_rows_log_and_memory(
    event_log: EventLog, tally: Database
) -> None:
    """What was decided before anybody knew, and appended after it, counts for nothing; the other workspace goes on."""
    mine = [reported(number, workspace="ws_gone") for number in range(30)]
    await event_log.append_each(new(*mine, *(reported(number) for number in range(20))))
    listener = Listener()
    at_work = Projector(event_log, TALLY, url=tally.projector_url, reaction=listener)
    running = asyncio.create_task(at_work.run())
    try:
        assert await at_work.reached(50, timeout=30)
        assert await counts(tally) == {"ws_gone": 30, "ws_one": 20}

        tombstone = await event_log.append(Append(erased("ws_gone"), 0))
        assert await at_work.reached(tombstone, timeout=30)
        assert await counts(tally) == {"ws_one": 20}
        straggler = reported(99, workspace="ws_gone")
        await event_log.append_each(new(straggler, reported(21)))
        await event_log.append(Append(closed(mine[0]), None))
        last = await event_log.append(Append(reported(22), 0))
        assert await at_work.reached(last, timeout=30)
        assert await counts(tally) == {"ws_one": 22}
        await eventually(lambda: listener.heard and listener.heard[-1].seq == last)
        after = [
            event for event in listener.heard if event.seq >= tombstone and event.workspace_id == "ws_gone"
        ]
        assert [type(event.data) for event in after] == [workspace.WorkspaceErased]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert await event_log.purge("ws_gone", "workspace", before=tombstone) == 0
    assert await event_log.purge("ws_gone", "issue") == 32
    assert await event_log.purge("ws_gone", "issue") == 0
    assert await event_log.history("ws_gone", "issue", mine[0].aggregate_id) == []
    left = [event async for batch in event_log.read(0, after=0, until=last) for event in batch.events]
    assert [event.seq for event in left if event.workspace_id == "ws_gone"] == [tombstone]

    await rebuild(event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
    assert await counts(tally) == {"ws_one": 22}
    certificate = await verify(event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
    assert certificate.is_equal
    assert {digest.workspace_id for digest in certificate.tables if digest.table == "issues"} == {"ws_one"}


async def test_a_projector_goes_on_when_its_last_event_was_purged(
    event_log: EventLog, tally: Database
) -> None:
    """Purged events are no sign of a log that was replaced or cut short, also for one that was away meanwhile."""
    await event_log.append_each(new(*(reported(number, workspace="ws_gone") for number in range(10))))
    first = Projector(event_log, TALLY, url=tally.projector_url)
    running = asyncio.create_task(first.run())
    assert await first.reached(10, timeout=30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    tombstone = await event_log.append(Append(erased("ws_gone"), 0))
    await event_log.purge("ws_gone", "issue")
    second = Projector(event_log, TALLY, url=tally.projector_url)
    running = asyncio.create_task(second.run())
    try:
        assert await second.reached(tombstone, timeout=30), second.status
        assert await counts(tally) == {}
        last = await event_log.append(Append(reported(1), 0))
        assert await second.reached(last, timeout=30)
        assert await counts(tally) == {"ws_one": 1}
        assert second.status.alarm is None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_reading_up_to_a_position_ends_when_what_was_waiting_is_purged(
    event_log: EventLog, nc: Client
) -> None:
    """A verification during an erasure must not wait for events that never come."""
    await event_log.append_each(new(*(reported(number, workspace="ws_gone") for number in range(5000))))
    reading = event_log.read(0, after=0, until=5000, max_batch=10)
    batch = await anext(reading)
    assert batch.pending > 0
    await event_log.purge("ws_gone", "issue")
    async with asyncio.timeout(30):
        last = [batch, *[batch async for batch in reading]][-1]
    assert last.pending == 0 or last.last_seq == 5000


async def test_a_projection_of_workspaces_hears_only_of_those_that_are(
    event_log: EventLog, database: Database
) -> None:
    """What a projection does not ask for it is not given, though the library reads it for itself."""
    seen: list[Recorded[Event]] = []

    async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
        seen.extend(batch)

    heard: Projection = replace(TALLY, project=project)
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await apply_schema(owner, "tally", SCHEMA)
    await event_log.append(Append(reported(1, workspace="ws_gone"), 0))
    await event_log.append(Append(erased("ws_gone"), 0))
    await event_log.append(Append(reported(2), 0))
    at_work = Projector(event_log, heard, url=database.projector_url)
    running = asyncio.create_task(at_work.run())
    try:
        assert await at_work.reached(3, timeout=30)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [event.workspace_id for event in seen] == ["ws_one"]
