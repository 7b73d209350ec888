"""Sessions: a subject token becomes a pair of tokens, a refresh token the next pair."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any

from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.database import Pool
from runtime.errors import ForbiddenError, UnavailableError

from services.gateway.errors import InvalidGrantError
from services.gateway.identity import _queries
from services.gateway.identity.jwks import Subject, Verifier
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.seed import USER_ID
from services.gateway.identity.tokens import (
    REFRESH_PREFIX,
    Principal,
    expiry,
    hash_refresh_token,
    issue_access_token,
)
from services.gateway.settings import GatewaySettings


class TokenPair(Struct, frozen=True, kw_only=True):
    """What a sign-in gives: who it is, and the two tokens."""

    principal: Principal
    access_token: str
    refresh_token: str


class Sessions:
    """Issues, rotates and revokes; everything it knows is in the schema identity."""

    def __init__(
        self,
        settings: GatewaySettings,
        pool: Pool,
        *,
        verifier: Verifier | None,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._verifier = verifier
        self._clock = clock
        self._rng = rng

    @property
    def _accepts_anybody(self) -> bool:
        return self._settings.use_mock and not self._settings.is_production

    async def exchange(self, subject_token: str, *, workspace_id: str | None) -> TokenPair:
        """Tokens for whom the subject token is about, in the workspace asked for or the first one.

        Raises InvalidGrantError for a token that is not good, ForbiddenError for somebody unknown here,
        UnavailableError when no issuer is configured.
        """
        subject = await self._subject(subject_token)
        async with self._pool.connection() as conn, conn.transaction():
            person = await self._person(conn, subject)
            await _queries.identify(conn, user_id=person.user_id, workspace_id="")
            memberships = await _queries.list_memberships(conn, user_id=person.user_id)
            for wanted in (m.workspace_id for m in memberships if workspace_id in (None, m.workspace_id)):
                role = await self._role(conn, workspace_id=wanted, user_id=person.user_id)
                if role is not None:
                    session_id = await self._begin(conn, workspace_id=wanted, user_id=person.user_id)
                    return await self._issue(
                        conn,
                        workspace_id=wanted,
                        user_id=person.user_id,
                        role=role,
                        session_id=session_id,
                    )
            raise ForbiddenError("You are not a member of that workspace, or it is suspended.")

    async def refresh(self, refresh_token: str) -> TokenPair:
        """The next pair of a session. A token that was used before ends the session: somebody has a copy.

        Raises InvalidGrantError.
        """
        token_hash = hash_refresh_token(refresh_token)
        async with self._pool.connection() as conn:
            async with conn.transaction():
                await _queries.present(conn, token_hash=token_hash, external_id="", email="")
                found = await _queries.get_refresh_token(conn, token_hash=token_hash)
            if found is None or found.expires_at <= self._clock():
                raise InvalidGrantError("The refresh token is not valid. Sign in again.")
            async with conn.transaction():
                pair = await self._rotate(conn, found, token_hash)
            if pair is None:
                raise InvalidGrantError(
                    "The refresh token was used before, so its session has ended. Sign in again."
                )
            return pair

    async def _rotate(
        self, conn: AsyncConnection[Any], found: _queries.GetRefreshTokenRow, token_hash: str
    ) -> TokenPair | None:
        """The next pair; None, and the session ended, when the token was used before."""
        now = self._clock()
        await _queries.identify(conn, user_id=found.user_id, workspace_id=found.workspace_id)
        used = await _queries.use_refresh_token(
            conn, workspace_id=found.workspace_id, token_hash=token_hash, used_at=now
        )
        role = await _queries.get_role(conn, workspace_id=found.workspace_id, user_id=found.user_id)
        if not used or role is None:
            await _queries.revoke_session(
                conn, workspace_id=found.workspace_id, session_id=found.session_id, revoked_at=now
            )
            return None
        await _queries.delete_expired_tokens(
            conn, workspace_id=found.workspace_id, before_at=now - timedelta(days=1)
        )
        return await self._issue(
            conn,
            workspace_id=found.workspace_id,
            user_id=found.user_id,
            role=role,
            session_id=found.session_id,
        )

    async def _begin(self, conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> str:
        """The id of a new session."""
        now = self._clock()
        session_id = new_id("ses_", now=now, rng=self._rng)
        await _queries.insert_session(
            conn,
            workspace_id=workspace_id,
            session_id=session_id,
            user_id=user_id,
            method="mock" if self._accepts_anybody else "exchange",
            user_agent="",
            ip="",
            created_at=now,
            expires_at=now + timedelta(days=self._settings.refresh_token_days),
        )
        return session_id

    async def _role(self, conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> str | None:
        """What the person is in the workspace; None also while that is suspended."""
        # A workspace's row is visible only to who names it.
        await _queries.identify(conn, user_id=user_id, workspace_id=workspace_id)
        return await _queries.get_role(conn, workspace_id=workspace_id, user_id=user_id)

    async def _subject(self, subject_token: str) -> Subject | None:
        """Whom the token is about; None: whoever was seeded, in mock mode outside of production only."""
        if self._accepts_anybody:
            return None
        if self._verifier is not None:
            return await self._verifier.verify(subject_token, now=self._clock())
        raise UnavailableError("No issuer is configured. Set CLERK_JWKS_URL.", retry_after=60)

    async def _person(self, conn: AsyncConnection[Any], subject: Subject | None) -> _queries.Person:
        if subject is None:
            await _queries.identify(conn, user_id=USER_ID, workspace_id="")
            person = await _queries.get_user(conn, user_id=USER_ID)
        else:
            # Only an address that the issuer has verified: anybody can claim another one.
            email = subject.email if subject.email is not None and subject.email_verified else ""
            await _queries.present(conn, token_hash="", external_id=subject.sub, email=email)
            person = await _queries.get_user_by_subject(conn, external_id=subject.sub)
            if person is None and email:
                person = await self._bind(conn, email, subject.sub)
        if person is None or person.status != "active":
            raise ForbiddenError("Nobody here is known by that identity.")
        return person

    async def _bind(self, conn: AsyncConnection[Any], email: str, external_id: str) -> _queries.Person | None:
        """The person with this address, bound to the subject unless bound to another one."""
        person = await _queries.get_user_by_email(conn, email=email)
        if person is None:
            return None
        await _queries.identify(conn, user_id=person.user_id, workspace_id="")
        bound = await _queries.bind_subject(
            conn, external_id=external_id, user_id=person.user_id, updated_at=self._clock()
        )
        return person if bound else None

    async def _issue(
        self, conn: AsyncConnection[Any], *, workspace_id: str, user_id: str, role: str, session_id: str
    ) -> TokenPair:
        now = self._clock()
        principal = Principal(
            workspace_id=workspace_id,
            user_id=user_id,
            role=role,
            scopes=ROLES[role].scopes,
            session_id=session_id,
            expires_at=expiry(now, seconds=self._settings.access_token_seconds),
        )
        # Not from the generator that is passed in: a secret must not be reproducible.
        refresh_token = REFRESH_PREFIX + token_urlsafe(32)
        await _queries.identify(conn, user_id=user_id, workspace_id=workspace_id)
        await _queries.insert_refresh_token(
            conn,
            workspace_id=workspace_id,
            token_hash=hash_refresh_token(refresh_token),
            session_id=session_id,
            user_id=user_id,
            issued_at=now,
            expires_at=now + timedelta(days=self._settings.refresh_token_days),
        )
        access_token = issue_access_token(principal, secret=self._settings.jwt_secret, now=now)
        return TokenPair(principal=principal, access_token=access_token, refresh_token=refresh_token)
