-- Lead the outbox, if nobody does: one relay works for all gateways, until its connection ends.
-- always
-- name: TryLead :one
SELECT pg_try_advisory_lock(hashtextextended('identity/outbox', 0)) AS leads;

-- The oldest facts that the log does not have yet, except those of the workspaces that wait.
-- row: Fact
-- name: ListUntoldFacts :many
SELECT f.outbox_id, f.workspace_id, f.event_id, f.event_type, f.data, f.actor, f.traceparent, f.recorded_at
FROM untold_facts(sqlc.arg(page_size)::integer, sqlc.arg(without)::text[]) AS f
ORDER BY f.outbox_id;

-- Delete the facts that the log has.
-- always
-- name: ForgetFacts :one
SELECT forget_facts(sqlc.arg(outbox_ids)::bigint[]) AS n_forgotten;

-- Make the client of the demo, unless it is there.
-- name: InsertOrganization :execrows
INSERT INTO organizations (organization_id, slug, name, plan) VALUES (sqlc.arg(organization_id), sqlc.arg(slug),
    sqlc.arg(name), sqlc.arg(plan))
ON CONFLICT (organization_id) DO NOTHING;

-- Make the demo's workspace with its settings and its onboarding, and the fact of it, unless it is there.
-- name: InsertWorkspace :execrows
WITH made AS (
    INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone) VALUES (sqlc.arg(workspace_id),
        sqlc.arg(organization_id), sqlc.arg(slug), sqlc.arg(name), sqlc.arg(timezone))
    ON CONFLICT (workspace_id) DO NOTHING
    RETURNING workspace_id, slug, name, timezone
), settings AS (
    INSERT INTO workspace_settings (workspace_id) SELECT workspace_id FROM made
), fact AS (
    INSERT INTO outbox (workspace_id, event_id, event_type, data)
    SELECT workspace_id, sqlc.arg(event_id)::text, 'WorkspaceCreated', jsonb_build_object('workspace_id', workspace_id,
        'slug', slug, 'name', name, 'timezone', timezone)
    FROM made
)
INSERT INTO onboarding_states (workspace_id) SELECT workspace_id FROM made;

-- Make a person, unless there is one with this id.
-- name: InsertUser :execrows
INSERT INTO users (user_id, email, name) VALUES (sqlc.arg(user_id), sqlc.arg(email), sqlc.arg(name))
ON CONFLICT (user_id) DO NOTHING;

-- Make a person a member, unless that is so.
-- name: InsertMembership :execrows
INSERT INTO memberships (workspace_id, membership_id, user_id, role)
VALUES (sqlc.arg(workspace_id), sqlc.arg(membership_id), sqlc.arg(user_id), sqlc.arg(role))
ON CONFLICT (workspace_id, user_id) DO NOTHING;
