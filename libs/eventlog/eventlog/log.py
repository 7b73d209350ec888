"""The event log: guarded appends, histories of aggregates, ordered reading."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Self

import msgspec
from contracts import Event, Recorded, decode, encode
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, OutboundBufferLimitError

from .errors import AppendRefusedError, ConflictError, EventLogError, LogUnavailableError
from .inbox import Ack, ApiError, Inbox, Message
from .reader import Batch, Cursor, read
from .subjects import filters, partition_of, stream_name, subject_of

_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_NO_MESSAGE = 10037
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECT_NEW = {_EXPECTED: "0"}
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_CHUNK = 500
_PAGE = 500
_MAX_ATOMIC = 1000


class Append(msgspec.Struct, frozen=True):
    """An event to append and what it was decided on.

    expected: stream sequence of the subject's last event that the decision saw; 0 = none; None = do not check.
    """

    event: Recorded[Event]
    expected: int | None


class Conflict(msgspec.Struct, frozen=True):
    """An append of a pipelined batch that came too late."""

    expected: int


class _Identity(msgspec.Struct, frozen=True):
    id: str


class _StreamState(msgspec.Struct, frozen=True):
    last_seq: int = 0
    subjects: dict[str, int] | None = None


class _Stored(msgspec.Struct, frozen=True):
    seq: int = 0


class _StreamReply(msgspec.Struct, frozen=True):
    state: _StreamState = _StreamState()
    message: _Stored = _Stored()
    purged: int = 0
    error: ApiError | None = None


class EventLog:
    """A JetStream-backed log of immutable events, ordered per partition."""

    def __init__(self, nc: Client, *, partitions: int) -> None:
        self._nc = nc
        self._inbox = Inbox(nc)
        self.partitions = partitions

    @classmethod
    async def connect(
        cls, nc: Client, *, partitions: int = 1, ensure_streams: bool = True, replicas: int = 1
    ) -> Self:
        """A log over an open connection; creates the streams that are missing.

        partitions: fixed at deployment, 1 to 1024. replicas: copies of each stream, 1, 3 or 5.
        Raises LogUnavailableError when JetStream does not answer.
        """
        log = cls(nc, partitions=partitions)
        await log._inbox.start()
        if ensure_streams:
            for partition in range(partitions):
                await log._ensure_stream(partition, replicas)
        return log

    async def append(self, *appends: Append) -> int:
        """Append all of these events or none; returns the stream sequence of the last.

        Several events go as one atomic batch, at most 1,000, all of one workspace; the guard of a
        subject is taken from its first event.
        Raises ConflictError when a guard does not hold, LogUnavailableError when the outcome is
        unknown, AppendRefusedError when an event can never be stored.
        """
        if not 0 < len(appends) <= _MAX_ATOMIC:
            raise ValueError(f"append takes 1 to {_MAX_ATOMIC} events, not {len(appends)}")
        if len(appends) == 1:
            messages = [self._message(appends[0])]
            acks = await self._publish(messages)
        else:
            messages = self._atomic(appends)
            acks = await self._publish(messages, acks_on=[len(messages) - 1])
        ack = acks[-1]
        if ack.error is not None:
            raise self._error(appends[0], messages[0], ack.error)
        return ack.seq

    async def append_each(self, appends: Sequence[Append]) -> list[int | Conflict]:
        """Append independent events, pipelined: the sequence of each or the conflict that stopped it.

        Raises LogUnavailableError when the outcome of some is unknown, AppendRefusedError when
        one can never be stored; the others may be stored then.
        """
        messages = [self._message(append) for append in appends]
        results: list[int | Conflict] = []
        for start in range(0, len(messages), _CHUNK):
            acks = await self._publish(messages[start : start + _CHUNK])
            for offset, ack in enumerate(acks, start):
                results.append(self._outcome(appends[offset], messages[offset], ack))
        return results

    async def history(
        self,
        workspace_id: str,
        aggregate_type: str,
        aggregate_id: str,
        *,
        until: datetime | None = None,
        until_seq: int | None = None,
        limit: int | None = None,
    ) -> list[Recorded[Event]]:
        """All events of an aggregate in order, or the first `limit`, up to a recorded time or a sequence, inclusive.

        An unknown aggregate has no events. Raises LogUnavailableError.
        """
        partition = self.partition_of(workspace_id)
        subject = subject_of(partition, workspace_id, aggregate_type, aggregate_id)
        events: list[Recorded[Event]] = []
        after = 0
        while True:
            messages = await self._direct_get(partition, subject, after + 1)
            for message in messages:
                after = _sequence(message)
                event = decode(message.data, seq=after, partition=partition)
                if (until_seq is not None and after > until_seq) or (until and event.recorded_at > until):
                    return events
                events.append(event)
                if len(events) == limit:
                    return events
            if not messages or (messages[-1].headers or {}).get("Nats-Num-Pending") == "0":
                return events

    async def latest(
        self, workspace_id: str, aggregate_type: str, aggregate_id: str
    ) -> Recorded[Event] | None:
        """The last event of an aggregate; None when it has none. Raises LogUnavailableError."""
        partition = self.partition_of(workspace_id)
        subject = subject_of(partition, workspace_id, aggregate_type, aggregate_id)
        request = msgspec.json.encode({"multi_last": [subject], "batch": 1})
        messages = await self._inbox.collect(f"$JS.API.DIRECT.GET.{stream_name(partition)}", request)
        return decode(messages[0].data, seq=_sequence(messages[0]), partition=partition) if messages else None

    async def histories(
        self, workspace_id: str, aggregate_type: str, ids: Sequence[str]
    ) -> list[list[Recorded[Event]]]:
        """The histories of several aggregates, in the order of `ids`, read side by side.

        Those that have a single event come 500 to a request, each of the others by a request of its own.
        """
        bound = asyncio.Semaphore(64)
        single: dict[str, Recorded[Event]] = {}
        for start in range(0, len(ids), _CHUNK):
            single |= await self._single_events(workspace_id, aggregate_type, ids[start : start + _CHUNK])

        async def one(aggregate_id: str) -> list[Recorded[Event]]:
            async with bound:
                return await self.history(workspace_id, aggregate_type, aggregate_id)

        rest = [aggregate_id for aggregate_id in ids if aggregate_id not in single]
        read = dict(zip(rest, await asyncio.gather(*map(one, rest)), strict=True))
        return [[single[id_]] if id_ in single else read[id_] for id_ in ids]

    async def n_events(self, workspace_id: str, aggregate_type: str, aggregate_id: str) -> int:
        """How many events of an aggregate there are: 0 of one that is unknown, or purged. Raises LogUnavailableError.

        The server answers from its index of subjects. A history costs it a block of 8 MB, kept for ten seconds, for
        each place in the log where it has an event.
        """
        partition = self.partition_of(workspace_id)
        subject = subject_of(partition, workspace_id, aggregate_type, aggregate_id)
        request = msgspec.json.encode({"subjects_filter": subject})
        reply = await self._api(f"STREAM.INFO.{stream_name(partition)}", request)
        if reply.error is not None:
            raise LogUnavailableError(f"{stream_name(partition)}: {reply.error.description}")
        return (reply.state.subjects or {}).get(subject, 0)

    async def last_seq(self, partition: int = 0) -> int:
        """Stream sequence of the partition's last event; 0 when it is empty. Raises LogUnavailableError."""
        reply = await self._api(f"STREAM.INFO.{stream_name(partition)}", b"")
        if reply.error is not None:
            raise LogUnavailableError(f"{stream_name(partition)}: {reply.error.description}")
        return reply.state.last_seq

    async def last_seq_of(self, workspace_id: str, aggregate_type: str, aggregate_id: str = "*") -> int:
        """Stream sequence of the last event of an aggregate, "*" for all of its type; 0 when there is none.

        Of all of a type it takes longer the more of them there are: 5 ms for 200,000. Raises LogUnavailableError.
        """
        partition = self.partition_of(workspace_id)
        subject = f"evt.{partition}.{workspace_id}.{aggregate_type}.{aggregate_id}"
        request = msgspec.json.encode({"last_by_subj": subject})
        reply = await self._api(f"STREAM.MSG.GET.{stream_name(partition)}", request)
        if reply.error is not None and reply.error.err_code != _NO_MESSAGE:
            raise LogUnavailableError(f"{subject}: {reply.error.description}")
        return reply.message.seq

    async def event_at(self, partition: int, seq: int) -> Recorded[Event] | None:
        """The event at a sequence; None when nothing is kept there. Raises LogUnavailableError."""
        for message in await self._direct_get(partition, f"evt.{partition}.>", seq, n_messages=1):
            if _sequence(message) == seq:
                return decode(message.data, seq=seq, partition=partition)
        return None

    async def event_id_at(self, partition: int, seq: int) -> str | None:
        """Id of the event at a sequence; None when nothing is kept there. Raises LogUnavailableError."""
        for message in await self._direct_get(partition, f"evt.{partition}.>", seq, n_messages=1):
            if _sequence(message) == seq:
                return msgspec.json.decode(message.data, type=_Identity).id
        return None

    async def purge(
        self, workspace_id: str, aggregate_type: str, aggregate_id: str = "*", *, before: int | None = None
    ) -> int:
        """Delete events of a workspace from the log for good; how many there were.

        aggregate_type, aggregate_id: "*" for all of them. before: only those below this sequence; None: all.
        Positions stay as they are, so readers pass over what is missing. Raises LogUnavailableError.
        """
        partition = self.partition_of(workspace_id)
        subject = f"evt.{partition}.{workspace_id}.{aggregate_type}.{aggregate_id}"
        request: dict[str, object] = {"filter": subject}
        if before is not None:
            request["seq"] = before
        reply = await self._api(f"STREAM.PURGE.{stream_name(partition)}", msgspec.json.encode(request))
        if reply.error is not None:
            raise LogUnavailableError(f"{subject} cannot be purged: {reply.error.description}")
        return reply.purged

    def partition_of(self, workspace_id: str) -> int:
        """The partition that a workspace's events are in."""
        return partition_of(workspace_id, self.partitions)

    def read(
        self,
        partition: int,
        *,
        after: int,
        aggregates: Sequence[str] = (),
        workspace_id: str | None = None,
        max_batch: int = 1000,
        until: int | None = None,
        linger_seconds: float = 0.0,
    ) -> AsyncGenerator[Batch, None]:
        """Batches of events in log order, first those that are there, then live, without end.

        after: the position already known. aggregates: types wanted; none = all.
        until: end behind this sequence instead of waiting for more.
        linger_seconds: how long to gather more into a batch that is not full.
        The first batch is empty when nothing is waiting. Reconnects by itself; a gap is never passed over.
        Raises MalformedEventError at an event that cannot be decoded; unknown types are left out.
        """
        cursor = Cursor(
            stream=stream_name(partition),
            partition=partition,
            filters=filters(partition, aggregates, workspace_id),
            position=after,
            max_batch=max_batch,
            until=until,
            linger_seconds=linger_seconds,
        )
        return read(self._nc, cursor)

    def _message(self, append: Append) -> Message:
        headers: dict[str, str] | None
        if append.expected is None:
            headers = None
        elif append.expected == 0:
            headers = _EXPECT_NEW
        else:
            headers = {_EXPECTED: str(append.expected)}
        event = append.event
        aggregate_type, _, aggregate_id = event.subject.partition("/")
        partition = self.partition_of(event.workspace_id)
        subject = subject_of(partition, event.workspace_id, aggregate_type, aggregate_id)
        payload = encode(event)
        if b"u0000" in payload and _NUL.search(payload):
            raise AppendRefusedError(
                f"{subject}: the text of an event holds U+0000, which Postgres cannot store"
            )
        return Message(subject, payload, headers)

    def _atomic(self, appends: Sequence[Append]) -> list[Message]:
        """One atomic batch (nats-server 2.12, ADR-50): numbered, the last one commits."""
        batch_id = self._nc.new_inbox().rpartition(".")[2]
        guarded: set[str] = set()
        messages: list[Message] = []
        for number, append in enumerate(appends, 1):
            message = self._message(append)
            headers = dict(message.headers or {}) if message.subject not in guarded else {}
            guarded.add(message.subject)
            headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
            if number == len(appends):
                headers["Nats-Batch-Commit"] = "1"
            messages.append(Message(message.subject, message.payload, headers))
        return messages

    async def _publish(self, messages: Sequence[Message], acks_on: Sequence[int] | None = None) -> list[Ack]:
        try:
            return await self._inbox.publish(messages, acks_on=acks_on)
        except MaxPayloadError as error:
            raise AppendRefusedError("an event is larger than the server's max_payload") from error
        except OutboundBufferLimitError as error:
            raise LogUnavailableError("not connected to the log") from error

    def _outcome(self, append: Append, message: Message, ack: Ack) -> int | Conflict:
        if ack.error is None:
            return ack.seq
        error = self._error(append, message, ack.error)
        if isinstance(error, ConflictError):
            return Conflict(error.expected)
        raise error

    @staticmethod
    def _error(append: Append, message: Message, error: ApiError) -> EventLogError:
        if error.err_code in _WRONG_LAST_SEQUENCE:
            return ConflictError(message.subject, append.expected or 0)
        if error.code >= 500:
            return LogUnavailableError(error.description)
        return AppendRefusedError(f"{message.subject}: {error.description} ({error.err_code})")

    async def _direct_get(
        self, partition: int, subject: str, seq: int, *, n_messages: int = _PAGE
    ) -> list[Msg]:
        request = msgspec.json.encode({"seq": seq, "next_by_subj": subject, "batch": n_messages})
        return await self._inbox.collect(f"$JS.API.DIRECT.GET.{stream_name(partition)}", request)

    async def _single_events(
        self, workspace_id: str, aggregate_type: str, ids: Sequence[str]
    ) -> dict[str, Recorded[Event]]:
        """By id, the event of each aggregate whose last event was appended to an empty subject.

        The server may cut the answer short, so an id that is missing says nothing.
        """
        partition = self.partition_of(workspace_id)
        by_subject = {subject_of(partition, workspace_id, aggregate_type, id_): id_ for id_ in ids}
        request = msgspec.json.encode({"multi_last": list(by_subject), "batch": len(by_subject)})
        messages = await self._inbox.collect(f"$JS.API.DIRECT.GET.{stream_name(partition)}", request)
        return {
            by_subject[message.headers["Nats-Subject"]]: decode(
                message.data, seq=_sequence(message), partition=partition
            )
            for message in messages
            if message.headers is not None and message.headers.get(_EXPECTED) == "0"
        }

    async def _api(self, call: str, payload: bytes) -> _StreamReply:
        try:
            reply = await self._nc.request(f"$JS.API.{call}", payload, timeout=5.0)
        except NatsError as error:
            raise LogUnavailableError(f"JetStream does not answer {call}") from error
        return msgspec.json.decode(reply.data, type=_StreamReply)

    async def _ensure_stream(self, partition: int, replicas: int) -> None:
        """Create the partition's stream; one that exists is left as its operator set it."""
        name = stream_name(partition)
        config = {
            "name": name,
            "subjects": [f"evt.{partition}.>"],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_atomic": True,
            "deny_delete": False,
        }
        reply = await self._api(f"STREAM.CREATE.{name}", msgspec.json.encode(config))
        if reply.error is not None and reply.error.err_code != 10058:
            raise LogUnavailableError(f"{name} cannot be created: {reply.error.description}")


def _sequence(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])
