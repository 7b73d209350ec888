-- migrate:up

-- Sign-ins that nobody ended are swept by their age, in every workspace.
CREATE INDEX authorizations_by_age ON authorizations (expires_at);

-- migrate:down

DROP INDEX authorizations_by_age;
