"""Signing in: an issuer's token becomes a pair of ours; a refresh token the next pair."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from services.gateway.errors import InvalidGrantError
from services.gateway.identity.sessions import TokenPair
from services.gateway.identity.tokens import REFRESH_PREFIX
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation

Token = Annotated[str, Meta(min_length=1, max_length=16_384)]


class TokenExchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token exchange as in RFC 8693."""

    subject_token: Annotated[
        Token, Meta(description="The issuer's session JWT; with USE_MOCK=1 any text that is not empty.")
    ]
    subject_token_type: Annotated[str, Meta(max_length=200)] = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105  # a type's name
    workspace_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="Default: the first workspace that the person belongs to."),
    ] = None


class TokenRefresh(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token to rotate."""

    refresh_token: Token


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


def _shown(pair: TokenPair, gateway: Gateway) -> Tokens:
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


async def exchange(gateway: Gateway, call: Call[NoQuery, TokenExchange]) -> Tokens:
    """A pair of tokens for an issuer's token."""
    pair = await gateway.sessions.exchange(call.body.subject_token, workspace_id=call.body.workspace_id)
    return _shown(pair, gateway)


async def refresh(gateway: Gateway, call: Call[NoQuery, TokenRefresh]) -> Tokens:
    """The next pair of tokens."""
    if not call.body.refresh_token.startswith(REFRESH_PREFIX):
        raise InvalidGrantError("The refresh token is not valid. Sign in again.")
    return _shown(await gateway.sessions.refresh(call.body.refresh_token), gateway)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="exchangeToken",
        method="POST",
        path="/v1/auth/exchange",
        tag="Auth",
        summary="Exchange an issuer's session token for a pair of tokens.",
        description="RS256 and ES256 tokens of the issuer behind CLERK_JWKS_URL. The person is found by the token's"
        " subject, or at the first sign-in by e-mail address.",
        scope=None,
        body=TokenExchange,
        replies={200: Tokens},
        refusals=(401, 403),
        handle=exchange,
    ),
    Operation(
        id="refreshToken",
        method="POST",
        path="/v1/auth/refresh",
        tag="Auth",
        summary="Rotate a refresh token.",
        scope=None,
        body=TokenRefresh,
        replies={200: Tokens},
        refusals=(401,),
        handle=refresh,
    ),
)
