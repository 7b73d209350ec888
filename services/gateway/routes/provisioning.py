"""Provisioning: a client with its workspace and owner in one call, by whoever runs the platform."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway.identity.people.acting import Act
from services.gateway.identity.scopes import PLATFORM
from services.gateway.identity.tenancy import provisioning
from services.gateway.identity.tenancy.provisioning import ApiKey, Order
from services.gateway.routes.invitations import link_to
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.workspaces import Name, Slug, TimeZone
from services.gateway.vocabulary import VISIBLE, EmailAddress

# JSON knows one kind of number: 10.0 is a whole one.
Seats = Annotated[
    float,
    Meta(ge=1, le=1_000_000, multiple_of=1, description="Active members at most; null: what the plan has."),
]


class NewOrganization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The client to make."""

    name: Name
    slug: Slug
    plan: Annotated[
        str, Meta(pattern=r"^[a-z][a-z0-9_]{0,29}$(?!\n)", description="A row of the table of plans.")
    ] = "free"
    seats: Seats | None = 10
    timezone: TimeZone = "UTC"


class NewWorkspace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its workspace."""

    name: Annotated[Name | None, Meta(description="Default: the organization's.")] = None


class NewOwner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is its owner; somebody with this address who is known already is the same person."""

    email: EmailAddress
    name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200, pattern=VISIBLE)] | None,
        Meta(description="Default: what stands before the @."),
    ] = None


class NewClient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make."""

    organization: NewOrganization
    owner: NewOwner
    workspace: NewWorkspace = NewWorkspace()
    issue_api_key: Annotated[bool, Meta(description="Make a service account with a token, too.")] = False
    owner_invite_link: Annotated[
        bool, Meta(description="Make a link for the owner, good once and for 7 days.")
    ] = False


class IssuedApiKey(Struct, frozen=True, kw_only=True):
    """A service account's token. It is shown here and never again."""

    service_account_id: str
    token_id: str
    token: str
    scopes: tuple[str, ...]


class Client(Struct, frozen=True, kw_only=True):
    """What was made. Secrets are shown here and never again."""

    organization_id: str
    workspace_id: str
    owner_user_id: str
    membership_id: str
    slug: str
    api_key: IssuedApiKey | None
    owner_invite_link: str | None
    owner_invite_expires_at: datetime | None


async def make_client(gateway: Gateway, call: Call[NoQuery, NewClient]) -> Client:
    """Make a client; all of it or nothing."""
    wanted, client = call.body, call.body.organization
    order = Order(
        slug=client.slug,
        name=client.name,
        plan=client.plan,
        seats=None if client.seats is None else int(client.seats),
        timezone=client.timezone,
        workspace_name=wanted.workspace.name,
        owner_email=wanted.owner.email,
        owner_name=wanted.owner.name,
    )
    key: ApiKey | None = None
    async with tenant(gateway.people, call.workspace_id) as conn:
        made = await provisioning.make_client(conn, order)
        act = Act(
            principal=msgspec.structs.replace(call.principal, workspace_id=made.workspace_id),
            ip=call.ip,
            now=gateway.resources.clock(),
        )
        target = ("organization", made.organization_id)
        await act.write_down(conn, "client.provisioned", "create", target, plan=order.plan)
        if wanted.issue_api_key:
            key = await provisioning.issue_api_key(conn, act, rng=gateway.rng)
        link = None
        if wanted.owner_invite_link:
            link = await provisioning.issue_owner_link(
                conn, act, owner_id=made.owner_user_id, email=order.owner_email, rng=gateway.rng
            )
    return Client(
        organization_id=made.organization_id,
        workspace_id=made.workspace_id,
        owner_user_id=made.owner_user_id,
        membership_id=made.membership_id,
        slug=order.slug,
        api_key=None if key is None else msgspec.convert(msgspec.structs.asdict(key), IssuedApiKey),
        owner_invite_link=None if link is None else link_to(gateway, link.token),
        owner_invite_expires_at=None if link is None else link.expires_at,
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="provisionClient",
        method="POST",
        path="/v1/provisioning/clients",
        tag="Provisioning",
        summary="Make a client with its workspace and its owner.",
        description="Needs a provisioning key, `clp_admin_…`, as the bearer; without one configured the answer is 503."
        " It is usable at once.",
        scope=PLATFORM,
        body=NewClient,
        replies={201: Client},
        refusals=(409, 422),
        handle=make_client,
    ),
)
