"""Ordered reading of a partition: a push consumer that is made anew whenever a gap shows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator

import msgspec
import structlog
from contracts import Event, Recorded, UnknownEventError, decode
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from .errors import LogTruncatedError
from .tap import Tap

_HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 3.5
_LOW_WATER = 2000
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)

log = structlog.get_logger("eventlog.reader")


class Batch(msgspec.Struct, frozen=True):
    """Events in log order.

    last_seq: position after them, also when the last ones were of unknown types.
    pending: matching events behind it that were in the log when it was read.
    """

    events: list[Recorded[Event]]
    last_seq: int
    pending: int


class Cursor(msgspec.Struct):
    """Where a reader is and what it wants."""

    stream: str
    partition: int
    filters: list[str]
    position: int
    max_batch: int
    until: int | None
    linger_seconds: float = 0.0


class _SessionLostError(Exception):
    """The consumer is gone or has skipped; start again behind the last event read."""


class _Session:
    """One ephemeral consumer: messages as they come, in order, with flow control by our own buffer."""

    def __init__(self, nc: Client, cursor: Cursor) -> None:
        self._nc = nc
        self._cursor = cursor
        self._buffer: deque[tuple[int, int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._expected = 1
        self._gap: str | None = None
        self._flow_reply: str | None = None

    async def __aenter__(self) -> int:
        """Open; returns how many matching events wait."""
        inbox = self._nc.new_inbox()
        self._sub = await self._nc.subscribe(
            inbox, cb=self._on_control, pending_msgs_limit=0, pending_bytes_limit=0
        )
        Tap.of(self._nc).open(self._sub, self._on_message)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._cursor.position + 1,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            deliver_subject=inbox,
            filter_subjects=self._cursor.filters,
            flow_control=True,
            idle_heartbeat=_HEARTBEAT_SECONDS,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=30.0,
        )
        self._js = self._nc.jetstream(timeout=5.0)
        stream = await self._js.stream_info(self._cursor.stream)
        if stream.state.last_seq < self._cursor.position:
            raise LogTruncatedError(position=self._cursor.position, log_end=stream.state.last_seq)
        info = await self._js.add_consumer(self._cursor.stream, config)
        self._name = info.name
        return info.num_pending or 0

    async def __aexit__(self, *_: object) -> None:
        Tap.of(self._nc).close(self._sub)
        with contextlib.suppress(NatsError, APIError, TimeoutError, ConnectionError):
            await self._sub.unsubscribe()
        with contextlib.suppress(NatsError, APIError, TimeoutError, ConnectionError):
            async with asyncio.timeout(1.0):
                await self._js.delete_consumer(self._cursor.stream, self._name)

    async def take(self) -> list[tuple[int, int, bytes]]:
        """The next messages as (sequence, pending, payload), at least one. Raises _SessionLostError."""
        since = time.monotonic()
        while not self._buffer:
            if self._gap:
                raise _SessionLostError(self._gap)
            if self._cursor.until is not None and time.monotonic() - since > _SILENCE_SECONDS:
                # The server counted them when it began; a workspace may have been erased since.
                raise _SessionLostError("what was waiting does not come")
            await self._answer_flow_control()
            self._arrived.clear()
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    await self._arrived.wait()
            except TimeoutError as error:
                raise _SessionLostError("no heartbeat") from error
        if self._cursor.linger_seconds and len(self._buffer) < self._cursor.max_batch:
            await asyncio.sleep(self._cursor.linger_seconds)
        count = min(len(self._buffer), self._cursor.max_batch)
        taken = [self._buffer.popleft() for _ in range(count)]
        if len(self._buffer) < _LOW_WATER:
            await self._answer_flow_control()
        return taken

    async def _answer_flow_control(self) -> None:
        if self._flow_reply is not None:
            reply, self._flow_reply = self._flow_reply, None
            await self._nc.publish(reply)

    def _on_message(self, _subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bool:
        # A status is a heartbeat, flow control or the end.
        if headers.startswith(b"NATS/1.0 ") or not reply.startswith(b"$JS.ACK."):
            return False
        self._arrived.set()
        tokens = reply.split(b".")
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or with domain and account.
        offset = 5 if len(tokens) == 9 else 7
        if int(tokens[offset + 1]) != self._expected:
            self._gap = self._gap or f"consumer sequence {int(tokens[offset + 1])}, expected {self._expected}"
            return True
        self._expected += 1
        self._buffer.append((int(tokens[offset]), int(tokens[offset + 3]), payload))
        return True

    async def _on_control(self, message: Msg) -> None:
        self._arrived.set()
        headers = message.headers or {}
        if headers.get("Status") != "100":
            self._gap = self._gap or headers.get("Description", "consumer ended")
        elif message.reply:
            self._flow_reply = message.reply
        elif stalled := headers.get("Nats-Consumer-Stalled"):
            self._flow_reply = stalled
        elif int(headers.get("Nats-Last-Consumer", "0")) >= self._expected:
            self._gap = self._gap or "messages lost before a heartbeat"


async def read(nc: Client, cursor: Cursor) -> AsyncGenerator[Batch, None]:
    """Batches from the cursor's position on; see EventLog.read.

    The next batch is decoded while the caller waits for its database.
    """
    async with contextlib.aclosing(_batches(nc, cursor)) as batches:
        upcoming = asyncio.ensure_future(anext(batches))
        try:
            while True:
                try:
                    batch = await upcoming
                except StopAsyncIteration:
                    return
                upcoming = asyncio.ensure_future(anext(batches))
                yield batch
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)


async def _batches(nc: Client, cursor: Cursor) -> AsyncGenerator[Batch, None]:
    failures = 0
    is_first = True
    while True:
        session = _Session(nc, cursor)
        try:
            async with session as waiting:
                if waiting == 0 and (is_first or cursor.until is not None):
                    yield Batch(events=[], last_seq=cursor.position, pending=0)
                    if cursor.until is not None:
                        return
                is_first = False
                while True:
                    batch = _decode(await session.take(), cursor)
                    failures = 0
                    cursor.position = batch.last_seq
                    yield batch
                    if cursor.until is not None and (batch.last_seq >= cursor.until or batch.pending == 0):
                        return
        except (_SessionLostError, NatsError, APIError, TimeoutError, ConnectionError) as error:
            log.warning(
                "reader.session_lost",
                stream=cursor.stream,
                position=cursor.position,
                reason=str(error) or repr(error),
            )
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1


def _decode(messages: list[tuple[int, int, bytes]], cursor: Cursor) -> Batch:
    events: list[Recorded[Event]] = []
    last_seq, behind = cursor.position, 0
    for seq, pending, payload in messages:
        if cursor.until is not None and seq > cursor.until:
            return Batch(events=events, last_seq=cursor.until, pending=0)
        last_seq, behind = seq, pending
        with contextlib.suppress(UnknownEventError):
            events.append(decode(payload, seq=seq, partition=cursor.partition))
    return Batch(events=events, last_seq=last_seq, pending=behind)
