"""Starts everything in order, keeps it running, and stops it in the opposite order."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from runtime.embedded import require_free_port
from runtime.errors import StartError

from causeloop.api import Api, connected
from causeloop.exits import CliError, NotAvailableError
from causeloop.running import SERVICES, Running, write_running
from causeloop.teller import Teller, utc_now
from causeloop.up.database import prepare_schemas
from causeloop.up.folder import DataFolder
from causeloop.up.processes import LogFollower, ServicePlan, ServiceProcess, service_environment
from causeloop.up.screen import Screen, show
from causeloop.up.servers import DatabaseUrls, Servers
from causeloop.up.settings import UpSettings

READY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
SERVER_POLL_SECONDS: Final = 0.5
TOKEN_POLL_SECONDS: Final = 0.5
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Addresses(Struct, frozen=True, kw_only=True):
    """Where the servers are."""

    nats_url: str
    database: DatabaseUrls


class Supervisor:
    """One run of `causeloop up`."""

    def __init__(
        self,
        settings: UpSettings,
        environment: Mapping[str, str],
        *,
        root: Path,
        console: Console,
        verbose: bool,
        with_story: bool = True,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._console = console
        self._verbose = verbose
        self._with_story = with_story
        self._root = root
        self._folder = DataFolder(settings.causeloop_data)
        self._services: list[ServiceProcess] = []
        self._servers: Servers | None = None
        self._stop = asyncio.Event()
        self._n_signals = 0

    async def run(self) -> None:
        """Start, show the screen, keep running until a signal comes, stop.

        Raises CliError when it cannot start; whatever had been started is stopped first.
        """
        self._started = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await self._keep_running()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        except StartError as error:
            raise NotAvailableError(str(error)) from error
        finally:
            await self._shut_down()

    def _on_signal(self) -> None:
        self._n_signals += 1
        self._stop.set()
        if self._n_signals > 1:
            for service in self._services:
                service.kill()

    async def _start(self) -> None:
        self._folder.open()
        for offset, name in enumerate(SERVICES):
            what = "the API" if name == "gateway" else f"the {name} service (PORT + {offset})"
            require_free_port(self._settings.port + offset, what=what, variable="PORT")
        addresses = await self._start_servers()
        await self._prepare(addresses)
        await self._start_services(addresses)

    async def _start_servers(self) -> Addresses:
        self._servers = Servers(self._settings, self._folder, self._folder.secrets())
        nats_url = await self._servers.start_nats()
        if not (self._folder.path / "postgres" / "data").exists() and not self._settings.database_url:
            self._say(f"Making a database in {self._folder.path} …")
        return Addresses(nats_url=nats_url, database=self._servers.start_database())

    async def _prepare(self, addresses: Addresses) -> None:
        schemas = await prepare_schemas(addresses.database.owner, self._root)
        for service, state in schemas.items():
            if state == "outdated":
                self._say(
                    f"The read model of {service} has a new shape; the service builds it again from the log."
                )

    async def _start_services(self, addresses: Addresses) -> None:
        urls = self._urls()
        for name in SERVICES:
            plan = ServicePlan(
                name=name, url=urls[name], environment=self._service_environment(name, addresses)
            )
            self._services.append(ServiceProcess(plan, root=self._root, folder=self._folder))
        write_running(
            self._folder.path,
            Running(
                pid=os.getpid(),
                started_at=utc_now(),
                urls=urls,
                nats_url=addresses.nats_url,
                environment=self._decided(addresses),
            ),
        )
        for service in self._services:
            service.start()
        async with httpx.AsyncClient(timeout=2.0) as client:
            await asyncio.gather(*(self._wait_ready(service, client) for service in self._services))

    async def _wait_ready(self, service: ServiceProcess, client: httpx.AsyncClient) -> None:
        """Wait until a service answers /ready; one that has much to catch up on may take longer than we wait."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if service.exit_code is not None:
                raise service.failure()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"{service.plan.url}/ready")).is_success:
                    return
            await asyncio.sleep(POLL_SECONDS)
        self._say(f"{service.plan.name} is not ready after {READY_SECONDS:.0f} s; see {service.plan.url}")

    async def _keep_running(self) -> None:
        """Show the screen, then watch and tell until asked to stop."""
        async with self._client() as api, asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(service.watch(self._say)) for service in self._services]
            watchers.append(tasks.create_task(self._watch_servers()))
            if self._verbose:
                watchers.append(tasks.create_task(LogFollower(self._folder, SERVICES, self._say).run()))
            teller = self._teller(api)
            self._show(api, story=_story_line(teller))
            if teller is not None:
                watchers.append(tasks.create_task(self._tell(teller)))
            await self._stop.wait()
            for task in watchers:
                task.cancel()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Api | None]:
        """A client of our own API; None where tokens come from a real identity provider only."""
        async with AsyncExitStack() as stack:
            yield await self._entered(stack)

    async def _entered(self, stack: AsyncExitStack) -> Api | None:
        """The client; asked for again while the gateway is busy, as on a machine that still starts the others."""
        give_up_at = time.monotonic() + READY_SECONDS
        while True:
            client = connected(url=self._urls()["gateway"], token=None, folder=self._folder.path)
            try:
                return await stack.enter_async_context(client)
            except CliError as error:
                is_over = time.monotonic() >= give_up_at or self._stop.is_set()
                if is_over or not isinstance(error, NotAvailableError):
                    self._say(f"No token was given: {error.message}")
                    return None
            await asyncio.sleep(TOKEN_POLL_SECONDS)

    def _teller(self, api: Api | None) -> Teller | None:
        if api is None or not self._settings.use_mock or not self._with_story:
            return None
        return Teller(api, self._folder.path, clock=utc_now, rng=random.Random())

    async def _tell(self, teller: Teller) -> None:
        try:
            await teller.tell_past()
        except CliError as error:
            self._say(f"the demo's story could not be told: {error.message}")
            return
        await teller.tell_live(self._say)

    async def _watch_servers(self) -> None:
        """Start an embedded server again when it died; the services reconnect by themselves."""
        while self._servers is not None:
            for name, server in self._servers.embedded.items():
                if not server.is_running:
                    self._say(f"{name} ended; starting it again.")
                    server.stop()
                    await self._start_again(name)
            await asyncio.sleep(SERVER_POLL_SECONDS)

    async def _start_again(self, name: str) -> None:
        assert self._servers is not None
        try:
            self._servers.embedded[name].start()
        except StartError as error:
            self._say(f"{name} does not start: {error} Trying again.")
            await asyncio.sleep(2.0)

    async def _shut_down(self) -> None:
        """The gateway first, so that nothing new comes in; then the others, the log, the database."""
        if self._services and self._n_signals:
            self._say("Stopping …")
        gateway, others = self._services[:1], self._services[1:]
        for group in (gateway, others):
            for service in group:
                service.ask_to_stop()
            await asyncio.gather(*(service.wait_stopped() for service in group))
        if self._servers is not None:
            self._servers.stop()
        self._folder.close()
        if self._n_signals:
            self._say("Stopped. The data is kept.")

    def _urls(self) -> dict[str, str]:
        host = "127.0.0.1" if self._settings.host in {"", "0.0.0.0", "::"} else self._settings.host
        return {name: f"http://{host}:{self._settings.port + offset}" for offset, name in enumerate(SERVICES)}

    def _dashboards(self) -> dict[str, str]:
        """The services' pages for people; the gateway's root belongs to the API."""
        urls = self._urls()
        return {**urls, "gateway": f"{urls['gateway']}/status"}

    def _decided(self, addresses: Addresses) -> dict[str, str]:
        """The variables that are the same for every service."""
        secrets = self._folder.secrets()
        return {
            "NATS_URL": addresses.nats_url,
            "DATABASE_URL": addresses.database.app,
            "DATABASE_PROJECTOR_URL": addresses.database.projector,
            "DATABASE_OWNER_URL": addresses.database.owner,
            "CAUSELOOP_DATA": str(self._folder.path),
            "JWT_SECRET": self._settings.jwt_secret or secrets.jwt_secret,
            "CAUSELOOP_MASTER_KEY": self._settings.causeloop_master_key or secrets.master_key,
            "USE_MOCK": "1" if self._settings.use_mock else "0",
            "SERVICE_URLS": ",".join(f"{name}={url}" for name, url in self._dashboards().items()),
            "PARTITIONS": self._environment.get("PARTITIONS", ""),
        }

    def _service_environment(self, service: str, addresses: Addresses) -> dict[str, str]:
        port = self._settings.port + SERVICES.index(service)
        return service_environment(self._environment, {**self._decided(addresses), "PORT": str(port)})

    def _show(self, api: Api | None, *, story: str) -> None:
        screen = Screen(
            urls=self._urls(),
            folder=str(self._folder.path),
            token=None if api is None else api.token.access_token,
            workspace_id="" if api is None else api.token.workspace_id,
            seconds=time.monotonic() - self._started,
            story=story,
        )
        show(screen, self._console)

    def _say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)


def _story_line(teller: Teller | None) -> str:
    if teller is None:
        return ""
    if teller.is_past_told():
        return "a new failure every 10 to 20 s"
    return "eight weeks of a shop's failures are being reported now; then a new one every 10 to 20 s"
