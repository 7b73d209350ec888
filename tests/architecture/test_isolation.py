"""No table, view, function or role of the database lets one tenant see another: the whole catalogue is walked."""

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from eventlog.readmodel import apply_schema
from psycopg import AsyncConnection
from runtime.monitor import SERVICES
from testkit.servers import Database

from services.gateway.identity.migrate import MIGRATIONS as IDENTITY
from services.ingest.migrate import MIGRATIONS as SOURCES
from tests.architecture.tree import ROOT

SCHEMAS = ["identity", "sources", *SERVICES]
ROLES = ["causeloop_owner", "causeloop_projector", "causeloop_app"]
NOBODYS = {
    "identity.schema_migrations",
    "sources.schema_migrations",
    "sources.paces",
    "identity.webhook_positions",
    *(f"{service}.checkpoint" for service in SERVICES),
}
"""Tables that hold nothing of a tenant or of a person: which migrations ran, how far a projector has read, how fast an
account of a vendor is asked, by a keyed hash."""
FOR_EVERYBODY = {"identity.plans"}
"""Tables whose rows are the same for all."""

ROLE_FAULTS = """
SELECT format('%%s can do what row-level security does not stop', rolname) FROM pg_roles
WHERE rolname = ANY (%(roles)s) AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
UNION ALL
SELECT format('%%s may act as %%s', member.rolname, other.rolname)
FROM pg_roles AS member CROSS JOIN pg_roles AS other
WHERE member.rolname IN ('causeloop_app', 'causeloop_projector') AND member.oid <> other.oid
    AND pg_has_role(member.oid, other.oid, 'MEMBER')
UNION ALL
SELECT format('%%s may make things in %%s', rolname, nspname) FROM pg_roles CROSS JOIN pg_namespace
WHERE rolname IN ('causeloop_app', 'causeloop_projector') AND (nspname = ANY (%(schemas)s) OR nspname = 'public')
    AND has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'CREATE')
"""
TABLE_FAULTS = """
WITH tables AS (
    SELECT c.*, format('%%s.%%s', n.nspname, c.relname) AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%(schemas)s)
)
SELECT format('%%s does not force row-level security', name) FROM tables
WHERE NOT (relrowsecurity AND relforcerowsecurity) AND name <> ALL (%(nobodys)s)
UNION ALL
SELECT format('%%s has a tenant''s or a person''s column %%s', name, attname)
FROM tables JOIN pg_attribute ON attrelid = tables.oid
WHERE name = ANY (%(nobodys)s) AND attname IN ('workspace_id', 'organization_id', 'user_id')
UNION ALL
SELECT format('%%s belongs to %%s', name, pg_get_userbyid(relowner)) FROM tables
WHERE pg_get_userbyid(relowner) <> 'causeloop_owner'
UNION ALL
SELECT format('%%s has no policy for the application', name) FROM tables
WHERE name <> ALL (%(nobodys)s) AND NOT EXISTS (SELECT FROM pg_policy
    WHERE polrelid = tables.oid AND 'causeloop_app'::regrole = ANY (polroles))
UNION ALL
SELECT format('%%s is open to everybody by its policy %%s', name, polname) FROM tables JOIN pg_policy ON polrelid = tables.oid
WHERE 0 = ANY (polroles)
UNION ALL
-- What decides has to be what the transaction names, in what is read and in what is written.
SELECT format('%%s opens to the application whatever the transaction names, by its policy %%s', name, polname)
FROM tables JOIN pg_policy ON polrelid = tables.oid
WHERE 'causeloop_app'::regrole = ANY (polroles) AND name <> ALL (%(everybodys)s) AND EXISTS (
    SELECT FROM unnest(ARRAY[pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)]) AS expression
    WHERE expression !~ 'current_setting|current_workspace|current_person')
UNION ALL
SELECT format('%%s may be %%s by %%s', name, privilege_type, COALESCE(pg_get_userbyid(NULLIF(grantee, 0)), 'everybody'))
FROM tables CROSS JOIN aclexplode(COALESCE(relacl, acldefault('r', relowner)))
WHERE grantee <> relowner AND (grantee = 0
    OR privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    OR grantee = 'causeloop_app'::regrole AND privilege_type <> 'SELECT' AND name !~ '^(identity|sources)[.]'
    OR grantee = 'causeloop_projector'::regrole AND name ~ '^(identity|sources)[.]')
"""
OTHER_FAULTS = """
SELECT format('the view %%s.%%s has its owner''s rights', nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = ANY (%(schemas)s) AND (relkind = 'm' OR relkind = 'v'
    AND NOT COALESCE('security_invoker=true' = ANY (reloptions), false))
UNION ALL
SELECT format('%%s may be called by everybody', p.oid::regprocedure)
FROM pg_proc AS p JOIN pg_namespace ON pg_namespace.oid = pronamespace
    CROSS JOIN aclexplode(COALESCE(proacl, acldefault('f', proowner)))
WHERE nspname = ANY (%(schemas)s) AND grantee = 0
UNION ALL
SELECT format('%%s has its owner''s rights and looks for names where its caller says', p.oid::regprocedure)
FROM pg_proc AS p JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = ANY (%(schemas)s) AND prosecdef
    AND NOT COALESCE(format('search_path=%%s, pg_temp', nspname) = ANY (proconfig), false)
"""


async def faults(conn: AsyncConnection) -> list[str]:
    """Everything by which a tenant could see another's rows, in words."""
    values = {
        "roles": ROLES,
        "schemas": SCHEMAS,
        "nobodys": sorted(NOBODYS),
        "everybodys": sorted(FOR_EVERYBODY),
    }
    found: list[str] = []
    for query in (ROLE_FAULTS, TABLE_FAULTS, OTHER_FAULTS):
        found += [row[0] for row in await (await conn.execute(query, values)).fetchall()]
    return sorted(found)


@pytest_asyncio.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnection]:
    """The owner's connection to a database with everything that the services make."""
    await IDENTITY.apply(database.owner_url)
    await SOURCES.apply(database.owner_url)
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        for service in SERVICES:
            schema = ROOT / "services" / service / "schema.sql"
            await apply_schema(conn, service, schema.read_text(encoding="utf-8"))
        yield conn


async def test_every_table_view_function_and_role_keeps_tenants_apart(owner: AsyncConnection) -> None:
    """In the seven schemas there is nothing else than what is forced to be somebody's."""
    assert await faults(owner) == []
    cursor = await owner.execute(
        "SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'"
    )
    assert {name for (name,) in await cursor.fetchall()} == set(SCHEMAS)


MISTAKES = [
    ("CREATE TABLE gateway.forgotten (workspace_id text)", "gateway.forgotten does not force"),
    ("CREATE TABLE identity.forgotten (user_id text)", "identity.forgotten has no policy"),
    ("ALTER TABLE identity.users NO FORCE ROW LEVEL SECURITY", "identity.users does not force"),
    ("ALTER TABLE pattern.members DISABLE ROW LEVEL SECURITY", "pattern.members does not force"),
    ("CREATE POLICY lax ON gateway.issues USING (true)", "gateway.issues is open to everybody"),
    (
        "CREATE POLICY lax ON identity.api_tokens TO causeloop_app USING (user_id IS NOT NULL)",
        "identity.api_tokens opens to the application",
    ),
    (
        "CREATE POLICY lax ON identity.invitations FOR INSERT TO causeloop_app WITH CHECK (true)",
        "identity.invitations opens to the application",
    ),
    ("ALTER TABLE gateway.checkpoint ADD workspace_id text", "gateway.checkpoint has a tenant's"),
    ("CREATE VIEW identity.everybody AS SELECT * FROM identity.users", "view identity.everybody"),
    (
        "CREATE FUNCTION identity.leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT count(*) FROM identity.users'",
        "identity.leak() may be called by everybody",
    ),
    (
        "ALTER FUNCTION identity.plan_limit SECURITY DEFINER RESET ALL",
        "plan_limit(text,text) has its owner's",
    ),
    ("GRANT TRUNCATE ON gateway.issues TO causeloop_app", "gateway.issues may be TRUNCATE by causeloop_app"),
    ("GRANT DELETE ON gateway.issues TO causeloop_app", "gateway.issues may be DELETE by causeloop_app"),
    ("GRANT SELECT ON identity.sessions TO PUBLIC", "identity.sessions may be SELECT by everybody"),
    ("GRANT CREATE ON SCHEMA identity TO causeloop_app", "causeloop_app may make things in identity"),
]
"""Each of them has been made by somebody somewhere."""


async def test_a_mistake_in_the_catalogue_is_found(owner: AsyncConnection) -> None:
    """The walk above would name it."""
    for mistake, fault in MISTAKES:
        async with owner.transaction(force_rollback=True):
            await owner.execute(mistake)
            assert any(fault in found for found in await faults(owner)), mistake
    assert await faults(owner) == []


@pytest.mark.parametrize("url", ["app_url", "projector_url"])
async def test_nobody_but_the_operator_switches_row_level_security_off(
    owner: AsyncConnection, database: Database, url: str
) -> None:
    """Not for the session, not for a table, not by becoming somebody else."""
    async with await AsyncConnection.connect(getattr(database, url), autocommit=True) as conn:
        for attempt in (
            "SET ROLE causeloop_owner",
            "ALTER TABLE gateway.issues DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE identity.users DISABLE ROW LEVEL SECURITY",
            "TRUNCATE gateway.issues",
            "CREATE FUNCTION identity.mine() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(attempt)
        await conn.execute("SET row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute("SELECT count(*) FROM gateway.issues")
