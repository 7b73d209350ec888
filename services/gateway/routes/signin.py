"""Signing in by browser: to the identity provider, and back with a session in cookies."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from services.gateway.edge.cookies import FLOW, flow_cookie
from services.gateway.errors import InvalidGrantError
from services.gateway.identity.signin.flow import FLOW_SECONDS, PATH_PATTERN
from services.gateway.identity.signin.signin import Wish
from services.gateway.routes.auth import cookies_of, device_of
from services.gateway.routes.operation import Answer, AnyOperation, Call, Gateway, Operation

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]


class LoginQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to sign in. Without connection and email: through the platform's provider."""

    connection: Id | None = None
    email: (
        Annotated[str, Meta(min_length=3, max_length=320, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$(?!\n)")] | None
    ) = None
    workspace_id: Id | None = None
    invitation: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] | None,
        Meta(description="The token of an invitation to accept, with the platform's provider."),
    ] = None
    redirect_to: Annotated[
        str, Meta(max_length=1024, pattern=PATH_PATTERN, description="A path of ours to go on with.")
    ] = "/"


class CallbackQuery(Struct, frozen=True, kw_only=True):
    """What the provider sends back; how long that is, and what else it adds, is the provider's affair."""

    state: str = ""
    code: str = ""
    iss: str = ""
    error: str = ""


async def login(gateway: Gateway, call: Call[LoginQuery, None]) -> Answer:
    """The way to the provider."""
    query = call.query
    departure = await gateway.sign_in.begin(
        Wish(
            redirect_to=query.redirect_to,
            connection_id=query.connection or "",
            email=query.email or "",
            workspace_id=query.workspace_id or "",
            invitation_token=query.invitation or "",
        )
    )
    cookie = flow_cookie(departure.cookie, seconds=FLOW_SECONDS, is_secure=gateway.settings.is_https)
    return Answer(302, None, {"Location": departure.address}, (cookie,))


async def callback(gateway: Gateway, call: Call[CallbackQuery, None]) -> Answer:
    """The way back from the provider, signed in."""
    query = call.query
    if query.error:
        raise InvalidGrantError(f"The identity provider did not let you in: {query.error[:200]!r}.")
    pair, redirect_to = await gateway.sign_in.finish(
        cookie=call.cookies.get(FLOW, ""),
        state=query.state,
        code=query.code,
        issuer=query.iss,
        device=device_of(call),
    )
    settings = gateway.settings
    used_up = flow_cookie("", seconds=0, is_secure=settings.is_https)
    # The whole address, so that nothing in the path can name another host.
    return Answer(
        302, None, {"Location": settings.public_address + redirect_to}, (*cookies_of(pair, gateway), used_up)
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="login",
        method="GET",
        path="/v1/auth/login",
        tag="Auth",
        summary="Sign in by browser through an identity provider.",
        description="OpenID Connect: authorization code with PKCE. Open it as a page at the address PUBLIC_URL.",
        scope=None,
        is_page=True,
        query=LoginQuery,
        replies={302: None},
        refusals=(404,),
        handle=login,
    ),
    Operation(
        id="loginCallback",
        method="GET",
        path="/v1/auth/callback",
        tag="Auth",
        summary="Come back from an identity provider.",
        description="The provider sends the browser here. Sets the session's cookies and goes on to `redirect_to`.",
        scope=None,
        is_page=True,
        query=CallbackQuery,
        replies={302: None},
        refusals=(401, 403, 404, 409, 422),
        handle=callback,
    ),
)
