"""Failures per day that a frozen forecast expects."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.forecasting import expected_counts

INPUTS = (
    '{"n_recurrences":3,"exposure_days":40.0,"quiet_days":2.0,"prior_shape":0.5,"prior_rate_days":30.0,'
    '"base_rate":0.3,"n_resolved":0}'
)


def test_expected_failures_agree_with_the_frozen_probability() -> None:
    """The chance of a failing day over the window gives back the probability, below and above the posterior's own."""
    for probability in (0.002, 0.4, 0.7, 0.98):
        day = expected_counts(INPUTS, probability=probability, window_days=30, sizes=())
        assert day.value == day.chance
        # Days of one rate are not independent, so their product is only a bound.
        assert 1 - (1 - day.chance) ** 30 >= probability - 1e-9
    # 3.5 recurrences in 70 days: one day of them has 1 - (70/71)^3.5, and the window 1 - (70/100)^3.5.
    own = 1 - (70 / 100) ** 3.5
    day = expected_counts(INPUTS, probability=own, window_days=30, sizes=())
    assert day.chance == pytest.approx(1 - (70 / 71) ** 3.5)
    halved = expected_counts(INPUTS, probability=own / 2, window_days=30, sizes=())
    assert halved.chance == pytest.approx(day.chance / 2)


def test_the_interval_of_a_count_holds_its_mean_and_knows_quiet_days() -> None:
    """A rare pattern's interval starts at none; a daily one's is that of its past days."""
    rare = expected_counts(INPUTS, probability=0.5, window_days=30, sizes=[1, 2, 30])
    assert (rare.lower, rare.mean_size) == (0.0, 11.0)
    assert rare.upper == rare.value == pytest.approx(rare.chance * 11)
    steady = (
        '{"n_recurrences":400,"exposure_days":401.0,"quiet_days":0.5,"prior_shape":0.5,"prior_rate_days":1.0,'
        '"base_rate":0.3,"n_resolved":0}'
    )
    daily = expected_counts(steady, probability=0.98, window_days=7, sizes=list(range(1, 11)))
    assert daily.lower <= daily.value <= daily.upper
    assert (daily.lower, daily.upper) == (0.0, 9.0)


@given(
    probability=st.floats(0.002, 0.98),
    n=st.integers(0, 500),
    exposure=st.floats(0, 5000),
    window_days=st.sampled_from([7, 30, 90]),
    sizes=st.lists(st.integers(1, 10_000), max_size=90),
)
@settings(max_examples=50)
def test_expected_failures_are_ordered_and_finite(
    probability: float, n: int, exposure: float, window_days: int, sizes: list[int]
) -> None:
    """Whatever was frozen, the chance is one and lower <= value <= upper."""
    inputs = (
        f'{{"n_recurrences":{n},"exposure_days":{exposure},"quiet_days":0,"prior_shape":0.0649,'
        '"prior_rate_days":9.82,"base_rate":0.3,"n_resolved":0}'
    )
    day = expected_counts(inputs, probability=probability, window_days=window_days, sizes=sizes)
    assert 0 < day.chance <= 1
    assert 0 <= day.lower <= day.value <= day.upper <= max([*sizes, 1])
