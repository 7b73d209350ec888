"""One wildcard inbox for all replies.

A future and a subscription per request make nats-py's own `publish_async` 3.5 times slower
than this (docs/decisions/0003-guarded-append.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from .errors import LogUnavailableError
from .tap import Tap


class ApiError(msgspec.Struct, frozen=True):
    """What the JetStream API says when it refuses."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct, frozen=True):
    """JetStream's answer to a publish."""

    seq: int = 0
    error: ApiError | None = None


class Message(msgspec.Struct, frozen=True):
    """Something to publish."""

    subject: str
    payload: bytes
    headers: dict[str, str] | None = None


_decode_ack = msgspec.json.Decoder(Ack).decode
_NO_STREAM = Ack(error=ApiError(code=503, description="no stream listens on this subject"))


class _Flight:
    """Publishes that wait for their answers together."""

    __slots__ = ("acks", "done", "missing")

    def __init__(self, size: int) -> None:
        self.acks: list[Ack] = [_NO_STREAM] * size
        self.missing = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def land(self, index: int, ack: Ack) -> None:
        self.acks[index] = ack
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class Inbox:
    """Publishes with pipelined acknowledgements, and collects replies of many messages."""

    def __init__(self, nc: Client, *, timeout_seconds: float = 5.0, max_flights: int = 16) -> None:
        self._nc = nc
        self._timeout_seconds = timeout_seconds
        self._prefix = f"{nc.new_inbox()}."
        self._next_token = 0
        self._waiting: dict[str, tuple[_Flight, int]] = {}
        self._collecting: dict[str, asyncio.Queue[Msg]] = {}
        self._flights = asyncio.Semaphore(max_flights)

    async def start(self) -> None:
        """Listen. Once, before anything else."""
        subscription = await self._nc.subscribe(
            f"{self._prefix}*", cb=self._on_reply, pending_msgs_limit=0, pending_bytes_limit=0
        )
        Tap.of(self._nc).open(subscription, self._on_ack)

    async def publish(
        self, messages: Sequence[Message], *, acks_on: Sequence[int] | None = None
    ) -> list[Ack]:
        """Send in order, wait for the acknowledgements of those at `acks_on` (default: of all).

        Raises LogUnavailableError when one is missing after the time-out.
        """
        awaited = range(len(messages)) if acks_on is None else acks_on
        async with self._flights:
            flight = _Flight(len(awaited))
            tokens = self._register(flight, len(awaited))
            replies = dict(zip(awaited, tokens, strict=True))
            publish, prefix = self._nc.publish, self._prefix
            try:
                for index, message in enumerate(messages):
                    token = replies.get(index)
                    reply = prefix + token if token is not None else ""
                    await publish(message.subject, message.payload, reply, message.headers)
                async with asyncio.timeout(self._timeout_seconds):
                    await flight.done
            except TimeoutError as error:
                raise LogUnavailableError(
                    f"{flight.missing} of {len(awaited)} events not acknowledged in time"
                ) from error
            finally:
                for token in tokens:
                    self._waiting.pop(token, None)
        return flight.acks

    async def collect(self, subject: str, payload: bytes) -> list[Msg]:
        """All replies to one request, up to the one that ends them (a status of 204 or above).

        Raises LogUnavailableError when the end does not come in time.
        """
        token = self._take_token()
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._collecting[token] = queue
        found: list[Msg] = []
        try:
            await self._nc.publish(subject, payload, self._prefix + token)
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    message = await queue.get()
                    status = int((message.headers or {}).get("Status", "0"))
                    if status == 503:
                        raise LogUnavailableError(f"nobody answers on {subject}")
                    if status >= 204:
                        return found
                    found.append(message)
        except TimeoutError as error:
            raise LogUnavailableError(f"{subject} did not answer in time") from error
        finally:
            self._collecting.pop(token, None)

    def _take_token(self) -> str:
        self._next_token += 1
        return str(self._next_token)

    def _register(self, flight: _Flight, count: int) -> list[str]:
        tokens = [self._take_token() for _ in range(count)]
        self._waiting.update((token, (flight, index)) for index, token in enumerate(tokens))
        return tokens

    def _on_ack(self, subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> bool:
        """The short way of an acknowledgement; refusals without a body and collected replies have headers."""
        if headers:
            return False
        try:
            ack = _decode_ack(payload)
        except msgspec.DecodeError:
            return False
        waiting = self._waiting.pop(subject[len(self._prefix) :].decode(), None)
        if waiting is not None:
            flight, index = waiting
            flight.land(index, ack)
        return True

    async def _on_reply(self, message: Msg) -> None:
        token = message.subject[len(self._prefix) :]
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            # No acknowledgement: nobody listens, or nobody who knows how to answer.
            flight, index = waiting
            flight.land(index, _NO_STREAM)
            return
        queue = self._collecting.get(token)
        if queue is not None:
            queue.put_nowait(message)
