"""A change of a workspace: its rules, its audit entry, and what the services hear of it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import psycopg
from contracts import workspace
from psycopg import AsyncConnection
from runtime.errors import NotFoundError, StateConflictError, ValidationFailedError
from runtime.telemetry import current_traceparent

from services.gateway.identity.people.acting import Act
from services.gateway.identity.tenancy import _queries
from services.gateway.identity.tenancy._queries import WorkspaceRow
from services.gateway.identity.tenancy.plans import load_plan

JUDGING: Final = (
    "confidence_threshold",
    "alert_probability",
    "minimum_cluster_size",
    "proof_window_days",
    "proof_window_max_days",
    "proof_confidence",
)
"""Settings that the services judge by."""
_IDENTITY: Final = ("name", "slug", "description", "industry", "timezone", "theme", "sso_enforced")
_TOLD: Final = (*JUDGING, "timezone")


async def change(conn: AsyncConnection[Any], act: Act, given: Mapping[str, object]) -> WorkspaceRow:
    """Set what is given of the workspace of the transaction, by field name; the workspace as it is then.

    What is as it was before is neither written down nor told. Raises NotFoundError, ValidationFailedError for an
    unknown time zone, StateConflictError for a slug that is taken and for single sign-on that nobody could use,
    PlanFeatureError for single sign-on that the plan does not have.
    """
    before = await _queries.lock_workspace(conn, workspace_id=act.workspace_id)
    if before is None:
        raise NotFoundError("The workspace is gone.", details={"id": act.workspace_id})
    changed = {name: value for name, value in given.items() if getattr(before, name) != value}
    if not changed:
        return before
    await _check(conn, act, changed)
    await _write(conn, act, changed)
    told: dict[str, object] = {name: changed[name] for name in _TOLD if name in changed}
    if told:
        told["workspace_id"] = act.workspace_id
        fact = msgspec.convert(told, workspace.WorkspaceSettingsChanged)
        await _queries.emit(
            conn,
            event_type="WorkspaceSettingsChanged",
            data=msgspec.json.encode(fact).decode(),
            actor=act.principal.user_id,
            traceparent=current_traceparent(),
        )
    return msgspec.structs.replace(before, **changed, updated_at=act.now)


async def _check(conn: AsyncConnection[Any], act: Act, changed: Mapping[str, object]) -> None:
    """What no column can check."""
    timezone = changed.get("timezone")
    if isinstance(timezone, str) and not await _queries.is_timezone(conn, timezone=timezone):
        raise ValidationFailedError(
            f"timezone: {timezone} is no IANA time zone; write it like Europe/Berlin.",
            details={"timezone": "no IANA time zone"},
        )
    if changed.get("sso_enforced"):
        (await load_plan(conn, act.workspace_id, now=act.now)).require("sso")
        if not await _queries.has_active_connection(conn, workspace_id=act.workspace_id):
            raise StateConflictError(
                "Nobody could sign in: the workspace has no active single sign-on connection. Make one first.",
                details={"sso_enforced": "needs an active single sign-on connection"},
            )


async def _write(conn: AsyncConnection[Any], act: Act, changed: Mapping[str, Any]) -> None:
    if any(name in changed for name in _IDENTITY):
        try:
            await _queries.update_workspace(
                conn,
                workspace_id=act.workspace_id,
                updated_at=act.now,
                **{name: changed.get(name) for name in _IDENTITY},
            )
        except psycopg.errors.UniqueViolation as error:
            raise StateConflictError(
                "Another workspace of the organization has this slug.", details={"slug": "taken"}
            ) from error
    if changed.get("sso_enforced"):
        await _queries.revoke_platform_sessions(
            conn,
            workspace_id=act.workspace_id,
            revoked_at=act.now,
            except_session_id=act.principal.session_id,
        )
    if any(name in changed for name in JUDGING):
        await _queries.update_settings(
            conn,
            workspace_id=act.workspace_id,
            updated_at=act.now,
            **{name: changed.get(name) for name in JUDGING},
        )
    await act.write_down(
        conn,
        "workspace.settings.updated",
        "update",
        ("workspace", act.workspace_id),
        fields=",".join(sorted(changed)),
    )
