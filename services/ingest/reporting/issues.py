"""Reporting a batch: judge each record, append what is new, decide again where somebody was faster."""

from collections import Counter as Tally
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import structlog
from contracts import Event, Recorded, derived_id, ingest, record
from eventlog import Append, AppendRefusedError, Conflict, EventLog, LogUnavailableError
from msgspec import Struct
from prometheus_client import Counter
from runtime import metrics
from runtime.broker import CommandContext

from services.ingest.commands import (
    Change,
    ReportIssue,
    canonical_report,
    is_late,
    is_time_alone,
    report_issue,
)
from services.ingest.errors import InvalidIssueError, LogUnreachableError
from services.ingest.state import Issue, evolve, fold

T = TypeVar("T")

log = structlog.get_logger()

RECORDS = Counter(
    "causeloop_ingest_records",
    "Records of reports, by what became of them.",
    ["outcome"],
    registry=metrics.REGISTRY,
)

SERVICE = "ingest"
AGGREGATE = "issue"
ATTEMPTS_MAX = 5
"""How often a decision is made again because somebody else was faster."""

_CONTENDED = "issue_id: others keep changing this issue; send the record again"
_OUTCOMES = {
    ingest.IssueReported: ingest.ReportOutcome.CREATED,
    ingest.IssueUpdated: ingest.ReportOutcome.UPDATED,
    ingest.IssueRestored: ingest.ReportOutcome.UPDATED,
}


class Turn(Struct, frozen=True):
    """What stays the same while one request is answered."""

    context: CommandContext
    now: datetime

    def recorded(self, issue_id: str, change: Change, version: int) -> Recorded[Event]:
        """The change in its envelope; its id derives from the issue and the version that it follows."""
        return record(
            change.event,
            workspace_id=self.context.workspace_id,
            aggregate_id=issue_id,
            occurred_at=change.occurred_at,
            recorded_at=self.now,
            source=SERVICE,
            actor=self.context.actor,
            correlation_id=self.context.correlation_id,
            traceparent=self.context.traceparent,
            event_id=_event_id(self.context.workspace_id, issue_id, version),
        )


def _event_id(workspace_id: str, issue_id: str, version: int) -> str:
    """An id that deciding the same again gives again; for the first event without hashing, as most are that."""
    if not version:
        return "evt_" + issue_id.removeprefix("iss_")
    return derived_id("evt_", workspace_id, issue_id, str(version))


async def report(
    event_log: EventLog,
    records: Sequence[ingest.IssueReport | InvalidIssueError],
    turn: Turn,
    *,
    fresh_id: str | None = None,
) -> ingest.IssuesReported:
    """Report failures, each judged by itself: an outcome per record, in their order.

    records: those to report; for one that could not be read, the reason. fresh_id: an external_id for one without.
    Raises LogUnreachableError when the log did not confirm; reporting the same again is safe.
    """
    batch = _Batch(event_log, turn, len(records))
    batch.judge(records, fresh_id=fresh_id)
    return await _settled(batch)


class Weighed:
    """Records that were judged and not reported yet.

    news: whether each would change its issue, or begin one; another time of the source's alone is no change.
    """

    def __init__(self, batch: "_Batch", news: Sequence[bool]) -> None:
        self._batch = batch
        self.news = news

    @property
    def late(self) -> Collection[int]:
        """Positions of those that were of an older revision than the known one when they were reported."""
        return self._batch.late

    async def report(self, *, without: Collection[int]) -> ingest.IssuesReported:
        """Report them once, but for those at these positions: as `report` does, on what the issues are by then."""
        self._batch.leave_out(without)
        return await _settled(self._batch)


async def weigh(
    event_log: EventLog, records: Sequence[ingest.IssueReport], turn: Turn, *, known: Collection[int]
) -> Weighed:
    """What some records would change. known: positions of those whose issue may be there; the others count as new.

    Raises LogUnreachableError.
    """
    batch = _Batch(event_log, turn, len(records))
    batch.judge(records, fresh_id=None)
    return Weighed(batch, await or_unreachable(batch.weigh(known)))


async def known_of(event_log: EventLog, records: Sequence[ingest.IssueReport], turn: Turn) -> frozenset[str]:
    """The external_ids of those records whose issue is there. Raises LogUnreachableError."""
    ids: dict[str, str] = {}
    for each in records:
        with suppress(InvalidIssueError):
            cmd = canonical_report(each, workspace_id=turn.context.workspace_id, fresh_id=None, now=turn.now)
            ids[cmd.issue_id] = each.external_id or ""
    found = await or_unreachable(event_log.histories(turn.context.workspace_id, AGGREGATE, list(ids)))
    return frozenset(id_ for id_, history in zip(ids.values(), found, strict=True) if history)


async def _settled(batch: "_Batch") -> ingest.IssuesReported:
    reply = await or_unreachable(batch.settle())
    for outcome, n_records in Tally(result.outcome for result in reply.results).items():
        RECORDS.labels(outcome.value).inc(n_records)
    return reply


async def or_unreachable(answer: Awaitable[T]) -> T:
    """The answer, or a refusal that tells the caller to send the same again."""
    try:
        return await answer
    except (LogUnavailableError, AppendRefusedError) as error:
        log.warning("append.failed", error=str(error))
        raise LogUnreachableError from error


class _Queue:
    """The records of one identity, to be applied in their order."""

    __slots__ = ("conflicts", "is_outdated", "issue", "issue_id", "version", "waiting")

    def __init__(self, issue_id: str) -> None:
        self.issue_id = issue_id
        self.waiting: list[tuple[int, ReportIssue]] = []
        self.issue: Issue | None = None
        self.version = 0
        self.is_outdated = False
        self.conflicts = 0


class _Batch:
    """The records of one report on their way through."""

    def __init__(self, log: EventLog, turn: Turn, size: int) -> None:
        self._log = log
        self._turn = turn
        self._results: list[ingest.ReportResult | None] = [None] * size
        self._queues: dict[str, _Queue] = {}
        self._sequence = 0
        self.late: set[int] = set()

    def judge(
        self, records: Sequence[ingest.IssueReport | InvalidIssueError], *, fresh_id: str | None
    ) -> None:
        """Bring every record into canonical shape; queue the good ones by identity, reject the others."""
        workspace_id, now = self._turn.context.workspace_id, self._turn.now
        for index, item in enumerate(records):
            try:
                if isinstance(item, InvalidIssueError):
                    raise item
                cmd = canonical_report(item, workspace_id=workspace_id, fresh_id=fresh_id, now=now)
            except InvalidIssueError as error:
                self._reject(index, error.reason)
                continue
            queue = self._queues.get(cmd.issue_id)
            if queue is None:
                queue = self._queues[cmd.issue_id] = _Queue(cmd.issue_id)
            queue.waiting.append((index, cmd))

    async def weigh(self, known: Collection[int]) -> list[bool]:
        """Whether each record says anything new of its issue, read before where a record of it is among `known`."""
        queues = list(self._queues.values())
        await self._reload([queue for queue in queues if any(index in known for index, _ in queue.waiting)])
        news = [False] * len(self._results)
        for queue in queues:
            issue = queue.issue
            for index, cmd in queue.waiting:
                change = report_issue(cmd, issue, now=self._turn.now)
                if change is None:
                    continue
                news[index] = not is_time_alone(change)
                if len(queue.waiting) > 1:
                    issue = evolve(issue, change.event, at=change.occurred_at)
        return news

    def leave_out(self, positions: Collection[int]) -> None:
        """Report nothing of the records at these positions."""
        for index in positions:
            self._results[index] = None
        for queue in self._queues.values():
            queue.waiting = [(index, cmd) for index, cmd in queue.waiting if index not in positions]

    async def settle(self) -> ingest.IssuesReported:
        """Append until every record has its outcome. A round appends at most one event per issue.

        Raises LogUnavailableError when the outcome of an append is unknown.
        """
        queues = list(self._queues.values())
        while queues:
            await self._reload([queue for queue in queues if queue.is_outdated])
            steps = [
                (
                    queue,
                    change,
                    Append(self._turn.recorded(queue.issue_id, change, queue.version), queue.version),
                )
                for queue in queues
                if (change := self._next_change(queue)) is not None
            ]
            outcomes = await self._log.append_each([append for _, _, append in steps]) if steps else []
            for (queue, change, _), outcome in zip(steps, outcomes, strict=True):
                if isinstance(outcome, Conflict):
                    self._outrun(queue)
                else:
                    self._appended(queue, change, outcome)
            queues = [queue for queue in queues if queue.waiting]
        results = tuple(result for result in self._results if result is not None)
        return ingest.IssuesReported(results=results, sequence=self._sequence)

    async def _reload(self, queues: list[_Queue]) -> None:
        if not queues:
            return
        ids = [queue.issue_id for queue in queues]
        histories = await self._log.histories(self._turn.context.workspace_id, AGGREGATE, ids)
        for queue, history in zip(queues, histories, strict=True):
            queue.issue = fold(history)
            queue.version = history[-1].seq if history else 0
            queue.is_outdated = False

    def _next_change(self, queue: _Queue) -> Change | None:
        """Decide the queue's records up to the first that changes something, which keeps waiting."""
        while queue.waiting:
            index, cmd = queue.waiting[0]
            try:
                change = report_issue(cmd, queue.issue, now=self._turn.now)
            except InvalidIssueError as error:
                self._reject(index, error.reason)
            else:
                if is_late(cmd, queue.issue):
                    self.late.add(index)
                if change is not None:
                    return change
                self._accept(index, queue, ingest.ReportOutcome.UNCHANGED)
            del queue.waiting[0]
        return None

    def _appended(self, queue: _Queue, change: Change, sequence: int) -> None:
        """The first waiting record is stored; what follows in the queue builds on it."""
        index, _ = queue.waiting.pop(0)
        queue.version, queue.conflicts = sequence, 0
        self._accept(index, queue, _OUTCOMES[type(change.event)])
        if queue.waiting:
            queue.issue = evolve(queue.issue, change.event, at=change.occurred_at)

    def _outrun(self, queue: _Queue) -> None:
        """Somebody appended to the issue first: decide again on what there is now, or give up."""
        queue.conflicts += 1
        queue.is_outdated = True
        if queue.conflicts > ATTEMPTS_MAX:
            for index, _ in queue.waiting:
                self._reject(index, _CONTENDED)
            queue.waiting.clear()

    def _accept(self, index: int, queue: _Queue, outcome: ingest.ReportOutcome) -> None:
        self._results[index] = ingest.ReportResult(index=index, outcome=outcome, issue_id=queue.issue_id)
        if queue.version > self._sequence:
            self._sequence = queue.version

    def _reject(self, index: int, reason: str) -> None:
        outcome = ingest.ReportOutcome.REJECTED
        self._results[index] = ingest.ReportResult(index=index, outcome=outcome, reason=reason)
