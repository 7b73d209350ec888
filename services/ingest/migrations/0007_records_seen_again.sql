-- migrate:up

-- A record that came again as it is kept: received_at says since when it is so, this until when it is known to be.
ALTER TABLE raw_records ADD COLUMN seen_at timestamptz;

-- migrate:down

ALTER TABLE raw_records DROP COLUMN seen_at;
