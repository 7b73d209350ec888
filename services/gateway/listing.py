"""Lists by keyset: a page, what follows it, and how many there are.

The statements differ in their order and filters, and a plan that walks an index needs both spelled out. They are put
together from the closed tables of each route's module; values are always parameters.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, LiteralString, TypeAlias, TypeVar

import msgspec
from msgspec import Struct
from psycopg import AsyncConnection, sql
from psycopg.rows import args_row
from runtime.database import Pool, read_rows
from runtime.errors import ValidationFailedError

from services.gateway.identity.tokens import is_signed, sign

R = TypeVar("R")

Value: TypeAlias = str | int | float | datetime | list[str] | None

EXACT_TOTAL_MAX = 10_000
_SIGNATURE_BYTES = 16
_PLACEHOLDERS: tuple[LiteralString, ...] = (
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10",
    "$11", "$12", "$13", "$14", "$15", "$16", "$17", "$18", "$19", "$20",
)  # fmt: skip


class SortKey(Struct, frozen=True):
    """A column that a list can be sorted by; `seq` breaks its ties.

    kind: the column's type, to which a cursor's value is cast.
    is_inverted: an ascending sort walks the column downwards, as with a rank that is 1 for the highest score.
    """

    column: str
    kind: LiteralString
    is_inverted: bool = False


class Filter(Struct, frozen=True):
    """How a query parameter narrows a list.

    clause: with `{value}` where the value goes. value: makes it of the parameter's; None: the filter does not apply.
    default: the value where the parameter is absent.
    """

    parameter: str
    clause: LiteralString
    value: Callable[[Any], Value] = lambda given: given  # Any: each parameter has a type of its own
    default: Value = None


class Condition(Struct, frozen=True):
    """One filter: a clause with `{value}` where its parameter goes."""

    clause: LiteralString
    value: Value


class Listing(Struct, Generic[R], frozen=True, kw_only=True):
    """A list that can be asked for: where from, which columns as which row, filtered how, in which orders.

    key: the column of the id, by which one row is picked. only: what holds of every row that may be seen.
    """

    name: str
    view: str
    row: type[R]
    sorts: Mapping[str, SortKey]
    default_sort: str
    key: str = "id"
    only: LiteralString = "true"
    filters: Sequence[Filter] = ()

    @property
    def noun(self) -> str:
        """What one of them is called: of pattern_id, pattern."""
        return self.key.removesuffix("_id")

    def conditions(self, query: Struct) -> list[Condition]:
        """The filters that a query asks for."""
        found = []
        for narrowing in self.filters:
            given = getattr(query, narrowing.parameter)
            value = narrowing.default if given is None else narrowing.value(given)
            if value is not None:
                found.append(Condition(narrowing.clause, value))
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the view, in the order of the row's fields."""
        names: tuple[str, ...] = self.row.__struct_fields__  # type: ignore[attr-defined]  # R is a Struct
        return names


class PageRequest(Struct, frozen=True, kw_only=True):
    """Which page of which list: sorted how, after which cursor, filtered by what.

    scope: what a cursor is bound to besides the list and its order: the workspace and the filters as the caller wrote them.
    """

    workspace_id: str
    conditions: Sequence[Condition]
    sort: str | None
    cursor: str | None
    limit: int
    scope: str
    with_total: bool = True


class Found(Struct, Generic[R], frozen=True):
    """A page of rows with what leads on from it."""

    rows: Sequence[R]
    next_cursor: str | None
    total: int


class Position(Struct, frozen=True, array_like=True):
    """Where a page ended: the sort key and the tie-breaker of its last row."""

    key: str | int | float
    seq: int


async def fetch_page(
    conn: AsyncConnection[Any], listing: Listing[R], asked: PageRequest, *, secret: str
) -> Found[R]:
    """The page that was asked for. Raises ValidationFailedError on a cursor that is not ours or of another list."""
    order = asked.sort or listing.default_sort
    sort_key = listing.sorts[order.removeprefix("-")]
    context = (listing.name, order, asked.scope)
    where, values = _where(listing, asked)
    total = await _count(conn, listing, where=where, values=values)
    is_descending = order.startswith("-") != sort_key.is_inverted
    if asked.cursor is not None:
        # Judged before anything is left out, so that a wrong cursor never passes for an empty list.
        position = read_cursor(asked.cursor, secret=secret, context=context)
        where = [*where, _beyond(sort_key, len(values), is_descending=is_descending)]
        values = [*values, position.key, position.seq]
    if not total:
        return Found((), None, 0)
    direction = sql.SQL("DESC" if is_descending else "ASC")
    statement = sql.SQL(
        "SELECT {columns} FROM {view} WHERE {where} ORDER BY {key} {direction}, seq {direction} LIMIT {limit}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, listing.columns)),
        view=sql.Identifier(listing.view),
        where=sql.SQL(" AND ").join(where),
        key=sql.Identifier(sort_key.column),
        direction=direction,
        limit=sql.Literal(asked.limit + 1),
    )
    async with conn.cursor(row_factory=args_row(listing.row)) as cursor:
        await cursor.execute(statement, values)
        rows = await cursor.fetchall()
    following = None
    if len(rows) > asked.limit:
        rows = rows[: asked.limit]
        key, seq = getattr(rows[-1], sort_key.column), getattr(rows[-1], "seq")  # noqa: B009  # R is any row with a seq
        key = key.isoformat() if isinstance(key, datetime) else key
        following = make_cursor(key, seq, secret=secret, context=context)
    return Found(rows, following, total)


async def fetch_one(source: Pool, listing: Listing[R], *, workspace_id: str, identifier: str) -> R | None:
    """The row with this id; None when this workspace has none that may be seen."""
    statement = _picking_one(listing.view, listing.columns, listing.key, listing.only)
    rows = await read_rows(source, workspace_id, statement, (workspace_id, identifier), row=listing.row)
    return rows[0] if rows else None


@cache
def _picking_one(view: str, columns: tuple[str, ...], key: str, only: LiteralString) -> bytes:
    statement = sql.SQL(
        "SELECT {columns} FROM {view} WHERE workspace_id = $1 AND {key} = $2 AND {only} LIMIT 1"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        view=sql.Identifier(view),
        key=sql.Identifier(key),
        only=sql.SQL(only),
    )
    return statement.as_bytes()


def _where(listing: Listing[Any], asked: PageRequest) -> tuple[list[sql.Composable], list[Value]]:
    """The filters as clauses with numbered parameters; the workspace comes first."""
    where: list[sql.Composable] = [sql.SQL("workspace_id = $1"), sql.SQL(listing.only)]
    values: list[Value] = [asked.workspace_id]
    for condition in asked.conditions:
        placeholder = sql.SQL(_PLACEHOLDERS[len(values)])
        where.append(sql.SQL(condition.clause).format(value=placeholder))
        values.append(condition.value)
    return where, values


def _beyond(sort_key: SortKey, n_values: int, *, is_descending: bool) -> sql.Composable:
    return sql.SQL("({key}, seq) {comparison} ({value}::{kind}, {seq}::bigint)").format(
        key=sql.Identifier(sort_key.column),
        comparison=sql.SQL("<" if is_descending else ">"),
        value=sql.SQL(_PLACEHOLDERS[n_values]),
        kind=sql.SQL(sort_key.kind),
        seq=sql.SQL(_PLACEHOLDERS[n_values + 1]),
    )


async def _count(
    conn: AsyncConnection[Any],
    listing: Listing[R],
    *,
    where: Sequence[sql.Composable],
    values: Sequence[Value],
) -> int:
    """How many rows match: exact up to EXACT_TOTAL_MAX, beyond it the planner's estimate."""
    matching = sql.SQL("SELECT 1 FROM {view} WHERE {where}").format(
        view=sql.Identifier(listing.view), where=sql.SQL(" AND ").join(where)
    )
    bounded = sql.SQL("SELECT count(*) FROM ({matching} LIMIT {limit}) AS m").format(
        matching=matching, limit=sql.Literal(EXACT_TOTAL_MAX + 1)
    )
    cursor = await conn.execute(bounded, values)
    row = await cursor.fetchone()
    counted = int(row[0]) if row is not None else 0
    if counted <= EXACT_TOTAL_MAX:
        return counted
    cursor = await conn.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(matching), values)
    row = await cursor.fetchone()
    plan = msgspec.convert(row[0] if row is not None else [], list[dict[str, dict[str, object]]])
    estimate = plan[0]["Plan"]["Plan Rows"] if plan else 0
    return max(counted, msgspec.convert(estimate, int))


def make_cursor(key: str | float, seq: int, *, secret: str, context: tuple[str, ...]) -> str:
    """A signed token of a place in the list that the context names."""
    payload = msgspec.json.encode(Position(key, seq))
    signature = sign(secret, "cursor", *context, payload.decode())
    return base64.urlsafe_b64encode(signature + payload).decode().rstrip("=")


def read_cursor(token: str, *, secret: str, context: tuple[str, ...]) -> Position:
    """The place that a token names. Raises ValidationFailedError when it is not ours or of another list."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        # A second spelling of the same bytes would be a token that we never made.
        is_ours = base64.urlsafe_b64encode(raw).decode().rstrip("=") == token
        if is_ours and is_signed(signature, secret, "cursor", *context, payload.decode()):
            return msgspec.json.decode(payload, type=Position)
    except (binascii.Error, ValueError):
        pass
    raise ValidationFailedError("malformed cursor token", details={"cursor": "malformed cursor token"})
