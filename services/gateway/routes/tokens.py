"""Personal API tokens: what a program of one's own signs in with; and the catalogue of scopes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import ForbiddenError

from services.gateway.identity.access import _queries, credentials
from services.gateway.identity.access.credentials import Made, Owner, TokenRequest
from services.gateway.identity.scopes import ANYBODY, SCOPES, Tab
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.vocabulary import VISIBLE

TokenName = Annotated[
    str,
    Meta(min_length=1, max_length=100, pattern=VISIBLE, description="Unlike any other of the same owner."),
]
ScopeName = Annotated[str, Meta(max_length=64, extra_json_schema={"enum": sorted(SCOPES)})]


class ApiToken(Struct, frozen=True, kw_only=True):
    """A long-lived token; its secret was shown when it was made."""

    id: str
    name: str
    hint: Annotated[str, Meta(description="The last four characters of the secret.")]
    scopes: Annotated[
        tuple[str, ...],
        Meta(description="What it was given; a person's token has of these what its owner still has."),
    ]
    created_by: str | None
    created_at: datetime
    expires_at: Annotated[datetime | None, Meta(description="Null: never.")]
    last_used_at: Annotated[datetime | None, Meta(description="To the minute; null: not yet.")]


class NewApiToken(ApiToken, frozen=True, kw_only=True):
    """A token with its secret, which nobody will ever show again."""

    secret: Annotated[str, Meta(description="Send it as a bearer token; keep it like a password.")]


class ApiTokenPage(Struct, frozen=True, kw_only=True):
    """A page of tokens."""

    data: tuple[ApiToken, ...]
    page: PageInfo


class ApiTokenQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of a list of tokens."""

    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class ApiTokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to make."""

    name: TokenName
    scopes: Annotated[
        tuple[ScopeName, ...],
        Meta(min_length=1, max_length=100, description="Scopes that you have yourself."),
    ]
    expires_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(
            description="In the future. Default: never. What is made with an API token that ends, ends with it at the latest."
        ),
    ] = None


class ScopeEntry(Struct, frozen=True, kw_only=True):
    """A scope that a token can be given."""

    name: str
    tab: Tab
    description: str
    is_held: Annotated[bool, Meta(description="Whether you have it, so that you can give it to a token.")]


class ScopeCatalogue(Struct, frozen=True, kw_only=True):
    """Every scope there is."""

    data: tuple[ScopeEntry, ...]


LISTING = Listing(
    name="api_tokens",
    view="api_tokens_shown",
    row=_queries.ApiToken,
    sorts={"created_at": SortKey("created_at", "timestamptz"), "name": SortKey("name", "text")},
    default_sort="-created_at",
)


async def list_scopes(_gateway: Gateway, call: Call[NoQuery, None]) -> ScopeCatalogue:
    """The catalogue."""
    held = call.principal.scopes
    return ScopeCatalogue(
        data=tuple(
            ScopeEntry(
                name=scope.name, tab=scope.tab, description=scope.description, is_held=scope.name in held
            )
            for scope in SCOPES.values()
        )
    )


def present_token(row: _queries.ApiToken) -> ApiToken:
    """A token as the API shows it."""
    return ApiToken(
        id=row.token_id,
        name=row.name,
        hint=row.hint,
        scopes=tuple(row.scopes),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def present_secret(made: Made) -> NewApiToken:
    """A token with its secret, once."""
    row = made.token
    return NewApiToken(
        id=row.token_id,
        name=row.name,
        hint=row.hint,
        scopes=tuple(row.scopes),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        secret=made.secret,
    )


async def tokens_of(gateway: Gateway, call: Call[ApiTokenQuery, None], owner: Owner) -> ApiTokenPage:
    """A page of an owner's tokens, without those that were revoked."""
    of_owner: Condition = (
        Condition("user_id = {value} AND revoked_at IS NULL", owner.id)
        if owner.is_person
        else Condition("service_account_id = {value} AND revoked_at IS NULL", owner.id)
    )
    found = await list_page(
        gateway, call, LISTING, conditions=[of_owner], sort=call.query.sort, source=gateway.people
    )
    return ApiTokenPage(data=shown(found, present_token), page=page_info(found))


def requested(body: ApiTokenRequest) -> TokenRequest:
    """What is asked for."""
    return TokenRequest(body.name, frozenset(body.scopes), body.expires_at)


def _oneself(call: Call[Any, Any]) -> Owner:  # Any: whatever is asked
    if call.principal.kind == "service":
        raise ForbiddenError("A service account's tokens are managed at /v1/service-accounts.")
    return Owner(call.principal.user_id)


async def list_tokens(gateway: Gateway, call: Call[ApiTokenQuery, None]) -> ApiTokenPage:
    """A page of one's own tokens."""
    return await tokens_of(gateway, call, _oneself(call))


async def create_token(gateway: Gateway, call: Call[NoQuery, ApiTokenRequest]) -> NewApiToken:
    """A token of one's own."""
    owner = _oneself(call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        made = await credentials.make_token(
            conn, act_of(gateway, call), owner, requested(call.body), rng=gateway.rng
        )
    return present_secret(made)


async def get_token(gateway: Gateway, call: Call[NoQuery, None]) -> ApiToken:
    """One of one's own tokens."""
    owner = _oneself(call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await credentials.find_token(conn, act_of(gateway, call), owner, call.path["token_id"])
    return present_token(found)


async def rotate_token(gateway: Gateway, call: Call[NoQuery, None]) -> NewApiToken:
    """Another secret for one of one's own tokens."""
    owner, token_id = _oneself(call), call.path["token_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        made = await credentials.rotate_token(conn, act_of(gateway, call), owner, token_id)
    gateway.access.forget(token_id)
    return present_secret(made)


async def revoke_token(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of one of one's own tokens."""
    owner, token_id = _oneself(call), call.path["token_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        await credentials.revoke_token(conn, act_of(gateway, call), owner, token_id)
    gateway.access.forget(token_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listScopes",
        method="GET",
        path="/v1/api-tokens/scopes",
        tag="Tokens",
        summary="List every scope.",
        scope=ANYBODY,
        replies={200: ScopeCatalogue},
        handle=list_scopes,
    ),
    Operation(
        id="listApiTokens",
        method="GET",
        path="/v1/api-tokens",
        tag="Tokens",
        summary="List your API tokens.",
        scope="tokens:read",
        query=ApiTokenQuery,
        replies={200: ApiTokenPage},
        handle=list_tokens,
    ),
    Operation(
        id="createApiToken",
        method="POST",
        path="/v1/api-tokens",
        tag="Tokens",
        summary="Make an API token that acts as you.",
        description="It has the scopes given, as far as you still have them when it is used. It ends when you leave the"
        " workspace. The secret is shown in this answer and never again.",
        scope="tokens:write",
        body=ApiTokenRequest,
        replies={201: NewApiToken},
        refusals=(409,),
        handle=create_token,
    ),
    Operation(
        id="getApiToken",
        method="GET",
        path="/v1/api-tokens/{token_id}",
        tag="Tokens",
        summary="Look at one of your API tokens.",
        scope="tokens:read",
        replies={200: ApiToken},
        handle=get_token,
    ),
    Operation(
        id="rotateApiToken",
        method="POST",
        path="/v1/api-tokens/{token_id}/rotate",
        tag="Tokens",
        summary="Give one of your API tokens another secret.",
        description="The old secret is refused from the next request on.",
        scope="tokens:write",
        replies={200: NewApiToken},
        refusals=(409,),
        handle=rotate_token,
    ),
    Operation(
        id="revokeApiToken",
        method="DELETE",
        path="/v1/api-tokens/{token_id}",
        tag="Tokens",
        summary="End one of your API tokens for ever.",
        scope="tokens:write",
        replies={204: None},
        handle=revoke_token,
    ),
)
