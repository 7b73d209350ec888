"""Recommendations: list by rank, look at, take up or dismiss, tick steps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from contracts import recommendation
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.listing import Condition, Listing, SortKey, fetch_one
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
    settle,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info
from services.gateway.vocabulary import Note

Type = Literal["code_fix", "config_change", "process", "monitoring"]
Status = Literal["pending", "in_progress", "implemented", "dismissed"]
Effort = Literal["low", "medium", "high"]
Impact = Literal["high", "medium", "quick_win"]
Sort = Literal[
    "rank", "-rank", "created_at", "-created_at", "updated_at", "-updated_at",
    "expected_loops_prevented", "-expected_loops_prevented",
]  # fmt: skip
_SYNONYMS = {"config": "config_change", "accepted": "in_progress"}


class RecommendationRow(Struct, frozen=True):
    """One row of recommendation_rows."""

    recommendation_id: str
    seq: int
    pattern_id: str
    pattern_name: str | None
    play_id: str
    playbook_version: str
    title: str
    description: str
    type: str
    effort: str
    impact: str
    status: str
    status_reason: str
    steps: str
    steps_done: list[int]
    verification: str
    evidence: str
    arithmetic: str
    score: float
    expected_loops_prevented: float
    rank_score: float
    created_at: datetime
    updated_at: datetime


class PlanStep(Struct, frozen=True, kw_only=True):
    """One step of the plan."""

    index: int
    title: str
    description: str
    is_done: bool


class Score(Struct, frozen=True, kw_only=True):
    """score = expected_loops_prevented · severity_weight / effort_days."""

    fix_holds_probability: float
    expected_recurrences: float
    horizon_days: int
    severity_weight: float
    effort_days: float
    expected_loops_prevented: float
    score: float
    explanation: str


class Recommendation(Struct, frozen=True, kw_only=True):
    """A ranked remediation for a pattern."""

    id: str
    pattern_id: str
    pattern_name: str | None
    rank: Annotated[int | None, Meta(description="1 is the best of the open ones; null when not open.")]
    title: str
    description: str
    type: Type
    status: Status
    status_reason: str
    effort: Effort
    impact: Impact
    expected_loops_prevented: float
    score: float
    arithmetic: Score
    steps: tuple[PlanStep, ...]
    verification: Annotated[str, Meta(description="What would show that it worked.")]
    evidence: Annotated[tuple[str, ...], Meta(description="Why it fits this pattern.")]
    play_id: str
    playbook_version: str
    created_at: datetime
    updated_at: datetime


class RecommendationPage(Struct, frozen=True, kw_only=True):
    """A page of recommendations."""

    data: tuple[Recommendation, ...]
    page: PageInfo


class RecommendationQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of recommendations."""

    type: Annotated[
        tuple[Literal["code_fix", "config_change", "config", "process", "monitoring"], ...] | None,
        Meta(description="config is the same as config_change."),
    ] = None
    status: tuple[Status, ...] | None = None
    impact: tuple[Impact, ...] | None = None
    pattern_id: Identifier | None = None
    sort: Annotated[
        Sort, Meta(description="rank: the best of the open ones first, the others after them.")
    ] = "rank"


class StatusChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The status wanted."""

    status: Annotated[
        Literal["pending", "in_progress", "implemented", "dismissed", "accepted"],
        Meta(description="accepted is the same as in_progress."),
    ]
    reason: Note = ""


class StepCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a step is done."""

    is_done: bool = True


LISTING = Listing(
    name="recommendations",
    view="recommendation_rows",
    row=RecommendationRow,
    sorts={
        # Rank 1 has the highest score.
        "rank": SortKey("rank_score", "double precision", is_inverted=True),
        "created_at": SortKey("created_at", "timestamptz"),
        "updated_at": SortKey("updated_at", "timestamptz"),
        "expected_loops_prevented": SortKey("expected_loops_prevented", "double precision"),
    },
    default_sort="rank",
)


def present(row: RecommendationRow, *, rank: int | None) -> Recommendation:
    """A row as the API shows it."""
    fields = msgspec.structs.asdict(row)
    steps = msgspec.json.decode(row.steps, type=tuple[recommendation.Step, ...])
    fields |= {
        "id": row.recommendation_id,
        "rank": rank,
        "steps": [
            {"index": i, "title": s.title, "description": s.description, "is_done": i in row.steps_done}
            for i, s in enumerate(steps)
        ],
        "evidence": msgspec.json.decode(row.evidence),
        "arithmetic": msgspec.json.decode(row.arithmetic),
    }
    return msgspec.convert(fields, Recommendation)


async def _ranks(gateway: Gateway, workspace_id: str, rows: Sequence[RecommendationRow]) -> dict[str, int]:
    """Positions by score among the workspace's open recommendations; a closed one has none."""
    async with tenant(gateway.pool, workspace_id) as conn:
        ranked = await _queries.rank_recommendations(
            conn, workspace_id=workspace_id, recommendation_ids=[row.recommendation_id for row in rows]
        )
    return {row.recommendation_id: row.rank for row in ranked}


async def list_recommendations(gateway: Gateway, call: Call[RecommendationQuery, None]) -> RecommendationPage:
    """A page of recommendations."""
    query = call.query
    types = [_SYNONYMS.get(word, word) for word in query.type] if query.type else None
    candidates = (
        Condition("type = ANY({value}::text[])", types),
        Condition("status = ANY({value}::text[])", list(query.status) if query.status else None),
        Condition("impact = ANY({value}::text[])", list(query.impact) if query.impact else None),
        Condition("pattern_id = {value}", query.pattern_id),
    )
    conditions = [condition for condition in candidates if condition.value is not None]
    found = await list_page(gateway, call, LISTING, conditions=conditions, sort=query.sort)
    ranks = await _ranks(gateway, call.workspace_id, found.rows)
    data = tuple(present(row, rank=ranks.get(row.recommendation_id)) for row in found.rows)
    return RecommendationPage(data=data, page=page_info(found))


async def read_recommendation(gateway: Gateway, workspace_id: str, recommendation_id: str) -> Recommendation:
    """A recommendation. Raises NotFoundError."""
    condition = Condition("recommendation_id = {value}", recommendation_id)
    row = await fetch_one(gateway.pool, LISTING, workspace_id=workspace_id, condition=condition)
    if row is None:
        raise not_found("recommendation", recommendation_id)
    ranks = await _ranks(gateway, workspace_id, [row])
    return present(row, rank=ranks.get(recommendation_id))


async def get_recommendation(gateway: Gateway, call: Call[NoQuery, None]) -> Recommendation:
    """One recommendation."""
    return await read_recommendation(gateway, call.workspace_id, call.path["recommendation_id"])


async def _changed(gateway: Gateway, call: Call[NoQuery, Struct], request: Struct) -> Recommendation:
    reply = await command(gateway, call.principal, request, reply=recommendation.RecommendationChanged)
    await settle(gateway, call.workspace_id, reply.sequence)
    return await read_recommendation(gateway, call.workspace_id, call.path["recommendation_id"])


async def change_status(gateway: Gateway, call: Call[NoQuery, StatusChange]) -> Recommendation:
    """Take a recommendation up, finish, reopen or dismiss it."""
    recommendation_id = call.path["recommendation_id"]
    await read_recommendation(gateway, call.workspace_id, recommendation_id)
    word = _SYNONYMS.get(call.body.status, call.body.status)
    request = recommendation.ChangeStatus(
        recommendation_id=recommendation_id,
        status=recommendation.RecommendationStatus(word),
        reason=call.body.reason,
    )
    return await _changed(gateway, call, request)


async def check_step(gateway: Gateway, call: Call[NoQuery, StepCheck]) -> Recommendation:
    """Tick a step, or take the tick back."""
    recommendation_id, step = call.path["recommendation_id"], call.path["index"]
    known = await read_recommendation(gateway, call.workspace_id, recommendation_id)
    if not step.isdecimal() or len(step) > 4 or int(step) >= len(known.steps):
        raise not_found("step", step)
    request = recommendation.CheckStep(
        recommendation_id=recommendation_id, step_index=int(step), is_done=call.body.is_done
    )
    return await _changed(gateway, call, request)


_ONE = "/v1/recommendations/{recommendation_id}"

OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listRecommendations",
        method="GET",
        path="/v1/recommendations",
        tag="Recommendations",
        summary="List recommendations, the best first.",
        scope="recommendations:read",
        query=RecommendationQuery,
        replies={200: RecommendationPage},
        handle=list_recommendations,
    ),
    Operation(
        id="getRecommendation",
        method="GET",
        path=_ONE,
        tag="Recommendations",
        summary="Look at a recommendation.",
        scope="recommendations:read",
        replies={200: Recommendation},
        handle=get_recommendation,
    ),
    Operation(
        id="updateRecommendation",
        method="PATCH",
        path=_ONE,
        tag="Recommendations",
        summary="Take a recommendation up, finish, reopen or dismiss it.",
        scope="recommendations:write",
        body=StatusChange,
        replies={200: Recommendation, 202: Accepted},
        refusals=(409, 422),
        handle=change_status,
    ),
    Operation(
        id="checkRecommendationStep",
        method="PUT",
        path=f"{_ONE}/steps/{{index}}",
        tag="Recommendations",
        summary="Tick a step, or take the tick back.",
        scope="recommendations:write",
        body=StepCheck,
        replies={200: Recommendation, 202: Accepted},
        refusals=(409, 422),
        handle=check_step,
    ),
)
