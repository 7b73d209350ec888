"""What happens by itself: undecided issues are grouped, patterns are detected, moved and described."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from contracts import derived_id, pattern
from contracts.generated.ingest import Severity
from contracts.generated.pattern import PatternStatus
from msgspec import Struct
from msgspec.structs import replace

from ..engine.describing import GROWTH_TO_DESCRIBE_ANEW, fingerprint, name_of
from ..engine.grouping import Assignment, Grouper, New
from ..engine.issues import Dimensions, Issue, compared_text, features_of
from ..engine.lifecycle import Transition, due, is_to_detect
from ..engine.memory import NEVER, Member, Pattern
from ..engine.repairing import Failure, is_worth_saying, mttr_seconds
from ..engine.risk import assess
from ..errors import IssueNotFoundError
from ..state import Leaving, evolve


class Decided(Struct, frozen=True):
    """An event that a decision asks for.

    pattern_id: the aggregate. at: event time; None = now. issue_id: the issue that it follows from, if one.
    is_by_person: a person asked for it; the rules did otherwise.
    """

    event: pattern.Event
    pattern_id: str
    at: datetime | None = None
    issue_id: str | None = None
    is_by_person: bool = False


class Subject(Struct, frozen=True):
    """An issue that a person's command is about, as the rows and the log tell of it.

    member: its membership; None while it is undecided. text: what the index compares, if it is known.
    version: in which it failed, if it is known.
    """

    issue_id: str
    title: str
    grouping_key: str
    severity: Severity
    occurred_at: datetime
    dimensions: Dimensions
    member: Member | None
    text: str | None = None
    version: str | None = None

    @property
    def pattern_id(self) -> str | None:
        """The pattern that it is in now."""
        return None if self.member is None else self.member.pattern_id


class Gathered(Struct, frozen=True):
    """What a command needs of the rows: its issues, and by pattern those of them that are members.

    rulings: by grouping key and pattern the decisions in force that it may overrule, with who took them and when.
    """

    subjects: Mapping[str, Subject] = {}
    leaving: Mapping[str, Leaving] = {}
    rulings: Mapping[tuple[str, str], pattern.Ruling] = {}

    def subject(self, issue_id: str) -> Subject:
        """One of the issues. Raises IssueNotFoundError."""
        found = self.subjects.get(issue_id)
        if found is None:
            raise IssueNotFoundError(issue_id)
        return found


class _Open(Struct):
    """An IssuesLinked in the making."""

    pattern_id: str
    links: list[pattern.Link]
    exemplar: str | None
    assessment: pattern.Assessment | None = None


def group(grouper: Grouper, issues: Iterable[Issue]) -> list[Decided]:
    """Put every issue into a pattern: one IssuesLinked per pattern, then what follows from its new members.

    Where an issue begins a pattern although it may belong to others, those are suggested behind it.

    A further text that stands for a pattern begins a further IssuesLinked, for an event has room for one. They
    come in the order in which they began, which is the order of the texts in the index.
    """
    in_order: list[_Open] = []
    latest: dict[str, _Open] = {}
    suggested: dict[str, Decided] = {}
    for issue in issues:
        assignment = grouper.assign(issue)
        pattern_id, exemplar = assignment.pattern_id, assignment.exemplar
        entry = latest.get(pattern_id)
        if entry is None or exemplar is not None:
            if entry is not None:
                entry.assessment = assess(grouper.patterns[pattern_id], newest_at=grouper.newest_at)
            entry = latest[pattern_id] = _Open(pattern_id, [], exemplar)
            in_order.append(entry)
        grouper.link(assignment.member(issue), exemplar=exemplar, title=issue.title)
        entry.links.append(_link(assignment, issue))
        if isinstance(assignment, New) and assignment.suggestions:
            suggested[pattern_id] = _suggest(grouper, assignment, issue)
    decided: list[Decided] = []
    for entry in in_order:
        decided.append(_close(grouper, entry))
        if entry.pattern_id in suggested:
            decided.append(suggested.pop(entry.pattern_id))
    for pattern_id, entry in latest.items():
        following = settle(grouper, grouper.patterns[pattern_id])
        decided += [replace(each, issue_id=entry.links[-1].issue_id) for each in following]
    return decided


def settle(grouper: Grouper, found: Pattern) -> list[Decided]:
    """Every event that the rules ask for as the pattern now is: detected, moved, described."""
    decided: list[Decided] = []
    while (following := _next_due(grouper, found)) is not None:
        evolve(grouper, following.event, at=following.at or found.last_seen_at, is_by_person=False)
        decided.append(following)
    return decided


def measure(grouper: Grouper, found: Pattern, failures: Sequence[Failure]) -> list[Decided]:
    """Describe a pattern anew when its mean time to repair has moved. failures: in order of occurrence."""
    closed_at = None if found.watched_since == NEVER else found.watched_since
    now = mttr_seconds(failures, closed_at=closed_at)
    if not is_worth_saying(found.mttr_seconds, now):
        return []
    found.mttr_seconds = now
    event = described(grouper, found)
    evolve(grouper, event, at=grouper.newest_at, is_by_person=False)
    return [Decided(event, found.pattern_id)]


def subject_of(issue: Issue) -> Subject:
    """An issue that no pattern has yet, as the subject of a command."""
    features = features_of(issue)
    return Subject(
        issue_id=issue.issue_id,
        title=issue.title,
        grouping_key=features.key,
        severity=issue.severity,
        occurred_at=issue.occurred_at,
        dimensions=issue.dimensions,
        member=None,
        text=compared_text(issue, features) or None,
        version=issue.version,
    )


def described(grouper: Grouper, found: Pattern, name: str | None = None) -> pattern.PatternDescribed:
    """What a pattern is now, with this name; None: the one that it should have."""
    if name is None:
        keeps = found.is_named_by_person
        name = found.name if keeps else name_of(found, grouper.exemplars_of(found))
    return pattern.PatternDescribed(
        pattern_id=found.pattern_id,
        name=name,
        fingerprint=fingerprint(found, grouper.totals),
        assessment=assess(found, newest_at=grouper.newest_at),
    )


def _changed(
    found: Pattern,
    transition: Transition,
    closure: pattern.ClosePattern | None = None,
    *,
    heard_sequence: int | None = None,
) -> pattern.PatternStatusChanged:
    return pattern.PatternStatusChanged(
        pattern_id=found.pattern_id,
        from_status=found.status,
        to_status=transition.to_status,
        reason=transition.reason,
        closure_note=None if closure is None else closure.closure_note.strip(),
        fix_environment=None if closure is None else closure.environment,
        fix_version=None if closure is None else closure.version,
        heard_sequence=heard_sequence,
    )


def move(
    grouper: Grouper,
    found: Pattern,
    transition: Transition,
    *,
    closure: pattern.ClosePattern | None = None,
    is_by_person: bool = False,
) -> Decided:
    """Take a change of status. closure: what a person says of the fix."""
    changed = _changed(found, transition, closure)
    evolve(grouper, changed, at=transition.at or grouper.newest_at, is_by_person=is_by_person)
    return Decided(changed, found.pattern_id, transition.at, is_by_person=is_by_person)


def take(grouper: Grouper, event: pattern.Event, pattern_id: str, *, issue_id: str | None = None) -> Decided:
    """Take an event that a person asked for."""
    evolve(grouper, event, at=grouper.newest_at, is_by_person=True)
    return Decided(event, pattern_id, issue_id=issue_id, is_by_person=True)


def _next_due(grouper: Grouper, found: Pattern) -> Decided | None:
    if is_to_detect(found, grouper.settings):
        detected = pattern.PatternDetected(
            pattern_id=found.pattern_id,
            name=name_of(found, grouper.exemplars_of(found)),
            fingerprint=fingerprint(found, grouper.totals),
            assessment=assess(found, newest_at=grouper.newest_at),
        )
        return Decided(detected, found.pattern_id)
    recommendations, verdict = grouper.recommendations_of(found), grouper.verdict_of(found)
    transition = due(found, recommendations, verdict)
    if transition is not None:
        heard = max((row.seq for row in (*recommendations, *((verdict,) if verdict else ()))), default=None)
        return Decided(_changed(found, transition, heard_sequence=heard), found.pattern_id, transition.at)
    has_grown = found.n_members >= GROWTH_TO_DESCRIBE_ANEW * found.described_count
    if found.described_count and has_grown and found.status is not PatternStatus.MERGED:
        return Decided(described(grouper, found), found.pattern_id)
    return None


def _link(assignment: Assignment, issue: Issue) -> pattern.Link:
    return pattern.Link(
        issue_id=issue.issue_id,
        score=assignment.score,
        method=assignment.method,
        method_version=assignment.method_version,
        matched_dimensions=assignment.matched_dimensions,
        grouping_key=assignment.grouping_key,
        occurred_at=issue.occurred_at,
        severity=issue.severity,
        environment=issue.environment,
        version=issue.version,
    )


def _suggest(grouper: Grouper, begun: New, issue: Issue) -> Decided:
    suggestions = tuple(
        pattern.Suggestion(
            suggestion_id=derived_id("sug_", grouper.workspace_id, issue.issue_id, each.pattern_id),
            pattern_id=each.pattern_id,
            score=each.score,
            method=each.method,
            method_version=each.method_version,
            matched_dimensions=each.matched_dimensions,
        )
        for each in begun.suggestions
    )
    event = pattern.LinkSuggested(
        pattern_id=begun.pattern_id, issue_id=issue.issue_id, suggestions=suggestions
    )
    return Decided(event, begun.pattern_id, issue_id=issue.issue_id)


def _close(grouper: Grouper, entry: _Open) -> Decided:
    linked = pattern.IssuesLinked(
        pattern_id=entry.pattern_id,
        links=tuple(entry.links),
        assessment=entry.assessment
        or assess(grouper.patterns[entry.pattern_id], newest_at=grouper.newest_at),
        exemplar=entry.exemplar,
    )
    return Decided(linked, entry.pattern_id, issue_id=entry.links[0].issue_id)
