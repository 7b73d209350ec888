"""A workspace's own linker: fitted from what its people decided, and what it would move before it is switched on.

Both read the workspace's past once more with the very engine that groups live: the texts in the order of their arrival,
each asked about before it is entered, every earlier one where it is now. docs/reference/grouping.md explains every number
here. `python -m services.pattern.engine.refitting` reads `Material` and writes `Finding`, as JSON: the leader runs it in a
process of its own, for it takes seconds, and grouping must not wait.
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
import numpy as np
from contracts import derived_id
from contracts.generated.pattern import ConstraintKind
from msgspec import Struct
from numpy.typing import NDArray

from services.pattern.engine.fitting import Fit, fit_logistic
from services.pattern.engine.grouping import MAX_EXEMPLARS, Decision, Grouper, Join, New
from services.pattern.engine.linking import FEATURES, features_of_pairs
from services.pattern.engine.memory import ConstraintRow, Member, PatternRow, Settings, Snapshot
from services.pattern.engine.weights import LinkerArtefact, shipped

MIN_DECISIONS: Final = 30
MIN_OF_A_KIND: Final = 5
PULL: Final = 30.0
"""Draws every weight and the intercept towards the shipped ones, as strongly as 30 decisions."""
MAX_TEXTS: Final = 10_000
MAX_ASKED: Final = 2_000
MAX_MOVES: Final = 500
_N_FOLDS: Final = 5
_DIGITS: Final = 6
_NICENESS: Final = 5

Floats: TypeAlias = NDArray[np.float64]
Ruling: TypeAlias = tuple[str, str]
"""A grouping key and the pattern that a person decided about."""


class Arrival(Struct, frozen=True):
    """A person's report. member: where it is now. text: what is compared of it."""

    member: Member
    text: str


class Material(Struct, frozen=True, kw_only=True):
    """What there is to read of a workspace.

    merged: every pattern that was merged → the one that remains. arrivals: in the order of the log.
    active: the linker in use. candidate: the one to compare with it; None: the one to be fitted.
    version: what that is to be called.
    """

    workspace_id: str
    confidence_threshold: float
    merged: Mapping[str, str]
    constraints: tuple[ConstraintRow, ...]
    arrivals: tuple[Arrival, ...]
    active: LinkerArtefact
    candidate: LinkerArtefact | None
    version: str


class Fitted(Struct, frozen=True, kw_only=True):
    """A linker made from decisions.

    n_decisions: keys and patterns decided about, n_joining of them to belong together. shipped_loss, loss: mean log loss
    per decision of the shipped linker and of linkers fitted without that decision, in nats.
    """

    linker: LinkerArtefact
    n_decisions: int
    n_joining: int
    shipped_loss: float
    loss: float

    @property
    def is_better(self) -> bool:
        """Whether it is better than the shipped one on decisions that it has not seen."""
        return self.loss < self.shipped_loss


class Move(Struct, frozen=True, kw_only=True):
    """An issue that the candidate would have put elsewhere.

    pattern_id: where the issue is now. from_pattern_id, to_pattern_id: the choice of the active linker and of the
    candidate; None = a pattern of its own. from_score: the active one's certainty of its choice or, where it chose
    none, of the candidate's; to_score: the other way round. None = below what is suggested.
    """

    issue_id: str
    pattern_id: str | None
    from_pattern_id: str | None
    to_pattern_id: str | None
    from_score: float | None
    to_score: float | None


class Comparison(Struct, frozen=True, kw_only=True):
    """What a candidate would have moved.

    n_texts: that were read. n_asked: the latest of them, which both linkers were asked about. n_decided: of these, where
    a person's decision or a known key left nothing to ask. n_moved: decided differently: n_joining join a pattern
    instead of beginning one, n_leaving begin one instead, the rest join another. moves: the latest, at most 500.
    """

    n_texts: int
    n_asked: int
    n_decided: int
    n_moved: int
    n_joining: int
    n_leaving: int
    moves: tuple[Move, ...]


class Finding(Struct, frozen=True):
    """What became of the material.

    fitted: None = a candidate was given, or there are too few decisions. comparison: None = there is no better linker.
    """

    fitted: Fitted | None
    comparison: Comparison | None


class Examples(Struct, frozen=True):
    """Pairs of texts whose patterns people decided about, one row each.

    x: FEATURES. y: 1 = they belong together. shift: what is added to the logit anyway. decision, about: numbers of the
    decision and of the pattern that it is about.
    """

    x: Floats
    y: Floats
    shift: Floats
    decision: NDArray[np.int64]
    about: NDArray[np.int64]


def find(material: Material) -> Finding:
    """Fit, unless there is a candidate, and compare; the same material gives the same bytes."""
    candidate, fitted = material.candidate, None
    if candidate is None:
        fitted = fit(examples_of(material), version=material.version)
        candidate = fitted.linker if fitted is not None and fitted.is_better else None
    return Finding(fitted, None if candidate is None else compare(material, candidate))


def examples_of(material: Material) -> Examples:
    """What the linker would have been asked about the texts that people decided about."""
    rulings = {(row.grouping_key, row.pattern_id): row.kind for row in material.constraints}
    keys, patterns = {key for key, _ in rulings}, {pattern_id for _, pattern_id in rulings}
    numbers = {ruling: number for number, ruling in enumerate(sorted(rulings))}
    numbers_of_patterns = {pattern_id: number for number, pattern_id in enumerate(sorted(patterns))}
    grouper = Grouper(material.workspace_id)
    rows: list[Floats] = []
    found: list[Ruling] = []
    shifts: list[float] = []
    for arrival in material.arrivals:
        member = arrival.member
        is_decided = member.grouping_key in keys or member.pattern_id in patterns
        near = grouper.near(arrival.text) if is_decided and not grouper.holds(member.grouping_key) else None
        if near is not None:
            owners = [grouper.patterns.get(each.pattern_id or "") for each in near[1]]
            features = features_of_pairs(near[0], owners, member.dimensions)
            for i, each in enumerate(near[1]):
                ruling = _ruling(rulings, member, key=each.grouping_key, pattern_id=each.pattern_id)
                if ruling is not None:
                    rows.append(features[i])
                    found.append(ruling)
                    shifts.append(grouper.shift)
        _enter(grouper, arrival)
    return Examples(
        np.array(rows).reshape(-1, len(FEATURES)),
        np.array([rulings[each] is ConstraintKind.MUST_LINK for each in found], dtype=np.float64),
        np.array(shifts),
        np.array([numbers[each] for each in found], dtype=np.int64),
        np.array([numbers_of_patterns[pattern_id] for _, pattern_id in found], dtype=np.int64),
    )


def fit(examples: Examples, *, version: str) -> Fitted | None:
    """The linker that these decisions draw the shipped one to; None with fewer than 30, five of either kind, five patterns.

    Every decision counts the same, however many texts its pattern has. Held out is all that was decided about a fifth of
    the patterns at a time: decisions about one pattern are about texts that are alike.
    """
    decisions, sizes = np.unique(examples.decision, return_counts=True)
    joining = np.unique(examples.decision[examples.y > 0])
    n_joining, n_apart = len(joining), len(decisions) - len(joining)
    patterns, part = np.unique(examples.about, return_inverse=True)
    n_least = min(n_joining, n_apart, len(patterns))
    if len(decisions) < MIN_DECISIONS or n_least < MIN_OF_A_KIND:
        return None
    place = np.searchsorted(decisions, examples.decision)
    importance = 1.0 / sizes[place]
    base = Fit(np.array(shipped().weights), shipped().intercept)
    losses = np.zeros(len(place))
    for fold in range(_N_FOLDS):
        held_out = part % _N_FOLDS == fold
        learned = _drawn(examples, importance * ~held_out, base)
        losses[held_out] = _losses(examples, learned)[held_out]
    learned = _drawn(examples, importance, base)
    linker = msgspec.structs.replace(
        shipped(),
        version=version,
        weights=tuple(round(float(weight), _DIGITS) for weight in learned.weights),
        intercept=round(learned.intercept, _DIGITS),
        trained_on=(f"{len(decisions)} decisions",),
    )
    n = len(decisions)
    return Fitted(
        linker=linker,
        n_decisions=n,
        n_joining=n_joining,
        shipped_loss=round(float(importance @ _losses(examples, base)) / n, _DIGITS),
        loss=round(float(importance @ losses) / n, _DIGITS),
    )


def compare(material: Material, candidate: LinkerArtefact) -> Comparison:
    """What the candidate would have put elsewhere than the linker in use, obeying all that people decided until now."""
    told = {row.pattern_id for row in material.constraints}
    known = Snapshot(
        settings=Settings(confidence_threshold=material.confidence_threshold),
        patterns=tuple(PatternRow(pattern_id=each) for each in sorted(told)),
        constraints=material.constraints,
    )
    grouper = Grouper.load(material.workspace_id, known)
    first = max(0, len(material.arrivals) - MAX_ASKED)
    kinds: Counter[str] = Counter()
    moves: list[Move] = []
    for place, arrival in enumerate(material.arrivals):
        if place >= first:
            if _is_settled(grouper, material, arrival.member):
                kinds["decided"] += 1
            else:
                move = _moved(grouper, arrival, material.active, candidate)
                if move is not None:
                    moves.append(move)
        _enter(grouper, arrival)
    return Comparison(
        n_texts=len(material.arrivals),
        n_asked=len(material.arrivals) - first,
        n_decided=kinds["decided"],
        n_moved=len(moves),
        n_joining=sum(move.from_pattern_id is None for move in moves),
        n_leaving=sum(move.to_pattern_id is None for move in moves),
        moves=tuple(reversed(moves[-MAX_MOVES:])),
    )


def _ruling(
    rulings: Mapping[Ruling, ConstraintKind], member: Member, *, key: str, pattern_id: str | None
) -> Ruling | None:
    """The decision on an issue and the pattern of an earlier text, or the other way round."""
    if pattern_id is None:
        return None
    if (member.grouping_key, pattern_id) in rulings:
        return member.grouping_key, pattern_id
    if member.pattern_id is not None and (key, member.pattern_id) in rulings:
        return key, member.pattern_id
    return None


def _drawn(examples: Examples, importance: Floats, base: Fit) -> Fit:
    return fit_logistic(
        examples.x,
        examples.y,
        importance,
        towards=base,
        pull=PULL,
        pull_of_intercept=PULL,
        offset=examples.shift,
    )


def _losses(examples: Examples, linker: Fit) -> Floats:
    """The log loss of every pair."""
    logits = examples.x @ linker.weights + linker.intercept + examples.shift
    signed = np.where(examples.y > 0, logits, -logits)
    return np.asarray(np.logaddexp(0.0, -np.clip(signed, -40, 40)), dtype=np.float64)


def _enter(grouper: Grouper, arrival: Arrival) -> None:
    member = arrival.member
    if member.pattern_id is None:
        grouper.remember(member.issue_id, member.grouping_key, arrival.text)
        return
    found = grouper.patterns.get(member.pattern_id)
    has_room = found is None or len(found.exemplars) < MAX_EXEMPLARS
    grouper.link(member, exemplar=arrival.text if has_room else None)


def _is_settled(grouper: Grouper, material: Material, member: Member) -> bool:
    """Whether nobody asks a linker: a person decided, or the key is known."""
    begun = derived_id("pat_", material.workspace_id, member.issue_id)
    return (
        begun in material.merged
        or grouper.must_of(member.grouping_key) is not None
        or grouper.holds(member.grouping_key)
    )


def _moved(
    grouper: Grouper, arrival: Arrival, active: LinkerArtefact, candidate: LinkerArtefact
) -> Move | None:
    grouper.use(active)
    before = grouper.assign_again(arrival.member, arrival.text)
    grouper.use(candidate)
    after = grouper.assign_again(arrival.member, arrival.text)
    one, other = _joined(before), _joined(after)
    if one == other:
        return None
    return Move(
        issue_id=arrival.member.issue_id,
        pattern_id=arrival.member.pattern_id,
        from_pattern_id=one,
        to_pattern_id=other,
        from_score=_score(before, one or other),
        to_score=_score(after, other or one),
    )


def _joined(decision: Decision) -> str | None:
    return decision.pattern_id if isinstance(decision, Join) else None


def _score(decision: Decision, pattern_id: str | None) -> float | None:
    """How sure a decision is of a pattern."""
    if isinstance(decision, New):
        return next((each.score for each in decision.suggestions if each.pattern_id == pattern_id), None)
    return decision.score if decision.pattern_id == pattern_id else None


def _main(given: bytes) -> bytes:
    return msgspec.json.encode(find(msgspec.json.decode(given, type=Material)))


if __name__ == "__main__":
    os.nice(_NICENESS)
    sys.stdout.buffer.write(_main(sys.stdin.buffer.read()))
