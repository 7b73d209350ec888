"""Turns titles, log lines and class names into comparable words."""

import re

_MASK = re.compile(r"<[^<>\s]{0,24}>")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[a-z0-9]+")
# Masked text is in lower case, so a class name's last word cannot be seen by its capital any more.
_CLASS_ENDING = re.compile(r"(?<=[a-z]{4})(exception|error)\b")
_SHORT = 3
_KEEP_S = ("ss", "us", "is")
_ES = ("ses", "xes", "zes", "ches", "shes")
_DOUBLE_KEPT = frozenset("lsz")


def words(text: str) -> tuple[str, ...]:
    """The stems of a text's words in order; class names and identifiers are taken apart, masks dropped.

    `OutOfMemoryError at pool-<num>` gives ("out", "of", "memory", "error", "at", "pool").
    """
    parted = _CAMEL.sub(" ", _MASK.sub(" ", text)).lower()
    return tuple(stem(word) for word in _WORD.findall(_CLASS_ENDING.sub(r" \1", parted)))


def glued(stems: tuple[str, ...]) -> tuple[str, ...]:
    """The same words as one, as in a class name that has lost its capitals: ("nullpointer",)."""
    return ("".join(stems),)


def stem(word: str) -> str:
    """A lower-case word without plural, -ed and -ing; the same for every form of most English words.

    Only has to treat both sides of a comparison alike, so the stem need not be a word.
    """
    if len(word) <= _SHORT:
        return word
    return _without_e(_without_verb_ending(_without_plural(word)))


def _without_plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(_ES):
        return word[:-2]
    if word.endswith("s") and not word.endswith(_KEEP_S):
        return word[:-1]
    return word


def _without_verb_ending(word: str) -> str:
    if word.endswith("ied"):
        return word[:-3] + "y"
    if word.endswith("ed") and not word.endswith("eed"):
        base = word[:-2]
    elif word.endswith("ing"):
        base = word[:-3]
    else:
        return word
    # "string" and "timed" would lose their sense.
    if len(base) <= _SHORT:
        return word
    if base[-1] == base[-2] and base[-1] not in _DOUBLE_KEPT:
        return base[:-1]
    return base


def _without_e(word: str) -> str:
    return word[:-1] if len(word) > _SHORT + 1 and word.endswith("e") else word
