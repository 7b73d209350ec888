"""Each event has one emitter that really constructs it, and a reader that really looks at it."""

import ast
from collections import defaultdict
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


def constructions(node: ast.Call) -> Iterator[str]:
    """What a call may construct: `Event(...)`, or `msgspec.convert(fields, Event)`."""
    called = last_name(node.func)
    yield called
    if called == "convert":
        yield from map(last_name, [*node.args, *(keyword.value for keyword in node.keywords)])


@cache
def trails() -> tuple[dict[str, set[str]], dict[str, set[Path]]]:
    """By name: the services that construct it, and the modules of reading rooms that name it."""
    constructed: dict[str, set[str]] = defaultdict(set)
    named: dict[str, set[Path]] = defaultdict(set)
    for file in sorted((ROOT / "services").rglob("*.py")):
        path = file.relative_to(ROOT / "services")
        is_reading = any(part.removesuffix(".py") in READING_ROOMS for part in path.parts[1:])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                for name in constructions(node):
                    constructed[name].add(path.parts[0])
            if is_reading and isinstance(node, ast.Attribute | ast.Name):
                named[last_name(node)].add(path)
    return constructed, named


def test_event_names_are_unique_over_contexts() -> None:
    """An event is called by its name alone in this test, and in conversation."""
    assert len(EVENTS) == len(EMITTERS)


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_event_is_constructed_by_its_emitter_and_no_other(event: str) -> None:
    """The comment above the message tells the truth about who emits it."""
    assert {EVENTS[event]} == trails()[0].get(event)


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_event_has_a_reader(event: str) -> None:
    """A fact that nobody reads has no place in the contract."""
    assert trails()[1].get(event)
