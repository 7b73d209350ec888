"""What is asked for often reads what it needs, also from tables that are new to the planner.

Between a fast fill and the first ANALYZE the planner takes a workspace for a two-hundredth of a table, and row-level
security names it once more: any index with the workspace in front then looks as good as the primary key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from eventlog.readmodel import apply_schema
from psycopg import AsyncConnection, AsyncRawCursor, sql
from runtime import database as databases
from runtime.database import Connection
from runtime.embedded import EmbeddedPostgres
from testkit import servers
from testkit.servers import Database

import services
from services.gateway import _queries as gateway
from services.ingest import _queries as ingest
from services.ingest.migrate import MIGRATIONS
from services.ingest.records import _queries as records
from services.ingest.vault import _queries as secrets
from services.pattern import _queries as pattern
from services.prediction.reactions.reading import load_material

N = 20_000
IDS = [f"x{number:05}" for number in range(0, N, 500)]
WORKSPACE = "ws_0000000000000000000000BENCH"
AT = datetime(2026, 11, 23, tzinfo=UTC)
READ_MAX = 10 * len(IDS)
"""Rows and entries of indexes: some for each id, and far from all."""
ALSO_READ: Mapping[str, int] = {"prediction.load_material": N}
"""The hours of the patterns themselves: of so small a table the planner rightly reads all once."""

_NUMBERED = "'x' || lpad(n::text, 5, '0')"
_OF_TYPE = {
    "text": "''",
    "boolean": "false",
    "ARRAY": "'{{}}'",
    "timestamp with time zone": "'2026-11-23Z'::timestamptz",
}
_RECURRING = "'x' || lpad((n % 4000)::text, 5, '0')"
_THEN = "'2026-11-23Z'::timestamptz - n / 4000 * interval '30 hours'"
TABLES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "sources": {
        "raw_records": {"external_id": _NUMBERED, "connector_id": "'con'"},
        "deliveries": {"delivery_id": _NUMBERED, "connector_id": "'con'"},
        "secrets": {"connector_id": _NUMBERED, "name": "'key'"},
    },
    "ingest": {"connectors": {"connector_id": _NUMBERED}},
    "gateway": {
        "issues": {"issue_id": _NUMBERED, "severity": "'p1'"},
        "patterns": {"pattern_id": _NUMBERED, "is_shown": "true"},
        "pattern_members": {"issue_id": _NUMBERED, "pattern_id": _NUMBERED},
    },
    "pattern": {
        "issues": {"issue_id": _NUMBERED},
        "members": {"issue_id": _NUMBERED, "pattern_id": _NUMBERED},
    },
    "prediction": {
        "occurrences": {"pattern_id": _RECURRING, "hour_at": _THEN, "first_at": _THEN},
    },
}
_SCHEMAS = {
    name: Path(services.__path__[0], name, "schema.sql").read_text() for name in TABLES.keys() - {"sources"}
}


@pytest.fixture(scope="module")
def filled(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """All of it in one workspace, and never analyzed."""
    with servers.database(postgres_server) as made:
        asyncio.run(_make(made))
        with psycopg.connect(made.owner_url) as conn:
            conn.execute("SET synchronous_commit = off")
            for schema, tables in TABLES.items():
                for table, values in tables.items():
                    _fill(conn, schema, table, values)
        yield made


async def _make(made: Database) -> None:
    await MIGRATIONS.apply(made.owner_url)
    async with await AsyncConnection.connect(
        made.owner_url, autocommit=True, cursor_factory=AsyncRawCursor
    ) as owner:
        for name, schema_sql in _SCHEMAS.items():
            assert await apply_schema(owner, name, schema_sql) == "created"


def _fill(conn: psycopg.Connection, schema: str, table: str, values: Mapping[str, str]) -> None:
    target = sql.Identifier(schema, table)
    # The owner of a read model sees none of its rows, so it is let past their policies for the fill.
    conn.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(target))
    conn.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(target))
    needed = conn.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
        " AND is_nullable = 'NO' AND is_generated = 'NEVER'",
        (schema, table),
    ).fetchall()
    columns = {name: _OF_TYPE.get(kind, "n") for name, kind in needed}
    columns |= {"workspace_id": f"'{WORKSPACE}'", **values}
    statement = f"INSERT INTO {{}} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM generate_series(0, {N - 1}) AS n"
    conn.execute(sql.SQL(statement).format(target))  # type: ignore[arg-type]  # literals of this module
    conn.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(target))


Ask = Callable[[Connection], Awaitable[object]]
OF_THE_APPLICATION: Mapping[str, Ask] = {
    "sources.list_known": lambda conn: records.list_known(
        conn, workspace_id=WORKSPACE, connector_id="con", external_ids=IDS
    ),
    "sources.see_records": lambda conn: records.see_records(
        conn, workspace_id=WORKSPACE, connector_id="con", external_ids=IDS, seen_at=AT
    ),
    "sources.list_deliveries": lambda conn: records.list_deliveries(
        conn, workspace_id=WORKSPACE, connector_id="con", delivery_ids=IDS
    ),
    "sources.list_secrets_of": lambda conn: secrets.list_secrets_of(
        conn, workspace_id=WORKSPACE, connector_ids=IDS
    ),
    "gateway.list_issue_states": lambda conn: gateway.list_issue_states(
        conn, workspace_id=WORKSPACE, issue_ids=IDS
    ),
    "gateway.find_issues": lambda conn: gateway.find_issues(conn, workspace_id=WORKSPACE, issue_ids=IDS),
    "gateway.list_cluster_nodes": lambda conn: gateway.list_cluster_nodes(
        conn, workspace_id=WORKSPACE, pattern_ids=IDS
    ),
}
OF_THE_PROJECTOR: Mapping[str, Ask] = {
    "ingest.find_connectors": lambda conn: ingest.find_connectors(conn, connector_ids=IDS),
    "pattern.find_issues": lambda conn: pattern.find_issues(conn, workspace_id=WORKSPACE, issue_ids=IDS),
    # Sixty hours before each of five moments, of the four thousand of each.
    "prediction.load_material": lambda conn: load_material(conn, [(WORKSPACE, IDS[0])]),
}


@pytest.mark.parametrize("asked", [*OF_THE_APPLICATION, *OF_THE_PROJECTOR])
async def test_a_look_up_in_a_table_never_analyzed_reads_what_it_needs(filled: Database, asked: str) -> None:
    """No look-up reads a workspace's rows, or entries of an index, to find some of them by their ids."""
    is_of_app = asked in OF_THE_APPLICATION
    ask = (OF_THE_APPLICATION if is_of_app else OF_THE_PROJECTOR)[asked]
    url = filled.app_url if is_of_app else filled.projector_url
    schema = asked.split(".")[0]

    async with (
        databases.pool(url, schema=schema, max_size=1) as source,
        databases.tenant(source, WORKSPACE) as conn,
    ):
        await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await ask(conn)
        cursor = await conn.execute(
            "SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0) FROM pg_class"
            " WHERE relnamespace = $1::regnamespace",
            (schema,),
        )
        row = await cursor.fetchone()

    assert row is not None
    assert 0 < row[0] <= READ_MAX + ALSO_READ.get(asked, 0), f"{row[0]} rows and entries were read"
