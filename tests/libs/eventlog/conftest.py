"""A tally of issues per workspace: the smallest read model that can be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from contracts import Event, Recorded, derived_id, ingest, issue_id, record
from eventlog import Append, Connection, Projection

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

SCHEMA = """
-- version 1
CREATE TABLE issues (
    workspace_id text NOT NULL,
    issue_id text NOT NULL,
    title text NOT NULL,
    status text NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (workspace_id, issue_id)
);
"""

_WRITE = """
INSERT INTO issues
SELECT * FROM json_to_recordset($1::json) AS r(workspace_id text, issue_id text, title text, status text, last_seq bigint)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    title = CASE WHEN excluded.title = '' THEN issues.title ELSE excluded.title END,
    status = excluded.status,
    last_seq = excluded.last_seq
"""


class CannotApplyError(Exception):
    """What a projection with a bug raises."""


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Issues as rows; a title of "poison" is a bug in waiting."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for event in batch:
        data = event.data
        match data:
            case ingest.IssueReported(issue_id=key, title=title, status=status):
                if title == "poison":
                    raise CannotApplyError(f"cannot apply {key}")
            case ingest.IssueClosed(issue_id=key, status=status):
                title = ""
            case _:
                continue
        known = rows.get((event.workspace_id, key))
        rows[event.workspace_id, key] = {
            "workspace_id": event.workspace_id,
            "issue_id": key,
            "title": title or (known["title"] if known else ""),
            "status": status,
            "last_seq": event.seq,
        }
    if rows:
        await conn.execute(_WRITE, (msgspec.json.encode(list(rows.values())).decode(),))


TALLY = Projection(name="tally", aggregates=("issue",), project=project, schema_sql=SCHEMA)


def reported(number: int, *, workspace: str = "ws_one", title: str | None = None) -> Recorded[Event]:
    """The report of a failure."""
    identity = issue_id(workspace, "jira", str(number))
    data = ingest.IssueReported(
        issue_id=identity,
        source="jira",
        external_id=str(number),
        title=title or f"Failure {number}",
        body="",
        severity=ingest.Severity.P2,
        status=ingest.IssueStatus.NEW,
        metadata={},
    )
    at = NOW + timedelta(seconds=number)
    return record(
        data,
        workspace_id=workspace,
        aggregate_id=identity,
        occurred_at=at,
        recorded_at=at,
        source="/causeloop/ingest",
    )


def closed(cause: Recorded[Event]) -> Recorded[Event]:
    """The end of a reported failure."""
    data = ingest.IssueClosed(issue_id=cause.aggregate_id, status=ingest.IssueStatus.CLOSED, reason="")
    return record(
        data,
        workspace_id=cause.workspace_id,
        aggregate_id=cause.aggregate_id,
        occurred_at=cause.time + timedelta(hours=1),
        recorded_at=cause.recorded_at + timedelta(hours=1),
        source="/causeloop/ingest",
        cause=cause,
    )


def new(*events: Recorded[Event]) -> list[Append]:
    """Appends that expect their aggregates not to exist."""
    return [Append(event, 0) for event in events]


def unused_id(text: str) -> str:
    """An id that no event has."""
    return derived_id("iss_", text)
