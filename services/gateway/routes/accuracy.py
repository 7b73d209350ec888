"""How well resolved predictions did."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.routes.operation import Call, Gateway
from services.gateway.routes.workspaces import read_alert_probability

WindowDays = Literal[7, 30, 90]


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
    reliability: tuple[ReliabilityBin, ...]


async def accuracy(gateway: Gateway, call: Call[AccuracyQuery, None]) -> Accuracy:
    """How well resolved predictions did."""
    threshold = await read_alert_probability(gateway, call.workspace_id)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        bins = await _queries.list_reliability(
            conn, workspace_id=call.workspace_id, window_days=call.query.window_days
        )
        alerts = await _queries.score_alerts(
            conn,
            workspace_id=call.workspace_id,
            threshold=threshold,
            window_days=call.query.window_days,
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
        reliability=tuple(_bin(row) for row in bins),
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
