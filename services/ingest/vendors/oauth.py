"""Signing in with vendors by OAuth 2: grants are kept sealed, and renewed before they end."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

import httpx2
import msgspec
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncAssertionClient, AsyncOAuth2Client  # type: ignore[import-untyped]
from authlib.oauth2.client import DEFAULT_HEADERS  # type: ignore[import-untyped]
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from msgspec import Struct
from runtime.database import Pool, tenant
from runtime.errors import StartError
from runtime.outbound import Outbound

from services.ingest.connectors.connecting import CA_CERTIFICATE, Source, address_of, is_sent_to
from services.ingest.connectors.manifest import (
    Auth,
    AuthorizationCode,
    ClientCredentials,
    JwtBearer,
)
from services.ingest.connectors.reserved import GIVEN_FOR, RESERVED, TOKEN
from services.ingest.connectors.templates import PLACEHOLDER, config_values, fill_address, fill_text
from services.ingest.errors import VendorError
from services.ingest.vault import Vault
from services.ingest.vendors import _queries
from services.ingest.vendors.redaction import words
from services.ingest.vendors.session import retry_after
from services.ingest.vendors.transport import GuardedTransport

STATE_BYTES: Final = 32
STATE_LIFE: Final = timedelta(minutes=10)
RENEWED_BEFORE_END: Final = timedelta(minutes=5)
"""How long before its end a token is renewed; at half of its life where that is shorter than ten minutes."""

CLIENT_ID: Final = "client_id"
CLIENT_SECRET: Final = "client_secret"  # noqa: S105 - the name of a secret
ACCOUNT_KEY: Final = "service_account_key"

_STATE: Final = re.compile(r"oast_(ws_[0-9A-HJKMNP-TV-Z]{26})\.con_[0-9A-HJKMNP-TV-Z]{26}\.[A-Za-z0-9_-]{43}")
_VERIFIER: Final = "pkce_verifier"
_KEPT: Final = ("instance_url", "api_domain", "accounts_server", "location")
"""What token answers hold beside the token, and requests need: it says where this account's interface is."""

_GRANT_GONE: Final = frozenset(
    {"invalid_grant", "bad_refresh_token", "invalid_refresh_token", "token_revoked", "token_expired"}
)
"""RFC 6749, 5.2, and what GitHub and Slack say in its place."""

_CLIENT_REFUSED: Final = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials", "invalid_client_id"}
)
_STATUS_REFUSED: Final = frozenset({401, 403})
_STATUS_LIMITED: Final = 429


class Client(Struct, frozen=True):
    """What we are to a vendor; never printed. secret: empty for a public client."""

    client_id: str
    client_secret: str = ""

    def __repr__(self) -> str:
        return f"Client({self.client_id})"


class Grant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token and how it is renewed, as the vault keeps it.

    kind: of the way to sign in that it is of. made_for: names the credentials it was got with.
    expires_at: absent where the vendor does not say.
    """

    kind: str
    access_token: str
    made_for: str
    issued_at: datetime
    expires_at: datetime | None = None
    refresh_token: str | None = None
    extras: dict[str, str] = {}

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be renewed before it is used."""
        if self.expires_at is None:
            return False
        margin = min(RENEWED_BEFORE_END, (self.expires_at - self.issued_at) / 2)
        return now >= self.expires_at - margin

    def secrets(self) -> dict[str, str]:
        """What requests need of it, by name."""
        return {**self.extras, "access_token": self.access_token}


class Started(Struct, frozen=True, kw_only=True):
    """A sign-in that a person has yet to end in the browser."""

    url: str
    state: str
    expires_at: datetime


class Claim(Struct, frozen=True, kw_only=True):
    """A sign-in that came back: whose it is, and what the vendor has to be told to believe it."""

    workspace_id: str
    connector_id: str
    requested_by: str | None
    redirect_uri: str
    verifier: str


class _Tokens(Struct, frozen=True):
    """RFC 6749, 5.1; times come as numbers or as text."""

    access_token: str
    refresh_token: str | None = None
    expires_in: int | None = None


class _AccountKey(Struct, frozen=True):
    """What is needed of a service account's key, as Google writes it."""

    client_email: str
    private_key: str
    private_key_id: str = ""


class StateGoneError(Exception):
    """No sign-in has this state: it never had, it was ended already, or it is older than ten minutes."""


class Grants:
    """Gets, keeps and renews the tokens of connectors; several processes may do so at once.

    pool: of the app role on schema sources. clients: the operator's own, by type of source.
    clock: the time in UTC.
    """

    def __init__(
        self,
        vault: Vault,
        pool: Pool,
        outbound: Outbound,
        *,
        clients: Mapping[str, Client],
        clock: Callable[[], datetime],
    ) -> None:
        self._vault = vault
        self._pool = pool
        self._outbound = outbound
        self._clients = clients
        self._clock = clock
        self._renewals: set[asyncio.Task[Grant]] = set()

    async def start(
        self,
        source: Source,
        *,
        workspace_id: str,
        redirect_uri: str,
        requested_by: str | None = None,
    ) -> Started:
        """Where a person has to go to agree. Raises VendorError("not_configured")."""
        auth = source.auth
        if not isinstance(auth, AuthorizationCode):
            raise VendorError("not_configured", f"{auth_kind(auth)} needs nobody to agree in a browser")
        secrets = _checked(source, await self._vault.open_all(workspace_id, source.connector_id))
        client = self._client_of(source, secrets)
        # The callback has no session: the state says whose it is, and only its hash is kept.
        state = f"oast_{workspace_id}.{source.connector_id}.{token_urlsafe(STATE_BYTES)}"
        verifier, now = token_urlsafe(48), self._clock()
        expires_at = now + STATE_LIFE
        async with tenant(self._pool, workspace_id) as conn:
            await _queries.insert_authorization(
                conn,
                workspace_id=workspace_id,
                state_sha256=_hash(state),
                connector_id=source.connector_id,
                verifier_sealed=self._vault.to_send(verifier, workspace_id=workspace_id, what=_VERIFIER),
                redirect_uri=redirect_uri,
                requested_by=requested_by,
                created_at=now,
                expires_at=expires_at,
            )
        config = values_of(source)
        async with self._asking(source, client, auth.client_auth, workspace_id) as authlib:
            authlib.code_challenge_method = "S256" if auth.pkce else None
            url, _ = authlib.create_authorization_url(
                fill_address(auth.authorize_url, config),
                state=state,
                code_verifier=verifier,
                redirect_uri=redirect_uri,
                scope=auth.scope_separator.join(auth.scopes) or None,
                **{name: fill_text(text, config) for name, text in auth.authorize_params.items()},
            )
        return Started(url=url, state=state, expires_at=expires_at)

    async def claim(self, state: str) -> Claim:
        """The sign-in that has this state, which nobody can claim again. Raises StateGoneError."""
        named = _STATE.fullmatch(state)
        if named is None:
            raise StateGoneError
        workspace_id = named[1]
        async with tenant(self._pool, workspace_id) as conn:
            row = await _queries.take_authorization(
                conn, workspace_id=workspace_id, state_sha256=_hash(state)
            )
        if row is None or row.expires_at <= self._clock():
            raise StateGoneError
        verifier = self._vault.received(row.verifier_sealed, workspace_id=workspace_id, what=_VERIFIER)
        return Claim(
            workspace_id=workspace_id,
            connector_id=row.connector_id,
            requested_by=row.requested_by,
            redirect_uri=row.redirect_uri,
            verifier=verifier,
        )

    async def redeem(
        self,
        claim: Claim,
        code: str,
        source: Source,
    ) -> tuple[str, ...]:
        """Exchange the vendor's code for a grant and keep it; names of the secrets there are now.

        Raises VendorError, also where the connector signs in otherwise by now.
        """
        auth = source.auth
        if not isinstance(auth, AuthorizationCode):
            raise VendorError("not_configured", "the connector signs in in another way by now; start again")
        secrets = _checked(source, await self._vault.open_all(claim.workspace_id, source.connector_id))
        client = self._client_of(source, secrets)
        proof = {"code_verifier": claim.verifier} if auth.pkce else {}
        grant = await self._grant(
            source,
            client,
            client.client_id,
            workspace_id=claim.workspace_id,
            hidden=(code, claim.verifier),
            ask=lambda authlib, url: authlib.fetch_token(
                url,
                grant_type="authorization_code",
                code=code,
                redirect_uri=claim.redirect_uri,
                headers=_headers(auth),
                **proof,
            ),
        )
        kept = {TOKEN: _written(grant), GIVEN_FOR: address_of(source)}
        return await self._vault.keep(claim.workspace_id, source.connector_id, kept)

    async def fresh(
        self,
        source: Source,
        *,
        workspace_id: str,
        rejected: str | None = None,
    ) -> dict[str, str]:
        """The secrets that requests of a connector need; with OAuth an `access_token` that lives for minutes yet.

        Call it before each run. rejected: an access token that the vendor answered 401 to: it is renewed, unless
        somebody has done so already. With any other way to sign in, what the vault holds.
        Raises VendorError: "oauth_expired" when a person has to agree again.
        """
        secrets = _checked(source, await self._vault.open_all(workspace_id, source.connector_id))
        auth = source.auth
        usable = {name: secret for name, secret in secrets.items() if _is_of_requests(name)}
        if not isinstance(auth, AuthorizationCode | ClientCredentials | JwtBearer):
            return usable
        grant = self._live(auth, secrets, rejected)
        if grant is None:
            renewal = asyncio.create_task(self._renewed(source, workspace_id, rejected))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
            # Whoever waits may be cancelled; what the vendor has rotated by then has to be kept nevertheless.
            grant = await asyncio.shield(renewal)
        return {**usable, **grant.secrets()}

    async def _renewed(
        self,
        source: Source,
        workspace_id: str,
        rejected: str | None,
    ) -> Grant:
        """The grant after a renewal, one at a time for each connector in all processes."""
        auth = source.auth
        async with self._vault.held(workspace_id, source.connector_id) as held:
            # Somebody else may have renewed it while we waited for the lock.
            live = self._live(auth, _checked(source, held.secrets), rejected)
            if live is not None:
                return live
            match auth:
                case AuthorizationCode():
                    grant = await self._refreshed(source, auth, held.secrets, workspace_id)
                case ClientCredentials():
                    grant = await self._of_client(source, auth, held.secrets, workspace_id)
                case JwtBearer():
                    grant = await self._of_account(source, auth, held.secrets, workspace_id)
                case _:
                    raise VendorError("not_configured", f"{auth_kind(auth)} has no token")
            await held.keep({TOKEN: _written(grant)})
            return grant

    def _live(self, auth: Auth, secrets: Mapping[str, str], rejected: str | None) -> Grant | None:
        """The grant there is, if it is good for the next minutes."""
        grant = _read(secrets.get(TOKEN))
        if grant is None or grant.kind != auth_kind(auth) or grant.access_token == rejected:
            return None
        if not isinstance(auth, AuthorizationCode) and grant.made_for != _made_for(auth, secrets):
            return None
        now = self._clock()
        if grant.refresh_token is None and isinstance(auth, AuthorizationCode):
            return None if grant.expires_at is not None and now >= grant.expires_at else grant
        return None if grant.is_due(now) else grant

    async def _refreshed(
        self,
        source: Source,
        auth: AuthorizationCode,
        secrets: Mapping[str, str],
        workspace_id: str,
    ) -> Grant:
        """By the refresh token, RFC 6749, 6. A vendor that sends no other one lets us keep it."""
        old = _read(secrets.get(TOKEN))
        if old is None or old.kind != auth_kind(auth):
            raise VendorError("not_configured", "nobody has signed in yet")
        token = old.refresh_token
        if token is None:
            raise VendorError("oauth_expired", "the vendor gave no token to renew this sign-in with")
        client = self._client_of(source, secrets)
        grant = await self._grant(
            source,
            client,
            client.client_id,
            workspace_id=workspace_id,
            hidden=(token, old.access_token),
            ask=lambda authlib, url: authlib.refresh_token(url, refresh_token=token, headers=_headers(auth)),
        )
        kept = grant.refresh_token or token
        return msgspec.structs.replace(grant, refresh_token=kept, extras={**old.extras, **grant.extras})

    async def _of_client(
        self,
        source: Source,
        auth: ClientCredentials,
        secrets: Mapping[str, str],
        workspace_id: str,
    ) -> Grant:
        """RFC 6749, 4.4."""
        config = values_of(source)
        params = {name: fill_text(text, config) for name, text in auth.token_params.items()}
        if auth.scopes:
            params["scope"] = " ".join(fill_text(scope, config) for scope in auth.scopes)
        return await self._grant(
            source,
            self._client_of(source, secrets),
            _made_for(auth, secrets),
            workspace_id=workspace_id,
            hidden=(),
            ask=lambda authlib, url: authlib.fetch_token(url, grant_type="client_credentials", **params),
        )

    async def _of_account(
        self,
        source: Source,
        auth: JwtBearer,
        secrets: Mapping[str, str],
        workspace_id: str,
    ) -> Grant:
        """RFC 7523, 2.1, as Google takes it: the scopes are a claim. The key's own token_uri is not followed."""
        written = secrets.get(ACCOUNT_KEY, "")
        try:
            key = msgspec.json.decode(written, type=_AccountKey)
            signer = RSAKey.import_key(key.private_key)
        except (msgspec.DecodeError, JoseError, ValueError):
            raise VendorError(
                "not_configured", f"{ACCOUNT_KEY} is no service account's key in JSON"
            ) from None
        async with AsyncAssertionClient(
            fill_address(auth.token_url, values_of(source)),
            key.client_email,
            None,
            claims={"scope": " ".join(auth.scopes)} if auth.scopes else {},
            key=signer,
            header={"alg": "RS256", **({"kid": key.private_key_id} if key.private_key_id else {})},
            transport=GuardedTransport(trusting(self._outbound.of(workspace_id), source)),
            trust_env=False,
        ) as client:
            answer = await _judged(client.refresh_token, kind=auth_kind(auth), hidden=(key.private_key,))
        return self._granted(answer, auth_kind(auth), _made_for(auth, secrets))

    async def _grant(
        self,
        source: Source,
        client: Client,
        made_for: str,
        *,
        workspace_id: str,
        hidden: tuple[str, ...],
        ask: Callable[[AsyncOAuth2Client, str], Awaitable[object]],
    ) -> Grant:
        """What the token endpoint gives. hidden: secrets that are sent, beside the client's own."""
        auth = source.auth
        if not isinstance(auth, AuthorizationCode | ClientCredentials):
            raise VendorError("not_configured", f"{auth_kind(auth)} has no client")
        url = fill_address(auth.token_url, values_of(source))
        async with self._asking(source, client, auth.client_auth, workspace_id) as authlib:
            answer = await _judged(
                lambda: ask(authlib, url), kind=auth_kind(auth), hidden=(*hidden, client.client_secret)
            )
        return self._granted(answer, auth_kind(auth), made_for)

    def _granted(self, answer: object, kind: str, made_for: str) -> Grant:
        try:
            tokens = msgspec.convert(answer, _Tokens, strict=False)
        except msgspec.ValidationError as error:
            raise VendorError(
                "bad_answer", "the answer of the token address holds no access token"
            ) from error
        now = self._clock()
        lives = tokens.expires_in if tokens.expires_in and tokens.expires_in > 0 else None
        said = answer if isinstance(answer, dict) else {}
        return Grant(
            kind=kind,
            access_token=tokens.access_token,
            made_for=made_for,
            issued_at=now,
            expires_at=None if lives is None else now + timedelta(seconds=min(lives, 10 * 366 * 86_400)),
            refresh_token=tokens.refresh_token or None,
            extras={name: said[name] for name in _KEPT if isinstance(said.get(name), str)},
        )

    def _asking(self, source: Source, client: Client, method: str, workspace_id: str) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            client.client_id,
            client.client_secret,
            # RFC 6749, 2.1: a client without a secret is a public one, which only names itself.
            token_endpoint_auth_method=method if client.client_secret else "none",
            transport=GuardedTransport(trusting(self._outbound.of(workspace_id), source)),
            trust_env=False,
        )

    def _client_of(self, source: Source, secrets: Mapping[str, str]) -> Client:
        """The connector's own client, or the operator's. Raises VendorError("not_configured")."""
        if secrets.get(CLIENT_ID):
            return Client(secrets[CLIENT_ID], secrets.get(CLIENT_SECRET, ""))
        operators = self._clients.get(source.manifest.type)
        # A custom manifest could send the operator's secret anywhere, and so could a host that a person types.
        if operators is None or source.settings.manifest is not None or not _is_vendors_own(source):
            raise VendorError(
                "not_configured", f"give {CLIENT_ID} and {CLIENT_SECRET} of an app at {source.manifest.name}"
            )
        return operators


async def _judged(ask: Callable[[], Awaitable[object]], *, kind: str, hidden: tuple[str, ...]) -> object:
    """The answer of a token endpoint. Raises VendorError for any but a good one."""
    try:
        return await ask()
    except OAuthError as error:
        word = words(str(error.error), secrets=hidden)
        said = words(
            f"{error.error}: {error.description}" if error.description else str(error.error), secrets=hidden
        )
        if word.lower() in _GRANT_GONE and kind == "oauth2_code":
            gone = f"the vendor does not take this sign-in any more, sign in again; it said {said}"
            raise VendorError("oauth_expired", gone) from None
        if word.lower() in _CLIENT_REFUSED | _GRANT_GONE:
            raise VendorError("credentials_rejected", said) from None
        raise VendorError("vendor_failed", said) from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        said = f"the token address answered {status}"
        if status == _STATUS_LIMITED:
            raise VendorError("rate_limited", said, retry_after=retry_after(error.response.headers)) from None
        raise VendorError(
            "credentials_rejected" if status in _STATUS_REFUSED else "vendor_failed", said
        ) from None
    except ValueError:
        raise VendorError(
            "bad_answer", "the token address answered something else than a JSON object"
        ) from None


def read_clients(written: str) -> dict[str, Client]:
    """The operator's clients as the settings write them, by type of source. Raises StartError."""
    try:
        return msgspec.json.decode(written, type=dict[str, Client]) if written else {}
    except msgspec.DecodeError as error:
        raise StartError(
            'OAUTH_CLIENTS takes JSON such as {"jira": {"client_id": "…", "client_secret": "…"}}.'
        ) from error


def auth_kind(auth: Auth) -> str:
    """What a manifest calls a way to sign in, such as "oauth2_code"."""
    return str(auth.__struct_config__.tag)


def values_of(source: Source) -> dict[str, str]:
    """What `{config.…}` stands for with a connector."""
    return config_values(source.manifest, source.settings.config)


def trusting(outbound: Outbound, source: Source) -> Outbound:
    """What asks a connector's vendor, which may have a certificate of somebody's own authority."""
    return outbound.trusting(values_of(source).get(f"config.{CA_CERTIFICATE}", ""))


def _is_vendors_own(source: Source) -> bool:
    """Whether the token address is the vendor's whatever a person typed, or is the usual one.

    So it is when what was typed was chosen from a list, is what is usual, or stands before a fixed ending such as
    ".service-now.com".
    """
    auth = source.auth
    if not isinstance(auth, AuthorizationCode | ClientCredentials):
        return False
    authority = auth.token_url.partition("://")[2].partition("/")[0]
    free = [
        field
        for field in source.manifest.config
        if f"config.{field.key}" in PLACEHOLDER.findall(authority)
        and not field.choices
        and source.settings.config.get(field.key, field.default) != field.default
    ]
    ending = authority.rpartition("}")[2]
    return not free or (ending.startswith(".") and "." in ending[1:])


def _made_for(auth: Auth, secrets: Mapping[str, str]) -> str:
    """Names the credentials and the scopes of a token that nobody agreed to, so that it ends when they change."""
    own = [secrets.get(name, "") for name in (CLIENT_ID, CLIENT_SECRET, ACCOUNT_KEY)]
    return sha256(msgspec.json.encode([auth_kind(auth), msgspec.to_builtins(auth), *own])).hexdigest()


def _headers(auth: AuthorizationCode) -> dict[str, str]:
    return {**DEFAULT_HEADERS, **auth.token_headers}


def _checked(source: Source, secrets: Mapping[str, str]) -> Mapping[str, str]:
    """The secrets, which go only where whoever gave them wanted. Raises VendorError("not_configured")."""
    address = secrets.get(GIVEN_FOR)
    if address is not None and not is_sent_to(source, address):
        raise VendorError("not_configured", "the credentials were given for another address; give them again")
    return secrets


def _is_of_requests(name: str) -> bool:
    return name not in RESERVED


def _hash(state: str) -> str:
    return sha256(state.encode()).hexdigest()


def _written(grant: Grant) -> str:
    return msgspec.json.encode(grant).decode()


def _read(written: str | None) -> Grant | None:
    """The grant as it was kept; None where there is none, or none that we can read."""
    try:
        return None if written is None else msgspec.json.decode(written, type=Grant)
    except msgspec.DecodeError:
        return None
