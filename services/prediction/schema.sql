-- The read model of prediction: what its forecasts are computed from, and what became of them.
-- All of it can be rebuilt from the log.

CREATE TABLE patterns (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    n_issues bigint NOT NULL,
    merged_into text,
    forecast_n_issues bigint,
    forecast_at timestamptz,
    forecast_id text,
    PRIMARY KEY (workspace_id, pattern_id)
);
COMMENT ON TABLE patterns IS 'One row per pattern, candidates included.';
COMMENT ON COLUMN patterns.name IS 'Name for people; empty while it is a candidate.';
COMMENT ON COLUMN patterns.status IS 'candidate, emerging, active, mitigating, watching, resolved or merged.';
COMMENT ON COLUMN patterns.n_issues IS 'Members, as its last assessment counts them.';
COMMENT ON COLUMN patterns.merged_into IS 'The pattern that took its issues; NULL unless merged.';
COMMENT ON COLUMN patterns.forecast_n_issues IS 'Members when it was last forecast.';
COMMENT ON COLUMN patterns.forecast_at IS 'When it was last forecast; NULL: never.';
COMMENT ON COLUMN patterns.forecast_id IS 'Id of the first prediction of its last forecast.';

CREATE TABLE occurrences (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    hour_at timestamptz NOT NULL,
    n_issues bigint NOT NULL,
    n_p1 bigint NOT NULL,
    n_p2 bigint NOT NULL,
    n_p3 bigint NOT NULL,
    n_p4 bigint NOT NULL,
    first_at timestamptz NOT NULL,
    first_issue_id text NOT NULL,
    last_at timestamptz NOT NULL,
    last_issue_id text NOT NULL,
    PRIMARY KEY (workspace_id, pattern_id, hour_at)
);
COMMENT ON TABLE occurrences IS 'Issues of a pattern by the hour in which they happened.';
COMMENT ON COLUMN occurrences.hour_at IS 'Start of the hour, in event time.';
COMMENT ON COLUMN occurrences.n_p1 IS 'Issues that were p1 when they were linked; n_p2 to n_p4 likewise.';
COMMENT ON COLUMN occurrences.first_at IS 'Earliest event time in the hour, and its issue.';
COMMENT ON COLUMN occurrences.last_at IS 'Latest event time in the hour, and its issue.';
-- Forerunners are looked for by time across patterns.
CREATE INDEX occurrences_by_hour ON occurrences (workspace_id, hour_at DESC, pattern_id);

CREATE TABLE links (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    seq bigint NOT NULL,
    issues jsonb NOT NULL,
    PRIMARY KEY (workspace_id, pattern_id, seq)
);
COMMENT ON TABLE links IS 'Which issue is in which pattern, a row per event: what unlinking, merging and splitting recount from.';
COMMENT ON COLUMN links.seq IS 'Stream sequence of the event that linked them.';
COMMENT ON COLUMN links.issues IS 'Array of {"issue_id", "at" (event time), "severity"}.';

CREATE TABLE predictions (
    workspace_id text NOT NULL,
    prediction_id text NOT NULL,
    pattern_id text NOT NULL,
    window_days integer NOT NULL,
    probability double precision NOT NULL,
    model_probability double precision NOT NULL,
    base_rate double precision,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    made_seq bigint NOT NULL,
    seq bigint NOT NULL,
    outcome text,
    feedback text,
    is_dismissed boolean NOT NULL,
    expired_at timestamptz,
    PRIMARY KEY (workspace_id, prediction_id)
);
COMMENT ON TABLE predictions IS 'Every forecast that was made, and what became of it.';
COMMENT ON COLUMN predictions.model_probability IS 'What the models said, whether or not the base rate answered: what is scored.';
COMMENT ON COLUMN predictions.base_rate IS 'What the base rate was when it was made: what the models are compared with; NULL while nobody knew any.';
COMMENT ON COLUMN predictions.made_seq IS 'Stream sequence of the event that made it: only what is behind it in the log can resolve it.';
COMMENT ON COLUMN predictions.seq IS 'Stream sequence of its last event: what the next append expects.';
COMMENT ON COLUMN predictions.outcome IS 'hit or miss, as the log shows; NULL while open.';
COMMENT ON COLUMN predictions.feedback IS 'hit, miss or prevented, as a person said last; prevented takes it out of the scores.';
COMMENT ON COLUMN predictions.expired_at IS 'Since when it is shown to nobody and waits to be purged; scores go on counting it.';
-- Whoever becomes leader loads the open ones.
CREATE INDEX predictions_open ON predictions (workspace_id, pattern_id) WHERE outcome IS NULL;
-- And the last forecasts of each pattern, without those before.
CREATE INDEX predictions_of_pattern ON predictions (workspace_id, pattern_id, made_at);

CREATE TABLE prevented (
    workspace_id text NOT NULL,
    prediction_id text NOT NULL,
    pattern_id text NOT NULL,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, prediction_id)
);
COMMENT ON TABLE prevented IS 'Windows of purged predictions in which somebody prevented a recurrence: nothing is learned from their silence.';

CREATE TABLE outlooks (
    workspace_id text NOT NULL,
    pattern_id text NOT NULL,
    window_days integer NOT NULL,
    probability double precision NOT NULL,
    alert_threshold double precision,
    PRIMARY KEY (workspace_id, pattern_id, window_days)
);
COMMENT ON TABLE outlooks IS 'The last forecast of a pattern for each window; gone when the pattern ends.';
COMMENT ON COLUMN outlooks.alert_threshold IS 'Threshold of the last alert for the window; NULL: none yet.';

CREATE TABLE scores (
    workspace_id text NOT NULL,
    window_days integer NOT NULL,
    ended_on date NOT NULL,
    bin integer NOT NULL,
    n_resolved bigint NOT NULL,
    n_hits bigint NOT NULL,
    brier_nano bigint NOT NULL,
    base_nano bigint NOT NULL,
    PRIMARY KEY (workspace_id, window_days, ended_on, bin)
);
COMMENT ON TABLE scores IS 'Resolved and not prevented forecasts by the day on which their window ended; sums, so that they add up in any order.';
COMMENT ON COLUMN scores.ended_on IS 'In UTC. A hit is known before its window ends, a miss only afterwards: they count together, from then on.';
COMMENT ON COLUMN scores.bin IS 'Tenth of [0, 1] in which the stated probability lies, from 0.';
COMMENT ON COLUMN scores.brier_nano IS 'Sum of the squared errors of the models, in billionths; of forecasts with a known base rate.';
COMMENT ON COLUMN scores.base_nano IS 'Sum of the squared errors of the base rate, in billionths; of the same forecasts.';

CREATE TABLE models (
    workspace_id text NOT NULL,
    model_id text NOT NULL,
    fitted_at timestamptz NOT NULL,
    model jsonb NOT NULL,
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE models IS 'What was last learned from a workspace''s past.';
COMMENT ON COLUMN models.fitted_at IS 'The last moment that it knows of.';
COMMENT ON COLUMN models.model IS 'The event ModelFitted as JSON.';

CREATE TABLE workspaces (
    workspace_id text NOT NULL,
    timezone text NOT NULL,
    alert_probability double precision NOT NULL,
    PRIMARY KEY (workspace_id)
);
COMMENT ON TABLE workspaces IS 'The settings of a workspace that forecasts depend on.';
COMMENT ON COLUMN workspaces.alert_probability IS 'Probability at which an alert fires, in [0, 1].';
