"""From failures reported over HTTP to forecasts that come true, on the real five processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from testkit.stack import running_stack
from testkit.waiting import eventually


async def sign_in(client: httpx.AsyncClient) -> None:
    """A token for the seeded workspace."""
    answer = await client.post("/v1/auth/exchange", json={"subject_token": "demo"})
    answer.raise_for_status()
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    client.headers["Prefer"] = "wait=10"


async def report(client: httpx.AsyncClient, number: int, at: datetime) -> None:
    """The same failure once more, under its own id."""
    answer = await client.post(
        "/v1/issues",
        json={
            "title": "Connection pool of the ledger database is exhausted",
            "severity": "p2",
            "service": "ledger",
            "source": "pagerduty",
            "external_id": f"journey-{number}",
            "source_created_at": at.isoformat(),
        },
    )
    assert answer.status_code in (200, 201), answer.text


async def predictions(client: httpx.AsyncClient, **query: int) -> list[dict[str, Any]]:
    """Predictions as the list shows them."""
    answer = await client.get("/v1/predictions", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_failure_that_keeps_coming_is_forecast_and_the_forecast_comes_true() -> None:
    """Five reports make a pattern with three forecasts; the next report resolves them as hits; feedback is kept."""
    now = datetime.now(UTC)
    async with running_stack() as stack, httpx.AsyncClient(base_url=stack.url, timeout=10) as client:
        await sign_in(client)
        for number, days in enumerate((15, 12, 9, 6, 3)):
            await report(client, number, now - timedelta(days=days))

        async def forecast() -> list[dict[str, Any]]:
            found = await predictions(client)
            return found if {one["window_days"] for one in found} == {7, 30, 90} else []

        found = await eventually(forecast, deadline=20, every=0.1)
        chances = {one["window_days"]: one["probability"] for one in found}
        assert 0 < chances[7] < chances[30] < chances[90] < 1
        await report(client, 99, datetime.now(UTC))
        accuracy = "/v1/predictions/accuracy"

        async def resolved() -> bool:
            answer = await client.get(accuracy)
            assert answer.status_code == 200, answer.text
            return bool(answer.json()["brier"] is not None)

        await eventually(resolved, deadline=20, every=0.1)
        feedback = await client.post(
            f"/v1/predictions/{found[0]['id']}/feedback", json={"outcome": "hit", "note": "it came back"}
        )
        assert feedback.status_code == 200, feedback.text
        code, output = await stack.services["prediction"].run("verify")
        assert code == 0, output
