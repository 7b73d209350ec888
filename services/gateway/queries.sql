-- Write the issues that were reported in a batch; one that is there already stays (IssueReported, IssueRestored).
-- name: InsertIssues :exec
INSERT INTO issues (workspace_id, issue_id, seq, source, external_id, title, body, severity, status, is_status_chosen, service,
    component, error_type, environment, version, team, assignee, external_url, connector_id, metadata, is_analyzing,
    analysis, reason, source_created_at, source_updated_at, created_at, updated_at)
SELECT r.workspace_id, r.issue_id, r.seq, r.source, r.external_id, r.title, r.body, r.severity, r.status,
    r.is_status_chosen, r.service,
    r.component, r.error_type, r.environment, r.version, r.team, r.assignee, r.external_url, r.connector_id,
    r.metadata, coalesce(r.is_analyzing, false), r.analysis, r.reason, r.source_created_at, r.source_updated_at,
    r.created_at, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, seq bigint, source text, external_id text, title text, body text,
    severity text, status text, is_status_chosen boolean, service text, component text, error_type text,
    environment text, version text, team text, assignee text, external_url text, connector_id text, metadata text,
    is_analyzing boolean, analysis text, reason text, source_created_at timestamptz, source_updated_at timestamptz, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO NOTHING;

-- Change the fields that a batch has values for, empty those that it clears (IssueUpdated, IssueClosed, AnalysisStarted,
-- AnalysisRecorded).
-- name: UpdateIssues :exec
UPDATE issues AS i SET
    title = coalesce(r.title, i.title),
    body = coalesce(r.body, i.body),
    severity = coalesce(r.severity, i.severity),
    status = coalesce(r.status, i.status),
    is_status_chosen = coalesce(r.is_status_chosen, i.is_status_chosen),
    service = CASE WHEN 'service' = ANY(r.cleared) THEN NULL ELSE coalesce(r.service, i.service) END,
    component = CASE WHEN 'component' = ANY(r.cleared) THEN NULL ELSE coalesce(r.component, i.component) END,
    error_type = CASE WHEN 'error_type' = ANY(r.cleared) THEN NULL ELSE coalesce(r.error_type, i.error_type) END,
    environment = CASE WHEN 'environment' = ANY(r.cleared) THEN NULL ELSE coalesce(r.environment, i.environment) END,
    version = CASE WHEN 'version' = ANY(r.cleared) THEN NULL ELSE coalesce(r.version, i.version) END,
    team = CASE WHEN 'team' = ANY(r.cleared) THEN NULL ELSE coalesce(r.team, i.team) END,
    assignee = CASE WHEN 'assignee' = ANY(r.cleared) THEN NULL ELSE coalesce(r.assignee, i.assignee) END,
    external_url = CASE WHEN 'external_url' = ANY(r.cleared) THEN NULL ELSE coalesce(r.external_url, i.external_url) END,
    source_updated_at = CASE WHEN 'source_updated_at' = ANY(r.cleared) THEN NULL
                             ELSE coalesce(r.source_updated_at, i.source_updated_at) END,
    metadata = CASE WHEN 'metadata' = ANY(r.cleared) THEN '{}' ELSE coalesce(r.metadata, i.metadata) END,
    is_analyzing = coalesce(r.is_analyzing, i.is_analyzing),
    analysis = coalesce(r.analysis, i.analysis),
    reason = coalesce(r.reason, i.reason),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, title text, body text, severity text, status text, is_status_chosen boolean,
    service text, component text, error_type text, environment text, version text, team text, assignee text, external_url text,
    source_updated_at timestamptz, metadata text, is_analyzing boolean, analysis text, reason text,
    updated_at timestamptz, cleared text[])
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.issue_id;

-- Write the comments of a batch (IssueCommented).
-- name: InsertComments :exec
INSERT INTO comments (workspace_id, comment_id, issue_id, seq, author_id, text, created_at)
SELECT r.workspace_id, r.comment_id, r.issue_id, r.seq, r.author_id, r.text, r.created_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, comment_id text, issue_id text, seq bigint, author_id text, text text,
    created_at timestamptz)
ON CONFLICT (workspace_id, comment_id) DO NOTHING;

-- Write the analyses that were begun in a batch (AnalysisStarted).
-- name: InsertAnalyses :exec
INSERT INTO analyses (workspace_id, analysis_id, issue_id, seq, tier, actor, requested_at)
SELECT r.workspace_id, r.analysis_id, r.issue_id, r.seq, r.tier, r.actor, r.requested_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, analysis_id text, issue_id text, seq bigint, tier text, actor text, requested_at timestamptz)
ON CONFLICT (workspace_id, analysis_id) DO NOTHING;

-- End the analyses whose answers a batch has (AnalysisRecorded).
-- name: EndAnalyses :exec
UPDATE analyses AS a SET recorded_at = r.recorded_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, analysis_id text, recorded_at timestamptz)
WHERE a.workspace_id = r.workspace_id AND a.analysis_id = r.analysis_id;

-- End what ran on issues when they expired: nobody is told the answer, and a report begins them anew (IssueExpired).
-- name: EndAnalysesOfIssues :exec
UPDATE analyses AS a SET recorded_at = e.ended_at
FROM (
    SELECT n.workspace_id, n.analysis_id, (array_agg(r.ended_at ORDER BY r.seq))[1] AS ended_at
    FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
        workspace_id text, issue_id text, seq bigint, ended_at timestamptz)
    JOIN analyses AS n ON n.workspace_id = r.workspace_id AND n.issue_id = r.issue_id
        AND n.recorded_at IS NULL AND n.seq < r.seq
    GROUP BY n.workspace_id, n.analysis_id
) AS e
WHERE a.workspace_id = e.workspace_id AND a.analysis_id = e.analysis_id;

-- The analyses that run: of each workspace its oldest ones, without some; for the role that writes the rows.
-- column workspace_id: str
-- column analysis_id: str
-- column issue_id: str
-- column tier: str
-- column requested_at: datetime
-- name: ListRunningAnalyses :many
WITH RECURSIVE waiting AS (
    SELECT min(workspace_id) AS workspace_id FROM analyses WHERE recorded_at IS NULL
    UNION ALL
    SELECT (SELECT min(a.workspace_id) FROM analyses AS a
            WHERE a.recorded_at IS NULL AND a.workspace_id > w.workspace_id)
    FROM waiting AS w WHERE w.workspace_id IS NOT NULL
)
SELECT a.workspace_id, a.analysis_id, a.issue_id, a.tier, a.requested_at
FROM waiting AS w
CROSS JOIN LATERAL (
    SELECT n.workspace_id, n.analysis_id, n.issue_id, n.tier, n.requested_at, n.seq FROM analyses AS n
    WHERE n.workspace_id = w.workspace_id AND n.recorded_at IS NULL
      AND n.analysis_id <> ALL(sqlc.arg(except_ids)::text[])
    ORDER BY n.requested_at, n.seq LIMIT sqlc.arg(of_each)::bigint
) AS a
ORDER BY a.requested_at, a.seq;

-- An analysis, and since when its prompt is shown to nobody; none when its issue is.
-- name: GetAnalysis :one
SELECT a.analysis_id, a.issue_id, a.tier, a.requested_at, a.recorded_at, a.prompt_expired_at
FROM analyses AS a JOIN issues AS i ON i.workspace_id = a.workspace_id AND i.issue_id = a.issue_id
WHERE a.workspace_id = sqlc.arg(workspace_id) AND a.analysis_id = sqlc.arg(analysis_id);

-- What an analysis has to know of an issue.
-- column pattern_id: str | None
-- column pattern_name: str | None
-- column pattern_updated_at: datetime | None
-- name: GetIssueForAnalysis :one
SELECT i.issue_id, i.title, i.body, i.severity, i.source_created_at AS occurred_at, i.source, i.service, i.component,
    i.error_type, i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name,
    p.updated_at AS pattern_updated_at
FROM issues AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.issue_id = sqlc.arg(issue_id);

-- Write each pattern of a batch once: insert the new ones, change what the batch says of the others (all of pattern).
-- name: UpsertPatterns :exec
WITH made AS (
    INSERT INTO patterns (workspace_id, pattern_id, seq, name, status, is_shown, fingerprint, risk_score, confidence,
        issue_count, first_seen_at, last_seen_at, created_at, updated_at, status_reason, closure_note, closed_at,
        merged_into, mttr_seconds, has_recurred)
    SELECT b.workspace_id, b.pattern_id, b.seq, coalesce(b.name, ''), coalesce(b.status, 'candidate'),
        coalesce(b.is_shown, false), coalesce(b.fingerprint, '[]'), b.risk_score, b.confidence, b.issue_count,
        b.first_seen_at, b.last_seen_at, b.created_at, b.updated_at, b.status_reason, b.closure_note, b.closed_at,
        b.merged_into, b.mttr_seconds, coalesce(b.has_recurred, false)
    FROM json_to_recordset(sqlc.arg(rows)::json) AS b(
        workspace_id text, pattern_id text, seq bigint, name text, status text, is_shown boolean, fingerprint text,
        risk_score double precision, confidence double precision, issue_count bigint, first_seen_at timestamptz,
        last_seen_at timestamptz, created_at timestamptz, updated_at timestamptz, status_reason text,
        closure_note text, closed_at timestamptz, merged_into text, mttr_seconds double precision,
        has_recurred boolean)
    WHERE b.issue_count IS NOT NULL
    ON CONFLICT (workspace_id, pattern_id) DO NOTHING
)
UPDATE patterns AS p SET
    name = coalesce(b.name, p.name),
    status = coalesce(b.status, p.status),
    is_shown = coalesce(b.is_shown, p.is_shown),
    fingerprint = coalesce(b.fingerprint, p.fingerprint),
    risk_score = coalesce(b.risk_score, p.risk_score),
    confidence = coalesce(b.confidence, p.confidence),
    issue_count = coalesce(b.issue_count, p.issue_count),
    first_seen_at = coalesce(b.first_seen_at, p.first_seen_at),
    last_seen_at = coalesce(b.last_seen_at, p.last_seen_at),
    created_at = coalesce(p.created_at, b.created_at),
    updated_at = b.updated_at,
    status_reason = coalesce(b.status_reason, p.status_reason),
    closure_note = coalesce(b.closure_note, p.closure_note),
    closed_at = coalesce(b.closed_at, p.closed_at),
    merged_into = coalesce(b.merged_into, p.merged_into),
    mttr_seconds = coalesce(b.mttr_seconds, p.mttr_seconds),
    has_recurred = coalesce(b.has_recurred, p.has_recurred)
FROM json_to_recordset(sqlc.arg(rows)::json) AS b(
    workspace_id text, pattern_id text, seq bigint, name text, status text, is_shown boolean, fingerprint text,
    risk_score double precision, confidence double precision, issue_count bigint, first_seen_at timestamptz,
    last_seen_at timestamptz, created_at timestamptz, updated_at timestamptz, status_reason text,
    closure_note text, closed_at timestamptz, merged_into text, mttr_seconds double precision,
    has_recurred boolean)
WHERE p.workspace_id = b.workspace_id AND p.pattern_id = b.pattern_id;

-- Put issues into patterns; an issue that was in another pattern moves (IssuesLinked).
-- name: UpsertMembers :exec
INSERT INTO pattern_members AS m (workspace_id, issue_id, pattern_id, is_shown, seq, score, method, method_version,
    matched_dimensions, occurred_at, linked_at, linked_by)
SELECT r.workspace_id, r.issue_id, r.pattern_id, coalesce(p.is_shown, false), r.seq, r.score, r.method,
    r.method_version, r.matched_dimensions, r.occurred_at, r.linked_at, r.linked_by
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, pattern_id text, seq bigint, score double precision, method text,
    method_version text, matched_dimensions text, occurred_at timestamptz, linked_at timestamptz, linked_by text)
LEFT JOIN patterns AS p ON p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, is_shown = excluded.is_shown, seq = excluded.seq, score = excluded.score,
    method = excluded.method, method_version = excluded.method_version,
    matched_dimensions = excluded.matched_dimensions, occurred_at = excluded.occurred_at,
    linked_at = excluded.linked_at, linked_by = excluded.linked_by, merged_from = NULL, merged_by = NULL,
    merged_at = NULL;

-- Take issues out of the patterns that they are said to leave (IssueUnlinked).
-- name: DeleteMembers :exec
DELETE FROM pattern_members AS m
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, issue_id text, pattern_id text)
WHERE m.workspace_id = r.workspace_id AND m.issue_id = r.issue_id AND m.pattern_id = r.pattern_id;

-- Show the members of patterns that were just detected (PatternDetected).
-- name: ShowMembers :exec
UPDATE pattern_members AS m SET is_shown = true
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
WHERE m.workspace_id = r.workspace_id AND m.pattern_id = r.pattern_id AND NOT m.is_shown;

-- Move all members of one pattern into another (PatternsMerged).
-- name: MoveMembers :exec
UPDATE pattern_members AS m SET pattern_id = sqlc.arg(target_pattern_id), is_shown = p.is_shown,
    merged_from = sqlc.arg(source_pattern_id), merged_by = sqlc.narg('merged_by')::text,
    merged_at = sqlc.arg(merged_at)::timestamptz
FROM patterns AS p
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.pattern_id = sqlc.arg(source_pattern_id)
  AND p.workspace_id = m.workspace_id AND p.pattern_id = sqlc.arg(target_pattern_id);

-- Write what is suggested (LinkSuggested).
-- name: InsertSuggestions :exec
INSERT INTO suggestions (workspace_id, suggestion_id, seq, issue_id, begun_pattern_id, pattern_id, score, method,
    method_version, matched_dimensions, suggested_at)
SELECT r.workspace_id, r.suggestion_id, r.seq, r.issue_id, r.begun_pattern_id, r.pattern_id, r.score, r.method,
    r.method_version, r.matched_dimensions, r.suggested_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, suggestion_id text, seq bigint, issue_id text, begun_pattern_id text, pattern_id text,
    score double precision, method text, method_version text, matched_dimensions text, suggested_at timestamptz)
ON CONFLICT (workspace_id, suggestion_id) DO NOTHING;

-- Note the answer to suggestions that have none: a decision on that issue and that pattern (LinkConstrained).
-- name: AnswerSuggestions :exec
UPDATE suggestions AS s SET answer = r.answer, answered_by = r.answered_by, answered_at = r.answered_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, pattern_id text, answer text, answered_by text, answered_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.issue_id = r.issue_id AND s.pattern_id = r.pattern_id
  AND s.answer IS NULL;

-- Drop the decisions that a later one overrules (DecisionsContradicted).
-- name: DropConstraints :exec
DELETE FROM constraints AS c
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, grouping_key text, pattern_id text)
WHERE c.workspace_id = r.workspace_id AND c.grouping_key = r.grouping_key AND c.pattern_id = r.pattern_id;

-- Drop every "must" on these keys: a person has decided anew (LinkConstrained).
-- name: DropMusts :exec
DELETE FROM constraints AS c
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, grouping_key text)
WHERE c.workspace_id = r.workspace_id AND c.grouping_key = r.grouping_key AND c.kind = 'must_link';

-- Write decisions; the latest on a key and a pattern counts (LinkConstrained).
-- name: UpsertConstraints :exec
INSERT INTO constraints (workspace_id, grouping_key, pattern_id, seq, kind, issue_id, decided_by, decided_at)
SELECT r.workspace_id, r.grouping_key, r.pattern_id, r.seq, r.kind, r.issue_id, r.decided_by, r.decided_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, grouping_key text, pattern_id text, seq bigint, kind text, issue_id text, decided_by text,
    decided_at timestamptz)
ON CONFLICT (workspace_id, grouping_key, pattern_id) DO UPDATE SET
    seq = excluded.seq, kind = excluded.kind, issue_id = excluded.issue_id, decided_by = excluded.decided_by,
    decided_at = excluded.decided_at;

-- Drop the decisions about the source that the target has as well (PatternsMerged).
-- name: DropShadowedConstraints :exec
DELETE FROM constraints AS c
WHERE c.workspace_id = sqlc.arg(workspace_id) AND c.pattern_id = sqlc.arg(source_pattern_id)
  AND EXISTS (SELECT 1 FROM constraints AS t WHERE t.workspace_id = c.workspace_id
              AND t.pattern_id = sqlc.arg(target_pattern_id) AND t.grouping_key = c.grouping_key);

-- Move the decisions about the source to the pattern that remains (PatternsMerged).
-- name: MoveConstraints :exec
UPDATE constraints SET pattern_id = sqlc.arg(target_pattern_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(source_pattern_id);

-- Let contradictions follow the patterns of their decisions (PatternsMerged).
-- name: MoveContradictions :exec
UPDATE contradictions SET
    standing_pattern_id = CASE WHEN standing_pattern_id = sqlc.arg(source_pattern_id)
                               THEN sqlc.arg(target_pattern_id) ELSE standing_pattern_id END,
    later_standing_pattern_id = CASE WHEN later_standing_pattern_id = sqlc.arg(source_pattern_id)
                                     THEN sqlc.arg(target_pattern_id) ELSE later_standing_pattern_id END
WHERE workspace_id = sqlc.arg(workspace_id)
  AND sqlc.arg(source_pattern_id) IN (standing_pattern_id, later_standing_pattern_id);

-- Write contradictions (DecisionsContradicted).
-- name: InsertContradictions :exec
INSERT INTO contradictions (workspace_id, contradiction_id, seq, grouping_key, pattern_id, found_at, earlier, later,
    earlier_kind, standing_pattern_id, later_kind, later_standing_pattern_id)
SELECT r.workspace_id, r.contradiction_id, r.seq, r.grouping_key, r.pattern_id, r.found_at, r.earlier, r.later,
    r.earlier_kind, r.standing_pattern_id, r.later_kind, r.later_standing_pattern_id
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, contradiction_id text, seq bigint, grouping_key text, pattern_id text, found_at timestamptz,
    earlier text, later text, earlier_kind text, standing_pattern_id text, later_kind text,
    later_standing_pattern_id text)
ON CONFLICT (workspace_id, contradiction_id) DO NOTHING;

-- Note which of two decisions was chosen (ContradictionAnswered).
-- name: AnswerContradictions :exec
UPDATE contradictions AS x SET kept = r.kept, answered_by = r.answered_by, answered_at = r.answered_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, contradiction_id text, kept text, answered_by text, answered_at timestamptz)
WHERE x.workspace_id = r.workspace_id AND x.contradiction_id = r.contradiction_id;

-- No prediction of these patterns is current any more (PatternStatusChanged to resolved or merged).
-- name: EndPredictions :exec
UPDATE predictions AS p SET is_current = false
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id AND p.is_current;

-- The predictions that newer ones of the same pattern and window replace are current no more (PredictionMade).
-- name: SupersedePredictions :exec
UPDATE predictions AS p SET is_current = false
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text, window_days integer)
WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id AND p.window_days = r.window_days
  AND p.is_current;

-- Write the predictions of a batch (PredictionMade).
-- name: InsertPredictions :exec
INSERT INTO predictions (workspace_id, prediction_id, seq, pattern_id, window_days, probability, lower, upper,
    expected_next_at, impact, likely_trigger, evidence, model, model_version, inputs, low_confidence, generated_at,
    expires_at, is_current, is_dismissed, dismissed_reason, outcome, brier, resolved_at, hit_issue_id, feedback,
    feedback_note, alerted_at, is_held_out, updated_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.pattern_id, r.window_days, r.probability, r.lower, r.upper,
    r.expected_next_at, r.impact, r.likely_trigger, r.evidence, r.model, r.model_version, r.inputs, r.low_confidence,
    r.generated_at, r.expires_at, r.is_current, coalesce(r.is_dismissed, false), r.dismissed_reason, r.outcome,
    r.brier, r.resolved_at, r.hit_issue_id, r.feedback, r.feedback_note, r.alerted_at, r.is_held_out, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, seq bigint, pattern_id text, window_days integer,
    probability double precision, lower double precision, upper double precision, expected_next_at timestamptz,
    impact text, likely_trigger text, evidence text, model text, model_version text, inputs text,
    low_confidence boolean, generated_at timestamptz, expires_at timestamptz, is_current boolean,
    is_dismissed boolean, dismissed_reason text, outcome text, brier double precision, resolved_at timestamptz,
    hit_issue_id text, feedback text, feedback_note text, alerted_at timestamptz, is_held_out boolean, updated_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING;

-- Change what a batch says of known predictions (PredictionResolved, PredictionFeedbackGiven, PredictionDismissed, AlertFired).
-- name: UpdatePredictions :exec
UPDATE predictions AS p SET
    is_dismissed = coalesce(r.is_dismissed, p.is_dismissed),
    dismissed_reason = coalesce(r.dismissed_reason, p.dismissed_reason),
    outcome = coalesce(r.outcome, p.outcome),
    brier = coalesce(r.brier, p.brier),
    resolved_at = coalesce(r.resolved_at, p.resolved_at),
    hit_issue_id = coalesce(r.hit_issue_id, p.hit_issue_id),
    feedback = coalesce(r.feedback, p.feedback),
    feedback_note = coalesce(r.feedback_note, p.feedback_note),
    alerted_at = coalesce(r.alerted_at, p.alerted_at),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, prediction_id text, is_dismissed boolean, dismissed_reason text, outcome text,
    brier double precision, resolved_at timestamptz, hit_issue_id text, feedback text, feedback_note text,
    alerted_at timestamptz, updated_at timestamptz)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id;

-- Write the recommendations of a batch (RecommendationMade).
-- name: InsertRecommendations :exec
INSERT INTO recommendations (workspace_id, recommendation_id, seq, pattern_id, play_id, playbook_version, title,
    description, type, effort, impact, status, status_reason, steps, steps_done, verification, evidence, arithmetic,
    score, expected_loops_prevented, created_at, updated_at)
SELECT r.workspace_id, r.recommendation_id, r.seq, r.pattern_id, r.play_id, r.playbook_version, r.title,
    r.description, r.type, r.effort, r.impact, r.status, coalesce(r.status_reason, ''), r.steps, r.steps_done,
    r.verification, r.evidence, r.arithmetic, r.score, r.expected_loops_prevented, r.created_at, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, recommendation_id text, seq bigint, pattern_id text, play_id text, playbook_version text,
    title text, description text, type text, effort text, impact text, status text, status_reason text, steps text,
    steps_done integer[], verification text, evidence text, arithmetic text, score double precision,
    expected_loops_prevented double precision, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, recommendation_id) DO NOTHING;

-- Change what a batch says of known recommendations (RecommendationReassessed, …StatusChanged, …StepChecked).
-- name: UpdateRecommendations :exec
UPDATE recommendations AS t SET
    impact = coalesce(r.impact, t.impact),
    arithmetic = coalesce(r.arithmetic, t.arithmetic),
    score = coalesce(r.score, t.score),
    expected_loops_prevented = coalesce(r.expected_loops_prevented, t.expected_loops_prevented),
    status = coalesce(r.status, t.status),
    status_reason = coalesce(r.status_reason, t.status_reason),
    steps_done = ARRAY(
        SELECT DISTINCT s.step FROM unnest(array_cat(t.steps_done, r.steps_ticked)) AS s(step)
        WHERE s.step <> ALL(r.steps_unticked) ORDER BY s.step),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, recommendation_id text, impact text, arithmetic text, score double precision,
    expected_loops_prevented double precision, status text, status_reason text, steps_ticked integer[],
    steps_unticked integer[], updated_at timestamptz)
WHERE t.workspace_id = r.workspace_id AND t.recommendation_id = r.recommendation_id;

-- Where issues stand now, for the stream. One by one, by the primary keys: with `= ANY`, all of the workspace is read
-- where the planner knows little of it, as on a table never analyzed.
-- column pattern_id: str | None
-- name: ListIssueStates :many
SELECT i.issue_id, i.own_status, i.status, i.pattern_id
FROM (SELECT DISTINCT unnest(sqlc.arg(issue_ids)::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.issue_id, o.own_status, o.status, o.pattern_id, o.seq FROM issue_rows AS o
    WHERE o.workspace_id = sqlc.arg(workspace_id) AND o.issue_id = r.id
    LIMIT 1
) AS i
ORDER BY i.seq;

-- Issues in brief, as lists show them; one by one, as states are.
-- row: IssueInBrief
-- column pattern_id: str | None
-- name: FindIssues :many
SELECT i.issue_id, i.title, i.severity, i.status::text AS status, i.pattern_id
FROM (SELECT DISTINCT unnest(sqlc.arg(issue_ids)::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.issue_id, o.title, o.severity, o.status, o.pattern_id, o.seq FROM issue_rows AS o
    WHERE o.workspace_id = sqlc.arg(workspace_id) AND o.issue_id = r.id
    LIMIT 1
) AS i
ORDER BY i.seq;

-- The place in the log of the event that put an issue into the pattern that it is shown in.
-- name: GetLink :one
SELECT seq FROM pattern_members
WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id = sqlc.arg(issue_id) AND is_shown;

-- The first members of a pattern, for the stream: those that its detection shows.
-- name: ListMemberIds :many
SELECT issue_id FROM pattern_members
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
ORDER BY seq LIMIT sqlc.arg(n);

-- Whether an issue has been looked at by the grouping, shown pattern or not.
-- always
-- name: IsGrouped :one
SELECT EXISTS (
    SELECT 1 FROM pattern_members
    WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id = sqlc.arg(issue_id))::boolean AS is_grouped;

-- Failures per day of a pattern, by the time that they happened.
-- name: CountOccurrences :many
SELECT date_trunc('day', occurred_at, 'UTC')::timestamptz AS bucket_at, count(*) AS n_issues
FROM pattern_members
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
  AND occurred_at >= sqlc.arg(since_at)::timestamptz AND occurred_at < sqlc.arg(until_at)::timestamptz
GROUP BY 1 ORDER BY 1;

-- Shown patterns that failed, per day, by the time that it happened; a pattern counts once a day.
-- name: CountRecurringPatterns :many
SELECT date_trunc('day', occurred_at, 'UTC')::timestamptz AS bucket_at, count(DISTINCT pattern_id) AS n_patterns
FROM pattern_members
WHERE workspace_id = sqlc.arg(workspace_id) AND is_shown
  AND pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
  AND occurred_at >= sqlc.arg(since_at)::timestamptz AND occurred_at < sqlc.arg(until_at)::timestamptz
GROUP BY 1 ORDER BY 1;

-- The four tiles over the active predictions of one window.
-- always
-- name: SummarisePredictions :one
SELECT count(*) AS n_total,
    count(*) FILTER (WHERE probability >= 0.8) AS n_high,
    count(*) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision) AS n_above,
    coalesce(avg(probability), 0)::double precision AS average_probability
FROM predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'active' AND window_days = sqlc.arg(window_days);

-- The newest forecast of each pattern for one window, the most probable first, at most 1,000.
-- column pattern_name: str | None
-- name: ListForecasts :many
SELECT p.prediction_id, p.pattern_id, t.name AS pattern_name, p.probability, p.lower, p.upper, p.inputs,
    p.generated_at, p.likely_trigger, p.model
FROM predictions AS p
LEFT JOIN patterns AS t ON t.workspace_id = p.workspace_id AND t.pattern_id = p.pattern_id
WHERE p.workspace_id = sqlc.arg(workspace_id) AND p.is_current AND NOT p.is_dismissed
  AND p.window_days = sqlc.arg(window_days)
  AND (sqlc.narg('pattern_id')::text IS NULL OR p.pattern_id = sqlc.narg('pattern_id')::text)
ORDER BY p.probability DESC, p.seq LIMIT 1000;

-- How well resolved forecasts did, in ten bins of probability; what a person calls prevented does not count.
-- name: ListReliability :many
SELECT bin, sum(n)::bigint AS n, (sum(probability_sum) / sum(n))::double precision AS mean_probability,
    sum(n_hits)::bigint AS n_hits, sum(brier_sum)::double precision AS brier_sum
FROM scored_predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND expires_at <= sqlc.arg(ended_by)::timestamptz
  AND (sqlc.narg('window_days')::integer IS NULL OR window_days = sqlc.narg('window_days')::integer)
GROUP BY 1 ORDER BY 1;

-- Resolved predictions by window and version of the model, with what the base rate of their time scored.
-- name: ListScorecard :many
SELECT window_days, model, model_version, sum(n)::bigint AS n, sum(n_hits)::bigint AS n_hits,
    sum(brier_sum)::double precision AS brier_sum, sum(base_sum)::double precision AS base_sum
FROM scored_predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND expires_at <= sqlc.arg(ended_by)::timestamptz
  AND (sqlc.narg('window_days')::integer IS NULL OR window_days = sqlc.narg('window_days')::integer)
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 3;

-- Write moves of patterns from one status to another (PatternStatusChanged).
-- name: InsertPatternMoves :exec
INSERT INTO pattern_moves (workspace_id, pattern_id, seq, to_status, reason, closure_note, moved_by, moved_at)
SELECT r.workspace_id, r.pattern_id, r.seq, r.to_status, r.reason, r.closure_note, r.moved_by, r.moved_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, seq bigint, to_status text, reason text, closure_note text, moved_by text,
    moved_at timestamptz)
ON CONFLICT (workspace_id, pattern_id, seq) DO NOTHING;

-- The latest moves of some patterns, the latest first.
-- row: PatternMove
-- name: ListPatternMoves :many
SELECT pattern_id, seq, to_status, reason, closure_note, moved_by, moved_at FROM pattern_moves
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
ORDER BY seq DESC LIMIT sqlc.arg(n);

-- The alerts that a draft threshold would have fired since a moment: each when a pattern's forecast reaches it from below, where an expired one may say what was before. The counts are over all of them, the rows only the latest.
-- column lead_time_days: float | None
-- column resolved_at: datetime | None
-- column pattern_name: str | None
-- name: DryRunAlerts :many
SELECT fired.prediction_id, fired.pattern_id, t.name AS pattern_name, fired.probability, fired.generated_at,
    fired.outcome, fired.resolved_at, count(*) OVER () AS n_fired,
    count(*) FILTER (WHERE fired.outcome = 'hit') OVER () AS n_true,
    count(*) FILTER (WHERE fired.outcome = 'miss') OVER () AS n_false,
    (avg(extract(epoch FROM fired.resolved_at - fired.generated_at)) FILTER (WHERE fired.outcome = 'hit') OVER ()
        / 86400)::double precision AS lead_time_days
FROM (
    SELECT p.prediction_id, p.pattern_id, p.probability, p.generated_at, p.resolved_at, p.workspace_id, p.expired_at,
        (CASE WHEN p.feedback = 'prevented' THEN 'prevented' ELSE coalesce(p.outcome, 'open') END)::text AS outcome,
        lag(p.probability) OVER (PARTITION BY p.pattern_id ORDER BY p.generated_at, p.seq) AS before
    FROM predictions AS p
    WHERE p.workspace_id = sqlc.arg(workspace_id) AND p.window_days = sqlc.arg(window_days)::integer
      AND NOT p.is_held_out) AS fired
LEFT JOIN patterns AS t ON t.workspace_id = fired.workspace_id AND t.pattern_id = fired.pattern_id
WHERE fired.expired_at IS NULL AND fired.generated_at >= sqlc.arg(since)::timestamptz
  AND fired.probability >= sqlc.arg(threshold)::double precision
  AND (fired.before IS NULL OR fired.before < sqlc.arg(threshold)::double precision)
ORDER BY fired.generated_at DESC, fired.prediction_id LIMIT 50;

-- How many resolved predictions of a window since a moment came true, and how many of those were at a draft threshold or above.
-- always
-- name: DryRunRecall :one
SELECT count(*) AS n_hits,
    count(*) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision) AS n_caught
FROM predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND window_days = sqlc.arg(window_days)::integer
  AND generated_at >= sqlc.arg(since)::timestamptz AND outcome = 'hit' AND feedback IS DISTINCT FROM 'prevented'
  AND expired_at IS NULL AND NOT is_held_out;

-- Precision, recall and lead time of resolved forecasts at a threshold; what a person calls prevented does not count.
-- always
-- column lead_time_days: float | None
-- name: ScoreAlerts :one
SELECT coalesce(sum(n_hits) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision), 0)::bigint AS n_true,
    coalesce(sum(n) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision), 0)::bigint AS n_alerted,
    coalesce(sum(n_hits), 0)::bigint AS n_hits,
    (sum(lead_seconds) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision)
        / nullif(sum(n_hits) FILTER (WHERE probability >= sqlc.arg(threshold)::double precision), 0)
        / 86400)::double precision AS lead_time_days
FROM scored_predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND expires_at <= sqlc.arg(ended_by)::timestamptz
  AND (sqlc.narg('window_days')::integer IS NULL OR window_days = sqlc.narg('window_days')::integer);

-- The patterns that were merged into one, the latest first, at most 20.
-- row: MergedPattern
-- name: ListMergedInto :many
SELECT pattern_id FROM patterns
WHERE workspace_id = sqlc.arg(workspace_id) AND merged_into = sqlc.arg(pattern_id)::text
ORDER BY updated_at DESC, seq DESC LIMIT 20;

-- The recommendations for some patterns that somebody has touched, the latest first, at most 100.
-- row: TriedRecommendation
-- name: ListTried :many
SELECT recommendation_id, pattern_id, title, type, effort, status, status_reason, verification, created_at, updated_at
FROM recommendations
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
  AND status <> 'pending'
ORDER BY updated_at DESC, seq DESC LIMIT 100;

-- Positions of these recommendations among the open ones of the workspace, 1 is the best.
-- name: RankRecommendations :many
SELECT r.recommendation_id, (
    SELECT count(*) + 1 FROM recommendations AS b
    WHERE b.workspace_id = r.workspace_id AND b.rank_score >= 0
      AND (b.rank_score > r.rank_score OR (b.rank_score = r.rank_score AND b.seq > r.seq)))::bigint AS rank
FROM recommendations AS r
WHERE r.workspace_id = sqlc.arg(workspace_id) AND r.rank_score >= 0
  AND r.recommendation_id = ANY(sqlc.arg(recommendation_ids)::text[]);

-- Show issues no longer (IssueExpired).
-- name: ExpireIssues :exec
UPDATE issues AS i SET expired_at = r.expired_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.id;

-- Make room for issues that are told anew, as a whole (IssueRestored).
-- name: ReplaceIssues :exec
DELETE FROM issues AS i
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, issue_id text)
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.issue_id;

-- Delete purged issues, unless they were reported anew since (IssuesPurged).
-- name: PurgeIssues :exec
DELETE FROM issues AS i
USING json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, last_sequence bigint)
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.issue_id = r.issue_id AND i.seq <= r.last_sequence;

-- Delete what people said about purged issues (IssuesPurged).
-- name: PurgeComments :exec
DELETE FROM comments AS c
USING json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, last_sequence bigint)
WHERE c.workspace_id = sqlc.arg(workspace_id) AND c.issue_id = r.issue_id AND c.seq <= r.last_sequence;

-- Delete who asked why purged issues happened (IssuesPurged).
-- name: PurgeAnalyses :exec
DELETE FROM analyses AS a
USING json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, last_sequence bigint)
WHERE a.workspace_id = sqlc.arg(workspace_id) AND a.issue_id = r.issue_id AND a.seq <= r.last_sequence;

-- Ask nobody any more where purged issues belong (IssuesPurged).
-- name: PurgeSuggestions :exec
DELETE FROM suggestions AS s
USING json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text)
WHERE s.workspace_id = sqlc.arg(workspace_id) AND s.issue_id = r.issue_id;

-- Leave purged issues out of what versions of the grouping would move; its numbers stay (IssuesPurged).
-- name: PurgeMoves :exec
UPDATE grouping_comparisons AS c SET moves = (
    SELECT coalesce(json_agg(m.move ORDER BY m.place), '[]')::text
    FROM json_array_elements(c.moves::json) WITH ORDINALITY AS m(move, place)
    WHERE NOT m.move ->> 'issue_id' IN (
        SELECT r.issue_id FROM json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text)))
WHERE c.workspace_id = sqlc.arg(workspace_id) AND EXISTS (
    SELECT FROM json_array_elements(c.moves::json) AS m(move)
    JOIN json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text) ON m.move ->> 'issue_id' = r.issue_id);

-- Let the memberships of purged issues follow to the ids of what is kept of them: patterns go on counting (IssuesPurged).
-- name: RenameMembers :exec
UPDATE pattern_members AS m SET issue_id = r.remainder_id
FROM json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, remainder_id text)
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.issue_id = r.issue_id;

-- Issues that nothing has happened to since a moment, those longest at rest first, behind a place in that order.
-- row: Resting
-- name: ListAgedIssues :many
SELECT issue_id, updated_at AS since_at, seq FROM issues
WHERE workspace_id = sqlc.arg(workspace_id) AND updated_at < sqlc.arg(unchanged_since)::timestamptz
  AND (updated_at, seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY updated_at, seq LIMIT sqlc.arg(n);

-- See expired issues and predictions as well, in this transaction.
-- name: SeeExpired :exec
SELECT set_config('app.sees_expired', 'on', true);

-- Issues that expired before a moment, the longest expired first, behind a place in that order.
-- column since_at: datetime
-- row: Resting
-- name: ListExpiredIssues :many
SELECT issue_id, expired_at AS since_at, seq FROM issues
WHERE workspace_id = sqlc.arg(workspace_id) AND expired_at < sqlc.arg(expired_before)::timestamptz
  AND (expired_at, seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY expired_at, seq LIMIT sqlc.arg(n);

-- Show predictions no longer (PredictionExpired).
-- name: ExpirePredictions :exec
UPDATE predictions AS p SET expired_at = r.expired_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.id;

-- Predictions that ended before a moment and rest on nobody's account: a later one of their pattern and window is there,
-- shown to people where this one was, and a later alert; the oldest first, behind a place in that order.
-- column since_at: datetime
-- row: Foretold
-- name: ListEndedPredictions :many
SELECT p.prediction_id, p.generated_at AS since_at, p.seq FROM predictions AS p
WHERE p.workspace_id = sqlc.arg(workspace_id) AND NOT p.is_current
  AND (p.outcome IS NOT NULL OR p.feedback = 'prevented')
  AND p.generated_at < sqlc.arg(ended_before)::timestamptz AND p.expires_at < sqlc.arg(ended_before)::timestamptz
  AND p.updated_at < sqlc.arg(ended_before)::timestamptz
  AND EXISTS (
    SELECT FROM predictions AS n
    WHERE n.workspace_id = p.workspace_id AND n.pattern_id = p.pattern_id AND n.window_days = p.window_days
      AND n.seq > p.seq AND (p.alerted_at IS NULL OR n.alerted_at IS NOT NULL)
      AND (p.is_held_out OR NOT n.is_held_out))
  AND (p.generated_at, p.seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY p.generated_at, p.seq LIMIT sqlc.arg(n);

-- Predictions that expired before a moment, the longest expired first, behind a place in that order.
-- column since_at: datetime
-- row: Foretold
-- name: ListExpiredPredictions :many
SELECT prediction_id, expired_at AS since_at, seq FROM predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND expired_at < sqlc.arg(expired_before)::timestamptz
  AND (expired_at, seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY expired_at, seq LIMIT sqlc.arg(n);

-- Delete predictions (PredictionsPurged).
-- name: DeletePredictions :exec
DELETE FROM predictions
WHERE workspace_id = sqlc.arg(workspace_id) AND prediction_id = ANY(sqlc.arg(prediction_ids)::text[]);

-- Add what scores are made of, of purged predictions (PredictionsPurged).
-- name: AddPurgedPredictions :exec
INSERT INTO purged_predictions AS s (workspace_id, window_days, model, model_version, thousandth, n, n_hits,
    probability_micro, brier_nano, base_nano, lead_ms)
SELECT r.workspace_id, r.window_days, r.model, r.model_version, r.thousandth, r.n, r.n_hits, r.probability_micro,
    r.brier_nano, r.base_nano, r.lead_ms
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, window_days integer, model text, model_version text, thousandth integer, n bigint, n_hits bigint,
    probability_micro bigint, brier_nano bigint, base_nano bigint, lead_ms bigint)
ON CONFLICT (workspace_id, window_days, model, model_version, thousandth) DO UPDATE SET
    n = s.n + excluded.n, n_hits = s.n_hits + excluded.n_hits,
    probability_micro = s.probability_micro + excluded.probability_micro,
    brier_nano = s.brier_nano + excluded.brier_nano, base_nano = s.base_nano + excluded.base_nano,
    lead_ms = s.lead_ms + excluded.lead_ms;

-- Show the prompts of these analyses no longer (PromptsExpired).
-- name: ExpirePrompts :exec
UPDATE analyses AS a SET prompt_expired_at = r.expired_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE a.workspace_id = r.workspace_id AND a.analysis_id = r.id;

-- Analyses whose prompts expired before a moment, the longest expired first, behind a place in that order.
-- column since_at: datetime
-- row: Answered
-- name: ListExpiredPrompts :many
SELECT analysis_id, prompt_expired_at AS since_at, seq FROM analyses
WHERE workspace_id = sqlc.arg(workspace_id) AND prompt_expired_at < sqlc.arg(expired_before)::timestamptz
  AND (prompt_expired_at, seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY prompt_expired_at, seq LIMIT sqlc.arg(n);

-- Analyses that ended before a moment and whose prompts are shown, the oldest first, behind a place in that order.
-- column since_at: datetime
-- row: Answered
-- name: ListAnswered :many
SELECT analysis_id, recorded_at AS since_at, seq FROM analyses
WHERE workspace_id = sqlc.arg(workspace_id) AND recorded_at < sqlc.arg(before)::timestamptz
  AND prompt_expired_at IS NULL
  AND (recorded_at, seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY recorded_at, seq LIMIT sqlc.arg(n);

-- All of a workspace that is expired: issues, predictions, runs, and analyses whose prompts are.
-- name: ListExpiredIds :many
SELECT i.issue_id AS expired_id FROM issues AS i
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.expired_at IS NOT NULL
UNION ALL
SELECT p.prediction_id FROM predictions AS p
WHERE p.workspace_id = sqlc.arg(workspace_id) AND p.expired_at IS NOT NULL
UNION ALL
SELECT s.run_id FROM sync_runs AS s
WHERE s.workspace_id = sqlc.arg(workspace_id) AND s.expired_at IS NOT NULL
UNION ALL
SELECT a.analysis_id FROM analyses AS a
WHERE a.workspace_id = sqlc.arg(workspace_id) AND a.prompt_expired_at IS NOT NULL;

-- How many issues a workspace has, as far as anybody wants to know.
-- always
-- name: CountIssuesUpTo :one
SELECT count(*) FROM (
    SELECT 1 FROM issues WHERE workspace_id = sqlc.arg(workspace_id) LIMIT sqlc.arg(at_most)::bigint) AS counted;

-- The latest members of a shown pattern, as far as they say something about a cause.
-- row: FailureRow
-- column pattern_id: str | None
-- column pattern_name: str | None
-- name: ListMemberFailures :many
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM pattern_members AS m
JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.pattern_id = sqlc.arg(pattern_id) AND m.is_shown
ORDER BY m.occurred_at DESC, i.seq DESC LIMIT sqlc.arg(at_most)::bigint;

-- The issues that were reported last up to a time, whatever pattern they are in.
-- row: FailureRow
-- column pattern_id: str | None
-- column pattern_name: str | None
-- name: ListLatestFailures :many
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM (
    SELECT * FROM issues
    WHERE issues.workspace_id = sqlc.arg(workspace_id) AND issues.created_at <= sqlc.arg(known_at)::timestamptz
    ORDER BY issues.created_at DESC, issues.seq DESC LIMIT sqlc.arg(at_most)::bigint) AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
ORDER BY i.created_at DESC, i.seq DESC;

-- The issues that happened next before and next after a time, half of them each.
-- row: FailureRow
-- column pattern_id: str | None
-- column pattern_name: str | None
-- name: ListFailuresAround :many
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM (
    (SELECT * FROM issues AS earlier
     WHERE earlier.workspace_id = sqlc.arg(workspace_id)
       AND earlier.source_created_at <= sqlc.arg(occurred_at)::timestamptz
     ORDER BY earlier.source_created_at DESC, earlier.seq DESC LIMIT sqlc.arg(at_most)::bigint / 2)
    UNION ALL
    (SELECT * FROM issues AS later
     WHERE later.workspace_id = sqlc.arg(workspace_id)
       AND later.source_created_at > sqlc.arg(occurred_at)::timestamptz
     ORDER BY later.source_created_at, later.seq LIMIT sqlc.arg(at_most)::bigint / 2)) AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
ORDER BY i.source_created_at DESC, i.seq DESC;

-- Forget the clusters that a newer clustering replaces (ClustersComputed).
-- name: DeleteClusters :exec
DELETE FROM clusters AS c
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text) WHERE c.workspace_id = r.workspace_id;

-- Forget the relations that a newer clustering replaces (ClustersComputed).
-- name: DeleteRelations :exec
DELETE FROM pattern_relations AS t
USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text) WHERE t.workspace_id = r.workspace_id;

-- Note the latest clustering of each workspace (ClustersComputed).
-- name: UpsertClusterings :exec
INSERT INTO clusterings (workspace_id, seq, run_id, computed_at, method_version, n_patterns, n_left_out)
SELECT r.workspace_id, r.seq, r.run_id, r.computed_at, r.method_version, r.n_patterns, r.n_left_out
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, seq bigint, run_id text, computed_at timestamptz, method_version text, n_patterns bigint,
    n_left_out bigint)
ON CONFLICT (workspace_id) DO UPDATE SET
    seq = excluded.seq, run_id = excluded.run_id, computed_at = excluded.computed_at,
    method_version = excluded.method_version, n_patterns = excluded.n_patterns, n_left_out = excluded.n_left_out;

-- Write the clusters of a clustering (ClustersComputed).
-- name: InsertClusters :exec
INSERT INTO clusters (workspace_id, cluster_id, seq, name, pattern_ids, reasons)
SELECT r.workspace_id, r.cluster_id, r.seq, r.name, r.pattern_ids, r.reasons
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, cluster_id text, seq bigint, name text, pattern_ids text[], reasons text);

-- Write the relations of a clustering (ClustersComputed).
-- name: InsertRelations :exec
INSERT INTO pattern_relations (workspace_id, pattern_id, other_pattern_id, weight, reasons)
SELECT r.workspace_id, r.pattern_id, r.other_pattern_id, r.weight, r.reasons
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, other_pattern_id text, weight double precision, reasons text);

-- The latest clustering of a workspace.
-- name: GetClustering :one
SELECT run_id, computed_at, method_version, n_patterns, n_left_out, (
    SELECT count(*) FROM pattern_relations AS r WHERE r.workspace_id = g.workspace_id)::bigint AS n_relations
FROM clusterings AS g WHERE g.workspace_id = $1;

-- The patterns of a cluster that are still there, the riskiest first.
-- row: ClusterNode
-- name: ListClusterNodes :many
SELECT p.pattern_id, p.name, p.status, p.risk_score, p.issue_count, p.last_seen_at
FROM (SELECT DISTINCT unnest(sqlc.arg(pattern_ids)::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.pattern_id, o.name, o.status, o.risk_score, o.issue_count, o.last_seen_at, o.is_shown, o.seq
    FROM patterns AS o
    WHERE o.workspace_id = sqlc.arg(workspace_id) AND o.pattern_id = r.id
    LIMIT 1
) AS p
WHERE p.is_shown AND p.status <> 'merged'
ORDER BY p.risk_score DESC, p.seq;

-- The relations among these patterns, the strongest first.
-- name: ListRelationsAmong :many
SELECT r.pattern_id, r.other_pattern_id, r.weight, r.reasons
FROM pattern_relations AS r
WHERE r.workspace_id = sqlc.arg(workspace_id) AND r.pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
  AND r.other_pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
ORDER BY r.weight DESC, r.pattern_id, r.other_pattern_id;

-- The patterns that are related to one and still there, the most related first.
-- name: ListRelated :many
SELECT p.pattern_id, p.name, p.status, p.risk_score, p.issue_count, p.last_seen_at, r.weight, r.reasons
FROM (
    SELECT a.other_pattern_id AS pattern_id, a.weight, a.reasons FROM pattern_relations AS a
    WHERE a.workspace_id = sqlc.arg(workspace_id) AND a.pattern_id = sqlc.arg(pattern_id)
    UNION ALL
    SELECT b.pattern_id, b.weight, b.reasons FROM pattern_relations AS b
    WHERE b.workspace_id = sqlc.arg(workspace_id) AND b.other_pattern_id = sqlc.arg(pattern_id)) AS r
JOIN patterns AS p ON p.workspace_id = sqlc.arg(workspace_id) AND p.pattern_id = r.pattern_id
WHERE p.is_shown AND p.status <> 'merged'
ORDER BY r.weight DESC, p.pattern_id LIMIT sqlc.arg(n)::bigint;

-- The cluster that a pattern is in.
-- name: FindClusterOf :one
SELECT cluster_id, name FROM clusters
WHERE workspace_id = sqlc.arg(workspace_id) AND sqlc.arg(pattern_id)::text = ANY(pattern_ids)
ORDER BY seq LIMIT 1;

-- Begin the proofs of fixes (ProofStarted).
-- name: InsertFixes :exec
INSERT INTO fixes (workspace_id, fix_id, seq, pattern_id, recommendation_ids, note, environment, version, fixed_at,
    standing, ended_as, judged_at, quiet_days, confidence, broken_by, broken_at, was_verified, inputs, rate_drop, ledger,
    updated_at)
SELECT r.workspace_id, r.fix_id, r.seq, r.pattern_id, r.recommendation_ids, r.note, r.environment, r.version, r.fixed_at,
    r.standing, r.ended_as, r.judged_at, r.quiet_days, r.confidence, r.broken_by, r.broken_at, r.was_verified, r.inputs,
    r.rate_drop, r.ledger, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, fix_id text, seq bigint, pattern_id text, recommendation_ids text, note text, environment text,
    version text, fixed_at timestamptz, standing text, ended_as text, judged_at timestamptz, quiet_days double precision,
    confidence double precision, broken_by text, broken_at timestamptz, was_verified boolean, inputs text, rate_drop text,
    ledger text, updated_at timestamptz)
ON CONFLICT (workspace_id, fix_id) DO NOTHING;

-- Change what a batch says of fixes; what it does not mention stays (every other event of a fix).
-- name: UpdateFixes :exec
UPDATE fixes AS f SET
    note = coalesce(r.note, f.note),
    standing = coalesce(r.standing, f.standing),
    ended_as = CASE WHEN r.standing IS NULL THEN f.ended_as ELSE r.ended_as END,
    judged_at = coalesce(r.judged_at, f.judged_at),
    quiet_days = coalesce(r.quiet_days, f.quiet_days),
    confidence = coalesce(r.confidence, f.confidence),
    broken_by = coalesce(r.broken_by, f.broken_by),
    broken_at = coalesce(r.broken_at, f.broken_at),
    was_verified = coalesce(r.was_verified, f.was_verified),
    inputs = coalesce(r.inputs, f.inputs),
    rate_drop = coalesce(r.rate_drop, f.rate_drop),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, fix_id text, note text, standing text, ended_as text, judged_at timestamptz,
    quiet_days double precision, confidence double precision, broken_by text, broken_at timestamptz,
    was_verified boolean, inputs text, rate_drop text, updated_at timestamptz)
WHERE f.workspace_id = r.workspace_id AND f.fix_id = r.fix_id;

-- The fixes of these patterns, the latest first.
-- row: FixesRow
-- name: ListFixes :many
SELECT workspace_id, fix_id, seq, pattern_id, recommendation_ids, note, environment, version, fixed_at, standing, ended_as,
       judged_at, quiet_days, confidence, broken_by, broken_at, was_verified, inputs, rate_drop, ledger, updated_at
FROM fixes
WHERE workspace_id = sqlc.arg('workspace_id') AND pattern_id = ANY(sqlc.arg('pattern_ids')::text[])
ORDER BY seq DESC
LIMIT sqlc.arg('n_most')::bigint;

-- The fixes that the ledger counts, the latest first, each with the time of the pattern's next one; pattern_id NULL = all.
-- row: LedgerRow
-- column ended_at: datetime | None
-- column pattern_name: str | None
-- name: ListLedger :many
SELECT f.fix_id, f.pattern_id, t.name::text AS pattern_name, f.fixed_at, f.standing, f.inputs, f.ledger,
       (SELECT min(n.fixed_at) FROM fixes AS n
        WHERE n.workspace_id = f.workspace_id AND n.pattern_id = f.pattern_id AND n.seq > f.seq
          AND n.ended_as IS DISTINCT FROM 'withdrawn')::timestamptz AS ended_at
FROM fixes AS f
LEFT JOIN patterns AS t ON t.workspace_id = f.workspace_id AND t.pattern_id = f.pattern_id
WHERE f.workspace_id = sqlc.arg('workspace_id') AND f.ended_as IS DISTINCT FROM 'withdrawn'
  AND (sqlc.narg('pattern_id')::text IS NULL OR f.pattern_id = sqlc.narg('pattern_id')::text)
ORDER BY f.seq DESC
LIMIT sqlc.arg('n_most')::bigint;

-- Write plays of workspaces' own, whole (PlayDefined).
-- name: UpsertPlays :exec
INSERT INTO plays (workspace_id, play_id, seq, play, defined_by, created_at, updated_at)
SELECT r.workspace_id, r.play_id, r.seq, r.play, r.defined_by, r.created_at, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, play_id text, seq bigint, play text, defined_by text, created_at timestamptz,
    updated_at timestamptz)
ON CONFLICT (workspace_id, play_id) DO UPDATE SET
    seq = excluded.seq, play = excluded.play, defined_by = excluded.defined_by, updated_at = excluded.updated_at;

-- Take plays away (PlayWithdrawn).
-- name: DeletePlays :exec
DELETE FROM plays AS p USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, play_id text)
WHERE p.workspace_id = r.workspace_id AND p.play_id = r.play_id;

-- A workspace's own plays.
-- row: PlaysRow
-- name: ListPlays :many
SELECT workspace_id, play_id, seq, play, defined_by, created_at, updated_at FROM plays
WHERE workspace_id = sqlc.arg('workspace_id') ORDER BY play_id;

-- One of a workspace's own plays, if it has it.
-- row: PlaysRow
-- name: FindPlay :many
SELECT workspace_id, play_id, seq, play, defined_by, created_at, updated_at FROM plays
WHERE workspace_id = sqlc.arg('workspace_id') AND play_id = sqlc.arg('play_id') LIMIT 1;

-- Write why nothing is recommended for patterns, the latest (RecommendationWithheld).
-- name: UpsertAbstentions :exec
INSERT INTO abstentions (workspace_id, pattern_id, seq, best_fit, floor, best_play_id, best_play_title,
    playbook_version, withheld_at)
SELECT r.workspace_id, r.pattern_id, r.seq, r.best_fit, r.floor, r.best_play_id, r.best_play_title,
    r.playbook_version, r.withheld_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, seq bigint, best_fit double precision, floor double precision,
    best_play_id text, best_play_title text, playbook_version text, withheld_at timestamptz)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    seq = excluded.seq, best_fit = excluded.best_fit, floor = excluded.floor,
    best_play_id = excluded.best_play_id, best_play_title = excluded.best_play_title,
    playbook_version = excluded.playbook_version, withheld_at = excluded.withheld_at;

-- Why nothing was recommended for a pattern when that was last decided; none when something was, or nothing yet.
-- row: AbstentionsRow
-- name: FindAbstention :one
SELECT workspace_id, pattern_id, seq, best_fit, floor, best_play_id, best_play_title, playbook_version, withheld_at
FROM abstentions
WHERE workspace_id = sqlc.arg('workspace_id') AND pattern_id = sqlc.arg('pattern_id');

-- What a list of recommendations is empty of: those of a pattern (NULL = of all), patterns that go on, and those for
-- which no play fitted.
-- name: CountRecommended :one
SELECT (SELECT count(*) FROM recommendations AS m WHERE m.workspace_id = sqlc.arg('workspace_id')
        AND (sqlc.narg('pattern_id')::text IS NULL OR m.pattern_id = sqlc.narg('pattern_id')::text))::bigint AS n_made,
       (SELECT count(*) FROM patterns AS p WHERE p.workspace_id = sqlc.arg('workspace_id') AND p.is_shown
        AND p.status NOT IN ('resolved', 'merged'))::bigint AS n_patterns,
       (SELECT count(*) FROM patterns AS p JOIN abstentions AS a
        ON a.workspace_id = p.workspace_id AND a.pattern_id = p.pattern_id
        WHERE p.workspace_id = sqlc.arg('workspace_id') AND p.is_shown
        AND p.status NOT IN ('resolved', 'merged'))::bigint AS n_withheld;

-- Write the linkers that a workspace can be grouped by; the shipped one may be another since (GroupingVersionFitted).
-- name: UpsertGroupingVersions :exec
INSERT INTO grouping_versions (workspace_id, version_id, seq, version, fitted_at, n_decisions, n_joining, shipped_loss,
    loss, is_better, linker, shipped)
SELECT r.workspace_id, r.version_id, r.seq, r.version, r.fitted_at, r.n_decisions, r.n_joining, r.shipped_loss, r.loss,
    r.is_better, r.linker, r.shipped
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, version_id text, seq bigint, version text, fitted_at timestamptz, n_decisions bigint,
    n_joining bigint, shipped_loss double precision, loss double precision, is_better boolean, linker text,
    shipped text)
ON CONFLICT (workspace_id, version_id) DO UPDATE SET
    version = excluded.version, linker = excluded.linker, shipped = excluded.shipped;

-- Note the version that each workspace is grouped by (GroupingVersionActivated).
-- name: UpsertGroupings :exec
INSERT INTO groupings (workspace_id, version_id, activated_at, activated_by)
SELECT r.workspace_id, r.version_id, r.activated_at, r.activated_by
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, version_id text, activated_at timestamptz, activated_by text)
ON CONFLICT (workspace_id) DO UPDATE SET
    version_id = excluded.version_id, activated_at = excluded.activated_at, activated_by = excluded.activated_by;

-- Write what versions would move, in the place of what was found out before (GroupingVersionCompared).
-- name: UpsertGroupingComparisons :exec
INSERT INTO grouping_comparisons (workspace_id, version_id, run_id, compared_at, base_version_id, base_version, n_texts,
    n_asked, n_decided, n_moved, n_joining, n_leaving, moves)
SELECT r.workspace_id, r.version_id, r.run_id, r.compared_at, r.base_version_id, r.base_version, r.n_texts, r.n_asked,
    r.n_decided, r.n_moved, r.n_joining, r.n_leaving, r.moves
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, version_id text, run_id text, compared_at timestamptz, base_version_id text, base_version text,
    n_texts bigint, n_asked bigint, n_decided bigint, n_moved bigint, n_joining bigint, n_leaving bigint, moves text)
ON CONFLICT (workspace_id, version_id) DO UPDATE SET
    run_id = excluded.run_id, compared_at = excluded.compared_at, base_version_id = excluded.base_version_id,
    base_version = excluded.base_version, n_texts = excluded.n_texts, n_asked = excluded.n_asked,
    n_decided = excluded.n_decided, n_moved = excluded.n_moved, n_joining = excluded.n_joining,
    n_leaving = excluded.n_leaving, moves = excluded.moves;

-- What a version would move, as last found out.
-- name: GetGroupingComparison :one
SELECT * FROM grouping_comparisons WHERE workspace_id = $1 AND version_id = $2;

-- The titles of issues that are there.
-- row: TitleOfIssue
-- name: ListIssueTitles :many
SELECT issue_id, title FROM issues
WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id = ANY(sqlc.arg(issue_ids)::text[])
ORDER BY issue_id;

-- ConnectorCreated: one connector per row.
-- name: InsertConnectors :exec
INSERT INTO connectors (workspace_id, connector_id, seq, type, display_name, config, auth, schedule, streams, mapping,
    manifest, status, reason, detail, status_changed_at, secrets, created_by, created_at, updated_at)
SELECT r.workspace_id, r.connector_id, r.seq, r.type, r.display_name, r.config, r.auth, r.schedule, r.streams, r.mapping,
    r.manifest, r.status, r.reason, r.detail, r.status_changed_at, r.secrets, r.created_by, r.created_at, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, connector_id text, seq bigint, type text, display_name text, config text, auth integer,
    schedule text, streams text, mapping text, manifest text, status text, reason text, detail text,
    status_changed_at timestamptz, secrets text, created_by text, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, connector_id) DO NOTHING;

-- ConnectorConfigured (all settings at once), ConnectorCredentialsChanged, ConnectorStatusChanged: the columns that are there.
-- name: UpdateConnectors :exec
UPDATE connectors AS c SET
    display_name = coalesce(r.display_name, c.display_name),
    config = coalesce(r.config, c.config),
    auth = coalesce(r.auth, c.auth),
    schedule = CASE WHEN r.type IS NULL THEN c.schedule ELSE r.schedule END,
    streams = coalesce(r.streams, c.streams),
    mapping = coalesce(r.mapping, c.mapping),
    manifest = CASE WHEN r.type IS NULL THEN c.manifest ELSE r.manifest END,
    status = coalesce(r.status, c.status),
    reason = coalesce(r.reason, c.reason),
    detail = coalesce(r.detail, c.detail),
    status_changed_at = coalesce(r.status_changed_at, c.status_changed_at),
    secrets = coalesce(r.secrets, c.secrets),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, connector_id text, type text, display_name text, config text, auth integer, schedule text,
    streams text, mapping text, manifest text, status text, reason text, detail text, status_changed_at timestamptz,
    secrets text, updated_at timestamptz)
WHERE c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id;

-- ConnectorDeleted: the connector.
-- name: DeleteConnectors :exec
DELETE FROM connectors AS c USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, connector_id text)
WHERE c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id;

-- ConnectorDeleted: its runs are shown to nobody.
-- name: ExpireSyncRuns :exec
UPDATE sync_runs AS s SET expired_at = r.expired_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, connector_id text, expired_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.connector_id = r.connector_id AND s.expired_at IS NULL;

-- SyncRunsPurged.
-- name: PurgeSyncRuns :exec
DELETE FROM sync_runs AS s USING json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, run_id text)
WHERE s.workspace_id = r.workspace_id AND s.run_id = r.run_id;

-- Runs that ended before a moment, or before a later one if nothing came of them, the oldest first, behind a place in that
-- order; of each connector the last poll, the last that succeeded and the last so many that ended are not among them, but
-- all that ended of one that was deleted before a moment.
-- column since_at: datetime
-- row: Over
-- name: ListOverRuns :many
SELECT s.run_id, s.ended_at AS since_at, s.seq FROM sync_runs AS s
WHERE s.workspace_id = sqlc.arg(workspace_id) AND s.ended_at < sqlc.arg(quiet_before)::timestamptz
  AND (s.expired_at < sqlc.arg(expired_before)::timestamptz OR (
  (s.ended_at < sqlc.arg(ended_before)::timestamptz
       OR (s.kind = 'scheduled' AND s.status = 'succeeded' AND s.n_created + s.n_updated + s.n_rejected = 0))
  AND (s.kind NOT IN ('scheduled', 'manual') OR EXISTS (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.kind IN ('scheduled', 'manual')))
  AND (s.status <> 'succeeded' OR EXISTS (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.status = 'succeeded'))
  AND (SELECT count(*) FROM (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.ended_at > s.ended_at AND n.status <> 'cancelled'
    LIMIT sqlc.arg(kept)::integer) AS later) >= sqlc.arg(kept)::integer))
  AND (s.ended_at, s.seq) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_seq)::bigint)
ORDER BY s.ended_at, s.seq LIMIT sqlc.arg(n);

-- SyncRequested, with what the same batch says of the run; one that was asked for behind the end of its connector is
-- shown to nobody.
-- name: InsertSyncRuns :exec
INSERT INTO sync_runs (workspace_id, run_id, connector_id, seq, kind, status, window_start, window_end, requested_by,
    requested_at, started_at, ended_at, n_chunks_done, n_chunks, n_records, n_created, n_updated, n_unchanged, n_ignored,
    n_rejected, reason, detail, updated_at, expired_at)
SELECT r.workspace_id, r.run_id, r.connector_id, r.seq, r.kind, r.status, r.window_start, r.window_end, r.requested_by,
    r.requested_at, r.started_at, r.ended_at, r.n_chunks_done, r.n_chunks, r.n_records, r.n_created, r.n_updated,
    r.n_unchanged, r.n_ignored, r.n_rejected, r.reason, r.detail, r.updated_at,
    coalesce(r.expired_at, CASE WHEN c.connector_id IS NULL THEN r.requested_at END)
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, run_id text, connector_id text, seq bigint, kind text, status text, window_start timestamptz,
    window_end timestamptz, requested_by text, requested_at timestamptz, started_at timestamptz, ended_at timestamptz,
    n_chunks_done integer, n_chunks integer, n_records bigint, n_created bigint, n_updated bigint, n_unchanged bigint,
    n_ignored bigint, n_rejected bigint, reason text, detail text, updated_at timestamptz, expired_at timestamptz)
LEFT JOIN connectors AS c ON c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id
ON CONFLICT (workspace_id, run_id) DO NOTHING;

-- SyncProgressed, SyncEnded: the columns that are there; it started when it first went on.
-- name: UpdateSyncRuns :exec
UPDATE sync_runs AS s SET
    status = r.status,
    started_at = coalesce(s.started_at, r.started_at),
    ended_at = coalesce(r.ended_at, s.ended_at),
    n_chunks_done = coalesce(r.n_chunks_done, s.n_chunks_done),
    n_chunks = coalesce(r.n_chunks, s.n_chunks),
    n_records = r.n_records,
    n_created = r.n_created,
    n_updated = r.n_updated,
    n_unchanged = r.n_unchanged,
    n_ignored = r.n_ignored,
    n_rejected = r.n_rejected,
    reason = coalesce(r.reason, s.reason),
    detail = coalesce(r.detail, s.detail),
    updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, run_id text, status text, started_at timestamptz, ended_at timestamptz, n_chunks_done integer,
    n_chunks integer, n_records bigint, n_created bigint, n_updated bigint, n_unchanged bigint, n_ignored bigint,
    n_rejected bigint, reason text, detail text, updated_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.run_id = r.run_id;

-- TicketCreated, with what the same batch says of the ticket.
-- name: InsertTickets :exec
INSERT INTO tickets (workspace_id, ticket_id, seq, recommendation_id, connector_id, tracker, external_id, external_url,
    target, is_found, state, external_status, created_by, created_at, updated_at)
SELECT r.workspace_id, r.ticket_id, r.seq, r.recommendation_id, r.connector_id, r.tracker, r.external_id, r.external_url,
    r.target, r.is_found, r.state, r.external_status, r.created_by, r.created_at, r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, ticket_id text, seq bigint, recommendation_id text, connector_id text, tracker text,
    external_id text, external_url text, target text, is_found boolean, state text, external_status text,
    created_by text, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, ticket_id) DO NOTHING;

-- TicketStateChanged: where the ticket stands now.
-- name: UpdateTickets :exec
UPDATE tickets AS t SET state = r.state, external_status = r.external_status, updated_at = r.updated_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, ticket_id text, state text, external_status text, updated_at timestamptz)
WHERE t.workspace_id = r.workspace_id AND t.ticket_id = r.ticket_id;

-- The tickets of these recommendations, the oldest first.
-- name: ListTickets :many
SELECT ticket_id, recommendation_id, connector_id, tracker, external_id, external_url, target, is_found, state,
       external_status, created_by, created_at, updated_at
FROM tickets
WHERE workspace_id = sqlc.arg('workspace_id') AND recommendation_id = ANY(sqlc.arg('recommendation_ids')::text[])
ORDER BY seq;

-- How many connectors a workspace has, how many of them are connected, and how their first run stands: one that succeeded,
-- else one that runs, else the first of all.
-- name: CountConnectors :one
SELECT count(*) AS n_connectors, count(*) FILTER (WHERE status = 'connected') AS n_connected,
       coalesce(
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = sqlc.arg('workspace_id') AND r.status = 'succeeded' LIMIT 1),
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = sqlc.arg('workspace_id') AND r.status = 'running' LIMIT 1),
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = sqlc.arg('workspace_id') ORDER BY r.seq LIMIT 1))::text AS first_run_status
FROM connectors
WHERE workspace_id = sqlc.arg('workspace_id');

-- Which connectors issues came through.
-- name: ListIssueConnectors :many
SELECT issue_id, connector_id FROM issues
WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id = ANY (sqlc.arg(issue_ids)::text[]);
