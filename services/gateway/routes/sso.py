"""A workspace's own identity providers."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.identity.signin._queries import Connection
from services.gateway.identity.signin.connections import Changed, Wanted
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.pages import PageInfo

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
Issuer = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^https?://[^\s\x00?#@]+$(?!\n)",
        description="As the provider calls itself; its discovery document is at /.well-known/openid-configuration below.",
    ),
]
ClientId = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[!-~]+$(?!\n)")]
ClientSecret = Annotated[
    str,
    Meta(
        max_length=1024, pattern=r"^[ -~]*$(?!\n)", description="Sealed; never shown. Empty: a public client."
    ),
]
Domain = Annotated[
    str,
    Meta(max_length=253, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$(?!\n)"),
]
Domains = Annotated[
    tuple[Domain, ...],
    Meta(max_length=20, description="People with a verified address of these come in by themselves."),
]
DefaultRole = Annotated[
    Literal["read_only", "viewer", "executive", "analyst", "compliance_admin", "security_admin", "admin"],
    Meta(description="What they become."),
]


class SsoConnection(Struct, frozen=True, kw_only=True):
    """An identity provider of the workspace."""

    id: str
    name: str
    issuer: str
    client_id: str
    domains: tuple[str, ...]
    approved_domains: Annotated[
        tuple[str, ...],
        Meta(
            description="Those of them that the operator has approved; of the others it speaks for few people."
        ),
    ]
    default_role: str
    status: Literal["active", "disabled"]
    redirect_uri: Annotated[str, Meta(description="What the provider has to allow browsers to be sent to.")]
    login_url: Annotated[str, Meta(description="Where people sign in with it.")]
    created_at: datetime
    updated_at: datetime


class SsoConnectionPage(Struct, frozen=True, kw_only=True):
    """The workspace's connections; there is one page."""

    data: tuple[SsoConnection, ...]
    page: PageInfo


class NewSsoConnection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity provider to sign in with."""

    name: Name
    issuer: Issuer
    client_id: ClientId
    client_secret: ClientSecret = ""
    domains: Domains = ()
    default_role: DefaultRole = "viewer"


class SsoConnectionChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; the issuer cannot be."""

    name: Name | UnsetType = UNSET
    client_id: ClientId | UnsetType = UNSET
    client_secret: ClientSecret | UnsetType = UNSET
    domains: Domains | UnsetType = UNSET
    default_role: DefaultRole | UnsetType = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET


def _shown(gateway: Gateway, row: Connection) -> SsoConnection:
    address = gateway.settings.public_address
    return SsoConnection(
        id=row.connection_id,
        name=row.name,
        issuer=row.issuer,
        client_id=row.client_id,
        domains=tuple(row.domains),
        approved_domains=tuple(row.approved_domains),
        default_role=row.default_role,
        status="active" if row.status == "active" else "disabled",
        redirect_uri=f"{address}/v1/auth/callback",
        login_url=f"{address}/v1/auth/login?connection={row.connection_id}",
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def list_connections(gateway: Gateway, call: Call[NoQuery, None]) -> SsoConnectionPage:
    """All of them."""
    rows = await gateway.connections.all(act_of(gateway, call))
    return SsoConnectionPage(
        data=tuple(_shown(gateway, row) for row in rows),
        page=PageInfo(next_cursor=None, has_more=False, total=len(rows)),
    )


async def get_connection(gateway: Gateway, call: Call[NoQuery, None]) -> SsoConnection:
    """One of them."""
    return _shown(gateway, await gateway.connections.one(act_of(gateway, call), call.path["connection_id"]))


async def add_connection(gateway: Gateway, call: Call[NoQuery, NewSsoConnection]) -> SsoConnection:
    """A new one."""
    body = call.body
    wanted = Wanted(
        name=body.name,
        issuer=body.issuer,
        client_id=body.client_id,
        client_secret=body.client_secret,
        domains=body.domains,
        default_role=body.default_role,
    )
    return _shown(gateway, await gateway.connections.add(act_of(gateway, call), wanted))


async def change_connection(gateway: Gateway, call: Call[NoQuery, SsoConnectionChange]) -> SsoConnection:
    """It with the changes."""
    body = call.body
    changed = Changed(
        name=body.name,
        client_id=body.client_id,
        client_secret=body.client_secret,
        domains=body.domains,
        default_role=body.default_role,
        status=body.status,
    )
    row = await gateway.connections.change(act_of(gateway, call), call.path["connection_id"], changed)
    gateway.access.forget(call.workspace_id)
    return _shown(gateway, row)


async def remove_connection(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """Forget it."""
    await gateway.connections.remove(act_of(gateway, call), call.path["connection_id"])
    gateway.access.forget(call.workspace_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listSsoConnections",
        method="GET",
        path="/v1/sso/connections",
        tag="Single sign-on",
        summary="List the workspace's identity providers.",
        scope="sso:admin",
        replies={200: SsoConnectionPage},
        handle=list_connections,
    ),
    Operation(
        id="addSsoConnection",
        method="POST",
        path="/v1/sso/connections",
        tag="Single sign-on",
        summary="Add an identity provider.",
        description="Its discovery document is fetched first: over https, and from the internet only. The plan has to"
        " have single sign-on.",
        scope="sso:admin",
        body=NewSsoConnection,
        replies={201: SsoConnection},
        refusals=(404, 409, 422),
        handle=add_connection,
    ),
    Operation(
        id="getSsoConnection",
        method="GET",
        path="/v1/sso/connections/{connection_id}",
        tag="Single sign-on",
        summary="Show an identity provider.",
        scope="sso:admin",
        replies={200: SsoConnection},
        handle=get_connection,
    ),
    Operation(
        id="changeSsoConnection",
        method="PATCH",
        path="/v1/sso/connections/{connection_id}",
        tag="Single sign-on",
        summary="Change an identity provider, or disable it.",
        description="Disabling it ends the sessions that it vouched for.",
        scope="sso:admin",
        body=SsoConnectionChange,
        replies={200: SsoConnection},
        refusals=(409,),
        handle=change_connection,
    ),
    Operation(
        id="removeSsoConnection",
        method="DELETE",
        path="/v1/sso/connections/{connection_id}",
        tag="Single sign-on",
        summary="Remove an identity provider.",
        description="Ends the sessions that it vouched for; the members stay.",
        scope="sso:admin",
        replies={204: None},
        refusals=(409,),
        handle=remove_connection,
    ),
)
