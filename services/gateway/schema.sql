-- The gateway's read model: what every GET answers from. Rebuilt from the log, never migrated.
-- It holds only what events say; `seq` is the place in the log of the event that made the row.

CREATE TABLE issues (
    workspace_id text COLLATE "C" NOT NULL,
    issue_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of IssueReported; breaks ties of every sort
    source text NOT NULL,
    external_id text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    severity text NOT NULL,                   -- p1 … p4
    status text NOT NULL,                     -- as ingest knows it; issue_rows shows what follows from the pattern
    is_status_chosen boolean NOT NULL,        -- somebody set it, so it follows no pattern
    service text,
    component text,
    error_type text,
    environment text,
    version text,
    team text,
    assignee text,
    external_url text,
    connector_id text,
    metadata text NOT NULL,                   -- a JSON object, kept as it came
    is_analyzing boolean NOT NULL,            -- an analysis of it runs
    analysis text,                            -- the last analysis, a JSON object
    reason text,                              -- why it was closed
    source_created_at timestamptz NOT NULL,   -- when it happened at its source
    source_updated_at timestamptz,
    created_at timestamptz NOT NULL,          -- when it was recorded
    updated_at timestamptz NOT NULL,          -- when its last event was recorded
    expired_at timestamptz,                   -- since when it is shown to nobody and waits to be purged
    -- 0 … 100: the severity's weight, a fifth of it once the issue is over.
    risk_score integer NOT NULL GENERATED ALWAYS AS (
        (CASE severity WHEN 'p1' THEN 95 WHEN 'p2' THEN 80 WHEN 'p3' THEN 55 ELSE 20 END)
        / (CASE WHEN status IN ('resolved', 'closed', 'wont_fix') THEN 5 ELSE 1 END)) STORED,
    PRIMARY KEY (workspace_id, issue_id)
);
COMMENT ON TABLE issues IS 'One failure each.';
CREATE INDEX issues_by_created ON issues (workspace_id, created_at, seq);
CREATE INDEX issues_by_updated ON issues (workspace_id, updated_at, seq);
CREATE INDEX issues_by_source_created ON issues (workspace_id, source_created_at, seq);
CREATE INDEX issues_by_risk ON issues (workspace_id, risk_score, seq);
CREATE INDEX issues_by_expiry ON issues (workspace_id, expired_at, seq) WHERE expired_at IS NOT NULL;
-- Whatever is read for whomever: an expired issue is not there, nor what was said about it. Only retention looks at them.
CREATE POLICY served ON issues AS RESTRICTIVE FOR SELECT TO causeloop_app
    USING (expired_at IS NULL OR current_setting('app.sees_expired', true) = 'on');

CREATE TABLE comments (
    workspace_id text COLLATE "C" NOT NULL,
    comment_id text COLLATE "C" NOT NULL,
    issue_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    author_id text NOT NULL,                  -- a person or a service account
    text text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, comment_id)
);
COMMENT ON TABLE comments IS 'What people say about issues.';
CREATE INDEX comments_by_issue ON comments (workspace_id, issue_id, created_at, seq);
CREATE POLICY served ON comments AS RESTRICTIVE FOR SELECT TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)) AND EXISTS (
        SELECT FROM issues AS i WHERE i.workspace_id = comments.workspace_id AND i.issue_id = comments.issue_id));

CREATE TABLE analyses (
    workspace_id text COLLATE "C" NOT NULL,
    analysis_id text COLLATE "C" NOT NULL,
    issue_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of AnalysisStarted
    tier text NOT NULL,                       -- fast, balanced or deep
    actor text,                               -- who asked
    requested_at timestamptz NOT NULL,
    recorded_at timestamptz,                  -- when its answer was written down; null: it runs
    prompt_expired_at timestamptz,            -- since when what a model was asked is shown to nobody and waits to be deleted
    PRIMARY KEY (workspace_id, analysis_id)
);
COMMENT ON TABLE analyses IS 'Who asked when why an issue happened; what runs is the work of the gateway that leads.';
CREATE INDEX analyses_running ON analyses (workspace_id, requested_at, seq) WHERE recorded_at IS NULL;

CREATE TABLE pattern_members (
    workspace_id text COLLATE "C" NOT NULL,
    issue_id text COLLATE "C" NOT NULL,                   -- an issue is in one pattern at most
    pattern_id text COLLATE "C" NOT NULL,
    is_shown boolean NOT NULL,                -- its pattern is detected
    seq bigint NOT NULL,                      -- of the event that linked it
    score double precision NOT NULL,          -- certainty of the membership, 0 … 1
    method text NOT NULL,
    method_version text NOT NULL,
    matched_dimensions text NOT NULL,         -- a JSON list of names
    occurred_at timestamptz NOT NULL,         -- when the failure happened
    linked_at timestamptz NOT NULL,           -- when the link was recorded
    linked_by text,                           -- who decided it; NULL: the engine
    merged_from text,                         -- the pattern that it was in before the last merge
    merged_by text,
    merged_at timestamptz,
    PRIMARY KEY (workspace_id, issue_id)
);
COMMENT ON TABLE pattern_members IS 'Which pattern an issue is in, and why.';
-- A pattern id belongs to one workspace, so the index can do without that and stay small.
CREATE INDEX pattern_members_by_pattern ON pattern_members (pattern_id, occurred_at, seq);

CREATE TABLE patterns (
    workspace_id text COLLATE "C" NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of its first event
    name text NOT NULL,                       -- empty while a candidate
    status text NOT NULL,
    is_shown boolean NOT NULL,                -- detected; candidates are kept and never listed
    fingerprint text NOT NULL,                -- a JSON list of {name, value, share}
    risk_score double precision NOT NULL,
    confidence double precision NOT NULL,
    issue_count bigint NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    created_at timestamptz,                   -- when it was detected
    updated_at timestamptz NOT NULL,
    status_reason text,
    closure_note text,
    closed_at timestamptz,                    -- when the closure note was recorded
    merged_into text,
    mttr_seconds double precision,            -- mean time to repair, as last said
    has_recurred boolean NOT NULL,            -- it came back by itself after a fix had been tried
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE patterns IS 'The root cause that a set of issues shares.';
CREATE INDEX patterns_by_risk ON patterns (workspace_id, risk_score, seq) WHERE is_shown;
CREATE INDEX patterns_by_created ON patterns (workspace_id, created_at, seq) WHERE is_shown;
CREATE INDEX patterns_by_last_seen ON patterns (workspace_id, last_seen_at, seq) WHERE is_shown;

-- What people are asked and what they decided about memberships.

CREATE TABLE suggestions (
    workspace_id text COLLATE "C" NOT NULL,
    suggestion_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- four times that of its event, less its rank in it
    issue_id text COLLATE "C" NOT NULL,
    begun_pattern_id text COLLATE "C" NOT NULL,           -- the pattern that the issue began
    pattern_id text COLLATE "C" NOT NULL,                 -- the one suggested
    score double precision NOT NULL,          -- probability that the issue belongs to it
    method text NOT NULL,
    method_version text NOT NULL,
    matched_dimensions text NOT NULL,         -- a JSON list of names
    suggested_at timestamptz NOT NULL,
    answer text,                              -- accepted or rejected
    answered_by text,
    answered_at timestamptz,
    PRIMARY KEY (workspace_id, suggestion_id)
);
COMMENT ON TABLE suggestions IS 'A pattern that an issue may belong to; a person decides.';
CREATE INDEX suggestions_by_time ON suggestions (workspace_id, suggested_at, seq);
CREATE INDEX suggestions_by_score ON suggestions (workspace_id, score, seq);
CREATE INDEX suggestions_by_issue ON suggestions (workspace_id, issue_id);
CREATE INDEX suggestions_by_pattern ON suggestions (workspace_id, pattern_id);

CREATE TABLE constraints (
    workspace_id text COLLATE "C" NOT NULL,
    grouping_key text COLLATE "C" NOT NULL,               -- issues with this key obey
    pattern_id text COLLATE "C" NOT NULL,                 -- the one that remains, after merges
    seq bigint NOT NULL,                      -- of the decision
    kind text NOT NULL,                       -- must_link or cannot_link
    issue_id text COLLATE "C" NOT NULL,                   -- what it was about
    decided_by text,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, grouping_key, pattern_id)
);
COMMENT ON TABLE constraints IS 'A person''s decision in force that every later grouping obeys.';
CREATE INDEX constraints_by_time ON constraints (workspace_id, decided_at, seq);
CREATE INDEX constraints_by_pattern ON constraints (workspace_id, pattern_id);

CREATE TABLE contradictions (
    workspace_id text COLLATE "C" NOT NULL,
    contradiction_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    grouping_key text COLLATE "C" NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,                 -- of the later decision
    found_at timestamptz NOT NULL,
    earlier text NOT NULL,                    -- a JSON object: kind, pattern_id, issue_id, decided_by, decided_at
    later text NOT NULL,                      -- the same
    earlier_kind text NOT NULL,
    standing_pattern_id text COLLATE "C" NOT NULL,        -- the earlier one's pattern that remains, after merges
    later_kind text,                                      -- of a merge: none, it stands whatever is decided later
    later_standing_pattern_id text COLLATE "C" NOT NULL,  -- the later one's pattern that remains, after merges
    kept text,                                -- earlier or later
    answered_by text,
    answered_at timestamptz,
    PRIMARY KEY (workspace_id, contradiction_id)
);
COMMENT ON TABLE contradictions IS 'Two decisions of which only one can be obeyed; a person chooses.';
CREATE INDEX contradictions_by_time ON contradictions (workspace_id, found_at, seq);
CREATE INDEX contradictions_by_key ON contradictions (workspace_id, grouping_key);

CREATE TABLE predictions (
    workspace_id text COLLATE "C" NOT NULL,
    prediction_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    window_days integer NOT NULL,
    probability double precision NOT NULL,
    lower double precision NOT NULL,
    upper double precision NOT NULL,
    expected_next_at timestamptz,
    impact text NOT NULL,
    likely_trigger text NOT NULL,
    evidence text NOT NULL,                   -- a JSON list
    model text NOT NULL,
    model_version text NOT NULL,
    inputs text NOT NULL,                     -- a JSON object
    base_rate double precision NOT NULL GENERATED ALWAYS AS (
        (inputs::jsonb ->> 'base_rate')::double precision) STORED, -- parsed once, for scores are asked for often
    low_confidence boolean NOT NULL,
    generated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    is_current boolean NOT NULL,              -- the newest of its pattern and window, and the pattern goes on
    is_dismissed boolean NOT NULL,
    dismissed_reason text,
    outcome text,                             -- hit or miss, as the log says
    brier double precision,
    resolved_at timestamptz,
    hit_issue_id text,
    feedback text,                            -- hit, miss or prevented, as a person says
    feedback_note text,
    alerted_at timestamptz,                   -- when its alert fired
    is_held_out boolean NOT NULL,             -- scored, in nobody's list, and never alerted
    updated_at timestamptz NOT NULL,
    expired_at timestamptz,                   -- since when it is shown to nobody and waits to be purged
    status text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN is_dismissed THEN 'dismissed'
             WHEN outcome IS NOT NULL THEN 'resolved'
             WHEN is_current THEN 'active'
             ELSE 'superseded' END) STORED,
    PRIMARY KEY (workspace_id, prediction_id)
);
COMMENT ON TABLE predictions IS 'A frozen forecast for one pattern and one window.';
CREATE INDEX predictions_by_pattern ON predictions (workspace_id, pattern_id, window_days) WHERE is_current;
CREATE INDEX predictions_by_probability ON predictions (workspace_id, status, probability, seq);
CREATE INDEX predictions_by_generated ON predictions (workspace_id, generated_at, seq);
CREATE INDEX predictions_by_order ON predictions (workspace_id, pattern_id, window_days, seq);
CREATE INDEX predictions_by_expiry ON predictions (workspace_id, expired_at, seq) WHERE expired_at IS NOT NULL;
-- As with issues; scores see expired ones as well, for they count them.
CREATE POLICY served ON predictions AS RESTRICTIVE FOR SELECT TO causeloop_app
    USING (expired_at IS NULL OR current_setting('app.sees_expired', true) = 'on');

CREATE TABLE purged_predictions (
    workspace_id text COLLATE "C" NOT NULL,
    window_days integer NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    thousandth integer NOT NULL,              -- of the probability, rounded down
    n bigint NOT NULL,
    n_hits bigint NOT NULL,
    probability_micro bigint NOT NULL,        -- sums, in whole numbers so that they add up in any order
    brier_nano bigint NOT NULL,
    base_nano bigint NOT NULL,
    lead_ms bigint NOT NULL,                  -- from each prediction to its hit
    PRIMARY KEY (workspace_id, window_days, model, model_version, thousandth)
);
COMMENT ON TABLE purged_predictions IS 'What scores are made of, of resolved and not prevented predictions that were purged.';

CREATE TABLE recommendations (
    workspace_id text COLLATE "C" NOT NULL,
    recommendation_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    play_id text NOT NULL,
    playbook_version text NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    type text NOT NULL,
    effort text NOT NULL,
    impact text NOT NULL,
    status text NOT NULL,
    status_reason text NOT NULL,
    steps text NOT NULL,                      -- a JSON list of {title, description}
    steps_done integer[] NOT NULL,            -- positions of the ticked steps, ascending
    verification text NOT NULL,
    evidence text NOT NULL,                   -- a JSON list of sentences
    arithmetic text NOT NULL,                 -- a JSON object
    score double precision NOT NULL,
    expected_loops_prevented double precision NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    rank_score double precision NOT NULL GENERATED ALWAYS AS (
        CASE WHEN status IN ('pending', 'in_progress') THEN score ELSE -1 END) STORED, -- what the rank sorts by
    PRIMARY KEY (workspace_id, recommendation_id)
);
COMMENT ON TABLE recommendations IS 'A ranked remediation for a pattern.';
CREATE INDEX recommendations_by_rank ON recommendations (workspace_id, rank_score, seq);
CREATE INDEX recommendations_by_pattern ON recommendations (workspace_id, pattern_id);

CREATE TABLE plays (
    workspace_id text COLLATE "C" NOT NULL,
    play_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of its last event
    play text NOT NULL,                       -- a JSON object: the whole play
    defined_by text,                          -- who wrote it as it is now
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, play_id)
);
COMMENT ON TABLE plays IS 'A play of the playbook that is the workspace''s own.';

CREATE TABLE abstentions (
    workspace_id text COLLATE "C" NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of its last event
    best_fit double precision NOT NULL,
    floor double precision NOT NULL,          -- the least fit that is recommended
    best_play_id text,                        -- NULL when nothing spoke for any
    best_play_title text,
    playbook_version text NOT NULL,
    withheld_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE abstentions IS 'Why nothing was recommended for a pattern when that was last decided.';

CREATE TABLE clusterings (
    workspace_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of ClustersComputed
    run_id text NOT NULL,                     -- told to whoever asked for it
    computed_at timestamptz NOT NULL,
    method_version text NOT NULL,
    n_patterns bigint NOT NULL,               -- patterns that were looked at
    n_left_out bigint NOT NULL,               -- relations that were too weak or too many
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE clusterings IS 'The latest clustering of the patterns of each workspace.';

CREATE TABLE clusters (
    workspace_id text COLLATE "C" NOT NULL,
    cluster_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- its place in the clustering, from 1; breaks ties of every sort
    name text NOT NULL,
    pattern_ids text[] NOT NULL,
    reasons text NOT NULL,                    -- a JSON list of {kind, value, n, weight}
    PRIMARY KEY (workspace_id, cluster_id)
);
COMMENT ON TABLE clusters IS 'Patterns that hang together, as the latest clustering found them.';

CREATE TABLE pattern_relations (
    workspace_id text COLLATE "C" NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,     -- the one with the lower id
    other_pattern_id text COLLATE "C" NOT NULL,
    weight double precision NOT NULL,
    reasons text NOT NULL,                    -- a JSON list of {kind, value, n, weight}
    PRIMARY KEY (workspace_id, pattern_id, other_pattern_id)
);
COMMENT ON TABLE pattern_relations IS 'Why two patterns hang together, as the latest clustering found it.';
CREATE INDEX pattern_relations_by_other ON pattern_relations (workspace_id, other_pattern_id);

CREATE TABLE grouping_versions (
    workspace_id text COLLATE "C" NOT NULL,
    version_id text COLLATE "C" NOT NULL,     -- "shipped": the one that comes with the build
    seq bigint NOT NULL,                      -- of GroupingVersionFitted; 0 for the shipped one
    version text NOT NULL,                    -- memberships carry it
    fitted_at timestamptz,
    n_decisions bigint,                       -- issues and patterns that people decided about
    n_joining bigint,                         -- of these, belonging together
    shipped_loss double precision,            -- of the shipped linker, in nats a decision
    loss double precision,                    -- on decisions held out
    is_better boolean NOT NULL,
    linker text NOT NULL,                     -- a JSON object: features, weights and more
    shipped text NOT NULL,                    -- the same of the shipped one
    PRIMARY KEY (workspace_id, version_id)
);
COMMENT ON TABLE grouping_versions IS 'The linkers that a workspace can be grouped by.';

CREATE TABLE groupings (
    workspace_id text COLLATE "C" NOT NULL,
    version_id text COLLATE "C" NOT NULL,
    activated_at timestamptz NOT NULL,
    activated_by text,
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE groupings IS 'The version that a workspace is grouped by, once somebody has chosen one.';

CREATE TABLE grouping_comparisons (
    workspace_id text COLLATE "C" NOT NULL,
    version_id text COLLATE "C" NOT NULL,
    run_id text NOT NULL,                     -- told to whoever asked for it
    compared_at timestamptz NOT NULL,
    base_version_id text NOT NULL,            -- in use then
    base_version text NOT NULL,
    n_texts bigint NOT NULL,                  -- that were read
    n_asked bigint NOT NULL,                  -- of these, the latest, which both versions were asked about
    n_decided bigint NOT NULL,                -- of these, settled by people or a known key
    n_moved bigint NOT NULL,
    n_joining bigint NOT NULL,                -- moved into a pattern instead of beginning one
    n_leaving bigint NOT NULL,                -- beginning one instead
    moves text NOT NULL,                      -- a JSON list, the latest 500
    PRIMARY KEY (workspace_id, version_id)
);
COMMENT ON TABLE grouping_comparisons IS 'What each version would have moved, as last found out.';

CREATE TABLE fixes (
    workspace_id text COLLATE "C" NOT NULL,
    fix_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    recommendation_ids text NOT NULL,         -- a JSON list
    note text NOT NULL,
    environment text,
    version text,
    fixed_at timestamptz NOT NULL,
    standing text NOT NULL,                   -- proving, verified, broken or inconclusive
    ended_as text,                            -- why it is inconclusive
    judged_at timestamptz,                    -- when it ended, or was broken
    quiet_days double precision,              -- until then
    confidence double precision,              -- that was reached
    broken_by text,                           -- the issue
    broken_at timestamptz,                    -- when the pattern failed
    was_verified boolean NOT NULL,            -- before it was broken
    inputs text NOT NULL,                     -- a JSON object: what the proof rests on
    rate_drop text,                           -- a JSON object: the test of the rate
    ledger text NOT NULL,                     -- a JSON object: what the ledger rests on
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, fix_id)
);
COMMENT ON TABLE fixes IS 'What was done about a pattern, and how the proof of it stands.';
CREATE INDEX fixes_by_pattern ON fixes (workspace_id, pattern_id, seq);

CREATE TABLE pattern_moves (
    workspace_id text COLLATE "C" NOT NULL,
    pattern_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    to_status text NOT NULL,
    reason text NOT NULL,
    closure_note text,
    moved_by text,
    moved_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, pattern_id, seq)
);
COMMENT ON TABLE pattern_moves IS 'The moves of a pattern from one status to another.';

CREATE TABLE connectors (
    workspace_id text COLLATE "C" NOT NULL,
    connector_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of ConnectorCreated
    type text NOT NULL,
    display_name text NOT NULL,
    config text NOT NULL,                     -- a JSON object of texts
    auth integer NOT NULL,                    -- position of the way to sign in, from 0
    schedule text,                            -- a JSON object; null: polled only when somebody asks
    streams text NOT NULL,                    -- a JSON list of names; none: all of them
    mapping text NOT NULL,                    -- a JSON object: field to JMESPath
    manifest text,                            -- a JSON object, of a custom type
    status text NOT NULL,                     -- pending, connected, paused, error or oauth_expired
    reason text NOT NULL,
    detail text NOT NULL,
    status_changed_at timestamptz NOT NULL,
    secrets text NOT NULL,                    -- a JSON list of names
    created_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connector_id)
);
COMMENT ON TABLE connectors IS 'What connects a workspace with a source; their secrets are with ingest alone.';
CREATE INDEX connectors_by_created ON connectors (workspace_id, created_at, seq);

CREATE TABLE sync_runs (
    workspace_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    connector_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of SyncRequested
    kind text NOT NULL,                       -- scheduled, manual, backfill or remap
    status text NOT NULL,                     -- queued, running, succeeded, failed or cancelled
    window_start timestamptz,                 -- of a backfill
    window_end timestamptz,
    requested_by text,                        -- null: the schedule
    requested_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    n_chunks_done integer NOT NULL,
    n_chunks integer NOT NULL,
    n_records bigint NOT NULL,                -- that the vendor served and that were handled
    n_created bigint NOT NULL,
    n_updated bigint NOT NULL,
    n_unchanged bigint NOT NULL,
    n_ignored bigint NOT NULL,
    n_rejected bigint NOT NULL,
    reason text NOT NULL,                     -- a code, of a failure
    detail text NOT NULL,
    updated_at timestamptz NOT NULL,
    expired_at timestamptz,                   -- since when its connector is deleted, or it was asked for behind that
    PRIMARY KEY (workspace_id, run_id)
);
COMMENT ON TABLE sync_runs IS 'When a connector was asked for what is new, and what came of it.';
CREATE INDEX sync_runs_by_connector ON sync_runs (workspace_id, connector_id, seq);
CREATE INDEX sync_runs_in_order ON sync_runs (workspace_id, seq);
CREATE INDEX sync_runs_succeeded ON sync_runs (workspace_id, connector_id, seq) WHERE status = 'succeeded';
CREATE INDEX sync_runs_running ON sync_runs (workspace_id) WHERE status = 'running';
CREATE INDEX sync_runs_over ON sync_runs (workspace_id, ended_at, seq) WHERE ended_at IS NOT NULL;
-- As with issues.
CREATE POLICY served ON sync_runs AS RESTRICTIVE FOR SELECT TO causeloop_app
    USING (expired_at IS NULL OR current_setting('app.sees_expired', true) = 'on');

CREATE TABLE tickets (
    workspace_id text COLLATE "C" NOT NULL,
    ticket_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                      -- of TicketCreated
    recommendation_id text COLLATE "C" NOT NULL,
    connector_id text COLLATE "C" NOT NULL,
    tracker text NOT NULL,                    -- type of the connector
    external_id text NOT NULL,
    external_url text,
    target text NOT NULL,                     -- a JSON object of texts
    is_found boolean NOT NULL,                -- an earlier try had made it
    state text NOT NULL,                      -- open, done or dropped
    external_status text NOT NULL,            -- the tracker's own word; empty: it has not been asked yet
    created_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, ticket_id)
);
COMMENT ON TABLE tickets IS 'What recommendations became in trackers.';
CREATE INDEX tickets_by_recommendation ON tickets (workspace_id, recommendation_id, seq);

-- What the lists show. The row-level security of whoever asks applies in each view.

CREATE VIEW issue_rows WITH (security_invoker = true) AS
SELECT i.workspace_id, i.issue_id, i.seq, i.source, i.external_id, i.title, i.body, i.severity, i.risk_score,
       -- docs/decisions/0016: where nobody has chosen a status, it follows from the pattern.
       CASE WHEN i.is_analyzing THEN 'analyzing'
            WHEN m.pattern_id IS NULL OR i.is_status_chosen THEN i.status
            WHEN p.status IN ('mitigating', 'watching') THEN 'mitigating'
            WHEN p.status = 'resolved' THEN 'resolved'
            WHEN p.has_recurred THEN 'in_loop'
            ELSE 'pattern_found' END AS status,
       i.status AS own_status, m.pattern_id, i.service, i.component, i.error_type, i.environment, i.version, i.team, i.assignee,
       i.external_url, i.connector_id, i.metadata, i.analysis, i.reason, i.source_created_at, i.source_updated_at,
       i.created_at, i.updated_at, m.score, m.method, m.method_version, m.matched_dimensions, m.linked_at, m.linked_by,
       m.merged_from, m.merged_by, m.merged_at
FROM issues i
LEFT JOIN pattern_members m
       ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id;

-- seq: of the issue, as one event links several and ties have to break.
CREATE VIEW member_rows WITH (security_invoker = true) AS
SELECT m.workspace_id, m.pattern_id, m.issue_id, i.seq, m.score, m.method, m.method_version, m.matched_dimensions,
       m.occurred_at, m.linked_at, m.linked_by, m.merged_from, m.merged_by, m.merged_at, i.title, i.severity, i.status,
       i.source, i.external_id
FROM pattern_members m
JOIN issue_rows i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.is_shown;

-- A suggestion is open while its issue is in the pattern that it began and the pattern suggested goes on.
-- The example is the oldest issue of the pattern suggested, for that may be a candidate without a name.
CREATE VIEW suggestion_rows WITH (security_invoker = true) AS
SELECT s.workspace_id, s.suggestion_id, s.seq, s.issue_id, s.begun_pattern_id, s.pattern_id, s.score, s.method,
       s.method_version, s.matched_dimensions, s.suggested_at, s.answered_by, s.answered_at,
       CASE WHEN s.answer IS NOT NULL THEN s.answer
            WHEN m.pattern_id = s.begun_pattern_id AND p.merged_into IS NULL THEN 'open'
            ELSE 'lapsed' END AS status,
       i.title, i.severity, i.source_created_at, p.name AS pattern_name, p.status AS pattern_status,
       p.issue_count AS pattern_issue_count, b.issue_count AS begun_issue_count, x.issue_id AS example_issue_id,
       x.title AS example_title
FROM suggestions s
JOIN issues i ON i.workspace_id = s.workspace_id AND i.issue_id = s.issue_id
JOIN patterns p ON p.workspace_id = s.workspace_id AND p.pattern_id = s.pattern_id
JOIN patterns b ON b.workspace_id = s.workspace_id AND b.pattern_id = s.begun_pattern_id
LEFT JOIN pattern_members m ON m.workspace_id = s.workspace_id AND m.issue_id = s.issue_id
LEFT JOIN LATERAL (
    SELECT e.issue_id, o.title FROM pattern_members e
    JOIN issues o ON o.workspace_id = e.workspace_id AND o.issue_id = e.issue_id
    WHERE e.workspace_id = s.workspace_id AND e.pattern_id = s.pattern_id
    ORDER BY e.occurred_at, e.seq LIMIT 1) x ON true;

-- A contradiction has lapsed when without an answer the earlier decision is in force again, or the later one no more.
CREATE VIEW contradiction_rows WITH (security_invoker = true) AS
SELECT x.workspace_id, x.contradiction_id, x.seq, x.grouping_key, x.pattern_id, x.found_at, x.earlier, x.later, x.kept,
       x.answered_by, x.answered_at, x.later_kind, x.later_standing_pattern_id,
       CASE WHEN x.kept IS NOT NULL THEN 'answered'
            WHEN EXISTS (SELECT 1 FROM constraints c
                         WHERE c.workspace_id = x.workspace_id AND c.grouping_key = x.grouping_key
                           AND c.pattern_id = x.standing_pattern_id AND c.kind = x.earlier_kind) THEN 'lapsed'
            WHEN x.later_kind IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM constraints c
                WHERE c.workspace_id = x.workspace_id AND c.grouping_key = x.grouping_key
                  AND c.pattern_id = x.later_standing_pattern_id AND c.kind = x.later_kind) THEN 'lapsed'
            ELSE 'open' END AS status
FROM contradictions x;

CREATE VIEW constraint_rows WITH (security_invoker = true) AS
SELECT c.workspace_id, c.grouping_key, c.pattern_id, c.seq, c.kind, c.issue_id, i.title AS issue_title,
       p.name AS pattern_name, c.decided_by, c.decided_at, x.contradiction_id,
       CASE WHEN x.contradiction_id IS NULL THEN 'in_force' ELSE 'contradicted' END AS status
FROM constraints c
LEFT JOIN issues i ON i.workspace_id = c.workspace_id AND i.issue_id = c.issue_id
LEFT JOIN patterns p ON p.workspace_id = c.workspace_id AND p.pattern_id = c.pattern_id
LEFT JOIN LATERAL (
    SELECT r.contradiction_id FROM contradiction_rows r
    WHERE r.workspace_id = c.workspace_id AND r.grouping_key = c.grouping_key AND r.status = 'open'
      AND r.later_standing_pattern_id = c.pattern_id AND r.later_kind = c.kind
    ORDER BY r.seq DESC LIMIT 1) x ON true;

CREATE VIEW prediction_rows WITH (security_invoker = true) AS
SELECT p.workspace_id, p.prediction_id, p.seq, p.pattern_id, t.name AS pattern_name, p.window_days, p.probability,
       p.lower, p.upper, p.expected_next_at, p.impact, p.likely_trigger, p.evidence, p.model, p.model_version,
       p.inputs, p.low_confidence, p.generated_at, p.expires_at, p.status, p.dismissed_reason, p.outcome, p.brier,
       p.resolved_at, p.hit_issue_id, p.feedback, p.feedback_note, p.alerted_at, p.updated_at
FROM predictions p
LEFT JOIN patterns t ON t.workspace_id = p.workspace_id AND t.pattern_id = p.pattern_id
WHERE NOT p.is_held_out;  -- here, so that no list, look or export can forget it

CREATE VIEW scored_predictions WITH (security_invoker = true) AS
SELECT workspace_id, window_days, model, model_version, probability, least(floor(probability * 10), 9)::integer AS bin,
       1::bigint AS n, (outcome = 'hit')::integer::bigint AS n_hits, probability AS probability_sum,
       (probability - (outcome = 'hit')::integer) ^ 2 AS brier_sum,
       (base_rate - (outcome = 'hit')::integer) ^ 2 AS base_sum,
       CASE WHEN outcome = 'hit' THEN extract(epoch FROM resolved_at - generated_at)::double precision ELSE 0 END
           AS lead_seconds,
       expires_at
FROM predictions
WHERE outcome IS NOT NULL AND feedback IS DISTINCT FROM 'prevented'
UNION ALL
SELECT workspace_id, window_days, model, model_version, thousandth / 1000.0::double precision, least(thousandth / 100, 9),
       n, n_hits, probability_micro / 1e6::double precision, brier_nano / 1e9::double precision,
       base_nano / 1e9::double precision, lead_ms / 1e3::double precision, '-infinity'
FROM purged_predictions;

CREATE VIEW recommendation_rows WITH (security_invoker = true) AS
SELECT r.workspace_id, r.recommendation_id, r.seq, r.pattern_id, t.name AS pattern_name, r.play_id,
       r.playbook_version, r.title, r.description, r.type, r.effort, r.impact, r.status, r.status_reason, r.steps,
       r.steps_done, r.verification, r.evidence, r.arithmetic, r.score, r.expected_loops_prevented, r.rank_score,
       r.created_at, r.updated_at
FROM recommendations r
LEFT JOIN patterns t ON t.workspace_id = r.workspace_id AND t.pattern_id = r.pattern_id;

CREATE VIEW cluster_rows WITH (security_invoker = true) AS
SELECT c.workspace_id, c.cluster_id, c.seq, c.name, c.pattern_ids, c.reasons, g.computed_at, p.n_patterns,
       p.issue_count, p.risk_score, p.last_seen_at
FROM clusters c
JOIN clusterings g ON g.workspace_id = c.workspace_id
CROSS JOIN LATERAL (
    SELECT count(*) AS n_patterns, coalesce(sum(t.issue_count), 0)::bigint AS issue_count,
           coalesce(max(t.risk_score), 0) AS risk_score, max(t.last_seen_at) AS last_seen_at
    FROM patterns t
    WHERE t.workspace_id = c.workspace_id AND t.pattern_id = ANY(c.pattern_ids) AND t.is_shown
      AND t.status <> 'merged') p;

CREATE VIEW grouping_version_rows WITH (security_invoker = true) AS
SELECT v.workspace_id, v.version_id, v.seq, v.version,
       CASE WHEN v.version_id = coalesce(g.version_id, 'shipped') THEN 'active'
            WHEN v.is_better THEN 'available' ELSE 'rejected' END AS status,
       v.fitted_at, v.n_decisions, v.n_joining, v.shipped_loss, v.loss, v.linker, v.shipped,
       CASE WHEN v.version_id = g.version_id THEN g.activated_at END AS activated_at,
       CASE WHEN v.version_id = g.version_id THEN g.activated_by END AS activated_by
FROM grouping_versions v
LEFT JOIN groupings g ON g.workspace_id = v.workspace_id;

-- With the run that was asked for last, and when one last succeeded.
CREATE VIEW connector_rows WITH (security_invoker = true) AS
SELECT c.workspace_id, c.connector_id, c.seq, c.type, c.display_name, c.config, c.auth, c.schedule, c.streams, c.mapping,
       c.manifest, c.status, c.reason, c.detail, c.status_changed_at, c.secrets, c.created_by, c.created_at, c.updated_at,
       l.run_id, l.kind AS run_kind, l.status AS run_status, l.requested_at AS run_requested_at,
       l.ended_at AS run_ended_at, l.n_records AS run_n_records, l.n_created AS run_n_created,
       l.n_updated AS run_n_updated, l.n_rejected AS run_n_rejected, l.reason AS run_reason, l.detail AS run_detail,
       d.ended_at AS last_succeeded_at
FROM connectors c
LEFT JOIN LATERAL (
    SELECT r.* FROM sync_runs r
    WHERE r.workspace_id = c.workspace_id AND r.connector_id = c.connector_id
    ORDER BY r.seq DESC LIMIT 1) l ON true
LEFT JOIN LATERAL (
    SELECT r.ended_at FROM sync_runs r
    WHERE r.workspace_id = c.workspace_id AND r.connector_id = c.connector_id AND r.status = 'succeeded'
    ORDER BY r.seq DESC LIMIT 1) d ON true;
