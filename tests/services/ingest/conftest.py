"""A database with the schema sources, for whoever keeps something there."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from runtime import database as databases
from runtime.database import Pool
from runtime.embedded import EmbeddedPostgres
from testkit import servers
from testkit.servers import Database

from services.ingest.migrate import MIGRATIONS


@pytest.fixture(scope="session")
def _with_sources(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the schema, to be copied: making it takes half a second of processor."""
    with servers.database(postgres_server) as made:
        asyncio.run(MIGRATIONS.apply(made.owner_url))
        yield made


@pytest.fixture
def sources_database(postgres_server: EmbeddedPostgres, _with_sources: Database) -> Iterator[Database]:
    """A fresh database with the schema sources."""
    with servers.database(postgres_server, template=_with_sources.name) as fresh:
        yield fresh


@pytest.fixture
async def sources_pool(sources_database: Database) -> AsyncIterator[Pool]:
    """Its schema sources, seen by the application."""
    made = databases.pool(sources_database.app_url, schema="sources", max_size=4)
    await made.open()
    yield made
    await made.close()
