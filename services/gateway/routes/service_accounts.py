"""Service accounts: machines that act by themselves, and their tokens. They take no seat."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from contracts import new_id
from msgspec import Meta, Struct
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from runtime.database import tenant

from services.gateway.identity.access import _queries, credentials
from services.gateway.identity.access.credentials import Owner, name_as_refusal
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.routes.tokens import (
    ApiTokenPage,
    ApiTokenQuery,
    ApiTokenRequest,
    NewApiToken,
    TokenName,
    present_secret,
    requested,
    tokens_of,
)

Status: TypeAlias = Literal["active", "suspended"]
Description = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")]


class ServiceAccount(Struct, frozen=True, kw_only=True):
    """A machine that acts by itself; it outlives whoever made it."""

    id: str
    name: str
    description: str
    status: Annotated[Status, Meta(description="While suspended, its tokens are refused.")]
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class ServiceAccountPage(Struct, frozen=True, kw_only=True):
    """A page of service accounts."""

    data: tuple[ServiceAccount, ...]
    page: PageInfo


class ServiceAccountQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of service accounts."""

    status: tuple[Status, ...] | None = None
    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class ServiceAccountRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service account to make."""

    name: TokenName
    description: Description = ""


class ServiceAccountChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a service account; what is absent stays."""

    name: TokenName | None = None
    description: Description | None = None
    status: Status | None = None


LISTING = Listing(
    name="service_accounts",
    view="service_accounts",
    row=_queries.ServiceAccount,
    sorts={"created_at": SortKey("created_at", "timestamptz"), "name": SortKey("name", "text")},
    default_sort="-created_at",
)


def _present(row: _queries.ServiceAccount) -> ServiceAccount:
    return ServiceAccount(
        id=row.service_account_id,
        name=row.name,
        description=row.description,
        status=row.status,  # type: ignore[arg-type]  # the column's check has the same words
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def _find(
    conn: AsyncConnection[TupleRow], workspace_id: str, service_account_id: str
) -> _queries.ServiceAccount:
    found = await _queries.get_service_account(
        conn, workspace_id=workspace_id, service_account_id=service_account_id
    )
    if found is None:
        raise not_found("service account", service_account_id)
    return found


async def list_accounts(gateway: Gateway, call: Call[ServiceAccountQuery, None]) -> ServiceAccountPage:
    """A page of service accounts."""
    status = call.query.status
    conditions = [Condition("status = ANY({value}::text[])", list(status))] if status else []
    found = await list_page(
        gateway, call, LISTING, conditions=conditions, sort=call.query.sort, source=gateway.people
    )
    return ServiceAccountPage(data=shown(found, _present), page=page_info(found))


async def create_account(gateway: Gateway, call: Call[NoQuery, ServiceAccountRequest]) -> ServiceAccount:
    """A new service account, without a token."""
    act, wanted = act_of(gateway, call), call.body
    async with tenant(gateway.people, call.workspace_id) as conn:
        with name_as_refusal(wanted.name):
            row = await _queries.insert_service_account(
                conn,
                workspace_id=call.workspace_id,
                service_account_id=new_id("svc_", now=act.now, rng=gateway.rng),
                name=wanted.name,
                description=wanted.description,
                created_by=call.principal.user_id,
                created_at=act.now,
            )
        if row is None:
            raise LookupError("the new service account gave no row")
        target = ("service_account", row.service_account_id)
        await act.write_down(conn, "service_account.created", "create", target)
    return _present(row)


async def get_account(gateway: Gateway, call: Call[NoQuery, None]) -> ServiceAccount:
    """A service account."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(await _find(conn, call.workspace_id, call.path["service_account_id"]))


async def change_account(gateway: Gateway, call: Call[NoQuery, ServiceAccountChange]) -> ServiceAccount:
    """Another name or description, a pause, the end of one."""
    act, change, identifier = act_of(gateway, call), call.body, call.path["service_account_id"]
    fields = [name for name in change.__struct_fields__ if getattr(change, name) is not None]
    async with tenant(gateway.people, call.workspace_id) as conn:
        if not fields:
            return _present(await _find(conn, call.workspace_id, identifier))
        with name_as_refusal(change.name or ""):
            row = await _queries.update_service_account(
                conn,
                workspace_id=call.workspace_id,
                service_account_id=identifier,
                name=change.name,
                description=change.description,
                status=change.status,
                updated_at=act.now,
            )
        if row is None:
            raise not_found("service account", identifier)
        await act.write_down(
            conn,
            "service_account.updated",
            "update",
            ("service_account", identifier),
            fields=",".join(fields),
            status=row.status,
        )
    gateway.access.forget(identifier)
    return _present(row)


async def delete_account(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of a service account and of its tokens."""
    act, identifier = act_of(gateway, call), call.path["service_account_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        deleted = await _queries.delete_service_account(
            conn, workspace_id=call.workspace_id, service_account_id=identifier
        )
        if not deleted:
            raise not_found("service account", identifier)
        await act.write_down(conn, "service_account.deleted", "delete", ("service_account", identifier))
    gateway.access.forget(identifier)


async def list_tokens(gateway: Gateway, call: Call[ApiTokenQuery, None]) -> ApiTokenPage:
    """A page of a service account's tokens."""
    identifier = call.path["service_account_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        await _find(conn, call.workspace_id, identifier)
    return await tokens_of(gateway, call, Owner(identifier))


async def create_token(gateway: Gateway, call: Call[NoQuery, ApiTokenRequest]) -> NewApiToken:
    """A token of a service account."""
    identifier = call.path["service_account_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        await _find(conn, call.workspace_id, identifier)
        made = await credentials.make_token(
            conn, act_of(gateway, call), Owner(identifier), requested(call.body), rng=gateway.rng
        )
    return present_secret(made)


async def rotate_token(gateway: Gateway, call: Call[NoQuery, None]) -> NewApiToken:
    """Another secret for a service account's token."""
    owner, token_id = Owner(call.path["service_account_id"]), call.path["token_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        made = await credentials.rotate_token(conn, act_of(gateway, call), owner, token_id)
    gateway.access.forget(token_id)
    return present_secret(made)


async def revoke_token(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of a service account's token."""
    owner, token_id = Owner(call.path["service_account_id"]), call.path["token_id"]
    async with tenant(gateway.people, call.workspace_id) as conn:
        await credentials.revoke_token(conn, act_of(gateway, call), owner, token_id)
    gateway.access.forget(token_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listServiceAccounts",
        method="GET",
        path="/v1/service-accounts",
        tag="Tokens",
        summary="List service accounts.",
        scope="service_accounts:read",
        query=ServiceAccountQuery,
        replies={200: ServiceAccountPage},
        handle=list_accounts,
    ),
    Operation(
        id="createServiceAccount",
        method="POST",
        path="/v1/service-accounts",
        tag="Tokens",
        summary="Make a service account.",
        description="A machine that is nobody's: it takes no seat and outlives whoever made it. It can do nothing until"
        " it has a token.",
        scope="service_accounts:write",
        body=ServiceAccountRequest,
        replies={201: ServiceAccount},
        refusals=(409,),
        handle=create_account,
    ),
    Operation(
        id="getServiceAccount",
        method="GET",
        path="/v1/service-accounts/{service_account_id}",
        tag="Tokens",
        summary="Look at a service account.",
        scope="service_accounts:read",
        replies={200: ServiceAccount},
        handle=get_account,
    ),
    Operation(
        id="updateServiceAccount",
        method="PATCH",
        path="/v1/service-accounts/{service_account_id}",
        tag="Tokens",
        summary="Change, suspend or reinstate a service account.",
        scope="service_accounts:write",
        body=ServiceAccountChange,
        replies={200: ServiceAccount},
        refusals=(409,),
        handle=change_account,
    ),
    Operation(
        id="deleteServiceAccount",
        method="DELETE",
        path="/v1/service-accounts/{service_account_id}",
        tag="Tokens",
        summary="Delete a service account with its tokens.",
        scope="service_accounts:write",
        replies={204: None},
        handle=delete_account,
    ),
    Operation(
        id="listServiceAccountTokens",
        method="GET",
        path="/v1/service-accounts/{service_account_id}/tokens",
        tag="Tokens",
        summary="List a service account's tokens.",
        scope="service_accounts:read",
        query=ApiTokenQuery,
        replies={200: ApiTokenPage},
        handle=list_tokens,
    ),
    Operation(
        id="createServiceAccountToken",
        method="POST",
        path="/v1/service-accounts/{service_account_id}/tokens",
        tag="Tokens",
        summary="Make a token for a service account.",
        description="With scopes that you have yourself; they stay when you leave. The secret is shown in this answer"
        " and never again.",
        scope="service_accounts:write",
        body=ApiTokenRequest,
        replies={201: NewApiToken},
        refusals=(409,),
        handle=create_token,
    ),
    Operation(
        id="rotateServiceAccountToken",
        method="POST",
        path="/v1/service-accounts/{service_account_id}/tokens/{token_id}/rotate",
        tag="Tokens",
        summary="Give a service account's token another secret.",
        description="The old secret is refused from the next request on. Needs every scope that the token has.",
        scope="service_accounts:write",
        replies={200: NewApiToken},
        refusals=(409,),
        handle=rotate_token,
    ),
    Operation(
        id="revokeServiceAccountToken",
        method="DELETE",
        path="/v1/service-accounts/{service_account_id}/tokens/{token_id}",
        tag="Tokens",
        summary="End a service account's token for ever.",
        scope="service_accounts:write",
        replies={204: None},
        handle=revoke_token,
    ),
)
