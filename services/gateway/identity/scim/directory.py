"""What a directory asks for, done to members and groups in one transaction."""

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import psycopg
from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from scim2_models import (
    Context,
    InvalidValueException,
    NotFoundException,
    PatchOp,
    PreconditionFailedException,
    SearchRequest,
    TooManyException,
    UniquenessException,
)
from scim2_models.path import AttrPath, CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator

from services.gateway.identity.people.acting import Act, rules_as_refusals
from services.gateway.identity.people.members import end_membership
from services.gateway.identity.scim import _queries
from services.gateway.identity.scim.resources import (
    NAME_LENGTH_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    POLICY,
    AnyResource,
    Group,
    User,
    address_of,
    as_group,
    as_user,
    completed,
    kept_of,
    name_of,
)
from services.gateway.identity.scopes import ROLES

R = TypeVar("R", bound=AnyResource)

ROLE_WITHOUT_GROUP = "viewer"
"""What a provisioned member is in no group that stands for a role."""
LOOKED_THROUGH_MAX = 2_000
"""Resources that a filter without an exact user name, external id or id is tried on; each costs 0.2 ms."""
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
MEMBERS_MAX = 20_000
Status: TypeAlias = Literal["active", "suspended", "invited"]
_DEEDS: Mapping[Status, str] = {
    "active": "member.reinstated",
    "suspended": "member.suspended",
    "invited": "member.invited",
}
"""What is written down when the directory changes a member's status."""
START_MAX = 2**31 - 1


class Page(Struct, frozen=True):
    """A page of a search. total: how many match in all; start: the number of the first one, from 1."""

    resources: Sequence[AnyResource]
    total: int
    start: int


class Directory:
    """One request of a client's directory. touched: the people whose rights may have changed."""

    def __init__(self, conn: AsyncConnection[Any], act: Act, *, base: str, rng: random.Random) -> None:
        self._conn = conn
        self._act = act
        self._base = base
        self._rng = rng
        self.touched: set[str] = set()

    async def find_users(self, asked: SearchRequest[Any]) -> Page:
        """The members that a search asks for. Raises TooManyException when the filter is too vague for that many."""

        async def fetch(exact: Mapping[str, str], size: int, skipped: int) -> list[User]:
            rows = await _queries.list_accounts(
                self._conn,
                workspace_id=self._act.workspace_id,
                membership_id=exact.get("id"),
                user_name=exact.get("username"),
                external_id=exact.get("externalid"),
                page_size=size,
                skipped=skipped,
            )
            return await self._users(rows)

        async def count() -> int:
            return await _queries.count_accounts(self._conn, workspace_id=self._act.workspace_id)

        return await _search(asked, ("id", "username", "externalid"), fetch, count)

    async def user(self, user_id: str) -> User:
        """A member. Raises NotFoundException."""
        return (await self._users([await self._account(user_id)]))[0]

    async def create_user(self, payload: dict[str, object]) -> User:
        """Make somebody a member on the directory's word; suspended when they are not active, and merely invited when
        they have joined another client and the directory cannot speak for them.

        Raises InvalidValueException, UniquenessException, SeatLimitError.
        """
        wanted = _read(User, completed(payload, active=True), Context.RESOURCE_CREATION_REQUEST)
        email, user_name = _keys_of(wanted)
        await self._lock()
        await self._check_unique(user_name, email, left_out="")
        user_id = await _queries.ensure_person(self._conn, email=email, name=name_of(wanted))
        membership_id = new_id("mem_", now=self._act.now, rng=self._rng)
        status = await self._status_of(wanted, user_id)
        with rules_as_refusals():
            await _queries.insert_account(
                self._conn,
                workspace_id=self._act.workspace_id,
                membership_id=membership_id,
                user_id=user_id,
                role=ROLE_WITHOUT_GROUP,
                status=status,
            )
        await self._keep(user_id, wanted)
        await self._act.write_down(
            self._conn, "member.provisioned", "create", ("membership", membership_id), status=status
        )
        self.touched.add(user_id)
        return await self.user(membership_id)

    async def replace_user(self, user_id: str, payload: dict[str, object], *, if_match: str | None) -> User:
        """PUT. Raises like `patch_user`."""
        await self._lock()
        row, present = await self._matching_user(user_id, if_match)
        wanted = _read(
            User, completed(payload, active=bool(present.active)), Context.RESOURCE_REPLACEMENT_REQUEST
        )
        wanted.replace(present)
        return await self._save_user(row, wanted)

    async def patch_user(self, user_id: str, payload: dict[str, object], *, if_match: str | None) -> User:
        """PATCH, which also suspends and lets in again.

        Raises NotFoundException, PreconditionFailedException, what the library raises on operations that do not fit,
        UniquenessException, SeatLimitError, LastAdminError.
        """
        await self._lock()
        row, present = await self._matching_user(user_id, if_match)
        _read(PatchOp[User], payload, Context.RESOURCE_PATCH_REQUEST).patch(present, scim_policy=POLICY)
        return await self._save_user(row, present)

    async def delete_user(self, user_id: str, *, if_match: str | None) -> None:
        """End a membership. Raises NotFoundException, PreconditionFailedException, LastAdminError."""
        await self._lock()
        row, _ = await self._matching_user(user_id, if_match)
        self.touched.add(row.user_id)
        await end_membership(self._conn, self._act, membership_id=row.membership_id, user_id=row.user_id)

    async def find_groups(self, asked: SearchRequest[Any]) -> Page:
        """The groups that a search asks for. Raises TooManyException."""
        with_members = _wants_members(asked)

        async def fetch(exact: Mapping[str, str], size: int, skipped: int) -> list[Group]:
            rows = await _queries.list_groups(
                self._conn,
                workspace_id=self._act.workspace_id,
                group_id=exact.get("id"),
                display_name=exact.get("displayname"),
                external_id=exact.get("externalid"),
                page_size=size,
                skipped=skipped,
            )
            return await self._groups(rows, with_members=with_members)

        async def count() -> int:
            return await _queries.count_groups(self._conn, workspace_id=self._act.workspace_id)

        return await _search(asked, ("id", "displayname", "externalid"), fetch, count)

    async def group(self, group_id: str) -> Group:
        """A group. Raises NotFoundException."""
        return (await self._groups([await self._group_row(group_id)]))[0]

    async def create_group(self, payload: dict[str, object]) -> Group:
        """Make a group; it stands for no role until an administrator says for which."""
        wanted = _read(Group, payload, Context.RESOURCE_CREATION_REQUEST)
        await self._lock()
        group_id = new_id("grp_", now=self._act.now, rng=self._rng)
        await _queries.insert_group(
            self._conn,
            workspace_id=self._act.workspace_id,
            group_id=group_id,
            display_name=_name_of_group(wanted),
            external_id=_short(wanted.external_id, "externalId"),
            now=self._act.now,
        )
        await self._act.write_down(self._conn, "scim.group_created", "create", ("scim_group", group_id))
        await self._fill(group_id, present=(), wanted=_member_ids(wanted))
        return await self.group(group_id)

    async def replace_group(
        self, group_id: str, payload: dict[str, object], *, if_match: str | None
    ) -> Group:
        """PUT. Raises like `patch_group`."""
        await self._lock()
        present = await self._matching_group(group_id, if_match)
        wanted = _read(Group, payload, Context.RESOURCE_REPLACEMENT_REQUEST)
        return await self._save_group(present, wanted)

    async def patch_group(self, group_id: str, payload: dict[str, object], *, if_match: str | None) -> Group:
        """PATCH. Raises NotFoundException, PreconditionFailedException, InvalidValueException, LastAdminError."""
        await self._lock()
        present = await self._matching_group(group_id, if_match)
        wanted = present.model_copy(deep=True)
        _read(PatchOp[Group], payload, Context.RESOURCE_PATCH_REQUEST).patch(wanted, scim_policy=POLICY)
        return await self._save_group(present, wanted)

    async def delete_group(self, group_id: str, *, if_match: str | None) -> None:
        """Delete a group; who was in it loses the role that it stood for. Raises like `patch_group`."""
        await self._lock()
        present = await self._matching_group(group_id, if_match)
        people = await self._people_in(group_id)
        await _queries.delete_group(self._conn, workspace_id=self._act.workspace_id, group_id=str(present.id))
        await self._act.write_down(self._conn, "scim.group_deleted", "delete", ("scim_group", group_id))
        await self._follow_groups(people.values())

    async def map_group(self, group_id: str, role: str | None) -> _queries.Group:
        """Say what a group's members become; None: nothing in particular.

        Raises NotFoundException; ForbiddenError when the role, or the one before, is above the one who asks;
        LastAdminError.
        """
        await self._lock()
        row = await self._group_row(group_id)
        for each in {row.role, role} - {None}:
            self._act.check_may_grant(str(each))
        await _queries.map_group(
            self._conn, role=role, now=self._act.now, workspace_id=self._act.workspace_id, group_id=group_id
        )
        await self._act.write_down(
            self._conn, "scim.group_mapped", "update", ("scim_group", group_id), before=row.role, after=role
        )
        await self._follow_groups((await self._people_in(group_id)).values())
        return await self._group_row(group_id)

    async def _lock(self) -> None:
        await _queries.lock_directory(self._conn, workspace_id=self._act.workspace_id)

    async def _account(self, user_id: str) -> _queries.Account:
        rows = await _queries.list_accounts(
            self._conn,
            workspace_id=self._act.workspace_id,
            membership_id=user_id,
            user_name=None,
            external_id=None,
            page_size=1,
            skipped=0,
        )
        if not rows:
            raise NotFoundException(detail=f"There is no user {user_id}.")
        return rows[0]

    async def _users(self, rows: Sequence[_queries.Account]) -> list[User]:
        groups = await _queries.list_groups_of(
            self._conn, workspace_id=self._act.workspace_id, user_ids=[row.user_id for row in rows]
        )
        by_user: dict[str, list[_queries.ListGroupsOfRow]] = {}
        for group in groups:
            by_user.setdefault(group.user_id, []).append(group)
        return await asyncio.to_thread(
            lambda: [as_user(row, by_user.get(row.user_id, ()), base=self._base) for row in rows]
        )

    async def _matching_user(self, user_id: str, if_match: str | None) -> tuple[_queries.Account, User]:
        row = await self._account(user_id)
        [present] = await self._users([row])
        _check_version(present, if_match)
        return row, present

    async def _save_user(self, row: _queries.Account, wanted: User) -> User:
        email, user_name = _keys_of(wanted, default=row.email)
        await self._check_unique(user_name, email, left_out=row.membership_id)
        await self._keep(row.user_id, wanted)
        if (email, name_of(wanted)) != (row.email, row.name):
            with _uniqueness():
                await _queries.follow_directory(
                    self._conn, user_id=row.user_id, email=email, name=name_of(wanted)
                )
        target = ("membership", row.membership_id)
        await self._act.write_down(self._conn, "member.described", "update", target)
        # Whoever is active stays so, whatever has become known of them since.
        is_kept = wanted.active and row.status == "active"
        status: Status = "active" if is_kept else await self._status_of(wanted, row.user_id)
        # Somebody who is invited is not active, and stays invited until the directory says otherwise.
        if status != row.status and not (row.status == "invited" and not wanted.active):
            with rules_as_refusals():
                await _queries.change_status(
                    self._conn,
                    status=status,
                    role_without_invitation=ROLE_WITHOUT_GROUP,
                    updated_at=self._act.now,
                    workspace_id=self._act.workspace_id,
                    membership_id=row.membership_id,
                )
            action = _DEEDS[status]
            await self._act.write_down(self._conn, action, "update", target)
            self.touched.add(row.user_id)
        return await self.user(row.membership_id)

    async def _status_of(self, wanted: User, user_id: str) -> Status:
        if not wanted.active:
            return "suspended"
        return "active" if await _queries.is_admissible(self._conn, user_id=user_id) else "invited"

    async def _keep(self, user_id: str, wanted: User) -> None:
        with _uniqueness():
            await _queries.upsert_profile(
                self._conn,
                workspace_id=self._act.workspace_id,
                user_id=user_id,
                user_name=str(wanted.user_name),
                external_id=_short(wanted.external_id, "externalId"),
                attributes=kept_of(wanted),
                now=self._act.now,
            )

    async def _check_unique(self, user_name: str, email: str, *, left_out: str) -> None:
        namesake = await _queries.find_namesake(
            self._conn,
            workspace_id=self._act.workspace_id,
            left_out=left_out,
            user_name=user_name,
            email=email,
        )
        if namesake is not None:
            raise UniquenessException(detail="There is a user with that userName or address already.")

    async def _group_row(self, group_id: str) -> _queries.Group:
        rows = await _queries.list_groups(
            self._conn,
            workspace_id=self._act.workspace_id,
            group_id=group_id,
            display_name=None,
            external_id=None,
            page_size=1,
            skipped=0,
        )
        if not rows:
            raise NotFoundException(detail=f"There is no group {group_id}.")
        return rows[0]

    async def _groups(self, rows: Sequence[_queries.Group], *, with_members: bool = True) -> list[Group]:
        by_group: dict[str, list[_queries.ListMembersOfRow]] = {}
        if with_members and rows:
            for person in await _queries.list_members_of(
                self._conn, workspace_id=self._act.workspace_id, group_ids=[row.group_id for row in rows]
            ):
                by_group.setdefault(person.group_id, []).append(person)
        return await asyncio.to_thread(
            lambda: [as_group(row, by_group.get(row.group_id, ()), base=self._base) for row in rows]
        )

    async def _matching_group(self, group_id: str, if_match: str | None) -> Group:
        present = await self.group(group_id)
        _check_version(present, if_match)
        return present

    async def _save_group(self, present: Group, wanted: Group) -> Group:
        group_id = str(present.id)
        await _queries.update_group(
            self._conn,
            display_name=_name_of_group(wanted),
            external_id=_short(wanted.external_id, "externalId"),
            now=self._act.now,
            workspace_id=self._act.workspace_id,
            group_id=group_id,
        )
        await self._act.write_down(self._conn, "scim.group_updated", "update", ("scim_group", group_id))
        await self._fill(group_id, present=_member_ids(present), wanted=_member_ids(wanted))
        return await self.group(group_id)

    async def _fill(self, group_id: str, *, present: Iterable[str], wanted: Iterable[str]) -> None:
        """Put people in and take people out, and let their roles follow. Raises InvalidValueException on no member."""
        before, after = set(present), set(wanted)
        added = sorted(after - before)
        workspace_id = self._act.workspace_id
        if len(after) > MEMBERS_MAX:
            raise InvalidValueException(detail=f"A group has {MEMBERS_MAX} members at most.")
        n_known = await _queries.count_members(self._conn, workspace_id=workspace_id, membership_ids=added)
        if n_known != len(added):
            raise InvalidValueException(detail="members: every value is the id of a user.")
        people = await self._people_in(group_id)
        removed = [people[each] for each in before - after if each in people]
        await _queries.delete_group_members(
            self._conn, workspace_id=workspace_id, group_id=group_id, user_ids=removed
        )
        await _queries.insert_group_members(
            self._conn, group_id=group_id, workspace_id=workspace_id, membership_ids=added
        )
        now_in = await self._people_in(group_id)
        await self._follow_groups([*removed, *(now_in[each] for each in added)])

    async def _people_in(self, group_id: str) -> dict[str, str]:
        """Who is in a group: membership → person."""
        rows = await _queries.list_members_of(
            self._conn, workspace_id=self._act.workspace_id, group_ids=[group_id]
        )
        return {row.membership_id: row.user_id for row in rows}

    async def _follow_groups(self, user_ids: Iterable[str]) -> None:
        """Give provisioned members the highest role that their groups stand for. Raises LastAdminError."""
        rows = await _queries.list_mapped_roles(
            self._conn, workspace_id=self._act.workspace_id, user_ids=sorted(set(user_ids))
        )
        for row in rows:
            role = max(row.mapped, key=lambda name: (ROLES[name].rank, name), default=ROLE_WITHOUT_GROUP)
            if role == row.role:
                continue
            with rules_as_refusals():
                await _queries.change_role(
                    self._conn,
                    role=role,
                    updated_at=self._act.now,
                    workspace_id=self._act.workspace_id,
                    membership_id=row.membership_id,
                )
            await self._act.write_down(
                self._conn,
                "member.role_changed",
                "update",
                ("membership", row.membership_id),
                before=row.role,
                after=role,
            )
            self.touched.add(row.user_id)


Fetch = Callable[[Mapping[str, str], int, int], Any]


async def _search(
    asked: SearchRequest[Any], keys: Sequence[str], fetch: Fetch, count: Callable[[], Any]
) -> Page:
    """A page: cut out by the database without a filter, else tried one by one on what its exact keys leave."""
    start = min(asked.start_index or 1, START_MAX)
    size = min(PAGE_DEFAULT if asked.count is None else asked.count, PAGE_MAX)
    if asked.filter is None:
        total = await count()
        return Page(await fetch({}, size, start - 1) if size else (), total, start)
    exact = dict(_exact(asked.filter.ast, keys))
    # A filter can name what no row can hold, and then nothing is that.
    is_possible = not any(_UNKEPT.search(value) for value in exact.values())
    candidates = await fetch(exact, LOOKED_THROUGH_MAX + 1, 0) if is_possible else ()
    if len(candidates) > LOOKED_THROUGH_MAX:
        raise TooManyException(
            detail="Too many resources to look through. Ask for an exact userName or externalId."
        )
    matches = asked.filter.match
    found = await asyncio.to_thread(lambda: [each for each in candidates if matches(each)])
    return Page(found[start - 1 : start - 1 + size], len(found), start)


def _exact(node: FilterNode, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The keys that a filter asks for exactly, wherever else it looks."""
    match node:
        case Comparison(AttrPath(attr, None, _), CompareOperator.eq, str(value)) if attr.lower() in keys:
            yield attr.lower(), value
        case LogicalExpr(LogicalOperator.and_, terms):
            for term in terms:
                yield from _exact(term, keys)


def _wants_members(asked: SearchRequest[Any]) -> bool:
    named = [str(path).lower() for path in asked.excluded_attributes or ()]
    wanted = [str(path).lower() for path in asked.attributes or ()]
    is_filtered = asked.filter is not None and "members" in str(asked.filter).lower()
    return is_filtered or (
        "members" not in named and (not wanted or any("members" in each for each in wanted))
    )


def _read(kind: type[Any], payload: dict[str, object], context: Context) -> Any:
    """A payload as what it is to be. Raises pydantic's ValidationError."""
    return kind.model_validate(payload, scim_ctx=context, scim_policy=POLICY)


def _check_version(present: AnyResource, if_match: str | None) -> None:
    """Raise PreconditionFailedException unless the caller has seen the present version, or does not care."""
    if if_match is None or if_match.strip() == "*":
        return
    version = present.meta.version if present.meta else None
    if version not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailedException(detail="The resource has changed since you read it.")


def _keys_of(wanted: User, *, default: str = "") -> tuple[str, str]:
    """Address and user name. Raises InvalidValueException when there is no address to sign in with."""
    user_name = _short(wanted.user_name, "userName") or ""
    email = address_of(wanted) or default
    if not email or not user_name.strip():
        raise InvalidValueException(detail="emails: the address that the person signs in with is needed.")
    return email, user_name


def _name_of_group(wanted: Group) -> str:
    name = _short(wanted.display_name, "displayName")
    if not name or not name.strip():
        raise InvalidValueException(detail="displayName is needed.")
    return name


def _short(text: str | None, field: str) -> str | None:
    if text is not None and len(text) > NAME_LENGTH_MAX:
        raise InvalidValueException(detail=f"{field} has at most {NAME_LENGTH_MAX} characters.")
    return text


def _member_ids(group: Group) -> list[str]:
    """The ids of a group's members. Raises InvalidValueException on a group in the group."""
    for member in group.members or ():
        if (member.type or "User").lower() != "user" or "/Groups/" in str(member.ref or ""):
            raise InvalidValueException(detail="members: groups in groups are not known here.")
    return [str(member.value) for member in group.members or ()]


@contextmanager
def _uniqueness() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise UniquenessException(detail="Somebody else has that userName or address.") from error
