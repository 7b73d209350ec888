"""The audit log: who did what, that nobody changed it, and a copy to take away."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway.identity.audit import _queries
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.exports import Export, begin_export, check_feature, look_at_export
from services.gateway.routes.issues import Moment
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.vocabulary import Search, search_terms

Category = Literal["create", "update", "delete", "invite", "revoke", "export", "login", "other"]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class Actor(Struct, frozen=True, kw_only=True):
    """Who did it."""

    id: Annotated[str, Meta(description="usr_… or svc_….")]
    name: Annotated[str | None, Meta(description="null: a program, or somebody who is gone.")]


class Target(Struct, frozen=True, kw_only=True):
    """What it was done to."""

    type: str
    id: str


class Entry(Struct, frozen=True, kw_only=True):
    """Something that was done."""

    id: str
    number: Annotated[int, Meta(ge=1, description="Place in the workspace's chain, without gaps.")]
    occurred_at: datetime
    actor: Annotated[Actor | None, Meta(description="null: an operator, or the system.")]
    action: str
    category: Category
    target: Target
    metadata: dict[str, object]
    ip: str | None
    hash: Annotated[str, Meta(description="SHA-256 over the entry and the hash before it, in hex.")]


class EntryPage(Struct, frozen=True, kw_only=True):
    """A page of the audit log."""

    data: tuple[Entry, ...]
    page: PageInfo


class AuditQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the audit log."""

    q: Annotated[
        Search | None, Meta(description="Words that action, target or metadata contain, all of them.")
    ] = None
    actor_id: Word | None = None
    action: Annotated[
        Word | None,
        Meta(description="The action, or the beginning of some: `member.` for all about members."),
    ] = None
    category: tuple[Category, ...] | None = None
    target_type: Word | None = None
    target_id: Word | None = None
    date_from: Annotated[Moment | None, Meta(description="At or after.")] = None
    date_to: Annotated[Moment | None, Meta(description="Before.")] = None


class Verdict(Struct, frozen=True, kw_only=True):
    """What recomputing the chain found."""

    is_intact: bool
    entries: Annotated[int, Meta(ge=0, description="How many are kept, those in their grace included.")]
    first_number: Annotated[int | None, Meta(description="The oldest one that is kept; null: none is.")]
    last_number: Annotated[int, Meta(ge=0, description="Of the newest entry that was ever written.")]
    head_hash: Annotated[
        str,
        Meta(
            description="The newest entry's hash. Kept elsewhere, it proves later that nothing before it changed."
        ),
    ]
    problem: Annotated[
        Literal["changed", "removed", "inserted", "reordered"] | None,
        Meta(description="What is wrong with the first entry that is not as it was."),
    ]
    problem_number: int | None
    verified_at: datetime


LISTING = Listing(
    name="audit",
    view="audit_entries",
    row=_queries.AuditEntry,
    sorts={"number": SortKey("seq", "bigint")},
    default_sort="-number",
)


def _present(row: _queries.AuditEntry) -> Entry:
    return Entry(
        id=row.entry_id,
        number=row.seq,
        occurred_at=row.occurred_at,
        actor=None if row.actor_id is None else Actor(id=row.actor_id, name=row.actor_name),
        action=row.action,
        category=row.category,  # type: ignore[arg-type]  # the column's check has the same words
        target=Target(type=row.target_type, id=row.target_id),
        metadata=msgspec.json.decode(row.metadata, type=dict[str, object]),
        ip=row.ip,
        hash=row.hash,
    )


async def list_audit(gateway: Gateway, call: Call[AuditQuery, None]) -> EntryPage:
    """A page of the audit log, the newest first."""
    query = call.query
    conditions: list[Condition] = []
    if query.actor_id is not None:
        conditions.append(Condition("actor_id = {value}", query.actor_id))
    if query.action is not None:
        conditions.append(Condition("starts_with(action, {value})", query.action))
    if query.category:
        conditions.append(Condition("category = ANY({value}::text[])", list(query.category)))
    if query.target_type is not None:
        conditions.append(Condition("target_type = {value}", query.target_type))
    if query.target_id is not None:
        conditions.append(Condition("target_id = {value}", query.target_id))
    if query.date_from is not None:
        conditions.append(Condition("occurred_at >= {value}", query.date_from))
    if query.date_to is not None:
        conditions.append(Condition("occurred_at < {value}", query.date_to))
    if query.q:
        conditions.append(
            Condition(
                "concat_ws(' ', action, target_type, target_id, metadata) ILIKE ALL({value}::text[])",
                search_terms(query.q),
            )
        )
    found = await list_page(gateway, call, LISTING, conditions=conditions, sort=None, source=gateway.people)
    return EntryPage(data=shown(found, _present), page=page_info(found))


async def get_entry(gateway: Gateway, call: Call[NoQuery, None]) -> Entry:
    """One entry."""
    entry_id = call.path["entry_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        row = await _queries.get_audit_entry(conn, workspace_id=call.workspace_id, entry_id=entry_id)
    if row is None:
        raise not_found("entry", entry_id)
    return _present(row)


async def verify_audit(gateway: Gateway, call: Call[NoQuery, None]) -> Verdict:
    """Whether the log is as it was written."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await _queries.verify_audit(conn)
    return Verdict(
        is_intact=found.problem is None,
        entries=found.n_entries,
        first_number=found.first_number,
        last_number=found.last_number,
        head_hash=found.head_hash,
        problem=found.problem,  # type: ignore[arg-type]  # the function says one of these
        problem_number=found.problem_number,
        verified_at=gateway.resources.clock(),
    )


async def export_audit(gateway: Gateway, call: Call[NoQuery, None]) -> Export:
    """A copy of the whole log."""
    await check_feature(gateway, call, "audit_export")
    return await begin_export(gateway, call, kind="audit")


async def get_audit_export(gateway: Gateway, call: Call[NoQuery, None]) -> Export:
    """How far a copy is."""
    return await look_at_export(gateway, call, kind="audit")


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listAuditEntries",
        method="GET",
        path="/v1/audit",
        tag="Audit",
        summary="List who did what, the newest first.",
        description="What is older than `audit_days` of the retention policy is not shown.",
        scope="audit:read",
        query=AuditQuery,
        replies={200: EntryPage},
        handle=list_audit,
    ),
    Operation(
        id="verifyAudit",
        method="GET",
        path="/v1/audit/verification",
        tag="Audit",
        summary="Recompute the chain of hashes and say where it is broken.",
        description="Reads the whole log: some 15 ms for a thousand entries.",
        scope="audit:read",
        replies={200: Verdict},
        handle=verify_audit,
    ),
    Operation(
        id="exportAudit",
        method="POST",
        path="/v1/audit/exports",
        tag="Audit",
        summary="Make a copy of the audit log, as JSON lines.",
        description="403 `plan_limit` where the plan has no audit_export; 409 while one is being made.",
        scope="audit:read",
        replies={202: Export},
        refusals=(403, 409),
        handle=export_audit,
    ),
    Operation(
        id="getAuditExport",
        method="GET",
        path="/v1/audit/exports/{export_id}",
        tag="Audit",
        summary="See how far a copy is, and where to get it.",
        scope="audit:read",
        replies={200: Export},
        handle=get_audit_export,
    ),
    Operation(
        id="getAuditEntry",
        method="GET",
        path="/v1/audit/{entry_id}",
        tag="Audit",
        summary="Look at an entry.",
        scope="audit:read",
        replies={200: Entry},
        handle=get_entry,
    ),
)
