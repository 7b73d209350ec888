"""How good the forecasts were: Brier score, base rate, skill of one over the other, calibration."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

NANO: Final = 1_000_000_000
MIN_RECORD: Final = 300
"""Resolved forecasts of a window before their skill decides anything."""
RECORD_WINDOWS: Final = 4
"""They must have been resolved over so many times the window: what ends in one week is one surprise, not many."""
ROLLING_DAYS: Final = 365.0
N_BINS: Final = 10


class Score(Struct, frozen=True):
    """Resolved forecasts of one workspace and window, as sums that can be added in any order.

    brier_nano: sum of squared errors of the model and base_nano of the base rate when each was made, in billionths,
    so that adding is exact. span_days: over which they were resolved.
    """

    n_resolved: int = 0
    n_hits: int = 0
    brier_nano: int = 0
    base_nano: int = 0
    span_days: float = 0.0

    @property
    def base_rate(self) -> float:
        """Share of resolved forecasts that were hits, with half a hit and half a miss added."""
        return (self.n_hits + 0.5) / (self.n_resolved + 1)

    def skill(self, window_days: int, *, min_resolved: int = MIN_RECORD) -> float | None:
        """Brier skill over the base rate; None while the record is too short to say."""
        is_short = self.n_resolved < max(1, min_resolved) or self.span_days < RECORD_WINDOWS * window_days
        return None if is_short or self.base_nano <= 0 else 1.0 - self.brier_nano / self.base_nano


def brier(probability: float, *, is_hit: bool) -> float:
    """Squared distance of a probability from what happened, in [0, 1]."""
    return (probability - (1.0 if is_hit else 0.0)) ** 2


def brier_nano(probability: float, *, is_hit: bool) -> int:
    """The same in whole billionths."""
    return round(brier(probability, is_hit=is_hit) * NANO)


def bin_of(probability: float) -> int:
    """Which of ten equal parts of [0, 1] a probability lies in, from 0."""
    return min(N_BINS - 1, int(probability * N_BINS))


class Bin(Struct, frozen=True):
    """Forecasts of similar probability: how many, what they said on average and how often they came true."""

    n: int
    mean_probability: float
    hit_rate: float


def reliability(said: Sequence[tuple[float, bool]]) -> list[Bin | None]:
    """The ten bins of forecasts (probability, whether it came true); None where there was none."""
    counts, sums, hits = [0] * N_BINS, [0.0] * N_BINS, [0] * N_BINS
    for probability, is_hit in said:
        place = bin_of(probability)
        counts[place] += 1
        sums[place] += probability
        hits[place] += is_hit
    return [
        Bin(n, total / n, n_hits / n) if n else None
        for n, total, n_hits in zip(counts, sums, hits, strict=True)
    ]


def calibration_error(bins: Sequence[Bin | None]) -> float:
    """Expected calibration error: mean distance of what was said from what happened, over all forecasts."""
    found = [one for one in bins if one is not None]
    n = sum(one.n for one in found)
    return math.fsum(one.n * abs(one.mean_probability - one.hit_rate) for one in found) / n if n else 0.0


class Tally(Struct, frozen=True):
    """A workspace's record of a window: all of it, and how many forecasts of each tenth came true."""

    score: Score = Score()
    buckets: Mapping[int, tuple[int, int]] = {}

    def bucket(self, probability: float) -> tuple[int, int]:
        """Resolved forecasts of similar probability, and how many of these came true."""
        return self.buckets.get(bin_of(probability), (0, 0))


NO_SCORE: Final = Score()
"""Nothing resolved yet."""
