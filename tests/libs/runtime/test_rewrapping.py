"""One command wraps the data keys of every schema anew."""

import asyncio
import os
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import tenant
from runtime.rewrapping import rewrap
from runtime.sealing import MasterKeys, Place, SealError, SealingKey
from testkit.servers import Database

from services.gateway.identity.migrate import MIGRATIONS as IDENTITY
from services.gateway.identity.vault.keys import Vault as People
from services.ingest.migrate import MIGRATIONS as SOURCES
from services.ingest.vault import Vault as Sources

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PLACE = Place("t", "r", "c")
CON = "con_1"


async def test_a_rotation_wraps_every_data_key_anew_and_the_old_master_key_can_go(database: Database) -> None:
    """What people and sources have sealed before is open after; the command says how many keys it touched."""
    old, new = SealingKey.made(), SealingKey.made()
    assert await rewrap(database.owner_url, MasterKeys(new)) == 0
    for migrations in (IDENTITY, SOURCES):
        await migrations.apply(database.owner_url)
    async with await AsyncConnection.connect(database.owner_url, options="-c search_path=identity") as conn:
        cursor = await conn.execute(
            "SELECT workspace_id FROM onboard_client('Acme', 'acme', 'owner@acme.example')"
        )
        row = await cursor.fetchone()
    assert row is not None
    space = str(row[0])
    people_pool = databases.pool(database.app_url, schema="identity")
    sources_pool = databases.pool(database.app_url, schema="sources")
    async with people_pool, sources_pool:
        async with tenant(people_pool, space) as conn:
            sealed = await People(MasterKeys(old), clock=lambda: NOW).seal(
                conn, "person", owner_id=space, place=PLACE
            )
        await Sources(MasterKeys(old), sources_pool, clock=lambda: NOW).keep(space, CON, {"key": "source"})

        async def opened(masters: MasterKeys) -> tuple[str, dict[str, str]]:
            async with tenant(people_pool, space) as conn:
                person = await People(masters, clock=lambda: NOW).open(
                    conn, sealed, owner_id=space, place=PLACE
                )
            return person, await Sources(masters, sources_pool, clock=lambda: NOW).open_all(space, CON)

        with pytest.raises(SealError):
            await rewrap(database.owner_url, MasterKeys(new))
        assert await opened(MasterKeys(old)) == ("person", {"key": "source"})
        for n_rewrapped in (2, 0):
            assert await rotated(database, new, old) == (
                0,
                f"data keys: {n_rewrapped} wrapped anew with {new.key_id}\n",
            )
        assert await opened(MasterKeys(new)) == ("person", {"key": "source"})


async def rotated(database: Database, new: SealingKey, old: SealingKey) -> tuple[int, str]:
    """Exit code and output of the command as an operator runs it."""
    env = {
        **os.environ,
        "DATABASE_OWNER_URL": database.owner_url,
        "CAUSELOOP_MASTER_KEY": b64encode(new.secret).decode(),
        "CAUSELOOP_MASTER_KEY_PREVIOUS": b64encode(old.secret).decode(),
    }
    command = [sys.executable, "-m", "runtime.rewrapping"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout
