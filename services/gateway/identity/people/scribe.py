"""Lines of the audit log about what other services do: named before the deed, written behind it, whoever is killed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec
import psycopg
import structlog
from msgspec import Struct
from psycopg_pool import PoolTimeout
from runtime.database import Connection, Pool, write_row
from runtime.errors import AppError, UnavailableError

from services.gateway.identity.people import _queries
from services.gateway.identity.people.acting import Act, Category

log = structlog.get_logger()

Outcome: TypeAlias = Literal["done", "refused", "unknown"]


class Ending(Struct):
    """How a deed ended that raised nothing, as whoever does it says.

    outcome: refused where nothing came of it. target: what it made, in place of what it was named with.
    metadata: what nobody knew before, such as the id of a run; ids, counts and words, never a secret.
    """

    outcome: Outcome = "done"
    target: tuple[str, str] | None = None
    metadata: dict[str, str] = {}


WAIT_SECONDS: Final = 2.0
"""How long an answer waits for its line, so that whoever reads the log next finds it there."""
PAUSE_SECONDS: Final = 1.0
"""Doubled after each failure: the last of seven tries is a minute behind the first."""
ATTEMPTS_MAX: Final = 7
WAITING_MAX: Final = 10_000
STOP_SECONDS: Final = 5.0
LEFT_AFTER: Final = timedelta(minutes=15)
"""Longer than a request and all tries to write its line take as a rule, so whose deed is as old has died."""
LOOK_SECONDS: Final = 60.0


class Scribe:
    """Writes one line per deed, exactly; of a deed whose process died another process writes it."""

    def __init__(self, people: Pool, *, clock: Callable[[], datetime]) -> None:
        self._people = people
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def deed(
        self,
        act: Act,
        action: str,
        category: Category,
        target: tuple[str, str],
        metadata: Mapping[str, str | None],
    ) -> AsyncIterator[Ending]:
        """Write down what is done inside, unless it raises a refusal or says that it is one; a line that has to wait changes no answer.

        Of what fails at our end, or is never ended, the line says `outcome: unknown`: it may have come behind the deed.
        target and metadata: as `Act.write_down` takes them.
        Raises UnavailableError, and nothing is done, when the deed cannot be named first.
        """
        intent_id = secrets.token_hex(16)

        async def name(conn: Connection) -> None:
            await _queries.insert_intent(
                conn,
                workspace_id=act.workspace_id,
                intent_id=intent_id,
                begun_at=self._clock(),
                actor_id=act.principal.user_id,
                action=action,
                category=category,
                target_type=target[0],
                target_id=target[1],
                metadata=msgspec.json.encode(metadata).decode(),
                ip=act.ip or None,
            )

        try:
            await write_row(self._people, act.workspace_id, name)
        except psycopg.Error as error:
            raise UnavailableError("The audit log cannot be written now, so nothing was done.") from error
        ending = Ending()
        try:
            yield ending
        except BaseException as error:
            is_refused = isinstance(error, AppError) and error.status < 500
            ending.outcome = "refused" if is_refused else "unknown"
            await self._end(act.workspace_id, intent_id, ending)
            raise
        await self._end(act.workspace_id, intent_id, ending)

    async def run(self) -> None:
        """Write the lines of processes that died, now and then, until cancelled."""
        while True:
            await self.close_left()
            await asyncio.sleep(LOOK_SECONDS)

    async def close_left(self) -> None:
        """Write the lines of deeds, of all workspaces, that began `LEFT_AFTER` ago and have not ended."""
        before = self._clock() - LEFT_AFTER
        try:
            async with self._people.connection() as conn:
                while await _queries.close_left_intent(conn, before=before):
                    log.warning("audit.deed_left")
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("audit.look_failed", error=str(error))

    async def finish(self) -> None:
        """Give what waits a last moment."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=STOP_SECONDS)

    async def _end(self, workspace_id: str, intent_id: str, ending: Ending) -> None:
        """Turn the intent into its line, or strike it; what cannot be done now is tried again, then left."""
        if len(self._writing) >= WAITING_MAX:
            return

        async def end(conn: Connection) -> None:
            if ending.outcome == "refused":
                await _queries.delete_intent(conn, workspace_id=workspace_id, intent_id=intent_id)
                return
            said = {"outcome": "unknown"} if ending.outcome == "unknown" else {}
            target_type, target_id = ending.target or (None, None)
            await _queries.close_intent(
                conn,
                workspace_id=workspace_id,
                intent_id=intent_id,
                target_type=target_type,
                target_id=target_id,
                outcome=msgspec.json.encode(ending.metadata | said).decode(),
            )

        async def patiently() -> None:
            for attempt in range(ATTEMPTS_MAX):
                try:
                    await write_row(self._people, workspace_id, end)
                except (psycopg.Error, UnavailableError) as error:
                    log.warning("audit.line_waits", workspace_id=workspace_id, error=str(error))
                    await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
                else:
                    return

        task = asyncio.create_task(patiently())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        # Whoever goes away or runs out of time ends the wait, not the writing.
        await asyncio.wait({task}, timeout=WAIT_SECONDS)
