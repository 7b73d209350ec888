"""The door on the bus: requests in, typed replies or typed refusals out."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime

from contracts import connector, derived_id, ingest, new_id, record
from eventlog import Append, ConflictError, EventLog
from runtime.broker import CommandContext, Endpoint

from services.ingest.commands import (
    Change,
    close_issue,
    comment_issue,
    is_issue_id,
    record_analysis,
    start_analysis,
    update_issue,
)
from services.ingest.endpoints.decoding import decode_batch
from services.ingest.endpoints.retirement import Retirement
from services.ingest.errors import IssueContendedError, IssueNotFoundError
from services.ingest.reporting import AGGREGATE, ATTEMPTS_MAX, SERVICE, Turn, or_unreachable, report
from services.ingest.state import Issue, evolve, fold

__all__ = ["Desk", "Retirement", "endpoints"]


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
        # Only a report that comes alone gets an identity from us: of a batch nobody could tell a repetition.
        fresh_id = self._fresh_id(turn) if len(records) == 1 else None
        return await report(self._log, records, turn, fresh_id=fresh_id)

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

    async def start_analysis(
        self, cmd: ingest.StartAnalysis, context: CommandContext
    ) -> ingest.AnalysisAccepted:
        """Begin an analysis, or say which one runs already.

        Raises IssueNotFoundError, IssueContendedError and LogUnreachableError.
        """
        turn = Turn(context, self._clock())
        analysis_id = new_id("ana_", now=turn.now, rng=self._rng)
        issue, version = await self._decided(
            cmd.issue_id,
            turn,
            lambda issue: start_analysis(cmd, issue, analysis_id=analysis_id, now=turn.now),
        )
        running = analysis_id if issue.analysis is None else issue.analysis.analysis_id
        return ingest.AnalysisAccepted(analysis_id=running, sequence=version)

    async def record_analysis(
        self, cmd: ingest.RecordAnalysis, context: CommandContext
    ) -> ingest.IssueChanged:
        """Write the answer to a running analysis down, with what a model was asked for it.

        Raises IssueNotFoundError, InvalidIssueError, IssueContendedError and LogUnreachableError.
        """
        turn = Turn(context, self._clock())
        beside = () if cmd.exchange is None else (_asked(cmd, cmd.exchange, turn),)
        issue, version = await self._decided(
            cmd.issue_id, turn, lambda issue: record_analysis(cmd, issue, now=turn.now), beside=beside
        )
        return ingest.IssueChanged(issue=issue.content, occurred_at=issue.occurred_at, sequence=version)

    async def _change(
        self, issue_id: str, turn: Turn, decide: Callable[[Issue], Change | None]
    ) -> ingest.IssueChanged:
        """The issue after a decision."""
        issue, version = await self._decided(issue_id, turn, decide)
        return ingest.IssueChanged(issue=issue.content, occurred_at=issue.occurred_at, sequence=version)

    async def _decided(
        self,
        issue_id: str,
        turn: Turn,
        decide: Callable[[Issue], Change | None],
        *,
        beside: Sequence[Append] = (),
    ) -> tuple[Issue, int]:
        """Load, decide, append; again where somebody was faster. beside: appended before the change, all or nothing."""
        if not is_issue_id(issue_id):
            raise IssueNotFoundError(issue_id)
        for _ in range(1 + ATTEMPTS_MAX):
            try:
                return await or_unreachable(self._attempt(issue_id, turn, decide, beside))
            except ConflictError:
                continue
        raise IssueContendedError(issue_id)

    async def _attempt(
        self,
        issue_id: str,
        turn: Turn,
        decide: Callable[[Issue], Change | None],
        beside: Sequence[Append],
    ) -> tuple[Issue, int]:
        """The same once. Raises ConflictError where somebody was faster."""
        history = await self._log.history(turn.context.workspace_id, AGGREGATE, issue_id)
        issue = fold(history)
        if issue is None or issue.is_expired:
            raise IssueNotFoundError(issue_id)
        version = history[-1].seq
        change = decide(issue)
        if change is not None:
            appended = Append(turn.recorded(issue_id, change, version), version)
            version = await self._log.append(*beside, appended)
            issue = evolve(issue, change.event, at=change.occurred_at)
        return issue, version

    def _fresh_id(self, turn: Turn) -> str:
        return new_id("ext_", now=turn.now, rng=self._rng)


def endpoints(desk: Desk, retirement: Retirement) -> tuple[Endpoint, ...]:
    """The endpoints that ingest serves."""
    names = ingest.ENDPOINTS
    return (
        Endpoint(names[ingest.ReportIssues], None, desk.report_issues),
        Endpoint(names[ingest.UpdateIssue], ingest.UpdateIssue, desk.update_issue),
        Endpoint(names[ingest.CloseIssue], ingest.CloseIssue, desk.close_issue),
        Endpoint(names[ingest.CommentIssue], ingest.CommentIssue, desk.comment_issue),
        Endpoint(names[ingest.StartAnalysis], ingest.StartAnalysis, desk.start_analysis),
        Endpoint(names[ingest.RecordAnalysis], ingest.RecordAnalysis, desk.record_analysis),
        Endpoint(names[ingest.ExpireIssues], ingest.ExpireIssues, retirement.expire_issues),
        Endpoint(names[ingest.ExpirePrompts], ingest.ExpirePrompts, retirement.expire_prompts),
        Endpoint(names[ingest.PurgeIssues], ingest.PurgeIssues, retirement.purge_issues),
        Endpoint(connector.ENDPOINTS[connector.PurgeRuns], connector.PurgeRuns, retirement.purge_runs),
    )


def _asked(cmd: ingest.RecordAnalysis, exchange: ingest.ModelExchange, turn: Turn) -> Append:
    """What a model was asked, on a subject of its own, so that it can be forgotten before the answer is."""
    event = ingest.ModelAsked(analysis_id=cmd.analysis_id, issue_id=cmd.issue_id, exchange=exchange)
    recorded = record(
        event,
        workspace_id=turn.context.workspace_id,
        aggregate_id=cmd.analysis_id,
        occurred_at=turn.now,
        recorded_at=turn.now,
        source=SERVICE,
        actor=turn.context.actor,
        correlation_id=turn.context.correlation_id,
        traceparent=turn.context.traceparent,
        event_id=derived_id("evt_", turn.context.workspace_id, cmd.analysis_id, "prompt"),
    )
    return Append(recorded, 0)
