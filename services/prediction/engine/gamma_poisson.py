"""How likely a pattern recurs: Gamma-Poisson with dropout, from three numbers of its history."""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from services.prediction.engine.gamma import quantile
from services.prediction.engine.scoring import NO_SCORE, NO_SCORES, Score

WINDOWS_DAYS: Final = (7, 30, 90)
LEAST: Final = 0.002
MOST: Final = 0.98
HORIZON_DAYS: Final = 365.0
MIN_RECURRENCES: Final = 2
MIN_EXPOSURE_DAYS: Final = 14.0

GAMMA_POISSON: Final = "gamma_poisson"
BASE_RATE: Final = "base_rate"

_LOWER_SHARE = 0.1
_UPPER_SHARE = 0.9
_Z_80 = 1.2815515655446004
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
FADING: Final = Prior(
    version="gamma-poisson-fading@2026-11-22",
    shape=0.0377,
    rate_days=9.15,
    dropout_a=2.525,
    dropout_b=1.247,
    fitted_on=("eclipse_dup_times",),
)
STEADY: Final = Prior(
    version="gamma-poisson-steady@2026-11-22",
    shape=2.163,
    rate_days=119.0,
    dropout_a=0.001,
    dropout_b=0.005,
    fitted_on=("gcp_incidents",),
)
PRIORS: Final[Mapping[str, Prior]] = {prior.version: prior for prior in (MIXED, FADING, STEADY)}
"""Every version that a stored forecast may name; the first is used until the workspace's own record chooses."""
BASE_RATE_VERSION: Final = "base-rate@2026-11-22"


class History(Struct, frozen=True, kw_only=True):
    """All that the probability depends on.

    n_recurrences: events after the first, at least 24 hours apart.
    exposure_days: from the first event to now. quiet_days: from the last event to now.
    """

    n_recurrences: int
    exposure_days: float
    quiet_days: float


class Forecast(Struct, frozen=True, kw_only=True):
    """The answer for one window; `lower` and `upper` are the 80 % interval of the probability.

    expected_next_days: median of the time to the next recurrence; None beyond 365 days.
    prior: the one in use, also where the base rate answers instead.
    """

    window_days: int
    probability: float
    lower: float
    upper: float
    expected_next_days: float | None
    model: str
    model_version: str
    prior: Prior
    low_confidence: bool


def forecast(
    history: History, window_days: int, *, scores: Mapping[str, Score] = NO_SCORES, min_resolved: int = 50
) -> Forecast:
    """The probability of at least one recurrence within the window, by the model or by the base rate.

    scores: of every prior and of the base rate by version, over the workspace's resolved forecasts of this window.
    The base rate answers when at least `min_resolved` of them are known and even the best prior has negative skill over it.
    """
    prior, score, skill = choose(scores, min_resolved=min_resolved)
    if skill is not None and skill < 0.0:
        return _by_base_rate(history, window_days, score, prior)
    chance = probability(history, window_days, prior=prior)
    lower, upper = interval(history, window_days, prior=prior)
    return Forecast(
        window_days=window_days,
        probability=chance,
        lower=min(lower, chance),
        upper=max(upper, chance),
        expected_next_days=expected_next_days(history, prior=prior),
        model=GAMMA_POISSON,
        model_version=prior.version,
        prior=prior,
        low_confidence=_is_thin(history),
    )


def choose(scores: Mapping[str, Score], *, min_resolved: int) -> tuple[Prior, Score, float | None]:
    """The prior with the least squared error so far, its score, and its skill over the base rate.

    Below `min_resolved` it is the first one, and the skill is None.
    """
    known = [(prior, scores.get(prior.version, NO_SCORE)) for prior in PRIORS.values()]
    if min(score.n_resolved for _, score in known) < min_resolved:
        return *known[0], None
    prior, score = min(known, key=lambda pair: pair[1].brier_nano)
    reference = scores.get(BASE_RATE_VERSION, NO_SCORE)
    return prior, score, score.skill(reference, min_resolved=min_resolved)


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


def _is_thin(history: History) -> bool:
    return history.n_recurrences < MIN_RECURRENCES or history.exposure_days < MIN_EXPOSURE_DAYS


def _by_base_rate(history: History, window_days: int, score: Score, prior: Prior) -> Forecast:
    """The share of forecasts that came true, with its Wilson interval; the same for every pattern."""
    share, n = score.base_rate, score.n_resolved
    centre = (share + _Z_80**2 / (2 * n)) / (1 + _Z_80**2 / n)
    half = _Z_80 / (1 + _Z_80**2 / n) * math.sqrt(share * (1 - share) / n + _Z_80**2 / (4 * n * n))
    chance = clamp(share)
    next_days = math.log(2.0) * window_days / -math.log1p(-chance)
    return Forecast(
        window_days=window_days,
        probability=chance,
        lower=min(chance, clamp(centre - half)),
        upper=max(chance, clamp(centre + half)),
        expected_next_days=next_days if next_days <= HORIZON_DAYS else None,
        model=BASE_RATE,
        model_version=BASE_RATE_VERSION,
        prior=prior,
        low_confidence=_is_thin(history),
    )
