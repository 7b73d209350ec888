"""The WebSocket: who may listen, what they hear, and how it ends."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from testkit.stack import Stack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from services.gateway.identity import seed
from tests.services.gateway.test_api import token_for, unique


def address(stack: Stack, query: str = "") -> str:
    return stack.url.replace("http://", "ws://") + "/v1/stream" + query


async def frame(socket: ClientConnection, kind: str, *, seconds: float = 15.0) -> dict[str, Any]:
    """The next frame of a type."""
    async with asyncio.timeout(seconds):
        while True:
            found = json.loads(await socket.recv())
            assert set(found) == {"type", "payload", "ts"}
            if found["type"] == kind:
                return dict(found)


async def closed(socket: ClientConnection) -> int:
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


async def test_a_client_follows_the_loop_live(stack: Stack, access_token: str) -> None:
    """From a failure to its recommendation, each readable by GET when its frame comes."""
    service = unique("live")
    query = f"?token={access_token}&workspace={seed.WORKSPACE_ID}"
    headers = {"Authorization": f"Bearer {access_token}"}
    async with (
        connect(address(stack, query)) as socket,
        httpx.AsyncClient(base_url=stack.url, headers=headers) as api,
    ):
        hello = await frame(socket, "connected")
        assert hello["payload"] == {"workspace_id": seed.WORKSPACE_ID, "user_id": seed.USER_ID}
        for _ in range(6):
            await api.post("/v1/ingest/events", json={"title": "Queue is full", "service": service})
        created = await frame(socket, "issue.created")
        while created["payload"]["service"] != service:
            created = await frame(socket, "issue.created")
        issue_id = created["payload"]["id"]
        assert (await api.get(f"/v1/issues/{issue_id}")).status_code == 200
        detected = await frame(socket, "pattern.detected")
        while detected["payload"]["fingerprint"].get("service") != service:
            detected = await frame(socket, "pattern.detected")
        assert detected["payload"]["change"] == "created"
        pattern_id = detected["payload"]["id"]
        assert (await api.get(f"/v1/patterns/{pattern_id}")).status_code == 200
        changed = await frame(socket, "issue.status.changed")
        assert (changed["payload"]["previous_status"], changed["payload"]["status"]) == (
            "new",
            "pattern_found",
        )
        generated = await frame(socket, "prediction.generated")
        assert (await api.get(f"/v1/predictions/{generated['payload']['id']}")).status_code == 200
        recommended = await frame(socket, "recommendation.created")
        rec = recommended["payload"]["id"]
        await api.patch(f"/v1/recommendations/{rec}", json={"status": "in_progress"})
        assert (await frame(socket, "recommendation.status.changed"))["payload"]["status"] == "in_progress"
        await api.patch(f"/v1/patterns/{pattern_id}", json={"name": "Named live"})
        updated = await frame(socket, "pattern.updated")
        while updated["payload"]["name"] != "Named live":
            updated = await frame(socket, "pattern.updated")
        await api.patch(f"/v1/issues/{issue_id}", json={"team": "live"})
        assert (await frame(socket, "issue.updated"))["payload"]["changed"] == {"team": "live"}
        assert (await frame(socket, "heartbeat"))["payload"] == {"ok": True}


async def test_the_token_may_come_as_a_subprotocol(stack: Stack, access_token: str) -> None:
    """`bearer, <token>`, answered with `bearer`."""
    protocols: Any = ["bearer", access_token]
    async with connect(address(stack), subprotocols=protocols) as socket:
        assert socket.subprotocol == "bearer"
        await frame(socket, "connected")


@pytest.mark.parametrize("query", ["", "?token=nonsense"])
async def test_without_a_good_token_it_closes_with_4401(stack: Stack, query: str) -> None:
    """Sign in again, then reconnect."""
    async with connect(address(stack, query)) as socket:
        assert await closed(socket) == 4401


async def test_the_end_of_the_token_ends_the_stream(stack: Stack) -> None:
    """With 4401, while connected."""
    short = token_for(seed.WORKSPACE_ID, frozenset(), seconds=2)
    async with connect(address(stack, f"?token={short}")) as socket:
        await frame(socket, "connected")
        assert await closed(socket) == 4401


async def test_another_workspace_closes_with_4003(stack: Stack, access_token: str) -> None:
    """The query must name the token's workspace."""
    async with connect(address(stack, f"?token={access_token}&workspace=ws_other")) as socket:
        assert await closed(socket) == 4003


async def test_a_client_hears_nothing_of_other_workspaces(stack: Stack, access_token: str) -> None:
    """Only heartbeats come while others are busy."""
    theirs = token_for("ws_01J0000000000000000000THEM", frozenset())
    headers = {"Authorization": f"Bearer {access_token}"}
    async with (
        connect(address(stack, f"?token={theirs}")) as socket,
        httpx.AsyncClient(base_url=stack.url, headers=headers) as api,
    ):
        await frame(socket, "connected")
        await api.post("/v1/issues", json={"title": "Not for them"})
        async with asyncio.timeout(15):
            assert json.loads(await socket.recv())["type"] == "heartbeat"
