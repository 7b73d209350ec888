-- migrate:up

-- Rows that hang on a client or a workspace may be written meanwhile: only its key has to stay.
CREATE OR REPLACE FUNCTION take_seat() RETURNS trigger
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
    WHERE w.workspace_id = NEW.workspace_id FOR NO KEY UPDATE OF o;
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

CREATE OR REPLACE FUNCTION keep_an_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    IF OLD.status = 'active' AND OLD.role = 'owner'
        AND NOT (TG_OP = 'UPDATE' AND NEW.status = 'active' AND NEW.role = 'owner')
    THEN
        -- No row: the workspace itself is being deleted.
        PERFORM FROM workspaces WHERE workspace_id = OLD.workspace_id FOR NO KEY UPDATE;
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

CREATE OR REPLACE FUNCTION set_client_status(p_org_slug text, p_status text, p_from text[], p_action text, p_metadata jsonb)
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
    PERFORM FROM workspaces AS w WHERE w.organization_id = client FOR NO KEY UPDATE;
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

CREATE OR REPLACE FUNCTION request_erasure(p_workspace text, p_actor text DEFAULT NULL, p_ip text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    told erasures;
BEGIN
    PERFORM FROM workspaces WHERE workspace_id = p_workspace FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no workspace %', p_workspace USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO told FROM erasures WHERE workspace_id = p_workspace;
    IF FOUND THEN
        RETURN told.erasure_id;
    END IF;
    INSERT INTO erasures (workspace_id, erasure_id, organization_id, requested_at)
    SELECT w.workspace_id, new_id('ers_'), w.organization_id, now() FROM workspaces AS w WHERE w.workspace_id = p_workspace
    RETURNING * INTO told;
    PERFORM audit(p_workspace, p_actor, 'workspace.erasure_requested', 'delete', 'workspace', p_workspace, '{}', p_ip);
    -- Nobody gets in from here on, so nothing new is written behind the tombstone for long.
    UPDATE workspaces SET status = 'suspended', updated_at = now() WHERE workspace_id = p_workspace;
    PERFORM emit(p_workspace, 'WorkspaceErased', jsonb_build_object('workspace_id', p_workspace));
    RETURN told.erasure_id;
END $$;

-- A line that cannot be written holds up no other; it is told once nothing else is left.
CREATE OR REPLACE FUNCTION close_left_intent(before timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    intent audit_intents;
    fault text;
BEGIN
    FOR intent IN SELECT * FROM audit_intents WHERE begun_at <= before ORDER BY begun_at FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            DELETE FROM audit_intents AS i WHERE i.workspace_id = intent.workspace_id AND i.intent_id = intent.intent_id;
            PERFORM audit(intent.workspace_id, intent.actor_id, intent.action, intent.category, intent.target_type,
                intent.target_id, intent.metadata || jsonb_build_object('outcome', 'unknown', 'begun_at',
                    to_char(intent.begun_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')), intent.ip);
            RETURN true;
        EXCEPTION WHEN OTHERS THEN
            -- Undone, its chain is free again and the row is there for the next look.
            fault := SQLERRM;
        END;
    END LOOP;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'a line of the audit log cannot be written: %', fault;
    END IF;
    RETURN false;
END $$;

-- migrate:down

CREATE OR REPLACE FUNCTION take_seat() RETURNS trigger
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

CREATE OR REPLACE FUNCTION keep_an_owner() RETURNS trigger
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

CREATE OR REPLACE FUNCTION set_client_status(p_org_slug text, p_status text, p_from text[], p_action text, p_metadata jsonb)
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

CREATE OR REPLACE FUNCTION request_erasure(p_workspace text, p_actor text DEFAULT NULL, p_ip text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    told erasures;
BEGIN
    PERFORM FROM workspaces WHERE workspace_id = p_workspace FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no workspace %', p_workspace USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO told FROM erasures WHERE workspace_id = p_workspace;
    IF FOUND THEN
        RETURN told.erasure_id;
    END IF;
    INSERT INTO erasures (workspace_id, erasure_id, organization_id, requested_at)
    SELECT w.workspace_id, new_id('ers_'), w.organization_id, now() FROM workspaces AS w WHERE w.workspace_id = p_workspace
    RETURNING * INTO told;
    PERFORM audit(p_workspace, p_actor, 'workspace.erasure_requested', 'delete', 'workspace', p_workspace, '{}', p_ip);
    -- Nobody gets in from here on, so nothing new is written behind the tombstone for long.
    UPDATE workspaces SET status = 'suspended', updated_at = now() WHERE workspace_id = p_workspace;
    PERFORM emit(p_workspace, 'WorkspaceErased', jsonb_build_object('workspace_id', p_workspace));
    RETURN told.erasure_id;
END $$;

CREATE OR REPLACE FUNCTION close_left_intent(before timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    intent audit_intents;
BEGIN
    DELETE FROM audit_intents AS i USING (
        SELECT workspace_id, intent_id FROM audit_intents WHERE begun_at <= before
        ORDER BY begun_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) AS oldest
    WHERE i.workspace_id = oldest.workspace_id AND i.intent_id = oldest.intent_id
    RETURNING i.* INTO intent;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM audit(intent.workspace_id, intent.actor_id, intent.action, intent.category, intent.target_type,
        intent.target_id, intent.metadata || jsonb_build_object('outcome', 'unknown', 'begun_at',
            to_char(intent.begun_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')), intent.ip);
    RETURN true;
END $$;
