"""How many connectors a plan allows, and a workspace may have on any, whoever asks at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from runtime.database import tenant
from runtime.errors import PlanLimitError, StateConflictError, UnavailableError

from services.gateway import _queries
from services.gateway.edge.preconditions import WAIT_SECONDS_MAX
from services.gateway.identity.tenancy import _queries as tenancy
from services.gateway.identity.tokens import Principal
from services.gateway.routes.operation import Gateway

CONNECTORS_MAX: Final = 500
"""Connectors of one workspace; ingest has the same bound, and counts rows that may be behind."""


@asynccontextmanager
async def room_for_one(gateway: Gateway, principal: Principal) -> AsyncIterator[None]:
    """Whoever is inside may make a connector, and nobody else of the organization makes one meanwhile.

    Raises PlanLimitError when the plan has no room for another, StateConflictError when there are CONNECTORS_MAX.
    """
    space, now = principal.workspace_id, gateway.resources.clock()
    async with tenant(gateway.people, space) as conn:
        plan = await tenancy.get_plan(conn, workspace_id=space, month=now.date().replace(day=1))
    busy = UnavailableError("Many connectors of this organization are being made. Try again in a moment.")
    async with gateway.once.alone(principal.organization_id or space, "connectors", busy=busy):
        log = gateway.resources.event_log
        end = await log.last_seq(log.partition_of(space))
        if not await gateway.resources.reached(space, end, timeout=WAIT_SECONDS_MAX):
            raise UnavailableError("The read model is behind, so connectors cannot be counted now.")
        async with tenant(gateway.pool, space) as conn:
            counted = await _queries.count_connectors(conn, workspace_id=space)
        n = 0 if counted is None else counted.n_connectors
        if plan is not None and plan.connectors is not None and n >= plan.connectors:
            raise PlanLimitError(
                f"The plan {plan.plan} allows {plan.connectors} connectors, and there are {n}."
                " Delete one, or change the plan.",
                details={
                    "limit": "connectors",
                    "plan": plan.plan,
                    "allowed": str(plan.connectors),
                    "used": str(n),
                },
            )
        if n >= CONNECTORS_MAX:
            raise StateConflictError(f"There are {n} connectors already; delete one first.")
        yield
