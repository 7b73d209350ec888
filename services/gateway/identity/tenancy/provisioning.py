"""A client made over HTTP: the same as in SQL, with a first API key and a link for its owner when wanted."""

import random
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final

import psycopg
from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import AppError, PlanLimitError, StateConflictError, ValidationFailedError

from services.gateway.identity.people.acting import Act
from services.gateway.identity.people.invitations import DAYS_GOOD, TOKEN_PREFIX, hash_token
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.tenancy import _queries
from services.gateway.identity.tenancy._queries import MadeClient
from services.gateway.identity.tokens import API_TOKEN_PREFIXES

API_KEY_NAME: Final = "Provisioned"
# Tokens of one's own are for people.
API_KEY_SCOPES: Final = sorted(ROLES["analyst"].scopes - {"tokens:read", "tokens:write"})
"""What the first API key of a client may do."""


class Order(Struct, frozen=True, kw_only=True):
    """A client to be made. seats: None is as many as the plan has."""

    slug: str
    name: str
    plan: str
    seats: int | None
    timezone: str
    workspace_name: str | None
    owner_email: str
    owner_name: str | None


class ApiKey(Struct, frozen=True, kw_only=True):
    """A service account's token; it is shown once and kept as a hash."""

    service_account_id: str
    token_id: str
    token: str
    scopes: tuple[str, ...]


class OwnerLink(Struct, frozen=True, kw_only=True):
    """What the owner's link carries; it is shown once and kept as a hash."""

    token: str
    expires_at: datetime


async def make_client(conn: AsyncConnection[Any], order: Order) -> MadeClient:
    """Make it in this transaction, which then sees its workspace.

    Raises StateConflictError for a slug that is taken, PlanLimitError for more seats than the plan has,
    ValidationFailedError for a plan or time zone that does not exist.
    """
    try:
        made = await _queries.onboard_client(
            conn,
            org_name=order.name,
            org_slug=order.slug,
            owner_email=order.owner_email,
            owner_name=order.owner_name,
            workspace_name=order.workspace_name,
            plan=order.plan,
            timezone=order.timezone,
            seats=order.seats,
        )
    except psycopg.errors.UniqueViolation as error:
        raise StateConflictError(
            f"There is a client {order.slug} already.", details={"organization.slug": "taken"}
        ) from error
    except psycopg.errors.CheckViolation as error:
        raise _refusal(order, error) from error
    await _queries.enter(conn, workspace_id=made.workspace_id)
    return made


def _refusal(order: Order, error: psycopg.Error) -> AppError:
    message = f"{error.diag.message_primary}. {error.diag.message_hint or ''}".strip()
    constraint = error.diag.constraint_name
    if constraint == "seats":
        return PlanLimitError(message, details={"limit": "seats", "plan": order.plan})
    return ValidationFailedError(message, details={f"organization.{constraint}": message})


async def issue_api_key(conn: AsyncConnection[Any], act: Act, *, rng: random.Random) -> ApiKey:
    """A service account with a token, for the workspace of the transaction."""
    token = API_TOKEN_PREFIXES["service"] + token_urlsafe(32)
    key = ApiKey(
        service_account_id=new_id("svc_", now=act.now, rng=rng),
        token_id=new_id("tok_", now=act.now, rng=rng),
        token=token,
        scopes=tuple(API_KEY_SCOPES),
    )
    await _queries.insert_service_account(
        conn,
        workspace_id=act.workspace_id,
        service_account_id=key.service_account_id,
        name=API_KEY_NAME,
        description="Made together with the client.",
        created_by=act.principal.user_id,
        created_at=act.now,
    )
    await _queries.insert_service_token(
        conn,
        workspace_id=act.workspace_id,
        token_id=key.token_id,
        service_account_id=key.service_account_id,
        name=API_KEY_NAME,
        token_hash=sha256(token.encode()).hexdigest(),
        hint=token[-4:],
        scopes=API_KEY_SCOPES,
        created_by=act.principal.user_id,
        created_at=act.now,
    )
    target = ("service_account", key.service_account_id)
    await act.write_down(conn, "service_account.created", "create", target)
    await act.write_down(conn, "token.created", "create", ("token", key.token_id))
    return key


async def issue_owner_link(
    conn: AsyncConnection[Any], act: Act, *, owner_id: str, email: str, rng: random.Random
) -> OwnerLink:
    """A link for the owner of the workspace of the transaction, good once and for seven days."""
    link = OwnerLink(token=TOKEN_PREFIX + token_urlsafe(32), expires_at=act.now + timedelta(days=DAYS_GOOD))
    invitation_id = new_id("inv_", now=act.now, rng=rng)
    await _queries.insert_owner_invitation(
        conn,
        workspace_id=act.workspace_id,
        invitation_id=invitation_id,
        user_id=owner_id,
        email=email,
        token_hash=hash_token(link.token),
        invited_by=act.principal.user_id,
        created_at=act.now,
        expires_at=link.expires_at,
    )
    target = ("invitation", invitation_id)
    await act.write_down(conn, "member.invited", "invite", target, role="owner", user_id=owner_id)
    return link
