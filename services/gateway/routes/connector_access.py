"""Proving oneself to a source, and a source to us: a test, signing in with OAuth, the secret of its webhooks."""

from datetime import datetime
from functools import partial
from hmac import compare_digest
from html import escape
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from contracts import connector
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct
from runtime.broker import CommandContext, ask
from runtime.database import tenant
from runtime.errors import AppError, NotFoundError
from runtime.telemetry import current_trace_id, current_traceparent

from services.gateway.edge.cookies import GRANT, GRANT_PATH, grant_cookie, read_cookies
from services.gateway.identity.tenancy import _queries
from services.gateway.identity.tokens import sign
from services.gateway.routes.connectors import (
    LISTING,
    VENDOR_SECONDS,
    Connector,
    Status,
    deed,
    find,
    inbound_url,
    present,
)
from services.gateway.routes.operation import (
    Accepted,
    Answer,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    settle,
)
from services.gateway.routes.pages import read_one
from services.gateway.routes.sheets import sheet

AnyRequest = Request[Any, Any, Any]  # Any: no user, auth or state of Litestar is used
CALLBACK_PATH: Final = GRANT_PATH
FINISH_PATH: Final = "/v1/connectors/oauth/finish"
_STATE: Final = r"^oast_ws_[0-9A-HJKMNP-TV-Z]{26}\.con_[0-9A-HJKMNP-TV-Z]{26}\.[A-Za-z0-9_-]{20,100}$(?!\n)"
"""The workspace and the connector whose sign-in it is, and what nobody can guess."""
_GRANT_SECONDS: Final = 600
"""How long a sign-in may take, as ingest has it."""
_AGAIN = "Begin again: <code>POST /v1/connectors/{id}/oauth/start</code> gives a fresh address."


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was tried."""

    name: Annotated[str, Meta(description="credentials, or the name of a stream.")]
    success: bool
    detail: Annotated[str, Meta(description="What the vendor said.")]


class ConnectionTest(Struct, frozen=True, kw_only=True):
    """How a try went."""

    success: bool
    status: Status
    checks: tuple[Check, ...]


class Authorization(Struct, frozen=True, kw_only=True):
    """The way to agree, in a browser."""

    authorize_url: str
    state: str
    expires_at: datetime


class SecretRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose secret."""

    secret: Annotated[
        Annotated[str, Meta(min_length=8, max_length=512, pattern=r"^[^\x00]*$")] | None,
        Meta(description="The one that the vendor made; absent: we make one."),
    ] = None


class WebhookSecret(Struct, frozen=True, kw_only=True):
    """What webhooks are proved with; it is not shown again."""

    secret: str
    inbound_url: str
    previous_until: Annotated[
        datetime | None, Meta(description="Until when the one before is taken; null: there was none.")
    ]


State: TypeAlias = Annotated[str, Meta(max_length=200, pattern=_STATE)]


class GrantRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the vendor has put into the address that it sent the browser back to."""

    state: State
    code: Annotated[str, Meta(min_length=1, max_length=8_000)]


class _Return(Struct, frozen=True, kw_only=True):
    """What a vendor sends back; what else it adds is its own affair."""

    state: State
    code: Annotated[str, Meta(max_length=8_000)] = ""
    error: Annotated[str, Meta(max_length=200)] = ""


def callback_routes(gateway: Gateway) -> list[HTTPRouteHandler]:
    """The page that a vendor sends the browser back to."""

    @get(CALLBACK_PATH, include_in_schema=False)
    async def callback(request: AnyRequest) -> Response[str]:
        try:
            given = msgspec.convert(dict(request.query_params), _Return)
        except msgspec.ValidationError:
            return _page("Not connected", f"This is no answer to a sign-in of ours. {_AGAIN}", status=400)
        proof = read_cookies(dict(request.scope["headers"]).get(b"cookie")).get(GRANT, "")
        try:
            if not is_proof(gateway.secret, given.state, proof):
                return await _elsewhere(gateway, given)
            finished = await _finish(gateway, given)
        except AppError as refusal:
            return _page("Not connected", f"{escape(refusal.message)} {_AGAIN}", status=refusal.status)
        if finished.status is not connector.ConnectorStatus.CONNECTED:
            stands = f"The connector is {escape(finished.status.value)}; <code>GET /v1/connectors/{escape(finished.connector_id)}</code> says why."
            return _page("Signed in", stands, status=200)
        return _page("Connected", "The source is connected. You can close this page.", status=200)

    return [callback]


def proof_of(secret: str, state: str) -> str:
    """What only the browser has in which this sign-in began; the address that goes to the vendor tells nothing of it."""
    return sign(secret, "connector_oauth", state).hex()


def is_proof(secret: str, state: str, given: str) -> bool:
    """Whether it is this sign-in's, in constant time."""
    return compare_digest(proof_of(secret, state).encode(), given.encode())


def _named(state: str) -> tuple[str, str]:
    """The workspace and the connector of a state, by id."""
    workspace_id, connector_id, _ = state.removeprefix("oast_").split(".")
    return workspace_id, connector_id


async def _elsewhere(gateway: Gateway, given: _Return) -> Response[str]:
    """What a browser is told in which the sign-in did not begin, so that nobody connects what is theirs unknowingly.

    Nothing is finished and nothing used up: whoever began may be an API client, and does it with a token. The code is
    not repeated. Raises NotFoundError.
    """
    workspace_id, connector_id = _named(given.state)
    row = await read_one(gateway, workspace_id, LISTING, connector_id)
    async with tenant(gateway.people, workspace_id) as conn:
        workspace = await _queries.get_workspace(conn, workspace_id=workspace_id)
    whose = (
        f"<b>{escape(row.type)}</b> with the connector <b>{escape(row.display_name)}</b> ({escape(connector_id)}) of the"
        f" workspace <b>{escape(workspace.name if workspace else workspace_id)}</b> ({escape(workspace_id)})"
    )
    text = (
        f"This sign-in did not begin in this browser. It would connect {whose}, which could then read what you may read"
        " there. <b>Did somebody else send you here? Close this page, and give its address to nobody.</b></p><p>Did you"
        f" begin it yourself, over the API? Finish it with a token of that workspace: <code>POST {FINISH_PATH}</code> with"
        " <code>state</code> and <code>code</code> as they stand in this page's address."
    )
    return _page("Not connected yet", text, status=403)


async def _finish(gateway: Gateway, given: _Return) -> connector.AuthorizationFinished:
    """Hand the vendor's answer to ingest. Raises the refusal that it deserves."""
    workspace_id, _ = _named(given.state)
    bus = gateway.vault.masters.bus
    sealed = bus.seal(given.code, workspace_id=workspace_id, what="code") if given.code else None
    return await ask(
        gateway.resources.nc,
        connector.FinishAuthorization(
            state=given.state, sealed_code=sealed, error=given.error or (None if given.code else "no_code")
        ),
        endpoint=connector.ENDPOINTS[connector.FinishAuthorization],
        reply=connector.AuthorizationFinished,
        context=CommandContext(
            workspace_id=workspace_id,
            correlation_id=current_trace_id() or "",
            traceparent=current_traceparent(),
        ),
        timeout=VENDOR_SECONDS,
    )


def _page(title: str, text: str, *, status: int) -> Response[str]:
    page = sheet(title, f"<main><p>{text}</p></main>")
    page.status_code = status
    return page


async def test_connector(gateway: Gateway, call: Call[NoQuery, None]) -> ConnectionTest:
    """Try its credentials with the vendor."""
    row = await find(gateway, call)
    tested = await command(
        gateway,
        call.principal,
        connector.TestConnector(connector_id=row.connector_id),
        reply=connector.ConnectorTested,
        timeout=VENDOR_SECONDS,
    )
    checks = tuple(
        Check(name=check.name, success=check.is_good, detail=check.detail) for check in tested.checks
    )
    status = msgspec.convert(tested.status, Status)
    return ConnectionTest(success=tested.is_good, status=status, checks=checks)


async def start_authorization(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """The way to the vendor, to agree there; the browser that asks is known again when it comes back."""
    row = await find(gateway, call)
    request = connector.StartAuthorization(connector_id=row.connector_id, redirect_uri=redirect_uri(gateway))
    async with deed(gateway, call, "connector.authorization_started", "other", row.connector_id):
        started = await command(gateway, call.principal, request, reply=connector.AuthorizationStarted)
    cookie = grant_cookie(
        proof_of(gateway.secret, started.state),
        seconds=_GRANT_SECONDS,
        is_secure=gateway.settings.is_https,
    )
    way = Authorization(
        authorize_url=started.authorize_url, state=started.state, expires_at=started.expires_at
    )
    return Answer(200, way, cookies=(cookie,))


async def finish_authorization(gateway: Gateway, call: Call[NoQuery, GrantRequest]) -> Connector:
    """End a sign-in of the caller's workspace that a browser without its cookie came back from."""
    workspace_id, connector_id = _named(call.body.state)
    if workspace_id != call.workspace_id:
        raise NotFoundError("No such sign-in has begun in this workspace.")
    async with deed(gateway, call, "connector.authorization_finished", "other", connector_id):
        finished = await _finish(gateway, _Return(state=call.body.state, code=call.body.code))
    await settle(gateway, workspace_id, finished.sequence, location=f"/v1/connectors/{connector_id}")
    return present(gateway, await read_one(gateway, workspace_id, LISTING, connector_id))


def redirect_uri(gateway: Gateway) -> str:
    """The one address at which vendors' answers are taken; it has to be registered with each of them."""
    return f"{gateway.settings.public_address}{CALLBACK_PATH}"


async def rotate_secret(gateway: Gateway, call: Call[NoQuery, SecretRequest]) -> WebhookSecret:
    """Another secret for its webhooks."""
    return await rotated(gateway, call, call.path["connector_id"], call.body.secret)


async def rotated(
    gateway: Gateway,
    call: Call[Any, Any],  # Any: whatever was asked
    connector_id: str,
    given: str | None,
) -> WebhookSecret:
    """Another secret for a connector's webhooks, the given one or one of ours. Raises NotFoundError."""
    row = await read_one(gateway, call.workspace_id, LISTING, connector_id)
    bus = gateway.vault.masters.bus
    sealed = None if given is None else bus.seal(given, workspace_id=call.workspace_id, what="webhook_secret")
    request = connector.RotateWebhookSecret(connector_id=row.connector_id, sealed_secret=sealed)
    async with deed(gateway, call, "connector.webhook_secret_rotated", "update", row.connector_id):
        rotated = await command(gateway, call.principal, request, reply=connector.WebhookSecretRotated)
    return WebhookSecret(
        secret=bus.open(rotated.sealed_secret, workspace_id=call.workspace_id, what="webhook_secret"),
        inbound_url=inbound_url(gateway, row.connector_id),
        previous_until=rotated.previous_until,
    )


_ONE = "/v1/connectors/{connector_id}"
_Change = partial(Operation, tag="Connectors", method="POST", scope="connectors:admin", refusals=(409, 422))

OPERATIONS: tuple[AnyOperation, ...] = (
    _Change(
        id="testConnector",
        path=f"{_ONE}/test",
        summary="Try a connector's credentials with the vendor.",
        description="200 whether it went well or not: `success` says.",
        scope="connectors:write",
        replies={200: ConnectionTest},
        handle=test_connector,
    ),
    _Change(
        id="startConnectorOauth",
        path=f"{_ONE}/oauth/start",
        summary="Begin to sign in to a source with OAuth, in a browser.",
        description="Open `authorize_url` in a browser; the vendor sends it back to"
        f" `PUBLIC_URL{CALLBACK_PATH}`, which has to be registered with the vendor. Good once, for 10 minutes. The browser"
        " that called this, which has the cookie that is set here, is connected when it comes back; any other is told to"
        " finish with `finishConnectorOauth`.",
        replies={200: Authorization},
        handle=start_authorization,
    ),
    _Change(
        id="finishConnectorOauth",
        path=FINISH_PATH,
        summary="End a sign-in that did not begin in the browser that came back.",
        description="For clients of the API, which have no cookie: with what the vendor has put into the address of the"
        " page on which the browser ended. Good once, for the workspace that began.",
        body=GrantRequest,
        replies={200: Connector, 202: Accepted},
        refusals=(404, 409, 422),
        handle=finish_authorization,
    ),
    _Change(
        id="rotateConnectorWebhookSecret",
        path=f"{_ONE}/webhook-secret",
        summary="Give a connector a secret for its webhooks.",
        description="It is shown in this answer and never again; the one before is taken for another day.",
        body=SecretRequest,
        is_body_optional=True,
        replies={200: WebhookSecret},
        handle=rotate_secret,
    ),
)
