"""Guards: one history per aggregate, whoever writes."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from contracts import encode, record, workspace
from eventlog import Append, AppendRefusedError, Conflict, ConflictError, EventLog, LogUnavailableError
from nats.aio.client import Client
from runtime import broker
from runtime.embedded import free_port
from testkit.servers import nats_server

from .conftest import NOW, closed, new, reported, unused_id


async def test_append_of_a_new_aggregate_gives_its_sequence(event_log: EventLog) -> None:
    """The first event of an aggregate gets the next sequence of the partition."""
    assert await event_log.append(*new(reported(1))) == 1
    assert await event_log.append(*new(reported(2))) == 2
    assert await event_log.last_seq(0) == 2


async def test_last_sequence_of_an_aggregate_and_of_all_of_its_type(event_log: EventLog) -> None:
    """Of one workspace, whatever others append behind it."""
    first, second = reported(1), reported(2)
    await event_log.append_each(new(first, second, reported(3, workspace="ws_two")))
    assert await event_log.append(Append(closed(first), 1)) == 4
    one, other = (event.subject.partition("/")[2] for event in (first, second))
    assert await event_log.last_seq_of("ws_one", "issue", one) == 4
    assert await event_log.last_seq_of("ws_one", "issue", other) == 2
    assert [await event_log.last_seq_of(space, "issue") for space in ("ws_one", "ws_two")] == [4, 3]
    assert await event_log.last_seq_of("ws_one", "pattern") == 0


async def test_append_twice_of_a_new_aggregate_conflicts(event_log: EventLog) -> None:
    """An aggregate begins once."""
    await event_log.append(*new(reported(1)))
    with pytest.raises(ConflictError):
        await event_log.append(*new(reported(1)))
    assert await event_log.last_seq(0) == 1


async def test_append_on_an_old_state_conflicts(event_log: EventLog) -> None:
    """A decision on a state that has moved on is refused."""
    first = reported(1)
    seq = await event_log.append(*new(first))
    await event_log.append(Append(closed(first), seq))
    with pytest.raises(ConflictError):
        await event_log.append(Append(closed(first), seq))


async def test_append_of_several_events_is_all_or_nothing(event_log: EventLog) -> None:
    """One conflict in a batch leaves nothing of it."""
    known = reported(1)
    await event_log.append(*new(known))
    with pytest.raises(ConflictError):
        await event_log.append(*new(reported(2), known, reported(3)))
    assert await event_log.last_seq(0) == 1
    assert await event_log.append(*new(reported(2), reported(3)), Append(closed(known), 1)) == 4


async def test_append_of_two_events_of_one_aggregate_takes_the_guard_of_the_first(
    event_log: EventLog,
) -> None:
    """A decision may append several events to one aggregate."""
    first = reported(1)
    assert await event_log.append(Append(first, 0), Append(closed(first), 0)) == 2


async def test_append_each_tells_conflicts_from_successes(event_log: EventLog) -> None:
    """In a pipelined batch each event stands for itself, in order."""
    await event_log.append(*new(reported(700)))
    results = await event_log.append_each(new(*(reported(number) for number in range(1200))))
    assert isinstance(results[700], Conflict)
    sequences = [result for result in results if isinstance(result, int)]
    assert len(sequences) == 1199
    assert sequences == sorted(sequences)


async def test_append_by_many_writers_stores_each_identity_once(event_log: EventLog) -> None:
    """Ten writers report the same hundred failures: a hundred events, a thousand answers."""
    events = [reported(number) for number in range(100)]
    answers = await asyncio.gather(*(event_log.append_each(new(*events)) for _ in range(10)))
    stored = [answer for batch in answers for answer in batch if isinstance(answer, int)]
    assert len(stored) == len(set(stored)) == 100
    assert await event_log.last_seq(0) == 100


async def test_history_is_what_was_appended_in_order(event_log: EventLog) -> None:
    """An aggregate's history holds its own events and no other's."""
    first = reported(1)
    await event_log.append_each(new(first, reported(2)))
    await event_log.append(Append(closed(first), 1))
    history = await event_log.history("ws_one", "issue", first.aggregate_id)
    assert [encode(first), encode(closed(first))] == [encode(event) for event in history]
    assert [event.seq for event in history] == [1, 3]


async def test_history_as_of_a_moment_ends_there(event_log: EventLog) -> None:
    """A recorded time or a sequence cuts the history, inclusive."""
    first = reported(1)
    await event_log.append(*new(first))
    await event_log.append(Append(closed(first), 1))
    before = first.recorded_at + timedelta(minutes=1)
    assert [
        event.seq for event in await event_log.history("ws_one", "issue", first.aggregate_id, until=before)
    ] == [1]
    assert [
        event.seq for event in await event_log.history("ws_one", "issue", first.aggregate_id, until_seq=1)
    ] == [1]


async def test_history_of_many_events_is_read_page_by_page(event_log: EventLog) -> None:
    """A history is complete, however long."""
    made = workspace.WorkspaceSettingsChanged(workspace_id="ws_one", proof_window_days=14)
    event = record(
        made,
        workspace_id="ws_one",
        aggregate_id="ws_one",
        occurred_at=NOW,
        recorded_at=NOW,
        source="/causeloop/gateway",
    )
    await event_log.append_each([Append(event, None)] * 10_203)
    assert list(range(1, 10_204)) == [
        event.seq for event in await event_log.history("ws_one", "workspace", "ws_one")
    ]


async def test_histories_keep_the_order_of_the_ids(event_log: EventLog) -> None:
    """Several histories at once, an unknown one among them."""
    events = [reported(number) for number in range(20)]
    await event_log.append_each(new(*events))
    ids = [events[7].aggregate_id, unused_id("nobody"), events[3].aggregate_id]
    assert [
        [event.seq for event in found] for found in await event_log.histories("ws_one", "issue", ids)
    ] == [[8], [], [4]]


async def test_histories_of_one_and_of_several_events_are_whole(event_log: EventLog) -> None:
    """More ids than one request takes; guarded, unguarded and atomic appends; large events."""
    events = [reported(number, title="x" * 4_000) for number in range(1_100)]
    await event_log.append_each(new(*events))
    await event_log.append(Append(closed(events[1]), 2))
    await event_log.append(Append(closed(events[2]), None))
    pair = reported(2_000)
    await event_log.append(Append(pair, 0), Append(closed(pair), None))
    ids = [event.aggregate_id for event in (*events, pair)]
    found = await event_log.histories("ws_one", "issue", ids)
    expected = [[number] for number in range(1, 1_101)]
    expected[1:3] = [[2, 1_101], [3, 1_102]]
    assert [*expected, [1_103, 1_104]] == [[event.seq for event in history] for history in found]


async def test_append_of_too_large_an_event_is_refused(event_log: EventLog) -> None:
    """What the server can never store is told apart from what it cannot store now."""
    huge = reported(1, title="x" * 9_000_000)
    with pytest.raises(AppendRefusedError):
        await event_log.append(*new(huge))


async def test_append_to_a_full_log_can_be_repeated(event_log: EventLog, nc: Client) -> None:
    """A server that cannot store now (codes from 500 on) has not judged the event."""
    js = nc.jetstream()
    config = (await js.stream_info("EVENTS_0")).config
    await js.update_stream(config, max_msgs=1)
    await event_log.append(*new(reported(1)))
    with pytest.raises(LogUnavailableError, match="maximum messages exceeded"):
        await event_log.append(*new(reported(2)))
    await js.update_stream(config, max_msgs=-1)
    assert await event_log.append(*new(reported(2))) == 2


async def test_log_on_a_server_without_jetstream_is_unavailable() -> None:
    """Nobody answers JetStream's subjects, as while a cluster starts: the log may come up later."""
    port = free_port()
    program = Path(sys.executable).with_name("nats-server")
    server = await asyncio.create_subprocess_exec(
        program, "-a", "127.0.0.1", "-p", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        client = await broker.connect(f"nats://127.0.0.1:{port}", name="test")
        with pytest.raises(LogUnavailableError, match=r"JetStream does not answer STREAM\.CREATE\.EVENTS_0"):
            await EventLog.connect(client)
        await client.close()
    finally:
        server.terminate()
        await server.wait()


async def test_append_to_a_dead_server_is_unavailable_and_can_be_repeated() -> None:
    """While the server is down nothing is confirmed; afterwards the same append succeeds once."""
    with nats_server() as server:
        client = await broker.connect(server.url, name="test")
        log = await EventLog.connect(client)
        await log.append(*new(reported(1)))
        server.kill()
        with pytest.raises(LogUnavailableError):
            await log.append(*new(reported(2)))
        server.start()
        for _ in range(20):
            try:
                await log.append(*new(reported(2)))
                break
            except LogUnavailableError:
                continue
            except ConflictError:
                break
        assert await log.last_seq(0) == 2
        await client.close()


async def test_append_of_text_with_a_nul_is_refused(event_log: EventLog) -> None:
    """What Postgres could never store must not become a fact; a written-out escape is only text."""
    with pytest.raises(AppendRefusedError, match=r"U\+0000"):
        await event_log.append(*new(reported(1, title="a\x00b")))
    assert await event_log.append(*new(reported(1, title="a\\u0000b"))) == 1
