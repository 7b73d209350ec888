"""The service on real servers: what arrives, what people decide, and what a restart remembers."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial

import msgspec
import pytest
import pytest_asyncio
from contracts import Event, ingest, pattern, recommendation, workspace
from eventlog import Append, EventLog, verify
from runtime.errors import AppError, NotFoundError, StateConflictError, ValidationFailedError
from testkit.builders import recorded
from testkit.servers import Database
from testkit.waiting import eventually

from services.pattern.errors import InvalidCommandError
from services.pattern.projections import PROJECTION
from services.pattern.reactions import loading

from .running import CONTEXT, NOW, WORKSPACE, Running, failure, running

Status = pattern.PatternStatus


@pytest_asyncio.fixture
async def service(event_log: EventLog, database: Database) -> AsyncIterator[Running]:
    async with running(event_log, database) as started:
        yield started


async def test_repeated_failures_become_one_detected_pattern(service: Running) -> None:
    """Three issues with one masked title are linked, detected once and named; the log may tell of them in parts."""
    ids = await service.report(
        *[failure(n, f"Timeout after {n}00 ms calling 10.0.0.{n}") for n in range(1, 4)]
    )
    found = set(await service.patterns_of(ids))
    assert len(found) == 1
    events = await service.events(found.pop() or "")
    links = [link for event in events if isinstance(event, pattern.IssuesLinked) for link in event.links]
    assert [link.method for link in links] == [pattern.LinkMethod.SEED] + 2 * [pattern.LinkMethod.EXACT_KEY]
    [detected] = [event for event in events if not isinstance(event, pattern.IssuesLinked)]
    assert isinstance(detected, pattern.PatternDetected)
    assert detected.name == "Timeout after … ms calling …"
    assert detected.assessment.issue_count == 3
    assert {"service": "checkout", "environment": "production"}.items() <= {
        dimension.name: dimension.value for dimension in detected.fingerprint
    }.items()
    await service.assert_memory_equals_rows()


async def test_a_pattern_becomes_active_and_is_described_as_it_grows(service: Running) -> None:
    """Five issues make it active; growth by half makes a new description."""
    for numbers in (range(3), range(3, 5), range(5, 8)):
        await service.report(*[failure(n, "Disk full on volume data") for n in numbers])
    (row,) = (await service.rows()).patterns
    names = [type(event).__name__ for event in await service.events(row.pattern_id)]
    assert row.status is Status.ACTIVE
    assert "PatternStatusChanged" in names and "PatternDescribed" in names
    await service.assert_memory_equals_rows()


async def test_a_smaller_minimum_cluster_size_shows_waiting_candidates(service: Running) -> None:
    """The workspace's setting decides, also for candidates that are there already."""
    await service.report(failure(1, "Certificate expired"), failure(2, "Certificate expired"))
    assert (await service.rows()).patterns[0].status is Status.CANDIDATE
    changed = workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, minimum_cluster_size=2)
    await service.event_log.append(Append(recorded(changed, WORKSPACE, source="gateway"), None))
    await eventually(lambda: service.memory().patterns[0].status is Status.EMERGING)
    await service.assert_memory_equals_rows()


async def test_an_unlinked_issue_stays_out_and_so_do_later_ones_like_it(service: Running) -> None:
    """A cannot-link on the key holds for later issues and after a restart."""
    ids = await service.report(*[failure(n, "Queue is stuck") for n in range(3)])
    (found,) = set(await service.patterns_of(ids))
    changed = await service.endpoints.unlink_issue(pattern.UnlinkIssue(issue_id=ids[0]), CONTEXT)
    assert changed.pattern_id == found
    later = await service.report(failure(9, "Queue is stuck"))
    assert await service.patterns_of(ids[:1]) == [None]
    assert await service.patterns_of(later) != [found]
    await service.assert_memory_equals_rows()
    again = await service.endpoints.unlink_issue(
        pattern.UnlinkIssue(issue_id=ids[0], pattern_id=found), CONTEXT
    )
    assert again.pattern_id == found


async def test_a_linked_issue_takes_later_ones_like_it_along(service: Running) -> None:
    """A must-link on the key moves the issue and decides for those that follow."""
    ids = await service.report(
        *[failure(n, "Payment declined by provider") for n in range(3)], failure(5, "Ledger out of balance")
    )
    target, _, _, other = await service.patterns_of(ids)
    assert target is not None and other is not None and target != other
    changed = await service.endpoints.link_issue(
        pattern.LinkIssue(pattern_id=target, issue_id=ids[3]), CONTEXT
    )
    assert (target, Status.EMERGING) == (changed.pattern_id, changed.status)
    later = await service.report(failure(6, "Ledger out of balance"))
    assert [target, target] == await service.patterns_of([ids[3], *later])
    await service.assert_memory_equals_rows()
    again = await service.endpoints.link_issue(pattern.LinkIssue(pattern_id=target, issue_id=ids[3]), CONTEXT)
    assert again.pattern_id == target


async def test_after_a_merge_the_sources_failures_go_to_the_target(service: Running) -> None:
    """Members move, the source ends, its keys point to the target; merging again says the same."""
    ids = await service.report(
        *[failure(n, "Cache node unreachable") for n in range(3)],
        *[failure(n, "Session store lost a shard") for n in range(3, 6)],
    )
    groups = await service.patterns_of(ids)
    target, source = groups[0] or "", groups[3] or ""
    merge = pattern.MergePatterns(target_pattern_id=target, source_pattern_id=source)
    await service.endpoints.merge_patterns(merge, CONTEXT)
    later = await service.report(failure(7, "Session store lost a shard"))
    assert [target] * 7 == await service.patterns_of([*ids, *later])
    await service.assert_memory_equals_rows()
    assert (await service.endpoints.merge_patterns(merge, CONTEXT)).pattern_id == target
    with pytest.raises(StateConflictError, match="was merged into"):
        await service.endpoints.update_pattern(pattern.UpdatePattern(pattern_id=source, name="Gone"), CONTEXT)


async def test_after_a_split_later_failures_go_with_their_part(service: Running) -> None:
    """A key that moved whole never comes back, though its text is close to the old part's."""
    ids = await service.report(
        *[failure(n, "Replication lag of the primary database cluster is above its limit") for n in range(3)],
        *[
            failure(n, "Replication lag of the primary database cluster is above the limit")
            for n in range(3, 6)
        ],
    )
    assert len(set(await service.patterns_of(ids))) == 1
    old = (await service.patterns_of(ids))[0] or ""
    split = pattern.SplitPattern(pattern_id=old, issue_ids=tuple(ids[3:]), name="Lag of the replica")
    new = (await service.endpoints.split_pattern(split, CONTEXT)).pattern_id
    assert new != old
    later = await service.report(
        failure(10, "Replication lag of the primary database cluster is above the limit"),
        failure(11, "Replication lag of the primary database cluster is above its limit"),
    )
    assert [new, old] == await service.patterns_of(later)
    names = {row.pattern_id: row.name for row in (await service.rows()).patterns}
    assert names[new] == "Lag of the replica"
    await service.assert_memory_equals_rows()


async def test_a_closed_pattern_follows_the_verdict_on_its_fix(service: Running) -> None:
    """Watching while it is proved, whatever arrives; resolved when verified, active again when broken."""
    ids = await service.report(*[failure(n, "Login loop", at=NOW - timedelta(hours=n + 1)) for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    close = pattern.ClosePattern(pattern_id=found, closure_note="Rolled back.", version="2.4.0")
    assert (await service.endpoints.close_pattern(close, CONTEXT)).status is Status.WATCHING
    fixed_at = service.memory().patterns[0].watched_since
    noted = pattern.ClosePattern(pattern_id=found, closure_note="Rolled back the token change.")
    service.now += timedelta(days=1)
    await service.endpoints.close_pattern(noted, CONTEXT)
    assert service.memory().patterns[0].watched_since == fixed_at, "a note does not restart the proof"
    await service.report(failure(4, "Login loop", at=NOW + timedelta(days=2)))
    assert service.memory().patterns[0].status is Status.WATCHING
    await judged(service, found, fixed_at=fixed_at, is_verified=True)
    assert service.memory().patterns[0].status is Status.RESOLVED
    await judged(service, found, fixed_at=fixed_at, is_verified=False)
    assert service.memory().patterns[0].status is Status.ACTIVE
    changes = [e for e in await service.events(found) if isinstance(e, pattern.PatternStatusChanged)]
    assert (changes[-4].fix_version, changes[-4].closure_note) == ("2.4.0", "Rolled back.")
    assert "recurred" in changes[-1].reason
    await service.assert_memory_equals_rows()


async def judged(service: Running, pattern_id: str, *, fixed_at: datetime, is_verified: bool) -> None:
    """A verdict as the service recommendation gives it."""
    verdict: Event = recommendation.FixVerified(
        fix_id="fix_1",
        pattern_id=pattern_id,
        fixed_at=fixed_at,
        quiet_days=48.0,
        confidence=0.951,
        inputs=PROOF_INPUTS,
    )
    if not is_verified:
        verdict = recommendation.FixBroken(
            fix_id="fix_1",
            pattern_id=pattern_id,
            fixed_at=fixed_at,
            issue_id="iss_1",
            quiet_days=60.0,
            confidence=0.97,
            was_verified=True,
            inputs=PROOF_INPUTS,
        )
    await service.event_log.append(Append(recorded(verdict, "fix_1", source="recommendation"), None))
    await service.grouped()


PROOF_INPUTS = recommendation.ProofInputs(
    prior_shape=1.0,
    gap_days=14.0,
    n_recurrences=2,
    exposure_days=10.0,
    level=0.95,
    least_days=14,
    most_days=365,
    window_days=48.0,
    n_recurrences_after=0,
    n_residual=0,
    model_version="gamma-quiet@2026-11-22",
)


async def test_closures_say_where_and_when_within_reason(service: Running) -> None:
    ids = await service.report(*[failure(n, "Login loop", at=NOW - timedelta(hours=n + 1)) for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    for wrong in (
        {"fixed_at": service.now + timedelta(hours=1)},
        {"environment": " "},
        {"version": "v" * 201},
        {"version": "1\x00"},
    ):
        command = msgspec.convert(
            {"pattern_id": found, "closure_note": "Done.", **wrong}, pattern.ClosePattern
        )
        with pytest.raises(InvalidCommandError):
            await service.endpoints.close_pattern(command, CONTEXT)
    earlier = service.now - timedelta(days=3)
    told = pattern.ClosePattern(pattern_id=found, closure_note="Done.", fixed_at=earlier)
    await service.endpoints.close_pattern(told, CONTEXT)
    assert service.memory().patterns[0].watched_since == earlier
    await service.assert_memory_equals_rows()


async def test_the_ends_of_its_issues_give_a_pattern_a_mean_time_to_repair(service: Running) -> None:
    """Two hours for the only episode, said once; an issue that opens again takes nothing back, a restart neither.

    Another pattern is measured behind the first: what it says shows that the first had its turn.
    """
    ids = await service.report(*[failure(n, "Queue is stuck", at=NOW) for n in range(3)])
    others = await service.report(*[failure(n, "Login loops for ever", at=NOW) for n in range(20, 23)])
    found, other = [(await service.patterns_of(each))[0] or "" for each in (ids, others)]

    async def change(at: timedelta, *changes: tuple[str, ingest.IssueStatus]) -> None:
        closed = [(each, ingest.IssueStatus.CLOSED) for each in others]
        events = [
            recorded(ingest.IssueUpdated(issue_id=each, status=status), each, at=NOW + at)
            for each, status in (*changes, *closed)
        ]
        await service.event_log.append(*[Append(event, None) for event in events])
        await eventually(lambda: repairs_take(service, other, at))

    await change(timedelta(hours=1), *[(each, ingest.IssueStatus.RESOLVED) for each in ids[:2]])
    assert mttr(service, found) is None
    await change(timedelta(hours=2), (ids[2], ingest.IssueStatus.CLOSED))
    assert mttr(service, found) == 7200
    await change(timedelta(hours=3), (ids[0], ingest.IssueStatus.NEW))
    said = [e for e in await service.events(found) if isinstance(e, pattern.PatternDescribed)]
    assert [each.assessment.mttr_seconds for each in said] == [7200]
    await service.assert_memory_equals_rows()
    linked = (await service.report(failure(9, "Queue is stuck")))[0]
    last = [e for e in await service.events(found) if isinstance(e, pattern.IssuesLinked)][-1]
    assert (last.links[0].issue_id, last.assessment.mttr_seconds) == (linked, 7200)


def mttr(service: Running, pattern_id: str) -> float | None:
    return {row.pattern_id: row.mttr_seconds for row in service.memory().patterns}[pattern_id]


async def repairs_take(service: Running, pattern_id: str, expected: timedelta) -> bool:
    """Give repairs a turn; whether this is what they take now."""
    service.now += timedelta(minutes=1)
    await service.reaction.tick(now=service.now)
    return mttr(service, pattern_id) == expected.total_seconds()


@pytest.mark.parametrize("is_split", [False, True])
async def test_a_pattern_that_loses_issues_has_its_repairs_measured_anew(
    service: Running, is_split: bool
) -> None:
    """The issue that took longest leaves: what is left was repaired sooner, and a part of its own is measured too."""
    ids = await service.report(*[failure(n, "Queue is stuck", at=NOW) for n in range(6)])
    found = (await service.patterns_of(ids))[0] or ""
    for hour, each in enumerate(ids, start=1):
        closed = ingest.IssueUpdated(issue_id=each, status=ingest.IssueStatus.CLOSED)
        await service.event_log.append(Append(recorded(closed, each, at=NOW + timedelta(hours=hour)), None))
    await eventually(lambda: repairs_take(service, found, timedelta(hours=6)))
    if is_split:
        split = pattern.SplitPattern(pattern_id=found, issue_ids=tuple(ids[3:]), name="Queue two")
        new = (await service.endpoints.split_pattern(split, CONTEXT)).pattern_id
        await eventually(lambda: repairs_take(service, new, timedelta(hours=6)))
        await eventually(lambda: repairs_take(service, found, timedelta(hours=3)))
    else:
        await service.endpoints.unlink_issue(pattern.UnlinkIssue(issue_id=ids[5]), CONTEXT)
        await eventually(lambda: repairs_take(service, found, timedelta(hours=5)))
    await service.assert_memory_equals_rows()


async def test_patterns_are_clustered_when_asked_and_a_cluster_keeps_its_id_over_a_restart(
    event_log: EventLog, database: Database
) -> None:
    """The request names the clustering to come; a later leader knows the cluster again."""
    titles = ("Queue is stuck", "Disk is full", "Certificate has expired")

    async def clustered(service: Running) -> pattern.ClustersComputed:
        asked = await service.endpoints.recompute_clusters(pattern.RecomputeClusters(), CONTEXT)
        again = await service.endpoints.recompute_clusters(pattern.RecomputeClusters(), CONTEXT)
        assert again == asked

        async def computed() -> list[pattern.ClustersComputed]:
            await service.reaction.tick(now=service.now)
            history = await event_log.history(WORKSPACE, "clustering", WORKSPACE)
            return [
                event.data
                for event in history
                if isinstance(event.data, pattern.ClustersComputed) and event.data.run_id == asked.run_id
            ]

        return (await eventually(computed, deadline=60))[0]

    async with running(event_log, database) as service:
        await service.report(*[failure(n, titles[n % 3], at=NOW - timedelta(hours=n // 3)) for n in range(9)])
        first = await clustered(service)
        assert [(each.name, len(each.pattern_ids)) for each in first.clusters] == [("Service checkout", 3)]
        reasons = [(reason.kind, reason.n) for reason in first.relations[0].reasons]
        async with service.pool.connection() as conn:
            ids = first.clusters[0].pattern_ids
            hours = await loading.hours(conn, WORKSPACE, ids, since=NOW - timedelta(days=1), n=2)
        latest = int(NOW.timestamp() // 3600)
        assert hours == dict.fromkeys(ids, (latest - 1, latest)), "each has its share of what is looked at"
        assert (len(first.relations), reasons[:2]) == (3, [("co_occurrence", 3), ("service", 3)])
        await service.grouped()
    async with running(event_log, database) as service:
        await service.report(*[failure(n, "Login loops for ever", at=NOW) for n in range(20, 23)])
        service.now += timedelta(hours=1)
        second = await clustered(service)
        assert [each.cluster_id for each in second.clusters] == [first.clusters[0].cluster_id]
        assert (second.n_patterns, len(second.clusters[0].pattern_ids)) == (4, 4)
        await service.assert_memory_equals_rows()


async def test_work_on_a_recommendation_moves_the_pattern(service: Running) -> None:
    """In progress means mitigating, implemented means watching."""
    ids = await service.report(*[failure(n, "Out of file handles") for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    steps = (
        ("pending", "in_progress", Status.MITIGATING),
        ("in_progress", "implemented", Status.WATCHING),
    )
    for before, after, expected in steps:
        changed = recommendation.RecommendationStatusChanged(
            recommendation_id="rec_1",
            pattern_id=found,
            from_status=recommendation.RecommendationStatus(before),
            to_status=recommendation.RecommendationStatus(after),
            reason="",
        )
        event = recorded(changed, "rec_1", source="recommendation", at=NOW + timedelta(hours=1))
        await service.event_log.append(Append(event, None))
        wanted: list[Status] = [expected]
        await eventually(lambda: [service.memory().patterns[0].status] == wanted)  # noqa: B023  # awaited here
    await service.assert_memory_equals_rows()


async def test_a_restart_decides_as_if_there_had_been_none(event_log: EventLog, database: Database) -> None:
    """Memory loaded from rows equals memory kept, and goes on with the same patterns."""
    async with running(event_log, database) as first:
        ids = await first.report(
            *[failure(n, "Payment declined by provider") for n in range(3)],
            *[failure(n, "Ledger out of balance", component="books") for n in range(3, 6)],
        )
        await first.endpoints.unlink_issue(pattern.UnlinkIssue(issue_id=ids[0]), CONTEXT)
        await first.grouped()
        kept = first.memory()
    await event_log.append(Append(failure(7, "Ledger out of balance", component="books"), 0))
    async with running(event_log, database) as second:
        await second.grouped()
        assert await second.patterns_of(ids[1:]) == await second.patterns_of(ids[1:])
        seventh = failure(7, "Ledger out of balance").aggregate_id
        assert (await second.patterns_of(ids[3:4])) == await second.patterns_of([seventh])
        assert {row.pattern_id for row in kept.patterns} == {
            row.pattern_id for row in second.memory().patterns
        }
        await second.assert_memory_equals_rows()


async def test_the_rows_equal_their_replay(service: Running, database: Database) -> None:
    """Replaying the log gives the same rows, human decisions included."""
    ids = await service.report(
        *[failure(n, "Cache node unreachable") for n in range(3)],
        *[failure(n, "Session store lost a shard") for n in range(3, 7)],
    )
    groups = await service.patterns_of(ids)
    await service.endpoints.unlink_issue(pattern.UnlinkIssue(issue_id=ids[6]), CONTEXT)
    merge = pattern.MergePatterns(target_pattern_id=groups[0] or "", source_pattern_id=groups[3] or "")
    await service.endpoints.merge_patterns(merge, CONTEXT)
    split = pattern.SplitPattern(pattern_id=groups[0] or "", issue_ids=(ids[4],))
    await service.endpoints.split_pattern(split, CONTEXT)
    await service.assert_memory_equals_rows()
    certificate = await verify(
        service.event_log, PROJECTION, owner_url=database.owner_url, projector_url=database.projector_url
    )
    assert certificate.is_equal


async def test_an_endless_stream_of_commands_does_not_stop_grouping(service: Running) -> None:
    """While people never pause, an issue that arrives is grouped, and their commands succeed all the same."""
    ids = await service.report(*[failure(n, "Mail queue is stuck") for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    renamed: list[str] = []

    async def rename_without_end(person: str) -> None:
        for number in itertools.count():
            rename = pattern.UpdatePattern(pattern_id=found, name=f"{person}'s {number}")
            await service.endpoints.update_pattern(rename, CONTEXT)
            renamed.append(person)

    async def is_grouped(issue_id: str) -> bool:
        async with service.pool.connection() as conn:
            rows = await loading.issues(conn, WORKSPACE, [issue_id])
        return [member.pattern_id for _, member in rows if member is not None] == [found]

    people = [asyncio.create_task(rename_without_end(person)) for person in ("Ann", "Bo", "Cy")]
    try:
        for number in (10, 11):
            late = failure(number, "Mail queue is stuck")
            await service.event_log.append(Append(late, 0))
            await eventually(partial(is_grouped, late.aggregate_id))
        n_before = len(renamed)
        await eventually(lambda: len(renamed) > n_before + 10)
        assert not any(task.done() for task in people)
    finally:
        for task in people:
            task.cancel()
        await asyncio.gather(*people, return_exceptions=True)
    await service.assert_memory_equals_rows()


@pytest.mark.parametrize("name", ["link", "unlink", "merge", "split", "update", "close"])
async def test_a_command_on_what_does_not_exist_is_refused(service: Running, name: str) -> None:
    """Unknown ids are not found, whatever the command."""
    await service.report(failure(1, "Something"))
    door = service.endpoints
    calls = {
        "link": lambda: door.link_issue(pattern.LinkIssue(pattern_id="pat_X", issue_id="iss_X"), CONTEXT),
        "unlink": lambda: door.unlink_issue(pattern.UnlinkIssue(issue_id="iss_X"), CONTEXT),
        "merge": lambda: door.merge_patterns(
            pattern.MergePatterns(target_pattern_id="pat_X", source_pattern_id="pat_Y"), CONTEXT
        ),
        "split": lambda: door.split_pattern(
            pattern.SplitPattern(pattern_id="pat_X", issue_ids=("iss_X",)), CONTEXT
        ),
        "update": lambda: door.update_pattern(pattern.UpdatePattern(pattern_id="pat_X", name="n"), CONTEXT),
        "close": lambda: door.close_pattern(
            pattern.ClosePattern(pattern_id="pat_X", closure_note="n"), CONTEXT
        ),
    }
    with pytest.raises(NotFoundError):
        await calls[name]()


async def test_what_cannot_be_asked_is_refused_with_a_reason(service: Running) -> None:
    """Every refusal says what to do, and leaves memory and rows as they were."""
    ids = await service.report(*[failure(n, "Login loop") for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    door = service.endpoints
    refused: list[tuple[type[AppError], object]] = [
        (
            ValidationFailedError,
            door.update_pattern(pattern.UpdatePattern(pattern_id=found, name=" "), CONTEXT),
        ),
        (ValidationFailedError, door.update_pattern(pattern.UpdatePattern(pattern_id=found), CONTEXT)),
        (
            StateConflictError,
            door.update_pattern(pattern.UpdatePattern(pattern_id=found, status=Status.RESOLVED), CONTEXT),
        ),
        (
            ValidationFailedError,
            door.close_pattern(pattern.ClosePattern(pattern_id=found, closure_note=" "), CONTEXT),
        ),
        (
            ValidationFailedError,
            door.update_pattern(pattern.UpdatePattern(pattern_id=found, name="a\0b"), CONTEXT),
        ),
        (
            ValidationFailedError,
            door.split_pattern(
                pattern.SplitPattern(pattern_id=found, issue_ids=(ids[0],), name="a\0b"), CONTEXT
            ),
        ),
        (
            ValidationFailedError,
            door.close_pattern(pattern.ClosePattern(pattern_id=found, closure_note="a\0b"), CONTEXT),
        ),
        (
            ValidationFailedError,
            door.split_pattern(pattern.SplitPattern(pattern_id=found, issue_ids=tuple(ids)), CONTEXT),
        ),
        (
            ValidationFailedError,
            door.merge_patterns(
                pattern.MergePatterns(target_pattern_id=found, source_pattern_id=found), CONTEXT
            ),
        ),
    ]
    for error, call in refused:
        with pytest.raises(error):
            await call  # type: ignore[misc]  # coroutines of one reply, listed as objects
    await service.assert_memory_equals_rows()


async def test_a_persons_name_outlives_new_descriptions(service: Running) -> None:
    """Growth describes the pattern anew, under the name that a person gave."""
    ids = await service.report(*[failure(n, "Login loop") for n in range(3)])
    found = (await service.patterns_of(ids))[0] or ""
    await service.endpoints.update_pattern(
        pattern.UpdatePattern(pattern_id=found, name="The login loop"), CONTEXT
    )
    await service.report(*[failure(n, "Login loop") for n in range(3, 12)])
    assert service.memory().patterns[0].name == "The login loop"
    assert Counter(type(e).__name__ for e in await service.events(found))["PatternDescribed"] >= 2
    await service.assert_memory_equals_rows()
