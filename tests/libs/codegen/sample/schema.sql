-- One row per issue.
CREATE TABLE issue (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    title text NOT NULL,
    severity text NOT NULL,
    service text,
    risk double precision,
    n_seen bigint NOT NULL,
    metadata jsonb NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (workspace_id, issue_id)
);
COMMENT ON TABLE issue IS 'One row per issue.';
COMMENT ON COLUMN issue.title IS 'One line.';
CREATE INDEX issue_recent ON issue (workspace_id, occurred_at DESC, issue_id DESC);
CREATE INDEX issue_title ON issue USING gin (to_tsvector('simple', title));
ALTER TABLE issue ENABLE ROW LEVEL SECURITY;
ALTER TABLE issue FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON issue TO causeloop_app USING (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY projector ON issue TO causeloop_projector USING (true) WITH CHECK (true);
