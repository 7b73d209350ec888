"""What is compared of a person's report: its masked title, the content words of its body, its names and numbers.

It is written as one text of three lines, which is what the log keeps of the issue for later comparisons: the masked
title, then 18-bit hashes of the words, names and numbers, then the embedding. The words of a body are not written there, but
the hashes have no secret: whoever has a list of words can guess many of them, also after the issue is purged.
"""

import re
from base64 import b64decode, b64encode
from functools import lru_cache
from math import ceil
from typing import Final
from zlib import crc32

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .embedding import N_DIMENSIONS, embedding_of, words_of
from .similarity import WORD_BITS, Floats, Terms, fours_of

TITLE: Final = 1
IDENTIFIER: Final = 2
NUMBER: Final = 4
N_BODY_CHARACTERS: Final = 600
_MAX_BODY_WORDS = 64
_MAX_NAMES = 16
_MAX_WORD = 40
# Bits for how often a word occurs in a text.
_COUNTED = 16
_RUN = re.compile(r"[^\s,;()\[\]{}|<>\"'`]+")
_IDENTIFIER = re.compile(r"[a-z][A-Z]|[a-z0-9][._/#$:\\]+[A-Za-z]|_|[A-Za-z]-?\d")
_DIGIT = re.compile(r"\d")
# A number of four digits and more is of one thing among many of its kind; "500" or "2.17" says what happened.
_ID = re.compile(r"\d{4,}")
_LEAST_STEM = 4
_LEAST_SAME = 2
_LEAST_STEM_SHARE = 0.6
_BUCKETS = (1 << WORD_BITS) - 1
_MARKS: Final = {"@": IDENTIFIER, "#": NUMBER}
STOP_WORDS: Final = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "to",
        "of",
        "in",
        "on",
        "for",
        "and",
        "or",
        "not",
        "with",
        "it",
        "this",
        "that",
        "i",
        "my",
        "when",
        "if",
        "at",
        "by",
        "from",
        "as",
        "have",
        "has",
        "do",
        "does",
        "did",
        "can",
        "cannot",
        "will",
        "would",
        "should",
        "which",
        "but",
        "so",
        "no",
        "you",
        "we",
        "after",
        "before",
        "then",
        "there",
        "what",
        "how",
        "all",
        "any",
        "some",
        "only",
        "just",
        "also",
        "into",
        "out",
        "up",
    ]
)


class Wording(Struct, frozen=True):
    """A report as the indexes take it.

    title: what character n-grams are taken of. terms: words, names and numbers, marked with TITLE, IDENTIFIER and
    NUMBER. vectors: embeddings of the title and of title and body, a line each, of integers in [-127, 127]. lengths:
    of both, at least 1.
    """

    title: str
    grams: Terms
    terms: Terms
    vectors: Floats
    lengths: Floats


def written(title: str, masked_title: str, body: str) -> str:
    """The three lines for a title as it came, the same masked, and the start of the body."""
    words = dict.fromkeys(
        word[:_MAX_WORD] for word in words_of(body[:N_BODY_CHARACTERS]) if word not in STOP_WORDS
    )
    kept = list(words)[:_MAX_BODY_WORDS]
    # Sorted, so that not even the order of the words is kept.
    hashed = sorted(_hashed(word) for word in kept) + [name[0] + _hashed(name) for name in _names(title)]
    embedding = embedding_of(words_of(masked_title) + kept)
    return "\n".join([masked_title, " ".join(hashed), b64encode(embedding.tobytes()).decode()])


def is_written(text: str) -> bool:
    """Whether a text is of a person's report rather than of a machine."""
    return "\n" in text


def title_of(text: str) -> str:
    """The masked title of a text of either kind."""
    return text.partition("\n")[0]


@lru_cache(maxsize=128)
def wording_of(text: str) -> Wording:
    """What `written` wrote, ready to be compared; of a text of an earlier format the title alone."""
    title, hashed, embedded = _parts(text)
    in_title = words_of(title)
    # Of each bucket how often it occurs, and above that its marks.
    counted: dict[int, int] = {}
    for word in in_title:
        if word not in STOP_WORDS:
            bucket = _bucket(word)
            counted[bucket] = counted.get(bucket, 0) + 1 | TITLE << _COUNTED
    for each in hashed:
        mark = _MARKS.get(each[0], 0)
        bucket = int(each[1:] if mark else each, 16)
        counted[bucket] = counted.get(bucket, 0) + 1 | mark << _COUNTED
    entries = np.fromiter(counted.values(), dtype=np.int64, count=len(counted))
    buckets = np.fromiter(counted, dtype=np.int64, count=len(counted))
    order = buckets.argsort()
    entries = entries[order]
    terms = Terms(
        buckets[order],
        np.minimum(entries & (1 << _COUNTED) - 1, 255).astype(np.uint8),
        (entries >> _COUNTED).astype(np.uint8),
    )
    vectors: Floats = np.empty((2, N_DIMENSIONS), dtype=np.float32)
    vectors[0] = embedding_of(in_title)
    vectors[1] = vectors[0] if embedded is None else embedded
    # Sums of so few squares of integers are exact, in whatever order a machine adds.
    lengths = np.sqrt(np.maximum(np.add.reduce(vectors * vectors, axis=1), np.float32(1)))
    return Wording(title, fours_of(title), terms, vectors, lengths)


def _parts(text: str) -> tuple[str, list[str], NDArray[np.int8] | None]:
    """Masked title, hashed terms and embedding; the log keeps what an earlier build wrote, which had words for hashes."""
    title, *rest = text.split("\n")
    try:
        hashed, embedding = rest
        embedded = np.frombuffer(b64decode(embedding, validate=True), dtype=np.int8)
    except ValueError:
        return title, [], None
    return (title, hashed.split(), embedded) if len(embedded) == N_DIMENSIONS else (title, [], None)


def matched_words(title: str, other: str) -> tuple[int, int]:
    """How many content words of the one of two masked titles that has fewer are in the other, and how many it has.

    Inflected words match: those that begin alike, with at least four characters and 60 % of the longer one.
    """
    short, long = sorted((_content_of(title), _content_of(other)), key=len)
    return sum(any(_is_inflected(word, each) for each in long) for word in short), len(short)


def is_same_but_for_numbers(title: str, other: str) -> bool:
    """Whether two masked titles have the same content words, at least two."""
    words = set(_content_of(title))
    return len(words) >= _LEAST_SAME and words == set(_content_of(other))


def _content_of(title: str) -> list[str]:
    return [
        word for word in dict.fromkeys(words_of(title)) if word not in STOP_WORDS and not _ID.fullmatch(word)
    ]


def _is_inflected(word: str, other: str) -> bool:
    longest = max(len(word), len(other))
    n_needed = max(_LEAST_STEM, ceil(_LEAST_STEM_SHARE * longest))
    return word == other or (len(word) >= n_needed and other.startswith(word[:n_needed]))


def _bucket(word: str) -> int:
    return crc32(word.encode("utf-8", "replace")) & _BUCKETS


def _hashed(word: str) -> str:
    return f"{_bucket(word):05x}"


def _names(title: str) -> list[str]:
    """Names of things and numbers in a title: the first as "@name", the second as "#number"."""
    names: dict[str, None] = {}
    for run in _RUN.findall(title):
        core = run.strip(".:!?*-#/")[:_MAX_WORD]
        if not core:
            continue
        if _DIGIT.search(core):
            names[f"#{core.lower()}"] = None
        if _IDENTIFIER.search(core):
            names[f"@{core.lower()}"] = None
    return list(names)[:_MAX_NAMES]
