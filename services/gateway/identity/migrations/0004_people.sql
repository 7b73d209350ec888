-- migrate:up

-- Lists need an order that no two rows share.
ALTER TABLE memberships ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;

CREATE TABLE invitations (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    invitation_id text NOT NULL UNIQUE CHECK (invitation_id ~ '^inv_[0-9A-HJKMNP-TV-Z]{26}$'),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    email text NOT NULL,                      -- as it was written; the person may be gone from the workspace again
    role text NOT NULL CHECK (role IN
        ('read_only', 'viewer', 'executive', 'analyst', 'compliance_admin', 'security_admin', 'admin', 'owner')),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'accepted', 'revoked')),
    token_hash text NOT NULL UNIQUE,          -- SHA-256 in hex; the link's token is nowhere, except sealed in the queue
    delivery text NOT NULL CHECK (delivery IN ('link', 'queued', 'sent', 'failed')),
    delivery_error text,                      -- what the mail server said last
    invited_by text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    settled_at timestamptz,                   -- accepted or revoked
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, invitation_id)
);
COMMENT ON TABLE invitations IS 'A link that makes a person a member; a fresh one takes the place of the old.';
CREATE UNIQUE INDEX invitations_pending ON invitations (workspace_id, user_id) WHERE status = 'pending';
CREATE INDEX invitations_by_user ON invitations (user_id);

CREATE TABLE mail_queue (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    mail_id text NOT NULL UNIQUE CHECK (mail_id ~ '^mail_[0-9A-HJKMNP-TV-Z]{26}$'),
    invitation_id text,                       -- which invitation shows what becomes of it
    message_sealed text NOT NULL,
    n_attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, mail_id),
    FOREIGN KEY (workspace_id, invitation_id) REFERENCES invitations ON DELETE CASCADE
);
COMMENT ON TABLE mail_queue IS 'Messages on their way to the mail server; deleted once it has them, or when it never takes them.';
CREATE INDEX mail_queue_by_time ON mail_queue (next_attempt_at);

CREATE TABLE notification_preferences (
    workspace_id text NOT NULL,
    user_id text NOT NULL,
    email_enabled boolean NOT NULL DEFAULT true,
    slack_enabled boolean NOT NULL DEFAULT false,
    teams_enabled boolean NOT NULL DEFAULT false,
    pagerduty_enabled boolean NOT NULL DEFAULT false,
    slack_webhook_url_sealed text,
    teams_webhook_url_sealed text,
    pagerduty_integration_key_sealed text,
    digest_frequency text NOT NULL DEFAULT 'realtime'
        CHECK (digest_frequency IN ('realtime', 'hourly', 'daily', 'weekly', 'never')),
    min_severity_for_alert text NOT NULL DEFAULT 'p2' CHECK (min_severity_for_alert IN ('p1', 'p2', 'p3', 'p4')),
    min_risk_score_for_alert integer NOT NULL DEFAULT 70 CHECK (min_risk_score_for_alert BETWEEN 0 AND 100),
    events jsonb NOT NULL DEFAULT '{}',       -- event → channel → whether; what is absent has its default
    notify_on_new_issue boolean NOT NULL DEFAULT true,
    notify_on_pattern_detected boolean NOT NULL DEFAULT true,
    notify_on_prediction boolean NOT NULL DEFAULT true,
    notify_on_recommendation boolean NOT NULL DEFAULT true,
    notify_on_report_ready boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, user_id),
    FOREIGN KEY (workspace_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
COMMENT ON TABLE notification_preferences IS 'What a member wants to hear of, how soon and where; no row: the defaults.';

CREATE TABLE scim_profiles (
    workspace_id text NOT NULL,
    user_id text NOT NULL,
    user_name text NOT NULL CHECK (char_length(user_name) BETWEEN 1 AND 320),
    external_id text CHECK (char_length(external_id) <= 320),
    attributes jsonb NOT NULL,                -- what the directory says of the person, as SCIM's User without its keys
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, user_id),
    FOREIGN KEY (workspace_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
COMMENT ON TABLE scim_profiles IS 'A member as the client''s directory describes them.';
CREATE UNIQUE INDEX scim_profiles_user_name ON scim_profiles (workspace_id, lower(user_name));
CREATE INDEX scim_profiles_external_id ON scim_profiles (workspace_id, external_id);

CREATE TABLE scim_groups (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    group_id text NOT NULL UNIQUE CHECK (group_id ~ '^grp_[0-9A-HJKMNP-TV-Z]{26}$'),
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 320),
    external_id text CHECK (char_length(external_id) <= 320),
    role text CHECK (role IN          -- what its members become; an owner is made by hand
        ('read_only', 'viewer', 'executive', 'analyst', 'compliance_admin', 'security_admin', 'admin')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, group_id)
);
COMMENT ON TABLE scim_groups IS 'A group of the client''s directory, and the role that it stands for.';

CREATE TABLE scim_group_members (
    workspace_id text NOT NULL,
    group_id text NOT NULL,
    user_id text NOT NULL,
    PRIMARY KEY (workspace_id, group_id, user_id),
    FOREIGN KEY (workspace_id, group_id) REFERENCES scim_groups ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
COMMENT ON TABLE scim_group_members IS 'Who is in a group of the client''s directory.';
CREATE INDEX scim_group_members_by_user ON scim_group_members (workspace_id, user_id);

-- They follow the reader's rights, so that row-level security holds in them too.
CREATE VIEW members WITH (security_invoker = true) AS
SELECT m.workspace_id, m.membership_id, m.user_id, u.email,
    COALESCE(shown.name, left(p.attributes ->> 'displayName', 200), left(p.attributes #>> '{name,formatted}', 200),
        NULLIF(left(concat_ws(' ', p.attributes #>> '{name,givenName}', p.attributes #>> '{name,familyName}'), 200), ''),
        split_part(u.email, '@', 1))::text AS name, shown.avatar_url, m.role, m.status, m.provisioning,
    m.last_active_at, m.created_at, m.updated_at, m.seq
FROM memberships AS m JOIN users AS u ON u.user_id = m.user_id
LEFT JOIN scim_profiles AS p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
-- Whoever was merely invited may be known elsewhere, and so may whoever a directory put here without asking them; until
-- they have come, nobody here was told under which name.
LEFT JOIN users AS shown ON shown.user_id = m.user_id AND m.status <> 'invited'
    AND (p.user_id IS NULL OR m.last_active_at IS NOT NULL);
CREATE VIEW scim_groups_shown WITH (security_invoker = true) AS
SELECT g.workspace_id, g.group_id, g.display_name, g.external_id, g.role, g.created_at, g.updated_at, g.seq,
    (SELECT count(*) FROM scim_group_members AS gm WHERE gm.workspace_id = g.workspace_id AND gm.group_id = g.group_id)
        AS n_members
FROM scim_groups AS g;

-- Whichever way somebody came in or was taken out, by link, by single sign-on or by a directory, their link is over.
CREATE FUNCTION settle_invitations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (OLD.status = 'invited' AND NEW.status <> 'invited') THEN
        UPDATE invitations SET status = CASE WHEN TG_OP = 'DELETE' THEN 'revoked' ELSE 'accepted' END, settled_at = now()
        WHERE workspace_id = OLD.workspace_id AND user_id = OLD.user_id AND status = 'pending';
        DELETE FROM mail_queue AS q USING invitations AS i
        WHERE i.workspace_id = OLD.workspace_id AND i.user_id = OLD.user_id AND i.status <> 'pending'
            AND q.workspace_id = i.workspace_id AND q.invitation_id = i.invitation_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER settle AFTER UPDATE OF status OR DELETE ON memberships
    FOR EACH ROW EXECUTE FUNCTION settle_invitations();

CREATE FUNCTION take_mail(p_now timestamptz, p_until timestamptz)
RETURNS TABLE (workspace_id text, mail_id text, message_sealed text, n_attempts integer)
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    UPDATE mail_queue AS q SET n_attempts = q.n_attempts + 1, next_attempt_at = p_until
    FROM (SELECT due.workspace_id, due.mail_id FROM mail_queue AS due WHERE due.next_attempt_at <= p_now
        ORDER BY due.next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS picked
    WHERE q.workspace_id = picked.workspace_id AND q.mail_id = picked.mail_id
    RETURNING q.workspace_id, q.mail_id, q.message_sealed, q.n_attempts
$$;
COMMENT ON FUNCTION take_mail IS 'One message that is due, whoever''s; nobody else gets it before p_until.';

CREATE FUNCTION follow_directory(p_user text, p_email text, p_name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    -- Whoever has signed in, or is known to another client, is their own master: no directory renames them.
    UPDATE users AS u SET email = p_email, name = p_name, updated_at = now()
    WHERE u.user_id = p_user AND u.external_id IS NULL
        AND NOT EXISTS (SELECT FROM users AS other WHERE other.email = p_email AND other.user_id <> p_user)
        AND EXISTS (SELECT FROM memberships AS m WHERE m.user_id = p_user AND m.workspace_id = current_workspace())
        AND NOT EXISTS (SELECT FROM memberships AS m WHERE m.user_id = p_user AND m.workspace_id <> current_workspace())
        AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = p_user)
        AND NOT EXISTS (SELECT FROM user_identities AS i WHERE i.user_id = p_user);
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION follow_directory IS
    'Correct the address and name of a person who only this workspace knows and who never signed in.';

SELECT isolate(name::regclass, 'workspace_id = (SELECT current_workspace())')
FROM unnest(ARRAY['invitations', 'mail_queue', 'notification_preferences', 'scim_profiles', 'scim_groups',
    'scim_group_members']) AS name;
-- Whoever can show the link sees what it is about.
CREATE POLICY presented ON invitations FOR SELECT TO causeloop_app
    USING (token_hash = (SELECT current_setting('app.presented_hash', true)));

REVOKE EXECUTE ON FUNCTION settle_invitations, take_mail, follow_directory FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_mail, follow_directory TO causeloop_app;
GRANT SELECT ON members, scim_groups_shown TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON invitations, mail_queue, notification_preferences, scim_profiles, scim_groups,
    scim_group_members TO causeloop_app;

-- migrate:down

DROP FUNCTION follow_directory, take_mail;
DROP TRIGGER settle ON memberships;
DROP FUNCTION settle_invitations;
DROP VIEW scim_groups_shown, members;
DROP TABLE scim_group_members, scim_groups, scim_profiles, notification_preferences, mail_queue, invitations;
ALTER TABLE memberships DROP COLUMN seq;
