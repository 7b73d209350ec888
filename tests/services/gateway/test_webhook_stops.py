"""What a gateway that stops amid its calls to webhooks leaves behind."""

import asyncio
from datetime import timedelta

import pytest
from runtime.outbound import Answer
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.routes.webhook_deliveries import test_webhook
from services.gateway.subscriptions import messenger

from .tenants import execute, onboard
from .test_webhook_turns import sending


async def test_a_gateway_that_stops_leaves_its_webhooks_to_others_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need not wait for the end of its leases, as they do for those of one that was killed."""
    # What a gateway has for that is a bound for its end, which a busy machine may cross.
    monkeypatch.setattr(messenger, "FREE_SECONDS", 30.0)
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")

        async def meanwhile(_: str) -> None:
            if len(ours.receivers.calls[webhook_id]) == 2:
                await asyncio.Event().wait()
            ours.clock.now += timedelta(seconds=9)

        ours.receivers.meanwhile = meanwhile
        running = asyncio.create_task(ours.messenger.run())
        await eventually(lambda: len(ours.receivers.calls[webhook_id]) == 2)
        assert await ours.turn() is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await ours.turn() is not None


async def test_a_turn_that_was_lost_leaves_the_next_one_of_its_gateway_to_be_freed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that was held up may have taken the same webhook again before it notices."""
    monkeypatch.setattr(messenger, "FREE_SECONDS", 30.0)
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")
        calls, first = ours.receivers.calls[webhook_id], asyncio.Event()

        async def meanwhile(_: str) -> None:
            await (first if len(calls) == 1 else asyncio.Event()).wait()

        ours.receivers.meanwhile = meanwhile
        running = asyncio.create_task(ours.messenger.run())
        await eventually(lambda: len(calls) == 1)
        ours.clock.now += timedelta(seconds=60)
        ours.messenger.wake()
        await eventually(lambda: len(calls) == 2)
        first.set()
        await eventually(lambda: len(ours.messenger._turns) == 1)
        assert await ours.turn() is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await ours.turn() is not None


async def test_a_test_is_not_on_its_way_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose gateway ended amid the call has failed; the other is noted as it went."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1")
        calls, hanging = ours.receivers.calls[webhook_id], asyncio.Event()

        async def meanwhile(_: str) -> None:
            hanging.set()
            await asyncio.Event().wait()

        async def refuse(*_: object, **__: object) -> Answer:
            return Answer(500, {}, b"")

        ours.receivers.meanwhile = meanwhile
        tested = asyncio.create_task(ours.asked(client, test_webhook, webhook_id=webhook_id))
        await asyncio.wait([asyncio.create_task(hanging.wait()), tested], return_when="FIRST_COMPLETED")
        tested.cancel()
        await asyncio.gather(tested, return_exceptions=True)
        monkeypatch.setattr(ours.receivers, "send", refuse)
        await ours.asked(client, test_webhook, webhook_id=webhook_id)
        rows = (
            "SELECT status, n_attempts, response_status, error IS NULL FROM webhook_deliveries ORDER BY seq"
        )
        assert await execute(ours.owner_url, rows) == [("failed", 0, None, False), ("failed", 1, 500, True)]
        assert len(calls) == 1
