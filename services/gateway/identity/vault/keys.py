"""Data keys as rows: made when an owner has the first secret; runtime.rewrapping wraps them anew."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from runtime.sealing import (
    MasterKeys,
    Place,
    SealingKey,
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


def _place(owner_id: str) -> Place:
    return Place("data_keys", owner_id, "wrapped")
