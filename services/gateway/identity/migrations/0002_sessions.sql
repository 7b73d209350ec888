-- migrate:up

CREATE TABLE sessions (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    session_id text NOT NULL UNIQUE CHECK (session_id ~ '^ses_[0-9A-HJKMNP-TV-Z]{26}$'),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    method text NOT NULL CHECK (method IN ('exchange', 'oidc', 'mock')),
    user_agent text NOT NULL DEFAULT '' CHECK (char_length(user_agent) <= 400),
    ip text NOT NULL DEFAULT '',
    connection_id text,                       -- the workspace's own provider that vouched for it; null: the platform's
    second_factor_at timestamptz,             -- null: not asked for or not given yet
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    seq bigint GENERATED ALWAYS AS IDENTITY,  -- lists need an order that no two rows share
    PRIMARY KEY (workspace_id, session_id)
);
COMMENT ON TABLE sessions IS 'One sign-in of a person to a workspace; ends for every token of it at once.';
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    token_hash text NOT NULL,                 -- SHA-256 in hex; the token itself is nowhere
    session_id text NOT NULL,
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,                      -- rotated; a second use ends the session
    PRIMARY KEY (workspace_id, token_hash),
    FOREIGN KEY (workspace_id, session_id) REFERENCES sessions (workspace_id, session_id) ON DELETE CASCADE
);
COMMENT ON TABLE refresh_tokens IS 'Proof of a session, good for one rotation.';
CREATE INDEX refresh_tokens_by_hash ON refresh_tokens (token_hash);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (workspace_id, session_id);

CREATE TABLE service_accounts (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    service_account_id text NOT NULL UNIQUE CHECK (service_account_id ~ '^svc_[0-9A-HJKMNP-TV-Z]{26}$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    description text NOT NULL DEFAULT '' CHECK (char_length(description) <= 2000),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, service_account_id),
    UNIQUE (workspace_id, name)
);
COMMENT ON TABLE service_accounts IS 'A machine that acts by itself; outlives whoever made it.';

CREATE TABLE api_tokens (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    token_id text NOT NULL UNIQUE CHECK (token_id ~ '^tok_[0-9A-HJKMNP-TV-Z]{26}$'),
    user_id text REFERENCES users ON DELETE CASCADE,
    service_account_id text,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    token_hash text NOT NULL UNIQUE,          -- SHA-256 in hex; the secret was shown once
    hint text NOT NULL,                       -- its last four characters
    scopes text[] NOT NULL,
    created_by text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,                   -- null: never
    last_used_at timestamptz,                 -- to the minute
    revoked_at timestamptz,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, token_id),
    FOREIGN KEY (workspace_id, service_account_id) REFERENCES service_accounts ON DELETE CASCADE,
    CHECK (num_nonnulls(user_id, service_account_id) = 1)
);
COMMENT ON TABLE api_tokens IS 'A long-lived secret of a person or of a service account.';
CREATE UNIQUE INDEX api_tokens_name ON api_tokens (workspace_id, COALESCE(user_id, service_account_id), name)
    WHERE revoked_at IS NULL;

SELECT isolate(name::regclass, 'workspace_id = (SELECT current_workspace())')
FROM unnest(ARRAY['refresh_tokens', 'service_accounts', 'api_tokens']) AS name;
SELECT isolate('sessions', 'workspace_id = (SELECT current_workspace()) OR user_id = (SELECT current_person())');

-- Whoever can show a secret, a subject that an issuer vouches for, or a verified address, sees the row it is about.
CREATE POLICY presented ON refresh_tokens FOR SELECT TO causeloop_app
    USING (token_hash = (SELECT current_setting('app.presented_hash', true)));
CREATE POLICY presented ON users FOR SELECT TO causeloop_app
    USING (external_id = (SELECT current_setting('app.presented_subject', true))
        OR email = (SELECT current_setting('app.presented_email', true)));

-- What every request asks, before it is known which workspace it may see: exactly one session or secret.
CREATE FUNCTION has_second_factor(p_user text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$ SELECT false $$;
COMMENT ON FUNCTION has_second_factor IS 'Whether a person has set up a second factor; the migration that brings factors says how.';

CREATE FUNCTION session_standing(p_workspace text, p_user text, p_session text) RETURNS TABLE (
    workspace_id text, organization_id text, principal_id text, role text, is_active boolean, owes_second_factor boolean,
    expires_at timestamptz, requests_per_minute integer, is_vouched boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT s.workspace_id, o.organization_id, s.user_id, m.role,
        (u.status, m.status, w.status, o.status) = ('active', 'active', 'active', 'active'),
        -- Factors belong to the platform's door; a workspace's own provider asks for its own.
        s.connection_id IS NULL AND s.second_factor_at IS NULL AND has_second_factor(s.user_id), s.expires_at,
        p.requests_per_minute, s.connection_id IS NOT NULL
    FROM sessions AS s
    JOIN users AS u ON u.user_id = s.user_id
    JOIN memberships AS m ON m.workspace_id = s.workspace_id AND m.user_id = s.user_id
    JOIN workspaces AS w ON w.workspace_id = s.workspace_id
    JOIN organizations AS o ON o.organization_id = w.organization_id
    JOIN plans AS p ON p.plan = o.plan
    WHERE s.workspace_id = p_workspace AND s.session_id = p_session AND s.user_id = p_user AND s.revoked_at IS NULL
$$;
COMMENT ON FUNCTION session_standing IS 'What a session that was not revoked is good for now.';

CREATE FUNCTION token_standing(p_hash text, p_token text) RETURNS TABLE (
    workspace_id text, organization_id text, principal_id text, token_id text, role text, scopes text[], is_active boolean,
    expires_at timestamptz, requests_per_minute integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT t.workspace_id, o.organization_id, COALESCE(t.user_id, t.service_account_id), t.token_id, m.role, t.scopes,
        (w.status, o.status) = ('active', 'active')
            AND COALESCE((u.status, m.status) = ('active', 'active') OR a.status = 'active', false),
        t.expires_at, p.requests_per_minute
    FROM api_tokens AS t
    JOIN workspaces AS w ON w.workspace_id = t.workspace_id
    JOIN organizations AS o ON o.organization_id = w.organization_id
    JOIN plans AS p ON p.plan = o.plan
    LEFT JOIN users AS u ON u.user_id = t.user_id
    LEFT JOIN memberships AS m ON m.workspace_id = t.workspace_id AND m.user_id = t.user_id
    LEFT JOIN service_accounts AS a
        ON a.workspace_id = t.workspace_id AND a.service_account_id = t.service_account_id
    WHERE (t.token_hash = p_hash OR t.token_id = p_token) AND t.revoked_at IS NULL
$$;
COMMENT ON FUNCTION token_standing IS 'What an API token that was not revoked, found by its secret''s hash or its id, is good for now; role is null for a machine.';

CREATE FUNCTION mark_used(p_used jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    -- Whoever holds a row's lock knows better; two gateways that mark the same rows must not wait for each other.
    UPDATE sessions AS s SET last_seen_at = picked.used_at
    FROM (SELECT held.session_id, r.used_at FROM jsonb_to_recordset(p_used) AS r (used_id text, used_at timestamptz)
        JOIN sessions AS held ON held.session_id = r.used_id AND held.last_seen_at < r.used_at
        FOR UPDATE OF held SKIP LOCKED) AS picked
    WHERE s.session_id = picked.session_id;
    UPDATE api_tokens AS t SET last_used_at = date_trunc('minute', picked.used_at)
    FROM (SELECT held.token_id, r.used_at FROM jsonb_to_recordset(p_used) AS r (used_id text, used_at timestamptz)
        JOIN api_tokens AS held ON held.token_id = r.used_id
            AND (held.last_used_at < date_trunc('minute', r.used_at) OR held.last_used_at IS NULL)
        FOR UPDATE OF held SKIP LOCKED) AS picked
    WHERE t.token_id = picked.token_id;
    UPDATE memberships AS m SET last_active_at = picked.used_at
    FROM (SELECT held.membership_id, r.used_at
        FROM (SELECT workspace_id, user_id, max(used_at) AS used_at
            FROM jsonb_to_recordset(p_used) AS one (workspace_id text, user_id text, used_at timestamptz)
            GROUP BY workspace_id, user_id) AS r
        JOIN memberships AS held ON held.workspace_id = r.workspace_id AND held.user_id = r.user_id
            AND (held.last_active_at < r.used_at OR held.last_active_at IS NULL)
        FOR UPDATE OF held SKIP LOCKED) AS picked
    WHERE m.membership_id = picked.membership_id;
END $$;
COMMENT ON FUNCTION mark_used IS 'When sessions and tokens of any workspace were used last, and by whom.';

-- Whoever is removed is out, also with what they made to get in.
CREATE FUNCTION end_access() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    UPDATE sessions SET revoked_at = now()
    WHERE workspace_id = OLD.workspace_id AND user_id = OLD.user_id AND revoked_at IS NULL;
    UPDATE api_tokens SET revoked_at = now()
    WHERE workspace_id = OLD.workspace_id AND user_id = OLD.user_id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER end_access AFTER DELETE ON memberships FOR EACH ROW EXECUTE FUNCTION end_access();

CREATE TRIGGER tell AFTER UPDATE OF revoked_at OR DELETE ON sessions
    FOR EACH ROW EXECUTE FUNCTION tell_change('session_id');
CREATE TRIGGER tell AFTER UPDATE OF revoked_at, scopes, token_hash, expires_at OR DELETE ON api_tokens
    FOR EACH ROW EXECUTE FUNCTION tell_change('token_id');
CREATE TRIGGER tell AFTER UPDATE OF status OR DELETE ON service_accounts
    FOR EACH ROW EXECUTE FUNCTION tell_change('service_account_id');

REVOKE EXECUTE ON FUNCTION has_second_factor, session_standing, token_standing, mark_used, end_access FROM PUBLIC;
GRANT EXECUTE ON FUNCTION has_second_factor, session_standing, token_standing, mark_used TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, refresh_tokens, service_accounts, api_tokens TO causeloop_app;

-- migrate:down

DROP POLICY presented ON users;
DROP TRIGGER end_access ON memberships;
DROP FUNCTION end_access, mark_used, token_standing, session_standing, has_second_factor;
DROP TABLE api_tokens, service_accounts, refresh_tokens, sessions;
