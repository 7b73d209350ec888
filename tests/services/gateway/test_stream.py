"""The WebSocket: who may listen, what they hear, and how it ends."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from testkit.stack import Stack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from services.gateway.identity import seed
from tests.services.gateway.conftest import PROVISION_KEY
from tests.services.gateway.tenants import cut_short, execute, onboard, sign_in
from tests.services.gateway.test_api import unique, words


def address(stack: Stack, query: str = "") -> str:
    return stack.url.replace("http://", "ws://") + "/v1/stream" + query


class Listener:
    """Keeps what was heard, since frames of different services come in any order."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._heard: list[dict[str, Any]] = []

    async def hear(self, kind: str, *, seconds: float = 30.0, **payload: object) -> dict[str, Any]:
        """The payload of the first frame of a type, heard already or to come, that has these fields."""
        async with asyncio.timeout(seconds):
            seen = 0
            while True:
                for found in self._heard[seen:]:
                    if found["type"] == kind and payload.items() <= found["payload"].items():
                        return dict(found["payload"])
                seen = len(self._heard)
                received = json.loads(await self._socket.recv())
                assert set(received) == {"type", "payload", "ts"}
                self._heard.append(received)


async def frame(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The payload of the next frame of a type."""
    return await Listener(socket).hear(kind)


async def closed(socket: ClientConnection) -> int:
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


async def test_a_client_follows_the_loop_live(stack: Stack, access_token: str) -> None:
    """From a failure to its recommendation, each readable by GET when its frame comes."""
    service, title = unique("live"), words()
    query = f"?token={access_token}&workspace={seed.WORKSPACE_ID}"
    headers = {"Authorization": f"Bearer {access_token}"}
    async with (
        connect(address(stack, query)) as socket,
        httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as api,
    ):
        listener = Listener(socket)
        assert await listener.hear("connected") == {
            "workspace_id": seed.WORKSPACE_ID,
            "user_id": seed.USER_ID,
        }
        for _ in range(6):
            event = {"title": title, "service": service, "error_type": "Timeout"}
            await api.post("/v1/ingest/events", json=event)
        issue_id = (await listener.hear("issue.created", service=service))["id"]
        assert (await api.get(f"/v1/issues/{issue_id}")).status_code == 200
        changed = await listener.hear("issue.status.changed", id=issue_id, status="pattern_found")
        assert changed["previous_status"] == "new"
        pattern_id = changed["pattern_id"]
        detected = await listener.hear("pattern.detected", id=pattern_id)
        assert (detected["change"], detected["fingerprint"]["service"]) == ("created", service)
        assert (await api.get(f"/v1/patterns/{pattern_id}")).status_code == 200
        generated = await listener.hear("prediction.generated", pattern_id=pattern_id)
        assert (await api.get(f"/v1/predictions/{generated['id']}")).status_code == 200
        made = await listener.hear("recommendation.created", pattern_id=pattern_id)
        await api.patch(f"/v1/recommendations/{made['id']}", json={"status": "in_progress"})
        await listener.hear("recommendation.status.changed", id=made["id"], status="in_progress")
        follows = await listener.hear("issue.status.changed", id=issue_id, status="mitigating")
        assert follows["previous_status"] == "pattern_found"
        await api.patch(f"/v1/patterns/{pattern_id}", json={"name": "Named live"})
        await listener.hear("pattern.updated", id=pattern_id, name="Named live")
        await listener.hear("pattern.detected", id=pattern_id, name="Named live", change="updated")
        await api.patch(f"/v1/issues/{issue_id}", json={"team": "live"})
        assert (await listener.hear("issue.updated", id=issue_id))["changed"] == {"team": "live"}
        await listener.hear("heartbeat", ok=True)


async def test_a_client_hears_of_connectors(stack: Stack, access_token: str) -> None:
    headers = {"Authorization": f"Bearer {access_token}"}
    async with (
        connect(address(stack, f"?token={access_token}")) as socket,
        httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client,
    ):
        listener = Listener(socket)
        await listener.hear("connected")
        body = {"type": "custom_api", "display_name": unique("Ledger")}
        made = (await client.post("/v1/connectors", json=body)).json()
        heard = await listener.hear("connector.created", id=made["id"])
        assert heard["type"] == "custom_api"


async def test_the_token_may_come_as_a_subprotocol(stack: Stack, access_token: str) -> None:
    """`bearer, <token>`, answered with `bearer`."""
    protocols: Any = ["bearer", access_token]
    async with connect(address(stack), subprotocols=protocols) as socket:
        assert socket.subprotocol == "bearer"
        await frame(socket, "connected")


async def test_a_ticket_opens_the_stream_once(stack: Stack, access_token: str) -> None:
    """In the query or as a subprotocol; with the scopes of the API token that it was got with, and until that ends."""
    owner = {"Authorization": f"Bearer {access_token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=owner, timeout=30) as api:
        made = await api.post("/v1/api-tokens", json={"name": unique("t"), "scopes": ["issues:read"]})
        by_token = {"Authorization": f"Bearer {made.json()['secret']}"}

        async def ticket(headers: dict[str, str]) -> str:
            answer = await api.post("/v1/stream/tickets", headers=headers)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["ticket"])

        mine, theirs = await ticket(owner), await ticket(by_token)
        assert (await api.get("/v1/issues", headers={"Authorization": f"Bearer {mine}"})).status_code == 401
        protocols: Any = ["ticket", mine]
        async with (
            connect(address(stack), subprotocols=protocols) as one,
            connect(address(stack, f"?ticket={theirs}&workspace={seed.WORKSPACE_ID}")) as two,
        ):
            assert one.subprotocol == "ticket"
            await frame(one, "connected")
            await frame(two, "connected")
            async with connect(address(stack, f"?ticket={theirs}")) as again:
                assert await closed(again) == 4401
            await api.post("/v1/issues", json={"title": words()})
            await frame(two, "issue.created")
            await api.delete(f"/v1/api-tokens/{made.json()['id']}")
            assert await closed(two) == 4401
            assert one.state is State.OPEN
    async with connect(address(stack, f"?ticket={access_token}")) as wrong:
        assert await closed(wrong) == 4401
    for shown in (mine, theirs, access_token):
        assert shown not in stack.services["gateway"].output()


@pytest.mark.parametrize("query", ["", "?token=nonsense"])
async def test_without_a_good_token_it_closes_with_4401(stack: Stack, query: str) -> None:
    """Sign in again, then reconnect."""
    async with connect(address(stack, query)) as socket:
        assert await closed(socket) == 4401


async def test_the_end_of_the_token_ends_the_stream(stack: Stack, access_token: str) -> None:
    """With 4401, while connected."""
    for seconds in (2, 20):
        short = cut_short(access_token, seconds=seconds)
        # A busy machine may take longer to connect than the first token lasts.
        async with connect(address(stack, f"?token={short}")) as socket:
            with suppress(ConnectionClosed):
                await frame(socket, "connected")
                assert await closed(socket) == 4401
                return
    pytest.fail("never connected")


async def test_another_workspace_closes_with_4003(stack: Stack, access_token: str) -> None:
    """The query must name the token's workspace."""
    async with connect(address(stack, f"?token={access_token}&workspace=ws_other")) as socket:
        assert await closed(socket) == 4003


async def test_a_client_hears_nothing_of_other_workspaces(stack: Stack, access_token: str) -> None:
    """Only heartbeats come while others are busy."""
    other = await onboard(stack.database.owner_url)
    theirs = await asyncio.to_thread(sign_in, stack.url, other.owner_email)
    headers = {"Authorization": f"Bearer {access_token}"}
    async with (
        connect(address(stack, f"?token={theirs}")) as socket,
        httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as api,
    ):
        await frame(socket, "connected")
        await api.post("/v1/issues", json={"title": "Not for them"})
        async with asyncio.timeout(30):
            assert json.loads(await socket.recv())["type"] == "heartbeat"


async def test_a_token_hears_only_what_it_may_read(stack: Stack, access_token: str) -> None:
    """One for sending hears nothing; one for patterns hears of them and not of issues."""
    other = await onboard(stack.database.owner_url)
    owner = {"Authorization": f"Bearer {await asyncio.to_thread(sign_in, stack.url, other.owner_email)}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=owner, timeout=30) as api:

        async def token(*scopes: str) -> str:
            made = await api.post("/v1/api-tokens", json={"name": scopes[0], "scopes": scopes})
            return str(made.json()["secret"])

        sender, reader = await token("ingest:write"), await token("issues:read")
        async with (
            connect(address(stack, f"?token={sender}")) as deaf,
            connect(address(stack, f"?token={reader}")) as hearing,
        ):
            await frame(deaf, "connected")
            await frame(hearing, "connected")
            await api.post("/v1/issues", json={"title": words()})
            await frame(hearing, "issue.created")
            async with asyncio.timeout(30):
                assert json.loads(await deaf.recv())["type"] == "heartbeat"


async def test_a_provisioning_key_hears_nothing(stack: Stack) -> None:
    """It is of no workspace."""
    async with connect(address(stack, f"?token={PROVISION_KEY}")) as socket:
        assert await closed(socket) == 4401


async def test_handshakes_count_like_requests(stack: Stack) -> None:
    """One too many in a minute closes with 4429."""
    tenant = await onboard(stack.database.owner_url)
    await execute(
        stack.database.owner_url, "INSERT INTO plans (plan, requests_per_minute) VALUES (%s, 3)", tenant.slug
    )
    token = await asyncio.to_thread(sign_in, stack.url, tenant.owner_email)
    await execute(
        stack.database.owner_url,
        "UPDATE organizations SET plan = %s WHERE slug = %s",
        tenant.slug,
        tenant.slug,
    )

    async def opened() -> bool:
        """Whether a handshake is let through."""
        async with connect(address(stack, f"?token={token}")) as socket:
            try:
                await frame(socket, "connected")
            except ConnectionClosed as refused:
                assert refused.rcvd is not None and refused.rcvd.code == 4429
                return False
            return True

    # A window that ends among them lets three more through, rightly; seven are too many for two.
    outcomes = [await opened() for _ in range(7)]
    assert outcomes[:3] == [True] * 3
    assert not all(outcomes)
