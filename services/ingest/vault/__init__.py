"""Secrets of connectors: sealed in rows of their workspace, opened only to ask a vendor or to check a webhook."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

import psycopg
import structlog
from psycopg import sql
from runtime.database import Connection, Pool, tenant
from runtime.errors import UnavailableError
from runtime.sealing import MasterKeys, Place, SealError, SealingKey

from services.ingest.connectors.reserved import GIVEN_FOR
from services.ingest.errors import ConnectorNotFoundError
from services.ingest.vault import _queries
from services.ingest.vault.turns import HOLDERS_MAX, Turns

__all__ = ["HOLDERS_MAX", "Held", "Vault"]

LOCK_SECONDS: Final = 30
"""How long one waits for another who holds a connector's secrets, such as while a token is refreshed."""
AT_ONCE_SECONDS: Final = 0.01
"""The same for whoever does not wait: another process' lock is tried for so long."""

log = structlog.get_logger()


class Vault:
    """Seals and opens secrets of connectors, each with its workspace's data key and for its own place.

    pool: the application's role, on the schema sources. holding: another of the same, of HOLDERS_MAX connections, for
    those who hold secrets while they ask a vendor; None: there is none to protect from them. clock: the time in UTC.
    """

    def __init__(
        self,
        masters: MasterKeys,
        pool: Pool,
        *,
        clock: Callable[[], datetime],
        holding: Pool | None = None,
    ) -> None:
        self._masters = masters
        self._pool = pool
        self._holding = holding or pool
        self._turns = Turns()
        self._clock = clock

    async def open_all(self, workspace_id: str, connector_id: str) -> dict[str, str]:
        """Every secret of a connector by its name. Raises SealError when one was changed or its keys are gone."""
        async with tenant(self._pool, workspace_id) as conn:
            return await self._opened(conn, workspace_id, connector_id)

    async def open_each(
        self, workspace_id: str, connector_ids: Collection[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """Connector → every secret of it by its name; one of which any was changed, or its keys are gone, is absent."""
        found: dict[str, dict[str, str]] = {connector_id: {} for connector_id in connector_ids}
        async with tenant(self._pool, workspace_id) as conn:
            rows = await _queries.list_secrets_of(conn, workspace_id=workspace_id, connector_ids=list(found))
            try:
                key = await self._data_key(conn, workspace_id) if rows else None
            except SealError as error:
                log.error("secrets.unreadable", workspace_id=workspace_id, error=str(error))
                key = None
        for row in rows:
            if key is None:
                found.pop(row.connector_id, None)
            elif row.connector_id in found:
                try:
                    plain = key.open(row.sealed, _place(row.connector_id, row.name)).decode()
                    found[row.connector_id][row.name] = plain
                except SealError as error:
                    log.error("secrets.unreadable", connector_id=row.connector_id, error=str(error))
                    del found[row.connector_id]
        return found

    async def keep(
        self, workspace_id: str, connector_id: str, secrets: Mapping[str, str | None]
    ) -> tuple[str, ...]:
        """Replace the secrets named, None deletes one; the names that there are now, in order."""
        async with self.held(workspace_id, connector_id) as held:
            await held.keep(secrets)
            return held.names

    def held(
        self, workspace_id: str, connector_id: str, *, is_at_once: bool = False
    ) -> AbstractAsyncContextManager["Held"]:
        """A connector's secrets while nobody else can hold them, so that a token is refreshed once.

        What is kept meanwhile counts when the block ends without an error. A connection of `holding` is taken for as
        long, so ask a vendor inside with a short deadline. Raises UnavailableError when another does not let go in
        LOCK_SECONDS. is_at_once: for whoever asks no vendor inside: raises it where another has them now, and needs no
        turn among those who ask.
        """
        return self._held(workspace_id, connector_id, is_at_once=is_at_once)

    async def forget(self, workspace_id: str, connector_id: str) -> None:
        """Delete everything secret of a connector."""
        async with self.held(workspace_id, connector_id) as held:
            await held.forget()

    @asynccontextmanager
    async def unless_gone(self, workspace_id: str, connector_id: str) -> AsyncIterator[None]:
        """A block that keeps something, and ends with ConnectorNotFoundError where the connector was deleted meanwhile.

        What was kept after the deletion has deleted the rest is deleted then, too.
        """
        try:
            yield
        except ConnectorNotFoundError:
            await self.forget(workspace_id, connector_id)
            raise

    def received(self, sealed: str, *, workspace_id: str, what: str) -> str:
        """A secret that came over the bus. Raises SealError.

        what: "credentials", "code" or "webhook_secret".
        """
        return self._masters.bus.open(sealed, workspace_id=workspace_id, what=what)

    def to_send(self, plain: str, *, workspace_id: str, what: str) -> str:
        """A secret as it may go over the bus."""
        return self._masters.bus.seal(plain, workspace_id=workspace_id, what=what)

    @asynccontextmanager
    async def _held(self, workspace_id: str, connector_id: str, *, is_at_once: bool) -> AsyncIterator["Held"]:
        seconds = AT_ONCE_SECONDS if is_at_once else LOCK_SECONDS
        turn = self._turns.at_once if is_at_once else partial(self._turns.turn, seconds=seconds)
        async with (
            turn(workspace_id, connector_id),
            tenant(self._pool if is_at_once else self._holding, workspace_id) as conn,
        ):
            try:
                bound = sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{seconds * 1000:.0f}ms"))
                await conn.execute(bound.as_string(conn).encode())
                await _queries.hold_secrets(conn, workspace_id=workspace_id, connector_id=connector_id)
            except psycopg.errors.LockNotAvailable as error:
                raise UnavailableError("Another holds the secrets of this connector.") from error
            key = await self._data_key(conn, workspace_id)
            secrets = await self._opened(conn, workspace_id, connector_id)
            yield Held(conn, key, workspace_id, connector_id, secrets=secrets, clock=self._clock)

    async def _opened(self, conn: Connection, workspace_id: str, connector_id: str) -> dict[str, str]:
        rows = await _queries.list_secrets(conn, workspace_id=workspace_id, connector_id=connector_id)
        if not rows:
            return {}
        key = await self._data_key(conn, workspace_id)
        return {row.name: key.open(row.sealed, _place(connector_id, row.name)).decode() for row in rows}

    async def _data_key(self, conn: Connection, workspace_id: str) -> SealingKey:
        place = Place("sources.data_keys", workspace_id, "wrapped")
        wrapped = await _queries.get_data_key(conn, workspace_id=workspace_id)
        if wrapped is None:
            await _queries.insert_data_key(
                conn,
                workspace_id=workspace_id,
                master_key_id=self._masters.current.key_id,
                wrapped=self._masters.seal(SealingKey.made().secret, place),
                created_at=self._clock(),
            )
            wrapped = await _queries.get_data_key(conn, workspace_id=workspace_id)
            if wrapped is None:
                raise LookupError(f"the data key of {workspace_id} cannot be seen in this transaction")
        return SealingKey(self._masters.open(wrapped, place))


class Held:
    """The secrets of one connector while nobody else can hold them."""

    def __init__(
        self,
        conn: Connection,
        key: SealingKey,
        workspace_id: str,
        connector_id: str,
        *,
        secrets: dict[str, str],
        clock: Callable[[], datetime],
    ) -> None:
        self.secrets = secrets
        self._conn = conn
        self._key = key
        self._whose = {"workspace_id": workspace_id, "connector_id": connector_id}
        self._clock = clock

    @property
    def names(self) -> tuple[str, ...]:
        """What the secrets are called that there are now, in order."""
        return tuple(sorted(name for name in self.secrets if name != GIVEN_FOR))

    async def keep(self, changes: Mapping[str, str | None]) -> None:
        """Replace the secrets named; None deletes one."""
        gone = [name for name, plain in changes.items() if plain is None]
        if gone:
            await _queries.delete_secrets(self._conn, **self._whose, names=gone)
        kept = {name: plain for name, plain in changes.items() if plain is not None}
        for name, plain in kept.items():
            sealed = self._key.seal(plain.encode(), _place(self._whose["connector_id"], name))
            await _queries.put_secret(
                self._conn, **self._whose, name=name, sealed=sealed, updated_at=self._clock()
            )
        self.secrets = {name: plain for name, plain in self.secrets.items() if name not in gone} | kept

    async def forget(self) -> None:
        """Delete all of them, and the sign-ins that have begun."""
        await _queries.forget_secrets(self._conn, **self._whose)
        await _queries.forget_authorizations(self._conn, **self._whose)
        self.secrets = {}


def _place(connector_id: str, name: str) -> Place:
    return Place("secrets", connector_id, name)
