-- migrate:up

CREATE TABLE ai_settings (
    workspace_id text NOT NULL PRIMARY KEY REFERENCES workspaces ON DELETE CASCADE,
    model_enabled boolean NOT NULL DEFAULT true,          -- whether a model may be asked about its failures
    base_url text CHECK (char_length(base_url) <= 500),   -- its own endpoint; null: the operator's
    api_key_sealed text,                                  -- of its own endpoint
    model_fast text CHECK (char_length(model_fast) <= 100),
    model_balanced text CHECK (char_length(model_balanced) <= 100),
    model_deep text CHECK (char_length(model_deep) <= 100),
    redact_emails boolean NOT NULL DEFAULT true,
    redact_ip_addresses boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ai_settings IS 'Whom a workspace lets explain its failures, and what is taken out before; without a row, the defaults.';
SELECT isolate('ai_settings', 'workspace_id = (SELECT current_workspace())');
GRANT SELECT, INSERT, UPDATE ON ai_settings TO causeloop_app;

-- migrate:down

DROP TABLE ai_settings;
