"""Rows of a MySQL or MariaDB."""

import struct
from contextlib import closing
from datetime import UTC
from ipaddress import ip_address
from socket import create_connection, socket
from ssl import SSLContext
from typing import TYPE_CHECKING, Final

from runtime.outbound import Reach, is_public

from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors import sql
from services.ingest.vendors.redaction import words
from services.ingest.vendors.sql import Asked
from services.ingest.vendors.tcp_relay import Relay
from services.ingest.vendors.tls import trusting
from services.ingest.vendors.watchdog import ANSWER_SECONDS, Watchdog

if TYPE_CHECKING:
    from pymysql.connections import Connection
    from pymysql.cursors import Cursor

_SIGN_IN: Final = frozenset([1044, 1045, 1130, 1131, 1251, 1524, 1698, 1820, 1862, 3118, 3159, 4151])
"""Numbers of errors that refuse who asks: https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html."""
_PASSING: Final = frozenset([1040, 1053, 1203, 1205, 1213, 1226, 1317, 1969, 3024])
"""Too many connections, being stopped, locked out, or out of time."""
_CONNECTION: Final = range(2000, 3000)
"""Numbers of errors of the connection itself."""


def read(asked: Asked, values: Values, *, reach: Reach, watchdog: Watchdog) -> list[dict[str, object]]:
    """The rows of a page, in a transaction that only reads. Raises VendorError."""
    import pymysql  # noqa: PLC0415  # for those who read such databases

    secrets = (values.text("{secret.username}"), values.text("{secret.password}"))
    statement = sql.read_only(asked.statement(values, named=r"%(\1)s", doubled="%"))
    # Without a zone: the session is in UTC.
    named = {"cursor": asked.cursor.astimezone(UTC).replace(tzinfo=None), "limit": asked.limit}
    relay: Relay | None = None
    try:
        # Its time limit for a statement is the server's own affair, and so is how long its rows are.
        with watchdog.within(ANSWER_SECONDS, "the database"):
            far, address = sql.dialled(values, reach, watchdog)
            relay = Relay(far, bytes_max=sql.PAGE_BYTES_MAX)
            with (
                create_connection(("127.0.0.1", relay.port), sql.CONNECT_SECONDS) as near,
                closing(_connected(values, secrets, near, tls=secured(address, values, reach))) as connection,
                connection.cursor() as rows,
            ):
                for bound in _bounds(connection, asked.limit):
                    rows.execute(bound)
                rows.execute(statement, named)
                found = rows.fetchmany(asked.limit)
                names = [column[0] for column in rows.description or ()]
    except (pymysql.Error, OSError, RuntimeError, LookupError, ValueError, struct.error) as error:
        # Beside its own errors, what its parser makes of a server that speaks something else.
        if relay is not None and relay.is_too_much:
            raise sql.too_much() from error
        raise _failure(error, secrets) from error
    return [dict(zip(names, row, strict=True)) for row in found]


def _connected(
    values: Values, secrets: tuple[str, str], near: socket, *, tls: SSLContext | None
) -> "Connection[Cursor]":
    """Signed in over a connection that is there already, though the name is what its certificate has to be for."""
    from pymysql.connections import Connection  # noqa: PLC0415
    from pymysql.protocol import FieldDescriptorPacket, MysqlPacket  # noqa: PLC0415

    class Bounded(Connection):
        """It makes objects of all columns and values that a server says it has: counted here, before it does."""

        n_columns = n_cells = 0

        def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> MysqlPacket:
            if packet_type is FieldDescriptorPacket:
                self.n_columns += 1
            else:
                # A row, where columns have been named.
                self.n_cells += self.n_columns
            if self.n_columns > sql.COLUMNS_MAX or self.n_cells > sql.CELLS_MAX:
                raise sql.too_much()
            packet: MysqlPacket = super()._read_packet(packet_type)  # type: ignore[no-untyped-call]
            return packet

    near.settimeout(None)  # `watchdog` ends it
    connection = Bounded(
        host=values.text("{config.host}"),
        user=secrets[0],
        password=secrets[1],
        database=values.text("{config.database}"),
        charset="utf8mb4",
        program_name="causeloop",
        ssl=tls,
        defer_connect=True,
    )
    connection.connect(near)
    return connection


def secured(address: str, values: Values, reach: Reach) -> SSLContext | None:
    """What a server at an IP address has to prove; None: nothing inside, where TLS is taken if it is offered.

    Whoever signs in over TLS may be asked for the password itself, so there is no way to trust anybody.
    Raises VendorError.
    """
    tls = values.text("{config.tls}")
    authority = sql.authority(values, tls)
    if not authority and not is_public(ip_address(address)):
        return None
    return trusting(authority, reach, checks_name=tls != "verify-ca")


def _bounds(connection: "Connection[Cursor]", limit: int) -> tuple[str, ...]:
    """What is said before a query, so that it only reads, ends in time and gives no more rows than are wanted."""
    server: str = connection.get_server_info()  # type: ignore[no-untyped-call]
    in_time = (
        f"SET SESSION max_statement_time = {sql.STATEMENT_SECONDS}"
        if "MariaDB" in server
        else f"SET SESSION max_execution_time = {sql.STATEMENT_SECONDS * 1000}"
    )
    return (
        "SET SESSION time_zone = '+00:00'",
        in_time,
        f"SET SESSION sql_select_limit = {limit}",
        # Also for what follows a transaction that a procedure ends.
        "SET SESSION TRANSACTION READ ONLY",
        "START TRANSACTION READ ONLY",
    )


def _failure(error: Exception, secrets: tuple[str, str]) -> VendorError:
    """Who signs in is refused, or the query, or nobody answers as a database does."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    said = words(str(error.args[1] if number is not None and len(error.args) > 1 else error), secrets)
    if isinstance(error, OSError | LookupError | struct.error) or number in _CONNECTION or number == 0:
        return VendorError("unreachable", said)
    if number is None:
        return VendorError("bad_answer", said)
    if number in _SIGN_IN:
        return VendorError("credentials_rejected", said)
    if number in _PASSING:
        return VendorError("vendor_failed", said)
    return VendorError("not_configured", f"the database refuses the query: {said}")
