"""The composition root: builds the service from its rooms."""

import random
from pathlib import Path

from eventlog import Projection
from runtime.outbound import Outbound
from runtime.service import Resources, Service

from services.ingest.endpoints import Desk, Retirement, endpoints
from services.ingest.endpoints.authorization import Authorizations
from services.ingest.endpoints.intake import intake_route
from services.ingest.endpoints.kept import Keeping
from services.ingest.jobs.intake import Intake
from services.ingest.jobs.sweeping import sweep
from services.ingest.migrate import MIGRATIONS
from services.ingest.projections import AGGREGATES, project
from services.ingest.records import Records
from services.ingest.reporting import Sources
from services.ingest.settings import IngestSettings
from services.ingest.vault import Vault
from services.ingest.vendors.oauth import Grants, read_clients

NAME = "ingest"


def build(settings: IngestSettings, resources: Resources) -> Service:
    """Ingest: its endpoints over the log, its counts, and what operators see of them."""
    rng = random.SystemRandom()
    desk = Desk(resources.event_log, clock=resources.clock, rng=rng)
    # Its own page spans workspaces, which only the role that writes the rows may.
    pool = resources.pool(NAME, url=settings.database_projector_url, max_size=2)
    sources = resources.pool(MIGRATIONS.schema)
    records = Records(sources, clock=resources.clock, rng=rng)
    vault = Vault(settings.master_keys(), sources, clock=resources.clock)
    outbound = Outbound(settings.reach)
    clients = read_clients(settings.oauth_clients)
    grants = Grants(vault, sources, outbound, clients=clients, clock=resources.clock)
    connectors = Sources(resources.event_log, clock=resources.clock)
    authorizations = Authorizations(connectors, grants, vault)
    intake = Intake(resources.event_log, records, clock=resources.clock)
    keeping = Keeping(connectors, records, intake, clock=resources.clock)
    return Service(
        name=NAME,
        projection=projection(),
        endpoints=(
            *endpoints(desk, Retirement(resources.event_log, clock=resources.clock)),
            *authorizations.endpoints(),
            *keeping.endpoints(),
        ),
        routes=[intake_route(pool, clock=resources.clock)],
        on_start=[lambda: MIGRATIONS.prepare(settings.database_owner_url, sources)],
        background=[lambda: sweep(records)],
    )


def projection() -> Projection:
    """Ingest's read model."""
    schema_sql = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
    return Projection(NAME, AGGREGATES, project, schema_sql, linger_seconds=0.25)
