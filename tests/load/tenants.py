"""Many tenants at once through two gateways: whether each reads exactly its own, and whether every count is exact."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow
from runtime.embedded import free_port
from testkit.servers import temporary_folder
from testkit.stack import ServiceProcess, Stack

from .http import Connection

TENANTS = 200
REQUESTS, REQUESTS_A_MINUTE = 24, 16
MEMBERS, SEATS = 6, 4
ISSUES = 8
WINDOW_SECONDS = 60
SECONDS_FOR_REQUESTS = 25
"""How much of a minute must be left for the requests that are counted in it."""
AT_ONCE = 24
"""Tenants that ask at the same time, each over a connection to each gateway."""

PEOPLE = """
WITH client AS (SELECT * FROM onboard_client('Load', %(slug)s, 'owner@' || %(slug)s || '.example', p_plan => 'enterprise',
    p_seats => %(seats)s)),
person AS (SELECT ensure_person(number || '@' || %(slug)s || '.example') AS user_id FROM generate_series(1, %(members)s) AS number),
member AS (INSERT INTO memberships (workspace_id, membership_id, user_id, role, status)
    SELECT workspace_id, new_id('mem_'), user_id, 'viewer', 'suspended' FROM client CROSS JOIN person RETURNING membership_id)
SELECT workspace_id, (SELECT array_agg(membership_id) FROM member) FROM client
"""


class LoadError(Exception):
    """Something was counted wrong, or somebody saw what is another's."""


class Tenant(Struct):
    """A client, its suspended members, and what it was told that it made."""

    slug: str
    workspace_id: str
    members: list[str]
    doors: tuple[Connection, ...] = ()
    issues: set[str] = set()


async def measure(stack: Stack) -> str:
    """What was seen, in words. Raises LoadError at the first count or id that is wrong."""
    port = free_port()
    env = stack.environment(port, {"gateway": port})
    with temporary_folder("twin") as folder:
        twin = ServiceProcess("gateway", "services.gateway", env=env, log=folder / "gateway.log")
        try:
            await twin.start().ready()
            return await measured(stack, ports=(stack.services["gateway"].port, twin.port))
        finally:
            twin.stop()


async def measured(stack: Stack, *, ports: Sequence[int]) -> str:
    """The same for gateways that run."""
    tenants = await make(stack)
    async with AsyncExitStack() as opened:
        signed_in = await each(tenants, lambda tenant: sign_in(tenant, ports, opened))
        shares = [await rates(stack, tenants), await seats(stack, tenants), await issues(tenants)]
    return f"{TENANTS} tenants, {len(ports)} gateways: sign-in {TENANTS / signed_in:.0f}/s; " + "; ".join(
        shares
    )


async def each(tenants: Sequence[Tenant], work: Callable[[Tenant], Awaitable[None]]) -> float:
    """Do it for every tenant, some at once; seconds taken."""
    left = iter(tenants)

    async def some() -> None:
        for tenant in left:
            await work(tenant)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())
    return time.perf_counter() - started


async def make(stack: Stack) -> list[Tenant]:
    """Clients on a plan with few requests a minute, each with more people than seats, in SQL."""
    made = []
    async with await operator(stack) as conn:
        await conn.execute(
            "INSERT INTO plans (plan, requests_per_minute) VALUES ('load', %s)", (REQUESTS_A_MINUTE,)
        )
        for number in range(TENANTS):
            slug = f"load-{number}"
            values = {"slug": slug, "seats": SEATS, "members": MEMBERS}
            row = await (await conn.execute(PEOPLE, values)).fetchone()
            if row is None:
                raise LoadError("onboard_client gave no row")
            workspace_id, members = row
            made.append(Tenant(slug, workspace_id, members))
        await conn.execute("UPDATE organizations SET plan = 'load' WHERE slug LIKE 'load-%'")
    return made


async def operator(stack: Stack) -> psycopg.AsyncConnection[TupleRow]:
    """A connection as the owner of the schema."""
    return await psycopg.AsyncConnection.connect(stack.database.owner_url, options="-c search_path=identity")


async def sign_in(tenant: Tenant, ports: Sequence[int], opened: AsyncExitStack) -> None:
    """Open a connection to each gateway with a token of the tenant's owner."""
    body = msgspec.json.encode({"subject_token": f"owner@{tenant.slug}.example"})
    async with Connection("127.0.0.1", ports[0], {}) as anonymous:
        answer = msgspec.json.decode(await anonymous.expect("POST", "/v1/auth/exchange", body))
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    doors = [Connection("127.0.0.1", port, headers) for port in ports]
    tenant.doors = tuple([await opened.enter_async_context(door) for door in doors])


async def spread(tenant: Tenant, asks: Sequence[tuple[str, str, bytes]]) -> list[tuple[int, bytes]]:
    """Answers to requests that go to both gateways at the same time, those to one of them one after another."""
    answers: list[tuple[int, bytes]] = []

    async def through(door: Connection, mine: Sequence[tuple[str, str, bytes]]) -> None:
        for ask in mine:
            answers.append(await door.request(*ask))

    n_doors = len(tenant.doors)
    async with asyncio.TaskGroup() as tasks:
        for number, door in enumerate(tenant.doors):
            tasks.create_task(through(door, asks[number::n_doors]))
    return answers


def require(seen: Counter[int], expected: dict[int, int], tenant: Tenant, what: str) -> None:
    """Raise LoadError unless the answers are these."""
    if seen != expected:
        raise LoadError(f"{tenant.slug}: {what} gave {dict(seen)}, not {expected}")


async def rates(stack: Stack, tenants: Sequence[Tenant]) -> str:
    """More requests than a minute has, within one; then the plan is lifted for what follows."""
    left = WINDOW_SECONDS - time.time() % WINDOW_SECONDS
    if left < SECONDS_FOR_REQUESTS:
        await asyncio.sleep(left + 0.5)

    async def one(tenant: Tenant) -> None:
        answers = await spread(tenant, [("GET", "/v1/onboarding/config", b"")] * REQUESTS)
        expected = {200: REQUESTS_A_MINUTE, 429: REQUESTS - REQUESTS_A_MINUTE}
        require(Counter(status for status, _ in answers), expected, tenant, "the rate")

    minute = time.time() // WINDOW_SECONDS
    seconds = await each(tenants, one)
    if time.time() // WINDOW_SECONDS != minute:
        raise LoadError(
            f"the requests took {seconds:.0f} s, into the next minute; the machine is too busy to tell"
        )
    async with await operator(stack) as conn:
        await conn.execute("UPDATE organizations SET plan = 'enterprise' WHERE slug LIKE 'load-%'")
    n = TENANTS * REQUESTS
    return f"rates exact ({REQUESTS_A_MINUTE} of {REQUESTS} each, {n / seconds:.0f} requests/s)"


async def seats(stack: Stack, tenants: Sequence[Tenant]) -> str:
    """More members than seats are let in at once, at both gateways; the owner has a seat already."""
    body = b'{"status":"active"}'

    async def one(tenant: Tenant) -> None:
        asks = [("PATCH", f"/v1/members/{member}", body) for member in tenant.members]
        answers = await spread(tenant, asks)
        expected = {200: SEATS - 1, 422: MEMBERS - SEATS + 1}
        require(Counter(status for status, _ in answers), expected, tenant, "letting members in")

    seconds = await each(tenants, one)
    async with await operator(stack) as conn:
        query = (
            "SELECT count(*), min(active), max(active) FROM (SELECT count(*) AS active FROM memberships AS m"
            " JOIN workspaces AS w USING (workspace_id) WHERE w.slug LIKE 'load-%' AND m.status = 'active'"
            " GROUP BY workspace_id) AS taken"
        )
        row = await (await conn.execute(query)).fetchone()
    if row != (TENANTS, SEATS, SEATS):
        raise LoadError(f"active members per client are {row}, not {SEATS} for each of {TENANTS}")
    return f"seats exact ({SEATS - 1} of {MEMBERS} each, {TENANTS * MEMBERS / seconds:.0f} attempts/s)"


async def issues(tenants: Sequence[Tenant]) -> str:
    """Everybody reports under the same external ids at both gateways, then reads the list at each of them."""

    async def write(tenant: Tenant) -> None:
        asks = []
        for number in range(ISSUES):
            record = {
                "title": f"{tenant.slug} fails, {number}",
                "external_id": f"same-{number}",
                "source": "jira",
            }
            asks.append(("POST", "/v1/issues", msgspec.json.encode(record)))
        answers = await spread(tenant, asks)
        require(Counter(status for status, _ in answers), {201: ISSUES}, tenant, "reporting")
        tenant.issues = {msgspec.json.decode(body)["id"] for _, body in answers}

    async def read(tenant: Tenant) -> None:
        for door in tenant.doors:
            found = msgspec.json.decode(await door.expect("GET", "/v1/issues?limit=100"))["data"]
            if {issue["id"] for issue in found} != tenant.issues:
                raise LoadError(f"{tenant.slug} reads other issues than it made")
            if not all(issue["title"].startswith(f"{tenant.slug} ") for issue in found):
                raise LoadError(f"{tenant.slug} reads somebody else's words")

    wrote, took = await each(tenants, write), await each(tenants, read)
    if len(set().union(*(tenant.issues for tenant in tenants))) != TENANTS * ISSUES:
        raise LoadError("two tenants were given the same issue")
    return (
        f"no foreign issue ({TENANTS * ISSUES} written at {TENANTS * ISSUES / wrote:.0f}/s,"
        f" {2 * TENANTS} lists read at {2 * TENANTS / took:.0f}/s)"
    )
