"""How good the forecasts were: Brier score, base rate, and skill of one over the other."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

NANO = 1_000_000_000


class Score(Struct, frozen=True):
    """The resolved forecasts of one workspace and window, as sums that can be added in any order.

    brier_nano: sum of the model's squared errors, in billionths, so that adding is exact.
    """

    n_resolved: int = 0
    n_hits: int = 0
    brier_nano: int = 0

    @property
    def base_rate(self) -> float:
        """Share of resolved forecasts that were hits, with half a hit and half a miss added."""
        return (self.n_hits + 0.5) / (self.n_resolved + 1)

    def skill(self, over: "Score", *, min_resolved: int) -> float | None:
        """Brier skill over what the base rate said of the same forecasts; None below `min_resolved`."""
        if self.n_resolved < max(1, min_resolved) or over.brier_nano <= 0:
            return None
        return 1.0 - self.brier_nano / over.brier_nano


def brier(probability: float, *, is_hit: bool) -> float:
    """Squared distance of a probability from what happened, in [0, 1]."""
    return (probability - (1.0 if is_hit else 0.0)) ** 2


def brier_nano(probability: float, *, is_hit: bool) -> int:
    """The same in whole billionths."""
    return round(brier(probability, is_hit=is_hit) * NANO)


NO_SCORE = Score()
"""Nothing resolved yet."""

NO_SCORES: Mapping[str, Score] = MappingProxyType({})
"""No prior has a record yet."""
