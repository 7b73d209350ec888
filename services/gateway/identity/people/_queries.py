"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class LockMemberRow(Struct, frozen=True):
    """One row of lock_member."""

    membership_id: str
    user_id: str
    role: str
    status: str
    provisioning: str


class Member(Struct, frozen=True):
    """One row of a result."""

    membership_id: str
    user_id: str
    email: str
    name: str
    avatar_url: str | None
    role: str
    status: str
    provisioning: str
    last_active_at: datetime | None
    created_at: datetime
    updated_at: datetime
    seq: int | None


class GetMemberByEmailRow(Struct, frozen=True):
    """One row of get_member_by_email."""

    membership_id: str
    user_id: str
    email: str
    status: str


class Invitation(Struct, frozen=True):
    """One row of a result."""

    invitation_id: str
    email: str
    role: str
    status: str
    delivery: str
    delivery_error: str | None
    invited_by: str | None
    created_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    seq: int | None


class LockInvitationRow(Struct, frozen=True):
    """One row of lock_invitation."""

    invitation_id: str
    user_id: str
    email: str
    role: str
    status: str


class LockPendingInvitationRow(Struct, frozen=True):
    """One row of lock_pending_invitation."""

    invitation_id: str
    expires_at: datetime


class FindInvitationRow(Struct, frozen=True):
    """One row of find_invitation."""

    workspace_id: str
    invitation_id: str
    user_id: str
    email: str
    role: str
    invited_by: str | None
    expires_at: datetime


class GetMembershipOfRow(Struct, frozen=True):
    """One row of get_membership_of."""

    membership_id: str
    role: str
    status: str


class GetInvitingWorkspaceRow(Struct, frozen=True):
    """One row of get_inviting_workspace."""

    workspace_id: str
    name: str
    sso_enforced: bool


class TakeMailRow(Struct, frozen=True):
    """One row of take_mail."""

    workspace_id: str
    mail_id: str
    message_sealed: str
    n_attempts: int


class Preferences(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    user_id: str
    email_enabled: bool
    slack_enabled: bool
    teams_enabled: bool
    pagerduty_enabled: bool
    slack_webhook_url_sealed: str | None
    teams_webhook_url_sealed: str | None
    pagerduty_integration_key_sealed: str | None
    digest_frequency: str
    min_severity_for_alert: str
    min_risk_score_for_alert: int
    events: dict[str, dict[str, bool]]
    notify_on_new_issue: bool
    notify_on_pattern_detected: bool
    notify_on_prediction: bool
    notify_on_recommendation: bool
    notify_on_report_ready: bool
    updated_at: datetime


_SEE = """
SELECT concat(
    set_config('app.current_workspace', $1::text, true),
    set_config('app.current_user', $2::text, true))::text AS scope
"""


async def see(conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> str:
    """Name what this transaction may see: a workspace and a person."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_SEE, (workspace_id, user_id))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("see gave no row")
        return fetched


_PRESENT_INVITATION = """
SELECT set_config('app.presented_hash', $1::text, true)::text AS scope
"""


async def present_invitation(conn: AsyncConnection[Any], *, token_hash: str) -> str:
    """Show the hash of an invitation's token, to see that invitation."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_PRESENT_INVITATION, (token_hash,))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("present_invitation gave no row")
        return fetched


_LOCK_MEMBER = """
SELECT membership_id, user_id, role, status, provisioning FROM memberships
WHERE workspace_id = $1 AND membership_id = $2
FOR UPDATE
"""


async def lock_member(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str,
) -> LockMemberRow | None:
    """A member by id, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(LockMemberRow)) as cursor:
        await cursor.execute(_LOCK_MEMBER, (workspace_id, membership_id))
        fetched: LockMemberRow | None = await cursor.fetchone()
        return fetched


_GET_MEMBER = """
SELECT membership_id, user_id, email, name, avatar_url, role, status, provisioning, last_active_at, created_at,
    updated_at, seq
FROM members
WHERE workspace_id = $1 AND membership_id = $2
"""


async def get_member(conn: AsyncConnection[Any], *, workspace_id: str, membership_id: str) -> Member | None:
    """A member as lists show them."""
    async with AsyncRawCursor(conn, row_factory=args_row(Member)) as cursor:
        await cursor.execute(_GET_MEMBER, (workspace_id, membership_id))
        fetched: Member | None = await cursor.fetchone()
        return fetched


_GET_MEMBER_BY_EMAIL = """
SELECT membership_id, user_id, email, status FROM members
WHERE workspace_id = $1 AND lower(email) = lower($2)
ORDER BY (email = $2) DESC LIMIT 1
"""


async def get_member_by_email(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    email: str,
) -> GetMemberByEmailRow | None:
    """The member with this address, or one that differs from it by case only."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetMemberByEmailRow)) as cursor:
        await cursor.execute(_GET_MEMBER_BY_EMAIL, (workspace_id, email))
        fetched: GetMemberByEmailRow | None = await cursor.fetchone()
        return fetched


_IS_ROLE_MAPPED = """
SELECT EXISTS (SELECT FROM scim_group_members AS gm
    JOIN scim_groups AS g ON g.workspace_id = gm.workspace_id AND g.group_id = gm.group_id
    JOIN memberships AS m ON m.workspace_id = gm.workspace_id AND m.user_id = gm.user_id
    WHERE gm.workspace_id = $1 AND gm.user_id = $2
        AND m.provisioning = 'scim' AND g.role IS NOT NULL) AS is_mapped
"""


async def is_role_mapped(conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> bool:
    """Whether a group of the client's directory says what a member is."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_ROLE_MAPPED, (workspace_id, user_id))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_role_mapped gave no row")
        return fetched


_CHANGE_MEMBER = """
UPDATE memberships SET role = $1, status = $2, updated_at = $3
WHERE workspace_id = $4 AND membership_id = $5
"""


async def change_member(
    conn: AsyncConnection[Any],
    *,
    role: str,
    status: str,
    updated_at: datetime,
    workspace_id: str,
    membership_id: str,
) -> int:
    """Give a member another role or another status."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CHANGE_MEMBER, (role, status, updated_at, workspace_id, membership_id))
        return cursor.rowcount


_INSERT_INVITED_MEMBER = """
INSERT INTO memberships (workspace_id, membership_id, user_id, role, status, provisioning)
VALUES ($1, $2, $3, $4, 'invited', 'invitation')
"""


async def insert_invited_member(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str,
    user_id: str,
    role: str,
) -> None:
    """Keep a seat for somebody who is to say yes first."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_INVITED_MEMBER, (workspace_id, membership_id, user_id, role))


_DELETE_MEMBER = """
DELETE FROM memberships
WHERE workspace_id = $1 AND membership_id = $2
"""


async def delete_member(conn: AsyncConnection[Any], *, workspace_id: str, membership_id: str) -> int:
    """Take somebody out of the workspace."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_MEMBER, (workspace_id, membership_id))
        return cursor.rowcount


_END_SESSIONS = """
UPDATE sessions SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND user_id = $3 AND revoked_at IS NULL
"""


async def end_sessions(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    user_id: str,
) -> int:
    """End every session of a person in the workspace."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_END_SESSIONS, (revoked_at, workspace_id, user_id))
        return cursor.rowcount


_REVOKE_TOKENS = """
UPDATE api_tokens SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND user_id = $3::text AND revoked_at IS NULL
"""


async def revoke_tokens(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    user_id: str,
) -> int:
    """Revoke every personal token of a person in the workspace."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_TOKENS, (revoked_at, workspace_id, user_id))
        return cursor.rowcount


_ENSURE_PERSON = """
SELECT ensure_person($1, $2)::text AS user_id
"""


async def ensure_person(conn: AsyncConnection[Any], *, email: str, name: str | None) -> str:
    """Find or make the person with an address."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_ENSURE_PERSON, (email, name))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("ensure_person gave no row")
        return fetched


_INSERT_INVITATION = """
INSERT INTO invitations (workspace_id, invitation_id, user_id, email, role, token_hash, delivery, invited_by,
    created_at, expires_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $9, $10)
"""


async def insert_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    invitation_id: str,
    user_id: str,
    email: str,
    role: str,
    token_hash: str,
    delivery: str,
    invited_by: str | None,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    """Make an invitation."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_INVITATION, (workspace_id, invitation_id, user_id, email, role, token_hash, delivery, invited_by, created_at, expires_at))


_GET_INVITATION = """
SELECT invitation_id, email, role, status, delivery, delivery_error, invited_by, created_at, expires_at, settled_at, seq
FROM invitations_shown
WHERE workspace_id = $1 AND invitation_id = $2
"""


async def get_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    invitation_id: str,
) -> Invitation | None:
    """An invitation as lists show it."""
    async with AsyncRawCursor(conn, row_factory=args_row(Invitation)) as cursor:
        await cursor.execute(_GET_INVITATION, (workspace_id, invitation_id))
        fetched: Invitation | None = await cursor.fetchone()
        return fetched


_LOCK_INVITATION = """
SELECT i.invitation_id, i.user_id, i.email, i.role, i.status FROM invitations AS i
WHERE i.workspace_id = $1 AND i.invitation_id = $2
    AND EXISTS (SELECT FROM invitations_shown AS s WHERE s.workspace_id = i.workspace_id AND s.invitation_id = i.invitation_id)
FOR UPDATE
"""


async def lock_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    invitation_id: str,
) -> LockInvitationRow | None:
    """An invitation by id, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(LockInvitationRow)) as cursor:
        await cursor.execute(_LOCK_INVITATION, (workspace_id, invitation_id))
        fetched: LockInvitationRow | None = await cursor.fetchone()
        return fetched


_LOCK_PENDING_INVITATION = """
SELECT invitation_id, expires_at FROM invitations
WHERE workspace_id = $1 AND user_id = $2 AND status = 'pending'
FOR UPDATE
"""


async def lock_pending_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
) -> LockPendingInvitationRow | None:
    """The pending invitation of a person, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(LockPendingInvitationRow)) as cursor:
        await cursor.execute(_LOCK_PENDING_INVITATION, (workspace_id, user_id))
        fetched: LockPendingInvitationRow | None = await cursor.fetchone()
        return fetched


_FIND_INVITATION = """
SELECT workspace_id, invitation_id, user_id, email, role, invited_by, expires_at FROM invitations
WHERE token_hash = $1 AND status = 'pending'
"""


async def find_invitation(conn: AsyncConnection[Any], *, token_hash: str) -> FindInvitationRow | None:
    """The pending invitation behind a token's hash."""
    async with AsyncRawCursor(conn, row_factory=args_row(FindInvitationRow)) as cursor:
        await cursor.execute(_FIND_INVITATION, (token_hash,))
        fetched: FindInvitationRow | None = await cursor.fetchone()
        return fetched


_RENEW_INVITATION = """
UPDATE invitations SET token_hash = $1, delivery = $2, delivery_error = NULL,
    expires_at = $3
WHERE workspace_id = $4 AND invitation_id = $5 AND status = 'pending'
"""


async def renew_invitation(
    conn: AsyncConnection[Any],
    *,
    token_hash: str,
    delivery: str,
    expires_at: datetime,
    workspace_id: str,
    invitation_id: str,
) -> int:
    """Put a fresh link in the place of the old one."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RENEW_INVITATION, (token_hash, delivery, expires_at, workspace_id, invitation_id))
        return cursor.rowcount


_REVOKE_INVITATION = """
UPDATE invitations SET status = 'revoked', settled_at = $1::timestamptz
WHERE workspace_id = $2 AND invitation_id = $3 AND status = 'pending'
"""


async def revoke_invitation(
    conn: AsyncConnection[Any],
    *,
    settled_at: datetime,
    workspace_id: str,
    invitation_id: str,
) -> int:
    """End an invitation."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_INVITATION, (settled_at, workspace_id, invitation_id))
        return cursor.rowcount


_DELETE_INVITED_MEMBER = """
DELETE FROM memberships
WHERE workspace_id = $1 AND user_id = $2 AND status = 'invited'
"""


async def delete_invited_member(conn: AsyncConnection[Any], *, workspace_id: str, user_id: str) -> int:
    """Let go of the seat that was kept for somebody who was invited."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_INVITED_MEMBER, (workspace_id, user_id))
        return cursor.rowcount


_ACTIVATE_MEMBER = """
UPDATE memberships SET status = 'active', role = $1, updated_at = $2
WHERE workspace_id = $3 AND user_id = $4 AND status = 'invited'
"""


async def activate_member(
    conn: AsyncConnection[Any],
    *,
    role: str,
    updated_at: datetime,
    workspace_id: str,
    user_id: str,
) -> int:
    """Make somebody who was invited a member, in the role of the invitation; 0 rows when they are one or not invited."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_ACTIVATE_MEMBER, (role, updated_at, workspace_id, user_id))
        return cursor.rowcount


_USE_INVITATION = """
UPDATE invitations SET status = 'accepted', settled_at = $1::timestamptz
WHERE workspace_id = $2 AND invitation_id = $3 AND status = 'pending'
"""


async def use_invitation(
    conn: AsyncConnection[Any],
    *,
    settled_at: datetime,
    workspace_id: str,
    invitation_id: str,
) -> int:
    """Use up the link of somebody who is a member already, such as the owner that a client was made with."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_USE_INVITATION, (settled_at, workspace_id, invitation_id))
        return cursor.rowcount


_GET_MEMBERSHIP_OF = """
SELECT membership_id, role, status FROM memberships
WHERE workspace_id = $1 AND user_id = $2
"""


async def get_membership_of(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
) -> GetMembershipOfRow | None:
    """What a person is in a workspace."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetMembershipOfRow)) as cursor:
        await cursor.execute(_GET_MEMBERSHIP_OF, (workspace_id, user_id))
        fetched: GetMembershipOfRow | None = await cursor.fetchone()
        return fetched


_GET_INVITING_WORKSPACE = """
SELECT w.workspace_id, w.name, w.sso_enforced FROM workspaces AS w
JOIN organizations AS o ON o.organization_id = w.organization_id
WHERE w.workspace_id = $1 AND w.status = 'active' AND o.status = 'active'
"""


async def get_inviting_workspace(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
) -> GetInvitingWorkspaceRow | None:
    """The workspace that an invitation is to; nothing while it or its client is suspended."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetInvitingWorkspaceRow)) as cursor:
        await cursor.execute(_GET_INVITING_WORKSPACE, (workspace_id,))
        fetched: GetInvitingWorkspaceRow | None = await cursor.fetchone()
        return fetched


_GET_CONNECTION_FOR = """
SELECT connection_id FROM oidc_connections
WHERE workspace_id = $1 AND status = 'active'
  AND (domains @> ARRAY[lower($2::text)] OR $3::boolean)
ORDER BY (domains @> ARRAY[lower($2::text)]) DESC, created_at LIMIT 1
"""


async def get_connection_for(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    domain: str,
    is_enforced: bool,
) -> str | None:
    """The active identity provider of the workspace that speaks for an address; when the workspace insists, any."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_CONNECTION_FOR, (workspace_id, domain, is_enforced))
        fetched: str | None = await cursor.fetchone()
        return fetched


_GET_PERSON_NAME = """
SELECT name FROM users WHERE user_id = $1
"""


async def get_person_name(conn: AsyncConnection[Any], *, user_id: str) -> str | None:
    """What a person is called."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_GET_PERSON_NAME, (user_id,))
        fetched: str | None = await cursor.fetchone()
        return fetched


_INSERT_MAIL = """
INSERT INTO mail_queue (workspace_id, mail_id, invitation_id, message_sealed, next_attempt_at, created_at)
VALUES ($1, $2, $3, $4,
    $5, $5)
"""


async def insert_mail(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    mail_id: str,
    invitation_id: str | None,
    message_sealed: str,
    created_at: datetime,
) -> None:
    """Put a sealed message into the queue."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_MAIL, (workspace_id, mail_id, invitation_id, message_sealed, created_at))


_TAKE_MAIL = """
SELECT workspace_id::text AS workspace_id, mail_id::text AS mail_id, message_sealed::text AS message_sealed,
    n_attempts::integer AS n_attempts
FROM take_mail($1::timestamptz, $2::timestamptz)
"""


async def take_mail(conn: AsyncConnection[Any], *, now: datetime, until: datetime) -> TakeMailRow | None:
    """Take one message that is due; nobody else gets it before `until`."""
    async with AsyncRawCursor(conn, row_factory=args_row(TakeMailRow)) as cursor:
        await cursor.execute(_TAKE_MAIL, (now, until))
        fetched: TakeMailRow | None = await cursor.fetchone()
        return fetched


_LOCK_INVITATION_OF_MAIL = """
SELECT i.invitation_id FROM invitations AS i
JOIN mail_queue AS q ON q.workspace_id = i.workspace_id AND q.invitation_id = i.invitation_id
WHERE i.workspace_id = $1 AND q.mail_id = $2
FOR UPDATE OF i
"""


async def lock_invitation_of_mail(conn: AsyncConnection[Any], *, workspace_id: str, mail_id: str) -> int:
    """Hold the invitation that a message is about. Whoever changes an invitation holds it before its messages; so must
    whoever sends one, or the two wait for each other.
    """
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_LOCK_INVITATION_OF_MAIL, (workspace_id, mail_id))
        return cursor.rowcount


_POSTPONE_MAIL = """
UPDATE mail_queue SET next_attempt_at = $1
WHERE workspace_id = $2 AND mail_id = $3
"""


async def postpone_mail(
    conn: AsyncConnection[Any],
    *,
    next_attempt_at: datetime,
    workspace_id: str,
    mail_id: str,
) -> int:
    """Try a message again later."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_POSTPONE_MAIL, (next_attempt_at, workspace_id, mail_id))
        return cursor.rowcount


_DELETE_MAIL_OF_INVITATION = """
DELETE FROM mail_queue WHERE workspace_id = $1 AND invitation_id = $2::text
"""


async def delete_mail_of_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    invitation_id: str,
) -> int:
    """Forget the messages about an invitation."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_MAIL_OF_INVITATION, (workspace_id, invitation_id))
        return cursor.rowcount


_SETTLE_MAIL = """
WITH done AS (
    DELETE FROM mail_queue AS q
    WHERE q.workspace_id = $3 AND q.mail_id = $4
    RETURNING q.invitation_id
)
UPDATE invitations AS i SET delivery = $1, delivery_error = $2
FROM done
WHERE i.workspace_id = $3 AND i.invitation_id = done.invitation_id
"""


async def settle_mail(
    conn: AsyncConnection[Any],
    *,
    delivery: str,
    delivery_error: str | None,
    workspace_id: str,
    mail_id: str,
) -> int:
    """Show on the invitation how far its message has come, and take it out of the queue when that is the end."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_SETTLE_MAIL, (delivery, delivery_error, workspace_id, mail_id))
        return cursor.rowcount


_NOTE_MAIL_ERROR = """
UPDATE invitations AS i SET delivery_error = $1::text
FROM mail_queue AS q
WHERE i.workspace_id = $2 AND q.workspace_id = i.workspace_id AND q.mail_id = $3
  AND i.invitation_id = q.invitation_id
"""


async def note_mail_error(
    conn: AsyncConnection[Any],
    *,
    delivery_error: str,
    workspace_id: str,
    mail_id: str,
) -> int:
    """Show on the invitation what the mail server said, while its message is tried again."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_NOTE_MAIL_ERROR, (delivery_error, workspace_id, mail_id))
        return cursor.rowcount


_LOCK_PREFERENCES = """
SELECT workspace_id, user_id, email_enabled, slack_enabled, teams_enabled, pagerduty_enabled, slack_webhook_url_sealed, teams_webhook_url_sealed, pagerduty_integration_key_sealed, digest_frequency, min_severity_for_alert, min_risk_score_for_alert, events, notify_on_new_issue, notify_on_pattern_detected, notify_on_prediction, notify_on_recommendation, notify_on_report_ready, updated_at FROM notification_preferences
WHERE workspace_id = $1 AND user_id = $2
FOR UPDATE
"""


async def lock_preferences(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
) -> Preferences | None:
    """What a member wants to hear of, kept from changing until this transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(Preferences)) as cursor:
        await cursor.execute(_LOCK_PREFERENCES, (workspace_id, user_id))
        fetched: Preferences | None = await cursor.fetchone()
        return fetched


_INSERT_PREFERENCES = """
INSERT INTO notification_preferences (workspace_id, user_id, updated_at)
VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, user_id) DO NOTHING
"""


async def insert_preferences(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    user_id: str,
    updated_at: datetime,
) -> int:
    """Begin with the defaults, unless the member has said something."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PREFERENCES, (workspace_id, user_id, updated_at))
        return cursor.rowcount


_CHANGE_PREFERENCES = """
UPDATE notification_preferences SET
    email_enabled = COALESCE($1, email_enabled),
    slack_enabled = COALESCE($2, slack_enabled),
    teams_enabled = COALESCE($3, teams_enabled),
    pagerduty_enabled = COALESCE($4, pagerduty_enabled),
    slack_webhook_url_sealed = NULLIF(COALESCE($5, slack_webhook_url_sealed), ''),
    teams_webhook_url_sealed = NULLIF(COALESCE($6, teams_webhook_url_sealed), ''),
    pagerduty_integration_key_sealed =
        NULLIF(COALESCE($7, pagerduty_integration_key_sealed), ''),
    digest_frequency = COALESCE($8, digest_frequency),
    min_severity_for_alert = COALESCE($9, min_severity_for_alert),
    min_risk_score_for_alert = COALESCE($10, min_risk_score_for_alert),
    events = $11::text::jsonb,
    notify_on_new_issue = COALESCE($12, notify_on_new_issue),
    notify_on_pattern_detected = COALESCE($13, notify_on_pattern_detected),
    notify_on_prediction = COALESCE($14, notify_on_prediction),
    notify_on_recommendation = COALESCE($15, notify_on_recommendation),
    notify_on_report_ready = COALESCE($16, notify_on_report_ready),
    updated_at = $17
WHERE workspace_id = $18 AND user_id = $19
RETURNING workspace_id, user_id, email_enabled, slack_enabled, teams_enabled, pagerduty_enabled, slack_webhook_url_sealed, teams_webhook_url_sealed, pagerduty_integration_key_sealed, digest_frequency, min_severity_for_alert, min_risk_score_for_alert, events, notify_on_new_issue, notify_on_pattern_detected, notify_on_prediction, notify_on_recommendation, notify_on_report_ready, updated_at
"""


async def change_preferences(
    conn: AsyncConnection[Any],
    *,
    email_enabled: bool | None,
    slack_enabled: bool | None,
    teams_enabled: bool | None,
    pagerduty_enabled: bool | None,
    slack_webhook_url_sealed: str | None,
    teams_webhook_url_sealed: str | None,
    pagerduty_integration_key_sealed: str | None,
    digest_frequency: str | None,
    min_severity_for_alert: str | None,
    min_risk_score_for_alert: int | None,
    events: str,
    notify_on_new_issue: bool | None,
    notify_on_pattern_detected: bool | None,
    notify_on_prediction: bool | None,
    notify_on_recommendation: bool | None,
    notify_on_report_ready: bool | None,
    updated_at: datetime,
    workspace_id: str,
    user_id: str,
) -> Preferences | None:
    """Change what is given of a member's preferences; an empty secret is taken away."""
    async with AsyncRawCursor(conn, row_factory=args_row(Preferences)) as cursor:
        await cursor.execute(_CHANGE_PREFERENCES, (email_enabled, slack_enabled, teams_enabled, pagerduty_enabled, slack_webhook_url_sealed, teams_webhook_url_sealed, pagerduty_integration_key_sealed, digest_frequency, min_severity_for_alert, min_risk_score_for_alert, events, notify_on_new_issue, notify_on_pattern_detected, notify_on_prediction, notify_on_recommendation, notify_on_report_ready, updated_at, workspace_id, user_id))
        fetched: Preferences | None = await cursor.fetchone()
        return fetched


_AUDIT = """
SELECT audit_here($1::text, $2::text, $3::text, $4::text,
    $5::text, $6::text::jsonb, $7::text)::text AS entry_id
"""


async def audit(
    conn: AsyncConnection[Any],
    *,
    actor: str,
    action: str,
    category: str,
    target_type: str,
    target_id: str,
    metadata: str,
    ip: str | None,
) -> str:
    """Write down what was done."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_AUDIT, (actor, action, category, target_type, target_id, metadata, ip))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("audit gave no row")
        return fetched


_INSERT_INTENT = """
INSERT INTO audit_intents (workspace_id, intent_id, begun_at, actor_id, action, category, target_type, target_id,
    metadata, ip)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $9::jsonb, $10)
ON CONFLICT (workspace_id, intent_id) DO NOTHING
"""


async def insert_intent(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    intent_id: str,
    begun_at: datetime,
    actor_id: str,
    action: str,
    category: str,
    target_type: str,
    target_id: str,
    metadata: str,
    ip: str | None,
) -> None:
    """Name a deed that is about to be done; again is no second one."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_INTENT, (workspace_id, intent_id, begun_at, actor_id, action, category, target_type, target_id, metadata, ip))


_CLOSE_INTENT = """
WITH gone AS (
    DELETE FROM audit_intents WHERE workspace_id = $4 AND intent_id = $5
    RETURNING actor_id, action, category, target_type, target_id, metadata, ip
)
SELECT audit_here(g.actor_id, g.action, g.category, coalesce($1::text, g.target_type),
    coalesce($2::text, g.target_id),
    g.metadata || $3::jsonb, g.ip) FROM gone AS g
"""


async def close_intent(
    conn: AsyncConnection[Any],
    *,
    target_type: str | None,
    target_id: str | None,
    outcome: str,
    workspace_id: str,
    intent_id: str,
) -> None:
    """Turn a deed that is done into a line of the audit log, unless that has happened."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_CLOSE_INTENT, (target_type, target_id, outcome, workspace_id, intent_id))


_DELETE_INTENT = """
DELETE FROM audit_intents WHERE workspace_id = $1 AND intent_id = $2
"""


async def delete_intent(conn: AsyncConnection[Any], *, workspace_id: str, intent_id: str) -> None:
    """Forget a deed that was refused."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_INTENT, (workspace_id, intent_id))


_CLOSE_LEFT_INTENT = """
SELECT close_left_intent($1::timestamptz)::boolean AS is_closed
"""


async def close_left_intent(conn: AsyncConnection[Any], *, before: datetime) -> bool:
    """Write the line of one deed, of any workspace, whose process died; whether there was one."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_CLOSE_LEFT_INTENT, (before,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("close_left_intent gave no row")
        return fetched
