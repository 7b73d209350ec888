"""The operator's own authority: believed where the gateway sends to, beside the public ones, and read at the start."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trustme
from runtime.errors import StartError
from runtime.settings import load

from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings

from .receiver import Receiver


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_webhook_goes_to_a_server_of_the_operators_authority(
    api: httpx.Client, authority: trustme.CA, is_ours: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (authority if is_ours else trustme.CA()).issue_cert("localhost").configure_cert(context)
    receiver = Receiver(tls=context)
    try:
        made = api.post("/v1/webhooks", json={"url": receiver.url, "event_types": ["issue.created"]})
        assert made.status_code == 201, made.text
        tested = api.post(f"/v1/webhooks/{made.json()['id']}/test").json()
        # The workspace is everybody's, so an issue of another test may be told of meanwhile.
        tests = [call for call in receiver.calls if call.event["type"] == "webhook.test"]
        assert (tested["success"], len(tests)) == (is_ours, int(is_ours))
        assert api.delete(f"/v1/webhooks/{made.json()['id']}").status_code == 204
    finally:
        receiver.close()


def test_a_file_that_is_no_authority_stops_gateway_and_ingest(tmp_path: Path) -> None:
    """Before they serve anything, with its name."""
    file = tmp_path / "company.pem"
    env: Mapping[str, str] = {
        "PORT": "1",
        "NATS_URL": "nats://127.0.0.1:1",
        "DATABASE_URL": "postgresql://127.0.0.1/a",
        "DATABASE_PROJECTOR_URL": "postgresql://127.0.0.1/a",
        "OUTBOUND_CA_FILE": str(file),
    }
    gateway, ingest = load(GatewaySettings, env), load(IngestSettings, env)
    for read in (lambda: gateway.authorities, lambda: ingest.reach):
        with pytest.raises(StartError, match=f"OUTBOUND_CA_FILE={file} cannot be read"):
            read()
    trustme.CA().cert_pem.write_to_path(str(file))
    assert gateway.authorities == ingest.reach.authorities == file.read_text(encoding="ascii")
