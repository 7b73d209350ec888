"""Counts that all replicas share: JetStream counters in memory (docs/decisions/0012)."""

import asyncio
import time

import msgspec
import nats.errors
import structlog
from msgspec import Struct
from nats.aio.client import Client

log = structlog.get_logger()

STREAM = "RATES"
SUBJECT = "rate"
KEPT_SECONDS = 120
"""Longer than the longest window that is counted."""
BYTES_MAX = 32 * 1024 * 1024
"""About 200,000 counters; with more, the oldest are forgotten, which favours the caller."""
ANSWER_SECONDS = 0.5
PAUSE_SECONDS = 1.0
"""After a failure nothing is asked for so long: a store that is away must not make every request wait."""


class _Ack(Struct, frozen=True):
    """What a counter answers; `val` is a decimal, since it may be longer than 64 bits."""

    val: str = ""
    error: dict[str, object] | None = None


_decode = msgspec.json.Decoder(_Ack).decode


class Counters:
    """Adds to named counters, many at once in one message; every caller gets a number of its own."""

    def __init__(self, nc: Client, *, replicas: int = 1) -> None:
        self._nc = nc
        self._replicas = replicas
        self._waiting: dict[str, list[asyncio.Future[int | None]]] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._pause_until = 0.0
        self._is_made = False

    async def start(self) -> None:
        """Make the stream if it is missing; without it everybody passes uncounted."""
        await self._make_stream()

    def add(self, key: str) -> asyncio.Future[int | None]:
        """The count of `key` after one more; None when the store does not answer.

        key: letters, digits, `-`, `_` and `.`; numbers are given out once each, over all processes.
        """
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(future)
            return future
        self._waiting[key] = [future]
        flight = asyncio.create_task(self._fly(key))
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)
        return future

    async def _fly(self, key: str) -> None:
        """Add for all who wait, again and again until nobody does; those who come meanwhile share the next message."""
        while gathered := self._waiting[key]:
            self._waiting[key] = []
            try:
                count = await self._increment(key, len(gathered))
            except Exception as error:  # noqa: BLE001  # edge: whoever waits has to hear of it
                count = None
                self._fail(repr(error))
            first = None if count is None else count - len(gathered) + 1
            for index, future in enumerate(gathered):
                if not future.done():
                    future.set_result(None if first is None else first + index)
        del self._waiting[key]

    async def _increment(self, key: str, by: int) -> int | None:
        if time.monotonic() < self._pause_until:
            return None
        if not self._nc.is_connected or not (self._is_made or await self._make_stream()):
            self._fail("not connected")
            return None
        try:
            reply = await self._nc.request(
                f"{SUBJECT}.{key}", b"", timeout=ANSWER_SECONDS, headers={"Nats-Incr": str(by)}
            )
            ack = _decode(reply.data)
        except (nats.errors.Error, TimeoutError, OSError, msgspec.DecodeError) as error:
            self._fail(repr(error))
            return None
        if not ack.val:
            self._fail(str(ack.error))
            return None
        return int(ack.val)

    def _fail(self, reason: str) -> None:
        # A server that lost its memory has lost the stream with it.
        self._is_made = False
        self._pause_until = time.monotonic() + PAUSE_SECONDS
        log.warning("rates.store_failed", reason=reason, pause_seconds=PAUSE_SECONDS)

    async def _make_stream(self) -> bool:
        config = {
            "name": STREAM,
            "subjects": [f"{SUBJECT}.>"],
            "storage": "memory",
            "retention": "limits",
            "discard": "old",
            "num_replicas": self._replicas,
            "max_age": KEPT_SECONDS * 1_000_000_000,
            "max_bytes": BYTES_MAX,
            "max_msgs_per_subject": 1,
            "allow_msg_counter": True,
        }
        refusal = await self._refusal(f"STREAM.CREATE.{STREAM}", msgspec.json.encode(config))
        if refusal is not None:
            # Another gateway may be making it at this moment.
            self._is_made = await self._refusal(f"STREAM.INFO.{STREAM}", b"") is None
        else:
            self._is_made = True
        if not self._is_made:
            log.warning("rates.stream_not_made", reason=refusal)
        return self._is_made

    async def _refusal(self, call: str, payload: bytes) -> str | None:
        """What is wrong with a call of the JetStream API; None: nothing."""
        try:
            reply = await self._nc.request(f"$JS.API.{call}", payload, timeout=2.0)
            error = _decode(reply.data).error
        except (nats.errors.Error, TimeoutError, OSError, msgspec.DecodeError) as failure:
            return repr(failure)
        return None if error is None else str(error)
