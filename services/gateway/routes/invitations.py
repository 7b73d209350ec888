"""Invitations: make, list, send again, revoke; and what the invited do with the link."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from psycopg import AsyncConnection
from runtime.database import tenant

from services.gateway.identity.people import _queries, invitations
from services.gateway.identity.people.acting import Act
from services.gateway.identity.people.letters import invitation_letter
from services.gateway.identity.scopes import SELF
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.members import AnyRole, Role, act_of, role_named
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.vocabulary import EmailAddress

InvitationStatus = Literal["pending", "expired", "accepted", "revoked"]
Token = Annotated[str, Meta(min_length=1, max_length=200, description="The link's token.")]


class Invitation(Struct, frozen=True, kw_only=True):
    """A link that makes the person with an address a member."""

    id: str
    email: str
    role: Role
    status: InvitationStatus
    delivery: Annotated[
        Literal["link", "queued", "sent", "failed"],
        Meta(description="link: no mail server is configured, so the link is handed over by hand."),
    ]
    delivery_error: Annotated[str | None, Meta(description="What the mail server said last.")]
    invited_by: str | None
    created_at: datetime
    expires_at: datetime
    settled_at: Annotated[datetime | None, Meta(description="When it was accepted or revoked.")]


class SentInvitation(Struct, frozen=True, kw_only=True):
    """An invitation with a fresh link. The link is shown here once, and only when it is not mailed."""

    invitation: Invitation
    link: Annotated[str | None, Meta(description="To be handed over by hand; null when it is mailed.")]


class InvitationPage(Struct, frozen=True, kw_only=True):
    """A page of invitations."""

    data: tuple[Invitation, ...]
    page: PageInfo


class InvitationQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of invitations."""

    status: tuple[InvitationStatus, ...] | None = None


class NewInvitation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to invite."""

    email: Annotated[
        EmailAddress,
        Meta(description="Compared exactly as written with the one that the person signs in with."),
    ]
    role: Annotated[AnyRole, Meta(description="At most what you may do yourself.")] = "analyst"


class InvitationToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The link's token."""

    token: Token


class Welcome(Struct, frozen=True, kw_only=True):
    """What a link is about."""

    workspace_id: str
    workspace_name: str
    email: str
    role: Role
    invited_by_name: str | None
    expires_at: datetime
    sso_connection_id: Annotated[
        str | None,
        Meta(
            description="Not null: the address belongs to this identity provider; signing in there accepts."
        ),
    ]


class Joined(Struct, frozen=True, kw_only=True):
    """The workspace that was joined."""

    workspace_id: str
    workspace_name: str
    role: Role


LISTING = Listing(
    name="invitations",
    view="invitations_shown",
    row=_queries.Invitation,
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
)


def _present(row: _queries.Invitation, now: datetime) -> Invitation:
    is_over = row.status == "pending" and row.expires_at <= now
    return Invitation(
        id=row.invitation_id,
        email=row.email,
        role=row.role,  # type: ignore[arg-type]  # the column's check has the same words
        status="expired" if is_over else row.status,  # type: ignore[arg-type]  # likewise
        delivery=row.delivery,  # type: ignore[arg-type]  # likewise
        delivery_error=row.delivery_error,
        invited_by=row.invited_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        settled_at=row.settled_at,
    )


def link_to(gateway: Gateway, token: str) -> str:
    """An invitation's link. The token stands behind the #, which browsers do not send and servers do not log."""
    return f"{gateway.settings.public_address}/invitation#{token}"


async def list_invitations(gateway: Gateway, call: Call[InvitationQuery, None]) -> InvitationPage:
    """A page of invitations, newest first."""
    now = gateway.resources.clock()
    conditions: list[Condition] = []
    if call.query.status:
        conditions.append(
            Condition(
                # Whether one has expired is not stored: nobody would be there to write it.
                "(CASE WHEN status = 'pending' AND expires_at <= now() THEN 'expired' ELSE status END)"
                " = ANY({value}::text[])",
                list(call.query.status),
            )
        )
    found = await list_page(gateway, call, LISTING, conditions=conditions, sort=None, source=gateway.people)
    return InvitationPage(data=shown(found, lambda row: _present(row, now)), page=page_info(found))


async def create_invitation(gateway: Gateway, call: Call[NoQuery, NewInvitation]) -> SentInvitation:
    """Invite somebody."""
    act = act_of(gateway, call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        offer = await invitations.invite(
            conn,
            act,
            email=call.body.email,
            role=role_named(call.body.role) or "analyst",
            delivery=gateway.postbox.delivery,
            rng=gateway.rng,
        )
        sent = await _send(gateway, conn, act, offer)
    gateway.postbox.wake()
    return sent


async def resend_invitation(gateway: Gateway, call: Call[NoQuery, None]) -> SentInvitation:
    """A fresh link in the place of the old one."""
    act = act_of(gateway, call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        offer = await invitations.renew(
            conn, act, call.path["invitation_id"], delivery=gateway.postbox.delivery
        )
        sent = await _send(gateway, conn, act, offer)
    gateway.postbox.wake()
    return sent


async def revoke_invitation(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of an invitation."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        await invitations.revoke(conn, act_of(gateway, call), call.path["invitation_id"])


async def look_at_invitation(gateway: Gateway, call: Call[NoQuery, InvitationToken]) -> Welcome:
    """What a link is about."""
    async with gateway.people.connection() as conn, conn.transaction():
        found = await invitations.look(conn, call.body.token, now=gateway.resources.clock())
    return Welcome(
        workspace_id=found.workspace_id,
        workspace_name=found.workspace_name,
        email=found.email,
        role=found.role,  # type: ignore[arg-type]  # the column's check has the same words
        invited_by_name=found.inviter,
        expires_at=found.expires_at,
        sso_connection_id=found.connection_id,
    )


async def accept_invitation(gateway: Gateway, call: Call[NoQuery, InvitationToken]) -> Joined:
    """Make the caller a member of the workspace that the link is to."""
    async with gateway.people.connection() as conn, conn.transaction():
        joined = await invitations.accept(
            conn,
            call.body.token,
            user_id=call.principal.user_id,
            now=gateway.resources.clock(),
            ip=call.ip,
        )
    gateway.access.forget(call.principal.user_id)
    return Joined(
        workspace_id=joined.workspace_id,
        workspace_name=joined.workspace_name,
        role=joined.role,  # type: ignore[arg-type]  # the column's check has the same words
    )


async def _send(
    gateway: Gateway, conn: AsyncConnection[object], act: Act, offer: invitations.Offer
) -> SentInvitation:
    """Queue the letter, or show the link when there is nothing to mail it with."""
    link = link_to(gateway, offer.token)
    if gateway.postbox.delivery == "queued":
        welcome = await invitations.look(conn, offer.token, now=act.now)
        letter = invitation_letter(
            to=offer.email,
            workspace=welcome.workspace_name,
            inviter=welcome.inviter,
            role=offer.role,
            link=link,
            expires_at=offer.expires_at,
        )
        await gateway.postbox.put(
            conn, letter, workspace_id=act.workspace_id, invitation_id=offer.invitation_id
        )
    row = await invitations.find_invitation(
        conn, workspace_id=act.workspace_id, invitation_id=offer.invitation_id
    )
    return SentInvitation(invitation=_present(row, act.now), link=link if row.delivery == "link" else None)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listInvitations",
        method="GET",
        path="/v1/invitations",
        tag="People",
        summary="List invitations, newest first.",
        scope="members:read",
        query=InvitationQuery,
        replies={200: InvitationPage},
        handle=list_invitations,
    ),
    Operation(
        id="createInvitation",
        method="POST",
        path="/v1/invitations",
        tag="People",
        summary="Invite somebody by e-mail.",
        description="The link is good for 7 days and once. Without a mail server the reply has the link, to be handed"
        " over by hand.",
        scope="members:write",
        body=NewInvitation,
        replies={201: SentInvitation},
        refusals=(409,),
        handle=create_invitation,
    ),
    Operation(
        id="resendInvitation",
        method="POST",
        path="/v1/invitations/{invitation_id}/resend",
        tag="People",
        summary="Send a fresh link; the old one ends.",
        scope="members:write",
        replies={200: SentInvitation},
        refusals=(409,),
        handle=resend_invitation,
    ),
    Operation(
        id="revokeInvitation",
        method="DELETE",
        path="/v1/invitations/{invitation_id}",
        tag="People",
        summary="Revoke an invitation.",
        scope="members:write",
        replies={204: None},
        refusals=(409,),
        handle=revoke_invitation,
    ),
    Operation(
        id="lookAtInvitation",
        method="POST",
        path="/v1/invitations/look",
        tag="People",
        summary="See what an invitation's link is about.",
        scope=None,
        body=InvitationToken,
        replies={200: Welcome},
        refusals=(403, 404),
        handle=look_at_invitation,
    ),
    Operation(
        id="acceptInvitation",
        method="POST",
        path="/v1/invitations/accept",
        tag="People",
        summary="Accept an invitation as the person who is signed in.",
        description="Who has no workspace yet sends the token as `invitation_token` to `POST /v1/auth/exchange` instead.",
        scope=SELF,
        of_the_person=True,
        body=InvitationToken,
        replies={200: Joined},
        refusals=(404, 409, 422),
        handle=accept_invitation,
    ),
)
