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
    domains text[] NOT NULL DEFAULT '{}',     -- lower case; whose verified addresses it may speak for
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

CREATE TABLE approved_domains (
    organization_id text NOT NULL REFERENCES organizations ON DELETE CASCADE,
    domain text NOT NULL CHECK (domain = lower(domain) AND domain ~ '^[^@\s]+\.[^@\s]+$' AND char_length(domain) <= 253),
    approved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, domain)
);
COMMENT ON TABLE approved_domains IS
    'Whose addresses a client''s own providers may speak for, because the operator saw that the domain is the client''s.';

CREATE TABLE user_identities (
    provider text NOT NULL,                   -- a connection's id, or the platform issuer's address
    subject text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 255),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    workspace_id text REFERENCES workspaces ON DELETE CASCADE,
    connection_id text,
    agreed_at timestamptz,                    -- when the person said so, from a session of the platform's provider
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject),
    UNIQUE (provider, user_id),               -- an address that is given to somebody else does not let them in
    FOREIGN KEY (workspace_id, connection_id) REFERENCES oidc_connections ON DELETE CASCADE,
    CHECK ((workspace_id IS NULL) = (connection_id IS NULL) AND provider = COALESCE(connection_id, provider))
);
COMMENT ON TABLE user_identities IS 'Who a provider''s subject is here.';
CREATE INDEX user_identities_by_user ON user_identities (user_id);

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

CREATE FUNCTION domain_of(p_email text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$ SELECT lower(substring(p_email FROM '@([^@]+)$')) $$;
COMMENT ON FUNCTION domain_of IS 'The domain of an address in lower case; null when there is none.';

CREATE FUNCTION approve_domain(p_org_slug text, p_domain text) RETURNS void
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
DECLARE
    client text;
    space text;
BEGIN
    SELECT o.organization_id INTO client FROM organizations AS o WHERE o.slug = p_org_slug;
    IF client IS NULL THEN
        RAISE EXCEPTION 'there is no client %', p_org_slug USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO approved_domains (organization_id, domain) VALUES (client, lower(p_domain)) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        FOR space IN SELECT w.workspace_id FROM workspaces AS w WHERE w.organization_id = client ORDER BY w.workspace_id LOOP
            PERFORM audit(space, NULL, 'sso.domain_approved', 'update', 'organization', client,
                jsonb_build_object('domain', lower(p_domain)));
        END LOOP;
    END IF;
END $$;
COMMENT ON FUNCTION approve_domain IS
    'Let a client''s own providers speak for the addresses of a domain. See first that the domain is the client''s.';

CREATE FUNCTION audit_person(p_person text, p_action text, p_metadata jsonb, p_ip text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    space text;
BEGIN
    -- In one order, so that two of these do not wait for each other.
    FOR space IN SELECT m.workspace_id FROM memberships AS m WHERE m.user_id = p_person ORDER BY m.workspace_id LOOP
        PERFORM audit(space, p_person, p_action, 'update', 'user', p_person, p_metadata, p_ip);
    END LOOP;
END $$;
COMMENT ON FUNCTION audit_person IS 'Write down what happened to a person''s identity wherever they are a member.';

CREATE FUNCTION audit_self(p_action text, p_metadata jsonb, p_ip text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT audit_person(current_person(), p_action, p_metadata, p_ip)
$$;
COMMENT ON FUNCTION audit_self IS 'The same for the person that the transaction names.';

CREATE FUNCTION belongs_elsewhere(p_person text, p_workspace text, p_has_joined boolean DEFAULT false) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT EXISTS (SELECT FROM memberships AS m JOIN workspaces AS w USING (workspace_id)
        -- Whom a directory made a member need not know of it.
        WHERE m.user_id = p_person AND (NOT p_has_joined OR (m.status = 'active'
                AND (m.provisioning <> 'scim' OR m.last_active_at IS NOT NULL))) AND w.organization_id <>
            (SELECT own.organization_id FROM workspaces AS own WHERE own.workspace_id = p_workspace))
$$;
COMMENT ON FUNCTION belongs_elsewhere IS 'Whether another client than this workspace''s also has the person among its members, or invited, or only: who joined.';

CREATE FUNCTION is_known_elsewhere() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT belongs_elsewhere(current_person(), current_workspace())
$$;
COMMENT ON FUNCTION is_known_elsewhere IS 'The same for the person and the workspace that the transaction names.';

CREATE FUNCTION is_admissible(p_person text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT NOT belongs_elsewhere(p_person, current_workspace(), true)
        OR EXISTS (SELECT FROM memberships AS m WHERE m.workspace_id = current_workspace() AND m.user_id = p_person
            AND m.last_active_at IS NOT NULL)
        OR EXISTS (SELECT FROM user_identities AS i WHERE i.workspace_id = current_workspace() AND i.user_id = p_person
            AND i.agreed_at IS NOT NULL)
        OR EXISTS (SELECT FROM approved_domains AS d
            JOIN workspaces AS w ON w.organization_id = d.organization_id AND w.workspace_id = current_workspace()
            JOIN users AS u ON u.user_id = p_person AND domain_of(u.email) = d.domain)
$$;
COMMENT ON FUNCTION is_admissible IS
    'Whether a directory of the current workspace may make somebody active: they are in no other client, were here or agreed, or the domain is approved.';

CREATE FUNCTION find_connection(p_connection text, p_email text)
RETURNS TABLE (workspace_id text, connection_id text, issuer text, client_id text, client_secret_sealed text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    -- By id, or by the approved domain of an address: a workspace of the person's comes first.
    SELECT c.workspace_id, c.connection_id, c.issuer, c.client_id, c.client_secret_sealed
    FROM oidc_connections AS c
    JOIN workspaces AS w ON w.workspace_id = c.workspace_id AND w.status = 'active'
    JOIN organizations AS o ON o.organization_id = w.organization_id AND o.status = 'active'
    LEFT JOIN users AS u ON u.email = p_email
    LEFT JOIN memberships AS m ON m.workspace_id = c.workspace_id AND m.user_id = u.user_id AND m.status <> 'suspended'
    WHERE c.status = 'active' AND (c.connection_id = p_connection OR (c.domains @> ARRAY[domain_of(p_email)]
        AND EXISTS (SELECT FROM approved_domains AS d
            WHERE d.organization_id = o.organization_id AND d.domain = domain_of(p_email))))
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
        IF person IS NOT NULL THEN
            PERFORM audit_person(person, 'identity.bound', jsonb_build_object('provider', p_issuer), NULL);
        END IF;
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
    bound user_identities;
    person users;
    seat memberships;
    client text;
    is_approved boolean;
    has_agreed boolean;
    is_awaited boolean;                       -- somebody here let them in, and that still holds
BEGIN
    SELECT c.* INTO STRICT door FROM oidc_connections AS c WHERE c.connection_id = p_connection;
    SELECT w.organization_id INTO client FROM workspaces AS w WHERE w.workspace_id = door.workspace_id;
    SELECT i.* INTO bound FROM user_identities AS i WHERE i.provider = p_connection AND i.subject = p_subject;
    IF bound.user_id IS NULL AND NOT door.domains @> ARRAY[domain_of(p_email)] THEN   -- an empty address is in none
        RETURN QUERY SELECT NULL::text, 'address'; RETURN;
    END IF;
    SELECT u.* INTO person FROM users AS u
    WHERE u.user_id = bound.user_id OR (bound.user_id IS NULL AND u.email = p_email);
    SELECT m.* INTO seat FROM memberships AS m
    WHERE m.workspace_id = door.workspace_id AND m.user_id = person.user_id FOR UPDATE;
    is_approved := EXISTS (SELECT FROM approved_domains AS d
        WHERE d.organization_id = client AND d.domain = domain_of(COALESCE(person.email, p_email)));
    has_agreed := bound.agreed_at IS NOT NULL OR COALESCE(person.user_id = p_consenting, false);
    is_awaited := COALESCE(seat.status IN ('active', 'suspended') OR seat.provisioning = 'scim', false)
        OR EXISTS (SELECT FROM invitations AS i WHERE i.workspace_id = door.workspace_id AND i.user_id = person.user_id
            AND i.status = 'pending' AND i.expires_at > now());
    -- Whoever runs a provider can have it say anything. It is believed about the domains that the operator saw to be the
    -- client's, about people who agreed, and else only about who is awaited here and belongs to no other client; of
    -- whom it spoke for before, no other client can take that away by a mere invitation.
    IF NOT is_approved AND NOT has_agreed AND (NOT is_awaited OR belongs_elsewhere(
        person.user_id, door.workspace_id, bound.user_id IS NOT NULL))
    THEN
        RETURN QUERY SELECT NULL::text, 'consent'; RETURN;
    END IF;
    IF bound.user_id IS NULL THEN
        IF person.user_id IS NULL THEN
            person.user_id := ensure_person(p_email, p_name);
            SELECT u.* INTO person FROM users AS u WHERE u.user_id = person.user_id;
        END IF;
        INSERT INTO user_identities (provider, subject, user_id, workspace_id, connection_id, agreed_at)
        VALUES (p_connection, p_subject, person.user_id, door.workspace_id, p_connection,
            CASE WHEN has_agreed THEN now() END)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN QUERY SELECT NULL::text, 'bound'; RETURN;
        END IF;
        PERFORM audit(door.workspace_id, person.user_id, 'identity.bound', 'update', 'user', person.user_id,
            jsonb_build_object('connection_id', p_connection, 'has_agreed', has_agreed));
    ELSIF has_agreed AND bound.agreed_at IS NULL THEN
        UPDATE user_identities SET agreed_at = now() WHERE provider = p_connection AND subject = p_subject;
        PERFORM audit(door.workspace_id, person.user_id, 'identity.agreed', 'update', 'user', person.user_id,
            jsonb_build_object('connection_id', p_connection));
    END IF;
    IF person.status <> 'active' OR seat.status = 'suspended' THEN
        RETURN QUERY SELECT NULL::text, 'suspended'; RETURN;
    ELSIF seat.status IS NULL THEN
        INSERT INTO memberships (workspace_id, membership_id, user_id, role, provisioning)
        VALUES (door.workspace_id, new_id('mem_'), person.user_id, door.default_role, 'sso')
        RETURNING * INTO seat;
        PERFORM audit(door.workspace_id, person.user_id, 'member.provisioned', 'create', 'membership', seat.membership_id,
            jsonb_build_object('connection_id', p_connection, 'role', seat.role));
    ELSIF seat.status = 'invited' THEN
        IF NOT is_awaited THEN               -- the invitation is over, and its role with it
            UPDATE invitations SET status = 'revoked', settled_at = now()
            WHERE workspace_id = door.workspace_id AND user_id = person.user_id AND status = 'pending';
            seat.role := door.default_role;
        END IF;
        UPDATE memberships SET status = 'active', role = seat.role, updated_at = now()
        WHERE membership_id = seat.membership_id;
        PERFORM audit(door.workspace_id, person.user_id, 'member.joined', 'update', 'membership', seat.membership_id,
            jsonb_build_object('connection_id', p_connection, 'role', seat.role));
    END IF;
    RETURN QUERY SELECT person.user_id, NULL::text;
END $$;
COMMENT ON FUNCTION connection_person IS
    'Whom a workspace''s provider vouches for, made a member where the connection says so; or why not.';

CREATE FUNCTION links(p_connection text) RETURNS TABLE (
    connection_id text, connection_name text, issuer text, workspace_id text, workspace_name text, linked_at timestamptz,
    agreed_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT c.connection_id, c.name, c.issuer, w.workspace_id, w.name, i.created_at, i.agreed_at
    FROM oidc_connections AS c
    JOIN workspaces AS w ON w.workspace_id = c.workspace_id AND w.status = 'active'
    LEFT JOIN user_identities AS i ON i.connection_id = c.connection_id AND i.user_id = current_person()
    WHERE c.status = 'active' AND (c.connection_id = p_connection OR (p_connection = '' AND i.user_id IS NOT NULL))
    ORDER BY c.created_at, c.connection_id
$$;
COMMENT ON FUNCTION links IS
    'The connection that is named, or all that speak for the person of the transaction; linked_at is null when it does not.';

CREATE FUNCTION unlink(p_connection text, p_ip text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    space text;
BEGIN
    DELETE FROM user_identities AS i WHERE i.connection_id = p_connection AND i.user_id = current_person()
    RETURNING i.workspace_id INTO space;
    IF space IS NULL THEN
        RETURN false;
    END IF;
    UPDATE sessions SET revoked_at = now()
    WHERE workspace_id = space AND user_id = current_person() AND connection_id = p_connection AND revoked_at IS NULL;
    PERFORM audit(space, current_person(), 'identity.unbound', 'revoke', 'user', current_person(),
        jsonb_build_object('connection_id', p_connection), p_ip);
    RETURN true;
END $$;
COMMENT ON FUNCTION unlink IS
    'A connection speaks no longer for the person of the transaction, and the sessions that it vouched for are over.';

SELECT isolate('approved_domains',
    'organization_id = (SELECT w.organization_id FROM workspaces AS w WHERE w.workspace_id = (SELECT current_workspace()))');
SELECT isolate('data_keys', 'owner_id IN ((SELECT current_workspace()), (SELECT current_person()))');
SELECT isolate(name::regclass, 'user_id = (SELECT current_person())')
FROM unnest(ARRAY['totp_factors', 'passkeys', 'recovery_codes', 'webauthn_challenges', 'factor_attempts']) AS name;
SELECT isolate('oidc_connections', 'workspace_id = (SELECT current_workspace())');
SELECT isolate('user_identities', 'workspace_id = (SELECT current_workspace()) OR user_id = (SELECT current_person())');

REVOKE EXECUTE ON FUNCTION has_second_factor, domain_of, approve_domain, audit_person, audit_self, belongs_elsewhere,
    is_known_elsewhere, is_admissible, find_connection, platform_person, connection_person, links, unlink FROM PUBLIC;
GRANT EXECUTE ON FUNCTION has_second_factor, audit_self, is_known_elsewhere, is_admissible, find_connection, platform_person,
    connection_person, links, unlink TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys, totp_factors, passkeys, recovery_codes, webauthn_challenges,
    factor_attempts, oidc_connections TO causeloop_app;
GRANT SELECT ON approved_domains TO causeloop_app;
GRANT SELECT, INSERT ON user_identities TO causeloop_app;

-- migrate:down

DROP FUNCTION unlink, links, connection_person, platform_person, find_connection, is_admissible, is_known_elsewhere, belongs_elsewhere,
    audit_self, audit_person, approve_domain, domain_of;
DROP TRIGGER tell_factor ON sessions;
DROP TABLE user_identities, approved_domains, oidc_connections, factor_attempts, webauthn_challenges, recovery_codes, passkeys,
    totp_factors, data_keys;
