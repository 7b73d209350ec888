"""The decision between candidate patterns; a learned linker has the same face and takes this one's place."""

from collections.abc import Sequence
from typing import Final, Protocol

from contracts.generated.pattern import LinkMethod
from msgspec import Struct

from .issues import DIMENSIONS, Features, Issue
from .memory import Pattern

# Chosen on machine messages and on one set of bug reports, scored on others; see the README.
MACHINE_BAR: Final = 0.85
HUMAN_BAR: Final = 0.75
_SERVICE = 1 << DIMENSIONS.index("service")
_CORROBORATING = _SERVICE | 1 << DIMENSIONS.index("component") | 1 << DIMENSIONS.index("error_type")
_BONUS = 0.01
_OTHER_SERVICE_MACHINE = 0.16
_OTHER_SERVICE_HUMAN = 0.08


class Candidate(Struct, frozen=True):
    """A pattern that an issue may belong to.

    cosine: of its closest exemplar. agreement: bit mask of the dimensions that agree.
    """

    pattern: Pattern
    cosine: float
    agreement: int


class Choice(Struct, frozen=True):
    """A linker's decision: the pattern, and its certainty in [0, 1]."""

    candidate: Candidate
    score: float
    method: LinkMethod
    method_version: str


class Linker(Protocol):
    """Decides which candidate an issue joins, if any. Pure."""

    def least_cosine(self, features: Features) -> float:
        """Candidates less alike than this are never chosen, so they need not be looked for."""
        ...

    def choose(self, issue: Issue, features: Features, candidates: Sequence[Candidate]) -> Choice | None:
        """The pattern to join, or None to begin a new one; candidates come closest first."""
        ...


class CosineLinker:
    """Joins the closest pattern above a bar; agreeing dimensions help a little, another service hurts.

    The same words from two services are seldom one cause, so between machines they need a component or an error
    type in common as well. It is a price, not a gate: a hard gate loses more true links than it avoids false ones.
    """

    version: Final = "char-tfidf@2026-11-22"

    def least_cosine(self, features: Features) -> float:
        """As `Linker.least_cosine`: what every bonus together cannot lift to the bar."""
        return _bar(features) - _CORROBORATING.bit_count() * _BONUS

    def choose(self, issue: Issue, features: Features, candidates: Sequence[Candidate]) -> Choice | None:
        """As `Linker.choose`."""
        best: tuple[float, int, str] | None = None
        chosen: Candidate | None = None
        for candidate in candidates:
            worth = self._worth(issue, features, candidate)
            rank = (-worth, -candidate.pattern.n_members, candidate.pattern.pattern_id)
            if best is None or rank < best:
                best, chosen = rank, candidate
        if best is None or chosen is None or -best[0] < _bar(features):
            return None
        return Choice(chosen, round(chosen.cosine, 4), LinkMethod.TEXT_SIMILARITY, self.version)

    def _worth(self, issue: Issue, features: Features, candidate: Candidate) -> float:
        worth = candidate.cosine + _BONUS * (candidate.agreement & _CORROBORATING).bit_count()
        common = candidate.pattern.common[0]
        if issue.service is not None and common is not None and not candidate.agreement & _SERVICE:
            worth -= _OTHER_SERVICE_MACHINE if features.is_machine else _OTHER_SERVICE_HUMAN
        return worth


def _bar(features: Features) -> float:
    return MACHINE_BAR if features.is_machine else HUMAN_BAR
