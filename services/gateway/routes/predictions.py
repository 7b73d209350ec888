"""Predictions: list, look at, tiles, forecast, accuracy; feedback and dismissal."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import prediction
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.forecasting import Outlook, Point, composite, curve, first_breach
from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.accuracy import (
    Accuracy,
    AccuracyQuery,
    DryRun,
    DryRunResult,
    WindowDays,
    accuracy,
    dry_run,
)
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    NoQuery,
    Operation,
)
from services.gateway.routes.pages import (
    PageInfo,
    PastListQuery,
    PastQuery,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.routes.patterns import DAYS, Window
from services.gateway.routes.patterns import LISTING as PATTERNS
from services.gateway.routes.prediction_card import Bucket, Driver, EvidenceItem, Inputs, Probability, card
from services.gateway.routes.workspaces import read_alert_probability
from services.gateway.vocabulary import Note

PredictionStatus = Literal["active", "dismissed", "resolved", "superseded"]
Impact = Literal["critical", "high", "medium", "low"]
Outcome = Literal["hit", "miss", "prevented"]
Sort = Literal[
    "probability", "-probability", "generated_at", "-generated_at", "expires_at", "-expires_at",
]  # fmt: skip


class PredictionRow(Struct, frozen=True):
    """One row of prediction_rows."""

    prediction_id: str
    seq: int
    pattern_id: str
    pattern_name: str | None
    window_days: int
    probability: float
    lower: float
    upper: float
    expected_next_at: datetime | None
    impact: str
    likely_trigger: str
    evidence: str
    model: str
    model_version: str
    inputs: str
    low_confidence: bool
    generated_at: datetime
    expires_at: datetime
    status: str
    dismissed_reason: str | None
    outcome: str | None
    brier: float | None
    resolved_at: datetime | None
    hit_issue_id: str | None
    feedback: str | None
    feedback_note: str | None
    alerted_at: datetime | None
    updated_at: datetime


class Prediction(Struct, frozen=True, kw_only=True):
    """A frozen forecast for one pattern and one window."""

    id: str
    pattern_id: str
    pattern_name: str | None
    status: Annotated[
        PredictionStatus,
        Meta(
            description="superseded: there is a newer one of the same pattern and window, or the pattern has ended."
        ),
    ]
    window_days: int
    probability: Probability
    lower: Annotated[float, Meta(description="Lower end of the probability's 80 % interval.")]
    upper: float
    expected_next_at: Annotated[datetime | None, Meta(description="Median of the next recurrence.")]
    impact: Impact
    likely_trigger: str
    evidence: tuple[EvidenceItem, ...]
    model: str
    model_version: str
    inputs: Inputs
    base_rate: Annotated[
        Probability,
        Meta(description="How often patterns here recur within the window: where the drivers start."),
    ]
    drivers: Annotated[
        tuple[Driver, ...],
        Meta(
            description="Why the probability is not the base rate, strongest first; none when that answers."
        ),
    ]
    bucket: Bucket | None
    low_confidence: Annotated[bool, Meta(description="Too little history for more than the prior.")]
    generated_at: datetime
    expires_at: datetime
    alerted_at: Annotated[datetime | None, Meta(description="When it reached the alert threshold.")]
    outcome: Annotated[Literal["hit", "miss"] | None, Meta(description="What the log says.")]
    resolved_at: datetime | None
    brier: float | None
    hit_issue_id: str | None
    feedback: Annotated[Outcome | None, Meta(description="What a person says.")]
    feedback_note: str | None
    dismissed_reason: str | None
    updated_at: datetime


class PredictionPage(Struct, frozen=True, kw_only=True):
    """A page of predictions."""

    data: tuple[Prediction, ...]
    page: PageInfo


class PredictionQuery(PastListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of predictions."""

    min_probability: Probability | None = None
    window_days: WindowDays | None = None
    status: Annotated[tuple[PredictionStatus, ...], Meta(description="Default: active.")] = ("active",)
    pattern_id: Identifier | None = None
    sort: Sort = "-probability"


class SummaryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which window to sum up."""

    window: Window = "30d"


class PredictionSummary(Struct, frozen=True, kw_only=True):
    """The four tiles over the active predictions of a window."""

    window: Window
    total: int
    high_probability: Annotated[int, Meta(description="At 0.8 and more.")]
    above_threshold: Annotated[int, Meta(description="At the workspace's alert threshold and more.")]
    average_probability: Probability
    alert_threshold: Probability


class ForecastQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose forecast, how far."""

    window: Window = "30d"
    pattern_id: Annotated[Identifier | None, Meta(description="Default: the mean of all patterns.")] = None


class ForecastPoint(Struct, frozen=True, kw_only=True):
    """One day of the series, in percent."""

    bucket_ts: datetime
    value: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="observed: share of the patterns that failed that day. forecast: probability of a recurrence"
            " by the end of that day.",
        ),
    ]
    lower: Annotated[
        float, Meta(description="Lower end of the 80 % interval; the value itself when observed.")
    ]
    upper: float
    kind: Literal["observed", "forecast"]
    trigger: Annotated[
        str | None, Meta(description="What is likely to set it off, on the day of the breach.")
    ]


class Axis(Struct, frozen=True, kw_only=True):
    """Where to draw ticks."""

    y_ticks: tuple[int, ...]
    x_tick_indices: tuple[int, ...]


class AlertThreshold(Struct, frozen=True, kw_only=True):
    """The workspace's alert line."""

    probability: Probability
    label: str


class Breach(Struct, frozen=True, kw_only=True):
    """The first pattern to reach the alert line."""

    bucket_ts: datetime
    point_index: int
    pattern_id: str
    pattern_label: str
    probability: Probability


class Forecast(Struct, frozen=True, kw_only=True):
    """What was and what is to be expected, day by day."""

    window: Window
    points: Annotated[
        tuple[ForecastPoint, ...], Meta(description="Oldest first; no forecast while there is none.")
    ]
    today_index: Annotated[int, Meta(ge=0, description="The last observed point.")]
    axis: Axis
    alert_threshold: AlertThreshold
    generated_at: Annotated[
        datetime, Meta(description="When the newest prediction in it was made, else now.")
    ]
    pattern_id: str | None
    breach: Breach | None


class Feedback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a prediction, as a person says."""

    outcome: Outcome
    note: Note = ""


class Dismissal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a prediction is not wanted."""

    reason: Note = ""


LISTING = Listing(
    name="predictions",
    view="prediction_rows",
    row=PredictionRow,
    key="prediction_id",
    sorts={
        "probability": SortKey("probability", "double precision"),
        "generated_at": SortKey("generated_at", "timestamptz"),
        "expires_at": SortKey("expires_at", "timestamptz"),
    },
    default_sort="-probability",
    filters=(
        Filter("status", "status = ANY({value}::text[])", list),
        Filter("min_probability", "probability >= {value}"),
        Filter("window_days", "window_days = {value}"),
        Filter("pattern_id", "pattern_id = {value}"),
    ),
)


def present(row: PredictionRow) -> Prediction:
    """A row as the API shows it."""
    fields = msgspec.structs.asdict(row)
    fields |= {"id": row.prediction_id, **card(evidence=row.evidence, inputs=row.inputs)}
    return msgspec.convert(fields, Prediction)


async def list_predictions(gateway: Gateway, call: Call[PredictionQuery, None]) -> PredictionPage:
    """A page of predictions."""
    found = await list_page(gateway, call, LISTING)
    return PredictionPage(data=shown(found, present), page=page_info(found))


async def get_prediction(gateway: Gateway, call: Call[PastQuery, None]) -> Prediction:
    """One prediction."""
    return present(await read_one(gateway, call.workspace_id, LISTING, call.path["prediction_id"]))


async def summarise(gateway: Gateway, call: Call[SummaryQuery, None]) -> PredictionSummary:
    """The four tiles."""
    threshold = await read_alert_probability(gateway, call.workspace_id)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        row = await _queries.summarise_predictions(
            conn,
            workspace_id=call.workspace_id,
            threshold=threshold,
            window_days=DAYS[call.query.window],
        )
    return PredictionSummary(
        window=call.query.window,
        total=row.n_total,
        high_probability=row.n_high,
        above_threshold=row.n_above,
        average_probability=row.average_probability,
        alert_threshold=threshold,
    )


async def forecast(gateway: Gateway, call: Call[ForecastQuery, None]) -> Forecast:
    """The series of one pattern or of all."""
    query, days = call.query, DAYS[call.query.window]
    if query.pattern_id is not None:
        await read_one(gateway, call.workspace_id, PATTERNS, query.pattern_id)
    threshold = await read_alert_probability(gateway, call.workspace_id)
    now = gateway.resources.clock()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=days - 1)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        rows = await _queries.list_forecasts(
            conn, workspace_id=call.workspace_id, window_days=days, pattern_id=query.pattern_id
        )
        watched = [query.pattern_id] if query.pattern_id else [row.pattern_id for row in rows]
        counted = await _queries.count_recurring_patterns(
            conn,
            workspace_id=call.workspace_id,
            pattern_ids=watched,
            since_at=first,
            until_at=today + timedelta(days=1),
        )
    counts = {row.bucket_at.astimezone(UTC): row.n_patterns for row in counted}
    past = [first + timedelta(days=day) for day in range(days)]
    observed = [(at, 100 * counts.get(at, 0) / max(len(watched), 1)) for at in past]
    outlooks = [_outlook(row, days) for row in rows]
    breach = _breach(outlooks, threshold=threshold, today=today, today_index=days - 1)
    ahead = composite([curve(outlook) for outlook in outlooks])
    return Forecast(
        window=query.window,
        points=(*_observed(observed), *_ahead(ahead, today, breach=breach, outlooks=outlooks)),
        today_index=days - 1,
        axis=_axis(days + len(ahead)),
        alert_threshold=AlertThreshold(probability=threshold, label=f"ALERT {threshold * 100:.0f}"),
        generated_at=max((outlook.generated_at for outlook in outlooks), default=now),
        pattern_id=query.pattern_id,
        breach=breach,
    )


def _outlook(row: _queries.ListForecastsRow, window_days: int) -> Outlook:
    return Outlook(
        pattern_id=row.pattern_id,
        pattern_name=row.pattern_name or row.pattern_id,
        window_days=window_days,
        probability=row.probability,
        lower=row.lower,
        upper=row.upper,
        inputs=row.inputs,
        trigger=row.likely_trigger,
        generated_at=row.generated_at,
    )


def _breach(
    outlooks: Sequence[Outlook], *, threshold: float, today: datetime, today_index: int
) -> Breach | None:
    found = first_breach(outlooks, threshold=threshold)
    if found is None:
        return None
    outlook, day, probability = found
    return Breach(
        bucket_ts=today + timedelta(days=day),
        point_index=today_index + day,
        pattern_id=outlook.pattern_id,
        pattern_label=outlook.pattern_name,
        probability=probability,
    )


def _observed(days: Sequence[tuple[datetime, float]]) -> list[ForecastPoint]:
    return [
        ForecastPoint(bucket_ts=at, value=value, lower=value, upper=value, kind="observed", trigger=None)
        for at, value in days
    ]


def _ahead(
    points: Sequence[Point], today: datetime, *, breach: Breach | None, outlooks: Sequence[Outlook]
) -> list[ForecastPoint]:
    triggers = {outlook.pattern_id: outlook.trigger or None for outlook in outlooks}
    series = []
    for day, point in enumerate(points, start=1):
        at = today + timedelta(days=day)
        is_breach = breach is not None and breach.bucket_ts == at
        series.append(
            ForecastPoint(
                bucket_ts=at,
                value=100 * point.value,
                lower=100 * point.lower,
                upper=100 * point.upper,
                kind="forecast",
                trigger=triggers[breach.pattern_id] if breach is not None and is_breach else None,
            )
        )
    return series


def _axis(n_points: int) -> Axis:
    """Five ticks up, and at most seven evenly spaced ones along."""
    step = max(1, (n_points + 6) // 7)
    return Axis(y_ticks=(0, 25, 50, 75, 100), x_tick_indices=tuple(range(0, n_points, step)))


async def _changed(gateway: Gateway, call: Call[NoQuery, Struct], request: Struct) -> Prediction:
    row, _ = await carry_out(gateway, call, LISTING, request, reply=prediction.PredictionChanged)
    return present(row)


async def give_feedback(gateway: Gateway, call: Call[NoQuery, Feedback]) -> Prediction:
    """Say what became of a prediction."""
    request = prediction.GiveFeedback(
        prediction_id=call.path["prediction_id"],
        outcome=prediction.Outcome(call.body.outcome),
        note=call.body.note,
    )
    return await _changed(gateway, call, request)


async def dismiss(gateway: Gateway, call: Call[NoQuery, Dismissal]) -> Prediction:
    """Take a prediction off the list."""
    request = prediction.DismissPrediction(prediction_id=call.path["prediction_id"], reason=call.body.reason)
    return await _changed(gateway, call, request)


_ALL, _ONE = "/v1/predictions", "/v1/predictions/{prediction_id}"
_Read = partial(Operation, tag="Predictions", method="GET", scope="predictions:read")
_Change = partial(
    Operation,
    tag="Predictions",
    method="POST",
    scope="predictions:write",
    replies={200: Prediction, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listPredictions",
        path=_ALL,
        summary="List predictions, the most probable first.",
        query=PredictionQuery,
        has_past=True,
        replies={200: PredictionPage},
        handle=list_predictions,
    ),
    _Read(
        id="summarisePredictions",
        path=f"{_ALL}/summary",
        summary="Sum up the active predictions of a window.",
        query=SummaryQuery,
        replies={200: PredictionSummary},
        refusals=(404,),
        handle=summarise,
    ),
    _Read(
        id="getForecast",
        path=f"{_ALL}/forecast",
        summary="See what was and what is to be expected, day by day.",
        query=ForecastQuery,
        replies={200: Forecast},
        refusals=(404,),
        handle=forecast,
    ),
    _Read(
        id="getPredictionAccuracy",
        path=f"{_ALL}/accuracy",
        summary="See how well resolved predictions did.",
        query=AccuracyQuery,
        replies={200: Accuracy},
        refusals=(404,),
        handle=accuracy,
    ),
    Operation(
        id="dryRunAlertThreshold",
        tag="Predictions",
        method="POST",
        path=f"{_ALL}/dry-run",
        scope="predictions:read",
        summary="See what a draft alert threshold would have fired, hit and missed.",
        body=DryRun,
        replies={200: DryRunResult},
        handle=dry_run,
    ),
    _Read(
        id="getPrediction",
        path=_ONE,
        summary="Look at a prediction, now or as it was.",
        query=PastQuery,
        has_past=True,
        replies={200: Prediction},
        handle=get_prediction,
    ),
    _Change(
        id="givePredictionFeedback",
        path=f"{_ONE}/feedback",
        summary="Say what became of a prediction.",
        body=Feedback,
        deed=Deed("prediction.feedback_given", "update", "prediction", "prediction_id"),
        handle=give_feedback,
    ),
    _Change(
        id="dismissPrediction",
        path=f"{_ONE}/dismiss",
        summary="Take a prediction off the list.",
        body=Dismissal,
        deed=Deed("prediction.dismissed", "update", "prediction", "prediction_id"),
        handle=dismiss,
    ),
)
