"""Whom a workspace lets explain its failures: the operator's model, its own, or nobody."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection
from runtime.sealing import Place

from services.gateway.identity.people.acting import Act
from services.gateway.identity.tenancy import _queries
from services.gateway.identity.tenancy._queries import AiSettingsRow
from services.gateway.identity.vault.keys import Vault

_EMPTIED: Final = ("base_url", "api_key", "model_fast", "model_balanced", "model_deep")


async def find(conn: AsyncConnection[Any], act: Act) -> AiSettingsRow:
    """What the workspace of the transaction said; the defaults where it said nothing."""
    found = await _queries.get_ai_settings(conn, workspace_id=act.workspace_id)
    return found or AiSettingsRow(
        workspace_id=act.workspace_id,
        model_enabled=True,
        base_url=None,
        api_key_sealed=None,
        model_fast=None,
        model_balanced=None,
        model_deep=None,
        redact_emails=True,
        redact_ip_addresses=True,
        updated_at=act.now,
    )


async def change(
    conn: AsyncConnection[Any], act: Act, vault: Vault, given: Mapping[str, object]
) -> AiSettingsRow:
    """Set what is given; an empty text takes a value away.

    A key belongs to the address that it was given for: another address without another key has none, or whoever may
    change the address could have the key sent to themself.
    """
    before = await find(conn, act)
    changed = {name: (value or None) if name in _EMPTIED else value for name, value in given.items()}
    key = changed.pop("api_key", None)
    if "api_key" in given or changed.get("base_url", before.base_url) != before.base_url:
        changed["api_key_sealed"] = None
    if isinstance(key, str):
        changed["api_key_sealed"] = await vault.seal(
            conn, key, owner_id=act.workspace_id, place=_place(act.workspace_id)
        )
    after = msgspec.structs.replace(before, **changed, updated_at=act.now)
    await _queries.put_ai_settings(conn, **msgspec.structs.asdict(after))
    await act.write_down(
        conn,
        "workspace.settings.updated",
        "update",
        ("workspace", act.workspace_id),
        fields=",".join(sorted(f"ai.{name}" for name in given)),
    )
    return after


async def key_of(conn: AsyncConnection[Any], row: AiSettingsRow, vault: Vault) -> str:
    """The key of the workspace's own endpoint; empty without one. Raises SealError."""
    if row.api_key_sealed is None:
        return ""
    return await vault.open(
        conn, row.api_key_sealed, owner_id=row.workspace_id, place=_place(row.workspace_id)
    )


def _place(workspace_id: str) -> Place:
    return Place("ai_settings", workspace_id, "api_key_sealed")
