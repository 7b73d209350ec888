"""Where a source sends a browser back after somebody agreed: the state is the proof, and the answer is a page."""

from html import escape
from typing import Annotated, Any, Final

import msgspec
from contracts import connector
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct
from runtime.broker import CommandContext, ask
from runtime.errors import AppError
from runtime.telemetry import current_trace_id, current_traceparent

from services.gateway.routes.connectors import CALLBACK_PATH, VENDOR_SECONDS
from services.gateway.routes.operation import Gateway
from services.gateway.routes.sheets import sheet

AnyRequest = Request[Any, Any, Any]  # Any: no user, auth or state of Litestar is used
_STATE: Final = r"^oast_ws_[0-9A-HJKMNP-TV-Z]{26}\.[A-Za-z0-9_-]{20,100}$(?!\n)"
"""The workspace whose sign-in it is, and what nobody can guess."""
_AGAIN = "Begin again: <code>POST /v1/connectors/{id}/oauth/start</code> gives a fresh address."


class _Return(Struct, frozen=True, kw_only=True):
    """What a vendor sends back; what else it adds is its own affair."""

    state: Annotated[str, Meta(max_length=200, pattern=_STATE)]
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
        try:
            finished = await _finish(gateway, given)
        except AppError as refusal:
            return _page("Not connected", f"{escape(refusal.message)} {_AGAIN}", status=refusal.status)
        if finished.status is not connector.ConnectorStatus.CONNECTED:
            stands = f"The connector is {escape(finished.status.value)}; <code>GET /v1/connectors/{escape(finished.connector_id)}</code> says why."
            return _page("Signed in", stands, status=200)
        return _page("Connected", "The source is connected. You can close this page.", status=200)

    return [callback]


async def _finish(gateway: Gateway, given: _Return) -> connector.AuthorizationFinished:
    """Hand the vendor's answer to ingest. Raises the refusal that it deserves."""
    workspace_id = given.state.removeprefix("oast_").partition(".")[0]
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
