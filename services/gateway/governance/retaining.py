"""Retention of issues, prompts, predictions and runs: what has reached its age is deleted for good, issues hidden first."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import structlog
from contracts import connector, ingest, prediction
from eventlog import EventLog
from msgspec import Struct
from msgspec.structs import asdict
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

Behind: TypeAlias = tuple[datetime, int]
"""Where a page of a work ended: the next one begins behind it."""
BEGINNING: Final[Behind] = (datetime.min.replace(tzinfo=UTC), 0)

_Retired: TypeAlias = (
    ingest.IssuesRetired
    | ingest.PromptsRetired
    | prediction.PredictionsRetired
    | connector.RecordsPurged
    | connector.RunsPurged
)
_ASKED: Final[Mapping[type[Struct], tuple[str, type[_Retired], str]]] = {
    ingest.ExpireIssues: (ingest.ENDPOINTS[ingest.ExpireIssues], ingest.IssuesRetired, "retention.expired"),
    ingest.PurgeIssues: (ingest.ENDPOINTS[ingest.PurgeIssues], ingest.IssuesRetired, "retention.purged"),
    ingest.ExpirePrompts: (
        ingest.ENDPOINTS[ingest.ExpirePrompts],
        ingest.PromptsRetired,
        "retention.prompts_expired",
    ),
    prediction.ExpirePredictions: (
        prediction.ENDPOINTS[prediction.ExpirePredictions],
        prediction.PredictionsRetired,
        "retention.predictions_expired",
    ),
    prediction.PurgePredictions: (
        prediction.ENDPOINTS[prediction.PurgePredictions],
        prediction.PredictionsRetired,
        "retention.predictions_purged",
    ),
    connector.PurgeRecords: (
        connector.ENDPOINTS[connector.PurgeRecords],
        connector.RecordsPurged,
        "retention.records_purged",
    ),
    connector.PurgeRuns: (
        connector.ENDPOINTS[connector.PurgeRuns],
        connector.RunsPurged,
        "retention.runs_purged",
    ),
}
"""Of each command: who is asked, what is answered, and what the log says is done."""


class Retainer:
    """Asks ingest and prediction for what is due, deletes prompts; a page at a time, and again without harm.

    pool: the read model as the application's role.
    """

    def __init__(self, nc: Client, event_log: EventLog, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._nc = nc
        self._log = event_log
        self._pool = pool
        self._clock = clock
        self._ended: set[tuple[str, type[Struct]]] = set()
        self._hidden: dict[str, tuple[datetime, int]] = {}
        self._forgotten: dict[str, tuple[datetime, int]] = {}

    @property
    def works(self) -> Mapping[str, Callable[[Windows, Behind], Awaitable[Behind | None]]]:
        """What there is to do in each workspace, by name; none rests on another, so one that fails holds up none.

        Each does a page of what is due, behind a place, and says where to go on; None: nothing is left.
        """
        return {
            "expire_issues": self._expire_issues,
            "purge_issues": self._purge_issues,
            "expire_prompts": self._expire_prompts,
            "purge_prompts": self._purge_prompts,
            "expire_predictions": self._expire_predictions,
            "purge_predictions": self._purge_predictions,
            "purge_records": self._purge_records,
            "purge_runs": self._purge_runs,
        }

    async def _expire_issues(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, unchanged_since = window.workspace_id, self._ago(window.issues_days)
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
            ids = tuple(issue.issue_id for issue in page)
            await self._retire(window, ingest.ExpireIssues(issue_ids=ids, unchanged_since=unchanged_since))
        return _behind(page, EXPIRED_AT_ONCE)

    async def _purge_issues(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, expired_before = window.workspace_id, self._ago(window.grace_days)
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
        ids = tuple(issue.issue_id for issue in page)
        await self._purge(window, ingest.PurgeIssues(issue_ids=ids, expired_before=expired_before), ids)
        return _behind(page, PURGED_AT_ONCE)

    async def _expire_predictions(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, ended_before = window.workspace_id, self._ago(window.predictions_days)
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
            ids = tuple(each.prediction_id for each in page)
            await self._retire(
                window, prediction.ExpirePredictions(prediction_ids=ids, ended_before=ended_before)
            )
        return _behind(page, PURGED_AT_ONCE)

    async def _purge_predictions(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, expired_before = window.workspace_id, self._ago(window.grace_days)
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
        ids = tuple(each.prediction_id for each in page)
        command = prediction.PurgePredictions(prediction_ids=ids, expired_before=expired_before)
        await self._purge(window, command, ids)
        return _behind(page, PURGED_AT_ONCE)

    async def _purge_records(self, window: Windows, after: Behind) -> None:
        """Delete what sources sent, all at once: nothing of it is shown, so there is nothing to hide first; no grace."""
        await self._retire(window, connector.PurgeRecords(received_before=self._ago(window.issues_days)))

    async def _purge_runs(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, quiet_before = window.workspace_id, self._clock() - QUIET_RUNS_KEPT
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_over_runs(
                conn,
                workspace_id=workspace_id,
                expired_before=self._ago(window.grace_days),
                quiet_before=quiet_before,
                ended_before=self._clock() - RUNS_KEPT,
                kept=RUNS_OF_CONNECTOR,
                after_at=after[0],
                after_seq=after[1],
                n=RUNS_AT_ONCE,
            )
        ids = tuple(run.run_id for run in page)
        await self._purge(window, connector.PurgeRuns(run_ids=ids, ended_before=quiet_before), ids)
        return _behind(page, RUNS_AT_ONCE)

    async def _expire_prompts(self, window: Windows, after: Behind) -> Behind | None:
        workspace_id, before = window.workspace_id, self._ago(window.prompt_logs_days)
        # Most analyses ask no model: they are asked about once, not every hour.
        after = max(after, self._hidden.get(workspace_id, BEGINNING))
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
            ids = tuple(each.analysis_id for each in page)
            await self._retire(window, ingest.ExpirePrompts(analysis_ids=ids, asked_before=before))
            self._hidden[workspace_id] = (page[-1].since_at, page[-1].seq)
        return _behind(page, PURGED_AT_ONCE)

    async def _purge_prompts(self, window: Windows, after: Behind) -> Behind | None:
        """Delete what models were asked, once its grace is over. No row holds anything of it: the log is all there is."""
        workspace_id = window.workspace_id
        # What was deleted once is not there again.
        after = max(after, self._forgotten.get(workspace_id, BEGINNING))
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.see_expired(conn)
            page = await _queries.list_expired_prompts(
                conn,
                workspace_id=workspace_id,
                expired_before=self._ago(window.grace_days),
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

    def _ago(self, days: int) -> datetime:
        return self._clock() - timedelta(days=days)

    async def _purge(self, window: Windows, command: Struct, ids: Sequence[str]) -> None:
        """Ask for a purge; without anything to purge as well, until that was answered once since the last that was not.

        Whoever died in the middle of one may have left events that it had said were gone; the next one deletes them.
        """
        key = (window.workspace_id, type(command))
        if not ids and key in self._ended:
            return
        self._ended.discard(key)
        await self._retire(window, command)
        self._ended.add(key)

    async def _retire(self, window: Windows, command: Struct) -> None:
        endpoint, reply, event = _ASKED[type(command)]
        done = await ask(
            self._nc,
            command,
            endpoint=endpoint,
            reply=reply,
            context=CommandContext(
                workspace_id=window.workspace_id, actor=None, correlation_id="", traceparent=None
            ),
            timeout=_ASK_SECONDS,
        )
        counts = asdict(done)
        counts.pop("sequence", None)
        if any(counts.values()):
            log.info(
                event,
                workspace_id=window.workspace_id,
                **{name.removeprefix("n_"): n for name, n in counts.items()},
            )


def _behind(
    page: Sequence[_queries.Resting | _queries.Answered | _queries.Foretold | _queries.Over], size: int
) -> Behind | None:
    """Where the next page begins; None when this was the last."""
    return (page[-1].since_at, page[-1].seq) if len(page) == size else None
