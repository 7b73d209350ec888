"""The probability that a pattern recurs: Gamma-Poisson while little is known, later an ensemble of three models."""

import math
from collections.abc import Sequence
from operator import mul
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from services.prediction.engine.behaviour import (
    Behaviour,
    Surroundings,
    features,
    gamma_poisson,
    intensities,
    logit,
    paces,
)
from services.prediction.engine.gamma_poisson import LEAST, MOST, clamp
from services.prediction.engine.weights import CENTRES, SCALES

VERSION: Final = "recurrence-ensemble@2026-11-22"
"""Of the method: what is computed how, and the shipped weights. What was fitted is in the model itself."""
MIN_OUTCOMES: Final = 30
"""Below so many outcomes of a window nothing is fitted for it."""

SHARES: Final = (0.2, 0.4, 0.4)
"""Weights of Gamma-Poisson, intensity mix and regression in the mean of the log odds."""

DriverKind: TypeAlias = Literal["history", "pace", "silence", "frequency", "rhythm", "workspace"]

_GROUPS: Final[tuple[tuple[DriverKind, tuple[int, ...]], ...]] = (
    ("silence", (0, 15)),
    ("frequency", (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
    ("rhythm", (1, 12, 13, 14, 16)),
    ("workspace", (17, 18, 19, 20)),
)
"""Driver → places in FEATURES; the constant and the Gamma-Poisson feature belong to the history."""
MAX_STANDARD: Final = 4.0


class WindowModel(Struct, frozen=True):
    """What was fitted for one window.

    mix: weights of `intensities`. regression: of a constant and the standardised FEATURES, in log odds on top of the
    mix. n_outcomes, n_hits: what it was fitted on.
    """

    window_days: int
    n_outcomes: int
    n_hits: int
    mix: tuple[float, ...]
    regression: tuple[float, ...]

    @property
    def base_rate(self) -> float:
        """Share of the outcomes that were recurrences, with half a hit and half a miss added."""
        return (self.n_hits + 0.5) / (self.n_outcomes + 1)


class Model(Struct, frozen=True):
    """All that was fitted on a workspace's past; small enough to be an event.

    windows: shortest first; a window with too few outcomes is absent.
    """

    version: str
    around: Surroundings
    windows: tuple[WindowModel, ...]

    def of(self, window_days: int) -> WindowModel | None:
        """What was fitted for a window."""
        return next((one for one in self.windows if one.window_days == window_days), None)


class Driver(Struct, frozen=True):
    """A part of the distance from the base rate to the probability, in log odds; all parts add up to it."""

    kind: DriverKind
    log_odds: float


class Opinion(Struct, frozen=True):
    """What the models say of one window, each in [0.002, 0.98]; the last two absent while nothing is fitted."""

    probability: float
    gamma_poisson: float
    mix: float | None = None
    regression: float | None = None


def opinion(state: Behaviour, at: float, window_days: int, model: Model | None) -> Opinion:
    """The ensemble's probability for one window, and its parts."""
    return opinions(state, at, (window_days,), model)[0]


def opinions(state: Behaviour, at: float, windows: Sequence[int], model: Model | None) -> list[Opinion]:
    """One per window, shortest first; a longer window is never less probable than a shorter one."""
    faded = paces(state, at)
    known = [] if model is None else features(state, at, model.around, faded)
    said: list[Opinion] = []
    floor = 0.0
    for window in windows:
        one = _opinion(state, at, window, model, faded=faded, known=known)
        floor = max(floor, one.probability)
        said.append(
            one if one.probability == floor else Opinion(floor, one.gamma_poisson, one.mix, one.regression)
        )
    return said


def _opinion(
    state: Behaviour,
    at: float,
    window_days: int,
    model: Model | None,
    *,
    faded: Sequence[float],
    known: Sequence[float],
) -> Opinion:
    said = gamma_poisson(state, at, window_days)
    fitted = None if model is None else model.of(window_days)
    if model is None or fitted is None:
        return Opinion(said, said)
    mixed = _mixed(fitted, intensities(state, at, window_days, model.around, faded))
    given = standardised([*known, logit(said)], window_days)
    correction = math.fsum(map(mul, fitted.regression, given))
    regressed = clamp(sigmoid(logit(mixed) + correction))
    return Opinion(
        clamp(sigmoid(SHARES[0] * logit(said) + SHARES[1] * logit(mixed) + SHARES[2] * logit(regressed))),
        said,
        mixed,
        regressed,
    )


def drivers(
    state: Behaviour,
    at: float,
    window_days: int,
    model: Model | None,
    *,
    base_rate: float,
    probability: float,
) -> tuple[Driver, ...]:
    """Why the probability is not the base rate, the strongest part first; the parts add up exactly.

    history: count of recurrences, age and silence, as Gamma-Poisson sees them. pace: how many there were of late.
    The rest are the regression's corrections; what limits and the order of windows change is in the history.
    """
    start, end = logit(clamp(base_rate)), logit(probability)
    fitted = None if model is None else model.of(window_days)
    if model is None or fitted is None:
        return (Driver("history", end - start),)
    faded = paces(state, at)
    said = gamma_poisson(state, at, window_days)
    mixed = _mixed(fitted, intensities(state, at, window_days, model.around, faded))
    given = standardised([*features(state, at, model.around, faded), logit(said)], window_days)
    parts = [Driver("pace", (SHARES[1] + SHARES[2]) * (logit(mixed) - logit(said)))]
    for kind, places in _GROUPS:
        correction = math.fsum(fitted.regression[1 + place] * given[1 + place] for place in places)
        parts.append(Driver(kind, SHARES[2] * correction))
    history = end - start - math.fsum(part.log_odds for part in parts)
    return tuple(
        sorted((Driver("history", history), *parts), key=lambda part: (-abs(part.log_odds), part.kind))
    )


def standardised(values: Sequence[float], window_days: int) -> list[float]:
    """A constant and the features in units of their usual spread, cut at four of them."""
    scaled = [1.0]
    for value, centre, scale in zip(values, CENTRES[window_days], SCALES[window_days], strict=True):
        scaled.append(min(MAX_STANDARD, max(-MAX_STANDARD, (value - centre) / scale)))
    return scaled


def sigmoid(log_odds: float) -> float:
    """The probability with these log odds, without overflow."""
    if log_odds >= 0.0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def _mixed(fitted: WindowModel, expected: Sequence[float]) -> float:
    total = math.fsum(map(mul, fitted.mix, expected))
    return min(MOST, max(LEAST, -math.expm1(-total)))
