"""Reads rows of somebody's PostgreSQL by a query of theirs, as a vendor's pages are read.

The query is theirs, so are the rights it is run with; we add that it only reads, ends in time, and goes where it may.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from socket import create_connection, socket
from typing import TYPE_CHECKING, Final

import msgspec
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from runtime.outbound import OutboundError, Reach, is_public

from services.ingest.connectors.words import moment
from services.ingest.vendors.faults import VendorError, words
from services.ingest.vendors.lines import ANSWER_SECONDS, Lines
from services.ingest.vendors.relaying import Relay
from services.ingest.vendors.templates import Values

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import DictRow

ROWS: Final = 500
"""A page."""
ROWS_MAX: Final = 16_000
"""As long as a page of rows has one and the same time, a larger one is asked for; up to this."""
PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
"""On the wire: the driver has a page in memory as a whole, and rows can be as long as whoever sends them likes."""
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 60
CURSOR_COLUMNS: Final = ("cursor", "updated_at", "occurred_at", "created_at", "ts")
"""The column that rows are sorted by: the first of these that they have."""

_NAMED: Final = re.compile(r"(?<![:\w]):(cursor|limit)\b")


class Rows(msgspec.Struct, frozen=True):
    """A page of rows as JSON has them; behind it, the page that begins at `cursor` with `limit` rows. None: no more."""

    records: list[object]
    cursor: datetime | None
    limit: int = ROWS


def high_water(records: Sequence[object]) -> datetime | None:
    """The latest moment of rows by the column that they are sorted by."""
    found = [_moment(record) for record in records]
    return max((each for each in found if each is not None), default=None)


def read(
    query: str, values: Values, *, cursor: datetime, limit: int = ROWS, reach: Reach, lines: Lines
) -> Rows:
    """The rows from a moment on. Raises VendorError."""
    import psycopg  # noqa: PLC0415  # its libpq is for those who read databases

    secrets = (values.text("{secret.username}"), values.text("{secret.password}"))
    named = {"cursor": cursor, "limit": limit}
    statement = _NAMED.sub(r"%(\1)s", values.text(query).strip().rstrip(";").replace("%", "%%"))
    relay: Relay | None = None
    try:
        # Its time limit for a statement is the server's own affair, and so is how long its rows are.
        with lines.within(ANSWER_SECONDS, "the database"):
            far, address = _dialled(values, reach, lines)
            relay = Relay(far, bytes_max=PAGE_BYTES_MAX)
            with _connect(values, secrets, relay, address) as connection:
                connection.read_only = True
                connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
                # A server's cursor takes nothing but one query, and its rows only as far as they are wanted.
                with connection.cursor(name="causeloop") as rows:
                    rows.execute(statement, named)
                    found = rows.fetchmany(limit)
                connection.rollback()
    except psycopg.OperationalError as error:
        if relay is not None and relay.is_too_much:
            problem = f"a page of rows has more than {PAGE_BYTES_MAX} bytes; select fewer or shorter columns"
            raise VendorError("not_configured", problem) from error
        raise _failure(error, secrets) from error
    except psycopg.Error as error:
        raise VendorError(
            "not_configured", f"the database refuses the query: {words(str(error), secrets)}"
        ) from error
    records: list[object] = [msgspec.to_builtins(row, enc_hook=str) for row in found]
    last = high_water(records)
    if len(found) < limit or last is None:
        return Rows(records, None)
    # Once more the last moment: more rows may have it.
    further = last - timedelta(microseconds=1)
    if further > cursor:
        return Rows(records, further, limit)
    if limit >= ROWS_MAX:
        raise VendorError("not_configured", f"more than {ROWS_MAX} rows have the time {last.isoformat()}")
    return Rows(records, cursor, limit * 2)


def _dialled(values: Values, reach: Reach, lines: Lines) -> tuple[socket, str]:
    """A connection to the database, nothing said yet, and the IP address it is to. Raises VendorError."""
    host, port = values.text("{config.host}"), values.text("{config.port}")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise VendorError("not_configured", "port has to be a number from 1 to 65535")
    try:
        # "https": an address on the internet has to be encrypted here too, see sslmode.
        address = reach.resolve("https", host, int(port))
    except OutboundError as error:
        raise VendorError("address_refused" if error.is_refused else "unreachable", str(error)) from error
    try:
        far = create_connection((address, int(port)), CONNECT_SECONDS)
    except OSError as error:
        raise VendorError("unreachable", f"{host} cannot be reached: {type(error).__name__}") from error
    far.settimeout(None)
    lines.hold("database", far.fileno())
    return far, address


def _connect(values: Values, secrets: tuple[str, str], relay: Relay, address: str) -> "Connection[DictRow]":
    import psycopg  # noqa: PLC0415
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415
    from psycopg.rows import dict_row  # noqa: PLC0415

    return psycopg.connect(
        make_conninfo(**secured(address, values.text("{config.tls}"))),
        host=values.text("{config.host}"),
        hostaddr="127.0.0.1",
        port=relay.port,
        dbname=values.text("{config.database}"),
        user=secrets[0],
        password=secrets[1],
        connect_timeout=CONNECT_SECONDS,
        application_name="causeloop",
        row_factory=dict_row,
    )


def secured(address: str, tls: str) -> dict[str, str]:
    """What libpq asks of a server at an IP address; tls: as the manifest's field has it."""
    if not is_public(ip_address(address)):
        return {"sslmode": "prefer"}
    if tls == "require":
        # Whoever answers there could ask for the password itself.
        return {"sslmode": "require", "require_auth": "!password"}
    return {"sslmode": "verify-full", "sslrootcert": DEFAULT_CA_BUNDLE_PATH}


def _failure(error: Exception, secrets: tuple[str, str]) -> VendorError:
    """Of a connection: who signs in is refused, or nobody answers."""
    said = words(str(error), secrets)
    state = getattr(error, "sqlstate", None)
    if (state or "").startswith("28") or "authentication failed" in said:
        return VendorError("credentials_rejected", said)
    if state is not None:
        return VendorError("vendor_failed", said)
    return VendorError("unreachable", said)


def _moment(record: object) -> datetime | None:
    if not isinstance(record, dict):
        return None
    return next((moment(record[name]) for name in CURSOR_COLUMNS if name in record), None)
