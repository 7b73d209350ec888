"""The real process: killed under load and started again, verified, replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from contracts import Event, Recorded, prediction
from eventlog import Append, EventLog
from runtime import broker
from testkit.stack import Stack, running_stack
from testkit.waiting import eventually

from .conftest import detected, envelope, linked

N_PATTERNS = 40


@asynccontextmanager
async def log_of(stack: Stack) -> AsyncIterator[EventLog]:
    """The stack's event log."""
    nc = await broker.connect(stack.nats.url, name="test")
    try:
        yield await EventLog.connect(nc)
    finally:
        await nc.close()


async def everything(log: EventLog) -> list[Recorded[Event]]:
    """All events there are."""
    end = await log.last_seq()
    found: list[Recorded[Event]] = []
    async for batch in log.read(0, after=0, aggregates=("prediction",), until=end):
        found.extend(batch.events)
        if batch.last_seq >= end or not batch.pending:
            break
    return found


async def report(log: EventLog, number: int, now: datetime) -> None:
    """A detected pattern, as pattern would report it.

    Of the last week only: from more a model would be learned meanwhile, and each pattern forecast by it once more.
    """
    name = f"pat_{number:02}"
    times = [now - timedelta(days=day, hours=number % 20) for day in (6, 3, 1)]
    for data in (linked(name, *times, n_issues=3), detected(name, 3)):
        await log.append(Append(envelope(data, name, time=now), None))


async def test_a_killed_process_loses_and_repeats_nothing() -> None:
    """Killed while patterns arrive: each is forecast exactly once, hits follow, and a replay gives the same rows."""
    now = datetime.now(UTC)
    async with running_stack(services=("prediction",)) as stack, log_of(stack) as log:
        service = stack.services["prediction"]
        for number in range(N_PATTERNS):
            await report(log, number, now)
            if number in (10, 25):
                service.kill()
                service.start()

        async def forecasts() -> Counter[str]:
            made = [e.data for e in await everything(log) if isinstance(e.data, prediction.PredictionMade)]
            return Counter(one.pattern_id for one in made)

        async def all_forecast() -> bool:
            return (await forecasts()).total() >= 3 * N_PATTERNS

        await eventually(all_forecast, deadline=120, every=0.2)
        assert set((await forecasts()).values()) == {3}
        assert len(await forecasts()) == N_PATTERNS
        later = datetime.now(UTC)
        for number in range(N_PATTERNS):
            name = f"pat_{number:02}"
            await log.append(Append(envelope(linked(name, later, n_issues=4), name, time=later), None))
        service.kill()
        service.start()

        async def hits() -> Counter[str]:
            found = await everything(log)
            return Counter(e.aggregate_id for e in found if isinstance(e.data, prediction.PredictionResolved))

        async def all_hit() -> bool:
            return len(await hits()) >= 3 * N_PATTERNS

        await eventually(all_hit, deadline=120, every=0.2)
        assert set((await hits()).values()) == {1}
        assert len(await hits()) == 3 * N_PATTERNS
        code, report_text = await service.run("verify")
        assert code == 0, report_text
        code, report_text = await service.run("replay")
        assert code == 0, report_text
        code, report_text = await service.run("verify")
        assert code == 0, report_text
        assert service.stop() == 0
