"""The catalogue of remediations: its types, and the loader that says every mistake at once."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Annotated

import msgspec
from contracts import recommendation
from msgspec import Meta, Struct

from services.recommendation.engine.words import words

DIMENSIONS = frozenset({"service", "component", "error_type", "environment", "team", "source", "hour_of_day"})
STEPS_MIN = 3
STEPS_MAX = 6
TERM_WORDS_MAX = 4
MARKS_MAX = 40
"""Terms and values of dimensions of a play, and as many excludes: matching compares the marks with each other."""

Weight = Annotated[float, Meta(gt=0.0, lt=1.0)]
PlayId = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$(?!\n)", max_length=60)]
Line = Annotated[str, Meta(min_length=1, max_length=120)]
Prose = Annotated[str, Meta(min_length=1, max_length=2_000)]


class PlaybookError(Exception):
    """The playbook cannot be used; the message lists every mistake, one a line."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("the playbook has mistakes:\n" + "\n".join(f"  - {line}" for line in self.mistakes))


class Mistake(Struct, frozen=True):
    """What is wrong with a play, and where in it: `matches.terms`."""

    path: str
    fault: str


class PlayStep(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to do."""

    title: Line
    description: Prose


class Match(Struct, frozen=True, forbid_unknown_fields=True):
    """What in a pattern speaks for a play.

    A weight is the chance that a pattern with this mark, and no other, has the cause that the play removes.
    terms: phrases of 1 to 4 words, looked for in the name, the exemplar and the fingerprint.
    dimensions: dimension name to value to weight; the value "*" is any value.
    lacks: dimension name to weight; speaks when the members share no value of it.
    recurs: weight of the mere fact that the pattern keeps coming back.
    excludes: phrases that rule the play out.
    """

    terms: dict[str, Weight] = {}
    dimensions: dict[str, dict[str, Weight]] = {}
    lacks: dict[str, Weight] = {}
    recurs: Weight | None = None
    excludes: tuple[str, ...] = ()


class Play(Struct, frozen=True, forbid_unknown_fields=True):
    """One remediation."""

    id: PlayId
    title: Line
    type: recommendation.RecommendationType
    effort: recommendation.Effort
    holds: Weight
    """Chance that the fix holds where the play fits, before this workspace has shown otherwise."""
    matches: Match
    description: Prose
    steps: tuple[PlayStep, ...]
    verification: Prose


class PlaybookFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the playbook."""

    version: date
    plays: tuple[Play, ...] = ()
    disable: tuple[str, ...] = ()
    """Ids of plays of earlier folders that are not wanted."""


class Playbook(Struct, frozen=True):
    """All plays in force, by id, and the version that recommendations record."""

    version: str
    plays: tuple[Play, ...]

    def extended(self, own: Iterable[Play]) -> "Playbook":
        """With plays of a workspace's own, which replace those of the same id; the digest is of all in force."""
        plays = {play.id: play for play in (*self.plays, *own)}
        in_force = tuple(plays[play_id] for play_id in sorted(plays))
        return Playbook(version=f"{self.version.partition('+')[0]}+{_digest(in_force)}", plays=in_force)


def load(*folders: Mapping[str, bytes]) -> Playbook:
    """The playbook made of folders of files (name to content); a later folder replaces plays of the same id.

    The version is the latest date of any file and a digest of all plays in force, so that an edited copy
    is never mistaken for the original. Raises PlaybookError with every mistake of every file.
    """
    mistakes: list[str] = []
    plays: dict[str, Play] = {}
    dates: list[date] = []
    for folder in folders:
        added: Counter[str] = Counter()
        for name in sorted(folder):
            try:
                file = msgspec.yaml.decode(folder[name], type=PlaybookFile)
            except msgspec.DecodeError as error:
                mistakes.append(f"{name}: {error}")
                continue
            dates.append(file.version)
            mistakes.extend(f"{name}: {line}" for line in _file_mistakes(file, plays, added))
            plays |= {play.id: play for play in file.plays}
            for unwanted in file.disable:
                plays.pop(unwanted, None)
    if not plays and not mistakes:
        mistakes.append("there is no play in it")
    if mistakes:
        raise PlaybookError(mistakes)
    in_force = tuple(plays[play_id] for play_id in sorted(plays))
    return Playbook(version=f"{max(dates)}+{_digest(in_force)}", plays=in_force)


def _digest(plays: tuple[Play, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(plays, order="sorted")).hexdigest()[:8]


def _file_mistakes(file: PlaybookFile, earlier: Mapping[str, Play], added: Counter[str]) -> list[str]:
    mistakes = [
        f"disable: there is no play {unwanted!r} to disable"
        for unwanted in file.disable
        if unwanted not in earlier
    ]
    for play in file.plays:
        added[play.id] += 1
        if added[play.id] > 1:
            mistakes.append(f"play {play.id!r}: the id is used twice in this folder")
        mistakes.extend(f"play {play.id!r}: {mistake.fault}" for mistake in mistakes_of(play))
    return mistakes


def mistakes_of(play: Play) -> list[Mistake]:
    """What the types cannot say of a play: every rule that it breaks; none of a good one."""
    mistakes: list[Mistake] = []
    matches = play.matches
    if not STEPS_MIN <= len(play.steps) <= STEPS_MAX:
        fault = f"has {len(play.steps)} steps; {STEPS_MIN} to {STEPS_MAX} are wanted"
        mistakes.append(Mistake("steps", fault))
    if not (matches.terms or matches.dimensions or matches.recurs):
        mistakes.append(Mistake("matches", "matches nothing: give it terms, dimensions or recurs"))
    n_values = sum(map(len, matches.dimensions.values()))
    for path, n in (("matches", len(matches.terms) + n_values), ("matches.excludes", len(matches.excludes))):
        if n > MARKS_MAX:
            mistakes.append(Mistake(path, f"has {n} terms and values; at most {MARKS_MAX} are taken"))
    for path, phrases in (("matches.terms", matches.terms), ("matches.excludes", matches.excludes)):
        for phrase in phrases:
            n_words = len(words(phrase))
            if not 1 <= n_words <= TERM_WORDS_MAX:
                fault = f"term {phrase!r} has {n_words} words; 1 to {TERM_WORDS_MAX} are wanted"
                mistakes.append(Mistake(path, fault))
    for stems, n in Counter(words(phrase) for phrase in matches.terms).items():
        if n > 1:
            fault = f"term {' '.join(stems)!r} is given {n} times in different forms"
            mistakes.append(Mistake("matches.terms", fault))
    for path, names in (("matches.dimensions", matches.dimensions), ("matches.lacks", matches.lacks)):
        for name in names:
            if name not in DIMENSIONS:
                fault = f"dimension {name!r} is unknown; known are {', '.join(sorted(DIMENSIONS))}"
                mistakes.append(Mistake(path, fault))
    # No database row can hold it, so a recommendation with it would stop every reader.
    mistakes += [Mistake(path, "holds the character U+0000") for path, text in _texts(play) if "\x00" in text]
    return mistakes


def _texts(play: Play) -> Iterator[tuple[str, str]]:
    """Every text of a play with its path."""
    yield from (("title", play.title), ("description", play.description), ("verification", play.verification))
    for index, step in enumerate(play.steps):
        yield f"steps[{index}].title", step.title
        yield f"steps[{index}].description", step.description
    yield from (("matches.terms", phrase) for phrase in play.matches.terms)
    yield from (("matches.excludes", phrase) for phrase in play.matches.excludes)
    for weights in play.matches.dimensions.values():
        yield from (("matches.dimensions", value) for value in weights)
