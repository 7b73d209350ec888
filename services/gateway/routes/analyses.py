"""Analyses of issues: ask for one, and see what a model was asked for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from contracts import ingest
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import UnavailableError

from services.gateway import _queries
from services.gateway.edge.preconditions import WAIT_SECONDS_MAX
from services.gateway.errors import AnalysisLimitError
from services.gateway.routes.issues import LISTING, FormatQuery, Issue, detail
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
    settle,
)
from services.gateway.routes.pages import read_one

Tier: TypeAlias = Literal["fast", "balanced", "deep"]

RUNNING_MAX: Final = 100
"""Analyses of one workspace that may run, those that wait for their turn included."""


class AnalysisRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How thorough the analysis is to be."""

    tier: Annotated[
        Tier, Meta(description="How much of the issue a model sees, and how long it may take.")
    ] = "balanced"


class PromptMessage(Struct, frozen=True, kw_only=True):
    """One message of a prompt."""

    role: str
    text: Annotated[str, Meta(description="As it was sent: redacted.")]


class PromptAttempt(Struct, frozen=True, kw_only=True):
    """One try at asking."""

    asked_at: datetime
    duration_ms: int
    answer: str | None
    outcome: Annotated[str, Meta(description="taken, abstained, or why it was not taken.")]


class Prompt(Struct, frozen=True, kw_only=True):
    """What a model was asked for an analysis, and what it answered."""

    analysis_id: str
    issue_id: str
    model: str
    host: str
    prompt_version: str
    messages: tuple[PromptMessage, ...]
    attempts: tuple[PromptAttempt, ...]


@asynccontextmanager
async def _room_for_one(gateway: Gateway, workspace_id: str, issue_id: str) -> AsyncIterator[None]:
    """Whoever is inside may begin an analysis of the issue, and nobody else of the workspace begins one meanwhile.

    Raises AnalysisLimitError, unless one of this issue runs: then there is nothing to begin.
    """
    busy = UnavailableError("Many analyses of this workspace are being begun. Try again in a moment.")
    async with gateway.once.alone(workspace_id, "analyses", busy=busy):
        log = gateway.resources.event_log
        end = await log.last_seq(log.partition_of(workspace_id))
        if not await gateway.resources.reached(workspace_id, end, timeout=WAIT_SECONDS_MAX):
            raise UnavailableError("The read model is behind, so analyses cannot be counted now.")
        async with tenant(gateway.pool, workspace_id) as conn:
            # Of this workspace alone, for the connection sees no other.
            running = await _queries.list_running_analyses(conn, except_ids=[], of_each=RUNNING_MAX)
        is_new = all(analysis.issue_id != issue_id for analysis in running)
        if is_new and len(running) >= RUNNING_MAX:
            raise AnalysisLimitError(
                f"{RUNNING_MAX} analyses of this workspace run already.",
                details={"limit": "running_analyses", "most": str(RUNNING_MAX)},
            )
        yield


async def analyze(gateway: Gateway, call: Call[FormatQuery, AnalysisRequest]) -> Issue:
    """Begin an analysis of an issue, or go on with the one that runs. Raises AnalysisLimitError."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    request = ingest.StartAnalysis(issue_id=issue_id, tier=ingest.AnalysisTier(call.body.tier))
    async with _room_for_one(gateway, call.workspace_id, issue_id):
        begun = await command(gateway, call.principal, request, reply=ingest.AnalysisAccepted)
    await settle(gateway, call.workspace_id, begun.sequence, location=f"/v1/issues/{issue_id}")
    row = await read_one(gateway, call.workspace_id, LISTING, issue_id)
    # The answer may be there already; what was asked for is that it be analysed.
    row = msgspec.structs.replace(row, status=ingest.IssueStatus.ANALYZING.value)
    return detail(row, style=call.query.severity_format)


async def get_prompt(gateway: Gateway, call: Call[NoQuery, None]) -> Prompt:
    """What was sent to a model for an analysis."""
    issue_id, analysis_id = call.path["issue_id"], call.path["analysis_id"]
    async with tenant(gateway.pool, call.workspace_id) as conn:
        found = await _queries.get_analysis(conn, workspace_id=call.workspace_id, analysis_id=analysis_id)
    if found is None or found.issue_id != issue_id:
        raise not_found("analysis", analysis_id)
    if found.prompt_expired_at is not None:
        raise not_found("prompt of analysis", analysis_id)
    history = await gateway.resources.event_log.history(call.workspace_id, "prompt", analysis_id)
    for event in history:
        if isinstance(event.data, ingest.ModelAsked):
            fields = msgspec.structs.asdict(event.data.exchange)
            fields |= {"analysis_id": analysis_id, "issue_id": issue_id}
            return msgspec.convert(fields, Prompt, from_attributes=True)
    raise not_found("prompt of analysis", analysis_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="analyzeIssue",
        method="POST",
        path="/v1/issues/{issue_id}/analyze",
        tag="Issues",
        summary="Ask why an issue happened.",
        description="Its status is `analyzing` at once; the answer is `analysis` of the issue once it is not any more."
        " While one runs, asking again changes nothing; of a workspace at most 100 run, then 429 `analysis_limit`.",
        scope="issues:write",
        query=FormatQuery,
        body=AnalysisRequest,
        is_body_optional=True,
        replies={200: Issue, 202: Accepted},
        deed=Deed("issue.analysis_requested", "other", "issue", "issue_id"),
        handle=analyze,
    ),
    Operation(
        id="getAnalysisPrompt",
        method="GET",
        path="/v1/issues/{issue_id}/analyses/{analysis_id}/prompt",
        tag="Issues",
        summary="See what a model was asked for an analysis, and what it answered.",
        description="404 where no model was asked, and once prompt logs are past their retention.",
        scope="workspace.compliance:read",
        replies={200: Prompt},
        handle=get_prompt,
    ),
)
