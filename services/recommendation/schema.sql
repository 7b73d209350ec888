-- What recommending needs to know. Rebuilt from the log, never migrated.

CREATE TABLE patterns (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    status text NOT NULL,                     -- candidate until it is detected
    name text NOT NULL,
    exemplar text NOT NULL,                   -- masked text of its first issue
    fingerprint text NOT NULL,                -- a JSON list of dimensions
    issue_count bigint NOT NULL,
    confidence double precision NOT NULL,     -- 0 … 1
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    n_p1 bigint NOT NULL,                     -- links by the severity of the issue
    n_p2 bigint NOT NULL,
    n_p3 bigint NOT NULL,
    n_p4 bigint NOT NULL,
    exposure text,                            -- a JSON object: the numbers of the latest forecast
    seq bigint NOT NULL,                      -- of the last event that changed the row
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE patterns IS 'What is known of each pattern, as far as recommending looks at it.';

CREATE TABLE recommendations (
    workspace_id text NOT NULL,
    recommendation_id text NOT NULL,
    pattern_id text NOT NULL,
    play_id text NOT NULL,                    -- entry of the playbook
    type text NOT NULL,
    effort text NOT NULL,
    impact text NOT NULL,
    status text NOT NULL,
    score double precision NOT NULL,          -- what it is ranked by
    n_steps integer NOT NULL,
    done_steps text NOT NULL,                 -- a JSON list of the ticked positions
    implemented_at timestamptz,               -- NULL unless it is implemented
    seq bigint NOT NULL,                      -- of its last event
    PRIMARY KEY (workspace_id, recommendation_id)
);
COMMENT ON TABLE recommendations IS 'Each recommendation as it is now.';
CREATE INDEX recommendations_by_pattern ON recommendations (workspace_id, pattern_id);
CREATE INDEX recommendations_implemented ON recommendations (workspace_id) WHERE status = 'implemented';

CREATE TABLE workspaces (
    workspace_id text NOT NULL,
    confidence_threshold double precision NOT NULL,   -- least confidence to recommend by itself
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE workspaces IS 'Workspaces that have settings of their own.';
