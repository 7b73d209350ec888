-- migrate:up

-- A deed that another service does is named here before it is asked, so that a crash in between loses no line.
CREATE TABLE audit_intents (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    intent_id text NOT NULL,
    begun_at timestamptz NOT NULL,
    actor_id text NOT NULL,
    action text NOT NULL,
    category text NOT NULL,
    target_type text NOT NULL,
    target_id text NOT NULL,
    metadata jsonb NOT NULL,
    ip text,
    PRIMARY KEY (workspace_id, intent_id)
);
COMMENT ON TABLE audit_intents IS 'Deeds that have begun: a row becomes a line of the audit log, or goes when the deed is refused.';
SELECT isolate('audit_intents', 'workspace_id = (SELECT current_workspace())');

-- One at a time: two workspaces' chains are never locked together.
CREATE FUNCTION close_left_intent(before timestamptz) RETURNS boolean
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
COMMENT ON FUNCTION close_left_intent IS
    'Write the line of a deed whose process died, of any workspace: nobody knows whether it is done. False: there is none.';

REVOKE EXECUTE ON FUNCTION close_left_intent FROM PUBLIC;
GRANT EXECUTE ON FUNCTION close_left_intent TO causeloop_app;
GRANT SELECT, INSERT, DELETE ON audit_intents TO causeloop_app;

-- migrate:down

DROP FUNCTION close_left_intent;
DROP TABLE audit_intents;
