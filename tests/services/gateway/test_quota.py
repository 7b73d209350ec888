"""Events of the month, counted over the real store, by two gateways at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from contracts import workspace
from psycopg import AsyncConnection, OperationalError
from runtime import database as databases
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.errors import PlanLimitError, ValidationFailedError
from testkit.servers import Database

from services.gateway.edge import _queries
from services.gateway.edge.quota import Quota
from tests.services.gateway.tenants import Tenant, execute, onboard
from tests.services.gateway.test_edge_stores import Clock


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = databases.pool(database.app_url, schema="identity", max_size=6)
    await pool.open()
    yield pool
    await pool.close()


async def client_with_events(database: Database, events: int | None) -> Tenant:
    """A client on a plan of its own."""
    tenant = await onboard(database.owner_url)
    await execute(
        database.owner_url,
        "INSERT INTO plans (plan, requests_per_minute, events_per_month) VALUES (%s, 1000, %s)",
        tenant.slug,
        events,
    )
    await execute(
        database.owner_url, "UPDATE organizations SET plan = %s WHERE slug = %s", tenant.slug, tenant.slug
    )
    return tenant


async def taken(quota: Quota, tenant: Tenant, n: int) -> int:
    try:
        await quota.take(tenant.workspace_id, n)
    except PlanLimitError:
        return 0
    return n


async def counted(database: Database, tenant: Tenant) -> list[tuple[object, ...]]:
    return await execute(
        database.owner_url,
        "SELECT month::text, events FROM event_usage WHERE organization_id = %s ORDER BY month",
        tenant.organization_id,
    )


async def test_two_gateways_never_take_more_events_than_the_plan_allows(
    database: Database, pool: Pool
) -> None:
    """Single records fill the month to the last one, and what is taken is what is counted."""
    tenant = await client_with_events(database, 57)
    gateways = [Quota(pool, clock=Clock()) for _ in range(2)]
    results = await asyncio.gather(*(taken(gateways[index % 2], tenant, 1) for index in range(150)))
    assert sum(results) == 57
    assert await counted(database, tenant) == [("2026-05-01", 57)]


async def test_batches_count_whole_or_not_at_all(database: Database, pool: Pool) -> None:
    """A batch that does not fit leaves room for what does."""
    tenant = await client_with_events(database, 100)
    quota = Quota(pool, clock=Clock())
    assert [await taken(quota, tenant, n) for n in (60, 41, 500, 39, 1, 1)] == [60, 0, 0, 39, 1, 0]
    gateways = [Quota(pool, clock=Clock()) for _ in range(2)]
    other = await client_with_events(database, 1000)
    results = await asyncio.gather(*(taken(gateways[n % 2], other, n) for n in range(1, 101)))
    assert sum(results) <= 1000
    assert await counted(database, other) == [("2026-05-01", sum(results))]
    # Whatever the order was, nothing that was refused would still fit.
    assert min(n for n, got in enumerate(results, 1) if not got) > 1000 - sum(results)


async def test_sources_are_told_how_many_of_their_records_fit(database: Database, pool: Pool) -> None:
    """They come as they are, so what fits is taken; also while others fill the month."""
    tenant = await client_with_events(database, 100)
    served = [Quota(pool, clock=Clock()).endpoints()[0].handle for _ in range(2)]
    context = CommandContext(workspace_id=tenant.workspace_id, correlation_id="run")

    async def ask(index: int, n: int) -> workspace.EventsTaken:
        said = await served[index % 2](workspace.TakeEvents(n_records=n), context)
        assert isinstance(said, workspace.EventsTaken)
        return said

    first = await ask(0, 60)
    assert (first.n_records, first.reason) == (60, "")
    said = await asyncio.gather(*(ask(index, 30) for index in range(4)))
    assert sum(each.n_records for each in said) == 40
    assert all("allows 100 events a month" in each.reason for each in said if each.n_records < 30)
    assert await counted(database, tenant) == [("2026-05-01", 100)]
    with pytest.raises(ValidationFailedError):
        await ask(0, 0)


async def test_the_refusal_names_the_limit_the_plan_and_the_day(database: Database, pool: Pool) -> None:
    """So that a program can tell, and wait; the next month begins anew."""
    tenant = await client_with_events(database, 5)
    clock = Clock(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    quota = Quota(pool, clock=clock)
    await quota.take(tenant.workspace_id, 4)
    with pytest.raises(PlanLimitError) as caught:
        await quota.take(tenant.workspace_id, 2)
    assert caught.value.details == {
        "limit": "events_per_month",
        "plan": tenant.slug,
        "allowed": "5",
        "used": "4",
        "resets_at": "2027-01-01T00:00:00Z",
    }
    clock.now += timedelta(minutes=2)
    assert await taken(quota, tenant, 5) == 5


async def test_a_plan_without_a_number_has_no_end(database: Database, pool: Pool) -> None:
    """It is counted all the same."""
    tenant = await client_with_events(database, None)
    assert await taken(Quota(pool, clock=Clock()), tenant, 10**9) == 10**9
    assert await counted(database, tenant) == [("2026-05-01", 10**9)]


async def test_nobody_waits_for_the_count_of_a_plan_without_a_number(database: Database, pool: Pool) -> None:
    """Not while the row is locked either; when plans may have changed they wait again, and nothing is lost."""
    tenant = await client_with_events(database, None)
    revision: list[int | None] = [1]
    quota = Quota(pool, clock=Clock(), revision=lambda: revision[0])
    await quota.take(tenant.workspace_id, 1)
    async with (
        await AsyncConnection.connect(database.owner_url, options="-c search_path=identity") as conn,
        asyncio.timeout(30),
    ):
        await conn.execute("SELECT FROM event_usage FOR UPDATE")
        for _ in range(20):
            await quota.take(tenant.workspace_id, 2)
        for revised in (2, None):
            revision[0] = revised
            waiting = asyncio.create_task(quota.take(tenant.workspace_id, 3))
            assert not (await asyncio.wait([waiting], timeout=0.1))[0]
        await conn.commit()
        await waiting
    await quota.finish()
    assert await counted(database, tenant) == [("2026-05-01", 1 + 20 * 2 + 2 * 3)]


async def test_what_could_not_be_counted_is_counted_later(
    database: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure the next one waits for the database, and brings along what nobody waited for."""
    tenant = await client_with_events(database, None)
    quota = Quota(pool, clock=Clock(), revision=lambda: 1)
    await quota.take(tenant.workspace_id, 1)
    take_events = _queries.take_events

    async def fail(*_: object, **__: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(_queries, "take_events", fail)
    await quota.take(tenant.workspace_id, 10)
    await quota.finish()
    with pytest.raises(OperationalError):
        await quota.take(tenant.workspace_id, 100)
    monkeypatch.setattr(_queries, "take_events", take_events)
    await quota.take(tenant.workspace_id, 1000)
    assert await counted(database, tenant) == [("2026-05-01", 1011)]
