"""The forecast: its law, its calibration on simulated patterns, and the two failures that it must not have."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.prediction.engine.episodes import episodes, history
from services.prediction.engine.gamma import lower_share, quantile
from services.prediction.engine.gamma_poisson import (
    LEAST,
    MIXED,
    MOST,
    WINDOWS_DAYS,
    History,
    Prior,
    alive,
    expected_next_days,
    interval,
    probability,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = Prior(version="test", shape=1.3, rate_days=40.0, dropout_a=1e-9, dropout_b=1.0, fitted_on=())

HISTORIES = st.builds(
    lambda n, exposure, quiet_share: History(
        n_recurrences=n, exposure_days=exposure, quiet_days=exposure * quiet_share
    ),
    st.integers(0, 3_000),
    st.floats(0.0, 4_000.0),
    st.floats(0.0, 1.0),
)


def days(*numbers: float) -> list[datetime]:
    return [NOW + timedelta(days=number) for number in numbers]


@given(HISTORIES)
def test_a_longer_window_is_never_less_likely(known: History) -> None:
    """Probabilities grow with the window and stay inside [0.002, 0.98]."""
    chances = [probability(known, window) for window in (1, *WINDOWS_DAYS, 365)]
    assert chances == sorted(chances)
    assert chances[0] >= LEAST
    assert chances[-1] <= MOST


@given(HISTORIES, st.sampled_from(WINDOWS_DAYS))
def test_the_interval_is_ordered_and_in_range(known: History, window: int) -> None:
    """Whatever the history."""
    lower, upper = interval(known, window)
    assert LEAST <= lower <= upper <= MOST


@given(HISTORIES, st.sampled_from(WINDOWS_DAYS))
def test_the_same_numbers_give_the_same_answer(known: History, window: int) -> None:
    """Nothing but the history decides."""
    assert probability(known, window) == probability(known, window)


@given(HISTORIES)
def test_the_expected_time_is_where_the_probability_is_one_half(known: History) -> None:
    """The median of the predictive distribution, when it lies within a year."""
    median = expected_next_days(known)
    if median is not None and median > 0.01:
        assert probability(known, median) == pytest.approx(0.5, abs=1e-6)
        assert median <= 365.0


@pytest.mark.parametrize(
    ("shape", "x", "share"),
    [(1.0, 1.0, 1 - math.exp(-1)), (2.0, 3.0, 1 - 4 * math.exp(-3)), (0.5, 0.5, math.erf(math.sqrt(0.5)))],
)
def test_the_gamma_distribution_agrees_with_closed_forms(shape: float, x: float, share: float) -> None:
    """Shapes whose distribution function is elementary."""
    assert lower_share(shape, x) == pytest.approx(share, abs=1e-12)


@given(st.floats(0.05, 3_000.0), st.floats(0.01, 0.99))
def test_the_quantile_inverts_the_distribution(shape: float, share: float) -> None:
    """Through the quantile and back gives the share."""
    assert lower_share(shape, quantile(shape, share)) == pytest.approx(share, abs=1e-7)


def test_intervals_cover_the_true_probability_eight_times_in_ten() -> None:
    """Patterns simulated from the prior itself: the true chance lies inside the 80 % interval in 80 % of them."""
    rng = random.Random(20261122)
    inside = trials = 0
    for _ in range(4_000):
        rate = rng.gammavariate(PLAIN.shape, 1 / PLAIN.rate_days)
        exposure = rng.uniform(10.0, 400.0)
        known = History(
            n_recurrences=_poisson(rng, rate * exposure),
            exposure_days=exposure,
            quiet_days=min(exposure, rng.expovariate(rate)),
        )
        lower, upper = interval(known, 30.0, prior=PLAIN)
        truth = min(MOST, max(LEAST, 1 - math.exp(-rate * 30.0)))
        inside += lower <= truth <= upper
        trials += 1
    assert inside / trials == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("window", WINDOWS_DAYS)
def test_forecasts_of_patterns_that_die_are_calibrated(window: int) -> None:
    """Gamma-mixed patterns with dropout, as the shipped prior has them: calibration error at most 0.03."""
    prior = Prior(version="test", shape=0.8, rate_days=20.0, dropout_a=0.6, dropout_b=1.8, fitted_on=())
    rng = random.Random(window)
    said: list[tuple[float, bool]] = []
    for _ in range(6_000):
        known, next_in = _simulated(rng, prior)
        said.append((probability(known, window, prior=prior), next_in <= window))
    assert _ece(said) <= 0.03


def test_a_dormant_pattern_that_wakes_is_heard_at_once() -> None:
    """Ten recurrences, ten months of silence, one event: from next to nothing back to a chance that counts."""
    past = days(*(-420 + 6 * n for n in range(11)))
    assert probability(history(past, now=NOW), 30) < 0.05
    assert probability(history([*past, NOW - timedelta(hours=1)], now=NOW), 30) > 0.4


def test_a_slow_ramp_reaches_the_alert_threshold() -> None:
    """Gaps that shrink from 30 days to 2: the forecast rises all the way and passes 0.7, without a ceiling."""
    times, gap = [NOW - timedelta(days=260)], 30.0
    chances = []
    while times[-1] + timedelta(days=gap) < NOW:
        times.append(times[-1] + timedelta(days=gap))
        gap = max(2.0, gap * 0.88)
        chances.append(probability(history(times, now=times[-1]), 30))
    assert chances[3:] == sorted(chances[3:])
    assert chances[-1] >= 0.7


def test_long_quiet_after_a_fast_rate_speaks_against_it() -> None:
    """Twenty recurrences in twenty days, then none for a year: it is probably over."""
    busy = History(n_recurrences=20, exposure_days=20.0, quiet_days=0.0)
    over = History(n_recurrences=20, exposure_days=385.0, quiet_days=365.0)
    assert alive(busy) > 0.95
    assert alive(over) < 0.01
    assert expected_next_days(over) is None


def test_events_less_than_a_day_apart_are_one_episode() -> None:
    """A burst counts once; a steady stream counts once a day."""
    assert len(episodes(days(0, 0.1, 0.2, 0.9))) == 1
    assert len(episodes(days(0, 1, 2.5, 2.6))) == 3
    assert len(episodes(NOW + timedelta(hours=n) for n in range(24 * 10))) == 10


@given(st.lists(st.floats(-400, 0), min_size=1, max_size=40), st.randoms())
def test_the_order_of_arrival_does_not_matter(numbers: list[float], rng: random.Random) -> None:
    """Late and shuffled reports give the same history."""
    times = days(*numbers)
    shuffled = times.copy()
    rng.shuffle(shuffled)
    assert history(times, now=NOW) == history(shuffled, now=NOW)


def test_the_shipped_prior_is_dated_and_names_its_data() -> None:
    """A prior is an artefact with a version, never a number in passing."""
    assert MIXED.version.rpartition("@")[2].count("-") == 2
    assert MIXED.fitted_on


def _poisson(rng: random.Random, mean: float) -> int:
    count, waited = 0, rng.expovariate(1.0)
    while waited < mean:
        count, waited = count + 1, waited + rng.expovariate(1.0)
    return count


def _simulated(rng: random.Random, prior: Prior) -> tuple[History, float]:
    """A pattern that recurs at a Gamma rate and may end after each recurrence: what is seen, and what follows."""
    rate = rng.gammavariate(prior.shape, 1 / prior.rate_days)
    dropout = rng.betavariate(prior.dropout_a, prior.dropout_b)
    exposure = rng.uniform(5.0, 300.0)
    n, last, time = 0, 0.0, rng.expovariate(rate)
    while time <= exposure:
        n, last = n + 1, time
        time = math.inf if rng.random() < dropout else time + rng.expovariate(rate)
    return History(n_recurrences=n, exposure_days=exposure, quiet_days=exposure - last), time - exposure


def _ece(said: list[tuple[float, bool]]) -> float:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for one in said:
        bins.setdefault(min(9, int(one[0] * 10)), []).append(one)
    gaps = (abs(sum(p for p, _ in part) - sum(hit for _, hit in part)) for part in bins.values())
    return sum(gaps) / len(said)
