"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row


class SourceIntake(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    source: str
    n_issues: int
    last_occurred_at: datetime
    last_recorded_at: datetime


class ChangeIntake(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    outcome: str
    n_changes: int
    last_recorded_at: datetime


_COUNT_NEW_ISSUES = """
INSERT INTO sources_daily AS s (workspace_id, day, source, n_issues, last_occurred_at, last_recorded_at)
SELECT r.workspace_id, r.day, r.source, r.n_issues, r.last_occurred_at, r.last_recorded_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, day date, source text, n_issues bigint,
    last_occurred_at timestamptz, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, source) DO UPDATE SET
    n_issues = s.n_issues + excluded.n_issues,
    last_occurred_at = greatest(s.last_occurred_at, excluded.last_occurred_at),
    last_recorded_at = greatest(s.last_recorded_at, excluded.last_recorded_at)
"""


async def count_new_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Count the new issues of a batch by source and day (IssueReported)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_COUNT_NEW_ISSUES, (rows,))


_COUNT_CHANGES = """
INSERT INTO changes_daily AS c (workspace_id, day, outcome, n_changes, last_recorded_at)
SELECT r.workspace_id, r.day, r.outcome, r.n_changes, r.last_recorded_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, day date, outcome text, n_changes bigint, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, outcome) DO UPDATE SET
    n_changes = c.n_changes + excluded.n_changes,
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at)
"""


async def count_changes(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Count the changes of a batch by outcome and day (IssueUpdated, IssueClosed, IssueCommented, AnalysisRecorded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_COUNT_CHANGES, (rows,))


_FORGET_SOURCES = """
DELETE FROM sources_daily WHERE workspace_id = $1 AND day < $2::date
"""


async def forget_sources(conn: AsyncConnection[Any], *, workspace_id: str, day: date) -> None:
    """Count no longer what came in before a day (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_SOURCES, (workspace_id, day))


_FORGET_CHANGES = """
DELETE FROM changes_daily WHERE workspace_id = $1 AND day < $2::date
"""


async def forget_changes(conn: AsyncConnection[Any], *, workspace_id: str, day: date) -> None:
    """Count no longer what changed before a day (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_CHANGES, (workspace_id, day))


_LIST_SOURCES = """
SELECT workspace_id, source, sum(n_issues)::bigint AS n_issues,
       max(last_occurred_at)::timestamptz AS last_occurred_at,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM sources_daily
WHERE day >= $1::date
GROUP BY workspace_id, source
ORDER BY max(last_recorded_at) DESC, workspace_id, source
LIMIT $2
"""


async def list_sources(conn: AsyncConnection[Any], *, since: date, row_limit: int) -> list[SourceIntake]:
    """Sources by what they delivered since a day, the most recently seen first."""
    async with AsyncRawCursor(conn, row_factory=args_row(SourceIntake)) as cursor:
        await cursor.execute(_LIST_SOURCES, (since, row_limit))
        fetched: list[SourceIntake] = await cursor.fetchall()
        return fetched


_LIST_CHANGES = """
SELECT workspace_id, outcome, sum(n_changes)::bigint AS n_changes,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM changes_daily
WHERE day >= $1::date
GROUP BY workspace_id, outcome
ORDER BY max(last_recorded_at) DESC, workspace_id, outcome
LIMIT $2
"""


async def list_changes(conn: AsyncConnection[Any], *, since: date, row_limit: int) -> list[ChangeIntake]:
    """Changes to known issues since a day, the most recent first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ChangeIntake)) as cursor:
        await cursor.execute(_LIST_CHANGES, (since, row_limit))
        fetched: list[ChangeIntake] = await cursor.fetchall()
        return fetched
