"""The folds: what a recommendation, a pattern and a fix are after their events."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import assert_never

from contracts import Event, Recorded, ingest, pattern, prediction, recommendation
from msgspec import Struct
from msgspec.structs import replace

from services.recommendation.engine import proof
from services.recommendation.engine.ranking import (
    Exposure,
    Risk,
    observed_exposure,
    severity_weight,
)

FORECAST_WINDOW_DAYS = 30
"""The forecasts of this window carry the numbers that the ranking uses; the other windows have the same."""

CLOSED_PATTERNS = frozenset(
    {pattern.PatternStatus.CANDIDATE, pattern.PatternStatus.RESOLVED, pattern.PatternStatus.MERGED}
)
"""Patterns of which nobody needs a recommendation."""

OPEN_STATUSES = frozenset(
    {recommendation.RecommendationStatus.PENDING, recommendation.RecommendationStatus.IN_PROGRESS}
)


_Change = (
    recommendation.RecommendationReassessed
    | recommendation.RecommendationStatusChanged
    | recommendation.RecommendationStepChecked
)


class Recommendation(Struct, frozen=True, kw_only=True):
    """A recommendation as it is now.

    done_steps: positions of the ticked steps, in order. implemented_at: when it was; None unless it is implemented.
    environment, version: where it was, as far as somebody said so. seq: stream sequence of its last event.
    """

    workspace_id: str
    recommendation_id: str
    pattern_id: str
    play_id: str
    type: recommendation.RecommendationType
    effort: recommendation.Effort
    impact: recommendation.RecommendationImpact
    status: recommendation.RecommendationStatus
    score: float
    n_steps: int
    done_steps: tuple[int, ...] = ()
    implemented_at: datetime | None = None
    environment: str | None = None
    version: str | None = None
    seq: int


class Watch(Struct, frozen=True, kw_only=True):
    """A pattern has been fixed and is watched since: what its service said of that.

    watch_id: of the event that began it. environment, version: of the fix. note: what was done, the latest words.
    """

    watch_id: str
    fixed_at: datetime
    environment: str | None = None
    version: str | None = None
    note: str = ""


class Fix(Struct, frozen=True, kw_only=True):
    """A fix of a pattern and how its proof stands.

    ended_as: why the proof ended without a verdict. due_at: when it ends unless the pattern fails; None once it has.
    seq: stream sequence of its last event.
    """

    workspace_id: str
    fix_id: str
    pattern_id: str
    fixed_at: datetime
    environment: str | None = None
    version: str | None = None
    recommendation_ids: tuple[str, ...] = ()
    note: str = ""
    standing: proof.Standing = "proving"
    ended_as: recommendation.InconclusiveReason | None = None
    inputs: recommendation.ProofInputs
    seq: int

    @property
    def due_at(self) -> datetime | None:
        """When the window ends."""
        if self.standing != "proving":
            return None
        return self.fixed_at + timedelta(days=self.inputs.window_days)

    @property
    def is_over(self) -> bool:
        """Whether nothing that happens to the pattern can change the verdict any more."""
        reasons = recommendation.InconclusiveReason
        return self.standing == "broken" or self.ended_as in (reasons.SUPERSEDED, reasons.WITHDRAWN)


class Pattern(Struct, frozen=True, kw_only=True):
    """A pattern as far as recommending looks at it.

    exemplar: masked text of its first issue. n_p1 … n_p4: links by the severity of the issue.
    exposure: the numbers of its latest forecast, None before the first. watch: its latest fix.
    """

    workspace_id: str
    pattern_id: str
    status: pattern.PatternStatus = pattern.PatternStatus.CANDIDATE
    name: str = ""
    exemplar: str = ""
    fingerprint: tuple[pattern.FingerprintDimension, ...] = ()
    issue_count: int
    confidence: float
    first_seen_at: datetime
    last_seen_at: datetime
    n_p1: int = 0
    n_p2: int = 0
    n_p3: int = 0
    n_p4: int = 0
    exposure: Exposure | None = None
    watch: Watch | None = None
    seq: int

    @property
    def risk(self) -> Risk:
        """What it threatens, by its latest forecast, else by what was observed."""
        counts = {
            ingest.Severity.P1: self.n_p1,
            ingest.Severity.P2: self.n_p2,
            ingest.Severity.P3: self.n_p3,
            ingest.Severity.P4: self.n_p4,
        }
        observed = observed_exposure(self.issue_count, self.first_seen_at, self.last_seen_at)
        return Risk(exposure=self.exposure or observed, severity_weight=severity_weight(counts))


class OwnPlays(Struct, frozen=True, kw_only=True):
    """A workspace's own plays as far as one of them is concerned.

    known: that one; None: it is not among them. n_plays: how many there are. seq: stream sequence of their last event,
    0 before the first.
    """

    known: recommendation.Play | None = None
    n_plays: int = 0
    seq: int = 0


class Abstention(Struct, frozen=True, kw_only=True):
    """That nothing was recommended for a pattern, and what came closest. seq: stream sequence of its last event."""

    workspace_id: str
    pattern_id: str
    best_play_id: str | None
    best_fit: float
    seq: int


def abstention_of(event: Recorded[Event], data: recommendation.RecommendationWithheld) -> Abstention:
    """What an event says of it, which is all there is."""
    return Abstention(
        workspace_id=event.workspace_id,
        pattern_id=data.pattern_id,
        best_play_id=data.best_play_id,
        best_fit=data.best_fit,
        seq=event.seq,
    )


def fold(history: Iterable[Recorded[Event]]) -> Recommendation | None:
    """The recommendation after its history, oldest first; None when there is none."""
    state: Recommendation | None = None
    for event in history:
        state = evolve(state, event)
    return state


def evolve(state: Recommendation | None, event: Recorded[Event]) -> Recommendation | None:
    """The recommendation after one more event; events of other things change nothing."""
    data = event.data
    if isinstance(data, recommendation.RecommendationMade):
        return Recommendation(
            workspace_id=event.workspace_id,
            recommendation_id=data.recommendation_id,
            pattern_id=data.pattern_id,
            play_id=data.play_id,
            type=data.type,
            effort=data.effort,
            impact=data.impact,
            status=recommendation.RecommendationStatus.PENDING,
            score=data.arithmetic.score,
            n_steps=len(data.steps),
            seq=event.seq,
        )
    if state is None or not isinstance(data, _Change):
        return state
    return replace(_changed(state, data, event.time), seq=event.seq)


def _changed(state: Recommendation, data: _Change, at: datetime) -> Recommendation:
    match data:
        case recommendation.RecommendationReassessed():
            return replace(state, impact=data.impact, score=data.arithmetic.score)
        case recommendation.RecommendationStatusChanged():
            is_implemented = data.to_status is recommendation.RecommendationStatus.IMPLEMENTED
            return replace(
                state,
                status=data.to_status,
                implemented_at=at if is_implemented else None,
                environment=data.environment,
                version=data.version,
            )
        case recommendation.RecommendationStepChecked():
            others = set(state.done_steps) - {data.step_index}
            done = others | {data.step_index} if data.is_done else others
            return replace(state, done_steps=tuple(sorted(done)))
        case _:
            assert_never(data)


def evolve_pattern(
    state: Pattern | None, event: Recorded[Event], *, source: Pattern | None = None
) -> Pattern | None:
    """The pattern after one more event; events that say nothing of it change nothing.

    source: the pattern that a PatternsMerged ended; its links count for the target from now on.
    """
    data = event.data
    if isinstance(data, pattern.IssuesLinked):
        return _linked(state, data, event)
    if state is None or not isinstance(data, pattern.Event | prediction.PredictionMade):
        return state
    if isinstance(data, pattern.PatternStatusChanged):
        state = replace(state, watch=_watched(state.watch, data, event))
    return replace(_pattern_changed(state, data, source), seq=event.seq)


def _pattern_changed(
    state: Pattern, data: pattern.Event | prediction.PredictionMade, source: Pattern | None
) -> Pattern:
    match data:
        case pattern.PatternDetected() | pattern.PatternDescribed():
            described = replace(state, name=data.name, fingerprint=data.fingerprint)
            if isinstance(data, pattern.PatternDetected):
                described = replace(described, status=pattern.PatternStatus.EMERGING)
            return _assessed(described, data.assessment)
        case pattern.PatternStatusChanged():
            return replace(state, status=data.to_status)
        case pattern.IssueUnlinked() | pattern.PatternSplit():
            return _assessed(state, data.assessment)
        case pattern.PatternsMerged():
            return _assessed(_with_links_of(state, source), data.assessment)
        case prediction.PredictionMade():
            # Nobody acts on a forecast that is held out, so nothing is ranked by it.
            if data.window_days != FORECAST_WINDOW_DAYS or data.held_out:
                return state
            return replace(state, exposure=_exposure(data))
        case (
            pattern.IssuesLinked()
            | pattern.LinkConstrained()
            | pattern.LinkSuggested()
            | pattern.DecisionsContradicted()
            | pattern.ContradictionAnswered()
            | pattern.ClustersComputed()
            | pattern.GroupingVersionFitted()
            | pattern.GroupingVersionCompared()
            | pattern.GroupingVersionActivated()
        ):
            return state
        case _:
            assert_never(data)


def _watched(watch: Watch | None, data: pattern.PatternStatusChanged, event: Recorded[Event]) -> Watch | None:
    """A move to watching begins a new watch; one with words only, at the same time of the fix, is a note on that one."""
    watching = pattern.PatternStatus.WATCHING
    if data.to_status is not watching:
        return watch
    note = data.closure_note or ""
    is_note = bool(note) and data.fix_environment is None and data.fix_version is None
    if watch is not None and is_note and data.from_status is watching and event.time == watch.fixed_at:
        return replace(watch, note=note)
    return Watch(
        watch_id=event.id,
        fixed_at=event.time,
        environment=data.fix_environment,
        version=data.fix_version,
        note=note,
    )


def evolve_fix(state: Fix | None, event: Recorded[Event]) -> Fix | None:
    """The fix after one more event of its own; any other changes nothing."""
    data = event.data
    if isinstance(data, recommendation.ProofStarted):
        return Fix(
            workspace_id=event.workspace_id,
            fix_id=data.fix_id,
            pattern_id=data.pattern_id,
            fixed_at=event.time,
            environment=data.environment,
            version=data.version,
            recommendation_ids=data.recommendation_ids,
            note=data.note,
            inputs=data.inputs,
            seq=event.seq,
        )
    if state is None:
        return None
    match data:
        case recommendation.ProofNoted():
            after = replace(state, note=data.note)
        case recommendation.ProofReassessed():
            after = replace(state, inputs=data.inputs)
        case recommendation.FixVerified():
            after = replace(state, standing="verified", inputs=data.inputs)
        case recommendation.FixBroken():
            after = replace(state, standing="broken", ended_as=None, inputs=data.inputs)
        case recommendation.FixInconclusive():
            after = replace(state, standing="inconclusive", ended_as=data.reason, inputs=data.inputs)
        case _:
            return state
    return replace(after, seq=event.seq)


def _exposure(made: prediction.PredictionMade) -> Exposure:
    inputs = made.inputs
    return Exposure(
        n_recurrences=inputs.n_recurrences,
        exposure_days=inputs.exposure_days,
        prior_shape=inputs.prior_shape,
        prior_rate_days=inputs.prior_rate_days,
        probability=made.probability,
        window_days=made.window_days,
    )


def _linked(state: Pattern | None, data: pattern.IssuesLinked, event: Recorded[Event]) -> Pattern:
    known = state or Pattern(
        workspace_id=event.workspace_id,
        pattern_id=data.pattern_id,
        # Its first line is text; what follows are hashes.
        exemplar=(data.exemplar or "").partition("\n")[0],
        issue_count=data.assessment.issue_count,
        confidence=data.assessment.confidence,
        first_seen_at=data.assessment.first_seen_at,
        last_seen_at=data.assessment.last_seen_at,
        seq=event.seq,
    )
    severities = [link.severity for link in data.links]
    counted = replace(
        known,
        n_p1=known.n_p1 + severities.count(ingest.Severity.P1),
        n_p2=known.n_p2 + severities.count(ingest.Severity.P2),
        n_p3=known.n_p3 + severities.count(ingest.Severity.P3),
        n_p4=known.n_p4 + severities.count(ingest.Severity.P4),
        seq=event.seq,
    )
    return _assessed(counted, data.assessment)


def _assessed(state: Pattern, assessment: pattern.Assessment) -> Pattern:
    return replace(
        state,
        issue_count=assessment.issue_count,
        confidence=assessment.confidence,
        first_seen_at=assessment.first_seen_at,
        last_seen_at=assessment.last_seen_at,
    )


def _with_links_of(state: Pattern, source: Pattern | None) -> Pattern:
    if source is None:
        return state
    return replace(
        state,
        n_p1=state.n_p1 + source.n_p1,
        n_p2=state.n_p2 + source.n_p2,
        n_p3=state.n_p3 + source.n_p3,
        n_p4=state.n_p4 + source.n_p4,
    )
