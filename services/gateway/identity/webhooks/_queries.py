"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Beginning(Struct, frozen=True):
    """One row of a result."""

    queued_to: int | None
    first_sequence: int | None


class Listening(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    webhook_id: str
    event_types: list[str]
    connector_id: str | None
    from_sequence: int


class Turn(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    webhook_id: str
    leased_until: datetime


class Webhook(Struct, frozen=True):
    """One row of a result."""

    webhook_id: str
    url: str
    description: str
    event_types: list[str]
    connector_id: str | None
    is_active: bool
    disabled_reason: str | None
    previous_until: datetime | None
    failing_since: datetime | None
    last_delivered_at: datetime | None
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    seq: int


class Target(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    webhook_id: str
    url: str
    connector_id: str | None
    is_active: bool
    secret_sealed: str
    previous_secret_sealed: str | None
    previous_until: datetime | None
    n_failures: int
    failing_since: datetime | None


class Due(Struct, frozen=True):
    """One row of a result."""

    delivery_id: str
    event_id: str
    event_type: str
    event_sequence: int
    subject_id: str
    details: str
    occurred_at: datetime
    n_attempts: int


class Delivery(Struct, frozen=True):
    """One row of a result."""

    delivery_id: str
    event_id: str
    event_type: str
    event_sequence: int
    subject_id: str
    details: str
    occurred_at: datetime
    status: str
    n_attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_status: int | None
    response_excerpt: str | None
    error: str | None
    duration_ms: int | None
    created_at: datetime
    seq: int


_WEBHOOKS_BEGIN = """
SELECT b.queued_to::bigint AS queued_to, b.first_sequence::bigint AS first_sequence
FROM webhooks_begin($1::integer) AS b (queued_to, first_sequence)
"""


async def webhooks_begin(conn: AsyncConnection[Any], *, log_partition: int) -> Beginning:
    """How far deliveries of a partition are queued, and from where on anybody listens."""
    async with AsyncRawCursor(conn, row_factory=args_row(Beginning)) as cursor:
        await cursor.execute(_WEBHOOKS_BEGIN, (log_partition,))
        fetched: Beginning | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("webhooks_begin gave no row")
        return fetched


_LIST_LISTENING = """
SELECT w.workspace_id::text AS workspace_id, w.webhook_id::text AS webhook_id, w.event_types::text[] AS event_types,
    w.connector_id::text AS connector_id, w.from_sequence::bigint AS from_sequence
FROM webhooks_listening($1::text[]) AS w (workspace_id, webhook_id, event_types, connector_id, from_sequence)
"""


async def list_listening(conn: AsyncConnection[Any], *, workspace_ids: list[str]) -> list[Listening]:
    """Who is told of events of these workspaces."""
    async with AsyncRawCursor(conn, row_factory=args_row(Listening)) as cursor:
        await cursor.execute(_LIST_LISTENING, (workspace_ids,))
        fetched: list[Listening] = await cursor.fetchall()
        return fetched


_QUEUE_WEBHOOKS = """
SELECT queue_webhooks($1::integer, $2::bigint, $3::bigint,
    $4::text::jsonb, $5::integer, $6::timestamptz)::boolean AS is_queued
"""


async def queue_webhooks(
    conn: AsyncConnection[Any],
    *,
    log_partition: int,
    from_position: int,
    to_position: int,
    deliveries: str,
    pending_max: int,
    now_at: datetime,
) -> bool:
    """Queue what a stretch of the log tells, and move the position with it; false: somebody else has done it."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_QUEUE_WEBHOOKS, (log_partition, from_position, to_position, deliveries, pending_max, now_at))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("queue_webhooks gave no row")
        return fetched


_TAKE_TURN = """
SELECT t.workspace_id::text AS workspace_id, t.webhook_id::text AS webhook_id, t.leased_until::timestamptz AS leased_until
FROM take_webhook_turn($1::timestamptz, $2::timestamptz, $3::text[])
    AS t (workspace_id, webhook_id, leased_until)
"""


async def take_turn(
    conn: AsyncConnection[Any],
    *,
    now_at: datetime,
    until: datetime,
    without: list[str],
) -> Turn | None:
    """The webhook that waits for the longest with something to send; nobody else gets it before `until`."""
    async with AsyncRawCursor(conn, row_factory=args_row(Turn)) as cursor:
        await cursor.execute(_TAKE_TURN, (now_at, until, without))
        fetched: Turn | None = await cursor.fetchone()
        return fetched


_HOLD_TURN = """
UPDATE webhooks SET leased_until = $1::timestamptz
WHERE workspace_id = $2 AND webhook_id = $3
    AND leased_until = $4::timestamptz
"""


async def hold_turn(
    conn: AsyncConnection[Any],
    *,
    until: datetime,
    workspace_id: str,
    webhook_id: str,
    leased_until: datetime,
) -> int:
    """Keep a turn for longer; 0 rows: somebody else has it by now, or the webhook is gone."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_HOLD_TURN, (until, workspace_id, webhook_id, leased_until))
        return cursor.rowcount


_END_TURN = """
UPDATE webhooks SET next_turn_at = $1, leased_until = NULL
WHERE workspace_id = $2 AND webhook_id = $3
    AND leased_until = $4::timestamptz
"""


async def end_turn(
    conn: AsyncConnection[Any],
    *,
    next_turn_at: datetime,
    workspace_id: str,
    webhook_id: str,
    leased_until: datetime,
) -> None:
    """Let others have a turn at a webhook from a time on; what was leased to somebody else meanwhile stays theirs."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_TURN, (next_turn_at, workspace_id, webhook_id, leased_until))


_PURGE_DELIVERIES = """
SELECT purge_webhook_deliveries($1::timestamptz, $2::interval, $3::interval,
    $4::integer)::bigint AS n_purged
"""


async def purge_deliveries(
    conn: AsyncConnection[Any],
    *,
    now_at: datetime,
    succeeded: timedelta,
    others: timedelta,
    most: int,
) -> int:
    """Delete deliveries that are old, so many at once."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PURGE_DELIVERIES, (now_at, succeeded, others, most))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("purge_deliveries gave no row")
        return fetched


_INSERT_WEBHOOK = """
INSERT INTO webhooks (workspace_id, webhook_id, url, description, event_types, connector_id, is_active, secret_sealed,
    log_partition, from_sequence, next_turn_at, created_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5::text[],
    $6, $7, $8, $9, $10,
    $11, $12, $11, $11)
RETURNING webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
"""


async def insert_webhook(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
    url: str,
    description: str,
    event_types: list[str],
    connector_id: str | None,
    is_active: bool,
    secret_sealed: str,
    log_partition: int,
    from_sequence: int,
    created_at: datetime,
    created_by: str | None,
) -> Webhook | None:
    """Keep a new webhook."""
    async with AsyncRawCursor(conn, row_factory=args_row(Webhook)) as cursor:
        await cursor.execute(_INSERT_WEBHOOK, (workspace_id, webhook_id, url, description, event_types, connector_id, is_active, secret_sealed, log_partition, from_sequence, created_at, created_by))
        fetched: Webhook | None = await cursor.fetchone()
        return fetched


_GET_WEBHOOK = """
SELECT webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
FROM webhooks WHERE workspace_id = $1 AND webhook_id = $2
"""


async def get_webhook(conn: AsyncConnection[Any], *, workspace_id: str, webhook_id: str) -> Webhook | None:
    """A webhook as lists show it."""
    async with AsyncRawCursor(conn, row_factory=args_row(Webhook)) as cursor:
        await cursor.execute(_GET_WEBHOOK, (workspace_id, webhook_id))
        fetched: Webhook | None = await cursor.fetchone()
        return fetched


_LOCK_WEBHOOK = """
SELECT webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
FROM webhooks WHERE workspace_id = $1 AND webhook_id = $2 FOR NO KEY UPDATE
"""


async def lock_webhook(conn: AsyncConnection[Any], *, workspace_id: str, webhook_id: str) -> Webhook | None:
    """A webhook that nobody else changes until the transaction ends. Before its deliveries are added to or changed: who does
    both locks in this order, migrations too.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(Webhook)) as cursor:
        await cursor.execute(_LOCK_WEBHOOK, (workspace_id, webhook_id))
        fetched: Webhook | None = await cursor.fetchone()
        return fetched


_COUNT_WEBHOOKS = """
SELECT count(*)::bigint AS n_webhooks FROM webhooks WHERE workspace_id = $1
"""


async def count_webhooks(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """How many webhooks the workspace has, counted while nobody else adds one."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_WEBHOOKS, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_webhooks gave no row")
        return fetched


_UPDATE_WEBHOOK = """
UPDATE webhooks SET url = COALESCE($1, url), description = COALESCE($2, description),
    event_types = COALESCE($3::text[], event_types),
    is_active = COALESCE($4::boolean, is_active),
    disabled_reason = CASE WHEN $4::boolean IS NULL THEN disabled_reason END,
    from_sequence = CASE WHEN $4::boolean AND NOT is_active THEN $5::bigint
        ELSE from_sequence END,
    n_failures = CASE WHEN $4::boolean THEN 0 ELSE n_failures END,
    failing_since = CASE WHEN $4::boolean THEN NULL ELSE failing_since END,
    next_turn_at = CASE WHEN $1::text IS NULL AND $4::boolean IS NULL THEN next_turn_at
        ELSE $6 END, updated_at = $6
WHERE workspace_id = $7 AND webhook_id = $8
RETURNING webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
"""


async def update_webhook(
    conn: AsyncConnection[Any],
    *,
    url: str | None,
    description: str | None,
    event_types: list[str] | None,
    is_active: bool | None,
    from_sequence: int,
    updated_at: datetime,
    workspace_id: str,
    webhook_id: str,
) -> Webhook | None:
    """Change a webhook; what is null stays. Switched on, it is told of what happens from `from_sequence` on."""
    async with AsyncRawCursor(conn, row_factory=args_row(Webhook)) as cursor:
        await cursor.execute(_UPDATE_WEBHOOK, (url, description, event_types, is_active, from_sequence, updated_at, workspace_id, webhook_id))
        fetched: Webhook | None = await cursor.fetchone()
        return fetched


_DELETE_WEBHOOK = """
DELETE FROM webhooks WHERE workspace_id = $1 AND webhook_id = $2
"""


async def delete_webhook(conn: AsyncConnection[Any], *, workspace_id: str, webhook_id: str) -> int:
    """Forget a webhook with its deliveries."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_WEBHOOK, (workspace_id, webhook_id))
        return cursor.rowcount


_GET_TARGET = """
SELECT w.workspace_id, w.webhook_id, w.url, w.connector_id, (w.is_active AND s.status = 'active')::boolean AS is_active,
    w.secret_sealed, w.previous_secret_sealed, w.previous_until, w.n_failures, w.failing_since
FROM webhooks AS w JOIN workspaces AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = $1 AND w.webhook_id = $2
"""


async def get_target(conn: AsyncConnection[Any], *, workspace_id: str, webhook_id: str) -> Target | None:
    """Where a webhook is, and what it is signed with; active as long as its workspace is, too."""
    async with AsyncRawCursor(conn, row_factory=args_row(Target)) as cursor:
        await cursor.execute(_GET_TARGET, (workspace_id, webhook_id))
        fetched: Target | None = await cursor.fetchone()
        return fetched


_TAKE_WEBHOOK_SECRET = """
SELECT secret_sealed FROM webhooks
WHERE workspace_id = $1 AND webhook_id = $2 FOR NO KEY UPDATE
"""


async def take_webhook_secret(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
) -> str | None:
    """The secret of a webhook, which nobody else changes until the transaction ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_TAKE_WEBHOOK_SECRET, (workspace_id, webhook_id))
        fetched: str | None = await cursor.fetchone()
        return fetched


_CHANGE_WEBHOOK_SECRET = """
UPDATE webhooks SET secret_sealed = $1, previous_secret_sealed = $2,
    previous_until = $3, updated_at = $4
WHERE workspace_id = $5 AND webhook_id = $6
"""


async def change_webhook_secret(
    conn: AsyncConnection[Any],
    *,
    secret_sealed: str,
    previous_secret_sealed: str | None,
    previous_until: datetime | None,
    updated_at: datetime,
    workspace_id: str,
    webhook_id: str,
) -> int:
    """Another secret; the one before signs too for a while."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_WEBHOOK_SECRET, (secret_sealed, previous_secret_sealed, previous_until, updated_at, workspace_id, webhook_id))
        return cursor.rowcount


_LIST_DUE = """
SELECT delivery_id, event_id, event_type, event_sequence, subject_id, details::text AS details, occurred_at, n_attempts
FROM webhook_deliveries
WHERE workspace_id = $1 AND webhook_id = $2 AND status = 'pending'
    AND next_attempt_at <= $3::timestamptz
ORDER BY seq LIMIT $4::integer
"""


async def list_due(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
    now_at: datetime,
    page_size: int,
) -> list[Due]:
    """What is due of a webhook, in the order of the log."""
    async with AsyncRawCursor(conn, row_factory=args_row(Due)) as cursor:
        await cursor.execute(_LIST_DUE, (workspace_id, webhook_id, now_at, page_size))
        fetched: list[Due] = await cursor.fetchall()
        return fetched


_INSERT_TEST = """
INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
    details, occurred_at, status, error, created_at)
VALUES ($1, $2, $3, $4, $5,
    0, $2, '{}', $6, 'failed', $7, $6)
"""


async def insert_test(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
    delivery_id: str,
    event_id: str,
    event_type: str,
    created_at: datetime,
    error: str | None,
) -> None:
    """Keep a test: failed until it is noted how it went, so that one whose gateway ends meanwhile is not on its way for ever."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_TEST, (workspace_id, webhook_id, delivery_id, event_id, event_type, created_at, error))


_INSERT_DELIVERY = """
INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
    details, occurred_at, status, next_attempt_at, created_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8::text::jsonb, $9, 'pending',
    $10, $11)
"""


async def insert_delivery(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
    delivery_id: str,
    event_id: str,
    event_type: str,
    event_sequence: int,
    subject_id: str,
    details: str,
    occurred_at: datetime,
    next_attempt_at: datetime | None,
    created_at: datetime,
) -> None:
    """Keep a delivery that somebody asked for: one more of what was sent before."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_DELIVERY, (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id, details, occurred_at, next_attempt_at, created_at))


_GET_DELIVERY = """
SELECT delivery_id, event_id, event_type, event_sequence, subject_id, details::text AS details, occurred_at, status, n_attempts,
    next_attempt_at, last_attempt_at, response_status, response_excerpt, error, duration_ms, created_at, seq
FROM webhook_deliveries
WHERE workspace_id = $1 AND webhook_id = $2 AND delivery_id = $3
"""


async def get_delivery(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    webhook_id: str,
    delivery_id: str,
) -> Delivery | None:
    """A delivery, as the log of them shows it."""
    async with AsyncRawCursor(conn, row_factory=args_row(Delivery)) as cursor:
        await cursor.execute(_GET_DELIVERY, (workspace_id, webhook_id, delivery_id))
        fetched: Delivery | None = await cursor.fetchone()
        return fetched


_COUNT_WAITING = """
SELECT count(*)::bigint AS n_waiting FROM (SELECT FROM webhook_deliveries
    WHERE workspace_id = $1 AND webhook_id = $2 AND status = 'pending'
    LIMIT $3::integer) AS waiting
"""


async def count_waiting(conn: AsyncConnection[Any], *, workspace_id: str, webhook_id: str, most: int) -> int:
    """How many deliveries wait for a webhook, counted up to `most`."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_WAITING, (workspace_id, webhook_id, most))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_waiting gave no row")
        return fetched


_NOTE_ATTEMPT = """
UPDATE webhook_deliveries SET status = $1::text, n_attempts = n_attempts + 1,
    next_attempt_at = $2, last_attempt_at = $3,
    response_status = $4, response_excerpt = $5, error = $6,
    duration_ms = $7
WHERE workspace_id = $8 AND delivery_id = $9
    AND (status = 'pending' OR status = 'failed' AND n_attempts = 0 OR $1::text = 'succeeded')
"""


async def note_attempt(
    conn: AsyncConnection[Any],
    *,
    status: str,
    next_attempt_at: datetime | None,
    last_attempt_at: datetime | None,
    response_status: int | None,
    response_excerpt: str | None,
    error: str | None,
    duration_ms: int | None,
    workspace_id: str,
    delivery_id: str,
) -> int:
    """Write down how an attempt went; 0 rows: it failed, and another has ended the delivery meanwhile."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_ATTEMPT, (status, next_attempt_at, last_attempt_at, response_status, response_excerpt, error, duration_ms, workspace_id, delivery_id))
        return cursor.rowcount


_SKIP_DELIVERY = """
UPDATE webhook_deliveries SET status = 'skipped', next_attempt_at = NULL, error = $1
WHERE workspace_id = $2 AND delivery_id = $3 AND status = 'pending'
"""


async def skip_delivery(
    conn: AsyncConnection[Any],
    *,
    error: str | None,
    workspace_id: str,
    delivery_id: str,
) -> None:
    """Leave a delivery out: what it is about is gone."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SKIP_DELIVERY, (error, workspace_id, delivery_id))


_NOTE_DELIVERED = """
UPDATE webhooks SET n_failures = 0, failing_since = NULL, last_delivered_at = $1::timestamptz
WHERE workspace_id = $2 AND webhook_id = $3
"""


async def note_delivered(
    conn: AsyncConnection[Any],
    *,
    now_at: datetime,
    workspace_id: str,
    webhook_id: str,
) -> None:
    """Note that a webhook took something."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_DELIVERED, (now_at, workspace_id, webhook_id))


_NOTE_FAILURE = """
UPDATE webhooks SET n_failures = n_failures + 1, failing_since = COALESCE(failing_since, $1::timestamptz)
WHERE workspace_id = $2 AND webhook_id = $3
"""


async def note_failure(
    conn: AsyncConnection[Any],
    *,
    now_at: datetime,
    workspace_id: str,
    webhook_id: str,
) -> None:
    """Note that a webhook did not take something."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_FAILURE, (now_at, workspace_id, webhook_id))


_DISABLE_WEBHOOK = """
UPDATE webhooks SET is_active = false, disabled_reason = $1::text, updated_at = $2::timestamptz
WHERE workspace_id = $3 AND webhook_id = $4 AND is_active
"""


async def disable_webhook(
    conn: AsyncConnection[Any],
    *,
    reason: str,
    now_at: datetime,
    workspace_id: str,
    webhook_id: str,
) -> int:
    """Stop sending to a webhook, and say why in the audit log; 0 rows when it is stopped already."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DISABLE_WEBHOOK, (reason, now_at, workspace_id, webhook_id))
        return cursor.rowcount


_AUDIT_DISABLED = """
SELECT audit_here(NULL, 'webhook.disabled', 'update', 'webhook', $1::text,
    jsonb_build_object('reason', $2::text))::text AS entry_id
"""


async def audit_disabled(conn: AsyncConnection[Any], *, webhook_id: str, reason: str) -> str:
    """Write down that nobody but we did something."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_AUDIT_DISABLED, (webhook_id, reason))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("audit_disabled gave no row")
        return fetched
