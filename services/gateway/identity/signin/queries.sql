-- The active connection that somebody who is not signed in names, by its id or by the domain of an address.
-- row: Door
-- name: FindConnection :one
SELECT c.workspace_id::text AS workspace_id, c.connection_id::text AS connection_id, c.issuer::text AS issuer,
    c.client_id::text AS client_id, c.client_secret_sealed::text AS client_secret_sealed
FROM find_connection(sqlc.arg(connection_id)::text, sqlc.arg(email)::text)
    AS c (workspace_id, connection_id, issuer, client_id, client_secret_sealed);

-- Whom a workspace's provider vouches for, made a member where the connection says so; or why not.
-- always
-- column user_id: str | None
-- column refusal: str | None
-- name: EnterByConnection :one
SELECT p.user_id::text AS user_id, p.refusal::text AS refusal
FROM connection_person(sqlc.arg(connection_id)::text, sqlc.arg(subject)::text, sqlc.arg(email)::text,
    sqlc.arg(name)::text, sqlc.arg(consenting)::text) AS p (user_id, refusal);

-- The workspace's connections, oldest first.
-- row: Connection
-- name: ListConnections :many
SELECT c.workspace_id, c.connection_id, c.name, c.issuer, c.client_id, c.client_secret_sealed, c.domains, c.default_role,
    c.status, c.created_at, c.updated_at, ARRAY(
        SELECT d.domain FROM approved_domains AS d WHERE d.domain = ANY(c.domains) ORDER BY d.domain)::text[] AS approved_domains
FROM oidc_connections AS c WHERE c.workspace_id = sqlc.arg(workspace_id) ORDER BY c.created_at, c.connection_id;

-- A connection of the workspace, locked.
-- row: Connection
-- name: GetConnection :one
SELECT c.workspace_id, c.connection_id, c.name, c.issuer, c.client_id, c.client_secret_sealed, c.domains, c.default_role,
    c.status, c.created_at, c.updated_at, ARRAY(
        SELECT d.domain FROM approved_domains AS d WHERE d.domain = ANY(c.domains) ORDER BY d.domain)::text[] AS approved_domains
FROM oidc_connections AS c
WHERE c.workspace_id = sqlc.arg(workspace_id) AND c.connection_id = sqlc.arg(connection_id) FOR UPDATE OF c;

-- Keep a new connection; 0 rows when the workspace has one to the same client of the same provider.
-- name: InsertConnection :execrows
INSERT INTO oidc_connections (workspace_id, connection_id, name, issuer, client_id, client_secret_sealed, domains,
    default_role, status, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(connection_id), sqlc.arg(name), sqlc.arg(issuer), sqlc.arg(client_id),
    sqlc.arg(client_secret_sealed), sqlc.arg(domains), sqlc.arg(default_role), sqlc.arg(status), sqlc.arg(created_at),
    sqlc.arg(created_at))
ON CONFLICT DO NOTHING;

-- Change a connection.
-- name: UpdateConnection :execrows
UPDATE oidc_connections SET name = sqlc.arg(name), client_id = sqlc.arg(client_id),
    client_secret_sealed = sqlc.arg(client_secret_sealed), domains = sqlc.arg(domains),
    default_role = sqlc.arg(default_role), status = sqlc.arg(status), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND connection_id = sqlc.arg(connection_id);

-- Forget a connection, with the identities it vouched for.
-- name: DeleteConnection :execrows
DELETE FROM oidc_connections WHERE workspace_id = sqlc.arg(workspace_id) AND connection_id = sqlc.arg(connection_id);

-- End the sessions that a connection vouched for.
-- name: RevokeConnectionSessions :execrows
UPDATE sessions SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND connection_id = sqlc.arg(connection_id)::text AND revoked_at IS NULL;

-- Whether the workspace lets people in by its own provider only; locked, so that of two last ones one stays.
-- name: GetSsoEnforced :one
SELECT sso_enforced FROM workspaces WHERE workspace_id = sqlc.arg(workspace_id) FOR NO KEY UPDATE;

-- The connection that is named, or with an empty name all that speak for the transaction's person.
-- row: Link
-- column linked_at: datetime | None
-- column agreed_at: datetime | None
-- name: ListLinks :many
SELECT l.connection_id::text AS connection_id, l.connection_name::text AS connection_name, l.issuer::text AS issuer,
    l.workspace_id::text AS workspace_id, l.workspace_name::text AS workspace_name, l.linked_at::timestamptz AS linked_at,
    l.agreed_at::timestamptz AS agreed_at
FROM links(sqlc.arg(connection_id)::text)
    AS l (connection_id, connection_name, issuer, workspace_id, workspace_name, linked_at, agreed_at);

-- A connection speaks no longer for the transaction's person; whether it did.
-- always
-- name: Unlink :one
SELECT unlink(sqlc.arg(connection_id)::text, sqlc.narg(ip)::text)::boolean AS was_linked;
