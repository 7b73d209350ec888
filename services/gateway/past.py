"""The read model as it was: a workspace's log up to a moment, projected into temporary tables.

What is served of the past is made by the very projection, statements and handlers that serve the present, so it is
what was served then.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import copy
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final
from weakref import WeakValueDictionary

import psycopg
import structlog
from contracts import Event, Recorded
from eventlog import EventLog, Projection
from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg_pool import AsyncConnectionPool
from runtime.database import Connection, Pool
from runtime.errors import UnavailableError, ValidationFailedError
from runtime.service import Resources

from services.gateway.errors import PastTooLongError

log = structlog.get_logger("gateway.past")

EVENTS_MAX: Final = 1_000_000
"""Events that one answer about the past may be made of."""
SHORT_MAX: Final = 50_000
"""Up to so many events a question waits for its answer; a longer past may take minutes, and is built one at a time."""
KEPT_MAX: Final = 6
"""Pasts of one gateway, each a connection with its tables."""
OF_A_WORKSPACE_MAX: Final = 2
"""Pasts of one workspace, so that its questions leave places to others."""
BUILDING_MAX: Final = 2
"""Pasts that are built at once, of different workspaces; the others wait in the order of asking."""
KEPT_FOR: Final = timedelta(seconds=60)
"""How long a past is kept for the next page of it …"""
LONG_KEPT_FOR: Final = timedelta(minutes=10)
"""… and a long one, which is closed before when another long one is asked for."""
AGE_MAX: Final = timedelta(hours=1)
"""How long a past is shown however often it is asked for: what has expired or was purged since is still in it."""
AHEAD_MAX: Final = timedelta(minutes=1)
"""How far another clock may be ahead of ours."""
_ANSWER_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 5.0
_BUILD_SECONDS: Final = 900.0
_SWEEP_SECONDS: Final = 10.0
_SEE_EXPIRED: Final = (
    b"SELECT set_config('app.current_workspace', $1, true), set_config('app.sees_expired', 'on', true)"
)
_HIDE: Final = (
    "DELETE FROM pg_temp.{table} AS i WHERE i.workspace_id = $1 AND EXISTS (SELECT FROM {schema}.{table} AS n"
    " WHERE n.workspace_id = $1 AND n.{key} = i.{key} AND n.expired_at IS NOT NULL)"
)
_HIDDEN: Final = (("issues", "issue_id"), ("predictions", "prediction_id"))
_HIDE_COMMENTS: Final = (
    b"DELETE FROM pg_temp.comments AS c WHERE c.workspace_id = $1 AND NOT EXISTS ("
    b"SELECT FROM pg_temp.issues AS i WHERE i.workspace_id = $1 AND i.issue_id = c.issue_id)"
)


class _Rows(AsyncConnectionPool[Connection]):
    """A pool of the one connection that can see its temporary tables; who comes second waits."""

    def __init__(self, conn: Connection) -> None:
        super().__init__(min_size=0, max_size=1, open=False)
        self._conn = conn
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109  # as the base has it
        """The connection, in no transaction."""
        async with self._turn:
            try:
                yield self._conn
            finally:
                await self._conn.rollback()

    async def check(self) -> None:
        """Nothing can be mended: another connection would not have the tables."""


class _Past(Struct):
    """One past in its tables. moment: the time that it is of. used: by how many requests now. is_over: given to no more."""

    conn: Connection
    rows: Pool
    moment: datetime
    built_at: datetime
    last_used_at: datetime
    used: int = 0
    is_long: bool = False
    is_over: bool = False

    @property
    def kept_for(self) -> timedelta:
        """How long it is kept when nobody asks."""
        return LONG_KEPT_FOR if self.is_long else KEPT_FOR


class _Wanted(Struct, frozen=True):
    """Which past: of which workspace, when."""

    workspace_id: str
    as_of: int | datetime


class Pasts:
    """Builds pasts when they are asked for and keeps a few of them for the next question."""

    def __init__(self, resources: Resources, projection: Projection, *, url: str) -> None:
        self._resources = resources
        self._projection = projection
        self._url = url
        self._kept: dict[_Wanted, _Past] = {}
        self._places = asyncio.Semaphore(BUILDING_MAX)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # What is being built, and what could not be until somebody has heard that.
        self._building: dict[_Wanted, asyncio.Task[_Past]] = {}
        self._long: _Wanted | None = None

    @asynccontextmanager
    async def at(self, workspace_id: str, as_of: int | datetime) -> AsyncIterator[tuple[Pool, Resources]]:
        """The rows after the events of a workspace up to a moment, and resources whose clock stands there.

        as_of: the last sequence, or the last time of recording.
        Raises ValidationFailedError for a moment to come, PastTooLongError, UnavailableError when it takes longer than
        a question waits; it is built on, for who asks again.
        """
        past = await self._past(_Wanted(workspace_id, as_of))
        past.used += 1
        try:
            resources = copy(self._resources)
            resources.clock = lambda: past.moment
            yield past.rows, resources
        finally:
            past.used -= 1
            past.last_used_at = self._resources.clock()
            if past.is_over and not past.used:
                await past.conn.close()

    async def run(self) -> None:
        """Close what is not asked for any more, until cancelled; then all of it."""
        try:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                await self._sweep(keep=KEPT_MAX)
        finally:
            for task in self._building.values():
                task.cancel()
            await asyncio.gather(*self._building.values(), return_exceptions=True)
            self._building.clear()
            for past in self._kept.values():
                await past.conn.close()
            self._kept.clear()

    async def _past(self, wanted: _Wanted) -> _Past:
        # Who asks a lot waits for themselves: of a workspace at most one question waits for a place to build.
        turn = self._turns.setdefault(wanted.workspace_id, asyncio.Lock())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), turn:
                known = self._kept.get(wanted)
                if known is not None and known.built_at <= self._resources.clock() - AGE_MAX:
                    await self._end(wanted)
                elif known is not None and not known.conn.closed:
                    return known
                task = self._building.get(wanted) or await self._begin(wanted)
                # Who goes away stops nothing: the answer is for whoever asks again.
                await asyncio.wait({task})
                self._building.pop(wanted, None)
                past = task.result()
                if past.conn.closed:
                    raise UnavailableError("Too many pasts are looked at now; ask again in a moment.")
                return past
        except TimeoutError as error:
            message = "That past is being built; ask again in a moment."
            raise UnavailableError(message, retry_after=_RETRY_SECONDS) from error
        except psycopg.OperationalError as error:
            raise UnavailableError("The database does not answer now.") from error

    async def _end(self, wanted: _Wanted) -> None:
        """Give a past to nobody any more; whoever reads it last closes it."""
        past = self._kept.pop(wanted)
        past.is_over = True
        if not past.used:
            await past.conn.close()

    async def _begin(self, wanted: _Wanted) -> asyncio.Task[_Past]:
        """Build it beside the questions, once there is a place. Raises UnavailableError when there is no room."""
        await self._places.acquire()
        try:
            await self._make_room(wanted.workspace_id)
        except BaseException:
            self._places.release()
            raise
        self._building[wanted] = task = asyncio.create_task(self._keep(wanted))
        task.add_done_callback(_note_end)
        return task

    async def _keep(self, wanted: _Wanted) -> _Past:
        try:
            async with asyncio.timeout(_BUILD_SECONDS):
                self._kept[wanted] = past = await self._build(wanted)
            self._building.pop(wanted, None)
            return past
        except TimeoutError as error:
            raise UnavailableError("Reading the past takes too long now; ask again later.") from error
        finally:
            if self._long == wanted:
                self._long = None
            else:
                self._places.release()

    async def _go_long(self, wanted: _Wanted) -> None:
        """Leave the place to short pasts, and take the one of long ones. Raises UnavailableError when it is taken."""
        in_use = any(past.is_long and past.used for past in self._kept.values())
        if self._long is not None or in_use:
            raise UnavailableError("Another long past is looked at now; ask again in some minutes.")
        self._long = wanted
        self._places.release()
        for other in [other for other, past in self._kept.items() if past.is_long]:
            await self._kept.pop(other).conn.close()

    async def _make_room(self, workspace_id: str) -> None:
        """A place for one more of a workspace, if need be by closing what is idle. Raises UnavailableError."""
        await self._sweep(keep=OF_A_WORKSPACE_MAX - 1, of=workspace_id)
        # What could not be built, and nobody asked for again, holds no place.
        self._building = {wanted: task for wanted, task in self._building.items() if not task.done()}
        await self._sweep(keep=KEPT_MAX - 1 - len(self._building))
        n_own = sum(each.workspace_id == workspace_id for each in (*self._kept, *self._building))
        if n_own >= OF_A_WORKSPACE_MAX or len(self._kept) + len(self._building) >= KEPT_MAX:
            raise UnavailableError("Too many pasts are looked at now; ask again in a moment.")

    async def _sweep(self, *, keep: int, of: str | None = None) -> None:
        """Close what is idle for too long, and then the longest idle until only `keep` are left. of: of a workspace."""
        now = self._resources.clock()
        chosen = {wanted: past for wanted, past in self._kept.items() if of in (None, wanted.workspace_id)}
        idle = sorted(
            (item for item in chosen.items() if not item[1].used), key=lambda item: item[1].last_used_at
        )
        n_left = len(chosen)
        closed = []
        for wanted, past in idle:
            is_fresh = past.last_used_at > now - past.kept_for
            if is_fresh and n_left <= keep and not past.conn.closed:
                continue
            n_left -= 1
            # Nobody is given what is about to be closed.
            closed.append(self._kept.pop(wanted))
        for past in closed:
            await past.conn.close()

    async def _build(self, wanted: _Wanted) -> _Past:
        event_log, now = self._resources.event_log, self._resources.clock()
        partition = event_log.partition_of(wanted.workspace_id)
        end = await event_log.last_seq(partition)
        _refuse_future(wanted.as_of, end=end, now=now)
        conn = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            options="-c search_path=pg_temp -c temp_buffers=32MB",
            connect_timeout=5,
            application_name="causeloop-past",
            cursor_factory=AsyncRawCursor,
        )
        try:
            await conn.execute(self._projection.schema_sql.encode())
            moment = await self._fill(conn, event_log, wanted, until=end)
            await self._hide(conn, wanted.workspace_id)
        except BaseException:
            await conn.close()
            raise
        if isinstance(wanted.as_of, datetime):
            moment = min(wanted.as_of, now)
        now = self._resources.clock()
        return _Past(conn, _Rows(conn), moment or now, now, now, is_long=self._long == wanted)

    async def _hide(self, conn: Connection, workspace_id: str) -> None:
        """What is expired now is shown to nobody, however long ago it was not."""
        async with conn.transaction():
            await conn.execute(_SEE_EXPIRED, (workspace_id,))
            for table, key in _HIDDEN:
                hide = _HIDE.format(schema=self._projection.name, table=table, key=key)
                await conn.execute(hide.encode(), (workspace_id,))
            await conn.execute(_HIDE_COMMENTS, (workspace_id,))

    async def _fill(
        self, conn: Connection, event_log: EventLog, wanted: _Wanted, *, until: int
    ) -> datetime | None:
        """Project what was known; when the last of it was recorded, None when nothing was."""
        if isinstance(wanted.as_of, int):
            until = min(until, wanted.as_of)
        moment: datetime | None = None
        n_events, analysed_at = 0, SHORT_MAX // 4
        if not until:
            return None
        batches = event_log.read(
            event_log.partition_of(wanted.workspace_id),
            after=0,
            aggregates=self._projection.aggregates,
            workspace_id=wanted.workspace_id,
            until=until,
        )
        async with aclosing(batches):
            async for batch in batches:
                known = _known(batch.events, wanted.as_of)
                n_events += len(known)
                if n_events > EVENTS_MAX:
                    raise PastTooLongError(EVENTS_MAX)
                if n_events > SHORT_MAX and self._long != wanted:
                    await self._go_long(wanted)
                if known:
                    moment = known[-1].recorded_at
                    async with conn.transaction():
                        await self._projection.project(known, conn)
                if n_events >= analysed_at:
                    await _analyse(conn)
                    analysed_at = 2 * n_events
                if len(known) < len(batch.events):
                    break
        log.info("past.built", workspace_id=wanted.workspace_id, events=n_events)
        return moment


def _note_end(task: asyncio.Task[_Past]) -> None:
    """Why a past was not built is told who asks again; when nobody does, the log has it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("past.not_built", error=str(error))


async def _analyse(conn: Connection) -> None:
    """Tell the planner how many rows the tables have: nobody else does so for temporary ones."""
    found = await conn.execute(
        b"SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
    )
    for (name,) in await found.fetchall():
        await conn.execute(sql.SQL("ANALYZE pg_temp.{}").format(sql.Identifier(name)))


def _refuse_future(as_of: int | datetime, *, end: int, now: datetime) -> None:
    is_ahead = as_of > now + AHEAD_MAX if isinstance(as_of, datetime) else as_of > end
    if is_ahead:
        message = "as_of lies ahead; nobody knows yet what will be known then"
        raise ValidationFailedError(f"{message}.", details={"as_of": message})


def _known(events: Sequence[Recorded[Event]], as_of: int | datetime) -> Sequence[Recorded[Event]]:
    """The events up to the first that was recorded later: what the log held then."""
    if isinstance(as_of, int):
        return events
    return list(takewhile(lambda event: event.recorded_at <= as_of, events))
