"""Members: another role, a pause, an end. Nobody gives or takes what they do not have themselves."""

from typing import Any

from psycopg import AsyncConnection
from runtime.errors import ForbiddenError, NotFoundError, StateConflictError

from services.gateway.identity.people import _queries
from services.gateway.identity.people.acting import Act, rules_as_refusals


async def find_member(
    conn: AsyncConnection[Any], *, workspace_id: str, membership_id: str
) -> _queries.Member:
    """A member of the workspace. Raises NotFoundError."""
    found = await _queries.get_member(conn, workspace_id=workspace_id, membership_id=stored_id(membership_id))
    if found is None:
        raise _not_found(membership_id)
    return found


async def change_member(
    conn: AsyncConnection[Any], act: Act, membership_id: str, *, role: str | None, status: str | None
) -> _queries.Member:
    """The member with another role, active or suspended; None leaves either as it is.

    Raises NotFoundError; ForbiddenError when one of the roles is above the one who asks, or they would suspend
    themselves; StateConflictError while the member is only invited, or when a directory's group says the role;
    SeatLimitError; LastAdminError.
    """
    found = await _lock(conn, act, membership_id)
    if found.status == "invited":
        raise StateConflictError("They have not accepted yet. Revoke the invitation and make another one.")
    new_role, new_status = role or found.role, status or found.status
    if new_status != "active" and found.user_id == act.principal.user_id:
        raise ForbiddenError("You cannot suspend yourself.")
    if new_role != found.role:
        act.check_may_grant(new_role)
        if await _queries.is_role_mapped(conn, workspace_id=act.workspace_id, user_id=found.user_id):
            raise StateConflictError("A group of your directory says this member's role. Change it there.")
    if (new_role, new_status) == (found.role, found.status):
        return await find_member(conn, workspace_id=act.workspace_id, membership_id=found.membership_id)
    with rules_as_refusals():
        await _queries.change_member(
            conn,
            role=new_role,
            status=new_status,
            updated_at=act.now,
            workspace_id=act.workspace_id,
            membership_id=found.membership_id,
        )
    target = ("membership", found.membership_id)
    if new_role != found.role:
        await act.write_down(conn, "member.role_changed", "update", target, before=found.role, after=new_role)
    if new_status != found.status:
        action = "member.suspended" if new_status == "suspended" else "member.reinstated"
        await act.write_down(conn, action, "update", target)
    return await find_member(conn, workspace_id=act.workspace_id, membership_id=found.membership_id)


async def remove_member(conn: AsyncConnection[Any], act: Act, membership_id: str) -> str:
    """End a membership with all sessions and personal tokens of that person in the workspace; whose it was.

    Raises NotFoundError; ForbiddenError when their role is above the one who asks; LastAdminError.
    """
    found = await _lock(conn, act, membership_id)
    await end_membership(conn, act, membership_id=found.membership_id, user_id=found.user_id)
    return found.user_id


async def end_membership(conn: AsyncConnection[Any], act: Act, *, membership_id: str, user_id: str) -> None:
    """The same without asking who may. Raises LastAdminError."""
    with rules_as_refusals():
        await _queries.delete_member(conn, workspace_id=act.workspace_id, membership_id=membership_id)
    await _queries.end_sessions(conn, revoked_at=act.now, workspace_id=act.workspace_id, user_id=user_id)
    await _queries.revoke_tokens(conn, revoked_at=act.now, workspace_id=act.workspace_id, user_id=user_id)
    await act.write_down(conn, "member.removed", "delete", ("membership", membership_id), user_id=user_id)


def stored_id(membership_id: str) -> str:
    """The id as it is stored: mbr_ is another spelling of mem_."""
    return "mem_" + membership_id.removeprefix("mbr_") if membership_id.startswith("mbr_") else membership_id


async def _lock(conn: AsyncConnection[Any], act: Act, membership_id: str) -> _queries.LockMemberRow:
    found = await _queries.lock_member(
        conn, workspace_id=act.workspace_id, membership_id=stored_id(membership_id)
    )
    if found is None:
        raise _not_found(membership_id)
    act.check_may_grant(found.role)
    return found


def _not_found(membership_id: str) -> NotFoundError:
    return NotFoundError(f"There is no member {membership_id}.", details={"id": membership_id})
