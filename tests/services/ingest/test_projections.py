"""The counts of what came in: right, the same on every replay, and closed to other workspaces."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from contracts import Event, Recorded, connector, ingest
from eventlog import EventLog, apply_schema
from psycopg import AsyncConnection
from testkit.builders import NOW, WORKSPACE, issue_reported, recorded
from testkit.laws import assert_projection_laws, assert_rebuild_equals_live, in_order, rows_after
from testkit.servers import Database

from services.ingest.app import projection


def story() -> list[Recorded[Event]]:
    """Two sources, two workspaces, two days, and every kind of event."""
    later = NOW + timedelta(days=1)
    events = [
        issue_reported(1, source="jira", at=NOW),
        issue_reported(2, source="jira", at=NOW + timedelta(minutes=5)),
        issue_reported(3, source="github", at=NOW),
        issue_reported(4, source="jira", at=later),
        issue_reported(5, source="jira", at=NOW, workspace_id="ws_other"),
    ]
    id_ = events[0].aggregate_id
    changes: list[ingest.Event] = [
        ingest.IssueUpdated(issue_id=id_, title="x"),
        ingest.IssueUpdated(issue_id=id_, title="y"),
        ingest.IssueClosed(issue_id=id_, status=ingest.IssueStatus.CLOSED, reason=""),
        ingest.IssueCommented(issue_id=id_, comment_id="cmt_1", author_id="usr_1", text="Seen before."),
    ]
    return [*events, *(recorded(change, id_, at=later) for change in changes)]


async def test_counts_follow_the_events_however_they_are_cut_into_batches(database: Database) -> None:
    rows = await assert_projection_laws(projection(), story(), database=database)
    assert rows == {
        "changes_daily": [
            '(ws_test,2026-03-02,closed,1,"2026-03-02 12:00:00+00")',
            '(ws_test,2026-03-02,commented,1,"2026-03-02 12:00:00+00")',
            '(ws_test,2026-03-02,updated,2,"2026-03-02 12:00:00+00")',
        ],
        "connectors": [],
        "erased_workspaces": [],
        "open_runs": [],
        "sources_daily": [
            '(ws_other,2026-03-01,jira,1,"2026-03-01 12:00:00+00","2026-03-01 12:00:00+00")',
            '(ws_test,2026-03-01,github,1,"2026-03-01 12:00:00+00","2026-03-01 12:00:00+00")',
            '(ws_test,2026-03-01,jira,2,"2026-03-01 12:05:00+00","2026-03-01 12:05:00+00")',
            '(ws_test,2026-03-02,jira,1,"2026-03-02 12:00:00+00","2026-03-02 12:00:00+00")',
        ],
        "tickets": [],
    }


def a_connector(connector_id: str, *, interval_seconds: int) -> list[Recorded[Event]]:
    """One that is made, set otherwise, fails twice, succeeds with what it is asked next, and has a run that waits."""
    settings = connector.ConnectorSettings(
        type="jira",
        display_name="Ours",
        auth=1,
        schedule=connector.ConnectorSchedule(interval_seconds=interval_seconds, timezone="UTC"),
    )
    other = connector.ConnectorSettings(
        type="jira",
        display_name="Theirs",
        auth=1,
        schedule=connector.ConnectorSchedule(cron="0 9 * * 1", timezone="Europe/Zurich"),
    )
    counts = connector.SyncCounts(
        n_records=0, n_created=0, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
    )
    status, outcome = connector.ConnectorStatus, connector.SyncOutcome
    told: list[connector.Event] = [
        connector.ConnectorCreated(connector_id=connector_id, settings=settings, status=status.PENDING),
        connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=("api_token", "email")),
        connector.ConnectorConfigured(connector_id=connector_id, settings=other),
        connector.ConnectorStatusChanged(
            connector_id=connector_id, status=status.ERROR, reason="unreachable", detail="It is away."
        ),
    ]
    events = [recorded(event, connector_id, at=NOW + timedelta(hours=n)) for n, event in enumerate(told)]
    for number, ended in enumerate((outcome.SUCCEEDED, outcome.FAILED, outcome.FAILED, None)):
        run_id = f"syn_{connector_id}_{number}"
        requested = connector.SyncRequested(
            run_id=run_id, connector_id=connector_id, kind=connector.SyncKind.MANUAL
        )
        at = NOW + timedelta(hours=10 + number)
        events.append(recorded(requested, run_id, at=at))
        if ended is not None:
            over = connector.SyncEnded(
                run_id=run_id, connector_id=connector_id, outcome=ended, counts=counts, reason="", detail=""
            )
            events.append(recorded(over, run_id, at=at))
    return events


async def test_connectors_and_open_runs_follow_the_events(database: Database) -> None:
    """A deleted connector has no row; another schedule counts since it was set."""
    gone = a_connector("con_2", interval_seconds=60)
    deleted = connector.ConnectorDeleted(connector_id="con_2")
    events = [*a_connector("con_1", interval_seconds=60), *gone, recorded(deleted, "con_2", at=NOW)]
    rows = await assert_projection_laws(projection(), in_order(*events), database=database)
    (row,) = rows["connectors"]
    assert row.startswith("(ws_test,con_1,jira,")
    assert ',error,unreachable,"{api_token,email}","2026-03-01 14:00:00+00","2026-03-02 01:00:00+00",' in row
    assert ',syn_con_1_3,syn_con_1_0,"{syn_con_1_1,syn_con_1_2}",' in row
    assert rows["open_runs"] == [
        '(ws_test,syn_con_1_3,con_1,manual,"2026-03-02 01:00:00+00",0)',
        '(ws_test,syn_con_2_3,con_2,manual,"2026-03-02 01:00:00+00",0)',
    ]


async def test_tickets_stand_where_their_trackers_say(database: Database) -> None:
    made = connector.TicketCreated(
        ticket_id="tkt_1",
        recommendation_id="rec_1",
        connector_id="con_1",
        tracker="jira",
        external_id="OPS-1",
        target={"project": "OPS"},
        is_found=False,
    )
    done = connector.TicketStateChanged(
        ticket_id="tkt_1",
        recommendation_id="rec_1",
        state=connector.TicketState.DONE,
        external_status="Done",
    )
    events = in_order(recorded(made, "tkt_1", at=NOW), recorded(done, "tkt_1", at=NOW + timedelta(hours=1)))
    rows = await assert_projection_laws(projection(), events, database=database)
    (row,) = rows["tickets"]
    assert row.startswith("(ws_test,tkt_1,con_1,OPS-1,")
    assert row.endswith(",done,0)")


async def test_a_purge_leaves_the_days_that_it_reaches_out_of_all_counts(
    database: Database,
) -> None:
    """With the purged events and without them: what is left in the log gives the same rows."""
    later = NOW + timedelta(days=1)
    gone, other, since = (
        issue_reported(1, source="jira", at=NOW),
        issue_reported(2, source="jira", at=NOW),
        issue_reported(3, source="jira", at=later),
    )
    purged = recorded(
        ingest.IssuesPurged(workspace_id=WORKSPACE, counted_from=datetime(2026, 3, 2, tzinfo=UTC), issues=()),
        WORKSPACE,
        at=later,
    )
    expired = recorded(ingest.IssueExpired(issue_id=gone.aggregate_id), gone.aggregate_id, at=later)
    restored = ingest.IssueRestored(issue_id=since.aggregate_id, issue=since.data)  # type: ignore[arg-type]  # it is a report
    events = in_order(gone, other, since, expired, purged, recorded(restored, since.aggregate_id, at=later))
    rows = await assert_projection_laws(projection(), events, database=database)
    assert rows["sources_daily"] == [
        '(ws_test,2026-03-02,jira,1,"2026-03-02 12:00:00+00","2026-03-02 12:00:00+00")'
    ]
    assert rows["changes_daily"] == ['(ws_test,2026-03-02,updated,1,"2026-03-02 12:00:00+00")']
    left = [event for event in events if event.aggregate_id != gone.aggregate_id]
    assert await rows_after(projection(), [left], database=database, schema="law_left") == rows


async def test_rebuilt_counts_equal_the_live_ones(database: Database, event_log: EventLog) -> None:
    await assert_rebuild_equals_live(projection(), story(), database=database, event_log=event_log)


@pytest.mark.parametrize("table", ["sources_daily", "changes_daily"])
async def test_rows_of_another_workspace_are_invisible_and_closed(database: Database, table: str) -> None:
    """The app role sees only the workspace of its transaction, and writes nothing."""
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await apply_schema(owner, "ingest", projection().schema_sql)
    async with await AsyncConnection.connect(
        database.projector_url, options="-c search_path=ingest", cursor_factory=psycopg.AsyncRawCursor
    ) as writer:
        await projection().project(story(), writer)
    async with await AsyncConnection.connect(database.app_url, options="-c search_path=ingest") as app:
        query = psycopg.sql.SQL("SELECT DISTINCT workspace_id FROM {}").format(psycopg.sql.Identifier(table))
        assert await (await app.execute(query)).fetchall() == []
        await app.execute("SELECT set_config('app.current_workspace', %s, false)", (WORKSPACE,))
        assert await (await app.execute(query)).fetchall() == [(WORKSPACE,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await app.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(table)))
