"""Decisions: given what is known of an issue, what a report or a command changes."""

from datetime import timedelta

import pytest
from contracts import ingest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.commands import (
    Change,
    close_issue,
    comment_issue,
    record_analysis,
    report_issue,
    start_analysis,
    update_issue,
)
from services.ingest.errors import InvalidIssueError, IssueNotFoundError
from services.ingest.state import OPTIONAL_FIELDS, Issue, evolve, fold
from tests.services.ingest.builders import A1, FRESH_ID, NOW, after, at, issue, recorded, report


def changes(state: Issue, **fields: object) -> dict[str, object]:
    """What a report with these fields changes, by name; {} for nothing."""
    change = report_issue(report(**fields), state, now=NOW)
    return {} if change is None else delta_of(change)


def delta_of(change: Change) -> dict[str, object]:
    assert isinstance(change.event, ingest.IssueUpdated)
    fields = {
        name: getattr(change.event, name) for name in change.event.__struct_fields__ if name != "issue_id"
    }
    return {name: value for name, value in fields.items() if value not in (None, ())}


def edited(state: Issue, *, hours: int = 1, **fields: object) -> Issue:
    """The issue after somebody edited it here, `hours` after NOW."""
    cmd = ingest.UpdateIssue(issue_id=A1, **fields)  # type: ignore[arg-type]  # fields by name
    return after(state, update_issue(cmd, state, now=NOW + timedelta(hours=hours)))


# Reporting: new issues


def test_new_failure_is_reported_with_defaults() -> None:
    expected = ingest.IssueReported(
        issue_id=A1,
        source="jira",
        external_id="A-1",
        title="A-1",
        body="",
        severity=ingest.Severity.P3,
        status=ingest.IssueStatus.NEW,
        metadata={},
    )
    assert Change(expected, NOW) == report_issue(report(), None, now=NOW)


def test_new_failure_happened_when_its_source_says() -> None:
    change = report_issue(report(source_created_at=at(1), source_updated_at=at(2)), None, now=NOW)
    assert change is not None
    assert at(1) == change.occurred_at


def test_new_failure_sent_with_empty_fields_has_none() -> None:
    state = issue(report(service="", team="  ", title=" ", metadata={}))
    assert (state.content.service, state.content.team, state.content.title) == (None, None, "A-1")


# Reporting: known issues


def test_same_content_again_changes_nothing() -> None:
    fields: dict[str, object] = {
        "title": "Down",
        "severity": "p1",
        "metadata": {"b": 1, "a": [2]},
        "team": "x",
    }
    assert changes(issue(report(**fields)), **{**fields, "severity": "CRITICAL"}) == {}


def test_changed_content_changes_only_what_differs() -> None:
    state = issue(report(title="Down", severity="p1", team="x"))
    assert changes(state, title="Down", severity="p2", team="x", body="More") == {
        "severity": "p2",
        "body": "More",
    }


def test_field_left_out_stays_and_field_sent_empty_is_cleared() -> None:
    state = issue(report(title="Down", service="shop", team="x", body="text", metadata={"a": 1}))
    assert changes(state) == {}
    change = report_issue(report(service="", team=" ", body="", metadata={}), state, now=NOW)
    assert change is not None
    expected = {"cleared": ("service", "team"), "body": "", "metadata": {}}
    assert expected == delta_of(change)
    cleared = after(state, change).content
    assert expected["cleared"] == change.event.cleared  # type: ignore[union-attr]  # an IssueUpdated
    assert (cleared.service, cleared.team, cleared.body, cleared.metadata) == (None, None, "", {})


def test_empty_field_that_has_no_value_is_no_change() -> None:
    assert changes(issue(report()), service="", external_url="", title="", severity="", status=" ") == {}


def test_metadata_that_only_python_takes_for_equal_is_a_change() -> None:
    assert changes(issue(report(metadata={"a": 1})), metadata={"a": True}) == {"metadata": {"a": True}}


@pytest.mark.parametrize("status", ["in_loop", "pattern_found"])
def test_a_status_of_ours_is_not_undone_by_a_source_that_says_open(status: str) -> None:
    """To its source an issue in a loop is open, each time it is asked."""
    state = issue(report(status=status))
    assert changes(state, status="open") == {}
    assert changes(state, status="new") == {"status": "new"}
    assert changes(state, status="resolved") == {"status": "resolved"}


def test_status_group_that_the_issue_is_in_is_no_change() -> None:
    state = issue(report(status="analyzed"))
    assert changes(state, status="open") == {}
    assert changes(state, status="new") == {"status": "new"}
    assert changes(state, status="in_progress") == {"status": "mitigating"}


# Reporting: late and out of order


def test_older_revision_does_not_overwrite() -> None:
    state = issue(report(title="New", severity="p1", source_updated_at=at(5)))
    fields: dict[str, object] = {
        "title": "Old",
        "severity": "p4",
        "body": "Old",
        "service": "shop",
        "team": "",
    }
    assert changes(state, **fields, source_updated_at=at(4)) == {}


def test_newer_revision_overwrites_and_advances_the_time() -> None:
    state = issue(report(title="Old", source_updated_at=at(4)))
    change = report_issue(report(title="New", source_updated_at=at(5)), state, now=NOW)
    assert change is not None
    assert ({"title": "New", "source_updated_at": at(5)}, at(5)) == (delta_of(change), change.occurred_at)


def test_newer_revision_with_the_same_content_advances_the_time() -> None:
    state = issue(report(title="Same", source_updated_at=at(4)))
    assert {"source_updated_at": at(5)} == changes(state, title="Same", source_updated_at=at(5))


@pytest.mark.parametrize(("known", "sent"), [(at(4), at(4)), (at(4), None), (None, None), (None, at(1))])
def test_equal_or_missing_time_applies(known: object, sent: object) -> None:
    state = issue(report(title="Old", source_updated_at=known))
    assert changes(state, title="New", source_updated_at=sent)["title"] == "New"


def test_same_revision_again_leaves_alone_what_was_edited_here() -> None:
    revision: dict[str, object] = {
        "title": "T",
        "severity": "p3",
        "status": "open",
        "source_updated_at": at(4),
    }
    state = edited(issue(report(**revision)), severity="p1", title="Better")
    closed = close_issue(
        ingest.CloseIssue(issue_id=A1, status=ingest.IssueStatus.CLOSED, reason=""), state, now=NOW
    )
    state = after(state, closed)
    assert changes(state, **revision) == {}
    assert changes(state, **revision, body="More") == {"body": "More"}


def test_newer_revision_overwrites_what_was_edited_here() -> None:
    state = edited(issue(report(severity="p3", source_updated_at=at(4))), severity="p1")
    expected = {"severity": "p4", "source_updated_at": at(5)}
    assert expected == changes(state, severity="p4", source_updated_at=at(5))


def test_same_revision_may_be_corrected_more_than_once() -> None:
    state = issue(report(title="1", source_updated_at=at(4)), report(title="2", source_updated_at=at(4)))
    assert changes(state, title="3", source_updated_at=at(4)) == {"title": "3"}


# Updating


def test_update_changes_only_what_differs() -> None:
    state = issue(report(title="Down", severity="p1", team="x", service="shop"))
    cmd = ingest.UpdateIssue(
        issue_id=A1, title=" Down ", severity="High", status="In progress", team="", cleared=("service",)
    )
    change = update_issue(cmd, state, now=NOW)
    assert change is not None
    expected = {"severity": "p2", "status": "mitigating", "cleared": ("service", "team")}
    assert (expected, NOW) == (delta_of(change), change.occurred_at)


def test_update_that_changes_nothing_gives_no_event() -> None:
    state = issue(report(title="Down", status="analyzing", metadata={"a": 1}))
    cmd = ingest.UpdateIssue(
        issue_id=A1, title="Down", status="open", metadata={"a": 1}, cleared=("team", "team")
    )
    assert update_issue(cmd, state, now=NOW) is None


def test_update_of_an_unknown_issue_is_refused() -> None:
    with pytest.raises(IssueNotFoundError, match=f"there is no issue {FRESH_ID}") as refused:
        update_issue(ingest.UpdateIssue(issue_id=FRESH_ID, title="x"), None, now=NOW)
    assert refused.value.details == {"id": FRESH_ID}


def test_update_tells_every_wrong_field() -> None:
    cmd = ingest.UpdateIssue(
        issue_id=A1,
        title=" ",
        severity="",
        status="nope",
        body="x" * 65_537,
        external_url="x",
        metadata={"x": "y" * 70_000},
        cleared=("title", "team"),
        assignee="x" * 301,
    )
    with pytest.raises(InvalidIssueError) as refused:
        update_issue(cmd, issue(report()), now=NOW)
    expected = {"title", "severity", "status", "body", "external_url", "metadata", "cleared", "assignee"}
    assert expected == refused.value.details.keys()


def test_update_that_sets_and_clears_a_field_is_refused() -> None:
    cmd = ingest.UpdateIssue(issue_id=A1, team="x", cleared=("team",))
    with pytest.raises(
        InvalidIssueError, match="cleared: 'team' is also given a value; send one or the other"
    ):
        update_issue(cmd, issue(report()), now=NOW)


# Closing


@pytest.mark.parametrize("status", ["resolved", "closed", "wont_fix"])
def test_closing_records_status_and_reason(status: str) -> None:
    cmd = ingest.CloseIssue(issue_id=A1, status=ingest.IssueStatus(status), reason=" Fixed\r\n ")
    change = close_issue(cmd, issue(report()), now=NOW)
    event = ingest.IssueClosed(issue_id=A1, status=ingest.IssueStatus(status), reason="Fixed")
    assert Change(event, NOW) == change
    assert status == after(issue(report()), change).content.status


def test_closing_again_with_the_same_status_gives_no_event() -> None:
    cmd = ingest.CloseIssue(issue_id=A1, status=ingest.IssueStatus.CLOSED, reason="again")
    assert close_issue(cmd, issue(report(status="closed")), now=NOW) is None
    assert close_issue(cmd, issue(report(status="resolved")), now=NOW) is not None


def test_closing_with_a_status_that_ends_nothing_is_refused() -> None:
    cmd = ingest.CloseIssue(issue_id=A1, status=ingest.IssueStatus.ANALYZING, reason="x" * 2001)
    with pytest.raises(InvalidIssueError) as refused:
        close_issue(cmd, issue(report()), now=NOW)
    assert refused.value.details == {
        "reason": "is 2001 characters long; shorten it to at most 2000",
        "status": "analyzing ends nothing; use one of resolved, closed, wont_fix",
    }


def test_closing_an_unknown_issue_is_refused() -> None:
    with pytest.raises(IssueNotFoundError):
        close_issue(
            ingest.CloseIssue(issue_id=A1, status=ingest.IssueStatus.CLOSED, reason=""), None, now=NOW
        )


# Folding


def test_history_folds_to_the_latest_content() -> None:
    reported = issue(report(team="x", title="Down")).content
    history = [
        recorded(reported, occurred_at=at(1)),
        recorded(ingest.IssueUpdated(issue_id=A1, title="Up", cleared=("team",)), occurred_at=at(2)),
        recorded(ingest.IssueClosed(issue_id=A1, status=ingest.IssueStatus.WONT_FIX, reason="")),
    ]
    state = fold(history)
    assert state is not None
    assert (at(1), "Up", None, "wont_fix") == (
        state.occurred_at,
        state.content.title,
        state.content.team,
        state.content.status,
    )
    assert fold([]) is None


def test_history_without_its_beginning_is_a_broken_log() -> None:
    with pytest.raises(ValueError, match="does not begin with IssueReported"):
        evolve(None, ingest.IssueUpdated(issue_id=A1, title="x"), at=NOW)


short = st.text(alphabet="ab \n\x00é", max_size=4)
records = st.fixed_dictionaries(
    {},
    optional={
        "title": short,
        "body": short,
        "severity": st.sampled_from(["p1", "HIGH", "low", ""]),
        "status": st.sampled_from(["new", "open", "in_progress", "resolved", "wont_fix", "analyzed"]),
        "external_url": st.sampled_from(["", "https://a.example/1", "http://b.example"]),
        "metadata": st.dictionaries(st.sampled_from(["service", "team", "a"]), st.sampled_from(["x", 1, True, 1.0])),
        **{field: short for field in OPTIONAL_FIELDS if field != "external_url"},
    },
)  # fmt: skip


@given(st.lists(records, min_size=1, max_size=5))
def test_reporting_the_last_record_again_changes_nothing(sent: list[dict[str, object]]) -> None:
    state = issue(*(report(**fields) for fields in sent))
    assert report_issue(report(**sent[-1]), state, now=NOW) is None


@given(st.lists(records, min_size=1, max_size=5))
def test_known_issue_ends_up_with_everything_the_last_record_says(sent: list[dict[str, object]]) -> None:
    state = issue(*(report(**fields) for fields in sent))
    last = report(**sent[-1])
    for field in ("title", "body", "severity", *OPTIONAL_FIELDS):
        said = getattr(last, field)
        if said is not None:
            assert getattr(state.content, field) == (said or (None if field in OPTIONAL_FIELDS else said))
    if last.metadata is not None:
        assert repr(last.metadata) == repr(state.content.metadata)


@given(records, records)
def test_field_that_a_record_leaves_out_is_never_touched(
    first: dict[str, object], second: dict[str, object]
) -> None:
    change = report_issue(report(**second), issue(report(**first)), now=NOW)
    if change is not None and isinstance(change.event, ingest.IssueUpdated):
        touched = {*delta_of(change), *change.event.cleared} - {"cleared"}
        metadata = second.get("metadata")
        fallbacks = metadata.keys() & {"service"} if isinstance(metadata, dict) else set()
        assert touched <= second.keys() | fallbacks


@given(records, records, st.integers(1, 9), st.integers(1, 9))
def test_an_older_revision_never_changes_anything(
    first: dict[str, object], second: dict[str, object], one: int, other: int
) -> None:
    newer, older = max(one, other) + 1, min(one, other)
    state = issue(report(**first, source_updated_at=at(newer)))
    assert report_issue(report(**second, source_updated_at=at(older)), state, now=NOW) is None


@pytest.mark.parametrize(
    ("text", "author_id", "problem"),
    [(" \n ", "usr_1", "text"), ("x" * 10_001, "usr_1", "text"), ("Seen.", None, "author")],
    ids=["empty", "long", "nobody"],
)
def test_a_comment_says_something_in_somebodys_name(text: str, author_id: str | None, problem: str) -> None:
    cmd = ingest.CommentIssue(issue_id=A1, text=text)
    with pytest.raises(InvalidIssueError) as refused:
        comment_issue(cmd, author_id=author_id, comment_id="cmt_1", now=NOW)
    assert list(refused.value.problems) == [problem]


def answered(*, cites: str = "e1") -> ingest.RecordAnalysis:
    claim = ingest.AnalysisClaim(text="The pool is too small.", evidence_ids=(cites,))
    return ingest.RecordAnalysis(
        issue_id=A1,
        analysis_id="ana_1",
        analysis=ingest.Analysis(
            root_cause=claim,
            contributing_factors=(claim,),
            why_recurring=claim,
            confidence=0.5,
            model="evidence",
            model_version="evidence@2026-11-22",
            evidence=(ingest.AnalysisEvidence(id="e1", kind="terms", text="Titles say so.", issue_ids=()),),
        ),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [("new", "analyzed"), ("analyzing", "analyzed"), ("in_loop", "in_loop"), ("resolved", "resolved")],
)
def test_an_analysis_ends_as_analyzed_where_nobody_has_decided(before: str, after: str) -> None:
    """What somebody has made of the issue outlasts its analysis; nothing runs afterwards."""
    state = issue(report(status=ingest.IssueStatus(before)))
    cmd = ingest.StartAnalysis(issue_id=A1, tier=ingest.AnalysisTier.FAST)
    begun = start_analysis(cmd, state, analysis_id="ana_1", now=NOW)
    assert begun is not None
    running = evolve(state, begun.event, at=NOW)
    assert start_analysis(cmd, running, analysis_id="ana_2", now=NOW) is None
    ended = record_analysis(answered(), running, now=NOW)
    assert ended is not None
    assert isinstance(ended.event, ingest.AnalysisRecorded)
    assert (ended.event.status, ended.event.tier) == (after, "fast")
    done = evolve(running, ended.event, at=NOW)
    assert (done.content.status, done.analysis) == (after, None)
    assert record_analysis(answered(), done, now=NOW) is None


def test_an_answer_cites_what_it_has_and_belongs_to_what_runs() -> None:
    """A claim without its evidence is refused; the answer to another analysis changes nothing."""
    cmd = ingest.StartAnalysis(issue_id=A1, tier=ingest.AnalysisTier.DEEP)
    begun = start_analysis(cmd, issue(report()), analysis_id="ana_1", now=NOW)
    assert begun is not None
    running = evolve(issue(report()), begun.event, at=NOW)
    with pytest.raises(InvalidIssueError):
        record_analysis(answered(cites="e2"), running, now=NOW)
    assert record_analysis(replace(answered(), analysis_id="ana_0"), running, now=NOW) is None
    for decide in (
        lambda: start_analysis(cmd, None, analysis_id="ana_1", now=NOW),
        lambda: record_analysis(answered(), None, now=NOW),
    ):
        with pytest.raises(IssueNotFoundError):
            decide()
