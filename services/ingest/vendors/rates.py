"""How fast each account of a vendor is asked, over all threads of the process."""

import threading
from collections.abc import Callable
from math import inf
from typing import Final

ACCOUNTS_MAX: Final = 10_000
"""Beyond so many, those that are not in use are forgotten."""


class Rates:
    """A token bucket per account; it holds a tenth of a minute's requests, so that a short run does not wait.

    Own, since pyrate-limiter and limits sleep by themselves, where a run has to stop within a second.
    clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = {}

    def wait(self, account: str, per_minute: int, *, most: float = inf) -> float:
        """Take a request's place in the row; the seconds until it is this one's turn.

        Whoever would wait longer than `most` gets no place: it takes nobody's turn and comes back.
        """
        gap, burst = 60 / per_minute, 6.0
        with self._lock:
            now = self._clock()
            if account not in self._free_at and len(self._free_at) >= ACCOUNTS_MAX:
                self._free_at = {name: at for name, at in self._free_at.items() if at > now}
            free_at = max(self._free_at.get(account, 0.0), now) + gap
            wait = max(0.0, free_at - burst - now)
            if wait <= most:
                self._free_at[account] = free_at
        return wait
