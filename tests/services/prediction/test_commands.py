"""Decisions: what is forecast, when an alert fires, what people may say about it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from contracts import Event, Recorded, prediction, record
from contracts.generated.ingest import Severity
from contracts.generated.prediction import Outcome
from runtime.errors import ValidationFailedError

from services.prediction.commands import (
    COMMANDS,
    ForecastPattern,
    Outlook,
    dismiss_prediction,
    forecast_pattern,
    give_feedback,
    is_held_out,
    model_fitted,
    model_of,
    resolve_hit,
    resolve_miss,
)
from services.prediction.engine.behaviour import Behaviour, logit
from services.prediction.engine.fitting import Past, learn
from services.prediction.engine.recurrence import Model, opinion
from services.prediction.engine.scoring import NANO, Score, Tally
from services.prediction.engine.trigger import Occurrence
from services.prediction.errors import PredictionRecurredError
from services.prediction.state import Prediction, fold

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STATE = Prediction(
    prediction_id="prd_1",
    pattern_id="pat_1",
    window_days=7,
    probability=0.8,
    made_at=NOW,
    expires_at=NOW + timedelta(days=7),
    made_seq=1,
    seq=4,
)
GIVE = prediction.GiveFeedback(prediction_id="prd_1", outcome=Outcome.PREVENTED, note="restarted it")


def ask(outlooks: Mapping[int, Outlook] | None = None, threshold: float = 0.7) -> ForecastPattern:
    return ForecastPattern(
        workspace_id="ws_1",
        pattern_id="pat_1",
        cause_id="evt_1",
        occurrences=[Occurrence(NOW - timedelta(days=2 * n), f"iss_{n}") for n in range(12)],
        severities={Severity.P2: 12},
        zone=UTC,
        neighbours={},
        tallies={},
        outlooks=outlooks or {},
        alert_probability=threshold,
        min_resolved=50,
    )


@pytest.fixture(scope="module")
def model() -> Model:
    """What sixty patterns, each with a rhythm of its own, teach."""
    rows = [(day, f"pat_{gap}") for gap in range(1, 61) for day in range(0, 240, gap)]
    learnt = learn(Past(tuple(sorted((float(day), name) for day, name in rows)), 240.0))
    assert learnt is not None
    return learnt


def alerts(events: list[prediction.PredictionMade | prediction.AlertFired]) -> list[int]:
    return [event.window_days for event in events if isinstance(event, prediction.AlertFired)]


def test_a_forecast_covers_three_windows_with_rising_chances() -> None:
    """Seven, thirty and ninety days, from the same inputs."""
    made = forecast_pattern(ask(threshold=1.0), now=NOW)
    assert all(isinstance(event, prediction.PredictionMade) for event in made)
    windows = [event for event in made if isinstance(event, prediction.PredictionMade)]
    assert [event.window_days for event in windows] == [7, 30, 90]
    assert [event.probability for event in windows] == sorted(event.probability for event in windows)
    assert windows[0].inputs.n_recurrences == 11
    assert windows[0].inputs.exposure_days == 22.0
    assert windows[0].impact is prediction.Impact.HIGH
    assert windows[2].expires_at == NOW + timedelta(days=90)


def test_the_probability_can_be_computed_again_from_the_event(model: Model) -> None:
    """The frozen inputs and the fitted model give what was frozen."""
    asked = msgspec.structs.replace(ask(threshold=1.0), model=("mdl_1", model))
    for made in forecast_pattern(asked, now=NOW):
        assert isinstance(made, prediction.PredictionMade)
        given, known = made.inputs.basis, made.inputs
        assert given is not None
        assert (made.model, given.model_id) == ("ensemble", "mdl_1")
        state = Behaviour(
            first_at=-known.exposure_days,
            last_at=-known.quiet_days,
            episode_at=-given.episode_quiet_days,
            n_events=given.n_events,
            n_episodes=known.n_recurrences + 1,
            pace=list(given.pace),
            burst=list(given.burst),
            gap_weight=given.gap_weight,
            gap_sum=given.gap_sum,
            gap_square=given.gap_square,
            last_gap=given.last_gap_days,
        )
        # Faded already, so that nothing fades from here on.
        assert (given.episode_quiet_days, known.quiet_days) == (0.0, 0.0)
        again = opinion(state, 0.0, made.window_days, model)
        assert again.probability == pytest.approx(given.model_probability, abs=1e-5)
        parts = math.fsum(part.log_odds for part in given.drivers)
        assert parts == pytest.approx(logit(made.probability) - logit(known.base_rate), abs=1e-4)
        assert all(part.text for part in given.drivers)


def test_a_fitted_model_survives_its_event(model: Model) -> None:
    """What was learned is in the log, whole."""
    event = model_fitted("mdl_1", model)
    assert model_of(event) == model
    assert model_of(msgspec.structs.replace(event, version="another@2020-01-01")) is None


def test_the_base_rate_answers_while_the_models_are_behind_it() -> None:
    """Enough resolved forecasts, over long enough, further off than the base rate: it answers and says so."""
    behind = Score(300, 30, 60 * NANO, 30 * NANO, span_days=300.0)
    asked = msgspec.structs.replace(
        ask(threshold=1.0), tallies={7: Tally(behind, {1: (40, 4)})}, min_resolved=300
    )
    week, month, _ = (
        one for one in forecast_pattern(asked, now=NOW) if isinstance(one, prediction.PredictionMade)
    )
    basis = week.inputs.basis
    assert basis is not None
    assert (week.model, week.inputs.skill, basis.drivers) == ("base_rate", -1.0, ())
    assert week.probability == pytest.approx(30.5 / 301, abs=1e-6)
    assert week.lower < week.probability < week.upper
    assert basis.model_probability > 0.5
    assert (basis.bucket_n, basis.bucket_hits) == (40, 4)
    assert month.model == "gamma_poisson"
    few = msgspec.structs.replace(asked, min_resolved=301)
    assert {
        one.model for one in forecast_pattern(few, now=NOW) if isinstance(one, prediction.PredictionMade)
    } == {"gamma_poisson"}


def test_what_is_held_out_is_forecast_and_never_fires() -> None:
    """One pattern in fifty, always the same ones, where there are many."""
    events = forecast_pattern(msgspec.structs.replace(ask(), is_held_out=True), now=NOW)
    assert [one.held_out for one in events if isinstance(one, prediction.PredictionMade)] == [True] * 3
    assert alerts(events) == []
    kept = [name for name in map(str, range(5_000)) if is_held_out("ws", name, n_shown=200)]
    assert 60 <= len(kept) <= 140
    assert kept == [name for name in map(str, range(5_000)) if is_held_out("ws", name, n_shown=5_000)]
    assert not any(is_held_out("ws", name, n_shown=199) for name in kept)


def test_deciding_again_gives_the_same_bytes() -> None:
    """Same history, cause and clock: the same events."""
    assert msgspec.json.encode(forecast_pattern(ask(), now=NOW)) == msgspec.json.encode(
        forecast_pattern(ask(), now=NOW)
    )


def test_the_first_forecast_above_the_threshold_fires() -> None:
    """Nothing was said before."""
    assert alerts(forecast_pattern(ask(), now=NOW)) == [7, 30, 90]


def test_an_alert_does_not_fire_twice_while_it_stays_above() -> None:
    """The last forecast was above the threshold of its alert already."""
    above = Outlook(probability=0.75, threshold=0.7)
    assert alerts(forecast_pattern(ask(dict.fromkeys((7, 30, 90), above)), now=NOW)) == []


def test_an_alert_fires_again_after_it_fell_below() -> None:
    """Back under the threshold in between."""
    below = Outlook(probability=0.65, threshold=0.7)
    assert alerts(forecast_pattern(ask(dict.fromkeys((7, 30, 90), below)), now=NOW)) == [7, 30, 90]


def test_a_lowered_threshold_fires_for_what_never_alerted() -> None:
    """High before, but below the old threshold."""
    quiet = Outlook(probability=0.9, threshold=None)
    assert alerts(forecast_pattern(ask(dict.fromkeys((7, 30, 90), quiet)), now=NOW)) == [7, 30, 90]


def test_feedback_is_recorded_once() -> None:
    """The same words again change nothing."""
    (given,) = give_feedback(GIVE, STATE)
    assert given.outcome is Outcome.PREVENTED
    said = msgspec.structs.replace(STATE, feedback=given.outcome, note=given.note)
    assert give_feedback(GIVE, said) == []


def test_prevented_after_a_recurrence_is_refused() -> None:
    """The log has shown that it happened."""
    with pytest.raises(PredictionRecurredError):
        give_feedback(GIVE, msgspec.structs.replace(STATE, outcome=Outcome.HIT))


@pytest.mark.parametrize("length", [2_001, 5_000])
def test_texts_that_are_too_long_are_refused(length: int) -> None:
    """Both commands say which field it is."""
    with pytest.raises(ValidationFailedError) as refused:
        give_feedback(msgspec.structs.replace(GIVE, note="x" * length), STATE)
    assert "note" in refused.value.details
    with pytest.raises(ValidationFailedError):
        dismiss_prediction(prediction.DismissPrediction(prediction_id="prd_1", reason="x" * length), STATE)


def test_texts_with_nul_are_refused() -> None:
    """No row could hold them, and the projection would stop."""
    with pytest.raises(ValidationFailedError) as refused:
        give_feedback(msgspec.structs.replace(GIVE, note="a\0b"), STATE)
    assert "note" in refused.value.details
    with pytest.raises(ValidationFailedError) as refused:
        dismiss_prediction(prediction.DismissPrediction(prediction_id="prd_1", reason="a\0b"), STATE)
    assert "reason" in refused.value.details


def test_dismissing_twice_changes_nothing() -> None:
    """The second time there is no event."""
    cmd = prediction.DismissPrediction(prediction_id="prd_1", reason="known")
    assert len(dismiss_prediction(cmd, STATE)) == 1
    assert dismiss_prediction(cmd, msgspec.structs.replace(STATE, is_dismissed=True)) == []


def test_resolutions_carry_the_brier_score() -> None:
    """0.8 said: 0.04 off for a hit, 0.64 off for a miss."""
    assert resolve_hit(STATE, "iss_9").brier == pytest.approx(0.04)
    assert resolve_hit(STATE, "iss_9").issue_id == "iss_9"
    assert resolve_miss(STATE).brier == pytest.approx(0.64)


def test_the_fold_gives_the_prediction_back() -> None:
    """Made, prevented, dismissed, resolved: everything is remembered, with the last sequence."""
    (made, *_) = forecast_pattern(ask(threshold=1.0), now=NOW)
    assert isinstance(made, prediction.PredictionMade)
    happened: list[Event] = [
        made,
        prediction.PredictionFeedbackGiven(
            prediction_id=made.prediction_id, outcome=Outcome.PREVENTED, note=""
        ),
        prediction.PredictionDismissed(prediction_id=made.prediction_id, reason=""),
    ]
    history: list[Recorded[Event]] = [
        msgspec.structs.replace(
            record(
                data,
                workspace_id="ws_1",
                aggregate_id=made.prediction_id,
                occurred_at=NOW,
                recorded_at=NOW,
                source="prediction",
                correlation_id="test",
            ),
            seq=number,
        )
        for number, data in enumerate(happened, 1)
    ]
    state = fold(history)
    assert state is not None
    assert (state.seq, state.is_censored, state.is_dismissed, state.made_at) == (3, True, True, NOW)
    assert fold([]) is None


def test_the_menu_lists_every_request_of_the_contract() -> None:
    """No endpoint without a decision."""
    assert set(prediction.ENDPOINTS) <= set(COMMANDS)
