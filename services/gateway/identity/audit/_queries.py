"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row


class AuditVerdict(Struct, frozen=True):
    """One row of a result."""

    n_entries: int
    first_number: int | None
    last_number: int
    head_hash: str
    problem: str | None
    problem_number: int | None


class AuditEntry(Struct, frozen=True):
    """One row of a result."""

    entry_id: str
    occurred_at: datetime
    actor_id: str | None
    actor_name: str | None
    action: str
    category: str
    target_type: str
    target_id: str
    metadata: str
    ip: str | None
    hash: str
    seq: int


class AuditLine(Struct, frozen=True):
    """One row of a result."""

    entry_number: int
    entry_id: str
    occurred_at: datetime
    actor_id: str | None
    action: str
    category: str
    target_type: str
    target_id: str
    metadata: str
    ip: str | None
    previous_hash: str
    hash: str


_VERIFY_AUDIT = """
SELECT v.n_entries::bigint AS n_entries, v.first_number::bigint AS first_number, v.last_number::bigint AS last_number,
    encode(v.head_hash, 'hex')::text AS head_hash, v.problem::text AS problem, v.problem_number::bigint AS problem_number
FROM verify_audit_here() AS v (n_entries, first_number, last_number, head_hash, problem, problem_number)
"""


async def verify_audit(conn: AsyncConnection[Any]) -> AuditVerdict:
    """Recompute the chain of the workspace that the transaction names, and say where it is broken first."""
    async with AsyncRawCursor(conn, row_factory=args_row(AuditVerdict)) as cursor:
        await cursor.execute(_VERIFY_AUDIT)
        fetched: AuditVerdict | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("verify_audit gave no row")
        return fetched


_GET_AUDIT_ENTRY = """
SELECT entry_id, occurred_at, actor_id, actor_name, action, category, target_type, target_id, metadata, ip, hash, seq
FROM audit_entries WHERE workspace_id = $1 AND entry_id = $2
"""


async def get_audit_entry(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    entry_id: str,
) -> AuditEntry | None:
    """An audit entry as lists show it."""
    async with AsyncRawCursor(conn, row_factory=args_row(AuditEntry)) as cursor:
        await cursor.execute(_GET_AUDIT_ENTRY, (workspace_id, entry_id))
        fetched: AuditEntry | None = await cursor.fetchone()
        return fetched


_PAGE_AUDIT = """
SELECT l.entry_number, l.entry_id, l.occurred_at, l.actor_id, l.action, l.category, l.target_type, l.target_id,
    l.metadata::text AS metadata, l.ip, encode(l.previous_hash, 'hex') AS previous_hash, encode(l.hash, 'hex') AS hash
FROM audit_log AS l
WHERE l.workspace_id = $1 AND l.entry_number > $2::bigint
ORDER BY l.entry_number LIMIT $3::integer
"""


async def page_audit(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    after: int,
    page_size: int,
) -> list[AuditLine]:
    """Entries for an export, the oldest first, after one of them."""
    async with AsyncRawCursor(conn, row_factory=args_row(AuditLine)) as cursor:
        await cursor.execute(_PAGE_AUDIT, (workspace_id, after, page_size))
        fetched: list[AuditLine] = await cursor.fetchall()
        return fetched
