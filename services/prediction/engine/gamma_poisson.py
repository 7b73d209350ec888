"""How likely a pattern recurs: Gamma-Poisson with dropout, from three numbers of its history."""

import math
from typing import Final

from msgspec import Struct

from services.prediction.engine.gamma import quantile

WINDOWS_DAYS: Final = (7, 30, 90)
LEAST: Final = 0.002
MOST: Final = 0.98
HORIZON_DAYS: Final = 365.0
MIN_RECURRENCES: Final = 2
MIN_EXPOSURE_DAYS: Final = 14.0

_LOWER_SHARE = 0.1
_UPPER_SHARE = 0.9
_MAX_EXPONENT = 700.0


class Prior(Struct, frozen=True, kw_only=True):
    """What is believed of a pattern before its own history speaks; dated, never edited in place.

    shape, rate_days: Gamma of the rate of recurrence while the pattern lives, in recurrences per day.
    dropout_a, dropout_b: Beta of the chance that a recurrence was the last one.
    fitted_on: data sets that the numbers were fitted on; docs/reference/forecast.md says how.
    """

    version: str
    shape: float
    rate_days: float
    dropout_a: float
    dropout_b: float
    fitted_on: tuple[str, ...]


MIXED: Final = Prior(
    version="gamma-poisson-mixed@2026-11-22",
    shape=0.0649,
    rate_days=9.82,
    dropout_a=0.5103,
    dropout_b=0.3309,
    fitted_on=("gcp_incidents", "eclipse_dup_times"),
)


class History(Struct, frozen=True, kw_only=True):
    """All that the probability depends on.

    n_recurrences: events after the first, at least 24 hours apart.
    exposure_days: from the first event to now. quiet_days: from the last event to now.
    """

    n_recurrences: int
    exposure_days: float
    quiet_days: float


def alive(history: History, *, prior: Prior = MIXED) -> float:
    """The probability that the pattern can still recur, in (0, 1]: long quiet after a fast rate speaks against it.

    Source: Fader, Hardie, Lee 2005, "Counting your customers" the easy way (BG/NBD), equation 11 of its note on
    P(alive); a recurrence takes the place of a purchase.
    """
    n = history.n_recurrences
    if n <= 0:
        return 1.0
    now = prior.rate_days + max(0.0, history.exposure_days)
    at_last = max(prior.rate_days, now - max(0.0, history.quiet_days))
    log_odds = math.log(prior.dropout_a / (prior.dropout_b + n - 1)) + (prior.shape + n) * math.log(
        now / at_last
    )
    return 1.0 / (1.0 + math.exp(min(log_odds, _MAX_EXPONENT)))


def probability(history: History, window_days: float, *, prior: Prior = MIXED) -> float:
    """Probability of at least one recurrence within the window, in [0.002, 0.98]; grows with the window."""
    shape, rate_days = _posterior(history, prior)
    recurs = 1.0 - (rate_days / (rate_days + window_days)) ** shape
    return clamp(alive(history, prior=prior) * recurs)


def interval(history: History, window_days: float, *, prior: Prior = MIXED) -> tuple[float, float]:
    """The 10 % and 90 % points of the probability under the posterior of the rate and of being alive.

    A pattern that may be over has a chance of exactly nothing, so the lower end drops to the floor quickly.
    """
    shape, rate_days = _posterior(history, prior)
    over = 1.0 - alive(history, prior=prior)
    ends = (
        1.0 - math.exp(-quantile(shape, _share_of_living(share, over)) / rate_days * window_days)
        for share in (_LOWER_SHARE, _UPPER_SHARE)
    )
    lower, upper = ends
    return clamp(lower), clamp(upper)


def expected_next_days(history: History, *, prior: Prior = MIXED) -> float | None:
    """Median days to the next recurrence by the posterior predictive; None beyond 365 days."""
    lives = alive(history, prior=prior)
    if lives <= 0.5:
        return None
    shape, rate_days = _posterior(history, prior)
    exponent = -math.log1p(-0.5 / lives) / shape
    if exponent > math.log1p(HORIZON_DAYS / rate_days):
        return None
    return rate_days * math.expm1(exponent)


def clamp(chance: float) -> float:
    """The chance, never stated as more certain than [0.002, 0.98]."""
    return min(MOST, max(LEAST, chance))


def _posterior(history: History, prior: Prior) -> tuple[float, float]:
    return prior.shape + history.n_recurrences, prior.rate_days + max(0.0, history.exposure_days)


def _share_of_living(share: float, over: float) -> float:
    """The quantile among living patterns that is the `share` quantile when a part `over` has no chance."""
    return max(0.0, (share - over) / (1.0 - over)) if over < share else 0.0
