"""The texts that stand for patterns, each kind with its own indexes, and which of them are near to a new one."""

from collections import deque
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .embedding import N_DIMENSIONS
from .similarity import (
    GRAM_BITS,
    WORD_BITS,
    Floats,
    Ids,
    Query,
    TermIndex,
    closest,
    grams_of,
    largest,
    summed,
)
from .wording import IDENTIFIER, NUMBER, TITLE, Wording

MAX_TEXTS: Final = 100_000
"""Living texts of one kind in one workspace; beyond, the oldest expires."""
N_NEIGHBOURS: Final = 12
"""Candidates by each measure."""
N_POOLED: Final = 24
"""Texts of machines that share rare grams, of which the nearest are found."""
N_POOLED_RECENT: Final = 64
"""Of the latest texts those nearest by the first dimensions, of which the nearest by all are found."""
N_RECENT: Final = 4_096
"""Latest texts that a new one's embedding is compared with, every one of them."""
N_COARSE: Final = 128
"""Dimensions of an embedding that find what is near; the model was trained so that the first ones say most."""
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

    def add(self, key: int, text: str) -> list[int]:
        """Enter a text under a key; the keys of those that expire."""
        self.index.add(grams_of(text))
        self.keys.append(key)
        return _expired(self.keys, [self.index])

    def near(self, text: str) -> list[tuple[int, float]]:
        """The keys of the nearest texts with their cosines, nearest first."""
        if not len(self.index):
            return []
        with Query(self.index, grams_of(text)) as query:
            pool = query.pool(n_wanted=N_POOLED)
            cosines = query.cosines(query.beside(pool))
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
        # The start of the latest vectors once more as floats, in a ring, for a product over all of them.
        self._recent: Floats = np.zeros((64, N_COARSE), dtype=np.float32)
        self._recent_lengths: Floats = np.ones(N_RECENT, dtype=np.float32)
        self._recent_numbers: Ids = np.zeros(N_RECENT, dtype=np.int64)

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
        self._vectors[slot] = wording.vectors
        self._lengths[slot] = wording.lengths
        start = wording.vectors[1, :N_COARSE]
        self._recent[number % N_RECENT] = start
        self._recent_lengths[number % N_RECENT] = np.sqrt(max(float(start @ start), 1.0))
        self._recent_numbers[number % N_RECENT] = number
        self.keys.append(key)
        return _expired(self.keys, [self.grams, self.words])

    def near(self, wording: Wording) -> Near | None:
        """The nearest texts by each measure, in one; None when there is none at all."""
        if not self.keys:
            return None
        is_of_body = (wording.terms.marks & TITLE) == 0
        with (
            Query(self.grams, wording.grams) as grams,
            Query(self.words, wording.terms, apart=is_of_body) as words,
        ):
            found = np.concatenate(
                (
                    grams.pool(n_wanted=N_NEIGHBOURS),
                    words.pool(n_wanted=N_NEIGHBOURS),
                    self._closest_recent(wording),
                )
            )
            if len(found) == 0:
                return None
            found.sort()
            is_new = np.ones(len(found), dtype=np.bool_)
            np.not_equal(found[1:], found[:-1], out=is_new[1:])
            numbers = found[is_new]
            return self._compared(numbers, grams, words, self._embedding_cosines(numbers, wording))

    def _compared(self, numbers: Ids, grams: Query, words: Query, by_vector: Floats) -> Near:
        rows = words.beside(numbers)
        own_marks = words.terms.marks
        is_shared = rows.asked != 0
        is_title = (rows.marks & TITLE) > 0
        is_name, is_number = (rows.marks & IDENTIFIER) > 0, (rows.marks & NUMBER) > 0
        is_own_title = (own_marks & TITLE) > 0
        sums = summed(
            rows,
            rows.idf * (is_title & (rows.asked > 0)),
            rows.idf * is_title,
            is_shared,
            is_title,
            is_name,
            is_name & is_shared,
            is_number,
            is_number & is_shared,
        )
        return Near(
            numbers=numbers,
            grams=grams.cosines(grams.beside(numbers)),
            words=words.cosines(rows),
            titles=by_vector[0],
            whole=by_vector[1],
            shared_idf=sums[0],
            own_idf=float(words.idf[is_own_title].sum()),
            their_idf=sums[1],
            rarest=largest(rows, rows.idf * is_shared),
            n_shared=sums[2],
            n_own=int(np.count_nonzero(is_own_title)),
            n_theirs=sums[3],
            n_words_own=len(own_marks),
            n_words_theirs=rows.lengths.astype(np.float32),
            names=_agreement(sums[4], sums[5], has_own=bool((own_marks & IDENTIFIER).any())),
            figures=_agreement(sums[6], sums[7], has_own=bool((own_marks & NUMBER).any())),
            n_between=(self.words.end - numbers).astype(np.float32),
        )

    def _closest_recent(self, wording: Wording) -> Ids:
        n_slots = min(self.words.end, N_RECENT)
        numbers = self._recent_numbers[:n_slots]
        # Products of integers below 2^24: exact, in whatever order a machine adds.
        coarse = (self._recent[:n_slots] @ wording.vectors[1, :N_COARSE]) / self._recent_lengths[:n_slots]
        if self.words.end - self.words.first < n_slots:
            coarse[numbers < self.words.first] = -2
        n_wanted = min(N_POOLED_RECENT, n_slots, len(self.keys))
        least = np.partition(coarse, n_slots - n_wanted)[n_slots - n_wanted]
        near = (coarse >= least).nonzero()[0]
        near = closest(numbers[near], coarse[near], n_wanted)
        slots = near % MAX_TEXTS
        cosines = self._vectors[slots, 1].astype(np.float32) @ wording.vectors[1] / self._lengths[slots, 1]
        return closest(near, cosines, N_NEIGHBOURS)

    def _embedding_cosines(self, numbers: Ids, wording: Wording) -> Floats:
        slots = numbers % MAX_TEXTS
        theirs = self._vectors[slots].astype(np.float32)
        lengths = self._lengths[slots] * wording.lengths
        cosines: Floats = np.empty((2, len(numbers)), dtype=np.float32)
        for i in range(2):
            cosines[i] = theirs[:, i] @ wording.vectors[i] / lengths[:, i]
        return cosines

    def _make_room(self, slot: int, recent_slot: int) -> None:
        if slot >= len(self._vectors):
            size = min(MAX_TEXTS, 2 * len(self._vectors))
            self._vectors = _grown(self._vectors, size)
            lengths: Floats = np.ones((size, 2), dtype=np.float32)
            lengths[: len(self._lengths)] = self._lengths
            self._lengths = lengths
        if recent_slot >= len(self._recent):
            recent: Floats = np.zeros((min(N_RECENT, 2 * len(self._recent)), N_COARSE), dtype=np.float32)
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


def _agreement(n_theirs: Floats, n_shared: Floats, *, has_own: bool) -> Floats:
    if not has_own:
        return np.zeros(len(n_theirs), dtype=np.float32)
    return np.where(n_shared > 0, np.float32(1), -(n_theirs > 0).astype(np.float32))
