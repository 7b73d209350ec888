"""Versions of grouping over HTTP: listed, looked at, compared, switched on by an administrator and by nobody else."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import nats
from contracts import record
from eventlog import Append, EventLog
from testkit.stack import Stack

from services.pattern.engine.weights import shipped
from tests.libs.cli.in_process import causeloop
from tests.services.gateway import builders
from tests.services.gateway.tenants import join, onboard, sign_in
from tests.services.gateway.test_api import wait_for, words

PATH = "/v1/grouping/versions"


async def tell(stack: Stack, workspace_id: str, name: str, *, issue_id: str, is_better: bool) -> None:
    """Have the log say what a fit found; its pattern service hears it, too."""
    now = datetime.now(UTC)
    data = builders.versioned(workspace_id, name, issue_id=issue_id, pattern_id="pat_1", is_better=is_better)[
        :2
    ]
    events = [
        record(
            each,
            workspace_id=workspace_id,
            aggregate_id=workspace_id,
            occurred_at=now,
            recorded_at=now,
            source="/causeloop/pattern",
        )
        for each in data
    ]
    nc = await nats.connect(stack.nats.url)
    try:
        log = await EventLog.connect(nc, ensure_streams=False)
        # No guard: the second of these follows the first.
        await log.append(*[Append(each, None) for each in events])
    finally:
        await nc.close()


def bearer(client: httpx.Client) -> str:
    """The token that a client shows."""
    return client.headers["Authorization"].removeprefix("Bearer ")


def test_a_version_is_looked_at_compared_and_switched_on_and_a_rejected_one_is_not(
    stack: Stack, tmp_path: Path
) -> None:
    """The weights stand beside the shipped ones; what moves is listed; the shipped one comes back by its name."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    _, analyst = asyncio.run(join(stack.database.owner_url, tenant, "analyst"))
    owner, worker = (
        httpx.Client(
            base_url=stack.url,
            headers={"Authorization": f"Bearer {sign_in(stack.url, email)}", "Prefer": "wait=10"},
            timeout=30,
        )
        for email in (tenant.owner_email, analyst)
    )
    with owner, worker:
        empty = owner.get(PATH).json()
        assert (empty["data"], "30" in empty["reason"]) == ([], True)
        title = words()
        issue_id = owner.post("/v1/issues", json={"title": title}).json()["id"]
        space = tenant.workspace_id
        asyncio.run(tell(stack, space, "good", issue_id=issue_id, is_better=True))
        asyncio.run(tell(stack, space, "bad", issue_id=issue_id, is_better=False))
        listed = wait_for(lambda: len(found := owner.get(PATH).json()["data"]) == 3 and found)
        assert [each["status"] for each in listed] == ["rejected", "available", "active"]
        bad, good = (f"{PATH}/{each['id']}" for each in listed[:2])
        assert listed[2]["id"] == "shipped" and listed[2]["version"] == shipped().version
        assert listed[1]["fit"]["log_loss"] < listed[1]["fit"]["shipped_log_loss"]
        detail = owner.get(good).json()
        assert [(each["feature"], each["weight"]) for each in detail["weights"]] == [
            *zip(shipped().features, shipped().weights, strict=True)
        ]
        (move,) = owner.get(f"{good}/diff").json()["data"]["moves"]
        assert (move["title"], move["from_pattern_id"], move["to_pattern_id"]) == (title, None, "pat_1")
        nothing = owner.get(f"{bad}/diff").json()
        assert nothing["data"] is None and "POST" in nothing["reason"]
        ask = ("grouping", "activate", listed[1]["id"], "--url", stack.url, "--token", bearer(worker))
        # The pattern service may hear of it after the gateway, for somebody else has told the log.
        tried = wait_for(
            lambda: (shown := causeloop(*ask, "--dry-run", "--json", cwd=tmp_path)).returncode == 0 and shown,
            seconds=240,
        )
        assert json.loads(tried.stdout)["run_id"] == owner.get(f"{good}/diff").json()["data"]["run_id"]
        rows = causeloop("grouping", "list", "--url", stack.url, "--token", bearer(worker), cwd=tmp_path)
        assert [line.split()[:2] for line in rows.stdout.splitlines()[1:]] == [
            [each["id"], each["status"]] for each in listed
        ]
        refused = causeloop(*ask, cwd=tmp_path)
        assert (refused.returncode, "scope" in refused.stderr) == (77, True)
        assert worker.post(f"{good}/activate").status_code == 403
        assert owner.post(f"{bad}/activate").status_code == 409
        assert owner.post(f"{PATH}/gvr_none/activate").status_code == 404
        active = owner.post(f"{good}/activate")
        assert (active.status_code, active.json()["status"]) == (200, "active")
        assert active.json()["activated_by"]["id"] == tenant.owner_id
        [line] = owner.get("/v1/audit", params={"action": "grouping.version_activated"}).json()["data"]
        assert (line["actor"]["id"], line["target"]["id"]) == (tenant.owner_id, listed[1]["id"])
        assert owner.post(f"{PATH}/shipped/activate").json()["status"] == "active"
        assert owner.get(good).json()["status"] == "available"
