"""dlt's paginators, set to a page that was kept, and what they say of the next one."""

from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Final, assert_never
from urllib.parse import unquote_plus

import requests

from services.ingest.connectors.manifest import (
    Cursor,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
    Paginator,
    SinglePage,
    Stream,
)
from services.ingest.errors import VendorError
from services.ingest.vendors.windows import at, endpoint_of

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.paginators import BasePaginator
    from jsonpath_ng import JSONPath

PATHS_KEPT_MAX: Final = 1_024
"""Compiled JSONPaths that are kept; workspaces write theirs into manifests of their own."""


def paginator_at(
    stream: Stream,
    next_: str | int | None,
    path: str,
    params: dict[str, object] | None,
    body: dict[str, object] | None,
) -> "tuple[BasePaginator, str, dict[str, object] | None, dict[str, object] | None]":
    """dlt's paginator at a page, and the request for that page."""
    from dlt.sources.helpers.rest_client import paginators as turn  # noqa: PLC0415

    style: Paginator = endpoint_of(stream).paginator
    first = next_ if isinstance(next_, int) else None
    match style:
        case SinglePage():
            return turn.SinglePagePaginator(), path, params, body
        case JsonLink():
            link = turn.JSONLinkPaginator(compiled(style.next_url_path))
            return (link, path, params, body) if next_ is None else (link, str(next_), None, body)
        case HeaderLink():
            by_header = turn.HeaderLinkPaginator(style.links_next_key)
            return (by_header, path, params, body) if next_ is None else (by_header, str(next_), None, body)
        case HeaderCursor():
            if next_ is not None:
                params = {**(params or {}), style.cursor_param: next_}
            return turn.HeaderCursorPaginator(style.cursor_key, style.cursor_param), path, params, body
        case Cursor():
            cursor = turn.JSONResponseCursorPaginator(
                compiled(style.cursor_path),
                style.cursor_param,
                style.cursor_body_path,
                stop_after_empty_page=style.stop_after_empty_page,
                has_more_path=compiled(style.has_more_path) if style.has_more_path else None,
            )
            if next_ is not None and style.cursor_body_path is not None:
                body = {} if stream.cursor_alone else body or {}
                _set(body, style.cursor_body_path, next_)
            elif next_ is not None:
                kept = {} if stream.cursor_alone else params or {}
                params = {**kept, style.cursor_param or "cursor": next_}
            return cursor, path, params, body
        case Offset():
            by_offset = turn.OffsetPaginator(
                limit=style.limit,
                offset=first or 0,
                offset_param=style.offset_param,
                limit_param=style.limit_param,
                offset_body_path=style.offset_body_path,
                limit_body_path=style.limit_body_path,
                total_path=compiled(style.total_path) if style.total_path else None,
                has_more_path=compiled(style.has_more_path) if style.has_more_path else None,
            )
            return by_offset, path, params, body
        case PageNumber():
            by_page = turn.PageNumberPaginator(
                base_page=style.base_page,
                page=style.base_page if first is None else first,
                page_param=style.page_param,
                page_body_path=style.page_body_path,
                total_path=compiled(style.total_path) if style.total_path else None,
                has_more_path=compiled(style.has_more_path) if style.has_more_path else None,
            )
            return by_page, path, params, body
    assert_never(style)


def next_of(
    style: Paginator, paginator: "BasePaginator", request: requests.Request, *, signed: Collection[str] = ()
) -> str | int | None:
    """The next page as dlt has just written it into the request; None when there is none.

    signed: parameters that sign a request in. A vendor may repeat them in its link, which is kept; they are added to each
    request anew.
    """
    if not paginator.has_next_page:
        return None
    found: object
    match style:
        case SinglePage():
            found = None
        case JsonLink() | HeaderLink():
            found = _without(request.url, signed)
        case HeaderCursor():
            found = at(request.params, [style.cursor_param])
        case Cursor():
            if style.cursor_body_path is not None:
                found = at(request.json, style.cursor_body_path.split("."))
            else:
                found = at(request.params, [style.cursor_param or "cursor"])
        case Offset():
            found = _counted(request, style.offset_body_path, style.offset_param or "offset")
        case PageNumber():
            found = _counted(request, style.page_body_path, style.page_param or "page")
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    return str(found) if found else None


def _without(url: str, names: Collection[str]) -> str:
    """An address without these parameters; the others stay as they are written."""
    before, mark, query = url.partition("?")
    others = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names]
    return f"{before}{mark}{'&'.join(others)}"


def _counted(request: requests.Request, body_path: str | None, param: str) -> object:
    return at(request.json, body_path.split(".")) if body_path else at(request.params, [param])


def _set(body: dict[str, object], path: str, value: object) -> None:
    from dlt.common.jsonpath import set_value_at_path  # noqa: PLC0415

    set_value_at_path(body, path, value)


@lru_cache(maxsize=PATHS_KEPT_MAX)
def compiled(path: str) -> "JSONPath":
    """A JSONPath as dlt wants it; compiling one takes longer than a page. Raises VendorError: manifests that were kept
    before their paths were looked at may hold anything.
    """
    from dlt.common.jsonpath import compile_path  # noqa: PLC0415
    from jsonpath_ng.exceptions import JSONPathError  # noqa: PLC0415

    try:
        return compile_path(path)
    except JSONPathError as error:
        raise VendorError("not_configured", f"{path} of the manifest is no JSONPath") from error
