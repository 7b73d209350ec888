"""One projector: the only writer of a read model's partition, and what reacts behind it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
import psycopg
import structlog
from contracts import Event, MalformedEventError, Recorded
from nats.errors import Error as NatsError
from nats.js.errors import APIError
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from .erasure import erased_by, erased_workspaces, project, still_heard
from .errors import (
    ConflictError,
    LogReplacedError,
    LogTruncatedError,
    LogUnavailableError,
    PoisonEventError,
)
from .log import EventLog
from .projection import Connection, Projection, Reaction, last_of

_STANDBY_SECONDS = 1.0
_POLL_SECONDS = 0.02
_TICK_SECONDS = 1.0
_RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
_MAX_ERRORS = 20
_RATE_SECONDS = 10.0
_BATCHES_MAX = 512
_MAX_LINKS = 16

# The server notices a vanished leader within about five seconds and frees its lock.
_KEEPALIVE = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"

_WORLD_FAILED = (
    LogUnavailableError,
    ConflictError,
    NatsError,
    APIError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
    TimeoutError,
)

log = structlog.get_logger("eventlog.projector")
tracer = trace.get_tracer("eventlog")
_propagator = TraceContextTextMapPropagator()


class ProjectorStatus(msgspec.Struct, frozen=True):
    """What a dashboard shows of a projector; the README explains each state."""

    service: str
    partition: int
    state: str
    leader: bool
    position: int
    log_end: int
    lag: int
    reaction_position: int
    events_total: int
    events_per_second: float
    latency_ms_p50: float
    latency_ms_p99: float
    version: str
    alarm: str | None
    last_errors: tuple[str, ...]


class ProjectedBatch(msgspec.Struct, frozen=True):
    """What a metrics exporter learns of one committed batch."""

    n_events: int
    position: int
    pending: int
    seconds: float


class _ReadModelSwitchedError(Exception):
    """The rows are no longer at the position that we know: a rebuild has switched them."""


class _OtherVersionError(Exception):
    """The rows have another version's shape: a newer build has switched them, and this one must not write."""


class Projector:
    """Keeps one partition of a read model up to date.

    url: Postgres as the projector role. clock: the time that reactions are told.
    on_batch: called after each commit.
    """

    def __init__(
        self,
        event_log: EventLog,
        projection: Projection,
        *,
        url: str,
        partition: int = 0,
        reaction: Reaction | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_batch: Callable[[ProjectedBatch], None] | None = None,
        on_leadership: Callable[[bool], None] | None = None,
    ) -> None:
        self._log = event_log
        self._projection = projection
        self._url = url
        self._partition = partition
        self._reaction = reaction
        self._clock = clock
        self._on_batch = on_batch
        self._on_leadership = on_leadership
        self._state = "starting"
        self._is_leader = False
        self._is_live = False
        self._position = 0
        self._reaction_position = 0
        self._saved_reaction_position = 0
        self._log_end = 0
        self._pending = 0
        self._events_total = 0
        self._erased: frozenset[str] = frozenset()
        self._alarm: str | None = None
        self._errors: deque[str] = deque(maxlen=_MAX_ERRORS)
        self._batches: deque[tuple[float, int, float]] = deque(maxlen=_BATCHES_MAX)
        self._moved = asyncio.Condition()
        self._n_waiting = 0
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Project until cancelled: stand by, lead, and after a failure of the world begin again.

        An event that cannot be applied ends the work with an alarm in `status`; nothing is skipped.
        """
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._stand_by_and_lead()
            except _ReadModelSwitchedError:
                log.info("projector.read_model_switched", service=self._projection.name)
                continue
            except _WORLD_FAILED as error:
                self._remember(_describe(error))
                failures = 0 if time.monotonic() - started > 10 else failures + 1
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            except _OtherVersionError as error:
                self._state = "outdated"
                log.warning("projector.outdated", service=self._projection.name, reason=str(error))
                await asyncio.sleep(_STANDBY_SECONDS)
            except (LogTruncatedError, LogReplacedError) as error:
                self._stop(PoisonEventError(seq=self._position, event_type="behind it", reason=str(error)))
                await asyncio.Event().wait()
            except PoisonEventError as error:
                self._stop(error)
                await asyncio.Event().wait()
            finally:
                self._resign()

    async def reached(self, seq: int, *, timeout: float) -> bool:  # noqa: ASYNC109
        """Whether the rows hold everything up to a sequence, waiting at most `timeout` seconds for it."""
        if self._position >= seq:
            return True
        self._n_waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: self._position >= seq)
        except TimeoutError:
            return False
        finally:
            self._n_waiting -= 1
        return True

    @property
    def status(self) -> ProjectorStatus:
        """A snapshot for dashboards and readiness."""
        now = time.monotonic()
        recent = [(count, seconds) for at, count, seconds in self._batches if now - at <= _RATE_SECONDS]
        # Of a busy one they are more than are kept.
        is_all = len(recent) < _BATCHES_MAX
        span = _RATE_SECONDS if is_all else max(now - self._batches[0][0], 1e-3)
        latencies = sorted(seconds * 1000 for _, _, seconds in self._batches)
        return ProjectorStatus(
            service=self._projection.name,
            partition=self._partition,
            state=self._state,
            leader=self._is_leader,
            position=self._position,
            log_end=max(self._log_end, self._position),
            lag=self._pending,
            reaction_position=self._reaction_position,
            events_total=self._events_total,
            events_per_second=round(sum(count for count, _ in recent) / span, 2),
            latency_ms_p50=_quantile(latencies, 0.5),
            latency_ms_p99=_quantile(latencies, 0.99),
            version=self._projection.version,
            alarm=self._alarm,
            last_errors=tuple(self._errors),
        )

    async def _stand_by_and_lead(self) -> None:
        # Rows and position are one transaction and the log has the truth: what a crash of the server loses is read again.
        options = f"-c search_path={self._projection.name} -c synchronous_commit=off {_KEEPALIVE}"
        conn = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            options=options,
            connect_timeout=5,
            application_name=f"{self._projection.name}-projector-{self._partition}",
            cursor_factory=psycopg.AsyncRawCursor,
        )
        async with conn:
            await self._await_leadership(conn)
            self._is_leader = True
            await self._lead(conn)

    async def _await_leadership(self, conn: Connection) -> None:
        """Hold the advisory lock of (database, service, partition); it lives and dies with the connection."""
        key = int.from_bytes(
            sha256(f"projector/{self._projection.name}/{self._partition}".encode()).digest()[:8],
            "big",
            signed=True,
        )
        while True:
            cursor = await conn.execute("SELECT pg_try_advisory_lock($1)", (key,))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                return
            self._state = "standby"
            await self._follow(conn)

    async def _follow(self, conn: Connection) -> None:
        """For a second, keep up with the leader's position as closely as somebody here waits for it."""
        deadline = time.monotonic() + _STANDBY_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await self._moved_to((await self._checkpoint(conn))[0])
            if self._n_waiting:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self._wanted.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wanted.wait()
            except TimeoutError:
                return

    async def _lead(self, conn: Connection) -> None:
        await self._require_version(conn)
        position, self._reaction_position = await self._checkpoint(conn)
        self._erased = await erased_workspaces(conn)
        self._saved_reaction_position = self._reaction_position
        self._position = 0
        await self._moved_to(position)
        end = self._log_end = await self._log.last_seq(self._partition)
        self._state, self._is_live = "catching_up", False
        log.info(
            "projector.leadership_taken",
            service=self._projection.name,
            partition=self._partition,
            position=position,
            log_end=end,
        )
        if max(position, self._reaction_position) > end:
            raise LogTruncatedError(position=max(position, self._reaction_position), log_end=end)
        await self._require_same_log(conn)
        start = position
        if self._reaction is not None:
            start = min(position, self._reaction_position)
            await self._reaction.start(partition=self._partition, position=position, caught_up_at=end)
        if self._on_leadership is not None:
            self._on_leadership(True)
        await _first_failure(self._consume(conn, start, end), self._tick(conn))

    async def _consume(self, conn: Connection, start: int, end: int) -> None:
        batches = self._log.read(
            self._partition,
            after=start,
            aggregates=self._projection.reads,
            linger_seconds=self._projection.linger_seconds,
        )
        async with aclosing(batches):
            while True:
                try:
                    batch = await anext(batches)
                except MalformedEventError as error:
                    raise PoisonEventError(
                        seq=self._position, event_type="behind it", reason=str(error)
                    ) from error
                async with self._turn:
                    self._pending = batch.pending
                    self._log_end = max(self._log_end, batch.last_seq)
                    if batch.last_seq > self._position:
                        await self._project(conn, batch.events, batch.last_seq)
                    live = batch.last_seq >= end or batch.pending == 0
                    await self._react(batch.events, batch.last_seq, live=live)

    async def _project(self, conn: Connection, events: Sequence[Recorded[Event]], last_seq: int) -> None:
        fresh = [event for event in events if event.seq > self._position]
        started = time.perf_counter()
        with _span(self._projection.name, fresh):
            try:
                async with _pipelined(conn):
                    # First, so that it waits for a rebuild's switch without holding locks on rows.
                    advanced = await self._advance(conn, last_seq, fresh)
                    if fresh:
                        await project(self._projection, fresh, conn, erased=self._erased)
                    await self._require_advanced(advanced)
            except Exception as error:  # the edge: whatever a projection raises is this event's alarm
                if isinstance(error, _ReadModelSwitchedError) or _has_world_failed(error):
                    raise
                if (await self._checkpoint(conn))[0] != self._position:
                    raise _ReadModelSwitchedError from error
                raise await self._poison(conn, fresh, error) from error
        seconds = time.perf_counter() - started
        self._erased |= erased_by(fresh)
        self._events_total += len(fresh)
        self._batches.append((time.monotonic(), len(fresh), seconds))
        await self._moved_to(last_seq)
        if self._on_batch is not None:
            self._on_batch(ProjectedBatch(len(fresh), last_seq, self._pending, seconds))

    async def _advance(
        self, conn: Connection, last_seq: int, applied: Sequence[Recorded[Event]]
    ) -> AsyncCursor[TupleRow]:
        """Move the checkpoint; ask `_require_advanced` whether it was where we thought, before committing."""
        return await conn.execute(
            "UPDATE checkpoint SET position = $1, reaction_position = $2, event_seq = coalesce($3, event_seq),"
            " event_id = coalesce($4, event_id) WHERE partition = $5 AND position = $6 RETURNING partition",
            (last_seq, self._reaction_position, *last_of(applied), self._partition, self._position),
        )

    async def _require_advanced(self, advanced: AsyncCursor[TupleRow]) -> None:
        if await advanced.fetchone() is None:
            raise _ReadModelSwitchedError
        self._saved_reaction_position = self._reaction_position

    async def _poison(
        self, conn: Connection, events: Sequence[Recorded[Event]], error: Exception
    ) -> PoisonEventError:
        """Which event it is: the batch again, one by one, committing those before it."""
        for event in events:
            try:
                async with conn.transaction():
                    await self._require_advanced(await self._advance(conn, event.seq, [event]))
                    await project(self._projection, [event], conn, erased=self._erased)
            except Exception as culprit:  # the edge, as in _project
                if _has_world_failed(culprit):
                    raise
                return PoisonEventError(seq=event.seq, event_type=event.type, reason=_describe(culprit))
            self._erased |= erased_by([event])
            await self._moved_to(event.seq)
        first, last = events[0], events[-1]
        return PoisonEventError(
            seq=first.seq,
            event_type=f"to {last.seq}",
            reason=f"fails only as a batch: {_describe(error)}",
        )

    async def _react(self, events: Sequence[Recorded[Event]], last_seq: int, *, live: bool) -> None:
        if self._reaction is not None:
            with _loud_reaction(
                events[0].seq if events else last_seq, events[0].type if events else "no event"
            ):
                await self._reaction.observe(still_heard(events, self._erased), live=live)
        if live:
            self._reaction_position = max(self._reaction_position, last_seq)
            self._is_live, self._state = True, "live"

    async def _tick(self, conn: Connection) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            async with self._turn:
                if not self._is_live:
                    continue
                if self._reaction is not None:
                    with _loud_reaction(self._reaction_position, "tick behind it"):
                        await self._reaction.tick(now=self._clock())
                if self._saved_reaction_position != self._reaction_position:
                    async with conn.transaction():
                        await self._require_advanced(await self._advance(conn, self._position, ()))

    async def _require_version(self, conn: Connection) -> None:
        cursor = await conn.execute(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1",
            (self._projection.name,),
        )
        row = await cursor.fetchone()
        if row is None or row[0] != self._projection.version:
            found = row[0] if row else "nothing"
            raise _OtherVersionError(
                f"this build writes version {self._projection.version}, there is {found}"
            )

    async def _require_same_log(self, conn: Connection) -> None:
        """That the last event in the rows is still where it was; one that was erased proves nothing."""
        cursor = await conn.execute(
            "SELECT event_seq, event_id FROM checkpoint WHERE partition = $1", (self._partition,)
        )
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            return
        seq, expected = int(row[0]), str(row[1])
        found = await self._log.event_id_at(self._partition, seq)
        if found is not None and found != expected:
            raise LogReplacedError(seq=seq, expected=expected, found=found)

    async def _checkpoint(self, conn: Connection) -> tuple[int, int]:
        cursor = await conn.execute(
            "SELECT position, reaction_position FROM checkpoint WHERE partition = $1", (self._partition,)
        )
        row = await cursor.fetchone()
        if row is None:
            await conn.execute(
                "INSERT INTO checkpoint (partition, position, reaction_position) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING",
                (self._partition,),
            )
            return 0, 0
        return int(row[0]), int(row[1])

    async def _moved_to(self, position: int) -> None:
        if position != self._position:
            self._position = position
            async with self._moved:
                self._moved.notify_all()

    def _resign(self) -> None:
        if self._is_leader and self._on_leadership is not None:
            self._on_leadership(False)
        self._is_leader = self._is_live = False

    def _stop(self, error: PoisonEventError) -> None:
        self._state = "stopped"
        self._alarm = str(error)
        self._remember(str(error))
        log.error(
            "projector.stopped",
            service=self._projection.name,
            partition=self._partition,
            seq=error.seq,
            event_type=error.event_type,
            reason=str(error),
            exc_info=error,
        )

    def _remember(self, message: str) -> None:
        self._errors.append(f"{self._clock().isoformat(timespec='seconds')} {message}")
        log.warning(
            "projector.failed", service=self._projection.name, partition=self._partition, reason=message
        )


@asynccontextmanager
async def _pipelined(conn: Connection) -> AsyncIterator[None]:
    """A transaction whose statements go out together, without a round trip for each that returns nothing."""
    try:
        async with conn.pipeline():
            await conn.execute("BEGIN")
            yield
            await conn.execute("COMMIT")
    except BaseException:
        if not conn.closed:
            await conn.rollback()
        raise


async def _first_failure(*work: Coroutine[None, None, None]) -> None:
    """Run side by side until one fails; the failure is raised as it is, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _loud_reaction(seq: int, event_type: str) -> Iterator[None]:
    """A bug in a reaction stops the projector instead of losing a decision; failures of the world pass through."""
    try:
        yield
    except Exception as error:
        if _has_world_failed(error):
            raise
        raise PoisonEventError(
            seq=seq, event_type=event_type, reason=f"reaction: {_describe(error)}"
        ) from error


def _span(service: str, events: Sequence[Recorded[Event]]) -> AbstractContextManager[trace.Span]:
    """One span per batch: the child of the only trace in it, or linked to the first few."""
    parents = list(dict.fromkeys(event.traceparent for event in events[:_MAX_LINKS] if event.traceparent))
    contexts = [_propagator.extract({"traceparent": parent}) for parent in parents]
    if len(contexts) == 1:
        return tracer.start_as_current_span(
            f"{service}.project", context=contexts[0], attributes={"events": len(events)}
        )
    links = [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]
    return tracer.start_as_current_span(f"{service}.project", links=links, attributes={"events": len(events)})


def _has_world_failed(error: Exception) -> bool:
    """Whether trying again can help. Postgres files limits that an event exceeds among its own failures."""
    return isinstance(error, _WORLD_FAILED) and not isinstance(error, psycopg.errors.ProgramLimitExceeded)


def _describe(error: Exception) -> str:
    """What an alarm says of an error; Postgres' details quote rows, which are not everybody's to read."""
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__} {error.sqlstate or ''}: {error.diag.message_primary or 'no details'}"
    return f"{type(error).__name__}: {error}"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else 0.0
