"""Watches one process and says how it is: the source of probes, dashboard and metrics."""

import asyncio
import os
import platform
import time
from collections import deque
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from eventlog import LogUnavailableError, ProjectedBatch, ProjectorStatus
from msgspec.structs import replace

from runtime import metrics
from runtime.health import ServiceStatus
from runtime.service import Resources, Service
from runtime.settings import ServiceSettings

SAMPLE_SECONDS = 2.0
MAX_SAMPLES = 150
SERVICES = ("gateway", "ingest", "pattern", "prediction", "recommendation")
"""In the order of their ports: the gateway's, then one higher each."""

_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Monitor:
    """The state of a service process; `status` is cheap and always current."""

    def __init__(self, settings: ServiceSettings, service: Service, resources: Resources) -> None:
        self._settings = settings
        self._service = service
        self._resources = resources
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._has_started = False
        self._memory_mb = _memory_mb()
        self._log_ends: dict[int, int] = {}
        self._history: dict[int, deque[float]] = {}
        self._versions = {
            "causeloop": service.version,
            "Python": platform.python_version(),
            "Litestar": version("litestar"),
        }
        if service.projection is not None:
            self._versions["read model"] = service.projection.version[:8]

    def started(self) -> None:
        """Everything that is to be served is served."""
        self._has_started = True
        nats = self._resources.nc.connected_server_version
        self._versions["NATS"] = f"{nats.major}.{nats.minor}.{nats.patch}"

    def on_batch(self, partition: int, batch: ProjectedBatch) -> None:
        """Count one committed batch."""
        labels = (self._service.name, str(partition))
        metrics.PROJECTED_EVENTS.labels(*labels).inc(batch.n_events)
        metrics.PROJECTION_SECONDS.labels(*labels).observe(batch.seconds)

    async def sample(self) -> None:
        """Take a sample every two seconds, for the dashboard's curves; never ends."""
        before: dict[int, int] = {}
        while True:
            for status in self._partitions():
                history = self._history.setdefault(status.partition, deque(maxlen=MAX_SAMPLES))
                events = status.events_total - before.get(status.partition, status.events_total)
                history.append(round(max(0, events) / SAMPLE_SECONDS, 1))
                before[status.partition] = status.events_total
                if status.state == "stopped":
                    await self._look_at_log(status.partition)
            self._memory_mb = _memory_mb()
            await asyncio.sleep(SAMPLE_SECONDS)

    def status(self) -> ServiceStatus:
        """The whole state now."""
        partitions = self._partitions()
        state, reasons = self._judge(partitions)
        return ServiceStatus(
            service=self._service.name,
            state=state,
            reasons=reasons,
            environment=self._settings.environment,
            started_at=self._started_at,
            uptime_seconds=round(time.monotonic() - self._started, 1),
            memory_mb=self._memory_mb,
            partitions=partitions,
            history={str(partition): tuple(samples) for partition, samples in self._history.items()},
            history_seconds=SAMPLE_SECONDS,
            commands=metrics.endpoint_traffic(),
            http=metrics.http_traffic(),
            last_errors=metrics.last_errors(),
            links=links(self._settings, self._service.name),
            versions=self._versions,
        )

    def _partitions(self) -> tuple[ProjectorStatus, ...]:
        return tuple(self._seen(projector.status) for projector in self._resources.projectors)

    def _seen(self, status: ProjectorStatus) -> ProjectorStatus:
        """A projector's own status; one that has stopped no longer looks at the log, so we do."""
        if status.state != "stopped":
            return status
        log_end = max(status.log_end, self._log_ends.get(status.partition, 0))
        return replace(status, log_end=log_end, lag=log_end - status.position)

    async def _look_at_log(self, partition: int) -> None:
        try:
            self._log_ends[partition] = await self._resources.event_log.last_seq(partition)
        except LogUnavailableError:
            return

    def _judge(self, partitions: tuple[ProjectorStatus, ...]) -> tuple[str, tuple[str, ...]]:
        """The state in one word, and the reasons for it."""
        if self._resources.stopping.is_set():
            return "stopping", ("The process is stopping.",)
        if not self._has_started:
            return "starting", ("The process is starting.",)
        waiting = [
            f"Partition {status.partition} is {status.state.replace('_', ' ')}, {status.lag} events behind."
            for status in partitions
            if status.state in ("starting", "catching_up")
        ]
        if not self._resources.nc.is_connected:
            waiting.append("NATS is not connected.")
        if waiting:
            return "waiting", tuple(waiting)
        stopped = tuple(
            # Not the alarm: /ready is for everybody, and the alarm is about an event.
            f"The projection of partition {status.partition} is stopped."
            for status in partitions
            if status.state == "stopped"
        )
        alarms = (*stopped, *(self._service.alarms() if self._service.alarms is not None else ()))
        return ("degraded", alarms) if alarms else ("ready", ())


def links(settings: ServiceSettings, service: str) -> dict[str, str]:
    """The dashboards of all services by name: SERVICE_URLS, or by the rule of consecutive ports."""
    if settings.service_urls:
        pairs = (pair.partition("=") for pair in settings.service_urls)
        return {name: url for name, _, url in pairs}
    if service not in SERVICES:
        return {}
    base = settings.port - SERVICES.index(service)
    found = {name: f"http://localhost:{base + number}/" for number, name in enumerate(SERVICES)}
    found["gateway"] += "status"
    return found


def _memory_mb() -> float:
    """Resident memory of this process; 0 where the system does not tell it this way."""
    try:
        return round(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_SIZE / 1e6, 1)
    except OSError:
        return 0.0
