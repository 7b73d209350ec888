"""How tickets whose making was interrupted are taken up: in rounds that end, whoever else is slow."""

from datetime import UTC, datetime
from unittest.mock import AsyncMock

from psycopg_pool import PoolTimeout
from runtime.outbound import EVERYWHERE, Outbound

from services.ingest.jobs.ticketing import Ticketing


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
