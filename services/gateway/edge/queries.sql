-- Count events of a month for a workspace's organization, all of them or none; no row: there is no such workspace.
-- column events_per_month: int | None
-- name: TakeEvents :one
SELECT t.plan::text AS plan, t.events_per_month::bigint AS events_per_month, t.events_before::bigint AS events_before,
    t.is_taken::boolean AS is_taken
FROM take_events(@workspace_id::text, @month::date, @n::bigint)
    AS t (plan, events_per_month, events_before, is_taken);

-- Take a key that is free, over or left by a process that died; otherwise see who has it. No row: taken just now.
-- name: ClaimKey :one
WITH claimed AS (
    INSERT INTO idempotency_keys AS k (workspace_id, key_hash, request_hash, claim_id, leased_until, expires_at)
    VALUES (@workspace_id, @key_hash, @request_hash, @claim_id, @leased_until, @expires_at)
    ON CONFLICT (workspace_id, key_hash) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, claim_id = EXCLUDED.claim_id, leased_until = EXCLUDED.leased_until,
        expires_at = EXCLUDED.expires_at, status = NULL, answer = NULL
    WHERE k.expires_at <= @now OR (k.status IS NULL AND k.leased_until <= @now)
    RETURNING k.claim_id, k.request_hash, k.status, k.answer
)
SELECT c.claim_id, c.request_hash, c.status, c.answer FROM claimed AS c
UNION ALL
SELECT k.claim_id, k.request_hash, k.status, k.answer FROM idempotency_keys AS k
WHERE k.workspace_id = @workspace_id AND k.key_hash = @key_hash AND NOT EXISTS (SELECT FROM claimed);

-- Keep what a claimed request was answered with, unless somebody else has the claim by now.
-- name: KeepAnswer :exec
UPDATE idempotency_keys SET status = @status, answer = @answer
WHERE workspace_id = @workspace_id AND key_hash = @key_hash AND claim_id = @claim_id;

-- Free a key whose request was refused or failed.
-- name: ReleaseKey :exec
DELETE FROM idempotency_keys
WHERE workspace_id = @workspace_id AND key_hash = @key_hash AND claim_id = @claim_id;

-- Delete keys of every workspace that are over, some at a time; how many.
-- name: PurgeKeys :one
SELECT purge_idempotency_keys(@before, @at_most) AS n;
