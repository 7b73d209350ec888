"""Waiting for a condition with a deadline, instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

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
