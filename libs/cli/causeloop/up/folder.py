"""The data folder: held by one `up` at a time, with the secrets and the logs in it."""

import base64
import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from causeloop.exits import CliError, NotAvailableError, StorageError
from causeloop.running import FILE_NAME, read_running, write_private

MIN_FREE_BYTES: Final = 256 * 1024 * 1024
MAX_LOG_BYTES: Final = 16 * 1024 * 1024
ROLES: Final = ("causeloop_owner", "causeloop_projector", "causeloop_app")


class Secrets(Struct, frozen=True, kw_only=True):
    """What is generated once; only this user can read it."""

    jwt_secret: str
    master_key: str
    """32 bytes, base64."""
    role_passwords: dict[str, str]


class DataFolder:
    """The folder that holds everything; `open` takes it for this process."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make and lock the folder. The system frees the lock of a process that died, so none gets stale.

        Raises NotAvailableError when another `up` has it, StorageError when it cannot be written or is full.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise self.explain(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._taken(self._lock) from error
        if free < MIN_FREE_BYTES:
            raise self._full()
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def close(self) -> None:
        """Let another `up` have the folder."""
        if self._lock is not None:
            (self.path / FILE_NAME).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def secrets(self) -> Secrets:
        """The secrets of this folder, made at the first time."""
        path = self.path / "secrets.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Secrets)
        except FileNotFoundError:
            made = Secrets(
                jwt_secret=secrets.token_urlsafe(48),
                master_key=base64.b64encode(secrets.token_bytes(32)).decode(),
                role_passwords={role: secrets.token_urlsafe(24) for role in ROLES},
            )
        except msgspec.DecodeError as error:
            raise StorageError(
                f"{path} is damaged: {error}", advice="Put it back from a copy, or move the folder away."
            ) from error
        except OSError as error:
            raise self.explain(error) from error
        try:
            write_private(path, msgspec.json.encode(made))
        except OSError as error:
            raise self.explain(error) from error
        return made

    def log_path(self, service: str) -> Path:
        """Where a service writes what it has to say."""
        return self.path / "logs" / f"{service}.log"

    def open_log(self, service: str) -> IO[bytes]:
        """A service's log to append to, begun anew when it has grown large."""
        path = self.log_path(service)
        try:
            if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
                path.replace(path.with_suffix(".log.old"))
            return path.open("ab")
        except OSError as error:
            raise self.explain(error) from error

    def explain(self, error: OSError) -> CliError:
        """What the system said about the folder, with what to do."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return self._full()
        return StorageError(
            f"the data folder {self.path} cannot be used: {error.strerror}",
            advice="Make it writable for this user, or set CAUSELOOP_DATA to another folder.",
        )

    def _full(self) -> StorageError:
        return StorageError(
            f"the disk under {self.path} is full: at least {MIN_FREE_BYTES >> 20} MB must be free",
            advice="Free some space, or set CAUSELOOP_DATA to a folder on another disk.",
        )

    def _taken(self, lock: IO[str]) -> NotAvailableError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        self._lock = None
        running = read_running(self.path)
        where = f" at {running.urls['gateway']}" if running is not None else ""
        return NotAvailableError(
            f"Causeloop already runs with the data folder {self.path}{where} (process {holder})",
            advice="Use that one, stop it with Ctrl-C in its terminal, or set CAUSELOOP_DATA and PORT for a second one.",
        )
