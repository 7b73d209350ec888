"""Signing in against a real OpenID Connect provider: the browser's whole way, and everything that must not work."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from runtime.errors import ValidationFailedError
from runtime.sealing import MasterKeys, SealingKey
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.errors import InvalidGrantError
from services.gateway.identity.signin import flow as flows
from services.gateway.identity.signin.flow import Flow

from .identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from .tenants import Tenant, execute, join, onboard, sign_in

# The provider's libraries announce their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")


class Browser:
    """Somebody's browser at the public address, which keeps cookies and follows no redirect by itself."""

    def __init__(self, stack: Stack) -> None:
        self.origin = f"http://localhost:{stack.services['gateway'].port}"
        self.client = httpx.Client(base_url=self.origin, timeout=30)

    def depart(self, **query: str) -> str:
        """Where a sign-in leads to."""
        answer = self.client.get("/v1/auth/login", params=query)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    def arrive(self, address: str) -> httpx.Response:
        """The answer to the provider's sending us back."""
        return self.client.get(address)

    def sign_in(self, provider: IdentityProvider, subject: str, **query: str) -> httpx.Response:
        """There and back."""
        return self.arrive(provider.consent(self.depart(**query), subject))

    def post(self, path: str, *, origin: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Origin": origin} if origin is not None else {}
        return self.client.post(path, headers=headers, **options)


@pytest.fixture
def browser(stack: Stack) -> Iterator[Browser]:
    made = Browser(stack)
    yield made
    made.client.close()


@pytest.fixture
def owner_url(stack: Stack) -> str:
    return stack.database.owner_url


def ask(method: str, url: str, token: str | None = None, **options: Any) -> httpx.Response:
    """The answer to a request of a program."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.request(method, url, headers=headers, timeout=30, **options)


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


async def test_a_browser_signs_in_acts_refreshes_and_signs_out(
    browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """The platform's provider vouches for an address; the rest is in cookies that scripts cannot read."""
    tenant = await onboard(owner_url)
    subject = identity_provider.know(tenant.owner_email)
    answer = browser.sign_in(identity_provider, subject, redirect_to="/docs?tab=1#top")
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"] == f"{browser.origin}/docs?tab=1#top"
    cookies = {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}
    assert set(cookies) == {"causeloop_access", "causeloop_refresh", "causeloop_flow"}
    for line in cookies.values():
        assert "HttpOnly" in line
        assert "Secure" not in line  # the public address of this stack is http
    assert all("samesite=strict" in cookies[f"causeloop_{name}"].lower() for name in ("access", "refresh"))
    assert "Path=/v1/auth/refresh" in cookies["causeloop_refresh"]
    assert "Max-Age=0" in cookies["causeloop_flow"]

    shown = browser.client.get("/v1/sessions")
    assert shown.status_code == 200, shown.text
    [session] = [one for one in shown.json()["data"] if one["is_current"]]
    assert session["method"] == "oidc"

    refreshed = browser.post("/v1/auth/refresh", origin=browser.origin, json={})
    assert (refreshed.status_code, refreshed.content) == (204, b"")
    assert len(refreshed.headers.get_list("set-cookie")) == 2
    again = browser.post("/v1/auth/refresh", origin=browser.origin, json={})
    assert again.status_code == 204

    left = browser.post("/v1/auth/sign-out", origin=browser.origin)
    assert left.status_code == 204, left.text
    assert "causeloop_access" not in browser.client.cookies
    assert browser.client.get("/v1/sessions").status_code == 401


async def test_another_page_cannot_use_the_cookies(
    browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """What changes something needs an Origin of ours, or Sec-Fetch-Site: same-origin where there is none."""
    tenant = await onboard(owner_url)
    browser.sign_in(identity_provider, identity_provider.know(tenant.owner_email))
    path = "/v1/mfa/passkeys/registration"
    for origin in (None, "https://evil.example", "null", f"{browser.origin}.evil.example"):
        refused = browser.post(path, origin=origin)
        assert (refused.status_code, code_of(refused)) == (403, "forbidden"), origin
    assert browser.post("/v1/auth/refresh", origin="https://evil.example", json={}).status_code == 401
    assert browser.post(path, origin=browser.origin).status_code == 200
    fetched = browser.client.post(path, headers={"Sec-Fetch-Site": "same-origin"})
    assert fetched.status_code == 200
    # A token in a header is no cookie: nobody's browser adds it by itself.
    token = browser.client.cookies["causeloop_access"]
    bare = ask("POST", browser.origin + path, token)
    assert bare.status_code == 200


@pytest.mark.parametrize(
    "redirect_to",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "evil.example",
        "/\n",
        "/a\r\nX: y",
        "/ü",
        "",
    ],
)
def test_nobody_is_sent_to_another_site(browser: Browser, redirect_to: str) -> None:
    """Only to a path of ours."""
    answer = browser.client.get("/v1/auth/login", params={"redirect_to": redirect_to})
    assert answer.status_code == 400, answer.headers.get("location")


def test_a_flow_holds_only_a_path_of_ours() -> None:
    """Also behind the route's own check, where `$` would let a line's end through."""
    for path in ("//evil.example", "/a\n", "/\t/evil.example"):
        with pytest.raises(ValidationFailedError):
            Flow.begun(
                connection_id="", workspace_id="", consenting="", redirect_to=path, now=datetime.now(UTC)
            )


def test_a_flow_ends_after_ten_minutes_and_opens_for_us_only() -> None:
    """Sealed, so that the browser's owner neither reads nor changes it."""
    keys, now = MasterKeys(SealingKey.made()), datetime.now(UTC)
    flow = Flow.begun(connection_id="", workspace_id="", consenting="", redirect_to="/", now=now)
    cookie = flow.sealed(keys)
    assert flow.state not in cookie
    assert Flow.returned(cookie, flow.state, keys, now=now + timedelta(minutes=9)) == flow
    with pytest.raises(InvalidGrantError, match="too long"):
        Flow.returned(cookie, flow.state, keys, now=now + timedelta(seconds=flows.FLOW_SECONDS))
    with pytest.raises(InvalidGrantError, match="browser"):
        Flow.returned(cookie, flow.state, MasterKeys(SealingKey.made()), now=now)


@pytest.mark.parametrize(
    "fault", ["state", "cookie", "nonce", "replay", "issuer", "denied", "client", "PKCE"]
)
async def test_an_answer_that_does_not_fit_signs_nobody_in(
    stack: Stack, browser: Browser, identity_provider: IdentityProvider, owner_url: str, fault: str
) -> None:
    """Another sign-in's state, another browser, another nonce, a used code, another provider, client or verifier."""
    tenant = await onboard(owner_url)
    subject = identity_provider.know(tenant.owner_email)
    away = browser.depart()
    match fault:
        case "state":
            back = identity_provider.consent(away, subject, state="another")
        case "cookie":
            back = identity_provider.consent(away, subject)
            browser.client.cookies.clear()
        case "nonce":
            back = identity_provider.consent(away, subject, nonce="another")
        case "issuer":
            back = identity_provider.consent(away, subject) + "&iss=https://evil.example"
        case "denied":
            state = parse_qs(urlsplit(away).query)["state"][0]
            back = f"/v1/auth/callback?error=access_denied&state={state}"
        case "client":
            back = identity_provider.consent(away, subject, client_id="another")
        case "PKCE":
            back = identity_provider.consent(away, subject, code_challenge="another")
        case _:
            back = identity_provider.consent(away, subject)
            kept = dict(browser.client.cookies)
            assert browser.arrive(back).status_code == 302
            browser.client.cookies.clear()
            browser.client.cookies.update(kept)
    answer = browser.arrive(back)
    assert (answer.status_code, code_of(answer)) == (401, "invalid_grant")
    assert "causeloop_access" not in browser.client.cookies
    n_sessions = await execute(owner_url, "SELECT count(*) FROM sessions WHERE user_id = %s", tenant.owner_id)
    assert n_sessions == [(1 if fault == "replay" else 0,)]


async def test_an_address_that_is_not_verified_or_unknown_signs_nobody_in(
    browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """And an address that moved to another account of the provider does not let that one in."""
    tenant = await onboard(owner_url)
    unverified = identity_provider.know(tenant.owner_email, is_verified=False)
    unknown = identity_provider.know(f"{uuid4().hex}@nobody.example")
    mine = identity_provider.know(tenant.owner_email)
    assert browser.sign_in(identity_provider, mine).status_code == 302
    later = identity_provider.know(tenant.owner_email)
    for subject in (unverified, unknown, later):
        answer = browser.sign_in(identity_provider, subject)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")


async def test_the_platforms_provider_leads_to_the_workspace_that_is_asked_for(
    browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """Of those one belongs to."""
    first, second, foreign = [await onboard(owner_url) for _ in range(3)]
    await execute(
        owner_url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
        " VALUES (%s, new_id('mem_'), %s, 'viewer')",
        second.workspace_id,
        first.owner_id,
    )
    subject = identity_provider.know(first.owner_email)
    for wanted in (first, second):
        answer = browser.sign_in(identity_provider, subject, workspace_id=wanted.workspace_id)
        assert answer.status_code == 302
        shown = browser.client.get("/v1/users/me").json()
        assert wanted.workspace_id in str(shown)
    refused = browser.sign_in(identity_provider, subject, workspace_id=foreign.workspace_id)
    assert refused.status_code == 403


class Company:
    """A client whose workspace has its own provider."""

    def __init__(self, stack: Stack, tenant: Tenant, provider: IdentityProvider) -> None:
        self.tenant = tenant
        self.provider = provider
        self.domain = f"{tenant.slug}.example"
        headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
        self.api = httpx.Client(base_url=stack.url, headers=headers, timeout=30)

    def connect(self, **fields: Any) -> dict[str, Any]:
        """A connection to the provider."""
        body = {
            "name": "Company",
            "issuer": self.provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "domains": [self.domain],
            "default_role": "analyst",
            **fields,
        }
        answer = self.api.post("/v1/sso/connections", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def employee(self, **claims: Any) -> str:
        """The provider's subject of somebody who works there."""
        return self.provider.know(f"{uuid4().hex[:10]}@{self.domain}", **claims)


@pytest.fixture
async def company(
    stack: Stack, identity_provider: IdentityProvider, owner_url: str
) -> AsyncIterator[Company]:
    made = Company(stack, await onboard(owner_url), identity_provider)
    await execute(owner_url, "SELECT approve_domain(%s, %s)", made.tenant.slug, made.domain)
    yield made
    made.api.close()


async def test_people_of_the_connections_domains_come_in_by_themselves(
    browser: Browser, company: Company, owner_url: str
) -> None:
    """With its default role, once; whether they name the connection or only their address."""
    connection = company.connect()
    email = f"ada@{company.domain}"
    subject = company.provider.know(email)
    assert browser.sign_in(company.provider, subject, connection=connection["id"]).status_code == 302
    assert browser.sign_in(company.provider, subject, email=email.replace("ada", "any")).status_code == 302
    rows = await execute(
        owner_url,
        "SELECT m.role, m.status, m.provisioning, u.name, s.connection_id, s.method FROM memberships AS m"
        " JOIN users AS u USING (user_id) JOIN sessions AS s USING (workspace_id, user_id)"
        " WHERE m.workspace_id = %s AND u.email = %s",
        company.tenant.workspace_id,
        email,
    )
    assert rows == [("analyst", "active", "sso", "Ada Lovelace", connection["id"], "oidc")] * 2
    refreshed = browser.post("/v1/auth/refresh", origin=browser.origin, json={})
    assert refreshed.status_code == 204


async def test_who_was_invited_comes_in_with_the_invitations_role(
    browser: Browser, company: Company, owner_url: str
) -> None:
    """Not with the connection's."""
    connection = company.connect()
    email = f"grace@{company.domain}"
    invited = company.api.post("/v1/invitations", json={"email": email, "role": "viewer"})
    assert invited.status_code == 201, invited.text
    subject = company.provider.know(email)
    assert browser.sign_in(company.provider, subject, connection=connection["id"]).status_code == 302
    rows = await execute(
        owner_url,
        "SELECT m.role, m.status, i.status FROM memberships AS m JOIN users AS u USING (user_id)"
        " JOIN invitations AS i USING (workspace_id, user_id) WHERE u.email = %s",
        email,
    )
    assert rows == [("viewer", "active", "accepted")]


@pytest.mark.parametrize("reason", ["unverified", "other domain", "suspended", "seats", "disabled"])
async def test_nobody_else_comes_in_through_a_connection(
    browser: Browser, company: Company, owner_url: str, reason: str
) -> None:
    """Each refusal says which it is."""
    connection = company.connect()
    subject = company.employee()
    expected = (403, "forbidden")
    match reason:
        case "unverified":
            subject = company.employee(email_verified=False)
        case "other domain":
            subject = company.provider.know(f"{uuid4().hex}@other.example")
        case "suspended":
            assert browser.sign_in(company.provider, subject, connection=connection["id"]).status_code == 302
            await execute(
                owner_url,
                "UPDATE memberships SET status = 'suspended' WHERE workspace_id = %s AND role = 'analyst'",
                company.tenant.workspace_id,
            )
        case "seats":
            await execute(
                owner_url,
                "UPDATE organizations SET seats_total = 1 WHERE organization_id = %s",
                company.tenant.organization_id,
            )
            expected = (422, "seat_limit")
        case _:
            away = browser.depart(connection=connection["id"])
            path = f"/v1/sso/connections/{connection['id']}"
            assert company.api.patch(path, json={"status": "disabled"}).status_code == 200
            answer = browser.arrive(company.provider.consent(away, subject))
            assert (answer.status_code, code_of(answer)) == (401, "invalid_grant")
            assert (
                browser.client.get("/v1/auth/login", params={"connection": connection["id"]}).status_code
                == 404
            )
            return
    answer = browser.sign_in(company.provider, subject, connection=connection["id"])
    assert (answer.status_code, code_of(answer)) == expected


async def test_a_workspaces_provider_does_not_speak_for_people_of_other_clients_unless_they_agree(
    stack: Stack, browser: Browser, company: Company, owner_url: str
) -> None:
    """Otherwise whoever runs a provider could become anybody here by claiming their address."""
    victim = await onboard(owner_url)
    connection = company.connect(domains=[company.domain, victim.owner_email.partition("@")[2]])
    subject = company.provider.know(victim.owner_email)
    refused = browser.sign_in(company.provider, subject, connection=connection["id"])
    assert refused.status_code == 403
    assert refused.json()["error"]["details"]["reason"] == "consent"
    browser.sign_in(company.provider, subject)  # through the platform's provider, in their own workspace
    unasked = browser.sign_in(company.provider, subject, connection=connection["id"])
    assert unasked.json()["error"]["details"]["reason"] == "consent"  # a link that was opened is no consent

    path = f"/v1/auth/links/{connection['id']}"
    asked = browser.client.get(path).json()
    assert (asked["connection_name"], asked["issuer"]) == ("Company", company.provider.issuer)
    assert (asked["workspace_id"], asked["linked_at"]) == (company.tenant.workspace_id, None)
    assert browser.post(path, origin="https://evil.example").status_code == 403
    assert browser.client.get("/link", params={"connection": connection["id"]}).status_code == 200
    way = browser.post(path, origin=browser.origin)
    assert way.status_code == 200, way.text
    elsewhere = Browser(stack)
    elsewhere.sign_in(company.provider, subject)
    agreed = browser.arrive(company.provider.consent(way.json()["location"], subject))
    assert agreed.status_code == 302, agreed.text
    roles = await execute(
        owner_url,
        "SELECT role FROM memberships WHERE user_id = %s ORDER BY role",
        victim.owner_id,
    )
    assert roles == [("analyst",), ("owner",)]

    # They see it from their own session, and take it back; the session that it vouched for is over.
    colleague = company.provider.know(f"colleague@{company.domain}")
    assert Browser(stack).sign_in(company.provider, colleague, connection=connection["id"]).status_code == 302
    [link] = elsewhere.client.get("/v1/auth/links").json()["data"]
    assert link["connection_id"] == connection["id"]
    assert link["agreed_at"] is not None
    assert browser.client.get("/v1/sessions").status_code == 200
    headers = {"Origin": elsewhere.origin}
    assert elsewhere.client.delete(path, headers=headers).status_code == 204
    assert elsewhere.client.delete(path, headers=headers).status_code == 404
    assert elsewhere.client.get("/v1/auth/links").json()["data"] == []
    assert browser.client.get("/v1/sessions").status_code == 401
    again = browser.sign_in(company.provider, subject, connection=connection["id"])
    assert again.json()["error"]["details"]["reason"] == "consent"
    elsewhere.client.close()
    actions = await execute(
        owner_url,
        "SELECT action FROM audit_log WHERE workspace_id = %s AND action LIKE 'identity.%%' ORDER BY entry_number",
        company.tenant.workspace_id,
    )
    assert actions == [("identity.bound",), ("identity.bound",), ("identity.unbound",)]
    bound = await execute(
        owner_url,
        "SELECT email FROM user_identities JOIN users USING (user_id) WHERE provider = %s",
        link["connection_id"],
    )
    assert bound == [(f"colleague@{company.domain}",)]


async def test_a_workspace_that_insists_lets_nobody_in_another_way(
    stack: Stack, browser: Browser, company: Company, owner_url: str
) -> None:
    """Neither the exchange nor the platform's provider; API tokens go on. Somebody can always come in."""
    connection = company.connect()
    subject = company.employee()
    path = f"/v1/sso/connections/{connection['id']}"
    made = company.api.post("/v1/api-tokens", json={"name": "ci", "scopes": ["issues:read"]})
    assert made.status_code == 201, made.text
    changed = company.api.patch("/v1/workspace", json={"sso_enforced": True})
    assert changed.status_code == 200, changed.text

    refused = ask("POST", f"{stack.url}/v1/auth/exchange", json={"subject_token": company.tenant.owner_email})
    assert (refused.status_code, code_of(refused)) == (403, "sso_required")
    assert refused.json()["error"]["details"]["connection_id"] == connection["id"]
    platform = browser.sign_in(
        company.provider,
        company.provider.know(company.tenant.owner_email),
        workspace_id=company.tenant.workspace_id,
    )
    assert (platform.status_code, code_of(platform)) == (403, "sso_required")
    assert browser.sign_in(company.provider, subject, connection=connection["id"]).status_code == 302
    assert browser.post("/v1/auth/refresh", origin=browser.origin, json={}).status_code == 204
    assert ask("GET", f"{stack.url}/v1/issues", made.json()["secret"]).status_code == 200
    for answer in (company.api.patch(path, json={"status": "disabled"}), company.api.delete(path)):
        assert (answer.status_code, code_of(answer)) == (409, "conflict")


@pytest.mark.parametrize("way", ["disable", "delete"])
async def test_a_connection_that_ends_ends_its_sessions(browser: Browser, company: Company, way: str) -> None:
    """At their next request."""
    connection = company.connect()
    path = f"/v1/sso/connections/{connection['id']}"
    browser.sign_in(company.provider, company.employee(), connection=connection["id"])
    assert browser.client.get("/v1/sessions").status_code == 200
    ended = (
        company.api.delete(path) if way == "delete" else company.api.patch(path, json={"status": "disabled"})
    )
    assert ended.status_code in (200, 204), ended.text
    assert browser.client.get("/v1/sessions").status_code == 401
    assert browser.post("/v1/auth/refresh", origin=browser.origin, json={}).status_code == 401
    assert company.api.get("/v1/sessions").status_code == 200


async def test_connections_are_shown_changed_and_removed_without_their_secret(
    company: Company, owner_url: str
) -> None:
    """Which is sealed; each change is in the audit log."""
    made = company.connect()
    path = f"/v1/sso/connections/{made['id']}"
    assert made["redirect_uri"].endswith("/v1/auth/callback")
    assert company.api.get(path).json() == made
    assert company.api.get("/v1/sso/connections").json()["data"] == [made]
    changed = company.api.patch(
        path, json={"name": "New", "client_secret": "another secret".replace(" ", "-")}
    )
    assert (changed.status_code, changed.json()["name"]) == (200, "New")
    stored = str(
        await execute(owner_url, "SELECT * FROM oidc_connections WHERE connection_id = %s", made["id"])
        + await execute(owner_url, "SELECT * FROM audit_log WHERE target_id = %s", made["id"])
    )
    for secret in (CLIENT_SECRET, "another-secret"):
        assert secret not in stored + company.api.get(path).text + changed.text
    twice = company.api.post("/v1/sso/connections", json={**wanted(company), "name": "Twice"})
    assert (twice.status_code, code_of(twice)) == (409, "conflict")
    assert company.api.delete(path).status_code == 204
    assert company.api.get(path).status_code == 404
    actions = await execute(
        owner_url,
        "SELECT action FROM audit_log WHERE target_id = %s ORDER BY entry_number",
        made["id"],
    )
    assert actions == [(f"sso.connection_{deed}",) for deed in ("created", "updated", "deleted")]


def wanted(company: Company) -> dict[str, Any]:
    return {"name": "Company", "issuer": company.provider.issuer, "client_id": CLIENT_ID}


async def test_connections_are_the_owners_of_that_workspace_on_a_plan_that_has_them(
    stack: Stack, company: Company, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """Not an administrator's, not another client's, not on the free plan; and the provider has to be one."""
    made = company.connect()
    path = f"/v1/sso/connections/{made['id']}"
    _, admin = await join(owner_url, company.tenant, "admin")
    listed = ask("GET", f"{stack.url}/v1/sso/connections", sign_in(stack.url, admin))
    assert listed.status_code == 403
    free = Company(stack, await onboard(owner_url, plan="free"), identity_provider)
    for answer in (free.api.get(path), free.api.patch(path, json={"name": "x"}), free.api.delete(path)):
        assert answer.status_code == 404
    refused = free.api.post("/v1/sso/connections", json=wanted(free))
    assert (refused.status_code, code_of(refused)) == (403, "plan_limit")
    free.api.close()
    for issuer in (f"{identity_provider.issuer}/nothing", "http://localhost:1"):
        unusable = company.api.post("/v1/sso/connections", json={**wanted(company), "issuer": issuer})
        assert (unusable.status_code, code_of(unusable)) == (422, "provider_unusable")
    owner = company.api.post("/v1/sso/connections", json={**wanted(company), "default_role": "owner"})
    assert owner.status_code == 400


async def test_an_invitations_link_leads_somebody_new_in_by_browser(
    browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """The page that the letter links to; the provider; a member, signed in."""
    tenant = await onboard(owner_url)
    email = f"new@{tenant.slug}.example"
    owner = sign_in(browser.origin, tenant.owner_email)
    made = ask("POST", f"{browser.origin}/v1/invitations", owner, json={"email": email, "role": "viewer"})
    assert made.status_code == 201, made.text

    def letters() -> list[str]:
        caught = [each["letter"] for each in browser.client.get("/dev/mail.json").json()]
        return [letter["text"] for letter in caught if letter["to"] == email]

    await eventually(letters)
    link = next(word for word in letters()[0].split() if word.startswith("http"))
    page, _, token = link.partition("#")
    opened = browser.client.get(page)
    assert opened.status_code == 200
    assert "Sign in and accept" in opened.text
    assert "default-src 'none'" in opened.headers["content-security-policy"]
    subject = identity_provider.know(email)
    answer = browser.sign_in(identity_provider, subject, invitation=token, redirect_to="/invitation")
    assert answer.headers["location"] == f"{browser.origin}/invitation", answer.text
    assert browser.client.get("/v1/users/me").json()["email"] == email
    again = browser.sign_in(identity_provider, subject, invitation=token)
    assert (again.status_code, code_of(again)) == (404, "not_found")
