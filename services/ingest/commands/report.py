"""One reported failure: its canonical shape, its identity, and what it changes."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from contracts import ingest, issue_id
from msgspec import Struct
from msgspec.structs import replace

from services.ingest.commands.canonical import (
    GROUPS,
    SEVERITIES,
    STATUSES,
    Cleaner,
    is_same_metadata,
    slug,
    usable_line,
)
from services.ingest.commands.sources import known_source
from services.ingest.errors import InvalidIssueError
from services.ingest.state import OPTIONAL_FIELDS, Issue, evolve

T = TypeVar("T")

_OURS_ALONE = frozenset({ingest.IssueStatus.IN_LOOP, ingest.IssueStatus.PATTERN_FOUND})
_ISSUE_ID = re.compile(r"iss_[0-9A-HJKMNP-TV-Z]{26}")


class ReportIssue(Struct, frozen=True, kw_only=True, gc=False):
    """One failure in canonical shape.

    None: the source did not say. An empty optional field: the source says that there is no value.
    status_group: the group that the source named instead of a status.
    """

    issue_id: str
    source: str
    external_id: str
    title: str | None = None
    body: str | None = None
    severity: ingest.Severity | None = None
    status: ingest.IssueStatus | None = None
    status_group: str | None = None
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    assignee: str | None = None
    external_url: str | None = None
    connector_id: str | None = None
    source_created_at: datetime | None = None
    source_updated_at: datetime | None = None
    metadata: dict[str, object] | None = None


class Change(Struct, frozen=True, gc=False):
    """What a decision adds to an issue's history, and when it happened."""

    event: ingest.Event
    occurred_at: datetime


def canonical_report(
    record: ingest.IssueReport, *, workspace_id: str, fresh_id: str | None, now: datetime
) -> ReportIssue:
    """The command that a record stands for.

    fresh_id: an external_id for a record without one; None where one is required.
    Raises InvalidIssueError with every field that is wrong.
    """
    clean = Cleaner(now=now)
    metadata = None if record.metadata is None else clean.metadata(record.metadata)
    external_id = _external_id(clean, record.external_id, fresh_id)
    source = known_source(record.source)
    command = ReportIssue(
        issue_id=issue_id(workspace_id, source, external_id),
        source=source,
        external_id=external_id,
        title=_filled(clean, "title", record.title),
        body=None if record.body is None else clean.text("body", record.body),
        severity=_choice(clean, "severity", record.severity, SEVERITIES),
        status=_choice(clean, "status", record.status, STATUSES),
        status_group=_group(record.status),
        service=_said(clean, "service", record.service, metadata),
        component=_said(clean, "component", record.component, metadata),
        error_type=_said(clean, "error_type", record.error_type, metadata),
        environment=_said(clean, "environment", record.environment, metadata),
        version=_said(clean, "version", record.version, metadata),
        team=_said(clean, "team", record.team),
        assignee=_said(clean, "assignee", record.assignee),
        external_url=None if record.external_url is None else clean.url("external_url", record.external_url),
        connector_id=_filled(clean, "connector_id", record.connector_id),
        source_created_at=_moment(clean, "source_created_at", record.source_created_at),
        source_updated_at=_moment(clean, "source_updated_at", record.source_updated_at),
        metadata=metadata,
    )
    if clean.problems:
        raise InvalidIssueError(clean.problems)
    return command


def report_issue(cmd: ReportIssue, state: Issue | None, *, now: datetime) -> Change | None:
    """A new issue, the fields of a known one that changed, or None when the report says nothing new.

    Last writer wins, by `source_updated_at`: a newer revision, and one without a time, changes what it
    sends; the known revision once more leaves alone what was edited here since; an older one changes
    nothing. A field that the report leaves out stays as it is. An expired issue is back, whatever the report says.
    """
    if state is None:
        return Change(_new_issue(cmd), cmd.source_created_at or now)
    known = state.content
    revision, sent = known.source_updated_at, cmd.source_updated_at
    is_newer = sent is not None and (revision is None or sent > revision)
    event = delta(state, _wanted(cmd, state))
    if is_newer:
        event = replace(event or ingest.IssueUpdated(issue_id=cmd.issue_id), source_updated_at=sent)
    if state.is_expired:
        after = state if event is None else evolve(state, event, at=sent or now)
        return Change(
            ingest.IssueRestored(issue_id=cmd.issue_id, issue=after.content), occurred_at=state.occurred_at
        )
    return None if event is None else Change(event, sent or now)


def is_late(cmd: ReportIssue, state: Issue | None) -> bool:
    """Whether a report is of an older revision than the known one."""
    if state is None or cmd.source_updated_at is None or state.content.source_updated_at is None:
        return False
    return cmd.source_updated_at < state.content.source_updated_at


def is_time_alone(change: Change) -> bool:
    """Whether nothing of an issue changes but when its source says that it changed last."""
    event = change.event
    return isinstance(event, ingest.IssueUpdated) and event == ingest.IssueUpdated(
        issue_id=event.issue_id, source_updated_at=event.source_updated_at
    )


def delta(state: Issue, wanted: dict[str, object]) -> ingest.IssueUpdated | None:
    """The fields of `wanted` (name → value, "" empties an optional one) that differ; None when none does."""
    known = state.content
    changed: dict[str, object] = {}
    cleared: list[str] = []
    for field, value in wanted.items():
        if field == "metadata":
            if isinstance(value, dict) and not is_same_metadata(value, known.metadata):
                changed[field] = value
        elif value == "" and field in OPTIONAL_FIELDS:
            if getattr(known, field) is not None:
                cleared.append(field)
        elif value != getattr(known, field):
            changed[field] = value
    if not changed and not cleared:
        return None
    return replace(ingest.IssueUpdated(issue_id=known.issue_id, cleared=tuple(cleared)), **changed)


def is_issue_id(value: str) -> bool:
    """Whether a string has the form of an issue's id."""
    return value.startswith("iss_") and _ISSUE_ID.fullmatch(value) is not None


def is_in_group(status: ingest.IssueStatus, group: str) -> bool:
    """Whether a status already belongs to the status group of this name, so that naming it changes nothing."""
    return group in GROUPS and status in GROUPS[group]


def _new_issue(cmd: ReportIssue) -> ingest.IssueReported:
    return ingest.IssueReported(
        issue_id=cmd.issue_id,
        source=cmd.source,
        external_id=cmd.external_id,
        title=cmd.title or cmd.external_id,
        body=cmd.body or "",
        severity=cmd.severity or ingest.Severity.P3,
        status=cmd.status or ingest.IssueStatus.NEW,
        service=cmd.service or None,
        component=cmd.component or None,
        error_type=cmd.error_type or None,
        environment=cmd.environment or None,
        version=cmd.version or None,
        team=cmd.team or None,
        assignee=cmd.assignee or None,
        external_url=cmd.external_url or None,
        connector_id=cmd.connector_id,
        source_updated_at=cmd.source_updated_at,
        metadata=cmd.metadata or {},
    )


def _wanted(cmd: ReportIssue, state: Issue) -> dict[str, object]:
    """What the report may change, by name: what it says, less what something newer has said."""
    if is_late(cmd, state):
        return {}
    revision, sent = state.content.source_updated_at, cmd.source_updated_at
    wanted: dict[str, object] = {
        field: value
        for field in ("title", "body", "severity", "status", *OPTIONAL_FIELDS, "metadata")
        if (value := getattr(cmd, field)) is not None
    }
    if cmd.status_group and _says_nothing_new(state.content.status, cmd.status_group):
        wanted.pop("status", None)
    if sent is not None and sent == revision:
        return {field: value for field, value in wanted.items() if field not in state.edited}
    return wanted


def _says_nothing_new(status: ingest.IssueStatus, group: str) -> bool:
    """Whether a source that names this group leaves the status alone.

    To its source an issue that we found a pattern of, or that came back, is simply open.
    """
    return is_in_group(status, group) or (group == "open" and status in _OURS_ALONE)


def _external_id(clean: Cleaner, value: str | None, fresh_id: str | None) -> str:
    """The source's own id, or the fresh one; a problem where neither is there."""
    external_id = (clean.external_id(value) if value else "") or fresh_id
    if external_id is None:
        problem = "is required in a batch, so that sending it again changes nothing; add it"
        clean.problems["external_id"] = problem
    return external_id or ""


def _group(status: str | None) -> str | None:
    group = slug(status) if status else None
    return group if group in GROUPS else None


def _choice(clean: Cleaner, field: str, value: str | None, spellings: Mapping[str, T]) -> T | None:
    return clean.one_of(field, value, spellings) if value and not value.isspace() else None


def _filled(clean: Cleaner, field: str, value: str | None) -> str | None:
    return (clean.line(field, value) or None) if value else None


def _said(
    clean: Cleaner, field: str, value: str | None, metadata: dict[str, object] | None = None
) -> str | None:
    """What the record says about an optional field; where it is silent, a usable string of its metadata."""
    if value is not None:
        return clean.line(field, value)
    return usable_line(metadata[field]) if metadata and field in metadata else None


def _moment(clean: Cleaner, field: str, value: datetime | None) -> datetime | None:
    return None if value is None else clean.moment(field, value)
