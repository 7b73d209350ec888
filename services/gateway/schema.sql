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
    reason text,                              -- why it was closed
    source_created_at timestamptz NOT NULL,   -- when it happened at its source
    source_updated_at timestamptz,
    created_at timestamptz NOT NULL,          -- when it was recorded
    updated_at timestamptz NOT NULL,          -- when its last event was recorded
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
    updated_at timestamptz NOT NULL,
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

-- What the lists show. The row-level security of whoever asks applies in each view.

CREATE VIEW issue_rows WITH (security_invoker = true) AS
SELECT i.workspace_id, i.issue_id, i.seq, i.source, i.external_id, i.title, i.body, i.severity, i.risk_score,
       -- docs/decisions/0016: where nobody has chosen a status, it follows from the pattern.
       CASE WHEN m.pattern_id IS NULL OR i.is_status_chosen THEN i.status
            WHEN p.status IN ('mitigating', 'watching') THEN 'mitigating'
            WHEN p.status = 'resolved' THEN 'resolved'
            WHEN p.has_recurred THEN 'in_loop'
            ELSE 'pattern_found' END AS status,
       i.status AS own_status, m.pattern_id, i.service, i.component, i.error_type, i.environment, i.version, i.team, i.assignee,
       i.external_url, i.connector_id, i.metadata, i.reason, i.source_created_at, i.source_updated_at,
       i.created_at, i.updated_at
FROM issues i
LEFT JOIN pattern_members m
       ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id;

-- seq: of the issue, as one event links several and ties have to break.
CREATE VIEW member_rows WITH (security_invoker = true) AS
SELECT m.workspace_id, m.pattern_id, m.issue_id, i.seq, m.score, m.method, m.method_version, m.matched_dimensions,
       m.occurred_at, m.linked_at, i.title, i.severity, i.status, i.source, i.external_id
FROM pattern_members m
JOIN issue_rows i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.is_shown;

CREATE VIEW prediction_rows WITH (security_invoker = true) AS
SELECT p.workspace_id, p.prediction_id, p.seq, p.pattern_id, t.name AS pattern_name, p.window_days, p.probability,
       p.lower, p.upper, p.expected_next_at, p.impact, p.likely_trigger, p.evidence, p.model, p.model_version,
       p.inputs, p.low_confidence, p.generated_at, p.expires_at, p.status, p.dismissed_reason, p.outcome, p.brier,
       p.resolved_at, p.hit_issue_id, p.feedback, p.feedback_note, p.alerted_at, p.updated_at
FROM predictions p
LEFT JOIN patterns t ON t.workspace_id = p.workspace_id AND t.pattern_id = p.pattern_id;

CREATE VIEW recommendation_rows WITH (security_invoker = true) AS
SELECT r.workspace_id, r.recommendation_id, r.seq, r.pattern_id, t.name AS pattern_name, r.play_id,
       r.playbook_version, r.title, r.description, r.type, r.effort, r.impact, r.status, r.status_reason, r.steps,
       r.steps_done, r.verification, r.evidence, r.arithmetic, r.score, r.expected_loops_prevented, r.rank_score,
       r.created_at, r.updated_at
FROM recommendations r
LEFT JOIN patterns t ON t.workspace_id = r.workspace_id AND t.pattern_id = r.pattern_id;
