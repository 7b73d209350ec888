"""What goes and what stays in SQL, and that a fault in one workspace's erasure or export holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contracts import record, workspace
from eventlog import Append, EventLog
from nats.aio.client import Client
from psycopg import AsyncConnection
from runtime import database as databases
from runtime.database import Pool
from runtime.sealing import SealingKey
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.governance.erasing import Eraser
from services.gateway.governance.exporting import Exporter, Written
from services.gateway.governance.retaining import Retainer
from services.gateway.governance.steward import Steward
from services.gateway.identity.governance import _queries
from services.gateway.identity.governance.certificates import Signer
from services.gateway.identity.governance.requests import KEPT

from .tenants import Tenant, join, onboard

Owner = AsyncConnection[Any]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Owner]:
    """An operator at a prompt."""
    async with await AsyncConnection.connect(
        database.owner_url, autocommit=True, options="-c search_path=identity"
    ) as conn:
        yield conn


@pytest.fixture
async def people(owner: Owner, database: Database) -> AsyncIterator[Pool]:
    """The application's connections."""
    pool = databases.pool(database.app_url, schema="identity", max_size=6)
    await pool.open()
    yield pool
    await pool.close()


async def rows(owner: Owner, statement: str, *values: object) -> list[tuple[Any, ...]]:
    cursor = await owner.execute(statement, values)
    return await cursor.fetchall()


async def value(owner: Owner, statement: str, *values: object) -> Any:
    [[found]] = await rows(owner, statement, *values)
    return found


# The last owner.


@pytest.mark.parametrize(
    "step",
    [
        "UPDATE memberships SET role = 'admin' WHERE user_id = %s",
        "UPDATE memberships SET status = 'suspended' WHERE user_id = %s",
        "DELETE FROM memberships WHERE user_id = %s",
    ],
)
async def test_the_last_active_owner_stays_one(owner: Owner, database: Database, step: str) -> None:
    """Administrators, a suspended owner, an invited one and one whom the operator has shut out are not enough; a second
    owner is."""
    tenant = await onboard(database.owner_url)
    await join(database.owner_url, tenant, "admin")
    second, _ = await join(database.owner_url, tenant, "owner")
    for status in ("suspended", "invited"):
        await owner.execute("UPDATE memberships SET status = %s WHERE user_id = %s", (status, second))
        with pytest.raises(psycopg.Error, match="last owner") as refused:
            await owner.execute(step, (tenant.owner_id,))
        assert refused.value.sqlstate == "CL002"
    await owner.execute("UPDATE memberships SET status = 'active' WHERE user_id = %s", (second,))
    await owner.execute("UPDATE users SET status = 'suspended' WHERE user_id = %s", (second,))
    with pytest.raises(psycopg.Error, match="last owner"):
        await owner.execute(step, (tenant.owner_id,))
    await owner.execute("UPDATE users SET status = 'active' WHERE user_id = %s", (second,))
    await owner.execute(step, (tenant.owner_id,))
    assert await rows(
        owner, "SELECT user_id FROM memberships WHERE role = 'owner' AND status = 'active'"
    ) == [(second,)]


async def test_of_two_owners_who_step_down_at_once_one_stays(owner: Owner, database: Database) -> None:
    """Each looks at the other under the workspace's lock."""
    tenant = await onboard(database.owner_url)
    await join(database.owner_url, tenant, "owner")

    async def step_down(user_id: str) -> bool:
        async with await AsyncConnection.connect(
            database.owner_url, options="-c search_path=identity"
        ) as conn:
            try:
                await conn.execute("UPDATE memberships SET role = 'admin' WHERE user_id = %s", (user_id,))
            except psycopg.Error as error:
                assert error.sqlstate == "CL002"
                return False
            return True

    owners = await rows(owner, "SELECT user_id FROM memberships WHERE role = 'owner'")
    outcomes = await asyncio.gather(*(step_down(user_id) for (user_id,) in owners))
    assert sorted(outcomes) == [False, True]


async def test_a_workspace_is_erased_with_its_last_owner(owner: Owner, database: Database) -> None:
    """No rule about members stands in the way."""
    tenant = await onboard(database.owner_url)
    await owner.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
    await owner.execute("SELECT erase_workspace_rows(%s)", (tenant.workspace_id,))
    assert await value(owner, "SELECT count(*) FROM users") == 0


# People who had left.


async def leave(owner: Owner, tenant: Tenant, user_id: str) -> None:
    """What removing a member does and writes down."""
    await owner.execute(
        "DELETE FROM memberships WHERE workspace_id = %s AND user_id = %s", (tenant.workspace_id, user_id)
    )
    await owner.execute(
        "SELECT audit(%s, %s, 'member.removed', 'delete', 'membership', 'mem_x', jsonb_build_object('user_id', %s::text))",
        (tenant.workspace_id, tenant.owner_id, user_id),
    )


async def test_people_who_are_nowhere_any_more_are_deleted(owner: Owner, database: Database) -> None:
    """After the window of what they left; whoever is a member, invited, asking, or was made just now stays."""
    tenant, other = await onboard(database.owner_url), await onboard(database.owner_url)
    gone, elsewhere, recent, asking, new = [
        (await join(database.owner_url, tenant, "viewer"))[0] for _ in range(5)
    ]
    await owner.execute(
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role, status)"
        " VALUES (%s, new_id('mem_'), %s, 'viewer', 'invited')",
        (other.workspace_id, elsewhere),
    )
    for user_id, days in ((gone, 396), (recent, 394)):
        await owner.execute(
            "INSERT INTO sessions (workspace_id, session_id, user_id, method, created_at, last_seen_at, expires_at)"
            " VALUES (%s, new_id('ses_'), %s, 'mock', now(), now(), now() - make_interval(days => %s))",
            (tenant.workspace_id, user_id, days),
        )
    await owner.execute(
        "INSERT INTO rtbf_requests (workspace_id, request_id, subject_id, created_at, updated_at)"
        " VALUES (%s, new_id('rtbf_'), %s, now(), now())",
        (tenant.workspace_id, asking),
    )
    for user_id in (gone, elsewhere, recent, asking, new):
        await leave(owner, tenant, user_id)
    await owner.execute(
        "UPDATE users SET created_at = now() - interval '2 years' WHERE user_id <> %s", (new,)
    )
    assert await value(owner, "SELECT purge_people()") == 0  # of `gone` there is a session still
    await owner.execute("SELECT purge_activity(%s)", (tenant.workspace_id,))
    assert await value(owner, "SELECT purge_people()") == 1
    left = {user_id for (user_id,) in await rows(owner, "SELECT user_id FROM users")}
    assert left == {tenant.owner_id, other.owner_id, elsewhere, recent, asking, new}
    assert await value(owner, "SELECT count(*) FROM audit_log WHERE metadata ->> 'user_id' = %s", gone) == 1


async def test_whoever_is_invited_again_meanwhile_stays(owner: Owner, database: Database) -> None:
    """The purge does not wait for an invitation that is being written, and takes nobody from under it."""
    tenant = await onboard(database.owner_url)
    user_id, email = await join(database.owner_url, tenant, "viewer")
    await leave(owner, tenant, user_id)
    await owner.execute("UPDATE users SET created_at = now() - interval '2 years'")
    async with await AsyncConnection.connect(
        database.owner_url, options="-c search_path=identity"
    ) as inviting:
        await inviting.execute("SELECT ensure_person(%s)", (email,))
        async with asyncio.timeout(30):
            assert await value(owner, "SELECT purge_people()") == 0
        await inviting.execute(
            "INSERT INTO memberships (workspace_id, membership_id, user_id, role, status)"
            " VALUES (%s, new_id('mem_'), %s, 'viewer', 'invited')",
            (tenant.workspace_id, user_id),
        )
    assert await value(owner, "SELECT purge_people()") == 0
    assert await value(owner, "SELECT count(*) FROM memberships WHERE user_id = %s", user_id) == 1


async def test_a_former_member_can_be_forgotten_where_they_were_and_nowhere_else(
    owner: Owner, database: Database, people: Pool
) -> None:
    """By address, from the audit log alone; once they are erased they are not found again."""
    tenant, other = await onboard(database.owner_url), await onboard(database.owner_url)
    user_id, email = await join(database.owner_url, tenant, "viewer")
    await leave(owner, tenant, user_id)

    async def found(at: Tenant) -> str | None:
        async with databases.tenant(people, at.workspace_id) as conn:
            return await _queries.find_subject(conn, subject=email.upper())

    assert (await found(tenant), await found(other)) == (user_id, None)
    async with databases.tenant(people, other.workspace_id) as conn:
        with pytest.raises(psycopg.errors.NoDataFound):
            await _queries.erase_person(conn, user_id=user_id)
    async with databases.tenant(people, tenant.workspace_id) as conn:
        await _queries.erase_person(conn, user_id=user_id)
    assert await rows(owner, "SELECT email, name FROM users WHERE user_id = %s", user_id) == [
        (f"{user_id}@erased.invalid", "Erased person")
    ]
    assert await found(tenant) is None


def test_a_persons_certificate_says_what_the_audit_log_and_old_copies_have() -> None:
    """An address of a computer is personal too."""
    assert any("audit log" in text and "IP address" in text for text in KEPT)
    assert any("exports" in text for text in KEPT)


# Erasures of workspaces.


async def test_an_erasure_does_not_wait_for_those_that_ended(owner: Owner, database: Database) -> None:
    """However many ended within the hour that they are looked after."""
    tenant = await onboard(database.owner_url)
    await owner.execute(
        "INSERT INTO erasures (workspace_id, erasure_id, status, requested_at, completed_at)"
        " SELECT new_id('ws_'), new_id('ers_'), 'completed', now() - interval '1 hour', now()"
        " FROM generate_series(1, 150)"
    )
    await owner.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
    found = await rows(owner, "SELECT workspace_id, status FROM open_erasures(now() - interval '1 hour')")
    assert found[0] == (tenant.workspace_id, "executing")
    assert len(found) == 151


async def test_a_reinstated_client_does_not_open_what_is_being_erased(
    owner: Owner, database: Database
) -> None:
    """Its other workspaces open; also when the erasure is asked for at the same moment."""
    tenant = await onboard(database.owner_url)
    second = await value(
        owner,
        "INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone)"
        " VALUES (new_id('ws_'), %s, 'second', 'Second', 'UTC') RETURNING workspace_id",
        tenant.organization_id,
    )
    await owner.execute("SELECT suspend_client(%s)", (tenant.slug,))
    async with await AsyncConnection.connect(
        database.owner_url, options="-c search_path=identity"
    ) as erasing:
        await erasing.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
        opening = asyncio.create_task(
            value(owner, "SELECT workspaces FROM reinstate_client(%s)", tenant.slug)
        )

        async def is_waiting() -> bool:
            async with await AsyncConnection.connect(database.owner_url) as conn:
                cursor = await conn.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                return await cursor.fetchone() != (0,)

        await eventually(is_waiting)
    assert await opening == 1
    assert dict(await rows(owner, "SELECT workspace_id, status FROM workspaces")) == {
        tenant.workspace_id: "suspended",
        second: "active",
    }


# The jobs.


def exporter(people: Pool, event_log: EventLog, folder: Path) -> Exporter:
    return Exporter(event_log, pool=people, people=people, folder=folder, clock=now)


def eraser(people: Pool, event_log: EventLog, folder: Path) -> Eraser:
    return Eraser(event_log, people, exports=folder, signer=Signer(SealingKey(b"a" * 32)), clock=now)


async def ask_for_a_copy(owner: Owner, people: Pool, tenant: Tenant) -> _queries.OpenExport:
    """An export of the audit log that nobody has begun yet."""
    await owner.execute(
        "INSERT INTO export_jobs (workspace_id, export_id, kind, created_at) VALUES (%s, new_id('exp_'), 'audit', now())",
        (tenant.workspace_id,),
    )
    async with people.connection() as conn:
        jobs = await _queries.list_open_exports(conn)
    return next(job for job in jobs if job.workspace_id == tenant.workspace_id)


async def state(owner: Owner, job: _queries.OpenExport) -> tuple[str, str | None]:
    """How far an export is, and its file's name."""
    [(status, file_name)] = await rows(
        owner, "SELECT status, file_name FROM export_jobs WHERE export_id = %s", job.export_id
    )
    return status, file_name


async def test_an_export_of_an_erased_workspace_is_not_written(
    owner: Owner, database: Database, people: Pool, event_log: EventLog, tmp_path: Path
) -> None:
    """Its row went between the list of exports and the writing."""
    tenant = await onboard(database.owner_url)
    job = await ask_for_a_copy(owner, people, tenant)
    await owner.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
    await owner.execute("SELECT erase_workspace_rows(%s)", (tenant.workspace_id,))
    await exporter(people, event_log, tmp_path).write(job)
    assert not (tmp_path / tenant.workspace_id).exists()


class Overtaken(Exporter):
    """Something happens once the archive is written and before it is said to be there."""

    meanwhile: Callable[[], Awaitable[object]]

    async def _archive(self, job: _queries.OpenExport) -> Written:
        written = await super()._archive(job)
        await self.meanwhile()
        return written


async def test_a_copy_of_before_an_erasure_is_not_kept(
    owner: Owner, database: Database, people: Pool, event_log: EventLog, tmp_path: Path
) -> None:
    """Of a person: it is begun again; of the workspace: it is gone."""
    tenant = await onboard(database.owner_url)
    at_work = Overtaken(event_log, pool=people, people=people, folder=tmp_path, clock=now)

    async def somebody_is_forgotten() -> None:
        async with databases.tenant(people, tenant.workspace_id) as conn:
            assert await _queries.restart_exports(conn, workspace_id=tenant.workspace_id) == 1

    async def the_workspace_is_erased() -> None:
        await owner.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
        await owner.execute("SELECT erase_workspace_rows(%s)", (tenant.workspace_id,))

    job = await ask_for_a_copy(owner, people, tenant)
    at_work.meanwhile = somebody_is_forgotten
    await at_work.write(job)
    assert await state(owner, job) == ("queued", None)
    assert files_in(tmp_path) == []
    await exporter(people, event_log, tmp_path).write(job)
    assert await state(owner, job) == ("succeeded", f"{job.export_id}.tar.gz")
    assert files_in(tmp_path) == [f"{job.export_id}.tar.gz"]

    last = await ask_for_a_copy(owner, people, tenant)
    at_work.meanwhile = the_workspace_is_erased
    await at_work.write(last)
    assert files_in(tmp_path) == [f"{job.export_id}.tar.gz"]


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def erase(owner: Owner, event_log: EventLog, tenant: Tenant) -> None:
    """Ask for an erasure, and tell the log of it as the outbox would."""
    await owner.execute("SELECT request_erasure(%s)", (tenant.workspace_id,))
    await owner.execute("DELETE FROM outbox WHERE workspace_id = %s", (tenant.workspace_id,))
    await event_log.append(
        Append(
            record(
                workspace.WorkspaceErased(workspace_id=tenant.workspace_id),
                workspace_id=tenant.workspace_id,
                aggregate_id=tenant.workspace_id,
                occurred_at=now(),
                recorded_at=now(),
                source="gateway",
            ),
            expected=None,
        )
    )


async def test_what_is_written_behind_an_erasure_is_deleted(
    owner: Owner, database: Database, people: Pool, event_log: EventLog, tmp_path: Path
) -> None:
    """By whoever looks after it for an hour."""
    tenant = await onboard(database.owner_url)
    await erase(owner, event_log, tenant)
    late = tmp_path / tenant.workspace_id / "late.tar.gz"
    at_work = eraser(people, event_log, tmp_path)

    async def step() -> str:
        async with people.connection() as conn:
            [erasure] = await _queries.list_open_erasures(conn, since=now() - timedelta(hours=1))
        await at_work.advance(erasure)
        return str(await value(owner, "SELECT status FROM erasures"))

    await eventually(lambda: is_equal(step, "completed"))
    late.parent.mkdir()
    late.write_bytes(b"everything")
    assert await step() == "completed"
    assert not late.parent.exists()


async def is_equal(look: Callable[[], Awaitable[str]], expected: str) -> bool:
    return await look() == expected


async def test_a_fault_of_one_workspace_holds_up_no_other(
    owner: Owner, database: Database, people: Pool, event_log: EventLog, nc: Client, tmp_path: Path
) -> None:
    """A row that cannot be deleted, a file that cannot: both are tried again, and go once they can. Whoever is nowhere
    any more goes meanwhile."""
    stuck, well = await onboard(database.owner_url), await onboard(database.owner_url)
    exporting = await onboard(database.owner_url)
    await owner.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$"
    )
    await owner.execute(
        f"CREATE TRIGGER refuse BEFORE DELETE ON workspaces FOR EACH ROW WHEN (OLD.workspace_id = '{stuck.workspace_id}')"
        " EXECUTE FUNCTION refuse()"
    )
    not_a_file = tmp_path / exporting.workspace_id / "exp.tar.gz"
    not_a_file.mkdir(parents=True)
    await owner.execute(
        "INSERT INTO export_jobs (workspace_id, export_id, kind, status, file_name, created_at, expires_at)"
        " VALUES (%s, new_id('exp_'), 'audit', 'succeeded', 'exp.tar.gz', now(), now())",
        (exporting.workspace_id,),
    )
    await owner.execute(
        "INSERT INTO users (user_id, email, name, created_at)"
        " VALUES (new_id('usr_'), 'stray@nowhere.example', 'Stray', now() - interval '2 days')"
    )
    wanted = await ask_for_a_copy(owner, people, exporting)
    await erase(owner, event_log, stuck)
    await erase(owner, event_log, well)

    async def statuses() -> dict[str, str]:
        return dict(await rows(owner, "SELECT workspace_id, status FROM erasures"))

    async def is_all_but_the_stuck() -> bool:
        done = await statuses()
        copy = (await state(owner, wanted))[0]
        strays = await value(owner, "SELECT count(*) FROM users WHERE name = 'Stray'")
        return (done[well.workspace_id], copy, strays) == ("completed", "succeeded", 0)

    async def is_everything() -> bool:
        expired = await value(owner, "SELECT count(*) FROM export_jobs WHERE status = 'expired'")
        return set((await statuses()).values()) == {"completed"} and expired == 1

    steward = Steward(
        url=f"{database.app_url}",
        people=people,
        exporter=exporter(people, event_log, tmp_path),
        eraser=eraser(people, event_log, tmp_path),
        # There is no read model here, so it fails for everybody, which may hold up nothing either.
        retainer=Retainer(nc, event_log, people, clock=now),
        clock=now,
    )
    running = asyncio.create_task(steward.run())
    try:
        await eventually(is_all_but_the_stuck)
        assert (await statuses())[stuck.workspace_id] == "executing"
        await owner.execute("DROP TRIGGER refuse ON workspaces")
        not_a_file.rmdir()
        await eventually(is_everything)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
