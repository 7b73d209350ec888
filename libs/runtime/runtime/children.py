"""Child processes that never outlive this one, and what is left of an earlier run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO

from msgspec import Struct

_IS_LINUX: bool = sys.platform.startswith("linux")
_LAUNCH = str(Path(__file__).with_name("_launch.py"))


class Account(Struct, frozen=True):
    """A system account to run a child as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    output: IO[bytes] | int | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own that gets `death_signal` when this process dies.

    output: file or descriptor for stdout and stderr; None discards both.
    """
    who = ("-", "-") if account is None else (str(account.uid), str(account.gid))
    launch = [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), str(int(death_signal)), *who]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*launch, *command],
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    if threading.current_thread() is threading.main_thread():
        return start()
    # On Linux the signal comes when the thread that forked ends, so it must be one that never does.
    return _immortal_thread().submit(start).result()


@cache
def _immortal_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawn")


def stop(
    child: subprocess.Popen[bytes], *, first: signal.Signals, patience: float, last: signal.Signals
) -> None:
    """Signal a child with `first`, and with `last` and then SIGKILL when it does not end."""
    for number, seconds in ((first, patience), (last, 3.0), (signal.SIGKILL, 10.0)):
        if child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
        return


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # On Linux it has ended since; elsewhere there is no such file.
        return not _IS_LINUX
    return status.rpartition(")")[2].split()[0] != "Z"


def command_of(pid: int) -> str:
    """The command line of a process, empty when it cannot be read."""
    try:
        if _IS_LINUX:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    except OSError:
        return ""
    return shown.stdout.decode(errors="replace")


def working_folder_of(pid: int) -> Path | None:
    """The folder a process works in, None when it cannot be read (another system or another user)."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def end_orphan(pid: int, *, first: signal.Signals, patience: float = 10.0) -> bool:
    """End a process that an earlier run left behind; whether it is gone."""
    for number, seconds in ((first, patience), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            if not is_alive(pid):
                return True
            time.sleep(0.02)
    return not is_alive(pid)
