-- What the pattern service knows: enough to load its memory from, no more. Rebuilt from the log, never migrated.

-- One row per workspace that has reported an issue or changed a setting.
CREATE TABLE workspaces (
    workspace_id text NOT NULL PRIMARY KEY,
    confidence_threshold double precision,
    minimum_cluster_size integer,
    newest_at timestamptz
);
COMMENT ON TABLE workspaces IS 'One row per workspace that has reported an issue or changed a setting.';
COMMENT ON COLUMN workspaces.confidence_threshold IS 'Least score to link by itself; NULL = never set.';
COMMENT ON COLUMN workspaces.minimum_cluster_size IS 'Issues before a pattern is shown; NULL = never set.';
COMMENT ON COLUMN workspaces.newest_at IS 'Newest event time of an issue, at most its recorded time; NULL = no issue yet.';

-- One row per issue, as first reported.
CREATE TABLE issues (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    title text NOT NULL,
    source text NOT NULL,
    severity text NOT NULL,
    service text,
    component text,
    error_type text,
    team text,
    environment text,
    version text,
    occurred_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (workspace_id, issue_id)
);
CREATE INDEX issues_ended ON issues (workspace_id) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE issues IS 'One row per issue, as first reported.';
COMMENT ON COLUMN issues.title IS 'Names patterns.';
COMMENT ON COLUMN issues.occurred_at IS 'Event time.';
COMMENT ON COLUMN issues.ended_at IS 'When it was resolved or closed; NULL = it is open, or nobody said when.';

-- One row per issue that was ever linked.
CREATE TABLE members (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    pattern_id text,
    grouping_key text NOT NULL,
    score double precision NOT NULL,
    severity text NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, issue_id)
);
CREATE INDEX members_of_pattern ON members (workspace_id, pattern_id);
COMMENT ON TABLE members IS 'One row per issue that was ever linked.';
COMMENT ON COLUMN members.pattern_id IS 'Its pattern now; NULL once a person has taken it out.';
COMMENT ON COLUMN members.grouping_key IS 'Equal keys are the same failure.';
COMMENT ON COLUMN members.severity IS 'When it was linked.';

-- One row per text in the similarity index; whose it is follows from the membership of its issue.
CREATE TABLE exemplars (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    seq bigint NOT NULL,
    exemplar text NOT NULL,
    PRIMARY KEY (workspace_id, issue_id)
);
CREATE INDEX exemplars_by_kind ON exemplars (workspace_id, (strpos(exemplar, E'\n') > 0), seq);
COMMENT ON TABLE exemplars IS 'One row per text in the similarity index; whose it is follows from the membership of its issue.';
COMMENT ON COLUMN exemplars.seq IS 'Its place in the log and thereby in the index.';
COMMENT ON COLUMN exemplars.exemplar IS 'Masked text.';

-- One row per pattern, candidates and merged ones included.
CREATE TABLE patterns (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    status text NOT NULL,
    name text NOT NULL,
    is_named_by_person boolean NOT NULL,
    version bigint NOT NULL,
    described_count bigint NOT NULL,
    watched_since timestamptz,
    status_seq bigint NOT NULL,
    merged_into text NOT NULL,
    mttr_seconds double precision,
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE patterns IS 'One row per pattern, candidates and merged ones included.';
COMMENT ON COLUMN patterns.name IS 'Empty while it is a candidate.';
COMMENT ON COLUMN patterns.version IS 'Stream sequence of the last event on its subject; appends are guarded with it.';
COMMENT ON COLUMN patterns.described_count IS 'Members when it was last described.';
COMMENT ON COLUMN patterns.watched_since IS 'Event time of the last move to watching.';
COMMENT ON COLUMN patterns.status_seq IS 'Sequence of the last change of status, or of what its rule had heard of; 0 = none.';
COMMENT ON COLUMN patterns.merged_into IS 'The pattern that took over its members; empty = none.';
COMMENT ON COLUMN patterns.mttr_seconds IS 'Mean time to repair when it was last described; NULL = nothing was repaired.';

-- The latest decision of a person on a grouping key and a pattern.
CREATE TABLE constraints (
    workspace_id text NOT NULL,
    grouping_key text NOT NULL,
    pattern_id text NOT NULL,
    kind text NOT NULL,
    issue_id text NOT NULL,
    decided_by text,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, grouping_key, pattern_id)
);
COMMENT ON TABLE constraints IS 'The latest decision of a person on a grouping key and a pattern.';
COMMENT ON COLUMN constraints.kind IS 'must_link (at most one per key) or cannot_link.';
COMMENT ON COLUMN constraints.issue_id IS 'The issue that it was about.';
COMMENT ON COLUMN constraints.decided_at IS 'Event time.';

-- Where recommendations stand that somebody has touched; they move patterns.
CREATE TABLE recommendations (
    workspace_id text NOT NULL,
    recommendation_id text NOT NULL,
    pattern_id text NOT NULL,
    status text NOT NULL,
    changed_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (workspace_id, recommendation_id)
);
COMMENT ON TABLE recommendations IS 'Where recommendations stand that somebody has touched; they move patterns.';
COMMENT ON COLUMN recommendations.pattern_id IS 'The pattern that remains, after merges.';
COMMENT ON COLUMN recommendations.changed_at IS 'Event time of the last change.';
COMMENT ON COLUMN recommendations.seq IS 'Sequence of the last change.';

-- The latest clustering of each workspace, as far as the next one needs it.
CREATE TABLE clusterings (
    workspace_id text NOT NULL PRIMARY KEY,
    seq bigint NOT NULL,
    clusters text NOT NULL
);
COMMENT ON TABLE clusterings IS 'The latest clustering of each workspace, as far as the next one needs it.';
COMMENT ON COLUMN clusterings.seq IS 'Stream sequence of its event; the next one is guarded with it.';
COMMENT ON COLUMN clusterings.clusters IS 'A JSON list of {cluster_id, pattern_ids}.';

-- The latest verdict on a fix of a pattern; it moves the pattern.
CREATE TABLE verdicts (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    fixed_at timestamptz NOT NULL,
    to_status text NOT NULL,
    reason text NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE verdicts IS 'The latest verdict on a fix of a pattern; it moves the pattern.';
COMMENT ON COLUMN verdicts.fixed_at IS 'When the fix was made.';
COMMENT ON COLUMN verdicts.seq IS 'Sequence of the verdict.';

-- Which linker groups a workspace's issues, and when its own was last fitted.
CREATE TABLE groupings (
    workspace_id text NOT NULL PRIMARY KEY,
    seq bigint NOT NULL,
    n_fits bigint NOT NULL,
    fitted_at timestamptz,
    active_id text NOT NULL,
    active_linker text
);
COMMENT ON TABLE groupings IS 'Which linker groups a workspace''s issues, and when its own was last fitted.';
COMMENT ON COLUMN groupings.seq IS 'Stream sequence of the last event on its subject; the next one is guarded with it.';
COMMENT ON COLUMN groupings.fitted_at IS 'Event time of the last fit; NULL = none yet.';
COMMENT ON COLUMN groupings.active_id IS 'Id of the version in use; "shipped" = the one that comes with the build.';
COMMENT ON COLUMN groupings.active_linker IS 'Its numbers, JSON; NULL = the shipped one.';

-- The linkers fitted for a workspace.
CREATE TABLE linkers (
    workspace_id text NOT NULL,
    version_id text NOT NULL,
    is_better boolean NOT NULL,
    linker text NOT NULL,
    PRIMARY KEY (workspace_id, version_id)
);
COMMENT ON TABLE linkers IS 'The linkers fitted for a workspace.';
COMMENT ON COLUMN linkers.is_better IS 'Whether it may be switched on.';
COMMENT ON COLUMN linkers.linker IS 'Its numbers, JSON.';
