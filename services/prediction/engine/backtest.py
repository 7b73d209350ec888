"""Forecasts a file of past events as if it were happening, and scores that: nothing later than a moment is used for it.

`python -m services.prediction.engine.backtest FILE [--points CSV] [--out CSV] [--plot PNG] [--json]`; the command
`causeloop backtest recurrence` runs this. The forecasts are those of the engine that runs live.
"""

import argparse
import csv
import resource
import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import polars as pl
from msgspec import Struct

from services.prediction.engine.behaviour import STALE_DAYS, Behaviour, begin
from services.prediction.engine.fitting import Learner
from services.prediction.engine.forecasting import base_rate
from services.prediction.engine.picture import reliability_picture
from services.prediction.engine.recurrence import Model, opinions
from services.prediction.engine.scoring import (
    ROLLING_DAYS,
    Bin,
    Score,
    brier_nano,
    calibration_error,
    reliability,
)

WINDOWS: Final = (7, 30)
SHORT_DAYS: Final = 180.0
_SECONDS: Final = 86_400.0

Progress = Callable[[float], None]


class Events(Struct, frozen=True):
    """A file: its events as (day, key), oldest first, counted from the first, which was at `start`."""

    start: datetime
    rows: list[tuple[float, str]]

    @property
    def end(self) -> float:
        """Day of the last event."""
        return self.rows[-1][0]


class Said(Struct, frozen=True):
    """A forecast: of which key, when, what the product says and what the base rate so far said then.

    is_judged: the base rate was known, because the window of an earlier forecast had ended. is_by_base_rate: the models
    were behind it, so the base rate answers.
    """

    at: float
    key: str
    window_days: int
    probability: float
    base_rate: float
    is_judged: bool
    is_by_base_rate: bool


class Result(Struct, frozen=True, kw_only=True):
    """How the forecasts of one window did; those whose window the file does not cover, and those made
    before any window had ended, are not counted.
    """

    window_days: int
    n: int
    n_hits: int
    brier: float
    base_rate_brier: float
    skill: float
    calibration_error: float
    n_by_base_rate: int
    bins: tuple[Bin | None, ...]
    alerts: "Alerts | None" = None


class Alerts(Struct, frozen=True):
    """What an alert threshold would have been worth.

    n: alerts, each when a key's forecast reached the threshold from below. n_true: followed by an event in the window.
    recall: share of the forecasts that came true which were at or above the threshold. lead_days: median time from a
    true alert to its event.
    """

    threshold: float
    n: int
    n_true: int
    recall: float | None
    lead_days: float | None


class Report(Struct, frozen=True, kw_only=True):
    """What a backtest prints."""

    file: str
    n_events: int
    n_keys: int
    n_points: int
    results: tuple[Result, ...]
    seconds: float
    microseconds_per_probability: float
    peak_mb: float


def read_events(path: Path) -> Events:
    """The columns `ts` (RFC 3339 or a timestamp) and `key` of a Parquet or CSV file.

    Raises ValueError when the file has none of these, or no rows.
    """
    table = pl.read_csv(path) if path.suffix.lower() == ".csv" else pl.read_parquet(path)
    if not {"ts", "key"} <= set(table.columns):
        raise ValueError(f"{path} needs the columns ts and key; it has {', '.join(table.columns)}")
    table = table.select("ts", "key").drop_nulls()
    if not table.height:
        raise ValueError(f"{path} has no events")
    ts = table["ts"].str.to_datetime(time_zone="UTC") if table["ts"].dtype == pl.String else table["ts"]
    if ts.dtype.base_type() != pl.Datetime:
        raise ValueError(f"{path}: ts holds {ts.dtype}, not times")
    ts = ts.dt.replace_time_zone("UTC") if getattr(ts.dtype, "time_zone", None) is None else ts
    micros = ts.dt.epoch("us").to_list()
    ordered = sorted(zip(micros, table["key"].cast(pl.String).to_list(), strict=True))
    first = ordered[0][0]
    return Events(
        datetime.fromtimestamp(0, UTC) + timedelta(microseconds=first),
        [((micro - first) / 1e6 / _SECONDS, key) for micro, key in ordered],
    )


def read_points(path: Path, start: datetime) -> dict[float, list[str]]:
    """Lines `T_iso,key`, with or without a heading, by day since `start`.

    Raises ValueError for a line that is not that.
    """
    points: dict[float, list[str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if not row or (number == 1 and row[0].strip().lower() in {"t_iso", "t", "ts"}):
                continue
            try:
                at = datetime.fromisoformat(row[0].strip())
                key = row[1]
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}, line {number}: not T_iso,key") from error
            at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            points.setdefault((at - start).total_seconds() / _SECONDS, []).append(key)
    return points


def forecasts(events: Events, points: Mapping[float, Sequence[str]], progress: Progress) -> Iterator[Said]:
    """Weekly forecasts of every active key, or of the given points.

    points: keys by day; empty: of every key with two events or more, the last at most 365 days ago, every 7 days
    (3.5 in a file shorter than 180 days). The record that may call the base rate is that of the weekly forecasts.
    """
    learner, record = Learner(), _Record()
    step = 7.0 if events.end >= SHORT_DAYS else 3.5
    n_weeks = int(max([events.end, *points]) / step)
    weekly = {
        round((number + 1) * step, 6)
        for number in range(n_weeks)
        if (number + 1) * step < max([events.end, *points])
    }
    place = 0
    for at in sorted(weekly | points.keys()):
        while place < len(events.rows) and events.rows[place][0] <= at:
            day, key = events.rows[place]
            learner.observe(day, key)
            record.happened(key, day)
            place += 1
        record.resolve(at)
        if at in weekly or learner.model is None:
            learner.refit(at, WINDOWS)
        if at in weekly:
            active = ((key, state) for key, state in learner.patterns.items() if is_active(state, at))
            for said in record.say(active, at, learner.model):
                if not points:
                    yield said
        known = learner.patterns
        wanted = ((key, known.get(key) or begin(at)) for key in points.get(at, ()))
        yield from record.say(wanted, at, learner.model, is_kept=False)
        progress(at / max([events.end, *points, 1e-9]))


def is_active(state: Behaviour, at: float) -> bool:
    """Whether a pattern is forecast: two events or more, the last at most 365 days ago."""
    return state.n_events >= 2 and at - state.last_at <= STALE_DAYS


class _Open(Struct):
    at: float
    key: str
    window_days: int
    model: float
    base_rate: float | None


class _Record:
    """What became of earlier forecasts, learned only when their window has ended; it falls back as the product does.

    The base rate of the decision is the product's; the one that a report compares with is the share of all so far.
    """

    def __init__(self) -> None:
        self._open: dict[int, deque[_Open]] = {window: deque() for window in WINDOWS}
        self._resolved: dict[int, deque[tuple[float, bool, int, int]]] = {
            window: deque() for window in WINDOWS
        }
        self._sums: dict[int, list[int]] = {window: [0, 0, 0, 0] for window in WINDOWS}
        self._ever: dict[int, list[int]] = {window: [0, 0] for window in WINDOWS}
        self._times: dict[str, list[float]] = {}

    def happened(self, key: str, at: float) -> None:
        self._times.setdefault(key, []).append(at)

    def resolve(self, now: float) -> None:
        for window, waiting in self._open.items():
            done, sums, ever = self._resolved[window], self._sums[window], self._ever[window]
            while waiting and waiting[0].at + window <= now:
                one = waiting.popleft()
                is_hit = came(self._times[one.key], one.at, window)
                is_known = one.base_rate is not None
                entry = (
                    one.at + window,
                    is_hit,
                    brier_nano(one.model, is_hit=is_hit) if is_known else 0,
                    0 if one.base_rate is None else brier_nano(one.base_rate, is_hit=is_hit),
                )
                done.append(entry)
                _add(sums, entry, 1)
                ever[0] += 1
                ever[1] += is_hit
            while done and done[0][0] < now - ROLLING_DAYS:
                _add(sums, done.popleft(), -1)

    def score(self, window: int) -> Score:
        done = self._resolved[window]
        n, hits, brier, base = self._sums[window]
        return Score(n, hits, brier, base, done[-1][0] - done[0][0] if done else 0.0)

    def rate_so_far(self, window: int) -> float:
        n, hits = self._ever[window]
        return (hits + 0.5) / (n + 1)

    def say(
        self,
        patterns: Iterator[tuple[str, Behaviour]],
        at: float,
        model: Model | None,
        *,
        is_kept: bool = True,
    ) -> Iterator[Said]:
        scores = [self.score(window) for window in WINDOWS]
        bases = [base_rate(model, score, window) for score, window in zip(scores, WINDOWS, strict=True)]
        behind = [(score.skill(window) or 0.0) < 0.0 for score, window in zip(scores, WINDOWS, strict=True)]
        so_far = [self.rate_so_far(window) for window in WINDOWS]
        for key, state in patterns:
            floor = 0.0
            for place, one in enumerate(opinions(state, at, WINDOWS, model)):
                window = WINDOWS[place]
                if is_kept:
                    known = bases[place] if model is not None or scores[place].n_resolved else None
                    self._open[window].append(_Open(at, key, window, one.probability, known))
                floor = max(floor, bases[place] if behind[place] else one.probability)
                is_judged = self._ever[window][0] > 0
                yield Said(at, key, window, floor, so_far[place], is_judged, behind[place])


def came(times: Sequence[float], at: float, window_days: float) -> bool:
    """Whether there is an event in (at, at + window]; `times` ascend."""
    after = bisect_right(times, at)
    return after < len(times) and times[after] <= at + window_days


def judge(said: Sequence[Said], events: Events, window: int) -> Result:
    """Score the forecasts of a window whose end the file covers."""
    times: dict[str, list[float]] = {}
    for day, key in events.rows:
        times.setdefault(key, []).append(day)
    judged = [
        (one, came(times.get(one.key, ()), one.at, window))
        for one in said
        if one.window_days == window and one.is_judged and one.at + window <= events.end
    ]
    n = max(len(judged), 1)
    error = sum((one.probability - is_hit) ** 2 for one, is_hit in judged) / n
    reference = sum((one.base_rate - is_hit) ** 2 for one, is_hit in judged) / n
    bins = reliability([(one.probability, is_hit) for one, is_hit in judged])
    return Result(
        window_days=window,
        n=len(judged),
        n_hits=sum(is_hit for _, is_hit in judged),
        brier=error,
        base_rate_brier=reference,
        skill=1.0 - error / reference if reference else 0.0,
        calibration_error=calibration_error(bins),
        n_by_base_rate=sum(one.is_by_base_rate for one, _ in judged),
        bins=tuple(bins),
    )


def would_have_fired(said: Sequence[Said], events: Events, window: int, threshold: float) -> Alerts:
    """The alerts of a draft threshold over the file's own history, by the rule that runs live."""
    times: dict[str, list[float]] = {}
    for day, key in events.rows:
        times.setdefault(key, []).append(day)
    last: dict[str, float] = {}
    n = n_true = n_hits = n_caught = 0
    leads: list[float] = []
    for one in said:
        if one.window_days != window or one.at + window > events.end:
            continue
        of_key = times.get(one.key, [])
        is_hit, is_above = came(of_key, one.at, window), one.probability >= threshold
        n_hits, n_caught = n_hits + is_hit, n_caught + (is_hit and is_above)
        if is_above and last.get(one.key, 0.0) < threshold:
            n, n_true = n + 1, n_true + is_hit
            if is_hit:
                leads.append(of_key[bisect_right(of_key, one.at)] - one.at)
        last[one.key] = one.probability
    return Alerts(
        threshold, n, n_true, n_caught / n_hits if n_hits else None, median(leads) if leads else None
    )


def _add(sums: list[int], entry: tuple[float, bool, int, int], sign: int) -> None:
    for place, value in enumerate((1, int(entry[1]), entry[2], entry[3])):
        sums[place] += sign * value


def _write(path: Path, said: Sequence[Said], start: datetime) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["T_iso", "key", "h", "p"])
        for one in said:
            at = (start + timedelta(days=one.at)).isoformat().replace("+00:00", "Z")
            writer.writerow([at, one.key, one.window_days, f"{one.probability:.6f}"])


def _print(report: Report) -> None:
    print(
        f"{report.file}: {report.n_events:,} events of {report.n_keys:,} keys, {report.n_points:,} forecasts"
    )
    print("window  scored     hits  Brier   of base rate  skill   ECE")
    for one in report.results:
        print(
            f"{one.window_days:4} d {one.n:8,} {one.n_hits / max(one.n, 1):8.1%}  {one.brier:.4f}  {one.base_rate_brier:.4f}"
            f"       {one.skill:+.3f}  {one.calibration_error:.3f}"
            + (f"  ({one.n_by_base_rate:,} by the base rate)" if one.n_by_base_rate else "")
        )
    for one in report.results:
        if (alerts := one.alerts) is not None:
            precision = f"{alerts.n_true / alerts.n:.0%} true" if alerts.n else "none"
            lead = "" if alerts.lead_days is None else f", {alerts.lead_days:.1f} days ahead (median)"
            recall = "" if alerts.recall is None else f"; {alerts.recall:.0%} of what came back was above"
            print(
                f"{one.window_days:4} d  at {alerts.threshold:.2f}: {alerts.n:,} alerts, {precision}{lead}{recall}"
            )
    print(
        f"{report.seconds:.1f} s, {report.microseconds_per_probability:.0f} µs a probability with learning,"
        f" at most {report.peak_mb:.0f} MB"
    )


def _bar(share: float) -> None:
    filled = int(30 * share)
    sys.stderr.write(f"\r{'█' * filled}{'░' * (30 - filled)} {share:4.0%}")
    sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """Run a backtest; 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(prog="causeloop backtest recurrence", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--points", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    began = time.process_time()
    try:
        events = read_events(asked.file)
        points = {} if asked.points is None else read_points(asked.points, events.start)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 2
    show = _bar if sys.stderr.isatty() else _no_bar
    said = list(forecasts(events, points, show))
    if sys.stderr.isatty():
        sys.stderr.write("\r" + " " * 40 + "\r")
    seconds = time.process_time() - began
    report = Report(
        file=str(asked.file),
        n_events=len(events.rows),
        n_keys=len({key for _, key in events.rows}),
        n_points=len(said) // len(WINDOWS),
        results=tuple(_result(said, events, window, asked.threshold) for window in WINDOWS),
        seconds=seconds,
        microseconds_per_probability=1e6 * seconds / max(len(said), 1),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    if asked.out is not None:
        _write(asked.out, said, events.start)
    if asked.plot is not None:
        asked.plot.write_bytes(
            reliability_picture([(f"{one.window_days} D", one.bins) for one in report.results])
        )
    if asked.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        _print(report)
    return 0


def _result(said: Sequence[Said], events: Events, window: int, threshold: float | None) -> Result:
    result = judge(said, events, window)
    if threshold is None:
        return result
    return msgspec.structs.replace(result, alerts=would_have_fired(said, events, window, threshold))


def _no_bar(share: float) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
