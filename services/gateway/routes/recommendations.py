"""Recommendations: list by rank, look at, take up or dismiss, tick steps."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec
from contracts import connector, recommendation
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.listing import Filter, Listing, SortKey, fetch_one
from services.gateway.routes import patterns
from services.gateway.routes.connectors import VENDOR_SECONDS, deed
from services.gateway.routes.issues import Identifier, Moment
from services.gateway.routes.operation import (
    Accepted,
    Answer,
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
from services.gateway.routes.pages import (
    PageInfo,
    PastListQuery,
    PastQuery,
    carry_out,
    list_page,
    page_info,
    read_one,
)
from services.gateway.routes.proofs import Proof, Scope, proofs_by_pattern, shown_proof
from services.gateway.routes.trackers import Push, Ticket, connector_for, tickets_of
from services.gateway.vocabulary import Note

TITLE_LENGTH_MAX: Final = 250
"""Of a ticket; GitLab takes 255."""
MARKDOWN_LENGTH_MAX: Final = 32_768
"""Of a ticket; Jira takes no more."""

Type = Literal["code_fix", "config_change", "process", "monitoring"]
Status = Literal["pending", "in_progress", "implemented", "dismissed"]
Effort = Literal["low", "medium", "high"]
Impact = Literal["high", "medium", "quick_win"]
Sort = Literal[
    "rank", "-rank", "created_at", "-created_at", "updated_at", "-updated_at",
    "expected_loops_prevented", "-expected_loops_prevented",
]  # fmt: skip
_SYNONYMS = {"config": "config_change"}


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
    """score = expected_loops_prevented · severity_weight / effort_days; docs/reference/ranking.md has the rest."""

    fix_holds_probability: float
    expected_recurrences: float
    horizon_days: int
    severity_weight: float
    effort_days: float
    expected_loops_prevented: float
    score: float
    explanation: str
    fit: Annotated[float, Meta(ge=0, le=1, description="How well the play's marks fit the pattern.")]
    holds_probability: Annotated[float, Meta(ge=0, le=1, description="That such a fix holds where it fits.")]
    n_verified: Annotated[int, Meta(ge=0, description="Verified fixes of its type and effort here.")]
    n_broken: Annotated[int, Meta(ge=0, description="Broken fixes of its type and effort here.")]
    alive_probability: Annotated[float, Meta(ge=0, le=1, description="That the pattern is not over yet.")]
    calibration_ratio: Annotated[
        float, Meta(ge=0, description="Recurrences seen here over those that forecasts foretold.")
    ]


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
    proof: Annotated[Proof | None, Meta(description="Of the latest fix that it is part of; null: none.")]
    tickets: Annotated[tuple[Ticket, ...], Meta(description="In trackers, the oldest first.")]
    play_id: str
    playbook_version: str
    created_at: datetime
    updated_at: datetime


class NoneRecommended(Struct, frozen=True, kw_only=True):
    """Why there is nothing."""

    code: Annotated[
        Literal["filtered", "unknown_pattern", "closed", "withheld", "not_sure", "no_pattern"],
        Meta(description="withheld: no play fits well enough. not_sure: below the workspace's threshold."),
    ]
    message: str
    best_play_id: Annotated[str | None, Meta(description="With withheld: what comes closest.")] = None
    best_fit: Annotated[float, Meta(ge=0, le=1, description="How well that fits the pattern.")] | None = None
    floor: Annotated[float, Meta(ge=0, le=1, description="The least fit that is recommended.")] | None = None


class RecommendationPage(Struct, frozen=True, kw_only=True):
    """A page of recommendations; never an empty list without the reason."""

    data: tuple[Recommendation, ...]
    page: PageInfo
    reason: Annotated[NoneRecommended | None, Meta(description="Why there is none; null: there are some.")]


class RecommendationQuery(PastListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class _Move(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="status"):
    """The status wanted, and why."""

    to_status: ClassVar[recommendation.RecommendationStatus]
    reason: Note = ""


class ReopenRecommendation(_Move, frozen=True, kw_only=True, tag="pending"):
    """Nobody works on it."""

    to_status = recommendation.RecommendationStatus.PENDING


class TakeUpRecommendation(_Move, frozen=True, kw_only=True, tag="in_progress"):
    """Somebody works on it."""

    to_status = recommendation.RecommendationStatus.IN_PROGRESS


class AcceptRecommendation(_Move, frozen=True, kw_only=True, tag="accepted"):
    """The same as in_progress."""

    to_status = recommendation.RecommendationStatus.IN_PROGRESS


class ImplementRecommendation(_Move, frozen=True, kw_only=True, tag="implemented"):
    """It is done; only then there is a place and a time where it was."""

    to_status = recommendation.RecommendationStatus.IMPLEMENTED
    environment: Annotated[Scope | None, Meta(description="Where it was; absent: everywhere.")] = None
    version: Annotated[Scope | None, Meta(description="First version that has it, if it is known.")] = None
    implemented_at: Annotated[Moment | None, Meta(description="When; absent: now.")] = None


class DismissRecommendation(_Move, frozen=True, kw_only=True, tag="dismissed"):
    """It is not wanted."""

    to_status = recommendation.RecommendationStatus.DISMISSED


StatusChange: TypeAlias = (
    ReopenRecommendation
    | TakeUpRecommendation
    | AcceptRecommendation
    | ImplementRecommendation
    | DismissRecommendation
)


class StepCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a step is done."""

    is_done: bool = True


LISTING = Listing(
    name="recommendations",
    view="recommendation_rows",
    row=RecommendationRow,
    key="recommendation_id",
    sorts={
        # Rank 1 has the highest score.
        "rank": SortKey("rank_score", "double precision", is_inverted=True),
        "created_at": SortKey("created_at", "timestamptz"),
        "updated_at": SortKey("updated_at", "timestamptz"),
        "expected_loops_prevented": SortKey("expected_loops_prevented", "double precision"),
    },
    default_sort="rank",
    filters=(
        Filter(
            "type", "type = ANY({value}::text[])", lambda given: [_SYNONYMS.get(word, word) for word in given]
        ),
        Filter("status", "status = ANY({value}::text[])", list),
        Filter("impact", "impact = ANY({value}::text[])", list),
        Filter("pattern_id", "pattern_id = {value}"),
    ),
)


def present(
    row: RecommendationRow, *, rank: int | None, proof: Proof | None = None, tickets: Sequence[Ticket] = ()
) -> Recommendation:
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
        "proof": proof,
        "tickets": tickets,
    }
    return msgspec.convert(fields, Recommendation)


async def ranked(
    gateway: Gateway, workspace_id: str, rows: Sequence[RecommendationRow]
) -> tuple[Recommendation, ...]:
    """Rows as the API shows them, with their positions by score among the workspace's open recommendations."""
    async with tenant(gateway.pool, workspace_id) as conn:
        ranked = await _queries.rank_recommendations(
            conn, workspace_id=workspace_id, recommendation_ids=[row.recommendation_id for row in rows]
        )
    ranks = {row.recommendation_id: row.rank for row in ranked}
    fixes = await proofs_by_pattern(
        gateway, workspace_id, [row.pattern_id for row in rows if row.status == "implemented"]
    )
    tickets = await tickets_of(gateway, workspace_id, [row.recommendation_id for row in rows])
    now = gateway.resources.clock()

    def proof_of(row: RecommendationRow) -> Proof | None:
        for fix in fixes.get(row.pattern_id, ()):
            if row.recommendation_id in msgspec.json.decode(fix.recommendation_ids, type=list[str]):
                return shown_proof(fix, now=now)
        return None

    return tuple(
        present(
            row,
            rank=ranks.get(row.recommendation_id),
            proof=proof_of(row),
            tickets=tickets.get(row.recommendation_id, ()),
        )
        for row in rows
    )


async def list_recommendations(gateway: Gateway, call: Call[RecommendationQuery, None]) -> RecommendationPage:
    """A page of recommendations."""
    found = await list_page(gateway, call, LISTING)
    return RecommendationPage(
        data=await ranked(gateway, call.workspace_id, found.rows),
        page=page_info(found),
        reason=None if found.total else await _why_none(gateway, call.workspace_id, call.query.pattern_id),
    )


async def _why_none(gateway: Gateway, workspace_id: str, pattern_id: str | None) -> NoneRecommended:
    """Why a list without a row has none. pattern_id: of which pattern; None: of the whole workspace."""
    async with tenant(gateway.pool, workspace_id) as conn:
        counted = await _queries.count_recommended(conn, workspace_id=workspace_id, pattern_id=pattern_id)
    if counted is None or counted.n_made:
        return NoneRecommended(code="filtered", message="There are some, but none of what is asked for.")
    if pattern_id is not None:
        return await _why_none_of(gateway, workspace_id, pattern_id)
    if not counted.n_patterns:
        return NoneRecommended(code="no_pattern", message="There is no pattern that goes on.")
    if counted.n_withheld:
        return NoneRecommended(
            code="withheld",
            message=f"Of {counted.n_patterns} patterns that go on {counted.n_withheld} have no play that fits well"
            " enough; of the others the workspace is not sure enough yet.",
        )
    return _not_sure("No pattern's confidence has")


async def _why_none_of(gateway: Gateway, workspace_id: str, pattern_id: str) -> NoneRecommended:
    seen = await fetch_one(gateway.pool, patterns.LISTING, workspace_id=workspace_id, identifier=pattern_id)
    if seen is None:
        return NoneRecommended(code="unknown_pattern", message=f"There is no pattern {pattern_id}.")
    if seen.status in ("resolved", "merged"):
        message = f"The pattern is {seen.status}; nothing is recommended for it any more."
        return NoneRecommended(code="closed", message=message)
    async with tenant(gateway.pool, workspace_id) as conn:
        said = await _queries.find_abstention(conn, workspace_id=workspace_id, pattern_id=pattern_id)
    if said is None:
        return _not_sure(f"The pattern's confidence of {seen.confidence:.2f} has")
    closest = (
        "Nothing in the pattern speaks for any play of the playbook"
        if said.best_play_id is None
        else f"Of the playbook “{said.best_play_title}” comes closest and fits with {said.best_fit:.2f}"
    )
    return NoneRecommended(
        code="withheld",
        message=f"{closest}; {said.floor:.2f} is the least that is recommended.",
        best_play_id=said.best_play_id,
        best_fit=said.best_fit,
        floor=said.floor,
    )


def _not_sure(whose: str) -> NoneRecommended:
    message = f"{whose} not reached the workspace's confidence_threshold, or it is being decided right now."
    return NoneRecommended(code="not_sure", message=message)


async def get_recommendation(gateway: Gateway, call: Call[PastQuery, None]) -> Recommendation:
    """One recommendation."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["recommendation_id"])
    (shown,) = await ranked(gateway, call.workspace_id, [row])
    return shown


async def _changed(gateway: Gateway, call: Call[NoQuery, Struct], request: Struct) -> Recommendation:
    row, _ = await carry_out(gateway, call, LISTING, request, reply=recommendation.RecommendationChanged)
    (shown,) = await ranked(gateway, call.workspace_id, [row])
    return shown


async def change_status(gateway: Gateway, call: Call[NoQuery, StatusChange]) -> Recommendation:
    """Take a recommendation up, finish, reopen or dismiss it."""
    body = call.body
    done = body if isinstance(body, ImplementRecommendation) else None
    request = recommendation.ChangeStatus(
        recommendation_id=call.path["recommendation_id"],
        status=body.to_status,
        reason=body.reason,
        environment=None if done is None else done.environment,
        version=None if done is None else done.version,
        implemented_at=None if done is None else done.implemented_at,
    )
    return await _changed(gateway, call, request)


async def check_step(gateway: Gateway, call: Call[NoQuery, StepCheck]) -> Recommendation:
    """Tick a step, or take the tick back."""
    recommendation_id, step = call.path["recommendation_id"], call.path["index"]
    row = await read_one(gateway, call.workspace_id, LISTING, recommendation_id)
    n_steps = len(msgspec.json.decode(row.steps, type=tuple[recommendation.Step, ...]))
    if not step.isdecimal() or len(step) > 4 or int(step) >= n_steps:
        raise not_found("step", step)
    request = recommendation.CheckStep(
        recommendation_id=recommendation_id, step_index=int(step), is_done=call.body.is_done
    )
    return await _changed(gateway, call, request)


async def push(gateway: Gateway, call: Call[NoQuery, Push]) -> Answer:
    """Make a ticket of a recommendation, or find the one that there is."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["recommendation_id"])
    through = await connector_for(gateway, call.workspace_id, call.body)
    request = connector.PushTicket(
        recommendation_id=row.recommendation_id,
        connector_id=through.connector_id,
        title=_ticket_title(row),
        markdown=_ticket_text(row),
        target=call.body.target,
    )
    named = {"recommendation": row.recommendation_id}
    pushed = deed(gateway, call, "recommendation.pushed", "create", through.connector_id, **named)
    async with pushed as ending:
        reply = await command(
            gateway, call.principal, request, reply=connector.TicketPushed, timeout=VENDOR_SECONDS
        )
        ending.metadata["ticket"] = reply.ticket.ticket_id
        ending.outcome = "done" if reply.is_new else "refused"
    location = f"/v1/recommendations/{row.recommendation_id}"
    await settle(gateway, call.workspace_id, reply.sequence, location=location)
    found = await tickets_of(gateway, call.workspace_id, [row.recommendation_id])
    for ticket in found.get(row.recommendation_id, ()):
        if ticket.id == reply.ticket.ticket_id:
            return Answer(201 if reply.is_new else 200, ticket)
    raise not_found("ticket", reply.ticket.ticket_id)


def _ticket_title(row: RecommendationRow) -> str:
    """The title in one line, with the pattern's name, which says what it is about."""
    line = " ".join(f"{row.title}: {row.pattern_name}".split() if row.pattern_name else row.title.split())
    return line if len(line) <= TITLE_LENGTH_MAX else f"{line[: TITLE_LENGTH_MAX - 1]}…"


def _ticket_text(row: RecommendationRow) -> str:
    """What is wrong, what to do as a list to tick, how to see that it worked, and why we think so; in Markdown."""
    steps = msgspec.json.decode(row.steps, type=tuple[recommendation.Step, ...])
    ticks = "\n".join(
        f"- [{'x' if index in row.steps_done else ' '}] **{step.title}** {step.description}"
        for index, step in enumerate(steps)
    )
    evidence = "\n".join(f"- {sentence}" for sentence in msgspec.json.decode(row.evidence, type=list[str]))
    parts = [row.description, "## What to do", ticks, "## How to see that it worked", row.verification]
    if evidence:
        parts += ["## Why", evidence]
    return "\n\n".join(parts)[:MARKDOWN_LENGTH_MAX]


_ALL, _ONE = "/v1/recommendations", "/v1/recommendations/{recommendation_id}"
_Read = partial(Operation, tag="Recommendations", method="GET", scope="recommendations:read")
_Change = partial(
    Operation,
    tag="Recommendations",
    scope="recommendations:write",
    replies={200: Recommendation, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listRecommendations",
        path=_ALL,
        summary="List recommendations, the best first.",
        query=RecommendationQuery,
        has_past=True,
        replies={200: RecommendationPage},
        handle=list_recommendations,
    ),
    _Read(
        id="getRecommendation",
        path=_ONE,
        summary="Look at a recommendation, now or as it was.",
        query=PastQuery,
        has_past=True,
        replies={200: Recommendation},
        handle=get_recommendation,
    ),
    _Change(
        id="updateRecommendation",
        method="PATCH",
        path=_ONE,
        summary="Take a recommendation up, finish, reopen or dismiss it.",
        body=StatusChange,
        deed=Deed("recommendation.updated", "update", "recommendation", "recommendation_id"),
        handle=change_status,
    ),
    _Change(
        id="checkRecommendationStep",
        method="PUT",
        path=f"{_ONE}/steps/{{index}}",
        summary="Tick a step, or take the tick back.",
        body=StepCheck,
        deed=Deed("recommendation.step_checked", "update", "recommendation", "recommendation_id"),
        handle=check_step,
    ),
    _Change(
        id="pushRecommendation",
        method="POST",
        path=f"{_ONE}/push",
        summary="Make a ticket of a recommendation in a tracker.",
        description="Once per recommendation and connector: a ticket that is there already is answered with 200. Which types"
        " take tickets, and what `target` they need, is in the catalogue of sources.",
        body=Push,
        replies={201: Ticket, 200: Ticket, 202: Accepted},
        handle=push,
    ),
)
