"""Events and commands of workspace.

Generated from proto/causeloop/workspace/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class WorkspaceCreated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workspace exists from now on.

    Emitted by gateway on workspace/<workspace_id>.

    workspace_id: Id of the workspace, prefix "ws_".
    slug: Lower-case letters, digits and hyphens, 1 to 60 characters.
    name: Name for people, 2 to 100 characters.
    timezone: IANA time zone.
    """

    workspace_id: str
    slug: str
    name: str
    timezone: str


class WorkspaceSettingsChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An administrator changed how the services judge, or the time zone; only what changed is present.

    Emitted by gateway on workspace/<workspace_id>.

    workspace_id: Id of the workspace.
    confidence_threshold: Least confidence to link or to recommend by itself, in [0, 1]; default 0.7.
    alert_probability: Probability at which an alert fires, in [0, 1]; default 0.7.
    minimum_cluster_size: Issues before a pattern is shown, 2 to 50; default 3.
    proof_window_days: Least days of quiet that prove a fix, 7 to 365; default 14.
    timezone: IANA time zone.
    proof_window_max_days: Most days that a fix is watched before its proof ends without a verdict, 7 to 365; default 365.
    proof_confidence: Confidence at which a fix counts as verified, 0.8 to 0.99; default 0.95.
    """

    workspace_id: str
    confidence_threshold: float | None = None
    alert_probability: float | None = None
    minimum_cluster_size: int | None = None
    proof_window_days: int | None = None
    timezone: str | None = None
    proof_window_max_days: int | None = None
    proof_confidence: float | None = None


class WorkspaceSuspended(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nobody gets into the workspace from now on; what is in it stays.

    Emitted by gateway on workspace/<workspace_id>.

    workspace_id: Id of the workspace.
    """

    workspace_id: str


class WorkspaceReinstated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The members of a suspended workspace get in again.

    Emitted by gateway on workspace/<workspace_id>.

    workspace_id: Id of the workspace.
    """

    workspace_id: str


class WorkspaceErased(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything of the workspace is gone: its earlier events are purged, and every row of it is to be deleted.

    Emitted by gateway on workspace/<workspace_id>.

    workspace_id: Id of the workspace.
    """

    workspace_id: str


class TakeEvents(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Count records that are about to be taken for the organization of the command's workspace, as many as its plan allows.

    Endpoint: gateway.take_events.

    n_records: How many, at least 1.
    """

    n_records: int


class EventsTaken(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to TakeEvents.

    n_records: How many of them were counted, and may be taken.
    reason: Why not all; empty where all were.
    """

    n_records: int
    reason: str


Event: TypeAlias = (
    WorkspaceCreated
    | WorkspaceSettingsChanged
    | WorkspaceSuspended
    | WorkspaceReinstated
    | WorkspaceErased
)
"""Any event of workspace."""

AGGREGATES: dict[type[Event], str] = {
    WorkspaceCreated: "workspace",
    WorkspaceSettingsChanged: "workspace",
    WorkspaceSuspended: "workspace",
    WorkspaceReinstated: "workspace",
    WorkspaceErased: "workspace",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    TakeEvents: "gateway.take_events",
}
"""The endpoint that answers each request."""
