"""The way of a letter: sealed into the queue with the deed that it tells, sent once that is committed, again on failure."""

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import psycopg
import structlog
from contracts import new_id
from psycopg import AsyncConnection
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError
from runtime.sealing import Place, SealError

from services.gateway.identity.people import _queries
from services.gateway.identity.vault.keys import Vault
from services.gateway.mail import Letter, MailError, Transport

log = structlog.get_logger()

_ADDRESS = re.compile(r"[^\s<>\"]+@[^\s<>\"]+")

ATTEMPTS_MAX = 8
FIRST_PAUSE_SECONDS = 30.0
"""Doubled after each failure: the last of eight attempts is an hour after the first."""
LEASE_SECONDS = 120.0
"""How long one gateway has a letter to itself; longer than a mail server may take."""
LOOK_SECONDS = 15.0
"""How often the queue is looked at without being told, for letters of gateways that are gone."""


class Postbox:
    """Takes letters and sees them delivered. A crash between the mail server's yes and ours sends a letter twice."""

    def __init__(
        self,
        pool: Pool,
        vault: Vault,
        transport: Transport | None,
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._told = asyncio.Event()

    @property
    def delivery(self) -> Literal["queued", "link"]:
        """How an invitation begins: on its way by mail, or as a link to be handed over because there is no mail."""
        return "link" if self._transport is None else "queued"

    async def put(
        self, conn: AsyncConnection[Any], letter: Letter, *, workspace_id: str, invitation_id: str
    ) -> None:
        """Queue a letter in the caller's transaction; call `wake` once that is committed."""
        now = self._clock()
        mail_id = new_id("mail_", now=now, rng=self._rng)
        sealed = await self._vault.seal(
            conn, msgspec.json.encode(letter).decode(), owner_id=workspace_id, place=_place(mail_id)
        )
        await _queries.insert_mail(
            conn,
            workspace_id=workspace_id,
            mail_id=mail_id,
            invitation_id=invitation_id,
            message_sealed=sealed,
            created_at=now,
        )

    def wake(self) -> None:
        """Look at the queue now."""
        self._told.set()

    async def run(self) -> None:
        """Send what is due until cancelled; gateways share the work, none sends what another has taken."""
        if self._transport is None:
            await asyncio.Event().wait()
        while True:
            self._told.clear()
            try:
                while await self.send_one():
                    pass
            except (UnavailableError, psycopg.Error) as error:
                log.warning("mail.queue_unreachable", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._told.wait()

    async def send_one(self) -> bool:
        """Try one letter that is due; False when none is."""
        if self._transport is None:
            return False
        now = self._clock()
        async with self._pool.connection() as conn:
            taken = await _queries.take_mail(conn, now=now, until=now + timedelta(seconds=LEASE_SECONDS))
        if taken is None:
            return False
        try:
            async with tenant(self._pool, taken.workspace_id) as conn:
                opened = await self._vault.open(
                    conn, taken.message_sealed, owner_id=taken.workspace_id, place=_place(taken.mail_id)
                )
            letter = msgspec.json.decode(opened, type=Letter)
            await self._transport.send(letter, message_id=taken.mail_id, now=now)
        except SealError:
            await self._fail(taken, "The message cannot be opened: its key is gone. Resend the invitation.")
        except MailError as error:
            if error.is_final or taken.n_attempts >= ATTEMPTS_MAX:
                await self._fail(taken, str(error))
            else:
                await self._postpone(taken, str(error))
        else:
            await self._settle(taken, delivery="sent", reason=None)
            log.info("mail.sent", workspace_id=taken.workspace_id, mail_id=taken.mail_id)
        return True

    async def _settle(self, taken: _queries.TakeMailRow, *, delivery: str, reason: str | None) -> None:
        async with tenant(self._pool, taken.workspace_id) as conn:
            await _queries.lock_invitation_of_mail(
                conn, workspace_id=taken.workspace_id, mail_id=taken.mail_id
            )
            await _queries.settle_mail(
                conn,
                workspace_id=taken.workspace_id,
                mail_id=taken.mail_id,
                delivery=delivery,
                delivery_error=reason,
            )

    async def _fail(self, taken: _queries.TakeMailRow, reason: str) -> None:
        await self._settle(taken, delivery="failed", reason=reason)
        log.warning(
            "mail.failed", workspace_id=taken.workspace_id, mail_id=taken.mail_id, reason=_anonymous(reason)
        )

    async def _postpone(self, taken: _queries.TakeMailRow, reason: str) -> None:
        pause = timedelta(seconds=FIRST_PAUSE_SECONDS * 2 ** (taken.n_attempts - 1))
        async with tenant(self._pool, taken.workspace_id) as conn:
            await _queries.lock_invitation_of_mail(
                conn, workspace_id=taken.workspace_id, mail_id=taken.mail_id
            )
            await _queries.postpone_mail(
                conn,
                next_attempt_at=self._clock() + pause,
                workspace_id=taken.workspace_id,
                mail_id=taken.mail_id,
            )
            await _queries.note_mail_error(
                conn, delivery_error=reason, workspace_id=taken.workspace_id, mail_id=taken.mail_id
            )
        log.warning(
            "mail.postponed",
            workspace_id=taken.workspace_id,
            mail_id=taken.mail_id,
            reason=_anonymous(reason),
        )


def _anonymous(reason: str) -> str:
    """What a mail server said, for the log: without the addresses that it likes to repeat."""
    return _ADDRESS.sub("…", reason)


def _place(mail_id: str) -> Place:
    return Place("mail_queue", mail_id, "message_sealed")
