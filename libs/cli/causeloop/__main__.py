"""The `causeloop` command: finds the command that is meant and loads only that one."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import typer

from causeloop.console import print_error
from causeloop.exits import CliError, ExitCode
from causeloop.options import FLAGS, WITH_VALUE

COMMANDS: Final[Mapping[str, str]] = {
    "up": "up",
    "status": "status",
    "import": "import_file",
    "sources": "sources",
    "connectors": "connectors",
    "webhooks": "webhooks",
    "export": "export",
    "events": "events",
    "replay": "replay",
    "verify": "verify",
    "token": "token",
    "migrate": "migrate",
    "clients": "clients",
    "audit": "audit",
    "provision-key": "provision_key",
    "backtest": "backtest",
    "grouping": "grouping",
    "alerts": "alerts",
}
"""Command → module in causeloop.commands."""

_GROUPS: Final = frozenset(
    {"events", "clients", "audit", "backtest", "sources", "connectors", "webhooks", "grouping", "alerts"}
)
"""Commands that have commands of their own."""

HELP: Final = """Causeloop: from raw failures to verified fixes.

Start it with [bold]make up[/bold], then for instance:

  causeloop import incidents.jsonl.gz      put failures in
  causeloop status                         see whether all is well
  causeloop export patterns found.csv      take findings out
  causeloop events tail                    watch facts as they are recorded

Exit codes: 0 done and well; 1 a problem was found; 2 wrong usage; 69 something needed does not \
answer or is taken; 70 a bug; 73 a file or folder cannot be written; 77 the API refused; 130 Ctrl-C.
"""


def build(names: Sequence[str]) -> typer.Typer:
    """The command line with the commands that are named, or with all when none is."""
    app = typer.Typer(
        name="causeloop",
        help=HELP,
        rich_markup_mode="rich",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    chosen = [name for name in COMMANDS if name in names] or list(COMMANDS)
    for name in chosen:
        # By name, so that `causeloop up` does not pay for the imports of `causeloop import` (polars: 0.7 s).
        module = importlib.import_module(f"causeloop.commands.{COMMANDS[name]}")
        module.register(app)
    return app


def _root() -> None:
    """Hold the commands together; without it a lone command would lose its name."""


def arranged(arguments: Sequence[str]) -> list[str]:
    """The arguments with shared options that stand before the command moved behind it."""
    first: list[str] = []
    rest = list(arguments)
    while rest and (rest[0] in FLAGS or rest[0].partition("=")[0] in WITH_VALUE):
        n_words = 2 if rest[0] in WITH_VALUE else 1
        first, rest = first + rest[:n_words], rest[n_words:]
    return (
        [*rest[:1], *first, *rest[1:]]
        if rest and rest[0] in COMMANDS and rest[0] not in _GROUPS
        else [*rest, *first]
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        app = build([word for word in arguments if not word.startswith("-")])
        app(arranged(arguments))
    except CliError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else ExitCode.OK
    return ExitCode.OK


def main() -> None:
    """Entry point of the `causeloop` script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
