"""Workspace, organization, onboarding and provisioning over HTTP."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from contracts import Event, Recorded
from eventlog import EventLog
from psycopg import AsyncConnection
from runtime import broker
from runtime.errors import UnavailableError
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.identity.scopes import ROLES
from services.gateway.identity.tenancy.keys import platform as platform_by
from services.gateway.identity.tokens import Principal, issue_access_token
from tests.services.gateway.tenants import Tenant, execute, join, onboard
from tests.services.gateway.test_api import wait_for

SECRET = "a-secret-for-tests-of-32-characters"


@contextmanager
def signed_in(
    stack: Stack, tenant: Tenant, user_id: str | None = None, role: str = "owner"
) -> Iterator[httpx.Client]:
    """A client with a session of this member."""
    now = datetime.now(UTC)
    person = user_id or tenant.owner_id
    [(session_id,)] = asyncio.run(
        execute(
            stack.database.owner_url,
            "INSERT INTO sessions (workspace_id, session_id, user_id, method, created_at, last_seen_at, expires_at)"
            " VALUES (%s, new_id('ses_'), %s, 'mock', now(), now(), now() + interval '1 hour') RETURNING session_id",
            tenant.workspace_id,
            person,
        )
    )
    principal = Principal(
        workspace_id=tenant.workspace_id,
        user_id=person,
        role=role,
        scopes=ROLES[role].scopes,
        session_id=session_id,
        expires_at=now + timedelta(minutes=10),
    )
    token = issue_access_token(principal, secret=SECRET, now=now)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def new_tenant(stack: Stack, **fields: Any) -> Tenant:
    return asyncio.run(onboard(stack.database.owner_url, **fields))


def operate(stack: Stack, statement: str, *values: object) -> list[Any]:
    return asyncio.run(execute(stack.database.owner_url, statement, *values))


def told(stack: Stack, workspace_id: str) -> list[Recorded[Event]]:
    """What the log has of a workspace, once the outbox is empty of it."""

    async def read() -> list[Recorded[Event]]:
        nc = await broker.connect(stack.nats.url, name="test")
        try:
            log = await EventLog.connect(nc)
            return await log.history(workspace_id, "workspace", workspace_id)
        finally:
            await nc.close()

    wait_for(lambda: not operate(stack, "SELECT 1 FROM outbox WHERE workspace_id = %s", workspace_id))
    return asyncio.run(read())


def test_a_client_made_in_sql_is_usable_over_http_at_once(stack: Stack) -> None:
    """While the services run: its owner reads the workspace, and reports an issue that is then found."""
    tenant = new_tenant(stack)
    with signed_in(stack, tenant) as client:
        answer = client.get("/v1/workspace")
        assert (answer.status_code, answer.json()["slug"]) == (200, tenant.slug)
        reported = client.post("/v1/issues", json={"title": "The first"})
        assert reported.status_code == 201, reported.text
        assert client.get(f"/v1/issues/{reported.json()['id']}").status_code == 200
        assert [type(event.data).__name__ for event in told(stack, tenant.workspace_id)] == [
            "WorkspaceCreated"
        ]


def test_an_offboarded_client_is_shut_out_and_comes_back(stack: Stack) -> None:
    """At the next request after the operator's transaction."""
    tenant = new_tenant(stack)
    with signed_in(stack, tenant) as client:
        assert client.get("/v1/workspace").status_code == 200
        operate(stack, "SELECT * FROM offboard_client(%s)", tenant.slug)
        wait_for(lambda: client.get("/v1/workspace").status_code == 403)
        operate(stack, "SELECT * FROM reinstate_client(%s)", tenant.slug)
        wait_for(lambda: client.get("/v1/workspace").status_code == 200)


def test_a_workspace_is_changed_and_the_services_hear_of_their_settings(stack: Stack) -> None:
    """One fact with what changed of the settings; names are nobody else's business; what is the same is no change."""
    tenant = new_tenant(stack)
    with signed_in(stack, tenant) as client:
        before = client.get("/v1/workspace").json()
        change = {
            "name": "Payments",
            "slug": "payments",
            "description": "Money in, money out.",
            "industry": "fintech",
            "timezone": "Europe/Berlin",
            "theme": "light",
            "proof_window_days": 21.0,
            "alert_probability": 0.7,
        }
        answer = client.patch("/v1/workspace", json=change)
        assert answer.status_code == 200, answer.text
        changed = answer.json()
        assert {name: changed[name] for name in list(change)[:6]} == dict(list(change.items())[:6])
        assert changed["settings"] == {**before["settings"], "proof_window_days": 21}
        assert client.get("/v1/workspace").json() == changed
        assert client.patch("/v1/workspace", json=change).json() == changed
        assert client.patch("/v1/workspace", json={"name": "Payments, renamed"}).status_code == 200
        [_, fact] = told(stack, tenant.workspace_id)
    assert fact.actor == tenant.owner_id
    assert (fact.data.proof_window_days, fact.data.timezone) == (21, "Europe/Berlin")  # type: ignore[union-attr]
    assert fact.data.alert_probability is None  # type: ignore[union-attr]
    entries = operate(
        stack,
        "SELECT actor_id, metadata FROM audit_log WHERE workspace_id = %s AND action = 'workspace.settings.updated'"
        " ORDER BY entry_number",
        tenant.workspace_id,
    )
    fields = "description,industry,name,proof_window_days,slug,theme,timezone"
    assert entries == [(tenant.owner_id, {"fields": fields}), (tenant.owner_id, {"fields": "name"})]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x"}, "name"),
        ({"name": "  "}, "name"),
        ({"slug": "-x"}, "slug"),
        ({"slug": "x\n"}, "slug"),
        ({"description": "x" * 2001}, "description"),
        ({"description": "\0"}, "description"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "EST5EDT\n"}, "timezone"),
        ({"theme": "blue"}, "theme"),
        ({"proof_window_days": 6}, "proof_window_days"),
        ({"minimum_cluster_size": 2.5}, "minimum_cluster_size"),
        ({"auto_link": False}, "auto_link"),
    ],
)
def test_a_change_that_is_none_is_named(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    """400 with the field."""
    answer = api.patch("/v1/workspace", json=body)
    assert (answer.status_code, list(answer.json()["error"]["details"])) == (400, [field])


def test_single_sign_on_is_enforced_only_by_its_owner_with_plan_and_connection(stack: Stack) -> None:
    """Nobody locks everybody out."""
    poor = new_tenant(stack, plan="free")
    with signed_in(stack, poor) as client:
        answer = client.patch("/v1/workspace", json={"sso_enforced": True})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "plan_limit")
        assert answer.json()["error"]["details"] == {"plan": "free", "feature": "sso"}
    rich = new_tenant(stack)
    admin_id, _ = asyncio.run(join(stack.database.owner_url, rich, "admin"))
    with signed_in(stack, rich, admin_id, "admin") as client:
        answer = client.patch("/v1/workspace", json={"sso_enforced": True})
        assert (answer.status_code, answer.json()["error"]["details"]) == (403, {"scope": "sso:admin"})
    with signed_in(stack, rich) as client:
        assert client.patch("/v1/workspace", json={"sso_enforced": True}).status_code == 409
        assert client.get("/v1/workspace").json()["sso_enforced"] is False


def test_the_plan_card_counts(stack: Stack) -> None:
    """Seats, limits and features of the plan; the name is the owner's to change, the plan is not."""
    tenant = new_tenant(stack, plan="growth", seats=12)
    asyncio.run(join(stack.database.owner_url, tenant, "viewer"))
    with signed_in(stack, tenant) as client:
        body = client.get("/v1/organization").json()
        plan = body.pop("plan")
        assert plan.pop("events_reset_at") > datetime.now(UTC).isoformat()
        assert plan == {
            "tier": "growth",
            "seats_total": 12,
            "seats_used": 2,
            "connectors": 40,
            "requests_per_minute": 3000,
            "events_per_month": 5_000_000,
            "events_this_month": 0,
            "retention_days": 730,
            "features": ["audit_export", "scim", "sso"],
        }
        assert (body["id"], body["status"]) == (tenant.organization_id, "active")
        renamed = client.patch("/v1/organization", json={"name": "Another name"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "Another name")
        assert client.get("/v1/organization").json()["name"] == "Another name"
        assert client.patch("/v1/organization", json={"plan": "enterprise"}).status_code == 400


def test_a_workspace_takes_its_first_steps(stack: Stack) -> None:
    """In any order, each once, with counts that are real; a step that is none is not found."""
    tenant = new_tenant(stack)
    with signed_in(stack, tenant) as client:
        start = client.get("/v1/onboarding").json()
        assert (start["current_step"], start["completed_steps"], start["is_complete"]) == (
            "connect_source",
            ["welcome"],
            False,
        )
        assert start["first_sync"] == {"status": "pending", "issues_ingested": 0}
        assert client.get("/v1/onboarding/config").json()["probability_threshold"] == 0.75
        invited = client.post("/v1/invitations", json={"email": "new@x.example", "role": "viewer"})
        assert invited.status_code == 201, invited.text
        assert client.post("/v1/issues", json={"title": "One"}).status_code == 201
        for step in ("set_alerts", "set_alerts"):
            done = client.post(f"/v1/onboarding/steps/{step}/complete")
            assert (done.status_code, done.json()["step"], done.json()["completed"]) == (200, step, True)
        state = done.json()["onboarding"]
        assert state["completed_steps"] == ["welcome", "set_alerts"]
        assert (state["current_step"], state["members_invited"]) == ("connect_source", 1)
        assert state["first_sync"] == {"status": "succeeded", "issues_ingested": 1}
        assert state["alert_rule_created"] is True
        for step in ("connect_source", "invite_team", "review_first_pattern"):
            state = client.post(f"/v1/onboarding/steps/{step}/complete").json()["onboarding"]
        assert (state["current_step"], state["is_complete"]) == ("review_first_pattern", True)
        assert client.get("/v1/onboarding").json() == state
        assert client.post("/v1/onboarding/steps/dance/complete").status_code == 404


def order(slug: str, **fields: Any) -> dict[str, Any]:
    return {
        "organization": {"name": "Client", "slug": slug, "plan": "starter", "seats": 5},
        "owner": {"email": f"owner@{slug}.example"},
        **fields,
    }


def test_a_client_is_provisioned_with_a_key_and_a_link(stack: Stack, platform: httpx.Client) -> None:
    """One call; the key works at once, the link tells whom it is for, and no secret is stored."""
    slug = f"p-{uuid4().hex[:10]}"
    answer = platform.post(
        "/v1/provisioning/clients",
        json=order(slug, workspace={"name": "Their space"}, issue_api_key=True, owner_invite_link=True),
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    token = made["api_key"]["token"]
    with httpx.Client(
        base_url=stack.url, headers={"Authorization": f"Bearer {token}", "Prefer": "wait=10"}, timeout=30
    ) as client:
        space = client.get("/v1/workspace").json()
        assert (space["id"], space["name"], space["slug"]) == (made["workspace_id"], "Their space", slug)
        assert client.post("/v1/issues", json={"title": "By the key"}).status_code == 201
        assert client.get("/v1/organization").json()["plan"]["seats_total"] == 5
        assert client.patch("/v1/workspace", json={"name": "No"}).status_code == 403
        link_token = made["owner_invite_link"].partition("#")[2]
        shown = client.post("/v1/invitations/look", json={"token": link_token})
        assert (shown.status_code, shown.json()["role"]) == (200, "owner"), shown.text
    stored = operate(
        stack,
        "SELECT count(*) FROM api_tokens AS t WHERE t::text LIKE '%%' || %s || '%%'",
        token,
    )
    assert stored == [(0,)]
    [(actor, n)] = operate(
        stack,
        "SELECT max(actor_id), count(*) FROM audit_log WHERE workspace_id = %s AND actor_id IS NOT NULL",
        made["workspace_id"],
    )
    assert (actor[:4], n) == ("key_", 4)
    email = f"owner@{slug}.example"
    way = {"subject_token": email, "invitation_token": link_token}
    assert httpx.post(f"{stack.url}/v1/auth/exchange", json=way, timeout=30).status_code == 200
    used = operate(
        stack,
        "SELECT actor_id FROM audit_log WHERE workspace_id = %s AND action = 'invitation.accepted'",
        made["workspace_id"],
    )
    assert used == [(made["owner_user_id"],)]


def test_a_client_that_cannot_be_provisioned_leaves_nothing(platform: httpx.Client, stack: Stack) -> None:
    """409 for the slug, 422 for more seats than the plan has, 400 for what does not exist."""
    slug = f"p-{uuid4().hex[:10]}"
    assert platform.post("/v1/provisioning/clients", json=order(slug)).status_code == 201
    taken = platform.post("/v1/provisioning/clients", json=order(slug, issue_api_key=True))
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
    other = f"p-{uuid4().hex[:10]}"
    for change, status, detail in (
        ({"seats": 26}, 422, "limit"),
        ({"plan": "gold"}, 400, "organization.plan"),
        ({"timezone": "Mars/Base"}, 400, "organization.timezone"),
        ({"slug": "Not A Slug"}, 400, "organization.slug"),
    ):
        body = order(other)
        body["organization"] |= change
        answer = platform.post("/v1/provisioning/clients", json=body)
        assert (answer.status_code, next(iter(answer.json()["error"]["details"]))) == (status, detail)
    assert operate(stack, "SELECT count(*) FROM organizations WHERE slug = %s", other) == [(0,)]
    assert operate(stack, "SELECT count(*) FROM users WHERE email = %s", f"owner@{other}.example") == [(0,)]


def test_a_provisioning_key_opens_provisioning_and_nothing_else(
    stack: Stack, platform: httpx.Client, api: httpx.Client
) -> None:
    """Nor does any other token open provisioning."""
    assert api.post("/v1/provisioning/clients", json=order("x")).status_code == 403
    for path in ("/v1/workspace", "/v1/issues", "/v1/organization"):
        assert platform.get(path).status_code == 403
    wrong = httpx.post(
        f"{stack.url}/v1/provisioning/clients",
        json=order("x"),
        headers={"Authorization": "Bearer clp_admin_wrong"},
        timeout=30,
    )
    assert wrong.status_code == 401
    bare = httpx.post(f"{stack.url}/v1/provisioning/clients", json=order("x"), timeout=30)
    assert bare.status_code == 401


def test_without_configured_keys_provisioning_is_off() -> None:
    """503, whatever is presented."""
    with pytest.raises(UnavailableError):
        platform_by("clp_admin_x", hashes=())


async def test_a_client_made_in_sql_is_usable_before_the_log_knows_of_it(stack: Stack) -> None:
    """So neither a timer nor a notification stands between the statement and the first request; then it is told."""
    async with (
        await AsyncConnection.connect(stack.database.admin_url, autocommit=True) as superuser,
        httpx.AsyncClient(base_url=stack.url, timeout=30, headers={"Prefer": "wait=10"}) as api,
    ):

        async def told_by_nobody() -> bool:
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'causeloop-outbox'"
            )
            lock = "SELECT pg_try_advisory_lock(hashtextextended('identity/outbox', 0))"
            return await (await superuser.execute(lock)).fetchone() == (True,)

        await eventually(told_by_nobody)
        tenant = await onboard(stack.database.owner_url)
        untold = "SELECT count(*) FROM outbox WHERE workspace_id = %s"
        pair = await api.post("/v1/auth/exchange", json={"subject_token": tenant.owner_email})
        api.headers["Authorization"] = f"Bearer {pair.json()['access_token']}"
        made = await api.post("/v1/issues", json={"title": "first"})
        assert made.status_code == 201, made.text
        shown = await api.get(f"/v1/issues/{made.json()['id']}")
        assert (shown.status_code, shown.json()["title"]) == (200, "first")
        assert (await api.get("/v1/workspace")).json()["id"] == tenant.workspace_id
        assert await execute(stack.database.owner_url, untold, tenant.workspace_id) == [(1,)]

    async def is_told() -> bool:
        return await execute(stack.database.owner_url, untold, tenant.workspace_id) == [(0,)]

    await eventually(is_told)


async def test_two_changes_of_a_workspace_do_not_wait_in_a_circle(stack: Stack) -> None:
    """One changes settings and then writes its line, the other holds the workspace while it waits for the settings."""
    tenant = await onboard(stack.database.owner_url)
    async with await AsyncConnection.connect(
        stack.database.owner_url, options="-c search_path=identity"
    ) as conn:
        await conn.execute(
            "UPDATE workspace_settings SET proof_window_days = 15 WHERE workspace_id = %s",
            [tenant.workspace_id],
        )
        naming = asyncio.create_task(asyncio.to_thread(_named, stack, tenant, "At once"))
        waiting = (
            "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )

        async def waits() -> bool:
            return await (await conn.execute(waiting)).fetchone() is not None

        await eventually(waits)
        await conn.execute(
            "SELECT audit(%s, NULL, 'workspace.settings.updated', 'update', 'workspace', %s)",
            [tenant.workspace_id, tenant.workspace_id],
        )
    assert (await naming).status_code == 200


def _named(stack: Stack, tenant: Tenant, name: str) -> httpx.Response:
    with signed_in(stack, tenant) as client:
        return client.patch("/v1/workspace", json={"name": name})
