"""What is counted of calls to webhooks, for whoever watches the gateway."""

from datetime import timedelta

import pytest
from contracts import derived_id
from runtime import metrics
from runtime.outbound import Answer, OutboundError
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database

from services.gateway.routes.webhook_deliveries import redeliver

from .tenants import onboard
from .test_webhook_turns import sending


def counted(name: str, **labels: str) -> float | None:
    """What /metrics shows of webhooks."""
    return metrics.REGISTRY.get_sample_value(f"causeloop_webhook_{name}", labels)


async def test_what_is_sent_again_is_not_late(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asked for it, days behind the event: that is no time for which the event waited."""
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")
        seen = []
        for _ in range(2):
            taken = await ours.turn()
            assert taken is not None
            await ours.messenger._turn(taken)
            seen.append(counted("lag_seconds_count"))
            ours.clock.now += timedelta(days=1)
            delivery_id = derived_id("whd_", webhook_id, "evt_1")
            await ours.asked(client, redeliver, webhook_id=webhook_id, delivery_id=delivery_id)
        assert len(ours.receivers.calls[webhook_id]) == 2
        assert seen[0] == seen[1]


@pytest.mark.parametrize("why", ["no secret", "refused"])
async def test_what_was_never_called_is_counted_as_unsent(
    database: Database, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    client = await onboard(database.owner_url)
    async with sending(database, monkeypatch) as ours:
        webhook_id = await ours.webhook(client, "1", "evt_1")

        async def refuse(*_: object, **__: object) -> Answer:
            raise OutboundError("inside", is_refused=True)

        if why == "refused":
            monkeypatch.setattr(ours.receivers, "send", refuse)
        else:
            ours.sender._vault.masters = MasterKeys(SealingKey.made())

        def seen() -> list[float]:
            outcomes = ("taken", "refused", "unanswered", "unsent")
            found = [counted("attempts_total", outcome=word) for word in outcomes]
            assert None not in found, "a rate of what never was is zero"
            return [each or 0.0 for each in (*found, counted("lag_seconds_count"))]

        before = seen()
        taken = await ours.turn()
        assert taken is not None
        await ours.messenger._turn(taken)
        assert (await ours.delivery(client, webhook_id, "evt_1")).n_attempts == 1
        assert [now - then for now, then in zip(seen(), before, strict=True)] == [0, 0, 0, 1, 0]
