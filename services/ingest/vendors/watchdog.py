"""Hangs connections up when their time is over, from another thread than the one that waits at them.

A time limit of a socket is for one read; whoever sends a byte now and then, or nothing to a library that waits without
end, would keep a thread for good.
"""

import os
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from typing import Final

from services.ingest.errors import VendorError

ANSWER_SECONDS: Final = 90.0
"""For a whole page of a database, from the look-up of the name to the last byte."""


class Watchdog:
    """Of the connections of one session, which asks one thing at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, socket] = {}
        self._is_over = False
        self._late = threading.Event()

    def hold(self, place: Hashable, descriptor: int) -> None:
        """Have a connection to a place; an earlier one to the same place is no longer in use."""
        # A copy of the descriptor: TLS takes the socket from whoever has dialled.
        held = socket(fileno=os.dup(descriptor))
        with self._lock:
            if (earlier := self._held.pop(place, None)) is not None:
                earlier.close()
            self._held[place] = held
        if self._is_over or self._late.is_set():
            self._shut()

    @contextmanager
    def within(self, seconds: float, host: str) -> Iterator[None]:
        """Ask something in the block; it fails after so many seconds, whatever the host sends. Raises VendorError."""
        self._late = late = threading.Event()
        timer = threading.Timer(seconds, self._hang_up, (late,))
        timer.daemon = True
        if not self._is_over:
            timer.start()
        try:
            self._go_on(late, host)
            yield
        finally:
            timer.cancel()
            # What ends with its connection can look like a whole answer.
            self._go_on(late, host)

    def end(self) -> None:
        """What is asked fails at once, and so does everything from now on; for any thread."""
        self._is_over = True
        self._shut()

    def _go_on(self, late: threading.Event, host: str) -> None:
        if late.is_set() or self._is_over:
            raise VendorError("unreachable", f"{host} did not end its answer in time")

    def _hang_up(self, late: threading.Event) -> None:
        late.set()
        self._shut()

    def _shut(self) -> None:
        with self._lock:
            for held in self._held.values():
                with suppress(OSError):
                    held.shutdown(SHUT_RDWR)
                held.close()
            self._held.clear()
