"""`causeloop grouping`: the versions that a workspace's issues can be grouped by."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec import Struct

from causeloop.api import Api, connected
from causeloop.console import answers, messages, print_json, run_async, table
from causeloop.exits import NotAvailableError
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url

HELP: Final = "See the versions that a workspace's issues can be grouped by, and switch between them."

LIST_HELP: Final = """List the versions, newest first.

  causeloop grouping list
"""

ACTIVATE_HELP: Final = """Group new issues by a version from now on; `shipped` goes back to the one that comes with the product.

  causeloop grouping activate gv_01… --dry-run
  causeloop grouping activate gv_01…

--dry-run switches nothing on: each of the latest reports is decided once more by this version and by the active one, \
and what would have moved is printed. It takes up to some minutes, and can be asked for every five minutes.
"""

_VERSIONS: Final = "/v1/grouping/versions"
COMPARED_WITHIN_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 0.5


class Fit(Struct, frozen=True):
    """How well a version was fitted. log_loss, shipped_log_loss: on decisions held out, in nats."""

    fitted_at: datetime
    decision_count: int
    log_loss: float
    shipped_log_loss: float


class Version(Struct, frozen=True):
    """A version. fit: None: it is the shipped one."""

    id: str
    status: str
    fit: Fit | None


class Versions(Struct, frozen=True):
    """All versions. reason: why there is none of the workspace's own."""

    data: tuple[Version, ...]
    reason: str | None


class Move(Struct, frozen=True):
    """An issue that would have been put elsewhere; a pattern that is None would have been a new one."""

    issue_id: str
    title: str
    from_pattern_id: str | None
    to_pattern_id: str | None
    from_score: float | None
    to_score: float | None


class Diff(Struct, frozen=True):
    """What would have moved, of the reports that were asked about."""

    run_id: str
    base_version_id: str
    asked_count: int
    moved_count: int
    joining_count: int
    leaving_count: int
    moves: tuple[Move, ...]


class Compared(Struct, frozen=True):
    """The latest comparison; None: there is none yet."""

    data: Diff | None


class Begun(Struct, frozen=True):
    """A comparison that is to come."""

    run_id: str


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("list", help=LIST_HELP)(list_)
    group.command("activate", help=ACTIVATE_HELP)(activate)
    app.add_typer(group, name="grouping")


def _group() -> None:
    """Versions of the grouping."""


def list_(
    url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False
) -> None:
    """List the versions."""

    async def work() -> Versions:
        async with connected(url=url, token=token, folder=data) as api:
            return await api.get(_VERSIONS, Versions, params={"limit": "100"})

    found = run_async(work())
    if as_json:
        print_json(found)
        return
    grid = table("version", "status", "decisions", "loss", "shipped", right=("decisions", "loss", "shipped"))
    for each in found.data:
        fit = each.fit
        numbers = (
            ("", "", "")
            if fit is None
            else (f"{fit.decision_count:,}", f"{fit.log_loss:.3f}", f"{fit.shipped_log_loss:.3f}")
        )
        grid.add_row(each.id, each.status, *numbers)
    answers().print(grid)
    if found.reason:
        messages().print(found.reason, soft_wrap=True)


def activate(
    version: Annotated[str, typer.Argument(help="Id of a version, or `shipped`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would have moved.")] = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Switch a version on, or say what that would have moved."""
    if dry_run:
        diff = run_async(_compared(version, url, token, data))
        print_json(diff) if as_json else _print(diff)
        return
    active = run_async(_activated(version, url, token, data))
    if as_json:
        print_json(active)
    else:
        answers().print(f"New issues are grouped by {active.id} from now on.", soft_wrap=True)


async def _activated(version: str, url: str | None, token: str | None, folder: Path) -> Version:
    async with connected(url=url, token=token, folder=folder) as api:
        return await api.post(f"{_VERSIONS}/{version}/activate", b"", Version)


async def _compared(version: str, url: str | None, token: str | None, folder: Path) -> Diff:
    async with connected(url=url, token=token, folder=folder) as api:
        begun = await api.post(f"{_VERSIONS}/{version}/diff", b"", Begun)
        return await _diff(api, version, begun.run_id)


async def _diff(api: Api, version: str, run_id: str) -> Diff:
    """The comparison that was asked for, once it is done."""
    try:
        async with asyncio.timeout(COMPARED_WITHIN_SECONDS):
            while True:
                found = (await api.get(f"{_VERSIONS}/{version}/diff", Compared)).data
                if found is not None and found.run_id == run_id:
                    return found
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError as error:
        raise NotAvailableError(
            f"the comparison was not done within {COMPARED_WITHIN_SECONDS:.0f} s",
            advice=f"It goes on; GET {_VERSIONS}/{version}/diff shows it.",
        ) from error


def _print(diff: Diff) -> None:
    answers().print(
        f"Of the latest {diff.asked_count:,} reports, {diff.moved_count:,} would have been put elsewhere than by "
        f"{diff.base_version_id}: {diff.joining_count:,} into a pattern instead of a new one, "
        f"{diff.leaving_count:,} into a new one instead of a pattern. Nothing was moved.",
        soft_wrap=True,
    )
    if not diff.moves:
        return
    grid = table("issue", "title", "from", "to")
    for move in diff.moves:
        grid.add_row(
            move.issue_id,
            move.title,
            _place(move.from_pattern_id, move.from_score),
            _place(move.to_pattern_id, move.to_score),
        )
    answers().print(grid)


def _place(pattern_id: str | None, score: float | None) -> str:
    certainty = "" if score is None else f" ({score:.2f})"
    return f"{pattern_id or 'a new pattern'}{certainty}"
