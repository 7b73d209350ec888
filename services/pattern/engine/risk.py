"""The risk score and the confidence of a pattern; docs/reference/risk-score.md explains every number here."""

import math
from datetime import datetime
from typing import Final

from contracts.generated.pattern import Assessment

from .issues import DIMENSIONS
from .memory import SCORE_UNIT, Pattern, day_of

_SEVERITY_WEIGHTS: Final = {"p1": 1.0, "p2": 0.7, "p3": 0.4, "p4": 0.15}
_POINTS_SEVERITY: Final = 40.0
_POINTS_RATE: Final = 25.0
_POINTS_RECENCY: Final = 20.0
_POINTS_BREADTH: Final = 15.0
_RATE_DAYS: Final = 30
_RATE_SCALE: Final = 10.0
_HALF_LIFE_DAYS: Final = 14.0
_BREADTH_SCALE: Final = 4.0
_BREADTH: Final = tuple(DIMENSIONS.index(name) for name in ("service", "component", "team", "environment"))


def assess(pattern: Pattern, *, newest_at: datetime) -> Assessment:
    """The numbers of a pattern now; `newest_at` is the newest event time of its workspace.

    A pattern that people have emptied was seen at no time; it gets the workspace's newest.
    """
    is_empty = pattern.n_members == 0
    return Assessment(
        issue_count=pattern.n_members,
        risk_score=risk_score(pattern, newest_at=newest_at),
        confidence=confidence(pattern),
        first_seen_at=newest_at if is_empty else pattern.first_seen_at,
        last_seen_at=newest_at if is_empty else pattern.last_seen_at,
        mttr_seconds=pattern.mttr_seconds,
    )


def risk_score(pattern: Pattern, *, newest_at: datetime) -> float:
    """Urgency in [0, 100], one decimal: severity 40, rate 25, recency 20, breadth 15."""
    if pattern.n_members == 0:
        return 0.0
    total = (
        _POINTS_SEVERITY * _severity(pattern)
        + _POINTS_RATE * _rate(pattern, newest_at)
        + _POINTS_RECENCY * _recency(pattern, newest_at)
        + _POINTS_BREADTH * _breadth(pattern)
    )
    return round(min(100.0, total), 1)


def confidence(pattern: Pattern) -> float:
    """Certainty that the members share one cause, in [0, 1]: their mean score, less while they are few."""
    if pattern.n_members == 0:
        return 0.0
    mean = pattern.score_sum / SCORE_UNIT / pattern.n_members
    return round(min(1.0, mean * pattern.n_members / (pattern.n_members + 1)), 4)


def _severity(pattern: Pattern) -> float:
    """Half the mean weight of the members, half the worst one's."""
    weights = [(_SEVERITY_WEIGHTS[severity], n) for severity, n in pattern.severities.items()]
    mean = sum(weight * n for weight, n in sorted(weights)) / pattern.n_members
    return 0.5 * mean + 0.5 * max(weight for weight, _ in weights)


def _rate(pattern: Pattern, newest_at: datetime) -> float:
    """1 - exp(-n/10) for n members in the 30 days that end with the workspace's newest event."""
    newest = day_of(newest_at)
    n_recent = sum(pattern.days.get(day, 0) for day in range(newest - _RATE_DAYS + 1, newest + 1))
    return 1 - math.exp(-n_recent / _RATE_SCALE)


def _recency(pattern: Pattern, newest_at: datetime) -> float:
    """Halves every 14 days between the pattern's last event and the workspace's newest."""
    quiet_days = max(0.0, (newest_at - pattern.last_seen_at).total_seconds() / 86_400)
    return math.exp2(-quiet_days / _HALF_LIFE_DAYS)


def _breadth(pattern: Pattern) -> float:
    """1 - exp(-k/4) for k values of service, component, team and environment beyond the first of each."""
    n_more = sum(max(0, len(pattern.values[i]) - 1) for i in _BREADTH)
    return 1 - math.exp(-n_more / _BREADTH_SCALE)
