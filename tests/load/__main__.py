"""Ours beside the raw limit, in one run: `make bench`, or `python -m tests.load [part …]`.

Parts: accept (a), live (a), project (b), rebuild (c), latency (d), memory (f), growth (e; takes long), tenants (two
gateways, exact counts), clients (made in SQL, soon usable), webhooks (vendors' calls to the queue), sources (200
connectors at once; with --records and --minutes: so many records each, for so long, some of them at accounts that may
be asked seldom), grouping (the engine alone with up to 10^5 patterns, without servers; takes minutes).
Machines are noisy, so only ratios of one run mean anything; docs/benchmarks.md keeps the results.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec
import nats
import psycopg
import uvloop
from eventlog import EventLog, rebuild
from nats.aio.client import Client
from runtime.embedded import NatsOptions, PostgresOptions
from runtime.health import ServiceStatus
from runtime.settings import load
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.projections import projection
from services.ingest.settings import IngestSettings

from . import bare
from . import clients as new_clients
from . import sources as connectors
from . import sustained as lasting
from . import tenants as many
from . import webhooks as hooks
from .failures import batches, failures
from .http import Connection

SERVICES = ("gateway", "ingest", "pattern", "prediction", "recommendation")
ENVIRONMENT = {
    "LOG_LEVEL": "warning",
    "WEBHOOK_DELIVERIES_PER_MINUTE": "100000000",
    "OUTBOUND_ALLOW": "127.0.0.0/8",
}
TARGETS = {
    "accept": "ratio ≥ 0.35",
    "live": "ratio ≥ 0.08",
    "project": "ratio ≥ 0.6",
    "rebuild": "ratio ≥ 0.3",
    "latency": "p50 ≤ 15 ms, p99 ≤ 60 ms",
    "growth": "ratio ≤ 1.2",
    "memory": "≤ 700 MB",
    "clients": "≤ 1 s",
    "tenants": "exact",
    "webhooks": "≥ 1,500/s, p99 ≤ 50 ms",
    "sources": "small ones first, memory flat",
}


class Bench:
    """A stack with the product's server settings, a log connection and a client with a token."""

    def __init__(self, stack: Stack, nc: Client, log: EventLog) -> None:
        self.stack = stack
        self.nc = nc
        self.log = log
        self.results: list[tuple[str, str]] = []

    def report(self, part: str, text: str) -> None:
        """Print a result and keep it."""
        self.results.append((part, text))
        print(f"{part:9} {text}   [target {TARGETS[part]}]", flush=True)

    async def behind(self, doors: Mapping[str, Connection]) -> int:
        """Events that wait for the slowest service; in the gateway's case all that its rows do not show yet."""
        lags = []
        for name, door in doors.items():
            status = msgspec.json.decode(await door.expect("GET", "/status.json"), type=ServiceStatus)
            lags.append(status.partitions[0].lag)
            if name == "gateway":
                lags.append(await self.log.last_seq(0) - status.partitions[0].position)
        return max(lags)

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[dict[str, Connection]]:
        """A connection to each service's own port."""
        async with AsyncExitStack() as stack:
            yield {
                name: await stack.enter_async_context(Connection("127.0.0.1", service.port, {}))
                for name, service in self.stack.services.items()
            }

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A signed-in connection to the gateway."""
        port = self.stack.services["gateway"].port
        async with Connection("127.0.0.1", port, {}) as anonymous:
            answer = await anonymous.expect("POST", "/v1/auth/exchange", b'{"subject_token":"bench"}')
        token = msgspec.json.decode(answer)["access_token"]
        async with Connection("127.0.0.1", port, {"Authorization": f"Bearer {token}"}) as client:
            yield client

    async def positions(self) -> dict[str, tuple[int, int]]:
        """Position and lag of each service, as its dashboard shows them."""
        found = {}
        for name, service in self.stack.services.items():
            partition = (await service.status()).partitions[0]
            if partition.alarm:
                raise RuntimeError(f"{name}: {partition.alarm}")
            found[name] = (partition.position, partition.lag)
        return found

    async def quiet(self, *, every: float = 0.2) -> None:
        """Wait until nothing lags and nothing more is appended."""
        last = -1
        while True:
            end = await self.log.last_seq(0)
            positions = await self.positions()
            if (
                end == last
                and positions["gateway"][0] == end
                and not any(lag for _, lag in positions.values())
            ):
                return
            last = end
            await asyncio.sleep(every)

    @asynccontextmanager
    async def paused(self, *services: str) -> AsyncIterator[dict[str, AsyncExitStack]]:
        """Projectors of these services stand by: their locks are held here, as by another leader; close one to let it go."""
        async with AsyncExitStack() as all_locks:
            locks = {}
            for service in services:
                locks[service] = await all_locks.enter_async_context(AsyncExitStack())
                conn = await psycopg.AsyncConnection.connect(
                    self.stack.database.projector_url, autocommit=True
                )
                await locks[service].enter_async_context(conn)
                await _take_lead(conn, service)
            yield locks


async def _take_lead(conn: psycopg.AsyncConnection[tuple[object, ...]], service: str) -> None:
    key = int.from_bytes(sha256(f"projector/{service}/0".encode()).digest()[:8], "big", signed=True)
    while True:
        row = await (await conn.execute("SELECT pg_try_advisory_lock(%s)", (key,))).fetchone()
        if row and row[0]:
            return
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            (f"{service}-projector-0",),
        )
        await asyncio.sleep(0.01)


async def send(bench: Bench, bodies: Iterator[bytes], *, count: int, connections: int = 4) -> float:
    """Post so many batches over some connections; seconds taken."""
    left = iter(list(itertools.islice(bodies, count)))

    async def one() -> None:
        async with bench.connection() as client:
            for body in left:
                await client.expect("POST", "/v1/ingest/batch", body, status=202)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return time.perf_counter() - started


async def stored_bodies(bench: Bench, count: int, *, after: int) -> list[bytes]:
    """The bytes of events as they are in the log."""
    js = bench.nc.jetstream()
    subscription = await js.subscribe("evt.>", stream="EVENTS_0", ordered_consumer=True)
    found: list[bytes] = []
    while len(found) < count:
        message = await subscription.next_msg(timeout=10)
        if message.metadata.sequence.stream > after:
            found.append(message.data)
    await subscription.unsubscribe()
    return found


async def accept(bench: Bench, *, n_batches: int = 80) -> None:
    """(a) Batches of 500 over HTTP to durable events, projectors paused, beside bare publish of the same bytes."""
    bodies = batches(failures(1))
    async with bench.paused(*SERVICES):
        await send(bench, bodies, count=8)
        before = await bench.log.last_seq(0)
        ours, raw = [], []
        for _ in range(3):
            seconds = await send(bench, bodies, count=n_batches // 3)
            ours.append((n_batches // 3) * 500 / seconds)
            payloads = await stored_bodies(bench, (n_batches // 3) * 500, after=before)
            raw.append(await bare.publish_rate(bench.nc, payloads))
    _compare(bench, "accept", "events/s accepted", ours, raw)


async def live(bench: Bench, *, seconds: float = 60.0, max_lag: int = 4000) -> None:
    """(a) The whole system following: sending waits while anything lags, so what is sent is what is kept up with."""
    stream = batches(failures(2, first=100_000_000))
    await send(bench, stream, count=20)
    await bench.quiet()
    bodies = iter(list(itertools.islice(stream, 500)))
    before, started = await bench.log.last_seq(0), time.perf_counter()
    sent, peak = 0, 0
    async with bench.connection() as client, bench.doors() as doors:
        while time.perf_counter() - started < seconds:
            behind = await bench.behind(doors)
            peak = max(peak, behind)
            if behind > max_lag:
                await asyncio.sleep(0.05)
                continue
            await client.expect("POST", "/v1/ingest/batch", next(bodies), status=202)
            sent += 500
    await bench.quiet()
    taken = time.perf_counter() - started
    events = await bench.log.last_seq(0) - before
    payloads = await stored_bodies(bench, min(20_000, sent), after=before)
    raw = [await bare.publish_rate(bench.nc, payloads) for _ in range(3)]
    _compare(
        bench,
        "live",
        f"issues/s through all five services ({events / sent:.2f} events each, peak lag {peak})",
        [sent / taken],
        raw,
    )


async def project(bench: Bench, *, n_batches: int = 60) -> None:
    """(b) The gateway's projection of a backlog, beside a bare upsert of the same rows in one statement a batch."""
    ours, raw = [], []
    for seed in (21, 22, 23):
        async with bench.paused(*SERVICES) as locks:
            start = await bench.log.last_seq(0)
            await send(bench, batches(failures(seed, first=seed * 10_000_000)), count=n_batches)
            end = await bench.log.last_seq(0)
            await locks["gateway"].aclose()
            ours.append(await _catch_up_rate(bench, start, end))
            raw.append(
                await bare.write_rate(
                    bench.stack.database.admin_url,
                    "gateway",
                    "issues",
                    "workspace_id, issue_id",
                    limit=end - start,
                )
            )
        await bench.quiet()
    _compare(bench, "project", "events/s projected", ours, raw)


async def _catch_up_rate(bench: Bench, start: int, end: int) -> float:
    """Events per second between the first and the last position seen on the way."""
    first: tuple[float, int] | None = None
    async with await psycopg.AsyncConnection.connect(
        bench.stack.database.projector_url, autocommit=True
    ) as conn:
        while True:
            row = await (await conn.execute("SELECT position FROM gateway.checkpoint")).fetchone()
            position, now = int(str(row[0])) if row else 0, time.perf_counter()
            if first is None and position > start:
                first = now, position
            if position >= end and first:
                return (position - first[1]) / (now - first[0])
            await asyncio.sleep(0.005)


async def replay(bench: Bench) -> None:
    """(c) Rebuilding the gateway's rows from the first event, beside a bare ordered consumer with decode."""
    await send(bench, batches(failures(3, first=300_000_000)), count=80)
    await bench.quiet()
    end = await bench.log.last_seq(0)
    ours, raw = [], []
    for _ in range(3):
        started = time.perf_counter()
        await rebuild(
            bench.log,
            projection(),
            owner_url=bench.stack.database.owner_url,
            projector_url=bench.stack.database.projector_url,
        )
        ours.append(end / (time.perf_counter() - started))
        raw.append(await bare.read_rate(bench.nc, "EVENTS_0", end))
    _compare(bench, "rebuild", f"events/s rebuilt of {end}", ours, raw)


async def latency(bench: Bench, *, seconds: float = 30.0, rate: float = 100.0) -> None:
    """(d) From POST /v1/issues to the issue in a GET, at 100 a second, open loop."""
    took: list[float] = []
    records = failures(4, first=400_000_000)
    await send(bench, batches(records), count=20)
    await bench.quiet()
    free: asyncio.Queue[Connection] = asyncio.Queue()

    async def one(record: dict[str, object], due: float) -> None:
        client = await free.get()
        try:
            body = await client.expect("POST", "/v1/issues", msgspec.json.encode(record), status=201)
            path = f"/v1/issues/{msgspec.json.decode(body)['id']}"
            while (await client.request("GET", path))[0] != 200:
                pass
            took.append((time.perf_counter() - due) * 1000)
        finally:
            free.put_nowait(client)

    async with AsyncExitStack() as stack:
        for _ in range(16):
            free.put_nowait(await stack.enter_async_context(bench.connection()))
        used = _cpu_seconds(bench)
        async with asyncio.TaskGroup() as tasks:
            started = time.perf_counter()
            for number in range(int(seconds * rate)):
                due = started + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(one(next(records), due))
    _costs(bench, "latency", used, len(took))
    took = sorted(took[int(rate) :])
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    bench.report("latency", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(took)} issues at {rate:.0f}/s")


async def memory(bench: Bench) -> None:
    """(f) Proportional set size of every process of the stack, idle after some work."""
    await send(bench, batches(failures(5, first=500_000_000)), count=10)
    await bench.quiet()
    await asyncio.sleep(5)
    sizes = {name: _pss_mb(service.pid) for name, service in bench.stack.services.items()}
    sizes["nats-server"] = _pss_mb(bench.stack.nats.pid)
    sizes["postgres"] = _pss_mb(bench.stack.postgres.pid)
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    bench.report("memory", f"{sum(sizes.values()):.0f} MB ({parts})")


def _family(pid: int | None) -> list[int]:
    """A process and its children."""
    if pid is None:
        return []
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in task.read_text().split():
                found += _family(int(child))
    return found


def _pss_mb(pid: int | None) -> float:
    total = 0
    for member in _family(pid):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            # It has ended since.
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def _cpu_seconds(bench: Bench) -> dict[str, float]:
    """CPU time used so far by each service and server."""
    owners = {name: service.pid for name, service in bench.stack.services.items()}
    owners |= {"nats-server": bench.stack.nats.pid, "postgres": bench.stack.postgres.pid}
    used = {}
    for name, pid in owners.items():
        lines = []
        for member in _family(pid):
            # One that has ended since is in its parent's.
            with suppress(FileNotFoundError, ProcessLookupError):
                lines.append(Path(f"/proc/{member}/stat").read_text())
        fields = [line.rpartition(")")[2].split()[11:15] for line in lines]
        used[name] = sum(int(ticks) for four in fields for ticks in four) / os.sysconf("SC_CLK_TCK")
    return used


def _costs(bench: Bench, part: str, used: Mapping[str, float], n_issues: int) -> float:
    """Print the CPU time since `used` by process; µs an issue, all together."""
    costs = {name: (now - used[name]) / n_issues * 1e6 for name, now in _cpu_seconds(bench).items()}
    parts = ", ".join(f"{name} {each:.0f}" for name, each in costs.items())
    print(f"{part:9} µs of CPU an issue: {parts}", flush=True)
    return sum(costs.values())


async def growth(bench: Bench, *, sizes: Sequence[int] = (10_000, 1_000_000), window: int = 20_000) -> None:
    """(e) CPU per issue, all processes together, with 10^4 and with 10^6 issues in the system."""
    bodies = batches(failures(6, first=600_000_000))
    total, costs = 0, []
    for size in sizes:
        while total < size:
            step = min(10_000, size - total)
            await send(bench, bodies, count=step // 500, connections=2)
            await bench.quiet()
            total += step
            print(f"growth    {total} issues", end="\r", file=sys.stderr, flush=True)
        used = _cpu_seconds(bench)
        await send(bench, bodies, count=window // 500, connections=2)
        await bench.quiet()
        costs.append(_costs(bench, "growth", used, window))
        total += window
    shown = ", ".join(f"{cost:.0f} µs at {size:.0e}" for cost, size in zip(costs, sizes, strict=True))
    bench.report("growth", f"{costs[-1] / costs[0]:.2f} ({shown})")


async def tenants(bench: Bench) -> None:
    """Two hundred tenants through two gateways: no foreign row, exact counts of requests and seats."""
    bench.report("tenants", await many.measure(bench.stack))


async def clients(bench: Bench) -> None:
    """Clients made in SQL: how soon they are usable over HTTP."""
    bench.report("clients", await new_clients.measure(bench.stack))


async def webhooks(bench: Bench, *, n: int = 12_000) -> None:
    """Deliveries to durable jobs, beside bare publish of as many bytes; then how long one waits at steady rates.

    All that is made of them is made meanwhile by ingest, without the projectors of the others.
    """
    sender = hooks.Sender(bench.stack, seed=7)
    async with bench.connection() as client:
        await sender.connect(client, n=200)
    await bench.quiet()
    others = [name for name in SERVICES if name != "ingest"]
    async with bench.paused(*others):
        await sender.flood(1_000)
        floods, raw = [], []
        for _ in range(3):
            used = _cpu_seconds(bench)
            floods.append(await sender.flood(n // 3))
            _costs(bench, "webhooks", used, n // 3)
            raw.append(await bare.publish_rate(bench.nc, [call.body for call in sender.signed(n // 3)]))
        middle = sorted(floods, key=lambda each: each.rate)[len(floods) // 2]
        shown = [f"p50 {middle.p50:.1f} ms, p99 {middle.p99:.1f} ms at {middle.rate:.0f}/s"]
        for rate, seconds, n_connectors in ((200.0, 20, 1), (1_500.0, 60, 1), (1_500.0, 60, 200)):
            await eventually(lambda: _is_empty(bench), deadline=300, every=0.1)
            used = _cpu_seconds(bench)
            found = await sender.steady(int(seconds * rate), rate=rate, n_connectors=n_connectors)
            _costs(bench, "webhooks", used, found.n_deliveries)
            left = (await bench.nc.jetstream().stream_info("DELIVERIES")).state.messages
            shown.append(
                f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms at {found.rate:.0f}/s for {found.seconds:.0f} s to"
                f" {n_connectors} connector(s), {left} left to do at the end"
            )
    _compare(bench, "webhooks", "deliveries/s accepted", [each.rate for each in floods], raw)
    bench.report("webhooks", "; ".join(shown))


async def _is_empty(bench: Bench) -> bool:
    """Whether no delivery waits."""
    return not (await bench.nc.jetstream().stream_info("DELIVERIES")).state.messages


async def sustained(bench: Bench, *, records: int, minutes: float, free: int) -> None:
    """Two hundred connectors with so many records each, stopped after so many minutes."""
    ingest = bench.stack.services["ingest"]
    environment = bench.stack.environment(ingest.port, {"ingest": ingest.port})
    pids = {
        "ingest": ingest.pid,
        "nats-server": bench.stack.nats.pid,
        "postgres": bench.stack.postgres.pid,
    }

    async def read() -> dict[str, int]:
        async with await psycopg.AsyncConnection.connect(bench.stack.database.owner_url) as conn:
            cursor = await conn.execute(
                "SELECT workspace_id, sum((resume::jsonb #>> '{counts,n_records}')::bigint)::bigint"
                " FROM sources.stream_positions WHERE run_id <> '' GROUP BY workspace_id"
            )
            return dict(await cursor.fetchall())

    made = lasting.Bench(
        nc=bench.nc,
        log=bench.log,
        masters=load(IngestSettings, environment).master_keys(),
        memory=lambda: {name: _pss_mb(pid) for name, pid in pids.items()},
        cpu=lambda: {name: used for name, used in _cpu_seconds(bench).items() if name in pids},
        read=read,
        folder=bench.stack.exports.parent,
        tell=partial(print, flush=True),
    )
    async with bench.paused("gateway", "pattern", "prediction", "recommendation"):
        bench.report("sources", await lasting.sustain(made, records=records, minutes=minutes, free=free))


async def sources(bench: Bench) -> None:
    """180 connectors of one workspace and 20 of others' behind them, all at once; then one with 20,000 records."""
    ingest = bench.stack.services["ingest"]
    environment = bench.stack.environment(ingest.port, {"ingest": ingest.port})
    masters = load(IngestSettings, environment).master_keys()
    async with bench.paused("gateway", "pattern", "prediction", "recommendation"):
        found = await connectors.measure(bench.nc, bench.log, masters, lambda: _pss_mb(ingest.pid))
    before, after, peak = found.memory_mb
    bench.report(
        "sources",
        f"{found.ours / found.raw:.2f} = {found.ours:.0f} records/s / {found.raw:.0f} bare; the small workspaces were done"
        f" after {found.small_seconds:.1f} of {found.all_seconds:.1f} s; ingest {before:.0f} MB before, {after:.0f} after,"
        f" {peak:.0f} at most during a run of {connectors.LONG} records",
    )


def _compare(bench: Bench, part: str, what: str, ours: Sequence[float], raw: Sequence[float]) -> None:
    mine, limit = sorted(ours)[len(ours) // 2], sorted(raw)[len(raw) // 2]
    runs = " ".join(f"{value:.0f}" for value in ours), " ".join(f"{value:.0f}" for value in raw)
    bench.report(
        part, f"{mine / limit:.2f} = {mine:.0f} {what} / {limit:.0f} bare   (ours {runs[0]}; bare {runs[1]})"
    )


PARTS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "accept": accept,
    "live": live,
    "project": project,
    "rebuild": replay,
    "latency": latency,
    "memory": memory,
    "growth": growth,
    "tenants": tenants,
    "clients": clients,
    "webhooks": webhooks,
    "sources": sources,
}

# Measured in a process of its own.
ENGINE = "grouping"


async def run(parts: Mapping[str, Callable[[Bench], Awaitable[None]]]) -> None:
    """Each part on a fresh stack, so that none inherits another's history."""
    print(
        f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, python -m tests.load {' '.join(sys.argv[1:])}", flush=True
    )
    for part in parts.values():
        stack = Stack(postgres=PostgresOptions(), nats=NatsOptions(), env=ENVIRONMENT)
        try:
            await stack.start()
            nc = await nats.connect(stack.nats.url)
            # A connection of its own: the log's takes our short way, which a raw limit must not.
            ours = await nats.connect(stack.nats.url)
            bench = Bench(stack, nc, await EventLog.connect(ours, ensure_streams=False))
            await part(bench)
            await ours.close()
            await nc.close()
        finally:
            await stack.stop()


def main() -> None:
    """Parse the parts and run them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, ENGINE, []], help="default: all but growth and grouping"
    )
    parser.add_argument("--records", type=int, help="of sources: so many for each connector, with --minutes")
    parser.add_argument("--minutes", type=float, default=10.0, help="of sources with --records: when to stop")
    parser.add_argument(
        "--free",
        type=int,
        default=lasting.FREE,
        help="of sources with --records: connectors of each workspace beside the two that wait for their account",
    )
    given = parser.parse_args()
    chosen = given.parts or [part for part in PARTS if part != "growth"]
    parts = {name: PARTS[name] for name in chosen if name != ENGINE}
    if given.records is not None:
        parts["sources"] = partial(sustained, records=given.records, minutes=given.minutes, free=given.free)
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(run(parts))
    if ENGINE in chosen:
        subprocess.run([sys.executable, "-m", f"{__package__}.{ENGINE}"], check=True)


if __name__ == "__main__":
    main()
