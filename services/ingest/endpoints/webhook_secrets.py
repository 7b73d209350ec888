"""Webhook secrets of connectors: given, made, replaced, and taken from a vendor's first call."""

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Final

from contracts import WEBHOOK_SECRET, connector
from runtime.broker import CommandContext, Endpoint
from runtime.sealing import SealError

from services.ingest.connectors.reserved import WEBHOOK_FIRST_UNTIL, WEBHOOK_PREVIOUS, WEBHOOK_UNREAD
from services.ingest.errors import InvalidConnectorError
from services.ingest.jobs.directory import PREVIOUS_GOOD_FOR, Directory, read_until, write_previous
from services.ingest.reporting import Sources
from services.ingest.vault import Held, Vault

LENGTHS: Final = range(8, 16_385)
"""Of a secret: from the shortest that a vendor gives to a set of public keys."""
WHAT: Final = "webhook_secret"
FIRST_GOOD_FOR: Final = timedelta(minutes=10)
"""How long after a person's wish for another secret a vendor that brings its own may make a first call again; as long
after one that was kept and could not be answered."""
_BYTES: Final = 32
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\t\r\n]")


class WebhookSecrets:
    """Keeps them in the vault, and says in the log that one is different, never what it is."""

    def __init__(
        self,
        sources: Sources,
        vault: Vault,
        directory: Directory,
        *,
        shown: Callable[[str, int], Awaitable[object]],
        clock: Callable[[], datetime],
    ) -> None:
        """shown: waits, not for long, until rows hold all up to a sequence, so that calls find a connector just made."""
        self._shown = shown
        self._sources = sources
        self._vault = vault
        self._directory = directory
        self._clock = clock

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What replacing a secret needs."""
        name = connector.ENDPOINTS[connector.RotateWebhookSecret]
        return (Endpoint(name, connector.RotateWebhookSecret, self.rotate_webhook_secret),)

    async def rotate_webhook_secret(
        self, cmd: connector.RotateWebhookSecret, context: CommandContext
    ) -> connector.WebhookSecretRotated:
        """Give a connector another secret; the one before is taken for another day.

        Without a secret of the vendor's we make one, "whsec_" and 32 random bytes in base64; but where the vendor gave
        one in its first call that it wants to have back, it is that one, once.
        Behind one that we made, a vendor that brings its own has ten minutes to begin again.
        Raises ConnectorNotFoundError, InvalidConnectorError, ConnectorContendedError and LogUnreachableError.
        """
        workspace_id, connector_id, now = context.workspace_id, cmd.connector_id, self._clock()
        given = self._given(cmd.sealed_secret, workspace_id)
        # Nothing is kept for a connector that is none.
        await self._sources.decide(connector_id, context, lambda _: [])
        until: datetime | None = None
        async with self._vault.held(workspace_id, connector_id) as held:
            unread = held.secrets.get(WEBHOOK_UNREAD)
            if given is None and unread:
                secret = unread
                await held.keep({WEBHOOK_UNREAD: None})
            else:
                secret = given or f"whsec_{b64encode(token_bytes(_BYTES)).decode()}"
                until = await self._replace(held, secret, now=now)
                if given is None:
                    await held.keep({WEBHOOK_FIRST_UNTIL: _first_until(now)})
            names = _names(held)
        sequence = await self._tell(connector_id, names, context)
        await self._shown(workspace_id, sequence)
        self._directory.forget(connector_id)
        return connector.WebhookSecretRotated(
            sealed_secret=self._vault.to_send(secret, workspace_id=workspace_id, what=WHAT),
            previous_until=until,
            sequence=sequence,
        )

    async def take_first(
        self, workspace_id: str, connector_id: str, secret: str, *, is_read: bool, context: CommandContext
    ) -> bool:
        """Keep a secret that a vendor's first call brought; False where the connector has one by now.

        Nothing is kept unless the log has it too: a vendor that is not answered brings another secret the next time.
        Raises what `rotate_webhook_secret` does; UnavailableError at once where another holds the connector's secrets,
        such as while its token is renewed.
        """
        own = CommandContext(
            workspace_id=workspace_id,
            correlation_id=context.correlation_id,
            traceparent=context.traceparent,
        )
        async with self._vault.held(workspace_id, connector_id, is_at_once=True) as held:
            is_open = self._clock() < read_until(held.secrets.get(WEBHOOK_FIRST_UNTIL, ""))
            if held.secrets.get(WEBHOOK_SECRET) and not is_open:
                return False
            await held.keep(
                {
                    WEBHOOK_SECRET: secret,
                    WEBHOOK_UNREAD: secret if is_read else None,
                    WEBHOOK_FIRST_UNTIL: None,
                }
            )
            changed = connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=_names(held))
            await self._sources.decide(connector_id, own, lambda _: [changed])
        self._directory.forget(connector_id)
        return True

    async def let_begin_again(self, workspace_id: str, connector_id: str, secret: str) -> bool:
        """Whether a vendor may bring another secret in place of one that `take_first` kept; not if it is replaced by now.

        Raises UnavailableError.
        """
        async with self._vault.held(workspace_id, connector_id) as held:
            if held.secrets.get(WEBHOOK_SECRET) != secret:
                return False
            await held.keep({WEBHOOK_FIRST_UNTIL: _first_until(self._clock())})
        self._directory.forget(connector_id)
        return True

    def _given(self, sealed: str | None, workspace_id: str) -> str | None:
        if sealed is None:
            return None
        try:
            secret = self._vault.received(sealed, workspace_id=workspace_id, what=WHAT)
        except SealError as error:
            raise InvalidConnectorError({"secret": "cannot be opened; send it again"}) from error
        if len(secret) not in LENGTHS or _UNPRINTABLE.search(secret) or secret != secret.strip():
            raise InvalidConnectorError(
                {"secret": f"needs {LENGTHS.start} to {LENGTHS.stop - 1} printable characters of ASCII"}
            )
        return secret

    async def _replace(self, held: Held, secret: str, *, now: datetime) -> datetime | None:
        before = held.secrets.get(WEBHOOK_SECRET)
        if not before or before == secret:
            await held.keep({WEBHOOK_SECRET: secret, WEBHOOK_UNREAD: None})
            return None
        until = now + PREVIOUS_GOOD_FOR
        await held.keep(
            {WEBHOOK_SECRET: secret, WEBHOOK_PREVIOUS: write_previous(before, until), WEBHOOK_UNREAD: None}
        )
        return until

    async def _tell(self, connector_id: str, names: tuple[str, ...], context: CommandContext) -> int:
        """Say that the secrets are different; the sequence behind which rows show it."""
        changed = connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=names)
        async with self._vault.unless_gone(context.workspace_id, connector_id):
            _, sequence = await self._sources.decide(connector_id, context, lambda _: [changed])
        return sequence


def _first_until(now: datetime) -> str:
    return str(int((now + FIRST_GOOD_FOR).timestamp()))


def _names(held: Held) -> tuple[str, ...]:
    """What a connector's secrets are called, without those that only we know of."""
    return tuple(
        name for name in held.names if name not in (WEBHOOK_PREVIOUS, WEBHOOK_UNREAD, WEBHOOK_FIRST_UNTIL)
    )
