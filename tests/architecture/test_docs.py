"""The documentation names only what exists."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files, name_of

PATH = re.compile(r"(?<![\w/.-])((?:libs|services|proto|tests|docs|deploy)/[\w*./-]*[\w*/])")
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
TARGET = re.compile(r"\bmake ([a-z]+)\b")


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_path_that_a_document_names_exists(path: Path) -> None:
    """A moved file takes its mentions with it."""
    named = {found.rstrip("/.") for found in PATH.findall(path.read_text())}
    concrete = {name for name in named if "…" not in name and "<" not in name}
    missing = [name for name in sorted(concrete) if not any(True for _ in ROOT.glob(name))]
    assert missing == []


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    """A link is relative to its document."""
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_make_target_that_a_document_names_exists(path: Path) -> None:
    """`make x` in the text is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`([^`\n]+)`|^    (.+)$|^\s*(make .+)$", path.read_text(), re.MULTILINE)
    named = {name for parts in code for name in TARGET.findall(" ".join(parts))}
    assert sorted(named - targets) == []
