"""Suggestions: patterns that issues may belong to, in a queue to accept or reject."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from contracts import pattern
from contracts.generated.pattern import LinkMethod
from msgspec import Meta, Struct
from runtime.errors import StateConflictError

from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.issues import Identifier
from services.gateway.routes.membership import Decider, Score, because, decider, matched
from services.gateway.routes.operation import Accepted, AnyOperation, Call, Deed, Gateway, NoQuery, Operation
from services.gateway.routes.pages import (
    ListQuery,
    PageInfo,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.vocabulary import LABELS, Severity, SeverityLabel

Status = Literal["open", "accepted", "rejected", "lapsed"]


class SuggestionRow(Struct, frozen=True):
    """One row of suggestion_rows."""

    suggestion_id: str
    seq: int
    issue_id: str
    begun_pattern_id: str
    pattern_id: str
    score: float
    method: str
    method_version: str
    matched_dimensions: str
    suggested_at: datetime
    answered_by: str | None
    answered_at: datetime | None
    status: str
    title: str
    severity: str
    source_created_at: datetime
    pattern_name: str
    pattern_status: str
    pattern_issue_count: int
    begun_issue_count: int
    example_issue_id: str | None
    example_title: str | None


class SuggestedIssue(Struct, frozen=True, kw_only=True):
    """The issue that a suggestion is about."""

    id: str
    title: str
    severity: Severity
    severity_label: SeverityLabel
    source_created_at: datetime
    pattern_id: Annotated[str, Meta(description="The pattern that it began; it stays there until an answer.")]
    pattern_issue_count: Annotated[
        int, Meta(description="Issues in that pattern; while it is not detected, all of them follow.")
    ]


class SuggestedPattern(Struct, frozen=True, kw_only=True):
    """The pattern suggested."""

    id: str
    name: Annotated[str | None, Meta(description="Null: it is a candidate, with too few issues to be shown.")]
    status: pattern.PatternStatus
    issue_count: int
    example_issue_id: Annotated[str | None, Meta(description="Its oldest issue, to compare with.")]
    example_title: str | None


class Suggestion(Struct, frozen=True, kw_only=True):
    """A pattern that an issue may belong to, not surely enough to put it there."""

    id: str
    status: Annotated[
        Status,
        Meta(description="lapsed: the issue has left the pattern that it began, or the other was merged."),
    ]
    issue: SuggestedIssue
    pattern: SuggestedPattern
    probability: Annotated[Score, Meta(description="That the issue belongs to the pattern.")]
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...]
    because: Annotated[str, Meta(description="All of this in a sentence.")]
    suggested_at: datetime
    answered_by: Decider | None
    answered_at: datetime | None


class SuggestionPage(Struct, frozen=True, kw_only=True):
    """A page of suggestions."""

    data: tuple[Suggestion, ...]
    page: PageInfo


class SuggestionQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of suggestions."""

    status: Annotated[tuple[Status, ...] | None, Meta(description="Default: open.")] = None
    pattern_id: Annotated[Identifier | None, Meta(description="The pattern suggested.")] = None
    issue_id: Identifier | None = None
    min_probability: Score | None = None
    sort: Literal["suggested_at", "-suggested_at", "probability", "-probability"] = "-suggested_at"


LISTING = Listing(
    name="suggestions",
    view="suggestion_rows",
    row=SuggestionRow,
    key="suggestion_id",
    sorts={
        "suggested_at": SortKey("suggested_at", "timestamptz"),
        "probability": SortKey("score", "double precision"),
    },
    default_sort="-suggested_at",
    filters=(
        Filter("status", "status = ANY({value}::text[])", list, default=["open"]),
        Filter("pattern_id", "pattern_id = {value}"),
        Filter("issue_id", "issue_id = {value}"),
        Filter("min_probability", "score >= {value}"),
    ),
)


def present(row: SuggestionRow) -> Suggestion:
    """A row as the API shows it."""
    method, dimensions = LinkMethod(row.method), matched(row.matched_dimensions)
    return Suggestion(
        id=row.suggestion_id,
        status=row.status,  # type: ignore[arg-type]  # the view knows no other
        issue=SuggestedIssue(
            id=row.issue_id,
            title=row.title,
            severity=row.severity,  # type: ignore[arg-type]  # p1 … p4
            severity_label=LABELS[row.severity],
            source_created_at=row.source_created_at,
            pattern_id=row.begun_pattern_id,
            pattern_issue_count=row.begun_issue_count,
        ),
        pattern=SuggestedPattern(
            id=row.pattern_id,
            name=row.pattern_name or None,
            status=pattern.PatternStatus(row.pattern_status),
            issue_count=row.pattern_issue_count,
            example_issue_id=row.example_issue_id,
            example_title=row.example_title,
        ),
        probability=row.score,
        method=method,
        method_version=row.method_version,
        matched_dimensions=dimensions,
        because=because(
            method=method,
            version=row.method_version,
            score=row.score,
            dimensions=dimensions,
            decided_by=decider(None),
        ),
        suggested_at=row.suggested_at,
        answered_by=None if row.answered_at is None else decider(row.answered_by),
        answered_at=row.answered_at,
    )


async def list_suggestions(gateway: Gateway, call: Call[SuggestionQuery, None]) -> SuggestionPage:
    """A page of suggestions."""
    found = await list_page(gateway, call, LISTING)
    return SuggestionPage(data=shown(found, present), page=page_info(found))


async def get_suggestion(gateway: Gateway, call: Call[NoQuery, None]) -> Suggestion:
    """One suggestion."""
    return present(await read_one(gateway, call.workspace_id, LISTING, call.path["suggestion_id"]))


async def accept_suggestion(gateway: Gateway, call: Call[NoQuery, None]) -> Suggestion:
    """Put the issue into the pattern, for good."""
    return await _answer(gateway, call, is_accepted=True)


async def reject_suggestion(gateway: Gateway, call: Call[NoQuery, None]) -> Suggestion:
    """Keep the issue and later ones like it out of the pattern, for good."""
    return await _answer(gateway, call, is_accepted=False)


async def _answer(gateway: Gateway, call: Call[NoQuery, None], *, is_accepted: bool) -> Suggestion:
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["suggestion_id"])
    answer = "accepted" if is_accepted else "rejected"
    if row.status == answer:
        return present(row)
    if row.status in ("accepted", "rejected"):
        raise StateConflictError(
            f"The suggestion was {row.status} by {row.answered_by or 'the engine'}; link or unlink the issue instead.",
            details={"suggestion": row.status},
        )
    request = pattern.AnswerSuggestion(
        pattern_id=row.pattern_id,
        issue_id=row.issue_id,
        begun_pattern_id=row.begun_pattern_id,
        is_accepted=is_accepted,
    )
    answered, _ = await carry_out(gateway, call, LISTING, request, reply=pattern.PatternChanged)
    return present(answered)


_ALL, _ONE = "/v1/suggestions", "/v1/suggestions/{suggestion_id}"
_Read = partial(Operation, tag="Patterns", method="GET", scope="patterns:read")
_Answer = partial(
    Operation,
    tag="Patterns",
    method="POST",
    scope="patterns:write",
    replies={200: Suggestion, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listSuggestions",
        path=_ALL,
        summary="List the patterns that issues may belong to, newest first: a queue for people.",
        description="Grouping joins an issue to a pattern by itself only when it is sure enough; what is less sure,"
        " and not improbable, is suggested here. The issue stays in the pattern that it began until somebody answers.",
        query=SuggestionQuery,
        replies={200: SuggestionPage},
        handle=list_suggestions,
    ),
    _Read(
        id="getSuggestion",
        path=_ONE,
        summary="Look at a suggestion.",
        replies={200: Suggestion},
        handle=get_suggestion,
    ),
    _Answer(
        id="acceptSuggestion",
        path=f"{_ONE}/accept",
        summary="Put the issue into the pattern suggested; later issues like it follow.",
        description="While the pattern that the issue began is not detected, its other issues come along."
        " 409: somebody answered differently, or the suggestion has lapsed, and why.",
        deed=Deed("suggestion.accepted", "update", "suggestion", "suggestion_id"),
        handle=accept_suggestion,
    ),
    _Answer(
        id="rejectSuggestion",
        path=f"{_ONE}/reject",
        summary="Keep the issue, and later ones like it, out of the pattern suggested.",
        description="It is never suggested again. 409: somebody answered differently, or the suggestion has lapsed.",
        deed=Deed("suggestion.rejected", "update", "suggestion", "suggestion_id"),
        handle=reject_suggestion,
    ),
)
