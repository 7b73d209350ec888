"""Asking why an issue happened, and writing the answer down."""

from datetime import datetime

from contracts import ingest

from services.ingest.commands.report import Change
from services.ingest.errors import InvalidIssueError, IssueNotFoundError
from services.ingest.state import Issue

_UNTOUCHED = (ingest.IssueStatus.NEW, ingest.IssueStatus.ANALYZING)


def start_analysis(
    cmd: ingest.StartAnalysis, state: Issue | None, *, analysis_id: str, now: datetime
) -> Change | None:
    """The beginning of an analysis; None while one runs. Raises IssueNotFoundError."""
    if state is None:
        raise IssueNotFoundError(cmd.issue_id)
    if state.analysis is not None:
        return None
    return Change(ingest.AnalysisStarted(issue_id=cmd.issue_id, analysis_id=analysis_id, tier=cmd.tier), now)


def record_analysis(cmd: ingest.RecordAnalysis, state: Issue | None, *, now: datetime) -> Change | None:
    """The answer to the analysis that runs; None when it does not run any more.

    An issue that nobody has touched is analyzed from now on; what somebody has made of it stays.
    Raises IssueNotFoundError, and InvalidIssueError for a claim that cites what is not there.
    """
    if state is None:
        raise IssueNotFoundError(cmd.issue_id)
    if state.analysis is None or state.analysis.analysis_id != cmd.analysis_id:
        return None
    answer = cmd.analysis
    known = {evidence.id for evidence in answer.evidence}
    claims = (answer.root_cause, answer.why_recurring, *answer.contributing_factors)
    if any(not known.issuperset(claim.evidence_ids) for claim in claims):
        raise InvalidIssueError({"analysis": "cites evidence that it does not have"})
    status = state.content.status
    event = ingest.AnalysisRecorded(
        issue_id=cmd.issue_id,
        analysis_id=cmd.analysis_id,
        tier=state.analysis.tier,
        status=ingest.IssueStatus.ANALYZED if status in _UNTOUCHED else status,
        analysis=answer,
    )
    return Change(event, now)
