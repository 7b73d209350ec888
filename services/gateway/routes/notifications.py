"""What the caller wants to hear of in the workspace, how soon and where."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway.identity.people import _queries
from services.gateway.identity.people.preferences import (
    DEFAULT_CHANNELS,
    change_preferences,
    find_preferences,
)
from services.gateway.identity.scopes import SELF
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.vocabulary import Severity

Digest: TypeAlias = Literal["realtime", "hourly", "daily", "weekly", "never"]
EventKey: TypeAlias = Literal[
    "issue.created", "issue.escalated", "pattern.updated", "prediction.alert.fired", "recommendation.created",
    "report.ready",
]  # fmt: skip
RiskScore: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
# JSON knows one kind of number: 70.0 is a whole one.
WholeRiskScore: TypeAlias = Annotated[float, Meta(ge=0, le=100, multiple_of=1)]
HookUrl: TypeAlias = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^(https://[a-zA-Z0-9.-]+(:[0-9]+)?/[^\s\x00-\x1f\x7f-\x9f]+)?$(?!\n)",
        description="Kept sealed, never shown again; empty takes it away.",
    ),
]
IntegrationKey: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^([a-zA-Z0-9]{32})?$(?!\n)",
        description="Kept sealed, never shown again; empty takes it away.",
    ),
]
Master: TypeAlias = Annotated[bool, Meta(description="Off: this kind is told nowhere.")]


class EventSwitches(Struct, frozen=True, kw_only=True):
    """Where one kind of event is told, as far as the channel is on."""

    key: EventKey
    in_app: bool
    email: bool
    slack: bool
    teams: bool
    pagerduty: bool


class EventChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches of one kind of event to change; what is absent or null stays."""

    key: EventKey
    in_app: bool | None = None
    email: bool | None = None
    slack: bool | None = None
    teams: bool | None = None
    pagerduty: bool | None = None


class NotificationPreferences(Struct, frozen=True, kw_only=True):
    """What the caller wants to hear of in this workspace."""

    email_enabled: bool
    slack_enabled: bool
    teams_enabled: bool
    pagerduty_enabled: bool
    slack_webhook_url_set: bool
    teams_webhook_url_set: bool
    pagerduty_integration_key_set: bool
    digest_frequency: Digest
    min_severity_for_alert: Severity
    min_risk_score_for_alert: RiskScore
    events: tuple[EventSwitches, ...]
    notify_on_new_issue: bool
    notify_on_pattern_detected: bool
    notify_on_prediction: bool
    notify_on_recommendation: bool
    notify_on_report_ready: bool
    updated_at: datetime


class NotificationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Preferences to change; what is absent or null stays."""

    email_enabled: bool | None = None
    slack_enabled: bool | None = None
    teams_enabled: bool | None = None
    pagerduty_enabled: bool | None = None
    slack_webhook_url: HookUrl | None = None
    teams_webhook_url: HookUrl | None = None
    pagerduty_integration_key: IntegrationKey | None = None
    digest_frequency: Digest | None = None
    min_severity_for_alert: Severity | None = None
    min_risk_score_for_alert: WholeRiskScore | None = None
    events: Annotated[tuple[EventChange, ...], Meta(max_length=20)] | None = None
    notify_on_new_issue: Master | None = None
    notify_on_pattern_detected: Master | None = None
    notify_on_prediction: Master | None = None
    notify_on_recommendation: Master | None = None
    notify_on_report_ready: Master | None = None


def _present(row: _queries.Preferences) -> NotificationPreferences:
    fields = msgspec.structs.asdict(row)
    keys: tuple[str, ...] = EventKey.__args__  # type: ignore[attr-defined]  # a Literal has them
    return msgspec.convert(
        {
            **fields,
            "slack_webhook_url_set": row.slack_webhook_url_sealed is not None,
            "teams_webhook_url_set": row.teams_webhook_url_sealed is not None,
            "pagerduty_integration_key_set": row.pagerduty_integration_key_sealed is not None,
            "events": [{"key": key, **DEFAULT_CHANNELS, **row.events.get(key, {})} for key in keys],
        },
        NotificationPreferences,
    )


async def get_notifications(gateway: Gateway, call: Call[NoQuery, None]) -> NotificationPreferences:
    """The caller's preferences."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(await find_preferences(conn, act_of(gateway, call)))


async def change_notifications(
    gateway: Gateway, call: Call[NoQuery, NotificationChange]
) -> NotificationPreferences:
    """Change the caller's preferences."""
    given = msgspec.structs.asdict(call.body)
    given.pop("events")
    if call.body.min_risk_score_for_alert is not None:
        given["min_risk_score_for_alert"] = int(call.body.min_risk_score_for_alert)
    events: dict[str, dict[str, bool]] = {}
    for event in call.body.events or ():
        switches = {name: getattr(event, name) for name in DEFAULT_CHANNELS}
        events.setdefault(event.key, {}).update(
            {name: value for name, value in switches.items() if value is not None}
        )
    async with tenant(gateway.people, call.workspace_id) as conn:
        changed = await change_preferences(
            conn, act_of(gateway, call), gateway.vault, given=given, events=events
        )
    return _present(changed)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getNotificationPreferences",
        method="GET",
        path="/v1/settings/notifications",
        tag="People",
        summary="Look at what you want to hear of in this workspace.",
        scope=SELF,
        replies={200: NotificationPreferences},
        handle=get_notifications,
    ),
    Operation(
        id="updateNotificationPreferences",
        method="PATCH",
        path="/v1/settings/notifications",
        tag="People",
        summary="Change what you want to hear of, how soon and where.",
        scope=SELF,
        body=NotificationChange,
        replies={200: NotificationPreferences},
        handle=change_notifications,
    ),
)
