"""The fold: events of the log change what a workspace's grouper knows. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never

import msgspec
from contracts import Event, Recorded, ingest, pattern
from contracts.generated.ingest import IssueStatus
from contracts.generated.pattern import PatternStatus
from msgspec import Struct

from .engine.grouping import Grouper
from .engine.issues import Dimensions, Issue
from .engine.lifecycle import OPEN_STATUSES
from .engine.memory import NOT_YET_STORED, Member, Pattern


class Known(Struct, frozen=True):
    """What the fold needs of an issue and no event of a pattern repeats."""

    title: str
    dimensions: Dimensions


class Leaving(Struct, frozen=True):
    """Members that leave a pattern, and the times of those that stay."""

    members: Sequence[Member]
    first_seen_at: datetime
    last_seen_at: datetime


class Evidence(Struct, frozen=True):
    """What rows say about the issues of an event: those that join, and those that leave."""

    joining: Mapping[str, Known] = {}
    leaving: Leaving | None = None


class MissingEvidenceError(Exception):
    """An event is about issues that are not in memory; it must be read from the rows instead."""


NO_EVIDENCE = Evidence()


_FINAL = frozenset({IssueStatus.RESOLVED, IssueStatus.CLOSED, IssueStatus.WONT_FIX})


def has_ended(status: IssueStatus) -> bool:
    """Whether an issue with this status is over."""
    return status in _FINAL


def report_of(history: Sequence[Recorded[Event]]) -> Recorded[Event] | None:
    """The report that an issue's history begins with: what restored an issue while it was purged is one, too."""
    for event in history[:1]:
        data = event.data.issue if isinstance(event.data, ingest.IssueRestored) else event.data
        if isinstance(data, ingest.IssueReported):
            return msgspec.structs.replace(event, data=data)
    return None


def issue_of(event: Recorded[Event], data: ingest.IssueReported) -> Issue:
    """The issue that an IssueReported tells of."""
    return Issue(
        issue_id=data.issue_id,
        title=data.title,
        body=data.body,
        source=data.source,
        severity=data.severity,
        occurred_at=event.time,
        service=data.service,
        component=data.component,
        error_type=data.error_type,
        team=data.team,
        environment=data.environment,
        version=data.version,
    )


def evolve(
    grouper: Grouper,
    event: pattern.Event,
    *,
    at: datetime,
    is_by_person: bool,
    evidence: Evidence = NO_EVIDENCE,
) -> None:
    """Change the grouper as one event says; its place in the log is noted by `stamp`.

    at: event time. Raises MissingEvidenceError before anything changes when an issue is not in the evidence.
    """
    match event:
        case pattern.IssuesLinked():
            _linked(grouper, event, evidence.joining)
        case pattern.PatternDetected():
            found = _pattern(grouper, event.pattern_id)
            found.status_seq = NOT_YET_STORED
            _set_status(found, PatternStatus.EMERGING, at)
            _describe(found, event.name, event.assessment, is_by_person=False)
        case pattern.PatternDescribed():
            found = _pattern(grouper, event.pattern_id)
            _describe(found, event.name, event.assessment, is_by_person=is_by_person)
        case pattern.PatternStatusChanged():
            found = _pattern(grouper, event.pattern_id)
            if is_decision(event, is_by_person=is_by_person):
                heard = event.heard_sequence
                found.status_seq = NOT_YET_STORED if heard is None else heard
            _set_status(found, event.to_status, at)
        case pattern.IssueUnlinked() | pattern.PatternSplit():
            leaving = evidence.leaving
            if leaving is None:
                raise MissingEvidenceError(event.pattern_id)
            grouper.unlink(
                _pattern(grouper, event.pattern_id),
                leaving.members,
                first_seen_at=leaving.first_seen_at,
                last_seen_at=leaving.last_seen_at,
            )
        case pattern.LinkConstrained():
            grouper.constrain(event.grouping_key, event.pattern_id, event.kind)
        case pattern.PatternsMerged():
            _pattern(grouper, event.source_pattern_id)
            grouper.merge(_pattern(grouper, event.target_pattern_id).pattern_id, event.source_pattern_id)
        case pattern.LinkSuggested() | pattern.DecisionsContradicted() | pattern.ContradictionAnswered():
            # Questions to people; the constraints that answer them are what grouping obeys.
            pass
        case pattern.ClustersComputed():
            # What hangs together has no say in grouping.
            return
        case (
            pattern.GroupingVersionFitted()
            | pattern.GroupingVersionCompared()
            | pattern.GroupingVersionActivated()
        ):
            # Which linker is asked changes nothing that is known.
            return
        case _:
            assert_never(event)


def stamp(grouper: Grouper, event: pattern.Event, *, pattern_id: str, seq: int) -> None:
    """Note where an event that `evolve` has taken is in the log."""
    found = _pattern(grouper, pattern_id)
    found.version = seq
    if isinstance(event, pattern.PatternDetected | pattern.PatternStatusChanged):
        if found.status_seq == NOT_YET_STORED:
            found.status_seq = seq
    elif isinstance(event, pattern.IssuesLinked) and event.exemplar is not None and event.links:
        grouper.place(event.links[0].issue_id, seq)


def is_decision(event: pattern.PatternStatusChanged, *, is_by_person: bool) -> bool:
    """Whether what recommendations and verdicts said before it has no say any more.

    Not so when somebody only says more of a fix that is being watched, and when a rule moves a pattern that stays open:
    what was said before that and comes to us after it still stands.
    """
    is_note = (
        event.from_status is event.to_status is PatternStatus.WATCHING
        and event.closure_note is not None
        and event.fix_environment is None
        and event.fix_version is None
    )
    stays_open = {event.from_status, event.to_status} <= OPEN_STATUSES
    return not is_note and (is_by_person or not stays_open)


def member_of(link: pattern.Link, *, pattern_id: str, dimensions: Dimensions) -> Member:
    """The membership that a link tells of."""
    return Member(
        issue_id=link.issue_id,
        pattern_id=pattern_id,
        grouping_key=link.grouping_key,
        score=link.score,
        severity=link.severity,
        occurred_at=link.occurred_at,
        dimensions=dimensions,
    )


def _linked(grouper: Grouper, event: pattern.IssuesLinked, joining: Mapping[str, Known]) -> None:
    for link in event.links:
        if link.issue_id not in joining:
            raise MissingEvidenceError(link.issue_id)
    exemplar = event.exemplar
    for link in event.links:
        known = joining[link.issue_id]
        member = member_of(link, pattern_id=event.pattern_id, dimensions=known.dimensions)
        grouper.link(member, exemplar=exemplar, title=known.title)
        exemplar = None


def _pattern(grouper: Grouper, pattern_id: str) -> Pattern:
    found = grouper.patterns.get(pattern_id)
    if found is None:
        raise MissingEvidenceError(pattern_id)
    return found


def _set_status(found: Pattern, status: PatternStatus, at: datetime) -> None:
    found.status = status
    if status is PatternStatus.WATCHING:
        found.watched_since = at


def _describe(found: Pattern, name: str, assessment: pattern.Assessment, *, is_by_person: bool) -> None:
    found.name = name
    found.described_count = assessment.issue_count
    if assessment.mttr_seconds is not None:
        found.mttr_seconds = assessment.mttr_seconds
    found.is_named_by_person = found.is_named_by_person or is_by_person
