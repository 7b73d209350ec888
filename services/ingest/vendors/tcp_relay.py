"""The connection of a library that reads by itself, passed through us: what comes back is counted before it has it."""

from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from socket import SHUT_RDWR, create_server, socket
from threading import Thread
from typing import Final

ACCEPT_SECONDS: Final = 10.0
"""How long the library may take to come."""

_CHUNK: Final = 64 * 1024


class Relay:
    """Where to connect to in place of a far side that is dialled already; TLS stays between the two ends.

    It ends with either side, or when the far one has sent more than `bytes_max`. port: on 127.0.0.1, for one caller.
    """

    def __init__(self, far: socket, *, bytes_max: int) -> None:
        self._far = far
        self._bytes_max = bytes_max
        self._listening = create_server(("127.0.0.1", 0), backlog=1)
        self._listening.settimeout(ACCEPT_SECONDS)
        self.port: int = self._listening.getsockname()[1]
        self.is_too_much = False
        Thread(target=self._run, name="relay", daemon=True).start()

    def _run(self) -> None:
        with self._far:
            with suppress(OSError):
                with self._listening:
                    near, _ = self._listening.accept()
                with near:
                    self._pass_on(near)
            with suppress(OSError):
                # Its descriptor has a copy, so that closing alone would end nothing.
                self._far.shutdown(SHUT_RDWR)

    def _pass_on(self, near: socket) -> None:
        n_bytes = 0
        other = {near: self._far, self._far: near}
        with DefaultSelector() as ready:
            for each in other:
                ready.register(each, EVENT_READ)
            while True:
                for key, _ in ready.select():
                    side = near if key.fileobj is near else self._far
                    if not (part := side.recv(_CHUNK)):
                        return
                    if side is self._far:
                        n_bytes += len(part)
                        if n_bytes > self._bytes_max:
                            self.is_too_much = True
                            return
                    other[side].sendall(part)
