"""When workspaces are clustered, and that no clustering stops anything else."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

from contracts import pattern
from eventlog import Append, AppendRefusedError, EventLog
from runtime.broker import CommandContext
from runtime.database import Pool

from services.pattern.reactions.clustering import AT_LEAST_APART, Clusterings

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Log:
    """A log that takes what comes, unless it is told to fail."""

    def __init__(self) -> None:
        self.events: list[pattern.ClustersComputed] = []
        self.failure: Exception | None = None
        self.n_refused = 0

    async def append(self, append: Append) -> int:
        if self.failure is not None:
            self.n_refused += 1
            raise self.failure
        assert isinstance(append.event.data, pattern.ClustersComputed)
        self.events.append(append.event.data)
        return len(self.events)


class Desk:
    """The clusterings of workspaces in which no issue was ever reported: nothing is read, and nothing computed."""

    def __init__(self) -> None:
        self.log = Log()
        self.now = NOON
        self.clusterings = Clusterings(cast(EventLog, self.log), cast(Pool, None), self.reached)

    async def reached(self, workspace_id: str, seq: int) -> bool:
        raise AssertionError(f"no rows of {workspace_id} are read up to {seq}")

    def ask(self, workspace_id: str) -> str:
        context = CommandContext(workspace_id=workspace_id, correlation_id="req_1", actor="usr_ann")
        return self.clusterings.request(context, now=self.now)

    async def pass_by(self, waited: timedelta = timedelta(0)) -> None:
        """Let some time pass, then as many turns as finish whatever is due."""
        self.now += waited
        for _ in range(8):
            await self.clusterings.tick({}, now=self.now)
            await asyncio.sleep(0)


async def test_every_request_is_answered_also_where_there_is_nothing() -> None:
    """The run_id of the answer comes, with no clusters."""
    desk = Desk()
    run_id = desk.ask("ws_1")
    await desk.pass_by()
    assert [(each.run_id, each.n_patterns, each.clusters) for each in desk.log.events] == [(run_id, 0, ())]


async def test_nobody_is_clustered_more_often_than_every_five_minutes_nor_before_others() -> None:
    """Whoever asks all the time waits; somebody else who has waited longer comes first."""
    desk = Desk()
    first = desk.ask("ws_1")
    await desk.pass_by()
    second = desk.ask("ws_1")
    assert second != first and desk.ask("ws_1") == second
    await desk.pass_by(AT_LEAST_APART - timedelta(seconds=1))
    assert len(desk.log.events) == 1
    desk.ask("ws_2")
    await desk.pass_by(timedelta(seconds=1))
    assert [each.workspace_id for each in desk.log.events] == ["ws_1", "ws_2", "ws_1"]
    assert desk.log.events[-1].run_id == second


async def test_an_event_that_the_log_refuses_is_an_alarm_and_nothing_more() -> None:
    """It would be refused again: nobody tries before somebody asks, and the next success ends the alarm."""
    desk = Desk()
    desk.log.failure = AppendRefusedError("an event is larger than the server's max_payload")
    desk.ask("ws_1")
    for _ in range(3):
        await desk.pass_by(AT_LEAST_APART)
    assert desk.log.n_refused == 1
    assert desk.clusterings.alarms() == [
        "Patterns of 1 workspaces could not be clustered: AppendRefusedError."
    ]
    desk.log.failure = None
    desk.ask("ws_1")
    await desk.pass_by()
    assert len(desk.log.events) == 1 and desk.clusterings.alarms() == []


async def test_a_request_survives_one_failure() -> None:
    """The same run_id comes five minutes later; when that fails as well, the request is forgotten."""
    desk = Desk()
    desk.log.failure = ValueError("whatever")
    run_id = desk.ask("ws_1")
    await desk.pass_by()
    assert desk.clusterings.alarms() == ["Patterns of 1 workspaces could not be clustered: ValueError."]
    assert desk.ask("ws_1") == run_id
    desk.log.failure = None
    await desk.pass_by(AT_LEAST_APART)
    assert [each.run_id for each in desk.log.events] == [run_id]
    desk.log.failure = ValueError("whatever")
    desk.ask("ws_1")
    for _ in range(4):
        await desk.pass_by(AT_LEAST_APART)
    assert desk.log.n_refused == 3
