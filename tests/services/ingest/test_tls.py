"""Vendors with a certificate of somebody's own authority: believed where it was given, and nobody else then."""

import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import certifi
import pytest
import trustme
from contracts import connector
from msgspec.structs import replace
from runtime.outbound import Outbound, OutboundError, Reach

from services.ingest.connectors.connecting import Source, checked
from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import InvalidConnectorError, VendorError
from services.ingest.vendors.oauth import trusting
from services.ingest.vendors.polling import Access, open_session
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession
from services.ingest.vendors.tls import as_file

INSIDE = Reach.read(["127.0.0.0/8"])


@pytest.fixture
def own() -> Iterator[tuple[str, trustme.CA]]:
    """An HTTPS server with a certificate of somebody's own authority, for localhost alone."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # a name of the base class
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'[{"id": 1}]')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


async def test_a_server_of_ones_own_has_to_have_a_certificate_of_ones_own_authority(
    own: tuple[str, trustme.CA],
) -> None:
    """Polling, and what tickets and tokens are asked by; for its name, and of that authority alone."""
    url, authority = own
    elsewhere = url.replace("localhost", "127.0.0.1")
    ours, others = (each.cert_pem.bytes().decode() for each in (authority, trustme.CA()))
    manifest = manifest_of("jira_dc")
    for address, pem, is_good in (
        (url, ours, True),
        (url, others, False),
        (url, "", False),
        (elsewhere, ours, False),
    ):
        access = Access(
            replace(manifest, base_url=address, test=None), {"ca_certificate": pem}, 0, {"token": "t"}, "ws_1"
        )
        with open_session(
            access, reach=INSIDE, rate_limiter=RateLimiter(time.monotonic), pause=time.sleep
        ) as asking:
            assert asking.reach.tenant == "ws_1"
            if is_good:
                assert asking.get(f"{address}/x").json() == [{"id": 1}]
            else:
                with pytest.raises(VendorError, match="certificate of"):
                    asking.get(f"{address}/x")
        settings = connector.ConnectorSettings(
            type="jira_dc", display_name="Ours", auth=0, config={"host": "x", "ca_certificate": pem}
        )
        outbound = trusting(Outbound(INSIDE), Source("con_1", settings, manifest))
        if is_good:
            assert await outbound.get(f"{address}/x") == b'[{"id": 1}]'
        else:
            with pytest.raises(OutboundError):
                await outbound.get(f"{address}/x")


async def test_an_operators_authority_counts_where_a_connector_names_none(
    own: tuple[str, trustme.CA],
) -> None:
    """For its names alone; polling, and what tickets and tokens are asked by."""
    url, authority = own
    elsewhere = url.replace("localhost", "127.0.0.1")
    ours, others = (each.cert_pem.bytes().decode() for each in (authority, trustme.CA()))
    for address, believed, given, is_good in (
        (url, ours, "", True),
        (url, others, "", False),
        (url, ours, others, False),
        (elsewhere, ours, "", False),
    ):
        reach = replace(INSIDE, authorities=believed)
        with GuardedSession(reach, rate_limiter=RateLimiter(time.monotonic), authority=given) as asking:
            asked = Outbound(reach).trusting(given).get(f"{address}/x")
            if is_good:
                assert asking.get(f"{address}/x").json() == [{"id": 1}]
                assert await asked == b'[{"id": 1}]'
            else:
                with pytest.raises(VendorError, match="certificate of"):
                    asking.get(f"{address}/x")
                with pytest.raises(OutboundError):
                    await asked


def test_a_database_s_driver_gets_a_file_of_the_same(own: tuple[str, trustme.CA]) -> None:
    """Public ones and the operator's; a connector's own alone. Where neither is, none is written for it."""
    ours, others = (each.cert_pem.bytes().decode() for each in (own[1], trustme.CA()))
    n_public = ssl.create_default_context(cafile=certifi.where()).cert_store_stats()["x509"]
    for believed, given, n_roots in ((ours, "", n_public + 1), ("", "", n_public), (ours, others, 1)):
        with as_file(given, replace(INSIDE, authorities=believed)) as path:
            assert ssl.create_default_context(cafile=path).cert_store_stats()["x509"] == n_roots
            assert (path == certifi.where()) == (not believed and not given)


@pytest.mark.parametrize(
    ("pem", "is_good"),
    [("ours", True), ("", True), ("-----BEGIN CERTIFICATE-----", False), ("ours and key", False)],
)
def test_only_certificates_are_taken_for_an_authority(pem: str, is_good: bool) -> None:
    """A key that is pasted beside them is refused: settings can be read again."""
    authority = trustme.CA()
    written = {
        "ours": authority.cert_pem.bytes().decode(),
        "ours and key": (authority.cert_pem.bytes() + authority.private_key_pem.bytes()).decode(),
    }.get(pem, pem)
    settings = connector.ConnectorSettings(
        type="jira_dc",
        display_name="Ours",
        auth=0,
        config={"host": "jira.example.com", "ca_certificate": written},
    )
    if is_good:
        assert checked(settings).config.get("ca_certificate", "") == written.strip()
    else:
        with pytest.raises(InvalidConnectorError) as caught:
            checked(settings)
        assert set(caught.value.problems) == {"config.ca_certificate"}
