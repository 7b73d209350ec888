"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Account(Struct, frozen=True):
    """One row of a result."""

    membership_id: str
    user_id: str
    role: str
    status: str
    provisioning: str
    email: str
    name: str
    user_name: str | None
    external_id: str | None
    attributes: object | None
    created_at: datetime
    updated_at: datetime


class ListGroupsOfRow(Struct, frozen=True):
    """One row of list_groups_of."""

    user_id: str
    group_id: str
    display_name: str


class Group(Struct, frozen=True):
    """One row of a result."""

    group_id: str
    display_name: str
    external_id: str | None
    role: str | None
    created_at: datetime
    updated_at: datetime
    seq: int | None


class ShownGroup(Struct, frozen=True):
    """One row of a result."""

    group_id: str
    display_name: str
    external_id: str | None
    role: str | None
    created_at: datetime
    updated_at: datetime
    seq: int
    n_members: int


class ListMembersOfRow(Struct, frozen=True):
    """One row of list_members_of."""

    group_id: str
    membership_id: str
    user_id: str


class ListMappedRolesRow(Struct, frozen=True):
    """One row of list_mapped_roles."""

    membership_id: str
    user_id: str
    role: str
    mapped: list[str]


_LOCK_DIRECTORY = """
SELECT (pg_advisory_xact_lock(hashtextextended('scim/' || $1::text, 0)) IS NULL)::boolean AS is_held
"""


async def lock_directory(conn: AsyncConnection[Any], *, workspace_id: str) -> bool:
    """Let one change of a workspace's directory happen at a time, until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LOCK_DIRECTORY, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("lock_directory gave no row")
        return fetched


_LIST_ACCOUNTS = """
SELECT m.membership_id, m.user_id, m.role, m.status, m.provisioning, m.email, m.name, p.user_name, p.external_id,
    p.attributes, m.created_at, GREATEST(m.updated_at, p.updated_at)::timestamptz AS updated_at
FROM members AS m
LEFT JOIN scim_profiles AS p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
WHERE m.workspace_id = $1
  AND ($2::text IS NULL OR m.membership_id = $2::text)
  AND ($3::text IS NULL
       OR lower(COALESCE(p.user_name, m.email)) = lower($3::text))
  AND ($4::text IS NULL OR p.external_id = $4::text)
ORDER BY m.seq LIMIT $6::integer OFFSET $5::integer
"""


async def list_accounts(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str | None,
    user_name: str | None,
    external_id: str | None,
    skipped: int,
    page_size: int,
) -> list[Account]:
    """A page of the workspace's people as the directory sees them; what is null does not filter."""
    async with AsyncRawCursor(conn, row_factory=args_row(Account)) as cursor:
        await cursor.execute(_LIST_ACCOUNTS, (workspace_id, membership_id, user_name, external_id, skipped, page_size))
        fetched: list[Account] = await cursor.fetchall()
        return fetched


_COUNT_ACCOUNTS = """
SELECT count(*) FROM memberships WHERE workspace_id = $1
"""


async def count_accounts(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """How many people the workspace has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_ACCOUNTS, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_accounts gave no row")
        return fetched


_FIND_NAMESAKE = """
SELECT m.membership_id FROM memberships AS m
JOIN users AS u ON u.user_id = m.user_id
LEFT JOIN scim_profiles AS p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
WHERE m.workspace_id = $1 AND m.membership_id <> $2
  AND (lower(COALESCE(p.user_name, u.email)) = lower($3::text)
       OR lower(u.email) = lower($4::text))
LIMIT 1
"""


async def find_namesake(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    left_out: str,
    user_name: str,
    email: str,
) -> str | None:
    """The person's place in the workspace who has one of these names, in any case, and is not the one left out."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FIND_NAMESAKE, (workspace_id, left_out, user_name, email))
        fetched: str | None = await cursor.fetchone()
        return fetched


_ENSURE_PERSON = """
SELECT ensure_person($1, $2)::text AS user_id
"""


async def ensure_person(conn: AsyncConnection[Any], *, email: str, name: str) -> str:
    """Find or make the person with an address."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_ENSURE_PERSON, (email, name))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("ensure_person gave no row")
        return fetched


_IS_ADMISSIBLE = """
SELECT is_admissible($1)::boolean AS is_admissible
"""


async def is_admissible(conn: AsyncConnection[Any], *, user_id: str) -> bool:
    """Whether the directory may make somebody active, or only invite them."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_ADMISSIBLE, (user_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_admissible gave no row")
        return fetched


_FOLLOW_DIRECTORY = """
SELECT follow_directory($1, $2, $3)::boolean AS is_corrected
"""


async def follow_directory(conn: AsyncConnection[Any], *, user_id: str, email: str, name: str) -> bool:
    """Correct a person whom only this directory knows; false when they are their own master."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FOLLOW_DIRECTORY, (user_id, email, name))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("follow_directory gave no row")
        return fetched


_INSERT_ACCOUNT = """
INSERT INTO memberships (workspace_id, membership_id, user_id, role, status, provisioning)
VALUES ($1, $2, $3, $4, $5, 'scim')
"""


async def insert_account(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str,
    user_id: str,
    role: str,
    status: str,
) -> None:
    """Make a person a member on the directory's word."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ACCOUNT, (workspace_id, membership_id, user_id, role, status))


_CHANGE_STATUS = """
UPDATE memberships AS m SET status = $1, updated_at = $2,
    role = CASE WHEN m.status = 'invited' AND m.provisioning <> 'scim' AND NOT EXISTS (SELECT FROM invitations AS i
            WHERE i.workspace_id = m.workspace_id AND i.user_id = m.user_id AND i.status = 'pending'
                AND i.expires_at > $2::timestamptz)
        THEN $3::text ELSE m.role END
WHERE m.workspace_id = $4 AND m.membership_id = $5
"""


async def change_status(
    conn: AsyncConnection[Any],
    *,
    status: str,
    updated_at: datetime,
    role_without_invitation: str,
    workspace_id: str,
    membership_id: str,
) -> int:
    """Let a member in or shut them out on the directory's word; whose invitation is over does not get its role."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_STATUS, (status, updated_at, role_without_invitation, workspace_id, membership_id))
        return cursor.rowcount


_UPSERT_PROFILE = """
INSERT INTO scim_profiles AS known (workspace_id, user_id, user_name, external_id, attributes, created_at, updated_at)
VALUES ($1, $2, $3, $4,
    $5::text::jsonb, $6, $6)
ON CONFLICT (workspace_id, user_id) DO UPDATE SET user_name = excluded.user_name, external_id = excluded.external_id,
    attributes = excluded.attributes, updated_at = excluded.updated_at
"""


async def upsert_profile(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
    user_name: str,
    external_id: str | None,
    attributes: str,
    now: datetime,
) -> None:
    """Keep what the directory says of a member."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_PROFILE, (workspace_id, user_id, user_name, external_id, attributes, now))


_LIST_GROUPS_OF = """
SELECT gm.user_id, g.group_id, g.display_name FROM scim_group_members AS gm
JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
WHERE gm.workspace_id = $1 AND gm.user_id = ANY($2::text[])
ORDER BY g.seq
"""


async def list_groups_of(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_ids: list[str],
) -> list[ListGroupsOfRow]:
    """The groups of some people."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListGroupsOfRow)) as cursor:
        await cursor.execute(_LIST_GROUPS_OF, (workspace_id, user_ids))
        fetched: list[ListGroupsOfRow] = await cursor.fetchall()
        return fetched


_LIST_GROUPS = """
SELECT group_id, display_name, external_id, role, created_at, updated_at, seq FROM scim_groups
WHERE workspace_id = $1
  AND ($2::text IS NULL OR group_id = $2::text)
  AND ($3::text IS NULL OR lower(display_name) = lower($3::text))
  AND ($4::text IS NULL OR external_id = $4::text)
ORDER BY seq LIMIT $6::integer OFFSET $5::integer
"""


async def list_groups(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    group_id: str | None,
    display_name: str | None,
    external_id: str | None,
    skipped: int,
    page_size: int,
) -> list[Group]:
    """A page of groups; what is null does not filter."""
    async with AsyncRawCursor(conn, row_factory=args_row(Group)) as cursor:
        await cursor.execute(_LIST_GROUPS, (workspace_id, group_id, display_name, external_id, skipped, page_size))
        fetched: list[Group] = await cursor.fetchall()
        return fetched


_GET_SHOWN_GROUP = """
SELECT group_id, display_name, external_id, role, created_at, updated_at, seq, n_members FROM scim_groups_shown
WHERE workspace_id = $1 AND group_id = $2
"""


async def get_shown_group(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    group_id: str,
) -> ShownGroup | None:
    """A group as the list of groups shows it."""
    async with AsyncRawCursor(conn, row_factory=args_row(ShownGroup)) as cursor:
        await cursor.execute(_GET_SHOWN_GROUP, (workspace_id, group_id))
        fetched: ShownGroup | None = await cursor.fetchone()
        return fetched


_COUNT_GROUPS = """
SELECT count(*) FROM scim_groups WHERE workspace_id = $1
"""


async def count_groups(conn: AsyncConnection[Any], *, workspace_id: str) -> int:
    """How many groups the directory has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_GROUPS, (workspace_id,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_groups gave no row")
        return fetched


_LIST_MEMBERS_OF = """
SELECT gm.group_id, m.membership_id, gm.user_id FROM scim_group_members AS gm
JOIN memberships AS m ON m.workspace_id = gm.workspace_id AND m.user_id = gm.user_id
WHERE gm.workspace_id = $1 AND gm.group_id = ANY($2::text[])
ORDER BY m.seq
"""


async def list_members_of(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    group_ids: list[str],
) -> list[ListMembersOfRow]:
    """Who is in some groups."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListMembersOfRow)) as cursor:
        await cursor.execute(_LIST_MEMBERS_OF, (workspace_id, group_ids))
        fetched: list[ListMembersOfRow] = await cursor.fetchall()
        return fetched


_INSERT_GROUP = """
INSERT INTO scim_groups (workspace_id, group_id, display_name, external_id, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5,
    $5)
"""


async def insert_group(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    group_id: str,
    display_name: str,
    external_id: str | None,
    now: datetime,
) -> None:
    """Make a group."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_GROUP, (workspace_id, group_id, display_name, external_id, now))


_UPDATE_GROUP = """
UPDATE scim_groups SET display_name = $1, external_id = $2,
    updated_at = $3
WHERE workspace_id = $4 AND group_id = $5
"""


async def update_group(
    conn: AsyncConnection[Any],
    *,
    display_name: str,
    external_id: str | None,
    now: datetime,
    workspace_id: str,
    group_id: str,
) -> int:
    """Change what the directory says of a group."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_GROUP, (display_name, external_id, now, workspace_id, group_id))
        return cursor.rowcount


_MAP_GROUP = """
UPDATE scim_groups SET role = $1, updated_at = $2
WHERE workspace_id = $3 AND group_id = $4
"""


async def map_group(
    conn: AsyncConnection[Any],
    *,
    role: str | None,
    now: datetime,
    workspace_id: str,
    group_id: str,
) -> int:
    """Say what the members of a group become."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MAP_GROUP, (role, now, workspace_id, group_id))
        return cursor.rowcount


_DELETE_GROUP = """
DELETE FROM scim_groups WHERE workspace_id = $1 AND group_id = $2
"""


async def delete_group(conn: AsyncConnection[Any], *, workspace_id: str, group_id: str) -> int:
    """Delete a group."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_GROUP, (workspace_id, group_id))
        return cursor.rowcount


_DELETE_GROUP_MEMBERS = """
DELETE FROM scim_group_members
WHERE workspace_id = $1 AND group_id = $2
  AND user_id = ANY($3::text[])
"""


async def delete_group_members(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    group_id: str,
    user_ids: list[str],
) -> int:
    """Take people out of a group."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_GROUP_MEMBERS, (workspace_id, group_id, user_ids))
        return cursor.rowcount


_INSERT_GROUP_MEMBERS = """
INSERT INTO scim_group_members (workspace_id, group_id, user_id)
SELECT m.workspace_id, $1, m.user_id FROM memberships AS m
WHERE m.workspace_id = $2 AND m.membership_id = ANY($3::text[])
ON CONFLICT DO NOTHING
"""


async def insert_group_members(
    conn: AsyncConnection[Any],
    *,
    group_id: str,
    workspace_id: str,
    membership_ids: list[str],
) -> int:
    """Put people into a group, by the ids of their memberships; the rows tell how many there are."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_GROUP_MEMBERS, (group_id, workspace_id, membership_ids))
        return cursor.rowcount


_COUNT_MEMBERS = """
SELECT count(*) FROM memberships
WHERE workspace_id = $1 AND membership_id = ANY($2::text[])
"""


async def count_members(conn: AsyncConnection[Any], *, workspace_id: str, membership_ids: list[str]) -> int:
    """How many of these are members' ids."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_MEMBERS, (workspace_id, membership_ids))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_members gave no row")
        return fetched


_LIST_MAPPED_ROLES = """
SELECT m.membership_id, m.user_id, m.role,
    array_remove(array_agg(g.role), NULL)::text[] AS mapped
FROM memberships AS m
LEFT JOIN scim_group_members AS gm ON gm.workspace_id = m.workspace_id AND gm.user_id = m.user_id
LEFT JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
WHERE m.workspace_id = $1 AND m.provisioning = 'scim'
  AND m.user_id = ANY($2::text[])
GROUP BY m.membership_id, m.user_id, m.role
ORDER BY m.membership_id
"""


async def list_mapped_roles(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_ids: list[str],
) -> list[ListMappedRolesRow]:
    """Who of these the directory provisioned, with the roles that their groups stand for."""
    async with AsyncRawCursor(conn, row_factory=args_row(ListMappedRolesRow)) as cursor:
        await cursor.execute(_LIST_MAPPED_ROLES, (workspace_id, user_ids))
        fetched: list[ListMappedRolesRow] = await cursor.fetchall()
        return fetched


_CHANGE_ROLE = """
UPDATE memberships SET role = $1, updated_at = $2
WHERE workspace_id = $3 AND membership_id = $4
"""


async def change_role(
    conn: AsyncConnection[Any],
    *,
    role: str,
    updated_at: datetime,
    workspace_id: str,
    membership_id: str,
) -> int:
    """Give a member the role that their groups stand for."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_ROLE, (role, updated_at, workspace_id, membership_id))
        return cursor.rowcount
