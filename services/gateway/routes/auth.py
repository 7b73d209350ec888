"""Signing in and out: an issuer's token becomes a pair of ours, a refresh token the next pair."""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.edge.cookies import REFRESH, SetCookie, forgotten_session, session_cookies
from services.gateway.errors import InvalidGrantError, SessionEndedError
from services.gateway.identity.scopes import SELF
from services.gateway.identity.sessions import Device, TokenPair
from services.gateway.identity.tokens import REFRESH_PREFIX
from services.gateway.routes.operation import Answer, AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.profile import Profile, read_profile
from services.gateway.routes.sessions import end_session

Token = Annotated[str, Meta(min_length=1, max_length=16_384, pattern=r"^[^\x00]*$")]

SubjectTokenType: TypeAlias = Literal[
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:access_token",
]
"""RFC 8693, section 3; its refresh tokens and SAML assertions are nothing that we can check."""


class TokenExchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token exchange as in RFC 8693."""

    subject_token: Annotated[
        Token,
        Meta(
            description="The issuer's session JWT; with USE_MOCK=1 the address of somebody known here, or any text"
            " for the demo's owner."
        ),
    ]
    subject_token_type: Annotated[
        SubjectTokenType,
        Meta(description="All are taken as what they are here: a JWT of the issuer, which its claims tell."),
    ] = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105  # a type's name
    workspace_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="Default: the first workspace that the person belongs to."),
    ] = None
    invitation_token: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200)] | None,
        Meta(description="Of an invitation to accept; the tokens are then for the workspace that it is to."),
    ] = None


class IdentityBinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who one is to the issuer."""

    subject_token: Annotated[Token, Meta(description="The issuer's session JWT.")]


class TokenRefresh(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token to rotate."""

    refresh_token: Annotated[
        Token | UnsetType,
        Meta(description="Absent: the one in the browser's cookie; the answer is then 204."),
    ] = UNSET


class Tokens(Struct, frozen=True, kw_only=True):
    """A pair of tokens."""

    access_token: str
    refresh_token: Annotated[str, Meta(description="Good once; using it twice ends the session.")]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(ge=1, description="Seconds until the access token ends.")]
    scope: Annotated[str, Meta(description="The scopes, separated by spaces.")]
    workspace_id: str
    session_id: str
    id_token: Annotated[str | None, Meta(description="Always null: we issue no identity tokens.")]


def device_of(call: Call[Any, Any]) -> Device:  # Any: whatever is asked for
    """Where a call comes from."""
    return Device(ip=call.ip, user_agent=call.user_agent)


def show_tokens(pair: TokenPair, gateway: Gateway) -> Tokens:
    """A pair as the API shows it."""
    return Tokens(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        token_type="Bearer",  # noqa: S106  # the scheme's name
        expires_in=gateway.settings.access_token_seconds,
        scope=" ".join(sorted(pair.principal.scopes)),
        workspace_id=pair.principal.workspace_id,
        session_id=pair.principal.session_id,
        id_token=None,
    )


def cookies_of(pair: TokenPair, gateway: Gateway) -> tuple[SetCookie, ...]:
    """A pair as a browser keeps it."""
    settings = gateway.settings
    return session_cookies(
        pair.access_token,
        pair.refresh_token,
        access_seconds=settings.access_token_seconds,
        refresh_seconds=settings.refresh_token_days * 86_400,
        is_secure=settings.is_https,
    )


async def exchange(gateway: Gateway, call: Call[NoQuery, TokenExchange]) -> Tokens:
    """A pair of tokens for an issuer's token."""
    pair = await gateway.sessions.exchange(
        call.body.subject_token,
        workspace_id=call.body.workspace_id,
        device=device_of(call),
        invitation_token=call.body.invitation_token,
    )
    return show_tokens(pair, gateway)


async def refresh(gateway: Gateway, call: Call[NoQuery, TokenRefresh]) -> Tokens | Answer:
    """The next pair of tokens; in cookies, when the last one was."""
    given = call.body.refresh_token
    token = call.cookies.get(REFRESH, "") if given is UNSET else given
    if not token.startswith(REFRESH_PREFIX):
        raise InvalidGrantError("The refresh token is not valid. Sign in again.")
    try:
        pair = await gateway.sessions.refresh(token, device=device_of(call))
    except SessionEndedError as error:
        gateway.access.forget(error.session_id)
        raise
    if given is not UNSET:
        return show_tokens(pair, gateway)
    return Answer(204, None, cookies=cookies_of(pair, gateway))


async def sign_out(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """End the session that the request came with."""
    await end_session(gateway, call, call.principal.session_id, reason="signed_out")
    return Answer(204, None, cookies=forgotten_session(is_secure=gateway.settings.is_https))


async def sync(gateway: Gateway, call: Call[NoQuery, IdentityBinding]) -> Profile:
    """Bind the issuer's identity to who is signed in."""
    await gateway.sessions.bind(call.principal, call.body.subject_token, ip=call.ip)
    return await read_profile(gateway, call.principal)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="exchangeToken",
        method="POST",
        path="/v1/auth/exchange",
        tag="Auth",
        summary="Exchange an issuer's session token for a pair of tokens.",
        description="RS256 and ES256 tokens of OIDC_ISSUER or of the issuer behind CLERK_JWKS_URL. The person is found by the token's"
        " subject, or at the first sign-in by e-mail address.",
        scope=None,
        body=TokenExchange,
        replies={200: Tokens},
        refusals=(401, 403, 404, 409, 422),
        handle=exchange,
    ),
    Operation(
        id="refreshToken",
        method="POST",
        path="/v1/auth/refresh",
        tag="Auth",
        summary="Rotate a refresh token.",
        scope=None,
        description="While access is suspended 403; the refresh token stays good for when it is not any more.",
        body=TokenRefresh,
        replies={200: Tokens, 204: None},
        refusals=(401, 403),
        handle=refresh,
    ),
    Operation(
        id="signOut",
        method="POST",
        path="/v1/auth/sign-out",
        tag="Auth",
        summary="End the session of this access token.",
        description="Its access and refresh tokens stop at once; API tokens stay.",
        scope=SELF,
        replies={204: None},
        without_second_factor=True,
        handle=sign_out,
    ),
    Operation(
        id="syncIdentity",
        method="POST",
        path="/v1/auth/sync",
        tag="Auth",
        summary="Bind the issuer's identity to the person who is signed in.",
        description="For a person who was made before their first sign-in, or came in by another door. The address"
        " that the issuer has verified is taken over.",
        scope=SELF,
        of_the_person=True,
        body=IdentityBinding,
        replies={200: Profile},
        refusals=(401, 409),
        handle=sync,
    ),
)
