"""Asks vendors on behalf of connectors: in threads, a page at a time, so that nobody else has to wait."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import requests
import structlog
from runtime.errors import UnavailableError
from runtime.outbound import Reach

from services.ingest.connectors.connecting import Source
from services.ingest.connectors.manifest import Stream
from services.ingest.errors import VendorError
from services.ingest.vendors import polling
from services.ingest.vendors.oauth import Grants
from services.ingest.vendors.polling import Access, Check, Page, Window
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession

PAUSE_SECONDS_MAX: Final = 60.0
"""How long a thread may wait for a vendor; whoever is told to wait longer gives it back."""
PROBE_SECONDS: Final = 25.0
PROBES_PER_WORKSPACE: Final = 2
"""Tried at once for one workspace, until their threads are free again."""

_loading: Final = threading.Lock()

log = structlog.get_logger()


def _load() -> None:
    """Import the library that asks, whole: its modules import each other in circles, so whoever began to while another was
    at it could find half of one. Here, for it takes a second, and as much memory as all else.
    """
    with _loading:
        try:
            import dlt.common.configuration.specs.runtime_configuration  # noqa: PLC0415
            import dlt.sources.helpers.rest_client.client  # noqa: F401, PLC0415
        except (ImportError, OSError, MemoryError):
            # A thread that fails to begin would end all others for good; whoever asks imports it once more.
            log.exception("asking.not_loaded")


class Asking:
    """Threads that ask, and what they may reach.

    threads: how many vendors are asked at once. probes: how many connections are tried beside them. rate_limiter: how fast.
    """

    def __init__(
        self, grants: Grants, reach: Reach, *, threads: int, probes: int, rate_limiter: RateLimiter
    ) -> None:
        self._grants = grants
        self._reach = reach
        self._rate_limiter = rate_limiter
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="vendor", initializer=_load)
        self._probing = ThreadPoolExecutor(probes, thread_name_prefix="probe", initializer=_load)
        self._probes: list[tuple[str, Future[list[Check]]]] = []
        self._sessions: set[requests.Session] = set()
        self._stopping = threading.Event()

    async def access(self, workspace_id: str, source: Source, *, rejected: str | None = None) -> Access:
        """What a connector has to ask with. rejected: the token that the vendor has just refused. Raises VendorError."""
        secrets = await self._grants.fresh(source, workspace_id=workspace_id, rejected=rejected)
        return Access(source.manifest, source.settings.config, source.settings.auth, secrets, workspace_id)

    async def pages(
        self,
        access: Access,
        stream: Stream,
        window: Window,
        *,
        position: dict[str, object] | None,
        goes_on: Callable[[], bool],
    ) -> AsyncGenerator[Page, None]:
        """The pages of a stream's window from a position on; while one is worked on, the next is asked for.

        goes_on: asked before each page is given, whether the next will be wanted; otherwise it is asked for only then.
        Raises VendorError; AccountBusyError where a page would have to wait for its account's turn.
        """
        with self._session(access) as session:
            found = polling.pages(
                access, stream, window, position=position, session=session, pause=self._pause
            )
            asked: asyncio.Future[Page | None] | None = None
            try:
                while (page := await (asked := asked or self._ask(found, session))) is not None:
                    # A generator in a thread can be asked for one thing at a time, and this one is ready.
                    asked = self._ask(found, session) if goes_on() else None
                    yield page
            finally:
                # Nobody wants it any more; the session ends, and its thread is free then.
                if asked is not None and not asked.cancel() and not asked.cancelled():
                    asked.exception()

    async def probe(self, workspace_id: str, access: Access) -> list[Check]:
        """What works and what does not.

        Where others ask the account at this moment nothing is tried, and the checks say so.
        Raises VendorError where it takes too long, UnavailableError where the workspace has others tried.
        """
        # Counted until its thread is free, which may be later than somebody is told.
        self._probes = [(of, each) for of, each in self._probes if not each.done()]
        if sum(of == workspace_id for of, _ in self._probes) >= PROBES_PER_WORKSPACE:
            raise UnavailableError(
                "Other connectors of this workspace are being tried.", retry_after=PROBE_SECONDS
            )
        with self._session(access) as session:
            session.stand_back()
            trying = self._probing.submit(polling.probe, access, session=session)
            self._probes.append((workspace_id, trying))
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    return await asyncio.wrap_future(trying)
            except TimeoutError as error:
                raise VendorError("unreachable", "the vendor did not answer in time") from error

    async def stop(self) -> None:
        """Let nobody wait any longer, and end the threads with what they are at."""
        self._stopping.set()
        for session in tuple(self._sessions):
            session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._probing.shutdown(wait=False, cancel_futures=True)

    def _ask(self, found: Iterator[Page], session: GuardedSession) -> "asyncio.Future[Page | None]":
        session.give_way()
        return asyncio.get_running_loop().run_in_executor(self._threads, next, found, None)

    @contextmanager
    def _session(self, access: Access) -> Iterator[GuardedSession]:
        """A session that ends with the block, and with it whatever a thread still asks."""
        session = polling.open_session(
            access, reach=self._reach, rate_limiter=self._rate_limiter, pause=self._pause
        )
        self._sessions.add(session)
        try:
            yield session
        finally:
            self._sessions.discard(session)
            session.close()

    def _pause(self, seconds: float) -> None:
        if seconds > PAUSE_SECONDS_MAX:
            raise VendorError("rate_limited", "the vendor asks to wait", retry_after=seconds)
        if self._stopping.wait(seconds):
            raise VendorError("unreachable", "this process is being stopped")
