"""Clients in the identity schema, as an operator sees and makes them: by the functions that SQL users call, too."""

import csv
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import TupleRow, args_row

from causeloop.exits import CliError, NotAvailableError, UsageError
from causeloop.running import read_running

Connection: TypeAlias = AsyncConnection[TupleRow]

REQUIRED: Final = ("org_name", "org_slug", "owner_email")
OPTIONAL: Final = ("owner_name", "workspace_name", "plan", "timezone", "seats")

_ADVICE: Final = {
    "organizations_slug_key": "The slug is taken. Choose another; `causeloop clients list` shows them.",
    "organizations_slug_check": "org_slug: 1 to 60 lower-case letters, digits and hyphens, no hyphen at either end.",
    "organizations_name_check": "org_name: 2 to 100 characters.",
    "organizations_seats_total_check": "seats: 1 or more, or `unlimited` for what the plan has.",
    "workspaces_name_check": "workspace_name: 2 to 100 characters, or empty for the organization's.",
    "users_email_check": "owner_email: an address such as ana@example.com.",
    "users_name_check": "owner_name: at most 200 characters.",
}


class NewClient(Struct, frozen=True, kw_only=True):
    """A line of the file; None: the default of onboard_client(). seats: "unlimited" or a number, checked there."""

    line: int
    org_name: str
    org_slug: str
    owner_email: str
    owner_name: str | None = None
    workspace_name: str | None = None
    plan: str | None = None
    timezone: str | None = None
    seats: str | None = None


class MadeClient(Struct, frozen=True, kw_only=True):
    """A client that was made, and from which line."""

    line: int
    slug: str
    organization_id: str
    workspace_id: str
    owner_user_id: str
    membership_id: str


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong with a line, and what to do."""

    line: int
    slug: str
    advice: str


class Client(Struct, frozen=True):
    """A client as it is now; seats_total is None when unlimited."""

    slug: str
    name: str
    plan: str
    status: str
    seats_used: int
    seats_total: int | None
    workspaces: int
    created_at: datetime


class ChangedClient(Struct, frozen=True):
    """A client that was shut out or let in again. workspaces: how many it has."""

    organization_id: str
    workspaces: int


@asynccontextmanager
async def as_operator(folder: Path) -> AsyncIterator[Connection]:
    """A connection in the schema identity, as the role that owns it; each statement is a transaction.

    The address is DATABASE_OWNER_URL, or that of the Causeloop that runs with the data folder.
    Raises NotAvailableError when there is neither, or the database does not answer.
    """
    running = read_running(folder)
    url = os.environ.get("DATABASE_OWNER_URL") or (
        running.environment.get("DATABASE_OWNER_URL", "") if running is not None else ""
    )
    if not url:
        raise NotAvailableError(
            f"Causeloop does not run with the data folder {folder}",
            advice="Start it with `make up`, say where it is with --data, or set DATABASE_OWNER_URL.",
        )
    try:
        conn = await AsyncConnection.connect(
            url,
            autocommit=True,
            options="-c search_path=identity",
            cursor_factory=AsyncRawCursor,
            connect_timeout=5,
        )
    except psycopg.OperationalError as error:
        raise NotAvailableError(
            f"PostgreSQL does not answer: {str(error).strip()}", advice="Check DATABASE_OWNER_URL."
        ) from error
    async with conn:
        yield conn


def read_clients(path: Path) -> tuple[list[NewClient], list[Problem]]:
    """The lines of a CSV file with a header, and what is wrong with those that cannot be asked for at all.

    Raises UsageError when the file as a whole cannot be read.
    """
    clients: list[NewClient] = []
    problems: list[Problem] = []
    first_lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _check_header(path, rows.fieldnames)
            for row in rows:
                client, advice = _read(row, rows.line_num)
                if advice is None and client.org_slug in first_lines:
                    advice = f"Line {first_lines[client.org_slug]} has this slug already. Choose another."
                first_lines.setdefault(client.org_slug, client.line)
                if advice is None:
                    clients.append(client)
                else:
                    problems.append(Problem(line=client.line, slug=client.org_slug, advice=advice))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", advice="It must be a CSV file in UTF-8."
        ) from error
    return clients, problems


def _check_header(path: Path, header: Sequence[str] | None) -> None:
    columns = list(header or ())
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        said = [f"lacks {', '.join(missing)}"] if missing else []
        said += [f"has unknown columns {', '.join(map(repr, unknown))}"] if unknown else []
        raise UsageError(
            f"{path} {' and '.join(said)}",
            advice=f"The first line names the columns: {', '.join(REQUIRED)}, and if wanted {', '.join(OPTIONAL)}.",
        )


def _read(row: dict[str, str | list[str] | None], line: int) -> tuple[NewClient, str | None]:
    """The client of a row, and what is wrong with it."""
    # The reader puts surplus cells under the key None, and gives None for missing ones.
    values = {name: value.strip() for name, value in row.items() if isinstance(value, str)}
    client = NewClient(
        line=line,
        org_name=values.get("org_name", ""),
        org_slug=values.get("org_slug", ""),
        owner_email=values.get("owner_email", ""),
        owner_name=values.get("owner_name") or None,
        workspace_name=values.get("workspace_name") or None,
        plan=values.get("plan") or None,
        timezone=values.get("timezone") or None,
        seats=values.get("seats") or None,
    )
    if None in row:
        return client, "The line has more cells than the header. Put text with commas between quotes."
    missing = [name for name in REQUIRED if not values.get(name)]
    if missing:
        return client, f"Fill in {', '.join(missing)}."
    if any("\0" in value for value in values.values()):
        return client, "The line holds U+0000, which is no text. Remove it."
    if client.seats and client.seats != "unlimited" and not _is_count(client.seats):
        return client, f"seats: {client.seats!r} is neither a whole number nor `unlimited`."
    return client, None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


async def onboard(
    conn: Connection, clients: Sequence[NewClient], unreadable: Sequence[Problem]
) -> tuple[list[MadeClient], list[Problem]]:
    """Make every client in one transaction; with any problem, none. One of the two lists is empty.

    unreadable: what is wrong already; the others are tried nevertheless, so that the report is whole.
    """
    made: list[MadeClient] = []
    problems = list(unreadable)
    try:
        async with conn.transaction() as together:
            for client in clients:
                try:
                    async with conn.transaction():
                        made.append(await _onboard(conn, client))
                except psycopg.errors.IntegrityError as error:
                    problems.append(Problem(line=client.line, slug=client.org_slug, advice=_advice(error)))
            if problems:
                raise psycopg.Rollback(together)
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise CliError("the database has no clients yet", advice="Run `causeloop migrate` first.") from error
    return ([], sorted(problems, key=lambda problem: problem.line)) if problems else (made, [])


async def _onboard(conn: Connection, client: NewClient) -> MadeClient:
    # Only what is given, so that the defaults are those of the function.
    given: dict[str, object] = {
        f"p_{name}": getattr(client, name)
        for name in (*REQUIRED, *OPTIONAL)
        if getattr(client, name) is not None
    }
    if client.seats is not None:
        given["p_seats"] = None if client.seats == "unlimited" else int(client.seats)
    arguments = ", ".join(f"{name} => ${number}" for number, name in enumerate(given, 1))
    cursor = await conn.execute(
        # The names are ours, the values are parameters.
        f"SELECT organization_id, workspace_id, owner_user_id, membership_id FROM onboard_client({arguments})",  # noqa: S608
        list(given.values()),
    )
    row = await cursor.fetchone()
    assert row is not None
    return MadeClient(
        line=client.line,
        slug=client.org_slug,
        organization_id=row[0],
        workspace_id=row[1],
        owner_user_id=row[2],
        membership_id=row[3],
    )


def _advice(error: psycopg.Error) -> str:
    """What to do about a client that the database refuses."""
    known = _ADVICE.get(error.diag.constraint_name or "")
    if known is not None:
        return known
    message = error.diag.message_primary or str(error)
    return f"{message[:1].upper()}{message[1:]}. {error.diag.message_hint or ''}".strip()


async def list_clients(conn: Connection) -> list[Client]:
    """Every client, by slug."""
    async with conn.cursor(row_factory=args_row(Client)) as cursor:
        await cursor.execute(
            "SELECT o.slug, o.name, o.plan, o.status,"
            " count(DISTINCT m.user_id) FILTER (WHERE m.status = 'active'), LEAST(o.seats_total, p.seats),"
            " count(DISTINCT w.workspace_id), o.created_at"
            " FROM organizations AS o JOIN plans AS p ON p.plan = o.plan"
            " LEFT JOIN workspaces AS w ON w.organization_id = o.organization_id"
            " LEFT JOIN memberships AS m ON m.workspace_id = w.workspace_id"
            " GROUP BY o.organization_id, p.plan ORDER BY o.slug"
        )
        return await cursor.fetchall()


async def offboard(conn: Connection, slug: str, *, reason: str) -> ChangedClient:
    """Shut a client out for good. Raises UsageError when there is none that is not shut out already."""
    return await _changed(conn, "SELECT * FROM offboard_client($1, $2)", (slug, reason))


async def reinstate(conn: Connection, slug: str) -> ChangedClient:
    """Let a client in again. Raises UsageError when there is none that is shut out."""
    return await _changed(conn, "SELECT * FROM reinstate_client($1)", (slug,))


async def approve_domain(conn: Connection, slug: str, domain: str) -> None:
    """Let a client's own providers speak for a domain. Raises UsageError when there is no such client or domain."""
    try:
        await conn.execute(b"SELECT approve_domain($1, $2)", (slug, domain))
    except psycopg.errors.NoDataFound as error:
        raise UsageError(
            error.diag.message_primary or str(error), advice="`causeloop clients list` shows them."
        ) from error
    except psycopg.errors.CheckViolation as error:
        raise UsageError(f"{domain!r} is no domain", advice="Write it like acme.example.") from error


class Erasure(Struct, frozen=True):
    """An erasure as far as it is. certificate: JSON; None: it goes on."""

    workspace_id: str
    erasure_id: str
    certificate: str | None = None


async def erase(conn: Connection, slug: str) -> list[Erasure]:
    """Have every workspace of a client erased, by the gateway that runs. Raises UsageError when there is none."""
    try:
        async with conn.cursor(row_factory=args_row(Erasure)) as cursor:
            await cursor.execute(b"SELECT workspace_id, erasure_id FROM erase_client($1)", (slug,))
            return await cursor.fetchall()
    except psycopg.errors.NoDataFound as error:
        raise UsageError(
            error.diag.message_primary or str(error), advice="`causeloop clients list` shows them."
        ) from error


async def erasures(conn: Connection, workspace_ids: list[str]) -> list[Erasure]:
    """How far these erasures are."""
    async with conn.cursor(row_factory=args_row(Erasure)) as cursor:
        await cursor.execute(
            b"SELECT workspace_id, erasure_id, certificate::text FROM erasures"
            b" WHERE workspace_id = ANY($1::text[]) ORDER BY requested_at",
            (workspace_ids,),
        )
        return await cursor.fetchall()


async def _changed(conn: Connection, statement: str, values: tuple[str, ...]) -> ChangedClient:
    try:
        async with conn.cursor(row_factory=args_row(ChangedClient)) as cursor:
            await cursor.execute(statement.encode(), values)
            found = await cursor.fetchone()
    except psycopg.errors.NoDataFound as error:
        raise UsageError(
            error.diag.message_primary or str(error), advice="`causeloop clients list` shows them."
        ) from error
    assert found is not None
    return found
