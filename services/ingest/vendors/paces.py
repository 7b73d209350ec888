"""Paces of accounts in PostgreSQL: what one process asks of a vendor counts for all of them."""

import asyncio
import hmac
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import datetime, timedelta
from typing import Final, TypeVar

import psycopg
from psycopg_pool import PoolTimeout
from runtime.database import Pool
from runtime.errors import UnavailableError

from services.ingest.vendors import _queries
from services.ingest.vendors.rate_limiter import Pace

T = TypeVar("T")

PATIENCE_SECONDS: Final = 5.0
"""How long a thread waits for the database."""
TRIES_MAX: Final = 20
"""How often a pace is decided anew because another process was faster."""
FORGOTTEN_AFTER: Final = timedelta(hours=2)
"""Longer than any turn is given out ahead."""


class SharedPaces:
    """Rows that all processes change. Threads ask, the loop that started it answers.

    pool: of the application's role, on the schema sources. key: what names of accounts are hashed with, for they follow
    from credentials. clock: the time in UTC.
    """

    def __init__(self, pool: Pool, *, key: bytes, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._key = key
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Once, in the loop that the pool is open in, before anything is changed."""
        self._loop = asyncio.get_running_loop()

    def change(self, account: str, decide: Callable[[Pace], tuple[Pace, T]]) -> T:
        """Replace a pace, from a thread beside the loop. Raises UnavailableError."""
        if self._loop is None:
            raise UnavailableError("The pace of accounts is not known yet.")
        changing = asyncio.run_coroutine_threadsafe(self._change(account, decide), self._loop)
        try:
            return changing.result(PATIENCE_SECONDS)
        except (psycopg.OperationalError, PoolTimeout, TimeoutError, CancelledError) as error:
            changing.cancel()
            raise UnavailableError("The database does not say how fast an account may be asked.") from error

    async def forget(self) -> int:
        """Delete what is kept of accounts that nobody asks any more; how many."""
        async with self._pool.connection() as conn:
            return await _queries.forget_paces(conn, kept_before=self._clock() - FORGOTTEN_AFTER)

    async def _change(self, account: str, decide: Callable[[Pace], tuple[Pace, T]]) -> T:
        name = hmac.digest(self._key, account.encode(), "sha256").hex()
        async with self._pool.connection() as conn:
            for _ in range(TRIES_MAX):
                row = await _queries.get_pace(conn, account=name)
                known = Pace() if row is None else Pace(row.free_at, row.back_at)
                pace, found = decide(known)
                n_kept = await _queries.keep_pace(
                    conn,
                    account=name,
                    free_at=pace.free_at,
                    back_at=pace.back_at,
                    known_free_at=known.free_at,
                    known_back_at=known.back_at,
                    now=self._clock(),
                )
                if n_kept:
                    return found
        raise UnavailableError("Many processes ask one account at this moment.")
