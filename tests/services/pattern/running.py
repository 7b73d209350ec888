"""A pattern service in the test's process: its projector, its memory and its endpoints, on real servers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import pytest
from contracts import Event, Recorded
from eventlog import Append, EventLog, Projector, apply_schema
from psycopg import AsyncConnection, AsyncRawCursor
from runtime import database as pools
from runtime.broker import CommandContext
from testkit.builders import NOW, WORKSPACE, issue_reported
from testkit.servers import Database
from testkit.waiting import eventually

from services.pattern.endpoints import PatternEndpoints
from services.pattern.engine.memory import Snapshot
from services.pattern.projections import PROJECTION
from services.pattern.reactions import PatternReaction, loading, reaction, refitting

CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_person", actor="usr_ann")


class Running:
    """One process's share of the pattern service."""

    def __init__(
        self, event_log: EventLog, database: Database, pool: pools.Pool, max_events_per_append: int
    ) -> None:
        self.event_log = event_log
        self.pool = pool
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.reaction = PatternReaction(
            event_log,
            pool,
            clock=lambda: self.now,
            reached=lambda _, seq: self.projector.reached(seq, timeout=30),
            max_events_per_append=max_events_per_append,
        )
        self.endpoints = PatternEndpoints(lambda _: self.reaction, clock=lambda: self.now)
        self.projector = Projector(event_log, PROJECTION, url=database.projector_url, reaction=self.reaction)
        self.task = asyncio.create_task(self.projector.run())

    async def report(self, *events: Recorded[Event]) -> list[str]:
        """Append reports and wait until each has a pattern in the rows; the ids of their issues."""
        results = await self.event_log.append_each([Append(event, 0) for event in events])
        assert all(isinstance(result, int) for result in results)
        await self.grouped()
        return [event.aggregate_id for event in events]

    async def grouped(self) -> None:
        """Wait until nothing is undecided and the rows hold every decision."""

        async def is_grouped() -> bool:
            end = await self.event_log.last_seq()
            status = self.projector.status
            return (
                status.state == "live"
                and min(status.position, status.reaction_position) >= end
                and await self.n_undecided() == 0
                and await self.event_log.last_seq() == end
            )

        await eventually(is_grouped)

    async def n_undecided(self) -> int:
        async with self.pool.connection() as conn:
            return len(await loading.undecided(conn, WORKSPACE))

    async def patterns_of(self, issue_ids: Sequence[str]) -> list[str | None]:
        """The pattern of each issue, in the rows."""
        await self.grouped()
        async with self.pool.connection() as conn:
            rows = await loading.issues(conn, WORKSPACE, issue_ids)
        found = {issue.issue_id: member.pattern_id if member else None for issue, member in rows}
        return [found[issue_id] for issue_id in issue_ids]

    async def rows(self) -> Snapshot:
        """What a leader would load now."""
        await self.grouped()
        async with self.pool.connection() as conn:
            row = next(row for row in await loading.workspaces(conn) if row.workspace_id == WORKSPACE)
            return await loading.snapshot(conn, row)

    def memory(self) -> Snapshot:
        """What the leader knows now."""
        return self.reaction.grouper_of(WORKSPACE).snapshot()

    async def assert_memory_equals_rows(self) -> None:
        rows, memory = await eventually(self._both)
        for name in Snapshot.__struct_fields__:
            assert getattr(rows, name) == getattr(memory, name), name
        assert msgspec.json.encode(rows) == msgspec.json.encode(memory)

    async def _both(self) -> tuple[Snapshot, Snapshot] | None:
        """Rows and memory of one moment; None where the leader has spoken between the two.

        It ticks every second by itself, and may then say how long the repair of a closed pattern took.
        """
        end = await self.event_log.last_seq()
        rows = await self.rows()
        # While this is held, nothing of the leader's is on its way to the log.
        async with self.reaction._lock:
            return (rows, self.memory()) if await self.event_log.last_seq() == end else None

    async def events(self, pattern_id: str) -> list[Event]:
        history = await self.event_log.history(WORKSPACE, "pattern", pattern_id)
        return [event.data for event in history]

    async def kill(self) -> None:
        """End without a word, as a crash does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def running(
    event_log: EventLog, database: Database, *, max_events_per_append: int = 500, is_live: bool = True
) -> AsyncIterator[Running]:
    """A leader, live unless that is not waited for; the schema is made when it is not there."""
    owner = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await apply_schema(owner, PROJECTION.name, PROJECTION.schema_sql)
    with pytest.MonkeyPatch.context() as patience:
        # Commands wait longer for the rows than people would: a busy machine may be away for seconds.
        patience.setattr(reaction, "COMMAND_SECONDS", 30.0)
        patience.setattr(refitting, "_ROWS_SECONDS", 30.0)
        async with pools.pool(database.projector_url, schema=PROJECTION.name, max_size=4) as pool:
            service = Running(event_log, database, pool, max_events_per_append)
            try:
                if is_live:
                    await eventually(lambda: service.projector.status.state == "live")
                yield service
            finally:
                await service.kill()


def failure(
    number: int, title: str, *, at: datetime | None = None, component: str | None = None
) -> Recorded[Event]:
    """The report of issue `number` with a title."""
    return issue_reported(number, title=title, at=at, component=component)


__all__ = ["CONTEXT", "NOW", "WORKSPACE", "Running", "failure", "running"]
