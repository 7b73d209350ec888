-- migrate:up

-- What a source still says of an older revision than the one that is kept, as a list whose times are coarser than its
-- webhook's does at each poll: it is nothing new.
ALTER TABLE raw_records ADD COLUMN late_sha256 text;

-- migrate:down

ALTER TABLE raw_records DROP COLUMN late_sha256;
