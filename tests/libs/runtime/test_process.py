import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from contracts import Event, Recorded
from eventlog import Append, EventLog
from nats.aio.client import Client
from runtime import broker
from runtime.broker import CommandContext
from runtime.embedded import free_port
from runtime.errors import UnavailableError
from testkit.builders import WORKSPACE, issue_reported
from testkit.servers import Database
from testkit.stack import ROOT, ServiceProcess
from testkit.waiting import eventually

from tests.libs.runtime.sample.__main__ import Count, Counted

CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1")
Make = Callable[..., ServiceProcess]


@pytest.fixture
def environment(database: Database, nats_url: str) -> dict[str, str]:
    return {
        "PORT": str(free_port()),
        "NATS_URL": nats_url,
        "DATABASE_URL": database.app_url,
        "DATABASE_PROJECTOR_URL": database.projector_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "LOG_FORMAT": "json",
    }


@pytest.fixture
def make(environment: dict[str, str], tmp_path: Path) -> Iterator[Make]:
    made: list[ServiceProcess] = []

    def process(**env: str) -> ServiceProcess:
        log = tmp_path / f"sample-{len(made)}.log"
        made.append(
            ServiceProcess("sample", "tests.libs.runtime.sample", env={**environment, **env}, log=log)
        )
        return made[-1]

    yield process
    for each in made:
        each.kill()


@pytest.fixture
async def service(make: Make) -> ServiceProcess:
    return await make().start().ready()


@pytest.fixture
async def log_of_events(nc: Client) -> AsyncIterator[EventLog]:
    yield await EventLog.connect(nc)


async def append(log: EventLog, *events: Recorded[Event]) -> int:
    return max([await log.append(Append(event=event, expected=0)) for event in events])


async def test_serve_projects_answers_and_stops_cleanly(
    service: ServiceProcess, log_of_events: EventLog, nc: Client
) -> None:
    await append(
        log_of_events, issue_reported(1), issue_reported(2), issue_reported(3, workspace_id="ws_other")
    )

    async def counted() -> Counted:
        answer = await broker.ask(
            nc, Count(), endpoint="sample.count", reply=Counted, context=CONTEXT, timeout=30
        )
        assert (answer.titles, answer.observed) == (2, 3)
        return answer

    await eventually(counted)
    async with httpx.AsyncClient(base_url=service.url) as client:
        assert len((await client.get(f"/titles/{WORKSPACE}")).json()) == 2
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert "causeloop_projector_position" in (await client.get("/metrics")).text
    status = await service.status()
    assert (status.state, status.partitions[0].position, status.partitions[0].leader) == ("ready", 3, True)

    assert service.stop() == 0
    assert "hook.started" in service.output()
    assert "hook.stopped" in service.output()
    assert "Traceback" not in service.output()


async def test_stop_lets_a_running_http_request_finish(service: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        asking = asyncio.create_task(client.get("/slow"))
        await eventually(lambda: "slow.begun" in service.output())
        assert service.pid is not None
        os.kill(service.pid, signal.SIGTERM)

        assert (await asking).text == "done"
    assert service.wait() == 0


async def test_stop_has_an_end_whatever_does_not(make: Make) -> None:
    service = await make(HANGS_AT_STOP="1").start().ready()

    assert service.stop() == 0
    assert "service.stop_cut_short" in service.output()


@pytest.mark.parametrize(
    ("token", "without", "with_it"), [("", 404, 404), ("a-token-for-operators", 401, 200)]
)
async def test_in_production_only_operators_watch_a_service(
    make: Make, token: str, without: int, with_it: int
) -> None:
    service = await make(ENVIRONMENT="production", OPERATIONS_TOKEN=token).start().ready()

    async with httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.get("/metrics")).status_code == without
        answer = await client.get("/metrics", headers={"Authorization": f"Bearer {token or 'guess'}"})
        assert answer.status_code == with_it


async def test_endpoints_on_leader_move_to_the_standby(
    make: Make, nc: Client, log_of_events: EventLog
) -> None:
    first = await make().start().ready()
    second = await make(PORT=str(free_port())).start().ready()
    await append(log_of_events, issue_reported(1))
    assert [(await each.status()).partitions[0].leader for each in (first, second)] == [True, False]

    first.kill()

    async def answered_by_second() -> bool:
        try:
            await broker.ask(nc, Count(), endpoint="sample.count_on_leader", reply=Counted, context=CONTEXT)
        except UnavailableError:
            return False
        return (await second.status()).partitions[0].leader

    await eventually(answered_by_second)


async def test_background_task_that_breaks_ends_the_process(make: Make) -> None:
    process = make(CRASH_IN_BACKGROUND="1").start()

    assert await asyncio.to_thread(process.wait) == 1
    assert "service.part_ended" in process.output()
    assert "the background task broke" in process.output()


async def test_poison_event_raises_an_alarm_and_the_process_goes_on(
    service: ServiceProcess, log_of_events: EventLog
) -> None:
    await append(log_of_events, issue_reported(1), issue_reported(2, title="poison"), issue_reported(3))

    async def degraded() -> bool:
        status = await service.status()
        return status.state == "degraded" and status.partitions[0].lag == 2

    await eventually(degraded)
    partition = (await service.status()).partitions[0]
    assert partition.position == 1
    assert (partition.log_end, partition.lag) == (3, 2)
    assert partition.alarm is not None
    assert "IssueReported" in partition.alarm
    assert "2" in partition.alarm
    async with httpx.AsyncClient(base_url=service.url) as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    # Everybody may ask: nothing of the event.
    assert answer.json()["reasons"] == ["The projection of partition 0 is stopped."]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.libs.runtime.sample", *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


async def test_replay_and_verify_report_and_agree(
    service: ServiceProcess, environment: dict[str, str], log_of_events: EventLog
) -> None:
    seq = await append(log_of_events, issue_reported(1), issue_reported(2))

    async def caught_up() -> bool:
        return (await service.status()).partitions[0].position == seq

    await eventually(caught_up)
    verified = await asyncio.to_thread(run, environment, "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["is_equal"] is True

    replayed = await asyncio.to_thread(run, environment, "replay")
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout == "sample: rebuilt and switched; partition 0 at 2.\n"

    seq = await append(log_of_events, issue_reported(3))
    await eventually(caught_up)


async def test_verify_of_changed_rows_exits_with_3(
    service: ServiceProcess, environment: dict[str, str], log_of_events: EventLog, database: Database
) -> None:
    seq = await append(log_of_events, issue_reported(1))

    async def caught_up() -> bool:
        return (await service.status()).partitions[0].position == seq

    await eventually(caught_up)
    sql = "UPDATE sample.titles SET title = 'changed by hand'"
    psql = ["-c", f"import psycopg,sys; psycopg.connect(sys.argv[1], autocommit=True).execute({sql!r})"]
    await asyncio.to_thread(
        subprocess.run, [sys.executable, *psql, database.projector_url], check=True, capture_output=True
    )

    verified = await asyncio.to_thread(run, environment, "verify")

    assert verified.returncode == 3
    assert "differs from its replay" in verified.stdout


def test_start_with_wrong_settings_says_all_in_one_line() -> None:
    finished = run({"PORT": "x", "PARTITIONS": "0"})

    assert finished.returncode == 78
    [line] = finished.stderr.splitlines()
    for word in (
        "PORT is wrong",
        "NATS_URL is missing",
        "DATABASE_URL is missing",
        "PARTITIONS is wrong",
        ".env.example",
    ):
        assert word in line


def test_start_with_a_port_in_use_says_what_to_do(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = run({**environment, "PORT": str(port)})

    assert finished.returncode == 78
    assert f"Port {port} is in use" in finished.stderr
    assert "set PORT" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_start_with_a_wrong_database_password_does_not_wait(environment: dict[str, str]) -> None:
    url = environment["DATABASE_URL"]
    wrong = url.replace(url.split(":")[2].split("@")[0], "wrong")

    finished = run({**environment, "DATABASE_URL": wrong})

    assert finished.returncode == 78
    assert "Check DATABASE_URL" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_replay_without_the_owner_says_what_is_missing(environment: dict[str, str]) -> None:
    finished = run({**environment, "DATABASE_OWNER_URL": ""}, "replay")

    assert finished.returncode == 78
    assert "DATABASE_OWNER_URL" in finished.stderr
