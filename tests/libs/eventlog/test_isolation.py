"""Every table of a read model keeps workspaces apart, by construction."""

import psycopg
import pytest
from eventlog import ReadModelError, apply_schema
from testkit.servers import Database

TWO_TABLES = """
CREATE TABLE things (workspace_id text PRIMARY KEY, name text);
CREATE TABLE others (workspace_id text NOT NULL, part integer NOT NULL, PRIMARY KEY (workspace_id, part))
    PARTITION BY LIST (part);
CREATE TABLE others_1 PARTITION OF others FOR VALUES IN (1);
CREATE VIEW named WITH (security_invoker = true) AS SELECT workspace_id, name FROM things;
"""


async def test_tables_are_isolated_without_saying_so(database: Database) -> None:
    """A query without WHERE finds the rows of the transaction's workspace and no others, nor through a view."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await apply_schema(owner, "sample", TWO_TABLES)
        cursor = await owner.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'sample'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
        assert await cursor.fetchall() == [("checkpoint",)]
    async with await psycopg.AsyncConnection.connect(database.projector_url, autocommit=True) as projector:
        for workspace in ("ws_mine", "ws_theirs"):
            await projector.execute("INSERT INTO sample.things VALUES (%s, %s)", (workspace, workspace))
            await projector.execute("INSERT INTO sample.others VALUES (%s, 1)", (workspace,))
    async with await psycopg.AsyncConnection.connect(database.app_url) as app:
        for relation in ("things", "others", "others_1", "named"):
            assert await (await app.execute(f"SELECT workspace_id FROM sample.{relation}")).fetchall() == []
        await app.execute("SELECT set_config('app.current_workspace', 'ws_mine', true)")
        for relation in ("things", "others", "others_1", "named"):
            cursor = await app.execute(f"SELECT workspace_id FROM sample.{relation}")
            assert await cursor.fetchall() == [("ws_mine",)]


@pytest.mark.parametrize(
    "table",
    ["CREATE TABLE loose (name text)", "CREATE TABLE loose (workspace_id text, name text)"],
    ids=["none", "nullable"],
)
async def test_a_table_that_is_of_no_workspace_is_refused(database: Database, table: str) -> None:
    """And nothing of its schema is left."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        with pytest.raises(ReadModelError, match="loose of sample"):
            await apply_schema(owner, "sample", table)
        assert await apply_schema(owner, "sample", TWO_TABLES) == "created"
