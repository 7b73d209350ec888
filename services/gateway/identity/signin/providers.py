"""Identity providers: what they publish of themselves, and what their tokens say."""

import time
from collections.abc import Callable
from datetime import datetime
from hmac import compare_digest
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from runtime.errors import UnavailableError
from runtime.outbound import Outbound, OutboundError

from services.gateway.errors import InvalidGrantError
from services.gateway.identity.jwks import KEPT, KeySet, Subject, Verifier, issuer_of

METADATA_SECONDS = 3600.0
PROVIDERS_KEPT_MAX = 256
SCOPES = "openid email profile"

Address = Annotated[str, Meta(max_length=2048)]


class Metadata(Struct, frozen=True):
    """The part of a discovery document (OpenID Connect Discovery 1.0, 3) that signing in needs."""

    issuer: Address
    authorization_endpoint: Address
    token_endpoint: Address
    jwks_uri: Address
    userinfo_endpoint: Address | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Client(Struct, frozen=True):
    """What we are to a provider. secret: empty for a public client."""

    client_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Client({self.client_id})"


class _Tokens(Struct, frozen=True):
    id_token: str
    access_token: str | None = None


class _Details(Struct, frozen=True):
    sub: str
    email: Annotated[str, Meta(max_length=320, pattern=KEPT)] | None = None
    email_verified: bool = False
    name: Annotated[str, Meta(pattern=KEPT)] | None = None


class Provider:
    """One identity provider, discovered."""

    def __init__(self, metadata: Metadata, outbound: Outbound) -> None:
        self.metadata = metadata
        self._outbound = outbound
        self._keys = KeySet(metadata.jwks_uri, fetch=outbound.get)

    def verifier(self, client_id: str) -> Verifier:
        """What checks tokens that this provider made out to a client."""
        return Verifier(self._keys, audience=client_id, parties=(), issuer=self.metadata.issuer)

    async def redeem(
        self, code: str, client: Client, *, redirect_uri: str, code_verifier: str, nonce: str, now: datetime
    ) -> Subject:
        """Whom the provider vouches for with an authorization code.

        Raises InvalidGrantError when the provider does not take the code or its token is not good for us.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
        }
        basic = None
        if client.secret and "client_secret_basic" in self.metadata.token_endpoint_auth_methods_supported:
            basic = (client.client_id, client.secret)
        else:
            form["client_id"] = client.client_id
            if client.secret:
                form["client_secret"] = client.secret
        try:
            answer = await self._outbound.post(self.metadata.token_endpoint, form, basic=basic)
            tokens = msgspec.json.decode(answer, type=_Tokens)
        except (OutboundError, msgspec.DecodeError) as error:
            raise InvalidGrantError(f"The identity provider did not take the code: {error}.") from error
        subject = await self.verifier(client.client_id).verify(tokens.id_token, now=now)
        if not compare_digest((subject.nonce or "").encode(), nonce.encode()):
            raise InvalidGrantError("The identity token belongs to another sign-in (nonce).")
        if subject.email is None and tokens.access_token is not None:
            return await self._completed(subject, tokens.access_token)
        return subject

    async def _completed(self, subject: Subject, access_token: str) -> Subject:
        """The subject with what only the userinfo endpoint says of it; some providers keep id tokens thin."""
        if self.metadata.userinfo_endpoint is None:
            return subject
        try:
            answer = await self._outbound.get(self.metadata.userinfo_endpoint, token=access_token)
            details = msgspec.json.decode(answer, type=_Details)
        except (OutboundError, msgspec.DecodeError) as error:
            raise InvalidGrantError(f"The identity provider does not say who it is: {error}.") from error
        if details.sub != subject.sub:
            raise InvalidGrantError("The identity provider speaks of somebody else (userinfo).")
        return msgspec.structs.replace(
            subject, email=details.email, email_verified=details.email_verified, name=details.name
        )


class Providers:
    """Providers by issuer, discovered when first needed and again when that was long ago."""

    def __init__(self, outbound: Outbound, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._outbound = outbound
        self._monotonic = monotonic
        self._found: dict[tuple[str, str], tuple[float, Provider]] = {}

    async def get(self, issuer: str, workspace_id: str = "") -> Provider:
        """The provider that calls itself so. workspace_id: whose it is; empty: ours. Raises OutboundError."""
        key = (workspace_id, issuer)
        known = self._found.get(key)
        if known is not None and self._monotonic() - known[0] < METADATA_SECONDS:
            return known[1]
        try:
            provider = Provider(await self.discover(issuer, workspace_id), self._outbound.of(workspace_id))
        except OutboundError:
            if known is None:
                raise
            # What was good an hour ago likely is: the provider's outage must not be ours.
            provider = known[1]
        if key not in self._found and len(self._found) >= PROVIDERS_KEPT_MAX:
            del self._found[next(iter(self._found))]
        self._found[key] = (self._monotonic(), provider)
        return provider

    async def discover(self, issuer: str, workspace_id: str = "") -> Metadata:
        """What a provider publishes of itself now. Raises OutboundError, also when it calls itself otherwise."""
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        body = await self._outbound.of(workspace_id).get(url)
        try:
            metadata = msgspec.json.decode(body, type=Metadata)
        except msgspec.DecodeError as error:
            raise OutboundError(f"its discovery document is not good: {error}") from error
        if metadata.issuer.rstrip("/") != issuer.rstrip("/"):
            raise OutboundError(f"it calls itself {metadata.issuer!r}")
        return metadata


class Issuers:
    """Checks a subject token with the issuer that it names: the platform's provider, or the one behind a JWKS address.

    jwks: checks what the issuer behind CLERK_JWKS_URL signed; None without one.
    """

    def __init__(self, providers: Providers, *, issuer: str, client_id: str, jwks: Verifier | None) -> None:
        self._providers = providers
        self._issuer = issuer
        self._client_id = client_id
        self._jwks = jwks

    async def verify(self, token: str, *, now: datetime) -> Subject:
        """Whom the token is about. Raises InvalidGrantError, UnavailableError while the issuer does not answer."""
        if self._issuer and issuer_of(token).rstrip("/") == self._issuer.rstrip("/"):
            try:
                provider = await self._providers.get(self._issuer)
            except OutboundError as error:
                raise UnavailableError(f"The identity provider does not answer: {error}.") from error
            return await provider.verifier(self._client_id).verify(token, now=now)
        if self._jwks is None:
            raise InvalidGrantError("The subject token is of no issuer that is configured here.")
        return await self._jwks.verify(token, now=now)
