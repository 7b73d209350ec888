"""The demo's story: eight weeks of an online shop's failures, most of them old acquaintances. Pure and seeded.

The failures themselves are in story.toml.
"""

import random
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final, TypeAlias

import msgspec
from contracts import ingest
from msgspec import Struct

WEEKS: Final = 8
SEED: Final = 20_260_104
RESOLVED_AFTER: Final = timedelta(days=2)
LIVE_SHARE_KNOWN: Final = 0.9


class OnWeekdays(Struct, frozen=True, tag_field="kind", tag="on_weekdays", forbid_unknown_fields=True):
    """Every week on these days (Monday is 0), within `minutes` after the hour; now and then not."""

    weekdays: tuple[int, ...]
    hour: int
    minutes: int = 45

    def times(self, now: datetime, rng: random.Random) -> Iterator[datetime]:
        """When it struck within the last WEEKS weeks."""
        for days in range(WEEKS * 7, -1, -1):
            day = (now - timedelta(days=days)).replace(hour=self.hour, minute=0, second=0, microsecond=0)
            if day.weekday() in self.weekdays and rng.random() > 0.06:
                yield day + timedelta(minutes=rng.uniform(2, self.minutes))


class Irregularly(Struct, frozen=True, tag_field="kind", tag="irregularly", forbid_unknown_fields=True):
    """At random, on average every so many days."""

    every_days: float

    def times(self, now: datetime, rng: random.Random) -> Iterator[datetime]:
        """When it struck within the last WEEKS weeks."""
        moment = now - timedelta(weeks=WEEKS) + timedelta(days=rng.uniform(0.5, self.every_days))
        while moment < now:
            yield moment
            moment += timedelta(days=0.4 + rng.expovariate(1 / (self.every_days - 0.4)))


class Regularly(Struct, frozen=True, tag_field="kind", tag="regularly", forbid_unknown_fields=True):
    """About every so many days, in the same hour."""

    every_days: float
    hour: int

    def times(self, now: datetime, rng: random.Random) -> Iterator[datetime]:
        """When it struck within the last WEEKS weeks."""
        day = (now - timedelta(weeks=WEEKS)).replace(hour=self.hour, minute=0, second=0, microsecond=0)
        while day < now:
            yield day + timedelta(minutes=rng.uniform(0, 40))
            day += timedelta(days=self.every_days)


class Growing(Struct, frozen=True, tag_field="kind", tag="growing", forbid_unknown_fields=True):
    """New: once on the first of the last days, more often on each that follows."""

    last_days: int

    def times(self, now: datetime, rng: random.Random) -> Iterator[datetime]:
        """When it struck within the last WEEKS weeks."""
        for day in range(self.last_days):
            for _ in range(1 + day // 2):
                yield now - timedelta(days=self.last_days - day - rng.uniform(0.05, 0.9))


Schedule: TypeAlias = OnWeekdays | Irregularly | Regularly | Growing


class Wording(Struct, frozen=True, forbid_unknown_fields=True):
    """How one source tells of a failure; braces are filled with details of the occurrence."""

    source: str
    title: str
    body: str


class Recurring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failure that comes back."""

    slug: str
    service: str
    component: str
    error_type: str
    severity: str
    team: str
    reports: tuple[int, int]
    """Least and most reports of one occurrence."""
    schedule: Schedule
    wordings: tuple[Wording, ...]
    """The first is the usual one."""


class Single(Struct, frozen=True, forbid_unknown_fields=True):
    """A failure that happened once: the noise between the patterns."""

    source: str
    service: str
    severity: str
    title: str
    body: str


class _Story(Struct, frozen=True, forbid_unknown_fields=True):
    """What story.toml holds."""

    recurring: tuple[Recurring, ...]
    singles: tuple[Single, ...]


_STORY = msgspec.convert(
    tomllib.loads(files("causeloop").joinpath("story.toml").read_text(encoding="utf-8")), _Story
)
RECURRING: Final = _STORY.recurring
SINGLES: Final = _STORY.singles

_REGIONS: Final = ("eu-central-1", "eu-west-1", "us-east-1", "ap-southeast-1")
_SHOPS: Final = (
    "shop.example.com",
    "shop.example.de",
    "pay.example.com",
    "api.example.com",
    "cdn.example.com",
)


def past(now: datetime, *, seed: int = SEED) -> list[ingest.IssueReport]:
    """What happened in the weeks before `now`, oldest first; the same now and seed give the same reports."""
    rng = random.Random(seed)
    told: list[tuple[datetime, ingest.IssueReport]] = []
    for failure in RECURRING:
        for number, moment in enumerate(failure.schedule.times(now, rng)):
            if moment < now:
                told.extend(_occurrence(failure, number, moment, now, rng))
    for number, single in enumerate(SINGLES):
        moment = now - timedelta(hours=rng.uniform(1, WEEKS * 7 * 24))
        told.append((moment, _single(single, f"past-{number}", moment, now, rng)))
    told.sort(key=lambda pair: pair[0])
    return [report for _, report in told]


def live(now: datetime, rng: random.Random) -> ingest.IssueReport:
    """A failure that happens now: most often one that is known, sometimes a new one."""
    label = f"live-{int(now.timestamp() * 1000)}"
    if rng.random() < LIVE_SHARE_KNOWN:
        failure = rng.choice(RECURRING)
        return _report(failure, _wording(failure, rng), f"{failure.slug}-{label}", now, now, rng)
    return _single(rng.choice(SINGLES), label, now, now, rng)


def _occurrence(
    failure: Recurring, number: int, moment: datetime, now: datetime, rng: random.Random
) -> Iterator[tuple[datetime, ingest.IssueReport]]:
    """The reports of one time that a failure struck: several within a quarter of an hour."""
    for report_number in range(rng.randint(*failure.reports)):
        at = min(moment + timedelta(minutes=rng.uniform(0, 15)), now)
        external_id = f"{failure.slug}-{number}-{report_number}"
        yield at, _report(failure, _wording(failure, rng), external_id, at, now, rng)


def _wording(failure: Recurring, rng: random.Random) -> Wording:
    others = failure.wordings[1:]
    return rng.choice(others) if others and rng.random() < 0.2 else failure.wordings[0]


def _report(
    failure: Recurring, wording: Wording, external_id: str, at: datetime, now: datetime, rng: random.Random
) -> ingest.IssueReport:
    details = _details(rng)
    return ingest.IssueReport(
        external_id=external_id,
        source=wording.source,
        title=wording.title.format_map(details),
        body=wording.body.format_map(details),
        severity=failure.severity,
        status=_status(at, now),
        service=failure.service,
        component=failure.component,
        error_type=failure.error_type,
        environment="production",
        version=details["version"],
        team=failure.team,
        source_created_at=at.astimezone(UTC),
        metadata={"region": details["region"], "host": details["host"]},
    )


def _single(
    failure: Single, label: str, at: datetime, now: datetime, rng: random.Random
) -> ingest.IssueReport:
    details = _details(rng)
    return ingest.IssueReport(
        external_id=f"single-{label}",
        source=failure.source,
        title=failure.title.format_map(details),
        body=failure.body.format_map(details),
        severity=failure.severity,
        status=_status(at, now),
        service=failure.service,
        environment="production",
        source_created_at=at.astimezone(UTC),
        metadata={"region": details["region"]},
    )


def _status(at: datetime, now: datetime) -> str:
    return "resolved" if now - at > RESOLVED_AFTER else "new"


def _details(rng: random.Random) -> dict[str, str]:
    """Particulars that differ from report to report."""
    return {
        "ms": str(rng.randint(30_000, 34_000)),
        "order": str(rng.randint(100_000, 999_999)),
        "percent": str(rng.randint(12, 97)),
        "few": str(rng.randint(2, 9)),
        "host": f"ip-10-{rng.randint(0, 40)}-{rng.randint(1, 250)}-{rng.randint(1, 250)}",
        "pod": f"{_hex(rng, 8)}-{_hex(rng, 5)}",
        "region": rng.choice(_REGIONS),
        "shop": rng.choice(_SHOPS),
        "version": f"{rng.randint(3, 4)}.{rng.randint(0, 40)}.{rng.randint(0, 9)}",
    }


def _hex(rng: random.Random, length: int) -> str:
    return f"{rng.getrandbits(4 * length):0{length}x}"
