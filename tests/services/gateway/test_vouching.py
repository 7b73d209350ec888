"""Whom a client's own provider may speak for, and what its sessions are good for."""

# fixtures are named where they are asked for

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from testkit.stack import Stack

from .identity_provider import IdentityProvider
from .tenants import Tenant, execute, join, onboard, sign_in
from .test_signin import Browser, Company, ask, browser, code_of, company, owner_url

__all__ = ["browser", "company", "owner_url"]

# The provider's libraries announce their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")


async def domainless(
    stack: Stack, identity_provider: IdentityProvider, owner_url: str
) -> tuple[Company, dict[str, Any], Tenant, str]:
    """A client whose provider claims a domain that nobody approved, another client of that domain to be, and an address."""
    claimed = f"victim-{uuid4().hex[:10]}.example"
    company = Company(stack, await onboard(owner_url), identity_provider)
    connection = company.connect(domains=[claimed])
    return company, connection, company.tenant, f"cfo@{claimed}"


async def test_a_provider_cannot_be_somebody_before_they_come(
    stack: Stack, browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """Whoever a provider spoke for first is theirs alone once another client is made with them as the owner."""
    company, connection, attacker, email = await domainless(stack, identity_provider, owner_url)
    subject = identity_provider.know(email)
    unknown = browser.sign_in(identity_provider, subject, connection=connection["id"])
    assert unknown.json()["error"]["details"]["reason"] == "consent"
    assert await execute(owner_url, "SELECT user_id FROM users WHERE email = %s", email) == []

    # The one way left: a client may invite whom it likes, and its provider speaks for who is its alone.
    invited = company.api.post("/v1/invitations", json={"email": email, "role": "viewer"})
    assert invited.status_code == 201, invited.text
    assert browser.sign_in(identity_provider, subject, connection=connection["id"]).status_code == 302
    token = browser.client.cookies["causeloop_access"]
    mine = identity_provider.id_token(identity_provider.know(attacker.owner_email))
    for method, path, body in (
        ("POST", "/v1/auth/sync", {"subject_token": mine}),
        ("POST", "/v1/mfa/totp", {}),
        ("GET", "/v1/mfa", None),
        ("POST", "/v1/mfa/passkeys/registration", None),
        ("GET", "/v1/auth/links", None),
        ("POST", f"/v1/auth/links/{connection['id']}", None),
        ("POST", "/v1/invitations/accept", {"token": "clp_invite_x"}),
    ):
        refused = ask(method, browser.origin + path, token, json=body)
        assert (refused.status_code, code_of(refused)) == (403, "forbidden"), path
        assert refused.json()["error"]["details"]["reason"] == "platform_session"
    assert ask("PATCH", f"{browser.origin}/v1/users/me", token, json={"name": "Me"}).status_code == 200

    slug = f"v-{uuid4().hex[:10]}"
    [(workspace_id, victim_id)] = await execute(
        owner_url,
        "SELECT workspace_id, owner_user_id FROM onboard_client('Victim', %s, %s, p_plan => 'enterprise')",
        slug,
        email,
    )
    # Now they are known elsewhere: neither their name nor another sign-in is the provider's any more.
    renamed = ask("PATCH", f"{browser.origin}/v1/users/me", token, json={"name": "Pwned"})
    assert (renamed.status_code, code_of(renamed)) == (403, "forbidden")
    again = Browser(stack)
    refused = again.sign_in(identity_provider, subject, connection=connection["id"])
    assert refused.json()["error"]["details"]["reason"] == "consent"
    assert browser.client.get("/v1/organization").json()["id"] == attacker.organization_id
    again.client.close()

    real = Browser(stack)
    answer = real.sign_in(identity_provider, identity_provider.know(email), workspace_id=workspace_id)
    assert answer.status_code == 302, answer.text
    assert real.client.get("/v1/users/me").json()["id"] == victim_id
    assert real.client.get("/v1/organization").json()["id"] != attacker.organization_id
    real.client.close()
    company.api.close()


async def test_a_provider_does_not_speak_for_who_was_only_invited_elsewhere(
    stack: Stack, browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """An invitation is a membership too; and a claimed domain leads nobody to a provider."""
    company, connection, _, email = await domainless(stack, identity_provider, owner_url)
    other = await onboard(owner_url)
    owner = sign_in(stack.url, other.owner_email)
    invitation = {"email": email, "role": "admin"}
    assert ask("POST", f"{stack.url}/v1/invitations", owner, json=invitation).status_code == 201
    assert company.api.post("/v1/invitations", json=invitation).status_code == 201
    refused = browser.sign_in(identity_provider, identity_provider.know(email), connection=connection["id"])
    assert refused.json()["error"]["details"]["reason"] == "consent"
    away = parse_qs(urlsplit(browser.depart(email=email)).query)
    assert "nonce" in away
    subject = identity_provider.know(email)
    arrived = browser.sign_in(
        identity_provider, subject, email=email
    )  # the platform's door, not the claimant's
    sessions = await execute(
        owner_url, "SELECT connection_id FROM sessions JOIN users USING (user_id) WHERE email = %s", email
    )
    assert arrived.status_code == 403
    assert sessions == []
    company.api.close()


async def test_what_another_client_may_say_of_a_domain_is_that_clients(
    stack: Stack, browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """An approval counts for whom it was given, and is shown; whom only a directory put elsewhere stays one's own."""
    company, connection, _, email = await domainless(stack, identity_provider, owner_url)
    path = f"/v1/sso/connections/{connection['id']}"
    other = await onboard(owner_url)
    claimed = email.partition("@")[2]
    await execute(owner_url, "SELECT approve_domain(%s, %s)", other.slug, claimed)
    subject = identity_provider.know(email)
    refused = browser.sign_in(identity_provider, subject, connection=connection["id"])
    assert refused.json()["error"]["details"]["reason"] == "consent"
    assert company.api.get(path).json()["approved_domains"] == []

    company.api.post("/v1/invitations", json={"email": email, "role": "viewer"})
    assert browser.sign_in(identity_provider, subject, connection=connection["id"]).status_code == 302
    await execute(
        owner_url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role, provisioning)"
        " SELECT %s, new_id('mem_'), user_id, 'viewer', 'scim' FROM users WHERE email = %s",
        other.workspace_id,
        email,
    )
    assert browser.sign_in(identity_provider, subject, connection=connection["id"]).status_code == 302
    await execute(
        owner_url, "UPDATE memberships SET last_active_at = now() WHERE workspace_id = %s", other.workspace_id
    )
    assert browser.sign_in(identity_provider, subject, connection=connection["id"]).status_code == 403

    await execute(owner_url, "SELECT approve_domain(%s, %s)", company.tenant.slug, claimed)
    assert browser.sign_in(identity_provider, subject, connection=connection["id"]).status_code == 302
    assert company.api.get(path).json()["approved_domains"] == [claimed]
    company.api.close()


async def test_a_factor_is_asked_for_at_the_door_it_was_set_up_at(
    browser: Browser, company: Company, owner_url: str
) -> None:
    """The platform's; a workspace's own provider asks for its own."""
    connection = company.connect()
    subject = company.provider.know(company.tenant.owner_email)
    await execute(
        owner_url,
        "INSERT INTO totp_factors (user_id, secret_sealed, confirmed_at, created_at) VALUES (%s, 'x', now(), now())",
        company.tenant.owner_id,
    )
    browser.sign_in(company.provider, subject)
    owed = browser.client.get("/v1/organization")
    assert (owed.status_code, code_of(owed)) == (403, "mfa_required")
    browser.sign_in(company.provider, subject, connection=connection["id"])
    assert browser.client.get("/v1/organization").status_code == 200


async def test_an_expired_invitation_gives_no_role(
    browser: Browser, company: Company, owner_url: str
) -> None:
    """Who comes in later by themselves has the connection's."""
    connection = company.connect(default_role="viewer")
    email = f"late@{company.domain}"
    company.api.post("/v1/invitations", json={"email": email, "role": "admin"})
    await execute(
        owner_url, "UPDATE invitations SET expires_at = now() - interval '1 day' WHERE email = %s", email
    )
    assert browser.sign_in(
        company.provider, company.provider.know(email), connection=connection["id"]
    ).is_redirect
    rows = await execute(
        owner_url,
        "SELECT m.role, m.status, i.status FROM memberships AS m JOIN users AS u USING (user_id)"
        " JOIN invitations AS i USING (workspace_id, user_id) WHERE u.email = %s",
        email,
    )
    assert rows == [("viewer", "active", "revoked")]


async def test_what_is_bound_is_written_down_wherever_the_person_is(
    stack: Stack, browser: Browser, identity_provider: IdentityProvider, owner_url: str
) -> None:
    """At the first sign-in, and when the provider gives another address."""
    first, second = [await onboard(owner_url) for _ in range(2)]
    await execute(
        owner_url,
        "INSERT INTO memberships (workspace_id, membership_id, user_id, role)"
        " VALUES (%s, new_id('mem_'), %s, 'viewer')",
        second.workspace_id,
        first.owner_id,
    )
    subject = identity_provider.know(first.owner_email)
    browser.sign_in(identity_provider, subject)
    identity_provider.describe(subject, email=f"new-{first.owner_email}", email_verified=True)
    browser.sign_in(identity_provider, subject)
    written = await execute(
        owner_url,
        "SELECT workspace_id, action FROM audit_log WHERE target_id = %s ORDER BY occurred_at, workspace_id",
        first.owner_id,
    )
    both = sorted((first.workspace_id, second.workspace_id))
    assert written == [
        (workspace_id, action) for action in ("identity.bound", "user.email_changed") for workspace_id in both
    ]


async def test_insisting_ends_the_sessions_of_the_other_door(
    stack: Stack, browser: Browser, company: Company, owner_url: str
) -> None:
    """At once, except that of who says so; those of the workspace's own provider go on."""
    connection = company.connect()
    _, email = await join(owner_url, company.tenant, "analyst")
    other = sign_in(stack.url, email)
    browser.sign_in(company.provider, company.employee(), connection=connection["id"])
    assert ask("GET", f"{stack.url}/v1/sessions", other).status_code == 200
    assert company.api.patch("/v1/workspace", json={"sso_enforced": True}).status_code == 200
    assert ask("GET", f"{stack.url}/v1/sessions", other).status_code == 401
    assert browser.client.get("/v1/sessions").status_code == 200
    assert company.api.get("/v1/workspace").status_code == 200
