-- How far deliveries of a partition are queued, and from where on anybody listens.
-- always
-- column queued_to: int | None
-- column first_sequence: int | None
-- row: Beginning
-- name: WebhooksBegin :one
SELECT b.queued_to::bigint AS queued_to, b.first_sequence::bigint AS first_sequence
FROM webhooks_begin(sqlc.arg(log_partition)::integer) AS b (queued_to, first_sequence);

-- Who is told of events of these workspaces.
-- column connector_id: str | None
-- row: Listening
-- name: ListListening :many
SELECT w.workspace_id::text AS workspace_id, w.webhook_id::text AS webhook_id, w.event_types::text[] AS event_types,
    w.connector_id::text AS connector_id, w.from_sequence::bigint AS from_sequence
FROM webhooks_listening(sqlc.arg(workspace_ids)::text[]) AS w (workspace_id, webhook_id, event_types, connector_id, from_sequence);

-- Queue what a stretch of the log tells, and move the position with it; false: somebody else has done it.
-- always
-- name: QueueWebhooks :one
SELECT queue_webhooks(sqlc.arg(log_partition)::integer, sqlc.arg(from_position)::bigint, sqlc.arg(to_position)::bigint,
    sqlc.arg(deliveries)::text::jsonb, sqlc.arg(pending_max)::integer, sqlc.arg(now_at)::timestamptz)::boolean AS is_queued;

-- The webhook that waits for the longest with something to send; nobody else gets it before `until`.
-- row: Turn
-- name: TakeTurn :one
SELECT t.workspace_id::text AS workspace_id, t.webhook_id::text AS webhook_id, t.leased_until::timestamptz AS leased_until
FROM take_webhook_turn(sqlc.arg(now_at)::timestamptz, sqlc.arg(until)::timestamptz, sqlc.arg(without)::text[])
    AS t (workspace_id, webhook_id, leased_until);

-- Keep a turn for longer; 0 rows: somebody else has it by now, or the webhook is gone.
-- name: HoldTurn :execrows
UPDATE webhooks SET leased_until = sqlc.arg(until)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id)
    AND leased_until = sqlc.arg(leased_until)::timestamptz;

-- Let others have a turn at a webhook from a time on; what was leased to somebody else meanwhile stays theirs.
-- name: EndTurn :exec
UPDATE webhooks SET next_turn_at = sqlc.arg(next_turn_at), leased_until = NULL
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id)
    AND leased_until = sqlc.arg(leased_until)::timestamptz;

-- Delete deliveries that are old, so many at once.
-- always
-- name: PurgeDeliveries :one
SELECT purge_webhook_deliveries(sqlc.arg(now_at)::timestamptz, sqlc.arg(succeeded)::interval, sqlc.arg(others)::interval,
    sqlc.arg(most)::integer)::bigint AS n_purged;

-- Keep a new webhook.
-- column seq: int
-- row: Webhook
-- name: InsertWebhook :one
INSERT INTO webhooks (workspace_id, webhook_id, url, description, event_types, connector_id, is_active, secret_sealed,
    log_partition, from_sequence, next_turn_at, created_by, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(webhook_id), sqlc.arg(url), sqlc.arg(description), sqlc.arg(event_types)::text[],
    sqlc.narg(connector_id), sqlc.arg(is_active), sqlc.arg(secret_sealed), sqlc.arg(log_partition), sqlc.arg(from_sequence),
    sqlc.arg(created_at), sqlc.narg(created_by), sqlc.arg(created_at), sqlc.arg(created_at))
RETURNING webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq;

-- A webhook as lists show it.
-- column seq: int
-- row: Webhook
-- name: GetWebhook :one
SELECT webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
FROM webhooks WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id);

-- A webhook that nobody else changes until the transaction ends. Before its deliveries are added to or changed: who does
-- both locks in this order, migrations too.
-- column seq: int
-- row: Webhook
-- name: LockWebhook :one
SELECT webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq
FROM webhooks WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) FOR NO KEY UPDATE;

-- How many webhooks the workspace has, counted while nobody else adds one.
-- always
-- name: CountWebhooks :one
SELECT count(*)::bigint AS n_webhooks FROM webhooks WHERE workspace_id = sqlc.arg(workspace_id);

-- Change a webhook; what is null stays. Switched on, it is told of what happens from `from_sequence` on.
-- column seq: int
-- row: Webhook
-- name: UpdateWebhook :one
UPDATE webhooks SET url = COALESCE(sqlc.narg(url), url), description = COALESCE(sqlc.narg(description), description),
    event_types = COALESCE(sqlc.narg(event_types)::text[], event_types),
    is_active = COALESCE(sqlc.narg(is_active)::boolean, is_active),
    disabled_reason = CASE WHEN sqlc.narg(is_active)::boolean IS NULL THEN disabled_reason END,
    from_sequence = CASE WHEN sqlc.narg(is_active)::boolean AND NOT is_active THEN sqlc.arg(from_sequence)::bigint
        ELSE from_sequence END,
    n_failures = CASE WHEN sqlc.narg(is_active)::boolean THEN 0 ELSE n_failures END,
    failing_since = CASE WHEN sqlc.narg(is_active)::boolean THEN NULL ELSE failing_since END,
    next_turn_at = CASE WHEN sqlc.narg(url)::text IS NULL AND sqlc.narg(is_active)::boolean IS NULL THEN next_turn_at
        ELSE sqlc.arg(updated_at) END, updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id)
RETURNING webhook_id, url, description, event_types, connector_id, is_active, disabled_reason, previous_until, failing_since,
    last_delivered_at, created_by, created_at, updated_at, seq;

-- Forget a webhook with its deliveries.
-- name: DeleteWebhook :execrows
DELETE FROM webhooks WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id);

-- Where a webhook is, and what it is signed with; active as long as its workspace is, too.
-- row: Target
-- name: GetTarget :one
SELECT w.workspace_id, w.webhook_id, w.url, w.connector_id, (w.is_active AND s.status = 'active')::boolean AS is_active,
    w.secret_sealed, w.previous_secret_sealed, w.previous_until, w.n_failures, w.failing_since
FROM webhooks AS w JOIN workspaces AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = sqlc.arg(workspace_id) AND w.webhook_id = sqlc.arg(webhook_id);

-- The secret of a webhook, which nobody else changes until the transaction ends.
-- name: TakeWebhookSecret :one
SELECT secret_sealed FROM webhooks
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) FOR NO KEY UPDATE;

-- Another secret; the one before signs too for a while.
-- name: ChangeWebhookSecret :execrows
UPDATE webhooks SET secret_sealed = sqlc.arg(secret_sealed), previous_secret_sealed = sqlc.arg(previous_secret_sealed),
    previous_until = sqlc.arg(previous_until), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id);

-- What is due of a webhook, in the order of the log.
-- column details: str
-- row: Due
-- name: ListDue :many
SELECT delivery_id, event_id, event_type, event_sequence, subject_id, details::text AS details, occurred_at, n_attempts
FROM webhook_deliveries
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) AND status = 'pending'
    AND next_attempt_at <= sqlc.arg(now_at)::timestamptz
ORDER BY seq LIMIT sqlc.arg(page_size)::integer;

-- Keep a test: failed until it is noted how it went, so that one whose gateway ends meanwhile is not on its way for ever.
-- name: InsertTest :exec
INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
    details, occurred_at, status, error, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(webhook_id), sqlc.arg(delivery_id), sqlc.arg(event_id), sqlc.arg(event_type),
    0, sqlc.arg(webhook_id), '{}', sqlc.arg(created_at), 'failed', sqlc.arg(error), sqlc.arg(created_at));

-- Keep a delivery that somebody asked for: one more of what was sent before.
-- name: InsertDelivery :exec
INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
    details, occurred_at, status, next_attempt_at, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(webhook_id), sqlc.arg(delivery_id), sqlc.arg(event_id), sqlc.arg(event_type),
    sqlc.arg(event_sequence), sqlc.arg(subject_id), sqlc.arg(details)::text::jsonb, sqlc.arg(occurred_at), 'pending',
    sqlc.narg(next_attempt_at), sqlc.arg(created_at));

-- A delivery, as the log of them shows it.
-- column details: str
-- column seq: int
-- row: Delivery
-- name: GetDelivery :one
SELECT delivery_id, event_id, event_type, event_sequence, subject_id, details::text AS details, occurred_at, status, n_attempts,
    next_attempt_at, last_attempt_at, response_status, response_excerpt, error, duration_ms, created_at, seq
FROM webhook_deliveries
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) AND delivery_id = sqlc.arg(delivery_id);

-- How many deliveries wait for a webhook, counted up to `most`.
-- always
-- name: CountWaiting :one
SELECT count(*)::bigint AS n_waiting FROM (SELECT FROM webhook_deliveries
    WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) AND status = 'pending'
    LIMIT sqlc.arg(most)::integer) AS waiting;

-- Write down how an attempt went; 0 rows: it failed, and another has ended the delivery meanwhile.
-- name: NoteAttempt :execrows
UPDATE webhook_deliveries SET status = sqlc.arg(status)::text, n_attempts = n_attempts + 1,
    next_attempt_at = sqlc.narg(next_attempt_at), last_attempt_at = sqlc.arg(last_attempt_at),
    response_status = sqlc.narg(response_status), response_excerpt = sqlc.narg(response_excerpt), error = sqlc.narg(error),
    duration_ms = sqlc.arg(duration_ms)
WHERE workspace_id = sqlc.arg(workspace_id) AND delivery_id = sqlc.arg(delivery_id)
    AND (status = 'pending' OR status = 'failed' AND n_attempts = 0 OR sqlc.arg(status)::text = 'succeeded');

-- Leave a delivery out: what it is about is gone.
-- name: SkipDelivery :exec
UPDATE webhook_deliveries SET status = 'skipped', next_attempt_at = NULL, error = sqlc.arg(error)
WHERE workspace_id = sqlc.arg(workspace_id) AND delivery_id = sqlc.arg(delivery_id) AND status = 'pending';

-- Note that a webhook took something.
-- name: NoteDelivered :exec
UPDATE webhooks SET n_failures = 0, failing_since = NULL, last_delivered_at = sqlc.arg(now_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id);

-- Note that a webhook did not take something.
-- name: NoteFailure :exec
UPDATE webhooks SET n_failures = n_failures + 1, failing_since = COALESCE(failing_since, sqlc.arg(now_at)::timestamptz)
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id);

-- Stop sending to a webhook, and say why in the audit log; 0 rows when it is stopped already.
-- name: DisableWebhook :execrows
UPDATE webhooks SET is_active = false, disabled_reason = sqlc.arg(reason)::text, updated_at = sqlc.arg(now_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND webhook_id = sqlc.arg(webhook_id) AND is_active;

-- Write down that nobody but we did something.
-- always
-- name: AuditDisabled :one
SELECT audit_here(NULL, 'webhook.disabled', 'update', 'webhook', sqlc.arg(webhook_id)::text,
    jsonb_build_object('reason', sqlc.arg(reason)::text))::text AS entry_id;
