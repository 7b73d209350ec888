"""What is asked in a stranger's name goes to the internet only, once, within limits."""

import asyncio
import datetime as dt
import gzip
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace
from runtime import outbound
from runtime.errors import StartError
from runtime.outbound import (
    AUTHORITIES_BYTES_MAX,
    BODY_BYTES_MAX,
    EVERYWHERE,
    INTERNET,
    Outbound,
    OutboundError,
    Reach,
    certificates,
    is_public,
    read_authorities,
)


@pytest.mark.parametrize(
    "url",
    [
        "http://203.0.113.7/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://0.0.0.0/",
        "https://10.1.2.3/",
        "https://192.168.0.1:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://user:password@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https://exa mple.com/",
        "https://\udcff/",
        "https://xn--a/",
        "https://xn--/",
        "nonsense",
    ],
)
async def test_addresses_inside_are_not_asked(url: str) -> None:
    """However they are written; nor anything but https."""
    with pytest.raises(OutboundError):
        await Outbound(INTERNET).get(url)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("::", False),
        ("fec0::1", False),
        ("::10.0.0.1", False),
        ("64:ff9b:1::a00:1", False),
        ("5f00::1", False),
        ("192.88.99.1", False),
        ("2002:808:808::", True),
        ("::ffff:8.8.8.8", True),
    ],
)
def test_public_addresses_are_told_from_others(address: str, expected: bool) -> None:
    """Also where an IPv4 address hides in an IPv6 one."""
    assert is_public(ip_address(address)) is expected


async def test_a_name_that_nobody_answers_for_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who asks, beyond their time, nor the threads of the loop."""
    is_over, names = threading.Event(), []

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        names.append(threading.current_thread().name)
        is_over.wait(30)
        return []

    monkeypatch.setattr(outbound.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(outbound, "SECONDS", 0.1)
    try:
        with pytest.raises(OutboundError, match="in time") as caught:
            await Outbound(INTERNET).send("GET", "https://idp.example/", headers={}, seconds=0.1)
        assert not caught.value.is_sent
        with pytest.raises(OutboundError, match="in time"):
            await asyncio.to_thread(INTERNET.resolve, "https", "idp.example")
    finally:
        is_over.set()
    assert all(name.startswith("name") for name in names)


async def test_a_name_with_one_address_inside_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever controls a name could let it point anywhere."""
    resolve(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(OutboundError, match="not an address on the internet"):
        await Outbound(INTERNET).get("https://idp.example/")


@pytest.mark.parametrize(
    ("allowed", "scheme", "addresses", "chosen"),
    [
        ([], "https", ["2606:4700::1111", "8.8.8.8"], "8.8.8.8"),
        ([], "http", ["8.8.8.8"], None),
        ([], "https", [], None),
        (["10.0.0.0/8"], "https", ["8.8.8.8"], "8.8.8.8"),
        (["10.0.0.0/8"], "https", ["10.1.2.3"], "10.1.2.3"),
        (["10.0.0.0/8"], "http", ["10.1.2.3"], "10.1.2.3"),
        (["10.0.0.0/8"], "https", ["::ffff:10.1.2.3"], "::ffff:a01:203"),
        (["fd00::/8"], "http", ["fd00::1%eth0"], "fd00::1"),
        (["10.0.0.0/8"], "http", ["8.8.8.8"], None),
        (["10.0.0.0/8"], "http", ["10.1.2.3", "8.8.8.8"], None),
        (["10.0.0.0/8"], "https", ["10.1.2.3", "192.168.0.1"], None),
        (["10.0.0.0/8"], "https", ["169.254.169.254"], None),
        (["10.0.0.0/8"], "https", ["64:ff9b::a00:1"], None),
        (["10.0.0.0/8"], "ftp", ["10.1.2.3"], None),
    ],
)
def test_the_operator_allows_networks_inside_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
    allowed: list[str],
    scheme: str,
    addresses: list[str],
    chosen: str | None,
) -> None:
    """Those also by http; a name that has one other address is refused."""
    found = [(None, None, None, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(outbound.socket, "getaddrinfo", lambda *_, **__: found)
    reach = Reach.read(allowed)
    if chosen is not None:
        assert reach.resolve(scheme, "jira.example") == chosen
    else:
        with pytest.raises(OutboundError):
            reach.resolve(scheme, "jira.example")


class Server:
    """Answers each path with a status, headers and a body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library's name
                server.asked.append((self.path, self.headers["Host"]))
                status, headers, body = server.answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port

    def start(self) -> None:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Callable[[], int]:
    """Let every name have these addresses; how often one was asked for."""
    n_asked = 0

    def getaddrinfo(_: str, port: None, **__: Any) -> list[Any]:
        nonlocal n_asked
        n_asked += 1
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(outbound.socket, "getaddrinfo", getaddrinfo)
    return lambda: n_asked


async def test_the_address_that_was_checked_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved once, so it cannot change in between; the host still hears its name."""
    server.answers["/"] = (200, {}, b"{}")
    server.start()
    n_asked = resolve(monkeypatch, "127.0.0.1")
    assert await Outbound(EVERYWHERE).get(f"http://idp.example:{server.port}/") == b"{}"
    assert server.asked == [("/", f"idp.example:{server.port}")]
    assert n_asked() == 1


async def test_redirects_are_not_followed_and_only_200_counts(server: Server) -> None:
    """A good address must not lead to a bad one."""
    server.answers["/there"] = (302, {"Location": "/secret"}, b"")
    server.answers["/secret"] = (200, {}, b"secret")
    server.answers["/broken"] = (500, {}, b"")
    server.start()
    for path in ("/there", "/broken"):
        with pytest.raises(OutboundError):
            await Outbound(EVERYWHERE).get(f"http://127.0.0.1:{server.port}{path}")
    assert [path for path, _ in server.asked] == ["/there", "/broken"]


async def test_an_answer_without_an_end_is_cut_short(server: Server) -> None:
    """A megabyte is enough for anybody's discovery document."""
    server.answers["/large"] = (200, {}, b"x" * (BODY_BYTES_MAX + 1))
    server.answers["/packed"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))
    server.answers["/full"] = (200, {}, b"x" * BODY_BYTES_MAX)
    server.start()
    asked = Outbound(EVERYWHERE)
    with pytest.raises(OutboundError, match="compressed"):
        await asked.get(f"http://127.0.0.1:{server.port}/packed")
    assert len(await asked.get(f"http://127.0.0.1:{server.port}/full")) == BODY_BYTES_MAX
    with pytest.raises(OutboundError, match="bytes"):
        await asked.get(f"http://127.0.0.1:{server.port}/large")


@pytest.mark.parametrize(("certified", "is_good"), [("idp.example", True), ("other.example", False)])
async def test_the_certificate_is_for_the_name_and_not_for_the_ip_address(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certified: str, is_good: bool
) -> None:
    """Though it is the IP address that is connected to."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate(tmp_path, certified))
    server.http.socket = ours.wrap_socket(server.http.socket, server_side=True)
    server.answers["/"] = (200, {}, b"{}")
    server.start()
    resolve(monkeypatch, "127.0.0.1")
    authority = (tmp_path / "pair.pem").read_text(encoding="ascii")
    asked = Outbound(EVERYWHERE).trusting(authority).get(f"https://idp.example:{server.port}/")
    if is_good:
        assert await asked == b"{}"
    else:
        with pytest.raises(OutboundError):
            await asked


async def test_an_authority_of_ones_own_is_read_from_a_file_and_counts_beside_public_ones(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What stands around the certificates, such as a key or a comment, is left out."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate(tmp_path, "idp.example"))
    server.http.socket = ours.wrap_socket(server.http.socket, server_side=True)
    server.answers["/"] = (200, {}, b"{}")
    server.start()
    resolve(monkeypatch, "127.0.0.1")
    file = tmp_path / "company.pem"
    file.write_text("Zürich\n" + (tmp_path / "pair.pem").read_text(encoding="ascii"), encoding="utf-8")
    authorities = read_authorities(str(file))
    assert "KEY" not in authorities
    url = f"https://idp.example:{server.port}/"
    assert await Outbound(replace(EVERYWHERE, authorities=authorities)).get(url) == b"{}"
    with pytest.raises(OutboundError, match="certificate of idp") as caught:
        await Outbound(EVERYWHERE).get(url)
    assert not caught.value.is_sent
    n_public = certificates("").cert_store_stats()["x509"]
    assert n_public > 50
    assert certificates(authorities).cert_store_stats()["x509"] == n_public + 1
    assert read_authorities("") == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n", "is no certificate in PEM"),
        (b"\x30\x82\x01\x0a", "is no certificate in PEM"),
        (b"#" * (AUTHORITIES_BYTES_MAX + 1), "has more than"),
    ],
)
def test_a_file_that_names_no_authority_ends_the_start(
    tmp_path: Path, written: bytes | None, said: str
) -> None:
    """With the variable and the file in its words."""
    file = tmp_path / "company.pem"
    if written is not None:
        file.write_bytes(written)
    with pytest.raises(StartError, match=f"^OUTBOUND_CA_FILE={file} {said}"):
        read_authorities(str(file))


def test_a_file_of_authorities_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services run in a folder of their own, so that a file beside whoever starts them would not be found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "company.pem").touch()
    with pytest.raises(StartError, match=r"^OUTBOUND_CA_FILE=company\.pem has to be an absolute path"):
        read_authorities("company.pem")


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for a name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "pair.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
