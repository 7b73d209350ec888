"""The online grouper of one workspace: which pattern an arriving issue belongs to, obeying what people decided."""

from collections.abc import Callable, Collection, Iterable, Sequence, Set
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
from contracts import derived_id
from contracts.generated.pattern import ConstraintKind, LinkMethod, PatternStatus
from msgspec import Struct
from msgspec.structs import replace

from .constraints import Constraints, Part
from .issues import Dimensions, Features, Issue, agreement_of, compared_text, features_of
from .linking import (
    FEATURES,
    LEAST_SUGGESTED,
    MACHINE_VERSION,
    Asked,
    Matrix,
    Scored,
    by_learned,
    by_machine,
    features_of_pairs,
    prior_shift,
)
from .memory import (
    NEVER,
    NOT_YET_STORED,
    ConstraintRow,
    ExemplarRow,
    Member,
    Pattern,
    RecommendationRow,
    Settings,
    Snapshot,
    Totals,
    VerdictRow,
    pattern_from,
)
from .texts import HumanTexts, MachineTexts, Near
from .weights import LinkerArtefact, checked, shipped
from .wording import is_written, title_of, wording_of

EXACT_KEY_VERSION: Final = "exact-key@2026-11-22"
DIMENSION_KEY_VERSION: Final = "dimension-key@2026-11-22"
CONSTRAINT_VERSION: Final = "constraint@2026-11-22"
# Texts kept of one pattern; the first ones stand for it well enough, and the index stays small.
MAX_EXEMPLARS: Final = 8


class Suggestion(Struct, frozen=True, kw_only=True):
    """A pattern that an issue may belong to, not surely enough to put it there; a person decides.

    score: probability that the issue belongs to it, in [0, 1], four decimals. matched_dimensions: where they agree.
    """

    pattern_id: str
    score: float
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...]


class Assignment(Struct, frozen=True, kw_only=True):
    """The pattern of an issue, and why.

    score: certainty in [0, 1], four decimals. exemplar: text to enter into the index, if any.
    """

    pattern_id: str
    score: float
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...]
    grouping_key: str
    dimensions: Dimensions
    exemplar: str | None

    def member(self, issue: Issue) -> Member:
        """The membership that it proposes."""
        return Member(
            issue_id=issue.issue_id,
            pattern_id=self.pattern_id,
            grouping_key=self.grouping_key,
            score=self.score,
            severity=issue.severity,
            occurred_at=issue.occurred_at,
            dimensions=self.dimensions,
        )


class Join(Assignment, frozen=True, kw_only=True):
    """The issue joins a pattern that exists."""


class New(Assignment, frozen=True, kw_only=True):
    """The issue begins a pattern of its own.

    suggestions: patterns that it may belong to all the same, most probable first, at most 3; none that a person forbade.
    """

    suggestions: tuple[Suggestion, ...] = ()


Decision: TypeAlias = Join | New
MAX_SUGGESTIONS: Final = 3


class Exemplar(Struct):
    """A text in the index and whose it is; `pattern_id` changes when people move its issue."""

    seq: int
    issue_id: str
    pattern_id: str | None
    grouping_key: str
    title: str
    text: str


class Grouper:
    """Groups the issues of one workspace.

    Everything it knows comes from `Snapshot` rows and the calls below, which mirror the events of the log; two
    groupers that took the same events decide the same. Cost per issue does not grow with the number of patterns.
    """

    def __init__(self, workspace_id: str, *, linker: LinkerArtefact | None = None) -> None:
        self.workspace_id = workspace_id
        self.settings = Settings()
        self.newest_at: datetime = NEVER
        self.patterns: dict[str, Pattern] = {}
        self.totals = Totals()
        self._recommendations: dict[str, dict[str, RecommendationRow]] = {}
        self._verdicts: dict[str, VerdictRow] = {}
        self.exemplars: dict[int, Exemplar] = {}
        self._weights = checked(linker or shipped(), FEATURES)
        self._n_entered = 0
        # Made when first needed: a workspace without reports of people pays nothing for them.
        self._machine: MachineTexts | None = None
        self._human: HumanTexts | None = None
        self._n_human_of: dict[str, int] = {}
        self._n_human_owned = 0
        self._position_of_issue: dict[str, int] = {}
        self._patterns_of_key: dict[str, list[str]] = {}
        self._constraints = Constraints()

    @classmethod
    def load(
        cls, workspace_id: str, snapshot: Snapshot, *, linker: LinkerArtefact | None = None
    ) -> "Grouper":
        """A grouper as it was when the snapshot was taken."""
        grouper = cls(workspace_id, linker=linker)
        grouper.settings, grouper.newest_at = snapshot.settings, snapshot.newest_at
        grouper.patterns = {row.pattern_id: pattern_from(row) for row in snapshot.patterns}
        for summary in snapshot.summaries:
            pattern = grouper.patterns[summary.pattern_id]
            pattern.n_members, pattern.score_sum = summary.n_members, summary.score_sum
            pattern.first_seen_at, pattern.last_seen_at = summary.first_seen_at, summary.last_seen_at
        for tally in snapshot.tallies:
            grouper.patterns[tally.pattern_id].take_tally(tally)
            if tally.kind == "key":
                grouper._patterns_of_key.setdefault(tally.value, []).append(tally.pattern_id)
        for pattern in grouper.patterns.values():
            grouper.totals.include(pattern)
        for row in snapshot.exemplars:
            grouper._enter(
                Exemplar(row.seq, row.issue_id, row.pattern_id, row.grouping_key, row.title, row.text)
            )
        grouper._constraints = Constraints(snapshot.constraints)
        for recommendation in snapshot.recommendations:
            grouper.note_recommendation(recommendation)
        for verdict in snapshot.verdicts:
            grouper.note_verdict(verdict)
        return grouper

    def snapshot(self) -> Snapshot:
        """Everything it knows, in one canonical order; equal snapshots decide equally."""
        filled = [pattern for pattern in self.patterns.values() if pattern.n_members]
        return Snapshot(
            settings=self.settings,
            newest_at=self.newest_at,
            patterns=tuple(sorted(pattern.row() for pattern in self.patterns.values())),
            summaries=tuple(sorted(pattern.summary() for pattern in filled)),
            tallies=tuple(sorted(tally for pattern in filled for tally in pattern.tallies())),
            exemplars=tuple(
                ExemplarRow(e.seq, e.issue_id, e.pattern_id, e.grouping_key, e.title, e.text)
                for e in self.exemplars.values()
            ),
            constraints=tuple(self._constraints.rows()),
            recommendations=tuple(
                sorted(row for rows in self._recommendations.values() for row in rows.values())
            ),
            verdicts=tuple(sorted(self._verdicts.values())),
        )

    def assign(self, issue: Issue) -> Decision:
        """The pattern that an issue belongs to; nothing changes until `link` is called with it."""
        features = features_of(issue)
        return self._assign(
            issue.issue_id, features, issue.dimensions, lambda: compared_text(issue, features)
        )

    def assign_again(self, member: Member, text: str) -> Decision:
        """Where it would put a person's report of which only the membership and the compared text are known."""
        features = Features(member.grouping_key, title_of(text), is_machine=False)
        return self._assign(member.issue_id, features, member.dimensions, lambda: text)

    def use(self, linker: LinkerArtefact) -> None:
        """Ask this linker from now on; members stay. Raises WrongFeaturesError."""
        self._weights = checked(linker, FEATURES)

    def _assign(
        self, issue_id: str, features: Features, dimensions: Dimensions, text: Callable[[], str]
    ) -> Decision:
        forbidden = self._constraints.nevers_of(features.key)
        must = self._constraints.must_of(features.key)
        if must is not None and must not in forbidden:
            return self._known(self.patterns[must], features, dimensions, CONSTRAINT_VERSION)
        holders = self._patterns_of_key.get(features.key)
        if holders:
            pattern = self._best_holder(holders, dimensions, forbidden)
            if pattern is not None:
                version = EXACT_KEY_VERSION if features.text else DIMENSION_KEY_VERSION
                return self._known(pattern, features, dimensions, version)
        return self._by_similarity(issue_id, text(), features, dimensions, forbidden)

    def link(
        self, member: Member, *, exemplar: str | None = None, title: str = "", seq: int = NOT_YET_STORED
    ) -> Pattern:
        """Count a new member of its pattern, which begins with its first one. Returns the pattern."""
        pattern_id = member.pattern_id
        if pattern_id is None:
            raise ValueError(f"{member.issue_id} has no pattern to be linked to")
        pattern = self.patterns.get(pattern_id)
        if pattern is None:
            pattern = self.patterns[pattern_id] = Pattern(pattern_id=pattern_id)
        if member.grouping_key not in pattern.keys:
            self._patterns_of_key.setdefault(member.grouping_key, []).append(pattern_id)
        pattern.add(member)
        self.totals.add(member)
        position = self._position_of_issue.get(member.issue_id)
        if position is not None:
            self._give(position, pattern)
        elif exemplar is not None:
            self._enter(Exemplar(seq, member.issue_id, pattern_id, member.grouping_key, title, exemplar))
        return pattern

    def remember(self, issue_id: str, key: str, text: str) -> None:
        """Enter the text of an issue that a person took out of its pattern: it is near to others, and nobody's."""
        self._enter(Exemplar(NOT_YET_STORED, issue_id, None, key, "", text))

    def holds(self, key: str) -> bool:
        """Whether a pattern has members with the key."""
        return key in self._patterns_of_key

    def unlink(
        self, pattern: Pattern, members: Sequence[Member], *, first_seen_at: datetime, last_seen_at: datetime
    ) -> None:
        """Take members out of a pattern; the times are those of the members that stay."""
        held = set(pattern.keys)
        pattern.remove(members, first_seen_at=first_seen_at, last_seen_at=last_seen_at)
        self.totals.remove(members)
        for key in held - pattern.keys.keys():
            self._drop_holder(key, pattern.pattern_id)
        for member in members:
            position = self._position_of_issue.get(member.issue_id)
            if position is not None:
                self._give(position, None)

    def constrain(self, key: str, pattern_id: str, kind: ConstraintKind) -> None:
        """Obey a person's decision on a key and a pattern; the latest one counts."""
        self._constraints.add(key, pattern_id, kind)

    def merge(self, target_id: str, source_id: str) -> None:
        """Move all members, keys, texts and decisions of one pattern into another.

        A merge is a later decision than a "never" on a key that one part brings to the other, so that ends.
        """
        target, source = self.patterns[target_id], self.patterns[source_id]
        self._constraints.merge(Part(target_id, target.keys), Part(source_id, source.keys))
        for key in source.keys:
            self._drop_holder(key, source_id)
            if key not in target.keys:
                self._patterns_of_key.setdefault(key, []).append(target_id)
        for position in source.exemplars:
            self._own(position, target_id)
        target.absorb(source)
        for pattern in self.patterns.values():
            if pattern.merged_into == source_id:
                pattern.merged_into = target_id
        source.merged_into = target_id
        for row in self._recommendations.pop(source_id, {}).values():
            self.note_recommendation(row)

    def note_recommendation(self, row: RecommendationRow) -> None:
        """Remember where a recommendation stands; one of a merged pattern counts for the pattern that remains."""
        pattern = self.patterns.get(row.pattern_id)
        if pattern is not None and pattern.merged_into:
            row = replace(row, pattern_id=pattern.merged_into)
        self._recommendations.setdefault(row.pattern_id, {})[row.recommendation_id] = row

    def recommendations_of(self, pattern: Pattern) -> Iterable[RecommendationRow]:
        """The recommendations for a pattern that somebody has touched."""
        return self._recommendations.get(pattern.pattern_id, {}).values()

    def note_verdict(self, row: VerdictRow) -> None:
        """Remember the latest verdict on a fix of a pattern."""
        self._verdicts[row.pattern_id] = row

    def verdict_of(self, pattern: Pattern) -> VerdictRow | None:
        """The latest verdict on a fix of a pattern."""
        return self._verdicts.get(pattern.pattern_id)

    def has_exemplar(self, issue_id: str) -> bool:
        """Whether an issue's text is in the index."""
        return issue_id in self._position_of_issue

    def purge(self, issue_id: str, remainder_id: str) -> None:
        """Let the text of a purged issue belong to what is kept of it, without its title."""
        position = self._position_of_issue.pop(issue_id, None)
        if position is not None:
            self._position_of_issue[remainder_id] = position
            self.exemplars[position].issue_id = remainder_id
            self.exemplars[position].title = ""

    def place(self, issue_id: str, seq: int) -> None:
        """Note the sequence at which the exemplar of an issue was stored."""
        position = self._position_of_issue.get(issue_id)
        if position is not None and self.exemplars[position].seq == NOT_YET_STORED:
            self.exemplars[position].seq = seq

    def is_forbidden(self, key: str, pattern_id: str) -> bool:
        """Whether a person decided that issues with the key never belong to the pattern."""
        return pattern_id in self._constraints.nevers_of(key)

    def must_of(self, key: str) -> str | None:
        """The pattern that a person decided for the key."""
        return self._constraints.must_of(key)

    def constraints_about(self, keys: Collection[str], pattern_ids: Collection[str]) -> list[ConstraintRow]:
        """People's decisions on any of these keys or patterns, ascending."""
        return self._constraints.about(keys, pattern_ids)

    @property
    def n_rulings(self) -> int:
        """How many decisions of people are in force."""
        return len(self._constraints)

    def overruled_by(self, key: str, pattern_id: str, kind: ConstraintKind) -> list[ConstraintRow]:
        """The decisions that end when a person takes this one."""
        return self._constraints.overruled_by(key, pattern_id, kind)

    def overruled_by_merge(self, target_id: str, source_id: str) -> list[ConstraintRow]:
        """The decisions that end when a person merges one pattern into another."""
        target, source = self.patterns[target_id], self.patterns[source_id]
        return self._constraints.overruled_by_merge(
            Part(target_id, target.keys), Part(source_id, source.keys)
        )

    def alike(self, issue: Issue) -> list[tuple[Exemplar, float]]:
        """The nearest texts of the issue's kind, most alike first, each with its cosine in [0, 1].

        Of titles' character n-grams; for people's reports that of the words, where it is larger.
        """
        text = compared_text(issue, features_of(issue))
        found: list[tuple[int, float]] = []
        if is_written(text):
            human = self._human
            near = None if human is None else human.near(wording_of(text))
            if human is not None and near is not None:
                cosines = np.maximum(near.grams, near.words).tolist()
                found = [(human.key_of(n), c) for n, c in zip(near.numbers.tolist(), cosines, strict=True)]
        elif text and self._machine is not None:
            found = self._machine.near(text)
        ordered = sorted(found, key=lambda each: (-each[1], each[0]))
        return [(self.exemplars[position], min(1.0, max(0.0, cosine))) for position, cosine in ordered]

    def exemplars_of(self, pattern: Pattern) -> list[Exemplar]:
        """The texts that stand for a pattern, oldest first."""
        return [self.exemplars[position] for position in pattern.exemplars]

    @property
    def n_bytes_of_texts(self) -> int:
        """Bytes that the indexes have reserved for their texts."""
        human = 0 if self._human is None else self._human.n_bytes
        return human + (0 if self._machine is None else self._machine.index.n_bytes)

    @property
    def linker_version(self) -> str:
        """The version of the learned linker."""
        return self._weights.version

    def pairs(self, issue: Issue) -> tuple[Matrix, Sequence[Pattern | None]] | None:
        """What the learned linker would be asked about an issue: features of every near text, and whose each is.

        None where it is not asked: the key is known, the text is of a machine, or nothing is near.
        """
        features = features_of(issue)
        if features.is_machine or not features.text or features.key in self._patterns_of_key:
            return None
        asked = self._asked(compared_text(issue, features), self._constraints.nevers_of(features.key))
        if asked is None:
            return None
        return features_of_pairs(asked.near, asked.owners, issue.dimensions), asked.owners

    def _asked(self, text: str, forbidden: Set[str]) -> Asked | None:
        """The nearest reports of people, and whose each is."""
        found = self.near(text)
        if found is None:
            return None
        near, exemplars = found
        return Asked(
            title=title_of(text),
            near=near,
            texts=[each.text for each in exemplars],
            owners=[self._joinable(each, forbidden) for each in exemplars],
        )

    def near(self, text: str) -> tuple[Near, list[Exemplar]] | None:
        """The nearest reports of people to one, and how near each is; None where there is none."""
        human = self._human
        near = human.near(wording_of(text)) if human is not None else None
        if human is None or near is None:
            return None
        return near, [self.exemplars[human.key_of(number)] for number in near.numbers.tolist()]

    def _known(self, pattern: Pattern, features: Features, dimensions: Dimensions, version: str) -> Join:
        return Join(
            pattern_id=pattern.pattern_id,
            score=1.0,
            method=LinkMethod.EXACT_KEY if features.text else LinkMethod.DIMENSION_KEY,
            method_version=version,
            matched_dimensions=agreement_of(pattern.agreement(dimensions)),
            grouping_key=features.key,
            dimensions=dimensions,
            exemplar=None,
        )

    def _best_holder(self, holders: list[str], dimensions: Dimensions, forbidden: Set[str]) -> Pattern | None:
        """Of the patterns that have the key: the one sharing most dimensions, then the largest."""
        if len(holders) == 1:
            return None if holders[0] in forbidden else self.patterns[holders[0]]
        allowed = [self.patterns[holder] for holder in holders if holder not in forbidden]
        return min(
            allowed,
            key=lambda p: (-p.agreement(dimensions).bit_count(), -p.n_members, p.pattern_id),
            default=None,
        )

    def _by_similarity(
        self, issue_id: str, text: str, features: Features, dimensions: Dimensions, forbidden: Set[str]
    ) -> Decision:
        scored: list[Scored] = []
        is_sure, version = False, self._weights.version
        if text and features.is_machine:
            version = MACHINE_VERSION
            scored, is_sure = by_machine(self._near_machine(text, forbidden), dimensions)
        elif text:
            scored = self._near_human(text, dimensions, forbidden)
            is_sure = bool(scored)
        if is_sure and scored[0].score >= self.settings.confidence_threshold:
            pattern = scored[0].pattern
            return Join(
                pattern_id=pattern.pattern_id,
                score=scored[0].score,
                method=LinkMethod.TEXT_SIMILARITY,
                method_version=version,
                matched_dimensions=agreement_of(pattern.agreement(dimensions)),
                grouping_key=features.key,
                dimensions=dimensions,
                exemplar=text if len(pattern.exemplars) < MAX_EXEMPLARS else None,
            )
        suggestions = tuple(
            Suggestion(
                pattern_id=each.pattern.pattern_id,
                score=each.score,
                method=LinkMethod.TEXT_SIMILARITY,
                method_version=version,
                matched_dimensions=agreement_of(each.pattern.agreement(dimensions)),
            )
            for each in scored[:MAX_SUGGESTIONS]
            if each.score >= LEAST_SUGGESTED
        )
        return New(
            pattern_id=derived_id("pat_", self.workspace_id, issue_id),
            score=1.0,
            method=LinkMethod.SEED,
            method_version=EXACT_KEY_VERSION if features.text else DIMENSION_KEY_VERSION,
            matched_dimensions=(),
            grouping_key=features.key,
            dimensions=dimensions,
            exemplar=text or None,
            suggestions=suggestions,
        )

    def _near_machine(self, text: str, forbidden: Set[str]) -> list[tuple[Pattern, float]]:
        """The patterns of the nearest texts of machines, each with its closest one's cosine."""
        best: dict[str, tuple[Pattern, float]] = {}
        for position, cosine in self._machine.near(text) if self._machine is not None else ():
            owner = self._joinable(self.exemplars[position], forbidden)
            if owner is not None:
                best.setdefault(owner.pattern_id, (owner, cosine))
        return list(best.values())

    def _near_human(self, text: str, dimensions: Dimensions, forbidden: Set[str]) -> list[Scored]:
        """The patterns of the nearest reports of people, each with its probability."""
        asked = self._asked(text, forbidden)
        if asked is None:
            return []
        least = min(LEAST_SUGGESTED, self.settings.confidence_threshold)
        return by_learned(asked, dimensions, self._weights, shift=self.shift, least=least)

    @property
    def shift(self) -> float:
        """What is added to every logit now, see `prior_shift`."""
        n_texts = self._n_human_owned
        return prior_shift(n_texts, n_texts - len(self._n_human_of), self._weights)

    def _joinable(self, exemplar: Exemplar, forbidden: Set[str]) -> Pattern | None:
        pattern_id = exemplar.pattern_id
        if pattern_id is None or pattern_id in forbidden:
            return None
        found = self.patterns[pattern_id]
        return None if found.status is PatternStatus.MERGED else found

    def _enter(self, exemplar: Exemplar) -> None:
        position = self._n_entered
        self._n_entered += 1
        self.exemplars[position] = exemplar
        self._position_of_issue[exemplar.issue_id] = position
        if exemplar.pattern_id is not None:
            self.patterns[exemplar.pattern_id].exemplars.append(position)
        if is_written(exemplar.text):
            self._human = self._human or HumanTexts()
            self._count_human(exemplar, 1)
            expired = self._human.add(position, wording_of(exemplar.text))
        else:
            self._machine = self._machine or MachineTexts()
            expired = self._machine.add(position, exemplar.text)
        for each in expired:
            self._give(each, None)
            del self._position_of_issue[self.exemplars.pop(each).issue_id]

    def _give(self, position: int, pattern: Pattern | None) -> None:
        """Let an exemplar follow its issue into another pattern, or out of every one."""
        exemplar = self.exemplars[position]
        if exemplar.pattern_id is not None:
            held = self.patterns[exemplar.pattern_id].exemplars
            if position in held:
                held.remove(position)
        self._own(position, None if pattern is None else pattern.pattern_id)
        if pattern is not None:
            pattern.exemplars = sorted([*pattern.exemplars, position])

    def _own(self, position: int, pattern_id: str | None) -> None:
        exemplar = self.exemplars[position]
        is_human = is_written(exemplar.text)
        if is_human:
            self._count_human(exemplar, -1)
        exemplar.pattern_id = pattern_id
        if is_human:
            self._count_human(exemplar, 1)

    def _count_human(self, exemplar: Exemplar, change: int) -> None:
        """Count the reports of people by pattern: how often they repeat decides how sure the linker must be."""
        if exemplar.pattern_id is None:
            return
        n = self._n_human_of.get(exemplar.pattern_id, 0) + change
        self._n_human_owned += change
        if n:
            self._n_human_of[exemplar.pattern_id] = n
        else:
            del self._n_human_of[exemplar.pattern_id]

    def _drop_holder(self, key: str, pattern_id: str) -> None:
        holders = self._patterns_of_key[key]
        holders.remove(pattern_id)
        if not holders:
            del self._patterns_of_key[key]
