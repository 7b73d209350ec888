"""When patterns are clustered anew, and the clustering itself, in a process of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from contracts import Event, Recorded, derived_id, pattern, record, workspace
from contracts.generated.pattern import PatternStatus
from eventlog import Append, AppendRefusedError, ConflictError, Connection, EventLog, LogUnavailableError
from msgspec import Struct
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool

from ..engine.clusters import (
    FACTORS,
    MAX_PATTERNS,
    PERIOD_DAYS,
    VERSION,
    Clustering,
    Known,
    Material,
    Node,
)
from ..engine.grouping import Grouper
from ..engine.memory import Pattern
from . import loading
from .apart import run_apart

FIRST_AFTER = timedelta(seconds=60)
AFTER_NEW_PATTERNS = timedelta(minutes=10)
AFTER_NEW_ISSUES = timedelta(hours=6)
# Whatever is asked for: a clustering costs up to two minutes of everybody's turn, and the log megabytes.
AT_LEAST_APART = timedelta(minutes=5)
COMPUTE_SECONDS = 120.0
MAX_HOURS = 500_000
_MAX_TRIES = 2
ROWS_SECONDS = 30.0

Reached = Callable[[str, int], Awaitable[bool]]
"""(workspace_id, sequence) → whether the rows hold everything up to it; waits for that, at most ROWS_SECONDS."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_LEAST_SHARE = 0.5
_UNSHOWN = (PatternStatus.CANDIDATE, PatternStatus.MERGED)

log = structlog.get_logger("pattern.clustering")


class _Request(Struct, frozen=True):
    """Somebody's wish for a clustering, of which n_tries have failed."""

    run_id: str
    context: CommandContext
    n_tries: int = 0


class _Workspace(Struct):
    """What is known of a workspace's clusterings.

    seq, known: the latest one. has_new_patterns, has_new_issues: since it was begun. begun_at: when it was, since the
    start; asked_at: the latest that somebody asked for. heard_at: of the workspace, since the start. requested: by
    whoever asked for the next one. problem: why the latest one failed.
    """

    seq: int = 0
    known: tuple[Known, ...] = ()
    has_new_patterns: bool = False
    has_new_issues: bool = False
    begun_at: datetime | None = None
    asked_at: datetime | None = None
    heard_at: datetime | None = None
    requested: _Request | None = None
    problem: str | None = None


class _Job(Struct, frozen=True):
    """A clustering on its way."""

    workspace_id: str
    run_id: str
    request: _Request | None
    task: asyncio.Task[Clustering]


class Clusterings:
    """Clusters the patterns of a partition's workspaces, one workspace at a time, in turn.

    After new patterns at the earliest ten minutes, after new issues six hours after the last time, and whenever somebody
    asks, five minutes apart. A crash loses nothing but a request: what is due is seen again from the rows. Nothing else
    depends on clusters, so a clustering that fails is logged, shown as an alarm, and never raised.
    """

    def __init__(self, event_log: EventLog, pool: Pool, reached: Reached) -> None:
        self._log = event_log
        self._pool = pool
        self._reached = reached
        self._workspaces: dict[str, _Workspace] = {}
        self._job: _Job | None = None

    def clear(self) -> None:
        """Forget everything, before a start."""
        self._workspaces.clear()
        if self._job is not None:
            self._job.task.cancel()
            self._job = None

    async def load(self, conn: Connection, workspace_id: str) -> None:
        """Remember a workspace's latest clustering; without one, its patterns are new."""
        seq, known = await loading.clustering(conn, workspace_id)
        self._workspaces[workspace_id] = _Workspace(
            seq, known, has_new_patterns=seq == 0, has_new_issues=seq > 0
        )

    def note(self, event: Recorded[Event]) -> None:
        """Take in what makes a clustering old, and our own."""
        match event.data:
            case pattern.ClustersComputed() as data:
                known = self._of(event.workspace_id)
                known.seq = event.seq
                known.known = tuple(Known(each.cluster_id, each.pattern_ids) for each in data.clusters)
            case pattern.PatternDetected() | pattern.PatternsMerged():
                self._of(event.workspace_id).has_new_patterns = True
            case pattern.IssuesLinked():
                self._of(event.workspace_id).has_new_issues = True
            case workspace.WorkspaceErased():
                self._workspaces.pop(event.workspace_id, None)
            case _:
                return

    def request(self, context: CommandContext, *, now: datetime) -> str:
        """Have a workspace clustered at the next opportunity; the id of that clustering."""
        known = self._of(context.workspace_id)
        if known.requested is None:
            run_id = derived_id("run_", context.workspace_id, "requested", now.isoformat(), str(known.seq))
            known.requested = _Request(run_id, context)
        return known.requested.run_id

    def alarms(self) -> list[str]:
        """What keeps clusterings from being stored, without names."""
        problems = sorted(known.problem for known in self._workspaces.values() if known.problem)
        if not problems:
            return []
        return [
            f"Patterns of {len(problems)} workspaces could not be clustered: {', '.join(sorted(set(problems)))}."
        ]

    async def tick(self, groupers: dict[str, Grouper], *, now: datetime) -> None:
        """Append what has been computed, or begin the next one that is due."""
        if self._job is not None:
            if self._job.task.done():
                job, self._job = self._job, None
                await self._finish(job, now=now)
            return
        due: list[str] = []
        for workspace_id, known in self._workspaces.items():
            known.heard_at = known.heard_at or now
            if _is_due(known, now) and (known.requested is not None or workspace_id in groupers):
                due.append(workspace_id)
        if due:
            first = min(due, key=lambda each: _waiting(self._workspaces[each]))
            # A workspace without an issue is asked for, too, and has an answer coming.
            self._begin(groupers.get(first) or Grouper(first), self._workspaces[first], now=now)

    def _begin(self, grouper: Grouper, known: _Workspace, *, now: datetime) -> None:
        request = known.requested
        run_id = (
            request.run_id
            if request
            else derived_id("run_", grouper.workspace_id, now.isoformat(), str(known.seq))
        )
        known.requested, known.begun_at = None, now
        known.asked_at = now if request else known.asked_at
        known.has_new_patterns = known.has_new_issues = False
        nodes = _nodes(grouper)
        since = grouper.newest_at - timedelta(days=PERIOD_DAYS)
        last_seq = max((each.version for each in grouper.patterns.values()), default=0)
        task = asyncio.create_task(
            self._compute(grouper.workspace_id, nodes, known.known, since=since, last_seq=last_seq)
        )
        self._job = _Job(grouper.workspace_id, run_id, request, task)

    async def _compute(
        self,
        workspace_id: str,
        nodes: list[Node],
        known: tuple[Known, ...],
        *,
        since: datetime,
        last_seq: int,
    ) -> Clustering:
        if len(nodes) < 2:
            return Clustering((), (), len(nodes), 0)
        # The hours are read from the rows, which are behind the memory by what was just decided.
        if not await self._reached(workspace_id, last_seq):
            raise TimeoutError("the rows are behind the memory")
        n = MAX_HOURS // len(nodes)
        async with self._pool.connection() as conn:
            ids = [node.pattern_id for node in nodes]
            hours = await loading.hours(conn, workspace_id, ids, since=since, n=n)
        n_cut = sum(len(each) == n for each in hours.values())
        if n_cut and n < PERIOD_DAYS * 24:
            log.warning("clustering.hours_cut", workspace_id=workspace_id, patterns=n_cut, hours_each=n)
        whole = tuple(replace(node, hours=hours.get(node.pattern_id, ())) for node in nodes)
        given = msgspec.json.encode(Material(workspace_id, whole, known))
        output = await run_apart("services.pattern.engine.communities", given, seconds=COMPUTE_SECONDS)
        return msgspec.json.decode(output, type=Clustering)

    async def _finish(self, job: _Job, *, now: datetime) -> None:
        known = self._workspaces.get(job.workspace_id)
        if known is None:
            return
        try:
            found = job.task.result()
            known.seq = await self._append(job, found, known, now=now)
        except LogUnavailableError:
            raise
        except ConflictError:
            # Another leader has clustered it meanwhile; its event will be read.
            _try_again(job, known)
        except AppendRefusedError as error:
            # The same would be refused again, until something has changed.
            _failed(job, known, error)
        except Exception as error:  # noqa: BLE001  # clusters are worth no other work
            _failed(job, known, error)
            known.has_new_issues = True
            _try_again(job, known)
        else:
            known.problem = None
            known.known = tuple(Known(each.cluster_id, each.pattern_ids) for each in found.clusters)

    async def _append(self, job: _Job, found: Clustering, known: _Workspace, *, now: datetime) -> int:
        context = job.request.context if job.request else None
        event = record(
            _event(job, found),
            workspace_id=job.workspace_id,
            aggregate_id=job.workspace_id,
            occurred_at=now,
            recorded_at=now,
            source="pattern",
            actor=context.actor if context else None,
            correlation_id=context.correlation_id if context else None,
            traceparent=context.traceparent if context else None,
        )
        return await self._log.append(Append(event, known.seq))

    def _of(self, workspace_id: str) -> _Workspace:
        known = self._workspaces.get(workspace_id)
        if known is None:
            known = self._workspaces[workspace_id] = _Workspace()
        return known


def _try_again(job: _Job, known: _Workspace) -> None:
    """Keep a request that nobody has repeated, unless it has failed too often."""
    if job.request is not None and known.requested is None and job.request.n_tries + 1 < _MAX_TRIES:
        known.requested = replace(job.request, n_tries=job.request.n_tries + 1)


def _failed(job: _Job, known: _Workspace, error: Exception) -> None:
    known.problem = type(error).__name__
    log.error("clustering.failed", workspace_id=job.workspace_id, error=repr(error))


def _waiting(known: _Workspace) -> tuple[bool, datetime]:
    """Who is next: where somebody waits for it, which is at most every five minutes, then the oldest."""
    return known.requested is None, known.begun_at or _NEVER


def _is_due(known: _Workspace, now: datetime) -> bool:
    if known.requested is not None:
        return known.asked_at is None or now - known.asked_at >= AT_LEAST_APART
    waited = now - (known.begun_at or (known.heard_at or now) - AFTER_NEW_PATTERNS + FIRST_AFTER)
    return (known.has_new_patterns and waited >= AFTER_NEW_PATTERNS) or (
        known.has_new_issues and waited >= AFTER_NEW_ISSUES
    )


def _nodes(grouper: Grouper) -> list[Node]:
    """The shown patterns, the latest 2,000 of them, with what at least half of their members share."""
    oldest = grouper.newest_at - timedelta(days=PERIOD_DAYS)
    shown = [
        found
        for found in grouper.patterns.values()
        if found.status not in _UNSHOWN
        and (found.status is not PatternStatus.RESOLVED or found.last_seen_at >= oldest)
    ]
    shown.sort(key=lambda found: (-found.last_seen_at.timestamp(), found.pattern_id))
    return [
        Node(found.pattern_id, found.name, _factors(found), ())
        for found in sorted(shown[:MAX_PATTERNS], key=lambda found: found.pattern_id)
    ]


def _factors(found: Pattern) -> dict[str, str]:
    return {
        kind: value for kind in FACTORS if (value := found.shared(kind, at_least=_LEAST_SHARE)) is not None
    }


def _event(job: _Job, found: Clustering) -> pattern.ClustersComputed:
    return pattern.ClustersComputed(
        workspace_id=job.workspace_id,
        run_id=job.run_id,
        clusters=msgspec.convert(found.clusters, tuple[pattern.PatternCluster, ...], from_attributes=True),
        relations=msgspec.convert(found.relations, tuple[pattern.PatternRelation, ...], from_attributes=True),
        n_patterns=found.n_patterns,
        n_left_out=found.n_left_out,
        method_version=VERSION,
    )
