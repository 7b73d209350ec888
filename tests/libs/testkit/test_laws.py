from collections.abc import Sequence

import pytest
from contracts import Event, Recorded, ingest
from eventlog import Connection, EventLog, Projection
from msgspec.structs import replace
from testkit.builders import issue_reported
from testkit.laws import assert_projection_laws, assert_rebuild_equals_live
from testkit.servers import Database

from tests.libs.runtime.sample.__main__ import SCHEMA_SQL, project

EVENTS = [issue_reported(1), issue_reported(2), issue_reported(3, workspace_id="ws_other")]
GOOD = Projection("sample", ("issue",), project, SCHEMA_SQL)


async def title_is_batch_size(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    renamed = [
        replace(event, data=replace(event.data, title=str(len(batch))))
        for event in batch
        if isinstance(event.data, ingest.IssueReported)
    ]
    await project(renamed, conn)


async def test_projection_laws_hold_for_a_good_projection(database: Database) -> None:
    rows = await assert_projection_laws(GOOD, EVENTS, database=database)

    assert len(rows["titles"]) == 3


async def test_projection_laws_find_rows_that_depend_on_the_batches(database: Database) -> None:
    bad = Projection("sample", ("issue",), title_is_batch_size, SCHEMA_SQL)

    with pytest.raises(AssertionError, match="cut into batches"):
        await assert_projection_laws(bad, EVENTS, database=database)


async def test_rebuild_equals_live_for_a_good_projection(database: Database, event_log: EventLog) -> None:
    await assert_rebuild_equals_live(GOOD, EVENTS, database=database, event_log=event_log)


async def test_rebuild_differs_from_live_for_a_projection_with_a_memory(
    database: Database, event_log: EventLog
) -> None:
    seen: list[str] = []

    async def remembering(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
        for event in batch:
            if isinstance(event.data, ingest.IssueReported):
                seen.append(event.id)
                await project([replace(event, data=replace(event.data, title=f"number {len(seen)}"))], conn)

    bad = Projection("sample", ("issue",), remembering, SCHEMA_SQL)
    with pytest.raises(AssertionError, match="live and rebuilt differ"):
        await assert_rebuild_equals_live(bad, EVENTS, database=database, event_log=event_log)
