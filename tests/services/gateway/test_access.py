"""Every request is judged by the rows as they are now, in every gateway."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from runtime import database as databases
from runtime.database import Pool
from runtime.errors import ForbiddenError, UnauthorizedError
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.identity.access.authority import Authority
from services.gateway.identity.access.decisions import Decisions
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.tokens import (
    FOREVER,
    Claimed,
    Principal,
    expiry,
    hash_token,
    issue_access_token,
    new_secret,
    read_access_token,
)
from services.gateway.settings import GatewaySettings
from tests.services.gateway.tenants import Tenant, execute, join, onboard

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "a-secret-for-tests-of-32-characters"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class World:
    """A database with one client, and gateways that are like two processes."""

    def __init__(self, database: Database, tenant: Tenant, people: Pool) -> None:
        self.database = database
        self.tenant = tenant
        self.people = people
        self.clock = Clock()
        urls = dict.fromkeys(("nats_url", "database_projector_url", "database_owner_url"), "")
        self.settings = GatewaySettings(
            port=4000, jwt_secret=SECRET, use_mock=True, database_url=database.app_url, **urls
        )
        self.sessions = Sessions(self.settings, people, verifier=None, clock=self.clock, rng=random.Random(1))

    @asynccontextmanager
    async def authority(self) -> AsyncIterator[Authority]:
        """One that hears of changes, as a gateway's process has it."""
        made = Authority(self.settings, self.people, clock=self.clock)
        listening = asyncio.create_task(made.listen())
        try:
            await eventually(lambda: made.is_informed)
            yield made
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def sql(self, statement: str, *values: object) -> list[Any]:
        return await execute(self.database.owner_url, statement, *values)

    async def owner_token(self) -> str:
        return (await self.sessions.exchange(self.tenant.owner_email, workspace_id=None)).access_token

    async def api_token(self, scopes: list[str], *, user_id: str | None, **fields: Any) -> str:
        """A personal token, or with no person a new machine's."""
        workspace_id = self.tenant.workspace_id
        machine_id = None
        if user_id is None:
            [(machine_id,)] = await self.sql(
                "INSERT INTO service_accounts (workspace_id, service_account_id, name, created_at, updated_at)"
                " VALUES (%s, new_id('svc_'), 'robot', %s, now()) RETURNING service_account_id",
                workspace_id,
                NOW,
            )
        secret = new_secret("clp_svc_" if user_id is None else "clp_pat_")
        await self.sql(
            "INSERT INTO api_tokens (workspace_id, token_id, user_id, service_account_id, name, token_hash, hint,"
            " scopes, created_at, expires_at) VALUES (%s, new_id('tok_'), %s, %s, 'mine', %s, 'abcd', %s, %s, %s)",
            workspace_id,
            user_id,
            machine_id,
            hash_token(secret),
            scopes,
            NOW,
            fields.get("expires_at"),
        )
        return secret


async def refusal(authority: Authority, token: str) -> type[Exception] | None:
    """How the token is refused, if it is."""
    try:
        await authority.principal(token)
    except (UnauthorizedError, ForbiddenError) as error:
        return type(error)
    return None


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    pool = databases.pool(database.app_url, schema="identity", max_size=4)
    await pool.open()
    yield World(database, await onboard(database.owner_url), pool)
    await pool.close()


SUSPENSIONS = {
    "membership": ("UPDATE memberships SET status = %s WHERE user_id = %s", "owner_id"),
    "person": ("UPDATE users SET status = %s WHERE user_id = %s", "owner_id"),
    "workspace": ("UPDATE workspaces SET status = %s WHERE workspace_id = %s", "workspace_id"),
    "organization": (
        "UPDATE organizations SET status = %s WHERE organization_id = %s",
        "organization_id",
    ),
}


@pytest.mark.parametrize("kind", SUSPENSIONS)
async def test_a_suspension_in_sql_is_seen_by_every_gateway_at_its_next_request(
    world: World, kind: str
) -> None:
    """And the reinstatement as well; sessions and personal tokens alike. No kept decision ends: the clock stands still."""
    await join(world.database.owner_url, world.tenant, "owner")
    statement, subject = SUSPENSIONS[kind]
    session = await world.owner_token()
    personal = await world.api_token(["issues:read"], user_id=world.tenant.owner_id)
    async with world.authority() as one, world.authority() as two:
        assert [await refusal(at, token) for at in (one, two) for token in (session, personal)] == [None] * 4

        async def everybody(expected: type[Exception] | None) -> bool:
            found = [await refusal(at, token) for at in (one, two) for token in (session, personal)]
            return found == [expected] * 4

        for _ in range(3):
            for status, expected in (("suspended", ForbiddenError), ("active", None)):
                await world.sql(statement, status, getattr(world.tenant, subject))
                await eventually(lambda expected=expected: everybody(expected))


async def test_a_decision_is_kept_without_asking_the_database_again(world: World) -> None:
    """Not even a database that is away is noticed within the time that a decision is good for."""
    token = await world.owner_token()
    async with world.authority() as authority:
        first = await authority.principal(token)
        await world.people.close()
        assert await authority.principal(token) is first


async def test_nothing_is_kept_while_changes_cannot_be_heard(world: World) -> None:
    """The connection for changes is cut: every request looks at the rows until it is back."""
    token = await world.owner_token()
    await join(world.database.owner_url, world.tenant, "owner")
    async with world.authority() as authority:
        first = await authority.principal(token)
        await execute(
            world.database.admin_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'causeloop-identity-changes'",
        )
        await eventually(lambda: not authority.is_informed)
        assert await authority.principal(token) is not first
        await world.sql("UPDATE memberships SET role = 'viewer' WHERE user_id = %s", world.tenant.owner_id)
        assert (await authority.principal(token)).role == "viewer"
        await eventually(lambda: authority.is_informed)


async def test_connections_of_before_a_restart_refuse_nobody(world: World) -> None:
    """The pool's connections are cut; the next request takes a working one."""
    token = await world.owner_token()
    authority = Authority(world.settings, world.people, clock=world.clock)
    await execute(
        world.database.admin_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'causeloop-identity' AND pid <> pg_backend_pid()",
    )
    assert (await authority.principal(token)).user_id == world.tenant.owner_id


async def test_what_is_signed_of_a_session_or_a_token_is_judged_by_the_rows(world: World) -> None:
    """As the token itself is; and what is remembered of it opens nothing for who writes the same into a token."""
    secret = await world.api_token(["issues:read"], user_id=None)
    async with world.authority() as authority:
        for token in (await world.owner_token(), secret):
            shown = await authority.principal(token)
            claimed = Claimed(
                workspace_id=shown.workspace_id,
                user_id=shown.user_id,
                session_id=shown.session_id,
                token_id=shown.token_id,
                expires_at=None if shown.expires_at == FOREVER else shown.expires_at,
            )
            assert await authority.claimed(claimed) == shown
            text = msgspec.json.encode(claimed).decode()
            for forged in (text, f"claimed {text}"):
                with pytest.raises(UnauthorizedError):
                    await authority.principal(forged)
            await world.sql("UPDATE sessions SET revoked_at = now()")
            await world.sql("UPDATE api_tokens SET revoked_at = now()")
            authority.forget(shown.session_id, shown.token_id)
            with pytest.raises(UnauthorizedError):
                await authority.claimed(claimed)
            await world.sql("UPDATE api_tokens SET revoked_at = NULL")
            authority.forget(shown.token_id)


async def test_whoever_wants_to_know_is_told_of_changes_at_once(world: World) -> None:
    """So that a stream ends with the right to it, and not at its next heartbeat."""
    async with world.authority() as authority:
        heard = asyncio.Event()
        authority.on_change(heard.set)
        await world.sql(
            "UPDATE workspaces SET status = 'suspended' WHERE workspace_id = %s", world.tenant.workspace_id
        )
        async with asyncio.timeout(30):
            await heard.wait()


async def test_a_changed_role_counts_at_the_next_request(world: World) -> None:
    """Whatever the token says, also upwards."""
    user_id, email = await join(world.database.owner_url, world.tenant, "viewer")
    token = (await world.sessions.exchange(email, workspace_id=None)).access_token
    async with world.authority() as authority:
        assert (await authority.principal(token)).scopes == ROLES["viewer"].scopes
        await world.sql("UPDATE memberships SET role = 'admin' WHERE user_id = %s", user_id)

        async def is_admin() -> bool:
            return (await authority.principal(token)).scopes == ROLES["admin"].scopes

        await eventually(is_admin)


async def test_whoever_is_removed_is_out_with_all_sessions_and_tokens(world: World) -> None:
    """And stays out when they become a member again."""
    user_id, email = await join(world.database.owner_url, world.tenant, "analyst")
    session = (await world.sessions.exchange(email, workspace_id=None)).access_token
    personal = await world.api_token(["issues:read"], user_id=user_id)
    async with world.authority() as authority:
        assert [await refusal(authority, token) for token in (session, personal)] == [None, None]
        await world.sql("DELETE FROM memberships WHERE user_id = %s", user_id)

        async def is_out() -> bool:
            found = [await refusal(authority, token) for token in (session, personal)]
            return found == [UnauthorizedError, UnauthorizedError]

        await eventually(is_out)
        await world.sql(
            "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
            " VALUES (%s, new_id('mem_'), %s, 'analyst')",
            world.tenant.workspace_id,
            user_id,
        )
        assert await is_out()


async def test_a_personal_token_has_what_its_owner_still_has(world: World) -> None:
    """Its scopes and the owner's, at each use; a machine's are its own."""
    user_id, _ = await join(world.database.owner_url, world.tenant, "analyst")
    personal = await world.api_token(["issues:read", "issues:write"], user_id=user_id)
    machine = await world.api_token(["issues:read", "issues:write"], user_id=None)
    authority = Authority(world.settings, world.people, clock=world.clock)
    both = frozenset({"issues:read", "issues:write"})
    found = await authority.principal(personal)
    assert (found.kind, found.user_id, found.role, found.scopes) == ("personal", user_id, "analyst", both)
    await world.sql("UPDATE memberships SET role = 'viewer' WHERE user_id = %s", user_id)
    assert (await authority.principal(personal)).scopes == frozenset({"issues:read"})
    robot = await authority.principal(machine)
    assert (robot.kind, robot.user_id[:4], robot.role, robot.scopes) == ("service", "svc_", "", both)
    assert robot.is_person is False
    await world.sql("UPDATE service_accounts SET status = 'suspended'")
    assert await refusal(authority, machine) is ForbiddenError


async def test_an_expired_or_unknown_token_is_refused(world: World) -> None:
    """Kept or not."""
    token = await world.api_token(
        ["issues:read"], user_id=world.tenant.owner_id, expires_at=NOW + timedelta(hours=1)
    )
    async with world.authority() as authority:
        assert await refusal(authority, token) is None
        world.clock.now += timedelta(hours=1)
        assert await refusal(authority, token) is UnauthorizedError
        for unknown in (
            new_secret("clp_pat_"),
            new_secret("clp_svc_"),
            "clp_pat_",
            "nonsense",
            "clp_refresh_x",
        ):
            assert await refusal(authority, unknown) is UnauthorizedError


async def test_a_signed_token_for_no_session_of_ours_is_refused(world: World) -> None:
    """Our signature is not enough: person, workspace and session must belong together."""
    mine = (await world.sessions.exchange(world.tenant.owner_email, workspace_id=None)).principal
    other = await onboard(world.database.owner_url)
    authority = Authority(world.settings, world.people, clock=world.clock)
    for wrong in (
        {"session_id": "ses_01J00000000000000000000000"},
        {"user_id": other.owner_id},
        {"workspace_id": other.workspace_id},
    ):
        fields = {
            "workspace_id": mine.workspace_id,
            "user_id": mine.user_id,
            "session_id": mine.session_id,
            **wrong,
        }
        forged = Principal(
            role="owner", scopes=ROLES["owner"].scopes, expires_at=expiry(NOW, seconds=60), **fields
        )
        token = issue_access_token(forged, secret=SECRET, now=NOW)
        assert await refusal(authority, token) is UnauthorizedError


async def test_a_session_owes_the_second_factor_that_its_person_has_set_up(world: World) -> None:
    """From the moment it is confirmed until it is given in that session; programs are not asked."""
    session = await world.owner_token()
    other = await world.owner_token()
    personal = await world.api_token(["issues:read"], user_id=world.tenant.owner_id)

    async def owing(authority: Authority) -> list[bool]:
        return [(await authority.principal(token)).owes_second_factor for token in (session, other, personal)]

    async with world.authority() as authority:
        await world.sql(
            "INSERT INTO totp_factors (user_id, secret_sealed, created_at) VALUES (%s, 'sealed', %s)",
            world.tenant.owner_id,
            NOW,
        )
        assert await owing(authority) == [False, False, False]
        await world.sql("UPDATE totp_factors SET confirmed_at = %s", NOW)

        async def both_owe() -> bool:
            return await owing(authority) == [True, True, False]

        async def one_owes() -> bool:
            return await owing(authority) == [False, True, False]

        await eventually(both_owe)
        assert (await authority.principal(session)).scopes == frozenset()
        session_id = (await authority.principal(session)).session_id
        await world.sql("UPDATE sessions SET second_factor_at = %s WHERE session_id = %s", NOW, session_id)
        await eventually(one_owes)


async def test_use_is_written_down_to_the_minute_and_not_at_each_request(world: World) -> None:
    """For sessions, tokens and memberships; an older note does not undo a newer one."""
    session = await world.owner_token()
    personal = await world.api_token(["issues:read"], user_id=world.tenant.owner_id)
    authority = Authority(world.settings, world.people, clock=world.clock)
    world.clock.now = NOW + timedelta(minutes=9, seconds=30)
    for token in (session, personal, session):
        await authority.principal(token)

    async def noted() -> Any:
        return await world.sql(
            "SELECT s.last_seen_at, t.last_used_at, m.last_active_at FROM sessions AS s, api_tokens AS t, memberships AS m"
        )

    assert await noted() == [(NOW, None, None)]
    await authority.mark_used()
    expected = [(world.clock.now, NOW + timedelta(minutes=9), world.clock.now)]
    assert await noted() == expected
    world.clock.now = NOW + timedelta(minutes=1)
    await authority.principal(session)
    await authority.mark_used()
    assert await noted() == expected


def principal(number: int) -> Principal:
    return Principal(
        workspace_id=f"ws_{number % 2}",
        organization_id="org_1",
        user_id=f"usr_{number}",
        role="viewer",
        scopes=frozenset(),
        session_id=f"ses_{number}",
        expires_at=NOW,
    )


def test_decisions_are_bounded_age_and_go_with_what_they_depend_on() -> None:
    """The oldest goes first; nothing is left of what is forgotten."""
    decisions = Decisions(size=4, seconds=30)
    decisions.inform()
    for number in range(6):
        decisions.keep(bytes([number]), principal(number), revision=0, at=float(number))
    assert len(decisions) == 4
    assert decisions.get(bytes([1]), at=5.0) is None
    assert decisions.get(bytes([2]), at=31.9) is not None
    assert decisions.has(bytes([2]))
    assert decisions.get(bytes([2]), at=32.0) is None
    assert not decisions.has(bytes([2]))
    decisions.forget(("ws_1",))
    assert [number for number in range(6) if decisions.get(bytes([number]), at=6.0)] == [4]
    decisions.forget(("org_1",))
    assert len(decisions) == 0


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    """A request that was under way while the row changed decides for itself only."""
    decisions = Decisions()
    decisions.inform()
    before = decisions.revision
    decisions.forget(("usr_1",))
    decisions.keep(b"1", principal(1), revision=before, at=0.0)
    assert len(decisions) == 0


def test_a_secret_can_be_changed_while_tokens_are_out() -> None:
    """Those that the previous one signed are read; the present one signs."""
    token = issue_access_token(
        Principal(
            workspace_id="ws_1",
            user_id="usr_1",
            role="viewer",
            scopes=frozenset(),
            session_id="ses_1",
            expires_at=NOW + timedelta(hours=1),
        ),
        secret="o" * 32,
        now=NOW,
    )
    assert read_access_token(token, secrets=("n" * 32, "o" * 32), now=NOW).user_id == "usr_1"
    with pytest.raises(UnauthorizedError):
        read_access_token(token, secrets=("n" * 32,), now=NOW)


async def test_sessions_that_ended_are_forgotten_after_a_month(world: World) -> None:
    """When somebody of the workspace refreshes; what is going on stays."""
    pairs = [await world.sessions.exchange(world.tenant.owner_email, workspace_id=None) for _ in range(2)]
    await world.sql(
        "UPDATE sessions SET revoked_at = %s WHERE session_id = %s", NOW, pairs[0].principal.session_id
    )
    world.clock.now = NOW + timedelta(days=15)
    kept = await world.sessions.refresh(pairs[1].refresh_token)
    assert len(await world.sql("SELECT session_id FROM sessions")) == 2
    world.clock.now = NOW + timedelta(days=31)
    await world.sessions.refresh(kept.refresh_token)
    assert await world.sql("SELECT session_id FROM sessions") == [(kept.principal.session_id,)]
