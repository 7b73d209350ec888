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
