"""What retention asks of ingest: hide issues and prompts at their age, delete issues later; delete runs of long ago."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from contracts import Event, Recorded, connector, derived_id, ingest, record
from eventlog import Append, Conflict, ConflictError, EventLog
from runtime.broker import CommandContext
from runtime.errors import StateConflictError

from services.ingest.commands import counted_from, expire_issue, expire_prompts, purge_issue
from services.ingest.commands.connectors import is_purgeable
from services.ingest.errors import InvalidConnectorError, InvalidIssueError
from services.ingest.reporting import AGGREGATE, SERVICE, or_unreachable
from services.ingest.reporting.sources import RUN
from services.ingest.state import fold

EXPIRED_MAX = 500
PURGED_MAX = 100
"""Issues of one request. What stays of a hundred fits into one message, however long their names are."""
RUNS_MAX = 500
"""Runs of one request."""
RETENTION = "retention"
PROMPT = "prompt"
_PURGES_AT_ONCE = 8


class Retirement:
    """Answers over one event log; whatever is asked can be asked again, by several at once.

    What is purged is told first, as a fact that no read model can then miss, and then deleted. Only the last fact of a
    workspace can be one whose events are still there, so only that is looked at again.
    needed: those of some runs of a workspace that ingest's rows rest on, once these hold a sequence. clock: the time in UTC.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        needed: Callable[[str, Sequence[str], int], Awaitable[Collection[str]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._log = log
        self._needed = needed
        self._clock = clock
        self._deleted: dict[tuple[str, str], int] = {}

    async def expire_issues(self, cmd: ingest.ExpireIssues, context: CommandContext) -> ingest.IssuesRetired:
        """Hide those that nobody has changed; one that somebody changes at this moment stays.

        Raises InvalidIssueError and LogUnreachableError.
        """
        ids = _distinct("issue_ids", cmd.issue_ids, EXPIRED_MAX)
        return await or_unreachable(self._expire(ids, cmd.unchanged_since, context))

    async def expire_prompts(
        self, cmd: ingest.ExpirePrompts, context: CommandContext
    ) -> ingest.PromptsRetired:
        """Hide what models were asked long ago.

        Raises InvalidIssueError, LogUnreachableError and StateConflictError.
        """
        ids = _distinct("analysis_ids", cmd.analysis_ids, PURGED_MAX)
        return await or_unreachable(self._expire_prompts(ids, cmd.asked_before, context))

    async def purge_issues(self, cmd: ingest.PurgeIssues, context: CommandContext) -> ingest.IssuesRetired:
        """Delete those whose grace is over, after what an earlier request began and did not end.

        Raises InvalidIssueError and LogUnreachableError.
        """
        ids = _distinct("issue_ids", cmd.issue_ids, PURGED_MAX)
        return await or_unreachable(self._purge(ids, cmd.expired_before, context))

    async def purge_runs(self, cmd: connector.PurgeRuns, context: CommandContext) -> connector.RunsPurged:
        """Delete runs that are over for long, but what the row of their connector rests on; nobody writes to one that
        is over.

        Raises InvalidConnectorError, UnavailableError and LogUnreachableError.
        """
        if len(cmd.run_ids) > RUNS_MAX:
            raise InvalidConnectorError({"run_ids": f"has {len(cmd.run_ids)} ids; send at most {RUNS_MAX}"})
        return await or_unreachable(self._purge_runs(cmd, context))

    async def _purge_runs(self, cmd: connector.PurgeRuns, context: CommandContext) -> connector.RunsPurged:
        workspace_id = context.workspace_id
        version = await self._end_last(RUN, workspace_id)
        ids = list(dict.fromkeys(cmd.run_ids))
        histories = await self._log.histories(workspace_id, RUN, ids)
        last = {
            history[0].aggregate_id: history[-1].seq
            for history in histories
            if is_purgeable(history, before=cmd.ended_before)
        }
        # Rows that hold the last of these runs rest on it, or on what came in its place.
        needed = await self._needed(workspace_id, tuple(last), max(last.values())) if last else ()
        over = tuple(run_id for run_id in last if run_id not in needed)
        if not over:
            return connector.RunsPurged(n_runs=0, sequence=0)
        event = connector.SyncRunsPurged(workspace_id=workspace_id, run_ids=over)
        sequence = await self._tell_and_delete(event, version, context)
        return connector.RunsPurged(n_runs=len(over) if sequence else 0, sequence=sequence)

    async def _expire(
        self, ids: Sequence[str], unchanged_since: datetime, context: CommandContext
    ) -> ingest.IssuesRetired:
        histories = await self._log.histories(context.workspace_id, AGGREGATE, ids)
        appends = [
            Append(self._recorded(event, issue_id, history[-1].seq, context), history[-1].seq)
            for issue_id, history in zip(ids, histories, strict=True)
            if (event := expire_issue(history, issue_id=issue_id, unchanged_since=unchanged_since))
        ]
        outcomes = await self._log.append_each(appends) if appends else []
        sequences = [outcome for outcome in outcomes if not isinstance(outcome, Conflict)]
        return ingest.IssuesRetired(n_issues=len(sequences), sequence=max(sequences, default=0))

    async def _expire_prompts(
        self, ids: Sequence[str], asked_before: datetime, context: CommandContext
    ) -> ingest.PromptsRetired:
        workspace_id = context.workspace_id
        version = await self._end_last(RETENTION, workspace_id)
        histories = await self._log.histories(workspace_id, PROMPT, ids)
        event = expire_prompts(histories, workspace_id=workspace_id, asked_before=asked_before)
        if event is None:
            return ingest.PromptsRetired(n_prompts=0, sequence=0)
        try:
            sequence = await self._log.append(
                Append(self._recorded(event, workspace_id, version, context), version)
            )
        except ConflictError as error:
            raise StateConflictError("Somebody else retires something here; ask again.") from error
        return ingest.PromptsRetired(n_prompts=len(event.analysis_ids), sequence=sequence)

    async def _purge(
        self, ids: Sequence[str], expired_before: datetime, context: CommandContext
    ) -> ingest.IssuesRetired:
        workspace_id = context.workspace_id
        version = await self._end_last(RETENTION, workspace_id)
        histories = await self._log.histories(workspace_id, AGGREGATE, ids)
        kept = [
            (issue, history)
            for history in histories
            if (issue := purge_issue(history, expired_before=expired_before))
        ]
        if not kept:
            return ingest.IssuesRetired(n_issues=0, sequence=0)
        event = ingest.IssuesPurged(
            workspace_id=workspace_id,
            issues=tuple(issue for issue, _ in kept),
            counted_from=counted_from([history for _, history in kept]),
        )
        sequence = await self._tell_and_delete(event, version, context)
        return ingest.IssuesRetired(n_issues=len(kept) if sequence else 0, sequence=sequence)

    async def _end_last(self, aggregate: str, workspace_id: str) -> int:
        """Delete what the last fact says is purged, before it is the last no more; its sequence, 0 for none."""
        latest = await self._log.latest(workspace_id, aggregate, workspace_id)
        if latest is None:
            return 0
        await self._delete(latest, latest.seq)
        return latest.seq

    async def _tell_and_delete(
        self, event: ingest.IssuesPurged | connector.SyncRunsPurged, version: int, context: CommandContext
    ) -> int:
        """The sequence of the fact; 0 where somebody else is at it: what is left is asked for again."""
        fact = self._recorded(event, context.workspace_id, version, context)
        try:
            sequence = await self._log.append(Append(fact, version))
        except ConflictError:
            return 0
        await self._delete(fact, sequence)
        return sequence

    async def _delete(self, fact: Recorded[Event], sequence: int) -> None:
        """Delete the events that a fact says are purged: whatever is told about them, by whomever.

        sequence: of the fact; what this process has deleted once is not looked for again.
        """
        key = (fact.workspace_id, type(fact.data).__name__)
        if self._deleted.get(key) == sequence:
            return
        deletions: list[Callable[[], Awaitable[object]]]
        match fact.data:
            case ingest.IssuesPurged(issues=issues):
                deletions = [partial(self._delete_issue, fact, issue) for issue in issues]
            case connector.SyncRunsPurged(run_ids=run_ids):
                deletions = [partial(self._log.purge, fact.workspace_id, RUN, run_id) for run_id in run_ids]
            case _:
                return
        bound = asyncio.Semaphore(_PURGES_AT_ONCE)

        async def one(delete: Callable[[], Awaitable[object]]) -> None:
            async with bound:
                await delete()

        await asyncio.gather(*map(one, deletions))
        self._deleted[key] = sequence

    async def _delete_issue(self, fact: Recorded[Event], issue: ingest.PurgedIssue) -> None:
        for analysis_id in issue.analysis_ids:
            await self._log.purge(fact.workspace_id, PROMPT, analysis_id)
        await self._log.purge(fact.workspace_id, "*", issue.issue_id, before=issue.last_sequence + 1)
        await self._begin_anew(fact, issue.issue_id)

    async def _begin_anew(self, fact: Recorded[Event], issue_id: str) -> None:
        """Report an issue that was restored while it was being purged: to whoever counts, it has begun again.

        From now on nothing can restore it, for whoever has read what is deleted finds its guard broken.
        """
        while history := await self._log.history(fact.workspace_id, AGGREGATE, issue_id):
            issue = fold(history)
            if issue is None or any(isinstance(event.data, ingest.IssueReported) for event in history):
                return
            anew = record(
                issue.content,
                workspace_id=fact.workspace_id,
                aggregate_id=issue_id,
                occurred_at=issue.occurred_at,
                recorded_at=self._clock(),
                source=SERVICE,
                cause=history[-1],
                event_id=derived_id("evt_", fact.workspace_id, issue_id, str(history[-1].seq)),
            )
            try:
                await self._log.append(Append(anew, history[-1].seq))
            except ConflictError:
                continue
            return

    def _recorded(
        self, event: Event, aggregate_id: str, version: int, context: CommandContext
    ) -> Recorded[Event]:
        now = self._clock()
        return record(
            event,
            workspace_id=context.workspace_id,
            aggregate_id=aggregate_id,
            occurred_at=now,
            recorded_at=now,
            source=SERVICE,
            actor=context.actor,
            correlation_id=context.correlation_id,
            traceparent=context.traceparent,
            event_id=derived_id("evt_", context.workspace_id, aggregate_id, str(version)),
        )


def _distinct(field: str, ids: Sequence[str], most: int) -> Sequence[str]:
    if len(ids) > most:
        raise InvalidIssueError({field: f"has {len(ids)} ids; send at most {most}"})
    return list(dict.fromkeys(ids))
