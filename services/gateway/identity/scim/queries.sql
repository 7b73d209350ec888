-- Let one change of a workspace's directory happen at a time, until this transaction ends.
-- always
-- name: LockDirectory :one
SELECT (pg_advisory_xact_lock(hashtextextended('scim/' || sqlc.arg(workspace_id)::text, 0)) IS NULL)::boolean AS is_held;

-- A page of the workspace's people as the directory sees them; what is null does not filter.
-- row: Account
-- name: ListAccounts :many
SELECT m.membership_id, m.user_id, m.role, m.status, m.provisioning, m.email, m.name, p.user_name, p.external_id,
    p.attributes, m.created_at, GREATEST(m.updated_at, p.updated_at)::timestamptz AS updated_at
FROM members AS m
LEFT JOIN scim_profiles AS p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
WHERE m.workspace_id = sqlc.arg(workspace_id)
  AND (sqlc.narg(membership_id)::text IS NULL OR m.membership_id = sqlc.narg(membership_id)::text)
  AND (sqlc.narg(user_name)::text IS NULL
       OR lower(COALESCE(p.user_name, m.email)) = lower(sqlc.narg(user_name)::text))
  AND (sqlc.narg(external_id)::text IS NULL OR p.external_id = sqlc.narg(external_id)::text)
ORDER BY m.seq LIMIT sqlc.arg(page_size)::integer OFFSET sqlc.arg(skipped)::integer;

-- How many people the workspace has.
-- always
-- name: CountAccounts :one
SELECT count(*) FROM memberships WHERE workspace_id = sqlc.arg(workspace_id);

-- The person's place in the workspace who has one of these names, in any case, and is not the one left out.
-- name: FindNamesake :one
SELECT m.membership_id FROM memberships AS m
JOIN users AS u ON u.user_id = m.user_id
LEFT JOIN scim_profiles AS p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.membership_id <> sqlc.arg(left_out)
  AND (lower(COALESCE(p.user_name, u.email)) = lower(sqlc.arg(user_name)::text)
       OR lower(u.email) = lower(sqlc.arg(email)::text))
LIMIT 1;

-- Find or make the person with an address.
-- always
-- name: EnsurePerson :one
SELECT ensure_person(sqlc.arg(email), sqlc.arg(name))::text AS user_id;

-- Whether the directory may make somebody active, or only invite them.
-- always
-- name: IsAdmissible :one
SELECT is_admissible(sqlc.arg(user_id))::boolean AS is_admissible;

-- Correct a person whom only this directory knows; false when they are their own master.
-- always
-- name: FollowDirectory :one
SELECT follow_directory(sqlc.arg(user_id), sqlc.arg(email), sqlc.arg(name))::boolean AS is_corrected;

-- Make a person a member on the directory's word.
-- name: InsertAccount :exec
INSERT INTO memberships (workspace_id, membership_id, user_id, role, status, provisioning)
VALUES (sqlc.arg(workspace_id), sqlc.arg(membership_id), sqlc.arg(user_id), sqlc.arg(role), sqlc.arg(status), 'scim');

-- Let a member in or shut them out on the directory's word; whose invitation is over does not get its role.
-- name: ChangeStatus :execrows
UPDATE memberships AS m SET status = sqlc.arg(status), updated_at = sqlc.arg(updated_at),
    role = CASE WHEN m.status = 'invited' AND m.provisioning <> 'scim' AND NOT EXISTS (SELECT FROM invitations AS i
            WHERE i.workspace_id = m.workspace_id AND i.user_id = m.user_id AND i.status = 'pending'
                AND i.expires_at > sqlc.arg(updated_at)::timestamptz)
        THEN sqlc.arg(role_without_invitation)::text ELSE m.role END
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.membership_id = sqlc.arg(membership_id);

-- Keep what the directory says of a member.
-- name: UpsertProfile :exec
INSERT INTO scim_profiles AS known (workspace_id, user_id, user_name, external_id, attributes, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(user_id), sqlc.arg(user_name), sqlc.narg(external_id),
    sqlc.arg(attributes)::text::jsonb, sqlc.arg(now), sqlc.arg(now))
ON CONFLICT (workspace_id, user_id) DO UPDATE SET user_name = excluded.user_name, external_id = excluded.external_id,
    attributes = excluded.attributes, updated_at = excluded.updated_at;

-- The groups of some people.
-- name: ListGroupsOf :many
SELECT gm.user_id, g.group_id, g.display_name FROM scim_group_members AS gm
JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
WHERE gm.workspace_id = sqlc.arg(workspace_id) AND gm.user_id = ANY(sqlc.arg(user_ids)::text[])
ORDER BY g.seq;

-- A page of groups; what is null does not filter.
-- row: Group
-- name: ListGroups :many
SELECT group_id, display_name, external_id, role, created_at, updated_at, seq FROM scim_groups
WHERE workspace_id = sqlc.arg(workspace_id)
  AND (sqlc.narg(group_id)::text IS NULL OR group_id = sqlc.narg(group_id)::text)
  AND (sqlc.narg(display_name)::text IS NULL OR lower(display_name) = lower(sqlc.narg(display_name)::text))
  AND (sqlc.narg(external_id)::text IS NULL OR external_id = sqlc.narg(external_id)::text)
ORDER BY seq LIMIT sqlc.arg(page_size)::integer OFFSET sqlc.arg(skipped)::integer;

-- A group as the list of groups shows it.
-- row: ShownGroup
-- column n_members: int
-- column seq: int
-- name: GetShownGroup :one
SELECT group_id, display_name, external_id, role, created_at, updated_at, seq, n_members FROM scim_groups_shown
WHERE workspace_id = sqlc.arg(workspace_id) AND group_id = sqlc.arg(group_id);

-- How many groups the directory has.
-- always
-- name: CountGroups :one
SELECT count(*) FROM scim_groups WHERE workspace_id = sqlc.arg(workspace_id);

-- Who is in some groups.
-- name: ListMembersOf :many
SELECT gm.group_id, m.membership_id, gm.user_id FROM scim_group_members AS gm
JOIN memberships AS m ON m.workspace_id = gm.workspace_id AND m.user_id = gm.user_id
WHERE gm.workspace_id = sqlc.arg(workspace_id) AND gm.group_id = ANY(sqlc.arg(group_ids)::text[])
ORDER BY m.seq;

-- Make a group.
-- name: InsertGroup :exec
INSERT INTO scim_groups (workspace_id, group_id, display_name, external_id, created_at, updated_at)
VALUES (sqlc.arg(workspace_id), sqlc.arg(group_id), sqlc.arg(display_name), sqlc.narg(external_id), sqlc.arg(now),
    sqlc.arg(now));

-- Change what the directory says of a group.
-- name: UpdateGroup :execrows
UPDATE scim_groups SET display_name = sqlc.arg(display_name), external_id = sqlc.narg(external_id),
    updated_at = sqlc.arg(now)
WHERE workspace_id = sqlc.arg(workspace_id) AND group_id = sqlc.arg(group_id);

-- Say what the members of a group become.
-- name: MapGroup :execrows
UPDATE scim_groups SET role = sqlc.narg(role), updated_at = sqlc.arg(now)
WHERE workspace_id = sqlc.arg(workspace_id) AND group_id = sqlc.arg(group_id);

-- Delete a group.
-- name: DeleteGroup :execrows
DELETE FROM scim_groups WHERE workspace_id = sqlc.arg(workspace_id) AND group_id = sqlc.arg(group_id);

-- Take people out of a group.
-- name: DeleteGroupMembers :execrows
DELETE FROM scim_group_members
WHERE workspace_id = sqlc.arg(workspace_id) AND group_id = sqlc.arg(group_id)
  AND user_id = ANY(sqlc.arg(user_ids)::text[]);

-- Put people into a group, by the ids of their memberships; the rows tell how many there are.
-- name: InsertGroupMembers :execrows
INSERT INTO scim_group_members (workspace_id, group_id, user_id)
SELECT m.workspace_id, sqlc.arg(group_id), m.user_id FROM memberships AS m
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.membership_id = ANY(sqlc.arg(membership_ids)::text[])
ON CONFLICT DO NOTHING;

-- How many of these are members' ids.
-- always
-- name: CountMembers :one
SELECT count(*) FROM memberships
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = ANY(sqlc.arg(membership_ids)::text[]);

-- Who of these the directory provisioned, with the roles that their groups stand for.
-- column mapped: list[str]
-- name: ListMappedRoles :many
SELECT m.membership_id, m.user_id, m.role,
    array_remove(array_agg(g.role), NULL)::text[] AS mapped
FROM memberships AS m
LEFT JOIN scim_group_members AS gm ON gm.workspace_id = m.workspace_id AND gm.user_id = m.user_id
LEFT JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.provisioning = 'scim'
  AND m.user_id = ANY(sqlc.arg(user_ids)::text[])
GROUP BY m.membership_id, m.user_id, m.role
ORDER BY m.membership_id;

-- Give a member the role that their groups stand for.
-- name: ChangeRole :execrows
UPDATE memberships SET role = sqlc.arg(role), updated_at = sqlc.arg(updated_at)
WHERE workspace_id = sqlc.arg(workspace_id) AND membership_id = sqlc.arg(membership_id);
