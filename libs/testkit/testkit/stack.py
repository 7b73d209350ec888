"""The real thing: PostgreSQL, NATS and service processes that a test can kill and start again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import httpx
import msgspec
from runtime import children
from runtime.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    NatsOptions,
    PostgresOptions,
    bootstrap_roles,
    free_port,
)
from runtime.health import ServiceStatus
from runtime.monitor import SERVICES

from testkit.servers import SMALL_NATS, SMALL_POSTGRES, Database, temporary_folder, urls_of
from testkit.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
"""The repository, where `python -m services.<name>` works."""
JWT_SECRET = "a-secret-for-tests-of-32-characters"  # noqa: S105  # of every service of a stack


class ServiceProcess:
    """One service process: `python -m <module>` on its port, with its log in a file."""

    def __init__(self, name: str, module: str, *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.port = int(env["PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        self._module = module
        self._env = dict(env)
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code once it has ended."""
        return None if self._child is None else self._child.poll()

    def start(self, *arguments: str) -> Self:
        """Start it, or start it again."""
        assert self.pid is None, f"{self.name} already runs"
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", self._module, *arguments]
            self._child = children.spawn(command, env=self._environment(), cwd=ROOT, output=log)
        return self

    async def ready(self, *, deadline: float = 120.0) -> Self:
        """Wait until it answers /ready with 200; AssertionError with its log when it does not."""
        async with httpx.AsyncClient(base_url=self.url, timeout=10.0) as client:

            async def answers() -> bool:
                if self.pid is None:
                    raise RuntimeError(f"{self.name} ended with {self.exit_code}:\n{self.output()[-4000:]}")
                try:
                    answer = await client.get("/ready")
                except httpx.TransportError:
                    return False
                assert answer.status_code == 200, answer.text
                return True

            try:
                await eventually(answers, deadline=deadline, every=0.05)
            except AssertionError as error:
                reason = f"{self.name} is not ready ({error.__cause__}):\n{self.output()[-4000:]}"
                raise AssertionError(reason) from error
        return self

    async def status(self) -> ServiceStatus:
        """What its /status.json says."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            return msgspec.json.decode((await client.get("/status.json")).content, type=ServiceStatus)

    async def run(self, *arguments: str, deadline: float = 120.0) -> tuple[int, str]:
        """Run the same program beside it, as `run("verify", "--json")`; its exit code and its output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            *arguments,
            env=self._environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(deadline):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode or 0, output.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), **self._env}

    def wait(self, *, deadline: float = 120.0) -> int:
        """Wait for it to end by itself; the exit code."""
        assert self._child is not None
        return self._child.wait(timeout=deadline)

    def stop(self, *, deadline: float = 30.0) -> int:
        """Ask it to stop; the exit code."""
        assert self._child is not None
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        return self._child.wait(timeout=deadline)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def output(self) -> str:
        """Everything it has logged, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Stack:
    """The servers and services of one Causeloop on free ports, in a folder that goes away.

    services: which of the five to run. env: further variables for all of them.
    postgres, nats: options of the servers; the default is small and without fsync.
    """

    def __init__(
        self,
        *,
        services: Sequence[str] = SERVICES,
        env: Mapping[str, str] | None = None,
        postgres: PostgresOptions = SMALL_POSTGRES,
        nats: NatsOptions = SMALL_NATS,
    ) -> None:
        self._names = tuple(services)
        self._extra_env = dict(env or {})
        self._postgres_options = postgres
        self._nats_options = nats
        self._stack = ExitStack()
        self.postgres: EmbeddedPostgres
        self.nats: EmbeddedNats
        self.database: Database
        self.services: dict[str, ServiceProcess] = {}

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return self.services["gateway"].url

    async def start(self) -> Self:
        """Start everything and wait until every service is ready."""
        self.start_servers()
        for service in self.services.values():
            service.start()
        await self.ready()
        return self

    def start_servers(self) -> None:
        """Start PostgreSQL and NATS and prepare the services, without starting them."""
        folder = self._stack.enter_context(temporary_folder("stack"))
        self.postgres = EmbeddedPostgres(folder / "postgres", options=self._postgres_options)
        self.exports = folder / "exports"
        self._stack.callback(self.postgres.stop)
        bootstrap_roles(self.postgres.start(), self.postgres.role_passwords())
        self.nats = EmbeddedNats(folder / "nats", options=self._nats_options)
        self._stack.callback(self.nats.stop)
        self.nats.start()
        self.database = urls_of(self.postgres, "causeloop")
        ports = {name: free_port() for name in self._names}
        for name in self._names:
            env = self.environment(ports[name], ports)
            self.services[name] = ServiceProcess(
                name, f"services.{name}", env=env, log=folder / f"{name}.log"
            )

    def environment(self, port: int, ports: Mapping[str, int]) -> dict[str, str]:
        """The variables of one service process."""
        urls = (
            f"{name}=http://127.0.0.1:{number}/{'status' if name == 'gateway' else ''}"
            for name, number in ports.items()
        )
        return {
            "PORT": str(port),
            "NATS_URL": self.nats.url,
            "DATABASE_URL": self.database.app_url,
            "DATABASE_PROJECTOR_URL": self.database.projector_url,
            "DATABASE_OWNER_URL": self.database.owner_url,
            "SERVICE_URLS": ",".join(urls),
            "JWT_SECRET": JWT_SECRET,
            "ENVIRONMENT": "test",
            "USE_MOCK": "1",
            # A suite asks more from one address than any person does.
            "IP_REQUESTS_PER_MINUTE": "1000000",
            "EXPORT_FOLDER": str(self.exports),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "info",
            **self._extra_env,
        }

    async def ready(self, *, deadline: float = 120.0) -> None:
        """Wait until every service is ready."""
        for service in self.services.values():
            await service.ready(deadline=deadline)

    async def stop(self) -> dict[str, int]:
        """Stop the services, then the servers, and remove the folder; the services' exit codes."""
        codes: dict[str, int] = {}
        try:
            for service in self.services.values():
                if service.pid is not None:
                    codes[service.name] = service.stop()
        finally:
            for service in self.services.values():
                service.kill()
            self._stack.close()
        return codes


@asynccontextmanager
async def running_stack(
    *, services: Sequence[str] = SERVICES, env: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """A whole stack inside the block, ready at its beginning and gone at its end."""
    stack = Stack(services=services, env=env)
    try:
        yield await stack.start()
    finally:
        await stack.stop()
