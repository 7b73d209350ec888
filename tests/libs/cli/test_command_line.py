"""The command line as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest
from causeloop.__main__ import COMMANDS, arranged

from tests.libs.cli.in_process import causeloop


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_examples(command: str, tmp_path: Path) -> None:
    """--help shows at least one command to copy, or the sub-commands."""
    group = {
        "events": ("tail",), "clients": ("onboard",), "sources": ("preview",),
        "grouping": ("activate",), "alerts": ("threshold",), "webhooks": ("add",),
    }  # fmt: skip
    arguments = (command, *group.get(command, ()), "--help")
    shown = causeloop(*arguments, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"causeloop {command}" in shown.stdout.partition("Options")[0].partition("Usage")[2]


def test_up_does_not_load_what_only_import_needs() -> None:
    """A quick start: polars alone takes most of a second."""
    code = "import sys; from causeloop.__main__ import build; build(['up']); print('polars' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_shared_options_may_stand_before_the_command() -> None:
    """`causeloop --json status` is `causeloop status --json`."""
    assert arranged(["--json", "--url", "x", "status", "-v"]) == ["status", "--json", "--url", "x", "-v"]
    assert arranged(["events", "tail", "--json"]) == ["events", "tail", "--json"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status", "--url", "http://127.0.0.1:1"], 69, "make up"),
        (["token", "--url", "http://127.0.0.1:1"], 69, "make up"),
        (["verify", "gatewey"], 2, "gateway"),
        (["verify", "gateway"], 69, "make up"),
        (["events", "tail"], 69, "make up"),
        (["import", "nothing.csv"], 2, "nothing.csv"),
        (["nonsense"], 2, "nonsense"),
        (["migrate"], 2, "DATABASE_OWNER_URL"),
        (["clients", "list"], 69, "make up"),
        (["clients", "onboard", "nothing.csv"], 2, "nothing.csv"),
    ],
)
def test_every_trouble_has_its_exit_code_and_says_what_to_do(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    """Scripts can rely on the code, people on the words."""
    shown = causeloop(*arguments, cwd=tmp_path)
    assert code == shown.returncode, shown.stderr
    assert says in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "pagerdoty"), "is it pagerduty"),
        (("preview", "pagerduty", "nothing.json"), "nothing.json"),
    ],
)
def test_what_a_service_refuses_is_shown_as_it_says_it(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """The service's module writes to our own streams, which only a process of its own shows."""
    command = [sys.executable, "-m", "causeloop", "sources", *arguments]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert says in shown.stderr and "Traceback" not in shown.stderr


def test_a_dry_run_shows_rows_and_needs_no_server(tmp_path: Path) -> None:
    """The mapping can be tried before anything is reported; here as a process of its own."""
    (tmp_path / "f.csv").write_text("id,title,severity\n1,It broke,blocker\n")
    command = [sys.executable, "-m", "causeloop", "import", "f.csv", "--dry-run"]
    shown = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert shown.returncode == 0, shown.stderr
    assert "It broke" in shown.stdout and "p1" in shown.stdout
