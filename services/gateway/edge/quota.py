"""How many issue records an organization may send in a month, counted before they are taken."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime

from msgspec import Struct
from runtime.database import Pool

from services.gateway.edge import _queries
from services.gateway.errors import PlanLimitError
from services.gateway.identity.tokens import Principal

MONTHS = 12


class _Taking(Struct):
    """Records of one request that wait to be counted."""

    n: int
    done: asyncio.Future[PlanLimitError | None]


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

        Raises PlanLimitError when not all of them fit; then none is counted. Without the database nothing is taken.
        """
        done: asyncio.Future[PlanLimitError | None] = asyncio.get_running_loop().create_future()
        taking = _Taking(n, done)
        waiting = self._waiting.get(principal.workspace_id)
        if waiting is not None:
            waiting.append(taking)
        else:
            self._waiting[principal.workspace_id] = [taking]
            task = asyncio.create_task(self._count(principal.workspace_id))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        refusal = await done
        if refusal is not None:
            raise refusal

    async def _count(self, workspace_id: str) -> None:
        """Count for all who wait, until nobody does."""
        while gathered := self._waiting[workspace_id]:
            self._waiting[workspace_id] = []
            try:
                await self._count_each(workspace_id, gathered)
            except Exception as error:  # noqa: BLE001  # edge: whoever waits has to hear of it
                for taking in gathered:
                    if not taking.done.done():
                        taking.done.set_exception(error)
        del self._waiting[workspace_id]

    async def _count_each(self, workspace_id: str, gathered: list[_Taking]) -> None:
        # Together when all fit; near the limit each by itself, so that what still fits is taken.
        refusals: list[PlanLimitError | None] = [None] * len(gathered)
        if len(gathered) == 1 or await self._take(workspace_id, sum(taking.n for taking in gathered)):
            refusals = [await self._take(workspace_id, taking.n) for taking in gathered]
        for taking, refusal in zip(gathered, refusals, strict=True):
            if not taking.done.done():
                taking.done.set_result(refusal)

    async def _take(self, workspace_id: str, n: int) -> PlanLimitError | None:
        """Count `n` more; the refusal when they do not fit."""
        month = _month_of(self._clock())
        async with self._pool.connection() as conn:
            row = await _queries.take_events(conn, workspace_id=workspace_id, month=month, n=n)
        # A workspace that is gone has no quota to exceed; what it sends is refused elsewhere.
        return None if row is None or row.is_taken else _refusal(row, n, resets_at=_end_of(month))


def _refusal(row: _queries.TakeEventsRow, n: int, *, resets_at: datetime) -> PlanLimitError:
    until = f"{resets_at:%Y-%m-%dT%H:%M:%SZ}"
    return PlanLimitError(
        f"The plan {row.plan} allows {row.events_per_month} events a month; {row.events_before} are used and {n} more"
        f" do not fit. The count begins again at {until}.",
        details={
            "limit": "events_per_month",
            "plan": row.plan,
            "allowed": str(row.events_per_month),
            "used": str(row.events_before),
            "resets_at": until,
        },
    )


def _month_of(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)


def _end_of(month: date) -> datetime:
    year, following = (month.year, month.month + 1) if month.month < MONTHS else (month.year + 1, 1)
    return datetime(year, following, 1, tzinfo=UTC)
