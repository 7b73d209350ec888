"""Connectors over HTTP: secrets go in and never come out, the plan's limit holds, runs and tickets are shown."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from unittest.mock import AsyncMock, MagicMock

import httpx
import msgspec
import pytest
from runtime.errors import StateConflictError
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.routes import connector_limit, sync_runs
from services.gateway.routes.connector_access import is_proof, proof_of
from services.gateway.routes.connector_limit import CONNECTORS_MAX
from tests.libs.cli.in_process import causeloop
from tests.services.gateway.tenants import Tenant, execute, join, onboard, sign_in

KEY = "u+never-to-be-seen-again-9241"
CHANGED_BY_RUNS = {
    "status",
    "health",
    "status_reason",
    "status_detail",
    "status_changed_at",
    "last_run",
    "updated_at",
}
"""What a run changes of a connector. Unless a schedule is given, the first begins within a minute of its credentials."""


def entered(stack: Stack, tenant: Tenant, email: str | None = None) -> httpx.Client:
    token = sign_in(stack.url, email or tenant.owner_email)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=60)


def connect(client: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {
        "type": "alertmanager",
        "display_name": "Ops",
        "config": {"host": "10.0.0.1:9"},
        "auth": 2,
        "credentials": {"token": KEY},
        **more,
    }
    made = client.post("/v1/connectors", json=body, headers={"Idempotency-Key": f"{body['display_name']}-1"})
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = made.json()
    return shown


def files_with(secrets: Sequence[str], folder: Path) -> list[Path]:
    """Files that hold a secret; what PostgreSQL and NATS take away while they are looked through holds none."""
    found: list[Path] = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                content = path.read_bytes() if path.is_file() else b""
                if any(secret.encode() in content for secret in secrets):
                    found.append(path)
    return found


def test_a_connectors_credentials_go_to_ingest_and_are_never_seen_again(stack: Stack) -> None:
    """Not in an answer, a list, the audit log, a log line, the kept answers of idempotency or the log of events."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    with entered(stack, tenant) as client:
        made = connect(client)
        assert {key: made[key] for key in ("type", "status", "health", "secrets")} == {
            "type": "alertmanager",
            "status": "pending",
            "health": "pending",
            "secrets": ["token"],
        }
        assert made["schedule"] == {"poll_interval_seconds": 1800, "cron": None, "timezone": "UTC"}
        assert made["inbound_url"].endswith(f"/v1/webhooks/inbound/{made['id']}")
        [listed] = client.get("/v1/connectors").json()["data"]
        assert listed.keys() == made.keys()
        assert {field for field in made if listed[field] != made[field]} <= CHANGED_BY_RUNS
        refused = client.post(
            "/v1/connectors", json={"type": "alertmanager", "credentials": {"token": [KEY]}}
        )
        assert refused.status_code == 400
        audit = client.get("/v1/audit").json()["data"]
        [entry] = [entry for entry in audit if entry["action"] == "connector.created"]
        assert entry["metadata"] == {"type": "alertmanager", "secrets": "token"}
        for text in (refused.text, str(listed), str(audit)):
            assert KEY not in text
    [(kept,)] = asyncio.run(
        execute(
            stack.database.admin_url,
            "SELECT string_agg(k::text, '') FROM identity.idempotency_keys AS k WHERE workspace_id = %s",
            tenant.workspace_id,
        )
    )
    assert KEY not in kept
    assert files_with([KEY], Path(stack.exports).parent) == []


def test_the_plans_limit_holds_whoever_asks_at_once(stack: Stack) -> None:
    """Ten at the same time get three connectors, and a refusal that names the limit; a deleted one makes room."""
    tenant = asyncio.run(onboard(stack.database.owner_url, plan="free"))
    with entered(stack, tenant) as client:

        def ask(number: int) -> httpx.Response:
            return client.post("/v1/connectors", json={"type": "custom_api", "display_name": f"C{number}"})

        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(ask, range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [422] * 7
        error = next(answer for answer in answers if answer.status_code == 422).json()["error"]
        assert (error["code"], error["details"]) == (
            "plan_limit",
            {"limit": "connectors", "plan": "free", "allowed": "3", "used": "3"},
        )
        first = next(answer for answer in answers if answer.status_code == 201).json()
        assert client.delete(f"/v1/connectors/{first['id']}").status_code == 204
        assert client.get(f"/v1/connectors/{first['id']}").status_code == 404
        assert ask(11).status_code == 201
        onboarding = client.get("/v1/onboarding").json()
        assert onboarding["connectors_connected"] == 3
        assert "connect_source" in onboarding["completed_steps"]


async def test_no_plan_has_more_than_five_hundred_whoever_asks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor is anybody counted out of turn where a plan names no limit."""
    lock, n_made = asyncio.Lock(), CONNECTORS_MAX - 1

    async def counted(*_: object, **__: object) -> MagicMock:
        return MagicMock(n_connectors=n_made)

    monkeypatch.setattr(connector_limit, "tenant", MagicMock())
    monkeypatch.setattr(
        connector_limit.tenancy, "get_plan", AsyncMock(return_value=MagicMock(connectors=None))
    )
    monkeypatch.setattr(connector_limit._queries, "count_connectors", counted)
    gateway = MagicMock()
    gateway.once.alone = lambda *_, **__: lock
    gateway.resources.event_log.last_seq = gateway.resources.reached = AsyncMock(return_value=True)

    async def make() -> None:
        nonlocal n_made
        async with connector_limit.room_for_one(gateway, MagicMock()):
            await asyncio.sleep(0)
            n_made += 1

    made = await asyncio.gather(*(make() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in made] == [type(None), StateConflictError, StateConflictError]
    assert n_made == CONNECTORS_MAX


def test_a_run_that_succeeded_has_done_all_of_its_stretches() -> None:
    """Only a backfill says so of each; of one that failed it is known no further than it told."""
    counts = dict.fromkeys(("records", "created", "updated", "unchanged", "ignored", "rejected"), 0)
    row = sync_runs.SyncRunRow(
        run_id="syn_1",
        connector_id="con_1",
        seq=1,
        kind="manual",
        status="succeeded",
        window_start=None,
        window_end=None,
        requested_by=None,
        requested_at=datetime(2026, 11, 1, tzinfo=UTC),
        started_at=None,
        ended_at=None,
        n_chunks_done=0,
        n_chunks=5,
        reason="",
        detail="",
        **{f"n_{name}": n for name, n in counts.items()},
    )
    assert sync_runs.present(row).chunks_done == 5
    assert sync_runs.present(msgspec.structs.replace(row, status="failed")).chunks_done == 0


def test_analysts_connect_and_run_and_admins_decide(stack: Stack) -> None:
    """A viewer looks, an analyst adds and runs; credentials, schedule and the end are an admin's."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    viewer, analyst = (
        asyncio.run(join(stack.database.owner_url, tenant, role))[1] for role in ("viewer", "analyst")
    )
    with entered(stack, tenant, analyst) as client:
        # So seldom that the run below is the only one.
        path = f"/v1/connectors/{connect(client, schedule={'cron': '0 0 1 1 *'})['id']}"
        begun = client.post(f"{path}/sync")
        assert begun.status_code == 202
        location = begun.json()["location"]

        def ended() -> Any:
            run = client.get(location).json()
            return run if run["ended_at"] is not None else None

        run = asyncio.run(eventually(ended))
        assert (run["sync_run_id"], run["status"]) == (begun.json()["sync_run_id"], "error")
        assert run["error_code"] == "address_refused"
        assert client.get(f"{path}/sync-runs", params={"status": "error"}).json()["data"] == [run]
        assert client.post(f"{location}/cancel").status_code == 409
        assert client.post(f"{path}/test").json()["success"] is False
        backwards = {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
        assert client.post(f"{path}/backfill", json=backwards).status_code == 422
        for method, below in (
            ("PATCH", ""),
            ("PUT", "/schedule"),
            ("DELETE", ""),
            ("POST", "/webhook-secret"),
        ):
            assert client.request(method, f"{path}{below}", json={}).status_code == 403
    with entered(stack, tenant, viewer) as client:
        assert client.get(path).status_code == 200
        catalog = "/v1/connector-catalog"
        assert client.get(f"{catalog}/pagerduty").json()["oauth"] is True
        page = client.get(catalog, params={"limit": 60, "is_tracker": False}).json()["page"]
        rest = client.get(
            catalog, params={"limit": 100, "is_tracker": False, "cursor": page["next_cursor"]}
        ).json()
        assert page["has_more"]
        assert 60 + len(rest["data"]) == page["total"]
        assert client.post(f"{path}/sync").status_code == 403
    with entered(stack, tenant) as client:
        nightly = {"cron": "0 6 * * 1-5", "timezone": "Europe/Zurich"}
        set_ = client.put(f"{path}/schedule", json=nightly)
        assert set_.json()["schedule"] == {**nightly, "poll_interval_seconds": None}
        assert client.put(f"{path}/schedule", json={"cron": "never"}).status_code == 422
        # The same name as beside it, in POST and PATCH.
        often = client.put(f"{path}/schedule", json={"poll_interval_seconds": 600}).json()
        assert (often["poll_interval_seconds"], often["schedule"]["poll_interval_seconds"]) == (600, 600)
        stale = client.patch(path, json={"display_name": "X"}, headers={"If-Match": '"stale"'})
        assert stale.status_code == 412
        moved = client.patch(path, json={"config": {"host": "elsewhere.invalid:1"}})
        assert (moved.status_code, moved.json()["error"]["code"]) == (422, "connector_refused")
        assert client.delete(f"{path}/schedule").json()["schedule"] is None
        given = client.post(f"{path}/webhook-secret", json={"secret": "made by the vendor"}).json()
        assert given["secret"] == "made by the vendor"


@pytest.mark.parametrize("query", ["", "?state=oast_x&code=1", "?code=1"])
def test_a_return_that_is_none_gets_a_page_that_says_so(stack: Stack, query: str) -> None:
    """Whoever comes without a state of ours is told how to begin; nothing is asked of anybody."""
    answer = httpx.get(f"{stack.url}/v1/connectors/oauth/callback{query}", timeout=30)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "no answer to a sign-in of ours" in answer.text


def test_sign_in_of_another_workspace_is_finished_by_nobody_here(api: httpx.Client) -> None:
    """A code that was talked out of somebody is good for nothing in the workspace of whoever holds it."""
    state = f"oast_ws_{'0' * 26}.con_{'0' * 26}.{'x' * 43}"
    refused = api.post("/v1/connectors/oauth/finish", json={"state": state, "code": "1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert is_proof("secret", state, proof_of("secret", state))
    assert not is_proof("secret", state, proof_of("secret", state.replace("x", "y")))
    assert not is_proof("secret", state, "")


def test_the_command_line_looks_after_a_connector(stack: Stack, tmp_path: Path) -> None:
    """Added with a file of credentials, listed, paused, resumed, given a secret, deleted: each says what it did."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    token = sign_in(stack.url, tenant.owner_email)
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode({"token": KEY}))

    def ran(*arguments: str, code: int = 0) -> str:
        shown = causeloop(
            "connectors", *arguments, cwd=tmp_path, CAUSELOOP_URL=stack.url, CAUSELOOP_TOKEN=token
        )
        assert shown.returncode == code, shown.stderr
        return shown.stdout

    config = ("--config", "host=10.0.0.1:9")
    file = ("--credentials", "secrets.json", "--json")
    made = msgspec.json.decode(ran("add", "alertmanager", "--name", "CLI", "--auth", "2", *config, *file))
    assert made["status"] == "pending"
    # Its first run would begin within a minute, and change what is shown below.
    with entered(stack, tenant) as client:
        assert client.delete(f"/v1/connectors/{made['id']}/schedule").json()["schedule"] is None
    listed = ran("list")
    assert made["id"] in listed
    assert "CLI" in listed
    assert "paused" in ran("pause", made["id"])
    assert "pending" in ran("resume", made["id"])
    assert "whsec_" in ran("secret", made["id"])
    assert msgspec.json.decode(ran("runs", made["id"], "--json")) == []
    assert msgspec.json.decode(ran("dead-letters", made["id"], "--json")) == []
    ran("add", "pagerduty", "--config", "region", code=2)
    assert "Other: pending" in ran("change", made["id"], "--name", "Other", "--credentials", "secrets.json")
    ran("change", made["id"], code=2)
    assert "its issues stay" in ran("delete", made["id"], "--yes")
    assert made["id"] not in ran("list")


def test_a_better_manifest_is_tried_and_then_saved_on_the_command_line(stack: Stack, tmp_path: Path) -> None:
    """One of another type is refused with its place; a mapping that is not JSON with what it has to be."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    given = {"CAUSELOOP_URL": stack.url, "CAUSELOOP_TOKEN": sign_in(stack.url, tenant.owner_email)}

    def ran(*arguments: str, code: int = 0) -> str:
        shown = causeloop("connectors", *arguments, cwd=tmp_path, **given)
        assert shown.returncode == code, shown.stderr
        return shown.stdout + shown.stderr

    text = (
        "{type: custom_mill, name: Mill, category: data, docs_url: https://example.com, auth: [{kind: none}],\n"
        "mappings: [{external_id: id, title: what}]}\n"
    )
    (tmp_path / "custom_mill.yaml").write_text(text)
    (tmp_path / "custom_wind.yaml").write_text(text.replace("mill", "wind"))
    (tmp_path / "mapping.json").write_text('{"title": "why"}')
    mill = msgspec.json.decode(ran("add", "custom_mill.yaml", "--json"))["id"]
    tried = ran("remap", mill, "--preview", "--manifest", "custom_mill.yaml", "--mapping", "mapping.json")
    assert "Of 0 kept records that were tried" in tried
    refused = ran("remap", mill, "--preview", "--manifest", "custom_wind.yaml", code=1)
    assert "manifest.type: is not the connector's type, custom_mill" in refused
    assert "belong together" in ran("remap", mill, "--preview", code=2)
    saved = msgspec.json.decode(ran("change", mill, "--mapping", "mapping.json", "--json"))
    assert saved["id"] == mill
    assert "is not the connector's type" in ran("change", mill, "--manifest", "custom_wind.yaml", code=1)
    assert "object of texts" in ran("change", mill, "--mapping", "custom_mill.yaml", code=2)


def test_a_mapping_is_tried_before_it_is_saved(api: httpx.Client) -> None:
    """Without one the records are rejected, with field and reason; with one they are issues; nothing is kept."""
    records = [{"nr": 7, "what": "Ledger is down", "how_bad": "high", "who": "payments"}]
    body: dict[str, Any] = {"type": "custom_api", "records": records}
    rejected = api.post("/v1/connectors/preview", json=body).json()
    assert (rejected["records"], rejected["mapped"]) == (1, 0)
    assert rejected["data"][0]["reason"]
    body["mapping"] = {
        "external_id": "to_string(nr)",
        "title": "what",
        "severity": "how_bad",
        "team": "who",
    }
    [mapped] = api.post("/v1/connectors/preview", json=body).json()["data"]
    assert {key: mapped["issue"][key] for key in ("external_id", "title", "severity", "team")} == {
        "external_id": "7",
        "title": "Ledger is down",
        "severity": "p2",
        "team": "payments",
    }
    body["mapping"] = {"title": "what("}
    refused = api.post("/v1/connectors/preview", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "connector_refused")


def test_a_delivery_is_tried_as_it_would_be_taken_in(api: httpx.Client) -> None:
    """By its event and data path; a body is no record by itself, and an event that is not followed brings nothing."""
    issue = {
        "id": 7,
        "number": 7,
        "title": "Ledger is down",
        "state": "open",
        "html_url": "https://github.com/acme/shop/issues/7",
    }
    delivery = {
        "type": "github",
        "is_delivery": True,
        "records": {"action": "opened", "issue": issue, "repository": {"full_name": "acme/shop"}},
        "headers": {"X-GitHub-Event": "issues"},
    }
    [mapped] = api.post("/v1/connectors/preview", json=delivery).json()["data"]
    assert mapped["issue"]["title"] == "Ledger is down"
    other = {**delivery, "headers": {"x-github-event": "star"}}
    assert api.post("/v1/connectors/preview", json=other).json()["records"] == 0
    refused = api.post("/v1/connectors/preview", json={**delivery, "type": "bigquery"})
    assert refused.json()["error"]["details"].keys() == {"is_delivery"}


class Tracker(BaseHTTPRequestHandler):
    """GitHub, as far as a ticket needs it. made: the bodies of the issues that were asked for."""

    made: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        none = {"items": [], "total_count": 0, "workflow_runs": []}
        self._answer(200, none if "/search/" in self.path or "/actions/" in self.path else [])

    def do_POST(self) -> None:
        self.made.append(msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"]))))
        issue = {"number": 12, "html_url": "https://github.example/acme/shop/issues/12", "state": "open"}
        self._answer(201, issue)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self, status: int, body: Any) -> None:
        content = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_a_recommendation_becomes_one_ticket_however_often_it_is_pushed(stack: Stack) -> None:
    """Made with what to do as a list to tick; pushed again it is the same one, and the recommendation shows it."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    tracker = ThreadingHTTPServer(("127.0.0.1", 0), Tracker)
    Thread(target=tracker.serve_forever, daemon=True).start()
    try:
        with entered(stack, tenant) as client:
            report = {"title": "connection pool exhausted", "source": "datadog", "service": "ledger"}
            batch = [{**report, "external_id": str(n), "error_type": "PoolTimeout"} for n in range(6)]
            assert client.post("/v1/ingest/batch", json={"records": batch}).status_code == 202
            address = f"http://127.0.0.1:{tracker.server_port}"
            config = {"owner": "acme", "repo": "shop", "base_url": address}
            github = {"type": "github", "config": config, "credentials": {"token": KEY}}
            made = client.post("/v1/connectors", json=github).json()
            tested = client.post(f"/v1/connectors/{made['id']}/test").json()
            assert (tested["success"], tested["status"]) == (True, "connected"), tested
            asked = "/v1/recommendations"
            [first, *_] = asyncio.run(eventually(lambda: client.get(asked).json()["data"]))
            path = f"{asked}/{first['id']}"
            assert client.post(f"{path}/push", json={}).status_code == 422
            assert client.post(f"{path}/push", json={"tracker": "jira"}).status_code == 404
            pushed = client.post(f"{path}/push", json={"tracker": "github"})
            again = client.post(f"{path}/push", json={"connector_id": made["id"]})
            assert (pushed.status_code, again.status_code) == (201, 200), (pushed.text, again.text)
            assert pushed.json() == again.json()
            assert (pushed.json()["external_id"], pushed.json()["state"]) == ("12", "open")
            assert client.get(path).json()["tickets"] == [pushed.json()]
    finally:
        tracker.shutdown()
        tracker.server_close()
    [body] = Tracker.made
    assert body["title"].startswith(first["title"])
    assert f"- [ ] **{first['steps'][0]['title']}**" in body["body"]
