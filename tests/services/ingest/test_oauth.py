"""OAuth with a vendor's real authorization server: signing in, renewing under concurrency, and every way it fails."""

import asyncio
import base64
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import msgspec
import pytest
from contracts import connector
from eventlog import EventLog
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.outbound import EVERYWHERE, INTERNET, Outbound
from runtime.sealing import read_master_keys
from testkit.waiting import eventually

from services.ingest.commands.connectors import delete_connector
from services.ingest.connectors.connecting import Source, address_of
from services.ingest.connectors.manifest import Manifest, decode, encode_hook
from services.ingest.connectors.reserved import GIVEN_FOR, OF_WEBHOOKS, TOKEN
from services.ingest.endpoints.authorization import Authorizations
from services.ingest.errors import (
    AuthorizationGoneError,
    AuthorizationRefusedError,
    ConnectorNotFoundError,
    VendorError,
)
from services.ingest.jobs.queue import Job, Later
from services.ingest.jobs.syncing import UNKNOWN_DELIVERIES_MAX, Syncing, SyncJob, Tools
from services.ingest.records import Records
from services.ingest.reporting import Sources
from services.ingest.vault import Vault
from services.ingest.vendors.oauth import (
    ACCOUNT_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    Client,
    Grants,
    StateGoneError,
)
from tests.libs.runtime.test_names import tenants_asked_for
from tests.services.ingest import oauth_server
from tests.services.ingest.oauth_server import ACCOUNT, REDIRECT_URI, OAuthServer

WORKSPACE, CONNECTOR = "ws_01JD0000000000000000000000", "con_01JD0000000000000000000000"
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")
OURS = {CLIENT_ID: oauth_server.CLIENT_ID, CLIENT_SECRET: oauth_server.CLIENT_SECRET}
CODE, MACHINE, ACCOUNT_WAY, KEY = range(4)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    vendor = OAuthServer()
    yield vendor
    vendor.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(sources_pool: Pool, clock: Clock) -> Vault:
    master = base64.b64encode(b"m" * 32).decode()
    return Vault(read_master_keys(master, ()), sources_pool, clock=clock)


@pytest.fixture
def grants(vault: Vault, sources_pool: Pool, clock: Clock) -> Grants:
    return Grants(vault, sources_pool, Outbound(EVERYWHERE), clients={}, clock=clock)


def manifest(server: OAuthServer) -> Manifest:
    """A vendor with each way to sign in."""
    auth: list[dict[str, object]] = [
        {
            "kind": "oauth2_code",
            "authorize_url": f"http://{{config.host}}:{urlsplit(server.url).port}/authorize",
            "token_url": f"http://{{config.host}}:{urlsplit(server.url).port}/token",
            "scopes": ["read", "write"],
            "scope_separator": ",",
            "pkce": True,
            "client_auth": "client_secret_basic",
            "authorize_params": {"prompt": "consent"},
            "token_headers": {"X-Vendor": "yes"},
        },
        {
            "kind": "client_credentials",
            "token_url": f"{server.url}/token",
            "token_params": {"audience": "{config.host}"},
        },
        {"kind": "jwt_bearer", "token_url": f"{server.url}/token", "scopes": ["https://scope.example/read"]},
        {"kind": "api_key", "headers": {"Authorization": "Bearer {secret.token}"}},
    ]
    return decode(
        msgspec.json.encode(
            {
                "type": "vendor",
                "name": "Vendor",
                "category": "data",
                "docs_url": "https://docs.example",
                "config": [{"key": "host", "title": "Host", "default": "127.0.0.1"}],
                "mappings": [{"external_id": "id", "title": "title"}],
                "auth": auth,
            }
        )
    )


def source(server: OAuthServer, auth: int, **config: str) -> Source:
    settings = connector.ConnectorSettings(
        type="vendor", display_name="Vendor", config=config, auth=auth, streams=(), mapping={}
    )
    return Source(CONNECTOR, settings, manifest(server))


async def sign_in(grants: Grants, server: OAuthServer) -> None:
    """A person agrees in the browser."""
    started = await grants.start(source(server, CODE), workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
    back = server.agree(started.url)
    claim = await grants.claim(back["state"])
    await grants.redeem(claim, back["code"], source(server, CODE))


async def fresh(
    grants: Grants, server: OAuthServer, auth: int = CODE, rejected: str | None = None
) -> dict[str, str]:
    return await grants.fresh(source(server, auth), workspace_id=WORKSPACE, rejected=rejected)


async def test_person_agrees_and_requests_get_a_token(
    grants: Grants, vault: Vault, server: OAuthServer
) -> None:
    """Code with PKCE; what the vendor's answer says of the account is kept."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    server.extras = {"instance_url": "https://eu7.vendor.example"}
    started = await grants.start(source(server, CODE), workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
    asked = parse_qs(urlsplit(started.url).query)
    assert (asked["scope"], asked["prompt"], asked["code_challenge_method"]) == (
        ["read,write"],
        ["consent"],
        ["S256"],
    )
    assert started.state.startswith(f"oast_{WORKSPACE}.")
    back = server.agree(started.url)
    claim = await grants.claim(back["state"])
    names = await grants.redeem(claim, back["code"], source(server, CODE))
    assert (claim.connector_id, names) == (CONNECTOR, ("client_id", "client_secret", "oauth_token"))
    secrets = await fresh(grants, server)
    assert secrets["access_token"] in server.issued
    assert secrets["instance_url"] == "https://eu7.vendor.example"
    assert TOKEN not in secrets


async def test_state_is_taken_once_in_time_and_by_its_workspace(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock
) -> None:
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    way = source(server, CODE)
    first = await grants.start(way, workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
    for other in (first.state.replace("00000000.", "00000001."), first.state[:-1], "oast_", ""):
        with pytest.raises(StateGoneError):
            await grants.claim(other)
    claims = await asyncio.gather(*(grants.claim(first.state) for _ in range(4)), return_exceptions=True)
    assert sorted(type(claim).__name__ for claim in claims) == ["Claim", *["StateGoneError"] * 3]
    late = await grants.start(way, workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
    clock.now = late.expires_at
    with pytest.raises(StateGoneError):
        await grants.claim(late.state)


async def test_code_that_somebody_else_got_is_refused(
    grants: Grants, vault: Vault, server: OAuthServer
) -> None:
    """The vendor holds the code against the challenge of the browser that asked."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    way = source(server, CODE)
    stolen = server.agree((await grants.start(way, workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)).url)[
        "code"
    ]
    other = await grants.start(way, workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
    claim = await grants.claim(other.state)
    with pytest.raises(VendorError, match="invalid_grant") as refused:
        await grants.redeem(claim, stolen, way)
    assert stolen not in str(refused.value)
    with pytest.raises(VendorError, match="not_configured"):
        await fresh(grants, server)


async def test_token_is_renewed_once_however_many_need_it(
    grants: Grants, vault: Vault, sources_pool: Pool, server: OAuthServer, clock: Clock
) -> None:
    """The refresh token rotates: a second use of one would end the grant."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    await sign_in(grants, server)
    before = await fresh(grants, server)
    clock.now += timedelta(seconds=3600 - 299)
    server.delay = 0.2
    # Another process has memory of its own; what they share is the database.
    other = Grants(vault, sources_pool, Outbound(EVERYWHERE), clients={}, clock=clock)
    got = await asyncio.gather(*(fresh(each, server) for each in (grants, other) for _ in range(4)))
    assert server.refreshes == 1
    assert len({secrets["access_token"] for secrets in got} - {before["access_token"]}) == 1
    clock.now += timedelta(hours=1)
    await fresh(other, server)
    assert server.refreshes == 2


async def test_renewal_is_kept_though_whoever_asked_is_gone(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock
) -> None:
    """A run that is cancelled while the vendor rotates must not lose what the vendor gives."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    await sign_in(grants, server)
    clock.now += timedelta(hours=1)
    server.delay = 0.3
    asked = len(server.forms)
    run = asyncio.create_task(fresh(grants, server))
    await eventually(lambda: len(server.forms) > asked)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    secrets = await fresh(grants, server)
    assert (server.refreshes, secrets["access_token"] in server.issued) == (1, True)


async def test_token_without_an_end_is_renewed_after_a_refusal_only(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock
) -> None:
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    server.expires_in = None
    await sign_in(grants, server)
    clock.now += timedelta(days=400)
    old = (await fresh(grants, server))["access_token"]
    assert server.refreshes == 0
    got = await asyncio.gather(*(fresh(grants, server, rejected=old) for _ in range(3)))
    assert (server.refreshes, len({secrets["access_token"] for secrets in got} - {old})) == (1, 1)


async def test_revoked_grant_asks_for_a_person(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock
) -> None:
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    await sign_in(grants, server)
    server.revoke()
    clock.now += timedelta(hours=1)
    with pytest.raises(VendorError) as expired:
        await fresh(grants, server)
    assert expired.value.code == "oauth_expired"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, '{"error": "invalid_client", "error_description": "you sent {form}"}', "credentials_rejected"),
        (400, '{"error": "server\\nsaid {form}"}', "vendor_failed"),
        (400, '{"error": "bad_refresh_token"}', "oauth_expired"),
        (400, '{"message": "{form}"}', "bad_answer"),
        (200, "<html>{form}</html>", "bad_answer"),
        (200, '{"access_token": ["{form}"]}', "bad_answer"),
        (429, "slow down", "rate_limited"),
        (503, "{form}", "vendor_failed"),
    ],
)
async def test_what_goes_wrong_at_the_token_address_is_told_without_secrets(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock, status: int, body: str, code: str
) -> None:
    """Vendors repeat what they were sent; the message holds none of it, in no spelling of a form."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    await sign_in(grants, server)
    kept = msgspec.json.decode((await vault.open_all(WORKSPACE, CONNECTOR))[TOKEN])
    clock.now += timedelta(hours=1)
    server.failure = (status, body)
    with pytest.raises(VendorError) as failed:
        await fresh(grants, server)
    said = repr(failed.value) + str(failed.value.__cause__)
    assert failed.value.code == code
    assert len(failed.value.detail) <= 500
    assert "\n" not in failed.value.detail
    with pytest.raises(VendorError) as posted:
        await fresh(grants, server, MACHINE)
    said += repr(posted.value)
    planted = (
        oauth_server.CLIENT_SECRET,
        "planted-client-secret",
        kept["refresh_token"],
        kept["access_token"],
    )
    assert not [secret for secret in planted if secret in said or quote_plus(secret) in said]


async def test_application_signs_in_by_itself(
    grants: Grants, vault: Vault, server: OAuthServer, clock: Clock
) -> None:
    """One token until five minutes before its end, or until it has other credentials."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    tokens = [(await fresh(grants, server, MACHINE))["access_token"] for _ in range(2)]
    assert (len(set(tokens)), server.forms[0]["audience"]) == (1, "127.0.0.1")
    clock.now += timedelta(seconds=3600 - 299)
    assert (await fresh(grants, server, MACHINE))["access_token"] not in tokens
    await vault.keep(WORKSPACE, CONNECTOR, {CLIENT_SECRET: "wrong-client-secret"})
    with pytest.raises(VendorError, match="invalid_client") as refused:
        await fresh(grants, server, MACHINE)
    assert refused.value.code == "credentials_rejected"


async def test_service_account_signs_a_jwt_for_a_token(
    grants: Grants, vault: Vault, server: OAuthServer
) -> None:
    key = {
        "client_email": ACCOUNT,
        "private_key": server.key.as_pem(private=True).decode(),
        "private_key_id": "1",
    }
    await vault.keep(WORKSPACE, CONNECTOR, {ACCOUNT_KEY: msgspec.json.encode(key).decode()})
    assert (await fresh(grants, server, ACCOUNT_WAY))["access_token"] in server.issued
    claims = server.forms[-1]["assertion"].split(".")[1]
    said = msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert (said["iss"], said["scope"]) == (ACCOUNT, "https://scope.example/read")
    for wrong in ("not json", '{"client_email": "a@b", "private_key": "no PEM"}'):
        await vault.keep(WORKSPACE, CONNECTOR, {ACCOUNT_KEY: wrong})
        with pytest.raises(VendorError) as refused:
            await fresh(grants, server, ACCOUNT_WAY)
        assert refused.value.code == "not_configured"


async def test_names_are_looked_up_for_the_workspace_that_signs_in(
    grants: Grants, vault: Vault, server: OAuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever way, and to renew it."""
    pem = server.key.as_pem(private=True).decode()
    key = msgspec.json.encode({"client_email": ACCOUNT, "private_key": pem, "private_key_id": "1"}).decode()
    await vault.keep(WORKSPACE, CONNECTOR, OURS | {ACCOUNT_KEY: key})
    tenants = tenants_asked_for(monkeypatch)
    await sign_in(grants, server)
    given = (await fresh(grants, server))["access_token"]
    await fresh(grants, server, rejected=given)
    for way in (MACHINE, ACCOUNT_WAY):
        await fresh(grants, server, way)
    assert tenants == [WORKSPACE] * 4


async def test_other_ways_to_sign_in_give_what_the_vault_holds(
    grants: Grants, vault: Vault, server: OAuthServer
) -> None:
    """But nothing of webhooks: no request may send that, nor is it who asks. A manifest may call its own alike."""
    asked = {"token": "t0ken", "webhook_key": "k3y"}
    await vault.keep(WORKSPACE, CONNECTOR, asked | dict.fromkeys(OF_WEBHOOKS, "w"))
    assert await fresh(grants, server, KEY) == asked


async def test_operators_client_goes_only_where_the_vendor_is(
    vault: Vault, sources_pool: Pool, server: OAuthServer, clock: Clock
) -> None:
    """A person who types a host, or a manifest, must not get the operator's secret sent there."""
    operators = {"vendor": Client(oauth_server.CLIENT_ID, oauth_server.CLIENT_SECRET)}
    grants = Grants(vault, sources_pool, Outbound(EVERYWHERE), clients=operators, clock=clock)
    await sign_in(grants, server)
    assert "access_token" in await fresh(grants, server)
    usual = source(server, CODE)
    own = msgspec.structs.replace(usual.settings, manifest={"type": "custom_vendor"})
    for theirs in (source(server, CODE, host="localhost"), msgspec.structs.replace(usual, settings=own)):
        with pytest.raises(VendorError) as refused:
            await grants.start(theirs, workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI)
        assert refused.value.code == "not_configured"
    assert oauth_server.CLIENT_SECRET not in repr(operators)


async def test_addresses_inside_are_not_asked(
    vault: Vault, sources_pool: Pool, server: OAuthServer, clock: Clock
) -> None:
    grants = Grants(vault, sources_pool, Outbound(INTERNET), clients={}, clock=clock)
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    with pytest.raises(VendorError) as refused:
        await fresh(grants, server, MACHINE)
    assert (refused.value.code, server.forms) == ("address_refused", [])
    with pytest.raises(VendorError, match="no part of a host"):
        await grants.start(
            source(server, CODE, host="evil.example/?"), workspace_id=WORKSPACE, redirect_uri=REDIRECT_URI
        )


@pytest.fixture
async def doors(
    grants: Grants, vault: Vault, server: OAuthServer, event_log: EventLog, clock: Clock
) -> Authorizations:
    """The endpoints, over a pending connector of a custom type with its own application."""
    sources = Sources(event_log, clock=clock)
    written = msgspec.to_builtins(manifest(server), enc_hook=encode_hook) | {"type": "custom_vendor"}
    written["config"] = [{"key": "api", "title": "Address", "default": server.url}]
    code = written["auth"][CODE]
    code |= {"authorize_url": "{config.api}/authorize", "token_url": "{config.api}/token"}
    settings = connector.ConnectorSettings(
        type="custom_vendor",
        display_name="Vendor",
        config={},
        auth=0,
        streams=(),
        mapping={},
        manifest=written,
    )
    settings = msgspec.structs.replace(settings, manifest=written | {"auth": [code]})
    made = connector.ConnectorCreated(
        connector_id=CONNECTOR, settings=settings, status=connector.ConnectorStatus.PENDING
    )
    await sources.create(CONNECTOR, [made], CONTEXT)
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    return Authorizations(sources, grants, vault)


async def test_sign_in_connects_the_connector_of_the_one_who_began_it(
    doors: Authorizations, vault: Vault, server: OAuthServer, event_log: EventLog
) -> None:
    """The callback has no session: workspace and person are those of the state."""
    begin = connector.StartAuthorization(connector_id=CONNECTOR, redirect_uri=REDIRECT_URI)
    started = await doors.start(begin, CONTEXT)
    back = server.agree(started.authorize_url)
    sealed = vault.to_send(back["code"], workspace_id=WORKSPACE, what="code")
    nobody = CommandContext(workspace_id="", correlation_id="req_2")
    end = connector.FinishAuthorization(state=back["state"], sealed_code=sealed)
    finished = await doors.finish(end, nobody)
    assert (finished.connector_id, finished.status.value) == (CONNECTOR, "connected")
    events = await event_log.history(WORKSPACE, "connector", CONNECTOR)
    assert [(type(event.data).__name__, event.actor) for event in events[1:]] == [
        ("ConnectorCredentialsChanged", "usr_1"),
        ("ConnectorStatusChanged", "usr_1"),
    ]
    told = msgspec.json.encode([event.data for event in events]).decode()
    assert not [secret for secret in (*OURS.values(), *server.issued, back["code"]) if secret in told]
    with pytest.raises(AuthorizationGoneError):
        await doors.finish(end, nobody)


async def test_grant_of_a_connector_that_is_deleted_meanwhile_is_not_kept(
    doors: Authorizations,
    vault: Vault,
    server: OAuthServer,
    event_log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vendor takes seconds to answer; what it answers belongs to nobody then."""
    begin = connector.StartAuthorization(connector_id=CONNECTOR, redirect_uri=REDIRECT_URI)
    back = server.agree((await doors.start(begin, CONTEXT)).authorize_url)
    keep = vault.keep

    async def deleted_first(*given: Any) -> tuple[str, ...]:
        await Sources(event_log, clock=Clock()).decide(CONNECTOR, CONTEXT, delete_connector)
        await vault.forget(WORKSPACE, CONNECTOR)
        return await keep(*given)

    monkeypatch.setattr(vault, "keep", deleted_first)
    sealed = vault.to_send(back["code"], workspace_id=WORKSPACE, what="code")
    with pytest.raises(ConnectorNotFoundError):
        await doors.finish(connector.FinishAuthorization(state=back["state"], sealed_code=sealed), CONTEXT)
    assert server.issued
    assert await vault.open_all(WORKSPACE, CONNECTOR) == {}


async def test_credentials_go_only_to_the_address_that_they_were_given_for(
    grants: Grants, vault: Vault, server: OAuthServer
) -> None:
    """Vault and log are two: whoever dies between them leaves credentials of one address and the name of another."""
    here, there = (source(server, KEY, host=host) for host in ("here.example", "there.example"))
    polled = msgspec.structs.replace(here.manifest, base_url="https://{config.host}")
    here, there = (msgspec.structs.replace(each, manifest=polled) for each in (here, there))
    await vault.keep(WORKSPACE, CONNECTOR, {"token": "t", GIVEN_FOR: address_of(here)})
    assert await grants.fresh(here, workspace_id=WORKSPACE) == {"token": "t"}
    with pytest.raises(VendorError, match="given for another address"):
        await grants.fresh(there, workspace_id=WORKSPACE)


async def test_credentials_of_a_connector_that_was_never_made_are_deleted(
    vault: Vault, sources_pool: Pool, event_log: EventLog, clock: Clock
) -> None:
    """The job is put before they are kept, so it finds them whoever died in between."""
    await vault.keep(WORKSPACE, CONNECTOR, OURS)
    unasked: Any = None
    tools = Tools(
        sources=Sources(event_log, clock=clock),
        vault=vault,
        records=Records(sources_pool, clock=clock, rng=random.Random(1)),
        **dict.fromkeys(("intake", "asking", "rows", "locks", "clock"), unasked),
    )
    order = msgspec.json.encode(SyncJob(connector_id=CONNECTOR, run_id=None, is_new=True))
    with pytest.raises(Later):
        await Syncing(tools).do(Job(WORKSPACE, "1", order, 1))
    assert await vault.open_all(WORKSPACE, CONNECTOR) == OURS
    await Syncing(tools).do(Job(WORKSPACE, "1", order, UNKNOWN_DELIVERIES_MAX))
    assert await vault.open_all(WORKSPACE, CONNECTOR) == {}


async def test_person_who_does_not_agree_is_told_so_and_begins_again(
    doors: Authorizations, event_log: EventLog
) -> None:
    begin = connector.StartAuthorization(connector_id=CONNECTOR, redirect_uri=REDIRECT_URI)
    started = await doors.start(begin, CONTEXT)
    refused = connector.FinishAuthorization(state=started.state, error="access_denied")
    with pytest.raises(AuthorizationRefusedError, match="access_denied"):
        await doors.finish(refused, CONTEXT)
    with pytest.raises(AuthorizationGoneError):
        await doors.finish(refused, CONTEXT)
    assert len(await event_log.history(WORKSPACE, "connector", CONNECTOR)) == 1
    with pytest.raises(ConnectorNotFoundError):
        await doors.start(msgspec.structs.replace(begin, connector_id="con_2"), CONTEXT)
