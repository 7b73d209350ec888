"""What people decided about memberships: the decisions in force, and those that contradict each other."""

from datetime import datetime
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from contracts import derived_id, pattern
from contracts.generated.pattern import ConstraintKind
from msgspec import Meta, Struct

from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.issues import Identifier
from services.gateway.routes.membership import Decider, decider
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

Kept = Literal["earlier", "later"]
ConstraintStatus = Literal["in_force", "contradicted"]
ContradictionStatus = Literal["open", "answered", "lapsed"]
_WORDS: Final = {ConstraintKind.MUST_LINK: "belong to", ConstraintKind.CANNOT_LINK: "never belong to"}


class ConstraintRow(Struct, frozen=True):
    """One row of constraint_rows."""

    grouping_key: str
    pattern_id: str
    seq: int
    kind: str
    issue_id: str
    issue_title: str | None
    pattern_name: str | None
    decided_by: str | None
    decided_at: datetime
    status: str
    contradiction_id: str | None


class Constraint(Struct, frozen=True, kw_only=True):
    """A person's decision that every later grouping obeys."""

    id: str
    kind: ConstraintKind
    status: Annotated[
        ConstraintStatus,
        Meta(description="contradicted: in force, and somebody is asked whether it should be."),
    ]
    pattern_id: Annotated[str, Meta(description="The pattern that remains, after merges.")]
    pattern_name: Annotated[str | None, Meta(description="Null: it is not detected.")]
    issue_id: Annotated[str, Meta(description="What it was about; every issue with its grouping key obeys.")]
    issue_title: Annotated[
        str | None, Meta(description="Null: the issue has been deleted; the decision stays.")
    ]
    decided_by: Decider
    decided_at: datetime
    contradiction_id: str | None


class ConstraintPage(Struct, frozen=True, kw_only=True):
    """A page of decisions."""

    data: tuple[Constraint, ...]
    page: PageInfo


class ConstraintQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of decisions."""

    kind: ConstraintKind | None = None
    status: ConstraintStatus | None = None
    pattern_id: Identifier | None = None
    issue_id: Identifier | None = None
    sort: Literal["decided_at", "-decided_at"] = "-decided_at"


class ContradictionRow(Struct, frozen=True):
    """One row of contradiction_rows."""

    contradiction_id: str
    seq: int
    grouping_key: str
    pattern_id: str
    found_at: datetime
    earlier: str
    later: str
    kept: str | None
    answered_by: str | None
    answered_at: datetime | None
    status: str


class Choice(Struct, frozen=True, kw_only=True):
    """One of two decisions that contradict each other."""

    kind: ConstraintKind
    pattern_id: str
    issue_id: Annotated[str | None, Meta(description="The issue that it was about; null: a merge.")]
    merged_pattern_id: Annotated[
        str | None, Meta(description="The pattern that was merged into it; null: none.")
    ]
    decided_by: Decider
    decided_at: datetime | None


class Contradiction(Struct, frozen=True, kw_only=True):
    """Two decisions about issues with the same grouping key, of which only one can be obeyed."""

    id: str
    status: Annotated[
        ContradictionStatus, Meta(description="lapsed: somebody has taken the earlier decision again.")
    ]
    question: str
    earlier: Choice
    later: Annotated[Choice, Meta(description="Obeyed until somebody chooses.")]
    found_at: datetime
    kept: Annotated[Kept | None, Meta(description="The answer.")]
    answered_by: Decider | None
    answered_at: datetime | None


class ContradictionPage(Struct, frozen=True, kw_only=True):
    """A page of contradictions."""

    data: tuple[Contradiction, ...]
    page: PageInfo


class ContradictionQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of contradictions."""

    status: Annotated[tuple[ContradictionStatus, ...] | None, Meta(description="Default: open.")] = None
    pattern_id: Annotated[Identifier | None, Meta(description="The pattern of the later decision.")] = None
    sort: Literal["found_at", "-found_at"] = "-found_at"


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the two decisions later issues obey."""

    keep: Kept


CONSTRAINTS = Listing(
    name="constraints",
    view="constraint_rows",
    row=ConstraintRow,
    sorts={"decided_at": SortKey("decided_at", "timestamptz")},
    default_sort="-decided_at",
    filters=(
        Filter("kind", "kind = {value}"),
        Filter("status", "status = {value}"),
        Filter("pattern_id", "pattern_id = {value}"),
        Filter("issue_id", "issue_id = {value}"),
    ),
)
CONTRADICTIONS = Listing(
    name="contradictions",
    view="contradiction_rows",
    row=ContradictionRow,
    key="contradiction_id",
    sorts={"found_at": SortKey("found_at", "timestamptz")},
    default_sort="-found_at",
    filters=(
        Filter("status", "status = ANY({value}::text[])", list, default=["open"]),
        Filter("pattern_id", "pattern_id = {value}"),
    ),
)


def _present_choice(text: str) -> Choice:
    ruling = msgspec.json.decode(text, type=pattern.Ruling)
    return Choice(
        kind=ruling.kind,
        pattern_id=ruling.pattern_id,
        issue_id=ruling.issue_id,
        merged_pattern_id=ruling.merged_pattern_id,
        decided_by=decider(ruling.decided_by),
        decided_at=ruling.decided_at,
    )


def _said(choice: Choice) -> str:
    if choice.merged_pattern_id is not None:
        return f"{choice.merged_pattern_id} was merged into {choice.pattern_id}"
    return f"issues like {choice.issue_id} {_WORDS[choice.kind]} {choice.pattern_id}"


def present(row: ContradictionRow) -> Contradiction:
    """A row as the API shows it."""
    earlier, later = _present_choice(row.earlier), _present_choice(row.later)
    return Contradiction(
        id=row.contradiction_id,
        status=row.status,  # type: ignore[arg-type]  # the view knows no other
        question=f"First it was decided that {_said(earlier)}, then that {_said(later)}, and both are about issues"
        " that count as the same failure. Which one shall the next of them obey?",
        earlier=earlier,
        later=later,
        found_at=row.found_at,
        kept=row.kept,  # type: ignore[arg-type]  # earlier or later
        answered_by=None if row.answered_at is None else decider(row.answered_by),
        answered_at=row.answered_at,
    )


async def list_constraints(gateway: Gateway, call: Call[ConstraintQuery, None]) -> ConstraintPage:
    """A page of the decisions in force."""
    found = await list_page(gateway, call, CONSTRAINTS)

    def one(row: ConstraintRow) -> Constraint:
        return Constraint(
            id=derived_id("cst_", call.workspace_id, row.grouping_key, row.pattern_id),
            kind=ConstraintKind(row.kind),
            status=row.status,  # type: ignore[arg-type]  # the view knows no other
            pattern_id=row.pattern_id,
            pattern_name=row.pattern_name or None,
            issue_id=row.issue_id,
            issue_title=row.issue_title,
            decided_by=decider(row.decided_by),
            decided_at=row.decided_at,
            contradiction_id=row.contradiction_id,
        )

    return ConstraintPage(data=shown(found, one), page=page_info(found))


async def list_contradictions(gateway: Gateway, call: Call[ContradictionQuery, None]) -> ContradictionPage:
    """A page of contradictions."""
    found = await list_page(gateway, call, CONTRADICTIONS)
    return ContradictionPage(data=shown(found, present), page=page_info(found))


async def get_contradiction(gateway: Gateway, call: Call[NoQuery, None]) -> Contradiction:
    """One contradiction."""
    identifier = call.path["contradiction_id"]
    return present(await read_one(gateway, call.workspace_id, CONTRADICTIONS, identifier))


async def answer_contradiction(gateway: Gateway, call: Call[NoQuery, Answer]) -> Contradiction:
    """Choose one of the two decisions."""
    row = await read_one(gateway, call.workspace_id, CONTRADICTIONS, call.path["contradiction_id"])
    if row.kept == call.body.keep:
        return present(row)
    request = pattern.AnswerContradiction(
        contradiction_id=row.contradiction_id,
        pattern_id=row.pattern_id,
        grouping_key=row.grouping_key,
        earlier=msgspec.json.decode(row.earlier, type=pattern.Ruling),
        keep=pattern.Side(call.body.keep),
    )
    answered, _ = await carry_out(gateway, call, CONTRADICTIONS, request, reply=pattern.PatternChanged)
    return present(answered)


_ONE = "/v1/contradictions/{contradiction_id}"
_Read = partial(Operation, tag="Patterns", method="GET", scope="patterns:read")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listConstraints",
        path="/v1/constraints",
        summary="List people's decisions that grouping obeys, newest first.",
        description="Links, unlinks, splits and answered suggestions make them; they hold for every later issue with"
        " the same grouping key and for every later version of grouping. Merges move them along.",
        query=ConstraintQuery,
        replies={200: ConstraintPage},
        handle=list_constraints,
    ),
    _Read(
        id="listContradictions",
        path="/v1/contradictions",
        summary="List decisions that contradict each other, newest first.",
        description="A decision that overrules an earlier one about another issue is obeyed, and asked about. To take"
        " back what was decided about the same issue is no contradiction.",
        query=ContradictionQuery,
        replies={200: ContradictionPage},
        handle=list_contradictions,
    ),
    _Read(
        id="getContradiction",
        path=_ONE,
        summary="Look at two decisions that contradict each other.",
        replies={200: Contradiction},
        handle=get_contradiction,
    ),
    Operation(
        id="answerContradiction",
        method="POST",
        path=f"{_ONE}/answer",
        tag="Patterns",
        summary="Choose which of two decisions later issues obey.",
        description="Issues that are members already stay where people put them. 409: the earlier decision is in force"
        " again.",
        scope="patterns:write",
        body=Answer,
        replies={200: Contradiction, 202: Accepted},
        refusals=(409, 422),
        deed=Deed("contradiction.answered", "update", "contradiction", "contradiction_id"),
        handle=answer_contradiction,
    ),
)
