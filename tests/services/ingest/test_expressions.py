"""JMESPath as manifests have it: what the library says, at a cost that is bounded."""

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.connectors.expressions import STEPS_MAX, Expression, ExpressionError

_WAYS = ("a", '"a"', "a.b", "a.b.c", '"a"."b"', "a.b[0]", "(b || c)", "(a || b).c", "@")
_JSON = st.recursive(
    st.sampled_from([None, False, True, 0, 0.0, "", "x", 7]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["[@,@][]"] * 30), "|".join(["[@,@]"] * 30), "|".join(["to_string([@,@])"] * 30),
        "join(text, items)", "items[*].[@,@,@,@]", "items[*].`[1,2,3,4,5,6,7,8,9]`", "[items, items] == items",
        "ceil(to_number('nan'))", "items[::0]", "sum([to_number('1e308'), huge])", "abs(deep)",
        "split(line, ',')", "split(text, '')", "lower(items)",
    ],
)  # fmt: skip
def test_what_an_expression_costs_is_bounded_and_what_it_cannot_compute_is_its_own_error(text: str) -> None:
    """Anybody may write one, and a few characters are worth gigabytes; NaN and nesting are no JMESPathErrors."""
    deep: list[object] = []
    for _ in range(2_000):
        deep = [deep]
    many = list(range(20_000))
    record = {"text": "x" * 2_000, "line": "," * STEPS_MAX, "items": many, "huge": 10**400, "deep": deep}
    with pytest.raises(ExpressionError):
        Expression(text).find(record)


@pytest.mark.parametrize(
    "text", ["a." * 300 + "a", "(" * 2_000 + "a" + ")" * 2_000, "a" * 5_000, "not_null(&a)"]
)
def test_an_expression_that_is_too_much_is_refused_when_it_is_read(text: str) -> None:
    """Nesting would end in Python's recursion, and a part that is no value is no JSON."""
    with pytest.raises(ExpressionError):
        Expression(text)


@given(value=_JSON, ways=st.lists(st.sampled_from(_WAYS), min_size=1, max_size=4))
def test_ways_from_field_to_field_lead_where_the_library_says(value: object, ways: list[str]) -> None:
    """Such expressions are not interpreted."""
    text = " || ".join(ways)
    found, said = Expression(text).find(value), jmespath.search(text, value)
    assert (type(found), found) == (type(said), said)


def test_one_moment_has_the_same_seconds_however_it_is_written() -> None:
    """An id that is made of it is then the same from a list and from a webhook."""
    written = ("2026-10-31T21:42:32.879489+01:00", "2026-10-31T20:42:32.879Z", "2026-10-31T20:42:32Z")
    assert {Expression("seconds(@)").find(each) for each in written} == {1793479352}
    for unreadable in ("soon", "2026-10-31T20:42:32", ""):
        assert Expression("seconds(@)").find(unreadable) is None
