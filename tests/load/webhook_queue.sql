-- What a look at the queue of webhooks costs: `psql "$DATABASE_OWNER_URL" -f tests/load/webhook_queue.sql` after
-- `causeloop migrate`, on a database that nobody uses. All that it makes is rolled back. For the state before an index or a
-- column, run the part behind `-- migrate:down` of its migration first, within the same transaction.
BEGIN;
SET LOCAL search_path = identity;

-- 10,000 webhooks of 200 workspaces, for each of which a delivery waits that is due in an hour.
SELECT count(*) FROM generate_series(1, 200) AS n,
    LATERAL onboard_client('Queue ' || n, 'queue-' || n, 'owner@queue-' || n || '.example') AS made;
CREATE FUNCTION pg_temp.add_webhooks(p_each integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO webhooks (workspace_id, webhook_id, url, description, event_types, is_active, secret_sealed, log_partition,
        from_sequence, next_turn_at, created_at, updated_at)
    SELECT s.workspace_id, 'whk_' || lpad((row_number() OVER () + (SELECT count(*) FROM webhooks))::text, 26, '0'),
        'https://example.com/', '', '{issue.created}', true, '', 0, 0, now(), now(), now()
    FROM (SELECT workspace_id FROM workspaces WHERE slug LIKE 'queue-%') AS s, generate_series(1, p_each)
$$;
CREATE FUNCTION pg_temp.add_deliveries(p_each integer, p_in interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
        details, occurred_at, status, next_attempt_at, created_at)
    SELECT w.workspace_id, w.webhook_id,
        'whd_' || lpad((row_number() OVER () + (SELECT count(*) FROM webhook_deliveries))::text, 26, '0'),
        '', 'issue.created', n, '', '{}', now(), 'pending', now() + p_in, now()
    FROM webhooks AS w, generate_series(1, p_each) AS n
$$;
SELECT pg_temp.add_webhooks(50);
SELECT pg_temp.add_deliveries(1, interval '1 hour');
ANALYZE webhooks;
ANALYZE webhook_deliveries;
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM take_webhook_turn(now(), now() + interval '15 s', '{}');
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM take_webhook_turn(now(), now() + interval '15 s', '{}');

-- 6 webhooks, for each of which 45,000 deliveries wait.
DELETE FROM webhooks WHERE webhook_id > 'whk_' || lpad('6', 26, '0');
DELETE FROM webhook_deliveries;
SELECT pg_temp.add_deliveries(45000, interval '0');
ANALYZE webhook_deliveries;
EXPLAIN (ANALYZE, BUFFERS) SELECT delivery_id FROM webhook_deliveries
    WHERE webhook_id = 'whk_' || lpad('1', 26, '0') AND status = 'pending' AND next_attempt_at <= now() ORDER BY seq LIMIT 20;
EXPLAIN (ANALYZE, BUFFERS) SELECT queue_webhooks(0, -1, 1, (
    SELECT jsonb_agg(jsonb_build_object('webhook_id', webhook_id, 'delivery_id', 'whd_9' || substr(webhook_id, 6),
        'event_id', '', 'event_type', 'issue.created', 'event_sequence', 50000, 'subject_id', '', 'details', '{}'::jsonb,
        'occurred_at', now())) FROM webhooks), 50000, now());

ROLLBACK;
