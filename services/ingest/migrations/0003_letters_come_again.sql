-- migrate:up

-- When a dead letter came last; unlike tried_at, no retry changes it. Null: as received_at, of before this migration.
ALTER TABLE dead_letters ADD COLUMN came_at timestamptz;

-- migrate:down

ALTER TABLE dead_letters DROP COLUMN came_at;
