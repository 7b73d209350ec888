"""Signing in against a real issuer, sessions that rotate, and rows that nobody else sees."""

import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool
from runtime.embedded import EmbeddedPostgres
from runtime.errors import ForbiddenError, NotFoundError, StartError, UnauthorizedError, UnavailableError
from runtime.migrations import MigrationError, Migrations
from runtime.outbound import EVERYWHERE, Outbound
from runtime.sealing import DEFAULT_JWT_SECRET
from testkit import servers
from testkit.servers import Database

from services.gateway.errors import InvalidGrantError
from services.gateway.identity import seed
from services.gateway.identity.jwks import KeySet, Verifier
from services.gateway.identity.migrate import MIGRATIONS
from services.gateway.identity.people.acting import Act
from services.gateway.identity.people.invitations import invite
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.seed import seed_workspace
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.tokens import Principal, read_access_token
from services.gateway.settings import GatewaySettings, check
from tests.services.gateway.tenants import execute, join, onboard

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "a-secret-for-tests-of-32-characters"


class Issuer:
    """A real JWKS server with keys that can be rotated."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.n_fetches = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library's name
                issuer.n_fetches += 1
                body = json.dumps({"keys": [issuer.public(kid) for kid in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def public(self, kid: str) -> dict[str, Any]:
        key = self.keys[kid]
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        algorithm = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
        jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
        return {**jwk, "kid": kid, "use": "sig", "alg": "RS256" if is_rsa else "ES256"}

    def token(self, kid: str, **claims: Any) -> str:
        key = self.keys[kid]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        payload = {"sub": "user_1", "exp": int((NOW + timedelta(minutes=5)).timestamp()), **claims}
        return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    made.keys["one"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    yield made
    made.close()


class Monotonic:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def verifier(issuer: Issuer, monotonic: Monotonic | None = None, **options: Any) -> Verifier:
    keys = KeySet(issuer.url, fetch=Outbound(EVERYWHERE).get, monotonic=monotonic or Monotonic())
    return Verifier(keys, **{"audience": "", "parties": (), **options})


@pytest.mark.parametrize("kid", ["one", "two"])
async def test_a_token_of_the_issuer_is_accepted(issuer: Issuer, kid: str) -> None:
    """RS256 and ES256."""
    subject = await verifier(issuer).verify(issuer.token(kid, email="a@b.example"), now=NOW)
    assert (subject.sub, subject.email) == ("user_1", "a@b.example")


async def test_a_rotated_key_is_fetched_but_not_more_often_than_allowed(issuer: Issuer) -> None:
    """An unknown key id makes one fetch; a flood of them does not make a flood of fetches."""
    monotonic = Monotonic()
    checks = verifier(issuer, monotonic)
    await checks.verify(issuer.token("one"), now=NOW)
    issuer.keys = {"three": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
    fresh = issuer.token("three")
    for _ in range(5):
        with pytest.raises(InvalidGrantError):
            await checks.verify(fresh, now=NOW)
    assert issuer.n_fetches == 1
    monotonic.now += 11
    assert (await checks.verify(fresh, now=NOW)).sub == "user_1"
    assert issuer.n_fetches == 2


async def test_known_keys_survive_an_outage_of_the_issuer(issuer: Issuer) -> None:
    """Old keys go on being used when new ones cannot be fetched; without any, the answer is to try later."""
    monotonic = Monotonic()
    checks = verifier(issuer, monotonic)
    token = issuer.token("one")
    await checks.verify(token, now=NOW)
    issuer.close()
    monotonic.now += 4000
    assert (await checks.verify(token, now=NOW)).sub == "user_1"
    with pytest.raises(UnavailableError):
        await verifier(issuer).verify(token, now=NOW)


@pytest.mark.parametrize(
    ("claims", "options"),
    [
        ({"exp": int((NOW - timedelta(seconds=61)).timestamp())}, {}),
        ({"nbf": int((NOW + timedelta(seconds=61)).timestamp())}, {}),
        ({"aud": "other"}, {"audience": "causeloop"}),
        ({}, {"audience": "causeloop"}),
        ({"azp": "http://evil.example"}, {"parties": ("http://localhost:3000",)}),
        ({}, {"parties": ("http://localhost:3000",)}),
        ({"sub": 7}, {}),
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(
    issuer: Issuer, claims: dict[str, Any], options: dict[str, Any]
) -> None:
    """Times with a minute of skew, audience, authorised party, subject."""
    with pytest.raises(InvalidGrantError):
        await verifier(issuer, **options).verify(issuer.token("one", **claims), now=NOW)


async def test_a_minute_of_skew_is_allowed(issuer: Issuer) -> None:
    """Clocks differ."""
    token = issuer.token(
        "one", exp=int((NOW - timedelta(seconds=59)).timestamp()), aud="causeloop", azp="http://a"
    )
    checks = verifier(issuer, audience="causeloop", parties=("http://a",))
    assert (await checks.verify(token, now=NOW)).sub == "user_1"


async def test_the_header_does_not_choose_the_algorithm(issuer: Issuer) -> None:
    """A token signed with the public key as an HMAC secret, and an unsigned one, are refused."""
    unsigned = jwt.encode({"sub": "user_1", "exp": 9999999999}, "", algorithm="none", headers={"kid": "one"})
    forged = jwt.encode(
        {"sub": "user_1", "exp": 9999999999}, "x" * 32, algorithm="HS256", headers={"kid": "one"}
    )
    for token in (unsigned, forged, "nonsense", ""):
        with pytest.raises(InvalidGrantError):
            await verifier(issuer).verify(token, now=NOW)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def settings(**fields: Any) -> GatewaySettings:
    urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url", "database_owner_url"), "")
    return GatewaySettings(**{"port": 4000, "jwt_secret": SECRET, **urls, **fields})


@pytest.fixture
async def people(database: Database) -> AsyncIterator[Pool]:
    """The identity schema, seen by the application."""
    pool = databases.pool(database.app_url, schema="identity", max_size=4)
    await pool.open()
    yield pool
    await pool.close()


def sessions(people: Pool, clock: Clock, *, checks: Verifier | None = None, **fields: Any) -> Sessions:
    return Sessions(settings(**fields), people, verifier=checks, clock=clock, rng=random.Random(1))


async def test_migrations_are_applied_once_and_refuse_an_older_build(
    postgres_server: EmbeddedPostgres, tmp_path: Any
) -> None:
    """Forward only."""
    versions = MIGRATIONS.versions
    assert versions
    with servers.database(postgres_server) as empty:
        assert list(await MIGRATIONS.apply(empty.owner_url)) == versions
        assert list(await MIGRATIONS.apply(empty.owner_url)) == []
        async with await AsyncConnection.connect(empty.app_url) as conn:
            assert list(await MIGRATIONS.pending(conn)) == []
        with pytest.raises(MigrationError):
            await Migrations("identity", tmp_path, "").apply(empty.owner_url)


async def test_a_refresh_token_rotates_and_its_second_use_ends_the_session(
    people: Pool, database: Database
) -> None:
    """Whoever copied a token loses it together with its owner."""
    await seed_workspace(database.owner_url)
    clock = Clock()
    service = sessions(people, clock, use_mock=True)
    first = await service.exchange("anything", workspace_id=None)
    assert first.principal.workspace_id == seed.WORKSPACE_ID
    claimed = read_access_token(first.access_token, secrets=(SECRET,), now=NOW)
    assert claimed.session_id == first.principal.session_id
    second = await service.refresh(first.refresh_token)
    assert second.principal.session_id == first.principal.session_id
    with pytest.raises(InvalidGrantError, match="used before"):
        await service.refresh(first.refresh_token)
    with pytest.raises(InvalidGrantError):
        await service.refresh(second.refresh_token)


async def test_an_expired_or_unknown_refresh_token_is_refused(people: Pool, database: Database) -> None:
    """Thirty days."""
    await seed_workspace(database.owner_url)
    clock = Clock()
    service = sessions(people, clock, use_mock=True)
    pair = await service.exchange("anything", workspace_id=None)
    clock.now = NOW + timedelta(days=31)
    for token in (pair.refresh_token, "clp_refresh_unknown"):
        with pytest.raises(InvalidGrantError):
            await service.refresh(token)
    with pytest.raises(UnauthorizedError):
        read_access_token(pair.access_token, secrets=(SECRET,), now=clock.now)


async def test_an_issuers_person_is_bound_by_address_once(
    people: Pool, database: Database, issuer: Issuer
) -> None:
    """The first sign-in binds the subject to the address; another subject with it, or an unknown one, is refused."""
    await seed_workspace(database.owner_url)
    service = sessions(people, Clock(), checks=verifier(issuer), clerk_jwks_url=issuer.url)
    mine = issuer.token("one", email="owner@demo.example", email_verified=True)
    assert (await service.exchange(mine, workspace_id=None)).principal.user_id == seed.USER_ID
    assert (await service.exchange(issuer.token("two"), workspace_id=None)).principal.user_id == seed.USER_ID
    for token in (
        issuer.token("one", sub="user_2", email="owner@demo.example", email_verified=True),
        issuer.token("one", sub="user_3"),
    ):
        with pytest.raises(ForbiddenError):
            await service.exchange(token, workspace_id=None)
    with pytest.raises(ForbiddenError):
        await service.exchange(mine, workspace_id="ws_other")


@pytest.mark.parametrize("claims", [{"sub": "a\x00"}, {"email": "a\x00@x.example"}, {"name": "\ud800"}])
async def test_a_claim_that_nothing_can_keep_is_refused(
    people: Pool, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """JSON may say U+0000 and half a character, PostgreSQL takes neither."""
    service = sessions(people, Clock(), checks=verifier(issuer), clerk_jwks_url=issuer.url)
    with pytest.raises(InvalidGrantError, match="not good"):
        await service.exchange(issuer.token("one", email_verified=True, **claims), workspace_id=None)


@pytest.mark.parametrize("claims", [{}, {"email_verified": False}])
async def test_an_address_that_is_not_verified_binds_nobody(
    people: Pool, database: Database, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """Anybody can say that an address is theirs."""
    await seed_workspace(database.owner_url)
    service = sessions(people, Clock(), checks=verifier(issuer), clerk_jwks_url=issuer.url)
    with pytest.raises(ForbiddenError):
        await service.exchange(issuer.token("one", email="owner@demo.example", **claims), workspace_id=None)


@pytest.mark.parametrize("table", ["workspaces", "organizations", "memberships", "users"])
async def test_while_suspended_nobody_comes_in_and_sessions_go_on_afterwards(
    people: Pool, database: Database, table: str
) -> None:
    """No new session and no next pair, but the refresh token is good again with the access; a copy ends it even then."""
    tenant = await onboard(database.owner_url)
    _, email = await join(database.owner_url, tenant, "analyst")
    service = sessions(people, Clock(), use_mock=True)
    # A workspace keeps an owner.
    which = " WHERE role = 'analyst'" if table == "memberships" else ""

    async def become(status: str) -> None:
        statement = f"UPDATE {table} SET status = %s{which} RETURNING 1"
        assert await execute(database.owner_url, statement, status)

    first = await service.exchange(email, workspace_id=None)
    pair = await service.refresh(first.refresh_token)
    await become("suspended")
    for workspace_id in (None, tenant.workspace_id):
        with pytest.raises(ForbiddenError):
            await service.exchange(email, workspace_id=workspace_id)
    for _ in range(2):
        with pytest.raises(ForbiddenError, match="suspended"):
            await service.refresh(pair.refresh_token)
    await become("active")
    pair = await service.refresh(pair.refresh_token)
    assert pair.principal.session_id == first.principal.session_id
    await become("suspended")
    with pytest.raises(InvalidGrantError, match="used before"):
        await service.refresh(first.refresh_token)
    await become("active")
    with pytest.raises(InvalidGrantError):
        await service.refresh(pair.refresh_token)


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": "production", "use_mock": True},
        {"environment": "development"},
        {"environment": "test"},
    ],
)
async def test_without_an_issuer_nobody_can_exchange(
    people: Pool, database: Database, fields: dict[str, Any]
) -> None:
    """No fall-back to a seeded person, whatever the environment is called."""
    await seed_workspace(database.owner_url)
    service = sessions(people, Clock(), **fields)
    with pytest.raises(UnavailableError):
        await service.exchange("anything", workspace_id=None)


def test_the_default_secret_stays_on_this_machine() -> None:
    """Others could sign tokens with it."""
    for host in ("127.0.0.1", "::1", "localhost"):
        check(settings(jwt_secret=DEFAULT_JWT_SECRET, host=host))
    for host in ("0.0.0.0", "::", "10.0.0.7", "gateway.example"):
        check(settings(host=host))
        with pytest.raises(StartError, match="JWT_SECRET"):
            check(settings(jwt_secret=DEFAULT_JWT_SECRET, host=host))


def test_whom_anybody_reaches_does_not_take_any_token() -> None:
    """Mock mode, and providers inside our network, are for a developer's machine, whatever the environment is called."""
    local = settings(use_mock=True, host="127.0.0.1")
    check(local)
    assert local.trusts_inside
    for host in ("0.0.0.0", "::", "10.0.0.7", "gateway.example"):
        assert not settings(host=host).trusts_inside
        with pytest.raises(StartError, match="USE_MOCK"):
            check(settings(use_mock=True, host=host))


async def test_memberships_and_tokens_of_others_are_invisible(people: Pool, database: Database) -> None:
    """Without a workspace, a person or a token's hash the application sees no row, and cannot write another's."""
    await seed_workspace(database.owner_url)
    await sessions(people, Clock(), use_mock=True).exchange("anything", workspace_id=None)
    async with await AsyncConnection.connect(database.app_url, options="-c search_path=identity") as conn:
        for table in ("organizations", "workspaces", "users", "memberships", "sessions", "refresh_tokens"):
            assert await (await conn.execute(f"SELECT count(*) FROM {table}")).fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(
                "INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone)"
                " VALUES ('ws_01J00000000000000000000001', 'org_01J00000000000000000000000', 'x', 'Xx', 'UTC')"
            )


async def test_somebody_invited_comes_in_through_the_issuer(
    people: Pool, database: Database, issuer: Issuer
) -> None:
    """The verified address binds at the first exchange and the link accepts; afterwards the subject alone is enough."""
    client = await onboard(database.owner_url)
    owner = Principal(
        workspace_id=client.workspace_id,
        user_id=client.owner_id,
        role="owner",
        scopes=ROLES["owner"].scopes,
        session_id="",
        expires_at=NOW,
    )
    async with databases.tenant(people, client.workspace_id) as conn:
        offer = await invite(
            conn,
            Act(principal=owner, ip="", now=NOW),
            email="new@acme.example",
            role="analyst",
            delivery="link",
            rng=random.Random(1),
        )
    service = sessions(people, Clock(), checks=verifier(issuer), clerk_jwks_url=issuer.url)

    async def exchange(token: str) -> Principal:
        pair = await service.exchange(token, workspace_id=None, invitation_token=offer.token)
        return pair.principal

    address = {"sub": "new", "email": "new@acme.example"}
    for token in (
        issuer.token("one", **address),
        issuer.token("one", sub="owner", email=client.owner_email, email_verified=True),
    ):
        with pytest.raises(ForbiddenError):
            await exchange(token)
    mine = issuer.token("one", **address, email_verified=True)
    with pytest.raises(ForbiddenError):
        await service.exchange(mine, workspace_id=None)
    joined = await exchange(mine)
    assert (joined.workspace_id, joined.role) == (client.workspace_id, "analyst")
    again = await service.exchange(issuer.token("two", sub="new"), workspace_id=None)
    assert again.principal.user_id == joined.user_id
    with pytest.raises(NotFoundError):
        await exchange(mine)
