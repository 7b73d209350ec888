"""Ids are stable, distinct and sortable."""

import random
import re
from datetime import UTC, datetime, timedelta

from contracts import derived_id, issue_id, new_id
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 22, 8, 15, 30, 250_000, tzinfo=UTC)
SHAPE = re.compile(r"[a-z]+_[0-9A-HJKMNP-TV-Z]{26}")


def test_derived_id_of_known_parts_never_changes() -> None:
    """The ids of stored issues depend on it: a change would report every issue anew."""
    assert (
        "iss_ZBV34WTCEQ7W87AGV1SRWW1X5R"
        == issue_id("ws_1", "jira", "A-1")
        == derived_id("iss_", "ws_1", "jira", "A-1")
    )


def test_derived_id_keeps_parts_apart() -> None:
    """Where one part ends counts."""
    assert derived_id("x_", "ab", "c") != derived_id("x_", "a", "bc")
    assert derived_id("x_", "a") != derived_id("x_", "a", "")


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_derived_id_of_any_text_has_the_shape(parts: list[str]) -> None:
    """Any text of any language can be a source's id."""
    assert SHAPE.fullmatch(derived_id("iss_", *parts))


def test_new_id_sorts_by_time() -> None:
    """A later id is greater, whatever the random part."""
    rng = random.Random(7)
    ids = [new_id("ws_", now=NOW + timedelta(milliseconds=step), rng=rng) for step in range(50)]
    assert ids == sorted(ids)
    assert all(SHAPE.fullmatch(found) for found in ids)


def test_new_id_of_the_same_moment_differs() -> None:
    """80 random bits tell ids of one millisecond apart."""
    rng = random.Random(7)
    assert len({new_id("ws_", now=NOW, rng=rng) for _ in range(1000)}) == 1000


def test_new_id_is_a_ulid() -> None:
    """The first ten characters are the milliseconds since 1970, as the ULID specification has it."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = new_id("ws_", now=NOW, rng=random.Random(7)).removeprefix("ws_")[:10]
    value = 0
    for character in text:
        value = value * 32 + alphabet.index(character)
    assert int(NOW.timestamp() * 1000) == value
