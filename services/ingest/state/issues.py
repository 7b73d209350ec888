"""The fold: an issue's events give the issue as it is now."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from contracts import Event, Recorded, ingest
from msgspec import Struct
from msgspec.structs import replace

OPTIONAL_FIELDS = (
    "service",
    "component",
    "error_type",
    "environment",
    "version",
    "team",
    "assignee",
    "external_url",
)
"""Fields of an issue that may have no value."""

_CHANGEABLE_FIELDS = (
    "title",
    "body",
    "severity",
    "status",
    *OPTIONAL_FIELDS,
    "source_updated_at",
    "metadata",
)


class Issue(Struct, frozen=True, kw_only=True):
    """An issue and what the decisions need to know of its past.

    content: every field as it is now.
    occurred_at: when the failure happened at its source.
    edited: fields that changed after the source's last known revision, so that the same revision,
    delivered once more, must leave them alone.
    analysis: the one that runs.
    is_expired: it is shown to nobody; only a report brings it back.
    """

    content: ingest.IssueReported
    occurred_at: datetime
    edited: frozenset[str] = frozenset()
    analysis: ingest.AnalysisStarted | None = None
    is_expired: bool = False


def evolve(state: Issue | None, event: ingest.Event, *, at: datetime) -> Issue:
    """The issue after one more event that happened `at`.

    Raises ValueError when the first event does not have all of the issue: the log is broken.
    """
    if isinstance(event, ingest.IssueReported):
        return Issue(content=event, occurred_at=at)
    if isinstance(event, ingest.IssueRestored):
        return Issue(content=event.issue, occurred_at=at)
    if state is None:
        raise ValueError(f"the history does not begin with IssueReported but with {type(event).__name__}")
    match event:
        case ingest.IssueUpdated():
            return _updated(state, event, at)
        case ingest.IssueClosed():
            return replace(
                state,
                content=replace(state.content, status=event.status),
                edited=_edited(state, {"status"}, at),
            )
        case ingest.AnalysisStarted():
            return replace(state, analysis=event)
        case ingest.AnalysisRecorded():
            return _analyzed(state, event, at)
        case ingest.IssueCommented() | ingest.ModelAsked():
            return state
        case ingest.IssueExpired():
            return replace(state, is_expired=True)
        case ingest.IssuesPurged() | ingest.PromptsExpired():
            # Told of many issues on their workspace; what it purges has no history any more.
            return state
        case _:
            assert_never(event)


def fold(history: Iterable[Recorded[Event]]) -> Issue | None:
    """The issue that these events, oldest first, add up to; None when there are none."""
    state: Issue | None = None
    for recorded in history:
        if isinstance(recorded.data, ingest.Event):
            state = evolve(state, recorded.data, at=recorded.time)
    return state


def _updated(state: Issue, event: ingest.IssueUpdated, at: datetime) -> Issue:
    changes: dict[str, object] = {
        field: value for field in _CHANGEABLE_FIELDS if (value := getattr(event, field)) is not None
    }
    # A new revision is newer than every edit before it.
    is_new_revision = event.source_updated_at is not None
    touched = {*changes, *event.cleared}
    return replace(
        state,
        content=replace(state.content, **changes, **dict.fromkeys(event.cleared)),
        edited=frozenset() if is_new_revision else _edited(state, touched, at),
    )


def _analyzed(state: Issue, event: ingest.AnalysisRecorded, at: datetime) -> Issue:
    is_same = state.content.status == event.status
    return replace(
        state,
        content=replace(state.content, status=event.status),
        edited=state.edited if is_same else _edited(state, {"status"}, at),
        analysis=None,
    )


def _edited(state: Issue, touched: set[str], at: datetime) -> frozenset[str]:
    """The edited fields once `touched` changed too; a revision's own or an older time is not an edit."""
    revision = state.content.source_updated_at
    if revision is None or at <= revision:
        return state.edited
    return state.edited | touched
