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
