"""The history of an aggregate as people read it, paged like every list."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, assert_never

from contracts import Event, Recorded, connector, ingest, pattern, prediction, recommendation, workspace
from msgspec import Meta, Struct

from services.gateway.listing import make_cursor, read_cursor
from services.gateway.routes.pages import ListQuery, PageInfo

_TOLD = (
    "title",
    "severity",
    "status",
    "service",
    "component",
    "error_type",
    "environment",
    "version",
    "team",
    "assignee",
    "external_url",
)
"""Fields of an issue that are short enough to be told in a sentence."""


class Entry(Struct, frozen=True, kw_only=True):
    """One event."""

    id: str
    sequence: Annotated[int, Meta(description="Its place in the log; good as `as_of`.")]
    type: Annotated[str, Meta(description="The event's name, such as PatternDetected.")]
    summary: str
    occurred_at: datetime
    recorded_at: datetime
    actor: Annotated[str | None, Meta(description="Who caused it; null: the system by itself.")]


class Timeline(Struct, frozen=True, kw_only=True):
    """A page of a history."""

    data: tuple[Entry, ...]
    page: PageInfo


def timeline_page(
    history: Sequence[Recorded[Event]],
    query: ListQuery,
    *,
    secret: str,
    scope: str,
    tell: Callable[[Event], str] | None = None,
) -> Timeline:
    """The page that a query asks for, newest first. tell: an event in a sentence; None: as `summary_of`.

    Raises ValidationFailedError on a cursor that is not ours.
    """
    context = ("history", scope)
    before: float = float("inf")
    if query.cursor is not None:
        before = read_cursor(query.cursor, secret=secret, context=context).seq
    older = [event for event in reversed(history) if event.seq < before]
    page = older[: query.limit]
    has_more = len(older) > len(page)
    following = make_cursor("", page[-1].seq, secret=secret, context=context) if has_more else None
    return Timeline(
        data=tuple(_entry(event, tell or summary_of) for event in page),
        page=PageInfo(next_cursor=following, has_more=has_more, total=len(history)),
    )


def _entry(event: Recorded[Event], tell: Callable[[Event], str]) -> Entry:
    return Entry(
        id=event.id,
        sequence=event.seq,
        type=type(event.data).__name__,
        summary=tell(event.data),
        occurred_at=event.time,
        recorded_at=event.recorded_at,
        actor=event.actor,
    )


def summary_of(data: Event) -> str:
    """One event in a sentence."""
    if isinstance(data, connector.Event):
        # Nobody reads the history of a connector here: its runs have lists of their own.
        return f"{type(data).__name__}."
    match data:
        case (
            pattern.IssuesLinked()
            | pattern.PatternDetected()
            | pattern.PatternDescribed()
            | pattern.PatternStatusChanged()
            | pattern.IssueUnlinked()
            | pattern.LinkConstrained()
            | pattern.PatternsMerged()
            | pattern.PatternSplit()
            | pattern.LinkSuggested()
            | pattern.DecisionsContradicted()
            | pattern.ContradictionAnswered()
            | pattern.ClustersComputed()
            | pattern.GroupingVersionFitted()
            | pattern.GroupingVersionCompared()
            | pattern.GroupingVersionActivated()
        ):
            return _of_pattern(data)
        case (
            ingest.IssueReported()
            | ingest.IssueUpdated()
            | ingest.IssueClosed()
            | ingest.IssueCommented()
            | ingest.AnalysisStarted()
            | ingest.AnalysisRecorded()
            | ingest.ModelAsked()
            | ingest.IssueExpired()
            | ingest.IssueRestored()
            | ingest.IssuesPurged()
            | ingest.PromptsExpired()
        ):
            return _of_issue(data)
        case (
            prediction.PredictionMade()
            | prediction.PredictionResolved()
            | prediction.PredictionFeedbackGiven()
            | prediction.PredictionDismissed()
            | prediction.AlertFired()
            | prediction.ModelFitted()
            | prediction.PredictionExpired()
            | prediction.PredictionsPurged()
            | recommendation.RecommendationMade()
            | recommendation.RecommendationReassessed()
            | recommendation.RecommendationStatusChanged()
            | recommendation.RecommendationStepChecked()
            | recommendation.ProofStarted()
            | recommendation.ProofNoted()
            | recommendation.ProofReassessed()
            | recommendation.FixVerified()
            | recommendation.FixBroken()
            | recommendation.FixInconclusive()
            | recommendation.PlayDefined()
            | recommendation.PlayWithdrawn()
            | recommendation.RecommendationWithheld()
            | workspace.WorkspaceCreated()
            | workspace.WorkspaceSettingsChanged()
            | workspace.WorkspaceSuspended()
            | workspace.WorkspaceReinstated()
            | workspace.WorkspaceErased()
        ):
            return f"{type(data).__name__}."
        case never:
            assert_never(never)


def _of_pattern(data: pattern.Event) -> str:
    match data:
        case pattern.IssuesLinked():
            return f"{_count(len(data.links), 'issue')} linked; {data.assessment.issue_count} in all."
        case pattern.PatternDetected():
            return f"Detected as “{data.name}” with {_count(data.assessment.issue_count, 'issue')}."
        case pattern.PatternDescribed():
            return f"Described as “{data.name}”; risk {data.assessment.risk_score:.0f}."
        case pattern.PatternStatusChanged():
            return f"{data.from_status.value} → {data.to_status.value}: {data.reason}"
        case pattern.IssueUnlinked():
            return f"{data.issue_id} unlinked; {data.assessment.issue_count} left."
        case pattern.LinkConstrained():
            word = "must" if data.kind is pattern.ConstraintKind.MUST_LINK else "must not"
            return f"Issues like {data.issue_id} {word} be members."
        case pattern.PatternsMerged():
            return f"{data.source_pattern_id} merged into this; {data.assessment.issue_count} issues in all."
        case pattern.PatternSplit():
            return f"{_count(len(data.issue_ids), 'issue')} moved to {data.new_pattern_id}."
        case pattern.LinkSuggested():
            suggested = ", ".join(f"{each.pattern_id} ({each.score:.2f})" for each in data.suggestions)
            return f"{data.issue_id} may belong to {suggested}."
        case pattern.DecisionsContradicted():
            later = data.later.issue_id or data.later.merged_pattern_id
            return (
                f"The decision about {later} overrules the one about {data.earlier.issue_id}: which is right?"
            )
        case pattern.ContradictionAnswered():
            return f"The {data.keep.value} of two decisions was chosen."
        case pattern.GroupingVersionFitted():
            verdict = "better" if data.is_better else "no better"
            return f"{data.linker.version} was fitted from {_count(data.n_decisions, 'decision')}: {verdict} than what is shipped."
        case pattern.GroupingVersionCompared():
            return f"{data.version} would move {_count(data.n_moved, 'issue')} of {data.n_asked}."
        case pattern.GroupingVersionActivated():
            return f"New issues are grouped by {data.version}."
        case pattern.ClustersComputed():
            return f"{_count(len(data.clusters), 'cluster')} of {_count(data.n_patterns, 'pattern')}."
        case never:
            assert_never(never)


def _of_issue(data: ingest.Event) -> str:
    match data:
        case ingest.IssueReported():
            return f"Reported by {data.source} as {data.severity.value}, {data.status.value}."
        case ingest.IssueUpdated():
            told = [f"{name}: {getattr(data, name)}" for name in _TOLD if getattr(data, name) is not None]
            changed = [f"{name} changed" for name in ("body", "metadata") if getattr(data, name) is not None]
            cleared = [f"{name} emptied" for name in data.cleared]
            return "; ".join((*told, *changed, *cleared)) or "Revised at its source."
        case ingest.IssueClosed():
            return f"status: {data.status.value}" + (f": {data.reason}" if data.reason else "")
        case ingest.IssueCommented():
            return data.text
        case ingest.AnalysisStarted():
            return f"Analysis begun ({data.tier.value})."
        case ingest.AnalysisRecorded():
            return f"Analysed by {data.analysis.model}: {data.analysis.root_cause.text}"
        case ingest.ModelAsked():
            return f"{data.exchange.model} was asked {_count(len(data.exchange.attempts), 'time')}."
        case ingest.IssueExpired():
            return "Expired: nobody had touched it for as long as issues are kept."
        case ingest.IssueRestored():
            return f"Reported again by {data.issue.source}, and shown again."
        case ingest.IssuesPurged():
            return f"{_count(len(data.issues), 'issue')} purged."
        case ingest.PromptsExpired():
            return f"Prompts of {_count(len(data.analysis_ids), 'analysis', 'analyses')} expired."
        case never:
            assert_never(never)


def _count(n: int, noun: str, many: str = "") -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {many or noun + 's'}"
