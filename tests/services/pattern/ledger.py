"""The rows as a plain Python fold, written apart from the engine and from the SQL: what both must agree with."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import assert_never

from contracts import pattern
from msgspec import Struct, field
from msgspec.structs import replace
from testkit.builders import NOW

from services.pattern.commands import Decided, Gathered, Subject
from services.pattern.engine.grouping import Grouper
from services.pattern.engine.issues import DIMENSIONS, Issue
from services.pattern.engine.memory import (
    NEVER,
    ConstraintRow,
    ExemplarRow,
    Member,
    PatternRow,
    Settings,
    Snapshot,
    SummaryRow,
    TallyRow,
    day_of,
)
from services.pattern.state import Leaving, stamp

Kind = pattern.ConstraintKind


class Ledger(Struct):
    """Every fact of one workspace, nothing counted in advance."""

    settings: Settings = Settings()
    seq: int = 0
    newest_at: datetime = NEVER
    issues: dict[str, Issue] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    patterns: dict[str, PatternRow] = field(default_factory=dict)
    exemplars: dict[str, tuple[int, str]] = field(default_factory=dict)
    constraints: dict[tuple[str, str], Kind] = field(default_factory=dict)
    about: dict[tuple[str, str], str] = field(default_factory=dict)
    suggested: list[tuple[str, str, str]] = field(default_factory=list)
    contradictions: list[pattern.DecisionsContradicted] = field(default_factory=list)

    def store(self, grouper: Grouper, decided: Sequence[Decided]) -> None:
        """Give each decision its place in the log, and fold it."""
        for each in decided:
            self.seq += 1
            stamp(grouper, each.event, pattern_id=each.pattern_id, seq=self.seq)
            self._fold(each)
            row = self.patterns[each.pattern_id]
            self.patterns[each.pattern_id] = replace(row, version=self.seq)

    def must(self, key: str) -> str | None:
        return next(
            (p for (k, p), kind in self.constraints.items() if k == key and kind is Kind.MUST_LINK), None
        )

    def cannot(self, key: str) -> set[str]:
        return {p for (k, p), kind in self.constraints.items() if k == key and kind is Kind.CANNOT_LINK}

    def of(self, pattern_id: str) -> list[Member]:
        return [member for member in self.members.values() if member.pattern_id == pattern_id]

    def living(self) -> list[str]:
        return [row.pattern_id for row in self.patterns.values() if not row.merged_into]

    def gathered(self, issue_ids: Iterable[str]) -> Gathered:
        """What the rows would say of a command's issues."""
        subjects: dict[str, Subject] = {}
        leaving: dict[str, Leaving] = {}
        moved: dict[str, list[Member]] = {}
        for issue_id in issue_ids:
            member, issue = self.members[issue_id], self.issues[issue_id]
            subjects[issue_id] = Subject(
                issue_id=issue_id,
                title=issue.title,
                grouping_key=member.grouping_key,
                severity=member.severity,
                occurred_at=member.occurred_at,
                dimensions=member.dimensions,
                member=member,
                text=issue.title.lower(),
            )
            if member.pattern_id is not None:
                moved.setdefault(member.pattern_id, []).append(member)
        for pattern_id, members in moved.items():
            staying = [m.occurred_at for m in self.of(pattern_id) if m not in members]
            times = staying or [member.occurred_at for member in members]
            leaving[pattern_id] = Leaving(members, min(times), max(times))
        rulings = {
            (key, pattern_id): pattern.Ruling(
                pattern_id=pattern_id, kind=kind, issue_id=self.about[key, pattern_id], decided_by="usr_ann"
            )
            for (key, pattern_id), kind in self.constraints.items()
        }
        return Gathered(subjects, leaving, rulings)

    def snapshot(self) -> Snapshot:
        """What a leader would load."""
        by_pattern: dict[str, list[Member]] = {}
        for member in self.members.values():
            if member.pattern_id is not None:
                by_pattern.setdefault(member.pattern_id, []).append(member)
        exemplars = sorted((seq, issue_id, text) for issue_id, (seq, text) in self.exemplars.items())
        return Snapshot(
            settings=self.settings,
            newest_at=self.newest_at,
            patterns=tuple(sorted(self.patterns.values())),
            summaries=tuple(sorted(_summary(p, members) for p, members in by_pattern.items())),
            tallies=tuple(sorted(row for p, members in by_pattern.items() for row in _tallies(p, members))),
            exemplars=tuple(
                ExemplarRow(
                    seq,
                    issue_id,
                    self.members[issue_id].pattern_id,
                    self.members[issue_id].grouping_key,
                    self.issues[issue_id].title,
                    text,
                )
                for seq, issue_id, text in exemplars
            ),
            constraints=tuple(sorted(ConstraintRow(k, p, kind) for (k, p), kind in self.constraints.items())),
        )

    def _fold(self, decided: Decided) -> None:
        match decided.event:
            case pattern.IssuesLinked() as event:
                self._linked(event)
            case pattern.PatternDetected() as event:
                self._change(
                    event.pattern_id,
                    status=pattern.PatternStatus.EMERGING,
                    status_seq=self.seq,
                    name=event.name,
                    described_count=event.assessment.issue_count,
                )
            case pattern.PatternDescribed() as event:
                self._change(event.pattern_id, name=event.name, described_count=event.assessment.issue_count)
                if decided.is_by_person:
                    self._change(event.pattern_id, is_named_by_person=True)
            case pattern.PatternStatusChanged() as event:
                self._change(event.pattern_id, status=event.to_status)
                moves = {event.from_status.value, event.to_status.value}
                is_note = moves == {"watching"} and event.fix_environment is event.fix_version is None
                stays_open = moves <= {"emerging", "active", "mitigating"}
                if not is_note and (decided.is_by_person or not stays_open):
                    heard = event.heard_sequence
                    self._change(event.pattern_id, status_seq=self.seq if heard is None else heard)
                if event.to_status is pattern.PatternStatus.WATCHING:
                    self._change(event.pattern_id, watched_since=decided.at or NOW)
            case pattern.IssueUnlinked() as event:
                self._release([event.issue_id])
            case pattern.PatternSplit() as event:
                self._release(event.issue_ids)
            case pattern.LinkConstrained() as event:
                self._constrained(event)
            case pattern.PatternsMerged() as event:
                self._merged(event.target_pattern_id, event.source_pattern_id)
            case pattern.LinkSuggested() as event:
                for each in event.suggestions:
                    assert (each.pattern_id in self.living()) and each.pattern_id != event.pattern_id
                    assert each.pattern_id not in self.cannot(self.members[event.issue_id].grouping_key)
                    self.suggested.append((event.issue_id, event.pattern_id, each.pattern_id))
            case pattern.DecisionsContradicted() as event:
                assert self.constraints[event.grouping_key, event.earlier.pattern_id] is event.earlier.kind
                self.contradictions.append(event)
            case pattern.ContradictionAnswered():
                pass
            case _:
                assert_never(decided.event)

    def _change(self, pattern_id: str, **fields: object) -> None:
        self.patterns[pattern_id] = replace(self.patterns[pattern_id], **fields)

    def _linked(self, event: pattern.IssuesLinked) -> None:
        self.patterns.setdefault(event.pattern_id, PatternRow(pattern_id=event.pattern_id))
        for link in event.links:
            before = self.members.get(link.issue_id)
            assert before is None or before.pattern_id is None, "an issue is linked twice"
            self.members[link.issue_id] = Member(
                issue_id=link.issue_id,
                pattern_id=event.pattern_id,
                grouping_key=link.grouping_key,
                score=link.score,
                severity=link.severity,
                occurred_at=link.occurred_at,
                dimensions=self.issues[link.issue_id].dimensions,
            )
        if event.exemplar is not None:
            self.exemplars.setdefault(event.links[0].issue_id, (self.seq, event.exemplar))

    def _release(self, issue_ids: Iterable[str]) -> None:
        for issue_id in issue_ids:
            self.members[issue_id] = replace(self.members[issue_id], pattern_id=None)

    def _constrained(self, event: pattern.LinkConstrained) -> None:
        if event.kind is Kind.MUST_LINK:
            must = self.must(event.grouping_key)
            if must is not None:
                del self.constraints[event.grouping_key, must]
        self.constraints[event.grouping_key, event.pattern_id] = event.kind
        self.about[event.grouping_key, event.pattern_id] = event.issue_id

    def _merged(self, target: str, source: str) -> None:
        """A "never" ends when the other part brings its key; else what was said of either part is said of both."""
        ended: list[tuple[str, str]] = []
        for part, guest in ((target, source), (source, target)):
            brought = {member.grouping_key for member in self.of(guest)}
            brought |= {
                k for (k, p), kind in self.constraints.items() if p == guest and kind is Kind.MUST_LINK
            }
            for key, p in list(self.constraints):
                if p == part and key in brought and self.constraints[key, p] is Kind.CANNOT_LINK:
                    ended.append((key, p))
        for place in ended:
            self.constraints.pop(place)
        for member in self.of(source):
            self.members[member.issue_id] = replace(member, pattern_id=target)
        for key, p in list(self.constraints):
            if p == source:
                kind, issue_id = self.constraints.pop((key, p)), self.about[key, p]
                if (key, target) not in self.constraints:
                    self.constraints[key, target], self.about[key, target] = kind, issue_id
        for row in list(self.patterns.values()):
            if row.pattern_id == source or row.merged_into == source:
                self._change(row.pattern_id, merged_into=target)


def _summary(pattern_id: str, members: list[Member]) -> SummaryRow:
    times = [member.occurred_at for member in members]
    score_sum = sum(round(member.score * 10_000) for member in members)
    return SummaryRow(pattern_id, len(members), score_sum, min(times), max(times))


def _tallies(pattern_id: str, members: list[Member]) -> list[TallyRow]:
    counts: Counter[tuple[str, str]] = Counter()
    for member in members:
        counts["key", member.grouping_key] += 1
        counts["severity", member.severity.value] += 1
        counts["day", str(day_of(member.occurred_at))] += 1
        for name, value in zip(DIMENSIONS, member.dimensions, strict=True):
            if value is not None:
                counts[name, value] += 1
    return [TallyRow(pattern_id, kind, value, n) for (kind, value), n in counts.items()]
