"""Clients and members for tests, made as an operator makes them: in SQL, as the owner of the schema."""

from typing import Any
from uuid import uuid4

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import TupleRow


class Tenant(Struct, frozen=True):
    """A client with one workspace and its owner."""

    slug: str
    organization_id: str
    workspace_id: str
    owner_id: str
    owner_email: str


async def execute(owner_url: str, statement: Any, *values: object) -> list[TupleRow]:
    """What an operator's statement gives, committed."""
    async with await AsyncConnection.connect(owner_url, options="-c search_path=identity") as conn:
        cursor = await conn.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def onboard(owner_url: str, *, plan: str = "enterprise", seats: int = 10) -> Tenant:
    """A new client whose slug nobody else has."""
    slug = f"t-{uuid4().hex[:12]}"
    email = f"owner@{slug}.example"
    [(organization_id, workspace_id, owner_id, _)] = await execute(
        owner_url,
        "SELECT * FROM onboard_client(%s, %s, %s, p_plan => %s, p_seats => %s)",
        f"Client {slug}",
        slug,
        email,
        plan,
        seats,
    )
    return Tenant(slug, organization_id, workspace_id, owner_id, email)


async def join(owner_url: str, tenant: Tenant, role: str) -> tuple[str, str]:
    """The id and the e-mail address of a new active member."""
    email = f"{uuid4().hex[:12]}@{tenant.slug}.example"
    [(user_id,)] = await execute(owner_url, "SELECT ensure_person(%s)", email)
    await execute(
        owner_url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role) VALUES (%s, new_id('mem_'), %s, %s)",
        tenant.workspace_id,
        user_id,
        role,
    )
    return user_id, email
