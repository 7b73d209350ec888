"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row


class PredictionsRow(Struct, frozen=True):
    """One row of the table predictions."""

    workspace_id: str
    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    model_probability: float
    base_rate: float | None
    made_at: datetime
    expires_at: datetime
    made_seq: int
    seq: int
    outcome: str | None
    feedback: str | None
    is_dismissed: bool
    expired_at: datetime | None


class ListShownPatternsRow(Struct, frozen=True):
    """One row of list_shown_patterns."""

    workspace_id: str
    pattern_id: str
    status: str
    n_issues: int
    merged_into: str | None
    forecast_n_issues: int | None
    forecast_at: datetime | None
    forecast_id: str | None


class ListOpenPredictionsRow(Struct, frozen=True):
    """One row of list_open_predictions."""

    workspace_id: str
    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    made_at: datetime
    expires_at: datetime
    made_seq: int
    seq: int
    feedback: str | None


class ListForecastsRow(Struct, frozen=True):
    """One row of list_forecasts."""

    workspace_id: str
    pattern_id: str
    made_at: datetime
    forecast_id: str
    has_come_true: bool


class OutlooksRow(Struct, frozen=True):
    """One row of the table outlooks."""

    workspace_id: str
    pattern_id: str
    window_days: int
    probability: float
    alert_threshold: float | None


class WorkspacesRow(Struct, frozen=True):
    """One row of the table workspaces."""

    workspace_id: str
    timezone: str
    alert_probability: float


class ListOccurrencesRow(Struct, frozen=True):
    """One row of list_occurrences."""

    workspace_id: str
    pattern_id: str
    n_p1: int
    n_p2: int
    n_p3: int
    n_p4: int
    first_at: datetime
    first_issue_id: str
    last_at: datetime
    last_issue_id: str


class FindForerunnersRow(Struct, frozen=True):
    """One row of find_forerunners."""

    workspace_id: str
    pattern_id: str
    forerunner_id: str
    name: str
    n_led: int


class ListScoresRow(Struct, frozen=True):
    """One row of list_scores."""

    workspace_id: str
    window_days: int
    bin: int
    first_day: date
    last_day: date
    n_resolved: int
    n_hits: int
    brier_nano: int
    base_nano: int


class ListModelsRow(Struct, frozen=True):
    """One row of list_models."""

    workspace_id: str
    model_id: str
    fitted_at: datetime
    model: str


class ListPastRow(Struct, frozen=True):
    """One row of list_past."""

    pattern_id: str
    first_at: datetime
    last_at: datetime


class ListPreventedRow(Struct, frozen=True):
    """One row of list_prevented."""

    pattern_id: str
    made_at: datetime
    expires_at: datetime


_INSERT_PATTERNS = """
INSERT INTO patterns (workspace_id, pattern_id, name, status, n_issues)
SELECT r.workspace_id, r.pattern_id, '', 'candidate', 0
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
ON CONFLICT (workspace_id, pattern_id) DO NOTHING
"""


async def insert_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Make a row for every pattern of a batch that has none yet (all events of patterns)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PATTERNS, (rows,))


_UPDATE_PATTERNS = """
UPDATE patterns SET
    name = coalesce(r.name, patterns.name),
    status = coalesce(r.status, patterns.status),
    n_issues = coalesce(r.n_issues, patterns.n_issues),
    merged_into = coalesce(r.merged_into, patterns.merged_into),
    forecast_n_issues = CASE WHEN r.forecast_id IS NULL THEN patterns.forecast_n_issues
                             ELSE coalesce(r.forecast_n_issues, patterns.n_issues) END,
    forecast_at = coalesce(r.forecast_at, patterns.forecast_at),
    forecast_id = coalesce(r.forecast_id, patterns.forecast_id)
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, name text, status text, n_issues bigint, merged_into text,
    forecast_n_issues bigint, forecast_at timestamptz, forecast_id text)
WHERE patterns.workspace_id = r.workspace_id AND patterns.pattern_id = r.pattern_id
"""


async def update_patterns(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write what a batch says of each pattern; NULL leaves a column as it was, and a forecast without a count counts what was known before the batch (all events of patterns, PredictionMade)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_PATTERNS, (rows,))


_ADD_OCCURRENCES = """
INSERT INTO occurrences AS o (
    workspace_id, pattern_id, hour_at, n_issues, n_p1, n_p2, n_p3, n_p4,
    first_at, first_issue_id, last_at, last_issue_id)
SELECT r.workspace_id, r.pattern_id, r.hour_at, r.n_issues, r.n_p1, r.n_p2, r.n_p3, r.n_p4,
       r.first_at, r.first_issue_id, r.last_at, r.last_issue_id
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, hour_at timestamptz, n_issues bigint,
    n_p1 bigint, n_p2 bigint, n_p3 bigint, n_p4 bigint,
    first_at timestamptz, first_issue_id text, last_at timestamptz, last_issue_id text)
ON CONFLICT (workspace_id, pattern_id, hour_at) DO UPDATE SET
    n_issues = o.n_issues + excluded.n_issues,
    n_p1 = o.n_p1 + excluded.n_p1,
    n_p2 = o.n_p2 + excluded.n_p2,
    n_p3 = o.n_p3 + excluded.n_p3,
    n_p4 = o.n_p4 + excluded.n_p4,
    first_issue_id = CASE WHEN excluded.first_at < o.first_at THEN excluded.first_issue_id ELSE o.first_issue_id END,
    first_at = least(o.first_at, excluded.first_at),
    last_issue_id = CASE WHEN excluded.last_at >= o.last_at THEN excluded.last_issue_id ELSE o.last_issue_id END,
    last_at = greatest(o.last_at, excluded.last_at)
"""


async def add_occurrences(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Add the issues of a batch to the hours in which they happened (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_OCCURRENCES, (rows,))


_INSERT_LINKS = """
INSERT INTO links (workspace_id, pattern_id, seq, issues)
SELECT r.workspace_id, r.pattern_id, r.seq, r.issues
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text, seq bigint, issues jsonb)
ON CONFLICT (workspace_id, pattern_id, seq) DO NOTHING
"""


async def insert_links(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Keep which issues an event linked, for later corrections (IssuesLinked)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_LINKS, (rows,))


_REMOVE_LINKS = """
UPDATE links SET issues = (
    SELECT coalesce(jsonb_agg(kept.issue ORDER BY kept.place), '[]'::jsonb)
    FROM jsonb_array_elements(links.issues) WITH ORDINALITY AS kept(issue, place)
    WHERE NOT (kept.issue ->> 'issue_id' = ANY($1::text[])))
WHERE links.workspace_id = $2 AND links.pattern_id = $3
  AND EXISTS (
    SELECT 1 FROM jsonb_array_elements(links.issues) AS found(issue)
    WHERE found.issue ->> 'issue_id' = ANY($1::text[]))
"""


async def remove_links(
    conn: AsyncConnection[Any],
    *,
    issue_ids: list[str],
    workspace_id: str,
    pattern_id: str,
) -> None:
    """Take issues out of a pattern (IssueUnlinked, PatternSplit)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REMOVE_LINKS, (issue_ids, workspace_id, pattern_id))


_MOVE_LINKS = """
UPDATE links SET pattern_id = $1
WHERE workspace_id = $2 AND pattern_id = $3
"""


async def move_links(
    conn: AsyncConnection[Any],
    *,
    target_pattern_id: str,
    workspace_id: str,
    source_pattern_id: str,
) -> None:
    """Move all issues of a pattern into another (PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MOVE_LINKS, (target_pattern_id, workspace_id, source_pattern_id))


_FORGET_OCCURRENCES = """
DELETE FROM occurrences WHERE workspace_id = $1 AND pattern_id = $2
"""


async def forget_occurrences(conn: AsyncConnection[Any], *, workspace_id: str, pattern_id: str) -> None:
    """Forget the hours of a pattern before they are counted again (IssueUnlinked, PatternSplit, PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_OCCURRENCES, (workspace_id, pattern_id))


_RECOUNT_OCCURRENCES = """
INSERT INTO occurrences (
    workspace_id, pattern_id, hour_at, n_issues, n_p1, n_p2, n_p3, n_p4,
    first_at, first_issue_id, last_at, last_issue_id)
SELECT l.workspace_id, l.pattern_id, date_trunc('hour', i.at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', count(*),
       count(*) FILTER (WHERE i.severity = 'p1'), count(*) FILTER (WHERE i.severity = 'p2'),
       count(*) FILTER (WHERE i.severity = 'p3'), count(*) FILTER (WHERE i.severity = 'p4'),
       min(i.at), (array_agg(i.issue_id ORDER BY i.at, l.seq, i.place))[1],
       max(i.at), (array_agg(i.issue_id ORDER BY i.at DESC, l.seq DESC, i.place DESC))[1]
FROM links AS l
CROSS JOIN LATERAL jsonb_to_recordset(l.issues) AS i(issue_id text, at timestamptz, severity text, place integer)
WHERE l.workspace_id = $1 AND l.pattern_id = $2
GROUP BY 1, 2, 3
"""


async def recount_occurrences(conn: AsyncConnection[Any], *, workspace_id: str, pattern_id: str) -> None:
    """Count the hours of a pattern again from its links (IssueUnlinked, PatternSplit, PatternsMerged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RECOUNT_OCCURRENCES, (workspace_id, pattern_id))


_FIND_PREDICTIONS = """
SELECT p.workspace_id, p.prediction_id, p.pattern_id, p.window_days, p.probability, p.model_probability,
       p.base_rate, p.made_at, p.expires_at, p.made_seq, p.seq, p.outcome, p.feedback, p.is_dismissed, p.expired_at
FROM predictions AS p
JOIN json_to_recordset($1::json) AS r(workspace_id text, prediction_id text)
  ON p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id
"""


async def find_predictions(conn: AsyncConnection[Any], *, rows: str) -> list[PredictionsRow]:
    """The predictions with these ids, as they are before the batch."""
    async with AsyncRawCursor(conn, row_factory=args_row(PredictionsRow)) as cursor:
        await cursor.execute(_FIND_PREDICTIONS, (rows,))
        fetched: list[PredictionsRow] = await cursor.fetchall()
        return fetched


_UPSERT_PREDICTIONS = """
INSERT INTO predictions (
    workspace_id, prediction_id, pattern_id, window_days, probability, model_probability, base_rate, made_at,
    expires_at, made_seq, seq, outcome, feedback, is_dismissed, expired_at)
SELECT r.workspace_id, r.prediction_id, r.pattern_id, r.window_days, r.probability, r.model_probability, r.base_rate,
       r.made_at, r.expires_at, r.made_seq, r.seq, r.outcome, r.feedback, r.is_dismissed, r.expired_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, pattern_id text, window_days integer, probability double precision,
    model_probability double precision, base_rate double precision, made_at timestamptz, expires_at timestamptz, made_seq bigint, seq bigint,
    outcome text, feedback text, is_dismissed boolean, expired_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO UPDATE SET
    seq = excluded.seq, outcome = excluded.outcome, feedback = excluded.feedback, is_dismissed = excluded.is_dismissed,
    expired_at = excluded.expired_at
"""


async def upsert_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write each prediction of a batch as it is after it (all events of predictions)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PREDICTIONS, (rows,))


_DELETE_PREDICTIONS = """
DELETE FROM predictions AS p
USING json_to_recordset($1::json) AS r(workspace_id text, prediction_id text)
WHERE p.workspace_id = r.workspace_id AND p.prediction_id = r.prediction_id
"""


async def delete_predictions(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Delete predictions; their scores stay (PredictionsPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_PREDICTIONS, (rows,))


_INSERT_PREVENTED = """
INSERT INTO prevented (workspace_id, prediction_id, pattern_id, made_at, expires_at)
SELECT r.workspace_id, r.prediction_id, r.pattern_id, r.made_at, r.expires_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, prediction_id text, pattern_id text, made_at timestamptz, expires_at timestamptz)
ON CONFLICT (workspace_id, prediction_id) DO NOTHING
"""


async def insert_prevented(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Keep the windows in which somebody prevented a recurrence (PredictionsPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PREVENTED, (rows,))


_ADD_SCORES = """
INSERT INTO scores AS s (workspace_id, window_days, ended_on, bin, n_resolved, n_hits, brier_nano, base_nano)
SELECT r.workspace_id, r.window_days, r.ended_on, r.bin, r.n_resolved, r.n_hits, r.brier_nano, r.base_nano
FROM json_to_recordset($1::json) AS r(
    workspace_id text, window_days integer, ended_on date, bin integer, n_resolved bigint, n_hits bigint,
    brier_nano bigint, base_nano bigint)
ON CONFLICT (workspace_id, window_days, ended_on, bin) DO UPDATE SET
    n_resolved = s.n_resolved + excluded.n_resolved,
    n_hits = s.n_hits + excluded.n_hits,
    brier_nano = s.brier_nano + excluded.brier_nano,
    base_nano = s.base_nano + excluded.base_nano
"""


async def add_scores(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Add what a batch changes in the scores; feedback may take away again (PredictionResolved, PredictionFeedbackGiven, PredictionsPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_SCORES, (rows,))


_UPSERT_MODELS = """
INSERT INTO models (workspace_id, model_id, fitted_at, model)
SELECT r.workspace_id, r.model_id, r.fitted_at, r.model
FROM json_to_recordset($1::json) AS r(
    workspace_id text, model_id text, fitted_at timestamptz, model jsonb)
ON CONFLICT (workspace_id) DO UPDATE SET
    model_id = excluded.model_id, fitted_at = excluded.fitted_at, model = excluded.model
"""


async def upsert_models(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the last fitted model of each workspace of a batch (ModelFitted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_MODELS, (rows,))


_FORGET_OUTLOOKS = """
DELETE FROM outlooks USING json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
WHERE outlooks.workspace_id = r.workspace_id AND outlooks.pattern_id = r.pattern_id
"""


async def forget_outlooks(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Forget the outlooks of patterns that ended (PatternStatusChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_OUTLOOKS, (rows,))


_UPSERT_OUTLOOKS = """
INSERT INTO outlooks AS o (workspace_id, pattern_id, window_days, probability, alert_threshold)
SELECT r.workspace_id, r.pattern_id, r.window_days, r.probability, r.alert_threshold
FROM json_to_recordset($1::json) AS r(
    workspace_id text, pattern_id text, window_days integer, probability double precision,
    alert_threshold double precision)
ON CONFLICT (workspace_id, pattern_id, window_days) DO UPDATE SET
    probability = excluded.probability, alert_threshold = coalesce(excluded.alert_threshold, o.alert_threshold)
"""


async def upsert_outlooks(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the last forecast of each pattern and window; an alert's threshold stays until the next (PredictionMade, AlertFired)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_OUTLOOKS, (rows,))


_INSERT_WORKSPACES = """
INSERT INTO workspaces (workspace_id, timezone, alert_probability)
SELECT r.workspace_id, 'UTC', 0.7
FROM json_to_recordset($1::json) AS r(workspace_id text)
ON CONFLICT (workspace_id) DO NOTHING
"""


async def insert_workspaces(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Make a row for every workspace of a batch that has none yet (WorkspaceCreated, WorkspaceSettingsChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_WORKSPACES, (rows,))


_UPDATE_WORKSPACES = """
UPDATE workspaces SET
    timezone = coalesce(r.timezone, workspaces.timezone),
    alert_probability = coalesce(r.alert_probability, workspaces.alert_probability)
FROM json_to_recordset($1::json) AS r(workspace_id text, timezone text, alert_probability double precision)
WHERE workspaces.workspace_id = r.workspace_id
"""


async def update_workspaces(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Write the settings that a batch changes (WorkspaceCreated, WorkspaceSettingsChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_WORKSPACES, (rows,))


_LIST_SHOWN_PATTERNS = """
SELECT workspace_id, pattern_id, status, n_issues, merged_into, forecast_n_issues, forecast_at, forecast_id
FROM patterns
WHERE (workspace_id, pattern_id) > ($1::text, $2::text) AND status <> 'candidate'
ORDER BY workspace_id, pattern_id LIMIT $3::integer
"""


async def list_shown_patterns(
    conn: AsyncConnection[Any],
    *,
    after_workspace: str,
    after_pattern: str,
    page_size: int,
) -> list[ListShownPatternsRow]:
    """Patterns that were ever shown, so many behind a workspace and pattern."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListShownPatternsRow)) as cursor:
        await cursor.execute(_LIST_SHOWN_PATTERNS, (after_workspace, after_pattern, page_size))
        fetched: list[ListShownPatternsRow] = await cursor.fetchall()
        return fetched


_LIST_OPEN_PREDICTIONS = """
SELECT workspace_id, prediction_id, pattern_id, window_days, probability, made_at, expires_at, made_seq, seq,
       feedback
FROM predictions WHERE outcome IS NULL AND expired_at IS NULL ORDER BY workspace_id, prediction_id
"""


async def list_open_predictions(conn: AsyncConnection[Any]) -> list[ListOpenPredictionsRow]:
    """Every prediction that the log has not resolved and that is not expired."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListOpenPredictionsRow)) as cursor:
        await cursor.execute(_LIST_OPEN_PREDICTIONS)
        fetched: list[ListOpenPredictionsRow] = await cursor.fetchall()
        return fetched


_LIST_FORECASTS = """
SELECT r.workspace_id::text AS workspace_id, r.pattern_id::text AS pattern_id, f.made_at,
    f.forecast_id::text AS forecast_id, f.has_come_true::boolean AS has_come_true
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
CROSS JOIN LATERAL (
    SELECT p.made_at, min(p.prediction_id) FILTER (WHERE p.window_days = $2::integer) AS forecast_id,
        coalesce(bool_or(p.outcome = 'hit'), false) AS has_come_true
    FROM predictions AS p WHERE p.workspace_id = r.workspace_id AND p.pattern_id = r.pattern_id
    GROUP BY p.made_at ORDER BY p.made_at DESC LIMIT $3::integer
) AS f
WHERE f.forecast_id IS NOT NULL
ORDER BY r.workspace_id, r.pattern_id, f.made_at
"""


async def list_forecasts(
    conn: AsyncConnection[Any],
    *,
    rows: str,
    shortest_days: int,
    at_most: int,
) -> list[ListForecastsRow]:
    """The last forecasts of these patterns, oldest first, by the id of their shortest window, and whether one of them came true."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListForecastsRow)) as cursor:
        await cursor.execute(_LIST_FORECASTS, (rows, shortest_days, at_most))
        fetched: list[ListForecastsRow] = await cursor.fetchall()
        return fetched


_LIST_OUTLOOKS = """
SELECT workspace_id, pattern_id, window_days, probability, alert_threshold FROM outlooks ORDER BY workspace_id, pattern_id, window_days
"""


async def list_outlooks(conn: AsyncConnection[Any]) -> list[OutlooksRow]:
    """The last forecasts of all patterns."""
    async with AsyncRawCursor(conn, row_factory=args_row(OutlooksRow)) as cursor:
        await cursor.execute(_LIST_OUTLOOKS)
        fetched: list[OutlooksRow] = await cursor.fetchall()
        return fetched


_LIST_WORKSPACES = """
SELECT workspace_id, timezone, alert_probability FROM workspaces ORDER BY workspace_id
"""


async def list_workspaces(conn: AsyncConnection[Any]) -> list[WorkspacesRow]:
    """The settings of all workspaces."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspacesRow)) as cursor:
        await cursor.execute(_LIST_WORKSPACES)
        fetched: list[WorkspacesRow] = await cursor.fetchall()
        return fetched


_LIST_OCCURRENCES = """
SELECT o.workspace_id, o.pattern_id, o.n_p1, o.n_p2, o.n_p3, o.n_p4,
       o.first_at, o.first_issue_id, o.last_at, o.last_issue_id
FROM occurrences AS o
JOIN json_to_recordset($1::json) AS r(workspace_id text, pattern_id text)
  ON o.workspace_id = r.workspace_id AND o.pattern_id = r.pattern_id
ORDER BY o.workspace_id, o.pattern_id, o.hour_at
"""


async def list_occurrences(conn: AsyncConnection[Any], *, rows: str) -> list[ListOccurrencesRow]:
    """The hours of these patterns, oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListOccurrencesRow)) as cursor:
        await cursor.execute(_LIST_OCCURRENCES, (rows,))
        fetched: list[ListOccurrencesRow] = await cursor.fetchall()
        return fetched


_FIND_FORERUNNERS = """
SELECT r.workspace_id::text AS workspace_id, r.pattern_id::text AS pattern_id, near.pattern_id AS forerunner_id, p.name,
       count(DISTINCT r.at) AS n_led
FROM json_to_recordset($1::json) AS r(workspace_id text, pattern_id text, at timestamptz)
CROSS JOIN LATERAL (
    SELECT o.workspace_id, o.pattern_id, o.first_at FROM occurrences AS o
    WHERE o.workspace_id = r.workspace_id AND o.hour_at >= r.at - interval '25 hours' AND o.hour_at <= r.at
    ORDER BY o.hour_at DESC, o.pattern_id LIMIT 60) AS near
JOIN patterns AS p ON p.workspace_id = near.workspace_id AND p.pattern_id = near.pattern_id
WHERE near.pattern_id <> r.pattern_id AND near.first_at < r.at AND p.status NOT IN ('candidate', 'merged')
GROUP BY 1, 2, 3, 4
HAVING count(DISTINCT r.at) >= $2::bigint
ORDER BY 1, 2, 5 DESC, 3
"""


async def find_forerunners(
    conn: AsyncConnection[Any],
    *,
    rows: str,
    least_led: int,
) -> list[FindForerunnersRow]:
    """Shown patterns with events in the 24 hours before these moments of other patterns, those most often there first; of each moment only the 60 nearest hours, so that a busy workspace costs no more than a quiet one."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindForerunnersRow)) as cursor:
        await cursor.execute(_FIND_FORERUNNERS, (rows, least_led))
        fetched: list[FindForerunnersRow] = await cursor.fetchall()
        return fetched


_LIST_SCORES = """
SELECT workspace_id, window_days, bin, min(ended_on)::date AS first_day, max(ended_on)::date AS last_day,
       sum(n_resolved)::bigint AS n_resolved, sum(n_hits)::bigint AS n_hits, sum(brier_nano)::bigint AS brier_nano,
       sum(base_nano)::bigint AS base_nano
FROM scores
WHERE workspace_id = ANY($1::text[]) AND ended_on >= $2::date
  AND ended_on < $3::date AND n_resolved > 0
GROUP BY workspace_id, window_days, bin ORDER BY workspace_id, window_days, bin
"""


async def list_scores(
    conn: AsyncConnection[Any],
    *,
    workspace_ids: list[str],
    since: date,
    before: date,
) -> list[ListScoresRow]:
    """The scores of windows that ended between these days, and the first and the last day with any."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListScoresRow)) as cursor:
        await cursor.execute(_LIST_SCORES, (workspace_ids, since, before))
        fetched: list[ListScoresRow] = await cursor.fetchall()
        return fetched


_LIST_MODELS = """
SELECT workspace_id, model_id, fitted_at, model::text AS model FROM models ORDER BY workspace_id
"""


async def list_models(conn: AsyncConnection[Any]) -> list[ListModelsRow]:
    """The last fitted model of every workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListModelsRow)) as cursor:
        await cursor.execute(_LIST_MODELS)
        fetched: list[ListModelsRow] = await cursor.fetchall()
        return fetched


_LIST_PAST = """
SELECT latest.pattern_id, latest.first_at, latest.last_at
FROM (
    SELECT o.pattern_id, o.hour_at, o.first_at, o.last_at FROM occurrences AS o
    WHERE o.workspace_id = $1 AND o.hour_at >= $2::timestamptz
      AND o.first_at <= $3::timestamptz
    ORDER BY o.hour_at DESC, o.pattern_id LIMIT $4::integer) AS latest
ORDER BY latest.first_at, latest.pattern_id
"""


async def list_past(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    since: datetime,
    until: datetime,
    most: int,
) -> list[ListPastRow]:
    """The latest hours with failures of a workspace's patterns, candidates included, oldest first: what a model is learned from."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListPastRow)) as cursor:
        await cursor.execute(_LIST_PAST, (workspace_id, since, until, most))
        fetched: list[ListPastRow] = await cursor.fetchall()
        return fetched


_LIST_PREVENTED = """
SELECT p.pattern_id, p.made_at, p.expires_at FROM (
    SELECT one.prediction_id, one.pattern_id, one.made_at, one.expires_at FROM predictions AS one
    WHERE one.workspace_id = $1 AND one.feedback = 'prevented'
    UNION ALL
    SELECT gone.prediction_id, gone.pattern_id, gone.made_at, gone.expires_at FROM prevented AS gone
    WHERE gone.workspace_id = $1) AS p
ORDER BY p.prediction_id
"""


async def list_prevented(conn: AsyncConnection[Any], *, workspace_id: str) -> list[ListPreventedRow]:
    """When somebody prevented a recurrence, by pattern."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListPreventedRow)) as cursor:
        await cursor.execute(_LIST_PREVENTED, (workspace_id,))
        fetched: list[ListPreventedRow] = await cursor.fetchall()
        return fetched
