"""Asks vendors on behalf of connectors: in threads, a page at a time, so that nobody else has to wait."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import requests
from runtime.outbound import Reach

from services.ingest.connectors.connecting import Source
from services.ingest.connectors.manifest import Stream
from services.ingest.vendors import polling
from services.ingest.vendors.faults import VendorError
from services.ingest.vendors.oauth import Grants
from services.ingest.vendors.polling import Access, Check, Page, Window
from services.ingest.vendors.rates import Rates

PAUSE_SECONDS_MAX: Final = 60.0
"""How long a thread may wait for a vendor; whoever is told to wait longer gives it back."""
PROBE_SECONDS: Final = 25.0

T = TypeVar("T")


class Asking:
    """Threads that ask, and what they may reach. threads: how many vendors are asked at once."""

    def __init__(self, grants: Grants, reach: Reach, *, threads: int) -> None:
        self._grants = grants
        self._reach = reach
        self._rates = Rates(time.monotonic)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="vendor")
        self._stopping = threading.Event()

    async def access(self, workspace_id: str, source: Source, *, rejected: str | None = None) -> Access:
        """What a connector has to ask with. rejected: the token that the vendor has just refused. Raises VendorError."""
        secrets = await self._grants.fresh(source, workspace_id=workspace_id, rejected=rejected)
        return Access(source.manifest, source.settings.config, source.settings.auth, secrets)

    async def pages(
        self, access: Access, stream: Stream, window: Window, *, position: dict[str, object] | None
    ) -> AsyncGenerator[Page, None]:
        """The pages of a stream's window from a position on, each asked for when it is wanted. Raises VendorError."""
        session = self._session(access)
        try:
            found = polling.pages(
                access, stream, window, position=position, session=session, pause=self._pause
            )
            while (page := await self._in_thread(lambda: next(found, None))) is not None:
                yield page
        finally:
            session.close()

    async def probe(self, access: Access) -> list[Check]:
        """What works and what does not. Raises VendorError where it takes too long."""
        session = self._session(access)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._in_thread(lambda: polling.probe(access, session=session))
        except TimeoutError as error:
            raise VendorError("unreachable", "the vendor did not answer in time") from error
        finally:
            session.close()

    async def stop(self) -> None:
        """Let nobody wait any longer, and end the threads with what they are at."""
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _session(self, access: Access) -> requests.Session:
        return polling.open_session(access, reach=self._reach, rates=self._rates, pause=self._pause)

    def _pause(self, seconds: float) -> None:
        if seconds > PAUSE_SECONDS_MAX:
            raise VendorError("rate_limited", "the vendor asks to wait", retry_after=seconds)
        if self._stopping.wait(seconds):
            raise VendorError("unreachable", "this process is being stopped")
