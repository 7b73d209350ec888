"""`causeloop webhooks`: addresses outside that events are sent to."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct
from rich.markup import escape

from causeloop.api import connected
from causeloop.console import answers, print_json, run_async, table
from causeloop.exits import ExitCode
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url

HELP: Final = "Have events sent to addresses of yours."

ADD_HELP: Final = """Have events sent to an address from now on.

  causeloop webhooks add https://example.com/causeloop issue.created pattern.detected

The secret that calls are signed with is shown once; docs/how-to/send-webhooks.md has a receiver that verifies.
"""

_ALL: Final = "/v1/webhooks"
_COLOURS: Final = {"healthy": "green", "degraded": "yellow", "down": "bold red"}


class Webhook(Struct, frozen=True):
    """An address that is told of events, as far as a list shows it."""

    id: str
    url: str
    event_types: list[str]
    connector_id: str | None
    is_active: bool
    disabled_reason: str | None
    health: str
    last_delivered_at: datetime | None


class _Page(Struct, frozen=True):
    data: list[Webhook]


class New(Struct, frozen=True):
    """A webhook that was made."""

    id: str
    secret: str


class Tested(Struct, frozen=True):
    """What a receiver said."""

    success: bool
    delivery_id: str
    response_status: int | None
    response_excerpt: str | None
    error: str | None
    duration_ms: int


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("list", help="List the webhooks of the workspace, with their health.")(show_all)
    group.command("add", help=ADD_HELP)(add)
    group.command("test", help="Send a test event now, and see what the receiver says.")(test)
    app.add_typer(group, name="webhooks")


def _group() -> None:
    """Have events sent."""


def show_all(
    url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False
) -> None:
    """List webhooks, newest first, at most 100."""

    async def work() -> _Page:
        async with connected(url=url, token=token, folder=data) as api:
            return await api.get(_ALL, _Page, params={"limit": "100"})

    found = run_async(work()).data
    if as_json:
        print_json(found)
        return
    grid = table("id", "address", "events", "health", "last delivered")
    for each in found:
        took = "never" if each.last_delivered_at is None else f"{each.last_delivered_at:%Y-%m-%d %H:%M}"
        stands = f"[{_COLOURS[each.health]}]{each.health}[/]" if each.is_active else "off"
        if each.disabled_reason is not None:
            stands = f"[bold red]off: {each.disabled_reason}[/]"
        grid.add_row(each.id, escape(each.url), " ".join(each.event_types), stands, took)
    answers().print(grid)


def add(
    address: Annotated[str, typer.Argument(metavar="URL", help="https, on the internet.")],
    events: Annotated[list[str], typer.Argument(metavar="EVENT…", help="Such as issue.created.")],
    connector: Annotated[str | None, typer.Option(help="Only events of this connector, by id.")] = None,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Make a webhook."""
    body = msgspec.json.encode({"url": address, "event_types": events, "connector_id": connector})

    async def work() -> New:
        async with connected(url=url, token=token, folder=data) as api:
            return await api.change("POST", _ALL, body, New)

    made = run_async(work())
    if as_json:
        print_json(made)
        return
    answers().print(f"{made.id} is told from now on. Its secret, shown once: {made.secret}", soft_wrap=True)


def test(
    webhook: Annotated[str, typer.Argument(metavar="ID", help="Of the webhook.")],
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Send a test event; exit code 1 when it is not taken."""

    async def work() -> Tested:
        async with connected(url=url, token=token, folder=data) as api:
            return await api.post(f"{_ALL}/{webhook}/test", b"{}", Tested)

    tested = run_async(work())
    if as_json:
        print_json(tested)
    else:
        said = tested.error if tested.response_status is None else f"answered {tested.response_status}"
        answers().print(
            f"{'Taken' if tested.success else 'Not taken'}: {escape(said or '')} after {tested.duration_ms} ms.",
            soft_wrap=True,
        )
    if not tested.success:
        raise typer.Exit(ExitCode.PROBLEM)
