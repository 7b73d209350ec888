"""What the prover looks at, and when: after a crash, and under a stream of failures that break nothing."""

from datetime import timedelta

import pytest
from contracts import recommendation, workspace
from eventlog import EventLog
from msgspec.structs import replace
from runtime import database as databases
from testkit.builders import NOW, WORKSPACE, recorded
from testkit.servers import Database

from services.recommendation.reactions import proving
from services.recommendation.reactions.proving import COUNT_EVERY, Prover
from tests.services.recommendation.builders import append, detected, failed, fixed
from tests.services.recommendation.test_recommender import all_events, project_only, schema

__all__ = ["schema"]
SOON = NOW + timedelta(days=8)


async def proofs(event_log: EventLog) -> list[str]:
    """What was said of fixes, in order."""
    return [type(each.data).__name__ for each in await all_events(event_log) if each.aggregate_type == "fix"]


async def test_what_waits_for_an_event_in_flight_outlives_its_process(
    schema: Database, event_log: EventLog
) -> None:
    """A recurrence came while what was said of the fix was in flight; whoever knew of both was killed then."""
    await append(
        event_log, failed(-60, -50, -40, -30), detected(), fixed(0, before="emerging", version="2.0.0")
    )
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        first = Prover(event_log, pool, clock=lambda: SOON)
        for event in await all_events(event_log):
            first.note(event)
        await first.decide()
        await append(event_log, failed(3, version="1.9.0"))
        await project_only(event_log, schema)
        *_, started, residual = await all_events(event_log)
        killed = Prover(event_log, pool, clock=lambda: SOON)
        await killed.start(partition=0)
        killed.note(started)
        await killed.decide()
        killed.note(residual)
        await killed.look(now=SOON)
        assert await proofs(event_log) == ["ProofStarted", "ProofReassessed"]
        # The recurrence is heard of before the reassessment has come back, so it waits, and nobody knows of it later.
        await append(event_log, failed(5, version="2.0.1"))
        recurrence = (await all_events(event_log))[-1]
        killed.note(recurrence)
        await project_only(event_log, schema)
        await killed.decide()
        assert await proofs(event_log) == ["ProofStarted", "ProofReassessed"]
        after = Prover(event_log, pool, clock=lambda: SOON)
        await after.start(partition=0)
        after.note(next(e for e in await all_events(event_log) if type(e.data).__name__ == "ProofReassessed"))
        await after.decide()
    assert await proofs(event_log) == ["ProofStarted", "ProofReassessed", "FixBroken"]


async def test_failures_that_break_nothing_are_counted_together(
    schema: Database, event_log: EventLog
) -> None:
    """Staging fails all the time while production is proved: that is said once a minute, not once a batch."""
    await append(
        event_log, failed(-60, -50, -40, -30), detected(), fixed(0, before="emerging", version="2.0.0")
    )
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        prover = Prover(event_log, pool, clock=lambda: SOON)
        await prover.start(partition=0)
        for event in await all_events(event_log):
            prover.note(event)
        await prover.look(now=SOON)
        assert await proofs(event_log) == ["ProofStarted"]
        for number in range(5):
            await append(event_log, failed(3 + number / 10, version="1.9.0"))
            await project_only(event_log, schema)
            *_, event = await all_events(event_log)
            prover.landed(event.seq)
            prover.note(event)
            await prover.decide()
        assert await proofs(event_log) == ["ProofStarted"]
        await prover.look(now=SOON + COUNT_EVERY)
        reassessed = (await all_events(event_log))[-1].data
        assert isinstance(reassessed, recommendation.ProofReassessed)
        assert reassessed.inputs.n_residual == 5
        # And one that does break it is not kept waiting.
        await append(event_log, failed(6, version="2.0.1"))
        await project_only(event_log, schema)
        *_, event = await all_events(event_log)
        prover.landed(event.seq)
        prover.note(event)
        await prover.decide()
    assert await proofs(event_log) == ["ProofStarted", "ProofReassessed", "FixBroken"]


async def test_overdue_proofs_of_another_partition_hold_up_nobody(
    schema: Database, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition without a leader has as many of them as one look takes; they are older, too."""
    others = [
        replace(event, workspace_id="ws_other")
        for event in (failed(-600, -590, -580, -570), detected(), fixed(-560, before="emerging"))
    ]
    ours = failed(-500, -490, -480, -470), detected(), fixed(-460, before="emerging")
    await append(event_log, *others, *ours)
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        first = Prover(event_log, pool, clock=lambda: NOW)
        await first.start(partition=0)
        for event in await all_events(event_log):
            first.note(event)
        await first.decide()
        assert await proofs(event_log) == ["ProofStarted"] * 2
        await project_only(event_log, schema)
        prover = Prover(event_log, pool, clock=lambda: NOW)
        await prover.start(partition=0)
        monkeypatch.setattr(proving, "DUE_PER_LOOK", 1)
        monkeypatch.setattr(event_log, "partition_of", {"ws_other": 1, WORKSPACE: 0}.__getitem__)
        await prover.look(now=NOW)
        monkeypatch.undo()
        verified = (await all_events(event_log))[-1]
    assert isinstance(verified.data, recommendation.FixVerified)
    assert verified.workspace_id == WORKSPACE


async def test_changed_terms_are_no_storm_and_outlive_a_process(
    schema: Database, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open proofs are judged by them a few with each look, the rest by whoever leads next."""
    monkeypatch.setattr(proving, "OTHER_TERMS_PER_LOOK", 1)
    names = ("pat_1", "pat_2", "pat_3")
    for name in names:
        story = [
            failed(-60, -50, -40, -30, pattern_id=name),
            detected(pattern_id=name),
            fixed(0, pattern_id=name),
        ]
        await append(event_log, *story)
    await project_only(event_log, schema)
    async with databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool:
        first = Prover(event_log, pool, clock=lambda: SOON)
        await first.start(partition=0)
        for event in await all_events(event_log):
            first.note(event)
        await first.decide()
        terms = workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, proof_confidence=0.8)
        await append(event_log, recorded(terms, WORKSPACE, source="gateway"))
        await project_only(event_log, schema)
        *_, changed = await all_events(event_log)
        first.landed(changed.seq)
        await first.terms_changed(changed)
        await first.decide()
        assert await proofs(event_log) == ["ProofStarted"] * 3
        await first.look(now=SOON)
        assert await proofs(event_log) == ["ProofStarted"] * 3 + ["ProofReassessed"]
        await project_only(event_log, schema)
        after = Prover(event_log, pool, clock=lambda: SOON)
        await after.start(partition=0)
        for look in range(4):
            await after.look(now=SOON + look * proving.LOOK_EVERY)
            after.landed(await event_log.last_seq())
    reassessed = [
        event for event in await all_events(event_log) if type(event.data).__name__ == "ProofReassessed"
    ]
    assert sorted(event.data.pattern_id for event in reassessed) == list(names)
    assert {event.data.inputs.level for event in reassessed} == {0.8}
