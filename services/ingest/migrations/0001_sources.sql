-- migrate:up

-- What ingest keeps of sources and cannot be rebuilt from the log: secrets, how far a source has been read, records as they
-- came. causeloop_owner owns it; causeloop_app, which ingest connects as, sees one workspace (app.current_workspace).

CREATE TABLE data_keys (
    workspace_id text NOT NULL PRIMARY KEY CHECK (workspace_id ~ '^ws_[0-9A-HJKMNP-TV-Z]{26}$'),
    master_key_id text NOT NULL,              -- which master key wraps it
    wrapped text NOT NULL,
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE data_keys IS 'What seals the secrets of a workspace''s sources; without it they are unreadable.';

CREATE TABLE secrets (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),   -- such as api_key or webhook_secret
    sealed text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connector_id, name)
);
COMMENT ON TABLE secrets IS 'Credentials, OAuth tokens and webhook secrets of connectors, sealed.';

CREATE TABLE authorizations (
    workspace_id text NOT NULL,
    state_sha256 text NOT NULL,               -- of the state that the browser brings back; hex
    connector_id text NOT NULL,
    verifier_sealed text NOT NULL,            -- of PKCE (RFC 7636)
    redirect_uri text NOT NULL,
    requested_by text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, state_sha256)
);
COMMENT ON TABLE authorizations IS 'Sign-ins with a vendor that have begun; each ends once.';

CREATE TABLE stream_positions (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    run_id text NOT NULL,                     -- of the run that resumes here; '' holds the high-water mark of all runs
    stream text NOT NULL,
    high_water timestamptz,                   -- the newest time of a record that was taken in
    resume text,                              -- JSON: where the run goes on
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connector_id, run_id, stream)
);
COMMENT ON TABLE stream_positions IS 'How far the streams of a connector have been read.';

CREATE TABLE raw_records (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    external_id text NOT NULL CHECK (char_length(external_id) BETWEEN 1 AND 1000),
    stream text NOT NULL,                     -- or webhook
    sha256 text NOT NULL,                     -- of the record; hex
    record text NOT NULL,                     -- JSON as it came; PostgreSQL compresses what is longer than 2 kB
    received_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connector_id, external_id)
);
COMMENT ON TABLE raw_records IS 'The latest of each record that a source has sent, to be mapped again.';
CREATE INDEX raw_records_by_age ON raw_records (workspace_id, received_at);

CREATE TABLE dead_letters (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    letter_id text NOT NULL CHECK (letter_id ~ '^ddl_[0-9A-HJKMNP-TV-Z]{26}$'),
    stream text NOT NULL,                     -- or webhook
    sha256 text NOT NULL,                     -- of stream and record; hex
    record text NOT NULL,                     -- JSON as it came, or the beginning of it
    is_whole boolean NOT NULL,                -- false: it was too long to be kept, so it cannot be tried again
    path text NOT NULL,                       -- field that is wrong; empty: all of it
    reason text NOT NULL,
    n_attempts integer NOT NULL,
    received_at timestamptz NOT NULL,         -- when it came first
    tried_at timestamptz NOT NULL,            -- when it was tried last
    PRIMARY KEY (workspace_id, connector_id, letter_id),
    UNIQUE (workspace_id, connector_id, sha256)
);
COMMENT ON TABLE dead_letters IS 'Records that could not become an issue.';

CREATE TABLE deliveries (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    delivery_id text NOT NULL CHECK (char_length(delivery_id) BETWEEN 1 AND 200),
    received_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connector_id, delivery_id)
);
COMMENT ON TABLE deliveries IS 'Webhooks that have been taken, so that none is taken twice.';
CREATE INDEX deliveries_by_age ON deliveries (received_at);

CREATE TABLE pushes (
    workspace_id text NOT NULL,
    ticket_id text NOT NULL CHECK (ticket_id ~ '^tkt_[0-9A-HJKMNP-TV-Z]{26}$'),
    recommendation_id text NOT NULL,
    connector_id text NOT NULL,
    target text NOT NULL,                     -- JSON: what the tracker needs, by key
    requested_by text,
    begun_at timestamptz NOT NULL,            -- of the first try
    n_attempts integer NOT NULL,              -- tries that may have reached the tracker
    leased_until timestamptz NOT NULL,        -- until then one try has it for itself
    PRIMARY KEY (workspace_id, ticket_id)
);
COMMENT ON TABLE pushes IS 'Tickets that are being made: written before the tracker is asked, deleted once the log has the ticket.';
CREATE INDEX pushes_lapsed ON pushes (leased_until);

-- The owner, in the functions below and in an operator's SQL, sees all; the application what its transaction names.
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['data_keys', 'secrets', 'authorizations', 'stream_positions', 'raw_records',
        'dead_letters', 'deliveries', 'pushes'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY operator ON %I TO causeloop_owner USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY tenant ON %I TO causeloop_app'
            ' USING (workspace_id = (SELECT current_setting(''app.current_workspace'', true)))'
            ' WITH CHECK (workspace_id = (SELECT current_setting(''app.current_workspace'', true)))', relation);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO causeloop_app', relation);
    END LOOP;
END $$;

CREATE FUNCTION sweep(now timestamptz, deliveries_before timestamptz) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = sources, pg_temp AS $$
    WITH old_deliveries AS (DELETE FROM deliveries AS d WHERE d.received_at < deliveries_before RETURNING 1),
        old_authorizations AS (DELETE FROM authorizations AS a WHERE a.expires_at < sweep.now RETURNING 1)
    SELECT (SELECT count(*) FROM old_deliveries) + (SELECT count(*) FROM old_authorizations)
$$;
COMMENT ON FUNCTION sweep IS 'Delete what has reached its age, of every workspace; how many rows.';

CREATE FUNCTION with_rows(workspace_ids text[]) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = sources, pg_temp AS $$
    SELECT w.id FROM unnest(workspace_ids) AS w(id)
    WHERE EXISTS (SELECT FROM data_keys AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM secrets AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM authorizations AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM stream_positions AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM raw_records AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM dead_letters AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM deliveries AS t WHERE t.workspace_id = w.id)
        OR EXISTS (SELECT FROM pushes AS t WHERE t.workspace_id = w.id)
$$;
COMMENT ON FUNCTION with_rows IS 'Those of some workspaces of which there is anything here.';

CREATE FUNCTION lapsed_pushes(now timestamptz, row_limit integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = sources, pg_temp AS $$
    SELECT p.workspace_id || '/' || p.ticket_id FROM pushes AS p WHERE p.leased_until <= now
    ORDER BY p.leased_until, p.workspace_id, p.ticket_id LIMIT row_limit
$$;
COMMENT ON FUNCTION lapsed_pushes IS 'Of all workspaces, workspace and ticket, a slash between, whose making somebody began and nobody ended.';

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sources FROM PUBLIC;
GRANT USAGE ON SCHEMA sources TO causeloop_app;
GRANT EXECUTE ON FUNCTION sweep, with_rows, lapsed_pushes TO causeloop_app;

-- migrate:down

DROP SCHEMA sources CASCADE;
