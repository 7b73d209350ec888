"""The composition root: builds the service from its rooms."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from contracts import workspace
from eventlog import Projection
from msgspec import Struct
from runtime.broker import CommandContext, Endpoint, ask
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError
from runtime.outbound import Outbound, Reach
from runtime.service import Hook, Resources, Service

from services.ingest import _queries
from services.ingest.endpoints import Desk, Retirement, endpoints
from services.ingest.endpoints.authorization import Authorizations
from services.ingest.endpoints.connectors import Connectors
from services.ingest.endpoints.intake import intake_route
from services.ingest.endpoints.kept import Keeping
from services.ingest.endpoints.receiving import Reception
from services.ingest.endpoints.webhook_secrets import WebhookSecrets
from services.ingest.jobs.deliveries import Receiver
from services.ingest.jobs.directory import Directory
from services.ingest.jobs.intake import Intake
from services.ingest.jobs.outbox import Outbox
from services.ingest.jobs.queue import JobQueue
from services.ingest.jobs.scheduling import Scheduler
from services.ingest.jobs.sweeping import sweep
from services.ingest.jobs.syncing import AT_ONCE, Syncing, Tools
from services.ingest.jobs.ticketing import Ticketing, settle, watch
from services.ingest.migrate import MIGRATIONS
from services.ingest.projections import AGGREGATES, project
from services.ingest.records import Records
from services.ingest.reporting import Sources
from services.ingest.settings import IngestSettings
from services.ingest.vault import HOLDERS_MAX, Vault
from services.ingest.vendors.asking import Asking
from services.ingest.vendors.oauth import Grants, read_clients
from services.ingest.vendors.paces import SharedPaces
from services.ingest.vendors.pushes import Pushes
from services.ingest.vendors.rate_limiter import RateLimiter

NAME = "ingest"
ROWS_SECONDS = 2.0
"""How long a request waits for the rows to hold what was decided before it."""
PROBES_AT_ONCE = 4
"""Connections that are tried at once beside the runs, so that nobody waits for them to try one."""


class _Shared(Struct, frozen=True, kw_only=True):
    """What several parts work with. everywhere: rows of all workspaces; rows: of one; kept: what is not rebuilt."""

    settings: IngestSettings
    resources: Resources
    rng: random.Random
    everywhere: Pool
    rows: Pool
    kept: Pool
    reach: Reach
    outbound: Outbound
    records: Records
    vault: Vault
    grants: Grants
    sources: Sources
    intake: Intake
    paces: SharedPaces
    queue: JobQueue


class _Part(Struct, frozen=True, kw_only=True):
    """What one part has for the process."""

    endpoints: Sequence[Endpoint] = ()
    on_start: Sequence[Hook] = ()
    on_stop: Sequence[Hook] = ()
    background: Sequence[Hook] = ()


def build(settings: IngestSettings, resources: Resources) -> Service:
    """Ingest: its endpoints over the log, its counts, and what operators see of them."""
    shared = _shared(settings, resources)
    parts = [_connecting(shared), _receiving(shared), _ticketing(shared)]
    desk = Desk(resources.event_log, clock=resources.clock, rng=shared.rng)
    retirement = Retirement(resources.event_log, needed=partial(_needed_runs, shared), clock=resources.clock)
    return Service(
        name=NAME,
        projection=projection(),
        endpoints=(*endpoints(desk, retirement), *(each for part in parts for each in part.endpoints)),
        routes=[intake_route(shared.everywhere, clock=resources.clock)],
        on_start=[
            lambda: MIGRATIONS.prepare(settings.database_owner_url, shared.kept),
            shared.queue.ensure,
            *(hook for part in parts for hook in part.on_start),
        ],
        on_stop=[hook for part in parts for hook in part.on_stop],
        background=[
            lambda: sweep(shared.records, shared.everywhere, shared.paces),
            *(hook for part in parts for hook in part.background),
        ],
    )


def _shared(settings: IngestSettings, resources: Resources) -> _Shared:
    rng, clock = random.SystemRandom(), resources.clock
    kept = resources.pool(MIGRATIONS.schema)
    records = Records(kept, clock=clock, rng=rng)
    holding = resources.pool(MIGRATIONS.schema, max_size=HOLDERS_MAX)
    vault = Vault(settings.master_keys(), kept, clock=clock, holding=holding)
    reach = settings.reach
    outbound = Outbound(reach)
    clients = read_clients(settings.oauth_clients)

    async def allow(context: CommandContext, n_records: int) -> workspace.EventsTaken:
        cmd = workspace.TakeEvents(n_records=n_records)
        endpoint = workspace.ENDPOINTS[workspace.TakeEvents]
        return await ask(resources.nc, cmd, endpoint=endpoint, reply=workspace.EventsTaken, context=context)

    return _Shared(
        settings=settings,
        resources=resources,
        rng=rng,
        # Its own page spans workspaces, which only the role that writes the rows may.
        everywhere=resources.pool(NAME, url=settings.database_projector_url, max_size=2),
        rows=resources.pool(NAME),
        kept=kept,
        reach=reach,
        outbound=outbound,
        records=records,
        vault=vault,
        grants=Grants(vault, kept, outbound, clients=clients, clock=clock),
        sources=Sources(resources.event_log, clock=clock),
        intake=Intake(resources.event_log, records, allow=allow, clock=clock),
        paces=SharedPaces(kept, key=settings.master_keys().current.for_purpose("paces").secret, clock=clock),
        queue=JobQueue(resources.nc, replicas=settings.replicas),
    )


async def _needed_runs(
    shared: _Shared, workspace_id: str, run_ids: Sequence[str], up_to: int
) -> Sequence[str]:
    """Those of some runs that rows of connectors rest on, which hold a sequence of these runs.

    Never the log's last one: of what ingest does not read, nothing reaches its rows. Raises UnavailableError where
    nobody can tell now.
    """
    if not await shared.resources.reached(workspace_id, up_to, timeout=ROWS_SECONDS):
        raise UnavailableError("The rows are behind the log; ask again.")
    async with tenant(shared.rows, workspace_id) as conn:
        return await _queries.list_needed_runs(conn, workspace_id=workspace_id, run_ids=list(run_ids))


def _connecting(shared: _Shared) -> _Part:
    """Connectors, what they sign in with, what they have sent, and their runs."""
    settings, resources = shared.settings, shared.resources
    rate_limiter = RateLimiter(lambda: resources.clock().timestamp(), shared.paces)
    asking = Asking(
        shared.grants, shared.reach, threads=AT_ONCE, probes=PROBES_AT_ONCE, rate_limiter=rate_limiter
    )

    connectors = Connectors(
        shared.sources,
        shared.vault,
        shared.records,
        asking,
        shared.queue,
        rows=shared.rows,
        shown=partial(resources.reached, timeout=ROWS_SECONDS),
        clock=resources.clock,
        rng=shared.rng,
    )
    authorizations = Authorizations(shared.sources, shared.grants, shared.vault)
    keeping = Keeping(shared.sources, shared.records, shared.intake, clock=resources.clock)
    tools = Tools(
        sources=shared.sources,
        intake=shared.intake,
        records=shared.records,
        vault=shared.vault,
        asking=asking,
        rows=shared.rows,
        # One is held for each run, so that nobody else has to wait for one.
        locks=resources.pool(MIGRATIONS.schema, max_size=AT_ONCE + 1),
        clock=resources.clock,
    )
    scheduler = Scheduler(
        shared.sources,
        shared.everywhere,
        shared.queue,
        partitions=settings.partitions,
        leads=resources.leads,
        clock=resources.clock,
    )
    return _Part(
        endpoints=(*authorizations.endpoints(), *keeping.endpoints(), *connectors.endpoints()),
        on_start=[shared.paces.start],
        on_stop=[asking.stop],
        background=[scheduler.run, lambda: Syncing(tools).work(shared.queue)],
    )


def _receiving(shared: _Shared) -> _Part:
    """What vendors send by themselves."""
    clock, nc = shared.resources.clock, shared.resources.nc
    directory = Directory(shared.everywhere, shared.vault)
    outbox = Outbox(nc)
    secrets = WebhookSecrets(
        shared.sources,
        shared.vault,
        directory,
        shown=partial(shared.resources.reached, timeout=ROWS_SECONDS),
        clock=clock,
    )
    reception = Reception(
        vault=shared.vault,
        directory=directory,
        secrets=secrets,
        outbox=outbox,
        outbound=shared.outbound,
        clock=clock,
    )
    receiver = Receiver(nc, shared.queue, directory, shared.records, shared.intake)
    return _Part(
        endpoints=(*reception.endpoints(), *secrets.endpoints()),
        on_start=[outbox.start],
        on_stop=[reception.stop],
        background=[receiver.run],
    )


def _ticketing(shared: _Shared) -> _Part:
    """Tickets, made and followed."""
    resources = shared.resources
    ticketing = Ticketing(
        resources.event_log,
        shared.sources,
        shared.grants,
        Pushes(shared.kept, clock=resources.clock),
        shared.outbound,
        clock=resources.clock,
    )
    partitions = shared.settings.partitions
    return _Part(
        endpoints=ticketing.endpoints(),
        background=[
            lambda: settle(ticketing, leads=resources.leads),
            lambda: watch(ticketing, shared.everywhere, partitions=partitions, leads=resources.leads),
        ],
    )


def projection() -> Projection:
    """Ingest's read model."""
    schema_sql = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
    return Projection(NAME, AGGREGATES, project, schema_sql, linger_seconds=0.25)
