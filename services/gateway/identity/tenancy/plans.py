"""What a plan allows, and the refusals that name what it does not."""

from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import NotFoundError

from services.gateway.errors import PlanFeatureError
from services.gateway.identity.tenancy import _queries

Feature: TypeAlias = Literal["sso", "scim", "audit_export"]

_NAMES: Final = {"sso": "single sign-on", "scim": "SCIM", "audit_export": "the export of the audit log"}


class Plan(Struct, frozen=True, kw_only=True):
    """What an organization may use, as its row in `plans` says now; None is unlimited.

    seats: what was agreed, within the plan. retention_days: nothing is kept longer.
    """

    name: str
    seats: int | None
    connectors: int | None
    requests_per_minute: int | None
    events_per_month: int | None
    retention_days: int | None
    features: frozenset[str]

    def require(self, feature: Feature) -> None:
        """Raise PlanFeatureError unless the plan has the feature."""
        if feature not in self.features:
            raise PlanFeatureError(
                f"The plan {self.name} does not have {_NAMES[feature]}.",
                details={"plan": self.name, "feature": feature},
            )


class Card(Struct, frozen=True, kw_only=True):
    """An organization, its plan and what it uses of it. events_this_month: of the calendar month, in UTC."""

    organization_id: str
    slug: str
    name: str
    status: str
    created_at: datetime
    plan: Plan
    seats_used: int
    events_this_month: int


async def load_card(conn: AsyncConnection[Any], workspace_id: str, *, now: datetime) -> Card:
    """The organization of the workspace that the transaction names. Raises NotFoundError."""
    month = now.astimezone(UTC).date().replace(day=1)
    row = await _queries.get_plan(conn, workspace_id=workspace_id, month=month)
    if row is None:
        raise NotFoundError("The workspace is gone.", details={"id": workspace_id})
    return Card(
        organization_id=row.organization_id,
        slug=row.slug,
        name=row.name,
        status=row.status,
        created_at=row.created_at,
        plan=Plan(
            name=row.plan,
            seats=row.seats_total,
            connectors=row.connectors,
            requests_per_minute=row.requests_per_minute,
            events_per_month=row.events_per_month,
            retention_days=row.retention_days,
            features=frozenset(row.features),
        ),
        seats_used=row.seats_used,
        events_this_month=row.events_this_month,
    )


async def load_plan(conn: AsyncConnection[Any], workspace_id: str, *, now: datetime) -> Plan:
    """The plan of the workspace that the transaction names. Raises NotFoundError."""
    return (await load_card(conn, workspace_id, now=now)).plan
