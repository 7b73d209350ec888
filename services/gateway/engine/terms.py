"""Counting who has what: distinctive words, and the tests by which a difference counts as one."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from .redacting import MARKS

Z_LEAST: Final = 3.29
"""Standard errors that a difference has to be away from none: two-sided 0.1 %, as many words are looked at."""
SHARE_LEAST: Final = 0.5
"""Share of the members that have to have what is said of them."""
_WORD = re.compile(r"[^\W\d_][\w.\-]{1,39}")
_MARK = re.compile("|".join(MARKS))
# What every language of messages is full of; nothing follows from it.
_EMPTY = frozenset(
    [
        "a",
        "after",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "was",
        "while",
        "with",
        "when",
    ]
)


class Contrast(Struct, frozen=True):
    """How many members and how many others have something."""

    n_having: int
    n_members: int
    n_others_having: int
    n_others: int

    @property
    def share(self) -> float:
        """Of the members, 0 … 1."""
        return self.n_having / self.n_members

    @property
    def lift(self) -> float:
        """How many times more often members have it than others, half a failure added so that none is not nothing."""
        return self.share / ((self.n_others_having + 0.5) / (self.n_others + 1))

    @property
    def z(self) -> float:
        """The log odds ratio over its standard error, with the Haldane-Anscombe correction; 0 without others."""
        if not self.n_others:
            return 0.0
        a, b = self.n_having + 0.5, self.n_members - self.n_having + 0.5
        c, d = self.n_others_having + 0.5, self.n_others - self.n_others_having + 0.5
        return math.log(a * d / (b * c)) / math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)

    @property
    def is_telling(self) -> bool:
        """Whether most members have it, and more of them than chance would give."""
        return self.share >= SHARE_LEAST and self.z >= Z_LEAST

    def __str__(self) -> str:
        often = f" (×{self.lift:.1f})" if self.n_others_having else ""
        return f"in {self.n_having} of {self.n_members}, elsewhere in {self.n_others_having} of {self.n_others}{often}"


def words_of(title: str) -> frozenset[str]:
    """The words of a title and its pairs of neighbours, in lower case, without what is in every title or redacted."""
    found: set[str] = set()
    for part in _MARK.split(title):
        words = [word.rstrip(".-") for word in _WORD.findall(part.lower())]
        found.update(word for word in words if word not in _EMPTY)
        found.update(f"{one} {two}" for one, two in pairwise(words) if not {one, two} & _EMPTY)
    return frozenset(found)


def distinctive(
    members: Sequence[str], others: Sequence[str], *, n_most: int
) -> Sequence[tuple[str, Contrast]]:
    """Words and pairs of words that titles of members have and those of others have not, the most telling first.

    No word is in two of them. Equal ones come longest first, then by the alphabet.
    """
    having, elsewhere = _counted(members), _counted(others)
    contrasts = (
        (term, Contrast(n, len(members), elsewhere[term], len(others)))
        for term, n in having.items()
        if n >= SHARE_LEAST * len(members)
    )
    telling = sorted(
        (found for found in contrasts if found[1].is_telling),
        key=lambda found: (-found[1].z, -len(found[0]), found[0]),
    )
    return list(_apart(telling))[:n_most]


def _counted(titles: Sequence[str]) -> Counter[str]:
    return Counter(term for title in titles for term in words_of(title))


def _apart(found: Sequence[tuple[str, Contrast]]) -> Iterator[tuple[str, Contrast]]:
    said: set[str] = set()
    for term, contrast in found:
        if not said & set(term.split()):
            said |= set(term.split())
            yield term, contrast


def binomial_tail(k: int, n: int, p: float) -> float:
    """Probability of k or more of n, each with probability p."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
