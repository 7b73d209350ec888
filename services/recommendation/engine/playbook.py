"""The catalogue of remediations: its types, and the loader that says every mistake at once."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
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

Weight = Annotated[float, Meta(gt=0.0, lt=1.0)]
PlayId = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Line = Annotated[str, Meta(min_length=1, max_length=120)]
Prose = Annotated[str, Meta(min_length=1, max_length=2_000)]


class PlaybookError(Exception):
    """The playbook cannot be used; the message lists every mistake, one a line."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("the playbook has mistakes:\n" + "\n".join(f"  - {line}" for line in self.mistakes))


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
        mistakes.extend(f"play {play.id!r}: {line}" for line in _play_mistakes(play))
    return mistakes


def _play_mistakes(play: Play) -> list[str]:
    mistakes: list[str] = []
    if not STEPS_MIN <= len(play.steps) <= STEPS_MAX:
        mistakes.append(f"has {len(play.steps)} steps; {STEPS_MIN} to {STEPS_MAX} are wanted")
    if not (play.matches.terms or play.matches.dimensions or play.matches.recurs):
        mistakes.append("matches nothing: give it terms, dimensions or recurs")
    for phrase in (*play.matches.terms, *play.matches.excludes):
        n_words = len(words(phrase))
        if not 1 <= n_words <= TERM_WORDS_MAX:
            mistakes.append(f"term {phrase!r} has {n_words} words; 1 to {TERM_WORDS_MAX} are wanted")
    same = Counter(words(phrase) for phrase in play.matches.terms)
    mistakes.extend(
        f"term {' '.join(stems)!r} is given {n} times in different forms"
        for stems, n in same.items()
        if n > 1
    )
    for name in (*play.matches.dimensions, *play.matches.lacks):
        if name not in DIMENSIONS:
            mistakes.append(f"dimension {name!r} is unknown; known are {', '.join(sorted(DIMENSIONS))}")
    return mistakes
