"""Groups of the client's directory, and the roles that an administrator lets them stand for."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct
from runtime.database import tenant
from scim2_models import NotFoundException

from services.gateway.identity.scim import _queries
from services.gateway.identity.scim.directory import Directory
from services.gateway.listing import Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown

GroupRole: TypeAlias = Literal[
    "read_only", "viewer", "executive", "analyst", "compliance_admin", "security_admin", "admin"
]


class ScimGroup(Struct, frozen=True, kw_only=True):
    """A group that the client's directory keeps here."""

    id: str
    display_name: str
    external_id: str | None
    role: Annotated[
        GroupRole | None,
        Meta(description="What provisioned members of it are; of several groups the highest role wins."),
    ]
    members: Annotated[int, Meta(ge=0)]
    created_at: datetime
    updated_at: datetime


class ScimGroupPage(Struct, frozen=True, kw_only=True):
    """A page of groups."""

    data: tuple[ScimGroup, ...]
    page: PageInfo


class ScimGroupMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which role a group stands for."""

    role: Annotated[
        GroupRole | None,
        Meta(description="At most what you may do yourself, and never owner; null: none."),
    ]


LISTING = Listing(
    name="scim_groups",
    view="scim_groups_shown",
    row=_queries.ShownGroup,
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="created_at",
)


def _present(row: _queries.ShownGroup) -> ScimGroup:
    return ScimGroup(
        id=row.group_id,
        display_name=row.display_name,
        external_id=row.external_id,
        role=row.role,  # type: ignore[arg-type]  # the column's check has the same words
        members=row.n_members,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def list_groups(gateway: Gateway, call: Call[ListQuery, None]) -> ScimGroupPage:
    """A page of groups, oldest first."""
    found = await list_page(gateway, call, LISTING, conditions=(), sort=None, source=gateway.people)
    return ScimGroupPage(data=shown(found, _present), page=page_info(found))


async def map_group(gateway: Gateway, call: Call[NoQuery, ScimGroupMapping]) -> ScimGroup:
    """Let a group stand for a role."""
    group_id = call.path["group_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        directory = Directory(conn, act_of(gateway, call), base="", rng=gateway.rng)
        try:
            await directory.map_group(group_id, call.body.role)
        except NotFoundException as error:
            raise not_found("group", group_id) from error
        found = await _queries.get_shown_group(conn, workspace_id=call.workspace_id, group_id=group_id)
    gateway.access.forget(*directory.touched)
    if found is None:
        raise not_found("group", group_id)
    return _present(found)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listScimGroups",
        method="GET",
        path="/v1/scim-groups",
        tag="People",
        summary="List the groups of your directory and the roles that they stand for.",
        scope="members:read",
        query=ListQuery,
        replies={200: ScimGroupPage},
        handle=list_groups,
    ),
    Operation(
        id="mapScimGroup",
        method="PATCH",
        path="/v1/scim-groups/{group_id}",
        tag="People",
        summary="Let a group of your directory stand for a role.",
        description="Holds for members whom the directory provisioned; others keep the role that they were given.",
        scope="members:admin",
        body=ScimGroupMapping,
        replies={200: ScimGroup},
        refusals=(422,),
        handle=map_group,
    ),
)
