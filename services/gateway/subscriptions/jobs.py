"""Jobs whose state changes, told to the clients of their workspace by every gateway."""

import asyncio
from typing import Final

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout
from runtime.errors import UnavailableError

from services.gateway.routes.exports import find_export
from services.gateway.routes.operation import Gateway
from services.gateway.subscriptions.frames import Frame
from services.gateway.subscriptions.hub import Hub

log = structlog.get_logger("gateway.jobs")

RETRY_SECONDS: Final = 1.0
_OPTIONS = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"


class Announcer:
    """Listens to the database for jobs that changed. A client that misses one reads the job on reconnecting.

    url: PostgreSQL as the application's role.
    """

    def __init__(self, gateway: Gateway, hub: Hub, *, url: str) -> None:
        self._gateway = gateway
        self._hub = hub
        self._url = url

    async def run(self) -> None:
        """Announce until cancelled; after a failure of the database begin again."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, PoolTimeout, UnavailableError, OSError) as error:
                log.warning("jobs.interrupted", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        conn = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            options=_OPTIONS,
            connect_timeout=5,
            application_name="causeloop-jobs",
        )
        async with conn:
            await conn.execute("LISTEN governance_job")
            async for notice in conn.notifies():
                workspace_id, _, export_id = notice.payload.partition("/")
                await self._announce(workspace_id, export_id)

    async def _announce(self, workspace_id: str, export_id: str) -> None:
        if not self._hub.has_listeners(workspace_id):
            return
        export = await find_export(self._gateway, workspace_id, export_id)
        if export is not None:
            payload = {
                "id": export.id,
                "kind": export.kind,
                "status": export.status,
                "result_url": export.result_url,
            }
            now = self._gateway.resources.clock()
            self._hub.tell(workspace_id, Frame("job.updated", msgspec.to_builtins(payload), now))
