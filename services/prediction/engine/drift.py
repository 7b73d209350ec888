"""Whether a pattern fails more often for good than it used to: a Poisson CUSUM on its weeks."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

RATIO: Final = 2.0
"""The change that is looked for: twice as often."""
ALARM: Final = 4.0
"""Occurrences beyond what either rate explains, from which on it is one; how often that is false: docs/reference/forecast.md."""
MIN_WEEKS: Final = 8
"""A rate is known from so many weeks on; as long is a change told of before it counts as usual."""
_WEEK: Final = timedelta(days=7)


class Drift(Struct, frozen=True):
    """A change that began in the week of `since`. before, after: occurrences a week."""

    since: datetime
    before: float
    after: float


def alarm(counts: Sequence[int], rate: float) -> tuple[int, int] | None:
    """Where the counts of weeks leave a rate for twice of it: the week of the alarm, and the one where it began.

    Source: Lucas 1985, Counted Data CUSUM's, with the reference value (r - 1) × rate ÷ ln r.
    """
    reference = (RATIO - 1.0) * rate / math.log(RATIO)
    total, begun = 0.0, 0
    for week, count in enumerate(counts):
        if total <= 0.0:
            total, begun = 0.0, week
        total += count - reference
        if total >= ALARM:
            return week, begun
    return None


def drift(starts: Sequence[datetime], *, now: datetime) -> Drift | None:
    """The change of rate that is under way; None without one, or when it is as old as what is usual now.

    starts: of episodes, oldest first. Weeks count from the first, which is not counted itself; only whole ones do.
    The usual rate is that before the change, so a slow rise does not lift what it is compared with.
    """
    if not starts:
        return None
    begin, week_seconds = starts[0].timestamp(), _WEEK.total_seconds()
    counts = [0] * int((now.timestamp() - begin) // week_seconds)
    for start in starts[1:]:
        week = int((start.timestamp() - begin) // week_seconds)
        if week < len(counts):
            counts[week] += 1
    first, known = 0, MIN_WEEKS
    while first + known < len(counts):
        # Half an occurrence more, so that eight weeks of silence are not a rate of nothing.
        usual = (sum(counts[first : first + known]) + 0.5) / known
        found = alarm(counts[first + known :], usual)
        if found is None:
            return None
        week, begun = (first + known + place for place in found)
        if begun > first + known:
            # Quiet weeks before it make the usual rate better known.
            known = begun - first
            continue
        if week + MIN_WEEKS >= len(counts):
            after = sum(counts[begun:]) / (len(counts) - begun)
            return Drift(starts[0] + begun * _WEEK, usual, after)
        first, known = begun, MIN_WEEKS
    return None
