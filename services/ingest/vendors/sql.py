"""What all databases have in common: pages of rows by a query of somebody's, from a moment on.

The query is theirs, so are the rights it is run with; we add that it only reads, ends in time, and goes where it may.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from socket import create_connection, socket
from typing import Final

import msgspec
from runtime.outbound import OutboundError, Reach

from services.ingest.connectors.connecting import CA_CERTIFICATE
from services.ingest.connectors.normalization import moment
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors.watchdog import Watchdog

ROWS: Final = 500
"""A page."""
ROWS_MAX: Final = 16_000
"""As long as a page of rows has one and the same time, a larger one is asked for; up to this."""
PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
"""On the wire: the driver has a page in memory as a whole, and rows can be as long as whoever sends them likes."""
CELLS_MAX: Final = 1_000_000
COLUMNS_MAX: Final = 4_096
"""Of one page: tiny values and names are many times as large in memory as on the wire."""
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 60
CURSOR_COLUMNS: Final = ("cursor", "updated_at", "occurred_at", "created_at", "ts")
"""The column that rows are sorted by: the first of these that they have."""

_NAMED: Final = re.compile(r"(?<![:\w]):(cursor|limit)\b")
_READS: Final = re.compile(
    r"(?:\s|--[^\n]*\n|#[^\n]*\n|/\*(?!!)(?:(?!\*/).)*\*/)*(?:\(|(?:select|with|values|table)\b)",
    re.IGNORECASE | re.DOTALL,
)
_WRITES_FILES: Final = re.compile(r"\b(outfile|dumpfile)\b", re.IGNORECASE)


class Rows(msgspec.Struct, frozen=True):
    """A page of rows as JSON has them; behind it, the page that begins at `cursor` with `limit` rows. None: no more."""

    records: list[object]
    cursor: datetime | None
    limit: int = ROWS


class Asked(msgspec.Struct, frozen=True):
    """A page that is wanted: the query as somebody wrote it, from when on, and how many rows at most."""

    query: str
    cursor: datetime
    limit: int = ROWS

    def statement(self, values: Values, *, named: str, doubled: str = "") -> str:
        """The query in a driver's own style.

        named: what stands for :cursor and :limit, a template for re.sub. doubled: the sign that begins such places.
        """
        text = values.text(self.query).strip().rstrip(";")
        return _NAMED.sub(named, text.replace(doubled, doubled * 2) if doubled else text)


def read_only(statement: str) -> str:
    """The statement, if its words only read; for databases that have no other way to be sure.

    Raises VendorError("not_configured").
    """
    if not _READS.match(statement) or _WRITES_FILES.search(statement):
        raise VendorError("not_configured", "the query has to be one SELECT, and writes no files")
    return statement


def following(asked: Asked, found: Sequence[object]) -> Rows:
    """A page with the place behind it. found: its rows. Raises VendorError where no page can be behind it."""
    records: list[object] = [msgspec.to_builtins(row, enc_hook=str) for row in found]
    last = high_water(records)
    if len(found) < asked.limit or last is None:
        return Rows(records, None)
    # Once more the last moment: more rows may have it.
    further = last - timedelta(microseconds=1)
    if further > asked.cursor:
        return Rows(records, further, asked.limit)
    if asked.limit >= ROWS_MAX:
        raise VendorError("not_configured", f"more than {ROWS_MAX} rows have the time {last.isoformat()}")
    return Rows(records, asked.cursor, asked.limit * 2)


def high_water(records: Sequence[object]) -> datetime | None:
    """The latest moment of rows by the column that they are sorted by."""
    found = [_moment(record) for record in records]
    return max((each for each in found if each is not None), default=None)


def dialled(values: Values, reach: Reach, watchdog: Watchdog) -> tuple[socket, str]:
    """A connection to the database, nothing said yet, and the IP address it is to. Raises VendorError."""
    host, port = values.text("{config.host}"), values.text("{config.port}")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise VendorError("not_configured", "port has to be a number from 1 to 65535")
    try:
        # "https": an address on the internet has to be encrypted here too.
        address = reach.resolve("https", host)
    except OutboundError as error:
        raise VendorError("address_refused" if error.is_refused else "unreachable", str(error)) from error
    try:
        far = create_connection((address, int(port)), CONNECT_SECONDS)
    except OSError as error:
        raise VendorError("unreachable", f"{host} cannot be reached: {type(error).__name__}") from error
    far.settimeout(None)
    watchdog.hold("database", far.fileno())
    return far, address


def authority(values: Values, tls: str) -> str:
    """The certificates that somebody trusts for their database, empty for everybody's. Raises VendorError."""
    pem = values.option(CA_CERTIFICATE)
    if tls == "verify-ca" and not pem:
        raise VendorError("not_configured", "tls: verify-ca needs the certificate of your own authority")
    return pem


def too_much() -> VendorError:
    """A page that is longer than may be."""
    return VendorError(
        "not_configured",
        f"a page of rows has more than {PAGE_BYTES_MAX} bytes, {CELLS_MAX} values or {COLUMNS_MAX} columns; "
        "select fewer or shorter columns",
    )


def _moment(record: object) -> datetime | None:
    if not isinstance(record, dict):
        return None
    return next((moment(record[name]) for name in CURSOR_COLUMNS if name in record), None)
