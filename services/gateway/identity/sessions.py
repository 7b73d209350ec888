"""Sessions: a subject token becomes a pair of tokens, a refresh token the next pair."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.database import Pool
from runtime.errors import ForbiddenError, StateConflictError, UnavailableError

from services.gateway.errors import InvalidGrantError, SessionEndedError, SsoRequiredError
from services.gateway.identity import _queries
from services.gateway.identity.access import _queries as access
from services.gateway.identity.jwks import Subject
from services.gateway.identity.people.invitations import accept
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.seed import USER_ID
from services.gateway.identity.tokens import (
    REFRESH_PREFIX,
    Principal,
    expiry,
    hash_token,
    issue_access_token,
    new_secret,
)
from services.gateway.settings import GatewaySettings

Method: TypeAlias = Literal["exchange", "oidc", "mock"]

_FORGET_AFTER = timedelta(days=1)
_FORGET_SESSIONS_AFTER = timedelta(days=30)


class Checks(Protocol):
    """Checks subject tokens."""

    async def verify(self, token: str, *, now: datetime) -> Subject:
        """Whom the token is about. Raises InvalidGrantError, UnavailableError."""


class Device(Struct, frozen=True):
    """Where somebody signs in from."""

    ip: str = ""
    user_agent: str = ""


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
        verifier: Checks | None,
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

    async def exchange(
        self,
        subject_token: str,
        *,
        workspace_id: str | None,
        device: Device | None = None,
        invitation_token: str | None = None,
    ) -> TokenPair:
        """Tokens for whom the subject token is about, in the workspace asked for or the first one.

        Raises like `enter`, InvalidGrantError for a token that is not good, UnavailableError when no issuer is
        configured.
        """
        subject = await self._subject(subject_token)
        method: Method = "mock" if self._accepts_anybody else "exchange"
        return await self.enter(
            subject,
            workspace_id=workspace_id,
            method=method,
            device=device or Device(),
            invitation_token=invitation_token,
        )

    async def enter(
        self,
        subject: Subject,
        *,
        workspace_id: str | None,
        method: Method,
        device: Device,
        invitation_token: str | None = None,
    ) -> TokenPair:
        """Begin a session for whom the platform's issuer vouches for, in the workspace asked for or the first one.

        invitation_token: of an invitation that is accepted first; the session is in the workspace that it is to.
        Raises ForbiddenError for somebody unknown here, SsoRequiredError for a workspace that has its members sign in
        through its own provider; and what accepting an invitation raises.
        """
        async with self._pool.connection() as conn, conn.transaction():
            person = await self._person(conn, subject, ip=device.ip)
            if invitation_token is not None:
                joined = await accept(
                    conn, invitation_token, user_id=person.user_id, now=self._clock(), ip=device.ip
                )
                workspace_id = joined.workspace_id
            await _queries.identify(conn, user_id=person.user_id, workspace_id="")
            memberships = await _queries.list_memberships(conn, user_id=person.user_id)
            door: str | None = None
            for wanted in (m.workspace_id for m in memberships if workspace_id in (None, m.workspace_id)):
                # A workspace's row is visible only to who names it.
                await _queries.identify(conn, user_id=person.user_id, workspace_id=wanted)
                seat = await _queries.get_seat(conn, workspace_id=wanted, user_id=person.user_id)
                if seat is None:
                    continue
                if seat.sso_enforced:
                    door = door or await _queries.get_door(conn, workspace_id=wanted) or ""
                    continue
                return await self.start(
                    conn,
                    workspace_id=wanted,
                    user_id=person.user_id,
                    method=method,
                    device=device,
                )
        if door is not None:
            raise SsoRequiredError(
                "That workspace has its members sign in through its own identity provider.",
                details={"connection_id": door, "login": f"/v1/auth/login?connection={door}"},
            )
        raise ForbiddenError("You are not a member of that workspace, or it is suspended.")

    async def start(
        self,
        conn: AsyncConnection[Any],
        *,
        workspace_id: str,
        user_id: str,
        method: Method,
        device: Device,
        connection_id: str | None = None,
    ) -> TokenPair:
        """Begin a session of somebody whose identity has been made sure of, in the transaction of `conn`.

        connection_id: the workspace's own provider that vouched for them.
        Raises ForbiddenError when they are no active member of the workspace, or it is suspended.
        """
        await _queries.identify(conn, user_id=user_id, workspace_id=workspace_id)
        seat = await _queries.get_seat(conn, workspace_id=workspace_id, user_id=user_id)
        if seat is None:
            raise ForbiddenError("You are not a member of that workspace, or it is suspended.")
        now = self._clock()
        session_id = new_id("ses_", now=now, rng=self._rng)
        await _queries.insert_session(
            conn,
            workspace_id=workspace_id,
            session_id=session_id,
            user_id=user_id,
            method=method,
            connection_id=connection_id,
            user_agent=device.user_agent,
            ip=device.ip,
            created_at=now,
            expires_at=now + self._lifetime,
        )
        await _queries.audit(
            conn,
            actor=user_id,
            action="session.started",
            category="login",
            target_type="session",
            target_id=session_id,
            metadata=msgspec.json.encode({"method": method}).decode(),
            ip=device.ip or None,
        )
        return await self._issue(
            conn, workspace_id=workspace_id, user_id=user_id, role=seat.role, session_id=session_id
        )

    async def refresh(self, refresh_token: str, *, device: Device | None = None) -> TokenPair:
        """The next pair of a session. A token that was used before ends the session: somebody has a copy.

        Raises InvalidGrantError, SessionEndedError; ForbiddenError while access is suspended, which leaves the token good.
        """
        token_hash = hash_token(refresh_token)
        async with self._pool.connection() as conn:
            async with conn.transaction():
                await _queries.present(conn, token_hash=token_hash, external_id="", email="")
                found = await _queries.get_refresh_token(conn, token_hash=token_hash)
            if found is None or found.expires_at <= self._clock():
                raise InvalidGrantError("The refresh token is not valid. Sign in again.")
            async with conn.transaction():
                pair = await self._rotate(conn, found, token_hash, device or Device())
            if pair is None:
                raise SessionEndedError(found.session_id)
            return pair

    async def bind(self, principal: Principal, subject_token: str, *, ip: str = "") -> None:
        """Bind the signed-in person to whom the issuer's token is about, and take over the address it vouches for.

        In mock mode there is no issuer to bind anybody to.
        Raises ForbiddenError for a session that a workspace's own provider vouched for, whatever route it came by; InvalidGrantError for a token that is not good, StateConflictError when the person is bound to
        somebody else there, or that one to another person, UnavailableError when no issuer is configured.
        """
        if principal.is_vouched:
            raise ForbiddenError(
                "Only a session of the platform's provider may bind another identity to you."
            )
        if self._accepts_anybody:
            return
        subject = await self._subject(subject_token)
        async with self._pool.connection() as conn, conn.transaction():
            if self._is_of_provider(subject):
                await self._bind_to_provider(conn, principal.user_id, subject, ip=ip)
            else:
                await self._bind_to_issuer(conn, principal.user_id, subject, ip=ip)
            person = await _queries.get_user(conn, user_id=principal.user_id)
            if person is not None:
                await self._mirror(conn, person, subject, ip=ip)

    async def _bind_to_issuer(
        self, conn: AsyncConnection[Any], user_id: str, subject: Subject, *, ip: str
    ) -> None:
        await _queries.present(conn, token_hash="", external_id=subject.sub, email="")
        bound = await _queries.get_user_by_subject(conn, external_id=subject.sub)
        await _queries.identify(conn, user_id=user_id, workspace_id="")
        if bound is None:
            is_new = await _queries.bind_subject(
                conn, external_id=subject.sub, user_id=user_id, updated_at=self._clock()
            )
            if not is_new:
                raise StateConflictError("You are bound to another identity of that issuer.")
            await _write_binding(conn, subject, ip=ip)
        elif bound.user_id != user_id:
            raise StateConflictError("That identity is bound to another person.")

    async def _bind_to_provider(
        self, conn: AsyncConnection[Any], user_id: str, subject: Subject, *, ip: str
    ) -> None:
        await _queries.identify(conn, user_id=user_id, workspace_id="")
        identity = {"issuer": subject.iss, "subject": subject.sub, "user_id": user_id}
        is_new = await _queries.bind_platform_subject(conn, **identity)
        if is_new:
            await _write_binding(conn, subject, ip=ip)
        elif not await _queries.is_platform_subject(conn, **identity):
            raise StateConflictError("You, or that identity, are bound otherwise already.")

    def _is_of_provider(self, subject: Subject) -> bool:
        """Whether the subject is of OIDC_ISSUER; its names mean nothing to the issuer behind CLERK_JWKS_URL."""
        issuer = self._settings.oidc_issuer
        return bool(issuer) and subject.iss.rstrip("/") == issuer.rstrip("/")

    @property
    def _lifetime(self) -> timedelta:
        return timedelta(days=self._settings.refresh_token_days)

    async def _rotate(
        self,
        conn: AsyncConnection[Any],
        found: _queries.GetRefreshTokenRow,
        token_hash: str,
        device: Device,
    ) -> TokenPair | None:
        """The next pair; None, and the session ended, when the token was used before or nobody may come in by it.

        Raises ForbiddenError, and so leaves all as it was, while the person, member, workspace or client is suspended.
        """
        now = self._clock()
        workspace_id, session_id = found.workspace_id, found.session_id
        await _queries.identify(conn, user_id=found.user_id, workspace_id=workspace_id)
        is_first_use = await _queries.use_refresh_token(
            conn, workspace_id=workspace_id, token_hash=token_hash, used_at=now
        )
        seat = await _queries.get_seat(conn, workspace_id=workspace_id, user_id=found.user_id)
        if not is_first_use:
            await self._end(conn, found, reason="refresh_token_reused", device=device)
            return None
        if seat is None:
            standing = await access.get_session_standing(
                conn, workspace_id=workspace_id, user_id=found.user_id, session_id=session_id
            )
            if standing is not None:
                raise ForbiddenError("Your access to this workspace is suspended.")
            await self._end(conn, found, reason="no_access", device=device)
            return None
        connection_id = await _queries.prolong_session(
            conn,
            workspace_id=workspace_id,
            session_id=session_id,
            seen_at=now,
            expires_at=now + self._lifetime,
            user_agent=device.user_agent,
            ip=device.ip,
        )
        if seat.sso_enforced and connection_id is None:
            await self._end(conn, found, reason="sso_enforced", device=device)
            return None
        await _queries.delete_expired_tokens(conn, workspace_id=workspace_id, before_at=now - _FORGET_AFTER)
        await _queries.delete_ended_sessions(
            conn, workspace_id=workspace_id, before_at=now - _FORGET_SESSIONS_AFTER
        )
        return await self._issue(
            conn,
            workspace_id=workspace_id,
            user_id=found.user_id,
            role=seat.role,
            session_id=session_id,
        )

    async def _end(
        self,
        conn: AsyncConnection[Any],
        found: _queries.GetRefreshTokenRow,
        *,
        reason: str,
        device: Device,
    ) -> None:
        ended = await _queries.revoke_session(
            conn,
            workspace_id=found.workspace_id,
            session_id=found.session_id,
            revoked_at=self._clock(),
        )
        if ended:
            await _queries.audit(
                conn,
                actor=found.user_id,
                action="session.revoked",
                category="revoke",
                target_type="session",
                target_id=found.session_id,
                metadata=msgspec.json.encode({"reason": reason}).decode(),
                ip=device.ip or None,
            )

    async def _subject(self, subject_token: str) -> Subject:
        """Whom the token is about. In mock mode, which production refuses, whose address it is."""
        if self._accepts_anybody:
            return Subject(sub="", email=subject_token, email_verified=True)
        if self._verifier is not None:
            return await self._verifier.verify(subject_token, now=self._clock())
        raise UnavailableError("No issuer is configured. Set CLERK_JWKS_URL or OIDC_ISSUER.", retry_after=60)

    async def _person(self, conn: AsyncConnection[Any], subject: Subject, *, ip: str) -> _queries.Person:
        email = subject.verified_email
        await _queries.present(conn, token_hash="", external_id=subject.sub, email=email)
        if self._is_of_provider(subject):
            person = await self._person_of_provider(conn, subject, ip=ip)
        elif self._accepts_anybody:
            person = await _queries.get_user_by_email(conn, email=email)
            if person is None:
                # Whatever else the token is, it is good for the person that was seeded.
                await _queries.identify(conn, user_id=USER_ID, workspace_id="")
                person = await _queries.get_user(conn, user_id=USER_ID)
        else:
            person = await _queries.get_user_by_subject(conn, external_id=subject.sub)
            if person is not None:
                await _queries.identify(conn, user_id=person.user_id, workspace_id="")
                await self._mirror(conn, person, subject, ip=ip)
            elif email:
                person = await self._bind(conn, email, subject, ip=ip)
        if person is None or person.status != "active":
            raise ForbiddenError("Nobody here is known by that identity.")
        return person

    async def _person_of_provider(
        self, conn: AsyncConnection[Any], subject: Subject, *, ip: str
    ) -> _queries.Person | None:
        user_id = await _queries.find_platform_person(
            conn, issuer=subject.iss, subject=subject.sub, email=subject.verified_email
        )
        if user_id is None:
            return None
        await _queries.identify(conn, user_id=user_id, workspace_id="")
        person = await _queries.get_user(conn, user_id=user_id)
        if person is not None:
            await self._mirror(conn, person, subject, ip=ip)
        return person

    async def _bind(
        self, conn: AsyncConnection[Any], email: str, subject: Subject, *, ip: str
    ) -> _queries.Person | None:
        """The person with this address, bound to the subject unless bound to another one."""
        person = await _queries.get_user_by_email(conn, email=email)
        if person is None:
            return None
        await _queries.identify(conn, user_id=person.user_id, workspace_id="")
        bound = await _queries.bind_subject(
            conn, external_id=subject.sub, user_id=person.user_id, updated_at=self._clock()
        )
        if not bound:
            return None
        await _write_binding(conn, subject, ip=ip)
        return person

    async def _mirror(
        self, conn: AsyncConnection[Any], person: _queries.Person, subject: Subject, *, ip: str
    ) -> None:
        """Take over the address that the issuer has verified, unless somebody else has it here."""
        email = subject.verified_email
        if not email or email == person.email:
            return
        await _queries.present(conn, token_hash="", external_id="", email=email)
        if await _queries.get_user_by_email(conn, email=email) is None:
            await _queries.mirror_email(conn, email=email, user_id=person.user_id, updated_at=self._clock())
            await _queries.audit_self(conn, action="user.email_changed", metadata="{}", ip=ip or None)

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
        refresh_token = new_secret(REFRESH_PREFIX)
        await _queries.insert_refresh_token(
            conn,
            workspace_id=workspace_id,
            token_hash=hash_token(refresh_token),
            session_id=session_id,
            user_id=user_id,
            issued_at=now,
            expires_at=now + self._lifetime,
        )
        access_token = issue_access_token(principal, secret=self._settings.jwt_secret, now=now)
        return TokenPair(principal=principal, access_token=access_token, refresh_token=refresh_token)


async def _write_binding(conn: AsyncConnection[Any], subject: Subject, *, ip: str) -> None:
    """Write down, wherever the transaction's person is a member, that an issuer speaks for them now."""
    metadata = msgspec.json.encode({"provider": subject.iss}).decode()
    await _queries.audit_self(conn, action="identity.bound", metadata=metadata, ip=ip or None)
