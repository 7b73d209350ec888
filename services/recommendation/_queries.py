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
    watch: str | None
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
    environment: str | None
    version: str | None
    seq: int


class ListCalibrationsRow(Struct, frozen=True):
    """One row of list_calibrations."""

    workspace_id: str
    n_hits: float
    n_foretold: float


class FixesRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    fix_id: str
    pattern_id: str
    fixed_at: datetime
    environment: str | None
    version: str | None
    recommendation_ids: str
    note: str
    standing: str
    ended_as: str | None
    inputs: str
    due_at: datetime | None
    seq: int


class FailuresRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    issue_id: str
    pattern_id: str
    occurred_at: datetime
    environment: str | None
    version: str | None


class ReferenceFailure(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    occurred_at: datetime


class PatternOfFix(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    pattern_id: str


class WorkspacesRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    confidence_threshold: float | None
    proof_window_days: int | None
    proof_window_max_days: int | None
    proof_confidence: float | None
    plays_seq: int | None


class ListTrackRecordsRow(Struct, frozen=True):
    """One row of list_track_records."""

    workspace_id: str
    type: str
    effort: str
    n_verified: int
    n_broken: int


class FindOwnPlayRow(Struct, frozen=True):
    """One row of find_own_play."""

    plays_seq: int | None
    n_plays: int
    play: str | None


class AbstentionsRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    pattern_id: str
    best_play_id: str | None
    best_fit: float
    seq: int


_FIND_PATTERNS = """
SELECT p.workspace_id, p.pattern_id, p.status, p.name, p.exemplar, p.fingerprint, p.issue_count, p.confidence,
       p.first_seen_at, p.last_seen_at, p.n_p1, p.n_p2, p.n_p3, p.n_p4, p.exposure, p.watch, p.seq
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
                      first_seen_at, last_seen_at, n_p1, n_p2, n_p3, n_p4, exposure, watch, seq)
SELECT r.workspace_id, r.pattern_id, r.status, r.name, r.exemplar, r.fingerprint, r.issue_count, r.confidence,
       r.first_seen_at, r.last_seen_at, r.n_p1, r.n_p2, r.n_p3, r.n_p4, r.exposure, r.watch, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, status text, name text, exemplar text, fingerprint text,
    issue_count bigint, confidence double precision, first_seen_at timestamptz, last_seen_at timestamptz,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint, exposure text, watch text,
    seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    status = excluded.status, name = excluded.name, fingerprint = excluded.fingerprint,
    issue_count = excluded.issue_count, confidence = excluded.confidence,
    first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at,
    n_p1 = excluded.n_p1, n_p2 = excluded.n_p2, n_p3 = excluded.n_p3, n_p4 = excluded.n_p4,
    exposure = excluded.exposure, watch = excluded.watch, seq = excluded.seq
"""


async def upsert_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the newest state of each pattern of a batch (IssuesLinked and every other event of a pattern, PredictionMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PATTERNS, (rows,))


_FIND_RECOMMENDATIONS = """
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.environment, m.version, m.seq
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
                             n_steps, done_steps, implemented_at, environment, version, seq)
SELECT r.workspace_id, r.recommendation_id, r.pattern_id, r.play_id, r.type, r.effort, r.impact, r.status, r.score,
       r.n_steps, r.done_steps, r.implemented_at, r.environment,
       r.version, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, recommendation_id text, pattern_id text, play_id text, type text, effort text, impact text,
    status text, score double precision, n_steps integer, done_steps text, implemented_at timestamptz,
    environment text, version text, seq bigint)
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    impact = excluded.impact, status = excluded.status, score = excluded.score, done_steps = excluded.done_steps,
    implemented_at = excluded.implemented_at, environment = excluded.environment, version = excluded.version,
    seq = excluded.seq
"""


async def upsert_recommendations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the newest state of each recommendation of a batch (every event of a recommendation)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_RECOMMENDATIONS, (rows,))


_UPSERT_WORKSPACES = """
INSERT INTO workspaces (workspace_id, confidence_threshold, proof_window_days, proof_window_max_days, proof_confidence)
SELECT r.workspace_id, r.confidence_threshold, r.proof_window_days, r.proof_window_max_days, r.proof_confidence
FROM json_to_recordset($1::json) AS r(
    workspace_id text, confidence_threshold double precision, proof_window_days integer, proof_window_max_days integer,
    proof_confidence double precision)
ON CONFLICT (workspace_id) DO UPDATE SET
    confidence_threshold = coalesce(excluded.confidence_threshold, workspaces.confidence_threshold),
    proof_window_days = coalesce(excluded.proof_window_days, workspaces.proof_window_days),
    proof_window_max_days = coalesce(excluded.proof_window_max_days, workspaces.proof_window_max_days),
    proof_confidence = coalesce(excluded.proof_confidence, workspaces.proof_confidence)
"""


async def upsert_workspaces(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what a batch has set of workspaces (WorkspaceSettingsChanged); what it does not mention stays."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_WORKSPACES, (rows,))


_INSERT_FORETOLD = """
INSERT INTO foretold (workspace_id, prediction_id, seq, probability, is_hit, ended_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.probability, r.is_hit, r.ended_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, seq bigint, probability double precision, is_hit boolean,
    ended_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING
"""


async def insert_foretold(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note what became of forecasts, each once (PredictionResolved)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_FORETOLD, (rows,))


_UPSERT_FORETOLD = """
INSERT INTO foretold (workspace_id, prediction_id, seq, probability, is_hit, ended_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.probability, r.is_hit, r.ended_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, seq bigint, probability double precision, is_hit boolean,
    ended_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO UPDATE SET ended_at = excluded.ended_at
"""


async def upsert_foretold(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note what is kept of purged forecasts; of a known one only the end of its window, which its event may not have named
    (PredictionsPurged).
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_FORETOLD, (rows,))


_FORGET_FORETOLD = """
DELETE FROM foretold AS old
WHERE old.workspace_id = $1 AND NOT old.prediction_id = ANY($2::text[])
  AND old.seq < (
    SELECT f.seq FROM foretold AS f
    WHERE f.workspace_id = $1 AND f.is_hit IS NOT NULL
    ORDER BY f.seq DESC OFFSET $3::bigint - 1 LIMIT 1)
"""


async def forget_foretold(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    kept_ids: list[str],
    most: int,
) -> None:
    """Forget what became of all but a workspace's last forecasts and these (PredictionsPurged); nothing while there are
    fewer. A replay knows fewer than we did: what it forgets, we forgot.
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_FORETOLD, (workspace_id, kept_ids, most))


_LIST_CALIBRATIONS = """
SELECT w.workspace_id::text AS workspace_id, coalesce(sum(f.weight) FILTER (WHERE f.is_hit), 0)::double precision AS n_hits,
       coalesce(sum(f.weight * f.probability), 0)::double precision AS n_foretold
FROM unnest($1::text[]) AS w(workspace_id)
CROSS JOIN LATERAL (
    SELECT o.probability, o.is_hit,
           power($2::double precision, (row_number() OVER (ORDER BY o.seq DESC) - 1)::double precision)
               AS weight
    FROM foretold AS o
    WHERE o.workspace_id = w.workspace_id AND o.is_hit IS NOT NULL
      AND o.ended_at <= $3::timestamptz
    ORDER BY o.seq DESC LIMIT $4::bigint) AS f
GROUP BY w.workspace_id
ORDER BY w.workspace_id
"""


async def list_calibrations(
    conn: AsyncConnection[Any],
    *,
    workspace_ids: list[str],
    fading: float,
    ended_by: datetime,
    most: int,
) -> list[ListCalibrationsRow]:
    """How the last forecasts of these workspaces came true whose window had ended by a moment: hits, and the sum of their
    probabilities, each weighing less with every later one.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(ListCalibrationsRow)) as cursor:
        await cursor.execute(_LIST_CALIBRATIONS, (workspace_ids, fading, ended_by, most))
        fetched: list[ListCalibrationsRow] = await cursor.fetchall()
        return fetched


_UPSERT_FAILURES = """
INSERT INTO failures (workspace_id, issue_id, pattern_id, occurred_at, environment, version)
SELECT r.workspace_id, r.issue_id, r.pattern_id, r.occurred_at, r.environment, r.version
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, pattern_id text, occurred_at timestamptz, environment text, version text)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, occurred_at = excluded.occurred_at, environment = excluded.environment,
    version = excluded.version
"""


async def upsert_failures(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write when patterns failed (IssuesLinked); an issue that was linked anew is where it was linked last."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_FAILURES, (rows,))


_DELETE_FAILURES = """
DELETE FROM failures
WHERE workspace_id = $1 AND pattern_id = $2
  AND issue_id = ANY($3::text[])
"""


async def delete_failures(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    issue_ids: list[str],
) -> None:
    """Take issues out of a pattern (IssueUnlinked, PatternSplit)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_FAILURES, (workspace_id, pattern_id, issue_ids))


_MOVE_FAILURES = """
UPDATE failures SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_failures(
    conn: AsyncConnection[Any],
    *,
    target_id: str,
    workspace_id: str,
    source_id: str,
) -> None:
    """Move all failures into the pattern that remains (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_FAILURES, (target_id, workspace_id, source_id))


_FIND_FIXES = """
SELECT f.workspace_id, f.fix_id, f.pattern_id, f.fixed_at, f.environment, f.version, f.recommendation_ids, f.note,
       f.standing, f.ended_as, f.inputs, f.due_at, f.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, fix_id text)
JOIN fixes AS f ON f.workspace_id = r.workspace_id AND f.fix_id = r.fix_id
ORDER BY f.workspace_id, f.fix_id
"""


async def find_fixes(conn: AsyncConnection[Any], *, keys: str) -> list[FixesRow]:
    """The fixes with these ids, those that are known."""
    async with AsyncRawCursor(conn, row_factory=args_row(FixesRow)) as cursor:
        await cursor.execute(_FIND_FIXES, (keys,))
        fetched: list[FixesRow] = await cursor.fetchall()
        return fetched


_UPSERT_FIXES = """
INSERT INTO fixes (workspace_id, fix_id, pattern_id, fixed_at, environment, version, recommendation_ids, note, standing,
                   ended_as, inputs, due_at, seq)
SELECT r.workspace_id, r.fix_id, r.pattern_id, r.fixed_at, r.environment, r.version, r.recommendation_ids, r.note,
       r.standing, r.ended_as, r.inputs, r.due_at, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, fix_id text, pattern_id text, fixed_at timestamptz, environment text, version text,
    recommendation_ids text, note text, standing text, ended_as text, inputs text, due_at timestamptz, seq bigint)
ON CONFLICT (workspace_id, fix_id) DO UPDATE SET
    note = excluded.note, standing = excluded.standing, ended_as = excluded.ended_as, inputs = excluded.inputs,
    due_at = excluded.due_at, seq = excluded.seq
"""


async def upsert_fixes(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the newest state of each fix of a batch (every event of a fix)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_FIXES, (rows,))


_LIST_FIXES_OF_PATTERNS = """
SELECT f.workspace_id, f.fix_id, f.pattern_id, f.fixed_at, f.environment, f.version, f.recommendation_ids, f.note,
       f.standing, f.ended_as, f.inputs, f.due_at, f.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
JOIN fixes AS f ON f.workspace_id = r.workspace_id AND f.pattern_id = r.pattern_id
ORDER BY f.workspace_id, f.pattern_id, f.fixed_at, f.fix_id
"""


async def list_fixes_of_patterns(conn: AsyncConnection[Any], *, keys: str) -> list[FixesRow]:
    """All fixes of these patterns, each pattern's in the order in which they were made."""
    async with AsyncRawCursor(conn, row_factory=args_row(FixesRow)) as cursor:
        await cursor.execute(_LIST_FIXES_OF_PATTERNS, (keys,))
        fetched: list[FixesRow] = await cursor.fetchall()
        return fetched


_LIST_FAILURES = """
SELECT workspace_id, issue_id, pattern_id, occurred_at, environment, version FROM failures
WHERE workspace_id = $1 AND pattern_id = $2
ORDER BY occurred_at DESC, issue_id
LIMIT $3::bigint
"""


async def list_failures(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    n_most: int,
) -> list[FailuresRow]:
    """When a pattern failed, and where; the newest where there are very many."""
    async with AsyncRawCursor(conn, row_factory=args_row(FailuresRow)) as cursor:
        await cursor.execute(_LIST_FAILURES, (workspace_id, pattern_id, n_most))
        fetched: list[FailuresRow] = await cursor.fetchall()
        return fetched


_LIST_REFERENCE_FAILURES = """
SELECT c.pattern_id, f.at::timestamptz AS occurred_at
FROM (SELECT p.pattern_id FROM patterns AS p
      WHERE p.workspace_id = $1 AND p.status NOT IN ('candidate', 'merged')
        AND p.first_seen_at < $2::timestamptz
        AND NOT EXISTS (SELECT 1 FROM fixes AS x
                        WHERE x.workspace_id = p.workspace_id AND x.pattern_id = p.pattern_id)
      ORDER BY p.pattern_id LIMIT $3::bigint) AS c
CROSS JOIN LATERAL (
    SELECT DISTINCT date_trunc('hour', g.occurred_at) AS at FROM failures AS g
    WHERE g.workspace_id = $1 AND g.pattern_id = c.pattern_id
      AND g.occurred_at < $2::timestamptz
    ORDER BY 1 DESC LIMIT $4::bigint) AS f
ORDER BY c.pattern_id, f.at
"""


async def list_reference_failures(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    before: datetime,
    n_patterns: int,
    n_each: int,
) -> list[ReferenceFailure]:
    """When patterns failed that nobody fixed, one failure an hour of each at most: what a fixed one is held against."""
    async with AsyncRawCursor(conn, row_factory=args_row(ReferenceFailure)) as cursor:
        await cursor.execute(_LIST_REFERENCE_FAILURES, (workspace_id, before, n_patterns, n_each))
        fetched: list[ReferenceFailure] = await cursor.fetchall()
        return fetched


_LIST_DUE_WORKSPACES = """
SELECT DISTINCT workspace_id FROM fixes WHERE due_at <= $1::timestamptz ORDER BY workspace_id
"""


async def list_due_workspaces(conn: AsyncConnection[Any], *, now: datetime) -> list[str]:
    """Workspaces with a proof whose window has ended."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_DUE_WORKSPACES, (now,))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_LIST_DUE_FIXES = """
SELECT workspace_id, pattern_id FROM fixes
WHERE due_at <= $1::timestamptz AND workspace_id = ANY($2::text[])
ORDER BY due_at, workspace_id, fix_id LIMIT $3::bigint
"""


async def list_due_fixes(
    conn: AsyncConnection[Any],
    *,
    now: datetime,
    workspace_ids: list[str],
    n_most: int,
) -> list[PatternOfFix]:
    """Patterns of these workspaces whose proof's window has ended."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternOfFix)) as cursor:
        await cursor.execute(_LIST_DUE_FIXES, (now, workspace_ids, n_most))
        fetched: list[PatternOfFix] = await cursor.fetchall()
        return fetched


_LIST_BROKEN_FIXES = """
SELECT workspace_id, pattern_id FROM fixes
WHERE standing = 'broken' AND fixed_at > $1::timestamptz
ORDER BY workspace_id, fix_id
"""


async def list_broken_fixes(conn: AsyncConnection[Any], *, since: datetime) -> list[PatternOfFix]:
    """Patterns whose fix was broken and is still counted in the ledger."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternOfFix)) as cursor:
        await cursor.execute(_LIST_BROKEN_FIXES, (since,))
        fetched: list[PatternOfFix] = await cursor.fetchall()
        return fetched


_LIST_PROVED_ON_OTHER_TERMS = """
SELECT f.workspace_id, f.pattern_id
FROM fixes AS f LEFT JOIN workspaces AS w ON w.workspace_id = f.workspace_id
WHERE f.due_at IS NOT NULL
  AND ($1::text IS NULL OR f.workspace_id = $1::text)
  AND ((f.inputs::json ->> 'level')::double precision
         <> coalesce(w.proof_confidence, $2::double precision)
    OR (f.inputs::json ->> 'least_days')::integer
         <> coalesce(w.proof_window_days, $3::integer)
    OR (f.inputs::json ->> 'most_days')::integer
         <> greatest(coalesce(w.proof_window_days, $3::integer),
                     coalesce(w.proof_window_max_days, $4::integer)))
ORDER BY f.workspace_id, f.fix_id
"""


async def list_proved_on_other_terms(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str | None,
    level: float,
    least_days: int,
    most_days: int,
) -> list[PatternOfFix]:
    """Patterns whose fix is being proved on other terms than its workspace has now, of this workspace; NULL: of all."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternOfFix)) as cursor:
        await cursor.execute(_LIST_PROVED_ON_OTHER_TERMS, (workspace_id, level, least_days, most_days))
        fetched: list[PatternOfFix] = await cursor.fetchall()
        return fetched


_LIST_RECOMMENDATIONS_OF_PATTERNS = """
SELECT m.workspace_id, m.recommendation_id, m.pattern_id, m.play_id, m.type, m.effort, m.impact, m.status, m.score,
       m.n_steps, m.done_steps, m.implemented_at, m.environment, m.version, m.seq
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


_LIST_WORKSPACES = """
SELECT workspace_id, confidence_threshold, proof_window_days, proof_window_max_days, proof_confidence, plays_seq
FROM workspaces
WHERE workspace_id = ANY($1::text[])
ORDER BY workspace_id
"""


async def list_workspaces(conn: AsyncConnection[Any], *, workspace_ids: list[str]) -> list[WorkspacesRow]:
    """What is known of those of these workspaces that have rows."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspacesRow)) as cursor:
        await cursor.execute(_LIST_WORKSPACES, (workspace_ids,))
        fetched: list[WorkspacesRow] = await cursor.fetchall()
        return fetched


_LIST_TRACK_RECORDS = """
SELECT m.workspace_id, m.type, m.effort,
       (count(*) FILTER (WHERE f.standing = 'verified'))::bigint AS n_verified,
       (count(*) FILTER (WHERE f.standing = 'broken'))::bigint AS n_broken
FROM fixes AS f
CROSS JOIN LATERAL json_array_elements_text(f.recommendation_ids::json) AS e(recommendation_id)
JOIN recommendations AS m ON m.workspace_id = f.workspace_id AND m.recommendation_id = e.recommendation_id
WHERE f.workspace_id = ANY($1::text[]) AND f.standing IN ('verified', 'broken')
GROUP BY m.workspace_id, m.type, m.effort
ORDER BY m.workspace_id, m.type, m.effort
"""


async def list_track_records(
    conn: AsyncConnection[Any],
    *,
    workspace_ids: list[str],
) -> list[ListTrackRecordsRow]:
    """What became of these workspaces' implemented fixes, by type and effort; those without a verdict do not count."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListTrackRecordsRow)) as cursor:
        await cursor.execute(_LIST_TRACK_RECORDS, (workspace_ids,))
        fetched: list[ListTrackRecordsRow] = await cursor.fetchall()
        return fetched


_UPSERT_PLAYS = """
INSERT INTO plays (workspace_id, play_id, play)
SELECT r.workspace_id, r.play_id, r.play
FROM json_to_recordset($1::json) AS r(workspace_id text, play_id text, play text)
ON CONFLICT (workspace_id, play_id) DO UPDATE SET play = excluded.play
"""


async def upsert_plays(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write a batch's plays of workspaces' own, whole (PlayDefined)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PLAYS, (rows,))


_DELETE_PLAYS = """
DELETE FROM plays AS p USING json_to_recordset($1::json) AS r(workspace_id text, play_id text)
WHERE p.workspace_id = r.workspace_id AND p.play_id = r.play_id
"""


async def delete_plays(conn: AsyncConnection[Any], *, keys: str) -> None:
    """Take plays away (PlayWithdrawn)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_PLAYS, (keys,))


_UPSERT_PLAYS_SEQS = """
INSERT INTO workspaces (workspace_id, plays_seq)
SELECT r.workspace_id, r.plays_seq
FROM json_to_recordset($1::json) AS r(workspace_id text, plays_seq bigint)
ON CONFLICT (workspace_id) DO UPDATE SET plays_seq = excluded.plays_seq
"""


async def upsert_plays_seqs(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note the last event of each workspace's own plays."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PLAYS_SEQS, (rows,))


_LIST_PLAYS = """
SELECT play FROM plays WHERE workspace_id = $1 ORDER BY play_id
"""


async def list_plays(conn: AsyncConnection[Any], *, workspace_id: str) -> list[str]:
    """A workspace's own plays."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_PLAYS, (workspace_id,))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_FIND_OWN_PLAY = """
SELECT w.plays_seq, (SELECT count(*) FROM plays AS n WHERE n.workspace_id = w.workspace_id)::bigint AS n_plays, p.play
FROM workspaces AS w LEFT JOIN plays AS p ON p.workspace_id = w.workspace_id AND p.play_id = $1
WHERE w.workspace_id = $2 LIMIT 1
"""


async def find_own_play(
    conn: AsyncConnection[Any],
    *,
    play_id: str,
    workspace_id: str,
) -> list[FindOwnPlayRow]:
    """What deciding on a workspace's own plays needs: how many there are, the one with an id, and their last event."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindOwnPlayRow)) as cursor:
        await cursor.execute(_FIND_OWN_PLAY, (play_id, workspace_id))
        fetched: list[FindOwnPlayRow] = await cursor.fetchall()
        return fetched


_UPSERT_ABSTENTIONS = """
INSERT INTO abstentions (workspace_id, pattern_id, best_play_id, best_fit, seq)
SELECT r.workspace_id, r.pattern_id, r.best_play_id, r.best_fit, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, best_play_id text, best_fit double precision, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    best_play_id = excluded.best_play_id, best_fit = excluded.best_fit, seq = excluded.seq
"""


async def upsert_abstentions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what was said of patterns without a fitting play, the latest (RecommendationWithheld)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_ABSTENTIONS, (rows,))


_FIND_ABSTENTIONS = """
SELECT a.workspace_id, a.pattern_id, a.best_play_id, a.best_fit, a.seq
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
JOIN abstentions AS a ON a.workspace_id = r.workspace_id AND a.pattern_id = r.pattern_id
ORDER BY a.workspace_id, a.pattern_id
"""


async def find_abstentions(conn: AsyncConnection[Any], *, keys: str) -> list[AbstentionsRow]:
    """What was said of these patterns when no play fitted."""
    async with AsyncRawCursor(conn, row_factory=args_row(AbstentionsRow)) as cursor:
        await cursor.execute(_FIND_ABSTENTIONS, (keys,))
        fetched: list[AbstentionsRow] = await cursor.fetchall()
        return fetched
