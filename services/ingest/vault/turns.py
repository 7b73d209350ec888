"""Whose turn it is to hold secrets: whoever waits for another holds no connection to the database meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from runtime.errors import UnavailableError

HOLDERS_MAX: Final = 8
"""Those of one process at once; each has a connection, for as long as a vendor is asked."""
HOLDERS_PER_WORKSPACE: Final = 2


class Turns:
    """Of one process: a connector's holders one after the other, a workspace's and all in bounds."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(HOLDERS_MAX)
        # A door is there while somebody is in it or waits at it.
        self._doors: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, workspace_id: str, connector_id: str, *, seconds: float) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises UnavailableError when none comes in so many seconds."""
        mine = self._own(workspace_id, connector_id)
        doors = (mine, self._door(workspace_id, HOLDERS_PER_WORKSPACE), self._all)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(seconds):
                    for door in doors:
                        await stack.enter_async_context(door)
            except TimeoutError as error:
                raise UnavailableError("Others hold secrets of connectors; try again.") from error
            yield

    @asynccontextmanager
    async def at_once(self, workspace_id: str, connector_id: str) -> AsyncIterator[None]:
        """The connector's alone, for those who are soon done. Raises UnavailableError where another has it."""
        mine = self._own(workspace_id, connector_id)
        if mine.locked():
            raise UnavailableError("Another holds the secrets of this connector; try again.")
        async with mine:
            yield

    def _own(self, workspace_id: str, connector_id: str) -> asyncio.Semaphore:
        return self._door(f"{workspace_id}/{connector_id}", 1)

    def _door(self, name: str, room: int) -> asyncio.Semaphore:
        door = self._doors.get(name)
        if door is None:
            door = self._doors[name] = asyncio.Semaphore(room)
        return door
