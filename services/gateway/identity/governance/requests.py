"""Requests of people to be forgotten: one state machine, and the erasure that an approval carries out."""

import random
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psycopg
from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import ForbiddenError, NotFoundError, StateConflictError

from services.gateway.identity.governance import _queries
from services.gateway.identity.governance._queries import ErasureRequest
from services.gateway.identity.governance.certificates import Certificate, Signer, Statement
from services.gateway.identity.people.acting import Act, rules_as_refusals

Status: TypeAlias = Literal[
    "received", "verifying", "on_hold", "approved", "executing", "completed", "failed", "rejected"
]
Noted: TypeAlias = Literal["verifying", "on_hold", "executing", "completed", "failed"]
"""What a person may set by hand."""

_OPEN: Final = frozenset({"received", "verifying", "on_hold"})
_BY_HAND: Final[Mapping[Noted, frozenset[str]]] = {
    "verifying": frozenset({"received", "verifying", "on_hold"}),
    "on_hold": frozenset({"received", "verifying", "on_hold"}),
    # Approving erases, completes and certifies at once; by hand nothing is said to be erased that is not.
    "executing": frozenset({"approved", "executing"}),
    "completed": frozenset({"completed"}),
    "failed": frozenset({"approved", "executing", "failed"}),
}
"""From where each of them can be reached."""

KEPT: Final = (
    "events name the id of whoever did something, and nothing else of them",
    "the audit log names the id of whoever did something and the IP address that they did it from, while it is kept",
    "exports that somebody had fetched before; those that were still here cannot be fetched any more and are deleted",
    "sealed answers to requests with an Idempotency-Key, which nobody can attribute, for a day at most",
    "texts of issues that name the person were written at their source and are not searched",
)

_FOUR_EYES: Final = frozenset({"admin", "owner"})
"""Whose erasure takes two: who asks for it, and somebody else who has all that they have."""


class _Erased(Struct, frozen=True):
    """What the database deleted of a person."""

    rows: dict[str, int]
    is_anonymised: bool


async def receive(
    conn: AsyncConnection[Any],
    act: Act,
    *,
    subject: str,
    reason: str,
    rng: random.Random,
) -> ErasureRequest:
    """Take a request in. subject: id or address of who is or was a member. Raises NotFoundError for a stranger, StateConflictError when one is open already."""
    subject_id = await _queries.find_subject(conn, subject=subject)
    if subject_id is None:
        raise NotFoundError("There is no such person in this workspace.", details={"id": "subject"})
    request_id = new_id("rtbf_", now=act.now, rng=rng)
    try:
        await _queries.insert_request(
            conn,
            workspace_id=act.workspace_id,
            request_id=request_id,
            subject_id=subject_id,
            reason=reason,
            requested_by=act.principal.user_id,
            now=act.now,
        )
    except psycopg.errors.UniqueViolation as error:
        raise StateConflictError("A request for this person is open already.") from error
    await act.write_down(
        conn, "rtbf.requested", "create", ("rtbf_request", request_id), subject_id=subject_id
    )
    return await find(conn, act.workspace_id, request_id)


async def find(conn: AsyncConnection[Any], workspace_id: str, request_id: str) -> ErasureRequest:
    """A request of the workspace. Raises NotFoundError."""
    found = await _queries.get_request(conn, workspace_id=workspace_id, request_id=request_id)
    if found is None:
        raise _unknown(request_id)
    return found


async def note(
    conn: AsyncConnection[Any], act: Act, request_id: str, *, status: Noted, notes: str | None
) -> ErasureRequest:
    """Say where a request is. Raises NotFoundError, StateConflictError when it cannot be there from where it was."""
    request = await _lock(conn, act, request_id)
    if request.status not in _BY_HAND[status]:
        hint = " Approve it: that erases and completes." if status in ("executing", "completed") else ""
        raise StateConflictError(
            f"A request that is {request.status} does not become {status} by hand.{hint}",
            details={"status": request.status},
        )
    await _change(conn, act, request_id, status=status, notes=notes)
    await act.write_down(
        conn, "rtbf.updated", "update", ("rtbf_request", request_id), status=status, was=request.status
    )
    return await find(conn, act.workspace_id, request_id)


async def reject(conn: AsyncConnection[Any], act: Act, request_id: str, *, reason: str) -> ErasureRequest:
    """Turn a request down. Raises like `note`."""
    await _lock_open(conn, act, request_id)
    await _change(conn, act, request_id, status="rejected", notes=reason, is_decision=True)
    await act.write_down(conn, "rtbf.rejected", "update", ("rtbf_request", request_id))
    return await find(conn, act.workspace_id, request_id)


async def approve(conn: AsyncConnection[Any], act: Act, request_id: str, *, signer: Signer) -> ErasureRequest:
    """Erase the person and certify it, in the caller's transaction: all of it happens, or nothing.

    Copies that were made before are deleted as well. Raises NotFoundError; StateConflictError when it was decided;
    ForbiddenError when the person may do more than the caller, or is an administrator and the caller asked for it;
    LastAdminError when there would be no owner.
    """
    request = await _lock_open(conn, act, request_id)
    await _check_may_erase(conn, act, request)
    try:
        with rules_as_refusals():
            erased = msgspec.json.decode(
                await _queries.erase_person(conn, user_id=request.subject_id), type=_Erased
            )
    except psycopg.errors.NoDataFound as error:
        raise StateConflictError(
            "The person is not in the workspace any more; nothing is left to erase. Reject the request."
        ) from error
    n_expired = await _queries.expire_exports(conn, now=act.now, workspace_id=act.workspace_id)
    await _queries.restart_exports(conn, workspace_id=act.workspace_id)
    certificate = signer.certify(
        Statement(
            certificate_id=request_id,
            kind="person",
            workspace_id=act.workspace_id,
            subject_id=request.subject_id,
            requested_at=request.created_at,
            erased_at=act.now,
            decided_by=act.principal.user_id,
            erased={
                "identity": {**erased.rows, "users_anonymised": int(erased.is_anonymised)},
                "exports": {"files": n_expired},
            },
            kept=KEPT if erased.is_anonymised else (*KEPT, "the account, since other workspaces have it"),
        )
    )
    await _change(conn, act, request_id, status="completed", certificate=certificate, is_decision=True)
    await act.write_down(
        conn,
        "rtbf.completed",
        "delete",
        ("rtbf_request", request_id),
        subject_id=request.subject_id,
        certificate_sha256=certificate.sha256,
    )
    return await find(conn, act.workspace_id, request_id)


async def _check_may_erase(conn: AsyncConnection[Any], act: Act, request: ErasureRequest) -> None:
    role = await _queries.lock_role(conn, workspace_id=act.workspace_id, user_id=request.subject_id)
    if role not in _FOUR_EYES:
        return
    act.check_may_grant(role)
    if request.requested_by == act.principal.user_id:
        raise ForbiddenError(
            "Somebody else has to approve: whoever asks for the erasure of an administrator or owner does not decide on it.",
            details={"role": role},
        )


def certificate_of(request: ErasureRequest) -> Certificate:
    """What proves the erasure. Raises NotFoundError before it is completed."""
    if request.certificate is None:
        raise NotFoundError(
            f"The request {request.request_id} is {request.status}; only a completed one has a certificate.",
            details={"id": request.request_id},
        )
    return msgspec.json.decode(request.certificate, type=Certificate)


async def _lock(conn: AsyncConnection[Any], act: Act, request_id: str) -> ErasureRequest:
    found = await _queries.lock_request(conn, workspace_id=act.workspace_id, request_id=request_id)
    if found is None:
        raise _unknown(request_id)
    return found


async def _lock_open(conn: AsyncConnection[Any], act: Act, request_id: str) -> ErasureRequest:
    found = await _lock(conn, act, request_id)
    if found.status not in _OPEN:
        raise StateConflictError(f"The request is {found.status} already.", details={"status": found.status})
    return found


async def _change(
    conn: AsyncConnection[Any],
    act: Act,
    request_id: str,
    *,
    status: Status,
    notes: str | None = None,
    certificate: Certificate | None = None,
    is_decision: bool = False,
) -> None:
    await _queries.change_request(
        conn,
        status=status,
        notes=notes,
        decided_by=act.principal.user_id if is_decision else None,
        certificate=None if certificate is None else msgspec.json.encode(certificate).decode(),
        completed_at=None if certificate is None else act.now,
        updated_at=act.now,
        workspace_id=act.workspace_id,
        request_id=request_id,
    )


def _unknown(request_id: str) -> NotFoundError:
    return NotFoundError(f"There is no request {request_id}.", details={"id": request_id})
