"""The service as its own process: commands over the bus, kill -9, and the other exits."""

from collections.abc import AsyncIterator

import pytest_asyncio
from contracts import pattern
from eventlog import Append, EventLog
from nats.aio.client import Client
from runtime import broker
from runtime.broker import CommandContext
from testkit.stack import Stack, running_stack
from testkit.waiting import eventually

from .running import WORKSPACE, failure

CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_ann")


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running_stack(services=("pattern",)) as started:
        yield started


@pytest_asyncio.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    connected = await broker.connect(stack.nats.url, name="test")
    yield connected
    await connected.close()


async def links(log: EventLog) -> list[tuple[str, str]]:
    """Every membership that the log tells of: issue and pattern."""
    found = []
    async for batch in log.read(0, after=0, until=await log.last_seq()):
        for event in batch.events:
            if isinstance(event.data, pattern.IssuesLinked):
                found += [(link.issue_id, event.data.pattern_id) for link in event.data.links]
    return found


async def test_a_killed_process_goes_on_where_it_was(stack: Stack, client: Client) -> None:
    """Killed under load and started again: one membership per issue, one pattern, and its commands are answered."""
    log = await EventLog.connect(client)
    service = stack.services["pattern"]
    numbers = iter(range(10_000))

    async def report(n: int) -> None:
        await log.append_each([Append(failure(next(numbers), "Queue is stuck"), 0) for _ in range(n)])

    await report(50)
    await eventually(lambda: links(log))
    await report(300)
    service.kill()
    await report(50)
    service.start()
    await service.ready()

    async def is_done() -> bool:
        return len(await links(log)) >= 400

    await eventually(is_done, deadline=120)
    found = await links(log)
    assert len(found) == len({issue for issue, _ in found}) == 400
    (pattern_id,) = {each for _, each in found}
    reply = await broker.ask(
        client,
        pattern.UpdatePattern(pattern_id=pattern_id, name="The queue"),
        endpoint="pattern.update_pattern",
        reply=pattern.PatternChanged,
        context=CONTEXT,
        timeout=30,
    )
    assert (pattern_id, pattern.PatternStatus.ACTIVE) == (reply.pattern_id, reply.status)
    history = await log.history(WORKSPACE, "pattern", pattern_id)
    assert [event.seq for event in history if event.actor == "usr_ann"] == [reply.sequence]
    code, output = await service.run("verify")
    assert code == 0, output
    assert service.stop() == 0
