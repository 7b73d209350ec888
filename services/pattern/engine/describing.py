"""What a pattern is called and what its members share; docs/reference/fingerprint.md explains every number here."""

import math
from collections.abc import Sequence
from typing import Final

from contracts.generated.pattern import FingerprintDimension

from .grouping import Exemplar
from .issues import DIMENSIONS
from .masking import readable
from .memory import Pattern, Totals
from .wording import title_of

GROWTH_TO_DESCRIBE_ANEW: Final = 1.5
_LEAST_SHARE: Final = 0.5
# A time of day counts when so many days would be as uneven by chance less often than this, all choices considered.
_CHANCE: Final = 0.01
_HOURS: Final = 24
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# 1970-01-01 was a Thursday.
_FIRST_WEEKDAY: Final = 3
_TELLING: Final = (
    "error_type",
    "component",
    "service",
    "team",
    "environment",
    "source",
    "hour_of_day",
    "day_of_week",
)


def fingerprint(pattern: Pattern, totals: Totals) -> tuple[FingerprintDimension, ...]:
    """The values that at least half of the members have, with their lift over the workspace, most telling first.

    totals: of the workspace, the pattern's own members included. An hour or a weekday is named only when it is
    significant over the days that the pattern was seen on, so that a single burst names none.
    """
    if pattern.n_members == 0:
        return ()
    found = [_shared(pattern, totals, name) for name in DIMENSIONS if name != "hour_of_day"]
    found += [_hour_of_day(pattern, totals), _day_of_week(pattern, totals)]
    return tuple(sorted((each for each in found if each is not None), key=_order))


def name_of(pattern: Pattern, exemplars: Sequence[Exemplar]) -> str:
    """The title that stands best for all members, made readable; without text, what they share. 1 to 200 characters.

    It is the title whose words are nearest to the words of all titles, each weighed by the members that repeat it.
    """
    titled = [exemplar for exemplar in exemplars if exemplar.title]
    if titled:
        return readable(_nearest_to_all(titled, pattern.keys).title)
    if pattern.name:
        # Retention has deleted the titles that it was found from.
        return pattern.name
    common = dict(zip(DIMENSIONS, pattern.common, strict=True))
    parts = [common[name] for name in ("error_type", "component", "service") if common[name]]
    return (
        readable("Failures of " + " / ".join(part for part in parts if part))
        if parts
        else "Failures without text"
    )


def _shared(pattern: Pattern, totals: Totals, name: str) -> FingerprintDimension | None:
    i = DIMENSIONS.index(name)
    value = pattern.common[i]
    if value is None:
        return None
    return _dimension(
        name, value, pattern.values[i][value] / pattern.n_members, totals.values[i][value] / totals.n_members
    )


def _hour_of_day(pattern: Pattern, totals: Totals) -> FingerprintDimension | None:
    """The most common hour, when the other issues of the workspace make it unlikely on so many days."""
    i = DIMENSIONS.index("hour_of_day")
    value = pattern.common[i]
    if value is None:
        return None
    n, n_all = pattern.values[i][value], totals.values[i][value]
    expected = (n_all - n + 1) / (totals.n_members - pattern.n_members + _HOURS)
    share = n / pattern.n_members
    n_days = len(pattern.days)
    if _tail(n_days, math.floor(share * n_days + 1e-9), expected) * _HOURS > _CHANCE:
        return None
    return _dimension("hour_of_day", value, share, n_all / totals.n_members)


def _day_of_week(pattern: Pattern, totals: Totals) -> FingerprintDimension | None:
    """The weekday of most days with a failure, when the workspace's other days make it unlikely."""
    counts = [0] * len(_WEEKDAYS)
    for day in pattern.days:
        counts[(day + _FIRST_WEEKDAY) % 7] += 1
    n_days, best = len(pattern.days), max(range(7), key=lambda weekday: (counts[weekday], -weekday))
    others = [day for day in totals.days if day not in pattern.days]
    expected = (sum((day + _FIRST_WEEKDAY) % 7 == best for day in others) + 1) / (len(others) + 7)
    if _tail(n_days, counts[best], expected) * len(_WEEKDAYS) > _CHANCE:
        return None
    n = sum(n for day, n in pattern.days.items() if (day + _FIRST_WEEKDAY) % 7 == best)
    n_all = sum(n for day, n in totals.days.items() if (day + _FIRST_WEEKDAY) % 7 == best)
    return _dimension("day_of_week", _WEEKDAYS[best], n / pattern.n_members, n_all / totals.n_members)


def _dimension(name: str, value: str, share: float, share_of_all: float) -> FingerprintDimension | None:
    if share < _LEAST_SHARE:
        return None
    return FingerprintDimension(
        name=name, value=value, share=round(share, 4), lift=round(share / share_of_all, 2)
    )


def _order(dimension: FingerprintDimension) -> tuple[float, float, int]:
    """Most telling first: share x log2 lift, the part of the pattern's surprise that the value carries."""
    telling = dimension.share * math.log2(max(dimension.lift or 1.0, 0.01))
    return -round(telling, 4), -dimension.share, _TELLING.index(dimension.name)


def _tail(n: int, k: int, chance: float) -> float:
    """The probability of at least k of n, each with this chance: the exact binomial, summed from its largest term down."""
    total = 0.0
    for hits in range(k, n + 1):
        log_term = (
            math.lgamma(n + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(n - hits + 1)
            + hits * math.log(chance)
            + (n - hits) * math.log1p(-chance)
        )
        total += math.exp(log_term)
    return min(1.0, total)


def _nearest_to_all(titled: Sequence[Exemplar], keys: dict[str, int]) -> Exemplar:
    """The exemplar with the largest cosine to the sum of all, each weighed by the members that have its key."""
    words = [set((title_of(exemplar.text) or exemplar.title).lower().split()) for exemplar in titled]
    weights = [keys.get(exemplar.grouping_key, 0) for exemplar in titled]
    centre: dict[str, int] = {}
    for mine, weight in zip(words, weights, strict=True):
        for word in mine:
            centre[word] = centre.get(word, 0) + weight
    best = max(
        range(len(titled)),
        key=lambda i: (
            round(sum(centre[word] for word in words[i]) / math.sqrt(len(words[i]) or 1), 9),
            weights[i],
            -i,
        ),
    )
    return titled[best]
