"""Members of the workspace: list, look at, another role, suspend, remove."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway.identity.people import _queries, members
from services.gateway.identity.people.acting import Act
from services.gateway.identity.scopes import ROLE_ALIASES
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.vocabulary import Search, search_terms

Role: TypeAlias = Literal[
    "read_only", "viewer", "executive", "analyst", "compliance_admin", "security_admin", "admin", "owner"
]
AnyRole: TypeAlias = Literal[
    "read_only", "viewer", "executive", "analyst", "compliance_admin", "security_admin", "admin", "owner",
    "tenant_admin",
]  # fmt: skip
MemberStatus: TypeAlias = Literal["active", "invited", "suspended"]


class Member(Struct, frozen=True, kw_only=True):
    """A person in the workspace."""

    id: str
    user_id: str
    email: str
    name: str
    avatar_url: str | None
    role: Role
    status: Annotated[MemberStatus, Meta(description="An active member takes a seat.")]
    provisioning: Annotated[
        Literal["manual", "invitation", "sso", "scim"], Meta(description="How they came in.")
    ]
    last_active_at: datetime | None
    created_at: datetime
    updated_at: datetime


class PeoplePage(Struct, frozen=True, kw_only=True):
    """A page of members."""

    data: tuple[Member, ...]
    page: PageInfo


class PeopleQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of members."""

    role: Annotated[tuple[AnyRole, ...] | None, Meta(description="tenant_admin is the same as admin.")] = None
    status: tuple[MemberStatus, ...] | None = None
    q: Annotated[Search | None, Meta(description="Words that name or address contain, all of them.")] = None
    sort: Literal["created_at", "-created_at", "name", "-name", "email", "-email"] = "-created_at"


class MemberChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a member; what is absent stays."""

    role: Annotated[
        AnyRole | None,
        Meta(description="At most what you may do yourself. Holds from the member's next request on."),
    ] = None
    status: Annotated[
        Literal["active", "suspended"] | None,
        Meta(description="suspended frees the seat and shuts out, and deletes nothing."),
    ] = None


LISTING = Listing(
    name="members",
    view="members",
    row=_queries.Member,
    sorts={
        "created_at": SortKey("created_at", "timestamptz"),
        "name": SortKey("name", "text"),
        "email": SortKey("email", "text"),
    },
    default_sort="-created_at",
)


def act_of(gateway: Gateway, call: Call[Any, Any]) -> Act:  # Any: whatever is asked
    """The caller as somebody who does something about people."""
    return Act(principal=call.principal, ip=call.ip, now=gateway.resources.clock())


def role_named(role: AnyRole | None) -> Role | None:
    """The role behind any of its names."""
    return None if role is None else ROLE_ALIASES.get(role, role)  # type: ignore[return-value]  # aliases are of roles


def _present(row: _queries.Member) -> Member:
    return Member(
        id=row.membership_id,
        user_id=row.user_id,
        email=row.email,
        name=row.name,
        avatar_url=row.avatar_url,
        role=row.role,  # type: ignore[arg-type]  # the column's check has the same words
        status=row.status,  # type: ignore[arg-type]  # likewise
        provisioning=row.provisioning,  # type: ignore[arg-type]  # likewise
        last_active_at=row.last_active_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def list_members(gateway: Gateway, call: Call[PeopleQuery, None]) -> PeoplePage:
    """A page of members."""
    query = call.query
    conditions: list[Condition] = []
    if query.role:
        roles = sorted({ROLE_ALIASES.get(role, role) for role in query.role})
        conditions.append(Condition("role = ANY({value}::text[])", roles))
    if query.status:
        conditions.append(Condition("status = ANY({value}::text[])", list(query.status)))
    if query.q:
        terms = search_terms(query.q)
        conditions.append(Condition("(name || ' ' || email) ILIKE ALL({value}::text[])", terms))
    found = await list_page(
        gateway, call, LISTING, conditions=conditions, sort=query.sort, source=gateway.people
    )
    return PeoplePage(data=shown(found, _present), page=page_info(found))


async def get_member(gateway: Gateway, call: Call[NoQuery, None]) -> Member:
    """A member."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await members.find_member(
            conn, workspace_id=call.workspace_id, membership_id=call.path["member_id"]
        )
    return _present(found)


async def change_member(gateway: Gateway, call: Call[NoQuery, MemberChange]) -> Member:
    """Another role, a pause, the end of one."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        changed = await members.change_member(
            conn,
            act_of(gateway, call),
            call.path["member_id"],
            role=role_named(call.body.role),
            status=call.body.status,
        )
    gateway.access.forget(changed.user_id)
    return _present(changed)


async def remove_member(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of a membership."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        user_id = await members.remove_member(conn, act_of(gateway, call), call.path["member_id"])
    gateway.access.forget(user_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listMembers",
        method="GET",
        path="/v1/members",
        tag="People",
        summary="List members.",
        scope="members:read",
        query=PeopleQuery,
        replies={200: PeoplePage},
        handle=list_members,
    ),
    Operation(
        id="getMember",
        method="GET",
        path="/v1/members/{member_id}",
        tag="People",
        summary="Look at a member.",
        scope="members:read",
        replies={200: Member},
        handle=get_member,
    ),
    Operation(
        id="updateMember",
        method="PATCH",
        path="/v1/members/{member_id}",
        tag="People",
        summary="Give a member another role, suspend them, or let them in again.",
        description="422 `last_admin` keeps the last owner, 422 `seat_limit` names the seats.",
        scope="members:write",
        body=MemberChange,
        replies={200: Member},
        refusals=(409, 422),
        handle=change_member,
    ),
    Operation(
        id="removeMember",
        method="DELETE",
        path="/v1/members/{member_id}",
        tag="People",
        summary="Remove a member, with their sessions and personal tokens in the workspace.",
        scope="members:admin",
        replies={204: None},
        refusals=(422,),
        handle=remove_member,
    ),
)
