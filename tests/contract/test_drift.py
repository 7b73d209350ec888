"""Whatever is generated is committed as generated, and the contract is linted and formatted."""

from pathlib import Path

from codegen.__main__ import drift
from codegen.image import buf

ROOT = Path(__file__).parents[2]


def test_generated_files_after_regeneration_are_the_committed_ones() -> None:
    """Nobody edited a generated file, and nobody forgot to generate; `make generate` repairs it."""
    assert drift(ROOT) == []


def test_proto_files_pass_the_linter() -> None:
    """Names and layout follow buf's STANDARD rules."""
    assert buf("lint", cwd=ROOT / "proto") == b""


def test_proto_files_are_formatted() -> None:
    """`buf format -w` would change nothing."""
    assert buf("format", "--exit-code", "--diff", cwd=ROOT / "proto") == b""
