"""Versions of grouping: what a workspace's own linker would change, and switching it on."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import pattern
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.listing import Listing, SortKey
from services.gateway.routes.membership import Decider, decider
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
)
from services.gateway.routes.pages import (
    ListQuery,
    PageInfo,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)

VersionStatus = Literal["active", "available", "rejected"]
Count = Annotated[int, Meta(ge=0)]
Loss = Annotated[float, Meta(ge=0)]
Score = Annotated[float, Meta(ge=0, le=1)]


class VersionRow(Struct, frozen=True):
    """One row of grouping_version_rows."""

    version_id: str
    seq: int
    version: str
    status: str
    fitted_at: datetime | None
    n_decisions: int | None
    n_joining: int | None
    shipped_loss: float | None
    loss: float | None
    linker: str
    shipped: str
    activated_at: datetime | None
    activated_by: str | None


class Fit(Struct, frozen=True, kw_only=True):
    """What a version was fitted from, and how well that went."""

    fitted_at: datetime
    decision_count: Annotated[Count, Meta(description="Issues and patterns that people decided about.")]
    joining_count: Annotated[Count, Meta(description="How many of them belong together.")]
    shipped_log_loss: Annotated[
        Loss,
        Meta(description="Of the shipped linker on these decisions, in nats a decision; less is better."),
    ]
    log_loss: Annotated[Loss, Meta(description="The same on decisions held out of the fit.")]


class GroupingVersion(Struct, frozen=True, kw_only=True):
    """A linker that can group new issues."""

    id: Annotated[str, Meta(description='"shipped": the one that comes with the product.')]
    version: Annotated[str, Meta(description="`method_version` of the memberships that it makes.")]
    status: Annotated[
        VersionStatus,
        Meta(
            description="rejected: worse than the shipped one on decisions held out; it cannot be activated."
        ),
    ]
    fit: Annotated[Fit | None, Meta(description="Null for the shipped one.")]
    activated_by: Annotated[
        Decider | None, Meta(description="Null unless somebody activated it and it is active.")
    ]
    activated_at: datetime | None


class Weight(Struct, frozen=True, kw_only=True):
    """What a feature of two reports counts."""

    feature: str
    weight: float
    shipped_weight: Annotated[
        float | None, Meta(description="Null where the shipped linker has no such feature.")
    ]


class GroupingVersionDetail(GroupingVersion, frozen=True, kw_only=True):
    """A version with its numbers."""

    weights: tuple[Weight, ...]
    intercept: float
    shipped_intercept: float


class GroupingVersionPage(Struct, frozen=True, kw_only=True):
    """A page of versions."""

    data: tuple[GroupingVersion, ...]
    page: PageInfo
    reason: Annotated[str | None, Meta(description="Why there is none yet.")]


class GroupingMove(Struct, frozen=True, kw_only=True):
    """An issue that the version would have put elsewhere when it arrived. It stays where it is."""

    issue_id: str
    title: str
    pattern_id: Annotated[str | None, Meta(description="Where it is now; null: a person took it out.")]
    from_pattern_id: Annotated[
        str | None, Meta(description="Where the active version puts it; null: into a new pattern.")
    ]
    to_pattern_id: Annotated[
        str | None, Meta(description="Where this version puts it; null: into a new pattern.")
    ]
    from_score: Annotated[
        Score | None,
        Meta(description="How sure the active version is of the pattern; null: less than what is suggested."),
    ]
    to_score: Annotated[Score | None, Meta(description="How sure this version is of it.")]


class Diff(Struct, frozen=True, kw_only=True):
    """What a version would have moved, of the latest reports that people wrote."""

    run_id: str
    computed_at: datetime
    base_version_id: Annotated[str, Meta(description="The version that was active then.")]
    base_version: str
    text_count: Annotated[Count, Meta(description="Texts that were read, the latest 10,000 at most.")]
    asked_count: Annotated[
        Count, Meta(description="The latest of them, 2,000 at most, which both versions decided about.")
    ]
    settled_count: Annotated[
        Count, Meta(description="Of these, decided by a person or by a known title, whatever the version.")
    ]
    moved_count: Annotated[Count, Meta(description="Of these, decided differently.")]
    joining_count: Annotated[Count, Meta(description="Moved into a pattern instead of beginning one.")]
    leaving_count: Annotated[Count, Meta(description="Beginning a pattern instead of joining one.")]
    moves: Annotated[
        tuple[GroupingMove, ...],
        Meta(description="The latest 500 at most; issues that are gone are counted and not listed."),
    ]


class GroupingDiff(Struct, frozen=True, kw_only=True):
    """The latest comparison of a version with the one that was active then."""

    version_id: str
    version: str
    data: Diff | None
    reason: Annotated[str | None, Meta(description="Why there is none.")]


class DiffBegun(Struct, frozen=True, kw_only=True):
    """A comparison that is to come."""

    status: Literal["accepted"]
    run_id: Annotated[str, Meta(description="`data.run_id` of the diff has it once it is done.")]
    location: Annotated[str, Meta(description="What will show it.")]


LISTING = Listing(
    name="grouping/versions",
    view="grouping_version_rows",
    row=VersionRow,
    key="version_id",
    sorts={"fitted_at": SortKey("seq", "bigint")},
    default_sort="-fitted_at",
)
_NONE_YET = (
    "The shipped linker groups. A workspace gets its own once people have decided about 30 reports of people and"
    " their patterns: at least five times yes, five times no, and about five patterns."
)


def _fields(row: VersionRow) -> dict[str, object]:
    fit = None
    if row.fitted_at is not None:
        fit = {
            "fitted_at": row.fitted_at,
            "decision_count": row.n_decisions,
            "joining_count": row.n_joining,
            "shipped_log_loss": row.shipped_loss,
            "log_loss": row.loss,
        }
    return {
        "id": row.version_id,
        "version": row.version,
        "status": row.status,
        "fit": fit,
        "activated_by": None if row.activated_at is None else decider(row.activated_by),
        "activated_at": row.activated_at,
    }


def present(row: VersionRow) -> GroupingVersion:
    """A row as the API shows it."""
    return msgspec.convert(_fields(row), GroupingVersion)


async def list_versions(gateway: Gateway, call: Call[ListQuery, None]) -> GroupingVersionPage:
    """A page of versions."""
    found = await list_page(gateway, call, LISTING)
    reason = None if found.total else _NONE_YET
    return GroupingVersionPage(data=shown(found, present), page=page_info(found), reason=reason)


async def get_version(gateway: Gateway, call: Call[NoQuery, None]) -> GroupingVersionDetail:
    """A version with its numbers beside the shipped ones."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["version_id"])
    linker, shipped = (msgspec.json.decode(each, type=pattern.Linker) for each in (row.linker, row.shipped))
    known = dict(zip(shipped.features, shipped.weights, strict=True))
    weights = [
        Weight(feature=feature, weight=weight, shipped_weight=known.get(feature))
        for feature, weight in zip(linker.features, linker.weights, strict=True)
    ]
    numbers = {"weights": weights, "intercept": linker.intercept, "shipped_intercept": shipped.intercept}
    return msgspec.convert(_fields(row) | numbers, GroupingVersionDetail)


async def activate_version(gateway: Gateway, call: Call[NoQuery, None]) -> GroupingVersion:
    """Group new issues by a version from now on."""
    request = pattern.ActivateGroupingVersion(version_id=call.path["version_id"])
    row, _ = await carry_out(gateway, call, LISTING, request, reply=pattern.GroupingVersionChanged)
    return present(row)


async def get_diff(gateway: Gateway, call: Call[NoQuery, None]) -> GroupingDiff:
    """What a version would have moved."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["version_id"])
    async with tenant(gateway.pool, call.workspace_id) as conn:
        found = await _queries.get_grouping_comparison(
            conn, workspace_id=call.workspace_id, version_id=row.version_id
        )
        moves = (
            () if found is None else msgspec.json.decode(found.moves, type=tuple[pattern.GroupingMove, ...])
        )
        titles = await _queries.list_issue_titles(
            conn, workspace_id=call.workspace_id, issue_ids=[move.issue_id for move in moves]
        )
    if found is None:
        reason = f"Nobody has asked for it; POST {_ONE.format(version_id=row.version_id)}/diff."
        if row.status == "rejected":
            reason = f"It was rejected, and nobody has asked what it would move. {reason}"
        return GroupingDiff(version_id=row.version_id, version=row.version, data=None, reason=reason)
    known = {each.issue_id: each.title for each in titles}
    diff = Diff(
        run_id=found.run_id,
        computed_at=found.compared_at,
        base_version_id=found.base_version_id,
        base_version=found.base_version,
        text_count=found.n_texts,
        asked_count=found.n_asked,
        settled_count=found.n_decided,
        moved_count=found.n_moved,
        joining_count=found.n_joining,
        leaving_count=found.n_leaving,
        moves=tuple(
            GroupingMove(**msgspec.structs.asdict(move), title=known[move.issue_id])
            for move in moves
            if move.issue_id in known
        ),
    )
    return GroupingDiff(version_id=row.version_id, version=row.version, data=diff, reason=None)


async def compute_diff(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """Have a version compared with the one that is active."""
    version_id = call.path["version_id"]
    await read_one(gateway, call.workspace_id, LISTING, version_id)
    request = pattern.CompareGroupingVersion(version_id=version_id)
    begun = await command(gateway, call.principal, request, reply=pattern.ComparisonRequested)
    location = f"{_ONE.format(version_id=version_id)}/diff"
    return Answer(202, DiffBegun(status="accepted", run_id=begun.run_id, location=location))


_ALL, _ONE = "/v1/grouping/versions", "/v1/grouping/versions/{version_id}"
_Read = partial(Operation, tag="Patterns", method="GET", scope="patterns:read")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listGroupingVersions",
        path=_ALL,
        summary="List the versions of the workspace's grouping, newest first, the shipped one last.",
        description="At most once a day a linker is fitted from what people decided about reports that people wrote. It groups"
        " nothing before somebody activates it.",
        query=ListQuery,
        replies={200: GroupingVersionPage},
        handle=list_versions,
    ),
    _Read(
        id="getGroupingVersion",
        path=_ONE,
        summary="Look at a version: what it was fitted from, how good it is, its weights beside the shipped ones.",
        replies={200: GroupingVersionDetail},
        handle=get_version,
    ),
    _Read(
        id="getGroupingDiff",
        path=f"{_ONE}/diff",
        summary="See what a version would have moved of the workspace's own past, before it is switched on.",
        description="Each of the latest reports is decided once more by this version and by the one that is active, from"
        " what came before it, with every decision of a person obeyed. Nothing moves.",
        replies={200: GroupingDiff},
        handle=get_diff,
    ),
    Operation(
        id="computeGroupingDiff",
        tag="Patterns",
        method="POST",
        path=f"{_ONE}/diff",
        summary="Compare a version with the one that is active, in the background, five minutes apart.",
        description="409: the version was fitted for a build that looks at other things.",
        scope="patterns:write",
        replies={202: DiffBegun},
        refusals=(409,),
        handle=compute_diff,
    ),
    Operation(
        id="activateGroupingVersion",
        tag="Patterns",
        method="POST",
        path=f"{_ONE}/activate",
        summary="Group new issues by this version from now on; `shipped` goes back.",
        description="Issues that have a pattern stay in it. 409: the version was rejected.",
        scope="workspace:admin",
        replies={200: GroupingVersion, 202: Accepted},
        refusals=(409,),
        deed=Deed("grouping.version_activated", "update", "grouping_version", "version_id"),
        handle=activate_version,
    ),
)
