"""Which connector an address is about: its workspace, its manifest, its webhook secrets; kept in memory for seconds."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import msgspec
import structlog
from contracts import connector
from msgspec import Struct
from runtime.database import Pool

from services.ingest import _queries
from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.manifest import Webhook
from services.ingest.errors import InvalidConnectorError
from services.ingest.vault import WEBHOOK_FIRST_UNTIL, WEBHOOK_PREVIOUS, WEBHOOK_SECRET, Vault

KEPT_SECONDS: Final = 3.0
"""How long a secret that was replaced, or a connector that was deleted, may still count in another process."""
UNKNOWN_KEPT_SECONDS: Final = 0.5
"""How long an id of nobody's is taken for that: it may be one whose row is about to be written."""
KEPT_MAX: Final = 4096
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
        self._n_forgotten = 0

    async def find(self, connector_ids: Collection[str]) -> Mapping[str, Addressee | None]:
        """The connectors of these ids; None where there is none, none any more, or none that takes webhooks.

        Who is unknown is kept as well, so that asking for it again costs no more than for one that exists.
        """
        wanted = set(connector_ids)
        found = self._at_hand(wanted)
        if len(found) < len(wanted):
            async with self._reading:
                # Another may have read them meanwhile.
                found |= self._at_hand(wanted - found.keys())
                if missing := wanted - found.keys():
                    found |= await self._read(missing)
        return found

    def forget(self, connector_id: str) -> None:
        """Read it again the next time: something about it is different."""
        self._kept.pop(connector_id, None)
        self._n_forgotten += 1

    def _at_hand(self, wanted: Collection[str]) -> dict[str, Addressee | None]:
        now = self._monotonic()
        found: dict[str, Addressee | None] = {}
        for connector_id in wanted:
            kept = self._kept.get(connector_id)
            if kept is not None and kept.expires_at > now:
                kept.is_asked = True
                found[connector_id] = kept.known
        return found

    async def _read(self, missing: Collection[str]) -> dict[str, Addressee | None]:
        """Those that are missing; with them what was asked for since it was read last and would be missing soon."""
        now, n_forgotten = self._monotonic(), self._n_forgotten
        soon = (
            each
            for each, kept in self._kept.items()
            if kept.is_asked and kept.expires_at <= now + KEPT_SECONDS / 2
        )
        connector_ids = {*missing, *islice(soon, READ_MAX)}
        async with self._pool.connection() as conn:
            # What is no id is looked up as well, so that it takes as long.
            ids = [each if _ID.fullmatch(each) is not None else "" for each in sorted(connector_ids)]
            rows = {row.connector_id: row for row in await _queries.find_connectors(conn, connector_ids=ids)}
        secrets = await self._secrets(rows.values())
        read: dict[str, _Kept] = {}
        for connector_id in connector_ids:
            row = rows.get(connector_id)
            known = None if row is None else self._addressee(row, secrets.get(connector_id))
            good_for = KEPT_SECONDS if known else UNKNOWN_KEPT_SECONDS
            read[connector_id] = _Kept(now + good_for, known, "" if row is None else row.settings)
        if n_forgotten == self._n_forgotten:
            for connector_id, kept in read.items():
                self._keep(connector_id, kept)
        return {connector_id: read[connector_id].known for connector_id in missing}

    def _keep(self, connector_id: str, kept: _Kept) -> None:
        self._kept.pop(connector_id, None)
        if len(self._kept) >= KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        self._kept[connector_id] = kept

    async def _secrets(self, rows: Collection[_queries.FindConnectorsRow]) -> Mapping[str, Mapping[str, str]]:
        """Connector → its secrets; one of which they cannot be read is absent."""
        by_workspace: dict[str, list[str]] = {}
        for row in rows:
            by_workspace.setdefault(row.workspace_id, []).append(row.connector_id)
        opened = await asyncio.gather(
            *(self._vault.open_each(workspace_id, ids) for workspace_id, ids in by_workspace.items())
        )
        return {connector_id: found for each in opened for connector_id, found in each.items()}

    def _addressee(
        self, row: _queries.FindConnectorsRow, secrets: Mapping[str, str] | None
    ) -> Addressee | None:
        connector_id = row.connector_id
        before = self._kept.get(connector_id)
        try:
            if before is not None and before.known is not None and before.settings == row.settings:
                source = before.known.source
            else:
                settings = msgspec.json.decode(row.settings, type=connector.ConnectorSettings)
                source = source_of(connector_id, settings)
        except InvalidConnectorError:
            return None
        if source.manifest.webhook is None:
            return None
        if secrets is None:
            # Without secrets nobody is believed; others' calls, which may have come with this one, go on.
            log.error("secrets.unreadable", connector_id=connector_id)
            secrets = {}
        previous, until = read_previous(secrets.get(WEBHOOK_PREVIOUS, ""))
        return Addressee(
            workspace_id=row.workspace_id,
            source=source,
            webhook=source.manifest.webhook,
            is_paused=row.status == connector.ConnectorStatus.PAUSED.value,
            secret=secrets.get(WEBHOOK_SECRET, ""),
            previous=previous,
            previous_until=until,
            first_until=read_until(secrets.get(WEBHOOK_FIRST_UNTIL, "")),
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
