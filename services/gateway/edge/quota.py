"""How many issue records an organization may send in a month, counted before they are taken."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime

import psycopg
from msgspec import Struct
from psycopg_pool import PoolTimeout
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError

from services.gateway.edge import _queries
from services.gateway.errors import PlanLimitError
from services.gateway.identity.tokens import Principal

MONTHS = 12


class Usage(Struct, frozen=True, kw_only=True):
    """What an organization's plan allows, and what it has used of it this month.

    events_per_month, requests_per_minute: None is unlimited.
    """

    plan: str
    events_per_month: int | None
    events_this_month: int
    resets_at: datetime
    requests_per_minute: int | None


class _Taking(Struct):
    """Records of one request that wait to be counted."""

    n: int
    done: asyncio.Future[bool]


class Quota:
    """Counts events per organization and calendar month (UTC) in PostgreSQL, never beyond the plan.

    Requests of one workspace that come while its row is being written are counted together by the next statement.
    """

    def __init__(self, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._clock = clock
        self._waiting: dict[str, list[_Taking]] = {}
        self._counting: set[asyncio.Task[None]] = set()

    async def take(self, principal: Principal, n: int) -> None:
        """Count `n` records that are about to be taken; what is later rejected or unchanged stays counted.

        Raises PlanLimitError when not all of them fit; then none is counted. Raises UnavailableError.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        taking = _Taking(n, done)
        waiting = self._waiting.get(principal.workspace_id)
        if waiting is not None:
            waiting.append(taking)
        else:
            self._waiting[principal.workspace_id] = [taking]
            task = asyncio.create_task(self._count(principal.workspace_id))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        if not await done:
            raise await self._refusal(principal.workspace_id, n)

    async def usage(self, workspace_id: str) -> Usage | None:
        """What the organization of a workspace has used this month; None when there is no such workspace."""
        month = _month_of(self._clock())
        async with tenant(self._pool, workspace_id) as conn:
            row = await _queries.events_taken(conn, month=month, workspace_id=workspace_id)
        if row is None:
            return None
        return Usage(
            plan=row.plan,
            events_per_month=row.events_per_month,
            events_this_month=row.events,
            resets_at=_end_of(month),
            requests_per_minute=row.requests_per_minute,
        )

    async def _count(self, workspace_id: str) -> None:
        """Count for all who wait, until nobody does."""
        while gathered := self._waiting[workspace_id]:
            self._waiting[workspace_id] = []
            try:
                await self._count_each(workspace_id, gathered)
            except (UnavailableError, psycopg.Error, PoolTimeout) as error:
                refusal = UnavailableError("The plan's quota cannot be read now.")
                refusal.__cause__ = error
                for taking in gathered:
                    if not taking.done.done():
                        taking.done.set_exception(refusal)
        del self._waiting[workspace_id]

    async def _count_each(self, workspace_id: str, gathered: list[_Taking]) -> None:
        # Together when all fit; near the limit each by itself, so that what still fits is taken.
        if len(gathered) > 1 and await self._take(workspace_id, sum(taking.n for taking in gathered)):
            verdicts = [True] * len(gathered)
        else:
            verdicts = [await self._take(workspace_id, taking.n) for taking in gathered]
        for taking, is_taken in zip(gathered, verdicts, strict=True):
            if not taking.done.done():
                taking.done.set_result(is_taken)

    async def _take(self, workspace_id: str, n: int) -> bool:
        async with self._pool.connection() as conn, conn.pipeline():
            # Both in one transaction and one round trip; the setting ends with it.
            await conn.execute("SELECT set_config('app.current_workspace', $1, true)", (workspace_id,))
            row = await _queries.take_events(
                conn, workspace_id=workspace_id, month=_month_of(self._clock()), n=n
            )
        # A workspace that is gone has no quota to exceed; what it sends is refused elsewhere.
        return row is None or row.is_taken

    async def _refusal(self, workspace_id: str, n: int) -> PlanLimitError:
        usage = await self.usage(workspace_id)
        assert usage is not None
        return PlanLimitError(
            f"The plan {usage.plan} allows {usage.events_per_month} events a month; {usage.events_this_month} are used"
            f" and {n} more do not fit. The count begins again at {usage.resets_at:%Y-%m-%dT%H:%M:%SZ}.",
            details={
                "limit": "events_per_month",
                "plan": usage.plan,
                "allowed": str(usage.events_per_month),
                "used": str(usage.events_this_month),
                "resets_at": f"{usage.resets_at:%Y-%m-%dT%H:%M:%SZ}",
            },
        )


def _month_of(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)


def _end_of(month: date) -> datetime:
    year, following = (month.year, month.month + 1) if month.month < MONTHS else (month.year + 1, 1)
    return datetime(year, following, 1, tzinfo=UTC)
