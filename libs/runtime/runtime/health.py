"""What a service says of itself, to probes, to the dashboard and to `causeloop status`."""

from datetime import datetime

from eventlog import ProjectorStatus
from msgspec import Struct

from runtime.metrics import SeenError, Traffic


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """The whole state of one service process, as `/status.json` gives it.

    state: starting, waiting (for its projections or the broker), ready, degraded (serves, but a projection
        is stopped or something else needs an operator) or stopping.
    reasons: why it is not simply ready, for people.
    history: per partition, events per second at each sample of the last minutes, oldest first.
    links: dashboards of all services by name.
    versions: of the build, the read model and what they run on.
    """

    service: str
    state: str
    reasons: tuple[str, ...] = ()
    environment: str = "development"
    started_at: datetime
    uptime_seconds: float
    memory_mb: float = 0.0
    partitions: tuple[ProjectorStatus, ...] = ()
    history: dict[str, tuple[float, ...]] = {}
    history_seconds: float = 2.0
    commands: tuple[Traffic, ...] = ()
    http: tuple[Traffic, ...] = ()
    last_errors: tuple[SeenError, ...] = ()
    links: dict[str, str] = {}
    versions: dict[str, str] = {}

    @property
    def is_stopping(self) -> bool:
        """Whether it no longer wants requests."""
        return self.state == "stopping"

    @property
    def is_ready(self) -> bool:
        """Whether it can answer requests, be it with a projection that stands still."""
        return self.state in ("ready", "degraded")
