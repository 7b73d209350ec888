"""The rows are a pure fold of the log: twice is once, and batches do not matter."""

from contracts import Event, Recorded, ingest, pattern, recommendation, workspace
from msgspec.structs import replace
from testkit.builders import NOW, WORKSPACE, recorded
from testkit.laws import assert_projection_laws, in_order, rows_after
from testkit.servers import Database

from services.pattern.projections import PROJECTION

from .running import failure

Status = pattern.PatternStatus
ASSESSMENT = pattern.Assessment(
    issue_count=3, risk_score=50.0, confidence=0.75, first_seen_at=NOW, last_seen_at=NOW
)


def linked(pattern_id: str, reports: list[Recorded[Event]], key: str) -> Recorded[Event]:
    links = tuple(
        pattern.Link(
            issue_id=report.aggregate_id,
            score=1.0,
            method=pattern.LinkMethod.EXACT_KEY,
            method_version="exact-key@test",
            grouping_key=key,
            occurred_at=NOW,
            severity=ingest.Severity.P2,
        )
        for report in reports
    )
    data = pattern.IssuesLinked(pattern_id=pattern_id, links=links, assessment=ASSESSMENT, exemplar=key)
    return recorded(data, pattern_id, source="pattern")


def history() -> list[Recorded[Event]]:
    """Every kind of event that leaves a row, human decisions between the rest."""
    reports = [failure(n, f"Failure {n % 2}") for n in range(8)]

    def said(data: Event, aggregate_id: str) -> Recorded[Event]:
        return recorded(data, aggregate_id, source="pattern")

    return [
        *reports,
        linked("pat_a", reports[:3], "key a"),
        linked("pat_b", reports[3:6], "key b"),
        said(pattern.PatternDetected(pattern_id="pat_a", name="A", assessment=ASSESSMENT), "pat_a"),
        said(
            pattern.LinkConstrained(
                pattern_id="pat_a",
                issue_id=reports[0].aggregate_id,
                kind=pattern.ConstraintKind.CANNOT_LINK,
                grouping_key="key a",
            ),
            "pat_a",
        ),
        said(
            pattern.IssueUnlinked(
                pattern_id="pat_a", issue_id=reports[0].aggregate_id, assessment=ASSESSMENT
            ),
            "pat_a",
        ),
        said(
            pattern.LinkSuggested(pattern_id="pat_b", issue_id=reports[3].aggregate_id, suggestions=()),
            "pat_b",
        ),
        linked("pat_b", [reports[0], reports[6]], "key a"),
        recorded(workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, proof_window_days=30), WORKSPACE),
        recorded(
            recommendation.RecommendationStatusChanged(
                recommendation_id="rec_1",
                pattern_id="pat_b",
                from_status=recommendation.RecommendationStatus.PENDING,
                to_status=recommendation.RecommendationStatus.IN_PROGRESS,
                reason="",
            ),
            "rec_1",
        ),
        said(
            pattern.PatternSplit(
                pattern_id="pat_b",
                new_pattern_id="pat_c",
                issue_ids=(reports[3].aggregate_id,),
                assessment=ASSESSMENT,
            ),
            "pat_b",
        ),
        linked("pat_c", [reports[3]], "key b"),
        said(
            pattern.PatternsMerged(
                target_pattern_id="pat_a", source_pattern_id="pat_b", assessment=ASSESSMENT
            ),
            "pat_a",
        ),
        said(
            pattern.PatternStatusChanged(
                pattern_id="pat_b", from_status=Status.CANDIDATE, to_status=Status.MERGED, reason="Merged."
            ),
            "pat_b",
        ),
        linked("pat_a", [reports[7]], "key b"),
        said(pattern.PatternDescribed(pattern_id="pat_a", name="AB", assessment=ASSESSMENT), "pat_a"),
    ]


def purged(*reports: Recorded[Event]) -> Recorded[Event]:
    """That these are gone, as they would have been reported."""

    def one(report: Recorded[Event]) -> ingest.PurgedIssue:
        data = report.data
        assert isinstance(data, ingest.IssueReported)
        return ingest.PurgedIssue(
            issue_id=data.issue_id,
            last_sequence=99,
            source=data.source,
            severity=data.severity,
            occurred_at=report.time,
            reported_at=report.recorded_at,
            service=data.service,
            component=data.component,
            error_type=data.error_type,
            environment=data.environment,
            team=data.team,
            version=data.version,
            status=data.status,
            ended_at=data.source_updated_at,
        )

    issues = tuple(map(one, reports))
    return recorded(ingest.IssuesPurged(workspace_id=WORKSPACE, issues=issues, counted_from=NOW), WORKSPACE)


async def test_a_replay_without_purged_issues_gives_the_rows_that_they_left(database: Database) -> None:
    """Members, texts and counts stay under other ids; of an issue that was never in a pattern nothing does."""
    stranger = failure(20, "Failure of nobody else")
    before = [stranger, *history()]
    reports = [event for event in before if isinstance(event.data, ingest.IssueReported)][:5]
    again = failure(1, "Failure 1 once more")
    events = in_order(*before, purged(*reports), again)
    gone = {report.id for report in reports}
    rows = await assert_projection_laws(PROJECTION, events, database=database)
    left = [event for event in events if event.id not in gone or event.seq > len(before)]
    assert await rows_after(PROJECTION, [left], database=database, schema="law_left") == rows
    issues, members = "\n".join(rows["issues"]), "\n".join(rows["members"])
    assert stranger.aggregate_id not in issues
    assert issues.count("-99,") == members.count("-99,") == 4
    assert again.aggregate_id + "," in issues and again.aggregate_id + "," not in members
    assert "".join(rows["exemplars"]).count("-99,") == 2


async def test_a_purge_keeps_every_column_of_an_issue_but_its_title(database: Database) -> None:
    """What patterns and proofs are counted by, also what is added to the table later."""
    report = failure(1, "Gone")
    assert isinstance(report.data, ingest.IssueReported)
    said = {name: f"its {name}" for name in ("component", "error_type", "team", "environment", "version")}
    whole = replace(
        report,
        data=replace(
            report.data,
            service="its service",
            status=ingest.IssueStatus.RESOLVED,
            source_updated_at=NOW,
            **said,  # type: ignore[arg-type]  # fields by name
        ),
    )
    events = in_order(whole, linked("pat_a", [whole], "key a"))
    [before] = (await rows_after(PROJECTION, [events], database=database, schema="before"))["issues"]
    gone = in_order(*events, purged(whole))
    [after] = (await rows_after(PROJECTION, [gone], database=database, schema="after"))["issues"]
    assert ",," not in before
    assert after == before.replace(report.aggregate_id, f"{report.aggregate_id}-99").replace("Gone", '""')


async def test_batches_do_not_matter_and_twice_is_once(database: Database) -> None:
    """The laws of projections, over every kind of event."""
    rows = await assert_projection_laws(PROJECTION, history(), database=database)
    assert {"issues", "members", "patterns", "exemplars", "recommendations", "workspaces"} <= {
        table for table, found in rows.items() if found
    }
    # The merge overrules the "never" on a key that both parts hold.
    assert rows["constraints"] == []
    members = "\n".join(rows["members"])
    assert members.count("pat_a") == 7 and members.count("pat_c") == 1 and "pat_b" not in members
