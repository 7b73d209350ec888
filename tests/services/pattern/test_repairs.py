"""Whose repairs are read next."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from contracts import Event, Recorded, pattern, record
from contracts.generated.pattern import PatternStatus
from runtime.database import Pool
from testkit.builders import NOW

from services.pattern.engine.repairing import Failure
from services.pattern.reactions import loading
from services.pattern.reactions.repairs import MAX_PATTERNS_AT_ONCE, Repairs


class NoPool:
    """Connections to nothing."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        yield None


def closed(workspace_id: str, number: int) -> Recorded[Event]:
    data = pattern.PatternStatusChanged(
        pattern_id=f"pat_{number:03d}",
        from_status=PatternStatus.ACTIVE,
        to_status=PatternStatus.WATCHING,
        reason="closed",
    )
    return record(
        data,
        workspace_id=workspace_id,
        aggregate_id=data.pattern_id,
        occurred_at=NOW,
        recorded_at=NOW,
        source="pattern",
    )


async def test_a_workspace_with_many_patterns_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten patterns of all workspaces at once, these in turn, until none is left."""

    async def failures(*_: object, **__: object) -> list[Failure]:
        return []

    monkeypatch.setattr(loading, "failures", failures)
    repairs = Repairs(cast(Pool, NoPool()))
    for number in range(25):
        repairs.note(closed("ws_1", number))
    repairs.note(closed("ws_2", 0))
    assert repairs.read(now=NOW) == []
    turns: list[Counter[str]] = []
    for _ in range(4):
        for _ in range(3):
            await asyncio.sleep(0)
        turns.append(Counter(lives.workspace_id for lives in repairs.read(now=NOW)))
    n = MAX_PATTERNS_AT_ONCE
    assert turns == [Counter(ws_1=n - 1, ws_2=1), Counter(ws_1=n), Counter(ws_1=26 - 2 * n), Counter()]
