"""Two tenants full of data: no table and no view shows one of them anything of the other, nor takes it."""

import asyncio
from collections.abc import Iterator, Sequence

import psycopg
import pytest
from msgspec import Struct
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from runtime.monitor import SERVICES
from testkit.stack import Stack
from testkit.waiting import eventually

from tests.services.gateway.inhabited import Inhabited, Two

NOBODYS = {
    "identity.webhook_positions",
    "identity.schema_migrations",
    "sources.schema_migrations",
    "sources.paces",
    *(f"{service}.checkpoint" for service in SERVICES),
}
"""Tables that are of no tenant; tests/architecture/test_isolation.py keeps tenants out of them."""
FOR_EVERYBODY = {"identity.plans"}
TRANSIENT = {
    "identity.outbox": "emptied into the log within milliseconds",
    "ingest.open_runs": "a run that waits ends within moments",
    **{f"{service}.erased_workspaces": "only a workspace that is gone is in it" for service in SERVICES},
}
"""Tables that need not have rows of both tenants, and why."""


EVERY_ROW = sql.SQL("true")


class Table(Struct, frozen=True):
    """A table, and how to say whose a row of it is.

    written: columns that are not computed. is_readable: whether the application may read it at all.
    """

    schema: str
    name: str
    columns: frozenset[str]
    written: tuple[str, ...]
    is_readable: bool

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def of(self, owner: Inhabited, person_id: str) -> sql.Composed:
        """The condition that a row is a tenant's, or this person's."""
        space, organization = owner.tenant.workspace_id, owner.tenant.organization_id
        person = sql.SQL("user_id = {}").format(sql.Literal(person_id))
        if "workspace_id" in self.columns:
            mine = sql.SQL("workspace_id = {}").format(sql.Literal(space))
            return (
                sql.SQL("({} OR {})").format(mine, person)
                if "user_id" in self.columns
                else sql.Composed([mine])
            )
        if "organization_id" in self.columns:
            return sql.SQL("organization_id = {}").format(sql.Literal(organization))
        if self.full_name == "identity.users":
            members = "user_id IN (SELECT m.user_id FROM identity.memberships AS m WHERE m.workspace_id = {})"
            return sql.SQL(members).format(sql.Literal(space))
        assert "user_id" in self.columns, f"whose is a row of {self.full_name}?"
        return sql.Composed([person])


@pytest.fixture(scope="module")
def tables(stack: Stack) -> Sequence[Table]:
    """Every table of ours that is somebody's."""
    with psycopg.connect(stack.database.admin_url) as conn:
        found = conn.execute(
            "SELECT nspname, relname, array_agg(attname::text), array_agg(attname::text) FILTER (WHERE attgenerated = ''),"
            " has_table_privilege('causeloop_app', pg_class.oid, 'SELECT') FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relkind IN ('r', 'p') AND nspname = ANY (%s) AND attnum > 0 AND NOT attisdropped"
            " GROUP BY nspname, relname, pg_class.oid ORDER BY nspname, relname",
            (["identity", "sources", *SERVICES],),
        ).fetchall()
    every = [
        Table(schema, name, frozenset(columns), tuple(written), is_readable)
        for schema, name, columns, written, is_readable in found
    ]
    return [table for table in every if table.full_name not in NOBODYS | FOR_EVERYBODY]


@pytest.fixture
def app(stack: Stack) -> Iterator[Connection[TupleRow]]:
    """A connection as the gateway has it, in a transaction that ends without a trace."""
    with psycopg.connect(stack.database.app_url) as conn:
        yield conn
        conn.rollback()


@pytest.fixture
def admin(stack: Stack) -> Iterator[Connection[TupleRow]]:
    """A connection that sees everything."""
    with psycopg.connect(stack.database.admin_url, autocommit=True) as conn:
        yield conn


def become(conn: Connection[TupleRow], workspace_id: str, person_id: str = "") -> None:
    conn.execute(
        "SELECT set_config('app.current_workspace', %s, true), set_config('app.current_user', %s, true)",
        (workspace_id, person_id),
    )


def count(conn: Connection[TupleRow], table: Table, condition: sql.Composable = EVERY_ROW) -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(table.identifier, condition)
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_a_query_without_a_where_finds_only_ones_own_rows(
    two: Two, tables: Sequence[Table], app: Connection[TupleRow], admin: Connection[TupleRow]
) -> None:
    """In every table, each of which has rows of both; and none at all while the transaction names nobody."""
    for table in tables:
        mine, theirs = table.of(two.a, two.a.keyholder_id), table.of(two.b, two.b.keyholder_id)
        expected = count(admin, table, mine)
        if table.full_name not in TRANSIENT:
            assert expected, f"A has nothing in {table.full_name}, so this proves nothing"
            assert count(admin, table, theirs), f"B has nothing in {table.full_name}, so this proves nothing"
        if not table.is_readable:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                count(app, table)
            app.rollback()
            continue
        assert count(app, table) == 0, table.full_name
        become(app, two.a.tenant.workspace_id, two.a.keyholder_id)
        assert_same(table, mine, app=app, admin=admin)
        assert count(app, table, theirs) == 0, table.full_name
        become(app, "", "")
        assert count(app, table) == 0, table.full_name
        app.rollback()


def assert_same(
    table: Table, mine: sql.Composed, *, app: Connection[TupleRow], admin: Connection[TupleRow]
) -> None:
    """The application finds as many rows as are its tenant's, once nothing is written in between."""

    def is_same() -> bool:
        assert count(app, table) == count(admin, table, mine), table.full_name
        return True

    asyncio.run(eventually(is_same))


def test_views_show_only_ones_own_rows(
    two: Two, app: Connection[TupleRow], admin: Connection[TupleRow]
) -> None:
    """Whatever they are made of."""
    views = admin.execute(
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relkind = 'v' AND nspname = ANY (%s) AND has_table_privilege('causeloop_app', pg_class.oid, 'SELECT')",
        (["identity", "sources", *SERVICES],),
    ).fetchall()
    assert views
    for schema, name in views:
        query = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE to_jsonb(v)::text LIKE {}) FROM {} AS v"
        ).format(sql.Literal(f"%{two.b.tenant.workspace_id}%"), sql.Identifier(schema, name))
        assert app.execute(query).fetchone() == (0, 0), name
        become(app, two.a.tenant.workspace_id, two.a.keyholder_id)
        row = app.execute(query).fetchone()
        assert row is not None
        assert row[1] == 0, name
        app.rollback()


def test_nothing_of_another_can_be_written(
    two: Two, tables: Sequence[Table], app: Connection[TupleRow], admin: Connection[TupleRow]
) -> None:
    """Changing or deleting touches no row, and neither a new row nor one's own may be given to another."""
    for table in tables:
        theirs = table.of(two.b, two.b.keyholder_id)
        become(app, two.a.tenant.workspace_id, two.a.keyholder_id)
        assert refused_or_none(app, sql.SQL("DELETE FROM {} WHERE {}").format(table.identifier, theirs)), (
            table
        )
        key = next(name for name in ("workspace_id", "organization_id", "user_id") if name in table.columns)
        same = sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
            table.identifier, sql.Identifier(key), sql.Identifier(key), theirs
        )
        assert refused_or_none(app, same), table
        row = admin.execute(
            sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t WHERE {} LIMIT 1").format(table.identifier, theirs)
        ).fetchone()
        if row is None:
            assert table.full_name in TRANSIENT, table
            continue
        again = sql.SQL(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
            " SELECT {columns} FROM jsonb_populate_record(null::{table}, {row}::jsonb)"
        ).format(
            table=table.identifier,
            columns=sql.SQL(", ").join(map(sql.Identifier, table.written)),
            row=sql.Literal(row[0]),
        )
        assert is_refused(app, again), table
        to_them = {
            "workspace_id": two.b.tenant.workspace_id,
            "organization_id": two.b.tenant.organization_id,
            "user_id": two.b.keyholder_id,
        }[key]
        mine = table.of(two.a, two.a.keyholder_id)
        gift = sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
            table.identifier, sql.Identifier(key), sql.Literal(to_them), mine
        )
        assert is_refused(app, gift), table
        app.rollback()


def is_refused(conn: Connection[TupleRow], statement: sql.Composed) -> bool:
    """Whether the rights, the policies or a constraint that names the owner forbid it; nothing of it stays."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
        return True
    return False


def refused_or_none(conn: Connection[TupleRow], statement: sql.Composed) -> bool:
    """Whether it is forbidden, or finds no row; nothing of it stays."""
    try:
        with conn.transaction(force_rollback=True):
            return conn.execute(statement).rowcount == 0
    except psycopg.errors.InsufficientPrivilege:
        return True
