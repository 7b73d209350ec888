"""Recommendations as tickets: pushed to a tracker once, and where that stands."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.errors import ConnectorRefusedError
from services.gateway.listing import Condition, PageRequest, fetch_page
from services.gateway.routes import connectors
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import Gateway, not_found
from services.gateway.routes.pages import read_one

_Key = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$(?!\n)")]
_Value = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*$")]


class Ticket(Struct, frozen=True, kw_only=True):
    """What a recommendation became in a tracker."""

    id: str
    recommendation_id: str
    connector_id: str
    tracker: Annotated[str, Meta(description="Type of the connector, such as jira.")]
    external_id: Annotated[str, Meta(description="What the tracker calls it.")]
    external_url: str | None
    state: Literal["open", "done", "dropped"]
    external_status: Annotated[
        str | None, Meta(description="The tracker's own word; null: it has not been asked yet.")
    ]
    target: dict[str, str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class Push(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to make the ticket: `connector_id` or `tracker`."""

    connector_id: Identifier | None = None
    tracker: Annotated[
        Identifier | None, Meta(description="Type, such as jira, of which there is one connector.")
    ] = None
    target: Annotated[
        dict[_Key, _Value],
        Meta(max_length=20, description="As `target` of the catalogue asks, such as a project."),
    ] = {}


def present(row: _queries.ListTicketsRow) -> Ticket:
    """A row as the API shows it."""
    fields = msgspec.structs.asdict(row) | {
        "id": row.ticket_id,
        "external_status": row.external_status or None,
        "target": msgspec.json.decode(row.target),
    }
    return msgspec.convert(fields, Ticket)


async def tickets_of(
    gateway: Gateway, workspace_id: str, recommendation_ids: Sequence[str]
) -> dict[str, tuple[Ticket, ...]]:
    """The tickets of each of these recommendations that has any, the oldest first."""
    async with tenant(gateway.pool, workspace_id) as conn:
        rows = await _queries.list_tickets(
            conn, workspace_id=workspace_id, recommendation_ids=list(recommendation_ids)
        )
    found: dict[str, tuple[Ticket, ...]] = {}
    for row in rows:
        found[row.recommendation_id] = (*found.get(row.recommendation_id, ()), present(row))
    return found


async def connector_for(gateway: Gateway, workspace_id: str, push: Push) -> connectors.ConnectorRow:
    """The connector that a push names. Raises NotFoundError, and ConnectorRefusedError where it names none or several."""
    if (push.connector_id is None) == (push.tracker is None):
        fault = "give connector_id or tracker, one of the two"
        raise ConnectorRefusedError(fault, details={"connector_id": fault})
    if push.connector_id is not None:
        return await read_one(gateway, workspace_id, connectors.LISTING, push.connector_id)
    asked = PageRequest(
        workspace_id=workspace_id,
        conditions=[Condition("type = {value}", push.tracker)],
        sort=None,
        cursor=None,
        limit=2,
        scope="",
    )
    async with tenant(gateway.pool, workspace_id) as conn:
        found = await fetch_page(conn, connectors.LISTING, asked, secret=gateway.secret)
    if not found.rows:
        raise not_found("connector", str(push.tracker))
    if len(found.rows) > 1:
        fault = f"there are {found.total} connectors of the type {push.tracker}: say which by connector_id"
        raise ConnectorRefusedError(fault, details={"tracker": fault})
    return found.rows[0]
