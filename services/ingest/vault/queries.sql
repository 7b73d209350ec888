-- The wrapped data key of a workspace.
-- name: GetDataKey :one
SELECT wrapped FROM data_keys WHERE workspace_id = sqlc.arg(workspace_id);

-- Keep a workspace's first data key; 0 rows when another request was faster.
-- name: InsertDataKey :execrows
INSERT INTO data_keys (workspace_id, master_key_id, wrapped, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(master_key_id), sqlc.arg(wrapped), sqlc.arg(created_at))
ON CONFLICT (workspace_id) DO NOTHING;

-- Wait until nobody else holds the secrets of a connector; until the transaction ends, nobody else does.
-- name: HoldSecrets :exec
SELECT pg_advisory_xact_lock(hashtextextended(sqlc.arg(workspace_id)::text || '/' || sqlc.arg(connector_id)::text, 0));

-- Whatever a connector has of secrets.
-- name: ListSecrets :many
SELECT name, sealed FROM secrets
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id) ORDER BY name;

-- Whatever some connectors have of secrets; one by one, by the primary key.
-- name: ListSecretsOf :many
SELECT s.connector_id, s.name, s.sealed
FROM unnest(sqlc.arg(connector_ids)::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT k.connector_id, k.name, k.sealed FROM secrets AS k
    WHERE k.workspace_id = sqlc.arg(workspace_id) AND k.connector_id = i.id
    OFFSET 0
) AS s;

-- Keep a secret in place of the one before.
-- name: PutSecret :exec
INSERT INTO secrets (workspace_id, connector_id, name, sealed, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(connector_id), sqlc.arg(name), sqlc.arg(sealed), sqlc.arg(updated_at))
ON CONFLICT (workspace_id, connector_id, name)
DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at;

-- Delete some secrets of a connector.
-- name: DeleteSecrets :exec
DELETE FROM secrets
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND name = ANY(sqlc.arg(names)::text[]);

-- Delete everything secret of a connector (ConnectorDeleted).
-- name: ForgetSecrets :exec
DELETE FROM secrets WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete the sign-ins that have begun for a connector (ConnectorDeleted).
-- name: ForgetAuthorizations :exec
DELETE FROM authorizations WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);
