"""When a connector is polled. Pure."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from zoneinfo import ZoneInfo

from contracts import connector
from cronsim import CronSim, CronSimError

INTERVAL_SECONDS_MIN: Final = 60
INTERVAL_SECONDS_MAX: Final = 604_800
INTERVAL_SECONDS_DEFAULT: Final = 1_800
SPREAD_SECONDS: Final = 60
"""Connectors that are due at the same moment begin within so many seconds of it, each at its own."""
_CRON_LENGTH_MAX: Final = 200
_CRON_FIELDS: Final = 5
# Any moment will do: whether an expression ever holds does not depend on it.
_SOME_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)

DEFAULT: Final = connector.ConnectorSchedule(interval_seconds=INTERVAL_SECONDS_DEFAULT, timezone="UTC")


def problems(schedule: connector.ConnectorSchedule) -> dict[str, str]:
    """What is wrong with a schedule, by field."""
    found: dict[str, str] = {}
    if (schedule.interval_seconds is None) == (schedule.cron is None):
        found["schedule"] = "needs one of interval_seconds and cron"
    interval = schedule.interval_seconds
    if interval is not None and not INTERVAL_SECONDS_MIN <= interval <= INTERVAL_SECONDS_MAX:
        found["schedule.interval_seconds"] = (
            f"is {interval}; use {INTERVAL_SECONDS_MIN} to {INTERVAL_SECONDS_MAX}"
        )
    if schedule.cron is not None:
        problem = _cron_problem(schedule.cron)
        if problem:
            found["schedule.cron"] = problem
    try:
        ZoneInfo(schedule.timezone)
    except (ValueError, KeyError, OSError):  # what zoneinfo raises for a path, an unknown key, a folder
        found["schedule.timezone"] = f"{schedule.timezone[:60]!r} is no IANA time zone, such as Europe/Zurich"
    return found


def next_due(
    schedule: connector.ConnectorSchedule,
    *,
    connector_id: str,
    since: datetime,
    last_run_at: datetime | None,
) -> datetime:
    """When the connector has to run next; a time that is past stands for all that were missed.

    since: when the schedule began to count. last_run_at: when the last run was asked for. In a zone that changes its
    clocks a time that is skipped is run right after, and one that comes twice is run once (as Debian's cron does).
    """
    spread = timedelta(seconds=spread_seconds(connector_id))
    if schedule.cron is not None:
        after = since if last_run_at is None else max(since, last_run_at)
        zone = ZoneInfo(schedule.timezone)
        moment: datetime = next(CronSim(schedule.cron, after.astimezone(zone)))
        return moment.astimezone(UTC) + spread
    if last_run_at is None:
        return since + spread
    return last_run_at + timedelta(seconds=schedule.interval_seconds or INTERVAL_SECONDS_DEFAULT)


def spread_seconds(connector_id: str) -> int:
    """The connector's own share of SPREAD_SECONDS, always the same."""
    return int.from_bytes(sha256(connector_id.encode()).digest()[:4]) % SPREAD_SECONDS


def _cron_problem(cron: str) -> str:
    if len(cron) > _CRON_LENGTH_MAX or len(cron.split()) != _CRON_FIELDS:
        return "needs five fields: minute, hour, day of month, month, day of week"
    try:
        next(CronSim(cron, _SOME_TIME))
    except CronSimError as error:
        return f"is no cron expression: {error}"
    except StopIteration:
        return "never holds"
    return ""
