"""Snowflake's SQL API, played from its documentation: sent, waited for, fetched in parts, signed by a key pair.

Source: https://docs.snowflake.com/en/developer-guide/sql-api/reference; no account was asked.
"""

import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.jwk import RSAKey
from msgspec.structs import replace
from runtime.outbound import Reach

from services.ingest.connectors.mapping import Mapped, map_record
from services.ingest.connectors.registry import manifest_of
from services.ingest.vendors.polling import Access, Page, Window, high_water, pages, probe
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)
MANIFEST = manifest_of("snowflake")
TASKS, QUERIES = MANIFEST.streams
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass-phrase")).decode()
FINGERPRINT = b64encode(
    sha256(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
).decode()
COLUMNS = [
    {"name": "QUERY_ID", "type": "text"},
    {"name": "NAME", "type": "text"},
    {"name": "DATABASE_NAME", "type": "text"},
    {"name": "ERROR_CODE", "type": "text"},
    {"name": "ERROR_MESSAGE", "type": "text"},
    {"name": "ATTEMPT_NUMBER", "type": "fixed", "scale": 0},
    {"name": "IS_LATE", "type": "boolean"},
    {"name": "SCHEDULED_FROM", "type": "variant"},
    {"name": "COMPLETED_TIME", "type": "timestamp_tz", "scale": 9},
    {"name": "cursor", "type": "timestamp_ltz", "scale": 9},
]


class Snowflake:
    """Rows at minutes 1 to 7 of a day. is_slow: every statement is still running when it is asked for once."""

    def __init__(self) -> None:
        self.url = ""
        self.is_slow = True
        self.sent: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.asked: dict[str, int] = {}
        self.results: dict[str, list[list[str | None]]] = {}

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        if (why := self.unsigned(headers)) is not None:
            self.refused.append(why)
            return 401, {"code": "390144", "message": "JWT token is invalid."}
        parts = urlsplit(path)
        if method == "POST" and parts.path == "/api/v2/statements":
            return self.taken(msgspec.json.decode(body))
        handle = parts.path.removeprefix("/api/v2/statements/")
        self.asked[handle] += 1
        if self.asked[handle] == 1 and self.is_slow:
            return 202, {"code": "333334", "message": "in progress", "statementHandle": handle}
        (part,) = (int(text) for text in parse_qs(parts.query).get("partition", ["0"]))
        return 200, self.part(handle, part)

    def unsigned(self, headers: dict[str, str]) -> str | None:
        """Why a request is none of ours."""
        if headers.get("X-Snowflake-Authorization-Token-Type") != "KEYPAIR_JWT":
            return "token type"
        token = jwt.decode(
            headers["Authorization"].removeprefix("Bearer "), RSAKey.import_key(KEY.public_key()), ["RS256"]
        )
        known = token.claims
        if (known["iss"], known["sub"]) != (f"MYORG-ACME.CAUSE.SHA256:{FINGERPRINT}", "MYORG-ACME.CAUSE"):
            return f"{known}"
        return None if 0 < known["exp"] - known["iat"] <= 3600 else "lives too long"

    def taken(self, body: dict[str, Any]) -> tuple[int, object]:
        self.sent.append(body)
        bound = [body["bindings"][str(place)]["value"] for place in range(1, len(body["bindings"]) + 1)]
        assert body["statement"].count("?") == len(bound) == 2
        since, limit = datetime.fromisoformat(bound[0]), int(bound[1])
        rows = [n for n in range(1, 8) if DAY + timedelta(minutes=n) >= since][:limit]
        handle = f"01b-{len(self.sent)}"
        self.results[handle] = [self.row(n) for n in rows]
        self.asked[handle] = 0
        if self.is_slow:
            return 202, {"code": "333334", "message": "in progress", "statementHandle": handle}
        return 200, self.part(handle, 0)

    def row(self, n: int) -> list[str | None]:
        seconds = f"{(DAY + timedelta(minutes=n)).timestamp():.0f}.000000000"
        return [
            f"q{n}", "LOAD", "SHOP", "002003", None, str(n), "true", '{"a": 1}', f"{seconds} 1500", seconds,
        ]  # fmt: skip

    def part(self, handle: str, part: int) -> object:
        """Two rows a part."""
        rows = self.results[handle]
        data = rows[part * 2 : part * 2 + 2]
        if part:
            return {"data": data}
        shape = {
            "numRows": len(rows),
            "format": "jsonv2",
            "rowType": COLUMNS,
            "partitionInfo": [{"rowCount": 2}] * max(1, -(-len(rows) // 2)),
        }
        return {"resultSetMetaData": shape, "data": data, "code": "090001", "statementHandle": handle}

    def access(self, **secrets: str) -> Access:
        config = {"account": "myorg-acme", "warehouse": "WH"}
        given = {"username": "cause", "private_key": PEM, "passphrase": "pass-phrase", **secrets}
        return Access(replace(MANIFEST, base_url=self.url), config, 0, given)


@contextmanager
def serving() -> Iterator[Snowflake]:
    played = Snowflake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = played.answer(self.command, self.path, dict(self.headers), content)
            body = msgspec.json.encode(said)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _do  # noqa: N815  # names of the base class

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    played.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def played() -> Iterator[Snowflake]:
    with serving() as running:
        yield running


@pytest.mark.parametrize("is_slow", [True, False])
def test_failed_tasks_are_read_page_by_page_and_part_by_part(played: Snowflake, is_slow: bool) -> None:
    """Statements that run and such that end at once; values as JSON has them; the mapping takes what comes."""
    played.is_slow = is_slow
    found: list[Page] = []
    position: dict[str, object] | None = {"cursor": DAY.isoformat(), "limit": 3}
    waits: list[float] = []
    with GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000) as asking:
        while position is not None:
            window = Window(None, DAY + timedelta(days=1))
            page = next(
                pages(played.access(), TASKS, window, position=position, session=asking, pause=waits.append)
            )
            found.append(page)
            position = page.position
    records = [record for page in found for record in page.records]
    assert {record["QUERY_ID"] for record in records if isinstance(record, dict)} == {
        f"q{n}" for n in range(1, 8)
    }
    assert records[0] == {
        "QUERY_ID": "q1",
        "NAME": "LOAD",
        "DATABASE_NAME": "SHOP",
        "ERROR_CODE": "002003",
        "ERROR_MESSAGE": None,
        "ATTEMPT_NUMBER": 1,
        "IS_LATE": True,
        "SCHEDULED_FROM": {"a": 1},
        "COMPLETED_TIME": "2026-01-01T01:01:00+01:00",
        "cursor": "2026-01-01T00:01:00+00:00",
    }
    assert high_water(TASKS, records) == DAY + timedelta(minutes=7)
    assert bool(waits) == is_slow
    assert played.refused == []
    assert (played.sent[0]["warehouse"], "role" in played.sent[0]) == ("WH", False)
    outcome = map_record(MANIFEST, records[0], now=DAY + timedelta(days=1))
    assert isinstance(outcome, Mapped)
    assert (outcome.issue.title, outcome.issue.service) == ("LOAD: failed", "SHOP")


def test_a_connection_is_tried_and_a_wrong_key_is_told(played: Snowflake) -> None:
    """Neither of its keys is ever repeated."""
    played.is_slow = False
    with GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000) as asking:
        assert [check.code for check in probe(played.access(), session=asking)] == [None, None]
        for secrets, code in (
            ({"username": "somebody"}, "credentials_rejected"),
            ({"passphrase": "another"}, "not_configured"),
            ({"private_key": "-----BEGIN"}, "not_configured"),
        ):
            checks = probe(played.access(**secrets), session=asking)
            assert {check.code for check in checks} == {code}
            assert not any(PEM[40:80] in check.detail for check in checks)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM t",
        "CALL wipe()",
        "-- SELECT\nDROP TABLE t",
        "WITH p AS PROCEDURE () RETURNS TEXT LANGUAGE SQL AS 'DELETE FROM t' CALL p()",
        "WITH p AS /**/ (SELECT 'a')call/**/wipe()",
        "SELECT 1 ->> DROP TABLE t",
        "SELECT SYSTEM$CANCEL_ALL_QUERIES(1)",
    ],
)
def test_nothing_but_reading_is_sent(played: Snowflake, statement: str) -> None:
    stream = replace(QUERIES, query=statement)
    access = replace(played.access(), manifest=replace(played.access().manifest, streams=(stream,)))
    with GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000) as asking:
        assert [check.code for check in probe(access, session=asking)] == ["not_configured"]
    assert played.sent == []


def test_a_query_may_name_what_it_looks_for(played: Snowflake) -> None:
    query = f"{QUERIES.query} -- not QUERY_TYPE = 'CALL', no PROCEDURE_NAME"
    access = replace(
        played.access(),
        manifest=replace(MANIFEST, base_url=played.url, streams=(replace(QUERIES, query=query),)),
    )
    with GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000) as asking:
        assert {check.code for check in probe(access, session=asking)} == {None}
