"""Second factors: codes that count once, passkeys that sign, limits, and nobody else's rows."""

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool
from runtime.errors import NotFoundError, StateConflictError
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database

from services.gateway.errors import InvalidFactorError, RateLimitedError
from services.gateway.identity.mfa.codes import (
    enrolment,
    hash_recovery_code,
    new_recovery_codes,
    new_secret,
    step_of,
)
from services.gateway.identity.mfa.factors import Caller, SecondFactors
from services.gateway.identity.mfa.passkeys import RelyingParty
from services.gateway.identity.tokens import Principal
from services.gateway.identity.vault.keys import Vault

from .authenticator import Authenticator, raw, text

NOW = datetime(2026, 5, 1, 12, 0, 10, tzinfo=UTC)
ORIGIN = "http://localhost:4000"

codes_of_time = st.integers(min_value=0, max_value=2**33)


@given(at=codes_of_time, drift=st.integers(-200, 200))
def test_a_code_is_good_for_its_step_and_the_ones_beside_it(at: int, drift: int) -> None:
    """A clock may be up to a step off, not more."""
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    now = datetime.fromtimestamp(at + 1000, tz=UTC)
    shown_at = at + 1000 + drift
    code = pyotp.TOTP(secret).at(shown_at)
    found = step_of(code, secret, now=now, after=-1)
    distance = abs(shown_at // 30 - (at + 1000) // 30)
    if distance <= 1:
        assert found is not None
        assert abs(found - (at + 1000) // 30) <= 1
        assert step_of(code, secret, now=now, after=found) is None
    elif found is not None:
        assert pyotp.TOTP(secret).generate_otp(found) == code  # another step happens to have the same digits


def test_an_enrolment_says_the_same_three_times() -> None:
    """Secret, otpauth URI and a QR code that a browser can show."""
    made = enrolment(new_secret(), account="ada@acme.example")
    assert len(made.secret) == 32
    assert made.uri.startswith("otpauth://totp/Causeloop:ada%40acme.example?")
    assert pyotp.parse_uri(made.uri).secret == made.secret
    assert "<svg" in unquote(made.qr)
    assert made.qr.startswith("data:image/svg+xml")


def test_recovery_codes_are_read_as_people_write_them() -> None:
    """Ten of them, none like another; case and grouping do not matter."""
    codes = new_recovery_codes()
    assert len(set(codes)) == 10
    assert hash_recovery_code(codes[0].upper().replace("-", " ")) == hash_recovery_code(codes[0])
    assert hash_recovery_code(codes[0]) != hash_recovery_code(codes[1])


def test_pages_of_another_host_may_not_ask_for_passkeys() -> None:
    """The relying party is our host; other origins count only at or below it."""
    party = RelyingParty.at(
        "https://api.acme.example/",
        others=("https://ui.api.acme.example", "https://acme.example", "https://evil-api.acme.example"),
    )
    assert party == RelyingParty(
        "api.acme.example", ("https://api.acme.example", "https://ui.api.acme.example")
    )


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class World:
    """A person who is signed in, and another one."""

    def __init__(self, pool: Pool, database: Database, caller: Caller, other: Caller) -> None:
        self.clock = Clock()
        self.caller = caller
        self.other = other
        self.owner_url = database.owner_url
        self.factors = SecondFactors(
            pool,
            Vault(MasterKeys(SealingKey.made()), clock=self.clock),
            party=RelyingParty("localhost", (ORIGIN,)),
            clock=self.clock,
            rng=random.Random(1),
        )

    async def totp(self) -> str:
        """A confirmed authenticator app; its secret. The next code is good a step later."""
        secret = (await self.factors.enrol_totp(self.caller)).secret
        await self.factors.confirm_totp(self.caller, self.code(secret))
        self.later(seconds=60)
        return secret

    def code(self, secret: str) -> str:
        return pyotp.TOTP(secret).at(self.clock.now)

    def later(self, *, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    async def passkey(self) -> Authenticator:
        key = Authenticator(ORIGIN)
        options = dict(await self.factors.begin_passkey(self.caller))
        await self.factors.add_passkey(self.caller, key.create(options), name="Key")
        return key

    async def rows(self, query: str) -> list[Any]:
        async with await AsyncConnection.connect(self.owner_url, options="-c search_path=identity") as conn:
            return await (await conn.execute(query)).fetchall()


async def signed_in(owner_url: str, slug: str) -> Caller:
    """The owner of a new client, in a session."""
    async with await AsyncConnection.connect(owner_url, options="-c search_path=identity") as conn:
        cursor = await conn.execute(
            "SELECT workspace_id, owner_user_id FROM onboard_client(%s, %s, %s)",
            ("Acme", slug, f"{slug}@acme.example"),
        )
        row = await cursor.fetchone()
        assert row is not None
        cursor = await conn.execute(
            "INSERT INTO sessions (workspace_id, session_id, user_id, method, created_at, last_seen_at, expires_at)"
            " VALUES (%s, new_id('ses_'), %s, 'exchange', now(), now(), now() + '1 day') RETURNING session_id",
            row,
        )
        session = await cursor.fetchone()
        assert session is not None
    return Caller(
        Principal(
            workspace_id=row[0],
            user_id=row[1],
            role="owner",
            scopes=frozenset(),
            session_id=session[0],
            expires_at=NOW,
        ),
        "192.0.2.7",
    )


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    pool = databases.pool(database.app_url, schema="identity", max_size=4)
    await pool.open()
    one, two = await signed_in(database.owner_url, "one"), await signed_in(database.owner_url, "two")
    yield World(pool, database, one, two)
    await pool.close()


async def test_an_authenticator_app_counts_from_its_first_code(world: World) -> None:
    """Before it nothing is owed; with it come ten recovery codes, and this session has its factor."""
    made = await world.factors.enrol_totp(world.caller)
    assert not (await world.factors.state(world.caller)).is_owed
    with pytest.raises(NotFoundError):
        await world.factors.give(world.caller, code=world.code(made.secret), recovery_code=None)
    codes = await world.factors.confirm_totp(world.caller, world.code(made.secret))
    state = await world.factors.state(world.caller)
    assert (len(codes), state.n_recovery_codes) == (10, 10)
    assert state.totp_confirmed_at == state.second_factor_at == NOW
    with pytest.raises(StateConflictError):
        await world.factors.enrol_totp(world.caller)


async def test_a_code_counts_once_also_for_twins(world: World) -> None:
    """Two requests with the same code at the same time: one of them is late."""
    secret = await world.totp()
    code = world.code(secret)
    answers = await asyncio.gather(
        *(world.factors.give(world.caller, code=code, recovery_code=None) for _ in range(2)),
        return_exceptions=True,
    )
    assert sorted(type(answer) for answer in answers if isinstance(answer, Exception)) == [InvalidFactorError]
    with pytest.raises(InvalidFactorError):
        await world.factors.give(world.caller, code=code, recovery_code=None)


async def test_an_older_code_is_not_good_after_a_newer_one(world: World) -> None:
    """Though both are within the skew."""
    secret = await world.totp()
    older = world.code(secret)
    world.later(seconds=30)
    await world.factors.give(world.caller, code=world.code(secret), recovery_code=None)
    with pytest.raises(InvalidFactorError):
        await world.factors.give(world.caller, code=older, recovery_code=None)


async def test_a_recovery_code_counts_once_also_for_twins(world: World) -> None:
    """And only its owner's."""
    made = await world.factors.enrol_totp(world.caller)
    codes = await world.factors.confirm_totp(world.caller, world.code(made.secret))
    answers = await asyncio.gather(
        *(world.factors.give(world.caller, code=None, recovery_code=codes[0].upper()) for _ in range(2)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [InvalidFactorError]
    assert (await world.factors.state(world.caller)).n_recovery_codes == 9
    with pytest.raises(InvalidFactorError):
        await world.factors.give(world.other, code=None, recovery_code=codes[1])


async def test_guessing_ends_after_five_attempts_a_minute(world: World) -> None:
    """Also for the right code; a wrong answer is counted though it changes nothing else."""
    secret = await world.totp()
    for _ in range(5):
        with pytest.raises(InvalidFactorError):
            await world.factors.give(world.caller, code="000000", recovery_code=None)
    with pytest.raises(RateLimitedError) as refused:
        await world.factors.give(world.caller, code=world.code(secret), recovery_code=None)
    assert refused.value.retry_after == 50
    with pytest.raises(InvalidFactorError):
        await world.factors.give(world.other, code=None, recovery_code="somebody else may try")
    world.later(seconds=50)
    await world.factors.give(world.caller, code=world.code(secret), recovery_code=None)


async def test_removing_the_last_factor_takes_a_code_and_the_recovery_codes(world: World) -> None:
    """Afterwards nothing is owed."""
    secret = await world.totp()
    with pytest.raises(InvalidFactorError):
        await world.factors.remove_totp(world.caller, code="000000", recovery_code=None)
    await world.factors.remove_totp(world.caller, code=world.code(secret), recovery_code=None)
    state = await world.factors.state(world.caller)
    assert (state.is_owed, state.totp_confirmed_at, state.n_recovery_codes) == (False, None, 0)
    with pytest.raises(NotFoundError):
        await world.factors.renew_codes(world.caller)


async def test_neither_secrets_nor_codes_are_stored_readably(world: World) -> None:
    """The secret is sealed under the person's key, the codes are hashes; the audit log has neither."""
    made = await world.factors.enrol_totp(world.caller)
    codes = await world.factors.confirm_totp(world.caller, world.code(made.secret))
    stored = str(
        [
            await world.rows(f"SELECT * FROM {table}")
            for table in ("totp_factors", "recovery_codes", "data_keys", "audit_log", "factor_attempts")
        ]
    )
    for plain in (made.secret, b64encode(made.secret.encode()).decode(), *codes, codes[0].replace("-", "")):
        assert plain not in stored
    actions = await world.rows("SELECT action, actor_id, ip FROM audit_log WHERE action LIKE 'mfa%'")
    assert actions == [("mfa.totp_confirmed", world.caller.user_id, "192.0.2.7")]


async def test_a_passkey_is_added_and_signs(world: World) -> None:
    """The first factor brings recovery codes; a session that did not give it owes it."""
    key = Authenticator(ORIGIN)
    options = dict(await world.factors.begin_passkey(world.caller))
    passkey, codes = await world.factors.add_passkey(world.caller, key.create(options), name="Key")
    assert len(codes) == 10
    assert passkey.transports == ["usb"]
    again = dict(await world.factors.begin_passkey(world.caller))
    assert [one["id"] for one in again["excludeCredentials"]] == [text(key.credential_id)]
    with pytest.raises(StateConflictError):
        await world.factors.add_passkey(world.caller, key.create(again), name="Twice")
    await world.rows("UPDATE sessions SET second_factor_at = NULL RETURNING 1")
    assert (await world.factors.state(world.caller)).is_owed
    world.later(seconds=10)
    options = dict(await world.factors.ask_passkey(world.caller))
    assert await world.factors.give_passkey(world.caller, key.get(options)) == world.clock.now
    state = await world.factors.state(world.caller)
    assert not state.is_owed
    assert (state.passkeys[0].sign_count, state.passkeys[0].last_used_at) == (1, world.clock.now)


async def test_a_challenge_is_good_for_one_answer_within_five_minutes(world: World) -> None:
    """Right or wrong, replayed or late."""
    key = await world.passkey()
    options = dict(await world.factors.ask_passkey(world.caller))
    answer = key.get(options)
    await world.factors.give_passkey(world.caller, answer)
    with pytest.raises(InvalidFactorError, match="challenge"):
        await world.factors.give_passkey(world.caller, answer)
    fresh = dict(await world.factors.ask_passkey(world.caller))
    with pytest.raises(InvalidFactorError):
        await world.factors.give_passkey(world.caller, key.get(options))
    with pytest.raises(InvalidFactorError, match="challenge"):
        await world.factors.give_passkey(world.caller, key.get(fresh))
    late = dict(await world.factors.ask_passkey(world.caller))
    world.later(seconds=300)
    with pytest.raises(InvalidFactorError, match="challenge"):
        await world.factors.give_passkey(world.caller, key.get(late))


@pytest.mark.parametrize("fault", ["origin", "party", "signature", "other key", "counter", "nonsense"])
async def test_a_passkeys_answer_that_is_not_good_is_refused(world: World, fault: str) -> None:
    """A page elsewhere, another host's assertion, a changed signature, an unknown key, a copied key."""
    key = await world.passkey()
    key.sign_count = 5
    await world.factors.give_passkey(
        world.caller, key.get(dict(await world.factors.ask_passkey(world.caller)))
    )
    options = dict(await world.factors.ask_passkey(world.caller))
    match fault:
        case "origin":
            key.origin = "https://evil.example"
            answer = key.get(options)
        case "party":
            answer = key.get({**options, "rpId": "evil.example"})
        case "signature":
            answer = key.get(options)
            changed = bytearray(raw(answer["response"]["signature"]))
            changed[-1] ^= 1
            answer["response"]["signature"] = text(bytes(changed))
        case "other key":
            answer = Authenticator(ORIGIN).get(options)
        case "counter":
            key.sign_count = 2  # somebody uses a copy that was made earlier
            answer = key.get(options)
        case _:
            answer = {"id": 1, "rawId": ["x"], "response": "y"}
    with pytest.raises(InvalidFactorError):
        await world.factors.give_passkey(world.caller, answer)


@pytest.mark.parametrize("fault", ["origin", "party", "replay", "nonsense"])
async def test_a_passkey_made_elsewhere_is_refused(world: World, fault: str) -> None:
    """At registration, too."""
    key = Authenticator("https://evil.example" if fault == "origin" else ORIGIN)
    options = dict(await world.factors.begin_passkey(world.caller))
    if fault == "party":
        options = {**options, "rp": {"id": "evil.example"}}
    if fault == "replay":
        options = {**options, "challenge": text(b"another challenge")}
    answer = {"response": {"attestationObject": "?"}} if fault == "nonsense" else key.create(options)
    with pytest.raises(InvalidFactorError):
        await world.factors.add_passkey(world.caller, answer, name="Key")
    assert (await world.factors.state(world.caller)).passkeys == ()


async def test_passkeys_are_renamed_and_removed_by_their_owner_only(world: World) -> None:
    """Somebody else's does not exist."""
    await world.passkey()
    (passkey,) = (await world.factors.state(world.caller)).passkeys
    renamed = await world.factors.rename_passkey(world.caller, passkey.passkey_id, name="Blue")
    assert renamed.name == "Blue"
    with pytest.raises(NotFoundError):
        await world.factors.rename_passkey(world.other, passkey.passkey_id, name="Mine")
    with pytest.raises(NotFoundError):
        await world.factors.remove_passkey(world.other, passkey.passkey_id)
    await world.factors.remove_passkey(world.caller, passkey.passkey_id)
    state = await world.factors.state(world.caller)
    assert (state.passkeys, state.n_recovery_codes) == ((), 0)


async def test_another_persons_passkey_does_not_stand_in(world: World) -> None:
    """Though its signature is good."""
    mine = await world.passkey()
    theirs = Authenticator(ORIGIN)
    options = dict(await world.factors.begin_passkey(world.other))
    await world.factors.add_passkey(world.other, theirs.create(options), name="Theirs")
    asked = dict(await world.factors.ask_passkey(world.other))
    with pytest.raises(InvalidFactorError):
        await world.factors.give_passkey(world.other, mine.get(asked))
