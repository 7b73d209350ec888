"""Our pages and what we tell others to put into theirs, in a real browser: sign-in, invitations, consent, passkeys."""

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from testkit.browser import Browser, ScriptError, Window, running_browser
from testkit.stack import Stack
from testkit.waiting import eventually

from tests.architecture.tree import ROOT
from tests.services.gateway.identity_provider import IdentityProvider
from tests.services.gateway.tenants import execute, onboard, sign_in
from tests.services.gateway.test_signin import Company

# The provider's libraries announce their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")

PASSKEYS = re.findall(
    r"```js\n(.*?)```", (ROOT / "docs/how-to/second-factor.md").read_text(encoding="utf-8"), re.DOTALL
)[0]
STATUS = "fetch('/v1/workspace').then(answer => answer.status)"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of this test's own."""
    async with running_browser() as running:
        yield running


@pytest.fixture
def origin(stack: Stack) -> str:
    """The public address."""
    return f"http://localhost:{stack.services['gateway'].port}"


async def consent(window: Window, provider: IdentityProvider, subject: str) -> None:
    """Sign in on the provider's page, which the window is led to."""
    await window.shows(f"{provider.issuer}/oauth2/authorize")
    await window.fill("input[name=sub]", subject)
    await window.click("button")


async def authenticator(window: Window) -> str:
    """A passkey store in software behind the window, whose owner agrees to everything."""
    await window.ask("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    return str((await window.ask("WebAuthn.addVirtualAuthenticator", options=options))["authenticatorId"])


async def test_a_passkey_is_added_given_and_not_taken_from_another_key(
    browser: Browser, stack: Stack, origin: str, identity_provider: IdentityProvider
) -> None:
    """By the script of the how-to, as it is written there; a key that only claims to be it opens nothing."""
    tenant = await onboard(stack.database.owner_url)
    subject = identity_provider.know(tenant.owner_email)
    window = await browser.window()
    store = await authenticator(window)
    await window.go(f"{origin}/v1/auth/login?redirect_to=/invitation")
    await consent(window, identity_provider, subject)
    await window.shows(f"You are a member of Client {tenant.slug}.")

    added = await window.run(PASSKEYS + "addPasskey('Laptop')")
    assert added["passkey"]["name"] == "Laptop"
    assert len(added["recovery_codes"]) == 10
    assert await window.run(STATUS) == 200

    await window.go(f"{origin}/v1/auth/login?redirect_to=/invitation")
    await consent(window, identity_provider, subject)
    await window.shows("Give your second factor first.")
    assert await window.run(STATUS) == 403
    [kept] = (await window.ask("WebAuthn.getCredentials", authenticatorId=store))["credentials"]
    another = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    forged = {**kept, "privateKey": b64encode(another).decode(), "signCount": kept["signCount"] + 100}
    await window.ask("WebAuthn.clearCredentials", authenticatorId=store)
    await window.ask("WebAuthn.addCredential", authenticatorId=store, credential=forged)
    with pytest.raises(ScriptError, match="invalid_factor"):
        await window.run(PASSKEYS + "givePasskey()")
    assert await window.run(STATUS) == 403

    await window.ask("WebAuthn.clearCredentials", authenticatorId=store)
    await window.ask("WebAuthn.addCredential", authenticatorId=store, credential=kept)
    assert (await window.run(PASSKEYS + "givePasskey()"))["second_factor_at"]
    assert await window.run(STATUS) == 200


async def test_somebody_invited_clicks_through_to_being_a_member(
    browser: Browser, stack: Stack, origin: str, identity_provider: IdentityProvider
) -> None:
    """The caught letter's link, the page that it opens, the provider, and the page again; a used link says so."""
    tenant = await onboard(stack.database.owner_url)
    email = f"new-{uuid4().hex[:8]}@{tenant.slug}.example"
    owner = {"Authorization": f"Bearer {sign_in(origin, tenant.owner_email)}"}
    async with httpx.AsyncClient(base_url=origin, headers=owner, timeout=30) as api:
        made = await api.post("/v1/invitations", json={"email": email, "role": "viewer"})
    assert made.status_code == 201, made.text
    window = await browser.window()

    async def link() -> str | None:
        await window.go(f"{origin}/dev/mail")
        await window.shows("Mail")
        script = (
            "(of => of ? of.querySelector('a').href : null)([...document.querySelectorAll('article')]"
            f".find(each => each.innerText.includes({json.dumps(email)})))"
        )
        found: str | None = await window.run(script)
        return found

    address = await eventually(link, every=0.2)
    assert address is not None
    await window.go(address)
    await window.shows(f"to Client {tenant.slug} as viewer.")
    await window.shows(email)
    await window.click("#go")
    await consent(window, identity_provider, identity_provider.know(email))
    await window.shows(f"You are a member of Client {tenant.slug}.")
    await window.go("about:blank")
    await window.go(address)
    await window.shows("not valid any more")
    assert await window.run("document.getElementById('go').hidden") is True


async def test_somebody_agrees_that_another_clients_provider_speaks_for_them(
    browser: Browser, stack: Stack, origin: str, identity_provider: IdentityProvider
) -> None:
    """On our page, which says whose provider it is; afterwards it leads into that client's workspace."""
    owner_url = stack.database.owner_url
    company, person = Company(stack, await onboard(owner_url), identity_provider), await onboard(owner_url)
    connection = company.connect(domains=[person.owner_email.partition("@")[2]])
    company.api.close()
    subject = identity_provider.know(person.owner_email)
    window = await browser.window()
    await window.go(f"{origin}/v1/auth/login?connection={connection['id']}")
    await consent(window, identity_provider, subject)
    await window.shows("This provider does not speak for your address by itself")
    assert await window.run("document.title") == "Not signed in · Causeloop"
    await window.go(f"{origin}/v1/auth/login?redirect_to=/link?connection={connection['id']}")
    await consent(window, identity_provider, subject)
    await window.shows(
        f"May Company, the identity provider of the workspace Client {company.tenant.slug}, sign you in there?"
    )
    await window.click("#go")
    await consent(window, identity_provider, subject)

    async def linked() -> list[tuple[object, ...]]:
        return await execute(
            owner_url,
            "SELECT workspace_id FROM sessions WHERE user_id = %s AND connection_id = %s",
            person.owner_id,
            connection["id"],
        )

    assert await eventually(linked) == [(company.tenant.workspace_id,)]
