"""The end of issues that have reached their age: first shown to nobody, then gone but for what counts need."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from contracts import Event, Recorded, ingest

from services.ingest.commands.change import FINAL_STATUSES


def expire_issue(
    history: Sequence[Recorded[Event]], *, issue_id: str, unchanged_since: datetime
) -> ingest.IssueExpired | None:
    """That an issue is shown no longer; None when it changed since then, is expired already, or unknown."""
    if not history or history[-1].recorded_at >= unchanged_since:
        return None
    if isinstance(history[-1].data, ingest.IssueExpired):
        return None
    return ingest.IssueExpired(issue_id=issue_id)


def expire_prompts(
    histories: Sequence[Sequence[Recorded[Event]]], *, workspace_id: str, asked_before: datetime
) -> ingest.PromptsExpired | None:
    """That what models were asked is shown no longer; None when all of it is younger, or gone."""
    aged = [
        history[-1].aggregate_id
        for history in histories
        if history and history[-1].recorded_at < asked_before
    ]
    return ingest.PromptsExpired(workspace_id=workspace_id, analysis_ids=tuple(aged)) if aged else None


def purge_issue(history: Sequence[Recorded[Event]], *, expired_before: datetime) -> ingest.PurgedIssue | None:
    """What is kept of an issue; None when it is not expired, or not for long enough."""
    if not history or not isinstance(history[-1].data, ingest.IssueExpired):
        return None
    expired = history[-1]
    if expired.recorded_at >= expired_before:
        return None
    for first in history:
        if isinstance(first.data, ingest.IssueReported | ingest.IssueRestored):
            break
    else:
        return None
    content = first.data.issue if isinstance(first.data, ingest.IssueRestored) else first.data
    status, ended_at = _end_of(history)
    return ingest.PurgedIssue(
        issue_id=content.issue_id,
        last_sequence=expired.seq,
        source=content.source,
        severity=content.severity,
        occurred_at=first.time,
        reported_at=first.recorded_at,
        service=content.service,
        component=content.component,
        error_type=content.error_type,
        environment=content.environment,
        version=content.version,
        team=content.team,
        status=status,
        ended_at=ended_at,
        analysis_ids=tuple(e.data.analysis_id for e in history if isinstance(e.data, ingest.AnalysisStarted)),
    )


def _end_of(history: Sequence[Recorded[Event]]) -> tuple[ingest.IssueStatus, datetime | None]:
    """The last status and, if it is a final one, when that was last said."""
    status, ended_at = ingest.IssueStatus.NEW, None
    for event in history:
        match event.data:
            case ingest.IssueReported() as data:
                status = data.status
                ended_at = data.source_updated_at if status in FINAL_STATUSES else None
            case ingest.IssueUpdated() | ingest.IssueClosed() as data if data.status is not None:
                status = data.status
                ended_at = event.time if status in FINAL_STATUSES else None
            case ingest.IssueRestored() as data:
                status = data.issue.status
                ended_at = ended_at if status in FINAL_STATUSES else None
            case _:
                pass
    return status, ended_at


def counted_from(histories: Sequence[Sequence[Recorded[Event]]]) -> datetime:
    """The first UTC day of which no event of these histories is counted; an expiry is not counted at all."""
    last = max(
        e.recorded_at for history in histories for e in history if not isinstance(e.data, ingest.IssueExpired)
    )
    day = last.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)
