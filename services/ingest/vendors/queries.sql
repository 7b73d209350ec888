-- Remember a sign-in that a person has gone away to end.
-- name: InsertAuthorization :exec
INSERT INTO authorizations (workspace_id, state_sha256, connector_id, verifier_sealed, redirect_uri, requested_by,
    created_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(state_sha256), sqlc.arg(connector_id), sqlc.arg(verifier_sealed),
    sqlc.arg(redirect_uri), sqlc.narg(requested_by), sqlc.arg(created_at), sqlc.arg(expires_at));

-- Take a sign-in that came back; nobody can take it again.
-- name: TakeAuthorization :one
DELETE FROM authorizations WHERE workspace_id = sqlc.arg(workspace_id) AND state_sha256 = sqlc.arg(state_sha256)
RETURNING connector_id, verifier_sealed, redirect_uri, requested_by, expires_at;

-- Begin to make a ticket, or try again what nobody has in hand; no row where somebody has.
-- row: BegunPush
-- name: BeginPush :one
INSERT INTO pushes AS p (workspace_id, ticket_id, recommendation_id, connector_id, target, requested_by, begun_at, n_attempts,
    leased_until)
VALUES (sqlc.arg(workspace_id), sqlc.arg(ticket_id), sqlc.arg(recommendation_id), sqlc.arg(connector_id), sqlc.arg(target),
    sqlc.narg(requested_by), sqlc.arg(now), 1, sqlc.arg(leased_until))
ON CONFLICT (workspace_id, ticket_id) DO UPDATE SET n_attempts = p.n_attempts + 1, leased_until = excluded.leased_until
    WHERE p.leased_until <= sqlc.arg(now)
RETURNING recommendation_id, connector_id, target, requested_by, begun_at, n_attempts;

-- Take up a ticket whose making nobody has in hand; no row where somebody has, or it is settled.
-- row: BegunPush
-- name: TakeUpPush :one
UPDATE pushes SET n_attempts = n_attempts + 1, leased_until = sqlc.arg(leased_until)
WHERE workspace_id = sqlc.arg(workspace_id) AND ticket_id = sqlc.arg(ticket_id) AND leased_until <= sqlc.arg(now)
RETURNING recommendation_id, connector_id, target, requested_by, begun_at, n_attempts;

-- Hold a ticket longer, unless another try has taken it up; no row where one has.
-- name: KeepPush :one
UPDATE pushes SET leased_until = sqlc.arg(leased_until)
WHERE workspace_id = sqlc.arg(workspace_id) AND ticket_id = sqlc.arg(ticket_id)
    AND begun_at = sqlc.arg(begun_at) AND n_attempts = sqlc.arg(n_attempts)
RETURNING ticket_id;

-- Let a ticket go that may have been made, until a time at which it can be looked up, unless another try has it.
-- name: ReleasePush :exec
UPDATE pushes SET leased_until = sqlc.arg(leased_until)
WHERE workspace_id = sqlc.arg(workspace_id) AND ticket_id = sqlc.arg(ticket_id)
    AND begun_at = sqlc.arg(begun_at) AND n_attempts = sqlc.arg(n_attempts);

-- End the making of a ticket: the log has it, or it is known not to be there; unless another try has it.
-- name: EndPush :exec
DELETE FROM pushes
WHERE workspace_id = sqlc.arg(workspace_id) AND ticket_id = sqlc.arg(ticket_id)
    AND begun_at = sqlc.arg(begun_at) AND n_attempts = sqlc.arg(n_attempts);

-- Workspace and ticket, a slash between, whose making somebody began and nobody ended: of each workspace one, then the next.
-- name: ListLapsedPushes :many
SELECT lapsed_pushes(sqlc.arg(now)::timestamptz, sqlc.arg(row_limit)::integer)::text AS lapsed;

-- How far the turns of an account are given out; no row where nobody has asked it yet.
-- name: GetPace :one
SELECT free_at, back_at FROM paces WHERE account = sqlc.arg(account);

-- Note how far they are given out, unless somebody else has done so since it was read; how many rows that is.
-- name: KeepPace :execrows
INSERT INTO paces AS p (account, free_at, back_at, kept_at)
VALUES (sqlc.arg(account), sqlc.arg(free_at), sqlc.arg(back_at), sqlc.arg(now))
ON CONFLICT (account) DO UPDATE
SET free_at = excluded.free_at, back_at = excluded.back_at, kept_at = excluded.kept_at
WHERE p.free_at = sqlc.arg(known_free_at) AND p.back_at = sqlc.arg(known_back_at);

-- Forget accounts that nobody has asked for long.
-- name: ForgetPaces :execrows
DELETE FROM paces WHERE kept_at < sqlc.arg(kept_before);
