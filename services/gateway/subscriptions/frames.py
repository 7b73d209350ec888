"""From events to the frames that a workspace's clients see. Pure; what needs rows is asked for by id."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, assert_never

import msgspec
from contracts import Event, Recorded, connector, ingest, pattern, prediction, recommendation, workspace
from msgspec import Struct

from services.gateway.connecting import ConnectorEvent, RunEvent, TicketEvent
from services.gateway.fixing import RecommendationEvent

SCOPES: Final[Mapping[str, str]] = {
    "issue": "issues:read",
    "pattern": "patterns:read",
    "prediction": "predictions:read",
    "recommendation": "recommendations:read",
    "connector": "connectors:read",
}
"""What a listener needs to be sent frames, by the first word of their type: what the GET of the same needs."""
_JOB_SCOPES: Final[Mapping[object, str]] = {"workspace": "governance:read", "audit": "audit:read"}


class Packed(Struct, frozen=True):
    """A frame as it goes out, and the scope that whoever is sent it has to have."""

    scope: str
    body: bytes


class Frame(Struct, frozen=True):
    """One message to clients."""

    type: str
    payload: Mapping[str, object]
    ts: datetime

    @property
    def scope(self) -> str:
        """What a listener needs to be sent it. Raises KeyError for a type that nobody has decided about."""
        if self.type == "job.updated":
            return _JOB_SCOPES[self.payload["kind"]]
        return SCOPES[self.type.partition(".")[0]]

    def packed(self) -> Packed:
        """For the queues of listeners."""
        return Packed(self.scope, msgspec.json.encode(self))


class Lookup(Struct, frozen=True):
    """What a batch of one workspace's events leaves to be read from rows: patterns whose state to show, and issues.

    pattern_ids: with the recorded time of their last event in the batch. moved_from: the status before the batch of
    each pattern that moved to another.
    """

    pattern_ids: Mapping[str, datetime]
    detected_ids: frozenset[str]
    issue_ids: frozenset[str]
    moved_from: Mapping[str, pattern.PatternStatus] = {}


def lookup_of(events: Sequence[Recorded[Event]]) -> Lookup:
    """The rows that the frames of these events need."""
    patterns: dict[str, datetime] = {}
    detected: set[str] = set()
    issues: set[str] = set()
    moved: dict[str, pattern.PatternStatus] = {}
    for event in events:
        match event.data:
            case pattern.IssuesLinked() as data:
                patterns[data.pattern_id] = event.recorded_at
                issues.update(link.issue_id for link in data.links)
            case pattern.PatternDetected() as data:
                patterns[data.pattern_id] = event.recorded_at
                detected.add(data.pattern_id)
            case pattern.IssueUnlinked() as data:
                patterns[data.pattern_id] = event.recorded_at
                issues.add(data.issue_id)
            case ingest.AnalysisRecorded() as data:
                issues.add(data.issue_id)
            case pattern.PatternsMerged() as data:
                patterns[data.target_pattern_id] = patterns[data.source_pattern_id] = event.recorded_at
            case pattern.PatternSplit() as data:
                patterns[data.pattern_id] = patterns[data.new_pattern_id] = event.recorded_at
            case pattern.PatternDescribed() as data:
                patterns[data.pattern_id] = event.recorded_at
            case pattern.PatternStatusChanged() as data:
                patterns[data.pattern_id] = event.recorded_at
                moved.setdefault(data.pattern_id, data.from_status)
            case _:
                pass
    return Lookup(patterns, frozenset(detected), frozenset(issues), moved)


def frames_of(event: Recorded[Event]) -> list[Frame]:
    """The frames that an event gives by itself; what happens to patterns is read from their rows instead."""
    if isinstance(event.data, connector.Event):
        return _of_connector(event, event.data)
    match event.data:
        case ingest.IssueReported() | ingest.IssueUpdated() | ingest.IssueClosed() as issue:
            return _of_issue(event, issue)
        case ingest.IssueCommented() as comment:
            return [Frame("issue.commented", msgspec.structs.asdict(comment), event.recorded_at)]
        case ingest.AnalysisStarted() | ingest.AnalysisRecorded() as analysed:
            return _of_analysis(event, analysed)
        case ingest.ModelAsked():
            return []
        case (
            prediction.PredictionMade()
            | prediction.PredictionResolved()
            | prediction.PredictionFeedbackGiven()
            | prediction.PredictionDismissed()
            | prediction.AlertFired() as predicted
        ):
            return _of_prediction(event, predicted)
        case (
            recommendation.RecommendationMade()
            | recommendation.RecommendationReassessed()
            | recommendation.RecommendationStatusChanged()
            | recommendation.RecommendationStepChecked() as recommended
        ):
            return _of_recommendation(event, recommended)
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
            | prediction.ModelFitted()
            | prediction.PredictionExpired()
            | prediction.PredictionsPurged()
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
            | ingest.IssueExpired()
            | ingest.IssuesPurged()
            | ingest.PromptsExpired()
        ):
            return []
        case ingest.IssueRestored() as restored:
            return _of_issue(event, restored.issue)
        case never:
            assert_never(never)


def pattern_frames(body: Mapping[str, object], *, is_new: bool, at: datetime) -> list[Frame]:
    """The frames for a pattern that was detected or changed; `body` is what GET /v1/patterns/{id} shows."""
    change = "created" if is_new else "updated"
    detected = Frame("pattern.detected", {**body, "change": change}, at)
    return [detected] if is_new else [detected, Frame("pattern.updated", body, at)]


def link_frame(issue_id: str, *, before: str, now: str, pattern_id: str | None, at: datetime) -> Frame:
    """The frame for an issue whose status follows from its pattern."""
    payload = {"id": issue_id, "previous_status": before, "status": now, "pattern_id": pattern_id}
    return Frame("issue.status.changed", payload, at)


def _of_issue(
    event: Recorded[Event], data: ingest.IssueReported | ingest.IssueUpdated | ingest.IssueClosed
) -> list[Frame]:
    at = event.recorded_at
    match data:
        case ingest.IssueReported():
            payload = {
                "id": data.issue_id,
                "external_id": data.external_id,
                "source": data.source,
                "title": data.title,
                "severity": data.severity.value,
                "status": data.status.value,
                "service": data.service,
                "team": data.team,
                "source_created_at": event.time,
                "created_at": event.recorded_at,
            }
            return [Frame("issue.created", payload, at)]
        case ingest.IssueUpdated():
            changed = {
                name: value
                for name, value in msgspec.structs.asdict(data).items()
                if name not in ("issue_id", "cleared", "body", "metadata") and value is not None
            }
            frames = [
                Frame(
                    "issue.updated",
                    {"id": data.issue_id, "changed": changed, "cleared": data.cleared, "updated_at": at},
                    at,
                )
            ]
            if data.status is not None:
                frames.append(
                    Frame("issue.status.changed", {"id": data.issue_id, "status": data.status.value}, at)
                )
            return frames
        case ingest.IssueClosed():
            payload = {"id": data.issue_id, "status": data.status.value, "reason": data.reason}
            return [Frame("issue.status.changed", payload, at)]
        case never:
            assert_never(never)


def _of_analysis(
    event: Recorded[Event], data: ingest.AnalysisStarted | ingest.AnalysisRecorded
) -> list[Frame]:
    if isinstance(data, ingest.AnalysisStarted):
        started = {"id": data.issue_id, "status": "analyzing", "analysis_id": data.analysis_id}
        return [Frame("issue.status.changed", started, event.recorded_at)]
    analyzed = {
        "id": data.issue_id,
        "analysis_id": data.analysis_id,
        "root_cause": data.analysis.root_cause.text,
        "confidence": data.analysis.confidence,
        "model": data.analysis.model,
    }
    # Its own status; where it follows a pattern, the lookup tells what that makes of it.
    ended = {"id": data.issue_id, "status": data.status.value, "previous_status": "analyzing"}
    return [
        Frame("issue.analyzed", analyzed, event.recorded_at),
        Frame("issue.status.changed", ended, event.recorded_at),
    ]


def _of_prediction(event: Recorded[Event], data: prediction.Event) -> list[Frame]:
    match data:
        case prediction.PredictionMade(held_out=True):
            return []
        case prediction.PredictionMade():
            payload: dict[str, object] = {
                "id": data.prediction_id,
                "pattern_id": data.pattern_id,
                "window_days": data.window_days,
                "probability": data.probability,
                "impact": data.impact.value,
                "expires_at": data.expires_at,
            }
            return [Frame("prediction.generated", payload, event.recorded_at)]
        case prediction.AlertFired():
            payload = {
                "id": data.prediction_id,
                "pattern_id": data.pattern_id,
                "window_days": data.window_days,
                "probability": data.probability,
                "threshold": data.threshold,
            }
            return [Frame("prediction.alert.fired", payload, event.recorded_at)]
        case (
            prediction.PredictionResolved()
            | prediction.PredictionFeedbackGiven()
            | prediction.PredictionDismissed()
            | prediction.ModelFitted()
            | prediction.PredictionExpired()
            | prediction.PredictionsPurged()
        ):
            return []
        case never:
            assert_never(never)


def _of_recommendation(event: Recorded[Event], data: RecommendationEvent) -> list[Frame]:
    match data:
        case recommendation.RecommendationMade():
            payload = {
                "id": data.recommendation_id,
                "pattern_id": data.pattern_id,
                "title": data.title,
                "type": data.type.value,
                "impact": data.impact.value,
                "effort": data.effort.value,
                "expected_loops_prevented": data.arithmetic.expected_loops_prevented,
            }
            return [Frame("recommendation.created", payload, event.recorded_at)]
        case recommendation.RecommendationStatusChanged():
            payload = {
                "id": data.recommendation_id,
                "pattern_id": data.pattern_id,
                "previous_status": data.from_status.value,
                "status": data.to_status.value,
                "reason": data.reason,
            }
            return [Frame("recommendation.status.changed", payload, event.recorded_at)]
        case recommendation.RecommendationReassessed() | recommendation.RecommendationStepChecked():
            return []
        case never:
            assert_never(never)


def _of_connector(event: Recorded[Event], data: connector.Event) -> list[Frame]:
    if isinstance(data, connector.SyncRunsPurged):
        return []
    kind, payload = _told(data)
    return [Frame(kind, payload, event.recorded_at)]


def _told(data: ConnectorEvent | RunEvent | TicketEvent) -> tuple[str, dict[str, object]]:
    """Type and payload of the frame of a connector, a run or a ticket."""
    match data:
        case connector.ConnectorCreated():
            named = {"id": data.connector_id, **_named(data.settings)}
            return "connector.created", {**named, "status": data.status.value}
        case connector.ConnectorConfigured():
            return "connector.updated", {"id": data.connector_id, **_named(data.settings)}
        case connector.ConnectorCredentialsChanged():
            return "connector.updated", {"id": data.connector_id, "secrets": data.secrets}
        case connector.ConnectorStatusChanged():
            moved = {"status": data.status.value, "reason": data.reason, "detail": data.detail}
            return "connector.status.changed", {"id": data.connector_id, **moved}
        case connector.ConnectorDeleted():
            return "connector.deleted", {"id": data.connector_id}
        case connector.SyncRequested():
            asked = {"sync_run_id": data.run_id, "connector_id": data.connector_id, "kind": data.kind.value}
            return "connector.sync.requested", {**asked, "requested_by": data.requested_by}
        case connector.SyncProgressed():
            done = {"chunks_done": data.n_chunks_done, "chunks": data.n_chunks}
            return "connector.sync.progressed", {**_counted(data), **done}
        case connector.SyncEnded():
            why = {"reason": data.reason, "detail": data.detail}
            return f"connector.sync.{data.outcome.value}", {**_counted(data), **why}
        case connector.TicketCreated():
            named = {"id": data.recommendation_id, "ticket_id": data.ticket_id, "tracker": data.tracker}
            shown = {"external_id": data.external_id, "external_url": data.external_url}
            return "recommendation.ticket.created", {**named, "connector_id": data.connector_id, **shown}
        case connector.TicketStateChanged():
            moved = {"state": data.state.value, "external_status": data.external_status}
            return "recommendation.ticket.changed", {
                "id": data.recommendation_id,
                "ticket_id": data.ticket_id,
                **moved,
            }
        case never:
            assert_never(never)


def _named(settings: connector.ConnectorSettings) -> dict[str, object]:
    return {"type": settings.type, "display_name": settings.display_name}


def _counted(data: connector.SyncProgressed | connector.SyncEnded) -> dict[str, object]:
    counts = {name.removeprefix("n_"): n for name, n in msgspec.structs.asdict(data.counts).items()}
    return {"sync_run_id": data.run_id, "connector_id": data.connector_id, "counts": counts}
