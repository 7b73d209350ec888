"""One client's queue, and what a failure of its workspace's follower ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from eventlog import Batch
from runtime.database import Pool
from runtime.service import Resources

from services.gateway.subscriptions.hub import QUEUE_FRAMES_MAX, Hub, Subscriber


def test_a_client_that_does_not_keep_up_is_given_up() -> None:
    """Its queue is bounded; what did not fit marks it, and nothing is added later out of order."""
    subscriber = Subscriber("ws_1")
    for number in range(QUEUE_FRAMES_MAX + 5):
        subscriber.offer(str(number).encode())
    assert subscriber.is_slow
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX
    subscriber.queue.get_nowait()
    subscriber.offer(b"late")
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX - 1


class BrokenLog:
    """A log that fails, for one workspace, in a way that nobody foresaw."""

    def __init__(self, broken_in: str) -> None:
        self.broken_in = broken_in

    def partition_of(self, _workspace_id: str) -> int:
        return 0

    async def last_seq(self, _partition: int) -> int:
        if self.broken_in == "last_seq":
            raise RuntimeError("broken")
        return 0

    async def read(self, _partition: int, *, workspace_id: str, **_: object) -> AsyncIterator[Batch]:
        if self.broken_in == "read" and workspace_id == "ws_1":
            raise RuntimeError("broken")
        await asyncio.Event().wait()
        yield cast(Batch, None)


class OneLog:
    def __init__(self, event_log: BrokenLog) -> None:
        self.event_log = event_log


@pytest.mark.parametrize("broken_in", ["last_seq", "read"])
async def test_a_failure_ends_the_clients_of_its_workspace_and_nothing_else(broken_in: str) -> None:
    """They are told, so that they connect again, and then they are served again."""
    event_log = BrokenLog(broken_in)
    anything: Any = OneLog(event_log)
    hub = Hub(cast(Resources, anything), cast(Pool, None))
    running = asyncio.create_task(hub.run())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        ended = await hub.join("ws_1")
        assert await ended.queue.get() is None
        assert ended.is_ended
        event_log.broken_in = ""
        again, other = await hub.join("ws_1"), await hub.join("ws_2")
        hub.leave(ended)
        await asyncio.sleep(0.05)
    assert not running.done()
    assert not again.is_ended
    assert not other.is_ended
    hub.leave(again)
    hub.leave(other)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
