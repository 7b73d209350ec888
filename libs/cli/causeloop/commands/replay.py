"""`causeloop replay`: build a read model anew from the log."""

from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct

from causeloop.console import answers, messages, print_json, run_async
from causeloop.exits import CliError
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder
from causeloop.service_runs import RunResult, chosen, run_maintenance

HELP: Final = """Build a service's read model anew from the log, beside the live one, then switch in one transaction.

Nothing stops meanwhile, and nothing is decided again: reactions do not run in a replay.

  causeloop replay gateway
  causeloop replay pattern --json
"""


class Replayed(Struct, frozen=True):
    """What the service prints."""

    service: str
    version: str
    positions: dict[str, int]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay", help=HELP)(replay)


def replay(
    service: Annotated[str, typer.Argument(help="gateway, ingest, pattern, prediction or recommendation.")],
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Build a read model anew."""
    (name,) = chosen([service])
    with messages().status(f"Building the read model of {name} again …"):
        result = run_async(run_maintenance(name, "replay", data))
    replayed = _decoded(result)
    if as_json:
        print_json(replayed)
        return
    positions = ", ".join(f"partition {number} at {seq:,}" for number, seq in replayed.positions.items())
    answers().print(f"{name}: built again and switched; {positions}")


def _decoded(result: RunResult) -> Replayed:
    if result.exit_code != 0:
        raise CliError(
            f"{result.service} could not be replayed", advice=(result.errors or result.output)[-2000:].strip()
        )
    return msgspec.json.decode(result.output, type=Replayed)
