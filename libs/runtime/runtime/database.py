"""Postgres pools, and the transaction that row-level security is bound to."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.rows import TupleRow, args_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from runtime.errors import StartError, UnavailableError

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

R = TypeVar("R")


def pool(url: str, *, schema: str, min_size: int = 1, max_size: int = 8) -> Pool:
    """A pool, not yet open, whose connections take `$1` parameters and see only `schema`.

    The caller opens it in the loop that uses it (`async with` or `await pool.open()`) and closes it.
    """
    return AsyncConnectionPool(
        url,
        kwargs={
            "options": f"-c search_path={schema}",
            "cursor_factory": AsyncRawCursor,
            "application_name": f"causeloop-{schema}",
            "connect_timeout": 5,
            # A single statement needs no BEGIN and COMMIT around it; several take `conn.transaction()`.
            "autocommit": True,
        },
        min_size=min_size,
        max_size=max_size,
        timeout=3.0,
        open=False,
        name=schema,
    )


@asynccontextmanager
async def tenant(source: Pool, workspace_id: str) -> AsyncIterator[Connection]:
    """A transaction that can see the rows of one workspace only, by row-level security.

    Raises UnavailableError when no connection comes free in time.
    """
    async with AsyncExitStack() as stack:
        yield await _begin(stack, source, workspace_id)


async def _begin(stack: AsyncExitStack, source: Pool, workspace_id: str) -> Connection:
    async def begin() -> Connection:
        async with AsyncExitStack() as attempt:
            conn = await attempt.enter_async_context(source.connection())
            # One round trip for both; the pool ends the transaction when it takes the connection back.
            both = sql.SQL("BEGIN; SET LOCAL app.current_workspace = {}").format(sql.Literal(workspace_id))
            await conn.execute(both.as_string(conn).encode())
            stack.push_async_exit(attempt.pop_all())
            return conn

    return await on_working_connection(source, begin)


@asynccontextmanager
async def within(conn: Connection, workspace_id: str) -> AsyncIterator[None]:
    """The same transaction on a connection that the caller holds. Raises psycopg.OperationalError where it is gone."""
    async with conn.transaction():
        await conn.execute("SELECT set_config('app.current_workspace', $1, true)", (workspace_id,))
        yield


async def read_rows(
    source: Pool, workspace_id: str, statement: bytes, values: Sequence[object], *, row: type[R]
) -> list[R]:
    """The rows of one statement in a `tenant` transaction of its own: one round trip instead of three.

    Raises UnavailableError like `tenant`.
    """

    async def read() -> list[R]:
        async with source.connection() as conn, conn.cursor(row_factory=args_row(row)) as cursor:
            # What is sent before a pipeline's only sync is one transaction, so the setting ends with it.
            async with conn.pipeline():
                await conn.execute("SELECT set_config('app.current_workspace', $1, true)", (workspace_id,))
                await cursor.execute(statement, values)
            return await cursor.fetchall()

    return await on_working_connection(source, read)


async def write_row(source: Pool, workspace_id: str, write: Callable[[Connection], Awaitable[None]]) -> None:
    """One statement in a `tenant` transaction of its own: one round trip instead of three.

    write: executes it and reads nothing of it; it may run twice. Raises UnavailableError like `tenant`.
    """

    async def attempt() -> None:
        async with source.connection() as conn, conn.pipeline():
            await conn.execute("SELECT set_config('app.current_workspace', $1, true)", (workspace_id,))
            await write(conn)

    await on_working_connection(source, attempt)


async def on_working_connection(source: Pool, attempt: Callable[[], Awaitable[R]]) -> R:
    """Do it again when the first connection was of before the server's restart.

    attempt: takes a connection of `source` and reads; it may run twice.
    Raises UnavailableError when no connection comes free in time, or the second fails too.
    """
    for is_last in (False, True):
        try:
            return await attempt()
        except PoolTimeout as error:
            raise UnavailableError("The database does not answer in time.") from error
        except psycopg.OperationalError as error:
            if is_last:
                raise UnavailableError("The database does not answer now.") from error
            await source.check()
    raise AssertionError("unreachable")


async def require(url: str, *, variable: str) -> None:
    """Raise StartError with what to do when the database behind `variable` cannot be used."""
    try:
        conn = await AsyncConnection.connect(url, connect_timeout=5)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1]
        raise StartError(f"Cannot reach PostgreSQL: {reason}. Is it running? Check {variable}.") from error
    await conn.close()


def is_passing(error: StartError) -> bool:
    """Whether waiting may help: the server is away or starting, rather than refusing us."""
    cause = error.__cause__
    text = str(cause).lower()
    return isinstance(cause, psycopg.OperationalError) and not any(
        word in text for word in ("password authentication", "does not exist", "no pg_hba.conf entry")
    )
