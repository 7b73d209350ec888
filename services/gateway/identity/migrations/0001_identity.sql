-- Identity: who may do what where. These rows cannot be rebuilt from the log, so they are migrated, forward only.
-- The runner sets search_path to the schema identity.

CREATE TABLE workspaces (
    workspace_id text NOT NULL PRIMARY KEY CHECK (workspace_id ~ '^ws_[0-9A-HJKMNP-TV-Z]{26}$'),
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 2 AND 100),
    timezone text NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE workspaces IS 'A tenant.';

CREATE TABLE users (
    user_id text NOT NULL PRIMARY KEY CHECK (user_id ~ '^usr_[0-9A-HJKMNP-TV-Z]{26}$'),
    email text NOT NULL UNIQUE CHECK (email LIKE '%_@_%'),
    name text NOT NULL,
    external_id text UNIQUE,                  -- the issuer's subject; bound at the first sign-in
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE users IS 'A person, known in any number of workspaces.';

CREATE TABLE memberships (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    membership_id text NOT NULL UNIQUE,
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('viewer', 'analyst', 'admin', 'owner')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'invited', 'suspended')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
COMMENT ON TABLE memberships IS 'What a person may do in a workspace.';
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE refresh_tokens (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    token_hash text NOT NULL,                 -- SHA-256 in hex; the token itself is nowhere
    family_id text NOT NULL,                  -- the session: every rotation of one sign-in
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,                      -- rotated; a second use revokes the family
    revoked_at timestamptz,
    PRIMARY KEY (workspace_id, token_hash)
);
COMMENT ON TABLE refresh_tokens IS 'Proof of a session, good for one rotation.';
CREATE INDEX refresh_tokens_by_hash ON refresh_tokens (token_hash);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (workspace_id, family_id);

-- Row-level security: a transaction sees the workspace that it names. A sign-in, which knows no workspace yet,
-- sees the memberships of the person it names, and the one refresh token whose hash it can show.
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspaces FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON workspaces TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)))
    WITH CHECK (workspace_id = (SELECT current_setting('app.current_workspace', true)));

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON memberships TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)))
    WITH CHECK (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY own ON memberships FOR SELECT TO causeloop_app
    USING (user_id = (SELECT current_setting('app.current_user', true)));

ALTER TABLE refresh_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE refresh_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON refresh_tokens TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)))
    WITH CHECK (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY presented ON refresh_tokens FOR SELECT TO causeloop_app
    USING (token_hash = (SELECT current_setting('app.presented_token_hash', true)));

GRANT USAGE ON SCHEMA identity TO causeloop_app;
GRANT SELECT, INSERT, UPDATE ON workspaces, users, memberships TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_tokens TO causeloop_app;
