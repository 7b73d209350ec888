-- What a session is good for now; nothing when it was revoked, or is nobody's of that workspace.
-- column requests_per_minute: int | None
-- name: GetSessionStanding :one
SELECT s.workspace_id::text AS workspace_id, s.organization_id::text AS organization_id,
    s.principal_id::text AS principal_id, s.role::text AS role, s.is_active::boolean AS is_active,
    s.owes_second_factor::boolean AS owes_second_factor, s.expires_at::timestamptz AS expires_at,
    s.requests_per_minute::integer AS requests_per_minute, s.is_vouched::boolean AS is_vouched
FROM session_standing(sqlc.arg(workspace_id)::text, sqlc.arg(user_id)::text, sqlc.arg(session_id)::text)
    AS s (workspace_id, organization_id, principal_id, role, is_active, owes_second_factor, expires_at,
        requests_per_minute, is_vouched);

-- What an API token, found by the hash of its secret or by its id, is good for now; nothing when it was revoked or never was.
-- column role: str | None
-- column expires_at: datetime | None
-- column requests_per_minute: int | None
-- name: GetTokenStanding :one
SELECT t.workspace_id::text AS workspace_id, t.organization_id::text AS organization_id,
    t.principal_id::text AS principal_id, t.token_id::text AS token_id, t.role::text AS role, t.scopes::text[] AS scopes,
    t.is_active::boolean AS is_active, t.expires_at::timestamptz AS expires_at,
    t.requests_per_minute::integer AS requests_per_minute
FROM token_standing(sqlc.arg(token_hash)::text, sqlc.arg(token_id)::text)
    AS t (workspace_id, organization_id, principal_id, token_id, role, scopes, is_active, expires_at,
        requests_per_minute);

-- Note when sessions and tokens were used last; rows are [{workspace_id, user_id, used_id, used_at}].
-- name: MarkUsed :exec
SELECT mark_used(sqlc.arg(used)::jsonb);

-- Let go of the name of a token that expired so long ago that nobody is shown it.
-- name: FreeTokenName :exec
UPDATE api_tokens AS t SET revoked_at = t.expires_at
WHERE t.workspace_id = sqlc.arg(workspace_id) AND COALESCE(t.user_id, t.service_account_id) = sqlc.arg(owner_id)::text
    AND t.name = sqlc.arg(name) AND t.revoked_at IS NULL
    AND NOT EXISTS (SELECT FROM api_tokens_shown AS s WHERE s.workspace_id = t.workspace_id AND s.token_id = t.token_id);

-- Make an API token of a person or of a service account.
-- row: ApiToken
-- name: InsertApiToken :one
INSERT INTO api_tokens (workspace_id, token_id, user_id, service_account_id, name, token_hash, hint, scopes, created_by,
    created_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(token_id), sqlc.narg(user_id), sqlc.narg(service_account_id), sqlc.arg(name),
    sqlc.arg(token_hash), sqlc.arg(hint), sqlc.arg(scopes), sqlc.arg(created_by), sqlc.arg(created_at),
    sqlc.narg(expires_at))
RETURNING token_id, user_id, service_account_id, name, hint, scopes, created_by, created_at, expires_at, last_used_at,
    seq;

-- An API token of an owner that was not revoked, kept from changing until this transaction ends.
-- row: ApiToken
-- name: LockApiToken :one
SELECT t.token_id, t.user_id, t.service_account_id, t.name, t.hint, t.scopes, t.created_by, t.created_at, t.expires_at,
    t.last_used_at, t.seq
FROM api_tokens AS t
WHERE t.workspace_id = sqlc.arg(workspace_id) AND t.token_id = sqlc.arg(token_id)
    AND COALESCE(t.user_id, t.service_account_id) = sqlc.arg(owner_id)::text AND t.revoked_at IS NULL
    AND EXISTS (SELECT FROM api_tokens_shown AS s WHERE s.workspace_id = t.workspace_id AND s.token_id = t.token_id)
FOR UPDATE;

-- Give an API token another secret; the old one is dead at once.
-- name: ChangeSecret :exec
UPDATE api_tokens SET token_hash = sqlc.arg(token_hash), hint = sqlc.arg(hint)
WHERE workspace_id = sqlc.arg(workspace_id) AND token_id = sqlc.arg(token_id);

-- End an API token for ever.
-- name: RevokeApiToken :exec
UPDATE api_tokens SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND token_id = sqlc.arg(token_id);

-- Make a service account.
-- row: ServiceAccount
-- name: InsertServiceAccount :one
INSERT INTO service_accounts (workspace_id, service_account_id, name, description, created_by, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(service_account_id), sqlc.arg(name), sqlc.arg(description),
    sqlc.arg(created_by), sqlc.arg(created_at), sqlc.arg(created_at))
RETURNING service_account_id, name, description, status, created_by, created_at, updated_at, seq;

-- A service account.
-- row: ServiceAccount
-- name: GetServiceAccount :one
SELECT service_account_id, name, description, status, created_by, created_at, updated_at, seq FROM service_accounts
WHERE workspace_id = sqlc.arg(workspace_id) AND service_account_id = sqlc.arg(service_account_id);

-- Change a service account; what is null stays.
-- row: ServiceAccount
-- name: UpdateServiceAccount :one
UPDATE service_accounts SET name = COALESCE(sqlc.narg(name)::text, name),
    description = COALESCE(sqlc.narg(description)::text, description),
    status = COALESCE(sqlc.narg(status)::text, status), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND service_account_id = sqlc.arg(service_account_id)
RETURNING service_account_id, name, description, status, created_by, created_at, updated_at, seq;

-- Delete a service account with its tokens.
-- name: DeleteServiceAccount :execrows
DELETE FROM service_accounts
WHERE workspace_id = sqlc.arg(workspace_id) AND service_account_id = sqlc.arg(service_account_id);
