-- The patterns with these ids, those that are known.
-- row: PatternsRow
-- name: FindPatterns :many
SELECT p.workspace_id, p.pattern_id, p.status, p.name, p.exemplar, p.fingerprint, p.issue_count, p.confidence,
       p.first_seen_at, p.last_seen_at, p.n_p1, p.n_p2, p.n_p3, p.n_p4, p.exposure, p.watch, p.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN patterns AS p ON p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
ORDER BY p.workspace_id, p.pattern_id;

-- Write the newest state of each pattern of a batch (IssuesLinked and every other event of a pattern, PredictionMade).
-- name: UpsertPatterns :exec
INSERT INTO patterns (workspace_id, pattern_id, status, name, exemplar, fingerprint, issue_count, confidence,
                      first_seen_at, last_seen_at, n_p1, n_p2, n_p3, n_p4, exposure, watch, seq)
SELECT r.workspace_id, r.pattern_id, r.status, r.name, r.exemplar, r.fingerprint, r.issue_count, r.confidence,
       r.first_seen_at, r.last_seen_at, r.n_p1, r.n_p2, r.n_p3, r.n_p4, r.exposure, r.watch, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, status text, name text, exemplar text, fingerprint text,
    issue_count bigint, confidence double precision, first_seen_at timestamptz, last_seen_at timestamptz,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint, exposure text, watch text,
    seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    status = excluded.status, name = excluded.name, fingerprint = excluded.fingerprint,
    issue_count = excluded.issue_count, confidence = excluded.confidence,
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at,
    n_p1 = excluded.n_p1, n_p2 = excluded.n_p2, n_p3 = excluded.n_p3, n_p4 = excluded.n_p4,
    exposure = excluded.exposure, watch = excluded.watch, seq = excluded.seq;

-- The recommendations with these ids, those that are known.
-- row: RecommendationsRow
-- name: FindRecommendations :many
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.environment, m.version, m.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, recommendation_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.recommendation_id = r.recommendation_id
ORDER BY m.workspace_id, m.recommendation_id;

-- Write the newest state of each recommendation of a batch (every event of a recommendation).
-- name: UpsertRecommendations :exec
INSERT INTO recommendations (workspace_id, recommendation_id, pattern_id, play_id, type, effort, impact, status, score,
                             n_steps, done_steps, implemented_at, environment, version, seq)
SELECT r.workspace_id, r.recommendation_id, r.pattern_id, r.play_id, r.type, r.effort, r.impact, r.status, r.score,
       r.n_steps, r.done_steps, r.implemented_at, r.environment,
       r.version, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, recommendation_id text, pattern_id text, play_id text, type text, effort text, impact text,
    status text, score double precision, n_steps integer, done_steps text, implemented_at timestamptz,
    environment text, version text, seq bigint)
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    impact = excluded.impact, status = excluded.status, score = excluded.score, done_steps = excluded.done_steps,
    implemented_at = excluded.implemented_at, environment = excluded.environment, version = excluded.version,
    seq = excluded.seq;

-- Write what a batch has set of workspaces (WorkspaceSettingsChanged); what it does not mention stays.
-- name: UpsertWorkspaces :exec
INSERT INTO workspaces (workspace_id, confidence_threshold, proof_window_days, proof_window_max_days, proof_confidence)
SELECT r.workspace_id, r.confidence_threshold, r.proof_window_days, r.proof_window_max_days, r.proof_confidence
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, confidence_threshold double precision, proof_window_days integer, proof_window_max_days integer,
    proof_confidence double precision)
ON CONFLICT (workspace_id) DO UPDATE SET
    confidence_threshold = coalesce(excluded.confidence_threshold, workspaces.confidence_threshold),
    proof_window_days = coalesce(excluded.proof_window_days, workspaces.proof_window_days),
    proof_window_max_days = coalesce(excluded.proof_window_max_days, workspaces.proof_window_max_days),
    proof_confidence = coalesce(excluded.proof_confidence, workspaces.proof_confidence);

-- Note what became of forecasts, each once (PredictionResolved).
-- name: InsertForetold :exec
INSERT INTO foretold (workspace_id, prediction_id, seq, probability, is_hit, ended_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.probability, r.is_hit, r.ended_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, seq bigint, probability double precision, is_hit boolean,
    ended_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING;

-- Note what is kept of purged forecasts; of a known one only the end of its window, which its event may not have named
-- (PredictionsPurged).
-- name: UpsertForetold :exec
INSERT INTO foretold (workspace_id, prediction_id, seq, probability, is_hit, ended_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.probability, r.is_hit, r.ended_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, seq bigint, probability double precision, is_hit boolean,
    ended_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO UPDATE SET ended_at = excluded.ended_at;

-- Forget what became of all but a workspace's last forecasts and these (PredictionsPurged); nothing while there are
-- fewer. A replay knows fewer than we did: what it forgets, we forgot.
-- name: ForgetForetold :exec
DELETE FROM foretold AS old
WHERE old.workspace_id = sqlc.arg(workspace_id) AND NOT old.prediction_id = ANY(sqlc.arg(kept_ids)::text[])
  AND old.seq < (
    SELECT f.seq FROM foretold AS f
    WHERE f.workspace_id = sqlc.arg(workspace_id) AND f.is_hit IS NOT NULL
    ORDER BY f.seq DESC OFFSET sqlc.arg(most)::bigint - 1 LIMIT 1);

-- How the last forecasts of these workspaces came true whose window had ended by a moment: hits, and the sum of their
-- probabilities, each weighing less with every later one.
-- name: ListCalibrations :many
SELECT w.workspace_id::text AS workspace_id, coalesce(sum(f.weight) FILTER (WHERE f.is_hit), 0)::double precision AS n_hits,
       coalesce(sum(f.weight * f.probability), 0)::double precision AS n_foretold
FROM unnest(sqlc.arg('workspace_ids')::text[]) AS w(workspace_id)
CROSS JOIN LATERAL (
    SELECT o.probability, o.is_hit,
           power(sqlc.arg('fading')::double precision, (row_number() OVER (ORDER BY o.seq DESC) - 1)::double precision)
               AS weight
    FROM foretold AS o
    WHERE o.workspace_id = w.workspace_id AND o.is_hit IS NOT NULL
      AND o.ended_at <= sqlc.arg('ended_by')::timestamptz
    ORDER BY o.seq DESC LIMIT sqlc.arg('most')::bigint) AS f
GROUP BY w.workspace_id
ORDER BY w.workspace_id;

-- Write when patterns failed (IssuesLinked); an issue that was linked anew is where it was linked last.
-- name: UpsertFailures :exec
INSERT INTO failures (workspace_id, issue_id, pattern_id, occurred_at, environment, version)
SELECT r.workspace_id, r.issue_id, r.pattern_id, r.occurred_at, r.environment, r.version
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, pattern_id text, occurred_at timestamptz, environment text, version text)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, occurred_at = excluded.occurred_at, environment = excluded.environment,
    version = excluded.version;

-- Take issues out of a pattern (IssueUnlinked, PatternSplit).
-- name: DeleteFailures :exec
DELETE FROM failures
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
  AND issue_id = ANY(sqlc.arg(issue_ids)::text[]);

-- Move all failures into the pattern that remains (PatternsMerged).
-- name: MoveFailures :exec
UPDATE failures SET pattern_id = sqlc.arg(target_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(source_id);

-- The fixes with these ids, those that are known.
-- row: FixesRow
-- name: FindFixes :many
SELECT f.workspace_id, f.fix_id, f.pattern_id, f.fixed_at, f.environment, f.version, f.recommendation_ids, f.note,
       f.standing, f.ended_as, f.inputs, f.due_at, f.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, fix_id text)
JOIN fixes AS f ON f.workspace_id = r.workspace_id AND f.fix_id = r.fix_id
ORDER BY f.workspace_id, f.fix_id;

-- Write the newest state of each fix of a batch (every event of a fix).
-- name: UpsertFixes :exec
INSERT INTO fixes (workspace_id, fix_id, pattern_id, fixed_at, environment, version, recommendation_ids, note, standing,
                   ended_as, inputs, due_at, seq)
SELECT r.workspace_id, r.fix_id, r.pattern_id, r.fixed_at, r.environment, r.version, r.recommendation_ids, r.note,
       r.standing, r.ended_as, r.inputs, r.due_at, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, fix_id text, pattern_id text, fixed_at timestamptz, environment text, version text,
    recommendation_ids text, note text, standing text, ended_as text, inputs text, due_at timestamptz, seq bigint)
ON CONFLICT (workspace_id, fix_id) DO UPDATE SET
    note = excluded.note, standing = excluded.standing, ended_as = excluded.ended_as, inputs = excluded.inputs,
    due_at = excluded.due_at, seq = excluded.seq;

-- All fixes of these patterns, each pattern's in the order in which they were made.
-- row: FixesRow
-- name: ListFixesOfPatterns :many
SELECT f.workspace_id, f.fix_id, f.pattern_id, f.fixed_at, f.environment, f.version, f.recommendation_ids, f.note,
       f.standing, f.ended_as, f.inputs, f.due_at, f.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN fixes AS f ON f.workspace_id = r.workspace_id AND f.pattern_id = r.pattern_id
ORDER BY f.workspace_id, f.pattern_id, f.fixed_at, f.fix_id;

-- When a pattern failed, and where; the newest where there are very many.
-- row: FailuresRow
-- name: ListFailures :many
SELECT workspace_id, issue_id, pattern_id, occurred_at, environment, version FROM failures
WHERE workspace_id = sqlc.arg('workspace_id') AND pattern_id = sqlc.arg('pattern_id')
ORDER BY occurred_at DESC, issue_id
LIMIT sqlc.arg('n_most')::bigint;

-- When patterns failed that nobody fixed, one failure an hour of each at most: what a fixed one is held against.
-- row: ReferenceFailure
-- name: ListReferenceFailures :many
SELECT c.pattern_id, f.at::timestamptz AS occurred_at
FROM (SELECT p.pattern_id FROM patterns AS p
      WHERE p.workspace_id = sqlc.arg('workspace_id') AND p.status NOT IN ('candidate', 'merged')
        AND p.first_seen_at < sqlc.arg('before')::timestamptz
        AND NOT EXISTS (SELECT 1 FROM fixes AS x
                        WHERE x.workspace_id = p.workspace_id AND x.pattern_id = p.pattern_id)
      ORDER BY p.pattern_id LIMIT sqlc.arg('n_patterns')::bigint) AS c
CROSS JOIN LATERAL (
    SELECT DISTINCT date_trunc('hour', g.occurred_at) AS at FROM failures AS g
    WHERE g.workspace_id = sqlc.arg('workspace_id') AND g.pattern_id = c.pattern_id
      AND g.occurred_at < sqlc.arg('before')::timestamptz
    ORDER BY 1 DESC LIMIT sqlc.arg('n_each')::bigint) AS f
ORDER BY c.pattern_id, f.at;

-- Workspaces with a proof whose window has ended.
-- name: ListDueWorkspaces :many
SELECT DISTINCT workspace_id FROM fixes WHERE due_at <= sqlc.arg('now')::timestamptz ORDER BY workspace_id;

-- Patterns of these workspaces whose proof's window has ended.
-- row: PatternOfFix
-- name: ListDueFixes :many
SELECT workspace_id, pattern_id FROM fixes
WHERE due_at <= sqlc.arg('now')::timestamptz AND workspace_id = ANY(sqlc.arg('workspace_ids')::text[])
ORDER BY due_at, workspace_id, fix_id LIMIT sqlc.arg('n_most')::bigint;

-- Patterns whose fix was broken and is still counted in the ledger.
-- row: PatternOfFix
-- name: ListBrokenFixes :many
SELECT workspace_id, pattern_id FROM fixes
WHERE standing = 'broken' AND fixed_at > sqlc.arg('since')::timestamptz
ORDER BY workspace_id, fix_id;

-- Patterns whose fix is being proved on other terms than its workspace has now, of this workspace; NULL: of all.
-- row: PatternOfFix
-- name: ListProvedOnOtherTerms :many
SELECT f.workspace_id, f.pattern_id
FROM fixes AS f LEFT JOIN workspaces AS w ON w.workspace_id = f.workspace_id
WHERE f.due_at IS NOT NULL
  AND (sqlc.narg('workspace_id')::text IS NULL OR f.workspace_id = sqlc.narg('workspace_id')::text)
  AND ((f.inputs::json ->> 'level')::double precision
         <> coalesce(w.proof_confidence, sqlc.arg('level')::double precision)
    OR (f.inputs::json ->> 'least_days')::integer
         <> coalesce(w.proof_window_days, sqlc.arg('least_days')::integer)
    OR (f.inputs::json ->> 'most_days')::integer
         <> greatest(coalesce(w.proof_window_days, sqlc.arg('least_days')::integer),
                     coalesce(w.proof_window_max_days, sqlc.arg('most_days')::integer)))
ORDER BY f.workspace_id, f.fix_id;

-- All recommendations of these patterns.
-- row: RecommendationsRow
-- name: ListRecommendationsOfPatterns :many
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.environment, m.version, m.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.pattern_id = r.pattern_id
ORDER BY m.workspace_id, m.pattern_id, m.recommendation_id;

-- The patterns of a workspace for which something may be recommended.
-- name: ListOpenPatterns :many
SELECT pattern_id FROM patterns
WHERE workspace_id = sqlc.arg('workspace_id') AND status NOT IN ('candidate', 'resolved', 'merged')
ORDER BY pattern_id;

-- What is known of those of these workspaces that have rows.
-- row: WorkspacesRow
-- name: ListWorkspaces :many
SELECT workspace_id, confidence_threshold, proof_window_days, proof_window_max_days, proof_confidence, plays_seq
FROM workspaces
WHERE workspace_id = ANY(sqlc.arg('workspace_ids')::text[])
ORDER BY workspace_id;

-- What became of these workspaces' implemented fixes, by type and effort; those without a verdict do not count.
-- name: ListTrackRecords :many
SELECT m.workspace_id, m.type, m.effort,
       (count(*) FILTER (WHERE f.standing = 'verified'))::bigint AS n_verified,
       (count(*) FILTER (WHERE f.standing = 'broken'))::bigint AS n_broken
FROM fixes AS f
CROSS JOIN LATERAL json_array_elements_text(f.recommendation_ids::json) AS e(recommendation_id)
JOIN recommendations AS m ON m.workspace_id = f.workspace_id AND m.recommendation_id = e.recommendation_id
WHERE f.workspace_id = ANY(sqlc.arg('workspace_ids')::text[]) AND f.standing IN ('verified', 'broken')
GROUP BY m.workspace_id, m.type, m.effort
ORDER BY m.workspace_id, m.type, m.effort;

-- Write a batch's plays of workspaces' own, whole (PlayDefined).
-- name: UpsertPlays :exec
INSERT INTO plays (workspace_id, play_id, play)
SELECT r.workspace_id, r.play_id, r.play
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, play_id text, play text)
ON CONFLICT (workspace_id, play_id) DO UPDATE SET play = excluded.play;

-- Take plays away (PlayWithdrawn).
-- name: DeletePlays :exec
DELETE FROM plays AS p USING json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, play_id text)
WHERE p.workspace_id = r.workspace_id AND p.play_id = r.play_id;

-- Note the last event of each workspace's own plays.
-- name: UpsertPlaysSeqs :exec
INSERT INTO workspaces (workspace_id, plays_seq)
SELECT r.workspace_id, r.plays_seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, plays_seq bigint)
ON CONFLICT (workspace_id) DO UPDATE SET plays_seq = excluded.plays_seq;

-- A workspace's own plays.
-- name: ListPlays :many
SELECT play FROM plays WHERE workspace_id = sqlc.arg('workspace_id') ORDER BY play_id;

-- What deciding on a workspace's own plays needs: how many there are, the one with an id, and their last event.
-- name: FindOwnPlay :many
SELECT w.plays_seq, (SELECT count(*) FROM plays AS n WHERE n.workspace_id = w.workspace_id)::bigint AS n_plays, p.play
FROM workspaces AS w LEFT JOIN plays AS p ON p.workspace_id = w.workspace_id AND p.play_id = sqlc.arg('play_id')
WHERE w.workspace_id = sqlc.arg('workspace_id') LIMIT 1;

-- Write what was said of patterns without a fitting play, the latest (RecommendationWithheld).
-- name: UpsertAbstentions :exec
INSERT INTO abstentions (workspace_id, pattern_id, best_play_id, best_fit, seq)
SELECT r.workspace_id, r.pattern_id, r.best_play_id, r.best_fit, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, best_play_id text, best_fit double precision, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    best_play_id = excluded.best_play_id, best_fit = excluded.best_fit, seq = excluded.seq;

-- What was said of these patterns when no play fitted.
-- row: AbstentionsRow
-- name: FindAbstentions :many
SELECT a.workspace_id, a.pattern_id, a.best_play_id, a.best_fit, a.seq
FROM json_to_recordset(sqlc.arg(keys)::json) AS r(workspace_id text, pattern_id text)
JOIN abstentions AS a ON a.workspace_id = r.workspace_id AND a.pattern_id = r.pattern_id
ORDER BY a.workspace_id, a.pattern_id;
