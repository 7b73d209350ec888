"""Events → rows: load what a batch touches, fold it, write each row once."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from contracts import Event, Recorded, pattern, prediction, recommendation, workspace
from eventlog import Connection
from msgspec import Struct

from services.recommendation import _queries
from services.recommendation.engine.proof import Standing
from services.recommendation.engine.ranking import Exposure
from services.recommendation.state import (
    Fix,
    Pattern,
    Recommendation,
    Watch,
    abstention_of,
    evolve,
    evolve_fix,
    evolve_pattern,
)

AGGREGATES = ("abstention", "fix", "pattern", "playbook", "prediction", "recommendation", "workspace")

_SETTINGS = ("confidence_threshold", "proof_window_days", "proof_window_max_days", "proof_confidence")

COUNTED_MAX = 5_000
"""Forecasts that are counted anew after a purge; all before them weigh less than one in a hundred together."""

Key = tuple[str, str]
"""Workspace and id."""


class PatternKey(Struct, frozen=True):
    """One row to look up, as the statements take it."""

    workspace_id: str
    pattern_id: str


class _RecommendationKey(Struct, frozen=True):
    workspace_id: str
    recommendation_id: str


class _FixKey(Struct, frozen=True):
    workspace_id: str
    fix_id: str


class _SettingsRow(Struct, omit_defaults=True):
    workspace_id: str
    confidence_threshold: float | None = None
    proof_window_days: int | None = None
    proof_window_max_days: int | None = None
    proof_confidence: float | None = None


class _ForetoldRow(Struct, frozen=True):
    workspace_id: str
    prediction_id: str
    seq: int
    probability: float
    is_hit: bool | None
    ended_at: datetime


class _PlayRow(Struct, frozen=True):
    workspace_id: str
    play_id: str
    play: str


class _PlayKey(Struct, frozen=True):
    workspace_id: str
    play_id: str


class _PlaysSeqRow(Struct, frozen=True):
    workspace_id: str
    plays_seq: int


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Write what the batch says of patterns, fixes, recommendations, plays and workspaces; one statement for each."""
    await _project_patterns(batch, conn)
    await _project_failures(batch, conn)
    await _project_fixes(batch, conn)
    await _project_recommendations(batch, conn)
    await _project_workspaces(batch, conn)
    await _project_foretold(batch, conn)
    await _project_plays(batch, conn)
    await _project_abstentions(batch, conn)


def pattern_ids(event: Recorded[Event]) -> tuple[str, ...]:
    """The patterns whose row an event changes or needs: its own, and the one that a merge ended."""
    data = event.data
    if isinstance(data, pattern.PatternsMerged):
        return data.target_pattern_id, data.source_pattern_id
    if isinstance(
        data,
        pattern.ClustersComputed
        | pattern.GroupingVersionFitted
        | pattern.GroupingVersionCompared
        | pattern.GroupingVersionActivated,
    ):
        return ()
    if isinstance(data, pattern.Event | prediction.PredictionMade):
        return (data.pattern_id,)
    return ()


def fold_patterns(known: dict[Key, Pattern], batch: Iterable[Recorded[Event]]) -> dict[Key, Pattern]:
    """The patterns that a batch changes, as they are after it. known: those there were before it."""
    now = dict(known)
    for event in batch:
        ids = pattern_ids(event)
        if not ids:
            continue
        key = (event.workspace_id, ids[0])
        source = now.get((event.workspace_id, ids[1])) if len(ids) > 1 else None
        after = evolve_pattern(now.get(key), event, source=source)
        if after is not None:
            now[key] = after
    return {key: state for key, state in now.items() if state is not known.get(key)}


async def _project_patterns(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    keys = {(event.workspace_id, pattern_id) for event in batch for pattern_id in pattern_ids(event)}
    if not keys:
        return
    known = await find_patterns(conn, keys)
    rows = [_pattern_row(state) for state in fold_patterns(known, batch).values()]
    if rows:
        await _queries.upsert_patterns(conn, rows=as_json(rows))


async def _project_failures(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """What moves between patterns is applied at its place between the links."""
    linked: dict[Key, _queries.FailuresRow] = {}

    async def flush() -> None:
        if linked:
            await _queries.upsert_failures(conn, rows=as_json(list(linked.values())))
            linked.clear()

    for event in batch:
        data, workspace_id = event.data, event.workspace_id
        match data:
            case pattern.IssuesLinked():
                for link in data.links:
                    linked[workspace_id, link.issue_id] = _failure_row(workspace_id, data.pattern_id, link)
            case pattern.IssueUnlinked() | pattern.PatternSplit():
                await flush()
                left = [data.issue_id] if isinstance(data, pattern.IssueUnlinked) else list(data.issue_ids)
                await _queries.delete_failures(
                    conn, workspace_id=workspace_id, pattern_id=data.pattern_id, issue_ids=left
                )
            case pattern.PatternsMerged():
                await flush()
                await _queries.move_failures(
                    conn,
                    workspace_id=workspace_id,
                    target_id=data.target_pattern_id,
                    source_id=data.source_pattern_id,
                )
            case _:
                continue
    await flush()


async def _project_fixes(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    events = [event for event in batch if event.aggregate_type == "fix"]
    if not events:
        return
    keys = {(event.workspace_id, event.aggregate_id) for event in events}
    found = await _queries.find_fixes(conn, keys=as_json([_FixKey(*key) for key in sorted(keys)]))
    now = {(row.workspace_id, row.fix_id): fix_of(row) for row in found}
    for event in events:
        key = (event.workspace_id, event.aggregate_id)
        after = evolve_fix(now.get(key), event)
        if after is not None:
            now[key] = after
    if now:
        await _queries.upsert_fixes(conn, rows=as_json([_fix_row(state) for state in now.values()]))


async def _project_recommendations(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    events = [event for event in batch if event.aggregate_type == "recommendation"]
    if not events:
        return
    keys = {(event.workspace_id, event.aggregate_id) for event in events}
    found = await _queries.find_recommendations(
        conn, keys=as_json([_RecommendationKey(*key) for key in sorted(keys)])
    )
    now = {(row.workspace_id, row.recommendation_id): recommendation_of(row) for row in found}
    for event in events:
        key = (event.workspace_id, event.aggregate_id)
        after = evolve(now.get(key), event)
        if after is not None:
            now[key] = after
    if now:
        await _queries.upsert_recommendations(
            conn, rows=as_json([_recommendation_row(s) for s in now.values()])
        )


async def _project_workspaces(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    rows: dict[str, _SettingsRow] = {}
    for event in batch:
        data = event.data
        if isinstance(data, workspace.WorkspaceSettingsChanged):
            row = rows.setdefault(event.workspace_id, _SettingsRow(event.workspace_id))
            for name in _SETTINGS:
                value = getattr(data, name)
                if value is not None:
                    setattr(row, name, value)
    if rows:
        await _queries.upsert_workspaces(conn, rows=as_json(list(rows.values())))


async def _project_foretold(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Note what became of forecasts, each once, also of one that is purged meanwhile."""
    news: list[_ForetoldRow] = []
    for event in batch:
        data, workspace_id = event.data, event.workspace_id
        if isinstance(data, prediction.PredictionResolved):
            is_hit = data.outcome is prediction.Outcome.HIT
            ended_at = data.expires_at or event.time + timedelta(days=data.window_days)
            news.append(
                _ForetoldRow(workspace_id, data.prediction_id, event.seq, data.probability, is_hit, ended_at)
            )
        elif isinstance(data, prediction.PredictionsPurged):
            purged = [_foretold(workspace_id, each) for each in data.predictions]
            if news:
                await _queries.insert_foretold(conn, rows=as_json(news))
                news = []
            await _queries.upsert_foretold(conn, rows=as_json(purged))
            # What a replay does not find any more is forgotten here as well: now both know the same.
            kept_ids = [row.prediction_id for row in purged]
            await _queries.forget_foretold(
                conn, workspace_id=workspace_id, kept_ids=kept_ids, most=COUNTED_MAX
            )
    if news:
        await _queries.insert_foretold(conn, rows=as_json(news))


def _foretold(workspace_id: str, purged: prediction.PurgedPrediction) -> _ForetoldRow:
    is_hit = None if purged.outcome is None else purged.outcome is prediction.Outcome.HIT
    return _ForetoldRow(
        workspace_id,
        purged.prediction_id,
        purged.resolved_sequence,
        purged.probability,
        is_hit,
        purged.expires_at,
    )


async def _project_plays(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    defined: dict[Key, _PlayRow] = {}
    withdrawn: set[Key] = set()
    seqs: dict[str, int] = {}
    for event in batch:
        workspace_id = event.workspace_id
        match event.data:
            case recommendation.PlayDefined(play=play):
                text = msgspec.json.encode(play).decode()
                defined[workspace_id, play.play_id] = _PlayRow(workspace_id, play.play_id, text)
            case recommendation.PlayWithdrawn(play_id=play_id):
                defined.pop((workspace_id, play_id), None)
                withdrawn.add((workspace_id, play_id))
            case _:
                continue
        seqs[workspace_id] = event.seq
    if gone := sorted(withdrawn - set(defined)):
        await _queries.delete_plays(conn, keys=as_json([_PlayKey(*key) for key in gone]))
    if defined:
        await _queries.upsert_plays(conn, rows=as_json(list(defined.values())))
    if seqs:
        rows = [_PlaysSeqRow(*item) for item in sorted(seqs.items())]
        await _queries.upsert_plays_seqs(conn, rows=as_json(rows))


async def _project_abstentions(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    said = {
        (event.workspace_id, event.data.pattern_id): abstention_of(event, event.data)
        for event in batch
        if isinstance(event.data, recommendation.RecommendationWithheld)
    }
    if said:
        await _queries.upsert_abstentions(conn, rows=as_json(list(said.values())))


async def find_patterns(conn: Connection, keys: Iterable[Key]) -> dict[Key, Pattern]:
    """The patterns with these keys, those that are known."""
    rows = await _queries.find_patterns(conn, keys=as_json([PatternKey(*key) for key in sorted(keys)]))
    return {(row.workspace_id, row.pattern_id): _pattern_of(row) for row in rows}


def as_json(rows: Sequence[Struct]) -> str:
    """Rows as the one parameter of a statement."""
    return msgspec.json.encode(rows).decode()


def recommendation_of(row: _queries.RecommendationsRow) -> Recommendation:
    """A row as the state that it was written from."""
    return Recommendation(
        workspace_id=row.workspace_id,
        recommendation_id=row.recommendation_id,
        pattern_id=row.pattern_id,
        play_id=row.play_id,
        type=recommendation.RecommendationType(row.type),
        effort=recommendation.Effort(row.effort),
        impact=recommendation.RecommendationImpact(row.impact),
        status=recommendation.RecommendationStatus(row.status),
        score=row.score,
        n_steps=row.n_steps,
        done_steps=msgspec.json.decode(row.done_steps, type=tuple[int, ...]),
        implemented_at=row.implemented_at,
        environment=row.environment,
        version=row.version,
        seq=row.seq,
    )


def fix_of(row: _queries.FixesRow) -> Fix:
    """A row as the state that it was written from."""
    return Fix(
        workspace_id=row.workspace_id,
        fix_id=row.fix_id,
        pattern_id=row.pattern_id,
        fixed_at=row.fixed_at,
        environment=row.environment,
        version=row.version,
        recommendation_ids=msgspec.json.decode(row.recommendation_ids, type=tuple[str, ...]),
        note=row.note,
        standing=msgspec.convert(row.standing, Standing),
        ended_as=None if row.ended_as is None else recommendation.InconclusiveReason(row.ended_as),
        inputs=msgspec.json.decode(row.inputs, type=recommendation.ProofInputs),
        seq=row.seq,
    )


def _fix_row(state: Fix) -> _queries.FixesRow:
    return _queries.FixesRow(
        workspace_id=state.workspace_id,
        fix_id=state.fix_id,
        pattern_id=state.pattern_id,
        fixed_at=state.fixed_at,
        environment=state.environment,
        version=state.version,
        recommendation_ids=msgspec.json.encode(state.recommendation_ids).decode(),
        note=state.note,
        standing=state.standing,
        ended_as=state.ended_as,
        inputs=msgspec.json.encode(state.inputs).decode(),
        due_at=state.due_at,
        seq=state.seq,
    )


def _failure_row(workspace_id: str, pattern_id: str, link: pattern.Link) -> _queries.FailuresRow:
    return _queries.FailuresRow(
        workspace_id=workspace_id,
        issue_id=link.issue_id,
        pattern_id=pattern_id,
        occurred_at=link.occurred_at,
        environment=link.environment,
        version=link.version,
    )


def _recommendation_row(state: Recommendation) -> _queries.RecommendationsRow:
    return _queries.RecommendationsRow(
        workspace_id=state.workspace_id,
        recommendation_id=state.recommendation_id,
        pattern_id=state.pattern_id,
        play_id=state.play_id,
        type=state.type,
        effort=state.effort,
        impact=state.impact,
        status=state.status,
        score=state.score,
        n_steps=state.n_steps,
        done_steps=msgspec.json.encode(state.done_steps).decode(),
        implemented_at=state.implemented_at,
        environment=state.environment,
        version=state.version,
        seq=state.seq,
    )


def _pattern_of(row: _queries.PatternsRow) -> Pattern:
    return Pattern(
        workspace_id=row.workspace_id,
        pattern_id=row.pattern_id,
        status=pattern.PatternStatus(row.status),
        name=row.name,
        exemplar=row.exemplar,
        fingerprint=msgspec.json.decode(row.fingerprint, type=tuple[pattern.FingerprintDimension, ...]),
        issue_count=row.issue_count,
        confidence=row.confidence,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        n_p1=row.n_p1,
        n_p2=row.n_p2,
        n_p3=row.n_p3,
        n_p4=row.n_p4,
        exposure=None if row.exposure is None else msgspec.json.decode(row.exposure, type=Exposure),
        watch=None if row.watch is None else msgspec.json.decode(row.watch, type=Watch),
        seq=row.seq,
    )


def _pattern_row(state: Pattern) -> _queries.PatternsRow:
    return _queries.PatternsRow(
        workspace_id=state.workspace_id,
        pattern_id=state.pattern_id,
        status=state.status,
        name=state.name,
        exemplar=state.exemplar,
        fingerprint=msgspec.json.encode(state.fingerprint).decode(),
        issue_count=state.issue_count,
        confidence=state.confidence,
        first_seen_at=state.first_seen_at,
        last_seen_at=state.last_seen_at,
        n_p1=state.n_p1,
        n_p2=state.n_p2,
        n_p3=state.n_p3,
        n_p4=state.n_p4,
        exposure=None if state.exposure is None else msgspec.json.encode(state.exposure).decode(),
        watch=None if state.watch is None else msgspec.json.encode(state.watch).decode(),
        seq=state.seq,
    )
