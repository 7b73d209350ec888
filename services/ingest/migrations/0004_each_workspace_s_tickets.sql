-- migrate:up

-- However many tickets of one workspace wait, the longest waiting of every other come before its second.
CREATE OR REPLACE FUNCTION lapsed_pushes(now timestamptz, row_limit integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = sources, pg_temp AS $$
    SELECT p.workspace_id || '/' || p.ticket_id FROM pushes AS p WHERE p.leased_until <= now
    ORDER BY row_number() OVER (PARTITION BY p.workspace_id ORDER BY p.leased_until, p.ticket_id),
        p.leased_until, p.workspace_id LIMIT row_limit
$$;

-- migrate:down

CREATE OR REPLACE FUNCTION lapsed_pushes(now timestamptz, row_limit integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = sources, pg_temp AS $$
    SELECT p.workspace_id || '/' || p.ticket_id FROM pushes AS p WHERE p.leased_until <= now
    ORDER BY p.leased_until, p.workspace_id, p.ticket_id LIMIT row_limit
$$;
