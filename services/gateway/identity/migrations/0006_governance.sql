-- migrate:up

-- The audit log: nobody changes an entry, and old ones go only as a chain's beginning, which leaves its last link behind.
CREATE TABLE audit_anchors (
    workspace_id text NOT NULL PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
    entry_number bigint NOT NULL,             -- the last entry that was purged; the chain goes on after it
    hash bytea NOT NULL,
    purged_at timestamptz NOT NULL
);
COMMENT ON TABLE audit_anchors IS 'Where the kept part of an audit chain hangs.';

CREATE FUNCTION keep_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        -- No row: the workspace itself is being erased. Otherwise purge_audit has laid the anchor first.
        PERFORM FROM workspaces WHERE workspace_id = OLD.workspace_id;
        IF NOT FOUND OR EXISTS (SELECT FROM audit_anchors AS anchor
            WHERE anchor.workspace_id = OLD.workspace_id AND anchor.entry_number >= OLD.entry_number)
        THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER append_only_at_once BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();

CREATE FUNCTION verify_audit(p_workspace text) RETURNS TABLE (
    n_entries bigint, first_number bigint, last_number bigint, head_hash bytea, problem text, problem_number bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    WITH anchor AS (
        SELECT COALESCE(max(a.entry_number), 0) AS entry_number, COALESCE((array_agg(a.hash))[1], '') AS hash
        FROM audit_anchors AS a WHERE a.workspace_id = p_workspace
    ), head AS (
        SELECT COALESCE(max(h.entry_number), 0) AS entry_number, COALESCE((array_agg(h.hash))[1], '') AS hash
        FROM audit_heads AS h WHERE h.workspace_id = p_workspace
    ), chain AS (
        SELECT l.entry_number, l.hash, l.previous_hash, audit_hash(l) AS computed,
            COALESCE(lag(l.entry_number) OVER w, anchor.entry_number) AS before_number,
            COALESCE(lag(l.hash) OVER w, anchor.hash) AS before_hash
        FROM audit_log AS l CROSS JOIN anchor WHERE l.workspace_id = p_workspace
        WINDOW w AS (ORDER BY l.entry_number)
    ), faults AS (
        SELECT c.before_number + 1 AS number, 'removed' AS what FROM chain AS c
        WHERE c.entry_number > c.before_number + 1
        UNION ALL
        SELECT c.entry_number, CASE WHEN c.entry_number > head.entry_number THEN 'inserted'
            WHEN c.hash IS DISTINCT FROM c.computed THEN 'changed' ELSE 'reordered' END
        FROM chain AS c CROSS JOIN head
        WHERE c.entry_number > head.entry_number OR c.entry_number <= c.before_number
            OR c.hash IS DISTINCT FROM c.computed
            OR (c.entry_number = c.before_number + 1 AND c.previous_hash IS DISTINCT FROM c.before_hash)
        UNION ALL
        -- The chain ends before its head, or with another hash.
        SELECT GREATEST(last.number, anchor.entry_number) + 1, 'removed'
        FROM head CROSS JOIN anchor CROSS JOIN (SELECT COALESCE(max(c.entry_number), 0) AS number FROM chain AS c) AS last
        WHERE GREATEST(last.number, anchor.entry_number) < head.entry_number
        UNION ALL
        SELECT head.entry_number, 'changed' FROM head JOIN chain AS c ON c.entry_number = head.entry_number
        WHERE c.hash IS DISTINCT FROM head.hash
    ), first_fault AS (
        SELECT f.number, f.what FROM faults AS f ORDER BY f.number, f.what LIMIT 1
    )
    SELECT (SELECT count(*) FROM chain), (SELECT min(c.entry_number) FROM chain AS c), head.entry_number, head.hash,
        first_fault.what, first_fault.number
    FROM head LEFT JOIN first_fault ON true
$$;
COMMENT ON FUNCTION verify_audit IS
    'Recompute a workspace''s chain: how long it is, and the first entry that was changed, removed, inserted or moved.';

CREATE FUNCTION verify_audit_here() RETURNS TABLE (
    n_entries bigint, first_number bigint, last_number bigint, head_hash bytea, problem text, problem_number bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM verify_audit(current_workspace())
$$;

CREATE FUNCTION purge_audit(p_workspace text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    link audit_log;
    kept_since timestamptz;
    n bigint;
BEGIN
    PERFORM FROM audit_heads WHERE workspace_id = p_workspace FOR UPDATE;
    SELECT now() - make_interval(days => s.audit_days + s.grace_days) INTO kept_since
    FROM workspace_settings AS s WHERE s.workspace_id = p_workspace;
    -- Only a beginning can go: up to the entry before the first one that has to stay.
    SELECT l.* INTO link FROM audit_log AS l
    WHERE l.workspace_id = p_workspace AND l.entry_number < COALESCE(
        (SELECT min(s.entry_number) FROM audit_log AS s WHERE s.workspace_id = p_workspace AND s.occurred_at >= kept_since),
        'infinity'::numeric)
    ORDER BY l.entry_number DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    INSERT INTO audit_anchors VALUES (p_workspace, link.entry_number, link.hash, now())
    ON CONFLICT (workspace_id) DO UPDATE SET entry_number = excluded.entry_number, hash = excluded.hash,
        purged_at = excluded.purged_at;
    DELETE FROM audit_log WHERE workspace_id = p_workspace AND entry_number <= link.entry_number;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION purge_audit IS
    'Delete the beginning of a chain that is past its window and grace, and keep its last link so that the rest stays verifiable.';

-- What a list shows: what is older than the window is hidden at once, and purged after the grace period.
CREATE VIEW audit_entries WITH (security_invoker = true) AS
SELECT l.workspace_id, l.entry_number AS seq, l.entry_id, l.occurred_at, l.actor_id, u.name AS actor_name,
    l.action, l.category, l.target_type, l.target_id, l.metadata::text AS metadata, l.ip, encode(l.hash, 'hex') AS hash
FROM audit_log AS l
JOIN workspace_settings AS s ON s.workspace_id = l.workspace_id
LEFT JOIN users AS u ON u.user_id = l.actor_id
WHERE l.occurred_at >= now() - make_interval(days => s.audit_days);

-- Copies that a client takes away.
CREATE TABLE export_jobs (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    export_id text NOT NULL UNIQUE CHECK (export_id ~ '^exp_[0-9A-HJKMNP-TV-Z]{26}$'),
    kind text NOT NULL CHECK (kind IN ('workspace', 'audit')),
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'expired')),
    requested_by text,
    n_attempts integer NOT NULL DEFAULT 0,
    file_name text,                           -- in EXPORT_FOLDER; null: there is none, or none any more
    size_bytes bigint,
    sha256 text,
    files jsonb NOT NULL DEFAULT '{}',        -- name → lines
    error text,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    expires_at timestamptz,                   -- when the file is deleted
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, export_id)
);
COMMENT ON TABLE export_jobs IS 'A copy of everything of a workspace, or of its audit log, in a file.';
CREATE UNIQUE INDEX export_jobs_one_at_a_time ON export_jobs (workspace_id, kind) WHERE status IN ('queued', 'running');
CREATE INDEX export_jobs_open ON export_jobs (created_at) WHERE status IN ('queued', 'running');
CREATE INDEX export_jobs_kept ON export_jobs (expires_at) WHERE status = 'succeeded';

CREATE FUNCTION tell_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
BEGIN
    PERFORM pg_notify('governance_job', NEW.workspace_id || '/' || NEW.export_id);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OF status ON export_jobs FOR EACH ROW EXECUTE FUNCTION tell_job();

CREATE VIEW exports WITH (security_invoker = true) AS
SELECT workspace_id, export_id, kind, status, requested_by, file_name, size_bytes, sha256, files::text AS files, error,
    created_at, started_at, finished_at, expires_at, seq
FROM export_jobs;

CREATE FUNCTION open_exports() RETURNS SETOF export_jobs
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM export_jobs WHERE status IN ('queued', 'running') ORDER BY created_at LIMIT 100
$$;
COMMENT ON FUNCTION open_exports IS 'Exports that have to be written, whoever''s; those that run were left by a process that died.';

CREATE FUNCTION expired_exports(p_now timestamptz) RETURNS SETOF export_jobs
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM export_jobs WHERE status = 'succeeded' AND expires_at <= p_now ORDER BY expires_at LIMIT 100
$$;
COMMENT ON FUNCTION expired_exports IS 'Exports whose file has to go, whoever''s.';

-- People who want to be forgotten (GDPR, article 17).
CREATE TABLE rtbf_requests (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    request_id text NOT NULL UNIQUE CHECK (request_id ~ '^rtbf_[0-9A-HJKMNP-TV-Z]{26}$'),
    subject_id text NOT NULL,                 -- the person's id; no address and no name is kept here
    status text NOT NULL DEFAULT 'received' CHECK (status IN
        ('received', 'verifying', 'on_hold', 'approved', 'executing', 'completed', 'failed', 'rejected')),
    reason text NOT NULL DEFAULT '' CHECK (char_length(reason) <= 2000),
    notes text NOT NULL DEFAULT '' CHECK (char_length(notes) <= 2000),
    requested_by text,
    decided_by text,
    certificate jsonb,                        -- with its signature; null unless it is completed
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (workspace_id, request_id)
);
COMMENT ON TABLE rtbf_requests IS 'Requests of people to be erased, and what became of them.';
CREATE UNIQUE INDEX rtbf_requests_open ON rtbf_requests (workspace_id, subject_id)
    WHERE status NOT IN ('completed', 'failed', 'rejected');

CREATE VIEW erasure_requests WITH (security_invoker = true) AS
SELECT workspace_id, request_id, subject_id, status, reason, notes, requested_by, decided_by,
    certificate::text AS certificate, created_at, updated_at, completed_at, seq
FROM rtbf_requests;

CREATE FUNCTION knows_person(p_workspace text, p_user text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    -- Whoever was removed is known by what they left: the audit log at least says that they were there.
    SELECT EXISTS (SELECT FROM memberships AS m WHERE m.workspace_id = p_workspace AND m.user_id = p_user)
        OR EXISTS (SELECT FROM invitations AS i WHERE i.workspace_id = p_workspace AND i.user_id = p_user)
        OR EXISTS (SELECT FROM sessions AS s WHERE s.workspace_id = p_workspace AND s.user_id = p_user)
        OR EXISTS (SELECT FROM api_tokens AS t WHERE t.workspace_id = p_workspace AND t.user_id = p_user)
        OR EXISTS (SELECT FROM audit_log AS l WHERE l.workspace_id = p_workspace
            AND (l.actor_id = p_user OR l.metadata ->> 'user_id' = p_user))
$$;
COMMENT ON FUNCTION knows_person IS 'Whether a person is or was in a workspace.';

CREATE FUNCTION find_subject_here(p_subject text) RETURNS TABLE (user_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT u.user_id FROM users AS u
    WHERE (u.user_id = p_subject OR lower(u.email) = lower(p_subject)) AND u.email <> u.user_id || '@erased.invalid'
        AND knows_person(current_workspace(), u.user_id)
    LIMIT 1
$$;
COMMENT ON FUNCTION find_subject_here IS
    'The person with this id or address who is or was in the current workspace; nobody once they are erased.';

CREATE FUNCTION erase_person(p_user text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    space text := current_workspace();
    erased jsonb := '{}';
    relation text;
    n bigint;
    is_last boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM users AS u WHERE u.user_id = p_user) OR NOT knows_person(space, p_user) THEN
        RAISE EXCEPTION 'the workspace does not know the person %', p_user USING ERRCODE = 'no_data_found';
    END IF;
    -- Every table that says which person of which workspace it is about; the membership last, since others hang from it.
    FOR relation IN
        SELECT c.relname FROM pg_class AS c
        JOIN pg_attribute AS w ON w.attrelid = c.oid AND w.attname = 'workspace_id'
        JOIN pg_attribute AS u ON u.attrelid = c.oid AND u.attname = 'user_id'
        WHERE c.relnamespace = 'identity'::regnamespace AND c.relkind = 'r'
        ORDER BY c.relname = 'memberships', c.relname = 'sessions', c.relname
    LOOP
        EXECUTE format('DELETE FROM %I WHERE workspace_id = $1 AND user_id = $2', relation) USING space, p_user;
        GET DIAGNOSTICS n = ROW_COUNT;
        erased := erased || jsonb_build_object(relation, n);
    END LOOP;
    PERFORM FROM users WHERE user_id = p_user FOR UPDATE;
    is_last := NOT EXISTS (SELECT FROM memberships AS m WHERE m.user_id = p_user);
    IF is_last THEN
        FOR relation IN
            SELECT c.relname FROM pg_class AS c
            JOIN pg_attribute AS u ON u.attrelid = c.oid AND u.attname = 'user_id'
            WHERE c.relnamespace = 'identity'::regnamespace AND c.relkind = 'r' AND c.relname <> 'users'
            ORDER BY c.relname = 'sessions', c.relname
        LOOP
            EXECUTE format('DELETE FROM %I WHERE user_id = $1', relation) USING p_user;
            GET DIAGNOSTICS n = ROW_COUNT;
            erased := erased || jsonb_build_object(relation, n + COALESCE((erased ->> relation)::bigint, 0));
        END LOOP;
        UPDATE users SET email = p_user || '@erased.invalid', name = 'Erased person', external_id = NULL,
            avatar_url = NULL, timezone = NULL, locale = NULL, status = 'suspended', updated_at = now()
        WHERE user_id = p_user;
    END IF;
    RETURN jsonb_build_object('rows', erased, 'is_anonymised', is_last);
END $$;
COMMENT ON FUNCTION erase_person IS
    'Delete what the current workspace has of a person; who is in no other workspace keeps nothing but an id.';

-- Workspaces that are to be forgotten altogether. These rows outlive them, and hold an id, numbers and times only.
CREATE TABLE erasures (
    workspace_id text NOT NULL PRIMARY KEY,
    erasure_id text NOT NULL UNIQUE,
    organization_id text,                     -- null once it is gone with its last workspace
    status text NOT NULL DEFAULT 'executing' CHECK (status IN ('executing', 'completed')),
    identity jsonb,                           -- table → rows deleted; null: not done yet
    purged bigint NOT NULL DEFAULT 0,         -- messages deleted from the log
    files bigint NOT NULL DEFAULT 0,          -- files of exports deleted
    certificate jsonb,
    requested_at timestamptz NOT NULL,
    completed_at timestamptz
);
COMMENT ON TABLE erasures IS 'Erasures of workspaces, with the certificate of each.';

CREATE FUNCTION request_erasure(p_workspace text, p_actor text DEFAULT NULL, p_ip text DEFAULT NULL) RETURNS text
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
COMMENT ON FUNCTION request_erasure IS 'Shut a workspace and have everything of it deleted, everywhere, for good.';

CREATE FUNCTION request_erasure_here(p_actor text, p_ip text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT request_erasure(current_workspace(), p_actor, p_ip)
$$;

CREATE FUNCTION erase_client(p_org_slug text) RETURNS TABLE (workspace_id text, erasure_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM organizations WHERE slug = p_org_slug) THEN
        RAISE EXCEPTION 'there is no client %', p_org_slug USING ERRCODE = 'no_data_found';
    END IF;
    RETURN QUERY SELECT w.workspace_id, request_erasure(w.workspace_id)
        FROM workspaces AS w JOIN organizations AS o USING (organization_id) WHERE o.slug = p_org_slug;
END $$;
COMMENT ON FUNCTION erase_client IS 'Have all workspaces of a client erased, and the client with the last of them.';

CREATE FUNCTION open_erasures(p_since timestamptz) RETURNS SETOF erasures
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM erasures WHERE status = 'executing' OR completed_at >= p_since
    ORDER BY status = 'completed', requested_at
$$;
COMMENT ON FUNCTION open_erasures IS 'Erasures that go on, then those that ended lately, whose stragglers are still looked for.';

CREATE FUNCTION is_told(p_workspace text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM outbox AS o WHERE o.workspace_id = p_workspace)
$$;
COMMENT ON FUNCTION is_told IS 'Whether the log has every fact of a workspace.';

CREATE FUNCTION erase_workspace_rows(p_workspace text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    erasure erasures;
    erased jsonb := '{}';
    relation text;
    n bigint;
    people text[];
BEGIN
    SELECT * INTO erasure FROM erasures WHERE workspace_id = p_workspace AND status = 'executing' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nobody asked for the erasure of %', p_workspace USING ERRCODE = 'no_data_found';
    END IF;
    IF erasure.identity IS NOT NULL THEN
        RETURN erasure.identity;
    END IF;
    SELECT COALESCE(array_agg(DISTINCT known.user_id), '{}') INTO people FROM (
        SELECT m.user_id FROM memberships AS m WHERE m.workspace_id = p_workspace
        UNION SELECT i.user_id FROM invitations AS i WHERE i.workspace_id = p_workspace
        UNION SELECT s.user_id FROM sessions AS s WHERE s.workspace_id = p_workspace
        UNION SELECT t.user_id FROM api_tokens AS t WHERE t.workspace_id = p_workspace
        UNION SELECT r.subject_id FROM rtbf_requests AS r WHERE r.workspace_id = p_workspace) AS known;
    FOR relation IN
        SELECT c.relname FROM pg_class AS c
        JOIN pg_attribute AS w ON w.attrelid = c.oid AND w.attname = 'workspace_id'
        WHERE c.relnamespace = 'identity'::regnamespace AND c.relkind = 'r' AND c.relname <> 'erasures'
        ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT count(*) FROM %I WHERE workspace_id = $1', relation) INTO n USING p_workspace;
        erased := erased || jsonb_build_object(relation, n);
    END LOOP;
    -- First the workspace, so that no rule about its members, seats or audit log stands in the way of the rest.
    DELETE FROM workspaces WHERE workspace_id = p_workspace;
    FOR relation IN SELECT jsonb_object_keys(erased) LOOP
        EXECUTE format('DELETE FROM %I WHERE workspace_id = $1', relation) USING p_workspace;
    END LOOP;
    DELETE FROM users AS u WHERE u.user_id = ANY (people)
        AND NOT EXISTS (SELECT FROM memberships AS m WHERE m.user_id = u.user_id)
        AND NOT EXISTS (SELECT FROM invitations AS i WHERE i.user_id = u.user_id);
    GET DIAGNOSTICS n = ROW_COUNT;
    erased := erased || jsonb_build_object('users', n);
    DELETE FROM organizations AS o WHERE o.organization_id = erasure.organization_id
        AND NOT EXISTS (SELECT FROM workspaces AS w WHERE w.organization_id = o.organization_id);
    GET DIAGNOSTICS n = ROW_COUNT;
    erased := erased || jsonb_build_object('organizations', n);
    UPDATE erasures SET identity = erased, organization_id = CASE n WHEN 0 THEN organization_id END
    WHERE workspace_id = p_workspace;
    RETURN erased;
END $$;
COMMENT ON FUNCTION erase_workspace_rows IS
    'Delete every row of identity that a workspace has, people who are nowhere else, and the client with its last workspace.';

CREATE FUNCTION note_erasure(p_workspace text, p_purged bigint, p_files bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    UPDATE erasures SET purged = purged + p_purged, files = files + p_files
    WHERE workspace_id = p_workspace AND status = 'executing'
$$;

CREATE FUNCTION complete_erasure(p_workspace text, p_certificate jsonb, p_now timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    UPDATE erasures SET status = 'completed', certificate = p_certificate, completed_at = p_now
    WHERE workspace_id = p_workspace AND status = 'executing' AND identity IS NOT NULL
$$;

-- What is kept how long: never longer than the plan allows, except the audit log.
CREATE VIEW retention_windows WITH (security_invoker = true) AS
SELECT s.workspace_id, LEAST(s.issues_days, p.retention_days) AS issues_days,
    LEAST(s.activity_days, p.retention_days) AS activity_days, s.audit_days,
    LEAST(s.prompt_logs_days, p.retention_days) AS prompt_logs_days,
    LEAST(s.predictions_days, p.retention_days) AS predictions_days, s.grace_days
FROM workspace_settings AS s
JOIN workspaces AS w ON w.workspace_id = s.workspace_id
JOIN organizations AS o ON o.organization_id = w.organization_id
JOIN plans AS p ON p.plan = o.plan;

CREATE FUNCTION all_retention_windows() RETURNS SETOF retention_windows
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT * FROM retention_windows ORDER BY workspace_id
$$;
COMMENT ON FUNCTION all_retention_windows IS 'How long each workspace keeps what, in days.';

CREATE FUNCTION purge_activity(p_workspace text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    kept_since timestamptz;
    total bigint := 0;
    n bigint;
BEGIN
    SELECT now() - make_interval(days => r.activity_days + r.grace_days) INTO kept_since
    FROM retention_windows AS r WHERE r.workspace_id = p_workspace;
    DELETE FROM sessions AS s WHERE s.workspace_id = p_workspace AND LEAST(s.revoked_at, s.expires_at) < kept_since;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
    DELETE FROM invitations AS i WHERE i.workspace_id = p_workspace
        AND CASE WHEN i.status = 'pending' THEN i.expires_at ELSE i.settled_at END < kept_since;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
    DELETE FROM api_tokens AS t WHERE t.workspace_id = p_workspace AND LEAST(t.revoked_at, t.expires_at) < kept_since;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
    DELETE FROM export_jobs AS e WHERE e.workspace_id = p_workspace AND e.status IN ('failed', 'expired')
        AND e.finished_at < kept_since;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN total + n;
END $$;
COMMENT ON FUNCTION purge_activity IS
    'Delete sessions, invitations, tokens and exports of a workspace that were over before its window and grace.';

-- Whoever was removed everywhere, and of whose sessions, tokens and invitations nothing is kept any more. An anonymised
-- row says nothing of anybody; a new one may be about to become a member.
CREATE VIEW strays WITH (security_invoker = true) AS
SELECT u.user_id FROM users AS u
WHERE u.created_at < now() - interval '1 day' AND u.email <> u.user_id || '@erased.invalid'
    AND NOT EXISTS (SELECT FROM memberships AS m WHERE m.user_id = u.user_id)
    AND NOT EXISTS (SELECT FROM invitations AS i WHERE i.user_id = u.user_id)
    AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = u.user_id)
    AND NOT EXISTS (SELECT FROM api_tokens AS t WHERE t.user_id = u.user_id)
    AND NOT EXISTS (SELECT FROM rtbf_requests AS r WHERE r.subject_id = u.user_id
        AND r.status NOT IN ('completed', 'failed', 'rejected'));

CREATE FUNCTION purge_people() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = identity, pg_temp AS $$
DECLARE
    picked text[];
    n bigint;
BEGIN
    -- Locked first and looked at again: whoever somebody invites meanwhile is not among them any more.
    SELECT array_agg(held.user_id) INTO picked FROM (SELECT s.user_id FROM strays AS s FOR UPDATE SKIP LOCKED) AS held;
    DELETE FROM users AS u USING strays AS s WHERE s.user_id = u.user_id AND u.user_id = ANY (picked);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION purge_people IS 'Delete people of whom no workspace has anything but ids.';

SELECT isolate(name::regclass, 'workspace_id = (SELECT current_workspace())')
FROM unnest(ARRAY['audit_anchors', 'export_jobs', 'rtbf_requests', 'erasures']) AS name;

REVOKE EXECUTE ON FUNCTION keep_audit, tell_job, verify_audit, verify_audit_here, purge_audit, open_exports, expired_exports,
    knows_person, find_subject_here, erase_person, request_erasure, request_erasure_here, erase_client, open_erasures,
    is_told, erase_workspace_rows, note_erasure, complete_erasure, all_retention_windows, purge_activity, purge_people
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION verify_audit_here, purge_audit, open_exports, expired_exports, find_subject_here,
    erase_person, request_erasure_here, open_erasures, is_told, erase_workspace_rows, note_erasure, complete_erasure,
    all_retention_windows, purge_activity, purge_people TO causeloop_app;
GRANT SELECT ON audit_anchors, audit_entries, exports, erasure_requests, erasures, retention_windows TO causeloop_app;
GRANT SELECT, INSERT, UPDATE ON export_jobs, rtbf_requests TO causeloop_app;

-- migrate:down

DROP FUNCTION purge_people;
DROP VIEW strays;
DROP FUNCTION purge_activity, all_retention_windows;
DROP VIEW retention_windows;
DROP FUNCTION complete_erasure, note_erasure, erase_workspace_rows, is_told, open_erasures, erase_client,
    request_erasure_here, request_erasure, erase_person, find_subject_here, knows_person, expired_exports, open_exports, purge_audit, verify_audit_here,
    verify_audit;
DROP VIEW erasure_requests, exports;
DROP TABLE erasures, rtbf_requests, export_jobs;
DROP FUNCTION tell_job;
DROP VIEW audit_entries;
DROP TRIGGER append_only ON audit_log;
DROP TRIGGER append_only_at_once ON audit_log;
DROP FUNCTION keep_audit;
DROP TABLE audit_anchors;
