"""Calls by which vendors make sure of us: answered, and nothing is given away or replaced by them."""

import asyncio
import json
from base64 import b64encode
from datetime import UTC, datetime
from unittest.mock import Mock

import msgspec
import pytest
from contracts import connector
from runtime.broker import CommandContext

from services.ingest.connectors.connecting import source_of
from services.ingest.connectors.handshakes import Greeting, greet
from services.ingest.connectors.payloads import UnreadableError, payload_of
from services.ingest.connectors.registry import manifest_of
from services.ingest.connectors.verification import Call
from services.ingest.endpoints import receiving
from services.ingest.endpoints.receiving import Reception
from services.ingest.jobs.directory import Addressee

NOW = datetime(2026, 3, 1, tzinfo=UTC)

CONFIRM = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:a&Token=2336412f37"


def greeting(
    type_: str,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    body: object = None,
    is_proved: bool = False,
    has_secret: bool = False,
) -> Greeting | None:
    webhook = manifest_of(type_).webhook
    assert webhook is not None
    raw = b"" if body is None else json.dumps(body).encode()
    call = Call(body=raw, headers=headers or {}, method=method, query=query or {})
    return greet(webhook, call, body, is_proved=is_proved, has_secret=has_secret)


def test_a_challenge_is_sent_back() -> None:
    """Slack signs its own, so it is proved first; the others cannot, and nothing is kept of theirs."""
    slack = {"type": "url_verification", "token": "t", "challenge": "3eZbrw1a"}
    as_json = Greeting(body='{"challenge":"3eZbrw1a"}', content_type="application/json")
    assert greeting("slack", body=slack) is None
    assert greeting("slack", body=slack, is_proved=True) == as_json
    assert greeting("slack", body={**slack, "type": "event_callback"}, is_proved=True) is None
    assert greeting("custom_api", body={"challenge": "3eZbrw1a"}, has_secret=True) == as_json
    assert greeting("custom_api", body={"challenge": "3eZbrw1a", "event": {}}) is None
    okta = {"X-Okta-Verification-Challenge": "abc"}
    answered = Greeting(body='{"verification":"abc"}', content_type="application/json")
    assert greeting("okta", method="GET", headers=okta) == answered
    assert greeting("okta", method="POST", headers=okta) is None
    for type_ in ("teams", "entra_id", "microsoft_defender"):
        graph = greeting(type_, query={"validationToken": "<b>1 2</b>"}, has_secret=True)
        assert graph == Greeting(body="<b>1 2</b>", content_type="text/plain")
    assert greeting("trello", method="HEAD") == Greeting()
    assert greeting("trello", body={}) is None


@pytest.mark.parametrize("challenge", ["", "x" * 1001, 7, None, ["a"]])
def test_no_more_than_a_short_text_is_sent_back(challenge: object) -> None:
    """What is no challenge is judged like any delivery."""
    assert greeting("custom_api", body={"challenge": challenge}) is None


def test_a_secret_is_taken_from_the_first_call_alone() -> None:
    """A connector that has one keeps it, whoever calls."""
    hook = {"X-Hook-Secret": "b537207f20cbfa02357cf448134da559"}
    asana = greeting("asana", headers=hook)
    assert asana is not None and asana.secret == hook["X-Hook-Secret"] and not asana.is_read
    assert asana.headers == hook
    assert greeting("asana", headers=hook, has_secret=True) is None
    notion = greeting(
        "notion", body={"verification_token": "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}
    )
    assert (
        notion is not None and notion.is_read and notion.secret.startswith("secret_") and not notion.headers
    )
    for bad in ("short", "x" * 513, "line\nbreak", "ümläut-and-long-enough"):
        assert greeting("asana", headers={"X-Hook-Secret": bad}) is None


def test_a_subscription_is_confirmed_only_with_amazon_and_only_once_proved() -> None:
    """The address comes with the message, so it is fetched only where it can be nobody else's."""
    message = {"Type": "SubscriptionConfirmation", "SubscribeURL": CONFIRM}
    assert greeting("aws_cloudwatch", body=message) is None
    assert greeting("aws_cloudwatch", body=message, is_proved=True) == Greeting(confirm_at=CONFIRM)
    for address in (
        "https://sns.evil.com/?Action=ConfirmSubscription&Token=1",
        CONFIRM.replace("https", "http"),
        CONFIRM.replace("amazonaws.com/", "amazonaws.com.evil.com/"),
        CONFIRM.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRM.replace("sns.eu-west-1", "user@sns.eu-west-1"),
    ):
        assert greeting("aws_cloudwatch", body={**message, "SubscribeURL": address}, is_proved=True) is None
    assert greeting("aws_cloudwatch", body={"Type": "Notification"}, is_proved=True) is None


def test_a_body_is_json_or_a_form() -> None:
    """GitHub can send forms with JSON in them."""
    form = "application/x-www-form-urlencoded; charset=utf-8"
    assert payload_of(b'{"a": 1}', "application/json") == {"a": 1}
    assert payload_of(b'{"a": 1}', "") == {"a": 1}
    assert payload_of(b"payload=%7B%22a%22%3A+1%7D", form) == {"a": 1}
    assert payload_of(b"Status=Down&URL=x", form) == {"Status": "Down", "URL": "x"}
    for body, kind in ((b"", ""), (b"{", ""), (b"\xff", form), (b"payload=%7B", form), (b"[" * 100_000, "")):
        with pytest.raises(UnreadableError):
            payload_of(body, kind)


def a_call_of(connector_id: str, body: dict[str, str]) -> connector.VendorCall:
    sent = b64encode(msgspec.json.encode(body)).decode()
    return connector.VendorCall(
        connector_id=connector_id, method="POST", url="https://us.example/", headers={}, query={}, body=sent
    )


async def test_certificates_that_do_not_come_hold_up_nobody_elses_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever calls names the address, so one connector has few fetched, and nobody waits for them."""
    topic, secret = "arn:aws:sns:eu-west-1:1:mine", "s3cret-of-github"
    sources = {
        name: source_of(name, connector.ConnectorSettings(type=type_, display_name=name, auth=0))
        for name, type_ in (("con_a", "aws_cloudwatch"), ("con_b", "github"))
    }
    addressees = {
        name: Addressee(workspace_id="ws_1", source=source, webhook=source.manifest.webhook, secret=own)
        for (name, source), own in zip(sources.items(), (topic, secret), strict=True)
        if source.manifest.webhook is not None
    }
    asked: list[str] = []

    async def never(url: str) -> bytes:
        asked.append(url)
        await asyncio.Event().wait()
        return b""

    async def find(_: object) -> dict[str, Addressee]:
        return addressees

    monkeypatch.setattr(receiving, "FETCH_WAIT_SECONDS", 0.01)
    stranger = Mock(spec_set=["received"], received=lambda sealed, **_: sealed)
    reception = Reception(
        vault=stranger,
        directory=Mock(find=find),
        secrets=Mock(),
        outbox=Mock(),
        outbound=Mock(get=never),
        clock=lambda: NOW,
    )
    said = {"TopicArn": topic, "SignatureVersion": "1", "Timestamp": NOW.isoformat(), "Type": "Notification"}
    url = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{:032x}.pem"
    calls = [a_call_of("con_a", {**said, "SigningCertURL": url.format(n // 2)}) for n in range(62)]
    others = (
        a_call_of("con_a", {**said, "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/1.pem"}),
        a_call_of("con_b", {}),
    )
    sealed = msgspec.json.encode(connector.VendorCalls(calls=(*calls, *others))).decode()
    async with asyncio.timeout(10):
        answered = await reception.receive_delivery(
            connector.ReceiveDelivery(sealed_calls=sealed),
            CommandContext(workspace_id="-", correlation_id=""),
        )
    assert [answer.status for answer in answered.answers] == [503] * 62 + [401, 401]
    assert asked == [url.format(n) for n in range(receiving.FETCHES_MAX)]
