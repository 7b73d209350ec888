"""From the leader's own rows: its memory at the start, and what forecasts are computed from."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from contracts import prediction
from contracts.generated.ingest import Severity
from contracts.generated.pattern import PatternStatus
from contracts.generated.prediction import Outcome
from eventlog import Connection
from msgspec import Struct

from services.prediction import _queries
from services.prediction.commands import Outlook, model_of
from services.prediction.engine.episodes import episodes
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS
from services.prediction.engine.scoring import Score, Tally
from services.prediction.engine.trigger import MIN_EPISODES, Occurrence
from services.prediction.reactions.memory import MAX_DOUBLINGS, Key, Learned, Memory, Tracked
from services.prediction.state import Prediction

SCORED_FOR = timedelta(days=365)
MAX_MOMENTS = 50
MAX_NEIGHBOURS = 20
PATTERNS_AT_ONCE = 1_000
"""Whose forecasts a leader reads in one statement at its start."""


class Material(Struct):
    """What one pattern's forecast is computed from, as the rows have it."""

    occurrences: list[Occurrence]
    severities: dict[Severity, int]
    neighbours: dict[str, tuple[str, Sequence[datetime]]]


async def load_memory(
    conn: Connection, *, is_ours: Callable[[str], bool], renewal_spacing: timedelta, max_age: timedelta
) -> Memory:
    """The memory as the rows have it, of the workspaces that are ours. renewal_spacing, max_age: of the `Rules`."""
    memory = Memory(renewal_spacing=renewal_spacing, max_age=max_age)
    for setting in await _queries.list_workspaces(conn):
        memory.zones[setting.workspace_id] = setting.timezone
        memory.thresholds[setting.workspace_id] = setting.alert_probability
    for fitted in await _queries.list_models(conn):
        if is_ours(fitted.workspace_id):
            data = msgspec.json.decode(fitted.model, type=prediction.ModelFitted)
            memory.models[fitted.workspace_id] = Learned(fitted.model_id, fitted.fitted_at, model_of(data))
    async for page in _shown_patterns(conn):
        ours = [row for row in page if is_ours(row.workspace_id)]
        earlier = await _forecasts(conn, ours)
        for row in ours:
            _add_pattern(memory, row, earlier.get((row.workspace_id, row.pattern_id), []), max_age=max_age)
    for outlook in await _queries.list_outlooks(conn):
        tracked = memory.patterns.get((outlook.workspace_id, outlook.pattern_id))
        if tracked is not None:
            tracked.outlooks[outlook.window_days] = Outlook(outlook.probability, outlook.alert_threshold)
    for made in await _queries.list_open_predictions(conn):
        if is_ours(made.workspace_id):
            memory.add_open(made.workspace_id, _open(made))
    return memory


async def _shown_patterns(conn: Connection) -> AsyncIterator[Sequence[_queries.ListShownPatternsRow]]:
    """Pages of all patterns that were ever shown, by workspace and pattern."""
    last = ("", "")
    while page := await _queries.list_shown_patterns(
        conn, after_workspace=last[0], after_pattern=last[1], page_size=PATTERNS_AT_ONCE
    ):
        yield page
        last = (page[-1].workspace_id, page[-1].pattern_id)


async def _forecasts(
    conn: Connection, rows: Sequence[_queries.ListShownPatternsRow]
) -> Mapping[Key, Sequence[_queries.ListForecastsRow]]:
    """The last forecasts of these patterns, oldest first."""
    keys = [{"workspace_id": row.workspace_id, "pattern_id": row.pattern_id} for row in rows]
    found: dict[Key, list[_queries.ListForecastsRow]] = {}
    for one in await _queries.list_forecasts(
        conn,
        rows=msgspec.json.encode(keys).decode(),
        shortest_days=WINDOWS_DAYS[0],
        at_most=MAX_DOUBLINGS + 1,
    ):
        found.setdefault((one.workspace_id, one.pattern_id), []).append(one)
    return found


def _add_pattern(
    memory: Memory,
    row: _queries.ListShownPatternsRow,
    past: Sequence[_queries.ListForecastsRow],
    *,
    max_age: timedelta,
) -> None:
    tracked = Tracked(
        workspace_id=row.workspace_id,
        pattern_id=row.pattern_id,
        status=PatternStatus(row.status),
        n_issues=row.n_issues,
        merged_into=row.merged_into,
    )
    memory.add(tracked)
    if row.forecast_at is not None:
        for one in past:
            tracked.take_forecast(at=one.made_at, forecast_id=one.forecast_id, max_age=max_age)
            tracked.has_come_true = one.has_come_true
        memory.set_forecast(
            tracked,
            at=row.forecast_at,
            forecast_id=row.forecast_id or "",
            n_issues=row.forecast_n_issues or 0,
        )


def _open(row: _queries.ListOpenPredictionsRow) -> Prediction:
    return Prediction(
        prediction_id=row.prediction_id,
        pattern_id=row.pattern_id,
        window_days=row.window_days,
        probability=row.probability,
        made_at=row.made_at,
        expires_at=row.expires_at,
        made_seq=row.made_seq,
        seq=row.seq,
        feedback=None if row.feedback is None else Outcome(row.feedback),
    )


async def load_material(conn: Connection, keys: Sequence[Key]) -> dict[Key, Material]:
    """What forecasts of these patterns are computed from: three statements, however many patterns."""
    found = await _occurrences(conn, keys)
    moments = [
        {"workspace_id": key[0], "pattern_id": key[1], "at": at}
        for key, material in found.items()
        if len(starts := episodes(one.at for one in material.occurrences)) >= MIN_EPISODES
        for at in starts[-MAX_MOMENTS:]
    ]
    if moments:
        await _add_neighbours(conn, found, moments)
    return found


async def load_tallies(
    conn: Connection, workspace_ids: Sequence[str], *, now: datetime, grace: timedelta
) -> dict[str, dict[int, Tally]]:
    """The records of the last twelve months by workspace and window, of days whose misses are all known by now.

    grace: how long after a window's end a miss is known.
    """
    since: date = (now - SCORED_FOR).astimezone(UTC).date()
    before: date = (now - grace).astimezone(UTC).date()
    found: dict[str, dict[int, list[_queries.ListScoresRow]]] = {}
    for row in await _queries.list_scores(
        conn, workspace_ids=list(workspace_ids), since=since, before=before
    ):
        found.setdefault(row.workspace_id, {}).setdefault(row.window_days, []).append(row)
    return {
        workspace_id: {window: _tally(rows) for window, rows in of_window.items()}
        for workspace_id, of_window in found.items()
    }


def _tally(rows: Sequence[_queries.ListScoresRow]) -> Tally:
    return Tally(
        Score(
            n_resolved=sum(row.n_resolved for row in rows),
            n_hits=sum(row.n_hits for row in rows),
            brier_nano=sum(row.brier_nano for row in rows),
            base_nano=sum(row.base_nano for row in rows),
            span_days=(max(row.last_day for row in rows) - min(row.first_day for row in rows)).days,
        ),
        {row.bin: (row.n_resolved, row.n_hits) for row in rows},
    )


def zone_of(name: str) -> tzinfo:
    """The time zone with this IANA name, UTC when nobody knows it."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


async def _occurrences(conn: Connection, keys: Sequence[Key]) -> dict[Key, Material]:
    ids = [{"workspace_id": workspace_id, "pattern_id": pattern_id} for workspace_id, pattern_id in keys]
    found: dict[Key, Material] = {}
    for row in await _queries.list_occurrences(conn, rows=_rows(ids)):
        material = found.setdefault((row.workspace_id, row.pattern_id), Material([], {}, {}))
        material.occurrences.append(Occurrence(row.first_at.astimezone(UTC), row.first_issue_id))
        if row.last_at > row.first_at:
            material.occurrences.append(Occurrence(row.last_at.astimezone(UTC), row.last_issue_id))
        for severity, count in zip(Severity, (row.n_p1, row.n_p2, row.n_p3, row.n_p4), strict=True):
            material.severities[severity] = material.severities.get(severity, 0) + count
    return found


async def _add_neighbours(
    conn: Connection, found: Mapping[Key, Material], moments: Sequence[Mapping[str, object]]
) -> None:
    """Give each pattern those that came before it most often, with their times."""
    names: dict[Key, dict[str, str]] = {}
    rows = await _queries.find_forerunners(conn, rows=_rows(moments), least_led=MIN_EPISODES - 1)
    for row in rows:
        of_pattern = names.setdefault((row.workspace_id, row.pattern_id), {})
        if len(of_pattern) < MAX_NEIGHBOURS:
            of_pattern[row.forerunner_id] = row.name
    wanted = sorted({(key[0], neighbour) for key, of_pattern in names.items() for neighbour in of_pattern})
    if not wanted:
        return
    times = await _occurrences(conn, wanted)
    for key, of_pattern in names.items():
        for neighbour, name in of_pattern.items():
            others = times.get((key[0], neighbour))
            if others is not None:
                found[key].neighbours[neighbour] = (name, [one.at for one in others.occurrences])


def _rows(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()
