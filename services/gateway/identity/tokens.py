"""Access tokens (HS256 JWT) and refresh tokens: made and read, pure."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex, token_urlsafe
from typing import Final, Literal, TypeAlias, TypeVar

import jwt
import msgspec
from msgspec import Struct
from runtime.errors import UnauthorizedError

ISSUER = "causeloop"
REFRESH_PREFIX = "clp_refresh_"
TICKET_SECONDS = 30
"""How long a ticket for the stream may be on its way."""

C = TypeVar("C", bound=Struct)

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


class Claimed(Struct, frozen=True, kw_only=True):
    """Which session or API token something signed says that it is of. What that is good for, the rows say.

    session_id or token_id; the other is empty. expires_at: None: never.
    """

    workspace_id: str
    user_id: str
    session_id: str
    expires_at: datetime | None
    token_id: str = ""


class Ticket(Struct, frozen=True):
    """What opens the stream once. nonce: 32 hex digits that no other ticket has."""

    nonce: str
    claimed: Claimed


class _Claims(Struct, frozen=True):
    sub: str
    ws: str
    sid: str
    exp: int
    typ: str


class _TicketClaims(Struct, frozen=True):
    sub: str
    ws: str
    sid: str
    tid: str
    until: int | None
    exp: int
    jti: str
    typ: str


def issue_access_token(principal: Principal, *, secret: str, now: datetime) -> str:
    """The principal's session as a signed token that is good until `principal.expires_at`.

    Neither role nor scopes are in it: they change while it is out, and nobody would believe it about them.
    """
    claims = {
        "iss": ISSUER,
        "sub": principal.user_id,
        "ws": principal.workspace_id,
        "sid": principal.session_id,
        "iat": int(now.timestamp()),
        "exp": int(principal.expires_at.timestamp()),
        "typ": "access",
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def read_access_token(token: str, *, secrets: Sequence[str], now: datetime) -> Claimed:
    """Whom a token says that it speaks for; the rows may say by now that it does not.

    secrets: the present one first, then those that older tokens may be signed with.
    Raises UnauthorizedError when it is not ours, broken or expired.
    """
    claims = _claims(token, secrets, _Claims)
    expires_at = datetime.fromtimestamp(claims.exp, tz=now.tzinfo)
    if claims.typ != "access" or expires_at <= now:
        raise UnauthorizedError("The access token has expired. Get a new one with /v1/auth/refresh.")
    return Claimed(workspace_id=claims.ws, user_id=claims.sub, session_id=claims.sid, expires_at=expires_at)


def issue_ticket(principal: Principal, *, secret: str, now: datetime) -> str:
    """A signed ticket for whoever has shown a token: for TICKET_SECONDS it stands for that session or API token."""
    claims = {
        "iss": ISSUER,
        "sub": principal.user_id,
        "ws": principal.workspace_id,
        "sid": principal.session_id,
        "tid": principal.token_id,
        "until": None if principal.expires_at == FOREVER else int(principal.expires_at.timestamp()),
        "exp": int(now.timestamp()) + TICKET_SECONDS,
        "jti": token_hex(16),
        "typ": "ticket",
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def read_ticket(ticket: str, *, secrets: Sequence[str], now: datetime) -> Ticket:
    """What a ticket says; whether it was used before is for others to know. Raises like `read_access_token`."""
    claims = _claims(ticket, secrets, _TicketClaims)
    if claims.typ != "ticket" or claims.exp <= now.timestamp():
        raise UnauthorizedError("The ticket has expired. Get another one with POST /v1/stream/tickets.")
    until = None if claims.until is None else datetime.fromtimestamp(claims.until, tz=now.tzinfo)
    return Ticket(
        claims.jti,
        Claimed(
            workspace_id=claims.ws,
            user_id=claims.sub,
            session_id=claims.sid,
            token_id=claims.tid,
            expires_at=until,
        ),
    )


def _claims(token: str, secrets: Sequence[str], kind: type[C]) -> C:
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
            return msgspec.convert(payload, kind)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise UnauthorizedError("The token is not valid.") from error
    raise UnauthorizedError("The token is not valid.")


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
