"""The sqlc plugin `sqlc-gen-python`: typed async psycopg functions for every query of one queries.sql.

sqlc parses the schema and the queries and hands over what it found as JSON on standard input; the answer
on standard output is one file, `_queries.py`. Directives that sqlc does not know are comment lines above
or below a query's name:

    -- row: IssueSummary               name of the row's Struct; queries with equal columns may share it
    -- column last_at: datetime | None type of a result column, where sqlc cannot know it
    -- param limit_at: datetime | None type of a parameter, likewise
    -- always                          a :one query that always gives a row (its result is not optional)
"""

import base64
import keyword
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

FILE_NAME = "_queries.py"

_DIRECTIVE = re.compile(
    r"^(?:(?P<kind>row|column (?P<column>\w+)|param (?P<param>\w+)):\s*(?P<value>.+)|always)$"
)
_PYTHON_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext", "tsvector"), "str"),
    **dict.fromkeys(("int2", "int4", "int8", "smallint", "integer", "bigint", "serial", "bigserial"), "int"),
    **dict.fromkeys(("float4", "float8", "real", "double precision"), "float"),
    **dict.fromkeys(("bool", "boolean"), "bool"),
    **dict.fromkeys(("numeric", "decimal"), "Decimal"),
    **dict.fromkeys(("timestamptz", "timestamp", "timestamp with time zone"), "datetime"),
    "date": "date",
    "time": "time",
    "interval": "timedelta",
    "uuid": "UUID",
    "bytea": "bytes",
    "json": "object",
    "jsonb": "object",
    "void": "None",
}
_IMPORTS: Mapping[str, str] = {
    "Decimal": "decimal",
    "UUID": "uuid",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
    "timedelta": "datetime",
}
_IDENTIFIER = re.compile(r"\w+")
_WIDTH = 110
# Names that the generated functions use themselves.
_TAKEN = frozenset({"conn", "cursor", "fetched"})


class QueryError(Exception):
    """A query says something that the generator has no rule for; the message names it."""


class Identifier(Struct, frozen=True):
    """A name in the database."""

    name: str = ""
    schema: str = ""


class Column(Struct, frozen=True):
    """A column of a table, a result or a parameter."""

    name: str
    type: Identifier | None = None
    not_null: bool = False
    is_array: bool = False
    table: Identifier | None = None
    embed_table: Identifier | None = None


class Table(Struct, frozen=True):
    """A table of the schema."""

    rel: Identifier
    columns: tuple[Column, ...] = ()


class Schema(Struct, frozen=True):
    """A schema of the catalog."""

    name: str = ""
    tables: tuple[Table, ...] | None = None


class Catalog(Struct, frozen=True):
    """All that schema.sql declares."""

    default_schema: str = "public"
    schemas: tuple[Schema, ...] = ()


class Parameter(Struct, frozen=True):
    """One `$n` of a query."""

    number: int
    column: Column


class Query(Struct, frozen=True):
    """One statement with its name."""

    text: str
    name: str
    cmd: str
    columns: tuple[Column, ...] | None = None
    params: tuple[Parameter, ...] | None = None
    comments: tuple[str, ...] | None = None


class Request(Struct, frozen=True):
    """What sqlc hands over."""

    catalog: Catalog
    queries: tuple[Query, ...] | None = None


class Attribute(Struct, frozen=True):
    """A name and its Python type: a field of a row or an argument of a function."""

    name: str
    type: str


class Row(Struct, frozen=True):
    """The Struct that a query's rows become."""

    name: str
    attributes: tuple[Attribute, ...]
    docstring: str


class Function(Struct, frozen=True):
    """All that the function of one query is rendered from."""

    name: str
    constant: str
    text: str
    cmd: str
    docstring: tuple[str, ...]
    arguments: tuple[Attribute, ...]
    result: Row | str | None
    is_always: bool


class _Directives(Struct, frozen=True):
    prose: tuple[str, ...]
    row: str | None
    columns: dict[str, str]
    params: dict[str, str]
    is_always: bool


def main() -> None:
    """Answer one request of sqlc; refuse with a message on standard error and exit code 1."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        text = generate(request)
    except QueryError as error:
        sys.exit(f"sqlc-gen-python: {error}")
    contents = base64.b64encode(text.encode()).decode()
    sys.stdout.write(msgspec.json.encode({"files": [{"name": FILE_NAME, "contents": contents}]}).decode())


def generate(request: Request) -> str:
    """The text of `_queries.py`.

    Raises QueryError for a command, type or comment without a rule.
    """
    tables = {
        table.rel.name: table
        for schema in request.catalog.schemas
        if schema.name == request.catalog.default_schema
        for table in schema.tables or ()
    }
    functions = [_function(query, tables) for query in request.queries or ()]
    rows = _shared_rows(functions)
    body = "\n\n\n".join([*(_render_row(row) for row in rows), *(_render_function(f) for f in functions)])
    return f"{_header(functions, body)}\n\n\n{body}\n"


def _function(query: Query, tables: Mapping[str, Table]) -> Function:
    directives = _directives(query)
    if not directives.prose:
        raise QueryError(f"{query.name}: write one sentence above the query")
    return Function(
        name=_snake(query.name),
        constant="_" + _snake(query.name).upper(),
        text=query.text,
        cmd=query.cmd,
        docstring=directives.prose,
        arguments=tuple(_argument(query, parameter, directives) for parameter in query.params or ()),
        result=_result(query, directives, tables) if query.cmd in (":one", ":many") else None,
        is_always=directives.is_always,
    )


def _directives(query: Query) -> _Directives:
    prose: list[str] = []
    row: str | None = None
    columns: dict[str, str] = {}
    params: dict[str, str] = {}
    is_always = False
    for comment in query.comments or ():
        line = comment.strip()
        match = _DIRECTIVE.match(line)
        if match is None:
            prose.append(line)
        elif match["column"]:
            columns[match["column"]] = match["value"].strip()
        elif match["param"]:
            params[match["param"]] = match["value"].strip()
        elif match["kind"] == "row":
            row = match["value"].strip()
        else:
            is_always = True
    return _Directives(tuple(prose), row, columns, params, is_always)


def _argument(query: Query, parameter: Parameter, directives: _Directives) -> Attribute:
    column = parameter.column
    name = _safe(column.name or f"param_{parameter.number}")
    if name in directives.params:
        return Attribute(name, directives.params[name])
    # JSON travels as text: the caller encodes with msgspec, Postgres parses.
    is_json = column.type is not None and column.type.name in ("json", "jsonb")
    return Attribute(name, _python_type(query, column, scalar="str" if is_json else None))


def _result(query: Query, directives: _Directives, tables: Mapping[str, Table]) -> Row | str:
    columns = query.columns or ()
    if not columns:
        raise QueryError(f"{query.name}: {query.cmd} needs a result column")
    names = [_safe(column.name or f"column_{index}") for index, column in enumerate(columns, 1)]
    attributes = tuple(
        Attribute(name, directives.columns.get(name) or _python_type(query, column))
        for name, column in zip(names, columns, strict=True)
    )
    if len(set(names)) < len(names):
        raise QueryError(f"{query.name}: two result columns have one name; use AS")
    table = _whole_table(columns, tables)
    if directives.row:
        return Row(directives.row, attributes, "One row of a result.")
    if table is not None and not directives.columns:
        return Row(_camel(table) + "Row", attributes, f"One row of the table {table}.")
    if len(attributes) == 1:
        return attributes[0].type
    return Row(query.name + "Row", attributes, f"One row of {_snake(query.name)}.")


def _whole_table(columns: Sequence[Column], tables: Mapping[str, Table]) -> str | None:
    names = {column.table.name if column.table else "" for column in columns}
    if len(names) != 1:
        return None
    table = tables.get(names.pop())
    if table is None or [c.name for c in table.columns] != [c.name for c in columns]:
        return None
    # An outer join makes columns optional that the table itself requires.
    is_same = all(own.not_null == found.not_null for own, found in zip(table.columns, columns, strict=True))
    return table.rel.name if is_same else None


def _python_type(query: Query, column: Column, scalar: str | None = None) -> str:
    if column.embed_table is not None and column.embed_table.name:
        raise QueryError(f"{query.name}: sqlc.embed is not supported; name the columns")
    # A view's columns carry their type with its schema.
    found = scalar or _PYTHON_TYPES.get(column.type.name.removeprefix("pg_catalog.") if column.type else "")
    if found is None:
        kind = column.type.name if column.type else "nothing"
        raise QueryError(
            f"{query.name}: no Python type for {column.name} ({kind}); cast it or add a directive"
        )
    if column.is_array:
        found = f"list[{found}]"
    return found if column.not_null else f"{found} | None"


def _shared_rows(functions: Sequence[Function]) -> list[Row]:
    rows: dict[str, Row] = {}
    for function in functions:
        if not isinstance(function.result, Row):
            continue
        known = rows.setdefault(function.result.name, function.result)
        if known.attributes != function.result.attributes:
            raise QueryError(f"{function.name}: {known.name} already has other columns")
    return list(rows.values())


def _header(functions: Sequence[Function], body: str) -> str:
    words = set(_IDENTIFIER.findall(body))
    imports: dict[str, list[str]] = {}
    for name, module in sorted(_IMPORTS.items()):
        if name in _used_types(functions):
            imports.setdefault(module, []).append(name)
    lines = ['"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""', ""]
    lines += [f"from {module} import {', '.join(names)}" for module, names in sorted(imports.items())]
    lines += ["from typing import Any", ""]
    lines += ["from msgspec import Struct"] if "Struct" in words else []
    lines += ["from psycopg import AsyncConnection, AsyncRawCursor"]
    factories = [name for name in ("args_row", "scalar_row") if name in words]
    lines += [f"from psycopg.rows import {', '.join(factories)}"] if factories else []
    return "\n".join(lines)


def _used_types(functions: Sequence[Function]) -> set[str]:
    texts: list[str] = []
    for function in functions:
        texts += [argument.type for argument in function.arguments]
        if isinstance(function.result, Row):
            texts += [attribute.type for attribute in function.result.attributes]
        elif function.result is not None:
            texts.append(function.result)
    return {word for text in texts for word in _IDENTIFIER.findall(text)}


def _render_row(row: Row) -> str:
    lines = [f"class {row.name}(Struct, frozen=True):", f'    """{row.docstring}"""', ""]
    lines += [f"    {attribute.name}: {attribute.type}" for attribute in row.attributes]
    return "\n".join(lines)


def _render_function(function: Function) -> str:
    escaped = function.text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [f'{function.constant} = """', escaped, '"""', "", "", *_signature(function)]
    first, *rest = function.docstring
    lines += [f'    """{first}', *(f"    {line}" for line in rest)]
    lines[-1] += '"""' if not rest else ""
    lines += ['    """'] if rest else []
    lines += [f"    {line}" for line in _body(function)]
    return "\n".join(lines)


def _signature(function: Function) -> list[str]:
    arguments = [f"{argument.name}: {argument.type}" for argument in function.arguments]
    head = ["conn: AsyncConnection[Any]", *(["*"] if arguments else []), *arguments]
    line = f"async def {function.name}({', '.join(head)}) -> {_return_type(function)}:"
    if len(line) <= _WIDTH:
        return [line]
    return [
        f"async def {function.name}(",
        *(f"    {argument}," for argument in head),
        f") -> {_return_type(function)}:",
    ]


def _result_name(function: Function) -> str:
    return function.result.name if isinstance(function.result, Row) else str(function.result)


def _return_type(function: Function) -> str:
    match function.cmd:
        case ":exec":
            return "None"
        case ":execrows":
            return "int"
        case ":many":
            return f"list[{_result_name(function)}]"
        case ":one":
            name = _result_name(function)
            return name if function.is_always or name.endswith("| None") else f"{name} | None"
        case other:
            raise QueryError(
                f"{function.name}: {other} is not supported; use :one, :many, :exec or :execrows"
            )


def _body(function: Function) -> Iterator[str]:
    names = ", ".join(argument.name for argument in function.arguments)
    values = f", ({names},)" if len(function.arguments) == 1 else f", ({names})" if names else ""
    factory = f"args_row({_result_name(function)})" if isinstance(function.result, Row) else "scalar_row"
    row_factory = f", row_factory={factory}" if function.result is not None else ""
    yield f"async with AsyncRawCursor(conn{row_factory}) as cursor:"
    yield f"    await cursor.execute({function.constant}{values})"
    yield from (f"    {line}" for line in _ending(function))


def _ending(function: Function) -> list[str]:
    match function.cmd:
        case ":execrows":
            return ["return cursor.rowcount"]
        case ":many":
            return [f"fetched: {_return_type(function)} = await cursor.fetchall()", "return fetched"]
        case ":one":
            fetch = "await cursor.fetchone()"
            if not function.is_always:
                return [f"fetched: {_return_type(function)} = {fetch}", "return fetched"]
            return [
                f"fetched: {_result_name(function)} | None = {fetch}",
                "if fetched is None:",
                f'    raise LookupError("{function.name} gave no row")',
                "return fetched",
            ]
        case _:
            return []


def _safe(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


if __name__ == "__main__":
    main()
