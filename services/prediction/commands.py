"""Decisions on predictions: pure, from what is known to the events that follow."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

from contracts import Event, Recorded, derived_id, prediction
from contracts.generated.ingest import Severity
from msgspec import Struct
from runtime.errors import ValidationFailedError

from services.prediction.engine.behaviour import Behaviour, Surroundings, behaviour, bursts, paces
from services.prediction.engine.episodes import DAY_SECONDS, history
from services.prediction.engine.forecasting import Forecast, forecast, why
from services.prediction.engine.gamma_poisson import MIXED, History
from services.prediction.engine.impact import impact
from services.prediction.engine.recurrence import VERSION, Model, WindowModel
from services.prediction.engine.scoring import Tally, brier
from services.prediction.engine.trigger import Fact, Occurrence, explain
from services.prediction.errors import PredictionRecurredError
from services.prediction.state import Prediction, fold, scored_by

MAX_TEXT: Final = 2_000
MAX_TRIGGER: Final = 300

HOLD_OUT_EVERY: Final = 50
"""One pattern in so many is forecast and scored but not shown …"""
HOLD_OUT_FROM: Final = 200
"""… in workspaces that show so many patterns or more."""

_DIGITS: Final = 6


class Outlook(Struct, frozen=True):
    """What a pattern's last forecast for a window said.

    threshold: of the last alert for the window, None if there never was one.
    """

    probability: float
    threshold: float | None


class ForecastPattern(Struct, frozen=True, kw_only=True):
    """Forecast a pattern for every window.

    cause_id: the event that makes the forecast due, or the forecast that grew old; the ids follow from it.
    occurrences: times of the pattern's events and an issue for each, bursts thinned, at least one.
    neighbours: other patterns by id with name and times of events, from which a forerunner may be found.
    tallies, outlooks: by window; what is missing has no history. model: with its id, None while nothing is fitted.
    """

    workspace_id: str
    pattern_id: str
    cause_id: str
    occurrences: Sequence[Occurrence]
    severities: Mapping[Severity, int]
    zone: tzinfo
    neighbours: Mapping[str, tuple[str, Sequence[datetime]]]
    tallies: Mapping[int, Tally]
    outlooks: Mapping[int, Outlook]
    alert_probability: float
    min_resolved: int
    model: tuple[str, Model] | None = None
    is_held_out: bool = False


def forecast_pattern(
    cmd: ForecastPattern, *, now: datetime
) -> list[prediction.PredictionMade | prediction.AlertFired]:
    """One frozen prediction per window, each followed by its alert when it has reached the threshold from below."""
    times = [one.at for one in cmd.occurrences]
    state, at = behaviour(min(_day(time), _day(now)) for time in times), _day(now)
    trigger, facts = explain(cmd.occurrences, now=now, zone=cmd.zone, neighbours=cmd.neighbours)
    answers = forecast(
        state,
        at,
        model=None if cmd.model is None else cmd.model[1],
        scores={window: tally.score for window, tally in cmd.tallies.items()},
        min_resolved=cmd.min_resolved,
    )
    events: list[prediction.PredictionMade | prediction.AlertFired] = []
    for answer in answers:
        inputs = _inputs(cmd, state, history(times, now=now), answer, at)
        made = _made(cmd, inputs, answer, trigger=trigger, facts=facts, now=now)
        events.append(made)
        if _reaches(cmd, made):
            events.append(
                prediction.AlertFired(
                    prediction_id=made.prediction_id,
                    pattern_id=made.pattern_id,
                    window_days=made.window_days,
                    probability=made.probability,
                    threshold=cmd.alert_probability,
                )
            )
    return events


def is_held_out(workspace_id: str, pattern_id: str, *, n_shown: int) -> bool:
    """Whether a pattern's forecasts are kept from view: one in 50, by the hash of its id, where there are many."""
    if n_shown < HOLD_OUT_FROM:
        return False
    digest = hashlib.sha256(f"{workspace_id}/{pattern_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HOLD_OUT_EVERY == 0


def model_fitted(model_id: str, model: Model) -> prediction.ModelFitted:
    """The event that says what was learned."""
    return prediction.ModelFitted(
        model_id=model_id,
        version=model.version,
        n_active=model.around.n_active,
        rates=model.around.rates,
        windows=tuple(
            prediction.FittedWindow(
                window_days=one.window_days,
                n_outcomes=one.n_outcomes,
                n_hits=one.n_hits,
                mix=one.mix,
                regression=one.regression,
            )
            for one in model.windows
        ),
    )


def model_of(data: prediction.ModelFitted) -> Model | None:
    """The model that an event holds; None for one of another method, which nobody can compute any more."""
    if data.version != VERSION:
        return None
    return Model(
        data.version,
        Surroundings(data.n_active, data.rates),
        tuple(
            WindowModel(one.window_days, one.n_outcomes, one.n_hits, one.mix, one.regression)
            for one in data.windows
        ),
    )


def prediction_id(workspace_id: str, pattern_id: str, cause_id: str, window_days: int) -> str:
    """The id of the forecast that this cause leads to; deciding again gives the same."""
    return derived_id("prd_", workspace_id, pattern_id, cause_id, str(window_days))


def resolve_hit(state: Prediction, issue_id: str) -> prediction.PredictionResolved:
    """The prediction came true with this issue."""
    return _resolved(state, prediction.Outcome.HIT, issue_id)


def resolve_miss(state: Prediction) -> prediction.PredictionResolved:
    """The window ended without a recurrence."""
    return _resolved(state, prediction.Outcome.MISS, None)


def give_feedback(
    cmd: prediction.GiveFeedback, state: Prediction
) -> list[prediction.PredictionFeedbackGiven]:
    """Record what a person says became of it; saying the same again changes nothing.

    Raises ValidationFailedError for a note that is too long or holds U+0000, PredictionRecurredError for `prevented` when the log
    has already shown a recurrence.
    """
    _check_text("note", cmd.note)
    if (cmd.outcome, cmd.note) == (state.feedback, state.note):
        return []
    prevented, hit = prediction.Outcome.PREVENTED, prediction.Outcome.HIT
    if cmd.outcome is prevented and state.outcome is hit:
        raise PredictionRecurredError(
            f"{state.prediction_id} came true: the pattern recurred within its window."
        )
    return [
        prediction.PredictionFeedbackGiven(
            prediction_id=state.prediction_id, outcome=cmd.outcome, note=cmd.note
        )
    ]


def dismiss_prediction(
    cmd: prediction.DismissPrediction, state: Prediction
) -> list[prediction.PredictionDismissed]:
    """Take it off the list; it is still resolved and scored. A second time changes nothing.

    Raises ValidationFailedError for a reason that is too long or holds U+0000.
    """
    _check_text("reason", cmd.reason)
    if state.is_dismissed:
        return []
    return [prediction.PredictionDismissed(prediction_id=state.prediction_id, reason=cmd.reason)]


def expire_prediction(
    history: Sequence[Recorded[Event]], *, ended_before: datetime
) -> prediction.PredictionExpired | None:
    """That a prediction is shown no longer; None when it is open, did not end before then, is expired or unknown."""
    state = fold(history)
    if state is None or state.expired_at is not None:
        return None
    if max(state.expires_at, history[-1].recorded_at) >= ended_before:
        return None
    if state.outcome is None and not state.is_censored:
        return None
    return prediction.PredictionExpired(prediction_id=state.prediction_id)


def purge_prediction(
    history: Sequence[Recorded[Event]], *, expired_before: datetime
) -> prediction.PurgedPrediction | None:
    """What is kept of a prediction; None when it is not expired, or not for long enough."""
    state = fold(history)
    if state is None or state.expired_at is None or state.expired_at >= expired_before:
        return None
    [made] = [event.data for event in history if isinstance(event.data, prediction.PredictionMade)]
    resolved = [event for event in history if isinstance(event.data, prediction.PredictionResolved)]
    scored = scored_by(made)
    return prediction.PurgedPrediction(
        prediction_id=state.prediction_id,
        pattern_id=state.pattern_id,
        window_days=state.window_days,
        probability=state.probability,
        model_probability=scored.model_probability,
        base_rate=made.inputs.base_rate,
        is_base_rate_known=scored.base_rate is not None,
        model=made.model,
        model_version=made.model_version,
        made_at=state.made_at,
        expires_at=state.expires_at,
        outcome=state.outcome,
        resolved_at=resolved[0].time if resolved else None,
        resolved_sequence=resolved[0].seq if resolved else state.seq,
        is_prevented=state.is_censored,
    )


def _made(
    cmd: ForecastPattern,
    inputs: prediction.ForecastInputs,
    answer: Forecast,
    *,
    trigger: str,
    facts: Sequence[Fact],
    now: datetime,
) -> prediction.PredictionMade:
    next_days = answer.expected_next_days
    return prediction.PredictionMade(
        prediction_id=prediction_id(cmd.workspace_id, cmd.pattern_id, cmd.cause_id, answer.window_days),
        pattern_id=cmd.pattern_id,
        window_days=answer.window_days,
        probability=round(answer.probability, _DIGITS),
        lower=round(answer.lower, _DIGITS),
        upper=round(answer.upper, _DIGITS),
        expected_next_at=None if next_days is None else _whole_second(now + timedelta(days=next_days)),
        impact=impact(cmd.severities),
        likely_trigger=trigger[:MAX_TRIGGER],
        evidence=tuple(prediction.Evidence(kind=f.kind, text=f.text, issue_ids=f.issue_ids) for f in facts),
        model=answer.model,
        model_version=answer.model_version,
        inputs=inputs,
        expires_at=now + timedelta(days=answer.window_days),
        low_confidence=answer.low_confidence,
        held_out=cmd.is_held_out or None,
    )


def _inputs(
    cmd: ForecastPattern, state: Behaviour, known: History, answer: Forecast, at: float
) -> prediction.ForecastInputs:
    """All that the probability can be computed from again, and why it is what it is; rounded to 10⁻⁶."""
    tally = cmd.tallies.get(answer.window_days, Tally())
    bucket_n, bucket_hits = tally.bucket(answer.probability)
    model_id, model = ("", None) if cmd.model is None else cmd.model
    skill, said = answer.skill, answer.said
    is_fitted = said.regression is not None
    return prediction.ForecastInputs(
        n_recurrences=known.n_recurrences,
        exposure_days=known.exposure_days,
        quiet_days=known.quiet_days,
        prior_shape=MIXED.shape,
        prior_rate_days=MIXED.rate_days,
        base_rate=round(answer.base_rate, _DIGITS),
        n_resolved=tally.score.n_resolved,
        skill=None if skill is None else round(skill, _DIGITS),
        basis=prediction.ForecastBasis(
            model_id=model_id if is_fitted else "",
            n_events=state.n_events,
            episode_quiet_days=round(at - state.episode_at, _DIGITS),
            pace=_rounded(paces(state, at)),
            burst=_rounded(bursts(state, at)),
            gap_weight=round(state.gap_weight, _DIGITS),
            gap_sum=round(state.gap_sum, _DIGITS),
            gap_square=round(state.gap_square, _DIGITS),
            last_gap_days=round(state.last_gap, _DIGITS),
            model_probability=round(said.probability, _DIGITS),
            gamma_poisson=round(said.gamma_poisson, _DIGITS),
            intensity_mix=None if said.mix is None else round(said.mix, _DIGITS),
            regression=None if said.regression is None else round(said.regression, _DIGITS),
            drivers=tuple(
                prediction.Driver(
                    kind=one.kind, text=why(one, state, at, model), log_odds=round(one.log_odds, _DIGITS)
                )
                for one in answer.drivers
            ),
            bucket_n=bucket_n,
            bucket_hits=bucket_hits,
        ),
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values)


def _day(time: datetime) -> float:
    return time.timestamp() / DAY_SECONDS


def _reaches(cmd: ForecastPattern, made: prediction.PredictionMade) -> bool:
    """Whether the probability is at the threshold now and the last alert's window has been left since."""
    if made.probability < cmd.alert_probability or cmd.is_held_out:
        return False
    last = cmd.outlooks.get(made.window_days)
    return last is None or last.threshold is None or last.probability < last.threshold


def _resolved(
    state: Prediction, outcome: prediction.Outcome, issue_id: str | None
) -> prediction.PredictionResolved:
    return prediction.PredictionResolved(
        prediction_id=state.prediction_id,
        pattern_id=state.pattern_id,
        outcome=outcome,
        brier=round(brier(state.probability, is_hit=outcome is prediction.Outcome.HIT), 9),
        issue_id=issue_id,
        window_days=state.window_days,
        probability=state.probability,
        expires_at=state.expires_at,
    )


def _whole_second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def _check_text(field: str, text: str) -> None:
    """Neither too long nor with U+0000, which no database row can hold."""
    if "\x00" in text:
        raise ValidationFailedError(
            f"{field} holds the character U+0000.", details={field: "Must not hold the character U+0000."}
        )
    if len(text) > MAX_TEXT:
        raise ValidationFailedError(
            f"{field} is too long.", details={field: f"At most {MAX_TEXT:,} characters, not {len(text):,}."}
        )


Menu = Mapping[
    type[Struct],
    Callable[..., Sequence[prediction.Event] | prediction.Event | prediction.PurgedPrediction | None],
]

COMMANDS: Final[Menu] = {
    ForecastPattern: forecast_pattern,
    prediction.GiveFeedback: give_feedback,
    prediction.DismissPrediction: dismiss_prediction,
    prediction.ExpirePredictions: expire_prediction,
    prediction.PurgePredictions: purge_prediction,
}
