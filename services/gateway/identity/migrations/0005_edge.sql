-- migrate:up

CREATE TABLE event_usage (
    organization_id text NOT NULL REFERENCES organizations ON DELETE CASCADE,
    month date NOT NULL CHECK (extract(day FROM month) = 1),      -- its first day, in UTC
    events bigint NOT NULL CHECK (events >= 0),
    PRIMARY KEY (organization_id, month)
);
COMMENT ON TABLE event_usage IS 'Issue records that an organization has sent in a month, counted before they are taken.';
SELECT isolate('event_usage', 'organization_id = (SELECT w.organization_id FROM workspaces AS w
    WHERE w.workspace_id = (SELECT current_workspace()))');

-- Reading is for the workspaces of the organization, counting only through this function: one round trip, one answer.
CREATE FUNCTION take_events(p_workspace_id text, p_month date, p_n bigint)
RETURNS TABLE (plan text, events_per_month bigint, events_before bigint, is_taken boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
#variable_conflict use_column
DECLARE
    client text;
    events_now bigint;
BEGIN
    SELECT o.organization_id, p.plan, p.events_per_month INTO client, plan, events_per_month
    FROM workspaces AS w JOIN organizations AS o USING (organization_id) JOIN plans AS p USING (plan)
    WHERE w.workspace_id = p_workspace_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF events_per_month IS NULL THEN
        -- Nothing is decided by this count, so a crash of the server may lose the last of it: no wait for the disk.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    IF events_per_month IS NULL OR p_n <= events_per_month THEN
        INSERT INTO event_usage AS u (organization_id, month, events) VALUES (client, p_month, p_n)
        ON CONFLICT (organization_id, month) DO UPDATE SET events = u.events + p_n
        WHERE take_events.events_per_month IS NULL OR u.events + p_n <= take_events.events_per_month
        RETURNING u.events INTO events_now;
    END IF;
    is_taken := events_now IS NOT NULL;
    events_before := events_now - p_n;
    IF NOT is_taken THEN
        SELECT COALESCE(max(u.events), 0) INTO events_before FROM event_usage AS u
        WHERE u.organization_id = client AND u.month = p_month;
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION take_events IS
    'Count events of a month for the organization of a workspace, all or none, never beyond its plan.';

-- No reference to workspaces: a provisioning key has none and uses the name `platform`.
CREATE TABLE idempotency_keys (
    workspace_id text NOT NULL,
    key_hash bytea NOT NULL,                  -- SHA-256 of principal, method, path and key; none of them is here
    request_hash bytea NOT NULL,              -- SHA-256 of query and body
    claim_id bytea NOT NULL,                  -- who runs the request, by chance
    leased_until timestamptz NOT NULL,        -- a claim without an answer is free again then
    expires_at timestamptz NOT NULL,
    status integer,                           -- null: it still runs, or its process died
    answer bytea,                             -- headers and body, sealed; null: too long to keep
    PRIMARY KEY (workspace_id, key_hash)
);
COMMENT ON TABLE idempotency_keys IS 'Requests that must run once, and for a day what they were answered with.';
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires_at);
SELECT isolate('idempotency_keys', 'workspace_id = (SELECT current_workspace())');

-- A plan's row counts from the next request on, like everything else that decides what a client may do.
CREATE FUNCTION tell_plan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    PERFORM pg_notify('identity_changed', o.organization_id) FROM organizations AS o WHERE o.plan = NEW.plan;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON plans FOR EACH ROW EXECUTE FUNCTION tell_plan();

CREATE FUNCTION purge_idempotency_keys(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    WITH gone AS (
        DELETE FROM idempotency_keys WHERE (workspace_id, key_hash) IN (
            SELECT k.workspace_id, k.key_hash FROM idempotency_keys AS k
            WHERE k.expires_at <= before ORDER BY k.expires_at LIMIT at_most FOR UPDATE SKIP LOCKED)
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION purge_idempotency_keys IS 'Delete keys of every workspace that are over; how many.';

CREATE FUNCTION forget_idempotency_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    DELETE FROM idempotency_keys WHERE workspace_id = OLD.workspace_id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_keys AFTER DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION forget_idempotency_keys();

REVOKE EXECUTE ON FUNCTION take_events, purge_idempotency_keys, forget_idempotency_keys, tell_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_events, purge_idempotency_keys TO causeloop_app;
GRANT SELECT ON event_usage TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO causeloop_app;

-- migrate:down

DROP TRIGGER forget_keys ON workspaces;
DROP FUNCTION forget_idempotency_keys;
DROP FUNCTION purge_idempotency_keys;
DROP TRIGGER tell ON plans;
DROP FUNCTION tell_plan;
DROP FUNCTION take_events;
DROP TABLE idempotency_keys, event_usage;
