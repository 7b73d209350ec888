"""When a pattern moves by itself, what it is called, and what its risk is."""

from datetime import datetime, timedelta

import pytest
from contracts import ingest, pattern, recommendation
from msgspec.structs import replace
from testkit.builders import NOW

from services.pattern.commands.curating import close_pattern
from services.pattern.commands.deciding import Gathered, settle
from services.pattern.engine.describing import fingerprint, name_of
from services.pattern.engine.grouping import Exemplar, Grouper
from services.pattern.engine.lifecycle import due, is_to_detect, verdict_of
from services.pattern.engine.memory import Member, Pattern, RecommendationRow, Settings, Totals, VerdictRow
from services.pattern.engine.repairing import Failure, is_worth_saying, mttr_seconds
from services.pattern.engine.risk import assess, confidence, risk_score
from services.pattern.state import evolve, stamp

Status = pattern.PatternStatus
Work = recommendation.RecommendationStatus


def a_pattern(
    n: int,
    *,
    status: Status = Status.EMERGING,
    severity: str = "p2",
    days_apart: float = 0,
    score: float = 1.0,
    services: int = 1,
) -> Pattern:
    """A pattern of n members, the newest at NOW."""
    made = Pattern(pattern_id="pat_1", status=status)
    for number in range(n):
        made.add(
            Member(
                issue_id=f"iss_{number}",
                pattern_id="pat_1",
                grouping_key="k",
                score=score,
                severity=ingest.Severity(severity),
                occurred_at=NOW - timedelta(days=days_apart * number),
                dimensions=(f"svc{number % services}", None, None, "core", None, "datadog", "12"),
            )
        )
    return made


def work(status: Work, seq: int = 9) -> RecommendationRow:
    return RecommendationRow("rec_1", "pat_1", status, NOW, seq)


def test_a_candidate_is_detected_at_the_minimum_cluster_size() -> None:
    """Not before, and by the workspace's own setting."""
    assert not is_to_detect(a_pattern(2, status=Status.CANDIDATE), Settings())
    assert is_to_detect(a_pattern(3, status=Status.CANDIDATE), Settings())
    assert not is_to_detect(a_pattern(3, status=Status.CANDIDATE), Settings(minimum_cluster_size=4))


@pytest.mark.parametrize(
    ("found", "word"), [(a_pattern(5), "5 issues"), (a_pattern(3, days_apart=1), "3 days")]
)
def test_an_emerging_pattern_becomes_active_by_number_or_by_days(found: Pattern, word: str) -> None:
    """The reason says which."""
    transition = due(found, [], None)
    assert transition is not None and transition.to_status is Status.ACTIVE
    assert word in transition.reason
    assert due(a_pattern(4), [], None) is None


def test_recommendations_move_a_pattern_and_a_later_person_stays_right() -> None:
    """In progress: mitigating; implemented: watching since then; given up: active; older than the status: nothing."""
    active = a_pattern(5, status=Status.ACTIVE)
    mitigating = a_pattern(5, status=Status.MITIGATING)
    for found, row, expected in (
        (active, work(Work.IN_PROGRESS), Status.MITIGATING),
        (active, work(Work.IMPLEMENTED), Status.WATCHING),
        (mitigating, work(Work.IMPLEMENTED), Status.WATCHING),
        (mitigating, work(Work.DISMISSED), Status.ACTIVE),
    ):
        transition = due(found, [row], None)
        assert transition is not None
        assert (expected, NOW) == (transition.to_status, transition.at)
    active.status_seq = 10
    assert due(active, [work(Work.IN_PROGRESS)], None) is None


def verdict_inputs() -> recommendation.ProofInputs:
    return recommendation.ProofInputs(
        prior_shape=1.0,
        gap_days=14.0,
        n_recurrences=5,
        exposure_days=60.0,
        level=0.95,
        least_days=14,
        most_days=365,
        window_days=48.0,
        n_recurrences_after=0,
        n_residual=0,
        model_version="v",
    )


def verdict(*, is_verified: bool, fixed_at: datetime = NOW, seq: int = 20) -> VerdictRow:
    inputs = verdict_inputs()
    broken = recommendation.FixBroken(
        fix_id="fix_1",
        pattern_id="pat_1",
        fixed_at=fixed_at,
        issue_id="iss_1",
        quiet_days=3.0,
        confidence=0.2,
        was_verified=False,
        inputs=inputs,
    )
    verified = recommendation.FixVerified(
        fix_id="fix_1",
        pattern_id="pat_1",
        fixed_at=fixed_at,
        quiet_days=48.0,
        confidence=0.951,
        inputs=inputs,
    )
    row = verdict_of(verified if is_verified else broken, seq=seq)
    assert row is not None
    return row


def test_a_note_after_a_proof_without_a_verdict_starts_a_new_one() -> None:
    """While the proof runs it is a note on that fix; after its bound nothing would ever be proved of it."""
    grouper = Grouper("ws")
    found = grouper.patterns["pat_1"] = a_pattern(3, status=Status.WATCHING)
    found.watched_since = NOW
    command = pattern.ClosePattern(pattern_id="pat_1", closure_note="Sized the pool.")
    later = NOW + timedelta(days=366)
    [noted] = close_pattern(grouper, command, Gathered(), now=later)
    assert noted.at == NOW
    row = verdict_of(
        recommendation.FixInconclusive(
            fix_id="fix_1",
            pattern_id="pat_1",
            fixed_at=NOW,
            reason=recommendation.InconclusiveReason.BOUND_REACHED,
            quiet_days=365.0,
            confidence=0.9,
            inputs=verdict_inputs(),
        ),
        seq=20,
    )
    assert row is not None and due(found, [], row) is None, "it stays watching"
    grouper.note_verdict(row)
    [begun] = close_pattern(grouper, command, Gathered(), now=later)
    assert begun.at == later == found.watched_since
    [noted] = close_pattern(grouper, command, Gathered(), now=later + timedelta(days=1))
    assert noted.at == later, "and of that one it is a note again"


def test_what_is_implemented_while_a_rule_moves_the_pattern_is_not_lost() -> None:
    """Taken up and implemented at once: the move to mitigating comes behind both in the log, decided on the first."""
    grouper = Grouper("ws")
    found = grouper.patterns["pat_1"] = a_pattern(5, status=Status.ACTIVE)
    moved = pattern.PatternStatusChanged(
        pattern_id="pat_1", from_status=Status.ACTIVE, to_status=Status.MITIGATING, reason="It is worked on."
    )
    for is_by_person, expected in ((False, Status.WATCHING), (True, None)):
        found.status, found.status_seq = Status.ACTIVE, 1
        evolve(grouper, moved, at=NOW, is_by_person=is_by_person)
        stamp(grouper, moved, pattern_id="pat_1", seq=30)
        due_now = due(found, [work(Work.IMPLEMENTED)], None)
        assert (due_now and due_now.to_status) == expected, "a person's later decision stands"


def test_a_second_fix_in_quick_succession_is_proved_as_well() -> None:
    """It is in the log before the move that the first one causes, and is heard of after that was decided."""
    grouper = Grouper("ws")
    found = grouper.patterns["pat_1"] = a_pattern(5, status=Status.ACTIVE)
    grouper.note_recommendation(RecommendationRow("rec_1", "pat_1", Work.IMPLEMENTED, NOW, 20))
    [moved] = settle(grouper, found)
    later = NOW + timedelta(minutes=1)
    grouper.note_recommendation(RecommendationRow("rec_2", "pat_1", Work.IMPLEMENTED, later, 21))
    stamp(grouper, moved.event, pattern_id="pat_1", seq=22)
    [again] = settle(grouper, found)
    assert (found.status, moved.at, again.at) == (Status.WATCHING, NOW, later)
    stamp(grouper, again.event, pattern_id="pat_1", seq=23)
    assert settle(grouper, found) == [], "and each is followed once"


def test_a_note_between_a_verdict_and_the_move_loses_no_verdict() -> None:
    """The verdict is in the log before the note, and is heard after it."""
    grouper = Grouper("ws")
    found = grouper.patterns["pat_1"] = a_pattern(3, status=Status.WATCHING)
    found.watched_since, found.status_seq = NOW, 10
    command = pattern.ClosePattern(pattern_id="pat_1", closure_note="Sized the pool.")
    [noted] = close_pattern(grouper, command, Gathered(), now=NOW + timedelta(days=50))
    stamp(grouper, noted.event, pattern_id="pat_1", seq=30)
    moved = due(found, [], verdict(is_verified=True, seq=20))
    assert moved is not None and moved.to_status is Status.RESOLVED
    elsewhere = replace(command, environment="staging")
    [begun] = close_pattern(grouper, elsewhere, Gathered(), now=NOW + timedelta(days=51))
    stamp(grouper, begun.event, pattern_id="pat_1", seq=40)
    assert due(found, [], verdict(is_verified=True, seq=35)) is None, "a new fix is another matter"


def test_the_verdict_on_its_fix_moves_a_pattern() -> None:
    """Verified: resolved; broken: active, even from resolved; twice the same: nothing more."""
    found = a_pattern(3, status=Status.WATCHING)
    found.watched_since = NOW
    assert due(found, [], None) is None, "failures alone move nothing: where they happened decides"
    transition = due(found, [], verdict(is_verified=True))
    assert transition is not None and transition.to_status is Status.RESOLVED
    assert (
        transition.reason == "Its fix of 2026-03-01 12:00 UTC is verified: 48 quiet days, confidence 95.1%."
    )
    found.status = Status.RESOLVED
    assert due(found, [], verdict(is_verified=True)) is None
    transition = due(found, [], verdict(is_verified=False))
    assert transition is not None and transition.to_status is Status.ACTIVE
    found.status = Status.ACTIVE
    assert due(found, [], verdict(is_verified=True)) is None


def test_a_verdict_on_an_earlier_fix_moves_nothing() -> None:
    """Nor does one that came before the status it would change."""
    found = a_pattern(3, status=Status.WATCHING)
    found.watched_since = NOW
    assert due(found, [], verdict(is_verified=False, fixed_at=NOW - timedelta(days=1))) is None
    found.status_seq = 20
    assert due(found, [], verdict(is_verified=False)) is None


def test_a_further_fix_restarts_the_watch() -> None:
    """One that was implemented before the watch began does not."""
    found = a_pattern(3, status=Status.WATCHING)
    transition = due(found, [work(Work.IMPLEMENTED)], None)
    assert transition is not None
    assert (transition.to_status, transition.at) == (Status.WATCHING, NOW)
    found.status_seq = 10
    assert due(found, [work(Work.IMPLEMENTED)], None) is None


def test_risk_is_the_documented_sum() -> None:
    """The worked example of docs/reference/risk-score.md."""
    found = a_pattern(10, severity="p2", days_apart=1, services=3)
    assert risk_score(found, newest_at=NOW + timedelta(days=7)) == 63.8


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (a_pattern(5, severity="p3"), a_pattern(5, severity="p1")),
        (a_pattern(5), a_pattern(20)),
        (a_pattern(5), a_pattern(5, services=4)),
        (a_pattern(5, days_apart=20), a_pattern(5)),
    ],
)
def test_worse_more_broader_and_denser_is_riskier(lower: Pattern, higher: Pattern) -> None:
    """Each part of the sum moves it the right way, inside 0 to 100."""
    assert 0 <= risk_score(lower, newest_at=NOW) < risk_score(higher, newest_at=NOW) <= 100


def test_confidence_grows_with_scores_and_members() -> None:
    """Few members or weak links are less certain; none are not certain at all."""
    assert confidence(a_pattern(3)) == 0.75
    assert confidence(a_pattern(3, score=0.9)) == 0.675
    assert confidence(a_pattern(9)) == 0.9
    assert assess(Pattern(pattern_id="pat_1"), newest_at=NOW).risk_score == 0


def totals_of(*patterns: Pattern) -> Totals:
    """What the workspace of these patterns has."""
    totals = Totals()
    for found in patterns:
        totals.include(found)
    return totals


def test_the_fingerprint_says_what_at_least_half_share() -> None:
    """A value of a third is left out; alone in its workspace a pattern has nothing that others lack."""
    found = a_pattern(3, services=3)
    shared = {each.name: (each.value, each.share, each.lift) for each in fingerprint(found, totals_of(found))}
    assert shared == {"team": ("core", 1.0, 1.0), "source": ("datadog", 1.0, 1.0)}
    assert fingerprint(Pattern(pattern_id="pat_1"), totals_of(found)) == ()


def test_lift_is_the_share_over_the_share_of_the_workspace_and_orders_the_fingerprint() -> None:
    """The worked example of docs/reference/fingerprint.md: 4 of 16 issues have the service, all have the team."""
    found, rest = a_pattern(4), a_pattern(12)
    rest.values[0].clear()
    rest.values[0]["other"] = 12
    shared = [(each.name, each.lift) for each in fingerprint(found, totals_of(found, rest))]
    assert shared == [("service", 4.0), ("team", 1.0), ("source", 1.0)]


def test_a_burst_has_no_time_of_day_and_a_habit_has() -> None:
    """Forty failures of one day prove no hour; the same hour on four days does, and four mondays a weekday."""
    burst = a_pattern(40)
    assert not {"hour_of_day", "day_of_week"} & {each.name for each in fingerprint(burst, totals_of(burst))}
    habit = a_pattern(5, days_apart=7)
    times = {each.name: each.value for each in fingerprint(habit, totals_of(habit)) if "of_" in each.name}
    assert times == {"hour_of_day": "12", "day_of_week": NOW.strftime("%A").lower()}
    # Where everything happens at noon, noon says nothing of this pattern.
    noon = totals_of(habit, a_pattern(400, days_apart=1))
    assert {"day_of_week"} == {each.name for each in fingerprint(habit, noon) if "of_" in each.name}


@pytest.mark.parametrize(
    ("hours", "closed", "expected"),
    [
        ([(0, 2)], None, 2.0),
        ([(0, 2), (1, 5)], None, 5.0),
        ([(0, 2), (30, 34)], None, 3.0),
        ([(0, 2), (30, None)], None, 2.0),
        ([(0, 2), (30, None)], 40, 6.0),
        ([(0, None)], None, None),
        ([(5, 3)], None, 0.0),
        ([], None, None),
    ],
)
def test_time_to_repair_is_the_mean_over_repaired_episodes(
    hours: list[tuple[int, int | None]], closed: int | None, expected: float | None
) -> None:
    """From an episode's first failure to the end of its last issue; the pattern's closing ends what is still open."""
    lives = [
        Failure(NOW + timedelta(hours=begun), None if ended is None else NOW + timedelta(hours=ended))
        for begun, ended in hours
    ]
    closed_at = None if closed is None else NOW + timedelta(hours=closed)
    found = mttr_seconds(lives, closed_at=closed_at)
    assert found == (None if expected is None else expected * 3600)


def test_a_mean_time_to_repair_is_said_anew_when_it_moved() -> None:
    """By more than 5 %, or when there was none."""
    said = [is_worth_saying(*pair) for pair in ((None, 60.0), (100.0, 106.0), (100.0, 94.0))]
    assert said == [True, True, True]
    assert not any(is_worth_saying(*pair) for pair in ((100.0, 104.0), (60.0, None), (None, None)))


def test_the_name_is_the_title_that_repeats_most() -> None:
    """Not the first one; of titles that each occur once the most central; and without titles, what is shared."""
    found = a_pattern(3)
    found.keys = {"a": 1, "b": 2}
    texts = [Exemplar(1, "i", "p", "a", "Rare title", ""), Exemplar(2, "j", "p", "b", "Common title", "")]
    assert name_of(found, texts) == "Common title"
    said_by_one_each = [
        "Printer jams",
        "Cannot print from the office",
        "Cannot print",
        "Cannot print in colour",
    ]
    titles = [Exemplar(i, f"i{i}", "p", f"k{i}", title, "") for i, title in enumerate(said_by_one_each)]
    found.keys = {f"k{i}": 1 for i in range(4)}
    assert name_of(found, titles) == "Cannot print"
    assert name_of(found, []) == "Failures of svc0"
