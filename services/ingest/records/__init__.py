"""What is kept of a source beside its secrets: records as they came, those that were rejected, how far it has been read."""

import json
import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import accumulate
from typing import Final

import msgspec
from contracts import new_id
from msgspec import Struct
from runtime.database import Connection, Pool, tenant, within

from services.ingest.records import _queries
from services.ingest.records._queries import ListKnownRow as Known
from services.ingest.records._queries import ListLettersRow as Letter

__all__ = ["Kept", "Known", "Letter", "Mark", "Raw", "Records", "Rejection", "Retry"]

RAW_BYTES_MAX: Final = 1024 * 1024
"""Bytes of a record's JSON up to which it is kept to be mapped again; a larger one is taken in all the same."""
LETTER_BYTES_MAX: Final = 64 * 1024
"""Bytes of a rejected record's JSON up to which it can be tried again; of a larger one the beginning is kept."""
LETTERS_MAX: Final = 10_000
"""Dead letters of one connector; what is rejected beyond them is counted by its run, and no more."""
LETTERS_BYTES_MAX: Final = 256 * 1024 * 1024
"""The same of one workspace, in bytes of their JSON; each process may be over it by what it keeps in WEIGHED_FOR."""
LETTER_BYTES_MIN: Final = 1024
"""What a shorter one counts for, so that they are bounded in number too."""
WEIGHED_FOR: Final = timedelta(seconds=10)
_WEIGHED_MAX: Final = 4096
REASON_LENGTH_MAX: Final = 500
DELIVERY_DAYS: Final = 7
"""How long a webhook's id is known, so that the same is not taken twice."""
PAGE: Final = 100

_json: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Raw:
    """A record as it came, by the id that its issue is known by.

    received_at: None stands for when it is kept. text: its JSON, the same for the same. sha256: of that, in hex; tells its content from another's.
    """

    __slots__ = ("external_id", "received_at", "record", "sha256", "text")

    def __init__(self, external_id: str, record: object, received_at: datetime | None = None) -> None:
        self.external_id = external_id
        self.received_at = received_at
        self.record = record
        self.text = _encoded(record)
        self.sha256 = _sha256(self.text)


class Kept(Struct, frozen=True):
    """A record that is kept, with the stream that it came by; "webhook" for one that was pushed.

    received_at: when it came first as it is.
    """

    external_id: str
    stream: str
    record: object
    received_at: datetime


class Rejection(Struct, frozen=True):
    """A record that could not become an issue. path: the field that is wrong, empty when it is about all of it.

    came_at: None stands for when it is kept.
    """

    record: object
    path: str
    reason: str
    came_at: datetime | None = None


class Retry(Struct, frozen=True):
    """A dead letter that is tried again. came_at: when its record came last; one that is tried again does not come."""

    letter_id: str
    stream: str
    record: object
    n_attempts: int
    came_at: datetime


class Mark(Struct, frozen=True, kw_only=True):
    """How far a run is in a stream.

    resume: JSON, where it goes on. high_water: the time of its records up to which the stream has been read; it never
    goes back, and None says nothing new of it. asked: what the stream asks, up to 100 characters; where that changes,
    how far it was read before says nothing.
    """

    run_id: str
    stream: str
    resume: Mapping[str, object]
    high_water: datetime | None = None
    asked: str = ""


class Records:
    """Keeps what sources send, each workspace for itself.

    pool: the application's role, on the schema sources. clock: the time in UTC. rng: where ids of letters come from.
    """

    def __init__(self, pool: Pool, *, clock: Callable[[], datetime], rng: random.Random) -> None:
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._weighed: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    async def known(
        self, workspace_id: str, connector_id: str, external_ids: Sequence[str]
    ) -> Mapping[str, Known]:
        """Id → what is kept under it; an id without a record is absent."""
        async with tenant(self._pool, workspace_id) as conn:
            rows = await _queries.list_known(
                conn, workspace_id=workspace_id, connector_id=connector_id, external_ids=list(external_ids)
            )
        return {row.external_id: row for row in rows}

    async def keep(
        self,
        workspace_id: str,
        connector_id: str,
        stream: str,
        records: Sequence[Raw],
    ) -> int:
        """Keep the latest of each record; how many are new or differ. One that came before what is kept is not."""
        now = self._clock()
        rows: dict[str, dict[str, object]] = {}
        for received_at, raw in sorted(
            ((raw.received_at or now, raw) for raw in records), key=lambda each: each[0]
        ):
            if len(raw.text.encode()) <= RAW_BYTES_MAX:
                rows[raw.external_id] = {
                    "external_id": raw.external_id,
                    "sha256": raw.sha256,
                    "record": raw.text,
                    "received_at": received_at.isoformat(),
                }
        if not rows:
            return 0
        async with tenant(self._pool, workspace_id) as conn:
            return await _queries.keep_records(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                stream=stream,
                rows=_json(list(rows.values())),
            )

    async def see(
        self, workspace_id: str, connector_id: str, external_ids: Sequence[str], *, seen_at: datetime
    ) -> None:
        """Note of records that they came again at that time as they are kept, so that they are no older than this."""
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_records(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                seen_at=seen_at,
                external_ids=list(external_ids),
            )

    async def note_late(self, workspace_id: str, connector_id: str, records: Sequence[Raw]) -> None:
        """Note what came of older revisions than are kept, so that it says nothing new when it comes again."""
        now = self._clock()
        rows = [
            {
                "external_id": raw.external_id,
                "sha256": raw.sha256,
                "came_at": (raw.received_at or now).isoformat(),
            }
            for raw in {raw.external_id: raw for raw in records}.values()
        ]
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.note_late(
                conn, workspace_id=workspace_id, connector_id=connector_id, rows=_json(rows)
            )

    async def pages(
        self, workspace_id: str, connector_id: str, *, after: str = "", size: int = PAGE
    ) -> AsyncIterator[Sequence[Kept]]:
        """All records that are kept of a connector, page by page, in the order of their ids.

        after: the id behind which to go on. No transaction is open while a page is worked on, so what changes
        meanwhile may be seen or not; what is there throughout is seen once.
        """
        while True:
            async with tenant(self._pool, workspace_id) as conn:
                rows = await _queries.list_records(
                    conn, workspace_id=workspace_id, connector_id=connector_id, after=after, n=size
                )
            if rows:
                yield [
                    Kept(row.external_id, row.stream, json.loads(row.record), row.received_at) for row in rows
                ]
            if len(rows) < size:
                return
            after = rows[-1].external_id

    async def n_kept(self, workspace_id: str, connector_id: str) -> int:
        """How many records are kept of a connector."""
        async with tenant(self._pool, workspace_id) as conn:
            n = await _queries.count_records(conn, workspace_id=workspace_id, connector_id=connector_id)
        return n or 0

    async def purge(self, workspace_id: str, *, received_before: datetime) -> int:
        """Delete records and letters that came before a time and not again since; how many."""
        async with tenant(self._pool, workspace_id) as conn:
            n_records = await _queries.purge_records(
                conn, workspace_id=workspace_id, received_before=received_before
            )
            n_letters = await _queries.purge_letters(
                conn, workspace_id=workspace_id, received_before=received_before
            )
        return n_records + n_letters

    async def reject(
        self, workspace_id: str, connector_id: str, stream: str, rejections: Sequence[Rejection]
    ) -> int:
        """Keep rejected records as dead letters, the same one once with its tries counted; how many were kept."""
        now = self._clock()
        rows: dict[str, dict[str, object]] = {}
        for rejection in rejections:
            text = _encoded(rejection.record)
            hashed = _sha256(f"{stream}\n{text}")
            beginning = text.encode()[:LETTER_BYTES_MAX].decode(errors="ignore")
            rows[hashed] = {
                "letter_id": new_id("ddl_", now=now, rng=self._rng),
                "sha256": hashed,
                "record": beginning,
                "is_whole": len(beginning) == len(text),
                "path": _line(rejection.path),
                "reason": _line(rejection.reason),
                "came_at": (rejection.came_at or now).isoformat(),
            }
        if not rows:
            return 0
        async with tenant(self._pool, workspace_id) as conn:
            n_fitting = await self._n_fitting(
                conn, workspace_id, [len(str(row["record"]).encode()) for row in rows.values()]
            )
            n_before = await _queries.count_letters(
                conn, workspace_id=workspace_id, connector_id=connector_id
            )
            return await _queries.reject_records(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                stream=stream,
                now=now,
                rows=_json([{**row, "number": number} for number, row in enumerate(rows.values(), 1)]),
                room=min(LETTERS_MAX - (n_before or 0), n_fitting),
            )

    async def _n_fitting(self, conn: Connection, workspace_id: str, sizes: Sequence[int]) -> int:
        """How many of these letters, the first, there is room for in a workspace; counted as kept then."""
        now = self._clock()
        weighed_at, weight = self._weighed.get(workspace_id, (now - WEIGHED_FOR, 0))
        if now - weighed_at >= WEIGHED_FOR:
            found = await _queries.weigh_letters(conn, workspace_id=workspace_id, least=LETTER_BYTES_MIN)
            weighed_at, weight = now, found or 0
        weights = list(accumulate((max(size, LETTER_BYTES_MIN) for size in sizes), initial=weight))
        n_fitting = bisect_right(weights, LETTERS_BYTES_MAX) - 1
        self._weighed[workspace_id] = (weighed_at, weights[max(0, n_fitting)])
        self._weighed.move_to_end(workspace_id)
        if len(self._weighed) > _WEIGHED_MAX:
            self._weighed.popitem(last=False)
        return n_fitting

    async def letters(
        self, workspace_id: str, connector_id: str, *, limit: int, before: str = ""
    ) -> tuple[Sequence[Letter], int]:
        """Dead letters of a connector before one, the newest first; and how many there are in all."""
        async with tenant(self._pool, workspace_id) as conn:
            found = await _queries.list_letters(
                conn, workspace_id=workspace_id, connector_id=connector_id, before=before, n=limit
            )
            total = await _queries.count_letters(conn, workspace_id=workspace_id, connector_id=connector_id)
        return found, total or 0

    async def to_retry(
        self, workspace_id: str, connector_id: str, letter_ids: Sequence[str], *, limit: int
    ) -> Sequence[Retry]:
        """Dead letters that are there whole, those named, or all when none is: first what was not tried for longest, so
        that whoever tries all of them again and again comes to each.
        """
        async with tenant(self._pool, workspace_id) as conn:
            rows = await _queries.list_whole_letters(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                letter_ids=list(letter_ids),
                n=limit,
            )
        return [
            Retry(row.letter_id, row.stream, json.loads(row.record), row.n_attempts, row.came_at)
            for row in rows
        ]

    async def accept(self, workspace_id: str, connector_id: str, retried: Sequence[Retry]) -> int:
        """Delete those of these letters that have not been rejected once more since they were read; how many."""
        rows = [{"letter_id": each.letter_id, "n_attempts": each.n_attempts} for each in retried]
        async with tenant(self._pool, workspace_id) as conn:
            return await _queries.delete_accepted(
                conn, workspace_id=workspace_id, connector_id=connector_id, rows=_json(rows)
            )

    async def taken_deliveries(
        self, workspace_id: str, connector_id: str, delivery_ids: Sequence[str]
    ) -> frozenset[str]:
        """Which of these webhooks, by 1 to 200 characters each, were taken within DELIVERY_DAYS."""
        async with tenant(self._pool, workspace_id) as conn:
            return frozenset(
                await _queries.list_deliveries(
                    conn,
                    workspace_id=workspace_id,
                    connector_id=connector_id,
                    delivery_ids=list(delivery_ids),
                )
            )

    async def note_deliveries(
        self, workspace_id: str, connector_id: str, delivery_ids: Sequence[str]
    ) -> None:
        """Note that these webhooks have been taken."""
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.note_deliveries(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                received_at=self._clock(),
                delivery_ids=sorted(set(delivery_ids)),
            )

    async def last_received(self, workspace_id: str, connector_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Connector → when a webhook was last taken; one to which none came within DELIVERY_DAYS is absent."""
        async with tenant(self._pool, workspace_id) as conn:
            rows = await _queries.list_received(
                conn, workspace_id=workspace_id, connector_ids=list(connector_ids)
            )
        return {row.connector_id: row.received_at for row in rows}

    async def high_waters(
        self, workspace_id: str, connector_id: str, asked: Mapping[str, str]
    ) -> Mapping[str, datetime]:
        """Stream → the newest time up to which it has been read by what it asks; a stream that never was is absent.

        asked: stream → as in its Mark; up to 2026-11-23 that was not kept, and what it was then counts.
        """
        rows = await self._positions(workspace_id, connector_id, run_id="")
        return {
            row.stream: row.high_water
            for row in rows
            if row.high_water is not None and row.resume in (None, asked.get(row.stream, ""))
        }

    async def resumes(
        self, workspace_id: str, connector_id: str, run_id: str
    ) -> Mapping[str, dict[str, object]]:
        """Stream → where a run goes on, as `checkpoint` was given it; a stream that it has not begun is absent."""
        rows = await self._positions(workspace_id, connector_id, run_id=run_id)
        return {
            row.stream: msgspec.json.decode(row.resume, type=dict[str, object]) for row in rows if row.resume
        }

    async def checkpoint(
        self,
        workspace_id: str,
        connector_id: str,
        mark: Mark,
        *,
        over: Connection | None = None,
    ) -> None:
        """Note where a run goes on in a stream, should its process die, and how far the stream has been read.

        over: the connection that holds the run's lock, so that who has lost it writes nothing; None: any.
        """
        async with AsyncExitStack() as stack:
            if over is None:
                conn = await stack.enter_async_context(tenant(self._pool, workspace_id))
            else:
                await stack.enter_async_context(within(over, workspace_id))
                conn = over
            await _queries.checkpoint(
                conn,
                workspace_id=workspace_id,
                connector_id=connector_id,
                run_id=mark.run_id,
                stream=mark.stream,
                resume=_json(mark.resume),
                high_water=mark.high_water,
                asked=mark.asked,
                now=self._clock(),
            )

    async def end_run(self, workspace_id: str, connector_id: str, run_id: str) -> None:
        """A run is over, so nothing resumes it."""
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.end_run(conn, workspace_id=workspace_id, connector_id=connector_id, run_id=run_id)

    async def forget(self, workspace_id: str, connector_id: str) -> None:
        """Delete all of this that there is of a connector."""
        async with tenant(self._pool, workspace_id) as conn:
            for delete in (
                _queries.forget_records,
                _queries.forget_letters,
                _queries.forget_deliveries,
                _queries.forget_positions,
            ):
                await delete(conn, workspace_id=workspace_id, connector_id=connector_id)

    async def sweep(self) -> int:
        """Delete what has reached its age, in every workspace; how many rows."""
        now = self._clock()
        async with self._pool.connection() as conn:
            n_rows = await _queries.sweep(
                conn, now=now, deliveries_before=now - timedelta(days=DELIVERY_DAYS)
            )
        return n_rows or 0

    async def erase(self, workspace_ids: Collection[str]) -> Sequence[str]:
        """Delete all that the schema sources has of these workspaces, secrets and their key too; those that had any."""
        async with self._pool.connection() as conn:
            found = await _queries.list_with_rows(conn, workspace_ids=sorted(workspace_ids))
        for workspace_id in found:
            async with tenant(self._pool, workspace_id) as conn:
                await _queries.erase_workspace(conn, workspace_id=workspace_id)
        return found

    async def _positions(
        self, workspace_id: str, connector_id: str, *, run_id: str
    ) -> Sequence[_queries.ListPositionsRow]:
        async with tenant(self._pool, workspace_id) as conn:
            return await _queries.list_positions(
                conn, workspace_id=workspace_id, connector_id=connector_id, run_id=run_id
            )


def _encoded(record: object) -> str:
    """A record as JSON, the same for the same; what is no character, as half of a pair, stays an escape."""
    text = _json(record)
    return text if text.isascii() or _is_unicode(text) else json.dumps(record, separators=(",", ":"))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(text: str) -> str:
    """As PostgreSQL takes it, and no longer than people read it."""
    return text.replace("\0", "")[:REASON_LENGTH_MAX].encode(errors="replace").decode()


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
