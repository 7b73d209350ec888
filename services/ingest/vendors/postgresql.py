"""Rows of a PostgreSQL, or of what speaks as it does."""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from runtime.outbound import Reach, is_public

from services.ingest.connectors.payloads import n_values
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors import sql
from services.ingest.vendors.redaction import words
from services.ingest.vendors.sql import Asked
from services.ingest.vendors.tcp_relay import Relay
from services.ingest.vendors.tls import as_file
from services.ingest.vendors.watchdog import ANSWER_SECONDS, Watchdog

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.rows import DictRow

_TEXTS: Final = frozenset([25, 1042, 1043])
"""Types whose values stay texts, by their ids: text, char(n) and varchar(n)."""


def read(asked: Asked, values: Values, *, reach: Reach, watchdog: Watchdog) -> list[dict[str, object]]:
    """The rows of a page, in a transaction that only reads. Raises VendorError."""
    import psycopg  # noqa: PLC0415  # its libpq is for those who read databases

    secrets = (values.text("{secret.username}"), values.text("{secret.password}"))
    statement = asked.statement(values, named=r"%(\1)s", doubled="%")
    relay: Relay | None = None
    try:
        # Its time limit for a statement is the server's own affair, and so is how long its rows are.
        with watchdog.within(ANSWER_SECONDS, "the database"):
            far, address = sql.dialled(values, reach, watchdog)
            relay = Relay(far, bytes_max=sql.PAGE_BYTES_MAX)
            with _connect(values, secrets, relay, address, reach=reach) as connection:
                connection.read_only = True
                connection.execute(f"SET LOCAL statement_timeout = '{sql.STATEMENT_SECONDS}s'")
                # A server's cursor takes nothing but one query, and its rows only as far as they are wanted.
                with connection.cursor(name="causeloop") as rows:
                    rows.execute(statement, {"cursor": asked.cursor, "limit": asked.limit})
                    page = connection.execute(f"FETCH FORWARD {asked.limit:d} FROM causeloop")
                    _check_size(page)
                    found = page.fetchall()
                connection.rollback()
    except psycopg.OperationalError as error:
        if relay is not None and relay.is_too_much:
            raise sql.too_much() from error
        raise _failure(error, secrets) from error
    except psycopg.Error as error:
        raise VendorError(
            "not_configured", f"the database refuses the query: {words(str(error), secrets)}"
        ) from error
    return found


def _check_size(page: "Cursor[DictRow]") -> None:
    """Raises VendorError for a page that has come and is too much to make objects of; arrays and JSON become many."""
    result = page.pgresult
    if result is None:
        return
    n_cells = result.ntuples * result.nfields
    if result.nfields > sql.COLUMNS_MAX or n_cells > sql.CELLS_MAX:
        raise sql.too_much()
    for column in range(result.nfields):
        if result.ftype(column) not in _TEXTS:
            cells = (result.get_value(row, column) for row in range(result.ntuples))
            n_cells += sum(n_values(cell) - 1 for cell in cells if cell)
            if n_cells > sql.CELLS_MAX:
                raise sql.too_much()


def _connect(
    values: Values, secrets: tuple[str, str], relay: Relay, address: str, *, reach: Reach
) -> "Connection[DictRow]":
    import psycopg  # noqa: PLC0415
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415
    from psycopg.rows import dict_row  # noqa: PLC0415

    tls = values.text("{config.tls}")
    authority = sql.authority(values, tls)
    with as_file(authority, reach) as path:
        return psycopg.connect(
            make_conninfo(**secured(address, tls, path, is_own=bool(authority))),
            host=values.text("{config.host}"),
            hostaddr="127.0.0.1",
            port=relay.port,
            dbname=values.text("{config.database}"),
            user=secrets[0],
            password=secrets[1],
            connect_timeout=sql.CONNECT_SECONDS,
            application_name="causeloop",
            row_factory=dict_row,
        )


def secured(address: str, tls: str, path: str, *, is_own: bool) -> dict[str, str]:
    """What libpq asks of a server at an IP address.

    tls: as the manifest's field has it. path: a file of certificates; is_own: of somebody's own authority, which
    counts inside as well.
    """
    if not is_own and not is_public(ip_address(address)):
        return {"sslmode": "prefer"}
    if tls == "require":
        # Whoever answers there could ask for the password itself.
        return {"sslmode": "require", "require_auth": "!password"}
    return {"sslmode": tls, "sslrootcert": path}


def _failure(error: Exception, secrets: tuple[str, str]) -> VendorError:
    """Of a connection: who signs in is refused, or nobody answers."""
    said = words(str(error), secrets)
    state = getattr(error, "sqlstate", None)
    if (state or "").startswith("28") or "authentication failed" in said:
        return VendorError("credentials_rejected", said)
    if state is not None:
        return VendorError("vendor_failed", said)
    return VendorError("unreachable", said)
