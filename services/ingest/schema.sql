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
    outcome text NOT NULL,                    -- updated or closed
    n_changes bigint NOT NULL,
    last_recorded_at timestamptz NOT NULL,    -- when the last of them came in
    PRIMARY KEY (workspace_id, day, outcome)
);
COMMENT ON TABLE changes_daily IS 'Changes to known issues per outcome and day.';

ALTER TABLE sources_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE sources_daily FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON sources_daily TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY projector ON sources_daily TO causeloop_projector USING (true) WITH CHECK (true);

ALTER TABLE changes_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE changes_daily FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON changes_daily TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY projector ON changes_daily TO causeloop_projector USING (true) WITH CHECK (true);
