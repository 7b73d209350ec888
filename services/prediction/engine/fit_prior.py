"""Fits the shipped prior of Gamma-Poisson: `python -m services.prediction.engine.fit_prior A.parquet B.parquet`.

Each argument is a Parquet file with the columns `key` (the pattern) and `ts` (RFC 3339). Nothing imports this
module and the services never read such files; its printed numbers are copied into `gamma_poisson` with a date.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from services.prediction.engine.gamma_poisson import LEAST, MOST, Prior

Floats = npt.NDArray[np.float64]

_FIT_WINDOWS = (7.0, 30.0)
_STALE_DAYS = 365.0
_STEPS = 500
_START = (0.3, 10.0, 0.8, 0.5)


class Points(Struct, frozen=True):
    """Weekly forecasts to make: one entry per pattern and week in which it was active, oldest first.

    next_in: days to the next event, infinite when there is none. end: last day of the data.
    """

    name: str
    at: Floats
    n_recurrences: Floats
    exposure: Floats
    quiet: Floats
    next_in: Floats
    end: float


def load(path: Path) -> Points:
    """The points of a set: active is a key with two or more past events, the last at most 365 days ago."""
    table = pl.read_parquet(path, columns=["key", "ts"]).with_columns(
        pl.col("ts").str.to_datetime(time_zone="UTC")
    )
    days = (table["ts"] - table["ts"].min()).dt.total_seconds().to_numpy() / 86_400.0
    end = float(days.max())
    step = 7.0 if end >= 180.0 else 3.5
    by_key: dict[str, list[float]] = {}
    for key, day in sorted(zip(table["key"].to_list(), days.tolist(), strict=True)):
        by_key.setdefault(key, []).append(day)
    grid = np.arange(step, end, step)
    parts = np.concatenate([_points_of(np.array(events), grid) for events in by_key.values()])
    parts = parts[np.argsort(parts[:, 0], kind="stable")]
    at, n, exposure, quiet, next_in = parts.T
    return Points(path.parents[1].name, at, n, exposure, quiet, next_in, end)


def _points_of(events: Floats, grid: Floats) -> Floats:
    seen = np.searchsorted(events, grid, side="right")
    grid, seen = grid[seen >= 2], seen[seen >= 2]
    quiet = grid - events[seen - 1]
    fresh = quiet <= _STALE_DAYS
    grid, seen, quiet = grid[fresh], seen[fresh], quiet[fresh]
    taken = [events[0]]
    for event in events[1:]:
        if event - taken[-1] >= 1.0:
            taken.append(event)
    n = np.searchsorted(np.array(taken), grid, side="right") - 1
    following = np.append(events, np.inf)[seen]
    return np.column_stack([grid, n, grid - events[0], quiet, following - grid])


def chances(prior: Prior, points: Points, window: float) -> Floats:
    """`gamma_poisson.probability` over arrays."""
    n, now = points.n_recurrences, prior.rate_days + points.exposure
    log_odds = np.log(prior.dropout_a / (prior.dropout_b + np.maximum(n, 1) - 1))
    log_odds = log_odds + (prior.shape + n) * np.log(now / (now - points.quiet))
    alive = np.where(n > 0, 1.0 / (1.0 + np.exp(np.minimum(log_odds, 700.0))), 1.0)
    return np.clip(alive * (1.0 - (now / (now + window)) ** (prior.shape + n)), LEAST, MOST)


def loss(prior: Prior, sets: Sequence[Points]) -> float:
    """Log loss of what is forecast against what followed, each set in units of its own entropy, summed."""
    total = 0.0
    for points in sets:
        for window in _FIT_WINDOWS:
            ended = points.at + window <= points.end
            came = (points.next_in <= window)[ended]
            chance = chances(prior, points, window)[ended]
            share = came.mean()
            entropy = -(share * np.log(share) + (1 - share) * np.log1p(-share))
            total += float(-np.where(came, np.log(chance), np.log1p(-chance)).mean() / entropy)
    return total


def fit(sets: Sequence[Points]) -> Prior:
    """The prior with the least loss: empirical Bayes by predictive likelihood, Nelder-Mead in logarithms."""
    best = _nelder_mead(lambda x: loss(_prior(x), sets), np.log(np.array(_START)))
    return _prior(best)


def _prior(logs: Floats) -> Prior:
    shape, rate_days, dropout_a, dropout_b = (float(x) for x in np.exp(logs))
    # Nothing below these can be told apart on a few thousand points.
    dropout_a, dropout_b = max(0.001, dropout_a), max(0.005, dropout_b)
    return Prior(
        version="fitted",
        shape=shape,
        rate_days=1.0 + rate_days,
        dropout_a=dropout_a,
        dropout_b=dropout_b,
        fitted_on=(),
    )


def _nelder_mead(target: Callable[[Floats], float], start: Floats) -> Floats:
    """The minimum of `target` by the simplex of Nelder and Mead 1965, with the usual coefficients."""
    simplex = [start, *(start + 0.3 * axis for axis in np.eye(len(start)))]
    values = [target(x) for x in simplex]
    for _ in range(_STEPS):
        order = np.argsort(values)
        simplex, values = [simplex[i] for i in order], [values[i] for i in order]
        if values[-1] - values[0] < 1e-7:
            break
        centre = np.mean(simplex[:-1], axis=0)
        reflected = centre + (centre - simplex[-1])
        tried = [(target(reflected), reflected)]
        if tried[0][0] < values[0]:
            tried.append((target(centre + 2 * (centre - simplex[-1])), centre + 2 * (centre - simplex[-1])))
        elif tried[0][0] >= values[-2]:
            tried.append(
                (target(centre + 0.5 * (simplex[-1] - centre)), centre + 0.5 * (simplex[-1] - centre))
            )
        value, point = min(tried, key=lambda pair: pair[0])
        if value < values[-1]:
            simplex[-1], values[-1] = point, value
        else:
            simplex = [simplex[0], *(simplex[0] + 0.5 * (x - simplex[0]) for x in simplex[1:])]
            values = [values[0], *(target(x) for x in simplex[1:])]
    return simplex[int(np.argmin(values))]


def main(arguments: Sequence[str]) -> int:
    """Fit on all files together and print the prior."""
    parser = argparse.ArgumentParser(description="Fit the prior of Gamma-Poisson.")
    parser.add_argument("files", type=Path, nargs="+")
    print(fit([load(path) for path in parser.parse_args(arguments).files]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
