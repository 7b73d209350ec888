"""Whether a fix holds: quiet time weighed against the rate before the fix. Pure.

The formulas, with a worked example, are in docs/reference/proof.md.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from services.recommendation.engine.versions import order_of

MODEL_VERSION: Final = "gamma-quiet@2026-11-22"
PRIOR_SHAPE: Final = 1.0
"""Shape of the Gamma prior on a pattern's rate; with it half of the first gaps are shorter than the prior's days."""
DEFAULT_GAP_DAYS: Final = 14.0
"""Rate of the prior where a workspace has too few patterns that came back."""
APART: Final = timedelta(hours=24)
"""Failures closer to the one that was counted before them are part of it: a burst is one failure."""
SECONDS_PER_DAY: Final = 86_400.0
SIGNIFICANCE: Final = 0.05
LEDGER_DAYS: Final = 90
"""A fix is held against so many days after it, the horizon that recommendations are ranked by."""
HALF: Final = 0.5
"""The power of the rate test is that of seeing the rate fall to half."""
_EPISODES_MAX: Final = 2_000
_ROUNDING: Final = 1e-6

Standing = Literal["proving", "verified", "broken", "inconclusive"]
Place = Literal["before", "residual", "recurrence"]
Scope = tuple[str | None, str | None]
"""Environment and first version of a measure; None: everywhere, in every version."""


class Terms(Struct, frozen=True, kw_only=True):
    """What a workspace wants of a proof.

    level: confidence at which a fix counts as verified, in (0.5, 1). least_days, most_days: bounds of the window.
    """

    level: float = 0.95
    least_days: int = 14
    most_days: int = 365


class Fix(Struct, frozen=True, kw_only=True):
    """A fix and where it was made. environment, version: None: everywhere, in every version."""

    fixed_at: datetime
    environment: str | None = None
    version: str | None = None


class Failure(Struct, frozen=True):
    """One failure of the pattern."""

    occurred_at: datetime
    issue_id: str
    environment: str | None = None
    version: str | None = None


class Baseline(Struct, frozen=True, kw_only=True):
    """How often the pattern came back before the fix: Gamma(shape, days) is what is believed of its rate a day.

    n_recurrences: failures after the first, at least 24 hours apart. exposure_days: from the first one to the fix.
    gap_days: median gap of the workspace's patterns, the prior's rate.
    """

    n_recurrences: int
    exposure_days: float
    gap_days: float

    @property
    def shape(self) -> float:
        """a + n."""
        return PRIOR_SHAPE + self.n_recurrences

    @property
    def days(self) -> float:
        """bE = b + E."""
        return self.gap_days + self.exposure_days

    @property
    def is_known(self) -> bool:
        """Whether it failed before where the fix was made; if not, quiet there says nothing."""
        return self.exposure_days > 0.0

    def confidence(self, quiet_days: float) -> float:
        """1 − P(so long a quiet time | the fix changed nothing), in [0, 1)."""
        return -math.expm1(-self.shape * math.log1p(max(0.0, quiet_days) / self.days))

    def days_to(self, level: float) -> float:
        """Quiet days after which the confidence reaches the level."""
        return self.days * math.expm1(-math.log1p(-level) / self.shape)


class RateDrop(Struct, frozen=True, kw_only=True):
    """Exact test whether a pattern comes back less often than before.

    p_value: chance of so few recurrences if nothing had changed. power: chance that the test sees a rate cut in half.
    """

    n_before: int
    days_before: float
    n_after: int
    days_after: float
    p_value: float
    power: float


class Judgement(Struct, frozen=True, kw_only=True):
    """What is known of a fix at a moment, with all that it follows from.

    window_days: quiet days that it takes, inside the bounds. quiet_days: since the fix, until now or the first recurrence.
    needs_quiet_days: still missing. recurrence: the first failure that breaks the proof. n_recurrences_after: failures in
    the fix's reach within 90 days of it, at least 24 hours apart. n_residual: failures elsewhere or of older versions since the fix.
    """

    standing: Standing
    baseline: Baseline
    window_days: float
    quiet_days: float
    confidence: float
    needs_quiet_days: float
    recurrence: Failure | None
    n_recurrences_after: int
    n_residual: int
    rate_drop: RateDrop | None


def place_of(failure: Failure, fix: Fix) -> Place:
    """What a failure says of a fix; what is unknown of it counts against the fix, once it happened after it."""
    if failure.occurred_at <= fix.fixed_at:
        return "before"
    if _differs(failure.environment, fix.environment):
        return "residual"
    if failure.version and fix.version and order_of(failure.version, fix.version) == "older":
        return "residual"
    return "recurrence"


def times_before(fix: Fix, failures: Iterable[Failure]) -> list[datetime]:
    """When the pattern failed before the fix where it was made, oldest first."""
    return sorted(
        f.occurred_at
        for f in failures
        if f.occurred_at <= fix.fixed_at and not _differs(f.environment, fix.environment)
    )


def reach_of(scopes: Sequence[Scope]) -> Scope:
    """Where a fix of several measures must hold: everywhere that one of them was made.

    Environments that differ, or one not known, are everywhere; of versions it is the oldest, None if they have no order.
    """
    places, versions = [place for place, _ in scopes], [version for _, version in scopes]
    environment = places[0] if places else None
    if not environment or any(not place or _differs(place, environment) for place in places):
        environment = None
    oldest = versions[0] if versions else None
    for version in versions:
        order = order_of(version, oldest) if version and oldest else "unknown"
        if order == "unknown":
            return environment, None
        oldest = version if order == "older" else oldest
    return environment, oldest


def judge(
    fix: Fix, failures: Iterable[Failure], terms: Terms, *, gap_days: float, now: datetime
) -> Judgement:
    """The state of a proof: a function of what happened when, not of the order in which it became known.

    failures: of the fix's pattern, each issue once.
    """
    known = sorted(failures, key=lambda failure: (failure.occurred_at, failure.issue_id))
    places = [place_of(failure, fix) for failure in known]
    before = times_before(fix, known)
    after = [f for f, place in zip(known, places, strict=True) if place == "recurrence"]
    baseline = baseline_of(before, fixed_at=fix.fixed_at, gap_days=gap_days)
    recurrence = after[0] if after else None
    quiet = days_between(fix.fixed_at, min(now, recurrence.occurred_at) if recurrence else now)
    window = window_of(baseline, terms)
    confidence = baseline.confidence(quiet) if baseline.is_known else 0.0
    horizon = fix.fixed_at + timedelta(days=LEDGER_DAYS)
    n_after = len(episodes(f.occurred_at for f in after if f.occurred_at <= horizon))
    return Judgement(
        standing=_standing(recurrence, quiet=quiet, window=window, confidence=confidence, level=terms.level),
        baseline=baseline,
        window_days=window,
        quiet_days=quiet,
        confidence=round(confidence, 6),
        needs_quiet_days=round(max(0.0, window - quiet), 6),
        recurrence=recurrence,
        n_recurrences_after=n_after,
        n_residual=places.count("residual"),
        rate_drop=rate_drop(
            n_before=baseline.n_recurrences,
            days_before=baseline.exposure_days,
            n_after=n_after,
            days_after=days_between(fix.fixed_at, min(now, horizon)),
        ),
    )


def window_of(baseline: Baseline, terms: Terms) -> float:
    """Quiet days after which the proof ends: those that the level takes, inside the workspace's bounds."""
    if not baseline.is_known:
        return float(terms.most_days)
    return round(min(max(baseline.days_to(terms.level), terms.least_days), terms.most_days), 6)


def baseline_of(before: Sequence[datetime], *, fixed_at: datetime, gap_days: float) -> Baseline:
    """What was seen before the fix; before: when the pattern failed, oldest first."""
    counted = episodes(before)
    return Baseline(
        n_recurrences=max(0, len(counted) - 1),
        exposure_days=days_between(counted[0], fixed_at) if counted else 0.0,
        gap_days=gap_days,
    )


def episodes(times: Iterable[datetime]) -> list[datetime]:
    """Of sorted times, the first and every later one at least 24 hours after the one taken before it."""
    taken: list[datetime] = []
    for at in times:
        if not taken or at - taken[-1] >= APART:
            taken.append(at)
    return taken


def rate_drop(*, n_before: int, days_before: float, n_after: int, days_after: float) -> RateDrop | None:
    """Of n recurrences in all, how many fall after the fix is binomial with its share of the time; one-sided.

    None without recurrences or without time on both sides.
    """
    n = min(n_before + n_after, _EPISODES_MAX)
    if n == 0 or days_before <= 0.0 or days_after <= 0.0 or n_before + n_after > _EPISODES_MAX:
        return None
    at_same_rate = _binomial(n, days_after / (days_before + days_after))
    at_half_rate = _binomial(n, HALF * days_after / (days_before + HALF * days_after))
    below, power = 0.0, 0.0
    for chance, chance_at_half in zip(at_same_rate, at_half_rate, strict=True):
        below += chance
        if below > SIGNIFICANCE:
            break
        power += chance_at_half
    return RateDrop(
        n_before=n_before,
        days_before=days_before,
        n_after=n_after,
        days_after=days_after,
        p_value=round(min(1.0, math.fsum(at_same_rate[: n_after + 1])), 6),
        power=round(min(1.0, power), 6),
    )


def days_between(start: datetime, end: datetime) -> float:
    """Days from start to end, never negative."""
    return round(max(0.0, (end - start).total_seconds()) / SECONDS_PER_DAY, 6)


def _standing(
    recurrence: Failure | None, *, quiet: float, window: float, confidence: float, level: float
) -> Standing:
    if recurrence is not None:
        return "broken"
    if quiet < window:
        return "proving"
    # The window ends at the workspace's bound, which may come before the confidence is there: never a silent yes.
    return "verified" if confidence >= level - _ROUNDING else "inconclusive"


def _differs(one: str | None, other: str | None) -> bool:
    return bool(one and other) and (one or "").strip().lower() != (other or "").strip().lower()


def _binomial(n: int, p: float) -> list[float]:
    """P(X = k) for k from 0 to n; by logarithms, for the coefficients outgrow a float."""
    log_p, log_q = math.log(p), math.log1p(-p)
    return [
        math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q
        )
        for k in range(n + 1)
    ]
