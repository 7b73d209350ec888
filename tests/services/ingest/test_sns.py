"""Amazon SNS over real TLS: its certificate and its confirmation are fetched where Amazon is, and nowhere else."""

import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import httpx
import msgspec
import pytest
from contracts import connector
from cryptography.hazmat.primitives.asymmetric import rsa
from nats.aio.client import Client
from runtime import outbound
from runtime.broker import CommandContext
from runtime.names import Names
from runtime.outbound import Outbound, Reach
from testkit.waiting import eventually

from services.ingest.connectors.connecting import source_of
from services.ingest.endpoints import receiving
from services.ingest.endpoints.receiving import Reception
from services.ingest.jobs.directory import Addressee
from services.ingest.jobs.outbox import Outbox
from services.ingest.jobs.queue import DELIVERIES, JobQueue
from tests.libs.runtime.test_outbound import Server
from tests.libs.runtime.test_outbound import certificate as certified
from tests.services.ingest.test_webhook_verification import (
    CERTIFICATE_URL,
    TOPIC,
    certificate,
    signed_message,
)

HOST = "sns.eu-west-1.amazonaws.com"
PEM = CERTIFICATE_URL.removeprefix(f"https://{HOST}")
CONFIRM = f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
KEY, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class _Nearby(Outbound):
    """The port of Amazon's is on this machine, and its authority ours."""

    def __init__(self, port: int, authority: str) -> None:
        super().__init__(Reach.read(["127.0.0.0/8"]), authority=authority)
        self._port = port

    async def _checked(self, url: str) -> tuple[httpx.URL, str]:
        target, host = await super()._checked(url)
        return target.copy_with(port=self._port), host


class Amazon:
    """A TLS server by the name of Amazon's, and a connector of a topic that it calls."""

    def __init__(self, server: Server, nc: Client, authority: str) -> None:
        self.asked = server.asked
        self.answers = server.answers
        self.now = START
        settings = connector.ConnectorSettings(type="aws_cloudwatch", display_name="Alarms", auth=0)
        source = source_of("con_a", settings)
        assert source.manifest.webhook is not None
        known = Addressee(workspace_id="ws_1", source=source, webhook=source.manifest.webhook, secret=TOPIC)

        async def find(_: object) -> dict[str, Addressee]:
            return {"con_a": known}

        self.outbox = Outbox(nc)
        self._reception = Reception(
            vault=Mock(received=lambda sealed, **_: sealed),
            directory=Mock(find=find),
            secrets=Mock(),
            outbox=self.outbox,
            outbound=_Nearby(server.port, authority),
            clock=lambda: self.now,
        )

    async def says(self, *messages: dict[str, str]) -> list[int]:
        """The statuses that messages which come together are answered with."""
        calls = tuple(
            connector.VendorCall(
                connector_id="con_a",
                method="POST",
                url="https://us.example/",
                headers={"content-type": "text/plain; charset=UTF-8"},
                query={},
                body=b64encode(msgspec.json.encode(message)).decode(),
            )
            for message in messages
        )
        sealed = msgspec.json.encode(connector.VendorCalls(calls=calls)).decode()
        answered = await self._reception.receive_delivery(
            connector.ReceiveDelivery(sealed_calls=sealed),
            CommandContext(workspace_id="-", correlation_id=""),
        )
        return [answer.status for answer in answered.answers]

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def authority(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Our own, for the name of Amazon's host alone, which is at 127.0.0.1."""
    pair = certified(tmp_path, HOST)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pair)
    server.http.socket = ours.wrap_socket(server.http.socket, server_side=True)
    monkeypatch.setattr(outbound, "_names", Names(lambda _: ["127.0.0.1"]))
    return pair.read_text()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
async def amazon(server: Server, authority: str, nc: Client, monkeypatch: pytest.MonkeyPatch) -> Amazon:
    monkeypatch.setattr(receiving, "FETCH_WAIT_SECONDS", 30.0)
    server.answers[PEM] = (200, {}, certificate(KEY))
    server.answers[CONFIRM] = (200, {"Content-Type": "text/xml"}, b"<ConfirmSubscriptionResponse/>")
    await JobQueue(nc).ensure()
    made = Amazon(server, nc, authority)
    await made.outbox.start()
    return made


def note(message_id: str = "m-1", **changes: str) -> dict[str, str]:
    return signed_message(KEY, MessageId=message_id, **changes)


def confirmation(url: str = f"https://{HOST}{CONFIRM}") -> dict[str, str]:
    return note(Type="SubscriptionConfirmation", SubscribeURL=url, Token="2336412f37")


async def waiting(nc: Client) -> int:
    return (await nc.jetstream().stream_info(DELIVERIES)).state.messages


async def test_a_topic_is_confirmed_and_its_messages_are_kept_once(amazon: Amazon, nc: Client) -> None:
    """Of both versions; the certificate is fetched once for all of them, and again after an hour."""
    assert await amazon.says(confirmation()) == [200]
    assert amazon.paths() == [PEM, CONFIRM]
    assert await amazon.says(note("m-1"), note("m-2", SignatureVersion="1"), note("m-1")) == [202] * 3
    assert await amazon.says(note("m-1"), confirmation()) == [202, 200]
    assert (await waiting(nc), amazon.paths()) == (2, [PEM, CONFIRM])
    amazon.now += timedelta(seconds=receiving.FETCHED_SECONDS + 60)
    later = amazon.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert await amazon.says(note("m-1"), note("m-3", Timestamp=later)) == [401, 202]
    assert amazon.paths() == [PEM, CONFIRM, PEM]


async def test_nothing_is_fetched_but_from_amazon(amazon: Amazon) -> None:
    """Neither a certificate nor a confirmation, however well the rest is signed; no redirect is followed."""
    away = "https://evil.example/SimpleNotificationService-" + "0" * 32 + ".pem"
    unknown = CERTIFICATE_URL.replace("9c6465fa", "00000000")
    moved = unknown.removeprefix(f"https://{HOST}")
    assert await amazon.says(note(SigningCertURL=away)) == [401]
    assert amazon.paths() == []
    amazon.answers[moved] = (302, {"Location": PEM}, b"")
    assert await amazon.says(note(SigningCertURL=unknown)) == [503]
    assert amazon.paths() == [moved]
    # Signed by somebody else, then for a subscription at another host: neither is confirmed.
    forged = signed_message(
        OTHER, Type="SubscriptionConfirmation", SubscribeURL=f"https://{HOST}{CONFIRM}", Token="2"
    )
    elsewhere = confirmation("https://evil.example" + CONFIRM)
    assert await amazon.says(forged, elsewhere) == [401, 202]
    assert amazon.paths() == [moved, PEM]
    amazon.answers[CONFIRM] = (302, {"Location": PEM}, b"")
    assert await amazon.says(confirmation()) == [503]
    assert amazon.paths() == [moved, PEM, CONFIRM]


async def test_a_certificate_comes_from_whoever_proves_to_be_amazon(
    amazon: Amazon, server: Server, nc: Client
) -> None:
    """Whoever answers for the look-up of names cannot: nobody whom browsers trust has vouched for that server."""
    assert await Amazon(server, nc, "").says(note()) == [503]
    assert amazon.paths() == []


async def test_what_is_kept_of_amazons_is_bounded(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number at all, and in number within a minute for one connector."""
    monkeypatch.setattr(receiving, "FETCHED_MAX", 2)
    urls = [CERTIFICATE_URL.replace("9c6465fa", f"{n:08x}") for n in range(receiving.FETCHES_MAX + 2)]
    for url in urls:
        amazon.answers[url.removeprefix(f"https://{HOST}")] = (200, {}, certificate(KEY))
    answered = [await amazon.says(note(f"m-{n}", SigningCertURL=url)) for n, url in enumerate(urls)]
    assert answered == [[202]] * receiving.FETCHES_MAX + [[503]] * 2
    assert len(amazon.asked) == receiving.FETCHES_MAX
    amazon.now += timedelta(seconds=receiving.FETCHES_SECONDS)
    # Of the first, two newer ones have taken the place; of the last fetched there is still what there was.
    for n in (0, receiving.FETCHES_MAX - 1):
        assert await amazon.says(note(f"later-{n}", SigningCertURL=urls[n])) == [202]
    assert len(amazon.asked) == receiving.FETCHES_MAX + 1


async def test_a_confirmation_that_takes_long_holds_up_nobody(
    amazon: Amazon, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on meanwhile, once, and Amazon asks again."""
    is_over = threading.Event()

    class Slow(dict[str, tuple[int, dict[str, str], bytes]]):
        def __getitem__(self, path: str) -> tuple[int, dict[str, str], bytes]:
            assert path != CONFIRM or is_over.wait(30)
            return super().__getitem__(path)

    assert await amazon.says(note("m-1")) == [202]
    server.answers = Slow(server.answers)
    monkeypatch.setattr(receiving, "FETCH_WAIT_SECONDS", 0.05)
    assert await amazon.says(confirmation(), note("m-2")) == [503, 202]
    is_over.set()

    async def is_confirmed() -> bool:
        return await amazon.says(confirmation()) == [200]

    await eventually(is_confirmed)
    assert amazon.paths() == [PEM, CONFIRM]
