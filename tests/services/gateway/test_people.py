"""Members, invitations and preferences over HTTP, each test in a client of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from testkit.stack import Stack
from testkit.waiting import eventually

from tests.services.gateway.tenants import Tenant, execute, join, onboard


@contextmanager
def client(stack: Stack, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=stack.url, headers={"Authorization": f"Bearer {token}", "Prefer": "wait=10"}, timeout=30
    ) as opened:
        yield opened


def sign_in(stack: Stack, email: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{stack.url}/v1/auth/exchange", json={"subject_token": email, **more}, timeout=30)


def token_of(stack: Stack, email: str) -> str:
    answer = sign_in(stack, email)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


class World:
    """A client, and its people signed in."""

    def __init__(self, stack: Stack, tenant: Tenant) -> None:
        self.stack = stack
        self.tenant = tenant
        self.owner_url = stack.database.owner_url

    def sql(self, statement: str, *values: object) -> list[Any]:
        return asyncio.run(execute(self.owner_url, statement, *values))

    def add(self, role: str) -> tuple[str, str]:
        """The membership's id and the address of a new member."""
        user_id, email = asyncio.run(join(self.owner_url, self.tenant, role))
        [(membership_id,)] = self.sql("SELECT membership_id FROM memberships WHERE user_id = %s", user_id)
        return membership_id, email

    @contextmanager
    def as_(self, email: str) -> Iterator[httpx.Client]:
        with client(self.stack, token_of(self.stack, email)) as opened:
            yield opened

    @contextmanager
    def owner(self) -> Iterator[httpx.Client]:
        with self.as_(self.tenant.owner_email) as opened:
            yield opened

    def mail_to(self, email: str) -> list[dict[str, Any]]:
        """The letters that were caught, newest first."""
        caught = httpx.get(f"{self.stack.url}/dev/mail.json", timeout=30).json()
        return [each["letter"] for each in caught if each["letter"]["to"] == email]

    def link_to(self, email: str, *, n_letters: int = 1) -> str:
        """The token of the newest link that was mailed."""

        asyncio.run(eventually(lambda: len(self.mail_to(email)) == n_letters))
        text = str(self.mail_to(email)[0]["text"])
        return text.partition("#")[2].split()[0]

    def audited(self) -> list[str]:
        rows = self.sql(
            "SELECT action FROM audit_log WHERE workspace_id = %s ORDER BY entry_number",
            self.tenant.workspace_id,
        )
        return [action for (action,) in rows]


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack, asyncio.run(onboard(stack.database.owner_url)))


@pytest.fixture
def small(stack: Stack) -> World:
    """With two seats."""
    return World(stack, asyncio.run(onboard(stack.database.owner_url, seats=2)))


def address(name: str = "ada") -> str:
    return f"{name}-{uuid4().hex[:10]}@acme.example"


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_members_are_listed_in_pages_and_found_by_words(world: World) -> None:
    """Newest first; filters by role, status and words; the same cursor for another list is refused."""
    for role in ("viewer", "analyst", "analyst"):
        world.add(role)
    with world.owner() as api:
        first = api.get("/v1/members", params={"limit": 3}).json()
        assert [each["role"] for each in first["data"]] == ["analyst", "analyst", "viewer"]
        assert first["page"]["total"] == 4
        cursor = first["page"]["next_cursor"]
        second = api.get("/v1/members", params={"limit": 3, "cursor": cursor}).json()
        assert [each["email"] for each in second["data"]] == [world.tenant.owner_email]
        assert second["page"] == {"next_cursor": None, "has_more": False, "total": 4}
        refused(api.get("/v1/members", params={"role": "viewer", "cursor": cursor}), 400, "validation_error")
        roles = api.get("/v1/members", params={"role": "owner,tenant_admin"}).json()["data"]
        assert [each["role"] for each in roles] == ["owner"]
        found = api.get("/v1/members", params={"q": f"OWNER {world.tenant.slug}"}).json()["data"]
        assert [each["email"] for each in found] == [world.tenant.owner_email]
        assert api.get("/v1/members", params={"status": "suspended"}).json()["page"]["total"] == 0
        names = [each["name"] for each in api.get("/v1/members", params={"sort": "name"}).json()["data"]]
        assert names == sorted(names)


def test_a_member_of_another_client_does_not_exist(world: World, small: World) -> None:
    """404 and never 403; and an id is known by both of its prefixes."""
    foreign, _ = small.add("viewer")
    own, _ = world.add("viewer")
    with world.owner() as api:
        for method, path in (("GET", foreign), ("PATCH", foreign), ("DELETE", foreign), ("GET", "mem_none")):
            body = {"role": "analyst"} if method == "PATCH" else None
            refused(api.request(method, f"/v1/members/{path}", json=body), 404, "not_found")
        same = api.get("/v1/members/" + own.replace("mem_", "mbr_"))
        assert same.json()["id"] == own


def test_a_role_holds_from_the_next_request_on(world: World) -> None:
    """The member's old token opens more, and then less."""
    membership_id, email = world.add("viewer")
    with world.owner() as owner, world.as_(email) as member:
        refused(member.get("/v1/invitations/none"), 405, "method_not_allowed")
        refused(member.post("/v1/invitations", json={"email": address()}), 403, "forbidden")
        changed = owner.patch(f"/v1/members/{membership_id}", json={"role": "tenant_admin"})
        assert (changed.status_code, changed.json()["role"]) == (200, "admin")
        assert member.post("/v1/invitations", json={"email": address()}).status_code == 201
        owner.patch(f"/v1/members/{membership_id}", json={"role": "viewer"})
        refused(member.post("/v1/invitations", json={"email": address()}), 403, "forbidden")
    assert world.audited().count("member.role_changed") == 2


def test_nobody_gives_or_takes_what_they_do_not_have(world: World) -> None:
    """An administrator cannot make, change or remove an owner, nor raise themselves; a security admin no analyst."""
    admin_id, admin_email = world.add("admin")
    security_id, security_email = world.add("security_admin")
    analyst_id, _ = world.add("analyst")
    with world.owner() as owner:
        everybody = owner.get("/v1/members").json()["data"]
        owner_id = next(each["id"] for each in everybody if each["role"] == "owner")
    with world.as_(admin_email) as admin:
        refused(admin.patch(f"/v1/members/{admin_id}", json={"role": "owner"}), 403, "forbidden")
        refused(admin.patch(f"/v1/members/{analyst_id}", json={"role": "owner"}), 403, "forbidden")
        refused(admin.patch(f"/v1/members/{owner_id}", json={"role": "viewer"}), 403, "forbidden")
        refused(admin.delete(f"/v1/members/{owner_id}"), 403, "forbidden")
        refused(admin.post("/v1/invitations", json={"email": address(), "role": "owner"}), 403, "forbidden")
        refused(admin.patch(f"/v1/members/{admin_id}", json={"status": "suspended"}), 403, "forbidden")
    with world.as_(security_email) as security:
        refused(security.patch(f"/v1/members/{analyst_id}", json={"status": "suspended"}), 403, "forbidden")
        refused(security.patch(f"/v1/members/{security_id}", json={"role": "admin"}), 403, "forbidden")
        refused(security.delete(f"/v1/members/{analyst_id}"), 403, "forbidden")
    with world.as_(admin_email) as admin:
        assert admin.patch(f"/v1/members/{admin_id}", json={"role": "analyst"}).json()["role"] == "analyst"


def test_the_last_owner_stays(world: World) -> None:
    """Neither a lower role nor removal, whoever else administers; with another owner it goes."""
    with world.owner() as owner:
        [me] = owner.get("/v1/members").json()["data"]
        refused(owner.patch(f"/v1/members/{me['id']}", json={"role": "viewer"}), 422, "last_admin")
        refused(owner.delete(f"/v1/members/{me['id']}"), 422, "last_admin")
        world.add("admin")
        refused(owner.patch(f"/v1/members/{me['id']}", json={"role": "admin"}), 422, "last_admin")
        world.add("owner")
        assert owner.patch(f"/v1/members/{me['id']}", json={"role": "viewer"}).json()["role"] == "viewer"


def test_a_suspended_member_is_out_and_frees_a_seat(small: World) -> None:
    """At the next request; coming back needs a seat again."""
    first_id, first_email = small.add("viewer")
    with small.owner() as owner, small.as_(first_email) as member:
        assert member.get("/v1/members").status_code == 200
        assert owner.patch(f"/v1/members/{first_id}", json={"status": "suspended"}).status_code == 200
        refused(member.get("/v1/members"), 403, "forbidden")
        small.add("viewer")
        full = owner.patch(f"/v1/members/{first_id}", json={"status": "active"})
        refused(full, 422, "seat_limit")
        assert full.json()["error"]["details"] == {"limit": "seats", "seats": "2"}


def test_a_removed_member_loses_sessions_and_tokens(world: World) -> None:
    """Here, at once; the person remains."""
    membership_id, email = world.add("analyst")
    with world.owner() as owner, world.as_(email) as member:
        made = member.get("/v1/members")
        assert made.status_code == 200
        assert owner.delete(f"/v1/members/{membership_id}").status_code == 204
        assert member.get("/v1/members").status_code == 401
        refused(owner.get(f"/v1/members/{membership_id}"), 404, "not_found")
    assert sign_in(world.stack, email).status_code == 403
    assert world.sql("SELECT count(*) FROM users WHERE email = %s", email) == [(1,)]
    assert "member.removed" in world.audited()


def test_somebody_unknown_comes_in_by_the_link_that_was_mailed(world: World) -> None:
    """Invited, not yet in; the link is looked at without signing in; the exchange accepts it; it is good once."""
    email = address()
    with world.owner() as owner:
        made = owner.post("/v1/invitations", json={"email": email})
        assert made.status_code == 201
        assert made.json()["link"] is None
        invitation = made.json()["invitation"]
        assert (invitation["role"], invitation["status"], invitation["email"]) == (
            "analyst",
            "pending",
            email,
        )
        [listed] = owner.get("/v1/members", params={"status": "invited"}).json()["data"]
        assert (listed["email"], listed["provisioning"]) == (email, "invitation")
        refused(owner.patch(f"/v1/members/{listed['id']}", json={"status": "active"}), 409, "conflict")
    token = world.link_to(email)
    refused(sign_in(world.stack, email), 403, "forbidden")
    look = httpx.post(f"{world.stack.url}/v1/invitations/look", json={"token": token}, timeout=30).json()
    assert (look["workspace_id"], look["role"]) == (world.tenant.workspace_id, "analyst")
    assert look["workspace_name"] == f"Client {world.tenant.slug}"
    joined = sign_in(world.stack, email, invitation_token=token)
    assert joined.status_code == 200, joined.text
    assert joined.json()["workspace_id"] == world.tenant.workspace_id
    with client(world.stack, joined.json()["access_token"]) as member:
        assert member.get("/v1/members").json()["page"]["total"] == 2
    refused(sign_in(world.stack, email, invitation_token=token), 404, "not_found")
    with world.owner() as owner:

        def is_done() -> bool:
            [done] = owner.get("/v1/invitations").json()["data"]
            return (done["status"], done["delivery"]) == ("accepted", "sent")

        # That a letter is sent is noted once it is.
        asyncio.run(eventually(is_done))
    assert {"member.invited", "member.joined"} <= set(world.audited())


def test_whoever_is_signed_in_elsewhere_accepts_by_post(world: World, small: World) -> None:
    """With their own address only; an invitation to somebody else is not theirs."""
    _, email = small.add("viewer")
    with world.owner() as owner:
        assert owner.post("/v1/invitations", json={"email": email, "role": "viewer"}).status_code == 201
    token = world.link_to(email)
    with small.as_(small.tenant.owner_email) as other:
        refused(other.post("/v1/invitations/accept", json={"token": token}), 403, "forbidden")
    with small.as_(email) as invited:
        joined = invited.post("/v1/invitations/accept", json={"token": token})
        assert joined.json() == {
            "workspace_id": world.tenant.workspace_id,
            "workspace_name": f"Client {world.tenant.slug}",
            "role": "viewer",
        }
        refused(invited.post("/v1/invitations/accept", json={"token": token}), 404, "not_found")
    there = sign_in(world.stack, email, workspace_id=world.tenant.workspace_id)
    assert there.json()["workspace_id"] == world.tenant.workspace_id


def test_a_fresh_link_ends_the_old_one(world: World) -> None:
    """Both were mailed; only the second opens."""
    email = address()
    with world.owner() as owner:
        invitation = owner.post("/v1/invitations", json={"email": email}).json()["invitation"]
        old = world.link_to(email)
        again = owner.post(f"/v1/invitations/{invitation['id']}/resend")
        assert again.status_code == 200
    new = world.link_to(email, n_letters=2)
    assert old != new
    refused(sign_in(world.stack, email, invitation_token=old), 404, "not_found")
    assert sign_in(world.stack, email, invitation_token=new).status_code == 200


def test_a_revoked_or_expired_link_opens_nothing(world: World) -> None:
    """And the address can be invited again."""
    email = address()
    with world.owner() as owner:
        invitation = owner.post("/v1/invitations", json={"email": email}).json()["invitation"]
        token = world.link_to(email)
        assert owner.delete(f"/v1/invitations/{invitation['id']}").status_code == 204
        refused(owner.delete(f"/v1/invitations/{invitation['id']}"), 409, "conflict")
        refused(sign_in(world.stack, email, invitation_token=token), 404, "not_found")
        assert owner.get("/v1/members", params={"status": "invited"}).json()["page"]["total"] == 0
        second = owner.post("/v1/invitations", json={"email": email}).json()["invitation"]
        token = world.link_to(email, n_letters=2)
        world.sql("UPDATE invitations SET expires_at = now() WHERE invitation_id = %s", second["id"])
        refused(sign_in(world.stack, email, invitation_token=token), 404, "not_found")
        [expired] = owner.get("/v1/invitations", params={"status": "expired"}).json()["data"]
        assert expired["id"] == second["id"]
        third = owner.post("/v1/invitations", json={"email": email})
        assert third.status_code == 201
        statuses = [each["status"] for each in owner.get("/v1/invitations").json()["data"]]
        assert statuses == ["pending", "revoked", "revoked"]


def test_an_address_is_invited_once(world: World) -> None:
    """A member, somebody invited, and an address that differs by case only."""
    membership_id, email = world.add("viewer")
    other = address()
    with world.owner() as owner:
        refused(owner.post("/v1/invitations", json={"email": email}), 409, "conflict")
        refused(owner.post("/v1/invitations", json={"email": email.upper()}), 409, "conflict")
        assert owner.post("/v1/invitations", json={"email": other}).status_code == 201
        refused(owner.post("/v1/invitations", json={"email": other}), 409, "conflict")
        for bad in (
            "ada",
            "ada@",
            "@acme.example",
            "ada@acme.example\n",
            "a b@acme.example",
            "ä@acme.example",
        ):
            refused(owner.post("/v1/invitations", json={"email": bad}), 400, "validation_error")
        owner.patch(f"/v1/members/{membership_id}", json={"status": "suspended"})
        refused(owner.post("/v1/invitations", json={"email": email}), 409, "conflict")


def test_the_last_seat_is_taken_once(small: World) -> None:
    """Two accept at once: one is in, the other hears of the seats."""
    emails = [address(), address()]
    with small.owner() as owner:
        for email in emails:
            assert owner.post("/v1/invitations", json={"email": email}).status_code == 201
    tokens = [small.link_to(email) for email in emails]

    async def both() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=small.stack.url, timeout=30) as http:
            return await asyncio.gather(
                *(
                    http.post("/v1/auth/exchange", json={"subject_token": email, "invitation_token": token})
                    for email, token in zip(emails, tokens, strict=True)
                )
            )

    answers = sorted(asyncio.run(both()), key=lambda answer: answer.status_code)
    assert answers[0].status_code == 200
    refused(answers[1], 422, "seat_limit")


def test_the_link_is_kept_as_a_hash_only(world: World) -> None:
    """Neither in a row nor in the log of the gateway; the queued letter was sealed."""
    email = address()
    with world.owner() as owner:
        owner.post("/v1/invitations", json={"email": email})
    token = world.link_to(email)
    dump = world.sql("SELECT row_to_json(i)::text FROM invitations AS i WHERE email = %s", email)
    assert token not in str(dump)
    assert token not in world.stack.services["gateway"].output()


def test_an_address_that_the_clients_own_provider_speaks_for_comes_in_through_it(world: World) -> None:
    """403 sso_required, which names the connection."""
    email = address()
    connection = f"sso_{uuid4().hex[:26].upper().translate(str.maketrans('ILOU', 'JKMN'))}"
    world.sql(
        "INSERT INTO oidc_connections (workspace_id, connection_id, name, issuer, client_id, client_secret_sealed,"
        " domains, default_role, created_at, updated_at)"
        " VALUES (%s, %s, 'Okta', 'https://idp.example', 'c', 'x', '{acme.example}', 'viewer', now(), now())",
        world.tenant.workspace_id,
        connection,
    )
    with world.owner() as owner:
        owner.post("/v1/invitations", json={"email": email})
    token = world.link_to(email)
    answer = sign_in(world.stack, email, invitation_token=token)
    refused(answer, 403, "sso_required")
    assert answer.json()["error"]["details"] == {"connection_id": connection}
    # Nor does any other address, once the workspace insists.
    world.sql("UPDATE workspaces SET sso_enforced = true WHERE workspace_id = %s", world.tenant.workspace_id)
    world.sql("UPDATE oidc_connections SET domains = '{other.example}' WHERE connection_id = %s", connection)
    refused(sign_in(world.stack, email, invitation_token=token), 403, "sso_required")
    assert world.sql("SELECT status FROM members WHERE email = %s", email) == [("invited",)]


def test_preferences_begin_with_defaults_and_hide_secrets(world: World) -> None:
    """p2, 70, realtime; a hook is told to be set and never shown; each member has their own."""
    hook = "https://hooks.slack.example/services/T0/B0/secret"
    _, email = world.add("viewer")
    with world.owner() as owner, world.as_(email) as member:
        path = "/v1/settings/notifications"
        before = owner.get(path).json()
        assert (before["min_severity_for_alert"], before["min_risk_score_for_alert"]) == ("p2", 70)
        assert (before["digest_frequency"], before["slack_webhook_url_set"]) == ("realtime", False)
        changed = owner.patch(
            path,
            json={
                "slack_enabled": True,
                "slack_webhook_url": hook,
                "digest_frequency": "never",
                "min_risk_score_for_alert": 80,
                "events": [{"key": "issue.created", "email": False}],
                "notify_on_new_issue": None,
            },
        )
        assert changed.status_code == 200, changed.text
        after = changed.json()
        assert (after["slack_webhook_url_set"], after["digest_frequency"]) == (True, "never")
        [created] = [each for each in after["events"] if each["key"] == "issue.created"]
        assert (created["email"], created["in_app"]) == (False, True)
        assert "hooks.slack" not in changed.text
        owner.patch(path, json={"events": [{"key": "issue.created", "in_app": False}]})
        [created] = [e for e in owner.get(path).json()["events"] if e["key"] == "issue.created"]
        assert (created["email"], created["in_app"]) == (False, False)
        assert member.get(path).json()["digest_frequency"] == "realtime"
        assert owner.patch(path, json={"slack_webhook_url": ""}).json()["slack_webhook_url_set"] is False
        for bad in ({"slack_webhook_url": "http://a.example/x"}, {"digest_frequency": "yearly"}, {"x": 1}):
            refused(owner.patch(path, json=bad), 400, "validation_error")
    stored = world.sql(
        "SELECT row_to_json(p)::text FROM notification_preferences AS p WHERE workspace_id = %s",
        world.tenant.workspace_id,
    )
    assert "hooks.slack" not in str(stored)


def test_the_mail_page_is_for_this_machine(world: World) -> None:
    """In the dress of the dashboards; not under a name that leads here from elsewhere."""
    url = f"{world.stack.url}/dev/mail"
    page = httpx.get(url, timeout=30)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(url, headers={"Host": "evil.example"}, timeout=30).status_code == 404
    assert httpx.get(f"{url}.json", headers={"Host": "evil.example"}, timeout=30).status_code == 404
