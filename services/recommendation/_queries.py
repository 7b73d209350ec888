"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class PatternsRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    pattern_id: str
    status: str
    name: str
    exemplar: str
    fingerprint: str
    issue_count: int
    confidence: float
    first_seen_at: datetime
    last_seen_at: datetime
    n_p1: int
    n_p2: int
    n_p3: int
    n_p4: int
    exposure: str | None
    seq: int


class RecommendationsRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    recommendation_id: str
    pattern_id: str
    play_id: str
    type: str
    effort: str
    impact: str
    status: str
    score: float
    n_steps: int
    done_steps: str
    implemented_at: datetime | None
    seq: int


class WorkspacesRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    confidence_threshold: float


class ListTrackRecordsRow(Struct, frozen=True):
    """One row of list_track_records."""

    workspace_id: str
    type: str
    effort: str
    n_held: int
    n_recurred: int


_FIND_PATTERNS = """
SELECT p.workspace_id, p.pattern_id, p.status, p.name, p.exemplar, p.fingerprint, p.issue_count, p.confidence,
       p.first_seen_at, p.last_seen_at, p.n_p1, p.n_p2, p.n_p3, p.n_p4, p.exposure, p.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
JOIN patterns AS p ON p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
ORDER BY p.workspace_id, p.pattern_id
"""


async def find_patterns(conn: AsyncConnection[Any], *, keys: str) -> list[PatternsRow]:
    """The patterns with these ids, those that are known."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternsRow)) as cursor:
        await cursor.execute(_FIND_PATTERNS, (keys,))
        fetched: list[PatternsRow] = await cursor.fetchall()
        return fetched


_UPSERT_PATTERNS = """
INSERT INTO patterns (workspace_id, pattern_id, status, name, exemplar, fingerprint, issue_count, confidence,
                      first_seen_at, last_seen_at, n_p1, n_p2, n_p3, n_p4, exposure, seq)
SELECT r.workspace_id, r.pattern_id, r.status, r.name, r.exemplar, r.fingerprint, r.issue_count, r.confidence,
       r.first_seen_at, r.last_seen_at, r.n_p1, r.n_p2, r.n_p3, r.n_p4, r.exposure, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, status text, name text, exemplar text, fingerprint text,
    issue_count bigint, confidence double precision, first_seen_at timestamptz, last_seen_at timestamptz,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint, exposure text, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    status = excluded.status, name = excluded.name, fingerprint = excluded.fingerprint,
    issue_count = excluded.issue_count, confidence = excluded.confidence,
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at,
    n_p1 = excluded.n_p1, n_p2 = excluded.n_p2, n_p3 = excluded.n_p3, n_p4 = excluded.n_p4,
    exposure = excluded.exposure, seq = excluded.seq
"""


async def upsert_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the newest state of each pattern of a batch (IssuesLinked and every other event of a pattern, PredictionMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PATTERNS, (rows,))


_FIND_RECOMMENDATIONS = """
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, recommendation_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.recommendation_id = r.recommendation_id
ORDER BY m.workspace_id, m.recommendation_id
"""


async def find_recommendations(conn: AsyncConnection[Any], *, keys: str) -> list[RecommendationsRow]:
    """The recommendations with these ids, those that are known."""
    async with AsyncRawCursor(conn, row_factory=args_row(RecommendationsRow)) as cursor:
        await cursor.execute(_FIND_RECOMMENDATIONS, (keys,))
        fetched: list[RecommendationsRow] = await cursor.fetchall()
        return fetched


_UPSERT_RECOMMENDATIONS = """
INSERT INTO recommendations (workspace_id, recommendation_id, pattern_id, play_id, type, effort, impact, status, score,
                             n_steps, done_steps, implemented_at, seq)
SELECT r.workspace_id, r.recommendation_id, r.pattern_id, r.play_id, r.type, r.effort, r.impact, r.status, r.score,
       r.n_steps, r.done_steps, r.implemented_at, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, recommendation_id text, pattern_id text, play_id text, type text, effort text, impact text,
    status text, score double precision, n_steps integer, done_steps text, implemented_at timestamptz, seq bigint)
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    impact = excluded.impact, status = excluded.status, score = excluded.score, done_steps = excluded.done_steps,
    implemented_at = excluded.implemented_at, seq = excluded.seq
"""


async def upsert_recommendations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the newest state of each recommendation of a batch (every event of a recommendation)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_RECOMMENDATIONS, (rows,))


_UPSERT_WORKSPACES = """
INSERT INTO workspaces (workspace_id, confidence_threshold)
SELECT r.workspace_id, r.confidence_threshold
FROM json_to_recordset($1::json) AS r(workspace_id text, confidence_threshold double precision)
ON CONFLICT (workspace_id) DO UPDATE SET confidence_threshold = excluded.confidence_threshold
"""


async def upsert_workspaces(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the thresholds that a batch has set (WorkspaceSettingsChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_WORKSPACES, (rows,))


_LIST_RECOMMENDATIONS_OF_PATTERNS = """
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
JOIN recommendations AS m ON m.workspace_id = r.workspace_id AND m.pattern_id = r.pattern_id
ORDER BY m.workspace_id, m.pattern_id, m.recommendation_id
"""


async def list_recommendations_of_patterns(
    conn: AsyncConnection[Any],
    *,
    keys: str,
) -> list[RecommendationsRow]:
    """All recommendations of these patterns."""
    async with AsyncRawCursor(conn, row_factory=args_row(RecommendationsRow)) as cursor:
        await cursor.execute(_LIST_RECOMMENDATIONS_OF_PATTERNS, (keys,))
        fetched: list[RecommendationsRow] = await cursor.fetchall()
        return fetched


_LIST_OPEN_PATTERNS = """
SELECT pattern_id FROM patterns
WHERE workspace_id = $1 AND status NOT IN ('candidate', 'resolved', 'merged')
ORDER BY pattern_id
"""


async def list_open_patterns(conn: AsyncConnection[Any], *, workspace_id: str) -> list[str]:
    """The patterns of a workspace for which something may be recommended."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_OPEN_PATTERNS, (workspace_id,))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_LIST_THRESHOLDS = """
SELECT workspace_id, confidence_threshold FROM workspaces
WHERE workspace_id = ANY($1::text[])
ORDER BY workspace_id
"""


async def list_thresholds(conn: AsyncConnection[Any], *, workspace_ids: list[str]) -> list[WorkspacesRow]:
    """The thresholds of those of these workspaces that have their own."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspacesRow)) as cursor:
        await cursor.execute(_LIST_THRESHOLDS, (workspace_ids,))
        fetched: list[WorkspacesRow] = await cursor.fetchall()
        return fetched


_LIST_TRACK_RECORDS = """
SELECT m.workspace_id, m.type, m.effort,
       (count(*) FILTER (WHERE p.status = 'resolved' AND p.last_seen_at <= m.implemented_at + interval '1 day'))::bigint
           AS n_held,
       (count(*) FILTER (WHERE p.last_seen_at > m.implemented_at + interval '1 day'))::bigint AS n_recurred
FROM recommendations AS m
JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE m.workspace_id = ANY($1::text[]) AND m.status = 'implemented'
GROUP BY m.workspace_id, m.type, m.effort
ORDER BY m.workspace_id, m.type, m.effort
"""


async def list_track_records(
    conn: AsyncConnection[Any],
    *,
    workspace_ids: list[str],
) -> list[ListTrackRecordsRow]:
    """What became of these workspaces' implemented fixes, by type and effort: a failure more than a day after the
    fix is a recurrence (the same day belongs to the old episode); a resolved pattern without one has held.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(ListTrackRecordsRow)) as cursor:
        await cursor.execute(_LIST_TRACK_RECORDS, (workspace_ids,))
        fetched: list[ListTrackRecordsRow] = await cursor.fetchall()
        return fetched
