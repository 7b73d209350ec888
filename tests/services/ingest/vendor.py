"""A vendor on 127.0.0.1 that is played from a manifest's own words: its paginator, its window, its selector.

It reads a request backwards through the endpoint's templates, so a request that the manifest does not describe is
answered `refusal` and noted in `refused`.
"""

import re
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec.structs import replace

from services.ingest.connectors.connecting import asked_secrets
from services.ingest.connectors.manifest import (
    Cursor,
    Endpoint,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Manifest,
    NoAuth,
    Offset,
    PageNumber,
    Stream,
)
from services.ingest.connectors.normalization import moment
from services.ingest.vendors.polling import Access

SECRET: Final = "s3cret"
_STEPS: Final = re.compile(r"""(?<=')[^']+(?=')|(?<=")[^"]+(?=")|[^.\[\]'"]+""")
_MARK: Final = re.compile(r"(\{\{|\}\}|\{[a-z]+\.[a-z0-9_]+\})")


class Kept(msgspec.Struct):
    """What the vendor has: an id, a cursor, a text that edits change, and the list it is in."""

    id: str
    at: datetime
    text: str = "first"
    part: str = ""


def account(manifest: Manifest, auth: int = 0) -> tuple[dict[str, str], dict[str, str]]:
    """Some config and secrets for a connector of this type."""
    config = {field.key: field.default or (field.choices or ("acme",))[0] for field in manifest.config}
    for stream in manifest.streams:
        if stream.partition is not None:
            config[stream.partition] = "one, two"
    secrets = {field.key: f"{SECRET}-{field.key}" for field in asked_secrets(manifest.auth[auth])}
    return config, {**secrets, "access_token": f"{SECRET}-token"}


class Vendor:
    """One stream of one type. size: records a page, where the request does not say.

    faults: by number of the request, from 0: 429, 500, "dropped", "truncated", "html", "silent".
    repeats: each page begins with the last record of the one before.
    begins: where a list that can be told where to begin does so, "behind" with the first record that is later.
    edits_leave: what is edited was so behind the window's end.
    tells_age: each record says in which answer it stands.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.silence = threading.Event()
        self.reset()

    stream: Stream
    endpoint: Endpoint

    def reset(self) -> None:
        self._path, self._query_without_after = "", ""
        self._remembered: dict[str, str] = {}
        self.records: list[Kept] = []
        self.faults: dict[int, int | str] = {}
        self.size, self.repeats, self.n_requests, self.window_end = 3, False, 0, None
        self.served: list[str] = []
        self.refused: list[str] = []
        self.refusal = 400
        self.edits: list[tuple[int, str]] = []
        self.begins: Literal["told", "behind", "anywhere"] = "told"
        self.edits_leave = self.tells_age = False

    def play(
        self, manifest: Manifest, stream: Stream, *, size: int, records: Sequence[Kept]
    ) -> tuple[Access, Stream]:
        """What has to be known to poll this stream of this type here."""
        self.reset()
        endpoint = stream.endpoint
        assert endpoint is not None
        if isinstance(endpoint.paginator, Offset):
            endpoint = replace(endpoint, paginator=replace(endpoint.paginator, limit=size))
        details = replace(stream.details, batch=2) if stream.details else None
        self.size, self.records = size, list(records)
        self.stream, self.endpoint = replace(stream, endpoint=endpoint, details=details), endpoint
        self.needs_signing = not isinstance(manifest.auth[0], NoAuth)
        config, secrets = account(manifest)
        return Access(
            replace(manifest, base_url=f"{self.url}/base", adapter=None), config, 0, secrets
        ), self.stream

    def answer(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        number, self.n_requests = self.n_requests, self.n_requests + 1
        for at, id_ in self.edits:
            if at == number:
                self._edit(id_)
        fault = self.faults.get(number)
        if fault == 429:
            return 429, {"Retry-After": "1"}, b"slower"
        if fault == 500:
            return 500, {}, b"<html><body>Oops</body></html>"
        if fault == "html":
            return 200, {"Content-Type": "text/html"}, b"<html>sign in</html>"
        status, more, body = self._page(method, url, headers, content)
        return status, more, body[: len(body) // 2] if fault == "truncated" else body

    def _edit(self, id_: str) -> None:
        for record in self.records:
            if record.id == id_:
                record.text = "edited"
                is_counted = isinstance(self.endpoint.paginator, Offset | PageNumber)
                # Whoever counts pages and cannot say where to begin misses what moves up.
                if self.window_end is not None and (not is_counted or self.endpoint.says("start")):
                    # As by a vendor that sorts by the last change, which was a moment ago.
                    late = timedelta(minutes=5) if is_counted else timedelta(0)
                    record.at = self.window_end + (timedelta(hours=1) if self.edits_leave else -late)

    def _page(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body: Any = msgspec.json.decode(content) if content else {}
        path = unquote(parts.path).removeprefix("/base")
        proofs = [*headers.values(), *query.values()]
        if self.needs_signing and not any(re.search(f"{SECRET}|AWS4-HMAC|Basic ", proof) for proof in proofs):
            return self._refuse(401, "no credentials")
        details = self.stream.details
        if (
            details is not None
            and path.startswith("/" + read_literal(details.path))
            and details.ids_path in body
        ):
            return self._details(body[details.ids_path])
        try:
            found = self._understood(method, path, query, body)
        except LookupError as error:
            return self._refuse(self.refusal, str(error))
        return self._list(found, query, body)

    def _refuse(self, status: int, why: str) -> tuple[int, dict[str, str], bytes]:
        self.refused.append(why)
        return status, {}, why.encode()

    def _understood(self, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, str]:
        """Placeholder → value, out of a first page's request; a further page may be a link."""
        endpoint, style = self.endpoint, self.endpoint.paginator
        if method != endpoint.method:
            raise LookupError(f"{method} is not {endpoint.method}")
        found: dict[str, str] = {}
        backwards(endpoint.path if endpoint.path.startswith("/") else "/" + endpoint.path, path, found)
        if self.stream.cursor_alone and isinstance(style, Cursor) and style.cursor_param in query:
            others = [
                name for name, value in query.items() if name != style.cursor_param and SECRET not in value
            ]
            if others:
                raise LookupError(f"{others} beside the cursor")
            return {**found, **self._remembered}
        if self.stream.cursor_alone and isinstance(style, Cursor) and style.cursor_body_path in (body or ()):
            if len(body) > 1:
                raise LookupError(f"{sorted(body)} with the cursor")
            return {**found, **self._remembered}
        for name, template in endpoint.params.items():
            if name not in query:
                raise LookupError(f"{name} is missing")
            backwards(template, query[name], found)
        backwards(endpoint.json, body, found)
        if endpoint.incremental is not None:
            for end in ("start", "end"):
                param = getattr(endpoint.incremental, f"{end}_param")
                if param is not None:
                    found[f"incremental.{end}_value"] = query[param]
        self._remembered = found
        return found

    def _list(
        self, found: dict[str, str], query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, str], bytes]:
        start, end = (moment(found.get(f"incremental.{name}_value")) for name in ("start", "end"))
        if end is not None:
            self.window_end = end
        part = found.get(f"config.{self.stream.partition}", "")
        rows = [
            row
            for row in sorted(self.records, key=lambda row: (row.at, row.id))
            if (start is None or self.begins == "anywhere" or row.at >= start)
            and not (self.begins == "behind" and row.at == start)
            and (end is None or row.at <= end)
            and row.part in ("", part)
        ]
        if self.stream.order == "descending":
            rows.reverse()
        style, size = self.endpoint.paginator, self.size
        first, number = 0, 0
        if isinstance(style, Offset):
            place = body if style.offset_body_path else query
            first = int(
                dig(
                    place,
                    style.offset_body_path or style.offset_param or "offset",
                    bool(style.offset_body_path),
                )
            )
            size = int(
                dig(place, style.limit_body_path or style.limit_param or "limit", bool(style.limit_body_path))
            )
        elif isinstance(style, PageNumber):
            place = body if style.page_body_path else query
            number = int(
                dig(place, style.page_body_path or style.page_param or "page", bool(style.page_body_path))
            )
            first = (number - style.base_page) * size
        elif (token := self._token(query, body)) is not None:
            first = sum(1 for row in rows if before(row, token, self.stream.order == "descending"))
        elif style.__struct_config__.tag == "single_page":
            size = min(len(rows), self.stream.records_max or len(rows))
        page = rows[first : first + size]
        if self.repeats and first and page:
            page = [rows[first - 1], *page]
        self.served += [row.id for row in page]
        return self._written(page, rows, more=first + size < len(rows))

    def _token(self, query: dict[str, str], body: Any) -> tuple[str, str] | None:
        style = self.endpoint.paginator
        text: Any = None
        if isinstance(style, JsonLink | HeaderLink):
            text = query.get("__after")
        elif isinstance(style, HeaderCursor):
            text = query.get(style.cursor_param)
        elif isinstance(style, Cursor):
            text = (
                dig(body, style.cursor_body_path, True)
                if style.cursor_body_path
                else query.get(style.cursor_param or "cursor")
            )
        if not text:
            return None
        at, id_ = msgspec.json.decode(urlsafe_b64decode(text), type=tuple[str, str])
        return at, id_

    def _written(
        self, page: list[Kept], rows: list[Kept], *, more: bool
    ) -> tuple[int, dict[str, str], bytes]:
        style, headers = self.endpoint.paginator, {"Content-Type": "application/json"}
        document: Any = {}
        items: list[Any] = (
            [row.id for row in page] if self.stream.details else [self._shown(row) for row in page]
        )
        if self.endpoint.data_selector == "$":
            document = items
        else:
            put(document, self.endpoint.data_selector, items)
        endless = self.stream.stop_after_empty_page or (
            isinstance(style, Cursor) and (style.stop_after_empty_page or "[-1]" in style.cursor_path)
        )
        last = page[-1] if page else (rows[-1] if rows else None)
        token = None
        if last is not None and (more or endless):
            token = urlsafe_b64encode(msgspec.json.encode((last.at.isoformat(), last.id))).decode()
        if isinstance(style, JsonLink | HeaderLink):
            url = (
                f"{self.url}/base{self._path}?{self._query_without_after}&__after={token}" if token else None
            )
            if isinstance(style, JsonLink):
                put(document, style.next_url_path, url)
            elif url:
                headers["Link"] = f'<{self.url}/base>; rel="first", <{url}>; rel="{style.links_next_key}"'
        elif isinstance(style, HeaderCursor) and token:
            headers[style.cursor_key] = token
        elif isinstance(style, Cursor):
            _, is_of_last, name = style.cursor_path.partition("[-1].")
            if not is_of_last:
                put(document, style.cursor_path, token)
            elif items:
                put(items[-1], name, token)
            if style.has_more_path:
                put(document, style.has_more_path, more)
        elif isinstance(style, Offset | PageNumber):
            if style.total_path:
                n_pages = -(-len(rows) // self.size)
                put(document, style.total_path, len(rows) if isinstance(style, Offset) else n_pages)
            if style.has_more_path:
                put(document, style.has_more_path, more)
        return 200, headers, msgspec.json.encode(document)

    def _shown(self, row: Kept) -> dict[str, Any]:
        record: dict[str, Any] = {"the_id": row.id, "the_text": row.text}
        if self.endpoint.incremental is not None:
            value: object = row.at.isoformat().replace("+00:00", "Z")
            if self.stream.time_format in ("epoch_s", "epoch_ms"):
                value = int(row.at.timestamp() * (1000 if self.stream.time_format == "epoch_ms" else 1))
            put(record, self.endpoint.incremental.cursor_path, value)
        if self.tells_age:
            record["the_age"] = self.n_requests
        return record

    def _details(self, ids: list[str]) -> tuple[int, dict[str, str], bytes]:
        assert self.stream.details is not None
        document: dict[str, Any] = {}
        known = {row.id: row for row in self.records}
        put(document, self.stream.details.data_selector, [self._shown(known[id_]) for id_ in ids])
        return 200, {}, msgspec.json.encode(document)

    def remember(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path.removeprefix("/base")
        self._query_without_after = "&".join(
            p for p in parts.query.split("&") if not p.startswith("__after=")
        )


def read_literal(template: str) -> str:
    """A path up to its first placeholder."""
    return template.lstrip("/").split("{")[0]


def before(row: Kept, token: tuple[str, str], is_descending: bool) -> bool:
    """Whether a row stands at or before a cursor."""
    key, last = (row.at.isoformat(), row.id), token
    return key >= last if is_descending else key <= last


def backwards(template: Any, actual: Any, found: dict[str, str]) -> None:
    """Read a filled template back into `found`; LookupError where it is not one."""
    if isinstance(template, str):
        parts = _MARK.split(template)
        names = []
        pattern = ""
        for part in parts:
            if part in ("{{", "}}"):
                pattern += re.escape(part[0])
            elif _MARK.fullmatch(part):
                pattern += "(.*?)"
                names.append(part[1:-1])
            else:
                pattern += re.escape(part)
        match = re.fullmatch(pattern, str(actual), re.DOTALL)
        if match is None:
            raise LookupError(f"{actual!r} is not {template!r}")
        found.update(zip(names, match.groups(), strict=True))
    elif isinstance(template, Mapping):
        for key, value in template.items():
            backwards(value, actual[key], found)
    elif isinstance(template, list) and isinstance(actual, list):
        for ours, theirs in zip(template, actual, strict=True):
            backwards(ours, theirs, found)


def put(document: Any, path: str, value: object) -> None:
    """Set a value where a path of names says."""
    *steps, last = _STEPS.findall(path.removeprefix("$."))
    for step, following in zip(steps, [*steps, last][1:], strict=True):
        if isinstance(document, list):
            document += [{}] * (int(step) + 1 - len(document))
            document = document[int(step)]
        else:
            document = document.setdefault(step, [] if following.isdecimal() else {})
    document[last] = value


def dig(place: Any, path: str, is_path: bool) -> Any:
    for step in path.split(".") if is_path else [path]:
        place = place.get(step) if isinstance(place, dict) else None
    return place


@contextmanager
def vendor() -> Iterator[Vendor]:
    """A running vendor that plays nothing yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet
        disable_nagle_algorithm = True

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            number = playing.n_requests
            playing.remember(self.path)
            status, headers, body = playing.answer(self.command, self.path, dict(self.headers), content)
            if playing.faults.get(number) == "dropped":
                self.close_connection = True
                return
            if playing.faults.get(number) == "silent":
                playing.silence.wait(30)
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _do  # noqa: N815  # names of the base class

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    playing = Vendor(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield playing
    finally:
        playing.silence.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
