"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class ListKnownRow(Struct, frozen=True):
    """One row of list_known."""

    external_id: str
    sha256: str
    late_sha256: str | None
    received_at: datetime
    seen_at: datetime


class ListRecordsRow(Struct, frozen=True):
    """One row of list_records."""

    external_id: str
    stream: str
    record: str
    received_at: datetime


class ListLettersRow(Struct, frozen=True):
    """One row of list_letters."""

    letter_id: str
    stream: str
    record: str
    path: str
    reason: str
    n_attempts: int
    received_at: datetime


class ListWholeLettersRow(Struct, frozen=True):
    """One row of list_whole_letters."""

    letter_id: str
    stream: str
    record: str
    n_attempts: int
    came_at: datetime


class ListReceivedRow(Struct, frozen=True):
    """One row of list_received."""

    connector_id: str
    received_at: datetime


class ListPositionsRow(Struct, frozen=True):
    """One row of list_positions."""

    stream: str
    high_water: datetime | None
    resume: str | None


_KEEP_RECORDS = """
INSERT INTO raw_records AS k (workspace_id, connector_id, external_id, stream, sha256, record, received_at)
SELECT $1, $2, r.external_id, $3, r.sha256, r.record,
    r.received_at
FROM json_to_recordset($4::json) AS r(external_id text, sha256 text, record text, received_at timestamptz)
ON CONFLICT (workspace_id, connector_id, external_id) DO UPDATE SET
    stream = excluded.stream, sha256 = excluded.sha256, record = excluded.record, received_at = excluded.received_at,
    seen_at = NULL, late_sha256 = NULL
WHERE (k.sha256 <> excluded.sha256 OR k.stream <> excluded.stream) AND k.received_at <= excluded.received_at
"""


async def keep_records(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    stream: str,
    rows: str,
) -> int:
    """Keep the latest of each record; only those that are new or differ are written."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_KEEP_RECORDS, (workspace_id, connector_id, stream, rows))
        return cursor.rowcount


_LIST_KNOWN = """
SELECT k.external_id, k.sha256, k.late_sha256, k.received_at, k.seen_at
FROM unnest($1::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT r.external_id, r.sha256, r.late_sha256, r.received_at, coalesce(r.seen_at, r.received_at) AS seen_at
    FROM raw_records AS r
    WHERE r.workspace_id = $2 AND r.connector_id = $3
        AND r.external_id = i.id
    LIMIT 1
) AS k
"""


async def list_known(
    conn: AsyncConnection[Any],
    *,
    external_ids: list[str],
    workspace_id: str,
    connector_id: str,
) -> list[ListKnownRow]:
    """What is known of the records of these ids. One by one, by the primary key: on a table that was never analyzed
    `= ANY` reads all rows of the workspace by another index.
    """
    async with AsyncRawCursor(conn, row_factory=args_row(ListKnownRow)) as cursor:
        await cursor.execute(_LIST_KNOWN, (external_ids, workspace_id, connector_id))
        fetched: list[ListKnownRow] = await cursor.fetchall()
        return fetched


_LIST_RECORDS = """
SELECT external_id, stream, record, received_at FROM raw_records
WHERE workspace_id = $1 AND connector_id = $2
    AND external_id > $3
ORDER BY external_id LIMIT $4
"""


async def list_records(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    after: str,
    n: int,
) -> list[ListRecordsRow]:
    """Records of a connector in the order of their ids, behind one."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListRecordsRow)) as cursor:
        await cursor.execute(_LIST_RECORDS, (workspace_id, connector_id, after, n))
        fetched: list[ListRecordsRow] = await cursor.fetchall()
        return fetched


_COUNT_RECORDS = """
SELECT count(*) FROM raw_records
WHERE workspace_id = $1 AND connector_id = $2
"""


async def count_records(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> int | None:
    """How many records of a connector are kept."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_RECORDS, (workspace_id, connector_id))
        fetched: int | None = await cursor.fetchone()
        return fetched


_SEE_RECORDS = """
UPDATE raw_records SET seen_at = $1
WHERE workspace_id = $2 AND connector_id = $3
    AND external_id = ANY($4::text[])
    AND coalesce(seen_at, received_at) < $1
"""


async def see_records(
    conn: AsyncConnection[Any],
    *,
    seen_at: datetime | None,
    workspace_id: str,
    connector_id: str,
    external_ids: list[str],
) -> None:
    """Note of records that they came again as they are kept, unless something newer is noted."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SEE_RECORDS, (seen_at, workspace_id, connector_id, external_ids))


_NOTE_LATE = """
UPDATE raw_records AS k SET late_sha256 = r.sha256, seen_at = greatest(coalesce(k.seen_at, k.received_at), r.came_at)
FROM json_to_recordset($3::json) AS r(external_id text, sha256 text, came_at timestamptz)
WHERE k.workspace_id = $1 AND k.connector_id = $2
    AND k.external_id = r.external_id
"""


async def note_late(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str, rows: str) -> None:
    """Note of records what came of an older revision than they are, and that they came again."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_LATE, (workspace_id, connector_id, rows))


_PURGE_RECORDS = """
DELETE FROM raw_records
WHERE workspace_id = $1 AND received_at < $2
    AND coalesce(seen_at, received_at) < $2
"""


async def purge_records(conn: AsyncConnection[Any], *, workspace_id: str, received_before: datetime) -> int:
    """Delete records of a workspace that came before a time, and not again since (PurgeRecords)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_RECORDS, (workspace_id, received_before))
        return cursor.rowcount


_PURGE_LETTERS = """
DELETE FROM dead_letters
WHERE workspace_id = $1 AND tried_at < $2
"""


async def purge_letters(conn: AsyncConnection[Any], *, workspace_id: str, received_before: datetime) -> int:
    """Delete dead letters of a workspace that came before a time (PurgeRecords)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PURGE_LETTERS, (workspace_id, received_before))
        return cursor.rowcount


_REJECT_RECORDS = """
INSERT INTO dead_letters AS d (workspace_id, connector_id, letter_id, stream, sha256, record, is_whole, path, reason,
    n_attempts, received_at, tried_at, came_at)
SELECT $1, $2, r.letter_id, $3, r.sha256, r.record, r.is_whole,
    r.path, r.reason, 1, $4, $4, r.came_at
FROM json_to_recordset($5::json) AS r(letter_id text, sha256 text, record text, is_whole boolean, path text,
    reason text, came_at timestamptz, number bigint)
WHERE r.number <= $6::bigint OR EXISTS (
    SELECT FROM dead_letters AS k WHERE k.workspace_id = $1
        AND k.connector_id = $2 AND k.sha256 = r.sha256)
ON CONFLICT (workspace_id, connector_id, sha256) DO UPDATE SET
    path = excluded.path, reason = excluded.reason, n_attempts = d.n_attempts + 1, tried_at = excluded.tried_at,
    came_at = greatest(coalesce(d.came_at, d.received_at), excluded.came_at)
"""


async def reject_records(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    stream: str,
    now: datetime,
    rows: str,
    room: int,
) -> int:
    """Keep rejected records as far as there is room; one that is there already was tried once more."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REJECT_RECORDS, (workspace_id, connector_id, stream, now, rows, room))
        return cursor.rowcount


_COUNT_LETTERS = """
SELECT count(*) FROM dead_letters
WHERE workspace_id = $1 AND connector_id = $2
"""


async def count_letters(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> int | None:
    """How many dead letters a connector has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_LETTERS, (workspace_id, connector_id))
        fetched: int | None = await cursor.fetchone()
        return fetched


_WEIGH_LETTERS = """
SELECT coalesce(sum(greatest(octet_length(record), $1::integer)), 0)::bigint FROM dead_letters
WHERE workspace_id = $2
"""


async def weigh_letters(conn: AsyncConnection[Any], *, least: int, workspace_id: str) -> int | None:
    """How many bytes the dead letters of a workspace hold, each at least so many."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_WEIGH_LETTERS, (least, workspace_id))
        fetched: int | None = await cursor.fetchone()
        return fetched


_LIST_LETTERS = """
SELECT letter_id, stream, record, path, reason, n_attempts, received_at FROM dead_letters
WHERE workspace_id = $1 AND connector_id = $2
    AND ($3::text = '' OR letter_id < $3)
ORDER BY letter_id DESC LIMIT $4
"""


async def list_letters(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    before: str,
    n: int,
) -> list[ListLettersRow]:
    """Dead letters before one, the newest first; the first ones when it is empty."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListLettersRow)) as cursor:
        await cursor.execute(_LIST_LETTERS, (workspace_id, connector_id, before, n))
        fetched: list[ListLettersRow] = await cursor.fetchall()
        return fetched


_LIST_WHOLE_LETTERS = """
SELECT letter_id, stream, record, n_attempts, coalesce(came_at, received_at) AS came_at FROM dead_letters
WHERE workspace_id = $1 AND connector_id = $2 AND is_whole
    AND (cardinality($3::text[]) = 0 OR letter_id = ANY($3::text[]))
ORDER BY tried_at, letter_id LIMIT $4
"""


async def list_whole_letters(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    letter_ids: list[str],
    n: int,
) -> list[ListWholeLettersRow]:
    """Dead letters that can be tried again, first those that were not for longest: those named, or all when none is."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListWholeLettersRow)) as cursor:
        await cursor.execute(_LIST_WHOLE_LETTERS, (workspace_id, connector_id, letter_ids, n))
        fetched: list[ListWholeLettersRow] = await cursor.fetchall()
        return fetched


_DELETE_ACCEPTED = """
DELETE FROM dead_letters AS d USING json_to_recordset($1::json) AS r(letter_id text, n_attempts integer)
WHERE d.workspace_id = $2 AND d.connector_id = $3
    AND d.letter_id = r.letter_id AND d.n_attempts = r.n_attempts
"""


async def delete_accepted(
    conn: AsyncConnection[Any],
    *,
    rows: str,
    workspace_id: str,
    connector_id: str,
) -> int:
    """Delete those of some dead letters that were not rejected once more since."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_ACCEPTED, (rows, workspace_id, connector_id))
        return cursor.rowcount


_LIST_DELIVERIES = """
SELECT k.delivery_id
FROM unnest($1::text[]) AS i(id)
CROSS JOIN LATERAL (
    SELECT d.delivery_id FROM deliveries AS d
    WHERE d.workspace_id = $2 AND d.connector_id = $3
        AND d.delivery_id = i.id
    LIMIT 1
) AS k
"""


async def list_deliveries(
    conn: AsyncConnection[Any],
    *,
    delivery_ids: list[str],
    workspace_id: str,
    connector_id: str,
) -> list[str]:
    """Which of some webhooks were taken; one by one, as records are."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_DELIVERIES, (delivery_ids, workspace_id, connector_id))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_NOTE_DELIVERIES = """
INSERT INTO deliveries (workspace_id, connector_id, delivery_id, received_at)
SELECT $1, $2, d.id, $3
FROM unnest($4::text[]) AS d(id)
ON CONFLICT (workspace_id, connector_id, delivery_id) DO NOTHING
"""


async def note_deliveries(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    received_at: datetime,
    delivery_ids: list[str],
) -> None:
    """Note that webhooks were taken."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_DELIVERIES, (workspace_id, connector_id, received_at, delivery_ids))


_LIST_RECEIVED = """
SELECT c.id::text AS connector_id, d.received_at
FROM unnest($1::text[]) AS c(id)
CROSS JOIN LATERAL (
    SELECT k.received_at FROM deliveries AS k
    WHERE k.workspace_id = $2 AND k.connector_id = c.id ORDER BY k.received_at DESC LIMIT 1
) AS d
"""


async def list_received(
    conn: AsyncConnection[Any],
    *,
    connector_ids: list[str],
    workspace_id: str,
) -> list[ListReceivedRow]:
    """When webhooks of these connectors were last taken; of those of which any were."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListReceivedRow)) as cursor:
        await cursor.execute(_LIST_RECEIVED, (connector_ids, workspace_id))
        fetched: list[ListReceivedRow] = await cursor.fetchall()
        return fetched


_LIST_POSITIONS = """
SELECT stream, high_water, resume FROM stream_positions
WHERE workspace_id = $1 AND connector_id = $2
    AND run_id = $3
ORDER BY stream
"""


async def list_positions(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    run_id: str,
) -> list[ListPositionsRow]:
    """How far the streams of a connector have been read in a run; with an empty run_id, in all."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListPositionsRow)) as cursor:
        await cursor.execute(_LIST_POSITIONS, (workspace_id, connector_id, run_id))
        fetched: list[ListPositionsRow] = await cursor.fetchall()
        return fetched


_CHECKPOINT = """
WITH w AS (
    INSERT INTO stream_positions AS p (workspace_id, connector_id, run_id, stream, high_water, resume, updated_at)
    SELECT $1, $2, '', $4, $7::timestamptz,
        $8, $6
    WHERE $7::timestamptz IS NOT NULL
    ON CONFLICT (workspace_id, connector_id, run_id, stream) DO UPDATE SET
        high_water = CASE WHEN p.resume IS NULL OR p.resume = excluded.resume
            THEN greatest(p.high_water, excluded.high_water) ELSE excluded.high_water END,
        resume = excluded.resume, updated_at = excluded.updated_at)
INSERT INTO stream_positions (workspace_id, connector_id, run_id, stream, resume, updated_at)
VALUES ($1, $2, $3, $4, $5,
    $6)
ON CONFLICT (workspace_id, connector_id, run_id, stream) DO UPDATE SET
    resume = excluded.resume, updated_at = excluded.updated_at
"""


async def checkpoint(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    connector_id: str,
    run_id: str,
    stream: str,
    resume: str | None,
    now: datetime,
    high_water: datetime | None,
    asked: str | None,
) -> None:
    """Where a run goes on in a stream, should its process die; and how far the stream has been read, which never goes back
    while it asks the same: resume of the mark of all runs says what that is.
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHECKPOINT, (workspace_id, connector_id, run_id, stream, resume, now, high_water, asked))


_END_RUN = """
DELETE FROM stream_positions
WHERE workspace_id = $1 AND connector_id = $2
    AND run_id = $3::text AND run_id <> ''
"""


async def end_run(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str, run_id: str) -> None:
    """A run is over, so nothing resumes it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_RUN, (workspace_id, connector_id, run_id))


_FORGET_RECORDS = """
DELETE FROM raw_records WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_records(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete the records of a connector (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_RECORDS, (workspace_id, connector_id))


_FORGET_LETTERS = """
DELETE FROM dead_letters WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_letters(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete the dead letters of a connector (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_LETTERS, (workspace_id, connector_id))


_FORGET_DELIVERIES = """
DELETE FROM deliveries WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_deliveries(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete what is known of a connector's webhooks (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_DELIVERIES, (workspace_id, connector_id))


_FORGET_POSITIONS = """
DELETE FROM stream_positions WHERE workspace_id = $1 AND connector_id = $2
"""


async def forget_positions(conn: AsyncConnection[Any], *, workspace_id: str, connector_id: str) -> None:
    """Delete how far a connector has been read (ConnectorDeleted)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_POSITIONS, (workspace_id, connector_id))


_SWEEP = """
SELECT sweep($1, $2)::bigint
"""


async def sweep(conn: AsyncConnection[Any], *, now: datetime, deliveries_before: datetime) -> int | None:
    """Delete what has reached its age; how many rows."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_SWEEP, (now, deliveries_before))
        fetched: int | None = await cursor.fetchone()
        return fetched


_LIST_WITH_ROWS = """
SELECT w.workspace_id::text FROM with_rows($1::text[]) AS w(workspace_id)
"""


async def list_with_rows(conn: AsyncConnection[Any], *, workspace_ids: list[str]) -> list[str]:
    """Those of some workspaces of which there is anything."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LIST_WITH_ROWS, (workspace_ids,))
        fetched: list[str] = await cursor.fetchall()
        return fetched


_ERASE_WORKSPACE = """
WITH k AS (DELETE FROM data_keys AS t WHERE t.workspace_id = $1),
    s AS (DELETE FROM secrets AS t WHERE t.workspace_id = $1),
    a AS (DELETE FROM authorizations AS t WHERE t.workspace_id = $1),
    p AS (DELETE FROM stream_positions AS t WHERE t.workspace_id = $1),
    r AS (DELETE FROM raw_records AS t WHERE t.workspace_id = $1),
    l AS (DELETE FROM dead_letters AS t WHERE t.workspace_id = $1),
    u AS (DELETE FROM pushes AS t WHERE t.workspace_id = $1)
DELETE FROM deliveries AS t WHERE t.workspace_id = $1
"""


async def erase_workspace(conn: AsyncConnection[Any], *, workspace_id: str) -> None:
    """Delete all that there is of an erased workspace (WorkspaceErased)."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ERASE_WORKSPACE, (workspace_id,))
