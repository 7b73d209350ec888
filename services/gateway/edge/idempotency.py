"""Requests with an Idempotency-Key run once, over all replicas; for a day a repeat gets the first answer again."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec
import psycopg
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from psycopg_pool import PoolTimeout
from runtime.database import Pool, tenant
from runtime.errors import AppError, UnavailableError, ValidationFailedError

from services.gateway.edge import _queries
from services.gateway.edge.cookies import SetCookie
from services.gateway.errors import IdempotencyConflictError, RequestRunningError
from services.gateway.identity.tokens import sign

log = structlog.get_logger()

KEPT_FOR = timedelta(hours=24)
LEASE = timedelta(seconds=60)
"""Longer than any request may run; after it the key of a process that died is free."""
RUN_SECONDS_MAX = 45.0
WAIT_SECONDS_MAX = 10.0
TURN_SECONDS_MAX = 25.0
"""How long somebody waits for others, who each hold it for a moment only; a client gives up after 30."""
ANSWER_BYTES_MAX = 256 * 1024
PURGE_SECONDS = 600.0
PURGED_AT_ONCE = 5_000
NOBODYS_WORKSPACE = "platform"
"""Stands for the workspace of a principal that has none."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_NONCE_BYTES = 12
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.25


class Reply(Struct, frozen=True):
    """An answer as it goes out."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[SetCookie, ...] = ()


class Identity(Struct, frozen=True, kw_only=True):
    """What makes two requests the same: who, what, where, under which key. The key itself is not stored."""

    workspace_id: str
    principal_id: str
    method: str
    path: str
    key: str

    @property
    def space(self) -> str:
        """The workspace that its row belongs to."""
        return self.workspace_id or NOBODYS_WORKSPACE

    @property
    def key_hash(self) -> bytes:
        """What its row is found by; no two identities share one."""
        parts = (self.principal_id, self.method, self.path, self.key)
        return sha256(b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)).digest()


def checked_key(header: str) -> str:
    """The value of an Idempotency-Key header. Raises ValidationFailedError."""
    if not _KEY.fullmatch(header):
        raise ValidationFailedError(
            "Idempotency-Key: 1 to 255 visible ASCII characters without spaces; a UUID is a good one.",
            details={"Idempotency-Key": "1 to 255 visible ASCII characters"},
        )
    return header


class _Claim(Struct, frozen=True):
    """The right to run a request."""

    identity: Identity
    claim_id: bytes


class Once:
    """Runs requests once. Answers are stored sealed with a key that only who sent the request can give again.

    secret: half of what answers are sealed with; the other half is the caller's key, of which we keep the hash.
    """

    def __init__(self, pool: Pool, *, secret: str, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._secret = secret
        self._clock = clock

    async def run(self, identity: Identity, *, content: bytes, work: Callable[[], Awaitable[Reply]]) -> Reply:
        """The answer of `work`, or of the request that had this identity before.

        content: query and body, which must be the same each time.
        Raises IdempotencyConflictError for other content or an answer that was not kept, RequestRunningError when the
        first one still runs after 10 s, and whatever `work` raises; then, as after any status but 2xx, the key is free.
        """
        found = await self._claim(identity, sha256(content).digest(), patience=WAIT_SECONDS_MAX)
        if isinstance(found, Reply):
            return found
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                reply = await work()
        except TimeoutError as error:
            await self._release(found)
            raise UnavailableError("The request took too long.") from error
        except BaseException:
            await self._release(found)
            raise
        if 200 <= reply.status < 300:
            await self._keep(found, reply)
        else:
            await self._release(found)
        return reply

    @asynccontextmanager
    async def alone(self, workspace_id: str, path: str, *, busy: AppError) -> AsyncIterator[None]:
        """Nobody else who asks for the same is inside at the same time, in any process.

        busy: what the caller refuses with, and this raises, when it does not come free within 25 s.
        """
        identity = Identity(workspace_id=workspace_id, principal_id="", method="", path=path, key="")
        try:
            claim = await self._claim(identity, b"", patience=TURN_SECONDS_MAX)
        except RequestRunningError as error:
            raise busy from error
        assert isinstance(claim, _Claim)
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                yield
        except TimeoutError as error:
            raise UnavailableError("The request took too long.") from error
        finally:
            await self._release(claim)

    async def purge(self) -> None:
        """Delete keys that are over, now and then, until cancelled."""
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            await self.purge_once()

    async def purge_once(self) -> int:
        """Delete the keys of all workspaces that are over; how many."""
        total = 0
        try:
            async with self._pool.connection() as conn:
                while True:
                    n = await _queries.purge_keys(conn, before=self._clock(), at_most=PURGED_AT_ONCE) or 0
                    total += n
                    if n < PURGED_AT_ONCE:
                        return total
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("idempotency.purge_failed", error=str(error))
            return total

    async def _claim(self, identity: Identity, request_hash: bytes, *, patience: float) -> _Claim | Reply:
        """The right to run it, or the answer it had; waits while another runs it, and takes over when that one died."""
        claim_id = secrets.token_bytes(16)
        pause, give_up_at = _FIRST_PAUSE_SECONDS, asyncio.get_running_loop().time() + patience
        while True:
            row = await self._look(identity, request_hash, claim_id)
            if row is not None:
                if row.claim_id == claim_id:
                    return _Claim(identity, claim_id)
                if row.request_hash != request_hash:
                    raise IdempotencyConflictError(
                        "This Idempotency-Key was used for another request. Send each request with a key of its own.",
                        details={"Idempotency-Key": "used with another body or query"},
                    )
                if row.status is not None:
                    return self._open(identity, row.status, row.answer)
            if asyncio.get_running_loop().time() >= give_up_at:
                raise RequestRunningError("The same request is still running. Try again in a moment.")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _look(
        self, identity: Identity, request_hash: bytes, claim_id: bytes
    ) -> _queries.ClaimKeyRow | None:
        now = self._clock()
        async with tenant(self._pool, identity.space) as conn:
            return await _queries.claim_key(
                conn,
                workspace_id=identity.space,
                key_hash=identity.key_hash,
                request_hash=request_hash,
                claim_id=claim_id,
                leased_until=now + LEASE,
                expires_at=now + KEPT_FOR,
                now=now,
            )

    async def _keep(self, claim: _Claim, reply: Reply) -> None:
        answer = self._seal(claim.identity, reply) if len(reply.body) <= ANSWER_BYTES_MAX else None
        identity = claim.identity
        try:
            async with tenant(self._pool, identity.space) as conn:
                await _queries.keep_answer(
                    conn,
                    workspace_id=identity.space,
                    key_hash=identity.key_hash,
                    claim_id=claim.claim_id,
                    status=reply.status,
                    answer=answer,
                )
        except (psycopg.Error, UnavailableError) as error:
            # It was carried out, so the caller gets the answer; a repeat after the lease would run again.
            log.warning("idempotency.answer_not_kept", error=str(error))

    async def _release(self, claim: _Claim) -> None:
        identity = claim.identity
        try:
            async with tenant(self._pool, identity.space) as conn:
                await _queries.release_key(
                    conn,
                    workspace_id=identity.space,
                    key_hash=identity.key_hash,
                    claim_id=claim.claim_id,
                )
        except (psycopg.Error, UnavailableError) as error:
            # The lease ends by itself; what went wrong before is what the caller should hear of.
            log.warning("idempotency.release_failed", error=str(error))

    def _seal(self, identity: Identity, reply: Reply) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(identity).encrypt(nonce, msgspec.msgpack.encode(reply), None)

    def _open(self, identity: Identity, status: int, answer: bytes | None) -> Reply:
        if answer is None:
            raise IdempotencyConflictError(
                f"The request was carried out with {status}, and its answer was too long to keep."
                " Read what it changed instead of repeating it.",
                details={"Idempotency-Key": "carried out; the answer is not kept"},
            )
        try:
            opened = self._cipher(identity).decrypt(answer[:_NONCE_BYTES], answer[_NONCE_BYTES:], None)
        except InvalidTag as error:
            raise IdempotencyConflictError(
                f"The request was carried out with {status}, and its answer can no longer be opened."
                " Read what it changed instead of repeating it.",
                details={"Idempotency-Key": "carried out; the answer is not kept"},
            ) from error
        reply = msgspec.msgpack.decode(opened, type=Reply)
        return msgspec.structs.replace(reply, headers={**reply.headers, "Idempotency-Replayed": "true"})

    def _cipher(self, identity: Identity) -> AESGCM:
        return AESGCM(
            sign(
                self._secret,
                "idempotency",
                identity.workspace_id,
                identity.principal_id,
                identity.method,
                identity.path,
                identity.key,
            )
        )
