"""How many requests a minute may hold: of an address without credentials, of an organization with them."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from msgspec import Struct
from prometheus_client import Counter
from runtime import metrics

from services.gateway.edge.address import network_of
from services.gateway.edge.counters import Counters
from services.gateway.errors import RateLimitedError
from services.gateway.identity.tokens import Principal

WINDOW_SECONDS = 60

UNMETERED = Counter(
    "causeloop_requests_unmetered",
    "Requests that passed uncounted because the store of the counters did not answer.",
    registry=metrics.REGISTRY,
)


class Standing(Struct, frozen=True):
    """Where a request stands in its window.

    limit: requests per window. used: its number in the window, from 1. reset_seconds: until the next window, 1 to 60.
    """

    limit: int
    used: int
    reset_seconds: int

    @property
    def is_over(self) -> bool:
        """Whether it is one too many."""
        return self.used > self.limit

    def refusal(self) -> RateLimitedError:
        """What whoever is one too many is told."""
        return RateLimitedError(
            f"More than {self.limit} requests in this minute. Try again in {self.reset_seconds} s.",
            retry_after=float(self.reset_seconds),
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer says of the window."""
        return [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % max(0, self.limit - self.used)),
            (b"x-ratelimit-reset", b"%d" % self.reset_seconds),
        ]


class Ticket:
    """A request that is being counted; nothing waits until somebody asks for the number."""

    def __init__(
        self, bucket: str, limit: int, reset_seconds: int, *, counting: asyncio.Future[int | None] | None
    ) -> None:
        self._bucket = bucket
        self._limit = limit
        self._reset_seconds = reset_seconds
        self._counting = counting
        self._standing: Standing | None = None

    @property
    def is_refused(self) -> bool:
        """Whether it is one too many for certain, without waiting for anybody."""
        return self._counting is None

    async def standing(self) -> Standing:
        """Where it stands; a request that could not be counted stands at the beginning."""
        if self._standing is None:
            used: int | None = self._limit + 1
            if self._counting is not None:
                used = await self._counting
            if used is None:
                UNMETERED.inc()
                used = 0
            self._standing = Standing(self._limit, used, self._reset_seconds)
        return self._standing


class Limits:
    """Counts requests in fixed windows of one minute, aligned to the clock; exact over all replicas.

    A fixed window lets up to twice the limit pass around its edge, and is one addition to check. Replicas whose clocks
    differ count the same window at slightly different times, so the limit of each window still holds.
    per_address: requests per window without credentials. per_connector: deliveries per window to one connector.
    """

    def __init__(
        self, counters: Counters, *, per_address: int, per_connector: int, clock: Callable[[], datetime]
    ) -> None:
        self._counters = counters
        self._per_address = per_address
        self._per_connector = per_connector
        self._clock = clock
        self._window = 0
        self._full: dict[str, int] = {}

    def is_full(self, address: str) -> bool:
        """Whether so many came from an address without good credentials that the next one is certainly refused."""
        self._turn()
        return bool(self._full) and self._full.get(_bucket_of(address), 0) >= self._per_address

    def take(self, *, address: str, principal: Principal | None) -> Ticket | None:
        """Count a request of a principal, or of an address without one; None: its plan has no limit."""
        if principal is None:
            return self.take_unknown(address)
        if principal.requests_per_minute is None:
            return None
        owner = principal.organization_id or principal.workspace_id
        return self._take(f"org.{_token(owner)}", principal.requests_per_minute)

    def take_unknown(self, address: str) -> Ticket:
        """Count a vendor's call that nobody knows yet to be one."""
        return self._take(_bucket_of(address), self._per_address)

    def take_delivery(self, connector_id: str) -> Ticket:
        """Count a vendor's call from where good ones came."""
        return self._take(f"hook.{_token(connector_id)}", self._per_connector)

    def _take(self, bucket: str, limit: int) -> Ticket:
        window, elapsed = self._turn()
        reset_seconds = WINDOW_SECONDS - elapsed
        # A window that is known to be full stays so: whoever floods us costs the store nothing.
        if self._full.get(bucket, 0) >= limit:
            return Ticket(bucket, limit, reset_seconds, counting=None)
        counting = self._counters.add(f"{bucket}.{window}")
        counting.add_done_callback(lambda done: self._note(bucket, window, limit, done))
        return Ticket(bucket, limit, reset_seconds, counting=counting)

    def _turn(self) -> tuple[int, int]:
        """The window that it is now, and how many of its seconds are over; what was full before is not any more."""
        window, elapsed = divmod(int(self._clock().timestamp()), WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._full.clear()
        return window, elapsed

    def _note(self, bucket: str, window: int, limit: int, done: asyncio.Future[int | None]) -> None:
        if done.cancelled() or window != self._window:
            return
        used = done.result()
        if used is not None and used >= limit:
            self._full[bucket] = used


def _bucket_of(address: str) -> str:
    return f"ip.{_token(network_of(address))}"


@lru_cache(4096)
def _token(text: str) -> str:
    """A name as one token of a subject: addresses have dots and colons."""
    return "".join(char if char.isalnum() else "-" for char in text) or "unknown"
