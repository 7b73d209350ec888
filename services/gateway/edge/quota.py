"""How many issue records an organization may send in a month, counted before they are taken."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime

import structlog
from contracts import workspace
from msgspec import Struct
from runtime.broker import CommandContext, Endpoint
from runtime.database import Pool
from runtime.errors import PlanLimitError, ValidationFailedError

from services.gateway.edge import _queries

log = structlog.get_logger()

MONTHS = 12
GATHER_SECONDS = 0.5
"""How long records of a plan without a limit are counted here before they are counted in PostgreSQL."""


class _Taking(Struct):
    """Records of one request that wait to be counted. done: None: nobody waits, since nothing can be refused."""

    n: int
    done: asyncio.Future[PlanLimitError | None] | None


class Quota:
    """Counts events per organization and calendar month (UTC) in PostgreSQL, never beyond the plan.

    Requests of one workspace that come while its row is being written are counted together by the next statement.
    revision: changes whenever some plan may have; None: changes are not heard. As long as it is as it was when a plan
    without a limit was read, nobody of that workspace waits for the count, which is written twice a second.
    """

    def __init__(
        self, pool: Pool, *, clock: Callable[[], datetime], revision: Callable[[], int | None] = lambda: None
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._revision = revision
        self._unlimited_at: dict[str, int] = {}
        self._owed: dict[str, int] = {}
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._waiting: dict[str, list[_Taking]] = {}
        self._counting: set[asyncio.Task[None]] = set()

    async def take(self, workspace_id: str, n: int) -> None:
        """Count `n` records that are about to be taken; what is later rejected or unchanged stays counted.

        Raises PlanLimitError when not all of them fit; then none is counted. Without the database nothing is taken,
        except what is under way when it goes away.
        """
        revision = self._revision()
        if revision is not None and self._unlimited_at.get(workspace_id) == revision:
            self._owe(workspace_id, n)
            return
        done: asyncio.Future[PlanLimitError | None] = asyncio.get_running_loop().create_future()
        self._enqueue(workspace_id, _Taking(n, done))
        refusal = await done
        if refusal is not None:
            raise refusal

    def endpoints(self) -> tuple[Endpoint, ...]:
        """For who takes records that no request to the gateway brought."""
        return (Endpoint(workspace.ENDPOINTS[workspace.TakeEvents], workspace.TakeEvents, self._serve),)

    async def finish(self) -> None:
        """Wait until all that was taken is counted."""
        for workspace_id, timer in list(self._due.items()):
            timer.cancel()
            self._pay(workspace_id)
        await asyncio.gather(*self._counting)

    async def _serve(self, cmd: workspace.TakeEvents, context: CommandContext) -> workspace.EventsTaken:
        if cmd.n_records < 1:
            raise ValidationFailedError(
                "Count at least one record.", details={"n_records": "must be at least 1"}
            )
        n_records, reason = cmd.n_records, ""
        while n_records > 0:
            try:
                await self.take(context.workspace_id, n_records)
                break
            except PlanLimitError as error:
                reason = reason or error.message
                # Fewer each time, since others count meanwhile.
                n_left = int(error.details["allowed"]) - int(error.details["used"])
                n_records = max(0, min(n_left, n_records - 1))
        return workspace.EventsTaken(n_records=n_records, reason=reason)

    def _owe(self, workspace_id: str, n: int) -> None:
        """Have them counted soon."""
        self._owed[workspace_id] = self._owed.get(workspace_id, 0) + n
        if workspace_id not in self._due:
            loop = asyncio.get_running_loop()
            self._due[workspace_id] = loop.call_later(GATHER_SECONDS, self._pay, workspace_id)

    def _pay(self, workspace_id: str) -> None:
        del self._due[workspace_id]
        if owed := self._owed.pop(workspace_id, 0):
            self._enqueue(workspace_id, _Taking(owed, None))

    def _enqueue(self, workspace_id: str, taking: _Taking) -> None:
        waiting = self._waiting.get(workspace_id)
        if waiting is not None:
            waiting.append(taking)
            return
        self._waiting[workspace_id] = [taking]
        task = asyncio.create_task(self._count(workspace_id))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def _count(self, workspace_id: str) -> None:
        """Count for all who wait, until nobody does."""
        while gathered := self._waiting[workspace_id]:
            self._waiting[workspace_id] = []
            try:
                await self._count_each(workspace_id, gathered)
            except Exception as error:  # noqa: BLE001  # edge: whoever waits has to hear of it
                log.warning("quota.not_counted", workspace_id=workspace_id, error=repr(error))
                # The next one waits, and brings what is still to be counted.
                self._unlimited_at.pop(workspace_id, None)
                for taking in gathered:
                    if taking.done is None:
                        self._owe(workspace_id, taking.n)
                    elif not taking.done.done():
                        taking.done.set_exception(error)
        del self._waiting[workspace_id]

    async def _count_each(self, workspace_id: str, gathered: list[_Taking]) -> None:
        if owed := self._owed.pop(workspace_id, 0):
            gathered.append(_Taking(owed, None))
        # Together when all fit; near the limit each by itself, so that what still fits is taken.
        refusals: list[PlanLimitError | None] = [None] * len(gathered)
        if len(gathered) == 1 or await self._take(workspace_id, sum(taking.n for taking in gathered)):
            refusals = [await self._take(workspace_id, taking.n) for taking in gathered]
        for taking, refusal in zip(gathered, refusals, strict=True):
            if taking.done is not None and not taking.done.done():
                taking.done.set_result(refusal)

    async def _take(self, workspace_id: str, n: int) -> PlanLimitError | None:
        """Count `n` more; the refusal when they do not fit."""
        month = _month_of(self._clock())
        revision = self._revision()
        async with self._pool.connection() as conn:
            row = await _queries.take_events(conn, workspace_id=workspace_id, month=month, n=n)
        if row is not None and row.events_per_month is None and revision is not None:
            self._unlimited_at[workspace_id] = revision
        else:
            self._unlimited_at.pop(workspace_id, None)
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
