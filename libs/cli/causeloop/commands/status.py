"""`causeloop status`: all services on one screen."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec
import typer
from msgspec import Struct
from rich.markup import escape
from runtime.health import ServiceStatus

from causeloop.api import find_url
from causeloop.console import answers, print_json, run_async, table
from causeloop.exits import ExitCode, NotAvailableError
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder, Url
from causeloop.running import SERVICES, read_running
from causeloop.up.settings import with_env_file

HELP: Final = """Show how all services are: state, position and lag in the log, speed, memory, errors.

  causeloop status
  causeloop status --json | jq '.[].status.state'

OPERATIONS_TOKEN, from the environment or .env, is sent where the services ask for it.
The exit code is 0 when all are ready, 1 when one is not well or does not answer, 69 when none answers.
"""

TIMEOUT_SECONDS: Final = 3.0


class Answer(Struct, frozen=True, kw_only=True):
    """What one service says, or why it says nothing."""

    service: str
    url: str
    status: ServiceStatus | None = None
    problem: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether it is ready and all its projections go on."""
        return self.status is not None and self.status.state == "ready" and not self.problem


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", help=HELP)(status)


def status(url: Url = None, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Show how all services are."""
    found = run_async(_ask_all(_addresses(url, data)))
    if as_json:
        print_json(found)
    elif any(answer.status for answer in found):
        _print(found)
    if not any(answer.status for answer in found):
        raise NotAvailableError(
            f"no service answers at {found[0].url} and the ports after it",
            advice="Start Causeloop with `make up`, or say where it is with --url or --data.",
        )
    if not all(answer.is_well for answer in found):
        raise typer.Exit(ExitCode.PROBLEM)


def _addresses(url: str | None, folder: Path) -> dict[str, str]:
    """Where the services' dashboards are: as the data folder says, or on the ports after the API's."""
    running = read_running(folder)
    if running is not None and not url:
        return running.urls
    base = urlsplit(find_url(url, folder))
    port = base.port or (443 if base.scheme == "https" else 80)
    return {name: f"{base.scheme}://{base.hostname}:{port + offset}" for offset, name in enumerate(SERVICES)}


async def _ask_all(addresses: dict[str, str]) -> list[Answer]:
    # As `up` finds it, which hands it to the services.
    token = with_env_file(os.environ, Path(".env")).get("OPERATIONS_TOKEN", "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=headers) as client:
        return list(await asyncio.gather(*(_ask(client, name, url) for name, url in addresses.items())))


async def _ask(client: httpx.AsyncClient, service: str, url: str) -> Answer:
    try:
        response = await client.get(f"{url}/status.json")
        said = msgspec.json.decode(response.raise_for_status().content, type=ServiceStatus)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        return Answer(service=service, url=url, problem=str(error) or type(error).__name__)
    if said.service != service:
        return Answer(service=service, url=url, status=said, problem=f"this is {said.service}")
    return Answer(service=service, url=url, status=said)


def _print(found: list[Answer]) -> None:
    columns = ("service", "state", "part", "position", "lag", "events/s", "p50 ms", "p99 ms", "leader", "MB")
    grid = table(*columns, right=("part", "position", "lag", "events/s", "p50 ms", "p99 ms", "MB"))
    for answer in found:
        if answer.status is None:
            grid.add_row(answer.service, "[red]no answer[/red]", *[""] * 8)
            continue
        _add_rows(grid.add_row, answer, answer.status)
    console = answers()
    console.print(grid)
    console.print(f"[dim]Dashboards: {'  '.join(answer.url for answer in found)}[/dim]", soft_wrap=True)
    for answer in found:
        for reason in _reasons(answer):
            console.print(f"[red]{answer.service}[/red]: {escape(reason)}", soft_wrap=True)


def _add_rows(add: Callable[..., None], answer: Answer, said: ServiceStatus) -> None:
    colour = "green" if answer.is_well else "red"
    first = (answer.service, f"[{colour}]{said.state}[/{colour}]")
    last = (f"{said.memory_mb:.0f}",)
    if not said.partitions:
        add(*first, *[""] * 7, *last)
    for row, partition in enumerate(said.partitions):
        middle = (
            str(partition.partition),
            f"{partition.position:,}",
            f"{partition.lag:,}",
            f"{partition.events_per_second:.1f}",
            f"{partition.latency_ms_p50:.1f}",
            f"{partition.latency_ms_p99:.1f}",
            "yes" if partition.leader else partition.state,
        )
        add(*(first if row == 0 else ("", "")), *middle, *(last if row == 0 else ("",)))


def _reasons(answer: Answer) -> list[str]:
    reasons = [answer.problem] if answer.problem else []
    if answer.status is not None:
        reasons.extend(answer.status.reasons)
        alarms = (partition.alarm for partition in answer.status.partitions)
        reasons.extend(alarm for alarm in alarms if alarm and alarm not in reasons)
    return reasons
