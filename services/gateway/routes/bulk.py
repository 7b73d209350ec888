"""One change to up to a hundred issues; each is judged by itself."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, assert_never

from contracts import ingest, pattern
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import AppError, ForbiddenError

from services.gateway import _queries
from services.gateway.edge.preconditions import patience
from services.gateway.identity.people.scribe import Outcome
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import (
    Answer,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
)
from services.gateway.vocabulary import AnyIssueStatus, Line

AT_ONCE_MAX = 16
"""Commands under way at the same time, so that a hundred do not hold up everybody else's."""

Ids: TypeAlias = Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=100)]


class SetStatus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="status"):
    """Move issues to a status."""

    ids: Ids
    value: Annotated[AnyIssueStatus, Meta(description="A status or a status group.")]


class Assign(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="assign"):
    """Give issues to a person."""

    ids: Ids
    value: Annotated[Line | None, Meta(description="null: to nobody.")]


class SetTeam(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="team"):
    """Give issues to a team."""

    ids: Ids
    value: Annotated[Line | None, Meta(description="null: to none.")]


class LinkPattern(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="link_pattern"
):
    """Put issues into a pattern by hand."""

    ids: Ids
    value: Annotated[Identifier, Meta(description="The pattern.")]


class UnlinkPattern(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="unlink_pattern"
):
    """Take issues out of their patterns by hand."""

    ids: Ids
    value: None = None


Bulk: TypeAlias = SetStatus | Assign | SetTeam | LinkPattern | UnlinkPattern


class BulkError(Struct, frozen=True, kw_only=True):
    """Why one issue was not changed, as it would be told of it alone."""

    code: str
    message: str


class BulkResult(Struct, frozen=True, kw_only=True):
    """What became of one issue."""

    id: str
    outcome: Literal["done", "failed"]
    error: BulkError | None


class BulkAnswer(Struct, frozen=True, kw_only=True):
    """What became of each issue, in the order given; an id that is given twice is answered once."""

    done: int
    failed: int
    results: tuple[BulkResult, ...]
    is_visible: Annotated[bool, Meta(description="Every GET shows it; false: it will in a moment.")]


async def change_issues(gateway: Gateway, call: Call[NoQuery, Bulk]) -> Answer:
    """Change each issue by itself and say what became of it; where all are refused, nothing was done."""
    if isinstance(call.body, LinkPattern | UnlinkPattern) and "patterns:write" not in call.principal.scopes:
        raise ForbiddenError("This needs the scope patterns:write.", details={"scope": "patterns:write"})
    ids = list(dict.fromkeys(call.body.ids))
    async with tenant(gateway.pool, call.workspace_id) as conn:
        found = await _queries.list_issue_states(conn, workspace_id=call.workspace_id, issue_ids=ids)
    known = {row.issue_id for row in found}
    under_way = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(issue_id: str) -> int | AppError:
        try:
            if issue_id not in known:
                raise not_found("issue", issue_id)
            async with under_way:
                return await _change(gateway, call, issue_id)
        except AppError as error:
            return error

    outcomes = await asyncio.gather(*map(one, ids))
    sequence = max((outcome for outcome in outcomes if isinstance(outcome, int)), default=0)
    is_visible = await gateway.resources.reached(call.workspace_id, sequence, timeout=patience.get())
    errors = [outcome if isinstance(outcome, AppError) else None for outcome in outcomes]
    answer = BulkAnswer(
        done=errors.count(None),
        failed=len(errors) - errors.count(None),
        results=tuple(
            BulkResult(id=issue_id, outcome="done", error=None)
            if error is None
            else BulkResult(
                id=issue_id, outcome="failed", error=BulkError(code=error.code, message=str(error))
            )
            for issue_id, error in zip(ids, errors, strict=True)
        ),
        is_visible=is_visible,
    )
    return Answer(200, answer, outcome=_outcome(errors))


def _outcome(errors: Sequence[AppError | None]) -> Outcome:
    """Of all of them together; what failed at our end may be done nevertheless."""
    if None in errors:
        return "done"
    return "unknown" if any(error is not None and error.status >= 500 for error in errors) else "refused"


async def _change(gateway: Gateway, call: Call[NoQuery, Bulk], issue_id: str) -> int:
    """Change one issue; the sequence that shows it. Raises AppError."""
    reply = await command(gateway, call.principal, request_of(call.body, issue_id), reply=_Appended)
    return reply.sequence


class _Appended(Struct, frozen=True):
    """What the replies to all of these commands have in common."""

    sequence: int


def request_of(bulk: Bulk, issue_id: str) -> Struct:
    """The command that changes one issue."""
    match bulk:
        case SetStatus(value=status):
            return ingest.UpdateIssue(issue_id=issue_id, status=status)
        case Assign(value=None):
            return ingest.UpdateIssue(issue_id=issue_id, cleared=("assignee",))
        case Assign(value=assignee):
            return ingest.UpdateIssue(issue_id=issue_id, assignee=assignee)
        case SetTeam(value=None):
            return ingest.UpdateIssue(issue_id=issue_id, cleared=("team",))
        case SetTeam(value=team):
            return ingest.UpdateIssue(issue_id=issue_id, team=team)
        case LinkPattern(value=pattern_id):
            return pattern.LinkIssue(issue_id=issue_id, pattern_id=pattern_id)
        case UnlinkPattern():
            return pattern.UnlinkIssue(issue_id=issue_id)
        case never:
            assert_never(never)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="changeIssues",
        method="POST",
        path="/v1/issues/bulk",
        tag="Issues",
        summary="Change up to 100 issues in the same way.",
        description="Each is judged by itself: one that is not there, or may not change so, never fails the rest."
        " `link_pattern` and `unlink_pattern` need the scope `patterns:write` as well.",
        scope="issues:write",
        body=Bulk,
        replies={200: BulkAnswer},
        deed=Deed("issues.changed", "update", "workspace", None),
        handle=change_issues,
    ),
)
