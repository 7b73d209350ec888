"""Turns at webhooks, by their rows: one gateway's at a time, in order, whatever is changed or deleted meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from contracts import derived_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime import database as databases
from runtime import metrics
from runtime.database import Pool
from runtime.database import tenant as of_tenant
from runtime.outbound import Answer
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.identity.tokens import Principal
from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks import sending as attempts
from services.gateway.identity.webhooks.sending import Attempt, Sender
from services.gateway.routes.operation import Call, NoQuery
from services.gateway.subscriptions import messenger
from services.gateway.subscriptions.messenger import Content, Messenger

from .tenants import Tenant, execute, onboard
from .test_webhooks import Clock, keep

URL = "https://example.com/"
Handler = Callable[[Any, Call[NoQuery, None]], Awaitable[Any]]


class Receivers:
    """All there are, in place of the network.

    calls: of each webhook, what it was sent, in order, and where. tenants: for whom.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.tenants: list[str] = []
        self.meanwhile: Callable[[str], Awaitable[object]] | None = None

    def of(self, tenant: str) -> "Receivers":
        """The same for each workspace."""
        self.tenants.append(tenant)
        return self

    async def send(self, _: str, url: str, *, content: bytes, **__: object) -> Answer:
        event = msgspec.json.decode(content)
        webhook_id = event["data"]["webhook_id"]
        self.calls[webhook_id].append((event["id"], url))
        if self.meanwhile is not None:
            await self.meanwhile(webhook_id)
        return Answer(204, {}, b"")


class Sending(Struct, frozen=True):
    """What sends, with nothing but the database behind it."""

    pool: Pool
    owner_url: str
    sender: Sender
    messenger: Messenger
    receivers: Receivers
    clock: Clock

    async def webhook(self, client: Tenant, name: str, *events: str) -> str:
        """The id of a new one, for which these events are due."""
        space, webhook_id = client.workspace_id, derived_id("whk_", client.workspace_id, name)
        async with of_tenant(self.pool, space) as conn:
            await keep(conn, self.sender, space, webhook_id, now=self.clock.now)
        await self.queue(client, webhook_id, *events)
        return webhook_id

    async def queue(self, client: Tenant, webhook_id: str, *events: str) -> None:
        """These events are due for it now."""
        space = client.workspace_id
        async with of_tenant(self.pool, space) as conn:
            for event in events:
                await _queries.insert_delivery(
                    conn,
                    workspace_id=space,
                    webhook_id=webhook_id,
                    delivery_id=derived_id("whd_", webhook_id, event),
                    event_id=event,
                    event_type="issue.created",
                    event_sequence=1,
                    subject_id="iss_1",
                    details=msgspec.json.encode({"webhook_id": webhook_id}).decode(),
                    occurred_at=self.clock.now,
                    next_attempt_at=self.clock.now,
                    created_at=self.clock.now,
                )

    async def asked(self, client: Tenant, handler: Handler, **path: str) -> Any:
        """What the owner is answered."""
        resources = SimpleNamespace(clock=self.clock)
        gateway = SimpleNamespace(people=self.pool, webhooks=self.sender, rng=Random(), resources=resources)
        owner = Principal(
            workspace_id=client.workspace_id,
            user_id=client.owner_id,
            role="owner",
            scopes=frozenset(),
            session_id="",
            expires_at=self.clock.now,
        )
        return await handler(gateway, Call(principal=owner, path=path, query=NoQuery(), body=None, scope=""))

    async def delivery(self, client: Tenant, webhook_id: str, event: str) -> _queries.Delivery:
        """What the log of them says of what `queue` made."""
        of = {"workspace_id": client.workspace_id, "webhook_id": webhook_id}
        async with of_tenant(self.pool, client.workspace_id) as conn:
            found = await _queries.get_delivery(conn, delivery_id=derived_id("whd_", webhook_id, event), **of)
        assert found is not None
        return found

    async def turn(self) -> _queries.Turn | None:
        """One that is taken now, if anybody may."""
        until = self.clock.now + timedelta(seconds=messenger.LEASE_SECONDS)
        async with self.pool.connection() as conn:
            return await _queries.take_turn(conn, now_at=self.clock.now, until=until, without=[])

    async def change(self, client: Tenant, webhook_id: str, **change: Any) -> None:
        """As PATCH does it."""
        nothing = {"url": None, "description": None, "event_types": None, "is_active": None}
        async with of_tenant(self.pool, client.workspace_id) as conn:
            await _queries.update_webhook(
                conn,
                from_sequence=0,
                updated_at=self.clock.now,
                workspace_id=client.workspace_id,
                webhook_id=webhook_id,
                **(nothing | change),
            )


async def told(_: object, __: str, delivery: _queries.Due) -> Content:
    """What is said of a delivery without a read model: what the event adds."""
    return Content(msgspec.json.decode(delivery.details))


@asynccontextmanager
async def sending(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sending]:
    async def reached(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(messenger, "content_of", told)
    clock, receivers = Clock(), Receivers()
    async with databases.pool(database.app_url, schema="identity") as pool:
        vault = Vault(MasterKeys(SealingKey.made()), clock=clock)
        sender: Any = Sender(pool, vault, receivers, clock=clock)
        gateway: Any = SimpleNamespace(people=pool, resources=SimpleNamespace(clock=clock, reached=reached))
        yield Sending(pool, database.owner_url, sender, Messenger(gateway, sender), receivers, clock)


async def test_a_turn_is_one_gateways_whatever_is_changed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a change of the webhook nor the late end of a turn that has lapsed lets a second one in beside the first."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        first = await ours.turn()
        assert first is not None
        await ours.change(client, webhook_id, is_active=True)
        await ours.change(client, webhook_id, url="https://example.org/")
        assert await ours.turn() is None
        ours.clock.now += timedelta(seconds=90)
        second = await ours.turn()
        assert second is not None
        await ours.sender.end_turn(first)
        assert await ours.turn() is None
        await ours.sender.end_turn(second)
        assert await ours.turn() is not None


async def test_a_turn_is_held_while_it_lasts_and_soon_free_when_its_gateway_dies(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four calls of nine seconds each: nobody else is at it meanwhile; a quarter of a minute behind the last one somebody is."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", *(f"evt_{n}" for n in range(5)))
        calls = ours.receivers.calls[webhook_id]

        async def meanwhile(_: str) -> None:
            if len(calls) == 5:
                await asyncio.Event().wait()
            ours.clock.now += timedelta(seconds=9)
            assert await ours.turn() is None

        ours.receivers.meanwhile = meanwhile
        taken = await ours.turn()
        assert taken is not None
        sent = asyncio.create_task(ours.messenger._turn(taken))
        await eventually(lambda: len(calls) == 5 or sent.done())
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
        assert (len(calls), await ours.turn()) == (5, None)
        ours.clock.now += timedelta(seconds=15)
        assert await ours.turn() is not None


async def test_a_gateway_that_was_held_up_does_not_send_beside_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")
        others: list[_queries.Turn | None] = []

        async def meanwhile(_: str) -> None:
            ours.clock.now += timedelta(seconds=60)
            others.append(await ours.turn())

        ours.receivers.meanwhile = meanwhile
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        assert ours.receivers.calls[webhook_id] == [("evt_1", URL)]
        [other] = others
        assert other is not None
        assert await ours.turn() is None, "the turn of the other one was ended"


async def test_what_is_queued_while_a_look_finds_nothing_is_found_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        await execute(
            ours.owner_url,
            "UPDATE webhook_deliveries SET status = 'succeeded', delivery_id = %s",
            derived_id("whd_", "1"),
        )
        async with ours.pool.connection() as conn, conn.transaction():
            now, until = ours.clock.now, ours.clock.now + timedelta(seconds=15)
            assert await _queries.take_turn(conn, now_at=now, until=until, without=[]) is None
            queueing = asyncio.create_task(ours.queue(client, webhook_id, "evt_2"))
            await eventually(lambda: somebody_waits_for(conn, ours.owner_url))
        await queueing
        assert await ours.turn() is not None


MOVED = "https://example.org/"


@pytest.mark.parametrize("change", ["switched off", "deleted", "suspended", MOVED])
async def test_a_turn_goes_by_what_the_webhook_is_now(
    database: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")

        async def meanwhile(_: str) -> None:
            match change:
                case "switched off":
                    await ours.change(client, webhook_id, is_active=False)
                case "deleted":
                    await execute(ours.owner_url, "DELETE FROM webhooks WHERE webhook_id = %s", webhook_id)
                case "suspended":
                    await execute(ours.owner_url, "SELECT suspend_client(%s)", client.slug)
                case _:
                    await ours.change(client, webhook_id, url=change)

        ours.receivers.meanwhile = meanwhile
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        behind = [("evt_2", MOVED)] if change == MOVED else []
        assert ours.receivers.calls[webhook_id] == [("evt_1", URL), *behind]
        assert set(ours.receivers.tenants) == {client.workspace_id}


async def test_slow_receivers_hold_up_no_other_and_order_is_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five of a workspace hang, of which four have a turn; in another one only the one that hangs waits."""
    clients = [await onboard(database.owner_url) for _ in range(2)]
    events = ("evt_1", "evt_2", "evt_3")
    async with sending(database, monkeypatch) as ours:
        hanging = [await ours.webhook(clients[0], f"slow {n}", *events) for n in range(5)]
        slow = await ours.webhook(clients[1], "slow", *events)
        quick = [await ours.webhook(clients[1], f"quick {n}", *events) for n in range(2)]
        gate, calls = asyncio.Event(), ours.receivers.calls

        async def meanwhile(webhook_id: str) -> None:
            if webhook_id not in quick:
                await gate.wait()

        def have(webhook_ids: list[str]) -> bool:
            return all([event for event, _ in calls[each]] == [*events] for each in webhook_ids)

        ours.receivers.meanwhile = meanwhile
        running = asyncio.create_task(ours.messenger.run())
        try:
            # Whose turn comes first is nobody's: the slow one may be called last.
            await eventually(lambda: have(quick) and sum(bool(calls[each]) for each in [*hanging, slow]) == 5)
            assert len(calls[slow]) == 1
            assert sum(len(calls[each]) for each in hanging) == 4
            gate.set()
            await eventually(lambda: have([*hanging, slow]))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_workspaces_of_slow_receivers_together_leave_half_of_the_turns_to_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose receivers took long while they had all turns end theirs; what they are sent waits, and is sent."""
    monkeypatch.setattr(messenger, "AT_ONCE_MAX", 4)
    seconds = 0.0
    monkeypatch.setattr(attempts, "perf_counter", lambda: seconds)
    clients = [await onboard(database.owner_url) for _ in range(3)]
    events = ("evt_1", "evt_2")
    async with sending(database, monkeypatch) as ours:
        slow = [await ours.webhook(client, name, *events) for client in clients[:2] for name in "ab"]
        gates, calls = {1: asyncio.Event(), 2: asyncio.Event()}, ours.receivers.calls

        async def meanwhile(webhook_id: str) -> None:
            nonlocal seconds
            if webhook_id in slow:
                await gates[len(calls[webhook_id])].wait()
                seconds += messenger.SLOW_SECONDS + 1

        def n_calls() -> int:
            return sum(len(calls[each]) for each in slow)

        ours.receivers.meanwhile = meanwhile
        running = asyncio.create_task(ours.messenger.run())
        try:
            await eventually(lambda: n_calls() == 4)
            quick = await ours.webhook(clients[2], "quick", *events)
            gates[1].set()
            await eventually(lambda: len(calls[quick]) == 2 and n_calls() >= 6)
            await asyncio.sleep(0.1)
            assert n_calls() == 6
            gates[2].set()
            await eventually(lambda: n_calls() == 8)
            assert all([event for event, _ in calls[each]] == [*events] for each in [*slow, quick])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_it_ends_though_it_is_told_of_something_at_that_moment(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messenger, "LOOK_SECONDS", 3600.0)
    async with sending(database, monkeypatch) as ours:
        running = asyncio.create_task(ours.messenger.run())
        await eventually(lambda: ours.messenger._told._waiters)
        ours.messenger._told.set()
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=30)
        running.cancel()
        assert done


async def somebody_waits_for(conn: AsyncConnection[Any], owner_url: str) -> bool:
    """Whether a transaction can go on only when this one has ended."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return bool(await execute(owner_url, waiting, conn.info.backend_pid))


async def test_an_attempt_ends_while_its_webhook_is_deleted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await onboard(database.owner_url)
    space = client.workspace_id
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        receiver = await ours.sender.find(space, webhook_id)
        assert receiver is not None
        async with of_tenant(ours.pool, space) as conn:
            await conn.execute("SELECT FROM webhooks FOR UPDATE")
            good = Attempt(204, "", None, 1)
            noting = asyncio.create_task(
                ours.sender.note(receiver, derived_id("whd_", webhook_id, "evt_1"), good, n_before=0)
            )
            await eventually(lambda: somebody_waits_for(conn, ours.owner_url))
            assert await _queries.delete_webhook(conn, workspace_id=space, webhook_id=webhook_id)
        await noting


async def test_of_two_rotations_at_once_both_secrets_sign(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await onboard(database.owner_url)
    space = client.workspace_id
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1")

        async def rotate() -> str:
            async with of_tenant(ours.pool, space) as conn:
                return (await ours.sender.rotate(conn, space, webhook_id) or ("", None))[0]

        async with of_tenant(ours.pool, space) as conn:
            first = await ours.sender.rotate(conn, space, webhook_id)
            assert first is not None
            rotating = asyncio.create_task(rotate())
            await eventually(lambda: somebody_waits_for(conn, ours.owner_url))
        second = await rotating
        receiver = await ours.sender.find(space, webhook_id)
        assert receiver is not None
        assert receiver.secrets == (second, first[0])


async def test_what_cannot_be_made_steps_aside(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again and shown, without a word against the webhook; the next one is sent."""
    client = await onboard(database.owner_url)
    space = client.workspace_id
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")

        async def broken(gateway: object, space: str, delivery: _queries.Due) -> Content:
            if delivery.event_id == "evt_1":
                raise LookupError("pattern_id")
            return await told(gateway, space, delivery)

        monkeypatch.setattr(messenger, "content_of", broken)
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        assert ours.receivers.calls[webhook_id] == [("evt_2", URL)]
        async with of_tenant(ours.pool, space) as conn:
            webhook = await _queries.get_webhook(conn, workspace_id=space, webhook_id=webhook_id)
            unmade = await _queries.get_delivery(
                conn,
                workspace_id=space,
                webhook_id=webhook_id,
                delivery_id=derived_id("whd_", webhook_id, "evt_1"),
            )
        assert webhook is not None
        assert unmade is not None
        assert (unmade.status, unmade.n_attempts, webhook.failing_since) == ("pending", 1, None)
        assert "pattern_id" not in (unmade.error or "pattern_id")


async def test_what_came_of_calls_and_how_late_they_were_is_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever watches the gateway: by outcome, and from an event to the first call about it."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        await ours.webhook(client, "1", "evt_1", "evt_2")
        answers = [500, 204, 204]

        async def send(*_: object, **__: object) -> Answer:
            return Answer(answers.pop(0), {}, b"")

        monkeypatch.setattr(ours.receivers, "send", send)

        def counted(name: str, **labels: str) -> float:
            return metrics.REGISTRY.get_sample_value(f"causeloop_webhook_{name}", labels) or 0.0

        def seen() -> list[float]:
            by_outcome = [counted("attempts_total", outcome=word) for word in ("taken", "refused")]
            return [*by_outcome, counted("lag_seconds_count"), counted("lag_seconds_sum")]

        before = seen()
        ours.clock.now += timedelta(seconds=3)
        for _ in range(2):
            taken = await ours.turn()
            assert taken is not None
            await ours.messenger._turn(taken)
            ours.clock.now += timedelta(seconds=5)
        assert answers == []
        assert [now - then for now, then in zip(seen(), before, strict=True)] == [2, 1, 2, 11]


async def test_a_webhook_whose_secret_is_lost_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restore with another master key: the attempt is noted, so that its health tells."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        ours.sender._vault.masters = MasterKeys(SealingKey.made())
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        async with of_tenant(ours.pool, client.workspace_id) as conn:
            webhook = await _queries.get_webhook(
                conn, workspace_id=client.workspace_id, webhook_id=webhook_id
            )
        assert webhook is not None
        assert (ours.receivers.calls, webhook.failing_since) == ({}, ours.clock.now)


async def test_the_late_end_of_an_attempt_takes_back_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gateway has delivered meanwhile: it stays delivered, and nothing is held against the webhook."""
    client = await onboard(database.owner_url)
    space = client.workspace_id
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        answers = [503, 204]

        async def send(*_: object, **__: object) -> Answer:
            status = answers.pop(0)
            if status == 503:
                ours.clock.now += timedelta(seconds=16)
                other = await ours.turn()
                assert other is not None
                await ours.messenger._turn(other)
                assert await ours.turn() is None
            return Answer(status, {}, b"")

        monkeypatch.setattr(ours.receivers, "send", send)
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        shown = await ours.delivery(client, webhook_id, "evt_1")
        async with of_tenant(ours.pool, space) as conn:
            webhook = await _queries.get_webhook(conn, workspace_id=space, webhook_id=webhook_id)
        assert webhook is not None
        assert (shown.status, shown.n_attempts, shown.response_status) == ("succeeded", 1, 204)
        assert webhook.failing_since is None


async def test_nobody_sends_beside_a_call_whose_rows_took_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that take six seconds and a call of nine and a half: the turn is ours to its end."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")

        async def slow(*given: Any) -> Content:
            ours.clock.now += timedelta(seconds=6)
            return await told(*given)

        async def meanwhile(_: str) -> None:
            ours.clock.now += timedelta(seconds=9.5)
            assert await ours.turn() is None

        monkeypatch.setattr(messenger, "content_of", slow)
        ours.receivers.meanwhile = meanwhile
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        assert ours.receivers.calls[webhook_id] == [("evt_1", URL), ("evt_2", URL)]


async def test_a_delivery_waits_for_what_it_is_about(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its event is projected nothing is to be seen yet, which is no reason to leave it out."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        is_there = False

        async def reached(*_: object, **__: object) -> bool:
            return is_there

        async def projected(*given: Any) -> Content | None:
            return await told(*given) if is_there else None

        monkeypatch.setattr(ours.messenger._gateway.resources, "reached", reached)
        monkeypatch.setattr(messenger, "content_of", projected)
        for n_calls in (0, 1):
            taken = await ours.turn()
            assert taken is not None
            await ours.messenger._turn(taken)
            assert len(ours.receivers.calls[webhook_id]) == n_calls
            is_there = True
        assert (await ours.delivery(client, webhook_id, "evt_1")).status == "succeeded"
