"""Bursts collapsed: what counts as one recurrence."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from services.prediction.engine.gamma_poisson import History

APART = timedelta(hours=24)
DAY_SECONDS = 86_400.0


def episodes(times: Iterable[datetime]) -> list[datetime]:
    """The first event and every later one at least 24 hours after the one taken before it, oldest first.

    times: of events, in any order.
    """
    taken: list[datetime] = []
    for time in sorted(times):
        if not taken or time - taken[-1] >= APART:
            taken.append(time)
    return taken


def history(times: Sequence[datetime], *, now: datetime) -> History:
    """The numbers that a forecast at `now` rests on; events after `now` count as happening now.

    times: of events, in any order, at least one.
    """
    first, last = min(times), max(times)
    return History(
        n_recurrences=len(episodes(times)) - 1,
        exposure_days=_days(now - first),
        quiet_days=_days(now - last),
    )


def _days(span: timedelta) -> float:
    return round(max(0.0, span.total_seconds()) / DAY_SECONDS, 6)
