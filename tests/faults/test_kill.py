"""kill -9 of every process in turn, under load: nothing accepted is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import httpx
import psycopg
import pytest
from contracts import Event, Recorded, ingest, pattern
from eventlog import EventLog
from runtime import broker
from testkit.stack import ServiceProcess, Stack, running_stack
from testkit.waiting import eventually

VICTIMS = ("ingest", "pattern", "prediction", "recommendation", "gateway", "nats", "postgres")
BATCH = 25
BATCHES_BETWEEN = 6
"""Taken before the next process is killed."""
PAUSE_SECONDS = 0.1
"""Between batches, and before one is sent again."""
FAILURES = (
    "Checkout times out",
    "Certificate of the mail relay has expired",
    "Disk full on replica",
    "Login returns 502",
)


class Load:
    """A client that reports failures without pause and remembers what was accepted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self.sent: set[str] = set()
        self.accepted: set[str] = set()
        self.n_refused = 0
        self.is_over = False

    async def run(self) -> None:
        """Report until it is over; a batch that is not answered is sent again, as a careful client would.

        At a steady pace: all that the machine can take would only keep it busy when everything is compared.
        """
        async with httpx.AsyncClient(base_url=self._url, timeout=30) as client:
            token = ""
            while not self.is_over:
                records = [self._record(next(self._numbers)) for _ in range(BATCH)]
                self.sent.update(str(record["external_id"]) for record in records)
                while not await self._report(client, token, records):
                    self.n_refused += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                    token = await _token(client) or token
                await asyncio.sleep(PAUSE_SECONDS)

    async def goes_on(self, loading: asyncio.Task[None]) -> None:
        """Wait until some more is accepted."""
        enough = len(self.accepted) + BATCHES_BETWEEN * BATCH
        await eventually(lambda: loading.done() or len(self.accepted) >= enough, deadline=120)
        assert not loading.done(), loading

    async def _report(self, client: httpx.AsyncClient, token: str, records: list[dict[str, object]]) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = await client.post("/v1/ingest/batch", json={"records": records}, headers=headers)
        except httpx.TransportError:
            return False
        if answer.status_code != 202:
            return False
        body = answer.json()
        assert body["rejected"] == [] or all("again" in one["reason"] for one in body["rejected"]), body
        if body["rejected"]:
            return False
        self.accepted.update(str(record["external_id"]) for record in records)
        return True

    @staticmethod
    def _record(number: int) -> dict[str, object]:
        return {
            "external_id": f"load-{number}",
            "source": "custom_api",
            "title": f"{FAILURES[number % len(FAILURES)]} after {100_000 + number} ms",
            "severity": "p2",
            "service": f"service-{number % len(FAILURES)}",
        }


async def _token(client: httpx.AsyncClient) -> str | None:
    try:
        answer = await client.post("/v1/auth/exchange", json={"subject_token": "load"})
    except httpx.TransportError:
        return None
    return str(answer.json()["access_token"]) if answer.status_code == 200 else None


async def _kill_and_restart(stack: Stack, victim: str) -> None:
    target = {"nats": stack.nats, "postgres": stack.postgres}.get(victim) or stack.services[victim]
    target.kill()
    if isinstance(target, ServiceProcess):
        await target.start().ready()
    else:
        await asyncio.to_thread(target.start)
        await stack.ready()


async def _settled(stack: Stack, log: EventLog) -> bool:
    """Everything in the log has become rows everywhere, every issue has been looked at, nothing more is decided."""
    end = await log.last_seq(0)
    (last_issue,) = await _column(stack, "SELECT coalesce(max(seq), 0) FROM gateway.issues")
    for service in stack.services.values():
        for partition in (await service.status()).partitions:
            assert partition.alarm is None, partition.alarm
            if partition.state != "live" or partition.lag:
                return False
            if service.name == "gateway" and partition.position < end:
                return False
            if service.name == "pattern" and partition.reaction_position < int(last_issue):
                return False
    await asyncio.sleep(0.5)
    return end == await log.last_seq(0)


async def _events(log: EventLog) -> list[Recorded[Event]]:
    end = await log.last_seq(0)
    return [event async for batch in log.read(0, after=0, until=end) for event in batch.events]


async def _column(stack: Stack, query: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(stack.database.projector_url) as conn:
        return [str(row[0]) for row in await (await conn.execute(query.encode())).fetchall()]


@pytest.mark.timeout(600)
async def test_kill_of_every_process_in_turn_loses_and_repeats_nothing() -> None:
    """Under a steady load each service, nats-server and PostgreSQL are killed once."""
    async with running_stack() as stack:
        load = Load(stack.url)
        client = await broker.connect(stack.nats.url, name="faults")
        log = await EventLog.connect(client, ensure_streams=False)
        loading = asyncio.create_task(load.run())
        for victim in VICTIMS:
            await load.goes_on(loading)
            await _kill_and_restart(stack, victim)
        await load.goes_on(loading)
        # Not cancelled: what is on its way then may be taken after everything was compared.
        load.is_over = True
        await loading
        await eventually(lambda: _settled(stack, log), deadline=120, every=0.2)

        await _assert_once_in_the_log(load, await _events(log))
        await _assert_once_in_the_rows(load, stack)
        for service in stack.services.values():
            code, output = await service.run("verify")
            assert code == 0, output
        await client.close()


async def _assert_once_in_the_log(load: Load, events: list[Recorded[Event]]) -> None:
    reported = Counter(
        event.data.external_id for event in events if isinstance(event.data, ingest.IssueReported)
    )
    linked = Counter(
        link.issue_id
        for event in events
        if isinstance(event.data, pattern.IssuesLinked)
        for link in event.data.links
    )
    assert load.accepted - reported.keys() == set(), "accepted, but not in the log"
    assert reported.keys() - load.sent == set(), "in the log, but never sent"
    assert set(reported.values()) == {1}
    assert set(linked.values()) == {1}
    assert len(linked) == len(reported), "an issue was never grouped"


async def _assert_once_in_the_rows(load: Load, stack: Stack) -> None:
    issues = Counter(await _column(stack, "SELECT external_id FROM gateway.issues"))
    assert load.accepted - issues.keys() == set()
    assert set(issues.values()) == {1}
    members = await _column(stack, "SELECT issue_id FROM gateway.pattern_members")
    assert len(members) == len(set(members)) == len(issues)
    shown = await _column(stack, "SELECT name FROM gateway.patterns WHERE is_shown")
    assert len(shown) == len(FAILURES), shown
    counted = await _column(stack, "SELECT sum(issue_count) FROM gateway.patterns WHERE is_shown")
    assert int(counted[0]) == len(issues)
