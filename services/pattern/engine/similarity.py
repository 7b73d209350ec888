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
# Odd 64-bit constants (SplitMix64), of 3-, 4- and 5-grams; the same text gives the same buckets on every machine.
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
# More than float32 can lose in a sum of some hundred products.
_ROUNDING = np.float32(0.001)


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
    # One row per size; each is rolled on as far as it goes.
    threes = wide[:-2] + _FACTORS[:, None]
    threes = (threes * _STEP ^ wide[1:-1]) * _STEP ^ wide[2:]
    fours = threes[1:, :-1] * _STEP ^ wide[3:]
    fives = fours[1:, :-1] * _STEP ^ wide[4:]
    rolled = [rows[0] * factor for rows, factor in zip((threes, fours, fives), _FACTORS, strict=True)]
    hashed = (np.concatenate(rolled) >> _SHIFT).astype(np.int64)
    hashed.sort()
    is_first = np.ones(len(hashed) + 1, dtype=np.bool_)
    np.not_equal(hashed[1:], hashed[:-1], out=is_first[1:-1])
    firsts = is_first.nonzero()[0]
    counts = firsts[1:] - firsts[:-1]
    return Grams(hashed[firsts[:-1]], np.minimum(counts, 255).astype(np.uint8))


class NgramIndex:
    """Texts in the order of adding; the same texts in the same order make the same index.

    Memory is at most 50 MB and about 1.1 kB a text. A query reads at most 64 x 8 entries however many texts there are.
    """

    def __init__(self) -> None:
        # Zeroed pages are only taken from the system when touched, so an idle workspace costs little.
        self._n_texts_with: NDArray[np.int32] = np.zeros(_N_BUCKETS, dtype=np.int32)
        self._weight_of: _Floats = np.zeros(_N_BUCKETS, dtype=np.float32)
        # A bucket that was ever entered has a row: the newest texts with it, counted from 1, in a ring; 0 = none.
        self._row_of: NDArray[np.int32] = np.zeros(_N_BUCKETS, dtype=np.int32)
        self._newest: NDArray[np.int32] = np.zeros((_FIRST_CAPACITY, _MAX_DEPTH), dtype=np.int32)
        self._turn_of: NDArray[np.uint8] = np.zeros(_FIRST_CAPACITY, dtype=np.uint8)
        # Row 0 is nobody's.
        self._n_rows = 1
        self._votes_for: NDArray[np.float64] = np.zeros(_FIRST_CAPACITY, dtype=np.float64)
        self._starts: _Ids = np.zeros(_FIRST_CAPACITY + 1, dtype=np.int64)
        self._buckets: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY * 128, dtype=np.int32)
        self._counts: NDArray[np.uint8] = np.zeros(_FIRST_CAPACITY * 128, dtype=np.uint8)
        self._n_texts = 0

    def __len__(self) -> int:
        return self._n_texts

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for everything but the fixed tables."""
        growing = (
            self._newest,
            self._turn_of,
            self._votes_for,
            self._starts,
            self._buckets,
            self._counts,
        )
        return sum(array.nbytes for array in growing)

    def add(self, grams: Grams) -> int:
        """Enter a text and say its position. Amortised constant cost."""
        position, buckets = self._n_texts, grams.buckets
        n_texts_with = self._n_texts_with[buckets] + 1
        self._n_texts_with[buckets] = n_texts_with
        start = int(self._starts[position])
        end = start + len(buckets)
        self._starts = _with_room(self._starts, position + 2)
        self._buckets = _with_room(self._buckets, end)
        self._counts = _with_room(self._counts, end)
        self._votes_for = _with_room(self._votes_for, position + 2)
        self._buckets[start:end] = buckets
        self._counts[start:end] = grams.counts
        self._starts[position + 1] = end
        if len(buckets) > _N_ENTERED:
            buckets = buckets[n_texts_with.argsort(kind="stable")[:_N_ENTERED]]
        self._enter(position, buckets)
        self._n_texts = position + 1
        return position

    def nearest(self, grams: Grams, *, n_wanted: int, least_cosine: float = 0.0) -> list[Neighbour]:
        """The closest texts among those that share rare grams, closest first, then oldest first.

        Those that are surely less alike than `least_cosine` are left out, which is cheaper than to compare them.
        """
        buckets = grams.buckets
        n_texts_with = self._n_texts_with[buckets]
        idf = self._idf(n_texts_with)
        candidates = self._candidates(self._row_of[buckets], n_texts_with, idf, n_wanted=n_wanted)
        if len(candidates) == 0:
            return []
        weights = _WEIGHTS[grams.counts] * idf
        self._weight_of[buckets] = weights
        length = np.add.reduce(weights * weights)
        candidates = self._promising(candidates, length, np.float32(least_cosine))
        found = []
        if len(candidates):
            cosines = self._cosines(candidates, length)
            order = np.lexsort((candidates, -cosines))
            found = [Neighbour(int(candidates[i]), min(1.0, float(cosines[i]))) for i in order]
        self._weight_of[buckets] = 0
        return found

    def _enter(self, position: int, buckets: _Ids) -> None:
        rows = self._row_of[buckets]
        fresh = (rows == 0).nonzero()[0]
        if len(fresh):
            end = self._n_rows + len(fresh)
            self._newest = _with_room(self._newest, end)
            self._turn_of = _with_room(self._turn_of, end)
            rows[fresh] = np.arange(self._n_rows, end, dtype=np.int32)
            self._row_of[buckets] = rows
            self._n_rows = end
        turns = self._turn_of[rows]
        self._newest[rows, turns] = position + 1
        self._turn_of[rows] = (turns + 1) % _MAX_DEPTH

    def _candidates(
        self, rows: NDArray[np.int32], n_texts_with: NDArray[np.int32], idf: _Floats, *, n_wanted: int
    ) -> _Ids:
        """The texts that share most of a query's rarest grams, weighted by rarity: the inverse frequency squared."""
        looked_up = rows.nonzero()[0]
        if len(looked_up) == 0:
            return looked_up
        if len(looked_up) > _N_LOOKED_UP:
            looked_up = looked_up[n_texts_with[looked_up].argsort(kind="stable")[:_N_LOOKED_UP]]
        found = self._newest[rows[looked_up]].ravel()
        rarity = idf[looked_up]
        # Sums of so few float32 are exact in float64, so their order does not matter.
        np.add.at(self._votes_for, found, (rarity * rarity).astype(np.float64).repeat(_MAX_DEPTH))
        found.sort()
        is_new = np.empty(len(found), dtype=np.bool_)
        is_new[0] = found[0] > 0
        np.not_equal(found[1:], found[:-1], out=is_new[1:])
        numbers = found[is_new]
        votes = self._votes_for[numbers]
        self._votes_for[numbers] = self._votes_for[0] = 0
        if len(votes) > n_wanted:
            ascending = votes.copy()
            ascending.partition(-n_wanted)
            is_among = votes >= ascending[-n_wanted]
            numbers, votes = numbers[is_among], votes[is_among]
        best = (-votes).argsort(kind="stable")[:n_wanted]
        return numbers[best].astype(np.int64) - 1

    def _idf(self, n_texts_with: NDArray[np.int32]) -> _Floats:
        """Inverse document frequency, smoothed."""
        counts = n_texts_with.astype(np.float32)
        idf: _Floats = np.log((1 + self._n_texts) / (1 + counts)).astype(np.float32, copy=False) + np.float32(
            1
        )
        return idf

    def _promising(self, candidates: _Ids, length: np.float32, least_cosine: np.float32) -> _Ids:
        """The candidates that can be alike: a cosine is at most the share of the query's length that is shared."""
        bound = max(np.float32(0), least_cosine - _ROUNDING)
        theirs, bounds = self._of_texts(self._buckets, candidates)
        shared = self._weight_of[theirs]
        return candidates[np.add.reduceat(shared * shared, bounds) >= bound * bound * length]

    def _cosines(self, candidates: _Ids, length: np.float32) -> _Floats:
        buckets, bounds = self._of_texts(self._buckets, candidates)
        counts, _ = self._of_texts(self._counts, candidates)
        theirs = _WEIGHTS[counts] * self._idf(self._n_texts_with[buckets])
        shared = np.add.reduceat(theirs * self._weight_of[buckets], bounds)
        lengths = np.sqrt(np.add.reduceat(theirs * theirs, bounds) * length)
        return (shared / np.maximum(lengths, np.float32(1e-9))).astype(np.float32, copy=False)

    def _of_texts(self, array: NDArray[T], texts: _Ids) -> tuple[NDArray[T], _Ids]:
        """What an array holds of some texts, one after the other, and where each begins."""
        starts, ends = self._starts[texts], self._starts[texts + 1]
        parts = [array[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
        bounds = np.zeros(len(texts), dtype=np.int64)
        np.cumsum((ends - starts)[:-1], out=bounds[1:])
        return np.concatenate(parts), bounds


def _with_room(array: NDArray[T], n_needed: int) -> NDArray[T]:
    """The array, twice as long where it is too short."""
    if n_needed <= len(array):
        return array
    grown = np.zeros((max(n_needed, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
