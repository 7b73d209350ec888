"""A model behind OpenAI's API on this machine: it answers what a test wants and keeps what it was asked."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

Answer = Callable[[dict[str, Any]], tuple[int, str]]
"""The user's message → status and the model's text."""


def faithful(asked: dict[str, Any]) -> tuple[int, str]:
    """A good answer, from the first and the last evidence."""
    ids = [evidence["id"] for evidence in asked["evidence"]]
    claim = {"text": "The pool is too small.", "evidence": [ids[-1]]}
    answer = {
        "root_cause": claim,
        "contributing_factors": [{"text": "It has been for long.", "evidence": [ids[0]]}],
        "why_recurring": claim,
        "confidence": 0.99,
    }
    return 200, msgspec.json.encode(answer).decode()


class ModelEndpoint:
    """requests: every decoded request. keys: the bearer tokens. answer: what is said next."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answer: Answer = faithful
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(request)
                endpoint.keys.append(self.headers.get("Authorization", ""))
                status, text = endpoint.answer(msgspec.json.decode(request["messages"][-1]["content"]))
                body = msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": text}}]})
                self.send_response(status if self.path == "/v1/chat/completions" else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
