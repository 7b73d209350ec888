"""The folder of one embedded server: locked while in use, with its passwords and its log."""

import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Final

import msgspec

from runtime.errors import StartError

MIN_FREE_BYTES: Final = 256 * 1024 * 1024
MAX_LOG_BYTES: Final = 16 * 1024 * 1024


class EmbeddedServerError(StartError):
    """An embedded server does not start; the message says why and what to do."""


class PortInUseError(EmbeddedServerError):
    """Another program listens on the port."""


class FolderInUseError(EmbeddedServerError):
    """Another running Causeloop uses the data folder."""


class FolderAccessError(EmbeddedServerError):
    """The data folder cannot be read or written by this user."""


class DiskFullError(EmbeddedServerError):
    """There is no room left where the data folder is."""


class DataFolder:
    """One server's folder: made with mode 700, locked while in use, with its passwords and log."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path.absolute()
        self._what = what
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make and lock the folder; raises the EmbeddedServerError that says what is in the way."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise self.explain(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self.close()
            raise FolderInUseError(
                f"Causeloop already runs with the data folder {self.path} (process {holder}). "
                "Stop it first, or set CAUSELOOP_DATA to another folder."
            ) from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        if shutil.disk_usage(self.path).free < MIN_FREE_BYTES:
            self.close()
            raise self.full()

    def close(self) -> None:
        """Let the next one use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def full(self) -> DiskFullError:
        """The error of a full disk."""
        return DiskFullError(
            f"The disk under {self.path} is full: {self._what} needs at least {MIN_FREE_BYTES >> 20} MB. "
            "Free some space, or set CAUSELOOP_DATA to a folder on another disk."
        )

    def explain(self, error: OSError) -> EmbeddedServerError:
        """The typed error for what the system said about the folder."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self.full()
        return FolderAccessError(
            f"Cannot use the data folder {self.path}: {error.strerror}. "
            "Make it readable and writable for this user, or set CAUSELOOP_DATA to another folder."
        )

    def passwords(self, *names: str) -> dict[str, str]:
        """The generated password of each name, the same at every start."""
        path = self.path / "passwords.json"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
            missing = [name for name in names if name not in known]
            if missing:
                known.update({name: secrets.token_urlsafe(24) for name in missing})
                write_private(path, msgspec.json.encode(known))
        except OSError as error:
            raise self.explain(error) from error
        return known

    def log(self) -> IO[bytes]:
        """The server's log, begun anew when it has grown large."""
        path = self.path / "server.log"
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.old"))
        return path.open("ab")

    def last_words(self, since: int) -> str:
        """What the server wrote to its log after byte `since`."""
        with (self.path / "server.log").open("rb") as file:
            file.seek(since)
            return file.read()[-4000:].decode(errors="replace")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, never half of it."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)
