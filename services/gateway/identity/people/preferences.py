"""What a member wants to hear of, how soon and where; the addresses of their channels are secrets."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection
from runtime.sealing import Place

from services.gateway.identity.people import _queries
from services.gateway.identity.people.acting import Act
from services.gateway.identity.vault.keys import Vault

SECRETS: Final = ("slack_webhook_url", "teams_webhook_url", "pagerduty_integration_key")
"""What is kept sealed and never shown again."""

DEFAULT_CHANNELS: Final[Mapping[str, bool]] = {
    "in_app": True,
    "email": True,
    "slack": True,
    "teams": True,
    "pagerduty": False,
}
"""Where an event of which the member said nothing is told, as far as the channel is on."""


async def find_preferences(conn: AsyncConnection[Any], act: Act) -> _queries.Preferences:
    """The preferences of whoever acts; the defaults when they have never said anything."""
    user_id = act.principal.user_id
    await _queries.insert_preferences(
        conn, workspace_id=act.workspace_id, user_id=user_id, updated_at=act.now
    )
    found = await _queries.lock_preferences(conn, workspace_id=act.workspace_id, user_id=user_id)
    if found is None:
        raise LookupError(f"{user_id} has no preferences in {act.workspace_id}")
    return found


async def change_preferences(
    conn: AsyncConnection[Any],
    act: Act,
    vault: Vault,
    *,
    given: Mapping[str, Any],  # Any: each preference has its own type
    events: Mapping[str, Mapping[str, bool]],
) -> _queries.Preferences:
    """Change what is given; what is None stays, and an empty secret is taken away.

    given: by column, secrets in plain. events: event → channel → whether.
    """
    found = await find_preferences(conn, act)
    merged = {key: {**found.events.get(key, {}), **events.get(key, {})} for key in {*found.events, *events}}
    values: dict[str, Any] = {  # Any: as with `given`
        f"{name}_sealed": await _sealed(conn, act, vault, name, given.get(name)) for name in SECRETS
    }
    values |= {name: value for name, value in given.items() if name not in SECRETS}
    changed = await _queries.change_preferences(
        conn,
        **values,
        events=msgspec.json.encode(merged).decode(),
        updated_at=act.now,
        workspace_id=act.workspace_id,
        user_id=found.user_id,
    )
    if changed is None:
        raise LookupError(f"{found.user_id} has no preferences in {act.workspace_id}")
    fields = sorted(name for name, value in given.items() if value is not None)
    await act.write_down(
        conn,
        "notification.preferences_updated",
        "update",
        ("user", found.user_id),
        fields=",".join([*fields, *(["events"] if events else [])]),
    )
    return changed


async def _sealed(
    conn: AsyncConnection[Any], act: Act, vault: Vault, name: str, plain: str | None
) -> str | None:
    """A secret as it is stored; None: it stays, empty: it goes."""
    if not plain:
        return plain
    place = Place("notification_preferences", f"{act.workspace_id}/{act.principal.user_id}", f"{name}_sealed")
    return await vault.seal(conn, plain, owner_id=act.workspace_id, place=place)
