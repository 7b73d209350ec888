-- The patterns with these ids, those that are known.
-- row: PatternsRow
-- name: FindPatterns :many
SELECT p.workspace_id, p.pattern_id, p.status, p.name, p.exemplar, p.fingerprint, p.issue_count, p.confidence,
       p.first_seen_at, p.last_seen_at, p.n_p1, p.n_p2, p.n_p3, p.n_p4, p.exposure, p.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN patterns AS p ON p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
ORDER BY p.workspace_id, p.pattern_id;

-- Write the newest state of each pattern of a batch (IssuesLinked and every other event of a pattern, PredictionMade).
-- name: UpsertPatterns :exec
INSERT INTO patterns (workspace_id, pattern_id, status, name, exemplar, fingerprint, issue_count, confidence,
                      first_seen_at, last_seen_at, n_p1, n_p2, n_p3, n_p4, exposure, seq)
SELECT r.workspace_id, r.pattern_id, r.status, r.name, r.exemplar, r.fingerprint, r.issue_count, r.confidence,
       r.first_seen_at, r.last_seen_at, r.n_p1, r.n_p2, r.n_p3, r.n_p4, r.exposure, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, status text, name text, exemplar text, fingerprint text,
    issue_count bigint, confidence double precision, first_seen_at timestamptz, last_seen_at timestamptz,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint, exposure text, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    status = excluded.status, name = excluded.name, fingerprint = excluded.fingerprint,
    issue_count = excluded.issue_count, confidence = excluded.confidence,
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at,
    n_p1 = excluded.n_p1, n_p2 = excluded.n_p2, n_p3 = excluded.n_p3, n_p4 = excluded.n_p4,
    exposure = excluded.exposure, seq = excluded.seq;

-- The recommendations with these ids, those that are known.
-- row: RecommendationsRow
-- name: FindRecommendations :many
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, recommendation_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.recommendation_id = r.recommendation_id
ORDER BY m.workspace_id, m.recommendation_id;

-- Write the newest state of each recommendation of a batch (every event of a recommendation).
-- name: UpsertRecommendations :exec
INSERT INTO recommendations (workspace_id, recommendation_id, pattern_id, play_id, type, effort, impact, status, score,
                             n_steps, done_steps, implemented_at, seq)
SELECT r.workspace_id, r.recommendation_id, r.pattern_id, r.play_id, r.type, r.effort, r.impact, r.status, r.score,
       r.n_steps, r.done_steps, r.implemented_at, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, recommendation_id text, pattern_id text, play_id text, type text, effort text, impact text,
    status text, score double precision, n_steps integer, done_steps text, implemented_at timestamptz, seq bigint)
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    impact = excluded.impact, status = excluded.status, score = excluded.score, done_steps = excluded.done_steps,
    implemented_at = excluded.implemented_at, seq = excluded.seq;

-- Write the thresholds that a batch has set (WorkspaceSettingsChanged).
-- name: UpsertWorkspaces :exec
INSERT INTO workspaces (workspace_id, confidence_threshold)
SELECT r.workspace_id, r.confidence_threshold
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, confidence_threshold double precision)
ON CONFLICT (workspace_id) DO UPDATE SET confidence_threshold = excluded.confidence_threshold;

-- All recommendations of these patterns.
-- row: RecommendationsRow
-- name: ListRecommendationsOfPatterns :many
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.pattern_id = r.pattern_id
ORDER BY m.workspace_id, m.pattern_id, m.recommendation_id;

-- The patterns of a workspace for which something may be recommended.
-- name: ListOpenPatterns :many
SELECT pattern_id FROM patterns
WHERE workspace_id = sqlc.arg('workspace_id') AND status NOT IN ('candidate', 'resolved', 'merged')
ORDER BY pattern_id;

-- The thresholds of those of these workspaces that have their own.
-- row: WorkspacesRow
-- name: ListThresholds :many
SELECT workspace_id, confidence_threshold FROM workspaces
WHERE workspace_id = ANY(sqlc.arg('workspace_ids')::text[])
ORDER BY workspace_id;

-- What became of these workspaces' implemented fixes, by type and effort: a failure more than a day after the
-- fix is a recurrence (the same day belongs to the old episode); a resolved pattern without one has held.
-- name: ListTrackRecords :many
SELECT m.workspace_id, m.type, m.effort,
       (count(*) FILTER (WHERE p.status = 'resolved' AND p.last_seen_at <= m.implemented_at + interval '1 day'))::bigint
           AS n_held,
       (count(*) FILTER (WHERE p.last_seen_at > m.implemented_at + interval '1 day'))::bigint AS n_recurred
FROM recommendations AS m
JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE m.workspace_id = ANY(sqlc.arg('workspace_ids')::text[]) AND m.status = 'implemented'
GROUP BY m.workspace_id, m.type, m.effort
ORDER BY m.workspace_id, m.type, m.effort;
