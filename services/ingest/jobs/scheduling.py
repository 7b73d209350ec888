"""Who is due: the leader of a partition asks once a second, and every run that waits has a job."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import psycopg
import structlog
from contracts import connector, derived_id
from psycopg_pool import PoolTimeout
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.errors import AppError

from services.ingest import _queries
from services.ingest._queries import ConnectorRow
from services.ingest.commands.connectors import is_polled, request_run
from services.ingest.connectors import connecting, schedules
from services.ingest.errors import ConnectorPausedError, InvalidConnectorError
from services.ingest.jobs.queue import JobQueue
from services.ingest.jobs.syncing import SyncJob
from services.ingest.projections import POLLS
from services.ingest.reporting import Sources

TICK_SECONDS: Final = 1.0
STARTED_MAX: Final = 100
"""Connectors that one tick begins with; the others are still due at the next."""
ROWS_AT_ONCE: Final = 500
BUSY_DELAY: Final = timedelta(seconds=15)
"""When a connector is looked at again whose last run is not over."""
SWEEP_SECONDS: Final = 30.0
LOST_AFTER: Final = timedelta(seconds=30)
"""A run that waits for so long may have no job, since whoever asked for it died in between: it is put again."""

log = structlog.get_logger()


class Scheduler:
    """Asks for the runs of the partitions that this process leads.

    rows: ingest's read model, over all workspaces. leads: whether this process leads a partition now.
    """

    def __init__(
        self,
        sources: Sources,
        rows: Pool,
        queue: JobQueue,
        *,
        partitions: int,
        leads: Callable[[int], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._sources = sources
        self._rows = rows
        self._queue = queue
        self._leads = leads
        self._clock = clock
        self._plans: dict[int, _Plan] = {}
        self._partitions = partitions

    async def run(self) -> None:
        """Once a second, without end."""
        while True:
            for partition in range(self._partitions):
                try:
                    await self.tick(partition)
                except (AppError, psycopg.OperationalError, PoolTimeout) as error:
                    log.warning("scheduler.held_up", partition=partition, error=str(error))
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self, partition: int) -> None:
        """Ask for what is due in a partition; nothing where another process leads it."""
        if not self._leads(partition):
            self._plans.pop(partition, None)
            return
        now = self._clock()
        plan = self._plans.get(partition)
        if plan is None:
            plan = self._plans[partition] = _Plan(led_since=now)
        await self._read_changes(partition, plan)
        await self._begin_all(plan, now)
        if now >= plan.swept_at + timedelta(seconds=SWEEP_SECONDS):
            plan.swept_at = now
            await self._put_lost(partition, now)

    async def _read_changes(self, partition: int, plan: "_Plan") -> None:
        while True:
            async with self._rows.connection() as conn:
                rows = await _queries.list_changed_connectors(
                    conn, partition=partition, after=plan.read_to, row_limit=ROWS_AT_ONCE
                )
            for row in rows:
                plan.put(row)
                plan.read_to = row.changed_seq
            if len(rows) < ROWS_AT_ONCE:
                return

    async def _begin_all(self, plan: "_Plan", now: datetime) -> None:
        """Begin with what is due. Where that fails, all that was taken stays planned: no row changes to bring it back."""
        taken = plan.take_due(now, STARTED_MAX)
        for number, (workspace_id, connector_id) in enumerate(taken, 1):
            try:
                await self._begin(plan, workspace_id, connector_id, now)
            except BaseException:
                # It steps aside, so that the next tick begins with those behind it.
                plan.look_again(workspace_id, connector_id, now + BUSY_DELAY)
                for unasked in taken[number:]:
                    plan.look_again(*unasked, now)
                raise

    async def _begin(self, plan: "_Plan", workspace_id: str, connector_id: str, now: datetime) -> None:
        """Ask for a run, unless one is open or the connector is not as it was when it was planned."""
        async with self._rows.connection() as conn:
            row = await _queries.get_connector(conn, workspace_id=workspace_id, connector_id=connector_id)
            runs = await _queries.list_open_runs_of(
                conn, workspace_id=workspace_id, connector_id=connector_id
            )
        due_at = None if row is None else due(row)
        if row is None or due_at is None:
            return
        if any(connector.SyncKind(run.kind) in POLLS for run in runs):
            plan.look_again(workspace_id, connector_id, now + BUSY_DELAY)
            return
        if due_at > now:
            plan.look_again(workspace_id, connector_id, due_at)
            return
        # The same id for the same moment, so that two leaders ask for one run.
        run_id = derived_id("syn_", connector_id, due_at.isoformat())
        context = CommandContext(workspace_id=workspace_id, correlation_id=run_id)
        state = await self._sources.find(workspace_id, connector_id)
        if state is None or state.is_deleted:
            return
        try:
            request = request_run(
                state, run_id=run_id, kind=connector.SyncKind.SCHEDULED, requested_by=None, now=now
            )
        except ConnectorPausedError:
            return
        await self._sources.request(request, context)
        # Its row changes with the run; should it not, it is looked at again.
        plan.look_again(workspace_id, connector_id, now + BUSY_DELAY)
        await self._put(workspace_id, connector_id, run_id)

    async def _put_lost(self, partition: int, now: datetime) -> None:
        after = (datetime.fromtimestamp(0, tz=now.tzinfo), "")
        while True:
            async with self._rows.connection() as conn:
                runs = await _queries.list_old_runs(
                    conn,
                    partition=partition,
                    before=now - LOST_AFTER,
                    after_at=after[0],
                    after_id=after[1],
                    row_limit=ROWS_AT_ONCE,
                )
            for run in runs:
                await self._put(run.workspace_id, run.connector_id, run.run_id)
                after = (run.requested_at, run.run_id)
            if len(runs) < ROWS_AT_ONCE:
                return

    async def _put(self, workspace_id: str, connector_id: str, run_id: str) -> None:
        payload = msgspec.json.encode(SyncJob(connector_id=connector_id, run_id=run_id))
        await self._queue.put("sync", workspace_id, run_id, payload)


class _Plan:
    """Who is due when in one partition, as far as its rows were read."""

    def __init__(self, *, led_since: datetime) -> None:
        self.read_to = 0
        self.swept_at = led_since
        self._led_since = led_since
        self._moments: dict[tuple[str, str], datetime] = {}
        self._heap: list[tuple[datetime, str, str]] = []

    def put(self, row: ConnectorRow) -> None:
        """Plan a connector anew."""
        moment = due(row)
        if moment is None:
            self._moments.pop((row.workspace_id, row.connector_id), None)
            return
        # After a standstill all are due at once: each begins at its own moment of the next minute.
        if moment < self._led_since:
            spread = schedules.spread_seconds(row.connector_id)
            moment = self._led_since + timedelta(seconds=spread)
        self.look_again(row.workspace_id, row.connector_id, moment)

    def look_again(self, workspace_id: str, connector_id: str, moment: datetime) -> None:
        """Plan a connector for a moment."""
        self._moments[workspace_id, connector_id] = moment
        heapq.heappush(self._heap, (moment, workspace_id, connector_id))

    def take_due(self, now: datetime, most: int) -> list[tuple[str, str]]:
        """Those that are due, the longest due first."""
        found: list[tuple[str, str]] = []
        while self._heap and len(found) < most and self._heap[0][0] <= now:
            moment, workspace_id, connector_id = heapq.heappop(self._heap)
            # What was planned anew since stands in the heap once more.
            if self._moments.get((workspace_id, connector_id)) == moment:
                del self._moments[workspace_id, connector_id]
                found.append((workspace_id, connector_id))
        return found


def due(row: ConnectorRow) -> datetime | None:
    """When a connector has to run next; None while its schedule does not count."""
    settings = msgspec.json.decode(row.settings, type=connector.ConnectorSettings)
    status = connector.ConnectorStatus(row.status)
    if settings.schedule is None or not is_polled(status, row.reason):
        return None
    if status is connector.ConnectorStatus.PENDING and not _has_credentials(row, settings):
        return None
    return schedules.next_due(
        settings.schedule,
        connector_id=row.connector_id,
        since=row.scheduled_since,
        last_run_at=row.last_run_at,
    )


def _has_credentials(row: ConnectorRow, settings: connector.ConnectorSettings) -> bool:
    """Whether there is something to try; a grant is proved when it is given, so who waits for one has none."""
    try:
        source = connecting.source_of(row.connector_id, settings)
    except InvalidConnectorError:
        return False
    asked = connecting.asked_secrets(source.auth)
    return not connecting.needs_person(source.auth) and all(
        field.key in row.secrets for field in asked if field.required
    )
