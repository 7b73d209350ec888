"""A connector as ingest makes it, with everything that is kept of it, for tests that look for all of a tenant."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

import nats
from contracts import Event, connector, derived_id, record
from eventlog import Append, EventLog
from runtime import database as databases
from runtime.sealing import MasterKeys, SealingKey
from testkit.stack import JWT_SECRET, Stack

from services.ingest.records import Mark, Raw, Records, Rejection
from services.ingest.vault import Vault
from tests.services.gateway.tenants import execute

Fact = tuple[Event, str, str]
"""An event, the id of what it is about, and the service that tells it."""


async def tell(stack: Stack, workspace_id: str, facts: Sequence[Fact], *, actor: str | None = None) -> None:
    """Append facts to the log in the name of services. actor: who caused those of pattern."""
    now = datetime.now(UTC)
    nc = await nats.connect(stack.nats.url)
    try:
        log = await EventLog.connect(nc, ensure_streams=False)
        for event, aggregate_id, source in facts:
            told = record(
                event,
                workspace_id=workspace_id,
                aggregate_id=aggregate_id,
                occurred_at=now,
                recorded_at=now,
                source=f"/causeloop/{source}",
                actor=actor if source == "pattern" else None,
            )
            await log.append(Append(told, expected=None))
    finally:
        await nc.close()


async def connect(stack: Stack, workspace_id: str, word: str, *, recommendation_id: str) -> None:
    """A paused connector with the word in every text, a run that is over, one that waits, a ticket; all that is kept."""
    connector_id, ticket_id = derived_id("con_", workspace_id), derived_id("tkt_", workspace_id)
    settings = connector.ConnectorSettings(
        type="pagerduty", display_name=word, auth=0, config={"region": "us"}, mapping={"team": f"'{word}'"}
    )
    counts = connector.SyncCounts(
        n_records=1, n_created=1, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
    )
    asked = [
        connector.SyncRequested(
            run_id=derived_id("syn_", workspace_id, name),
            connector_id=connector_id,
            kind=connector.SyncKind.MANUAL,
        )
        for name in ("over", "waits")
    ]
    ended = connector.SyncEnded(
        run_id=asked[0].run_id,
        connector_id=connector_id,
        outcome=connector.SyncOutcome.SUCCEEDED,
        counts=counts,
        reason="",
        detail=word,
    )
    ticket = connector.TicketCreated(
        ticket_id=ticket_id,
        recommendation_id=recommendation_id,
        connector_id=connector_id,
        tracker="jira",
        external_id=word,
        is_found=False,
    )
    made = connector.ConnectorCreated(
        connector_id=connector_id, settings=settings, status=connector.ConnectorStatus.PAUSED
    )
    named = connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=("api_key",))
    facts: list[Fact] = [(made, connector_id, "ingest"), (named, connector_id, "ingest")]
    facts += [(each, each.run_id, "ingest") for each in (*asked, ended)]
    await tell(stack, workspace_id, [*facts, (ticket, ticket_id, "ingest")])
    await keep(stack, workspace_id, connector_id, word)


async def keep(stack: Stack, workspace_id: str, connector_id: str, word: str) -> None:
    """A row with the word in every table of the schema sources."""
    now = datetime.now(UTC)
    pool = databases.pool(stack.database.app_url, schema="sources")
    async with pool:
        masters = MasterKeys(SealingKey.derived(JWT_SECRET, purpose="master key"))
        await Vault(masters, pool, clock=lambda: now).keep(workspace_id, connector_id, {"api_key": word})
        records = Records(pool, clock=lambda: now, rng=random.Random(word))
        await records.keep(workspace_id, connector_id, "incidents", [Raw(word, {"title": word})])
        rejected = [Rejection({"title": word}, "", word)]
        await records.reject(workspace_id, connector_id, "incidents", rejected)
        await records.note_deliveries(workspace_id, connector_id, [word])
        mark = Mark(run_id="syn_1", stream=word, resume={}, high_water=now)
        await records.checkpoint(workspace_id, connector_id, mark)
    await execute(
        stack.database.owner_url,
        "INSERT INTO sources.pushes (workspace_id, ticket_id, recommendation_id, connector_id, target, requested_by, begun_at,"
        " leased_until, n_attempts) VALUES (%s, %s, %s, %s, '{}', %s, now(), now() + interval '1 year', 1)",
        *(workspace_id, derived_id("tkt_", workspace_id), word, connector_id, word),
    )
    await execute(
        stack.database.owner_url,
        "INSERT INTO sources.authorizations VALUES"
        " (%s, %s, %s, 'x', 'https://c.example', 'usr_x', now(), now() + interval '1 year')",
        *(workspace_id, word, connector_id),
    )
