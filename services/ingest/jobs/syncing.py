"""Runs: a source is read page by page; whoever takes a run over goes on at its page."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import msgspec
import psycopg
import structlog
from contracts import connector
from msgspec import Struct
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Connection, Pool, tenant
from runtime.errors import described
from runtime.sealing import SealError

from services.ingest import _queries
from services.ingest.commands.connectors import LIMITED_REASON, end_run, judge, progress_run
from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.manifest import Stream
from services.ingest.errors import (
    AccountBusyError,
    ConnectorNotFoundError,
    InvalidConnectorError,
    PlanFullError,
    VendorError,
)
from services.ingest.jobs.intake import BATCH_MAX, Intake, added
from services.ingest.jobs.progress import CHUNK, Progress, also, withheld
from services.ingest.jobs.queue import BACK_OFF_SECONDS, Job, JobQueue, Later, StepAside
from services.ingest.projections import POLLS
from services.ingest.records import Kept, Mark, Records
from services.ingest.reporting import Sources
from services.ingest.state import NOTHING_YET, Connector, SyncRun
from services.ingest.vault import Vault
from services.ingest.vendors.asking import Asking
from services.ingest.vendors.polling import ABSENT, Access, Window, beginning, high_water

AT_ONCE: Final = 8
PER_WORKSPACE: Final = 4
"""Runs of one process, and of one workspace in it."""
TURN: Final = timedelta(seconds=3)
"""After so long a run lets those that wait have a turn, and goes on at its page."""
LOOK_SECONDS: Final = 1.0
"""How often, between pages, a run is looked at that somebody may have ended."""
TELL: Final = timedelta(minutes=1)
"""How often people are told how much was read of a stretch that takes long."""
FIRST_WINDOW: Final = timedelta(days=90)
"""How far back the first poll of a stream reads; a backfill reads further."""
BUSY_SECONDS: Final = 5.0
"""When a run is tried again whose connector is in somebody else's hands."""
WAIT_SECONDS_MAX: Final = 3_600.0
DEFAULT_WAIT_SECONDS: Final = 60.0
"""How long a run waits that a vendor has limited, at most, and where it does not say how long."""
RUN_AGE_MAX: Final = timedelta(hours=24)
"""A run that a vendor has limited for so long, or a poll that fails then, is given up."""
TRIES_MAX: Final = 12
"""How often a run may fail before it gets on again, by a fault of ours or a vendor that is away: more than an hour's."""
FAILING_MAX: Final = 1_000
"""Runs whose tries are counted in this process; beyond them, the count of all begins anew."""
UNKNOWN_DELIVERIES_MAX: Final = 5
_OF_LENGTH: Final = frozenset({"not_configured", "bad_answer", "vendor_failed", "unreachable"})
"""How a vendor may answer whoever asks for too long a window at once."""
_PASSING: Final = frozenset({"vendor_failed", "unreachable"})
"""How a vendor that is away for a while may answer."""
_ALL: Final = ""
"""Stands for all streams where how far a remap is is kept; none has that name."""
_BUG_REASON: Final = "internal_error"
_BUGS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SealError,
    TypeError,
    ValueError,
)
"""What another try would raise as well, so that the run would stay open and its connector never be polled again."""

log = structlog.get_logger()


class SyncJob(Struct, frozen=True):
    """A run to do; without one: a connector of which nothing may be left once it is deleted.

    is_new: it was about to be made, and nothing may be left where it was not.
    """

    connector_id: str
    run_id: str | None
    is_new: bool = False


class _OverError(Exception):
    """Somebody has ended the run, paused its connector or deleted it."""


class Tools(Struct, frozen=True, kw_only=True):
    """What runs are done with.

    rows: ingest's read model. locks: the application's connections, one is held for each run. clock: the time in UTC.
    """

    sources: Sources
    intake: Intake
    records: Records
    vault: Vault
    asking: Asking
    rows: Pool
    locks: Pool
    clock: Callable[[], datetime]


class Syncing:
    """Does runs, as many at once as AT_ONCE says."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._n_failed: dict[str, int] = {}

    async def work(self, queue: JobQueue) -> None:
        """Take runs from the queue, without end."""
        await queue.work("sync", self.do, at_once=AT_ONCE, per_workspace=PER_WORKSPACE)

    async def do(self, job: Job) -> None:
        """Do a run to its end, or raise Later."""
        order = msgspec.json.decode(job.payload, type=SyncJob)
        if order.run_id is None:
            return await self._forget(job, order)
        async with self._alone(order.connector_id) as lock:
            if lock is None:
                raise Later(BUSY_SECONDS)
            run = await self._tools.sources.find_run(job.workspace_id, order.run_id)
            if run is None:
                if job.n_deliveries < UNKNOWN_DELIVERIES_MAX:
                    raise Later(BUSY_SECONDS)
                return None
            if run.ended is None:
                await self._try(_Run(self._tools, run, job.workspace_id, lock=lock), order.run_id)
            return None

    async def _try(self, run: "_Run", run_id: str) -> None:
        """Do a run, the last time where it has failed too often without getting on in between."""
        n_failed = self._n_failed.pop(run_id, 0)
        try:
            await run.do(is_last_try=n_failed + 1 >= TRIES_MAX)
        except Later:
            if n_failed and not run.has_got_on:
                self._n_failed[run_id] = n_failed
            raise
        except Exception as error:
            if len(self._n_failed) >= FAILING_MAX:
                self._n_failed.clear()
            n_failed = self._n_failed[run_id] = 1 if run.has_got_on else n_failed + 1
            if not isinstance(error, VendorError):
                raise
            wait = BACK_OFF_SECONDS[min(n_failed, len(BACK_OFF_SECONDS)) - 1]
            wait = min(max(wait, error.retry_after or 0.0), WAIT_SECONDS_MAX)
            log.info("run.vendor_away", run_id=run_id, error=error.code, retry_after=wait)
            raise Later(wait) from error

    async def _forget(self, job: Job, order: SyncJob) -> None:
        """Delete what is kept of a connector that is deleted or was never made; the job is put before it is."""
        state = await self._tools.sources.find(job.workspace_id, order.connector_id)
        may_come = job.n_deliveries < UNKNOWN_DELIVERIES_MAX
        if state is None and order.is_new and may_come:
            raise Later(BUSY_SECONDS)
        if state is None or state.is_deleted:
            await forget(self._tools.vault, self._tools.records, job.workspace_id, order.connector_id)
        elif not order.is_new and may_come:
            raise Later(BUSY_SECONDS)

    @asynccontextmanager
    async def _alone(self, connector_id: str) -> AsyncIterator[Connection | None]:
        """None where another run of this connector has its lock; else the connection that has it until the block ends.

        The lock lives and dies with the connection.
        """
        key = f"sync/{connector_id}"
        async with self._tools.locks.connection() as conn:
            cursor = await conn.execute("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", (key,))
            row = await cursor.fetchone()
            is_alone = row is not None and bool(row[0])
            try:
                yield conn if is_alone else None
            finally:
                if is_alone and not conn.closed:
                    with suppress(psycopg.OperationalError):
                        await conn.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", (key,))


async def forget(vault: Vault, records: Records, workspace_id: str, connector_id: str) -> None:
    """Delete everything that is kept of a connector but its issues."""
    await vault.forget(workspace_id, connector_id)
    await records.forget(workspace_id, connector_id)


class _Run:
    """One run while it is done. has_got_on: this try has kept how far it is."""

    def __init__(
        self, tools: Tools, run: SyncRun, workspace_id: str, *, lock: Connection | None = None
    ) -> None:
        self._tools = tools
        self._lock = lock
        self._run = run
        self._request = run.request
        self._workspace_id = workspace_id
        self._context = CommandContext(workspace_id=workspace_id, correlation_id=run.request.run_id)
        self._progress: dict[str, Progress] = {}
        self._has_told = False
        self._told_at = run.told_at
        self._is_turn_over = False
        self._is_last_try = self.has_got_on = False
        self._begun_at = self._looked_at = tools.clock()

    @property
    def _counts(self) -> connector.SyncCounts:
        total = NOTHING_YET
        for progress in self._progress.values():
            total = added(total, progress.counts)
        return total

    @property
    def _is_old(self) -> bool:
        return self._tools.clock() - self._run.requested_at > RUN_AGE_MAX

    async def do(self, *, is_last_try: bool = False) -> None:
        """Do it, and say how it ended. Raises Later where it has to wait, UnavailableError where we have to, VendorError
        where its vendor is away for a while and it would have to begin anew.

        is_last_try: whatever is raised ends it.
        """
        self._is_last_try = is_last_try
        outcome, reason, detail = connector.SyncOutcome.SUCCEEDED, "", ""
        try:
            await self._do()
            detail = withheld(self._progress)
        except _OverError:
            outcome = connector.SyncOutcome.CANCELLED
        except VendorError as error:
            self._wait_if_limited(error)
            if self._may_pass(error) and not is_last_try:
                raise
            outcome, reason, detail = connector.SyncOutcome.FAILED, error.code, error.detail
        except PlanFullError as error:
            # Read no further than what is in: the next run goes on at this page.
            outcome, reason, detail = connector.SyncOutcome.FAILED, error.code, error.message
        except InvalidConnectorError as error:
            outcome, reason, detail = connector.SyncOutcome.FAILED, "not_configured", error.message
        except Later:
            raise
        except Exception as error:
            is_given_up = is_last_try or (self._is_old and self._request.kind in POLLS)
            if not isinstance(error, _BUGS) and not is_given_up:
                # Something of ours is away: the job is offered again. A backfill may take days.
                raise
            log.exception("run.failed", run_id=self._request.run_id, error=described(error))
            outcome, reason = connector.SyncOutcome.FAILED, _BUG_REASON
            detail = "The run met a fault of ours; the log says which."
        await self._end(outcome, reason, detail)

    async def _do(self) -> None:
        source = await self._source()
        if self._request.kind is connector.SyncKind.REMAP:
            await self._remap(source)
            return
        await self._plan(source)
        access = await self._tools.asking.access(self._workspace_id, source)
        try:
            await self._poll(source, access)
        except VendorError as error:
            token = access.secrets.get("access_token")
            if error.code != "credentials_rejected" or token is None:
                raise
            # A token may have been taken back before its time; its grant may still be good.
            access = await self._tools.asking.access(self._workspace_id, source, rejected=token)
            await self._plan(source)
            await self._poll(source, access)

    async def _source(self) -> Source:
        state = await self._tools.sources.find(self._workspace_id, self._request.connector_id)
        if state is None or self._must_stop(state):
            raise _OverError
        return source_of(self._request.connector_id, state.settings)

    # --- polling

    async def _poll(self, source: Source, access: Access) -> None:
        if self._request.kind is not connector.SyncKind.SCHEDULED:
            await self._say_progress()
        for stream in source.streams:
            try:
                await self._read(source, access, stream)
            except VendorError as error:
                is_wanted = not stream.optional or stream.name in source.settings.streams
                if is_wanted or error.status not in ABSENT:
                    raise
                # Kept: each turn would ask for it again, and where a turn has one request get no further.
                progress = self._progress[stream.name]
                done = replace(progress, chunk=len(progress.stretches), page=None, left_out=error.detail)
                await self._keep(stream.name, done)

    async def _read(self, source: Source, access: Access, stream: Stream) -> None:
        """Read one stream, stretch by stretch."""
        while (progress := self._progress[stream.name]).chunk < len(progress.stretches):
            try:
                await self._read_stretch(source, access, stream)
            except VendorError as error:
                progress = self._progress[stream.name]
                if not progress.is_whole or error.code not in _OF_LENGTH:
                    raise
                if progress.page is not None and self._may_pass(error) and not self._is_last_try:
                    raise
                # It may be too much at once for this vendor, and the next turn need not ask that again.
                await self._keep(stream.name, progress.in_weeks())
            if self._request.kind is connector.SyncKind.BACKFILL:
                await self._say_progress()
                await self._let_others_go_first()

    async def _plan(self, source: Source) -> None:
        """For each stream where to begin, or where an earlier try of this run was."""
        kept = await self._tools.records.resumes(
            self._workspace_id, source.connector_id, self._request.run_id
        )
        known: Mapping[str, datetime] = {}
        if self._request.kind in POLLS:
            known = await self._tools.records.high_waters(
                self._workspace_id,
                source.connector_id,
                {stream.name: source.asked_by(stream) for stream in source.streams},
            )
        now = self._tools.clock()
        for stream in source.streams:
            asked = source.asked_by(stream)
            place = msgspec.convert(kept[stream.name], Progress) if stream.name in kept else None
            # Up to 2026-11-23 that was not kept, and a run that was open then goes on.
            if place is None or place.asked not in ("", asked):
                counts = NOTHING_YET if place is None else place.counts
                window = self._window(stream, known.get(stream.name), now)
                place = replace(window, counts=counts)
            self._progress[stream.name] = replace(place, asked=asked)

    def _window(self, stream: Stream, known: datetime | None, now: datetime) -> Progress:
        is_incremental = stream.endpoint is None or stream.endpoint.incremental is not None
        if not is_incremental:
            return Progress(start=None, end=now)
        is_bounded = stream.endpoint is not None and stream.endpoint.says("end")
        if self._request.kind is connector.SyncKind.BACKFILL:
            start, end = self._request.window_start, self._request.window_end or now
            return Progress(start=start, end=end, is_bounded=is_bounded)
        start = beginning(known) or now - FIRST_WINDOW
        if known is not None and stream.reread_days is not None:
            start = known - timedelta(days=stream.reread_days)
        return Progress(
            start=start, end=now, is_bounded=is_bounded, is_whole=is_bounded and now - start > CHUNK
        )

    async def _read_stretch(self, source: Source, access: Access, stream: Stream) -> None:
        """Read one stretch to its end, committing every page with where to go on."""
        progress = self._progress[stream.name]
        window = progress.stretches[progress.chunk]
        pages = self._tools.asking.pages(
            access, stream, window, position=progress.page, goes_on=self._goes_on
        )
        async with aclosing(pages):
            async for page in pages:
                await self._stop_if_over()
                if page.records and not self._has_told:
                    # Of a poll that finds nothing people are told only that.
                    await self._say_progress()
                counts = await self._take_in(source, stream, page.records, progress)
                moments = (progress.newest, high_water(stream, page.records))
                progress = replace(
                    progress,
                    page=page.position,
                    newest=max((moment for moment in moments if moment is not None), default=None),
                    cut_chunk=progress.chunk if page.is_cut else progress.cut_chunk,
                    is_unsettled=progress.is_unsettled or page.is_unsettled,
                    refused=also(progress.refused, page.refused),
                    is_withheld=progress.is_withheld or (page.refused != "" and not page.is_gone),
                    counts=counts,
                )
                if page.position is not None:
                    await self._keep(stream.name, progress)
                    await self._say_if_due()
                    if self._is_turn_over:
                        raise StepAside
        done = replace(progress, chunk=progress.chunk + 1, page=None, newest=None)
        await self._keep(stream.name, done, high_water=self._reached(progress, window))

    async def _take_in(
        self, source: Source, stream: Stream, records: Sequence[object], progress: Progress
    ) -> connector.SyncCounts:
        """Take in a page, and look between its parts whether anybody still wants it; what was counted with it."""
        refusal: PlanFullError | None = None
        for start in range(0, max(1, len(records)), BATCH_MAX):
            if start:
                await self._stop_if_over()
            part = records[start : start + BATCH_MAX]
            try:
                taken = await self._tools.intake.take_in(source, stream.name, part, self._context)
                counts = taken.counts
            except PlanFullError as error:
                # What follows may say nothing new, and costs nothing then.
                refusal, counts = refusal or error, error.counts
            progress = replace(progress, counts=added(progress.counts, counts))
            self._progress[stream.name] = progress
        if refusal is not None:
            raise refusal
        return progress.counts

    def _goes_on(self) -> bool:
        """Whether the page after this one is asked for in this turn; what was asked for is taken in, not asked again."""
        self._is_turn_over = self._tools.clock() > self._begun_at + TURN
        return not self._is_turn_over

    def _reached(self, progress: Progress, window: Window) -> datetime | None:
        """Up to when all is read behind a stretch of what is new.

        What is longer ago is done for good; of the last days, and of a cut stretch, only what the vendor has shown is.
        """
        if self._request.kind not in POLLS or window.start is None:
            return None
        # What other lists gave says nothing of one that was refused.
        newest = None if progress.is_withheld else progress.newest
        reached = None if newest is None else min(newest, window.end)
        if progress.cut_chunk == progress.chunk:
            return reached
        if progress.chunk + 1 < len(progress.stretches):
            return min(window.end, progress.end - CHUNK) if progress.is_withheld else window.end
        past = window.end - CHUNK
        return max(past, reached or past) if past > window.start else reached

    async def _keep(self, stream: str, progress: Progress, *, high_water: datetime | None = None) -> None:
        self._progress[stream] = progress
        mark = Mark(
            run_id=self._request.run_id,
            stream=stream,
            resume=msgspec.to_builtins(progress),
            high_water=high_water,
            asked=progress.asked,
        )
        try:
            await self._tools.records.checkpoint(
                self._workspace_id, self._request.connector_id, mark, over=self._lock
            )
        except psycopg.OperationalError as error:
            # The lock is gone with its connection, and another run may be at it by now.
            log.warning("run.lock_lost", run_id=self._request.run_id)
            raise Later(BUSY_SECONDS) from error
        self.has_got_on = True

    async def _let_others_go_first(self) -> None:
        """A backfill may take days; what is new comes first."""
        async with tenant(self._tools.rows, self._workspace_id) as conn:
            runs = await _queries.list_open_runs_of(
                conn, workspace_id=self._workspace_id, connector_id=self._request.connector_id
            )
        if any(connector.SyncKind(run.kind) in POLLS for run in runs):
            raise Later(BUSY_SECONDS)

    # --- mapping anew

    async def _remap(self, source: Source) -> None:
        resumes = await self._tools.records.resumes(
            self._workspace_id, source.connector_id, self._request.run_id
        )
        progress, mapped_by = Progress(start=None, end=self._tools.clock()), source.mapped_by
        if _ALL in resumes:
            progress = msgspec.convert(resumes[_ALL], Progress)
        if progress.asked not in ("", mapped_by):
            progress = replace(progress, page=None)
        progress = replace(progress, asked=mapped_by)
        self._progress[_ALL] = progress
        await self._say_progress()
        after = "" if progress.page is None else str(progress.page["after"])
        async for page in self._tools.records.pages(self._workspace_id, source.connector_id, after=after):
            await self._stop_if_over()
            by_stream: dict[str, list[Kept]] = {}
            for kept in page:
                by_stream.setdefault(kept.stream, []).append(kept)
            for stream, those in by_stream.items():
                taken = await self._tools.intake.take_in(
                    source,
                    stream,
                    [kept.record for kept in those],
                    self._context,
                    # What comes meanwhile is newer.
                    came_at=[kept.received_at for kept in those],
                    kept_as=[kept.external_id for kept in those],
                )
                progress = replace(progress, counts=added(progress.counts, taken.counts))
            progress = replace(progress, page={"after": page[-1].external_id})
            await self._keep(_ALL, progress)
            await self._say_if_due()
            if not self._goes_on():
                raise StepAside
        if (await self._source()).mapped_by != mapped_by:
            # Whoever asks for a remap while this one is open is answered with it.
            raise StepAside

    # --- telling

    async def _say_progress(self, *, is_due: bool = False) -> None:
        """Tell how far the run is: where it has finished a stretch, or it is due."""
        self._has_told = True
        n_done = sum(progress.chunk for progress in self._progress.values())
        n_chunks = sum(len(progress.stretches) for progress in self._progress.values())

        def decide(run: SyncRun) -> connector.Event | None:
            if run.ended is not None:
                raise _OverError
            if run.n_chunks and (run.n_chunks_done, run.n_chunks) == (n_done, n_chunks) and not is_due:
                return None
            self._told_at = self._tools.clock()
            return progress_run(run, n_chunks_done=n_done, n_chunks=n_chunks, counts=self._counts)

        await self._tools.sources.decide_run(self._request.run_id, self._context, decide)

    async def _say_if_due(self) -> None:
        if self._told_at is not None and self._tools.clock() >= self._told_at + TELL:
            await self._say_progress(is_due=True)

    async def _stop_if_over(self) -> None:
        """Between pages: raise where somebody has ended the run, paused its connector or deleted it."""
        now = self._tools.clock()
        if now < self._looked_at + timedelta(seconds=LOOK_SECONDS):
            return
        self._looked_at = now
        run_id, connector_id = self._request.run_id, self._request.connector_id
        run = await self._tools.sources.find_run(self._workspace_id, run_id)
        if run is None or run.ended is not None:
            raise _OverError
        state = await self._tools.sources.find(self._workspace_id, connector_id)
        if state is None or self._must_stop(state):
            raise _OverError

    def _must_stop(self, state: Connector) -> bool:
        return state.is_deleted or (state.is_paused and self._request.kind is not connector.SyncKind.REMAP)

    def _wait_if_limited(self, error: VendorError) -> None:
        """A vendor that has enough of us is asked later, unless that goes on for a day; our own pace may take days."""
        if isinstance(error, AccountBusyError):
            raise StepAside(min(error.seconds, WAIT_SECONDS_MAX)) from error
        if error.code == LIMITED_REASON and not self._is_old:
            wait = DEFAULT_WAIT_SECONDS if error.retry_after is None else max(1.0, error.retry_after)
            log.info("run.limited", run_id=self._request.run_id, seconds=wait)
            raise Later(min(wait, WAIT_SECONDS_MAX)) from error

    def _may_pass(self, error: VendorError) -> bool:
        """Whether what is wrong with the vendor may pass, and a run that ended now would lose how far it is."""
        if self._request.kind is connector.SyncKind.BACKFILL:
            return error.code in _PASSING or error.code == "bad_answer"
        is_amid = any(progress.page is not None for progress in self._progress.values())
        return is_amid and error.code in _PASSING and not self._is_old

    async def _end(self, outcome: connector.SyncOutcome, reason: str, detail: str) -> None:
        """First where the connector stands, then the run: whoever takes over in between does both again."""
        if outcome is not connector.SyncOutcome.CANCELLED and reason != _BUG_REASON:
            await self._judge(reason, detail)

        def decide(run: SyncRun) -> connector.Event | None:
            if run.ended is not None:
                return None
            return end_run(run, outcome, counts=self._counts, reason=reason, detail=detail)

        await self._tools.sources.decide_run(self._request.run_id, self._context, decide)
        await self._tools.records.end_run(
            self._workspace_id, self._request.connector_id, self._request.run_id
        )
        log.info(
            "run.ended",
            run_id=self._request.run_id,
            connector_id=self._request.connector_id,
            outcome=outcome.value,
            reason=reason,
            n_records=self._counts.n_records,
        )

    async def _judge(self, reason: str, detail: str) -> None:
        if self._request.kind is connector.SyncKind.REMAP:
            # The vendor was not asked.
            return
        async with tenant(self._tools.rows, self._workspace_id) as conn:
            row = await _queries.get_connector(
                conn, workspace_id=self._workspace_id, connector_id=self._request.connector_id
            )
        n_failed = 0 if row is None else row.n_failed
        try:
            await self._tools.sources.decide(
                self._request.connector_id,
                self._context,
                lambda state: judge(state, reason, detail, n_failed_before=n_failed),
            )
        except ConnectorNotFoundError:
            # Deleted at this moment; its run ends all the same.
            return
