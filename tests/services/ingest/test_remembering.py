"""What is remembered of connectors and runs: no second reading of a history, and never older than the log."""

from collections.abc import Callable

import pytest
from contracts import connector
from eventlog import EventLog
from runtime.broker import CommandContext

from services.ingest.commands.connectors import progress_run
from services.ingest.errors import RunNotFoundError
from services.ingest.reporting.sources import REMEMBERED_MAX, Sources
from services.ingest.state import NOTHING_YET, SyncRun, fold_run
from tests.services.ingest.builders import NOW

SPACE = "ws_01HZ0000000000000000000000"
CONTEXT = CommandContext(workspace_id=SPACE, actor="usr_1", correlation_id="r")


class _Counted(EventLog):
    """A log that counts how often a history was read."""

    n_histories = 0

    async def history(self, *args: object, **kwargs: object) -> list:  # type: ignore[override,type-arg]  # as it comes
        self.n_histories += 1
        return await super().history(*args, **kwargs)  # type: ignore[arg-type]  # passed on


@pytest.fixture
async def event_log(event_log: EventLog) -> _Counted:
    return await _Counted.connect(event_log._nc, partitions=event_log.partitions)


def _requested(run_id: str) -> connector.SyncRequested:
    return connector.SyncRequested(run_id=run_id, connector_id="con_1", kind=connector.SyncKind.MANUAL)


def _chunk(number: int) -> Callable[[SyncRun], connector.Event]:
    return lambda run: progress_run(run, n_chunks_done=number, n_chunks=9, counts=NOTHING_YET)


async def test_a_history_is_read_when_somebody_else_added_to_it_and_not_before(event_log: _Counted) -> None:
    ours, theirs = (Sources(event_log, clock=lambda: NOW) for _ in range(2))
    await ours.request(_requested("syn_1"), CONTEXT)
    for number in (1, 2):
        await ours.decide_run("syn_1", CONTEXT, _chunk(number))
        assert (await ours.find_run(SPACE, "syn_1")) == fold_run(
            await EventLog.history(event_log, SPACE, "sync_run", "syn_1")
        )
    assert event_log.n_histories == 0
    await theirs.decide_run("syn_1", CONTEXT, _chunk(3))
    assert event_log.n_histories == 1
    run = await ours.find_run(SPACE, "syn_1")
    assert run is not None
    assert run.n_chunks_done == 3
    assert event_log.n_histories == 2


async def test_who_remembers_less_than_the_log_has_decides_on_the_log(event_log: _Counted) -> None:
    ours, theirs = (Sources(event_log, clock=lambda: NOW) for _ in range(2))
    await ours.request(_requested("syn_1"), CONTEXT)
    seen: list[int] = []

    def outrun(run: SyncRun) -> connector.Event:
        seen.append(run.n_chunks_done)
        return _chunk(8)(run)

    await theirs.decide_run("syn_1", CONTEXT, _chunk(4))
    await ours.decide_run("syn_1", CONTEXT, outrun)
    assert seen == [4]


async def test_what_is_purged_is_remembered_by_nobody(event_log: _Counted) -> None:
    sources = Sources(event_log, clock=lambda: NOW)
    await sources.request(_requested("syn_1"), CONTEXT)
    assert await sources.find_run(SPACE, "syn_1") is not None
    await event_log.purge(SPACE, "*")
    assert await sources.find_run(SPACE, "syn_1") is None
    with pytest.raises(RunNotFoundError):
        await sources.decide_run("syn_1", CONTEXT, _chunk(1))


async def test_no_more_is_remembered_than_has_room(
    event_log: _Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.reporting.sources.REMEMBERED_MAX", 2)
    assert REMEMBERED_MAX > 2
    sources = Sources(event_log, clock=lambda: NOW)
    for number in range(3):
        await sources.request(_requested(f"syn_{number}"), CONTEXT)
    await sources.find_run(SPACE, "syn_1")
    await sources.request(_requested("syn_3"), CONTEXT)
    assert event_log.n_histories == 0
    for number in (1, 3):
        await sources.find_run(SPACE, f"syn_{number}")
    assert event_log.n_histories == 0
    await sources.find_run(SPACE, "syn_2")
    assert event_log.n_histories == 1
