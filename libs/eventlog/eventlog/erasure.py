"""What becomes of a workspace's rows once the log says that it is erased: they go, and nothing of it is heard again."""

from __future__ import annotations

from collections.abc import Sequence, Set

from contracts import Event, Recorded, workspace
from psycopg import sql

from .projection import Connection, Projection


async def erased_workspaces(conn: Connection) -> frozenset[str]:
    """The workspaces that the rows know to be erased."""
    cursor = await conn.execute("SELECT workspace_id FROM erased_workspaces")
    return frozenset(str(row[0]) for row in await cursor.fetchall())


def erased_by(events: Sequence[Recorded[Event]]) -> frozenset[str]:
    """The workspaces whose erasure is among these events."""
    return frozenset(e.workspace_id for e in events if isinstance(e.data, workspace.WorkspaceErased))


def still_heard(events: Sequence[Recorded[Event]], erased: Set[str]) -> Sequence[Recorded[Event]]:
    """The events without those of erased workspaces; an erasure itself stays, for memory to drop what it holds."""
    gone = erased | erased_by(events)
    if not gone:
        return events
    return [e for e in events if e.workspace_id not in gone or isinstance(e.data, workspace.WorkspaceErased)]


async def project(
    projection: Projection, events: Sequence[Recorded[Event]], conn: Connection, *, erased: Set[str]
) -> None:
    """Write a batch's rows inside the caller's transaction, after deleting those of workspaces that it erases.

    erased: the workspaces that were erased before the batch.
    """
    now_erased = erased_by(events)
    if now_erased:
        await _delete_rows(conn, sorted(now_erased))
    gone = erased | now_erased
    wants_workspaces = not projection.aggregates or "workspace" in projection.aggregates
    if gone or not wants_workspaces:
        events = [
            e
            for e in events
            if e.workspace_id not in gone and (wants_workspaces or not isinstance(e.data, workspace.Event))
        ]
    if events:
        await projection.project(events, conn)


async def _delete_rows(conn: Connection, workspace_ids: Sequence[str]) -> None:
    """One statement per table of the read model, whichever it has."""
    await conn.execute(
        "INSERT INTO erased_workspaces SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", (workspace_ids,)
    )
    cursor = await conn.execute(
        "SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"
        " AND a.attname = 'workspace_id' AND c.relname <> 'erased_workspaces' ORDER BY 1"
    )
    for (table,) in await cursor.fetchall():
        statement = sql.SQL("DELETE FROM {} WHERE workspace_id = ANY($1::text[])").format(
            sql.Identifier(table)
        )
        await conn.execute(statement.as_string(conn).encode(), (workspace_ids,))
