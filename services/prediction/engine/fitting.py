"""Learns a workspace's own model from its past: weekly points, of which each is used once its window has ended.

Imports numpy, so the services run it in a short-lived process (`python -m services.prediction.engine.fitting`).
"""

import math
import os
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from services.prediction.engine.behaviour import (
    FEATURES,
    HALF_LIVES,
    STALE_DAYS,
    Behaviour,
    Surroundings,
    begin,
    features,
    gamma_poisson,
    grow,
    intensities,
    logit,
    paces,
    rates,
)
from services.prediction.engine.gamma_poisson import LEAST, MOST, WINDOWS_DAYS
from services.prediction.engine.recurrence import (
    MAX_STANDARD,
    MIN_OUTCOMES,
    VERSION,
    Model,
    WindowModel,
)
from services.prediction.engine.weights import CENTRES, MIX, SCALES

Floats: TypeAlias = npt.NDArray[np.float64]

MAX_POINTS: Final = 20_000
"""Only the latest points of a window are learned from."""
MEMORY_DAYS: Final = 365.0
"""A point this old counts half."""

_YOUNG_DAYS: Final = 180.0
_MIX_PENALTY: Final = 10.0
_PENALTY: Final = 100.0
_CONSTANT_PENALTY: Final = 10.0
_ROUNDS: Final = 8
_DIGITS: Final = 6


class Past(Struct, frozen=True):
    """What a model is learned from.

    events: (day, pattern), by day. censored: (pattern, first day, last day) in which somebody prevented a recurrence,
    so that points whose window meets it say nothing. now: day of learning; nothing later is used.
    """

    events: tuple[tuple[float, str], ...]
    now: float
    censored: tuple[tuple[str, float, float], ...] = ()


class Point(Struct):
    """A pattern on one day: what was known then, and when its next event came (infinite while there is none).

    known: features, then intensities by window, then the log odds of Gamma-Poisson by window, as 8-byte floats.
    """

    at: float
    pattern: str
    known: bytes
    next_at: float = math.inf


class Learner:
    """Takes a workspace's events in order of time, makes points, and fits when asked.

    Days are counted from any fixed moment. Memory: 0.7 kB per kept point.
    """

    def __init__(self, *, first_point: float = -math.inf) -> None:
        """first_point: no points before it are made, only patterns followed."""
        self.patterns: dict[str, Behaviour] = {}
        self.model: Model | None = None
        self._points: list[Point] = []
        self._waiting: dict[str, list[Point]] = {}
        self._counts = [0.0] * len(HALF_LIVES)
        self._counted_at = 0.0
        self._began: float | None = None
        self._next_point = math.inf
        self._first_point = first_point

    def observe(self, at: float, pattern: str) -> None:
        """An event; points that became due before it are made first."""
        if self._began is None:
            self._began = self._counted_at = at
            self._next_point = at + self._step(at)
        self.advance(at)
        since = at - self._counted_at
        self._counts = [
            count * 2.0 ** (-since / life) + 1.0 for count, life in zip(self._counts, HALF_LIVES, strict=True)
        ]
        self._counted_at = at
        state = self.patterns.get(pattern)
        if state is None:
            self.patterns[pattern] = begin(at)
        else:
            grow(state, at)
        for point in self._waiting.pop(pattern, ()):
            point.next_at = at

    def advance(self, now: float) -> None:
        """Make the points that lie before this moment."""
        while self._next_point < now:
            if self._next_point >= self._first_point:
                self._make_points(self._next_point)
            self._next_point += self._step(self._next_point)

    def surroundings(self, now: float) -> Surroundings:
        """How busy the workspace is now."""
        since = now - self._counted_at
        counts = [
            count * 2.0 ** (-since / life) for count, life in zip(self._counts, HALF_LIVES, strict=True)
        ]
        began = now if self._began is None else self._began
        return Surroundings(sum(1 for _ in self._active(now)), rates(counts, now - began))

    def fit(
        self,
        now: float,
        *,
        censored: Sequence[tuple[str, float, float]] = (),
        windows: Sequence[int] = WINDOWS_DAYS,
    ) -> Model | None:
        """The model as of now; None while no window has enough outcomes. O(points)."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for pattern, first, last in censored:
            spans.setdefault(pattern, []).append((first, last))
        fitted = []
        for window in windows:
            points = [
                point
                for point in self._points
                if point.at + window <= now and not _is_censored(point, window, spans)
            ][-MAX_POINTS:]
            if len(points) >= MIN_OUTCOMES:
                fitted.append(_fit_window(points, window, now))
        if not fitted:
            return None
        return Model(VERSION, _rounded(self.surroundings(now)), tuple(fitted))

    def refit(self, now: float, windows: Sequence[int]) -> None:
        """Learn again and keep the model."""
        self.advance(now)
        self.model = self.fit(now, windows=windows)

    def _step(self, at: float) -> float:
        began = at if self._began is None else self._began
        return 3.5 if at - began < _YOUNG_DAYS else 7.0

    def _active(self, at: float) -> Iterable[tuple[str, Behaviour]]:
        return (
            (pattern, state)
            for pattern, state in self.patterns.items()
            if state.n_events >= 2 and at - state.last_at <= STALE_DAYS
        )

    def _make_points(self, at: float) -> None:
        around = self.surroundings(at)
        for pattern, state in self._active(at):
            point = point_of(pattern, state, at, around)
            self._points.append(point)
            self._waiting.setdefault(pattern, []).append(point)
        # Twice the most that is learned from, beside those that the longest window still waits for.
        ended = at - WINDOWS_DAYS[-1]
        surplus = len(self._points) - 3 * MAX_POINTS
        if surplus > 0:
            self._points = [
                point for place, point in enumerate(self._points) if place >= surplus or point.at > ended
            ]


def point_of(pattern: str, state: Behaviour, at: float, around: Surroundings) -> Point:
    """What is known of a pattern on a day."""
    faded = paces(state, at)
    known = array("d", features(state, at, around, faded))
    for window in WINDOWS_DAYS:
        known.extend(intensities(state, at, window, around, faded))
    known.extend(logit(gamma_poisson(state, at, window)) for window in WINDOWS_DAYS)
    return Point(at, pattern, known.tobytes())


def tabled(points: Sequence[Point], place: int) -> tuple[Floats, Floats]:
    """Intensities (points × 8) and FEATURES (points × 22) for the window at this place, before standardising."""
    known = np.frombuffer(b"".join(point.known for point in points)).reshape(len(points), -1)
    n_features, n_mix = len(FEATURES) - 1, len(MIX[WINDOWS_DAYS[place]])
    first = n_features + place * n_mix
    log_odds = known[:, n_features + len(WINDOWS_DAYS) * n_mix + place]
    return known[:, first : first + n_mix], np.column_stack([known[:, :n_features], log_odds])


def learn(past: Past) -> Model | None:
    """The model that a workspace's past gives: the same past, the same bytes."""
    learner = Learner(first_point=_first_point(past))
    for at, pattern in past.events:
        if at > past.now:
            break
        learner.observe(at, pattern)
    learner.advance(past.now)
    return learner.fit(past.now, censored=past.censored)


def fit_mix(expected: Floats, came: Floats, weight: Floats, prior: Sequence[float], penalty: float) -> Floats:
    """Weights of intensities: the likeliest near a prior in logarithms, by Fisher scoring.

    expected: points × 8. P(recurs) = 1 − exp(−expected · weights).
    """
    start = np.log(np.asarray(prior))
    logs = start.copy()
    for _ in range(_ROUNDS):
        mixed = np.exp(logs)
        total = np.maximum(expected @ mixed, 1e-6)
        chance = np.clip(-np.expm1(-total), 1e-4, 1 - 1e-4)
        odds_against = (1 - chance) / chance
        slope = (came * odds_against - (1 - came)) * weight
        parts = expected * mixed
        curve = (parts * (odds_against * weight)[:, None]).T @ parts + penalty * np.eye(len(start))
        step = np.linalg.solve(curve, parts.T @ slope - penalty * (logs - start))
        logs = np.clip(logs + np.clip(step, -1.0, 1.0), -9.0, 4.0)
    return np.asarray(np.exp(logs), dtype=np.float64)


def fit_regression(given: Floats, came: Floats, weight: Floats, offset: Floats) -> Floats:
    """Ridge logistic regression on top of log odds `offset`, by Newton steps that never get worse.

    given: points × (1 + features), the first a constant.
    """
    penalty = np.full(given.shape[1], _PENALTY)
    penalty[0] = _CONSTANT_PENALTY
    found = np.zeros(given.shape[1])

    def loss(weights: Floats) -> float:
        log_odds = offset + given @ weights
        return float(
            ((np.logaddexp(0.0, log_odds) - came * log_odds) * weight).sum()
            + 0.5 * (penalty * weights**2).sum()
        )

    current = loss(found)
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(offset + given @ found, -30.0, 30.0)))
        spread = (chance * (1 - chance) + 1e-6) * weight
        curve = (given * spread[:, None]).T @ given + np.diag(penalty)
        step = np.linalg.solve(curve, given.T @ ((came - chance) * weight) - penalty * found)
        share = 1.0
        while share > 0.01 and (tried := loss(found + share * step)) > current:
            share /= 2
        if share <= 0.01:
            break
        found = found + share * step
        if current - tried < 1e-4:
            break
        current = tried
    return found


def _fit_window(points: Sequence[Point], window: int, now: float) -> WindowModel:
    came = np.array([1.0 if point.next_at - point.at <= window else 0.0 for point in points])
    weight = np.exp2(-(now - np.array([point.at for point in points])) / MEMORY_DAYS)
    expected, known = tabled(points, WINDOWS_DAYS.index(window))
    mix = fit_mix(expected, came, weight, MIX[window], _MIX_PENALTY)
    chance = np.clip(-np.expm1(-(expected @ mix)), LEAST, MOST)
    usual = (known - np.array(CENTRES[window])) / np.array(SCALES[window])
    given = np.column_stack([np.ones(len(points)), np.clip(usual, -MAX_STANDARD, MAX_STANDARD)])
    regression = fit_regression(given, came, weight, np.log(chance / (1 - chance)))
    return WindowModel(window, len(points), int(came.sum()), _tuple(mix), _tuple(regression))


def _first_point(past: Past) -> float:
    """From when on points are made, so that there are about as many as are learned from."""
    last: dict[str, int] = {}
    for _, pattern in past.events:
        last[pattern] = last.get(pattern, 0) + 1
    n_often = sum(1 for count in last.values() if count >= 2)
    weeks = 3 * MAX_POINTS / max(n_often, 1)
    return -math.inf if weeks > 520 else past.now - WINDOWS_DAYS[-1] - 7.0 * math.ceil(weeks)


def _is_censored(point: Point, window: int, censored: Mapping[str, Sequence[tuple[float, float]]]) -> bool:
    spans = censored.get(point.pattern, ())
    return any(first <= point.at + window and point.at <= last for first, last in spans)


def _rounded(around: Surroundings) -> Surroundings:
    return Surroundings(around.n_active, tuple(round(rate, _DIGITS) for rate in around.rates))


def _tuple(values: Floats) -> tuple[float, ...]:
    """Rounded, so that the last bits of another machine's arithmetic do not matter."""
    return tuple(round(float(value), _DIGITS) + 0.0 for value in values)


def main() -> int:
    """Read a Past as JSON from standard input, write its Model (or null) to standard output."""
    os.nice(10)
    past = msgspec.json.decode(sys.stdin.buffer.read(), type=Past)
    sys.stdout.buffer.write(msgspec.json.encode(learn(past)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
