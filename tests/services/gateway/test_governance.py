"""Audit, retention, exports and erasure over HTTP, each with a client of its own."""

# ruff: noqa: ASYNC210, ASYNC212  # nothing else waits for the loop meanwhile

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from runtime.sealing import SealingKey
from testkit.stack import Stack
from testkit.waiting import eventually
from websockets.asyncio.client import connect

from services.gateway.identity.governance.certificates import Signer, Statement, is_genuine

from .tenants import Tenant, execute, join, onboard


def client(stack: Stack, email: str) -> httpx.Client:
    """Somebody who is signed in."""
    answer = httpx.post(f"{stack.url}/v1/auth/exchange", json={"subject_token": email}, timeout=30)
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}", "Prefer": "wait=10"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=30)


@pytest.fixture
async def tenant(stack: Stack) -> Tenant:
    """A client with an enterprise plan."""
    return await onboard(stack.database.owner_url)


@pytest.fixture
def owner(stack: Stack, tenant: Tenant) -> Iterator[httpx.Client]:
    """Its owner."""
    with client(stack, tenant.owner_email) as signed_in:
        yield signed_in


async def test_the_audit_log_is_listed_filtered_paged_and_verified(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """The newest first, each filter narrows, and the chain is whole."""
    for days in range(400, 410):
        assert owner.patch("/v1/settings/data-retention", json={"issues_days": days}).status_code == 200
    page = owner.get("/v1/audit", params={"limit": 5}).json()
    numbers = [entry["number"] for entry in page["data"]]
    assert numbers == sorted(numbers, reverse=True) and page["page"]["has_more"]
    following = owner.get("/v1/audit", params={"limit": 5, "cursor": page["page"]["next_cursor"]}).json()
    assert [entry["number"] for entry in following["data"]] == list(
        range(numbers[-1] - 1, numbers[-1] - 6, -1)
    )
    newest = page["data"][0]
    assert newest["actor"] == {"id": tenant.owner_id, "name": "owner"}
    assert newest["action"] == "workspace.retention.updated"
    assert newest["metadata"] == {"issues_days": "409"}
    assert owner.get(f"/v1/audit/{newest['id']}").json() == newest

    def actions(**filters: Any) -> list[str]:
        answer = owner.get("/v1/audit", params={"limit": 100, **filters})
        assert answer.status_code == 200, answer.text
        return [entry["action"] for entry in answer.json()["data"]]

    assert set(actions(action="workspace.")) == {"workspace.retention.updated"}
    assert actions(category="create") == ["client.onboarded"]
    assert actions(target_type="organization", target_id=tenant.organization_id) == ["client.onboarded"]
    assert actions(q="retention 405") == ["workspace.retention.updated"]
    assert actions(actor_id=tenant.owner_id, category="create") == []
    assert actions(date_to="2020-01-01T00:00:00Z") == []
    assert "client.onboarded" in actions(date_from="2020-01-01T00:00:00Z")

    verdict = owner.get("/v1/audit/verification").json()
    assert verdict["is_intact"] and verdict["problem"] is None
    assert verdict["entries"] == verdict["last_number"] == newest["number"]
    assert verdict["head_hash"] == newest["hash"]


async def test_a_viewer_reads_no_audit_log_and_decides_nothing(stack: Stack, tenant: Tenant) -> None:
    """Each scope keeps out whoever lacks it."""
    _, email = await join(stack.database.owner_url, tenant, "viewer")
    with client(stack, email) as viewer:
        for method, path in (
            ("GET", "/v1/audit"),
            ("GET", "/v1/audit/verification"),
            ("POST", "/v1/audit/exports"),
            ("GET", "/v1/settings/data-retention"),
            ("POST", "/v1/governance/exports"),
            ("GET", "/v1/governance/rtbf/requests"),
        ):
            assert viewer.request(method, path).status_code == 403, path
        assert viewer.request("DELETE", "/v1/workspace", json={"confirm": tenant.slug}).status_code == 403


async def test_an_admin_does_not_erase_the_workspace(stack: Stack, tenant: Tenant) -> None:
    """That is the owner's, and takes the slug."""
    _, email = await join(stack.database.owner_url, tenant, "admin")
    with client(stack, email) as admin:
        assert admin.request("DELETE", "/v1/workspace", json={"confirm": tenant.slug}).status_code == 403
    with client(stack, tenant.owner_email) as owner:
        refused = owner.request("DELETE", "/v1/workspace", json={"confirm": "something-else"})
        assert refused.status_code == 409 and "confirm" in refused.json()["error"]["details"]


async def test_retention_has_a_floor_and_the_plans_ceiling(stack: Stack, owner: httpx.Client) -> None:
    """The audit log for a year at least, everything else no longer than the plan."""
    path = "/v1/settings/data-retention"
    known = owner.get(path).json()
    assert (known["issues_days"], known["audit_days"], known["grace_days"]) == (365, 365, 30)
    refused = owner.patch(path, json={"audit_days": 364})
    assert (refused.status_code, refused.json()["code"]) == (422, "retention_below_minimum")
    assert owner.patch(path, json={"issues_days": 0}).status_code == 400
    changed = owner.patch(path, json={"audit_days": 730, "grace_days": 0}).json()
    assert (changed["audit_days"], changed["grace_days"], changed["issues_days"]) == (730, 0, 365)

    free = await onboard(stack.database.owner_url, plan="free")
    with client(stack, free.owner_email) as small:
        refused = small.patch(path, json={"issues_days": 91})
        assert (refused.status_code, refused.json()["code"]) == (422, "plan_limit")
        assert refused.json()["error"]["details"]["plan"] == "free"
        assert small.patch(path, json={"issues_days": 90, "audit_days": 800}).status_code == 200
        refused = small.post("/v1/audit/exports")
        assert (refused.status_code, refused.json()["code"]) == (403, "plan_limit")


async def finished(owner: httpx.Client, path: str) -> dict[str, Any]:
    """An export once it has ended."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.update(owner.get(path).json())
        return found["status"] in ("succeeded", "failed")

    await eventually(is_over)
    return found


def unpacked(content: bytes) -> dict[str, list[Any]]:
    """The lines of every file of an archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            entry.name: [json.loads(line) for line in archive.extractfile(entry).read().splitlines()]  # type: ignore[union-attr]
            for entry in archive
        }


async def test_a_workspace_is_exported_whole_and_by_a_link_alone(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Every row and every event of it, and nothing of others; one at a time."""
    for number in range(3):
        sent = owner.post("/v1/issues", json={"title": f"Export me {number}", "external_id": f"E-{number}"})
        assert sent.status_code == 201, sent.text
    begun = owner.post("/v1/governance/exports")
    assert begun.status_code == 202, begun.text
    path = f"/v1/governance/exports/{begun.json()['id']}"
    done = await finished(owner, path)
    assert done["status"] == "succeeded", done
    assert done["download_url"] == done["result_url"]
    assert done["id"] in [each["id"] for each in owner.get("/v1/governance/exports").json()["data"]]

    link = done["download_url"].replace(
        httpx.URL(done["download_url"]).netloc.decode(), httpx.URL(stack.url).netloc.decode()
    )
    content = httpx.get(link, timeout=30)
    assert content.status_code == 200
    tables = await execute(
        stack.database.owner_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'gateway'::regnamespace AND relkind = 'r'",
    )
    copied = {name.removesuffix(".jsonl") for name in unpacked(content.content)}
    assert {table for (table,) in tables} - copied == {"checkpoint", "erased_workspaces"}
    assert (len(content.content), hashlib.sha256(content.content).hexdigest()) == (
        done["size_bytes"],
        done["sha256"],
    )
    files = unpacked(content.content)
    assert {name: len(lines) for name, lines in files.items() if name != "manifest.json"} == done["files"]
    assert sorted(row["title"] for row in files["issues.jsonl"]) == [f"Export me {n}" for n in range(3)]
    assert {row["user_id"] for row in files["members.jsonl"]} == {tenant.owner_id}
    reported = [e for e in files["events.jsonl"] if e["type"] == "causeloop.ingest.v1.IssueReported"]
    assert len(reported) == 3
    assert {e["workspaceid"] for e in files["events.jsonl"]} == {tenant.workspace_id}
    text = json.dumps(files)
    assert '_hash"' not in text.replace('previous_hash"', "") and "sealed" not in text

    for broken in (
        link.replace("signature=", "signature=A"),
        link.replace(tenant.workspace_id, "ws_demo"),
        link.split("?")[0],
    ):
        assert httpx.get(broken, timeout=30).status_code == 404
    with client(stack, (await onboard(stack.database.owner_url)).owner_email) as stranger:
        assert stranger.get(path).status_code == 404

    await execute(
        stack.database.owner_url, "UPDATE export_jobs SET expires_at = now() WHERE export_id = %s", done["id"]
    )
    await eventually(lambda: owner.get(path).json()["status"] == "expired")
    assert owner.get(path).json()["download_url"] is None
    assert httpx.get(link, timeout=30).status_code == 404


async def test_an_export_that_a_dead_process_left_is_begun_again(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Whoever leads then finds it running and nobody at it; after three attempts it would have failed."""
    await execute(
        stack.database.owner_url,
        "INSERT INTO export_jobs (workspace_id, export_id, kind, status, n_attempts, created_at, started_at)"
        " VALUES (%s, new_id('exp_'), 'workspace', 'running', 1, now(), now())",
        tenant.workspace_id,
    )
    [left] = owner.get("/v1/governance/exports").json()["data"]
    done = await finished(owner, f"/v1/governance/exports/{left['id']}")
    assert done["status"] == "succeeded"


async def test_clients_hear_how_far_an_export_is(stack: Stack, owner: httpx.Client) -> None:
    """`job.updated` with every state, and the link in the last."""
    token = owner.headers["Authorization"].removeprefix("Bearer ")
    async with connect(f"{stack.url.replace('http', 'ws')}/v1/stream?token={token}") as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        begun = await asyncio.to_thread(owner.post, "/v1/governance/exports")
        states = []
        async with asyncio.timeout(30):
            while "succeeded" not in states:
                frame = json.loads(await socket.recv())
                if frame["type"] == "job.updated" and frame["payload"]["id"] == begun.json()["id"]:
                    states.append(frame["payload"]["status"])
        assert "expires=" in frame["payload"]["result_url"]


async def test_the_audit_log_is_exported_and_says_so(owner: httpx.Client) -> None:
    """The export is an entry of the log that it exports."""
    begun = owner.post("/v1/audit/exports")
    assert begun.status_code == 202, begun.text
    done = await finished(owner, f"/v1/audit/exports/{begun.json()['id']}")
    assert done["status"] == "succeeded" and set(done["files"]) == {"audit.jsonl"}
    [entry] = owner.get("/v1/audit", params={"category": "export"}).json()["data"]
    assert (entry["action"], entry["target"]["id"]) == ("audit.export_requested", done["id"])


async def test_a_person_is_forgotten_with_a_certificate(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Everything but an id is gone, the next request of theirs is refused, and the proof can be checked by anybody."""
    url = stack.database.owner_url
    user_id, email = await join(url, tenant, "analyst")
    subject = client(stack, email)
    made = subject.post("/v1/api-tokens", json={"name": "mine", "scopes": ["issues:read"]})
    assert made.status_code == 201, made.text
    asked = owner.post(
        "/v1/governance/rtbf/requests", json={"subject": email.upper(), "reason": "They asked."}
    )
    assert asked.status_code == 201, asked.text
    request = asked.json()
    assert (request["subject_id"], request["status"]) == (user_id, "received")
    assert email not in asked.text
    path = f"/v1/governance/rtbf/requests/{request['id']}"
    assert owner.post("/v1/governance/rtbf/requests", json={"subject": user_id}).status_code == 409
    assert owner.get(f"{path}/certificate").status_code == 404

    for status in ("completed", "executing", "failed"):
        assert owner.patch(path, json={"status": status}).status_code == 409, status
    for status in ("verifying", "on_hold", "verifying"):
        noted = owner.patch(path, json={"status": status, "notes": "Asked for a passport."})
        assert (noted.status_code, noted.json()["status"]) == (200, status)
    assert owner.patch(path, json={"status": "approved"}).status_code == 400
    assert owner.patch(path, json={"status": "verifying", "notes": "x" * 2001}).status_code == 400

    approved = owner.post(f"{path}/approve")
    assert (approved.status_code, approved.json()["status"]) == (200, "completed"), approved.text
    assert subject.get("/v1/issues").status_code == 401
    assert owner.post(f"{path}/approve").status_code == 409
    assert owner.post(f"{path}/reject", json={"reason": "Too late."}).status_code == 409
    assert owner.patch(path, json={"status": "completed"}).status_code == 200
    [(address, name, status)] = await execute(
        url, "SELECT email, name, status FROM users WHERE user_id = %s", user_id
    )
    assert (address, name, status) == (f"{user_id}@erased.invalid", "Erased person", "suspended")
    for table in ("memberships", "sessions", "refresh_tokens", "api_tokens"):
        assert await execute(url, f"SELECT 1 FROM {table} WHERE user_id = %s", user_id) == [], table

    certificate = owner.get(f"{path}/certificate").json()
    assert certificate["statement"]["subject_id"] == user_id
    assert certificate["statement"]["erased"]["identity"]["memberships"] == 1
    assert certificate["statement"]["erased"]["identity"]["sessions"] == 1
    assert certificate["public_key"] == owner.get("/v1/governance/certificate-key").json()["public_key"]
    checking = "/v1/governance/certificates/verification"
    assert owner.post(checking, json=certificate).json() == {"is_genuine": True}
    certificate["statement"]["erased"]["identity"]["memberships"] = 2
    assert owner.post(checking, json=certificate).json() == {"is_genuine": False}


async def test_a_person_of_two_workspaces_keeps_the_other(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Only what this workspace has of them goes."""
    url = stack.database.owner_url
    other = await onboard(url)
    user_id, email = await join(url, tenant, "viewer")
    await execute(
        url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role) VALUES (%s, new_id('mem_'), %s, 'viewer')",
        other.workspace_id,
        user_id,
    )
    request = owner.post("/v1/governance/rtbf/requests", json={"subject": user_id}).json()
    assert owner.post(f"/v1/governance/rtbf/requests/{request['id']}/approve").status_code == 200
    assert await execute(url, "SELECT email FROM users WHERE user_id = %s", user_id) == [(email,)]
    assert await execute(url, "SELECT workspace_id FROM memberships WHERE user_id = %s", user_id) == [
        (other.workspace_id,)
    ]


async def test_who_may_do_more_is_not_erased_by_who_may_do_less_nor_by_one_alone(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """A Compliance Admin forgets analysts, not administrators and owners; those take two people."""
    url, path = stack.database.owner_url, "/v1/governance/rtbf/requests"
    administrator, admin_email = await join(url, tenant, "admin")
    analyst, _ = await join(url, tenant, "analyst")
    _, compliance_email = await join(url, tenant, "compliance_admin")

    def ask(by: httpx.Client, subject: str) -> str:
        made = by.post(path, json={"subject": subject})
        assert made.status_code == 201, made.text
        return f"{path}/{made.json()['id']}"

    with client(stack, compliance_email) as compliance, client(stack, admin_email) as admin:
        about_owner, about_admin = ask(compliance, tenant.owner_id), ask(compliance, administrator)
        for by, request in ((compliance, about_owner), (compliance, about_admin), (admin, about_owner)):
            refused = by.post(f"{request}/approve")
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), refused.text
            assert owner.get(request).json()["status"] == "received"
        assert compliance.post(f"{ask(compliance, analyst)}/approve").status_code == 200

        assert owner.post(f"{about_admin}/reject", json={"reason": "Mine to ask."}).status_code == 200
        alone = ask(owner, administrator)
        refused = owner.post(f"{alone}/approve")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "Somebody else has to approve" in refused.text
        assert owner.post(f"{alone}/reject", json={"reason": "Somebody else asks."}).status_code == 200
        assert owner.post(f"{ask(compliance, administrator)}/approve").json()["status"] == "completed"
        assert admin.get("/v1/audit").status_code == 401


async def test_a_removed_member_can_still_be_forgotten(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Their sessions, their address and their name, though they are no member any more."""
    url = stack.database.owner_url
    user_id, email = await join(url, tenant, "viewer")
    client(stack, email).close()
    [(membership_id,)] = await execute(
        url, "SELECT membership_id FROM memberships WHERE user_id = %s", user_id
    )
    assert owner.delete(f"/v1/members/{membership_id}").status_code == 204
    made = owner.post("/v1/governance/rtbf/requests", json={"subject": email})
    assert (made.status_code, made.json()["subject_id"]) == (201, user_id), made.text
    path = f"/v1/governance/rtbf/requests/{made.json()['id']}"
    assert owner.post(f"{path}/approve").json()["status"] == "completed"
    identity = owner.get(f"{path}/certificate").json()["statement"]["erased"]["identity"]
    assert (identity["sessions"], identity["memberships"], identity["users_anonymised"]) == (1, 0, 1)
    assert await execute(url, "SELECT email FROM users WHERE user_id = %s", user_id) == [
        (f"{user_id}@erased.invalid",)
    ]
    assert owner.post("/v1/governance/rtbf/requests", json={"subject": email}).status_code == 404


async def test_copies_of_before_go_with_the_person(stack: Stack, tenant: Tenant, owner: httpx.Client) -> None:
    """The link is over at once, the file soon; the certificate counts it and says what stays."""
    user_id, _ = await join(stack.database.owner_url, tenant, "viewer")
    begun = owner.post("/v1/governance/exports").json()
    export = f"/v1/governance/exports/{begun['id']}"
    done = await finished(owner, export)
    link = done["download_url"].replace(
        httpx.URL(done["download_url"]).netloc.decode(), httpx.URL(stack.url).netloc.decode()
    )
    assert httpx.get(link, timeout=30).status_code == 200
    request = owner.post("/v1/governance/rtbf/requests", json={"subject": user_id}).json()
    path = f"/v1/governance/rtbf/requests/{request['id']}"
    assert owner.post(f"{path}/approve").status_code == 200
    assert httpx.get(link, timeout=30).status_code == 404
    await eventually(lambda: owner.get(export).json()["status"] == "expired")
    assert list((stack.exports / tenant.workspace_id).iterdir()) == []
    statement = owner.get(f"{path}/certificate").json()["statement"]
    assert statement["erased"]["exports"] == {"files": 1}
    assert any("IP address" in text for text in statement["kept"])


async def test_the_last_owner_and_strangers_are_not_erased(
    stack: Stack, tenant: Tenant, owner: httpx.Client
) -> None:
    """Whoever is refused is as before."""
    path = "/v1/governance/rtbf/requests"
    _, email = await join(stack.database.owner_url, tenant, "admin")
    with client(stack, email) as admin:
        request = admin.post(path, json={"subject": tenant.owner_id}).json()
    refused = owner.post(f"{path}/{request['id']}/approve")
    assert (refused.status_code, refused.json()["code"]) == (422, "last_admin")
    assert owner.get(f"{path}/{request['id']}").json()["status"] == "received"
    rejected = owner.post(f"{path}/{request['id']}/reject", json={"reason": "You are the last."})
    assert (rejected.status_code, rejected.json()["status"]) == (200, "rejected")
    stranger = await onboard(stack.database.owner_url)
    assert owner.post(path, json={"subject": stranger.owner_id}).status_code == 404
    assert owner.post(path, json={"subject": stranger.owner_email}).status_code == 404
    assert owner.post(path, json={}).status_code == 400


def test_a_certificate_is_bound_to_its_key() -> None:
    """Another master key signs with another key, and does not vouch for the certificates of this one."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    statement = Statement(
        certificate_id="rtbf_1",
        kind="person",
        workspace_id="ws_1",
        subject_id="usr_1",
        requested_at=at,
        erased_at=at,
        decided_by=None,
        erased={"identity": {"memberships": 1}},
        kept=(),
    )
    one, another = Signer(SealingKey(b"a" * 32)), Signer(SealingKey(b"b" * 32))
    certificate = one.certify(statement)
    assert is_genuine(certificate, public_key=one.public_key)
    assert not is_genuine(certificate, public_key=another.public_key)
    assert not is_genuine(certificate, public_key="no base64")
    altered = replace(certificate, statement=replace(statement, subject_id="usr_2"))
    assert not is_genuine(altered, public_key=one.public_key)
