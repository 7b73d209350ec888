"""The first hour with Causeloop, call by call: an integrator's quickstart, an operator's first client, a forecast."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from testkit.stack import Stack, running_stack
from testkit.waiting import eventually
from websockets.asyncio.client import connect

from tests.services.gateway.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.services.gateway.tenants import onboard

FAILURE = {
    "title": "Connection pool of the ledger database is exhausted",
    "severity": "p1",
    "service": "ledger",
    "error_type": "PoolTimeout",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack in mock mode for all journeys that can share it: each is a client of its own."""
    running = Stack()
    try:
        asyncio.run(running.start())
        yield running
    finally:
        asyncio.run(running.stop())


async def asked(call: Awaitable[httpx.Response], status: int) -> Any:
    """The answer's JSON, once its status is right."""
    answer = await call
    assert answer.status_code == status, (answer.request.method, answer.request.url, answer.text)
    return answer.json() if answer.content else None


async def test_the_integrators_quickstart(stack: Stack) -> None:
    """Sign in, report, read, page, refresh: every call of the quickstart answers as it promises, in mock mode."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as api:
        assert (await api.get("/health")).status_code == (await api.get("/ready")).status_code == 200
        pair = await asked(api.post("/v1/auth/exchange", json={"subject_token": "anything"}), 200)
        assert pair["token_type"].lower() == "bearer"
        assert {"issues:read", "issues:write", "patterns:read"} <= set(pair["scope"].split())
        assert pair["refresh_token"].startswith("clp_refresh_")
        assert pair["workspace_id"].startswith("ws_")
        assert pair["expires_in"] > 0
        api.headers["Authorization"] = f"Bearer {pair['access_token']}"
        api.headers["Prefer"] = "wait=10"

        assert (await asked(api.get("/v1/issues"), 200))["page"] == {
            "next_cursor": None,
            "has_more": False,
            "total": 0,
        }
        key = {"Idempotency-Key": str(uuid4())}
        first = await api.post("/v1/issues", json=FAILURE, headers=key)
        again = await api.post("/v1/issues", json=FAILURE, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert int(first.headers["x-ratelimit-remaining"]) < int(first.headers["x-ratelimit-limit"])

        for _ in range(3):
            await asked(api.post("/v1/issues", json=FAILURE), 201)
        listed = await asked(api.get("/v1/issues", params={"severity_format": "label", "limit": 3}), 200)
        assert [issue["severity"] for issue in listed["data"]] == ["critical"] * 3
        assert {"id", "title", "status", "severity", "pattern_id", "created_at"} <= set(listed["data"][0])
        assert (listed["page"]["has_more"], listed["page"]["total"]) == (True, 4)
        more = {"severity_format": "label", "limit": 3, "cursor": listed["page"]["next_cursor"]}
        rest = await asked(api.get("/v1/issues", params=more), 200)
        assert [issue["id"] for issue in rest["data"]] == [first.json()["id"]]
        unsigned = await asked(api.get("/v1/issues", params={"cursor": "eyJvZmZzZXQiOiAyNX0"}), 400)
        assert (unsigned["error"]["code"], unsigned["detail"]) == (
            "validation_error",
            "malformed cursor token",
        )

        pattern = await pattern_of(api, 4)
        assert {"id", "name", "status", "risk_score", "issue_count", "last_seen_at", "fingerprint"} <= set(
            pattern
        )
        assert (pattern["issue_count"], pattern["fingerprint"]["service"]) == (4, "ledger")

        missing = await api.get("/v1/issues/iss_7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
        error = missing.json()["error"]
        assert (missing.status_code, error["code"]) == (404, "not_found")
        assert error["trace_id"] == missing.headers["x-request-id"]
        assert error["details"] == {"id": "iss_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"}

        address = f"{stack.url.replace('http', 'ws')}/v1/stream?token={pair['access_token']}"
        async with connect(address) as stream, asyncio.timeout(30):
            assert '"connected"' in str(await stream.recv())

        refresh = {"refresh_token": pair["refresh_token"]}
        renewed = await asked(api.post("/v1/auth/refresh", json=refresh), 200)
        assert renewed["refresh_token"] != pair["refresh_token"]
        api.headers["Authorization"] = f"Bearer {renewed['access_token']}"
        await asked(api.get("/v1/issues"), 200)
        replayed = await asked(api.post("/v1/auth/refresh", json=refresh), 401)
        assert replayed["error"]["code"] == "invalid_grant"

        # Somebody has a copy of it, so what came of it is over, too.
        await asked(api.get("/v1/issues"), 401)

        assert "/v1/issues" in (await asked(api.get("/openapi.json"), 200))["paths"]
        assert (await api.get("/docs")).status_code == 200


async def found(api: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The first thing in a list, once there is one."""

    async def first() -> dict[str, Any] | None:
        listed: list[dict[str, Any]] = (await asked(api.get(path), 200))["data"]
        return listed[0] if listed else None

    thing = await eventually(first)
    assert thing is not None
    return thing


async def pattern_of(api: httpx.AsyncClient, issues: int) -> dict[str, Any]:
    """The first pattern, once so many issues are linked to it: the last ones may join after it is found."""

    async def whole() -> dict[str, Any] | None:
        for listed in (await asked(api.get("/v1/patterns"), 200))["data"]:
            pattern: dict[str, Any] = await asked(api.get(f"/v1/patterns/{listed['id']}"), 200)
            if pattern["issue_count"] == issues:
                return pattern
        return None

    pattern = await eventually(whole)
    assert pattern is not None
    return pattern


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    """The identity provider that the platform trusts."""
    running = IdentityProvider()
    try:
        yield running
    finally:
        running.close()


class Door:
    """How people come in, where nobody is let in without the provider's word."""

    def __init__(self, stack: Stack, provider: IdentityProvider) -> None:
        self._stack = stack
        self._provider = provider

    def sql(self, statement: str, *values: object) -> tuple[Any, ...]:
        """The row that an operator's statement gives."""
        with psycopg.connect(self._stack.database.owner_url) as conn:
            row = conn.execute(statement.encode(), values).fetchone()
            assert row is not None
            return tuple(row)

    async def token(self, email: str) -> str:
        """The provider's word for somebody."""
        subject = await asyncio.to_thread(self._provider.know, email)
        return await asyncio.to_thread(self._provider.id_token, subject)

    async def exchange(self, api: httpx.AsyncClient, email: str, **more: str) -> httpx.Response:
        """What the provider's token for somebody is exchanged for."""
        return await api.post("/v1/auth/exchange", json={"subject_token": await self.token(email), **more})


async def until(call: Callable[[], Awaitable[httpx.Response]], status: int) -> None:
    """Wait for an answer with this status."""

    async def is_so() -> bool:
        return (await call()).status_code == status

    await eventually(is_so)


async def test_the_operators_first_client(provider: IdentityProvider) -> None:
    """From one SQL call to a suspended client; people come in through a real identity provider."""
    env = {
        "USE_MOCK": "0",
        "OIDC_ISSUER": provider.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
    }
    async with (
        running_stack(env=env) as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=30) as owner,
        httpx.AsyncClient(base_url=stack.url, timeout=30) as analyst,
        httpx.AsyncClient(base_url=stack.url, timeout=30) as program,
    ):
        door = Door(stack, provider)
        ana = {"subject_token": await door.token("ana@acme.example")}
        await asked(owner.post("/v1/auth/exchange", json=ana), 403)

        organization, workspace, _, _ = door.sql(
            "SELECT * FROM identity.onboard_client(p_org_name => 'Acme Inc', p_org_slug => 'acme',"
            " p_owner_email => 'ana@acme.example', p_seats => 2)"
        )
        pair = await asked(owner.post("/v1/auth/exchange", json=ana), 200)
        owner.headers["Authorization"] = f"Bearer {pair['access_token']}"
        seen = await asked(owner.get("/v1/workspace"), 200)
        assert seen["id"] == workspace
        assert (await asked(owner.get("/v1/organization"), 200))["id"] == organization
        onboarding = await asked(owner.get("/v1/onboarding"), 200)
        assert (onboarding["current_step"], onboarding["is_complete"]) == ("connect_source", False)
        with pytest.raises(psycopg.errors.UniqueViolation):
            door.sql("SELECT * FROM identity.onboard_client('Acme again', 'acme', 'ana@acme.example')")

        invited = {"email": "ada@acme.example", "role": "analyst"}
        await asked(owner.post("/v1/invitations", json=invited), 201)
        letter = await eventually(lambda: letter_to(owner, "ada@acme.example"))
        assert letter is not None
        token = letter.partition("#")[2].split()[0]
        welcome = await asked(analyst.post("/v1/invitations/look", json={"token": token}), 200)
        assert (welcome["workspace_id"], welcome["role"]) == (workspace, "analyst")
        joined = await door.exchange(analyst, "ada@acme.example", invitation_token=token)
        assert joined.status_code == 200, joined.text
        analyst.headers["Authorization"] = f"Bearer {joined.json()['access_token']}"
        assert (await asked(analyst.get("/v1/users/me"), 200))["role"] == "analyst"
        await asked(owner.post("/v1/invitations", json={"email": "eve@acme.example", "role": "viewer"}), 201)
        letter = await eventually(lambda: letter_to(owner, "eve@acme.example"))
        assert letter is not None
        third = await door.exchange(
            program, "eve@acme.example", invitation_token=letter.partition("#")[2].split()[0]
        )
        assert (third.status_code, third.json()["error"]["code"]) == (422, "seat_limit")

        wanted = {"name": "collector", "scopes": ["issues:write", "issues:read", "patterns:read"]}
        made = await asked(analyst.post("/v1/api-tokens", json=wanted), 201)
        program.headers["Authorization"] = f"Bearer {made['secret']}"
        program.headers["Prefer"] = "wait=10"
        ids = set()
        for number in range(4):
            for _ in range(2):
                key = {"Idempotency-Key": f"failure-{number}"}
                answer = await asked(program.post("/v1/issues", json=FAILURE, headers=key), 201)
                ids.add(answer["id"])
        assert len(ids) == 4
        pattern = await pattern_of(program, 4)
        await asked(program.patch(f"/v1/patterns/{pattern['id']}", json={"name": "x"}), 403)

        door.sql("SELECT * FROM identity.suspend_client('acme', 'an invoice is overdue')")
        for client in (program, analyst, owner):
            await until(lambda client=client: client.get("/v1/issues"), 403)
        await asked(owner.post("/v1/auth/exchange", json=ana), 403)
        door.sql("SELECT * FROM identity.reinstate_client('acme')")
        await until(lambda: program.get("/v1/issues"), 200)


async def letter_to(api: httpx.AsyncClient, email: str) -> str | None:
    """The newest letter to an address, as development catches it."""
    caught = await asked(api.get("/dev/mail.json"), 200)
    return next((str(each["letter"]["text"]) for each in caught if each["letter"]["to"] == email), None)


async def sign_in(client: httpx.AsyncClient, email: str) -> None:
    """A token for the person's workspace."""
    answer = await client.post("/v1/auth/exchange", json={"subject_token": email})
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


async def test_a_failure_that_keeps_coming_is_forecast_and_the_forecast_comes_true(stack: Stack) -> None:
    """Five reports make a pattern with three forecasts; the next report resolves them as hits; feedback is kept."""
    now = datetime.now(UTC)
    client_of = await onboard(stack.database.owner_url)
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        await sign_in(client, client_of.owner_email)
        for number, days in enumerate((15, 12, 9, 6, 3)):
            await report(client, number, now - timedelta(days=days))

        async def forecast() -> list[dict[str, Any]]:
            found = await predictions(client)
            return found if {one["window_days"] for one in found} == {7, 30, 90} else []

        found = await eventually(forecast, every=0.1)
        chances = {one["window_days"]: one["probability"] for one in found}
        assert 0 < chances[7] < chances[30] < chances[90] < 1
        await report(client, 99, datetime.now(UTC))

        async def resolved() -> bool:
            answer = await client.get("/v1/predictions", params={"status": "resolved"})
            assert answer.status_code == 200, answer.text
            return {one["outcome"] for one in answer.json()["data"]} == {"hit"}

        await eventually(resolved, every=0.1)
        feedback = await client.post(
            f"/v1/predictions/{found[0]['id']}/feedback", json={"outcome": "hit", "note": "it came back"}
        )
        assert feedback.status_code == 200, feedback.text
        code, output = await stack.services["prediction"].run("verify")
        assert code == 0, output
