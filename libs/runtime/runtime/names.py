"""Names of hosts looked up in threads: each once at a time, and so many for one tenant, as nobody may answer for them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Final, TypeAlias

import structlog

from runtime.places import Places

log = structlog.get_logger()

Found: TypeAlias = Future[Sequence[str]]

AT_ONCE: Final = 32
OF_ONE: Final = 4
"""Names that are looked up at once, in all and for one tenant; a thread is held until the system gives a name up."""
WAITING_MAX: Final = 64
"""Look-ups that wait for one tenant."""
SLOW_SECONDS: Final = 2.0
"""A tenant whose name took longer is slow: see `runtime.places`."""


class Names:
    """Looks names up by a function that blocks for as long as it likes.

    look_up: a host's IP addresses, or an OSError, for all who have asked for that name meanwhile.
    """

    def __init__(
        self, look_up: Callable[[str], Sequence[str]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        # Not the loop's own threads: our database and broker would wait for a stranger's name that nobody answers for.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="name")
        self._lock = Lock()
        self._places = Places(AT_ONCE, each=OF_ONE, monotonic=monotonic)
        self._asked: dict[str, list[Found]] = {}
        self._waiting: dict[str, deque[tuple[str, Found]]] = {}

    def find(self, host: str, *, tenant: str = "") -> Found:
        """A host's IP addresses, to be cancelled by whoever waits no longer.

        tenant: for whom; empty: for the name itself. Ends in TimeoutError where too many of a tenant's wait already.
        """
        owner = tenant or host
        wanted: Found = Future()
        with self._lock:
            if self._begin(host, wanted, owner):
                return wanted
            waiting = deque(each for each in self._waiting.get(owner, ()) if not each[1].cancelled())
            if is_kept := len(waiting) < WAITING_MAX:
                waiting.append((host, wanted))
            self._waiting[owner] = waiting
        if not is_kept:
            wanted.set_exception(TimeoutError("too many names are looked up"))
        return wanted

    def _begin(self, host: str, wanted: Found, owner: str) -> bool:
        """Whether it is known in a while: from a look-up that goes on, whoever's it is, or from a new one."""
        asked = self._asked.get(host)
        if asked is not None:
            asked.append(wanted)
            return True
        if not self._places.may_take(owner):
            return False
        try:
            self._threads.submit(self._find, host, owner)
        except RuntimeError as error:
            # No thread can be started, or the program ends.
            wanted.set_exception(OSError(f"{host} could not be looked up: {error}"))
            return True
        self._places.take(owner)
        self._asked[host] = [wanted]
        return True

    def _find(self, host: str, owner: str) -> None:
        began = self._monotonic()
        found: Sequence[str] | OSError = OSError(f"{host} could not be looked up")
        try:
            found = self._look_up(host)
        except OSError as error:
            found = error
        finally:
            self._end(host, owner, found, is_slow=self._monotonic() - began > SLOW_SECONDS)

    def _end(self, host: str, owner: str, found: Sequence[str] | OSError, *, is_slow: bool) -> None:
        with self._lock:
            asked = self._asked.pop(host)
            self._places.give_back(owner)
            # A name of nobody's in particular, such as our own provider's, shares with no stranger.
            if is_slow and owner != host:
                self._places.note_slow(owner)
        if is_slow:
            log.warning("name.found_late", host=host, owner=owner)
        for wanted in asked:
            if not wanted.set_running_or_notify_cancel():
                continue
            if isinstance(found, OSError):
                wanted.set_exception(found)
            else:
                wanted.set_result(found)
        with self._lock:
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Look up what waits and may be; whoever had a turn comes last the next time."""
        for owner in tuple(self._waiting):
            waiting = self._waiting[owner]
            n_before = len(waiting)
            while waiting and (waiting[0][1].cancelled() or self._begin(*waiting[0], owner)):
                waiting.popleft()
            if len(waiting) < n_before:
                del self._waiting[owner]
                if waiting:
                    self._waiting[owner] = waiting
