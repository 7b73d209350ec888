"""One attempt at a webhook: sealed secrets opened, the body signed and posted, the outcome written down."""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.database import Pool, tenant
from runtime.outbound import Outbound, OutboundError, UnmakeableError
from runtime.sealing import Place, SealError

from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.messages import Envelope, headers_of, new_secret

log = structlog.get_logger("gateway.webhooks")

SECONDS: Final = 10.0
"""From the look-up of the name to the last byte of the answer that is read."""
ANSWER_BYTES: Final = 1024
RETRY_SECONDS: Final = (5, 30, 120, 600, 1800, 7200, 21_600, 43_200)
"""Waits behind failed attempts: the ninth and last is 20.7 hours behind the first."""
PAUSE_SECONDS_MAX: Final = 600
"""The longest that a webhook rests as a whole while it fails: from 5 s, doubled at each failure."""
NOTHING_FOR: Final = timedelta(hours=20)
"""A webhook that took nothing for so long when an event is given up is not sent to any more."""
PENDING_MAX: Final = 50_000
"""Deliveries that wait for one webhook, of what happened since it was last switched on; with more it is switched off."""
BOTH_SIGN_FOR: Final = timedelta(hours=24)
GONE: Final = 410
UNSIGNED: Final = "Its secret cannot be opened, so nothing can be signed: make another webhook."


class Attempt(Struct, frozen=True):
    """How one call went.

    response_status: None: there was no answer. excerpt: the answer's first ANSWER_BYTES. error: why there was none.
    is_ours: the receiver was not asked, so it counts for the delivery, and not against the webhook.
    is_called: false: nothing may be sent there, or nothing can be signed.
    """

    response_status: int | None
    excerpt: str | None
    error: str | None
    duration_ms: int
    is_ours: bool = False
    is_called: bool = True

    @property
    def is_good(self) -> bool:
        """Whether the receiver has taken it."""
        return self.response_status is not None and 200 <= self.response_status < 300


class Receiver(Struct, frozen=True):
    """A webhook as far as sending goes.

    secrets: what signs now, the present one first; none: they cannot be opened, so that nothing can be sent.
    """

    workspace_id: str
    webhook_id: str
    url: str
    connector_id: str | None
    is_active: bool
    secrets: tuple[str, ...]


class Sender:
    """Sends to webhooks, with whatever is to be sent given."""

    def __init__(
        self, people: Pool, vault: Vault, outbound: Outbound, *, clock: Callable[[], datetime]
    ) -> None:
        self._people = people
        self._vault = vault
        self._outbound = outbound
        self._clock = clock

    async def seal_new(
        self, conn: AsyncConnection[Any], workspace_id: str, webhook_id: str
    ) -> tuple[str, str]:
        """A new secret, and how it is stored."""
        secret = new_secret()
        sealed = await self._vault.seal(
            conn, secret, owner_id=workspace_id, place=_place(webhook_id, "secret_sealed")
        )
        return secret, sealed

    async def rotate(
        self, conn: AsyncConnection[Any], workspace_id: str, webhook_id: str
    ) -> tuple[str, datetime] | None:
        """Give a webhook another secret: that, and until when the one before signs too. None: there is no such webhook."""
        now = self._clock()
        current = await _queries.take_webhook_secret(conn, workspace_id=workspace_id, webhook_id=webhook_id)
        if current is None:
            return None
        before = await self._vault.open(
            conn, current, owner_id=workspace_id, place=_place(webhook_id, "secret_sealed")
        )
        secret, sealed = await self.seal_new(conn, workspace_id, webhook_id)
        until = now + BOTH_SIGN_FOR
        await _queries.change_webhook_secret(
            conn,
            workspace_id=workspace_id,
            webhook_id=webhook_id,
            secret_sealed=sealed,
            previous_secret_sealed=await self._vault.seal(
                conn, before, owner_id=workspace_id, place=_place(webhook_id, "previous_secret_sealed")
            ),
            previous_until=until,
            updated_at=now,
        )
        return secret, until

    async def find(self, workspace_id: str, webhook_id: str) -> Receiver | None:
        """Whom to send to; None: it is gone."""
        async with tenant(self._people, workspace_id) as conn:
            target = await _queries.get_target(conn, workspace_id=workspace_id, webhook_id=webhook_id)
            if target is None:
                return None
            secrets: list[str] = []
            before, until = target.previous_secret_sealed, target.previous_until
            try:
                secrets.append(await self._open(conn, target, "secret_sealed", target.secret_sealed))
                if before is not None and until is not None and until > self._clock():
                    secrets.append(await self._open(conn, target, "previous_secret_sealed", before))
            except SealError as error:
                log.warning("webhook.secret_sealed", webhook_id=webhook_id, error=repr(error))
        return Receiver(
            workspace_id, webhook_id, target.url, target.connector_id, target.is_active, tuple(secrets)
        )

    async def check(self, workspace_id: str, url: str) -> None:
        """Raise OutboundError when nothing may be sent there; a name that is not known now may be known later."""
        try:
            await self._outbound.of(workspace_id).check(url)
        except OutboundError as error:
            if error.is_refused:
                raise

    async def post(self, receiver: Receiver, envelope: Envelope, *, delivery_id: str) -> Attempt:
        """Send one body, signed; raises nothing that a receiver or the network can cause."""
        if not receiver.secrets:
            return Attempt(None, None, UNSIGNED, 0, is_called=False)
        body = envelope.body()
        headers = headers_of(
            body,
            event_id=envelope.id,
            event_type=envelope.type,
            delivery_id=delivery_id,
            at=self._clock(),
            secrets=receiver.secrets,
        )
        began = perf_counter()
        try:
            answer = await self._outbound.of(receiver.workspace_id).send(
                "POST", receiver.url, headers=headers, content=body, seconds=SECONDS, body_bytes=ANSWER_BYTES
            )
        except OutboundError as error:
            is_called = not (error.is_refused or isinstance(error, UnmakeableError))
            return Attempt(None, None, str(error), _since(began), is_called=is_called)
        # PostgreSQL's text has no NUL.
        excerpt = answer.body.decode(errors="replace").replace("\x00", "\ufffd")
        return Attempt(answer.status, excerpt, None, _since(began))

    async def note(
        self, receiver: Receiver, delivery_id: str, attempt: Attempt, *, n_before: int, is_test: bool = False
    ) -> None:
        """Write down how an attempt went, and what follows: again later, no more, or no more to this webhook.

        n_before: attempts at this delivery before this one. A failure says nothing when another has ended it meanwhile.
        """
        now = self._clock()
        status: Literal["pending", "succeeded", "failed"] = "failed"
        again_at = None
        if attempt.is_good:
            status = "succeeded"
        elif not is_test and attempt.response_status != GONE and n_before < len(RETRY_SECONDS):
            status, again_at = "pending", now + timedelta(seconds=RETRY_SECONDS[n_before])
        of = {"workspace_id": receiver.workspace_id, "webhook_id": receiver.webhook_id}
        async with tenant(self._people, receiver.workspace_id) as conn:
            # The webhook first, as its deletion locks them: the other way round they wait for each other.
            if attempt.is_good:
                await _queries.note_delivered(conn, now_at=now, **of)
            else:
                await _queries.lock_webhook(conn, **of)
            n_noted = await _queries.note_attempt(
                conn,
                status=status,
                next_attempt_at=again_at,
                last_attempt_at=now,
                response_status=attempt.response_status,
                response_excerpt=attempt.excerpt,
                error=attempt.error,
                duration_ms=attempt.duration_ms,
                workspace_id=receiver.workspace_id,
                delivery_id=delivery_id,
            )
            if attempt.is_good or is_test or attempt.is_ours or not n_noted:
                return
            await _queries.note_failure(conn, now_at=now, **of)
            reason = await self._reason_to_stop(conn, receiver, attempt, is_over=status == "failed")
            if reason is not None and await _queries.disable_webhook(conn, reason=reason, now_at=now, **of):
                await _queries.audit_disabled(conn, webhook_id=receiver.webhook_id, reason=reason)
                log.warning("webhook.disabled", webhook_id=receiver.webhook_id, reason=reason)

    async def _reason_to_stop(
        self, conn: AsyncConnection[Any], receiver: Receiver, attempt: Attempt, *, is_over: bool
    ) -> str | None:
        if attempt.response_status == GONE:
            return "gone"
        if not is_over:
            return None
        target = await _queries.get_target(
            conn, workspace_id=receiver.workspace_id, webhook_id=receiver.webhook_id
        )
        since = None if target is None else target.failing_since
        return "nothing_taken" if since is not None and self._clock() - since >= NOTHING_FOR else None

    async def hold_turn(self, taken: _queries.Turn, *, until: datetime) -> _queries.Turn | None:
        """The same turn, ours until then; None: another has it by now, or the webhook is gone."""
        async with tenant(self._people, taken.workspace_id) as conn:
            n_held = await _queries.hold_turn(
                conn,
                until=until,
                workspace_id=taken.workspace_id,
                webhook_id=taken.webhook_id,
                leased_until=taken.leased_until,
            )
        return msgspec.structs.replace(taken, leased_until=until) if n_held else None

    async def end_turn(self, taken: _queries.Turn) -> None:
        """Let the next one have a turn at a webhook: at once, or after a rest that grows while it fails."""
        async with tenant(self._people, taken.workspace_id) as conn:
            target = await _queries.get_target(
                conn, workspace_id=taken.workspace_id, webhook_id=taken.webhook_id
            )
            if target is None:
                return
            rest = min(RETRY_SECONDS[0] * 2 ** min(target.n_failures - 1, 10), PAUSE_SECONDS_MAX)
            pause = timedelta(seconds=rest if target.n_failures else 0)
            await _queries.end_turn(
                conn,
                next_turn_at=self._clock() + pause,
                workspace_id=taken.workspace_id,
                webhook_id=taken.webhook_id,
                leased_until=taken.leased_until,
            )

    async def _open(
        self, conn: AsyncConnection[Any], target: _queries.Target, column: str, sealed: str
    ) -> str:
        return await self._vault.open(
            conn, sealed, owner_id=target.workspace_id, place=_place(target.webhook_id, column)
        )


def _place(webhook_id: str, column: str) -> Place:
    return Place("webhooks", webhook_id, column)


def _since(began: float) -> int:
    return round((perf_counter() - began) * 1000)
