"""The door on the bus: commands on predictions, each decided on the prediction's own history."""

from collections.abc import Callable, Sequence
from datetime import datetime

from contracts import prediction, record
from eventlog import Append, ConflictError, EventLog, LogUnavailableError
from runtime.broker import CommandContext, Endpoint
from runtime.errors import StateConflictError, UnavailableError

from services.prediction.commands import dismiss_prediction, give_feedback
from services.prediction.errors import PredictionNotFoundError
from services.prediction.state import Prediction, fold

MAX_ATTEMPTS = 5

Decide = Callable[[Prediction], Sequence[prediction.Event]]


class Endpoints:
    """Commands on predictions; any process of the service may answer them."""

    def __init__(self, event_log: EventLog, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._clock = clock

    async def give_feedback(
        self, cmd: prediction.GiveFeedback, context: CommandContext
    ) -> prediction.PredictionChanged:
        """Record what a person says became of a prediction."""
        return await self._change(cmd.prediction_id, lambda state: give_feedback(cmd, state), context)

    async def dismiss_prediction(
        self, cmd: prediction.DismissPrediction, context: CommandContext
    ) -> prediction.PredictionChanged:
        """Take a prediction off the list."""
        return await self._change(cmd.prediction_id, lambda state: dismiss_prediction(cmd, state), context)

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """Every endpoint by the name that the contract gives it."""
        names = prediction.ENDPOINTS
        return (
            Endpoint(names[prediction.GiveFeedback], prediction.GiveFeedback, self.give_feedback),
            Endpoint(
                names[prediction.DismissPrediction], prediction.DismissPrediction, self.dismiss_prediction
            ),
        )

    async def _change(
        self, prediction_id: str, decide: Decide, context: CommandContext
    ) -> prediction.PredictionChanged:
        """Load, decide and append until nobody is faster; nothing decided answers with where it stands."""
        for _ in range(MAX_ATTEMPTS):
            try:
                state = await self._load(context.workspace_id, prediction_id)
                seq = await self._append(state, decide(state), context)
            except ConflictError:
                continue
            except LogUnavailableError as error:
                raise UnavailableError("The log does not answer; send the same request again.") from error
            return prediction.PredictionChanged(prediction_id=prediction_id, sequence=seq)
        raise StateConflictError(f"{prediction_id} is being changed by others; try again.")

    async def _load(self, workspace_id: str, prediction_id: str) -> Prediction:
        state = fold(await self._log.history(workspace_id, "prediction", prediction_id))
        if state is None:
            raise PredictionNotFoundError(f"There is no prediction {prediction_id}.")
        return state

    async def _append(
        self, state: Prediction, events: Sequence[prediction.Event], context: CommandContext
    ) -> int:
        if not events:
            return state.seq
        now = self._clock()
        appends = [
            Append(
                record(
                    data,
                    workspace_id=context.workspace_id,
                    aggregate_id=state.prediction_id,
                    occurred_at=now,
                    recorded_at=now,
                    source="prediction",
                    actor=context.actor,
                    correlation_id=context.correlation_id,
                    traceparent=context.traceparent,
                ),
                expected=state.seq,
            )
            for data in events
        ]
        return await self._log.append(*appends)
