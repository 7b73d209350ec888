"""Webhooks: how many a second are kept before they are answered, and how long one waits for its answer."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import msgspec
from msgspec import Struct
from testkit.stack import Stack

from .failures import failures
from .http import Connection

CONNECTIONS = 64


class Figures(Struct, frozen=True):
    """What was measured: n_deliveries in so many seconds, and how many milliseconds one took."""

    n_deliveries: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.n_deliveries / self.seconds


class Sender:
    """Posts signed deliveries to one connector of the signed-in workspace."""

    def __init__(self, stack: Stack, *, seed: int) -> None:
        self._port = stack.services["gateway"].port
        self._records = failures(seed, first=seed * 10_000_000)
        self._path = ""
        self._secret = b""

    async def connect(self, client: Connection) -> None:
        """Make the connector and its secret."""
        body = b'{"type":"custom_api","display_name":"Load"}'
        made = msgspec.json.decode(await client.expect("POST", "/v1/connectors", body, status=201))
        answer = await client.expect("POST", f"/v1/connectors/{made['id']}/webhook-secret", b"{}", status=200)
        self._secret = msgspec.json.decode(answer)["secret"].encode()
        self._path = f"/v1/webhooks/inbound/{made['id']}"

    def signed(self, n: int) -> list[tuple[bytes, dict[str, str]]]:
        """Bodies and headers, made before anything is measured."""
        return [self._sign(msgspec.json.encode(next(self._records))) for _ in range(n)]

    async def flood(self, n: int) -> Figures:
        """So many as fast as they are answered."""
        left = iter(self.signed(n))
        took: list[float] = []
        async with AsyncExitStack() as stack:
            vendors = [await stack.enter_async_context(self._vendor()) for _ in range(CONNECTIONS)]
            started = time.perf_counter()
            await asyncio.gather(*(self._all(vendor, left, took) for vendor in vendors))
            return _figures(took, time.perf_counter() - started)

    async def steady(self, n: int, *, rate: float) -> Figures:
        """So many at a rate, open loop: who is late does not slow the others, and waiting for a connection counts."""
        calls = self.signed(n)
        took: list[float] = []
        free: asyncio.Queue[Connection] = asyncio.Queue()

        async def one(call: tuple[bytes, dict[str, str]], due: float) -> None:
            vendor = await free.get()
            await self._post(vendor, call)
            free.put_nowait(vendor)
            took.append((time.perf_counter() - due) * 1000)

        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                free.put_nowait(await stack.enter_async_context(self._vendor()))
            started = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for number, call in enumerate(calls):
                    due = started + number / rate
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    tasks.create_task(one(call, due))
            return _figures(took, time.perf_counter() - started)

    def _vendor(self) -> Connection:
        return Connection("127.0.0.1", self._port, {})

    def _sign(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        return body, {"X-Causeloop-Signature": hmac.digest(self._secret, body, "sha256").hex()}

    async def _all(
        self, vendor: Connection, left: Iterator[tuple[bytes, dict[str, str]]], took: list[float]
    ) -> None:
        for call in left:
            begun = time.perf_counter()
            await self._post(vendor, call)
            took.append((time.perf_counter() - begun) * 1000)

    async def _post(self, vendor: Connection, call: tuple[bytes, dict[str, str]]) -> None:
        body, headers = call
        await vendor.expect("POST", self._path, body, status=202, headers=headers)


def _figures(took: Sequence[float], seconds: float) -> Figures:
    ordered = sorted(took)
    n = len(ordered)
    return Figures(n, seconds, ordered[n // 2], ordered[int(n * 0.99)])
