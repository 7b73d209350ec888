"""Events and commands of prediction.

Generated from proto/causeloop/prediction/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from contracts.types import Timestamp


class Impact(StrEnum):
    """What a recurrence would cost.

    critical: Mostly p1 issues.
    high: Mostly p2 issues.
    medium: Mostly p3 issues.
    low: Mostly p4 issues.
    """

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Outcome(StrEnum):
    """What became of a prediction.

    hit: The pattern recurred within the window.
    miss: It did not.
    prevented: It would have, but somebody acted; censored, never counted as a miss.
    """

    HIT = "hit"
    MISS = "miss"
    PREVENTED = "prevented"


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that a prediction rests on.

    kind: last_gap, rate_change, weekday, hour_of_day, co_occurrence or history.
    text: The fact in a sentence, with its numbers.
    issue_ids: Issues that it is drawn from, at most 10.
    """

    kind: str
    text: str
    issue_ids: tuple[str, ...] = ()


class ForecastInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers that a prediction was computed from; the same numbers give the same probability.

    n_recurrences: Recurrences seen: events after the first, at least 24 hours apart.
    exposure_days: Days from the first event to the prediction.
    quiet_days: Days since the last event.
    prior_shape: Shape of the Gamma prior.
    prior_rate_days: Rate of the Gamma prior, in days.
    base_rate: Share of this workspace's resolved predictions of the window that were hits, in [0, 1].
    n_resolved: Resolved predictions behind base_rate and skill.
    skill: Rolling Brier skill of the model over the base rate; absent below the data floor.
    """

    n_recurrences: int
    exposure_days: float
    quiet_days: float
    prior_shape: float
    prior_rate_days: float
    base_rate: float
    n_resolved: int
    skill: float | None = None


class PredictionMade(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A forecast for one pattern and one window, frozen.

    Emitted by prediction on prediction/<prediction_id>. The envelope's time is when it was made.

    prediction_id: Id of the prediction, prefix "prd_".
    pattern_id: The pattern.
    window_days: Length of the window in days: 7, 30 or 90.
    probability: Probability of at least one recurrence within the window, in [0.002, 0.98].
    lower: Lower end of the 80 % interval of that probability.
    upper: Upper end of the 80 % interval of that probability.
    expected_next_at: When the next recurrence is expected (median); absent when beyond 365 days.
    impact: What a recurrence would cost.
    likely_trigger: What is likely to set it off, in a sentence; empty when the evidence names nothing.
    evidence: What the trigger and the probability rest on.
    model: gamma_poisson or base_rate.
    model_version: Dated version of the model.
    inputs: What it was computed from.
    expires_at: When the window ends.
    low_confidence: Too little history for more than the prior.
    """

    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    lower: float
    upper: float
    expected_next_at: Timestamp | None = None
    impact: Impact
    likely_trigger: str
    evidence: tuple[Evidence, ...] = ()
    model: str
    model_version: str
    inputs: ForecastInputs
    expires_at: Timestamp
    low_confidence: bool


class PredictionResolved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A window ended, or a recurrence ended it early, and the log says what became of the forecast.

    Emitted by prediction on prediction/<prediction_id>.

    prediction_id: Id of the prediction.
    pattern_id: The pattern.
    outcome: hit or miss.
    brier: Squared distance of the probability from the outcome, in [0, 1].
    issue_id: The issue that made it a hit.
    window_days: Length of the window in days.
    probability: The frozen probability.
    """

    prediction_id: str
    pattern_id: str
    outcome: Outcome
    brier: float
    issue_id: str | None = None
    window_days: int
    probability: float


class PredictionFeedbackGiven(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person said what became of a prediction.

    Emitted by prediction on prediction/<prediction_id>.

    prediction_id: Id of the prediction.
    outcome: What the person says.
    note: In the person's words; may be empty.
    """

    prediction_id: str
    outcome: Outcome
    note: str


class PredictionDismissed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person does not want to see a prediction.

    Emitted by prediction on prediction/<prediction_id>.

    prediction_id: Id of the prediction.
    reason: Why; may be empty.
    """

    prediction_id: str
    reason: str


class AlertFired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A probability reached the workspace's alert threshold from below.

    Emitted by prediction on prediction/<prediction_id>.

    prediction_id: Id of the prediction.
    pattern_id: The pattern.
    window_days: Length of the window in days.
    probability: The probability.
    threshold: The threshold that it reached.
    """

    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    threshold: float


class GiveFeedback(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Say what became of a prediction. Endpoint: prediction.give_feedback.

    prediction_id: Id of the prediction.
    outcome: hit, miss or prevented.
    note: At most 2,000 characters.
    """

    prediction_id: str
    outcome: Outcome
    note: str


class DismissPrediction(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Take a prediction off the list. Endpoint: prediction.dismiss_prediction.

    prediction_id: Id of the prediction.
    reason: At most 2,000 characters.
    """

    prediction_id: str
    reason: str


class PredictionChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to every command on predictions.

    prediction_id: Id of the prediction.
    sequence: Stream sequence of the prediction's last event.
    """

    prediction_id: str
    sequence: int


Event: TypeAlias = (
    PredictionMade
    | PredictionResolved
    | PredictionFeedbackGiven
    | PredictionDismissed
    | AlertFired
)
"""Any event of prediction."""

AGGREGATES: dict[type[Event], str] = {
    PredictionMade: "prediction",
    PredictionResolved: "prediction",
    PredictionFeedbackGiven: "prediction",
    PredictionDismissed: "prediction",
    AlertFired: "prediction",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    GiveFeedback: "prediction.give_feedback",
    DismissPrediction: "prediction.dismiss_prediction",
}
"""The endpoint that answers each request."""
