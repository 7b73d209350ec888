"""What becomes of a request when the log does not answer."""

from collections.abc import Awaitable
from typing import TypeVar

import structlog
from eventlog import AppendRefusedError, LogUnavailableError

from services.ingest.errors import LogUnreachableError

T = TypeVar("T")

log = structlog.get_logger()


async def or_unreachable(answer: Awaitable[T]) -> T:
    """The answer, or a refusal that tells the caller to send the same again."""
    try:
        return await answer
    except (LogUnavailableError, AppendRefusedError) as error:
        log.warning("append.failed", error=str(error))
        raise LogUnreachableError from error
