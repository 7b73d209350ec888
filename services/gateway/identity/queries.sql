-- Name what this transaction may see: a workspace, a person, or neither.
-- always
-- name: Identify :one
SELECT concat(
    set_config('app.current_user', sqlc.arg(user_id)::text, true),
    set_config('app.current_workspace', sqlc.arg(workspace_id)::text, true))::text AS scope;

-- Show a secret's hash, an issuer's subject or a verified address, to see the row that it is about.
-- always
-- name: Present :one
SELECT concat(
    set_config('app.presented_hash', sqlc.arg(token_hash)::text, true),
    set_config('app.presented_subject', sqlc.arg(external_id)::text, true),
    set_config('app.presented_email', sqlc.arg(email)::text, true))::text AS scope;

-- The person that the issuer's subject is bound to.
-- row: Person
-- name: GetUserBySubject :one
SELECT user_id, email, name, external_id, status FROM users WHERE external_id = sqlc.arg(external_id)::text;

-- The person with this e-mail address, spelled exactly so.
-- row: Person
-- name: GetUserByEmail :one
SELECT user_id, email, name, external_id, status FROM users WHERE email = sqlc.arg(email);

-- A person.
-- row: Person
-- name: GetUser :one
SELECT user_id, email, name, external_id, status FROM users WHERE user_id = sqlc.arg(user_id);

-- Take over a person's address from the issuer that they are bound to.
-- name: MirrorEmail :execrows
UPDATE users SET email = sqlc.arg(email), updated_at = sqlc.arg(updated_at) WHERE user_id = sqlc.arg(user_id);

-- Change what a person says of themself; what is null stays.
-- row: Profile
-- name: UpdateProfile :one
UPDATE users SET name = COALESCE(sqlc.narg(name)::text, name),
    avatar_url = CASE WHEN sqlc.arg(sets_avatar_url)::boolean THEN sqlc.narg(avatar_url)::text ELSE avatar_url END,
    timezone = CASE WHEN sqlc.arg(sets_timezone)::boolean THEN sqlc.narg(timezone)::text ELSE timezone END,
    locale = CASE WHEN sqlc.arg(sets_locale)::boolean THEN sqlc.narg(locale)::text ELSE locale END,
    updated_at = sqlc.arg(updated_at)
WHERE user_id = sqlc.arg(user_id)
RETURNING user_id, email, name, avatar_url, timezone, locale, external_id, created_at, updated_at;

-- What is known of a person.
-- row: Profile
-- name: GetProfile :one
SELECT user_id, email, name, avatar_url, timezone, locale, external_id, created_at, updated_at FROM users
WHERE user_id = sqlc.arg(user_id);

-- Add to the audit log of the workspace that the transaction names.
-- name: Audit :exec
SELECT audit_here(sqlc.arg(actor)::text, sqlc.arg(action)::text, sqlc.arg(category)::text, sqlc.arg(target_type)::text,
    sqlc.arg(target_id)::text, sqlc.arg(metadata)::jsonb, sqlc.narg(ip)::text);

-- Write down what happened to the identity of the person that the transaction names, wherever they are a member.
-- name: AuditSelf :exec
SELECT audit_self(sqlc.arg(action)::text, sqlc.arg(metadata)::jsonb, sqlc.narg(ip)::text);

-- Whether another client than the transaction's workspace's also has its person among its members.
-- always
-- name: IsKnownElsewhere :one
SELECT is_known_elsewhere()::boolean AS is_known;

-- Bind a person to the issuer's subject at the first sign-in; never a second time.
-- name: BindSubject :execrows
UPDATE users SET external_id = sqlc.arg(external_id)::text, updated_at = sqlc.arg(updated_at)
WHERE user_id = sqlc.arg(user_id) AND external_id IS NULL;

-- The active memberships of a person, oldest first.
-- name: ListMemberships :many
SELECT m.workspace_id, m.role FROM memberships AS m
WHERE m.user_id = sqlc.arg(user_id) AND m.status = 'active'
ORDER BY m.created_at, m.workspace_id;

-- What a person is in a workspace now, if anything; nothing while one of them or the client is suspended.
-- row: Seat
-- name: GetSeat :one
SELECT m.role, w.sso_enforced FROM memberships AS m
JOIN users AS u ON u.user_id = m.user_id
JOIN workspaces AS w ON w.workspace_id = m.workspace_id
JOIN organizations AS o ON o.organization_id = w.organization_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.user_id = sqlc.arg(user_id) AND m.status = 'active'
  AND u.status = 'active' AND w.status = 'active' AND o.status = 'active';

-- Begin a session.
-- name: InsertSession :exec
INSERT INTO sessions (workspace_id, session_id, user_id, method, connection_id, user_agent, ip, created_at,
    last_seen_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(session_id), sqlc.arg(user_id), sqlc.arg(method), sqlc.narg(connection_id),
    sqlc.arg(user_agent), sqlc.arg(ip), sqlc.arg(created_at), sqlc.arg(created_at), sqlc.arg(expires_at));

-- A session goes on: it was used, from there, and ends later.
-- name: ProlongSession :one
UPDATE sessions SET last_seen_at = sqlc.arg(seen_at), expires_at = sqlc.arg(expires_at),
    user_agent = sqlc.arg(user_agent), ip = sqlc.arg(ip)
WHERE workspace_id = sqlc.arg(workspace_id) AND session_id = sqlc.arg(session_id) AND revoked_at IS NULL
RETURNING connection_id;

-- A session as its person sees it.
-- row: Session
-- name: GetSession :one
SELECT session_id, user_id, method, user_agent, ip, second_factor_at, created_at, last_seen_at, expires_at, seq
FROM sessions
WHERE workspace_id = sqlc.arg(workspace_id) AND session_id = sqlc.arg(session_id) AND user_id = sqlc.arg(user_id)
    AND revoked_at IS NULL AND expires_at > sqlc.arg(now)::timestamptz;

-- End a session, with every token of it.
-- name: RevokeSession :execrows
UPDATE sessions SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND session_id = sqlc.arg(session_id) AND revoked_at IS NULL;

-- Forget a workspace's sessions that ended some time ago; the audit log still tells of them.
-- name: DeleteEndedSessions :execrows
DELETE FROM sessions
WHERE workspace_id = sqlc.arg(workspace_id)
    AND (expires_at < sqlc.arg(before_at)::timestamptz OR revoked_at < sqlc.arg(before_at)::timestamptz);

-- Keep a new refresh token.
-- name: InsertRefreshToken :exec
INSERT INTO refresh_tokens (workspace_id, token_hash, session_id, user_id, issued_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(token_hash), sqlc.arg(session_id), sqlc.arg(user_id), sqlc.arg(issued_at),
    sqlc.arg(expires_at));

-- The refresh token with this hash.
-- name: GetRefreshToken :one
SELECT workspace_id, session_id, user_id, expires_at, used_at FROM refresh_tokens
WHERE token_hash = sqlc.arg(token_hash);

-- Mark a refresh token used; 0 rows when another request was faster, or its session has ended.
-- name: UseRefreshToken :execrows
UPDATE refresh_tokens AS t SET used_at = sqlc.arg(used_at)::timestamptz
FROM sessions AS s
WHERE t.workspace_id = sqlc.arg(workspace_id) AND t.token_hash = sqlc.arg(token_hash) AND t.used_at IS NULL
  AND s.workspace_id = t.workspace_id AND s.session_id = t.session_id AND s.revoked_at IS NULL;

-- Forget a workspace's refresh tokens that expired.
-- name: DeleteExpiredTokens :execrows
DELETE FROM refresh_tokens
WHERE workspace_id = sqlc.arg(workspace_id) AND expires_at < sqlc.arg(before_at)::timestamptz;

-- Whom the platform's own provider vouches for, if anybody; bound by a verified address at the first sign-in.
-- name: FindPlatformPerson :one
SELECT platform_person(sqlc.arg(issuer)::text, sqlc.arg(subject)::text, sqlc.arg(email)::text)::text AS user_id;

-- Bind a person to a subject of the platform's own provider; 0 rows when that is so, or either is bound otherwise.
-- name: BindPlatformSubject :execrows
INSERT INTO user_identities (provider, subject, user_id)
VALUES (sqlc.arg(issuer), sqlc.arg(subject), sqlc.arg(user_id)) ON CONFLICT DO NOTHING;

-- Whether a person is bound to a subject of the platform's own provider.
-- always
-- name: IsPlatformSubject :one
SELECT EXISTS (SELECT FROM user_identities AS i WHERE i.provider = sqlc.arg(issuer) AND i.subject = sqlc.arg(subject)
    AND i.user_id = sqlc.arg(user_id))::boolean AS is_bound;

-- The connection that members of a workspace sign in through, the oldest active one.
-- name: GetDoor :one
SELECT connection_id FROM oidc_connections WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'active'
ORDER BY created_at, connection_id LIMIT 1;
