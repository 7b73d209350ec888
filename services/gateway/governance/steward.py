"""Who does the jobs of governance: one gateway of all, chosen by a lock that lives and dies with its connection."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
import structlog
from eventlog import LogUnavailableError
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg_pool import PoolTimeout
from runtime.database import Pool
from runtime.errors import UnavailableError

from services.gateway.governance.erasing import Eraser
from services.gateway.governance.exporting import Exporter
from services.gateway.governance.retaining import BEGINNING, Behind, Retainer
from services.gateway.identity.governance import _queries

log = structlog.get_logger("gateway.steward")

POLL_SECONDS: Final = 1.0
RETENTION_SECONDS: Final = 3600.0
LOOKED_AFTER: Final = timedelta(hours=1)
LOOKED_EVERY: Final = timedelta(minutes=1)
"""How long after its end an erasure's stragglers are purged from the log, and how often."""

# The server notices a vanished leader within about five seconds and frees its lock.
_OPTIONS = (
    "-c search_path=identity -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
)
_WORLD_FAILED = (
    LogUnavailableError,
    UnavailableError,
    PoolTimeout,
    psycopg.Error,
    OSError,
)


class Steward:
    """Runs the jobs while it leads. Every gateway runs one; the one that holds the lock works.

    url: PostgreSQL as the application's role. people: the pool on identity.
    """

    def __init__(
        self,
        *,
        url: str,
        people: Pool,
        exporter: Exporter,
        eraser: Eraser,
        retainer: Retainer,
        clock: Callable[[], datetime],
    ) -> None:
        self._url = url
        self._people = people
        self._exporter = exporter
        self._eraser = eraser
        self._retainer = retainer
        self._clock = clock
        self._overdue = 0
        self._look_again_at = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Lead or stand by until cancelled; after a failure of the world begin again."""
        while True:
            try:
                await self._stand_by_and_lead()
            except _WORLD_FAILED as error:
                log.warning("steward.interrupted", error=repr(error))
                await asyncio.sleep(POLL_SECONDS)

    def alarms(self) -> Sequence[str]:
        """What an operator has to look at."""
        if not self._overdue:
            return ()
        return (f"{self._overdue} erasures of workspaces wait for a service; see the runbook on erasure.",)

    async def _stand_by_and_lead(self) -> None:
        conn = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            options=_OPTIONS,
            connect_timeout=5,
            application_name="causeloop-governance",
            cursor_factory=AsyncRawCursor,
        )
        async with conn:
            while True:
                if await _queries.try_lead(conn):
                    break
                await asyncio.sleep(POLL_SECONDS)
            work = [
                asyncio.create_task(_again_and_again(self._erase, POLL_SECONDS)),
                asyncio.create_task(_again_and_again(self._export, POLL_SECONDS)),
                asyncio.create_task(_again_and_again(self._retain, RETENTION_SECONDS)),
            ]
            try:
                while True:
                    # The lock is gone with the connection, and somebody else works then.
                    await conn.execute("SELECT 1")
                    done, _ = await asyncio.wait(
                        work, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        task.result()
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    async def _erase(self) -> None:
        now = self._clock()
        async with self._people.connection() as conn:
            erasures = await _queries.list_open_erasures(conn, since=now - LOOKED_AFTER)
        overdue = 0
        looks = now >= self._look_again_at
        if looks:
            self._look_again_at = now + LOOKED_EVERY
        for erasure in erasures:
            if erasure.status == "completed" and not looks:
                continue
            is_done = False
            with _alone("erasure.failed", erasure_id=erasure.erasure_id):
                is_done = await self._eraser.advance(erasure)
            overdue += not is_done and now - erasure.requested_at > timedelta(minutes=10)
        self._overdue = overdue

    async def _export(self) -> None:
        await self._exporter.expire()
        async with self._people.connection() as conn:
            jobs = await _queries.list_open_exports(conn)
        for job in jobs:
            await self._exporter.write(job)

    async def _retain(self) -> None:
        """Purge what is past its window and grace, one workspace after the other."""
        async with self._people.connection() as conn:
            windows = await _queries.list_retention_windows(conn)
        await self._retain_pages(windows)
        for window in windows:
            for purge, what in (
                (_queries.purge_audit, "audit_entries"),
                (_queries.purge_activity, "activity"),
            ):
                with _alone("retention.failed", workspace_id=window.workspace_id, work=f"purge_{what}"):
                    async with self._people.connection() as conn:
                        n_purged = await purge(conn, workspace_id=window.workspace_id)
                    if n_purged:
                        log.info("retention.purged", workspace_id=window.workspace_id, **{what: n_purged})
        async with self._people.connection() as conn:
            people = await _queries.purge_people(conn)
        if people:
            log.info("retention.purged_people", people=people)

    async def _retain_pages(self, windows: Sequence[_queries.Windows]) -> None:
        """A page of every work of every workspace in turn, until nothing is due: one that is large or fails holds up none."""
        works = self._retainer.works
        due = {(window, name): BEGINNING for window in windows for name in works}
        while due:
            behind: dict[tuple[_queries.Windows, str], Behind | None] = {}
            for (window, name), after in due.items():
                with _alone("retention.failed", workspace_id=window.workspace_id, work=name):
                    behind[window, name] = await works[name](window, after)
            due = {work: after for work, after in behind.items() if after is not None}


@contextmanager
def _alone(event: str, **ids: str) -> Iterator[None]:
    """The edge: a fault of one workspace is logged and holds up no other; its turn comes again."""
    try:
        yield
    except Exception:
        log.exception(event, **ids)


async def _again_and_again(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do it, wait, do it again; a failure of the world waits a little and tries again."""
    while True:
        try:
            await work()
        except _WORLD_FAILED as error:
            log.warning("steward.failed", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)
        else:
            await asyncio.sleep(seconds)
