"""Short ways to say what a test needs."""

from datetime import UTC, datetime

from contracts import Event, Recorded, ingest, issue_id, record

from services.ingest.commands import Change, ReportIssue, canonical_report, report_issue
from services.ingest.state import Issue, evolve

WORKSPACE = "ws_test"
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
FRESH_ID = "iss_01HZ0000000000000000000000"


def at(day: int, hour: int = 0) -> datetime:
    """A moment of April 2026."""
    return datetime(2026, 4, day, hour, tzinfo=UTC)


def report(**fields: object) -> ReportIssue:
    """The canonical command of a record with these fields; external_id is "A-1" unless given."""
    record_ = ingest.IssueReport(**{"external_id": "A-1", "source": "jira", **fields})  # type: ignore[arg-type]  # fields by name
    return canonical_report(record_, workspace_id=WORKSPACE, fresh_id=None, now=NOW)


def issue(*commands: ReportIssue) -> Issue:
    """The issue after these reports."""
    state: Issue | None = None
    for command in commands:
        state = after(state, report_issue(command, state, now=NOW))
    assert state is not None
    return state


def after(state: Issue | None, change: Change | None) -> Issue:
    """The issue after a decision."""
    if change is None:
        assert state is not None
        return state
    return evolve(state, change.event, at=change.occurred_at)


def recorded(event: ingest.Event, *, occurred_at: datetime = NOW) -> Recorded[Event]:
    """An event in its envelope."""
    return record(
        event,
        workspace_id=WORKSPACE,
        aggregate_id=event.issue_id,
        occurred_at=occurred_at,
        recorded_at=NOW,
        source="ingest",
    )


A1 = issue_id(WORKSPACE, "jira", "A-1")
