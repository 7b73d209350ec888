"""What becomes of the read model's rows when issues, predictions and prompts expire, and when they are purged."""

from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec
from contracts import Event, Recorded, ingest, prediction, remainder_id
from msgspec import Struct
from psycopg import AsyncConnection

from services.gateway import _queries

_MICRO = 1_000_000
_NANO = 1_000_000_000
_MILLISECOND = timedelta(milliseconds=1)


class Expired:
    """What a batch of events shows no longer: issues, predictions and prompts of analyses, by workspace and id."""

    def __init__(self) -> None:
        self._issues: dict[tuple[str, str], datetime] = {}
        self._predictions: dict[tuple[str, str], datetime] = {}
        self._prompts: dict[tuple[str, str], datetime] = {}

    def add(
        self,
        event: Recorded[Event],
        data: ingest.IssueExpired | ingest.PromptsExpired | prediction.PredictionExpired,
    ) -> None:
        """Take one event in."""
        match data:
            case ingest.IssueExpired():
                self._issues[event.workspace_id, data.issue_id] = event.recorded_at
            case ingest.PromptsExpired():
                for analysis_id in data.analysis_ids:
                    self._prompts[event.workspace_id, analysis_id] = event.recorded_at
            case prediction.PredictionExpired():
                self._predictions[event.workspace_id, data.prediction_id] = event.recorded_at
            case never:
                assert_never(never)

    def take_back(self, issue: tuple[str, str]) -> None:
        """It was reported again behind its expiry."""
        self._issues.pop(issue, None)

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Note in the rows since when."""
        for statement, expired in (
            (_queries.expire_issues, self._issues),
            (_queries.expire_predictions, self._predictions),
            (_queries.expire_prompts, self._prompts),
        ):
            if expired:
                rows = [
                    {"workspace_id": ws, "id": id_, "expired_at": at} for (ws, id_), at in expired.items()
                ]
                await statement(conn, rows=msgspec.json.encode(rows).decode())


async def purge(workspace_id: str, purged: ingest.IssuesPurged, conn: AsyncConnection[Any]) -> None:
    """Delete the issues and what was said of them; their patterns go on counting them, under other ids."""
    gone = [
        {
            "issue_id": each.issue_id,
            "last_sequence": each.last_sequence,
            "remainder_id": remainder_id(each.issue_id, each.last_sequence),
        }
        for each in purged.issues
    ]
    for statement in (
        _queries.purge_issues,
        _queries.purge_comments,
        _queries.purge_analyses,
        _queries.purge_suggestions,
        _queries.purge_moves,
        _queries.rename_members,
    ):
        await statement(conn, workspace_id=workspace_id, issues=msgspec.json.encode(gone).decode())


async def purge_predictions(
    workspace_id: str, purged: prediction.PredictionsPurged, conn: AsyncConnection[Any]
) -> None:
    """Delete the predictions; scores go on counting them, as sums."""
    ids = [each.prediction_id for each in purged.predictions]
    await _queries.delete_predictions(conn, workspace_id=workspace_id, prediction_ids=ids)
    sums: dict[tuple[int, str, str, int], _Sums] = {}
    for each in purged.predictions:
        if each.outcome is None or each.is_prevented:
            continue
        thousandth = round(each.probability * _MICRO) // 1000
        key = (each.window_days, each.model, each.model_version, thousandth)
        known = sums.setdefault(key, _Sums(workspace_id, *key))
        known.add(each, is_hit=each.outcome is prediction.Outcome.HIT)
    if sums:
        rows = msgspec.json.encode(list(sums.values())).decode()
        await _queries.add_purged_predictions(conn, rows=rows)


class _Sums(Struct):
    """What scores are made of: of predictions of one window, model and thousandth of probability."""

    workspace_id: str
    window_days: int
    model: str
    model_version: str
    thousandth: int
    n: int = 0
    n_hits: int = 0
    probability_micro: int = 0
    brier_nano: int = 0
    base_nano: int = 0
    lead_ms: int = 0

    def add(self, purged: prediction.PurgedPrediction, *, is_hit: bool) -> None:
        """Count one more."""
        self.n += 1
        self.n_hits += is_hit
        self.probability_micro += round(purged.probability * _MICRO)
        self.brier_nano += round((purged.probability - is_hit) ** 2 * _NANO)
        self.base_nano += round((purged.base_rate - is_hit) ** 2 * _NANO)
        if is_hit and purged.resolved_at is not None:
            self.lead_ms += round((purged.resolved_at - purged.made_at) / _MILLISECOND)
