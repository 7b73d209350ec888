-- Name what this transaction may see: a workspace and a person.
-- always
-- name: See :one
SELECT concat(
    set_config('app.current_workspace', sqlc.arg(workspace_id)::text, true),
    set_config('app.current_user', sqlc.arg(user_id)::text, true))::text AS scope;

-- Show the hash of an invitation's token, to see that invitation.
-- always
-- name: PresentInvitation :one
SELECT set_config('app.presented_hash', sqlc.arg(token_hash)::text, true)::text AS scope;

-- A member by id, kept from changing until this transaction ends.
-- name: LockMember :one
SELECT membership_id, user_id, role, status, provisioning FROM memberships
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = sqlc.arg(membership_id)
FOR UPDATE;

-- A member as lists show them.
-- row: Member
-- name: GetMember :one
SELECT membership_id, user_id, email, name, avatar_url, role, status, provisioning, last_active_at, created_at,
    updated_at, seq
FROM members
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = sqlc.arg(membership_id);

-- The member with this address, or one that differs from it by case only.
-- name: GetMemberByEmail :one
SELECT membership_id, user_id, email, status FROM members
WHERE workspace_id = sqlc.arg(workspace_id) AND lower(email) = lower(sqlc.arg(email))
ORDER BY (email = sqlc.arg(email)) DESC LIMIT 1;

-- Whether a group of the client's directory says what a member is.
-- always
-- name: IsRoleMapped :one
SELECT EXISTS (SELECT FROM scim_group_members AS gm
    JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
    JOIN memberships AS m ON m.workspace_id = gm.workspace_id AND m.user_id = gm.user_id
    WHERE gm.workspace_id = sqlc.arg(workspace_id) AND gm.user_id = sqlc.arg(user_id)
        AND m.provisioning = 'scim' AND g.role IS NOT NULL) AS is_mapped;

-- Give a member another role or another status.
-- name: ChangeMember :execrows
UPDATE memberships SET role = sqlc.arg(role), status = sqlc.arg(status), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = sqlc.arg(membership_id);

-- Keep a seat for somebody who is to say yes first.
-- name: InsertInvitedMember :exec
INSERT INTO memberships (workspace_id, membership_id, user_id, role, status, provisioning)
VALUES (sqlc.arg(workspace_id), sqlc.arg(membership_id), sqlc.arg(user_id), sqlc.arg(role), 'invited', 'invitation');

-- Take somebody out of the workspace.
-- name: DeleteMember :execrows
DELETE FROM memberships
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = sqlc.arg(membership_id);

-- End every session of a person in the workspace.
-- name: EndSessions :execrows
UPDATE sessions SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id) AND revoked_at IS NULL;

-- Revoke every personal token of a person in the workspace.
-- name: RevokeTokens :execrows
UPDATE api_tokens SET revoked_at = sqlc.arg(revoked_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id)::text AND revoked_at IS NULL;

-- Find or make the person with an address.
-- always
-- name: EnsurePerson :one
SELECT ensure_person(sqlc.arg(email), sqlc.narg(name))::text AS user_id;

-- Make an invitation.
-- name: InsertInvitation :exec
INSERT INTO invitations (workspace_id, invitation_id, user_id, email, role, token_hash, delivery, invited_by,
    created_at, expires_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(invitation_id), sqlc.arg(user_id), sqlc.arg(email), sqlc.arg(role),
    sqlc.arg(token_hash), sqlc.arg(delivery), sqlc.arg(invited_by), sqlc.arg(created_at), sqlc.arg(expires_at));

-- An invitation as lists show it.
-- row: Invitation
-- name: GetInvitation :one
SELECT invitation_id, email, role, status, delivery, delivery_error, invited_by, created_at, expires_at, settled_at, seq
FROM invitations_shown
WHERE workspace_id = sqlc.arg(workspace_id) AND invitation_id = sqlc.arg(invitation_id);

-- An invitation by id, kept from changing until this transaction ends.
-- name: LockInvitation :one
SELECT i.invitation_id, i.user_id, i.email, i.role, i.status FROM invitations AS i
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.invitation_id = sqlc.arg(invitation_id)
    AND EXISTS (SELECT FROM invitations_shown AS s WHERE s.workspace_id = i.workspace_id AND s.invitation_id = i.invitation_id)
FOR UPDATE;

-- The pending invitation of a person, kept from changing until this transaction ends.
-- name: LockPendingInvitation :one
SELECT invitation_id, expires_at FROM invitations
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id) AND status = 'pending'
FOR UPDATE;

-- The pending invitation behind a token's hash.
-- name: FindInvitation :one
SELECT workspace_id, invitation_id, user_id, email, role, invited_by, expires_at FROM invitations
WHERE token_hash = sqlc.arg(token_hash) AND status = 'pending';

-- Put a fresh link in the place of the old one.
-- name: RenewInvitation :execrows
UPDATE invitations SET token_hash = sqlc.arg(token_hash), delivery = sqlc.arg(delivery), delivery_error = NULL,
    expires_at = sqlc.arg(expires_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND invitation_id = sqlc.arg(invitation_id) AND status = 'pending';

-- End an invitation.
-- name: RevokeInvitation :execrows
UPDATE invitations SET status = 'revoked', settled_at = sqlc.arg(settled_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND invitation_id = sqlc.arg(invitation_id) AND status = 'pending';

-- Let go of the seat that was kept for somebody who was invited.
-- name: DeleteInvitedMember :execrows
DELETE FROM memberships
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id) AND status = 'invited';

-- Make somebody who was invited a member, in the role of the invitation; 0 rows when they are one or not invited.
-- name: ActivateMember :execrows
UPDATE memberships SET status = 'active', role = sqlc.arg(role), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id) AND status = 'invited';

-- Use up the link of somebody who is a member already, such as the owner that a client was made with.
-- name: UseInvitation :execrows
UPDATE invitations SET status = 'accepted', settled_at = sqlc.arg(settled_at)::timestamptz
WHERE workspace_id = sqlc.arg(workspace_id) AND invitation_id = sqlc.arg(invitation_id) AND status = 'pending';

-- What a person is in a workspace.
-- name: GetMembershipOf :one
SELECT membership_id, role, status FROM memberships
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id);

-- The workspace that an invitation is to; nothing while it or its client is suspended.
-- name: GetInvitingWorkspace :one
SELECT w.workspace_id, w.name, w.sso_enforced FROM workspaces AS w
JOIN organizations AS o ON o.organization_id = w.organization_id
WHERE w.workspace_id = sqlc.arg(workspace_id) AND w.status = 'active' AND o.status = 'active';

-- The active identity provider of the workspace that speaks for an address; when the workspace insists, any.
-- name: GetConnectionFor :one
SELECT connection_id FROM oidc_connections
WHERE workspace_id = sqlc.arg(workspace_id) AND status = 'active'
  AND (domains @> ARRAY[lower(sqlc.arg(domain)::text)] OR sqlc.arg(is_enforced)::boolean)
ORDER BY (domains @> ARRAY[lower(sqlc.arg(domain)::text)]) DESC, created_at LIMIT 1;

-- What a person is called.
-- name: GetPersonName :one
SELECT name FROM users WHERE user_id = sqlc.arg(user_id);

-- Put a sealed message into the queue.
-- name: InsertMail :exec
INSERT INTO mail_queue (workspace_id, mail_id, invitation_id, message_sealed, next_attempt_at, created_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(mail_id), sqlc.arg(invitation_id), sqlc.arg(message_sealed),
    sqlc.arg(created_at), sqlc.arg(created_at));

-- Take one message that is due; nobody else gets it before `until`.
-- name: TakeMail :one
SELECT workspace_id::text AS workspace_id, mail_id::text AS mail_id, message_sealed::text AS message_sealed,
    n_attempts::integer AS n_attempts
FROM take_mail(sqlc.arg(now)::timestamptz, sqlc.arg(until)::timestamptz);

-- Hold the invitation that a message is about. Whoever changes an invitation holds it before its messages; so must
-- whoever sends one, or the two wait for each other.
-- name: LockInvitationOfMail :execrows
SELECT i.invitation_id FROM invitations AS i
JOIN mail_queue AS q ON q.workspace_id = i.workspace_id AND q.invitation_id = i.invitation_id
WHERE i.workspace_id = sqlc.arg(workspace_id) AND q.mail_id = sqlc.arg(mail_id)
FOR UPDATE OF i;

-- Try a message again later.
-- name: PostponeMail :execrows
UPDATE mail_queue SET next_attempt_at = sqlc.arg(next_attempt_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND mail_id = sqlc.arg(mail_id);

-- Forget the messages about an invitation.
-- name: DeleteMailOfInvitation :execrows
DELETE FROM mail_queue WHERE workspace_id = sqlc.arg(workspace_id) AND invitation_id = sqlc.arg(invitation_id)::text;

-- Show on the invitation how far its message has come, and take it out of the queue when that is the end.
-- name: SettleMail :execrows
WITH done AS (
    DELETE FROM mail_queue AS q
    WHERE q.workspace_id = sqlc.arg(workspace_id) AND q.mail_id = sqlc.arg(mail_id)
    RETURNING q.invitation_id
)
UPDATE invitations AS i SET delivery = sqlc.arg(delivery), delivery_error = sqlc.narg(delivery_error)
FROM done
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.invitation_id = done.invitation_id;

-- Show on the invitation what the mail server said, while its message is tried again.
-- name: NoteMailError :execrows
UPDATE invitations AS i SET delivery_error = sqlc.arg(delivery_error)::text
FROM mail_queue AS q
WHERE i.workspace_id = sqlc.arg(workspace_id) AND q.workspace_id = i.workspace_id AND q.mail_id = sqlc.arg(mail_id)
  AND i.invitation_id = q.invitation_id;

-- What a member wants to hear of, kept from changing until this transaction ends.
-- row: Preferences
-- column events: dict[str, dict[str, bool]]
-- name: LockPreferences :one
SELECT * FROM notification_preferences
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id)
FOR UPDATE;

-- Begin with the defaults, unless the member has said something.
-- name: InsertPreferences :execrows
INSERT INTO notification_preferences (workspace_id, user_id, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(user_id), sqlc.arg(updated_at))
ON CONFLICT (workspace_id, user_id) DO NOTHING;

-- Change what is given of a member's preferences; an empty secret is taken away.
-- row: Preferences
-- column events: dict[str, dict[str, bool]]
-- name: ChangePreferences :one
UPDATE notification_preferences SET
    email_enabled = COALESCE(sqlc.narg(email_enabled), email_enabled),
    slack_enabled = COALESCE(sqlc.narg(slack_enabled), slack_enabled),
    teams_enabled = COALESCE(sqlc.narg(teams_enabled), teams_enabled),
    pagerduty_enabled = COALESCE(sqlc.narg(pagerduty_enabled), pagerduty_enabled),
    slack_webhook_url_sealed = NULLIF(COALESCE(sqlc.narg(slack_webhook_url_sealed), slack_webhook_url_sealed), ''),
    teams_webhook_url_sealed = NULLIF(COALESCE(sqlc.narg(teams_webhook_url_sealed), teams_webhook_url_sealed), ''),
    pagerduty_integration_key_sealed =
        NULLIF(COALESCE(sqlc.narg(pagerduty_integration_key_sealed), pagerduty_integration_key_sealed), ''),
    digest_frequency = COALESCE(sqlc.narg(digest_frequency), digest_frequency),
    min_severity_for_alert = COALESCE(sqlc.narg(min_severity_for_alert), min_severity_for_alert),
    min_risk_score_for_alert = COALESCE(sqlc.narg(min_risk_score_for_alert), min_risk_score_for_alert),
    events = sqlc.arg(events)::text::jsonb,
    notify_on_new_issue = COALESCE(sqlc.narg(notify_on_new_issue), notify_on_new_issue),
    notify_on_pattern_detected = COALESCE(sqlc.narg(notify_on_pattern_detected), notify_on_pattern_detected),
    notify_on_prediction = COALESCE(sqlc.narg(notify_on_prediction), notify_on_prediction),
    notify_on_recommendation = COALESCE(sqlc.narg(notify_on_recommendation), notify_on_recommendation),
    notify_on_report_ready = COALESCE(sqlc.narg(notify_on_report_ready), notify_on_report_ready),
    updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND user_id = sqlc.arg(user_id)
RETURNING *;

-- Write down what was done.
-- always
-- name: Audit :one
SELECT audit_here(sqlc.arg(actor)::text, sqlc.arg(action)::text, sqlc.arg(category)::text, sqlc.arg(target_type)::text,
    sqlc.arg(target_id)::text, sqlc.arg(metadata)::text::jsonb, sqlc.narg(ip)::text)::text AS entry_id;

-- Name a deed that is about to be done; again is no second one.
-- name: InsertIntent :exec
INSERT INTO audit_intents (workspace_id, intent_id, begun_at, actor_id, action, category, target_type, target_id,
    metadata, ip)
VALUES (sqlc.arg(workspace_id), sqlc.arg(intent_id), sqlc.arg(begun_at), sqlc.arg(actor_id), sqlc.arg(action),
    sqlc.arg(category), sqlc.arg(target_type), sqlc.arg(target_id), sqlc.arg(metadata)::jsonb, sqlc.narg(ip))
ON CONFLICT (workspace_id, intent_id) DO NOTHING;

-- Turn a deed that is done into a line of the audit log, unless that has happened.
-- name: CloseIntent :exec
WITH gone AS (
    DELETE FROM audit_intents WHERE workspace_id = sqlc.arg(workspace_id) AND intent_id = sqlc.arg(intent_id)
    RETURNING actor_id, action, category, target_type, target_id, metadata, ip
)
SELECT audit_here(g.actor_id, g.action, g.category, coalesce(sqlc.narg(target_type)::text, g.target_type),
    coalesce(sqlc.narg(target_id)::text, g.target_id),
    g.metadata || sqlc.arg(outcome)::jsonb, g.ip) FROM gone AS g;

-- Forget a deed that was refused.
-- name: DeleteIntent :exec
DELETE FROM audit_intents WHERE workspace_id = sqlc.arg(workspace_id) AND intent_id = sqlc.arg(intent_id);

-- Write the line of one deed, of any workspace, whose process died; whether there was one.
-- always
-- name: CloseLeftIntent :one
SELECT close_left_intent(sqlc.arg(before)::timestamptz)::boolean AS is_closed;
