import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import psycopg
import pytest
import structlog
from eventlog import ConflictError, LogUnavailableError, ProjectorStatus
from litestar import get, post
from litestar.exceptions import NotAuthorizedException
from litestar.testing import TestClient
from msgspec import Meta, Struct
from psycopg_pool import PoolTimeout
from runtime import logs, metrics
from runtime.errors import AppError, NotFoundError, UnavailableError
from runtime.health import ServiceStatus
from runtime.http import build_app, dashboard_page

RAISED: dict[str, Exception] = {
    "app": NotFoundError("No such issue.", details={"id": "iss_1"}),
    "busy": UnavailableError("Later, please.", retry_after=3.0),
    "conflict": ConflictError("issue/iss_1", 1),
    "log": LogUnavailableError("no answer"),
    "pool": PoolTimeout("none free"),
    "database": psycopg.OperationalError("gone"),
    "bug": RuntimeError("a secret"),
    "order": psycopg.errors.ForeignKeyViolation("a row before the one that it hangs on"),
    "login": NotAuthorizedException("No token."),
}


class Item(Struct, forbid_unknown_fields=True):
    number: int
    title: Annotated[str, Meta(min_length=1)]


class Items(Struct, forbid_unknown_fields=True):
    items: list[Item]


@post("/items")
async def create(data: Items, limit: int = 5) -> dict[str, int]:
    return {"n": len(data.items)}


@get("/raise/{name:str}")
async def fail(name: str) -> None:
    raise RAISED[name]


class Health:
    state = "ready"
    reasons: tuple[str, ...] = ()
    partitions: tuple[ProjectorStatus, ...] = ()

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            service="ingest",
            state=self.state,
            reasons=self.reasons,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            uptime_seconds=1.0,
            partitions=self.partitions,
        )


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def client(health: Health) -> TestClient[Any]:
    app = build_app("ingest", status=health.status, routes=[create, fail])
    return TestClient(app, raise_server_exceptions=False)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == body["error"]["code"] == code
    assert body["detail"] == body["error"]["message"] != ""
    assert body["title"]
    assert body["type"] == f"urn:causeloop:problem:{code}"
    assert UUID(body["error"]["trace_id"]) == UUID(answer.headers["x-request-id"])
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("app", 404, "not_found"),
        ("busy", 503, "unavailable"),
        ("conflict", 409, "conflict"),
        ("log", 503, "unavailable"),
        ("pool", 503, "unavailable"),
        ("database", 503, "unavailable"),
        ("bug", 500, "internal_error"),
        ("order", 500, "internal_error"),
        ("login", 401, "unauthorized"),
    ],
)
def test_error_in_a_handler_is_a_problem(client: TestClient[Any], name: str, status: int, code: str) -> None:
    answer = client.get(f"/raise/{name}")

    body = problem(answer, status, code)
    assert "secret" not in answer.text
    assert body["instance"] == f"/raise/{name}"


def test_refusal_carries_details_and_retry_after(client: TestClient[Any]) -> None:
    assert client.get("/raise/app").json()["error"]["details"] == {"id": "iss_1"}
    assert client.get("/raise/busy").headers["retry-after"] == "3"


def test_unknown_path_and_wrong_method_are_problems(client: TestClient[Any]) -> None:
    problem(client.get("/nothing/here"), 404, "not_found")
    answer = client.get("/items")
    problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b'{"items":[{"number":"x","title":"t"}]}', {"items[0].number": "Expected `int`, got `str`"}),
        (b'{"items":[{"number":1,"title":""}]}', {"items[0].title": "Expected `str` of length >= 1"}),
        (b'{"items":[],"more":1}', {"more": "Object contains unknown field `more`"}),
        (b"{}", {"items": "Object missing required field `items`"}),
    ],
)
def test_wrong_body_names_the_field(client: TestClient[Any], body: bytes, details: dict[str, str]) -> None:
    answer = client.post("/items", content=body, headers={"content-type": "application/json"})

    assert problem(answer, 400, "validation_error")["error"]["details"] == details


def test_malformed_json_and_wrong_query_are_validation_errors(client: TestClient[Any]) -> None:
    problem(client.post("/items", content=b"{nonsense"), 400, "validation_error")
    body = problem(client.post("/items?limit=x", json={"items": []}), 400, "validation_error")
    assert "limit" in body["error"]["details"]


def test_request_id_is_the_one_that_was_sent_when_it_is_a_uuid(client: TestClient[Any]) -> None:
    sent = "0b7e5c4a-6a43-4f2a-9f2a-64a2a77d2f11"

    assert client.get("/items", headers={"X-Request-Id": sent}).headers["x-request-id"] == sent
    assert client.get("/items", headers={"X-Request-Id": "<script>"}).headers["x-request-id"] != "<script>"
    traced = client.get("/items", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    assert traced.headers["x-request-id"].replace("-", "") == "ab" * 16


def test_health_while_stopping_is_503(client: TestClient[Any], health: Health) -> None:
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ok"})
    health.state = "stopping"
    assert (client.get("/health").status_code, client.get("/health").json()) == (503, {"status": "unhealthy"})


@pytest.mark.parametrize(
    ("state", "reasons", "status", "word"),
    [
        ("ready", (), 200, "ready"),
        ("degraded", ("stopped",), 200, "degraded"),
        ("waiting", ("behind",), 503, "not_ready"),
        ("starting", ("starting",), 503, "not_ready"),
        ("stopping", ("stopping",), 503, "not_ready"),
    ],
)
def test_ready_says_why_not(
    client: TestClient[Any], health: Health, *, state: str, reasons: tuple[str, ...], status: int, word: str
) -> None:
    health.state, health.reasons = state, reasons

    answer = client.get("/ready")

    assert answer.status_code == status
    assert answer.json() == {"status": word, "reasons": list(reasons)}


def test_ready_asks_the_service_too(health: Health) -> None:
    async def not_yet() -> Sequence[str]:
        return ["The keys are not loaded."]

    client = TestClient(build_app("gateway", status=health.status, ready=not_yet))

    assert client.get("/ready").status_code == 503
    assert client.get("/ready").json()["reasons"] == ["The keys are not loaded."]


def test_metrics_show_projectors_and_requests(client: TestClient[Any], health: Health) -> None:
    health.partitions = (
        ProjectorStatus(
            "ingest", 0, "stopped", True, 40, 42, 2, 40, 7, 0.5, 1.0, 2.0, "v", "at 41 IssueReported", ()
        ),
    )
    client.get("/raise/app")

    text = client.get("/metrics").text

    assert 'causeloop_projector_position{partition="0",service="ingest"} 40.0' in text
    assert 'causeloop_projector_lag{partition="0",service="ingest"} 2.0' in text
    assert 'causeloop_projector_stopped{partition="0",service="ingest"} 1.0' in text
    assert 'causeloop_http_seconds_count{method="GET",route="/raise/{name}",status="404"}' in text


def test_dashboard_runs_only_its_own_script_and_style(client: TestClient[Any]) -> None:
    answer = client.get("/")

    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert len(re.findall(r"(?:style|script)-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)) == 2
    assert "unsafe" not in policy
    page, _ = dashboard_page("ingest")
    assert not re.search(rb'(?:src|href)="(?:https?:)?//', page)
    assert b" style=" not in page
    assert client.get("/status.json").json()["service"] == "ingest"


def test_dashboard_of_the_gateway_has_its_own_path(health: Health) -> None:
    client = TestClient(build_app("gateway", status=health.status, dashboard_path="/status"))

    assert client.get("/status").status_code == 200
    assert client.get("/").status_code == 404


WATCHED = ("/", "/status.json", "/metrics")
TOKEN = "a-token-for-operators"


@pytest.mark.parametrize("path", WATCHED)
def test_what_operators_watch_asks_for_their_token(health: Health, path: str) -> None:
    client = TestClient(build_app("ingest", status=health.status, operations_token=TOKEN))

    for good in ({"headers": {"Authorization": f"Bearer {TOKEN}"}}, {"auth": ("anybody", TOKEN)}):
        assert client.get(path, **good).status_code == 200
    for header in (
        "",
        TOKEN,
        "Bearer",
        f"Bearer {TOKEN}x",
        "Basic",
        "Basic !",
        "Basic YTpi",
        f"Digest {TOKEN}",
    ):
        refused = client.get(path, headers={"Authorization": header})
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("path", WATCHED)
def test_what_operators_watch_is_not_there_without_their_leave(health: Health, path: str) -> None:
    client = TestClient(build_app("ingest", status=health.status, operations_token=None))

    assert client.get(path).status_code == 404
    assert client.get(path, headers={"Authorization": "Bearer "}).status_code == 404


@pytest.mark.parametrize("token", [TOKEN, None])
def test_probes_ask_for_no_token(health: Health, token: str | None) -> None:
    client = TestClient(build_app("ingest", status=health.status, operations_token=token))

    assert [client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]


def test_each_request_is_one_line_with_its_trace(client: TestClient[Any]) -> None:
    stream = io.StringIO()
    before = structlog.get_config()
    logs.configure("ingest", stream=stream)
    try:
        answer = client.get("/raise/app")
        client.get("/health")
    finally:
        structlog.configure(**before)

    [line] = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (line["event"], line["status"], line["path"]) == ("request.answered", 404, "/raise/app")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["trace_id"] == answer.headers["x-request-id"].replace("-", "")


def test_bug_is_remembered_for_the_dashboard(client: TestClient[Any]) -> None:
    client.get("/raise/bug")

    assert "GET /raise/bug" in metrics.last_errors()[0].text


def test_app_error_of_a_service_keeps_its_code() -> None:
    class LastAdminError(AppError):
        code = "last_admin"
        status = 422

    assert LastAdminError("The last admin stays.").status == 422
