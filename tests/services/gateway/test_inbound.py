"""What vendors post: over HTTP into a real stack, and out as issues, once each; nobody else gets anything in."""

import asyncio
import hmac
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import nats
import psycopg
import pytest
from contracts import connector, new_id, record
from eventlog import Append, EventLog
from msgspec import Struct
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.errors import AppError
from runtime.sealing import MasterKeys, SealingKey
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.edge import counters
from services.gateway.edge.door import Visit, called_connector
from services.gateway.edge.limits import Limits
from services.gateway.errors import RateLimitedError
from services.gateway.routes.inbound import BODY_BYTES_MAX, PATH, Inbound, Porter
from tests.services.gateway.tenants import Tenant, execute, onboard, sign_in
from tests.services.gateway.test_api import wait_for

T = TypeVar("T")

SECRET = "kept-between-the-two-of-us-and-long-enough"
SEAL = MasterKeys(SealingKey.derived("a-secret-for-tests-of-32-characters", purpose="master key")).bus
NOBODY = "/v1/webhooks/inbound/con_01HZZZZZZZZZZZZZZZZZZZZZZZ"


def github_issue(number: int, *, title: str = "The queue is stuck", state: str = "open") -> dict[str, object]:
    """An `issues` event with the fields that GitHub documents."""
    repository = {"id": 7, "full_name": "acme/shop", "html_url": "https://github.com/acme/shop"}
    issue = {
        "id": 9_000_000 + number,
        "number": number,
        "title": title,
        "body": "Since the deployment nothing moves.",
        "state": state,
        "state_reason": None,
        "html_url": f"https://github.com/acme/shop/issues/{number}",
        "labels": [{"name": "P1"}, {"name": "bug"}],
        "assignee": {"login": "mona"},
        "milestone": None,
        "created_at": "2026-11-20T08:00:00Z",
        "updated_at": "2026-11-20T08:00:05Z",
    }
    return {"action": "opened", "issue": issue, "repository": repository, "sender": {"login": "mona"}}


def pagerduty_incident(id_: str) -> dict[str, object]:
    """An incident.triggered event of a v3 subscription."""
    return {
        "event": {
            "id": f"event-of-{id_}",
            "event_type": "incident.triggered",
            "resource_type": "incident",
            "occurred_at": "2026-11-20T09:00:00Z",
            "agent": None,
            "data": {
                "id": id_,
                "type": "incident",
                "html_url": f"https://acme.pagerduty.com/incidents/{id_}",
                "number": 2,
                "status": "triggered",
                "title": "Checkout answers 500",
                "service": {"id": "PF9KMXH", "summary": "Checkout", "type": "service_reference"},
                "assignees": [{"id": "P1", "summary": "Mona", "type": "user_reference"}],
                "priority": {"id": "PSO75BM", "summary": "P1", "type": "priority_reference"},
                "urgency": "high",
                "teams": [{"id": "T1", "summary": "Payments", "type": "team_reference"}],
            },
        }
    }


def digest(body: bytes, *, key: str = SECRET, algorithm: str = "sha256") -> str:
    return hmac.digest(key.encode(), body, algorithm).hex()


class Door(Struct):
    """A connector's address, called as its vendor would."""

    stack: Stack
    tenant: Tenant
    connector_id: str

    @property
    def path(self) -> str:
        return f"/v1/webhooks/inbound/{self.connector_id}"

    def call(
        self,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        method: str = "POST",
        query: str = "",
    ) -> httpx.Response:
        url = f"{self.stack.url}{self.path}{query}"

        def answer() -> httpx.Response | None:
            said = httpx.request(method, url, content=body, headers=headers or {}, timeout=30)
            return None if said.status_code == 503 else said

        # What could not be taken just now is sent again, as vendors do.
        taken: httpx.Response = wait_for(answer)
        return taken

    def github(self, delivery: str, payload: dict[str, object], *, key: str = SECRET) -> httpx.Response:
        body = json.dumps(payload).encode()
        headers = {
            "X-GitHub-Event": "issues",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": f"sha256={digest(body, key=key)}",
            "Content-Type": "application/json",
        }
        return self.call(body, headers)

    def rotate(self, secret: str | None = None) -> tuple[str, connector.WebhookSecretRotated]:
        """Give it a secret of the vendor's, or have one made; the secret as the gateway would show it."""

        async def do(nc: Client) -> connector.WebhookSecretRotated:
            workspace_id = self.tenant.workspace_id
            sealed = (
                None
                if secret is None
                else SEAL.seal(secret, workspace_id=workspace_id, what="webhook_secret")
            )
            return await ask(
                nc,
                connector.RotateWebhookSecret(connector_id=self.connector_id, sealed_secret=sealed),
                endpoint="ingest.rotate_webhook_secret",
                reply=connector.WebhookSecretRotated,
                context=CommandContext(workspace_id=workspace_id, correlation_id="test"),
                timeout=30,
            )

        reply = on_the_bus(self.stack, do)
        return SEAL.open(
            reply.sealed_secret, workspace_id=self.tenant.workspace_id, what="webhook_secret"
        ), reply


def on_the_bus(stack: Stack, do: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        nc = await nats.connect(stack.nats.url)
        try:
            return await do(nc)
        finally:
            await nc.close()

    return asyncio.run(run())


class House:
    """A workspace with connectors."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.tenant = asyncio.run(onboard(stack.database.owner_url, seats=10))
        token = sign_in(stack.url, self.tenant.owner_email)
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
        self.api = httpx.Client(base_url=stack.url, headers=headers, timeout=30)

    def door(self, type_: str, *, secret: str | None = SECRET) -> Door:
        """A connector that ingest knows, with a webhook secret if there is one."""
        connector_id = new_id("con_", now=datetime.now(UTC), rng=random.Random())
        settings = connector.ConnectorSettings(
            type=type_, display_name=type_, config={}, auth=0, streams=(), mapping={}
        )
        created = connector.ConnectorCreated(
            connector_id=connector_id, settings=settings, status=connector.ConnectorStatus.CONNECTED
        )

        async def make(nc: Client) -> int:
            log = await EventLog.connect(nc, ensure_streams=False)
            now = datetime.now(UTC)
            fact = record(
                created,
                workspace_id=self.tenant.workspace_id,
                aggregate_id=connector_id,
                occurred_at=now,
                recorded_at=now,
                source="ingest",
            )
            return await log.append(Append(fact, 0))

        sequence = on_the_bus(self.stack, make)
        door = Door(self.stack, self.tenant, connector_id)
        if secret is not None:
            door.rotate(secret)

        async def is_known() -> bool:
            status = await self.stack.services["ingest"].status()
            return status.partitions[0].position >= sequence

        asyncio.run(eventually(is_known))
        return door

    def issues(self, **query: str) -> list[dict[str, Any]]:
        answer = self.api.get("/v1/issues", params={"limit": "100", **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def await_issues(self, titles: set[str]) -> list[dict[str, Any]]:
        """The issues, once they are just these."""

        def are_there() -> list[dict[str, Any]]:
            found = self.issues()
            assert {issue["title"] for issue in found} == titles
            assert len(found) == len(titles)
            return found

        # A job that was taken by a process which died is given to another after 15 seconds.
        return asyncio.run(eventually(are_there, deadline=60, every=0.1))


@pytest.fixture
def house(stack: Stack) -> Iterator[House]:
    made = House(stack)
    yield made
    made.api.close()


def test_deliveries_become_issues_once_each(house: House) -> None:
    """GitHub's and PagerDuty's, also when they come again with the same id, or the same bytes with another."""
    github, pagerduty = house.door("github"), house.door("pagerduty")
    body = json.dumps(pagerduty_incident("Q1")).encode()
    pager = {"X-PagerDuty-Signature": f"v1={'0' * 64},v1={digest(body)}", "Content-Type": "application/json"}
    for delivery in ("d-1", "d-1", "forged"):
        answer = github.github(delivery, github_issue(1))
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    assert github.github("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}).status_code == 202
    assert [pagerduty.call(body, pager).status_code for _ in range(2)] == [202, 202]
    found = house.await_issues({"The queue is stuck", "Checkout answers 500"})
    by_source = {issue["source"]: issue for issue in found}
    assert by_source["github"]["severity"] == by_source["pagerduty"]["severity"] == "p1"
    assert by_source["github"]["connector_id"] == github.connector_id
    # A later state of the same issue changes it.
    closed = github_issue(1, title="The queue was stuck", state="closed")
    closed["issue"]["updated_at"] = "2026-11-20T10:00:00Z"  # type: ignore[index]
    assert github.github("d-2", closed).status_code == 202
    again = house.await_issues({"The queue was stuck", "Checkout answers 500"})
    assert {issue["status"] for issue in again if issue["source"] == "github"} == {"closed"}


def test_addresses_are_listed_with_when_something_last_came(house: House) -> None:
    """Of those connectors that take webhooks; what is refused is nothing that came."""
    began = datetime.now(UTC)
    github, quiet, polled = (
        house.door("github"),
        house.door("pagerduty"),
        house.door("salesforce", secret=None),
    )

    def listed(**query: str) -> dict[str, Any]:
        answer = house.api.get("/v1/webhooks", params={"direction": "inbound", **query})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def by_connector() -> dict[str, dict[str, Any]]:
        return {one["connector_id"]: one for one in listed()["data"]}

    assert github.github("l-1", github_issue(1)).status_code == 202
    assert quiet.call(b"{}", {"Content-Type": "application/json"}).status_code == 401

    def has_come() -> dict[str, dict[str, Any]]:
        found = by_connector()
        assert found[github.connector_id]["last_received_at"] is not None
        assert quiet.connector_id in found
        return found

    found = asyncio.run(eventually(has_come))
    assert polled.connector_id not in found
    one = found[github.connector_id]
    assert (one["direction"], one["type"], one["health"]) == ("inbound", "github", "healthy")
    assert one["url"].endswith(github.path)
    assert began <= datetime.fromisoformat(one["last_received_at"]) <= datetime.now(UTC)
    assert found[quiet.connector_id]["last_received_at"] is None
    first = listed(limit="1")
    rest = listed(limit="1", cursor=first["page"]["next_cursor"])
    assert [*first["data"], *rest["data"]] == list(found.values())
    assert listed(connector_id=quiet.connector_id)["data"] == [found[quiet.connector_id]]
    assert house.api.get("/v1/webhooks").json()["data"] == []
    assert listed(is_active="true")["data"] == list(found.values())
    assert house.api.post(f"/v1/connectors/{quiet.connector_id}/pause").status_code == 200
    asyncio.run(eventually(lambda: by_connector()[quiet.connector_id]["health"] == "down"))
    assert [each["connector_id"] for each in listed(is_active="false")["data"]] == [quiet.connector_id]


def test_an_address_without_a_secret_is_down(house: House) -> None:
    """It refuses whatever comes until there is one."""
    door = house.door("custom_api", secret=None)

    def health() -> list[str]:
        found = house.api.get("/v1/webhooks", params={"direction": "inbound"}).json()["data"]
        return [one["health"] for one in found]

    asyncio.run(eventually(lambda: health() == ["down"]))
    assert door.call(b"{}").status_code == 401
    door.rotate(SECRET)
    asyncio.run(eventually(lambda: health() == ["healthy"]))


def test_deliveries_count_as_events_of_the_month_and_wait_beyond_the_plan(house: House) -> None:
    owner = house.stack.database.owner_url
    plan = house.tenant.slug
    asyncio.run(execute(owner, "INSERT INTO plans (plan, events_per_month) VALUES (%s, 1)", plan))
    client = house.tenant.organization_id
    change = "UPDATE organizations SET plan = %s WHERE organization_id = %s"
    asyncio.run(execute(owner, change, plan, client))
    github = house.door("github")
    assert github.github("d-1", github_issue(1, title="The first")).status_code == 202
    house.await_issues({"The first"})
    assert github.github("d-2", github_issue(2, title="The second")).status_code == 202

    def letters() -> list[dict[str, Any]]:
        answer = house.api.get(f"/v1/connectors/{github.connector_id}/dead-letters")
        assert len(answer.json()["data"]) == 1, answer.text
        return list(answer.json()["data"])

    [letter] = asyncio.run(eventually(letters)) or []
    assert "allows 1 events a month" in letter["reason"]
    house.await_issues({"The first"})


def test_nobody_is_believed_without_proof(house: House) -> None:
    """Whatever is wrong is answered alike; so is every address that is nobody's."""
    github, without = house.door("github"), house.door("github", secret=None)
    body = json.dumps(github_issue(2, title="Never seen")).encode()
    signed = {"X-Hub-Signature-256": f"sha256={digest(body)}"}
    wrong = {"X-Hub-Signature-256": f"sha256={digest(body, key='another-one')}"}
    refused = [
        github.call(body),
        github.call(body, wrong),
        github.call(body + b" ", signed),
        github.call(body, {"X-Causeloop-Signature": "zz"}),
        github.call(body, {"Authorization": f"Bearer {SECRET}"}),
        github.call(b"", method="GET"),
        without.call(body, signed),
    ]
    assert [answer.status_code for answer in refused] == [401] * len(refused)
    assert len({answer.json()["detail"] for answer in refused}) == 1
    nobody = [
        httpx.post(f"{house.stack.url}{path}", content=body, headers=signed, timeout=30)
        for path in (NOBODY, "/v1/webhooks/inbound/con_x", "/v1/webhooks/inbound/%00")
    ]
    assert [answer.status_code for answer in nobody] == [404] * len(nobody)
    assert len({answer.json()["detail"] for answer in nobody}) == 1
    assert nobody[0].headers["content-type"] == "application/problem+json"
    too_large = github.call(b"x" * (BODY_BYTES_MAX + 1))
    packed = github.call(body, {**signed, "Content-Encoding": "gzip"})
    assert (too_large.status_code, packed.status_code) == (413, 415)
    not_json = github.call(b"{", {"X-Hub-Signature-256": f"sha256={digest(b'{')}"})
    assert not_json.status_code == 400
    assert github.call(b"", method="PUT").status_code == 405
    # Our own signature is good for every source.
    own = github.call(body, {"X-Causeloop-Signature": digest(body), "X-GitHub-Event": "issues"})
    assert own.status_code == 202
    house.await_issues({"Never seen"})


def test_a_replaced_secret_is_taken_for_another_day(house: House) -> None:
    """Both while the vendor is told of the new one, and never a third."""
    github = house.door("github")
    made, reply = github.rotate()
    assert made.startswith("whsec_") and reply.previous_until is not None
    left = (reply.previous_until - datetime.now(UTC)).total_seconds()
    assert 86_000 < left <= 86_400
    for number, key in enumerate((made, SECRET)):
        assert (
            github.github(f"r-{number}", github_issue(number, title=f"r-{number}"), key=key).status_code
            == 202
        )
    latest, _ = github.rotate()

    def is_forgotten() -> bool:
        assert github.github("r-9", github_issue(9), key=SECRET).status_code == 401
        return True

    asyncio.run(eventually(is_forgotten, deadline=30, every=0.2))
    assert github.github("r-2", github_issue(2, title="r-2"), key=latest).status_code == 202
    house.await_issues({"r-0", "r-1", "r-2"})


def test_handshakes_are_answered(house: House) -> None:
    """Each as its vendor wants it; a secret that comes with one is kept, and later ones change nothing."""
    slack = house.door("slack")
    body = b'{"type":"url_verification","challenge":"3eZbrw1a"}'
    at = str(int(datetime.now(UTC).timestamp()))
    signature = digest(f"v0:{at}:".encode() + body)
    headers = {"X-Slack-Signature": f"v0={signature}", "X-Slack-Request-Timestamp": at}
    assert slack.call(body).status_code == 401
    assert slack.call(body, headers).json() == {"challenge": "3eZbrw1a"}

    asana = house.door("asana", secret=None)
    hook = {"X-Hook-Secret": "b537207f20cbfa02357cf448134da559"}
    answer = asana.call(b"", hook)
    assert (answer.status_code, answer.headers["x-hook-secret"]) == (200, hook["X-Hook-Secret"])
    assert asana.call(b"", {"X-Hook-Secret": "somebody-elses-secret"}).status_code == 401
    events = b'{"events":[]}'
    proved = {"X-Hook-Signature": digest(events, key=hook["X-Hook-Secret"])}
    assert asana.call(events, proved).status_code == 202

    # Somebody wants to begin again: the vendor's next first call counts, once.
    asana.rotate()
    again = {"X-Hook-Secret": "a85c28d5c0f1b5e13e3d9d44a6f2ab1f"}
    assert asyncio.run(eventually(lambda: asana.call(b"", again).status_code == 200, deadline=30, every=0.2))
    assert asana.call(b"", {"X-Hook-Secret": "somebody-elses-secret"}).status_code == 401

    notion = house.door("notion", secret=None)
    token = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"
    assert notion.call(json.dumps({"verification_token": token}).encode()).status_code == 200
    assert notion.rotate()[0] == token
    assert notion.rotate()[0].startswith("whsec_")

    okta = house.door("okta")
    asked = {"X-Okta-Verification-Challenge": "abc"}
    assert okta.call(headers=asked, method="GET").json() == {"verification": "abc"}
    graph = house.door("entra_id").call(query="?validationToken=a%20%3Cb%3E")
    assert (graph.text, graph.headers["content-type"]) == ("a <b>", "text/plain; charset=utf-8")
    assert graph.headers["x-content-type-options"] == "nosniff"
    assert house.door("trello").call(method="HEAD").status_code == 200


def test_what_was_accepted_outlives_ingest(house: House) -> None:
    """Killed after it has answered and before it has made issues of anything: they come, once each."""
    github, ingest = house.door("github"), house.stack.services["ingest"]
    titles = {f"kept-{number}" for number in range(20)}
    with psycopg.connect(house.stack.database.owner_url) as conn:
        # Nothing can be taken in while nobody can be told what was.
        conn.execute("LOCK TABLE sources.deliveries IN ACCESS EXCLUSIVE MODE")
        for number in range(20):
            answer = github.github(f"k-{number}", github_issue(100 + number, title=f"kept-{number}"))
            assert answer.status_code == 202
        ingest.kill()
        conn.rollback()
    ingest.start()
    asyncio.run(ingest.ready())
    house.await_issues(titles)


def test_a_delivery_that_is_played_again_changes_nothing(house: House) -> None:
    """Neither by its id nor, where nobody has signed that, by its bytes: what was resolved since stays so."""
    custom = house.door("custom_api")

    def post(delivery: str, status: str, *, number: int = 1) -> None:
        payload = {"external_id": f"p-{number}", "title": f"{status}-{number}", "status": status}
        body = json.dumps(payload).encode()
        headers = {"X-Causeloop-Signature": digest(body), "webhook-id": delivery}
        assert custom.call(body, headers).status_code == 202

    post("one", "open")
    house.await_issues({"open-1"})
    post("two", "resolved")
    house.await_issues({"resolved-1"})
    for again in ("one", "forged"):
        post(again, "open")
    # Deliveries are taken in their order, so what came before the last one is decided with it.
    post("three", "open", number=2)
    found = house.await_issues({"resolved-1", "open-2"})
    assert {issue["title"]: issue["status"] for issue in found}["resolved-1"] == "resolved"


def test_an_address_is_good_as_soon_as_it_has_a_secret(house: House) -> None:
    """Whoever makes a connector and its secret, and posts at once, is not told that there is nothing."""
    made = house.api.post("/v1/connectors", json={"type": "custom_api"}).json()
    secret = house.api.post(f"/v1/connectors/{made['id']}/webhook-secret").json()["secret"]
    body = b'{"external_id": "now", "title": "At once"}'
    door = Door(house.stack, house.tenant, made["id"])
    assert door.call(body, {"X-Causeloop-Signature": digest(body, key=secret)}).status_code == 202


def test_a_paused_connector_takes_nothing(house: House) -> None:
    """Whoever can prove it is told so, nobody else; it is taken again once it is resumed."""
    custom = house.door("custom_api")
    body = b'{"external_id": "p-1", "title": "Down"}'

    def status(key: str = SECRET) -> int:
        return custom.call(body, {"X-Causeloop-Signature": digest(body, key=key)}).status_code

    def becomes(expected: int) -> None:
        asyncio.run(eventually(lambda: status() == expected, deadline=30, every=0.2))

    becomes(202)
    assert house.api.post(f"/v1/connectors/{custom.connector_id}/pause").status_code == 200
    becomes(409)
    assert status("another-one") == 401
    assert house.api.post(f"/v1/connectors/{custom.connector_id}/resume").status_code == 200
    becomes(202)


async def test_whatever_goes_wrong_becomes_an_answer() -> None:
    """A bug of ours as well; and other paths are the application's."""
    said: list[Any] = []

    async def inner(scope: Any, _receive: Any, _send: Any) -> None:
        said.append(scope["path"])

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        raise AssertionError

    class Broken:
        async def receive(self, *_: object) -> connector.VendorAnswer:
            raise KeyError("secret words")

    porter: Any = Broken()
    door = Inbound(inner, porter)
    for path, method in (("con_1/", "POST"), ("con_1", "PUT"), ("", "POST"), ("con_1/2", "POST")):
        scope: Any = {"type": "http", "path": f"{PATH}{path}", "method": method, "headers": []}
        await door(scope, receive, send)
    failed, body, refused, _, *others = said
    assert (failed["status"], refused["status"], others) == (500, 405, [PATH, f"{PATH}con_1/2"])
    assert dict(refused["headers"])[b"allow"] == b"GET, HEAD, OPTIONS, POST"
    assert dict(failed["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["code"] == "internal_error" and b"secret" not in body["body"]


def test_what_no_vendor_posts_to_is_counted_like_any_path() -> None:
    """The door counts nothing at a connector's address, which is one with a slash behind it too."""
    named = {
        path: called_connector(f"{PATH}{path}") for path in ("con_1", "con_1/", "", "/", "con_1/2", "con_1//")
    }
    assert named == {
        "con_1": "con_1",
        "con_1/": "con_1",
        "": None,
        "/": None,
        "con_1/2": None,
        "con_1//": None,
    }


class Courier:
    """Ingest's answer is what the call says it shall be."""

    async def bring(self, call: connector.VendorCall) -> connector.VendorAnswer:
        return connector.VendorAnswer(
            status=int(call.headers["answer"]), content_type="", body="", headers={}
        )


async def test_callers_count_for_their_address_until_they_are_believed(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on for the connector, and again for the address once they are refused; not when we are to blame."""
    now = datetime(2026, 11, 22, 12, 0, 20, tzinfo=UTC)
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 30.0)
    counting = counters.Counters(nc)
    await counting.start()
    limits = Limits(counting, per_address=2, per_connector=4, clock=lambda: now)
    courier: Any = Courier()
    porter = Porter(courier, limits, origin="https://us.example")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def call(answer: int, *, address: str = "203.0.113.9") -> int:
        visit = Visit(address=address, headers={}, cookies={}, principal=None, refusal=None)
        scope: Any = {
            "path": f"{PATH}con_1",
            "method": "POST",
            "query_string": b"",
            "headers": [(b"answer", str(answer).encode())],
            "state": {"visit": visit},
        }
        try:
            return (await porter.receive(scope, receive)).status
        except RateLimitedError as error:
            assert error.retry_after == 40.0
            return 429
        except AppError as error:
            return error.status

    assert [await call(401) for _ in range(3)] == [401, 401, 429]
    assert [await call(202) for _ in range(1)] == [429]
    other = "203.0.113.10"
    answers = (202, 202, 503, 409, 202, 202)
    assert [await call(answer, address=other) for answer in answers] == [202, 202, 503, 409, 202, 429]
    now = datetime(2026, 11, 22, 12, 1, 20, tzinfo=UTC)
    assert [await call(answer, address=other) for answer in (202, 401, 401, 401, 202)] == [
        202,
        401,
        401,
        401,
        429,
    ]
