"""Rows of a MySQL as a source, over its own protocol: all of them, nothing but reading, by TLS that is checked."""

import asyncio
import json
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from socket import create_server

import pytest
import trustme
from mysql_mimic import IdentityProvider, MysqlServer, NativePasswordAuthPlugin, Session, User
from mysql_mimic.stream import MysqlStream
from runtime.outbound import Reach

from services.ingest.connectors.registry import manifest_of
from services.ingest.connectors.templates import Values
from services.ingest.vendors import mysql, sql
from services.ingest.vendors.polling import Access, Window, high_water, pages, probe
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)
MANIFEST = manifest_of("mysql")
(ROWS,) = MANIFEST.streams
QUERY = "SELECT id, title, at AS updated_at FROM failures WHERE at > :cursor AND title LIKE '%e%' ORDER BY at, id LIMIT :limit"
SECRETS = {"username": "reader", "password": "pw-of-reader"}


class Shop:
    """A MySQL on 127.0.0.1 with twelve rows, seven of them of one moment. said: what it was told."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.said: list[str] = []
        self.port = 0
        self.rows = sqlite3.connect(":memory:", check_same_thread=False)
        self.rows.execute("CREATE TABLE failures (id INTEGER, title TEXT, at TEXT)")
        for n in range(1, 13):
            at = DAY.replace(tzinfo=None) + timedelta(minutes=min(n, 6))
            self.rows.execute("INSERT INTO failures VALUES (?, 'one', ?)", (n, str(at)))

    def access(self, query: str = QUERY, **changed: str) -> Access:
        config = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "database": "shop",
            "query": query,
            "ca_certificate": self.authority.cert_pem.bytes().decode(),
            **{name: text for name, text in changed.items() if name != "password"},
        }
        secrets = {**SECRETS, **({"password": changed["password"]} if "password" in changed else {})}
        return Access(MANIFEST, config, 0, secrets)


async def start_tls(stream: MysqlStream, context: ssl.SSLContext) -> None:
    """As mysql-mimic's own, which loses what a client says at once behind its wish for TLS."""
    early = bytes(stream.reader._buffer)  # type: ignore[attr-defined]
    stream.reader._buffer.clear()  # type: ignore[attr-defined]
    loop, transport = asyncio.get_running_loop(), stream.writer.transport

    def feed() -> None:
        reading = transport.get_protocol()
        assert isinstance(reading, asyncio.BufferedProtocol)
        reading.get_buffer(len(early))[: len(early)] = early
        reading.buffer_updated(len(early))

    if early:
        # Behind the callbacks of `start_tls` below, before anything that arrives.
        loop.call_soon(loop.call_soon, feed)
    secure = await loop.start_tls(transport, transport.get_protocol(), context, server_side=True)
    stream.writer._transport = stream.reader._transport = secure  # type: ignore[attr-defined]


@contextmanager
def serving(shop: Shop, patched: pytest.MonkeyPatch) -> Iterator[Shop]:
    class Told(Session):
        async def handle_query(self, sql: str, attrs: dict[str, str]):  # type: ignore[no-untyped-def]
            shop.said.append(sql)
            if sql.startswith("SELECT id"):
                found = shop.rows.execute(sql)
                return found.fetchall(), [column[0] for column in found.description]
            if sql.startswith("SELECT REPEAT"):
                return [("x" * 2_000_000,)], ["title"]
            return [], []

    class Known(IdentityProvider):
        def get_plugins(self):  # type: ignore[no-untyped-def]
            return [NativePasswordAuthPlugin()]

        async def get_user(self, username: str) -> User:
            word = NativePasswordAuthPlugin.create_auth_string(SECRETS["password"])
            return User(name=username, auth_string=word, auth_plugin=NativePasswordAuthPlugin.name)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shop.authority.issue_cert("db.example.com", "127.0.0.1").configure_cert(context)
    loop = asyncio.new_event_loop()
    patched.setattr(MysqlStream, "start_tls", start_tls)
    server = MysqlServer(Told, identity_provider=Known(), ssl=context)
    loop.run_until_complete(server.start_server(host="127.0.0.1", port=0))
    shop.port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patched, serving(Shop(), patched) as running:
        yield running


def tried(access: Access, reach: Reach = INSIDE) -> tuple[str | None, str]:
    """The code and the words of a probe."""
    with GuardedSession(reach, rate_limiter=RateLimiter(time.monotonic)) as asking:
        (check,) = probe(access, session=asking, now=DAY + timedelta(hours=1))
    assert "wrong-password" not in check.detail
    return check.code, check.detail


def test_all_rows_are_read_and_a_killed_run_goes_on(shop: Shop) -> None:
    """Also where more rows have one moment than a page has rows; and no statement before it was told to only read."""
    shop.said.clear()
    found: list[object] = []
    position: dict[str, object] | None = {"cursor": DAY.isoformat(), "limit": 3}
    with GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic)) as asking:
        while position is not None:
            page = next(
                pages(
                    shop.access(),
                    ROWS,
                    Window(None, DAY + timedelta(days=1)),
                    position=position,
                    session=asking,
                    pause=lambda _: None,
                )
            )
            found += page.records
            position = json.loads(json.dumps(page.position))
    assert {row["id"] for row in found if isinstance(row, dict)} == set(range(1, 13))
    assert high_water(ROWS, found) == DAY + timedelta(minutes=6)
    first = next(place for place, text in enumerate(shop.said) if "failures" in text)
    assert [text.split("failures")[0] for text in shop.said[first - 5 : first + 1]] == [
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION max_execution_time = 60000",
        "SET SESSION sql_select_limit = 3",
        "SET SESSION TRANSACTION READ ONLY",
        "START TRANSACTION READ ONLY",
        "SELECT id, title, at AS updated_at FROM ",
    ]


@pytest.mark.parametrize(
    ("changed", "code", "word"),
    [
        ({}, None, "answered"),
        ({"tls": "verify-ca", "host": "localhost"}, None, "answered"),
        ({"host": "localhost"}, "unreachable", "Hostname mismatch"),
        ({"ca_certificate": "other"}, "unreachable", "CERTIFICATE_VERIFY_FAILED"),
        ({"ca_certificate": ""}, None, "answered"),
        ({"ca_certificate": "", "tls": "verify-ca"}, "not_configured", "own authority"),
        ({"password": "wrong-password"}, "credentials_rejected", "Access denied"),
        ({"port": "1"}, "unreachable", "cannot be reached"),
        ({"query": "DELETE FROM failures"}, "not_configured", "one SELECT"),
        ({"query": "/*!50000 DELETE FROM failures */"}, "not_configured", "one SELECT"),
        ({"query": "SELECT 1 INTO OUTFILE '/tmp/x'"}, "not_configured", "one SELECT"),
    ],
)
def test_who_answers_has_to_be_the_database_and_who_asks_its_user(
    shop: Shop, changed: dict[str, str], code: str | None, word: str
) -> None:
    """By the certificate of somebody's own authority, wherever there is one."""
    if changed.get("ca_certificate") == "other":
        changed = {**changed, "ca_certificate": trustme.CA().cert_pem.bytes().decode()}
    found, said = tried(shop.access(**changed))
    assert (found, word in said) == (code, True), said


def test_an_address_inside_is_not_asked_unless_the_operator_allows_it(shop: Shop) -> None:
    n_said = len(shop.said)
    assert tried(shop.access(), Reach())[0] == "address_refused"
    assert len(shop.said) == n_said


def test_a_page_is_counted_before_it_is_in_memory(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "PAGE_BYTES_MAX", 1_000_000)
    code, said = tried(shop.access("SELECT REPEAT('x', 2000000) AS title"))
    assert (code, "more than 1000000 bytes" in said) == ("not_configured", True)


@pytest.mark.parametrize(("name", "bound"), [("CELLS_MAX", 8), ("COLUMNS_MAX", 2)])
def test_values_and_columns_are_counted_while_they_are_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    """Tiny ones are many in few bytes: twelve rows of three columns here."""
    monkeypatch.setattr(sql, name, bound)
    code, said = tried(shop.access())
    assert (code, f"{bound} {'values' if name == 'CELLS_MAX' else 'columns'}" in said) == (
        "not_configured",
        True,
    )


@pytest.mark.parametrize(("address", "is_checked"), [("8.8.8.8", True), ("10.0.0.1", False)])
def test_a_database_on_the_internet_has_to_prove_its_name(address: str, is_checked: bool) -> None:
    """Inside, TLS is taken where it is offered; there is no way to trust anybody on the internet."""
    context = mysql.secured(address, Values(MANIFEST, {}), Reach())
    assert (context is not None) == is_checked
    if context is not None:
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x00\x00\x00\x0a8.0", b""])
def test_what_is_no_mysql_is_told(shop: Shop, greeting: bytes) -> None:
    """Whatever the driver's parser makes of it."""
    with create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as near:
                near.sendall(greeting)

        threading.Thread(target=answer, daemon=True).start()
        code, said = tried(shop.access(port=str(listening.getsockname()[1])))
    assert code in ("unreachable", "bad_answer"), said
