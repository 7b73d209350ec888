"""When a workspace's own linker is fitted, compared and switched on; the fitting itself runs in a process of its own."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog
from contracts import Event, Recorded, derived_id, pattern, record, workspace
from eventlog import Append, AppendRefusedError, ConflictError, Connection, EventLog, LogUnavailableError
from msgspec import Struct, field
from runtime.broker import CommandContext
from runtime.database import Pool

from ..engine.grouping import Grouper
from ..engine.refitting import MAX_TEXTS, MIN_DECISIONS, Comparison, Finding, Fitted, Material
from ..engine.weights import LinkerArtefact, shipped
from ..errors import (
    GroupingContendedError,
    GroupingVersionNotFoundError,
    GroupingVersionRejectedError,
    NotReadyError,
)
from . import loading
from .apart import run_apart

SHIPPED_ID: Final = "shipped"
REFIT_AFTER: Final = timedelta(hours=24)
# Whatever is asked for: a comparison costs seconds of a core, and the log up to 200 kB.
AT_LEAST_APART: Final = timedelta(minutes=5)
COMPUTE_SECONDS: Final = 600.0
_NEVER = datetime.min.replace(tzinfo=UTC)
_ROWS_SECONDS = 4.0
_POLL_SECONDS = 0.01

log = structlog.get_logger("pattern.refitting")


class _Request(Struct, frozen=True):
    """Somebody's wish to see what a version would move."""

    run_id: str
    version_id: str
    linker: LinkerArtefact
    context: CommandContext


class _Workspace(Struct):
    """What is known of a workspace's versions.

    seq: the latest event about them. n_fits: versions fitted so far, the last one at fitted_at. active_id, active: the
    linker in use. n_decisions: in the rows, those that were
    overruled since the start included. has_new_decisions: since the last fit. begun_at: the last attempt of one, since the start.
    requested: comparisons to come, by version; compared_at: when the last one was begun. problem: why the latest failed.
    """

    seq: int = 0
    n_fits: int = 0
    fitted_at: datetime | None = None
    active_id: str = SHIPPED_ID
    active: LinkerArtefact = field(default_factory=shipped)
    n_decisions: int = 0
    has_new_decisions: bool = False
    begun_at: datetime | None = None
    requested: dict[str, _Request] = field(default_factory=dict)
    compared_at: datetime | None = None
    problem: str | None = None


class _Job(Struct, frozen=True):
    """A fit, or a comparison that somebody asked for, on its way.

    version: what the fit is to be called. base_id, base: the linker in use when it was begun.
    """

    workspace_id: str
    version: str
    base_id: str
    base: LinkerArtefact
    request: _Request | None
    begun_at: datetime
    task: asyncio.Task[Finding]


class Refits:
    """Fits the linkers of a partition's workspaces, one workspace at a time, whoever has waited longest first.

    At most once in 24 hours and only after new decisions. Nothing is grouped by a version before somebody switches it on.
    A crash loses nothing but a request: what is due is seen again from the rows. A fit that fails is logged, shown as an
    alarm, and never raised.
    """

    def __init__(self, event_log: EventLog, pool: Pool) -> None:
        self._log = event_log
        self._pool = pool
        self._workspaces: dict[str, _Workspace] = {}
        self._job: _Job | None = None

    def clear(self) -> None:
        """Forget everything, before a start."""
        self._workspaces.clear()
        if self._job is not None:
            self._job.task.cancel()
            self._job = None

    async def load(self, conn: Connection, workspace_id: str) -> None:
        """Remember a workspace's versions, and whether people have decided anything since the last one."""
        row = await loading.grouping(conn, workspace_id)
        known = self._workspaces[workspace_id] = _Workspace()
        if row is not None:
            known.seq, known.n_fits, known.fitted_at = row.seq, row.n_fits, row.fitted_at
            known.active_id, known.active = row.active_id, loading.linker(row.active_linker)
        known.n_decisions, latest = await loading.decisions(conn, workspace_id)
        known.has_new_decisions = latest is not None and (known.fitted_at is None or latest > known.fitted_at)

    def note(self, event: Recorded[Event]) -> None:
        """Take in what people decided, and what became of the versions."""
        match event.data:
            case pattern.LinkConstrained():
                known = self._of(event.workspace_id)
                known.has_new_decisions, known.n_decisions = True, known.n_decisions + 1
            case (
                pattern.GroupingVersionFitted()
                | pattern.GroupingVersionCompared()
                | pattern.GroupingVersionActivated()
            ) as data:
                known = self._of(event.workspace_id)
                # Of our own there may be later ones already.
                if event.seq > known.seq:
                    known.seq = event.seq
                    _take(known, event, data)
            case workspace.WorkspaceErased():
                self._workspaces.pop(event.workspace_id, None)
            case _:
                return

    def active(self, workspace_id: str) -> LinkerArtefact:
        """The linker in use."""
        return self._of(workspace_id).active

    def alarms(self) -> list[str]:
        """What keeps versions from being stored, without names."""
        problems = sorted(known.problem for known in self._workspaces.values() if known.problem)
        if not problems:
            return []
        return [
            f"Grouping of {len(problems)} workspaces could not be fitted: {', '.join(sorted(set(problems)))}."
        ]

    async def version(self, workspace_id: str, version_id: str) -> LinkerArtefact:
        """The linker of a version.

        Raises GroupingVersionNotFoundError, GroupingVersionRejectedError for one of another build's features, and
        NotReadyError while the rows lag behind.
        """
        linker, _ = await self._find(workspace_id, version_id)
        return linker

    async def better(self, workspace_id: str, version_id: str) -> LinkerArtefact:
        """The linker of a version that may be switched on; raises what `version` does, also for one that is no better."""
        linker, is_better = await self._find(workspace_id, version_id)
        if not is_better:
            raise GroupingVersionRejectedError(version_id)
        return linker

    def request(
        self, context: CommandContext, version_id: str, linker: LinkerArtefact, *, now: datetime
    ) -> str:
        """Have a version compared with the one in use, soon; the id of that comparison."""
        known = self._of(context.workspace_id)
        waiting = known.requested.get(version_id)
        if waiting is None:
            run_id = derived_id("run_", context.workspace_id, version_id, now.isoformat(), str(known.seq))
            waiting = known.requested[version_id] = _Request(run_id, version_id, linker, context)
        return waiting.run_id

    async def activate(
        self, context: CommandContext, version_id: str, linker: LinkerArtefact, *, now: datetime
    ) -> int:
        """Let new issues be grouped by a version from now on; the sequence that says so.

        Raises GroupingContendedError and NotReadyError.
        """
        known = self._of(context.workspace_id)
        if known.active_id == version_id:
            return known.seq
        activated = pattern.GroupingVersionActivated(
            workspace_id=context.workspace_id,
            version_id=version_id,
            version=linker.version,
            previous_version_id=known.active_id,
            linker=None if version_id == SHIPPED_ID else _said(linker),
        )
        try:
            known.seq = await self._append(known, activated, at=now, now=now, context=context)
        except ConflictError as error:
            raise GroupingContendedError from error
        except LogUnavailableError as error:
            raise NotReadyError("the event log did not confirm") from error
        known.active_id, known.active = version_id, linker
        return known.seq

    async def tick(self, groupers: Mapping[str, Grouper], *, now: datetime) -> None:
        """Append what has been computed, or begin the next one that is due."""
        if self._job is not None:
            if self._job.task.done():
                job, self._job = self._job, None
                await self._finish(job, now=now)
            return
        due = [
            workspace_id
            for workspace_id, known in self._workspaces.items()
            if workspace_id in groupers and _is_due(known, groupers[workspace_id], now)
        ]
        if due:
            first = min(due, key=lambda each: _waited_since(self._workspaces[each]))
            self._begin(groupers[first], self._workspaces[first], now=now)

    def _begin(self, grouper: Grouper, known: _Workspace, *, now: datetime) -> None:
        request = None
        if _is_comparison_due(known, now):
            request = known.requested.pop(next(iter(known.requested)))
            known.compared_at = now
        else:
            known.has_new_decisions, known.begun_at = False, now
        version = f"linker@{now:%Y-%m-%d}.w{known.n_fits + 1}"
        threshold = grouper.settings.confidence_threshold
        task = asyncio.create_task(
            self._compute(
                grouper.workspace_id,
                known.active,
                None if request is None else request.linker,
                version=version,
                confidence_threshold=threshold,
            )
        )
        self._job = _Job(grouper.workspace_id, version, known.active_id, known.active, request, now, task)

    async def _compute(
        self,
        workspace_id: str,
        active: LinkerArtefact,
        candidate: LinkerArtefact | None,
        *,
        version: str,
        confidence_threshold: float,
    ) -> Finding:
        async with self._pool.connection() as conn, loading.consistent(conn):
            arrivals = await loading.arrivals(conn, workspace_id, n=MAX_TEXTS)
            merged = await loading.merged(conn, workspace_id)
            constraints = await loading.constraints(conn, workspace_id)
        material = Material(
            workspace_id=workspace_id,
            confidence_threshold=confidence_threshold,
            merged=merged,
            constraints=constraints,
            arrivals=arrivals,
            active=active,
            candidate=candidate,
            version=version,
        )
        output = await run_apart(
            "services.pattern.engine.refitting", msgspec.json.encode(material), seconds=COMPUTE_SECONDS
        )
        return msgspec.json.decode(output, type=Finding)

    async def _finish(self, job: _Job, *, now: datetime) -> None:
        known = self._workspaces.get(job.workspace_id)
        if known is None:
            return
        try:
            found = job.task.result()
            if job.base_id != known.active_id:
                # Somebody has switched a version on meanwhile, and it was compared with the one before.
                _again(job, known)
                return
            await self._say(job, found, known, now=now)
        except LogUnavailableError:
            raise
        except ConflictError:
            # Another leader was faster.
            _again(job, known)
        except AppendRefusedError as error:
            _failed(job, known, error)
        except Exception as error:  # noqa: BLE001  # a version is worth no other work
            if known.problem is None:
                # Once more: the database may have been away for a moment.
                _again(job, known)
            known.has_new_decisions |= job.request is None
            _failed(job, known, error)
        else:
            known.problem = None

    async def _say(self, job: _Job, found: Finding, known: _Workspace, *, now: datetime) -> None:
        context = job.request.context if job.request else None
        events: list[pattern.Event] = []
        version_id = derived_id("gvr_", job.workspace_id, job.version)
        if found.fitted is not None:
            events.append(_fitted(job, version_id, known.n_fits + 1, found.fitted))
        if found.comparison is not None:
            about = (version_id, job.version)
            if job.request is not None:
                about = (job.request.version_id, job.request.linker.version)
            events.append(_compared(job, about, found.comparison))
        if events:
            known.seq = await self._append(known, *events, at=job.begun_at, now=now, context=context)
        if found.fitted is not None:
            known.n_fits, known.fitted_at = known.n_fits + 1, job.begun_at

    async def _append(
        self,
        known: _Workspace,
        *events: pattern.Event,
        at: datetime,
        now: datetime,
        context: CommandContext | None,
    ) -> int:
        appends = []
        for data in events:
            workspace_id = getattr(data, "workspace_id", "")
            event = record(
                data,
                workspace_id=workspace_id,
                aggregate_id=workspace_id,
                occurred_at=at,
                recorded_at=now,
                source="pattern",
                actor=context.actor if context else None,
                correlation_id=context.correlation_id if context else None,
                traceparent=context.traceparent if context else None,
            )
            appends.append(Append(event, known.seq))
        return await self._log.append(*appends)

    async def _find(self, workspace_id: str, version_id: str) -> tuple[LinkerArtefact, bool]:
        if version_id == SHIPPED_ID:
            return shipped(), True
        deadline = time.monotonic() + _ROWS_SECONDS
        while time.monotonic() < deadline:
            async with self._pool.connection() as conn:
                # In this order: rows that have the latest event have the version.
                row = await loading.grouping(conn, workspace_id)
                found = await loading.version_of_grouping(conn, workspace_id, version_id)
            if found is not None:
                linker, is_better = found
                if linker is None:
                    raise GroupingVersionRejectedError(version_id)
                return linker, is_better
            if (row.seq if row else 0) >= self._of(workspace_id).seq:
                raise GroupingVersionNotFoundError(version_id)
            await asyncio.sleep(_POLL_SECONDS)
        raise NotReadyError("the pattern service is catching up")

    def _of(self, workspace_id: str) -> _Workspace:
        known = self._workspaces.get(workspace_id)
        if known is None:
            known = self._workspaces[workspace_id] = _Workspace()
        return known


def _is_due(known: _Workspace, grouper: Grouper, now: datetime) -> bool:
    return _is_comparison_due(known, now) or (
        known.has_new_decisions
        and all(each is None or now - each >= REFIT_AFTER for each in (known.fitted_at, known.begun_at))
        and min(known.n_decisions, grouper.n_rulings) >= MIN_DECISIONS
    )


def _is_comparison_due(known: _Workspace, now: datetime) -> bool:
    return bool(known.requested) and (known.compared_at is None or now - known.compared_at >= AT_LEAST_APART)


def _waited_since(known: _Workspace) -> datetime:
    return max((at for at in (known.begun_at, known.compared_at) if at is not None), default=_NEVER)


def _take(
    known: _Workspace,
    event: Recorded[Event],
    data: pattern.GroupingVersionFitted | pattern.GroupingVersionCompared | pattern.GroupingVersionActivated,
) -> None:
    match data:
        case pattern.GroupingVersionFitted():
            known.n_fits, known.fitted_at = data.number, event.time
        case pattern.GroupingVersionActivated():
            known.active_id, known.active = data.version_id, loading.usable(data.linker)
        case _:
            return


def _again(job: _Job, known: _Workspace) -> None:
    """Have a fit or a comparison computed anew, soon."""
    if job.request is None:
        known.has_new_decisions, known.begun_at = True, None
    else:
        known.requested.setdefault(job.request.version_id, job.request)


def _failed(job: _Job, known: _Workspace, error: Exception) -> None:
    known.problem = type(error).__name__
    log.error("refitting.failed", workspace_id=job.workspace_id, error=repr(error))


def _said(linker: LinkerArtefact) -> pattern.Linker:
    fields = msgspec.structs.asdict(linker)
    del fields["trained_on"]
    return pattern.Linker(**fields)


def _fitted(job: _Job, version_id: str, number: int, found: Fitted) -> pattern.GroupingVersionFitted:
    return pattern.GroupingVersionFitted(
        workspace_id=job.workspace_id,
        version_id=version_id,
        number=number,
        linker=_said(found.linker),
        shipped=_said(shipped()),
        n_decisions=found.n_decisions,
        n_joining=found.n_joining,
        shipped_loss=found.shipped_loss,
        loss=found.loss,
        is_better=found.is_better,
    )


def _compared(job: _Job, about: tuple[str, str], found: Comparison) -> pattern.GroupingVersionCompared:
    run_id = job.request.run_id if job.request else derived_id("run_", job.workspace_id, *about)
    return pattern.GroupingVersionCompared(
        workspace_id=job.workspace_id,
        run_id=run_id,
        version_id=about[0],
        version=about[1],
        base_version_id=job.base_id,
        base_version=job.base.version,
        n_texts=found.n_texts,
        n_asked=found.n_asked,
        n_decided=found.n_decided,
        n_moved=found.n_moved,
        n_joining=found.n_joining,
        n_leaving=found.n_leaving,
        moves=msgspec.convert(found.moves, tuple[pattern.GroupingMove, ...], from_attributes=True),
    )
