"""Every event survives the wire, whatever its fields hold."""

from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from contracts import AGGREGATES, EVENT_TYPES, decode, encode, record
from hypothesis import given, settings
from hypothesis import strategies as st

S = TypeVar("S", bound=msgspec.Struct)

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[object, st.SearchStrategy[object]] = {
    str: st.text(),
    int: INT64,
    float: FLOATS,
    bool: st.booleans(),
    type(None): st.none(),
    object: JSON,
}


def values(hint: object) -> st.SearchStrategy[object]:
    """Any value of a field's type."""
    if hint in SCALARS:
        return SCALARS[hint]
    arguments = get_args(hint)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    if hint is datetime:
        return MOMENTS
    raise AssertionError(f"no strategy for {hint}")


@cache
def structs(kind: type[S]) -> st.SearchStrategy[S]:
    """Any instance of a message; made once, since making it takes longer than drawing from it."""
    hints = get_type_hints(kind)
    fields = {field.name: values(hints[field.name]) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


def identifiers() -> st.SearchStrategy[str]:
    return st.text(alphabet="abcXYZ019_-", min_size=1, max_size=40)


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
@settings(max_examples=30, deadline=None)
@given(draw=st.data())
def test_event_after_encoding_and_decoding_is_the_same(event_type: str, draw: st.DataObject) -> None:
    """decode(encode(event)) is the event, and writing it again gives the same bytes."""
    kind = EVENT_TYPES[event_type]
    event = record(
        draw.draw(structs(kind)),
        workspace_id=draw.draw(identifiers()),
        aggregate_id=draw.draw(identifiers()),
        occurred_at=draw.draw(MOMENTS),
        recorded_at=draw.draw(MOMENTS),
        source="ingest",
        actor=draw.draw(st.none() | identifiers()),
        correlation_id=draw.draw(st.none() | identifiers()),
        traceparent=draw.draw(st.none() | identifiers()),
    )
    payload = encode(event)
    read = decode(payload, seq=0, partition=0)
    assert event == read
    assert payload == encode(read)
    assert (AGGREGATES[kind], event_type) == (read.aggregate_type, read.type)
