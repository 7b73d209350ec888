"""What the leader's memory makes of issues that were purged and texts that expired: the same as the rows."""

import pytest
from contracts import Event, Recorded, ingest, pattern
from eventlog import Append, EventLog
from testkit.builders import recorded
from testkit.servers import Database

from services.pattern.engine import texts

from .running import CONTEXT, WORKSPACE, Running, failure, running
from .test_projections import linked, purged


async def tell(service: Running, *events: Recorded[Event]) -> None:
    """Append events one by one, each when the service has taken the one before it."""
    for event in events:
        await service.event_log.append(Append(event, None))
        await service.grouped()


async def test_a_log_without_its_purged_issues_makes_the_same_memory(
    event_log: EventLog, database: Database
) -> None:
    """The link of an issue is read long before what is kept of the issue; texts and counts come with that."""
    gone = [failure(n, "Disk full", component="volume") for n in range(3)]
    async with running(event_log, database) as service:
        await tell(service, linked("pat_a", gone, "disk full"), purged(*gone[:2]))
        await tell(service, purged(gone[2]), failure(7, "Queue is stuck"))
        await service.assert_memory_equals_rows()
        assert len(service.memory().exemplars) == 2


async def test_an_issue_that_was_restored_during_its_purge_is_grouped_anew(
    event_log: EventLog, database: Database
) -> None:
    """Its history begins with the restoration; it is a member beside what is kept of it, and has nearest issues."""
    report = failure(1, "Disk full")
    assert isinstance(report.data, ingest.IssueReported)
    restored = recorded(
        ingest.IssueRestored(issue_id=report.aggregate_id, issue=report.data), report.aggregate_id
    )
    async with running(event_log, database) as service:
        await service.report(report, failure(2, "Disk full"))
        await tell(service, restored)
        await tell(service, purged(report), failure(1, "Disk full"))
        second_of = (await event_log.history(WORKSPACE, "issue", report.aggregate_id))[1]
        assert isinstance(second_of.data, ingest.IssueRestored)
        await event_log.purge(WORKSPACE, "issue", report.aggregate_id, before=second_of.seq)
        first, second = await service.patterns_of([report.aggregate_id, failure(2, "").aggregate_id])
        assert first == second is not None
        asked = pattern.FindSimilar(issue_id=report.aggregate_id, limit=5)
        assert (await service.endpoints.find_similar(asked, CONTEXT)).compared_count == 1
        await service.assert_memory_equals_rows()


async def test_a_text_that_expired_and_was_entered_anew_is_the_latest_in_the_rows_too(
    event_log: EventLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows keep as many texts as the index, in its order."""
    monkeypatch.setattr(texts, "MAX_TEXTS", 3)
    titles = ("Disk full", "Queue is stuck", "Certificate expired", "Login refused by proxy", "Cache cold")
    async with running(event_log, database) as service:
        ids = await service.report(*(failure(n, title) for n, title in enumerate(titles)))
        assert [text.issue_id for text in service.memory().exemplars] == ids[2:]
        await service.assert_memory_equals_rows()
        (target,) = await service.patterns_of([ids[4]])
        link = pattern.LinkIssue(pattern_id=target or "", issue_id=ids[0])
        await service.endpoints.link_issue(link, CONTEXT)
        await service.assert_memory_equals_rows()
        assert [text.issue_id for text in service.memory().exemplars] == [ids[3], ids[4], ids[0]]
