-- Name what this transaction may see: a person, a token's hash; a workspace once it is known.
-- always
-- name: Identify :one
SELECT concat(
    set_config('app.current_user', sqlc.arg(user_id)::text, true),
    set_config('app.presented_token_hash', sqlc.arg(token_hash)::text, true),
    set_config('app.current_workspace', sqlc.arg(workspace_id)::text, true))::text AS scope;

-- The person that the issuer's subject is bound to.
-- row: Person
-- name: GetUserBySubject :one
SELECT user_id, email, name, external_id, status FROM users WHERE external_id = sqlc.arg(external_id)::text;

-- The person with this e-mail address, spelled exactly so.
-- row: Person
-- name: GetUserByEmail :one
SELECT user_id, email, name, external_id, status FROM users WHERE email = sqlc.arg(email);

-- The person who was seeded first, for development.
-- row: Person
-- name: GetFirstUser :one
SELECT user_id, email, name, external_id, status FROM users ORDER BY created_at, user_id LIMIT 1;

-- Bind a person to the issuer's subject at the first sign-in; never a second time.
-- name: BindSubject :execrows
UPDATE users SET external_id = sqlc.arg(external_id)::text
WHERE user_id = sqlc.arg(user_id) AND external_id IS NULL;

-- The active memberships of a person, oldest first.
-- name: ListMemberships :many
SELECT m.workspace_id, m.role FROM memberships AS m
WHERE m.user_id = sqlc.arg(user_id) AND m.status = 'active'
ORDER BY m.created_at, m.workspace_id;

-- What a person is in a workspace now, if anything; nothing while one of them is suspended.
-- name: GetRole :one
SELECT m.role FROM memberships AS m
JOIN users AS u ON u.user_id = m.user_id
JOIN workspaces AS w ON w.workspace_id = m.workspace_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.user_id = sqlc.arg(user_id) AND m.status = 'active'
  AND u.status = 'active' AND w.status = 'active';

-- Keep a new refresh token.
-- name: InsertRefreshToken :exec
INSERT INTO refresh_tokens (workspace_id, token_hash, family_id, user_id, issued_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(token_hash), sqlc.arg(family_id), sqlc.arg(user_id), sqlc.arg(issued_at),
    sqlc.arg(expires_at));

-- The refresh token with this hash.
-- name: GetRefreshToken :one
SELECT workspace_id, family_id, user_id, expires_at, used_at, revoked_at FROM refresh_tokens
WHERE token_hash = sqlc.arg(token_hash);

-- Mark a refresh token used; 0 rows when another request was faster.
-- name: UseRefreshToken :execrows
UPDATE refresh_tokens SET used_at = sqlc.arg(used_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND token_hash = sqlc.arg(token_hash)
  AND used_at IS NULL AND revoked_at IS NULL;

-- End a session: every token of a family.
-- name: RevokeFamily :execrows
UPDATE refresh_tokens SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND family_id = sqlc.arg(family_id) AND revoked_at IS NULL;

-- Forget a workspace's refresh tokens that expired.
-- name: DeleteExpiredTokens :execrows
DELETE FROM refresh_tokens
WHERE workspace_id = sqlc.arg(workspace_id) AND expires_at < sqlc.arg(before_at)::timestamptz;

-- Make a workspace, unless it is there.
-- name: InsertWorkspace :execrows
INSERT INTO workspaces (workspace_id, slug, name, timezone, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(slug), sqlc.arg(name), sqlc.arg(timezone), sqlc.arg(created_at))
ON CONFLICT (workspace_id) DO NOTHING;

-- Make a person, unless there is one with this id.
-- name: InsertUser :execrows
INSERT INTO users (user_id, email, name, created_at)
VALUES (sqlc.arg(user_id), sqlc.arg(email), sqlc.arg(name), sqlc.arg(created_at))
ON CONFLICT (user_id) DO NOTHING;

-- Make a person a member, unless that is so.
-- name: InsertMembership :execrows
INSERT INTO memberships (workspace_id, membership_id, user_id, role, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(membership_id), sqlc.arg(user_id), sqlc.arg(role), sqlc.arg(created_at))
ON CONFLICT (workspace_id, user_id) DO NOTHING;
