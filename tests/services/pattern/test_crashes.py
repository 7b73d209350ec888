"""A decision that is cut short, at any event of it: afterwards every issue has exactly one membership."""

import asyncio
from collections import Counter
from typing import Literal, cast

import pytest
from contracts import pattern
from eventlog import Append, EventLog, LogUnavailableError
from testkit.servers import Database
from testkit.waiting import eventually

from services.pattern.commands import Decided
from services.pattern.reactions.reaction import in_batches

from .running import CONTEXT, NOW, WORKSPACE, Running, failure, running

Fault = Literal["lost_before", "lost_after", "crash_before", "crash_after"]
N_ISSUES = 9


class FaultyLog:
    """An event log that fails once, before or after it stored the n-th decision."""

    def __init__(self, real: EventLog, *, at: int, fault: Fault) -> None:
        self._real = real
        self._left = at
        self._fault = fault
        self.has_crashed = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def append(self, *appends: Append) -> int:
        self._left -= 1
        if self._left != 0:
            return await self._real.append(*appends)
        if self._fault.endswith("after"):
            await self._real.append(*appends)
        if self._fault.startswith("lost"):
            raise LogUnavailableError("the acknowledgement was lost")
        self.has_crashed.set()
        return await asyncio.Event().wait()  # never returns; the test kills it


async def memberships(event_log: EventLog) -> tuple[Counter[str], Counter[str]]:
    """How often each issue was linked, and each pattern detected, in the whole log."""
    linked: Counter[str] = Counter()
    detected: Counter[str] = Counter()
    async for batch in event_log.read(0, after=0, until=await event_log.last_seq()):
        for event in batch.events:
            if isinstance(event.data, pattern.IssuesLinked):
                linked.update(link.issue_id for link in event.data.links)
            elif isinstance(event.data, pattern.PatternDetected):
                detected[event.data.pattern_id] += 1
    return linked, detected


def reports() -> list[Append]:
    titles = ("Queue is stuck", "Certificate expired", "Disk full on volume data")
    return [Append(failure(n, titles[n % 3]), 0) for n in range(N_ISSUES)]


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "crash_before", "crash_after"])
@pytest.mark.parametrize("at", [1, 2, 4, 5])
async def test_a_cut_decision_is_healed(
    event_log: EventLog, database: Database, fault: Fault, at: int
) -> None:
    """One event per append, failing at the n-th: nothing is linked twice, nothing is left out."""
    faulty = FaultyLog(event_log, at=at, fault=fault)
    await event_log.append_each(reports())
    async with running(cast(EventLog, faulty), database, max_events_per_append=1, is_live=False) as service:
        if fault.startswith("crash"):
            await asyncio.wait_for(faulty.has_crashed.wait(), 30)
            await service.kill()
        else:
            await assert_whole(service)
    if fault.startswith("crash"):
        async with running(event_log, database, max_events_per_append=1) as service:
            await assert_whole(service)


async def assert_whole(service: Running) -> None:
    await eventually(lambda: is_whole(service.event_log))
    await service.grouped()
    linked, detected = await memberships(service.event_log)
    assert {1} == set(linked.values()) and len(linked) == N_ISSUES
    assert list(detected.values()) == [1, 1, 1]
    await service.assert_memory_equals_rows()


async def is_whole(event_log: EventLog) -> bool:
    linked, detected = await memberships(event_log)
    return len(linked) >= N_ISSUES and len(detected) >= 3


async def test_a_second_writer_makes_the_first_load_its_memory_anew(
    event_log: EventLog, database: Database
) -> None:
    """A guard that fails means memory is behind: it is loaded again, and nothing is decided twice."""
    async with running(event_log, database) as service:
        ids = await service.report(*[failure(n, "Queue is stuck") for n in range(3)])
        found = (await service.patterns_of(ids))[0] or ""
        # Another leader's word that this memory has not heard: its version of the pattern is behind.
        service.reaction.grouper_of(WORKSPACE).patterns[found].version -= 1
        later = await service.report(failure(5, "Queue is stuck"))
        assert [found] == await service.patterns_of(later)
        await service.assert_memory_equals_rows()
        linked, _ = await memberships(event_log)
        assert {1} == set(linked.values())
        changed = await service.endpoints.update_pattern(
            pattern.UpdatePattern(pattern_id=found, name="Stuck"), CONTEXT
        )
        assert changed.pattern_id == found


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_suggestion_is_appended_with_the_link_it_comes_from(n: int) -> None:
    """Wherever a decision is cut: nothing would suggest it again after a crash between the two."""
    known = pattern.Assessment(
        issue_count=1, risk_score=0.0, confidence=1.0, first_seen_at=NOW, last_seen_at=NOW
    )
    linked = Decided(pattern.IssuesLinked(pattern_id="pat_1", links=(), assessment=known), "pat_1")
    suggested = Decided(pattern.LinkSuggested(pattern_id="pat_1", issue_id="iss_1", suggestions=()), "pat_1")
    decided = [linked, linked, suggested, linked, suggested, suggested, linked]
    batches = list(in_batches(decided, n))
    assert [each for batch in batches for each in batch] == decided
    assert all(batch[0] is linked for batch in batches) and len(batches) > 1
