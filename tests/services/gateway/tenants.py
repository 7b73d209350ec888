"""Clients and members for tests, made as an operator makes them: in SQL, as the owner of the schema."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

SECRET = "a-secret-for-tests-of-32-characters"
"""The JWT_SECRET of a stack under test."""


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


def sign_in(url: str, email: str) -> str:
    """An access token of the person with this address, whom a stack in mock mode lets in."""
    answer = httpx.post(f"{url}/v1/auth/exchange", json={"subject_token": email}, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def cut_short(access_token: str, *, seconds: int) -> str:
    """The same session's token, ending in this many seconds, or that long ago."""
    claims = jwt.decode(access_token, options={"verify_signature": False})
    ends_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return jwt.encode({**claims, "exp": int(ends_at.timestamp())}, SECRET, algorithm="HS256")
