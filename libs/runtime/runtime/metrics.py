"""What the process counts: Prometheus metrics, and the last errors for the dashboard."""

from collections import deque
from datetime import UTC, datetime

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
"""One registry for a process; tests read it through `/metrics`."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

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
PROJECTOR_STOPPED = Gauge(
    "causeloop_projector_stopped",
    "1 when a projection has stopped on an event it cannot apply.",
    ["service", "partition"],
    registry=REGISTRY,
)
PROJECTED_EVENTS = Counter(
    "causeloop_projected_events_total", "Events written to rows.", ["service", "partition"], registry=REGISTRY
)
PROJECTION_SECONDS = Histogram(
    "causeloop_projection_seconds",
    "Time from an event's record to its rows.",
    ["service"],
    buckets=_SECONDS,
    registry=REGISTRY,
)


class SeenError(Struct, frozen=True):
    """An error that the dashboard shows: when and what."""

    at: datetime
    text: str


_last_errors: deque[SeenError] = deque(maxlen=10)


def remember_error(text: str) -> None:
    """Keep an error for the dashboard; only the last ten are kept."""
    _last_errors.append(SeenError(at=datetime.now(UTC), text=text[:500]))


def last_errors() -> tuple[SeenError, ...]:
    """The remembered errors, newest first."""
    return tuple(reversed(_last_errors))


def observe_endpoint(endpoint: str, outcome: str, seconds: float) -> None:
    """Count one answered command."""
    ENDPOINT_SECONDS.labels(endpoint, outcome).observe(seconds)
