"""Which connector an address is about: its workspace, its manifest, its webhook secrets; kept in memory for seconds."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog
from contracts import connector
from msgspec import Struct
from runtime.database import Pool
from runtime.sealing import SealError

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
        self._kept: dict[str, tuple[float, Addressee | None]] = {}

    async def find(self, connector_ids: Collection[str]) -> Mapping[str, Addressee | None]:
        """The connectors of these ids; None where there is none, none any more, or none that takes webhooks.

        Who is unknown is kept as well, so that asking for it again costs no more than for one that exists.
        """
        now = self._monotonic()
        found: dict[str, Addressee | None] = {}
        for connector_id in set(connector_ids):
            expires_at, known = self._kept.get(connector_id, (0.0, None))
            if expires_at <= now:
                known = await self._read(connector_id)
                self._keep(connector_id, known, now + (KEPT_SECONDS if known else UNKNOWN_KEPT_SECONDS))
            found[connector_id] = known
        return found

    def forget(self, connector_id: str) -> None:
        """Read it again the next time: something about it is different."""
        self._kept.pop(connector_id, None)

    def _keep(self, connector_id: str, known: Addressee | None, expires_at: float) -> None:
        self._kept.pop(connector_id, None)
        if len(self._kept) >= KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        self._kept[connector_id] = (expires_at, known)

    async def _read(self, connector_id: str) -> Addressee | None:
        async with self._pool.connection() as conn:
            # What is no id is looked up as well, so that it takes as long.
            is_id = _ID.fullmatch(connector_id) is not None
            row = await _queries.find_connector(conn, connector_id=connector_id if is_id else "")
        if row is None:
            return None
        try:
            source = source_of(
                connector_id, msgspec.json.decode(row.settings, type=connector.ConnectorSettings)
            )
        except InvalidConnectorError:
            return None
        if source.manifest.webhook is None:
            return None
        try:
            secrets = await self._vault.open_all(row.workspace_id, connector_id)
        except SealError as error:
            # Without secrets nobody is believed; others' calls, which may have come with this one, go on.
            log.error("secrets.unreadable", connector_id=connector_id, error=str(error))
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
