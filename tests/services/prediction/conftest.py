"""Patterns as the pattern service would report them, and a forecaster at work on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import psycopg
import pytest
from contracts import Event, Recorded, pattern, prediction, record
from contracts.generated.ingest import Severity
from contracts.generated.pattern import LinkMethod, PatternStatus
from eventlog import Append, EventLog, Projector, apply_schema, verify
from runtime import database as databases
from testkit.servers import Database
from testkit.waiting import eventually, settled

from services.prediction.projections import PROJECTION
from services.prediction.reactions import Forecaster, Rules

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
WORKSPACE = "ws_one"

Made = TypeVar("Made")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def at(days: float) -> datetime:
    """So many days after NOW."""
    return NOW + timedelta(days=days)


def assessment(n_issues: int) -> pattern.Assessment:
    """What pattern says of a pattern of this size."""
    return pattern.Assessment(
        issue_count=n_issues, risk_score=50.0, confidence=0.9, first_seen_at=NOW, last_seen_at=NOW
    )


def linked(
    name: str, *times: datetime, n_issues: int, severity: Severity = Severity.P2, issue: str = ""
) -> pattern.IssuesLinked:
    """Issues that join a pattern; their ids follow from the pattern and the time."""
    links = tuple(
        pattern.Link(
            issue_id=f"iss_{issue or name}_{time:%m%dT%H%M%S}",
            score=0.9,
            method=LinkMethod.EXACT_KEY,
            method_version="exact-key@2026-11-22",
            grouping_key="key",
            occurred_at=time,
            severity=severity,
        )
        for time in times
    )
    return pattern.IssuesLinked(pattern_id=name, links=links, assessment=assessment(n_issues))


def detected(name: str, n_issues: int) -> pattern.PatternDetected:
    """A candidate that is shown from now on."""
    return pattern.PatternDetected(pattern_id=name, name=f"Failure {name}", assessment=assessment(n_issues))


def moved(name: str, before: PatternStatus, after: PatternStatus) -> pattern.PatternStatusChanged:
    """A pattern in another status."""
    return pattern.PatternStatusChanged(
        pattern_id=name, from_status=before, to_status=after, reason="for the test"
    )


def envelope(
    data: Event, aggregate_id: str, *, time: datetime = NOW, workspace_id: str = WORKSPACE
) -> Recorded[Event]:
    """An event as another service records it."""
    return record(
        data,
        workspace_id=workspace_id,
        aggregate_id=aggregate_id,
        occurred_at=time,
        recorded_at=time,
        source="pattern",
        correlation_id="test",
    )


class Rig:
    """A log, rows and a forecaster with a clock that the test moves."""

    def __init__(self, event_log: EventLog, database: Database, rules: Rules) -> None:
        self.log = event_log
        self.database = database
        self.rules = rules
        self.clock = Clock()
        self.pool = databases.pool(database.projector_url, schema="prediction", max_size=2)
        self.projector = self._projector()

    def _projector(self) -> Projector:
        forecaster = Forecaster(self.log, self.pool, rules=self.rules, clock=self.clock)
        return Projector(
            self.log, PROJECTION, url=self.database.projector_url, reaction=forecaster, clock=self.clock
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The projector and its forecaster at work; leaving it is a crash between two batches."""
        self.projector = self._projector()
        task = asyncio.create_task(self.projector.run())
        try:
            await eventually(lambda: self.projector.status.state == "live")
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def tell(self, aggregate_id: str, *happened: Event, workspace_id: str = WORKSPACE) -> int:
        """Append what others report, at the clock's time; returns the last sequence."""
        seq = 0
        for data in happened:
            event = envelope(data, aggregate_id, time=self.clock.now, workspace_id=workspace_id)
            seq = await self.log.append(Append(event, None))
        return seq

    async def events(self) -> list[Recorded[Event]]:
        """Everything that is in the log."""
        end = await self.log.last_seq(0)
        found: list[Recorded[Event]] = []
        async for batch in self.log.read(0, after=0, aggregates=(), until=end):
            found.extend(batch.events)
            if batch.last_seq >= end:
                break
        return found

    async def said(self, kind: type[Made]) -> list[Made]:
        """The facts of one kind, in their order."""
        return [event.data for event in await self.events() if isinstance(event.data, kind)]

    async def until(self, kind: type[Made], count: int) -> list[Made]:
        """The facts of one kind once there are so many of them and nothing more comes of them; more is an error."""

        async def enough() -> bool:
            return len(await self.said(kind)) >= count

        # A model is fitted by a process that has to start first.
        await eventually(enough, deadline=90)
        await self.settled()
        found = await self.said(kind)
        assert len(found) == count, found
        return found

    async def settled(self) -> None:
        """Return when the rows hold the whole log and the forecaster has said all that comes of it."""
        await settled(self.projector, self.log)

    async def assert_rebuild_is_equal(self) -> None:
        """A replay of the log gives the very same rows."""
        certificate = await verify(
            self.log,
            PROJECTION,
            owner_url=self.database.owner_url,
            projector_url=self.database.projector_url,
        )
        assert certificate.tables
        assert [table for table in certificate.tables if not table.is_equal] == []


@pytest.fixture
async def make_rig(event_log: EventLog, database: Database) -> AsyncIterator[Callable[..., Rig]]:
    """A rig with rules of the test's choice."""
    rigs: list[Rig] = []
    async with await psycopg.AsyncConnection.connect(
        database.owner_url, autocommit=True, cursor_factory=psycopg.AsyncRawCursor
    ) as owner:
        await apply_schema(owner, "prediction", PROJECTION.schema_sql)

    def make(**rules: object) -> Rig:
        rig = Rig(event_log, database, Rules(**rules))  # type: ignore[arg-type]  # the test's own values
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        await rig.pool.close()


@pytest.fixture
async def rig(make_rig: Callable[..., Rig]) -> Rig:
    """A rig with the default rules, growth at once."""
    made = make_rig(growth_spacing=timedelta(0))
    await made.pool.open()
    return made


def by_window(made: list[prediction.PredictionMade]) -> dict[int, prediction.PredictionMade]:
    """The last prediction of each window."""
    return {one.window_days: one for one in made}
