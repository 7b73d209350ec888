"""The edge's counts and keys, over the real stores, by two gateways at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from litestar.types import Receive, Scope, Send
from nats.aio.client import Client
from runtime import broker
from runtime import database as databases
from runtime.database import Pool
from runtime.embedded import EmbeddedNats
from runtime.errors import (
    StateConflictError,
    UnauthorizedError,
    UnavailableError,
)
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.edge import counters, idempotency
from services.gateway.edge.address import Addresses
from services.gateway.edge.counters import STREAM, Counters
from services.gateway.edge.door import Door
from services.gateway.edge.idempotency import ANSWER_BYTES_MAX, KEPT_FOR, LEASE, Identity, Once, Reply
from services.gateway.edge.limits import UNMETERED, Limits
from services.gateway.errors import IdempotencyConflictError, RequestRunningError
from services.gateway.identity.access.authority import Authority
from services.gateway.identity.tokens import Claimed, Principal, issue_ticket
from services.gateway.subscriptions.tickets import Tickets
from tests.services.gateway.tenants import Tenant, execute, onboard

NOW = datetime(2026, 5, 17, 10, 0, 30, tzinfo=UTC)
SECRET = "a-secret-for-tests-of-32-characters"
ANSWER = Reply(201, {"ETag": '"x"'}, b'{"token":"shown once"}')


class Clock:
    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def principal(workspace_id: str, *, limit: int | None = 10, organization_id: str = "") -> Principal:
    return Principal(
        workspace_id=workspace_id,
        organization_id=organization_id or f"org_{workspace_id}",
        user_id="usr_1",
        role="owner",
        scopes=frozenset(),
        session_id="ses_1",
        expires_at=NOW + timedelta(hours=1),
        requests_per_minute=limit,
    )


async def number(limits: Limits, who: Principal | None, *, address: str = "203.0.113.9") -> int:
    ticket = limits.take(address=address, principal=who)
    assert ticket is not None
    return (await ticket.standing()).used


async def is_let_in(limits: Limits, who: Principal | None, *, address: str = "203.0.113.9") -> bool:
    ticket = limits.take(address=address, principal=who)
    assert ticket is not None
    return not (await ticket.standing()).is_over


@pytest.fixture(autouse=True)
def patient_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is enough for a server that has a processor, and not on a machine that is busy with other tests."""
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 30.0)


async def counting(nc: Client) -> Counters:
    """The counters as a gateway has them."""
    made = Counters(nc)
    await made.start()
    return made


# Rate limits


async def test_two_gateways_let_in_exactly_as_many_as_the_plan_allows(
    nats_server: EmbeddedNats, nc: Client
) -> None:
    """Numbers are given out once each, over both; the next window begins anew."""
    other = await broker.connect(nats_server.url, name="other")
    try:
        clock = Clock()
        gateways = [
            Limits(await counting(client), per_address=600, per_connector=9, clock=clock)
            for client in (nc, other)
        ]
        who = principal("ws_1", limit=100)
        asked = [is_let_in(gateways[index % 2], who) for index in range(400)]
        assert sum(await asyncio.gather(*asked)) == 100
        assert not await is_let_in(gateways[0], who)
        clock.now += timedelta(seconds=30)
        assert await is_let_in(gateways[0], who)
    finally:
        await other.close()


async def test_a_ticket_is_taken_once_over_two_gateways(nc: Client, nats_url: str) -> None:
    """And not at all when nobody can say whether it was taken before."""
    other = await broker.connect(nats_url, name="another gateway")
    try:
        doors = [Tickets(await counting(client), secrets=(SECRET,), clock=Clock()) for client in (nc, other)]
        ticket = issue_ticket(principal("ws_1"), secret=SECRET, now=NOW)
        taken = await asyncio.gather(*(doors[n % 2].take(ticket) for n in range(10)), return_exceptions=True)
        assert [each.workspace_id for each in taken if isinstance(each, Claimed)] == ["ws_1"]
        assert sum(isinstance(each, UnauthorizedError) for each in taken) == 9
    finally:
        await other.close()
    with pytest.raises(UnavailableError):
        await doors[1].take(issue_ticket(principal("ws_1"), secret=SECRET, now=NOW))


async def test_buckets_are_counted_apart(nc: Client) -> None:
    """Organizations and addresses take nothing from each other; workspaces of one organization share."""
    limits = Limits(await counting(nc), per_address=600, per_connector=9, clock=Clock())
    first, second = principal("ws_1", organization_id="org_1"), principal("ws_2", organization_id="org_1")
    assert [await number(limits, first), await number(limits, second)] == [1, 2]
    assert await number(limits, principal("ws_3")) == 1
    assert await number(limits, None) == 1
    assert await number(limits, None, address="203.0.113.10") == 1
    assert await number(limits, None, address="2001:db8::1") == 1
    assert await number(limits, None, address="2001:db8::2") == 2
    assert limits.take(address="203.0.113.9", principal=principal("ws_4", limit=None)) is None


async def test_a_standing_says_what_is_left_and_when_it_begins_again(nc: Client) -> None:
    """Half a minute into the window, so 30 seconds remain."""
    limits = Limits(await counting(nc), per_address=2, per_connector=9, clock=Clock())
    for left in (b"1", b"0", b"0"):
        ticket = limits.take(address="203.0.113.9", principal=None)
        assert ticket is not None
        headers = dict((await ticket.standing()).headers())
        assert headers == {
            b"x-ratelimit-limit": b"2",
            b"x-ratelimit-remaining": left,
            b"x-ratelimit-reset": b"30",
        }


async def test_a_full_window_is_refused_without_asking_the_store(nc: Client) -> None:
    """Whoever floods us costs the store nothing more in that window."""
    limits = Limits(await counting(nc), per_address=1, per_connector=9, clock=Clock())
    assert [await is_let_in(limits, None) for _ in range(3)] == [True, False, False]
    before = nc.stats["out_msgs"]
    assert not await is_let_in(limits, None)
    assert nc.stats["out_msgs"] == before


async def test_an_address_is_full_from_its_last_request_on(nc: Client) -> None:
    """As the last number said, so that the next one need not be counted; until the next minute."""
    clock = Clock()
    limits = Limits(await counting(nc), per_address=2, per_connector=9, clock=clock)
    full = []
    for _ in range(2):
        full.append(limits.is_full("203.0.113.9"))
        assert await is_let_in(limits, None)
    before = nc.stats["out_msgs"]
    ticket = limits.take(address="203.0.113.9", principal=None)
    assert ticket is not None
    assert (*full, limits.is_full("203.0.113.9"), limits.is_full("203.0.113.10")) == (
        False,
        False,
        True,
        False,
    )
    assert (ticket.is_refused, nc.stats["out_msgs"]) == (True, before)
    clock.now += timedelta(seconds=30)
    assert not limits.is_full("203.0.113.9")


class Rows:
    """Who tokens speak for, and which of them had to be looked up."""

    def __init__(self, known: dict[str, Principal]) -> None:
        self.known = known
        self.revision = 0
        self.looked_up: list[str] = []

    def is_known(self, token: str) -> bool:
        return token in self.known

    async def principal(self, token: str) -> Principal:
        if token not in self.known:
            self.looked_up.append(token)
            raise UnauthorizedError("unknown")
        return self.known[token]


async def test_whoever_is_over_the_limit_makes_nobody_work(nc: Client) -> None:
    """Neither the application, nor the counters, nor the database for a token that is made up; good ones pass."""
    rows = Rows({"small": principal("ws_1", limit=1), "large": principal("ws_2", limit=100)})
    ran: list[str] = []

    async def inner(scope: Scope, _receive: Receive, send: Send) -> None:
        ran.append(scope["state"]["token"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    door = Door(
        inner,
        access=cast(Authority, rows),
        limits=Limits(await counting(nc), per_address=2, per_connector=9, clock=Clock()),
        addresses=Addresses(),
        origins=(),
        own_origin="",
        is_production=False,
    )

    async def get(token: str) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        scope: Any = {
            "type": "http",
            "method": "GET",
            "path": "/v1/issues",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
            "client": ("203.0.113.9", 1),
            "state": {"token": token},
        }
        await door(scope, cast(Receive, None), send)
        return statuses[0]

    assert [await get("small") for _ in range(3)] == [200, 429, 429]
    assert [await get(f"made-up-{n}") for n in range(4)] == [200, 200, 429, 429]
    asked = nc.stats["out_msgs"]
    assert [await get("small"), await get("made-up-5")] == [429, 429]
    assert nc.stats["out_msgs"] == asked
    assert await get("large") == 200
    assert rows.looked_up == ["made-up-0", "made-up-1"]
    assert ran == ["small", "made-up-0", "made-up-1", "large"]


async def test_requests_pass_uncounted_while_the_store_is_away(nc: Client) -> None:
    """Fail open, with a metric; the store is made again when it has lost everything, and counting goes on."""
    limits = Limits(await counting(nc), per_address=1, per_connector=9, clock=Clock())
    assert await is_let_in(limits, None, address="203.0.113.1")
    await nc.jetstream().delete_stream(STREAM)
    before = UNMETERED._value.get()
    # At once, for the store may be there again a second later.
    asked = (is_let_in(limits, None, address="203.0.113.2") for _ in range(2))
    assert await asyncio.gather(*asked) == [True, True]
    assert UNMETERED._value.get() == before + 2

    async def is_counted() -> bool:
        return not await is_let_in(limits, None, address="203.0.113.3")

    await eventually(is_counted)


# Keys


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = databases.pool(database.app_url, schema="identity", max_size=6)
    await pool.open()
    yield pool
    await pool.close()


class Work:
    """Counts how often it runs, and can be held up."""

    def __init__(self, reply: Reply = ANSWER) -> None:
        self.reply = reply
        self.runs = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> Reply:
        self.runs += 1
        self.begun.set()
        await self.may_end.wait()
        return self.reply


def identity(tenant: Tenant, key: str = "k1") -> Identity:
    return Identity(
        workspace_id=tenant.workspace_id, principal_id="usr_1", method="POST", path="/v1/issues", key=key
    )


@pytest.fixture
async def tenant(database: Database, pool: Pool) -> Tenant:
    return await onboard(database.owner_url)


def gateways(pool: Pool, clock: Clock) -> tuple[Once, Once]:
    return Once(pool, secret=SECRET, clock=clock), Once(pool, secret=SECRET, clock=clock)


async def test_a_repeat_gets_the_first_answer_and_runs_nothing(pool: Pool, tenant: Tenant) -> None:
    """Also at another gateway; after a day the key is free."""
    clock, work = Clock(), Work()
    first, second = gateways(pool, clock)
    assert await first.run(identity(tenant), content=b"body", work=work) == ANSWER
    replayed = await second.run(identity(tenant), content=b"body", work=work)
    assert (replayed.status, replayed.body, dict(replayed.headers)) == (
        201,
        ANSWER.body,
        {"ETag": '"x"', "Idempotency-Replayed": "true"},
    )
    assert work.runs == 1
    clock.now += KEPT_FOR
    assert await second.run(identity(tenant), content=b"body", work=work) == ANSWER
    assert work.runs == 2


async def test_twins_run_once(pool: Pool, tenant: Tenant) -> None:
    """Whoever comes while the first runs waits for its answer."""
    clock, work = Clock(), Work()
    work.may_end.clear()
    asked = [
        asyncio.create_task(once.run(identity(tenant), content=b"body", work=work))
        for once in gateways(pool, clock) * 4
    ]
    await work.begun.wait()
    work.may_end.set()
    bodies = {(await reply).body for reply in asked}
    assert (work.runs, bodies) == (1, {ANSWER.body})


async def test_a_twin_gives_up_when_the_first_takes_too_long(
    pool: Pool, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a Retry-After."""
    monkeypatch.setattr(idempotency, "WAIT_SECONDS_MAX", 0.2)
    work = Work()
    work.may_end.clear()
    first, second = gateways(pool, Clock())
    running = asyncio.create_task(first.run(identity(tenant), content=b"body", work=work))
    await work.begun.wait()
    with pytest.raises(RequestRunningError) as caught:
        await second.run(identity(tenant), content=b"body", work=work)
    assert caught.value.retry_after == 1.0
    work.may_end.set()
    await running


async def test_another_body_under_the_same_key_is_refused(pool: Pool, tenant: Tenant) -> None:
    """Also while the first still runs; another key, path or person is another request."""
    work = Work()
    once, _ = gateways(pool, Clock())
    await once.run(identity(tenant), content=b"body", work=work)
    with pytest.raises(IdempotencyConflictError, match="another request"):
        await once.run(identity(tenant), content=b"other", work=work)
    await once.run(identity(tenant, "k2"), content=b"other", work=work)
    assert work.runs == 2


@pytest.mark.parametrize("status", [304, 400, 500])
async def test_only_success_is_kept(pool: Pool, tenant: Tenant, status: int) -> None:
    """After a failure the key is free."""
    once, _ = gateways(pool, Clock())
    failing, work = Work(Reply(status, {}, b"")), Work()
    await once.run(identity(tenant), content=b"body", work=failing)
    assert await once.run(identity(tenant), content=b"another", work=work) == ANSWER


async def test_a_refusal_frees_the_key(pool: Pool, tenant: Tenant) -> None:
    """It is raised to the caller all the same."""
    once, _ = gateways(pool, Clock())

    async def refuse() -> Reply:
        raise StateConflictError("no")

    with pytest.raises(StateConflictError):
        await once.run(identity(tenant), content=b"body", work=refuse)
    assert await once.run(identity(tenant), content=b"body", work=Work()) == ANSWER


async def test_the_key_of_a_process_that_died_is_free_after_its_lease(pool: Pool, tenant: Tenant) -> None:
    """And what the dead one may still write is not taken."""
    clock = Clock()
    first, second = gateways(pool, clock)
    dead, work = Work(Reply(200, {}, b"late")), Work()
    dead.may_end.clear()
    running = asyncio.create_task(first.run(identity(tenant), content=b"body", work=dead))
    await dead.begun.wait()
    clock.now += LEASE
    assert await second.run(identity(tenant), content=b"body", work=work) == ANSWER
    dead.may_end.set()
    await running
    assert (await second.run(identity(tenant), content=b"body", work=work)).body == ANSWER.body
    assert work.runs == 1


async def test_an_answer_that_is_too_long_is_never_run_twice(pool: Pool, tenant: Tenant) -> None:
    """The repeat is told that it was carried out."""
    once, _ = gateways(pool, Clock())
    work = Work(Reply(200, {}, b"x" * (ANSWER_BYTES_MAX + 1)))
    await once.run(identity(tenant), content=b"body", work=work)
    with pytest.raises(IdempotencyConflictError, match="carried out with 200"):
        await once.run(identity(tenant), content=b"body", work=work)
    assert work.runs == 1


async def test_stored_answers_are_sealed_with_the_callers_key(
    database: Database, pool: Pool, tenant: Tenant
) -> None:
    """Neither the answer nor the key nor who sent it can be read in the table; another secret opens nothing."""
    once, _ = gateways(pool, Clock())
    await once.run(identity(tenant, "the-callers-key"), content=b"body", work=Work())
    [(row,)] = await execute(database.owner_url, "SELECT k::text FROM idempotency_keys AS k")
    for text in ("shown once", "the-callers-key", "usr_1", "/v1/issues"):
        assert text not in row
        assert text.encode().hex() not in row
    turned = Once(pool, secret=SECRET[::-1], clock=Clock())
    with pytest.raises(IdempotencyConflictError, match="no longer"):
        await turned.run(identity(tenant, "the-callers-key"), content=b"body", work=Work())


async def test_keys_are_purged_when_they_are_over(database: Database, pool: Pool, tenant: Tenant) -> None:
    """Of every workspace; and all of a workspace go with it."""
    clock = Clock()
    once, _ = gateways(pool, clock)
    other = await onboard(database.owner_url)
    await once.run(identity(tenant), content=b"body", work=Work())
    await once.run(identity(other), content=b"body", work=Work())
    assert await once.purge_once() == 0
    clock.now += KEPT_FOR
    await once.run(identity(tenant, "k2"), content=b"body", work=Work())
    assert await once.purge_once() == 2
    await execute(
        database.owner_url, "DELETE FROM organizations WHERE organization_id = %s", tenant.organization_id
    )
    assert await execute(database.owner_url, "SELECT count(*) FROM idempotency_keys") == [(0,)]


async def test_only_one_is_inside_at_a_time(pool: Pool, tenant: Tenant) -> None:
    """What conditional changes of one resource rely on."""
    inside = most = 0

    async def enter(once: Once) -> None:
        nonlocal inside, most
        async with once.alone(tenant.workspace_id, "/v1/issues/iss_1", busy=UnavailableError("wait")):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(enter(once) for once in gateways(pool, Clock()) * 3))
    assert most == 1


async def test_whoever_waits_too_long_for_others_hears_the_callers_words(
    pool: Pool, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the same request still runs, which it does not."""
    monkeypatch.setattr(idempotency, "TURN_SECONDS_MAX", 0.1)
    busy = UnavailableError("Many are at it. Try again in a moment.")
    first, second = gateways(pool, Clock())
    async with first.alone(tenant.workspace_id, "analyses", busy=busy):
        with pytest.raises(UnavailableError, match="Many are at it"):
            async with second.alone(tenant.workspace_id, "analyses", busy=busy):
                raise AssertionError("two are inside")
