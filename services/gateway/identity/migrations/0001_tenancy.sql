-- migrate:up

-- Identity: who may do what where. These rows cannot be rebuilt from the log, so they are migrated, forward only.
-- Three roles meet here. causeloop_owner owns everything and is what an operator's SQL runs as. causeloop_app is what
-- the gateway connects as: it sees one workspace (app.current_workspace) or one person (app.current_user) and calls the
-- functions below for the few things that concern more than one tenant. Nobody bypasses row-level security.

CREATE FUNCTION new_id(prefix text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
DECLARE
    alphabet CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    millis bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    random bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    tail text := '';
BEGIN
    FOR i IN 0..9 LOOP
        tail := substr(alphabet, (millis & 31)::int + 1, 1) || tail;
        millis := millis >> 5;
    END LOOP;
    -- Bytes 6 and 8 of a version 4 UUID are partly fixed, so they are stepped over.
    FOR i IN 0..15 LOOP
        tail := tail || substr(alphabet, (get_byte(random, CASE WHEN i < 6 THEN i WHEN i < 12 THEN i + 4 ELSE i + 8 END) & 31) + 1, 1);
    END LOOP;
    RETURN prefix || tail;
END $$;
COMMENT ON FUNCTION new_id IS 'A ULID behind a prefix such as ws_: 48 bits of time, 80 of chance.';

CREATE FUNCTION current_workspace() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT current_setting('app.current_workspace', true) $$;

CREATE FUNCTION current_person() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT current_setting('app.current_user', true) $$;

CREATE TABLE plans (
    plan text NOT NULL PRIMARY KEY,
    seats integer CHECK (seats > 0),
    connectors integer CHECK (connectors >= 0),
    requests_per_minute integer CHECK (requests_per_minute > 0),
    events_per_month bigint CHECK (events_per_month > 0),
    retention_days integer CHECK (retention_days > 0),
    features text[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE plans IS 'What an organization may use; null is unlimited. Rows are yours to change.';
INSERT INTO plans (plan, seats, connectors, requests_per_minute, events_per_month, retention_days, features) VALUES
    ('free', 10, 3, 1000, 50000, 90, '{}'),
    ('starter', 25, 10, 1000, 500000, 365, '{sso}'),
    ('growth', 100, 40, 3000, 5000000, 730, '{sso,scim,audit_export}'),
    ('enterprise', NULL, NULL, 60000, NULL, NULL, '{sso,scim,audit_export}');

CREATE TABLE organizations (
    organization_id text NOT NULL PRIMARY KEY CHECK (organization_id ~ '^org_[0-9A-HJKMNP-TV-Z]{26}$'),
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 2 AND 100),
    plan text NOT NULL REFERENCES plans,
    seats_total integer CHECK (seats_total > 0),     -- active memberships at most; null: unlimited
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE organizations IS 'A client: who signs and pays.';

CREATE TABLE workspaces (
    workspace_id text NOT NULL PRIMARY KEY CHECK (workspace_id ~ '^ws_[0-9A-HJKMNP-TV-Z]{26}$'),
    organization_id text NOT NULL REFERENCES organizations ON DELETE CASCADE,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 2 AND 100),
    description text NOT NULL DEFAULT '' CHECK (char_length(description) <= 2000),
    industry text NOT NULL DEFAULT '' CHECK (char_length(industry) <= 100),
    timezone text NOT NULL,
    theme text NOT NULL DEFAULT 'dark' CHECK (theme IN ('light', 'dark')),
    sso_enforced boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, slug)
);
COMMENT ON TABLE workspaces IS 'A tenant: the unit of isolation and of order in the log.';

CREATE TABLE workspace_settings (
    workspace_id text NOT NULL PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
    confidence_threshold double precision NOT NULL DEFAULT 0.7 CHECK (confidence_threshold BETWEEN 0 AND 1),
    alert_probability double precision NOT NULL DEFAULT 0.7 CHECK (alert_probability BETWEEN 0 AND 1),
    minimum_cluster_size integer NOT NULL DEFAULT 3 CHECK (minimum_cluster_size BETWEEN 2 AND 50),
    proof_window_days integer NOT NULL DEFAULT 14 CHECK (proof_window_days BETWEEN 7 AND 365),
    proof_window_max_days integer NOT NULL DEFAULT 365 CHECK (proof_window_max_days BETWEEN 7 AND 365),
    proof_confidence double precision NOT NULL DEFAULT 0.95 CHECK (proof_confidence BETWEEN 0.8 AND 0.99),
    issues_days integer NOT NULL DEFAULT 365 CHECK (issues_days >= 1),
    activity_days integer NOT NULL DEFAULT 365 CHECK (activity_days >= 1),
    audit_days integer NOT NULL DEFAULT 365 CHECK (audit_days >= 365),
    prompt_logs_days integer NOT NULL DEFAULT 90 CHECK (prompt_logs_days >= 1),
    predictions_days integer NOT NULL DEFAULT 365 CHECK (predictions_days >= 1),
    grace_days integer NOT NULL DEFAULT 30 CHECK (grace_days >= 0),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE workspace_settings IS 'How the services judge, and how long data of each category is kept, in days.';

CREATE TABLE users (
    user_id text NOT NULL PRIMARY KEY CHECK (user_id ~ '^usr_[0-9A-HJKMNP-TV-Z]{26}$'),
    email text NOT NULL UNIQUE CHECK (email LIKE '%_@_%' AND char_length(email) <= 320),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    external_id text UNIQUE,                  -- the platform issuer's subject; bound at the first sign-in
    avatar_url text CHECK (char_length(avatar_url) <= 2048),
    timezone text,                            -- null: the workspace's
    locale text,                              -- BCP 47; null: the client's
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE users IS 'A person, known in any number of workspaces.';

CREATE TABLE memberships (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    membership_id text NOT NULL UNIQUE CHECK (membership_id ~ '^mem_[0-9A-HJKMNP-TV-Z]{26}$'),
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN
        ('read_only', 'viewer', 'executive', 'analyst', 'compliance_admin', 'security_admin', 'admin', 'owner')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'invited', 'suspended')),
    provisioning text NOT NULL DEFAULT 'manual' CHECK (provisioning IN ('manual', 'invitation', 'sso', 'scim')),
    last_active_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);
COMMENT ON TABLE memberships IS 'What a person is in a workspace. An active one takes a seat.';
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE onboarding_states (
    workspace_id text NOT NULL PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
    current_step text NOT NULL DEFAULT 'connect_source',
    completed_steps text[] NOT NULL DEFAULT '{welcome}',
    is_complete boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE onboarding_states IS 'How far a new workspace has come.';

CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,                 -- a message of proto/causeloop/workspace, such as WorkspaceCreated
    data jsonb NOT NULL,
    actor text,
    traceparent text,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox IS 'Facts for the log, written with the rows they are about; deleted once JetStream has them.';
CREATE INDEX outbox_by_workspace ON outbox (workspace_id);

CREATE TABLE audit_heads (
    workspace_id text NOT NULL PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
    entry_number bigint NOT NULL,
    hash bytea NOT NULL
);
COMMENT ON TABLE audit_heads IS 'The last link of each audit chain; locked while one is added.';

CREATE TABLE audit_log (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    entry_number bigint NOT NULL,             -- 1, 2, 3 … without a gap
    entry_id text NOT NULL UNIQUE,
    occurred_at timestamptz NOT NULL,
    actor_id text,                            -- usr_, svc_; null: an operator in SQL, or the system
    action text NOT NULL,                     -- dotted: member.invited
    category text NOT NULL CHECK (category IN
        ('create', 'update', 'delete', 'invite', 'revoke', 'export', 'login', 'other')),
    target_type text NOT NULL,
    target_id text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    ip text,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,                      -- SHA-256 over previous_hash and every other column
    PRIMARY KEY (workspace_id, entry_number)
);
COMMENT ON TABLE audit_log IS 'Who did what; append-only, each entry bound to the one before.';
CREATE INDEX audit_log_by_time ON audit_log (workspace_id, occurred_at DESC);

CREATE FUNCTION audit_hash(entry audit_log) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(entry.previous_hash || convert_to(jsonb_build_array(
        entry.workspace_id, entry.entry_number, entry.entry_id,
        to_char(entry.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        entry.actor_id, entry.action, entry.category, entry.target_type, entry.target_id, entry.metadata,
        entry.ip)::text, 'UTF8'))
$$;

CREATE FUNCTION audit(
    workspace text, actor text, action text, category text, target_type text, target_id text,
    metadata jsonb DEFAULT '{}', ip text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    entry audit_log;
BEGIN
    INSERT INTO audit_heads AS head (workspace_id, entry_number, hash) VALUES (workspace, 0, '')
    ON CONFLICT (workspace_id) DO UPDATE SET entry_number = head.entry_number
    RETURNING head.entry_number + 1, head.hash INTO entry.entry_number, entry.previous_hash;
    entry.workspace_id := workspace;
    entry.entry_id := new_id('aud_');
    entry.occurred_at := clock_timestamp();
    entry.actor_id := actor;
    entry.action := action;
    entry.category := category;
    entry.target_type := target_type;
    entry.target_id := target_id;
    entry.metadata := metadata;
    entry.ip := ip;
    entry.hash := audit_hash(entry);
    INSERT INTO audit_log SELECT (entry).*;
    UPDATE audit_heads SET entry_number = entry.entry_number, hash = entry.hash WHERE workspace_id = workspace;
    RETURN entry.entry_id;
END $$;
COMMENT ON FUNCTION audit IS 'Add an entry to a workspace''s chain, in the transaction of what it tells.';

CREATE FUNCTION audit_here(
    actor text, action text, category text, target_type text, target_id text,
    metadata jsonb DEFAULT '{}', ip text DEFAULT NULL
) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT audit(current_workspace(), actor, action, category, target_type, target_id, metadata, ip)
$$;
COMMENT ON FUNCTION audit_here IS 'The same for the workspace that the transaction names.';

CREATE FUNCTION emit(workspace text, event_type text, data jsonb, actor text DEFAULT NULL, traceparent text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    event_id text := new_id('evt_');
BEGIN
    -- Numbers are drawn before they are committed. Under the chain's lock a later fact of a workspace cannot be seen first.
    PERFORM FROM audit_heads AS head WHERE head.workspace_id = emit.workspace FOR UPDATE;
    INSERT INTO outbox (workspace_id, event_id, event_type, data, actor, traceparent)
    VALUES (workspace, event_id, event_type, data, actor, traceparent);
    PERFORM pg_notify('identity_outbox', '');
    RETURN event_id;
END $$;
COMMENT ON FUNCTION emit IS 'Say a fact of a workspace to the log once this transaction commits.';

CREATE FUNCTION emit_here(event_type text, data jsonb, actor text DEFAULT NULL, traceparent text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT emit(current_workspace(), event_type, data, actor, traceparent)
$$;
COMMENT ON FUNCTION emit_here IS 'The same for the workspace that the transaction names.';

CREATE FUNCTION untold_facts(p_limit integer, p_without text[] DEFAULT '{}') RETURNS SETOF outbox
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM outbox WHERE workspace_id <> ALL (p_without) ORDER BY outbox_id LIMIT p_limit
$$;
COMMENT ON FUNCTION untold_facts IS 'The oldest facts that the log does not have yet, except those of some workspaces. They hold no secrets.';

CREATE FUNCTION forget_facts(p_outbox_ids bigint[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    WITH told AS (DELETE FROM outbox WHERE outbox_id = ANY (p_outbox_ids) RETURNING 1) SELECT count(*) FROM told
$$;
COMMENT ON FUNCTION forget_facts IS 'Delete facts that the log has.';

-- Whatever suspends a workspace or lets it in again, the others hear of it.
CREATE FUNCTION tell_access() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    PERFORM emit(NEW.workspace_id, CASE NEW.status WHEN 'active' THEN 'WorkspaceReinstated' ELSE 'WorkspaceSuspended' END,
        jsonb_build_object('workspace_id', NEW.workspace_id), NULLIF(current_person(), ''));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_access AFTER UPDATE OF status ON workspaces
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION tell_access();

-- What every gateway must know at once: whose rights may have changed. The payload is a workspace, a person or an organization.
CREATE FUNCTION tell_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    PERFORM pg_notify('identity_changed', to_jsonb(COALESCE(NEW, OLD)) ->> TG_ARGV[0]);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE OR DELETE ON organizations FOR EACH ROW EXECUTE FUNCTION tell_change('organization_id');
CREATE TRIGGER tell AFTER UPDATE OR DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION tell_change('workspace_id');
CREATE TRIGGER tell AFTER UPDATE OF status OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION tell_change('user_id');
CREATE TRIGGER tell AFTER UPDATE OF role, status OR DELETE ON memberships FOR EACH ROW EXECUTE FUNCTION tell_change('user_id');

-- Seats are counted while the organization's row is locked, so that two invitations cannot take the last one.
CREATE FUNCTION take_seat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    client organizations;
    seats integer;
    taken integer;
BEGIN
    IF NEW.status <> 'active' OR (TG_OP = 'UPDATE' AND OLD.status = 'active') THEN
        RETURN NEW;
    END IF;
    SELECT o.* INTO client FROM organizations AS o JOIN workspaces AS w USING (organization_id)
    WHERE w.workspace_id = NEW.workspace_id FOR UPDATE OF o;
    -- What was agreed, and never more than the plan has; null on one side leaves the other.
    SELECT LEAST(client.seats_total, p.seats) INTO seats FROM plans AS p WHERE p.plan = client.plan;
    SELECT count(DISTINCT m.user_id) INTO taken FROM memberships AS m JOIN workspaces AS w USING (workspace_id)
    WHERE w.organization_id = client.organization_id AND m.status = 'active' AND m.user_id <> NEW.user_id;
    IF taken >= seats THEN
        RAISE EXCEPTION 'all % seats of the organization are taken', seats
            USING ERRCODE = 'CL001', DETAIL = seats::text,
                HINT = 'Suspend or remove a member, or get more seats.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER seats BEFORE INSERT OR UPDATE OF status ON memberships FOR EACH ROW EXECUTE FUNCTION take_seat();

CREATE FUNCTION seats_taken() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT count(DISTINCT m.user_id) FROM memberships AS m JOIN workspaces AS w USING (workspace_id)
    WHERE m.status = 'active'
        AND w.organization_id = (SELECT o.organization_id FROM workspaces AS o WHERE o.workspace_id = current_workspace())
$$;
COMMENT ON FUNCTION seats_taken IS 'Active members of the whole organization of the workspace that the transaction names.';

CREATE FUNCTION plan_limit(p_workspace text, p_limit text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = identity, pg_temp AS $$
    SELECT (to_jsonb(p) ->> p_limit)::bigint
    FROM workspaces AS w JOIN organizations AS o USING (organization_id) JOIN plans AS p USING (plan)
    WHERE w.workspace_id = p_workspace AND p_limit IN
        ('seats', 'connectors', 'requests_per_minute', 'events_per_month', 'retention_days')
$$;
COMMENT ON FUNCTION plan_limit IS 'A limit of a workspace''s plan by its column''s name; null: unlimited. Sees what the caller may see.';

-- Somebody must remain who can do everything, since nobody below makes another owner.
CREATE FUNCTION keep_an_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    IF OLD.status = 'active' AND OLD.role = 'owner'
        AND NOT (TG_OP = 'UPDATE' AND NEW.status = 'active' AND NEW.role = 'owner')
    THEN
        -- No row: the workspace itself is being deleted.
        PERFORM FROM workspaces WHERE workspace_id = OLD.workspace_id FOR UPDATE;
        -- Whom the operator has shut out everywhere can do nothing here either.
        IF FOUND AND NOT EXISTS (
            SELECT FROM memberships AS m JOIN users AS u USING (user_id)
            WHERE m.workspace_id = OLD.workspace_id AND m.user_id <> OLD.user_id
                AND m.role = 'owner' AND (m.status, u.status) = ('active', 'active'))
        THEN
            RAISE EXCEPTION 'the last owner of the workspace has to stay one' USING ERRCODE = 'CL002',
                HINT = 'Make another member an owner first.';
        END IF;
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER last_owner BEFORE UPDATE OF role, status OR DELETE ON memberships
    FOR EACH ROW EXECUTE FUNCTION keep_an_owner();

CREATE FUNCTION ensure_person(p_email text, p_name text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    -- The same address is the same person, in another workspace.
    INSERT INTO users AS known (user_id, email, name)
    VALUES (new_id('usr_'), p_email, COALESCE(NULLIF(trim(p_name), ''), split_part(p_email, '@', 1)))
    ON CONFLICT (email) DO UPDATE SET email = known.email
    RETURNING known.user_id
$$;
COMMENT ON FUNCTION ensure_person IS 'The id of the person with this address, who is made when unknown.';

CREATE FUNCTION is_timezone(p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    -- Looking at all of them reads hundreds of files, and most clients have this one.
    SELECT CASE WHEN p_name = 'UTC' THEN true ELSE EXISTS (SELECT FROM pg_timezone_names WHERE name = p_name) END
$$;
COMMENT ON FUNCTION is_timezone IS 'Whether this is the name of an IANA time zone.';

CREATE FUNCTION onboard_client(
    p_org_name text, p_org_slug text, p_owner_email text, p_owner_name text DEFAULT NULL,
    p_workspace_name text DEFAULT NULL, p_plan text DEFAULT 'free', p_timezone text DEFAULT 'UTC',
    p_seats integer DEFAULT 10
) RETURNS TABLE (organization_id text, workspace_id text, owner_user_id text, membership_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
#variable_conflict use_column
DECLARE
    client text := new_id('org_');
    space text := new_id('ws_');
    person text;
    seat text := new_id('mem_');
    title text := COALESCE(NULLIF(trim(p_workspace_name), ''), p_org_name);
    most integer;
BEGIN
    SELECT p.seats INTO most FROM plans AS p WHERE p.plan = p_plan;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no plan %', p_plan USING ERRCODE = 'check_violation', CONSTRAINT = 'plan',
            HINT = 'SELECT plan FROM identity.plans names them.';
    END IF;
    IF COALESCE(p_seats > most, false) THEN
        RAISE EXCEPTION 'the plan % has % seats at most', p_plan, most
            USING ERRCODE = 'check_violation', CONSTRAINT = 'seats', HINT = 'Ask for fewer, or choose another plan.';
    END IF;
    IF is_timezone(p_timezone) IS NOT TRUE THEN
        RAISE EXCEPTION '% is no IANA time zone', p_timezone USING ERRCODE = 'check_violation', CONSTRAINT = 'timezone',
            HINT = 'Write it like Europe/Berlin.';
    END IF;
    INSERT INTO organizations (organization_id, slug, name, plan, seats_total)
    VALUES (client, p_org_slug, p_org_name, p_plan, p_seats);
    INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone)
    VALUES (space, client, p_org_slug, title, p_timezone);
    INSERT INTO workspace_settings (workspace_id) VALUES (space);
    INSERT INTO onboarding_states (workspace_id) VALUES (space);
    person := ensure_person(p_owner_email, p_owner_name);
    INSERT INTO memberships (workspace_id, membership_id, user_id, role) VALUES (space, seat, person, 'owner');
    PERFORM audit(space, NULL, 'client.onboarded', 'create', 'organization', client,
        jsonb_build_object('plan', p_plan, 'seats', p_seats));
    PERFORM emit(space, 'WorkspaceCreated', jsonb_build_object(
        'workspace_id', space, 'slug', p_org_slug, 'name', title, 'timezone', p_timezone));
    RETURN QUERY SELECT client, space, person, seat;
END $$;
COMMENT ON FUNCTION onboard_client IS
    'Make a client with a workspace and its owner, in one transaction; a slug that is taken raises unique_violation.';

-- Open or close a client with all of its workspaces; the trigger above tells the others.
CREATE FUNCTION set_client_status(p_org_slug text, p_status text, p_from text[], p_action text, p_metadata jsonb)
RETURNS TABLE (organization_id text, workspaces integer)
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
#variable_conflict use_column
DECLARE
    client text;
    space text;
    n integer := 0;
BEGIN
    UPDATE organizations SET status = p_status WHERE slug = p_org_slug AND status = ANY (p_from)
    RETURNING organizations.organization_id INTO client;
    IF client IS NULL THEN
        RAISE EXCEPTION 'there is no client % that is %', p_org_slug, array_to_string(p_from, ' or ')
            USING ERRCODE = 'no_data_found';
    END IF;
    -- Locked first, so that an erasure which is being asked for is seen below. What is being erased stays shut.
    PERFORM FROM workspaces AS w WHERE w.organization_id = client FOR UPDATE;
    FOR space IN UPDATE workspaces AS w SET updated_at = now(),
            status = CASE p_status WHEN 'active' THEN 'active' ELSE 'suspended' END
        WHERE w.organization_id = client
            AND NOT EXISTS (SELECT FROM erasures AS e WHERE e.workspace_id = w.workspace_id)
        RETURNING w.workspace_id
    LOOP
        n := n + 1;
        PERFORM audit(space, NULL, p_action, CASE p_status WHEN 'active' THEN 'update' ELSE 'revoke' END,
            'organization', client, p_metadata);
    END LOOP;
    RETURN QUERY SELECT client, n;
END $$;

CREATE FUNCTION offboard_client(p_org_slug text, p_reason text DEFAULT '') RETURNS TABLE (organization_id text, workspaces integer)
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM set_client_status(p_org_slug, 'cancelled', '{active,suspended}', 'client.offboarded',
        jsonb_build_object('reason', p_reason))
$$;
COMMENT ON FUNCTION offboard_client IS
    'End a client: nobody gets in from the next request on. Data stays until the workspace is erased.';

CREATE FUNCTION suspend_client(p_org_slug text, p_reason text DEFAULT '') RETURNS TABLE (organization_id text, workspaces integer)
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM set_client_status(p_org_slug, 'suspended', '{active}', 'client.suspended',
        jsonb_build_object('reason', p_reason))
$$;
COMMENT ON FUNCTION suspend_client IS 'Shut a client out for a while.';

CREATE FUNCTION reinstate_client(p_org_slug text) RETURNS TABLE (organization_id text, workspaces integer)
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM set_client_status(p_org_slug, 'active', '{suspended,cancelled}', 'client.reinstated', '{}')
$$;
COMMENT ON FUNCTION reinstate_client IS 'Let a suspended or offboarded client in again, with everything that was there, except workspaces that are being erased.';

-- Row-level security. A table with a workspace shows the one that the transaction names; nothing shows everything.
CREATE FUNCTION isolate(relation regclass, visible text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format('CREATE POLICY operator ON %s TO causeloop_owner USING (true) WITH CHECK (true)', relation);
    EXECUTE format('CREATE POLICY tenant ON %s TO causeloop_app USING (%s) WITH CHECK (%s)', relation, visible, visible);
END $$;
COMMENT ON FUNCTION isolate IS
    'Force row-level security on a table: the owner, in functions and an operator''s SQL, sees all; the app what `visible` says.';

SELECT isolate(name::regclass, 'workspace_id = (SELECT current_workspace())')
FROM unnest(ARRAY['workspaces', 'workspace_settings', 'memberships', 'onboarding_states', 'outbox', 'audit_heads',
    'audit_log']) AS name;
-- Everybody may know what the plans are; nobody but the operator changes them.
SELECT isolate('plans', 'true');
SELECT isolate('organizations',
    'organization_id = (SELECT w.organization_id FROM workspaces AS w WHERE w.workspace_id = (SELECT current_workspace()))');
-- A person sees themself, and the people of the workspace.
SELECT isolate('users', 'user_id = (SELECT current_person()) OR EXISTS (SELECT FROM memberships AS m
    WHERE m.user_id = users.user_id AND m.workspace_id = (SELECT current_workspace()))');
CREATE POLICY own ON memberships FOR SELECT TO causeloop_app USING (user_id = (SELECT current_person()));

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA identity FROM PUBLIC;
GRANT USAGE ON SCHEMA identity TO causeloop_app;
GRANT EXECUTE ON FUNCTION new_id, current_workspace, current_person TO causeloop_app;
GRANT EXECUTE ON FUNCTION onboard_client, ensure_person, audit_here, emit_here, untold_facts, forget_facts, seats_taken,
    plan_limit, is_timezone TO causeloop_app;
GRANT SELECT ON plans, organizations, onboarding_states, audit_heads, audit_log TO causeloop_app;
GRANT SELECT ON workspaces, workspace_settings TO causeloop_app;
-- Not the status, the plan or the seats: those are the operator's.
GRANT UPDATE (name) ON organizations TO causeloop_app;
GRANT UPDATE (slug, name, description, industry, timezone, theme, sso_enforced, updated_at) ON workspaces TO causeloop_app;
GRANT UPDATE ON workspace_settings, onboarding_states TO causeloop_app;
GRANT SELECT, INSERT, UPDATE ON users TO causeloop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON memberships TO causeloop_app;

-- migrate:down

DROP SCHEMA identity CASCADE;
