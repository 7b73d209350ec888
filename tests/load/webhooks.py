"""Webhooks: how many a second are kept before they are answered, and how long one waits for its answer."""

from __future__ import annotations

import asyncio
import hmac
import itertools
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


class Call(Struct, frozen=True):
    """A delivery as it is posted."""

    path: str
    body: bytes
    headers: dict[str, str]


class Sender:
    """Posts signed deliveries to connectors of the signed-in workspace, to the first unless a rate says to how many."""

    def __init__(self, stack: Stack, *, seed: int) -> None:
        self._port = stack.services["gateway"].port
        self._records = failures(seed, first=seed * 10_000_000)
        self._connectors: list[tuple[str, bytes]] = []

    async def connect(self, client: Connection, *, n: int) -> None:
        """Make so many connectors and their secrets."""
        for _ in range(n):
            body = b'{"type":"custom_api","display_name":"Load"}'
            made = msgspec.json.decode(await client.expect("POST", "/v1/connectors", body, status=201))
            answer = await client.expect(
                "POST", f"/v1/connectors/{made['id']}/webhook-secret", b"{}", status=200
            )
            secret = msgspec.json.decode(answer)["secret"].encode()
            self._connectors.append((f"/v1/webhooks/inbound/{made['id']}", secret))

    def signed(self, n: int, *, n_connectors: int = 1) -> list[Call]:
        """Made before anything is measured; to each of so many connectors in its turn."""
        turns = itertools.cycle(self._connectors[:n_connectors])
        return [
            self._sign(*next(turns), msgspec.json.encode(record))
            for record in itertools.islice(self._records, n)
        ]

    async def flood(self, n: int) -> Figures:
        """So many as fast as they are answered."""
        left = iter(self.signed(n))
        took: list[float] = []
        async with AsyncExitStack() as stack:
            vendors = [await stack.enter_async_context(self._vendor()) for _ in range(CONNECTIONS)]
            started = time.perf_counter()
            await asyncio.gather(*(self._all(vendor, left, took) for vendor in vendors))
            return _figures(took, time.perf_counter() - started)

    async def steady(self, n: int, *, rate: float, n_connectors: int = 1) -> Figures:
        """So many at a rate, open loop: who is late does not slow the others, and waiting for a connection counts."""
        left = enumerate(self.signed(n, n_connectors=n_connectors))
        took: list[float] = []
        started = 0.0

        async def one(vendor: Connection) -> None:
            for number, call in left:
                due = started + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                await self._post(vendor, call)
                took.append((time.perf_counter() - due) * 1000)

        async with AsyncExitStack() as stack:
            vendors = [await stack.enter_async_context(self._vendor()) for _ in range(CONNECTIONS)]
            started = time.perf_counter()
            await asyncio.gather(*(one(vendor) for vendor in vendors))
            return _figures(took, time.perf_counter() - started)

    def _vendor(self) -> Connection:
        return Connection("127.0.0.1", self._port, {})

    def _sign(self, path: str, secret: bytes, body: bytes) -> Call:
        return Call(path, body, {"X-Causeloop-Signature": hmac.digest(secret, body, "sha256").hex()})

    async def _all(self, vendor: Connection, left: Iterator[Call], took: list[float]) -> None:
        for call in left:
            begun = time.perf_counter()
            await self._post(vendor, call)
            took.append((time.perf_counter() - begun) * 1000)

    async def _post(self, vendor: Connection, call: Call) -> None:
        await vendor.expect("POST", call.path, call.body, status=202, headers=call.headers)


def _figures(took: Sequence[float], seconds: float) -> Figures:
    ordered = sorted(took)
    n = len(ordered)
    return Figures(n, seconds, ordered[n // 2], ordered[int(n * 0.99)])
