-- name: TakeEvents :one
-- Count events of this month for a workspace's organization, all of them or none: `is_taken` says which.
-- `events_before` may be a little old, while others count.
WITH allowance AS (
    SELECT o.organization_id, p.plan, p.events_per_month
    FROM workspaces AS w JOIN organizations AS o USING (organization_id) JOIN plans AS p USING (plan)
    WHERE w.workspace_id = @workspace_id
), taken AS (
    INSERT INTO event_usage AS u (organization_id, month, events)
    SELECT a.organization_id, @month::date, @n::bigint FROM allowance AS a
    WHERE a.events_per_month IS NULL OR @n::bigint <= a.events_per_month
    ON CONFLICT (organization_id, month) DO UPDATE SET events = u.events + EXCLUDED.events
    WHERE (SELECT a.events_per_month FROM allowance AS a) IS NULL
        OR u.events + EXCLUDED.events <= (SELECT a.events_per_month FROM allowance AS a)
    RETURNING u.events
)
SELECT a.plan, a.events_per_month, EXISTS (SELECT FROM taken) AS is_taken, COALESCE((
    SELECT u.events FROM event_usage AS u WHERE u.organization_id = a.organization_id AND u.month = @month::date
), 0)::bigint AS events_before FROM allowance AS a;

-- name: ClaimKey :one
-- Take a key that is free, over or left by a process that died; otherwise see who has it. No row: taken just now.
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

-- name: KeepAnswer :exec
-- Keep what a claimed request was answered with, unless somebody else has the claim by now.
UPDATE idempotency_keys SET status = @status, answer = @answer
WHERE workspace_id = @workspace_id AND key_hash = @key_hash AND claim_id = @claim_id;

-- name: ReleaseKey :exec
-- Free a key whose request was refused or failed.
DELETE FROM idempotency_keys
WHERE workspace_id = @workspace_id AND key_hash = @key_hash AND claim_id = @claim_id;

-- name: PurgeKeys :one
-- Delete keys of every workspace that are over, some at a time; how many.
SELECT purge_idempotency_keys(@before, @at_most) AS n;
