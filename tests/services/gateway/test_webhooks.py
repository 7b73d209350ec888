"""Outbound webhooks over HTTP, with a receiver of our own: what is sent, signed how, and what the log of it says."""

import asyncio
import hmac
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import msgspec
import pytest
from causeloop.__main__ import run
from contracts import connector, decode, derived_id, ingest
from runtime import database as databases
from runtime.database import tenant as of_tenant
from runtime.database import within
from runtime.embedded import free_port
from runtime.outbound import Outbound, Reach
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database
from testkit.stack import ServiceProcess, Stack
from testkit.waiting import eventually

from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks import _queries, sending
from services.gateway.identity.webhooks.messages import EVENT_TYPES, Envelope
from services.gateway.identity.webhooks.sending import Attempt, Sender
from services.gateway.identity.webhooks.sending import Receiver as Target
from services.gateway.subscriptions.occasions import occasions_of

from . import sources
from .receiver import Received, Receiver
from .tenants import Tenant, execute, onboard, sign_in

T = TypeVar("T")
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "send-webhooks.md"
GOLDEN = Path(__file__).parents[3] / "tests" / "contract" / "golden" / "0.1.0"


@pytest.fixture
def receiver(owner: httpx.Client) -> Iterator[Receiver]:
    made = Receiver()
    yield made
    # The next receiver may be given this one's port, and is to get nothing that is meant for it.
    for each in did(owner, "GET", "/v1/webhooks?is_active=true&limit=100")["data"]:
        did(owner, "PATCH", f"/v1/webhooks/{each['id']}", {"is_active": False})
    made.close()


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> Tenant:
    return asyncio.run(onboard(stack.database.owner_url))


@pytest.fixture(scope="module")
def owner(stack: Stack, tenant: Tenant) -> Iterator[httpx.Client]:
    token = sign_in(stack.url, tenant.owner_email)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def wait(found: Callable[[], T]) -> T:
    """The first truthy value."""
    return asyncio.run(eventually(found))


def did(owner: httpx.Client, method: str, path: str, body: object = None) -> Any:
    answer = owner.request(method, path, **({} if body is None else {"json": body}))
    assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
    return answer.json() if answer.content else None


def made(owner: httpx.Client, url: str, *events: str, **more: Any) -> dict[str, Any]:
    body = {"url": f"{url}/hook", "event_types": events, **more}
    found: dict[str, Any] = did(owner, "POST", "/v1/webhooks", body)
    return found


def report(owner: httpx.Client) -> str:
    """The id of a new issue."""
    body = {"title": f"webhooks {uuid4().hex}", "source": "datadog"}
    return str(did(owner, "POST", "/v1/issues", body)["id"])


def deliveries(owner: httpx.Client, webhook_id: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = did(owner, "GET", f"/v1/webhooks/{webhook_id}/deliveries{query}")["data"]
    return found


def hurry(stack: Stack, webhook_id: str) -> None:
    """Let what waits be due now."""
    url = stack.database.owner_url
    at_once = (
        "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE webhook_id = %s AND status = 'pending'"
    )
    asyncio.run(execute(url, at_once, webhook_id))
    free = "UPDATE webhooks SET next_turn_at = now(), leased_until = NULL WHERE webhook_id = %s"
    asyncio.run(execute(url, free, webhook_id))


def about(calls: list[Received], issue_id: str) -> list[Received]:
    return [call for call in calls if call.event["data"]["id"] == issue_id]


def test_an_event_is_sent_signed_and_logged(owner: httpx.Client, tenant: Tenant, receiver: Receiver) -> None:
    webhook = made(owner, receiver.url, "issue.created")
    receiver.answer, receiver.status = b"thank you" + b"!" * 2000, 200
    issue_id = report(owner)
    [call] = wait(lambda: about(receiver.calls, issue_id))
    call.verify(webhook["secret"])
    ours = hmac.new(webhook["secret"].encode(), call.body, sha256).hexdigest()
    assert call.headers["x-causeloop-signature"] == ours
    assert call.headers["x-causeloop-event"] == call.event["type"] == "issue.created"
    assert call.event["id"] == call.headers["webhook-id"]
    assert call.event["workspace_id"] == tenant.workspace_id
    shown = did(owner, "GET", f"/v1/issues/{issue_id}")
    assert set(call.event["data"]) == set(shown)
    assert call.event["data"]["title"] == shown["title"]
    [logged] = wait(lambda: deliveries(owner, webhook["id"], "?status=succeeded"))
    assert logged["id"] == call.headers["x-causeloop-delivery"]
    assert (logged["event_id"], logged["subject_id"], logged["attempts"]) == (call.event["id"], issue_id, 1)
    assert (logged["response_status"], logged["response_excerpt"]) == (200, receiver.answer[:1024].decode())
    seen = did(owner, "GET", f"/v1/webhooks/{webhook['id']}")
    assert (seen["health"], seen["direction"], "secret" in seen) == ("healthy", "outbound", False)
    assert seen["last_delivered_at"] is not None
    did(owner, "DELETE", f"/v1/webhooks/{webhook['id']}")
    assert owner.get(f"/v1/webhooks/{webhook['id']}").status_code == 404


def test_only_what_was_asked_for_is_sent(
    stack: Stack, owner: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    """By type, and by the connector that it is of."""
    space = tenant.workspace_id
    ours, other = (derived_id("con_", space, name) for name in ("ours", "other"))
    settings = connector.ConnectorSettings(type="pagerduty", display_name="x", auth=0, config={}, mapping={})
    paused = connector.ConnectorStatus.PAUSED
    born = [
        connector.ConnectorCreated(connector_id=each, settings=settings, status=paused)
        for each in (ours, other)
    ]
    asyncio.run(sources.tell(stack, space, [(each, each.connector_id, "ingest") for each in born]))
    wait(lambda: owner.get(f"/v1/connectors/{other}").status_code == 200)
    wanted = ("connector.sync.failed", "issue.created")
    webhook = made(owner, receiver.url, *wanted, connector_id=ours)
    changes = made(owner, f"{receiver.url}/changes", "issue.status.changed")
    issue_id = report(owner)
    facts: list[sources.Fact] = [
        (event, event.run_id, "ingest")
        for connector_id in (other, ours)
        for event in run_of(space, connector_id)
    ]
    reported = ingest.IssueReported(
        issue_id=derived_id("iss_", space, "of a connector"),
        source="pagerduty",
        external_id="1",
        title="of a connector",
        body="",
        severity=ingest.Severity.P3,
        status=ingest.IssueStatus.NEW,
        metadata={},
        connector_id=ours,
    )
    facts.append((reported, reported.issue_id, "ingest"))
    asyncio.run(sources.tell(stack, space, facts))
    did(owner, "PATCH", f"/v1/issues/{issue_id}", {"status": "mitigating"})
    found = wait(lambda: receiver.calls if len(receiver.calls) == 3 else [])
    told = {(call.path, call.event["type"], call.event.get("connector_id")) for call in found}
    assert told == {
        ("/hook", "connector.sync.failed", ours),
        ("/hook", "issue.created", ours),
        ("/changes/hook", "issue.status.changed", None),
    }
    [change] = [call for call in found if call.path == "/changes/hook"]
    assert (change.event["data"]["id"], change.event["data"]["changed_to"]) == (issue_id, "mitigating")
    assert len(deliveries(owner, webhook["id"])) == 2
    assert len(deliveries(owner, changes["id"])) == 1
    refused = {"url": receiver.url, "event_types": ["pattern.detected"], "connector_id": ours}
    assert owner.post("/v1/webhooks", json=refused).json()["error"]["code"] == "webhook_refused"


def run_of(space: str, connector_id: str) -> tuple[connector.SyncRequested, connector.SyncEnded]:
    """A run that failed."""
    run_id = derived_id("syn_", space, connector_id)
    counts = connector.SyncCounts(
        n_records=0, n_created=0, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
    )
    asked = connector.SyncRequested(run_id=run_id, connector_id=connector_id, kind=connector.SyncKind.MANUAL)
    ended = connector.SyncEnded(
        run_id=run_id,
        connector_id=connector_id,
        outcome=connector.SyncOutcome.FAILED,
        counts=counts,
        reason="rate_limited",
        detail="",
    )
    return asked, ended


def test_a_failure_is_tried_again_and_a_delivery_can_be_repeated(
    stack: Stack, owner: httpx.Client, receiver: Receiver
) -> None:
    webhook = made(owner, receiver.url, "issue.created")
    # Until it was looked at: on a busy machine that may be behind the next try, five seconds later.
    receiver.status = 500
    issue_id = report(owner)
    [waiting] = wait(lambda: [each for each in deliveries(owner, webhook["id"]) if each["attempts"]])
    assert (waiting["status"], waiting["response_status"]) == ("pending", 500)
    assert did(owner, "GET", f"/v1/webhooks/{webhook['id']}")["health"] == "degraded"
    receiver.status = 204
    hurry(stack, webhook["id"])
    [done] = wait(lambda: deliveries(owner, webhook["id"], "?status=succeeded"))
    assert (done["id"], done["response_status"]) == (waiting["id"], 204)
    n_tries = done["attempts"]
    assert n_tries > 1
    path = f"/v1/webhooks/{webhook['id']}/deliveries/{done['id']}/redeliver"
    again = did(owner, "POST", path)
    assert again["id"] != done["id"]
    calls = wait(lambda: about(receiver.calls, issue_id) if len(receiver.calls) == n_tries + 1 else [])
    assert {call.headers["webhook-id"] for call in calls} == {done["event_id"]}
    for call in calls:
        call.verify(webhook["secret"])
    full = """INSERT INTO webhook_deliveries (workspace_id, webhook_id, delivery_id, event_id, event_type, event_sequence,
            subject_id, details, occurred_at, status, next_attempt_at, created_at)
        SELECT workspace_id, webhook_id, 'whd_' || lpad(n::text, 26, '0'), '', '', 1, '', '{}', created_at, 'pending',
            created_at + interval '1 day', created_at
        FROM webhooks, generate_series(1, 50000) AS n WHERE webhook_id = %s"""
    asyncio.run(execute(stack.database.owner_url, full, webhook["id"]))
    assert "50,000" in owner.post(path).json()["error"]["message"]


def test_a_receiver_that_hangs_holds_up_no_other(owner: httpx.Client, receiver: Receiver) -> None:
    slow = Receiver()
    slow.gate.clear()
    try:
        made(owner, slow.url, "issue.created")
        made(owner, receiver.url, "issue.created")
        issue_ids = [report(owner) for _ in range(2)]
        wait(lambda: slow.calls)
        wait(lambda: [each for each in issue_ids if about(receiver.calls, each)] == issue_ids)
        assert not about(slow.calls, issue_ids[1])
    finally:
        slow.close()


def test_both_secrets_sign_after_a_rotation(owner: httpx.Client, receiver: Receiver) -> None:
    webhook = made(owner, receiver.url, "issue.created")
    path = f"/v1/webhooks/{webhook['id']}"
    rotated = did(owner, "POST", f"{path}/rotate")
    assert did(owner, "GET", path)["previous_secret_until"] == rotated["previous_secret_until"]
    tested = did(owner, "POST", f"{path}/test")
    assert (tested["success"], tested["response_status"]) == (True, 204)
    [call] = receiver.calls
    assert call.event["type"] == "webhook.test"
    for secret, header in (
        (rotated["secret"], "x-causeloop-signature"),
        (webhook["secret"], "x-causeloop-signature-previous"),
    ):
        call.verify(secret)
        assert call.headers[header] == hmac.new(secret.encode(), call.body, sha256).hexdigest()
    receiver.status = 302
    tested = did(owner, "POST", f"{path}/test")
    assert (tested["success"], tested["response_status"], len(receiver.calls)) == (False, 302, 2)


def test_gone_switches_a_webhook_off(owner: httpx.Client, receiver: Receiver) -> None:
    webhook = made(owner, receiver.url, "issue.created")
    receiver.status = 410
    report(owner)
    path = f"/v1/webhooks/{webhook['id']}"
    found = wait(lambda: seen if not (seen := did(owner, "GET", path))["is_active"] else None)
    assert (found["disabled_reason"], found["health"]) == ("gone", "down")
    [line] = did(owner, "GET", f"/v1/audit?action=webhook.disabled&target_id={webhook['id']}")["data"]
    assert (line["actor"], line["metadata"]) == (None, {"reason": "gone"})
    report(owner)
    receiver.status = 204
    again = did(owner, "PATCH", path, {"is_active": True})
    assert (again["is_active"], again["disabled_reason"], again["health"]) == (True, None, "healthy")
    issue_id = report(owner)
    wait(lambda: about(receiver.calls, issue_id))
    assert len(receiver.calls) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://10.1.2.3/hook",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://user:secret@example.com/",
        "http://93.184.216.34/",
    ],
)
def test_nothing_is_sent_inside(owner: httpx.Client, url: str) -> None:
    answer = owner.post("/v1/webhooks", json={"url": url, "event_types": ["issue.created"]})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] in ("webhook_refused", "validation_error")


def test_every_event_is_queued_once_though_a_gateway_is_killed(
    stack: Stack, owner: httpx.Client, receiver: Receiver
) -> None:
    """Every event is queued once, whichever of two gateways dies in the middle of a call."""
    port = free_port()
    first = stack.services["gateway"]
    env = stack.environment(port, {"gateway": port})
    twin = ServiceProcess("gateway", "services.gateway", env=env, log=first._log.with_name("twin.log"))
    try:
        webhook = made(owner, receiver.url, "issue.created")
        receiver.gate.clear()
        issue_ids = [report(owner) for _ in range(3)]
        wait(lambda: receiver.calls)
        # The twin comes only now, so that the one which is killed is the one that sends, and hurry ends no other's turn.
        first.kill()
        receiver.gate.set()
        hurry(stack, webhook["id"])
        asyncio.run(twin.start().ready())
        with httpx.Client(base_url=twin.url, headers=owner.headers, timeout=30) as other:
            issue_ids += [report(other) for _ in range(3)]
            path = f"/v1/webhooks/{webhook['id']}/deliveries?status=succeeded"
            wait(lambda: len(did(other, "GET", path)["data"]) == len(issue_ids))
            asyncio.run(first.start().ready())
            last = report(owner)
            wait(lambda: about(receiver.calls, last))
    finally:
        if first.pid is None:
            asyncio.run(first.start().ready())
        twin.stop()
    sent = deliveries(owner, webhook["id"])
    assert sorted(each["subject_id"] for each in sent) == sorted([*issue_ids, last])
    heard = {call.headers["webhook-id"] for call in receiver.calls}
    assert heard == {each["event_id"] for each in sent}
    # Once more at most: what the killed one was about when it died.
    assert len(receiver.calls) <= len(sent) + 1


class Clock:
    """The time that a test says."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def keep(conn: Any, sender: Sender, space: str, webhook_id: str, *, now: datetime) -> None:
    """A webhook as a row."""
    _, sealed = await sender.seal_new(conn, space, webhook_id)
    await _queries.insert_webhook(
        conn,
        workspace_id=space,
        webhook_id=webhook_id,
        url="https://example.com/",
        description="",
        event_types=["issue.created"],
        connector_id=None,
        is_active=True,
        secret_sealed=sealed,
        log_partition=0,
        from_sequence=0,
        created_by=None,
        created_at=now,
    )


async def test_waits_grow_for_a_day_and_then_it_ends(database: Database) -> None:
    """Each attempt at its time; a webhook that took nothing is switched off; no turn for a suspended workspace."""
    clock, client = Clock(), await onboard(database.owner_url)
    space, webhook_id = client.workspace_id, derived_id("whk_", "1")
    pool = databases.pool(database.app_url, schema="identity")
    async with pool:
        vault = Vault(MasterKeys(SealingKey.made()), clock=clock)
        sender = Sender(pool, vault, Outbound(Reach()), clock=clock)
        async with of_tenant(pool, space) as conn:
            await keep(conn, sender, space, webhook_id, now=clock.now)
            await _queries.insert_delivery(
                conn,
                workspace_id=space,
                webhook_id=webhook_id,
                delivery_id=derived_id("whd_", "1"),
                event_id="evt_1",
                event_type="issue.created",
                event_sequence=1,
                subject_id="iss_1",
                details="{}",
                occurred_at=clock.now,
                next_attempt_at=clock.now,
                created_at=clock.now,
            )

        async def turn() -> _queries.Turn | None:
            async with pool.connection() as conn:
                return await _queries.take_turn(
                    conn, now_at=clock.now, until=clock.now + timedelta(seconds=90), without=[]
                )

        await execute(database.owner_url, "SELECT suspend_client(%s)", client.slug)
        assert await turn() is None
        await execute(database.owner_url, "SELECT reinstate_client(%s)", client.slug)
        began, attempts = clock.now, []
        for _ in range(20):
            if (taken := await turn()) is None:
                break
            assert await turn() is None, "nobody else gets it"
            target = await sender.find(space, webhook_id)
            assert target is not None
            async with of_tenant(pool, space) as conn:
                [due] = await _queries.list_due(
                    conn, workspace_id=space, webhook_id=webhook_id, now_at=clock.now, page_size=5
                )
            attempts.append(clock.now)
            failed = Attempt(None, None, "cannot be reached", 1)
            await sender.note(target, due.delivery_id, failed, n_before=due.n_attempts)
            await sender.end_turn(taken)
            async with of_tenant(pool, space) as conn:
                now = await _queries.get_delivery(
                    conn, workspace_id=space, webhook_id=webhook_id, delivery_id=due.delivery_id
                )
            assert now is not None
            if now.next_attempt_at is not None:
                clock.now = max(now.next_attempt_at, clock.now + timedelta(seconds=sending.PAUSE_SECONDS_MAX))
        assert len(attempts) == 9
        assert timedelta(hours=20) < attempts[-1] - began < timedelta(hours=23)
        async with of_tenant(pool, space) as conn:
            webhook = await _queries.get_webhook(conn, workspace_id=space, webhook_id=webhook_id)
        assert webhook is not None
        assert (now.status, webhook.is_active, webhook.disabled_reason) == ("failed", False, "nothing_taken")


async def test_what_was_queued_is_not_queued_again(database: Database) -> None:
    """The position moves only from where it was, for a second leader too; whom too much waits for is switched off."""
    clock, client = Clock(), await onboard(database.owner_url)
    space, webhook_id = client.workspace_id, derived_id("whk_", "1")
    pool = databases.pool(database.app_url, schema="identity")
    async with pool, pool.connection() as conn:
        sender = Sender(
            pool, Vault(MasterKeys(SealingKey.made()), clock=clock), Outbound(Reach()), clock=clock
        )
        async with within(conn, space):
            await keep(conn, sender, space, webhook_id, now=clock.now)

        async def queue(start: int, end: int) -> bool:
            delivery = {
                "webhook_id": webhook_id,
                "delivery_id": derived_id("whd_", str(end)),
                "event_id": "evt_1",
                "event_type": "issue.created",
                "event_sequence": end,
                "subject_id": "iss_1",
                "details": {},
                "occurred_at": clock.now.isoformat(),
            }
            return await _queries.queue_webhooks(
                conn,
                log_partition=0,
                from_position=start,
                to_position=end,
                deliveries=msgspec.json.encode([delivery]).decode(),
                pending_max=2,
                now_at=clock.now,
            )

        async def stands() -> tuple[int, str | None]:
            async with within(conn, space):
                due = await _queries.list_due(
                    conn, workspace_id=space, webhook_id=webhook_id, now_at=clock.now, page_size=9
                )
                webhook = await _queries.get_webhook(conn, workspace_id=space, webhook_id=webhook_id)
            assert webhook is not None
            return len(due), webhook.disabled_reason

        assert [await queue(-1, 5), await queue(-1, 5), await queue(5, 9), await queue(5, 9)] == [
            True,
            False,
            True,
            False,
        ]
        assert (await _queries.webhooks_begin(conn, log_partition=0)).queued_to == 9
        assert await stands() == (2, None)
        assert await queue(9, 12)
        assert await stands() == (2, "backlog_full")
        async with within(conn, space):
            await _queries.update_webhook(
                conn,
                workspace_id=space,
                webhook_id=webhook_id,
                url=None,
                description=None,
                event_types=None,
                is_active=True,
                from_sequence=12,
                updated_at=clock.now,
            )
        # What waited since before it was switched on does not switch it off again.
        assert [await queue(12, 13), await queue(13, 14)] == [True, True]
        assert await stands() == (4, None)
        assert await queue(14, 15)
        assert await stands() == (4, "backlog_full")


async def test_a_receiver_that_does_not_answer_is_left(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.2)
    receiver.gate.clear()
    now = datetime(2026, 5, 1, tzinfo=UTC)
    pool = databases.pool("postgresql://nobody.invalid/x", schema="identity")
    vault = Vault(MasterKeys(SealingKey.made()), clock=lambda: now)
    sender = Sender(pool, vault, Outbound(Reach.read(["127.0.0.0/8"])), clock=lambda: now)
    target = Target("ws_1", "whk_1", receiver.url, None, True, ("whsec_AAAA",))
    envelope = Envelope(id="evt_1", type="webhook.test", workspace_id="ws_1", created_at=now, data={})
    attempt = await sender.post(target, envelope, delivery_id="whd_1")
    assert (attempt.response_status, attempt.is_good) == (None, False)
    assert attempt.error is not None
    assert attempt.duration_ms < 30_000, "the receiver answers after 30 s"


def test_the_page_names_every_event_and_its_receiver_verifies(owner: httpx.Client) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([a-z.]+)` \|", text, re.MULTILINE)) == EVENT_TYPES
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    port = free_port()
    webhook = made(owner, f"http://127.0.0.1:{port}", "fix.verified")
    test_path = f"/v1/webhooks/{webhook['id']}/test"
    for secret, status in ((webhook["secret"], 204), ("whsec_AAAA", 401)):
        env = {**os.environ, "PORT": str(port), "SECRET": secret}
        running = subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.DEVNULL)
        try:
            found = None
            give_up_at = time.monotonic() + 30
            while found is None and time.monotonic() < give_up_at:
                found = did(owner, "POST", test_path)["response_status"]
            assert found == status
        finally:
            running.kill()
            running.wait()


def test_the_command_makes_lists_and_tests(
    stack: Stack, owner: httpx.Client, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", stack.url, "--token", owner.headers["Authorization"].removeprefix("Bearer "), "--json"]

    def says(*arguments: str, code: int = 0) -> Any:
        assert run(["webhooks", *arguments, *place]) == code
        return msgspec.json.decode(capsys.readouterr().out)

    new = says("add", receiver.url, "fix.verified", "fix.disproved")
    assert new["id"] in {each["id"] for each in says("list")}
    assert says("test", new["id"])["response_status"] == 204
    receiver.calls[0].verify(new["secret"])
    receiver.status = 500
    assert says("test", new["id"], code=1)["success"] is False


def test_every_event_of_the_log_is_told_at_most_once() -> None:
    """By the payloads of a release: a person's split or merge is one change of the pattern that stays."""
    told: dict[str, set[tuple[str, str]]] = {}
    for path in sorted(GOLDEN.glob("*.full.json")):
        event = decode(path.read_bytes(), seq=1, partition=0)
        told[path.name.split(".")[1]] = {
            (each.type, str(each.details.get("change", ""))) for each in occasions_of(event)
        }
    assert max(map(len, told.values())) == 1
    assert told["PatternDetected"] == {("pattern.detected", "created")}
    assert told["PatternSplit"] == told["PatternsMerged"] == {("pattern.detected", "updated")}
    assert told["IssuesLinked"] == set()
    never_in_samples = {"connector.sync.succeeded", "connector.sync.failed", "prediction.created"}
    assert {name for found in told.values() for name, _ in found} >= set(EVENT_TYPES) - never_in_samples


def test_inbound_gives_the_connectors_secret(stack: Stack, owner: httpx.Client) -> None:
    body = {"direction": "inbound"}
    assert owner.post("/v1/webhooks", json=body).status_code == 422
    body = {"direction": "inbound", "connector_id": derived_id("con_", "nobody's")}
    assert owner.post("/v1/webhooks", json=body).status_code == 404
    new = {"type": "custom_api", "display_name": uuid4().hex, "config": {}, "credentials": {}}
    answer = owner.post("/v1/connectors", json=new)
    assert answer.status_code == 201, answer.text
    body["connector_id"] = answer.json()["id"]
    given = did(owner, "POST", "/v1/webhooks", body)
    assert (given["direction"], given["url"]) == ("inbound", answer.json()["inbound_url"])
    event = b'{"external_id": "1", "title": "told by a webhook"}'
    signature = hmac.new(given["secret"].encode(), event, sha256).hexdigest()
    headers = {"x-causeloop-signature": signature, "Content-Type": "application/json"}
    url = f"{stack.url}/v1/webhooks/inbound/{body['connector_id']}"
    call: dict[str, Any] = {"content": event, "headers": headers, "timeout": 30}
    # What cannot be taken just now is sent again, as vendors do.
    taken = wait(lambda: said if (said := httpx.post(url, **call)).status_code != 503 else None)
    assert taken.status_code == 202, taken.text
