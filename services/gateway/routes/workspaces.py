"""The workspace and its organization: names, plan, and the settings that the services judge by."""

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import ForbiddenError

from services.gateway.identity.people.acting import Act
from services.gateway.identity.tenancy import _queries, workspaces
from services.gateway.identity.tenancy.plans import Card, load_card
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
)
from services.gateway.vocabulary import VISIBLE, Note

Share = Annotated[float, Meta(ge=0, le=1)]
ConfidenceThreshold = Annotated[
    Share, Meta(description="Least confidence to link or to recommend by itself.")
]
AlertProbability = Annotated[Share, Meta(description="Probability at which an alert fires.")]
# JSON knows one kind of number: 14.0 is a whole one.
WholeClusterSize = Annotated[
    float, Meta(ge=2, le=50, multiple_of=1, description="Issues before a pattern is shown.")
]
WholeProofDays = Annotated[
    float, Meta(ge=7, le=365, multiple_of=1, description="Least days of quiet that prove a fix.")
]
WholeProofMaxDays = Annotated[
    float,
    Meta(ge=7, le=365, multiple_of=1, description="Most days that the proof of a fix is waited for."),
]
MinimumClusterSize = Annotated[int, Meta(ge=2, le=50, description="Issues before a pattern is shown.")]
ProofWindowDays = Annotated[int, Meta(ge=7, le=365, description="Least days of quiet that prove a fix.")]
ProofWindowMaxDays = Annotated[
    int, Meta(ge=7, le=365, description="Most days that the proof of a fix is waited for.")
]
ProofConfidence = Annotated[
    float, Meta(ge=0.8, le=0.99, description="Confidence at which a fix counts as verified.")
]
Name: TypeAlias = Annotated[str, Meta(min_length=2, max_length=100, pattern=VISIBLE)]
Slug: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$(?!\n)",
        description="1 to 60 lower-case letters, digits and hyphens; no hyphen at either end.",
    ),
]
Industry: TypeAlias = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00]*$")]
TimeZone: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)",
        description="Name of an IANA time zone, such as Europe/Berlin.",
    ),
]
Theme: TypeAlias = Literal["light", "dark"]


class Settings(Struct, frozen=True, kw_only=True):
    """How the services judge."""

    confidence_threshold: ConfidenceThreshold
    alert_probability: AlertProbability
    minimum_cluster_size: MinimumClusterSize
    proof_window_days: ProofWindowDays
    proof_window_max_days: ProofWindowMaxDays
    proof_confidence: ProofConfidence


class Workspace(Struct, frozen=True, kw_only=True):
    """The workspace that the token is for."""

    id: str
    organization_id: str
    slug: str
    name: str
    description: str
    industry: str
    timezone: str
    theme: Theme
    sso_enforced: Annotated[bool, Meta(description="Whether people come in by its identity provider only.")]
    settings: Settings
    created_at: datetime
    updated_at: datetime


class WorkspaceChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of the workspace; what is absent stays."""

    name: Name | None = None
    slug: Slug | None = None
    description: Note | None = None
    industry: Industry | None = None
    timezone: TimeZone | None = None
    theme: Theme | None = None
    sso_enforced: Annotated[
        bool | None,
        Meta(
            description="Needs the scope sso:admin; true also a plan with sso, and an active single sign-on connection."
        ),
    ] = None
    confidence_threshold: ConfidenceThreshold | None = None
    alert_probability: AlertProbability | None = None
    minimum_cluster_size: WholeClusterSize | None = None
    proof_window_days: WholeProofDays | None = None
    proof_window_max_days: WholeProofMaxDays | None = None
    proof_confidence: ProofConfidence | None = None


class PlanCard(Struct, frozen=True, kw_only=True):
    """What the organization may use and what it uses; a limit that is null is none."""

    tier: str
    seats_total: Annotated[int | None, Meta(description="Active members of all of its workspaces at most.")]
    seats_used: int
    connectors: int | None
    requests_per_minute: int | None
    events_per_month: int | None
    events_this_month: Annotated[int, Meta(description="Records sent in this calendar month, in UTC.")]
    events_reset_at: datetime
    retention_days: Annotated[int | None, Meta(description="Nothing is kept longer.")]
    features: tuple[str, ...]


class Organization(Struct, frozen=True, kw_only=True):
    """The client that the workspace belongs to."""

    id: str
    slug: str
    name: str
    status: Literal["active", "suspended", "cancelled"]
    plan: PlanCard
    created_at: datetime


class OrganizationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of the organization; plan and seats are the operator's."""

    name: Name | None = None


def _present(row: _queries.WorkspaceRow) -> Workspace:
    fields = msgspec.structs.asdict(row)
    settings = {name: fields[name] for name in Settings.__struct_fields__}
    return msgspec.convert({**fields, "id": row.workspace_id, "settings": settings}, Workspace)


def _act(gateway: Gateway, call: Call[NoQuery, object]) -> Act:
    return Act(principal=call.principal, ip=call.ip, now=gateway.resources.clock())


async def _read(gateway: Gateway, workspace_id: str) -> _queries.WorkspaceRow:
    async with tenant(gateway.people, workspace_id) as conn:
        row = await _queries.get_workspace(conn, workspace_id=workspace_id)
    if row is None:
        raise not_found("workspace", workspace_id)
    return row


async def read_alert_probability(gateway: Gateway, workspace_id: str) -> float:
    """From which probability on the workspace wants an alert. Raises NotFoundError."""
    return (await _read(gateway, workspace_id)).alert_probability


async def get_workspace(gateway: Gateway, call: Call[NoQuery, None]) -> Workspace:
    """The workspace."""
    return _present(await _read(gateway, call.workspace_id))


async def change_workspace(gateway: Gateway, call: Call[NoQuery, WorkspaceChange]) -> Workspace:
    """Change the workspace; the services hear of their settings from the log, a moment later."""
    given = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not None}
    if "sso_enforced" in given and "sso:admin" not in call.principal.scopes:
        raise ForbiddenError("sso_enforced needs the scope sso:admin.", details={"scope": "sso:admin"})
    for name in ("minimum_cluster_size", "proof_window_days", "proof_window_max_days"):
        if name in given:
            given[name] = int(given[name])
    async with tenant(gateway.people, call.workspace_id) as conn:
        row = await workspaces.change(conn, _act(gateway, call), given)
    return _present(row)


def _present_organization(card: Card, *, now: datetime) -> Organization:
    plan = card.plan
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return Organization(
        id=card.organization_id,
        slug=card.slug,
        name=card.name,
        status=card.status,  # type: ignore[arg-type]  # the column's check has the same words
        plan=PlanCard(
            tier=plan.name,
            seats_total=plan.seats,
            seats_used=card.seats_used,
            connectors=plan.connectors,
            requests_per_minute=plan.requests_per_minute,
            events_per_month=plan.events_per_month,
            events_this_month=card.events_this_month,
            events_reset_at=next_month,
            retention_days=plan.retention_days,
            features=tuple(sorted(plan.features)),
        ),
        created_at=card.created_at,
    )


async def get_organization(gateway: Gateway, call: Call[NoQuery, None]) -> Organization:
    """The organization with its plan card."""
    now = gateway.resources.clock()
    async with tenant(gateway.people, call.workspace_id) as conn:
        card = await load_card(conn, call.workspace_id, now=now)
    return _present_organization(card, now=now)


async def change_organization(gateway: Gateway, call: Call[NoQuery, OrganizationChange]) -> Organization:
    """Give the organization another name."""
    act = _act(gateway, call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        card = await load_card(conn, call.workspace_id, now=act.now)
        if call.body.name is not None and await _queries.rename_organization(
            conn, organization_id=card.organization_id, name=call.body.name
        ):
            target = ("organization", card.organization_id)
            await act.write_down(conn, "organization.updated", "update", target, fields="name")
            card = msgspec.structs.replace(card, name=call.body.name)
    return _present_organization(card, now=act.now)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getWorkspace",
        method="GET",
        path="/v1/workspace",
        tag="Workspace",
        summary="Look at the workspace and its settings.",
        scope="workspace:read",
        replies={200: Workspace},
        refusals=(404,),
        handle=get_workspace,
    ),
    Operation(
        id="updateWorkspace",
        method="PATCH",
        path="/v1/workspace",
        tag="Workspace",
        summary="Change the workspace and how its services judge.",
        description="The answer shows the change; the services judge by it a moment later.",
        scope="workspace:write",
        body=WorkspaceChange,
        replies={200: Workspace},
        refusals=(404, 409),
        handle=change_workspace,
    ),
    Operation(
        id="getOrganization",
        method="GET",
        path="/v1/organization",
        tag="Workspace",
        summary="Look at the organization, its plan and what is used of it.",
        scope="workspace:read",
        replies={200: Organization},
        refusals=(404,),
        handle=get_organization,
    ),
    Operation(
        id="updateOrganization",
        method="PATCH",
        path="/v1/organization",
        tag="Workspace",
        summary="Give the organization another name.",
        scope="organization:admin",
        body=OrganizationChange,
        replies={200: Organization},
        refusals=(404,),
        handle=change_organization,
    ),
)
