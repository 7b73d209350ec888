-- migrate:up

-- What members did and is over: a window later it is shown to nobody, and deleted after the grace. Views and no
-- policy: who is invited again takes the place of an old invitation, and whoever ends an export has to find it. Sessions
-- are shown while they last, so there is nothing of them to hide.
CREATE VIEW invitations_shown WITH (security_invoker = true) AS
SELECT i.workspace_id, i.invitation_id, i.user_id, i.email, i.role, i.status, i.delivery, i.delivery_error, i.invited_by,
    i.created_at, i.expires_at, i.settled_at, i.seq
FROM invitations AS i JOIN retention_windows AS r ON r.workspace_id = i.workspace_id
-- Whoever is invited again settles an invitation that was over long before.
WHERE LEAST(i.settled_at, i.expires_at) >= now() - make_interval(days => r.activity_days);

CREATE VIEW api_tokens_shown WITH (security_invoker = true) AS
SELECT t.workspace_id, t.token_id, t.user_id, t.service_account_id, t.name, t.hint, t.scopes, t.created_by, t.created_at,
    t.expires_at, t.last_used_at, t.revoked_at, t.seq
FROM api_tokens AS t JOIN retention_windows AS r ON r.workspace_id = t.workspace_id
WHERE (LEAST(t.revoked_at, t.expires_at) < now() - make_interval(days => r.activity_days)) IS NOT TRUE;

CREATE OR REPLACE VIEW exports WITH (security_invoker = true) AS
SELECT e.workspace_id, e.export_id, e.kind, e.status, e.requested_by, e.file_name, e.size_bytes, e.sha256,
    e.files::text AS files, e.error, e.created_at, e.started_at, e.finished_at, e.expires_at, e.seq
FROM export_jobs AS e JOIN retention_windows AS r ON r.workspace_id = e.workspace_id
WHERE (e.status IN ('failed', 'expired') AND e.finished_at < now() - make_interval(days => r.activity_days)) IS NOT TRUE;

GRANT SELECT ON invitations_shown, api_tokens_shown TO causeloop_app;

-- migrate:down

CREATE OR REPLACE VIEW exports WITH (security_invoker = true) AS
SELECT workspace_id, export_id, kind, status, requested_by, file_name, size_bytes, sha256, files::text AS files, error,
    created_at, started_at, finished_at, expires_at, seq
FROM export_jobs;
DROP VIEW api_tokens_shown, invitations_shown;
