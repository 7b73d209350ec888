"""Reading in order: nothing twice, nothing missing, whatever happens to the server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from contracts import MalformedEventError
from eventlog import Append, EventLog
from nats.aio.client import Client
from runtime import broker
from testkit.servers import nats_server
from testkit.waiting import eventually

from .conftest import closed, new, reported


async def collect(log: EventLog, *, until: int, after: int = 0, **options: object) -> list[int]:
    """Sequences of all events up to one."""
    found: list[int] = []
    async for batch in log.read(0, after=after, until=until, **options):  # type: ignore[arg-type]
        found += [event.seq for event in batch.events]
    return found


async def test_read_of_an_empty_log_gives_one_empty_batch(event_log: EventLog) -> None:
    """A reader learns at once that nothing waits."""
    async with aclosing(event_log.read(0, after=0)) as batches:
        batch = await anext(batches)
    assert (batch.events, batch.last_seq, batch.pending) == ([], 0, 0)


async def test_read_gives_everything_once_and_in_order(event_log: EventLog) -> None:
    """From any position on."""
    await event_log.append_each(new(*(reported(number) for number in range(2500))))
    assert list(range(1, 2501)) == await collect(event_log, until=2500)
    assert list(range(2001, 2401)) == await collect(event_log, after=2000, until=2400)


async def test_read_filters_by_workspace_and_aggregate(event_log: EventLog) -> None:
    """Other workspaces' events are not even sent."""
    await event_log.append_each(new(reported(1), reported(1, workspace="ws_two"), reported(2)))
    assert await collect(event_log, until=3, workspace_id="ws_one") == [1, 3]
    assert await collect(event_log, until=3, aggregates=("pattern",)) == []


async def test_read_goes_on_live(event_log: EventLog) -> None:
    """What is appended later arrives too."""
    async with aclosing(event_log.read(0, after=0)) as batches:
        assert (await anext(batches)).events == []
        first = reported(1)
        await event_log.append(*new(first))
        assert [event.seq for event in (await anext(batches)).events] == [1]
        await event_log.append(Append(closed(first), 1))
        assert [event.seq for event in (await anext(batches)).events] == [2]


async def test_read_stops_at_a_body_that_is_no_event(event_log: EventLog, nc: Client) -> None:
    """A damaged body is not passed over."""
    await event_log.append(*new(reported(1)))
    await nc.jetstream().publish(
        "evt.0.ws_one.issue.iss_x", b'{"type":"causeloop.ingest.v1.IssueClosed","data":1}'
    )
    with pytest.raises(MalformedEventError):
        await collect(event_log, until=2)


async def test_read_leaves_out_types_of_a_newer_release(event_log: EventLog, nc: Client) -> None:
    """An unknown type is not ours to judge; the position passes it."""
    await nc.jetstream().publish(
        "evt.0.ws_one.issue.iss_x", b'{"type":"causeloop.ingest.v9.IssueSung","data":{}}'
    )
    await event_log.append(*new(reported(1)))
    assert await collect(event_log, until=2) == [2]


async def test_read_survives_the_death_of_the_server() -> None:
    """kill -9 of nats-server in the middle: the reader continues behind the last event it gave out."""
    with nats_server() as server:
        client = await broker.connect(server.url, name="test")
        log = await EventLog.connect(client)
        await log.append_each(new(*(reported(number) for number in range(100))))
        seen: list[int] = []

        async def follow() -> None:
            async for batch in log.read(0, after=0):
                seen.extend(event.seq for event in batch.events)
                if len(seen) >= 200:
                    return

        following = asyncio.create_task(follow())
        await eventually(lambda: len(seen) == 100)
        server.kill()
        server.start()
        writer = await broker.connect(server.url, name="writer")
        await (await EventLog.connect(writer)).append_each(
            new(*(reported(number) for number in range(100, 200)))
        )
        await asyncio.wait_for(following, 120)
        assert list(range(1, 201)) == seen
        await writer.close()
        await client.close()
