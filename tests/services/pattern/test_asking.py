"""Suggestions, contradictions and similar issues on real servers, over a restart and a replay."""

import pytest
from contracts import pattern, workspace
from eventlog import Append, EventLog, verify
from runtime.errors import NotFoundError, StateConflictError, UnavailableError
from testkit.builders import recorded
from testkit.servers import Database
from testkit.waiting import eventually

from services.pattern.projections import PROJECTION

from .running import CONTEXT, WORKSPACE, Running, failure, running

LAG = "Replication lag of the primary database cluster is above its limit"
NEARLY = "Replication lag of the primary database cluster is above the limit"
CARD = "Payment declined by provider"
Side = pattern.Side


async def want_certainty(service: Running) -> None:
    """Nothing but repetitions is joined by itself from now on."""
    changed = workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, confidence_threshold=1.0)
    await service.event_log.append(Append(recorded(changed, WORKSPACE, source="gateway"), None))
    await eventually(lambda: service.memory().settings.confidence_threshold == 1.0)


async def asked_of(service: Running, pattern_id: str) -> pattern.DecisionsContradicted:
    """The last contradiction on a pattern."""
    events = await service.events(pattern_id)
    return [event for event in events if isinstance(event, pattern.DecisionsContradicted)][-1]


async def test_people_are_asked_and_their_answers_outlive_a_restart(
    event_log: EventLog, database: Database
) -> None:
    """A suggestion accepted, two decisions that contradict each other, one chosen: rows, memory and replay agree."""
    async with running(event_log, database) as first:
        await want_certainty(first)
        known, near = await first.report(failure(1, LAG), failure(2, NEARLY))
        target, begun = [found or "" for found in await first.patterns_of([known, near])]
        linked, suggested = await first.events(begun)
        assert isinstance(linked, pattern.IssuesLinked) and isinstance(suggested, pattern.LinkSuggested)
        assert [each.pattern_id for each in suggested.suggestions] == [target]
        accept = pattern.AnswerSuggestion(
            pattern_id=target, issue_id=near, begun_pattern_id=begun, is_accepted=True
        )
        await first.endpoints.answer_suggestion(accept, CONTEXT)
        ids = await first.report(failure(3, CARD), failure(4, CARD), failure(5, NEARLY))
        card, _, follows = await first.patterns_of(ids)
        assert follows == target and card is not None
        await first.endpoints.unlink_issue(pattern.UnlinkIssue(issue_id=ids[1]), CONTEXT)
        (apart,) = await first.report(failure(6, CARD))
        await first.endpoints.link_issue(pattern.LinkIssue(pattern_id=card, issue_id=apart), CONTEXT)
        asked = await asked_of(first, card)
        assert (asked.earlier.issue_id, asked.earlier.decided_by) == (ids[1], CONTEXT.actor)
        assert asked.earlier.decided_at is not None
        await first.assert_memory_equals_rows()
    async with running(event_log, database) as second:
        answer = pattern.AnswerContradiction(
            contradiction_id=asked.contradiction_id,
            pattern_id=asked.pattern_id,
            grouping_key=asked.grouping_key,
            earlier=asked.earlier,
            keep=Side.EARLIER,
        )
        await second.endpoints.answer_contradiction(answer, CONTEXT)
        later = await second.report(failure(7, CARD), failure(8, NEARLY))
        assert await second.patterns_of([apart, later[1]]) == [card, target]
        assert (await second.patterns_of(later))[0] != card
        with pytest.raises(StateConflictError, match="nothing to answer"):
            await second.endpoints.answer_contradiction(answer, CONTEXT)
        await second.assert_memory_equals_rows()
    certificate = await verify(
        event_log, PROJECTION, owner_url=database.owner_url, projector_url=database.projector_url
    )
    assert certificate.is_equal


async def test_similar_issues_come_with_their_reason_or_none_with_why(
    event_log: EventLog, database: Database
) -> None:
    """The same failure first, then near texts; alone, without text, unlike everything: it says which."""

    async def similar(issue_id: str, limit: int = 3) -> pattern.SimilarFound:
        found = await service.endpoints.find_similar(
            pattern.FindSimilar(issue_id=issue_id, limit=limit), CONTEXT
        )
        assert bool(found.issues) == (found.reason is None)
        return found

    async with running(event_log, database) as service:
        (alone,) = await service.report(failure(1, LAG))
        assert (await similar(alone)).reason is pattern.NothingSimilar.ALONE
        ids = await service.report(failure(2, LAG), failure(3, NEARLY), failure(4, CARD), failure(5, "..."))
        found = await similar(alone)
        assert [each.issue_id for each in found.issues] == [ids[0], ids[1]]
        same, near = found.issues
        assert (same.similarity, same.method) == (1.0, pattern.LinkMethod.EXACT_KEY)
        assert 0.3 < near.similarity < 1 and near.method is pattern.LinkMethod.TEXT_SIMILARITY
        assert "service" in near.matched_dimensions and near.pattern_id is not None
        assert len((await similar(alone, limit=1)).issues) == 1
        unlike = await similar(ids[2])
        assert unlike.reason is pattern.NothingSimilar.BELOW_THRESHOLD
        assert (unlike.nearest_similarity or 0.0) < unlike.least_similarity and unlike.compared_count >= 3
        assert (await similar(ids[3])).reason is pattern.NothingSimilar.NO_TEXT
        with pytest.raises(NotFoundError):
            await similar("iss_of_nobody")
        await service.reaction.start(partition=0, position=0, caught_up_at=1)
        with pytest.raises(UnavailableError):
            await service.endpoints.find_similar(pattern.FindSimilar(issue_id=alone, limit=3), CONTEXT)
