"""A workspace's own identity providers: set up, changed, taken away."""

import random
from collections.abc import Sequence

import msgspec
from contracts import new_id
from msgspec import UNSET, Struct, UnsetType
from runtime.database import Connection as Transaction
from runtime.database import Pool, tenant
from runtime.errors import NotFoundError, StateConflictError
from runtime.outbound import OutboundError
from runtime.sealing import Place

from services.gateway.errors import ProviderUnusableError
from services.gateway.identity.people.acting import Act
from services.gateway.identity.signin import _queries
from services.gateway.identity.signin._queries import Connection
from services.gateway.identity.signin.providers import Metadata, Providers
from services.gateway.identity.tenancy.plans import load_plan
from services.gateway.identity.vault.keys import Vault

CONNECTIONS_MAX = 20
_HIDDEN = frozenset({"client_secret"})


class Wanted(Struct, frozen=True, kw_only=True):
    """A connection to be."""

    name: str
    issuer: str
    client_id: str
    client_secret: str
    domains: Sequence[str]
    default_role: str


class Changed(Struct, frozen=True, kw_only=True):
    """What is to be different."""

    name: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    client_secret: str | UnsetType = UNSET
    domains: Sequence[str] | UnsetType = UNSET
    default_role: str | UnsetType = UNSET
    status: str | UnsetType = UNSET


class Connections:
    """Rows of oidc_connections, for who may administer them; secrets are sealed and never shown."""

    def __init__(
        self,
        pool: Pool,
        vault: Vault,
        providers: Providers,
        *,
        rng: random.Random,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._providers = providers
        self._rng = rng

    async def all(self, act: Act) -> Sequence[Connection]:
        """The workspace's, oldest first."""
        async with tenant(self._pool, act.workspace_id) as conn:
            return await _queries.list_connections(conn, workspace_id=act.workspace_id)

    async def one(self, act: Act, connection_id: str) -> Connection:
        """One of them. Raises NotFoundError."""
        async with tenant(self._pool, act.workspace_id) as conn:
            return await _get(conn, act, connection_id)

    async def add(self, act: Act, wanted: Wanted) -> Connection:
        """A new one, once its provider has been asked for its discovery document.

        Raises PlanFeatureError without single sign-on in the plan, ProviderUnusableError when the provider cannot be
        used, StateConflictError for one that is there already, ForbiddenError for a role that is not the caller's to
        give.
        """
        act.check_may_grant(wanted.default_role)
        async with tenant(self._pool, act.workspace_id) as conn:
            (await load_plan(conn, act.workspace_id, now=act.now)).require("sso")
        metadata = await self._discovered(wanted.issuer, act.workspace_id)
        connection_id = new_id("sso_", now=act.now, rng=self._rng)
        async with tenant(self._pool, act.workspace_id) as conn:
            known = await _queries.list_connections(conn, workspace_id=act.workspace_id)
            if len(known) >= CONNECTIONS_MAX:
                raise StateConflictError(
                    f"There are {CONNECTIONS_MAX} connections already. Remove one first."
                )
            is_new = await _queries.insert_connection(
                conn,
                workspace_id=act.workspace_id,
                connection_id=connection_id,
                name=wanted.name,
                issuer=metadata.issuer,
                client_id=wanted.client_id,
                client_secret_sealed=await self._sealed(conn, act, connection_id, wanted.client_secret),
                domains=list(dict.fromkeys(wanted.domains)),
                default_role=wanted.default_role,
                status="active",
                created_at=act.now,
            )
            if not is_new:
                raise StateConflictError("There is a connection to this client of this provider already.")
            await act.write_down(
                conn,
                "sso.connection_created",
                "create",
                ("connection", connection_id),
                default_role=wanted.default_role,
            )
            return await _get(conn, act, connection_id)

    async def change(self, act: Act, connection_id: str, changed: Changed) -> Connection:
        """It with the changes. Disabling it ends the sessions that it vouched for.

        Raises NotFoundError, ForbiddenError for a role that is not the caller's to give, StateConflictError for the
        last active one of a workspace that insists on single sign-on.
        """
        if changed.default_role is not UNSET:
            act.check_may_grant(changed.default_role)
        values = {
            name: value
            for name, value in msgspec.structs.asdict(changed).items()
            if value is not UNSET and name not in _HIDDEN
        }
        async with tenant(self._pool, act.workspace_id) as conn:
            found = await _get(conn, act, connection_id)
            if changed.client_secret is not UNSET:
                values["client_secret_sealed"] = await self._sealed(
                    conn, act, connection_id, changed.client_secret
                )
            if changed.domains is not UNSET:
                values["domains"] = list(dict.fromkeys(changed.domains))
            made = msgspec.structs.replace(found, **values, updated_at=act.now)
            if made.status == "disabled" and found.status == "active":
                await self._shut(conn, act, connection_id)
            row = msgspec.structs.asdict(made)
            for fixed in ("issuer", "created_at", "approved_domains"):
                del row[fixed]
            await _queries.update_connection(conn, **row)
            await act.write_down(
                conn,
                "sso.connection_updated",
                "update",
                ("connection", connection_id),
                fields=" ".join(sorted(values)),
            )
            return await _get(conn, act, connection_id)

    async def remove(self, act: Act, connection_id: str) -> None:
        """Forget it, with the sessions that it vouched for. Raises NotFoundError, StateConflictError."""
        async with tenant(self._pool, act.workspace_id) as conn:
            found = await _get(conn, act, connection_id)
            if found.status == "active":
                await self._shut(conn, act, connection_id)
            await _queries.delete_connection(conn, workspace_id=act.workspace_id, connection_id=connection_id)
            await act.write_down(conn, "sso.connection_deleted", "delete", ("connection", connection_id))

    async def _shut(self, conn: Transaction, act: Act, connection_id: str) -> None:
        """End what came through it, unless nobody could come in any more."""
        is_enforced = await _queries.get_sso_enforced(conn, workspace_id=act.workspace_id)
        others = [
            one
            for one in await _queries.list_connections(conn, workspace_id=act.workspace_id)
            if one.status == "active" and one.connection_id != connection_id
        ]
        if is_enforced and not others:
            raise StateConflictError(
                "It is the last active connection of a workspace that insists on single sign-on."
                " Set sso_enforced to false first."
            )
        await _queries.revoke_connection_sessions(
            conn,
            workspace_id=act.workspace_id,
            connection_id=connection_id,
            revoked_at=act.now,
        )

    async def _discovered(self, issuer: str, workspace_id: str) -> Metadata:
        try:
            return await self._providers.discover(issuer, workspace_id)
        except OutboundError as error:
            raise ProviderUnusableError(
                f"The identity provider cannot be used: {error}.", details={"issuer": str(error)}
            ) from error

    async def _sealed(self, conn: Transaction, act: Act, connection_id: str, client_secret: str) -> str:
        return await self._vault.seal(
            conn, client_secret, owner_id=act.workspace_id, place=secret_place(connection_id)
        )


def secret_place(connection_id: str) -> Place:
    """Where a connection's secret is sealed for."""
    return Place("oidc_connections", connection_id, "client_secret_sealed")


async def _get(conn: Transaction, act: Act, connection_id: str) -> Connection:
    found = await _queries.get_connection(conn, workspace_id=act.workspace_id, connection_id=connection_id)
    if found is None:
        raise NotFoundError(f"There is no connection {connection_id}.", details={"id": connection_id})
    return found
