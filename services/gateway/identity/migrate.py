"""Forward-only migrations of the schema identity, by dbmate: numbered files, each applied once, under a lock."""

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import structlog
from psycopg import AsyncConnection

log = structlog.get_logger()

FOLDER = Path(__file__).with_name("migrations")
_TABLE = "identity.schema_migrations"


class MigrationError(Exception):
    """A migration failed, or those in the database and those in the folder do not fit together."""


async def apply_migrations(owner_url: str, *, folder: Path = FOLDER) -> Sequence[str]:
    """Bring the schema identity up to date; returns the versions applied, none when it was.

    owner_url: the role that owns the schema. Raises MigrationError, also when the database is ahead of this build.
    """
    async with await AsyncConnection.connect(owner_url, autocommit=True, connect_timeout=5) as conn:
        # Two starts at once may both want to make it.
        await conn.execute("SELECT pg_advisory_lock(hashtext('identity'))")
        await conn.execute("CREATE SCHEMA IF NOT EXISTS identity")
        before = await _applied(conn)
        ahead = before - set(_versions(folder))
        if ahead:
            raise MigrationError(
                f"the database has migrations {sorted(ahead)} that this build lacks; run a build that has them"
            )
        await asyncio.to_thread(_run, owner_url, folder)
        # The application looks whether it fits the schema before it serves.
        await conn.execute("GRANT SELECT ON identity.schema_migrations TO causeloop_app")
        applied = sorted(await _applied(conn) - before)
    for version in applied:
        log.info("migration.applied", version=version)
    return applied


async def pending_migrations(conn: AsyncConnection[Any], *, folder: Path = FOLDER) -> Sequence[str]:
    """Versions that the database behind a connection of any role lacks, as far as that role can see."""
    known = await _applied(conn)
    return [version for version in _versions(folder) if version not in known]


async def _applied(conn: AsyncConnection[Any]) -> set[str]:
    cursor = await conn.execute("SELECT to_regclass('identity.schema_migrations') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return set()
    cursor = await conn.execute("SELECT version FROM identity.schema_migrations")
    return {str(version) for (version,) in await cursor.fetchall()}


def _versions(folder: Path) -> list[str]:
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*.sql"))


def _run(owner_url: str, folder: Path) -> None:
    """Run dbmate; the URL travels in the environment, where other users of the machine do not see it."""
    parts = urlsplit(owner_url)
    # dbmate insists on TLS unless told otherwise; libpq, which everything else uses, prefers it.
    query = {"sslmode": "disable", **dict(parse_qsl(parts.query)), "search_path": "identity"}
    done = subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "dbmate",
            *("--migrations-dir", folder, "--migrations-table", _TABLE, "--no-dump-schema"),
            *("--migration-lock", "--env-file", os.devnull, "migrate"),
        ],
        env={"DATABASE_URL": urlunsplit(parts._replace(query=urlencode(query)))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MigrationError(done.stderr.strip() or done.stdout.strip())


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
