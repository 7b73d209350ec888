"""Two hundred connectors of twenty workspaces for many minutes: pace, fairness, memory and disk, told each minute."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import requests
from contracts import connector
from eventlog import EventLog
from msgspec import Struct, convert
from nats.aio.client import Client
from runtime.sealing import MasterKeys

from .sources import MANIFEST, RECORDS, SMALL, Connected, connect, start, vendor, workspace

TENANTS = 20
FREE, FREE_PER_MINUTE = 8, 1_200
SLOW_PER_MINUTE = 3
SHARED_ACCOUNTS, SHARED_PER_MINUTE = 2, 30
"""Each workspace has so many connectors whose vendor may be asked more often than we can; one whose account may be asked
three times a minute; and one that shares its account, thirty times a minute, with those of nine other workspaces."""
FREE_DISK_GB_MIN = 8.0
"""With less left on the disk, the load ends early."""


class Bench(Struct, frozen=True, kw_only=True):
    """What a load that lasts is made with, and what is seen of it.

    memory: MB by process. cpu: seconds by process. read: records that runs which are not over have read, by workspace.
    folder: where the servers write. tell: prints a line.
    """

    nc: Client
    log: EventLog
    masters: MasterKeys
    memory: Callable[[], Mapping[str, float]]
    cpu: Callable[[], Mapping[str, float]]
    read: Callable[[], Awaitable[Mapping[str, int]]]
    folder: Path
    tell: Callable[[str], None]


class Pace(Struct, frozen=True, kw_only=True):
    """What the vendor counted of accounts that may be asked equally often.

    n, n_refused: requests in all, and those answered 429. most: of one account within any 60 seconds. a_minute: of one
    account on average, since it was asked first.
    """

    n_accounts: int
    n: int
    n_refused: int
    most: int
    a_minute: float


async def sustain(bench: Bench, *, records: int, minutes: float, free: int = FREE) -> str:
    """Each of 200 connectors has so many records to give; what came of it after so many minutes, in words.

    free: connectors of each workspace that nothing but we ourselves slow down; 0: those alone that wait for their account.

    A minute after the beginning twenty workspaces with one connector of 200 records each are asked for as well. It ends
    before that if all of the 200 are read whole; nothing else is waited for.
    """
    with vendor() as url:
        tenants = [workspace(number) for number in range(1, TENANTS + 1)]
        connected = [
            each for number in range(TENANTS) for each in await _connected(bench, url, records, number, free)
        ]
        small = [
            await _connect(bench, workspace(500 + number), url, f"{RECORDS}-{FREE_PER_MINUTE}-s{number}")
            for number in range(SMALL)
        ]
        course = _Course(bench)
        following = asyncio.create_task(course.follow())
        await asyncio.gather(*(start(bench.nc, each) for each in connected))
        small_at = 0.0
        while course.seconds < minutes * 60 and not course.is_disk_full and not course.is_over(connected):
            await asyncio.sleep(min(60.0, max(0.1, minutes * 60 - course.seconds)))
            await course.look()
            if not small_at:
                small_at = time.perf_counter()
                await asyncio.gather(*(start(bench.nc, each) for each in small))
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        paces = await _paces(url)
    done = sorted(
        course.ends[each.connector_id] - small_at for each in small if each.connector_id in course.ends
    )
    return (
        f"{course.n_whole(connected, records)} of {len(connected)} connectors read whole; {course.told(tenants)};"
        f" {_small(done)}; {'; '.join(_pace(*pace) for pace in sorted(paces.items()))}"
    )


async def _connected(bench: Bench, url: str, records: int, number: int, free: int) -> list[Connected]:
    """The connectors of one of the workspaces of equal size."""
    accounts = [(f"f{number}x{each}", FREE_PER_MINUTE) for each in range(free)]
    accounts += [(f"a{number}", SLOW_PER_MINUTE), (f"b{number % SHARED_ACCOUNTS}", SHARED_PER_MINUTE)]
    return [
        await _connect(bench, workspace(number + 1), url, f"{records}-{per_minute}-{name}")
        for name, per_minute in accounts
    ]


async def _connect(bench: Bench, workspace_id: str, url: str, token: str) -> Connected:
    manifest = MANIFEST | {"rate_per_minute": int(token.split("-")[1])}
    return await connect(bench.nc, bench.masters, workspace_id, url, token, manifest=manifest)


class _Course:
    """What is seen from minute to minute. ends: when the runs of connectors were over; records: of those that were."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._begun = self._looked = time.perf_counter()
        self._cpu = bench.cpu()
        self._cpu_before = dict(self._cpu)
        self._disk_before = _disk_gb(bench.folder)
        self._ended: Tally[str] = Tally()
        self._read: Tally[str] = Tally()
        self._rates: list[float] = []
        self._memory: dict[str, list[float]] = {}
        self.ends: dict[str, float] = {}
        self.records: Tally[str] = Tally()
        self.is_disk_full = False

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._begun

    def is_over(self, connected: Sequence[Connected]) -> bool:
        """Whether the run of each of them has ended."""
        return all(each.connector_id in self.ends for each in connected)

    def n_whole(self, connected: Sequence[Connected], records: int) -> int:
        """How many of them have ended with no record too few or too many."""
        return sum(self.records[each.connector_id] == records for each in connected)

    async def follow(self) -> None:
        """Note the runs that end, without end."""
        async for batch in self._bench.log.read(0, after=0, aggregates=("sync_run",)):
            for event in batch.events:
                if isinstance(event.data, connector.SyncEnded):
                    self._ended[event.workspace_id] += event.data.counts.n_records
                    self.ends[event.data.connector_id] = time.perf_counter()
                    self.records[event.data.connector_id] += event.data.counts.n_records

    async def look(self) -> None:
        """Tell of the time since the last look."""
        read = Tally(await self._bench.read()) + self._ended
        now, cpu, memory = time.perf_counter(), self._bench.cpu(), self._bench.memory()
        n_new = read.total() - self._read.total()
        self._rates.append(n_new / (now - self._looked))
        for name, used in memory.items():
            self._memory.setdefault(name, []).append(used)
        free_gb = shutil.disk_usage(self._bench.folder).free / 1e9
        self._bench.tell(
            f"minute {len(self._rates)}: {self._rates[-1]:.0f} records/s; MB {_listed(memory)}; µs of CPU a record "
            + _listed({name: (used - self._cpu[name]) / max(1, n_new) * 1e6 for name, used in cpu.items()})
            + f"; {free_gb:.1f} GB of disk free"
        )
        self._read, self._looked, self._cpu = read, now, cpu
        self.is_disk_full = free_gb < FREE_DISK_GB_MIN

    def told(self, tenants: Sequence[str]) -> str:
        """All of it, in words."""
        n, seconds = self._read.total(), self._looked - self._begun
        equal = sorted(self._read[workspace_id] for workspace_id in tenants)
        costs = {name: (used - self._cpu_before[name]) / max(1, n) * 1e6 for name, used in self._cpu.items()}
        written = {
            name: (used - self._disk_before[name]) / max(1, n) * 1e6
            for name, used in _disk_gb(self._bench.folder).items()
        }
        return (
            ("ended early, for want of disk: " if self.is_disk_full else "")
            + f"{n} records in {seconds:.0f} s, {n / seconds:.0f}/s, by minute {_row(self._rates)}; workspaces of equal size"
            f" {equal[0]} / {equal[len(equal) // 2]} / {equal[-1]} (fewest / middle / most); MB by minute: "
            + "; ".join(f"{name} {_row(each)}" for name, each in self._memory.items())
            + f"; µs of CPU a record: {_listed(costs)}; GB of disk a million records: {_listed(written, digits=2)}"
        )


async def _paces(url: str) -> dict[int, Pace]:
    """By how often an account may be asked within a minute."""
    counts = (await asyncio.to_thread(requests.get, f"{url}/counts", timeout=60)).json()
    return {int(per_minute): convert(each, Pace, strict=False) for per_minute, each in counts.items()}


def _pace(per_minute: int, pace: Pace) -> str:
    return (
        f"of {pace.n_accounts} accounts that may be asked {per_minute} times in any 60 seconds one was asked at most"
        f" {pace.most} times, {pace.a_minute:.1f} a minute on average, {pace.n_refused} of {pace.n} answered 429"
    )


def _small(done: Sequence[float]) -> str:
    if not done:
        return "none of the small ones done"
    return (
        f"{len(done)} of {SMALL} small ones done, the middle after {done[len(done) // 2]:.1f} s,"
        f" the last after {done[-1]:.1f}"
    )


def _disk_gb(folder: Path) -> dict[str, float]:
    """What each server has written; PostgreSQL's write-ahead log, which does not grow for ever, by itself."""
    sizes: Tally[str] = Tally()
    for server in ("nats", "postgres"):
        for path in (folder / server).rglob("*"):
            sizes["write-ahead log" if "pg_wal" in path.parts else server] += _size(path)
    return {name: sizes[name] / 1e9 for name in ("nats", "postgres", "write-ahead log")}


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        # It has been replaced since.
        return 0


def _listed(values: Mapping[str, float], *, digits: int = 0) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)
