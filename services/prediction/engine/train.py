"""Makes the shipped weights: `OPENBLAS_NUM_THREADS=1 python -m services.prediction.engine.train A/public/events.parquet B/... > weights.py`.

Each file has the columns `key` (the pattern) and `ts` (RFC 3339). Nothing imports this module and the services never
read such files. Every file weighs the same. Its output is `weights.py`, dated, and never edited by hand.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from services.prediction.engine.fitting import Floats, Learner, Point, fit_mix, tabled
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS

_POINTS_PER_FILE = 1_500
_ANY_MIX = (0.1,) * 8
_WIDE = 1.0
_SECONDS = 86_400.0


def load(path: Path) -> list[tuple[float, str]]:
    """The events of a file as (day, key), oldest first, counted from the first."""
    table = pl.read_parquet(path, columns=["key", "ts"]).with_columns(
        pl.col("ts").str.to_datetime(time_zone="UTC")
    )
    table = table.sort("ts", maintain_order=True)
    days = (table["ts"] - table["ts"][0]).dt.total_seconds().to_numpy() / _SECONDS
    return list(zip(days.tolist(), table["key"].to_list(), strict=True))


def sample(events: Sequence[tuple[float, str]], window: int) -> list[Point]:
    """Points whose window has ended, evenly taken from a file's whole time."""
    learner = _Hoarder()
    for at, key in events:
        learner.observe(at, key)
    ended = [point for point in learner.points if point.at + window <= events[-1][0]]
    return ended[:: max(1, len(ended) // _POINTS_PER_FILE)]


class _Hoarder(Learner):
    """A learner whose points can be taken."""

    @property
    def points(self) -> list[Point]:
        return self._points


def main(arguments: Sequence[str]) -> int:
    """Fit on all files together and print the module."""
    parser = argparse.ArgumentParser(description="Make the shipped weights of the recurrence model.")
    parser.add_argument("files", type=Path, nargs="+")
    files: list[Path] = parser.parse_args(arguments).files
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # With more, the order of sums, and so their last bits, would be that of the machine's cores.
        parser.error("set OPENBLAS_NUM_THREADS=1, so that the same files give the same weights")
    past = [load(path) for path in files]
    mixes: dict[int, Floats] = {}
    centres: dict[int, Floats] = {}
    scales: dict[int, Floats] = {}
    for place, window in enumerate(WINDOWS_DAYS):
        points = [point for events in past for point in sample(events, window)]
        came = np.array([1.0 if point.next_at - point.at <= window else 0.0 for point in points])
        expected, known = tabled(points, place)
        mixes[window] = fit_mix(expected, came, np.ones(len(points)), _ANY_MIX, _WIDE)
        centres[window], scales[window] = known.mean(axis=0), known.std(axis=0) + 1e-6
    names = ", ".join(path.parents[1].name for path in files)
    print(
        f'"""Shipped weights of the recurrence model, made by train.py on {datetime.now(UTC):%Y-%m-%d}."""\n'
    )
    print("from collections.abc import Mapping\nfrom typing import Final\n")
    print(f"# Fitted on {names}.")
    for name, values in (("MIX", mixes), ("CENTRES", centres), ("SCALES", scales)):
        print(f"{name}: Final[Mapping[int, tuple[float, ...]]] = {{")
        for window, row in values.items():
            print(f"    {window}: ({', '.join(_short(value) for value in row)}),")
        print("}")
    return 0


def _short(value: float) -> str:
    return "0.0" if value == 0.0 else f"{value:.{max(1, 4 - math.floor(math.log10(abs(value))))}f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
