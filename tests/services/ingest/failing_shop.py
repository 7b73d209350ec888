"""A vendor that a test sets up: a list of failures behind a token, page by page, and its moods."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "tok-9f27c1"

MANIFEST: dict[str, object] = {
    "type": "custom_shop",
    "name": "Shop",
    "category": "productivity_incident",
    "docs_url": "https://shop.example/docs",
    "config": [{"key": "base_url", "title": "Address"}],
    "base_url": "{config.base_url}",
    "auth": [
        {"kind": "api_key", "headers": {"Authorization": "Bearer {secret.token}"}},
        {
            "kind": "oauth2_code",
            "authorize_url": "{config.base_url}/authorize",
            "token_url": "{config.base_url}/token",
        },
    ],
    "test": {"path": "/me"},
    "rate_per_minute": 10_000,
    "streams": [
        {
            "name": "failures",
            "endpoint": {
                "path": "/failures",
                "data_selector": "failures",
                "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "page"},
                "incremental": {"cursor_path": "updated_at", "start_param": "since", "end_param": "until"},
            },
        }
    ],
    "mappings": [
        {
            "external_id": "id",
            "title": "title",
            "severity": {"path": "severity"},
            "occurred_at": "updated_at",
            "updated_at": "updated_at",
        }
    ],
}


class Shop:
    """What the vendor has and how it answers.

    held: while it is cleared, pages of failures are not answered, from held_from on. n_limited: so many pages are
    refused with 429 first. is_locked: no token is good. is_broken: it answers 500. A grant is given once and lives for
    grant_seconds.
    """

    def __init__(self) -> None:
        self.failures: list[dict[str, object]] = []
        self.page_size = 2
        self.asked: list[str] = []
        self.held = threading.Event()
        self.held.set()
        self.held_from = 0
        self.n_limited = 0
        self.is_locked = False
        self.is_broken = False
        self.n_grants = 0
        self.grant_seconds = 1
        self.url = ""

    def answer(self, path: str, query: dict[str, list[str]], token: str) -> tuple[int, object]:
        """Status and body for a request."""
        if path == "/token":
            self.n_grants += 1
            if self.n_grants > 1:
                return 400, {"error": "invalid_grant"}
            return 200, {"access_token": TOKEN, "refresh_token": "r-1", "expires_in": self.grant_seconds}
        if self.is_locked or token != f"Bearer {TOKEN}":
            return 401, {"error": "no such token"}
        if path == "/me":
            return 200, {"ok": True}
        page = query.get("page", ["0"])[0]
        self.asked.append(page)
        if int(page) >= self.held_from:
            self.held.wait(60)
        if self.is_broken:
            return 500, {"error": "broken"}
        if self.n_limited:
            self.n_limited -= 1
            return 429, {"error": "slow down"}
        since, until = (datetime.fromisoformat(query[name][0]) for name in ("since", "until"))
        found = [
            failure
            for failure in self.failures
            if since <= datetime.fromisoformat(str(failure["updated_at"])) < until
        ]
        start = int(page)
        end = start + self.page_size
        return 200, {"failures": found[start:end], "next": str(end) if end < len(found) else None}


@contextmanager
def open_shop() -> Iterator[Shop]:
    """A shop on a free port of this machine."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body = shop.answer(
                parts.path, parse_qs(parts.query), self.headers.get("Authorization", "")
            )
            self._send(status, body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._send(*shop.answer(urlsplit(self.path).path, {}, ""))

        def _send(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:  # type: ignore[override]  # nothing is said
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        shop.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield shop
        finally:
            shop.held.set()
            server.shutdown()
