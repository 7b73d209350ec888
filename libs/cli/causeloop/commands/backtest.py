"""`causeloop backtest`: what would have been said of a file of the past, by the engines that run live."""

from pathlib import Path
from typing import Annotated, Final

import typer

from causeloop.exits import ExitCode, StorageError, UsageError
from causeloop.options import AsJson
from causeloop.service_runs import run_in_foreground

HELP: Final = (
    "Run the engines on a file of the past, without peeking and without servers, and score what they say."
)

RECURRENCE_HELP: Final = """Forecast a history of failures week by week, and score it against what then happened.

  causeloop backtest recurrence events.parquet
  causeloop backtest recurrence events.csv --points points.csv --out said.csv --plot reliability.png

FILE: Parquet or CSV with the columns ts (RFC 3339), key (the pattern) and, if you like, severity. Prints Brier \
score, skill over the base rate and calibration error for 7 and 30 days, and draws what was said against what \
happened beside FILE, or where --plot says.
"""

GROUPING_HELP: Final = """Group the issues of a file as they would have been grouped on arrival, and score that.

  causeloop backtest grouping bugs.jsonl.gz
  causeloop backtest grouping bugs.jsonl.gz --out assigned.jsonl --threshold 0.9

FILE: JSON Lines (.jsonl, .jsonl.gz) in the order of arrival, with id and, as far as they are known, ts, title, \
description, service, component, severity, source. Where lines also carry the true `group`, prints how the patterns \
agree with it, beside what doing nothing scores. --out gets {"id", "pattern_id"} of every issue, as assigned on arrival.
"""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("grouping", help=GROUPING_HELP)(grouping)
    group.command("recurrence", help=RECURRENCE_HELP)(recurrence)
    app.add_typer(group, name="backtest")


def _group() -> None:
    """Run the engines on a file of the past."""


def grouping(
    file: Annotated[Path, typer.Argument(help="JSON Lines, gzipped or not.")],
    out: Annotated[Path | None, typer.Option(help="JSON Lines to write: id, pattern_id.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Join at this certainty and above; default: that of a new workspace."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Group and score a history."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    if out is not None and not out.resolve().parent.is_dir():
        raise StorageError(f"{out} cannot be written", advice="Its folder does not exist.")
    words = [str(file.resolve())]
    words += ["--out", str(out.resolve())] if out else []
    words += ["--threshold", str(threshold)] if threshold is not None else []
    words += ["--json"] if as_json else []
    _run("services.pattern.backtest", words)


def recurrence(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV.")],
    points: Annotated[
        Path | None, typer.Option(help="CSV of T_iso,key: forecast these instead of every active key weekly.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write: T_iso,key,h,p for h in 7, 30.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to write; default: reliability.png here.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Also say what an alert at this probability had been worth."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast and score a history."""
    for given in (file, points):
        if given is not None and not given.is_file():
            raise UsageError(f"there is no file {given}")
    drawn = plot or Path("reliability.png")
    for made in (out, drawn):
        if made is not None and not made.resolve().parent.is_dir():
            raise StorageError(f"{made} cannot be written", advice="Its folder does not exist.")
    words = [str(file.resolve()), "--plot", str(drawn.resolve())]
    words += ["--points", str(points.resolve())] if points else []
    words += ["--out", str(out.resolve())] if out else []
    words += ["--threshold", str(threshold)] if threshold is not None else []
    words += ["--json"] if as_json else []
    _run("services.prediction.engine.backtest", words)


def _run(module: str, words: list[str]) -> None:
    code = run_in_foreground(module, words)
    if code:
        raise typer.Exit(code if code in tuple(ExitCode) else ExitCode.INTERNAL)
