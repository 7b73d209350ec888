"""A database with the schema sources, and the count of records, for whoever needs them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from contracts import workspace
from nats.aio.client import Client
from runtime import database as databases
from runtime.broker import CommandContext, Endpoint, serve
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


class Plan:
    """What the gateway counts, for ingest without one. left: records that still fit; None: any number."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.n_counted = 0

    async def allow(self, context: CommandContext, n_records: int) -> workspace.EventsTaken:
        n_taken = n_records if self.left is None else min(n_records, self.left)
        reason = "" if n_taken == n_records else f"The plan allows {self.left} more."
        self.left = None if self.left is None else self.left - n_taken
        self.n_counted += n_taken
        return workspace.EventsTaken(n_records=n_taken, reason=reason)

    async def _serve(self, cmd: workspace.TakeEvents, context: CommandContext) -> workspace.EventsTaken:
        return await self.allow(context, cmd.n_records)

    @asynccontextmanager
    async def served(self, nc: Client) -> AsyncIterator[None]:
        """As the gateway's endpoint, for a process of ingest."""
        name = workspace.ENDPOINTS[workspace.TakeEvents]
        server = await serve(nc, "gateway", "0.1.0", [Endpoint(name, workspace.TakeEvents, self._serve)])
        yield
        await server.stop()


@pytest.fixture
def plan() -> Plan:
    return Plan()
