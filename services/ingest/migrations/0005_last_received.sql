-- migrate:up

-- When each connector was last posted to, without reading all that it was posted.
CREATE INDEX deliveries_by_connector ON deliveries (workspace_id, connector_id, received_at);

-- migrate:down

DROP INDEX deliveries_by_connector;
