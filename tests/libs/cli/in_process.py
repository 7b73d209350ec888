"""`causeloop …` without a process of its own: starting Python and importing it takes most of a second of processor."""

import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from causeloop.__main__ import run
from msgspec import Struct


class Shown(Struct, frozen=True):
    """What a command showed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def causeloop(*arguments: str, cwd: Path, **environment: str) -> Shown:
    """Run one command line in a folder, with these environment variables and no others."""
    stdout, stderr = StringIO(), StringIO()
    with (
        chdir(cwd),
        patch.dict(os.environ, {"PATH": "/usr/bin:/bin", **environment}, clear=True),
        patch.object(sys, "argv", ["causeloop", *arguments]),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        code = run(arguments)
    return Shown(code, stdout.getvalue(), stderr.getvalue())
