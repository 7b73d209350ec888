"""Reads what a vendor has, page by page, as its manifest says; dlt asks and turns the pages.

Synchronous: it runs in a worker's thread. Every page is asked for by itself, from a position that can be kept as
JSON, so a run that is killed goes on at its page, and trying again is nothing else. dlt is loaded at the first
page: whoever polls nothing pays nothing for it.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from msgspec import Struct
from runtime.outbound import Reach

from services.ingest.connectors.connecting import CA_CERTIFICATE
from services.ingest.connectors.manifest import (
    ApiKey,
    AuthorizationCode,
    Endpoint,
    HeaderLink,
    JsonLink,
    Manifest,
    Offset,
    Stream,
)
from services.ingest.connectors.mapping import id_of
from services.ingest.connectors.payloads import n_values
from services.ingest.connectors.templates import Values
from services.ingest.errors import AccountBusyError, VendorError, VendorErrorCode
from services.ingest.vendors import atlassian, mysql, postgresql, snowflake, sql
from services.ingest.vendors.authentication import signer
from services.ingest.vendors.error_codes import code_of
from services.ingest.vendors.pagination import compiled, next_of, paginator_at
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.redaction import words
from services.ingest.vendors.session import (
    BODY_BYTES_MAX,
    VALUES_MAX,
    GuardedSession,
    account_of,
    retry_after,
)
from services.ingest.vendors.watchdog import Watchdog
from services.ingest.vendors.windows import (
    Answer,
    Place,
    at_most,
    behind,
    can_begin_anew,
    endpoint_of,
    moments_of,
    onward,
    sizes_of,
    unseen,
    window_values,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

OVERLAP: Final = timedelta(minutes=10)
"""How far before the last known cursor a poll begins: vendors show records a little late."""
BEGINNING: Final = datetime(2015, 1, 1, tzinfo=UTC)
"""Where a window without a beginning begins: a vendor that is told nothing may choose one (PagerDuty: a month ago)."""
PAGES_MAX: Final = 100_000
"""Of a stretch, over all turns: a vendor that always names another page ends there."""
RECORDS_MAX: Final = 10_000
"""Of one page: what takes it in holds a hand for so long. A database's rows are counted by its adapter."""
RATE_WAIT_SECONDS_MAX: Final = 5.0
"""How long a thread waits where a vendor says when; longer is for whoever plans runs."""
BACK_OFF_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 10.0
"""A page that is asked for so long already is not tried again by the same thread: others wait for it."""
TRIES: Final[Mapping[VendorErrorCode, int]] = {
    "rate_limited": 5,
    "vendor_failed": 4,
    "unreachable": 4,
    "bad_answer": 2,
}
"""How often a page is asked for, by what went wrong; everything else is not tried again."""

ABSENT: Final = frozenset({403, 404, 410})
"""How a vendor answers for a list that an account does not have or does not show us."""
GONE: Final = frozenset({404, 410})
"""The same where it does not have it, or says so."""

T = TypeVar("T")

_ABOUT_A_LIST: Final = re.compile(r"\b(channel_not_found|not_in_channel)\b")
"""How Slack says with 200 that a list is not there for us: https://docs.slack.dev/reference/methods/conversations.history"""


class Access(Struct, frozen=True):
    """What a connector has to ask its vendor with.

    auth: position in the manifest's ways to sign in. secrets: by name, with "access_token" for OAuth.
    workspace_id: whose it is.
    """

    manifest: Manifest
    config: dict[str, str]
    auth: int
    secrets: dict[str, str]
    workspace_id: str = ""


class Window(Struct, frozen=True):
    """From when to when records are wanted; without start, from the beginning."""

    start: datetime | None
    end: datetime


class Page(Struct, frozen=True):
    """Records as they came, and where to go on behind them; None: the window is done.

    is_cut: the vendor gives no more of what came before `position`, though there is more.
    is_unsettled: what came before it changed each time it was read, so that a record of it may have been missed.
    refused: which of several lists the vendor does not give, and its words; nothing more of it is asked. is_gone: as one
    that it does not have (404, 410), so that nothing of it is waited for.
    """

    records: list[object]
    position: dict[str, object] | None
    is_cut: bool = False
    is_unsettled: bool = False
    refused: str = ""
    is_gone: bool = False


class Check(Struct, frozen=True):
    """One thing that was tried: "credentials" or a stream. code: what is wrong, None if nothing is."""

    name: str
    detail: str
    code: VendorErrorCode | None = None

    @property
    def is_good(self) -> bool:
        """Whether it went well."""
        return self.code is None


class _RowPlace(Struct, frozen=True):
    """Where a run over a database's rows is: the moment from which on, how many at once, behind how many pages."""

    cursor: datetime
    limit: int = sql.ROWS
    n_pages: int = 0


def open_session(
    access: Access, *, reach: Reach, rate_limiter: RateLimiter, pause: Callable[[float], None]
) -> GuardedSession:
    """A session for one connector, to be closed; its account is asked no faster than all its connectors may together.

    rate_limiter: one for the process. Raises VendorError("not_configured").
    """
    manifest = access.manifest
    values = Values(manifest, access.config)
    base_url = "" if manifest.base_url is None else values.base_url(manifest)
    return GuardedSession(
        reach.of(access.workspace_id),
        rate_limiter=rate_limiter,
        account=account_of(manifest.type, base_url, access.secrets, access.workspace_id),
        per_minute=manifest.rate_per_minute,
        secrets=access.secrets.values(),
        authority=values.option(CA_CERTIFICATE),
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
    if (query := stream.query) is not None:
        first = msgspec.convert(position, _RowPlace) if position else _RowPlace(window.start or BEGINNING)
        yield from _rows(
            first,
            lambda at: _patiently(lambda: _read_rows(access, query, at, session, pause), pause, chance),
        )
        return
    whole = ((window.start or BEGINNING, window.end),)
    place = msgspec.convert(position, Place) if position is not None else Place(whole)
    source = _patiently(lambda: _Source(access, stream, session), pause, chance)
    before: tuple[object, ...] = ()
    while place.n_pages < PAGES_MAX:
        place = at_most(place, stream)
        asked = place
        try:
            answer = _patiently(lambda: source.ask(asked), pause, chance)  # noqa: B023  # called at once
        except VendorError as error:
            after = _past(asked, error, whole, source.n_partitions)
            refused = f"{source.name_of(asked)}: {error.detail}"
            kept = None if after is None else msgspec.to_builtins(after)
            yield Page([], kept, refused=refused, is_gone=error.status in GONE)
            if after is None:
                return
            place = after
            continue
        given = (asked.windows, asked.partition, asked.n_readings, answer.records)
        if answer.records and given == before:
            # A vendor that does not know the parameter gives its first page for ever.
            raise VendorError("bad_answer", f"{access.manifest.name} gives the same page as the next one")
        before = given
        step = behind(stream, place, answer, whole, source.n_partitions)
        after = None if step.place is None else onward(place, step.place)
        kept = None if after is None else msgspec.to_builtins(after)
        yield Page(unseen(asked, answer), kept, step.is_cut, step.is_unsettled)
        if after is None:
            return
        place = after
    raise VendorError("bad_answer", f"{access.manifest.name} names more than {PAGES_MAX} pages")


def _past(
    place: Place, error: VendorError, whole: tuple[tuple[datetime, datetime], ...], n_partitions: int
) -> Place | None:
    """The place behind a list that is gone, or not shown to us; None at the end.

    Raises the error where it is about more than one of several lists, or all of them are refused.
    """
    n_refused = place.n_refused + 1
    if error.status not in ABSENT or n_refused == n_partitions:
        raise error
    if place.partition + 1 == n_partitions:
        return None
    return Place(whole, partition=place.partition + 1, n_refused=n_refused, n_pages=place.n_pages + 1)


def _rows(place: _RowPlace, read: Callable[[_RowPlace], sql.Rows]) -> Iterator[Page]:
    """Rows from a place on, page by page."""
    while place.n_pages < PAGES_MAX:
        rows = read(place)
        if rows.cursor is None:
            yield Page(rows.records, None)
            return
        place = _RowPlace(rows.cursor, rows.limit, place.n_pages + 1)
        yield Page(rows.records, msgspec.to_builtins(place))
    raise VendorError("bad_answer", f"the database has more than {PAGES_MAX} pages of rows")


def _read_rows(
    access: Access, query: str, place: _RowPlace, session: requests.Session, pause: Callable[[float], None]
) -> sql.Rows:
    values = Values(access.manifest, access.config, access.secrets)
    asked = sql.Asked(query, place.cursor, place.limit)
    if access.manifest.adapter == "snowflake":
        client, _ = _client(access, session)
        return sql.following(asked, snowflake.read(asked, values, client=client, pause=pause))
    reach, watchdog = (
        (session.reach, session.watchdog) if isinstance(session, GuardedSession) else (Reach(), Watchdog())
    )
    read = mysql.read if access.manifest.adapter == "mysql" else postgresql.read
    return sql.following(asked, read(asked, values, reach=reach, watchdog=watchdog))


def probe(access: Access, *, session: requests.Session, now: datetime | None = None) -> list[Check]:
    """Try the credentials, then a small page of each stream: a good key that may read nothing is the usual failure."""
    manifest = access.manifest
    checks = []
    if manifest.test is not None:
        checks.append(_check("credentials", lambda: _test(access, session)))
    if not checks or checks[0].is_good:
        end = now or datetime.now(UTC)
        for stream in manifest.streams:
            ask = partial(_glance, access, stream, end, session)
            checks.append(_check(stream.name, ask, is_optional=stream.optional))
    return checks


def _glance(access: Access, stream: Stream, end: datetime, session: requests.Session) -> None:
    """A small page of the last hour. Raises VendorError."""
    start = end - timedelta(hours=1)
    if stream.query is not None:
        _read_rows(access, stream.query, _RowPlace(start, 1), session, time.sleep)
    else:
        _Source(access, _small(stream), session).ask(Place(((start, end),)))


def high_water(stream: Stream, records: Sequence[object]) -> datetime | None:
    """The latest moment of these records by the stream's cursor; None where they say none."""
    if stream.query is not None:
        return sql.high_water(records)
    moments = moments_of(stream, records)
    return max(moments) if moments else None


def beginning(known: datetime | None) -> datetime | None:
    """Where the next window begins after what is known to be committed."""
    return None if known is None else known - OVERLAP


# --- asking ----------------------------------------------------------------------------------------------------


def _patiently(ask: Callable[[], T], pause: Callable[[float], None], chance: Callable[[], float]) -> T:
    """The answer, asked for again where that may help, a bounded number of times."""
    n_tries, began_at = 0, time.monotonic()
    while True:
        try:
            return ask()
        except VendorError as error:
            n_tries += 1
            is_slow = time.monotonic() > began_at + PATIENCE_SECONDS
            if is_slow or n_tries >= TRIES.get(error.code, 1) or isinstance(error, AccountBusyError):
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
        auth = access.manifest.auth[access.auth]
        self._signed = frozenset(auth.params if isinstance(auth, ApiKey) else ())

    @property
    def n_partitions(self) -> int:
        """How many lists there are to read."""
        return len(self._partitions)

    def name_of(self, place: Place) -> str:
        """What a person calls the list that is read there."""
        return " ".join(self._partitions[place.partition].values())

    def ask(self, place: Place) -> Answer:
        """The page at a place. Raises VendorError."""
        endpoint, partition = endpoint_of(self._stream), self._partitions[place.partition]
        window = window_values(self._stream, *place.windows[0])
        config = {**self._access.config, **partition}
        values = Values(self._access.manifest, config, window=window)
        path, params, body = _first_page(endpoint, values, window)
        paginator, path, params, body = paginator_at(self._stream, place.next, path, params, body)
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
                data_selector=compiled(endpoint.data_selector),
                headers={name: values.text(text) for name, text in endpoint.headers.items()},
                hooks={"response": [lambda response, *_, **__: seen.append(response)]},
            )
            page = next(turning)
        except (ValueError, RecursionError, requests.RequestException) as error:
            _complain(seen, self._access)
            raise VendorError(
                "bad_answer", f"{self._access.manifest.name} answered what is not the JSON that was expected"
            ) from error
        records: list[object] = [record for record in page if record is not None]
        if not records:
            _complain(seen, self._access)
        if len(records) > RECORDS_MAX:
            raise self._too_much()
        following = next_of(endpoint.paginator, page.paginator, page.request, signed=self._signed)
        if isinstance(following, str) and isinstance(endpoint.paginator, JsonLink | HeaderLink):
            self._pin(following)
        if not records and self._stream.stop_after_empty_page:
            following = None
        records = self._finished(records, values, partition)
        manifest = self._access.manifest
        ids = [id_of(manifest, record) for record in records] if can_begin_anew(self._stream) else []
        return Answer(records, following, ids)

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
        n_bytes = n_in_all = 0
        for first in range(0, len(ids), details.batch):
            body = values.tree(details.json)
            assert isinstance(body, dict)  # a tree has its template's shape
            body[details.ids_path] = ids[first : first + details.batch]
            response = self._client.post(values.path(details.path), json=body)
            try:
                found = self._client.extract_response(response, compiled(details.data_selector))
            except (ValueError, RecursionError) as error:
                raise VendorError(
                    "bad_answer", "details of ids are not the JSON that was expected"
                ) from error
            records += found
            n_bytes, n_in_all = n_bytes + len(response.content), n_in_all + n_values(response.content)
            if n_bytes > BODY_BYTES_MAX or n_in_all > VALUES_MAX or len(records) > RECORDS_MAX:
                raise self._too_much()
        return records

    def _too_much(self) -> VendorError:
        """A page that is more than may be in memory, or taken in, at once."""
        return VendorError(
            "bad_answer",
            f"a page of {self._access.manifest.name} has more than {RECORDS_MAX} records, {VALUES_MAX} values or "
            f"{BODY_BYTES_MAX} bytes; ask for smaller pages",
        )

    def _pin(self, url: str) -> None:
        """Refuse a next page elsewhere: the credentials would go there."""
        if _origin(url) != _origin(self._base_url):
            host = urlsplit(url).hostname
            raise VendorError("bad_answer", f"the next page is said to be on another address, {host}")


def _client(access: Access, session: requests.Session) -> "tuple[RESTClient, str]":
    """dlt's client for a connector's vendor, signed in, and the address it asks under."""
    from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration  # noqa: PLC0415
    from dlt.sources.helpers.rest_client.client import RESTClient  # noqa: PLC0415

    manifest = access.manifest
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
        base_url = _jira_url(client(atlassian.ADDRESS), access)
    return client(base_url), base_url


def _jira_url(client: "RESTClient", access: Access) -> str:
    """Where a person's token is taken. Raises VendorError."""
    try:
        sites: object = client.get(atlassian.SITES).json()
    except ValueError as error:
        raise VendorError("bad_answer", "Atlassian's list of sites is no JSON") from error
    return atlassian.jira_url(sites, access.config.get("site", ""))


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
    if about := _ABOUT_A_LIST.search(said):
        # Whoever is invited into a channel is given it.
        status = 403 if about[0] == "not_in_channel" else 404
        raise VendorError("not_configured", f"{access.manifest.name} answered: {said}", status=status)
    code = code_of(trouble, said) or "bad_answer"
    wait = retry_after(seen[-1].headers) if code == "rate_limited" else None
    raise VendorError(code, f"{access.manifest.name} answered: {said}", retry_after=wait)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None


# --- trying ----------------------------------------------------------------------------------------------------


def _check(name: str, ask: Callable[[], object], *, is_optional: bool = False) -> Check:
    try:
        ask()
    except VendorError as error:
        if is_optional and error.status in ABSENT:
            return Check(name, f"left out: {error.detail}")
        return Check(name, error.detail, error.code)
    return Check(name, "answered")


def _test(access: Access, session: requests.Session) -> None:
    test = access.manifest.test
    if test is None:
        return
    client, _ = _client(access, session)
    values = Values(access.manifest, access.config)
    body = values.tree(test.json)
    response = client.request(
        values.path(test.path), method=test.method, json=body if isinstance(body, dict) and body else None
    )
    _complain([response], access)


def _small(stream: Stream) -> Stream:
    """The same stream with pages of one record, where the manifest says how large they are."""
    endpoint = endpoint_of(stream)
    paginator = endpoint.paginator
    if isinstance(paginator, Offset):
        paginator = msgspec.structs.replace(paginator, limit=1)
    params = {**endpoint.params, **{name: 1 for name, _ in sizes_of(endpoint.params)}}
    return msgspec.structs.replace(
        stream, endpoint=msgspec.structs.replace(endpoint, paginator=paginator, params=params)
    )
