"""`causeloop clients`: make, list and end clients, as the platform's operator."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from causeloop.clients import (
    ChangedClient,
    Client,
    Erasure,
    MadeClient,
    Problem,
    approve_domain,
    as_operator,
    erasures,
    list_clients,
    read_clients,
)
from causeloop.clients import erase as erase_client
from causeloop.clients import offboard as offboard_client
from causeloop.clients import onboard as onboard_clients
from causeloop.clients import reinstate as reinstate_client
from causeloop.console import answers, messages, print_json, run_async, table
from causeloop.exits import ExitCode, UsageError
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder

_LOOK_SECONDS: Final = 0.25

HELP: Final = "Make, list and end clients, in the database that DATABASE_OWNER_URL or the data folder names."

ONBOARD_HELP: Final = """Make every client in a CSV file, or none and say what is wrong with each line.

  causeloop clients onboard clients.csv
  causeloop clients onboard clients.csv --json > made.json

The first line names the columns: org_name, org_slug, owner_email, and if wanted owner_name, workspace_name, \
plan, timezone, seats. A client is usable at once. Exit code 1: nothing was made.
"""

LIST_HELP: Final = """List the clients with their plan, status and seats.

  causeloop clients list
  causeloop clients list --json | jq '.[] | select(.status != "active")'
"""

OFFBOARD_HELP: Final = """Shut a client out, from its next request on. Its data stays.

  causeloop clients offboard acme --reason "contract ended"
"""

REINSTATE_HELP: Final = """Let a client in again that was suspended or offboarded.

  causeloop clients reinstate acme
"""

APPROVE_HELP: Final = """Let a client's own identity providers speak for the addresses of a domain.

  causeloop clients approve-domain acme acme.example

See first that the domain is the client's: whoever vouches for it can sign in as anybody of it, in the client's workspaces.
"""

ERASE_HELP: Final = """Erase a client with everything of it, everywhere, for good; say its slug twice.

  causeloop clients erase acme --confirm acme > certificate.json

Nobody gets in from then on. The gateway that runs deletes events, rows and files; this waits for the certificates \
and prints them. Exit code 1: it goes on, ask again with the same command.
"""

Slug = Annotated[str, typer.Argument(help="The client's slug.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("onboard", help=ONBOARD_HELP)(onboard)
    group.command("list", help=LIST_HELP)(list_)
    group.command("offboard", help=OFFBOARD_HELP)(offboard)
    group.command("reinstate", help=REINSTATE_HELP)(reinstate)
    group.command("approve-domain", help=APPROVE_HELP)(approve)
    group.command("erase", help=ERASE_HELP)(erase)
    app.add_typer(group, name="clients")


def _group() -> None:
    """Make, list and end clients."""


def onboard(
    file: Annotated[Path, typer.Argument(help="The CSV file.")],
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Make every client of the file, or none."""
    clients, unreadable = read_clients(file)

    async def work() -> tuple[list[MadeClient], list[Problem]]:
        async with as_operator(data) as conn:
            return await onboard_clients(conn, clients, unreadable)

    made, problems = run_async(work())
    if as_json:
        print_json({"made": made, "problems": problems})
    else:
        _print_report(made, problems, n_lines=len(clients) + len(unreadable))
    if problems:
        raise typer.Exit(ExitCode.PROBLEM)


def _print_report(made: list[MadeClient], problems: list[Problem], *, n_lines: int) -> None:
    if problems:
        grid = table("line", "slug", "what to do", right=("line",))
        for problem in problems:
            grid.add_row(str(problem.line), Text(problem.slug), Text(problem.advice))
        answers().print(grid)
        messages().print(f"Nothing was made: {len(problems)} of {n_lines} lines are wrong.")
        return
    grid = table("slug", "organization", "workspace")
    for client in made:
        grid.add_row(client.slug, client.organization_id, client.workspace_id)
    answers().print(grid)
    messages().print(f"{len(made)} clients made.")


def list_(data: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """List the clients."""

    async def work() -> list[Client]:
        async with as_operator(data) as conn:
            return await list_clients(conn)

    clients = run_async(work())
    if as_json:
        print_json(clients)
        return
    grid = table(
        "slug", "name", "plan", "status", "seats", "workspaces", "since", right=("seats", "workspaces")
    )
    for client in clients:
        seats = f"{client.seats_used}/{'∞' if client.seats_total is None else client.seats_total}"
        grid.add_row(
            client.slug,
            Text(client.name),
            client.plan,
            client.status,
            seats,
            str(client.workspaces),
            f"{client.created_at:%Y-%m-%d}",
        )
    answers().print(grid)


def offboard(
    slug: Slug,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the audit log; name no person.")] = "",
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Shut a client out."""

    async def work() -> ChangedClient:
        async with as_operator(data) as conn:
            return await offboard_client(conn, slug, reason=reason)

    _print_changed(run_async(work()), f"{slug} is shut out", as_json=as_json)


def reinstate(slug: Slug, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Let a client in again."""

    async def work() -> ChangedClient:
        async with as_operator(data) as conn:
            return await reinstate_client(conn, slug)

    _print_changed(run_async(work()), f"{slug} is let in again", as_json=as_json)


def approve(
    slug: Slug,
    domain: Annotated[str, typer.Argument(help="Such as acme.example.")],
    data: Folder = DEFAULT_FOLDER,
) -> None:
    """Approve a domain."""

    async def work() -> None:
        async with as_operator(data) as conn:
            await approve_domain(conn, slug, domain)

    run_async(work())
    answers().print(f"The providers of {slug} speak for {domain} from now on.")


def erase(
    slug: Slug,
    confirm: Annotated[str, typer.Option("--confirm", help="The slug again.")],
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for the certificates.")
    ] = 60.0,
    data: Folder = DEFAULT_FOLDER,
) -> None:
    """Erase a client."""
    if confirm != slug:
        raise UsageError("--confirm is not the client's slug", advice="Nothing was done.")

    async def work() -> list[Erasure]:
        deadline = time.monotonic() + wait
        async with as_operator(data) as conn:
            begun = await erase_client(conn, slug)
            while True:
                found = await erasures(conn, [each.workspace_id for each in begun])
                if all(each.certificate for each in found) or time.monotonic() >= deadline:
                    return found
                await asyncio.sleep(_LOOK_SECONDS)

    found = run_async(work())
    for each in found:
        if each.certificate:
            answers().print(each.certificate, soft_wrap=True, markup=False, highlight=False)
    open_ones = [each.workspace_id for each in found if not each.certificate]
    if open_ones:
        messages().print(f"Not finished yet: {', '.join(open_ones)}. The gateway goes on with it.")
        raise typer.Exit(ExitCode.PROBLEM)


def _print_changed(client: ChangedClient, said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(client)
    else:
        answers().print(f"{said}: {client.organization_id}, workspaces: {client.workspaces}.")
