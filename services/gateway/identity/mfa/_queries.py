"""Generated from queries.sql by `causeloop-codegen sql`; do not edit."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import args_row, scalar_row


class GetFactorsRow(Struct, frozen=True):
    """One row of get_factors."""

    totp_confirmed_at: datetime | None
    second_factor_at: datetime | None
    n_passkeys: int
    n_codes: int


class Totp(Struct, frozen=True):
    """One row of a result."""

    secret_sealed: str
    confirmed_at: datetime | None
    last_step: int


class TakeChallengeRow(Struct, frozen=True):
    """One row of take_challenge."""

    challenge: bytes
    expires_at: datetime


class Passkey(Struct, frozen=True):
    """One row of a result."""

    passkey_id: str
    credential_id: bytes
    public_key: bytes
    sign_count: int
    name: str
    transports: list[str]
    is_synced: bool
    created_at: datetime
    last_used_at: datetime | None


_GET_FACTORS = """
SELECT (SELECT t.confirmed_at FROM totp_factors AS t WHERE t.user_id = $1)::timestamptz AS totp_confirmed_at,
    (SELECT s.second_factor_at FROM sessions AS s
        WHERE s.workspace_id = $2 AND s.session_id = $3)::timestamptz AS second_factor_at,
    (SELECT count(*) FROM passkeys AS p WHERE p.user_id = $1)::bigint AS n_passkeys,
    (SELECT count(*) FROM recovery_codes AS r WHERE r.user_id = $1 AND r.used_at IS NULL)::bigint AS n_codes
"""


async def get_factors(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    workspace_id: str,
    session_id: str,
) -> GetFactorsRow:
    """What a person has set up as a second factor, and how many recovery codes are left."""
    async with AsyncRawCursor(conn, row_factory=args_row(GetFactorsRow)) as cursor:
        await cursor.execute(_GET_FACTORS, (user_id, workspace_id, session_id))
        fetched: GetFactorsRow | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("get_factors gave no row")
        return fetched


_MARK_SECOND_FACTOR = """
UPDATE sessions SET second_factor_at = $1::timestamptz
WHERE workspace_id = $2 AND session_id = $3
"""


async def mark_second_factor(
    conn: AsyncConnection[Any],
    *,
    given_at: datetime,
    workspace_id: str,
    session_id: str,
) -> int:
    """Note that a session gave its second factor."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_MARK_SECOND_FACTOR, (given_at, workspace_id, session_id))
        return cursor.rowcount


_COUNT_ATTEMPT = """
INSERT INTO factor_attempts AS a (user_id, window_at, n_attempts) VALUES ($1, $2, 1)
ON CONFLICT (user_id) DO UPDATE SET window_at = excluded.window_at,
    n_attempts = CASE WHEN a.window_at = excluded.window_at THEN a.n_attempts + 1 ELSE 1 END
RETURNING n_attempts
"""


async def count_attempt(conn: AsyncConnection[Any], *, user_id: str, window_at: datetime) -> int:
    """Count an attempt at a code within the current minute; the number of them so far."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_COUNT_ATTEMPT, (user_id, window_at))
        fetched: int | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("count_attempt gave no row")
        return fetched


_FORGET_ATTEMPTS = """
DELETE FROM factor_attempts WHERE user_id = $1
"""


async def forget_attempts(conn: AsyncConnection[Any], *, user_id: str) -> None:
    """Forget the attempts of who got in."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_FORGET_ATTEMPTS, (user_id,))


_UPSERT_TOTP = """
INSERT INTO totp_factors AS t (user_id, secret_sealed, created_at)
VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, created_at = excluded.created_at
WHERE t.confirmed_at IS NULL
"""


async def upsert_totp(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    secret_sealed: str,
    created_at: datetime,
) -> int:
    """Keep a new secret of an authenticator app, unless one is confirmed already."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_TOTP, (user_id, secret_sealed, created_at))
        return cursor.rowcount


_GET_TOTP = """
SELECT secret_sealed, confirmed_at, last_step FROM totp_factors WHERE user_id = $1
"""


async def get_totp(conn: AsyncConnection[Any], *, user_id: str) -> Totp | None:
    """A person's authenticator app."""
    async with AsyncRawCursor(conn, row_factory=args_row(Totp)) as cursor:
        await cursor.execute(_GET_TOTP, (user_id,))
        fetched: Totp | None = await cursor.fetchone()
        return fetched


_TAKE_STEP = """
UPDATE totp_factors SET last_step = $1, confirmed_at = COALESCE(confirmed_at, $2)
WHERE user_id = $3 AND last_step < $1
"""


async def take_step(conn: AsyncConnection[Any], *, step: int, now_at: datetime | None, user_id: str) -> int:
    """Take the code of a time step; 0 rows when it or a later one was taken before."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_TAKE_STEP, (step, now_at, user_id))
        return cursor.rowcount


_DELETE_TOTP = """
DELETE FROM totp_factors WHERE user_id = $1
"""


async def delete_totp(conn: AsyncConnection[Any], *, user_id: str) -> int:
    """Forget an authenticator app."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_TOTP, (user_id,))
        return cursor.rowcount


_DELETE_RECOVERY_CODES = """
DELETE FROM recovery_codes WHERE user_id = $1
"""


async def delete_recovery_codes(conn: AsyncConnection[Any], *, user_id: str) -> int:
    """Forget a person's recovery codes."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_RECOVERY_CODES, (user_id,))
        return cursor.rowcount


_INSERT_RECOVERY_CODES = """
INSERT INTO recovery_codes (user_id, code_hash, created_at)
SELECT $1, unnest($2::text[]), $3
"""


async def insert_recovery_codes(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    code_hashes: list[str],
    created_at: datetime,
) -> int:
    """Keep the hashes of new recovery codes."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_RECOVERY_CODES, (user_id, code_hashes, created_at))
        return cursor.rowcount


_USE_RECOVERY_CODE = """
UPDATE recovery_codes SET used_at = $1::timestamptz
WHERE user_id = $2 AND code_hash = $3 AND used_at IS NULL
"""


async def use_recovery_code(
    conn: AsyncConnection[Any],
    *,
    used_at: datetime,
    user_id: str,
    code_hash: str,
) -> int:
    """Use a recovery code up; 0 rows when there is none like it."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_USE_RECOVERY_CODE, (used_at, user_id, code_hash))
        return cursor.rowcount


_UPSERT_CHALLENGE = """
INSERT INTO webauthn_challenges (session_id, purpose, user_id, challenge, expires_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (session_id, purpose) DO UPDATE SET challenge = excluded.challenge, expires_at = excluded.expires_at
"""


async def upsert_challenge(
    conn: AsyncConnection[Any],
    *,
    session_id: str,
    purpose: str,
    user_id: str,
    challenge: bytes,
    expires_at: datetime,
) -> None:
    """Keep what an authenticator will have to sign; the one before it is void."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_UPSERT_CHALLENGE, (session_id, purpose, user_id, challenge, expires_at))


_TAKE_CHALLENGE = """
DELETE FROM webauthn_challenges
WHERE session_id = $1 AND purpose = $2 AND user_id = $3
RETURNING challenge, expires_at
"""


async def take_challenge(
    conn: AsyncConnection[Any],
    *,
    session_id: str,
    purpose: str,
    user_id: str,
) -> TakeChallengeRow | None:
    """Take a challenge, which is thereby used up."""
    async with AsyncRawCursor(conn, row_factory=args_row(TakeChallengeRow)) as cursor:
        await cursor.execute(_TAKE_CHALLENGE, (session_id, purpose, user_id))
        fetched: TakeChallengeRow | None = await cursor.fetchone()
        return fetched


_LIST_PASSKEYS = """
SELECT passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at
FROM passkeys WHERE user_id = $1 ORDER BY created_at, passkey_id
"""


async def list_passkeys(conn: AsyncConnection[Any], *, user_id: str) -> list[Passkey]:
    """A person's passkeys, oldest first."""
    async with AsyncRawCursor(conn, row_factory=args_row(Passkey)) as cursor:
        await cursor.execute(_LIST_PASSKEYS, (user_id,))
        fetched: list[Passkey] = await cursor.fetchall()
        return fetched


_GET_PASSKEY_BY_CREDENTIAL = """
SELECT passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at
FROM passkeys WHERE user_id = $1 AND credential_id = $2 FOR UPDATE
"""


async def get_passkey_by_credential(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    credential_id: bytes,
) -> Passkey | None:
    """The passkey with this credential id; locked, so that its counter is compared once."""
    async with AsyncRawCursor(conn, row_factory=args_row(Passkey)) as cursor:
        await cursor.execute(_GET_PASSKEY_BY_CREDENTIAL, (user_id, credential_id))
        fetched: Passkey | None = await cursor.fetchone()
        return fetched


_INSERT_PASSKEY = """
INSERT INTO passkeys (user_id, passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at)
VALUES ($1, $2, $3, $4, $5,
    $6, $7, $8, $9)
ON CONFLICT (credential_id) DO NOTHING
"""


async def insert_passkey(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    passkey_id: str,
    credential_id: bytes,
    public_key: bytes,
    sign_count: int,
    name: str,
    transports: list[str],
    is_synced: bool,
    created_at: datetime,
) -> int:
    """Keep a new passkey; 0 rows when somebody has it already."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_INSERT_PASSKEY, (user_id, passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at))
        return cursor.rowcount


_TOUCH_PASSKEY = """
UPDATE passkeys SET sign_count = $1, last_used_at = $2::timestamptz
WHERE user_id = $3 AND passkey_id = $4
"""


async def touch_passkey(
    conn: AsyncConnection[Any],
    *,
    sign_count: int,
    used_at: datetime,
    user_id: str,
    passkey_id: str,
) -> None:
    """A passkey was used."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_TOUCH_PASSKEY, (sign_count, used_at, user_id, passkey_id))


_RENAME_PASSKEY = """
UPDATE passkeys SET name = $1 WHERE user_id = $2 AND passkey_id = $3
RETURNING passkey_id, credential_id, public_key, sign_count, name, transports, is_synced, created_at, last_used_at
"""


async def rename_passkey(
    conn: AsyncConnection[Any],
    *,
    name: str,
    user_id: str,
    passkey_id: str,
) -> Passkey | None:
    """Name a passkey."""
    async with AsyncRawCursor(conn, row_factory=args_row(Passkey)) as cursor:
        await cursor.execute(_RENAME_PASSKEY, (name, user_id, passkey_id))
        fetched: Passkey | None = await cursor.fetchone()
        return fetched


_DELETE_PASSKEY = """
DELETE FROM passkeys WHERE user_id = $1 AND passkey_id = $2
"""


async def delete_passkey(conn: AsyncConnection[Any], *, user_id: str, passkey_id: str) -> int:
    """Forget a passkey."""
    async with AsyncRawCursor(conn) as cursor:
        await cursor.execute(_DELETE_PASSKEY, (user_id, passkey_id))
        return cursor.rowcount


_AUDIT_FACTOR = """
SELECT audit_here($1::text, $2::text, $3::text,
    $4::text, $5::text, '{}'::jsonb, $6::text)::text AS entry_id
"""


async def audit_factor(
    conn: AsyncConnection[Any],
    *,
    user_id: str,
    action: str,
    category: str,
    target_type: str,
    target_id: str,
    ip: str,
) -> str:
    """Add to the audit log of the workspace what became of somebody's second factor."""
    async with AsyncRawCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(_AUDIT_FACTOR, (user_id, action, category, target_type, target_id, ip))
        fetched: str | None = await cursor.fetchone()
        if fetched is None:
            raise LookupError("audit_factor gave no row")
        return fetched
