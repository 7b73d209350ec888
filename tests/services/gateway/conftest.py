"""One whole stack for the tests over HTTP, and how to enter it."""

import asyncio
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest
import trustme
from runtime.embedded import EmbeddedPostgres
from testkit import servers
from testkit.servers import Database
from testkit.stack import Stack

from services.gateway.app import OPERATIONS
from services.gateway.identity.migrate import MIGRATIONS
from tests.services.gateway.inhabited import Inhabited, Two

from .identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider

PROVISION_KEY = "clp_admin_for-tests-only"


@pytest.fixture(scope="session")
def migrated(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the identity schema, to be copied: making it takes half a second of processor."""
    with servers.database(postgres_server) as made:
        asyncio.run(MIGRATIONS.apply(made.owner_url))
        yield made


@pytest.fixture
def database(postgres_server: EmbeddedPostgres, migrated: Database) -> Iterator[Database]:
    """A fresh database with the identity schema."""
    with servers.database(postgres_server, template=migrated.name) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def identity_provider() -> Iterator[IdentityProvider]:
    """The platform's own identity provider, and that of any workspace which takes it for its own."""
    provider = IdentityProvider()
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The operator's own, which vouches for what stands inside."""
    return trustme.CA()


@pytest.fixture(scope="session")
def stack(
    identity_provider: IdentityProvider, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """All five services as processes, with real servers, in mock mode."""
    authorities = tmp_path_factory.mktemp("tls") / "authorities.pem"
    authority.cert_pem.write_to_path(str(authorities))
    running = Stack(
        env={
            "CAUSELOOP_PROVISION_KEY_HASHES": sha256(PROVISION_KEY.encode()).hexdigest(),
            "OIDC_ISSUER": identity_provider.issuer,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OPENAI_ALLOW_LOCAL": "1",
            "OUTBOUND_ALLOW": "127.0.0.0/8",
            "OUTBOUND_CA_FILE": str(authorities),
        }
    )
    try:
        asyncio.run(running.start())
        yield running
    finally:
        asyncio.run(running.stop())


@pytest.fixture(scope="session")
def access_token(stack: Stack) -> str:
    """A token of the seeded owner."""
    answer = httpx.post(f"{stack.url}/v1/auth/exchange", json={"subject_token": "anything"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


@pytest.fixture
def platform(stack: Stack) -> Iterator[httpx.Client]:
    """A client with the provisioning key."""
    headers = {"Authorization": f"Bearer {PROVISION_KEY}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def api(stack: Stack, access_token: str) -> Iterator[httpx.Client]:
    """A client that is signed in, and waits for its changes to be visible as long as it may: the machine may be busy."""
    headers = {"Authorization": f"Bearer {access_token}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def two(stack: Stack) -> Iterator[Two]:
    """Both made in the same way through the API, so that everything that B has looks like something of A."""
    provider = IdentityProvider()
    made = [Inhabited(stack, provider) for _ in range(2)]
    try:
        yield Two(*(each.fill(tuple(OPERATIONS)) for each in made))
    finally:
        for each in made:
            each.close()
        provider.close()
