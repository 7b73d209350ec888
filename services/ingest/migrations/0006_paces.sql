-- migrate:up

-- Unlogged: a row is written up to once a second for each account, and is of no use a minute later.
CREATE UNLOGGED TABLE paces (
    account text PRIMARY KEY CHECK (account ~ '^[0-9a-f]{64}$'),
    free_at double precision NOT NULL,         -- seconds since 1970: up to when turns are given out
    back_at double precision NOT NULL,         -- when whoever found no turn last was told to come back
    kept_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE paces IS 'How fast accounts of vendors are asked, by all processes together; accounts by a keyed hash of what signs in.';
GRANT SELECT, INSERT, UPDATE, DELETE ON paces TO causeloop_app;

-- migrate:down

DROP TABLE paces;
