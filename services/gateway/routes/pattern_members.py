"""The issues of a pattern, each with the reasons of its membership."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.membership import Reasons, reasons
from services.gateway.routes.operation import AnyOperation, Call, Gateway, Operation
from services.gateway.routes.pages import PageInfo, PastListQuery, list_page, page_info, read_one, shown
from services.gateway.routes.patterns import LISTING
from services.gateway.vocabulary import LABELS, IssueStatus, Severity, SeverityLabel


class MemberRow(Struct, frozen=True):
    """One row of member_rows."""

    issue_id: str
    seq: int
    score: float
    method: str
    method_version: str
    matched_dimensions: str
    occurred_at: datetime
    linked_at: datetime
    linked_by: str | None
    merged_from: str | None
    merged_by: str | None
    merged_at: datetime | None
    title: str
    severity: str
    status: str
    source: str
    external_id: str


class Member(Reasons, frozen=True, kw_only=True):
    """An issue in a pattern, and why it is there."""

    issue_id: str
    title: str
    severity: Severity
    severity_label: SeverityLabel
    status: IssueStatus
    source: str
    external_id: str
    occurred_at: datetime


class MemberPage(Struct, frozen=True, kw_only=True):
    """A page of members."""

    data: tuple[Member, ...]
    page: PageInfo


class MemberQuery(PastListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Order of the members."""

    sort: Literal["occurred_at", "-occurred_at", "linked_at", "-linked_at", "similarity", "-similarity"] = (
        "-occurred_at"
    )


MEMBERS = Listing(
    name="members",
    view="member_rows",
    row=MemberRow,
    sorts={
        "occurred_at": SortKey("occurred_at", "timestamptz"),
        "linked_at": SortKey("linked_at", "timestamptz"),
        "similarity": SortKey("score", "double precision"),
    },
    default_sort="-occurred_at",
)


async def list_members(gateway: Gateway, call: Call[MemberQuery, None]) -> MemberPage:
    """A page of a pattern's issues."""
    pattern_id = call.path["pattern_id"]
    await read_one(gateway, call.workspace_id, LISTING, pattern_id)
    mine = [Condition("pattern_id = {value}", pattern_id)]
    found = await list_page(gateway, call, MEMBERS, conditions=mine, of=pattern_id)
    return MemberPage(data=shown(found, _present_member), page=page_info(found))


def _present_member(row: MemberRow) -> Member:
    fields = msgspec.structs.asdict(row)
    fields |= {
        "severity_label": LABELS[row.severity],
        **reasons(
            score=row.score,
            method=row.method,
            method_version=row.method_version,
            matched_dimensions=row.matched_dimensions,
            linked_at=row.linked_at,
            linked_by=row.linked_by,
            merged_from=row.merged_from,
            merged_by=row.merged_by,
            merged_at=row.merged_at,
        ),
    }
    return msgspec.convert(fields, Member)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        method="GET",
        tag="Patterns",
        scope="patterns:read",
        id="listPatternMembers",
        path="/v1/patterns/{pattern_id}/members",
        summary="List a pattern's issues with the reasons of their membership.",
        query=MemberQuery,
        has_past=True,
        replies={200: MemberPage},
        handle=list_members,
    ),
)
