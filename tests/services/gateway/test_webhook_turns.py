"""Turns at a webhook, by its rows: one gateway's at a time, whatever is changed, deleted or rotated meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from contracts import derived_id
from msgspec import Struct
from runtime import database as databases
from runtime.database import Pool
from runtime.database import tenant as of_tenant
from runtime.outbound import Outbound, Reach
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database

from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.sending import Sender

from .tenants import onboard
from .test_webhooks import Clock, keep

DELIVERY_ID = derived_id("whd_", "1")


class Due(Struct, frozen=True):
    """A webhook for which one delivery is due."""

    pool: Pool
    sender: Sender
    clock: Clock
    workspace_id: str
    webhook_id: str

    async def turn(self) -> _queries.Turn | None:
        """One that is taken now, if anybody may."""
        until = self.clock.now + timedelta(seconds=90)
        async with self.pool.connection() as conn:
            return await _queries.take_turn(conn, now_at=self.clock.now, until=until, without=[])

    async def change(self, *, url: str | None = None, is_active: bool | None = None) -> None:
        """As PATCH does it."""
        async with of_tenant(self.pool, self.workspace_id) as conn:
            await _queries.update_webhook(
                conn,
                url=url,
                description=None,
                event_types=None,
                is_active=is_active,
                from_sequence=0,
                updated_at=self.clock.now,
                workspace_id=self.workspace_id,
                webhook_id=self.webhook_id,
            )


@asynccontextmanager
async def due(database: Database) -> AsyncIterator[Due]:
    """One in a new workspace."""
    clock, space = Clock(), (await onboard(database.owner_url)).workspace_id
    async with databases.pool(database.app_url, schema="identity") as pool:
        vault = Vault(MasterKeys(SealingKey.made()), clock=clock)
        found = Due(
            pool, Sender(pool, vault, Outbound(Reach()), clock=clock), clock, space, derived_id("whk_", "1")
        )
        async with of_tenant(pool, space) as conn:
            await keep(conn, found.sender, space, found.webhook_id, now=clock.now)
            await _queries.insert_delivery(
                conn,
                workspace_id=space,
                webhook_id=found.webhook_id,
                delivery_id=DELIVERY_ID,
                event_id="evt_1",
                event_type="issue.created",
                event_sequence=1,
                subject_id="iss_1",
                details="{}",
                occurred_at=clock.now,
                next_attempt_at=clock.now,
                created_at=clock.now,
            )
        yield found


async def test_a_turn_is_one_gateways_whatever_is_changed(database: Database) -> None:
    """Neither a change of the webhook nor the late end of a turn that has lapsed lets a second one in beside the first."""
    async with due(database) as webhook:
        first = await webhook.turn()
        assert first is not None
        await webhook.change(is_active=True)
        await webhook.change(url="https://example.org/")
        assert await webhook.turn() is None
        webhook.clock.now += timedelta(seconds=90)
        second = await webhook.turn()
        assert second is not None
        await webhook.sender.end_turn(first)
        assert await webhook.turn() is None
        await webhook.sender.end_turn(second)
        assert await webhook.turn() is not None
