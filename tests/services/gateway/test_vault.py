"""Each owner of secrets has a data key of its own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool, tenant
from runtime.sealing import MasterKeys, Place, SealError, SealingKey
from testkit.servers import Database

from services.gateway.identity.vault.keys import Vault

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
async def people(database: Database) -> AsyncIterator[Pool]:
    """The identity schema, seen by the application."""
    pool = databases.pool(database.app_url, schema="identity", max_size=4)
    await pool.open()
    yield pool
    await pool.close()


async def workspaces(database: Database) -> tuple[str, str]:
    """Two workspaces of two clients."""
    async with await AsyncConnection.connect(database.owner_url, options="-c search_path=identity") as conn:
        made = []
        for slug in ("one", "two"):
            cursor = await conn.execute(
                "SELECT workspace_id FROM onboard_client(%s, %s, %s)", ("Acme", slug, f"{slug}@acme.example")
            )
            row = await cursor.fetchone()
            assert row is not None
            made.append(str(row[0]))
        return made[0], made[1]


async def test_each_owner_has_a_data_key_that_others_neither_see_nor_can_use(
    people: Pool, database: Database
) -> None:
    """Also not with the right master key and the right place."""
    one, two = await workspaces(database)
    vault = Vault(MasterKeys(SealingKey.made()), clock=lambda: NOW)
    place = Place("t", "r", "c")
    async with tenant(people, one) as conn:
        sealed = await vault.seal(conn, "secret", owner_id=one, place=place)
        assert await vault.open(conn, sealed, owner_id=one, place=place) == "secret"
    async with tenant(people, two) as conn:
        await vault.seal(conn, "other", owner_id=two, place=place)
        with pytest.raises(SealError):
            await vault.open(conn, sealed, owner_id=two, place=place)
        cursor = await conn.execute("SELECT owner_id FROM data_keys")
        assert await cursor.fetchall() == [(two,)]
    # Row-level security refuses to make a key for an owner whom the transaction does not name.
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with tenant(people, two) as conn:
            await vault.seal(conn, "other", owner_id=one, place=place)
