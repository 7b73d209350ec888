-- migrate:up

-- When each connector was last posted to, without reading all that it was posted. Not with the workspace in front: on
-- a table that was never analyzed it would look as good as the primary key to whoever asks for one delivery.
CREATE INDEX deliveries_by_connector ON deliveries (connector_id, received_at);

-- migrate:down

DROP INDEX deliveries_by_connector;
