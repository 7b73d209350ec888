-- Ingest's read model: what came in, for the operator who asks whether a source still delivers.
-- Only counts; the issues themselves are the gateway's to show.

CREATE TABLE sources_daily (
    workspace_id text NOT NULL,
    day date NOT NULL,                        -- UTC day on which the issues were recorded
    source text NOT NULL,                     -- connector type, or custom_api
    n_issues bigint NOT NULL,                 -- issues reported for the first time
    last_occurred_at timestamptz NOT NULL,    -- latest time at which one of them happened at its source
    last_recorded_at timestamptz NOT NULL,    -- when the last of them came in
    PRIMARY KEY (workspace_id, day, source)
);
COMMENT ON TABLE sources_daily IS 'New issues per source and day.';

CREATE TABLE changes_daily (
    workspace_id text NOT NULL,
    day date NOT NULL,                        -- UTC day on which the changes were recorded
    outcome text NOT NULL,                    -- updated, closed, commented or analyzed
    n_changes bigint NOT NULL,
    last_recorded_at timestamptz NOT NULL,    -- when the last of them came in
    PRIMARY KEY (workspace_id, day, outcome)
);
COMMENT ON TABLE changes_daily IS 'Changes to known issues per outcome and day.';

CREATE TABLE connectors (
    workspace_id text NOT NULL,
    connector_id text NOT NULL,
    type text NOT NULL,                       -- of source, such as pagerduty
    settings text NOT NULL,                   -- JSON of ConnectorSettings, without secrets
    status text NOT NULL,
    reason text NOT NULL,                     -- why it stands at error or oauth_expired; empty otherwise
    secrets text[] NOT NULL,                  -- names of those that it has
    scheduled_since timestamptz NOT NULL,     -- since when its schedule counts
    last_run_at timestamptz,                  -- when a run was last asked for, by its schedule or by hand
    last_run_id text,                         -- that run
    succeeded_run_id text,                    -- the last run that succeeded
    failed_run_ids text[] NOT NULL,           -- runs that have failed in a row since, the latest as far as it matters
    partition integer NOT NULL,               -- of the log
    changed_seq bigint NOT NULL,              -- stream sequence of the last event that changed the row
    PRIMARY KEY (workspace_id, connector_id)
);
COMMENT ON TABLE connectors IS 'Connectors, for what runs them and what takes webhooks.';
CREATE INDEX connectors_changed ON connectors (partition, changed_seq);
CREATE INDEX connectors_by_id ON connectors (connector_id);

CREATE TABLE open_runs (
    workspace_id text NOT NULL,
    run_id text NOT NULL,
    connector_id text NOT NULL,
    kind text NOT NULL,
    requested_at timestamptz NOT NULL,
    partition integer NOT NULL,               -- of the log
    PRIMARY KEY (workspace_id, run_id)
);
COMMENT ON TABLE open_runs IS 'Runs that wait or run.';
CREATE INDEX open_runs_of_connector ON open_runs (workspace_id, connector_id);
CREATE INDEX open_runs_by_age ON open_runs (partition, requested_at);

CREATE TABLE tickets (
    workspace_id text NOT NULL,
    ticket_id text NOT NULL,
    connector_id text NOT NULL,
    external_id text NOT NULL,                -- what the tracker calls it
    target text NOT NULL,                     -- JSON: what the tracker needs to be asked about it, by key
    created_at timestamptz NOT NULL,
    state text NOT NULL,
    partition integer NOT NULL,               -- of the log
    PRIMARY KEY (workspace_id, ticket_id)
);
COMMENT ON TABLE tickets IS 'Tickets that were made in trackers, for what follows them.';
CREATE INDEX tickets_open ON tickets (partition, workspace_id, connector_id, ticket_id) WHERE state = 'open';
