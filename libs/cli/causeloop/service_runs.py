"""Runs a service's own maintenance, `python -m services.<s> replay|verify`, against what runs here."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from causeloop.exits import NotAvailableError, UsageError
from causeloop.running import SERVICES, read_running
from causeloop.up.processes import service_environment

Maintenance = Literal["replay", "verify"]


class RunResult(Struct, frozen=True, kw_only=True):
    """How one run ended."""

    service: str
    exit_code: int
    output: str
    errors: str


def chosen(services: list[str]) -> list[str]:
    """The services named, or all; raises UsageError for one that does not exist."""
    for service in services:
        if service not in SERVICES:
            raise UsageError(
                f"there is no service {service!r}", advice=f"Services are {', '.join(SERVICES)}."
            )
    return services or list(SERVICES)


async def run_maintenance(service: str, what: Maintenance, folder: Path) -> RunResult:
    """Run it to its end with the addresses of the Causeloop that runs here, or those in the environment.

    Raises NotAvailableError when neither says where the database and NATS are.
    """
    running = read_running(folder)
    if running is None and not ("NATS_URL" in os.environ and "DATABASE_OWNER_URL" in os.environ):
        raise NotAvailableError(
            f"Causeloop does not run with the data folder {folder}",
            advice="Start it with `make up`, say where it is with --data, or set NATS_URL and the DATABASE_…URLs.",
        )
    decided = {} if running is None else running.environment
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"services.{service}", what, "--json"),
        # Its own port is not used, yet every service wants one.
        env=service_environment(os.environ, {"PORT": "1", **decided}),
        cwd=repository(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return RunResult(
        service=service,
        exit_code=process.returncode or 0,
        output=output.decode(errors="replace"),
        errors=errors.decode(errors="replace"),
    )


def run_in_foreground(module: str, arguments: Sequence[str]) -> int:
    """Run a module of a service that needs no servers, with our standard streams; its exit code."""
    command = [sys.executable, "-m", module, *arguments]
    # One thread: the sums of a fit then have one order, and the same file gives the same bytes.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=repository(), env=environment, check=False).returncode


def output_lines(module: str, arguments: Sequence[str]) -> Iterator[bytes]:
    """The lines that a module of a service prints, as it prints them; it ends when nobody wants more.

    Raises UsageError, with what it says, when it ends badly.
    """
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, cwd=repository(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            yield from process.stdout
            said = process.stderr.read().decode(errors="replace").strip()
            process.wait()
        finally:
            process.kill()
    if process.returncode > 0:
        raise UsageError(said.removeprefix("✗ ") or f"{module} ended with {process.returncode}")


def repository() -> Path:
    """The folder that holds services/: where this package is installed from, or the working folder."""
    for folder in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (folder / "services" / "gateway").is_dir():
            return folder
    raise NotAvailableError("the folder services/ is not here", advice="Run this in a clone of Causeloop.")
