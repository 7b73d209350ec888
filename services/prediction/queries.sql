-- Make a row for every pattern of a batch that has none yet (all events of patterns).
-- name: InsertPatterns :exec
INSERT INTO patterns (workspace_id, pattern_id, name, status, n_issues)
SELECT r.workspace_id, r.pattern_id, '', 'candidate', 0
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
ON CONFLICT (workspace_id, pattern_id) DO NOTHING;

-- Write what a batch says of each pattern; NULL leaves a column as it was, and a forecast without a count counts what was known before the batch (all events of patterns, PredictionMade).
-- name: UpdatePatterns :exec
UPDATE patterns SET
    name = coalesce(r.name, patterns.name),
    status = coalesce(r.status, patterns.status),
    n_issues = coalesce(r.n_issues, patterns.n_issues),
    merged_into = coalesce(r.merged_into, patterns.merged_into),
    forecast_n_issues = CASE WHEN r.forecast_id IS NULL THEN patterns.forecast_n_issues
                             ELSE coalesce(r.forecast_n_issues, patterns.n_issues) END,
    forecast_at = coalesce(r.forecast_at, patterns.forecast_at),
    forecast_id = coalesce(r.forecast_id, patterns.forecast_id)
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, name text, status text, n_issues bigint, merged_into text,
    forecast_n_issues bigint, forecast_at timestamptz, forecast_id text)
WHERE patterns.workspace_id = r.workspace_id AND patterns.pattern_id = r.pattern_id;

-- Add the issues of a batch to the hours in which they happened (IssuesLinked).
-- name: AddOccurrences :exec
INSERT INTO occurrences AS o (
    workspace_id, pattern_id, hour_at, n_issues, n_p1, n_p2, n_p3, n_p4,
    first_at, first_issue_id, last_at, last_issue_id)
SELECT r.workspace_id, r.pattern_id, r.hour_at, r.n_issues, r.n_p1, r.n_p2, r.n_p3, r.n_p4,
       r.first_at, r.first_issue_id, r.last_at, r.last_issue_id
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, hour_at timestamptz, n_issues bigint,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint,
    first_at timestamptz, first_issue_id text, last_at timestamptz, last_issue_id text)
ON CONFLICT (workspace_id, pattern_id, hour_at) DO UPDATE SET
    n_issues = o.n_issues + excluded.n_issues,
    n_p1 = o.n_p1 + excluded.n_p1,
    n_p2 = o.n_p2 + excluded.n_p2,
    n_p3 = o.n_p3 + excluded.n_p3,
    n_p4 = o.n_p4 + excluded.n_p4,
    first_issue_id = CASE WHEN excluded.first_at < o.first_at THEN excluded.first_issue_id ELSE o.first_issue_id END,
    first_at = least(o.first_at, excluded.first_at),
    last_issue_id = CASE WHEN excluded.last_at >= o.last_at THEN excluded.last_issue_id ELSE o.last_issue_id END,
    last_at = greatest(o.last_at, excluded.last_at);

-- Keep which issues an event linked, for later corrections (IssuesLinked).
-- name: InsertLinks :exec
INSERT INTO links (workspace_id, pattern_id, seq, issues)
SELECT r.workspace_id, r.pattern_id, r.seq, r.issues
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text, seq bigint, issues jsonb)
ON CONFLICT (workspace_id, pattern_id, seq) DO NOTHING;

-- Take issues out of a pattern (IssueUnlinked, PatternSplit).
-- name: RemoveLinks :exec
UPDATE links SET issues = (
    SELECT coalesce(jsonb_agg(kept.issue ORDER BY kept.place), '[]'::jsonb)
    FROM jsonb_array_elements(links.issues) WITH ORDINALITY AS kept(issue, place)
    WHERE NOT (kept.issue ->> 'issue_id' = ANY(sqlc.arg('issue_ids')::text[])))
WHERE links.workspace_id = sqlc.arg('workspace_id') AND links.pattern_id = sqlc.arg('pattern_id')
  AND EXISTS (
    SELECT 1 FROM jsonb_array_elements(links.issues) AS found(issue)
    WHERE found.issue ->> 'issue_id' = ANY(sqlc.arg('issue_ids')::text[]));

-- Move all issues of a pattern into another (PatternsMerged).
-- name: MoveLinks :exec
UPDATE links SET pattern_id = sqlc.arg('target_pattern_id')
WHERE workspace_id = sqlc.arg('workspace_id') AND pattern_id = sqlc.arg('source_pattern_id');

-- Forget the hours of a pattern before they are counted again (IssueUnlinked, PatternSplit, PatternsMerged).
-- name: ForgetOccurrences :exec
DELETE FROM occurrences WHERE workspace_id = sqlc.arg('workspace_id') AND pattern_id = sqlc.arg('pattern_id');

-- Count the hours of a pattern again from its links (IssueUnlinked, PatternSplit, PatternsMerged).
-- name: RecountOccurrences :exec
INSERT INTO occurrences (
    workspace_id, pattern_id, hour_at, n_issues, n_p1, n_p2, n_p3, n_p4,
    first_at, first_issue_id, last_at, last_issue_id)
SELECT l.workspace_id, l.pattern_id, date_trunc('hour', i.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', count(*),
       count(*) FILTER (WHERE i.severity = 'p1'), count(*) FILTER (WHERE i.severity = 'p2'),
       count(*) FILTER (WHERE i.severity = 'p3'), count(*) FILTER (WHERE i.severity = 'p4'),
       min(i.at), (array_agg(i.issue_id ORDER BY i.at, l.seq, i.place))[1],
       max(i.at), (array_agg(i.issue_id ORDER BY i.at DESC, l.seq DESC, i.place DESC))[1]
FROM links AS l
CROSS JOIN LATERAL jsonb_to_recordset(l.issues) AS i(issue_id text, at timestamptz, severity text, place integer)
WHERE l.workspace_id = sqlc.arg('workspace_id') AND l.pattern_id = sqlc.arg('pattern_id')
GROUP BY 1, 2, 3;

-- The predictions with these ids, as they are before the batch.
-- name: FindPredictions :many
SELECT p.workspace_id, p.prediction_id, p.pattern_id, p.window_days, p.probability, p.model_probability,
       p.base_rate, p.made_at, p.expires_at, p.made_seq, p.seq, p.outcome, p.feedback, p.is_dismissed, p.expired_at
FROM predictions AS p
JOIN json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, prediction_id text)
  ON p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id;

-- Write each prediction of a batch as it is after it (all events of predictions).
-- name: UpsertPredictions :exec
INSERT INTO predictions (
    workspace_id, prediction_id, pattern_id, window_days, probability, model_probability, base_rate, made_at,
    expires_at, made_seq, seq, outcome, feedback, is_dismissed, expired_at)
SELECT r.workspace_id, r.prediction_id, r.pattern_id, r.window_days, r.probability, r.model_probability, r.base_rate,
       r.made_at, r.expires_at, r.made_seq, r.seq, r.outcome, r.feedback, r.is_dismissed, r.expired_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, pattern_id text, window_days integer, probability double precision,
    model_probability double precision, base_rate double precision, made_at timestamptz, expires_at timestamptz, made_seq bigint, seq bigint,
    outcome text, feedback text, is_dismissed boolean, expired_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO UPDATE SET
    seq = excluded.seq, outcome = excluded.outcome, feedback = excluded.feedback, is_dismissed = excluded.is_dismissed,
    expired_at = excluded.expired_at;

-- Delete predictions; their scores stay (PredictionsPurged).
-- name: DeletePredictions :exec
DELETE FROM predictions AS p
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, prediction_id text)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id;

-- Keep the windows in which somebody prevented a recurrence (PredictionsPurged).
-- name: InsertPrevented :exec
INSERT INTO prevented (workspace_id, prediction_id, pattern_id, made_at, expires_at)
SELECT r.workspace_id, r.prediction_id, r.pattern_id, r.made_at, r.expires_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, pattern_id text, made_at timestamptz, expires_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING;

-- Add what a batch changes in the scores; feedback may take away again (PredictionResolved, PredictionFeedbackGiven, PredictionsPurged).
-- name: AddScores :exec
INSERT INTO scores AS s (workspace_id, window_days, ended_on, bin, n_resolved, n_hits, brier_nano, base_nano)
SELECT r.workspace_id, r.window_days, r.ended_on, r.bin, r.n_resolved, r.n_hits, r.brier_nano, r.base_nano
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, window_days integer, ended_on date, bin integer, n_resolved bigint, n_hits bigint,
    brier_nano bigint, base_nano bigint)
ON CONFLICT (workspace_id, window_days, ended_on, bin) DO UPDATE SET
    n_resolved = s.n_resolved + excluded.n_resolved,
    n_hits = s.n_hits + excluded.n_hits,
    brier_nano = s.brier_nano + excluded.brier_nano,
    base_nano = s.base_nano + excluded.base_nano;

-- Write the last fitted model of each workspace of a batch (ModelFitted).
-- name: UpsertModels :exec
INSERT INTO models (workspace_id, model_id, fitted_at, model)
SELECT r.workspace_id, r.model_id, r.fitted_at, r.model
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, model_id text, fitted_at timestamptz, model jsonb)
ON CONFLICT (workspace_id) DO UPDATE SET
    model_id = excluded.model_id, fitted_at = excluded.fitted_at, model = excluded.model;

-- Forget the outlooks of patterns that ended (PatternStatusChanged).
-- name: ForgetOutlooks :exec
DELETE FROM outlooks USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
WHERE outlooks.workspace_id = r.workspace_id AND outlooks.pattern_id = r.pattern_id;

-- Write the last forecast of each pattern and window; an alert's threshold stays until the next (PredictionMade, AlertFired).
-- name: UpsertOutlooks :exec
INSERT INTO outlooks AS o (workspace_id, pattern_id, window_days, probability, alert_threshold)
SELECT r.workspace_id, r.pattern_id, r.window_days, r.probability, r.alert_threshold
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, window_days integer, probability double precision,
    alert_threshold double precision)
ON CONFLICT (workspace_id, pattern_id, window_days) DO UPDATE SET
    probability = excluded.probability, alert_threshold = coalesce(excluded.alert_threshold, o.alert_threshold);

-- Make a row for every workspace of a batch that has none yet (WorkspaceCreated, WorkspaceSettingsChanged).
-- name: InsertWorkspaces :exec
INSERT INTO workspaces (workspace_id, timezone, alert_probability)
SELECT r.workspace_id, 'UTC', 0.7
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text)
ON CONFLICT (workspace_id) DO NOTHING;

-- Write the settings that a batch changes (WorkspaceCreated, WorkspaceSettingsChanged).
-- name: UpdateWorkspaces :exec
UPDATE workspaces SET
    timezone = coalesce(r.timezone, workspaces.timezone),
    alert_probability = coalesce(r.alert_probability, workspaces.alert_probability)
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, timezone text, alert_probability double precision)
WHERE workspaces.workspace_id = r.workspace_id;

-- Patterns that were ever shown, so many behind a workspace and pattern.
-- name: ListShownPatterns :many
SELECT workspace_id, pattern_id, status, n_issues, merged_into, forecast_n_issues, forecast_at, forecast_id
FROM patterns
WHERE (workspace_id, pattern_id) > (sqlc.arg(after_workspace)::text, sqlc.arg(after_pattern)::text) AND status <> 'candidate'
ORDER BY workspace_id, pattern_id LIMIT sqlc.arg(page_size)::integer;

-- Every prediction that the log has not resolved and that is not expired.
-- name: ListOpenPredictions :many
SELECT workspace_id, prediction_id, pattern_id, window_days, probability, made_at, expires_at, made_seq, seq,
       feedback
FROM predictions WHERE outcome IS NULL AND expired_at IS NULL ORDER BY workspace_id, prediction_id;

-- The last forecasts of these patterns, oldest first, by the id of their shortest window, and whether one of them came true.
-- name: ListForecasts :many
SELECT r.workspace_id::text AS workspace_id, r.pattern_id::text AS pattern_id, f.made_at,
    f.forecast_id::text AS forecast_id, f.has_come_true::boolean AS has_come_true
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
CROSS JOIN LATERAL (
    SELECT p.made_at, min(p.prediction_id) FILTER (WHERE p.window_days = sqlc.arg(shortest_days)::integer) AS forecast_id,
        coalesce(bool_or(p.outcome = 'hit'), false) AS has_come_true
    FROM predictions AS p WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
    GROUP BY p.made_at ORDER BY p.made_at DESC LIMIT sqlc.arg(at_most)::integer
) AS f
WHERE f.forecast_id IS NOT NULL
ORDER BY r.workspace_id, r.pattern_id, f.made_at;

-- The last forecasts of all patterns.
-- name: ListOutlooks :many
SELECT * FROM outlooks ORDER BY workspace_id, pattern_id, window_days;

-- The settings of all workspaces.
-- name: ListWorkspaces :many
SELECT * FROM workspaces ORDER BY workspace_id;

-- The hours of these patterns, oldest first.
-- name: ListOccurrences :many
SELECT o.workspace_id, o.pattern_id, o.n_p1, o.n_p2, o.n_p3, o.n_p4,
       o.first_at, o.first_issue_id, o.last_at, o.last_issue_id
FROM occurrences AS o
JOIN json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
  ON o.workspace_id = r.workspace_id AND o.pattern_id = r.pattern_id
ORDER BY o.workspace_id, o.pattern_id, o.hour_at;

-- Shown patterns with events in the 24 hours before these moments of other patterns, those most often there first; of each moment only the 60 nearest hours, so that a busy workspace costs no more than a quiet one.
-- name: FindForerunners :many
SELECT r.workspace_id::text AS workspace_id, r.pattern_id::text AS pattern_id, near.pattern_id AS forerunner_id, p.name,
       count(DISTINCT r.at) AS n_led
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text, at timestamptz)
CROSS JOIN LATERAL (
    SELECT o.workspace_id, o.pattern_id, o.first_at FROM occurrences AS o
    WHERE o.workspace_id = r.workspace_id AND o.hour_at >= r.at - interval '25 hours' AND o.hour_at <= r.at
    ORDER BY o.hour_at DESC, o.pattern_id LIMIT 60) AS near
JOIN patterns AS p ON p.workspace_id = near.workspace_id AND p.pattern_id = near.pattern_id
WHERE near.pattern_id <> r.pattern_id AND near.first_at < r.at AND p.status NOT IN ('candidate', 'merged')
GROUP BY 1, 2, 3, 4
HAVING count(DISTINCT r.at) >= sqlc.arg('least_led')::bigint
ORDER BY 1, 2, 5 DESC, 3;

-- The scores of windows that ended between these days, and the first and the last day with any.
-- name: ListScores :many
SELECT workspace_id, window_days, bin, min(ended_on)::date AS first_day, max(ended_on)::date AS last_day,
       sum(n_resolved)::bigint AS n_resolved, sum(n_hits)::bigint AS n_hits, sum(brier_nano)::bigint AS brier_nano,
       sum(base_nano)::bigint AS base_nano
FROM scores
WHERE workspace_id = ANY(sqlc.arg('workspace_ids')::text[]) AND ended_on >= sqlc.arg('since')::date
  AND ended_on < sqlc.arg('before')::date AND n_resolved > 0
GROUP BY workspace_id, window_days, bin ORDER BY workspace_id, window_days, bin;

-- The last fitted model of every workspace.
-- name: ListModels :many
SELECT workspace_id, model_id, fitted_at, model::text AS model FROM models ORDER BY workspace_id;

-- The latest hours with failures of a workspace's patterns, candidates included, oldest first: what a model is learned from.
-- name: ListPast :many
SELECT latest.pattern_id, latest.first_at, latest.last_at
FROM (
    SELECT o.pattern_id, o.hour_at, o.first_at, o.last_at FROM occurrences AS o
    WHERE o.workspace_id = sqlc.arg('workspace_id') AND o.hour_at >= sqlc.arg('since')::timestamptz
      AND o.first_at <= sqlc.arg('until')::timestamptz
    ORDER BY o.hour_at DESC, o.pattern_id LIMIT sqlc.arg('most')::integer) AS latest
ORDER BY latest.first_at, latest.pattern_id;

-- When somebody prevented a recurrence, by pattern.
-- name: ListPrevented :many
SELECT p.pattern_id, p.made_at, p.expires_at FROM (
    SELECT one.prediction_id, one.pattern_id, one.made_at, one.expires_at FROM predictions AS one
    WHERE one.workspace_id = sqlc.arg('workspace_id') AND one.feedback = 'prevented'
    UNION ALL
    SELECT gone.prediction_id, gone.pattern_id, gone.made_at, gone.expires_at FROM prevented AS gone
    WHERE gone.workspace_id = sqlc.arg('workspace_id')) AS p
ORDER BY p.prediction_id;
