"""`causeloop up`: run all of Causeloop on this machine, in the foreground."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from runtime.settings import SettingsError, load

from causeloop.console import answers
from causeloop.exits import UsageError
from causeloop.service_runs import repository
from causeloop.up.settings import UpSettings, with_env_file
from causeloop.up.supervisor import Supervisor

HELP: Final = """Run all of Causeloop on this machine; Ctrl-C stops it.

Starts PostgreSQL and NATS (its own, or those that DATABASE_URL and NATS_URL name), brings the database up to \
date, starts the five services and starts again whatever ends. Everything is kept in one data folder, so the \
next start goes on where this one ends.

  make up                                  the same, with a demo: USE_MOCK=1
  PORT=5000 causeloop up                   on ports 5000 to 5004
  CAUSELOOP_DATA=/srv/causeloop causeloop up
  causeloop up --verbose                   show what the services log
  USE_MOCK=1 causeloop up --no-story       any token is accepted, and only your failures are in it

Settings come from the environment and from the file .env; .env.example explains all of them.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", help=HELP)(up)


def up(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the services' logs.")] = False,
    story: Annotated[
        bool, typer.Option("--story/--no-story", help="With USE_MOCK=1: tell the demo's story.")
    ] = True,
) -> None:
    """Run everything until Ctrl-C."""
    environment = with_env_file(os.environ, Path(".env"))
    try:
        settings = load(UpSettings, environment)
    except SettingsError as error:
        raise UsageError(str(error)) from error
    supervisor = Supervisor(
        settings, environment, root=repository(), console=answers(), verbose=verbose, with_story=story
    )
    asyncio.run(supervisor.run())
