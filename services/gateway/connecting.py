"""Connectors, their runs and the tickets pushed through them, from events to rows."""

from typing import Any, TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, connector
from psycopg import AsyncConnection

from services.gateway import _queries

Row: TypeAlias = dict[str, object]
Key: TypeAlias = tuple[str, str]
RunEvent: TypeAlias = connector.SyncRequested | connector.SyncProgressed | connector.SyncEnded
TicketEvent: TypeAlias = connector.TicketCreated | connector.TicketStateChanged
ConnectorEvent: TypeAlias = (
    connector.ConnectorCreated
    | connector.ConnectorConfigured
    | connector.ConnectorCredentialsChanged
    | connector.ConnectorStatusChanged
    | connector.ConnectorDeleted
)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Connectors:
    """What one batch says of them; each row appears once, with the last word on each of its columns."""

    def __init__(self) -> None:
        self._deleted: dict[Key, Row] = {}
        self._made: dict[Key, Row] = {}
        self._changed: dict[Key, Row] = {}
        self._runs: dict[Key, Row] = {}
        self._runs_changed: dict[Key, Row] = {}
        self._runs_purged: dict[Key, Row] = {}
        self._tickets: dict[Key, Row] = {}
        self._tickets_changed: dict[Key, Row] = {}

    def add(self, event: Recorded[Event], data: connector.Event) -> None:
        """Take one event in."""
        if isinstance(data, RunEvent):
            self._add_run(event, data)
        elif isinstance(data, connector.SyncRunsPurged):
            self._purge_runs(event.workspace_id, data)
        elif isinstance(data, TicketEvent):
            self._add_ticket(event, data)
        else:
            self._add_connector(event, data)

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Write it; connectors first, for a run that was asked for behind the end of its own is shown to nobody."""
        for statement, rows in (
            (_queries.delete_connectors, self._deleted),
            (_queries.expire_sync_runs, self._deleted),
            (_queries.purge_sync_runs, self._runs_purged),
            (_queries.insert_connectors, self._made),
            (_queries.update_connectors, self._changed),
            (_queries.insert_sync_runs, self._runs),
            (_queries.update_sync_runs, self._runs_changed),
            (_queries.insert_tickets, self._tickets),
            (_queries.update_tickets, self._tickets_changed),
        ):
            if rows:
                await statement(conn, rows=_json(list(rows.values())))

    def _add_connector(self, event: Recorded[Event], data: ConnectorEvent) -> None:
        key = (event.workspace_id, data.connector_id)
        match data:
            case connector.ConnectorCreated():
                self._made.setdefault(key, _connector_row(event, data))
            case connector.ConnectorConfigured():
                self._change(event, key, **_settings(data.settings))
            case connector.ConnectorCredentialsChanged():
                self._change(event, key, secrets=_json(data.secrets))
            case connector.ConnectorStatusChanged():
                self._change(
                    event,
                    key,
                    status=data.status,
                    reason=data.reason,
                    detail=data.detail,
                    status_changed_at=event.recorded_at,
                )
            case connector.ConnectorDeleted():
                self._deleted[key] = {
                    "workspace_id": key[0],
                    "connector_id": key[1],
                    "expired_at": event.recorded_at,
                }
                self._made.pop(key, None)
                self._changed.pop(key, None)
                for run in self._runs.values():
                    if (run["workspace_id"], run["connector_id"]) == key:
                        run["expired_at"] = event.recorded_at
            case never:
                assert_never(never)

    def _change(self, event: Recorded[Event], key: Key, **change: object) -> None:
        row = self._made.get(key) or self._changed.setdefault(
            key, {"workspace_id": key[0], "connector_id": key[1]}
        )
        row.update(change, updated_at=event.recorded_at)

    def _add_run(self, event: Recorded[Event], data: RunEvent) -> None:
        key = (event.workspace_id, data.run_id)
        if isinstance(data, connector.SyncRequested):
            self._runs.setdefault(key, _run_row(event, data))
            return
        row = self._runs.get(key) or self._runs_changed.setdefault(
            key, {"workspace_id": key[0], "run_id": key[1]}
        )
        row.update(msgspec.structs.asdict(data.counts), updated_at=event.recorded_at)
        match data:
            case connector.SyncProgressed():
                row.setdefault("started_at", event.recorded_at)
                row.update(status="running", n_chunks_done=data.n_chunks_done, n_chunks=data.n_chunks)
            case connector.SyncEnded():
                row.update(
                    status=data.outcome, reason=data.reason, detail=data.detail, ended_at=event.recorded_at
                )
            case never:
                assert_never(never)

    def _purge_runs(self, workspace_id: str, data: connector.SyncRunsPurged) -> None:
        """They are over, so nothing is told of them later."""
        for run_id in data.run_ids:
            key = (workspace_id, run_id)
            self._runs.pop(key, None)
            self._runs_changed.pop(key, None)
            self._runs_purged[key] = {"workspace_id": workspace_id, "run_id": run_id}

    def _add_ticket(self, event: Recorded[Event], data: TicketEvent) -> None:
        key = (event.workspace_id, data.ticket_id)
        match data:
            case connector.TicketCreated():
                self._tickets.setdefault(key, _ticket_row(event, data))
            case connector.TicketStateChanged():
                row = self._tickets.get(key) or self._tickets_changed.setdefault(
                    key, {"workspace_id": key[0], "ticket_id": key[1]}
                )
                row.update(
                    state=data.state, external_status=data.external_status, updated_at=event.recorded_at
                )
            case never:
                assert_never(never)


def _settings(settings: connector.ConnectorSettings) -> Row:
    return {
        "type": settings.type,
        "display_name": settings.display_name,
        "config": _json(settings.config),
        "auth": settings.auth,
        "schedule": None if settings.schedule is None else _json(settings.schedule),
        "streams": _json(settings.streams),
        "mapping": _json(settings.mapping),
        "manifest": None if settings.manifest is None else _json(settings.manifest),
    }


def _connector_row(event: Recorded[Event], data: connector.ConnectorCreated) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "connector_id": data.connector_id,
        "seq": event.seq,
        **_settings(data.settings),
        "status": data.status,
        "reason": "",
        "detail": "",
        "status_changed_at": event.recorded_at,
        "secrets": "[]",
        "created_by": data.created_by,
        "created_at": event.recorded_at,
        "updated_at": event.recorded_at,
    }


def _run_row(event: Recorded[Event], data: connector.SyncRequested) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "run_id": data.run_id,
        "connector_id": data.connector_id,
        "seq": event.seq,
        "kind": data.kind,
        "status": "queued",
        "window_start": data.window_start,
        "window_end": data.window_end,
        "requested_by": data.requested_by,
        "requested_at": event.recorded_at,
        "n_chunks_done": 0,
        "n_chunks": 0,
        "n_records": 0,
        "n_created": 0,
        "n_updated": 0,
        "n_unchanged": 0,
        "n_ignored": 0,
        "n_rejected": 0,
        "reason": "",
        "detail": "",
        "updated_at": event.recorded_at,
    }


def _ticket_row(event: Recorded[Event], data: connector.TicketCreated) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "seq": event.seq,
        "state": connector.TicketState.OPEN,
        "external_status": "",
        "created_at": event.recorded_at,
        "updated_at": event.recorded_at,
        **msgspec.structs.asdict(data),
        "target": _json(data.target),
    }
