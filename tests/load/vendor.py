"""A vendor in a process of its own: `python -m tests.load.vendor`, which prints its port and serves until it is ended.

Every token has as many records as it says: "100-a" a hundred; all of them changed six hours ago. `/counts` says how many
requests there were, and the most of one token within a minute.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 100
_BEGUN = datetime.now(UTC) - timedelta(hours=6)

NOTHING = b'{"records": [], "next": null}'


def page(token: str, start: int) -> bytes:
    """One page of a token's records, about 690 bytes each as the other benchmarks' are."""
    return _page(int(token.partition("-")[0]), start).replace(b"<token>", token.encode())


@lru_cache(maxsize=1024)
def _page(total: int, start: int) -> bytes:
    end = min(start + PAGE, total)
    records = [
        {
            "id": f"<token>-{number}",
            "title": f"Checkout failed with code {number % 200}",
            "body": "upstream connect error or disconnect/reset before headers. " * 8,
            "severity": "high",
            "service": f"service-{number % 20}",
            "updated_at": (_BEGUN + timedelta(milliseconds=number)).isoformat(),
        }
        for number in range(start, end)
    ]
    return json.dumps({"records": records, "next": str(end) if end < total else None}).encode()


class Asked:
    """Requests by token and second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_second: dict[str, Counter[int]] = defaultdict(Counter)

    def note(self, token: str) -> None:
        """One more, now."""
        with self._lock:
            self._by_second[token][int(time.monotonic())] += 1

    def counts(self) -> dict[str, int]:
        """All, and the most of one token within 60 seconds."""
        with self._lock:
            most = max(
                (
                    sum(n for second, n in seconds.items() if begin <= second < begin + 60)
                    for seconds in self._by_second.values()
                    for begin in seconds
                ),
                default=0,
            )
            return {"total": sum(each.total() for each in self._by_second.values()), "most": most}


ASKED = Asked()


class Handler(BaseHTTPRequestHandler):
    """Answers every request with a page."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """A page of the records of whoever signs in."""
        if self.path == "/counts":
            self._send(json.dumps(ASKED.counts()).encode())
            return
        token = self.headers["Authorization"].removeprefix("Bearer ")
        ASKED.note(token)
        query = parse_qs(urlsplit(self.path).query)
        until = datetime.fromisoformat(query["until"][0]) if "until" in query else datetime.now(UTC)
        body = page(token, int(query.get("page", ["0"])[0])) if until > _BEGUN else NOTHING
        self._send(body)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()
