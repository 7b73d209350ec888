"""The leader asks for what is due: once, however many lead or how long nobody did; and no run is without a job."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest
from contracts import connector, prediction
from eventlog import Append, EventLog, apply_schema
from nats.aio.client import Client
from psycopg import AsyncConnection, AsyncRawCursor
from runtime import database as databases
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.errors import UnavailableError
from testkit.builders import recorded
from testkit.servers import Database

from services.ingest import _queries
from services.ingest.app import projection
from services.ingest.connectors import schedules
from services.ingest.endpoints.connectors import Connectors
from services.ingest.jobs.queue import STREAM, JobQueue
from services.ingest.jobs.scheduling import Scheduler
from services.ingest.projections import project
from services.ingest.reporting import Sources
from tests.services.ingest.builders import NOW, WORKSPACE
from tests.services.ingest.test_connectors import SETTINGS
from tests.services.ingest.test_records import Clock

HALF_HOUR = timedelta(minutes=30)


class Office:
    """A scheduler, the rows it reads, and a clock that is set by hand."""

    def __init__(self, log: EventLog, rows: Pool, queue: JobQueue, nc: Client, clock: Clock) -> None:
        self.log = log
        self.rows = rows
        self.queue = queue
        self.clock = clock
        self._nc = nc
        self._read = 0

    def scheduler(self) -> Scheduler:
        sources = Sources(self.log, clock=self.clock)
        return Scheduler(sources, self.rows, self.queue, partitions=1, leads=lambda _: True, clock=self.clock)

    async def happened(self, *events: connector.Event, id_: str = "con_1") -> None:
        """Write events into the log and into the rows."""
        for event in events:
            aggregate_id = getattr(event, "run_id", id_)
            entry = recorded(event, aggregate_id, at=self.clock(), workspace_id=WORKSPACE)
            await self.log.append(Append(entry, None))
        await self.catch_up()

    async def catch_up(self) -> None:
        end = await self.log.last_seq()
        if end == self._read:
            return
        async for batch in self.log.read(
            0, after=self._read, aggregates=("connector", "sync_run"), until=end
        ):
            async with self.rows.connection() as conn, conn.transaction():
                await project(batch.events, conn)
        self._read = end

    async def tick(self, scheduler: Scheduler, *, after: timedelta = timedelta()) -> None:
        self.clock.now += after
        await scheduler.tick(0)
        await self.catch_up()

    async def runs(self) -> list[str]:
        """Ids of the runs that were asked for."""
        end = await self.log.last_seq()
        found: list[str] = []
        async for batch in self.log.read(0, after=0, aggregates=("sync_run",), until=end):
            found += [e.data.run_id for e in batch.events if isinstance(e.data, connector.SyncRequested)]
        return found

    async def n_jobs(self) -> int:
        return (await self._nc.jetstream().stream_info(STREAM)).state.messages


@pytest.fixture
async def office(database: Database, event_log: EventLog, nc: Client) -> AsyncIterator[Office]:
    async with await AsyncConnection.connect(
        database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor
    ) as owner:
        await apply_schema(owner, "ingest", projection().schema_sql)
    rows = databases.pool(database.projector_url, schema="ingest", max_size=2)
    await rows.open()
    queue = JobQueue(nc)
    await queue.ensure()
    clock = Clock()
    clock.now = NOW
    yield Office(event_log, rows, queue, nc, clock)
    await rows.close()


def made(id_: str = "con_1") -> connector.ConnectorCreated:
    return connector.ConnectorCreated(
        connector_id=id_, settings=SETTINGS, status=connector.ConnectorStatus.CONNECTED
    )


def over(
    run_id: str, outcome: connector.SyncOutcome = connector.SyncOutcome.SUCCEEDED
) -> connector.SyncEnded:
    counts = connector.SyncCounts(
        n_records=0, n_created=0, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
    )
    return connector.SyncEnded(
        run_id=run_id,
        connector_id="con_1",
        outcome=outcome,
        counts=counts,
        reason="",
        detail="",
    )


async def test_connector_runs_every_half_hour_and_once_after_a_standstill(office: Office) -> None:
    await office.happened(made())
    scheduler = office.scheduler()
    await office.tick(scheduler)
    assert len(await office.runs()) == (schedules.spread_seconds("con_1") == 0)
    await office.tick(scheduler, after=timedelta(seconds=schedules.SPREAD_SECONDS))
    (first,) = await office.runs()
    assert await office.n_jobs() == 1
    # It is still under way when the next is due, which waits for its end.
    await office.tick(scheduler, after=HALF_HOUR)
    assert await office.runs() == [first]
    await office.happened(over(first))
    await office.tick(scheduler, after=timedelta(seconds=30))
    assert len(await office.runs()) == 2
    await office.happened(over((await office.runs())[1]))
    # Nobody leads for a week.
    office.clock.now += timedelta(days=7)
    other = office.scheduler()
    await office.tick(other)
    for _ in range(4):
        await office.tick(other, after=timedelta(seconds=schedules.SPREAD_SECONDS))
    assert len(await office.runs()) == 3


async def test_two_leaders_ask_for_one_run(office: Office) -> None:
    await office.happened(made())
    one, two = office.scheduler(), office.scheduler()
    await one.tick(0)
    await two.tick(0)
    office.clock.now += timedelta(seconds=schedules.SPREAD_SECONDS)
    await one.tick(0)
    await two.tick(0)
    assert (len(await office.runs()), await office.n_jobs()) == (1, 1)


async def test_what_is_due_while_the_queue_is_away_is_asked_for_when_it_is_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id_ in ("con_1", "con_2", "con_3"):
        await office.happened(made(id_), id_=id_)
    scheduler = office.scheduler()
    with monkeypatch.context() as away:
        away.setattr(office.queue, "put", AsyncMock(side_effect=UnavailableError("away")))
        with pytest.raises(UnavailableError):
            await scheduler.tick(0)
            await office.tick(scheduler, after=timedelta(seconds=schedules.SPREAD_SECONDS))
    for _ in range(2):
        await office.tick(scheduler, after=timedelta(seconds=31))
    assert (len(set(await office.runs())), await office.n_jobs()) == (3, 3)


@pytest.mark.parametrize("status", ["paused", "oauth_expired", "pending"])
async def test_connector_that_cannot_run_is_not_asked(office: Office, status: str) -> None:
    """Pending here: nobody has given credentials yet."""
    stands = connector.ConnectorStatusChanged(
        connector_id="con_1", status=connector.ConnectorStatus(status), reason="", detail=""
    )
    await office.happened(made(), stands)
    scheduler = office.scheduler()
    await office.tick(scheduler)
    await office.tick(scheduler, after=timedelta(days=1))
    assert await office.runs() == []


async def test_rows_rest_on_the_last_poll_the_last_success_and_what_failed_since(office: Office) -> None:
    outcome = connector.SyncOutcome
    ends = [outcome.SUCCEEDED, outcome.SUCCEEDED, *[outcome.FAILED] * 4, outcome.CANCELLED, outcome.CANCELLED]
    await office.happened(made())
    for number, ended in enumerate(ends):
        request = connector.SyncRequested(
            run_id=f"syn_{number}", connector_id="con_1", kind=connector.SyncKind.SCHEDULED
        )
        await office.happened(request, over(f"syn_{number}", ended))
    asked = [f"syn_{number}" for number in range(len(ends))]
    async with office.rows.connection() as conn:
        needed = await _queries.list_needed_runs(conn, workspace_id=WORKSPACE, run_ids=asked)
        row = await _queries.get_connector(conn, workspace_id=WORKSPACE, connector_id="con_1")
    assert sorted(needed) == ["syn_1", "syn_3", "syn_4", "syn_5", "syn_7"]
    assert row is not None
    assert row.n_failed == 3


async def test_run_whose_job_was_never_put_gets_one(office: Office) -> None:
    """Whoever asked for it died between the fact and the job."""
    asked = connector.SyncRequested(run_id="syn_1", connector_id="con_1", kind=connector.SyncKind.MANUAL)
    unscheduled = made()
    await office.happened(unscheduled, asked)
    scheduler = office.scheduler()
    await office.tick(scheduler)
    assert await office.n_jobs() == 0
    for _ in range(3):
        await office.tick(scheduler, after=timedelta(seconds=31))
    assert await office.n_jobs() == 1


async def test_asking_for_a_run_waits_for_the_rows_of_connectors_and_runs_alone(office: Office) -> None:
    """And for all of these: the run that it was told of last. What others tell never reaches ingest's rows."""
    await office.happened(made())
    waited: list[int] = []
    is_behind = False

    async def shown(_: str, seq: int) -> bool:
        waited.append(seq)
        if not is_behind:
            await office.catch_up()
        return not is_behind

    unasked = dict.fromkeys(("vault", "records", "asking"))
    connectors = Connectors(
        Sources(office.log, clock=office.clock),
        **unasked,  # type: ignore[arg-type]  # not asked
        queue=office.queue,
        rows=office.rows,
        shown=shown,
        clock=office.clock,
        rng=random.Random(1),
    )
    told = prediction.PredictionDismissed(prediction_id="prd_1", reason="")

    async def asked() -> connector.SyncAccepted:
        await office.log.append(
            Append(recorded(told, "prd_1", at=office.clock(), workspace_id=WORKSPACE), None)
        )
        command = connector.StartSync(connector_id="con_1", kind=connector.SyncKind.MANUAL)
        return await connectors.start_sync(command, CommandContext(workspace_id=WORKSPACE, correlation_id=""))

    first = await asked()
    again = await asked()
    assert (again.run_id, again.sequence, waited) == (first.run_id, first.sequence, [1, first.sequence])
    # It ends, and the rows do not get that far in time.
    is_behind = True
    ended = recorded(over(first.run_id), first.run_id, at=office.clock(), workspace_id=WORKSPACE)
    end = await office.log.append(Append(ended, None))
    second = await asked()
    assert (waited[2:], await office.runs()) == ([end], [first.run_id, second.run_id])
