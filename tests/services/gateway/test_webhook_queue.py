"""What a look at the queue of deliveries reads: not all that there is."""

from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

from runtime import database as databases
from runtime.database import tenant
from testkit.servers import Database

from services.gateway.identity.webhooks import _queries

from .tenants import execute, onboard

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WEBHOOKS = """INSERT INTO webhooks (workspace_id, webhook_id, url, description, event_types, is_active, secret_sealed,
        log_partition, from_sequence, next_turn_at, created_at, updated_at)
    SELECT %s, 'whk_' || lpad(n::text, 26, '0'), 'https://example.com/', '', '{issue.created}', true, '', 0, n, now, now, now
    FROM (SELECT %s::timestamptz AS now) AS t, generate_series(1, 3000) AS n"""
DELIVERIES = """INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence,
        subject_id, details, occurred_at, status, next_attempt_at, created_at)
    SELECT workspace_id, webhook_id, 'whd_' || substr(webhook_id, 5), '', '', 1, '', '{}', created_at, 'succeeded', NULL,
        created_at - CASE WHEN from_sequence <= 3 THEN interval '30 days' ELSE interval '1 hour' END
    FROM webhooks"""
WAITING = """INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence,
        subject_id, details, occurred_at, status, next_attempt_at, created_at)
    SELECT workspace_id, webhook_id, 'whd_1' || substr(webhook_id, 6), '', '', 1, '', '{}', created_at, 'pending', created_at,
        created_at
    FROM webhooks"""
RESTING = "UPDATE webhooks SET next_turn_at = created_at + interval '1 hour'"

DELIVERY = (
    '{"webhook_id": "%s", "delivery_id": "whd_%024d%02d", "event_id": "evt_1", "event_type": "issue.created",'
    ' "event_sequence": 9, "subject_id": "iss_1", "details": {}, "occurred_at": "2026-05-01T00:00:00Z"}'
)


async def test_looks_read_what_waits_and_what_is_old_only(database: Database) -> None:
    """Neither webhooks that rest, however much waits for them, nor deliveries that are too young to be deleted."""
    client = await onboard(database.owner_url)
    made = (WEBHOOKS, client.workspace_id, NOW)
    for statement, *values in (made, (DELIVERIES,), (WAITING,), (RESTING,), ("ANALYZE webhooks",)):
        await execute(database.owner_url, statement, *values)
    pool = databases.pool(database.app_url, schema="identity")
    async with pool, pool.connection() as conn:

        async def n_read(table: str) -> int:
            """By this transaction."""
            found = await conn.execute(
                "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = $1",
                (table,),
            )
            return int((await found.fetchall())[0][0])

        async with conn.transaction():
            assert (await _queries.webhooks_begin(conn, log_partition=0)).first_sequence == 1
            until = NOW + timedelta(seconds=90)
            assert await _queries.take_turn(conn, now_at=NOW, until=until, without=[]) is None
            assert await n_read("webhooks") + await n_read("webhook_deliveries") < 20
        async with conn.transaction():
            kept = timedelta(days=2)
            purge = partial(_queries.purge_deliveries, conn, now_at=NOW, succeeded=kept, others=kept)
            assert [await purge(most=2), await purge(most=2), await purge(most=2)] == [2, 1, 0]
            assert await n_read("webhook_deliveries") < 20


async def test_one_stretch_switches_off_webhooks_of_one_workspace_at_most(database: Database) -> None:
    """Two workspaces' audit chains are never locked together; the other follows with the next stretch."""
    found = []
    for n in (1, 2):
        client = await onboard(database.owner_url)
        found.append(f"whk_{n:026}")
        one = WEBHOOKS.replace("(1, 3000)", f"({n}, {n})")
        await execute(database.owner_url, one, client.workspace_id, NOW)
    pool = databases.pool(database.app_url, schema="identity")
    async with pool, pool.connection() as conn:
        n_on = []
        for end in (8, 9, 10):
            await _queries.queue_webhooks(
                conn,
                log_partition=0,
                from_position=-1 if end == 8 else end - 1,
                to_position=end,
                deliveries=f"[{','.join(DELIVERY % (hook, end, n) for n, hook in enumerate(found))}]",
                pending_max=1,
                now_at=NOW,
            )
            begin = await _queries.webhooks_begin(conn, log_partition=0)
            n_on.append(begin.first_sequence)
        assert n_on == [1, 2, None]


BACKLOG = """INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence,
        subject_id, details, occurred_at, status, next_attempt_at, created_at)
    SELECT workspace_id, webhook_id, 'whd_' || lpad(n::text, 26, '0'), '', '', n + 1, '', '{}', created_at, 'pending',
        created_at - interval '1 second', created_at
    FROM webhooks, generate_series(1, 3000) AS n"""


async def test_a_backlog_costs_what_is_taken_of_it(database: Database) -> None:
    """Neither a turn nor what is queued behind it reads all that waits."""
    client = await onboard(database.owner_url)
    one = WEBHOOKS.replace("(1, 3000)", "(1, 1)")
    made = (one, client.workspace_id, NOW)
    for statement, *values in (made, (BACKLOG,), ("ANALYZE webhook_deliveries",)):
        await execute(database.owner_url, statement, *values)
    hook = f"whk_{1:026}"
    pool = databases.pool(database.app_url, schema="identity")
    async with pool, tenant(pool, client.workspace_id) as conn:
        due = await _queries.list_due(
            conn, workspace_id=client.workspace_id, webhook_id=hook, now_at=NOW, page_size=20
        )
        assert [each.event_sequence for each in due] == list(range(2, 22))
        assert await _queries.queue_webhooks(
            conn,
            log_partition=0,
            from_position=-1,
            to_position=9,
            deliveries=f"[{DELIVERY % (hook, 9, 1)}]",
            pending_max=50_000,
            now_at=NOW,
        )
        read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_deliveries'"
        [(n_read,)] = await (await conn.execute(read)).fetchall()
        assert n_read < 100, "of 3,000"


async def test_a_webhook_that_keeps_up_is_not_switched_off(database: Database) -> None:
    """However many it has had: those that wait count, and only when they might be too many."""
    client = await onboard(database.owner_url)
    await execute(database.owner_url, WEBHOOKS.replace("(1, 3000)", "(1, 1)"), client.workspace_id, NOW)
    pool = databases.pool(database.app_url, schema="identity")
    n_on = []
    async with pool, pool.connection() as conn:
        for end in range(8, 16):
            await _queries.queue_webhooks(
                conn,
                log_partition=0,
                from_position=-1 if end == 8 else end - 1,
                to_position=end,
                deliveries=f"[{DELIVERY % (f'whk_{1:026}', end, 1)}]",
                pending_max=2,
                now_at=NOW,
            )
            if end < 12:
                await execute(database.owner_url, "UPDATE webhook_deliveries SET status = 'succeeded'")
            n_on.append((await _queries.webhooks_begin(conn, log_partition=0)).first_sequence)
    assert n_on == [1] * 6 + [None] * 2


async def test_a_stretch_counts_one_backlog_at_most_and_not_again_at_once(database: Database) -> None:
    """Of two that may be full and are not, each is counted once; then more has to come first."""
    client = await onboard(database.owner_url)
    two = (WEBHOOKS.replace("(1, 3000)", "(1, 2)"), client.workspace_id, NOW)
    backlogs = BACKLOG.replace("lpad(n::text, 26, '0')", "lpad(seq::text, 13, '0') || lpad(n::text, 13, '0')")
    taken = "UPDATE webhook_deliveries SET status = 'succeeded' WHERE mod(event_sequence, 2) = 0"
    for statement, *values in (two, (backlogs,), (taken,), ("ANALYZE webhook_deliveries",)):
        await execute(database.owner_url, statement, *values)
    queued = [DELIVERY % (f"whk_{n:026}", 9, n) for n in (1, 2)]
    pool = databases.pool(database.app_url, schema="identity")
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_deliveries'"
    n_read = [0]
    async with pool, pool.connection() as conn, conn.transaction():
        for end in range(8, 12):
            await _queries.queue_webhooks(
                conn,
                log_partition=0,
                from_position=-1 if end == 8 else end - 1,
                to_position=end,
                deliveries=f"[{','.join(queued)}]",
                pending_max=2000,
                now_at=NOW,
            )
            n_read += [n for (n,) in await (await conn.execute(read)).fetchall()]
        assert (await _queries.webhooks_begin(conn, log_partition=0)).first_sequence == 1
    assert [now - before > 1000 for before, now in pairwise(n_read)] == [True, True, False, False], n_read
    assert n_read[-1] < 4000, "two backlogs of 1,500"
