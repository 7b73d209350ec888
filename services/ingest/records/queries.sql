-- Keep the latest of each record; only those that are new or differ are written.
-- name: KeepRecords :execrows
INSERT INTO raw_records AS k (workspace_id, connector_id, external_id, stream, sha256, record, received_at)
SELECT sqlc.arg(workspace_id), sqlc.arg(connector_id), r.external_id, sqlc.arg(stream), r.sha256, r.record,
    r.received_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(external_id text, sha256 text, record text, received_at timestamptz)
ON CONFLICT (workspace_id, connector_id, external_id) DO UPDATE SET
    stream = excluded.stream, sha256 = excluded.sha256, record = excluded.record, received_at = excluded.received_at,
    seen_at = NULL, late_sha256 = NULL
WHERE (k.sha256 <> excluded.sha256 OR k.stream <> excluded.stream) AND k.received_at <= excluded.received_at;

-- What is known of the records of these ids. One by one, by the primary key: on a table that was never analyzed
-- `= ANY` reads all rows of the workspace by another index.
-- name: ListKnown :many
SELECT k.external_id, k.sha256, k.late_sha256, k.received_at, k.seen_at
FROM unnest(sqlc.arg(external_ids)::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT r.external_id, r.sha256, r.late_sha256, r.received_at, coalesce(r.seen_at, r.received_at) AS seen_at
    FROM raw_records AS r
    WHERE r.workspace_id = sqlc.arg(workspace_id) AND r.connector_id = sqlc.arg(connector_id)
        AND r.external_id = i.id
    LIMIT 1
) AS k;

-- Records of a connector in the order of their ids, behind one.
-- name: ListRecords :many
SELECT external_id, stream, record, received_at FROM raw_records
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND external_id > sqlc.arg(after)
ORDER BY external_id LIMIT sqlc.arg(n);

-- How many records of a connector are kept.
-- name: CountRecords :one
SELECT count(*) FROM raw_records
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Note of records that they came again as they are kept, unless something newer is noted.
-- name: SeeRecords :exec
UPDATE raw_records SET seen_at = sqlc.arg(seen_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND external_id = ANY(sqlc.arg(external_ids)::text[])
    AND coalesce(seen_at, received_at) < sqlc.arg(seen_at);

-- Note of records what came of an older revision than they are, and that they came again.
-- name: NoteLate :exec
UPDATE raw_records AS k SET late_sha256 = r.sha256, seen_at = greatest(coalesce(k.seen_at, k.received_at), r.came_at)
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(external_id text, sha256 text, came_at timestamptz)
WHERE k.workspace_id = sqlc.arg(workspace_id) AND k.connector_id = sqlc.arg(connector_id)
    AND k.external_id = r.external_id;

-- Delete records of a workspace that came before a time, and not again since (PurgeRecords).
-- name: PurgeRecords :execrows
DELETE FROM raw_records
WHERE workspace_id = sqlc.arg(workspace_id) AND received_at < sqlc.arg(received_before)
    AND coalesce(seen_at, received_at) < sqlc.arg(received_before);

-- Delete dead letters of a workspace that came before a time (PurgeRecords).
-- name: PurgeLetters :execrows
DELETE FROM dead_letters
WHERE workspace_id = sqlc.arg(workspace_id) AND tried_at < sqlc.arg(received_before);

-- Keep rejected records as far as there is room; one that is there already was tried once more.
-- name: RejectRecords :execrows
INSERT INTO dead_letters AS d (workspace_id, connector_id, letter_id, stream, sha256, record, is_whole, path, reason,
    n_attempts, received_at, tried_at, came_at)
SELECT sqlc.arg(workspace_id), sqlc.arg(connector_id), r.letter_id, sqlc.arg(stream), r.sha256, r.record, r.is_whole,
    r.path, r.reason, 1, sqlc.arg(now), sqlc.arg(now), r.came_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(letter_id text, sha256 text, record text, is_whole boolean, path text,
    reason text, came_at timestamptz, number bigint)
WHERE r.number <= sqlc.arg(room)::bigint OR EXISTS (
    SELECT FROM dead_letters AS k WHERE k.workspace_id = sqlc.arg(workspace_id)
        AND k.connector_id = sqlc.arg(connector_id) AND k.sha256 = r.sha256)
ON CONFLICT (workspace_id, connector_id, sha256) DO UPDATE SET
    path = excluded.path, reason = excluded.reason, n_attempts = d.n_attempts + 1, tried_at = excluded.tried_at,
    came_at = greatest(coalesce(d.came_at, d.received_at), excluded.came_at);

-- How many dead letters a connector has.
-- name: CountLetters :one
SELECT count(*) FROM dead_letters
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- How many bytes the dead letters of a workspace hold, each at least so many.
-- name: WeighLetters :one
SELECT coalesce(sum(greatest(octet_length(record), sqlc.arg(least)::integer)), 0)::bigint FROM dead_letters
WHERE workspace_id = sqlc.arg(workspace_id);

-- Dead letters before one, the newest first; the first ones when it is empty.
-- name: ListLetters :many
SELECT letter_id, stream, record, path, reason, n_attempts, received_at FROM dead_letters
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND (sqlc.arg(before)::text = '' OR letter_id < sqlc.arg(before))
ORDER BY letter_id DESC LIMIT sqlc.arg(n);

-- Dead letters that can be tried again, first those that were not for longest: those named, or all when none is.
-- name: ListWholeLetters :many
SELECT letter_id, stream, record, n_attempts, coalesce(came_at, received_at) AS came_at FROM dead_letters
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id) AND is_whole
    AND (cardinality(sqlc.arg(letter_ids)::text[]) = 0 OR letter_id = ANY(sqlc.arg(letter_ids)::text[]))
ORDER BY tried_at, letter_id LIMIT sqlc.arg(n);

-- Delete those of some dead letters that were not rejected once more since.
-- name: DeleteAccepted :execrows
DELETE FROM dead_letters AS d USING json_to_recordset(sqlc.arg(rows)::json) AS r(letter_id text, n_attempts integer)
WHERE d.workspace_id = sqlc.arg(workspace_id) AND d.connector_id = sqlc.arg(connector_id)
    AND d.letter_id = r.letter_id AND d.n_attempts = r.n_attempts;

-- Which of some webhooks were taken; one by one, as records are.
-- name: ListDeliveries :many
SELECT k.delivery_id
FROM unnest(sqlc.arg(delivery_ids)::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT d.delivery_id FROM deliveries AS d
    WHERE d.workspace_id = sqlc.arg(workspace_id) AND d.connector_id = sqlc.arg(connector_id)
        AND d.delivery_id = i.id
    LIMIT 1
) AS k;

-- Note that webhooks were taken.
-- name: NoteDeliveries :exec
INSERT INTO deliveries (workspace_id, connector_id, delivery_id, received_at)
SELECT sqlc.arg(workspace_id), sqlc.arg(connector_id), d.id, sqlc.arg(received_at)
FROM unnest(sqlc.arg(delivery_ids)::text[]) AS d(id)
ON CONFLICT (workspace_id, connector_id, delivery_id) DO NOTHING;

-- When webhooks of these connectors were last taken; of those of which any were.
-- name: ListReceived :many
SELECT c.id::text AS connector_id, d.received_at
FROM unnest(sqlc.arg(connector_ids)::text[]) AS c(id)
CROSS JOIN LATERAL (
    SELECT k.received_at FROM deliveries AS k
    WHERE k.workspace_id = sqlc.arg(workspace_id) AND k.connector_id = c.id ORDER BY k.received_at DESC LIMIT 1
) AS d;

-- How far the streams of a connector have been read in a run; with an empty run_id, in all.
-- name: ListPositions :many
SELECT stream, high_water, resume FROM stream_positions
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND run_id = sqlc.arg(run_id)
ORDER BY stream;

-- Where a run goes on in a stream, should its process die; and how far the stream has been read, which never goes back
-- while it asks the same: resume of the mark of all runs says what that is.
-- name: Checkpoint :exec
WITH w AS (
    INSERT INTO stream_positions AS p (workspace_id, connector_id, run_id, stream, high_water, resume, updated_at)
    SELECT sqlc.arg(workspace_id), sqlc.arg(connector_id), '', sqlc.arg(stream), sqlc.narg(high_water)::timestamptz,
        sqlc.arg(asked), sqlc.arg(now)
    WHERE sqlc.narg(high_water)::timestamptz IS NOT NULL
    ON CONFLICT (workspace_id, connector_id, run_id, stream) DO UPDATE SET
        high_water = CASE WHEN p.resume IS NULL OR p.resume = excluded.resume
            THEN greatest(p.high_water, excluded.high_water) ELSE excluded.high_water END,
        resume = excluded.resume, updated_at = excluded.updated_at)
INSERT INTO stream_positions (workspace_id, connector_id, run_id, stream, resume, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(connector_id), sqlc.arg(run_id), sqlc.arg(stream), sqlc.arg(resume),
    sqlc.arg(now))
ON CONFLICT (workspace_id, connector_id, run_id, stream) DO UPDATE SET
    resume = excluded.resume, updated_at = excluded.updated_at;

-- A run is over, so nothing resumes it.
-- name: EndRun :exec
DELETE FROM stream_positions
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
    AND run_id = sqlc.arg(run_id)::text AND run_id <> '';

-- Delete the records of a connector (ConnectorDeleted).
-- name: ForgetRecords :exec
DELETE FROM raw_records WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete the dead letters of a connector (ConnectorDeleted).
-- name: ForgetLetters :exec
DELETE FROM dead_letters WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete what is known of a connector's webhooks (ConnectorDeleted).
-- name: ForgetDeliveries :exec
DELETE FROM deliveries WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete how far a connector has been read (ConnectorDeleted).
-- name: ForgetPositions :exec
DELETE FROM stream_positions WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete what has reached its age; how many rows.
-- name: Sweep :one
SELECT sweep(sqlc.arg(now), sqlc.arg(deliveries_before))::bigint;

-- Those of some workspaces of which there is anything.
-- name: ListWithRows :many
SELECT w.workspace_id::text FROM with_rows(sqlc.arg(workspace_ids)::text[]) AS w(workspace_id);

-- Delete all that there is of an erased workspace (WorkspaceErased).
-- name: EraseWorkspace :exec
WITH k AS (DELETE FROM data_keys AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    s AS (DELETE FROM secrets AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    a AS (DELETE FROM authorizations AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    p AS (DELETE FROM stream_positions AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    r AS (DELETE FROM raw_records AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    l AS (DELETE FROM dead_letters AS t WHERE t.workspace_id = sqlc.arg(workspace_id)),
    u AS (DELETE FROM pushes AS t WHERE t.workspace_id = sqlc.arg(workspace_id))
DELETE FROM deliveries AS t WHERE t.workspace_id = sqlc.arg(workspace_id);
