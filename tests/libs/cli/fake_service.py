"""A stand-in for a service process: answers what `up` asks, and nothing else."""

import http.server
import json
import os
import signal
import sys
from typing import Any


class Answers(http.server.BaseHTTPRequestHandler):
    """The few addresses that `up` and the demo call; the first token is asked for while it is busy."""

    is_busy = True

    def do_GET(self) -> None:
        self._send(200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/auth/exchange" and Answers.is_busy:
            Answers.is_busy = False
            self._send(503, {})
        elif self.path == "/v1/auth/exchange":
            self._send(200, {"access_token": "a.b.c", "workspace_id": "ws_1", "expires_in": 60})
        elif self.path == "/v1/die":
            os._exit(7)
        else:
            self._send(202, {"accepted": 0, "rejected": []})

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("serving on", os.environ["PORT"], flush=True)
    if os.environ.get("FAKE_FAILURE") and os.environ["PORT"].endswith(os.environ["FAKE_FAILURE"]):
        sys.exit("cannot serve: made to fail")
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()
