"""Signing in by browser: there to the provider, and back with a code that becomes a session."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection
from runtime.database import Pool
from runtime.errors import ForbiddenError, NotFoundError, UnavailableError
from runtime.outbound import OutboundError

from services.gateway.errors import InvalidGrantError
from services.gateway.identity import _queries as people
from services.gateway.identity.jwks import Subject
from services.gateway.identity.people.acting import rules_as_refusals
from services.gateway.identity.sessions import Device, Sessions, TokenPair
from services.gateway.identity.signin import _queries
from services.gateway.identity.signin._queries import Door
from services.gateway.identity.signin.connections import secret_place
from services.gateway.identity.signin.flow import Flow
from services.gateway.identity.signin.providers import Client, Provider, Providers
from services.gateway.identity.vault.keys import Vault

_REFUSALS = {
    "address": "Your provider has not verified an address of a domain that the connection is for.",
    "consent": "This provider does not speak for your address by itself: your domain is not approved for the"
    " organization, and you were not invited, or belong to other organizations too. Sign in through the platform's"
    " provider, then agree on the page /link.",
    "bound": "Your address is bound to another account of this provider.",
    "suspended": "Your access to this workspace is suspended.",
}


class Wish(Struct, frozen=True, kw_only=True):
    """How somebody wants to sign in; everything but redirect_to may be empty.

    connection_id, email: which provider; neither: the platform's. workspace_id: where to, with the platform's.
    consenting: the signed-in person who agreed that this connection may speak for them. invitation_token: of an invitation to accept on the way back.
    """

    redirect_to: str
    connection_id: str = ""
    email: str = ""
    workspace_id: str = ""
    consenting: str = ""
    invitation_token: str = ""


class Departure(Struct, frozen=True):
    """Where the browser is sent, and the cookie that it keeps meanwhile."""

    address: str
    cookie: str


class SignIn:
    """Signs people in through the platform's provider or a workspace's own.

    platform: the platform's issuer and what we are to it; None: there is none. trusted: asks the operator's own provider,
    which may be inside; guarded: asks the providers of workspaces, which may not. redirect_uri: where providers send
    browsers back to.
    """

    def __init__(
        self,
        pool: Pool,
        sessions: Sessions,
        vault: Vault,
        *,
        platform: tuple[str, Client] | None,
        trusted: Providers,
        guarded: Providers,
        redirect_uri: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._pool = pool
        self._sessions = sessions
        self._vault = vault
        self._platform = platform
        self._trusted = trusted
        self._guarded = guarded
        self._redirect_uri = redirect_uri
        self._clock = clock

    async def begin(self, wish: Wish) -> Departure:
        """Where to sign in.

        Raises NotFoundError when no provider fits, UnavailableError while it does not answer, ValidationFailedError
        when redirect_to is no path.
        """
        door = await self._door(wish)
        flow = Flow.begun(
            connection_id=door.connection_id if door else "",
            workspace_id=wish.workspace_id,
            consenting=wish.consenting,
            invitation_token=wish.invitation_token,
            redirect_to=wish.redirect_to,
            now=self._clock(),
        )
        provider, client = await self._provider(door)
        address = flow.address(
            provider.metadata.authorization_endpoint,
            client_id=client.client_id,
            redirect_uri=self._redirect_uri,
            login_hint=wish.email,
        )
        return Departure(address, flow.sealed(self._vault.masters))

    async def finish(
        self, *, cookie: str, state: str, code: str, issuer: str, device: Device
    ) -> tuple[TokenPair, str]:
        """A session for whom the provider vouches for, and the path to go on with.

        issuer: as the answer names it (RFC 9207), empty when it does not.
        Raises InvalidGrantError for an answer that is not good, ForbiddenError for somebody who is not to come in,
        SeatLimitError, UnavailableError.
        """
        now = self._clock()
        flow = Flow.returned(cookie, state, self._vault.masters, now=now)
        door = await self._find(flow.connection_id, "") if flow.connection_id else None
        if flow.connection_id and door is None:
            raise InvalidGrantError("The connection is gone. Begin again.")
        provider, client = await self._provider(door)
        if issuer and issuer != provider.metadata.issuer:
            raise InvalidGrantError("The answer comes from another identity provider (iss).")
        subject = await provider.redeem(
            code,
            client,
            redirect_uri=self._redirect_uri,
            code_verifier=flow.code_verifier,
            nonce=flow.nonce,
            now=now,
        )
        if door is None:
            pair = await self._sessions.enter(
                subject,
                workspace_id=flow.workspace_id or None,
                method="oidc",
                device=device,
                invitation_token=flow.invitation_token or None,
            )
        else:
            pair = await self._enter(door, subject, consenting=flow.consenting, device=device)
        return pair, flow.redirect_to

    async def _enter(self, door: Door, subject: Subject, *, consenting: str, device: Device) -> TokenPair:
        with rules_as_refusals():
            async with self._pool.connection() as conn, conn.transaction():
                found = await _queries.enter_by_connection(
                    conn,
                    connection_id=door.connection_id,
                    subject=subject.sub,
                    email=subject.verified_email,
                    name=(subject.name or "")[:200],
                    consenting=consenting,
                )
                if found.user_id is None:
                    raise ForbiddenError(
                        _REFUSALS[found.refusal or "address"], details={"reason": found.refusal or ""}
                    )
                return await self._sessions.start(
                    conn,
                    workspace_id=door.workspace_id,
                    user_id=found.user_id,
                    method="oidc",
                    device=device,
                    connection_id=door.connection_id,
                )

    async def _door(self, wish: Wish) -> Door | None:
        """The connection to go through; None: the platform's provider. Raises NotFoundError."""
        door = None
        if wish.connection_id or wish.email:
            door = await self._find(wish.connection_id, "" if wish.connection_id else wish.email)
        if door is None and wish.connection_id:
            raise NotFoundError(f"There is no connection {wish.connection_id}.")
        if door is None and self._platform is None:
            raise NotFoundError(
                "No identity provider is set up for this. Ask an administrator of your workspace."
            )
        return door

    async def _find(self, connection_id: str, email: str) -> Door | None:
        async with self._pool.connection() as conn:
            return await _queries.find_connection(conn, connection_id=connection_id, email=email)

    async def _provider(self, door: Door | None) -> tuple[Provider, Client]:
        """The provider and what we are to it. Raises UnavailableError while it cannot be discovered."""
        try:
            if door is None:
                if self._platform is None:
                    raise InvalidGrantError("The identity provider is gone. Begin again.")
                issuer, client = self._platform
                return await self._trusted.get(issuer), client
            async with self._pool.connection() as conn, conn.transaction():
                client = Client(door.client_id, await self._secret(conn, door))
            return await self._guarded.get(door.issuer, door.workspace_id), client
        except OutboundError as error:
            raise UnavailableError(
                f"The identity provider does not answer: {error}.", retry_after=10
            ) from error

    async def _secret(self, conn: AsyncConnection[Any], door: Door) -> str:
        await people.identify(conn, user_id="", workspace_id=door.workspace_id)
        return await self._vault.open(
            conn,
            door.client_secret_sealed,
            owner_id=door.workspace_id,
            place=secret_place(door.connection_id),
        )
