-- What a person has set up as a second factor, and how many recovery codes are left.
-- always
-- column totp_confirmed_at: datetime | None
-- column second_factor_at: datetime | None
-- name: GetFactors :one
SELECT (SELECT t.confirmed_at FROM totp_factors AS t WHERE t.user_id = sqlc.arg(user_id))::timestamptz AS totp_confirmed_at,
    (SELECT s.second_factor_at FROM sessions AS s
        WHERE s.workspace_id = sqlc.arg(workspace_id) AND s.session_id = sqlc.arg(session_id))::timestamptz AS second_factor_at,
    (SELECT count(*) FROM passkeys AS p WHERE p.user_id = sqlc.arg(user_id))::bigint AS n_passkeys,
    (SELECT count(*) FROM recovery_codes AS r WHERE r.user_id = sqlc.arg(user_id) AND r.used_at IS NULL)::bigint AS n_codes;

-- Note that a session gave its second factor.
-- name: MarkSecondFactor :execrows
UPDATE sessions SET second_factor_at = sqlc.arg(given_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND session_id = sqlc.arg(session_id);

-- Count an attempt at a code within the current minute; the number of them so far.
-- always
-- name: CountAttempt :one
INSERT INTO factor_attempts AS a (user_id, window_at, n_attempts) VALUES (sqlc.arg(user_id), sqlc.arg(window_at), 1)
ON CONFLICT (user_id) DO UPDATE SET window_at = excluded.window_at,
    n_attempts = CASE WHEN a.window_at = excluded.window_at THEN a.n_attempts + 1 ELSE 1 END
RETURNING n_attempts;

-- Forget the attempts of who got in.
-- name: ForgetAttempts :exec
DELETE FROM factor_attempts WHERE user_id = sqlc.arg(user_id);

-- Keep a new secret of an authenticator app, unless one is confirmed already.
-- name: UpsertTotp :execrows
INSERT INTO totp_factors AS t (user_id, secret_sealed, created_at)
VALUES (sqlc.arg(user_id), sqlc.arg(secret_sealed), sqlc.arg(created_at))
ON CONFLICT (user_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, created_at = excluded.created_at
WHERE t.confirmed_at IS NULL;

-- A person's authenticator app.
-- row: Totp
-- name: GetTotp :one
SELECT secret_sealed, confirmed_at, last_step FROM totp_factors WHERE user_id = sqlc.arg(user_id);

-- Take the code of a time step; 0 rows when it or a later one was taken before.
-- name: TakeStep :execrows
UPDATE totp_factors SET last_step = sqlc.arg(step), confirmed_at = COALESCE(confirmed_at, sqlc.arg(now_at))
WHERE user_id = sqlc.arg(user_id) AND last_step < sqlc.arg(step);

-- Forget an authenticator app.
-- name: DeleteTotp :execrows
DELETE FROM totp_factors WHERE user_id = sqlc.arg(user_id);

-- Forget a person's recovery codes.
-- name: DeleteRecoveryCodes :execrows
DELETE FROM recovery_codes WHERE user_id = sqlc.arg(user_id);

-- Keep the hashes of new recovery codes.
-- name: InsertRecoveryCodes :execrows
INSERT INTO recovery_codes (user_id, code_hash, created_at)
SELECT sqlc.arg(user_id), unnest(sqlc.arg(code_hashes)::text[]), sqlc.arg(created_at);

-- Use a recovery code up; 0 rows when there is none like it.
-- name: UseRecoveryCode :execrows
UPDATE recovery_codes SET used_at = sqlc.arg(used_at)::timestamptz
WHERE user_id = sqlc.arg(user_id) AND code_hash = sqlc.arg(code_hash) AND used_at IS NULL;

-- Keep what an authenticator will have to sign; the one before it is void.
-- name: UpsertChallenge :exec
INSERT INTO webauthn_challenges (session_id, purpose, user_id, challenge, expires_at)
VALUES (sqlc.arg(session_id), sqlc.arg(purpose), sqlc.arg(user_id), sqlc.arg(challenge), sqlc.arg(expires_at))
ON CONFLICT (session_id, purpose) DO UPDATE SET challenge = excluded.challenge, expires_at = excluded.expires_at;

-- Take a challenge, which is thereby used up.
-- name: TakeChallenge :one
DELETE FROM webauthn_challenges
WHERE session_id = sqlc.arg(session_id) AND purpose = sqlc.arg(purpose) AND user_id = sqlc.arg(user_id)
RETURNING challenge, expires_at;

-- A person's passkeys, oldest first.
-- row: Passkey
-- name: ListPasskeys :many
SELECT passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at
FROM passkeys WHERE user_id = sqlc.arg(user_id) ORDER BY created_at, passkey_id;

-- The passkey with this credential id; locked, so that its counter is compared once.
-- row: Passkey
-- name: GetPasskeyByCredential :one
SELECT passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at
FROM passkeys WHERE user_id = sqlc.arg(user_id) AND credential_id = sqlc.arg(credential_id) FOR UPDATE;

-- Keep a new passkey; 0 rows when somebody has it already.
-- name: InsertPasskey :execrows
INSERT INTO passkeys (user_id, passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at)
VALUES (sqlc.arg(user_id), sqlc.arg(passkey_id), sqlc.arg(credential_id), sqlc.arg(public_key), sqlc.arg(sign_count),
    sqlc.arg(name), sqlc.arg(transports), sqlc.arg(is_synced), sqlc.arg(created_at))
ON CONFLICT (credential_id) DO NOTHING;

-- A passkey was used.
-- name: TouchPasskey :exec
UPDATE passkeys SET sign_count = sqlc.arg(sign_count), last_used_at = sqlc.arg(used_at)::timestamptz
WHERE user_id = sqlc.arg(user_id) AND passkey_id = sqlc.arg(passkey_id);

-- Name a passkey.
-- row: Passkey
-- name: RenamePasskey :one
UPDATE passkeys SET name = sqlc.arg(name) WHERE user_id = sqlc.arg(user_id) AND passkey_id = sqlc.arg(passkey_id)
RETURNING passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at;

-- Forget a passkey.
-- name: DeletePasskey :execrows
DELETE FROM passkeys WHERE user_id = sqlc.arg(user_id) AND passkey_id = sqlc.arg(passkey_id);

-- Add to the audit log of the workspace what became of somebody's second factor.
-- always
-- name: AuditFactor :one
SELECT audit_here(sqlc.arg(user_id)::text, sqlc.arg(action)::text, sqlc.arg(category)::text,
    sqlc.arg(target_type)::text, sqlc.arg(target_id)::text, '{}'::jsonb, sqlc.arg(ip)::text)::text AS entry_id;
