"""Decisions: what is forecast, when an alert fires, what people may say about it."""

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
    resolve_hit,
    resolve_miss,
)
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
        scores={},
        outlooks=outlooks or {},
        alert_probability=threshold,
        min_resolved=50,
    )


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
