"""Access tokens (HS256 JWT) and refresh tokens: made and read, pure."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Final, Literal, TypeAlias

import jwt
import msgspec
from msgspec import Struct
from runtime.errors import UnauthorizedError

ISSUER = "causeloop"
REFRESH_PREFIX = "clp_refresh_"


Kind: TypeAlias = Literal["session", "personal", "service", "platform"]

API_TOKEN_PREFIXES: Final[Mapping[Kind, str]] = {"personal": "clp_pat_", "service": "clp_svc_"}
"""What an API token of each kind begins with."""


FOREVER: Final = datetime.max.replace(tzinfo=UTC)
"""When an API token without an end ends."""


class Principal(Struct, frozen=True, kw_only=True):
    """Who a request comes from, and what they may do.

    user_id: the person (usr_…) or the service account (svc_…); what audit entries and events name as the actor.
    role: of the person in the workspace; empty for a service account.
    kind: a person's session, a person's API token, a service account's, or a provisioning key, which is of no workspace.
    session_id: of a session, else empty. token_id: of an API token (tok_…), else empty.
    organization_id: whose workspace it is. requests_per_minute: its plan's; None: unlimited.
    owes_second_factor: the person has one and has not given it in this session yet; until then there are no scopes.
    is_vouched: a session that the workspace's own provider vouched for, so good for what is that workspace's alone.
    """

    workspace_id: str
    user_id: str
    role: str
    scopes: frozenset[str]
    session_id: str
    expires_at: datetime
    kind: Kind = "session"
    token_id: str = ""
    organization_id: str = ""
    requests_per_minute: int | None = None
    owes_second_factor: bool = False
    is_vouched: bool = False

    @property
    def is_person(self) -> bool:
        """Whether a person is signed in, rather than a program with a token of theirs or its own."""
        return self.kind == "session"


class _Claims(Struct, frozen=True):
    sub: str
    ws: str
    role: str
    scope: str
    sid: str
    exp: int
    typ: str


def issue_access_token(principal: Principal, *, secret: str, now: datetime) -> str:
    """The principal as a signed token that is good until `principal.expires_at`."""
    claims = {
        "iss": ISSUER,
        "sub": principal.user_id,
        "ws": principal.workspace_id,
        "role": principal.role,
        "scope": " ".join(sorted(principal.scopes)),
        "sid": principal.session_id,
        "iat": int(now.timestamp()),
        "exp": int(principal.expires_at.timestamp()),
        "typ": "access",
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def read_access_token(token: str, *, secrets: Sequence[str], now: datetime) -> Principal:
    """Who a token says that it speaks for; the rows may say by now that it does not.

    secrets: the present one first, then those that older tokens may be signed with.
    Raises UnauthorizedError when it is not ours, broken or expired.
    """
    claims = _claims(token, secrets)
    expires_at = datetime.fromtimestamp(claims.exp, tz=now.tzinfo)
    if claims.typ != "access" or expires_at <= now:
        raise UnauthorizedError("The access token has expired. Get a new one with /v1/auth/refresh.")
    return Principal(
        workspace_id=claims.ws,
        user_id=claims.sub,
        role=claims.role,
        scopes=frozenset(claims.scope.split()),
        session_id=claims.sid,
        expires_at=expires_at,
    )


def _claims(token: str, secrets: Sequence[str]) -> _Claims:
    for secret in secrets:
        try:
            payload = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                # The clock is passed in, so the library's own look at it is off.
                options={"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False},
            )
            return msgspec.convert(payload, _Claims)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise UnauthorizedError("The access token is not valid.") from error
    raise UnauthorizedError("The access token is not valid.")


def expiry(now: datetime, *, seconds: int) -> datetime:
    """When a token that is issued now ends, on the second, as a JWT can say it."""
    return (now + timedelta(seconds=seconds)).replace(microsecond=0)


def new_secret(prefix: str) -> str:
    """A secret of 256 bits behind a prefix that says what it is for. Never from a generator that is passed in."""
    return prefix + token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is stored of a secret that we made: SHA-256 in hex. It has 256 bits, so it needs neither salt nor stretching."""
    return hashlib.sha256(token.encode()).hexdigest()


def sign(secret: str, purpose: str, *parts: str) -> bytes:
    """16 bytes that only we can make of a purpose and its parts; no two lists of parts collide."""
    message = b"".join(f"{len(part.encode())}:".encode() + part.encode() for part in (purpose, *parts))
    return hmac.digest(secret.encode(), message, "sha256")[:16]


def is_signed(signature: bytes, secret: str, purpose: str, *parts: str) -> bool:
    """Whether a signature is ours, in constant time."""
    return hmac.compare_digest(signature, sign(secret, purpose, *parts))
