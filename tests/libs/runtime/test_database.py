from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import psycopg
import pytest
from msgspec import Struct
from psycopg.errors import InsufficientPrivilege, UndefinedColumn
from runtime.database import Pool, pool, read_rows, require, tenant
from runtime.embedded import EmbeddedPostgres, bootstrap_roles
from runtime.errors import StartError, UnavailableError
from testkit.servers import SMALL_POSTGRES, Database, temporary_folder
from testkit.waiting import eventually

SCHEMA = """
CREATE SCHEMA things;
SET search_path = things;
CREATE TABLE things (workspace_id text NOT NULL, name text NOT NULL, PRIMARY KEY (workspace_id, name));
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
ALTER TABLE things FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON things TO causeloop_app USING (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY projector ON things TO causeloop_projector USING (true) WITH CHECK (true);
GRANT USAGE ON SCHEMA things TO causeloop_projector, causeloop_app;
GRANT ALL ON things TO causeloop_projector;
GRANT SELECT ON things TO causeloop_app;
"""


@pytest.fixture
async def things(database: Database) -> AsyncIterator[Pool]:
    with psycopg.connect(database.owner_url, autocommit=True) as conn:
        conn.execute(SCHEMA)
    with psycopg.connect(database.projector_url, autocommit=True) as conn:
        conn.execute("INSERT INTO things.things VALUES ('ws_1', 'mine'), ('ws_2', 'theirs')")
    async with pool(database.app_url, schema="things") as opened:
        yield opened


async def names(source: Pool, workspace_id: str) -> list[str]:
    async with tenant(source, workspace_id) as conn:
        cursor = await conn.execute("SELECT name FROM things")
        return [name for (name,) in await cursor.fetchall()]


class Thing(Struct, frozen=True):
    """One row of things."""

    name: str


async def test_read_rows_sees_the_rows_of_its_workspace_only(things: Pool) -> None:
    # More often than it takes until the driver prepares the statements.
    for _ in range(8):
        assert await read_rows(things, "ws_1", b"SELECT name FROM things", (), row=Thing) == [Thing("mine")]
        assert await read_rows(things, "ws_2", b"SELECT name FROM things", (), row=Thing) == [Thing("theirs")]
    assert await read_rows(things, "ws_3", b"SELECT name FROM things", (), row=Thing) == []


async def test_a_statement_after_read_rows_sees_nothing_also_when_it_failed(things: Pool) -> None:
    await read_rows(things, "ws_1", b"SELECT name FROM things", (), row=Thing)
    with pytest.raises(UndefinedColumn):
        await read_rows(things, "ws_1", b"SELECT nonsense FROM things", (), row=Thing)

    for _ in range(things.max_size):
        async with things.connection() as conn:
            cursor = await conn.execute("SELECT name FROM things")
            assert await cursor.fetchall() == []


async def test_tenant_sees_the_rows_of_its_workspace_only(things: Pool) -> None:
    assert await names(things, "ws_1") == ["mine"]
    assert await names(things, "ws_2") == ["theirs"]
    assert await names(things, "ws_3") == []


async def test_a_statement_outside_of_a_tenant_sees_nothing(things: Pool) -> None:
    await names(things, "ws_1")

    async with things.connection() as conn:
        cursor = await conn.execute("SELECT name FROM things")
        assert await cursor.fetchall() == []


async def test_app_role_cannot_write(things: Pool) -> None:
    with pytest.raises(InsufficientPrivilege):
        async with tenant(things, "ws_1") as conn:
            await conn.execute("INSERT INTO things VALUES ('ws_1', 'new')")


async def test_tenant_after_a_restart_of_the_server_works_again() -> None:
    """The pool finds the server again by itself; nothing has to be restarted for it."""

    async def works(source: Pool) -> bool:
        try:
            async with tenant(source, "ws_1") as conn:
                return await (await conn.execute("SELECT 1")).fetchone() == (1,)
        except UnavailableError:
            return False

    async def begin(source: Pool) -> None:
        async with tenant(source, "ws_1"):
            pass

    async def is_refused(asked: Awaitable[object]) -> bool:
        """Refused with a word to come again; for a moment a backend that is ending may still answer, or break off."""
        try:
            await asked
        except UnavailableError:
            return True
        except psycopg.OperationalError:
            pass
        return False

    with temporary_folder() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres", options=SMALL_POSTGRES)
        bootstrap_roles(server.start(), server.role_passwords())
        url = server.url("causeloop_app", database="causeloop")
        async with pool(url, schema="public", min_size=2, max_size=2) as source:
            await source.wait()
            server.kill()
            await eventually(lambda: is_refused(begin(source)))
            server.start()
            # The pool tries again after 1, 2, 4, … seconds, so that a slow start of the server counts twice.
            await eventually(lambda: works(source), deadline=120)
            server.kill()
            await eventually(
                lambda: is_refused(read_rows(source, "ws_1", b"SELECT 'here' AS name", (), row=Thing))
            )
            server.start()
            await eventually(lambda: works(source), deadline=120)
            assert await read_rows(source, "ws_1", b"SELECT 'here' AS name", (), row=Thing) == [Thing("here")]
        server.stop()


async def test_require_of_a_database_that_is_not_there_names_the_variable() -> None:
    with pytest.raises(StartError, match="Check DATABASE_URL"):
        await require("postgresql://nobody:x@127.0.0.1:9/none", variable="DATABASE_URL")
