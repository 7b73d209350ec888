"""What a running `causeloop up` tells the other commands, through a file in its data folder."""

import os
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

SERVICES: Final = ("gateway", "ingest", "pattern", "prediction", "recommendation")
"""The five services, in the order of their ports: PORT, PORT + 1, …"""

FILE_NAME: Final = "running.json"


class Running(Struct, frozen=True, kw_only=True):
    """Where a started Causeloop can be reached. Holds passwords: the file is mode 600."""

    pid: int
    started_at: datetime
    urls: dict[str, str]
    """Service → address of its dashboard; the gateway's is also that of the API."""
    nats_url: str
    environment: dict[str, str]
    """What `python -m services.<s> replay` needs to be told."""


def write_running(folder: Path, running: Running) -> None:
    """Save it for the other commands."""
    content = msgspec.json.format(msgspec.json.encode(running), indent=2)
    write_private(folder / FILE_NAME, content)


def read_running(folder: Path) -> Running | None:
    """What the last `up` on this folder wrote; None when there was none. It may have ended since."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Running)
    except (FileNotFoundError, NotADirectoryError, PermissionError, msgspec.DecodeError):
        return None


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
