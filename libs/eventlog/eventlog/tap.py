"""The short way from nats-py's connection to us, for the messages that come by the hundred thousand.

nats-py matches two regular expressions, parses headers, builds a Msg and wakes a task for each message;
that was a quarter of the CPU time of every service (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

Handler: TypeAlias = Callable[[bytes, bytes, bytes, bytes], bool]
"""(subject, reply, headers, payload), b"" where there is none → whether it took the message. Must not raise."""


class Tap(Parser):
    """nats-py's parser, which asks a subscription's handler before it takes the long way."""

    def __init__(self, nc: Client) -> None:
        super().__init__(nc)
        self._handlers: dict[bytes, Handler] = {}
        self._needed = 0

    @classmethod
    def of(cls, nc: Client) -> Tap:
        """The tap of a connection, put in where there is none yet."""
        if not isinstance(nc._ps, cls):
            tap = cls(nc)
            # The old one may be in the middle of a message.
            vars(tap).update(vars(nc._ps))
            nc._ps = tap
        return nc._ps

    def open(self, subscription: Subscription, handler: Handler) -> None:
        """Ask this handler for each message of a subscription; those it does not take go on to the callback."""
        self._handlers[str(subscription._id).encode()] = handler

    def close(self, subscription: Subscription) -> None:
        """Stop asking."""
        self._handlers.pop(str(subscription._id).encode(), None)

    def reset(self) -> None:
        """Forget half a message: the connection is a new one."""
        super().reset()
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take what the socket gave: whole messages are handed on, the rest waits for more."""
        if self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        if self.buf:
            self.buf.extend(data)
            if len(self.buf) < self._needed:
                return
            data = bytes(self.buf)
            self.buf.clear()
        position = self._needed = 0
        while (end_of_line := data.find(b"\r\n", position)) >= 0:
            if not data.startswith((b"MSG ", b"HMSG "), position):
                await super().parse(data[position : end_of_line + 2])
                position = end_of_line + 2
                continue
            words = data[position:end_of_line].split(b" ")
            start = end_of_line + 2
            stop = start + int(words[-1])
            if len(data) < stop + 2:
                self._needed = stop + 2 - position
                break
            await self._hand_on(words, data, start, stop)
            position = stop + 2
        self.buf.extend(data[position:])

    async def _hand_on(self, words: list[bytes], data: bytes, start: int, stop: int) -> None:
        """One message: [H]MSG <subject> <sid> [reply] [header bytes] <bytes>."""
        has_headers = words[0] == b"HMSG"
        body = start + (int(words[-2]) if has_headers else 0)
        reply = words[3] if len(words) == (6 if has_headers else 5) else b""
        headers, payload = data[start:body], data[body:stop]
        handler = self._handlers.get(words[2])
        if handler is None or not handler(words[1], reply, headers, payload):
            await self.nc._process_msg(int(words[2]), words[1], reply, payload, headers or None)
