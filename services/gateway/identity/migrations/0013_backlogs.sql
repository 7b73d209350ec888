-- migrate:up

-- The webhooks before their deliveries, as who sends and queues locks them: the other way round one waits for the other.
-- As many wait at most, of those that came since it was switched on; counted anew when that is too many.
ALTER TABLE webhooks ADD COLUMN waiting_most bigint NOT NULL DEFAULT 0;
UPDATE webhooks AS w SET waiting_most = q.n_waiting
FROM (SELECT webhook_id, count(*) AS n_waiting FROM webhook_deliveries WHERE status = 'pending' GROUP BY webhook_id) AS q
WHERE q.webhook_id = w.webhook_id;
-- A backlog costs what is taken of it, not what there is: neither a turn nor the queue reads all that waits.
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook_id, seq) WHERE status = 'pending';

CREATE OR REPLACE FUNCTION note_due_webhooks() RETURNS trigger
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
BEGIN
    UPDATE webhooks AS w SET due_at = LEAST(w.due_at, d.due_at), waiting_most = w.waiting_most + d.n_added
    FROM (SELECT workspace_id, webhook_id, min(next_attempt_at) AS due_at, count(*) AS n_added
        FROM added WHERE status = 'pending' GROUP BY workspace_id, webhook_id) AS d
    WHERE w.workspace_id = d.workspace_id AND w.webhook_id = d.webhook_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION queue_webhooks(
    p_partition integer, p_from bigint, p_to bigint, p_deliveries jsonb, p_pending_max integer, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    full_one record;
    full_space text;
    n_waiting bigint;
BEGIN
    INSERT INTO webhook_positions AS p (log_partition, queued_to) VALUES (p_partition, p_to)
    ON CONFLICT (log_partition) DO UPDATE SET queued_to = p_to WHERE p.queued_to = p_from;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- One at a time, the next one with the next stretch: two workspaces' chains are never locked together, and one backlog
    -- is counted at most. What waited when it was switched on does not count, or else the next event would switch it off again.
    SELECT f.webhook_id, f.from_sequence INTO full_one FROM webhooks AS f
    WHERE f.is_active AND f.waiting_most >= p_pending_max
        AND f.webhook_id IN (SELECT d.webhook_id FROM jsonb_to_recordset(p_deliveries) AS d (webhook_id text))
    ORDER BY f.seq LIMIT 1;
    IF FOUND THEN
        SELECT count(*) INTO n_waiting FROM (SELECT FROM webhook_deliveries AS q
            WHERE q.webhook_id = full_one.webhook_id AND q.status = 'pending' AND q.event_sequence > full_one.from_sequence
            LIMIT p_pending_max) AS waiting;
        -- Not again before a fiftieth more has come.
        UPDATE webhooks AS w SET waiting_most = LEAST(n_waiting, p_pending_max - p_pending_max / 50)
        WHERE w.webhook_id = full_one.webhook_id AND n_waiting < p_pending_max;
        UPDATE webhooks AS w SET is_active = false, disabled_reason = 'backlog_full', updated_at = p_now
        WHERE w.webhook_id = full_one.webhook_id AND w.is_active AND w.from_sequence = full_one.from_sequence
            AND n_waiting >= p_pending_max
        RETURNING w.workspace_id INTO full_space;
    END IF;
    INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
        details, occurred_at, status, next_attempt_at, created_at)
    SELECT w.workspace_id, w.webhook_id, d.delivery_id, d.event_id, d.event_type, d.event_sequence, d.subject_id, d.details,
        d.occurred_at, 'pending', p_now, p_now
    FROM jsonb_array_elements(p_deliveries) WITH ORDINALITY AS e (value, number)
    CROSS JOIN jsonb_to_record(e.value) AS d (webhook_id text, delivery_id text, event_id text, event_type text,
        event_sequence bigint, subject_id text, details jsonb, occurred_at timestamptz)
    JOIN webhooks AS w ON w.webhook_id = d.webhook_id AND w.is_active
    ORDER BY e.number
    ON CONFLICT (delivery_id) DO NOTHING;
    IF full_space IS NOT NULL THEN
        PERFORM audit(full_space, NULL, 'webhook.disabled', 'update', 'webhook', full_one.webhook_id,
            jsonb_build_object('reason', 'backlog_full'));
    END IF;
    RETURN true;
END $$;

-- migrate:down

CREATE OR REPLACE FUNCTION note_due_webhooks() RETURNS trigger
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
BEGIN
    UPDATE webhooks AS w SET due_at = LEAST(w.due_at, d.due_at)
    FROM (SELECT workspace_id, webhook_id, min(next_attempt_at) AS due_at FROM added WHERE status = 'pending'
        GROUP BY workspace_id, webhook_id) AS d
    WHERE w.workspace_id = d.workspace_id AND w.webhook_id = d.webhook_id AND (w.due_at IS NULL OR w.due_at > d.due_at);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION queue_webhooks(
    p_partition integer, p_from bigint, p_to bigint, p_deliveries jsonb, p_pending_max integer, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    full_one record;
BEGIN
    INSERT INTO webhook_positions AS p (log_partition, queued_to) VALUES (p_partition, p_to)
    ON CONFLICT (log_partition) DO UPDATE SET queued_to = p_to WHERE p.queued_to = p_from;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- One at a time, the next one with the next stretch: two workspaces' chains are never locked together. What waited
    -- when it was switched on does not count, or else the next event would switch it off again.
    UPDATE webhooks AS w SET is_active = false, disabled_reason = 'backlog_full', updated_at = p_now
    WHERE w.webhook_id = (SELECT f.webhook_id FROM webhooks AS f
        WHERE f.is_active AND f.webhook_id IN
                (SELECT d.webhook_id FROM jsonb_to_recordset(p_deliveries) AS d (webhook_id text))
            AND (SELECT count(*) FROM (SELECT FROM webhook_deliveries AS q
                WHERE q.webhook_id = f.webhook_id AND q.status = 'pending' AND q.event_sequence > f.from_sequence
                LIMIT p_pending_max) AS waiting) >= p_pending_max
        ORDER BY f.seq LIMIT 1)
    RETURNING w.workspace_id, w.webhook_id INTO full_one;
    INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence, subject_id,
        details, occurred_at, status, next_attempt_at, created_at)
    SELECT w.workspace_id, w.webhook_id, d.delivery_id, d.event_id, d.event_type, d.event_sequence, d.subject_id, d.details,
        d.occurred_at, 'pending', p_now, p_now
    FROM jsonb_array_elements(p_deliveries) WITH ORDINALITY AS e (value, number)
    CROSS JOIN jsonb_to_record(e.value) AS d (webhook_id text, delivery_id text, event_id text, event_type text,
        event_sequence bigint, subject_id text, details jsonb, occurred_at timestamptz)
    JOIN webhooks AS w ON w.webhook_id = d.webhook_id AND w.is_active
    ORDER BY e.number
    ON CONFLICT (delivery_id) DO NOTHING;
    IF full_one.webhook_id IS NOT NULL THEN
        PERFORM audit(full_one.workspace_id, NULL, 'webhook.disabled', 'update', 'webhook', full_one.webhook_id,
            jsonb_build_object('reason', 'backlog_full'));
    END IF;
    RETURN true;
END $$;

ALTER TABLE webhooks DROP COLUMN waiting_most;
DROP INDEX webhook_deliveries_waiting;
