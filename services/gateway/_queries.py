"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class ListRunningAnalysesRow(Struct, frozen=True):
    """One row of list_running_analyses."""

    workspace_id: str
    analysis_id: str
    issue_id: str
    tier: str
    requested_at: datetime


class GetAnalysisRow(Struct, frozen=True):
    """One row of get_analysis."""

    analysis_id: str
    issue_id: str
    tier: str
    requested_at: datetime
    recorded_at: datetime | None
    prompt_expired_at: datetime | None


class GetIssueForAnalysisRow(Struct, frozen=True):
    """One row of get_issue_for_analysis."""

    issue_id: str
    title: str
    body: str
    severity: str
    occurred_at: datetime
    source: str
    service: str | None
    component: str | None
    error_type: str | None
    environment: str | None
    version: str | None
    team: str | None
    pattern_id: str | None
    pattern_name: str | None
    pattern_updated_at: datetime | None


class ListIssueStatesRow(Struct, frozen=True):
    """One row of list_issue_states."""

    issue_id: str
    own_status: str
    status: str
    pattern_id: str | None


class IssueInBrief(Struct, frozen=True):
    """One row of a result."""

    issue_id: str
    title: str
    severity: str
    status: str
    pattern_id: str | None


class CountOccurrencesRow(Struct, frozen=True):
    """One row of count_occurrences."""

    bucket_at: datetime
    n_issues: int


class CountRecurringPatternsRow(Struct, frozen=True):
    """One row of count_recurring_patterns."""

    bucket_at: datetime
    n_patterns: int


class SummarisePredictionsRow(Struct, frozen=True):
    """One row of summarise_predictions."""

    n_total: int
    n_high: int
    n_above: int
    average_probability: float


class ListForecastsRow(Struct, frozen=True):
    """One row of list_forecasts."""

    prediction_id: str
    pattern_id: str
    pattern_name: str | None
    probability: float
    lower: float
    upper: float
    inputs: str
    generated_at: datetime
    likely_trigger: str
    model: str


class ListReliabilityRow(Struct, frozen=True):
    """One row of list_reliability."""

    bin: int
    n: int
    mean_probability: float
    n_hits: int
    brier_sum: float


class ListScorecardRow(Struct, frozen=True):
    """One row of list_scorecard."""

    window_days: int
    model: str
    model_version: str
    n: int
    n_hits: int
    brier_sum: float
    base_sum: float


class PatternMove(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    seq: int
    to_status: str
    reason: str
    closure_note: str | None
    moved_by: str | None
    moved_at: datetime


class DryRunAlertsRow(Struct, frozen=True):
    """One row of dry_run_alerts."""

    prediction_id: str
    pattern_id: str
    pattern_name: str | None
    probability: float
    generated_at: datetime
    outcome: str
    resolved_at: datetime | None
    n_fired: int
    n_true: int
    n_false: int
    lead_time_days: float | None


class DryRunRecallRow(Struct, frozen=True):
    """One row of dry_run_recall."""

    n_hits: int
    n_caught: int


class ScoreAlertsRow(Struct, frozen=True):
    """One row of score_alerts."""

    n_true: int
    n_alerted: int
    n_hits: int
    lead_time_days: float | None


class MergedPattern(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str


class TriedRecommendation(Struct, frozen=True):
    """One row of a result."""

    recommendation_id: str
    pattern_id: str
    title: str
    type: str
    effort: str
    status: str
    status_reason: str
    verification: str
    created_at: datetime
    updated_at: datetime


class RankRecommendationsRow(Struct, frozen=True):
    """One row of rank_recommendations."""

    recommendation_id: str
    rank: int


class Resting(Struct, frozen=True):
    """One row of a result."""

    issue_id: str
    since_at: datetime
    seq: int


class Foretold(Struct, frozen=True):
    """One row of a result."""

    prediction_id: str
    since_at: datetime
    seq: int


class Answered(Struct, frozen=True):
    """One row of a result."""

    analysis_id: str
    since_at: datetime
    seq: int


class FailureRow(Struct, frozen=True):
    """One row of a result."""

    issue_id: str
    title: str
    occurred_at: datetime
    source: str
    service: str | None
    component: str | None
    error_type: str | None
    environment: str | None
    version: str | None
    team: str | None
    pattern_id: str | None
    pattern_name: str | None


class GetClusteringRow(Struct, frozen=True):
    """One row of get_clustering."""

    run_id: str
    computed_at: datetime
    method_version: str
    n_patterns: int
    n_left_out: int
    n_relations: int


class ClusterNode(Struct, frozen=True):
    """One row of a result."""

    pattern_id: str
    name: str
    status: str
    risk_score: float
    issue_count: int
    last_seen_at: datetime


class ListRelationsAmongRow(Struct, frozen=True):
    """One row of list_relations_among."""

    pattern_id: str
    other_pattern_id: str
    weight: float
    reasons: str


class ListRelatedRow(Struct, frozen=True):
    """One row of list_related."""

    pattern_id: str
    name: str
    status: str
    risk_score: float
    issue_count: int
    last_seen_at: datetime
    weight: float
    reasons: str


class FindClusterOfRow(Struct, frozen=True):
    """One row of find_cluster_of."""

    cluster_id: str
    name: str


class FixesRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    fix_id: str
    seq: int
    pattern_id: str
    recommendation_ids: str
    note: str
    environment: str | None
    version: str | None
    fixed_at: datetime
    standing: str
    ended_as: str | None
    judged_at: datetime | None
    quiet_days: float | None
    confidence: float | None
    broken_by: str | None
    broken_at: datetime | None
    was_verified: bool
    inputs: str
    rate_drop: str | None
    ledger: str
    updated_at: datetime


class LedgerRow(Struct, frozen=True):
    """One row of a result."""

    fix_id: str
    pattern_id: str
    pattern_name: str | None
    fixed_at: datetime
    standing: str
    inputs: str
    ledger: str
    ended_at: datetime | None


class PlaysRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    play_id: str
    seq: int
    play: str
    defined_by: str | None
    created_at: datetime
    updated_at: datetime


class AbstentionsRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    pattern_id: str
    seq: int
    best_fit: float
    floor: float
    best_play_id: str | None
    best_play_title: str | None
    playbook_version: str
    withheld_at: datetime


class CountRecommendedRow(Struct, frozen=True):
    """One row of count_recommended."""

    n_made: int
    n_patterns: int
    n_withheld: int


class GroupingComparisonsRow(Struct, frozen=True):
    """One row of the table grouping_comparisons."""

    workspace_id: str
    version_id: str
    run_id: str
    compared_at: datetime
    base_version_id: str
    base_version: str
    n_texts: int
    n_asked: int
    n_decided: int
    n_moved: int
    n_joining: int
    n_leaving: int
    moves: str


class TitleOfIssue(Struct, frozen=True):
    """One row of a result."""

    issue_id: str
    title: str


class Over(Struct, frozen=True):
    """One row of a result."""

    run_id: str
    since_at: datetime
    seq: int


class ListTicketsRow(Struct, frozen=True):
    """One row of list_tickets."""

    ticket_id: str
    recommendation_id: str
    connector_id: str
    tracker: str
    external_id: str
    external_url: str | None
    target: str
    is_found: bool
    state: str
    external_status: str
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class CountConnectorsRow(Struct, frozen=True):
    """One row of count_connectors."""

    n_connectors: int
    n_connected: int
    first_run_status: str


class ListIssueConnectorsRow(Struct, frozen=True):
    """One row of list_issue_connectors."""

    issue_id: str
    connector_id: str | None


_INSERT_ISSUES = """
INSERT INTO issues (workspace_id, issue_id, seq, source, external_id, title, body, severity, status, is_status_chosen, service,
    component, error_type, environment, version, team, assignee, external_url, connector_id, metadata, is_analyzing,
    analysis, reason, source_created_at, source_updated_at, created_at, updated_at)
SELECT r.workspace_id, r.issue_id, r.seq, r.source, r.external_id, r.title, r.body, r.severity, r.status,
    r.is_status_chosen, r.service,
    r.component, r.error_type, r.environment, r.version, r.team, r.assignee, r.external_url, r.connector_id,
    r.metadata, coalesce(r.is_analyzing, false), r.analysis, r.reason, r.source_created_at, r.source_updated_at,
    r.created_at, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, seq bigint, source text, external_id text, title text, body text,
    severity text, status text, is_status_chosen boolean, service text, component text, error_type text,
    environment text, version text, team text, assignee text, external_url text, connector_id text, metadata text,
    is_analyzing boolean, analysis text, reason text, source_created_at timestamptz, source_updated_at timestamptz, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO NOTHING
"""


async def insert_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the issues that were reported in a batch; one that is there already stays (IssueReported, IssueRestored)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ISSUES, (rows,))


_UPDATE_ISSUES = """
UPDATE issues AS i SET
    title = coalesce(r.title, i.title),
    body = coalesce(r.body, i.body),
    severity = coalesce(r.severity, i.severity),
    status = coalesce(r.status, i.status),
    is_status_chosen = coalesce(r.is_status_chosen, i.is_status_chosen),
    service = CASE WHEN 'service' = ANY(r.cleared) THEN NULL ELSE coalesce(r.service, i.service) END,
    component = CASE WHEN 'component' = ANY(r.cleared) THEN NULL ELSE coalesce(r.component, i.component) END,
    error_type = CASE WHEN 'error_type' = ANY(r.cleared) THEN NULL ELSE coalesce(r.error_type, i.error_type) END,
    environment = CASE WHEN 'environment' = ANY(r.cleared) THEN NULL ELSE coalesce(r.environment, i.environment) END,
    version = CASE WHEN 'version' = ANY(r.cleared) THEN NULL ELSE coalesce(r.version, i.version) END,
    team = CASE WHEN 'team' = ANY(r.cleared) THEN NULL ELSE coalesce(r.team, i.team) END,
    assignee = CASE WHEN 'assignee' = ANY(r.cleared) THEN NULL ELSE coalesce(r.assignee, i.assignee) END,
    external_url = CASE WHEN 'external_url' = ANY(r.cleared) THEN NULL ELSE coalesce(r.external_url, i.external_url) END,
    source_updated_at = CASE WHEN 'source_updated_at' = ANY(r.cleared) THEN NULL
                             ELSE coalesce(r.source_updated_at, i.source_updated_at) END,
    metadata = CASE WHEN 'metadata' = ANY(r.cleared) THEN '{}' ELSE coalesce(r.metadata, i.metadata) END,
    is_analyzing = coalesce(r.is_analyzing, i.is_analyzing),
    analysis = coalesce(r.analysis, i.analysis),
    reason = coalesce(r.reason, i.reason),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, title text, body text, severity text, status text, is_status_chosen boolean,
    service text, component text, error_type text, environment text, version text, team text, assignee text, external_url text,
    source_updated_at timestamptz, metadata text, is_analyzing boolean, analysis text, reason text,
    updated_at timestamptz, cleared text[])
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.issue_id
"""


async def update_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Change the fields that a batch has values for, empty those that it clears (IssueUpdated, IssueClosed, AnalysisStarted,
    AnalysisRecorded).
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_ISSUES, (rows,))


_INSERT_COMMENTS = """
INSERT INTO comments (workspace_id, comment_id, issue_id, seq, author_id, text, created_at)
SELECT r.workspace_id, r.comment_id, r.issue_id, r.seq, r.author_id, r.text, r.created_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, comment_id text, issue_id text, seq bigint, author_id text, text text,
    created_at timestamptz)
ON CONFLICT (workspace_id, comment_id) DO NOTHING
"""


async def insert_comments(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the comments of a batch (IssueCommented)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_COMMENTS, (rows,))


_INSERT_ANALYSES = """
INSERT INTO analyses (workspace_id, analysis_id, issue_id, seq, tier, actor, requested_at)
SELECT r.workspace_id, r.analysis_id, r.issue_id, r.seq, r.tier, r.actor, r.requested_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, analysis_id text, issue_id text, seq bigint, tier text, actor text, requested_at timestamptz)
ON CONFLICT (workspace_id, analysis_id) DO NOTHING
"""


async def insert_analyses(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the analyses that were begun in a batch (AnalysisStarted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ANALYSES, (rows,))


_END_ANALYSES = """
UPDATE analyses AS a SET recorded_at = r.recorded_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, analysis_id text, recorded_at timestamptz)
WHERE a.workspace_id = r.workspace_id AND a.analysis_id = r.analysis_id
"""


async def end_analyses(conn: AsyncConnection[Any], *, rows: str) -> None:
    """End the analyses whose answers a batch has (AnalysisRecorded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_ANALYSES, (rows,))


_END_ANALYSES_OF_ISSUES = """
UPDATE analyses AS a SET recorded_at = e.ended_at
FROM (
    SELECT n.workspace_id, n.analysis_id, (array_agg(r.ended_at ORDER BY r.seq))[1] AS ended_at
    FROM json_to_recordset($1::json) AS r(
        workspace_id text, issue_id text, seq bigint, ended_at timestamptz)
    JOIN analyses AS n ON n.workspace_id = r.workspace_id AND n.issue_id = r.issue_id
        AND n.recorded_at IS NULL AND n.seq < r.seq
    GROUP BY n.workspace_id, n.analysis_id
) AS e
WHERE a.workspace_id = e.workspace_id AND a.analysis_id = e.analysis_id
"""


async def end_analyses_of_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """End what ran on issues when they expired: nobody is told the answer, and a report begins them anew (IssueExpired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_ANALYSES_OF_ISSUES, (rows,))


_LIST_RUNNING_ANALYSES = """
WITH RECURSIVE waiting AS (
    SELECT min(workspace_id) AS workspace_id FROM analyses WHERE recorded_at IS NULL
    UNION ALL
    SELECT (SELECT min(a.workspace_id) FROM analyses AS a
            WHERE a.recorded_at IS NULL AND a.workspace_id > w.workspace_id)
    FROM waiting AS w WHERE w.workspace_id IS NOT NULL
)
SELECT a.workspace_id, a.analysis_id, a.issue_id, a.tier, a.requested_at
FROM waiting AS w
CROSS JOIN LATERAL (
    SELECT n.workspace_id, n.analysis_id, n.issue_id, n.tier, n.requested_at, n.seq FROM analyses AS n
    WHERE n.workspace_id = w.workspace_id AND n.recorded_at IS NULL
      AND n.analysis_id <> ALL($1::text[])
    ORDER BY n.requested_at, n.seq LIMIT $2::bigint
) AS a
ORDER BY a.requested_at, a.seq
"""


async def list_running_analyses(
    conn: AsyncConnection[Any],
    *,
    except_ids: list[str],
    of_each: int,
) -> list[ListRunningAnalysesRow]:
    """The analyses that run: of each workspace its oldest ones, without some; for the role that writes the rows."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListRunningAnalysesRow)) as cursor:
        await cursor.execute(_LIST_RUNNING_ANALYSES, (except_ids, of_each))
        fetched: list[ListRunningAnalysesRow] = await cursor.fetchall()
        return fetched


_GET_ANALYSIS = """
SELECT a.analysis_id, a.issue_id, a.tier, a.requested_at, a.recorded_at, a.prompt_expired_at
FROM analyses AS a JOIN issues AS i ON i.workspace_id = a.workspace_id AND i.issue_id = a.issue_id
WHERE a.workspace_id = $1 AND a.analysis_id = $2
"""


async def get_analysis(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    analysis_id: str,
) -> GetAnalysisRow | None:
    """An analysis, and since when its prompt is shown to nobody; none when its issue is."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetAnalysisRow)) as cursor:
        await cursor.execute(_GET_ANALYSIS, (workspace_id, analysis_id))
        fetched: GetAnalysisRow | None = await cursor.fetchone()
        return fetched


_GET_ISSUE_FOR_ANALYSIS = """
SELECT i.issue_id, i.title, i.body, i.severity, i.source_created_at AS occurred_at, i.source, i.service, i.component,
    i.error_type, i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name,
    p.updated_at AS pattern_updated_at
FROM issues AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE i.workspace_id = $1 AND i.issue_id = $2
"""


async def get_issue_for_analysis(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    issue_id: str,
) -> GetIssueForAnalysisRow | None:
    """What an analysis has to know of an issue."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetIssueForAnalysisRow)) as cursor:
        await cursor.execute(_GET_ISSUE_FOR_ANALYSIS, (workspace_id, issue_id))
        fetched: GetIssueForAnalysisRow | None = await cursor.fetchone()
        return fetched


_UPSERT_PATTERNS = """
WITH made AS (
    INSERT INTO patterns (workspace_id, pattern_id, seq, name, status, is_shown, fingerprint, risk_score, confidence,
        issue_count, first_seen_at, last_seen_at, created_at, updated_at, status_reason, closure_note, closed_at,
        merged_into, mttr_seconds, has_recurred)
    SELECT b.workspace_id, b.pattern_id, b.seq, coalesce(b.name, ''), coalesce(b.status, 'candidate'),
        coalesce(b.is_shown, false), coalesce(b.fingerprint, '[]'), b.risk_score, b.confidence, b.issue_count,
        b.first_seen_at, b.last_seen_at, b.created_at, b.updated_at, b.status_reason, b.closure_note, b.closed_at,
        b.merged_into, b.mttr_seconds, coalesce(b.has_recurred, false)
    FROM json_to_recordset($1::json) AS b(
        workspace_id text, pattern_id text, seq bigint, name text, status text, is_shown boolean, fingerprint text,
        risk_score double precision, confidence double precision, issue_count bigint, first_seen_at timestamptz,
        last_seen_at timestamptz, created_at timestamptz, updated_at timestamptz, status_reason text,
        closure_note text, closed_at timestamptz, merged_into text, mttr_seconds double precision,
        has_recurred boolean)
    WHERE b.issue_count IS NOT NULL
    ON CONFLICT (workspace_id, pattern_id) DO NOTHING
)
UPDATE patterns AS p SET
    name = coalesce(b.name, p.name),
    status = coalesce(b.status, p.status),
    is_shown = coalesce(b.is_shown, p.is_shown),
    fingerprint = coalesce(b.fingerprint, p.fingerprint),
    risk_score = coalesce(b.risk_score, p.risk_score),
    confidence = coalesce(b.confidence, p.confidence),
    issue_count = coalesce(b.issue_count, p.issue_count),
    first_seen_at = coalesce(b.first_seen_at, p.first_seen_at),
    last_seen_at = coalesce(b.last_seen_at, p.last_seen_at),
    created_at = coalesce(p.created_at, b.created_at),
    updated_at = b.updated_at,
    status_reason = coalesce(b.status_reason, p.status_reason),
    closure_note = coalesce(b.closure_note, p.closure_note),
    closed_at = coalesce(b.closed_at, p.closed_at),
    merged_into = coalesce(b.merged_into, p.merged_into),
    mttr_seconds = coalesce(b.mttr_seconds, p.mttr_seconds),
    has_recurred = coalesce(b.has_recurred, p.has_recurred)
FROM json_to_recordset($1::json) AS b(
    workspace_id text, pattern_id text, seq bigint, name text, status text, is_shown boolean, fingerprint text,
    risk_score double precision, confidence double precision, issue_count bigint, first_seen_at timestamptz,
    last_seen_at timestamptz, created_at timestamptz, updated_at timestamptz, status_reason text,
    closure_note text, closed_at timestamptz, merged_into text, mttr_seconds double precision,
    has_recurred boolean)
WHERE p.workspace_id = b.workspace_id AND p.pattern_id = b.pattern_id
"""


async def upsert_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write each pattern of a batch once: insert the new ones, change what the batch says of the others (all of pattern)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PATTERNS, (rows,))


_UPSERT_MEMBERS = """
INSERT INTO pattern_members AS m (workspace_id, issue_id, pattern_id, is_shown, seq, score, method, method_version,
    matched_dimensions, occurred_at, linked_at, linked_by)
SELECT r.workspace_id, r.issue_id, r.pattern_id, coalesce(p.is_shown, false), r.seq, r.score, r.method,
    r.method_version, r.matched_dimensions, r.occurred_at, r.linked_at, r.linked_by
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, pattern_id text, seq bigint, score double precision, method text,
    method_version text, matched_dimensions text, occurred_at timestamptz, linked_at timestamptz, linked_by text)
LEFT JOIN patterns AS p ON p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, is_shown = excluded.is_shown, seq = excluded.seq, score = excluded.score,
    method = excluded.method, method_version = excluded.method_version,
    matched_dimensions = excluded.matched_dimensions, occurred_at = excluded.occurred_at,
    linked_at = excluded.linked_at, linked_by = excluded.linked_by, merged_from = NULL, merged_by = NULL,
    merged_at = NULL
"""


async def upsert_members(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Put issues into patterns; an issue that was in another pattern moves (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_MEMBERS, (rows,))


_DELETE_MEMBERS = """
DELETE FROM pattern_members AS m
USING json_to_recordset($1::json) AS r(workspace_id text, issue_id text, pattern_id text)
WHERE m.workspace_id = r.workspace_id AND m.issue_id = r.issue_id AND m.pattern_id = r.pattern_id
"""


async def delete_members(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Take issues out of the patterns that they are said to leave (IssueUnlinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_MEMBERS, (rows,))


_SHOW_MEMBERS = """
UPDATE pattern_members AS m SET is_shown = true
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
WHERE m.workspace_id = r.workspace_id AND m.pattern_id = r.pattern_id AND NOT m.is_shown
"""


async def show_members(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Show the members of patterns that were just detected (PatternDetected)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SHOW_MEMBERS, (rows,))


_MOVE_MEMBERS = """
UPDATE pattern_members AS m SET pattern_id = $1, is_shown = p.is_shown,
    merged_from = $2, merged_by = $3::text,
    merged_at = $4::timestamptz
FROM patterns AS p
WHERE m.workspace_id = $5 AND m.pattern_id = $2
  AND p.workspace_id = m.workspace_id AND p.pattern_id = $1
"""


async def move_members(
    conn: AsyncConnection[Any],
    *,
    target_pattern_id: str,
    source_pattern_id: str | None,
    merged_by: str | None,
    merged_at: datetime,
    workspace_id: str,
) -> None:
    """Move all members of one pattern into another (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_MEMBERS, (target_pattern_id, source_pattern_id, merged_by, merged_at, workspace_id))


_INSERT_SUGGESTIONS = """
INSERT INTO suggestions (workspace_id, suggestion_id, seq, issue_id, begun_pattern_id, pattern_id, score, method,
    method_version, matched_dimensions, suggested_at)
SELECT r.workspace_id, r.suggestion_id, r.seq, r.issue_id, r.begun_pattern_id, r.pattern_id, r.score, r.method,
    r.method_version, r.matched_dimensions, r.suggested_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, suggestion_id text, seq bigint, issue_id text, begun_pattern_id text, pattern_id text,
    score double precision, method text, method_version text, matched_dimensions text, suggested_at timestamptz)
ON CONFLICT (workspace_id, suggestion_id) DO NOTHING
"""


async def insert_suggestions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what is suggested (LinkSuggested)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_SUGGESTIONS, (rows,))


_ANSWER_SUGGESTIONS = """
UPDATE suggestions AS s SET answer = r.answer, answered_by = r.answered_by, answered_at = r.answered_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, issue_id text, pattern_id text, answer text, answered_by text, answered_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.issue_id = r.issue_id AND s.pattern_id = r.pattern_id
  AND s.answer IS NULL
"""


async def answer_suggestions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note the answer to suggestions that have none: a decision on that issue and that pattern (LinkConstrained)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ANSWER_SUGGESTIONS, (rows,))


_DROP_CONSTRAINTS = """
DELETE FROM constraints AS c
USING json_to_recordset($1::json) AS r(workspace_id text, grouping_key text, pattern_id text)
WHERE c.workspace_id = r.workspace_id AND c.grouping_key = r.grouping_key AND c.pattern_id = r.pattern_id
"""


async def drop_constraints(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Drop the decisions that a later one overrules (DecisionsContradicted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_CONSTRAINTS, (rows,))


_DROP_MUSTS = """
DELETE FROM constraints AS c
USING json_to_recordset($1::json) AS r(workspace_id text, grouping_key text)
WHERE c.workspace_id = r.workspace_id AND c.grouping_key = r.grouping_key AND c.kind = 'must_link'
"""


async def drop_musts(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Drop every "must" on these keys: a person has decided anew (LinkConstrained)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_MUSTS, (rows,))


_UPSERT_CONSTRAINTS = """
INSERT INTO constraints (workspace_id, grouping_key, pattern_id, seq, kind, issue_id, decided_by, decided_at)
SELECT r.workspace_id, r.grouping_key, r.pattern_id, r.seq, r.kind, r.issue_id, r.decided_by, r.decided_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, grouping_key text, pattern_id text, seq bigint, kind text, issue_id text, decided_by text,
    decided_at timestamptz)
ON CONFLICT (workspace_id, grouping_key, pattern_id) DO UPDATE SET
    seq = excluded.seq, kind = excluded.kind, issue_id = excluded.issue_id, decided_by = excluded.decided_by,
    decided_at = excluded.decided_at
"""


async def upsert_constraints(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write decisions; the latest on a key and a pattern counts (LinkConstrained)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_CONSTRAINTS, (rows,))


_DROP_SHADOWED_CONSTRAINTS = """
DELETE FROM constraints AS c
WHERE c.workspace_id = $1 AND c.pattern_id = $2
  AND EXISTS (SELECT 1 FROM constraints AS t WHERE t.workspace_id = c.workspace_id
              AND t.pattern_id = $3 AND t.grouping_key = c.grouping_key)
"""


async def drop_shadowed_constraints(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    source_pattern_id: str,
    target_pattern_id: str,
) -> None:
    """Drop the decisions about the source that the target has as well (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DROP_SHADOWED_CONSTRAINTS, (workspace_id, source_pattern_id, target_pattern_id))


_MOVE_CONSTRAINTS = """
UPDATE constraints SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_constraints(
    conn: AsyncConnection[Any],
    *,
    target_pattern_id: str,
    workspace_id: str,
    source_pattern_id: str,
) -> None:
    """Move the decisions about the source to the pattern that remains (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_CONSTRAINTS, (target_pattern_id, workspace_id, source_pattern_id))


_MOVE_CONTRADICTIONS = """
UPDATE contradictions SET
    standing_pattern_id = CASE WHEN standing_pattern_id = $1
                               THEN $2 ELSE standing_pattern_id END,
    later_standing_pattern_id = CASE WHEN later_standing_pattern_id = $1
                                     THEN $2 ELSE later_standing_pattern_id END
WHERE workspace_id = $3
  AND $1 IN (standing_pattern_id, later_standing_pattern_id)
"""


async def move_contradictions(
    conn: AsyncConnection[Any],
    *,
    source_pattern_id: str,
    target_pattern_id: str,
    workspace_id: str,
) -> None:
    """Let contradictions follow the patterns of their decisions (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_CONTRADICTIONS, (source_pattern_id, target_pattern_id, workspace_id))


_INSERT_CONTRADICTIONS = """
INSERT INTO contradictions (workspace_id, contradiction_id, seq, grouping_key, pattern_id, found_at, earlier, later,
    earlier_kind, standing_pattern_id, later_kind, later_standing_pattern_id)
SELECT r.workspace_id, r.contradiction_id, r.seq, r.grouping_key, r.pattern_id, r.found_at, r.earlier, r.later,
    r.earlier_kind, r.standing_pattern_id, r.later_kind, r.later_standing_pattern_id
FROM json_to_recordset($1::json) AS r(
    workspace_id text, contradiction_id text, seq bigint, grouping_key text, pattern_id text, found_at timestamptz,
    earlier text, later text, earlier_kind text, standing_pattern_id text, later_kind text,
    later_standing_pattern_id text)
ON CONFLICT (workspace_id, contradiction_id) DO NOTHING
"""


async def insert_contradictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write contradictions (DecisionsContradicted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_CONTRADICTIONS, (rows,))


_ANSWER_CONTRADICTIONS = """
UPDATE contradictions AS x SET kept = r.kept, answered_by = r.answered_by, answered_at = r.answered_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, contradiction_id text, kept text, answered_by text, answered_at timestamptz)
WHERE x.workspace_id = r.workspace_id AND x.contradiction_id = r.contradiction_id
"""


async def answer_contradictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note which of two decisions was chosen (ContradictionAnswered)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ANSWER_CONTRADICTIONS, (rows,))


_END_PREDICTIONS = """
UPDATE predictions AS p SET is_current = false
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id AND p.is_current
"""


async def end_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """No prediction of these patterns is current any more (PatternStatusChanged to resolved or merged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_PREDICTIONS, (rows,))


_SUPERSEDE_PREDICTIONS = """
UPDATE predictions AS p SET is_current = false
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text, window_days integer)
WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id AND p.window_days = r.window_days
  AND p.is_current
"""


async def supersede_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """The predictions that newer ones of the same pattern and window replace are current no more (PredictionMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SUPERSEDE_PREDICTIONS, (rows,))


_INSERT_PREDICTIONS = """
INSERT INTO predictions (workspace_id, prediction_id, seq, pattern_id, window_days, probability, lower, upper,
    expected_next_at, impact, likely_trigger, evidence, model, model_version, inputs, low_confidence, generated_at,
    expires_at, is_current, is_dismissed, dismissed_reason, outcome, brier, resolved_at, hit_issue_id, feedback,
    feedback_note, alerted_at, is_held_out, updated_at)
SELECT r.workspace_id, r.prediction_id, r.seq, r.pattern_id, r.window_days, r.probability, r.lower, r.upper,
    r.expected_next_at, r.impact, r.likely_trigger, r.evidence, r.model, r.model_version, r.inputs, r.low_confidence,
    r.generated_at, r.expires_at, r.is_current, coalesce(r.is_dismissed, false), r.dismissed_reason, r.outcome,
    r.brier, r.resolved_at, r.hit_issue_id, r.feedback, r.feedback_note, r.alerted_at, r.is_held_out, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, seq bigint, pattern_id text, window_days integer,
    probability double precision, lower double precision, upper double precision, expected_next_at timestamptz,
    impact text, likely_trigger text, evidence text, model text, model_version text, inputs text,
    low_confidence boolean, generated_at timestamptz, expires_at timestamptz, is_current boolean,
    is_dismissed boolean, dismissed_reason text, outcome text, brier double precision, resolved_at timestamptz,
    hit_issue_id text, feedback text, feedback_note text, alerted_at timestamptz, is_held_out boolean, updated_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING
"""


async def insert_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the predictions of a batch (PredictionMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PREDICTIONS, (rows,))


_UPDATE_PREDICTIONS = """
UPDATE predictions AS p SET
    is_dismissed = coalesce(r.is_dismissed, p.is_dismissed),
    dismissed_reason = coalesce(r.dismissed_reason, p.dismissed_reason),
    outcome = coalesce(r.outcome, p.outcome),
    brier = coalesce(r.brier, p.brier),
    resolved_at = coalesce(r.resolved_at, p.resolved_at),
    hit_issue_id = coalesce(r.hit_issue_id, p.hit_issue_id),
    feedback = coalesce(r.feedback, p.feedback),
    feedback_note = coalesce(r.feedback_note, p.feedback_note),
    alerted_at = coalesce(r.alerted_at, p.alerted_at),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, is_dismissed boolean, dismissed_reason text, outcome text,
    brier double precision, resolved_at timestamptz, hit_issue_id text, feedback text, feedback_note text,
    alerted_at timestamptz, updated_at timestamptz)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id
"""


async def update_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Change what a batch says of known predictions (PredictionResolved, PredictionFeedbackGiven, PredictionDismissed, AlertFired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_PREDICTIONS, (rows,))


_INSERT_RECOMMENDATIONS = """
INSERT INTO recommendations (workspace_id, recommendation_id, seq, pattern_id, play_id, playbook_version, title,
    description, type, effort, impact, status, status_reason, steps, steps_done, verification, evidence, arithmetic,
    score, expected_loops_prevented, created_at, updated_at)
SELECT r.workspace_id, r.recommendation_id, r.seq, r.pattern_id, r.play_id, r.playbook_version, r.title,
    r.description, r.type, r.effort, r.impact, r.status, coalesce(r.status_reason, ''), r.steps, r.steps_done,
    r.verification, r.evidence, r.arithmetic, r.score, r.expected_loops_prevented, r.created_at, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, recommendation_id text, seq bigint, pattern_id text, play_id text, playbook_version text,
    title text, description text, type text, effort text, impact text, status text, status_reason text, steps text,
    steps_done integer[], verification text, evidence text, arithmetic text, score double precision,
    expected_loops_prevented double precision, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, recommendation_id) DO NOTHING
"""


async def insert_recommendations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the recommendations of a batch (RecommendationMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_RECOMMENDATIONS, (rows,))


_UPDATE_RECOMMENDATIONS = """
UPDATE recommendations AS t SET
    impact = coalesce(r.impact, t.impact),
    arithmetic = coalesce(r.arithmetic, t.arithmetic),
    score = coalesce(r.score, t.score),
    expected_loops_prevented = coalesce(r.expected_loops_prevented, t.expected_loops_prevented),
    status = coalesce(r.status, t.status),
    status_reason = coalesce(r.status_reason, t.status_reason),
    steps_done = ARRAY(
        SELECT DISTINCT s.step FROM unnest(array_cat(t.steps_done, r.steps_ticked)) AS s(step)
        WHERE s.step <> ALL(r.steps_unticked) ORDER BY s.step),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, recommendation_id text, impact text, arithmetic text, score double precision,
    expected_loops_prevented double precision, status text, status_reason text, steps_ticked integer[],
    steps_unticked integer[], updated_at timestamptz)
WHERE t.workspace_id = r.workspace_id AND t.recommendation_id = r.recommendation_id
"""


async def update_recommendations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Change what a batch says of known recommendations (RecommendationReassessed, …StatusChanged, …StepChecked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_RECOMMENDATIONS, (rows,))


_LIST_ISSUE_STATES = """
SELECT i.issue_id, i.own_status, i.status, i.pattern_id
FROM (SELECT DISTINCT unnest($1::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.issue_id, o.own_status, o.status, o.pattern_id, o.seq FROM issue_rows AS o
    WHERE o.workspace_id = $2 AND o.issue_id = r.id
    LIMIT 1
) AS i
ORDER BY i.seq
"""


async def list_issue_states(
    conn: AsyncConnection[Any],
    *,
    issue_ids: list[str],
    workspace_id: str,
) -> list[ListIssueStatesRow]:
    """Where issues stand now, for the stream. One by one, by the primary keys: with `= ANY`, all of the workspace is read
    where the planner knows little of it, as on a table never analyzed.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(ListIssueStatesRow)) as cursor:
        await cursor.execute(_LIST_ISSUE_STATES, (issue_ids, workspace_id))
        fetched: list[ListIssueStatesRow] = await cursor.fetchall()
        return fetched


_FIND_ISSUES = """
SELECT i.issue_id, i.title, i.severity, i.status::text AS status, i.pattern_id
FROM (SELECT DISTINCT unnest($1::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.issue_id, o.title, o.severity, o.status, o.pattern_id, o.seq FROM issue_rows AS o
    WHERE o.workspace_id = $2 AND o.issue_id = r.id
    LIMIT 1
) AS i
ORDER BY i.seq
"""


async def find_issues(
    conn: AsyncConnection[Any],
    *,
    issue_ids: list[str],
    workspace_id: str,
) -> list[IssueInBrief]:
    """Issues in brief, as lists show them; one by one, as states are."""
    async with AsyncRawCursor(conn, row_factory=args_row(IssueInBrief)) as cursor:
        await cursor.execute(_FIND_ISSUES, (issue_ids, workspace_id))
        fetched: list[IssueInBrief] = await cursor.fetchall()
        return fetched


_GET_LINK = """
SELECT seq FROM pattern_members
WHERE workspace_id = $1 AND issue_id = $2 AND is_shown
"""


async def get_link(conn: AsyncConnection[Any], *, workspace_id: str, issue_id: str) -> int | None:
    """The place in the log of the event that put an issue into the pattern that it is shown in."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_LINK, (workspace_id, issue_id))
        fetched: int | None = await cursor.fetchone()
        return fetched


_LIST_MEMBER_IDS = """
SELECT issue_id FROM pattern_members
WHERE workspace_id = $1 AND pattern_id = $2
ORDER BY seq LIMIT $3
"""


async def list_member_ids(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    n: int,
) -> list[str]:
    """The first members of a pattern, for the stream: those that its detection shows."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_MEMBER_IDS, (workspace_id, pattern_id, n))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_IS_GROUPED = """
SELECT EXISTS (
    SELECT 1 FROM pattern_members
    WHERE workspace_id = $1 AND issue_id = $2)::boolean AS is_grouped
"""


async def is_grouped(conn: AsyncConnection[Any], *, workspace_id: str, issue_id: str) -> bool:
    """Whether an issue has been looked at by the grouping, shown pattern or not."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_GROUPED, (workspace_id, issue_id))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_grouped gave no row")
        return fetched


_COUNT_OCCURRENCES = """
SELECT date_trunc('day', occurred_at, 'UTC')::timestamptz AS bucket_at, count(*) AS n_issues
FROM pattern_members
WHERE workspace_id = $1 AND pattern_id = $2
  AND occurred_at >= $3::timestamptz AND occurred_at < $4::timestamptz
GROUP BY 1 ORDER BY 1
"""


async def count_occurrences(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    since_at: datetime,
    until_at: datetime,
) -> list[CountOccurrencesRow]:
    """Failures per day of a pattern, by the time that they happened."""
    async with AsyncRawCursor(conn, row_factory=args_row(CountOccurrencesRow)) as cursor:
        await cursor.execute(_COUNT_OCCURRENCES, (workspace_id, pattern_id, since_at, until_at))
        fetched: list[CountOccurrencesRow] = await cursor.fetchall()
        return fetched


_COUNT_RECURRING_PATTERNS = """
SELECT date_trunc('day', occurred_at, 'UTC')::timestamptz AS bucket_at, count(DISTINCT pattern_id) AS n_patterns
FROM pattern_members
WHERE workspace_id = $1 AND is_shown
  AND pattern_id = ANY($2::text[])
  AND occurred_at >= $3::timestamptz AND occurred_at < $4::timestamptz
GROUP BY 1 ORDER BY 1
"""


async def count_recurring_patterns(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
    since_at: datetime,
    until_at: datetime,
) -> list[CountRecurringPatternsRow]:
    """Shown patterns that failed, per day, by the time that it happened; a pattern counts once a day."""
    async with AsyncRawCursor(conn, row_factory=args_row(CountRecurringPatternsRow)) as cursor:
        await cursor.execute(_COUNT_RECURRING_PATTERNS, (workspace_id, pattern_ids, since_at, until_at))
        fetched: list[CountRecurringPatternsRow] = await cursor.fetchall()
        return fetched


_SUMMARISE_PREDICTIONS = """
SELECT count(*) AS n_total,
    count(*) FILTER (WHERE probability >= 0.8) AS n_high,
    count(*) FILTER (WHERE probability >= $1::double precision) AS n_above,
    coalesce(avg(probability), 0)::double precision AS average_probability
FROM predictions
WHERE workspace_id = $2 AND status = 'active' AND window_days = $3
"""


async def summarise_predictions(
    conn: AsyncConnection[Any],
    *,
    threshold: float,
    workspace_id: str,
    window_days: int,
) -> SummarisePredictionsRow:
    """The four tiles over the active predictions of one window."""
    async with AsyncRawCursor(conn, row_factory=args_row(SummarisePredictionsRow)) as cursor:
        await cursor.execute(_SUMMARISE_PREDICTIONS, (threshold, workspace_id, window_days))
        fetched: SummarisePredictionsRow | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("summarise_predictions gave no row")
        return fetched


_LIST_FORECASTS = """
SELECT p.prediction_id, p.pattern_id, t.name AS pattern_name, p.probability, p.lower, p.upper, p.inputs,
    p.generated_at, p.likely_trigger, p.model
FROM predictions AS p
LEFT JOIN patterns AS t ON t.workspace_id = p.workspace_id AND t.pattern_id = p.pattern_id
WHERE p.workspace_id = $1 AND p.is_current AND NOT p.is_dismissed
  AND p.window_days = $2
  AND ($3::text IS NULL OR p.pattern_id = $3::text)
ORDER BY p.probability DESC, p.seq LIMIT 1000
"""


async def list_forecasts(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    window_days: int,
    pattern_id: str | None,
) -> list[ListForecastsRow]:
    """The newest forecast of each pattern for one window, the most probable first, at most 1,000."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListForecastsRow)) as cursor:
        await cursor.execute(_LIST_FORECASTS, (workspace_id, window_days, pattern_id))
        fetched: list[ListForecastsRow] = await cursor.fetchall()
        return fetched


_LIST_RELIABILITY = """
SELECT bin, sum(n)::bigint AS n, (sum(probability_sum) / sum(n))::double precision AS mean_probability,
    sum(n_hits)::bigint AS n_hits, sum(brier_sum)::double precision AS brier_sum
FROM scored_predictions
WHERE workspace_id = $1 AND expires_at <= $2::timestamptz
  AND ($3::integer IS NULL OR window_days = $3::integer)
GROUP BY 1 ORDER BY 1
"""


async def list_reliability(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ended_by: datetime,
    window_days: int | None,
) -> list[ListReliabilityRow]:
    """How well resolved forecasts did, in ten bins of probability; what a person calls prevented does not count."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListReliabilityRow)) as cursor:
        await cursor.execute(_LIST_RELIABILITY, (workspace_id, ended_by, window_days))
        fetched: list[ListReliabilityRow] = await cursor.fetchall()
        return fetched


_LIST_SCORECARD = """
SELECT window_days, model, model_version, sum(n)::bigint AS n, sum(n_hits)::bigint AS n_hits,
    sum(brier_sum)::double precision AS brier_sum, sum(base_sum)::double precision AS base_sum
FROM scored_predictions
WHERE workspace_id = $1 AND expires_at <= $2::timestamptz
  AND ($3::integer IS NULL OR window_days = $3::integer)
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 3
"""


async def list_scorecard(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ended_by: datetime,
    window_days: int | None,
) -> list[ListScorecardRow]:
    """Resolved predictions by window and version of the model, with what the base rate of their time scored."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListScorecardRow)) as cursor:
        await cursor.execute(_LIST_SCORECARD, (workspace_id, ended_by, window_days))
        fetched: list[ListScorecardRow] = await cursor.fetchall()
        return fetched


_INSERT_PATTERN_MOVES = """
INSERT INTO pattern_moves (workspace_id, pattern_id, seq, to_status, reason, closure_note, moved_by, moved_at)
SELECT r.workspace_id, r.pattern_id, r.seq, r.to_status, r.reason, r.closure_note, r.moved_by, r.moved_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, seq bigint, to_status text, reason text, closure_note text, moved_by text,
    moved_at timestamptz)
ON CONFLICT (workspace_id, pattern_id, seq) DO NOTHING
"""


async def insert_pattern_moves(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write moves of patterns from one status to another (PatternStatusChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PATTERN_MOVES, (rows,))


_LIST_PATTERN_MOVES = """
SELECT pattern_id, seq, to_status, reason, closure_note, moved_by, moved_at FROM pattern_moves
WHERE workspace_id = $1 AND pattern_id = ANY($2::text[])
ORDER BY seq DESC LIMIT $3
"""


async def list_pattern_moves(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
    n: int,
) -> list[PatternMove]:
    """The latest moves of some patterns, the latest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(PatternMove)) as cursor:
        await cursor.execute(_LIST_PATTERN_MOVES, (workspace_id, pattern_ids, n))
        fetched: list[PatternMove] = await cursor.fetchall()
        return fetched


_DRY_RUN_ALERTS = """
SELECT fired.prediction_id, fired.pattern_id, t.name AS pattern_name, fired.probability, fired.generated_at,
    fired.outcome, fired.resolved_at, count(*) OVER () AS n_fired,
    count(*) FILTER (WHERE fired.outcome = 'hit') OVER () AS n_true,
    count(*) FILTER (WHERE fired.outcome = 'miss') OVER () AS n_false,
    (avg(extract(epoch FROM fired.resolved_at - fired.generated_at)) FILTER (WHERE fired.outcome = 'hit') OVER ()
        / 86400)::double precision AS lead_time_days
FROM (
    SELECT p.prediction_id, p.pattern_id, p.probability, p.generated_at, p.resolved_at, p.workspace_id, p.expired_at,
        (CASE WHEN p.feedback = 'prevented' THEN 'prevented' ELSE coalesce(p.outcome, 'open') END)::text AS outcome,
        lag(p.probability) OVER (PARTITION BY p.pattern_id ORDER BY p.generated_at, p.seq) AS before
    FROM predictions AS p
    WHERE p.workspace_id = $1 AND p.window_days = $2::integer
      AND NOT p.is_held_out) AS fired
LEFT JOIN patterns AS t ON t.workspace_id = fired.workspace_id AND t.pattern_id = fired.pattern_id
WHERE fired.expired_at IS NULL AND fired.generated_at >= $3::timestamptz
  AND fired.probability >= $4::double precision
  AND (fired.before IS NULL OR fired.before < $4::double precision)
ORDER BY fired.generated_at DESC, fired.prediction_id LIMIT 50
"""


async def dry_run_alerts(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    window_days: int,
    since: datetime,
    threshold: float,
) -> list[DryRunAlertsRow]:
    """The alerts that a draft threshold would have fired since a moment: each when a pattern's forecast reaches it from below, where an expired one may say what was before. The counts are over all of them, the rows only the latest."""
    async with AsyncRawCursor(conn, row_factory=args_row(DryRunAlertsRow)) as cursor:
        await cursor.execute(_DRY_RUN_ALERTS, (workspace_id, window_days, since, threshold))
        fetched: list[DryRunAlertsRow] = await cursor.fetchall()
        return fetched


_DRY_RUN_RECALL = """
SELECT count(*) AS n_hits,
    count(*) FILTER (WHERE probability >= $1::double precision) AS n_caught
FROM predictions
WHERE workspace_id = $2 AND window_days = $3::integer
  AND generated_at >= $4::timestamptz AND outcome = 'hit' AND feedback IS DISTINCT FROM 'prevented'
  AND expired_at IS NULL AND NOT is_held_out
"""


async def dry_run_recall(
    conn: AsyncConnection[Any],
    *,
    threshold: float,
    workspace_id: str,
    window_days: int,
    since: datetime,
) -> DryRunRecallRow:
    """How many resolved predictions of a window since a moment came true, and how many of those were at a draft threshold or above."""
    async with AsyncRawCursor(conn, row_factory=args_row(DryRunRecallRow)) as cursor:
        await cursor.execute(_DRY_RUN_RECALL, (threshold, workspace_id, window_days, since))
        fetched: DryRunRecallRow | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("dry_run_recall gave no row")
        return fetched


_SCORE_ALERTS = """
SELECT coalesce(sum(n_hits) FILTER (WHERE probability >= $1::double precision), 0)::bigint AS n_true,
    coalesce(sum(n) FILTER (WHERE probability >= $1::double precision), 0)::bigint AS n_alerted,
    coalesce(sum(n_hits), 0)::bigint AS n_hits,
    (sum(lead_seconds) FILTER (WHERE probability >= $1::double precision)
        / nullif(sum(n_hits) FILTER (WHERE probability >= $1::double precision), 0)
        / 86400)::double precision AS lead_time_days
FROM scored_predictions
WHERE workspace_id = $2 AND expires_at <= $3::timestamptz
  AND ($4::integer IS NULL OR window_days = $4::integer)
"""


async def score_alerts(
    conn: AsyncConnection[Any],
    *,
    threshold: float,
    workspace_id: str,
    ended_by: datetime,
    window_days: int | None,
) -> ScoreAlertsRow:
    """Precision, recall and lead time of resolved forecasts at a threshold; what a person calls prevented does not count."""
    async with AsyncRawCursor(conn, row_factory=args_row(ScoreAlertsRow)) as cursor:
        await cursor.execute(_SCORE_ALERTS, (threshold, workspace_id, ended_by, window_days))
        fetched: ScoreAlertsRow | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("score_alerts gave no row")
        return fetched


_LIST_MERGED_INTO = """
SELECT pattern_id FROM patterns
WHERE workspace_id = $1 AND merged_into = $2::text
ORDER BY updated_at DESC, seq DESC LIMIT 20
"""


async def list_merged_into(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
) -> list[MergedPattern]:
    """The patterns that were merged into one, the latest first, at most 20."""
    async with AsyncRawCursor(conn, row_factory=args_row(MergedPattern)) as cursor:
        await cursor.execute(_LIST_MERGED_INTO, (workspace_id, pattern_id))
        fetched: list[MergedPattern] = await cursor.fetchall()
        return fetched


_LIST_TRIED = """
SELECT recommendation_id, pattern_id, title, type, effort, status, status_reason, verification, created_at, updated_at
FROM recommendations
WHERE workspace_id = $1 AND pattern_id = ANY($2::text[])
  AND status <> 'pending'
ORDER BY updated_at DESC, seq DESC LIMIT 100
"""


async def list_tried(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
) -> list[TriedRecommendation]:
    """The recommendations for some patterns that somebody has touched, the latest first, at most 100."""
    async with AsyncRawCursor(conn, row_factory=args_row(TriedRecommendation)) as cursor:
        await cursor.execute(_LIST_TRIED, (workspace_id, pattern_ids))
        fetched: list[TriedRecommendation] = await cursor.fetchall()
        return fetched


_RANK_RECOMMENDATIONS = """
SELECT r.recommendation_id, (
    SELECT count(*) + 1 FROM recommendations AS b
    WHERE b.workspace_id = r.workspace_id AND b.rank_score >= 0
      AND (b.rank_score > r.rank_score OR (b.rank_score = r.rank_score AND b.seq > r.seq)))::bigint AS rank
FROM recommendations AS r
WHERE r.workspace_id = $1 AND r.rank_score >= 0
  AND r.recommendation_id = ANY($2::text[])
"""


async def rank_recommendations(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    recommendation_ids: list[str],
) -> list[RankRecommendationsRow]:
    """Positions of these recommendations among the open ones of the workspace, 1 is the best."""
    async with AsyncRawCursor(conn, row_factory=args_row(RankRecommendationsRow)) as cursor:
        await cursor.execute(_RANK_RECOMMENDATIONS, (workspace_id, recommendation_ids))
        fetched: list[RankRecommendationsRow] = await cursor.fetchall()
        return fetched


_EXPIRE_ISSUES = """
UPDATE issues AS i SET expired_at = r.expired_at
FROM json_to_recordset($1::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.id
"""


async def expire_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Show issues no longer (IssueExpired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_EXPIRE_ISSUES, (rows,))


_REPLACE_ISSUES = """
DELETE FROM issues AS i
USING json_to_recordset($1::json) AS r(workspace_id text, issue_id text)
WHERE i.workspace_id = r.workspace_id AND i.issue_id = r.issue_id
"""


async def replace_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Make room for issues that are told anew, as a whole (IssueRestored)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REPLACE_ISSUES, (rows,))


_PURGE_ISSUES = """
DELETE FROM issues AS i
USING json_to_recordset($1::json) AS r(issue_id text, last_sequence bigint)
WHERE i.workspace_id = $2 AND i.issue_id = r.issue_id AND i.seq <= r.last_sequence
"""


async def purge_issues(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Delete purged issues, unless they were reported anew since (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_ISSUES, (issues, workspace_id))


_PURGE_COMMENTS = """
DELETE FROM comments AS c
USING json_to_recordset($1::json) AS r(issue_id text, last_sequence bigint)
WHERE c.workspace_id = $2 AND c.issue_id = r.issue_id AND c.seq <= r.last_sequence
"""


async def purge_comments(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Delete what people said about purged issues (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_COMMENTS, (issues, workspace_id))


_PURGE_ANALYSES = """
DELETE FROM analyses AS a
USING json_to_recordset($1::json) AS r(issue_id text, last_sequence bigint)
WHERE a.workspace_id = $2 AND a.issue_id = r.issue_id AND a.seq <= r.last_sequence
"""


async def purge_analyses(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Delete who asked why purged issues happened (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_ANALYSES, (issues, workspace_id))


_PURGE_SUGGESTIONS = """
DELETE FROM suggestions AS s
USING json_to_recordset($1::json) AS r(issue_id text)
WHERE s.workspace_id = $2 AND s.issue_id = r.issue_id
"""


async def purge_suggestions(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Ask nobody any more where purged issues belong (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_SUGGESTIONS, (issues, workspace_id))


_PURGE_MOVES = """
UPDATE grouping_comparisons AS c SET moves = (
    SELECT coalesce(json_agg(m.move ORDER BY m.place), '[]')::text
    FROM json_array_elements(c.moves::json) WITH ORDINALITY AS m(move, place)
    WHERE NOT m.move ->> 'issue_id' IN (
        SELECT r.issue_id FROM json_to_recordset($1::json) AS r(issue_id text)))
WHERE c.workspace_id = $2 AND EXISTS (
    SELECT FROM json_array_elements(c.moves::json) AS m(move)
    JOIN json_to_recordset($1::json) AS r(issue_id text) ON m.move ->> 'issue_id' = r.issue_id)
"""


async def purge_moves(conn: AsyncConnection[Any], *, issues: str, workspace_id: str) -> None:
    """Leave purged issues out of what versions of the grouping would move; its numbers stay (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_MOVES, (issues, workspace_id))


_RENAME_MEMBERS = """
UPDATE pattern_members AS m SET issue_id = r.remainder_id
FROM json_to_recordset($2::json) AS r(issue_id text, remainder_id text)
WHERE m.workspace_id = $1 AND m.issue_id = r.issue_id
"""


async def rename_members(conn: AsyncConnection[Any], *, workspace_id: str, issues: str) -> None:
    """Let the memberships of purged issues follow to the ids of what is kept of them: patterns go on counting (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RENAME_MEMBERS, (workspace_id, issues))


_LIST_AGED_ISSUES = """
SELECT issue_id, updated_at AS since_at, seq FROM issues
WHERE workspace_id = $1 AND updated_at < $2::timestamptz
  AND (updated_at, seq) > ($3::timestamptz, $4::bigint)
ORDER BY updated_at, seq LIMIT $5
"""


async def list_aged_issues(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    unchanged_since: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Resting]:
    """Issues that nothing has happened to since a moment, those longest at rest first, behind a place in that order."""
    async with AsyncRawCursor(conn, row_factory=args_row(Resting)) as cursor:
        await cursor.execute(_LIST_AGED_ISSUES, (workspace_id, unchanged_since, after_at, after_seq, n))
        fetched: list[Resting] = await cursor.fetchall()
        return fetched


_SEE_EXPIRED = """
SELECT set_config('app.sees_expired', 'on', true)
"""


async def see_expired(conn: AsyncConnection[Any]) -> None:
    """See expired issues and predictions as well, in this transaction."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SEE_EXPIRED)


_LIST_EXPIRED_ISSUES = """
SELECT issue_id, expired_at AS since_at, seq FROM issues
WHERE workspace_id = $1 AND expired_at < $2::timestamptz
  AND (expired_at, seq) > ($3::timestamptz, $4::bigint)
ORDER BY expired_at, seq LIMIT $5
"""


async def list_expired_issues(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    expired_before: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Resting]:
    """Issues that expired before a moment, the longest expired first, behind a place in that order."""
    async with AsyncRawCursor(conn, row_factory=args_row(Resting)) as cursor:
        await cursor.execute(_LIST_EXPIRED_ISSUES, (workspace_id, expired_before, after_at, after_seq, n))
        fetched: list[Resting] = await cursor.fetchall()
        return fetched


_EXPIRE_PREDICTIONS = """
UPDATE predictions AS p SET expired_at = r.expired_at
FROM json_to_recordset($1::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.id
"""


async def expire_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Show predictions no longer (PredictionExpired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_EXPIRE_PREDICTIONS, (rows,))


_LIST_ENDED_PREDICTIONS = """
SELECT p.prediction_id, p.generated_at AS since_at, p.seq FROM predictions AS p
WHERE p.workspace_id = $1 AND NOT p.is_current
  AND (p.outcome IS NOT NULL OR p.feedback = 'prevented')
  AND p.generated_at < $2::timestamptz AND p.expires_at < $2::timestamptz
  AND p.updated_at < $2::timestamptz
  AND EXISTS (
    SELECT FROM predictions AS n
    WHERE n.workspace_id = p.workspace_id AND n.pattern_id = p.pattern_id AND n.window_days = p.window_days
      AND n.seq > p.seq AND (p.alerted_at IS NULL OR n.alerted_at IS NOT NULL)
      AND (p.is_held_out OR NOT n.is_held_out))
  AND (p.generated_at, p.seq) > ($3::timestamptz, $4::bigint)
ORDER BY p.generated_at, p.seq LIMIT $5
"""


async def list_ended_predictions(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ended_before: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Foretold]:
    """Predictions that ended before a moment and rest on nobody's account: a later one of their pattern and window is there,
    shown to people where this one was, and a later alert; the oldest first, behind a place in that order.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(Foretold)) as cursor:
        await cursor.execute(_LIST_ENDED_PREDICTIONS, (workspace_id, ended_before, after_at, after_seq, n))
        fetched: list[Foretold] = await cursor.fetchall()
        return fetched


_LIST_EXPIRED_PREDICTIONS = """
SELECT prediction_id, expired_at AS since_at, seq FROM predictions
WHERE workspace_id = $1 AND expired_at < $2::timestamptz
  AND (expired_at, seq) > ($3::timestamptz, $4::bigint)
ORDER BY expired_at, seq LIMIT $5
"""


async def list_expired_predictions(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    expired_before: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Foretold]:
    """Predictions that expired before a moment, the longest expired first, behind a place in that order."""
    async with AsyncRawCursor(conn, row_factory=args_row(Foretold)) as cursor:
        await cursor.execute(_LIST_EXPIRED_PREDICTIONS, (workspace_id, expired_before, after_at, after_seq, n))
        fetched: list[Foretold] = await cursor.fetchall()
        return fetched


_DELETE_PREDICTIONS = """
DELETE FROM predictions
WHERE workspace_id = $1 AND prediction_id = ANY($2::text[])
"""


async def delete_predictions(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    prediction_ids: list[str],
) -> None:
    """Delete predictions (PredictionsPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_PREDICTIONS, (workspace_id, prediction_ids))


_ADD_PURGED_PREDICTIONS = """
INSERT INTO purged_predictions AS s (workspace_id, window_days, model, model_version, thousandth, n, n_hits,
    probability_micro, brier_nano, base_nano, lead_ms)
SELECT r.workspace_id, r.window_days, r.model, r.model_version, r.thousandth, r.n, r.n_hits, r.probability_micro,
    r.brier_nano, r.base_nano, r.lead_ms
FROM json_to_recordset($1::json) AS r(
    workspace_id text, window_days integer, model text, model_version text, thousandth integer, n bigint, n_hits bigint,
    probability_micro bigint, brier_nano bigint, base_nano bigint, lead_ms bigint)
ON CONFLICT (workspace_id, window_days, model, model_version, thousandth) DO UPDATE SET
    n = s.n + excluded.n, n_hits = s.n_hits + excluded.n_hits,
    probability_micro = s.probability_micro + excluded.probability_micro,
    brier_nano = s.brier_nano + excluded.brier_nano, base_nano = s.base_nano + excluded.base_nano,
    lead_ms = s.lead_ms + excluded.lead_ms
"""


async def add_purged_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Add what scores are made of, of purged predictions (PredictionsPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_PURGED_PREDICTIONS, (rows,))


_EXPIRE_PROMPTS = """
UPDATE analyses AS a SET prompt_expired_at = r.expired_at
FROM json_to_recordset($1::json) AS r(workspace_id text, id text, expired_at timestamptz)
WHERE a.workspace_id = r.workspace_id AND a.analysis_id = r.id
"""


async def expire_prompts(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Show the prompts of these analyses no longer (PromptsExpired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_EXPIRE_PROMPTS, (rows,))


_LIST_EXPIRED_PROMPTS = """
SELECT analysis_id, prompt_expired_at AS since_at, seq FROM analyses
WHERE workspace_id = $1 AND prompt_expired_at < $2::timestamptz
  AND (prompt_expired_at, seq) > ($3::timestamptz, $4::bigint)
ORDER BY prompt_expired_at, seq LIMIT $5
"""


async def list_expired_prompts(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    expired_before: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Answered]:
    """Analyses whose prompts expired before a moment, the longest expired first, behind a place in that order."""
    async with AsyncRawCursor(conn, row_factory=args_row(Answered)) as cursor:
        await cursor.execute(_LIST_EXPIRED_PROMPTS, (workspace_id, expired_before, after_at, after_seq, n))
        fetched: list[Answered] = await cursor.fetchall()
        return fetched


_LIST_ANSWERED = """
SELECT analysis_id, recorded_at AS since_at, seq FROM analyses
WHERE workspace_id = $1 AND recorded_at < $2::timestamptz
  AND prompt_expired_at IS NULL
  AND (recorded_at, seq) > ($3::timestamptz, $4::bigint)
ORDER BY recorded_at, seq LIMIT $5
"""


async def list_answered(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    before: datetime,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Answered]:
    """Analyses that ended before a moment and whose prompts are shown, the oldest first, behind a place in that order."""
    async with AsyncRawCursor(conn, row_factory=args_row(Answered)) as cursor:
        await cursor.execute(_LIST_ANSWERED, (workspace_id, before, after_at, after_seq, n))
        fetched: list[Answered] = await cursor.fetchall()
        return fetched


_LIST_EXPIRED_IDS = """
SELECT i.issue_id AS expired_id FROM issues AS i
WHERE i.workspace_id = $1 AND i.expired_at IS NOT NULL
UNION ALL
SELECT p.prediction_id FROM predictions AS p
WHERE p.workspace_id = $1 AND p.expired_at IS NOT NULL
UNION ALL
SELECT s.run_id FROM sync_runs AS s
WHERE s.workspace_id = $1 AND s.expired_at IS NOT NULL
UNION ALL
SELECT a.analysis_id FROM analyses AS a
WHERE a.workspace_id = $1 AND a.prompt_expired_at IS NOT NULL
"""


async def list_expired_ids(conn: AsyncConnection[Any], *, workspace_id: str) -> list[str]:
    """All of a workspace that is expired: issues, predictions, runs, and analyses whose prompts are."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_EXPIRED_IDS, (workspace_id,))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_COUNT_ISSUES_UP_TO = """
SELECT count(*) FROM (
    SELECT 1 FROM issues WHERE workspace_id = $1 LIMIT $2::bigint) AS counted
"""


async def count_issues_up_to(conn: AsyncConnection[Any], *, workspace_id: str, at_most: int) -> int:
    """How many issues a workspace has, as far as anybody wants to know."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_ISSUES_UP_TO, (workspace_id, at_most))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_issues_up_to gave no row")
        return fetched


_LIST_MEMBER_FAILURES = """
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM pattern_members AS m
JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
WHERE m.workspace_id = $1 AND m.pattern_id = $2 AND m.is_shown
ORDER BY m.occurred_at DESC, i.seq DESC LIMIT $3::bigint
"""


async def list_member_failures(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    at_most: int,
) -> list[FailureRow]:
    """The latest members of a shown pattern, as far as they say something about a cause."""
    async with AsyncRawCursor(conn, row_factory=args_row(FailureRow)) as cursor:
        await cursor.execute(_LIST_MEMBER_FAILURES, (workspace_id, pattern_id, at_most))
        fetched: list[FailureRow] = await cursor.fetchall()
        return fetched


_LIST_LATEST_FAILURES = """
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM (
    SELECT workspace_id, issue_id, seq, source, external_id, title, body, severity, status, is_status_chosen, service, component, error_type, environment, version, team, assignee, external_url, connector_id, metadata, is_analyzing, analysis, reason, source_created_at, source_updated_at, created_at, updated_at, expired_at, risk_score FROM issues
    WHERE issues.workspace_id = $1 AND issues.created_at <= $2::timestamptz
    ORDER BY issues.created_at DESC, issues.seq DESC LIMIT $3::bigint) AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
ORDER BY i.created_at DESC, i.seq DESC
"""


async def list_latest_failures(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    known_at: datetime,
    at_most: int,
) -> list[FailureRow]:
    """The issues that were reported last up to a time, whatever pattern they are in."""
    async with AsyncRawCursor(conn, row_factory=args_row(FailureRow)) as cursor:
        await cursor.execute(_LIST_LATEST_FAILURES, (workspace_id, known_at, at_most))
        fetched: list[FailureRow] = await cursor.fetchall()
        return fetched


_LIST_FAILURES_AROUND = """
SELECT i.issue_id, i.title, i.source_created_at AS occurred_at, i.source, i.service, i.component, i.error_type,
    i.environment, i.version, i.team, m.pattern_id, p.name AS pattern_name
FROM (
    (SELECT workspace_id, issue_id, seq, source, external_id, title, body, severity, status, is_status_chosen, service, component, error_type, environment, version, team, assignee, external_url, connector_id, metadata, is_analyzing, analysis, reason, source_created_at, source_updated_at, created_at, updated_at, expired_at, risk_score FROM issues AS earlier
     WHERE earlier.workspace_id = $1
       AND earlier.source_created_at <= $2::timestamptz
     ORDER BY earlier.source_created_at DESC, earlier.seq DESC LIMIT $3::bigint / 2)
    UNION ALL
    (SELECT workspace_id, issue_id, seq, source, external_id, title, body, severity, status, is_status_chosen, service, component, error_type, environment, version, team, assignee, external_url, connector_id, metadata, is_analyzing, analysis, reason, source_created_at, source_updated_at, created_at, updated_at, expired_at, risk_score FROM issues AS later
     WHERE later.workspace_id = $1
       AND later.source_created_at > $2::timestamptz
     ORDER BY later.source_created_at, later.seq LIMIT $3::bigint / 2)) AS i
LEFT JOIN pattern_members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id AND m.is_shown
LEFT JOIN patterns AS p ON p.workspace_id = m.workspace_id AND p.pattern_id = m.pattern_id
ORDER BY i.source_created_at DESC, i.seq DESC
"""


async def list_failures_around(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    occurred_at: datetime,
    at_most: int,
) -> list[FailureRow]:
    """The issues that happened next before and next after a time, half of them each."""
    async with AsyncRawCursor(conn, row_factory=args_row(FailureRow)) as cursor:
        await cursor.execute(_LIST_FAILURES_AROUND, (workspace_id, occurred_at, at_most))
        fetched: list[FailureRow] = await cursor.fetchall()
        return fetched


_DELETE_CLUSTERS = """
DELETE FROM clusters AS c
USING json_to_recordset($1::json) AS r(workspace_id text) WHERE c.workspace_id = r.workspace_id
"""


async def delete_clusters(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Forget the clusters that a newer clustering replaces (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_CLUSTERS, (rows,))


_DELETE_RELATIONS = """
DELETE FROM pattern_relations AS t
USING json_to_recordset($1::json) AS r(workspace_id text) WHERE t.workspace_id = r.workspace_id
"""


async def delete_relations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Forget the relations that a newer clustering replaces (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_RELATIONS, (rows,))


_UPSERT_CLUSTERINGS = """
INSERT INTO clusterings (workspace_id, seq, run_id, computed_at, method_version, n_patterns, n_left_out)
SELECT r.workspace_id, r.seq, r.run_id, r.computed_at, r.method_version, r.n_patterns, r.n_left_out
FROM json_to_recordset($1::json) AS r(
    workspace_id text, seq bigint, run_id text, computed_at timestamptz, method_version text, n_patterns bigint,
    n_left_out bigint)
ON CONFLICT (workspace_id) DO UPDATE SET
    seq = excluded.seq, run_id = excluded.run_id, computed_at = excluded.computed_at,
    method_version = excluded.method_version, n_patterns = excluded.n_patterns, n_left_out = excluded.n_left_out
"""


async def upsert_clusterings(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note the latest clustering of each workspace (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_CLUSTERINGS, (rows,))


_INSERT_CLUSTERS = """
INSERT INTO clusters (workspace_id, cluster_id, seq, name, pattern_ids, reasons)
SELECT r.workspace_id, r.cluster_id, r.seq, r.name, r.pattern_ids, r.reasons
FROM json_to_recordset($1::json) AS r(
    workspace_id text, cluster_id text, seq bigint, name text, pattern_ids text[], reasons text)
"""


async def insert_clusters(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the clusters of a clustering (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_CLUSTERS, (rows,))


_INSERT_RELATIONS = """
INSERT INTO pattern_relations (workspace_id, pattern_id, other_pattern_id, weight, reasons)
SELECT r.workspace_id, r.pattern_id, r.other_pattern_id, r.weight, r.reasons
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, other_pattern_id text, weight double precision, reasons text)
"""


async def insert_relations(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the relations of a clustering (ClustersComputed)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_RELATIONS, (rows,))


_GET_CLUSTERING = """
SELECT run_id, computed_at, method_version, n_patterns, n_left_out, (
    SELECT count(*) FROM pattern_relations AS r WHERE r.workspace_id = g.workspace_id)::bigint AS n_relations
FROM clusterings AS g WHERE g.workspace_id = $1
"""


async def get_clustering(conn: AsyncConnection[Any], *, workspace_id: str) -> GetClusteringRow | None:
    """The latest clustering of a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetClusteringRow)) as cursor:
        await cursor.execute(_GET_CLUSTERING, (workspace_id,))
        fetched: GetClusteringRow | None = await cursor.fetchone()
        return fetched


_LIST_CLUSTER_NODES = """
SELECT p.pattern_id, p.name, p.status, p.risk_score, p.issue_count, p.last_seen_at
FROM (SELECT DISTINCT unnest($1::text[]) AS id) AS r
CROSS JOIN LATERAL (
    SELECT o.pattern_id, o.name, o.status, o.risk_score, o.issue_count, o.last_seen_at, o.is_shown, o.seq
    FROM patterns AS o
    WHERE o.workspace_id = $2 AND o.pattern_id = r.id
    LIMIT 1
) AS p
WHERE p.is_shown AND p.status <> 'merged'
ORDER BY p.risk_score DESC, p.seq
"""


async def list_cluster_nodes(
    conn: AsyncConnection[Any],
    *,
    pattern_ids: list[str],
    workspace_id: str,
) -> list[ClusterNode]:
    """The patterns of a cluster that are still there, the riskiest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ClusterNode)) as cursor:
        await cursor.execute(_LIST_CLUSTER_NODES, (pattern_ids, workspace_id))
        fetched: list[ClusterNode] = await cursor.fetchall()
        return fetched


_LIST_RELATIONS_AMONG = """
SELECT r.pattern_id, r.other_pattern_id, r.weight, r.reasons
FROM pattern_relations AS r
WHERE r.workspace_id = $1 AND r.pattern_id = ANY($2::text[])
  AND r.other_pattern_id = ANY($2::text[])
ORDER BY r.weight DESC, r.pattern_id, r.other_pattern_id
"""


async def list_relations_among(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
) -> list[ListRelationsAmongRow]:
    """The relations among these patterns, the strongest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListRelationsAmongRow)) as cursor:
        await cursor.execute(_LIST_RELATIONS_AMONG, (workspace_id, pattern_ids))
        fetched: list[ListRelationsAmongRow] = await cursor.fetchall()
        return fetched


_LIST_RELATED = """
SELECT p.pattern_id, p.name, p.status, p.risk_score, p.issue_count, p.last_seen_at, r.weight, r.reasons
FROM (
    SELECT a.other_pattern_id AS pattern_id, a.weight, a.reasons FROM pattern_relations AS a
    WHERE a.workspace_id = $1 AND a.pattern_id = $2
    UNION ALL
    SELECT b.pattern_id, b.weight, b.reasons FROM pattern_relations AS b
    WHERE b.workspace_id = $1 AND b.other_pattern_id = $2) AS r
JOIN patterns AS p ON p.workspace_id = $1 AND p.pattern_id = r.pattern_id
WHERE p.is_shown AND p.status <> 'merged'
ORDER BY r.weight DESC, p.pattern_id LIMIT $3::bigint
"""


async def list_related(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
    n: int,
) -> list[ListRelatedRow]:
    """The patterns that are related to one and still there, the most related first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListRelatedRow)) as cursor:
        await cursor.execute(_LIST_RELATED, (workspace_id, pattern_id, n))
        fetched: list[ListRelatedRow] = await cursor.fetchall()
        return fetched


_FIND_CLUSTER_OF = """
SELECT cluster_id, name FROM clusters
WHERE workspace_id = $1 AND $2::text = ANY(pattern_ids)
ORDER BY seq LIMIT 1
"""


async def find_cluster_of(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
) -> FindClusterOfRow | None:
    """The cluster that a pattern is in."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindClusterOfRow)) as cursor:
        await cursor.execute(_FIND_CLUSTER_OF, (workspace_id, pattern_id))
        fetched: FindClusterOfRow | None = await cursor.fetchone()
        return fetched


_INSERT_FIXES = """
INSERT INTO fixes (workspace_id, fix_id, seq, pattern_id, recommendation_ids, note, environment, version, fixed_at,
    standing, ended_as, judged_at, quiet_days, confidence, broken_by, broken_at, was_verified, inputs, rate_drop, ledger,
    updated_at)
SELECT r.workspace_id, r.fix_id, r.seq, r.pattern_id, r.recommendation_ids, r.note, r.environment, r.version, r.fixed_at,
    r.standing, r.ended_as, r.judged_at, r.quiet_days, r.confidence, r.broken_by, r.broken_at, r.was_verified, r.inputs,
    r.rate_drop, r.ledger, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, fix_id text, seq bigint, pattern_id text, recommendation_ids text, note text, environment text,
    version text, fixed_at timestamptz, standing text, ended_as text, judged_at timestamptz, quiet_days double precision,
    confidence double precision, broken_by text, broken_at timestamptz, was_verified boolean, inputs text, rate_drop text,
    ledger text, updated_at timestamptz)
ON CONFLICT (workspace_id, fix_id) DO NOTHING
"""


async def insert_fixes(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Begin the proofs of fixes (ProofStarted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_FIXES, (rows,))


_UPDATE_FIXES = """
UPDATE fixes AS f SET
    note = coalesce(r.note, f.note),
    standing = coalesce(r.standing, f.standing),
    ended_as = CASE WHEN r.standing IS NULL THEN f.ended_as ELSE r.ended_as END,
    judged_at = coalesce(r.judged_at, f.judged_at),
    quiet_days = coalesce(r.quiet_days, f.quiet_days),
    confidence = coalesce(r.confidence, f.confidence),
    broken_by = coalesce(r.broken_by, f.broken_by),
    broken_at = coalesce(r.broken_at, f.broken_at),
    was_verified = coalesce(r.was_verified, f.was_verified),
    inputs = coalesce(r.inputs, f.inputs),
    rate_drop = coalesce(r.rate_drop, f.rate_drop),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, fix_id text, note text, standing text, ended_as text, judged_at timestamptz,
    quiet_days double precision, confidence double precision, broken_by text, broken_at timestamptz,
    was_verified boolean, inputs text, rate_drop text, updated_at timestamptz)
WHERE f.workspace_id = r.workspace_id AND f.fix_id = r.fix_id
"""


async def update_fixes(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Change what a batch says of fixes; what it does not mention stays (every other event of a fix)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_FIXES, (rows,))


_LIST_FIXES = """
SELECT workspace_id, fix_id, seq, pattern_id, recommendation_ids, note, environment, version, fixed_at, standing, ended_as,
       judged_at, quiet_days, confidence, broken_by, broken_at, was_verified, inputs, rate_drop, ledger, updated_at
FROM fixes
WHERE workspace_id = $1 AND pattern_id = ANY($2::text[])
ORDER BY seq DESC
LIMIT $3::bigint
"""


async def list_fixes(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_ids: list[str],
    n_most: int,
) -> list[FixesRow]:
    """The fixes of these patterns, the latest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(FixesRow)) as cursor:
        await cursor.execute(_LIST_FIXES, (workspace_id, pattern_ids, n_most))
        fetched: list[FixesRow] = await cursor.fetchall()
        return fetched


_LIST_LEDGER = """
SELECT f.fix_id, f.pattern_id, t.name::text AS pattern_name, f.fixed_at, f.standing, f.inputs, f.ledger,
       (SELECT min(n.fixed_at) FROM fixes AS n
        WHERE n.workspace_id = f.workspace_id AND n.pattern_id = f.pattern_id AND n.seq > f.seq
          AND n.ended_as IS DISTINCT FROM 'withdrawn')::timestamptz AS ended_at
FROM fixes AS f
LEFT JOIN patterns AS t ON t.workspace_id = f.workspace_id AND t.pattern_id = f.pattern_id
WHERE f.workspace_id = $1 AND f.ended_as IS DISTINCT FROM 'withdrawn'
  AND ($2::text IS NULL OR f.pattern_id = $2::text)
ORDER BY f.seq DESC
LIMIT $3::bigint
"""


async def list_ledger(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
    n_most: int,
) -> list[LedgerRow]:
    """The fixes that the ledger counts, the latest first, each with the time of the pattern's next one; pattern_id NULL = all."""
    async with AsyncRawCursor(conn, row_factory=args_row(LedgerRow)) as cursor:
        await cursor.execute(_LIST_LEDGER, (workspace_id, pattern_id, n_most))
        fetched: list[LedgerRow] = await cursor.fetchall()
        return fetched


_UPSERT_PLAYS = """
INSERT INTO plays (workspace_id, play_id, seq, play, defined_by, created_at, updated_at)
SELECT r.workspace_id, r.play_id, r.seq, r.play, r.defined_by, r.created_at, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, play_id text, seq bigint, play text, defined_by text, created_at timestamptz,
    updated_at timestamptz)
ON CONFLICT (workspace_id, play_id) DO UPDATE SET
    seq = excluded.seq, play = excluded.play, defined_by = excluded.defined_by, updated_at = excluded.updated_at
"""


async def upsert_plays(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write plays of workspaces' own, whole (PlayDefined)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PLAYS, (rows,))


_DELETE_PLAYS = """
DELETE FROM plays AS p USING json_to_recordset($1::json) AS r(workspace_id text, play_id text)
WHERE p.workspace_id = r.workspace_id AND p.play_id = r.play_id
"""


async def delete_plays(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Take plays away (PlayWithdrawn)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_PLAYS, (rows,))


_LIST_PLAYS = """
SELECT workspace_id, play_id, seq, play, defined_by, created_at, updated_at FROM plays
WHERE workspace_id = $1 ORDER BY play_id
"""


async def list_plays(conn: AsyncConnection[Any], *, workspace_id: str) -> list[PlaysRow]:
    """A workspace's own plays."""
    async with AsyncRawCursor(conn, row_factory=args_row(PlaysRow)) as cursor:
        await cursor.execute(_LIST_PLAYS, (workspace_id,))
        fetched: list[PlaysRow] = await cursor.fetchall()
        return fetched


_FIND_PLAY = """
SELECT workspace_id, play_id, seq, play, defined_by, created_at, updated_at FROM plays
WHERE workspace_id = $1 AND play_id = $2 LIMIT 1
"""


async def find_play(conn: AsyncConnection[Any], *, workspace_id: str, play_id: str) -> list[PlaysRow]:
    """One of a workspace's own plays, if it has it."""
    async with AsyncRawCursor(conn, row_factory=args_row(PlaysRow)) as cursor:
        await cursor.execute(_FIND_PLAY, (workspace_id, play_id))
        fetched: list[PlaysRow] = await cursor.fetchall()
        return fetched


_UPSERT_ABSTENTIONS = """
INSERT INTO abstentions (workspace_id, pattern_id, seq, best_fit, floor, best_play_id, best_play_title,
    playbook_version, withheld_at)
SELECT r.workspace_id, r.pattern_id, r.seq, r.best_fit, r.floor, r.best_play_id, r.best_play_title,
    r.playbook_version, r.withheld_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, seq bigint, best_fit double precision, floor double precision,
    best_play_id text, best_play_title text, playbook_version text, withheld_at timestamptz)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    seq = excluded.seq, best_fit = excluded.best_fit, floor = excluded.floor,
    best_play_id = excluded.best_play_id, best_play_title = excluded.best_play_title,
    playbook_version = excluded.playbook_version, withheld_at = excluded.withheld_at
"""


async def upsert_abstentions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write why nothing is recommended for patterns, the latest (RecommendationWithheld)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_ABSTENTIONS, (rows,))


_FIND_ABSTENTION = """
SELECT workspace_id, pattern_id, seq, best_fit, floor, best_play_id, best_play_title, playbook_version, withheld_at
FROM abstentions
WHERE workspace_id = $1 AND pattern_id = $2
"""


async def find_abstention(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str,
) -> AbstentionsRow | None:
    """Why nothing was recommended for a pattern when that was last decided; none when something was, or nothing yet."""
    async with AsyncRawCursor(conn, row_factory=args_row(AbstentionsRow)) as cursor:
        await cursor.execute(_FIND_ABSTENTION, (workspace_id, pattern_id))
        fetched: AbstentionsRow | None = await cursor.fetchone()
        return fetched


_COUNT_RECOMMENDED = """
SELECT (SELECT count(*) FROM recommendations AS m WHERE m.workspace_id = $1
        AND ($2::text IS NULL OR m.pattern_id = $2::text))::bigint AS n_made,
       (SELECT count(*) FROM patterns AS p WHERE p.workspace_id = $1 AND p.is_shown
        AND p.status NOT IN ('resolved', 'merged'))::bigint AS n_patterns,
       (SELECT count(*) FROM patterns AS p JOIN abstentions AS a
        ON a.workspace_id = p.workspace_id AND a.pattern_id = p.pattern_id
        WHERE p.workspace_id = $1 AND p.is_shown
        AND p.status NOT IN ('resolved', 'merged'))::bigint AS n_withheld
"""


async def count_recommended(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    pattern_id: str | None,
) -> CountRecommendedRow | None:
    """What a list of recommendations is empty of: those of a pattern (NULL = of all), patterns that go on, and those for
    which no play fitted.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(CountRecommendedRow)) as cursor:
        await cursor.execute(_COUNT_RECOMMENDED, (workspace_id, pattern_id))
        fetched: CountRecommendedRow | None = await cursor.fetchone()
        return fetched


_UPSERT_GROUPING_VERSIONS = """
INSERT INTO grouping_versions (workspace_id, version_id, seq, version, fitted_at, n_decisions, n_joining, shipped_loss,
    loss, is_better, linker, shipped)
SELECT r.workspace_id, r.version_id, r.seq, r.version, r.fitted_at, r.n_decisions, r.n_joining, r.shipped_loss, r.loss,
    r.is_better, r.linker, r.shipped
FROM json_to_recordset($1::json) AS r(
    workspace_id text, version_id text, seq bigint, version text, fitted_at timestamptz, n_decisions bigint,
    n_joining bigint, shipped_loss double precision, loss double precision, is_better boolean, linker text,
    shipped text)
ON CONFLICT (workspace_id, version_id) DO UPDATE SET
    version = excluded.version, linker = excluded.linker, shipped = excluded.shipped
"""


async def upsert_grouping_versions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the linkers that a workspace can be grouped by; the shipped one may be another since (GroupingVersionFitted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_GROUPING_VERSIONS, (rows,))


_UPSERT_GROUPINGS = """
INSERT INTO groupings (workspace_id, version_id, activated_at, activated_by)
SELECT r.workspace_id, r.version_id, r.activated_at, r.activated_by
FROM json_to_recordset($1::json) AS r(
    workspace_id text, version_id text, activated_at timestamptz, activated_by text)
ON CONFLICT (workspace_id) DO UPDATE SET
    version_id = excluded.version_id, activated_at = excluded.activated_at, activated_by = excluded.activated_by
"""


async def upsert_groupings(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Note the version that each workspace is grouped by (GroupingVersionActivated)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_GROUPINGS, (rows,))


_UPSERT_GROUPING_COMPARISONS = """
INSERT INTO grouping_comparisons (workspace_id, version_id, run_id, compared_at, base_version_id, base_version, n_texts,
    n_asked, n_decided, n_moved, n_joining, n_leaving, moves)
SELECT r.workspace_id, r.version_id, r.run_id, r.compared_at, r.base_version_id, r.base_version, r.n_texts, r.n_asked,
    r.n_decided, r.n_moved, r.n_joining, r.n_leaving, r.moves
FROM json_to_recordset($1::json) AS r(
    workspace_id text, version_id text, run_id text, compared_at timestamptz, base_version_id text, base_version text,
    n_texts bigint, n_asked bigint, n_decided bigint, n_moved bigint, n_joining bigint, n_leaving bigint, moves text)
ON CONFLICT (workspace_id, version_id) DO UPDATE SET
    run_id = excluded.run_id, compared_at = excluded.compared_at, base_version_id = excluded.base_version_id,
    base_version = excluded.base_version, n_texts = excluded.n_texts, n_asked = excluded.n_asked,
    n_decided = excluded.n_decided, n_moved = excluded.n_moved, n_joining = excluded.n_joining,
    n_leaving = excluded.n_leaving, moves = excluded.moves
"""


async def upsert_grouping_comparisons(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what versions would move, in the place of what was found out before (GroupingVersionCompared)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_GROUPING_COMPARISONS, (rows,))


_GET_GROUPING_COMPARISON = """
SELECT workspace_id, version_id, run_id, compared_at, base_version_id, base_version, n_texts, n_asked, n_decided, n_moved, n_joining, n_leaving, moves FROM grouping_comparisons WHERE workspace_id = $1 AND version_id = $2
"""


async def get_grouping_comparison(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    version_id: str,
) -> GroupingComparisonsRow | None:
    """What a version would move, as last found out."""
    async with AsyncRawCursor(conn, row_factory=args_row(GroupingComparisonsRow)) as cursor:
        await cursor.execute(_GET_GROUPING_COMPARISON, (workspace_id, version_id))
        fetched: GroupingComparisonsRow | None = await cursor.fetchone()
        return fetched


_LIST_ISSUE_TITLES = """
SELECT issue_id, title FROM issues
WHERE workspace_id = $1 AND issue_id = ANY($2::text[])
ORDER BY issue_id
"""


async def list_issue_titles(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    issue_ids: list[str],
) -> list[TitleOfIssue]:
    """The titles of issues that are there."""
    async with AsyncRawCursor(conn, row_factory=args_row(TitleOfIssue)) as cursor:
        await cursor.execute(_LIST_ISSUE_TITLES, (workspace_id, issue_ids))
        fetched: list[TitleOfIssue] = await cursor.fetchall()
        return fetched


_INSERT_CONNECTORS = """
INSERT INTO connectors (workspace_id, connector_id, seq, type, display_name, config, auth, schedule, streams, mapping,
    manifest, status, reason, detail, status_changed_at, secrets, created_by, created_at, updated_at)
SELECT r.workspace_id, r.connector_id, r.seq, r.type, r.display_name, r.config, r.auth, r.schedule, r.streams, r.mapping,
    r.manifest, r.status, r.reason, r.detail, r.status_changed_at, r.secrets, r.created_by, r.created_at, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, connector_id text, seq bigint, type text, display_name text, config text, auth integer,
    schedule text, streams text, mapping text, manifest text, status text, reason text, detail text,
    status_changed_at timestamptz, secrets text, created_by text, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, connector_id) DO NOTHING
"""


async def insert_connectors(conn: AsyncConnection[Any], *, rows: str) -> None:
    """ConnectorCreated: one connector per row."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_CONNECTORS, (rows,))


_UPDATE_CONNECTORS = """
UPDATE connectors AS c SET
    display_name = coalesce(r.display_name, c.display_name),
    config = coalesce(r.config, c.config),
    auth = coalesce(r.auth, c.auth),
    schedule = CASE WHEN r.type IS NULL THEN c.schedule ELSE r.schedule END,
    streams = coalesce(r.streams, c.streams),
    mapping = coalesce(r.mapping, c.mapping),
    manifest = CASE WHEN r.type IS NULL THEN c.manifest ELSE r.manifest END,
    status = coalesce(r.status, c.status),
    reason = coalesce(r.reason, c.reason),
    detail = coalesce(r.detail, c.detail),
    status_changed_at = coalesce(r.status_changed_at, c.status_changed_at),
    secrets = coalesce(r.secrets, c.secrets),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, connector_id text, type text, display_name text, config text, auth integer, schedule text,
    streams text, mapping text, manifest text, status text, reason text, detail text, status_changed_at timestamptz,
    secrets text, updated_at timestamptz)
WHERE c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id
"""


async def update_connectors(conn: AsyncConnection[Any], *, rows: str) -> None:
    """ConnectorConfigured (all settings at once), ConnectorCredentialsChanged, ConnectorStatusChanged: the columns that are there."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_CONNECTORS, (rows,))


_DELETE_CONNECTORS = """
DELETE FROM connectors AS c USING json_to_recordset($1::json) AS r(workspace_id text, connector_id text)
WHERE c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id
"""


async def delete_connectors(conn: AsyncConnection[Any], *, rows: str) -> None:
    """ConnectorDeleted: the connector."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_CONNECTORS, (rows,))


_EXPIRE_SYNC_RUNS = """
UPDATE sync_runs AS s SET expired_at = r.expired_at
FROM json_to_recordset($1::json) AS r(workspace_id text, connector_id text, expired_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.connector_id = r.connector_id AND s.expired_at IS NULL
"""


async def expire_sync_runs(conn: AsyncConnection[Any], *, rows: str) -> None:
    """ConnectorDeleted: its runs are shown to nobody."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_EXPIRE_SYNC_RUNS, (rows,))


_PURGE_SYNC_RUNS = """
DELETE FROM sync_runs AS s USING json_to_recordset($1::json) AS r(workspace_id text, run_id text)
WHERE s.workspace_id = r.workspace_id AND s.run_id = r.run_id
"""


async def purge_sync_runs(conn: AsyncConnection[Any], *, rows: str) -> None:
    """SyncRunsPurged."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_SYNC_RUNS, (rows,))


_LIST_OVER_RUNS = """
SELECT s.run_id, s.ended_at AS since_at, s.seq FROM sync_runs AS s
WHERE s.workspace_id = $1 AND s.ended_at < $2::timestamptz
  AND (s.expired_at < $3::timestamptz OR (
  (s.ended_at < $4::timestamptz
       OR (s.kind = 'scheduled' AND s.status = 'succeeded' AND s.n_created + s.n_updated + s.n_rejected = 0))
  AND (s.kind NOT IN ('scheduled', 'manual') OR EXISTS (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.kind IN ('scheduled', 'manual')))
  AND (s.status <> 'succeeded' OR EXISTS (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.status = 'succeeded'))
  AND (SELECT count(*) FROM (
    SELECT FROM sync_runs AS n
    WHERE n.workspace_id = s.workspace_id AND n.connector_id = s.connector_id AND n.seq > s.seq
      AND n.ended_at > s.ended_at AND n.status <> 'cancelled'
    LIMIT $5::integer) AS later) >= $5::integer))
  AND (s.ended_at, s.seq) > ($6::timestamptz, $7::bigint)
ORDER BY s.ended_at, s.seq LIMIT $8
"""


async def list_over_runs(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    quiet_before: datetime,
    expired_before: datetime,
    ended_before: datetime,
    kept: int,
    after_at: datetime,
    after_seq: int,
    n: int,
) -> list[Over]:
    """Runs that ended before a moment, or before a later one if nothing came of them, the oldest first, behind a place in that
    order; of each connector the last poll, the last that succeeded and the last so many that ended are not among them, but
    all that ended of one that was deleted before a moment.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(Over)) as cursor:
        await cursor.execute(_LIST_OVER_RUNS, (workspace_id, quiet_before, expired_before, ended_before, kept, after_at, after_seq, n))
        fetched: list[Over] = await cursor.fetchall()
        return fetched


_INSERT_SYNC_RUNS = """
INSERT INTO sync_runs (workspace_id, run_id, connector_id, seq, kind, status, window_start, window_end, requested_by,
    requested_at, started_at, ended_at, n_chunks_done, n_chunks, n_records, n_created, n_updated, n_unchanged, n_ignored,
    n_rejected, reason, detail, updated_at, expired_at)
SELECT r.workspace_id, r.run_id, r.connector_id, r.seq, r.kind, r.status, r.window_start, r.window_end, r.requested_by,
    r.requested_at, r.started_at, r.ended_at, r.n_chunks_done, r.n_chunks, r.n_records, r.n_created, r.n_updated,
    r.n_unchanged, r.n_ignored, r.n_rejected, r.reason, r.detail, r.updated_at,
    coalesce(r.expired_at, CASE WHEN c.connector_id IS NULL THEN r.requested_at END)
FROM json_to_recordset($1::json) AS r(
    workspace_id text, run_id text, connector_id text, seq bigint, kind text, status text, window_start timestamptz,
    window_end timestamptz, requested_by text, requested_at timestamptz, started_at timestamptz, ended_at timestamptz,
    n_chunks_done integer, n_chunks integer, n_records bigint, n_created bigint, n_updated bigint, n_unchanged bigint,
    n_ignored bigint, n_rejected bigint, reason text, detail text, updated_at timestamptz, expired_at timestamptz)
LEFT JOIN connectors AS c ON c.workspace_id = r.workspace_id AND c.connector_id = r.connector_id
ON CONFLICT (workspace_id, run_id) DO NOTHING
"""


async def insert_sync_runs(conn: AsyncConnection[Any], *, rows: str) -> None:
    """SyncRequested, with what the same batch says of the run; one that was asked for behind the end of its connector is
    shown to nobody.
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_SYNC_RUNS, (rows,))


_UPDATE_SYNC_RUNS = """
UPDATE sync_runs AS s SET
    status = r.status,
    started_at = coalesce(s.started_at, r.started_at),
    ended_at = coalesce(r.ended_at, s.ended_at),
    n_chunks_done = coalesce(r.n_chunks_done, s.n_chunks_done),
    n_chunks = coalesce(r.n_chunks, s.n_chunks),
    n_records = r.n_records,
    n_created = r.n_created,
    n_updated = r.n_updated,
    n_unchanged = r.n_unchanged,
    n_ignored = r.n_ignored,
    n_rejected = r.n_rejected,
    reason = coalesce(r.reason, s.reason),
    detail = coalesce(r.detail, s.detail),
    updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, run_id text, status text, started_at timestamptz, ended_at timestamptz, n_chunks_done integer,
    n_chunks integer, n_records bigint, n_created bigint, n_updated bigint, n_unchanged bigint, n_ignored bigint,
    n_rejected bigint, reason text, detail text, updated_at timestamptz)
WHERE s.workspace_id = r.workspace_id AND s.run_id = r.run_id
"""


async def update_sync_runs(conn: AsyncConnection[Any], *, rows: str) -> None:
    """SyncProgressed, SyncEnded: the columns that are there; it started when it first went on."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_SYNC_RUNS, (rows,))


_INSERT_TICKETS = """
INSERT INTO tickets (workspace_id, ticket_id, seq, recommendation_id, connector_id, tracker, external_id, external_url,
    target, is_found, state, external_status, created_by, created_at, updated_at)
SELECT r.workspace_id, r.ticket_id, r.seq, r.recommendation_id, r.connector_id, r.tracker, r.external_id, r.external_url,
    r.target, r.is_found, r.state, r.external_status, r.created_by, r.created_at, r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, ticket_id text, seq bigint, recommendation_id text, connector_id text, tracker text,
    external_id text, external_url text, target text, is_found boolean, state text, external_status text,
    created_by text, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (workspace_id, ticket_id) DO NOTHING
"""


async def insert_tickets(conn: AsyncConnection[Any], *, rows: str) -> None:
    """TicketCreated, with what the same batch says of the ticket."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_TICKETS, (rows,))


_UPDATE_TICKETS = """
UPDATE tickets AS t SET state = r.state, external_status = r.external_status, updated_at = r.updated_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, ticket_id text, state text, external_status text, updated_at timestamptz)
WHERE t.workspace_id = r.workspace_id AND t.ticket_id = r.ticket_id
"""


async def update_tickets(conn: AsyncConnection[Any], *, rows: str) -> None:
    """TicketStateChanged: where the ticket stands now."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_TICKETS, (rows,))


_LIST_TICKETS = """
SELECT ticket_id, recommendation_id, connector_id, tracker, external_id, external_url, target, is_found, state,
       external_status, created_by, created_at, updated_at
FROM tickets
WHERE workspace_id = $1 AND recommendation_id = ANY($2::text[])
ORDER BY seq
"""


async def list_tickets(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    recommendation_ids: list[str],
) -> list[ListTicketsRow]:
    """The tickets of these recommendations, the oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListTicketsRow)) as cursor:
        await cursor.execute(_LIST_TICKETS, (workspace_id, recommendation_ids))
        fetched: list[ListTicketsRow] = await cursor.fetchall()
        return fetched


_COUNT_CONNECTORS = """
SELECT count(*) AS n_connectors, count(*) FILTER (WHERE status = 'connected') AS n_connected,
       coalesce(
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = $1 AND r.status = 'succeeded' LIMIT 1),
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = $1 AND r.status = 'running' LIMIT 1),
           (SELECT r.status FROM sync_runs AS r
            WHERE r.workspace_id = $1 ORDER BY r.seq LIMIT 1))::text AS first_run_status
FROM connectors
WHERE workspace_id = $1
"""


async def count_connectors(conn: AsyncConnection[Any], *, workspace_id: str) -> CountConnectorsRow | None:
    """How many connectors a workspace has, how many of them are connected, and how their first run stands: one that succeeded,
    else one that runs, else the first of all.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(CountConnectorsRow)) as cursor:
        await cursor.execute(_COUNT_CONNECTORS, (workspace_id,))
        fetched: CountConnectorsRow | None = await cursor.fetchone()
        return fetched


_LIST_ISSUE_CONNECTORS = """
SELECT issue_id, connector_id FROM issues
WHERE workspace_id = $1 AND issue_id = ANY ($2::text[])
"""


async def list_issue_connectors(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    issue_ids: list[str],
) -> list[ListIssueConnectorsRow]:
    """Which connectors issues came through."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListIssueConnectorsRow)) as cursor:
        await cursor.execute(_LIST_ISSUE_CONNECTORS, (workspace_id, issue_ids))
        fetched: list[ListIssueConnectorsRow] = await cursor.fetchall()
        return fetched
