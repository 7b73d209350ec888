"""Governance: what is kept how long, copies of everything, people and workspaces that are to be forgotten."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import ForbiddenError, PlanLimitError, StateConflictError

from services.gateway.errors import RetentionBelowMinimumError
from services.gateway.identity.governance import _queries, requests
from services.gateway.identity.governance.certificates import Certificate, Signer, is_genuine
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.exports import (
    Export,
    ExportPage,
    ExportQuery,
    begin_export,
    list_exports,
    look_at_export,
)
from services.gateway.routes.issues import Moment
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
)
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.vocabulary import Note

DAYS_MAX = 36_500
AUDIT_DAYS_MIN = 365
PURGED = ("issues_days", "activity_days", "audit_days", "prompt_logs_days", "predictions_days")
"""What the hourly job deletes by."""

# JSON knows one kind of number: 30.0 is a whole one.
WholeDays = Annotated[float, Meta(ge=1, le=DAYS_MAX, multiple_of=1, description="Days.")]
WholeGrace = Annotated[
    float, Meta(ge=0, le=365, multiple_of=1, description="Days between hiding and purging.")
]
Days = Annotated[int, Meta(ge=1, le=DAYS_MAX)]


class Retention(Struct, frozen=True, kw_only=True):
    """What is kept how long, in days. What is past its window is hidden; it is purged after the grace."""

    issues_days: Days
    activity_days: Annotated[
        Days, Meta(description="Sessions, invitations, tokens and exports that are over.")
    ]
    audit_days: Annotated[int, Meta(ge=AUDIT_DAYS_MIN, le=DAYS_MAX)]
    prompt_logs_days: Days
    predictions_days: Annotated[
        Days,
        Meta(description="Predictions whose window is over and that a later one of the pattern replaces."),
    ]
    grace_days: Annotated[int, Meta(ge=0, le=365)]
    purged: Annotated[tuple[str, ...], Meta(description="The windows that something is deleted by, so far.")]
    plan: str
    plan_days: Annotated[
        int | None,
        Meta(
            description="No longer than this under the plan, except the audit log; null: as long as you like."
        ),
    ]
    updated_at: datetime


class RetentionChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to keep longer or shorter; what is absent stays."""

    issues_days: WholeDays | None = None
    activity_days: WholeDays | None = None
    # Fewer are refused with a code of their own, so the minimum is said and not checked here.
    audit_days: Annotated[
        WholeDays | None, Meta(description="At least 365.", extra_json_schema={"minimum": AUDIT_DAYS_MIN})
    ] = None
    prompt_logs_days: WholeDays | None = None
    predictions_days: WholeDays | None = None
    grace_days: WholeGrace | None = None


class ErasureRequest(Struct, frozen=True, kw_only=True):
    """Somebody's request to be forgotten."""

    id: str
    subject_id: Annotated[str, Meta(description="The person's id; no address and no name is kept with it.")]
    status: requests.Status
    reason: str
    notes: str
    requested_by: str | None
    decided_by: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class ErasureRequestPage(Struct, frozen=True, kw_only=True):
    """A page of requests."""

    data: tuple[ErasureRequest, ...]
    page: PageInfo


class ErasureRequestQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of requests."""

    status: tuple[requests.Status, ...] | None = None


class NewErasureRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who wants to be forgotten."""

    subject: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=320,
            pattern=r"^[^\x00]+$",
            description="A person of the workspace, by id (usr_…) or by e-mail address, in any case.",
        ),
    ]
    reason: Note = ""


class Rejection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why not."""

    reason: Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]


class StatusNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a request is."""

    status: requests.Noted
    completed_at: Annotated[
        Moment | None, Meta(description="Taken and not used: the time of the erasure is what counts.")
    ] = None
    notes: Note | None = None


class SigningKey(Struct, frozen=True, kw_only=True):
    """What certificates are checked with."""

    algorithm: Literal["Ed25519"]
    public_key: Annotated[str, Meta(description="32 bytes in base64.")]


class CertificateVerdict(Struct, frozen=True, kw_only=True):
    """Whether a certificate is ours and as it was."""

    is_genuine: bool


class Confirmation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That it is meant."""

    confirm: Annotated[str, Meta(min_length=1, max_length=60, description="The workspace's slug.")]


class Erasure(Struct, frozen=True, kw_only=True):
    """An erasure that has begun and cannot be stopped."""

    id: str
    workspace_id: str
    status: Literal["executing"]


LISTING = Listing(
    name="rtbf_requests",
    view="erasure_requests",
    row=_queries.ErasureRequest,
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
)


async def get_retention(gateway: Gateway, call: Call[NoQuery, None]) -> Retention:
    """What is kept how long."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return await _retention(conn, call.workspace_id)


async def change_retention(gateway: Gateway, call: Call[NoQuery, RetentionChange]) -> Retention:
    """Keep something longer or shorter."""
    act = act_of(gateway, call)
    asked = {name: int(days) for name, days in msgspec.structs.asdict(call.body).items() if days is not None}
    if asked.get("audit_days", AUDIT_DAYS_MIN) < AUDIT_DAYS_MIN:
        raise RetentionBelowMinimumError(
            f"The audit log is kept for {AUDIT_DAYS_MIN} days at least.",
            details={"audit_days": f"at least {AUDIT_DAYS_MIN}"},
        )
    async with tenant(gateway.people, call.workspace_id) as conn:
        known = await _retention(conn, call.workspace_id)
        for name, days in asked.items():
            if (
                known.plan_days is not None
                and days > known.plan_days
                and name not in ("audit_days", "grace_days")
            ):
                raise PlanLimitError(
                    f"The plan {known.plan} keeps data for {known.plan_days} days at most.",
                    details={
                        "limit": "retention_days",
                        "plan": known.plan,
                        name: f"at most {known.plan_days}",
                    },
                )
        await _queries.change_retention(
            conn,
            issues_days=asked.get("issues_days"),
            activity_days=asked.get("activity_days"),
            audit_days=asked.get("audit_days"),
            prompt_logs_days=asked.get("prompt_logs_days"),
            predictions_days=asked.get("predictions_days"),
            grace_days=asked.get("grace_days"),
            updated_at=act.now,
            workspace_id=call.workspace_id,
        )
        if asked:
            target = ("workspace", call.workspace_id)
            changed = {name: str(days) for name, days in asked.items()}
            await act.write_down(conn, "workspace.retention.updated", "update", target, **changed)
        return await _retention(conn, call.workspace_id)


async def export_workspace(gateway: Gateway, call: Call[NoQuery, None]) -> Export:
    """A copy of everything."""
    return await begin_export(gateway, call, kind="workspace")


async def get_export(gateway: Gateway, call: Call[NoQuery, None]) -> Export:
    """How far a copy is."""
    return await look_at_export(gateway, call, kind=None)


async def request_erasure(gateway: Gateway, call: Call[NoQuery, NewErasureRequest]) -> ErasureRequest:
    """Take in that somebody wants to be forgotten."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        made = await requests.receive(
            conn,
            act_of(gateway, call),
            subject=call.body.subject,
            reason=call.body.reason,
            rng=gateway.rng,
        )
    return _present(made)


async def list_requests(gateway: Gateway, call: Call[ErasureRequestQuery, None]) -> ErasureRequestPage:
    """A page of requests."""
    wanted = call.query.status
    conditions = [Condition("status = ANY({value}::text[])", list(wanted))] if wanted else []
    found = await list_page(gateway, call, LISTING, conditions=conditions, sort=None, source=gateway.people)
    return ErasureRequestPage(data=shown(found, _present), page=page_info(found))


async def get_request(gateway: Gateway, call: Call[NoQuery, None]) -> ErasureRequest:
    """A request."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(await requests.find(conn, call.workspace_id, call.path["request_id"]))


async def approve_request(gateway: Gateway, call: Call[NoQuery, None]) -> ErasureRequest:
    """Forget the person, now."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        done = await requests.approve(
            conn, act_of(gateway, call), call.path["request_id"], signer=_signer(gateway)
        )
    gateway.access.forget(done.subject_id)
    return _present(done)


async def reject_request(gateway: Gateway, call: Call[NoQuery, Rejection]) -> ErasureRequest:
    """Turn a request down."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(
            await requests.reject(
                conn, act_of(gateway, call), call.path["request_id"], reason=call.body.reason
            )
        )


async def note_request(gateway: Gateway, call: Call[NoQuery, StatusNote]) -> ErasureRequest:
    """Say where a request is."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(
            await requests.note(
                conn,
                act_of(gateway, call),
                call.path["request_id"],
                status=call.body.status,
                notes=call.body.notes,
            )
        )


async def get_certificate(gateway: Gateway, call: Call[NoQuery, None]) -> Certificate:
    """What proves that a person was forgotten."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await requests.find(conn, call.workspace_id, call.path["request_id"])
    return requests.certificate_of(found)


async def get_signing_key(gateway: Gateway, call: Call[NoQuery, None]) -> SigningKey:
    """What certificates are checked with."""
    return SigningKey(algorithm="Ed25519", public_key=_signer(gateway).public_key)


async def verify_certificate(gateway: Gateway, call: Call[NoQuery, Certificate]) -> CertificateVerdict:
    """Whether a certificate is ours and as it was."""
    return CertificateVerdict(is_genuine=is_genuine(call.body, public_key=_signer(gateway).public_key))


async def erase_workspace(gateway: Gateway, call: Call[NoQuery, Confirmation]) -> Erasure:
    """Forget the workspace."""
    if call.principal.role != "owner":
        raise ForbiddenError("Only an owner erases a workspace.", details={"role": "owner"})
    async with tenant(gateway.people, call.workspace_id) as conn:
        slug = await _queries.get_slug(conn, workspace_id=call.workspace_id)
        if slug is None:
            raise not_found("workspace", call.workspace_id)
        if call.body.confirm != slug:
            raise StateConflictError(
                "Write the workspace's slug to confirm.", details={"confirm": "not the slug"}
            )
        erasure_id = await _queries.request_erasure(conn, actor=call.principal.user_id, ip=call.ip or None)
    gateway.access.forget(call.workspace_id)
    return Erasure(id=erasure_id, workspace_id=call.workspace_id, status="executing")


async def _retention(conn: Any, workspace_id: str) -> Retention:  # Any: whatever rows the connection gives
    row = await _queries.get_retention(conn, workspace_id=workspace_id)
    if row is None:
        raise not_found("workspace", workspace_id)
    return Retention(purged=PURGED, **msgspec.structs.asdict(row))


def _present(row: _queries.ErasureRequest) -> ErasureRequest:
    return ErasureRequest(
        id=row.request_id,
        subject_id=row.subject_id,
        status=row.status,  # type: ignore[arg-type]  # the column's check has the same words
        reason=row.reason,
        notes=row.notes,
        requested_by=row.requested_by,
        decided_by=row.decided_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        completed_at=row.completed_at,
    )


def _signer(gateway: Gateway) -> Signer:
    return Signer(gateway.vault.masters.current)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getDataRetention",
        method="GET",
        path="/v1/settings/data-retention",
        tag="Governance",
        summary="See what is kept how long.",
        scope="workspace.compliance:read",
        replies={200: Retention},
        handle=get_retention,
    ),
    Operation(
        id="updateDataRetention",
        method="PATCH",
        path="/v1/settings/data-retention",
        tag="Governance",
        summary="Keep something longer or shorter.",
        description="422 `retention_below_minimum` for an audit log of less than 365 days, 422 `plan_limit` for more"
        " than the plan keeps.",
        scope="workspace.compliance:write",
        or_scope="workspace:admin",
        body=RetentionChange,
        replies={200: Retention},
        refusals=(422,),
        handle=change_retention,
    ),
    Operation(
        id="createExport",
        method="POST",
        path="/v1/governance/exports",
        tag="Governance",
        summary="Make a copy of everything in the workspace.",
        description="A .tar.gz of JSON lines, kept for seven days. 409 while one is being made.",
        scope="governance:write",
        replies={202: Export},
        refusals=(409,),
        handle=export_workspace,
    ),
    Operation(
        id="listExports",
        method="GET",
        path="/v1/governance/exports",
        tag="Governance",
        summary="List copies, the newest first.",
        scope="governance:read",
        query=ExportQuery,
        replies={200: ExportPage},
        handle=list_exports,
    ),
    Operation(
        id="getExport",
        method="GET",
        path="/v1/governance/exports/{export_id}",
        tag="Governance",
        summary="See how far a copy is, and where to get it.",
        scope="governance:read",
        replies={200: Export},
        handle=get_export,
    ),
    Operation(
        id="createErasureRequest",
        method="POST",
        path="/v1/governance/rtbf/requests",
        tag="Governance",
        summary="Take in that a person wants to be forgotten.",
        scope="governance:write",
        body=NewErasureRequest,
        replies={201: ErasureRequest},
        refusals=(404, 409),
        handle=request_erasure,
    ),
    Operation(
        id="listErasureRequests",
        method="GET",
        path="/v1/governance/rtbf/requests",
        tag="Governance",
        summary="List requests to be forgotten, the newest first.",
        scope="governance:read",
        query=ErasureRequestQuery,
        replies={200: ErasureRequestPage},
        handle=list_requests,
    ),
    Operation(
        id="getErasureRequest",
        method="GET",
        path="/v1/governance/rtbf/requests/{request_id}",
        tag="Governance",
        summary="Look at a request to be forgotten.",
        scope="governance:read",
        replies={200: ErasureRequest},
        handle=get_request,
    ),
    Operation(
        id="updateErasureRequest",
        method="PATCH",
        path="/v1/governance/rtbf/requests/{request_id}",
        tag="Governance",
        summary="Say where a request is.",
        description="received → verifying ⇄ on_hold; approving and rejecting have paths of their own.",
        scope="governance:write",
        body=StatusNote,
        replies={200: ErasureRequest},
        refusals=(409,),
        handle=note_request,
    ),
    Operation(
        id="approveErasureRequest",
        method="POST",
        path="/v1/governance/rtbf/requests/{request_id}/approve",
        tag="Governance",
        summary="Approve a request, which erases the person at once.",
        description="Membership, sessions, tokens, factors, invitations and preferences are deleted; who is in no other"
        " workspace keeps nothing but an id. Cannot be undone.",
        scope="governance:write",
        replies={200: ErasureRequest},
        refusals=(409, 422),
        handle=approve_request,
    ),
    Operation(
        id="rejectErasureRequest",
        method="POST",
        path="/v1/governance/rtbf/requests/{request_id}/reject",
        tag="Governance",
        summary="Turn a request down.",
        scope="governance:write",
        body=Rejection,
        replies={200: ErasureRequest},
        refusals=(409,),
        handle=reject_request,
    ),
    Operation(
        id="getErasureCertificate",
        method="GET",
        path="/v1/governance/rtbf/requests/{request_id}/certificate",
        tag="Governance",
        summary="Get what proves that a person was forgotten.",
        scope="governance:read",
        replies={200: Certificate},
        handle=get_certificate,
    ),
    Operation(
        id="getCertificateKey",
        method="GET",
        path="/v1/governance/certificate-key",
        tag="Governance",
        summary="Get the key that certificates are checked with.",
        scope="governance:read",
        replies={200: SigningKey},
        handle=get_signing_key,
    ),
    Operation(
        id="verifyCertificate",
        method="POST",
        path="/v1/governance/certificates/verification",
        tag="Governance",
        summary="Check a certificate.",
        scope="governance:read",
        body=Certificate,
        replies={200: CertificateVerdict},
        handle=verify_certificate,
    ),
    Operation(
        id="eraseWorkspace",
        method="DELETE",
        path="/v1/workspace",
        tag="Governance",
        summary="Erase the workspace and everything in it, for good.",
        description="For an owner, with the slug as confirmation. Nobody gets in from then on; rows, events and files"
        " are deleted within moments. Cannot be undone.",
        scope="workspace:admin",
        body=Confirmation,
        replies={202: Erasure},
        refusals=(404, 409),
        handle=erase_workspace,
    ),
)
