-- Count the new issues of a batch by source and day (IssueReported).
-- name: CountNewIssues :exec
INSERT INTO sources_daily AS s (workspace_id, day, source, n_issues, last_occurred_at, last_recorded_at)
SELECT r.workspace_id, r.day, r.source, r.n_issues, r.last_occurred_at, r.last_recorded_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, day date, source text, n_issues bigint,
    last_occurred_at timestamptz, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, source) DO UPDATE SET
    n_issues = s.n_issues + excluded.n_issues,
    last_occurred_at = greatest(s.last_occurred_at, excluded.last_occurred_at),
    last_recorded_at = greatest(s.last_recorded_at, excluded.last_recorded_at);

-- Count the changes of a batch by outcome and day (IssueUpdated, IssueClosed, IssueCommented, AnalysisRecorded).
-- name: CountChanges :exec
INSERT INTO changes_daily AS c (workspace_id, day, outcome, n_changes, last_recorded_at)
SELECT r.workspace_id, r.day, r.outcome, r.n_changes, r.last_recorded_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, day date, outcome text, n_changes bigint, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, outcome) DO UPDATE SET
    n_changes = c.n_changes + excluded.n_changes,
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at);

-- Count no longer what came in before a day (IssuesPurged).
-- name: ForgetSources :exec
DELETE FROM sources_daily WHERE workspace_id = sqlc.arg(workspace_id) AND day < sqlc.arg(day)::date;

-- Count no longer what changed before a day (IssuesPurged).
-- name: ForgetChanges :exec
DELETE FROM changes_daily WHERE workspace_id = sqlc.arg(workspace_id) AND day < sqlc.arg(day)::date;

-- Sources by what they delivered since a day, the most recently seen first.
-- row: SourceIntake
-- name: ListSources :many
SELECT workspace_id, source, sum(n_issues)::bigint AS n_issues,
       max(last_occurred_at)::timestamptz AS last_occurred_at,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM sources_daily
WHERE day >= sqlc.arg('since')::date
GROUP BY workspace_id, source
ORDER BY max(last_recorded_at) DESC, workspace_id, source
LIMIT sqlc.arg('row_limit');

-- Changes to known issues since a day, the most recent first.
-- row: ChangeIntake
-- name: ListChanges :many
SELECT workspace_id, outcome, sum(n_changes)::bigint AS n_changes,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM changes_daily
WHERE day >= sqlc.arg('since')::date
GROUP BY workspace_id, outcome
ORDER BY max(last_recorded_at) DESC, workspace_id, outcome
LIMIT sqlc.arg('row_limit');
