"""Which plays fit a pattern, how well, and which facts say so."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

from contracts import pattern, recommendation
from msgspec import Struct

from services.recommendation.engine.playbook import TERM_WORDS_MAX, Play, Playbook
from services.recommendation.engine.words import glued, words

Stems = tuple[str, ...]

FIT_FLOOR = 0.5
"""Below this fit nothing is said: a wrong remediation costs more trust than none."""
RELATIVE_FLOOR = 0.6
"""A play that fits much worse than the best one is left out."""
SAME_TYPE_DISCOUNT = 0.85
"""Factor on the fit, for choosing only, per play of the same type that is already chosen."""
PLAYS_MAX = 3
REMEMBERED_MAX = 4_096
"""Patterns whose fits are kept in memory."""
EVIDENCE_MAX = 5
RECURRING_ISSUES = 5
RECURRING_DAYS = 3
"""A pattern with so many issues over so many days keeps coming back; fewer may be one failure."""

# How much a word says about the cause, by where it stands: a service is often named after what it does.
_PLACE_NAME = 1.0
_PLACE_EXEMPLAR = 0.9
_PLACE_DIMENSIONS: Mapping[str, float] = {"error_type": 1.0, "component": 0.6, "service": 0.4}


class Traits(Struct, frozen=True, kw_only=True):
    """What is known of a pattern, as far as matching looks at it."""

    name: str
    exemplar: str = ""
    fingerprint: tuple[pattern.FingerprintDimension, ...] = ()
    is_recurring: bool = False


class Fit(Struct, frozen=True, kw_only=True):
    """A play that fits a pattern."""

    play: Play
    fit: float
    """Chance in (0, 1) that the pattern has the cause that the play removes, as far as its marks tell."""
    evidence: tuple[str, ...]
    """Why, fact by fact, the strongest first."""


class _Place(Struct, frozen=True):
    phrases: frozenset[Stems]
    factor: float
    says: str


class _Mark(Struct, frozen=True):
    strength: float
    stems: Stems
    sentence: str


class Matcher:
    """Finds the plays of one playbook for a pattern; the cost is linear in the words of the pattern."""

    def __init__(self, playbook: Playbook, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self.playbook = playbook
        self._remembered_max = remembered_max
        self._plays: dict[str, Play] = {play.id: play for play in playbook.plays}
        self._plays_beyond_words = [
            play
            for play in playbook.plays
            if play.matches.dimensions or play.matches.lacks or play.matches.recurs
        ]
        self._terms: dict[Stems, list[tuple[str, str, float, Stems]]] = defaultdict(list)
        self._excludes: dict[Stems, list[str]] = defaultdict(list)
        self._remembered: dict[Traits, Mapping[str, Fit]] = {}
        for play in playbook.plays:
            for term, weight in play.matches.terms.items():
                stems = words(term)
                for form in {stems, glued(stems)}:
                    self._terms[form].append((play.id, term, weight, stems))
            for term in play.matches.excludes:
                self._excludes[words(term)].append(play.id)

    def choose(self, traits: Traits) -> tuple[Fit, ...]:
        """The plays to recommend, best first: at most 3, diverse in type, none below the floor."""
        return choose(self.fits(traits))

    def fits(self, traits: Traits) -> tuple[Fit, ...]:
        """Every play at or above the floor, the best first; equal fits in the order of their ids."""
        fits = self._fits(traits).values()
        return tuple(sorted((fit for fit in fits if fit.fit >= FIT_FLOOR), key=_best_first))

    def best(self, traits: Traits) -> Fit | None:
        """The play that fits best, however little; None when nothing speaks for any."""
        return min(self._fits(traits).values(), key=_best_first, default=None)

    def fit_of(self, play_id: str, traits: Traits) -> Fit | None:
        """How well one play fits, 0 when nothing speaks for it; None when the playbook does not have it."""
        play = self._plays.get(play_id)
        return None if play is None else self._fits(traits).get(play_id) or _fit(play, ())

    def _fits(self, traits: Traits) -> Mapping[str, Fit]:
        """Every play for which anything speaks; what a pattern is like seldom changes, so it is remembered."""
        known = self._remembered.get(traits)
        if known is None:
            if len(self._remembered) >= self._remembered_max:
                self._remembered.clear()
            known = {
                play_id: _fit(self._plays[play_id], marks) for play_id, marks in self._marks(traits).items()
            }
            self._remembered[traits] = known
        return known

    def _marks(self, traits: Traits) -> dict[str, list[_Mark]]:
        found: dict[str, list[_Mark]] = defaultdict(list)
        ruled_out: set[str] = set()
        for place in _places(traits):
            for phrase in place.phrases:
                ruled_out.update(self._excludes.get(phrase, ()))
                for play_id, term, weight, stems in self._terms.get(phrase, ()):
                    sentence = f'{place.says} "{term}".'
                    found[play_id].append(_Mark(weight * place.factor, stems, sentence))
        for play in self._plays_beyond_words:
            marks = [*_dimension_marks(play, traits.fingerprint), *_recurrence_marks(play, traits)]
            if marks:
                found[play.id].extend(marks)
        return {play_id: marks for play_id, marks in found.items() if play_id not in ruled_out}


def choose(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """At most 3 of the fits, greedily, each further one of a type counting less; in order of choice."""
    remaining = [fit for fit in fits if fit.fit >= RELATIVE_FLOOR * max(fit.fit for fit in fits)]
    chosen: list[Fit] = []
    while remaining and len(chosen) < PLAYS_MAX:
        types = [fit.play.type for fit in chosen]
        best = min(remaining, key=lambda fit: (-_discounted(fit, types), fit.play.id))
        chosen.append(best)
        remaining.remove(best)
    return tuple(chosen)


def _discounted(fit: Fit, chosen: Sequence[recommendation.RecommendationType]) -> float:
    return fit.fit * SAME_TYPE_DISCOUNT ** chosen.count(fit.play.type)


def _best_first(fit: Fit) -> tuple[float, str]:
    return -fit.fit, fit.play.id


def _fit(play: Play, marks: Iterable[_Mark]) -> Fit:
    """Marks are taken as independent: the chance that at least one of them is right."""
    kept = _independent(marks)
    return Fit(
        play=play,
        fit=round(1.0 - prod(1.0 - mark.strength for mark in kept), 4),
        evidence=tuple(mark.sentence for mark in kept[:EVIDENCE_MAX]),
    )


def _independent(marks: Iterable[_Mark]) -> list[_Mark]:
    """The strongest first, without a phrase that is part of a stronger or longer one already there."""
    kept: list[_Mark] = []
    parts: set[Stems] = set()
    for mark in sorted(marks, key=lambda mark: (-len(mark.stems), -mark.strength, mark.sentence)):
        if mark.stems not in parts:
            kept.append(mark)
            parts |= _runs(mark.stems)
    return sorted(kept, key=lambda mark: (-mark.strength, mark.sentence))


def _places(traits: Traits) -> Iterator[_Place]:
    yield _Place(_phrases(traits.name), _PLACE_NAME, "The name contains")
    if traits.exemplar:
        yield _Place(_phrases(traits.exemplar), _PLACE_EXEMPLAR, "A typical issue says")
    for dimension in traits.fingerprint:
        factor = _PLACE_DIMENSIONS.get(dimension.name)
        if factor is not None:
            says = f'{dimension.share:.0%} of its issues have {dimension.name} "{dimension.value}", which contains'
            yield _Place(_phrases(dimension.value), factor * dimension.share, says)


def _phrases(text: str) -> frozenset[Stems]:
    return _runs(words(text))


def _runs(stems: Stems) -> frozenset[Stems]:
    """Every run of up to four words of a text; none of no words."""
    return frozenset(
        stems[at : at + length]
        for length in range(1, TERM_WORDS_MAX + 1)
        for at in range(len(stems) - length + 1)
    )


def _dimension_marks(play: Play, fingerprint: Sequence[pattern.FingerprintDimension]) -> Iterator[_Mark]:
    shared = {dimension.name: dimension for dimension in fingerprint}
    for name, weights in play.matches.dimensions.items():
        dimension = shared.get(name)
        if dimension is None:
            continue
        by_value = {value.lower(): weight for value, weight in weights.items()}
        weight = by_value.get(dimension.value.lower(), by_value.get("*"))
        if weight is not None:
            sentence = f'{dimension.share:.0%} of its issues have {name} "{dimension.value}".'
            yield _Mark(weight * dimension.share, (), sentence)
    for name, weight in play.matches.lacks.items():
        if name not in shared:
            yield _Mark(weight, (), f"Its issues share no {name}.")


def _recurrence_marks(play: Play, traits: Traits) -> Iterator[_Mark]:
    if play.matches.recurs is not None and traits.is_recurring:
        sentence = (
            f"It keeps coming back: at least {RECURRING_ISSUES} issues over at least {RECURRING_DAYS} days."
        )
        yield _Mark(play.matches.recurs, (), sentence)
