"""Brings a database to this version: schemas of read models, and migrations of what cannot be rebuilt."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg
from eventlog import apply_schema

from causeloop.exits import CliError, NotAvailableError
from causeloop.running import SERVICES

SchemaState = Literal["created", "current", "outdated"]


async def prepare_schemas(owner_url: str, root: Path) -> dict[str, SchemaState]:
    """Create the read models that are missing; service → state. Running it again changes nothing.

    An outdated one is built again by the service at its start.
    owner_url: the role that owns the schemas. root: the folder with services/.
    Raises NotAvailableError when the database does not answer.
    """
    try:
        owner = await psycopg.AsyncConnection.connect(
            owner_url, autocommit=True, connect_timeout=5, cursor_factory=psycopg.AsyncRawCursor
        )
    except psycopg.OperationalError as error:
        raise NotAvailableError(
            f"PostgreSQL does not answer: {str(error).strip()}", advice="Check DATABASE_OWNER_URL."
        ) from error
    async with owner:
        # Two that prepare the same database wait for each other.
        await owner.execute(b"SELECT pg_advisory_lock(hashtextextended('causeloop schemas', 0))")
        return {service: await apply_schema(owner, service, text) for service, text in _schemas(root).items()}


async def run_migrations(root: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Run the migrate module of every service that has one; gives what each says.

    Services are programs, so they are run, not imported. environment: with DATABASE_OWNER_URL.
    Raises CliError for one that fails.
    """
    paths = sorted((root / "services").glob("*/**/migrate.py"))
    modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    return tuple([await _run_module(module, root, environment) for module in modules])


def _schemas(root: Path) -> dict[str, str]:
    """Service → its read model's schema; a service may have none."""
    paths = {service: root / "services" / service / "schema.sql" for service in SERVICES}
    return {service: path.read_text() for service, path in paths.items() if path.exists()}


async def _run_module(module: str, root: Path, environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        env=dict(environment),
        cwd=root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise CliError(f"{module} failed:\n{text[-2000:]}", advice="Nothing of a failed migration is kept.")
    return text
