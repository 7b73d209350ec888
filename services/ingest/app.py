"""The composition root: builds the service from its rooms."""

import random
from pathlib import Path

from eventlog import Projection
from runtime.outbound import Outbound
from runtime.service import Resources, Service

from services.ingest.endpoints import Desk, Retirement, endpoints
from services.ingest.endpoints.authorization import Authorizations
from services.ingest.endpoints.connectors import Connectors
from services.ingest.endpoints.intake import intake_route
from services.ingest.endpoints.kept import Keeping
from services.ingest.endpoints.receiving import Reception
from services.ingest.endpoints.webhook_secrets import WebhookSecrets
from services.ingest.jobs.deliveries import Outbox, Receiver
from services.ingest.jobs.directory import Directory
from services.ingest.jobs.intake import Intake
from services.ingest.jobs.queue import JobQueue
from services.ingest.jobs.scheduling import Scheduler
from services.ingest.jobs.sweeping import sweep
from services.ingest.jobs.syncing import AT_ONCE, Syncing, Tools
from services.ingest.jobs.ticketing import Ticketing, watch
from services.ingest.migrate import MIGRATIONS
from services.ingest.projections import AGGREGATES, project
from services.ingest.records import Records
from services.ingest.reporting import Sources
from services.ingest.settings import IngestSettings
from services.ingest.vault import Vault
from services.ingest.vendors.asking import Asking
from services.ingest.vendors.oauth import Grants, read_clients
from services.ingest.vendors.pushes import Pushes

NAME = "ingest"
ROWS_SECONDS = 2.0
"""How long a request waits for the rows to hold what was decided before it."""
PROBES_AT_ONCE = 4
"""Connections that are tried at once beside the runs, so that nobody waits for them to try one."""


def build(settings: IngestSettings, resources: Resources) -> Service:
    """Ingest: its endpoints over the log, its counts, and what operators see of them."""
    rng = random.SystemRandom()
    desk = Desk(resources.event_log, clock=resources.clock, rng=rng)
    # Its own page spans workspaces, which only the role that writes the rows may.
    pool = resources.pool(NAME, url=settings.database_projector_url, max_size=2)
    kept = resources.pool(MIGRATIONS.schema)
    records = Records(kept, clock=resources.clock, rng=rng)
    vault = Vault(settings.master_keys(), kept, clock=resources.clock)
    outbound = Outbound(settings.reach)
    clients = read_clients(settings.oauth_clients)
    grants = Grants(vault, kept, outbound, clients=clients, clock=resources.clock)
    sources = Sources(resources.event_log, clock=resources.clock)
    authorizations = Authorizations(sources, grants, vault)
    intake = Intake(resources.event_log, records, clock=resources.clock)
    keeping = Keeping(sources, records, intake, clock=resources.clock)
    rows = resources.pool(NAME)
    queue = JobQueue(resources.nc, replicas=settings.replicas)
    asking = Asking(grants, settings.reach, threads=AT_ONCE + PROBES_AT_ONCE)

    async def caught_up(workspace_id: str) -> bool:
        end = await resources.event_log.last_seq(resources.event_log.partition_of(workspace_id))
        return await resources.reached(workspace_id, end, timeout=ROWS_SECONDS)

    connectors = Connectors(
        sources, vault, records, asking, queue, rows=rows, caught_up=caught_up, clock=resources.clock, rng=rng
    )
    tools = Tools(
        sources=sources,
        intake=intake,
        records=records,
        vault=vault,
        asking=asking,
        rows=rows,
        # One is held for each run, so that nobody else has to wait for one.
        locks=resources.pool(MIGRATIONS.schema, max_size=AT_ONCE + 1),
        clock=resources.clock,
    )
    scheduler = Scheduler(
        sources,
        pool,
        queue,
        partitions=settings.partitions,
        leads=resources.leads,
        clock=resources.clock,
    )
    directory = Directory(pool, vault)
    outbox = Outbox(resources.nc)
    webhook_secrets = WebhookSecrets(sources, vault, directory, clock=resources.clock)
    reception = Reception(
        vault=vault,
        directory=directory,
        secrets=webhook_secrets,
        outbox=outbox,
        outbound=outbound,
        clock=resources.clock,
    )
    receiver = Receiver(resources.nc, queue, directory, records, intake)
    pushes = Pushes(kept, clock=resources.clock)
    ticketing = Ticketing(resources.event_log, grants, pushes, outbound, clock=resources.clock)
    return Service(
        name=NAME,
        projection=projection(),
        endpoints=(
            *endpoints(desk, Retirement(resources.event_log, clock=resources.clock)),
            *authorizations.endpoints(),
            *keeping.endpoints(),
            *connectors.endpoints(),
            *reception.endpoints(),
            *webhook_secrets.endpoints(),
            *ticketing.endpoints(),
        ),
        routes=[intake_route(pool, clock=resources.clock)],
        on_start=[
            lambda: MIGRATIONS.prepare(settings.database_owner_url, kept),
            queue.ensure,
            outbox.start,
        ],
        on_stop=[asking.stop],
        background=[
            lambda: sweep(records, pool),
            scheduler.run,
            lambda: Syncing(tools).work(queue),
            receiver.run,
            lambda: watch(ticketing, pool, partitions=settings.partitions, leads=resources.leads),
        ],
    )


def projection() -> Projection:
    """Ingest's read model."""
    schema_sql = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
    return Projection(NAME, AGGREGATES, project, schema_sql, linger_seconds=0.25)
