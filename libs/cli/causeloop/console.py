"""Running and printing: answers go to standard output, everything else to standard error."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from causeloop.exits import CliError, ExitCode

R = TypeVar("R")


def answers() -> Console:
    """The console for what was asked for."""
    return Console(highlight=False)


def messages() -> Console:
    """The console for progress, warnings and errors."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_error(error: CliError) -> None:
    """Print what is wrong and what to do."""
    console = messages()
    console.print(Text.assemble(("✗ ", "bold red"), (error.message, "bold")), soft_wrap=True)
    if error.advice:
        console.print(Text(f"  {error.advice}"), soft_wrap=True)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the look of all commands; the columns named in `right` hold numbers."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            # The first column names the row.
            no_wrap=column == columns[0],
        )
    return grid


def run_async(command: Coroutine[object, object, R]) -> R:
    """Run a command's coroutine; Ctrl-C ends it with the exit code that shells expect."""
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        messages().print("Stopped.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
