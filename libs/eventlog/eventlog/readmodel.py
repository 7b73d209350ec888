"""Read models as a whole: create, rebuild beside the old one and switch, verify against the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection, sql

from .erasure import erased_by, erased_workspaces, project
from .errors import ReadModelError
from .log import EventLog
from .projection import CHECKPOINT_SQL, ISOLATION_SQL, Connection, Projection, last_of, schema_version

PROJECTOR_ROLE = "causeloop_projector"
APP_ROLE = "causeloop_app"

_MAX_PASSES = 20
_SMALL_GAP = 200

log = structlog.get_logger("eventlog.readmodel")


class TableDigest(msgspec.Struct, frozen=True):
    """One workspace's rows of one table, live and rebuilt.

    rows: how many. sha256: over the sorted digests of the rows' text. None: no rows at all.
    """

    workspace_id: str
    table: str
    live_rows: int
    live_sha256: str | None
    rebuilt_rows: int
    rebuilt_sha256: str | None

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same rows."""
        return self.live_sha256 == self.rebuilt_sha256


class Certificate(msgspec.Struct, frozen=True):
    """That a read model equals, or does not equal, what the log says."""

    service: str
    version: str
    positions: dict[int, int]
    tables: tuple[TableDigest, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every table of every workspace is the same."""
        return all(table.is_equal for table in self.tables)


async def apply_schema(
    owner: Connection, name: str, schema_sql: str
) -> Literal["created", "current", "outdated"]:
    """Create a read model's schema when it is not there; says when another version is.

    An outdated one goes on serving until `rebuild` switches it. owner: as the role that owns the schemas.
    Raises ReadModelError for a table without a workspace_id, as nobody could keep workspaces apart in it.
    """
    statement = sql.SQL(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = {}"
    ).format(sql.Literal(name))
    cursor = await owner.execute(statement.as_string(owner).encode())
    row = await cursor.fetchone()
    if row is None:
        await _create(owner, name, schema_sql)
        return "created"
    return "current" if row[0] == schema_version(schema_sql) else "outdated"


async def rebuild(
    event_log: EventLog, projection: Projection, *, owner_url: str, projector_url: str
) -> dict[int, int]:
    """Build the read model anew from the log beside the live one, then switch in one transaction.

    Readers and the live projector go on meanwhile; the projector notices the switch and continues on
    the new rows. Returns the position of each partition.
    Raises ReadModelError when another rebuild runs, PoisonEventError's cause when an event cannot be applied.
    """
    shadow = f"{projection.name}_rebuild"
    async with _connect(owner_url, projection.name) as owner, _exclusive(owner, shadow):
        await _create(owner, shadow, projection.schema_sql)
        async with _connect(projector_url, shadow) as writer:
            for partition in range(event_log.partitions):
                await _catch_up(event_log, projection, writer, partition)
            return await _switch(event_log, projection, owner, writer)


async def verify(
    event_log: EventLog, projection: Projection, *, owner_url: str, projector_url: str
) -> Certificate:
    """Rebuild beside the live read model, up to its position, and compare row for row.

    The live one goes on; it is read in one snapshot. Raises ReadModelError when another verification runs.
    """
    shadow = f"{projection.name}_verify"
    async with _connect(owner_url, projection.name) as owner, _exclusive(owner, shadow):
        await _create(owner, shadow, projection.schema_sql)
        async with _connect(projector_url, projection.name) as live, live.transaction():
            await live.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            positions = await _positions(live, event_log.partitions)
            live_digests = await _digests(live, projection.name)
        async with _connect(projector_url, shadow) as writer:
            for partition, position in positions.items():
                await _fill(event_log, projection, writer, partition, until=position)
            rebuilt_digests = await _digests(writer, shadow)
        await owner.execute(
            sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(shadow)).as_string(owner).encode()
        )
    return Certificate(
        projection.name, projection.version, positions, _compare(live_digests, rebuilt_digests)
    )


@asynccontextmanager
async def _connect(url: str, schema: str) -> AsyncIterator[Connection]:
    conn = await AsyncConnection.connect(
        url,
        autocommit=True,
        options=f"-c search_path={schema}",
        connect_timeout=5,
        cursor_factory=psycopg.AsyncRawCursor,
    )
    async with conn:
        yield conn


@asynccontextmanager
async def _exclusive(owner: Connection, shadow: str) -> AsyncIterator[None]:
    """One at a time; what an earlier, killed run left is dropped."""
    cursor = await owner.execute("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", (shadow,))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise ReadModelError(f"another run already builds {shadow}; wait for it or end it")
    await owner.execute(
        sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(shadow)).as_string(owner).encode()
    )
    yield


async def _create(owner: Connection, name: str, schema_sql: str) -> None:
    """The schema with its tables, the checkpoint and the grants; its comment is its version."""
    schema = sql.Identifier(name)
    statements = [
        sql.SQL("CREATE SCHEMA {}").format(schema),
        sql.SQL("SET LOCAL search_path = {}").format(schema),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}, {}").format(schema, _role(PROJECTOR_ROLE), _role(APP_ROLE)),
    ]
    grants = [
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}").format(
            schema, _role(PROJECTOR_ROLE)
        ),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, _role(APP_ROLE)),
        sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(schema_version(schema_sql))),
    ]
    async with owner.transaction():
        for statement in statements:
            await owner.execute(statement.as_string(owner).encode())
        for part in (schema_sql, CHECKPOINT_SQL):
            await owner.execute(part.encode())
        await _isolate(owner, name)
        for statement in grants:
            await owner.execute(statement.as_string(owner).encode())


async def _isolate(owner: Connection, name: str) -> None:
    """Force row-level security on every table of the schema but the checkpoint, which is of no workspace."""
    tables = sql.SQL(
        "SELECT c.relname, EXISTS (SELECT FROM pg_attribute a"
        " WHERE a.attrelid = c.oid AND a.attname = 'workspace_id' AND a.attnotnull)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = {} AND c.relkind IN ('r', 'p') AND c.relname <> 'checkpoint'"
    ).format(sql.Literal(name))
    cursor = await owner.execute(tables.as_string(owner).encode())
    for table, has_workspace in await cursor.fetchall():
        if not has_workspace:
            raise ReadModelError(f"table {table} of {name} needs a column workspace_id text NOT NULL")
        statement = sql.SQL(ISOLATION_SQL).format(table=sql.Identifier(name, table))
        await owner.execute(statement.as_string(owner).encode())


def _role(name: str) -> sql.Identifier:
    return sql.Identifier(name)


async def _positions(conn: Connection, partitions: int) -> dict[int, int]:
    cursor = await conn.execute("SELECT partition, position FROM checkpoint ORDER BY partition")
    known = {int(partition): int(position) for partition, position in await cursor.fetchall()}
    return {partition: known.get(partition, 0) for partition in range(partitions)}


async def _fill(
    event_log: EventLog, projection: Projection, writer: Connection, partition: int, *, until: int
) -> None:
    """Project everything up to a sequence, a batch and its position per transaction."""
    await writer.execute("INSERT INTO checkpoint VALUES ($1, 0, 0) ON CONFLICT DO NOTHING", (partition,))
    position = (await _positions(writer, event_log.partitions))[partition]
    if position >= until:
        return
    erased = await erased_workspaces(writer)
    async for batch in event_log.read(partition, after=position, aggregates=projection.reads, until=until):
        async with writer.transaction():
            if batch.events:
                await project(projection, batch.events, writer, erased=erased)
            await writer.execute(
                "UPDATE checkpoint SET position = $1, event_seq = coalesce($2, event_seq),"
                " event_id = coalesce($3, event_id) WHERE partition = $4",
                (batch.last_seq, *last_of(batch.events), partition),
            )
        erased |= erased_by(batch.events)
    # Events of other types may lie behind the last one read.
    await writer.execute("UPDATE checkpoint SET position = $1 WHERE partition = $2", (until, partition))


async def _catch_up(event_log: EventLog, projection: Projection, writer: Connection, partition: int) -> None:
    """Fill until so little is missing that the live projector hardly waits for the rest."""
    filled = 0
    for _ in range(_MAX_PASSES):
        end = await event_log.last_seq(partition)
        if end - filled <= _SMALL_GAP:
            return
        await _fill(event_log, projection, writer, partition, until=end)
        filled = end


async def _switch(
    event_log: EventLog, projection: Projection, owner: Connection, writer: Connection
) -> dict[int, int]:
    """Hold the live projector for a moment, fill up what is missing, and rename."""
    live, shadow = sql.Identifier(projection.name), sql.Identifier(f"{projection.name}_rebuild")
    old = sql.Identifier(f"{projection.name}_old")
    async with owner.transaction():
        await owner.execute(
            sql.SQL("LOCK TABLE {}.checkpoint IN EXCLUSIVE MODE").format(live).as_string(owner).encode()
        )
        for partition in range(event_log.partitions):
            await _fill(event_log, projection, writer, partition, until=await event_log.last_seq(partition))
        for statement in (
            # What was already decided must not be decided again.
            sql.SQL(
                "UPDATE {}.checkpoint AS new SET reaction_position = least(old.reaction_position, new.position)"
                " FROM {}.checkpoint AS old WHERE old.partition = new.partition"
            ).format(shadow, live),
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(old),
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(live, old),
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(shadow, live),
        ):
            await owner.execute(statement.as_string(owner).encode())
    # By itself: it waits for readers of the old rows, and nobody must wait for it.
    await owner.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(old).as_string(owner).encode())
    log.info("readmodel.switched", service=projection.name, version=projection.version)
    return await _positions_of(owner, projection.name, event_log.partitions)


async def _positions_of(owner: Connection, name: str, partitions: int) -> dict[int, int]:
    async with owner.transaction():
        await owner.execute(
            sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(name)).as_string(owner).encode()
        )
        return await _positions(owner, partitions)


async def _digests(conn: Connection, schema: str) -> dict[tuple[str, str], tuple[int, str]]:
    """Row count and digest by (workspace, table)."""
    cursor = await conn.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname <> 'checkpoint' ORDER BY 1",
        (schema,),
    )
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for (table,) in await cursor.fetchall():
        statement = sql.SQL(
            "SELECT workspace_id, count(*), encode(sha256(convert_to("
            "string_agg(digest, '' ORDER BY digest), 'UTF8')), 'hex')"
            " FROM (SELECT workspace_id, encode(sha256(convert_to(r::text, 'UTF8')), 'hex') COLLATE \"C\" AS digest FROM {} AS r) AS d"
            " GROUP BY workspace_id"
        ).format(sql.Identifier(schema, table))
        rows = await conn.execute(statement.as_string(conn).encode())
        found |= {
            (str(workspace), str(table)): (int(count), str(digest))
            for workspace, count, digest in await rows.fetchall()
        }
    return found


def _compare(
    live: dict[tuple[str, str], tuple[int, str]], rebuilt: dict[tuple[str, str], tuple[int, str]]
) -> tuple[TableDigest, ...]:
    def one(key: tuple[str, str]) -> TableDigest:
        live_rows, live_digest = live.get(key, (0, None))
        rebuilt_rows, rebuilt_digest = rebuilt.get(key, (0, None))
        return TableDigest(key[0], key[1], live_rows, live_digest, rebuilt_rows, rebuilt_digest)

    keys: Iterable[tuple[str, str]] = live.keys() | rebuilt.keys()
    return tuple(one(key) for key in sorted(keys))
