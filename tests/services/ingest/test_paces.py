"""The pace of an account over several processes, on a real PostgreSQL."""

import asyncio
from datetime import timedelta

import pytest
from runtime.database import Pool
from runtime.errors import UnavailableError

from services.ingest.vendors.paces import FORGOTTEN_AFTER, SharedPaces
from services.ingest.vendors.rate_limiter import RateLimiter
from tests.services.ingest.test_records import Clock

GAP = 1.1


async def process(pool: Pool, clock: Clock) -> tuple[RateLimiter, SharedPaces]:
    """As one of several has it."""
    paces = SharedPaces(pool, key=b"k" * 32, clock=clock)
    await paces.start()
    return RateLimiter(lambda: clock().timestamp(), paces), paces


async def test_processes_ask_an_account_as_fast_as_one(sources_pool: Pool) -> None:
    """However many ask at the same moment; names of accounts, which follow from secrets, are not to be read."""
    clock = Clock()
    (one, paces), (two, _) = [await process(sources_pool, clock) for _ in range(2)]
    waits = await asyncio.gather(
        *(
            asyncio.to_thread(rate_limiter.wait, "account", 60)
            for rate_limiter in (one, two)
            for _ in range(6)
        )
    )
    assert sorted(waits) == pytest.approx([max(0.0, n * GAP - 3) for n in range(1, 13)], abs=1e-3)
    assert await asyncio.to_thread(two.wait, "another", 60) == 0
    # Who finds no turn is told to come back behind those of the other process.
    told = [
        await asyncio.to_thread(rate_limiter.wait, "account", 60, most=1.0) for rate_limiter in (one, two)
    ]
    assert told == pytest.approx([13 * GAP - 3, 14 * GAP - 3], abs=1e-3)
    async with sources_pool.connection() as conn:
        rows = await (await conn.execute("SELECT account FROM paces")).fetchall()
    assert [len(account) for (account,) in rows] == [64, 64]
    assert await paces.forget() == 0
    clock.now += FORGOTTEN_AFTER + timedelta(seconds=1)
    assert await paces.forget() == 2
    assert await asyncio.to_thread(one.wait, "account", 60) == 0


async def test_without_the_database_no_vendor_is_asked(sources_pool: Pool) -> None:
    rate_limiter, _ = await process(sources_pool, Clock())
    await sources_pool.close()
    with pytest.raises(UnavailableError):
        await asyncio.to_thread(rate_limiter.wait, "account", 60)
