"""Sealed values open with their key and in their place only; master keys rotate."""

import asyncio
import os
import subprocess
import sys
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool, tenant
from runtime.sealing import MasterKeys, Place, SealError, SealingKey, read_key
from testkit.servers import Database

from services.gateway.identity.vault.keys import Vault, rewrap

NOW = datetime(2026, 5, 1, tzinfo=UTC)

keys = st.binary(min_size=32, max_size=32).map(SealingKey)
places = st.builds(Place, st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))


@given(key=keys, plain=st.binary(max_size=500), place=places)
def test_what_is_sealed_opens_again_and_is_never_sealed_alike(
    key: SealingKey, plain: bytes, place: Place
) -> None:
    """Whatever the bytes and the place are."""
    sealed = key.seal(plain, place)
    assert key.open(sealed, place) == plain
    assert key.seal(plain, place) != sealed


@given(key=keys, plain=st.binary(max_size=50), here=places, there=places)
def test_a_sealed_value_cannot_be_moved(key: SealingKey, plain: bytes, here: Place, there: Place) -> None:
    """Not to another table, row or column; also when the parts run together to the same text."""
    sealed = key.seal(plain, here)
    if here != there:
        with pytest.raises(SealError):
            key.open(sealed, there)


@given(plain=st.binary(max_size=50), position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(plain: bytes, position: int, flip: int) -> None:
    """Anywhere: nonce, ciphertext or tag."""
    key, place = SealingKey(b"k" * 32), Place("t", "r", "c")
    key_id, _, text = key.seal(plain, place).partition(".")
    body = bytearray(urlsafe_b64decode(f"{text}=="))
    body[position % len(body)] ^= flip
    with pytest.raises(SealError):
        key.open(f"{key_id}.{urlsafe_b64encode(body).decode()}", place)


@given(text=st.text(max_size=60))
def test_what_is_not_sealed_is_refused(text: str) -> None:
    """Nonsense is no bug of ours, also behind the right key's id."""
    key = SealingKey(b"k" * 32)
    for sealed in (text, f"{key.key_id}.{text}"):
        with pytest.raises(SealError):
            key.open(sealed, Place("t", "r", "c"))


@given(old=keys, new=keys, other=keys, plain=st.binary(max_size=50), place=places)
def test_a_previous_master_key_still_opens(
    old: SealingKey, new: SealingKey, other: SealingKey, plain: bytes, place: Place
) -> None:
    """After a rotation; without it, what it sealed is lost."""
    sealed = MasterKeys(old).seal(plain, place)
    rotated = MasterKeys(new, (other, old))
    assert rotated.open(sealed, place) == plain
    assert rotated.seal(plain, place).startswith(new.key_id)
    if old not in (new, other):
        with pytest.raises(SealError, match="not at hand"):
            MasterKeys(new, (other,)).open(sealed, place)


def test_a_key_is_read_from_base64_and_never_shown() -> None:
    """As `openssl rand -base64 32` writes it."""
    secret = bytes(range(32))
    assert read_key(b64encode(secret).decode()) == SealingKey(secret)
    assert b64encode(secret).decode() not in repr(SealingKey(secret))
    for wrong in ("", "short", b64encode(secret[:31]).decode(), "!" * 44):
        with pytest.raises(ValueError, match="key"):
            read_key(wrong)


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


async def test_a_rotation_wraps_every_data_key_anew_and_the_old_master_key_can_go(
    people: Pool, database: Database
) -> None:
    """What was sealed before is still open after; the command says how many keys it touched."""
    one, _ = await workspaces(database)
    old, new = SealingKey.made(), SealingKey.made()
    place = Place("t", "r", "c")
    async with tenant(people, one) as conn:
        sealed = await Vault(MasterKeys(old), clock=lambda: NOW).seal(
            conn, "secret", owner_id=one, place=place
        )
    with pytest.raises(SealError):
        await rewrap(database.owner_url, MasterKeys(new))
    command = [sys.executable, "-m", "services.gateway.identity.vault.keys"]
    env = {
        **os.environ,
        "DATABASE_OWNER_URL": database.owner_url,
        "CAUSELOOP_MASTER_KEY": b64encode(new.secret).decode(),
        "CAUSELOOP_MASTER_KEY_PREVIOUS": b64encode(old.secret).decode(),
    }
    for n_rewrapped in (1, 0):
        done = await asyncio.to_thread(
            subprocess.run, command, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (
            0,
            f"data keys: {n_rewrapped} wrapped anew with {new.key_id}\n",
        )
    async with tenant(people, one) as conn:
        assert (
            await Vault(MasterKeys(new), clock=lambda: NOW).open(conn, sealed, owner_id=one, place=place)
            == "secret"
        )
