"""A workspace's model, learned apart: numpy and the points stay in a process that ends with the fit."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from eventlog import Connection
from msgspec import Struct

from services.prediction import _queries
from services.prediction.engine.recurrence import MIN_OUTCOMES, Model

log = structlog.get_logger("prediction.learning")

HISTORY: Final = timedelta(days=3 * 365)
MAX_HOURS: Final = 200_000
"""Only the latest hours with failures are learned from."""
SECONDS: Final = 600.0
_DAY: Final = 86_400.0
_WEEK: Final = timedelta(days=7)


class Past(Struct, frozen=True):
    """What the child reads: the same fields as the Past of engine.fitting, which must not be imported here."""

    events: Sequence[tuple[float, str]]
    now: float
    censored: Sequence[tuple[str, float, float]]


async def load_past(conn: Connection, workspace_id: str, *, now: datetime) -> Past | None:
    """What a model is learned from; None while there is nothing to learn."""
    rows = await _queries.list_past(
        conn, workspace_id=workspace_id, since=now - HISTORY, until=now, most=MAX_HOURS
    )
    if len(rows) < MIN_OUTCOMES or now - rows[0].first_at < _WEEK:
        return None
    prevented = await _queries.list_prevented(conn, workspace_id=workspace_id)
    events = [(_day(row.first_at), row.pattern_id) for row in rows]
    events += [(_day(row.last_at), row.pattern_id) for row in rows if row.first_at < row.last_at <= now]
    return Past(
        sorted(events),
        _day(now),
        [(row.pattern_id, _day(row.made_at), _day(row.expires_at)) for row in prevented],
    )


async def learn_apart(past: Past) -> Model | None:
    """The model, fitted by a process of its own; None when there is too little or the process fails."""
    process = await asyncio.create_subprocess_exec(
        # One thread: sums then have one order, and the same past gives the same bytes.
        *("env", "OPENBLAS_NUM_THREADS=1"),
        *(sys.executable, "-m", "services.prediction.engine.fitting"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate(msgspec.json.encode(past))
    except TimeoutError:
        log.error("model.not_fitted", errors=f"It took more than {SECONDS:.0f} s.")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.error(
            "model.not_fitted", exit_code=process.returncode, errors=errors.decode(errors="replace")[-500:]
        )
        return None
    return msgspec.json.decode(output, type=Model | None)


def _day(time: datetime) -> float:
    return time.timestamp() / _DAY
