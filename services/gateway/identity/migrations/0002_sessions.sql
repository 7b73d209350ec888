-- migrate:up

CREATE TABLE sessions (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    session_id text NOT NULL UNIQUE CHECK (session_id ~ '^ses_[0-9A-HJKMNP-TV-Z]{26}$'),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    method text NOT NULL CHECK (method IN ('exchange', 'oidc', 'mock')),
    user_agent text NOT NULL DEFAULT '' CHECK (char_length(user_agent) <= 400),
    ip text NOT NULL DEFAULT '',
    second_factor_at timestamptz,             -- null: not asked for or not given yet
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
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
CREATE POLICY presented ON api_tokens FOR SELECT TO causeloop_app
    USING (token_hash = (SELECT current_setting('app.presented_hash', true)));
CREATE POLICY presented ON users FOR SELECT TO causeloop_app
    USING (external_id = (SELECT current_setting('app.presented_subject', true))
        OR email = (SELECT current_setting('app.presented_email', true)));

CREATE TRIGGER tell AFTER UPDATE OF revoked_at OR DELETE ON sessions
    FOR EACH ROW EXECUTE FUNCTION tell_change('session_id');
CREATE TRIGGER tell AFTER UPDATE OF revoked_at, scopes, token_hash, expires_at OR DELETE ON api_tokens
    FOR EACH ROW EXECUTE FUNCTION tell_change('token_id');
CREATE TRIGGER tell AFTER UPDATE OF status OR DELETE ON service_accounts
    FOR EACH ROW EXECUTE FUNCTION tell_change('service_account_id');

GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, refresh_tokens, service_accounts, api_tokens TO causeloop_app;

-- migrate:down

DROP POLICY presented ON users;
DROP TABLE api_tokens, service_accounts, refresh_tokens, sessions;
