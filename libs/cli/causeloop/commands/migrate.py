"""`causeloop migrate`: bring a database of yours up to date, for deployments without `up`."""

import os
from pathlib import Path
from typing import Final

import typer

from causeloop.console import answers, print_json, run_async
from causeloop.exits import UsageError
from causeloop.options import AsJson
from causeloop.service_runs import repository
from causeloop.up.database import SchemaState, prepare_schemas, run_migrations

HELP: Final = """Apply schemas and migrations to the database that DATABASE_OWNER_URL names, then end.

`causeloop up` does it by itself; a deployment runs this once before its services. Again changes nothing.

  DATABASE_OWNER_URL=postgresql://causeloop_owner:…@db/causeloop causeloop migrate
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate", help=HELP)(migrate)


def migrate(as_json: AsJson = False) -> None:
    """Bring the database up to date."""
    url = os.environ.get("DATABASE_OWNER_URL", "")
    if not url:
        raise UsageError(
            "DATABASE_OWNER_URL is not set", advice="Set it to the address with the role causeloop_owner."
        )
    lines, schemas = run_async(_migrate(url, repository()))
    if as_json:
        print_json({"migrations": lines, "schemas": schemas})
        return
    for line in lines:
        answers().print(line)
    for service, state in schemas.items():
        answers().print(f"read model {service}: {state}")


async def _migrate(url: str, root: Path) -> tuple[tuple[str, ...], dict[str, SchemaState]]:
    lines = await run_migrations(root, os.environ)
    return lines, await prepare_schemas(url, root)
