"""The issuer's signing keys, and what its session tokens say. OIDC discovery of keys per RFC 7517."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Final

import jwt
import msgspec
import structlog
from msgspec import Meta, Struct
from runtime.errors import UnavailableError

from services.gateway.errors import InvalidGrantError

log = structlog.get_logger()

ALGORITHMS = ("RS256", "ES256")
CLOCK_SKEW_SECONDS = 60
KEYS_AGE_SECONDS_MAX = 3600.0
REFETCH_SECONDS_MIN = 10.0

Fetch = Callable[[str], Awaitable[bytes]]


KEPT: Final = r"^[^\x00\ud800-\udfff]*$(?!\n)"
"""What a database can keep; JSON can say more."""


class Subject(Struct, frozen=True):
    """Whom the issuer vouches for. nonce: of the sign-in that the token was made in."""

    sub: Annotated[str, Meta(min_length=1, max_length=255, pattern=KEPT)]
    email: Annotated[str, Meta(max_length=320, pattern=KEPT)] | None = None
    email_verified: bool = False
    name: Annotated[str, Meta(pattern=KEPT)] | None = None
    iss: str = ""
    aud: str | tuple[str, ...] = ()
    azp: str | None = None
    nonce: str | None = None

    @property
    def verified_email(self) -> str:
        """The address, if the issuer has verified it, else nothing: anybody can claim another one."""
        return self.email if self.email is not None and self.email_verified else ""


class KeySet:
    """Keys by their id, fetched again when one is unknown or they are old, but not more often than allowed."""

    def __init__(self, url: str, *, fetch: Fetch, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key with this id; without an id the only one there is. Raises InvalidGrantError when the issuer has none, UnavailableError when it is silent."""
        async with self._lock:
            is_old = self._monotonic() - self._fetched_at > KEYS_AGE_SECONDS_MAX
            may_try = self._monotonic() - self._tried_at >= REFETCH_SECONDS_MIN
            if (is_old or key_id not in self._keys) and may_try:
                await self._refresh()
            if key_id in self._keys:
                return self._keys[key_id]
            if not key_id and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            if not self._keys:
                raise UnavailableError(
                    "The issuer's signing keys cannot be fetched now.", retry_after=REFETCH_SECONDS_MIN
                )
            raise InvalidGrantError(
                "The subject token is signed with a key that its issuer does not publish."
            )

    async def _refresh(self) -> None:
        self._tried_at = self._monotonic()
        try:
            found = jwt.PyJWKSet.from_dict(json.loads(await self._fetch(self._url)))
        except (OSError, ValueError, jwt.PyJWTError) as error:
            # Keys that are known go on being used: the issuer's outage must not end sign-ins.
            log.warning("jwks.fetch_failed", url=self._url, error=repr(error))
            return
        self._keys = {key.key_id or "": key for key in found.keys}
        self._fetched_at = self._monotonic()


def issuer_of(token: str) -> str:
    """Who a token says that it comes from; nothing of it is checked. Empty when it does not say."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.InvalidTokenError:
        return ""
    return issuer if isinstance(issuer, str) else ""


class Verifier:
    """Checks the issuer's session tokens: signature, times, audience and authorised party."""

    def __init__(self, keys: KeySet, *, audience: str, parties: tuple[str, ...], issuer: str = "") -> None:
        self._keys = keys
        self._audience = audience
        self._parties = parties
        self._issuer = issuer

    async def verify(self, token: str, *, now: datetime) -> Subject:
        """Whom the token is about. Raises InvalidGrantError with the reason when it is not good."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise InvalidGrantError("The subject token is not a JWT.") from error
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in ALGORITHMS or not isinstance(key_id, str):
            raise InvalidGrantError("The subject token must be signed with RS256 or ES256.")
        key = await self._keys.key(key_id)
        try:
            payload = jwt.decode(
                token,
                key,
                # Only the algorithm that the key is for: the header must not choose.
                algorithms=[key.algorithm_name],
                audience=self._audience or None,
                issuer=self._issuer or None,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": bool(self._audience),
                    "verify_iss": bool(self._issuer),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            subject = msgspec.convert(payload, Subject)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise InvalidGrantError(f"The subject token is not good: {error}.") from error
        _check_times(payload, now=now)
        # OpenID Connect Core 1.0, 3.1.3.7: a token for several clients names the one that it was made out to.
        is_for_many = isinstance(subject.aud, tuple) and len(subject.aud) > 1
        if self._issuer and (is_for_many or subject.azp is not None) and subject.azp != self._audience:
            raise InvalidGrantError("The subject token was made out to another client (azp).")
        if self._parties and subject.azp not in self._parties:
            raise InvalidGrantError("The subject token must name an application that is known here (azp).")
        return subject


def _check_times(payload: Mapping[str, object], *, now: datetime) -> None:
    """Refuse a token outside of its time, one minute of skew allowed."""
    moment = now.timestamp()
    expires, starts = payload.get("exp"), payload.get("nbf", 0)
    if not isinstance(expires, int | float) or not isinstance(starts, int | float):
        raise InvalidGrantError("The subject token's times are not numbers.")
    if expires + CLOCK_SKEW_SECONDS <= moment:
        raise InvalidGrantError("The subject token has expired.")
    if starts - CLOCK_SKEW_SECONDS > moment:
        raise InvalidGrantError("The subject token is not valid yet.")
