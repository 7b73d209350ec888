"""The reaction on a real log and real rows: what it decides, once, over restarts and take-overs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from contracts import Event, Recorded, pattern, recommendation
from eventlog import ConflictError, EventLog, Projector, apply_schema
from psycopg import AsyncConnection, AsyncRawCursor
from runtime import database as databases
from runtime.broker import CommandContext
from runtime.service import utc_now
from testkit.builders import NOW, WORKSPACE
from testkit.servers import Database
from testkit.waiting import eventually, settled

from services.recommendation.app import projection, read_playbook
from services.recommendation.endpoints import Desk
from services.recommendation.engine.matching import Matcher
from services.recommendation.errors import MoveNotAllowedError, NoSuchStepError, RecommendationNotFoundError
from services.recommendation.reactions import Recommender
from tests.services.recommendation.builders import (
    append,
    assessment,
    detected,
    failed,
    fixed,
    forecast,
    linked,
    moved,
    on_pattern,
    pattern_moved,
    threshold,
)

MATCHER = Matcher(read_playbook())
Made = recommendation.RecommendationMade
Reassessed = recommendation.RecommendationReassessed
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")


@pytest.fixture
async def schema(database: Database) -> Database:
    owner = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await apply_schema(owner, "recommendation", projection().schema_sql)
    return database


@asynccontextmanager
async def running(event_log: EventLog, database: Database) -> AsyncIterator[Projector]:
    """A projector with its reaction, as the service runs them."""
    pool = databases.pool(database.projector_url, schema="recommendation", max_size=2)
    async with pool:
        reaction = Recommender(event_log, pool, MATCHER, clock=utc_now)
        projector = Projector(event_log, projection(), url=database.projector_url, reaction=reaction)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def events_of(event_log: EventLog) -> list[Recorded[Event]]:
    """All that recommendation has appended, in order."""
    end = await event_log.last_seq()
    found: list[Recorded[Event]] = []
    if end == 0:
        return found
    async for batch in event_log.read(0, after=0, aggregates=(), until=end):
        found.extend(event for event in batch.events if event.aggregate_type == "recommendation")
    return found


async def all_events(event_log: EventLog) -> list[Recorded[Event]]:
    batches = event_log.read(0, after=0, aggregates=(), until=await event_log.last_seq())
    return [event async for batch in batches for event in batch.events]


async def fix_events(event_log: EventLog, kind: type[Event]) -> list[Recorded[Event]]:
    """What was said of fixes, of this kind."""
    return [event for event in await all_events(event_log) if isinstance(event.data, kind)]


async def made_for(event_log: EventLog, pattern_id: str = "pat_1") -> list[Recorded[Event]]:
    return [
        event
        for event in await events_of(event_log)
        if isinstance(event.data, Made) and event.data.pattern_id == pattern_id
    ]


async def all_made_for(
    projector: Projector, event_log: EventLog, pattern_id: str = "pat_1"
) -> list[Recorded[Event]]:
    """Every recommendation for a pattern, once nothing more comes of the log; at least one."""
    await settled(projector, event_log)
    made = await made_for(event_log, pattern_id)
    assert made
    return made


async def test_detection_makes_recommendations_with_evidence(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        await append(event_log, linked(), detected())
        made = await all_made_for(projector, event_log)
    assert 1 <= len(made) <= 3
    first = made[0].data
    assert isinstance(first, Made)
    assert first.play_id == "size-connection-pool"
    assert made[0].source == "/causeloop/recommendation"
    assert made[0].causation_id is not None
    assert made[0].correlation_id == "req_test"


async def test_an_empty_log_is_followed_from_its_first_event(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        await settled(projector, event_log)
        await append(event_log, linked(), detected())
        await all_made_for(projector, event_log)


async def test_what_was_logged_before_the_start_is_decided_once(
    schema: Database, event_log: EventLog
) -> None:
    await append(event_log, linked(), detected(), forecast(6, 30.0))
    async with running(event_log, schema) as projector:
        await all_made_for(projector, event_log)
    before = await events_of(event_log)
    async with running(event_log, schema) as projector:
        await settled(projector, event_log)
    async with running(event_log, schema) as first, running(event_log, schema) as second:
        await eventually(lambda: "live" in (first.status.state, second.status.state))
    assert [event.id for event in await events_of(event_log)] == [event.id for event in before]
    assert not any(isinstance(event.data, Reassessed) for event in before)


async def test_a_rebuilt_read_model_repeats_no_decision(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        await append(event_log, linked(), detected())
        await all_made_for(projector, event_log)
    before = await events_of(event_log)
    owner = await AsyncConnection.connect(schema.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await owner.execute("DROP SCHEMA recommendation CASCADE")
        await apply_schema(owner, "recommendation", projection().schema_sql)
    async with running(event_log, schema) as projector:
        await settled(projector, event_log)
    assert [event.id for event in await events_of(event_log)] == [event.id for event in before]


async def test_a_forecast_reassesses_what_is_open(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        # One after the other without waiting: the reassessment may not be lost while the first is in flight.
        await append(event_log, linked(), detected(), forecast(60, 90.0))
        await settled(projector, event_log)
        await append(event_log, forecast(61, 91.0))
        await settled(projector, event_log)
        n_before = len(await events_of(event_log))
        await append(event_log, forecast(200, 95.0))
        await settled(projector, event_log)
    events = await events_of(event_log)
    assert len(events) > n_before
    made = {event.aggregate_id for event in events if isinstance(event.data, Made)}
    last = {event.aggregate_id: event.data for event in events}
    assert all(isinstance(data, Reassessed) for data in last.values())
    assert all(
        data.arithmetic.expected_recurrences == pytest.approx(90 * 200.5 / 125 * 0.9, abs=1e-3)
        for data in last.values()
        if isinstance(data, Reassessed)
    )
    # 61 recurrences in 91 days instead of 60 in 90 change no score by 10 %, so each was reassessed at most twice.
    assert len(events) <= 3 * len(made)


async def project_only(event_log: EventLog, database: Database) -> None:
    """The rows as they are after all that is in the log, with nobody who decides."""
    projector = Projector(event_log, projection(), url=database.projector_url)
    task = asyncio.create_task(projector.run())
    try:
        assert await projector.reached(await event_log.last_seq(), timeout=30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lost_race_begins_again_from_the_log(schema: Database, event_log: EventLog) -> None:
    """Nothing is left to memory: the position stays where it is, so a process that is killed then loses nothing."""
    await append(event_log, linked(), detected())
    await project_only(event_log, schema)
    events = await all_events(event_log)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        first, second = (Recommender(event_log, pool, MATCHER, clock=utc_now) for _ in range(2))
        await first.observe(events, live=True)
        made = await made_for(event_log)
        assert made
        with pytest.raises(ConflictError):
            await second.observe(events, live=True)
    assert await made_for(event_log) == made


async def test_a_pattern_waits_until_the_rows_hold_what_was_said_of_it(
    schema: Database, event_log: EventLog
) -> None:
    """Forecasts come faster than the rows: deciding on the old row would append on an old sequence."""
    await append(event_log, linked(), detected(), forecast(6, 90.0))
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        recommender = Recommender(event_log, pool, MATCHER, clock=utc_now)
        await recommender.observe(await all_events(event_log), live=True)
        await append(event_log, forecast(200, 91.0), forecast(900, 92.0))
        await project_only(event_log, schema)
        *_, first, second = await all_events(event_log)
        await recommender.observe([first], live=True)
        # Before what was just said has come back.
        await recommender.observe([second], live=True)
        said = await events_of(event_log)
        await project_only(event_log, schema)
        await recommender.observe(said, live=True)
    assert await events_of(event_log) == said
    assert len([event for event in said if isinstance(event.data, Reassessed)]) == len(said) / 2


async def test_a_recommendation_of_a_killed_process_is_reassessed(
    schema: Database, event_log: EventLog
) -> None:
    """A forecast came while it was in flight; whoever knew of it was killed before it landed."""
    await append(event_log, linked(), detected(), forecast(6, 90.0))
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        killed = Recommender(event_log, pool, MATCHER, clock=utc_now)
        await killed.observe(await all_events(event_log), live=True)
        made = await made_for(event_log)
        await append(event_log, forecast(200, 91.0))
        await project_only(event_log, schema)
        after = Recommender(event_log, pool, MATCHER, clock=utc_now)
        await after.observe(made, live=True)
    reassessed = [e.aggregate_id for e in await events_of(event_log) if isinstance(e.data, Reassessed)]
    assert sorted(reassessed) == sorted(event.aggregate_id for event in made)


async def test_threshold_of_the_workspace_decides(schema: Database, event_log: EventLog) -> None:
    unsure = assessment(confidence=0.6)
    async with running(event_log, schema) as projector:
        await append(event_log, linked(known=unsure), detected(known=unsure))
        await settled(projector, event_log)
        assert await made_for(event_log) == []
        await append(event_log, threshold(0.5))
        await all_made_for(projector, event_log)


async def test_ended_and_unclear_patterns_get_nothing(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        await append(
            event_log,
            threshold(0.99),
            linked(),
            detected(),
            pattern_moved("emerging", "resolved"),
            threshold(0.1),
            linked(pattern_id="pat_2"),
            linked(pattern_id="pat_3"),
        )
        unclear = pattern.PatternDetected(
            pattern_id="pat_3", name="It does not work", assessment=assessment()
        )
        await append(event_log, on_pattern(unclear, "pat_3"))
        await settled(projector, event_log)
        assert await made_for(event_log) == []
        assert await made_for(event_log, "pat_2") == []


async def test_a_merge_dismisses_what_is_open(schema: Database, event_log: EventLog) -> None:
    async with running(event_log, schema) as projector:
        await append(event_log, linked(), detected())
        made = await all_made_for(projector, event_log)
        await append(event_log, pattern_moved("emerging", "merged"))
        await settled(projector, event_log)
    changed = [
        event.data
        for event in await events_of(event_log)
        if isinstance(event.data, recommendation.RecommendationStatusChanged)
    ]
    assert sorted(event.recommendation_id for event in changed) == sorted(
        event.aggregate_id for event in made
    )
    assert {event.to_status for event in changed} == {recommendation.RecommendationStatus.DISMISSED}


async def test_fixes_that_did_not_hold_lower_the_next_ones(schema: Database, event_log: EventLog) -> None:
    """Two patterns alike: the fix of the first is implemented and fails; the second's score knows of it."""
    async with running(event_log, schema) as projector:
        await append(event_log, linked(), detected())
        [first, *_] = await all_made_for(projector, event_log)
        implemented = moved("pending", "implemented", recommendation_id=first.aggregate_id, at=NOW)
        await append(event_log, implemented, fixed(0), failed(3))
        await eventually(lambda: fix_events(event_log, recommendation.FixBroken))
        await settled(projector, event_log)
        await append(event_log, linked(pattern_id="pat_2"), detected(pattern_id="pat_2"))
        [second, *_] = await all_made_for(projector, event_log, "pat_2")
    assert isinstance(first.data, Made)
    assert isinstance(second.data, Made)
    assert second.data.play_id == first.data.play_id
    assert "(0 of 1 like it were verified here)" in second.data.arithmetic.explanation
    assert second.data.arithmetic.fix_holds_probability < first.data.arithmetic.fix_holds_probability


async def test_commands_are_decided_on_the_history_and_guarded(schema: Database, event_log: EventLog) -> None:
    desk = Desk(event_log, clock=utc_now)
    async with running(event_log, schema) as projector:
        await append(event_log, linked(), detected())
        [made, *_] = await all_made_for(projector, event_log)
        rec = made.aggregate_id
        change = recommendation.ChangeStatus(
            recommendation_id=rec, status=recommendation.RecommendationStatus.IN_PROGRESS, reason=""
        )
        taken = await desk.change_status(change, CONTEXT)
        assert taken.status == "in_progress"
        assert (await desk.change_status(change, CONTEXT)) == taken, "the same again changes nothing"
        ticks = [
            desk.check_step(
                recommendation.CheckStep(recommendation_id=rec, step_index=index, is_done=True), CONTEXT
            )
            for index in (0, 1, 2)
        ]
        replies = await asyncio.gather(*ticks)
        assert len({reply.sequence for reply in replies}) == 3, "concurrent commands are all applied"
        with pytest.raises(NoSuchStepError):
            await desk.check_step(
                recommendation.CheckStep(recommendation_id=rec, step_index=99, is_done=True), CONTEXT
            )
        done = recommendation.ChangeStatus(
            recommendation_id=rec, status=recommendation.RecommendationStatus.IMPLEMENTED, reason="shipped"
        )
        last = await desk.change_status(done, CONTEXT)
        with pytest.raises(MoveNotAllowedError, match="can become: pending"):
            await desk.change_status(change, CONTEXT)
        with pytest.raises(RecommendationNotFoundError):
            await desk.change_status(done, CommandContext(workspace_id="ws_other", correlation_id="req_2"))
        history = await event_log.history(WORKSPACE, "recommendation", rec)
        assert history[-1].seq == last.sequence
        assert history[-1].actor == "usr_1"
        assert [type(event.data).__name__ for event in history[1:]] == [
            "RecommendationStatusChanged",
            *["RecommendationStepChecked"] * 3,
            "RecommendationStatusChanged",
        ]
