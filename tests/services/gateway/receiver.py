"""A receiver of webhooks on this machine: it keeps what it is sent and answers what a test wants."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

import msgspec
from msgspec import Struct
from standardwebhooks import Webhook


class Received(Struct, frozen=True):
    """One call: headers in lower case, the exact body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The body, decoded."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found

    def verify(self, secret: str) -> None:
        """Raise unless the reference implementation of Standard Webhooks takes its signature."""
        Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """calls: what came, in order. status, answer: what is said next.

    tls: what it proves itself with; None: plain http.
    """

    def __init__(self, *, tls: SSLContext | None = None) -> None:
        self.calls: list[Received] = []
        self.status = 204
        self.answer = b""
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Received(self.path, headers, body))
                receiver.gate.wait(30)
                status = receiver.status
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            self.url = f"https://localhost:{self._server.server_port}"
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
