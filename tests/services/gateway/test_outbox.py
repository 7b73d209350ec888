"""What is written beside identity's rows reaches the log: in order, once, and soon."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from contracts import Event, Recorded
from eventlog import Append, ConflictError, EventLog, LogUnavailableError
from psycopg import AsyncConnection
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.identity import seed
from services.gateway.identity.seed import seed_workspace
from services.gateway.identity.tenancy import outbox
from services.gateway.identity.tenancy.outbox import Relay


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    """An operator at a prompt."""
    async with await AsyncConnection.connect(
        database.owner_url, autocommit=True, options="-c search_path=identity"
    ) as conn:
        yield conn


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def onboard(owner: AsyncConnection[Any], slug: str) -> str:
    cursor = await owner.execute(
        "SELECT workspace_id FROM onboard_client('Client', %s, %s)", (slug, f"owner@{slug}.example")
    )
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def facts(event_log: EventLog, workspace_id: str) -> Sequence[Recorded[Event]]:
    return await event_log.history(workspace_id, "workspace", workspace_id)


async def names(event_log: EventLog, workspace_id: str) -> list[str]:
    return [type(event.data).__name__ for event in await facts(event_log, workspace_id)]


async def is_empty(owner: AsyncConnection[Any]) -> bool:
    return await (await owner.execute("SELECT count(*) FROM outbox")).fetchone() == (0,)


async def test_facts_of_every_client_arrive_in_their_order(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog
) -> None:
    """Of what was there before the relay and of what comes while it runs; then the outbox is empty."""
    early = [await onboard(owner, f"early-{n}") for n in range(40)]
    await owner.execute("SELECT offboard_client('early-0')")
    async with running(Relay(event_log, url=database.app_url)):
        await eventually(lambda: is_empty(owner))
        late = await onboard(owner, "late")
        await owner.execute("SELECT offboard_client('late', 'the contract ended')")
        await owner.execute("SELECT reinstate_client('late')")
        await eventually(lambda: is_empty(owner))
    assert await names(event_log, early[0]) == ["WorkspaceCreated", "WorkspaceSuspended"]
    for workspace_id in early[1:]:
        assert await names(event_log, workspace_id) == ["WorkspaceCreated"]
    assert await names(event_log, late) == ["WorkspaceCreated", "WorkspaceSuspended", "WorkspaceReinstated"]
    [created, *_] = await facts(event_log, late)
    assert (created.source, created.workspace_id, created.subject) == (
        "/causeloop/gateway",
        late,
        f"workspace/{late}",
    )


async def test_a_fact_is_told_as_soon_as_its_transaction_commits(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the notification, not by the next look; and nothing of a transaction that is rolled back."""
    monkeypatch.setattr(outbox, "POLL_SECONDS", 3600.0)
    async with running(Relay(event_log, url=database.app_url)):
        await onboard(owner, "first")
        await eventually(lambda: is_empty(owner))
        for number in range(5):
            workspace_id = await onboard(owner, f"next-{number}")
            await eventually(lambda of=workspace_id: facts(event_log, of))
        async with owner.transaction(force_rollback=True):
            undone = await onboard(owner, "undone")
        await onboard(owner, "last")
        await eventually(lambda: is_empty(owner))
    assert not await facts(event_log, undone)


class Forgetful(EventLog):
    """A log whose relay dies right after an append, before it hears of it."""

    n_deaths = 3

    async def append(self, *appends: Append) -> int:
        sequence = await super().append(*appends)
        if self.n_deaths:
            self.n_deaths -= 1
            raise LogUnavailableError("died")
        return sequence


async def test_a_crash_between_append_and_delete_tells_nothing_twice(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog
) -> None:
    """The relay finds by the guard, or in the history, what the log already has."""
    workspace_id = await onboard(owner, "twice")
    await owner.execute("SELECT suspend_client('twice')")
    await owner.execute("SELECT reinstate_client('twice')")
    dying = Forgetful(event_log._nc, partitions=1)
    await dying._inbox.start()
    async with running(Relay(dying, url=database.app_url)):
        await eventually(lambda: is_empty(owner))
    assert dying.n_deaths == 0
    expected = ["WorkspaceCreated", "WorkspaceSuspended", "WorkspaceReinstated"]
    assert await names(event_log, workspace_id) == expected


async def test_one_relay_works_and_another_takes_over(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog
) -> None:
    """Whoever holds the lock; when its connection ends, the next one."""
    async with running(*(Relay(event_log, url=database.app_url) for _ in range(3))):
        workspaces = [await onboard(owner, f"a-{n}") for n in range(5)]
        await eventually(lambda: is_empty(owner))
        async with await AsyncConnection.connect(database.app_url) as app:
            killed = await app.execute(
                "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
                " WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'causeloop-outbox'"
                " AND a.datname = current_database()"
            )
            assert await killed.fetchone() == (1,)
        workspaces += [await onboard(owner, f"b-{n}") for n in range(5)]
        await eventually(lambda: is_empty(owner))
    for workspace_id in workspaces:
        assert await names(event_log, workspace_id) == ["WorkspaceCreated"]


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("WorkspaceCreated", "{}"),
        ("WorkspaceRenamed", "{}"),
        ("WorkspaceSuspended", '{"workspace_id": "ws_another"}'),
    ],
    ids=["a field is missing", "an unknown event", "of another workspace"],
)
async def test_a_row_that_cannot_be_told_is_an_alarm_and_holds_up_only_its_workspace(
    owner: AsyncConnection[Any],
    database: Database,
    event_log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    event_type: str,
    data: str,
) -> None:
    """Others go on; its own later facts wait until an operator has mended or deleted it."""
    monkeypatch.setattr(outbox, "WAIT_SECONDS", 0.5)
    broken = await onboard(owner, "broken")
    await owner.execute("SELECT emit(%s, %s, %s)", (broken, event_type, data))
    await owner.execute("SELECT suspend_client('broken')")
    relay = Relay(event_log, url=database.app_url)
    async with running(relay):
        well = await onboard(owner, "well")
        await eventually(lambda: facts(event_log, well))
        await eventually(lambda: bool(relay.alarms()))
        assert await names(event_log, broken) == ["WorkspaceCreated"]
        await owner.execute("DELETE FROM outbox WHERE event_type = %s AND data = %s", (event_type, data))
        await eventually(lambda: is_empty(owner))
        await eventually(lambda: not relay.alarms())
    assert await names(event_log, broken) == ["WorkspaceCreated", "WorkspaceSuspended"]


async def test_a_workspace_that_the_log_knows_by_another_event_is_an_alarm(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog
) -> None:
    """WorkspaceCreated is appended expecting nothing: no id is given out twice."""
    workspace_id = await onboard(owner, "known")
    async with running(Relay(event_log, url=database.app_url)):
        await eventually(lambda: is_empty(owner))
    [created] = await facts(event_log, workspace_id)
    with pytest.raises(ConflictError):
        await event_log.append(Append(created, expected=0))
    await owner.execute("SELECT emit(%s, 'WorkspaceCreated', %s::jsonb)", (workspace_id, _as_json(created)))
    relay = Relay(event_log, url=database.app_url)
    async with running(relay):
        await eventually(lambda: bool(relay.alarms()))
    assert await names(event_log, workspace_id) == ["WorkspaceCreated"]


def _as_json(event: Recorded[Event]) -> str:
    return f'{{"workspace_id": "{event.workspace_id}", "slug": "known", "name": "Client", "timezone": "UTC"}}'


async def test_the_demo_workspace_is_told_once_whatever_is_started_again(
    owner: AsyncConnection[Any], database: Database, event_log: EventLog
) -> None:
    """Two starts make one event; a database made anew beside an old log makes none."""
    for _ in range(2):
        await seed_workspace(database.owner_url)
    async with running(Relay(event_log, url=database.app_url)):
        await eventually(lambda: is_empty(owner))
    await owner.execute("DELETE FROM organizations")
    await seed_workspace(database.owner_url)
    assert not await is_empty(owner)
    relay = Relay(event_log, url=database.app_url)
    async with running(relay):
        await eventually(lambda: is_empty(owner))
    assert not relay.alarms()
    assert await names(event_log, seed.WORKSPACE_ID) == ["WorkspaceCreated"]


async def test_facts_of_a_workspace_are_seen_in_the_order_of_their_numbers(
    owner: AsyncConnection[Any], database: Database
) -> None:
    """A later number never commits before an earlier one of the same workspace; another workspace does not wait."""
    first, second = await onboard(owner, "one"), await onboard(owner, "two")
    async with await AsyncConnection.connect(database.owner_url, options="-c search_path=identity") as slow:
        await slow.execute("SELECT emit(%s, 'WorkspaceSuspended', '{}')", (first,))
        await owner.execute("SELECT emit(%s, 'WorkspaceSuspended', '{}')", (second,))
        await owner.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await owner.execute("SELECT emit(%s, 'WorkspaceReinstated', '{}')", (first,))
