"""What is said of a pattern: for each window the model's probability, or the base rate while the model is behind it."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from msgspec import Struct

from services.prediction.engine.behaviour import HALF_LIVES, Behaviour, Surroundings, history_of, logit, paces
from services.prediction.engine.gamma_poisson import (
    HORIZON_DAYS,
    MIN_EXPOSURE_DAYS,
    MIN_RECURRENCES,
    MIXED,
    WINDOWS_DAYS,
    clamp,
    expected_next_days,
    interval,
)
from services.prediction.engine.recurrence import (
    VERSION,
    Driver,
    Model,
    Opinion,
    drivers,
    opinions,
    sigmoid,
)
from services.prediction.engine.scoring import MIN_RECORD, NO_SCORE, Score

GAMMA_POISSON: Final = "gamma_poisson"
ENSEMBLE: Final = "ensemble"
BASE_RATE: Final = "base_rate"
BASE_RATE_VERSION: Final = "base-rate@2026-11-22"

_Z_80: Final = 1.2815515655446004


class Forecast(Struct, frozen=True, kw_only=True):
    """The answer for one window; lower and upper are the ends of the 80 % interval of the probability.

    expected_next_days: median days to the next recurrence, None beyond 365. said: what the models say, whichever
    answers. base_rate: what the models are compared with. skill: None while the record is short.
    """

    window_days: int
    probability: float
    lower: float
    upper: float
    expected_next_days: float | None
    model: str
    model_version: str
    said: Opinion
    base_rate: float
    skill: float | None
    drivers: tuple[Driver, ...]
    low_confidence: bool


def forecast(
    state: Behaviour,
    at: float,
    *,
    model: Model | None = None,
    scores: Mapping[int, Score] | None = None,
    min_resolved: int = MIN_RECORD,
    windows: Sequence[int] = WINDOWS_DAYS,
) -> list[Forecast]:
    """One answer per window, shortest first; a longer window is never less probable, whatever answers.

    scores: resolved forecasts of the last twelve months by window.
    """
    answers: list[Forecast] = []
    floor = 0.0
    for window, said in zip(windows, opinions(state, at, windows, model), strict=True):
        score = (scores or {}).get(window, NO_SCORE)
        base = base_rate(model, score, window)
        skill = score.skill(window, min_resolved=min_resolved)
        falls_back = skill is not None and skill < 0.0
        answers.append(
            _by_base_rate(state, at, window, said, floor=floor, base=base, skill=skill, score=score)
            if falls_back
            else _by_model(state, at, window, said, floor=floor, base=base, skill=skill, model=model)
        )
        floor = answers[-1].probability
    return answers


def base_rate(model: Model | None, score: Score, window_days: int) -> float:
    """How often patterns of this workspace recur within the window: by what was fitted, else by resolved forecasts."""
    fitted = None if model is None else model.of(window_days)
    return clamp(score.base_rate if fitted is None else fitted.base_rate)


def _by_model(
    state: Behaviour,
    at: float,
    window: int,
    said: Opinion,
    *,
    floor: float,
    base: float,
    skill: float | None,
    model: Model | None,
) -> Forecast:
    chance = max(floor, said.probability)
    known = history_of(state, at)
    # The spread is that of Gamma-Poisson, moved with the probability in log odds.
    moved = logit(chance) - logit(said.gamma_poisson)
    lower, upper = (clamp(sigmoid(logit(end) + moved)) for end in interval(known, window, prior=MIXED))
    is_fitted = said.regression is not None
    return Forecast(
        window_days=window,
        probability=chance,
        lower=min(lower, chance),
        upper=max(upper, chance),
        expected_next_days=expected_next_days(known, prior=MIXED),
        model=ENSEMBLE if is_fitted else GAMMA_POISSON,
        model_version=VERSION if is_fitted else MIXED.version,
        said=said,
        base_rate=base,
        skill=skill,
        drivers=drivers(state, at, window, model, base_rate=base, probability=chance),
        low_confidence=_is_thin(state, at),
    )


def _by_base_rate(
    state: Behaviour,
    at: float,
    window: int,
    said: Opinion,
    *,
    floor: float,
    base: float,
    skill: float | None,
    score: Score,
) -> Forecast:
    """The share of patterns that recur, with its Wilson interval; what a shorter window says where that is more."""
    chance = max(floor, base)
    n = max(score.n_resolved, 1)
    centre = (base + _Z_80**2 / (2 * n)) / (1 + _Z_80**2 / n)
    half = _Z_80 / (1 + _Z_80**2 / n) * math.sqrt(base * (1 - base) / n + _Z_80**2 / (4 * n * n))
    next_days = math.log(2.0) * window / -math.log1p(-base)
    return Forecast(
        window_days=window,
        probability=chance,
        lower=min(chance, clamp(centre - half)),
        upper=max(chance, clamp(centre + half)),
        expected_next_days=next_days if next_days <= HORIZON_DAYS else None,
        model=BASE_RATE,
        model_version=BASE_RATE_VERSION,
        said=said,
        base_rate=base,
        skill=skill,
        drivers=(),
        low_confidence=_is_thin(state, at),
    )


def _is_thin(state: Behaviour, at: float) -> bool:
    return state.n_episodes - 1 < MIN_RECURRENCES or at - state.first_at < MIN_EXPOSURE_DAYS


def why(driver: Driver, state: Behaviour, at: float, model: Model | None) -> str:
    """A driver in a sentence, with its numbers."""
    quiet, age = at - state.last_at, at - state.first_at
    gap = math.exp(state.gap_sum / state.gap_weight) if state.gap_weight else age
    match driver.kind:
        case "history":
            return f"{state.n_episodes - 1} recurrences in {age:.1f} days, the last {quiet:.1f} days ago."
        case "pace":
            return f"Of late {paces(state, at)[1]:.1f} episodes, counted half after 14 days."
        case "silence":
            return f"Quiet for {quiet:.1f} days; a usual gap is {gap:.1f} days."
        case "frequency":
            return f"{state.n_events} events in {state.n_episodes} episodes."
        case "rhythm":
            return f"The last gap was {state.last_gap:.1f} days, a usual one is {gap:.1f}; known for {age:.1f} days."
        case "workspace":
            around = Surroundings(0, (0.0,) * len(HALF_LIVES)) if model is None else model.around
            return f"{around.n_active} patterns are active here, with {around.rates[1]:.1f} failures a day of late."
        case _:
            assert_never(driver.kind)
