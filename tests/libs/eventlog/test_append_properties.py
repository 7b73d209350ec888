"""Whatever two writers do with old and new states, an aggregate has one history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from contracts import Event, Recorded, record, workspace
from eventlog import Append, ConflictError, EventLog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from nats.aio.client import Client
from runtime import broker
from runtime.embedded import EmbeddedNats
from testkit.servers import remove_streams

from .conftest import NOW

AGGREGATES = ("ws_a", "ws_b")


def changed(aggregate: str, days: int) -> Recorded[Event]:
    """One more event of an aggregate."""
    data = workspace.WorkspaceSettingsChanged(workspace_id=aggregate, proof_window_days=days)
    return record(
        data,
        workspace_id="ws_x",
        aggregate_id=aggregate,
        occurred_at=NOW,
        recorded_at=NOW,
        source="/causeloop/gateway",
    )


class TwoWriters(RuleBasedStateMachine):
    """A model of guarded appends: what each writer last saw, and what really is there."""

    loop: asyncio.AbstractEventLoop
    log: EventLog
    nc: Client

    def __init__(self) -> None:
        super().__init__()
        self._run(remove_streams(self.nc))
        self.log = self._run(EventLog.connect(self.nc))
        self.stored: dict[str, list[int]] = {name: [] for name in AGGREGATES}
        self.versions = dict.fromkeys(AGGREGATES, 0)
        self.seen = {(writer, name): 0 for writer in (0, 1) for name in AGGREGATES}
        self.days = 0

    def _run(self, work):  # type: ignore[no-untyped-def]  # the machine is synchronous, the log is not
        return self.loop.run_until_complete(work)

    @rule(writer=st.integers(0, 1), name=st.sampled_from(AGGREGATES))
    def load(self, writer: int, name: str) -> None:
        """A writer learns the present version."""
        history = self._run(self.log.history("ws_x", "workspace", name))
        self.seen[writer, name] = history[-1].seq if history else 0

    @rule(writer=st.integers(0, 1), name=st.sampled_from(AGGREGATES))
    def append(self, writer: int, name: str) -> None:
        """A writer decides on what it last saw."""
        self.days += 1
        expected = self.seen[writer, name]
        is_current = expected == self.versions[name]
        try:
            seq = self._run(self.log.append(Append(changed(name, self.days), expected)))
        except ConflictError:
            assert not is_current
            return
        assert is_current
        self.stored[name].append(self.days)
        self.versions[name] = self.seen[writer, name] = seq

    @rule(writer=st.integers(0, 1))
    def append_both(self, writer: int) -> None:
        """A writer decides about both aggregates at once: both or neither."""
        is_current = all(self.seen[writer, name] == self.versions[name] for name in AGGREGATES)
        appends = []
        for name in AGGREGATES:
            self.days += 1
            appends.append((name, self.days, Append(changed(name, self.days), self.seen[writer, name])))
        try:
            last = self._run(self.log.append(*(append for _, _, append in appends)))
        except ConflictError:
            assert not is_current
            return
        assert is_current
        for offset, (name, days, _) in enumerate(reversed(appends)):
            self.stored[name].append(days)
            self.versions[name] = self.seen[writer, name] = last - offset

    @rule(name=st.sampled_from(AGGREGATES), order=st.permutations([0, 1, 2]))
    def deliver_duplicates(self, name: str, order: list[int]) -> None:
        """Three copies of one append, shuffled, pipelined: one is stored."""
        self.days += 1
        append = Append(changed(name, self.days), self.versions[name])
        results = self._run(self.log.append_each([append for _ in order]))
        stored = [result for result in results if isinstance(result, int)]
        assert len(stored) == 1
        self.stored[name].append(self.days)
        self.versions[name] = stored[0]

    @invariant()
    def history_is_what_succeeded(self) -> None:
        """The log holds exactly the appends that were confirmed, in their order."""
        for name in AGGREGATES:
            history = self._run(self.log.history("ws_x", "workspace", name))
            assert self.stored[name] == [event.data.proof_window_days for event in history]


@pytest.fixture
def loop_and_client(nats_server: EmbeddedNats) -> Iterator[tuple[asyncio.AbstractEventLoop, Client]]:
    """An event loop of our own, since the machine steps it by hand."""
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(broker.connect(nats_server.url, name="test"))
    yield loop, client
    loop.run_until_complete(remove_streams(client))
    loop.run_until_complete(client.close())
    loop.close()


def test_append_by_two_writers_keeps_one_history(
    loop_and_client: tuple[asyncio.AbstractEventLoop, Client],
) -> None:
    """Optimistic writers, stale or not, single or in batches, duplicated or not."""
    TwoWriters.loop, TwoWriters.nc = loop_and_client
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        TwoWriters,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
