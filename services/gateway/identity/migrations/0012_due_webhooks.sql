-- migrate:up

-- A look at the queue reads the webhooks that have something to send now, not all that there are.
ALTER TABLE webhooks ADD COLUMN due_at timestamptz; -- nothing waits for it that is due before; null: nothing waits
UPDATE webhooks AS w SET due_at = q.due_at
FROM (SELECT webhook_id, min(next_attempt_at) AS due_at FROM webhook_deliveries WHERE status = 'pending' GROUP BY webhook_id) AS q
WHERE q.webhook_id = w.webhook_id;
CREATE INDEX webhooks_due ON webhooks (GREATEST(due_at, next_turn_at, leased_until)) WHERE is_active AND due_at IS NOT NULL;

CREATE FUNCTION note_due_webhooks() RETURNS trigger
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
BEGIN
    UPDATE webhooks AS w SET due_at = LEAST(w.due_at, d.due_at)
    FROM (SELECT workspace_id, webhook_id, min(next_attempt_at) AS due_at FROM added WHERE status = 'pending'
        GROUP BY workspace_id, webhook_id) AS d
    WHERE w.workspace_id = d.workspace_id AND w.webhook_id = d.webhook_id AND (w.due_at IS NULL OR w.due_at > d.due_at);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION note_due_webhooks IS 'What waits for a webhook is found by the webhook.';
REVOKE EXECUTE ON FUNCTION note_due_webhooks FROM PUBLIC;
CREATE TRIGGER note_due AFTER INSERT ON webhook_deliveries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_due_webhooks();

CREATE OR REPLACE FUNCTION take_webhook_turn(p_now timestamptz, p_until timestamptz, p_without text[])
RETURNS TABLE (workspace_id text, webhook_id text, leased_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    picked record;
    first_at timestamptz;
BEGIN
    LOOP
        SELECT w.workspace_id, w.webhook_id INTO picked
        FROM webhooks AS w JOIN workspaces AS s ON s.workspace_id = w.workspace_id
        WHERE w.is_active AND w.due_at IS NOT NULL AND GREATEST(w.due_at, w.next_turn_at, w.leased_until) <= p_now
            AND s.status = 'active' AND w.workspace_id <> ALL (p_without)
        ORDER BY GREATEST(w.due_at, w.next_turn_at, w.leased_until) LIMIT 1 FOR UPDATE OF w SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        -- FOR UPDATE, as the reference of what is queued meanwhile waits for that: it is seen below, or moves due_at back.
        SELECT min(q.next_attempt_at) INTO first_at FROM webhook_deliveries AS q
        WHERE q.webhook_id = picked.webhook_id AND q.status = 'pending';
        IF first_at <= p_now THEN
            RETURN QUERY UPDATE webhooks AS w SET due_at = first_at, leased_until = p_until
                WHERE w.workspace_id = picked.workspace_id AND w.webhook_id = picked.webhook_id
                RETURNING w.workspace_id, w.webhook_id, w.leased_until;
            RETURN;
        END IF;
        UPDATE webhooks AS w SET due_at = first_at
        WHERE w.workspace_id = picked.workspace_id AND w.webhook_id = picked.webhook_id;
    END LOOP;
END $$;

-- The audit log comes last, as everywhere: who changes or deletes a webhook locks its row first, then the chain.
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

-- migrate:down

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
    IF FOUND THEN
        PERFORM audit(full_one.workspace_id, NULL, 'webhook.disabled', 'update', 'webhook', full_one.webhook_id,
            jsonb_build_object('reason', 'backlog_full'));
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
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION take_webhook_turn(p_now timestamptz, p_until timestamptz, p_without text[])
RETURNS TABLE (workspace_id text, webhook_id text, leased_until timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    UPDATE webhooks AS w SET leased_until = p_until
    FROM (SELECT due.workspace_id, due.webhook_id FROM webhooks AS due
        JOIN workspaces AS s ON s.workspace_id = due.workspace_id
        WHERE due.is_active AND due.next_turn_at <= p_now AND COALESCE(due.leased_until <= p_now, true)
            AND s.status = 'active' AND due.workspace_id <> ALL (p_without)
            AND EXISTS (SELECT FROM webhook_deliveries AS q
                WHERE q.webhook_id = due.webhook_id AND q.status = 'pending' AND q.next_attempt_at <= p_now)
        ORDER BY due.next_turn_at LIMIT 1 FOR UPDATE OF due SKIP LOCKED) AS picked
    WHERE w.workspace_id = picked.workspace_id AND w.webhook_id = picked.webhook_id
    RETURNING w.workspace_id, w.webhook_id, w.leased_until
$$;

DROP TRIGGER note_due ON webhook_deliveries;
DROP FUNCTION note_due_webhooks;
ALTER TABLE webhooks DROP COLUMN due_at;
