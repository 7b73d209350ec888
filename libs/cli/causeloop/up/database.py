"""Brings a database to this version: schemas of read models, and migrations of what cannot be rebuilt."""

import hashlib
from pathlib import Path
from typing import Final, Literal

import psycopg
from eventlog import apply_schema
from msgspec import Struct

from causeloop.exits import CliError, NotAvailableError
from causeloop.running import SERVICES

SchemaState = Literal["created", "current", "outdated"]

_TABLE: Final = b"""
CREATE TABLE IF NOT EXISTS public.applied_migrations (
    service text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, name)
)
"""


class Prepared(Struct, frozen=True, kw_only=True):
    """What was found and done."""

    schemas: dict[str, SchemaState]
    """Service → state of its read model; an outdated one is built again by the service at its start."""
    migrations: tuple[str, ...]
    """Those that were applied now, as service/name."""


async def prepare_database(owner_url: str, root: Path) -> Prepared:
    """Apply what is missing; running it again changes nothing.

    owner_url: the role that owns the schemas. root: the folder with services/.
    Raises NotAvailableError when the database does not answer, CliError for a migration that was changed or fails.
    """
    try:
        owner = await psycopg.AsyncConnection.connect(
            owner_url, autocommit=True, connect_timeout=5, cursor_factory=psycopg.AsyncRawCursor
        )
    except psycopg.OperationalError as error:
        raise NotAvailableError(
            f"PostgreSQL does not answer: {error}", advice="Check DATABASE_OWNER_URL."
        ) from error
    async with owner:
        # Two that prepare the same database wait for each other.
        await owner.execute(b"SELECT pg_advisory_lock(hashtextextended('causeloop migrations', 0))")
        migrations = await _migrate(owner, root)
        schemas: dict[str, SchemaState] = {}
        for service in SERVICES:
            text = _schema(root, service)
            if text is not None:
                schemas[service] = await apply_schema(owner, service, text)
    return Prepared(schemas=schemas, migrations=tuple(migrations))


def _schema(root: Path, service: str) -> str | None:
    """The read model's schema; None for a service that has none."""
    path = root / "services" / service / "schema.sql"
    return path.read_text() if path.exists() else None


class _Migration(Struct, frozen=True):
    service: str
    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def _migrations(root: Path) -> list[_Migration]:
    """All migrations, in the order in which they apply."""
    paths = sorted((root / "services").glob("*/migrations/*.sql"))
    return [_Migration(path.parent.parent.name, path.stem, path.read_bytes()) for path in paths]


async def _migrate(owner: psycopg.AsyncConnection[tuple[object, ...]], root: Path) -> list[str]:
    await owner.execute(_TABLE)
    cursor = await owner.execute(b"SELECT service, name, sha256 FROM public.applied_migrations")
    known = {(service, name): sha256 for service, name, sha256 in await cursor.fetchall()}
    done: list[str] = []
    for migration in _migrations(root):
        label = f"{migration.service}/{migration.name}"
        applied = known.get((migration.service, migration.name))
        if applied is None:
            await _apply(owner, migration)
            done.append(label)
        elif applied != migration.sha256:
            raise CliError(
                f"migration {label} was changed after it had been applied",
                advice="Undo the change and write a new migration: an applied one is never edited.",
            )
    return done


async def _apply(owner: psycopg.AsyncConnection[tuple[object, ...]], migration: _Migration) -> None:
    try:
        async with owner.transaction():
            await owner.execute(migration.content)
            await owner.execute(
                b"INSERT INTO public.applied_migrations (service, name, sha256) VALUES ($1, $2, $3)",
                (migration.service, migration.name, migration.sha256),
            )
    except psycopg.Error as error:
        raise CliError(
            f"migration {migration.service}/{migration.name} failed: {error}",
            advice="Nothing of it was kept.",
        ) from error
