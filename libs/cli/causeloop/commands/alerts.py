"""`causeloop alerts`: the probability at which a forecast becomes an alert."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct

from causeloop.api import connected
from causeloop.console import answers, print_json, run_async, table
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url

HELP: Final = "Decide at which probability a forecast becomes an alert."

THRESHOLD_HELP: Final = """Set the probability at which forecasts become alerts, or try one out on the past.

  causeloop alerts threshold 0.8 --dry-run
  causeloop alerts threshold 0.8

--dry-run changes nothing: it takes the forecasts that this workspace really got, and says which would have fired, \
which of those came true, and how long before.
"""


class Alert(Struct, frozen=True):
    """An alert that would have fired. outcome: hit, miss, prevented or open."""

    pattern_id: str
    pattern_name: str | None
    probability: float
    at: datetime
    outcome: str


class Tried(Struct, frozen=True):
    """What a threshold would have done. precision, recall: in [0, 1]; None where nothing is decided yet."""

    probability: float
    window_days: int
    since: datetime
    fired: int
    hits: int
    misses: int
    undecided: int
    precision: float | None
    recall: float | None
    lead_time_days: float | None
    alerts: tuple[Alert, ...]


class Settings(Struct, frozen=True):
    """The settings of a workspace, as far as alerts go."""

    alert_probability: float


class Workspace(Struct, frozen=True):
    """A workspace, as far as alerts go."""

    settings: Settings


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("threshold", help=THRESHOLD_HELP)(threshold)
    app.add_typer(group, name="alerts")


def _group() -> None:
    """When a forecast becomes an alert."""


def threshold(
    probability: Annotated[float, typer.Argument(min=0.0, max=1.0, help="In [0, 1].")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would have done.")] = False,
    window: Annotated[int, typer.Option(help="With --dry-run: forecasts for 7 or 30 days.")] = 7,
    days: Annotated[
        int, typer.Option(min=1, max=365, help="With --dry-run: how many days to look back.")
    ] = 90,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Set a threshold, or try it."""
    if dry_run:
        tried = run_async(_tried(probability, window, days, url, token, data))
        print_json(tried) if as_json else _print(tried)
        return
    now = run_async(_set(probability, url, token, data))
    if as_json:
        print_json(now.settings)
    else:
        answers().print(f"Forecasts of {now.settings.alert_probability:g} and more are alerts from now on.")


async def _tried(
    probability: float, window: int, days: int, url: str | None, token: str | None, folder: Path
) -> Tried:
    draft = {"probability": probability, "window_days": window, "days": days}
    async with connected(url=url, token=token, folder=folder) as api:
        return await api.post("/v1/predictions/dry-run", msgspec.json.encode(draft), Tried)


async def _set(probability: float, url: str | None, token: str | None, folder: Path) -> Workspace:
    change = {"alert_probability": probability}
    async with connected(url=url, token=token, folder=folder) as api:
        return await api.change("PATCH", "/v1/workspace", msgspec.json.encode(change), Workspace)


def _print(tried: Tried) -> None:
    share = (
        "none of them decided yet" if tried.precision is None else f"{tried.precision:.0%} of those decided"
    )
    caught = "" if tried.recall is None else f" It caught {tried.recall:.0%} of what came true."
    lead = "" if tried.lead_time_days is None else f" On average {tried.lead_time_days:.1f} days before."
    answers().print(
        f"Since {tried.since:%Y-%m-%d}, at {tried.probability:g} within {tried.window_days} days, {tried.fired:,} alerts "
        f"would have fired: {tried.hits:,} hits, {tried.misses:,} misses, {tried.undecided:,} undecided ({share})."
        f"{caught}{lead} Nothing was changed.",
        soft_wrap=True,
    )
    if not tried.alerts:
        return
    grid = table("pattern", "probability", "at", "outcome", right=("probability",))
    for alert in tried.alerts:
        grid.add_row(
            alert.pattern_name or alert.pattern_id,
            f"{alert.probability:.2f}",
            f"{alert.at:%Y-%m-%d %H:%M}",
            alert.outcome,
        )
    answers().print(grid)
