"""API tokens: made, given another secret, ended. Nobody gives a token what they do not have."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from random import Random
from typing import Any

import psycopg
from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import ForbiddenError, NotFoundError, StateConflictError, ValidationFailedError

from services.gateway.identity.access import _queries
from services.gateway.identity.access._queries import ApiToken
from services.gateway.identity.people.acting import Act
from services.gateway.identity.scopes import SCOPES
from services.gateway.identity.tokens import API_TOKEN_PREFIXES, FOREVER, Principal, hash_token, new_secret

HINT_LENGTH = 4


class Owner(Struct, frozen=True):
    """Whose tokens: a person's (usr_…) or a service account's (svc_…)."""

    id: str

    @property
    def is_person(self) -> bool:
        """Whether it is a person."""
        return self.id.startswith("usr_")

    def new_secret(self) -> str:
        """A secret that a token of this owner may have."""
        return new_secret(API_TOKEN_PREFIXES["personal" if self.is_person else "service"])


class TokenRequest(Struct, frozen=True):
    """A token that is to be made. expires_at: None: never."""

    name: str
    scopes: frozenset[str]
    expires_at: datetime | None


class Made(Struct, frozen=True):
    """A token and its secret, which is kept nowhere."""

    token: ApiToken
    secret: str


async def make_token(
    conn: AsyncConnection[Any], act: Act, owner: Owner, request: TokenRequest, *, rng: Random
) -> Made:
    """A new token, which ends with the API token that it is made with at the latest.

    Raises ValidationFailedError, ForbiddenError for a scope that one has not, StateConflictError.
    """
    unknown = sorted(request.scopes - frozenset(SCOPES))
    if unknown:
        raise ValidationFailedError(
            f"scopes: there is no scope {', '.join(unknown)}.", details={"scopes": "unknown scope"}
        )
    _check_has(act, request.scopes)
    if request.expires_at is not None and request.expires_at <= act.now:
        raise ValidationFailedError(
            "expires_at: that is in the past.", details={"expires_at": "not in the future"}
        )
    ends_at = _end_of(act.principal)
    secret = owner.new_secret()
    await _queries.free_token_name(conn, workspace_id=act.workspace_id, owner_id=owner.id, name=request.name)
    with name_as_refusal(request.name):
        token = await _queries.insert_api_token(
            conn,
            workspace_id=act.workspace_id,
            token_id=new_id("tok_", now=act.now, rng=rng),
            user_id=owner.id if owner.is_person else None,
            service_account_id=None if owner.is_person else owner.id,
            name=request.name,
            token_hash=hash_token(secret),
            hint=secret[-HINT_LENGTH:],
            scopes=sorted(request.scopes),
            created_by=act.principal.user_id,
            created_at=act.now,
            expires_at=min(filter(None, (request.expires_at, ends_at)), default=None),
        )
    if token is None:
        raise LookupError("the new token gave no row")
    await act.write_down(
        conn,
        "token.created",
        "create",
        ("api_token", token.token_id),
        owner=owner.id,
        scopes=" ".join(token.scopes),
    )
    return Made(token, secret)


async def rotate_token(conn: AsyncConnection[Any], act: Act, owner: Owner, token_id: str) -> Made:
    """The same token with another secret. Raises NotFoundError, ForbiddenError, StateConflictError when it has expired."""
    token = await find_token(conn, act, owner, token_id)
    if token.expires_at is not None and token.expires_at <= act.now:
        raise StateConflictError("The token has expired; make a new one.")
    # Whoever gets the secret gets what it opens; only a person at their own token has that already.
    if not (act.principal.is_person and owner.is_person):
        _check_has(act, token.scopes)
    ends_at = _end_of(act.principal)
    if ends_at is not None and (token.expires_at is None or token.expires_at > ends_at):
        raise ForbiddenError("That token outlives yours, so yours cannot get its secret.")
    secret = owner.new_secret()
    hint = secret[-HINT_LENGTH:]
    await _queries.change_secret(
        conn,
        workspace_id=act.workspace_id,
        token_id=token_id,
        token_hash=hash_token(secret),
        hint=hint,
    )
    await act.write_down(conn, "token.rotated", "update", ("api_token", token_id), owner=owner.id)
    return Made(await find_token(conn, act, owner, token_id), secret)


async def revoke_token(conn: AsyncConnection[Any], act: Act, owner: Owner, token_id: str) -> None:
    """The end of a token, for ever. Raises NotFoundError."""
    await find_token(conn, act, owner, token_id)
    await _queries.revoke_api_token(
        conn, workspace_id=act.workspace_id, token_id=token_id, revoked_at=act.now
    )
    await act.write_down(conn, "token.revoked", "revoke", ("api_token", token_id), owner=owner.id)


async def find_token(conn: AsyncConnection[Any], act: Act, owner: Owner, token_id: str) -> ApiToken:
    """A token of this owner that was not revoked. Raises NotFoundError."""
    found = await _queries.lock_api_token(
        conn, workspace_id=act.workspace_id, token_id=token_id, owner_id=owner.id
    )
    if found is None:
        raise NotFoundError(f"There is no API token {token_id}.", details={"id": token_id})
    return found


@contextmanager
def name_as_refusal(name: str) -> Iterator[None]:
    """Turn the database's word that a name is taken, or that whose it would be is gone, into a refusal."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise StateConflictError(f"The name {name!r} is taken.", details={"name": "is taken"}) from error
    except psycopg.errors.ForeignKeyViolation as error:
        # Whoever is to have it was looked up before, and went since.
        raise StateConflictError("What this belongs to was deleted at the same moment.") from error


def _end_of(principal: Principal) -> datetime | None:
    """When the API token that somebody acts with ends: no secret of theirs is good for longer. None: never, or no token."""
    return principal.expires_at if principal.token_id and principal.expires_at < FOREVER else None


def _check_has(act: Act, scopes: Collection[str]) -> None:
    lacking = sorted(frozenset(scopes) - act.principal.scopes)
    if lacking:
        raise ForbiddenError(
            f"You do not have {', '.join(lacking)} yourself.", details={"scope": " ".join(lacking)}
        )
