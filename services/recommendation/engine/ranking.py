"""What a remediation is worth: score = expected loops prevented x severity weight / days of effort.

The formula, with a worked example, is in docs/reference/ranking.md.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from contracts import ingest, recommendation
from msgspec import Struct

HORIZON_DAYS = 90
PRIOR_FIXES = 8.0
"""How many observed fixes the play's own chance to hold is worth."""
PRIOR_HITS = 20.0
"""How many hits that were foretold exactly the ratio of 1 is worth."""
FADING = 0.999
"""Weight of a resolved forecast after each later one."""
PRIOR_SHAPE = 0.0649
PRIOR_RATE_DAYS = 9.82
"""With the shape: the forecast's shipped prior, so that the first forecast changes only what was observed."""
MUCH_WORTH = 4.0
"""Loops prevented x severity weight from which on a fix "prevents much": one p2, or two p3, in the horizon."""
REASSESS_RATIO = 0.1
"""Relative change of the score that is worth an event."""
SECONDS_PER_DAY = 86_400.0

SEVERITY_WEIGHTS: Mapping[ingest.Severity, float] = MappingProxyType(
    {ingest.Severity.P1: 8.0, ingest.Severity.P2: 4.0, ingest.Severity.P3: 2.0, ingest.Severity.P4: 1.0}
)
EFFORT_DAYS: Mapping[recommendation.Effort, float] = MappingProxyType(
    {recommendation.Effort.LOW: 1.0, recommendation.Effort.MEDIUM: 5.0, recommendation.Effort.HIGH: 15.0}
)


class Exposure(Struct, frozen=True, kw_only=True):
    """How often a pattern has recurred in how long, with the Gamma prior on its rate, and what is forecast of it.

    probability: of a recurrence within window_days; None before the first forecast.
    """

    n_recurrences: int
    exposure_days: float
    prior_shape: float = PRIOR_SHAPE
    prior_rate_days: float = PRIOR_RATE_DAYS
    probability: float | None = None
    window_days: int = 30

    @property
    def alive_probability(self) -> float:
        """Chance that the pattern is not over yet: its forecast, which knows of patterns that end, over its rate's."""
        if self.probability is None:
            return 1.0
        shape, days = self.prior_shape + self.n_recurrences, self.prior_rate_days + self.exposure_days
        by_rate = -math.expm1(-shape * math.log1p(self.window_days / days))
        return min(1.0, self.probability / by_rate)

    @property
    def expected_recurrences(self) -> float:
        """Mean number of recurrences within the horizon if nothing is done."""
        rate = (self.prior_shape + self.n_recurrences) / (self.prior_rate_days + self.exposure_days)
        return rate * HORIZON_DAYS * self.alive_probability


class Calibration(Struct, frozen=True, kw_only=True):
    """How a workspace's resolved forecasts came true: hits, and the sum of their probabilities, fading with age."""

    n_hits: float = 0.0
    n_foretold: float = 0.0

    @property
    def ratio(self) -> float:
        """Actual over foretold, drawn to 1 while there is little of both."""
        return round((self.n_hits + PRIOR_HITS) / (self.n_foretold + PRIOR_HITS), 4)


class TrackRecord(Struct, frozen=True, kw_only=True):
    """What became of this workspace's fixes of one type and effort; those without a verdict do not count."""

    n_verified: int = 0
    n_broken: int = 0


class Worth(Struct, frozen=True, kw_only=True):
    """A remediation's place in the ranking and its class."""

    arithmetic: recommendation.Arithmetic
    impact: recommendation.RecommendationImpact


def observed_exposure(issue_count: int, first_seen_at: datetime, last_seen_at: datetime) -> Exposure:
    """The exposure of a pattern that has no forecast yet, from its assessment alone.

    Recurrences lie at least a day apart, so a burst of issues within a day counts as none.
    """
    days = max(0.0, (last_seen_at - first_seen_at).total_seconds() / SECONDS_PER_DAY)
    return Exposure(n_recurrences=max(0, min(issue_count - 1, int(days))), exposure_days=days)


def severity_weight(counts: Mapping[ingest.Severity, int]) -> float:
    """The mean weight of the members' severities, 1 to 8; that of p3 where there is none."""
    total = sum(counts.values())
    if total <= 0:
        return SEVERITY_WEIGHTS[ingest.Severity.P3]
    return round(sum(SEVERITY_WEIGHTS[severity] * n for severity, n in counts.items()) / total, 4)


def hold_probability(holds: float, record: TrackRecord) -> float:
    """Chance that a fitting fix holds: the play's prior as 8 fixes, and what was seen of its kind."""
    seen = record.n_verified + record.n_broken
    return (holds * PRIOR_FIXES + record.n_verified) / (PRIOR_FIXES + seen)


def assess(
    *, fit: float, holds: float, effort: recommendation.Effort, record: TrackRecord, risk: "Risk"
) -> Worth:
    """The worth of a play with this fit for a pattern with this risk; the same inputs give the same bytes."""
    such = round(hold_probability(holds, record), 4)
    probability = round(fit * such, 4)
    alive, ratio = round(risk.exposure.alive_probability, 4), risk.calibration.ratio
    expected = round(risk.exposure.expected_recurrences * ratio, 4)
    prevented = round(probability * expected, 4)
    days = EFFORT_DAYS[effort]
    score = round(prevented * risk.severity_weight / days, 4)
    arithmetic = recommendation.Arithmetic(
        fix_holds_probability=probability,
        expected_recurrences=expected,
        horizon_days=HORIZON_DAYS,
        severity_weight=risk.severity_weight,
        effort_days=days,
        expected_loops_prevented=prevented,
        score=score,
        explanation=(
            f"The play fits with {fit:.2f} and such a fix holds with {such:.2f} "
            f"({record.n_verified} of {record.n_verified + record.n_broken} like it were verified here), "
            f"together {probability:.3f}; {expected:.1f} recurrences are expected in {HORIZON_DAYS} days without it "
            f"({risk.exposure.n_recurrences} seen in {risk.exposure.exposure_days:.1f} days, "
            f"still alive with {alive:.2f}, and forecasts here come true {ratio:.2f} times), "
            f"so it prevents {prevented:.2f} loops; times severity weight {risk.severity_weight:.1f}, "
            f"divided by {days:g} {'day' if days == 1.0 else 'days'} of effort, the score is {score:.2f}."
        ),
        fit=fit,
        holds_probability=such,
        n_verified=record.n_verified,
        n_broken=record.n_broken,
        alive_probability=alive,
        calibration_ratio=ratio,
    )
    return Worth(arithmetic=arithmetic, impact=impact_of(prevented * risk.severity_weight, effort))


class Risk(Struct, frozen=True, kw_only=True):
    """What a pattern threatens: how often, how far that can be believed, and how bad."""

    exposure: Exposure
    severity_weight: float
    calibration: Calibration = Calibration()


def impact_of(worth: float, effort: recommendation.Effort) -> recommendation.RecommendationImpact:
    """The class of a remediation that prevents so much (loops x severity weight) at this effort."""
    if worth < MUCH_WORTH:
        return recommendation.RecommendationImpact.MEDIUM
    match effort:
        case recommendation.Effort.LOW:
            return recommendation.RecommendationImpact.QUICK_WIN
        case recommendation.Effort.MEDIUM | recommendation.Effort.HIGH:
            return recommendation.RecommendationImpact.HIGH
        case _:
            assert_never(effort)


def is_material(before: float, after: float) -> bool:
    """Whether a score has changed by at least 10 % of what it was."""
    return abs(after - before) >= REASSESS_RATIO * abs(before) and after != before
