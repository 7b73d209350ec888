"""What a pattern's past says in numbers: a state that grows by one event at a time, and what is read from it."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from services.prediction.engine.gamma_poisson import MIXED, History, probability

HALF_LIVES: Final = (3.5, 14.0, 45.0, 150.0, 500.0)
"""Days after which an event counts half, from the hectic to the patient."""
N_BURST: Final = 3
"""Single events are counted with the first three of them, episodes with all five."""
APART_DAYS: Final = 1.0
STALE_DAYS: Final = 365.0

_FADE: Final = tuple(math.log(2.0) / half_life for half_life in HALF_LIVES)
_GAP_MEMORY: Final = 0.8
_FLOOR: Final = 0.02
_MOMENT_DAYS: Final = 0.25

FEATURES: Final = (
    "quiet", "age", "n_events", "n_episodes",
    "pace_3.5d", "pace_14d", "pace_45d", "pace_150d", "pace_500d", "burst_3.5d", "burst_14d", "burst_45d",
    "typical_gap", "gap_spread", "last_gap", "overdue", "has_gap",
    "n_active", "week_over_quarter", "month_over_year", "events_per_pattern", "gamma_poisson",
)  # fmt: skip
"""What the regression sees, in this order; docs/reference/forecast.md says what each is."""


class Behaviour(Struct):
    """A pattern's events so far, in days since any fixed moment; kept in O(1) memory, grown in order of time.

    pace: episodes and burst: events, each counted with weight 2^(-age ÷ half-life), as of `episode_at` and `last_at`.
    gap_weight, gap_sum, gap_square: of the logarithms of gaps between episodes, each newer one weighing 1.25 times
    the one before. last_gap: of the last two episodes; 0 while there is one only.
    """

    first_at: float
    last_at: float
    episode_at: float
    n_events: int
    n_episodes: int
    pace: list[float]
    burst: list[float]
    gap_weight: float
    gap_sum: float
    gap_square: float
    last_gap: float


class Surroundings(Struct, frozen=True):
    """How busy the workspace is.

    n_active: patterns with two events or more, the last at most 365 days ago. rates: events per day of all
    patterns together, by half-life.
    """

    n_active: int
    rates: tuple[float, ...]


def begin(at: float) -> Behaviour:
    """A pattern with its first event."""
    return Behaviour(at, at, at, 1, 1, [1.0] * len(HALF_LIVES), [1.0] * N_BURST, 0.0, 0.0, 0.0, 0.0)


def grow(state: Behaviour, at: float) -> None:
    """Add an event, not older than the last one."""
    since = at - state.last_at
    state.burst = [count * math.exp(-since * _FADE[k]) + 1.0 for k, count in enumerate(state.burst)]
    state.last_at = at
    state.n_events += 1
    gap = at - state.episode_at
    if gap < APART_DAYS:
        return
    state.pace = [count * math.exp(-gap * _FADE[k]) + 1.0 for k, count in enumerate(state.pace)]
    log_gap = math.log(gap)
    state.gap_weight = state.gap_weight * _GAP_MEMORY + 1.0
    state.gap_sum = state.gap_sum * _GAP_MEMORY + log_gap
    state.gap_square = state.gap_square * _GAP_MEMORY + log_gap * log_gap
    state.last_gap = gap
    state.episode_at = at
    state.n_episodes += 1


def behaviour(days: Iterable[float]) -> Behaviour:
    """The state after these events, in any order, at least one."""
    ordered = sorted(days)
    state = begin(ordered[0])
    for at in ordered[1:]:
        grow(state, at)
    return state


def history_of(state: Behaviour, at: float) -> History:
    """What the Gamma-Poisson model looks at."""
    return History(
        n_recurrences=state.n_episodes - 1,
        exposure_days=max(0.0, at - state.first_at),
        quiet_days=max(0.0, at - state.last_at),
    )


def paces(state: Behaviour, at: float) -> list[float]:
    """Faded counts of episodes at a moment, by half-life."""
    since = max(0.0, at - state.episode_at)
    return [count * math.exp(-since * fade) for count, fade in zip(state.pace, _FADE, strict=True)]


def bursts(state: Behaviour, at: float) -> list[float]:
    """Faded counts of events at a moment, by the first three half-lives."""
    since = max(0.0, at - state.last_at)
    return [count * math.exp(-since * _FADE[k]) for k, count in enumerate(state.burst)]


def rates(counts: Sequence[float], observed_days: float) -> tuple[float, ...]:
    """Events per day from faded counts that began to be counted so many days ago."""
    days = max(observed_days, 1.0)
    return tuple(count * fade / -math.expm1(-days * fade) for count, fade in zip(counts, _FADE, strict=True))


def intensities(
    state: Behaviour, at: float, window_days: float, around: Surroundings, faded: Sequence[float]
) -> list[float]:
    """What each of eight simple models expects within the window, in episodes; `faded` is what `paces` gives.

    The five half-lives, the mean rate of the whole life, one in 100 days, and the mean of the workspace's patterns.
    """
    expected = [count * -math.expm1(-window_days * _FADE[k]) for k, count in enumerate(faded)]
    expected.append((state.n_episodes - 1) / (max(0.0, at - state.first_at) + 10.0) * window_days)
    expected.append(window_days / 100.0)
    expected.append((around.rates[1] + 0.01) / max(around.n_active, 1) * window_days)
    return expected


def features(state: Behaviour, at: float, around: Surroundings, faded: Sequence[float]) -> list[float]:
    """All of FEATURES but the last, which depends on the window."""
    quiet = max(0.0, at - state.last_at)
    age = max(0.0, at - state.first_at)
    log_quiet, log_age = math.log(quiet + _MOMENT_DAYS), math.log(age + 1.0)
    if state.n_episodes > 1:
        typical = state.gap_sum / state.gap_weight
        spread = math.sqrt(max(0.0, state.gap_square / state.gap_weight - typical * typical))
        last_gap, has_gap = math.log(state.last_gap), 1.0
    else:
        typical, spread, last_gap, has_gap = log_age, 1.0, log_age, 0.0
    per_day, n_active = around.rates, max(around.n_active, 1)
    return [
        log_quiet,
        log_age,
        math.log(state.n_events),
        math.log(state.n_episodes),
        *(math.log(count + _FLOOR) for count in faded),
        *(math.log(count + _FLOOR) for count in bursts(state, at)),
        typical,
        spread,
        last_gap,
        log_quiet - typical,
        has_gap,
        math.log(n_active),
        math.log((per_day[0] + 0.01) / (per_day[2] + 0.01)),
        math.log((per_day[1] + 0.01) / (per_day[3] + 0.01)),
        math.log((per_day[1] + 0.01) / n_active),
    ]


def gamma_poisson(state: Behaviour, at: float, window_days: float) -> float:
    """What the Gamma-Poisson model says, in [0.002, 0.98]."""
    return probability(history_of(state, at), window_days, prior=MIXED)


def logit(chance: float) -> float:
    """Log odds of a probability in (0, 1)."""
    return math.log(chance / (1.0 - chance))
