"""From a frozen forecast to a curve: how the probability grows over its window, day by day. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec
from contracts import prediction
from msgspec import Struct


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


class Daily(Struct, frozen=True, kw_only=True):
    """Failures expected on one day to come.

    chance: probability that it fails at all on that day. mean_size: failures on a day that has any.
    value: chance x mean_size. lower, upper: 10 % and 90 % points of the number of failures.
    """

    chance: float
    mean_size: float
    value: float
    lower: float
    upper: float


def expected_counts(inputs: str, *, probability: float, window_days: int, sizes: Sequence[int]) -> Daily:
    """Failures per day that a frozen forecast expects; docs/reference/frequency.md has the formula.

    sizes: failures on each past day that had any, in any order; none known: one failure a day.
    """
    chance = _chance_of_day(inputs, probability=probability, window_days=window_days)
    in_order = sorted(sizes) or [1]
    mean_size = sum(in_order) / len(in_order)

    def quantile(share: float) -> float:
        quiet = 1 - chance
        if share <= quiet:
            return 0.0
        rank = math.ceil((share - quiet) / chance * len(in_order) - 1e-9)
        return float(in_order[min(len(in_order), max(1, rank)) - 1])

    value = chance * mean_size
    # Far out in the tail the mean can lie beyond a quantile; an interval without its value would puzzle.
    lower, upper = min(value, quantile(0.1)), max(value, quantile(0.9))
    return Daily(chance=chance, mean_size=mean_size, value=value, lower=lower, upper=upper)


def _chance_of_day(inputs: str, *, probability: float, window_days: int) -> float:
    """The probability of a failing day that agrees with the frozen probability of the window.

    Below what the rate's posterior says, the pattern may be over; above it, the rate is higher than the posterior's.
    """
    shape, rate_days = posterior(inputs)
    if shape <= 0 or rate_days <= 0:
        return 1 - math.pow(1 - probability, 1 / window_days)
    recurs = 1 - math.pow(rate_days / (rate_days + window_days), shape)
    if probability <= recurs:
        return probability / recurs * (1 - math.pow(rate_days / (rate_days + 1), shape))
    # The odds of the power law solved for its rate; a probability is at most 0.98, so that it has one.
    scaled = window_days / (math.pow(1 - probability, -1 / shape) - 1)
    return 1 - math.pow(scaled / (scaled + 1), shape)


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
