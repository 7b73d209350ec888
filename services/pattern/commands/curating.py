"""What people ask for: links, merges, splits, names, statuses, closure notes."""

from collections.abc import Sequence
from datetime import datetime

from contracts import derived_id, pattern
from contracts.generated.pattern import ConstraintKind, LinkMethod, PatternStatus
from msgspec.structs import replace

from ..engine.describing import fingerprint, name_of
from ..engine.grouping import Grouper
from ..engine.issues import DIMENSIONS, agreement_of
from ..engine.lifecycle import Transition
from ..engine.memory import Pattern
from ..engine.risk import assess
from ..errors import (
    InvalidCommandError,
    NotAMemberError,
    PatternMergedError,
    PatternNotFoundError,
    StatusNotAllowedError,
)
from ..state import Evidence, Known, Leaving, evolve
from .deciding import Decided, Gathered, Subject, described, move, settle, take
from .ruling import constrain, contradict

HUMAN_VERSION = "human@2026-11-22"
MAX_SPLIT = 500
MAX_NAME = 200
MAX_NOTE = 10_000
_ENVIRONMENT = DIMENSIONS.index("environment")


def link_issue(grouper: Grouper, command: pattern.LinkIssue, gathered: Gathered) -> list[Decided]:
    """Put an issue into a pattern for good: later issues with its key follow."""
    pattern_id, issue_id = command.pattern_id, command.issue_id
    _living(grouper, pattern_id)
    subject = gathered.subject(issue_id)
    key, from_id = subject.grouping_key, subject.pattern_id
    if from_id == pattern_id and grouper.must_of(key) == pattern_id:
        return []
    decided: list[Decided] = []
    if from_id is not None and from_id != pattern_id:
        decided += _leave(grouper, gathered.leaving[from_id])
    decided += constrain(grouper, gathered, subject, pattern_id=pattern_id, kind=ConstraintKind.MUST_LINK)
    if from_id != pattern_id:
        decided.append(_join(grouper, pattern_id, [subject]))
        decided += settle(grouper, grouper.patterns[pattern_id])
    return decided


def unlink_issue(grouper: Grouper, command: pattern.UnlinkIssue, gathered: Gathered) -> list[Decided]:
    """Take an issue out of its pattern for good: later issues with its key never join it again."""
    subject = gathered.subject(command.issue_id)
    pattern_id = command.pattern_id or subject.pattern_id
    if pattern_id is None:
        raise NotAMemberError(command.issue_id, None)
    _living(grouper, pattern_id)
    if subject.pattern_id != pattern_id:
        if grouper.is_forbidden(subject.grouping_key, pattern_id):
            return []
        raise NotAMemberError(command.issue_id, pattern_id)
    left = _leave(grouper, gathered.leaving[pattern_id])
    return left + constrain(
        grouper, gathered, subject, pattern_id=pattern_id, kind=ConstraintKind.CANNOT_LINK
    )


def merge_patterns(grouper: Grouper, command: pattern.MergePatterns, gathered: Gathered) -> list[Decided]:
    """Move all members of the source into the target; the source ends."""
    target_id, source_id = command.target_pattern_id, command.source_pattern_id
    if target_id == source_id:
        raise InvalidCommandError("source_pattern_id", "a pattern cannot be merged into itself")
    target = _known(grouper, target_id)
    source = _known(grouper, source_id)
    if source.merged_into == target_id:
        return []
    _living(grouper, target_id)
    _living(grouper, source_id)
    ruling = pattern.Ruling(pattern_id=target_id, kind=ConstraintKind.MUST_LINK, merged_pattern_id=source_id)
    decided = [
        contradict(grouper, gathered, overruled, ruling)
        for overruled in grouper.overruled_by_merge(target_id, source_id)
    ]
    from_status = source.status
    grouper.merge(target_id, source_id)
    merged = pattern.PatternsMerged(
        target_pattern_id=target_id,
        source_pattern_id=source_id,
        assessment=assess(target, newest_at=grouper.newest_at),
    )
    ended = pattern.PatternStatusChanged(
        pattern_id=source_id,
        from_status=from_status,
        to_status=PatternStatus.MERGED,
        reason=f"A person merged it into {target_id}.",
    )
    decided += [Decided(merged, target_id, is_by_person=True), take(grouper, ended, source_id)]
    return decided + settle(grouper, target)


def split_pattern(grouper: Grouper, command: pattern.SplitPattern, gathered: Gathered) -> list[Decided]:
    """Move members into a new pattern; later issues like them follow.

    A key of which every member moves never returns to the old pattern; one that both parts have is decided by the
    dimensions of the issue that arrives.
    """
    pattern_id, name = command.pattern_id, command.name
    old = _living(grouper, pattern_id)
    if not 1 <= len(command.issue_ids) <= MAX_SPLIT:
        raise InvalidCommandError("issue_ids", f"name 1 to {MAX_SPLIT} members")
    subjects = [gathered.subject(issue_id) for issue_id in dict.fromkeys(command.issue_ids)]
    _check_split(old, subjects, name)
    leaving = gathered.leaving[pattern_id]
    moved = [subject.issue_id for subject in subjects]
    new_id = derived_id("pat_", grouper.workspace_id, "split", pattern_id, str(old.version), *sorted(moved))
    decided = _leave(grouper, leaving, new_pattern_id=new_id)
    decided.append(_join(grouper, new_id, subjects))
    new = grouper.patterns[new_id]
    detected = pattern.PatternDetected(
        pattern_id=new_id,
        name=name_of(new, grouper.exemplars_of(new)),
        fingerprint=fingerprint(new, grouper.totals),
        assessment=assess(new, newest_at=grouper.newest_at),
    )
    decided.append(take(grouper, detected, new_id))
    if name is not None:
        decided += _rename(grouper, new, name)
    for key, subject in {subject.grouping_key: subject for subject in subjects}.items():
        if key not in old.keys:
            decided += constrain(
                grouper,
                gathered,
                subject,
                pattern_id=pattern_id,
                kind=ConstraintKind.CANNOT_LINK,
                also_about=moved,
            )
    return decided + settle(grouper, old) + settle(grouper, new)


def update_pattern(grouper: Grouper, command: pattern.UpdatePattern, _gathered: Gathered) -> list[Decided]:
    """Rename a pattern or move it to another status."""
    name, status = command.name, command.status
    found = _living(grouper, command.pattern_id)
    if name is None and status is None:
        raise InvalidCommandError("name", "give a name, a status or both")
    is_moved = status is not None and status is not found.status
    if status is not None and is_moved:
        _check_status(found, status)
    _check_name(name)
    decided: list[Decided] = []
    if name is not None:
        decided += _rename(grouper, found, name)
    if status is not None and is_moved:
        moved = Transition(status, f"A person set it to {status.value}.")
        decided.append(move(grouper, found, moved, is_by_person=True))
    return decided


def close_pattern(
    grouper: Grouper, command: pattern.ClosePattern, _gathered: Gathered, *, now: datetime
) -> list[Decided]:
    """Record what was done about a pattern and start the proof of it, unless one runs already that the note is about."""
    found = _living(grouper, command.pattern_id)
    note = command.closure_note.strip()
    if not 1 <= len(note) <= MAX_NOTE:
        raise InvalidCommandError("closure_note", f"say in 1 to {MAX_NOTE:,} characters what was done")
    _check_text("closure_note", note)
    if found.status is PatternStatus.CANDIDATE:
        raise StatusNotAllowedError("watching", "it has too few issues to be a pattern yet")
    for field, text in (("environment", command.environment), ("version", command.version)):
        if text is not None and not 1 <= len(text.strip()) <= MAX_NAME:
            raise InvalidCommandError(field, f"must have 1 to {MAX_NAME} characters")
        _check_text(field, text or "")
    reason = "A person closed it with a note; the proof of the fix runs."
    transition = Transition(PatternStatus.WATCHING, reason, _fixed_at(grouper, found, command, now=now))
    return [move(grouper, found, transition, closure=command, is_by_person=True)]


def _fixed_at(grouper: Grouper, found: Pattern, command: pattern.ClosePattern, *, now: datetime) -> datetime:
    """When the fix was made that a closure is about."""
    if command.fixed_at is not None:
        if command.fixed_at > now:
            raise InvalidCommandError("fixed_at", "must not be in the future")
        return command.fixed_at
    verdict = grouper.verdict_of(found)
    is_proving = verdict is None or verdict.fixed_at < found.watched_since
    if found.status is PatternStatus.WATCHING and is_proving and not (command.environment or command.version):
        return found.watched_since
    # A source's clock may be ahead: what is known of the failure now does not break the proof.
    return max(now, found.last_seen_at)


def _leave(grouper: Grouper, leaving: Leaving, *, new_pattern_id: str | None = None) -> list[Decided]:
    """Members leave their pattern: one by a person's word, or several for a new pattern."""
    pattern_id = leaving.members[0].pattern_id
    if pattern_id is None:
        return []
    found = grouper.patterns[pattern_id]
    grouper.unlink(
        found, leaving.members, first_seen_at=leaving.first_seen_at, last_seen_at=leaving.last_seen_at
    )
    assessment = replace(
        assess(found, newest_at=grouper.newest_at),
        first_seen_at=leaving.first_seen_at,
        last_seen_at=leaving.last_seen_at,
    )
    if new_pattern_id is not None:
        split = pattern.PatternSplit(
            pattern_id=pattern_id,
            new_pattern_id=new_pattern_id,
            issue_ids=tuple(member.issue_id for member in leaving.members),
            assessment=assessment,
        )
        return [Decided(split, pattern_id, is_by_person=True)]
    return [
        Decided(
            pattern.IssueUnlinked(pattern_id=pattern_id, issue_id=member.issue_id, assessment=assessment),
            pattern_id,
            issue_id=member.issue_id,
            is_by_person=True,
        )
        for member in leaving.members
    ]


def _join(grouper: Grouper, pattern_id: str, subjects: Sequence[Subject]) -> Decided:
    """Issues become members by a person's word; the first one's text, where it is known, is compared from now on."""
    before = grouper.patterns.get(pattern_id)
    links = tuple(
        pattern.Link(
            issue_id=subject.issue_id,
            score=1.0,
            method=LinkMethod.HUMAN,
            method_version=HUMAN_VERSION,
            matched_dimensions=agreement_of(before.agreement(subject.dimensions)) if before else (),
            grouping_key=subject.grouping_key,
            occurred_at=subject.occurred_at,
            severity=subject.severity,
            environment=subject.dimensions[_ENVIRONMENT],
            version=subject.version,
        )
        for subject in subjects
    )
    exemplar = None if grouper.has_exemplar(subjects[0].issue_id) else subjects[0].text
    unassessed = pattern.Assessment(
        issue_count=0,
        risk_score=0.0,
        confidence=0.0,
        first_seen_at=subjects[0].occurred_at,
        last_seen_at=subjects[0].occurred_at,
    )
    event = pattern.IssuesLinked(
        pattern_id=pattern_id, links=links, assessment=unassessed, exemplar=exemplar or None
    )
    joining = {subject.issue_id: Known(subject.title, subject.dimensions) for subject in subjects}
    evolve(grouper, event, at=grouper.newest_at, is_by_person=True, evidence=Evidence(joining))
    assessment = assess(grouper.patterns[pattern_id], newest_at=grouper.newest_at)
    linked = pattern.IssuesLinked(
        pattern_id=pattern_id, links=links, assessment=assessment, exemplar=exemplar or None
    )
    return Decided(linked, pattern_id, issue_id=subjects[0].issue_id, is_by_person=True)


def _rename(grouper: Grouper, found: Pattern, name: str) -> list[Decided]:
    name = name.strip()
    if name == found.name and found.is_named_by_person:
        return []
    return [take(grouper, described(grouper, found, name), found.pattern_id)]


def _check_status(found: Pattern, status: PatternStatus) -> None:
    if found.status is PatternStatus.CANDIDATE:
        raise StatusNotAllowedError(status.value, "it has too few issues to be a pattern yet")
    match status:
        case PatternStatus.ACTIVE | PatternStatus.MITIGATING:
            return
        case PatternStatus.WATCHING:
            raise StatusNotAllowedError(status.value, "close it with a note of what was done")
        case PatternStatus.RESOLVED:
            raise StatusNotAllowedError(
                status.value, "close it with a note; it is resolved once the fix is verified"
            )
        case PatternStatus.CANDIDATE | PatternStatus.EMERGING | PatternStatus.MERGED:
            raise StatusNotAllowedError(status.value, "set it to active or mitigating, or close it")


def _check_name(name: str | None) -> None:
    if name is not None and not 1 <= len(name.strip()) <= MAX_NAME:
        raise InvalidCommandError("name", f"must have 1 to {MAX_NAME} characters")
    _check_text("name", name or "")


def _check_text(field: str, text: str) -> None:
    """No database row can hold U+0000, so no event may."""
    if "\x00" in text:
        raise InvalidCommandError(field, "must not hold the character U+0000")


def _check_split(old: Pattern, subjects: Sequence[Subject], name: str | None) -> None:
    _check_name(name)
    for subject in subjects:
        if subject.pattern_id != old.pattern_id:
            raise NotAMemberError(subject.issue_id, old.pattern_id)
    if len(subjects) >= old.n_members:
        raise InvalidCommandError("issue_ids", "at least one member must stay")


def _known(grouper: Grouper, pattern_id: str) -> Pattern:
    found = grouper.patterns.get(pattern_id)
    if found is None:
        raise PatternNotFoundError(pattern_id)
    return found


def _living(grouper: Grouper, pattern_id: str) -> Pattern:
    found = _known(grouper, pattern_id)
    if found.status is PatternStatus.MERGED:
        raise PatternMergedError(pattern_id, found.merged_into)
    return found
