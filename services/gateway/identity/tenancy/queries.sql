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

-- A workspace with the settings that its services judge by.
-- row: WorkspaceRow
-- name: GetWorkspace :one
SELECT w.workspace_id, w.organization_id, w.slug, w.name, w.description, w.industry, w.timezone, w.theme, w.sso_enforced,
    s.confidence_threshold, s.alert_probability, s.minimum_cluster_size, s.proof_window_days,
    s.proof_window_max_days, s.proof_confidence, w.created_at,
    greatest(w.updated_at, s.updated_at)::timestamptz AS updated_at
FROM workspaces AS w JOIN workspace_settings AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = sqlc.arg(workspace_id);

-- The same, held against other changes until the transaction ends.
-- row: WorkspaceRow
-- name: LockWorkspace :one
SELECT w.workspace_id, w.organization_id, w.slug, w.name, w.description, w.industry, w.timezone, w.theme, w.sso_enforced,
    s.confidence_threshold, s.alert_probability, s.minimum_cluster_size, s.proof_window_days,
    s.proof_window_max_days, s.proof_confidence, w.created_at,
    greatest(w.updated_at, s.updated_at)::timestamptz AS updated_at
FROM workspaces AS w JOIN workspace_settings AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = sqlc.arg(workspace_id)
FOR NO KEY UPDATE;

-- Change what is given of a workspace.
-- name: UpdateWorkspace :exec
UPDATE workspaces SET
    name = coalesce(sqlc.narg(name), name),
    slug = coalesce(sqlc.narg(slug), slug),
    description = coalesce(sqlc.narg(description), description),
    industry = coalesce(sqlc.narg(industry), industry),
    timezone = coalesce(sqlc.narg(timezone), timezone),
    theme = coalesce(sqlc.narg(theme), theme),
    sso_enforced = coalesce(sqlc.narg(sso_enforced), sso_enforced),
    updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id);

-- Change what is given of how the services judge.
-- name: UpdateSettings :exec
UPDATE workspace_settings SET
    confidence_threshold = coalesce(sqlc.narg(confidence_threshold), confidence_threshold),
    alert_probability = coalesce(sqlc.narg(alert_probability), alert_probability),
    minimum_cluster_size = coalesce(sqlc.narg(minimum_cluster_size), minimum_cluster_size),
    proof_window_days = coalesce(sqlc.narg(proof_window_days), proof_window_days),
    proof_window_max_days = coalesce(sqlc.narg(proof_window_max_days), proof_window_max_days),
    proof_confidence = coalesce(sqlc.narg(proof_confidence), proof_confidence),
    updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id);

-- Say a fact of the workspace to the log once this transaction commits.
-- always
-- name: Emit :one
SELECT emit_here(sqlc.arg(event_type)::text, sqlc.arg(data)::jsonb, sqlc.arg(actor)::text, sqlc.narg(traceparent)::text)
    AS event_id;

-- Whether there is a time zone of this name.
-- always
-- name: IsTimezone :one
SELECT is_timezone(sqlc.arg(timezone)::text) AS is_known;

-- Whether somebody could sign in by the workspace's own identity provider.
-- always
-- name: HasActiveConnection :one
SELECT EXISTS (SELECT FROM oidc_connections WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'active') AS is_there;

-- The organization of a workspace with its plan and what is used of it this month; seats are what was agreed, within the plan.
-- row: PlanRow
-- column seats_total: int | None
-- column connectors: int | None
-- column events_this_month: int
-- name: GetPlan :one
SELECT o.organization_id, o.slug, o.name, o.status, o.created_at, p.plan,
    LEAST(o.seats_total, p.seats)::integer AS seats_total, seats_taken() AS seats_used, p.connectors, p.requests_per_minute,
    p.events_per_month, p.retention_days, p.features, COALESCE(u.events, 0)::bigint AS events_this_month
FROM workspaces AS w
JOIN organizations AS o ON o.organization_id = w.organization_id
JOIN plans AS p ON p.plan = o.plan
LEFT JOIN event_usage AS u ON u.organization_id = o.organization_id AND u.month = sqlc.arg(month)::date
WHERE w.workspace_id = sqlc.arg(workspace_id);

-- Give the organization another name.
-- name: RenameOrganization :execrows
UPDATE organizations SET name = sqlc.arg(name)
WHERE organization_id = sqlc.arg(organization_id) AND name <> sqlc.arg(name);

-- How far a new workspace has come, and how many it has invited; the owner's own link, made with the client, is none.
-- row: OnboardingRow
-- name: GetOnboarding :one
SELECT o.current_step, o.completed_steps, o.is_complete, o.updated_at,
    (SELECT count(*) FROM invitations AS i WHERE i.workspace_id = o.workspace_id AND i.status <> 'revoked'
        AND coalesce(i.invited_by, '') NOT LIKE 'key\_%') AS members_invited
FROM onboarding_states AS o WHERE o.workspace_id = sqlc.arg(workspace_id);

-- Hold the onboarding of a workspace against other changes; the steps that are done.
-- column completed_steps: list[str]
-- name: LockOnboarding :one
SELECT completed_steps FROM onboarding_states WHERE workspace_id = sqlc.arg(workspace_id) FOR UPDATE;

-- Note a step that is done.
-- name: UpdateOnboarding :exec
UPDATE onboarding_states SET completed_steps = sqlc.arg(completed_steps)::text[], current_step = sqlc.arg(current_step),
    is_complete = sqlc.arg(is_complete), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id);

-- Make a client with its workspace and its owner.
-- always
-- row: MadeClient
-- name: OnboardClient :one
SELECT c.organization_id::text AS organization_id, c.workspace_id::text AS workspace_id,
    c.owner_user_id::text AS owner_user_id, c.membership_id::text AS membership_id
FROM onboard_client(sqlc.arg(org_name)::text, sqlc.arg(org_slug)::text, sqlc.arg(owner_email)::text,
    sqlc.narg(owner_name)::text, sqlc.narg(workspace_name)::text, sqlc.arg(plan)::text, sqlc.arg(timezone)::text,
    sqlc.narg(seats)::integer) AS c (organization_id, workspace_id, owner_user_id, membership_id);

-- See the workspace that was just made, from here to the end of the transaction.
-- always
-- name: Enter :one
SELECT set_config('app.current_workspace', sqlc.arg(workspace_id)::text, true)::text AS workspace_id;

-- Make a service account.
-- name: InsertServiceAccount :exec
INSERT INTO service_accounts (workspace_id, service_account_id, name, description, created_by, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(service_account_id), sqlc.arg(name), sqlc.arg(description),
    sqlc.arg(created_by)::text, sqlc.arg(created_at), sqlc.arg(created_at));

-- Make a token of a service account.
-- name: InsertServiceToken :exec
INSERT INTO api_tokens (workspace_id, token_id, service_account_id, name, token_hash, hint, scopes, created_by, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(token_id), sqlc.arg(service_account_id)::text, sqlc.arg(name),
    sqlc.arg(token_hash), sqlc.arg(hint), sqlc.arg(scopes)::text[], sqlc.arg(created_by)::text, sqlc.arg(created_at));

-- A link for the owner of a workspace that was just made.
-- name: InsertOwnerInvitation :exec
INSERT INTO invitations (workspace_id, invitation_id, user_id, email, role, token_hash, delivery, invited_by, created_at,
    expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(invitation_id), sqlc.arg(user_id), sqlc.arg(email), 'owner',
    sqlc.arg(token_hash), 'link', sqlc.arg(invited_by)::text, sqlc.arg(created_at), sqlc.arg(expires_at));

-- End the sessions of a workspace that its own provider did not vouch for, but not the one of who says so.
-- name: RevokePlatformSessions :execrows
UPDATE sessions SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND connection_id IS NULL AND revoked_at IS NULL
    AND session_id <> sqlc.arg(except_session_id)::text;

-- Whom a workspace lets explain its failures, once somebody has said something about it.
-- row: AiSettingsRow
-- name: GetAiSettings :one
SELECT workspace_id, model_enabled, base_url, api_key_sealed, model_fast, model_balanced, model_deep, redact_emails,
    redact_ip_addresses, updated_at
FROM ai_settings WHERE workspace_id = sqlc.arg(workspace_id);

-- Say who may explain a workspace's failures, all of it anew.
-- name: PutAiSettings :exec
INSERT INTO ai_settings (workspace_id, model_enabled, base_url, api_key_sealed, model_fast, model_balanced, model_deep,
    redact_emails, redact_ip_addresses, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(model_enabled), sqlc.narg(base_url), sqlc.narg(api_key_sealed),
    sqlc.narg(model_fast), sqlc.narg(model_balanced), sqlc.narg(model_deep), sqlc.arg(redact_emails),
    sqlc.arg(redact_ip_addresses), sqlc.arg(updated_at))
ON CONFLICT (workspace_id) DO UPDATE SET
    model_enabled = excluded.model_enabled, base_url = excluded.base_url, api_key_sealed = excluded.api_key_sealed,
    model_fast = excluded.model_fast, model_balanced = excluded.model_balanced, model_deep = excluded.model_deep,
    redact_emails = excluded.redact_emails, redact_ip_addresses = excluded.redact_ip_addresses,
    updated_at = excluded.updated_at;
