"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class Fact(Struct, frozen=True):
    """One row of a result."""

    outbox_id: int
    workspace_id: str
    event_id: str
    event_type: str
    data: object
    actor: str | None
    traceparent: str | None
    recorded_at: datetime


class WorkspaceRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    organization_id: str
    slug: str
    name: str
    description: str
    industry: str
    timezone: str
    theme: str
    sso_enforced: bool
    confidence_threshold: float
    alert_probability: float
    minimum_cluster_size: int
    proof_window_days: int
    proof_window_max_days: int
    proof_confidence: float
    created_at: datetime
    updated_at: datetime


class PlanRow(Struct, frozen=True):
    """One row of a result."""

    organization_id: str
    slug: str
    name: str
    status: str
    created_at: datetime
    plan: str
    seats_total: int | None
    seats_used: int
    connectors: int | None
    requests_per_minute: int | None
    events_per_month: int | None
    retention_days: int | None
    features: list[str]
    events_this_month: int


class OnboardingRow(Struct, frozen=True):
    """One row of a result."""

    current_step: str
    completed_steps: list[str]
    is_complete: bool
    updated_at: datetime
    members_invited: int


class MadeClient(Struct, frozen=True):
    """One row of a result."""

    organization_id: str
    workspace_id: str
    owner_user_id: str
    membership_id: str


class AiSettingsRow(Struct, frozen=True):
    """One row of a result."""

    workspace_id: str
    model_enabled: bool
    base_url: str | None
    api_key_sealed: str | None
    model_fast: str | None
    model_balanced: str | None
    model_deep: str | None
    redact_emails: bool
    redact_ip_addresses: bool
    updated_at: datetime


_TRY_LEAD = """
SELECT pg_try_advisory_lock(hashtextextended('identity/outbox', 0)) AS leads
"""


async def try_lead(conn: AsyncConnection[Any]) -> bool:
    """Lead the outbox, if nobody does: one relay works for all gateways, until its connection ends."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_TRY_LEAD)
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("try_lead gave no row")
        return fetched


_LIST_UNTOLD_FACTS = """
SELECT f.outbox_id, f.workspace_id, f.event_id, f.event_type, f.data, f.actor, f.traceparent, f.recorded_at
FROM untold_facts($1::integer, $2::text[]) AS f
ORDER BY f.outbox_id
"""


async def list_untold_facts(conn: AsyncConnection[Any], *, page_size: int, without: list[str]) -> list[Fact]:
    """The oldest facts that the log does not have yet, except those of the workspaces that wait."""
    async with AsyncRawCursor(conn, row_factory=args_row(Fact)) as cursor:
        await cursor.execute(_LIST_UNTOLD_FACTS, (page_size, without))
        fetched: list[Fact] = await cursor.fetchall()
        return fetched


_FORGET_FACTS = """
SELECT forget_facts($1::bigint[]) AS n_forgotten
"""


async def forget_facts(conn: AsyncConnection[Any], *, outbox_ids: list[int]) -> int:
    """Delete the facts that the log has."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_FORGET_FACTS, (outbox_ids,))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("forget_facts gave no row")
        return fetched


_INSERT_ORGANIZATION = """
INSERT INTO organizations (organization_id, slug, name, plan) VALUES ($1, $2,
    $3, $4)
ON CONFLICT (organization_id) DO NOTHING
"""


async def insert_organization(
    conn: AsyncConnection[Any],
    *,
    organization_id: str,
    slug: str,
    name: str,
    plan: str,
) -> int:
    """Make the client of the demo, unless it is there."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_ORGANIZATION, (organization_id, slug, name, plan))
        return cursor.rowcount


_INSERT_WORKSPACE = """
WITH made AS (
    INSERT INTO workspaces (workspace_id, organization_id, slug, name, timezone) VALUES ($1,
        $2, $3, $4, $5)
    ON CONFLICT (workspace_id) DO NOTHING
    RETURNING workspace_id, slug, name, timezone
), settings AS (
    INSERT INTO workspace_settings (workspace_id) SELECT workspace_id FROM made
), fact AS (
    INSERT INTO outbox (workspace_id, event_id, event_type, data)
    SELECT workspace_id, $6::text, 'WorkspaceCreated', jsonb_build_object('workspace_id', workspace_id,
        'slug', slug, 'name', name, 'timezone', timezone)
    FROM made
)
INSERT INTO onboarding_states (workspace_id) SELECT workspace_id FROM made
"""


async def insert_workspace(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    organization_id: str,
    slug: str,
    name: str,
    timezone: str,
    event_id: str,
) -> int:
    """Make the demo's workspace with its settings and its onboarding, and the fact of it, unless it is there."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_WORKSPACE, (workspace_id, organization_id, slug, name, timezone, event_id))
        return cursor.rowcount


_INSERT_USER = """
INSERT INTO users (user_id, email, name) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO NOTHING
"""


async def insert_user(conn: AsyncConnection[Any], *, user_id: str, email: str, name: str) -> int:
    """Make a person, unless there is one with this id."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_USER, (user_id, email, name))
        return cursor.rowcount


_INSERT_MEMBERSHIP = """
INSERT INTO memberships (workspace_id, membership_id, user_id, role)
VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, user_id) DO NOTHING
"""


async def insert_membership(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    membership_id: str,
    user_id: str,
    role: str,
) -> int:
    """Make a person a member, unless that is so."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_MEMBERSHIP, (workspace_id, membership_id, user_id, role))
        return cursor.rowcount


_GET_WORKSPACE = """
SELECT w.workspace_id, w.organization_id, w.slug, w.name, w.description, w.industry, w.timezone, w.theme, w.sso_enforced,
    s.confidence_threshold, s.alert_probability, s.minimum_cluster_size, s.proof_window_days,
    s.proof_window_max_days, s.proof_confidence, w.created_at,
    greatest(w.updated_at, s.updated_at)::timestamptz AS updated_at
FROM workspaces AS w JOIN workspace_settings AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = $1
"""


async def get_workspace(conn: AsyncConnection[Any], *, workspace_id: str) -> WorkspaceRow | None:
    """A workspace with the settings that its services judge by."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspaceRow)) as cursor:
        await cursor.execute(_GET_WORKSPACE, (workspace_id,))
        fetched: WorkspaceRow | None = await cursor.fetchone()
        return fetched


_LOCK_WORKSPACE = """
SELECT w.workspace_id, w.organization_id, w.slug, w.name, w.description, w.industry, w.timezone, w.theme, w.sso_enforced,
    s.confidence_threshold, s.alert_probability, s.minimum_cluster_size, s.proof_window_days,
    s.proof_window_max_days, s.proof_confidence, w.created_at,
    greatest(w.updated_at, s.updated_at)::timestamptz AS updated_at
FROM workspaces AS w JOIN workspace_settings AS s ON s.workspace_id = w.workspace_id
WHERE w.workspace_id = $1
FOR NO KEY UPDATE
"""


async def lock_workspace(conn: AsyncConnection[Any], *, workspace_id: str) -> WorkspaceRow | None:
    """The same, held against other changes until the transaction ends."""
    async with AsyncRawCursor(conn, row_factory=args_row(WorkspaceRow)) as cursor:
        await cursor.execute(_LOCK_WORKSPACE, (workspace_id,))
        fetched: WorkspaceRow | None = await cursor.fetchone()
        return fetched


_UPDATE_WORKSPACE = """
UPDATE workspaces SET
    name = coalesce($1, name),
    slug = coalesce($2, slug),
    description = coalesce($3, description),
    industry = coalesce($4, industry),
    timezone = coalesce($5, timezone),
    theme = coalesce($6, theme),
    sso_enforced = coalesce($7, sso_enforced),
    updated_at = $8
WHERE workspace_id = $9
"""


async def update_workspace(
    conn: AsyncConnection[Any],
    *,
    name: str | None,
    slug: str | None,
    description: str | None,
    industry: str | None,
    timezone: str | None,
    theme: str | None,
    sso_enforced: bool | None,
    updated_at: datetime,
    workspace_id: str,
) -> None:
    """Change what is given of a workspace."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_WORKSPACE, (name, slug, description, industry, timezone, theme, sso_enforced, updated_at, workspace_id))


_UPDATE_SETTINGS = """
UPDATE workspace_settings SET
    confidence_threshold = coalesce($1, confidence_threshold),
    alert_probability = coalesce($2, alert_probability),
    minimum_cluster_size = coalesce($3, minimum_cluster_size),
    proof_window_days = coalesce($4, proof_window_days),
    proof_window_max_days = coalesce($5, proof_window_max_days),
    proof_confidence = coalesce($6, proof_confidence),
    updated_at = $7
WHERE workspace_id = $8
"""


async def update_settings(
    conn: AsyncConnection[Any],
    *,
    confidence_threshold: float | None,
    alert_probability: float | None,
    minimum_cluster_size: int | None,
    proof_window_days: int | None,
    proof_window_max_days: int | None,
    proof_confidence: float | None,
    updated_at: datetime,
    workspace_id: str,
) -> None:
    """Change what is given of how the services judge."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_SETTINGS, (confidence_threshold, alert_probability, minimum_cluster_size, proof_window_days, proof_window_max_days, proof_confidence, updated_at, workspace_id))


_EMIT = """
SELECT emit_here($1::text, $2::jsonb, $3::text, $4::text)
    AS event_id
"""


async def emit(
    conn: AsyncConnection[Any],
    *,
    event_type: str,
    data: str,
    actor: str,
    traceparent: str | None,
) -> str:
    """Say a fact of the workspace to the log once this transaction commits."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_EMIT, (event_type, data, actor, traceparent))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("emit gave no row")
        return fetched


_IS_TIMEZONE = """
SELECT is_timezone($1::text) AS is_known
"""


async def is_timezone(conn: AsyncConnection[Any], *, timezone: str) -> bool:
    """Whether there is a time zone of this name."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_IS_TIMEZONE, (timezone,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("is_timezone gave no row")
        return fetched


_HAS_ACTIVE_CONNECTION = """
SELECT EXISTS (SELECT FROM oidc_connections WHERE workspace_id = $1 AND status = 'active') AS is_there
"""


async def has_active_connection(conn: AsyncConnection[Any], *, workspace_id: str) -> bool:
    """Whether somebody could sign in by the workspace's own identity provider."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_HAS_ACTIVE_CONNECTION, (workspace_id,))
        fetched: bool | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("has_active_connection gave no row")
        return fetched


_GET_PLAN = """
SELECT o.organization_id, o.slug, o.name, o.status, o.created_at, p.plan,
    LEAST(o.seats_total, p.seats)::integer AS seats_total, seats_taken() AS seats_used, p.connectors, p.requests_per_minute,
    p.events_per_month, p.retention_days, p.features, COALESCE(u.events, 0)::bigint AS events_this_month
FROM workspaces AS w
JOIN organizations AS o ON o.organization_id = w.organization_id
JOIN plans AS p ON p.plan = o.plan
LEFT JOIN event_usage AS u ON u.organization_id = o.organization_id AND u.month = $1::date
WHERE w.workspace_id = $2
"""


async def get_plan(conn: AsyncConnection[Any], *, month: date, workspace_id: str) -> PlanRow | None:
    """The organization of a workspace with its plan and what is used of it this month; seats are what was agreed, within the plan."""
    async with AsyncRawCursor(conn, row_factory=args_row(PlanRow)) as cursor:
        await cursor.execute(_GET_PLAN, (month, workspace_id))
        fetched: PlanRow | None = await cursor.fetchone()
        return fetched


_RENAME_ORGANIZATION = """
UPDATE organizations SET name = $1
WHERE organization_id = $2 AND name <> $1
"""


async def rename_organization(conn: AsyncConnection[Any], *, name: str, organization_id: str) -> int:
    """Give the organization another name."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_RENAME_ORGANIZATION, (name, organization_id))
        return cursor.rowcount


_GET_ONBOARDING = """
SELECT o.current_step, o.completed_steps, o.is_complete, o.updated_at,
    (SELECT count(*) FROM invitations AS i WHERE i.workspace_id = o.workspace_id AND i.status <> 'revoked'
        AND coalesce(i.invited_by, '') NOT LIKE 'key\\_%') AS members_invited
FROM onboarding_states AS o WHERE o.workspace_id = $1
"""


async def get_onboarding(conn: AsyncConnection[Any], *, workspace_id: str) -> OnboardingRow | None:
    """How far a new workspace has come, and how many it has invited; the owner's own link, made with the client, is none."""
    async with AsyncRawCursor(conn, row_factory=args_row(OnboardingRow)) as cursor:
        await cursor.execute(_GET_ONBOARDING, (workspace_id,))
        fetched: OnboardingRow | None = await cursor.fetchone()
        return fetched


_LOCK_ONBOARDING = """
SELECT completed_steps FROM onboarding_states WHERE workspace_id = $1 FOR UPDATE
"""


async def lock_onboarding(conn: AsyncConnection[Any], *, workspace_id: str) -> list[str] | None:
    """Hold the onboarding of a workspace against other changes; the steps that are done."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_LOCK_ONBOARDING, (workspace_id,))
        fetched: list[str] | None = await cursor.fetchone()
        return fetched


_UPDATE_ONBOARDING = """
UPDATE onboarding_states SET completed_steps = $1::text[], current_step = $2,
    is_complete = $3, updated_at = $4
WHERE workspace_id = $5
"""


async def update_onboarding(
    conn: AsyncConnection[Any],
    *,
    completed_steps: list[str],
    current_step: str,
    is_complete: bool,
    updated_at: datetime,
    workspace_id: str,
) -> None:
    """Note a step that is done."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPDATE_ONBOARDING, (completed_steps, current_step, is_complete, updated_at, workspace_id))


_ONBOARD_CLIENT = """
SELECT c.organization_id::text AS organization_id, c.workspace_id::text AS workspace_id,
    c.owner_user_id::text AS owner_user_id, c.membership_id::text AS membership_id
FROM onboard_client($1::text, $2::text, $3::text,
    $4::text, $5::text, $6::text, $7::text,
    $8::integer) AS c (organization_id, workspace_id, owner_user_id, membership_id)
"""


async def onboard_client(
    conn: AsyncConnection[Any],
    *,
    org_name: str,
    org_slug: str,
    owner_email: str,
    owner_name: str | None,
    workspace_name: str | None,
    plan: str,
    timezone: str,
    seats: int | None,
) -> MadeClient:
    """Make a client with its workspace and its owner."""
    async with AsyncRawCursor(conn, row_factory=args_row(MadeClient)) as cursor:
        await cursor.execute(_ONBOARD_CLIENT, (org_name, org_slug, owner_email, owner_name, workspace_name, plan, timezone, seats))
        fetched: MadeClient | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("onboard_client gave no row")
        return fetched


_ENTER = """
SELECT set_config('app.current_workspace', $1::text, true)::text AS workspace_id
"""


async def enter(conn: AsyncConnection[Any], *, workspace_id: str) -> str:
    """See the workspace that was just made, from here to the end of the transaction."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_ENTER, (workspace_id,))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("enter gave no row")
        return fetched


_INSERT_SERVICE_ACCOUNT = """
INSERT INTO service_accounts (workspace_id, service_account_id, name, description, created_by, created_at, updated_at)
VALUES ($1, $2, $3, $4,
    $5::text, $6, $6)
"""


async def insert_service_account(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    service_account_id: str,
    name: str,
    description: str,
    created_by: str,
    created_at: datetime,
) -> None:
    """Make a service account."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_SERVICE_ACCOUNT, (workspace_id, service_account_id, name, description, created_by, created_at))


_INSERT_SERVICE_TOKEN = """
INSERT INTO api_tokens (workspace_id, token_id, service_account_id, name, token_hash, hint, scopes, created_by, created_at)
VALUES ($1, $2, $3::text, $4,
    $5, $6, $7::text[], $8::text, $9)
"""


async def insert_service_token(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    token_id: str,
    service_account_id: str,
    name: str,
    token_hash: str,
    hint: str,
    scopes: list[str],
    created_by: str,
    created_at: datetime,
) -> None:
    """Make a token of a service account."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_SERVICE_TOKEN, (workspace_id, token_id, service_account_id, name, token_hash, hint, scopes, created_by, created_at))


_INSERT_OWNER_INVITATION = """
INSERT INTO invitations (workspace_id, invitation_id, user_id, email, role, token_hash, delivery, invited_by, created_at,
    expires_at)
VALUES ($1, $2, $3, $4, 'owner',
    $5, 'link', $6::text, $7, $8)
"""


async def insert_owner_invitation(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    invitation_id: str,
    user_id: str,
    email: str,
    token_hash: str,
    invited_by: str,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    """A link for the owner of a workspace that was just made."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_OWNER_INVITATION, (workspace_id, invitation_id, user_id, email, token_hash, invited_by, created_at, expires_at))


_REVOKE_PLATFORM_SESSIONS = """
UPDATE sessions SET revoked_at = $1::timestamptz
WHERE workspace_id = $2 AND connection_id IS NULL AND revoked_at IS NULL
    AND session_id <> $3::text
"""


async def revoke_platform_sessions(
    conn: AsyncConnection[Any],
    *,
    revoked_at: datetime,
    workspace_id: str,
    except_session_id: str,
) -> int:
    """End the sessions of a workspace that its own provider did not vouch for, but not the one of who says so."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_REVOKE_PLATFORM_SESSIONS, (revoked_at, workspace_id, except_session_id))
        return cursor.rowcount


_GET_AI_SETTINGS = """
SELECT workspace_id, model_enabled, base_url, api_key_sealed, model_fast, model_balanced, model_deep, redact_emails,
    redact_ip_addresses, updated_at
FROM ai_settings WHERE workspace_id = $1
"""


async def get_ai_settings(conn: AsyncConnection[Any], *, workspace_id: str) -> AiSettingsRow | None:
    """Whom a workspace lets explain its failures, once somebody has said something about it."""
    async with AsyncRawCursor(conn, row_factory=args_row(AiSettingsRow)) as cursor:
        await cursor.execute(_GET_AI_SETTINGS, (workspace_id,))
        fetched: AiSettingsRow | None = await cursor.fetchone()
        return fetched


_PUT_AI_SETTINGS = """
INSERT INTO ai_settings (workspace_id, model_enabled, base_url, api_key_sealed, model_fast, model_balanced, model_deep,
    redact_emails, redact_ip_addresses, updated_at)
VALUES ($1, $2, $3, $4,
    $5, $6, $7, $8,
    $9, $10)
ON CONFLICT (workspace_id) DO UPDATE SET
    model_enabled = excluded.model_enabled, base_url = excluded.base_url, api_key_sealed = excluded.api_key_sealed,
    model_fast = excluded.model_fast, model_balanced = excluded.model_balanced, model_deep = excluded.model_deep,
    redact_emails = excluded.redact_emails, redact_ip_addresses = excluded.redact_ip_addresses,
    updated_at = excluded.updated_at
"""


async def put_ai_settings(
    conn: AsyncConnection[Any],
    *,
    workspace_id: str,
    model_enabled: bool,
    base_url: str | None,
    api_key_sealed: str | None,
    model_fast: str | None,
    model_balanced: str | None,
    model_deep: str | None,
    redact_emails: bool,
    redact_ip_addresses: bool,
    updated_at: datetime,
) -> None:
    """Say who may explain a workspace's failures, all of it anew."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_PUT_AI_SETTINGS, (workspace_id, model_enabled, base_url, api_key_sealed, model_fast, model_balanced, model_deep, redact_emails, redact_ip_addresses, updated_at))
