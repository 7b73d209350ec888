"""Tickets that are being made: an intent before the tracker is asked, so that none is made twice and none is lost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from runtime.database import Pool, tenant

from services.ingest.vendors import _queries

LEASE: Final = timedelta(seconds=60)
"""How long one try has a ticket for itself: longer than its requests can take together.

A try that was killed is taken up behind it; by then a tracker's search knows what was made.
"""


class Push(Struct, frozen=True, kw_only=True):
    """One try to make a ticket, held by us alone. n_attempts: with this one; 1: nobody has asked the tracker before."""

    workspace_id: str
    ticket_id: str
    recommendation_id: str
    connector_id: str
    target: dict[str, str]
    requested_by: str | None
    begun_at: datetime
    n_attempts: int


class Pushes:
    """The rows of tickets that are being made. pool: of the app role on schema sources; clock: the time in UTC."""

    def __init__(self, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._clock = clock

    async def begin(
        self,
        workspace_id: str,
        ticket_id: str,
        *,
        recommendation_id: str,
        connector_id: str,
        target: dict[str, str],
        requested_by: str | None,
    ) -> Push | None:
        """A try of our own, written down before anybody is asked; None while somebody else has one."""
        now = self._clock()
        async with tenant(self._pool, workspace_id) as conn:
            row = await _queries.begin_push(
                conn,
                workspace_id=workspace_id,
                ticket_id=ticket_id,
                recommendation_id=recommendation_id,
                connector_id=connector_id,
                target=msgspec.json.encode(target, order="deterministic").decode(),
                requested_by=requested_by,
                now=now,
                leased_until=now + LEASE,
            )
        return None if row is None else _push(workspace_id, ticket_id, row)

    async def take_up(self, workspace_id: str, ticket_id: str) -> Push | None:
        """What another try left behind; None where somebody has it in hand, or it is settled."""
        now = self._clock()
        async with tenant(self._pool, workspace_id) as conn:
            row = await _queries.take_up_push(
                conn, workspace_id=workspace_id, ticket_id=ticket_id, now=now, leased_until=now + LEASE
            )
        return None if row is None else _push(workspace_id, ticket_id, row)

    async def keep(self, push: Push) -> bool:
        """Hold a ticket for a whole lease from now; False where another try has taken it up, or ended it."""
        async with tenant(self._pool, push.workspace_id) as conn:
            row = await _queries.keep_push(
                conn,
                workspace_id=push.workspace_id,
                ticket_id=push.ticket_id,
                begun_at=push.begun_at,
                n_attempts=push.n_attempts,
                leased_until=self._clock() + LEASE,
            )
        return row is not None

    async def release(self, push: Push, *, after: timedelta) -> None:
        """Let a ticket go that may have been made; it can be taken up behind this time, unless another try has it."""
        async with tenant(self._pool, push.workspace_id) as conn:
            await _queries.release_push(
                conn,
                workspace_id=push.workspace_id,
                ticket_id=push.ticket_id,
                begun_at=push.begun_at,
                n_attempts=push.n_attempts,
                leased_until=self._clock() + after,
            )

    async def end(self, push: Push) -> None:
        """The log has the ticket, or it is known not to have been made; what another try has is left to it."""
        async with tenant(self._pool, push.workspace_id) as conn:
            await _queries.end_push(
                conn,
                workspace_id=push.workspace_id,
                ticket_id=push.ticket_id,
                begun_at=push.begun_at,
                n_attempts=push.n_attempts,
            )

    async def lapsed(self, *, limit: int) -> list[tuple[str, str]]:
        """Workspace and ticket of those that somebody began and nobody ended: of each workspace the one that waits for
        longest, then of each the next, so that none hides another's.
        """
        async with self._pool.connection() as conn:
            found = await _queries.list_lapsed_pushes(conn, now=self._clock(), row_limit=limit)
        return [
            (workspace_id, ticket_id)
            for workspace_id, _, ticket_id in (each.partition("/") for each in found)
        ]


def _push(workspace_id: str, ticket_id: str, row: _queries.BegunPush) -> Push:
    return Push(
        workspace_id=workspace_id,
        ticket_id=ticket_id,
        recommendation_id=row.recommendation_id,
        connector_id=row.connector_id,
        target=msgspec.json.decode(row.target, type=dict[str, str]),
        requested_by=row.requested_by,
        begun_at=row.begun_at,
        n_attempts=row.n_attempts,
    )
