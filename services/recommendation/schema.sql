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
    watch text,                               -- a JSON object: its latest fix
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
    environment text,                         -- where it was implemented, if somebody said so
    version text,
    seq bigint NOT NULL,                      -- of its last event
    PRIMARY KEY (workspace_id, recommendation_id)
);
COMMENT ON TABLE recommendations IS 'Each recommendation as it is now.';
CREATE INDEX recommendations_by_pattern ON recommendations (workspace_id, pattern_id);
CREATE INDEX recommendations_implemented ON recommendations (workspace_id) WHERE status = 'implemented';

CREATE TABLE failures (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    pattern_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    environment text,
    version text,
    PRIMARY KEY (workspace_id, issue_id)
);
COMMENT ON TABLE failures IS 'When, and where, each pattern failed; an issue that is erased or expires takes nothing from it.';
CREATE INDEX failures_by_pattern ON failures (workspace_id, pattern_id, occurred_at);

CREATE TABLE fixes (
    workspace_id text NOT NULL,
    fix_id text NOT NULL,
    pattern_id text NOT NULL,
    fixed_at timestamptz NOT NULL,
    environment text,
    version text,
    recommendation_ids text NOT NULL,         -- a JSON list
    note text NOT NULL,
    standing text NOT NULL,                   -- proving, verified, broken or inconclusive
    ended_as text,                            -- why it is inconclusive
    inputs text NOT NULL,                     -- a JSON object: what the proof rests on
    due_at timestamptz,                       -- when it ends; NULL once it has
    seq bigint NOT NULL,                      -- of its last event
    PRIMARY KEY (workspace_id, fix_id)
);
COMMENT ON TABLE fixes IS 'Each fix and how its proof stands.';
CREATE INDEX fixes_by_pattern ON fixes (workspace_id, pattern_id);
CREATE INDEX fixes_by_due ON fixes (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE workspaces (
    workspace_id text NOT NULL,
    confidence_threshold double precision,    -- least confidence to recommend by itself; NULL = never set, as below
    proof_window_days integer,
    proof_window_max_days integer,
    proof_confidence double precision,
    plays_seq bigint,                         -- of the last event of its own plays; NULL = it never had any
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE workspaces IS 'Workspaces that have settings or plays of their own.';

CREATE TABLE foretold (
    workspace_id text NOT NULL,
    prediction_id text NOT NULL,
    seq bigint NOT NULL,                      -- of the event that said what became of it
    probability double precision NOT NULL,
    is_hit boolean,                           -- NULL: somebody prevented it, and it is purged
    ended_at timestamptz NOT NULL,            -- the end of its window: a hit counts from then on, as a miss does
    PRIMARY KEY (workspace_id, prediction_id)
);
COMMENT ON TABLE foretold IS 'What became of forecasts, each counted once; when some are purged the last 5,000 stay.';
CREATE INDEX foretold_by_time ON foretold (workspace_id, seq);

CREATE TABLE plays (
    workspace_id text NOT NULL,
    play_id text NOT NULL,
    play text NOT NULL,                       -- a JSON object: the whole play
    PRIMARY KEY (workspace_id, play_id)
);
COMMENT ON TABLE plays IS 'The plays that workspaces have of their own.';

CREATE TABLE abstentions (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    best_play_id text,                        -- NULL when nothing spoke for any
    best_fit double precision NOT NULL,
    seq bigint NOT NULL,                      -- of its last event
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE abstentions IS 'Patterns for which no play fitted well enough when that was last said.';
