"""The texts that stand for patterns, each kind with its own indexes, and which of them are near to a new one."""

from collections import deque
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .embedding import N_DIMENSIONS
from .similarity import GRAM_BITS, WORD_BITS, Floats, Ids, Query, Rows, TermIndex, closest, grams_of, reduced
from .wording import IDENTIFIER, NUMBER, TITLE, Wording

MAX_TEXTS: Final = 100_000
"""Living texts of one kind in one workspace; beyond, the oldest expires."""
N_NEIGHBOURS: Final = 12
"""Candidates by each measure."""
N_POOLED: Final = 24
N_RECENT: Final = 4_096
"""Latest texts that a new one's embedding is compared with, every one of them."""
_GRAM_DEPTH = 8
_WORD_DEPTH = 32


class Near(Struct, frozen=True):
    """Texts near to a new one and how near, an array per measure, all in the order of `numbers` (ascending).

    grams, words: TF-IDF cosines of the titles' character n-grams, and of words of title and body. titles, whole:
    cosines of the embeddings. shared_idf, own_idf, their_idf: inverse document frequency of the words of the titles,
    summed. rarest: the largest of a shared word. n_shared: shared words. n_own, n_theirs: words of the titles.
    names, figures: 1 for a shared one, -1 where both have some and share none, 0 else. n_between: texts added since.
    """

    numbers: Ids
    grams: Floats
    words: Floats
    titles: Floats
    whole: Floats
    shared_idf: Floats
    own_idf: float
    their_idf: Floats
    rarest: Floats
    n_shared: Floats
    n_own: int
    n_theirs: Floats
    n_words_own: int
    n_words_theirs: Floats
    names: Floats
    figures: Floats
    n_between: Floats


class MachineTexts:
    """Texts that machines wrote, compared by character n-grams."""

    def __init__(self) -> None:
        self.index = TermIndex(bits=GRAM_BITS, depth=_GRAM_DEPTH)
        self.keys: deque[int] = deque()
        self._scratch: Floats = np.zeros(1 << GRAM_BITS, dtype=np.float32)

    def add(self, key: int, text: str) -> list[int]:
        """Enter a text under a key; the keys of those that expire."""
        self.index.add(grams_of(text))
        self.keys.append(key)
        return _expired(self.keys, [self.index])

    def near(self, text: str) -> list[tuple[int, float]]:
        """The keys of the nearest texts with their cosines, nearest first."""
        if not len(self.index):
            return []
        with Query(self.index, grams_of(text), self._scratch) as query:
            pool = query.pool(n_wanted=N_POOLED)
            cosines = query.cosines(self.index.rows(pool))
        order = np.lexsort((pool, -cosines))[:N_NEIGHBOURS]
        first = self.index.first
        return [(self.keys[int(pool[i]) - first], float(cosines[i])) for i in order]


class HumanTexts:
    """Texts that people wrote, compared by characters, words and embeddings."""

    def __init__(self) -> None:
        self.grams = TermIndex(bits=GRAM_BITS, depth=_GRAM_DEPTH)
        self.words = TermIndex(bits=WORD_BITS, depth=_WORD_DEPTH, is_marked=True)
        self.keys: deque[int] = deque()
        self._vectors: NDArray[np.int8] = np.zeros((64, 2, N_DIMENSIONS), dtype=np.int8)
        self._lengths: Floats = np.ones((64, 2), dtype=np.float32)
        # The latest vectors once more as floats, in a ring, for a product over all of them.
        self._recent: Floats = np.zeros((64, N_DIMENSIONS), dtype=np.float32)
        self._recent_lengths: Floats = np.ones(N_RECENT, dtype=np.float32)
        self._recent_numbers: Ids = np.zeros(N_RECENT, dtype=np.int64)
        self._of_grams: Floats = np.zeros(1 << GRAM_BITS, dtype=np.float32)
        self._of_words: Floats = np.zeros(1 << WORD_BITS, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.keys)

    def key_of(self, number: int) -> int:
        """The key under which a living text was entered."""
        return self.keys[number - self.words.first]

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for the texts."""
        vectors = self._vectors.nbytes + self._lengths.nbytes + self._recent.nbytes
        return self.grams.n_bytes + self.words.n_bytes + vectors

    def add(self, key: int, wording: Wording) -> list[int]:
        """Enter a text under a key; the keys of those that expire."""
        self.grams.add(wording.grams)
        number = self.words.add(wording.terms)
        slot = number % MAX_TEXTS
        self._make_room(slot, number % N_RECENT)
        pair = np.stack((wording.of_title, wording.of_all))
        self._vectors[slot] = pair
        wide = pair.astype(np.float32)
        self._lengths[slot] = np.sqrt(np.maximum((wide * wide).sum(axis=1), 1))
        self._recent[number % N_RECENT] = wide[1]
        self._recent_lengths[number % N_RECENT] = self._lengths[slot, 1]
        self._recent_numbers[number % N_RECENT] = number
        self.keys.append(key)
        return _expired(self.keys, [self.grams, self.words])

    def near(self, wording: Wording) -> Near | None:
        """The nearest texts by each measure, in one; None when there is none at all."""
        if not self.keys:
            return None
        with (
            Query(self.grams, wording.grams, self._of_grams) as grams,
            Query(self.words, wording.terms, self._of_words) as words,
        ):
            by_grams = grams.pool(n_wanted=N_POOLED)
            by_words = words.pool(n_wanted=N_POOLED)
            whole = wording.of_all.astype(np.float32)
            numbers = np.unique(
                np.concatenate(
                    (
                        closest(by_grams, grams.cosines(self.grams.rows(by_grams)), N_NEIGHBOURS),
                        closest(by_words, words.cosines(self.words.rows(by_words)), N_NEIGHBOURS),
                        self._closest_recent(whole),
                    )
                )
            )
            if len(numbers) == 0:
                return None
            titles, whole_cosines = self._embedding_cosines(
                numbers, wording.of_title.astype(np.float32), whole
            )
            return self._compared(numbers, grams, words, (titles, whole_cosines))

    def _compared(self, numbers: Ids, grams: Query, words: Query, by_vector: tuple[Floats, Floats]) -> Near:
        rows = self.words.rows(numbers)
        is_shared = words.is_shared(rows)
        is_title = (rows.marks & TITLE) > 0
        is_own_title = (words.terms.marks & TITLE) > 0
        idf = rows.idf
        return Near(
            numbers=numbers,
            grams=grams.cosines(self.grams.rows(numbers)),
            words=words.cosines(rows),
            titles=by_vector[0],
            whole=by_vector[1],
            shared_idf=reduced(np.add, rows, idf * (is_shared & is_title & self._in_own_title(rows, words))),
            own_idf=float(words.idf[is_own_title].sum()),
            their_idf=reduced(np.add, rows, idf * is_title),
            rarest=reduced(np.maximum, rows, idf * is_shared),
            n_shared=reduced(np.add, rows, is_shared.astype(np.float32)),
            n_own=int(is_own_title.sum()),
            n_theirs=reduced(np.add, rows, is_title.astype(np.float32)),
            n_words_own=len(words.terms.buckets),
            n_words_theirs=reduced(np.add, rows, np.ones(len(idf), dtype=np.float32)),
            names=_agreement(rows, is_shared, words, IDENTIFIER),
            figures=_agreement(rows, is_shared, words, NUMBER),
            n_between=(self.words.end - numbers).astype(np.float32),
        )

    @staticmethod
    def _in_own_title(rows: Rows, words: Query) -> NDArray[np.bool_]:
        own = words.terms.buckets[(words.terms.marks & TITLE) > 0]
        if len(own) == 0:
            return np.zeros(len(rows.buckets), dtype=np.bool_)
        at = np.minimum(np.searchsorted(own, rows.buckets), len(own) - 1)
        return np.asarray(own[at] == rows.buckets, dtype=np.bool_)

    def _closest_recent(self, whole: Floats) -> Ids:
        n_slots = min(self.words.end, N_RECENT)
        numbers = self._recent_numbers[:n_slots]
        # Products of integers below 2^24: exact, in whatever order a machine adds.
        cosines = (self._recent[:n_slots] @ whole) / self._recent_lengths[:n_slots]
        if self.words.end - self.words.first < n_slots:
            cosines[numbers < self.words.first] = -2
        n_wanted = min(N_NEIGHBOURS, n_slots, len(self.keys))
        least = np.partition(cosines, n_slots - n_wanted)[n_slots - n_wanted]
        near = (cosines >= least).nonzero()[0]
        return closest(numbers[near], cosines[near], n_wanted)

    def _embedding_cosines(self, numbers: Ids, title: Floats, whole: Floats) -> tuple[Floats, Floats]:
        slots = numbers % MAX_TEXTS
        theirs, lengths = self._vectors[slots].astype(np.float32), self._lengths[slots]
        found = []
        for i, own in enumerate((title, whole)):
            length = np.float32(np.sqrt(max(float(own @ own), 1.0)))
            found.append((theirs[:, i] @ own) / (lengths[:, i] * length))
        return found[0], found[1]

    def _make_room(self, slot: int, recent_slot: int) -> None:
        if slot >= len(self._vectors):
            size = min(MAX_TEXTS, 2 * len(self._vectors))
            self._vectors = _grown(self._vectors, size)
            lengths: Floats = np.ones((size, 2), dtype=np.float32)
            lengths[: len(self._lengths)] = self._lengths
            self._lengths = lengths
        if recent_slot >= len(self._recent):
            recent: Floats = np.zeros((min(N_RECENT, 2 * len(self._recent)), N_DIMENSIONS), dtype=np.float32)
            recent[: len(self._recent)] = self._recent
            self._recent = recent


def _expired(keys: deque[int], indexes: list[TermIndex]) -> list[int]:
    expired = []
    while len(keys) > MAX_TEXTS:
        for index in indexes:
            index.expire()
        expired.append(keys.popleft())
    return expired


def _grown(array: NDArray[np.int8], size: int) -> NDArray[np.int8]:
    grown = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown


def _agreement(rows: Rows, is_shared: NDArray[np.bool_], words: Query, mark: int) -> Floats:
    theirs = (rows.marks & mark) > 0
    own = (words.terms.marks & mark) > 0
    shared = reduced(np.maximum, rows, (theirs & is_shared).astype(np.float32))
    if not own.any():
        return np.zeros(len(rows.starts), dtype=np.float32)
    have = reduced(np.maximum, rows, theirs.astype(np.float32))
    return np.where(shared > 0, np.float32(1), -have).astype(np.float32)
