"""The envelope of every list, and the query that every list takes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

from msgspec import Meta, Struct
from runtime.database import Pool, tenant

from services.gateway.listing import (
    Condition,
    Found,
    Listing,
    PageRequest,
    fetch_one,
    fetch_page,
    make_cursor,
    read_cursor,
)
from services.gateway.routes.operation import Call, Gateway, command, not_found, settle

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


AsOf = Annotated[
    Annotated[int, Meta(ge=0, le=2**53 - 1)] | Annotated[datetime, Meta(tz=True)] | None,
    Meta(
        description="A time, or a sequence of the log: answered with what was known then. Beyond 50,000 events the first"
        " answers may be a 503 while that is put together; beyond 1,000,000 it is a 422. One that lies ahead is a 400."
        " Default: now."
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


class PastQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to look at it."""

    as_of: AsOf = None


class PastListQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a list takes that can be looked at as it was."""

    as_of: AsOf = None


def page_info(found: Found[Any]) -> PageInfo:  # Any: rows do not matter here
    """The envelope's second half."""
    return PageInfo(next_cursor=found.next_cursor, has_more=found.next_cursor is not None, total=found.total)


def page_in_memory(
    found: Sequence[T], query: ListQuery, *, key: Callable[[T], str], context: tuple[str, ...], secret: str
) -> tuple[tuple[T, ...], PageInfo]:
    """The page of a list that is at hand, in the order of its keys. context: what its cursors are bound to.

    Raises ValidationFailedError on a cursor that is not ours.
    """
    rest = found
    if query.cursor is not None:
        after = str(read_cursor(query.cursor, secret=secret, context=context).key)
        rest = [each for each in found if key(each) > after]
    page = tuple(rest[: query.limit])
    has_more = len(rest) > len(page)
    following = make_cursor(key(page[-1]), 0, secret=secret, context=context) if has_more else None
    return page, PageInfo(next_cursor=following, has_more=has_more, total=len(found))


async def list_page(
    gateway: Gateway,
    call: Call[Any, None],  # Any: each list has its own query
    listing: Listing[R],
    *,
    conditions: Sequence[Condition] = (),
    sort: str | None = None,
    of: str = "",
    source: Pool | None = None,
) -> Found[R]:
    """The page that a request asks for, read under the caller's workspace.

    conditions: beside the listing's own filters. sort: None: as the query says. of: the id of what the list belongs to,
    as cursors are bound to it. source: None: the read model.
    """
    query: ListQuery = call.query
    asked = PageRequest(
        workspace_id=call.workspace_id,
        conditions=[*listing.conditions(query), *conditions],
        sort=sort or getattr(query, "sort", None),
        cursor=query.cursor,
        limit=query.limit,
        scope=f"{call.workspace_id}/{of}?{call.scope}",
    )
    async with tenant(source or gateway.pool, call.workspace_id) as conn:
        return await fetch_page(conn, listing, asked, secret=gateway.secret)


async def read_one(gateway: Gateway, workspace_id: str, listing: Listing[R], identifier: str) -> R:
    """The row with this id. Raises NotFoundError."""
    row = await fetch_one(gateway.pool, listing, workspace_id=workspace_id, identifier=identifier)
    if row is None:
        raise not_found(listing.noun, identifier)
    return row


class Reply(Protocol):
    """What a service answers to a command: among others, which sequence shows its effect."""

    @property
    def sequence(self) -> int:
        """Of the last event that was appended."""
        ...


A = TypeVar("A", bound=Reply)


async def carry_out(
    gateway: Gateway,
    call: Call[Any, Any],  # Any: whatever is asked
    listing: Listing[R],
    request: Struct,
    *,
    reply: type[A],
    location: str | None = None,
) -> tuple[R, A]:
    """Have the owning service change what the path names: its row once a GET shows the change, and the reply.

    Raises NotFoundError for what is not of this workspace or not to be seen, such as a candidate pattern, before the
    service is asked; and NotVisibleYetError with the location, of the row where None.
    """
    identifier = call.path[listing.key]
    await read_one(gateway, call.workspace_id, listing, identifier)
    answer = await command(gateway, call.principal, request, reply=reply)
    row_at = f"/v1/{listing.name}/{identifier}"
    await settle(gateway, call.workspace_id, answer.sequence, location=location or row_at)
    return await read_one(gateway, call.workspace_id, listing, identifier), answer


def shown(found: Found[R], present: Callable[[R], T]) -> tuple[T, ...]:
    """The rows as the API shows them."""
    return tuple(present(row) for row in found.rows)
