"""The pytest fixtures: one PostgreSQL and one NATS per test process, a clean slate per test.

It also lets property tests take their time: on a busy machine an example may be away for longer than any deadline.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from eventlog import EventLog
from hypothesis import HealthCheck, settings
from nats.aio.client import Client
from runtime import broker
from runtime.embedded import EmbeddedNats, EmbeddedPostgres

from testkit import servers
from testkit.servers import Database

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL with our roles, shared by the tests of this process."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[EmbeddedNats]:
    """A running nats-server with JetStream, shared by the tests of this process."""
    with servers.nats_server() as server:
        yield server


@pytest.fixture
def database(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh database with `owner_url`, `projector_url` and `app_url`."""
    with servers.database(postgres_server) as fresh:
        yield fresh


@pytest_asyncio.fixture
async def nc(nats_server: EmbeddedNats) -> AsyncIterator[Client]:
    """A connected client on a server without streams; they are removed again afterwards."""
    client = await broker.connect(nats_server.url, name="test")
    await servers.remove_streams(client)
    try:
        yield client
    finally:
        await servers.remove_streams(client)
        await client.close()


@pytest.fixture
def nats_url(nats_server: EmbeddedNats, nc: Client) -> str:
    """The URL of a server without streams."""
    return nats_server.url


@pytest_asyncio.fixture
async def event_log(nc: Client) -> EventLog:
    """An EventLog with one partition on clean streams."""
    return await EventLog.connect(nc, partitions=1)
