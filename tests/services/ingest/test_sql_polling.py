"""Rows of a database as a source: all of them, by a query of somebody's, and nothing but reading."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from socket import SHUT_RDWR, create_connection, create_server, socket

import psycopg
import pytest
import trustme
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict
from runtime.embedded import EmbeddedPostgres
from runtime.outbound import Reach
from testkit.servers import Database

from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import VendorError
from services.ingest.vendors import postgresql, sql
from services.ingest.vendors.polling import Access, Window, high_water, pages, probe
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)
MANIFEST = manifest_of("postgresql")
(ROWS,) = MANIFEST.streams
QUERY = "SELECT id, title, at AS updated_at FROM failures WHERE at > :cursor AND title LIKE '%e%' ORDER BY at, id LIMIT :limit"


def session(reach: Reach = INSIDE) -> GuardedSession:
    return GuardedSession(reach, rate_limiter=RateLimiter(time.monotonic))


def access(
    database: Database, server: EmbeddedPostgres, query: str = QUERY, password: str | None = None
) -> Access:
    parts = conninfo_to_dict(database.owner_url)
    config = {"host": "127.0.0.1", "port": str(server.port), "database": str(parts["dbname"]), "query": query}
    return Access(
        MANIFEST, config, 0, {"username": str(parts["user"]), "password": password or str(parts["password"])}
    )


@pytest.fixture
def filled(database: Database) -> Database:
    """Twelve rows: five, and seven of one moment."""
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("CREATE TABLE failures (id serial PRIMARY KEY, title text, at timestamptz)")
        rows = [(n, "one", DAY + timedelta(minutes=min(n, 6))) for n in range(1, 13)]
        connection.cursor().executemany("INSERT INTO failures VALUES (%s, %s, %s)", rows)
    return database


def test_all_rows_are_read_and_a_killed_run_goes_on(
    filled: Database, postgres_server: EmbeddedPostgres
) -> None:
    """Also where more rows have one moment than a page has rows."""
    asked, window = access(filled, postgres_server), Window(None, DAY + timedelta(days=1))
    found: list[object] = []
    position = {"cursor": DAY.isoformat(), "limit": 3}
    with session() as asking:
        for _ in range(20):
            page = next(pages(asked, ROWS, window, position=position, session=asking, pause=lambda _: None))
            found += page.records
            if page.position is None:
                break
            position = json.loads(json.dumps(page.position))
        assert all(check.is_good for check in probe(asked, session=asking, now=DAY + timedelta(hours=1)))
    assert {row["id"] for row in found if isinstance(row, dict)} == set(range(1, 13))
    assert high_water(ROWS, found) == DAY + timedelta(minutes=6)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM failures RETURNING id",
        "SELECT 1; DROP TABLE failures",
        "SELECT nextval('failures_id_seq')",
        "WITH x AS (DELETE FROM failures RETURNING id) SELECT id FROM x",
    ],
)
def test_a_query_that_writes_is_refused(
    filled: Database, postgres_server: EmbeddedPostgres, query: str
) -> None:
    with session() as asking, pytest.raises(VendorError) as caught:
        list(
            pages(
                access(filled, postgres_server, query),
                ROWS,
                Window(None, DAY),
                session=asking,
                pause=lambda _: None,
            )
        )
    assert caught.value.code == "not_configured"
    with psycopg.connect(filled.owner_url) as connection:
        assert connection.execute("SELECT count(*) FROM failures").fetchone() == (12,)


def test_a_page_is_counted_before_it_is_in_memory(
    filled: Database, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row is enough: PostgreSQL makes texts of a gigabyte."""
    monkeypatch.setattr(sql, "PAGE_BYTES_MAX", 1_000_000)
    query = "SELECT repeat('x', 20000000) AS title, now() AS cursor"
    with session() as asking:
        (check,) = probe(access(filled, postgres_server, query), session=asking)
    assert check.code == "not_configured"
    assert "more than 1000000 bytes" in check.detail


def test_what_a_value_becomes_is_counted_too(
    filled: Database, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text stays one, however many commas it has."""
    monkeypatch.setattr(sql, "CELLS_MAX", 1_000)
    many = "repeat('0,', 1000) || '0'"
    for value, code in (
        (f"('[' || {many} || ']')::json", "not_configured"),
        (f"('{{' || {many} || '}}')::int[]", "not_configured"),
        (many, None),
    ):
        with session() as asking:
            query = f"SELECT {value} AS x, now() AS cursor"
            (check,) = probe(access(filled, postgres_server, query), session=asking)
        assert check.code == code


@pytest.fixture
def encrypted(postgres_server: EmbeddedPostgres) -> Iterator[tuple[int, trustme.CA]]:
    """A port before the server, which has no TLS of its own, and the authority of its certificate for 127.0.0.1."""
    own = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.issue_cert("127.0.0.1").configure_cert(context)
    wish = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

    def pass_on(source: socket, sink: socket) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                sink.sendall(part)
            sink.shutdown(SHUT_RDWR)

    def serve(near: socket) -> None:
        with suppress(OSError), near, create_connection(("127.0.0.1", postgres_server.port)) as far:
            if near.recv(8) != wish:
                return
            near.sendall(b"S")
            with context.wrap_socket(near, server_side=True) as secure:
                back = threading.Thread(target=pass_on, args=(far, secure), daemon=True)
                back.start()
                pass_on(secure, far)
                back.join(timeout=10)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], own
        with suppress(OSError):
            listening.shutdown(SHUT_RDWR)


@pytest.mark.parametrize(
    ("host", "tls", "is_own", "word"),
    [
        ("127.0.0.1", "verify-full", True, "answered"),
        ("localhost", "verify-full", True, "does not match host name"),
        ("localhost", "verify-ca", True, "answered"),
        ("127.0.0.1", "verify-full", False, "certificate verify failed"),
        ("127.0.0.1", "verify-ca", None, "own authority"),
    ],
)
def test_a_certificate_of_ones_own_authority_is_checked_inside_too(
    filled: Database,
    postgres_server: EmbeddedPostgres,
    encrypted: tuple[int, trustme.CA],
    host: str,
    tls: str,
    is_own: bool | None,
    word: str,
) -> None:
    port, own = encrypted
    pem = "" if is_own is None else (own if is_own else trustme.CA()).cert_pem.bytes().decode()
    asked = access(filled, postgres_server)
    config = {**asked.config, "host": host, "port": str(port), "tls": tls, "ca_certificate": pem}
    with session() as asking:
        (check,) = probe(replace(asked, config=config), session=asking)
    assert word in check.detail


@pytest.mark.parametrize(
    ("address", "tls", "mode", "auth"),
    [
        ("8.8.8.8", "verify-full", "verify-full", None),
        ("8.8.8.8", "require", "require", "!password"),
        ("10.0.0.1", "verify-full", "prefer", None),
    ],
)
def test_who_answers_on_the_internet_has_to_be_the_database(
    address: str, tls: str, mode: str, auth: str | None
) -> None:
    """Or is not given the password, where somebody says that any certificate will do."""
    asked = postgresql.secured(address, tls, "bundle.pem", is_own=False)
    assert (asked["sslmode"], asked.get("require_auth")) == (mode, auth)
    assert ("sslrootcert" in asked) == (mode == "verify-full")


def test_a_wrong_password_and_an_address_inside_are_told_apart(
    filled: Database, postgres_server: EmbeddedPostgres
) -> None:
    wrong = access(filled, postgres_server, password="wrong-password")
    for asked, reach, code in (
        (wrong, INSIDE, "credentials_rejected"),
        (wrong, Reach(), "address_refused"),
        (replace(wrong, config={**wrong.config, "port": "1"}), INSIDE, "unreachable"),
    ):
        with session(reach) as asking:
            (check,) = probe(asked, session=asking)
        assert check.code == code, check.detail
        assert "wrong-password" not in check.detail
