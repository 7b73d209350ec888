"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class WorkspacesRow(Struct, frozen=True):
    """One row of the table workspaces."""

    workspace_id: str
    confidence_threshold: float | None
    minimum_cluster_size: int | None
    newest_at: datetime | None


class PatternsRow(Struct, frozen=True):
    """One row of the table patterns."""

    workspace_id: str
    pattern_id: str
    status: str
    name: str
    is_named_by_person: bool
    version: int
    described_count: int
    watched_since: datetime | None
    status_seq: int
    merged_into: str
    mttr_seconds: float | None


class SummaryOfPattern(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    n_members: int
    score_sum: int
    first_seen_at: datetime
    last_seen_at: datetime


class TallyOfPattern(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    kind: str
    value: str | None
    n: int


class ExemplarOfIssue(Struct, frozen=True):
    """One row of a result."""

    seq: int
    issue_id: str
    pattern_id: str | None
    grouping_key: str
    title: str
    exemplar: str


class ConstraintsRow(Struct, frozen=True):
    """One row of the table constraints."""

    workspace_id: str
    grouping_key: str
    pattern_id: str
    kind: str
    issue_id: str
    decided_by: str | None
    decided_at: datetime


class Mate(Struct, frozen=True):
    """One row of a result."""

    issue_id: str


class VerdictsRow(Struct, frozen=True):
    """One row of the table verdicts."""

    workspace_id: str
    pattern_id: str
    fixed_at: datetime
    to_status: str
    reason: str
    seq: int


class RecommendationsRow(Struct, frozen=True):
    """One row of the table recommendations."""

    workspace_id: str
    recommendation_id: str
    pattern_id: str
    status: str
    changed_at: datetime
    seq: int


class UndecidedIssue(Struct, frozen=True):
    """One row of a result."""

    issue_id: str


class IssueWithMembership(Struct, frozen=True):
    """One row of a result."""

    issue_id: str
    title: str
    source: str
    severity: str
    service: str | None
    component: str | None
    error_type: str | None
    team: str | None
    environment: str | None
    version: str | None
    occurred_at: datetime
    pattern_id: str | None
    grouping_key: str | None
    score: float | None
    linked_severity: str | None


class SeenSpan(Struct, frozen=True):
    """One row of a result."""

    first_seen_at: datetime | None
    last_seen_at: datetime | None


class PatternOfIssue(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str


class PatternWithEnd(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str


class LifeOfIssue(Struct, frozen=True):
    """One row of a result."""

    occurred_at: datetime
    ended_at: datetime | None


class FindClusteringRow(Struct, frozen=True):
    """One row of find_clustering."""

    seq: int
    clusters: str


class HourOfPattern(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    hour: int


class GroupingsRow(Struct, frozen=True):
    """One row of the table groupings."""

    workspace_id: str
    seq: int
    n_fits: int
    fitted_at: datetime | None
    active_id: str
    active_linker: str | None


class FindLinkerRow(Struct, frozen=True):
    """One row of find_linker."""

    is_better: bool
    linker: str


class DecisionsInForce(Struct, frozen=True):
    """One row of a result."""

    n: int
    latest_at: datetime | None


class MergeOfPattern(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    merged_into: str


class TextWithMembership(Struct, frozen=True):
    """One row of a result."""

    exemplar: str
    issue_id: str
    pattern_id: str | None
    grouping_key: str
    score: float
    severity: str
    occurred_at: datetime
    service: str | None
    component: str | None
    error_type: str | None
    team: str | None
    environment: str | None
    source: str


_UPSERT_WORKSPACES = """
INSERT INTO workspaces (workspace_id, confidence_threshold, minimum_cluster_size, newest_at)
SELECT r.workspace_id, r.confidence_threshold, r.minimum_cluster_size, r.newest_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, confidence_threshold double precision, minimum_cluster_size integer, newest_at timestamptz)
ON CONFLICT (workspace_id) DO UPDATE SET
    confidence_threshold = coalesce(excluded.confidence_threshold, workspaces.confidence_threshold),
    minimum_cluster_size = coalesce(excluded.minimum_cluster_size, workspaces.minimum_cluster_size),
    newest_at = greatest(excluded.newest_at, workspaces.newest_at)
"""


async def upsert_workspaces(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the settings that a person changed and the newest event time of each workspace (WorkspaceSettingsChanged, IssueReported)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_WORKSPACES, (rows,))


_INSERT_ISSUES = """
INSERT INTO issues (workspace_id, issue_id, title, source, severity, service, component, error_type, team, environment, version, occurred_at,
    ended_at)
SELECT r.workspace_id, r.issue_id, r.title, r.source, r.severity, r.service, r.component, r.error_type, r.team, r.environment, r.version, r.occurred_at,
    r.ended_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, title text, source text, severity text, service text, component text,
    error_type text, team text, environment text, version text, occurred_at timestamptz, ended_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO NOTHING
"""


async def insert_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write new issues (IssueReported); an issue is reported only once."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ISSUES, (rows,))


_END_ISSUES = """
UPDATE issues SET ended_at = r.ended_at
FROM json_to_recordset($1::json) AS r(workspace_id text, issue_id text, ended_at timestamptz)
WHERE issues.workspace_id = r.workspace_id AND issues.issue_id = r.issue_id
"""


async def end_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write when issues ended, or that they are open again (IssueUpdated, IssueClosed, IssueRestored)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_ISSUES, (rows,))


_KEEP_REMAINDERS = """
INSERT INTO issues (workspace_id, issue_id, title, source, severity, service, component, error_type, team, environment, version,
    occurred_at, ended_at)
SELECT m.workspace_id, r.remainder_id, '', r.source, r.severity, r.service, r.component, r.error_type, r.team,
    r.environment, r.version, r.occurred_at, r.ended_at
FROM json_to_recordset($1::json) AS r(
    issue_id text, remainder_id text, source text, severity text, service text, component text, error_type text,
    team text, environment text, version text, occurred_at timestamptz, ended_at timestamptz)
JOIN members AS m ON m.workspace_id = $2 AND m.issue_id = r.issue_id
ON CONFLICT (workspace_id, issue_id) DO NOTHING
"""


async def keep_remainders(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Keep of purged issues what counts need, under ids of their own; nothing of one in no pattern ever (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_KEEP_REMAINDERS, (issues, workspace_id))


_DELETE_ISSUES = """
DELETE FROM issues WHERE workspace_id = $1 AND issue_id = ANY($2::text[])
"""


async def delete_issues(conn: AsyncConnection[Any], *, workspace_id: str, issue_ids: list[str]) -> None:
    """Delete purged issues (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_ISSUES, (workspace_id, issue_ids))


_RENAME_MEMBERS = """
UPDATE members AS m SET issue_id = r.remainder_id
FROM json_to_recordset($2::json) AS r(issue_id text, remainder_id text)
WHERE m.workspace_id = $1 AND m.issue_id = r.issue_id
"""


async def rename_members(conn: AsyncConnection[Any], *, workspace_id: str, issues: str) -> None:
    """Let the memberships of purged issues follow to the ids of what is kept of them (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RENAME_MEMBERS, (workspace_id, issues))


_RENAME_EXEMPLARS = """
UPDATE exemplars AS e SET issue_id = r.remainder_id
FROM json_to_recordset($2::json) AS r(issue_id text, remainder_id text)
WHERE e.workspace_id = $1 AND e.issue_id = r.issue_id
"""


async def rename_exemplars(conn: AsyncConnection[Any], *, workspace_id: str, issues: str) -> None:
    """Let the texts of purged issues follow to the ids of what is kept of them (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RENAME_EXEMPLARS, (workspace_id, issues))


_UPSERT_MEMBERS = """
INSERT INTO members (workspace_id, issue_id, pattern_id, grouping_key, score, severity, occurred_at)
SELECT r.workspace_id, r.issue_id, r.pattern_id, r.grouping_key, r.score, r.severity, r.occurred_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, pattern_id text, grouping_key text, score double precision,
    severity text, occurred_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, grouping_key = excluded.grouping_key, score = excluded.score,
    severity = excluded.severity
WHERE members.pattern_id IS NULL
"""


async def upsert_members(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write memberships (IssuesLinked); an issue that has a pattern keeps it until it leaves."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_MEMBERS, (rows,))


_INSERT_EXEMPLARS = """
INSERT INTO exemplars (workspace_id, issue_id, seq, exemplar)
SELECT r.workspace_id, r.issue_id, r.seq, r.exemplar
FROM json_to_recordset($1::json) AS r(workspace_id text, issue_id text, seq bigint, exemplar text)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET seq = excluded.seq, exemplar = excluded.exemplar
WHERE exemplars.seq < excluded.seq
"""


async def insert_exemplars(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write texts of the similarity index; one that had expired is entered anew, at the end (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_EXEMPLARS, (rows,))


_DROP_EXPIRED_EXEMPLARS = """
DELETE FROM exemplars AS e
WHERE e.workspace_id = $1 AND (strpos(e.exemplar, E'\\n') > 0) = $2::boolean
  AND e.seq <= (
    SELECT o.seq FROM exemplars AS o
    WHERE o.workspace_id = $1 AND (strpos(o.exemplar, E'\\n') > 0) = $2::boolean
    ORDER BY o.seq DESC OFFSET $3 LIMIT 1)
"""


async def drop_expired_exemplars(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    is_written: bool,
    n: int,
) -> None:
    """Delete the texts of one kind that have expired: all but the latest n, as the index does (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_EXPIRED_EXEMPLARS, (workspace_id, is_written, n))


_INSERT_PATTERNS = """
INSERT INTO patterns (workspace_id, pattern_id, status, name, is_named_by_person, version, described_count, status_seq, merged_into)
SELECT r.workspace_id, r.pattern_id, 'candidate', '', false, 0, 0, 0, ''
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
ON CONFLICT (workspace_id, pattern_id) DO NOTHING
"""


async def insert_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Begin the patterns that have their first issue (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PATTERNS, (rows,))


_UPDATE_PATTERNS = """
UPDATE patterns SET
    version = r.version,
    status = coalesce(r.status, patterns.status),
    name = coalesce(r.name, patterns.name),
    is_named_by_person = coalesce(r.is_named_by_person, patterns.is_named_by_person),
    described_count = coalesce(r.described_count, patterns.described_count),
    watched_since = coalesce(r.watched_since, patterns.watched_since),
    status_seq = coalesce(r.status_seq, patterns.status_seq),
    mttr_seconds = coalesce(r.mttr_seconds, patterns.mttr_seconds)
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, version bigint, status text, name text, is_named_by_person boolean,
    described_count bigint, watched_since timestamptz, status_seq bigint, mttr_seconds double precision)
WHERE patterns.workspace_id = r.workspace_id AND patterns.pattern_id = r.pattern_id
"""


async def update_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Change what a batch says of patterns; what it does not mention stays (every event of a pattern)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_PATTERNS, (rows,))


_RELEASE_MEMBERS = """
UPDATE members SET pattern_id = NULL
WHERE workspace_id = $1 AND pattern_id = $2
  AND issue_id = ANY($3::text[])
"""


async def release_members(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
    issue_ids: list[str],
) -> None:
    """Take issues out of a pattern (IssueUnlinked, PatternSplit)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RELEASE_MEMBERS, (workspace_id, pattern_id, issue_ids))


_DROP_MUSTS = """
DELETE FROM constraints WHERE workspace_id = $1 AND grouping_key = $2 AND kind = 'must_link'
"""


async def drop_musts(conn: AsyncConnection[Any], *, workspace_id: str, grouping_key: str) -> None:
    """Drop every "must" on a key: a person has decided anew (LinkConstrained)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_MUSTS, (workspace_id, grouping_key))


_UPSERT_CONSTRAINT = """
INSERT INTO constraints (workspace_id, grouping_key, pattern_id, kind, issue_id, decided_by, decided_at)
VALUES ($1, $2, $3, $4, $5, $6::text, $7::timestamptz)
ON CONFLICT (workspace_id, grouping_key, pattern_id) DO UPDATE SET
    kind = excluded.kind, issue_id = excluded.issue_id, decided_by = excluded.decided_by,
    decided_at = excluded.decided_at
"""


async def upsert_constraint(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    grouping_key: str,
    pattern_id: str,
    kind: str,
    issue_id: str,
    decided_by: str | None,
    decided_at: datetime,
) -> None:
    """Write a person's decision on a key and a pattern; the latest one counts (LinkConstrained)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_CONSTRAINT, (workspace_id, grouping_key, pattern_id, kind, issue_id, decided_by, decided_at))


_MOVE_MEMBERS = """
UPDATE members SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_members(
    conn: AsyncConnection[Any],
    *,
    target_id: str | None,
    workspace_id: str,
    source_id: str | None,
) -> None:
    """Move all members into the pattern that remains (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_MEMBERS, (target_id, workspace_id, source_id))


_DROP_MERGED_NEVERS = """
DELETE FROM constraints AS c
WHERE c.workspace_id = $1 AND c.kind = 'cannot_link'
  AND c.pattern_id IN ($2, $3)
  AND (EXISTS (SELECT 1 FROM members AS m WHERE m.workspace_id = c.workspace_id
               AND m.pattern_id IN ($2, $3) AND m.pattern_id <> c.pattern_id
               AND m.grouping_key = c.grouping_key)
       OR EXISTS (SELECT 1 FROM constraints AS o WHERE o.workspace_id = c.workspace_id
                  AND o.pattern_id IN ($2, $3) AND o.pattern_id <> c.pattern_id
                  AND o.grouping_key = c.grouping_key AND o.kind = 'must_link'))
"""


async def drop_merged_nevers(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    target_id: str,
    source_id: str,
) -> None:
    """End the "nevers" about one part on keys that the other part brings, while members are where they were (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_MERGED_NEVERS, (workspace_id, target_id, source_id))


_DROP_SHADOWED_CONSTRAINTS = """
DELETE FROM constraints AS c
WHERE c.workspace_id = $1 AND c.pattern_id = $2 AND c.kind = 'cannot_link'
  AND EXISTS (SELECT 1 FROM constraints AS t WHERE t.workspace_id = c.workspace_id
              AND t.pattern_id = $3 AND t.grouping_key = c.grouping_key)
"""


async def drop_shadowed_constraints(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    source_id: str,
    target_id: str,
) -> None:
    """Drop the "nevers" of the source that the target has as well (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_SHADOWED_CONSTRAINTS, (workspace_id, source_id, target_id))


_MOVE_CONSTRAINTS = """
UPDATE constraints SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_constraints(
    conn: AsyncConnection[Any],
    *,
    target_id: str,
    workspace_id: str,
    source_id: str,
) -> None:
    """Move the decisions of the source to the pattern that remains (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_CONSTRAINTS, (target_id, workspace_id, source_id))


_MOVE_RECOMMENDATIONS = """
UPDATE recommendations SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_recommendations(
    conn: AsyncConnection[Any],
    *,
    target_id: str,
    workspace_id: str,
    source_id: str,
) -> None:
    """Move the recommendations of the source to the pattern that remains (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_RECOMMENDATIONS, (target_id, workspace_id, source_id))


_NOTE_MERGE = """
UPDATE patterns SET merged_into = $1
WHERE workspace_id = $2
  AND (pattern_id = $3 OR merged_into = $3)
"""


async def note_merge(
    conn: AsyncConnection[Any],
    *,
    target_id: str,
    workspace_id: str,
    source_id: str,
) -> None:
    """Note where a merged pattern went, and those that were merged into it before (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_MERGE, (target_id, workspace_id, source_id))


_UPSERT_RECOMMENDATION = """
INSERT INTO recommendations (workspace_id, recommendation_id, pattern_id, status, changed_at, seq)
SELECT $1, $2,
       coalesce((SELECT nullif(p.merged_into, '') FROM patterns AS p
                 WHERE p.workspace_id = $1 AND p.pattern_id = $3), $3),
       $4, $5::timestamptz, $6::bigint
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, status = excluded.status, changed_at = excluded.changed_at, seq = excluded.seq
"""


async def upsert_recommendation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    recommendation_id: str,
    pattern_id: str,
    status: str,
    changed_at: datetime,
    seq: int,
) -> None:
    """Write where a recommendation stands; one of a merged pattern counts for the pattern that remains (RecommendationStatusChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_RECOMMENDATION, (workspace_id, recommendation_id, pattern_id, status, changed_at, seq))


_UPSERT_VERDICTS = """
INSERT INTO verdicts (workspace_id, pattern_id, fixed_at, to_status, reason, seq)
SELECT r.workspace_id, r.pattern_id, r.fixed_at, r.to_status, r.reason, r.seq
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, fixed_at timestamptz, to_status text, reason text, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    fixed_at = excluded.fixed_at, to_status = excluded.to_status, reason = excluded.reason, seq = excluded.seq
"""


async def upsert_verdicts(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the latest verdict on a fix of each pattern (FixVerified, FixBroken, FixInconclusive)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_VERDICTS, (rows,))


_LIST_WORKSPACES = """
SELECT workspace_id, confidence_threshold, minimum_cluster_size, newest_at FROM workspaces ORDER BY workspace_id
"""


async def list_workspaces(conn: AsyncConnection[Any]) -> list[WorkspacesRow]:
    """Every workspace with its settings."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspacesRow)) as cursor:
        await cursor.execute(_LIST_WORKSPACES)
        fetched: list[WorkspacesRow] = await cursor.fetchall()
        return fetched


_LIST_PATTERNS = """
SELECT workspace_id, pattern_id, status, name, is_named_by_person, version, described_count, watched_since, status_seq, merged_into, mttr_seconds FROM patterns WHERE workspace_id = $1 ORDER BY pattern_id
"""


async def list_patterns(conn: AsyncConnection[Any], *, workspace_id: str) -> list[PatternsRow]:
    """Every pattern of a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternsRow)) as cursor:
        await cursor.execute(_LIST_PATTERNS, (workspace_id,))
        fetched: list[PatternsRow] = await cursor.fetchall()
        return fetched


_SUMMARIZE_MEMBERS = """
SELECT m.pattern_id::text AS pattern_id, count(*)::bigint AS n_members,
       sum(round(m.score * 10000))::bigint AS score_sum,
       min(m.occurred_at)::timestamptz AS first_seen_at, max(m.occurred_at)::timestamptz AS last_seen_at
FROM members AS m
WHERE m.workspace_id = $1 AND m.pattern_id IS NOT NULL
GROUP BY m.pattern_id
"""


async def summarize_members(conn: AsyncConnection[Any], *, workspace_id: str) -> list[SummaryOfPattern]:
    """Sums over the members of each pattern of a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(SummaryOfPattern)) as cursor:
        await cursor.execute(_SUMMARIZE_MEMBERS, (workspace_id,))
        fetched: list[SummaryOfPattern] = await cursor.fetchall()
        return fetched


_TALLY_MEMBERS = """
SELECT m.pattern_id::text AS pattern_id,
       (CASE GROUPING(m.grouping_key, m.severity, (m.occurred_at AT TIME ZONE 'UTC')::date,
                      to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24'), i.source, i.service, i.component,
                      i.error_type, i.team, i.environment)
            WHEN 511 THEN 'key' WHEN 767 THEN 'severity' WHEN 895 THEN 'day' WHEN 959 THEN 'hour_of_day'
            WHEN 991 THEN 'source' WHEN 1007 THEN 'service' WHEN 1015 THEN 'component' WHEN 1019 THEN 'error_type'
            WHEN 1021 THEN 'team' ELSE 'environment' END)::text AS kind,
       coalesce(m.grouping_key, m.severity,
                ((m.occurred_at AT TIME ZONE 'UTC')::date - date '1970-01-01')::text,
                to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24'), i.source, i.service, i.component, i.error_type,
                i.team, i.environment)::text AS value,
       count(*)::bigint AS n
FROM members AS m JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.workspace_id = $1 AND m.pattern_id IS NOT NULL
GROUP BY m.pattern_id, GROUPING SETS (
    (m.grouping_key), (m.severity), ((m.occurred_at AT TIME ZONE 'UTC')::date),
    (to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24')), (i.source), (i.service), (i.component), (i.error_type),
    (i.team), (i.environment))
"""


async def tally_members(conn: AsyncConnection[Any], *, workspace_id: str) -> list[TallyOfPattern]:
    """How many members of each pattern have each key, severity, day and dimension."""
    async with AsyncRawCursor(conn, row_factory=args_row(TallyOfPattern)) as cursor:
        await cursor.execute(_TALLY_MEMBERS, (workspace_id,))
        fetched: list[TallyOfPattern] = await cursor.fetchall()
        return fetched


_LIST_EXEMPLARS = """
SELECT e.seq, e.issue_id, m.pattern_id, m.grouping_key, i.title, e.exemplar
FROM exemplars AS e
JOIN members AS m ON m.workspace_id = e.workspace_id AND m.issue_id = e.issue_id
JOIN issues AS i ON i.workspace_id = e.workspace_id AND i.issue_id = e.issue_id
WHERE e.workspace_id = $1
ORDER BY e.seq
"""


async def list_exemplars(conn: AsyncConnection[Any], *, workspace_id: str) -> list[ExemplarOfIssue]:
    """The texts of the similarity index in the order of the log, with whose they are."""
    async with AsyncRawCursor(conn, row_factory=args_row(ExemplarOfIssue)) as cursor:
        await cursor.execute(_LIST_EXEMPLARS, (workspace_id,))
        fetched: list[ExemplarOfIssue] = await cursor.fetchall()
        return fetched


_LIST_CONSTRAINTS = """
SELECT workspace_id, grouping_key, pattern_id, kind, issue_id, decided_by, decided_at FROM constraints WHERE workspace_id = $1 ORDER BY grouping_key, pattern_id
"""


async def list_constraints(conn: AsyncConnection[Any], *, workspace_id: str) -> list[ConstraintsRow]:
    """Every decision of a person."""
    async with AsyncRawCursor(conn, row_factory=args_row(ConstraintsRow)) as cursor:
        await cursor.execute(_LIST_CONSTRAINTS, (workspace_id,))
        fetched: list[ConstraintsRow] = await cursor.fetchall()
        return fetched


_FIND_CONSTRAINTS = """
SELECT workspace_id, grouping_key, pattern_id, kind, issue_id, decided_by, decided_at FROM constraints
WHERE workspace_id = $1
  AND (grouping_key = ANY($2::text[]) OR pattern_id = ANY($3::text[]))
ORDER BY grouping_key, pattern_id
"""


async def find_constraints(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    grouping_keys: list[str],
    pattern_ids: list[str],
) -> list[ConstraintsRow]:
    """The decisions on some keys or about some patterns."""
    async with AsyncRawCursor(conn, row_factory=args_row(ConstraintsRow)) as cursor:
        await cursor.execute(_FIND_CONSTRAINTS, (workspace_id, grouping_keys, pattern_ids))
        fetched: list[ConstraintsRow] = await cursor.fetchall()
        return fetched


_LIST_MATES = """
SELECT issue_id FROM members
WHERE workspace_id = $1 AND pattern_id = $2
  AND grouping_key = $3 AND issue_id <> $4
ORDER BY occurred_at DESC, issue_id LIMIT $5
"""


async def list_mates(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
    grouping_key: str,
    issue_id: str,
    n: int,
) -> list[Mate]:
    """The newest other members of a pattern with a grouping key."""
    async with AsyncRawCursor(conn, row_factory=args_row(Mate)) as cursor:
        await cursor.execute(_LIST_MATES, (workspace_id, pattern_id, grouping_key, issue_id, n))
        fetched: list[Mate] = await cursor.fetchall()
        return fetched


_HAS_OTHERS = """
SELECT EXISTS (
    SELECT 1 FROM issues
    WHERE workspace_id = $1 AND issue_id <> $2)::boolean AS has_others
"""


async def has_others(conn: AsyncConnection[Any], *, workspace_id: str, issue_id: str) -> bool:
    """Whether a workspace has another issue than one."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_HAS_OTHERS, (workspace_id, issue_id))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("has_others gave no row")
        return fetched


_HAS_STRANGERS = """
SELECT EXISTS (
    SELECT 1 FROM members AS m
    WHERE m.workspace_id = $1 AND NOT EXISTS (
        SELECT 1 FROM issues AS i
        WHERE i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id))::boolean AS has_strangers
"""


async def has_strangers(conn: AsyncConnection[Any], *, workspace_id: str) -> bool:
    """Whether a workspace has a member whose issue is not there."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_HAS_STRANGERS, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("has_strangers gave no row")
        return fetched


_LIST_VERDICTS = """
SELECT workspace_id, pattern_id, fixed_at, to_status, reason, seq FROM verdicts WHERE workspace_id = $1 ORDER BY pattern_id
"""


async def list_verdicts(conn: AsyncConnection[Any], *, workspace_id: str) -> list[VerdictsRow]:
    """The latest verdict on a fix of each pattern."""
    async with AsyncRawCursor(conn, row_factory=args_row(VerdictsRow)) as cursor:
        await cursor.execute(_LIST_VERDICTS, (workspace_id,))
        fetched: list[VerdictsRow] = await cursor.fetchall()
        return fetched


_LIST_RECOMMENDATIONS = """
SELECT workspace_id, recommendation_id, pattern_id, status, changed_at, seq FROM recommendations WHERE workspace_id = $1 ORDER BY recommendation_id
"""


async def list_recommendations(conn: AsyncConnection[Any], *, workspace_id: str) -> list[RecommendationsRow]:
    """Every recommendation that somebody has touched."""
    async with AsyncRawCursor(conn, row_factory=args_row(RecommendationsRow)) as cursor:
        await cursor.execute(_LIST_RECOMMENDATIONS, (workspace_id,))
        fetched: list[RecommendationsRow] = await cursor.fetchall()
        return fetched


_LIST_UNDECIDED = """
SELECT i.issue_id FROM issues AS i
WHERE i.workspace_id = $1 AND NOT EXISTS (
    SELECT 1 FROM members AS m WHERE m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id)
ORDER BY i.issue_id
"""


async def list_undecided(conn: AsyncConnection[Any], *, workspace_id: str) -> list[UndecidedIssue]:
    """Issues that no decision has been stored for yet."""
    async with AsyncRawCursor(conn, row_factory=args_row(UndecidedIssue)) as cursor:
        await cursor.execute(_LIST_UNDECIDED, (workspace_id,))
        fetched: list[UndecidedIssue] = await cursor.fetchall()
        return fetched


_FIND_ISSUES = """
SELECT i.issue_id, i.title, i.source, i.severity, i.service, i.component, i.error_type, i.team, i.environment,
       i.version, i.occurred_at, m.pattern_id, m.grouping_key, m.score, m.severity AS linked_severity
FROM issues AS i
LEFT JOIN LATERAL (
    SELECT o.pattern_id, o.grouping_key, o.score, o.severity FROM members AS o
    WHERE o.workspace_id = i.workspace_id AND o.issue_id = i.issue_id
    LIMIT 1
) AS m ON true
WHERE i.workspace_id = $1 AND i.issue_id = ANY($2::text[])
ORDER BY i.issue_id
"""


async def find_issues(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    issue_ids: list[str],
) -> list[IssueWithMembership]:
    """Issues with their memberships, for a command on them; each by the primary keys, also on tables never analyzed."""
    async with AsyncRawCursor(conn, row_factory=args_row(IssueWithMembership)) as cursor:
        await cursor.execute(_FIND_ISSUES, (workspace_id, issue_ids))
        fetched: list[IssueWithMembership] = await cursor.fetchall()
        return fetched


_SPAN_WITHOUT = """
SELECT min(occurred_at)::timestamptz AS first_seen_at, max(occurred_at)::timestamptz AS last_seen_at
FROM members
WHERE workspace_id = $1 AND pattern_id = $2
  AND NOT issue_id = ANY($3::text[])
"""


async def span_without(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
    issue_ids: list[str],
) -> SeenSpan:
    """Earliest and latest event time of a pattern's members but some."""
    async with AsyncRawCursor(conn, row_factory=args_row(SeenSpan)) as cursor:
        await cursor.execute(_SPAN_WITHOUT, (workspace_id, pattern_id, issue_ids))
        fetched: SeenSpan | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("span_without gave no row")
        return fetched


_PATTERNS_OF_ISSUES = """
SELECT DISTINCT m.pattern_id::text AS pattern_id FROM members AS m
WHERE m.workspace_id = $1 AND m.issue_id = ANY($2::text[])
  AND m.pattern_id IS NOT NULL
ORDER BY 1
"""


async def patterns_of_issues(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    issue_ids: list[str],
) -> list[PatternOfIssue]:
    """The patterns of these issues."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternOfIssue)) as cursor:
        await cursor.execute(_PATTERNS_OF_ISSUES, (workspace_id, issue_ids))
        fetched: list[PatternOfIssue] = await cursor.fetchall()
        return fetched


_PATTERNS_WITH_ENDS = """
SELECT DISTINCT m.pattern_id::text AS pattern_id
FROM issues AS i JOIN members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id
WHERE i.workspace_id = $1 AND i.ended_at IS NOT NULL AND m.pattern_id IS NOT NULL
ORDER BY 1
"""


async def patterns_with_ends(conn: AsyncConnection[Any], *, workspace_id: str) -> list[PatternWithEnd]:
    """The patterns with an issue that has ended."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternWithEnd)) as cursor:
        await cursor.execute(_PATTERNS_WITH_ENDS, (workspace_id,))
        fetched: list[PatternWithEnd] = await cursor.fetchall()
        return fetched


_LIST_LIVES = """
SELECT m.occurred_at, i.ended_at
FROM members AS m JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.workspace_id = $1 AND m.pattern_id = $2
ORDER BY m.occurred_at DESC, m.issue_id LIMIT $3
"""


async def list_lives(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
    n: int,
) -> list[LifeOfIssue]:
    """When the latest members of a pattern happened and ended, the newest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(LifeOfIssue)) as cursor:
        await cursor.execute(_LIST_LIVES, (workspace_id, pattern_id, n))
        fetched: list[LifeOfIssue] = await cursor.fetchall()
        return fetched


_VERSION_OF = """
SELECT version FROM patterns WHERE workspace_id = $1 AND pattern_id = $2
"""


async def version_of(conn: AsyncConnection[Any], *, workspace_id: str, pattern_id: str) -> int | None:
    """Stream sequence of the last event of a pattern that the rows hold."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_VERSION_OF, (workspace_id, pattern_id))
        fetched: int | None = await cursor.fetchone()
        return fetched


_UPSERT_CLUSTERINGS = """
INSERT INTO clusterings (workspace_id, seq, clusters)
SELECT r.workspace_id, r.seq, r.clusters
FROM json_to_recordset($1::json) AS r(workspace_id text, seq bigint, clusters text)
ON CONFLICT (workspace_id) DO UPDATE SET seq = excluded.seq, clusters = excluded.clusters
"""


async def upsert_clusterings(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the latest clustering of each workspace (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_CLUSTERINGS, (rows,))


_FIND_CLUSTERING = """
SELECT seq, clusters FROM clusterings WHERE workspace_id = $1
"""


async def find_clustering(conn: AsyncConnection[Any], *, workspace_id: str) -> FindClusteringRow | None:
    """The latest clustering of a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindClusteringRow)) as cursor:
        await cursor.execute(_FIND_CLUSTERING, (workspace_id,))
        fetched: FindClusteringRow | None = await cursor.fetchone()
        return fetched


_LIST_HOURS = """
SELECT h.pattern_id::text AS pattern_id, h.hour::bigint AS hour FROM (
    SELECT f.pattern_id, f.hour, row_number() OVER (PARTITION BY f.pattern_id ORDER BY f.hour DESC) AS place FROM (
        SELECT DISTINCT m.pattern_id, floor(extract(epoch FROM m.occurred_at) / 3600)::bigint AS hour
        FROM members AS m
        WHERE m.workspace_id = $1 AND m.pattern_id = ANY($2::text[])
          AND m.occurred_at >= $3::timestamptz) AS f) AS h
WHERE h.place <= $4::bigint
ORDER BY 1, 2
"""


async def list_hours(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
    since: datetime,
    n: int,
) -> list[HourOfPattern]:
    """The hours since 1970 in which these patterns failed, since a time, of each the latest n."""
    async with AsyncRawCursor(conn, row_factory=args_row(HourOfPattern)) as cursor:
        await cursor.execute(_LIST_HOURS, (workspace_id, pattern_ids, since, n))
        fetched: list[HourOfPattern] = await cursor.fetchall()
        return fetched


_UPSERT_GROUPINGS = """
INSERT INTO groupings (workspace_id, seq, n_fits, fitted_at, active_id, active_linker)
SELECT r.workspace_id, r.seq, coalesce(r.n_fits, 0), r.fitted_at, coalesce(r.active_id, 'shipped'), r.active_linker
FROM json_to_recordset($1::json) AS r(
    workspace_id text, seq bigint, n_fits bigint, fitted_at timestamptz, active_id text, active_linker text)
ON CONFLICT (workspace_id) DO UPDATE SET
    seq = excluded.seq,
    n_fits = greatest(excluded.n_fits, groupings.n_fits),
    fitted_at = coalesce(excluded.fitted_at, groupings.fitted_at)
"""


async def upsert_groupings(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what became of the versions of each workspace (GroupingVersionFitted, GroupingVersionCompared, GroupingVersionActivated)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_GROUPINGS, (rows,))


_ACTIVATE_GROUPINGS = """
UPDATE groupings AS g SET active_id = r.active_id, active_linker = r.active_linker
FROM json_to_recordset($1::json) AS r(workspace_id text, active_id text, active_linker text)
WHERE g.workspace_id = r.workspace_id AND r.active_id IS NOT NULL
"""


async def activate_groupings(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Switch versions on (GroupingVersionActivated)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ACTIVATE_GROUPINGS, (rows,))


_INSERT_LINKERS = """
INSERT INTO linkers (workspace_id, version_id, is_better, linker)
SELECT r.workspace_id, r.version_id, r.is_better, r.linker
FROM json_to_recordset($1::json) AS r(workspace_id text, version_id text, is_better boolean, linker text)
ON CONFLICT (workspace_id, version_id) DO NOTHING
"""


async def insert_linkers(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the linkers that were fitted (GroupingVersionFitted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_LINKERS, (rows,))


_FIND_GROUPING = """
SELECT workspace_id, seq, n_fits, fitted_at, active_id, active_linker FROM groupings WHERE workspace_id = $1
"""


async def find_grouping(conn: AsyncConnection[Any], *, workspace_id: str) -> GroupingsRow | None:
    """The versions of a workspace, as far as the next event needs them."""
    async with AsyncRawCursor(conn, row_factory=args_row(GroupingsRow)) as cursor:
        await cursor.execute(_FIND_GROUPING, (workspace_id,))
        fetched: GroupingsRow | None = await cursor.fetchone()
        return fetched


_FIND_LINKER = """
SELECT is_better, linker FROM linkers WHERE workspace_id = $1 AND version_id = $2
"""


async def find_linker(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    version_id: str,
) -> FindLinkerRow | None:
    """A linker of a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindLinkerRow)) as cursor:
        await cursor.execute(_FIND_LINKER, (workspace_id, version_id))
        fetched: FindLinkerRow | None = await cursor.fetchone()
        return fetched


_COUNT_DECISIONS = """
SELECT count(*)::bigint AS n, max(decided_at)::timestamptz AS latest_at FROM constraints WHERE workspace_id = $1
"""


async def count_decisions(conn: AsyncConnection[Any], *, workspace_id: str) -> DecisionsInForce:
    """How many decisions of people are in force, and when the last of them was taken."""
    async with AsyncRawCursor(conn, row_factory=args_row(DecisionsInForce)) as cursor:
        await cursor.execute(_COUNT_DECISIONS, (workspace_id,))
        fetched: DecisionsInForce | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_decisions gave no row")
        return fetched


_LIST_MERGED = """
SELECT pattern_id, merged_into FROM patterns WHERE workspace_id = $1 AND merged_into <> '' ORDER BY pattern_id
"""


async def list_merged(conn: AsyncConnection[Any], *, workspace_id: str) -> list[MergeOfPattern]:
    """Where merged patterns went."""
    async with AsyncRawCursor(conn, row_factory=args_row(MergeOfPattern)) as cursor:
        await cursor.execute(_LIST_MERGED, (workspace_id,))
        fetched: list[MergeOfPattern] = await cursor.fetchall()
        return fetched


_LIST_TEXTS = """
SELECT e.exemplar, m.issue_id, m.pattern_id, m.grouping_key, m.score, m.severity, m.occurred_at,
       i.service, i.component, i.error_type, i.team, i.environment, i.source
FROM exemplars AS e
JOIN members AS m ON m.workspace_id = e.workspace_id AND m.issue_id = e.issue_id
JOIN issues AS i ON i.workspace_id = e.workspace_id AND i.issue_id = e.issue_id
WHERE e.workspace_id = $1 AND (strpos(e.exemplar, E'\\n') > 0) = true
ORDER BY e.seq DESC LIMIT $2
"""


async def list_texts(conn: AsyncConnection[Any], *, workspace_id: str, n: int) -> list[TextWithMembership]:
    """The latest texts that people wrote, with the memberships of their issues, the newest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(TextWithMembership)) as cursor:
        await cursor.execute(_LIST_TEXTS, (workspace_id, n))
        fetched: list[TextWithMembership] = await cursor.fetchall()
        return fetched
