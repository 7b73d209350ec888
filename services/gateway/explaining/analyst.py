"""Answers to why issues happened: the work of the gateway that leads, outside requests."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Final, Protocol

import msgspec
import psycopg
import structlog
from contracts import ingest
from eventlog import LogUnavailableError
from msgspec import Struct
from psycopg_pool import PoolTimeout
from runtime.broker import CommandContext, ask
from runtime.database import Pool, tenant
from runtime.errors import AppError, NotFoundError, UnavailableError
from runtime.sealing import SealError
from runtime.service import Resources

from services.gateway import _queries
from services.gateway.engine.answers import (
    ANSWER_LENGTH_MAX,
    PROMPT_VERSION,
    AnswerError,
    Claim,
    Finding,
    Source,
    Subject,
    found_by_evidence,
    messages_of,
    printable,
    read_answer,
    sources_of,
)
from services.gateway.engine.evidence import Explanation, Failure
from services.gateway.explaining.material import explain_issue, explain_pattern
from services.gateway.explaining.models import SECONDS, Endpoint, ModelError, Models

log = structlog.get_logger("gateway.analyst")

POLL_SECONDS: Final = 1.0
AT_ONCE_MAX: Final = 16
OF_A_WORKSPACE_MAX: Final = 2
"""Analyses of one workspace at once, so that one whose model is slow, or that asks a thousand times, waits alone."""
ATTEMPTS_MAX: Final = 3
"""Tries at a model before the evidence answers for it; no new one once the time that one may take is over."""
RECORDINGS_MAX: Final = 3
"""Tries at writing an answer down before the evidence alone is written."""
REST: Final = timedelta(minutes=1)
"""What could not be ended is left alone for so long."""
VISIBLE_SECONDS: Final = 10.0
BACK_OFF_SECONDS: Final = (0.5, 2.0)
_BODY_LENGTH: Final[Mapping[ingest.AnalysisTier, int]] = {
    ingest.AnalysisTier.FAST: 0,
    ingest.AnalysisTier.BALANCED: 1500,
    ingest.AnalysisTier.DEEP: 6000,
}
_EXAMPLES: Final[Mapping[ingest.AnalysisTier, int]] = {
    ingest.AnalysisTier.FAST: 0,
    ingest.AnalysisTier.BALANCED: 5,
    ingest.AnalysisTier.DEEP: 15,
}
_FACTS = ("severity", "service", "component", "error_type", "environment", "version", "team", "source")
_BY_EVIDENCE = "evidence"
_WORLD_FAILED = (LogUnavailableError, UnavailableError, PoolTimeout, psycopg.Error, OSError)


class Advice(Protocol):
    """Which endpoint a workspace's questions may go to."""

    def __call__(self, workspace_id: str) -> Awaitable[Endpoint | None]:
        """None: to nobody, so the evidence answers."""
        ...


class _Case(Struct, frozen=True):
    """What an analysis is about, as the rows have it."""

    issue: _queries.GetIssueForAnalysisRow
    explanation: Explanation
    examples: tuple[str, ...]


class Analyst:
    """Ends every analysis that runs. Each gateway has one; of a partition, that of the gateway which leads it works.

    everywhere: the pool of the role that sees the rows of all workspaces. rows: the application's.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        everywhere: Pool,
        rows: Pool,
        models: Models,
        advice: Advice,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._resources = resources
        self._everywhere = everywhere
        self._rows = rows
        self._models = models
        self._advice = advice
        self._wait = wait
        self._running: dict[str, asyncio.Task[None]] = {}
        self._places: Counter[str] = Counter()
        self._resting: dict[str, datetime] = {}
        self._turns = count()
        self._served: dict[str, int] = {}

    async def run(self) -> None:
        """Look for work until cancelled; what is interrupted is begun again by whoever leads then."""
        try:
            while True:
                try:
                    await self._look()
                except _WORLD_FAILED as error:
                    log.warning("analyst.interrupted", error=repr(error))
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _look(self) -> None:
        free = AT_ONCE_MAX - len(self._running)
        now = self._resources.clock()
        self._resting = {analysis_id: until for analysis_id, until in self._resting.items() if until > now}
        if free <= 0:
            return
        async with self._everywhere.connection() as conn:
            waiting = await _queries.list_running_analyses(
                conn, except_ids=[*self._running, *self._resting], of_each=OF_A_WORKSPACE_MAX
            )
        for analysis in self._fair(waiting)[:free]:
            task = asyncio.create_task(self._end(analysis))
            self._running[analysis.analysis_id] = task
            self._places[analysis.workspace_id] += 1
            self._served[analysis.workspace_id] = next(self._turns)
            task.add_done_callback(partial(self._forget, analysis))

    def _fair(
        self, waiting: Sequence[_queries.ListRunningAnalysesRow]
    ) -> Sequence[_queries.ListRunningAnalysesRow]:
        """What may begin: whose workspace has the fewest places first, then whose turn is the longest ago."""
        workspaces = {analysis.workspace_id for analysis in waiting}
        self._served = {each: turn for each, turn in self._served.items() if each in workspaces}
        partition_of = self._resources.event_log.partition_of
        taken = Counter(self._places)
        ranked = []
        for analysis in waiting:
            place, taken[analysis.workspace_id] = (
                taken[analysis.workspace_id],
                taken[analysis.workspace_id] + 1,
            )
            if place < OF_A_WORKSPACE_MAX and self._resources.leads(partition_of(analysis.workspace_id)):
                ranked.append(
                    (place, self._served.get(analysis.workspace_id, -1), analysis.requested_at, analysis)
                )
        return [analysis for *_, analysis in sorted(ranked, key=lambda each: each[:3])]

    def _forget(self, analysis: _queries.ListRunningAnalysesRow, _: object) -> None:
        self._running.pop(analysis.analysis_id, None)
        self._places -= Counter([analysis.workspace_id])

    async def _end(self, analysis: _queries.ListRunningAnalysesRow) -> None:
        """The edge: one analysis that goes wrong is logged and tried again after a rest, and holds up no other."""
        with structlog.contextvars.bound_contextvars(analysis_id=analysis.analysis_id):
            try:
                if await self._is_running(analysis):
                    await self._visible(analysis, await self._answer(analysis))
                return
            except NotFoundError:
                log.info("analysis.dropped", reason="its issue is gone")
            except (*_WORLD_FAILED, AppError) as error:
                log.warning("analysis.interrupted", error=repr(error))
            except Exception:
                log.exception("analysis.failed")
            self._resting[analysis.analysis_id] = self._resources.clock() + REST

    async def _is_running(self, analysis: _queries.ListRunningAnalysesRow) -> bool:
        """Whether it still runs once the rows hold what the log holds: nobody asks a model for what has an answer."""
        event_log, workspace_id = self._resources.event_log, analysis.workspace_id
        await self._visible(analysis, await event_log.last_seq(event_log.partition_of(workspace_id)))
        async with tenant(self._rows, workspace_id) as conn:
            row = await _queries.get_analysis(
                conn, workspace_id=workspace_id, analysis_id=analysis.analysis_id
            )
        return row is not None and row.recorded_at is None

    async def _visible(self, analysis: _queries.ListRunningAnalysesRow, sequence: int) -> None:
        """Keep the place until the rows hold a sequence, however long: its row says that it runs until then."""
        while not await self._resources.reached(analysis.workspace_id, sequence, timeout=VISIBLE_SECONDS):
            log.info("analysis.waits", sequence=sequence)

    async def _answer(self, analysis: _queries.ListRunningAnalysesRow) -> int:
        """Find an answer and write it down; the sequence that it has then."""
        tier, workspace_id = ingest.AnalysisTier(analysis.tier), analysis.workspace_id
        endpoint, reason = None, None
        try:
            endpoint = await self._advice(workspace_id)
        except SealError:
            log.exception("analysis.key_sealed")
            reason = "the key of the model cannot be opened; set it again"
        case = await self._case(workspace_id, analysis.issue_id, tier, endpoint)
        sources = sources_of(case.explanation.statements)
        by_evidence = partial(
            _recorded,
            found_by_evidence(case.explanation, sources),
            sources,
            model=_BY_EVIDENCE,
            version=case.explanation.version,
        )
        request = ingest.RecordAnalysis(
            issue_id=analysis.issue_id,
            analysis_id=analysis.analysis_id,
            analysis=by_evidence(reason=reason),
        )
        if endpoint is not None:
            answered, exchange, reason = await self._asked(endpoint, tier, case, sources)
            analysed = by_evidence(reason=reason)
            if answered is not None:
                analysed = _recorded(
                    answered, sources, model=endpoint.models[tier], version=PROMPT_VERSION, reason=None
                )
            request = msgspec.structs.replace(request, analysis=analysed, exchange=exchange)
        lapsed = msgspec.structs.replace(
            request,
            analysis=by_evidence(reason="the model's answer could not be written down"),
            exchange=None,
        )
        sequence = await self._record(workspace_id, request, otherwise=lapsed)
        log.info(
            "analysis.recorded", workspace_id=workspace_id, model=request.analysis.model, fallback=reason
        )
        return sequence

    async def _record(
        self, workspace_id: str, request: ingest.RecordAnalysis, *, otherwise: ingest.RecordAnalysis
    ) -> int:
        """Write an answer down, or the one of the evidence where that cannot be; its sequence.

        A model is not asked again because its answer could not be written. Raises NotFoundError.
        """
        for number in range(RECORDINGS_MAX):
            try:
                return await self._told(workspace_id, request)
            except NotFoundError:
                raise
            except (*_WORLD_FAILED, AppError) as error:
                log.warning("analysis.not_recorded", error=repr(error))
                await self._wait(BACK_OFF_SECONDS[min(number, len(BACK_OFF_SECONDS) - 1)])
        return await self._told(workspace_id, otherwise if request.exchange is not None else request)

    async def _told(self, workspace_id: str, request: ingest.RecordAnalysis) -> int:
        done = await ask(
            self._resources.nc,
            request,
            endpoint=ingest.ENDPOINTS[ingest.RecordAnalysis],
            reply=ingest.IssueChanged,
            context=CommandContext(
                workspace_id=workspace_id, actor=None, correlation_id=request.analysis_id, traceparent=None
            ),
        )
        return done.sequence

    async def _case(
        self, workspace_id: str, issue_id: str, tier: ingest.AnalysisTier, endpoint: Endpoint | None
    ) -> _Case:
        """What there is to say; the titles in the evidence redacted where it goes to an endpoint."""
        redaction = None if endpoint is None else endpoint.redaction
        async with tenant(self._rows, workspace_id) as conn:
            issue = await _queries.get_issue_for_analysis(conn, workspace_id=workspace_id, issue_id=issue_id)
            if issue is None:
                raise NotFoundError("The issue is gone.", details={"id": issue_id})
            examples: list[str] = []
            if issue.pattern_id is not None and _EXAMPLES[tier]:
                members = await _queries.list_member_failures(
                    conn,
                    workspace_id=workspace_id,
                    pattern_id=issue.pattern_id,
                    at_most=_EXAMPLES[tier],
                )
                examples = [row.title for row in members if row.issue_id != issue_id]
        explanation = None
        if issue.pattern_id is not None and issue.pattern_updated_at is not None:
            explanation = await explain_pattern(
                self._rows,
                workspace_id,
                issue.pattern_id,
                known_at=issue.pattern_updated_at,
                redaction=redaction,
            )
        if explanation is None:
            fields = {name: getattr(issue, name) for name in Failure.__struct_fields__}
            explanation = await explain_issue(
                self._rows, workspace_id, Failure(**fields), redaction=redaction
            )
        return _Case(issue, explanation, tuple(examples))

    async def _asked(
        self, endpoint: Endpoint, tier: ingest.AnalysisTier, case: _Case, sources: tuple[Source, ...]
    ) -> tuple[Finding | None, ingest.ModelExchange, str | None]:
        """What a model found, what was said, and why it is not taken."""
        subject = Subject(
            title=case.issue.title,
            body=case.issue.body,
            body_length=_BODY_LENGTH[tier],
            facts={name: value for name in _FACTS if (value := getattr(case.issue, name))},
            examples=case.examples,
        )
        messages = tuple(
            ingest.ModelMessage(role=role, text=text)
            for role, text in messages_of(subject, sources, endpoint.redaction)
        )
        attempts: list[ingest.ModelAttempt] = []
        finding: Finding | None = None
        reason: str | None = None
        began_at = self._resources.clock()
        for number in range(ATTEMPTS_MAX):
            if number:
                await self._wait(BACK_OFF_SECONDS[number - 1])
            asked_at = self._resources.clock()
            text: str | None = None
            is_last = False
            try:
                text = await self._models.ask(endpoint, tier, messages)
                finding = read_answer(text, sources, confidence_most=case.explanation.confidence)
                reason = None if finding is not None else "the model abstains"
                outcome, is_last = "taken" if finding is not None else "abstained", True
            except ModelError as error:
                outcome = reason = str(error)
                is_last = not error.may_retry
            except AnswerError as error:
                outcome = reason = str(error)
            now = self._resources.clock()
            attempts.append(_attempt(asked_at, now - asked_at, text, outcome))
            if is_last or now - began_at >= timedelta(seconds=SECONDS[tier]):
                break
        exchange = ingest.ModelExchange(
            model=endpoint.models[tier],
            host=endpoint.host,
            prompt_version=PROMPT_VERSION,
            messages=messages,
            attempts=tuple(attempts),
        )
        return finding, exchange, reason


def _attempt(asked_at: datetime, took: timedelta, text: str | None, outcome: str) -> ingest.ModelAttempt:
    return ingest.ModelAttempt(
        asked_at=asked_at,
        duration_ms=round(took / timedelta(milliseconds=1)),
        answer=None if text is None else printable(text[:ANSWER_LENGTH_MAX]),
        outcome=outcome,
    )


def _recorded(
    finding: Finding, sources: tuple[Source, ...], *, model: str, version: str, reason: str | None
) -> ingest.Analysis:
    def claim(made: Claim) -> ingest.AnalysisClaim:
        return ingest.AnalysisClaim(text=made.text, evidence_ids=made.evidence)

    return ingest.Analysis(
        root_cause=claim(finding.root_cause),
        contributing_factors=tuple(claim(factor) for factor in finding.contributing_factors),
        why_recurring=claim(finding.why_recurring),
        confidence=finding.confidence,
        model=model,
        model_version=version,
        evidence=tuple(
            msgspec.convert(source, ingest.AnalysisEvidence, from_attributes=True) for source in sources
        ),
        fallback_reason=reason,
    )
