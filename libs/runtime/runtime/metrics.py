"""What the process counts: Prometheus metrics, and the recent past for the dashboard."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
"""The one registry of a process, printed by `/metrics`."""

RECENT_SECONDS = 60.0
"""The dashboard's rates and quantiles are over this window."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

ProcessCollector(registry=REGISTRY)

ENDPOINT_SECONDS = Histogram(
    "causeloop_endpoint_seconds",
    "Time to answer a command on the bus.",
    ["endpoint", "outcome"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "causeloop_http_seconds",
    "Time to answer an HTTP request.",
    ["method", "route", "status"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
PROJECTOR_POSITION = Gauge(
    "causeloop_projector_position",
    "Sequence of the last event in the read model.",
    ["service", "partition"],
    registry=REGISTRY,
)
PROJECTOR_LAG = Gauge(
    "causeloop_projector_lag",
    "Events between the read model and the end of the log.",
    ["service", "partition"],
    registry=REGISTRY,
)
PROJECTOR_LEADER = Gauge(
    "causeloop_projector_leader",
    "1 while this process is the one that projects the partition.",
    ["service", "partition"],
    registry=REGISTRY,
)
PROJECTOR_STOPPED = Gauge(
    "causeloop_projector_stopped",
    "1 when a projection has stopped on an event it cannot apply.",
    ["service", "partition"],
    registry=REGISTRY,
)
PROJECTED_EVENTS = Counter(
    "causeloop_projected_events", "Events written to rows.", ["service", "partition"], registry=REGISTRY
)
PROJECTION_SECONDS = Histogram(
    "causeloop_projection_seconds",
    "Time to write and commit the rows of one batch.",
    ["service", "partition"],
    buckets=_SECONDS,
    registry=REGISTRY,
)


class SeenError(Struct, frozen=True):
    """An error that the dashboard shows: when and what."""

    at: datetime
    text: str


class Traffic(Struct, frozen=True):
    """How one endpoint or route did: totals since start, rate and quantiles over the last minute, or of the last 2,048
    requests where there were more; the quantiles are 0 where there were none.
    """

    name: str
    requests: int
    errors: int
    per_second: float
    ms_p50: float
    ms_p99: float


_RECENT_MAX: Final = 2048


class _Meter:
    """Totals and the recent durations of one endpoint or route."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT_MAX)

    def add(self, seconds: float, *, is_error: bool, now: float) -> None:
        self.requests += 1
        self.errors += is_error
        self._recent.append((now, seconds))

    def view(self, name: str, *, now: float) -> Traffic:
        since = now - RECENT_SECONDS
        recent = sorted(seconds for at, seconds in self._recent if at >= since)
        # Of a busy one the last minute is more than is kept.
        is_all = len(recent) < _RECENT_MAX
        span = RECENT_SECONDS if is_all else max(now - self._recent[0][0], 1e-3)
        return Traffic(
            name=name,
            requests=self.requests,
            errors=self.errors,
            per_second=round(len(recent) / span, 2),
            ms_p50=_quantile_ms(recent, 0.5),
            ms_p99=_quantile_ms(recent, 0.99),
        )


_last_errors: deque[SeenError] = deque(maxlen=10)
_endpoints: dict[str, _Meter] = {}
_routes: dict[str, _Meter] = {}


def remember_error(text: str) -> None:
    """Keep an error for the dashboard; only the last ten are kept."""
    _last_errors.append(SeenError(at=datetime.now(UTC), text=text[:500]))


def last_errors() -> tuple[SeenError, ...]:
    """The remembered errors, newest first."""
    return tuple(reversed(_last_errors))


@lru_cache(maxsize=2048)
def _http_series(method: str, route: str, status: int) -> Histogram:
    return HTTP_SECONDS.labels(method, route, str(status))


@lru_cache(maxsize=512)
def _endpoint_series(endpoint: str, outcome: str) -> Histogram:
    return ENDPOINT_SECONDS.labels(endpoint, outcome)


def observe_endpoint(endpoint: str, outcome: str, seconds: float) -> None:
    """Count one answered command; `outcome` is "ok" or the code of the refusal."""
    _endpoint_series(endpoint, outcome).observe(seconds)
    is_error = outcome in ("internal_error", "unavailable")
    _endpoints.setdefault(endpoint, _Meter()).add(seconds, is_error=is_error, now=time.monotonic())


def observe_http(method: str, route: str, *, status: int, seconds: float) -> None:
    """Count one answered HTTP request; `route` is the template, never the path with its ids."""
    _http_series(method, route, status).observe(seconds)
    _routes.setdefault(f"{method} {route}", _Meter()).add(
        seconds, is_error=status >= 500, now=time.monotonic()
    )


def endpoint_traffic() -> tuple[Traffic, ...]:
    """The endpoints of this process, by name."""
    now = time.monotonic()
    return tuple(meter.view(name, now=now) for name, meter in sorted(_endpoints.items()))


def http_traffic(*, limit: int = 12) -> tuple[Traffic, ...]:
    """The busiest routes of this process."""
    busiest = sorted(_routes.items(), key=lambda item: -item[1].requests)[:limit]
    now = time.monotonic()
    return tuple(meter.view(name, now=now) for name, meter in busiest)


def _quantile_ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2) if ordered else 0.0
