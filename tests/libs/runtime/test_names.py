"""Names are looked up for all tenants: one whose names nobody answers for is in no other's way."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from runtime import names, outbound
from runtime.names import AT_ONCE, OF_ONE, WAITING_MAX, Found, Names
from runtime.outbound import EVERYWHERE, Outbound, OutboundError
from testkit.waiting import eventually

ADDRESS = "8.8.8.8"
PATIENCE = 30.0
"""Seconds: for an answer that comes at once, on a machine that may be away for some of them."""


class Resolver:
    """In place of the system's. Names that begin with "slow" hang until it is over; each asked for by a thread."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.now = 0.0
        self._is_over = threading.Event()
        self.names = Names(self.look_up, monotonic=lambda: self.now)

    def look_up(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self._is_over.wait(2 * PATIENCE)
        if host.endswith(".nowhere"):
            raise OutboundError(f"{host} is not known")
        return [ADDRESS]

    def hang(self, tenant: str, n: int) -> list[Found]:
        """So many look-ups of a tenant, each of another name, of which those that began are not answered."""
        return [self.names.find(f"slow-{number}.{tenant}.example", tenant=tenant) for number in range(n)]

    def end(self) -> None:
        """Answer for all."""
        self._is_over.set()

    def begin_again(self) -> None:
        """Names hang again."""
        self._is_over.clear()


def tenants_asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For whom names are looked up from now on, in order."""
    find, tenants = outbound._names.find, []

    def noted(host: str, *, tenant: str = "") -> Found:
        tenants.append(tenant)
        return find(host, tenant=tenant)

    monkeypatch.setattr(outbound._names, "find", noted)
    return tenants


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.end()


async def test_a_tenant_whose_names_hang_is_in_nobodys_way(resolver: Resolver) -> None:
    """However many it asks for, it holds a few threads; what is beyond that waits, and is looked up in its turn."""
    hanging = resolver.hang("ws_a", AT_ONCE)
    assert resolver.names.find("api.example", tenant="ws_b").result(PATIENCE) == [ADDRESS]
    assert resolver.names.find("idp.example").result(PATIENCE) == [ADDRESS]
    assert not any(each.done() for each in hanging)
    # Each thread counts in its own time what it was asked for.
    await eventually(lambda: resolver.asked.total() >= OF_ONE + 2)
    assert resolver.asked.total() == OF_ONE + 2
    resolver.end()
    assert [each.result(PATIENCE) for each in hanging] == [[ADDRESS]] * AT_ONCE


async def test_tenants_whose_names_hung_share_half_of_the_threads(resolver: Resolver) -> None:
    """So however many they are, the names of the others are looked up at once."""
    owners = [f"ws_{number}" for number in range(AT_ONCE // OF_ONE)]
    first = [each for owner in owners for each in resolver.hang(owner, OF_ONE)]
    late = resolver.names.find("api.example", tenant="ws_b")
    assert not late.done()
    await eventually(lambda: resolver.asked.total() == AT_ONCE)
    resolver.now += names.SLOW_SECONDS + 1
    resolver.end()
    assert [each.result(PATIENCE) for each in [*first, late]] == [[ADDRESS]] * (AT_ONCE + 1)
    resolver._is_over.clear()
    resolver.asked.clear()
    again = [each for owner in owners for each in resolver.hang(owner, OF_ONE)]
    assert resolver.names.find("api.example", tenant="ws_b").result(PATIENCE) == [ADDRESS]
    resolver.end()
    assert [each.result(PATIENCE) for each in again] == [[ADDRESS]] * AT_ONCE


def test_too_many_that_wait_are_refused_and_those_that_were_given_up_do_not_count(resolver: Resolver) -> None:
    hanging = resolver.hang("ws_a", OF_ONE + WAITING_MAX)
    with pytest.raises(TimeoutError, match="too many"):
        resolver.names.find("api.example", tenant="ws_a").result(0)
    given_up = hanging[-1]
    assert given_up.cancel()
    last = resolver.names.find("api.example", tenant="ws_a")
    assert not last.done()
    resolver.end()
    assert last.result(PATIENCE) == [ADDRESS]
    assert resolver.asked["slow-67.ws_a.example"] == 0


def test_a_name_is_looked_up_once_for_all_who_ask_meanwhile(resolver: Resolver) -> None:
    """Also for another tenant; who gives up takes it from nobody, and who asks afterwards asks anew."""
    host = "slow.vendor.example"
    found = [resolver.names.find(host, tenant=tenant) for tenant in ("ws_a", "ws_a", "ws_b", "")]
    assert found[0].cancel()
    resolver.end()
    assert [each.result(PATIENCE) for each in found[1:]] == [[ADDRESS]] * 3
    assert resolver.names.find(host, tenant="ws_a").result(PATIENCE) == [ADDRESS]
    assert resolver.asked[host] == 2


def test_what_waits_for_one_tenant_keeps_the_name_from_no_other(resolver: Resolver) -> None:
    """Only what is looked up already is shared: else a name would wait behind those that hang."""
    resolver.hang("ws_a", OF_ONE)
    waits = resolver.names.find("api.example", tenant="ws_a")
    assert resolver.names.find("api.example", tenant="ws_b").result(PATIENCE) == [ADDRESS]
    assert not waits.done()


def test_a_name_that_is_not_known_is_said_to_all_and_frees_its_place(resolver: Resolver) -> None:
    failing = [resolver.names.find(f"{n}.nowhere", tenant="ws_a") for n in range(OF_ONE + 1)]
    for each in failing:
        with pytest.raises(OutboundError, match="not known"):
            each.result(PATIENCE)
    assert resolver.names.find("api.example", tenant="ws_a").result(PATIENCE) == [ADDRESS]


async def test_beyond_the_bound_a_request_fails_in_time_and_may_be_tried_again(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loop and by threads alike; another tenant's gets its answer meanwhile."""
    monkeypatch.setattr(outbound, "_names", resolver.names)
    monkeypatch.setattr(outbound, "SECONDS", 0.05)
    resolver.hang("ws_a", OF_ONE)
    with pytest.raises(OutboundError, match="in time") as by_loop:
        await Outbound(EVERYWHERE).of("ws_a").send("GET", "https://api.example/", headers={}, seconds=0.05)
    with pytest.raises(OutboundError, match="in time") as by_thread:
        await asyncio.to_thread(EVERYWHERE.of("ws_a").resolve, "https", "api.example")
    for caught in (by_loop, by_thread):
        assert (caught.value.is_refused, caught.value.is_sent) == (False, False)
    assert resolver.asked["api.example"] == 0
    monkeypatch.setattr(outbound, "SECONDS", PATIENCE)
    await Outbound(EVERYWHERE).of("ws_b").check("https://api.example/")
    assert await asyncio.to_thread(EVERYWHERE.of("ws_b").resolve, "https", "api.example") == ADDRESS
    resolver.end()
    await eventually(lambda: resolver.names.find("api.example", tenant="ws_a").result(PATIENCE) == [ADDRESS])


async def test_a_name_of_nobodys_in_particular_is_not_put_among_the_slow(resolver: Resolver) -> None:
    """One lost packet, and the operator's own identity provider would wait behind strangers' names."""
    tenants = [f"ws_{number}" for number in range(AT_ONCE // 2 // OF_ONE)]
    late = [resolver.names.find("slow-own.example"), *(resolver.hang(each, 1)[0] for each in tenants)]
    await eventually(lambda: resolver.asked.total() == len(late))
    resolver.now += 60
    resolver.end()
    assert [list(each.result(PATIENCE)) for each in late] == [[ADDRESS]] * len(late)
    resolver.begin_again()
    for each in tenants:
        resolver.hang(each, OF_ONE)
    again = resolver.names.find("slow-own.example")
    await eventually(lambda: resolver.asked["slow-own.example"] == 2)
    resolver.end()
    assert list(again.result(PATIENCE)) == [ADDRESS]


def test_a_name_for_which_no_thread_starts_is_refused_and_holds_nothing(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(resolver.names._threads, "submit", submit)
        for _ in range(AT_ONCE + 1):
            with pytest.raises(OSError, match="new thread"):
                resolver.names.find("a.example", tenant="ws_1").result(PATIENCE)
    assert list(resolver.names.find("a.example", tenant="ws_1").result(PATIENCE)) == [ADDRESS]
