"""How fast each account of a vendor is asked, over all threads of a process, and over all processes that share paces."""

import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct

T = TypeVar("T")

ACCOUNTS_MAX: Final = 10_000
"""Beyond so many, those that are not in use are forgotten."""
BURST_SECONDS: Final = 3.0
"""What may be asked at once is what may be asked in so long."""
UNDERWAY_SECONDS: Final = 3.0
"""How much longer one request may take to its vendor than another, so that the vendor sees them closer together."""
COMING_BACK_SECONDS: Final = 1.0
"""Whoever found no turn looks again no sooner, and no sooner than that after the one before."""
TAKEN_SECONDS: Final = 1.0
"""A process takes the turns of so long at once, so that paces are looked at no more often."""
AHEAD_SECONDS_MAX: Final = 3_600.0
"""Nobody's turns are given out further ahead than that, but where a clock was set back."""


class Pace(Struct, frozen=True):
    """Of one account, in seconds: up to when turns are given out, and when whoever found none was told to come back."""

    free_at: float = 0.0
    back_at: float = 0.0


class Turns(Struct, frozen=True):
    """Turns that one process has taken: from behind one time up to another."""

    free_at: float = -inf
    until: float = -inf


class Paces(Protocol):
    """Where paces are kept, for all who ask the same accounts."""

    def change(self, account: str, decide: Callable[[Pace], tuple[Pace, T]]) -> T:
        """Replace a pace by what is decided about it, as if nobody else did meanwhile; what was decided beside it.

        decide: may be called several times. Raises what stops whoever needs a turn.
        """


class OwnPaces:
    """Paces of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[str, Pace] = {}

    def change(self, account: str, decide: Callable[[Pace], tuple[Pace, T]]) -> T:
        """As Paces says."""
        with self._lock:
            # Put behind the others, so that the first is the one that was asked longest ago.
            self._paces[account], found = decide(self._paces.pop(account, Pace()))
            if len(self._paces) > ACCOUNTS_MAX:
                del self._paces[next(iter(self._paces))]
            return found


class RateLimiter:
    """A token bucket per account; it holds a twentieth of a minute's requests, so that a short run does not wait.

    Bucket, refill and what is on its way are together no more than `per_minute` within any 60 seconds; so in the long
    run 10 of 11 are asked. Own, since pyrate-limiter and limits sleep by themselves, where a run has to stop within a
    second. clock: seconds, the same for all who share the paces. paces: None: nobody shares them.
    """

    def __init__(self, clock: Callable[[], float], paces: Paces | None = None) -> None:
        self._clock = clock
        self._paces = paces or OwnPaces()
        self._lock = threading.Lock()
        # A door is there while somebody is in it or waits at it.
        self._doors: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._taken: dict[str, Turns] = {}

    def wait(self, account: str, per_minute: int, *, most: float = inf, is_spare: bool = False) -> float:
        """Take a request's place in the row; the seconds until it is this one's turn.

        Whoever would wait longer than `most` gets no place: it takes nobody's turn, and the seconds, more than `most`,
        say when it had better come back, behind all others that were told so. is_spare: only a turn that is at once, and
        leaves one for whoever comes back just then; nobody is told to come later for whoever gets none. Raises what the
        paces raise.
        """
        with self._lock:
            door = self._doors.setdefault(account, threading.Lock())
        # Those of an account one after the other, so that each has what the one before took too many of.
        with door:
            now, gap = self._clock(), _gap(per_minute)
            taken = self._taken.get(account, Turns())
            turn = max(taken.free_at, now) + gap
            # Half a gap, since sums of gaps are not exact.
            seconds = _until_spare(taken.free_at, now, gap) if is_spare else _seconds_until(turn, now, gap)
            if turn > taken.until + gap / 2 or seconds > most:
                give = partial(_give, now=now, gap=gap, most=most, is_spare=is_spare)
                taken_or_seconds = self._paces.change(account, give)
                if isinstance(taken_or_seconds, float):
                    return taken_or_seconds
                taken = taken_or_seconds
                turn = taken.free_at + gap
            with self._lock:
                if account not in self._taken and len(self._taken) >= ACCOUNTS_MAX:
                    self._taken = {name: turns for name, turns in self._taken.items() if turns.until > now}
                self._taken[account] = Turns(turn, taken.until)
            return _seconds_until(turn, now, gap)


def _give(pace: Pace, *, now: float, gap: float, most: float, is_spare: bool) -> tuple[Pace, Turns | float]:
    """The next turns, or how long one had better wait where the first of them is more than `most` seconds away."""
    start = max(min(pace.free_at, now + AHEAD_SECONDS_MAX), now)
    if is_spare and (seconds := _until_spare(min(pace.free_at, now + AHEAD_SECONDS_MAX), now, gap)) > 0:
        return pace, seconds
    seconds = _seconds_until(start + gap, now, gap)
    if seconds > most:
        before = min(pace.back_at, now + AHEAD_SECONDS_MAX)
        back_at = max(now + seconds, before + max(gap, COMING_BACK_SECONDS))
        return Pace(pace.free_at, back_at), back_at - now
    until = start + gap * max(1, int(TAKEN_SECONDS / gap))
    return Pace(until, pace.back_at), Turns(start, until)


def _gap(per_minute: int) -> float:
    """Seconds between the turns of an account."""
    return (60 + BURST_SECONDS + UNDERWAY_SECONDS) / per_minute


def _until_spare(free_at: float, now: float, gap: float) -> float:
    """How long until there is a turn, and another, without any that waits since."""
    return max(0.0, free_at + 2 * gap - max(BURST_SECONDS, gap) - now)


def _seconds_until(turn: float, now: float, gap: float) -> float:
    """How long until a turn may be had; the first one waits for nobody, however slowly the others follow."""
    return max(0.0, turn - max(BURST_SECONDS, gap) - now)
