"""The door on the bus: requests in, typed replies or typed refusals out."""

import random
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import structlog
from contracts import ingest, new_id
from eventlog import Append, AppendRefusedError, ConflictError, EventLog, LogUnavailableError
from prometheus_client import Counter
from runtime import metrics
from runtime.broker import CommandContext, Endpoint

from services.ingest.commands import Change, close_issue, comment_issue, is_issue_id, update_issue
from services.ingest.endpoints.batch import AGGREGATE, ATTEMPTS_MAX, Batch, Turn
from services.ingest.endpoints.decoding import decode_batch
from services.ingest.errors import IssueContendedError, IssueNotFoundError, LogUnreachableError
from services.ingest.state import Issue, evolve, fold

__all__ = ["Desk", "endpoints"]

T = TypeVar("T")

log = structlog.get_logger()

RECORDS = Counter(
    "causeloop_ingest_records",
    "Records of reports, by what became of them.",
    ["outcome"],
    registry=metrics.REGISTRY,
)


class Desk:
    """Answers ingest's endpoints over one event log.

    clock: the time in UTC. rng: where the ids of issues without an external_id come from.
    """

    def __init__(self, log: EventLog, *, clock: Callable[[], datetime], rng: random.Random) -> None:
        self._log = log
        self._clock = clock
        self._rng = rng

    async def report_issues(self, body: bytes, context: CommandContext) -> ingest.IssuesReported:
        """Report 1 to 500 failures; each is judged by itself.

        body: a ReportIssues message, unparsed.
        Raises InvalidIssueError when the message cannot be read at all, LogUnreachableError when the log did
        not confirm; sending the same bytes again is safe.
        """
        records = decode_batch(body)
        turn = Turn(context, self._clock())
        batch = Batch(self._log, turn, len(records))
        # Only a report that comes alone gets an identity from us: of a batch nobody could tell a repetition.
        batch.judge(records, fresh_id=self._fresh_id(turn) if len(records) == 1 else None)
        reply = await _or_unreachable(batch.settle())
        for outcome, n_records in Tally(result.outcome for result in reply.results).items():
            RECORDS.labels(outcome.value).inc(n_records)
        return reply

    async def update_issue(self, cmd: ingest.UpdateIssue, context: CommandContext) -> ingest.IssueChanged:
        """Change fields of an issue.

        Raises IssueNotFoundError, InvalidIssueError, IssueContendedError and LogUnreachableError.
        """
        turn = Turn(context, self._clock())
        return await self._change(cmd.issue_id, turn, lambda issue: update_issue(cmd, issue, now=turn.now))

    async def close_issue(self, cmd: ingest.CloseIssue, context: CommandContext) -> ingest.IssueChanged:
        """End work on an issue.

        Raises IssueNotFoundError, InvalidIssueError, IssueContendedError and LogUnreachableError.
        """
        turn = Turn(context, self._clock())
        return await self._change(cmd.issue_id, turn, lambda issue: close_issue(cmd, issue, now=turn.now))

    async def comment_issue(
        self, cmd: ingest.CommentIssue, context: CommandContext
    ) -> ingest.IssueCommentAdded:
        """Say something about an issue.

        Raises IssueNotFoundError, InvalidIssueError, IssueContendedError and LogUnreachableError.
        """
        turn = Turn(context, self._clock())
        comment_id = new_id("cmt_", now=turn.now, rng=self._rng)
        comment = comment_issue(cmd, author_id=context.actor, comment_id=comment_id, now=turn.now)
        after = await self._change(cmd.issue_id, turn, lambda _: Change(comment, turn.now))
        return ingest.IssueCommentAdded(comment=comment, commented_at=turn.now, sequence=after.sequence)

    async def _change(
        self, issue_id: str, turn: Turn, decide: Callable[[Issue], Change | None]
    ) -> ingest.IssueChanged:
        """Load, decide, append; again where somebody was faster."""
        if not is_issue_id(issue_id):
            raise IssueNotFoundError(issue_id)
        for _ in range(1 + ATTEMPTS_MAX):
            try:
                return await _or_unreachable(self._attempt(issue_id, turn, decide))
            except ConflictError:
                continue
        raise IssueContendedError(issue_id)

    async def _attempt(
        self, issue_id: str, turn: Turn, decide: Callable[[Issue], Change | None]
    ) -> ingest.IssueChanged:
        """The same once. Raises ConflictError where somebody was faster."""
        history = await self._log.history(turn.context.workspace_id, AGGREGATE, issue_id)
        issue = fold(history)
        if issue is None:
            raise IssueNotFoundError(issue_id)
        version = history[-1].seq
        change = decide(issue)
        if change is not None:
            version = await self._log.append(Append(turn.recorded(issue_id, change, version), version))
            issue = evolve(issue, change.event, at=change.occurred_at)
        return ingest.IssueChanged(issue=issue.content, occurred_at=issue.occurred_at, sequence=version)

    def _fresh_id(self, turn: Turn) -> str:
        return new_id("ext_", now=turn.now, rng=self._rng)


def endpoints(desk: Desk) -> tuple[Endpoint, ...]:
    """The endpoints that ingest serves."""
    names = ingest.ENDPOINTS
    return (
        Endpoint(names[ingest.ReportIssues], None, desk.report_issues),
        Endpoint(names[ingest.UpdateIssue], ingest.UpdateIssue, desk.update_issue),
        Endpoint(names[ingest.CloseIssue], ingest.CloseIssue, desk.close_issue),
        Endpoint(names[ingest.CommentIssue], ingest.CommentIssue, desk.comment_issue),
    )


async def _or_unreachable(answer: Awaitable[T]) -> T:
    """The answer, or a refusal that tells the caller to send the same again."""
    try:
        return await answer
    except (LogUnavailableError, AppendRefusedError) as error:
        log.warning("append.failed", error=str(error))
        raise LogUnreachableError from error
