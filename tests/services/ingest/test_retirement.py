"""Issues end: hidden when nobody touched them, purged when their grace is over, and never what somebody needs."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from unittest.mock import AsyncMock

import pytest
from contracts import Event, Recorded, connector, ingest, issue_id
from contracts import record as recorded
from eventlog import Append, EventLog, LogUnavailableError
from runtime.broker import CommandContext
from runtime.errors import NotFoundError, UnavailableError, ValidationFailedError

from services.ingest.endpoints import Desk, Retirement
from services.ingest.errors import InvalidConnectorError
from services.ingest.reporting import Sources
from services.ingest.state import NOTHING_YET, fold
from tests.services.ingest.builders import NOW, at
from tests.services.ingest.test_endpoints import body_of, history_of, record

CONTEXT = CommandContext(workspace_id="ws_1", correlation_id="", actor=None, traceparent=None)
SOMEBODY = CommandContext(workspace_id="ws_1", correlation_id="", actor="usr_1", traceparent=None)
LATER = NOW + timedelta(days=1)


def desk_at(log: EventLog, now: datetime) -> Desk:
    return Desk(log, clock=lambda: now, rng=random.Random(1))


async def none_needed(workspace_id: str, run_ids: Sequence[str], up_to: int) -> Sequence[str]:
    """No row rests on any."""
    return ()


def retirement_of(log: EventLog, *, now: datetime = NOW) -> Retirement:
    return Retirement(log, needed=none_needed, clock=lambda: now)


async def report(log: EventLog, *external_ids: str, now: datetime, **fields: object) -> list[str]:
    body = body_of(*(record(external_id, **fields) for external_id in external_ids))
    reply = await desk_at(log, now).report_issues(body, CONTEXT)
    return [result.issue_id or "" for result in reply.results]


async def expire(log: EventLog, *ids: str, since: datetime, now: datetime = NOW) -> int:
    command = ingest.ExpireIssues(issue_ids=ids, unchanged_since=since)
    return (await retirement_of(log, now=now).expire_issues(command, CONTEXT)).n_issues


async def purge(log: EventLog, *ids: str, before: datetime = LATER) -> int:
    command = ingest.PurgeIssues(issue_ids=ids, expired_before=before)
    return (await retirement_of(log).purge_issues(command, CONTEXT)).n_issues


async def purges(log: EventLog) -> list[ingest.IssuesPurged]:
    history = await log.history("ws_1", "retention", "ws_1")
    return [event.data for event in history if isinstance(event.data, ingest.IssuesPurged)]


def purge_of(id_: str, last_sequence: int) -> Recorded[Event]:
    """The fact that a slow steward tells when it had found the issue expired."""
    issue = ingest.PurgedIssue(
        issue_id=id_,
        last_sequence=last_sequence,
        source="jira",
        severity=ingest.Severity.P3,
        occurred_at=at(1),
        reported_at=at(1),
        status=ingest.IssueStatus.NEW,
    )
    fact = ingest.IssuesPurged(workspace_id="ws_1", issues=(issue,), counted_from=at(2))
    return recorded(
        fact, workspace_id="ws_1", aggregate_id="ws_1", occurred_at=NOW, recorded_at=NOW, source="ingest"
    )


async def test_only_what_nobody_touched_expires_and_only_once(event_log: EventLog) -> None:
    [old] = await report(event_log, "A-1", now=at(1))
    [touched] = await report(event_log, "A-2", now=at(1))
    [new] = await report(event_log, "A-3", now=at(20))
    comment = ingest.CommentIssue(issue_id=touched, text="Wait.")
    await desk_at(event_log, at(20)).comment_issue(comment, SOMEBODY)
    ids = (old, touched, new, issue_id("ws_1", "jira", "unknown"))
    assert await expire(event_log, *ids, since=at(10)) == 1
    assert await expire(event_log, *ids, since=at(10)) == 0
    assert [type(event.data) for event in await history_of(event_log, "A-1")] == [
        ingest.IssueReported,
        ingest.IssueExpired,
    ]


async def test_an_expired_issue_is_there_for_nobody_but_its_source(event_log: EventLog) -> None:
    [id_] = await report(event_log, "A-1", now=at(1), title="Before", body="Kept", severity="p1")
    await expire(event_log, id_, since=at(10))
    desk = desk_at(event_log, NOW)
    with pytest.raises(NotFoundError):
        await desk.update_issue(ingest.UpdateIssue(issue_id=id_, title="x"), CONTEXT)
    closing = ingest.CloseIssue(issue_id=id_, status=ingest.IssueStatus.CLOSED, reason="")
    with pytest.raises(NotFoundError):
        await desk.close_issue(closing, CONTEXT)
    with pytest.raises(NotFoundError):
        await desk.comment_issue(ingest.CommentIssue(issue_id=id_, text="x"), SOMEBODY)
    reply = await desk.report_issues(body_of(record("A-1", title="After")), CONTEXT)
    assert reply.results[0].outcome is ingest.ReportOutcome.UPDATED
    last = (await history_of(event_log, "A-1"))[-1]
    assert isinstance(last.data, ingest.IssueRestored) and last.time == at(1)
    issue = fold([last])
    assert issue is not None and not issue.is_expired
    assert (issue.content.title, issue.content.body, issue.content.severity) == ("After", "Kept", "p1")
    assert await purge(event_log, id_) == 0


async def test_a_repetition_that_says_nothing_new_brings_an_expired_issue_back(event_log: EventLog) -> None:
    [id_] = await report(event_log, "A-1", now=at(1), title="Same")
    await expire(event_log, id_, since=at(10))
    await report(event_log, "A-1", now=NOW, title="Same")
    assert isinstance((await history_of(event_log, "A-1"))[-1].data, ingest.IssueRestored)


async def test_purged_issues_leave_their_numbers_and_no_event(event_log: EventLog) -> None:
    fields = {"title": "Secret", "service": "checkout", "version": "1.2", "severity": "p2"}
    ids = await report(event_log, "A-1", "A-2", now=at(1), source_created_at="2026-04-01T00:00:00Z", **fields)
    closing = ingest.CloseIssue(issue_id=ids[0], status=ingest.IssueStatus.RESOLVED, reason="Secret")
    await desk_at(event_log, at(2)).close_issue(closing, CONTEXT)
    await expire(event_log, *ids, since=at(10), now=at(11))
    assert await purge(event_log, *ids, before=at(11)) == 0
    assert await purge(event_log, *ids) == 2
    assert await event_log.histories("ws_1", "issue", ids) == [[], []]
    [purged] = await purges(event_log)
    first, second = purged.issues
    assert (first.service, first.version, first.severity, first.ended_at) == ("checkout", "1.2", "p2", at(2))
    assert (second.occurred_at, second.reported_at, second.ended_at) == (at(1), at(1), None)
    assert purged.counted_from == at(3)
    assert "Secret" not in str(purged)


async def test_what_a_crash_left_of_a_purge_is_deleted_next_time(event_log: EventLog) -> None:
    """The fact is told and the process dies before the events are deleted."""
    ids = await report(event_log, "A-1", now=at(1))
    await expire(event_log, *ids, since=at(10))
    await event_log.append(Append(purge_of(ids[0], (await history_of(event_log, "A-1"))[-1].seq), 0))
    assert len(await history_of(event_log, "A-1")) == 2
    assert await purge(event_log) == 0
    assert await history_of(event_log, "A-1") == []
    assert len(await purges(event_log)) == 1


async def test_a_report_during_a_purge_stays(event_log: EventLog) -> None:
    """It is behind the expiry, which is as far as the purge reaches, and has all of the issue."""
    [id_] = await report(event_log, "A-1", now=at(1), title="Kept")
    await expire(event_log, id_, since=at(10))
    told = (await history_of(event_log, "A-1"))[-1].seq
    await report(event_log, "A-1", now=NOW)
    await event_log.append(Append(purge_of(id_, told), 0))
    assert await purge(event_log, id_) == 0
    restored, anew = await history_of(event_log, "A-1")
    assert isinstance(restored.data, ingest.IssueRestored)
    assert anew.data == restored.data.issue and anew.time == restored.time, (
        "what counts has lost it: once more"
    )
    assert restored.data.issue.title == "Kept"
    await report(event_log, "A-1", now=NOW, title="Changed")
    assert await retirement_of(event_log).purge_issues(
        ingest.PurgeIssues(issue_ids=(id_,), expired_before=LATER), CONTEXT
    ) == ingest.IssuesRetired(n_issues=0, sequence=0)
    assert len(await history_of(event_log, "A-1")) == 3


async def test_a_purged_issue_that_is_reported_again_begins_anew(event_log: EventLog) -> None:
    [id_] = await report(event_log, "A-1", now=at(1))
    await expire(event_log, id_, since=at(10))
    await purge(event_log, id_)
    assert await report(event_log, "A-1", now=NOW, title="Anew") == [id_]
    [first] = await history_of(event_log, "A-1")
    assert isinstance(first.data, ingest.IssueReported) and first.data.title == "Anew"


async def test_too_many_at_once_are_refused(event_log: EventLog) -> None:
    ids = tuple(issue_id("ws_1", "jira", str(n)) for n in range(501))
    with pytest.raises(ValidationFailedError):
        await expire(event_log, *ids, since=NOW)
    with pytest.raises(ValidationFailedError):
        await purge(event_log, *ids[:101])


async def cut_off(*_: object, **__: object) -> int:
    """A log that is gone at this moment."""
    raise LogUnavailableError("gone")


async def test_a_purge_of_runs_leaves_what_is_open_new_or_needed_and_goes_on_where_a_crash_left_it(
    event_log: EventLog,
) -> None:
    """The fact is told first; whoever asks next deletes what it names."""
    sources = Sources(event_log, clock=lambda: at(1))

    async def run(name: str, *, ended_at: datetime | None) -> str:
        ids = {"run_id": f"syn_{name}", "connector_id": "con_1"}
        await sources.request(connector.SyncRequested(**ids, kind=connector.SyncKind.SCHEDULED), CONTEXT)
        if ended_at is not None:
            done = connector.SyncEnded(
                **ids, outcome=connector.SyncOutcome.SUCCEEDED, counts=NOTHING_YET, reason="", detail=""
            )
            ending = Sources(event_log, clock=lambda: ended_at)
            await ending.decide_run(ids["run_id"], CONTEXT, lambda _: done)
        return ids["run_id"]

    names = [
        await run("old", ended_at=at(2)),
        await run("new", ended_at=at(9)),
        await run("open", ended_at=None),
        await run("needed", ended_at=at(2)),
    ]
    asked = AsyncMock(return_value=["syn_needed"])
    retirement = Retirement(event_log, needed=asked, clock=lambda: NOW)
    command = connector.PurgeRuns(run_ids=(*names, "syn_none"), ended_before=at(5))

    real, event_log.purge = event_log.purge, cut_off  # type: ignore[method-assign]  # it dies at the first deletion
    with pytest.raises(UnavailableError):
        await retirement.purge_runs(command, CONTEXT)
    event_log.purge = real  # type: ignore[method-assign]
    old, needed = await event_log.histories("ws_1", "sync_run", [names[0], names[3]])
    asked.assert_awaited_once_with("ws_1", (names[0], names[3]), needed[-1].seq)
    assert len(old) == 2
    after = await retirement_of(event_log).purge_runs(connector.PurgeRuns(ended_before=at(5)), CONTEXT)
    assert after == connector.RunsPurged(n_runs=0, sequence=0)
    assert [len(each) for each in await event_log.histories("ws_1", "sync_run", names)] == [0, 2, 1, 2]
    with pytest.raises(InvalidConnectorError):
        await retirement_of(event_log).purge_runs(
            connector.PurgeRuns(run_ids=("syn_x",) * 501, ended_before=NOW), CONTEXT
        )
