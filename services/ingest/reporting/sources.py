"""Connectors and their runs in the log: read, decide, append."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from contracts import Event, Recorded, connector, derived_id, record
from eventlog import Append, ConflictError, EventLog
from runtime.broker import CommandContext

from services.ingest.errors import ConnectorContendedError, ConnectorNotFoundError, RunNotFoundError
from services.ingest.reporting.issues import ATTEMPTS_MAX, SERVICE, or_unreachable
from services.ingest.state import Connector, SyncRun, evolve_connector, fold_connector, fold_run

CONNECTOR: Final = "connector"
RUN: Final = "sync_run"

Events = Sequence[connector.Event]


class Sources:
    """Loads, decides and appends; whoever is outrun decides again on what there is then.

    Every method raises LogUnreachableError, after which the same may be done again. clock: the time in UTC.
    """

    def __init__(self, event_log: EventLog, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._clock = clock

    async def find(self, workspace_id: str, connector_id: str) -> Connector | None:
        """A connector as it is now, also one that is deleted; None where there never was one."""
        history = await or_unreachable(self._history(workspace_id, CONNECTOR, connector_id))
        return fold_connector(history)

    async def find_run(self, workspace_id: str, run_id: str) -> SyncRun | None:
        """A run as it is now; None where there is none."""
        return fold_run(await or_unreachable(self._history(workspace_id, RUN, run_id)))

    async def version(self, workspace_id: str, aggregate_type: str, aggregate_id: str) -> int:
        """The sequence of the last event of a connector or run, by which one sees whether it changed."""
        latest = await or_unreachable(self._log.latest(workspace_id, aggregate_type, aggregate_id))
        return 0 if latest is None else latest.seq

    async def create(self, connector_id: str, events: Events, context: CommandContext) -> int:
        """Append the first events of a connector; the sequence of the last."""
        return await or_unreachable(self._append(CONNECTOR, connector_id, events, 0, context))

    async def decide(
        self, connector_id: str, context: CommandContext, decide: Callable[[Connector], Events]
    ) -> tuple[Connector, int]:
        """A connector after a decision, and the sequence behind which rows show it.

        Raises ConnectorNotFoundError, also for one that is deleted, ConnectorContendedError, and what `decide` raises.
        """
        for _ in range(1 + ATTEMPTS_MAX):
            history = await or_unreachable(self._history(context.workspace_id, CONNECTOR, connector_id))
            state = fold_connector(history)
            if state is None or state.is_deleted:
                raise ConnectorNotFoundError(connector_id)
            version = history[-1].seq
            events = decide(state)
            if not events:
                return state, version
            try:
                version = await or_unreachable(
                    self._append(CONNECTOR, connector_id, events, version, context)
                )
            except ConflictError:
                continue
            for event in events:
                state = evolve_connector(state, event)
            return state, version
        raise ConnectorContendedError(connector_id)

    async def request(self, request: connector.SyncRequested, context: CommandContext) -> int | None:
        """Append a run that waits; its sequence, or None where there is one of this id already."""
        try:
            return await or_unreachable(self._append(RUN, request.run_id, [request], 0, context))
        except ConflictError:
            return None

    async def decide_run(
        self, run_id: str, context: CommandContext, decide: Callable[[SyncRun], connector.Event | None]
    ) -> int:
        """Append what is decided about a run; the sequence behind which rows show it.

        Raises RunNotFoundError, ConnectorContendedError, and what `decide` raises.
        """
        for _ in range(1 + ATTEMPTS_MAX):
            history = await or_unreachable(self._history(context.workspace_id, RUN, run_id))
            run = fold_run(history)
            if run is None:
                raise RunNotFoundError(run_id)
            event = decide(run)
            if event is None:
                return history[-1].seq
            try:
                return await or_unreachable(self._append(RUN, run_id, [event], history[-1].seq, context))
            except ConflictError:
                continue
        raise ConnectorContendedError(run_id)

    async def _history(
        self, workspace_id: str, aggregate_type: str, aggregate_id: str
    ) -> list[Recorded[Event]]:
        try:
            return await self._log.history(workspace_id, aggregate_type, aggregate_id)
        except ValueError:
            # Not of the form of an id, so there is no such thing.
            return []

    async def _append(
        self,
        aggregate_type: str,
        aggregate_id: str,
        events: Events,
        version: int,
        context: CommandContext,
    ) -> int:
        now = self._clock()
        appends = [
            Append(
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
                        "evt_", context.workspace_id, aggregate_type, aggregate_id, str(version), str(number)
                    ),
                ),
                version,
            )
            for number, event in enumerate(events)
        ]
        return await self._log.append(*appends)
