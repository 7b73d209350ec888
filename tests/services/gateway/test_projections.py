"""The read model: laws of every projection, and what each event does to the rows."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from contracts import (
    Event,
    Recorded,
    ingest,
    pattern,
    prediction,
    recommendation,
    remainder_id,
    workspace,
)
from eventlog import apply_schema
from msgspec.structs import replace
from psycopg import AsyncConnection, AsyncRawCursor
from testkit.builders import NOW, WORKSPACE, issue_reported, recorded
from testkit.laws import assert_projection_laws, in_order, rows_after
from testkit.servers import Database

from services.gateway import _queries
from services.gateway.projections import project, projection
from services.gateway.vocabulary import followed
from services.ingest.commands import purge_issue
from services.prediction.commands import purge_prediction
from tests.services.gateway import builders as b
from tests.services.recommendation.builders import playbook_story

OTHER = "pat_00000000000000000000000002"


def issues(count: int) -> list[Recorded[Event]]:
    return [issue_reported(number) for number in range(1, count + 1)]


def ids(events: Sequence[Recorded[Event]]) -> list[str]:
    return [event.aggregate_id for event in events]


def change(issue: Recorded[Event], **fields: Any) -> Recorded[Event]:
    return recorded(ingest.IssueUpdated(issue_id=issue.aggregate_id, **fields), issue.aggregate_id)


def story() -> list[Recorded[Event]]:
    """Every kind of event at least once, with moves between patterns."""
    five = issues(5)
    names = ids(five)
    split = pattern.PatternSplit(
        pattern_id=b.PATTERN, new_pattern_id="pat_3", issue_ids=(names[0],), assessment=b.assessment(4)
    )
    made = prediction.PredictionResolved(
        prediction_id="prd_1",
        pattern_id=b.PATTERN,
        outcome=prediction.Outcome.HIT,
        brier=0.36,
        issue_id=names[1],
        window_days=30,
        probability=0.4,
    )
    return [
        b.created(),
        *five[:3],
        b.linked(names[0], count=1),
        change(five[0], title="New title", team="payments", cleared=("service",)),
        b.linked(names[1], names[2], count=3),
        b.detected(count=3),
        change(five[0], service="billing", metadata={"a": 1}),
        *five[3:],
        b.linked(names[3], count=1, pattern_id=OTHER),
        b.linked(names[4], count=2, pattern_id=OTHER),
        b.detected(count=2, pattern_id=OTHER, name="Other"),
        b.clustered(b.PATTERN, OTHER),
        b.clustered(b.PATTERN, OTHER, "pat_3", run_id="run_2"),
        b.predicted("prd_1"),
        b.predicted("prd_2", probability=0.8),
        b.predicted("prd_3", window_days=7),
        recorded(
            prediction.AlertFired(
                prediction_id="prd_2", pattern_id=b.PATTERN, window_days=30, probability=0.8, threshold=0.7
            ),
            "prd_2",
        ),
        recorded(made, "prd_1"),
        recorded(
            prediction.PredictionFeedbackGiven(
                prediction_id="prd_2", outcome=prediction.Outcome.PREVENTED, note="rolled back"
            ),
            "prd_2",
        ),
        recorded(prediction.PredictionDismissed(prediction_id="prd_3", reason=""), "prd_3"),
        b.recommended("rec_1"),
        recorded(
            recommendation.RecommendationStepChecked(recommendation_id="rec_1", step_index=1, is_done=True),
            "rec_1",
        ),
        recorded(
            recommendation.RecommendationStepChecked(recommendation_id="rec_1", step_index=0, is_done=True),
            "rec_1",
        ),
        recorded(
            recommendation.RecommendationStepChecked(recommendation_id="rec_1", step_index=1, is_done=False),
            "rec_1",
        ),
        recorded(
            recommendation.RecommendationReassessed(
                recommendation_id="rec_1",
                pattern_id="pat_1",
                impact=recommendation.RecommendationImpact.HIGH,
                arithmetic=b.arithmetic(3.0),
            ),
            "rec_1",
        ),
        recorded(
            recommendation.RecommendationStatusChanged(
                recommendation_id="rec_1",
                pattern_id=b.PATTERN,
                from_status=recommendation.RecommendationStatus.PENDING,
                to_status=recommendation.RecommendationStatus.IN_PROGRESS,
                reason="Mine.",
            ),
            "rec_1",
        ),
        b.suggested("sug_1", names[3], to=b.PATTERN, begun=OTHER),
        b.constrained(b.PATTERN, names[3], pattern.ConstraintKind.CANNOT_LINK),
        b.contradicted("ctr_1", b.PATTERN, names[4], earlier=(b.PATTERN, names[3])),
        b.constrained(b.PATTERN, names[4], pattern.ConstraintKind.MUST_LINK),
        b.constrained(OTHER, names[4], pattern.ConstraintKind.MUST_LINK, key="OTHER KEY"),
        recorded(
            pattern.ContradictionAnswered(
                contradiction_id="ctr_1", pattern_id=b.PATTERN, keep=pattern.Side.EARLIER
            ),
            b.PATTERN,
        ),
        b.constrained(b.PATTERN, names[2], pattern.ConstraintKind.CANNOT_LINK),
        recorded(
            pattern.IssueUnlinked(pattern_id=b.PATTERN, issue_id=names[2], assessment=b.assessment(2)),
            b.PATTERN,
        ),
        recorded(
            pattern.PatternsMerged(
                target_pattern_id=b.PATTERN, source_pattern_id=OTHER, assessment=b.assessment(4)
            ),
            b.PATTERN,
        ),
        b.restated(pattern.PatternStatus.MERGED, pattern_id=OTHER),
        recorded(split, b.PATTERN),
        b.linked(names[0], count=1, pattern_id="pat_3"),
        b.detected(count=1, pattern_id="pat_3", name="Third"),
        recorded(
            pattern.PatternDescribed(
                pattern_id=b.PATTERN, name="Better name", fingerprint=(), assessment=b.assessment(3)
            ),
            b.PATTERN,
        ),
        b.restated(pattern.PatternStatus.WATCHING, note="Raised the limit."),
        recorded(
            ingest.IssueClosed(issue_id=names[1], status=ingest.IssueStatus.RESOLVED, reason="Fixed."),
            names[1],
        ),
        recorded(
            ingest.IssueCommented(
                issue_id=names[1], comment_id="cmt_1", author_id="usr_1", text="It was the certificate."
            ),
            names[1],
        ),
        recorded(workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, proof_window_days=30), WORKSPACE),
        recorded(
            workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, alert_probability=0.5), WORKSPACE
        ),
        b.restated(pattern.PatternStatus.RESOLVED),
        *playbook_story(),
        *b.connecting_story(),
    ]


async def test_the_projection_keeps_the_laws(database: Database) -> None:
    """Replaying twice and cutting the log anywhere gives the same rows."""
    rows = await assert_projection_laws(projection(), story(), database=database)
    assert {
        table: len(rows[table])
        for table in ("issues", "comments", "patterns", "predictions", "recommendations")
    } == {"issues": 5, "comments": 1, "patterns": 3, "predictions": 3, "recommendations": 1}
    assert {table: len(rows[table]) for table in ("suggestions", "constraints", "contradictions")} == {
        "suggestions": 1,
        "constraints": 2,
        "contradictions": 1,
    }
    assert [len(rows[table]) for table in ("clusterings", "clusters", "pattern_relations")] == [1, 1, 1]
    assert [len(rows[table]) for table in ("plays", "abstentions")] == [1, 1]
    assert [len(rows[table]) for table in ("connectors", "sync_runs", "tickets")] == [1, 3, 1]


def ended_story() -> list[Recorded[Event]]:
    """An issue, a prediction and a prompt expire; issue and prediction are purged."""
    one, other = issues(2)
    issue_id, space = one.aggregate_id, WORKSPACE
    started = ingest.AnalysisStarted(
        issue_id=other.aggregate_id, analysis_id="ana_1", tier=ingest.AnalysisTier.FAST
    )
    resolved = prediction.PredictionResolved(
        prediction_id="prd_1",
        pattern_id=b.PATTERN,
        outcome=prediction.Outcome.HIT,
        brier=0.36,
        issue_id=issue_id,
        window_days=30,
        probability=0.4,
    )
    versions = b.versioned(space, "ended", issue_id=issue_id, pattern_id=b.PATTERN)
    before = in_order(
        b.created(),
        one,
        other,
        b.linked(*ids([one, other]), count=2),
        b.detected(count=2),
        recorded(started, other.aggregate_id),
        b.predicted("prd_1"),
        recorded(resolved, "prd_1"),
        b.predicted("prd_2"),
        *(recorded(each, space) for each in versions),
        recorded(ingest.IssueExpired(issue_id=issue_id), issue_id),
        recorded(prediction.PredictionExpired(prediction_id="prd_1"), "prd_1"),
        recorded(ingest.PromptsExpired(workspace_id=space, analysis_ids=("ana_1",)), space),
    )
    [expired] = [event for event in before if isinstance(event.data, prediction.PredictionExpired)]
    remains = purge_prediction(
        [event for event in before if event.aggregate_id == "prd_1"],
        expired_before=expired.recorded_at + timedelta(days=1),
    )
    kept = purge_issue(
        [event for event in before if event.aggregate_id == issue_id],
        expired_before=expired.recorded_at + timedelta(days=1),
    )
    assert remains is not None and kept is not None
    return in_order(
        *before,
        recorded(prediction.PredictionsPurged(workspace_id=space, predictions=(remains,)), space),
        recorded(ingest.IssuesPurged(workspace_id=space, issues=(kept,), counted_from=NOW), space),
    )


async def test_a_replay_gives_the_same_rows_once_events_of_the_purged_are_gone(database: Database) -> None:
    """Also while it is only expired: scores and counts go on, and no row names a purged issue."""
    events = ended_story()
    issue_id = events[1].aggregate_id
    hidden = await rows_after(projection(), [events[:-2]], database=database, schema="hidden")
    assert any("prd_1" in row for row in hidden["predictions"]) and hidden["purged_predictions"] == []
    live = await assert_projection_laws(projection(), events, database=database)
    left = [event for event in events if event.aggregate_id not in ("prd_1", issue_id)]
    assert await rows_after(projection(), [left], database=database, schema="left") == live
    assert not any("prd_1" in row for row in live["predictions"]) and len(live["purged_predictions"]) == 1
    remainder = remainder_id(issue_id, events[-1].data.issues[0].last_sequence)  # type: ignore[union-attr]
    named = {
        table: row for table, found in live.items() for row in found if issue_id in row.replace(remainder, "")
    }
    assert named == {}


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    owner = await AsyncConnection.connect(database.owner_url, autocommit=True, cursor_factory=AsyncRawCursor)
    async with owner:
        await apply_schema(owner, "gateway", projection().schema_sql)
    made = await AsyncConnection.connect(
        database.projector_url,
        autocommit=True,
        options="-c search_path=gateway",
        cursor_factory=AsyncRawCursor,
        row_factory=psycopg.rows.dict_row,
    )
    async with made:
        yield made


async def write(conn: AsyncConnection[Any], events: Sequence[Recorded[Event]]) -> None:
    numbered = [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]
    async with conn.transaction():
        await project(numbered, conn)


async def rows(conn: AsyncConnection[Any], query: str) -> list[dict[str, Any]]:
    return await (await conn.execute(query.encode())).fetchall()


async def test_an_issue_of_a_candidate_is_not_shown_in_a_pattern(conn: AsyncConnection[Any]) -> None:
    """Before its detection a pattern leaves no trace on its issues."""
    [issue] = issues(1)
    await write(conn, [issue, b.linked(issue.aggregate_id, count=1)])
    assert await rows(conn, "SELECT status, pattern_id FROM issue_rows") == [
        {"status": "new", "pattern_id": None}
    ]


async def test_detection_shows_the_pattern_on_all_its_issues(conn: AsyncConnection[Any]) -> None:
    """Untouched issues become pattern_found; one that somebody works on keeps its status."""
    two = issues(2)
    working = change(two[1], status=ingest.IssueStatus.MITIGATING)
    await write(conn, [*two, working, b.linked(*ids(two), count=2), b.detected(count=2)])
    found = await rows(conn, "SELECT status, pattern_id FROM issue_rows ORDER BY seq")
    assert [tuple(row.values()) for row in found] == [("pattern_found", b.PATTERN), ("mitigating", b.PATTERN)]


async def test_what_runs_is_told_by_workspace_and_ends_when_its_issue_expires(
    conn: AsyncConnection[Any],
) -> None:
    """A backlog hides nobody else's; a report begins an expired issue anew, without what ran before."""

    def started(issue: Recorded[Event], workspace_id: str = WORKSPACE) -> Recorded[Event]:
        data = ingest.AnalysisStarted(
            issue_id=issue.aggregate_id,
            analysis_id=f"ana_{workspace_id}_{issue.aggregate_id}",
            tier=ingest.AnalysisTier.DEEP,
        )
        return recorded(data, issue.aggregate_id, workspace_id=workspace_id)

    async def running(*held: str) -> list[str]:
        found = await _queries.list_running_analyses(conn, except_ids=list(held), of_each=2)
        return [row.analysis_id for row in found]

    five = issues(5)
    names = [f"ana_{WORKSPACE}_{issue.aggregate_id}" for issue in five]
    expired = recorded(ingest.IssueExpired(issue_id=five[0].aggregate_id), five[0].aggregate_id)
    other = issue_reported(6, workspace_id="ws_other")
    theirs = started(other, "ws_other")
    await write(conn, [*five, *map(started, five), other, theirs])
    assert await running() == [*names[:2], theirs.data.analysis_id]
    assert await running(names[0], theirs.data.analysis_id) == names[1:3]
    restored = recorded(
        ingest.IssueRestored(issue_id=five[0].aggregate_id, issue=five[0].data), five[0].aggregate_id
    )
    again = replace(started(five[0]), data=replace(started(five[0]).data, analysis_id="ana_again"))
    await conn.execute(b"DELETE FROM analyses")
    # Of one batch, whose end is of the second round.
    await write(conn, [*map(started, five[:1]), expired, restored, again])
    assert await running() == ["ana_again"]


async def test_issues_follow_their_pattern_until_somebody_chooses(conn: AsyncConnection[Any]) -> None:
    """Found, mitigating, resolved, in a loop after a recurrence; a chosen status stays, an analysis leaves none behind."""
    four = issues(4)
    follows, chosen, open_by_choice, analyzed = four
    statuses = ingest.IssueStatus
    states = pattern.PatternStatus
    await write(conn, [*four, b.linked(*ids(four), count=4), b.detected(count=4)])
    await write(conn, [change(chosen, status=statuses.WONT_FIX), change(open_by_choice, status=statuses.NEW)])
    await write(conn, [change(analyzed, status=statuses.ANALYZING)])
    steps = [
        (None, "pattern_found", "analyzing"),
        (change(analyzed, status=statuses.ANALYZED), "pattern_found", "pattern_found"),
        (b.restated(states.ACTIVE), "pattern_found", "pattern_found"),
        (b.restated(states.MITIGATING, before=states.ACTIVE), "mitigating", "mitigating"),
        (b.restated(states.WATCHING, before=states.MITIGATING), "mitigating", "mitigating"),
        (b.restated(states.RESOLVED, before=states.WATCHING), "resolved", "resolved"),
        (b.restated(states.ACTIVE, before=states.RESOLVED), "in_loop", "in_loop"),
        (b.restated(states.MITIGATING, before=states.ACTIVE), "mitigating", "mitigating"),
        (b.restated(states.ACTIVE, before=states.MITIGATING), "in_loop", "in_loop"),
    ]
    for event, shown, of_analyzed in steps:
        await write(conn, [event] if event else [])
        found = await rows(conn, "SELECT issue_id, status FROM issue_rows")
        assert {row["issue_id"]: row["status"] for row in found} == {
            follows.aggregate_id: shown,
            chosen.aggregate_id: "wont_fix",
            open_by_choice.aggregate_id: "new",
            analyzed.aggregate_id: of_analyzed,
        }
        members = await rows(conn, "SELECT issue_id, status FROM member_rows")
        assert sorted(map(str, members)) == sorted(map(str, found))
        [state] = await rows(conn, "SELECT status, has_recurred FROM patterns")
        # What the stream tells of a status before agrees with the view.
        assert followed(state["status"], has_recurred=state["has_recurred"]) == shown
    unlinked = pattern.IssueUnlinked(
        pattern_id=b.PATTERN, issue_id=follows.aggregate_id, assessment=b.assessment(3)
    )
    await write(conn, [recorded(unlinked, b.PATTERN, source="pattern")])
    [free] = await rows(conn, f"SELECT status FROM issue_rows WHERE issue_id = '{follows.aggregate_id}'")
    assert free == {"status": "new"}


async def test_a_person_who_takes_a_fix_back_makes_no_loop(conn: AsyncConnection[Any]) -> None:
    """Only what comes back by itself has recurred."""
    two = issues(2)
    watching, active = pattern.PatternStatus.WATCHING, pattern.PatternStatus.ACTIVE
    taken_back = replace(b.restated(active, before=watching), actor="usr_ann")
    await write(conn, [*two, b.linked(*ids(two), count=2), b.detected(count=2), b.restated(watching)])
    await write(conn, [taken_back])
    assert {row["status"] for row in await rows(conn, "SELECT status FROM issue_rows")} == {"pattern_found"}


async def test_a_merge_moves_the_members(conn: AsyncConnection[Any]) -> None:
    """All issues of the source are in the target, and the source says where they went."""
    await write(conn, story())
    members = await rows(
        conn, "SELECT pattern_id, count(*)::int AS n FROM pattern_members GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in members] == [(b.PATTERN, 3), ("pat_3", 1)]
    merged = await rows(conn, f"SELECT status, merged_into FROM patterns WHERE pattern_id = '{OTHER}'")
    assert merged == [{"status": "merged", "merged_into": b.PATTERN}]


async def test_a_membership_says_who_linked_and_who_merged(conn: AsyncConnection[Any]) -> None:
    """A merge is told until the issue is linked anew."""
    await write(conn, story())
    told = "SELECT i.title, m.linked_by, m.merged_from, m.merged_by FROM pattern_members m"
    found = await rows(conn, f"{told} JOIN issues i USING (issue_id) WHERE merged_from IS NOT NULL")
    assert {(row["linked_by"], row["merged_from"], row["merged_by"]) for row in found} == {
        (None, OTHER, None)
    }
    assert len(found) == 2


async def test_an_answer_and_a_merge_decide_what_is_open(conn: AsyncConnection[Any]) -> None:
    """A decision on the same issue and pattern answers; a move lapses; a decision that is back settles."""
    two = issues(2)
    first, second = ids(two)
    begun = [b.linked(first, count=1), b.linked(second, count=1, pattern_id=OTHER)]
    asked = b.suggested("sug_1", second, to=b.PATTERN, begun=OTHER)
    status = "SELECT status FROM suggestion_rows"
    await write(conn, [*two, *begun, asked])
    assert await rows(conn, status) == [{"status": "open"}]
    answer = b.constrained(b.PATTERN, second, pattern.ConstraintKind.CANNOT_LINK, actor="usr_ann")
    await write(conn, [answer])
    assert await rows(conn, f"{status} WHERE answered_by = 'usr_ann'") == [{"status": "rejected"}]
    question = b.contradicted("ctr_1", b.PATTERN, first, earlier=(b.PATTERN, second))
    await write(conn, [question, b.constrained(b.PATTERN, first, pattern.ConstraintKind.MUST_LINK)])
    asked_about = "SELECT status, contradiction_id FROM constraint_rows"
    assert await rows(conn, asked_about) == [{"status": "contradicted", "contradiction_id": "ctr_1"}]
    assert await rows(conn, "SELECT status FROM contradiction_rows") == [{"status": "open"}]
    await write(conn, [b.constrained(b.PATTERN, second, pattern.ConstraintKind.CANNOT_LINK)])
    assert await rows(conn, "SELECT status FROM contradiction_rows") == [{"status": "lapsed"}]
    assert await rows(conn, asked_about) == [{"status": "in_force", "contradiction_id": None}]


async def test_only_the_later_of_two_decisions_is_contradicted_and_only_while_it_stands(
    conn: AsyncConnection[Any],
) -> None:
    """An undisputed decision on the same key is in force; a merge takes the question along; a third decision ends it."""
    must, never = pattern.ConstraintKind.MUST_LINK, pattern.ConstraintKind.CANNOT_LINK
    four = issues(4)
    names = ids(four)
    apart = b.constrained("pat_9", names[2], never)
    question = b.contradicted("ctr_1", OTHER, names[0], earlier=(OTHER, names[1]))
    await write(conn, [*four, apart, question, b.constrained(OTHER, names[0], must)])
    law = "SELECT pattern_id, status FROM constraint_rows ORDER BY pattern_id"
    disputed = {"pattern_id": OTHER, "status": "contradicted"}
    undisputed = {"pattern_id": "pat_9", "status": "in_force"}
    assert await rows(conn, law) == [disputed, undisputed]
    merged = pattern.PatternsMerged(
        target_pattern_id=b.PATTERN, source_pattern_id=OTHER, assessment=b.assessment(1)
    )
    await write(conn, [recorded(merged, b.PATTERN)])
    assert await rows(conn, law) == [disputed | {"pattern_id": b.PATTERN}, undisputed]
    await write(conn, [b.constrained("pat_3", names[3], must)])
    assert await rows(conn, "SELECT status FROM contradiction_rows") == [{"status": "lapsed"}]
    assert await rows(conn, law) == [undisputed | {"pattern_id": "pat_3"}, undisputed]


async def test_a_dry_run_knows_what_came_before_and_what_nobody_was_shown(
    conn: AsyncConnection[Any],
) -> None:
    """A forecast that stays high fires once, before the range began; one held out fires nothing and is no hit.

    An expired one fires nothing, and says that the next was high before."""
    held_out = b.predicted("prd_4", probability=0.9, pattern_id=OTHER)
    assert isinstance(held_out.data, prediction.PredictionMade)
    hit = prediction.PredictionResolved(
        prediction_id="prd_4",
        pattern_id=OTHER,
        outcome=prediction.Outcome.HIT,
        brier=0.01,
        issue_id="iss_1",
        window_days=30,
        probability=0.9,
    )
    day = timedelta(days=1)
    await write(
        conn,
        [
            replace(b.predicted("prd_0", probability=0.8), time=NOW - 3 * day),
            recorded(prediction.PredictionExpired(prediction_id="prd_0"), "prd_0"),
            replace(b.predicted("prd_1", probability=0.3), time=NOW - 2.5 * day),
            replace(b.predicted("prd_1b", probability=0.8), time=NOW - 2 * day),
            replace(b.predicted("prd_5", probability=0.8, pattern_id="pat_5"), time=NOW - 3 * day),
            recorded(prediction.PredictionExpired(prediction_id="prd_5"), "prd_5"),
            replace(b.predicted("prd_6", probability=0.8, pattern_id="pat_5"), time=NOW - day),
            replace(b.predicted("prd_2", probability=0.8), time=NOW + day),
            replace(b.predicted("prd_3", probability=0.8, pattern_id="pat_3"), time=NOW + day),
            replace(held_out, data=replace(held_out.data, held_out=True), time=NOW + day),
            recorded(hit, OTHER),
        ],
    )

    async def fired(since: datetime) -> list[str]:
        alerts = await _queries.dry_run_alerts(
            conn, workspace_id=WORKSPACE, window_days=30, since=since, threshold=0.5
        )
        return sorted(alert.prediction_id for alert in alerts)

    assert await fired(NOW) == ["prd_3"]
    assert await fired(NOW - 3 * day) == ["prd_1b", "prd_3"]
    recall = await _queries.dry_run_recall(
        conn, workspace_id=WORKSPACE, window_days=30, since=NOW, threshold=0.5
    )
    assert recall.n_hits == 0
    listed = await rows(conn, "SELECT prediction_id FROM prediction_rows ORDER BY prediction_id")
    assert [row["prediction_id"] for row in listed] == [
        f"prd_{n}" for n in ("0", "1", "1b", "2", "3", "5", "6")
    ]


async def test_a_suggestion_lapses_with_a_move(conn: AsyncConnection[Any]) -> None:
    """Its issue leaves, or its pattern is merged."""
    two = issues(2)
    first, second = ids(two)
    asked = b.suggested("sug_1", second, to=b.PATTERN, begun=OTHER)
    begun = [b.linked(first, count=1), b.linked(second, count=1, pattern_id=OTHER), asked]
    await write(conn, [*two, *begun, b.linked(second, count=1, pattern_id="pat_3")])
    assert await rows(conn, "SELECT status FROM suggestion_rows") == [{"status": "lapsed"}]


async def test_a_newer_prediction_supersedes_and_the_end_of_a_pattern_ends_all(
    conn: AsyncConnection[Any],
) -> None:
    """The status of a prediction follows from what came after it."""
    await write(conn, [b.predicted("prd_1"), b.predicted("prd_2")])
    assert [
        row["status"] for row in await rows(conn, "SELECT status FROM predictions ORDER BY prediction_id")
    ] == ["superseded", "active"]
    await write(conn, [b.restated(pattern.PatternStatus.RESOLVED), b.predicted("prd_3")])
    assert [
        row["status"] for row in await rows(conn, "SELECT status FROM predictions ORDER BY prediction_id")
    ] == ["superseded", "superseded", "active"]


async def test_a_connector_shows_its_latest_run_and_what_a_deleted_one_leaves(
    conn: AsyncConnection[Any],
) -> None:
    """Settings as they are now, the run's end, the ticket's state; of a deleted connector nothing is listed."""
    await write(conn, b.connecting_story())
    (shown,) = await rows(conn, "SELECT * FROM connector_rows")
    assert {key: shown[key] for key in ("display_name", "schedule", "status", "secrets")} == {
        "display_name": "Ops 2",
        "schedule": None,
        "status": "connected",
        "secrets": '["api_key"]',
    }
    assert (shown["run_id"], shown["run_status"], shown["run_n_records"]) == ("syn_1", "succeeded", 3)
    assert shown["last_succeeded_at"] is not None
    (ticket,) = await rows(conn, "SELECT state, external_status FROM tickets")
    assert ticket == {"state": "done", "external_status": "Closed"}
    served = await rows(conn, "SELECT run_id FROM sync_runs WHERE expired_at IS NULL")
    assert [row["run_id"] for row in served] == ["syn_1"]


async def test_the_application_cannot_write_and_sees_one_workspace(
    conn: AsyncConnection[Any], database: Database
) -> None:
    """Row-level security denies a query that forgot its WHERE, and the role cannot write at all."""
    theirs = issue_reported(1, workspace_id="ws_theirs")
    await write(conn, [issue_reported(1), theirs])
    app = await AsyncConnection.connect(database.app_url, options="-c search_path=gateway", autocommit=True)
    async with app:
        async with app.transaction():
            await app.execute("SELECT set_config('app.current_workspace', 'ws_theirs', true)")
            for table in ("issues", "issue_rows"):
                seen = await (await app.execute(f"SELECT DISTINCT workspace_id FROM {table}")).fetchall()
                assert seen == [("ws_theirs",)]
        assert await (await app.execute("SELECT 1 FROM issues")).fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await app.execute("DELETE FROM issues")
