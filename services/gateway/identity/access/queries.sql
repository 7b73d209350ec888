-- What a session is good for now; nothing when it was revoked, or is nobody's of that workspace.
-- column requests_per_minute: int | None
-- name: GetSessionStanding :one
SELECT s.workspace_id::text AS workspace_id, s.organization_id::text AS organization_id,
    s.principal_id::text AS principal_id, s.role::text AS role, s.is_active::boolean AS is_active,
    s.owes_second_factor::boolean AS owes_second_factor, s.expires_at::timestamptz AS expires_at,
    s.requests_per_minute::integer AS requests_per_minute
FROM session_standing(sqlc.arg(workspace_id)::text, sqlc.arg(user_id)::text, sqlc.arg(session_id)::text)
    AS s (workspace_id, organization_id, principal_id, role, is_active, owes_second_factor, expires_at,
        requests_per_minute);

-- What an API token is good for now; nothing when it was revoked or never was.
-- column role: str | None
-- column expires_at: datetime | None
-- column requests_per_minute: int | None
-- name: GetTokenStanding :one
SELECT t.workspace_id::text AS workspace_id, t.organization_id::text AS organization_id,
    t.principal_id::text AS principal_id, t.token_id::text AS token_id, t.role::text AS role, t.scopes::text[] AS scopes,
    t.is_active::boolean AS is_active, t.expires_at::timestamptz AS expires_at,
    t.requests_per_minute::integer AS requests_per_minute
FROM token_standing(sqlc.arg(token_hash)::text)
    AS t (workspace_id, organization_id, principal_id, token_id, role, scopes, is_active, expires_at,
        requests_per_minute);

-- Note when sessions and tokens were used last; rows are [{workspace_id, user_id, used_id, used_at}].
-- name: MarkUsed :exec
SELECT mark_used(sqlc.arg(used)::jsonb);
