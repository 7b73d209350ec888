"""Cursors and pages: walking them gives the whole list, whatever happens meanwhile, and no token can be made up."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eventlog import apply_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from psycopg import AsyncConnection, AsyncRawCursor
from runtime.errors import ValidationFailedError
from testkit.builders import NOW, WORKSPACE, issue_reported
from testkit.servers import Database

from services.gateway.listing import (
    EXACT_TOTAL_MAX,
    Condition,
    PageRequest,
    fetch_page,
    make_cursor,
    read_cursor,
)
from services.gateway.projections import project, projection
from services.gateway.routes.issues import LISTING

SECRET = "a secret"
CONTEXT = ("issues", "-created_at", "ws_1?[]")
TOKEN = make_cursor("2026-01-01T00:00:00+00:00", 7, secret=SECRET, context=CONTEXT)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    made = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with made:
        await apply_schema(made, "gateway", projection().schema_sql)
    made = await AsyncConnection.connect(
        database.projector_url,
        autocommit=True,
        options="-c search_path=gateway",
        cursor_factory=AsyncRawCursor,
    )
    async with made:
        yield made


def test_a_cursor_gives_its_place_back() -> None:
    """What was put in comes out."""
    assert read_cursor(TOKEN, secret=SECRET, context=CONTEXT).seq == 7


@given(position=st.integers(0, len(TOKEN) - 1), letter=st.sampled_from("ABCxyz019-_=~ é"))
def test_a_tampered_cursor_is_refused(position: int, letter: str) -> None:
    """No other text is a cursor."""
    tampered = TOKEN[:position] + letter + TOKEN[position + 1 :]
    if tampered == TOKEN:
        return
    with pytest.raises(ValidationFailedError, match="malformed cursor token"):
        read_cursor(tampered, secret=SECRET, context=CONTEXT)


@pytest.mark.parametrize(
    "context", [("patterns", *CONTEXT[1:]), (*CONTEXT[:2], "ws_2?[]"), ("issues", "x", CONTEXT[2])]
)
def test_a_cursor_is_bound_to_its_list(context: tuple[str, ...]) -> None:
    """A cursor of another list, order, filter or workspace is none."""
    with pytest.raises(ValidationFailedError):
        read_cursor(TOKEN, secret=SECRET, context=context)
    with pytest.raises(ValidationFailedError):
        read_cursor(TOKEN, secret="another", context=CONTEXT)


async def insert(conn: AsyncConnection[Any], numbers: range, rng: random.Random) -> None:
    events = [
        replace(
            issue_reported(
                number, at=NOW.replace(minute=rng.randint(0, 3)), severity=f"p{rng.randint(1, 4)}"
            ),
            seq=number,
        )
        for number in numbers
    ]
    async with conn.transaction():
        await project(events, conn)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sort=st.sampled_from(sorted(LISTING.sorts)),
    is_reversed=st.booleans(),
    limit=st.integers(1, 9),
    seed=st.integers(),
)
async def test_walking_all_pages_gives_every_issue_once_under_concurrent_inserts(
    owner: AsyncConnection[Any], sort: str, is_reversed: bool, limit: int, seed: int
) -> None:
    """Whatever was there at the start is seen exactly once, in order, while others are added."""
    await owner.execute("DELETE FROM issues")
    rng = random.Random(seed)
    await insert(owner, range(1, 31), rng)
    asked = PageRequest(
        workspace_id=WORKSPACE,
        conditions=[],
        sort=f"-{sort}" if is_reversed else sort,
        cursor=None,
        limit=limit,
        scope="",
    )
    seen: list[tuple[Any, int]] = []
    following: str | None = "first"
    added = 31
    while following is not None:
        found = await fetch_page(owner, LISTING, asked, secret=SECRET)
        column = LISTING.sorts[sort].column
        seen += [(getattr(row, column), row.seq) for row in found.rows]
        following = found.next_cursor
        asked = replace(asked, cursor=following)
        if added < 60:
            await insert(owner, range(added, added + 2), rng)
            added += 2
    numbers = [seq for _, seq in seen]
    assert len(numbers) == len(set(numbers))
    assert set(range(1, 31)) <= set(numbers)
    is_descending = is_reversed != LISTING.sorts[sort].is_inverted
    assert sorted(seen, reverse=is_descending) == seen


async def test_the_total_is_exact_up_to_ten_thousand_and_an_estimate_beyond(
    owner: AsyncConnection[Any],
) -> None:
    """A long list does not have to be counted to its end."""
    rng = random.Random(1)
    for start in range(1, EXACT_TOTAL_MAX + 1001, 1000):
        await insert(owner, range(start, start + 1000), rng)
    whole = PageRequest(workspace_id=WORKSPACE, conditions=[], sort=None, cursor=None, limit=1, scope="")
    found = await fetch_page(owner, LISTING, whole, secret=SECRET)
    assert found.total > EXACT_TOTAL_MAX
    first = replace(whole, conditions=[Condition("external_id = {value}", "EXT-1")])
    assert (await fetch_page(owner, LISTING, first, secret=SECRET)).total == 1
