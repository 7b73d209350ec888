"""The decision between candidate patterns: a bar for text of machines, a learned linker for text of people."""

from collections.abc import Sequence
from math import log
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .issues import DIMENSIONS, Dimensions
from .memory import Pattern
from .similarity import Floats
from .texts import Near
from .weights import LinkerWeights
from .wording import is_same_but_for_numbers, matched_words, title_of

MACHINE_VERSION: Final = "char-tfidf@2026-11-22"
# Chosen on machine messages, scored on other systems; see docs/reference/grouping.md.
MACHINE_BAR: Final = 0.85
MACHINE_SUGGESTION: Final = 0.65
LEAST_SUGGESTED: Final = 0.3
_SERVICE_AT = DIMENSIONS.index("service")
_COMPONENT_AT = DIMENSIONS.index("component")
_SERVICE = 1 << _SERVICE_AT
_CORROBORATING = _SERVICE | 1 << _COMPONENT_AT | 1 << DIMENSIONS.index("error_type")
_BONUS = 0.01
_OTHER_SERVICE = 0.16
_OF_BEST = 0.7
# Direct evidence of a pair, see `_is_telling`; chosen on labelled reports, see docs/reference/grouping.md.
_TELLING_SHARE = 0.8
_TELLING_BODY = 5
_TELLING_WORDS = 4
_TELLING_COSINE = 0.15
# What a pair without it is worth at most: below the bar, and still in the order of the probabilities.
_UNPROVEN, _UNPROVEN_SLOPE = 0.5, 0.1
# Titles with the same words are at least so alike by characters, so few are read.
_SAME_GRAMS = 0.4

FEATURES: Final = (
    "grams4",
    "words",
    "titles",
    "whole",
    "grams4_times_words",
    "margin_grams4",
    "margin_words",
    "margin_whole",
    "rank",
    "crowd_grams4",
    "crowd_words",
    "crowd_whole",
    "best_words",
    "token_set",
    "contained",
    "rarest",
    "n_shared",
    "unshared",
    "length",
    "length_ratio",
    "length_whole",
    "gap",
    "same_service",
    "other_service",
    "same_component",
    "other_component",
    "shared_name",
    "other_name",
    "shared_number",
    "other_number",
)
"""What the linker knows of an issue and a text, in the order of the weights; docs/reference/grouping.md explains each."""

Matrix = NDArray[np.float64]


class Asked(Struct, frozen=True):
    """What the linker is asked about a person's report: the texts near to it.

    title: the report's, masked. texts: as they were written. owners: whose each is; None = nobody's, or of a pattern
    that may not be joined.
    """

    title: str
    near: Near
    texts: Sequence[str]
    owners: Sequence[Pattern | None]


class Scored(Struct, frozen=True):
    """A candidate pattern with the certainty in [0, 1] that the issue belongs to it."""

    pattern: Pattern
    score: float


def by_machine(
    candidates: Sequence[tuple[Pattern, float]], dimensions: Dimensions
) -> tuple[list[Scored], bool]:
    """Candidates with the cosine of their closest text, most certain first; and whether the first may be joined.

    The same words from two services are seldom one cause, so they need a component or an error type in common as
    well. It is a price, not a gate: a hard gate loses more true links than it avoids false ones.
    """
    ranked = []
    for pattern, cosine in candidates:
        agreement = pattern.agreement(dimensions)
        worth = cosine + _BONUS * (agreement & _CORROBORATING).bit_count()
        if dimensions[_SERVICE_AT] and pattern.common[_SERVICE_AT] and not agreement & _SERVICE:
            worth -= _OTHER_SERVICE
        if worth >= MACHINE_SUGGESTION:
            ranked.append((-worth, -pattern.n_members, pattern.pattern_id, pattern, cosine))
    ranked.sort(key=lambda each: each[:3])
    scored = [Scored(pattern, round(cosine, 4)) for *_, pattern, cosine in ranked]
    return scored, bool(ranked) and -ranked[0][0] >= MACHINE_BAR


def by_learned(
    asked: Asked,
    dimensions: Dimensions,
    weights: LinkerWeights,
    *,
    shift: float,
    least: float,
) -> list[Scored]:
    """Candidate patterns with their probability, most probable first; those that cannot reach `least` left out.

    A pattern's score is 0.7 of its best text's and 0.3 of the mean over all its texts, of which those that are not
    near count as 0: so a pattern does not grow along a chain of texts each of which is near to the next only.
    A pair without direct evidence is worth less than 0.6, whatever the workspace makes of it. shift: see `prior_shift`.
    """
    near, owners = asked.near, asked.owners
    logits = features_of_pairs(near, owners, dimensions) @ weights.coefficients + weights.intercept + shift
    probabilities = 1 / (1 + np.exp(-np.clip(logits, -40, 40)))
    for i in (probabilities > _UNPROVEN / (1 - _UNPROVEN_SLOPE)).nonzero()[0].tolist():
        if owners[i] is not None and not _is_telling(asked, i):
            probabilities[i] = _UNPROVEN + _UNPROVEN_SLOPE * probabilities[i]
    # In a crowd of them, titles that differ in a number stand out from nothing; a person is asked all the same.
    for i in ((probabilities < _UNPROVEN) & (near.grams >= _SAME_GRAMS)).nonzero()[0].tolist():
        if owners[i] is not None and is_same_but_for_numbers(asked.title, title_of(asked.texts[i])):
            probabilities[i] = _UNPROVEN
    # A pattern is worth no more than its best text, so most need no score.
    hopeful = (owners[i] for i in (probabilities >= least).nonzero()[0].tolist())
    patterns = {owner.pattern_id: owner for owner in hopeful if owner is not None}
    best, total = dict.fromkeys(patterns, 0.0), dict.fromkeys(patterns, 0.0)
    for owner, probability in zip(owners, probabilities.tolist(), strict=True) if patterns else ():
        if owner is not None and owner.pattern_id in patterns:
            best[owner.pattern_id] = max(best[owner.pattern_id], probability)
            total[owner.pattern_id] += probability
    scored = [
        Scored(found, round(_OF_BEST * best[each] + (1 - _OF_BEST) * total[each] / len(found.exemplars), 4))
        for each, found in patterns.items()
    ]
    scored.sort(key=lambda each: (-each.score, -each.pattern.n_members, each.pattern.pattern_id))
    return scored


def _is_telling(asked: Asked, i: int) -> bool:
    """Whether the pair itself, not how it stands out among others, says that it is one failure.

    Nearly every word of the shorter title is in the other one (of up to five, every one), or both have a body and
    title and body have enough in common. Among few texts, or other people's, every pair of short titles with one
    rare word stands out.
    """
    near = asked.near
    n_of_body = min(near.n_words_own - near.n_own, near.n_words_theirs[i] - near.n_theirs[i])
    if n_of_body >= _TELLING_BODY and near.n_shared[i] >= _TELLING_WORDS and near.words[i] >= _TELLING_COSINE:
        return True
    n_matched, n_words = matched_words(asked.title, title_of(asked.texts[i]))
    return n_matched >= 2 and n_matched > _TELLING_SHARE * n_words


def prior_shift(n_texts: int, n_repeating: int, weights: LinkerWeights) -> float:
    """What is added to every logit for how often reports repeat in this workspace.

    Of two equally alike reports, the pair is more often one failure where many reports repeat an earlier one. The
    share of the workspace's texts that joined another's pattern, with `prior_texts` texts of the expected share.
    """
    share = (n_repeating + weights.prior_texts * weights.prior_share) / (n_texts + weights.prior_texts)
    share = min(max(share, 1e-4), 1 - 1e-4)
    shift = weights.prior_gain * (_logit(share) - _logit(weights.prior_share))
    return min(weights.most_shift, max(weights.least_shift, shift))


def features_of_pairs(near: Near, owners: Sequence[Pattern | None], dimensions: Dimensions) -> Matrix:
    """FEATURES of the issue with every near text: one row a text."""
    one, n = np.float32(1), len(near.numbers)
    own, their, shared = np.float32(near.own_idf), near.their_idf, near.shared_idf
    standing = _Standing(np.array((near.grams, near.words, near.whole)))
    margins, crowds = standing.margins(), standing.crowds()
    rank, n_shared, unshared, length, length_whole = np.log1p(
        np.array(
            (
                standing.ranks(),
                near.n_shared,
                np.maximum(own + their - 2 * shared, 0),
                np.minimum(np.float32(near.n_own), near.n_theirs),
                np.minimum(np.float32(near.n_words_own), near.n_words_theirs),
            )
        )
    )
    columns = [
        near.grams,
        near.words,
        near.titles,
        near.whole,
        near.grams * near.words,
        *margins,
        rank,
        *crowds,
        standing.ascending[1, -1],
        shared / np.maximum(own + their - shared, one),
        shared / np.maximum(np.minimum(own, their), one),
        near.rarest,
        n_shared,
        unshared,
        length,
        np.abs(np.log((1 + near.n_own) / (1 + near.n_theirs))),
        length_whole,
        np.log(near.n_between),
        *_agreements(owners, dimensions, _SERVICE_AT),
        *_agreements(owners, dimensions, _COMPONENT_AT),
        near.names > 0,
        near.names < 0,
        near.figures > 0,
        near.figures < 0,
    ]
    features = np.empty((len(columns), n), dtype=np.float64)
    for line, column in zip(features, columns, strict=True):
        line[:] = column
    return features.T


def _agreements(
    owners: Sequence[Pattern | None], dimensions: Dimensions, at: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Share of the pattern's members that have the issue's value, and whether none has though some have another."""
    value = dimensions[at]
    same, other = [0.0] * len(owners), [0.0] * len(owners)
    if value is not None:
        for i, owner in enumerate(owners):
            if owner is not None and (counts := owner.values[at]):
                n = counts.get(value)
                if n is None:
                    other[i] = 1.0
                else:
                    same[i] = n / sum(counts.values())
    return same, other


class _Standing:
    """How the values of some measures, a line each, stand among each other."""

    def __init__(self, values: Floats) -> None:
        self._values = values
        self.ascending = np.sort(values, axis=1)

    def margins(self) -> Floats:
        """How far each value is above the best of the others."""
        values = self._values
        if values.shape[1] < 2:
            return np.full_like(values, 0.5)
        best = self.ascending[:, -1:]
        margins: Floats = values - best
        lines = np.arange(len(values))
        margins[lines, values.argmax(axis=1)] = self.ascending[:, -1] - self.ascending[:, -2]
        return margins

    def ranks(self) -> Floats:
        """How many of the others are larger, by the measure that has the fewest of them."""
        values = self._values
        n_larger = np.count_nonzero(values[:, None, :] > values[:, :, None], axis=2)
        fewest: Floats = n_larger.min(axis=0).astype(np.float32)
        return fewest

    def crowds(self) -> Floats:
        """The mean of the second to twelfth largest value: in a crowd of alike texts, being alike says little."""
        others = self.ascending[:, -12:-1]
        if others.shape[1] == 0:
            return np.zeros(len(others), dtype=np.float32)
        means: Floats = others.mean(axis=1, dtype=np.float32)
        return means


def _logit(share: float) -> float:
    return log(share / (1 - share))
