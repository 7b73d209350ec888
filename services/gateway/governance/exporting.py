"""Copies of a workspace, or of its audit log, as one compressed archive of JSON lines."""

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, Literal, LiteralString

import msgspec
import structlog
from contracts import encode, ingest
from eventlog import EventLog
from msgspec import Struct
from psycopg import sql
from runtime.database import Pool, tenant

from services.gateway import _queries as read_model
from services.gateway.identity.governance import _queries
from services.gateway.identity.governance._queries import OpenExport

log = structlog.get_logger("gateway.exporting")

PAGE: Final = 500
ATTEMPTS_MAX: Final = 3
KEPT_FOR: Final = timedelta(days=7)
_FETCH: Final = f"FETCH {PAGE} FROM pages".encode()
_CHUNK_BYTES: Final = 1024 * 1024

_AUDIT: Final[LiteralString] = (
    "SELECT workspace_id, entry_number, entry_id, occurred_at, actor_id, action, category, target_type, target_id,"
    " metadata, ip, encode(previous_hash, 'hex') AS previous_hash, encode(hash, 'hex') AS hash"
    " FROM audit_log WHERE workspace_id = {id} ORDER BY entry_number"
)
_IDENTITY: Final[Mapping[str, LiteralString]] = {
    "workspace": "SELECT * FROM workspaces WHERE workspace_id = {id}",
    "settings": "SELECT * FROM workspace_settings WHERE workspace_id = {id}",
    "members": "SELECT * FROM members WHERE workspace_id = {id} ORDER BY seq",
    # What a secret could be made of stays here.
    "invitations": "SELECT invitation_id, user_id, email, role, status, invited_by, created_at, expires_at, settled_at"
    " FROM invitations_shown WHERE workspace_id = {id} ORDER BY seq",
    "service_accounts": "SELECT * FROM service_accounts WHERE workspace_id = {id} ORDER BY created_at",
    "api_tokens": "SELECT token_id, user_id, service_account_id, name, hint, scopes, created_by, created_at, expires_at,"
    " last_used_at, revoked_at FROM api_tokens_shown WHERE workspace_id = {id} ORDER BY created_at",
    "audit": _AUDIT,
}
_SHOWN: Final[Mapping[str, LiteralString]] = {
    "issues": "issue_rows",
    "predictions": "prediction_rows",
    "recommendations": "recommendation_rows",
}
"""Tables of the read model that the API shows through a view, which says more; every other one is copied as it is."""
_TABLES: Final = (
    # In the order of the log, where a table says its place in it, else of its first column.
    b"SELECT c.relname, coalesce(max(a.attname) FILTER (WHERE a.attname = 'seq'),"
    b" max(a.attname) FILTER (WHERE a.attnum = 2)) FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
    b" WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped"
    b" AND c.relname NOT IN ('checkpoint', 'erased_workspaces') GROUP BY c.relname ORDER BY c.relname"
)


class Written(Struct, frozen=True):
    """An archive. files: name → lines."""

    path: Path
    size_bytes: int
    sha256: str
    files: Mapping[str, int]


class Exporter:
    """Writes exports one after the other; one that a dead process left is begun again.

    pool: the read model; people: identity; both as the application's role, which sees one workspace.
    """

    def __init__(
        self,
        event_log: EventLog,
        *,
        pool: Pool,
        people: Pool,
        folder: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._pool = pool
        self._people = people
        self._folder = folder
        self._clock = clock

    async def write(self, job: OpenExport) -> None:
        """Write the file of an export and say so; a failure is told to whoever asked, and tried again twice."""
        workspace_id, export_id, started_at = job.workspace_id, job.export_id, self._clock()
        async with tenant(self._people, workspace_id) as conn:
            begun = await _queries.begin_export(
                conn, workspace_id=workspace_id, export_id=export_id, started_at=started_at
            )
        if not begun:
            return
        try:
            written = await self._archive(job)
        except Exception as error:
            # The edge: one workspace's export must not end the jobs of all.
            log.exception("export.failed", export_id=export_id, attempt=job.n_attempts + 1)
            if job.n_attempts + 1 >= ATTEMPTS_MAX:
                await self._end(job, "failed", type(error).__name__)
            return
        now = self._clock()
        async with tenant(self._people, workspace_id) as conn:
            finished = await _queries.finish_export(
                conn,
                file_name=written.path.name,
                size_bytes=written.size_bytes,
                sha256=written.sha256,
                files=msgspec.json.encode(written.files).decode(),
                finished_at=now,
                expires_at=now + KEPT_FOR,
                workspace_id=workspace_id,
                export_id=export_id,
                started_at=started_at,
            )
        if not finished:
            # The workspace was erased meanwhile, or somebody in it, who is not to be found in a copy of before.
            written.path.unlink(missing_ok=True)
            log.info("export.overtaken", export_id=export_id)
            return
        log.info("export.written", export_id=export_id, size_bytes=written.size_bytes)

    async def expire(self) -> None:
        """Delete the files whose time is over."""
        now = self._clock()
        async with self._people.connection() as conn:
            over = await _queries.list_expired_exports(conn, now=now)
        for job in over:
            if job.file_name is not None:
                try:
                    (self._folder / job.workspace_id / job.file_name).unlink(missing_ok=True)
                except OSError:
                    # One file that cannot be deleted must not keep the others; it is tried again.
                    log.exception("export.not_deleted", export_id=job.export_id)
                    continue
            await self._end(job, "expired", None)

    async def _end(
        self, job: OpenExport | _queries.KeptExport, status: Literal["failed", "expired"], error: str | None
    ) -> None:
        async with tenant(self._people, job.workspace_id) as conn:
            await _queries.end_export(
                conn,
                status=status,
                error=error,
                finished_at=self._clock(),
                workspace_id=job.workspace_id,
                export_id=job.export_id,
            )

    async def _archive(self, job: OpenExport) -> Written:
        """The archive, complete or not there at all."""
        folder = self._folder / job.workspace_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{job.export_id}.tar.gz"
        part = path.with_suffix(".part")
        files: dict[str, int] = {}
        try:
            with tarfile.open(part, "w:gz", compresslevel=6) as archive:
                for name, pages in await self._contents(job):
                    with tempfile.TemporaryFile(dir=folder) as spool:
                        files[name] = await _spool(spool, pages)
                        await asyncio.to_thread(_add, archive, name, spool, self._clock())
                manifest = {
                    "workspace_id": job.workspace_id,
                    "export_id": job.export_id,
                    "kind": job.kind,
                    "made_at": self._clock(),
                    "lines": files,
                }
                with io.BytesIO(msgspec.json.encode(manifest)) as text:
                    _add(archive, "manifest.json", text, self._clock())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        digest = await asyncio.to_thread(_digest, path)
        return Written(path, path.stat().st_size, digest, files)

    async def _contents(self, job: OpenExport) -> Sequence[tuple[str, AsyncIterator[Sequence[bytes]]]]:
        """What the archive consists of: of the read model whatever tables it has, so that none is forgotten."""
        if job.kind == "audit":
            audit = sql.SQL(_AUDIT).format(id=sql.Literal(job.workspace_id))
            return [("audit.jsonl", self._rows(self._people, job.workspace_id, audit))]
        id_ = sql.Literal(job.workspace_id)
        async with tenant(self._pool, job.workspace_id) as conn:
            cursor = await conn.execute(_TABLES)
            tables = [(str(name), str(order)) for name, order in await cursor.fetchall()]
        return [
            *(
                (
                    f"{name}.jsonl",
                    self._rows(self._people, job.workspace_id, sql.SQL(statement).format(id=id_)),
                )
                for name, statement in _IDENTITY.items()
            ),
            *(
                (f"{table}.jsonl", self._rows(self._pool, job.workspace_id, _rows_of(table, order, id_)))
                for table, order in tables
            ),
            ("events.jsonl", self._events(job.workspace_id)),
        ]

    async def _rows(
        self, pool: Pool, workspace_id: str, statement: sql.Composed
    ) -> AsyncIterator[Sequence[bytes]]:
        """The rows of a statement as JSON, a page at a time, in one snapshot."""
        async with tenant(pool, workspace_id) as conn:
            declared = sql.SQL(
                "DECLARE pages NO SCROLL CURSOR FOR SELECT row_to_json(r)::text FROM ({statement}) AS r"
            ).format(statement=statement)
            await conn.execute(declared.as_string(conn).encode())
            while True:
                cursor = await conn.execute(_FETCH)
                page = await cursor.fetchall()
                if not page:
                    return
                yield [str(row[0]).encode() for row in page]

    async def _events(self, workspace_id: str) -> AsyncIterator[Sequence[bytes]]:
        """The workspace's events as they are in the log, up to its present end; without those of what is expired."""
        partition = self._log.partition_of(workspace_id)
        batches = self._log.read(
            partition,
            after=0,
            workspace_id=workspace_id,
            max_batch=PAGE,
            until=await self._log.last_seq(partition),
        )
        async with tenant(self._pool, workspace_id) as conn:
            await read_model.see_expired(conn)
            expired = set(await read_model.list_expired_ids(conn, workspace_id=workspace_id))
        async with aclosing(batches):
            async for batch in batches:
                yield [
                    encode(event)
                    for event in batch.events
                    if event.aggregate_id not in expired
                    and not (isinstance(event.data, ingest.ModelAsked) and event.data.issue_id in expired)
                ]


def _rows_of(table: str, order: str, workspace_id: sql.Literal) -> sql.Composed:
    """Every row of a table of the read model, as the API shows it. order: the column that they are in order of."""
    return sql.SQL("SELECT * FROM {table} WHERE workspace_id = {id} ORDER BY {order}").format(
        table=sql.Identifier(_SHOWN.get(table, table)), id=workspace_id, order=sql.Identifier(order)
    )


async def _spool(spool: IO[bytes], pages: AsyncIterator[Sequence[bytes]]) -> int:
    """Write lines to a file whose size has to be known before it is archived; how many."""
    lines = 0
    async for page in pages:
        lines += len(page)
        if page:
            await asyncio.to_thread(spool.write, b"\n".join(page) + b"\n")
    return lines


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], at: datetime) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = content.seek(0, io.SEEK_END)
    entry.mtime = int(at.timestamp())
    content.seek(0)
    archive.addfile(entry, content)


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
