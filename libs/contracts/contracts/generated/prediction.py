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

    kind: last_gap, rate_change, drift, weekday, hour_of_day, co_occurrence or history.
    text: The fact in a sentence, with its numbers.
    issue_ids: Issues that it is drawn from, at most 10.
    """

    kind: str
    text: str
    issue_ids: tuple[str, ...] = ()


class Driver(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the distance between the base rate and the probability; all parts together are that distance.

    kind: history, pace, silence, frequency, rhythm or workspace.
    text: The part in a sentence, with its numbers.
    log_odds: Its size in log odds; above 0 it makes a recurrence likelier.
    """

    kind: str
    text: str
    log_odds: float


class ForecastBasis(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the models looked at and said: with the prior and the fitted model, enough to compute it again.

    model_id: Id of the fitted model; empty while nothing is fitted.
    n_events: Events so far.
    episode_quiet_days: Days since the last episode began; an episode is what n_recurrences counts.
    pace: Episodes, each counted half after 3.5, 14, 45, 150 and 500 days.
    burst: Events, each counted half after 3.5, 14 and 45 days.
    gap_weight: Sum of the weights of the gaps between episodes; each newer gap weighs 1.25 times the one before.
    gap_sum: Weighted sum of the logarithms of the gaps in days.
    gap_square: Weighted sum of their squares.
    last_gap_days: Days between the last two episodes; 0 while there is one.
    model_probability: What the models say, whether or not the base rate answers.
    gamma_poisson: What Gamma-Poisson alone says.
    intensity_mix: What the intensity mix alone says; absent while nothing is fitted.
    regression: What the regression alone says; absent while nothing is fitted.
    drivers: Why the probability is not the base rate, the strongest part first; empty when the base rate answers.
    bucket_n: Resolved predictions of the window in the last twelve months whose probability was in the same tenth.
    bucket_hits: How many of these came true.
    """

    model_id: str
    n_events: int
    episode_quiet_days: float
    pace: tuple[float, ...] = ()
    burst: tuple[float, ...] = ()
    gap_weight: float
    gap_sum: float
    gap_square: float
    last_gap_days: float
    model_probability: float
    gamma_poisson: float
    intensity_mix: float | None = None
    regression: float | None = None
    drivers: tuple[Driver, ...] = ()
    bucket_n: int
    bucket_hits: int


class ForecastInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers that a prediction was computed from; the same numbers give the same probability.

    n_recurrences: Recurrences seen: events after the first, at least 24 hours apart.
    exposure_days: Days from the first event to the prediction.
    quiet_days: Days since the last event.
    prior_shape: Shape of the Gamma prior.
    prior_rate_days: Rate of the Gamma prior, in days.
    base_rate: How often patterns of this workspace recur within the window, in [0.002, 0.98]: among the outcomes that the model
    was fitted on, or among resolved predictions while nothing is fitted.
    n_resolved: Resolved predictions of the window in the last twelve months.
    skill: Brier skill of the model over the base rate in these; absent below the data floor.
    basis: What the models looked at and said; absent in predictions made before there was more than one.
    """

    n_recurrences: int
    exposure_days: float
    quiet_days: float
    prior_shape: float
    prior_rate_days: float
    base_rate: float
    n_resolved: int
    skill: float | None = None
    basis: ForecastBasis | None = None


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
    model: gamma_poisson, ensemble or base_rate.
    model_version: Dated version of the model.
    inputs: What it was computed from.
    expires_at: When the window ends.
    low_confidence: Too little history for more than the prior.
    held_out: Made and scored but not shown, so that what people do about forecasts can be told from what would have happened.
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
    held_out: bool | None = None


class FittedWindow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was learned for one window.

    window_days: Length of the window in days: 7, 30 or 90.
    n_outcomes: Outcomes that it was learned from.
    n_hits: How many of these were recurrences.
    mix: Weights of the eight parts of the intensity mix.
    regression: Weights of a constant and the features, in log odds on top of the mix.
    """

    window_days: int
    n_outcomes: int
    n_hits: int
    mix: tuple[float, ...] = ()
    regression: tuple[float, ...] = ()


class ModelFitted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workspace's own model was learned from its past. Which features and how: docs/reference/forecast.md.

    Emitted by prediction on prediction/<model_id>. The envelope's time is the last moment that it knows of.

    model_id: Id of the model, prefix "mdl_".
    version: Dated version of the method.
    n_active: Patterns with two events or more, the last at most 365 days ago.
    rates: Events per day of all patterns together, by half-lives of 3.5, 14, 45, 150 and 500 days.
    windows: What was learned, shortest window first; a window with too few outcomes is absent.
    """

    model_id: str
    version: str
    n_active: int
    rates: tuple[float, ...] = ()
    windows: tuple[FittedWindow, ...] = ()


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
    expires_at: When the window ends: a hit counts in no score before, for misses of its age are not known yet.
    """

    prediction_id: str
    pattern_id: str
    outcome: Outcome
    brier: float
    issue_id: str | None = None
    window_days: int
    probability: float
    expires_at: Timestamp | None = None


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


class PredictionExpired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prediction that is over has reached its age: from now on it is shown to nobody, and waits to be purged. Scores go on counting it, and nothing brings it back: it is frozen, and nobody is told of it any more. The last prediction of a pattern and window, and the last one that alerted, never expire.

    Emitted by prediction on prediction/<prediction_id>.

    prediction_id: Id of the prediction.
    """

    prediction_id: str


class PurgedPrediction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a prediction that was purged: what scores are made of, nothing that anybody wrote.

    prediction_id: Id that the prediction had; no other ever gets it.
    pattern_id: The pattern.
    window_days: Length of the window in days.
    probability: The frozen probability.
    model_probability: What the models said, whether or not the base rate answered.
    base_rate: The base rate when it was made.
    is_base_rate_known: Whether anything was known then that the base rate could rest on.
    model: gamma_poisson, ensemble or base_rate.
    model_version: Dated version of the model.
    made_at: When it was made.
    expires_at: When its window ended.
    outcome: hit or miss, as the log said; absent when somebody prevented the recurrence before the log could say.
    resolved_at: When that happened.
    resolved_sequence: Sequence of the event that said so, else of its last one.
    is_prevented: A person called it prevented, so it counts in no score.
    """

    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    model_probability: float
    base_rate: float
    is_base_rate_known: bool
    model: str
    model_version: str
    made_at: Timestamp
    expires_at: Timestamp
    outcome: Outcome | None = None
    resolved_at: Timestamp | None = None
    resolved_sequence: int
    is_prevented: bool


class PredictionsPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Expired predictions are deleted for good: all of their events, rows with them. What a pattern is forecast by rests on none of them.

    Emitted by prediction on prediction/<workspace_id>.

    workspace_id: The workspace.
    predictions: What stays of each, at most 100.
    """

    workspace_id: str
    predictions: tuple[PurgedPrediction, ...] = ()


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


class ExpirePredictions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Show predictions no longer that are over for long. Endpoint: prediction.expire_predictions.

    prediction_ids: Ids of predictions, 1 to 100; one that is open, was still written to since then, is expired or unknown is left
    alone. Whoever asks sees to it that a later one of the same pattern and window stays, and a later alert.
    ended_before: Only those whose window and last event are before then.
    """

    prediction_ids: tuple[str, ...] = ()
    ended_before: Timestamp


class PurgePredictions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Delete expired predictions for good. Endpoint: prediction.purge_predictions.

    prediction_ids: Ids of predictions, 0 to 100; one that is not expired, or since later than that, is left alone.
    expired_before: Only those that expired before then.
    """

    prediction_ids: tuple[str, ...] = ()
    expired_before: Timestamp


class PredictionsRetired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ExpirePredictions and PurgePredictions.

    n_predictions: How many were expired or purged.
    sequence: Stream sequence behind which rows show it; 0 when there were none.
    """

    n_predictions: int
    sequence: int


Event: TypeAlias = (
    PredictionMade
    | ModelFitted
    | PredictionResolved
    | PredictionFeedbackGiven
    | PredictionDismissed
    | AlertFired
    | PredictionExpired
    | PredictionsPurged
)
"""Any event of prediction."""

AGGREGATES: dict[type[Event], str] = {
    PredictionMade: "prediction",
    ModelFitted: "prediction",
    PredictionResolved: "prediction",
    PredictionFeedbackGiven: "prediction",
    PredictionDismissed: "prediction",
    AlertFired: "prediction",
    PredictionExpired: "prediction",
    PredictionsPurged: "prediction",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    GiveFeedback: "prediction.give_feedback",
    DismissPrediction: "prediction.dismiss_prediction",
    ExpirePredictions: "prediction.expire_predictions",
    PurgePredictions: "prediction.purge_predictions",
}
"""The endpoint that answers each request."""
