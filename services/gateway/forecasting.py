"""From a frozen forecast to a curve: how the probability grows over its window, day by day. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec
from contracts import prediction
from msgspec import Struct

_Z80 = 1.2815515655446004
"""Standard normal quantile of 0.9: the ends of an 80 % interval."""


class Point(Struct, frozen=True):
    """A value with its 80 % interval."""

    value: float
    lower: float
    upper: float


class Outlook(Struct, frozen=True, kw_only=True):
    """A frozen forecast: the numbers that its curve runs through."""

    pattern_id: str
    pattern_name: str
    window_days: int
    probability: float
    lower: float
    upper: float
    inputs: str
    trigger: str
    generated_at: datetime


def posterior(inputs: str) -> tuple[float, float]:
    """Shape and rate (in days) of the Gamma posterior of the recurrence rate."""
    given = msgspec.json.decode(inputs, type=prediction.ForecastInputs)
    return given.prior_shape + given.n_recurrences, given.prior_rate_days + given.exposure_days


def expected_per_day(inputs: str) -> Point:
    """Recurrences expected in one day; the interval is widened to hold the mean where that is far out in the tail.

    Source: Wilson and Hilferty 1931, the cube-root normal approximation of Gamma quantiles.
    """
    shape, rate_days = posterior(inputs)
    if shape <= 0 or rate_days <= 0:
        return Point(0.0, 0.0, 0.0)
    spread = 1 / (9 * shape)

    def quantile(z: float) -> float:
        return float(shape * max(0.0, 1 - spread + z * math.sqrt(spread)) ** 3 / rate_days)

    mean = shape / rate_days
    return Point(mean, min(mean, quantile(-_Z80)), max(mean, quantile(_Z80)))


def curve(outlook: Outlook) -> tuple[Point, ...]:
    """Probability of at least one recurrence by the end of day 1, 2, … of the window.

    Grows as the posterior's hazard a·ln(1 + d/b) does and ends at the frozen probability and interval.
    """
    shape, rate_days = posterior(outlook.inputs)
    is_proper = shape > 0 and rate_days > 0

    def share(day: int) -> float:
        if not is_proper:
            return day / outlook.window_days
        return math.log1p(day / rate_days) / math.log1p(outlook.window_days / rate_days)

    def grown(end: float, day: int) -> float:
        return 1 - math.pow(1 - min(end, 1 - 1e-9), share(day))

    return tuple(
        Point(grown(outlook.probability, day), grown(outlook.lower, day), grown(outlook.upper, day))
        for day in range(1, outlook.window_days + 1)
    )


def composite(curves: Sequence[tuple[Point, ...]]) -> tuple[Point, ...]:
    """The mean of the patterns' curves, day by day; none when there are none."""
    if not curves:
        return ()
    n = len(curves)
    return tuple(
        Point(
            sum(point.value for point in day) / n,
            sum(point.lower for point in day) / n,
            sum(point.upper for point in day) / n,
        )
        for day in zip(*curves, strict=True)
    )


def first_breach(outlooks: Sequence[Outlook], *, threshold: float) -> tuple[Outlook, int, float] | None:
    """The pattern that reaches the threshold first: it, the day (from 1) and its probability then."""
    best: tuple[Outlook, int, float] | None = None
    for outlook in outlooks:
        for day, point in enumerate(curve(outlook), start=1):
            if point.value >= threshold:
                if best is None or day < best[1]:
                    best = (outlook, day, point.value)
                break
    return best
