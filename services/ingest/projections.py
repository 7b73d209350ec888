"""Events become rows: how much came in from where; connectors and runs, for what runs them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import assert_never

import msgspec
from contracts import Event, Recorded, connector, ingest
from eventlog import Connection
from msgspec import Struct

from services.ingest import _queries
from services.ingest.state import FAILED_RUNS_MAX

AGGREGATES = ("issue", "retention", "connector", "sync_run", "ticket")

POLLS = frozenset({connector.SyncKind.SCHEDULED, connector.SyncKind.MANUAL})
"""Kinds of runs that read what is new; a schedule counts from the last of them."""


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
        if isinstance(data, connector.Event):
            await _source(event, data, conn)
            continue
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
            case ingest.AnalysisStarted() | ingest.ModelAsked() | ingest.PromptsExpired():
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


async def _source(event: Recorded[Event], data: connector.Event, conn: Connection) -> None:
    """What an event says of a connector or of its runs."""
    ids = {"workspace_id": event.workspace_id, "connector_id": event.aggregate_id}
    match data:
        case connector.ConnectorCreated():
            settings, status = _json(data.settings), data.status.value
            at, partition, seq = event.recorded_at, event.partition, event.seq
            await _queries.add_connector(
                conn,
                **ids,
                type=data.settings.type,
                settings=settings,
                status=status,
                at=at,
                partition=partition,
                seq=seq,
            )
        case connector.ConnectorConfigured():
            settings = _json(data.settings)
            await _queries.configure_connector(
                conn,
                **ids,
                type=data.settings.type,
                settings=settings,
                at=event.recorded_at,
                seq=event.seq,
            )
        case connector.ConnectorCredentialsChanged():
            await _queries.name_secrets(conn, **ids, secrets=list(data.secrets), seq=event.seq)
        case connector.ConnectorStatusChanged():
            await _queries.set_standing(
                conn, **ids, status=data.status.value, reason=data.reason, seq=event.seq
            )
        case connector.ConnectorDeleted():
            await _queries.delete_connector(conn, **ids)
        case connector.SyncRequested():
            await _run_requested(event, data, conn)
        case connector.SyncEnded():
            await _run_ended(event, data, conn)
        case connector.TicketCreated():
            await _queries.add_ticket(
                conn,
                workspace_id=event.workspace_id,
                ticket_id=data.ticket_id,
                connector_id=data.connector_id,
                external_id=data.external_id,
                target=msgspec.json.encode(data.target, order="deterministic").decode(),
                at=event.recorded_at,
                partition=event.partition,
            )
        case connector.TicketStateChanged():
            await _queries.set_ticket_state(
                conn, workspace_id=event.workspace_id, ticket_id=data.ticket_id, state=data.state.value
            )
        case connector.SyncProgressed() | connector.SyncRunsPurged():
            # What rows say rests on runs that are kept.
            pass
        case _:
            assert_never(data)


async def _run_requested(event: Recorded[Event], data: connector.SyncRequested, conn: Connection) -> None:
    ids = {"workspace_id": event.workspace_id, "connector_id": data.connector_id}
    await _queries.add_run(
        conn,
        **ids,
        run_id=data.run_id,
        kind=data.kind.value,
        at=event.recorded_at,
        partition=event.partition,
    )
    if data.kind in POLLS:
        await _queries.note_run(conn, **ids, run_id=data.run_id, at=event.recorded_at, seq=event.seq)


async def _run_ended(event: Recorded[Event], data: connector.SyncEnded, conn: Connection) -> None:
    run = {"workspace_id": event.workspace_id, "run_id": data.run_id}
    await _queries.end_run(conn, **run)
    match data.outcome:
        case connector.SyncOutcome.SUCCEEDED:
            await _queries.note_success(conn, **run, connector_id=data.connector_id, seq=event.seq)
        case connector.SyncOutcome.FAILED:
            await _queries.note_failure(
                conn, **run, connector_id=data.connector_id, at_most=FAILED_RUNS_MAX, seq=event.seq
            )
        case connector.SyncOutcome.CANCELLED:
            pass


def _json(settings: connector.ConnectorSettings) -> str:
    return msgspec.json.encode(settings, order="deterministic").decode()


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
