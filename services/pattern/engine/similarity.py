"""Nearest neighbours by character n-grams: TF-IDF cosine over an index whose cost per query is bounded."""

from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_Ids: TypeAlias = NDArray[np.int64]
_Floats: TypeAlias = NDArray[np.float32]

_N_BUCKETS_BITS = 20
_N_BUCKETS = 1 << _N_BUCKETS_BITS
_SIZES = (3, 4, 5)
# Odd 64-bit constants (SplitMix64); the same text gives the same buckets on every machine.
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)
_STEP = np.uint64(0x100000001B3)
_SHIFT = np.uint64(64 - _N_BUCKETS_BITS)

# 1 + ln(count): a gram that occurs twice says little more than one that occurs once.
_WEIGHTS: _Floats = (1 + np.log(np.maximum(np.arange(256), 1))).astype(np.float32)

MAX_CHARACTERS = 320
# Grams of a text that are entered into the index and looked up, rarest first, and entries read of each.
_N_ENTERED = 48
_N_LOOKED_UP = 64
_MAX_DEPTH = 8
_FIRST_CAPACITY = 64


class Neighbour(Struct, frozen=True):
    """A text of the index and how close it is.

    position: which text, in the order of adding. cosine: in [0, 1].
    """

    position: int
    cosine: float


class Grams(Struct, frozen=True):
    """A text as its distinct n-grams.

    buckets: hashed grams, ascending. counts: how often each occurs, at most 255.
    """

    buckets: _Ids
    counts: NDArray[np.uint8]


@lru_cache(maxsize=128)
def grams_of(text: str) -> Grams:
    """The 3-, 4- and 5-grams of the first 320 characters, with a space before and behind."""
    codes = np.frombuffer(f" {text[:MAX_CHARACTERS]} ".encode("utf-32-le", "replace"), dtype=np.uint32)
    wide = codes.astype(np.uint64)
    hashed = []
    for size, factor in zip(_SIZES, _FACTORS, strict=True):
        n_grams = len(wide) - size + 1
        if n_grams <= 0:
            continue
        rolled = wide[:n_grams] + factor
        for offset in range(1, size):
            rolled = rolled * _STEP ^ wide[offset : offset + n_grams]
        hashed.append((rolled * factor) >> _SHIFT)
    buckets, counts = np.unique(np.concatenate(hashed) if hashed else wide[:0], return_counts=True)
    return Grams(buckets.astype(np.int64), np.minimum(counts, 255).astype(np.uint8))


class NgramIndex:
    """Texts in the order of adding; the same texts in the same order make the same index.

    Memory is 12 MB once filled and about 1.5 kB a text. A query reads at most 64 x 8 entries however many texts there are.
    """

    def __init__(self) -> None:
        # Zeroed pages are only taken from the system when touched, so an idle workspace costs little.
        self._n_texts_with: NDArray[np.int32] = np.zeros(_N_BUCKETS, dtype=np.int32)
        self._newest_entry: NDArray[np.int32] = np.zeros(_N_BUCKETS, dtype=np.int32)
        self._weight_of: _Floats = np.zeros(_N_BUCKETS, dtype=np.float32)
        self._older_entry: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY * _N_ENTERED, dtype=np.int32)
        self._text_of_entry: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY * _N_ENTERED, dtype=np.int32)
        # Entry 0 is the end of every chain.
        self._n_entries = 1
        self._starts: _Ids = np.zeros(_FIRST_CAPACITY + 1, dtype=np.int64)
        self._buckets: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY * 128, dtype=np.int32)
        self._counts: NDArray[np.uint8] = np.zeros(_FIRST_CAPACITY * 128, dtype=np.uint8)
        self._n_texts = 0

    def __len__(self) -> int:
        return self._n_texts

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for everything but the fixed tables."""
        growing = (self._older_entry, self._text_of_entry, self._starts, self._buckets, self._counts)
        return sum(array.nbytes for array in growing)

    def add(self, grams: Grams) -> int:
        """Enter a text and say its position. Amortised constant cost."""
        position, buckets = self._n_texts, grams.buckets
        self._n_texts_with[buckets] += 1
        start = int(self._starts[position])
        end = start + len(buckets)
        self._starts = _with_room(self._starts, position + 2)
        self._buckets = _with_room(self._buckets, end)
        self._counts = _with_room(self._counts, end)
        self._buckets[start:end] = buckets
        self._counts[start:end] = grams.counts
        self._starts[position + 1] = end
        self._enter(position, self._rarest(buckets, _N_ENTERED))
        self._n_texts = position + 1
        return position

    def nearest(self, grams: Grams, *, n_wanted: int) -> list[Neighbour]:
        """The closest texts among those that share rare grams, closest first, then oldest first."""
        if self._n_texts == 0 or len(grams.buckets) == 0:
            return []
        candidates = self._candidates(grams, n_wanted)
        if len(candidates) == 0:
            return []
        cosines = self._cosines(grams, candidates)
        order = np.lexsort((candidates, -cosines))
        return [Neighbour(int(candidates[i]), min(1.0, float(cosines[i]))) for i in order]

    def _rarest(self, buckets: _Ids, n_wanted: int) -> _Ids:
        if len(buckets) <= n_wanted:
            return buckets
        return buckets[np.argsort(self._n_texts_with[buckets], kind="stable")[:n_wanted]]

    def _enter(self, position: int, buckets: _Ids) -> None:
        first, end = self._n_entries, self._n_entries + len(buckets)
        self._older_entry = _with_room(self._older_entry, end)
        self._text_of_entry = _with_room(self._text_of_entry, end)
        self._older_entry[first:end] = self._newest_entry[buckets]
        self._text_of_entry[first:end] = position
        self._newest_entry[buckets] = np.arange(first, end, dtype=np.int32)
        self._n_entries = end

    def _candidates(self, grams: Grams, n_wanted: int) -> _Ids:
        """The texts that share most of the query's rarest grams, weighted by rarity."""
        known = grams.buckets[self._newest_entry[grams.buckets] > 0]
        looked_up = self._rarest(known, _N_LOOKED_UP)
        if len(looked_up) == 0:
            return looked_up
        rarity = self._rarity(looked_up)
        entries = self._newest_entry[looked_up]
        found, votes = [], []
        for _ in range(_MAX_DEPTH):
            found.append(self._text_of_entry[entries])
            votes.append(rarity)
            entries = self._older_entry[entries]
            alive = entries > 0
            entries, rarity = entries[alive], rarity[alive]
            if len(entries) == 0:
                break
        texts, of_text = np.unique(np.concatenate(found), return_inverse=True)
        total = np.bincount(of_text, weights=np.concatenate(votes))
        best = np.lexsort((texts, -total))[:n_wanted]
        return texts[best].astype(np.int64)

    def _rarity(self, buckets: _Ids) -> _Floats:
        """Squared inverse document frequency, smoothed."""
        idf = self._idf(buckets)
        return idf * idf

    def _idf(self, buckets: _Ids) -> _Floats:
        counts = self._n_texts_with[buckets].astype(np.float32)
        idf: _Floats = np.log((1 + self._n_texts) / (1 + counts)).astype(np.float32) + np.float32(1)
        return idf

    def _cosines(self, grams: Grams, candidates: _Ids) -> _Floats:
        weights = _WEIGHTS[grams.counts] * self._idf(grams.buckets)
        self._weight_of[grams.buckets] = weights
        starts, ends = self._starts[candidates], self._starts[candidates + 1]
        buckets = np.concatenate([self._buckets[s:e] for s, e in zip(starts, ends, strict=True)]).astype(
            np.int64
        )
        counts = np.concatenate([self._counts[s:e] for s, e in zip(starts, ends, strict=True)])
        theirs = _WEIGHTS[counts] * self._idf(buckets)
        bounds = np.concatenate(([0], np.cumsum(ends - starts)[:-1]))
        shared = np.add.reduceat(theirs * self._weight_of[buckets], bounds)
        lengths = np.sqrt(np.add.reduceat(theirs * theirs, bounds) * np.sum(weights * weights))
        self._weight_of[grams.buckets] = 0
        cosines: _Floats = shared / np.maximum(lengths, np.float32(1e-9))
        return cosines


def _with_room(array: NDArray[T], n_needed: int) -> NDArray[T]:
    """The array, twice as long where it is too short."""
    if n_needed <= len(array):
        return array
    grown = np.zeros(max(n_needed, 2 * len(array)), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
