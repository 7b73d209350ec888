"""Folders for a process's life: those of processes that were killed are removed by the next one."""

import os
import shutil
import tempfile
from pathlib import Path

from runtime import children


def make(purpose: str) -> Path:
    """A new folder of mode 700 under the system's temporary folder; the caller removes it.

    purpose: a word for its name, "causeloop-<purpose>-<pid>-…".
    """
    for left in Path(tempfile.gettempdir()).glob(f"causeloop-{purpose}-*-*"):
        owner = left.name.removeprefix(f"causeloop-{purpose}-").split("-")[0]
        if owner.isdigit() and not children.is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"causeloop-{purpose}-{os.getpid()}-"))
