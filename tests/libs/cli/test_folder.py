"""The data folder of `up`."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from causeloop.exits import StorageError
from causeloop.up import folder as folder_module
from causeloop.up.folder import MAX_LOG_BYTES, DataFolder

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how much must be free, and what to do."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(StorageError, match="is full") as raised:
        DataFolder(tmp_path / "data").open()
    assert "CAUSELOOP_DATA" in raised.value.advice


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Another start reads the same."""
    folder = DataFolder(tmp_path)
    folder.open()
    assert folder.secrets() == DataFolder(tmp_path).secrets()
    assert len(set(folder.secrets().role_passwords.values())) == 3


def test_damaged_secrets_are_not_replaced(tmp_path: Path) -> None:
    """New ones would lock us out of the database and end every session."""
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        DataFolder(tmp_path).secrets()
    assert (tmp_path / "secrets.json").read_text() == "{"


def test_a_large_log_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one is kept beside it."""
    folder = DataFolder(tmp_path)
    folder.open()
    monkeypatch.setattr(folder_module, "MAX_LOG_BYTES", 10)
    assert MAX_LOG_BYTES > 10
    folder.log_path("ingest").write_text("more than ten bytes")
    folder.open_log("ingest").close()
    assert (
        folder.log_path("ingest").stat().st_size,
        (tmp_path / "logs" / "ingest.log.old").stat().st_size,
    ) == (0, 19)
