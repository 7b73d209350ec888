"""Migrations of webhooks and their deliveries, while gateways are at work."""

import asyncio
from importlib.resources import files
from typing import Any

import pytest
from contracts import derived_id
from psycopg import AsyncConnection
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.identity.webhooks import _queries
from services.gateway.routes.webhook_deliveries import redeliver, test_webhook

from .tenants import execute, onboard
from .test_webhook_queue import DELIVERY
from .test_webhook_turns import Handler, sending


def migration(name: str) -> tuple[str, str]:
    """Its way up and its way down."""
    text = (files("services.gateway.identity") / "migrations" / name).read_text(encoding="utf-8")
    up, down = text.split("-- migrate:down")
    return up, down


@pytest.mark.parametrize("handler", [redeliver, test_webhook], ids=["redeliver", "test"])
async def test_a_migration_and_who_asks_for_a_delivery_do_not_wait_for_each_other(
    database: Database, monkeypatch: pytest.MonkeyPatch, handler: Handler
) -> None:
    """The migration begins while the deliveries are about to be added to: both come to their end."""
    client = await onboard(database.owner_url)
    up, down = migration("0013_backlogs.sql")
    blocked = "SELECT pid FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND datname = current_database()"

    async def migrate() -> None:
        await execute(database.owner_url, up)

    async def wait_for_locks(*ours: asyncio.Task[Any]) -> bool:
        assert not any(each.done() for each in ours)
        return len(await execute(database.owner_url, blocked)) == len(ours)

    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        await execute(database.owner_url, "UPDATE webhook_deliveries SET status = 'succeeded'")
        await execute(database.owner_url, down)
        delivery_id = derived_id("whd_", webhook_id, "evt_1")
        options = "-c search_path=identity"
        async with await AsyncConnection.connect(database.owner_url, options=options) as conn:
            await conn.execute("LOCK TABLE webhook_deliveries IN SHARE MODE")
            asked = asyncio.create_task(
                ours.asked(client, handler, webhook_id=webhook_id, delivery_id=delivery_id)
            )
            await eventually(lambda: wait_for_locks(asked))
            migrating = asyncio.create_task(migrate())
            await eventually(lambda: wait_for_locks(asked, migrating))
        await asyncio.gather(asked, migrating)


async def test_what_waits_at_an_upgrade_is_found_and_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing is queued for its webhook any more: it is sent, and one more than may wait switches it off."""
    client = await onboard(database.owner_url)
    (due, not_due), (backlogs, no_backlogs) = (
        migration("0012_due_webhooks.sql"),
        migration("0013_backlogs.sql"),
    )
    async with sending(database, monkeypatch) as ours:
        for down in (no_backlogs, not_due):
            await execute(database.owner_url, down)
        webhook_id = await ours.webhook(client, "1", "evt_1", "evt_2")
        for up in (due, backlogs):
            await execute(database.owner_url, up)
        taken = await ours.turn()
        assert taken is not None
        assert taken.webhook_id == webhook_id
        async with ours.pool.connection() as conn:
            await _queries.queue_webhooks(
                conn,
                log_partition=0,
                from_position=-1,
                to_position=9,
                deliveries=f"[{DELIVERY % (webhook_id, 9, 1)}]",
                pending_max=2,
                now_at=ours.clock.now,
            )
            assert (await _queries.webhooks_begin(conn, log_partition=0)).first_sequence is None
