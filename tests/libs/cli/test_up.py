"""`causeloop up` starts everything, keeps it running, and says clearly what is in the way.

The servers are real; the services are stand-ins, so that only `up` is tested. The real ones: tests/journeys.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from causeloop.running import SERVICES, Running, read_running

HERE = Path(__file__).parent
DEADLINE_SECONDS = 120.0


class Up:
    """One `up` as a process."""

    def __init__(self, folder: Path, root: Path, **environment: str) -> None:
        self.folder = folder
        self.port = int(environment.get("PORT") or five_free_ports())
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env = {**base, "CAUSELOOP_DATA": str(folder), **environment, "PORT": str(self.port)}
        self._output = (folder.parent / f"{folder.name}-{self.port}.out").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "run_up.py"), str(root)],
            env=env,
            cwd=root,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    @property
    def running(self) -> Running:
        running = read_running(self.folder)
        assert running is not None, self.output
        return running

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda: text in self.output, text)

    def wait_until(self, predicate: Callable[[], bool], what: str) -> None:
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while not predicate():
            assert self.process.poll() is None, f"ended before {what!r}:\n{self.output}"
            assert time.monotonic() < give_up_at, f"no {what!r} in:\n{self.output}"
            time.sleep(0.02)

    def ended(self) -> int:
        return self.process.wait(timeout=DEADLINE_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.ended()


def five_free_ports() -> int:
    """The first of five neighbouring ports that are free, below those that the system gives to clients."""
    while True:
        first = random.randrange(20_000, 32_000, 5)
        try:
            for port in range(first, first + 5):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with five stand-in services."""
    for service in SERVICES:
        folder = tmp_path / "root" / "services" / service
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "__main__.py").write_text((HERE / "fake_service.py").read_text())
    return tmp_path / "root"


@pytest.fixture
def up(tmp_path: Path, root: Path) -> Iterator[Callable[..., Up]]:
    """Starts `up`; ends it after the test."""
    started: list[Up] = []

    def start(name: str = "data", **environment: str) -> Up:
        started.append(Up(tmp_path / name, root, **environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
        each.ended()


def is_answering(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=30).is_success
    except httpx.TransportError:
        return False


def test_everything_starts_and_stops_and_goes_on_with_the_same_data(up: Callable[..., Up]) -> None:
    """Ctrl-C ends with exit code 0 and leaves nothing running; the second start keeps the secrets."""
    first = up(USE_MOCK="1")
    first.wait_for("Ctrl-C")
    urls = first.running.urls
    secret = first.running.environment["JWT_SECRET"]
    assert all(is_answering(url) for url in urls.values())
    assert "export TOKEN=a.b.c" in first.output
    assert (first.folder / "running.json").stat().st_mode & 0o777 == 0o600
    assert (first.folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    first.wait_until(lambda: (first.folder / "story.json").exists(), "the story")
    assert first.stop() == 0, first.output
    assert not any(is_answering(url) for url in urls.values())
    assert read_running(first.folder) is None
    second = up(USE_MOCK="1")
    second.wait_for("Ctrl-C")
    assert secret == second.running.environment["JWT_SECRET"]
    assert second.stop(signal.SIGTERM) == 0, second.output


def test_a_service_that_ends_is_started_again(up: Callable[..., Up]) -> None:
    """And `up` says so, with what it said last."""
    one = up()
    one.wait_for("Ctrl-C")
    url = one.running.urls["gateway"]
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{url}/v1/die", timeout=30)
    one.wait_for("gateway ended with exit code 7; starting it again")
    one.wait_until(lambda: is_answering(url), "the gateway again")


def test_after_a_crash_of_up_itself_the_next_one_takes_over(up: Callable[..., Up]) -> None:
    """The lock of a dead process is no lock, and none of its children is in the way."""
    killed = up()
    killed.wait_for("Ctrl-C")
    killed.process.kill()
    killed.ended()
    again = up(PORT=str(killed.port))
    again.wait_for("Ctrl-C")


def test_a_second_up_on_the_same_folder_is_refused(up: Callable[..., Up]) -> None:
    """It says where the first one runs and leaves it alone."""
    first = up()
    first.wait_for("Ctrl-C")
    second = up()
    assert second.ended() == 69
    assert "already runs with the data folder" in second.output
    assert first.running.urls["gateway"] in second.output
    assert first.process.poll() is None


def test_a_port_in_use_is_named_with_its_variable(up: Callable[..., Up]) -> None:
    """Also when it is one of the four after PORT."""
    port = five_free_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 2))
        other.listen()
        refused = up(PORT=str(port))
        assert refused.ended() == 69
    assert f"Port {port + 2}" in refused.output and "PORT" in refused.output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/postgres"),
        ("NATS_URL", "nats://127.0.0.1:1"),
    ],
)
def test_an_unreachable_server_is_named_with_its_variable(
    up: Callable[..., Up], variable: str, value: str
) -> None:
    """And what happens without the variable."""
    refused = up(**{variable: value})
    assert refused.ended() == 69
    assert variable in refused.output and "without that variable" in refused.output


def test_a_data_folder_that_cannot_be_made_is_refused(up: Callable[..., Up], tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "taken").write_text("")
    refused = up("taken")
    assert refused.ended() == 73
    assert "CAUSELOOP_DATA" in refused.output


def test_a_service_that_cannot_start_ends_up_with_its_last_words(up: Callable[..., Up]) -> None:
    """Nothing is left running."""
    port = five_free_ports()
    failed = up(PORT=str(port), FAKE_FAILURE=str(port + 3)[-2:])
    assert failed.ended() == 70
    assert "prediction ended with exit code 1 before it was ready" in failed.output
    assert "cannot serve: made to fail" in failed.output
    assert not is_answering(f"http://127.0.0.1:{port}")
