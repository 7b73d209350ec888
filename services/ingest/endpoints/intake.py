"""What came in lately, for operators: counts from this service's own rows."""

from collections.abc import Callable
from datetime import datetime, timedelta

from litestar import get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from runtime.database import Pool

from services.ingest import _queries

DAYS = 7
ROWS_MAX = 500


class Intake(Struct, frozen=True):
    """What came in during the last days, over all workspaces."""

    days: int
    sources: list[_queries.SourceIntake]
    changes: list[_queries.ChangeIntake]


def intake_route(pool: Pool, *, clock: Callable[[], datetime]) -> HTTPRouteHandler:
    """The handler of GET /intake.json on ingest's own port; `pool` sees the rows of all workspaces."""

    @get("/intake.json", summary="What came in lately, by source")
    async def intake() -> Intake:
        since = (clock() - timedelta(days=DAYS)).date()
        async with pool.connection() as conn:
            sources = await _queries.list_sources(conn, since=since, row_limit=ROWS_MAX)
            changes = await _queries.list_changes(conn, since=since, row_limit=ROWS_MAX)
        return Intake(DAYS, sources, changes)

    return intake
