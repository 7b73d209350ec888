"""Decisions on predictions: pure, from what is known to the events that follow."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

from contracts import derived_id, prediction
from contracts.generated.ingest import Severity
from msgspec import Struct
from runtime.errors import ValidationFailedError

from services.prediction.engine.episodes import history
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS, Forecast, History, choose, forecast
from services.prediction.engine.impact import impact
from services.prediction.engine.scoring import NO_SCORES, Score, brier
from services.prediction.engine.trigger import Fact, Occurrence, explain
from services.prediction.errors import PredictionRecurredError
from services.prediction.state import Prediction

MAX_TEXT: Final = 2_000
MAX_TRIGGER: Final = 300


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
    scores: by window and version of the prior. outlooks: by window. What is missing has no history.
    """

    workspace_id: str
    pattern_id: str
    cause_id: str
    occurrences: Sequence[Occurrence]
    severities: Mapping[Severity, int]
    zone: tzinfo
    neighbours: Mapping[str, tuple[str, Sequence[datetime]]]
    scores: Mapping[int, Mapping[str, Score]]
    outlooks: Mapping[int, Outlook]
    alert_probability: float
    min_resolved: int


def forecast_pattern(
    cmd: ForecastPattern, *, now: datetime
) -> list[prediction.PredictionMade | prediction.AlertFired]:
    """One frozen prediction per window, each followed by its alert when it has reached the threshold from below."""
    known = history([one.at for one in cmd.occurrences], now=now)
    trigger, facts = explain(cmd.occurrences, now=now, zone=cmd.zone, neighbours=cmd.neighbours)
    events: list[prediction.PredictionMade | prediction.AlertFired] = []
    for window in WINDOWS_DAYS:
        answer = forecast(
            known, window, scores=cmd.scores.get(window, NO_SCORES), min_resolved=cmd.min_resolved
        )
        made = _made(cmd, known, answer, trigger=trigger, facts=facts, now=now)
        events.append(made)
        if _reaches(cmd, made):
            events.append(
                prediction.AlertFired(
                    prediction_id=made.prediction_id,
                    pattern_id=made.pattern_id,
                    window_days=window,
                    probability=made.probability,
                    threshold=cmd.alert_probability,
                )
            )
    return events


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


def _made(
    cmd: ForecastPattern,
    known: History,
    answer: Forecast,
    *,
    trigger: str,
    facts: Sequence[Fact],
    now: datetime,
) -> prediction.PredictionMade:
    scores = cmd.scores.get(answer.window_days, NO_SCORES)
    _, score, skill = choose(scores, min_resolved=cmd.min_resolved)
    next_days = answer.expected_next_days
    return prediction.PredictionMade(
        prediction_id=prediction_id(cmd.workspace_id, cmd.pattern_id, cmd.cause_id, answer.window_days),
        pattern_id=cmd.pattern_id,
        window_days=answer.window_days,
        probability=round(answer.probability, 6),
        lower=round(answer.lower, 6),
        upper=round(answer.upper, 6),
        expected_next_at=None if next_days is None else _whole_second(now + timedelta(days=next_days)),
        impact=impact(cmd.severities),
        likely_trigger=trigger[:MAX_TRIGGER],
        evidence=tuple(prediction.Evidence(kind=f.kind, text=f.text, issue_ids=f.issue_ids) for f in facts),
        model=answer.model,
        model_version=answer.model_version,
        inputs=prediction.ForecastInputs(
            n_recurrences=known.n_recurrences,
            exposure_days=known.exposure_days,
            quiet_days=known.quiet_days,
            prior_shape=answer.prior.shape,
            prior_rate_days=answer.prior.rate_days,
            base_rate=round(score.base_rate, 6),
            n_resolved=score.n_resolved,
            skill=None if skill is None else round(skill, 6),
        ),
        expires_at=now + timedelta(days=answer.window_days),
        low_confidence=answer.low_confidence,
    )


def _reaches(cmd: ForecastPattern, made: prediction.PredictionMade) -> bool:
    """Whether the probability is at the threshold now and the last alert's window has been left since."""
    if made.probability < cmd.alert_probability:
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


Menu = Mapping[type[Struct], Callable[..., Sequence[prediction.Event]]]

COMMANDS: Final[Menu] = {
    ForecastPattern: forecast_pattern,
    prediction.GiveFeedback: give_feedback,
    prediction.DismissPrediction: dismiss_prediction,
}
