"""What a request waits for while it is counted, and what is counted together with requests."""

# fixtures are named where they are asked for

import asyncio
from typing import Any, cast

import pytest
from nats.aio.client import Client
from runtime.errors import UnauthorizedError

from services.gateway.edge import counters
from services.gateway.edge.address import Addresses
from services.gateway.edge.counters import Counters
from services.gateway.edge.limits import Limits
from services.gateway.errors import RateLimitedError
from services.gateway.identity.access.authority import Authority
from services.gateway.routes.inbound import Gathering
from services.gateway.subscriptions.socket import Gate, _Admission, _Shown
from services.gateway.subscriptions.tickets import Tickets

from .test_edge_stores import Clock, Rows, counting, is_let_in, number, patient_counters, principal

__all__ = ["patient_counters"]

BOUND_SECONDS = counters.ANSWER_SECONDS


class Silent:
    """A connection to a server that takes everything and never answers."""

    is_connected = True

    def __init__(self, nc: Client) -> None:
        self.new_inbox = nc.new_inbox
        self.sent: list[str] = []

    async def publish(self, subject: str, *_: object) -> None:
        self.sent.append(subject)

    async def request(self, *_: object, **__: object) -> Any:
        await asyncio.Event().wait()


async def test_a_request_waits_for_its_count_no_longer_than_it_has_to(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second; then whoever waits behind it passes as well, and for a second nobody asks or waits."""
    assert BOUND_SECONDS == 0.5
    monkeypatch.setattr(counters, "ANSWER_SECONDS", BOUND_SECONDS)
    silent = Silent(nc)
    deaf = Counters(cast(Client, silent))
    deaf._is_made = True
    loop = asyncio.get_running_loop()
    before = loop.time()
    first = deaf.add("org.a")
    # It is sent at the next turns of the loop; whoever slept meanwhile might wake up behind the deadline.
    for _ in range(9):
        await asyncio.sleep(0)
    behind = deaf.add("org.a")
    [flight] = deaf._flights.values()
    assert flight.deadline.when() <= loop.time() + BOUND_SECONDS
    assert flight.deadline.when() >= before + BOUND_SECONDS
    assert (first.done(), behind.done(), len(silent.sent)) == (False, False, 1)

    monkeypatch.setattr(counters, "PAUSE_SECONDS", 3600.0)
    async with asyncio.timeout(30):
        assert (await first, await behind) == (None, None)
        assert await deaf.add("org.b") is None
    assert len(silent.sent) == 1
    for task in deaf._tasks:
        task.cancel()


async def test_handshakes_and_requests_fill_one_window(nc: Client) -> None:
    """Of the organization, or of the address when the token is nobody's: the last one that fits, and not one more."""
    rows = Rows({"good": principal("ws_1", limit=4), "other": principal("ws_2", limit=4)})
    limits = Limits(await counting(nc), per_address=3, per_connector=9, clock=Clock())
    gate = Gate(
        access=cast(Authority, rows), tickets=cast(Tickets, None), limits=limits, addresses=Addresses()
    )

    async def shake(token: str) -> type[Exception] | None:
        try:
            await _Admission.present(gate, _Shown(token, is_ticket=False), address="203.0.113.9")
        except (UnauthorizedError, RateLimitedError) as refusal:
            return type(refusal)
        return None

    assert [await shake("good") for _ in range(2)] == [None, None]
    assert [await number(limits, rows.known["good"]) for _ in range(2)] == [3, 4]
    assert await shake("good") is RateLimitedError
    assert not await is_let_in(limits, rows.known["good"])
    assert await shake("other") is None
    outcomes = [await shake("made up") for _ in range(4)]
    assert outcomes == [UnauthorizedError] * 3 + [RateLimitedError]
    assert not await is_let_in(limits, None)
    assert await shake("other") is None


async def test_a_crowd_goes_together_and_one_alone_at_once() -> None:
    gathering = Gathering(every=3600.0)
    with pytest.raises(StopIteration):
        gathering.end().send(None)
    crowd = [asyncio.create_task(gathering.end()) for _ in range(3)]
    await asyncio.sleep(0)
    assert gathering._ending is not None
    crowd[0].cancel()
    _, pending = await asyncio.wait(crowd, timeout=0.05)
    assert pending == {*crowd[1:]}
    gathering._go(gathering._ending)
    await asyncio.gather(*crowd[1:])
    late = asyncio.create_task(gathering.end())
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()
