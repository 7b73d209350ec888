"""Our requests against the vendors' own descriptions: `python -m tests.vendors [type …] [--packages FOLDER]`.

Needs npm, downloads about 30 MB, and takes some minutes; no part of `make test`. Polling and tickets run as they
are, but ask Prism on this machine, which checks each request against the description and answers with its example.
One line per request; the exit code is 1 where a request is not as described. What is described here may be older than
the vendor: what a vendor's description does not know is said, and proves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec
import requests
from contracts import connector
from msgspec import Struct
from requests.adapters import HTTPAdapter
from runtime.outbound import Answer, Outbound, Reach
from urllib3 import HTTPResponse

from services.ingest.connectors import tickets
from services.ingest.connectors.connecting import Source, asked_secrets
from services.ingest.connectors.manifest import Find, Manifest, Push, Stream, TicketStatus
from services.ingest.connectors.mapping import Ignored, Mapped, Rejected, map_record
from services.ingest.connectors.registry import manifest_of
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors import polling
from services.ingest.vendors.oauth import values_of
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession
from services.ingest.vendors.tickets import Tracker

from .specifications import PRISM, VENDORS, Description, Vendor, read

HERE = Reach.read(["127.0.0.0/8"])
START_SECONDS = 90.0


class Request(Struct, frozen=True):
    """What was asked, and what Prism finds: what is wrong, and what is only remarkable, such as a word that is leaving."""

    method: str
    target: str
    status: int
    violations: tuple[str, ...]
    remarks: tuple[str, ...]


class _Problem(Struct, frozen=True):
    """Prism's own answer, where a description has none for a bad request."""

    validation: list[dict[str, object]] = []


class _Answers(HTTPAdapter):
    """Notes each request beside Prism's judgement."""

    def __init__(self, noted: list[Request]) -> None:
        self._noted = noted
        super().__init__()

    def send(self, request: requests.PreparedRequest, **kwargs: object) -> requests.Response:  # type: ignore[override]
        """The answer, as it came."""
        response = super().send(request, **kwargs)  # type: ignore[arg-type]  # requests' stubs name each
        body = response.raw.read(decode_content=True)
        response.raw = HTTPResponse(BytesIO(body), status=response.status_code, preload_content=False)
        self._noted.append(
            _judged(request.method or "", request.url or "", response.status_code, response.headers, body)
        )
        return response


class _Outbound(Outbound):
    """The same for tickets."""

    def __init__(self, noted: list[Request]) -> None:
        self._noted = noted
        super().__init__(HERE)

    def trusting(self, authority: str) -> Outbound:
        """Itself: Prism has no certificate."""
        return self

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = START_SECONDS,
    ) -> Answer:
        """The answer, as it came."""
        answer = await super().send(method, url, headers=headers, form=form, content=content, seconds=seconds)
        self._noted.append(_judged(method, url, answer.status, answer.headers, answer.body))
        return answer


def _judged(method: str, url: str, status: int, headers: Mapping[str, str], body: bytes) -> Request:
    """What Prism says of a request: in a header beside an example, or in the body of a problem."""
    beside: list[dict[str, object]] = []
    with suppress(msgspec.DecodeError, msgspec.ValidationError):
        beside = msgspec.json.decode(headers.get("sl-violations", "[]"), type=list[dict[str, object]])
    problem = _Problem()
    with suppress(msgspec.DecodeError, msgspec.ValidationError):
        problem = msgspec.json.decode(body, type=_Problem)
    found = [(_place(each), each) for each in beside if _place(each).startswith("request")]
    found += [(_place(each), each) for each in problem.validation]
    serious, mild = (
        tuple(dict.fromkeys(f"{place}: {each.get('message')}" for place, each in found if is_serious(each)))
        for is_serious in (_is_serious, lambda each: not _is_serious(each))
    )
    if status >= 400 and not serious:
        serious = (body[:300].decode(errors="replace"),)
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return Request(method, target, status, serious, mild)


def _place(violation: dict[str, object]) -> str:
    location = violation.get("location")
    return ".".join(str(step) for step in location) if isinstance(location, list) else ""


def _is_serious(violation: dict[str, object]) -> bool:
    return str(violation.get("severity", "Error")).lower() == "error"


def main() -> int:
    """Ask for each vendor; 1 where a request is not as described."""
    parser = argparse.ArgumentParser(prog="python -m tests.vendors", description=__doc__)
    parser.add_argument("types", nargs="*", help="only these")
    parser.add_argument("--packages", type=Path, help="a folder that keeps what is downloaded")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that Prism goes with us
    with tempfile.TemporaryDirectory(prefix="causeloop-vendors-") as temporary:
        folder: Path = chosen.packages or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prism = _prism(folder)
        counts = {"ok": 0, "violation": 0, "excused": 0, "not described": 0, "unusable": 0}
        for vendor in VENDORS:
            if not chosen.types or vendor.type in chosen.types:
                for found, words in _tried(vendor, folder, prism, Path(temporary)):
                    kind, words = _excused(vendor, words) if found == "violation" else (found, words)
                    counts[kind] += 1
                    print(f"{vendor.type:20} {kind:13} {words}", flush=True)
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    return 1 if counts["violation"] else 0


def _excused(vendor: Vendor, words: str) -> tuple[str, str]:
    for part, why in vendor.excused.items():
        if part in words:
            return "excused", f"{words}; {why}"
    return "violation", words


def _prism(folder: Path) -> Path:
    """Prism, installed without any script of its packages."""
    program = folder / "node_modules" / ".bin" / "prism"
    if not program.exists():
        command = [
            "npm",
            "install",
            "--silent",
            "--no-save",
            "--ignore-scripts",
            "--prefix",
            str(folder),
            PRISM,
        ]
        subprocess.run(command, check=True, cwd=folder)
    return program


@contextmanager
def _mocked(prism: Path, specification: Path) -> Iterator[int]:
    """Prism with a description on a free port. Raises OSError where it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(prism), "mock", "--host", "127.0.0.1", "--port", str(port), str(specification)]
    with specification.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    log_text = specification.with_suffix(".log").read_text(errors="replace")
                    raise OSError(f"Prism does not start: {log_text[-300:]}") from None
                time.sleep(0.1)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def _tried(vendor: Vendor, folder: Path, prism: Path, temporary: Path) -> Iterator[tuple[str, str]]:
    """What came of each request: ok, violation, not described or unusable (then of all), and its words."""
    manifest = manifest_of(vendor.type)
    config = {
        field.key: vendor.config.get(field.key, field.default or "1")
        for field in manifest.config
        if field.required or field.default or field.key in vendor.config
    }
    secrets = {field.key: "secret" for field in asked_secrets(manifest.auth[vendor.auth])}
    access = polling.Access(manifest, config, vendor.auth, {**secrets, "access_token": "secret"})
    wanted = dict(_wanted(access))
    for spec in vendor.specs:
        try:
            description = Description(read(spec, folder), spec.prefix)
        except (KeyError, subprocess.CalledProcessError) as error:
            yield "unusable", f"{spec.package} {spec.member}: {error}"
            continue
        here = {name for name, (method, path) in wanted.items() if description.operation(method, path)}
        if not here:
            continue
        file = temporary / f"{vendor.type}.json"
        file.write_bytes(msgspec.json.encode(description.cut([wanted[name][1] for name in here])))
        try:
            with _mocked(prism, file) as port:
                yield from _asked(access, here, port, description)
        except OSError as error:
            yield "unusable", f"{spec.member}: {error}"
        wanted = {name: request for name, request in wanted.items() if name not in here}
    for name, (method, path) in wanted.items():
        yield "not described", f"{name}: {method} {path}"


def _wanted(access: polling.Access) -> Iterator[tuple[str, tuple[str, str]]]:
    """What the manifest asks for: a name, the method and the path on the vendor's host."""
    manifest = access.manifest
    values = Values(manifest, access.config, access.secrets)
    base = urlsplit(values.base_url(manifest)).path
    if manifest.test is not None:
        yield "test", (manifest.test.method, base + values.path(manifest.test.path).partition("?")[0])
    for stream in manifest.streams:
        if stream.endpoint is not None:
            path = base + values.path(stream.endpoint.path).partition("?")[0]
            yield f"stream {stream.name}", (stream.endpoint.method, path)
    if manifest.push is not None:
        given = _given(access)
        for name, part in _parts(manifest).items():
            asked = tickets.request(part, given)
            yield f"ticket {name}", (asked.method, base + asked.path.partition("?")[0])


def _parts(manifest: Manifest) -> dict[str, Push | Find | TicketStatus]:
    push = manifest.push
    assert push is not None  # the caller asked
    parts = {"create": push, "find": push.find, "status": push.status}
    return {name: part for name, part in parts.items() if part is not None}


def _source(access: polling.Access) -> Source:
    settings = connector.ConnectorSettings(
        type=access.manifest.type,
        display_name=access.manifest.name,
        config=access.config,
        auth=access.auth,
        streams=(),
        mapping={},
    )
    return Source("con_1", settings, access.manifest)


def _given(access: polling.Access) -> dict[str, object]:
    push = access.manifest.push
    assert push is not None  # the caller asked
    target = {field.key: field.default or "1" for field in push.target}
    given = tickets.values(values_of(_source(access)), "tkt_1", target=target, begun_at=datetime.now(UTC))
    return {**given, **tickets.text_values(push, "Raise the pool", "*Why*: it is too small."), "id": "1"}


def _asked(
    access: polling.Access, names: set[str], port: int, description: Description
) -> Iterator[tuple[str, str]]:
    """Each of these requests as the connector makes it."""
    manifest = access.manifest
    path = urlsplit(Values(manifest, access.config, access.secrets).base_url(manifest)).path
    streams = tuple(each for each in manifest.streams if f"stream {each.name}" in names)
    here = msgspec.structs.replace(
        manifest,
        base_url=f"http://127.0.0.1:{port}{path}",
        streams=streams,
        test=manifest.test if "test" in names else None,
    )
    access = msgspec.structs.replace(access, manifest=here)
    noted: list[Request] = []
    with GuardedSession(
        HERE, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000, secrets=(), pause=lambda _: None
    ) as session:
        session.mount("http://", _Answers(noted))
        bare = msgspec.structs.replace(here, streams=())
        if here.test is not None:
            checks = polling.probe(msgspec.structs.replace(access, manifest=bare), session=session)
            yield from _told("test", noted, description, *(each.detail for each in checks))
        for stream in streams:
            said = _first_page(access, stream, session)
            yield from _told(f"stream {stream.name}", noted, description, said)
            small = msgspec.structs.replace(here, streams=(stream,), test=None)
            checks = polling.probe(msgspec.structs.replace(access, manifest=small), session=session)
            yield from _told(f"probe {stream.name}", noted, description, *(each.detail for each in checks))
    if here.push is None:
        return
    tracker = Tracker(_source(access), here.push, access.secrets, _Outbound(noted))
    given = _given(access)
    asks = {"create": tracker.create, "find": tracker.find, "status": tracker.standing}
    for name in _parts(here):
        if f"ticket {name}" in names:
            try:
                said = str(asyncio.run(asks[name](given)))
            except VendorError as error:
                said = f"{error.code}: {error.detail}"
            yield from _told(f"ticket {name}", noted, description, said)


def _first_page(access: polling.Access, stream: Stream, session: GuardedSession) -> str:
    """What became of the example's records, or why there are none."""
    end = datetime.now(UTC)
    window = polling.Window(end - timedelta(days=1), end)
    try:
        page = next(polling.pages(access, stream, window, session=session, pause=lambda _: None))
    except VendorError as error:
        return f"{error.code}: {error.detail}"
    outcomes = [map_record(access.manifest, record, now=end) for record in page.records]
    counts = {kind: sum(isinstance(each, kind) for each in outcomes) for kind in (Mapped, Ignored, Rejected)}
    reasons = {each.problem for each in outcomes if isinstance(each, Rejected)}
    told = ", ".join(f"{number} {kind.__name__.lower()}" for kind, number in counts.items() if number)
    return f"{told or 'no records'}{': ' if reasons else ''}{'; '.join(sorted(reasons))}"


def _told(name: str, noted: list[Request], description: Description, *said: str) -> Iterator[tuple[str, str]]:
    """The requests since the last time, each once, and what our code made of the example."""
    for each in dict.fromkeys(noted):
        path, _, query = each.target.partition("?")
        params = [param for param, _ in parse_qsl(query, keep_blank_values=True)]
        unknown = [
            f"parameter {param} is not described"
            for param in description.unknown_params(each.method, path, params)
        ]
        wrong = [*each.violations, *unknown]
        words = f"{name}: {each.method} {each.target} {each.status}"
        if wrong:
            yield "violation", f"{words}: {'; '.join(wrong)}"
        else:
            yield "ok", f"{words} ({'; '.join((*each.remarks, *said))[:160]})"
    if not noted:
        yield "unusable", f"{name}: nothing was asked: {'; '.join(said)}"
    noted.clear()


if __name__ == "__main__":
    sys.exit(main())
