"""How forecasts come true, as far as recommendations are scaled by it: hits and misses of one age together."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from contracts import prediction
from eventlog import EventLog
from msgspec.structs import replace
from runtime import database as databases
from testkit.builders import NOW, WORKSPACE
from testkit.servers import Database

from services.recommendation.engine.ranking import FADING, Calibration
from services.recommendation.reactions import Recommender, recommending
from services.recommendation.reactions.recommending import GRACE, _calibrations
from tests.services.recommendation.builders import append, resolved
from tests.services.recommendation.test_recommender import project_only, schema

__all__ = ["schema"]


async def test_a_hit_counts_from_the_end_of_its_window_on(schema: Database, event_log: EventLog) -> None:
    """Else a young record were hits alone, and every recommendation worth too much."""
    for number, (day, is_hit) in enumerate([(-40, False), (-2, True), (20, True), (25, True)]):
        event = resolved(probability=0.5, is_hit=is_hit, number=number)
        assert isinstance(event.data, prediction.PredictionResolved)
        ended = replace(event.data, expires_at=NOW + timedelta(days=day))
        await append(event_log, replace(event, data=ended))
    await project_only(event_log, schema)
    async with (
        databases.pool(schema.projector_url, schema="recommendation", max_size=1) as pool,
        pool.connection() as conn,
    ):

        async def at(day: float) -> tuple[float, float]:
            found = await _calibrations(conn, [WORKSPACE], now=NOW + timedelta(days=day) + GRACE)
            one = found.get(WORKSPACE)
            return (0.0, 0.0) if one is None else (one.n_hits, one.n_foretold)

        assert await at(-50) == (0.0, 0.0)
        assert await at(-2.01) == (0.0, 0.5)
        assert await at(-2) == pytest.approx((1.0, 0.5 + 0.5 * FADING))
        assert await at(30) == pytest.approx(
            (1 + FADING + FADING**2, 0.5 * (1 + FADING + FADING**2 + FADING**3)), abs=1e-5
        )


async def test_a_workspace_is_weighed_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of forecasts are not read for every round of decisions."""
    now, weighed = NOW, []

    async def weigh(_: Any, workspace_ids: list[str], *, now: datetime) -> dict[str, Calibration]:
        weighed.append((sorted(workspace_ids), now))
        return {WORKSPACE: Calibration(n_hits=1.0, n_foretold=2.0)}

    monkeypatch.setattr(recommending, "_calibrations", weigh)
    nothing: Any = None
    recommender = Recommender(nothing, nothing, nothing, clock=lambda: now)
    for minutes, asked in ((0, [WORKSPACE]), (10, [WORKSPACE, "ws_2"]), (59, [WORKSPACE]), (61, [WORKSPACE])):
        now = NOW + timedelta(minutes=minutes)
        await recommender._calibrate(nothing, asked)
    assert [(asked, (at - NOW) / timedelta(minutes=1)) for asked, at in weighed] == [
        ([WORKSPACE], 0),
        (["ws_2"], 10),
        ([WORKSPACE], 61),
    ]
