"""The exchange against a real OpenID Connect provider: whose tokens are taken, and whose are not."""

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from runtime import database as databases
from runtime.database import Pool
from runtime.errors import ForbiddenError, StateConflictError, UnavailableError
from runtime.outbound import EVERYWHERE, INTERNET, Outbound
from testkit.servers import Database

from services.gateway.errors import InvalidGrantError, SsoRequiredError
from services.gateway.identity.jwks import KeySet, Verifier
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.signin.providers import Issuers, Providers
from services.gateway.settings import GatewaySettings
from tests.libs.runtime.test_names import tenants_asked_for

from .identity_provider import CLIENT_ID, IdentityProvider
from .tenants import SECRET, execute, onboard

# The provider's libraries announce their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Ticking:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """The exchange outside of mock mode, with a provider of its own."""

    def __init__(self, pool: Pool, database: Database, provider: IdentityProvider, **fields: Any) -> None:
        urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url"), "")
        settings = GatewaySettings(
            port=4000,
            jwt_secret=SECRET,
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT_ID,
            **urls,
        )
        self.owner_url = database.owner_url
        self.provider = provider
        self.sessions = Sessions(
            settings,
            pool,
            verifier=Issuers(
                Providers(Outbound(EVERYWHERE)),
                issuer=provider.issuer,
                client_id=CLIENT_ID,
                **{"jwks": None, **fields},
            ),
            clock=Clock(),
            rng=random.Random(1),
        )

    async def enter(self, token: str, workspace_id: str | None = None) -> str:
        """Who the token lets in."""
        pair = await self.sessions.exchange(token, workspace_id=workspace_id)
        return pair.principal.user_id


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    made = databases.pool(database.app_url, schema="identity", max_size=4)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    """One that a test may rotate and stop."""
    made = IdentityProvider()
    yield made
    made.close()


async def test_the_exchange_takes_tokens_of_the_platforms_provider(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """Bound by a verified address at the first, by the subject from then on."""
    door, tenant = Door(pool, database, provider), await onboard(database.owner_url)
    mine = provider.know(tenant.owner_email)
    assert await door.enter(provider.id_token(mine)) == tenant.owner_id
    provider.describe(mine, name="Without an address")
    assert await door.enter(provider.id_token(mine)) == tenant.owner_id
    for token in (
        provider.id_token(provider.know(tenant.owner_email)),
        provider.id_token(provider.know(f"x{tenant.owner_email}")),
    ):
        with pytest.raises(ForbiddenError):
            await door.enter(token)


async def test_the_exchange_refuses_tokens_that_are_not_for_us(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """Another client's, another provider's, an expired one, and what is none."""
    door, tenant = Door(pool, database, provider), await onboard(database.owner_url)
    mine = provider.know(tenant.owner_email)
    other = IdentityProvider()
    for token in (
        provider.id_token(mine, client_id="another"),
        other.id_token(other.know(tenant.owner_email)),
        "nonsense",
    ):
        with pytest.raises(InvalidGrantError):
            await door.enter(token)
    other.close()
    late = IdentityProvider(token_age=timedelta(seconds=-61))
    token = late.id_token(late.know(tenant.owner_email))
    with pytest.raises(InvalidGrantError, match="expired"):
        await Door(pool, database, late).enter(token)
    late.close()


async def test_a_rotated_key_of_the_platforms_provider_is_found(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """As soon as keys may be fetched again; the old one is not good any more then."""
    tenant = await onboard(database.owner_url)
    mine = provider.know(tenant.owner_email)
    old = provider.id_token(mine)
    ticking = Ticking()
    keys = KeySet(f"{provider.issuer}/jwks", fetch=Outbound(EVERYWHERE).get, monotonic=ticking)
    checks = Verifier(keys, audience=CLIENT_ID, parties=(), issuer=provider.issuer)
    assert (await checks.verify(old, now=datetime.now(UTC))).sub == mine
    provider.rotate()
    new = provider.id_token(mine)
    with pytest.raises(InvalidGrantError):
        await checks.verify(new, now=datetime.now(UTC))
    ticking.now += 11
    assert (await checks.verify(new, now=datetime.now(UTC))).sub == mine
    with pytest.raises(InvalidGrantError):
        await checks.verify(old, now=datetime.now(UTC))


async def test_a_provider_that_is_away_is_said_to_be(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """503, so that clients try again; a token of nobody's is refused all the same."""
    token = provider.id_token(provider.know("somebody@example.com"))
    away = IdentityProvider()
    away.close()
    door = Door(pool, database, away)
    with pytest.raises(InvalidGrantError):
        await door.enter(token)
    pretending = Door(pool, database, away)
    pretending.sessions = Sessions(
        door.sessions._settings,
        pool,
        verifier=Issuers(
            Providers(Outbound(INTERNET)),
            issuer=provider.issuer,
            client_id=CLIENT_ID,
            jwks=None,
        ),
        clock=Clock(),
        rng=random.Random(1),
    )
    with pytest.raises(UnavailableError):
        await pretending.enter(token)


async def test_names_of_a_workspaces_own_provider_are_looked_up_for_it(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another workspace has the same one: each is found for itself, and asked on."""
    tenants, providers = tenants_asked_for(monkeypatch), Providers(Outbound(EVERYWHERE))
    token = provider.id_token(provider.know("somebody@example.com"))
    for space in ("ws_1", "ws_2", "ws_1"):
        verifier = (await providers.get(provider.issuer, space)).verifier(CLIENT_ID)
        await verifier.verify(token, now=datetime.now(UTC))
    assert tenants == ["ws_1", "ws_1", "ws_2", "ws_2"]
    await providers.discover(provider.issuer, "ws_3")
    assert tenants[-1] == "ws_3"


async def test_the_same_subject_at_two_issuers_is_two_people(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """A token goes to the issuer that it names, and what that one calls somebody means nothing elsewhere."""
    other = IdentityProvider()
    clerk = Verifier(KeySet(f"{other.issuer}/jwks", fetch=Outbound(EVERYWHERE).get), audience="", parties=())
    door = Door(pool, database, provider, jwks=clerk)
    one, two = await onboard(database.owner_url), await onboard(database.owner_url)
    for issuer, email in ((provider, one.owner_email), (other, two.owner_email)):
        issuer.describe("same", email=email, email_verified=True)
    assert await door.enter(provider.id_token("same")) == one.owner_id
    assert await door.enter(other.id_token("same")) == two.owner_id
    other.close()


async def test_the_exchange_names_the_connection_of_a_workspace_that_insists(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """And goes on to the next workspace when none was asked for."""
    door = Door(pool, database, provider)
    strict, lax = await onboard(database.owner_url), await onboard(database.owner_url)
    await execute(
        database.owner_url,
        "INSERT INTO oidc_connections VALUES (%s, new_id('sso_'), 'c', 'https://idp.example', 'c', 's', '{}',"
        " 'viewer', 'active', now(), now())",
        strict.workspace_id,
    )
    [(connection_id,)] = await execute(database.owner_url, "SELECT connection_id FROM oidc_connections")
    await execute(
        database.owner_url,
        "UPDATE workspaces SET sso_enforced = true WHERE workspace_id = %s",
        strict.workspace_id,
    )
    token = provider.id_token(provider.know(strict.owner_email))
    with pytest.raises(SsoRequiredError) as refused:
        await door.enter(token)
    assert refused.value.details["connection_id"] == connection_id
    await execute(
        database.owner_url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
        " VALUES (%s, new_id('mem_'), %s, 'viewer')",
        lax.workspace_id,
        strict.owner_id,
    )
    pair = await door.sessions.exchange(token, workspace_id=None)
    assert pair.principal.workspace_id == lax.workspace_id
    with pytest.raises(SsoRequiredError):
        await door.enter(token, strict.workspace_id)


async def test_a_signed_in_person_binds_an_identity_of_the_platforms_provider_once(
    pool: Pool, database: Database, provider: IdentityProvider
) -> None:
    """Nobody else's, and no second one."""
    door = Door(pool, database, provider)
    one, two = await onboard(database.owner_url), await onboard(database.owner_url)
    mine = provider.know(one.owner_email)
    pair = await door.sessions.exchange(provider.id_token(mine), workspace_id=None)
    await door.sessions.bind(pair.principal, provider.id_token(mine))
    taken = provider.know(two.owner_email)
    await door.enter(provider.id_token(taken))
    for token in (provider.id_token(taken), provider.id_token(provider.know("new@example.com"))):
        with pytest.raises(StateConflictError):
            await door.sessions.bind(pair.principal, token)

    # Somebody who came in by another door: written down where they are a member, unless that door was a client's own.
    three = await onboard(database.owner_url)
    other_door = msgspec.structs.replace(
        pair.principal, user_id=three.owner_id, workspace_id=three.workspace_id, is_vouched=True
    )
    theirs = provider.id_token(provider.know("three@example.com", is_verified=False))
    with pytest.raises(ForbiddenError):
        await door.sessions.bind(other_door, theirs)
    await door.sessions.bind(msgspec.structs.replace(other_door, is_vouched=False), theirs, ip="192.0.2.7")
    written = await execute(
        database.owner_url,
        "SELECT actor_id, ip FROM audit_log WHERE workspace_id = %s AND action = 'identity.bound'",
        three.workspace_id,
    )
    assert written == [(three.owner_id, "192.0.2.7")]
