"""A person's second factors: set up, asked for, taken away."""

import random
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Any

from contracts import new_id
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.database import Pool
from runtime.errors import NotFoundError, StateConflictError
from runtime.sealing import Place

from services.gateway.errors import InvalidFactorError, RateLimitedError
from services.gateway.identity import _queries as people
from services.gateway.identity.mfa import _queries
from services.gateway.identity.mfa._queries import Passkey, Totp
from services.gateway.identity.mfa.codes import (
    Enrolment,
    enrolment,
    hash_recovery_code,
    hash_recovery_codes,
    new_recovery_codes,
    new_secret,
    step_of,
)
from services.gateway.identity.mfa.passkeys import (
    Descriptor,
    RelyingParty,
    authentication_options,
    registration_options,
    verify_authentication,
    verify_registration,
)
from services.gateway.identity.tokens import Principal
from services.gateway.identity.vault.keys import Vault

ATTEMPTS_PER_MINUTE_MAX = 5
CHALLENGE_SECONDS = 300
PASSKEYS_MAX = 20
_TRANSPORTS_MAX = 8


class State(Struct, frozen=True):
    """What a person has set up, and whether this session has given it.

    is_owed: there is a factor and the session has not given it yet.
    """

    is_owed: bool
    second_factor_at: datetime | None
    totp_confirmed_at: datetime | None
    passkeys: tuple[Passkey, ...]
    n_recovery_codes: int


class Caller(Struct, frozen=True):
    """Who asks, from where."""

    principal: Principal
    ip: str

    @property
    def user_id(self) -> str:
        """The person."""
        return self.principal.user_id


class SecondFactors:
    """Everything it knows is in the schema identity; secrets are sealed, recovery codes hashed."""

    def __init__(
        self,
        pool: Pool,
        vault: Vault,
        *,
        party: RelyingParty,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._party = party
        self._clock = clock
        self._rng = rng

    async def state(self, caller: Caller) -> State:
        """What is set up."""
        async with self._acting(caller) as conn:
            found = await self._found(conn, caller)
            passkeys = await _queries.list_passkeys(conn, user_id=caller.user_id)
        has_any = found.totp_confirmed_at is not None or bool(passkeys)
        return State(
            is_owed=has_any and found.second_factor_at is None,
            second_factor_at=found.second_factor_at,
            totp_confirmed_at=found.totp_confirmed_at,
            passkeys=tuple(passkeys),
            n_recovery_codes=found.n_codes,
        )

    async def enrol_totp(self, caller: Caller) -> Enrolment:
        """A new secret for an authenticator app, which counts once a code of it is confirmed.

        Raises StateConflictError while another one is confirmed.
        """
        secret = new_secret()
        async with self._acting(caller) as conn:
            person = await people.get_user(conn, user_id=caller.user_id)
            if person is None:
                raise NotFoundError("There is no such person.")
            sealed = await self._vault.seal(
                conn, secret, owner_id=caller.user_id, place=_secret_of(caller.user_id)
            )
            kept = await _queries.upsert_totp(
                conn, user_id=caller.user_id, secret_sealed=sealed, created_at=self._clock()
            )
        if not kept:
            raise StateConflictError("An authenticator app is set up already. Remove it first.")
        return enrolment(secret, account=person.email)

    async def confirm_totp(self, caller: Caller, code: str) -> tuple[str, ...]:
        """Make the new authenticator app count; the recovery codes, which nobody can show again.

        Raises InvalidFactorError for a wrong code, NotFoundError without one to confirm, StateConflictError for
        one that is confirmed, RateLimitedError.
        """
        await self._count_attempt(caller)
        async with self._acting(caller) as conn:
            found = await _queries.get_totp(conn, user_id=caller.user_id)
            if found is None:
                raise NotFoundError(
                    "No authenticator app waits for its first code. Begin with POST /v1/mfa/totp."
                )
            if found.confirmed_at is not None:
                raise StateConflictError("The authenticator app is confirmed already.")
            await self._take_code(conn, caller, found, code)
            codes = await self._renew_codes(conn, caller)
            await self._given(conn, caller)
            await _audit(conn, caller, "mfa.totp_confirmed", "create")
        return codes

    async def remove_totp(self, caller: Caller, *, code: str | None, recovery_code: str | None) -> None:
        """Forget the authenticator app, against a code. Raises like `give`."""
        await self._count_attempt(caller)
        async with self._acting(caller) as conn:
            await self._take(conn, caller, code=code, recovery_code=recovery_code)
            await _queries.delete_totp(conn, user_id=caller.user_id)
            await self._forget_codes_without_factor(conn, caller)
            await _queries.forget_attempts(conn, user_id=caller.user_id)
            await _audit(conn, caller, "mfa.totp_removed", "delete")

    async def give(self, caller: Caller, *, code: str | None, recovery_code: str | None) -> datetime:
        """Take a code as this session's second factor; when that was.

        Raises InvalidFactorError for a wrong or used code, NotFoundError without a factor, RateLimitedError after
        too many attempts.
        """
        await self._count_attempt(caller)
        async with self._acting(caller) as conn:
            await self._take(conn, caller, code=code, recovery_code=recovery_code)
            given_at = await self._given(conn, caller)
            action = "mfa.code_given" if code is not None else "mfa.recovery_code_used"
            await _audit(conn, caller, action, "login")
        return given_at

    async def renew_codes(self, caller: Caller) -> tuple[str, ...]:
        """New recovery codes in place of the old ones. Raises NotFoundError without a factor."""
        async with self._acting(caller) as conn:
            found = await self._found(conn, caller)
            if found.totp_confirmed_at is None and not found.n_passkeys:
                raise NotFoundError("There is no second factor that the codes could stand in for.")
            codes = await self._renew_codes(conn, caller)
            await _audit(conn, caller, "mfa.recovery_codes_renewed", "update")
        return codes

    async def begin_passkey(self, caller: Caller) -> Mapping[str, object]:
        """What the browser makes a passkey from. Raises StateConflictError when there are too many."""
        challenge = token_bytes(32)
        async with self._acting(caller) as conn:
            person = await people.get_user(conn, user_id=caller.user_id)
            if person is None:
                raise NotFoundError("There is no such person.")
            known = await _queries.list_passkeys(conn, user_id=caller.user_id)
            if len(known) >= PASSKEYS_MAX:
                raise StateConflictError(f"There are {PASSKEYS_MAX} passkeys already. Remove one first.")
            await self._keep_challenge(conn, caller, "register", challenge)
        return registration_options(
            self._party,
            user_id=person.user_id,
            email=person.email,
            name=person.name,
            challenge=challenge,
            known=_descriptors(known),
        )

    async def add_passkey(
        self, caller: Caller, credential: Mapping[str, object], *, name: str
    ) -> tuple[Passkey, tuple[str, ...]]:
        """Keep the passkey that the browser made; recovery codes too when these are the first.

        Raises InvalidFactorError for an answer that is not good, StateConflictError for one that is known.
        """
        challenge = await self._take_challenge(caller, "register")
        made = verify_registration(self._party, credential, challenge=challenge)
        now = self._clock()
        passkey = Passkey(
            passkey_id=new_id("pky_", now=now, rng=self._rng),
            credential_id=made.credential_id,
            public_key=made.credential_public_key,
            sign_count=made.sign_count,
            name=name,
            transports=_transports(credential),
            is_synced=made.credential_backed_up,
            created_at=now,
            last_used_at=None,
        )
        async with self._acting(caller) as conn:
            kept = await _queries.insert_passkey(
                conn,
                user_id=caller.user_id,
                passkey_id=passkey.passkey_id,
                credential_id=passkey.credential_id,
                public_key=passkey.public_key,
                sign_count=passkey.sign_count,
                name=name,
                transports=passkey.transports,
                is_synced=passkey.is_synced,
                created_at=now,
            )
            if not kept:
                raise StateConflictError("This passkey is known already.")
            found = await self._found(conn, caller)
            codes = () if found.n_codes else await self._renew_codes(conn, caller)
            await self._given(conn, caller)
            await _audit(conn, caller, "mfa.passkey_added", "create", passkey.passkey_id)
        return passkey, codes

    async def ask_passkey(self, caller: Caller) -> Mapping[str, object]:
        """What the browser signs with a passkey. Raises NotFoundError when there is none."""
        challenge = token_bytes(32)
        async with self._acting(caller) as conn:
            known = await _queries.list_passkeys(conn, user_id=caller.user_id)
            if not known:
                raise NotFoundError("There is no passkey. Make one with POST /v1/mfa/passkeys/registration.")
            await self._keep_challenge(conn, caller, "authenticate", challenge)
        return authentication_options(self._party, challenge=challenge, known=_descriptors(known))

    async def give_passkey(self, caller: Caller, credential: Mapping[str, object]) -> datetime:
        """Take a passkey's signature as this session's second factor; when that was. Raises InvalidFactorError."""
        challenge = await self._take_challenge(caller, "authenticate")
        async with self._acting(caller) as conn:
            found = await _queries.get_passkey_by_credential(
                conn, user_id=caller.user_id, credential_id=_credential_id(credential)
            )
            if found is None:
                raise InvalidFactorError("This passkey is not known here.")
            checked = verify_authentication(
                self._party,
                credential,
                challenge=challenge,
                public_key=found.public_key,
                sign_count=found.sign_count,
            )
            given_at = await self._given(conn, caller)
            await _queries.touch_passkey(
                conn,
                user_id=caller.user_id,
                passkey_id=found.passkey_id,
                sign_count=checked.new_sign_count,
                used_at=given_at,
            )
            await _audit(conn, caller, "mfa.passkey_given", "login", found.passkey_id)
        return given_at

    async def rename_passkey(self, caller: Caller, passkey_id: str, *, name: str) -> Passkey:
        """The passkey under its new name. Raises NotFoundError."""
        async with self._acting(caller) as conn:
            renamed = await _queries.rename_passkey(
                conn, user_id=caller.user_id, passkey_id=passkey_id, name=name
            )
            if renamed is None:
                raise _no_passkey(passkey_id)
            await _audit(conn, caller, "mfa.passkey_renamed", "update", passkey_id)
        return renamed

    async def remove_passkey(self, caller: Caller, passkey_id: str) -> None:
        """Forget a passkey. Raises NotFoundError."""
        async with self._acting(caller) as conn:
            if not await _queries.delete_passkey(conn, user_id=caller.user_id, passkey_id=passkey_id):
                raise _no_passkey(passkey_id)
            await self._forget_codes_without_factor(conn, caller)
            await _audit(conn, caller, "mfa.passkey_removed", "delete", passkey_id)

    @asynccontextmanager
    async def _acting(self, caller: Caller) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction that sees the person's own rows and the workspace's."""
        async with self._pool.connection() as conn, conn.transaction():
            await people.identify(conn, user_id=caller.user_id, workspace_id=caller.principal.workspace_id)
            yield conn

    async def _found(self, conn: AsyncConnection[Any], caller: Caller) -> _queries.GetFactorsRow:
        return await _queries.get_factors(
            conn,
            user_id=caller.user_id,
            workspace_id=caller.principal.workspace_id,
            session_id=caller.principal.session_id,
        )

    async def _count_attempt(self, caller: Caller) -> None:
        """Count an attempt in a transaction of its own, so that a refusal does not undo it."""
        now = self._clock()
        window_at = now.replace(second=0, microsecond=0)
        async with self._acting(caller) as conn:
            n_attempts = await _queries.count_attempt(conn, user_id=caller.user_id, window_at=window_at)
        if n_attempts > ATTEMPTS_PER_MINUTE_MAX:
            raise RateLimitedError(
                f"More than {ATTEMPTS_PER_MINUTE_MAX} codes were tried within a minute.",
                retry_after=60 - (now - window_at).total_seconds(),
            )

    async def _take(
        self, conn: AsyncConnection[Any], caller: Caller, *, code: str | None, recovery_code: str | None
    ) -> None:
        if code is not None:
            found = await _queries.get_totp(conn, user_id=caller.user_id)
            if found is None or found.confirmed_at is None:
                raise NotFoundError("No authenticator app is set up. Begin with POST /v1/mfa/totp.")
            await self._take_code(conn, caller, found, code)
        elif not await _queries.use_recovery_code(
            conn,
            user_id=caller.user_id,
            code_hash=hash_recovery_code(recovery_code or ""),
            used_at=self._clock(),
        ):
            raise InvalidFactorError("The recovery code is not good, or it was used before.")

    async def _take_code(self, conn: AsyncConnection[Any], caller: Caller, found: Totp, code: str) -> None:
        secret = await self._vault.open(
            conn, found.secret_sealed, owner_id=caller.user_id, place=_secret_of(caller.user_id)
        )
        now = self._clock()
        step = step_of(code, secret, now=now, after=found.last_step)
        # Of two requests with the same code the row's lock lets one through.
        if step is None or not await _queries.take_step(conn, user_id=caller.user_id, step=step, now_at=now):
            raise InvalidFactorError("The code is not good, or it was used before.")

    async def _renew_codes(self, conn: AsyncConnection[Any], caller: Caller) -> tuple[str, ...]:
        codes = new_recovery_codes()
        await _queries.delete_recovery_codes(conn, user_id=caller.user_id)
        await _queries.insert_recovery_codes(
            conn, user_id=caller.user_id, code_hashes=hash_recovery_codes(codes), created_at=self._clock()
        )
        return codes

    async def _forget_codes_without_factor(self, conn: AsyncConnection[Any], caller: Caller) -> None:
        found = await self._found(conn, caller)
        if found.totp_confirmed_at is None and not found.n_passkeys:
            await _queries.delete_recovery_codes(conn, user_id=caller.user_id)

    async def _given(self, conn: AsyncConnection[Any], caller: Caller) -> datetime:
        now = self._clock()
        await _queries.mark_second_factor(
            conn,
            workspace_id=caller.principal.workspace_id,
            session_id=caller.principal.session_id,
            given_at=now,
        )
        await _queries.forget_attempts(conn, user_id=caller.user_id)
        return now

    async def _keep_challenge(
        self, conn: AsyncConnection[Any], caller: Caller, purpose: str, challenge: bytes
    ) -> None:
        await _queries.upsert_challenge(
            conn,
            session_id=caller.principal.session_id,
            purpose=purpose,
            user_id=caller.user_id,
            challenge=challenge,
            expires_at=self._clock() + timedelta(seconds=CHALLENGE_SECONDS),
        )

    async def _take_challenge(self, caller: Caller, purpose: str) -> bytes:
        """The challenge, used up whatever the answer to it is worth. Raises InvalidFactorError."""
        async with self._acting(caller) as conn:
            taken = await _queries.take_challenge(
                conn, session_id=caller.principal.session_id, purpose=purpose, user_id=caller.user_id
            )
        if taken is None or taken.expires_at <= self._clock():
            raise InvalidFactorError("There is no open challenge. Ask for the options again.")
        return taken.challenge


async def _audit(
    conn: AsyncConnection[Any], caller: Caller, action: str, category: str, passkey_id: str = ""
) -> None:
    await _queries.audit_factor(
        conn,
        user_id=caller.user_id,
        action=action,
        category=category,
        target_type="passkey" if passkey_id else "user",
        target_id=passkey_id or caller.user_id,
        ip=caller.ip,
    )


def _secret_of(user_id: str) -> Place:
    return Place("totp_factors", user_id, "secret_sealed")


def _no_passkey(passkey_id: str) -> NotFoundError:
    return NotFoundError(f"There is no passkey {passkey_id}.", details={"id": passkey_id})


def _descriptors(known: list[Passkey]) -> list[Descriptor]:
    return [Descriptor(one.credential_id, one.transports) for one in known]


def _credential_id(credential: Mapping[str, object]) -> bytes:
    """The credential's id, or bytes that no passkey has."""
    text = credential.get("rawId")
    try:
        return urlsafe_b64decode(str(text) + "==")
    except ValueError:
        return b""


def _transports(credential: Mapping[str, object]) -> list[str]:
    """How the browser says that the authenticator can be reached; a hint, so anything else is dropped."""
    response = credential.get("response")
    found = response.get("transports") if isinstance(response, Mapping) else None
    if not isinstance(found, list):
        return []
    return [way for way in found if isinstance(way, str) and len(way) <= 32][:_TRANSPORTS_MAX]
