"""Forward-only migrations of a schema that cannot be rebuilt, by dbmate: numbered files, each applied once, under a lock."""

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
from msgspec import Struct
from psycopg import AsyncConnection, sql

from runtime.database import Pool
from runtime.errors import StartError

log = structlog.get_logger()


class MigrationError(Exception):
    """A migration failed, or those in the database and those in the folder do not fit together."""


class Migrations(Struct, frozen=True):
    """The migrations of one schema.

    folder: with files such as 0001_tenancy.sql. module: what an operator runs with `python -m` to apply them.
    """

    schema: str
    folder: Path
    module: str

    async def apply(self, owner_url: str) -> Sequence[str]:
        """Bring the schema up to date; returns the versions applied, none when it was.

        owner_url: the role that owns the schema. Raises MigrationError, also when the database is ahead of this build.
        """
        async with await AsyncConnection.connect(owner_url, autocommit=True, connect_timeout=5) as conn:
            # Two starts at once may both want to make it.
            await conn.execute("SELECT pg_advisory_lock(hashtext(%s))", (self.schema,))
            await conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema)))
            before = await self._applied(conn)
            ahead = before - set(self.versions)
            if ahead:
                raise MigrationError(
                    f"the database has migrations {sorted(ahead)} that this build lacks; run a build that has them"
                )
            await asyncio.to_thread(self._run, owner_url)
            # The application looks whether it fits the schema before it serves.
            await conn.execute(sql.SQL("GRANT SELECT ON {} TO causeloop_app").format(self._table))
            applied = sorted(await self._applied(conn) - before)
        for version in applied:
            log.info("migration.applied", schema=self.schema, version=version)
        return applied

    async def pending(self, conn: AsyncConnection[Any]) -> Sequence[str]:
        """Versions that the database behind a connection of any role lacks, as far as that role can see."""
        known = await self._applied(conn)
        return [version for version in self.versions if version not in known]

    async def prepare(self, owner_url: str, pool: Pool) -> None:
        """Bring the schema up to date before a service serves, or raise StartError that says who has to.

        owner_url: empty where another does it. pool: of the role that the service works as.
        """
        if owner_url:
            try:
                await self.apply(owner_url)
            except MigrationError as error:
                raise StartError(f"Migrations of {self.schema}: {error}.") from error
        async with pool.connection() as conn:
            missing = await self.pending(conn)
        if missing:
            raise StartError(
                f"The schema {self.schema} lacks {', '.join(missing)}."
                f" Run `python -m {self.module}` with DATABASE_OWNER_URL."
            )

    @property
    def versions(self) -> Sequence[str]:
        """The versions that this build has, the first first."""
        return sorted(path.name.partition("_")[0] for path in self.folder.glob("[0-9]*.sql"))

    def main(self) -> int:
        """Apply what is missing to DATABASE_OWNER_URL; prints one line, returns the exit code."""
        url = os.environ.get("DATABASE_OWNER_URL", "")
        if not url:
            sys.stderr.write("DATABASE_OWNER_URL is missing.\n")
            return 2
        try:
            applied = asyncio.run(self.apply(url))
        except (psycopg.Error, MigrationError) as error:
            sys.stderr.write(f"Migrations failed: {error}\n")
            return 1
        sys.stdout.write(f"{self.schema}: {len(applied)} migrations applied\n")
        return 0

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(self.schema, "schema_migrations")

    async def _applied(self, conn: AsyncConnection[Any]) -> set[str]:
        name = sql.Literal(f"{self.schema}.schema_migrations")
        cursor = await conn.execute(sql.SQL("SELECT to_regclass({}) IS NOT NULL").format(name))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return set()
        cursor = await conn.execute(sql.SQL("SELECT version FROM {}").format(self._table))
        return {str(version) for (version,) in await cursor.fetchall()}

    def _run(self, owner_url: str) -> None:
        """Run dbmate; the URL travels in the environment, where other users of the machine do not see it."""
        parts = urlsplit(owner_url)
        # dbmate insists on TLS unless told otherwise; libpq, which everything else uses, prefers it.
        query = {"sslmode": "disable", **dict(parse_qsl(parts.query)), "search_path": self.schema}
        done = subprocess.run(
            [
                Path(sysconfig.get_path("scripts")) / "dbmate",
                *("--migrations-dir", self.folder, "--migrations-table", f"{self.schema}.schema_migrations"),
                *("--no-dump-schema", "--migration-lock", "--env-file", os.devnull, "migrate"),
            ],
            env={"DATABASE_URL": urlunsplit(parts._replace(query=urlencode(query)))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MigrationError(done.stderr.strip() or done.stdout.strip())
