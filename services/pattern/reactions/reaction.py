"""The leader's memory of one partition: it folds the log, decides what is undecided, and serves commands."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import structlog
from contracts import Event, Recorded, ingest, pattern, recommendation, record, remainder_id, workspace
from contracts.generated.pattern import PatternStatus
from eventlog import Append, ConflictError, Connection, EventLog, LogUnavailableError
from msgspec import Struct, field
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool

from ..commands import Decided, Gathered, Subject, group, measure, settle, subject_of
from ..engine.grouping import Grouper
from ..engine.issues import Issue, compared_text, features_of
from ..engine.lifecycle import verdict_of
from ..engine.memory import Member, Pattern, RecommendationRow
from ..errors import IssueNotFoundError, NotReadyError, PatternContendedError, PatternNotFoundError
from ..state import Evidence, Known, MissingEvidenceError, evolve, issue_of, report_of, stamp
from . import loading
from .clustering import Clusterings, Reached
from .loading import consistent
from .refitting import Refits
from .repairs import Repairs
from .similar import nearest

SERVICE = "pattern"
MAX_ISSUES_PER_DECISION = 1000
MAX_EVENTS_PER_APPEND = 500
COMMAND_SECONDS = 4.0
# How long commands may hold up grouping in one go; several such turns fit into a command's patience.
HOLD_SECONDS = 1.0
_POLL_SECONDS = 0.01
_UNSHOWN = (PatternStatus.CANDIDATE, PatternStatus.MERGED)

log = structlog.get_logger("pattern.reaction")

Decide = Callable[[Grouper, Gathered], list[Decided]]
_PATTERN_EVENTS = (
    pattern.IssuesLinked
    | pattern.PatternDetected
    | pattern.PatternDescribed
    | pattern.PatternStatusChanged
    | pattern.IssueUnlinked
    | pattern.LinkConstrained
    | pattern.PatternsMerged
    | pattern.PatternSplit
    | pattern.LinkSuggested
    | pattern.DecisionsContradicted
    | pattern.ContradictionAnswered
)


class _Workspace(Struct):
    """One workspace in memory.

    pending: reports of undecided issues by issue id, in the order of the log. touched: patterns to settle.
    is_stale: an event could not be folded from memory; the rows know. has_holes: it has members whose issues are not in
    the log any more, and what is kept of them comes later in the log.
    """

    grouper: Grouper
    pending: dict[str, Recorded[Event]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    is_stale: bool = False
    has_holes: bool = False


class PatternReaction:
    """Groups the issues of a partition as they arrive; the only writer of its patterns.

    A decision is appended atomically, at most some 500 events at once, guarded with the versions in memory. What a crash
    between two appends leaves is healed on the next start: issues without a membership are undecided again, and every
    pattern is settled again. Nothing would suggest a link again, so suggestions go with the link they come from. When an append fails, memory is given up: the projector starts the reaction anew, which
    loads the rows and reads the log to its end before it decides again.
    """

    def __init__(
        self,
        event_log: EventLog,
        pool: Pool,
        *,
        clock: Callable[[], datetime],
        reached: Reached,
        max_events_per_append: int = MAX_EVENTS_PER_APPEND,
    ) -> None:
        self._log = event_log
        self._max_events_per_append = max_events_per_append
        self._pool = pool
        self._clock = clock
        self._lock = asyncio.Lock()
        self._workspaces: dict[str, _Workspace] = {}
        self._position = 0
        self._is_live = False
        self._is_given_up = False
        self._repairs = Repairs(pool)
        self._clusterings = Clusterings(event_log, pool, reached)
        self._refits = Refits(event_log, pool)
        self._n_commands = 0
        self._held_since: float | None = None

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Load every workspace of the partition from the rows."""
        async with self._lock:
            started = time.perf_counter()
            self._is_live, self._is_given_up = False, False
            self._position = position
            self._workspaces = {}
            self._repairs.clear()
            self._clusterings.clear()
            self._refits.clear()
            async with self._pool.connection() as conn, consistent(conn):
                for row in await loading.workspaces(conn):
                    if self._log.partition_of(row.workspace_id) == partition:
                        self._workspaces[row.workspace_id] = await self._load(conn, row)
                        await self._repairs.load(conn, row.workspace_id)
                        await self._clusterings.load(conn, row.workspace_id)
                        await self._refits.load(conn, row.workspace_id)
            log.info(
                "memory.loaded",
                partition=partition,
                position=position,
                behind=caught_up_at - position,
                workspaces=len(self._workspaces),
                patterns=sum(len(each.grouper.patterns) for each in self._workspaces.values()),
                undecided=sum(len(each.pending) for each in self._workspaces.values()),
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Fold a batch; when live, decide what is undecided."""
        async with self._lock:
            self._insist_on_memory()
            for event in batch:
                # What came again after a restart is in the rows that memory was loaded from.
                if event.seq > self._position:
                    self._take(event)
                    self._position = event.seq
            await self._reload_stale()
            if live:
                self._is_live = True
                if self._is_grouping_due():
                    await self._decide()

    async def tick(self, *, now: datetime) -> None:
        """Decide what commands held up, and measure how long repairs take."""
        async with self._lock:
            self._insist_on_memory()
            if not self._is_live:
                return
            if self._is_grouping_due():
                await self._decide()
            groupers = {key: known.grouper for key, known in self._workspaces.items()}
            await self._clusterings.tick(groupers, now=now)
            await self._refits.tick(groupers, now=now)
            for lives in self._repairs.read(now=now):
                known = self._workspaces.get(lives.workspace_id)
                found = known.grouper.patterns.get(lives.pattern_id) if known else None
                if known is not None and found is not None and found.status not in _UNSHOWN:
                    await self._append(known, measure(known.grouper, found, lives.failures), now=now)

    def grouper_of(self, workspace_id: str) -> Grouper:
        """The memory of a workspace; a new one's is empty."""
        return self._workspace(workspace_id).grouper

    def recompute_clusters(self, context: CommandContext, *, now: datetime) -> str:
        """Have the patterns of a workspace clustered anew soon; the id of that clustering. Raises NotReadyError."""
        self._insist_on_being_ready()
        return self._clusterings.request(context, now=now)

    async def compare_version(self, context: CommandContext, version_id: str, *, now: datetime) -> str:
        """Have a grouping version compared with the one in use soon; the id of that comparison.

        Raises NotReadyError, GroupingVersionNotFoundError and GroupingVersionRejectedError.
        """
        self._insist_on_being_ready()
        linker = await self._refits.version(context.workspace_id, version_id)
        return self._refits.request(context, version_id, linker, now=now)

    async def activate_version(self, context: CommandContext, version_id: str, *, now: datetime) -> int:
        """Group new issues by a version from now on; the sequence that says so.

        Raises NotReadyError, GroupingVersionNotFoundError, GroupingVersionRejectedError and GroupingContendedError.
        """
        self._insist_on_being_ready()
        linker = await self._refits.better(context.workspace_id, version_id)
        async with self._lock:
            self._insist_on_being_ready()
            seq = await self._refits.activate(context, version_id, linker, now=now)
            self.grouper_of(context.workspace_id).use(linker)
            return seq

    def alarms(self) -> list[str]:
        """What is wrong although issues are grouped and commands answered, without names."""
        return self._clusterings.alarms() + self._refits.alarms()

    async def carry_out(
        self,
        context: CommandContext,
        decide: Decide,
        *,
        pattern_id: str | None,
        issue_ids: Sequence[str] = (),
        other_ids: Sequence[str] = (),
    ) -> tuple[Pattern, int]:
        """Decide a command on the memory and the rows, and append; the pattern it was about, and the last sequence.

        other_ids: further patterns that it may change. Waits a few seconds for the rows to catch up with the memory. Raises the refusals of the decision,
        PatternContendedError and NotReadyError.
        """
        self._n_commands += 1
        try:
            deadline = time.monotonic() + COMMAND_SECONDS
            while time.monotonic() < deadline:
                async with self._lock:
                    done = await self._attempt(
                        context, decide, [*([pattern_id] if pattern_id else []), *other_ids], issue_ids
                    )
                if done is not None:
                    return done
                await asyncio.sleep(_POLL_SECONDS)
            raise PatternContendedError
        finally:
            self._n_commands -= 1

    async def find_similar(self, workspace_id: str, issue_id: str, *, limit: int) -> pattern.SimilarFound:
        """The issues nearest to one, of everything that memory compares. Raises NotReadyError, IssueNotFoundError."""
        self._insist_on_being_ready()
        report = report_of(await self._log.history(workspace_id, "issue", issue_id, limit=1))
        if report is None or not isinstance(report.data, ingest.IssueReported):
            raise IssueNotFoundError(issue_id)
        issue = issue_of(report, report.data)
        async with self._pool.connection() as conn:
            return await nearest(conn, self._workspace(workspace_id).grouper, issue, limit=limit)

    async def _attempt(
        self, context: CommandContext, decide: Decide, pattern_ids: Sequence[str], issue_ids: Sequence[str]
    ) -> tuple[Pattern, int] | None:
        """The command done, or None while the rows are not where the memory is."""
        pattern_id = next(iter(pattern_ids), None)
        self._insist_on_being_ready()
        known = self._workspaces.get(context.workspace_id)
        if known is None:
            raise PatternNotFoundError(pattern_id or "in an unknown workspace")
        gathered = await self._gather(known, pattern_ids, issue_ids)
        if gathered is None:
            return None
        decided = decide(known.grouper, gathered)
        seq = await self._append_for(context, known, decided)
        for each in decided:
            if isinstance(each.event, pattern.IssuesLinked):
                for link in each.event.links:
                    known.pending.pop(link.issue_id, None)
        about = _about(decided) or pattern_id or _membership(gathered)
        if about is None:
            raise PatternNotFoundError("of this issue")
        found = known.grouper.patterns[about]
        return found, seq or found.version

    async def _append_for(self, context: CommandContext, known: _Workspace, decided: list[Decided]) -> int:
        try:
            return await self._append(known, decided, now=self._clock(), context=context)
        except ConflictError as error:
            raise PatternContendedError from error
        except LogUnavailableError as error:
            raise NotReadyError("the event log did not confirm") from error

    async def _gather(
        self, known: _Workspace, pattern_ids: Sequence[str], issue_ids: Sequence[str]
    ) -> Gathered | None:
        """What the rows say of a command's issues; None while they lag behind the memory, or the memory behind them."""
        grouper, workspace_id = known.grouper, known.grouper.workspace_id
        async with self._pool.connection() as conn, consistent(conn):
            rows = await loading.issues(conn, workspace_id, issue_ids) if issue_ids else []
            subjects: dict[str, Subject] = {}
            by_pattern: dict[str, list[Member]] = {}
            for issue, member in rows:
                report = known.pending.get(issue.issue_id)
                if report is not None and isinstance(report.data, ingest.IssueReported):
                    subjects[issue.issue_id] = subject_of(issue_of(report, report.data))
                    continue
                if member is None:
                    return None
                subjects[issue.issue_id] = _subject(issue, member)
                if member.pattern_id is not None:
                    by_pattern.setdefault(member.pattern_id, []).append(member)
            for each in {*by_pattern, *pattern_ids}:
                found = grouper.patterns.get(each)
                if (found.version if found else 0) != await loading.version(conn, workspace_id, each):
                    return None
            leaving = {
                each: await loading.leaving(conn, workspace_id, each, members)
                for each, members in by_pattern.items()
            }
            keys = {subject.grouping_key for subject in subjects.values()}
            rulings = await loading.rulings(
                conn, workspace_id, grouping_keys=sorted(keys), pattern_ids=pattern_ids
            )
        if [row for row, _ in rulings] != grouper.constraints_about(keys, pattern_ids):
            return None
        missing = [issue_id for issue_id in issue_ids if issue_id not in subjects]
        if missing and not await self._is_unknown(workspace_id, missing[0]):
            return None
        return Gathered(
            await self._with_text(known, subjects, issue_ids),
            leaving,
            {(row.grouping_key, row.pattern_id): ruling for row, ruling in rulings},
        )

    async def _is_unknown(self, workspace_id: str, issue_id: str) -> bool:
        """Whether the log knows nothing of an issue that the rows do not have."""
        return not await self._log.history(workspace_id, "issue", issue_id, limit=1)

    async def _with_text(
        self, known: _Workspace, subjects: dict[str, Subject], issue_ids: Sequence[str]
    ) -> dict[str, Subject]:
        """The subjects; the first one with its text from the log, where no text of it is compared yet."""
        first = subjects.get(issue_ids[0]) if issue_ids else None
        if first is None or first.text is not None or known.grouper.has_exemplar(first.issue_id):
            return subjects
        report = report_of(
            await self._log.history(known.grouper.workspace_id, "issue", first.issue_id, limit=1)
        )
        if report is None or not isinstance(report.data, ingest.IssueReported):
            return subjects
        issue = issue_of(report, report.data)
        text = compared_text(issue, features_of(issue))
        return {**subjects, first.issue_id: replace(first, text=text or None)}

    def _workspace(self, workspace_id: str) -> _Workspace:
        known = self._workspaces.get(workspace_id)
        if known is None:
            known = self._workspaces[workspace_id] = _Workspace(Grouper(workspace_id))
        return known

    def _take(self, event: Recorded[Event]) -> None:
        """Fold one event into memory."""
        self._repairs.note(event)
        self._clusterings.note(event)
        self._refits.note(event)
        if isinstance(event.data, workspace.WorkspaceErased):
            self._workspaces.pop(event.workspace_id, None)
            return
        known = self._workspace(event.workspace_id)
        match event.data:
            case ingest.IssueReported() as data:
                known.pending[data.issue_id] = event
                newest_at = min(event.time, event.recorded_at)
                known.grouper.newest_at = max(newest_at, known.grouper.newest_at)
            case ingest.IssuesPurged() as data:
                known.is_stale |= known.has_holes
                for issue in data.issues:
                    known.pending.pop(issue.issue_id, None)
                    known.grouper.purge(issue.issue_id, remainder_id(issue.issue_id, issue.last_sequence))
            case recommendation.RecommendationStatusChanged() as data:
                known.grouper.note_recommendation(
                    RecommendationRow(
                        data.recommendation_id, data.pattern_id, data.to_status, event.time, event.seq
                    )
                )
                found = known.grouper.patterns.get(data.pattern_id)
                known.touched.add((found.merged_into if found else "") or data.pattern_id)
            case (
                recommendation.FixVerified()
                | recommendation.FixBroken()
                | recommendation.FixInconclusive() as data
            ):
                verdict = verdict_of(data, seq=event.seq)
                if verdict is not None:
                    known.grouper.note_verdict(verdict)
                    known.touched.add(data.pattern_id)
            case workspace.WorkspaceSettingsChanged() as data:
                _configure(known, data)
            case pattern.GroupingVersionActivated():
                known.grouper.use(self._refits.active(event.workspace_id))
            case data if isinstance(data, _PATTERN_EVENTS):
                self._fold(known, event, data)
            case _:
                return

    def _fold(self, known: _Workspace, event: Recorded[Event], data: pattern.Event) -> None:
        """Fold a pattern's event, unless it is our own and known already."""
        joining = self._joining(known, data) if isinstance(data, pattern.IssuesLinked) else {}
        found = known.grouper.patterns.get(event.aggregate_id)
        if known.is_stale or (found is not None and event.seq <= found.version):
            return
        try:
            evolve(
                known.grouper,
                data,
                at=event.time,
                is_by_person=event.actor is not None,
                evidence=Evidence(joining),
            )
        except MissingEvidenceError:
            known.is_stale = True
            return
        stamp(known.grouper, data, pattern_id=event.aggregate_id, seq=event.seq)
        known.touched.add(event.aggregate_id)

    @staticmethod
    def _joining(known: _Workspace, data: pattern.IssuesLinked) -> dict[str, Known]:
        """What was known of issues that are decided from now on."""
        joining: dict[str, Known] = {}
        for link in data.links:
            report = known.pending.pop(link.issue_id, None)
            if report is not None and isinstance(report.data, ingest.IssueReported):
                issue = issue_of(report, report.data)
                joining[link.issue_id] = Known(issue.title, issue.dimensions)
        return joining

    def _is_grouping_due(self) -> bool:
        """Whether to group now: a command that waits for the rows to catch up goes first, but a stream of them does not."""
        now = time.monotonic()
        if self._n_commands and self._held_since is None:
            self._held_since = now
        if self._n_commands and self._held_since is not None and now - self._held_since < HOLD_SECONDS:
            return False
        self._held_since = None
        return True

    async def _decide(self) -> None:
        """Group every undecided issue, then settle what events of others touched."""
        for known in self._workspaces.values():
            while known.pending:
                reports = list(known.pending.values())[:MAX_ISSUES_PER_DECISION]
                issues = [
                    issue_of(report, report.data)
                    for report in reports
                    if isinstance(report.data, ingest.IssueReported)
                ]
                await self._append(known, group(known.grouper, issues), now=self._clock())
                for issue in issues:
                    del known.pending[issue.issue_id]
            if known.touched:
                decided: list[Decided] = []
                for pattern_id in sorted(known.touched):
                    found = known.grouper.patterns.get(pattern_id)
                    if found is not None:
                        decided += settle(known.grouper, found)
                await self._append(known, decided, now=self._clock())
                known.touched.clear()

    async def _append(
        self,
        known: _Workspace,
        decided: Sequence[Decided],
        *,
        now: datetime,
        context: CommandContext | None = None,
    ) -> int:
        """Append decisions that memory has taken already; the last sequence, 0 when there are none.

        When that fails, memory is ahead of the log or behind it: it is given up.
        """
        last = 0
        try:
            for chunk in in_batches(decided, self._max_events_per_append):
                events = [_record(known, each, now, context) for each in chunk]
                appends = [
                    Append(event, known.grouper.patterns[event.aggregate_id].version) for event in events
                ]
                last = await self._log.append(*appends)
                for seq, each in enumerate(chunk, last - len(chunk) + 1):
                    stamp(known.grouper, each.event, pattern_id=each.pattern_id, seq=seq)
        except BaseException:
            self._is_given_up = True
            raise
        return last

    def _insist_on_being_ready(self) -> None:
        if not self._is_live or self._is_given_up:
            raise NotReadyError("the pattern service is catching up")

    def _insist_on_memory(self) -> None:
        """Have the projector start this reaction anew once memory was given up."""
        if self._is_given_up:
            raise LogUnavailableError("a decision was not appended; memory is loaded anew")

    async def _reload_stale(self) -> None:
        """Load from the rows, which are at the end of the batch, what memory could not fold."""
        stale = {workspace_id for workspace_id, known in self._workspaces.items() if known.is_stale}
        if not stale:
            return
        async with self._pool.connection() as conn, consistent(conn):
            for row in await loading.workspaces(conn):
                if row.workspace_id in stale:
                    self._workspaces[row.workspace_id] = await self._load(conn, row)

    async def _load(self, conn: Connection, row: loading.Workspace) -> _Workspace:
        """A workspace from its rows, with the undecided issues' reports from the log, and everything to be settled."""
        workspace_id = row.workspace_id
        snapshot = await loading.snapshot(conn, row)
        # Some 0.1 s per thousand texts, in which the process must go on answering.
        grouping = await loading.grouping(conn, workspace_id)
        linker = loading.linker(grouping.active_linker if grouping else None)
        grouper = await asyncio.to_thread(Grouper.load, workspace_id, snapshot, linker=linker)
        ids = await loading.undecided(conn, workspace_id)
        histories = await self._log.histories(workspace_id, "issue", ids)
        reports = [report for history in histories if (report := report_of(history)) is not None]
        reports.sort(key=lambda report: report.seq)
        pending = {report.aggregate_id: report for report in reports}
        has_holes = await loading.has_strangers(conn, workspace_id)
        return _Workspace(grouper, pending, set(grouper.patterns), has_holes=has_holes)


def in_batches(decided: Sequence[Decided], n: int) -> Iterator[Sequence[Decided]]:
    """Decisions in order, n at once; a suggestion stays with what comes before it, though that makes one more."""
    start = 0
    while start < len(decided):
        end = start + n
        while end < len(decided) and isinstance(decided[end].event, pattern.LinkSuggested):
            end += 1
        yield decided[start:end]
        start = end


def _record(
    known: _Workspace, decided: Decided, now: datetime, context: CommandContext | None
) -> Recorded[Event]:
    return record(
        decided.event,
        workspace_id=known.grouper.workspace_id,
        aggregate_id=decided.pattern_id,
        occurred_at=decided.at or now,
        recorded_at=now,
        source=SERVICE,
        cause=known.pending.get(decided.issue_id) if decided.issue_id and context is None else None,
        actor=context.actor if context and decided.is_by_person else None,
        correlation_id=context.correlation_id if context else None,
        traceparent=context.traceparent if context else None,
    )


def _configure(known: _Workspace, data: workspace.WorkspaceSettingsChanged) -> None:
    settings = known.grouper.settings
    if data.confidence_threshold is not None:
        settings = replace(settings, confidence_threshold=data.confidence_threshold)
    if data.minimum_cluster_size is not None:
        settings = replace(settings, minimum_cluster_size=data.minimum_cluster_size)
        # Candidates may be large enough now.
        known.touched.update(known.grouper.patterns)
    known.grouper.settings = settings


def _subject(issue: Issue, member: Member) -> Subject:
    return Subject(
        issue_id=member.issue_id,
        title=issue.title,
        grouping_key=member.grouping_key,
        severity=member.severity,
        occurred_at=member.occurred_at,
        dimensions=member.dimensions,
        member=member,
        version=issue.version,
    )


def _about(decided: Sequence[Decided]) -> str | None:
    """The pattern that a split made: the reply is about that one."""
    for each in decided:
        if isinstance(each.event, pattern.PatternSplit):
            return each.event.new_pattern_id
    return None


def _membership(gathered: Gathered) -> str | None:
    return next(iter(_patterns_of(gathered)), None)


def _patterns_of(gathered: Gathered) -> Iterator[str]:
    return (subject.pattern_id for subject in gathered.subjects.values() if subject.pattern_id)
