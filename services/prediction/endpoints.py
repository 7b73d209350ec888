"""The door on the bus: commands on predictions, each decided on the prediction's own history."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from contracts import Event, Recorded, derived_id, prediction, record
from eventlog import Append, Conflict, ConflictError, EventLog, LogUnavailableError
from runtime.broker import CommandContext, Endpoint
from runtime.errors import StateConflictError, UnavailableError, ValidationFailedError

from services.prediction.commands import (
    dismiss_prediction,
    expire_prediction,
    give_feedback,
    purge_prediction,
)
from services.prediction.errors import PredictionNotFoundError
from services.prediction.state import Prediction, fold

MAX_ATTEMPTS = 5
RETIRED_MAX = 100
_PURGES_AT_ONCE = 8

Decide = Callable[[Prediction], Sequence[prediction.Event]]


class Endpoints:
    """Commands on predictions; any process of the service may answer them."""

    def __init__(self, event_log: EventLog, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._clock = clock
        self._deleted: dict[str, int] = {}

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

    async def expire_predictions(
        self, cmd: prediction.ExpirePredictions, context: CommandContext
    ) -> prediction.PredictionsRetired:
        """Hide those that are over; one that somebody says something of at this moment stays.

        Raises ValidationFailedError and UnavailableError.
        """
        ids = _distinct(cmd.prediction_ids)
        try:
            return await self._expire(ids, cmd.ended_before, context)
        except LogUnavailableError as error:
            raise UnavailableError("The log does not answer; send the same request again.") from error

    async def purge_predictions(
        self, cmd: prediction.PurgePredictions, context: CommandContext
    ) -> prediction.PredictionsRetired:
        """Delete those whose grace is over, after what an earlier request began and did not end.

        First the fact is told, which no read model can then miss, then the events are deleted. Only the last fact can
        be one whose events are still there, so only that is looked at again. Nobody says anything of a prediction that
        is expired, and nothing takes that back.
        Raises ValidationFailedError and UnavailableError.
        """
        ids = _distinct(cmd.prediction_ids)
        try:
            return await self._purge(ids, cmd.expired_before, context)
        except LogUnavailableError as error:
            raise UnavailableError("The log does not answer; send the same request again.") from error

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """Every endpoint by the name that the contract gives it."""
        names = prediction.ENDPOINTS
        return (
            Endpoint(names[prediction.GiveFeedback], prediction.GiveFeedback, self.give_feedback),
            Endpoint(
                names[prediction.DismissPrediction], prediction.DismissPrediction, self.dismiss_prediction
            ),
            Endpoint(
                names[prediction.ExpirePredictions], prediction.ExpirePredictions, self.expire_predictions
            ),
            Endpoint(names[prediction.PurgePredictions], prediction.PurgePredictions, self.purge_predictions),
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

    async def _expire(
        self, ids: Sequence[str], ended_before: datetime, context: CommandContext
    ) -> prediction.PredictionsRetired:
        histories = await self._log.histories(context.workspace_id, "prediction", ids)
        appends = [
            Append(self._recorded(event, id_, history[-1].seq, context), history[-1].seq)
            for id_, history in zip(ids, histories, strict=True)
            if (event := expire_prediction(history, ended_before=ended_before))
        ]
        outcomes = await self._log.append_each(appends) if appends else []
        sequences = [outcome for outcome in outcomes if not isinstance(outcome, Conflict)]
        return prediction.PredictionsRetired(n_predictions=len(sequences), sequence=max(sequences, default=0))

    async def _purge(
        self, ids: Sequence[str], expired_before: datetime, context: CommandContext
    ) -> prediction.PredictionsRetired:
        workspace_id = context.workspace_id
        latest = await self._log.latest(workspace_id, "prediction", workspace_id)
        if latest is not None:
            await self._delete(latest, latest.seq)
        histories = await self._log.histories(workspace_id, "prediction", ids)
        kept = [
            purged
            for history in histories
            if (purged := purge_prediction(history, expired_before=expired_before)) is not None
        ]
        if not kept:
            return prediction.PredictionsRetired(n_predictions=0, sequence=0)
        version = 0 if latest is None else latest.seq
        purge = prediction.PredictionsPurged(workspace_id=workspace_id, predictions=tuple(kept))
        fact = self._recorded(purge, workspace_id, version, context)
        try:
            sequence = await self._log.append(Append(fact, version))
        except ConflictError:
            # Somebody else is at it; what is left is asked for again.
            return prediction.PredictionsRetired(n_predictions=0, sequence=0)
        await self._delete(fact, sequence)
        return prediction.PredictionsRetired(n_predictions=len(kept), sequence=sequence)

    async def _delete(self, fact: Recorded[Event], sequence: int) -> None:
        """Delete the events that a fact says are purged; what this process has deleted once is not looked for again."""
        if (
            not isinstance(fact.data, prediction.PredictionsPurged)
            or self._deleted.get(fact.workspace_id) == sequence
        ):
            return
        bound = asyncio.Semaphore(_PURGES_AT_ONCE)

        async def one(prediction_id: str) -> None:
            async with bound:
                await self._log.purge(fact.workspace_id, "prediction", prediction_id)

        await asyncio.gather(*(one(purged.prediction_id) for purged in fact.data.predictions))
        self._deleted[fact.workspace_id] = sequence

    def _recorded(
        self, data: prediction.Event, aggregate_id: str, version: int, context: CommandContext
    ) -> Recorded[Event]:
        now = self._clock()
        return record(
            data,
            workspace_id=context.workspace_id,
            aggregate_id=aggregate_id,
            occurred_at=now,
            recorded_at=now,
            source="prediction",
            actor=context.actor,
            correlation_id=context.correlation_id,
            traceparent=context.traceparent,
            event_id=derived_id("evt_", context.workspace_id, "retired", aggregate_id, str(version)),
        )

    async def _load(self, workspace_id: str, prediction_id: str) -> Prediction:
        state = fold(await self._log.history(workspace_id, "prediction", prediction_id))
        if state is None or state.expired_at is not None:
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


def _distinct(ids: Sequence[str]) -> Sequence[str]:
    if len(ids) > RETIRED_MAX:
        raise ValidationFailedError(
            f"prediction_ids has {len(ids)} ids.", details={"prediction_ids": f"At most {RETIRED_MAX}."}
        )
    return list(dict.fromkeys(ids))
