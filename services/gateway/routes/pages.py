"""The envelope of every list, and the query that every list takes."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct
from runtime.database import Pool, tenant

from services.gateway.listing import Condition, Found, Listing, PageRequest, fetch_page
from services.gateway.routes.operation import Call, Gateway

R = TypeVar("R")
T = TypeVar("T")

Limit = Annotated[int, Meta(ge=1, le=100, description="Rows per page.")]
Cursor = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        description="`next_cursor` of the page before; good for the same list, filters and order only.",
    ),
]


class PageInfo(Struct, frozen=True, kw_only=True):
    """What leads on from a page."""

    next_cursor: Annotated[str | None, Meta(description="Token of the next page; null on the last one.")]
    has_more: bool
    total: Annotated[
        int, Meta(ge=0, description="Rows in all pages; exact up to 10,000, beyond it an estimate.")
    ]


class ListQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every list takes."""

    limit: Limit = 25
    cursor: Cursor | None = None


def page_info(found: Found[Any]) -> PageInfo:  # Any: rows do not matter here
    """The envelope's second half."""
    return PageInfo(next_cursor=found.next_cursor, has_more=found.next_cursor is not None, total=found.total)


async def list_page(
    gateway: Gateway,
    call: Call[Any, None],  # Any: each list has its own query
    listing: Listing[R],
    *,
    conditions: Sequence[Condition],
    sort: str | None,
    source: Pool | None = None,
) -> Found[R]:
    """The page that a request asks for, read under the caller's workspace. source: None: the read model."""
    query: ListQuery = call.query
    asked = PageRequest(
        workspace_id=call.workspace_id,
        conditions=conditions,
        sort=sort,
        cursor=query.cursor,
        limit=query.limit,
        scope=f"{call.workspace_id}?{call.scope}",
    )
    async with tenant(source or gateway.pool, call.workspace_id) as conn:
        return await fetch_page(conn, listing, asked, secret=gateway.secret)


def shown(found: Found[R], present: Callable[[R], T]) -> tuple[T, ...]:
    """The rows as the API shows them."""
    return tuple(present(row) for row in found.rows)
