"""One service process at work: start in order, run until told or broken, stop in reverse."""

import asyncio
import errno
import gc
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TypeVar

import psycopg
import structlog
import uvicorn
from eventlog import EventLog, LogUnavailableError, ProjectedBatch, Projection, Projector, ReadModelError
from eventlog import apply_schema as apply_read_model
from eventlog import rebuild as rebuild_read_model
from nats.aio.client import Client
from psycopg import AsyncConnection, AsyncRawCursor

from runtime import broker, database
from runtime.broker import Endpoint, EndpointServer
from runtime.errors import StartError, described
from runtime.http import build_app
from runtime.monitor import Monitor
from runtime.service import Hook, Resources, Service
from runtime.settings import ServiceSettings

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

START_DEADLINE_SECONDS = 20.0
DRAIN_SECONDS = 2.0
STOP_DEADLINE_SECONDS = 4.5
LEADERSHIP_POLL_SECONDS = 0.1


class _Server(uvicorn.Server):
    """Uvicorn inside our loop: signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield


async def serve(name: str, settings: S, build: Callable[[S, Resources], Service]) -> int:
    """Run the service until SIGTERM or SIGINT; the exit code: 0, or 1 when a part of it broke.

    Raises StartError, with one line that says what to do, when it cannot start.
    """
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    listener = listen(settings.host, settings.port)
    try:
        async with connected(name, settings) as resources:
            service = build(settings, resources)
            running = _Running(settings, service, resources)
            try:
                await running.start(listener)
                return await running.until(asked_to_stop)
            finally:
                await running.stop()
    finally:
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """The bound socket of the service; raises StartError when another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            hint = "Stop that program, or set PORT to a free port."
            raise StartError(f"Port {port} is in use by another program. {hint}") from error
        raise StartError(f"Cannot listen on {host}:{port}: {error.strerror}. Check HOST and PORT.") from error
    listener.set_inheritable(False)
    return listener


@asynccontextmanager
async def connected(name: str, settings: ServiceSettings) -> AsyncIterator[Resources]:
    """NATS, the event log and a reachable database; raises StartError about what is missing."""
    await wait_for_database(settings)
    nc = await broker.connect(settings.nats_url, name=f"causeloop-{name}", deadline=START_DEADLINE_SECONDS)
    try:
        yield Resources(settings, nc, await _event_log(nc, settings))
    finally:
        await _close(nc)


async def wait_for_database(settings: ServiceSettings) -> None:
    """Return when the database lets us in; raises StartError when it does not within the deadline."""
    give_up_at = time.monotonic() + START_DEADLINE_SECONDS
    while True:
        try:
            await database.require(settings.database_url, variable="DATABASE_URL")
            return await database.require(settings.database_projector_url, variable="DATABASE_PROJECTOR_URL")
        except StartError as error:
            if not database.is_passing(error) or time.monotonic() >= give_up_at:
                raise
            await asyncio.sleep(0.25)


async def _event_log(nc: Client, settings: ServiceSettings) -> EventLog:
    give_up_at = time.monotonic() + START_DEADLINE_SECONDS
    while True:
        try:
            return await EventLog.connect(nc, partitions=settings.partitions, replicas=settings.replicas)
        except LogUnavailableError as error:
            if time.monotonic() >= give_up_at:
                raise StartError(
                    f"JetStream does not answer: {error}. Is it enabled behind NATS_URL?"
                ) from error
            await asyncio.sleep(0.25)


async def _close(nc: Client) -> None:
    try:
        async with asyncio.timeout(1.0):
            await nc.drain()
    except Exception as error:  # noqa: BLE001  # edge: a broker that is gone must not hold up the end
        log.debug("nats.close_failed", error=repr(error))
        await nc.close()


async def ensure_schema(resources: Resources, settings: ServiceSettings, projection: Projection) -> None:
    """Make the read model's schema; when an older version is there, rebuild it beside and switch."""
    if not settings.database_owner_url:
        return
    give_up_at = time.monotonic() + START_DEADLINE_SECONDS
    while True:
        try:
            owner = await AsyncConnection.connect(
                settings.database_owner_url, autocommit=True, cursor_factory=AsyncRawCursor
            )
            async with owner:
                found = await apply_read_model(owner, projection.name, projection.schema_sql)
            if found == "outdated":
                log.info("read_model.rebuild_started", service=projection.name, version=projection.version)
                await rebuild_read_model(
                    resources.event_log,
                    projection,
                    owner_url=settings.database_owner_url,
                    projector_url=settings.database_projector_url,
                )
            return
        except (ReadModelError, psycopg.errors.DuplicateSchema, psycopg.errors.UniqueViolation) as error:
            # Another process of this service does the same at this moment.
            if time.monotonic() >= give_up_at:
                raise StartError(f"The read model of {projection.name} cannot be made: {error}") from error
            await asyncio.sleep(0.25)
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            raise StartError(f"Cannot reach PostgreSQL: {reason}. Check DATABASE_OWNER_URL.") from error


class _Running:
    """The parts of one running service, started in order and stopped in reverse."""

    def __init__(self, settings: ServiceSettings, service: Service, resources: Resources) -> None:
        self._settings = settings
        self._service = service
        self._resources = resources
        self._monitor = Monitor(settings, service, resources)
        self._server: _Server | None = None
        self._endpoints: EndpointServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started_hooks = False
        self._stack = AsyncExitStack()

    async def start(self, listener: socket.socket) -> None:
        """Pools, schema, hooks, projectors, endpoints, HTTP; each needs those before it."""
        service, resources = self._service, self._resources
        if service.projection is not None:
            await ensure_schema(resources, self._settings, service.projection)
        for pool in resources.pools:
            await pool.open()
            self._stack.push_async_callback(pool.close, timeout=1.0)
        self._started_hooks = True
        for hook in service.on_start:
            await hook()
        for number in range(self._settings.partitions if service.projection is not None else 0):
            self._start_projector(number, service.projection)
        if service.endpoints:
            self._endpoints = await broker.serve(
                resources.nc, service.name, service.version, service.endpoints
            )
        if service.endpoints_on_leader:
            self._spawn(self._serve_while_leading(), "leader-endpoints")
        for number, hook in enumerate(service.background):
            self._spawn(_run(hook), f"background-{number}")
        self._start_http(listener)
        self._spawn(self._monitor.sample(), "monitor")
        # What start-up has made stays: looking for garbage in it would halt all requests for a tenth of a second.
        gc.collect()
        gc.freeze()
        self._monitor.started()
        log.info("service.started", port=self._settings.port, version=service.version)

    def _start_projector(self, partition: int, projection: Projection | None) -> None:
        assert projection is not None

        def on_batch(batch: ProjectedBatch) -> None:
            self._monitor.on_batch(partition, batch)
            if self._service.on_batch is not None:
                self._service.on_batch(batch)

        react = self._service.reaction
        projector = Projector(
            self._resources.event_log,
            projection,
            url=self._settings.database_projector_url,
            partition=partition,
            reaction=None if react is None else react(partition),
            clock=self._resources.clock,
            on_batch=on_batch,
        )
        self._resources.projectors.append(projector)
        self._spawn(projector.run(), f"projector-{partition}")

    def _start_http(self, listener: socket.socket) -> None:
        is_production = self._settings.environment == "production"
        app = build_app(
            self._service.name,
            status=self._monitor.status,
            routes=self._service.routes,
            dashboard_path=self._service.dashboard_path,
            operations_token=self._settings.operations_token or (None if is_production else ""),
            ready=self._service.ready,
            **self._service.http,
        )
        config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            server_header=False,
            # Uvicorn would believe any X-Forwarded-For from this machine; the gateway's edge knows whom to believe.
            proxy_headers=False,
            timeout_graceful_shutdown=int(DRAIN_SECONDS),
            timeout_keep_alive=30,
        )
        self._server = _Server(config)
        self._spawn(self._server.serve(sockets=[listener]), "http")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _serve_while_leading(self) -> None:
        """Serve the leader's endpoints per partition exactly while this process leads it."""
        served: dict[int, EndpointServer] = {}
        while True:
            for partition in range(self._settings.partitions):
                leads = self._resources.leads(partition)
                if leads and partition not in served:
                    served[partition] = await broker.serve(
                        self._resources.nc,
                        self._service.name,
                        self._service.version,
                        [
                            self._on_partition(endpoint, partition)
                            for endpoint in self._service.endpoints_on_leader
                        ],
                    )
                elif not leads and partition in served:
                    await served.pop(partition).stop(deadline=0.0)
            await asyncio.sleep(LEADERSHIP_POLL_SECONDS)

    def _on_partition(self, endpoint: Endpoint, partition: int) -> Endpoint:
        name = broker.name_on_partition(endpoint.name, partition, self._settings.partitions)
        return Endpoint(name=name, request=endpoint.request, handle=endpoint.handle)

    async def until(self, asked_to_stop: asyncio.Event) -> int:
        """Wait for the wish to stop or for a part that ends by itself; the exit code."""
        stop = asyncio.create_task(asked_to_stop.wait(), name="signal")
        done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        broken = [task for task in done if task is not stop]
        for task in broken:
            error = None if task.cancelled() else task.exception()
            log.error(
                "service.part_ended", part=task.get_name(), error=error and described(error), exc_info=error
            )
        return 1 if broken else 0

    async def stop(self) -> None:
        """Take nothing new, finish what runs, then close; within the deadline, whatever happens."""
        self._resources.stopping.set()
        log.info("service.stopping")
        try:
            async with asyncio.timeout(STOP_DEADLINE_SECONDS):
                await self._drain()
        except TimeoutError:
            log.warning("service.stop_cut_short", seconds=STOP_DEADLINE_SECONDS)
        log.info("service.stopped")

    async def _drain(self) -> None:
        drains: list[Coroutine[None, None, None]] = []
        if self._endpoints is not None:
            drains.append(self._endpoints.stop(deadline=DRAIN_SECONDS))
        if self._server is not None:
            self._server.should_exit = True
            drains.append(_ended([task for task in self._tasks if task.get_name() == "http"]))
        await asyncio.gather(*drains, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for hook in reversed(self._service.on_stop if self._started_hooks else ()):
            try:
                await hook()
            except Exception as error:  # edge: one hook must not keep the others from running
                log.exception("service.stop_hook_failed", error=repr(error))
        await self._stack.aclose()


async def _run(hook: Hook) -> None:
    await hook()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
