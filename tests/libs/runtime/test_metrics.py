"""What the dashboards show of the last minute."""

import pytest
from runtime.metrics import RECENT_SECONDS, _Meter


def test_rate_of_a_quiet_route_is_over_the_last_minute() -> None:
    meter = _Meter()
    for second in (0, 30, 59):
        meter.add(0.002, is_error=False, now=1000.0 + second)
    seen = meter.view("GET /", now=1000.0 + RECENT_SECONDS + 1)
    assert (seen.requests, seen.per_second, seen.ms_p50) == (3, round(2 / RECENT_SECONDS, 2), 2.0)
    assert meter.view("GET /", now=2000.0).per_second == 0


def test_rate_of_a_busy_route_is_not_bounded_by_what_is_kept() -> None:
    meter = _Meter()
    for number in range(60_000):
        meter.add(0.001, is_error=False, now=1000.0 + number / 1_500)
    assert meter.view("POST /", now=1040.0).per_second == pytest.approx(1_500, rel=0.01)
