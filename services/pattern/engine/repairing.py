"""How long repairs of a pattern take; docs/reference/fingerprint.md explains it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

EPISODE_APART: Final = timedelta(hours=24)
# A mean that moved by less than this is not worth an event.
_WORTH_SAYING: Final = 0.05


class Failure(Struct, frozen=True, order=True):
    """A member's life. ended_at: when it was resolved or closed; None while it is open."""

    occurred_at: datetime
    ended_at: datetime | None = None


def mttr_seconds(failures: Sequence[Failure], *, closed_at: datetime | None = None) -> float | None:
    """Mean time from the first failure of an episode to the end of its last issue, in whole seconds.

    failures: in order of occurrence. closed_at: when the pattern was last closed with a note; open issues from before
    count as ended then. An episode with an issue that is still open does not count; None when none does.
    An episode starts with a failure at least 24 hours after the one that started the last episode.
    """
    repairs: list[float] = []
    episode: list[Failure] = []
    for failure in failures:
        if episode and failure.occurred_at - episode[0].occurred_at >= EPISODE_APART:
            repairs += _repair(episode, closed_at)
            episode = []
        episode.append(failure)
    if episode:
        repairs += _repair(episode, closed_at)
    return float(round(sum(repairs) / len(repairs))) if repairs else None


def is_worth_saying(before: float | None, now: float | None) -> bool:
    """Whether a mean time to repair differs enough from the one that was last said: 5 %, or there was none.

    Where the last repaired episode is open again, what was said stays.
    """
    if now is None:
        return False
    return before is None or abs(now - before) > _WORTH_SAYING * before


def _repair(episode: Sequence[Failure], closed_at: datetime | None) -> list[float]:
    """The time to the repair of an episode in seconds; none while it is open."""
    ends = []
    for failure in episode:
        end = failure.ended_at
        if end is None and closed_at is not None and failure.occurred_at <= closed_at:
            end = closed_at
        if end is None:
            return []
        ends.append(end)
    return [max(0.0, (max(ends) - episode[0].occurred_at).total_seconds())]
