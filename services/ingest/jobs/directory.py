"""Which connector an address is about: its workspace, its manifest, its webhook secrets; kept in memory for seconds."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import psycopg
import structlog
from contracts import WEBHOOK_SECRET, connector
from msgspec import Struct
from runtime.database import Pool, on_working_connection
from runtime.errors import UnavailableError

from services.ingest import _queries
from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.manifest import Webhook
from services.ingest.connectors.reserved import WEBHOOK_FIRST_UNTIL, WEBHOOK_PREVIOUS
from services.ingest.errors import ConnectorUnreadableError, InvalidConnectorError
from services.ingest.vault import Vault

KEPT_SECONDS: Final = 3.0
"""How long a secret that was replaced, or a connector that was deleted, may still count in another process."""
UNKNOWN_KEPT_SECONDS: Final = 0.5
"""How long an id of nobody's is taken for that: it may be one whose row is about to be written. As long for one that
cannot be read."""
KEPT_MAX: Final = 4096
READ_SECONDS: Final = 3.0
"""How long a look may take, for others wait for it, also where the other end of its connection is gone."""
READ_MAX: Final = 256
"""Connectors that are read again before their time, together with one whose time is over."""
PREVIOUS_GOOD_FOR: Final = timedelta(hours=24)

_ID: Final = re.compile(r"con_[0-9A-HJKMNP-TV-Z]{26}")

log = structlog.get_logger()


class Addressee(Struct, frozen=True, kw_only=True):
    """A connector as far as its webhooks are concerned.

    secret, previous: what calls are proved with; empty where there is none. previous counts until previous_until.
    first_until: until then a vendor's first call may bring another secret.
    """

    workspace_id: str
    source: Source
    webhook: Webhook
    is_paused: bool = False
    secret: str = ""
    previous: str = ""
    previous_until: datetime = datetime.min.replace(tzinfo=UTC)
    first_until: datetime = datetime.min.replace(tzinfo=UTC)

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """Those that count now, the current one first."""
        if not self.secret:
            return ()
        return (self.secret, self.previous) if self.previous and now < self.previous_until else (self.secret,)


class _Kept(Struct):
    """What was found at an id, and until when it counts. settings: the JSON of its source. is_asked: since it was read."""

    expires_at: float
    known: Addressee | None
    settings: str = ""
    is_readable: bool = True
    is_asked: bool = False


class Directory:
    """Finds connectors by their ids alone, in every workspace.

    everywhere: ingest's read model as the role that writes it, for only that sees all workspaces.
    """

    def __init__(
        self, everywhere: Pool, vault: Vault, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = everywhere
        self._vault = vault
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}
        self._reading = asyncio.Lock()
        self._looks: set[asyncio.Task[dict[str, _Kept]]] = set()
        self._n_failed = 0
        self._n_forgotten = 0

    async def find(self, connector_ids: Collection[str]) -> Mapping[str, Addressee | None]:
        """The connectors of these ids; None where there is none, none any more, or none that takes webhooks; one that cannot
        be read is absent.

        Who is unknown, or cannot be read, is kept as well, so that asking for it again costs no more than for one that
        exists. Raises UnavailableError where the database does not answer.
        """
        wanted = set(connector_ids)
        found = self._at_hand(wanted)
        if len(found) < len(wanted):
            found = await self._look_up(wanted)
        return {id_: kept.known for id_, kept in found.items() if kept.is_readable}

    async def find_one(self, connector_id: str) -> Addressee | None:
        """The connector of this id; None as in `find`, but by a look of now, for what is for nobody is dropped.

        Raises ConnectorUnreadableError, and what `find` does.
        """
        found = await self.find([connector_id])
        if connector_id in found and found[connector_id] is None:
            # It may have been looked for before its row was there.
            self.forget(connector_id)
            found = await self.find([connector_id])
        if connector_id not in found:
            raise ConnectorUnreadableError(connector_id)
        return found[connector_id]

    async def _look_up(self, wanted: set[str]) -> dict[str, _Kept]:
        """All of these; what was at hand is looked at again, for it may change and end while others are waited for."""
        n_failed = self._n_failed
        async with self._reading:
            read: dict[str, _Kept] = {}
            while True:
                found = self._at_hand(wanted - read.keys())
                missing = wanted - read.keys() - found.keys()
                if not missing:
                    return found | read
                if n_failed != self._n_failed:
                    raise UnavailableError("The database did not answer others who asked at the same time.")
                read |= await self._read_in_time(missing)

    async def _read_in_time(self, missing: Collection[str]) -> dict[str, _Kept]:
        """What `_read` does. Whoever waits for their turn meanwhile fails with it, instead of waiting as long again."""
        look = asyncio.create_task(self._read(missing))
        self._looks.add(look)
        look.add_done_callback(self._end)
        try:
            await asyncio.wait({look}, timeout=READ_SECONDS)
            if not look.done():
                raise UnavailableError("The database does not answer in time.")
            return look.result()
        except (UnavailableError, psycopg.OperationalError):
            self._n_failed += 1
            raise
        finally:
            # Not waited for: where the server does not answer, this takes until its connection is given up.
            look.cancel()

    def _end(self, look: asyncio.Task[dict[str, _Kept]]) -> None:
        self._looks.discard(look)
        if not look.cancelled():
            # Of one that was given up nobody else asks what became of it.
            look.exception()

    def forget(self, connector_id: str) -> None:
        """Read it again the next time: something about it is different."""
        self._kept.pop(connector_id, None)
        self._n_forgotten += 1

    def _at_hand(self, wanted: Collection[str]) -> dict[str, _Kept]:
        now = self._monotonic()
        found: dict[str, _Kept] = {}
        for connector_id in wanted:
            kept = self._kept.get(connector_id)
            if kept is not None and kept.expires_at > now:
                kept.is_asked = True
                found[connector_id] = kept
        return found

    async def _read(self, missing: Collection[str]) -> dict[str, _Kept]:
        """Those that are missing; with them others of their workspaces that would be missing soon, which costs little."""
        now, n_forgotten = self._monotonic(), self._n_forgotten
        ahead = self._soon_missing(missing, now)
        # What is no id is looked up as well, so that it takes as long.
        ids = [each if _ID.fullmatch(each) is not None else "" for each in sorted({*missing, *ahead})]

        async def find() -> list[_queries.FindConnectorsRow]:
            async with self._pool.connection() as conn:
                return await _queries.find_connectors(conn, connector_ids=ids)

        rows = {row.connector_id: row for row in await on_working_connection(self._pool, find)}
        sources = dict(self._readable(rows.values()))
        secrets: dict[str, Mapping[str, str]] = {}
        for workspace_id in {rows[id_].workspace_id for id_, source in sources.items() if source is not None}:
            ids = [id_ for id_ in sources if rows[id_].workspace_id == workspace_id]
            secrets |= await self._vault.open_each(workspace_id, ids)
        read = {id_: _Kept(now + UNKNOWN_KEPT_SECONDS, None) for id_ in missing if id_ not in rows}
        for id_, row in rows.items():
            source = sources.get(id_)
            # Without secrets nobody is believed; others' calls, which may have come with this one, go on.
            known = None if source is None else _addressee(row, source, secrets.get(id_, {}))
            until = now + (UNKNOWN_KEPT_SECONDS if known is None else KEPT_SECONDS)
            read[id_] = _Kept(until, known, row.settings, is_readable=id_ in sources)
        if n_forgotten == self._n_forgotten:
            for id_, kept in read.items():
                self._keep(id_, kept)
        return {id_: read[id_] for id_ in missing}

    def _soon_missing(self, missing: Collection[str], now: float) -> Sequence[str]:
        """What was asked for since it was read last, of workspaces of which something is missing."""
        before = [kept.known for id_ in missing if (kept := self._kept.get(id_)) is not None]
        workspaces = {known.workspace_id for known in before if known is not None}
        soon: list[str] = []
        for id_, kept in self._kept.items() if workspaces else ():
            if len(soon) == READ_MAX:
                break
            is_soon = kept.is_asked and kept.expires_at <= now + KEPT_SECONDS / 2 and id_ not in missing
            if is_soon and kept.known is not None and kept.known.workspace_id in workspaces:
                # Once, should it fail.
                kept.is_asked = False
                soon.append(id_)
        return soon

    def _keep(self, connector_id: str, kept: _Kept) -> None:
        self._kept.pop(connector_id, None)
        if len(self._kept) >= KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        self._kept[connector_id] = kept

    def _readable(self, rows: Collection[_queries.FindConnectorsRow]) -> Iterator[tuple[str, Source | None]]:
        """Connectors' sources, None where one takes no webhooks; without those that cannot be read."""
        for row in rows:
            before = self._kept.get(row.connector_id)
            same = before if before is not None and before.settings == row.settings else None
            if same is not None and not same.is_readable:
                # To read it again would end the same, and whoever calls for it would have us do so all the time.
                continue
            known = same.known if same is not None else None
            try:
                source = known.source if known is not None else _source(row)
            except (InvalidConnectorError, msgspec.DecodeError) as error:
                # Such as another release has written: of a type, or with a key, that this one does not know.
                log.error("connector.unreadable", connector_id=row.connector_id, error=str(error))
                continue
            yield row.connector_id, source if source.manifest.webhook is not None else None


def _source(row: _queries.FindConnectorsRow) -> Source:
    settings = msgspec.json.decode(row.settings, type=connector.ConnectorSettings)
    return source_of(row.connector_id, settings)


def _addressee(
    row: _queries.FindConnectorsRow, source: Source, secrets: Mapping[str, str]
) -> Addressee | None:
    if source.manifest.webhook is None:
        return None
    try:
        previous, previous_until = read_previous(secrets.get(WEBHOOK_PREVIOUS, ""))
        first_until = read_until(secrets.get(WEBHOOK_FIRST_UNTIL, ""))
    except (ValueError, OverflowError) as error:
        log.error("secrets.unreadable", connector_id=row.connector_id, error=type(error).__name__)
        return _addressee(row, source, {})
    return Addressee(
        workspace_id=row.workspace_id,
        source=source,
        webhook=source.manifest.webhook,
        is_paused=row.status == connector.ConnectorStatus.PAUSED.value,
        secret=secrets.get(WEBHOOK_SECRET, ""),
        previous=previous,
        previous_until=previous_until,
        first_until=first_until,
    )


def write_previous(secret: str, until: datetime) -> str:
    """A secret with the time until which it still counts."""
    return f"{int(until.timestamp())}:{secret}"


def read_until(text: str) -> datetime:
    """A second (UTC); an empty text is long ago."""
    return datetime.fromtimestamp(int(text or 0), tz=UTC)


def read_previous(text: str) -> tuple[str, datetime]:
    """The way back; an empty text is no secret."""
    until, _, secret = text.partition(":")
    return secret, read_until(until)
