"""Clients in SQL: made whole or not at all, within their plan, suspended and let in again."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from testkit.servers import Database

from services.gateway.errors import PlanFeatureError
from services.gateway.identity.tenancy.plans import Plan
from tests.architecture.tree import ROOT

Owner = AsyncConnection[Any]


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Owner]:
    """An operator at a prompt."""
    async with await connect(database.owner_url) as conn:
        yield conn


async def connect(url: str) -> Owner:
    return await AsyncConnection.connect(url, autocommit=True, options="-c search_path=identity")


async def rows(conn: Owner, statement: Any, *values: object) -> list[tuple[Any, ...]]:
    return await (await conn.execute(statement, values)).fetchall()


async def test_a_client_is_made_whole(owner: Owner) -> None:
    """The row result names what was made; the defaults are the documented ones."""
    [made] = await rows(owner, "SELECT * FROM onboard_client('Acme Inc', 'acme', 'ana@acme.example')")
    organization, workspace, person, membership = made
    assert [value[:4] for value in made] == ["org_", "ws_0", "usr_", "mem_"]
    assert await rows(
        owner, "SELECT organization_id, slug, name, plan, seats_total, status FROM organizations"
    ) == [(organization, "acme", "Acme Inc", "free", 10, "active")]
    assert await rows(owner, "SELECT workspace_id, slug, name, timezone, status FROM workspaces") == [
        (workspace, "acme", "Acme Inc", "UTC", "active")
    ]
    assert await rows(owner, "SELECT user_id, email, name FROM users") == [
        (person, "ana@acme.example", "ana")
    ]
    assert await rows(owner, "SELECT membership_id, user_id, role, status FROM memberships") == [
        (membership, person, "owner", "active")
    ]
    assert await rows(owner, "SELECT current_step, completed_steps, is_complete FROM onboarding_states") == [
        ("connect_source", ["welcome"], False)
    ]
    assert await rows(owner, "SELECT action, target_id, entry_number FROM audit_log") == [
        ("client.onboarded", organization, 1)
    ]
    assert await rows(owner, "SELECT event_type, workspace_id FROM outbox") == [
        ("WorkspaceCreated", workspace)
    ]


TABLES = (
    "organizations", "workspaces", "workspace_settings", "users", "memberships", "onboarding_states", "outbox",
    "audit_log", "audit_heads",
)  # fmt: skip


async def counts(owner: Owner) -> dict[str, int]:
    return {table: (await rows(owner, f"SELECT count(*) FROM {table}"))[0][0] for table in TABLES}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("'Acme', 'acme', 'new@acme.example'", psycopg.errors.UniqueViolation),
        ("'Bolt', 'Bolt', 'new@bolt.example'", psycopg.errors.CheckViolation),
        ("'Bolt', '-bolt', 'new@bolt.example'", psycopg.errors.CheckViolation),
        ("'B', 'bolt', 'new@bolt.example'", psycopg.errors.CheckViolation),
        ("'Bolt', 'bolt', 'nobody'", psycopg.errors.CheckViolation),
        ("'Bolt', 'bolt', 'new@bolt.example', p_plan => 'gold'", psycopg.errors.CheckViolation),
        ("'Bolt', 'bolt', 'new@bolt.example', p_seats => 11", psycopg.errors.CheckViolation),
        ("'Bolt', 'bolt', 'new@bolt.example', p_seats => 0", psycopg.errors.CheckViolation),
        ("'Bolt', 'bolt', 'new@bolt.example', p_timezone => 'Mars/Base'", psycopg.errors.CheckViolation),
        ("NULL, 'bolt', 'new@bolt.example'", psycopg.errors.NotNullViolation),
    ],
)
async def test_a_client_that_cannot_be_made_leaves_nothing(
    owner: Owner, arguments: str, error: type[Exception]
) -> None:
    """A slug that is taken, a wrong shape, more than the plan has: an error, and no row more than before."""
    await rows(owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example')")
    before = await counts(owner)
    with pytest.raises(error):
        await rows(owner, f"SELECT * FROM onboard_client({arguments})")
    assert await counts(owner) == before


async def test_an_address_that_is_known_is_the_same_person(owner: Owner) -> None:
    """In two workspaces, with one name: that of the first time."""
    [first] = await rows(owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@x.example', 'Ana')")
    [second] = await rows(owner, "SELECT * FROM onboard_client('Bolt', 'bolt', 'ana@x.example', 'Anna')")
    assert first[2] == second[2]
    assert await rows(owner, "SELECT name FROM users") == [("Ana",)]


async def test_a_client_ends_and_comes_back(owner: Owner) -> None:
    """Offboarding keeps what is there; each way is told once, and the wrong way round is an error."""
    [made] = await rows(owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example')")
    assert await rows(owner, "SELECT * FROM offboard_client('acme', 'unpaid')") == [(made[0], 1)]
    states = "SELECT o.status, w.status FROM organizations AS o JOIN workspaces AS w USING (organization_id)"
    assert await rows(owner, states) == [("cancelled", "suspended")]
    with pytest.raises(psycopg.errors.NoDataFound):
        await rows(owner, "SELECT * FROM offboard_client('acme')")
    assert await rows(owner, "SELECT * FROM reinstate_client('acme')") == [(made[0], 1)]
    assert await rows(owner, states) == [("active", "active")]
    with pytest.raises(psycopg.errors.NoDataFound):
        await rows(owner, "SELECT * FROM reinstate_client('nobody')")
    assert await rows(owner, "SELECT event_type FROM outbox ORDER BY outbox_id") == [
        ("WorkspaceCreated",),
        ("WorkspaceSuspended",),
        ("WorkspaceReinstated",),
    ]
    assert await rows(owner, "SELECT action, metadata FROM audit_log ORDER BY entry_number") == [
        ("client.onboarded", {"plan": "free", "seats": 10}),
        ("client.offboarded", {"reason": "unpaid"}),
        ("client.reinstated", {}),
    ]


async def test_the_last_seats_are_taken_exactly_once(owner: Owner, database: Database) -> None:
    """Twenty at the same time for three seats: three get one, seventeen learn how many there are."""
    [made] = await rows(
        owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example', p_seats => 4)"
    )

    async def join(number: int) -> bool:
        async with await connect(database.owner_url) as conn:
            try:
                await conn.execute(
                    "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
                    " VALUES (%s, new_id('mem_'), ensure_person(%s), 'analyst')",
                    (made[1], f"p{number}@acme.example"),
                )
            except psycopg.Error as error:
                assert (error.sqlstate, error.diag.message_detail) == ("CL001", "4")
                return False
            return True

    outcomes = await asyncio.gather(*map(join, range(20)))
    assert outcomes.count(True) == 3
    assert await rows(owner, "SELECT count(*) FROM memberships WHERE status = 'active'") == [(4,)]


async def test_invited_people_cannot_be_activated_beyond_the_seats(owner: Owner, database: Database) -> None:
    """The same for twenty invitations that are accepted at once; a seat that is freed can be taken."""
    [made] = await rows(
        owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example', p_seats => 4)"
    )
    for number in range(20):
        await owner.execute(
            "INSERT INTO memberships (workspace_id, membership_id, user_id, role, status)"
            " VALUES (%s, new_id('mem_'), ensure_person(%s), 'analyst', 'invited')",
            (made[1], f"p{number}@acme.example"),
        )
    invited = await rows(owner, "SELECT membership_id FROM memberships WHERE status = 'invited'")

    async def accept(membership_id: str) -> bool:
        async with await connect(database.owner_url) as conn:
            try:
                await conn.execute(
                    "UPDATE memberships SET status = 'active' WHERE membership_id = %s", (membership_id,)
                )
            except psycopg.Error as error:
                assert error.sqlstate == "CL001"
                return False
            return True

    outcomes = await asyncio.gather(*(accept(membership_id) for (membership_id,) in invited))
    assert outcomes.count(True) == 3
    await owner.execute(
        "UPDATE memberships SET status = 'suspended' WHERE membership_id = (SELECT membership_id FROM memberships"
        " WHERE role = 'analyst' AND status = 'active' LIMIT 1)"
    )
    refused = next(
        membership_id for (membership_id,), done in zip(invited, outcomes, strict=True) if not done
    )
    assert await accept(refused)


async def test_a_plan_is_a_row_that_counts_at_once(owner: Owner) -> None:
    """The operator changes it; seats are what was agreed and never more than the plan has."""
    [made] = await rows(
        owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example', p_plan => 'growth')"
    )
    workspace = made[1]
    limits = [
        (await rows(owner, "SELECT plan_limit(%s, %s)", workspace, name))[0][0]
        for name in ("seats", "connectors", "requests_per_minute", "events_per_month", "retention_days")
    ]
    assert limits == [100, 40, 3000, 5_000_000, 730]
    assert await rows(owner, "SELECT plan_limit(%s, 'features')", workspace) == [(None,)]
    await owner.execute("UPDATE plans SET seats = 1, connectors = NULL WHERE plan = 'growth'")
    assert await rows(owner, "SELECT plan_limit(%s, 'connectors')", workspace) == [(None,)]
    with pytest.raises(psycopg.Error, match="all 1 seats"):
        await owner.execute(
            "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
            " VALUES (%s, new_id('mem_'), ensure_person('p@acme.example'), 'viewer')",
            (workspace,),
        )


async def test_the_application_cannot_change_what_is_the_operators(owner: Owner, database: Database) -> None:
    """Status, plan, seats, plans themselves; and it sees a plan's limits of its own workspace only."""
    [first] = await rows(owner, "SELECT * FROM onboard_client('Acme', 'acme', 'ana@acme.example')")
    [second] = await rows(owner, "SELECT * FROM onboard_client('Bolt', 'bolt', 'bo@bolt.example')")
    async with await connect(database.app_url) as app:
        await app.execute("SELECT set_config('app.current_workspace', %s, false)", (first[1],))
        for statement in (
            "UPDATE organizations SET plan = 'enterprise'",
            "UPDATE organizations SET seats_total = NULL",
            "UPDATE organizations SET status = 'active'",
            "UPDATE workspaces SET status = 'active'",
            "UPDATE workspaces SET organization_id = organization_id",
            "UPDATE plans SET seats = NULL",
            "SELECT offboard_client('bolt')",
            "SELECT reinstate_client('bolt')",
            "SELECT emit('ws_other', 'WorkspaceSuspended', '{}')",
            "SELECT audit('ws_other', NULL, 'x', 'other', 'x', 'x')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await app.execute(statement)
        assert await rows(app, "SELECT plan_limit(%s, 'seats')", first[1]) == [(10,)]
        assert await rows(app, "SELECT plan_limit(%s, 'seats')", second[1]) == [(None,)]
        assert await rows(app, "SELECT seats_taken()") == [(1,)]
        assert await rows(app, "SELECT organization_id FROM organizations") == [(first[0],)]


async def test_the_runbook_works_as_it_is_written(owner: Owner) -> None:
    """Every statement in it, in order, on a database where nothing has happened yet."""
    text = (ROOT / "docs/runbooks/onboard-a-client.md").read_text()
    statements = [
        statement.strip()
        for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
        for statement in block.split(";")
        if statement.strip()
    ]
    assert len(statements) >= 12
    found: dict[str, list[tuple[Any, ...]]] = {}
    for statement in statements:
        cursor = await owner.execute(statement)
        found[statement] = await cursor.fetchall() if cursor.description else []
    shown = [rows for statement, rows in found.items() if statement.startswith("SELECT")]
    assert [len(rows) for rows in shown] == [1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert shown[1] == [("acme", "active", "free", 10, 1)]
    assert await rows(owner, "SELECT o.status, o.plan, u.email FROM organizations AS o, users AS u") == [
        ("cancelled", "growth", "anna@acme.example")
    ]


async def test_every_table_of_identity_is_isolated(owner: Owner) -> None:
    """Row-level security is enabled and forced, and nobody who works with the rows owns them or gets around it."""
    loose = await rows(
        owner,
        "SELECT relname FROM pg_class WHERE relnamespace = 'identity'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT (relrowsecurity AND relforcerowsecurity) AND relname <> 'schema_migrations'",
    )
    assert loose == []
    assert (
        await rows(
            owner,
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'causeloop%%' AND (rolsuper OR rolbypassrls)",
        )
        == []
    )


def test_a_plan_names_what_it_does_not_have() -> None:
    """A feature is forbidden, and the refusal names it and the plan."""
    plan = Plan(
        name="free",
        seats=10,
        connectors=3,
        requests_per_minute=1000,
        events_per_month=50_000,
        retention_days=90,
        features=frozenset({"sso"}),
    )
    plan.require("sso")
    with pytest.raises(PlanFeatureError) as feature:
        plan.require("scim")
    assert (feature.value.status, feature.value.code) == (403, "plan_limit")
    assert feature.value.details == {"plan": "free", "feature": "scim"}
