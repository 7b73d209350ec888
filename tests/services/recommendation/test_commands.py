"""What a person may do with a recommendation, and what is recommended for a pattern."""

import pytest
from contracts import Event, Recorded, pattern, recommendation
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
from msgspec.structs import replace
from testkit.decisions import Given

from services.recommendation.app import read_playbook
from services.recommendation.commands import (
    ALLOWED_MOVES,
    REASON_MAX,
    Situation,
    change_status,
    check_step,
    reassess,
    recommend,
    retire,
)
from services.recommendation.engine.matching import Matcher
from services.recommendation.engine.ranking import TrackRecord
from services.recommendation.errors import (
    DismissedError,
    MoveNotAllowedError,
    NoSuchStepError,
    ReasonNotStorableError,
    ReasonTooLongError,
)
from services.recommendation.state import Pattern, Recommendation, evolve, evolve_pattern, fold
from tests.services.recommendation import builders
from tests.services.recommendation.builders import checked, made, moved

Status = recommendation.RecommendationStatus
MATCHER = Matcher(read_playbook())


def wants(status: Status, reason: str = "") -> recommendation.ChangeStatus:
    return recommendation.ChangeStatus(recommendation_id="rec_1", status=status, reason=reason)


def ticks(step_index: int, is_done: bool = True) -> recommendation.CheckStep:
    return recommendation.CheckStep(recommendation_id="rec_1", step_index=step_index, is_done=is_done)


Decided = recommendation.RecommendationStatusChanged | recommendation.RecommendationStepChecked


def recommended(
    *events: Recorded[Event], play_id: str = "size-connection-pool", score: float = 10.0
) -> Recommendation:
    state = fold([made(play_id, score=score), *events])
    assert state is not None
    return state


def after(*events: Recorded[Event]) -> Given[Recommendation, Decided]:
    return Given(recommended(*events))


def test_pending_recommendation_is_taken_up() -> None:
    expected = recommendation.RecommendationStatusChanged(
        recommendation_id="rec_1",
        pattern_id="pat_1",
        from_status=Status.PENDING,
        to_status=Status.IN_PROGRESS,
        reason="mine",
    )
    after().when(lambda state: change_status(wants(Status.IN_PROGRESS, "mine"), state)).then(expected)


def test_the_status_it_has_needs_no_event() -> None:
    after().when(lambda state: change_status(wants(Status.PENDING), state)).then()


@pytest.mark.parametrize("end", ["implemented", "dismissed"])
def test_finished_recommendation_reopens_to_pending_only(end: str) -> None:
    finished = after(moved("pending", end))
    assert len(finished.when(lambda state: change_status(wants(Status.PENDING), state)).events) == 1
    refused = finished.when(lambda state: change_status(wants(Status.IN_PROGRESS), state))
    refused.then_refused(MoveNotAllowedError)
    assert str(refused.refusal) == (
        f"a recommendation that is {end} cannot become in_progress; from here it can become: pending"
    )


def test_a_long_reason_is_refused() -> None:
    long = wants(Status.DISMISSED, "x" * (REASON_MAX + 1))
    after().when(lambda state: change_status(long, state)).then_refused(ReasonTooLongError)


def test_a_reason_with_nul_is_refused() -> None:
    """No row could hold it, and the projection would stop."""
    unstorable = wants(Status.DISMISSED, "a\0b")
    after().when(lambda state: change_status(unstorable, state)).then_refused(ReasonNotStorableError)


def test_a_step_is_ticked_once_and_unticked() -> None:
    expected = recommendation.RecommendationStepChecked(recommendation_id="rec_1", step_index=2, is_done=True)
    after().when(lambda state: check_step(ticks(2), state)).then(expected)
    after(checked(2, True)).when(lambda state: check_step(ticks(2), state)).then()
    assert len(after(checked(2, True)).when(lambda state: check_step(ticks(2, False), state)).events) == 1


@pytest.mark.parametrize("index", [-1, 3, 1_000_000])
def test_a_step_out_of_range_is_refused(index: int) -> None:
    outcome = after().when(lambda state: check_step(ticks(index), state))
    outcome.then_refused(NoSuchStepError)
    assert "steps 0 to 2" in str(outcome.refusal)


def test_steps_of_a_dismissed_recommendation_rest() -> None:
    dismissed = after(moved("pending", "dismissed"))
    dismissed.when(lambda state: check_step(ticks(0), state)).then_refused(DismissedError)


@hypothesis_given(st.lists(st.sampled_from(list(Status)), max_size=12))
def test_any_walk_through_the_statuses_obeys_the_table(walk: list[Status]) -> None:
    state = recommended()
    for wanted in walk:
        before = state.status
        try:
            events = change_status(wants(wanted), state)
        except MoveNotAllowedError:
            assert wanted not in ALLOWED_MOVES[before]
            continue
        assert bool(events) == (wanted is not before)
        for event in events:
            assert (event.from_status, event.to_status) == (before, wanted)
            state = evolve(state, moved(before, wanted)) or state
        assert state.status is wanted
        assert (state.implemented_at is not None) == (wanted is Status.IMPLEMENTED)


def pattern_after(*events: Recorded[Event]) -> Pattern:
    state: Pattern | None = None
    for event in (builders.linked(), builders.detected(), *events):
        state = evolve_pattern(state, event)
    assert state is not None
    return state


def test_a_detected_pattern_gets_ranked_plays_with_their_arithmetic() -> None:
    events = recommend(Situation(pattern=pattern_after()), MATCHER)
    assert events[0].play_id == "size-connection-pool"
    assert 1 <= len(events) <= 3
    assert len({event.recommendation_id for event in events}) == len(events)
    first = events[0]
    assert first.recommendation_id.startswith("rec_")
    assert 3 <= len(first.steps) <= 6
    assert first.evidence
    assert first.arithmetic.severity_weight == 4.0
    assert first.playbook_version == MATCHER.playbook.version


def test_what_was_recommended_is_never_recommended_again() -> None:
    seen = pattern_after()
    [*plays] = [event.play_id for event in recommend(Situation(pattern=seen), MATCHER)]
    dismissed = [recommended(moved("pending", "dismissed"), play_id=play) for play in plays]
    assert recommend(Situation(pattern=seen, made=dismissed), MATCHER) == []


def test_at_most_three_over_the_life_of_a_pattern() -> None:
    known = [recommended(play_id=f"old-{n}") for n in range(3)]
    assert recommend(Situation(pattern=pattern_after(), made=known), MATCHER) == []


@pytest.mark.parametrize("end", ["resolved", "merged"])
def test_a_pattern_that_ended_gets_nothing(end: str) -> None:
    ended = pattern_after(builders.pattern_moved("active", end))
    assert recommend(Situation(pattern=ended), MATCHER) == []
    assert reassess(Situation(pattern=ended, made=[recommended()]), MATCHER) == []


def test_open_recommendations_of_a_merged_pattern_are_dismissed() -> None:
    merged = pattern_after(builders.pattern_moved("active", "merged"))
    done = recommended(moved("pending", "implemented"))
    [(state, event)] = retire(Situation(pattern=merged, made=[recommended(), done]))
    assert state.status is Status.PENDING
    assert (event.from_status, event.to_status) == (Status.PENDING, Status.DISMISSED)
    assert event.reason == "Its pattern was merged into another one."
    assert retire(Situation(pattern=pattern_after(), made=[recommended()])) == []


def test_a_candidate_gets_nothing() -> None:
    candidate = evolve_pattern(None, builders.linked())
    assert candidate is not None
    assert recommend(Situation(pattern=candidate), MATCHER) == []


def test_confidence_below_the_threshold_gets_nothing() -> None:
    unsure = pattern_after(builders.described(known=builders.assessment(confidence=0.69)))
    assert recommend(Situation(pattern=unsure), MATCHER) == []
    assert recommend(Situation(pattern=unsure, threshold=0.69), MATCHER) != []


def test_a_forecast_that_changes_the_score_reassesses_open_recommendations() -> None:
    seen = pattern_after()
    [first, *_] = recommend(Situation(pattern=seen), MATCHER)
    current = recommended(play_id=first.play_id, score=first.arithmetic.score)
    assert reassess(Situation(pattern=seen, made=[current]), MATCHER) == []
    worse = pattern_after(builders.forecast(40, 100.0))
    [(state, event)] = reassess(Situation(pattern=worse, made=[current]), MATCHER)
    assert state is current
    assert event.arithmetic.score > first.arithmetic.score
    assert "40 seen in 100.0 days" in event.arithmetic.explanation
    done = recommended(moved("pending", "implemented"), play_id=first.play_id)
    assert reassess(Situation(pattern=worse, made=[done]), MATCHER) == []


def test_a_play_that_left_the_playbook_keeps_its_score() -> None:
    gone = recommended(play_id="no-longer-there")
    assert reassess(Situation(pattern=pattern_after(builders.forecast(90, 91.0)), made=[gone]), MATCHER) == []


def test_the_workspace_record_moves_the_score() -> None:
    seen = pattern_after()
    [before, *_] = recommend(Situation(pattern=seen), MATCHER)
    records = {(before.type, before.effort): TrackRecord(n_verified=0, n_broken=12)}
    [same] = [
        event
        for event in recommend(Situation(pattern=seen, records=records), MATCHER)
        if event.play_id == before.play_id
    ]
    assert same.arithmetic.score < before.arithmetic.score
    assert "0 of 12 like it were verified here" in same.arithmetic.explanation


def test_merge_counts_the_links_of_both() -> None:
    target = pattern_after()
    source = evolve_pattern(None, builders.linked(pattern_id="pat_2", severities=("p1",) * 4))
    merged = pattern.PatternsMerged(
        target_pattern_id="pat_1", source_pattern_id="pat_2", assessment=builders.assessment(count=8)
    )
    state = evolve_pattern(target, builders.on_pattern(merged), source=source)
    assert state is not None
    assert (state.n_p1, state.n_p2, state.issue_count) == (4, 4, 8)
    assert state.risk.severity_weight == 6.0


def test_nothing_is_ranked_by_a_forecast_that_is_held_out() -> None:
    """Or people would act on it after all."""
    state = evolve_pattern(None, builders.linked())
    made = builders.forecast(60, 90.0)
    held_out = replace(made, data=replace(made.data, held_out=True))
    assert evolve_pattern(state, held_out).risk == state.risk  # type: ignore[union-attr]  # it was linked
    assert evolve_pattern(state, made).risk != state.risk  # type: ignore[union-attr]  # likewise
