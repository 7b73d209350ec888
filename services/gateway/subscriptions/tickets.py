"""Tickets for the stream: each opens it once, whichever gateway it is shown to."""

from collections.abc import Callable, Sequence
from datetime import datetime

from runtime.errors import UnauthorizedError, UnavailableError

from services.gateway.edge.counters import KEPT_SECONDS, Counters
from services.gateway.identity.tokens import TICKET_SECONDS, Claimed, read_ticket

# The counter of a ticket has to outlive it, also where clocks differ by a minute.
assert KEPT_SECONDS >= TICKET_SECONDS + 60


class Tickets:
    """Takes tickets. Whether one was used before is counted where all gateways count (docs/decisions/0011)."""

    def __init__(self, counters: Counters, *, secrets: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._counters = counters
        self._secrets = secrets
        self._clock = clock

    async def take(self, ticket: str) -> Claimed:
        """Whose session or API token it stands for; from now on it stands for none.

        Raises UnauthorizedError for one that is wrong, expired or used, UnavailableError when nobody can say which.
        """
        read = read_ticket(ticket, secrets=self._secrets, now=self._clock())
        used = await self._counters.add(f"ticket.{read.nonce}")
        if used is None:
            raise UnavailableError(
                "Tickets cannot be checked now. Get another one in a moment.", retry_after=2
            )
        if used > 1:
            raise UnauthorizedError("The ticket was used before. Get another one.")
        return read.claimed
