"""Forward-only migrations of the schema identity: numbered files, each applied once, under a lock."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection

log = structlog.get_logger()

FOLDER = Path(__file__).with_name("migrations")
_LOCK = 7_362_548_001


class MigrationError(Exception):
    """The migrations in the database and those in the folder do not fit together."""


async def apply_migrations(owner_url: str, *, folder: Path = FOLDER) -> Sequence[str]:
    """Bring the schema identity up to date; returns the names of the files applied, none when it was.

    owner_url: the role that owns the schema. Raises MigrationError when the database is ahead of this build.
    """
    async with await AsyncConnection.connect(owner_url, autocommit=True, connect_timeout=5) as conn:
        # Held until the connection closes: two starts at once wait for each other.
        await conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await conn.execute("CREATE SCHEMA IF NOT EXISTS identity")
        await conn.execute("SET search_path = identity")
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await conn.execute("SELECT name FROM migrations ORDER BY name")
        applied = [str(name) for (name,) in await cursor.fetchall()]
        names = _names(folder)
        if applied != names[: len(applied)]:
            raise MigrationError(
                f"the database has migrations {applied} but this build has {names}; run a build that has them all"
            )
        for name in names[len(applied) :]:
            await _apply(conn, name, _text(folder, name))
        # The application looks whether it fits the schema before it serves.
        await conn.execute("GRANT SELECT ON migrations TO causeloop_app")
    return names[len(applied) :]


async def pending_migrations(conn: AsyncConnection[Any], *, folder: Path = FOLDER) -> Sequence[str]:
    """Names of files that the database behind a connection of any role lacks, as far as that role can see."""
    cursor = await conn.execute("SELECT to_regclass('identity.refresh_tokens') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return _names(folder)
    cursor = await conn.execute("SELECT name FROM identity.migrations ORDER BY name")
    applied = {str(name) for (name,) in await cursor.fetchall()}
    return [name for name in _names(folder) if name not in applied]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9]*.sql"))


def _text(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


async def _apply(conn: AsyncConnection[Any], name: str, text: bytes) -> None:
    async with conn.transaction():
        await conn.execute(text)
        await conn.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
    log.info("migration.applied", name=name)


def main() -> int:
    """Apply what is missing to DATABASE_OWNER_URL; prints one line."""
    url = os.environ.get("DATABASE_OWNER_URL", "")
    if not url:
        sys.stderr.write("DATABASE_OWNER_URL is missing.\n")
        return 2
    try:
        applied = asyncio.run(apply_migrations(url))
    except (psycopg.Error, MigrationError) as error:
        sys.stderr.write(f"Migrations failed: {error}\n")
        return 1
    sys.stdout.write(f"identity: {len(applied)} migrations applied\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
