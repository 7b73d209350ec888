"""`causeloop verify`: prove that the read models equal what the log says."""

from typing import Annotated, Final

import msgspec
import typer
from eventlog import Certificate
from rich.markup import escape

from causeloop.console import answers, messages, print_json, run_async, table
from causeloop.exits import CliError, ExitCode
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder
from causeloop.service_runs import RunResult, chosen, run_maintenance

HELP: Final = """Build read models again from the log and compare them with the live ones, row by row.

Prints a certificate: rows and hash per workspace and table. A difference is a bug; the exit code is then 1.

  causeloop verify                         all five services
  causeloop verify gateway pattern
  causeloop verify --json > certificate.json
"""

EXIT_DIFFERENT: Final = 3
HASH_SHOWN: Final = 12
WORKSPACE_SHOWN: Final = 16


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", help=HELP)(verify)


def verify(
    services: Annotated[list[str] | None, typer.Argument(help="Which services; default: all.")] = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Prove that the read models equal what the log says."""
    certificates: list[Certificate] = []
    for service in chosen(services or []):
        with messages().status(f"Verifying {service} …"):
            certificates.append(_certificate(run_async(run_maintenance(service, "verify", data))))
    if as_json:
        print_json([{**msgspec.to_builtins(each), "is_equal": each.is_equal} for each in certificates])
    else:
        _print(certificates)
    if not all(each.is_equal for each in certificates):
        raise typer.Exit(ExitCode.PROBLEM)


def _certificate(result: RunResult) -> Certificate:
    if result.exit_code not in {0, EXIT_DIFFERENT}:
        raise CliError(
            f"{result.service} could not be verified", advice=(result.errors or result.output)[-2000:].strip()
        )
    return msgspec.json.decode(result.output, type=Certificate)


def _shortened(workspace_id: str) -> str:
    """Enough of an id to know it by; --json has all of it."""
    return workspace_id if len(workspace_id) <= WORKSPACE_SHOWN else f"{workspace_id[: WORKSPACE_SHOWN - 1]}…"


def _print(certificates: list[Certificate]) -> None:
    grid = table("read model", "workspace", "rows", "rebuilt", "sha256", "", right=("rows", "rebuilt"))
    for certificate in certificates:
        for each in certificate.tables:
            grid.add_row(
                f"{certificate.service}.{each.table}",
                escape(_shortened(each.workspace_id)),
                f"{each.live_rows:,}",
                f"{each.rebuilt_rows:,}",
                (each.live_sha256 or "")[:HASH_SHOWN],
                "[green]equal[/green]" if each.is_equal else "[bold red]different[/bold red]",
            )
        if not certificate.tables:
            grid.add_row(certificate.service, "", "0", "0", "", "[green]equal[/green]")
    console = answers()
    console.print(grid)
    different = [each.service for each in certificates if not each.is_equal]
    if different:
        console.print(
            f"[bold red]Different:[/bold red] {', '.join(different)}. This is a bug; keep the certificate."
        )
    else:
        console.print("[bold green]Every read model equals what the log says.[/bold green]")
