"""What is remembered of a workspace's patterns: counts, never all issues; and the rows that it is loaded from."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from contracts.generated.ingest import Severity
from contracts.generated.pattern import ConstraintKind, PatternStatus
from contracts.generated.recommendation import RecommendationStatus
from msgspec import Struct, field

from .issues import DIMENSIONS, Dimensions

K = TypeVar("K")

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
SCORE_UNIT = 10_000
NOT_YET_STORED = 2**62
"""Sequence of what has been decided but not appended: later than everything that is in the log."""
_EPOCH_ORDINAL = NEVER.toordinal()
# Most patterns have one member, and most dimensions of it no value: they share this one, which nobody writes to.
_NO_COUNTS: dict[str, int] = {}


class Member(Struct, frozen=True, kw_only=True):
    """One issue's membership.

    pattern_id: None once a person has taken it out. score: certainty in [0, 1], four decimals.
    """

    issue_id: str
    pattern_id: str | None
    grouping_key: str
    score: float
    severity: Severity
    occurred_at: datetime
    dimensions: Dimensions


class PatternRow(Struct, frozen=True, kw_only=True, order=True):
    """What the log says of a pattern itself.

    version: stream sequence of its last event. described_count: members when it was last described.
    watched_since: event time of the last move to watching. status_seq: what recommendations and verdicts
    said up to here is followed: sequence of the last change of status, or of what the rule behind it had heard of.
    merged_into: the pattern that took over all members. mttr_seconds: mean time to repair, as last described.
    """

    pattern_id: str
    status: PatternStatus = PatternStatus.CANDIDATE
    name: str = ""
    is_named_by_person: bool = False
    version: int = 0
    described_count: int = 0
    watched_since: datetime = NEVER
    status_seq: int = 0
    merged_into: str = ""
    mttr_seconds: float | None = None


class SummaryRow(Struct, frozen=True, order=True):
    """Sums over the members of a pattern; score_sum in units of 0.0001."""

    pattern_id: str
    n_members: int
    score_sum: int
    first_seen_at: datetime
    last_seen_at: datetime


class TallyRow(Struct, frozen=True, order=True):
    """How many members of a pattern have a value of a kind: key, severity, day, or a dimension."""

    pattern_id: str
    kind: str
    value: str
    n: int


class ExemplarRow(Struct, frozen=True, order=True):
    """A text that later issues are compared with, in the order of the log; of no pattern once its issue is out."""

    seq: int
    issue_id: str
    pattern_id: str | None
    grouping_key: str
    title: str
    text: str


class ConstraintRow(Struct, frozen=True, order=True):
    """The latest decision of a person on a grouping key and a pattern."""

    grouping_key: str
    pattern_id: str
    kind: ConstraintKind


class RecommendationRow(Struct, frozen=True, order=True):
    """Where a recommendation stands, for the life of its pattern."""

    recommendation_id: str
    pattern_id: str
    status: RecommendationStatus
    changed_at: datetime
    seq: int


class VerdictRow(Struct, frozen=True, order=True):
    """The latest verdict on a fix of a pattern, and where it moves that. fixed_at: when the fix was made."""

    pattern_id: str
    fixed_at: datetime
    to_status: PatternStatus
    reason: str
    seq: int


class Settings(Struct, frozen=True, kw_only=True):
    """How the workspace wants its patterns judged.

    confidence_threshold: least score to link by itself.
    """

    confidence_threshold: float = 0.7
    minimum_cluster_size: int = 3


class Snapshot(Struct, frozen=True, kw_only=True):
    """All that is remembered of a workspace, every tuple ascending; newest_at is the newest event time seen."""

    settings: Settings = Settings()
    newest_at: datetime = NEVER
    patterns: tuple[PatternRow, ...] = ()
    summaries: tuple[SummaryRow, ...] = ()
    tallies: tuple[TallyRow, ...] = ()
    exemplars: tuple[ExemplarRow, ...] = ()
    constraints: tuple[ConstraintRow, ...] = ()
    recommendations: tuple[RecommendationRow, ...] = ()
    verdicts: tuple[VerdictRow, ...] = ()


def day_of(moment: datetime) -> int:
    """Days since 1970 in UTC."""
    return moment.toordinal() - _EPOCH_ORDINAL


class Pattern(Struct, kw_only=True):
    """A pattern in memory: its row and running counts over its members. Changes in place."""

    pattern_id: str
    status: PatternStatus = PatternStatus.CANDIDATE
    name: str = ""
    is_named_by_person: bool = False
    version: int = 0
    described_count: int = 0
    watched_since: datetime = NEVER
    status_seq: int = 0
    merged_into: str = ""
    mttr_seconds: float | None = None
    n_members: int = 0
    score_sum: int = 0
    first_seen_at: datetime = NEVER
    last_seen_at: datetime = NEVER
    severities: dict[str, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    values: list[dict[str, int]] = field(default_factory=lambda: [_NO_COUNTS] * len(DIMENSIONS))
    common: list[str | None] = field(default_factory=lambda: [None] * len(DIMENSIONS))
    exemplars: list[int] = field(default_factory=list)

    def add(self, member: Member) -> None:
        """Count a new member. Cost does not depend on how many there are."""
        at = member.occurred_at
        if self.n_members == 0:
            self.first_seen_at = self.last_seen_at = at
        elif at > self.last_seen_at:
            self.last_seen_at = at
        elif at < self.first_seen_at:
            self.first_seen_at = at
        self.n_members += 1
        self.score_sum += round(member.score * SCORE_UNIT)
        severity, key, day = member.severity.value, member.grouping_key, day_of(at)
        self.severities[severity] = self.severities.get(severity, 0) + 1
        self.keys[key] = self.keys.get(key, 0) + 1
        self.days[day] = self.days.get(day, 0) + 1
        for i, value in enumerate(member.dimensions):
            if value is not None:
                counts = self._counts(i)
                n = counts[value] = counts.get(value, 0) + 1
                best = self.common[i]
                if best is None or n > counts[best] or (n == counts[best] and value < best):
                    self.common[i] = value

    def remove(self, members: Iterable[Member], *, first_seen_at: datetime, last_seen_at: datetime) -> None:
        """Uncount members; the times are those of the members that stay."""
        for member in members:
            self.n_members -= 1
            self.score_sum -= round(member.score * SCORE_UNIT)
            _uncount(self.severities, member.severity.value)
            _uncount(self.keys, member.grouping_key)
            _uncount(self.days, day_of(member.occurred_at))
            for counts, value in zip(self.values, member.dimensions, strict=True):
                if value is not None:
                    _uncount(counts, value)
        is_empty = self.n_members == 0
        self.first_seen_at = NEVER if is_empty else first_seen_at
        self.last_seen_at = NEVER if is_empty else last_seen_at
        self._find_common()

    def absorb(self, other: "Pattern") -> None:
        """Take over all members of another pattern, which keeps none."""
        if other.n_members == 0:
            return
        if self.n_members == 0:
            self.first_seen_at, self.last_seen_at = other.first_seen_at, other.last_seen_at
        self.first_seen_at = min(self.first_seen_at, other.first_seen_at)
        self.last_seen_at = max(self.last_seen_at, other.last_seen_at)
        self.n_members += other.n_members
        self.score_sum += other.score_sum
        for day, n in other.days.items():
            self.days[day] = self.days.get(day, 0) + n
        pairs = [(self.severities, other.severities), (self.keys, other.keys)]
        pairs += [(self._counts(i), theirs) for i, theirs in enumerate(other.values) if theirs]
        for mine, theirs in pairs:
            for value, n in theirs.items():
                mine[value] = mine.get(value, 0) + n
        self.exemplars = sorted(self.exemplars + other.exemplars)
        self._find_common()
        other.clear()

    def clear(self) -> None:
        """Forget all members."""
        self.n_members = self.score_sum = 0
        self.first_seen_at = self.last_seen_at = NEVER
        self.severities, self.days, self.keys, self.exemplars = {}, {}, {}, []
        self.values = [_NO_COUNTS] * len(DIMENSIONS)
        self.common = [None] * len(DIMENSIONS)

    def agreement(self, dimensions: Dimensions) -> int:
        """A bit for every dimension on which an issue has the pattern's most common value."""
        bits = 0
        for i, value in enumerate(dimensions):
            if value is not None and value == self.common[i]:
                bits |= 1 << i
        return bits

    def shared(self, dimension: str, *, at_least: float) -> str | None:
        """The most common value of a dimension, when that share of the members has it."""
        i = DIMENSIONS.index(dimension)
        value = self.common[i]
        if value is None or self.values[i][value] < at_least * self.n_members:
            return None
        return value

    def row(self) -> PatternRow:
        """What the log says of it."""
        return PatternRow(
            pattern_id=self.pattern_id,
            status=self.status,
            name=self.name,
            is_named_by_person=self.is_named_by_person,
            version=self.version,
            described_count=self.described_count,
            watched_since=self.watched_since,
            status_seq=self.status_seq,
            merged_into=self.merged_into,
            mttr_seconds=self.mttr_seconds,
        )

    def summary(self) -> SummaryRow:
        """Its sums."""
        return SummaryRow(
            self.pattern_id, self.n_members, self.score_sum, self.first_seen_at, self.last_seen_at
        )

    def tallies(self) -> list[TallyRow]:
        """Its counts."""
        named: list[tuple[str, dict[str, int]]] = [
            ("key", self.keys),
            ("severity", self.severities),
            ("day", {str(day): n for day, n in self.days.items()}),
            *zip(DIMENSIONS, self.values, strict=True),
        ]
        return [TallyRow(self.pattern_id, kind, v, n) for kind, counts in named for v, n in counts.items()]

    def take_tally(self, row: TallyRow) -> None:
        """Set one count, as loaded from a row."""
        match row.kind:
            case "key":
                self.keys[row.value] = row.n
            case "severity":
                self.severities[row.value] = row.n
            case "day":
                self.days[int(row.value)] = row.n
            case kind:
                i = DIMENSIONS.index(kind)
                self._counts(i)[row.value] = row.n
                best = self.common[i]
                if best is None or (-row.n, row.value) < (-self.values[i][best], best):
                    self.common[i] = row.value

    def _counts(self, i: int) -> dict[str, int]:
        """The counts of a dimension, to write to."""
        if self.values[i] is _NO_COUNTS:
            self.values[i] = {}
        return self.values[i]

    def _find_common(self) -> None:
        self.common = [
            min(counts.items(), key=lambda item: (-item[1], item[0]))[0] if counts else None
            for counts in self.values
        ]


class Totals(Struct):
    """How many members all patterns of a workspace have together, by value and by day. Changes in place."""

    n_members: int = 0
    values: tuple[dict[str, int], ...] = field(default_factory=lambda: tuple({} for _ in DIMENSIONS))
    days: dict[int, int] = field(default_factory=dict)

    def add(self, member: Member) -> None:
        """Count a member."""
        self.n_members += 1
        day = day_of(member.occurred_at)
        self.days[day] = self.days.get(day, 0) + 1
        for counts, value in zip(self.values, member.dimensions, strict=True):
            if value is not None:
                counts[value] = counts.get(value, 0) + 1

    def remove(self, members: Iterable[Member]) -> None:
        """Uncount members that have no pattern any more."""
        for member in members:
            self.n_members -= 1
            _uncount(self.days, day_of(member.occurred_at))
            for counts, value in zip(self.values, member.dimensions, strict=True):
                if value is not None:
                    _uncount(counts, value)

    def include(self, pattern: Pattern) -> None:
        """Count all members of a pattern."""
        self.n_members += pattern.n_members
        for day, n in pattern.days.items():
            self.days[day] = self.days.get(day, 0) + n
        for counts, theirs in zip(self.values, pattern.values, strict=True):
            for value, n in theirs.items():
                counts[value] = counts.get(value, 0) + n


def pattern_from(row: PatternRow) -> Pattern:
    """A pattern without members, as its row says."""
    return Pattern(
        pattern_id=row.pattern_id,
        status=row.status,
        name=row.name,
        is_named_by_person=row.is_named_by_person,
        version=row.version,
        described_count=row.described_count,
        watched_since=row.watched_since,
        status_seq=row.status_seq,
        merged_into=row.merged_into,
        mttr_seconds=row.mttr_seconds,
    )


def _uncount(counts: dict[K, int], value: K) -> None:
    if counts[value] == 1:
        del counts[value]
    else:
        counts[value] -= 1
