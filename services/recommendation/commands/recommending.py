"""Decisions: what a person may do with a recommendation, and what is recommended for a pattern. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from contracts import derived_id, pattern, recommendation
from msgspec import Struct
from msgspec.structs import replace

from services.recommendation.engine.matching import (
    FIT_FLOOR,
    PLAYS_MAX,
    RECURRING_DAYS,
    RECURRING_ISSUES,
    Fit,
    Matcher,
    Traits,
)
from services.recommendation.engine.ranking import Calibration, TrackRecord, Worth, assess, is_material
from services.recommendation.errors import (
    DismissedError,
    MoveNotAllowedError,
    NoSuchStepError,
    ReasonNotStorableError,
    ReasonTooLongError,
    ScopeError,
)
from services.recommendation.state import CLOSED_PATTERNS, OPEN_STATUSES, Abstention, Pattern, Recommendation

REASON_MAX = 2_000
FIT_STEP = 0.05
"""How much the best fit below the floor has to change to be worth an event."""
SCOPE_MAX = 200
DEFAULT_CONFIDENCE_THRESHOLD = 0.7

ALLOWED_MOVES: Mapping[
    recommendation.RecommendationStatus, frozenset[recommendation.RecommendationStatus]
] = MappingProxyType(
    {
        recommendation.RecommendationStatus.PENDING: frozenset(
            {
                recommendation.RecommendationStatus.IN_PROGRESS,
                recommendation.RecommendationStatus.IMPLEMENTED,
                recommendation.RecommendationStatus.DISMISSED,
            }
        ),
        recommendation.RecommendationStatus.IN_PROGRESS: frozenset(
            {
                recommendation.RecommendationStatus.PENDING,
                recommendation.RecommendationStatus.IMPLEMENTED,
                recommendation.RecommendationStatus.DISMISSED,
            }
        ),
        recommendation.RecommendationStatus.IMPLEMENTED: frozenset(
            {recommendation.RecommendationStatus.PENDING}
        ),
        recommendation.RecommendationStatus.DISMISSED: frozenset(
            {recommendation.RecommendationStatus.PENDING}
        ),
    }
)

Kind = tuple[recommendation.RecommendationType, recommendation.Effort]


class Situation(Struct, frozen=True, kw_only=True):
    """Everything that recommending for one pattern depends on.

    made: the recommendations that the pattern has. records: what became of this workspace's fixes, by kind.
    calibration: how its forecasts come true. abstention: what was said when nothing fitted; None: never.
    """

    pattern: Pattern
    threshold: float = DEFAULT_CONFIDENCE_THRESHOLD
    made: Sequence[Recommendation] = ()
    records: Mapping[Kind, TrackRecord] = MappingProxyType({})
    calibration: Calibration = Calibration()
    abstention: Abstention | None = None


def change_status(
    command: recommendation.ChangeStatus, state: Recommendation
) -> list[recommendation.RecommendationStatusChanged]:
    """Move to another status; the status it has already needs no event.

    Raises MoveNotAllowedError, ReasonTooLongError, ReasonNotStorableError, ScopeError.
    """
    if len(command.reason) > REASON_MAX:
        raise ReasonTooLongError(len(command.reason), REASON_MAX)
    if "\x00" in command.reason:
        raise ReasonNotStorableError
    _check_scope(command)
    if command.status is state.status:
        return []
    allowed = ALLOWED_MOVES[state.status]
    if command.status not in allowed:
        raise MoveNotAllowedError(state.status, command.status, allowed)
    return [
        recommendation.RecommendationStatusChanged(
            recommendation_id=state.recommendation_id,
            pattern_id=state.pattern_id,
            from_status=state.status,
            to_status=command.status,
            reason=command.reason,
            environment=command.environment,
            version=command.version,
        )
    ]


def _check_scope(command: recommendation.ChangeStatus) -> None:
    """Where and when it was implemented can be said of what is implemented only."""
    given = {"environment": command.environment, "version": command.version}
    is_implemented = command.status is recommendation.RecommendationStatus.IMPLEMENTED
    if not is_implemented and (any(given.values()) or command.implemented_at is not None):
        raise ScopeError("status", "where and when goes with implemented only")
    for field, text in given.items():
        if text is not None and (not 1 <= len(text.strip()) <= SCOPE_MAX or "\x00" in text):
            raise ScopeError(field, f"must have 1 to {SCOPE_MAX} characters and no U+0000")


def check_step(
    command: recommendation.CheckStep, state: Recommendation
) -> list[recommendation.RecommendationStepChecked]:
    """Tick a step or take the tick back; a step that is so already needs no event.

    Raises NoSuchStepError, DismissedError.
    """
    if not 0 <= command.step_index < state.n_steps:
        raise NoSuchStepError(command.step_index, state.n_steps)
    if state.status is recommendation.RecommendationStatus.DISMISSED:
        raise DismissedError
    if (command.step_index in state.done_steps) == command.is_done:
        return []
    return [
        recommendation.RecommendationStepChecked(
            recommendation_id=state.recommendation_id, step_index=command.step_index, is_done=command.is_done
        )
    ]


def recommend(situation: Situation, matcher: Matcher) -> list[recommendation.RecommendationMade]:
    """The plays that fit the pattern and were not recommended for it before, at most 3 over its life.

    Nothing for a candidate, a resolved or merged pattern, or one below the workspace's confidence.
    """
    seen = situation.pattern
    if seen.status in CLOSED_PATTERNS or seen.confidence < situation.threshold:
        return []
    known = {made.play_id for made in situation.made}
    fresh = [fit for fit in matcher.choose(traits_of(seen)) if fit.play.id not in known]
    return [
        _made(fit, situation, matcher.playbook.version) for fit in fresh[: max(0, PLAYS_MAX - len(known))]
    ]


def reassess(
    situation: Situation, matcher: Matcher
) -> list[tuple[Recommendation, recommendation.RecommendationReassessed]]:
    """The open recommendations of the pattern whose score has changed by at least 10 %, with the new worth.

    A play that is no longer in the playbook keeps its last score.
    """
    if situation.pattern.status in CLOSED_PATTERNS:
        return []
    traits = traits_of(situation.pattern)
    changed: list[tuple[Recommendation, recommendation.RecommendationReassessed]] = []
    for made in situation.made:
        fit = matcher.fit_of(made.play_id, traits)
        if made.status not in OPEN_STATUSES or fit is None:
            continue
        worth = _worth(fit, situation)
        if is_material(made.score, worth.arithmetic.score):
            event = recommendation.RecommendationReassessed(
                recommendation_id=made.recommendation_id,
                pattern_id=made.pattern_id,
                impact=worth.impact,
                arithmetic=worth.arithmetic,
            )
            changed.append((made, event))
    return changed


def retire(
    situation: Situation,
) -> list[tuple[Recommendation, recommendation.RecommendationStatusChanged]]:
    """Dismiss the open recommendations of a pattern that was merged: those of its target stand for them."""
    if situation.pattern.status is not pattern.PatternStatus.MERGED:
        return []
    dismissed = recommendation.RecommendationStatus.DISMISSED
    reason = "Its pattern was merged into another one."
    return [
        (made, event)
        for made in situation.made
        if made.status in OPEN_STATUSES
        for event in change_status(
            recommendation.ChangeStatus(
                recommendation_id=made.recommendation_id, status=dismissed, reason=reason
            ),
            made,
        )
    ]


def withhold(situation: Situation, matcher: Matcher) -> recommendation.RecommendationWithheld | None:
    """That nothing is recommended for a pattern of which the workspace is sure enough, with what comes closest.

    None when something is or was recommended, and when it was said before: that play is still the best, its fit about so.
    """
    seen, said = situation.pattern, situation.abstention
    if seen.status in CLOSED_PATTERNS or seen.confidence < situation.threshold or situation.made:
        return None
    traits = traits_of(seen)
    if matcher.choose(traits):
        return None
    best = matcher.best(traits)
    play_id, fit = (best.play.id, best.fit) if best is not None else (None, 0.0)
    if said is not None and said.best_play_id == play_id and abs(said.best_fit - fit) < FIT_STEP:
        return None
    return recommendation.RecommendationWithheld(
        pattern_id=seen.pattern_id,
        best_fit=fit,
        floor=FIT_FLOOR,
        best_play_id=play_id,
        best_play_title=None if best is None else best.play.title,
        playbook_version=matcher.playbook.version,
    )


def traits_of(seen: Pattern) -> Traits:
    """What matching looks at."""
    return Traits(
        name=seen.name,
        exemplar=seen.exemplar,
        fingerprint=seen.fingerprint,
        is_recurring=seen.issue_count >= RECURRING_ISSUES
        and seen.last_seen_at - seen.first_seen_at >= timedelta(days=RECURRING_DAYS),
    )


def records_by_kind(records: Iterable[tuple[Kind, TrackRecord]]) -> Mapping[Kind, TrackRecord]:
    """A read-only look-up of track records."""
    return MappingProxyType(dict(records))


def _worth(fit: Fit, situation: Situation) -> Worth:
    play = fit.play
    return assess(
        fit=fit.fit,
        holds=play.holds,
        effort=play.effort,
        record=situation.records.get((play.type, play.effort), TrackRecord()),
        risk=replace(situation.pattern.risk, calibration=situation.calibration),
    )


def _made(fit: Fit, situation: Situation, playbook_version: str) -> recommendation.RecommendationMade:
    play, seen = fit.play, situation.pattern
    worth = _worth(fit, situation)
    return recommendation.RecommendationMade(
        recommendation_id=derived_id("rec_", seen.workspace_id, seen.pattern_id, play.id),
        pattern_id=seen.pattern_id,
        play_id=play.id,
        playbook_version=playbook_version,
        title=play.title,
        description=play.description,
        type=play.type,
        effort=play.effort,
        impact=worth.impact,
        steps=tuple(
            recommendation.Step(title=step.title, description=step.description) for step in play.steps
        ),
        verification=play.verification,
        evidence=fit.evidence,
        arithmetic=worth.arithmetic,
    )


# The menu.
COMMANDS = MappingProxyType(
    {recommendation.ChangeStatus: change_status, recommendation.CheckStep: check_step}
)
