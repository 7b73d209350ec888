"""How tickets whose making was interrupted are taken up: in rounds that end, whoever else is slow."""

from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

from psycopg_pool import PoolTimeout
from runtime.database import Pool
from runtime.outbound import EVERYWHERE, Outbound

from services.ingest.jobs.ticketing import Ticketing
from services.ingest.vendors.pushes import LEASE, Pushes
from tests.services.ingest.builders import NOW
from tests.services.ingest.test_records import Clock


async def test_round_of_settling_ends_in_time_and_begins_with_who_had_no_turn_for_longest() -> None:
    """Also where a look at the database fails: the other tickets of the round are settled all the same."""
    now, asked = 0.0, list[str]()
    waiting = [(f"ws_{number:02}", "tkt_1") for number in range(20)]

    async def take_up(workspace_id: str, _: str) -> None:
        nonlocal now
        asked.append(workspace_id)
        now += 3.0
        if workspace_id == "ws_00":
            raise PoolTimeout

    begun = AsyncMock(lapsed=AsyncMock(return_value=waiting), take_up=take_up)
    settler = Ticketing(
        AsyncMock(),
        AsyncMock(),
        AsyncMock(),
        begun,
        Outbound(EVERYWHERE),
        clock=lambda: datetime.now(UTC),
        monotonic=lambda: now,
    )
    assert await settler.settle() == 0
    assert asked == [workspace_id for workspace_id, _ in waiting[:10]]
    waiting.append(("ws_new", "tkt_1"))
    assert await settler.settle() == 0
    assert asked[10:] == [workspace_id for workspace_id, _ in waiting[10:20]]
    assert await settler.settle() == 0
    assert asked[20:22] == ["ws_new", "ws_00"]


async def test_tickets_of_one_workspace_hide_no_other_s(sources_pool: Pool) -> None:
    """However many of it wait, and for longer; each workspace's own come in the order in which they wait."""
    tkt = "tkt_{:026}".format
    clock = Clock()
    pushes = Pushes(sources_pool, clock=clock)

    async def begin(workspace_id: str, ticket_id: str) -> None:
        clock.now += timedelta(seconds=1)
        of = {"recommendation_id": "rec_1", "connector_id": "con_1", "target": {}, "requested_by": None}
        assert await pushes.begin(workspace_id, ticket_id, **of)  # type: ignore[arg-type]  # by name

    clock.now = NOW
    many = [("ws_many", tkt(number)) for number in (5, 3, 1, 2)]
    for each in (*many, ("ws_two", tkt(2)), ("ws_one", tkt(1)), ("ws_one", tkt(0))):
        await begin(*each)
    clock.now += LEASE
    first = [many[0], ("ws_two", tkt(2)), ("ws_one", tkt(1))]
    assert await pushes.lapsed(limit=3) == first
    assert await pushes.lapsed(limit=9) == [*first, many[1], ("ws_one", tkt(0)), *many[2:]]
    # One that was tried waits behind those that were not.
    assert await pushes.take_up(*many[0])
    clock.now += LEASE
    assert await pushes.lapsed(limit=9) == [
        many[1],
        *first[1:],
        many[2],
        ("ws_one", tkt(0)),
        many[3],
        many[0],
    ]
