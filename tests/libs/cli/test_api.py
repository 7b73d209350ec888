"""The API client goes on when its token ends."""

import asyncio
import random

import httpx
import msgspec
import pytest
from causeloop.api import Accepted, Api, NotShownError, Token
from causeloop.exits import RefusedError


class Door:
    """An API whose access tokens are good for two requests, and whose refresh tokens are good once."""

    def __init__(self) -> None:
        self.uses: dict[str, int] = {"a0": 2}
        self.refresh_token = "r0"
        self.n_refreshed = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/auth/refresh":
            if msgspec.json.decode(request.content)["refresh_token"] != self.refresh_token:
                return httpx.Response(
                    401, json={"error": {"code": "invalid_grant", "message": "used before"}}
                )
            self.n_refreshed += 1
            access_token, self.refresh_token = f"a{self.n_refreshed}", f"r{self.n_refreshed}"
            self.uses[access_token] = 2
            return httpx.Response(
                200, json={"access_token": access_token, "refresh_token": self.refresh_token}
            )
        token = request.headers["authorization"].removeprefix("Bearer ")
        if self.uses.get(token, 0) == 0:
            return httpx.Response(401, json={"error": {"code": "unauthorized", "message": "expired"}})
        self.uses[token] -= 1
        return httpx.Response(200, json={})


def client(door: Door, *, refresh_token: str) -> Api:
    transport = httpx.AsyncClient(transport=httpx.MockTransport(door), base_url="http://api")
    return Api(transport, Token("a0", refresh_token=refresh_token), rng=random.Random(1))


async def test_a_token_that_ends_is_renewed_once_for_all_requests_under_way() -> None:
    """No refresh token is used twice, which would end the session."""
    door = Door()
    api = client(door, refresh_token="r0")
    answers = await asyncio.gather(*(api.send("GET", "/v1/issues") for _ in range(9)))
    assert [answer.status_code for answer in answers] == [200] * 9
    assert door.n_refreshed == 4


async def test_a_token_that_was_given_is_not_renewed() -> None:
    """Whoever gave it gives another."""
    api = client(Door(), refresh_token="")
    for _ in range(2):
        await api.send("GET", "/v1/issues")
    with pytest.raises(RefusedError, match="expired"):
        await api.send("GET", "/v1/issues")


async def test_a_change_waits_until_it_is_shown_and_says_so_where_it_is_not() -> None:
    """It is made once; who is told that it is not shown yet does not make it again."""
    asked: list[httpx.Request] = []

    def behind(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(202, json={"status": "accepted", "location": "/v1/connectors/con_1"})

    transport = httpx.AsyncClient(transport=httpx.MockTransport(behind), base_url="http://api")
    api = Api(transport, Token("a0"), rng=random.Random(1))
    with pytest.raises(NotShownError, match="it is done") as caught:
        await api.change("POST", "/v1/connectors", b"{}", Token)
    assert "/v1/connectors/con_1" in caught.value.advice
    assert [(each.headers["Prefer"], "Idempotency-Key" in each.headers) for each in asked] == [
        ("wait=10", True)
    ]
    assert (await api.post("/v1/connectors", b"{}", Accepted)).location == "/v1/connectors/con_1"
