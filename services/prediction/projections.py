"""Events to rows: a fold of each batch in memory, then one statement per table."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import assert_never

import msgspec
from contracts import Event, Recorded, pattern, prediction, workspace
from contracts.generated.ingest import Severity
from eventlog import Connection, Projection
from msgspec import Struct

from services.prediction import _queries
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS
from services.prediction.engine.scoring import bin_of, brier_nano
from services.prediction.state import scored_by

AGGREGATES = ("pattern", "prediction", "workspace")
ENDED = frozenset({pattern.PatternStatus.RESOLVED, pattern.PatternStatus.MERGED})

_encoder = msgspec.json.Encoder()


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Write the rows of a batch: O(patterns, hours and predictions touched) rows, ten statements at most.

    Corrections (unlink, split, merge) are rare: each first writes the links before it, then recounts its patterns.
    """
    patterns, links = _Patterns(), _Links()
    predictions, workspaces, models = _Predictions(), _Workspaces(), dict[str, _ModelRow]()
    await predictions.load(batch, conn)
    for event in batch:
        match event.data:
            case pattern.IssuesLinked() as linked:
                patterns.take(event, linked)
                links.take(event, linked)
            case pattern.IssueUnlinked() | pattern.PatternSplit() | pattern.PatternsMerged() as correction:
                patterns.take(event, correction)
                await links.correct(event.workspace_id, correction, conn)
            case _ if isinstance(event.data, pattern.Event):
                patterns.take(event, event.data)
            case prediction.ModelFitted() as fitted:
                models[event.workspace_id] = _ModelRow(
                    event.workspace_id, fitted.model_id, event.time, fitted
                )
            case _ if isinstance(event.data, prediction.Event):
                patterns.take_forecast(event)
                predictions.take(event, event.data)
            case _ if isinstance(event.data, workspace.Event):
                workspaces.take(event.data)
            case _:
                raise TypeError(f"prediction does not read {type(event.data).__name__}")
    await links.write(conn)
    await patterns.write(conn)
    await predictions.write(conn)
    await workspaces.write(conn)
    if models:
        await _queries.upsert_models(conn, rows=_rows(models.values()))


PROJECTION = Projection(
    name="prediction",
    aggregates=AGGREGATES,
    project=project,
    schema_sql=Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"),
    linger_seconds=0.25,
)


class _PatternPatch(Struct, omit_defaults=True):
    """What a batch says of a pattern; None: nothing."""

    workspace_id: str
    pattern_id: str
    name: str | None = None
    status: str | None = None
    n_issues: int | None = None
    merged_into: str | None = None
    forecast_n_issues: int | None = None
    forecast_at: datetime | None = None
    forecast_id: str | None = None


class _OutlookRow(Struct):
    workspace_id: str
    pattern_id: str
    window_days: int
    probability: float
    alert_threshold: float | None = None


class _Patterns:
    """The tables `patterns` and `outlooks`."""

    def __init__(self) -> None:
        self._patches: dict[tuple[str, str], _PatternPatch] = {}
        self._outlooks: dict[tuple[str, str], dict[int, _OutlookRow]] = {}
        self._ended: set[tuple[str, str]] = set()

    def take(self, event: Recorded[Event], data: pattern.Event) -> None:
        match data:
            case pattern.IssuesLinked() | pattern.IssueUnlinked() | pattern.PatternSplit():
                self._patch(event.workspace_id, data.pattern_id).n_issues = data.assessment.issue_count
            case pattern.PatternDetected():
                patch = self._patch(event.workspace_id, data.pattern_id)
                patch.name, patch.n_issues = data.name, data.assessment.issue_count
                patch.status = pattern.PatternStatus.EMERGING
            case pattern.PatternDescribed():
                patch = self._patch(event.workspace_id, data.pattern_id)
                patch.name, patch.n_issues = data.name, data.assessment.issue_count
            case pattern.PatternStatusChanged():
                self._patch(event.workspace_id, data.pattern_id).status = data.to_status
                if data.to_status in ENDED:
                    self._ended.add((event.workspace_id, data.pattern_id))
                    self._outlooks.pop((event.workspace_id, data.pattern_id), None)
            case pattern.PatternsMerged():
                self._patch(event.workspace_id, data.target_pattern_id).n_issues = data.assessment.issue_count
                source = self._patch(event.workspace_id, data.source_pattern_id)
                source.merged_into, source.n_issues = data.target_pattern_id, 0
            case (
                pattern.LinkConstrained()
                | pattern.LinkSuggested()
                | pattern.DecisionsContradicted()
                | pattern.ContradictionAnswered()
                | pattern.ClustersComputed()
                | pattern.GroupingVersionFitted()
                | pattern.GroupingVersionCompared()
                | pattern.GroupingVersionActivated()
            ):
                pass
            case _:
                assert_never(data)

    def take_forecast(self, event: Recorded[Event]) -> None:
        """What a forecast and its alert say of their pattern."""
        data = event.data
        if isinstance(data, prediction.PredictionMade):
            self._outlook(event.workspace_id, data).probability = data.probability
            if data.window_days == WINDOWS_DAYS[0]:
                patch = self._patch(event.workspace_id, data.pattern_id)
                patch.forecast_n_issues = patch.n_issues
                patch.forecast_at, patch.forecast_id = event.time, data.prediction_id
        elif isinstance(data, prediction.AlertFired):
            outlook = self._outlook(event.workspace_id, data)
            outlook.probability, outlook.alert_threshold = data.probability, data.threshold

    async def write(self, conn: Connection) -> None:
        if self._patches:
            rows = _rows(self._patches.values())
            await _queries.insert_patterns(conn, rows=rows)
            await _queries.update_patterns(conn, rows=rows)
        if self._ended:
            ended = [{"workspace_id": ws, "pattern_id": pattern_id} for ws, pattern_id in sorted(self._ended)]
            await _queries.forget_outlooks(conn, rows=_rows(ended))
        outlooks = [row for by_window in self._outlooks.values() for row in by_window.values()]
        if outlooks:
            await _queries.upsert_outlooks(conn, rows=_rows(outlooks))

    def _patch(self, workspace_id: str, pattern_id: str) -> _PatternPatch:
        key = (workspace_id, pattern_id)
        patch = self._patches.get(key)
        if patch is None:
            patch = self._patches[key] = _PatternPatch(workspace_id, pattern_id)
        return patch

    def _outlook(
        self, workspace_id: str, data: prediction.PredictionMade | prediction.AlertFired
    ) -> _OutlookRow:
        by_window = self._outlooks.setdefault((workspace_id, data.pattern_id), {})
        return by_window.setdefault(
            data.window_days, _OutlookRow(workspace_id, data.pattern_id, data.window_days, data.probability)
        )


class _HourRow(Struct):
    workspace_id: str
    pattern_id: str
    hour_at: datetime
    first_at: datetime
    first_issue_id: str
    last_at: datetime
    last_issue_id: str
    n_issues: int = 0
    n_p1: int = 0
    n_p2: int = 0
    n_p3: int = 0
    n_p4: int = 0


class _LinkedIssue(Struct, frozen=True):
    issue_id: str
    at: datetime
    severity: Severity
    place: int


class _LinksRow(Struct, frozen=True):
    workspace_id: str
    pattern_id: str
    seq: int
    issues: list[_LinkedIssue]


class _Links:
    """The tables `occurrences` and `links`."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, str, datetime], _HourRow] = {}
        self._links: list[_LinksRow] = []

    def take(self, event: Recorded[Event], data: pattern.IssuesLinked) -> None:
        issues = []
        for place, link in enumerate(data.links):
            at = link.occurred_at.astimezone(UTC)
            issues.append(_LinkedIssue(link.issue_id, at, link.severity, place))
            self._count(event.workspace_id, data.pattern_id, at, link)
        self._links.append(_LinksRow(event.workspace_id, data.pattern_id, event.seq, issues))

    def _count(self, workspace_id: str, pattern_id: str, at: datetime, link: pattern.Link) -> None:
        hour = at.replace(minute=0, second=0, microsecond=0)
        key = (workspace_id, pattern_id, hour)
        row = self._hours.get(key)
        if row is None:
            row = _HourRow(workspace_id, pattern_id, hour, at, link.issue_id, at, link.issue_id)
            self._hours[key] = row
        elif at < row.first_at:
            row.first_at, row.first_issue_id = at, link.issue_id
        # Of equal times the log's first is the first and its last is the last, here as in the SQL.
        if at >= row.last_at:
            row.last_at, row.last_issue_id = at, link.issue_id
        row.n_issues += 1
        match link.severity:
            case Severity.P1:
                row.n_p1 += 1
            case Severity.P2:
                row.n_p2 += 1
            case Severity.P3:
                row.n_p3 += 1
            case Severity.P4:
                row.n_p4 += 1
            case _:
                assert_never(link.severity)

    async def correct(
        self,
        workspace_id: str,
        data: pattern.IssueUnlinked | pattern.PatternSplit | pattern.PatternsMerged,
        conn: Connection,
    ) -> None:
        """Apply a correction to the rows as they are at its place in the log."""
        await self.write(conn)
        match data:
            case pattern.IssueUnlinked():
                await self._remove(workspace_id, data.pattern_id, [data.issue_id], conn)
            case pattern.PatternSplit():
                await self._remove(workspace_id, data.pattern_id, list(data.issue_ids), conn)
            case pattern.PatternsMerged():
                await _queries.move_links(
                    conn,
                    target_pattern_id=data.target_pattern_id,
                    workspace_id=workspace_id,
                    source_pattern_id=data.source_pattern_id,
                )
                await self._recount(workspace_id, data.source_pattern_id, conn)
                await self._recount(workspace_id, data.target_pattern_id, conn)
            case _:
                assert_never(data)

    async def write(self, conn: Connection) -> None:
        if self._links:
            await _queries.add_occurrences(conn, rows=_rows(self._hours.values()))
            await _queries.insert_links(conn, rows=_rows(self._links))
        self._hours, self._links = {}, []

    async def _remove(
        self, workspace_id: str, pattern_id: str, issue_ids: list[str], conn: Connection
    ) -> None:
        await _queries.remove_links(
            conn, issue_ids=issue_ids, workspace_id=workspace_id, pattern_id=pattern_id
        )
        await self._recount(workspace_id, pattern_id, conn)

    async def _recount(self, workspace_id: str, pattern_id: str, conn: Connection) -> None:
        await _queries.forget_occurrences(conn, workspace_id=workspace_id, pattern_id=pattern_id)
        await _queries.recount_occurrences(conn, workspace_id=workspace_id, pattern_id=pattern_id)


class _ModelRow(Struct, frozen=True):
    workspace_id: str
    model_id: str
    fitted_at: datetime
    model: prediction.ModelFitted


class _PredictionRow(Struct):
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
    outcome: str | None = None
    feedback: str | None = None
    is_dismissed: bool = False
    expired_at: datetime | None = None


class _ScoreRow(Struct):
    workspace_id: str
    window_days: int
    ended_on: date
    bin: int
    n_resolved: int = 0
    n_hits: int = 0
    brier_nano: int = 0
    base_nano: int = 0


class _Predictions:
    """The tables `predictions`, `scores` and `prevented`."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _PredictionRow] = {}
        self._scores: dict[tuple[str, int, date, int], _ScoreRow] = {}
        self._purged: dict[tuple[str, str], _PredictionRow] = {}

    async def load(self, batch: Sequence[Recorded[Event]], conn: Connection) -> None:
        """The rows that the batch changes; none when it makes all that it names."""
        made: set[tuple[str, str]] = set()
        known: dict[tuple[str, str], None] = {}
        for event in batch:
            if isinstance(event.data, prediction.PredictionMade):
                made.add((event.workspace_id, event.data.prediction_id))
            elif isinstance(event.data, prediction.Event):
                keys = [(event.workspace_id, name) for name in _named(event.data)]
                known |= dict.fromkeys(key for key in keys if key not in made)
        if known:
            ids = [{"workspace_id": ws, "prediction_id": prediction_id} for ws, prediction_id in known]
            for row in await _queries.find_predictions(conn, rows=_rows(ids)):
                self._rows[row.workspace_id, row.prediction_id] = msgspec.convert(
                    row, _PredictionRow, from_attributes=True
                )

    def take(self, event: Recorded[Event], data: prediction.Event) -> None:
        if isinstance(data, prediction.ModelFitted):
            return
        if isinstance(data, prediction.PredictionsPurged):
            for purged in data.predictions:
                self._purge(event.workspace_id, purged)
            return
        key = (event.workspace_id, data.prediction_id)
        if isinstance(data, prediction.PredictionMade):
            self._rows[key] = _made(event, data)
            return
        row = self._rows.get(key)
        if row is None:
            # It is purged; what was said of it meanwhile is deleted with it.
            return
        if isinstance(data, prediction.PredictionExpired):
            # Scores go on counting it.
            row.seq, row.expired_at = event.seq, event.recorded_at
            return
        self._score(row, -1)
        row.seq = event.seq
        match data:
            case prediction.PredictionResolved():
                row.outcome = data.outcome
            case prediction.PredictionFeedbackGiven():
                row.feedback = data.outcome
            case prediction.PredictionDismissed():
                row.is_dismissed = True
            case prediction.AlertFired():
                pass
            case _:
                assert_never(data)
        self._score(row, +1)

    def _purge(self, workspace_id: str, purged: prediction.PurgedPrediction) -> None:
        """Count what is kept of a prediction instead of its row, which a replay finds incomplete or not at all."""
        key = (workspace_id, purged.prediction_id)
        row = self._rows.pop(key, None)
        if row is not None:
            self._score(row, -1)
        remains = self._purged[key] = _remains(workspace_id, purged)
        if remains.outcome is not None:
            # Also when it counts nothing any more: where it was counted first, the row is there.
            self._score_row(remains)
        self._score(remains, +1)

    def _score(self, row: _PredictionRow, sign: int) -> None:
        """Add (+1) or take away (-1) what a prediction contributes: nothing while open or prevented."""
        if row.outcome is None or row.feedback == prediction.Outcome.PREVENTED:
            return
        is_hit = row.outcome == prediction.Outcome.HIT
        score = self._score_row(row)
        score.n_resolved += sign
        score.n_hits += sign * is_hit
        if row.base_rate is None:
            return
        score.brier_nano += sign * brier_nano(row.model_probability, is_hit=is_hit)
        score.base_nano += sign * brier_nano(row.base_rate, is_hit=is_hit)

    def _score_row(self, row: _PredictionRow) -> _ScoreRow:
        key = (
            row.workspace_id,
            row.window_days,
            row.expires_at.astimezone(UTC).date(),
            bin_of(row.probability),
        )
        return self._scores.setdefault(key, _ScoreRow(*key))

    async def write(self, conn: Connection) -> None:
        if self._purged:
            gone = self._purged.values()
            await _queries.delete_predictions(conn, rows=_rows(gone))
            prevented = [row for row in gone if row.feedback == prediction.Outcome.PREVENTED]
            await _queries.insert_prevented(conn, rows=_rows(prevented))
        if self._rows:
            await _queries.upsert_predictions(conn, rows=_rows(self._rows.values()))
        if self._scores:
            await _queries.add_scores(conn, rows=_rows(self._scores.values()))


def _named(data: prediction.Event) -> Sequence[str]:
    """The predictions that an event changes."""
    match data:
        case prediction.ModelFitted():
            return ()
        case prediction.PredictionsPurged():
            return [purged.prediction_id for purged in data.predictions]
        case _:
            return (data.prediction_id,)


def _remains(workspace_id: str, purged: prediction.PurgedPrediction) -> _PredictionRow:
    """A purged prediction as the row that its scores are counted by."""
    return _PredictionRow(
        workspace_id=workspace_id,
        prediction_id=purged.prediction_id,
        pattern_id=purged.pattern_id,
        window_days=purged.window_days,
        probability=purged.probability,
        model_probability=purged.model_probability,
        base_rate=purged.base_rate if purged.is_base_rate_known else None,
        made_at=purged.made_at,
        expires_at=purged.expires_at,
        made_seq=0,
        seq=purged.resolved_sequence,
        outcome=purged.outcome,
        feedback=prediction.Outcome.PREVENTED if purged.is_prevented else None,
    )


def _made(event: Recorded[Event], data: prediction.PredictionMade) -> _PredictionRow:
    scored = scored_by(data)
    return _PredictionRow(
        workspace_id=event.workspace_id,
        prediction_id=data.prediction_id,
        pattern_id=data.pattern_id,
        window_days=data.window_days,
        probability=data.probability,
        model_probability=scored.model_probability,
        base_rate=scored.base_rate,
        made_at=event.time,
        expires_at=data.expires_at,
        made_seq=event.seq,
        seq=event.seq,
    )


class _WorkspacePatch(Struct, omit_defaults=True):
    workspace_id: str
    timezone: str | None = None
    alert_probability: float | None = None


class _Workspaces:
    """The table `workspaces`."""

    def __init__(self) -> None:
        self._patches: dict[str, _WorkspacePatch] = {}

    def take(self, data: workspace.Event) -> None:
        match data:
            case workspace.WorkspaceCreated():
                self._patch(data.workspace_id).timezone = data.timezone
            case workspace.WorkspaceSettingsChanged():
                if data.alert_probability is not None:
                    self._patch(data.workspace_id).alert_probability = data.alert_probability
                if data.timezone is not None:
                    self._patch(data.workspace_id).timezone = data.timezone
            case (
                workspace.WorkspaceSuspended() | workspace.WorkspaceReinstated() | workspace.WorkspaceErased()
            ):
                # Says nothing about predicting: without access there are no new issues.
                pass
            case _:
                assert_never(data)

    def _patch(self, workspace_id: str) -> _WorkspacePatch:
        return self._patches.setdefault(workspace_id, _WorkspacePatch(workspace_id))

    async def write(self, conn: Connection) -> None:
        if self._patches:
            rows = _rows(self._patches.values())
            await _queries.insert_workspaces(conn, rows=rows)
            await _queries.update_workspaces(conn, rows=rows)


def _rows(rows: Iterable[object]) -> str:
    return _encoder.encode(list(rows)).decode()
