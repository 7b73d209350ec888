"""Connectors that are polled: ingest as a process, asked over the bus, a vendor on this machine, and the log."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from contracts import connector, issue_id
from eventlog import EventLog
from nats.aio.client import Client
from psycopg import AsyncConnection
from runtime.broker import CommandContext, ask
from runtime.embedded import free_port
from runtime.errors import AppError, UnavailableError
from runtime.sealing import MasterKeys, SealError
from testkit.servers import Database
from testkit.stack import ServiceProcess
from testkit.waiting import eventually

from services.ingest.jobs.outbox import Delivery, Outbox
from services.ingest.jobs.queue import DELIVERIES, STREAM, Later
from services.ingest.jobs.syncing import TRIES_MAX, Syncing, Tools, _Run
from services.ingest.settings import IngestSettings
from services.ingest.state import SyncRun, fold_connector, fold_run
from tests.services.ingest.conftest import Plan
from tests.services.ingest.failing_shop import MANIFEST, TOKEN, Shop, open_shop

WORKSPACE = "ws_01HZ0000000000000000000000"
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")
SUCCEEDED = connector.SyncOutcome.SUCCEEDED

R = TypeVar("R")


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


class Ingest:
    """Ingest as a process, and short ways to ask it."""

    def __init__(self, process: ServiceProcess, nc: Client, log: EventLog, masters: MasterKeys) -> None:
        self.process = process
        self.env: dict[str, str] = {}
        self._nc = nc
        self.log = log
        self._masters = masters

    async def ask(self, command: object, reply: type[R]) -> R:
        return await ask(
            self._nc,
            command,  # type: ignore[arg-type]  # every command is a Struct
            endpoint=connector.ENDPOINTS[type(command)],
            reply=reply,
            context=CONTEXT,
            timeout=30,
        )

    def sealed(self, **secrets: str) -> str:
        return self.sealed_text(json.dumps(secrets), "credentials")

    def sealed_text(self, plain: str, what: str) -> str:
        return self._masters.bus.seal(plain, workspace_id=WORKSPACE, what=what)

    async def connect(self, shop: Shop, *, auth: int = 0, **secrets: str) -> str:
        """A connector to the shop that is polled only when somebody asks, from its first moment on.

        Without a schedule it gets the usual one, by which it may be due before that is taken away.
        """
        settings = connector.ConnectorSettings(
            type="custom_shop",
            display_name="Our shop",
            auth=auth,
            config={"base_url": shop.url},
            manifest=MANIFEST,
            schedule=connector.ConnectorSchedule(cron="0 0 29 2 *", timezone="UTC"),
        )
        command = connector.CreateConnector(settings=settings, sealed_credentials=self.sealed(**secrets))
        made = await self.ask(command, connector.ConnectorChanged)
        assert made.status == "pending"
        unscheduled = connector.ConfigureConnector(connector_id=made.connector_id, without_schedule=True)
        await self.ask(unscheduled, connector.ConnectorChanged)
        return made.connector_id

    async def sync(self, connector_id: str, **fields: object) -> str:
        command = connector.StartSync(
            **{"connector_id": connector_id, "kind": connector.SyncKind.MANUAL, **fields}  # type: ignore[arg-type]  # fields by name
        )
        return (await self.ask(command, connector.SyncAccepted)).run_id

    async def run(self, run_id: str) -> SyncRun:
        found = fold_run(await self.log.history(WORKSPACE, "sync_run", run_id))
        assert found is not None
        return found

    async def ended(self, run_id: str) -> connector.SyncEnded:
        async def end() -> connector.SyncEnded | None:
            return (await self.run(run_id)).ended

        found = await eventually(end, deadline=60, every=0.05)
        assert found is not None
        return found

    async def synced(self, connector_id: str, **fields: object) -> connector.SyncEnded:
        return await self.ended(await self.sync(connector_id, **fields))

    async def status(self, connector_id: str) -> str:
        found = fold_connector(await self.log.history(WORKSPACE, "connector", connector_id))
        assert found is not None
        return found.status.value

    async def n_events(self, number: int) -> int:
        """How many events the issue of a failure has."""
        id_ = issue_id(WORKSPACE, "custom_api", f"custom_shop/{number}")
        return len(await self.log.history(WORKSPACE, "issue", id_))


@pytest.fixture
async def service(
    sources_database: Database, nats_url: str, nc: Client, event_log: EventLog, tmp_path: Path, plan: Plan
) -> AsyncIterator[Ingest]:
    env = {
        "PORT": str(free_port()),
        "NATS_URL": nats_url,
        "DATABASE_URL": sources_database.app_url,
        "DATABASE_PROJECTOR_URL": sources_database.projector_url,
        "DATABASE_OWNER_URL": sources_database.owner_url,
        "OUTBOUND_ALLOW": "127.0.0.0/8",
        "LOG_FORMAT": "json",
    }
    process = ServiceProcess("ingest", "services.ingest", env=env, log=tmp_path / "ingest.log")
    await process.start().ready()
    settings = IngestSettings(
        port=1, nats_url="", database_url="", database_projector_url="", environment="development"
    )
    try:
        ingest = Ingest(process, nc, event_log, settings.master_keys())
        ingest.env = env
        async with plan.served(nc):
            yield ingest
        assert "Traceback" not in process.output()
        assert TOKEN not in process.output()
    finally:
        process.kill()


def failures(*numbers: int, at: datetime | None = None) -> list[dict[str, object]]:
    moment = at or datetime.now(UTC) - timedelta(hours=1)
    return [
        {"id": number, "title": f"Failure {number}", "severity": "high", "updated_at": moment.isoformat()}
        for number in numbers
    ]


async def test_connector_is_made_tested_synced_paused_and_deleted(service: Ingest, shop: Shop) -> None:
    shop.failures = [*failures(1, 2, 3), *failures(4)]
    del shop.failures[3]["id"]
    id_ = await service.connect(shop, token=TOKEN)
    tested = await service.ask(connector.TestConnector(connector_id=id_), connector.ConnectorTested)
    assert (tested.is_good, tested.status) == (True, "connected")
    assert [check.name for check in tested.checks] == ["credentials", "failures"]

    first = await service.synced(id_)
    assert first.outcome is SUCCEEDED
    assert (first.counts.n_records, first.counts.n_created, first.counts.n_rejected) == (4, 3, 1)
    shop.failures += failures(5)
    second = await service.synced(id_)
    assert (second.counts.n_created, second.counts.n_unchanged) == (1, 3)
    assert [await service.n_events(number) for number in (1, 2, 3, 5)] == [1, 1, 1, 1]

    paused = connector.ConfigureConnector(connector_id=id_, is_paused=True)
    assert (await service.ask(paused, connector.ConnectorChanged)).status == "paused"
    with pytest.raises(AppError, match="is paused"):
        await service.sync(id_)
    resumed = connector.ConfigureConnector(connector_id=id_, is_paused=False)
    assert (await service.ask(resumed, connector.ConnectorChanged)).status == "connected"

    elsewhere = connector.ConfigureConnector(connector_id=id_, config={"base_url": "https://evil.example"})
    with pytest.raises(AppError, match="given again"):
        await service.ask(elsewhere, connector.ConnectorChanged)

    await service.ask(connector.DeleteConnector(connector_id=id_), connector.ConnectorGone)
    with pytest.raises(AppError, match="no connector"):
        await service.sync(id_)


async def test_killed_worker_s_run_goes_on_at_its_page(
    service: Ingest, shop: Shop, sources_database: Database
) -> None:
    """And a vendor that has enough for a moment is asked again."""
    shop.failures = failures(*range(1, 8))
    id_ = await service.connect(shop, token=TOKEN)
    shop.n_limited = 1
    shop.held_from = 4
    shop.held.clear()
    run_id = await service.sync(id_)

    async def has_kept_two_pages() -> bool:
        async with await AsyncConnection.connect(sources_database.owner_url) as conn:
            found = await conn.execute(
                "SELECT resume FROM sources.stream_positions WHERE run_id = %s", (run_id,)
            )
            row = await found.fetchone()
        return row is not None and row[0] is not None and json.loads(row[0])["page"]["next"] == "4"

    await eventually(has_kept_two_pages)
    service.process.kill()
    shop.asked.clear()
    shop.held.set()
    await service.process.start().ready()
    ended = await service.ended(run_id)
    assert ended.outcome is SUCCEEDED
    assert (ended.counts.n_records, ended.counts.n_created) == (7, 7)
    assert "0" not in shop.asked
    assert [await service.n_events(number) for number in range(1, 8)] == [1] * 7
    assert await service.status(id_) == "connected"


async def test_of_two_processes_one_is_killed_and_all_is_there_once(
    service: Ingest, shop: Shop, nc: Client, tmp_path: Path
) -> None:
    """Runs and webhooks are shared between them; what the one had in hand goes to the other."""
    shop.failures = failures(*range(1, 8))
    env = {**service.env, "PORT": str(free_port())}
    other = ServiceProcess("ingest", "services.ingest", env=env, log=tmp_path / "other.log")
    await other.start().ready()
    try:
        polled = [await service.connect(shop, token=TOKEN) for _ in range(4)]
        settings = connector.ConnectorSettings(type="custom_api", display_name="Pushed", auth=0)
        pushed = await service.ask(connector.CreateConnector(settings=settings), connector.ConnectorChanged)
        # Whoever is killed is missed sooner than usual.
        for stream, kind in ((STREAM, "sync"), (DELIVERIES, "delivery")):
            known = (await nc.jetstream().consumer_info(stream, kind)).config
            known.ack_wait = 6.0
            await nc.jetstream().add_consumer(stream, known)
        shop.held.clear()
        runs = [await service.sync(id_) for id_ in polled]
        await eventually(lambda: len(shop.asked) == len(runs))
        outbox = Outbox(nc)
        await outbox.start()
        numbers = range(100, 160)
        for number in numbers:
            body = json.dumps(failures(number)[0] | {"source": "custom_shop"}).encode()
            delivery = Delivery(
                connector_id=pushed.connector_id,
                keys=(f"id-{number}",),
                headers={},
                body=body,
                received_at=datetime.now(UTC),
            )
            assert await outbox.put([(WORKSPACE, delivery)]) == [True]
            if number == 120:
                other.kill()
                shop.held.set()
        ends = [await service.ended(run_id) for run_id in runs]
        assert [(end.outcome, end.counts.n_records) for end in ends] == [(SUCCEEDED, 7)] * 4
        assert sum(end.counts.n_created for end in ends) == 7
        assert [await service.n_events(number) for number in range(1, 8)] == [1] * 7

        async def is_all_taken() -> bool:
            ids = [issue_id(WORKSPACE, "custom_api", str(number)) for number in numbers]
            found = await service.log.histories(WORKSPACE, "issue", ids)
            return [len(history) for history in found] == [1] * len(numbers)

        await eventually(is_all_taken)
    finally:
        other.kill()


async def test_run_that_the_plan_has_no_room_for_goes_on_where_it_was(
    service: Ingest, shop: Shop, plan: Plan
) -> None:
    shop.failures = failures(*range(1, 8))
    plan.left = 3
    connector_id = await service.connect(shop, token=TOKEN)
    ended = await service.synced(connector_id)
    assert (ended.outcome, ended.reason, ended.counts.n_created) == ("failed", "plan_limit", 3)
    assert ended.detail == "The plan allows 1 more."
    plan.left = None
    assert (await service.synced(connector_id)).counts.n_created == 4
    assert [await service.n_events(number) for number in range(1, 8)] == [1] * 7
    assert plan.n_counted == 7


async def test_backfill_is_told_in_stretches_and_can_be_cancelled(service: Ingest, shop: Shop) -> None:
    now = datetime.now(UTC)
    shop.failures = [*failures(1, at=now - timedelta(days=20)), *failures(2, at=now - timedelta(days=2))]
    id_ = await service.connect(shop, token=TOKEN)
    stretch = {"kind": connector.SyncKind.BACKFILL, "window_start": now - timedelta(days=20, hours=12)}
    ended = await service.synced(id_, **stretch)
    assert (ended.outcome, ended.counts.n_created) == (SUCCEEDED, 2)
    run = await service.run(ended.run_id)
    assert (run.n_chunks_done, run.n_chunks) == (3, 3)

    shop.held.clear()
    asked = len(shop.asked)
    run_id = await service.sync(id_, **stretch)
    assert await service.sync(id_, **stretch) == run_id
    # Nor do those who ask at once, before any row shows it, begin more than one.
    remap = {"kind": connector.SyncKind.REMAP}
    assert len(set(await asyncio.gather(*(service.sync(id_, **remap) for _ in range(4))))) == 1
    await eventually(lambda: len(shop.asked) > asked)
    cancelled = connector.CancelSync(connector_id=id_, run_id=run_id)
    await service.ask(cancelled, connector.SyncAccepted)
    shop.held.set()
    assert (await service.ended(run_id)).outcome is connector.SyncOutcome.CANCELLED
    # It lets go of the connector, so that the next run can begin.
    assert (await service.synced(id_)).outcome is SUCCEEDED


async def test_connector_stands_where_the_vendor_puts_it(service: Ingest, shop: Shop) -> None:
    id_ = await service.connect(shop, token="wrong")
    ended = await service.synced(id_)
    assert (ended.outcome, ended.reason) == (connector.SyncOutcome.FAILED, "credentials_rejected")
    assert await service.status(id_) == "error"
    given = connector.ConfigureConnector(connector_id=id_, sealed_credentials=service.sealed(token=TOKEN))
    assert (await service.ask(given, connector.ConnectorChanged)).status == "pending"
    assert (await service.synced(id_)).outcome is SUCCEEDED
    assert await service.status(id_) == "connected"


async def signed_in(service: Ingest, shop: Shop) -> str:
    """A connector whose person has agreed."""
    id_ = await service.connect(shop, auth=1, client_id="a", client_secret="b")
    started = await service.ask(
        connector.StartAuthorization(connector_id=id_, redirect_uri="https://causeloop.example/callback"),
        connector.AuthorizationStarted,
    )
    finish = connector.FinishAuthorization(state=started.state, sealed_code=service.sealed_text("c", "code"))
    finished = await service.ask(finish, connector.AuthorizationFinished)
    assert finished.status == "connected"
    return id_


async def test_a_test_renews_a_token_that_was_taken_back_and_says_when_its_grant_is_gone(
    service: Ingest, shop: Shop
) -> None:
    """So that nobody is told to bring other credentials."""
    shop.grant_seconds = 3_600
    id_ = await signed_in(service, shop)
    shop.is_locked = True
    tested = await service.ask(connector.TestConnector(connector_id=id_), connector.ConnectorTested)
    assert (tested.is_good, tested.status) == (False, "oauth_expired")
    assert shop.n_grants == 2
    assert "sign in again" in tested.checks[0].detail


async def test_connector_whose_grant_is_gone_waits_for_a_person(service: Ingest, shop: Shop) -> None:
    id_ = await signed_in(service, shop)

    async def is_expired() -> bool:
        return (await service.synced(id_)).reason == "oauth_expired"

    await eventually(is_expired)
    assert await service.status(id_) == "oauth_expired"


async def _tried(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    age: timedelta,
    *,
    kind: connector.SyncKind = connector.SyncKind.SCHEDULED,
    is_last_try: bool = False,
) -> list[object]:
    """What a run of an age says of its end when doing it raises this."""
    ends: list[object] = []

    async def fail(_: object) -> None:
        raise error

    async def end(_: object, *said: object) -> None:
        ends.extend(said)

    monkeypatch.setattr(_Run, "_do", fail)
    monkeypatch.setattr(_Run, "_end", end)
    now = datetime.now(UTC)
    request = connector.SyncRequested(run_id="syn_1", connector_id="con_1", kind=kind)
    nothing: Any = None
    tools = Tools(
        sources=nothing,
        intake=nothing,
        records=nothing,
        vault=nothing,
        asking=nothing,
        rows=nothing,
        locks=nothing,
        clock=lambda: now,
    )
    run = _Run(tools, SyncRun(request=request, requested_at=now - age), WORKSPACE)
    await run.do(is_last_try=is_last_try)
    return ends


async def test_backfill_that_gets_nowhere_ends_with_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ours may be away for long; whatever takes a run on begins the count anew, waiting does not."""
    told: list[bool] = []

    class Failing:
        has_got_on = False
        error: Exception = UnavailableError("the log is away")

        async def do(self, *, is_last_try: bool) -> None:
            told.append(is_last_try)
            if not is_last_try:
                raise self.error

    nothing: Any = None
    syncing, run = Syncing(nothing), Failing()

    async def tried(n: int, *, got_on: bool = False, error: Exception = Failing.error) -> None:
        run.has_got_on, run.error = got_on, error
        for _ in range(n):
            with pytest.raises(type(error)):
                await syncing._try(run, "syn_1")  # type: ignore[arg-type]  # as far as it is used

    await tried(TRIES_MAX - 2)
    await tried(1, got_on=True)
    await tried(TRIES_MAX - 3)
    await tried(5, error=Later(1))
    await tried(1)
    assert not any(told)
    await syncing._try(run, "syn_1")  # type: ignore[arg-type]  # as far as it is used
    assert told[-1]


async def test_run_ends_whatever_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run is open its connector is not polled: what would be raised again ends it, all else after a day."""
    hour, days = timedelta(hours=1), timedelta(days=2)
    for error in (OverflowError(), RecursionError(), SealError("another key"), KeyError()):
        assert (await _tried(monkeypatch, error, hour))[:2] == [
            connector.SyncOutcome.FAILED,
            "internal_error",
        ]
    with pytest.raises(UnavailableError):
        await _tried(monkeypatch, UnavailableError("the log is away"), hour)
    assert (await _tried(monkeypatch, UnavailableError("the log is away"), days))[1] == "internal_error"
    with pytest.raises(Later):
        await _tried(monkeypatch, Later(1), days)
    away, backfill = UnavailableError("the log is away"), connector.SyncKind.BACKFILL
    with pytest.raises(UnavailableError):
        await _tried(monkeypatch, away, days, kind=backfill)
    assert (await _tried(monkeypatch, away, days, kind=backfill, is_last_try=True))[1] == "internal_error"
