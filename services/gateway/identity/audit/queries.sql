-- Recompute the chain of the workspace that the transaction names, and say where it is broken first.
-- always
-- column first_number: int | None
-- column problem: str | None
-- column problem_number: int | None
-- row: AuditVerdict
-- name: VerifyAudit :one
SELECT v.n_entries::bigint AS n_entries, v.first_number::bigint AS first_number, v.last_number::bigint AS last_number,
    encode(v.head_hash, 'hex')::text AS head_hash, v.problem::text AS problem, v.problem_number::bigint AS problem_number
FROM verify_audit_here() AS v (n_entries, first_number, last_number, head_hash, problem, problem_number);

-- An audit entry as lists show it.
-- column metadata: str
-- column hash: str
-- row: AuditEntry
-- name: GetAuditEntry :one
SELECT entry_id, occurred_at, actor_id, actor_name, action, category, target_type, target_id, metadata, ip, hash, seq
FROM audit_entries WHERE workspace_id = sqlc.arg(workspace_id) AND entry_id = sqlc.arg(entry_id);

-- Entries for an export, the oldest first, after one of them.
-- column metadata: str
-- column previous_hash: str
-- column hash: str
-- row: AuditLine
-- name: PageAudit :many
SELECT l.entry_number, l.entry_id, l.occurred_at, l.actor_id, l.action, l.category, l.target_type, l.target_id,
    l.metadata::text AS metadata, l.ip, encode(l.previous_hash, 'hex') AS previous_hash, encode(l.hash, 'hex') AS hash
FROM audit_log AS l
WHERE l.workspace_id = sqlc.arg(workspace_id) AND l.entry_number > sqlc.arg(after)::bigint
ORDER BY l.entry_number LIMIT sqlc.arg(page_size)::integer;
