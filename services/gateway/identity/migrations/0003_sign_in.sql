-- migrate:up

-- One data key per owner of secrets, wrapped by CAUSELOOP_MASTER_KEY, which never comes here. Deleting a key makes
-- everything that it sealed unreadable.
CREATE TABLE data_keys (
    owner_id text NOT NULL PRIMARY KEY,
    workspace_id text UNIQUE REFERENCES workspaces ON DELETE CASCADE,
    user_id text UNIQUE REFERENCES users ON DELETE CASCADE,
    master_key_id text NOT NULL,              -- which master key wraps it
    wrapped text NOT NULL,
    created_at timestamptz NOT NULL,
    CHECK (num_nonnulls(workspace_id, user_id) = 1 AND owner_id = COALESCE(workspace_id, user_id))
);
COMMENT ON TABLE data_keys IS 'What seals the secrets of a workspace or of a person.';

CREATE TABLE totp_factors (
    user_id text NOT NULL PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    secret_sealed text NOT NULL,
    confirmed_at timestamptz,                 -- null: enrolled, but no code was shown yet, so nothing asks for one
    last_step bigint NOT NULL DEFAULT 0,      -- the newest time step whose code was taken; each code is good once
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE totp_factors IS 'A person''s authenticator app.';

CREATE TABLE passkeys (
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    passkey_id text NOT NULL UNIQUE CHECK (passkey_id ~ '^pky_[0-9A-HJKMNP-TV-Z]{26}$'),
    credential_id bytea NOT NULL UNIQUE,
    public_key bytea NOT NULL,                -- COSE
    sign_count bigint NOT NULL,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    transports text[] NOT NULL DEFAULT '{}',
    is_synced boolean NOT NULL,               -- backed up by its maker, so one of several devices has it
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    PRIMARY KEY (user_id, passkey_id)
);
COMMENT ON TABLE passkeys IS 'A person''s WebAuthn credentials; any of them is a second factor.';

CREATE TABLE recovery_codes (
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    code_hash text NOT NULL,                  -- SHA-256 in hex; the code was shown once
    created_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, code_hash)
);
COMMENT ON TABLE recovery_codes IS 'What a person writes down for the day the factor is lost; each good once.';

CREATE TABLE webauthn_challenges (
    session_id text NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
    purpose text NOT NULL CHECK (purpose IN ('register', 'authenticate')),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    challenge bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (session_id, purpose)
);
COMMENT ON TABLE webauthn_challenges IS 'What an authenticator has to sign; deleted by the first answer, right or wrong.';

CREATE TABLE factor_attempts (
    user_id text NOT NULL PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    window_at timestamptz NOT NULL,
    n_attempts integer NOT NULL
);
COMMENT ON TABLE factor_attempts IS 'How often somebody tried a code within this minute; six digits are soon guessed.';

CREATE TABLE oidc_connections (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    connection_id text NOT NULL UNIQUE CHECK (connection_id ~ '^sso_[0-9A-HJKMNP-TV-Z]{26}$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    issuer text NOT NULL CHECK (char_length(issuer) <= 2048),
    client_id text NOT NULL CHECK (char_length(client_id) BETWEEN 1 AND 255),
    client_secret_sealed text NOT NULL,
    domains text[] NOT NULL DEFAULT '{}',     -- lower case; whose verified addresses come in by themselves
    default_role text NOT NULL CHECK (default_role IN
        ('read_only', 'viewer', 'executive', 'analyst', 'compliance_admin', 'security_admin', 'admin')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, connection_id),
    UNIQUE (workspace_id, issuer, client_id)
);
COMMENT ON TABLE oidc_connections IS 'A workspace''s own identity provider.';
CREATE INDEX oidc_connections_by_domain ON oidc_connections USING gin (domains);

CREATE TABLE user_identities (
    provider text NOT NULL,                   -- a connection's id, or the platform issuer's address
    subject text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 255),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    workspace_id text REFERENCES workspaces ON DELETE CASCADE,
    connection_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject),
    UNIQUE (provider, user_id),               -- an address that is given to somebody else does not let them in
    FOREIGN KEY (workspace_id, connection_id) REFERENCES oidc_connections ON DELETE CASCADE,
    CHECK ((workspace_id IS NULL) = (connection_id IS NULL) AND provider = COALESCE(connection_id, provider))
);
COMMENT ON TABLE user_identities IS 'Who a provider''s subject is here.';
CREATE INDEX user_identities_by_user ON user_identities (user_id);

ALTER TABLE sessions ADD COLUMN connection_id text;
COMMENT ON COLUMN sessions.connection_id IS 'The workspace''s provider that vouched for it; null: the platform''s.';

-- What every gateway must know at once.
CREATE TRIGGER tell_factor AFTER UPDATE OF second_factor_at ON sessions
    FOR EACH ROW EXECUTE FUNCTION tell_change('session_id');
CREATE TRIGGER tell AFTER UPDATE OF confirmed_at OR DELETE ON totp_factors
    FOR EACH ROW EXECUTE FUNCTION tell_change('user_id');
CREATE TRIGGER tell AFTER INSERT OR DELETE ON passkeys FOR EACH ROW EXECUTE FUNCTION tell_change('user_id');

CREATE OR REPLACE FUNCTION has_second_factor(p_user text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT EXISTS (SELECT FROM totp_factors AS t WHERE t.user_id = p_user AND t.confirmed_at IS NOT NULL)
        OR EXISTS (SELECT FROM passkeys AS p WHERE p.user_id = p_user)
$$;
COMMENT ON FUNCTION has_second_factor IS 'Whether a person has set up a second factor.';

CREATE FUNCTION find_connection(p_connection text, p_email text)
RETURNS TABLE (workspace_id text, connection_id text, issuer text, client_id text, client_secret_sealed text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    -- By id, or by the domain of an address: a workspace of the person's before one that merely claims the domain.
    SELECT c.workspace_id, c.connection_id, c.issuer, c.client_id, c.client_secret_sealed
    FROM oidc_connections AS c
    JOIN workspaces AS w ON w.workspace_id = c.workspace_id AND w.status = 'active'
    JOIN organizations AS o ON o.organization_id = w.organization_id AND o.status = 'active'
    LEFT JOIN users AS u ON u.email = p_email
    LEFT JOIN memberships AS m ON m.workspace_id = c.workspace_id AND m.user_id = u.user_id AND m.status <> 'suspended'
    WHERE c.status = 'active'
        AND (c.connection_id = p_connection OR c.domains @> ARRAY[lower(substring(p_email FROM '@([^@]+)$'))])
    ORDER BY (m.user_id IS NOT NULL) DESC, c.created_at, c.connection_id
    LIMIT 1
$$;
COMMENT ON FUNCTION find_connection IS 'The active connection that somebody who is not signed in yet names.';

CREATE FUNCTION platform_person(p_issuer text, p_subject text, p_email text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    person text;
BEGIN
    SELECT i.user_id INTO person FROM user_identities AS i WHERE i.provider = p_issuer AND i.subject = p_subject;
    IF person IS NULL AND p_email <> '' THEN
        INSERT INTO user_identities (provider, subject, user_id)
        SELECT p_issuer, p_subject, u.user_id FROM users AS u WHERE u.email = p_email
        ON CONFLICT DO NOTHING RETURNING user_id INTO person;
    END IF;
    RETURN person;
END $$;
COMMENT ON FUNCTION platform_person IS
    'Whom the platform''s provider vouches for; bound by a verified address at the first sign-in and never again.';

CREATE FUNCTION connection_person(
    p_connection text, p_subject text, p_email text, p_name text, p_consenting text
) RETURNS TABLE (user_id text, refusal text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
#variable_conflict use_column
DECLARE
    door oidc_connections;
    person users;
    seat memberships;
BEGIN
    SELECT c.* INTO STRICT door FROM oidc_connections AS c WHERE c.connection_id = p_connection;
    SELECT u.* INTO person FROM user_identities AS i JOIN users AS u USING (user_id)
    WHERE i.provider = p_connection AND i.subject = p_subject;
    IF person.user_id IS NULL THEN
        IF NOT door.domains @> ARRAY[lower(substring(p_email FROM '@([^@]+)$'))] THEN   -- an empty address is in none
            RETURN QUERY SELECT NULL::text, 'address'; RETURN;
        END IF;
        person.user_id := ensure_person(p_email, p_name);
        SELECT u.* INTO person FROM users AS u WHERE u.user_id = person.user_id;
        -- A workspace's provider may not speak for who also belongs to other clients, unless that person agrees.
        IF person.user_id IS DISTINCT FROM p_consenting AND EXISTS (
            SELECT FROM memberships AS m JOIN workspaces AS w USING (workspace_id)
            WHERE m.user_id = person.user_id AND m.status = 'active' AND w.organization_id <>
                (SELECT own.organization_id FROM workspaces AS own WHERE own.workspace_id = door.workspace_id))
        THEN
            RETURN QUERY SELECT NULL::text, 'consent'; RETURN;
        END IF;
        INSERT INTO user_identities (provider, subject, user_id, workspace_id, connection_id)
        VALUES (p_connection, p_subject, person.user_id, door.workspace_id, p_connection) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN QUERY SELECT NULL::text, 'bound'; RETURN;
        END IF;
    END IF;
    SELECT m.* INTO seat FROM memberships AS m
    WHERE m.workspace_id = door.workspace_id AND m.user_id = person.user_id FOR UPDATE;
    IF person.status <> 'active' OR seat.status = 'suspended' THEN
        RETURN QUERY SELECT NULL::text, 'suspended'; RETURN;
    ELSIF seat.status IS NULL THEN
        INSERT INTO memberships (workspace_id, membership_id, user_id, role, provisioning)
        VALUES (door.workspace_id, new_id('mem_'), person.user_id, door.default_role, 'sso')
        RETURNING * INTO seat;
        PERFORM audit(door.workspace_id, person.user_id, 'member.provisioned', 'create', 'membership', seat.membership_id,
            jsonb_build_object('connection_id', p_connection, 'role', seat.role));
    ELSIF seat.status = 'invited' THEN
        UPDATE memberships SET status = 'active', updated_at = now() WHERE membership_id = seat.membership_id;
        PERFORM audit(door.workspace_id, person.user_id, 'member.joined', 'update', 'membership', seat.membership_id,
            jsonb_build_object('connection_id', p_connection, 'role', seat.role));
    END IF;
    RETURN QUERY SELECT person.user_id, NULL::text;
END $$;
COMMENT ON FUNCTION connection_person IS
    'Whom a workspace''s provider vouches for, made a member where the connection says so; or why not.';

SELECT isolate('data_keys', 'owner_id IN ((SELECT current_workspace()), (SELECT current_person()))');
SELECT isolate(name::regclass, 'user_id = (SELECT current_person())')
FROM unnest(ARRAY['totp_factors', 'passkeys', 'recovery_codes', 'webauthn_challenges', 'factor_attempts']) AS name;
SELECT isolate('oidc_connections', 'workspace_id = (SELECT current_workspace())');
SELECT isolate('user_identities', 'workspace_id = (SELECT current_workspace()) OR user_id = (SELECT current_person())');

REVOKE EXECUTE ON FUNCTION has_second_factor, find_connection, platform_person, connection_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION has_second_factor, find_connection, platform_person, connection_person TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys, totp_factors, passkeys, recovery_codes, webauthn_challenges,
    factor_attempts, oidc_connections TO causeloop_app;
GRANT SELECT, INSERT ON user_identities TO causeloop_app;

-- migrate:down

DROP FUNCTION connection_person, platform_person, find_connection;
DROP TRIGGER tell_factor ON sessions;
ALTER TABLE sessions DROP COLUMN connection_id;
DROP TABLE user_identities, oidc_connections, factor_attempts, webauthn_challenges, recovery_codes, passkeys,
    totp_factors, data_keys;
