"""Lines of the audit log behind what is done already: they change no answer, and are tried until they are written."""

import asyncio
from collections.abc import Mapping

import psycopg
import structlog
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError

from services.gateway.identity.people.acting import Act, Category

log = structlog.get_logger()

WAIT_SECONDS = 2.0
"""How long an answer waits for its line, so that whoever reads the log next finds it there."""
PAUSE_SECONDS = 1.0
"""Doubled after each failure: the last of ten tries is eight minutes behind the first."""
ATTEMPTS_MAX = 10
WAITING_MAX = 10_000
STOP_SECONDS = 5.0


class Scribe:
    """Writes lines while the database may be away. A process that is killed takes those that wait with it."""

    def __init__(self, people: Pool) -> None:
        self._people = people
        self._writing: set[asyncio.Task[None]] = set()

    async def note(
        self,
        act: Act,
        action: str,
        category: Category,
        target: tuple[str, str],
        metadata: Mapping[str, str | None],
    ) -> None:
        """Write a line; raises nothing. target and metadata: as `Act.write_down` takes them.

        Beyond 10,000 lines that wait, and after ten tries, the process's log has it instead.
        """
        if len(self._writing) >= WAITING_MAX:
            _note_lost(act, action, target, "too many wait")
            return
        task = asyncio.create_task(self._write(act, action, category, target, metadata))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        # Whoever goes away or runs out of time ends the wait, not the writing.
        await asyncio.wait({task}, timeout=WAIT_SECONDS)

    async def finish(self) -> None:
        """Give what waits a last moment."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=STOP_SECONDS)

    async def _write(
        self,
        act: Act,
        action: str,
        category: Category,
        target: tuple[str, str],
        metadata: Mapping[str, str | None],
    ) -> None:
        problem = ""
        for attempt in range(ATTEMPTS_MAX):
            try:
                async with tenant(self._people, act.workspace_id) as conn:
                    await act.write_down(conn, action, category, target, **metadata)
            except (psycopg.Error, UnavailableError) as error:
                problem = str(error)
                await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
            else:
                return
        _note_lost(act, action, target, problem)


def _note_lost(act: Act, action: str, target: tuple[str, str], problem: str) -> None:
    log.error(
        "audit.line_lost",
        workspace_id=act.workspace_id,
        actor=act.principal.user_id,
        action=action,
        target=target[1],
        error=problem,
    )
