"""Sizes that no function and no module may exceed; the aim is far below (docs: 25 lines, 400 lines)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import name_of, python_files

MOST_LINES_OF_A_FUNCTION = 70
MOST_LINES_OF_A_MODULE = 600
MOST_POSITIONAL = 6


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", python_files(), ids=name_of)
def test_a_module_is_one_screenful_of_ideas(path: Path) -> None:
    """No module is longer than the budget."""
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_MODULE


def test_no_function_is_longer_than_its_budget() -> None:
    """A function over the budget hides several; a test's story may be a long list."""
    long = [
        f"{name_of(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python_files()
        if not name_of(path).startswith("tests/")
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_no_function_takes_more_positional_parameters_than_people_remember() -> None:
    """Beyond five, parameters are keyword-only; command-line functions and tests are another matter."""
    many = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in python_files()
        if not name_of(path).startswith(("libs/cli/causeloop/commands/", "tests/"))
        for node in functions(path)
        if len(node.args.posonlyargs) + len(node.args.args) > MOST_POSITIONAL
    ]
    assert many == []
