"""Sparse TF-IDF over hashed terms: cosines, and the nearest texts of an index whose cost per query is bounded."""

from functools import lru_cache
from math import log
from typing import TypeAlias, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Marks: TypeAlias = NDArray[np.uint8]

GRAM_BITS = 20
WORD_BITS = 18
# Odd 64-bit constants (SplitMix64), of 3-, 4- and 5-grams; the same text gives the same buckets on every machine.
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)
_STEP = np.uint64(0x100000001B3)
_SHIFT = np.uint64(64 - GRAM_BITS)

# 1 + ln(count): a term that occurs twice says little more than one that occurs once.
_WEIGHTS: Floats = (1 + np.log(np.maximum(np.arange(256), 1))).astype(np.float32)
# ln(1 + n) of how many texts have a term; beyond 65,536 a term is as common as any.
_MOST_COUNTED = 1 << 16
_LOG_AFTER: Floats = np.log1p(np.arange(_MOST_COUNTED + 1)).astype(np.float32)
_NO_MARKS: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
_COUNT_BITS = np.uint32(8)
_COUNT_MASK = np.uint32(255)

MAX_CHARACTERS = 320
# Terms of a query that are looked up, rarest first.
_N_LOOKED_UP = 64
_FIRST_CAPACITY = 64
_LEAST_TO_COMPACT = 1024


class Terms(Struct, frozen=True):
    """A text as its distinct hashed terms.

    buckets: ascending. counts: how often each occurs, at most 255. marks: bits with a meaning of the caller's; kept
    by a marked index only.
    """

    buckets: Ids
    counts: NDArray[np.uint8]
    marks: NDArray[np.uint8]


class Rows(Struct, frozen=True):
    """Terms of several texts beside a query, one text after the other.

    marks: empty in an index without. idf, weights: inverse document frequency and TF-IDF of each term. asked: its
    weight in the query, negative for one of `apart`, 0 where the query has it not. starts: where each text begins.
    lengths: terms of each. is_filled: which texts have terms at all; None = all.
    """

    marks: Marks
    idf: Floats
    weights: Floats
    asked: Floats
    starts: Ids
    lengths: Ids
    is_filled: NDArray[np.bool_] | None


@lru_cache(maxsize=128)
def grams_of(text: str) -> Terms:
    """The 3-, 4- and 5-grams of the first 320 characters, with a space before and behind."""
    codes = np.frombuffer(f" {text[:MAX_CHARACTERS]} ".encode("utf-32-le", "replace"), dtype=np.uint32)
    wide = codes.astype(np.uint64)
    # One row per size; each is rolled on as far as it goes.
    threes = wide[:-2] + _FACTORS[:, None]
    threes = (threes * _STEP ^ wide[1:-1]) * _STEP ^ wide[2:]
    fours = threes[1:, :-1] * _STEP ^ wide[3:]
    fives = fours[1:, :-1] * _STEP ^ wide[4:]
    rolled = [rows[0] * factor for rows, factor in zip((threes, fours, fives), _FACTORS, strict=True)]
    return _counted(np.concatenate(rolled))


@lru_cache(maxsize=128)
def fours_of(text: str) -> Terms:
    """The 4-grams of the first 320 characters, with a space before and two behind: as telling of a title, and a third as many."""
    codes = np.frombuffer(f" {text[:MAX_CHARACTERS]}  ".encode("utf-32-le", "replace"), dtype=np.uint32)
    wide = codes.astype(np.uint64)
    rolled = ((wide[:-3] * _STEP ^ wide[1:-2]) * _STEP ^ wide[2:-1]) * _STEP ^ wide[3:]
    return _counted(rolled * _FACTORS[0])


def _counted(rolled: NDArray[np.uint64]) -> Terms:
    hashed = (rolled >> _SHIFT).astype(np.int64)
    hashed.sort()
    is_first = np.ones(len(hashed) + 1, dtype=np.bool_)
    np.not_equal(hashed[1:], hashed[:-1], out=is_first[1:-1])
    firsts = is_first.nonzero()[0]
    counts = np.minimum(firsts[1:] - firsts[:-1], 255).astype(np.uint8)
    return Terms(hashed[firsts[:-1]], counts, np.zeros(len(counts), dtype=np.uint8))


class TermIndex:
    """The latest texts by number, in the order of adding; texts expire oldest first.

    What it answers depends on the living texts and their order alone: an index into which only those were entered
    answers the same. A query reads at most 64 x depth entries, however many texts there are.
    """

    def __init__(self, *, bits: int, depth: int, is_marked: bool = False) -> None:
        n_buckets = 1 << bits
        self._depth, self._bits, self._is_marked = depth, bits, is_marked
        # Real: how many living texts have a term; imaginary: its weight in the one `Query` there is. Both are wanted
        # of thousands of terms in turn, from all over the table: so each costs one reach into memory instead of two.
        # Zeroed pages are only taken from the system when touched, so an idle workspace costs little.
        self._table: NDArray[np.complex64] = np.zeros(n_buckets, dtype=np.complex64)
        # A bucket that was ever entered has a row: the newest texts with it, counted from 1, in a ring; 0 = none.
        self._row_of: NDArray[np.int32] = np.zeros(n_buckets, dtype=np.int32)
        self._newest: NDArray[np.int32] = np.zeros((_FIRST_CAPACITY, depth), dtype=np.int32)
        self._turn_of: NDArray[np.uint8] = np.zeros(_FIRST_CAPACITY, dtype=np.uint8)
        self._n_rows = 1  # Row 0 is nobody's.
        # Numbers: of the first text that the arrays hold, of the oldest that lives, and of the next one.
        self._base = self._first = self._end = 0
        self._starts: Ids = np.zeros(_FIRST_CAPACITY + 1, dtype=np.int64)
        # Of each term its bucket, above it the count and above that the marks: one stretch to copy instead of three.
        self._terms: NDArray[np.uint32] = np.zeros(_FIRST_CAPACITY * 64, dtype=np.uint32)
        self._votes_for: NDArray[np.float64] = np.zeros(_FIRST_CAPACITY, dtype=np.float64)

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def first(self) -> int:
        """Number of the oldest living text."""
        return self._first

    @property
    def end(self) -> int:
        """Number that the next text will have."""
        return self._end

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for everything but the fixed tables."""
        growing = (self._newest, self._turn_of, self._starts, self._terms)
        return sum(array.nbytes for array in growing) + self._votes_for.nbytes

    @property
    def is_asked(self) -> bool:
        """Whether a `Query` is open."""
        return bool(self._table.imag.any())

    def add(self, terms: Terms) -> int:
        """Enter a text and say its number. Amortised constant cost."""
        number, buckets = self._end, terms.buckets
        position = number - self._base
        self._table.real[buckets] += 1
        start = int(self._starts[position])
        end = start + len(buckets)
        self._starts = _with_room(self._starts, position + 2)
        self._votes_for = _with_room(self._votes_for, position + 2)
        self._terms = _with_room(self._terms, end)
        above = terms.counts.astype(np.uint32)
        if self._is_marked:
            above |= terms.marks.astype(np.uint32) << _COUNT_BITS
        self._terms[start:end] = above << self._bits | buckets.astype(np.uint32)
        self._starts[position + 1] = end
        self._enter(number, buckets)
        self._end = number + 1
        return number

    def expire(self) -> None:
        """Forget the oldest text. Amortised constant cost: room is won back in strides."""
        position = self._first - self._base
        start, end = self._starts[position : position + 2].tolist()
        self._table.real[self._terms[start:end] & self._bucket_mask] -= 1
        self._first += 1
        n_dead = self._first - self._base
        if n_dead >= _LEAST_TO_COMPACT and n_dead * 2 >= self._end - self._base:
            self._compact(n_dead)

    def idf(self, n_texts_with: Floats) -> Floats:
        """Inverse document frequency of terms that so many texts have, smoothed; 1 for one that every text has."""
        most = np.float32(log(1 + len(self)) + 1)
        # `take` clips what is beyond the table for nothing, and is twice as fast as indexing.
        idf: Floats = most - _LOG_AFTER.take(n_texts_with.astype(np.intp), mode="clip")
        return idf

    def pool(self, terms: Terms, n_texts_with: Floats, idf: Floats, *, n_wanted: int) -> Ids:
        """Numbers of the texts that share most of a query's rarest terms, each counted by its rarity squared."""
        looked_up = n_texts_with.nonzero()[0]
        if len(looked_up) == 0:
            return looked_up
        if len(looked_up) > _N_LOOKED_UP:
            looked_up = looked_up[(-idf[looked_up]).argsort(kind="stable")[:_N_LOOKED_UP]]
        # Those that are not entered and those that expired vote for nobody.
        found = self._newest[self._row_of[terms.buckets[looked_up]]].ravel()
        found -= self._first
        np.maximum(found, 0, out=found)
        rarity = idf[looked_up]
        # Sums of so few float32 are exact in float64, so their order does not matter.
        np.add.at(self._votes_for, found, (rarity * rarity).astype(np.float64).repeat(self._depth))
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
        return numbers[best].astype(np.int64) + (self._first - 1)

    def _beside(self, numbers: Ids) -> Rows:
        positions = numbers - self._base
        starts, ends = self._starts[positions], self._starts[positions + 1]
        lengths = ends - starts
        offsets = np.zeros(len(numbers), dtype=np.int64)
        np.cumsum(lengths[:-1], out=offsets[1:])
        stored = self._terms
        stretches = [stored[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        terms = np.concatenate(stretches) if stretches else stored[:0]
        entries = self._table.take((terms & self._bucket_mask).astype(np.intp), mode="clip")
        above = terms >> self._bits
        marks = (above >> _COUNT_BITS).astype(np.uint8) if self._is_marked else _NO_MARKS
        counts = above & _COUNT_MASK if self._is_marked else above
        idf = self.idf(entries.real)
        return Rows(
            marks=marks,
            idf=idf,
            weights=_WEIGHTS.take(counts.astype(np.intp), mode="clip") * idf,
            asked=entries.imag,
            starts=offsets,
            lengths=lengths,
            is_filled=None if lengths.all() else lengths > 0,
        )

    @property
    def _bucket_mask(self) -> np.uint32:
        return np.uint32((1 << self._bits) - 1)

    def _enter(self, number: int, buckets: Ids) -> None:
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
        self._newest[rows, turns] = number + 1
        self._turn_of[rows] = (turns + 1) % self._depth

    def _compact(self, n_dead: int) -> None:
        n_stored = self._end - self._base
        start, end = int(self._starts[n_dead]), int(self._starts[n_stored])
        self._terms[: end - start] = self._terms[start:end].copy()
        self._starts[: n_stored - n_dead + 1] = self._starts[n_dead : n_stored + 1] - start
        self._base = self._first


class Query:
    """One text against the texts of an index, for as long as the `with` lasts; one at a time."""

    def __init__(self, index: TermIndex, terms: Terms, *, apart: NDArray[np.bool_] | None = None) -> None:
        """Apart: terms to be told from the others in `Rows.asked`."""
        self.index, self.terms, self._apart = index, terms, apart
        self._n_texts_with = index._table.real[terms.buckets]
        self.idf = index.idf(self._n_texts_with)
        self.weights: Floats = _WEIGHTS[terms.counts] * self.idf
        self._length = np.add.reduce(self.weights * self.weights)

    def __enter__(self) -> "Query":
        weights = self.weights if self._apart is None else np.where(self._apart, -self.weights, self.weights)
        self.index._table.imag[self.terms.buckets] = weights
        return self

    def __exit__(self, *_: object) -> None:
        self.index._table.imag[self.terms.buckets] = 0

    def pool(self, *, n_wanted: int) -> Ids:
        """As `TermIndex.pool`."""
        return self.index.pool(self.terms, self._n_texts_with, self.idf, n_wanted=n_wanted)

    def beside(self, numbers: Ids) -> Rows:
        """The terms of some living texts."""
        return self.index._beside(numbers)

    def cosines(self, rows: Rows) -> Floats:
        """The cosine with each of the texts, in [0, 1]."""
        sums = summed(rows, np.abs(rows.asked) * rows.weights, rows.weights * rows.weights)
        lengths = np.sqrt(sums[1] * self._length)
        cosines: Floats = np.minimum(sums[0] / np.maximum(lengths, np.float32(1e-9)), np.float32(1))
        return cosines


def summed(rows: Rows, *values: Floats | NDArray[np.bool_]) -> Floats:
    """Each kind of value of every term, summed per text: a line a kind; 0 for a text without terms."""
    lines: Floats = np.empty((len(values), len(rows.idf)), dtype=np.float32)
    for line, each in zip(lines, values, strict=True):
        line[:] = each
    out: Floats = np.zeros((len(values), len(rows.starts)), dtype=np.float32)
    if rows.is_filled is None:
        if len(rows.starts):
            np.add.reduceat(lines, rows.starts, axis=1, out=out)
    elif rows.is_filled.any():
        out[:, rows.is_filled] = np.add.reduceat(lines, rows.starts[rows.is_filled], axis=1)
    return out


def largest(rows: Rows, values: Floats) -> Floats:
    """The largest value among the terms of each text; 0 for a text without terms."""
    if rows.is_filled is None and len(rows.starts):
        return np.asarray(np.maximum.reduceat(values, rows.starts), dtype=np.float32)
    out: Floats = np.zeros(len(rows.starts), dtype=np.float32)
    if rows.is_filled is not None and rows.is_filled.any():
        out[rows.is_filled] = np.maximum.reduceat(values, rows.starts[rows.is_filled])
    return out


def closest(numbers: Ids, cosines: Floats, n_wanted: int) -> Ids:
    """The numbers with the largest cosines, largest first, then oldest first."""
    return numbers[np.lexsort((numbers, -cosines))[:n_wanted]]


def _with_room(array: NDArray[T], n_needed: int) -> NDArray[T]:
    """The array, twice as long where it is too short."""
    if n_needed <= len(array):
        return array
    grown = np.zeros((max(n_needed, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
