"""The command: writes, checks and keeps."""

import shutil
from pathlib import Path

import pytest
from codegen import release
from codegen.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a contract, one service's queries and nothing generated yet."""
    shutil.copytree(ROOT / "proto/causeloop", tmp_path / "proto/causeloop")
    shutil.copy(ROOT / "proto/buf.yaml", tmp_path / "proto")
    for name in ("pyproject.toml", "sqlc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(Path(__file__).parent / "sample", tmp_path / "services/ingest")
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), *arguments])


def test_all_writes_what_check_then_finds_unchanged_or_names(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`all` repairs every drift that `check` reports; a file that was edited, or whose source is gone, is named."""
    assert run(root, "check") == 1
    assert run(root, "all") == 0
    assert run(root, "check") == 0
    generated = root / "libs/contracts/contracts/generated"
    queries = root / "services/ingest/_queries.py"
    queries.write_text(queries.read_text() + "\n")
    (generated / "gone.py").write_text("")
    capsys.readouterr()
    assert run(root, "check") == 1
    assert capsys.readouterr().out.split() == [
        "libs/contracts/contracts/generated/gone.py",
        "services/ingest/_queries.py",
    ]


def test_release_is_kept_once_and_guards_what_follows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A release is written once; from then on a breaking change is refused."""
    assert run(root, "breaking") == 0
    assert run(root, "release", "0.9.0") == 0
    assert run(root, "release", "0.10.0") == 0
    newest = release.latest(root)
    assert newest is not None
    assert newest.stem == "0.10.0"
    assert run(root, "release", "0.9.0") == 1
    assert "0.9.0 was released before" in capsys.readouterr().err
    file = root / "proto/causeloop/workspace/v1/events.proto"
    file.write_text(file.read_text().replace("string slug = 2;", "string short_name = 2;"))
    assert run(root, "breaking") == 1
    assert "slug" in capsys.readouterr().err


def test_command_reports_what_buf_refuses(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in a .proto file is told in buf's words, without a traceback."""
    file = root / "proto/causeloop/workspace/v1/events.proto"
    file.write_text("syntax = 'proto3'; nonsense")
    assert run(root, "contracts") == 1
    assert "events.proto" in capsys.readouterr().err
