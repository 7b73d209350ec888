import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from eventlog import Append, EventLog, LogUnavailableError
from nats.aio.client import Client
from runtime import broker, children
from testkit.builders import issue_reported
from testkit.stack import Stack, running_stack
from testkit.waiting import eventually


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running_stack(services=["ingest"]) as running:
        yield running


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    connected = await broker.connect(stack.nats.url, name="test")
    yield connected
    await connected.close()


def kill_ingest(stack: Stack) -> None:
    stack.services["ingest"].kill()
    stack.services["ingest"].start()


def kill_nats(stack: Stack) -> None:
    stack.nats.kill()
    stack.nats.start()


def kill_postgres(stack: Stack) -> None:
    stack.postgres.kill()
    stack.postgres.start()


@pytest.mark.parametrize("kill", [kill_ingest, kill_nats, kill_postgres])
async def test_service_catches_up_after_anything_is_killed(
    stack: Stack, client: Client, kill: Callable[[Stack], None]
) -> None:
    log = await EventLog.connect(client)
    for number in range(1, 6):
        await log.append(Append(event=issue_reported(number), expected=0))

    kill(stack)

    async def appended() -> int:
        try:
            return await log.append(Append(event=issue_reported(6), expected=None))
        except LogUnavailableError:
            return 0

    last = await eventually(appended, deadline=120)

    async def caught_up() -> bool:
        await stack.services["ingest"].ready()
        return (await stack.services["ingest"].status()).partitions[0].position >= last

    await eventually(caught_up, deadline=120)


async def test_stop_leaves_nothing_behind() -> None:
    stack = Stack(services=["ingest"])
    await stack.start()
    pids = [stack.postgres.pid, stack.nats.pid, stack.services["ingest"].pid]
    folder = Path(str(stack.services["ingest"]._log)).parent

    codes = await stack.stop()

    assert codes == {"ingest": 0}
    assert not folder.exists()
    assert not any(children.is_alive(pid) for pid in pids if pid is not None)
    assert os.getpid() not in pids


async def test_service_that_cannot_start_shows_its_log() -> None:
    stack = Stack(services=["ingest"], env={"PARTITIONS": "none"})
    with pytest.raises(RuntimeError, match="PARTITIONS is wrong"):
        await stack.start()
    await stack.stop()
