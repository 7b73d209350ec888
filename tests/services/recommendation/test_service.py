"""The service as a process: it recommends, answers, survives kill -9, and its rows equal a replay."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts import recommendation
from eventlog import EventLog
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.embedded import free_port
from runtime.errors import StateConflictError
from testkit.builders import WORKSPACE
from testkit.servers import Database
from testkit.stack import ServiceProcess
from testkit.waiting import eventually

from tests.services.recommendation.builders import append, detected, forecast, linked

CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")
N_PATTERNS = 60


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
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess(
        "recommendation", "services.recommendation", env=environment, log=tmp_path / "recommendation.log"
    )
    yield process
    process.kill()


async def made(event_log: EventLog) -> list[recommendation.RecommendationMade]:
    end = await event_log.last_seq()
    return [
        event.data
        async for batch in event_log.read(0, after=0, aggregates=("recommendation",), until=end)
        for event in batch.events
        if isinstance(event.data, recommendation.RecommendationMade)
    ]


async def caught_up(service: ServiceProcess, event_log: EventLog) -> bool:
    status = await service.status()
    return status.partitions[0].reaction_position >= await event_log.last_seq()


async def test_service_recommends_once_over_kills_and_answers(
    service: ServiceProcess, event_log: EventLog, nc: Client
) -> None:
    await service.start().ready()
    for number in range(N_PATTERNS):
        pattern_id = f"pat_{number}"
        await append(event_log, linked(pattern_id=pattern_id), detected(pattern_id=pattern_id))
        if number in (20, 40):
            service.kill()
            service.start()
    await service.ready()
    await append(event_log, *(forecast(50, 60.0, pattern_id=f"pat_{n}") for n in range(N_PATTERNS)))
    await eventually(lambda: caught_up(service, event_log), deadline=120)

    events = await made(event_log)
    plays = [(event.pattern_id, event.play_id) for event in events]
    assert len(plays) == len(set(plays)), "nothing is recommended twice"
    assert {pattern_id for pattern_id, _ in plays} == {f"pat_{n}" for n in range(N_PATTERNS)}
    assert len({event.recommendation_id for event in events}) == len(events)

    rec = events[0].recommendation_id
    done = recommendation.ChangeStatus(
        recommendation_id=rec, status=recommendation.RecommendationStatus.IMPLEMENTED, reason="shipped"
    )
    reply = await ask(
        nc,
        done,
        endpoint="recommendation.change_status",
        reply=recommendation.RecommendationChanged,
        context=CONTEXT,
        timeout=30,
    )
    assert reply.status == "implemented"
    with pytest.raises(StateConflictError, match="can become: pending"):
        await ask(
            nc,
            recommendation.ChangeStatus(
                recommendation_id=rec, status=recommendation.RecommendationStatus.DISMISSED, reason=""
            ),
            endpoint="recommendation.change_status",
            reply=recommendation.RecommendationChanged,
            context=CONTEXT,
            timeout=30,
        )
    await eventually(lambda: caught_up(service, event_log), deadline=120)
    code, output = await service.run("verify", "--json")
    assert code == 0, output
    assert '"is_equal":true' in output
    assert service.stop() == 0


async def test_a_wrong_playbook_stops_the_start_with_every_mistake(
    environment: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "plays"
    own.mkdir()
    (own / "ours.yaml").write_text("version: 2027-01-01\nplays: [{id: Not An Id}]\n")
    process = ServiceProcess(
        "recommendation",
        "services.recommendation",
        env={**environment, "PLAYBOOK_DIR": str(own)},
        log=tmp_path / "log",
    )
    assert process.start().wait() == 78
    assert "ours.yaml" in process.output()
    assert "docs/reference/playbook.md" in process.output()
