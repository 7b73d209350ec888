"""What a service says of itself to be run, and what it is given to build itself from."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from eventlog import EventLog, ProjectedBatch, Projection, Projector, Reaction
from msgspec import Struct
from nats.aio.client import Client

from runtime import VERSION, database
from runtime.broker import Endpoint
from runtime.database import Pool
from runtime.settings import ServiceSettings

Hook = Callable[[], Awaitable[None]]


class Service(Struct, frozen=True, kw_only=True):
    """One service, as `build(settings, resources)` of its app.py returns it.

    name: of the service, its schema and its queue group.
    projection: its read model. reaction: partition → what reacts behind it on the leader.
    endpoints: served by every process. endpoints_on_leader: served only by the process that leads and has
        caught up, for those that need the leader's memory.
    routes: Litestar handlers next to the house's own. http: further arguments of Litestar.
    on_start: run in order, once pools are open and before anything is served. on_stop: run in reverse at the end.
    background: run as long as the process; when one ends or fails, the process does.
    ready: reasons why requests cannot be answered now, asked at each /ready.
    alarms: what is wrong although requests can be answered, without names or payloads; makes the state degraded.
    on_batch: called after each committed batch of this process's projectors.
    """

    name: str
    version: str = VERSION
    projection: Projection | None = None
    reaction: Callable[[int], Reaction] | None = None
    endpoints: Sequence[Endpoint] = ()
    endpoints_on_leader: Sequence[Endpoint] = ()
    routes: Sequence[Any] = ()  # Any: whatever Litestar takes as a route handler
    http: Mapping[str, Any] = {}  # Any: handed to Litestar as they are
    dashboard_path: str = "/"
    on_start: Sequence[Hook] = ()
    on_stop: Sequence[Hook] = ()
    background: Sequence[Hook] = ()
    ready: Callable[[], Awaitable[Sequence[str]]] | None = None
    alarms: Callable[[], Sequence[str]] | None = None
    on_batch: Callable[[ProjectedBatch], None] | None = None


def utc_now() -> datetime:
    """The time, aware and in UTC; the one clock of a process."""
    return datetime.now(UTC)


class Resources:
    """The process's connections, handed to `build`; opened and closed by the process, never by the service."""

    def __init__(self, settings: ServiceSettings, nc: Client, event_log: EventLog) -> None:
        self._settings = settings
        self.nc = nc
        self.event_log = event_log
        self.clock = utc_now
        self.pools: list[Pool] = []
        self.projectors: list[Projector] = []
        self.stopping = asyncio.Event()

    def pool(self, schema: str, *, url: str | None = None, max_size: int | None = None) -> Pool:
        """A pool of the app role on `schema`, open from before on_start until after on_stop.

        url: of another role, such as settings.database_projector_url for a leader that reads its own rows.
        """
        made = database.pool(
            url or self._settings.database_url,
            schema=schema,
            max_size=max_size or self._settings.database_pool_size,
        )
        self.pools.append(made)
        return made

    async def reached(self, workspace_id: str, seq: int, *, timeout: float) -> bool:  # noqa: ASYNC109
        """Whether this service's rows hold everything up to a sequence of the workspace's partition.

        Waits at most `timeout` seconds: the answer to read-your-writes, also on a standby.
        """
        if not self.projectors:
            return True
        projector = self.projectors[self.event_log.partition_of(workspace_id)]
        return await projector.reached(seq, timeout=timeout)

    def leads(self, partition: int = 0) -> bool:
        """Whether this process leads the partition and has caught up with the log."""
        if not self.projectors:
            return False
        status = self.projectors[partition].status
        return status.leader and status.state == "live"
