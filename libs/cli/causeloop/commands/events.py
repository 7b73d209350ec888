"""`causeloop events`: read the log itself."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import nats
import nats.errors
import typer
from contracts import EVENT_TYPES, Event, Recorded, encode
from eventlog import EventLog
from msgspec import Struct
from nats.aio.client import Client
from rich.console import Console
from rich.text import Text

from causeloop.console import answers, run_async
from causeloop.exits import NotAvailableError, UsageError
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder
from causeloop.running import read_running

HELP: Final = "Read the event log itself, straight from NATS."

TAIL_HELP: Final = """Show events as they are recorded; Ctrl-C ends it.

  causeloop events tail
  causeloop events tail --from beginning --type PatternDetected
  causeloop events tail --aggregate issue/iss_01J… --from beginning --no-follow
  causeloop events tail --workspace ws_01J… --json | jq .data

It reads the log that the data folder names, or NATS_URL.
"""


class TailOptions(Struct, frozen=True, kw_only=True):
    """What to show."""

    workspace: str | None
    types: tuple[str, ...]
    aggregate_type: str | None
    aggregate_id: str | None
    start: str
    partition: int
    follow: bool
    as_json: bool


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("tail", help=TAIL_HELP)(tail)
    app.add_typer(group, name="events")


def _group() -> None:
    """Read the event log itself."""


def tail(
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="Only this workspace, such as ws_….")
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this event, such as PatternDetected; may be repeated."),
    ] = None,
    aggregate: Annotated[
        str | None,
        typer.Option("--aggregate", metavar="TYPE[/ID]", help="Only this kind of aggregate, or this one."),
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="SEQ|beginning|now", help="Where to begin.")
    ] = "now",
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more at the end of the log.")
    ] = True,
    partition: Annotated[int, typer.Option("--partition", min=0, help="Which partition of the log.")] = 0,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Show events as they are recorded."""
    kind, _, id_ = (aggregate or "").partition("/")
    options = TailOptions(
        workspace=workspace,
        types=tuple(_known_type(name) for name in type_ or ()),
        aggregate_type=kind or None,
        aggregate_id=id_ or None,
        start=start,
        partition=partition,
        follow=follow,
        as_json=as_json,
    )
    run_async(_tail(options, data))


async def _tail(options: TailOptions, folder: Path) -> None:
    client = await _connect(folder)
    try:
        log = await EventLog.connect(client, partitions=options.partition + 1, ensure_streams=False)
        console = answers()
        async for event in _events(log, options):
            _print(event, console, as_json=options.as_json)
    finally:
        await client.close()


async def _connect(folder: Path) -> Client:
    running = read_running(folder)
    url = running.nats_url if running is not None else os.environ.get("NATS_URL", "")
    advice = "Start Causeloop with `make up`, say where its data is with --data, or set NATS_URL."
    if not url:
        raise NotAvailableError(f"Causeloop does not run with the data folder {folder}", advice=advice)
    try:
        return await nats.connect(
            url, name="causeloop events tail", connect_timeout=5, max_reconnect_attempts=5
        )
    except (OSError, TimeoutError, nats.errors.Error) as error:
        raise NotAvailableError(
            f"NATS does not answer: {error or type(error).__name__}", advice=advice
        ) from error


async def _events(log: EventLog, options: TailOptions) -> AsyncIterator[Recorded[Event]]:
    """The events that the options ask for, in log order."""
    last = await log.last_seq(options.partition)
    aggregates = (options.aggregate_type,) if options.aggregate_type else ()
    batches = log.read(
        options.partition,
        after=_after(options.start, last),
        aggregates=aggregates,
        workspace_id=options.workspace,
        until=None if options.follow else last,
    )
    async for batch in batches:
        for event in batch.events:
            if _is_wanted(event, options):
                yield event


def _is_wanted(event: Recorded[Event], options: TailOptions) -> bool:
    if options.types and event.type not in options.types:
        return False
    return options.aggregate_id is None or event.aggregate_id == options.aggregate_id


def _after(start: str, last: int) -> int:
    match start:
        case "now":
            return last
        case "beginning":
            return 0
        case _ if start.isdigit():
            return max(int(start) - 1, 0)
        case _:
            raise UsageError(f"--from {start!r} is no sequence", advice="Give a number, beginning or now.")


def _known_type(name: str) -> str:
    """The full name of an event type given by its own or its short name."""
    for full in EVENT_TYPES:
        if name.lower() in {full.lower(), full.rpartition(".")[2].lower()}:
            return full
    short = ", ".join(sorted(full.rpartition(".")[2] for full in EVENT_TYPES))
    raise UsageError(f"there is no event {name!r}", advice=f"Events are {short}.")


def _print(event: Recorded[Event], console: Console, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(encode(event).decode() + "\n")
        sys.stdout.flush()
        return
    short = event.type.rpartition(".")[2]
    line = Text.assemble(
        (f"{event.seq:>8} ", "dim"),
        (f"{event.recorded_at:%H:%M:%S} ", "dim"),
        (f"{short:<26} ", "bold cyan"),
        (f"{event.subject} ", "green"),
        _gist(event.data),
    )
    console.print(line, soft_wrap=True)


def _gist(data: Event) -> str:
    """The fields that tell most about an event, on one line."""
    fields = msgspec.to_builtins(data)
    wanted = (
        "title",
        "name",
        "service",
        "severity",
        "status",
        "probability",
        "window_days",
        "outcome",
        "reason",
        "n_issues",
    )
    shown = [f"{name}={fields[name]}" for name in wanted if fields.get(name) not in (None, "")]
    return "  ".join(shown)[:160]
