"""Secrets of connectors open in their workspace, for their connector and by their name only; who holds them holds them alone."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool
from runtime.errors import UnavailableError
from runtime.sealing import MasterKeys, SealError, SealingKey
from testkit.servers import Database

from services.ingest.vault import Vault, turns

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ONE, TWO = (f"ws_0123456789ABCDEFGHJKMNPQR{letter}" for letter in "ST")
CON, OTHER = "con_1", "con_2"


def vault(pool: Pool, masters: MasterKeys | None = None) -> Vault:
    return Vault(masters or MasterKeys(SealingKey(b"k" * 32)), pool, clock=lambda: NOW)


async def test_secrets_are_kept_replaced_and_deleted_by_name(sources_pool: Pool) -> None:
    """And no connector has those of another, nor a workspace those of another."""
    kept = vault(sources_pool)
    assert await kept.open_all(ONE, CON) == {}
    assert await kept.keep(ONE, CON, {"api_key": "k1", "user": "u"}) == ("api_key", "user")
    assert await kept.keep(ONE, CON, {"api_key": "k2", "user": None, "none": None}) == ("api_key",)
    assert await kept.keep(ONE, OTHER, {"api_key": "theirs"}) == ("api_key",)
    assert await kept.open_all(ONE, CON) == {"api_key": "k2"}
    assert await kept.open_all(TWO, CON) == {}
    await kept.forget(ONE, CON)
    assert await kept.open_all(ONE, CON) == {}
    assert await kept.open_all(ONE, OTHER) == {"api_key": "theirs"}


async def test_a_sealed_secret_opens_nowhere_else(sources_pool: Pool, sources_database: Database) -> None:
    """Whoever can write rows cannot let another connector, name or workspace use it."""
    kept = vault(sources_pool)
    for workspace_id in (ONE, TWO):
        await kept.keep(workspace_id, CON, {"api_key": "secret", "other": "other"})
    moves = [
        "UPDATE secrets AS s SET sealed = o.sealed FROM secrets AS o WHERE s.name = 'other' AND o.name = 'api_key'"
        " AND o.workspace_id = s.workspace_id",
        f"UPDATE secrets SET connector_id = '{OTHER}' WHERE name = 'api_key'",
        f"UPDATE secrets AS s SET sealed = o.sealed FROM secrets AS o WHERE s.workspace_id = '{ONE}'"
        f" AND o.workspace_id = '{TWO}' AND o.name = s.name",
        f"UPDATE data_keys AS k SET wrapped = o.wrapped FROM data_keys AS o WHERE k.workspace_id = '{ONE}'"
        f" AND o.workspace_id = '{TWO}'",
    ]
    for move in moves:
        async with await AsyncConnection.connect(
            sources_database.owner_url, options="-c search_path=sources"
        ) as conn:
            cursor = await conn.execute("SELECT * FROM secrets")
            secrets = await cursor.fetchall()
            cursor = await conn.execute("SELECT * FROM data_keys")
            keys = await cursor.fetchall()
            await conn.execute(move.encode())
            await conn.commit()
            with pytest.raises(SealError):
                await kept.open_all(ONE, OTHER if "connector_id =" in move else CON)
            await conn.execute("DELETE FROM secrets")
            await conn.execute("DELETE FROM data_keys")
            async with conn.cursor() as writer:
                await writer.executemany("INSERT INTO secrets VALUES (%s, %s, %s, %s, %s)", secrets)
                await writer.executemany("INSERT INTO data_keys VALUES (%s, %s, %s, %s)", keys)
            await conn.commit()
        assert await kept.open_all(ONE, CON) == {"api_key": "secret", "other": "other"}
    with pytest.raises(SealError):
        await vault(sources_pool, MasterKeys(SealingKey.made())).open_all(ONE, CON)


async def test_one_who_holds_the_secrets_is_waited_for(sources_pool: Pool) -> None:
    """A second refresh sees the token that the first one got, and what fails is not kept."""
    kept = vault(sources_pool)
    await kept.keep(ONE, CON, {"token": "0"})
    n_inside = 0

    async def refresh() -> None:
        nonlocal n_inside
        async with kept.held(ONE, CON) as held:
            n_inside += 1
            assert n_inside == 1
            await asyncio.sleep(0)
            await held.keep({"token": str(int(held.secrets["token"]) + 1)})
            n_inside -= 1

    await asyncio.gather(*(refresh() for _ in range(3)))
    assert await kept.open_all(ONE, CON) == {"token": "3"}
    with pytest.raises(RuntimeError):
        async with kept.held(ONE, CON) as held:
            await held.keep({"token": "never"})
            assert held.secrets == {"token": "never"}
            raise RuntimeError
    assert await kept.open_all(ONE, CON) == {"token": "3"}
    async with kept.held(ONE, CON), asyncio.timeout(10):
        # Another connector does not wait.
        await kept.keep(ONE, OTHER, {"token": "0"})


async def test_another_workspaces_secrets_are_neither_seen_nor_written(
    sources_pool: Pool, sources_database: Database
) -> None:
    """By row-level security, whatever the statement says."""
    await vault(sources_pool).keep(TWO, CON, {"api_key": "theirs"})
    async with databases.tenant(sources_pool, ONE) as conn:
        cursor = await conn.execute("SELECT count(*) FROM secrets")
        assert await cursor.fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(f"INSERT INTO secrets VALUES ('{TWO}', 'con', 'n', 's', now())".encode())


def test_what_travels_opens_for_its_workspace_and_its_purpose_only() -> None:
    """With the key of the bus, that follows from the master key, also after the master key has changed."""
    old = SealingKey(b"k" * 32)
    sealed = MasterKeys(old).bus.seal("secret", workspace_id=ONE, what="code")
    later = MasterKeys(SealingKey.made(), (old,)).bus
    assert later.open(sealed, workspace_id=ONE, what="code") == "secret"
    assert "secret" not in sealed
    for workspace_id, what in ((TWO, "code"), (ONE, "credentials")):
        with pytest.raises(SealError):
            later.open(sealed, workspace_id=workspace_id, what=what)
    with pytest.raises(SealError):
        MasterKeys(SealingKey.made()).bus.open(sealed, workspace_id=ONE, what="code")


async def test_whoever_waits_for_a_held_connector_is_in_nobody_else_s_way(
    sources_pool: Pool, sources_database: Database
) -> None:
    """As many as there are connections, at a connector whose token a slow vendor is asked for."""
    masters = MasterKeys(SealingKey(b"k" * 32))
    async with databases.pool(sources_database.app_url, schema="sources", max_size=2) as holding:
        kept = Vault(masters, sources_pool, clock=lambda: NOW, holding=holding)
        async with kept.held(ONE, CON):
            waiting = [asyncio.create_task(kept.keep(ONE, CON, {"api_key": "k"})) for _ in range(5)]
            await asyncio.sleep(0.05)
            assert await kept.open_all(TWO, CON) == {}
            assert await kept.keep(TWO, CON, {"api_key": "theirs"}) == ("api_key",)
            assert not any(each.done() for each in waiting)
        assert await asyncio.gather(*waiting) == [("api_key",)] * 5


async def test_who_asks_no_vendor_waits_for_nobody_who_does(
    sources_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held connector is refused at once, by another process as well; others' are had though all turns are taken."""
    monkeypatch.setattr(turns, "HOLDERS_MAX", 1)
    kept = vault(sources_pool)
    await kept.keep(ONE, CON, {"api_key": "k"})
    async with kept.held(ONE, CON), asyncio.timeout(10):
        for process in (kept, vault(sources_pool)):
            with pytest.raises(UnavailableError):
                async with process.held(ONE, CON, is_at_once=True):
                    pass
        async with kept.held(ONE, OTHER, is_at_once=True) as held:
            await held.keep({"token": "0"})
    async with kept.held(ONE, CON, is_at_once=True) as held:
        assert held.secrets == {"api_key": "k"}
