"""Triggers and impact: only past events count, and only what is significant is said."""

import math
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from contracts.generated.ingest import Severity
from contracts.generated.prediction import Impact
from hypothesis import given
from hypothesis import strategies as st

from services.prediction.engine.drift import alarm, drift
from services.prediction.engine.impact import impact
from services.prediction.engine.trigger import MAX_ISSUES, Occurrence, binomial_tail, explain

MONDAY = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
NOW = MONDAY + timedelta(days=140)


def at(*days: float) -> list[Occurrence]:
    return [Occurrence(MONDAY + timedelta(days=day), f"iss_{number}") for number, day in enumerate(days)]


def kinds(facts: tuple[object, ...]) -> list[str]:
    return [getattr(fact, "kind", "") for fact in facts]


def test_every_monday_names_the_monday_with_its_counts() -> None:
    """Eight of eight on one weekday cannot be chance."""
    trigger, facts = explain(at(*(7 * n for n in range(8))), now=NOW, zone=UTC, neighbours={})
    assert "Mondays" in trigger or "00:00" in trigger
    weekday = next(fact for fact in facts if fact.kind == "weekday")
    assert weekday.text == "8 of 8 occurrences were on a Monday; 1.1 would be by chance."
    assert weekday.issue_ids == tuple(f"iss_{n}" for n in range(8))


def test_the_hour_is_that_of_the_workspace() -> None:
    """02:30 UTC in January is 11:30 in Tokyo."""
    days = (0, 2, 3, 5, 8, 11, 13, 17, 21, 22)
    trigger, facts = explain(at(*days), now=NOW, zone=ZoneInfo("Asia/Tokyo"), neighbours={})
    assert "hour_of_day" in kinds(facts)
    assert "between 09:00 and 12:00 Asia/Tokyo" in trigger


def test_irregular_events_name_no_trigger() -> None:
    """Without significance the trigger is empty, and the plain facts are still there."""
    trigger, facts = explain(at(0, 3.3, 8.9, 15.4, 19.8, 27.1), now=NOW, zone=UTC, neighbours={})
    assert trigger == ""
    assert kinds(facts) == ["history", "last_gap"]


def test_a_burst_is_no_evidence() -> None:
    """A hundred issues within one Monday are one occurrence."""
    burst = [Occurrence(MONDAY + timedelta(minutes=n), f"iss_{n}") for n in range(100)]
    assert explain(burst, now=NOW, zone=UTC, neighbours={})[0] == ""


def test_events_after_now_are_not_looked_at() -> None:
    """What has not happened yet is no evidence."""
    late = [Occurrence(NOW + timedelta(days=7 * n + 1), f"iss_{n}") for n in range(10)]
    assert explain(late, now=NOW, zone=UTC, neighbours={}) == ("", ())


def test_a_forerunner_is_named_when_it_comes_first() -> None:
    """Seven of seven occurrences within a day after another pattern, and never the other way round."""
    days = (0, 9.4, 16.1, 30.7, 44.2, 61.9, 83.3)
    mine = at(*days)
    others = [one.at - timedelta(hours=6) for one in mine]
    trigger, facts = explain(mine, now=NOW, zone=UTC, neighbours={"pat_a": ("Disk full", others)})
    assert trigger.startswith("“Disk full” (pat_a) comes first: 7 of 7")
    assert "co_occurrence" in kinds(facts)


def test_a_pattern_that_follows_is_not_a_forerunner() -> None:
    """The other one comes six hours later each time."""
    mine = at(0, 9.4, 16.1, 30.7, 44.2, 61.9, 83.3)
    others = [one.at + timedelta(hours=6) for one in mine]
    _, facts = explain(mine, now=NOW, zone=UTC, neighbours={"pat_a": ("Alarm", others)})
    assert "co_occurrence" not in kinds(facts)


def test_a_constant_neighbour_is_not_a_forerunner() -> None:
    """Something that fails every day precedes everything, which says nothing."""
    mine = at(0, 9.4, 16.1, 30.7, 44.2, 61.9, 83.3)
    others = [MONDAY + timedelta(days=n) for n in range(-2, 90)]
    _, facts = explain(mine, now=NOW, zone=UTC, neighbours={"pat_a": ("Noise", others)})
    assert "co_occurrence" not in kinds(facts)


def test_a_rate_that_rose_is_evidence_but_no_trigger() -> None:
    """Two in the first sixteen weeks, ten in the last four."""
    trigger, facts = explain(
        at(0, 31.3, *(113 + 2.7 * n for n in range(10))), now=NOW, zone=UTC, neighbours={}
    )
    assert kinds(facts)[0] == "rate_change"
    assert "10 occurrences in the last 28 days" in facts[0].text
    assert trigger == ""


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.randoms())
def test_evidence_is_deterministic_and_bounded(days: list[float], rng: object) -> None:
    """Any order of arrival gives the same sentences, and no fact cites more than ten issues."""
    occurrences = at(*days)
    answer = explain(occurrences, now=NOW, zone=UTC, neighbours={})
    assert answer == explain(occurrences[::-1], now=NOW, zone=UTC, neighbours={})
    assert all(len(fact.issue_ids) <= MAX_ISSUES for fact in answer[1])


def test_the_binomial_tail_agrees_with_counting() -> None:
    """At least two heads of three fair coins: four of eight outcomes."""
    assert abs(binomial_tail(2, 3, 0.5) - 0.5) < 1e-12
    assert binomial_tail(0, 5, 0.2) == 1.0
    assert binomial_tail(3, 3, 0.0) == 0.0


def test_impact_is_that_of_the_most_common_severity() -> None:
    """Ties go to the graver one; nothing known is medium."""
    assert impact({Severity.P1: 1, Severity.P3: 5}) is Impact.MEDIUM
    assert impact({Severity.P1: 5, Severity.P4: 5}) is Impact.CRITICAL
    assert impact({Severity.P2: 2}) is Impact.HIGH
    assert impact({}) is Impact.MEDIUM


def poisson(rng: random.Random, rate: float) -> int:
    limit, count, product = math.exp(-rate), 0, rng.random()
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count


@pytest.mark.parametrize(("rate", "delay"), [(0.5, 6.0), (1.0, 3.0)])
def test_drift_cries_wolf_seldom_and_hears_a_change_soon(rate: float, delay: float) -> None:
    """Simulated weeks of a known rate: 0.2 to 0.5 false alarms a year; four times the rate is heard in weeks."""
    rng = random.Random(20261122)

    def weeks_to_alarm(of: float) -> float:
        found = [alarm([poisson(rng, of) for _ in range(1_000)], rate) for _ in range(150)]
        return sum(1_000 if one is None else one[0] + 1 for one in found) / len(found)

    assert 0.2 <= 52 / weeks_to_alarm(rate) <= 0.5
    assert 1.0 <= weeks_to_alarm(4 * rate) <= delay


def test_a_learned_rate_cries_wolf_as_seldom_as_the_page_says() -> None:
    """One failure a week for two years, looked at every week: .24 changes a year that are none (docs/reference/forecast.md)."""
    rng, n_patterns, weeks = random.Random(20261122), 40, 104
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    told: set[tuple[int, datetime]] = set()
    for number in range(n_patterns):
        days = sorted(7 * (week + rng.random()) for week in range(weeks) for _ in range(poisson(rng, 1.0)))
        starts = [begin, *(begin + timedelta(days=day) for day in days)]
        for week in range(9, weeks):
            now = begin + timedelta(weeks=week, days=1)
            found = drift([start for start in starts if start <= now], now=now)
            told |= set() if found is None else {(number, found.since)}
    assert 0.1 <= len(told) / (n_patterns * (weeks - 8) / 52) <= 0.4


def test_a_slow_rise_is_told_of_with_what_was_before() -> None:
    """Every two weeks, then every two days: compared with the first, until that has become usual."""
    slow, fast = range(0, 140, 14), range(140, 180, 2)
    _, facts = explain(at(*slow, *fast), now=MONDAY + timedelta(days=182), zone=UTC, neighbours={})
    [fact] = [fact for fact in facts if fact.kind == "drift"]
    assert fact.text == "Since the week of 2026-05-25 3.3 occurrences a week, 0.5 before."
    _, later = explain(
        at(*slow, *range(140, 400, 2)), now=MONDAY + timedelta(days=400), zone=UTC, neighbours={}
    )
    assert "drift" not in {fact.kind for fact in later}, "after eight weeks it is usual"
