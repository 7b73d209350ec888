"""The fold: what a prediction is after its events."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

import msgspec
from contracts import Event, Recorded, prediction
from msgspec import Struct


class Prediction(Struct, frozen=True, kw_only=True):
    """A frozen forecast and what became of it.

    made_seq, seq: stream sequences of its first and of its last event. outcome: what the log says, None while open.
    feedback: what a person said last. expired_at: since when it is shown to nobody and waits to be purged.
    """

    prediction_id: str
    pattern_id: str
    window_days: int
    probability: float
    made_at: datetime
    expires_at: datetime
    made_seq: int
    seq: int
    outcome: prediction.Outcome | None = None
    feedback: prediction.Outcome | None = None
    note: str = ""
    is_dismissed: bool = False
    expired_at: datetime | None = None

    @property
    def is_censored(self) -> bool:
        """Whether somebody prevented the recurrence, so that its absence says nothing about the forecast."""
        return self.feedback is prediction.Outcome.PREVENTED


def fold(history: Iterable[Recorded[Event]]) -> Prediction | None:
    """The prediction after its history; None when there is none."""
    state: Prediction | None = None
    for event in history:
        state = evolve(state, event)
    return state


class Scored(Struct, frozen=True):
    """What of a prediction is scored: what the models said, and the base rate, None while nobody knew any."""

    model_probability: float
    base_rate: float | None


def scored_by(made: prediction.PredictionMade) -> Scored:
    """What the scores of a prediction rest on."""
    basis = made.inputs.basis
    is_known = made.inputs.n_resolved > 0 or (basis is not None and basis.model_id != "")
    return Scored(
        made.probability if basis is None else basis.model_probability,
        made.inputs.base_rate if is_known else None,
    )


def evolve(state: Prediction | None, event: Recorded[Event]) -> Prediction | None:
    """The prediction after one more event."""
    data = event.data
    if isinstance(data, prediction.PredictionMade):
        return Prediction(
            prediction_id=data.prediction_id,
            pattern_id=data.pattern_id,
            window_days=data.window_days,
            probability=data.probability,
            made_at=event.time,
            expires_at=data.expires_at,
            made_seq=event.seq,
            seq=event.seq,
        )
    if state is None or not isinstance(data, prediction.Event):
        return state
    return _change(state, event, data)


def _change(state: Prediction, event: Recorded[Event], data: prediction.Event) -> Prediction:
    seq = event.seq
    match data:
        case prediction.PredictionResolved():
            return msgspec.structs.replace(state, seq=seq, outcome=data.outcome)
        case prediction.PredictionFeedbackGiven():
            return msgspec.structs.replace(state, seq=seq, feedback=data.outcome, note=data.note)
        case prediction.PredictionDismissed():
            return msgspec.structs.replace(state, seq=seq, is_dismissed=True)
        case prediction.PredictionExpired():
            return msgspec.structs.replace(state, seq=seq, expired_at=event.recorded_at)
        case (
            prediction.AlertFired()
            | prediction.PredictionMade()
            | prediction.ModelFitted()
            | prediction.PredictionsPurged()
        ):
            return msgspec.structs.replace(state, seq=seq)
        case _:
            assert_never(data)
