"""What a sweep looks at, and how often."""

import asyncio
from unittest.mock import AsyncMock, MagicMock

import pytest

from services.ingest.jobs import sweeping


async def test_idle_sweeps_look_only_at_what_was_erased_since(monkeypatch: pytest.MonkeyPatch) -> None:
    one, both = frozenset({"ws_1"}), frozenset({"ws_1", "ws_2"})
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0)
    known = AsyncMock(side_effect=[one, one, both, asyncio.CancelledError])
    monkeypatch.setattr(sweeping, "erased_workspaces", known)
    records = AsyncMock()
    records.sweep.return_value = 0
    records.erase.return_value = ()
    paces = AsyncMock()
    paces.forget.return_value = 0
    with pytest.raises(asyncio.CancelledError):
        await sweeping.sweep(records, MagicMock(), paces)
    assert [call.args[0] for call in records.erase.await_args_list] == [one, {"ws_2"}]
    assert records.sweep.await_count == paces.forget.await_count == 1
