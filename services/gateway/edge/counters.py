"""Counts that all replicas share: JetStream counters in memory (docs/decisions/0011)."""

import asyncio
import time
from collections.abc import Coroutine

import msgspec
import nats.errors
import structlog
from eventlog.tap import Tap
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

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


class _Flight(Struct):
    """One message on its way, and whom it counts."""

    key: str
    gathered: list[asyncio.Future[int | None]]
    deadline: asyncio.TimerHandle


class Counters:
    """Adds to named counters, many at once in one message; every caller gets a number of its own."""

    def __init__(self, nc: Client, *, replicas: int = 1) -> None:
        self._nc = nc
        self._replicas = replicas
        self._prefix = f"{nc.new_inbox()}."
        self._last_token = 0
        self._flights: dict[str, _Flight] = {}
        self._waiting: dict[str, list[asyncio.Future[int | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause_until = 0.0
        self._is_made = False

    async def start(self) -> None:
        """Listen, and make the stream if it is missing; without it everybody passes uncounted."""
        subscription = await self._nc.subscribe(
            f"{self._prefix}*", cb=_ignore, pending_msgs_limit=0, pending_bytes_limit=0
        )
        Tap.of(self._nc).open(subscription, self._on_ack)
        await self._make_stream()

    def add(self, key: str) -> asyncio.Future[int | None]:
        """The count of `key` after one more, when it comes; None when the store does not answer.

        key: letters, digits, `-`, `_` and `.`; numbers are given out once each, over all processes.
        """
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if key not in self._waiting:
            self._waiting[key] = []
            asyncio.get_running_loop().call_soon(self._send_waiting, key)
        # Whoever comes at the same moment shares a message, and whoever comes while it is on its way the next one.
        self._waiting[key].append(future)
        return future

    def _send_waiting(self, key: str) -> None:
        waiting = self._waiting.pop(key)
        if waiting:
            self._waiting[key] = []
            self._run(self._send(key, waiting))

    async def _send(self, key: str, gathered: list[asyncio.Future[int | None]]) -> None:
        self._last_token += 1
        token = str(self._last_token)
        deadline = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._land, token, None, "no answer")
        self._flights[token] = _Flight(key, gathered, deadline)
        if time.monotonic() < self._pause_until:
            self._land(token, None)
        elif not self._nc.is_connected or not self._is_made:
            self._land(token, None, "not connected")
        else:
            try:
                await self._nc.publish(
                    f"{SUBJECT}.{key}", b"", self._prefix + token, {"Nats-Incr": str(len(gathered))}
                )
            except (nats.errors.Error, OSError) as error:
                self._land(token, None, repr(error))

    def _on_ack(self, subject: bytes, _reply: bytes, _headers: bytes, payload: bytes) -> bool:
        """The answer of a counter; one without a body comes from the server: nobody listens."""
        token = subject[len(self._prefix) :].decode()
        try:
            ack = _decode(payload)
            count = int(ack.val)
        except (msgspec.DecodeError, ValueError):
            self._land(token, None, payload.decode(errors="replace") or "no stream")
        else:
            self._land(token, count)
        return True

    def _land(self, token: str, count: int | None, failure: str = "") -> None:
        """Give everybody of a flight a number, and send those who wait by now."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return
        flight.deadline.cancel()
        if failure:
            self._fail(failure)
        first = None if count is None else count - len(flight.gathered) + 1
        for index, future in enumerate(flight.gathered):
            if not future.done():
                future.set_result(None if first is None else first + index)
        self._send_waiting(flight.key)

    def _fail(self, reason: str) -> None:
        self._pause_until = time.monotonic() + PAUSE_SECONDS
        log.warning("rates.store_failed", reason=reason, pause_seconds=PAUSE_SECONDS)
        # A server that lost its memory has lost the stream with it.
        self._is_made = False
        self._run(self._make_stream())

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_stream(self) -> None:
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

    async def _refusal(self, call: str, payload: bytes) -> str | None:
        """What is wrong with a call of the JetStream API; None: nothing."""
        try:
            reply = await self._nc.request(f"$JS.API.{call}", payload, timeout=2.0)
            error = _decode(reply.data).error
        except (nats.errors.Error, TimeoutError, OSError, msgspec.DecodeError) as failure:
            return repr(failure)
        return None if error is None else str(error)


async def _ignore(_message: Msg) -> None:
    """The tap has taken it."""
