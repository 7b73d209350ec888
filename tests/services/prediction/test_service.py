"""The service as it is run: commands over the bus, and a process that is killed and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from contracts import prediction
from contracts.generated.prediction import Outcome
from eventlog import Append, ConflictError, LogUnavailableError
from nats.aio.client import Client
from runtime import broker
from runtime.broker import CommandContext
from runtime.errors import AppError, NotFoundError, UnavailableError, ValidationFailedError

from services.prediction.endpoints import Endpoints
from services.prediction.state import fold

from .conftest import WORKSPACE, Rig, at, detected, envelope, linked

CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="cor_1", actor="usr_1")
CHANGED = prediction.PredictionChanged


@asynccontextmanager
async def serving(rig: Rig, nc: Client) -> AsyncIterator[None]:
    """The endpoints on the bus."""
    endpoints = Endpoints(rig.log, clock=rig.clock).all
    server = await broker.serve(nc, "prediction", "0.1.0", endpoints)
    try:
        yield
    finally:
        await server.stop()


async def predict(rig: Rig) -> prediction.PredictionMade:
    """A prediction for seven days."""
    return (await forecasts(rig))[0]


async def forecasts(rig: Rig) -> list[prediction.PredictionMade]:
    """A prediction for each window."""
    async with rig.running():
        await rig.tell("pat_a", linked("pat_a", at(-9), at(-3), n_issues=2), detected("pat_a", 2))
        return await rig.until(prediction.PredictionMade, 3)


async def give(nc: Client, prediction_id: str, outcome: Outcome, note: str = "") -> CHANGED:
    """Ask the service to record feedback."""
    command = prediction.GiveFeedback(prediction_id=prediction_id, outcome=outcome, note=note)
    return await broker.ask(
        nc, command, endpoint=prediction.ENDPOINTS[type(command)], reply=CHANGED, context=CONTEXT, timeout=30
    )


async def test_feedback_is_an_event_with_its_author(rig: Rig, nc: Client) -> None:
    """The reply names the sequence; the same again is answered with the same one and appends nothing."""
    made = await predict(rig)
    async with serving(rig, nc):
        first = await give(nc, made.prediction_id, Outcome.PREVENTED, "patched")
        again = await give(nc, made.prediction_id, Outcome.PREVENTED, "patched")
    history = await rig.log.history(WORKSPACE, "prediction", made.prediction_id)
    assert first == again
    assert (history[-1].seq, history[-1].actor, history[-1].correlation_id) == (
        first.sequence,
        "usr_1",
        "cor_1",
    )
    assert isinstance(history[-1].data, prediction.PredictionFeedbackGiven)


async def test_two_people_at_once_are_both_heard(rig: Rig, nc: Client) -> None:
    """Each decision is made on what the other one left; nothing is lost."""
    made = await predict(rig)
    async with serving(rig, nc):
        answers = await asyncio.gather(
            *(give(nc, made.prediction_id, Outcome.HIT, f"n{n}") for n in range(4))
        )
    assert len({answer.sequence for answer in answers}) == 4
    assert len(await rig.said(prediction.PredictionFeedbackGiven)) == 4


async def test_dismissing_takes_it_off_the_list(rig: Rig, nc: Client) -> None:
    """One event, however often it is asked for."""
    made = await predict(rig)
    command = prediction.DismissPrediction(prediction_id=made.prediction_id, reason="known")
    async with serving(rig, nc):
        for _ in range(2):
            await broker.ask(
                nc,
                command,
                endpoint="prediction.dismiss_prediction",
                reply=CHANGED,
                context=CONTEXT,
                timeout=30,
            )
    assert len(await rig.said(prediction.PredictionDismissed)) == 1


async def test_an_unknown_prediction_is_not_found(rig: Rig, nc: Client) -> None:
    """Nor is one of another workspace."""
    made = await predict(rig)
    async with serving(rig, nc):
        with pytest.raises(NotFoundError):
            await give(nc, "prd_unknown", Outcome.HIT)
        with pytest.raises(NotFoundError):
            await broker.ask(
                nc,
                prediction.GiveFeedback(prediction_id=made.prediction_id, outcome=Outcome.HIT, note=""),
                endpoint="prediction.give_feedback",
                reply=CHANGED,
                context=CommandContext(workspace_id="ws_two", correlation_id="cor_2"),
                timeout=30,
            )


async def test_prevented_after_the_log_showed_a_hit_is_refused(rig: Rig, nc: Client) -> None:
    """The refusal travels with its code."""
    made = await predict(rig)
    async with rig.running():
        await rig.tell("pat_a", linked("pat_a", at(0.1), n_issues=3))
        await rig.until(prediction.PredictionResolved, 3)
    async with serving(rig, nc):
        with pytest.raises(AppError) as refused:
            await give(nc, made.prediction_id, Outcome.PREVENTED)
    assert (refused.value.code, refused.value.status) == ("prediction_recurred", 409)


async def test_a_purge_goes_on_where_a_crash_left_it_and_nothing_is_said_of_it_afterwards(rig: Rig) -> None:
    """The fact is told first; whoever asks next deletes what it names. Who read it before is too late to write."""
    first, second, third = await forecasts(rig)
    endpoints = Endpoints(rig.log, clock=rig.clock)
    rig.clock.now = at(9)
    for made in (first, second):
        command = prediction.GiveFeedback(
            prediction_id=made.prediction_id, outcome=Outcome.PREVENTED, note="Paul"
        )
        await endpoints.give_feedback(command, CONTEXT)
    rig.clock.now = at(150)
    assert await expire(endpoints, first, second, third) == 2
    rig.clock.now = at(200)

    async def purge(*made: prediction.PredictionMade) -> int:
        ids = tuple(one.prediction_id for one in made)
        cmd = prediction.PurgePredictions(prediction_ids=ids, expired_before=at(180))
        return (await endpoints.purge_predictions(cmd, CONTEXT)).n_predictions

    async def history(made: prediction.PredictionMade) -> int:
        return len(await rig.log.history(WORKSPACE, "prediction", made.prediction_id))

    real, rig.log.purge = rig.log.purge, cut_off  # type: ignore[method-assign]  # it dies at the first deletion
    with pytest.raises(UnavailableError):
        await purge(first, third)
    rig.log.purge = real  # type: ignore[method-assign]
    assert await history(first) == 3
    assert await Endpoints(rig.log, clock=rig.clock).purge_predictions(
        prediction.PurgePredictions(expired_before=at(180)), CONTEXT
    ) == prediction.PredictionsRetired(n_predictions=0, sequence=0)
    assert [await history(made) for made in (first, second, third)] == [0, 3, 1]

    late = fold(await rig.log.history(WORKSPACE, "prediction", second.prediction_id))
    assert late is not None
    assert await purge(first, second) == 1
    said = prediction.PredictionDismissed(prediction_id=second.prediction_id, reason="Paul")
    with pytest.raises(ConflictError):
        await rig.log.append(Append(envelope(said, second.prediction_id), late.seq))
    with pytest.raises(NotFoundError):
        await endpoints.dismiss_prediction(
            prediction.DismissPrediction(prediction_id=second.prediction_id, reason=""), CONTEXT
        )
    with pytest.raises(ValidationFailedError):
        await purge(*[first] * 101)


async def expire(endpoints: Endpoints, *made: prediction.PredictionMade) -> int:
    """Hide what was over a hundred days after the beginning; how many."""
    ids = tuple(one.prediction_id for one in made)
    command = prediction.ExpirePredictions(prediction_ids=ids, ended_before=at(100))
    return (await endpoints.expire_predictions(command, CONTEXT)).n_predictions


async def test_what_has_expired_is_there_for_nobody(rig: Rig) -> None:
    """Once, with who and when; one of which somebody says something at that moment stays."""
    first, second, _ = await forecasts(rig)
    endpoints = Endpoints(rig.log, clock=rig.clock)
    rig.clock.now = at(9)
    for made in (first, second):
        command = prediction.GiveFeedback(
            prediction_id=made.prediction_id, outcome=Outcome.PREVENTED, note=""
        )
        await endpoints.give_feedback(command, CONTEXT)
    rig.clock.now = at(150)
    later = prediction.DismissPrediction(prediction_id=second.prediction_id, reason="")
    real = rig.log.append_each

    async def behind_somebody(appends: list[Append]) -> object:
        await endpoints.dismiss_prediction(later, CONTEXT)
        return await real(appends)

    rig.log.append_each = behind_somebody  # type: ignore[method-assign, assignment]  # somebody is faster
    assert await expire(endpoints, first, second) == 1
    rig.log.append_each = real  # type: ignore[method-assign]
    assert await expire(endpoints, first, second) == 0
    [*_, last] = await rig.log.history(WORKSPACE, "prediction", first.prediction_id)
    assert isinstance(last.data, prediction.PredictionExpired)
    assert (last.actor, last.recorded_at) == (CONTEXT.actor, at(150))
    with pytest.raises(NotFoundError):
        await endpoints.dismiss_prediction(
            prediction.DismissPrediction(prediction_id=first.prediction_id, reason=""), CONTEXT
        )
    with pytest.raises(NotFoundError):
        await endpoints.give_feedback(
            prediction.GiveFeedback(prediction_id=first.prediction_id, outcome=Outcome.HIT, note=""), CONTEXT
        )


async def cut_off(*_: object, **__: object) -> int:
    """A log that is gone at this moment."""
    raise LogUnavailableError("gone")


async def test_every_request_of_the_contract_has_an_endpoint(make_rig: Callable[..., Rig]) -> None:
    """Names and types as the contract has them."""
    rig = make_rig()
    endpoints = Endpoints(rig.log, clock=rig.clock).all
    assert {endpoint.request: endpoint.name for endpoint in endpoints} == prediction.ENDPOINTS
