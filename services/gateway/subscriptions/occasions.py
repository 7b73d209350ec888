"""From events of the log to what webhooks are told. Pure; the state that is sent is read later."""

from collections.abc import Mapping

from contracts import Event, Recorded, connector, derived_id, ingest, pattern, prediction, recommendation
from msgspec import Struct

from services.gateway.identity.webhooks.messages import EventType


class Occasion(Struct, frozen=True):
    """Something that webhooks can be told.

    subject_id: of the resource that it is about. details: ids and words that the resource's state does not tell, or not
    for long. connector_id: whose it is; None: no connector's, or the rows know.
    """

    type: EventType
    subject_id: str
    details: Mapping[str, object] = {}
    connector_id: str | None = None


def event_id_of(event: Recorded[Event], occasion: Occasion) -> str:
    """The id that an occasion has for whoever hears of it."""
    return derived_id("evt_", event.id, occasion.type, occasion.subject_id)


def delivery_id_of(webhook_id: str, event_id: str) -> str:
    """The id of the delivery by which a webhook is first told of an event; what is sent once more has another."""
    return derived_id("whd_", webhook_id, event_id)


def occasions_of(event: Recorded[Event]) -> list[Occasion]:
    """What an event gives to tell."""
    match event.data:
        case ingest.IssueReported() as reported:
            return [Occasion("issue.created", reported.issue_id)]
        case ingest.IssueRestored() as restored:
            return [Occasion("issue.created", restored.issue.issue_id)]
        case ingest.IssueUpdated() as updated:
            if updated.status is None:
                return []
            return [Occasion("issue.status.changed", updated.issue_id, {"changed_to": updated.status.value})]
        case ingest.IssueClosed() as closed:
            return [Occasion("issue.status.changed", closed.issue_id, {"changed_to": closed.status.value})]
        case ingest.AnalysisStarted() as started:
            return [Occasion("issue.status.changed", started.issue_id, {"changed_to": "analyzing"})]
        case ingest.AnalysisRecorded() as analysed:
            words = {"changed_to": analysed.status.value}
            return [Occasion("issue.status.changed", analysed.issue_id, words)]
        case pattern.PatternDetected() as detected:
            return [_pattern(detected.pattern_id, "created")]
        case pattern.PatternStatusChanged() as moved:
            return [_pattern(moved.pattern_id, "updated")]
        case pattern.PatternDescribed() as described:
            return [_pattern(described.pattern_id, "updated")]
        case pattern.PatternsMerged() as merged:
            # The end of the one that went is a move of its own.
            return [_pattern(merged.target_pattern_id, "updated")]
        case pattern.PatternSplit() as split:
            # The new one is detected by itself.
            return [_pattern(split.pattern_id, "updated")]
        case prediction.PredictionMade() as made:
            return [] if made.held_out else [Occasion("prediction.created", made.prediction_id)]
        case prediction.AlertFired() as fired:
            return [Occasion("prediction.alert.fired", fired.prediction_id, {"threshold": fired.threshold})]
        case recommendation.RecommendationMade() as advised:
            return [Occasion("recommendation.created", advised.recommendation_id)]
        case recommendation.RecommendationStatusChanged() as advice:
            moved_by = {"previous_status": advice.from_status.value, "changed_to": advice.to_status.value}
            return [Occasion("recommendation.status.changed", advice.recommendation_id, moved_by)]
        case recommendation.FixVerified() as fix:
            return [Occasion("fix.verified", fix.fix_id, {"pattern_id": fix.pattern_id})]
        case recommendation.FixBroken() as fix:
            return [Occasion("fix.disproved", fix.fix_id, {"pattern_id": fix.pattern_id})]
        case connector.SyncEnded(outcome=connector.SyncOutcome.SUCCEEDED) as run:
            return [Occasion("connector.sync.succeeded", run.run_id, connector_id=run.connector_id)]
        case connector.SyncEnded(outcome=connector.SyncOutcome.FAILED) as run:
            return [Occasion("connector.sync.failed", run.run_id, connector_id=run.connector_id)]
        case _:
            # Most of what happens is told by these: a match by its issue, an expiry by nobody.
            return []


def _pattern(pattern_id: str, change: str) -> Occasion:
    return Occasion("pattern.detected", pattern_id, {"change": change})
