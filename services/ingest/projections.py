"""Events become rows: how much came in from where."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import assert_never

import msgspec
from contracts import Event, Recorded, ingest
from eventlog import Connection
from msgspec import Struct

from services.ingest import _queries

AGGREGATES = ("issue", "retention")


class _Source(Struct):
    """What one source delivered on one day, as far as the batch goes."""

    workspace_id: str
    day: date
    source: str
    n_issues: int
    last_occurred_at: datetime
    last_recorded_at: datetime


class _Changes(Struct):
    """What changed on one day, as far as the batch goes."""

    workspace_id: str
    day: date
    outcome: str
    n_changes: int
    last_recorded_at: datetime


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Add a batch to the counts; one statement per table, and again behind every purge."""
    sources: dict[tuple[str, date, str], _Source] = {}
    changes: dict[tuple[str, date, str], _Changes] = {}
    for event in batch:
        data = event.data
        # Only ingest writes to issues; a newer build's event of another kind is none of our counts.
        if not isinstance(data, ingest.Event):
            continue
        match data:
            case ingest.IssueReported():
                _add_issue(sources, event, data.source)
            case ingest.IssueUpdated() | ingest.IssueRestored():
                _add_change(changes, event, "updated")
            case ingest.IssueClosed():
                _add_change(changes, event, "closed")
            case ingest.IssueCommented():
                _add_change(changes, event, "commented")
            case ingest.AnalysisRecorded():
                _add_change(changes, event, "analyzed")
            case ingest.AnalysisStarted() | ingest.ModelAsked():
                pass
            case ingest.IssueExpired():
                # By itself it brings in nothing.
                pass
            case ingest.IssuesPurged():
                await _write(sources, changes, conn)
                # A replay does not have what is purged, so what it is counted in goes with it, by whole days.
                day = data.counted_from.astimezone(UTC).date()
                await _queries.forget_sources(conn, workspace_id=event.workspace_id, day=day)
                await _queries.forget_changes(conn, workspace_id=event.workspace_id, day=day)
            case _:
                assert_never(data)
    await _write(sources, changes, conn)


async def _write(
    sources: dict[tuple[str, date, str], _Source],
    changes: dict[tuple[str, date, str], _Changes],
    conn: Connection,
) -> None:
    """Add the counts to the rows, and begin again."""
    if sources:
        await _queries.count_new_issues(conn, rows=msgspec.json.encode(list(sources.values())).decode())
    if changes:
        await _queries.count_changes(conn, rows=msgspec.json.encode(list(changes.values())).decode())
    sources.clear()
    changes.clear()


def _add_issue(sources: dict[tuple[str, date, str], _Source], event: Recorded[Event], source: str) -> None:
    workspace_id, day = event.workspace_id, event.recorded_at.date()
    row = sources.get((workspace_id, day, source))
    if row is None:
        row = _Source(workspace_id, day, source, 1, event.time, event.recorded_at)
        sources[workspace_id, day, source] = row
        return
    row.n_issues += 1
    row.last_occurred_at = max(row.last_occurred_at, event.time)
    row.last_recorded_at = max(row.last_recorded_at, event.recorded_at)


def _add_change(changes: dict[tuple[str, date, str], _Changes], event: Recorded[Event], outcome: str) -> None:
    workspace_id, day = event.workspace_id, event.recorded_at.date()
    row = changes.get((workspace_id, day, outcome))
    if row is None:
        changes[workspace_id, day, outcome] = _Changes(workspace_id, day, outcome, 1, event.recorded_at)
        return
    row.n_changes += 1
    row.last_recorded_at = max(row.last_recorded_at, event.recorded_at)
