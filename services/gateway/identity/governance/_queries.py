"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class PlanFeature(Struct, frozen=True):
    """One row of a result."""

    plan: str
    is_included: bool
    retention_days: int | None


class Retention(Struct, frozen=True):
    """One row of a result."""

    issues_days: int
    activity_days: int
    audit_days: int
    prompt_logs_days: int
    predictions_days: int
    grace_days: int
    updated_at: datetime
    plan: str
    plan_days: int | None


class Windows(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    issues_days: int
    prompt_logs_days: int
    predictions_days: int
    grace_days: int


class Export(Struct, frozen=True):
    """One row of a result."""

    export_id: str
    kind: str
    status: str
    requested_by: str | None
    file_name: str | None
    size_bytes: int | None
    sha256: str | None
    files: str
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    seq: int | None


class OpenExport(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    export_id: str
    kind: str
    status: str
    requested_by: str | None
    n_attempts: int
    created_at: datetime


class KeptExport(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    export_id: str
    file_name: str | None


class ExportFile(Struct, frozen=True):
    """One row of a result."""

    export_id: str
    file_name: str | None


class ErasureRequest(Struct, frozen=True):
    """One row of a result."""

    request_id: str
    subject_id: str
    status: str
    reason: str
    notes: str
    requested_by: str | None
    decided_by: str | None
    certificate: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    seq: int | None


class OpenErasure(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    erasure_id: str
    organization_id: str | None
    status: str
    identity: str | None
    purged: int
    files: int
    requested_at: datetime


_TRY_LEAD = """
SELECT pg_try_advisory_lock(hashtextextended('identity/governance', 0)) AS leads
"""


async def try_lead(conn: AsyncConnection[Any]) -> bool:
    """Lead the jobs of governance, if nobody does: one process works for all gateways, until its connection ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_TRY_LEAD)
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("try_lead gave no row")
        return fetched


_SEE = """
SELECT set_config('app.current_workspace', $1::text, true)::text AS scope
"""


async def see(conn: AsyncConnection[Any], *, workspace_id: str) -> str:
    """Name what this transaction may see."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_SEE, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("see gave no row")
        return fetched


_GET_PLAN_FEATURE = """
SELECT p.plan, $1::text = ANY (p.features) AS is_included, p.retention_days
FROM workspaces AS w JOIN organizations AS o ON o.organization_id = w.organization_id JOIN plans AS p ON p.plan = o.plan
WHERE w.workspace_id = $2
"""


async def get_plan_feature(
    conn: AsyncConnection[Any],
    *,
    feature: str,
    workspace_id: str,
) -> PlanFeature | None:
    """Whether the plan of the current workspace has a feature, and which plan it is."""
    async with AsyncRawCursor(conn, row_factory=args_row(PlanFeature)) as cursor:
        await cursor.execute(_GET_PLAN_FEATURE, (feature, workspace_id))
        fetched: PlanFeature | None = await cursor.fetchone()
        return fetched


_GET_RETENTION = """
SELECT s.issues_days, s.activity_days, s.audit_days, s.prompt_logs_days, s.predictions_days, s.grace_days, s.updated_at,
    p.plan, p.retention_days AS plan_days
FROM workspace_settings AS s JOIN workspaces AS w ON w.workspace_id = s.workspace_id
JOIN organizations AS o ON o.organization_id = w.organization_id JOIN plans AS p ON p.plan = o.plan
WHERE s.workspace_id = $1
"""


async def get_retention(conn: AsyncConnection[Any], *, workspace_id: str) -> Retention | None:
    """What is kept how long, as it was asked for and as it holds under the plan."""
    async with AsyncRawCursor(conn, row_factory=args_row(Retention)) as cursor:
        await cursor.execute(_GET_RETENTION, (workspace_id,))
        fetched: Retention | None = await cursor.fetchone()
        return fetched


_CHANGE_RETENTION = """
UPDATE workspace_settings SET
    issues_days = COALESCE($1::integer, issues_days),
    activity_days = COALESCE($2::integer, activity_days),
    audit_days = COALESCE($3::integer, audit_days),
    prompt_logs_days = COALESCE($4::integer, prompt_logs_days),
    predictions_days = COALESCE($5::integer, predictions_days),
    grace_days = COALESCE($6::integer, grace_days),
    updated_at = $7
WHERE workspace_id = $8
"""


async def change_retention(
    conn: AsyncConnection[Any],
    *,
    issues_days: int | None,
    activity_days: int | None,
    audit_days: int | None,
    prompt_logs_days: int | None,
    predictions_days: int | None,
    grace_days: int | None,
    updated_at: datetime,
    workspace_id: str,
) -> None:
    """Keep something longer or shorter; what is null stays."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_RETENTION, (issues_days, activity_days, audit_days, prompt_logs_days, predictions_days, grace_days, updated_at, workspace_id))


_LIST_RETENTION_WINDOWS = """
SELECT r.workspace_id::text AS workspace_id, r.issues_days::integer AS issues_days,
    r.prompt_logs_days::integer AS prompt_logs_days, r.predictions_days::integer AS predictions_days,
    r.grace_days::integer AS grace_days
FROM all_retention_windows() AS r
"""


async def list_retention_windows(conn: AsyncConnection[Any]) -> list[Windows]:
    """How long each workspace keeps what."""
    async with AsyncRawCursor(conn, row_factory=args_row(Windows)) as cursor:
        await cursor.execute(_LIST_RETENTION_WINDOWS)
        fetched: list[Windows] = await cursor.fetchall()
        return fetched


_PURGE_AUDIT = """
SELECT purge_audit($1::text)::bigint AS n_purged
"""


async def purge_audit(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """Delete what is past its window and its grace: entries of the audit log."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PURGE_AUDIT, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("purge_audit gave no row")
        return fetched


_PURGE_ACTIVITY = """
SELECT purge_activity($1::text)::bigint AS n_purged
"""


async def purge_activity(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """Delete what is past its window and its grace: what members and their programs did."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PURGE_ACTIVITY, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("purge_activity gave no row")
        return fetched


_PURGE_PEOPLE = """
SELECT purge_people()::bigint AS n_purged
"""


async def purge_people(conn: AsyncConnection[Any]) -> int:
    """Delete people of whom no workspace has anything but ids."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PURGE_PEOPLE)
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("purge_people gave no row")
        return fetched


_INSERT_EXPORT = """
INSERT INTO export_jobs (workspace_id, export_id, kind, requested_by, created_at)
VALUES ($1, $2, $3, $4, $5)
"""


async def insert_export(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    export_id: str,
    kind: str,
    requested_by: str | None,
    created_at: datetime,
) -> None:
    """Ask for a copy."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_EXPORT, (workspace_id, export_id, kind, requested_by, created_at))


_GET_EXPORT = """
SELECT export_id, kind, status, requested_by, file_name, size_bytes, sha256, files::text AS files, error, created_at, started_at,
    finished_at, expires_at, seq
FROM exports WHERE workspace_id = $1 AND export_id = $2
"""


async def get_export(conn: AsyncConnection[Any], *, workspace_id: str, export_id: str) -> Export | None:
    """An export as lists show it."""
    async with AsyncRawCursor(conn, row_factory=args_row(Export)) as cursor:
        await cursor.execute(_GET_EXPORT, (workspace_id, export_id))
        fetched: Export | None = await cursor.fetchone()
        return fetched


_LIST_OPEN_EXPORTS = """
SELECT e.workspace_id, e.export_id, e.kind, e.status, e.requested_by, e.n_attempts, e.created_at FROM open_exports() AS e
"""


async def list_open_exports(conn: AsyncConnection[Any]) -> list[OpenExport]:
    """Exports that have to be written, whoever's."""
    async with AsyncRawCursor(conn, row_factory=args_row(OpenExport)) as cursor:
        await cursor.execute(_LIST_OPEN_EXPORTS)
        fetched: list[OpenExport] = await cursor.fetchall()
        return fetched


_LIST_EXPIRED_EXPORTS = """
SELECT e.workspace_id, e.export_id, e.file_name FROM expired_exports($1::timestamptz) AS e
"""


async def list_expired_exports(conn: AsyncConnection[Any], *, now: datetime) -> list[KeptExport]:
    """Exports whose file has to go, whoever's."""
    async with AsyncRawCursor(conn, row_factory=args_row(KeptExport)) as cursor:
        await cursor.execute(_LIST_EXPIRED_EXPORTS, (now,))
        fetched: list[KeptExport] = await cursor.fetchall()
        return fetched


_LIST_EXPORT_FILES = """
SELECT export_id, file_name FROM export_jobs WHERE workspace_id = $1
"""


async def list_export_files(conn: AsyncConnection[Any], *, workspace_id: str) -> list[ExportFile]:
    """Exports of a workspace that have a file."""
    async with AsyncRawCursor(conn, row_factory=args_row(ExportFile)) as cursor:
        await cursor.execute(_LIST_EXPORT_FILES, (workspace_id,))
        fetched: list[ExportFile] = await cursor.fetchall()
        return fetched


_BEGIN_EXPORT = """
UPDATE export_jobs SET status = 'running', n_attempts = n_attempts + 1, started_at = $1::timestamptz
WHERE workspace_id = $2 AND export_id = $3 AND status IN ('queued', 'running')
"""


async def begin_export(
    conn: AsyncConnection[Any],
    *,
    started_at: datetime,
    workspace_id: str,
    export_id: str,
) -> int:
    """Begin to write an export, or begin again; none when it is over or gone."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_BEGIN_EXPORT, (started_at, workspace_id, export_id))
        return cursor.rowcount


_FINISH_EXPORT = """
UPDATE export_jobs SET status = 'succeeded', file_name = $1, size_bytes = $2,
    sha256 = $3, files = $4::jsonb, finished_at = $5,
    expires_at = $6
WHERE workspace_id = $7 AND export_id = $8 AND status = 'running'
    AND started_at = $9::timestamptz
"""


async def finish_export(
    conn: AsyncConnection[Any],
    *,
    file_name: str | None,
    size_bytes: int | None,
    sha256: str | None,
    files: str,
    finished_at: datetime | None,
    expires_at: datetime | None,
    workspace_id: str,
    export_id: str,
    started_at: datetime,
) -> int:
    """The file is there; none when what it holds was overtaken: the export begins again, or is gone."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FINISH_EXPORT, (file_name, size_bytes, sha256, files, finished_at, expires_at, workspace_id, export_id, started_at))
        return cursor.rowcount


_EXPIRE_EXPORTS = """
UPDATE export_jobs SET expires_at = $1::timestamptz
WHERE workspace_id = $2 AND status = 'succeeded'
"""


async def expire_exports(conn: AsyncConnection[Any], *, now: datetime, workspace_id: str) -> int:
    """Have the files of a workspace deleted that name somebody who is forgotten."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_EXPIRE_EXPORTS, (now, workspace_id))
        return cursor.rowcount


_RESTART_EXPORTS = """
UPDATE export_jobs SET status = 'queued', started_at = NULL
WHERE workspace_id = $1 AND status = 'running'
"""


async def restart_exports(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """Have those written again that are being written."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RESTART_EXPORTS, (workspace_id,))
        return cursor.rowcount


_END_EXPORT = """
UPDATE export_jobs SET status = $1, error = $2, file_name = NULL,
    finished_at = COALESCE(finished_at, $3::timestamptz)
WHERE workspace_id = $4 AND export_id = $5
"""


async def end_export(
    conn: AsyncConnection[Any],
    *,
    status: str,
    error: str | None,
    finished_at: datetime,
    workspace_id: str,
    export_id: str,
) -> None:
    """The file is not there, or not any more."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_EXPORT, (status, error, finished_at, workspace_id, export_id))


_FIND_SUBJECT = """
SELECT f.user_id::text AS user_id FROM find_subject_here($1::text) AS f
"""


async def find_subject(conn: AsyncConnection[Any], *, subject: str) -> str | None:
    """The person with this address or id who is or was in the current workspace."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FIND_SUBJECT, (subject,))
        fetched: str | None = await cursor.fetchone()
        return fetched


_LOCK_ROLE = """
SELECT role FROM memberships WHERE workspace_id = $1 AND user_id = $2 FOR UPDATE
"""


async def lock_role(conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> str | None:
    """What a person is in the workspace, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LOCK_ROLE, (workspace_id, user_id))
        fetched: str | None = await cursor.fetchone()
        return fetched


_INSERT_REQUEST = """
INSERT INTO rtbf_requests (workspace_id, request_id, subject_id, reason, requested_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $6)
"""


async def insert_request(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    request_id: str,
    subject_id: str,
    reason: str,
    requested_by: str | None,
    now: datetime,
) -> None:
    """Take in that somebody wants to be forgotten."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_REQUEST, (workspace_id, request_id, subject_id, reason, requested_by, now))


_GET_REQUEST = """
SELECT request_id, subject_id, status, reason, notes, requested_by, decided_by, certificate::text AS certificate, created_at,
    updated_at, completed_at, seq
FROM rtbf_requests WHERE workspace_id = $1 AND request_id = $2
"""


async def get_request(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    request_id: str,
) -> ErasureRequest | None:
    """A request as lists show it."""
    async with AsyncRawCursor(conn, row_factory=args_row(ErasureRequest)) as cursor:
        await cursor.execute(_GET_REQUEST, (workspace_id, request_id))
        fetched: ErasureRequest | None = await cursor.fetchone()
        return fetched


_LOCK_REQUEST = """
SELECT request_id, subject_id, status, reason, notes, requested_by, decided_by, certificate::text AS certificate, created_at,
    updated_at, completed_at, seq
FROM rtbf_requests WHERE workspace_id = $1 AND request_id = $2
FOR UPDATE
"""


async def lock_request(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    request_id: str,
) -> ErasureRequest | None:
    """The same, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(ErasureRequest)) as cursor:
        await cursor.execute(_LOCK_REQUEST, (workspace_id, request_id))
        fetched: ErasureRequest | None = await cursor.fetchone()
        return fetched


_CHANGE_REQUEST = """
UPDATE rtbf_requests SET status = $1, notes = COALESCE($2::text, notes),
    decided_by = COALESCE($3::text, decided_by),
    certificate = COALESCE($4::jsonb, certificate),
    completed_at = COALESCE($5::timestamptz, completed_at), updated_at = $6
WHERE workspace_id = $7 AND request_id = $8
"""


async def change_request(
    conn: AsyncConnection[Any],
    *,
    status: str,
    notes: str | None,
    decided_by: str | None,
    certificate: str | None,
    completed_at: datetime | None,
    updated_at: datetime,
    workspace_id: str,
    request_id: str,
) -> None:
    """Where a request is now; what is null stays."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_REQUEST, (status, notes, decided_by, certificate, completed_at, updated_at, workspace_id, request_id))


_ERASE_PERSON = """
SELECT erase_person($1::text)::text AS erased
"""


async def erase_person(conn: AsyncConnection[Any], *, user_id: str) -> str:
    """Delete what the current workspace has of a person; what was deleted, as JSON."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_ERASE_PERSON, (user_id,))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("erase_person gave no row")
        return fetched


_REQUEST_ERASURE = """
SELECT request_erasure_here($1::text, $2::text)::text AS erasure_id
"""


async def request_erasure(conn: AsyncConnection[Any], *, actor: str, ip: str | None) -> str:
    """Have the current workspace erased."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_REQUEST_ERASURE, (actor, ip))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("request_erasure gave no row")
        return fetched


_GET_SLUG = """
SELECT slug FROM workspaces WHERE workspace_id = $1
"""


async def get_slug(conn: AsyncConnection[Any], *, workspace_id: str) -> str | None:
    """The workspace's slug, which has to be typed before it is erased."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_SLUG, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        return fetched


_LIST_OPEN_ERASURES = """
SELECT e.workspace_id, e.erasure_id, e.organization_id, e.status, e.identity::text AS identity, e.purged, e.files, e.requested_at
FROM open_erasures($1::timestamptz) AS e
"""


async def list_open_erasures(conn: AsyncConnection[Any], *, since: datetime) -> list[OpenErasure]:
    """Erasures that go on, and those that ended lately."""
    async with AsyncRawCursor(conn, row_factory=args_row(OpenErasure)) as cursor:
        await cursor.execute(_LIST_OPEN_ERASURES, (since,))
        fetched: list[OpenErasure] = await cursor.fetchall()
        return fetched


_IS_TOLD = """
SELECT is_told($1::text)::boolean AS is_told
"""


async def is_told(conn: AsyncConnection[Any], *, workspace_id: str) -> bool:
    """Whether the log has every fact of a workspace."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_TOLD, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_told gave no row")
        return fetched


_ERASE_WORKSPACE_ROWS = """
SELECT erase_workspace_rows($1::text)::text AS erased
"""


async def erase_workspace_rows(conn: AsyncConnection[Any], *, workspace_id: str) -> str:
    """Delete every row of identity that a workspace has; how many, as JSON."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_ERASE_WORKSPACE_ROWS, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("erase_workspace_rows gave no row")
        return fetched


_NOTE_ERASURE = """
SELECT note_erasure($1::text, $2::bigint, $3::bigint)
"""


async def note_erasure(conn: AsyncConnection[Any], *, workspace_id: str, purged: int, files: int) -> None:
    """Add to what an erasure has deleted."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_ERASURE, (workspace_id, purged, files))


_COMPLETE_ERASURE = """
SELECT complete_erasure($1::text, $2::jsonb, $3::timestamptz)
"""


async def complete_erasure(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    certificate: str,
    now: datetime,
) -> None:
    """Nothing is left: keep the certificate."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_COMPLETE_ERASURE, (workspace_id, certificate, now))


_IS_ERASED = """
SELECT EXISTS (SELECT FROM erasures WHERE workspace_id = $1)::boolean AS is_erased
"""


async def is_erased(conn: AsyncConnection[Any], *, workspace_id: str) -> bool:
    """Whether a workspace was erased, or is being."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_ERASED, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_erased gave no row")
        return fetched
