"""Reading the bytes of a batch: one bad record never fails the rest."""

import json

import pytest
from contracts import ingest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.endpoints.decoding import decode_batch
from services.ingest.endpoints.decoding import split_records as split
from services.ingest.errors import InvalidIssueError

MEND = "mend the JSON (a text that was cut inside an emoji is a usual cause)"


def decoded(body: bytes) -> list[str]:
    """The external_id of each good record and the reason of each bad one."""
    return [
        item.reason if isinstance(item, InvalidIssueError) else str(item.external_id)
        for item in decode_batch(body)
    ]


def _containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)


def refusal_of(body: bytes) -> dict[str, str]:
    with pytest.raises(InvalidIssueError) as refused:
        decode_batch(body)
    return refused.value.problems


def test_batch_that_is_right_is_read_in_order() -> None:
    assert decoded(b'{"records":[{"external_id":"1"},{"external_id":"2","metadata":{"a":1}}]}') == ["1", "2"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"tilte":"x"}', "tilte: is not a known field; check its spelling, or put it into metadata"),
        (b'{"title":5}', "title: Expected `str | null`, got `int`; send the right type"),
        (b'{"metadata":[1]}', "metadata: Expected `object | null`, got `array`; send the right type"),
        (b'{"metadata":{"a":1e999}}', "metadata: Number out of range; send the right type"),
        (
            b'{"source_created_at":"yesterday"}',
            "source_created_at: Invalid RFC3339 encoded datetime; send the right type",
        ),
        (
            b'{"source_created_at":"2026-01-01T00:00:00"}',
            "source_created_at: Expected `datetime` with a timezone component; send the right type",
        ),
        (b"5", "record: Expected `object`, got `int`; send a JSON object as the contract describes it"),
        (b"null", "record: Expected `object`, got `null`; send a JSON object as the contract describes it"),
        (b'{"title":"\xff"}', "record: is not UTF-8; encode it as UTF-8"),
        (
            b'{"title":"\\udc00"}',
            "record: JSON is malformed: invalid utf-16 surrogate pair (byte 16); mend the JSON",
        ),
        (
            b'{"title":"\\ud83d"}',
            "record: Input data was truncated; mend the JSON (a text that was cut inside an emoji",
        ),
        (b'{"title":"x" "y"}', "record: JSON is malformed"),
        (b"oops", "record: JSON is malformed"),
        (b"", "record: Input data was truncated; mend the JSON"),
    ],
)
def test_bad_record_is_named_and_its_neighbours_are_read(record: bytes, reason: str) -> None:
    first, bad, last = decoded(b'{"records":[{"external_id":"1"},' + record + b',{"external_id":"3"}]}')
    assert (first, last) == ("1", "3")
    assert bad.startswith(reason)


def test_record_that_is_nested_absurdly_deep_fails_alone() -> None:
    deep = b'{"metadata":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
    body = b'{"records":[{"external_id":"1"},' + deep + b',{"external_id":"3, [\\"{"}]}'
    assert decoded(body) == ["1", "record: is nested too deeply; flatten it", '3, ["{']


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (b"", {"body": "Input data was truncated; " + MEND}),
        (b"[]", {"body": "Expected `object`, got `array`; send a JSON object as the contract describes it"}),
        (b"\xff", {"body": "JSON is malformed: invalid character (byte 0); " + MEND}),
        (b"{}", {"body": "Object missing required field `records`; send a JSON object as the contract describes it"}),
        (b'{"records":5}', {"records": "Expected `array`, got `int`; send the right type"}),
        (b'{"records":[]}', {"records": "holds 0 records; send 1 to 500"}),
        (b'{"records":[{}],"x":1}', {"x": "is not a known field; check its spelling, or put it into metadata"}),
        (b'{"records":[{"title":"x]}', {"body": "Input data was truncated; " + MEND}),
        (b'{"records":[{"title":"x"]}', {"body": "JSON is malformed: expected ',' or '}' (byte 24); " + MEND}),
        (b'{"records":[{}]}{}', {"body": "JSON is malformed: trailing characters (byte 17); " + MEND}),
        (b'{"records":' + b"[" * 5000, {"body": "is nested too deeply; flatten it"}),
    ],
)  # fmt: skip
def test_message_that_cannot_be_read_at_all_is_refused(body: bytes, problems: dict[str, str]) -> None:
    assert refusal_of(body) == problems


def test_batch_of_501_records_is_refused_and_of_500_taken() -> None:
    records = [{"external_id": str(number)} for number in range(501)]
    assert len(decode_batch(json.dumps({"records": records[:500]}).encode())) == 500
    assert refusal_of(json.dumps({"records": records}).encode()) == {
        "records": "holds 501 records; send 1 to 500"
    }


@given(st.lists(st.recursive(st.none() | st.text(max_size=5), _containers, max_leaves=6), max_size=5))
def test_splitting_gives_the_records_of_any_message(records: list[object]) -> None:
    body = json.dumps({"records": records}).encode()
    assert [json.loads(piece) for piece in split(body) or []] == records


@given(st.lists(st.sampled_from(["{", "}", "[", "]", '"', "\\", ",", "a", ' {"records":['])).map("".join))
def test_splitting_takes_any_bytes(tail: str) -> None:
    split(b'{"records":[' + tail.encode())


def test_splitting_is_linear_on_hostile_bytes() -> None:
    """Looking twice at each byte would take hours here."""
    assert split(b'{"records":[' + b'"' + b'\\"' * 2_000_000) is None


def test_contract_and_strict_record_have_the_same_fields() -> None:
    (record,) = decode_batch(b'{"records":[{"external_id":"1"}]}')
    assert isinstance(record, ingest.IssueReport)
    assert record.__struct_fields__ == ingest.IssueReport.__struct_fields__
