-- Count the new issues of a batch by source and day (IssueReported).
-- name: CountNewIssues :exec
INSERT INTO sources_daily AS s (workspace_id, day, source, n_issues, last_occurred_at, last_recorded_at)
SELECT r.workspace_id, r.day, r.source, r.n_issues, r.last_occurred_at, r.last_recorded_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, day date, source text, n_issues bigint,
    last_occurred_at timestamptz, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, source) DO UPDATE SET
    n_issues = s.n_issues + excluded.n_issues,
    last_occurred_at = greatest(s.last_occurred_at, excluded.last_occurred_at),
    last_recorded_at = greatest(s.last_recorded_at, excluded.last_recorded_at);

-- Count the changes of a batch by outcome and day (IssueUpdated, IssueClosed, IssueCommented, AnalysisRecorded).
-- name: CountChanges :exec
INSERT INTO changes_daily AS c (workspace_id, day, outcome, n_changes, last_recorded_at)
SELECT r.workspace_id, r.day, r.outcome, r.n_changes, r.last_recorded_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, day date, outcome text, n_changes bigint, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, outcome) DO UPDATE SET
    n_changes = c.n_changes + excluded.n_changes,
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at);

-- Count no longer what came in before a day (IssuesPurged).
-- name: ForgetSources :exec
DELETE FROM sources_daily WHERE workspace_id = sqlc.arg(workspace_id) AND day < sqlc.arg(day)::date;

-- Count no longer what changed before a day (IssuesPurged).
-- name: ForgetChanges :exec
DELETE FROM changes_daily WHERE workspace_id = sqlc.arg(workspace_id) AND day < sqlc.arg(day)::date;

-- Sources by what they delivered since a day, the most recently seen first.
-- row: SourceIntake
-- name: ListSources :many
SELECT workspace_id, source, sum(n_issues)::bigint AS n_issues,
       max(last_occurred_at)::timestamptz AS last_occurred_at,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM sources_daily
WHERE day >= sqlc.arg('since')::date
GROUP BY workspace_id, source
ORDER BY max(last_recorded_at) DESC, workspace_id, source
LIMIT sqlc.arg('row_limit');

-- Changes to known issues since a day, the most recent first.
-- row: ChangeIntake
-- name: ListChanges :many
SELECT workspace_id, outcome, sum(n_changes)::bigint AS n_changes,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM changes_daily
WHERE day >= sqlc.arg('since')::date
GROUP BY workspace_id, outcome
ORDER BY max(last_recorded_at) DESC, workspace_id, outcome
LIMIT sqlc.arg('row_limit');

-- Add a connector (ConnectorCreated).
-- name: AddConnector :exec
INSERT INTO connectors (workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since,
    failed_run_ids, partition, changed_seq)
VALUES (sqlc.arg(workspace_id), sqlc.arg(connector_id), sqlc.arg(type), sqlc.arg(settings), sqlc.arg(status), '', '{}',
    sqlc.arg(at), '{}', sqlc.arg(partition), sqlc.arg(seq))
ON CONFLICT (workspace_id, connector_id) DO NOTHING;

-- Set what is decided about a connector; another schedule counts from now (ConnectorConfigured).
-- name: ConfigureConnector :exec
UPDATE connectors SET type = sqlc.arg(type), settings = sqlc.arg(settings)::text,
    scheduled_since = CASE WHEN (settings::jsonb)->'schedule' IS DISTINCT FROM (sqlc.arg(settings)::text::jsonb)->'schedule'
        THEN sqlc.arg(at)::timestamptz ELSE scheduled_since END,
    changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Set the names of a connector's secrets (ConnectorCredentialsChanged).
-- name: NameSecrets :exec
UPDATE connectors SET secrets = sqlc.arg(secrets)::text[], changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Set where a connector stands (ConnectorStatusChanged).
-- name: SetStanding :exec
UPDATE connectors SET status = sqlc.arg(status), reason = sqlc.arg(reason), changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete a connector (ConnectorDeleted).
-- name: DeleteConnector :exec
DELETE FROM connectors WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Add a run that waits (SyncRequested).
-- name: AddRun :exec
INSERT INTO open_runs (workspace_id, run_id, connector_id, kind, requested_at, partition)
VALUES (sqlc.arg(workspace_id), sqlc.arg(run_id), sqlc.arg(connector_id), sqlc.arg(kind), sqlc.arg(at),
    sqlc.arg(partition))
ON CONFLICT (workspace_id, run_id) DO NOTHING;

-- Note when a connector was last asked to run (SyncRequested).
-- name: NoteRun :exec
UPDATE connectors SET last_run_at = sqlc.arg(at), last_run_id = sqlc.arg(run_id), changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Delete a run that is over (SyncEnded).
-- name: EndRun :exec
DELETE FROM open_runs WHERE workspace_id = sqlc.arg(workspace_id) AND run_id = sqlc.arg(run_id);

-- Note a run that succeeded, which ends the row of those that failed (SyncEnded).
-- name: NoteSuccess :exec
UPDATE connectors SET succeeded_run_id = sqlc.arg(run_id), failed_run_ids = '{}', changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Note a run that failed, behind the last of those that did so in a row (SyncEnded).
-- name: NoteFailure :exec
UPDATE connectors
SET failed_run_ids = failed_run_ids[cardinality(failed_run_ids) + 2 - sqlc.arg(at_most)::integer:] || sqlc.arg(run_id)::text,
    changed_seq = sqlc.arg(seq)
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- Those of some runs that the rows of connectors rest on.
-- name: ListNeededRuns :many
SELECT DISTINCT needed.run_id::text AS run_id
FROM connectors, unnest(failed_run_ids || ARRAY[last_run_id, succeeded_run_id]) AS needed(run_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND needed.run_id = ANY(sqlc.arg(run_ids)::text[]);

-- Connectors of a partition that changed behind a sequence, in the order of their changes.
-- row: ConnectorRow
-- name: ListChangedConnectors :many
SELECT workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since, last_run_at,
    cardinality(failed_run_ids) AS n_failed, changed_seq
FROM connectors
WHERE partition = sqlc.arg(partition) AND changed_seq > sqlc.arg(after)
ORDER BY changed_seq, workspace_id, connector_id
LIMIT sqlc.arg(row_limit);

-- One connector of a workspace; none where there is no such one.
-- row: ConnectorRow
-- name: GetConnector :one
SELECT workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since, last_run_at,
    cardinality(failed_run_ids) AS n_failed, changed_seq
FROM connectors
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id);

-- How many connectors a workspace has.
-- name: CountConnectors :one
SELECT count(*)::integer FROM connectors WHERE workspace_id = sqlc.arg(workspace_id);

-- Runs of a connector that wait or run, the oldest first.
-- row: OpenRun
-- name: ListOpenRunsOf :many
SELECT workspace_id, run_id, connector_id, kind, requested_at FROM open_runs
WHERE workspace_id = sqlc.arg(workspace_id) AND connector_id = sqlc.arg(connector_id)
ORDER BY requested_at, run_id;

-- Runs of a partition that were asked for before a time and are not over, the oldest first, behind one.
-- row: OpenRun
-- name: ListOldRuns :many
SELECT workspace_id, run_id, connector_id, kind, requested_at FROM open_runs
WHERE partition = sqlc.arg(partition) AND requested_at < sqlc.arg(before)
    AND (requested_at, run_id) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_id)::text)
ORDER BY requested_at, run_id
LIMIT sqlc.arg(row_limit);

-- The connectors that addresses are about, in whichever workspace; for the role that sees all of them.
-- name: FindConnectors :many
SELECT c.connector_id, c.workspace_id, c.settings, c.status
FROM unnest(sqlc.arg(connector_ids)::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT k.connector_id, k.workspace_id, k.settings, k.status FROM connectors AS k
    WHERE k.connector_id = i.id
    LIMIT 1
) AS c;

-- Add a ticket (TicketCreated).
-- name: AddTicket :exec
INSERT INTO tickets (workspace_id, ticket_id, connector_id, external_id, target, created_at, state, partition)
VALUES (sqlc.arg(workspace_id), sqlc.arg(ticket_id), sqlc.arg(connector_id), sqlc.arg(external_id), sqlc.arg(target),
    sqlc.arg(at), 'open', sqlc.arg(partition))
ON CONFLICT (workspace_id, ticket_id) DO NOTHING;

-- Set where a ticket stands (TicketStateChanged).
-- name: SetTicketState :exec
UPDATE tickets SET state = sqlc.arg(state)
WHERE workspace_id = sqlc.arg(workspace_id) AND ticket_id = sqlc.arg(ticket_id);

-- Open tickets of a partition through connectors that are connected, behind one, in the order of their ids.
-- row: OpenTicket
-- name: ListOpenTickets :many
SELECT t.workspace_id, t.ticket_id, t.connector_id, t.external_id, t.target, t.created_at
FROM tickets AS t JOIN connectors AS c USING (workspace_id, connector_id)
WHERE t.partition = sqlc.arg(partition) AND t.state = 'open' AND c.status = 'connected'
    AND (t.workspace_id, t.connector_id, t.ticket_id)
        > (sqlc.arg(after_workspace)::text, sqlc.arg(after_connector)::text, sqlc.arg(after_ticket)::text)
ORDER BY t.workspace_id, t.connector_id, t.ticket_id
LIMIT sqlc.arg(row_limit);
