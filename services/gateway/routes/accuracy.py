"""How well resolved predictions did."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.identity.governance import _queries as governance
from services.gateway.routes.operation import Call, Gateway, NoQuery, not_found
from services.gateway.routes.workspaces import read_alert_probability

WindowDays = Literal[7, 30, 90]
GRACE = timedelta(hours=24)
"""After a window's end a miss is known, and hits of the same age count only then: else there would be hits alone."""


class AccuracyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which predictions to judge."""

    window_days: Annotated[WindowDays | None, Meta(description="Default: all windows.")] = None


class ReliabilityBin(Struct, frozen=True, kw_only=True):
    """Predictions of similar probability: what they said and what happened."""

    lower: float
    upper: float
    n: int
    mean_probability: float
    hit_rate: float


class VersionScore(Struct, frozen=True, kw_only=True):
    """How one version of the model did with one window."""

    window_days: int
    model: str
    model_version: str
    n: int
    hits: int
    brier: float
    base_rate_brier: Annotated[
        float, Meta(description="What the base rate scored, as it was when each prediction was made.")
    ]
    skill: float | None


class Accuracy(Struct, frozen=True, kw_only=True):
    """How well resolved predictions did; those that a person calls prevented do not count."""

    window_days: int | None
    n: int
    hits: int
    brier: Annotated[
        float | None, Meta(description="Mean squared distance; 0 is perfect. Null without data.")
    ]
    base_rate: Annotated[float | None, Meta(description="Share of hits.")]
    base_rate_brier: Annotated[
        float | None, Meta(description="What always saying the base rate would score.")
    ]
    skill: Annotated[
        float | None, Meta(description="1 - brier / base_rate_brier; above 0 it beats the base rate.")
    ]
    precision: Annotated[float | None, Meta(description="Share of hits at the alert threshold and above.")]
    recall: Annotated[
        float | None, Meta(description="Share of the hits that were at the threshold or above.")
    ]
    lead_time_days: Annotated[float | None, Meta(description="Mean time from such a prediction to its hit.")]
    calibration_error: Annotated[
        float | None,
        Meta(description="ECE: mean distance of what was said from what happened, over ten bins."),
    ]
    reliability: tuple[ReliabilityBin, ...]
    versions: Annotated[tuple[VersionScore, ...], Meta(description="By window and version of the model.")]


async def accuracy(gateway: Gateway, call: Call[AccuracyQuery, None]) -> Accuracy:
    """How well resolved predictions did."""
    threshold = await read_alert_probability(gateway, call.workspace_id)
    ended_by = gateway.resources.clock() - GRACE
    async with tenant(gateway.pool, call.workspace_id) as conn:
        await _queries.see_expired(conn)
        bins = await _queries.list_reliability(
            conn, workspace_id=call.workspace_id, ended_by=ended_by, window_days=call.query.window_days
        )
        alerts = await _queries.score_alerts(
            conn,
            workspace_id=call.workspace_id,
            threshold=threshold,
            ended_by=ended_by,
            window_days=call.query.window_days,
        )
        versions = await _queries.list_scorecard(
            conn, workspace_id=call.workspace_id, ended_by=ended_by, window_days=call.query.window_days
        )
    n, hits = sum(row.n for row in bins), sum(row.n_hits for row in bins)
    brier = _ratio(sum(row.brier_sum for row in bins), n)
    rate = _ratio(hits, n)
    base = None if rate is None else rate * (1 - rate)
    return Accuracy(
        window_days=call.query.window_days,
        n=n,
        hits=hits,
        brier=brier,
        base_rate=rate,
        base_rate_brier=base,
        skill=None if brier is None or not base else 1 - brier / base,
        precision=_ratio(alerts.n_true, alerts.n_alerted),
        recall=_ratio(alerts.n_true, alerts.n_hits),
        lead_time_days=alerts.lead_time_days,
        calibration_error=_ratio(sum(abs(row.n * row.mean_probability - row.n_hits) for row in bins), n),
        reliability=tuple(_bin(row) for row in bins),
        versions=tuple(_version(row) for row in versions),
    )


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _bin(row: _queries.ListReliabilityRow) -> ReliabilityBin:
    return ReliabilityBin(
        lower=row.bin / 10,
        upper=(row.bin + 1) / 10,
        n=row.n,
        mean_probability=row.mean_probability,
        hit_rate=row.n_hits / row.n,
    )


def _version(row: _queries.ListScorecardRow) -> VersionScore:
    return VersionScore(
        window_days=row.window_days,
        model=row.model,
        model_version=row.model_version,
        n=row.n,
        hits=row.n_hits,
        brier=row.brier_sum / row.n,
        base_rate_brier=row.base_sum / row.n,
        skill=1 - row.brier_sum / row.base_sum if row.base_sum else None,
    )


class DryRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A draft of an alert threshold."""

    probability: Annotated[float, Meta(ge=0, le=1)]
    window_days: WindowDays = 7
    days: Annotated[
        int, Meta(ge=1, le=365, description="How far back to look; no further than predictions are shown.")
    ] = 90


class DryAlert(Struct, frozen=True, kw_only=True):
    """An alert that would have fired."""

    prediction_id: str
    pattern_id: str
    pattern_name: str | None
    probability: float
    at: datetime
    outcome: Annotated[str, Meta(description="hit, miss, prevented, or open: its window has not ended.")]


class DryRunResult(Struct, frozen=True, kw_only=True):
    """What a threshold would have done with the predictions that this workspace really got."""

    probability: float
    window_days: int
    since: datetime
    fired: Annotated[int, Meta(description="Alerts, each when a forecast reached it from below.")]
    hits: Annotated[int, Meta(description="Alerts after which the pattern did recur within the window.")]
    misses: int
    undecided: Annotated[int, Meta(description="Alerts still open, or prevented.")]
    precision: Annotated[float | None, Meta(description="hits / (hits + misses).")]
    recall: Annotated[
        float | None, Meta(description="Share of the predictions that came true which were at it or above.")
    ]
    lead_time_days: Annotated[float | None, Meta(description="Mean time from an alert to its hit.")]
    alerts: Annotated[tuple[DryAlert, ...], Meta(description="The latest 50.")]


async def dry_run(gateway: Gateway, call: Call[NoQuery, DryRun]) -> DryRunResult:
    """What a draft threshold would have fired over this workspace's own predictions; changes nothing."""
    draft = call.body
    async with tenant(gateway.people, call.workspace_id) as conn:
        kept = await governance.get_retention(conn, workspace_id=call.workspace_id)
    if kept is None:
        raise not_found("workspace", call.workspace_id)
    # What is expired is not shown; it only says what came before, so that no pattern seems to reach the threshold anew.
    kept_days = min(kept.predictions_days, kept.plan_days or kept.predictions_days)
    since = gateway.resources.clock() - timedelta(days=min(draft.days, kept_days))
    async with tenant(gateway.pool, call.workspace_id) as conn:
        await _queries.see_expired(conn)
        rows = await _queries.dry_run_alerts(
            conn,
            workspace_id=call.workspace_id,
            window_days=draft.window_days,
            since=since,
            threshold=draft.probability,
        )
        recall = await _queries.dry_run_recall(
            conn,
            threshold=draft.probability,
            workspace_id=call.workspace_id,
            window_days=draft.window_days,
            since=since,
        )
    n, hits, misses = (rows[0].n_fired, rows[0].n_true, rows[0].n_false) if rows else (0, 0, 0)
    return DryRunResult(
        probability=draft.probability,
        window_days=draft.window_days,
        since=since,
        fired=n,
        hits=hits,
        misses=misses,
        undecided=n - hits - misses,
        precision=_ratio(hits, hits + misses),
        recall=_ratio(recall.n_caught, recall.n_hits),
        lead_time_days=rows[0].lead_time_days if rows else None,
        alerts=tuple(
            DryAlert(
                prediction_id=row.prediction_id,
                pattern_id=row.pattern_id,
                pattern_name=row.pattern_name,
                probability=row.probability,
                at=row.generated_at,
                outcome=row.outcome,
            )
            for row in rows
        ),
    )
