"""Reads what a vendor has, page by page, as its manifest says; dlt asks and turns the pages.

Synchronous: it runs in a worker's thread. Every page is asked for by itself, from a position that can be kept as
JSON, so a run that is killed goes on at its page, and trying again is nothing else. dlt is loaded at the first
page: whoever polls nothing pays nothing for it.
"""

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Final, TypeVar, assert_never
from urllib.parse import urlsplit

import msgspec
import requests
from msgspec import Struct
from runtime.outbound import Reach

from services.ingest.connectors.manifest import (
    AuthorizationCode,
    Cursor,
    Endpoint,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Manifest,
    Offset,
    PageNumber,
    Paginator,
    SinglePage,
    Stream,
)
from services.ingest.connectors.words import moment
from services.ingest.vendors import sql
from services.ingest.vendors.faults import Code as Code
from services.ingest.vendors.faults import VendorError as VendorError
from services.ingest.vendors.faults import words
from services.ingest.vendors.rates import Rates
from services.ingest.vendors.session import GuardedSession, account_of
from services.ingest.vendors.signing import signer
from services.ingest.vendors.templates import Values, resolution, window_values

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from dlt.sources.helpers.rest_client.paginators import BasePaginator
    from jsonpath_ng import JSONPath

OVERLAP: Final = timedelta(minutes=10)
"""How far before the last known cursor a poll begins: vendors show records a little late."""
BEGINNING: Final = datetime(2015, 1, 1, tzinfo=UTC)
"""Where a window without a beginning begins: a vendor that is told nothing may choose one (PagerDuty: a month ago)."""
PAGES_MAX: Final = 100_000
"""Of one call: a vendor that always names another page ends there."""
RATE_WAIT_SECONDS_MAX: Final = 60.0
"""How long a run waits where a vendor says when; longer is for whoever plans runs."""
BACK_OFF_SECONDS: Final = 1.0
TRIES: Final[Mapping[Code, int]] = {"rate_limited": 5, "vendor_failed": 4, "unreachable": 4, "bad_answer": 2}
"""How often a page is asked for, by what went wrong; everything else is not tried again."""

T = TypeVar("T")

_STEPS: Final = re.compile(r"""(?<=')[^']+(?=')|(?<=")[^"]+(?=")|[^.\[\]'"]+""")
_SIZES: Final = re.compile(
    r"(page\[?|items)?_?(per_?page|size|limit|page_?len|max_?results|max|take|count|\$top)\]?", re.IGNORECASE
)
_ABOUT_CREDENTIALS: Final = re.compile(r"auth|token|permission|scope|forbidden|credential", re.IGNORECASE)


class Access(Struct, frozen=True):
    """What a connector has to ask its vendor with.

    auth: position in the manifest's ways to sign in. secrets: by name, with "access_token" for OAuth.
    """

    manifest: Manifest
    config: dict[str, str]
    auth: int
    secrets: dict[str, str]


class Window(Struct, frozen=True):
    """From when to when records are wanted; without start, from the beginning."""

    start: datetime | None
    end: datetime


class Page(Struct, frozen=True):
    """Records as they came, and where to go on behind them; None: the window is done.

    is_cut: the vendor gives no more of what came before `position`, though there is more.
    """

    records: list[object]
    position: dict[str, object] | None
    is_cut: bool = False


class Check(Struct, frozen=True):
    """One thing that was tried: "credentials" or a stream. code: what is wrong, None if nothing is."""

    name: str
    detail: str
    code: Code | None = None

    @property
    def is_good(self) -> bool:
        """Whether it went well."""
        return self.code is None


class _Place(Struct, frozen=True):
    """Where a run is.

    windows: what is still to read, the first is being read. next: the vendor's word for the page, None the first.
    n_records: read of this window. partition: which of several lists is being read.
    """

    windows: tuple[tuple[datetime, datetime], ...]
    next: str | int | None = None
    n_records: int = 0
    partition: int = 0


class _RowPlace(Struct, frozen=True):
    """Where a run over a database's rows is: the moment from which on, how many at once."""

    cursor: datetime
    limit: int = sql.ROWS


class _Answer(Struct, frozen=True):
    records: list[object]
    next: str | int | None


def open_session(
    access: Access, *, reach: Reach, rates: Rates, pause: Callable[[float], None]
) -> GuardedSession:
    """A session for one connector, to be closed; its account is asked no faster than all its connectors may together.

    rates: one for the process. Raises VendorError("not_configured").
    """
    manifest = access.manifest
    base_url = "" if manifest.base_url is None else Values(manifest, access.config).base_url(manifest)
    return GuardedSession(
        reach,
        rates=rates,
        account=account_of(manifest.type, base_url, access.secrets),
        per_minute=manifest.rate_per_minute,
        secrets=access.secrets.values(),
        pause=pause,
    )


def pages(
    access: Access,
    stream: Stream,
    window: Window,
    *,
    position: dict[str, object] | None = None,
    session: requests.Session,
    pause: Callable[[float], None],
    chance: Callable[[], float] = random.random,
) -> Iterator[Page]:
    """The records of a stream in a window, from a position of an earlier call with the same window.

    At least one page, perhaps empty. Raises VendorError, after patience where that may help.
    pause: sleeps for so many seconds. chance: between 0 and 1, so that not all come back at once.
    """
    if stream.query is not None:
        yield from _rows(access, stream.query, window, position, session, pause, chance)
        return
    whole = ((window.start or BEGINNING, window.end),)
    place = msgspec.convert(position, _Place) if position is not None else _Place(whole)
    source = _patiently(lambda: _Source(access, stream, session), pause, chance)
    for _ in range(PAGES_MAX):
        place = _at_most(place, stream)
        asked = place
        answer = _patiently(lambda: source.ask(asked), pause, chance)  # noqa: B023  # called at once
        after, is_cut = _after(stream, place, answer, whole, source.n_partitions)
        kept = None if after is None else msgspec.to_builtins(after)
        yield Page(answer.records, kept, is_cut)
        if after is None:
            return
        place = after
    raise VendorError("bad_answer", f"{access.manifest.name} names more than {PAGES_MAX} pages")


def _rows(
    access: Access,
    query: str,
    window: Window,
    position: dict[str, object] | None,
    session: requests.Session,
    pause: Callable[[float], None],
    chance: Callable[[], float],
) -> Iterator[Page]:
    place = msgspec.convert(position, _RowPlace) if position else _RowPlace(window.start or BEGINNING)
    for _ in range(PAGES_MAX):
        asked = place
        rows = _patiently(lambda: _read_rows(access, query, asked, session), pause, chance)  # noqa: B023
        if rows.cursor is None:
            yield Page(rows.records, None)
            return
        place = _RowPlace(rows.cursor, rows.limit)
        yield Page(rows.records, msgspec.to_builtins(place))
    raise VendorError("bad_answer", f"{access.manifest.name} has more than {PAGES_MAX} pages of rows")


def _read_rows(access: Access, query: str, place: _RowPlace, session: requests.Session) -> sql.Rows:
    reach = session.reach if isinstance(session, GuardedSession) else Reach()
    values = Values(access.manifest, access.config, access.secrets)
    return sql.read(query, values, cursor=place.cursor, limit=place.limit, reach=reach)


def probe(access: Access, *, session: requests.Session, now: datetime | None = None) -> list[Check]:
    """Try the credentials, then a small page of each stream: a good key that may read nothing is the usual failure."""
    manifest = access.manifest
    checks = []
    if manifest.test is not None:
        checks.append(_check("credentials", lambda: _test(access, session)))
    if not checks or checks[0].is_good:
        end = now or datetime.now(UTC)
        checks += [
            _check(each.name, partial(_glance, access, each, end, session)) for each in manifest.streams
        ]
    return checks


def _glance(access: Access, stream: Stream, end: datetime, session: requests.Session) -> None:
    """A small page of the last hour. Raises VendorError."""
    start = end - timedelta(hours=1)
    if stream.query is not None:
        _read_rows(access, stream.query, _RowPlace(start, 1), session)
    else:
        _Source(access, _small(stream), session).ask(_Place(((start, end),)))


def high_water(stream: Stream, records: Sequence[object]) -> datetime | None:
    """The latest moment of these records by the stream's cursor; None where they say none."""
    if stream.query is not None:
        return sql.high_water(records)
    moments = _moments(stream, records)
    return max(moments) if moments else None


def beginning(known: datetime | None) -> datetime | None:
    """Where the next window begins after what is known to be committed."""
    return None if known is None else known - OVERLAP


# --- where to go on --------------------------------------------------------------------------------------------


def _at_most(place: _Place, stream: Stream) -> _Place:
    """The same place with a first window that is no longer than the vendor allows."""
    if stream.days_max is None or place.next is not None:
        return place
    (start, end), *others = place.windows
    middle = start + timedelta(days=stream.days_max)
    if middle >= end:
        return place
    return msgspec.structs.replace(place, windows=((start, middle), (middle, end), *others))


def _after(
    stream: Stream,
    place: _Place,
    answer: _Answer,
    whole: tuple[tuple[datetime, datetime], ...],
    n_partitions: int,
) -> tuple[_Place | None, bool]:
    """The place behind an answer, None at the end; and whether the vendor withholds records."""
    (start, end), *others = place.windows
    n_records = place.n_records + len(answer.records)
    cut: tuple[tuple[datetime, datetime], ...] | None = None
    if answer.next is not None and not _is_before(stream, answer.records, start):
        if not _is_at_cap(stream, answer, n_records):
            if answer.next == place.next:
                raise VendorError("bad_answer", "the vendor names the same page as the next one")
            further = msgspec.structs.replace(place, next=answer.next, n_records=n_records)
            return further, False
        cut = _cut(stream, start, end, answer.records)
    windows = (*(cut or ()), *others)
    is_cut = cut == ()
    if windows:
        return _Place(windows, partition=place.partition), is_cut
    if place.partition + 1 < n_partitions:
        return _Place(whole, partition=place.partition + 1), is_cut
    return None, is_cut


def _is_at_cap(stream: Stream, answer: _Answer, n_records: int) -> bool:
    """Whether the next page is beyond what the vendor gives of one window."""
    paginator = _endpoint(stream).paginator
    maximum = None
    if isinstance(paginator, Offset):
        maximum = paginator.maximum_offset
    elif isinstance(paginator, PageNumber):
        maximum = paginator.maximum_page
    if maximum is not None and isinstance(answer.next, int) and answer.next >= maximum:
        return True
    return stream.records_max is not None and n_records + len(answer.records) > stream.records_max


def _cut(
    stream: Stream, start: datetime, end: datetime, records: Sequence[object]
) -> tuple[tuple[datetime, datetime], ...]:
    """The windows that hold what is missing of one whose cap is reached; none where the vendor offers no way."""
    step = resolution(stream)
    moments = _moments(stream, records)
    if stream.order == "ascending" and moments and _has_end(stream, "start"):
        last = max(moments)
        last = last if last >= start + step else start + step
        return ((last, end),) if last < end else ()
    if stream.order == "descending" and moments and _has_end(stream, "end"):
        first = min(moments)
        first = first if first <= end - step else end - step
        return ((start, first),) if first > start else ()
    if not (_has_end(stream, "start") and _has_end(stream, "end")) or end - start < 2 * step:
        return ()
    middle = start + (end - start) / 2
    return ((start, middle), (middle, end))


def _is_before(stream: Stream, records: Sequence[object], start: datetime) -> bool:
    """Whether a list that begins with the latest has left the window."""
    moments = _moments(stream, records) if stream.order == "descending" else []
    return bool(moments) and min(moments) < start


def _has_end(stream: Stream, which: str) -> bool:
    """Whether a request says where the window starts, or ends."""
    endpoint = _endpoint(stream)
    incremental = endpoint.incremental
    if incremental is not None and getattr(incremental, f"{which}_param") is not None:
        return True
    return f"{{incremental.{which}_value}}" in f"{endpoint.path}{endpoint.params}{endpoint.json}"


def _moments(stream: Stream, records: Sequence[object]) -> list[datetime]:
    incremental = stream.endpoint.incremental if stream.endpoint is not None else None
    if incremental is None:
        return []
    steps = _STEPS.findall(incremental.cursor_path)
    found = (moment(_at(record, steps)) for record in records)
    return [each for each in found if each is not None]


def _at(value: object, steps: Sequence[str]) -> object:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


# --- asking ----------------------------------------------------------------------------------------------------


def _patiently(ask: Callable[[], T], pause: Callable[[float], None], chance: Callable[[], float]) -> T:
    """The answer, asked for again where that may help, a bounded number of times."""
    n_tries = 0
    while True:
        try:
            return ask()
        except VendorError as error:
            n_tries += 1
            if n_tries >= TRIES.get(error.code, 1):
                raise
            wait = BACK_OFF_SECONDS * 2 ** (n_tries - 1) * (0.5 + chance() / 2)
            if error.retry_after is not None:
                if error.retry_after > RATE_WAIT_SECONDS_MAX:
                    raise
                wait = error.retry_after + chance()
            pause(wait)


class _Source:
    """One stream of one connector, ready to be asked."""

    def __init__(self, access: Access, stream: Stream, session: requests.Session) -> None:
        self._access, self._stream = access, stream
        self._client, self._base_url = _client(access, session)
        self._partitions = _partitions(access, stream)

    @property
    def n_partitions(self) -> int:
        """How many lists there are to read."""
        return len(self._partitions)

    def ask(self, place: _Place) -> _Answer:
        """The page at a place. Raises VendorError."""
        endpoint, partition = _endpoint(self._stream), self._partitions[place.partition]
        window = window_values(self._stream, *place.windows[0])
        config = {**self._access.config, **partition}
        values = Values(self._access.manifest, config, window=window)
        path, params, body = _first_page(endpoint, values, window)
        paginator, path, params, body = _turned(self._stream, place.next, path, params, body)
        if isinstance(place.next, str) and isinstance(endpoint.paginator, JsonLink | HeaderLink):
            self._pin(place.next)
        seen: list[requests.Response] = []
        try:
            turning = self._client.paginate(
                path,
                method=endpoint.method,
                params=params,
                json=body,
                paginator=paginator,
                data_selector=_compiled(endpoint.data_selector),
                headers={name: values.text(text) for name, text in endpoint.headers.items()},
                hooks={"response": [lambda response, *_, **__: seen.append(response)]},
            )
            page = next(turning)
        except (ValueError, RecursionError, requests.RequestException) as error:
            if isinstance(error, requests.RequestException) and not isinstance(
                error, requests.JSONDecodeError
            ):
                raise _unmakeable(error) from error
            _complain(seen, self._access)
            raise VendorError(
                "bad_answer", f"{self._access.manifest.name} answered what is not the JSON that was expected"
            ) from error
        records: list[object] = [record for record in page if record is not None]
        if not records:
            _complain(seen, self._access)
        following = _following(endpoint.paginator, page.paginator, page.request)
        if isinstance(following, str) and isinstance(endpoint.paginator, JsonLink | HeaderLink):
            self._pin(following)
        if not records and self._stream.stop_after_empty_page:
            following = None
        return _Answer(self._finished(records, values, partition), following)

    def _finished(self, records: list[object], values: Values, partition: Mapping[str, str]) -> list[object]:
        """Records in place of ids, each with the list it is from."""
        stream = self._stream
        if stream.details is not None:
            records = self._detailed(records, values)
        if stream.partition_as is not None:
            (own,) = partition.values()
            records = [{**each, stream.partition_as: own} for each in records if isinstance(each, dict)]
        return records

    def _detailed(self, ids: list[object], values: Values) -> list[object]:
        details = self._stream.details
        assert details is not None  # the caller asked
        records: list[object] = []
        for first in range(0, len(ids), details.batch):
            body = values.tree(details.json)
            assert isinstance(body, dict)  # a tree has its template's shape
            body[details.ids_path] = ids[first : first + details.batch]
            response = self._client.post(values.path(details.path), json=body)
            try:
                found = self._client.extract_response(response, _compiled(details.data_selector))
            except (ValueError, RecursionError) as error:
                raise VendorError(
                    "bad_answer", "details of ids are not the JSON that was expected"
                ) from error
            records += found
        return records

    def _pin(self, url: str) -> None:
        """Refuse a next page elsewhere: the credentials would go there."""
        if _origin(url) != _origin(self._base_url):
            host = urlsplit(url).hostname
            raise VendorError("bad_answer", f"the next page is said to be on another address, {host}")


def _client(access: Access, session: requests.Session) -> "tuple[RESTClient, str]":
    """dlt's client for a connector's vendor, signed in, and the address it asks under."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration  # noqa: PLC0415
    from dlt.sources.helpers.rest_client.client import RESTClient  # noqa: PLC0415

    manifest = access.manifest
    if manifest.adapter == "sql":
        raise VendorError("not_configured", f"{manifest.name} is not asked by HTTP")
    if not 0 <= access.auth < len(manifest.auth):
        raise VendorError("not_configured", f"{manifest.name} has no way {access.auth} to sign in")
    values = Values(manifest, access.config, access.secrets)
    base_url = values.base_url(manifest)
    auth = signer(manifest.auth[access.auth], values, access.secrets, base_url)
    headers = {name: values.text(text) for name, text in manifest.headers.items()}

    def client(url: str) -> RESTClient:
        return RESTClient(
            url,
            headers=headers,
            auth=auth,
            session=session,
            config=RuntimeConfiguration(dlthub_telemetry=False),
        )

    if manifest.adapter == "instance" and isinstance(manifest.auth[access.auth], AuthorizationCode):
        base_url = _atlassian(client(ATLASSIAN), access)
    return client(base_url), base_url


ATLASSIAN: Final = "https://api.atlassian.com"


def _atlassian(client: "RESTClient", access: Access) -> str:
    """Where Atlassian takes a token that a person gave us for their site.

    Source: https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/, section 3.
    """
    site = access.config.get("site", "")
    try:
        sites: object = client.get("/oauth/token/accessible-resources").json()
    except ValueError as error:
        raise VendorError("bad_answer", "Atlassian's list of sites is no JSON") from error
    for each in sites if isinstance(sites, list) else []:
        if isinstance(each, dict) and urlsplit(str(each.get("url"))).hostname == f"{site}.atlassian.net":
            cloud_id = str(each.get("id"))
            if re.fullmatch(r"[A-Za-z0-9-]{1,64}", cloud_id):
                return f"{ATLASSIAN}/ex/jira/{cloud_id}"
    raise VendorError("not_configured", f"who signed in may not see the site {site}.atlassian.net")


def _partitions(access: Access, stream: Stream) -> list[dict[str, str]]:
    """The config field with each of its values, one after the other; one empty one where lists are not divided."""
    if stream.partition is None:
        return [{}]
    parts = [part.strip() for part in access.config.get(stream.partition, "").split(",")]
    found = [{stream.partition: part} for part in parts if part]
    if not found:
        raise VendorError("not_configured", f"{stream.partition} has not been given")
    return found


def _first_page(
    endpoint: Endpoint, values: Values, window: Mapping[str, str]
) -> tuple[str, dict[str, object] | None, dict[str, object] | None]:
    """Path, parameters and body of a window's first page; a fresh copy, since paginators write into them."""
    params, body = values.tree(endpoint.params), values.tree(endpoint.json)
    assert isinstance(params, dict)  # a tree has its template's shape
    assert isinstance(body, dict)  # a tree has its template's shape
    if endpoint.incremental is not None:
        if endpoint.incremental.start_param is not None:
            params[endpoint.incremental.start_param] = window["start_value"]
        if endpoint.incremental.end_param is not None:
            params[endpoint.incremental.end_param] = window["end_value"]
    return values.path(endpoint.path), params, body or None


def _turned(
    stream: Stream,
    next_: str | int | None,
    path: str,
    params: dict[str, object] | None,
    body: dict[str, object] | None,
) -> "tuple[BasePaginator, str, dict[str, object] | None, dict[str, object] | None]":
    """dlt's paginator at a page, and the request for that page."""
    from dlt.sources.helpers.rest_client import paginators as turn  # noqa: PLC0415

    style: Paginator = _endpoint(stream).paginator
    first = next_ if isinstance(next_, int) else None
    match style:
        case SinglePage():
            return turn.SinglePagePaginator(), path, params, body
        case JsonLink():
            link = turn.JSONLinkPaginator(_compiled(style.next_url_path))
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
                _compiled(style.cursor_path),
                style.cursor_param,
                style.cursor_body_path,
                stop_after_empty_page=style.stop_after_empty_page,
                has_more_path=_compiled(style.has_more_path) if style.has_more_path else None,
            )
            if next_ is not None and style.cursor_body_path is not None:
                body = body or {}
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
                total_path=_compiled(style.total_path) if style.total_path else None,
                has_more_path=_compiled(style.has_more_path) if style.has_more_path else None,
            )
            return by_offset, path, params, body
        case PageNumber():
            by_page = turn.PageNumberPaginator(
                base_page=style.base_page,
                page=style.base_page if first is None else first,
                page_param=style.page_param,
                page_body_path=style.page_body_path,
                total_path=_compiled(style.total_path) if style.total_path else None,
                has_more_path=_compiled(style.has_more_path) if style.has_more_path else None,
            )
            return by_page, path, params, body
    assert_never(style)


def _following(style: Paginator, paginator: "BasePaginator", request: requests.Request) -> str | int | None:
    """The next page as dlt has just written it into the request; None when there is none."""
    if not paginator.has_next_page:
        return None
    found: object
    match style:
        case SinglePage():
            found = None
        case JsonLink() | HeaderLink():
            found = request.url
        case HeaderCursor():
            found = _at(request.params, [style.cursor_param])
        case Cursor():
            if style.cursor_body_path is not None:
                found = _at(request.json, style.cursor_body_path.split("."))
            else:
                found = _at(request.params, [style.cursor_param or "cursor"])
        case Offset():
            found = _counted(request, style.offset_body_path, style.offset_param or "offset")
        case PageNumber():
            found = _counted(request, style.page_body_path, style.page_param or "page")
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    return str(found) if found else None


def _counted(request: requests.Request, body_path: str | None, param: str) -> object:
    return _at(request.json, body_path.split(".")) if body_path else _at(request.params, [param])


def _set(body: dict[str, object], path: str, value: object) -> None:
    from dlt.common.jsonpath import set_value_at_path  # noqa: PLC0415

    set_value_at_path(body, path, value)


@cache
def _compiled(path: str) -> "JSONPath":
    """A JSONPath as dlt wants it; compiling one takes longer than a page."""
    from dlt.common.jsonpath import compile_path  # noqa: PLC0415

    return compile_path(path)


def _complain(seen: Sequence[requests.Response], access: Access) -> None:
    """Raises VendorError for a refusal that was sent as a success: GraphQL, JSON-RPC and Slack do."""
    try:
        answer: object = seen[-1].json() if seen else None
    except (ValueError, RecursionError):
        return
    if not isinstance(answer, dict):
        return
    trouble = answer.get("errors") or answer.get("error")
    if not trouble and answer.get("ok") is not False:
        return
    said = words(str(trouble or "the answer says that it is not ok"), access.secrets.values())
    code: Code = "credentials_rejected" if _ABOUT_CREDENTIALS.search(said) else "bad_answer"
    raise VendorError(code, f"{access.manifest.name} answered: {said}")


def _unmakeable(error: requests.RequestException) -> VendorError:
    """A value that was given makes no header or no address."""
    return VendorError("not_configured", f"the request cannot be made: {type(error).__name__}")


def _endpoint(stream: Stream) -> Endpoint:
    if stream.endpoint is None:
        raise VendorError("not_configured", f"{stream.name} is not asked by HTTP")
    return stream.endpoint


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None


# --- trying ----------------------------------------------------------------------------------------------------


def _check(name: str, ask: Callable[[], object]) -> Check:
    try:
        ask()
    except VendorError as error:
        return Check(name, error.detail, error.code)
    return Check(name, "answered")


def _test(access: Access, session: requests.Session) -> None:
    test = access.manifest.test
    if test is None:
        return
    client, _ = _client(access, session)
    values = Values(access.manifest, access.config)
    body = values.tree(test.json)
    try:
        response = client.request(
            values.path(test.path), method=test.method, json=body if isinstance(body, dict) and body else None
        )
    except requests.RequestException as error:
        raise _unmakeable(error) from error
    _complain([response], access)


def _small(stream: Stream) -> Stream:
    """The same stream with pages of one record, where the manifest says how large they are."""
    endpoint = _endpoint(stream)
    paginator = endpoint.paginator
    if isinstance(paginator, Offset):
        paginator = msgspec.structs.replace(paginator, limit=1)
    params = {
        name: 1 if isinstance(value, int) and _SIZES.fullmatch(name) else value
        for name, value in endpoint.params.items()
    }
    return msgspec.structs.replace(
        stream, endpoint=msgspec.structs.replace(endpoint, paginator=paginator, params=params)
    )
