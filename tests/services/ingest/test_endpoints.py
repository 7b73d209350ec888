"""The endpoints on a real log: batches, repetitions, rivals, and acknowledgements that get lost."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from unittest.mock import AsyncMock

import pytest
from contracts import Event, Recorded, ingest, issue_id
from eventlog import Append, Conflict, EventLog, LogUnavailableError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from runtime.broker import CommandContext, ask, serve
from runtime.errors import NotFoundError, StateConflictError, UnavailableError, ValidationFailedError

from services.ingest.commands import canonical_report, report_issue
from services.ingest.endpoints import Desk, Retirement, endpoints
from services.ingest.state import Issue, fold
from tests.services.ingest.builders import FRESH_ID, NOW, after, at

CONTEXT = CommandContext(
    workspace_id="ws_1",
    correlation_id="req_1",
    actor="usr_1",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def desk_on(log: EventLog, *, now: datetime = NOW) -> Desk:
    return Desk(log, clock=lambda: now, rng=random.Random(1))


def body_of(*records: dict[str, object]) -> bytes:
    return json.dumps({"records": records}).encode()


def record(external_id: str = "A-1", **fields: object) -> dict[str, object]:
    return {"external_id": external_id, "source": "jira", **fields}


def outcomes(reply: ingest.IssuesReported) -> list[str]:
    return [result.outcome.value for result in reply.results]


async def history_of(log: EventLog, external_id: str, workspace_id: str = "ws_1") -> list[Recorded[Event]]:
    return await log.history(workspace_id, "issue", issue_id(workspace_id, "jira", external_id))


@pytest.fixture
def desk(event_log: EventLog) -> Desk:
    return desk_on(event_log)


# Reporting


async def test_new_issue_is_in_the_log_with_its_envelope(desk: Desk, event_log: EventLog) -> None:
    reply = await desk.report_issues(
        body_of(record(title="Down", severity="high", source_created_at="2026-04-01T02:00:00+02:00")), CONTEXT
    )
    (event,) = await history_of(event_log, "A-1")
    assert reply == ingest.IssuesReported(
        results=(
            ingest.ReportResult(index=0, outcome=ingest.ReportOutcome.CREATED, issue_id=event.aggregate_id),
        ),
        sequence=1,
    )
    assert isinstance(event.data, ingest.IssueReported)
    assert (event.data.title, event.data.severity, event.data.status) == ("Down", "p2", "new")
    assert (event.time, event.recorded_at) == (datetime(2026, 4, 1, tzinfo=UTC), NOW)
    assert (event.source, event.subject) == ("/causeloop/ingest", f"issue/{event.data.issue_id}")
    assert (event.actor, event.correlation_id, event.traceparent) == ("usr_1", "req_1", CONTEXT.traceparent)


async def test_batch_of_500_with_bad_records_takes_all_the_others(desk: Desk, event_log: EventLog) -> None:
    """Every seventh record is bad, each seventh in another way."""
    bad: list[dict[str, object]] = [
        record("bad", severity="p9"),
        record("bad", title="x" * 301),
        record("bad", colour="red"),
        record("bad", source_created_at="2026-01-01T00:00:00"),
        record("bad", source_created_at="2999-01-01T00:00:00Z"),
        {"title": "who am I?"},
        record("bad", title=5),
        record("bad", metadata=json.loads("[" * 20 + "]" * 20)),
        record("bad", metadata={"x": json.loads("[" * 20 + "]" * 20)}),
        record("bad", title="cut in an emoji \ud83d"),
    ]
    records = [bad[number % len(bad)] if number % 7 == 0 else record(f"A-{number}") for number in range(500)]
    reply = await desk.report_issues(body_of(*records), CONTEXT)
    assert [result.index for result in reply.results] == list(range(500))
    for number, result in enumerate(reply.results):
        if number % 7 == 0:
            assert (result.outcome, result.issue_id) == ("rejected", None)
            assert result.reason and ": " in result.reason
        else:
            expected = ("created", issue_id("ws_1", "jira", f"A-{number}"), None)
            assert (result.outcome, result.issue_id, result.reason) == expected
    assert await event_log.last_seq() == reply.sequence == sum(number % 7 != 0 for number in range(500))


async def test_largest_record_is_taken_whole(desk: Desk, event_log: EventLog) -> None:
    fields: dict[str, object] = {
        "title": "\U0001f4a5" * 300,
        "body": "\U0001f4a5" * 65_536,
        "service": "\u00e9" * 300,
        "external_url": "https://a.example/" + "x" * 2_030,
        "metadata": {"x": "y" * 65_528},
    }
    body = json.dumps({"records": [record("A-1", **fields)]}, ensure_ascii=False).encode()
    assert outcomes(await desk.report_issues(body, CONTEXT)) == ["created"]
    (event,) = await history_of(event_log, "A-1")
    assert {name: getattr(event.data, name) for name in fields} == fields


async def test_same_batch_again_stores_nothing(desk: Desk, event_log: EventLog) -> None:
    body = body_of(*(record(f"A-{number}", title=f"T {number}") for number in range(500)))
    first = await desk.report_issues(body, CONTEXT)
    second = await desk.report_issues(body, CONTEXT)
    assert set(outcomes(first)) == {"created"}
    assert set(outcomes(second)) == {"unchanged"}
    assert [result.issue_id for result in first.results] == [result.issue_id for result in second.results]
    assert (second.sequence, await event_log.last_seq()) == (500, 500)


async def test_known_new_and_changed_records_of_one_batch_get_their_outcomes(
    desk: Desk, event_log: EventLog
) -> None:
    await desk.report_issues(body_of(record("A"), record("B")), CONTEXT)
    reply = await desk.report_issues(body_of(record("A"), record("B", title="Up"), record("C")), CONTEXT)
    assert outcomes(reply) == ["unchanged", "updated", "created"]
    assert reply.sequence == await event_log.last_seq() == 4
    update = (await history_of(event_log, "B"))[-1].data
    assert update == ingest.IssueUpdated(issue_id=issue_id("ws_1", "jira", "B"), title="Up")


async def test_records_of_one_identity_are_applied_in_their_order(desk: Desk, event_log: EventLog) -> None:
    titles = ["one", "one", "two", "one", "two"]
    reply = await desk.report_issues(
        body_of(record("B"), *(record("A", title=title) for title in titles), record("A", severity="p9")),
        CONTEXT,
    )
    expected = ["created", "created", "unchanged", "updated", "updated", "updated", "rejected"]
    assert outcomes(reply) == expected
    events = await history_of(event_log, "A")
    assert [getattr(event.data, "title", None) for event in events] == ["one", "two", "one", "two"]
    assert len({event.id for event in events}) == 4
    assert reply.sequence == events[-1].seq


async def test_issue_in_another_workspace_is_another_issue(desk: Desk, event_log: EventLog) -> None:
    other = CommandContext(workspace_id="ws_2", correlation_id="req_2")
    replies = [await desk.report_issues(body_of(record()), context) for context in (CONTEXT, other)]
    assert [outcomes(reply) for reply in replies] == [["created"], ["created"]]
    assert replies[0].results[0].issue_id != replies[1].results[0].issue_id


async def test_single_report_without_external_id_gets_a_new_issue_each_time(
    desk: Desk, event_log: EventLog
) -> None:
    replies = [await desk.report_issues(body_of({"title": "Down"}), CONTEXT) for _ in range(2)]
    first, second = (reply.results[0].issue_id for reply in replies)
    assert first and second and first != second
    (event,) = await event_log.history("ws_1", "issue", first)
    assert isinstance(event.data, ingest.IssueReported)
    fresh = event.data.external_id
    assert fresh.startswith("ext_")
    again = await desk.report_issues(body_of({"external_id": fresh, "title": "Up"}), CONTEXT)
    assert (again.results[0].issue_id, again.results[0].outcome) == (first, "updated")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"records":[]}', body_of(*[record()] * 501)])
async def test_message_that_is_no_batch_is_refused(desk: Desk, body: bytes) -> None:
    with pytest.raises(ValidationFailedError) as refused:
        await desk.report_issues(body, CONTEXT)
    assert refused.value.details


# Updating and closing


async def test_update_and_close_answer_with_the_issue_as_it_is(desk: Desk, event_log: EventLog) -> None:
    reply = await desk.report_issues(
        body_of(record(team="x", source_created_at="2026-04-01T00:00:00Z")), CONTEXT
    )
    id_ = reply.results[0].issue_id or ""
    updated = await desk.update_issue(
        ingest.UpdateIssue(issue_id=id_, severity="critical", cleared=("team",)), CONTEXT
    )
    assert (updated.issue.severity, updated.issue.team, updated.sequence) == ("p1", None, 2)
    assert updated.occurred_at == at(1)
    same = await desk.update_issue(ingest.UpdateIssue(issue_id=id_, severity="P1"), CONTEXT)
    assert same == updated
    close = ingest.CloseIssue(issue_id=id_, status=ingest.IssueStatus.RESOLVED, reason="fixed")
    closed = await desk.close_issue(close, CONTEXT)
    assert (closed.issue.status, closed.sequence) == ("resolved", 3)
    assert await desk.close_issue(close, CONTEXT) == closed
    assert await event_log.last_seq() == 3


@pytest.mark.parametrize("id_", [FRESH_ID, "iss_1", "", "a.b", "*", "iss_>"])
async def test_change_of_an_unknown_issue_is_not_found(desk: Desk, id_: str) -> None:
    with pytest.raises(NotFoundError):
        await desk.update_issue(ingest.UpdateIssue(issue_id=id_, title="x"), CONTEXT)
    with pytest.raises(NotFoundError):
        await desk.close_issue(
            ingest.CloseIssue(issue_id=id_, status=ingest.IssueStatus.CLOSED, reason=""), CONTEXT
        )


async def test_a_comment_is_in_the_issues_history_and_changes_nothing_else(
    desk: Desk, event_log: EventLog
) -> None:
    """In the name of the sender; a report that says nothing new is still unchanged after it."""
    await desk.report_issues(body_of(record(title="Down")), CONTEXT)
    id_ = issue_id("ws_1", "jira", "A-1")
    reply = await desk.comment_issue(ingest.CommentIssue(issue_id=id_, text=" Again?\r\n"), CONTEXT)
    _, event = await history_of(event_log, "A-1")
    assert event.data == reply.comment
    assert (reply.comment.author_id, reply.comment.text, reply.sequence) == ("usr_1", "Again?", 2)
    assert reply.comment.comment_id.startswith("cmt_")
    assert outcomes(await desk.report_issues(body_of(record(title="Down")), CONTEXT)) == ["unchanged"]
    with pytest.raises(NotFoundError):
        await desk.comment_issue(ingest.CommentIssue(issue_id=FRESH_ID, text="Where?"), CONTEXT)


async def test_an_analysis_is_begun_once_and_answered_once(desk: Desk, event_log: EventLog) -> None:
    """With what a model was asked on a subject of its own, both or nothing; a late second answer changes nothing."""
    await desk.report_issues(body_of(record(title="Down")), CONTEXT)
    id_ = issue_id("ws_1", "jira", "A-1")
    begin = ingest.StartAnalysis(issue_id=id_, tier=ingest.AnalysisTier.DEEP)
    begun = await desk.start_analysis(begin, CONTEXT)
    assert await desk.start_analysis(begin, CONTEXT) == begun
    claim = ingest.AnalysisClaim(text="Too small.", evidence_ids=("e1",))
    evidence = ingest.AnalysisEvidence(id="e1", kind="terms", text="Titles say so.", issue_ids=(id_,))
    exchange = ingest.ModelExchange(
        model="m", host="h", prompt_version="p", messages=(ingest.ModelMessage(role="user", text="?"),)
    )
    answer = ingest.RecordAnalysis(
        issue_id=id_,
        analysis_id=begun.analysis_id,
        analysis=ingest.Analysis(
            root_cause=claim,
            why_recurring=claim,
            confidence=0.5,
            model="m",
            model_version="p",
            evidence=(evidence,),
        ),
        exchange=exchange,
    )
    ended = await desk.record_analysis(answer, CONTEXT)
    assert ended.issue.status == "analyzed"
    assert await desk.record_analysis(answer, CONTEXT) == ended
    (asked,) = await event_log.history("ws_1", "prompt", begun.analysis_id)
    assert asked.data == ingest.ModelAsked(analysis_id=begun.analysis_id, issue_id=id_, exchange=exchange)
    # The source sends its first revision again: it is not new any more.
    assert outcomes(await desk.report_issues(body_of(record(title="Down")), CONTEXT)) == ["unchanged"]
    assert (await desk.start_analysis(begin, CONTEXT)).analysis_id != begun.analysis_id


# Over the bus


async def test_endpoints_answer_and_refuse_over_the_bus(nc: Client, event_log: EventLog) -> None:
    retirement = Retirement(event_log, needed=AsyncMock(return_value=()), clock=lambda: NOW)
    server = await serve(nc, "ingest", "1.0.0", endpoints(desk_on(event_log), retirement))
    try:
        reply = await ask(
            nc,
            ingest.ReportIssues(
                records=(ingest.IssueReport(title="Down"), ingest.IssueReport(external_id="1"))
            ),
            endpoint="ingest.report_issues",
            reply=ingest.IssuesReported,
            context=CONTEXT,
            timeout=30,
        )
        assert outcomes(reply) == ["rejected", "created"]
        id_ = reply.results[1].issue_id or ""
        changed = await ask(
            nc,
            ingest.UpdateIssue(issue_id=id_, title="Up"),
            endpoint="ingest.update_issue",
            reply=ingest.IssueChanged,
            context=CONTEXT,
            timeout=30,
        )
        assert (changed.issue.title, changed.sequence) == ("Up", 2)
        with pytest.raises(ValidationFailedError) as refused:
            await ask(
                nc,
                ingest.CloseIssue(issue_id=id_, status=ingest.IssueStatus.NEW, reason=""),
                endpoint="ingest.close_issue",
                reply=ingest.IssueChanged,
                context=CONTEXT,
                timeout=30,
            )
        assert refused.value.details == {"status": "new ends nothing; use one of resolved, closed, wont_fix"}
        deep = b'{"issue_id":"iss_1","metadata":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
        for broken in (deep, b'{"issue_id":"\xff"}', b'{"issue_id":"iss_1","titel":"x"}'):
            with pytest.raises(ValidationFailedError):
                await ask(
                    nc,
                    broken,
                    endpoint="ingest.update_issue",
                    reply=ingest.IssueChanged,
                    context=CONTEXT,
                    timeout=30,
                )
    finally:
        await server.stop()


# Rivals and faults


class _Troubled(EventLog):
    """A real log with troubles on demand: rivals that are faster, acknowledgements that get lost."""

    before_append: Callable[[], object] | None = None
    n_lost = 0

    async def append_each(self, appends: Sequence[Append]) -> list[int | Conflict]:
        await self._rival()
        stored = await super().append_each(appends)
        self._lose()
        return stored

    async def append(self, *appends: Append) -> int:
        await self._rival()
        stored = await super().append(*appends)
        self._lose()
        return stored

    async def _rival(self) -> None:
        if self.before_append is not None:
            work = self.before_append()
            if asyncio.iscoroutine(work):
                await work

    def _lose(self) -> None:
        if self.n_lost:
            self.n_lost -= 1
            raise LogUnavailableError("the acknowledgement got lost")


@pytest.fixture
async def troubled(nc: Client, event_log: EventLog) -> _Troubled:
    return await _Troubled.connect(nc)


async def test_lost_acknowledgement_is_unavailable_and_the_retry_stores_nothing_twice(
    troubled: _Troubled,
) -> None:
    body = body_of(*(record(f"A-{number}") for number in range(50)))
    troubled.n_lost = 1
    with pytest.raises(UnavailableError) as refused:
        await desk_on(troubled).report_issues(body, CONTEXT)
    assert refused.value.retry_after == 1
    assert await troubled.last_seq() == 50
    reply = await desk_on(troubled).report_issues(body, CONTEXT)
    assert (set(outcomes(reply)), await troubled.last_seq()) == ({"unchanged"}, 50)


async def test_lost_acknowledgement_of_an_update_is_found_done_by_the_retry(troubled: _Troubled) -> None:
    reply = await desk_on(troubled).report_issues(body_of(record()), CONTEXT)
    cmd = ingest.UpdateIssue(issue_id=reply.results[0].issue_id or "", title="Up")
    troubled.n_lost = 1
    with pytest.raises(UnavailableError):
        await desk_on(troubled).update_issue(cmd, CONTEXT)
    changed = await desk_on(troubled).update_issue(cmd, CONTEXT)
    assert (changed.issue.title, changed.sequence, await troubled.last_seq()) == ("Up", 2, 2)


async def test_rival_that_keeps_winning_ends_in_a_conflict(troubled: _Troubled, event_log: EventLog) -> None:
    """Five repetitions, then a refusal that says to try again; a batch's other records are taken."""
    reply = await desk_on(event_log).report_issues(body_of(record()), CONTEXT)
    id_ = reply.results[0].issue_id or ""
    rounds = iter(range(100))

    async def rival() -> None:
        await desk_on(event_log).update_issue(
            ingest.UpdateIssue(issue_id=id_, title=f"Rival {next(rounds)}"), CONTEXT
        )

    troubled.before_append = rival
    with pytest.raises(StateConflictError, match="keeps changing; send the command again"):
        await desk_on(troubled).update_issue(ingest.UpdateIssue(issue_id=id_, team="x"), CONTEXT)
    assert next(rounds) == 6
    reply = await desk_on(troubled).report_issues(body_of(record(team="x"), record("B")), CONTEXT)
    assert outcomes(reply) == ["rejected", "created"]
    assert reply.results[0].reason == "issue_id: others keep changing this issue; send the record again"


async def test_rival_that_wins_once_changes_only_what_the_decision_was_made_on(
    troubled: _Troubled, event_log: EventLog
) -> None:
    reply = await desk_on(event_log).report_issues(body_of(record(title="Down")), CONTEXT)
    id_ = reply.results[0].issue_id or ""

    async def rival() -> None:
        troubled.before_append = None
        await desk_on(event_log).update_issue(ingest.UpdateIssue(issue_id=id_, title="Up"), CONTEXT)

    troubled.before_append = rival
    changed = await desk_on(troubled).update_issue(
        ingest.UpdateIssue(issue_id=id_, title="Up", team="x"), CONTEXT
    )
    assert (changed.issue.title, changed.issue.team) == ("Up", "x")
    last = (await event_log.history("ws_1", "issue", id_))[-1].data
    assert last == ingest.IssueUpdated(issue_id=id_, team="x")


async def test_two_writers_of_the_same_new_batch_report_each_issue_once(
    nc: Client, event_log: EventLog
) -> None:
    body = body_of(*(record(f"A-{number}") for number in range(300)))
    logs = [event_log, *[await EventLog.connect(nc) for _ in range(2)]]
    replies = await asyncio.gather(*(desk_on(log).report_issues(body, CONTEXT) for log in logs))
    created = sum(outcomes(reply).count("created") for reply in replies)
    unchanged = sum(outcomes(reply).count("unchanged") for reply in replies)
    assert (created, unchanged, await event_log.last_seq()) == (300, 600, 300)


# Properties. A workspace of its own per example keeps the examples apart on one log.

_numbers = iter(range(1, 1_000_000))
PROPERTY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

names = st.sampled_from(["A", "B", "C"])
loose_values: dict[str, list[object]] = {
    "title": ["one", "two", ""],
    "severity": ["p1", "low"],
    "status": ["open", "resolved"],
    "team": ["x", "", None],
    "metadata": [{"a": 1}, {}, None],
    "source_updated_at": [None, "2026-04-01T00:00:00Z", "2026-04-02T00:00:00Z"],
}
loose_records = st.builds(
    record, names, **{field: st.sampled_from(values) for field, values in loose_values.items()}
)


@PROPERTY
@given(st.lists(st.lists(loose_records, min_size=1, max_size=6), min_size=1, max_size=4))
async def test_batches_end_as_if_each_record_came_alone(
    event_log: EventLog, batches: list[list[dict[str, object]]]
) -> None:
    """The log after any cut into batches equals the pure decisions one after another."""
    context = CommandContext(workspace_id=f"ws_p{next(_numbers)}", correlation_id="req")
    expected: dict[str, Issue] = {}
    for batch in batches:
        reply = await desk_on(event_log).report_issues(body_of(*batch), context)
        for sent, outcome in zip(batch, outcomes(reply), strict=True):
            name = str(sent["external_id"])
            cmd = canonical_report(_typed(sent), workspace_id=context.workspace_id, fresh_id=None, now=NOW)
            change = report_issue(cmd, expected.get(name), now=NOW)
            assert outcome == _outcome(change, name in expected)
            if change is not None:
                expected[name] = after(expected.get(name), change)
    for name, issue in expected.items():
        assert fold(await history_of(event_log, name, context.workspace_id)) == issue


def _typed(sent: dict[str, object]) -> ingest.IssueReport:
    moment = sent["source_updated_at"]
    fields = {
        **sent,
        "source_updated_at": datetime.fromisoformat(moment) if isinstance(moment, str) else None,
    }
    return ingest.IssueReport(**fields)  # type: ignore[arg-type]  # fields by name


def _outcome(change: object, is_known: bool) -> str:
    if change is None:
        return "unchanged"
    return "updated" if is_known else "created"


def revision(name: str, number: int) -> dict[str, object]:
    """What a source says at its n-th revision of an issue: every field, always the same."""
    return record(
        name,
        title=f"Revision {number}",
        body=f"Body {number % 3}",
        severity=f"p{1 + number % 4}",
        status=["new", "resolved", "wont_fix"][number % 3],
        team=["x", "y", ""][number % 3],
        service=["shop", ""][number % 2],
        metadata={"n": number % 5},
        source_updated_at=at(1 + number).isoformat(),
    )


writers = st.lists(
    st.lists(
        st.tuples(st.lists(st.tuples(names, st.integers(0, 12)), min_size=1, max_size=6), st.integers(0, 1)),
        min_size=1,
        max_size=4,
    ),
    min_size=2,
    max_size=4,
)


@PROPERTY
@given(writers)
async def test_any_interleaving_of_writers_ends_in_the_newest_revision_reported_once(
    nc: Client,
    event_log: EventLog,
    writers: list[list[tuple[list[tuple[str, int]], int]]],
) -> None:
    """Duplicates, stale revisions, rivals and lost acknowledgements with retries, all at once."""
    context = CommandContext(workspace_id=f"ws_q{next(_numbers)}", correlation_id="req")

    async def write(batches: list[tuple[list[tuple[str, int]], int]]) -> None:
        log = await _Troubled.connect(nc, ensure_streams=False)
        for revisions, n_lost in batches:
            log.n_lost = n_lost
            await _until_taken(log, [revision(*which) for which in revisions], context)

    await asyncio.gather(*(write(batches) for batches in writers))
    sent = {which for batches in writers for revisions, _ in batches for which in revisions}
    for name in {name for name, _ in sent}:
        newest = max(number for which, number in sent if which == name)
        history = await history_of(event_log, name, context.workspace_id)
        assert [isinstance(event.data, ingest.IssueReported) for event in history] == [
            position == 0 for position in range(len(history))
        ]
        assert len({event.id for event in history}) == len(history)
        issue = fold(history)
        cmd = canonical_report(
            _typed(revision(name, newest)), workspace_id=context.workspace_id, fresh_id=None, now=NOW
        )
        assert issue is not None
        assert report_issue(cmd, issue, now=NOW) is None
        assert (issue.content.title, issue.content.team) == (f"Revision {newest}", cmd.team or None)


async def _until_taken(log: EventLog, records: list[dict[str, object]], context: CommandContext) -> None:
    """What a client does: send the same again until every record has an outcome that is final."""
    for _ in range(20):
        try:
            reply = await desk_on(log).report_issues(body_of(*records), context)
        except UnavailableError:
            continue
        if "rejected" not in outcomes(reply):
            return
    raise AssertionError("not taken after 20 tries")
