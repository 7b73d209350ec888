"""One client's queue, and what a failure of its workspace's follower ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from contracts import AGGREGATES as CONTRACT
from contracts import prediction
from eventlog import Batch
from msgspec.structs import replace
from runtime.database import Pool
from runtime.service import Resources

from services.gateway.errors import RateLimitedError
from services.gateway.identity.scopes import SCOPES
from services.gateway.subscriptions.frames import Frame, Packed, frames_of
from services.gateway.subscriptions.hub import AGGREGATES, LISTENERS_MAX, QUEUE_FRAMES_MAX, Hub, Subscriber

from . import builders as b

NOW = datetime(2026, 5, 17, tzinfo=UTC)


def test_a_client_that_does_not_keep_up_is_given_up() -> None:
    """Its queue is bounded; what did not fit marks it, and nothing is added later out of order."""
    subscriber = Subscriber("ws_1")
    for number in range(QUEUE_FRAMES_MAX + 5):
        subscriber.offer(Packed("issues:read", str(number).encode()))
    assert subscriber.is_slow
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX
    subscriber.queue.get_nowait()
    subscriber.offer(Packed("issues:read", b"late"))
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX - 1


async def test_whose_rights_may_have_changed_is_looked_at_at_once() -> None:
    """Whoever waits for a frame is woken; nothing is put before frames that wait anyway."""
    broken: Any = OneLog(BrokenLog("nothing"))
    hub = Hub(cast(Resources, broken), cast(Pool, None))
    running = asyncio.create_task(hub.run())
    await asyncio.sleep(0)
    idle, busy = await hub.join("ws_1"), await hub.join("ws_2")
    busy.offer(Packed("issues:read", b"first"))
    hub.wake()
    hub.wake()
    assert (idle.queue.qsize(), idle.queue.get_nowait(), idle.is_ended) == (1, None, False)
    assert busy.queue.qsize() == 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


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
    async with asyncio.timeout(30):
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


async def test_a_workspace_has_so_many_connections_and_takes_none_of_anothers() -> None:
    """One more is refused until one of them leaves."""
    anything: Any = OneLog(BrokenLog(""))
    hub = Hub(cast(Resources, anything), cast(Pool, None))
    running = asyncio.create_task(hub.run())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        joined = [await hub.join("ws_1") for _ in range(LISTENERS_MAX)]
        with pytest.raises(RateLimitedError):
            await hub.join("ws_1")
        joined.append(await hub.join("ws_2"))
        hub.leave(joined.pop(0))
        joined.append(await hub.join("ws_1"))
    for each in joined:
        hub.leave(each)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("kind", "payload", "scope"),
    [
        ("issue.status.changed", {}, "issues:read"),
        ("pattern.detected", {}, "patterns:read"),
        ("prediction.alert.fired", {}, "predictions:read"),
        ("recommendation.created", {}, "recommendations:read"),
        ("job.updated", {"kind": "workspace"}, "governance:read"),
        ("job.updated", {"kind": "audit"}, "audit:read"),
    ],
)
def test_a_frame_needs_the_scope_that_a_get_of_the_same_needs(
    kind: str, payload: dict[str, object], scope: str
) -> None:
    """And one that nobody has decided about goes to nobody."""
    assert Frame(kind, payload, NOW).packed().scope == scope
    assert scope in SCOPES
    with pytest.raises(KeyError):
        Frame("secret.told", payload, NOW).packed()


def test_nobody_is_told_of_a_forecast_that_is_held_out() -> None:
    """What people do about forecasts is measured against those."""
    shown = b.predicted("prd_1", probability=0.9)
    assert isinstance(shown.data, prediction.PredictionMade)
    assert [frame.type for frame in frames_of(shown)] == ["prediction.generated"]
    held_out = replace(shown, data=replace(shown.data, held_out=True))
    assert frames_of(held_out) == []


def test_listeners_hear_of_connectors_runs_and_tickets() -> None:
    """Each by what a GET of the same needs: a run's end under its own name, a ticket with its recommendation."""
    assert {CONTRACT[type(event.data)] for event in b.connecting_story()} <= set(AGGREGATES)
    frames = [frame for event in b.connecting_story() for frame in frames_of(event)]
    heard = {frame.type: frame for frame in frames}
    assert {"connector.created", "connector.updated", "connector.status.changed", "connector.deleted"} <= set(
        heard
    )
    assert {frame.scope for frame in frames} == {"connectors:read", "recommendations:read"}
    assert heard["connector.sync.succeeded"].payload["counts"] == {
        "records": 3,
        "created": 3,
        "updated": 0,
        "unchanged": 0,
        "ignored": 0,
        "rejected": 0,
    }
    assert heard["recommendation.ticket.created"].scope == "recommendations:read"
