"""Exports: asking for a copy, seeing how far it is, and the link that it is fetched by."""

import base64
import binascii
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode

import msgspec
import psycopg
from contracts import new_id
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import File
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import NotFoundError, StateConflictError

from services.gateway.errors import PlanFeatureError
from services.gateway.identity.governance import _queries
from services.gateway.identity.tokens import is_signed, sign
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import Call, Gateway, not_found
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown

AnyRequest = Request[Any, Any, Any]  # Any: no user, auth or state of Litestar is used
Kind: TypeAlias = Literal["workspace", "audit"]
DOWNLOAD_PATH = "/v1/governance/exports/{export_id:str}/download"
LINK_GOOD_FOR = timedelta(hours=1)


class Export(Struct, frozen=True, kw_only=True):
    """A copy that is being made or has been."""

    id: str
    kind: Kind
    status: Literal["queued", "running", "succeeded", "failed", "expired"]
    requested_by: str | None
    size_bytes: Annotated[int | None, Meta(description="null until it has succeeded.")]
    sha256: Annotated[str | None, Meta(description="Of the file, in hex.")]
    files: Annotated[dict[str, int], Meta(description="What is in the archive: name → lines.")]
    error: str | None
    download_url: Annotated[
        str | None,
        Meta(
            description="Good for an hour, for whoever has it; look again for a fresh one. null: there is no file."
        ),
    ]
    result_url: Annotated[str | None, Meta(description="The same as download_url.")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime | None, Meta(description="When the file is deleted.")]


class ExportPage(Struct, frozen=True, kw_only=True):
    """A page of exports."""

    data: tuple[Export, ...]
    page: PageInfo


class ExportQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which exports."""

    kind: Kind | None = None


LISTING = Listing(
    name="exports",
    view="exports",
    row=_queries.Export,
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
)


async def check_feature(gateway: Gateway, call: Call[Any, Any], feature: str) -> None:
    """Raise PlanFeatureError when the plan does not have it."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await _queries.get_plan_feature(conn, feature=feature, workspace_id=call.workspace_id)
    if found is None or not found.is_included:
        plan = found.plan if found else ""
        raise PlanFeatureError(f"The plan {plan} has no {feature}.", details={"limit": feature, "plan": plan})


async def begin_export(gateway: Gateway, call: Call[Any, Any], *, kind: Kind) -> Export:
    """Ask for a copy. Raises StateConflictError while one of the kind is being made."""
    act = act_of(gateway, call)
    export_id = new_id("exp_", now=act.now, rng=gateway.rng)
    try:
        async with tenant(gateway.people, call.workspace_id) as conn:
            await _queries.insert_export(
                conn,
                workspace_id=call.workspace_id,
                export_id=export_id,
                kind=kind,
                requested_by=act.principal.user_id,
                created_at=act.now,
            )
            await act.write_down(conn, f"{kind}.export_requested", "export", ("export", export_id))
            row = await _queries.get_export(conn, workspace_id=call.workspace_id, export_id=export_id)
    except psycopg.errors.UniqueViolation as error:
        raise StateConflictError("A copy is being made already; wait for that one.") from error
    if row is None:
        raise not_found("export", export_id)
    return _present(gateway, call.workspace_id, row)


async def look_at_export(gateway: Gateway, call: Call[Any, Any], *, kind: Kind | None) -> Export:
    """An export of the workspace. kind: None: of any."""
    export_id = call.path["export_id"]
    found = await find_export(gateway, call.workspace_id, export_id)
    if found is None or kind not in (None, found.kind):
        raise not_found("export", export_id)
    return found


async def list_exports(gateway: Gateway, call: Call[ExportQuery, None]) -> ExportPage:
    """A page of exports."""
    kind = call.query.kind
    conditions = [] if kind is None else [Condition("kind = {value}", kind)]
    found = await list_page(gateway, call, LISTING, conditions=conditions, sort=None, source=gateway.people)
    return ExportPage(
        data=shown(found, lambda row: _present(gateway, call.workspace_id, row)), page=page_info(found)
    )


def download_routes(gateway: Gateway) -> list[HTTPRouteHandler]:
    """Where the links lead; whoever has one gets the file, so they are signed and soon over."""

    @get(DOWNLOAD_PATH, include_in_schema=False)
    async def download(request: AnyRequest, export_id: str) -> Response[Any]:
        """The file."""
        path = await _opened(gateway, export_id, dict(request.query_params))
        return File(
            path,
            filename=f"causeloop-{path.name}",
            media_type="application/gzip",
            headers={"Cache-Control": "no-store"},
        )

    return [download]


async def _opened(gateway: Gateway, export_id: str, asked: dict[str, str]) -> Path:
    """The file that a link is good for. Raises NotFoundError, whatever is wrong with it."""
    workspace_id, expires = asked.get("workspace_id", ""), asked.get("expires", "")
    nothing = NotFoundError("This link is over, or never was one. Look at the export for a fresh one.")
    try:
        text = asked.get("signature", "")
        signature = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        is_ours = is_signed(signature, gateway.secret, "export", workspace_id, export_id, expires)
    except (binascii.Error, ValueError) as error:
        raise nothing from error
    if not is_ours or gateway.resources.clock().timestamp() > int(expires):
        raise nothing
    async with tenant(gateway.people, workspace_id) as conn:
        row = await _queries.get_export(conn, workspace_id=workspace_id, export_id=export_id)
    if row is None or row.status != "succeeded" or row.file_name is None:
        raise nothing
    if row.expires_at is not None and row.expires_at <= gateway.resources.clock():
        raise nothing
    path = gateway.settings.exports_at / workspace_id / row.file_name
    if not path.is_file():
        raise nothing
    return path


async def find_export(gateway: Gateway, workspace_id: str, export_id: str) -> Export | None:
    """An export as it is shown; None when it is gone."""
    async with tenant(gateway.people, workspace_id) as conn:
        row = await _queries.get_export(conn, workspace_id=workspace_id, export_id=export_id)
    return None if row is None else _present(gateway, workspace_id, row)


def _present(gateway: Gateway, workspace_id: str, row: _queries.Export) -> Export:
    link = _link(gateway, workspace_id, row) if row.status == "succeeded" else None
    return Export(
        id=row.export_id,
        kind=row.kind,  # type: ignore[arg-type]  # the column's check has the same words
        status=row.status,  # type: ignore[arg-type]  # likewise
        requested_by=row.requested_by,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        files=msgspec.json.decode(row.files, type=dict[str, int]),
        error=row.error,
        download_url=link,
        result_url=link,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
    )


def _link(gateway: Gateway, workspace_id: str, row: _queries.Export) -> str:
    until = gateway.resources.clock() + LINK_GOOD_FOR
    expires = str(int(min(until, row.expires_at or until).timestamp()))
    signature = sign(gateway.secret, "export", workspace_id, row.export_id, expires)
    query = {
        "workspace_id": workspace_id,
        "expires": expires,
        "signature": base64.urlsafe_b64encode(signature).decode().rstrip("="),
    }
    path = DOWNLOAD_PATH.replace("{export_id:str}", row.export_id)
    return f"{gateway.settings.public_address}{path}?{urlencode(query)}"
