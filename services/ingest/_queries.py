"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class SourceIntake(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    source: str
    n_issues: int
    last_occurred_at: datetime
    last_recorded_at: datetime


class ChangeIntake(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    outcome: str
    n_changes: int
    last_recorded_at: datetime


class ConnectorRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    connector_id: str
    type: str
    settings: str
    status: str
    reason: str
    secrets: list[str]
    scheduled_since: datetime
    last_run_at: datetime | None
    n_failed: int
    changed_seq: int


class OpenRun(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    run_id: str
    connector_id: str
    kind: str
    requested_at: datetime


class FindConnectorsRow(Struct, frozen=True):
    """One row of find_connectors."""

    connector_id: str
    workspace_id: str
    settings: str
    status: str


class OpenTicket(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    ticket_id: str
    connector_id: str
    external_id: str
    target: str
    created_at: datetime


_COUNT_NEW_ISSUES = """
INSERT INTO sources_daily AS s (workspace_id, day, source, n_issues, last_occurred_at, last_recorded_at)
SELECT r.workspace_id, r.day, r.source, r.n_issues, r.last_occurred_at, r.last_recorded_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, day date, source text, n_issues bigint,
    last_occurred_at timestamptz, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, source) DO UPDATE SET
    n_issues = s.n_issues + excluded.n_issues,
    last_occurred_at = greatest(s.last_occurred_at, excluded.last_occurred_at),
    last_recorded_at = greatest(s.last_recorded_at, excluded.last_recorded_at)
"""


async def count_new_issues(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Count the new issues of a batch by source and day (IssueReported)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_COUNT_NEW_ISSUES, (rows,))


_COUNT_CHANGES = """
INSERT INTO changes_daily AS c (workspace_id, day, outcome, n_changes, last_recorded_at)
SELECT r.workspace_id, r.day, r.outcome, r.n_changes, r.last_recorded_at
FROM json_to_recordset($1::json) AS r(
    workspace_id text, day date, outcome text, n_changes bigint, last_recorded_at timestamptz)
ON CONFLICT (workspace_id, day, outcome) DO UPDATE SET
    n_changes = c.n_changes + excluded.n_changes,
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at)
"""


async def count_changes(conn: AsyncConnection[Any], *, rows: str) -> None:
    """Count the changes of a batch by outcome and day (IssueUpdated, IssueClosed, IssueCommented, AnalysisRecorded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_COUNT_CHANGES, (rows,))


_FORGET_SOURCES = """
DELETE FROM sources_daily WHERE workspace_id = $1 AND day < $2::date
"""


async def forget_sources(conn: AsyncConnection[Any], *, workspace_id: str, day: date) -> None:
    """Count no longer what came in before a day (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_SOURCES, (workspace_id, day))


_FORGET_CHANGES = """
DELETE FROM changes_daily WHERE workspace_id = $1 AND day < $2::date
"""


async def forget_changes(conn: AsyncConnection[Any], *, workspace_id: str, day: date) -> None:
    """Count no longer what changed before a day (IssuesPurged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_CHANGES, (workspace_id, day))


_LIST_SOURCES = """
SELECT workspace_id, source, sum(n_issues)::bigint AS n_issues,
       max(last_occurred_at)::timestamptz AS last_occurred_at,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM sources_daily
WHERE day >= $1::date
GROUP BY workspace_id, source
ORDER BY max(last_recorded_at) DESC, workspace_id, source
LIMIT $2
"""


async def list_sources(conn: AsyncConnection[Any], *, since: date, row_limit: int) -> list[SourceIntake]:
    """Sources by what they delivered since a day, the most recently seen first."""
    async with AsyncRawCursor(conn, row_factory=args_row(SourceIntake)) as cursor:
        await cursor.execute(_LIST_SOURCES, (since, row_limit))
        fetched: list[SourceIntake] = await cursor.fetchall()
        return fetched


_LIST_CHANGES = """
SELECT workspace_id, outcome, sum(n_changes)::bigint AS n_changes,
       max(last_recorded_at)::timestamptz AS last_recorded_at
FROM changes_daily
WHERE day >= $1::date
GROUP BY workspace_id, outcome
ORDER BY max(last_recorded_at) DESC, workspace_id, outcome
LIMIT $2
"""


async def list_changes(conn: AsyncConnection[Any], *, since: date, row_limit: int) -> list[ChangeIntake]:
    """Changes to known issues since a day, the most recent first."""
    async with AsyncRawCursor(conn, row_factory=args_row(ChangeIntake)) as cursor:
        await cursor.execute(_LIST_CHANGES, (since, row_limit))
        fetched: list[ChangeIntake] = await cursor.fetchall()
        return fetched


_ADD_CONNECTOR = """
INSERT INTO connectors (workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since,
    failed_run_ids, partition, changed_seq)
VALUES ($1, $2, $3, $4, $5, '', '{}',
    $6, '{}', $7, $8)
ON CONFLICT (workspace_id, connector_id) DO NOTHING
"""


async def add_connector(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    type: str,
    settings: str,
    status: str,
    at: datetime,
    partition: int,
    seq: int,
) -> None:
    """Add a connector (ConnectorCreated)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_CONNECTOR, (workspace_id, connector_id, type, settings, status, at, partition, seq))


_CONFIGURE_CONNECTOR = """
UPDATE connectors SET type = $1, settings = $2::text,
    scheduled_since = CASE WHEN (settings::jsonb)->'schedule' IS DISTINCT FROM ($2::text::jsonb)->'schedule'
        THEN $3::timestamptz ELSE scheduled_since END,
    changed_seq = $4
WHERE workspace_id = $5 AND connector_id = $6
"""


async def configure_connector(
    conn: AsyncConnection[Any],
    *,
    type: str,
    settings: str,
    at: datetime,
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Set what is decided about a connector; another schedule counts from now (ConnectorConfigured)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CONFIGURE_CONNECTOR, (type, settings, at, seq, workspace_id, connector_id))


_NAME_SECRETS = """
UPDATE connectors SET secrets = $1::text[], changed_seq = $2
WHERE workspace_id = $3 AND connector_id = $4
"""


async def name_secrets(
    conn: AsyncConnection[Any],
    *,
    secrets: list[str],
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Set the names of a connector's secrets (ConnectorCredentialsChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NAME_SECRETS, (secrets, seq, workspace_id, connector_id))


_SET_STANDING = """
UPDATE connectors SET status = $1, reason = $2, changed_seq = $3
WHERE workspace_id = $4 AND connector_id = $5
"""


async def set_standing(
    conn: AsyncConnection[Any],
    *,
    status: str,
    reason: str,
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Set where a connector stands (ConnectorStatusChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SET_STANDING, (status, reason, seq, workspace_id, connector_id))


_DELETE_CONNECTOR = """
DELETE FROM connectors WHERE workspace_id = $1 AND connector_id = $2
"""


async def delete_connector(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete a connector (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_CONNECTOR, (workspace_id, connector_id))


_ADD_RUN = """
INSERT INTO open_runs (workspace_id, run_id, connector_id, kind, requested_at, partition)
VALUES ($1, $2, $3, $4, $5,
    $6)
ON CONFLICT (workspace_id, run_id) DO NOTHING
"""


async def add_run(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    run_id: str,
    connector_id: str,
    kind: str,
    at: datetime,
    partition: int,
) -> None:
    """Add a run that waits (SyncRequested)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_RUN, (workspace_id, run_id, connector_id, kind, at, partition))


_NOTE_RUN = """
UPDATE connectors SET last_run_at = $1, last_run_id = $2, changed_seq = $3
WHERE workspace_id = $4 AND connector_id = $5
"""


async def note_run(
    conn: AsyncConnection[Any],
    *,
    at: datetime | None,
    run_id: str | None,
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Note when a connector was last asked to run (SyncRequested)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_RUN, (at, run_id, seq, workspace_id, connector_id))


_END_RUN = """
DELETE FROM open_runs WHERE workspace_id = $1 AND run_id = $2
"""


async def end_run(conn: AsyncConnection[Any], *, workspace_id: str, run_id: str) -> None:
    """Delete a run that is over (SyncEnded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_RUN, (workspace_id, run_id))


_NOTE_SUCCESS = """
UPDATE connectors SET succeeded_run_id = $1, failed_run_ids = '{}', changed_seq = $2
WHERE workspace_id = $3 AND connector_id = $4
"""


async def note_success(
    conn: AsyncConnection[Any],
    *,
    run_id: str | None,
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Note a run that succeeded, which ends the row of those that failed (SyncEnded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_SUCCESS, (run_id, seq, workspace_id, connector_id))


_NOTE_FAILURE = """
UPDATE connectors
SET failed_run_ids = failed_run_ids[cardinality(failed_run_ids) + 2 - $1::integer:] || $2::text,
    changed_seq = $3
WHERE workspace_id = $4 AND connector_id = $5
"""


async def note_failure(
    conn: AsyncConnection[Any],
    *,
    at_most: int,
    run_id: str,
    seq: int,
    workspace_id: str,
    connector_id: str,
) -> None:
    """Note a run that failed, behind the last of those that did so in a row (SyncEnded)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_FAILURE, (at_most, run_id, seq, workspace_id, connector_id))


_LIST_NEEDED_RUNS = """
SELECT DISTINCT needed.run_id::text AS run_id
FROM connectors, unnest(failed_run_ids || ARRAY[last_run_id, succeeded_run_id]) AS needed(run_id)
WHERE workspace_id = $1 AND needed.run_id = ANY($2::text[])
"""


async def list_needed_runs(conn: AsyncConnection[Any], *, workspace_id: str, run_ids: list[str]) -> list[str]:
    """Those of some runs that the rows of connectors rest on."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_NEEDED_RUNS, (workspace_id, run_ids))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_LIST_CHANGED_CONNECTORS = """
SELECT workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since, last_run_at,
    cardinality(failed_run_ids) AS n_failed, changed_seq
FROM connectors
WHERE partition = $1 AND changed_seq > $2
ORDER BY changed_seq, workspace_id, connector_id
LIMIT $3
"""


async def list_changed_connectors(
    conn: AsyncConnection[Any],
    *,
    partition: int,
    after: int,
    row_limit: int,
) -> list[ConnectorRow]:
    """Connectors of a partition that changed behind a sequence, in the order of their changes."""
    async with AsyncRawCursor(conn, row_factory=args_row(ConnectorRow)) as cursor:
        await cursor.execute(_LIST_CHANGED_CONNECTORS, (partition, after, row_limit))
        fetched: list[ConnectorRow] = await cursor.fetchall()
        return fetched


_GET_CONNECTOR = """
SELECT workspace_id, connector_id, type, settings, status, reason, secrets, scheduled_since, last_run_at,
    cardinality(failed_run_ids) AS n_failed, changed_seq
FROM connectors
WHERE workspace_id = $1 AND connector_id = $2
"""


async def get_connector(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
) -> ConnectorRow | None:
    """One connector of a workspace; none where there is no such one."""
    async with AsyncRawCursor(conn, row_factory=args_row(ConnectorRow)) as cursor:
        await cursor.execute(_GET_CONNECTOR, (workspace_id, connector_id))
        fetched: ConnectorRow | None = await cursor.fetchone()
        return fetched


_COUNT_CONNECTORS = """
SELECT count(*)::integer FROM connectors WHERE workspace_id = $1
"""


async def count_connectors(conn: AsyncConnection[Any], *, workspace_id: str) -> int | None:
    """How many connectors a workspace has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_CONNECTORS, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        return fetched


_LIST_OPEN_RUNS_OF = """
SELECT workspace_id, run_id, connector_id, kind, requested_at FROM open_runs
WHERE workspace_id = $1 AND connector_id = $2
ORDER BY requested_at, run_id
"""


async def list_open_runs_of(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
) -> list[OpenRun]:
    """Runs of a connector that wait or run, the oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(OpenRun)) as cursor:
        await cursor.execute(_LIST_OPEN_RUNS_OF, (workspace_id, connector_id))
        fetched: list[OpenRun] = await cursor.fetchall()
        return fetched


_LIST_OLD_RUNS = """
SELECT workspace_id, run_id, connector_id, kind, requested_at FROM open_runs
WHERE partition = $1 AND requested_at < $2
    AND (requested_at, run_id) > ($3::timestamptz, $4::text)
ORDER BY requested_at, run_id
LIMIT $5
"""


async def list_old_runs(
    conn: AsyncConnection[Any],
    *,
    partition: int,
    before: datetime,
    after_at: datetime,
    after_id: str,
    row_limit: int,
) -> list[OpenRun]:
    """Runs of a partition that were asked for before a time and are not over, the oldest first, behind one."""
    async with AsyncRawCursor(conn, row_factory=args_row(OpenRun)) as cursor:
        await cursor.execute(_LIST_OLD_RUNS, (partition, before, after_at, after_id, row_limit))
        fetched: list[OpenRun] = await cursor.fetchall()
        return fetched


_FIND_CONNECTORS = """
SELECT c.connector_id, c.workspace_id, c.settings, c.status
FROM unnest($1::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT k.connector_id, k.workspace_id, k.settings, k.status FROM connectors AS k
    WHERE k.connector_id = i.id
    LIMIT 1
) AS c
"""


async def find_connectors(conn: AsyncConnection[Any], *, connector_ids: list[str]) -> list[FindConnectorsRow]:
    """The connectors that addresses are about, in whichever workspace; for the role that sees all of them."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindConnectorsRow)) as cursor:
        await cursor.execute(_FIND_CONNECTORS, (connector_ids,))
        fetched: list[FindConnectorsRow] = await cursor.fetchall()
        return fetched


_ADD_TICKET = """
INSERT INTO tickets (workspace_id, ticket_id, connector_id, external_id, target, created_at, state, partition)
VALUES ($1, $2, $3, $4, $5,
    $6, 'open', $7)
ON CONFLICT (workspace_id, ticket_id) DO NOTHING
"""


async def add_ticket(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    ticket_id: str,
    connector_id: str,
    external_id: str,
    target: str,
    at: datetime,
    partition: int,
) -> None:
    """Add a ticket (TicketCreated)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ADD_TICKET, (workspace_id, ticket_id, connector_id, external_id, target, at, partition))


_SET_TICKET_STATE = """
UPDATE tickets SET state = $1
WHERE workspace_id = $2 AND ticket_id = $3
"""


async def set_ticket_state(
    conn: AsyncConnection[Any],
    *,
    state: str,
    workspace_id: str,
    ticket_id: str,
) -> None:
    """Set where a ticket stands (TicketStateChanged)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SET_TICKET_STATE, (state, workspace_id, ticket_id))


_LIST_OPEN_TICKETS = """
SELECT t.workspace_id, t.ticket_id, t.connector_id, t.external_id, t.target, t.created_at
FROM tickets AS t JOIN connectors AS c USING (workspace_id, connector_id)
WHERE t.partition = $1 AND t.state = 'open' AND c.status = 'connected'
    AND (t.workspace_id, t.connector_id, t.ticket_id)
        > ($2::text, $3::text, $4::text)
ORDER BY t.workspace_id, t.connector_id, t.ticket_id
LIMIT $5
"""


async def list_open_tickets(
    conn: AsyncConnection[Any],
    *,
    partition: int,
    after_workspace: str,
    after_connector: str,
    after_ticket: str,
    row_limit: int,
) -> list[OpenTicket]:
    """Open tickets of a partition through connectors that are connected, behind one, in the order of their ids."""
    async with AsyncRawCursor(conn, row_factory=args_row(OpenTicket)) as cursor:
        await cursor.execute(_LIST_OPEN_TICKETS, (partition, after_workspace, after_connector, after_ticket, row_limit))
        fetched: list[OpenTicket] = await cursor.fetchall()
        return fetched
