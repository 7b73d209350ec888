"""Rows follow the log exactly, through crashes, rebuilds and rivals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import psycopg
import pytest
from contracts import Event, Recorded, derived_id, ingest, record
from eventlog import (
    Append,
    Conflict,
    Connection,
    EventLog,
    LogUnavailableError,
    Projector,
    ReadModelError,
    apply_schema,
    rebuild,
    verify,
)
from nats.aio.client import Client
from testkit.servers import Database
from testkit.waiting import eventually

from .conftest import NOW, SCHEMA, TALLY, closed, new, reported


@pytest.fixture
async def tally(database: Database) -> Database:
    """A database with the empty read model."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        assert await apply_schema(owner, "tally", SCHEMA) == "created"
        assert await apply_schema(owner, "tally", SCHEMA) == "current"
        assert await apply_schema(owner, "tally", SCHEMA + "-- version 2") == "outdated"
    return database


@asynccontextmanager
async def running(*projectors: Projector) -> AsyncIterator[None]:
    """Projectors at work."""
    tasks = [asyncio.create_task(projector.run()) for projector in projectors]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def rows(database: Database) -> list[tuple[object, ...]]:
    """All rows, as the projector sees them."""
    async with await psycopg.AsyncConnection.connect(database.projector_url) as conn:
        cursor = await conn.execute(
            "SELECT workspace_id, issue_id, title, status, last_seq FROM tally.issues ORDER BY last_seq"
        )
        return list(await cursor.fetchall())


def projector(log: EventLog, database: Database, **options: object) -> Projector:
    """A projector of the tally."""
    return Projector(log, TALLY, url=database.projector_url, **options)  # type: ignore[arg-type]


async def test_projector_writes_each_event_once(event_log: EventLog, tally: Database) -> None:
    """What is in the log when it starts and what comes later becomes rows."""
    events = [reported(number) for number in range(1500)]
    await event_log.append_each(new(*events))
    at_work = projector(event_log, tally)
    async with running(at_work):
        assert await at_work.reached(1500, timeout=30)
        await event_log.append(Append(closed(events[0]), 1))
        assert await at_work.reached(1501, timeout=30)
        await eventually(lambda: at_work.status.state == "live")
        assert (at_work.status.position, at_work.status.lag, at_work.status.leader) == (1501, 0, True)
    found = await rows(tally)
    assert len(found) == 1500
    assert found[-1][1:] == (events[0].aggregate_id, "Failure 0", "closed", 1501)


async def test_projector_reached_gives_up_in_time(event_log: EventLog, tally: Database) -> None:
    """Waiting for a position that does not come is bounded."""
    at_work = projector(event_log, tally)
    async with running(at_work):
        assert not await at_work.reached(1, timeout=0.05)


async def test_projector_restarted_continues_behind_its_position(
    event_log: EventLog, tally: Database
) -> None:
    """A second run neither repeats nor misses."""
    await event_log.append_each(new(*(reported(number) for number in range(10))))
    first = projector(event_log, tally)
    async with running(first):
        assert await first.reached(10, timeout=30)
    await event_log.append_each(new(*(reported(number) for number in range(10, 20))))
    second = projector(event_log, tally)
    async with running(second):
        assert await second.reached(20, timeout=30)
        assert second.status.events_total == 10
    assert [row[4] for row in await rows(tally)] == list(range(1, 21))


async def test_projector_stops_at_a_poison_event_with_an_alarm(event_log: EventLog, tally: Database) -> None:
    """What lies before it is written, it is named, and nothing behind it is applied."""
    await event_log.append_each(new(reported(1), reported(2), reported(3, title="poison"), reported(4)))
    at_work = projector(event_log, tally)
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.state == "stopped" else None)
        assert status.alarm is not None
        assert "event 3 (causeloop.ingest.v1.IssueReported): CannotApplyError" in status.alarm
        assert status.position == 2
    assert [row[4] for row in await rows(tally)] == [1, 2]


async def test_projector_stops_at_what_postgres_can_never_hold(event_log: EventLog, tally: Database) -> None:
    """A text too long for an index is an alarm at that event, not a server that is down for the moment."""
    async with await psycopg.AsyncConnection.connect(tally.owner_url, autocommit=True) as owner:
        await owner.execute("CREATE INDEX ON tally.issues (title)")
    too_long = random.Random(1).randbytes(5_000).hex()
    await event_log.append_each(new(reported(1), reported(2, title=too_long)))
    at_work = projector(event_log, tally)
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.alarm else None)
        assert status.state == "stopped"
        assert "event 2 (causeloop.ingest.v1.IssueReported): ProgramLimitExceeded 54000" in str(status.alarm)
    assert [row[4] for row in await rows(tally)] == [1]


async def test_alarm_does_not_quote_a_row(event_log: EventLog, tally: Database) -> None:
    """Postgres' details hold what a tenant reported; a dashboard shows alarms to operators."""
    async with await psycopg.AsyncConnection.connect(tally.owner_url, autocommit=True) as owner:
        await owner.execute(
            "ALTER TABLE tally.issues ADD CONSTRAINT calm CHECK (title <> 'Salary of J. Doe')"
        )
    await event_log.append(*new(reported(1, title="Salary of J. Doe")))
    at_work = projector(event_log, tally)
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.alarm else None)
    assert 'CheckViolation 23514: new row for relation "issues" violates check constraint "calm"' in str(
        status.alarm
    )
    assert "Salary" not in f"{status.alarm} {status.last_errors}"


async def test_projector_standby_takes_over_within_five_seconds(event_log: EventLog, tally: Database) -> None:
    """When the leader's connection dies, the standby leads, and nothing is lost or repeated.

    Of three times at least one is so quick: a machine that is busy with other tests may be away for that long.
    """
    one, two = projector(event_log, tally), projector(event_log, tally)
    async with running(one):
        await eventually(lambda: one.status.leader)
        async with running(two):
            await eventually(lambda: two.status.state == "standby")
            await event_log.append(*new(reported(1)))
            assert await two.reached(1, timeout=30), "a standby follows the leader's position"
        async with running(two):
            seconds: list[float] = []
            while len(seconds) < 3 and not any(took < 5 for took in seconds):
                await eventually(lambda: {one.status.state, two.status.state} == {"live", "standby"})
                begun = time.monotonic()
                async with await psycopg.AsyncConnection.connect(tally.admin_url, autocommit=True) as admin:
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                    )
                await event_log.append(*new(reported(2 + len(seconds))))
                for each in (one, two):
                    assert await each.reached(2 + len(seconds), timeout=30)
                seconds.append(time.monotonic() - begun)
            assert min(seconds) < 5
    assert [row[4] for row in await rows(tally)] == list(range(1, 2 + len(seconds)))


async def test_rebuild_under_load_switches_to_equal_rows(event_log: EventLog, tally: Database) -> None:
    """Rows are built anew beside the live ones while events keep coming; the projector goes on behind the switch."""
    await event_log.append_each(new(*(reported(number) for number in range(1000))))
    at_work = projector(event_log, tally)

    async def keep_reporting() -> None:
        for start in range(1000, 2000, 50):
            await event_log.append_each(new(*(reported(number) for number in range(start, start + 50))))

    async with running(at_work):
        assert await at_work.reached(1000, timeout=30)
        load = asyncio.create_task(keep_reporting())
        positions = await rebuild(
            event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url
        )
        await load
        assert positions[0] >= 1000
        assert await at_work.reached(2000, timeout=30)
        certificate = await verify(
            event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url
        )
        assert certificate.is_equal
        assert [(t.workspace_id, t.table, t.live_rows) for t in certificate.tables] == [
            ("ws_one", "issues", 2000)
        ]
    assert [row[4] for row in await rows(tally)] == list(range(1, 2001))


async def test_verify_finds_a_row_that_was_tampered_with(event_log: EventLog, tally: Database) -> None:
    """One changed letter is a difference."""
    await event_log.append_each(new(*(reported(number) for number in range(10))))
    at_work = projector(event_log, tally)
    async with running(at_work):
        assert await at_work.reached(10, timeout=30)
    async with await psycopg.AsyncConnection.connect(tally.projector_url) as conn:
        await conn.execute("UPDATE tally.issues SET title = 'Failure X' WHERE last_seq = 5")
    certificate = await verify(event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
    assert not certificate.is_equal
    assert [table.is_equal for table in certificate.tables] == [False]


async def test_projector_of_another_version_does_not_write(event_log: EventLog, tally: Database) -> None:
    """An old process beside rows that a newer one has switched stands by."""
    await event_log.append(*new(reported(1)))
    old = msgspec.structs.replace(TALLY, schema_sql=SCHEMA + "-- version 0")
    at_work = Projector(event_log, old, url=tally.projector_url)
    async with running(at_work):
        await eventually(lambda: at_work.status.state == "outdated")
        assert not await at_work.reached(1, timeout=0.5)
    assert await rows(tally) == []


async def test_projector_stops_when_the_log_ends_before_its_rows(
    event_log: EventLog, tally: Database, nc: Client
) -> None:
    """A log that lost its last events in a crash is an alarm, never a silent gap."""
    await event_log.append_each(new(*(reported(number) for number in range(10))))
    first = projector(event_log, tally)
    async with running(first):
        assert await first.reached(10, timeout=30)
    await nc.jetstream().delete_stream("EVENTS_0")
    shorter = await EventLog.connect(nc)
    await shorter.append_each(new(*(reported(number) for number in range(6))))
    at_work = projector(shorter, tally)
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.alarm else None)
        assert "the rows are at 10, the log ends at 6" in (status.alarm or "")
    await rebuild(shorter, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
    again = projector(shorter, tally)
    async with running(again):
        await eventually(lambda: again.status.state == "live")
    assert [row[4] for row in await rows(tally)] == list(range(1, 7))


async def test_projector_stops_at_a_log_that_was_replaced(
    event_log: EventLog, tally: Database, nc: Client
) -> None:
    """A log that came back older and has grown past the rows again is an alarm; rows stay as they are."""
    await event_log.append_each(new(*(reported(number) for number in range(10))))
    first = projector(event_log, tally)
    async with running(first):
        assert await first.reached(10, timeout=30)
    before = await rows(tally)
    await nc.jetstream().delete_stream("EVENTS_0")
    restored = await EventLog.connect(nc)
    await restored.append_each(new(*(reported(number) for number in [*range(6), *range(50, 70)])))
    at_work = projector(restored, tally)
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.alarm else None)
        assert (status.state, status.position) == ("stopped", 10)
        assert f"the rows hold event {reported(9).id} at 10, the log has {reported(53).id}" in str(
            status.alarm
        )
        assert "causeloop replay" in str(status.alarm)
    assert await rows(tally) == before
    await rebuild(restored, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
    again = projector(restored, tally)
    async with running(again):
        await eventually(lambda: again.status.state == "live")
    assert [row[4] for row in await rows(tally)] == list(range(1, 27))


async def test_projector_goes_on_when_its_last_event_was_erased(
    event_log: EventLog, tally: Database, nc: Client
) -> None:
    """A hole in the log is no sign of another log."""
    await event_log.append_each(new(reported(1), reported(2)))
    first = projector(event_log, tally)
    async with running(first):
        assert await first.reached(2, timeout=30)
    await nc.jetstream().delete_msg("EVENTS_0", 2)
    await event_log.append(*new(reported(3)))
    second = projector(event_log, tally)
    async with running(second):
        assert await second.reached(3, timeout=30)


async def test_projector_waits_for_a_switch_without_locks_on_rows(
    event_log: EventLog, tally: Database
) -> None:
    """Whoever holds the checkpoint may lock any table of the rows: the projector has touched none yet."""
    at_work = projector(event_log, tally)
    async with running(at_work), await psycopg.AsyncConnection.connect(tally.owner_url) as owner:
        await eventually(lambda: at_work.status.state == "live")
        await owner.execute("LOCK TABLE tally.checkpoint IN EXCLUSIVE MODE")
        await event_log.append(*new(reported(1)))
        await eventually(lambda: _n_waiting_for_locks(tally) == 1)
        await owner.execute("LOCK TABLE tally.issues IN ACCESS EXCLUSIVE MODE NOWAIT")
        await owner.rollback()
        assert await at_work.reached(1, timeout=30)


def _n_waiting_for_locks(database: Database) -> int:
    with psycopg.connect(database.admin_url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return int(row[0]) if row else 0


async def test_rebuild_lets_nobody_wait_for_a_reader_of_the_old_rows(
    event_log: EventLog, tally: Database
) -> None:
    """While a long query holds the old rows, the new ones already grow."""
    await event_log.append(*new(reported(1)))
    at_work = projector(event_log, tally)
    async with running(at_work), await psycopg.AsyncConnection.connect(tally.projector_url) as reader:
        assert await at_work.reached(1, timeout=30)
        await reader.execute("SELECT FROM tally.issues")
        rebuilding = asyncio.create_task(
            rebuild(event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)
        )
        await eventually(lambda: _n_waiting_for_locks(tally) == 1)
        await event_log.append(*new(reported(2)))
        assert await at_work.reached(2, timeout=30)
        assert [row[4] for row in await rows(tally)] == [1, 2]
        assert not rebuilding.done()
        await reader.rollback()
        assert await rebuilding == {0: 2}


async def test_rebuild_fills_up_before_it_makes_the_projector_wait(
    event_log: EventLog, tally: Database
) -> None:
    """What is appended while the rows are built anew is read before the switch, not during it."""
    await event_log.append_each(new(*(reported(number) for number in range(1, 301))))
    reads_while_held: list[int] = []

    async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
        if batch[0].seq == 1:
            await event_log.append_each(new(*(reported(number) for number in range(301, 2001))))
        cursor = await conn.execute(
            "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND granted"
            " AND relation = 'tally.checkpoint'::regclass"
        )
        row = await cursor.fetchone()
        if row is not None and row[0]:
            reads_while_held.append(len(batch))
        await TALLY.project(batch, conn)

    await rebuild(
        event_log,
        msgspec.structs.replace(TALLY, project=project),
        owner_url=tally.owner_url,
        projector_url=tally.projector_url,
    )
    assert reads_while_held == []
    assert len(await rows(tally)) == 2000


async def test_rebuild_beside_another_is_refused(event_log: EventLog, tally: Database) -> None:
    """Two rebuilds of one read model do not mix."""
    async with await psycopg.AsyncConnection.connect(tally.owner_url, autocommit=True) as other:
        await other.execute("SELECT pg_advisory_lock(hashtextextended('tally_rebuild', 0))")
        with pytest.raises(ReadModelError, match="another run"):
            await rebuild(event_log, TALLY, owner_url=tally.owner_url, projector_url=tally.projector_url)


@dataclass
class ClosesEverything:
    """A policy: every reported issue is closed, once. Dies where it is told to."""

    log: EventLog
    die_before_append: set[int] = field(default_factory=set)
    die_after_append: set[int] = field(default_factory=set)
    undecided: dict[str, Recorded[Event]] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Forget everything, as a new process would."""
        self.undecided.clear()
        self.decided.clear()

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Close what is open once everything is known."""
        for event in batch:
            if isinstance(event.data, ingest.IssueClosed):
                self.decided.add(event.aggregate_id)
                self.undecided.pop(event.aggregate_id, None)
            elif event.aggregate_id not in self.decided:
                self.undecided[event.aggregate_id] = event
        if not live:
            return
        for issue, cause in list(self.undecided.items()):
            self._maybe_die(self.die_before_append, cause)
            assert not isinstance(
                (await self.log.append_each([Append(_closing(cause), cause.seq)]))[0], Conflict
            )
            self._maybe_die(self.die_after_append, cause)
            self.decided.add(issue)
            del self.undecided[issue]

    async def tick(self, *, now: datetime) -> None:
        """Nothing is ever due."""

    @staticmethod
    def _maybe_die(where: set[int], cause: Recorded[Event]) -> None:
        if cause.seq in where:
            where.remove(cause.seq)
            raise LogUnavailableError("died here")


def _closing(cause: Recorded[Event]) -> Recorded[Event]:
    data = ingest.IssueClosed(issue_id=cause.aggregate_id, status=ingest.IssueStatus.CLOSED, reason="policy")
    return record(
        data,
        workspace_id=cause.workspace_id,
        aggregate_id=cause.aggregate_id,
        occurred_at=NOW,
        recorded_at=NOW,
        source="/causeloop/test",
        cause=cause,
        event_id=derived_id("evt_", "close", cause.id),
    )


async def test_reaction_that_dies_around_its_append_decides_exactly_once(
    event_log: EventLog, tally: Database
) -> None:
    """Killed before or after an append, a decision is neither lost nor repeated."""
    await event_log.append_each(new(*(reported(number) for number in range(50))))
    reaction = ClosesEverything(event_log, die_before_append={3, 30}, die_after_append={10, 31, 50})
    at_work = projector(event_log, tally, reaction=reaction)
    async with running(at_work):
        assert await at_work.reached(100, timeout=30)
        await event_log.append(*new(reported(1000)))
        assert await at_work.reached(102, timeout=30)
        assert at_work.status.alarm is None
        await eventually(lambda: at_work.status.reaction_position >= 102)
    assert await event_log.last_seq(0) == 102
    assert [row[3] for row in await rows(tally)] == ["closed"] * 51


async def test_reaction_is_not_told_twice_after_a_clean_stop(event_log: EventLog, tally: Database) -> None:
    """Its position is kept, also when nothing more is projected."""
    await event_log.append(*new(reported(1)))
    first = projector(event_log, tally, reaction=ClosesEverything(event_log))
    async with running(first):
        assert await first.reached(2, timeout=30)
        await eventually(lambda: _saved(tally) == (2, 2))
    again = projector(event_log, tally, reaction=ClosesEverything(event_log))
    async with running(again):
        await eventually(lambda: again.status.state == "live")
        assert again.status.events_total == 0
    assert await event_log.last_seq(0) == 2


def _saved(database: Database) -> tuple[int, int] | None:
    with psycopg.connect(database.projector_url) as conn:
        row = conn.execute("SELECT position, reaction_position FROM tally.checkpoint").fetchone()
    return (int(row[0]), int(row[1])) if row else None


async def test_reaction_with_a_bug_stops_loudly(event_log: EventLog, tally: Database) -> None:
    """A decision that cannot be made is an alarm, not a silence."""

    class Broken(ClosesEverything):
        async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
            if batch:
                raise ZeroDivisionError("policy")

    await event_log.append(*new(reported(1)))
    at_work = projector(event_log, tally, reaction=Broken(event_log))
    async with running(at_work):
        status = await eventually(lambda: at_work.status if at_work.status.alarm else None)
        assert "reaction: ZeroDivisionError: policy" in (status.alarm or "")
