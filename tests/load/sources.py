"""Two hundred connectors at once: how fast their records become events, who has to wait for whom, and what memory it takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import requests
from contracts import connector
from eventlog import EventLog
from msgspec import Struct
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.sealing import MasterKeys
from testkit.stack import ROOT

from . import bare

CROWD = 180
SMALL = 20
"""Connectors of one workspace that are asked for first, and workspaces that have one each."""
RECORDS = 200
LONG = 20_000
PER_MINUTE = 10_000
"""How often a minute the vendor may be asked: more often than we can."""
THREADS = 4
MANIFEST: dict[str, object] = {
    "type": "custom_load",
    "name": "Load",
    "category": "productivity_incident",
    "docs_url": "https://load.example/docs",
    "config": [{"key": "base_url", "title": "Address"}],
    "base_url": "{config.base_url}",
    "auth": [{"kind": "api_key", "headers": {"Authorization": "Bearer {secret.token}"}}],
    "rate_per_minute": PER_MINUTE,
    "streams": [
        {
            "name": "records",
            "endpoint": {
                "path": "/records",
                "data_selector": "records",
                "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "page"},
                "incremental": {"cursor_path": "updated_at", "start_param": "since", "end_param": "until"},
            },
        }
    ],
    "mappings": [
        {
            "external_id": "id",
            "title": "title",
            "body": "body",
            "severity": {"path": "severity"},
            "service": "service",
            "updated_at": "updated_at",
        }
    ],
}


class Measured(Struct, frozen=True):
    """records/s of ours and bare; seconds until the last of the small workspaces was done, and all; memory in MB."""

    ours: float
    raw: float
    small_seconds: float
    all_seconds: float
    memory_mb: tuple[float, float, float]


@contextmanager
def vendor() -> Iterator[str]:
    """The address of a vendor in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.load.vendor"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


class Connected(Struct, frozen=True):
    """A connector and its workspace."""

    workspace_id: str
    connector_id: str


async def measure(nc: Client, log: EventLog, masters: MasterKeys, memory: Callable[[], float]) -> Measured:
    """Make the connectors, run all at once, then one that has much; and read the same without us."""
    with vendor() as url:
        workspaces = [workspace(0)] * CROWD + [workspace(number) for number in range(1, SMALL + 1)]
        tokens = [f"{RECORDS}-{PER_MINUTE}-{number:03d}" for number in range(len(workspaces))]
        connected = [
            await connect(nc, masters, workspace_id, url, token)
            for workspace_id, token in zip(workspaces, tokens, strict=True)
        ]
        # The first run loads what it is polled with.
        warm = await connect(nc, masters, workspace(999), url, f"1-{PER_MINUTE}-warm")
        await _run(nc, log, [warm])
        before = memory()
        ends = await _run(nc, log, connected)
        after_all = memory()
        long = await connect(nc, masters, workspace(998), url, f"{LONG}-{PER_MINUTE}-long")
        peak = after_all
        running = asyncio.create_task(_run(nc, log, [long]))
        while not running.done():
            await asyncio.sleep(0.5)
            peak = max(peak, memory())
        await running
        n_records = len(connected) * RECORDS
        all_seconds = max(ends.values())
        last_small = max(ends[each.connector_id] for each in connected if each.workspace_id != workspace(0))
        raw = await _bare(nc, url, tokens)
    return Measured(n_records / all_seconds, raw, last_small, all_seconds, (before, after_all, peak))


def workspace(number: int) -> str:
    """The id of a workspace."""
    return f"ws_{number:026d}"


async def connect(
    nc: Client,
    masters: MasterKeys,
    workspace_id: str,
    url: str,
    token: str,
    *,
    manifest: dict[str, object] = MANIFEST,
) -> Connected:
    """A connector of the vendor at this address that nothing runs by itself. token: what it signs in with."""
    settings = connector.ConnectorSettings(
        type="custom_load", display_name=token, config={"base_url": url}, auth=0, manifest=manifest
    )
    secret = msgspec.json.encode({"token": token}).decode()
    sealed = masters.bus.seal(secret, workspace_id=workspace_id, what="credentials")
    context = CommandContext(workspace_id=workspace_id, correlation_id="load")
    command = connector.CreateConnector(settings=settings, sealed_credentials=sealed)
    endpoint = connector.ENDPOINTS[connector.CreateConnector]
    made = await ask(
        nc, command, endpoint=endpoint, reply=connector.ConnectorChanged, context=context, timeout=30
    )
    # Only what is asked for runs.
    unscheduled = connector.ConfigureConnector(connector_id=made.connector_id, without_schedule=True)
    endpoint = connector.ENDPOINTS[connector.ConfigureConnector]
    await ask(
        nc, unscheduled, endpoint=endpoint, reply=connector.ConnectorChanged, context=context, timeout=30
    )
    return Connected(workspace_id, made.connector_id)


async def start(nc: Client, each: Connected) -> None:
    """Ask for a run of it."""
    command = connector.StartSync(connector_id=each.connector_id, kind=connector.SyncKind.MANUAL)
    context = CommandContext(workspace_id=each.workspace_id, correlation_id="load")
    endpoint = connector.ENDPOINTS[connector.StartSync]
    await ask(nc, command, endpoint=endpoint, reply=connector.SyncAccepted, context=context, timeout=30)


async def _run(nc: Client, log: EventLog, connected: Sequence[Connected]) -> dict[str, float]:
    """Run them all; when each was done, in seconds since the first was asked for. Raises where one was not."""
    begun_at = await log.last_seq(0)
    started = time.perf_counter()
    starting = asyncio.gather(*(start(nc, each) for each in connected))
    ends: dict[str, float] = {}
    wanted = {each.connector_id for each in connected}
    async for batch in log.read(0, after=begun_at, aggregates=("sync_run",)):
        for event in batch.events:
            if isinstance(event.data, connector.SyncEnded) and event.data.connector_id in wanted:
                if event.data.outcome is not connector.SyncOutcome.SUCCEEDED:
                    raise RuntimeError(f"{event.data.reason}: {event.data.detail}")
                ends[event.data.connector_id] = time.perf_counter() - started
        if len(ends) == len(connected):
            break
    await starting
    return ends


async def _bare(nc: Client, url: str, tokens: Sequence[str]) -> float:
    """Records per second: as many threads read the same pages with requests, then every record is published as it is."""

    def read(token: str) -> list[bytes]:
        found: list[bytes] = []
        place: str | None = "0"
        with requests.Session() as session:
            while place is not None:
                answer = session.get(
                    f"{url}/records",
                    params={"page": place},
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=30,
                ).json()
                found += [msgspec.json.encode(record) for record in answer["records"]]
                place = answer["next"]
        return found

    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        loop = asyncio.get_running_loop()
        read_all = await asyncio.gather(*(loop.run_in_executor(threads, read, token) for token in tokens))
    records = [record for found in read_all for record in found]
    reading = time.perf_counter() - started
    return len(records) / (reading + len(records) / await bare.publish_rate(nc, records))
