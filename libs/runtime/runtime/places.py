"""Places for work that others can make last: so many, so many for each owner, half of them for whoever was slow."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

SLOW_SHARE: Final = 2
SLOW_FOR_SECONDS: Final = 600.0
"""Owners whose work lasted have half of the places together, each for so long: however many they are, others go on."""


class Places:
    """Who has how many places now, and who was slow of late. It only counts, for one thread or under one lock.

    n: places in all. each: of one owner.
    """

    def __init__(self, n: int, *, each: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._n = n
        self._each = each
        self._monotonic = monotonic
        self._taken: Counter[str] = Counter()
        self._slow_until: dict[str, float] = {}

    def may_take(self, owner: str) -> bool:
        """Whether there is a place for one more of an owner."""
        return self._taken.total() < self._n and owner not in self.without()

    def take(self, owner: str) -> None:
        """Count one more."""
        self._taken[owner] += 1

    def give_back(self, owner: str) -> None:
        """Count one less."""
        self._taken -= Counter([owner])

    def note_slow(self, owner: str) -> None:
        """An owner's work has just held a place for long."""
        self._slow_until[owner] = self._monotonic() + SLOW_FOR_SECONDS

    def is_beyond(self, owner: str) -> bool:
        """Whether slow owners, this one among them, hold more than their share, as when they became slow just now."""
        slow = self._slow()
        return owner in slow and self._n_of(slow) > self._n // SLOW_SHARE

    def without(self) -> frozenset[str]:
        """The owners that may have no more now, though there be places."""
        full = frozenset(owner for owner, n in self._taken.items() if n >= self._each)
        slow = self._slow()
        return full | slow if self._n_of(slow) >= self._n // SLOW_SHARE else full

    def _slow(self) -> frozenset[str]:
        now = self._monotonic()
        self._slow_until = {owner: until for owner, until in self._slow_until.items() if until > now}
        return frozenset(self._slow_until)

    def _n_of(self, owners: frozenset[str]) -> int:
        return sum(n for owner, n in self._taken.items() if owner in owners)
