"""Data keys as rows: made when an owner has the first secret, wrapped anew when the master key changes."""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from runtime.sealing import (
    MasterKeys,
    Place,
    SealError,
    SealingKey,
    read_master_keys,
)

from services.gateway.identity.vault import _queries


class Vault:
    """Seals and opens secrets of workspaces and of people, in the transaction of the rows that hold them."""

    def __init__(self, masters: MasterKeys, *, clock: Callable[[], datetime]) -> None:
        self.masters = masters
        self._clock = clock

    async def seal(self, conn: AsyncConnection[Any], plain: str, *, owner_id: str, place: Place) -> str:
        """The text as it may be stored.

        owner_id: the ws_ or usr_ whose data key seals it; the transaction must be able to see that owner's rows.
        """
        return (await self._data_key(conn, owner_id)).seal(plain.encode(), place)

    async def open(self, conn: AsyncConnection[Any], sealed: str, *, owner_id: str, place: Place) -> str:
        """The text again. Raises SealError when it was changed, moved, or its keys are gone."""
        return (await self._data_key(conn, owner_id)).open(sealed, place).decode()

    async def _data_key(self, conn: AsyncConnection[Any], owner_id: str) -> SealingKey:
        place = _place(owner_id)
        wrapped = await _queries.get_data_key(conn, owner_id=owner_id)
        if wrapped is None:
            made = SealingKey.made()
            is_person = owner_id.startswith("usr_")
            await _queries.insert_data_key(
                conn,
                owner_id=owner_id,
                workspace_id=None if is_person else owner_id,
                user_id=owner_id if is_person else None,
                master_key_id=self.masters.current.key_id,
                wrapped=self.masters.seal(made.secret, place),
                created_at=self._clock(),
            )
            wrapped = await _queries.get_data_key(conn, owner_id=owner_id)
            if wrapped is None:
                raise LookupError(f"the data key of {owner_id} cannot be seen in this transaction")
        return SealingKey(self.masters.open(wrapped, place))


async def rewrap(owner_url: str, masters: MasterKeys) -> int:
    """Wrap every data key with the current master key; how many were not. Raises SealError."""
    async with await AsyncConnection.connect(owner_url, options="-c search_path=identity") as conn:
        key_id = masters.current.key_id
        found = await _queries.list_foreign_data_keys(conn, master_key_id=key_id)
        for row in found:
            place = _place(row.owner_id)
            wrapped = masters.seal(masters.open(row.wrapped, place), place)
            await _queries.update_data_key(conn, owner_id=row.owner_id, master_key_id=key_id, wrapped=wrapped)
        return len(found)


def _place(owner_id: str) -> Place:
    return Place("data_keys", owner_id, "wrapped")


def main() -> int:
    """Rewrap what DATABASE_OWNER_URL holds with CAUSELOOP_MASTER_KEY; prints one line."""
    url, current = os.environ.get("DATABASE_OWNER_URL", ""), os.environ.get("CAUSELOOP_MASTER_KEY", "")
    if not url or not current:
        sys.stderr.write("DATABASE_OWNER_URL and CAUSELOOP_MASTER_KEY are needed.\n")
        return 2
    previous = [
        text for text in os.environ.get("CAUSELOOP_MASTER_KEY_PREVIOUS", "").split(",") if text.strip()
    ]
    try:
        masters = read_master_keys(current, [text.strip() for text in previous])
        n_rewrapped = asyncio.run(rewrap(url, masters))
    except (psycopg.Error, SealError, ValueError) as error:
        sys.stderr.write(f"Nothing was changed: {error}\n")
        return 1
    sys.stdout.write(f"data keys: {n_rewrapped} wrapped anew with {masters.current.key_id}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
