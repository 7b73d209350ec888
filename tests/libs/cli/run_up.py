"""Runs `causeloop up` over a folder with stand-in services: python run_up.py ROOT."""

import asyncio
import os
import sys
from pathlib import Path

from causeloop.console import answers, print_error
from causeloop.exits import CliError
from causeloop.up.settings import UpSettings
from causeloop.up.supervisor import Supervisor
from runtime.settings import load

if __name__ == "__main__":
    settings = load(UpSettings, os.environ)
    supervisor = Supervisor(settings, os.environ, root=Path(sys.argv[1]), console=answers(), verbose=True)
    try:
        asyncio.run(supervisor.run())
    except CliError as error:
        print_error(error)
        sys.exit(error.exit_code)
