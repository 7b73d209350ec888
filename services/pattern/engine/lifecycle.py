"""When a pattern moves to another status by itself."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, assert_never

from contracts.generated.pattern import PatternStatus
from contracts.generated.recommendation import (
    FixBroken,
    FixInconclusive,
    FixVerified,
    InconclusiveReason,
    RecommendationStatus,
)
from msgspec import Struct

from .memory import Pattern, RecommendationRow, Settings, VerdictRow

ACTIVE_MEMBERS: Final = 5
ACTIVE_DAYS: Final = 3

OPEN_STATUSES = frozenset({PatternStatus.EMERGING, PatternStatus.ACTIVE, PatternStatus.MITIGATING})
_QUIET = frozenset({PatternStatus.WATCHING, PatternStatus.RESOLVED})


class Transition(Struct, frozen=True):
    """A change of status that is due.

    at: event time of what caused it; None: it is due because of the members, now.
    """

    to_status: PatternStatus
    reason: str
    at: datetime | None = None


def is_to_detect(pattern: Pattern, settings: Settings) -> bool:
    """Whether a candidate has reached the workspace's minimum cluster size."""
    return pattern.status is PatternStatus.CANDIDATE and pattern.n_members >= settings.minimum_cluster_size


def verdict_of(event: FixVerified | FixBroken | FixInconclusive, *, seq: int) -> VerdictRow | None:
    """What the end of a proof makes of its pattern; None: nothing, for a later fix took over.

    Of a proof that ended without a claim the pattern stays watching: then nothing is proved until the next fix.
    """
    fixed = event.fixed_at.strftime("%Y-%m-%d %H:%M UTC")
    match event:
        case FixVerified():
            status = PatternStatus.RESOLVED
            reason = (
                f"Its fix of {fixed} is verified: {event.quiet_days:.0f} quiet days, "
                f"confidence {event.confidence:.1%}."
            )
        case FixBroken():
            status = PatternStatus.ACTIVE
            reason = f"It recurred {event.quiet_days:.1f} days after the fix of {fixed}."
        case FixInconclusive():
            if event.reason is InconclusiveReason.WITHDRAWN:
                status, reason = PatternStatus.ACTIVE, f"Its fix of {fixed} was withdrawn."
            elif event.reason is InconclusiveReason.BOUND_REACHED:
                status, reason = PatternStatus.WATCHING, f"Whether its fix of {fixed} holds stays open."
            else:
                return None
        case never:
            assert_never(never)
    return VerdictRow(event.pattern_id, event.fixed_at, status, reason, seq)


def due(
    pattern: Pattern, recommendations: Iterable[RecommendationRow], verdict: VerdictRow | None
) -> Transition | None:
    """The next change that members, recommendations or a verdict cause; a person's later decision stands."""
    status = pattern.status
    if status in _QUIET:
        return _by_verdict(pattern, verdict) or _by_further_fix(pattern, recommendations)
    if status not in OPEN_STATUSES:
        return None
    by_fix = _by_recommendations(pattern, recommendations)
    if by_fix is not None:
        return by_fix
    if status is PatternStatus.EMERGING:
        if pattern.n_members >= ACTIVE_MEMBERS:
            return Transition(PatternStatus.ACTIVE, f"It recurs: {pattern.n_members} issues.")
        if len(pattern.days) >= ACTIVE_DAYS:
            return Transition(PatternStatus.ACTIVE, f"It recurs: seen on {len(pattern.days)} days.")
    return None


def _by_verdict(pattern: Pattern, verdict: VerdictRow | None) -> Transition | None:
    """Follow the verdict on the fix that the pattern is watched for; one on an earlier fix says nothing any more."""
    if verdict is None or verdict.seq <= pattern.status_seq or verdict.fixed_at < pattern.watched_since:
        return None
    if verdict.to_status in (pattern.status, PatternStatus.WATCHING):
        return None
    return Transition(verdict.to_status, verdict.reason)


def _by_further_fix(pattern: Pattern, recommendations: Iterable[RecommendationRow]) -> Transition | None:
    """Another recommendation was implemented while a fix was being proved: from now on both are."""
    if pattern.status is not PatternStatus.WATCHING:
        return None
    fresh = [
        row.changed_at
        for row in recommendations
        if row.seq > pattern.status_seq and row.status is RecommendationStatus.IMPLEMENTED
    ]
    if not fresh:
        return None
    return Transition(
        PatternStatus.WATCHING, "A further recommendation was implemented; its proof runs.", max(fresh)
    )


def _by_recommendations(pattern: Pattern, recommendations: Iterable[RecommendationRow]) -> Transition | None:
    rows = sorted(recommendations, key=lambda row: row.seq)
    fresh = [row for row in rows if row.seq > pattern.status_seq]
    if not fresh:
        return None
    at = fresh[-1].changed_at
    implemented = [row.changed_at for row in fresh if row.status is RecommendationStatus.IMPLEMENTED]
    if implemented:
        reason = "A recommendation was implemented; the proof of it runs."
        return Transition(PatternStatus.WATCHING, reason, max(implemented))
    is_mitigating = pattern.status is PatternStatus.MITIGATING
    if not is_mitigating and any(row.status is RecommendationStatus.IN_PROGRESS for row in fresh):
        return Transition(PatternStatus.MITIGATING, "A recommendation is being worked on.", at)
    if is_mitigating and not any(row.status is RecommendationStatus.IN_PROGRESS for row in rows):
        return Transition(PatternStatus.ACTIVE, "No recommendation is being worked on any more.", at)
    return None
