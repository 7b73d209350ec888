"""The forecaster on a real log and real rows: what it says, when, and exactly once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from contracts import derived_id, pattern, prediction, workspace
from contracts.generated.pattern import PatternStatus
from contracts.generated.prediction import Outcome
from eventlog import Append, Connection, rebuild
from testkit.waiting import eventually

from services.prediction.commands import prediction_id
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS
from services.prediction.engine.recurrence import Model
from services.prediction.projections import PROJECTION
from services.prediction.reactions import reading
from services.prediction.reactions.learning import Past, learn_apart
from services.prediction.reactions.memory import Memory, Tracked
from services.prediction.reactions.reading import load_memory

from .conftest import WORKSPACE, Rig, assessment, at, by_window, detected, envelope, linked, moved

MADE = prediction.PredictionMade
RESOLVED = prediction.PredictionResolved
EMERGING, ACTIVE = PatternStatus.EMERGING, PatternStatus.ACTIVE


async def detect(rig: Rig, name: str = "pat_a", *, days: tuple[float, ...] = (-20, -10, -4)) -> int:
    """A pattern with events at these days that pattern has just detected."""
    times = tuple(at(day) for day in days)
    return await rig.tell(name, linked(name, *times, n_issues=len(times)), detected(name, len(times)))


async def test_a_detected_pattern_is_forecast_for_three_windows(rig: Rig) -> None:
    """Seven, thirty and ninety days, frozen, with inputs, evidence and ids that follow from the cause."""
    async with rig.running():
        await detect(rig)
        made = await rig.until(MADE, 3)
    assert [one.window_days for one in made] == [7, 30, 90]
    assert made[0].inputs.n_recurrences == 2
    assert (made[0].inputs.exposure_days, made[0].inputs.quiet_days) == (20.0, 4.0)
    assert {fact.kind for fact in made[0].evidence} == {"history", "last_gap"}
    cause = next(event for event in await rig.events() if event.type.endswith("PatternDetected"))
    assert made[0].prediction_id == prediction_id(WORKSPACE, "pat_a", cause.id, 7)
    event = next(event for event in await rig.events() if isinstance(event.data, MADE))
    assert (event.causation_id, event.correlation_id) == (cause.id, "test")


async def test_a_candidate_is_not_forecast(rig: Rig) -> None:
    """Too few issues to show."""
    async with rig.running():
        await rig.tell("pat_b", linked("pat_b", at(-1), n_issues=1))
        await detect(rig, "pat_a")
        made = await rig.until(MADE, 3)
    assert {one.pattern_id for one in made} == {"pat_a"}


async def test_what_was_in_the_log_before_the_start_is_forecast_too(rig: Rig) -> None:
    """Undecided inputs are remembered while catching up."""
    await detect(rig)
    async with rig.running():
        await rig.until(MADE, 3)


async def test_a_change_of_status_makes_a_forecast(rig: Rig) -> None:
    """Active counts; resolved ends the forecasts."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        await rig.tell("pat_a", moved("pat_a", EMERGING, ACTIVE))
        await rig.until(MADE, 6)
        await rig.tell("pat_a", moved("pat_a", ACTIVE, PatternStatus.RESOLVED))
        await rig.settled()
        rig.clock.now = at(3)
        await detect(rig, "pat_b")
        made = await rig.until(MADE, 9)
    assert {one.pattern_id for one in made[6:]} == {"pat_b"}


async def test_growth_makes_a_forecast(rig: Rig) -> None:
    """From 4 members to 6, but not to 5."""
    async with rig.running():
        await detect(rig, days=(-20, -10, -5, -4))
        await rig.until(MADE, 3)
        await rig.tell("pat_a", linked("pat_a", at(-3.5), n_issues=5))
        await rig.tell("pat_a", linked("pat_a", at(-3), n_issues=6))
        made = await rig.until(MADE, 6)
    assert made[3].inputs.quiet_days == 3.0


async def test_growth_alone_waits_a_little(make_rig: Callable[..., Rig]) -> None:
    """A burst does not fill the log with forecasts; after the spacing there is one."""
    rig = make_rig(growth_spacing=timedelta(minutes=1))
    await rig.pool.open()
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        for size in range(4, 40):
            await rig.tell("pat_a", linked("pat_a", at(-2 + size / 1000), n_issues=size))
        await detect(rig, "pat_b")
        await rig.until(MADE, 6)
        rig.clock.now += timedelta(minutes=2)
        made = await rig.until(MADE, 9)
    assert [one.pattern_id for one in made] == ["pat_a"] * 3 + ["pat_b"] * 3 + ["pat_a"] * 3


async def test_a_forecast_that_grew_old_is_made_anew(rig: Rig) -> None:
    """After a day, by the clock."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        rig.clock.now = at(1.01)
        made = await rig.until(MADE, 6)
    assert made[3].inputs.quiet_days == pytest.approx(5.01)


async def test_a_recurrence_inside_the_window_is_a_hit_at_once(rig: Rig) -> None:
    """All three windows, with the issue and the squared error; late by recorded time, in time by event time."""
    async with rig.running():
        await detect(rig)
        made = by_window(await rig.until(MADE, 3))
        rig.clock.now = at(0.5)
        await rig.tell("pat_a", linked("pat_a", at(-0.5), at(0.25), at(0.3), n_issues=4))
        resolved = await rig.until(RESOLVED, 3)
    assert {one.outcome for one in resolved} == {Outcome.HIT}
    assert {one.issue_id for one in resolved} == {"iss_pat_a_0302T180000"}
    for one in resolved:
        said = made[one.window_days].probability
        assert one.probability == said
        assert one.brier == pytest.approx((1 - said) ** 2, abs=1e-8)


async def test_a_pattern_whose_forecast_came_true_is_forecast_again(rig: Rig) -> None:
    """After a minute, then two, so that bursts are not most of the record; after a restart as well."""
    minute = 1 / 1440
    async with rig.running():
        await detect(rig, days=tuple(-day for day in range(1, 40)))
        await rig.until(MADE, 3)
        rig.clock.now = at(0.5 * minute)
        await rig.tell("pat_a", linked("pat_a", at(0.1 * minute), n_issues=40))
        await rig.until(RESOLVED, 3)
        await rig.until(MADE, 3)
        rig.clock.now = at(minute)
        await rig.until(MADE, 6)
        rig.clock.now = at(2 * minute)
        await rig.tell("pat_a", linked("pat_a", at(1.5 * minute), n_issues=41))
        await rig.until(RESOLVED, 6)
        await rig.until(MADE, 6)
    async with rig.running():
        rig.clock.now = at(3 * minute)
        await rig.until(MADE, 9)


async def test_a_restart_changes_nothing_of_when_a_pattern_is_forecast_again(rig: Rig) -> None:
    """As often as it has been forecast again, so long is the next wait; one that missed waits for no restart either."""
    minute = timedelta(minutes=1)
    async with rig.running():
        await detect(rig, "pat_quiet")
        await rig.until(MADE, 3)
    async with rig.running():
        await detect(rig, days=tuple(-day for day in range(1, 40)))
        await rig.until(MADE, 6)
    n_made, n_resolved = 6, 0
    for number, minutes in enumerate((1, 3, 7)):
        # Every other forecast is made by another leader.
        async with rig.running():
            rig.clock.now = at(0) + minutes * minute - timedelta(seconds=20)
            hit = linked("pat_a", rig.clock.now - timedelta(seconds=5), n_issues=40 + number)
            await rig.tell("pat_a", hit)
            n_resolved += 3
            await rig.until(RESOLVED, n_resolved)
            await rig.settled()
        loaded = await remembered(rig)
        assert loaded.patterns[WORKSPACE, "pat_a"].n_renewals == number
        loaded.ask_for_the_neglected(growth=9.0)
        due_at = at(0) + minutes * minute
        assert loaded.without_forecast(now=due_at - timedelta(seconds=1), limit=9) == []
        assert [one.pattern_id for one in loaded.without_forecast(now=due_at, limit=9)] == ["pat_a"]
        async with rig.running():
            rig.clock.now = due_at
            n_made += 3
            await rig.until(MADE, n_made)
            await rig.settled()
    # Nothing is open of a pattern whose last forecast came to nothing, and nobody asks for another at a start.
    async with rig.pool.connection() as conn:
        await conn.execute("UPDATE predictions SET outcome = 'miss' WHERE pattern_id = 'pat_quiet'")
    loaded = await remembered(rig)
    loaded.ask_for_the_neglected(growth=9.0)
    assert loaded.without_forecast(now=at(1), limit=9) == []


def test_growth_that_a_restart_finds_is_no_renewal() -> None:
    """Nor is it one for a leader that saw the event."""
    tracked = Tracked(workspace_id=WORKSPACE, pattern_id="pat_a", status=ACTIVE, n_issues=9)
    memory = Memory()
    memory.add(tracked)
    memory.set_forecast(tracked, at=at(0), forecast_id="prd_1", n_issues=3)
    memory.ask_for_the_neglected(growth=1.5)
    cause_id = memory.due[tracked.key].cause_id
    memory.set_forecast(
        tracked,
        at=at(0) + timedelta(hours=1),
        forecast_id=prediction_id(WORKSPACE, "pat_a", cause_id, WINDOWS_DAYS[0]),
        n_issues=9,
    )
    assert tracked.n_renewals == 0


async def remembered(rig: Rig) -> Memory:
    """What another leader would know at its start."""
    async with rig.pool.connection() as conn:
        return await loading(rig, conn)


async def loading(rig: Rig, conn: Connection) -> Memory:
    """The same over a connection."""
    return await load_memory(
        conn, is_ours=lambda _: True, renewal_spacing=rig.rules.renewal_spacing, max_age=rig.rules.max_age
    )


async def test_a_leader_reads_patterns_by_pages_and_of_each_its_last_forecasts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all that were ever made; and it knows the same, whatever fits into a page."""
    async with rig.running():
        for name in ("pat_a", "pat_b", "pat_c"):
            await detect(rig, name)
        await rig.until(MADE, 9)
        await rig.settled()
    async with rig.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO predictions (workspace_id, prediction_id, pattern_id, window_days, probability, model_probability,"
            " made_at, expires_at, made_seq, seq, outcome, is_dismissed) SELECT p.workspace_id, p.prediction_id || n,"
            " p.pattern_id, window_days, 0, 0, p.made_at - n * interval '1 hour', p.made_at, 1, 1, 'miss', false"
            " FROM predictions AS p, generate_series(1, 500) AS n"
        )
        await conn.execute("ANALYZE predictions")
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'predictions'"
    loaded = []
    for at_once in (1, 2, 1_000):
        monkeypatch.setattr(reading, "PATTERNS_AT_ONCE", at_once)
        async with rig.pool.connection() as conn, conn.transaction():
            loaded.append(await loading(rig, conn))
            [(n_read,)] = await (await conn.execute(read)).fetchall()
        assert n_read < 1_000, "of 4,509"
    assert loaded[0].patterns == loaded[1].patterns == loaded[2].patterns
    assert list(loaded[0].patterns) == [(WORKSPACE, name) for name in ("pat_a", "pat_b", "pat_c")]
    assert {len(one.open) for one in loaded[0].patterns.values()} == {3}


async def test_an_event_before_the_forecast_is_no_hit(rig: Rig) -> None:
    """Late reports of what happened before it was made prove nothing."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        await rig.tell("pat_a", linked("pat_a", at(-0.5), at(0), n_issues=4))
        await rig.tell("pat_a", linked("pat_a", at(0.001), n_issues=4))
        resolved = await rig.until(RESOLVED, 3)
    assert {one.issue_id for one in resolved} == {"iss_pat_a_0302T120126"}


async def test_a_window_that_ends_quietly_is_a_miss_after_the_grace(rig: Rig) -> None:
    """Not when it ends, but a day later; the longer windows stay open."""
    async with rig.running():
        await detect(rig)
        first = by_window(await rig.until(MADE, 3))[7].prediction_id
        rig.clock.now = at(7.9)
        await rig.until(MADE, 6)
        assert await rig.said(RESOLVED) == []
        rig.clock.now = at(8.01)
        (resolved,) = await rig.until(RESOLVED, 1)
        await rig.assert_rebuild_is_equal()
    assert (resolved.prediction_id, resolved.outcome) == (first, Outcome.MISS)


async def test_a_late_report_within_the_grace_is_a_hit(rig: Rig) -> None:
    """Event time decides: the window had ended when it was reported, not when it happened."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        rig.clock.now = at(7.9)
        await rig.tell("pat_a", linked("pat_a", at(6.9), n_issues=4))
        resolved = await rig.until(RESOLVED, 3)
    assert {one.outcome for one in resolved} == {Outcome.HIT}


async def test_what_was_prevented_is_never_a_miss(rig: Rig) -> None:
    """The window ends, the log says nothing about it, and the score does not move."""
    async with rig.running():
        await detect(rig)
        made = by_window(await rig.until(MADE, 3))
        rig.clock.now = at(1.01)
        await rig.until(MADE, 6)
        name = made[7].prediction_id
        prevented = prediction.PredictionFeedbackGiven(
            prediction_id=name, outcome=Outcome.PREVENTED, note="patched"
        )
        await rig.tell(name, prevented)
        await rig.settled()
        rig.clock.now = at(9.02)
        (resolved,) = await rig.until(RESOLVED, 1)
        assert resolved.prediction_id != name
        # Taken back after the window, it is one; no restart is needed for that.
        await rig.tell(
            name, prediction.PredictionFeedbackGiven(prediction_id=name, outcome=Outcome.MISS, note="")
        )
        _, late = await rig.until(RESOLVED, 2)
    assert (late.prediction_id, late.outcome) == (name, Outcome.MISS)


async def test_somebody_faster_does_not_stop_a_resolution(rig: Rig) -> None:
    """Feedback and the hit arrive in one batch: the guard is read again and the outcome recorded once."""
    async with rig.running():
        await detect(rig)
        made = await rig.until(MADE, 3)
        hit = envelope(linked("pat_a", at(0.1), n_issues=4), "pat_a")
        dismissals = [
            envelope(
                prediction.PredictionDismissed(prediction_id=one.prediction_id, reason=""),
                one.prediction_id,
            )
            for one in made
        ]
        await rig.log.append_each([Append(event, None) for event in (hit, *dismissals)])
        resolved = await rig.until(RESOLVED, 3)
    assert len({one.prediction_id for one in resolved}) == 3


async def test_an_alert_fires_once_when_the_threshold_is_reached(rig: Rig) -> None:
    """The first forecast above it fires, the next one above it does not; a lowered threshold fires again for it."""
    daily = tuple(float(-day) for day in range(40, 0, -2))
    async with rig.running():
        await rig.tell(
            WORKSPACE, workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, alert_probability=0.9)
        )
        await detect(rig, days=daily)
        made = await rig.until(MADE, 3)
        fired = await rig.said(prediction.AlertFired)
        assert [one.window_days for one in fired] == [
            one.window_days for one in made if one.probability >= 0.9
        ]
        rig.clock.now = at(1.01)
        await rig.until(MADE, 6)
        assert await rig.said(prediction.AlertFired) == fired
    assert fired
    assert {one.threshold for one in fired} == {0.9}


async def test_a_forerunner_is_found_among_the_rows(rig: Rig) -> None:
    """A pattern that came six hours before each of seven irregular occurrences is named as the likely trigger."""
    days = (-95.2, -80.7, -64.1, -55.4, -37.9, -22.3, -8.6)
    async with rig.running():
        await detect(rig, "pat_disk", days=tuple(day - 0.25 for day in days))
        await detect(rig, "pat_noise", days=tuple(-90.0 + 11 * n for n in range(8)))
        await rig.until(MADE, 6)
        await detect(rig, "pat_api", days=days)
        made = (await rig.until(MADE, 9))[-1]
    assert made.pattern_id == "pat_api"
    assert made.likely_trigger.startswith("“Failure pat_disk” (pat_disk) comes first: 7 of 7")
    assert made.evidence[0].kind == "co_occurrence"
    assert len(made.evidence[0].issue_ids) == 7


async def test_merged_patterns_decide_each_others_predictions(rig: Rig) -> None:
    """An issue of the target resolves what was said of the source."""
    async with rig.running():
        await detect(rig, "pat_a")
        await detect(rig, "pat_b")
        await rig.until(MADE, 6)
        merged = pattern.PatternsMerged(
            target_pattern_id="pat_a", source_pattern_id="pat_b", assessment=assessment(6)
        )
        await rig.tell("pat_a", merged)
        await rig.tell("pat_b", moved("pat_b", EMERGING, PatternStatus.MERGED))
        await rig.until(MADE, 9)
        await rig.tell("pat_a", linked("pat_a", at(0.2), n_issues=7))
        resolved = await rig.until(RESOLVED, 9)
    assert {one.pattern_id for one in resolved} == {"pat_a", "pat_b"}


async def test_a_restart_repeats_nothing(rig: Rig) -> None:
    """Everything is observed again from the beginning of the log, and the log does not grow."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        await rig.tell("pat_a", linked("pat_a", at(0.1), n_issues=4), moved("pat_a", EMERGING, ACTIVE))
        await rig.until(RESOLVED, 3)
        await rig.until(MADE, 6)
    end = await rig.log.last_seq(0)
    await _forget_reactions(rig)
    async with rig.running():
        rig.clock.now = at(1.01)
        made = await rig.until(MADE, 9)
    assert await rig.log.last_seq(0) == end + 3 + len(await _alerts_after(rig, end))
    assert len({one.prediction_id for one in made}) == 9


async def test_a_crash_between_append_and_checkpoint_repeats_nothing(rig: Rig) -> None:
    """The forecast is in the log, the position is not saved: the same ids meet their guards."""
    await detect(rig)
    async with rig.running():
        await rig.until(MADE, 3)
    events = await rig.events()
    await _forget_rows(rig)
    rig.clock.now += timedelta(seconds=30)
    async with rig.running():
        await detect(rig, "pat_b")
        await rig.until(MADE, 6)
        assert (await rig.events())[: len(events)] == events


async def test_open_predictions_survive_a_restart(rig: Rig) -> None:
    """Memory is loaded from the rows: a hit after the restart finds what was said before it."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
    async with rig.running():
        await rig.tell("pat_a", linked("pat_a", at(0.2), n_issues=4))
        await rig.until(RESOLVED, 3)


async def test_growth_that_waited_is_not_forgotten_by_a_restart(make_rig: Callable[..., Rig]) -> None:
    """The leader dies within the spacing: the next one knows from the rows that the pattern has grown."""
    rig = make_rig(growth_spacing=timedelta(minutes=1))
    await rig.pool.open()
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
        await rig.tell("pat_a", linked("pat_a", at(-2), n_issues=9))
        await rig.settled()
    await _pass_over_everything(rig)
    async with rig.running():
        rig.clock.now += timedelta(minutes=2)
        await rig.until(MADE, 6)


async def test_a_pattern_that_was_passed_over_is_forecast_at_the_start(rig: Rig) -> None:
    """Rows without a forecast are enough to know that one is missing."""
    async with rig.running():
        await detect(rig)
        await rig.until(MADE, 3)
    await _pass_over_everything(rig, forget_forecasts=True)
    async with rig.running():
        await rig.until(MADE, 6)


async def test_a_replay_gives_the_same_rows_and_says_nothing(rig: Rig) -> None:
    """Rebuilt beside the live rows while the forecaster works: equal, and no new event."""
    async with rig.running():
        await detect(rig)
        await detect(rig, "pat_b", days=(-9, -8, -7))
        await rig.until(MADE, 6)
        await rig.tell("pat_a", linked("pat_a", at(0.2), n_issues=4))
        await rig.until(RESOLVED, 3)
        end = await rig.log.last_seq(0)
        await rig.assert_rebuild_is_equal()
        await rebuild(
            rig.log,
            PROJECTION,
            owner_url=rig.database.owner_url,
            projector_url=rig.database.projector_url,
        )
        await rig.tell("pat_b", moved("pat_b", EMERGING, ACTIVE))
        await rig.until(MADE, 9)
        assert await rig.log.last_seq(0) == end + 4
        await rig.assert_rebuild_is_equal()


async def test_negative_skill_switches_to_the_base_rate(make_rig: Callable[..., Rig]) -> None:
    """Hits that the model gave no chance, in numbers: it falls back and says so."""
    rig = make_rig(min_resolved=3)
    await rig.pool.open()
    async with rig.running():
        # Over more than four windows, so that it was not the surprise of a day.
        for number, day in enumerate((0.0, 10.0, 25.0, 40.0)):
            rig.clock.now, name = at(day), f"pat_{number}"
            await detect(rig, name, days=(day - 1.0,))
            await rig.until(MADE, 3 * number + 3)
            came = linked(name, at(day + 0.1), n_issues=1)
            await rig.tell(name, came, moved(name, EMERGING, PatternStatus.RESOLVED))
            await rig.until(RESOLVED, 3 * number + 3)
        rig.clock.now = at(50)
        await detect(rig, "pat_last", days=(49.0,))
        await eventually(lambda: _is_forecast(rig, "pat_last"))
        made = [one for one in await rig.said(MADE) if one.pattern_id == "pat_last"]
    assert made[0].model == "base_rate"
    assert made[0].inputs.skill is not None
    assert made[0].inputs.skill < 0
    assert made[0].probability == pytest.approx(made[0].inputs.base_rate)


async def test_a_workspace_teaches_its_own_model(rig: Rig) -> None:
    """Learned apart from the rows, said as an event, used from then on, and the same after a restart."""
    # Before the leader begins: of the first patterns alone it would learn a model of fewer windows, and no other today.
    for gap in range(2, 14):
        name = f"pat_{gap}"
        times = tuple(at(-float(day)) for day in range(1, 120, gap))
        await rig.tell(name, linked(name, *times, n_issues=len(times)), detected(name, len(times)))
    async with rig.running():
        (fitted,) = await rig.until(prediction.ModelFitted, 1)
        await eventually(lambda: _says(rig, "ensemble", 36))
        await rig.assert_rebuild_is_equal()
    assert [window.window_days for window in fitted.windows] == [7, 30, 90]
    made = [one for one in await rig.said(MADE) if one.model == "ensemble"]
    assert {one.inputs.basis.model_id for one in made if one.inputs.basis} == {fitted.model_id}
    async with rig.running():
        rig.clock.now = at(0.5)
        await rig.tell("pat_2", moved("pat_2", EMERGING, ACTIVE))
        await eventually(lambda: _says(rig, "ensemble", 39))
        assert len(await rig.said(prediction.ModelFitted)) == 1


async def test_a_long_fit_keeps_nobody_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model is being learned, patterns are forecast and hits resolved; then it is said."""
    learnt, begun = asyncio.Event(), asyncio.Event()

    async def learn_slowly(past: Past) -> Model | None:
        begun.set()
        await learnt.wait()
        return await learn_apart(past)

    monkeypatch.setattr("services.prediction.reactions.reaction.learn_apart", learn_slowly)
    async with rig.running():
        await detect(rig, days=tuple(-float(day) for day in range(1, 120, 2)))
        await asyncio.wait_for(begun.wait(), 30)
        await detect(rig, "pat_b")
        await rig.until(MADE, 6)
        await rig.tell("pat_b", linked("pat_b", at(0.1), n_issues=4))
        await rig.until(RESOLVED, 3)
        assert await rig.said(prediction.ModelFitted) == []
        learnt.set()
        await rig.until(prediction.ModelFitted, 1)


async def _is_forecast(rig: Rig, pattern_id: str) -> bool:
    return len([one for one in await rig.said(MADE) if one.pattern_id == pattern_id]) == 3


async def _says(rig: Rig, model: str, count: int) -> bool:
    return len([one for one in await rig.said(MADE) if one.model == model]) == count


async def test_an_idle_batch_costs_no_query(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand links that make nothing due leave the forecaster's pool untouched."""
    # Learning is due by the clock, not by a batch, and reads the same pool.
    monkeypatch.setattr(Memory, "due_to_learn", lambda *_, **__: None)
    async with rig.running():
        await detect(rig, days=tuple(-0.001 * n for n in range(1, 1000)))
        await rig.until(MADE, 3)
        before = rig.pool.get_stats().get("requests_num", 0)
        for number in range(20):
            await rig.tell("pat_a", linked("pat_a", at(-1 - number / 100), n_issues=1000 + number))
        await rig.settled()
        assert rig.pool.get_stats().get("requests_num", 0) == before


async def _forget_reactions(rig: Rig) -> None:
    """As if the leader had died before it saved how far it had reacted."""
    async with await psycopg.AsyncConnection.connect(rig.database.projector_url) as conn:
        await conn.execute("UPDATE prediction.checkpoint SET reaction_position = 0")


async def _pass_over_everything(rig: Rig, *, forget_forecasts: bool = False) -> None:
    """As if the leader had reacted to everything, whatever it still had in mind."""
    end = await rig.log.last_seq(0)
    async with await psycopg.AsyncConnection.connect(rig.database.projector_url) as conn:
        await conn.execute("UPDATE prediction.checkpoint SET reaction_position = %s", (end,))
        if forget_forecasts:
            await conn.execute("UPDATE prediction.patterns SET forecast_at = NULL, forecast_id = NULL")


async def _forget_rows(rig: Rig) -> None:
    """As if the database were new: all rows and the position are gone."""
    async with await psycopg.AsyncConnection.connect(rig.database.projector_url) as conn:
        for table in (
            "patterns",
            "occurrences",
            "links",
            "predictions",
            "outlooks",
            "scores",
            "models",
            "workspaces",
        ):
            await conn.execute(f"DELETE FROM prediction.{table}".encode())
        await conn.execute("DELETE FROM prediction.checkpoint")


async def _alerts_after(rig: Rig, seq: int) -> list[str]:
    return [e.id for e in await rig.events() if e.seq > seq and isinstance(e.data, prediction.AlertFired)]


def test_ids_follow_from_the_cause() -> None:
    """The same cause gives the same prediction, another window another one."""
    assert prediction_id("ws", "pat", "evt", 7) == derived_id("prd_", "ws", "pat", "evt", "7")
    assert prediction_id("ws", "pat", "evt", 7) != prediction_id("ws", "pat", "evt", 30)
