"""How fast each account of a vendor is asked, over all threads of the process."""

import threading
from collections.abc import Callable
from math import inf
from typing import Final

ACCOUNTS_MAX: Final = 10_000
"""Beyond so many, those that are not in use are forgotten."""
BURST_SECONDS: Final = 3.0
"""What may be asked at once is what may be asked in so long."""
UNDERWAY_SECONDS: Final = 3.0
"""How much longer one request may take to its vendor than another, so that the vendor sees them closer together."""
COMING_BACK_SECONDS: Final = 1.0
"""Whoever found no turn looks again no sooner, and no sooner than that after the one before."""


class Rates:
    """A token bucket per account; it holds a twentieth of a minute's requests, so that a short run does not wait.

    Bucket, refill and what is on its way are together no more than `per_minute` within any 60 seconds; so in the long
    run 10 of 11 are asked. Own, since pyrate-limiter and limits sleep by themselves, where a run has to stop within a
    second. clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = {}
        self._back_at: dict[str, float] = {}

    def wait(self, account: str, per_minute: int, *, most: float = inf) -> float:
        """Take a request's place in the row; the seconds until it is this one's turn.

        Whoever would wait longer than `most` gets no place: it takes nobody's turn, and the seconds, more than `most`,
        say when it had better come back, behind all others that were told so.
        """
        gap = (60 + BURST_SECONDS + UNDERWAY_SECONDS) / per_minute
        with self._lock:
            now = self._clock()
            if account not in self._free_at and len(self._free_at) >= ACCOUNTS_MAX:
                self._free_at = {name: at for name, at in self._free_at.items() if at > now}
                self._back_at = {name: at for name, at in self._back_at.items() if at > now}
            free_at = max(self._free_at.get(account, 0.0), now) + gap
            # The first one waits for nobody, however slowly the others follow.
            wait = max(0.0, free_at - max(BURST_SECONDS, gap) - now)
            if wait <= most:
                self._free_at[account] = free_at
                return wait
            back_at = max(now + wait, self._back_at.get(account, 0.0) + max(gap, COMING_BACK_SECONDS))
            self._back_at[account] = back_at
            return back_at - now
