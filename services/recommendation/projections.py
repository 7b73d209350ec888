"""Events → rows: load what a batch touches, fold it, write each row once."""

from collections.abc import Iterable, Sequence

import msgspec
from contracts import Event, Recorded, pattern, prediction, recommendation, workspace
from eventlog import Connection
from msgspec import Struct

from services.recommendation import _queries
from services.recommendation.engine.ranking import Exposure
from services.recommendation.state import Pattern, Recommendation, evolve, evolve_pattern

AGGREGATES = ("pattern", "prediction", "recommendation", "workspace")

Key = tuple[str, str]
"""Workspace and id."""


class PatternKey(Struct, frozen=True):
    """One row to look up, as the statements take it."""

    workspace_id: str
    pattern_id: str


class _RecommendationKey(Struct, frozen=True):
    workspace_id: str
    recommendation_id: str


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Write what the batch says of patterns, recommendations and workspaces; one statement for each."""
    await _project_patterns(batch, conn)
    await _project_recommendations(batch, conn)
    await _project_workspaces(batch, conn)


def pattern_ids(event: Recorded[Event]) -> tuple[str, ...]:
    """The patterns whose row an event changes or needs: its own, and the one that a merge ended."""
    data = event.data
    if isinstance(data, pattern.PatternsMerged):
        return data.target_pattern_id, data.source_pattern_id
    if isinstance(data, pattern.ClustersComputed):
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


async def _project_recommendations(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    events = [event for event in batch if isinstance(event.data, recommendation.Event)]
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
    rows: dict[str, _queries.WorkspacesRow] = {}
    for event in batch:
        data = event.data
        if isinstance(data, workspace.WorkspaceSettingsChanged) and data.confidence_threshold is not None:
            rows[event.workspace_id] = _queries.WorkspacesRow(event.workspace_id, data.confidence_threshold)
    if rows:
        await _queries.upsert_workspaces(conn, rows=as_json(list(rows.values())))


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
        seq=row.seq,
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
        seq=state.seq,
    )
