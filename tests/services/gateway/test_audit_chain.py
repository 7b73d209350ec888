"""The audit log in SQL: append-only, verifiable, and still so after its beginning was purged; what else retention purges."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from testkit.servers import Database

from services.gateway.identity.access._queries import free_token_name
from services.gateway.identity.seed import WORKSPACE_ID, seed_workspace

from .tenants import Tenant, onboard

Owner = AsyncConnection[Any]


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Owner]:
    """An operator at a prompt."""
    async with await AsyncConnection.connect(
        database.owner_url, autocommit=True, options="-c search_path=identity"
    ) as conn:
        yield conn


@pytest.fixture
async def chain(owner: Owner, database: Database) -> Tenant:
    """A workspace with ten entries, beside another one."""
    await onboard(database.owner_url)
    tenant = await onboard(database.owner_url)
    for number in range(2, 11):
        await owner.execute(
            "SELECT audit(%s, 'usr_x', 'member.role_changed', 'update', 'membership', %s, %s)",
            (tenant.workspace_id, f"mem_{number}", psycopg.types.json.Jsonb({"to": "admin", "n": number})),
        )
    return tenant


async def verdict(owner: Owner, tenant: Tenant) -> tuple[int, str | None, int | None]:
    """How many entries there are, and what is wrong with which."""
    cursor = await owner.execute(
        "SELECT n_entries, problem, problem_number FROM verify_audit(%s)", (tenant.workspace_id,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1], row[2]


async def tamper(owner: Owner, statement: str, *values: object) -> None:
    """What somebody with the owner's password can do: take the trigger away first."""
    await owner.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await owner.execute(statement, values)  # type: ignore[arg-type]  # the tests' own statements
    await owner.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")


async def test_a_chain_that_nobody_touched_is_whole(owner: Owner, chain: Tenant) -> None:
    """Every workspace's chain is its own."""
    assert await verdict(owner, chain) == (10, None, None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET ip = '10.0.0.1' WHERE entry_number = 3",
        "DELETE FROM audit_log WHERE entry_number = 3",
        "TRUNCATE audit_log",
    ],
)
async def test_the_owner_cannot_change_an_entry_by_accident(
    owner: Owner, chain: Tenant, statement: str
) -> None:
    """Grants keep the application out; a trigger keeps everybody else out."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        await owner.execute(statement)  # type: ignore[arg-type]  # the tests' own statements
    assert await verdict(owner, chain) == (10, None, None)


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET ip = ''", "DELETE FROM {}", "INSERT INTO {} SELECT * FROM {}"]
)
async def test_the_application_may_only_add(database: Database, chain: Tenant, statement: str) -> None:
    """It has no right to anything but the function that adds."""
    async with await AsyncConnection.connect(database.app_url, options="-c search_path=identity") as app:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            await app.execute(statement.replace("{}", "audit_log"))  # type: ignore[arg-type]  # the tests' own


@pytest.mark.parametrize(
    "column, value",
    [
        ("actor_id", "usr_y"),
        ("action", "member.removed"),
        ("target_id", "mem_other"),
        ("metadata", '{"to": "owner", "n": 4}'),
        ("ip", "10.0.0.1"),
        ("occurred_at", "2020-01-01T00:00:00Z"),
        ("category", "delete"),
    ],
)
async def test_a_changed_entry_is_found(owner: Owner, chain: Tenant, column: str, value: str) -> None:
    """Every column is in the hash."""
    await tamper(
        owner,
        f"UPDATE audit_log SET {column} = %s WHERE workspace_id = %s AND entry_number = 4",  # columns above
        value,
        chain.workspace_id,
    )
    assert await verdict(owner, chain) == (10, "changed", 4)


async def test_a_changed_entry_with_a_hash_that_fits_is_found(owner: Owner, chain: Tenant) -> None:
    """Whoever recomputes the hash of one entry breaks the link of the next."""
    await tamper(
        owner,
        "UPDATE audit_log SET action = 'a.b' WHERE workspace_id = %s AND entry_number = 4",
        chain.workspace_id,
    )
    await tamper(
        owner,
        "UPDATE audit_log AS l SET hash = audit_hash(l) WHERE workspace_id = %s AND entry_number = 4",
        chain.workspace_id,
    )
    assert await verdict(owner, chain) == (10, "reordered", 5)


@pytest.mark.parametrize("number", [1, 5, 10])
async def test_a_removed_entry_is_found(owner: Owner, chain: Tenant, number: int) -> None:
    """At the beginning, in the middle and at the end."""
    await tamper(
        owner,
        "DELETE FROM audit_log WHERE workspace_id = %s AND entry_number = %s",
        chain.workspace_id,
        number,
    )
    assert await verdict(owner, chain) == (9, "removed", number)


async def test_removing_everything_is_found(owner: Owner, chain: Tenant) -> None:
    """The head says how long the chain was."""
    await tamper(owner, "DELETE FROM audit_log WHERE workspace_id = %s", chain.workspace_id)
    assert await verdict(owner, chain) == (0, "removed", 1)


async def test_an_inserted_entry_is_found(owner: Owner, chain: Tenant) -> None:
    """Behind the head there can be nothing, and between two entries there is no number free."""
    await tamper(
        owner,
        "INSERT INTO audit_log SELECT workspace_id, 11, 'aud_forged', occurred_at, actor_id, action, category,"
        " target_type, target_id, metadata, ip, hash, hash FROM audit_log WHERE workspace_id = %s AND entry_number = 10",
        chain.workspace_id,
    )
    assert await verdict(owner, chain) == (11, "inserted", 11)


async def test_an_entry_inserted_between_others_is_found(owner: Owner, chain: Tenant) -> None:
    """Room has to be made for it, which changes numbers that are hashed."""
    await tamper(
        owner,
        "UPDATE audit_log SET entry_number = entry_number + 1000 WHERE workspace_id = %s AND entry_number > 6",
        chain.workspace_id,
    )
    await tamper(
        owner,
        "UPDATE audit_log SET entry_number = entry_number - 999 WHERE workspace_id = %s AND entry_number > 1000",
        chain.workspace_id,
    )
    await tamper(
        owner,
        "INSERT INTO audit_log SELECT workspace_id, 7, 'aud_forged', occurred_at, actor_id, action, category,"
        " target_type, target_id, metadata, ip, hash, hash FROM audit_log WHERE workspace_id = %s AND entry_number = 6",
        chain.workspace_id,
    )
    assert await verdict(owner, chain) == (11, "changed", 7)


async def test_entries_that_changed_places_are_found(owner: Owner, chain: Tenant) -> None:
    """The number is hashed with the rest."""
    for old, new in ((3, 999), (4, 3), (999, 4)):
        await tamper(
            owner,
            "UPDATE audit_log SET entry_number = %s WHERE workspace_id = %s AND entry_number = %s",
            new,
            chain.workspace_id,
            old,
        )
    assert await verdict(owner, chain) == (10, "changed", 3)


async def age(owner: Owner, tenant: Tenant, *, upto: int, days: int) -> None:
    """Make a chain's first entries old, and the chain whole again."""
    await tamper(
        owner,
        "UPDATE audit_log SET occurred_at = now() - make_interval(days => %s) + make_interval(secs => entry_number)"
        " WHERE workspace_id = %s AND entry_number <= %s",
        days,
        tenant.workspace_id,
        upto,
    )
    for number in range(1, 11):
        await tamper(
            owner,
            "UPDATE audit_log AS l SET previous_hash = COALESCE((SELECT b.hash FROM audit_log AS b WHERE"
            " b.workspace_id = l.workspace_id AND b.entry_number = l.entry_number - 1), '')"
            " WHERE workspace_id = %s AND entry_number = %s",
            tenant.workspace_id,
            number,
        )
        await tamper(
            owner,
            "UPDATE audit_log AS l SET hash = audit_hash(l) WHERE workspace_id = %s AND entry_number = %s",
            tenant.workspace_id,
            number,
        )
    await owner.execute(
        "UPDATE audit_heads SET hash = (SELECT hash FROM audit_log AS l WHERE l.workspace_id = %s"
        " AND entry_number = 10) WHERE workspace_id = %s",
        (tenant.workspace_id, tenant.workspace_id),
    )
    assert await verdict(owner, tenant) == (10, None, None)


async def purge(owner: Owner, tenant: Tenant) -> int:
    cursor = await owner.execute("SELECT purge_audit(%s)", (tenant.workspace_id,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_chain_is_verifiable_after_its_beginning_was_purged(owner: Owner, chain: Tenant) -> None:
    """Window and grace are over for four entries; the fifth hangs from the anchor, and goes on growing."""
    await age(owner, chain, upto=4, days=396)
    assert await purge(owner, chain) == 4
    assert await purge(owner, chain) == 0
    assert await verdict(owner, chain) == (6, None, None)
    await owner.execute("SELECT audit(%s, NULL, 'x.y', 'other', 'a', 'b')", (chain.workspace_id,))
    assert await verdict(owner, chain) == (7, None, None)
    await tamper(
        owner, "DELETE FROM audit_log WHERE workspace_id = %s AND entry_number = 5", chain.workspace_id
    )
    assert await verdict(owner, chain) == (6, "removed", 5)


async def test_everything_may_be_old(owner: Owner, chain: Tenant) -> None:
    """Then only the anchor is left, and the next entry hangs from it."""
    await age(owner, chain, upto=10, days=400)
    assert await purge(owner, chain) == 10
    assert await verdict(owner, chain) == (0, None, None)
    await owner.execute("SELECT audit(%s, NULL, 'x.y', 'other', 'a', 'b')", (chain.workspace_id,))
    assert await verdict(owner, chain) == (1, None, None)


async def test_what_is_in_its_grace_is_hidden_and_kept(
    owner: Owner, chain: Tenant, database: Database
) -> None:
    """A year, and thirty days in which nobody sees it and an operator could still bring it back."""
    await age(owner, chain, upto=4, days=380)
    assert await purge(owner, chain) == 0
    async with await AsyncConnection.connect(database.app_url, options="-c search_path=identity") as app:
        await app.execute("SELECT set_config('app.current_workspace', %s, true)", (chain.workspace_id,))
        cursor = await app.execute("SELECT min(seq), count(*) FROM audit_entries")
        assert await cursor.fetchone() == (5, 6)


async def test_activity_that_is_over_is_hidden_after_its_window_and_goes_after_the_grace(
    owner: Owner, chain: Tenant, database: Database
) -> None:
    """Sessions, invitations, tokens, exports; what is in force stays, and the plan's window holds over a longer one."""

    async def add(ended_days_ago: int | None) -> None:
        ends = (
            "now() + interval '1 day'"
            if ended_days_ago is None
            else f"now() - interval '{ended_days_ago} days'"
        )
        await owner.execute(
            "INSERT INTO sessions (workspace_id, session_id, user_id, method, created_at, last_seen_at, expires_at)"  # type: ignore[arg-type]  # the tests' own
            f" VALUES (%s, new_id('ses_'), %s, 'mock', now(), now(), {ends})",
            (chain.workspace_id, chain.owner_id),
        )
        await owner.execute(
            "INSERT INTO api_tokens (workspace_id, token_id, user_id, name, token_hash, hint, scopes, created_at, expires_at)"  # type: ignore[arg-type]  # likewise
            f" VALUES (%s, new_id('tok_'), %s, new_id('n'), new_id('h'), '', '{{}}', now(), {ends})",
            (chain.workspace_id, chain.owner_id),
        )
        settled = ("pending", "NULL") if ended_days_ago is None else ("revoked", ends)
        await owner.execute(
            "INSERT INTO invitations (workspace_id, invitation_id, user_id, email, role, status, token_hash, delivery, created_at, expires_at, settled_at)"  # type: ignore[arg-type]  # likewise
            f" VALUES (%s, new_id('inv_'), %s, 'a@b.example', 'viewer', '{settled[0]}', new_id('h'), 'link', now(), {ends}, {settled[1]})",
            (chain.workspace_id, chain.owner_id),
        )
        await owner.execute(
            "INSERT INTO export_jobs (workspace_id, export_id, kind, status, created_at, finished_at)"  # type: ignore[arg-type]  # likewise
            f" VALUES (%s, new_id('exp_'), 'audit', '{'succeeded' if ended_days_ago is None else 'expired'}', now(), {ends})",
            (chain.workspace_id,),
        )

    async def counted(conn: Owner, *relations: str) -> list[int]:
        counts = []
        for relation in relations:
            cursor = await conn.execute(f"SELECT count(*) FROM {relation}")  # type: ignore[arg-type]  # likewise
            row = await cursor.fetchone()
            assert row is not None
            counts.append(int(row[0]))
        return counts

    async def left() -> list[int]:
        return await counted(owner, "sessions", "api_tokens", "invitations", "export_jobs")

    @asynccontextmanager
    async def app() -> AsyncIterator[Owner]:
        async with await AsyncConnection.connect(
            database.app_url, options="-c search_path=identity", cursor_factory=AsyncRawCursor
        ) as conn:
            await conn.execute("SELECT set_config('app.current_workspace', $1, true)", (chain.workspace_id,))
            yield conn

    async def shown() -> list[int]:
        async with app() as conn:
            return await counted(conn, "api_tokens_shown", "invitations_shown", "exports")

    for days in (None, 1, 90, 119, 121, 396):
        await add(days)
    assert await shown() == [5, 5, 5]
    await owner.execute("SELECT purge_activity(%s)", (chain.workspace_id,))
    assert await left() == [5, 5, 5, 5]
    await owner.execute(
        "UPDATE organizations SET plan = 'free' WHERE organization_id = %s", (chain.organization_id,)
    )
    await owner.execute("SELECT purge_activity(%s)", (chain.workspace_id,))
    assert (await left(), await shown()) == ([4, 4, 4, 4], [2, 2, 2])
    # Only the names of those that nobody is shown are free.
    names = await (await owner.execute("SELECT name FROM api_tokens")).fetchall()
    async with app() as conn:
        for (name,) in names:
            ids = {"workspace_id": chain.workspace_id, "owner_id": chain.owner_id}
            await free_token_name(conn, **ids, name=name)
    assert await counted(owner, "api_tokens WHERE revoked_at IS NOT NULL") == [2]
    await owner.execute(
        "UPDATE workspace_settings SET activity_days = 30, grace_days = 0 WHERE workspace_id = %s",
        (chain.workspace_id,),
    )
    await owner.execute("SELECT purge_activity(%s)", (chain.workspace_id,))
    assert await left() == [2, 2, 2, 2]


async def test_an_erased_demo_is_not_seeded_again(owner: Owner, database: Database) -> None:
    """The log would not hear of it."""
    await seed_workspace(database.owner_url)
    await owner.execute("SELECT request_erasure(%s)", (WORKSPACE_ID,))
    await owner.execute("SELECT erase_workspace_rows(%s)", (WORKSPACE_ID,))
    await seed_workspace(database.owner_url)
    cursor = await owner.execute("SELECT (SELECT count(*) FROM workspaces), (SELECT count(*) FROM users)")
    assert await cursor.fetchone() == (0, 0)
