"""A newcomer's first hour: `up` with its story, then every other command against what runs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.libs.cli.test_up import five_free_ports

DEADLINE_SECONDS = 180.0


class Terminal:
    """A working folder with one running `up`, and commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._env = {**base, "PORT": str(five_free_ports()), "USE_MOCK": "1", "COLUMNS": "120"}
        # Both `up` and `status` find it here.
        (folder / ".env").write_text("OPERATIONS_TOKEN=a-token-for-operators\n")
        self._screen = (folder / "up.out").open("w+")
        self.up = subprocess.Popen(
            [sys.executable, "-m", "causeloop", "up"],
            cwd=folder,
            env=self._env,
            stdout=self._screen,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def screen(self) -> str:
        self._screen.seek(0)
        return self._screen.read()

    def run(self, *arguments: str, code: int = 0) -> str:
        shown = subprocess.run(
            [sys.executable, "-m", "causeloop", *arguments],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code == shown.returncode, shown.stdout + shown.stderr
        return shown.stdout

    def rows(self, resource: str, *arguments: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run("export", resource, *arguments).splitlines()]

    def wait_until(self, predicate: Callable[[], bool], *, every: float = 0.1) -> None:
        """every: seconds; a predicate that runs commands takes the processor from what it waits for."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while not predicate():
            assert self.up.poll() is None, self.screen
            assert time.monotonic() < give_up_at, self.screen
            time.sleep(every)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    one = Terminal(tmp_path_factory.mktemp("newcomer"))
    try:
        one.wait_until(lambda: "Ctrl-C" in one.screen)
        yield one
    finally:
        one.up.send_signal(signal.SIGINT)
        one.up.wait(timeout=60)


def test_the_story_ends_in_patterns_predictions_and_recommendations(terminal: Terminal) -> None:
    """They are there to be exported, and well-known failures are among them."""

    def is_told() -> bool:
        names = " ".join(str(row["name"]) for row in terminal.rows("patterns"))
        return (
            "DeadlockDetected" in names
            and "OOMKilled" in names
            and len(terminal.rows("patterns")) >= 10
            and bool(terminal.rows("predictions"))
            and bool(terminal.rows("recommendations"))
        )

    terminal.wait_until(is_told, every=2.0)


def test_the_three_calls_on_the_screen_work_as_they_are(terminal: Terminal) -> None:
    """Pasted into a shell."""
    lines = [line.strip() for line in terminal.screen.splitlines()]
    script = [line for line in lines if line.startswith(("export TOKEN", "curl "))]
    assert len(script) == 4
    shown = subprocess.run(
        ["sh", "-ec", "\n".join([script[0], *(f"{line} -f -o /dev/null" for line in script[1:])])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr


def test_a_file_goes_in_and_comes_out(terminal: Terminal) -> None:
    """Imported, refused row by row, unchanged the second time, exported as another kind of file."""
    rows = [
        json.dumps({"id": f"n-{n}", "title": f"Printer {n} on fire", "severity": "blocker"})
        for n in range(600)
    ]
    (terminal.folder / "in.jsonl").write_text("\n".join([*rows, '{"id": "n-600"}']))
    first = json.loads(terminal.run("import", "in.jsonl", "--set", "source=zabbix", "--json", code=1))
    assert (first["created"], first["unchanged"], first["rejected"]) == (600, 0, 1)
    error = json.loads((terminal.folder / "in.jsonl.errors.jsonl").read_text())
    assert error["line"] == 601
    again = json.loads(terminal.run("import", "in.jsonl", "--set", "source=zabbix", "--json", code=1))
    assert (again["created"], again["unchanged"]) == (0, 600)

    def exported() -> pl.DataFrame:
        terminal.run("export", "issues", "out.parquet", "--where", "source=zabbix")
        return pl.read_parquet(terminal.folder / "out.parquet")

    terminal.wait_until(lambda: exported().height == 600, every=1.0)
    assert {"p1"} == set(exported()["severity"])


def test_the_records_of_a_tool_go_in_by_its_type(terminal: Terminal) -> None:
    """As its API gives them: mapped, left out where they are no failure, refused one by one, unchanged next time."""
    deploys = [
        {"id": "d-1", "name": "shop", "state": "error", "context": "production", "error_message": "exit 2"},
        {"id": "d-2", "name": "shop", "state": "ready"},
        {"name": "shop", "state": "error"},
    ]
    (terminal.folder / "deploys.json").write_text(json.dumps(deploys))
    words = ("import", "deploys.json", "--source", "netlify", "--json")
    first = json.loads(terminal.run(*words, code=1))
    assert (first["created"], first["unchanged"], first["rejected"]) == (1, 0, 1)
    error = json.loads((terminal.folder / "deploys.json.errors.jsonl").read_text())
    assert (error["line"], error["reason"][:11]) == (3, "external_id")
    again = json.loads(terminal.run(*words, code=1))
    assert (again["created"], again["unchanged"]) == (0, 1)
    stored: list[dict[str, object]] = []

    def is_stored() -> bool:
        stored[:] = terminal.rows("issues", "--where", "source=netlify")
        return len(stored) == 1

    terminal.wait_until(is_stored)
    known = [stored[0][name] for name in ("title", "severity", "service")]
    assert known == ["Deploy of shop failed", "p2", "shop"]


def test_the_log_can_be_followed_from_its_beginning(terminal: Terminal) -> None:
    """Filtered by type, one JSON object a line."""
    lines = terminal.run(
        "events", "tail", "--from", "beginning", "--no-follow", "--type", "PatternDetected", "--json"
    ).splitlines()
    assert lines
    assert {"causeloop.pattern.v1.PatternDetected"} == {json.loads(line)["type"] for line in lines}


def test_every_service_is_well_and_every_read_model_equals_the_log(terminal: Terminal) -> None:
    """Also after one was built anew."""
    terminal.wait_until(
        lambda: all(
            each["status"]["state"] == "ready" for each in json.loads(terminal.run("status", "--json"))
        ),
        every=1.0,
    )
    assert "ready" in terminal.run("status")
    replayed = json.loads(terminal.run("replay", "gateway", "--json"))
    assert replayed["service"] == "gateway"
    certificates = json.loads(terminal.run("verify", "gateway", "pattern", "--json"))
    assert [each["is_equal"] for each in certificates] == [True, True]
    assert all(each["tables"] for each in certificates)


def test_the_token_command_prints_only_a_token(terminal: Terminal) -> None:
    """So that TOKEN=$(causeloop token) works."""
    assert len(terminal.run("token").strip().split(".")) == 3
