"""A service with every part: projection, reaction, endpoints, a route, hooks and a background task."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime

from contracts import Event, Recorded, ingest
from eventlog import Connection, Projection
from litestar import get
from msgspec import Struct
from runtime import serving
from runtime.broker import CommandContext, Endpoint
from runtime.database import tenant
from runtime.process import main
from runtime.service import Resources, Service
from runtime.settings import ServiceSettings

SCHEMA_SQL = """
CREATE TABLE titles (workspace_id text NOT NULL, issue_id text NOT NULL, title text NOT NULL, PRIMARY KEY (workspace_id, issue_id));
"""


class Settings(ServiceSettings, frozen=True, kw_only=True):
    crash_in_background: bool = False
    hangs_at_stop: bool = False
    greeting: str = "hello"


class Count(Struct, frozen=True):
    pass


class Counted(Struct, frozen=True):
    titles: int
    observed: int


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    for event in batch:
        if isinstance(event.data, ingest.IssueReported):
            if event.data.title == "poison":
                raise ValueError("this title cannot be applied")
            await conn.execute(
                "INSERT INTO titles VALUES ($1, $2, $3) ON CONFLICT (workspace_id, issue_id) DO UPDATE SET title = $3",
                (event.workspace_id, event.data.issue_id, event.data.title),
            )


class Counting:
    def __init__(self) -> None:
        self.observed = 0

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        self.observed = 0

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        self.observed += len(batch)

    async def tick(self, *, now: datetime) -> None:
        pass


def build(settings: Settings, resources: Resources) -> Service:
    pool = resources.pool("sample")
    counting = Counting()

    async def count(_: Count, context: CommandContext) -> Counted:
        async with tenant(pool, context.workspace_id) as conn:
            row = await (await conn.execute("SELECT count(*) FROM titles")).fetchone()
        assert row is not None
        return Counted(titles=row[0], observed=counting.observed)

    @get("/titles/{workspace_id:str}", sync_to_thread=False)
    async def titles(workspace_id: str) -> list[str]:
        async with tenant(pool, workspace_id) as conn:
            cursor = await conn.execute("SELECT title FROM titles ORDER BY title LIMIT 100")
            return [title for (title,) in await cursor.fetchall()]

    @get("/slow", sync_to_thread=False)
    async def slow() -> str:
        print("slow.begun", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)
        return "done"

    async def background() -> None:
        if settings.crash_in_background:
            raise RuntimeError("the background task broke")
        await asyncio.Event().wait()

    async def hang() -> None:
        if settings.hangs_at_stop:
            serving.STOP_DEADLINE_SECONDS = 0.2
            await asyncio.Event().wait()

    async def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    return Service(
        name="sample",
        projection=Projection("sample", ("issue",), project, SCHEMA_SQL),
        reaction=lambda partition: counting,
        endpoints=[Endpoint("sample.count", Count, count)],
        endpoints_on_leader=[Endpoint("sample.count_on_leader", Count, count)],
        routes=[titles, slow],
        on_start=[lambda: say("hook.started")],
        on_stop=[lambda: say("hook.stopped"), hang],
        background=[background],
    )


if __name__ == "__main__":
    main("sample", build, settings=Settings)
