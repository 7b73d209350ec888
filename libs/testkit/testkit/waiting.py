"""Waiting for a condition with a deadline, instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

from eventlog import EventLog, Projector

T = TypeVar("T")


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T]], *, deadline: float = 30.0, every: float = 0.01
) -> T: ...


@overload
async def eventually(predicate: Callable[[], T], *, deadline: float = 30.0, every: float = 0.01) -> T: ...


async def eventually(
    predicate: Callable[[], object], *, deadline: float = 30.0, every: float = 0.01
) -> object:
    """The first truthy value of `predicate`, which may be async; AssertionError after `deadline` seconds.

    An AssertionError inside the predicate counts as "not yet" and is shown when time runs out.
    """
    give_up_at = time.monotonic() + deadline
    last: object = None
    reason: AssertionError | None = None
    while True:
        try:
            value = predicate()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            last, reason = value, None
        except AssertionError as error:
            reason = error
        if time.monotonic() >= give_up_at:
            why = f"last value: {last!r}" if reason is None else f"{reason}"
            raise AssertionError(f"not true within {deadline:g} s; {why}") from reason
        await asyncio.sleep(every)


async def settled(projector: Projector, event_log: EventLog) -> None:
    """Return once the rows hold the whole log, the reaction has seen all of it, and nothing new came of it.

    What time alone brings may come later. Raises AssertionError when the projector has stopped.
    """

    async def is_quiet() -> bool:
        end = await event_log.last_seq()
        status = projector.status
        assert status.alarm is None, status.alarm
        is_at_end = status.state == "live" and min(status.position, status.reaction_position) >= end
        # What a reaction appends is in the log before its position moves, so an end that stood still is the end.
        return is_at_end and await event_log.last_seq() == end

    await eventually(is_quiet)
