-- The database and the three roles of Causeloop on a PostgreSQL server of yours. Running it again changes
-- only the passwords. Run it once as a superuser, or as a role with CREATEROLE and CREATEDB:
--
--   psql "$ADMIN_URL" --set=owner_password=… --set=projector_password=… --set=app_password=… -f roles.sql
--
-- causeloop_owner      owns the schemas; DATABASE_OWNER_URL, only for making, replaying and verifying read models
-- causeloop_projector  writes rows of every workspace; DATABASE_PROJECTOR_URL
-- causeloop_app        reads under row-level security; DATABASE_URL
--
-- None is a superuser and none can bypass row-level security: a service refuses nothing less by itself,
-- so do not hand it another role.

\set ON_ERROR_STOP on

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['causeloop_owner', 'causeloop_projector', 'causeloop_app']) AS name
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE causeloop_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'owner_password';
ALTER ROLE causeloop_projector LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'projector_password';
ALTER ROLE causeloop_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'app_password';

-- The owner acts as the others by SET ROLE only; it does not silently have their rights.
GRANT causeloop_projector, causeloop_app TO causeloop_owner WITH INHERIT FALSE, SET TRUE;

SELECT 'CREATE DATABASE causeloop OWNER causeloop_owner'
WHERE NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'causeloop')
\gexec

REVOKE ALL ON DATABASE causeloop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE causeloop TO causeloop_projector, causeloop_app;
