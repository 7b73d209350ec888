"""The erasure of a workspace: from the log, from identity, from the folder of exports; proven by looking."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog
from contracts import connector, ingest, pattern, prediction, recommendation, workspace
from eventlog import EventLog
from psycopg import sql
from runtime.database import Connection, Pool, tenant

from services.gateway.identity.governance import _queries
from services.gateway.identity.governance._queries import OpenErasure
from services.gateway.identity.governance.certificates import Signer, Statement

log = structlog.get_logger("gateway.erasing")

AGGREGATES: Final = sorted(
    {
        aggregate_type
        for context in (connector, ingest, pattern, prediction, recommendation)
        for aggregate_type in context.AGGREGATES.values()
    }
)
"""Whatever a workspace's events are about, beside the workspace itself."""
KEPT: Final = (
    "one event WorkspaceErased in the log, which names the workspace's id alone and keeps its rows from coming back",
    "the workspace's id in the list of erased workspaces of each read model, and this certificate",
)


class Eraser:
    """Goes on with erasures; each step can be done again, so that a process may die between any two.

    exports: the folder with a folder of files per workspace. pool: the application's role, on identity.
    """

    def __init__(
        self,
        event_log: EventLog,
        pool: Pool,
        *,
        exports: Path,
        signer: Signer,
        clock: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._pool = pool
        self._exports = exports
        self._signer = signer
        self._clock = clock

    async def advance(self, erasure: OpenErasure) -> bool:
        """Do what can be done now; whether nothing is left to do. A completed one is only looked at for stragglers."""
        workspace_id = erasure.workspace_id
        if erasure.status == "completed":
            await self._purge(workspace_id)
            # An export that was being written meanwhile.
            await asyncio.to_thread(self._delete_files, workspace_id)
            return True
        async with self._pool.connection() as conn:
            if not await _queries.is_told(conn, workspace_id=workspace_id):
                return False
        purged = await self._purge(workspace_id)
        if purged is None:
            return False
        files = await asyncio.to_thread(self._delete_files, workspace_id)
        async with self._pool.connection() as conn, conn.transaction():
            identity = await _queries.erase_workspace_rows(conn, workspace_id=workspace_id)
            await _queries.note_erasure(conn, workspace_id=workspace_id, purged=purged, files=files)
        left = await self.left(workspace_id)
        if left or purged:
            log.info("erasure.waiting", erasure_id=erasure.erasure_id, purged=purged, left=left)
            return False
        await self._complete(
            erasure, files=files, identity=msgspec.json.decode(identity, type=dict[str, int])
        )
        return True

    async def left(self, workspace_id: str) -> Mapping[str, int]:
        """What is still there: table → rows, and read model → events that it is behind the erasure."""
        end = await self._tombstone(workspace_id)
        partition = self._log.partition_of(workspace_id)
        found: dict[str, int] = {}
        async with tenant(self._pool, workspace_id) as conn:
            for schema, table in await _tables(conn):
                name = sql.Identifier(schema, table)
                if table == "checkpoint":
                    statement = sql.SQL(
                        "SELECT greatest({end} - coalesce(max(position), 0), 0) FROM {table} WHERE partition = {partition}"
                    ).format(end=end or 0, table=name, partition=partition)
                else:
                    statement = sql.SQL("SELECT count(*) FROM {table} WHERE workspace_id = {id}").format(
                        table=name, id=workspace_id
                    )
                cursor = await conn.execute(statement.as_string(conn).encode())
                row = await cursor.fetchone()
                if row is not None and row[0]:
                    found[f"{schema}.{table}"] = int(row[0])
        return found

    async def _tombstone(self, workspace_id: str) -> int | None:
        """Where the erasure is in the log."""
        history = await self._log.history(workspace_id, "workspace", workspace_id)
        erasures = [event.seq for event in history if isinstance(event.data, workspace.WorkspaceErased)]
        return erasures[-1] if erasures else None

    async def _purge(self, workspace_id: str) -> int | None:
        """Delete every event but the erasure itself; how many. None: the log does not say that it is erased."""
        tombstone = await self._tombstone(workspace_id)
        if tombstone is None:
            return None
        purged = await self._log.purge(workspace_id, "workspace", before=tombstone)
        for aggregate_type in AGGREGATES:
            purged += await self._log.purge(workspace_id, aggregate_type)
        return purged

    def _delete_files(self, workspace_id: str) -> int:
        folder = self._exports / workspace_id
        count = sum(1 for path in folder.glob("*") if path.is_file())
        shutil.rmtree(folder, ignore_errors=True)
        return count

    async def _complete(self, erasure: OpenErasure, *, files: int, identity: Mapping[str, int]) -> None:
        now = self._clock()
        async with tenant(self._pool, erasure.workspace_id) as conn:
            tables = sorted(
                {f"{schema}.{table}" for schema, table in await _tables(conn) if table != "checkpoint"}
            )
        certificate = self._signer.certify(
            Statement(
                certificate_id=erasure.erasure_id,
                kind="workspace",
                workspace_id=erasure.workspace_id,
                subject_id=erasure.workspace_id,
                requested_at=erasure.requested_at,
                erased_at=now,
                decided_by=None,
                erased={
                    "identity": identity,
                    "log": {"messages": erasure.purged},
                    "exports": {"files": erasure.files + files},
                    "rows_left": dict.fromkeys(tables, 0),
                },
                kept=KEPT,
            )
        )
        async with self._pool.connection() as conn:
            await _queries.complete_erasure(
                conn,
                workspace_id=erasure.workspace_id,
                certificate=msgspec.json.encode(certificate).decode(),
                now=now,
            )
        log.info("erasure.completed", erasure_id=erasure.erasure_id, sha256=certificate.sha256)


async def _tables(conn: Connection) -> list[tuple[str, str]]:
    """Every table of every schema that has rows of workspaces and that the application may read, and the checkpoints."""
    cursor = await conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|_(rebuild|verify|old)$'"
        " AND (c.relname = 'checkpoint' OR (c.relname NOT IN ('erased_workspaces', 'erasures') AND EXISTS ("
        "  SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'workspace_id')))"
        " AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2"
    )
    return [(str(schema), str(table)) for schema, table in await cursor.fetchall()]
