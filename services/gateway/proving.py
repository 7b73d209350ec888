"""What a proof and the ledger say at a moment, from what the log recorded of a fix. Pure.

The formulas, with a worked example, are in docs/reference/proof.md.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

LEDGER_DAYS: Final = 90.0
SECONDS_PER_DAY: Final = 86_400.0
_TAIL: Final = 0.025
_NORMAL_QUANTILE: Final = 1.959964
_COUNTED_MAX: Final = 500.0
"""Above this mean the count is taken as normal."""


class Entry(Struct, frozen=True, kw_only=True):
    """A fix in the ledger, as the log recorded it.

    shape, rate_days: Gamma of the rate before the fix. ratio: how rates came true in the workspace's patterns without a
    fix. ratio_variance: of the ratio, relative to its square. dispersion: scatter beyond the model, at least 1.
    ended_at: when the next fix of the same pattern took over. n_observed: recurrences since the fix, bursts collapsed.
    """

    shape: float
    rate_days: float
    ratio: float
    ratio_variance: float
    dispersion: float
    fixed_at: datetime
    ended_at: datetime | None
    n_observed: int

    def expected(self, now: datetime) -> float:
        """Recurrences that would have come by now, within 90 days, if nobody had fixed it."""
        end = now if self.ended_at is None else min(now, self.ended_at)
        days = min(days_between(self.fixed_at, end), LEDGER_DAYS)
        return self.shape / self.rate_days * self.ratio * days


class Loops(Struct, frozen=True, kw_only=True):
    """Expected without the fixes, seen with them, and the difference with its 95 % interval."""

    expected: float
    observed: int
    prevented: float
    lower: float
    upper: float


def confidence(*, shape: float, rate_days: float, quiet_days: float) -> float:
    """1 − (bE / (bE + s))^(a + n): how surprising so long a quiet time is if the fix changed nothing, in [0, 1)."""
    return round(-math.expm1(-shape * math.log1p(max(0.0, quiet_days) / rate_days)), 6)


def days_between(start: datetime, end: datetime) -> float:
    """Days from start to end, never negative."""
    return round(max(0.0, (end - start).total_seconds()) / SECONDS_PER_DAY, 6)


def loops(entries: Sequence[Entry], *, now: datetime) -> Loops:
    """What fixes have prevented together by now; 0 of nothing.

    The count without the fixes is negative binomial. The error of the ratio is one for the whole workspace, so it adds up.
    """
    means = [entry.expected(now) for entry in entries]
    expected, observed = math.fsum(means), sum(entry.n_observed for entry in entries)
    scatter = math.fsum(
        entry.dispersion * (mean + mean * mean / entry.shape)
        for entry, mean in zip(entries, means, strict=True)
    )
    common = math.fsum(
        mean * math.sqrt(entry.ratio_variance) for entry, mean in zip(entries, means, strict=True)
    )
    low, high = _interval(expected, scatter + common * common)
    return Loops(
        expected=round(expected, 4),
        observed=observed,
        prevented=round(expected - observed, 4),
        lower=round(low - observed, 4),
        upper=round(high - observed, 4),
    )


def _interval(mean: float, variance: float) -> tuple[float, float]:
    """The middle 95 % of a count with this mean and variance: negative binomial, or Poisson where it scatters no more."""
    if mean <= 0.0:
        return 0.0, 0.0
    if mean > _COUNTED_MAX:
        half = _NORMAL_QUANTILE * math.sqrt(variance)
        return max(0.0, mean - half), mean + half
    shape = mean * mean / (variance - mean) if variance > mean * (1.0 + 1e-9) else math.inf
    return _quantile(mean, shape, _TAIL), _quantile(mean, shape, 1.0 - _TAIL)


def _quantile(mean: float, shape: float, share: float) -> float:
    """The least count that at least this share of a negative binomial does not exceed."""
    log_chance = -mean if math.isinf(shape) else -shape * math.log1p(mean / shape)
    below, count = math.exp(log_chance), 0
    log_step = math.log(mean) if math.isinf(shape) else math.log(mean / (shape + mean))
    while below < share and count < 100 * _COUNTED_MAX:
        count += 1
        rising = 0.0 if math.isinf(shape) else math.log(shape + count - 1)
        log_chance += log_step + rising - math.log(count)
        below += math.exp(log_chance)
    return float(count)
