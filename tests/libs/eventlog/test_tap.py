"""The short way hands on what nats-py's own parser would, however the bytes are cut."""

from __future__ import annotations

import asyncio

from eventlog.tap import Tap
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import Parser
from runtime import broker
from runtime.embedded import EmbeddedNats
from testkit.waiting import eventually

Seen = list[tuple[object, ...]]

STATUS = b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", STATUS])
MESSAGES = st.tuples(
    st.sampled_from([b"1", b"2"]),
    st.sampled_from([b"", b"_INBOX.reply"]),
    HEADERS,
    st.binary(max_size=40) | st.sampled_from([b"\r\n", b"MSG a 1 2\r\n", b"x" * 5_000]),
)
LINES = st.sampled_from([b"PING\r\n", b"+OK\r\n", b'INFO {"a":1}\r\n', b"-ERR 'Stale Connection'\r\n"])


class Recorder:
    """What a connection is told."""

    def __init__(self) -> None:
        self.seen: Seen = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.seen.append((sid, bytes(subject), bytes(reply), data, headers or b""))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_err(self, text: str) -> None:
        self.seen.append(("error", text))

    async def _process_info(self, info: object) -> None:
        self.seen.append(("info", str(info)))


class Subscribed:
    """A subscription, as far as a tap asks."""

    _id = 1


def frame(message: tuple[bytes, bytes, bytes, bytes]) -> bytes:
    """A message as a server sends it."""
    sid, reply, headers, payload = message
    words = [b"HMSG" if headers else b"MSG", b"subject.1", sid, *([reply] if reply else [])]
    sizes = [b"%d" % len(headers)] if headers else []
    line = b" ".join([*words, *sizes, b"%d" % (len(headers) + len(payload))])
    return line + b"\r\n" + headers + payload + b"\r\n"


async def replay(parser: Parser, chunks: list[bytes]) -> None:
    """Feed a parser."""
    for chunk in chunks:
        await parser.parse(chunk)


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """A stream in pieces of these sizes, over and over."""
    chunks, at = [], 0
    while at < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[at : at + size])
        at += size
    return chunks


@given(
    stream=st.lists(st.builds(frame, MESSAGES) | LINES, max_size=12).map(b"".join),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    put_in_after=st.integers(0, 6),
)
def test_tap_hands_on_what_the_parser_does(stream: bytes, sizes: list[int], put_in_after: int) -> None:
    """Same messages, same order, also when the tap is put in after some pieces; statuses take the long way."""
    expected, got, short = Recorder(), Recorder(), Recorder()
    chunks = cut(stream, sizes)
    client = Client()
    client._ps = Parser(got)

    def handler(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bool:
        if headers == STATUS:
            return False
        short.seen.append((1, subject, reply, payload, headers))
        got.seen.append(short.seen[-1])
        return True

    async def both() -> None:
        await replay(Parser(expected), chunks)
        await replay(client._ps, chunks[:put_in_after])
        tap = Tap.of(client)
        assert Tap.of(client) is tap
        tap.nc = got
        tap.open(Subscribed(), handler)  # type: ignore[arg-type]
        await replay(tap, chunks[put_in_after:])

    asyncio.run(both())
    assert got.seen == expected.seen
    if put_in_after == 0:
        assert len(short.seen) == sum(seen[0] == 1 and seen[-1] != STATUS for seen in expected.seen)


async def test_tap_goes_on_after_the_server_was_restarted(nats_server: EmbeddedNats) -> None:
    """Half a message of a dead connection is forgotten, and a handler that is closed is not asked any more."""
    client = await broker.connect(nats_server.url, name="test")
    short: list[bytes] = []
    ordinary: list[bytes] = []

    def handler(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bool:
        short.append(payload)
        return True

    async def callback(message: Msg) -> None:
        ordinary.append(message.data)

    subscription = await client.subscribe("tapped", cb=callback)
    tap = Tap.of(client)
    tap.open(subscription, handler)
    await client.publish("tapped", b"one")
    await eventually(lambda: short == [b"one"])
    await tap.parse(b"MSG tapped 1 100\r\nhalf")
    tap.reset()
    await client.publish("tapped", b"two")
    await eventually(lambda: short == [b"one", b"two"])
    tap.close(subscription)
    await client.publish("tapped", b"three")
    await eventually(lambda: ordinary == [b"three"])
    await client.close()
