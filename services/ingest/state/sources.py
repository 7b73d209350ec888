"""The folds of connectors, their runs and the tickets that were made through them."""

from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from typing import assert_never

from contracts import Event, Recorded, connector
from msgspec import Struct
from msgspec.structs import replace

FAILED_RUNS_MAX = 3
"""Runs in a row that may fail for a passing reason before the connector stands at "error"."""

NOTHING_YET = connector.SyncCounts(
    n_records=0, n_created=0, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
)


class Standing(Struct, frozen=True):
    """Where a connector stands, and why: a stable code, and the same for people."""

    status: connector.ConnectorStatus
    reason: str = ""
    detail: str = ""


class Connector(Struct, frozen=True, kw_only=True):
    """A connector as it is now.

    standing: where it stands; of a paused one, where it will stand once it is resumed.
    secrets: names of those that it has.
    """

    connector_id: str
    settings: connector.ConnectorSettings
    standing: Standing
    is_paused: bool = False
    secrets: tuple[str, ...] = ()
    is_deleted: bool = False

    @property
    def status(self) -> connector.ConnectorStatus:
        """Where it stands, as everybody is told."""
        return connector.ConnectorStatus.PAUSED if self.is_paused else self.standing.status


class SyncRun(Struct, frozen=True, kw_only=True):
    """A run as it is now. told_at: when people were last told how far it is. ended: None while it waits or runs."""

    request: connector.SyncRequested
    requested_at: datetime
    n_chunks_done: int = 0
    n_chunks: int = 0
    counts: connector.SyncCounts = NOTHING_YET
    told_at: datetime | None = None
    ended: connector.SyncEnded | None = None


class Ticket(Struct, frozen=True, kw_only=True):
    """A ticket as it is now, in our words and in its tracker's."""

    created: connector.TicketCreated
    state: connector.TicketState = connector.TicketState.OPEN
    external_status: str = ""


def evolve_connector(state: Connector | None, recorded: Recorded[Event]) -> Connector | None:
    """The connector after one more event of its history. Raises ValueError where that does not begin with its creation."""
    event = recorded.data
    if not isinstance(event, connector.Event):
        # A newer build's event of another kind says nothing to this one.
        return state
    if isinstance(event, connector.ConnectorCreated):
        return Connector(
            connector_id=event.connector_id, settings=event.settings, standing=Standing(event.status)
        )
    if state is None:
        raise ValueError(f"the history does not begin with ConnectorCreated but with {type(event).__name__}")
    match event:
        case connector.ConnectorConfigured():
            return replace(state, settings=event.settings)
        case connector.ConnectorCredentialsChanged():
            return replace(state, secrets=event.secrets)
        case connector.ConnectorStatusChanged():
            if event.status is connector.ConnectorStatus.PAUSED:
                return replace(state, is_paused=True)
            standing = Standing(event.status, event.reason, event.detail)
            return replace(state, standing=standing, is_paused=False)
        case connector.ConnectorDeleted():
            return replace(state, is_deleted=True, secrets=())
        case (
            connector.SyncRequested()
            | connector.SyncProgressed()
            | connector.SyncEnded()
            | connector.SyncRunsPurged()
            | connector.TicketCreated()
            | connector.TicketStateChanged()
        ):
            return state
        case _:
            assert_never(event)


def fold_connector(history: Iterable[Recorded[Event]]) -> Connector | None:
    """The connector that these events, oldest first, add up to; None when there are none."""
    return reduce(evolve_connector, history, None)


def evolve_run(run: SyncRun | None, recorded: Recorded[Event]) -> SyncRun | None:
    """The run after one more event of its history."""
    match recorded.data:
        case connector.SyncRequested() as event:
            return SyncRun(request=event, requested_at=recorded.recorded_at)
        case connector.SyncProgressed() as event if run is not None:
            return replace(
                run,
                n_chunks_done=event.n_chunks_done,
                n_chunks=event.n_chunks,
                counts=event.counts,
                told_at=recorded.recorded_at,
            )
        case connector.SyncEnded() as event if run is not None:
            return replace(run, counts=event.counts, ended=event)
        case _:
            return run


def fold_run(history: Iterable[Recorded[Event]]) -> SyncRun | None:
    """The run that these events, oldest first, add up to; None when there are none."""
    return reduce(evolve_run, history, None)


def fold_ticket(history: Iterable[Recorded[Event]]) -> Ticket | None:
    """The ticket that these events add up to; None when there are none."""
    ticket: Ticket | None = None
    for recorded in history:
        match recorded.data:
            case connector.TicketCreated() as event:
                ticket = Ticket(created=event)
            case connector.TicketStateChanged() as event if ticket is not None:
                ticket = replace(ticket, state=event.state, external_status=event.external_status)
            case _:
                pass
    return ticket
