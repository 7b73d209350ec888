-- The wrapped data key of a workspace or a person.
-- name: GetDataKey :one
SELECT wrapped FROM data_keys WHERE owner_id = sqlc.arg(owner_id);

-- Keep an owner's first data key; 0 rows when another request was faster.
-- name: InsertDataKey :execrows
INSERT INTO data_keys (owner_id, workspace_id, user_id, master_key_id, wrapped, created_at)
VALUES (sqlc.arg(owner_id), sqlc.narg(workspace_id), sqlc.narg(user_id), sqlc.arg(master_key_id), sqlc.arg(wrapped),
    sqlc.arg(created_at))
ON CONFLICT (owner_id) DO NOTHING;
