"""Connectors and their runs in the log: read, decide, append."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Generic, TypeVar

from contracts import Event, Recorded, connector, derived_id, record
from eventlog import Append, ConflictError, EventLog
from msgspec import Struct
from runtime.broker import CommandContext

from services.ingest.errors import ConnectorContendedError, ConnectorNotFoundError, RunNotFoundError
from services.ingest.reporting.issues import ATTEMPTS_MAX, SERVICE, or_unreachable
from services.ingest.state import Connector, SyncRun, evolve_connector, evolve_run

CONNECTOR: Final = "connector"
RUN: Final = "sync_run"
REMEMBERED_MAX: Final = 1_000
"""Connectors, and as many runs, that a process remembers."""

Events = Sequence[connector.Event]
State = TypeVar("State")


class _Known(Struct, Generic[State], frozen=True):
    """An aggregate as its events give it. version: sequence of the last of them; n_events: how many there are."""

    state: State | None = None
    version: int = 0
    n_events: int = 0


class _Aggregates(Generic[State]):
    """One kind of aggregates as the log has them now.

    What was folded is remembered and holds for as long as the log has no more events of it, and none less: a run is
    looked at every second, and its history may lie all over the log.
    """

    def __init__(
        self,
        event_log: EventLog,
        kind: str,
        evolve: Callable[[State | None, Recorded[Event]], State | None],
    ) -> None:
        self._log = event_log
        self.kind = kind
        self._evolve = evolve
        self._remembered: OrderedDict[tuple[str, str], _Known[State]] = OrderedDict()

    async def load(self, workspace_id: str, aggregate_id: str) -> _Known[State]:
        """An aggregate as it is now. Raises LogUnavailableError."""
        key = (workspace_id, aggregate_id)
        known: _Known[State] = self._remembered.get(key, _Known())
        try:
            n_events = await self._log.n_events(workspace_id, self.kind, aggregate_id)
        except ValueError:
            # Not of the form of an id, so there is no such thing.
            return _Known()
        if n_events != known.n_events:
            known = self._after(_Known(), await self._log.history(workspace_id, self.kind, aggregate_id))
        self._remember(key, known)
        return known

    async def append(self, known: _Known[State], events: Sequence[Recorded[Event]]) -> _Known[State]:
        """Append what was decided on it as it was known; as it is then. Raises ConflictError, LogUnavailableError."""
        *_, last = events
        version = await self._log.append(*(Append(event, known.version) for event in events))
        known = _Known(self._after(known, events).state, version, known.n_events + len(events))
        self._remember((last.workspace_id, last.aggregate_id), known)
        return known

    def _after(self, known: _Known[State], events: Sequence[Recorded[Event]]) -> _Known[State]:
        state, version = known.state, known.version
        for event in events:
            state, version = self._evolve(state, event), event.seq
        return _Known(state, version, known.n_events + len(events))

    def _remember(self, key: tuple[str, str], known: _Known[State]) -> None:
        self._remembered[key] = known
        self._remembered.move_to_end(key)
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


class Sources:
    """Loads, decides and appends; whoever is outrun decides again on what there is then.

    Every method raises LogUnreachableError, after which the same may be done again. clock: the time in UTC.
    """

    def __init__(self, event_log: EventLog, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._connectors = _Aggregates(event_log, CONNECTOR, evolve_connector)
        self._runs = _Aggregates(event_log, RUN, evolve_run)
        self._clock = clock

    async def find(self, workspace_id: str, connector_id: str) -> Connector | None:
        """A connector as it is now, also one that is deleted; None where there never was one."""
        return (await or_unreachable(self._connectors.load(workspace_id, connector_id))).state

    async def find_run(self, workspace_id: str, run_id: str) -> SyncRun | None:
        """A run as it is now; None where there is none."""
        return (await or_unreachable(self._runs.load(workspace_id, run_id))).state

    async def run_version(self, workspace_id: str, run_id: str) -> int:
        """The sequence of a run's last event."""
        return (await or_unreachable(self._runs.load(workspace_id, run_id))).version

    async def told(self, workspace_id: str, connector_id: str) -> int:
        """The sequence behind which rows show all that was told of a connector so far, and of its runs.

        It is the last of the connector and of all runs of the workspace, for a run's subject does not name its connector.
        """
        return max(
            await or_unreachable(self._log.last_seq_of(workspace_id, CONNECTOR, connector_id)),
            await or_unreachable(self._log.last_seq_of(workspace_id, RUN)),
        )

    async def create(self, connector_id: str, events: Events, context: CommandContext) -> int:
        """Append the first events of a connector; the sequence of the last."""
        return (await self._append(self._connectors, connector_id, _Known(), events, context)).version

    async def decide(
        self, connector_id: str, context: CommandContext, decide: Callable[[Connector], Events]
    ) -> tuple[Connector, int]:
        """A connector after a decision, and the sequence behind which rows show it.

        Raises ConnectorNotFoundError, also for one that is deleted, ConnectorContendedError, and what `decide` raises.
        """
        for _ in range(1 + ATTEMPTS_MAX):
            known = await or_unreachable(self._connectors.load(context.workspace_id, connector_id))
            if known.state is None or known.state.is_deleted:
                raise ConnectorNotFoundError(connector_id)
            events = decide(known.state)
            try:
                after = await self._append(self._connectors, connector_id, known, events, context)
            except ConflictError:
                continue
            assert after.state is not None
            return after.state, after.version
        raise ConnectorContendedError(connector_id)

    async def request(self, request: connector.SyncRequested, context: CommandContext) -> int | None:
        """Append a run that waits; its sequence, or None where there is one of this id already."""
        try:
            return (await self._append(self._runs, request.run_id, _Known(), [request], context)).version
        except ConflictError:
            return None

    async def decide_run(
        self, run_id: str, context: CommandContext, decide: Callable[[SyncRun], connector.Event | None]
    ) -> int:
        """Append what is decided about a run; the sequence behind which rows show it.

        Raises RunNotFoundError, ConnectorContendedError, and what `decide` raises.
        """
        for _ in range(1 + ATTEMPTS_MAX):
            known = await or_unreachable(self._runs.load(context.workspace_id, run_id))
            if known.state is None:
                raise RunNotFoundError(run_id)
            event = decide(known.state)
            try:
                after = await self._append(self._runs, run_id, known, [event] if event else [], context)
            except ConflictError:
                continue
            return after.version
        raise ConnectorContendedError(run_id)

    async def _append(
        self,
        aggregates: _Aggregates[State],
        aggregate_id: str,
        known: _Known[State],
        events: Events,
        context: CommandContext,
    ) -> _Known[State]:
        """An aggregate after these events, which were decided on it as it was known. Raises ConflictError."""
        if not events:
            return known
        now = self._clock()
        recorded = [
            record(
                event,
                workspace_id=context.workspace_id,
                aggregate_id=aggregate_id,
                occurred_at=now,
                recorded_at=now,
                source=SERVICE,
                actor=context.actor,
                correlation_id=context.correlation_id,
                traceparent=context.traceparent,
                event_id=derived_id(
                    "evt_",
                    context.workspace_id,
                    aggregates.kind,
                    aggregate_id,
                    str(known.version),
                    str(number),
                ),
            )
            for number, event in enumerate(events)
        ]
        return await or_unreachable(aggregates.append(known, recorded))
