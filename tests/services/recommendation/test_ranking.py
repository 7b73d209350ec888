"""The score is the formula of docs/reference/ranking.md, and moves the way that sense expects."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from contracts import ingest, recommendation
from hypothesis import given
from hypothesis import strategies as st

from services.recommendation.engine.ranking import (
    EFFORT_DAYS,
    PRIOR_RATE_DAYS,
    PRIOR_SHAPE,
    Calibration,
    Exposure,
    Risk,
    TrackRecord,
    Worth,
    assess,
    hold_probability,
    impact_of,
    is_material,
    observed_exposure,
    severity_weight,
)

Effort = recommendation.Effort
Impact = recommendation.RecommendationImpact
T0 = datetime(2026, 1, 1, tzinfo=UTC)

chances = st.floats(min_value=0.01, max_value=0.99)
counts = st.integers(min_value=0, max_value=500)
days = st.floats(min_value=0.0, max_value=2_000.0)
efforts = st.sampled_from(list(Effort))
records = st.builds(TrackRecord, n_verified=counts, n_broken=counts)
risks = st.builds(
    Risk,
    exposure=st.builds(Exposure, n_recurrences=counts, exposure_days=days),
    severity_weight=st.floats(min_value=1.0, max_value=8.0).map(lambda weight: round(weight, 4)),
)


def worked_example() -> Worth:
    return assess(
        fit=0.9,
        holds=0.6,
        effort=Effort.LOW,
        record=TrackRecord(n_verified=3, n_broken=1),
        risk=Risk(
            exposure=Exposure(
                n_recurrences=8,
                exposure_days=72.0,
                prior_shape=0.5,
                prior_rate_days=30.0,
                probability=0.7106,
            ),
            severity_weight=4.0,
            calibration=Calibration(n_hits=20.0, n_foretold=30.0),
        ),
    )


def test_worked_example_of_the_documentation() -> None:
    arithmetic = worked_example().arithmetic
    assert arithmetic.holds_probability == 0.65
    assert arithmetic.fix_holds_probability == 0.585
    assert arithmetic.alive_probability == 0.8
    assert arithmetic.calibration_ratio == 0.8
    assert arithmetic.expected_recurrences == 4.8
    assert arithmetic.expected_loops_prevented == 2.808
    assert arithmetic.score == 11.232
    assert worked_example().impact is Impact.QUICK_WIN
    assert arithmetic.explanation == (
        "The play fits with 0.90 and such a fix holds with 0.65 (3 of 4 like it were verified here), together 0.585; "
        "4.8 recurrences are expected in 90 days without it (8 seen in 72.0 days, still alive with 0.80, and forecasts "
        "here come true 0.80 times), so it prevents 2.81 loops; "
        "times severity weight 4.0, divided by 1 day of effort, the score is 11.23."
    )


@given(chances, chances, efforts, records, risks)
def test_arithmetic_is_consistent_and_its_bytes_are_stable(
    fit: float, holds: float, effort: Effort, record: TrackRecord, risk: Risk
) -> None:
    first = assess(fit=fit, holds=holds, effort=effort, record=record, risk=risk)
    again = assess(fit=fit, holds=holds, effort=effort, record=record, risk=risk)
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    numbers = first.arithmetic
    assert 0.0 <= numbers.fix_holds_probability <= 1.0
    assert numbers.expected_loops_prevented == pytest.approx(
        numbers.fix_holds_probability * numbers.expected_recurrences, abs=1e-4
    )
    assert numbers.score == pytest.approx(
        numbers.expected_loops_prevented * numbers.severity_weight / numbers.effort_days, abs=1e-4
    )
    assert numbers.expected_loops_prevented <= numbers.expected_recurrences
    assert f"the score is {numbers.score:.2f}" in numbers.explanation


@given(chances, records)
def test_a_fix_that_held_makes_the_next_one_likelier(holds: float, record: TrackRecord) -> None:
    now = hold_probability(holds, record)
    better = hold_probability(holds, TrackRecord(n_verified=record.n_verified + 1, n_broken=record.n_broken))
    worse = hold_probability(holds, TrackRecord(n_verified=record.n_verified, n_broken=record.n_broken + 1))
    assert worse < now < better
    assert 0.0 < now < 1.0


def test_without_a_record_the_play_says_how_likely_it_holds() -> None:
    assert hold_probability(0.55, TrackRecord()) == pytest.approx(0.55)


@given(counts, days)
def test_expectation_grows_with_recurrences_and_falls_with_time(n: int, exposure_days: float) -> None:
    now = Exposure(n_recurrences=n, exposure_days=exposure_days).expected_recurrences
    assert Exposure(n_recurrences=n + 1, exposure_days=exposure_days).expected_recurrences > now
    assert Exposure(n_recurrences=n, exposure_days=exposure_days + 1).expected_recurrences < now
    assert now > 0.0


def test_nothing_seen_leaves_the_prior() -> None:
    exposure = Exposure(n_recurrences=0, exposure_days=0.0)
    assert exposure.expected_recurrences == pytest.approx(90 * PRIOR_SHAPE / PRIOR_RATE_DAYS)


def test_a_forecast_that_knows_of_an_end_lowers_the_expectation_and_none_raises_it() -> None:
    alive = Exposure(n_recurrences=8, exposure_days=72.0)
    assert alive.alive_probability == 1.0
    assert msgspec.structs.replace(alive, probability=0.98).alive_probability == 1.0
    ending = msgspec.structs.replace(alive, probability=0.1)
    assert ending.expected_recurrences == pytest.approx(alive.expected_recurrences * ending.alive_probability)
    assert ending.alive_probability < 0.2


def test_forecasts_that_come_true_too_seldom_lower_the_expectation() -> None:
    assert Calibration().ratio == 1.0
    assert Calibration(n_hits=0.0, n_foretold=90.0).ratio < 0.2
    assert 1.5 < Calibration(n_hits=950.0, n_foretold=475.0).ratio < 2.0


def test_a_burst_within_a_day_is_no_recurrence() -> None:
    burst = observed_exposure(40, T0, T0 + timedelta(hours=5))
    assert burst.n_recurrences == 0
    spread = observed_exposure(4, T0, T0 + timedelta(days=30))
    assert (spread.n_recurrences, spread.exposure_days) == (3, 30.0)


def test_severity_weight_is_the_mean_of_the_members() -> None:
    severity = ingest.Severity
    assert severity_weight({severity.P1: 1, severity.P3: 1}) == 5.0
    assert severity_weight({severity.P4: 7}) == 1.0
    assert severity_weight({}) == 2.0


@pytest.mark.parametrize(
    ("worth", "effort", "expected"),
    [
        (3.99, Effort.LOW, Impact.MEDIUM),
        (4.0, Effort.LOW, Impact.QUICK_WIN),
        (4.0, Effort.MEDIUM, Impact.HIGH),
        (50.0, Effort.HIGH, Impact.HIGH),
        (0.0, Effort.HIGH, Impact.MEDIUM),
    ],
)
def test_impact_class_follows_worth_and_effort(worth: float, effort: Effort, expected: Impact) -> None:
    assert impact_of(worth, effort) is expected


def test_less_effort_ranks_higher() -> None:
    assert EFFORT_DAYS[Effort.LOW] < EFFORT_DAYS[Effort.MEDIUM] < EFFORT_DAYS[Effort.HIGH]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(10.0, 10.99, False), (10.0, 11.0, True), (10.0, 9.0, True), (0.0, 0.0, False), (0.0, 0.1, True)],
)
def test_ten_per_cent_is_worth_an_event(before: float, after: float, expected: bool) -> None:
    assert is_material(before, after) is expected
