"""Oneself: what the others see of a person, and how they want to be addressed."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from runtime.database import tenant
from runtime.errors import ForbiddenError, ValidationFailedError

from services.gateway.identity import _queries
from services.gateway.identity.scopes import SELF
from services.gateway.identity.tenancy import _queries as tenancy
from services.gateway.identity.tokens import Principal
from services.gateway.routes.members import Role, act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found
from services.gateway.routes.workspaces import TimeZone
from services.gateway.vocabulary import VISIBLE

DisplayName = Annotated[str, Meta(min_length=1, max_length=200, pattern=VISIBLE)]
AvatarUrl = Annotated[str, Meta(max_length=2048, pattern=r"^https://[!-~]+$(?!\n)")]
Locale = Annotated[
    str,
    Meta(
        max_length=35,
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$(?!\n)",
        description="A language tag of BCP 47, such as en-GB.",
    ),
]


class Profile(Struct, frozen=True, kw_only=True):
    """The person who is signed in, and what they are in this workspace."""

    id: str
    email: Annotated[str, Meta(description="The identity provider's; it is changed there.")]
    name: str
    avatar_url: str | None
    timezone: Annotated[str | None, Meta(description="Null: the workspace's.")]
    locale: Annotated[str | None, Meta(description="Null: the browser's.")]
    workspace_id: str
    role: Role
    scopes: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


class ProfileChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of oneself; what is absent stays, null takes it away."""

    name: DisplayName | UnsetType = UNSET
    avatar_url: AvatarUrl | UnsetType | None = UNSET
    timezone: TimeZone | UnsetType | None = UNSET
    locale: Locale | UnsetType | None = UNSET


def _present(row: _queries.Profile, principal: Principal) -> Profile:
    return Profile(
        id=row.user_id,
        email=row.email,
        name=row.name,
        avatar_url=row.avatar_url,
        timezone=row.timezone,
        locale=row.locale,
        workspace_id=principal.workspace_id,
        role=principal.role,  # type: ignore[arg-type]  # the column's check has the same words
        scopes=tuple(sorted(principal.scopes)),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def read_profile(gateway: Gateway, principal: Principal) -> Profile:
    """The person whom a principal is. Raises NotFoundError when they have just been erased."""
    async with tenant(gateway.people, principal.workspace_id) as conn:
        row = await _queries.get_profile(conn, user_id=principal.user_id)
    if row is None:
        raise not_found("person", principal.user_id)
    return _present(row, principal)


async def get_profile(gateway: Gateway, call: Call[NoQuery, None]) -> Profile:
    """Oneself."""
    return await read_profile(gateway, call.principal)


async def change_profile(gateway: Gateway, call: Call[NoQuery, ProfileChange]) -> Profile:
    """Oneself, changed."""
    act, change = act_of(gateway, call), call.body
    fields = [name for name in change.__struct_fields__ if getattr(change, name) is not UNSET]
    if not fields:
        return await read_profile(gateway, call.principal)
    async with tenant(gateway.people, call.workspace_id) as conn:
        if isinstance(change.timezone, str) and not await tenancy.is_timezone(conn, timezone=change.timezone):
            raise ValidationFailedError(
                f"timezone: {change.timezone} is no IANA time zone; write it like Europe/Berlin.",
                details={"timezone": "no IANA time zone"},
            )
        await _queries.identify(conn, user_id=call.principal.user_id, workspace_id=call.workspace_id)
        if call.principal.is_vouched and await _queries.is_known_elsewhere(conn):
            raise ForbiddenError(
                "You also belong to another organization: change what it sees of you from a session of the platform's"
                " provider.",
                details={"reason": "platform_session"},
            )
        row = await _queries.update_profile(
            conn,
            user_id=call.principal.user_id,
            name=change.name or None,
            sets_avatar_url=change.avatar_url is not UNSET,
            avatar_url=change.avatar_url or None,
            sets_timezone=change.timezone is not UNSET,
            timezone=change.timezone or None,
            sets_locale=change.locale is not UNSET,
            locale=change.locale or None,
            updated_at=act.now,
        )
        if row is None:
            raise not_found("person", call.principal.user_id)
        await act.write_down(
            conn, "profile.updated", "update", ("user", call.principal.user_id), fields=",".join(fields)
        )
    return _present(row, call.principal)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getProfile",
        method="GET",
        path="/v1/users/me",
        tag="Auth",
        summary="Look at yourself, and what you may do here.",
        scope=SELF,
        replies={200: Profile},
        refusals=(404,),
        handle=get_profile,
    ),
    Operation(
        id="updateProfile",
        method="PATCH",
        path="/v1/users/me",
        tag="Auth",
        summary="Change your name, picture, time zone or language.",
        scope=SELF,
        body=ProfileChange,
        replies={200: Profile},
        refusals=(404,),
        handle=change_profile,
    ),
)
