"""Credentials, an OAuth grant and a webhook secret are planted and used: nothing but the vendor ever sees them."""

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import nats
import pytest
from nats.aio.msg import Msg
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.app import OPERATIONS
from tests.services.gateway.tenants import onboard, sign_in
from tests.services.gateway.test_connectors import files_with
from tests.services.gateway.test_workspace_erasure import messages_with, rows_with
from tests.services.ingest.failing_shop import MANIFEST

API_KEY = "plantedapikey51c0ffee7731"
CLIENT_SECRET = "plantedclientsecret9021aa"
CODE = "plantedcode77aa01bcde"
ACCESS = "plantedaccesstoken00ff31"
REFRESH = "plantedrefreshtoken17dd2"
WEBHOOK = "plantedwebhooksecret8841ff"
PLANTED = [API_KEY, CLIENT_SECRET, CODE, ACCESS, REFRESH, WEBHOOK]


class Parrot:
    """A vendor that grants tokens, refuses everything else, and says in its refusal all that it was sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.n_granted = 0
        parrot = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                heard = f"{self.path} {dict(self.headers)} {body}"
                parrot.heard.append(heard)
                if urlsplit(self.path).path == "/token":
                    parrot.n_granted += 1
                    granted = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600}
                    self._say(200, {**granted, "token_type": "Bearer"})
                else:
                    self._say(401, {"error": f"no, not with {heard}"})

            do_POST = do_GET  # noqa: N815  # the library's name

            def _say(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    made = Parrot()
    threading.Thread(target=made.http.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.http.shutdown()
    made.http.server_close()


def written(secret: str) -> list[str]:
    """How a secret could stand somewhere: as it is, in base64 at any place, in hex."""
    ways = [secret, secret.encode().hex()]
    for before in ("", "x", "xx"):
        text = b64encode(f"{before}{secret}".encode()).decode()
        # What depends on the neighbours is left out.
        ways.append(text[4 if before else 0 : len(text) // 4 * 4 - 4])
    return ways


FORMS = [way for secret in PLANTED for way in written(secret)]


def traces(text: str) -> list[str]:
    return [way for way in FORMS if way.lower() in text.lower()]


async def test_planted_secrets_are_found_nowhere(stack: Stack, parrot: Parrot) -> None:
    """On the bus, in the log, in rows, in files and service logs, on dashboards and in answers; in no usual writing."""
    tenant = await onboard(stack.database.owner_url)
    bus: list[str] = []

    async def overhear(message: Msg) -> None:
        bus.append(f"{message.subject} {message.headers} {message.data.decode(errors='replace')}")

    nc = await nats.connect(stack.nats.url)
    try:
        await nc.subscribe(">", cb=overhear)
        await nc.flush()
        answers = await asyncio.to_thread(live, stack, sign_in(stack.url, tenant.owner_email), parrot)
        await nc.flush()
    finally:
        await nc.close()
    # They were used, or there would be nothing to find.
    for secret in (API_KEY, CLIENT_SECRET, CODE, ACCESS):
        assert any(set(written(secret)) & set(traces(heard)) for heard in parrot.heard), secret
    assert any("create_connector" in text and "sealed_credentials" in text for text in bus)
    for where, text in [
        ("bus", "\n".join(bus)),
        *answers,
        *((s.name, s.output()) for s in stack.services.values()),
    ]:
        assert traces(text) == [], where
    assert await messages_with(stack, FORMS) == []
    assert await rows_with(stack, FORMS) == []
    assert files_with(FORMS, Path(stack.exports).parent) == []


def live(stack: Stack, token: str, parrot: Parrot) -> list[tuple[str, str]]:
    """Connect in every way, fail in every way, then ask for everything; the answers, by what was asked."""
    answers: list[tuple[str, str]] = []
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:

        def ask(method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
            answer = client.request(method, path, **({} if body is None else {"json": body}), **more)
            assert answer.status_code < 500, (path, answer.text)
            answers.append((f"{method} {path}", answer.text))
            return answer

        def made(auth: int, credentials: dict[str, str]) -> str:
            body = {
                "type": "custom_shop",
                "display_name": f"Parrot {auth}",
                "config": {"base_url": parrot.url},
                "auth": auth,
                "credentials": credentials,
                "manifest": MANIFEST,
            }
            answer = ask("POST", "/v1/connectors", body, headers={"Idempotency-Key": f"parrot-{auth}"})
            assert answer.status_code == 201, answer.text
            return f"/v1/connectors/{answer.json()['id']}"

        by_key, by_grant = (
            made(0, {"token": API_KEY}),
            made(1, {"client_id": "us", "client_secret": CLIENT_SECRET}),
        )
        ask("POST", f"{by_key}/test", {})
        ask("POST", f"{by_key}/sync", {})

        def begun() -> dict[str, str]:
            way = ask("POST", f"{by_grant}/oauth/start", {}).json()["authorize_url"]
            return {"state": parse_qs(urlsplit(way).query)["state"][0], "code": CODE}

        # Another browser connects nothing, is told what it would, and uses nothing up.
        given, callback = begun(), "/v1/connectors/oauth/callback"
        sent_here = httpx.get(stack.url + callback, params=given, timeout=30)
        answers.append(("callback elsewhere", sent_here.text))
        assert (sent_here.status_code, parrot.n_granted) == (403, 0)
        assert "Parrot 1" in sent_here.text
        assert ask("GET", by_grant).json()["status"] == "pending"
        finished = ask("POST", "/v1/connectors/oauth/finish", given)
        assert (finished.status_code, finished.json()["status"]) == (200, "connected")
        back = ask("GET", callback, params=begun())
        assert back.status_code == 200, back.text
        ask("POST", f"{by_grant}/test", {})
        given = client.post(f"{by_key}/webhook-secret", json={"secret": WEBHOOK})
        # Its one reader is whoever gave it.
        assert given.status_code < 300, given.text
        ask(
            "POST",
            f"/v1/webhooks/inbound/{by_key.rpartition('/')[2]}",
            {"id": 1},
            headers={"X-Secret": "wrong"},
        )

        def ended() -> bool:
            runs = client.get(f"{by_key}/sync-runs").json()["data"]
            return bool(runs) and all(run["status"] not in ("queued", "running") for run in runs)

        asyncio.run(eventually(ended))
        for operation in OPERATIONS:
            if operation.method == "GET" and operation.scope is not None:
                for path in (by_key, by_grant):
                    ask("GET", operation.path.replace("/v1/connectors/{connector_id}", path))
        for service in stack.services.values():
            for path in ("/", "/status", "/status.json", "/metrics", "/intake.json", "/ready"):
                answers.append((service.url + path, httpx.get(service.url + path, timeout=30).text))
    return answers
