"""Decides of each request whom its token speaks for, by the rows as they are now."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from hashlib import sha256
from time import monotonic

import msgspec
import psycopg
import structlog
from msgspec import Struct
from psycopg import AsyncConnection, sql
from psycopg_pool import PoolTimeout
from runtime.database import Pool, on_working_connection
from runtime.errors import ForbiddenError, UnauthorizedError

from services.gateway.identity.access import _queries
from services.gateway.identity.access.decisions import Decisions
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.tenancy.keys import PROVISION_PREFIX, platform
from services.gateway.identity.tokens import (
    API_TOKEN_PREFIXES,
    FOREVER,
    Claimed,
    Principal,
    hash_token,
    read_access_token,
)
from services.gateway.settings import GatewaySettings

log = structlog.get_logger()

CHANGES = "identity_changed"
"""The channel that the triggers of the schema identity tell of changed rows on."""
PROBE_SECONDS = 10.0
RECONNECT_SECONDS = 0.5
MARK_SECONDS = 30.0
USED_KEPT_MAX = 100_000


class _Used(Struct, frozen=True):
    """That a session or a token was used."""

    workspace_id: str
    user_id: str
    used_id: str
    used_at: datetime


class Authority:
    """Token → principal. Run `listen` and `mark` beside it: without `listen` every request reads the rows."""

    def __init__(self, settings: GatewaySettings, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._decisions = Decisions()
        self._used: dict[str, _Used] = {}
        self._hearers: list[Callable[[], None]] = []

    @property
    def revision(self) -> int:
        """Grows whenever somebody's rights may have changed; equal: whoever was let in still is."""
        return self._decisions.revision

    @property
    def is_informed(self) -> bool:
        """Whether changes are heard, so that decisions are kept."""
        return self._decisions.is_informed

    @property
    def heard_revision(self) -> int | None:
        """The revision, while changes are heard; None: they may have been missed."""
        return self._decisions.revision if self._decisions.is_informed else None

    async def principal(self, token: str) -> Principal:
        """Whom the token speaks for now.

        Raises UnauthorizedError for a token that is wrong, expired or revoked, ForbiddenError for one whose owner,
        workspace or organization is suspended, UnavailableError when the rows cannot be read.
        """
        if token.startswith(PROVISION_PREFIX):
            return platform(token, hashes=self._settings.causeloop_provision_key_hashes)
        now = self._clock()
        return await self._decided(_key_of(token), lambda: self._decide(token, now), now)

    async def claimed(self, claimed: Claimed) -> Principal:
        """Whom a session or an API token, of which something that we signed tells, speaks for now. Raises like `principal`."""
        # Under a key that no token has, whatever somebody writes into one.
        key = sha256(b"claimed " + msgspec.json.encode(claimed)).digest()
        return await self._decided(key, lambda: self._standing_of(claimed), self._clock())

    def is_known(self, token: str) -> bool:
        """Whether the token was good when it was last looked at, and nothing is known to have changed since."""
        return self._decisions.has(_key_of(token))

    def forget(self, *subjects: str) -> None:
        """Look at the rows again for these organizations, workspaces, people, machines, sessions or tokens.

        The triggers tell every process of what was committed; who commits says it here as well, for its own next request.
        """
        self._decisions.forget(subjects)
        self._tell()

    def on_change(self, hear: Callable[[], None]) -> None:
        """Have this called whenever somebody's rights may have changed."""
        self._hearers.append(hear)

    async def listen(self) -> None:
        """Hear of changed rows until cancelled; while they cannot be heard, nothing is kept."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("access.changes_unheard", error=str(error))
            finally:
                self._decisions.distrust()
                self._tell()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        conn = await AsyncConnection.connect(
            self._settings.database_url,
            autocommit=True,
            connect_timeout=5,
            application_name="causeloop-identity-changes",
        )
        async with conn:
            await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANGES)))
            while True:
                # Only what comes back proves that changes do: a connection may be dead, or a pooler in between.
                probe = f"probe:{secrets.token_hex(8)}"
                async with asyncio.timeout(PROBE_SECONDS):
                    await conn.execute("SELECT pg_notify(%s, %s)", (CHANGES, probe))
                is_proven = False
                async for change in conn.notifies(timeout=PROBE_SECONDS):
                    if change.payload == probe:
                        is_proven = True
                        self._decisions.inform()
                    elif not change.payload.startswith("probe:"):
                        self._decisions.forget((change.payload,))
                        self._tell()
                if not is_proven:
                    raise TimeoutError("a notification to ourselves did not come back")

    async def mark(self) -> None:
        """Write down now and then what was used, until cancelled."""
        while True:
            await asyncio.sleep(MARK_SECONDS)
            await self.mark_used()

    async def mark_used(self) -> None:
        """Write down when sessions and tokens were used last; what cannot be written now is tried again."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._pool.connection() as conn:
                await _queries.mark_used(conn, used=msgspec.json.encode(list(used.values())).decode())
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("access.use_not_marked", error=str(error))
            self._used = {**used, **self._used}

    def _tell(self) -> None:
        for hear in self._hearers:
            hear()

    async def _decided(
        self, key: bytes, decide: Callable[[], Awaitable[Principal]], now: datetime
    ) -> Principal:
        """What is decided of what was shown, as long as nothing that it depends on has changed."""
        found = self._decisions.get(key, at=monotonic())
        if found is None:
            revision = self._decisions.revision
            found = await decide()
            self._decisions.keep(key, found, revision=revision, at=monotonic())
        if found.expires_at <= now:
            raise UnauthorizedError("The token has expired.")
        self._note(found, now)
        return found

    def _note(self, principal: Principal, now: datetime) -> None:
        used_id = principal.session_id or principal.token_id
        if used_id in self._used or len(self._used) < USED_KEPT_MAX:
            self._used[used_id] = _Used(principal.workspace_id, principal.user_id, used_id, now)

    async def _decide(self, token: str, now: datetime) -> Principal:
        if token.startswith(tuple(API_TOKEN_PREFIXES.values())):
            return await on_working_connection(
                self._pool, lambda: self._api_token(token_hash=hash_token(token), token_id="")
            )
        return await self._standing_of(read_access_token(token, secrets=self._settings.jwt_secrets, now=now))

    async def _standing_of(self, claimed: Claimed) -> Principal:
        if claimed.token_id:
            return await on_working_connection(
                self._pool, lambda: self._api_token(token_hash="", token_id=claimed.token_id)
            )
        return await on_working_connection(self._pool, lambda: self._session(claimed))

    async def _session(self, claimed: Claimed) -> Principal:
        """The session that an access token names, with the role of its person as it is now."""
        async with self._pool.connection() as conn:
            standing = await _queries.get_session_standing(
                conn,
                workspace_id=claimed.workspace_id,
                user_id=claimed.user_id,
                session_id=claimed.session_id,
            )
        if standing is None:
            raise UnauthorizedError("The session has ended. Sign in again.")
        _refuse_suspended(is_active=standing.is_active)
        return Principal(
            workspace_id=standing.workspace_id,
            organization_id=standing.organization_id,
            user_id=standing.principal_id,
            role=standing.role,
            # None until the second factor is given, so that whoever forgets to ask for it opens nothing.
            scopes=frozenset() if standing.owes_second_factor else ROLES[standing.role].scopes,
            kind="session",
            session_id=claimed.session_id,
            expires_at=min(claimed.expires_at or FOREVER, standing.expires_at),
            requests_per_minute=standing.requests_per_minute,
            owes_second_factor=standing.owes_second_factor,
            is_vouched=standing.is_vouched,
        )

    async def _api_token(self, *, token_hash: str, token_id: str) -> Principal:
        """The person or the machine whose secret this is."""
        async with self._pool.connection() as conn:
            standing = await _queries.get_token_standing(conn, token_hash=token_hash, token_id=token_id)
        if standing is None:
            raise UnauthorizedError("The API token is unknown or revoked.")
        _refuse_suspended(is_active=standing.is_active)
        given = frozenset(standing.scopes)
        is_personal = standing.role is not None
        return Principal(
            workspace_id=standing.workspace_id,
            organization_id=standing.organization_id,
            user_id=standing.principal_id,
            role=standing.role or "",
            scopes=given & ROLES[standing.role].scopes if standing.role is not None else given,
            kind="personal" if is_personal else "service",
            session_id="",
            token_id=standing.token_id,
            expires_at=standing.expires_at or FOREVER,
            requests_per_minute=standing.requests_per_minute,
        )


def _key_of(token: str) -> bytes:
    return sha256(b"token " + token.encode()).digest()


def bearer(headers: Mapping[str, str]) -> str:
    """The token of a request's Authorization header. Raises UnauthorizedError when there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise UnauthorizedError("Send a token: Authorization: Bearer <token>.")
    return token


def _refuse_suspended(*, is_active: bool) -> None:
    if not is_active:
        raise ForbiddenError("Your access to this workspace is suspended.")
