-- Lead the jobs of governance, if nobody does: one process works for all gateways, until its connection ends.
-- always
-- name: TryLead :one
SELECT pg_try_advisory_lock(hashtextextended('identity/governance', 0)) AS leads;

-- Name what this transaction may see.
-- always
-- name: See :one
SELECT set_config('app.current_workspace', sqlc.arg(workspace_id)::text, true)::text AS scope;

-- Whether the plan of the current workspace has a feature, and which plan it is.
-- column is_included: bool
-- row: PlanFeature
-- name: GetPlanFeature :one
SELECT p.plan, sqlc.arg(feature)::text = ANY (p.features) AS is_included, p.retention_days
FROM workspaces AS w JOIN organizations AS o ON o.organization_id = w.organization_id JOIN plans AS p ON p.plan = o.plan
WHERE w.workspace_id = sqlc.arg(workspace_id);

-- What is kept how long, as it was asked for and as it holds under the plan.
-- row: Retention
-- name: GetRetention :one
SELECT s.issues_days, s.activity_days, s.audit_days, s.prompt_logs_days, s.predictions_days, s.grace_days, s.updated_at,
    p.plan, p.retention_days AS plan_days
FROM workspace_settings AS s JOIN workspaces AS w ON w.workspace_id = s.workspace_id
JOIN organizations AS o ON o.organization_id = w.organization_id JOIN plans AS p ON p.plan = o.plan
WHERE s.workspace_id = sqlc.arg(workspace_id);

-- Keep something longer or shorter; what is null stays.
-- name: ChangeRetention :exec
UPDATE workspace_settings SET
    issues_days = COALESCE(sqlc.narg(issues_days)::integer, issues_days),
    activity_days = COALESCE(sqlc.narg(activity_days)::integer, activity_days),
    audit_days = COALESCE(sqlc.narg(audit_days)::integer, audit_days),
    prompt_logs_days = COALESCE(sqlc.narg(prompt_logs_days)::integer, prompt_logs_days),
    predictions_days = COALESCE(sqlc.narg(predictions_days)::integer, predictions_days),
    grace_days = COALESCE(sqlc.narg(grace_days)::integer, grace_days),
    updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id);

-- How long each workspace keeps what.
-- row: Windows
-- name: ListRetentionWindows :many
SELECT r.workspace_id::text AS workspace_id, r.issues_days::integer AS issues_days,
    r.prompt_logs_days::integer AS prompt_logs_days, r.predictions_days::integer AS predictions_days,
    r.grace_days::integer AS grace_days
FROM all_retention_windows() AS r;

-- Delete what is past its window and its grace: entries of the audit log.
-- always
-- name: PurgeAudit :one
SELECT purge_audit(sqlc.arg(workspace_id)::text)::bigint AS n_purged;

-- Delete what is past its window and its grace: what members and their programs did.
-- always
-- name: PurgeActivity :one
SELECT purge_activity(sqlc.arg(workspace_id)::text)::bigint AS n_purged;

-- Delete people of whom no workspace has anything but ids.
-- always
-- name: PurgePeople :one
SELECT purge_people()::bigint AS n_purged;

-- Ask for a copy.
-- name: InsertExport :exec
INSERT INTO export_jobs (workspace_id, export_id, kind, requested_by, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(export_id), sqlc.arg(kind), sqlc.arg(requested_by), sqlc.arg(created_at));

-- An export as lists show it.
-- column files: str
-- row: Export
-- name: GetExport :one
SELECT export_id, kind, status, requested_by, file_name, size_bytes, sha256, files::text AS files, error, created_at, started_at,
    finished_at, expires_at, seq
FROM exports WHERE workspace_id = sqlc.arg(workspace_id) AND export_id = sqlc.arg(export_id);

-- Exports that have to be written, whoever's.
-- row: OpenExport
-- name: ListOpenExports :many
SELECT e.workspace_id, e.export_id, e.kind, e.status, e.requested_by, e.n_attempts, e.created_at FROM open_exports() AS e;

-- Exports whose file has to go, whoever's.
-- row: KeptExport
-- name: ListExpiredExports :many
SELECT e.workspace_id, e.export_id, e.file_name FROM expired_exports(sqlc.arg(now)::timestamptz) AS e;

-- Exports of a workspace that have a file.
-- row: ExportFile
-- name: ListExportFiles :many
SELECT export_id, file_name FROM export_jobs WHERE workspace_id = sqlc.arg(workspace_id);

-- Begin to write an export, or begin again; none when it is over or gone.
-- name: BeginExport :execrows
UPDATE export_jobs SET status = 'running', n_attempts = n_attempts + 1, started_at = sqlc.arg(started_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND export_id = sqlc.arg(export_id) AND status IN ('queued', 'running');

-- The file is there; none when what it holds was overtaken: the export begins again, or is gone.
-- name: FinishExport :execrows
UPDATE export_jobs SET status = 'succeeded', file_name = sqlc.arg(file_name), size_bytes = sqlc.arg(size_bytes),
    sha256 = sqlc.arg(sha256), files = sqlc.arg(files)::jsonb, finished_at = sqlc.arg(finished_at),
    expires_at = sqlc.arg(expires_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND export_id = sqlc.arg(export_id) AND status = 'running'
    AND started_at = sqlc.arg(started_at)::timestamptz;

-- Have the files of a workspace deleted that name somebody who is forgotten.
-- name: ExpireExports :execrows
UPDATE export_jobs SET expires_at = sqlc.arg(now)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'succeeded';

-- Have those written again that are being written.
-- name: RestartExports :execrows
UPDATE export_jobs SET status = 'queued', started_at = NULL
WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'running';

-- The file is not there, or not any more.
-- name: EndExport :exec
UPDATE export_jobs SET status = sqlc.arg(status), error = sqlc.arg(error), file_name = NULL,
    finished_at = COALESCE(finished_at, sqlc.arg(finished_at)::timestamptz)
WHERE workspace_id = sqlc.arg(workspace_id) AND export_id = sqlc.arg(export_id);

-- The person with this address or id who is or was in the current workspace.
-- name: FindSubject :one
SELECT f.user_id::text AS user_id FROM find_subject_here(sqlc.arg(subject)::text) AS f;

-- What a person is in the workspace, kept from changing until this transaction ends.
-- name: LockRole :one
SELECT role FROM memberships WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id) FOR UPDATE;

-- Take in that somebody wants to be forgotten.
-- name: InsertRequest :exec
INSERT INTO rtbf_requests (workspace_id, request_id, subject_id, reason, requested_by, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(request_id), sqlc.arg(subject_id), sqlc.arg(reason), sqlc.arg(requested_by),
    sqlc.arg(now), sqlc.arg(now));

-- A request as lists show it.
-- column certificate: str | None
-- row: ErasureRequest
-- name: GetRequest :one
SELECT request_id, subject_id, status, reason, notes, requested_by, decided_by, certificate::text AS certificate, created_at,
    updated_at, completed_at, seq
FROM rtbf_requests WHERE workspace_id = sqlc.arg(workspace_id) AND request_id = sqlc.arg(request_id);

-- The same, kept from changing until this transaction ends.
-- column certificate: str | None
-- row: ErasureRequest
-- name: LockRequest :one
SELECT request_id, subject_id, status, reason, notes, requested_by, decided_by, certificate::text AS certificate, created_at,
    updated_at, completed_at, seq
FROM rtbf_requests WHERE workspace_id = sqlc.arg(workspace_id) AND request_id = sqlc.arg(request_id)
FOR UPDATE;

-- Where a request is now; what is null stays.
-- name: ChangeRequest :exec
UPDATE rtbf_requests SET status = sqlc.arg(status), notes = COALESCE(sqlc.narg(notes)::text, notes),
    decided_by = COALESCE(sqlc.narg(decided_by)::text, decided_by),
    certificate = COALESCE(sqlc.narg(certificate)::jsonb, certificate),
    completed_at = COALESCE(sqlc.narg(completed_at)::timestamptz, completed_at), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND request_id = sqlc.arg(request_id);

-- Delete what the current workspace has of a person; what was deleted, as JSON.
-- always
-- name: ErasePerson :one
SELECT erase_person(sqlc.arg(user_id)::text)::text AS erased;

-- Have the current workspace erased.
-- always
-- name: RequestErasure :one
SELECT request_erasure_here(sqlc.arg(actor)::text, sqlc.narg(ip)::text)::text AS erasure_id;

-- The workspace's slug, which has to be typed before it is erased.
-- name: GetSlug :one
SELECT slug FROM workspaces WHERE workspace_id = sqlc.arg(workspace_id);

-- Erasures that go on, and those that ended lately.
-- column identity: str | None
-- row: OpenErasure
-- name: ListOpenErasures :many
SELECT e.workspace_id, e.erasure_id, e.organization_id, e.status, e.identity::text AS identity, e.purged, e.files, e.requested_at
FROM open_erasures(sqlc.arg(since)::timestamptz) AS e;

-- Whether the log has every fact of a workspace.
-- always
-- name: IsTold :one
SELECT is_told(sqlc.arg(workspace_id)::text)::boolean AS is_told;

-- Delete every row of identity that a workspace has; how many, as JSON.
-- always
-- name: EraseWorkspaceRows :one
SELECT erase_workspace_rows(sqlc.arg(workspace_id)::text)::text AS erased;

-- Add to what an erasure has deleted.
-- name: NoteErasure :exec
SELECT note_erasure(sqlc.arg(workspace_id)::text, sqlc.arg(purged)::bigint, sqlc.arg(files)::bigint);

-- Nothing is left: keep the certificate.
-- name: CompleteErasure :exec
SELECT complete_erasure(sqlc.arg(workspace_id)::text, sqlc.arg(certificate)::jsonb, sqlc.arg(now)::timestamptz);

-- Whether a workspace was erased, or is being.
-- always
-- name: IsErased :one
SELECT EXISTS (SELECT FROM erasures WHERE workspace_id = sqlc.arg(workspace_id))::boolean AS is_erased;
