"""Waiting for a condition with a deadline, instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    predicate: Callable[[], T | Awaitable[T]], *, deadline: float = 5.0, every: float = 0.01
) -> T:
    """The first truthy value of `predicate`, which may be async; AssertionError after `deadline` seconds.

    An AssertionError inside the predicate counts as "not yet" and is shown when time runs out.
    """
    give_up_at = time.monotonic() + deadline
    last: object = None
    reason: AssertionError | None = None
    while True:
        try:
            value = predicate()
            value = await value if inspect.isawaitable(value) else value
            if value:
                return value
            last, reason = value, None
        except AssertionError as error:
            reason = error
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"not true within {deadline:g} s; last value: {last!r}") from reason
        await asyncio.sleep(every)
