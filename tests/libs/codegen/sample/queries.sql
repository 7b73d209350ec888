-- Write the newest state of each issue of a batch; an event seen before changes nothing.
-- name: UpsertIssues :execrows
INSERT INTO issue (workspace_id, issue_id, title, severity, service, risk, n_seen, metadata, tags, occurred_at, seq)
SELECT r.workspace_id, r.issue_id, r.title, r.severity, r.service, r.risk, r.n_seen, r.metadata, r.tags,
       r.occurred_at, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, title text, severity text, service text, risk double precision,
    n_seen bigint, metadata jsonb, tags text[], occurred_at timestamptz, seq bigint)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    title = excluded.title, severity = excluded.severity, service = excluded.service,
    n_seen = issue.n_seen + excluded.n_seen, metadata = excluded.metadata, seq = excluded.seq
WHERE issue.seq < excluded.seq;

-- Rename many issues at once.
-- name: RetitleIssues :exec
UPDATE issue SET title = r.title, seq = r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, issue_id text, title text, seq bigint)
WHERE issue.workspace_id = r.workspace_id AND issue.issue_id = r.issue_id;

-- One page of issues, newest first; a filter that is NULL does not apply.
-- name: ListIssues :many
SELECT * FROM issue
WHERE workspace_id = sqlc.arg('workspace_id')
  AND (sqlc.narg('severities')::text[] IS NULL OR severity = ANY(sqlc.narg('severities')::text[]))
  AND (sqlc.narg('service')::text IS NULL OR service = sqlc.narg('service')::text)
  AND (sqlc.narg('before_at')::timestamptz IS NULL
       OR (occurred_at, issue_id) < (sqlc.narg('before_at')::timestamptz, sqlc.narg('before_id')::text))
ORDER BY occurred_at DESC, issue_id DESC
LIMIT sqlc.arg('page_size');

-- The titles in order.
-- name: ListTitles :many
SELECT title FROM issue WHERE workspace_id = $1 ORDER BY title;

-- The issue with this id, with what a list does not show.
-- row: IssueDetail
-- column metadata: dict[str, object]
-- name: GetIssue :one
SELECT issue_id, title, severity, metadata, occurred_at FROM issue
WHERE workspace_id = $1 AND issue_id = $2;

-- Number of issues of a workspace.
-- always
-- name: CountIssues :one
SELECT count(*) FROM issue WHERE workspace_id = $1;

-- Issues by severity, with the time of the latest one.
-- column last_at: datetime | None
-- name: LatestBySeverity :many
SELECT severity, count(*) AS n_issues, max(occurred_at)::timestamptz AS last_at
FROM issue WHERE workspace_id = $1 GROUP BY severity ORDER BY severity;

-- Forget one issue.
-- name: DeleteIssue :execrows
DELETE FROM issue WHERE workspace_id = $1 AND issue_id = $2;
