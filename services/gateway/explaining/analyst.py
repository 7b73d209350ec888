"""Answers to why issues happened: the work of the gateway that leads, outside requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
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
    read_answer,
    sources_of,
)
from services.gateway.engine.evidence import Explanation, Failure
from services.gateway.explaining.material import explain_issue, explain_pattern
from services.gateway.explaining.models import Endpoint, ModelError, Models

log = structlog.get_logger("gateway.analyst")

POLL_SECONDS: Final = 1.0
AT_ONCE_MAX: Final = 4
ATTEMPTS_MAX: Final = 3
"""Tries at a model before the evidence answers for it."""
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
        if free <= 0:
            return
        async with self._everywhere.connection() as conn:
            waiting = await _queries.list_running_analyses(conn, at_most=AT_ONCE_MAX + len(self._running))
        partition_of = self._resources.event_log.partition_of
        mine = [
            analysis
            for analysis in waiting
            if analysis.analysis_id not in self._running
            and self._resources.leads(partition_of(analysis.workspace_id))
        ]
        for analysis in mine[:free]:
            task = asyncio.create_task(self._end(analysis))
            self._running[analysis.analysis_id] = task
            task.add_done_callback(partial(self._forget, analysis.analysis_id))

    def _forget(self, analysis_id: str, _: object) -> None:
        self._running.pop(analysis_id, None)

    async def _end(self, analysis: _queries.ListRunningAnalysesRow) -> None:
        """The edge: one analysis that goes wrong is logged and tried again at the next look, and holds up no other."""
        with structlog.contextvars.bound_contextvars(analysis_id=analysis.analysis_id):
            try:
                await self._answer(analysis)
            except NotFoundError:
                log.info("analysis.dropped", reason="its issue is gone")
            except (*_WORLD_FAILED, AppError) as error:
                log.warning("analysis.interrupted", error=repr(error))
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("analysis.failed")
                await asyncio.sleep(POLL_SECONDS)

    async def _answer(self, analysis: _queries.ListRunningAnalysesRow) -> None:
        tier = ingest.AnalysisTier(analysis.tier)
        case = await self._case(analysis.workspace_id, analysis.issue_id, tier)
        sources = sources_of(case.explanation.statements)
        finding = found_by_evidence(case.explanation, sources)
        endpoint = await self._advice(analysis.workspace_id)
        exchange, reason = None, None
        model, version = _BY_EVIDENCE, case.explanation.version
        if endpoint is not None:
            answered, exchange, reason = await self._asked(endpoint, tier, case, sources)
            if answered is not None:
                finding, model, version = answered, endpoint.models[tier], PROMPT_VERSION
        request = ingest.RecordAnalysis(
            issue_id=analysis.issue_id,
            analysis_id=analysis.analysis_id,
            analysis=_recorded(finding, sources, model=model, version=version, reason=reason),
            exchange=exchange,
        )
        await ask(
            self._resources.nc,
            request,
            endpoint=ingest.ENDPOINTS[ingest.RecordAnalysis],
            reply=ingest.IssueChanged,
            context=CommandContext(
                workspace_id=analysis.workspace_id,
                actor=None,
                correlation_id=analysis.analysis_id,
                traceparent=None,
            ),
        )
        log.info("analysis.recorded", workspace_id=analysis.workspace_id, model=model, fallback=reason)

    async def _case(self, workspace_id: str, issue_id: str, tier: ingest.AnalysisTier) -> _Case:
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
                self._rows, workspace_id, issue.pattern_id, known_at=issue.pattern_updated_at
            )
        if explanation is None:
            fields = {name: getattr(issue, name) for name in Failure.__struct_fields__}
            explanation = await explain_issue(self._rows, workspace_id, Failure(**fields))
        return _Case(issue, explanation, tuple(examples))

    async def _asked(
        self, endpoint: Endpoint, tier: ingest.AnalysisTier, case: _Case, sources: tuple[Source, ...]
    ) -> tuple[Finding | None, ingest.ModelExchange, str | None]:
        """What a model found, what was said, and why it is not taken."""
        subject = Subject(
            title=case.issue.title,
            body=case.issue.body[: _BODY_LENGTH[tier]],
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
            attempts.append(_attempt(asked_at, self._resources.clock() - asked_at, text, outcome))
            if is_last:
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
        answer=None if text is None else text[:ANSWER_LENGTH_MAX],
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
