"""Whom addresses belong to: read seldom, many at once, and never for longer than promised."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import msgspec
import pytest
from contracts import WEBHOOK_SECRET, connector
from eventlog import EventLog
from eventlog.readmodel import apply_schema
from msgspec.structs import replace
from nats.aio.client import Client
from psycopg import AsyncConnection, AsyncRawCursor
from runtime import database as databases
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.errors import UnavailableError
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database
from testkit.waiting import eventually

from services.ingest import _queries
from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.registry import FOLDER
from services.ingest.endpoints.receiving import Reception
from services.ingest.errors import ConnectorUnreadableError
from services.ingest.jobs import directory as directories
from services.ingest.jobs.deliveries import Receiver
from services.ingest.jobs.directory import KEPT_SECONDS, UNKNOWN_KEPT_SECONDS, Directory
from services.ingest.jobs.intake import Intake
from services.ingest.jobs.outbox import Delivery, Outbox
from services.ingest.jobs.queue import DELIVERIES, JobQueue
from services.ingest.records import Records
from services.ingest.vault import Vault
from tests.services.ingest.builders import NOW
from tests.services.ingest.conftest import Plan
from tests.services.ingest.test_intake import SETTINGS

ONE, TWO = (f"ws_0123456789ABCDEFGHJKMNPQR{letter}" for letter in "ST")
A, B, C = (f"con_0123456789ABCDEFGHJKMNPQR{letter}" for letter in "ABC")
NOBODY = "con_0123456789ABCDEFGHJKMNPQRZ"
SCHEMA = Path(_queries.__file__).with_name("schema.sql")
OWN = {
    **msgspec.yaml.decode((FOLDER / "custom_api.yaml").read_bytes(), type=dict[str, object]),
    "type": "custom_shop",
}
TOMORROWS = (
    replace(SETTINGS, type="a_type_of_tomorrow"),
    replace(SETTINGS, type="custom_shop", auth=0, config={}, manifest={**OWN, "key_of_tomorrow": 1}),
)


@pytest.fixture
async def everywhere(sources_database: Database) -> AsyncIterator[Pool]:
    """Ingest's read model with A and B of one workspace and C of another, as its projector sees it."""
    async with await AsyncConnection.connect(
        sources_database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor
    ) as owner:
        assert await apply_schema(owner, "ingest", SCHEMA.read_text()) == "created"
    pool = databases.pool(sources_database.projector_url, schema="ingest", max_size=2)
    await pool.open()
    async with pool.connection() as conn:
        for workspace_id, connector_id in ((ONE, A), (ONE, B), (TWO, C)):
            await _queries.add_connector(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                type=SETTINGS.type,
                settings=msgspec.json.encode(SETTINGS).decode(),
                status="active",
                at=NOW,
                partition=0,
                seq=1,
            )
    yield pool
    await pool.close()


async def configure(everywhere: Pool, connector_id: str, settings: connector.ConnectorSettings) -> None:
    written = msgspec.json.encode(settings).decode()
    async with everywhere.connection() as conn:
        await conn.execute(
            "UPDATE connectors SET settings = $1 WHERE connector_id = $2", (written, connector_id)
        )


async def add_as_a(everywhere: Pool, connector_id: str) -> None:
    """Another connector like A."""
    async with everywhere.connection() as conn:
        await conn.execute(
            "INSERT INTO connectors SELECT workspace_id, $1, type, settings, status, reason, secrets, scheduled_since,"
            " last_run_at, last_run_id, succeeded_run_id, failed_run_ids, partition, changed_seq FROM connectors"
            " WHERE connector_id = $2",
            (connector_id, A),
        )


class Desk(SimpleNamespace):
    """A directory at a time that a test says, its vault, and which ids it looked for."""

    now: float
    directory: Directory
    vault: Vault
    looks: list[set[str]]

    async def secrets(self, *connector_ids: str) -> list[str]:
        found = await self.directory.find(connector_ids)
        known = [found[each] for each in connector_ids]
        return ["-" if each is None else each.secret for each in known]


async def answered(desk: Desk, *connector_ids: str) -> list[int]:
    """With which statuses calls that prove nothing are answered."""
    stub = Mock(spec_set=[])
    reception = Reception(
        vault=desk.vault,
        directory=desk.directory,
        secrets=stub,
        outbox=stub,
        outbound=stub,
        clock=lambda: NOW,
    )
    calls = tuple(
        connector.VendorCall(connector_id=each, method="POST", url="", headers={}, query={}, body="")
        for each in connector_ids
    )
    text = msgspec.json.encode(connector.VendorCalls(calls=calls)).decode()
    sealed = desk.vault.to_send(text, workspace_id="-", what="vendor_calls")
    said = await reception.receive_delivery(
        connector.ReceiveDelivery(sealed_calls=sealed), CommandContext(workspace_id="-", correlation_id="")
    )
    return [answer.status for answer in said.answers]


@pytest.fixture
async def desk(everywhere: Pool, sources_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Desk:
    vault = Vault(MasterKeys(SealingKey(b"k" * 32)), sources_pool, clock=lambda: NOW)
    for workspace_id, connector_id in ((ONE, A), (ONE, B), (TWO, C)):
        await vault.keep(workspace_id, connector_id, {WEBHOOK_SECRET: connector_id[-1], "api_key": "k"})
    made = Desk(now=0.0, vault=vault, looks=[])
    made.directory = Directory(everywhere, vault, monotonic=lambda: made.now)
    find = _queries.find_connectors

    async def counted(conn: AsyncConnection, *, connector_ids: list[str]) -> list[_queries.FindConnectorsRow]:
        made.looks.append(set(connector_ids))
        return await find(conn, connector_ids=connector_ids)

    monkeypatch.setattr(directories._queries, "find_connectors", counted)
    return made


async def test_connectors_of_all_workspaces_are_found_by_one_look(desk: Desk) -> None:
    """An id of nobody's and what is no id are looked up with the others."""
    assert await desk.secrets(A, C, NOBODY, "../admin") == ["A", "C", "-", "-"]
    assert desk.looks == [{A, C, NOBODY, ""}]
    assert await desk.secrets(A, C) == ["A", "C"]
    assert len(desk.looks) == 1


async def test_what_is_asked_for_again_and_again_is_read_with_others_before_its_time(desk: Desk) -> None:
    """So two hundred connectors of a workspace cost one look in three seconds; one that nobody asks for any more none."""
    assert await desk.secrets(A) == ["A"]
    desk.now = 1.0
    assert await desk.secrets(B, C) == ["B", "C"]
    desk.now = 2.0
    assert await desk.secrets(B) == ["B"]
    desk.now = KEPT_SECONDS
    assert await desk.secrets(A) == ["A"]
    assert desk.looks[2:] == [{A, B}]
    desk.now = KEPT_SECONDS + 1.0
    assert await desk.secrets(A, B) == ["A", "B"]
    assert len(desk.looks) == 3
    assert await desk.secrets(C) == ["C"]
    assert desk.looks[3:] == [{C}]


async def test_those_who_ask_at_the_same_moment_share_a_look(desk: Desk) -> None:
    assert await asyncio.gather(desk.secrets(A), desk.secrets(A), desk.secrets(A)) == [["A"]] * 3
    assert len(desk.looks) == 1


async def test_a_change_counts_after_three_seconds_or_at_once_where_it_was_made(
    desk: Desk, everywhere: Pool
) -> None:
    """Of the secret, of where it stands, of its settings; what did not change is not read as a manifest again."""
    before = (await desk.directory.find([A]))[A]
    assert before is not None
    await desk.vault.keep(ONE, A, {WEBHOOK_SECRET: "new"})
    async with everywhere.connection() as conn:
        await conn.execute("UPDATE connectors SET status = 'paused' WHERE connector_id = $1", (A,))
    assert await desk.secrets(A) == ["A"]
    desk.now = KEPT_SECONDS
    after = (await desk.directory.find([A]))[A]
    assert after is not None
    assert (after.secret, after.is_paused, after.source is before.source) == ("new", True, True)
    await configure(everywhere, A, replace(SETTINGS, display_name="Another"))
    desk.directory.forget(A)
    last = (await desk.directory.find([A]))[A]
    assert last is not None
    assert last.source.settings.display_name == "Another"


async def test_what_changes_while_it_is_read_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replaced a secret has told the directory so before the old one was kept."""
    find = directories._queries.find_connectors

    async def slow(conn: AsyncConnection, *, connector_ids: list[str]) -> list[_queries.FindConnectorsRow]:
        found = await find(conn, connector_ids=connector_ids)
        desk.directory.forget(A)
        return found

    monkeypatch.setattr(directories._queries, "find_connectors", slow)
    assert await desk.secrets(A) == ["A"]
    await desk.vault.keep(ONE, A, {WEBHOOK_SECRET: "new"})
    assert await desk.secrets(A) == ["new"]


async def test_what_was_at_hand_is_not_when_others_were_waited_for_too_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, is_away = directories._queries.find_connectors, asyncio.Event()

    async def slow(conn: AsyncConnection, *, connector_ids: list[str]) -> list[_queries.FindConnectorsRow]:
        await is_away.wait()
        return await find(conn, connector_ids=connector_ids)

    assert await desk.secrets(A) == ["A"]
    monkeypatch.setattr(directories._queries, "find_connectors", slow)
    first, second = (asyncio.create_task(desk.secrets(*ids)) for ids in ((B,), (A, C)))
    await asyncio.sleep(0)
    await desk.vault.keep(ONE, A, {WEBHOOK_SECRET: "new"})
    desk.now = KEPT_SECONDS
    is_away.set()
    assert (await first, await second) == (["B"], ["new", "C"])


async def test_what_ends_while_others_are_read_is_read_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = directories._queries.find_connectors

    async def slow(conn: AsyncConnection, *, connector_ids: list[str]) -> list[_queries.FindConnectorsRow]:
        desk.now += KEPT_SECONDS
        return await find(conn, connector_ids=connector_ids)

    assert await desk.secrets(A) == ["A"]
    await desk.vault.keep(ONE, A, {WEBHOOK_SECRET: "new"})
    monkeypatch.setattr(directories._queries, "find_connectors", slow)
    assert await desk.secrets(A, C) == ["new", "C"]


async def test_no_more_are_read_ahead_than_may_be_and_the_others_are_next_time(
    desk: Desk, everywhere: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "READ_MAX", 1)
    another = f"{A[:-1]}D"
    await add_as_a(everywhere, another)
    for _ in range(2):
        assert await desk.secrets(A, B, another) == ["A", "B", ""]
    desk.now = KEPT_SECONDS
    assert await desk.secrets(A) == ["A"]
    assert await desk.secrets(*({B, another} - desk.looks[-1])) != []
    assert [len(look) for look in desk.looks] == [3, 2, 1]


async def test_a_look_that_hangs_ends_and_with_it_whoever_waits_for_it(
    desk: Desk, everywhere: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one after the other; and once the database answers, everybody is found."""
    assert await desk.secrets(C) == ["C"]
    monkeypatch.setattr(directories, "READ_SECONDS", 1.0)
    async with everywhere.connection() as conn, conn.transaction():
        await conn.execute("LOCK TABLE connectors IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):
            asked = await asyncio.gather(
                *(desk.secrets(each, C) for each in (A, B, NOBODY)), return_exceptions=True
            )
        assert [type(each) for each in asked] == [UnavailableError] * 3
        assert desk.looks[1:] == [{A}]
        assert await desk.secrets(C) == ["C"]
    monkeypatch.undo()
    assert await desk.secrets(A, B, NOBODY) == ["A", "B", "-"]


async def test_a_look_is_given_up_whose_end_cannot_be_told_to_the_server(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as over a connection whose other end is gone: to cancel a statement there takes seconds more."""
    monkeypatch.setattr(directories, "READ_SECONDS", 0.1)
    find, is_given_up = directories._queries.find_connectors, asyncio.Event()

    async def deaf(conn: AsyncConnection, *, connector_ids: list[str]) -> list[_queries.FindConnectorsRow]:
        try:
            await asyncio.Event().wait()
        finally:
            await is_given_up.wait()
        return []

    monkeypatch.setattr(directories._queries, "find_connectors", deaf)
    async with asyncio.timeout(20):
        with pytest.raises(UnavailableError):
            await desk.secrets(A)
        monkeypatch.setattr(directories._queries, "find_connectors", find)
        monkeypatch.setattr(directories, "READ_SECONDS", 15.0)
        assert await desk.secrets(A) == ["A"]
    is_given_up.set()
    await eventually(lambda: not desk.directory._looks)


async def test_a_connection_of_before_the_servers_restart_fails_nobody(
    desk: Desk, sources_database: Database
) -> None:
    assert await desk.secrets(A) == ["A"]
    async with await AsyncConnection.connect(sources_database.admin_url, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'causeloop-ingest' AND datname = current_database()"
        )
    assert await desk.secrets(B, C) == ["B", "C"]


async def test_what_cannot_be_read_is_nothing_to_those_who_do_not_ask_for_it(
    desk: Desk, everywhere: Pool
) -> None:
    """Such as settings that another release has written: they are read ahead with others of their workspace."""
    assert await desk.secrets(A, B) == ["A", "B"]
    desk.now = 2.0
    assert await desk.secrets(B) == ["B"]
    async with everywhere.connection() as conn:
        await conn.execute("UPDATE connectors SET settings = '{}' WHERE connector_id = $1", (B,))
    desk.now = KEPT_SECONDS
    assert await desk.secrets(A) == ["A"]
    assert desk.looks[-1] == {A, B}
    found = await desk.directory.find([A, B, C])
    assert {each: known and known.secret for each, known in found.items()} == {A: "A", C: "C"}
    desk.now = 2 * KEPT_SECONDS
    assert await desk.secrets(A) == ["A"]
    assert desk.looks[-1] == {A}


@pytest.mark.parametrize("settings", TOMORROWS)
async def test_what_another_release_has_written_is_not_taken_for_nobody(
    desk: Desk, everywhere: Pool, settings: connector.ConnectorSettings
) -> None:
    """A type, or a key of somebody's own manifest, that this one does not know: its calls are not answered 404."""
    await configure(everywhere, A, settings)
    assert await answered(desk, A, B, NOBODY) == [503, 401, 404]
    await configure(everywhere, A, replace(SETTINGS, type="custom_shop", auth=0, config={}, manifest=OWN))
    desk.now = KEPT_SECONDS
    assert await desk.secrets(A) == ["A"]


async def test_one_that_cannot_be_read_is_looked_for_no_more_often_than_one_of_nobodys(
    desk: Desk, everywhere: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not read again as it is: whoever knows its address may call it all the time."""
    tried: list[str] = []

    def counted(connector_id: str, settings: connector.ConnectorSettings) -> Source:
        tried.append(connector_id)
        return source_of(connector_id, settings)

    monkeypatch.setattr(directories, "source_of", counted)
    await configure(everywhere, A, TOMORROWS[1])
    for _ in range(3):
        assert await answered(desk, A, NOBODY) == [503, 404]
    assert (desk.looks, tried) == ([{A, NOBODY}], [A])
    desk.now = UNKNOWN_KEPT_SECONDS
    with pytest.raises(ConnectorUnreadableError):
        await desk.directory.find_one(A)
    assert await desk.directory.find_one(NOBODY) is None
    assert (desk.looks[1:], tried) == ([{A}, {NOBODY}, {NOBODY}], [A])
    await configure(everywhere, A, SETTINGS)
    desk.now = KEPT_SECONDS
    assert await desk.directory.find_one(A) is not None


async def test_nothing_is_dropped_by_a_look_of_before_its_connector_was_there(
    desk: Desk, everywhere: Pool
) -> None:
    """Its address may be called as soon as it is told, and another process find it a moment later."""
    assert await desk.secrets(NOBODY) == ["-"]
    await add_as_a(everywhere, NOBODY)
    assert await desk.secrets(NOBODY) == ["-"]
    found = await desk.directory.find_one(NOBODY)
    assert (found and found.workspace_id, await desk.secrets(NOBODY)) == (ONE, [""])


async def test_what_was_taken_for_a_connector_that_cannot_be_read_waits_for_one_who_can(
    desk: Desk, everywhere: Pool, sources_pool: Pool, event_log: EventLog, nc: Client, plan: Plan
) -> None:
    """Such as by a process of the release that wrote it; it is not lost, and nobody else waits for it."""
    await configure(everywhere, A, TOMORROWS[0])
    records = Records(sources_pool, clock=lambda: NOW, rng=random.Random(1))
    intake = Intake(event_log, records, allow=plan.allow, clock=lambda: NOW)
    queue, outbox = JobQueue(nc), Outbox(nc)
    await queue.ensure()
    await outbox.start()
    put = [
        Delivery(connector_id=each, keys=(f"id-{each}",), headers={}, body=b'{"id": 1}', received_at=NOW)
        for each in (A, B)
    ]
    assert await outbox.put([(ONE, each) for each in put]) == [True, True]

    async def is_taken(connector_id: str) -> bool:
        return bool(await records.taken_deliveries(ONE, connector_id, [f"id-{connector_id}"]))

    async def n_waiting() -> int:
        return (await nc.jetstream().stream_info(DELIVERIES)).state.messages

    work = asyncio.create_task(Receiver(nc, queue, desk.directory, records, intake).run())
    try:
        await eventually(lambda: is_taken(B))
        await eventually(lambda: any(A in look for look in desk.looks))
        assert (await n_waiting() > 0, await is_taken(A)) == (True, False)
        await configure(everywhere, A, SETTINGS)
        desk.now = KEPT_SECONDS
        await eventually(lambda: is_taken(A))
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_secrets_that_cannot_be_read_are_nothing_to_other_connectors(
    desk: Desk, sources_database: Database
) -> None:
    """One with a secret that was changed has none, and so have all of a workspace whose key was."""
    async with await AsyncConnection.connect(
        sources_database.owner_url, autocommit=True, options="-c search_path=sources"
    ) as owner:
        await owner.execute("ALTER TABLE secrets NO FORCE ROW LEVEL SECURITY")
        await owner.execute("ALTER TABLE data_keys NO FORCE ROW LEVEL SECURITY")
        await owner.execute(
            "UPDATE secrets SET sealed = sealed || 'A' WHERE connector_id = %s AND name = 'api_key'", (A,)
        )
        await owner.execute("UPDATE data_keys SET wrapped = wrapped || 'A' WHERE workspace_id = %s", (TWO,))
    assert await desk.secrets(A, B, C) == ["", "B", ""]
