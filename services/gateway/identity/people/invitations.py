"""Invitations: a link to one address, good for seven days and once; only its hash is kept."""

import random
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import ForbiddenError, NotFoundError, StateConflictError

from services.gateway.errors import SsoRequiredError
from services.gateway.identity.people import _queries
from services.gateway.identity.people.acting import Act, rules_as_refusals
from services.gateway.identity.tokens import Principal

TOKEN_PREFIX = "clp_invite_"  # noqa: S105  # a prefix, not a secret
DAYS_GOOD = 7


class Offer(Struct, frozen=True, kw_only=True):
    """An invitation as its link's holder is told of it; the token is nowhere else."""

    invitation_id: str
    email: str
    role: str
    token: str
    expires_at: datetime


class Welcome(Struct, frozen=True, kw_only=True):
    """Where an invitation leads. inviter: a person's name; None: somebody who is gone, or a program."""

    workspace_id: str
    workspace_name: str
    email: str
    role: str
    inviter: str | None
    expires_at: datetime
    connection_id: str | None


async def invite(
    conn: AsyncConnection[Any], act: Act, *, email: str, role: str, delivery: str, rng: random.Random
) -> Offer:
    """Make an invitation, and keep a place for the person, who is made when unknown.

    Raises ForbiddenError for a role above the one who asks, StateConflictError when the address, in this or another
    case, is a member's or has been invited.
    """
    act.check_may_grant(role)
    known = await _queries.get_member_by_email(conn, workspace_id=act.workspace_id, email=email)
    if known is not None:
        await _clear_expired(conn, act, known, email)
    user_id = await _queries.ensure_person(conn, email=email, name=None)
    offer = _offer(act, invitation_id=new_id("inv_", now=act.now, rng=rng), email=email, role=role)
    with rules_as_refusals():
        await _queries.insert_invited_member(
            conn,
            workspace_id=act.workspace_id,
            membership_id=new_id("mem_", now=act.now, rng=rng),
            user_id=user_id,
            role=role,
        )
        await _queries.insert_invitation(
            conn,
            workspace_id=act.workspace_id,
            invitation_id=offer.invitation_id,
            user_id=user_id,
            email=email,
            role=role,
            token_hash=hash_token(offer.token),
            delivery=delivery,
            invited_by=act.principal.user_id,
            created_at=act.now,
            expires_at=offer.expires_at,
        )
    target = ("invitation", offer.invitation_id)
    await act.write_down(conn, "member.invited", "invite", target, role=role, user_id=user_id)
    return offer


async def renew(conn: AsyncConnection[Any], act: Act, invitation_id: str, *, delivery: str) -> Offer:
    """A fresh link; the old one opens nothing any more. Raises like `find_invitation`, StateConflictError when over."""
    found = await _lock(conn, act, invitation_id)
    offer = _offer(act, invitation_id=found.invitation_id, email=found.email, role=found.role)
    await _queries.renew_invitation(
        conn,
        token_hash=hash_token(offer.token),
        delivery=delivery,
        expires_at=offer.expires_at,
        workspace_id=act.workspace_id,
        invitation_id=found.invitation_id,
    )
    await _queries.delete_mail_of_invitation(
        conn, workspace_id=act.workspace_id, invitation_id=found.invitation_id
    )
    await act.write_down(conn, "invitation.resent", "invite", ("invitation", found.invitation_id))
    return offer


async def revoke(conn: AsyncConnection[Any], act: Act, invitation_id: str) -> None:
    """End an invitation and let go of the place. Raises like `renew`."""
    found = await _lock(conn, act, invitation_id)
    # A trigger ends the invitation with the place that was kept for it.
    await _queries.delete_invited_member(conn, workspace_id=act.workspace_id, user_id=found.user_id)
    await act.write_down(conn, "invitation.revoked", "revoke", ("invitation", found.invitation_id))


async def find_invitation(
    conn: AsyncConnection[Any], *, workspace_id: str, invitation_id: str
) -> _queries.Invitation:
    """An invitation of the workspace. Raises NotFoundError."""
    found = await _queries.get_invitation(conn, workspace_id=workspace_id, invitation_id=invitation_id)
    if found is None:
        raise _not_found(invitation_id)
    return found


async def look(conn: AsyncConnection[Any], token: str, *, now: datetime) -> Welcome:
    """What a link is about, for whoever holds it. Raises NotFoundError when it opens nothing (any more)."""
    found = await _find_by_token(conn, token, now=now)
    return await _welcome(conn, found)


async def accept(conn: AsyncConnection[Any], token: str, *, user_id: str, now: datetime, ip: str) -> Welcome:
    """Make the invited person a member; afterwards the transaction sees the workspace that they entered.

    Raises NotFoundError when the link opens nothing, ForbiddenError when it is for another person, SsoRequiredError
    when the workspace's own provider speaks for the address, SeatLimitError, StateConflictError when suspended.
    """
    found = await _find_by_token(conn, token, now=now)
    if found.user_id != user_id:
        raise ForbiddenError("The invitation is for another address than yours.")
    welcome = await _welcome(conn, found)
    if welcome.connection_id is not None:
        raise SsoRequiredError(
            "Your organization signs in by itself: come in through its identity provider, which accepts for you.",
            details={"connection_id": welcome.connection_id},
        )
    with rules_as_refusals():
        n_made = await _queries.activate_member(
            conn, role=found.role, updated_at=now, workspace_id=found.workspace_id, user_id=user_id
        )
    member = await _queries.get_membership_of(conn, workspace_id=found.workspace_id, user_id=user_id)
    if member is None or member.status != "active":
        raise StateConflictError("Your membership is suspended.")
    if not n_made:
        # The owner that a client was made with is a member from the beginning; their link is only used up.
        await _queries.use_invitation(
            conn, workspace_id=found.workspace_id, invitation_id=found.invitation_id, settled_at=now
        )
    joining = Principal(
        workspace_id=found.workspace_id,
        user_id=user_id,
        role=found.role,
        scopes=frozenset(),
        session_id="",
        expires_at=now,
    )
    act = Act(principal=joining, ip=ip, now=now)
    if not n_made:
        await act.write_down(conn, "invitation.accepted", "update", ("invitation", found.invitation_id))
        return welcome
    await act.write_down(
        conn, "member.joined", "update", ("membership", member.membership_id), role=found.role
    )
    return welcome


def hash_token(token: str) -> str:
    """What is stored of a link's token."""
    return sha256(token.encode()).hexdigest()


async def _clear_expired(
    conn: AsyncConnection[Any], act: Act, known: _queries.GetMemberByEmailRow, email: str
) -> None:
    """Let go of a place whose link expired. Raises StateConflictError when the address is taken."""
    if known.email != email:
        raise StateConflictError(
            "A member's address differs from this one by upper and lower case only.",
            details={"email": "taken"},
        )
    if known.status != "invited":
        raise StateConflictError("They are a member already.", details={"member_id": known.membership_id})
    pending = await _queries.lock_pending_invitation(
        conn, workspace_id=act.workspace_id, user_id=known.user_id
    )
    if pending is not None and pending.expires_at > act.now:
        raise StateConflictError(
            "They are invited already. Resend that invitation, or revoke it.",
            details={"invitation_id": pending.invitation_id},
        )
    await _queries.delete_invited_member(conn, workspace_id=act.workspace_id, user_id=known.user_id)


async def _find_by_token(
    conn: AsyncConnection[Any], token: str, *, now: datetime
) -> _queries.FindInvitationRow:
    token_hash = hash_token(token)
    await _queries.present_invitation(conn, token_hash=token_hash)
    found = await _queries.find_invitation(conn, token_hash=token_hash)
    if found is None or found.expires_at <= now:
        raise NotFoundError(
            "The invitation is not valid any more. Ask for a new one.", details={"token": "not valid"}
        )
    await _queries.see(conn, workspace_id=found.workspace_id, user_id="")
    return found


async def _welcome(conn: AsyncConnection[Any], found: _queries.FindInvitationRow) -> Welcome:
    workspace = await _queries.get_inviting_workspace(conn, workspace_id=found.workspace_id)
    if workspace is None:
        raise ForbiddenError("That workspace is suspended.")
    inviter = (
        await _queries.get_person_name(conn, user_id=found.invited_by)
        if found.invited_by is not None
        else None
    )
    connection_id = await _queries.get_connection_for(
        conn,
        workspace_id=found.workspace_id,
        domain=found.email.rpartition("@")[2],
        is_enforced=workspace.sso_enforced,
    )
    return Welcome(
        workspace_id=workspace.workspace_id,
        workspace_name=workspace.name,
        email=found.email,
        role=found.role,
        inviter=inviter,
        expires_at=found.expires_at,
        connection_id=connection_id,
    )


async def _lock(conn: AsyncConnection[Any], act: Act, invitation_id: str) -> _queries.LockInvitationRow:
    found = await _queries.lock_invitation(conn, workspace_id=act.workspace_id, invitation_id=invitation_id)
    if found is None:
        raise _not_found(invitation_id)
    act.check_may_grant(found.role)
    if found.status != "pending":
        raise StateConflictError(f"The invitation is {found.status}.", details={"status": found.status})
    return found


def _offer(act: Act, *, invitation_id: str, email: str, role: str) -> Offer:
    return Offer(
        invitation_id=invitation_id,
        email=email,
        role=role,
        token=TOKEN_PREFIX + token_urlsafe(32),
        expires_at=act.now + timedelta(days=DAYS_GOOD),
    )


def _not_found(invitation_id: str) -> NotFoundError:
    return NotFoundError(f"There is no invitation {invitation_id}.", details={"id": invitation_id})
