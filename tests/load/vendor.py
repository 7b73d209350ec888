"""A vendor in a process of its own: `python -m tests.load.vendor`, which prints its port and serves until it is ended.

Every token has as many records as it says, and may ask as often within any 60 seconds: "100-30-a" a hundred, and thirty
times; all of them changed six hours ago. Beyond that it is answered 429. `/counts` says what was asked, by how often a
token may.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 100
SELDOM, PAGE_OF_SELDOM = 60, 2_000
"""Whoever may not be asked so often a minute is given so many records at once."""
_BEGUN = datetime.now(UTC) - timedelta(hours=6)

NOTHING = b'{"records": [], "next": null}'


def page(token: str, start: int) -> bytes:
    """One page of a token's records, about 690 bytes each as the other benchmarks' are."""
    total, per_minute = map(int, token.split("-")[:2])
    size = PAGE_OF_SELDOM if per_minute < SELDOM else PAGE
    return _page(total, start, size).replace(b"<token>", token.encode())


@lru_cache(maxsize=1024)
def _page(total: int, start: int, size: int) -> bytes:
    end = min(start + size, total)
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


class Account:
    """What one token has asked. n, n_refused: requests. most: of them within any 60 seconds, those not refused."""

    def __init__(self, token: str) -> None:
        self.per_minute = int(token.split("-")[1])
        self.n = self.n_refused = self.most = 0
        self._begun = time.monotonic()
        self._minute: deque[float] = deque()

    def note(self) -> bool:
        """One more, now; whether it is within the limit."""
        now = time.monotonic()
        while self._minute and self._minute[0] <= now - 60.0:
            self._minute.popleft()
        self.n += 1
        if len(self._minute) >= self.per_minute:
            self.n_refused += 1
            return False
        self._minute.append(now)
        self.most = max(self.most, len(self._minute))
        return True

    @property
    def a_minute(self) -> float:
        """Requests a minute since the first."""
        return self.n * 60.0 / max(1.0, time.monotonic() - self._begun)


class Asked:
    """What all tokens have asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}

    def note(self, token: str) -> bool:
        """One more, now; whether it is within the token's limit."""
        with self._lock:
            account = self._accounts.get(token)
            if account is None:
                account = self._accounts[token] = Account(token)
            return account.note()

    def counts(self) -> dict[str, dict[str, float]]:
        """By how often an account may ask within a minute: how many accounts, their requests, how many of those were
        refused, the most of one within any 60 seconds, and how many one asks a minute since its first.
        """
        with self._lock:
            alike: dict[int, list[Account]] = defaultdict(list)
            for account in self._accounts.values():
                alike[account.per_minute].append(account)
            return {
                str(per_minute): {
                    "n_accounts": len(each),
                    "n": sum(account.n for account in each),
                    "n_refused": sum(account.n_refused for account in each),
                    "most": max(account.most for account in each),
                    "a_minute": sum(account.a_minute for account in each) / len(each),
                }
                for per_minute, each in alike.items()
            }


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
        if not ASKED.note(token):
            self._send(b"{}", status=429)
            return
        query = parse_qs(urlsplit(self.path).query)
        until = datetime.fromisoformat(query["until"][0]) if "until" in query else datetime.now(UTC)
        body = page(token, int(query.get("page", ["0"])[0])) if until > _BEGUN else NOTHING
        self._send(body)

    def _send(self, body: bytes, *, status: int = 200) -> None:
        self.send_response(status)
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
