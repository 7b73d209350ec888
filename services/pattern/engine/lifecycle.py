"""When a pattern moves to another status by itself."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from contracts.generated.pattern import PatternStatus
from contracts.generated.recommendation import RecommendationStatus
from msgspec import Struct

from .memory import Pattern, RecommendationRow, Settings

ACTIVE_MEMBERS: Final = 5
ACTIVE_DAYS: Final = 3

_OPEN = frozenset({PatternStatus.EMERGING, PatternStatus.ACTIVE, PatternStatus.MITIGATING})
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


def due(pattern: Pattern, recommendations: Iterable[RecommendationRow]) -> Transition | None:
    """The next change that members or recommendations cause; a person's later decision stands."""
    status = pattern.status
    if status in _QUIET:
        return _recurrence(pattern)
    if status not in _OPEN:
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


def proven(pattern: Pattern, settings: Settings, *, now: datetime) -> Transition | None:
    """The end of watching, once the pattern stayed quiet for the workspace's proof window."""
    if pattern.status is not PatternStatus.WATCHING:
        return None
    if now - pattern.watched_since < timedelta(days=settings.proof_window_days):
        return None
    reason = f"It stayed quiet for the proof window of {settings.proof_window_days} days."
    return Transition(PatternStatus.RESOLVED, reason)


def _recurrence(pattern: Pattern) -> Transition | None:
    """Event time decides: an issue that happened before the fix and arrived late breaks nothing."""
    if pattern.n_members == 0 or pattern.last_seen_at <= pattern.watched_since:
        return None
    seen = pattern.last_seen_at.strftime("%Y-%m-%d %H:%M UTC")
    since = (
        "while the fix was being watched"
        if pattern.status is PatternStatus.WATCHING
        else "after it was resolved"
    )
    return Transition(PatternStatus.ACTIVE, f"It recurred at {seen}, {since}.")


def _by_recommendations(pattern: Pattern, recommendations: Iterable[RecommendationRow]) -> Transition | None:
    rows = sorted(recommendations, key=lambda row: row.seq)
    fresh = [row for row in rows if row.seq > pattern.status_seq]
    if not fresh:
        return None
    at = fresh[-1].changed_at
    if any(row.status is RecommendationStatus.IMPLEMENTED for row in fresh):
        reason = "A recommendation was implemented; the proof window runs."
        return Transition(PatternStatus.WATCHING, reason, at)
    is_mitigating = pattern.status is PatternStatus.MITIGATING
    if not is_mitigating and any(row.status is RecommendationStatus.IN_PROGRESS for row in fresh):
        return Transition(PatternStatus.MITIGATING, "A recommendation is being worked on.", at)
    if is_mitigating and not any(row.status is RecommendationStatus.IN_PROGRESS for row in rows):
        return Transition(PatternStatus.ACTIVE, "No recommendation is being worked on any more.", at)
    return None
