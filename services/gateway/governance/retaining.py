"""Retention of issues, prompts, predictions and runs: what has reached its age is deleted for good, issues hidden first."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from contracts import connector, ingest, prediction
from eventlog import EventLog
from msgspec import Struct
from msgspec.structs import astuple
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.database import Pool, tenant

from services.gateway import _queries
from services.gateway.identity.governance._queries import Windows

log = structlog.get_logger("gateway.retaining")

EXPIRED_AT_ONCE: Final = 500
PURGED_AT_ONCE: Final = 100
"""Issues of one command to ingest, predictions of one to prediction: they take no more."""
RUNS_AT_ONCE: Final = 500
"""Runs of one command to ingest."""
RUNS_KEPT: Final = timedelta(days=30)
QUIET_RUNS_KEPT: Final = timedelta(days=2)
"""How long runs are kept, and scheduled ones of which nothing came: a poll a minute is half a million a year."""
RUNS_OF_CONNECTOR: Final = 20
"""Of each connector so many stay, however old; where it stands rests on the last three."""
_ASK_SECONDS: Final = 30.0
_BEGINNING: Final = (datetime.min.replace(tzinfo=UTC), 0)


class Place(Struct, frozen=True):
    """Behind what to go on, for each work; None: there is nothing left of it."""

    aged: tuple[datetime, int] | None = _BEGINNING
    expired: tuple[datetime, int] | None = _BEGINNING
    answered: tuple[datetime, int] | None = _BEGINNING
    asked: tuple[datetime, int] | None = _BEGINNING
    foretold: tuple[datetime, int] | None = _BEGINNING
    hidden: tuple[datetime, int] | None = _BEGINNING
    kept: tuple[datetime, int] | None = _BEGINNING
    over: tuple[datetime, int] | None = _BEGINNING

    @property
    def is_end(self) -> bool:
        """Whether all that was due has been asked for."""
        return all(place is None for place in astuple(self))


class Retainer:
    """Asks ingest and prediction for what is due, deletes prompts; a page at a time, and again without harm.

    pool: the read model as the application's role.
    """

    def __init__(self, nc: Client, event_log: EventLog, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._nc = nc
        self._log = event_log
        self._pool = pool
        self._clock = clock
        self._ended: set[tuple[str, str]] = set()
        self._hidden: dict[str, tuple[datetime, int]] = {}
        self._forgotten: dict[str, tuple[datetime, int]] = {}

    async def advance(self, window: Windows, place: Place) -> Place:
        """Do a page of what is due in a workspace; where to go on."""
        now = self._clock()
        aged, expired = place.aged, place.expired
        if aged is not None:
            aged = await self._expire(window.workspace_id, now - timedelta(days=window.issues_days), aged)
        if expired is not None:
            expired = await self._purge(window.workspace_id, now - timedelta(days=window.grace_days), expired)
        answered = place.answered
        if answered is not None:
            aged_at = now - timedelta(days=window.prompt_logs_days)
            answered = await self._expire_prompts(window.workspace_id, aged_at, answered)
        asked = place.asked
        if asked is not None:
            asked = await self._forget(window.workspace_id, now - timedelta(days=window.grace_days), asked)
        foretold = place.foretold
        if foretold is not None:
            ended = now - timedelta(days=window.predictions_days)
            foretold = await self._expire_predictions(window.workspace_id, ended, foretold)
        hidden = place.hidden
        if hidden is not None:
            before = now - timedelta(days=window.grace_days)
            hidden = await self._purge_predictions(window.workspace_id, before, hidden)
        if place.kept is not None:
            await self._purge_records(window.workspace_id, now - timedelta(days=window.issues_days))
        over = place.over
        if over is not None:
            over = await self._purge_runs(window.workspace_id, now, over)
        return Place(aged, expired, answered, asked, foretold, hidden, None, over)

    async def _expire(
        self, workspace_id: str, unchanged_since: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        async with tenant(self._pool, workspace_id) as conn:
            page = await _queries.list_aged_issues(
                conn,
                workspace_id=workspace_id,
                unchanged_since=unchanged_since,
                after_at=after[0],
                after_seq=after[1],
                n=EXPIRED_AT_ONCE,
            )
        if page:
            command = ingest.ExpireIssues(
                issue_ids=tuple(issue.issue_id for issue in page), unchanged_since=unchanged_since
            )
            await self._ask(workspace_id, command, "retention.expired")
        return _behind(page, EXPIRED_AT_ONCE)

    async def _purge(
        self, workspace_id: str, expired_before: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_expired_issues(
                conn,
                workspace_id=workspace_id,
                expired_before=expired_before,
                after_at=after[0],
                after_seq=after[1],
                n=PURGED_AT_ONCE,
            )
        # Once even without anything to purge: an ingest that died may have left events that it had said were gone.
        if page or (workspace_id, "issues") not in self._ended:
            command = ingest.PurgeIssues(
                issue_ids=tuple(issue.issue_id for issue in page), expired_before=expired_before
            )
            await self._ask(workspace_id, command, "retention.purged")
            self._ended.add((workspace_id, "issues"))
        return _behind(page, PURGED_AT_ONCE)

    async def _expire_predictions(
        self, workspace_id: str, ended_before: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        async with tenant(self._pool, workspace_id) as conn:
            page = await _queries.list_ended_predictions(
                conn,
                workspace_id=workspace_id,
                ended_before=ended_before,
                after_at=after[0],
                after_seq=after[1],
                n=PURGED_AT_ONCE,
            )
        if page:
            command = prediction.ExpirePredictions(
                prediction_ids=tuple(each.prediction_id for each in page), ended_before=ended_before
            )
            await self._ask_prediction(workspace_id, command, "retention.predictions_expired")
        return _behind(page, PURGED_AT_ONCE)

    async def _purge_predictions(
        self, workspace_id: str, expired_before: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_expired_predictions(
                conn,
                workspace_id=workspace_id,
                expired_before=expired_before,
                after_at=after[0],
                after_seq=after[1],
                n=PURGED_AT_ONCE,
            )
        # Once even without any, as with issues.
        if page or (workspace_id, "predictions") not in self._ended:
            command = prediction.PurgePredictions(
                prediction_ids=tuple(each.prediction_id for each in page), expired_before=expired_before
            )
            await self._ask_prediction(workspace_id, command, "retention.predictions_purged")
            self._ended.add((workspace_id, "predictions"))
        return _behind(page, PURGED_AT_ONCE)

    async def _purge_records(self, workspace_id: str, received_before: datetime) -> None:
        """Delete what sources sent, all at once: nothing of it is shown, so there is nothing to hide first; no grace."""
        done = await ask(
            self._nc,
            connector.PurgeRecords(received_before=received_before),
            endpoint=connector.ENDPOINTS[connector.PurgeRecords],
            reply=connector.RecordsPurged,
            context=_context(workspace_id),
            timeout=_ASK_SECONDS,
        )
        if done.n_records:
            log.info("retention.records_purged", workspace_id=workspace_id, records=done.n_records)

    async def _purge_runs(
        self, workspace_id: str, now: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        async with tenant(self._pool, workspace_id) as conn:
            page = await _queries.list_over_runs(
                conn,
                workspace_id=workspace_id,
                quiet_before=now - QUIET_RUNS_KEPT,
                ended_before=now - RUNS_KEPT,
                kept=RUNS_OF_CONNECTOR,
                after_at=after[0],
                after_seq=after[1],
                n=RUNS_AT_ONCE,
            )
        # Once even without any, as with issues.
        if page or (workspace_id, "runs") not in self._ended:
            done = await ask(
                self._nc,
                connector.PurgeRuns(
                    run_ids=tuple(run.run_id for run in page), ended_before=now - QUIET_RUNS_KEPT
                ),
                endpoint=connector.ENDPOINTS[connector.PurgeRuns],
                reply=connector.RunsPurged,
                context=_context(workspace_id),
                timeout=_ASK_SECONDS,
            )
            if done.n_runs:
                log.info("retention.runs_purged", workspace_id=workspace_id, runs=done.n_runs)
            self._ended.add((workspace_id, "runs"))
        return _behind(page, RUNS_AT_ONCE)

    async def _expire_prompts(
        self, workspace_id: str, before: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        # Most analyses ask no model: they are asked about once, not every hour.
        after = max(after, self._hidden.get(workspace_id, _BEGINNING))
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_answered(
                conn,
                workspace_id=workspace_id,
                before=before,
                after_at=after[0],
                after_seq=after[1],
                n=PURGED_AT_ONCE,
            )
        if page:
            done = await ask(
                self._nc,
                ingest.ExpirePrompts(
                    analysis_ids=tuple(each.analysis_id for each in page), asked_before=before
                ),
                endpoint=ingest.ENDPOINTS[ingest.ExpirePrompts],
                reply=ingest.PromptsRetired,
                context=_context(workspace_id),
                timeout=_ASK_SECONDS,
            )
            if done.n_prompts:
                log.info("retention.prompts_expired", workspace_id=workspace_id, prompts=done.n_prompts)
            self._hidden[workspace_id] = (page[-1].since_at, page[-1].seq)
        return _behind(page, PURGED_AT_ONCE)

    async def _forget(
        self, workspace_id: str, expired_before: datetime, after: tuple[datetime, int]
    ) -> tuple[datetime, int] | None:
        """Delete what models were asked, once its grace is over. No row holds anything of it: the log is all there is."""
        # What was deleted once is not there again.
        after = max(after, self._forgotten.get(workspace_id, _BEGINNING))
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_expired_prompts(
                conn,
                workspace_id=workspace_id,
                expired_before=expired_before,
                after_at=after[0],
                after_seq=after[1],
                n=PURGED_AT_ONCE,
            )
        purged = 0
        for analysis in page:
            purged += await self._log.purge(workspace_id, "prompt", analysis.analysis_id)
            self._forgotten[workspace_id] = (analysis.since_at, analysis.seq)
        if purged:
            log.info("retention.prompts_purged", workspace_id=workspace_id, prompts=purged)
        return _behind(page, PURGED_AT_ONCE)

    async def _ask(
        self, workspace_id: str, command: ingest.ExpireIssues | ingest.PurgeIssues, event: str
    ) -> None:
        done = await ask(
            self._nc,
            command,
            endpoint=ingest.ENDPOINTS[type(command)],
            reply=ingest.IssuesRetired,
            context=_context(workspace_id),
            timeout=_ASK_SECONDS,
        )
        if done.n_issues:
            log.info(event, workspace_id=workspace_id, issues=done.n_issues)

    async def _ask_prediction(
        self,
        workspace_id: str,
        command: prediction.ExpirePredictions | prediction.PurgePredictions,
        event: str,
    ) -> None:
        done = await ask(
            self._nc,
            command,
            endpoint=prediction.ENDPOINTS[type(command)],
            reply=prediction.PredictionsRetired,
            context=_context(workspace_id),
            timeout=_ASK_SECONDS,
        )
        if done.n_predictions:
            log.info(event, workspace_id=workspace_id, predictions=done.n_predictions)


def _context(workspace_id: str) -> CommandContext:
    return CommandContext(workspace_id=workspace_id, actor=None, correlation_id="", traceparent=None)


def _behind(
    page: Sequence[_queries.Resting | _queries.Answered | _queries.Foretold | _queries.Over], size: int
) -> tuple[datetime, int] | None:
    """Where the next page begins; None when this was the last."""
    return (page[-1].since_at, page[-1].seq) if len(page) == size else None
