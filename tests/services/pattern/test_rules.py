"""When a pattern moves by itself, what it is called, and what its risk is."""

from datetime import timedelta

import pytest
from contracts import ingest, pattern, recommendation
from testkit.builders import NOW

from services.pattern.engine.describing import fingerprint, name_of
from services.pattern.engine.grouping import Exemplar
from services.pattern.engine.lifecycle import due, is_to_detect, proven
from services.pattern.engine.memory import Member, Pattern, RecommendationRow, Settings
from services.pattern.engine.risk import assess, confidence, risk_score

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
    transition = due(found, [])
    assert transition is not None and transition.to_status is Status.ACTIVE
    assert word in transition.reason
    assert due(a_pattern(4), []) is None


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
        transition = due(found, [row])
        assert transition is not None
        assert (expected, NOW) == (transition.to_status, transition.at)
    active.status_seq = 10
    assert due(active, [work(Work.IN_PROGRESS)]) is None


def test_a_recurrence_ends_watching_and_a_late_arrival_does_not() -> None:
    """Event time decides."""
    found = a_pattern(3, status=Status.WATCHING)
    found.watched_since = NOW
    assert due(found, []) is None
    found.watched_since = NOW - timedelta(hours=1)
    transition = due(found, [])
    assert transition is not None and transition.to_status is Status.ACTIVE


def test_quiet_for_the_whole_window_is_proof() -> None:
    """Neither a day less nor another status."""
    found = a_pattern(3, status=Status.WATCHING)
    found.watched_since = NOW
    assert proven(found, Settings(), now=NOW + timedelta(days=13)) is None
    transition = proven(found, Settings(), now=NOW + timedelta(days=14))
    assert transition is not None and transition.to_status is Status.RESOLVED
    found.status = Status.ACTIVE
    assert proven(found, Settings(), now=NOW + timedelta(days=99)) is None


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


def test_the_fingerprint_says_what_at_least_half_share() -> None:
    """A value of a third is left out; the hour needs five members."""
    names = {each.name: (each.value, each.share) for each in fingerprint(a_pattern(3, services=3))}
    assert names == {"team": ("core", 1.0), "source": ("datadog", 1.0)}
    assert "hour_of_day" in {each.name for each in fingerprint(a_pattern(6))}


def test_the_name_is_the_title_that_repeats_most() -> None:
    """Not the first one; and without titles, what is shared."""
    found = a_pattern(3)
    found.keys = {"a": 1, "b": 2}
    texts = [Exemplar(1, "i", "p", "a", "Rare title", ""), Exemplar(2, "j", "p", "b", "Common title", "")]
    assert name_of(found, texts) == "Common title"
    assert name_of(found, []) == "Failures of svc0"
