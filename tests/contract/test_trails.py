"""Each event has one emitter that really constructs it, and a reader that really looks at it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from contracts import EMITTERS

ROOT = Path(__file__).parents[2]
EVENTS = {event.__name__: emitter for event, emitter in EMITTERS.items()}
READING_ROOMS = ("projections", "reactions", "state")


def last_name(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    paths = sorted((ROOT / "services").rglob("*.py"))
    return tuple(
        (path.relative_to(ROOT / "services"), ast.parse(path.read_text(encoding="utf-8"))) for path in paths
    )


def is_construction(node: ast.AST, event: str) -> bool:
    """`Event(...)`, or `msgspec.convert(fields, Event)`."""
    if not isinstance(node, ast.Call):
        return False
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    is_converted = last_name(node.func) == "convert" and event in map(last_name, arguments)
    return last_name(node.func) == event or is_converted


def emitters_of(event: str) -> Iterator[str]:
    """The services that construct an event."""
    for path, tree in modules():
        if any(is_construction(node, event) for node in ast.walk(tree)):
            yield path.parts[0]


def readers_of(event: str) -> Iterator[Path]:
    """The modules of reading rooms that name an event."""
    for path, tree in modules():
        is_reading = any(part.removesuffix(".py") in READING_ROOMS for part in path.parts[1:])
        if is_reading and any(
            isinstance(node, ast.Attribute | ast.Name) and last_name(node) == event for node in ast.walk(tree)
        ):
            yield path


def test_event_names_are_unique_over_contexts() -> None:
    """An event is called by its name alone in this test, and in conversation."""
    assert len(EVENTS) == len(EMITTERS)


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_event_is_constructed_by_its_emitter_and_no_other(event: str) -> None:
    """The comment above the message tells the truth about who emits it."""
    assert {EVENTS[event]} == set(emitters_of(event))


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_event_has_a_reader(event: str) -> None:
    """A fact that nobody reads has no place in the contract."""
    assert list(readers_of(event))
