"""What the edge decides without a server: whose address it is, what a header means, how deep a body is."""

import contextlib
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from runtime.errors import StartError, ValidationFailedError

from services.gateway.app import OPERATIONS
from services.gateway.edge.address import Addresses, network_of
from services.gateway.edge.bodies import DEPTH_MAX, faults_in, is_too_deep
from services.gateway.edge.idempotency import Identity, checked_key
from services.gateway.edge.preconditions import etag_of, is_expected, is_same, preference_of
from services.gateway.routes.dispatch import _parameters
from services.gateway.settings import GatewaySettings, check

PROXY, CALLER, LIAR = "10.0.0.7", "203.0.113.9", "198.51.100.1"


def scope(peer: str, *forwarded: str) -> Any:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": (peer, 1234), "headers": headers}


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ((), PROXY, (CALLER,), PROXY),
        (("10.0.0.0/8",), PROXY, (CALLER,), CALLER),
        (("10.0.0.0/8",), LIAR, (CALLER,), LIAR),
        (("10.0.0.0/8",), PROXY, (f"{LIAR}, {CALLER}",), CALLER),
        (("10.0.0.0/8",), PROXY, (f"{CALLER}, 10.1.1.1",), CALLER),
        (("10.0.0.0/8",), PROXY, (LIAR, CALLER), CALLER),
        (("10.0.0.0/8",), PROXY, (f"{CALLER}, nonsense",), PROXY),
        (("10.0.0.0/8",), PROXY, ("10.2.2.2, 10.1.1.1",), "10.2.2.2"),
        (("10.0.0.0/8",), PROXY, (), PROXY),
        (("10.0.0.0/8",), f"::ffff:{PROXY}", (f"{CALLER}:4711",), CALLER),
        (("fd00::/8",), "fd00::1", ("[2001:db8::1]:443",), "2001:db8::1"),
    ],
)
def test_the_caller_is_the_rightmost_hop_that_no_proxy_of_ours_is(
    trusted: tuple[str, ...], peer: str, forwarded: tuple[str, ...], expected: str
) -> None:
    """Only what a trusted proxy wrote is believed, and it writes on the right."""
    assert Addresses(trusted).of(scope(peer, *forwarded)) == expected


def test_addresses_of_one_household_are_counted_together() -> None:
    """An IPv6 customer has 2^64 addresses, an IPv4 one has one."""
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of(CALLER) == CALLER


def test_a_proxy_that_is_no_network_stops_the_start() -> None:
    """A misspelt network would otherwise trust nobody, or everybody."""
    settings = GatewaySettings(
        port=4000, nats_url="", database_url="", database_projector_url="", trusted_proxies=("10.0.0.1/8",)
    )
    with pytest.raises(StartError, match="TRUSTED_PROXIES"):
        check(settings)


def nested(depth: int, *, inner: str = "") -> bytes:
    return b"[" * depth + inner.encode() + b"]" * depth


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (nested(DEPTH_MAX), False),
        (nested(DEPTH_MAX + 1), True),
        (b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX, False),
        (b'{"a":[' * 17 + b"]}" * 17, True),
        (b"[" + b",".join([b"[]"] * 5000) + b"]", False),
        (nested(1, inner='"' + "[" * 100 + '"'), False),
        (nested(1, inner='"\\"' + "[" * 100 + "]" * 100 + '"'), False),
        (nested(DEPTH_MAX, inner='["]]]]]]]]"]'), True),
        (b"[" * 100, False),
        (b'"' + b"[" * 100, False),
    ],
)
def test_depth_is_counted_outside_of_strings(raw: bytes, expected: bool) -> None:  # a table
    """What is not well-formed is left to the parser, which refuses it."""
    assert is_too_deep(raw) is expected


class Line(Struct, forbid_unknown_fields=True):
    title: str


class Sheet(Struct, forbid_unknown_fields=True):
    records: list[Line]
    groups: list[list[int]] = []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"records": [{"title": "a"}, {"title": 5}, {"title": 6}]}', "records[1].title"),
        (b'{"records": [{"title": "a"}, {"titel": "b"}]}', "records[1].titel records[1].title"),
        (b'{"records": [{}, {"title": "b"}]}', "records[0].title"),
        (b'{"records": [], "groups": [[1], [2, 3, "x"]]}', "groups[1][2]"),
        (b'{"records": [], "more": 1}', "more"),
    ],
)
def test_a_fault_is_named_with_the_index_of_its_element(raw: bytes, expected: str) -> None:
    """In lists within lists too."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(raw, type=Sheet)
    assert list(faults_in(raw, Sheet, caught.value)) == expected.split()


class Folder(Struct, forbid_unknown_fields=True):
    name: str
    owner: str
    first: Sheet
    size: int = 0


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"name": 1, "size": "x", "more": 1, "owner": "o", "first": {"records": []}}', "name size more"),
        (b'{"size": "x"}', "size name owner first"),
        (b"{}", "name owner first"),
        (
            b'{"name": "n", "first": {"records": [{"title": 1}]}, "size": "x"}',
            "first.records[0].title owner size",
        ),
        (b'{"name": "n", "first": {"records": [1, 2]}, "size": "x"}', "first.records[0] size owner"),
        (b'{"name": 1, "size": "x", "pad": "' + b"x" * 70_000 + b'"}', "name"),
        (b"[1]", "body"),
        (b"{", "body"),
        (b"{}x", "name body"),
        (b'{"name": 1, "size', "name body"),
        (b'{"name": 1, "owner": "\xff"}', "name body"),
        (b'{"name": 1, "size": 1e400}', "name []"),
        (b'"\xed\xa0\x80"', "body"),
        (
            b'{"' + b'": 1, "'.join(b"f%d" % n for n in range(30)) + b'": 1}',
            " ".join(f"f{n}" for n in range(20)),
        ),
    ],
)
def test_all_faults_are_named_together(raw: bytes, expected: str) -> None:
    """So that nobody mends a body field by field; up to twenty, one of a list, and only the first of a long body."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(raw, type=Folder)
    assert set(faults_in(raw, Folder, caught.value)) == set(expected.split())


@pytest.mark.parametrize(
    "name", ["[]", "[3]", "a.b", "first.records.x", "first.records[9].x", "x[1]", "`", "", "..", "]"]
)
def test_a_field_that_is_named_like_a_path_is_one_fault_more(name: str) -> None:
    """Whoever names it so may have no token, and what is told of the body is bounded by itself."""
    raw = msgspec.json.encode({name: 1, "first": {"records": [{name: 1, "title": "a"}]}, "size": "x"})
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(raw, type=Folder)
    assert 1 <= len(faults_in(raw, Folder, caught.value)) <= 20


def test_entity_tags_follow_the_bytes() -> None:
    """Equal bytes, equal tags; a weak tag revalidates a GET, and never allows a change."""
    tag = etag_of(b"{}")
    assert tag == etag_of(b"{}") != etag_of(b"[]")
    assert is_same(f'"other", W/{tag}', tag)
    assert is_same("*", tag)
    assert is_expected(f'"other", {tag}', tag)
    assert not is_expected(f"W/{tag}", tag)
    assert not is_expected("*", None)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("wait=5", (5.0, "wait=5")),
        ("wait=99999999999999999999", (10.0, "wait=10")),
        ("respond-async", (0.0, "respond-async")),
        ("respond-async, wait=3", (3.0, "respond-async, wait=3")),
        ('Wait="4"; x=y, return=minimal', (4.0, "wait=4")),
        ("wait=1, wait=9", (1.0, "wait=1")),
        ("wait=soon", None),
        ("wait=-1", None),
        ("return=minimal", None),
        ("", None),
    ],
)
def test_preferences_are_heeded_as_far_as_they_are_known(
    header: str, expected: tuple[float, str] | None
) -> None:
    """RFC 7240: what is unknown or malformed is ignored, the first of a name counts."""
    found = preference_of(header)
    assert (found and (found.seconds, found.applied)) == expected


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 256, "ä", "a\x7f"])
def test_keys_that_are_no_keys_are_refused(key: str) -> None:
    """1 to 255 visible characters."""
    with pytest.raises(ValidationFailedError, match="Idempotency-Key"):
        checked_key(key)


def test_identities_differ_in_every_part() -> None:
    """Nothing of one part can be taken for something of the next."""
    base = {"workspace_id": "ws", "principal_id": "usr_1", "method": "POST", "path": "/v1/a", "key": "k"}
    others = [
        {**base, "principal_id": "usr_2"},
        {**base, "method": "PUT"},
        {**base, "path": "/v1/b"},
        {**base, "key": "l"},
        {**base, "principal_id": "usr_1P", "method": "OST"},
    ]
    hashes = {Identity(**fields).key_hash for fields in (base, *others)}
    assert len(hashes) == 1 + len(others)


TAKEN_ANYHOW = {
    "cursor": "opened before it is believed",
    "category": "compared in memory",
    **dict.fromkeys(
        ("code", "error", "iss", "state"), "as a provider sends it; compared, handed back or shown"
    ),
}


def test_no_parameter_takes_what_a_database_does_not() -> None:
    """U+0000 in text that a statement may be given would be a failure of ours."""
    taken = set()
    for operation in OPERATIONS:
        for name, parameter in _parameters(operation.query).items():
            for text in ("\x00", "a\x00b", "aaaaaaaa\x00"):
                value = {name: [text] if parameter.is_list else text}
                with contextlib.suppress(msgspec.ValidationError):
                    msgspec.convert(value, operation.query, strict=False)
                    taken.add((operation.id, name))
    assert {one for one in taken if one[1] not in TAKEN_ANYHOW} == set()
