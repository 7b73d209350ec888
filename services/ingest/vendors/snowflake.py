"""Rows of a Snowflake, by its SQL API: a statement is sent, waited for, and its result fetched in parts.

Source: https://docs.snowflake.com/en/developer-guide/sql-api/reference and .../handling-responses.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import requests

from services.ingest.connectors.payloads import n_values
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors import sql
from services.ingest.vendors.sql import Asked

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

_T = TypeVar("_T")

STATEMENTS: Final = "/api/v2/statements"
POLL_SECONDS: Final = 2.0
"""Between two questions whether a statement has ended; the first answer comes after 45 seconds at the latest."""
PARTS_MAX: Final = 100

_RUNNING: Final = 202
_HANDLE: Final = re.compile(r"[0-9A-Za-z-]{1,80}")
_WRITES: Final = re.compile(r"->>|\bsystem\$|\bprocedure\b|(?<!')\bcall\b|\bcall\b(?!')", re.IGNORECASE)
"""A further statement behind a query, a function that does something, a procedure of the query's own; 'CALL' as a value
is none: https://docs.snowflake.com/en/sql-reference/operators-flow and .../sql-reference/sql/call-with."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_OFFSET: Final = 1440
"""Of TIMESTAMP_TZ: minutes that stand for UTC."""


class _Column(msgspec.Struct, frozen=True):
    name: str
    type: str
    scale: int | None = None


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    row_type: list[_Column]
    partition_info: list[dict[str, object]] = []


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    """Of a statement that has ended; parts behind the first have no shape of their own."""

    data: list[list[str | None]]
    statement_handle: str = ""
    shape: _Shape | None = msgspec.field(default=None, name="resultSetMetaData")


class _Running(msgspec.Struct, frozen=True, rename="camel"):
    statement_handle: str


def read(
    asked: Asked, values: Values, *, client: "RESTClient", pause: Callable[[float], None]
) -> list[dict[str, object]]:
    """The rows of a page. pause: sleeps for so many seconds. Raises VendorError."""
    statement = _read_only(asked.statement(values, named=r":\1"))
    # Marks are bound in the order in which they stand.
    marks = re.findall(r":(cursor|limit)\b", statement)
    bound = {
        "cursor": {"type": "TEXT", "value": asked.cursor.astimezone(UTC).isoformat(timespec="microseconds")},
        "limit": {"type": "FIXED", "value": str(asked.limit)},
    }
    body = {
        "statement": statement.replace(":cursor", "TO_TIMESTAMP_TZ(?)").replace(":limit", "?"),
        "timeout": sql.STATEMENT_SECONDS,
        "bindings": {str(place): bound[name] for place, name in enumerate(marks, 1)},
        "parameters": {"timezone": "UTC", "multi_statement_count": "1", "query_tag": "causeloop"},
        **{name: given for name in ("warehouse", "role") if (given := values.option(name))},
    }
    answer = client.post(STATEMENTS, json=body)
    n_polls = int(sql.STATEMENT_SECONDS / POLL_SECONDS)
    while answer.status_code == _RUNNING:
        handle = _handle(_read(answer, _Running).statement_handle)
        if n_polls == 0:
            client.post(f"{STATEMENTS}/{handle}/cancel")
            raise VendorError("vendor_failed", "Snowflake did not end the statement in time")
        n_polls -= 1
        pause(POLL_SECONDS)
        answer = client.get(f"{STATEMENTS}/{handle}")
    first = _read(answer, _Result)
    if first.shape is None:
        raise VendorError("bad_answer", "Snowflake's answer does not name its columns")
    n_parts = len(first.shape.partition_info)
    if n_parts > PARTS_MAX:
        raise sql.too_much()
    rows, n_bytes, n_cells = list(first.data), len(answer.content), n_values(answer.content)
    for part in range(1, n_parts):
        more = client.get(f"{STATEMENTS}/{_handle(first.statement_handle)}", params={"partition": part})
        rows += _read(more, _Result).data
        n_bytes, n_cells = n_bytes + len(more.content), n_cells + n_values(more.content)
        if n_bytes > sql.PAGE_BYTES_MAX or n_cells > sql.CELLS_MAX:
            raise sql.too_much()
    return [_row(first.shape.row_type, row) for row in rows[: asked.limit]]


def _read_only(statement: str) -> str:
    """The statement, if its words only read: the API has no transaction that sees to it. Raises VendorError."""
    if _WRITES.search(statement):
        raise VendorError(
            "not_configured", "the query has to be one SELECT, with no ->>, CALL, PROCEDURE or SYSTEM$ in it"
        )
    return sql.read_only(statement)


def _read(answer: requests.Response, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise VendorError(
            "bad_answer", "Snowflake answered something else than its documentation says"
        ) from error


def _handle(text: str) -> str:
    """A handle, which is going to be part of an address."""
    if not _HANDLE.fullmatch(text):
        raise VendorError("bad_answer", "Snowflake's handle of the statement is none")
    return text


def _row(columns: list[_Column], row: list[str | None]) -> dict[str, object]:
    if len(row) != len(columns):
        raise VendorError("bad_answer", "a row of Snowflake's has not as many values as there are columns")
    return {
        column.name: None if text is None else _value(column, text)
        for column, text in zip(columns, row, strict=True)
    }


def _value(column: _Column, text: str) -> object:
    """What a text of the result stands for, as JSON has it; one that is written otherwise stays a text."""
    kind = column.type.upper()
    try:
        match kind:
            case "FIXED" if not column.scale:
                return int(text)
            case "REAL":
                return float(text)
            case "BOOLEAN":
                return text == "true"
            case "DATE":
                return (date(1970, 1, 1) + timedelta(days=int(text))).isoformat()
            case "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
                return _moment(text)
            case "VARIANT" | "OBJECT" | "ARRAY":
                return msgspec.json.decode(text)
    except (ValueError, OverflowError, InvalidOperation, RecursionError):
        return text
    return text


def _moment(text: str) -> str:
    """Seconds since 1970 with nine places, and with a zone its minutes behind them."""
    seconds, _, offset = text.partition(" ")
    at = _EPOCH + timedelta(microseconds=int(Decimal(seconds) * 1_000_000))
    zone = timezone(timedelta(minutes=int(offset) - _UTC_OFFSET)) if offset else UTC
    return at.astimezone(zone).isoformat()
