"""The service processes: started, watched, started again with back-off, stopped."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from runtime import children

from causeloop.exits import CliError, ExitCode
from causeloop.up.folder import DataFolder

POLL_SECONDS: Final = 0.2
STOP_SECONDS: Final = 8.0
STEADY_SECONDS: Final = 60.0
PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LAST_LINES: Final = 12

Say = Callable[[str], None]


class StartFailedError(CliError):
    """A service ended before it was ready."""

    exit_code = ExitCode.INTERNAL


class ServicePlan(Struct, frozen=True, kw_only=True):
    """How one service is started and where it answers."""

    name: str
    url: str
    environment: dict[str, str]


class ServiceProcess:
    """One service as a child process."""

    def __init__(self, plan: ServicePlan, *, root: Path, folder: DataFolder) -> None:
        self.plan = plan
        self._root = root
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._started_at = 0.0
        self._n_failures = 0

    def start(self) -> None:
        """Start it; on the main thread, since on Linux a child dies with the thread that started it."""
        with self._folder.open_log(self.plan.name) as log:
            self._log_start = log.tell()
            self._child = children.spawn(
                [sys.executable, "-m", f"services.{self.plan.name}", "serve"],
                env=self.plan.environment,
                cwd=self._root,
                output=log,
            )
        self._started_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs or before it was started."""
        return None if self._child is None else self._child.poll()

    def last_lines(self) -> str:
        """What it wrote last since it was started."""
        with self._folder.log_path(self.plan.name).open("rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-8000:].decode(errors="replace").splitlines()
        return "\n".join(f"  {self.plan.name} │ {readable(line)}" for line in lines[-LAST_LINES:])

    def failure(self) -> StartFailedError:
        """That it ended before it was ready."""
        return StartFailedError(
            f"{self.plan.name} ended with exit code {self.exit_code} before it was ready\n{self.last_lines()}",
            advice=f"Its whole log: {self._folder.log_path(self.plan.name)}",
        )

    async def watch(self, say: Say) -> None:
        """Start it again whenever it ends, after a pause that grows while it keeps failing; for ever."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self.exit_code is None:
                continue
            if time.monotonic() - self._started_at > STEADY_SECONDS:
                self._n_failures = 0
            pause = PAUSES_SECONDS[min(self._n_failures, len(PAUSES_SECONDS) - 1)]
            self._n_failures += 1
            say(
                f"{self.plan.name} ended {_how(self.exit_code)}; starting it again in {pause:g} s.\n{self.last_lines()}"
            )
            await asyncio.sleep(pause)
            self.start()

    def ask_to_stop(self) -> None:
        """Let it finish what it does and end."""
        if self.pid is not None and self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    async def wait_stopped(self) -> None:
        """Wait until it ended; kill it when it does not."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.pid is not None:
            if time.monotonic() > deadline:
                self.kill()
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """End it at once."""
        if self.pid is not None and self._child is not None:
            self._child.kill()


def service_environment(base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service: what `up` was given, then what it decided; empty variables are left out."""
    merged = {**base, **own, "PYTHONUNBUFFERED": "1"}
    return {name: value for name, value in merged.items() if value != ""}


class _LogLine(Struct, frozen=True):
    """The parts of a JSON log line that a person wants to see first."""

    event: str
    level: str = ""
    error: object = ""


def readable(line: str) -> str:
    """A line of a service's log for people: the gist of a JSON line, any other line as it is."""
    try:
        said = msgspec.json.decode(line, type=_LogLine)
    except msgspec.DecodeError:
        return line
    return " ".join(part for part in (said.level, said.event, str(said.error)) if part)


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"by signal {signal.Signals(-exit_code).name}"
    return f"with exit code {exit_code}"


class LogFollower:
    """Prints what the services write to their logs, each line with its service, for `--verbose`."""

    def __init__(self, folder: DataFolder, names: tuple[str, ...], say: Say) -> None:
        self._paths = {name: folder.log_path(name) for name in names}
        self._positions = {name: _size(path) for name, path in self._paths.items()}
        self._say = say

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            for name, path in self._paths.items():
                self._print_new(name, path)
            await asyncio.sleep(POLL_SECONDS)

    def _print_new(self, name: str, path: Path) -> None:
        position = self._positions[name]
        if _size(path) < position:
            position = 0
        if _size(path) == position:
            return
        with path.open("rb") as log:
            log.seek(position)
            text = log.read()
        whole, _, _ = text.rpartition(b"\n")
        self._positions[name] = position + len(whole) + 1 if whole else position
        for line in whole.decode(errors="replace").splitlines():
            self._say(f"{name:>14} │ {readable(line)}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
