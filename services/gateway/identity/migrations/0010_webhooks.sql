-- migrate:up

CREATE TABLE webhooks (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    webhook_id text NOT NULL UNIQUE CHECK (webhook_id ~ '^whk_[0-9A-HJKMNP-TV-Z]{26}$'),
    url text NOT NULL CHECK (char_length(url) <= 2000),
    description text NOT NULL CHECK (char_length(description) <= 2000),
    event_types text[] NOT NULL,
    connector_id text,                        -- only events of this connector; null: whichever
    is_active boolean NOT NULL,
    disabled_reason text,                     -- why we have stopped by ourselves; null: we have not
    secret_sealed text NOT NULL,
    previous_secret_sealed text,
    previous_until timestamptz,               -- until then both sign
    log_partition integer NOT NULL,
    from_sequence bigint NOT NULL,            -- of the partition: events behind it are sent
    next_turn_at timestamptz NOT NULL,        -- nobody sends before that: it rests after a failure
    leased_until timestamptz,                 -- until then one gateway is at it; null: none is
    n_failures integer NOT NULL DEFAULT 0,    -- since it last took something
    failing_since timestamptz,
    last_delivered_at timestamptz,
    created_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, webhook_id)
);
COMMENT ON TABLE webhooks IS 'Addresses that are told of events.';
CREATE INDEX webhooks_listening_from ON webhooks (log_partition, from_sequence) WHERE is_active;

CREATE TABLE webhook_deliveries (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    webhook_id text NOT NULL,
    delivery_id text NOT NULL UNIQUE CHECK (delivery_id ~ '^whd_[0-9A-HJKMNP-TV-Z]{26}$'),
    event_id text NOT NULL,                   -- the same for every webhook and every attempt
    event_type text NOT NULL,
    event_sequence bigint NOT NULL,           -- of the log; 0: a test
    subject_id text NOT NULL,                 -- whose state is sent, as it is at the time of sending
    details jsonb NOT NULL,                   -- ids and words that the state does not tell
    occurred_at timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed', 'skipped')),
    n_attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,              -- null: there is none
    last_attempt_at timestamptz,
    response_status integer,                  -- of the last attempt
    response_excerpt text CHECK (char_length(response_excerpt) <= 1024),
    error text,
    duration_ms integer,
    created_at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, delivery_id),
    FOREIGN KEY (workspace_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);
COMMENT ON TABLE webhook_deliveries IS 'What webhooks are sent, and were lately: the queue and its log. Contents are not kept here.';
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (workspace_id, webhook_id, created_at, seq);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (created_at);

CREATE TABLE webhook_positions (
    log_partition integer NOT NULL PRIMARY KEY,
    queued_to bigint NOT NULL
);
COMMENT ON TABLE webhook_positions IS 'Up to which event of the log deliveries are queued; never moved back, so a replay sends nothing.';

CREATE FUNCTION webhooks_begin(p_partition integer) RETURNS TABLE (queued_to bigint, first_sequence bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT (SELECT p.queued_to FROM webhook_positions AS p WHERE p.log_partition = p_partition),
        (SELECT min(w.from_sequence) FROM webhooks AS w WHERE w.log_partition = p_partition AND w.is_active)
$$;
COMMENT ON FUNCTION webhooks_begin IS 'How far deliveries are queued, and from where on anybody listens; null: never, nobody.';

CREATE FUNCTION webhooks_listening(p_workspaces text[]) RETURNS TABLE (
    workspace_id text, webhook_id text, event_types text[], connector_id text, from_sequence bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT w.workspace_id, w.webhook_id, w.event_types, w.connector_id, w.from_sequence
    FROM webhooks AS w JOIN workspaces AS s ON s.workspace_id = w.workspace_id
    WHERE w.workspace_id = ANY (p_workspaces) AND w.is_active AND s.status = 'active'
    ORDER BY w.seq
$$;
COMMENT ON FUNCTION webhooks_listening IS 'Who is told of events of these workspaces.';

CREATE FUNCTION queue_webhooks(
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
COMMENT ON FUNCTION queue_webhooks IS
    'Queue what a stretch of the log tells, and move the position with it; false: somebody else has done it.';

CREATE FUNCTION take_webhook_turn(p_now timestamptz, p_until timestamptz, p_without text[])
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
COMMENT ON FUNCTION take_webhook_turn IS
    'The webhook that waits for the longest with something to send; nobody else gets it before p_until.';

CREATE FUNCTION purge_webhook_deliveries(p_now timestamptz, p_succeeded interval, p_others interval, p_most integer)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    WITH gone AS (
        DELETE FROM webhook_deliveries WHERE delivery_id = ANY (ARRAY(
            SELECT d.delivery_id FROM webhook_deliveries AS d JOIN retention_windows AS r ON r.workspace_id = d.workspace_id
            -- None goes sooner: what is younger than that is not read.
            WHERE d.created_at < p_now - (SELECT LEAST(make_interval(days => min(s.activity_days)), p_succeeded, p_others)
                    FROM retention_windows AS s)
                AND d.created_at < p_now - LEAST(make_interval(days => r.activity_days),
                    CASE d.status WHEN 'succeeded' THEN p_succeeded ELSE p_others END)
            ORDER BY d.created_at LIMIT p_most FOR UPDATE OF d SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION purge_webhook_deliveries IS 'Delete deliveries that are old, sent or not; the oldest, so many at once.';

SELECT isolate(name::regclass, 'workspace_id = (SELECT current_workspace())')
FROM unnest(ARRAY['webhooks', 'webhook_deliveries']) AS name;
-- The application reaches it by functions only.
ALTER TABLE webhook_positions ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_positions FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON webhook_positions TO causeloop_owner USING (true) WITH CHECK (true);
REVOKE EXECUTE ON FUNCTION webhooks_begin, webhooks_listening, queue_webhooks, take_webhook_turn, purge_webhook_deliveries
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION webhooks_begin, webhooks_listening, queue_webhooks, take_webhook_turn, purge_webhook_deliveries
    TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, webhook_deliveries TO causeloop_app;

-- migrate:down

DROP FUNCTION purge_webhook_deliveries, take_webhook_turn, queue_webhooks, webhooks_listening, webhooks_begin;
DROP TABLE webhook_positions, webhook_deliveries, webhooks;
