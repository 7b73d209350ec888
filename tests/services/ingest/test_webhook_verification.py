"""Webhooks: genuine calls are believed, and nothing else is, whatever the scheme."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from services.ingest.connectors.manifest import (
    BasicAuth,
    Digest,
    Hmac,
    Jwt,
    Scheme,
    Sns,
    StandardWebhooks,
    Token,
)
from services.ingest.connectors.registry import catalogue, manifest_of
from services.ingest.connectors.verification import (
    Believed,
    Call,
    CertificateNeeded,
    Refusal,
    Refused,
    judge,
    judge_any,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = "kept-between-the-two-of-us-and-long-enough"
OLD = "what-it-was-before-the-rotation-long-enough"
KEY64 = "whsec_" + base64.b64encode(SECRET.encode()).decode()
OLD64 = "whsec_" + base64.b64encode(OLD.encode()).decode()
HEX = SECRET.encode().hex()
BODY = b'{"event": {"id": "1", "bytes": "\xc3\xa9"}, "webhookTimestamp": 1795348800000}'
URL = "https://api.example.com/v1/webhooks/inbound/con_1"
SECONDS = str(int(NOW.timestamp()))
MILLIS = f"{SECONDS}000"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
CERTIFICATE_URL = f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{'9c6465fa' * 4}.pem"


def digest(signed: bytes, *, key: str = SECRET, algorithm: str = "sha256") -> bytes:
    return hmac.digest(key.encode(), signed, algorithm)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def scheme_of(type_: str, index: int = 0) -> Scheme:
    webhook = manifest_of(type_).webhook
    assert webhook is not None
    return webhook.verify[index]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One way to sign: how a vendor makes the headers (or the query) of a call.

    timed: the time is part of it, so that an old call is refused. covers: the body is part of it.
    """

    name: str
    scheme: Scheme
    sign: Callable[[str], dict[str, str]]
    secret: str = SECRET
    old: str = OLD
    timed: bool = False
    covers: bool = True
    query: bool = False
    in_body: Callable[[str], bytes] | None = None


FAMILIES = [
    Family(
        name="github",
        scheme=scheme_of("github"),
        sign=lambda key: {"X-Hub-Signature-256": f"sha256={digest(BODY, key=key).hex()}"},
    ),
    Family(
        name="pagerduty, one of two",
        scheme=scheme_of("pagerduty"),
        sign=lambda key: {"x-pagerduty-signature": f"v1={'0' * 64},v1={digest(BODY, key=key).hex()}"},
    ),
    Family(
        name="linear, time in the body",
        scheme=scheme_of("linear"),
        sign=lambda key: {"Linear-Signature": digest(BODY, key=key).hex()},
        timed=True,
    ),
    Family(
        name="slack",
        scheme=scheme_of("slack"),
        sign=lambda key: {
            "X-Slack-Signature": f"v0={digest(b'v0:' + SECONDS.encode() + b':' + BODY, key=key).hex()}",
            "X-Slack-Request-Timestamp": SECONDS,
        },
        timed=True,
    ),
    Family(
        name="rootly, t= and v1=",
        scheme=scheme_of("rootly"),
        sign=lambda key: {
            "X-Rootly-Signature": f"t={SECONDS},v1={digest(SECONDS.encode() + BODY, key=key).hex()}"
        },
        timed=True,
    ),
    Family(
        name="buildkite, timestamp= and signature=",
        scheme=scheme_of("buildkite"),
        sign=lambda key: {
            "X-Buildkite-Signature": (
                f"timestamp={SECONDS},signature={digest(SECONDS.encode() + b'.' + BODY, key=key).hex()}"
            )
        },
        timed=True,
    ),
    Family(
        name="zendesk, RFC 3339 and base64",
        scheme=scheme_of("zendesk"),
        sign=lambda key: {
            "X-Zendesk-Webhook-Signature": b64(digest(b"2026-11-22T12:00:00Z" + BODY, key=key)),
            "X-Zendesk-Webhook-Signature-Timestamp": "2026-11-22T12:00:00Z",
        },
        timed=True,
    ),
    Family(
        name="hubspot, method and address",
        scheme=scheme_of("hubspot"),
        sign=lambda key: {
            "X-HubSpot-Signature-v3": b64(digest(b"POST" + URL.encode() + BODY + MILLIS.encode(), key=key)),
            "X-HubSpot-Request-Timestamp": MILLIS,
        },
        timed=True,
    ),
    Family(
        name="trello, SHA-1 of body and address",
        scheme=scheme_of("trello"),
        sign=lambda key: {"X-Trello-Webhook": b64(digest(BODY + URL.encode(), key=key, algorithm="sha1"))},
    ),
    Family(
        name="terraform, SHA-512",
        scheme=scheme_of("terraform"),
        sign=lambda key: {"X-TFE-Notification-Signature": digest(BODY, key=key, algorithm="sha512").hex()},
    ),
    Family(
        name="fivetran, upper case",
        scheme=scheme_of("fivetran"),
        sign=lambda key: {"X-Fivetran-Signature-256": digest(BODY, key=key).hex().upper()},
    ),
    Family(
        name="gitguardian, time in the key",
        scheme=scheme_of("gitguardian"),
        sign=lambda key: {
            "Gitguardian-Signature": f"sha256={digest(BODY, key=SECONDS + key).hex()}",
            "Timestamp": SECONDS,
        },
        timed=True,
    ),
    Family(
        name="teams, key in base64",
        scheme=scheme_of("teams"),
        sign=lambda key: {
            "Authorization": "HMAC "
            + b64(hmac.digest(base64.b64decode(key.removeprefix("whsec_")), BODY, "sha256"))
        },
        secret=KEY64,
        old=OLD64,
    ),
    Family(
        name="key in hex",
        scheme=Hmac(header="X-Signature", key_encoding="hex"),
        sign=lambda key: {"X-Signature": hmac.digest(bytes.fromhex(key), BODY, "sha256").hex()},
        secret=HEX,
        old=OLD.encode().hex(),
    ),
    *(
        Family(
            name=f"standard webhooks, {start}",
            scheme=StandardWebhooks(headers=start),
            sign=lambda key, start=start: {
                f"{start}-id": "msg_1",
                f"{start}-timestamp": SECONDS,
                f"{start}-signature": "v1a,zz v1,"
                + b64(
                    hmac.digest(
                        base64.b64decode(key.removeprefix("whsec_")),
                        b"msg_1." + SECONDS.encode() + b"." + BODY,
                        "sha256",
                    )
                ),
            },
            secret=KEY64,
            old=OLD64,
            timed=True,
        )
        for start in ("webhook", "svix")
    ),
    Family(
        name="hubspot's older hash",
        scheme=scheme_of("hubspot", 1),
        sign=lambda key: {"X-HubSpot-Signature": hashlib.sha256(key.encode() + BODY).hexdigest()},
    ),
    Family(
        name="crisp, time and body in brackets",
        scheme=Hmac(
            header="X-Crisp-Signature",
            timestamp_header="X-Crisp-Request-Timestamp",
            timestamp_unit="ms",
            signed="[{timestamp};{body}]",
        ),
        sign=lambda key: {
            "X-Crisp-Signature": digest(b"[" + MILLIS.encode() + b";" + BODY + b"]", key=key).hex(),
            "X-Crisp-Request-Timestamp": MILLIS,
        },
        timed=True,
    ),
    Family(
        name="stripe, t= and v1= with a dot",
        scheme=Hmac(
            header="Stripe-Signature",
            split=",",
            signature_key="v1",
            timestamp_key="t",
            signed="{timestamp}.{body}",
        ),
        sign=lambda key: {
            "Stripe-Signature": f"t={SECONDS},v1={digest(SECONDS.encode() + b'.' + BODY, key=key).hex()},v0=00"
        },
        timed=True,
    ),
    Family(
        name="graph's client state",
        scheme=scheme_of("entra_id"),
        sign=lambda _: {},
        covers=False,
        in_body=lambda key: json.dumps({"value": [{"clientState": key}]}).encode(),
    ),
    Family(
        name="gitlab's older token",
        scheme=scheme_of("gitlab", 1),
        sign=lambda key: {"X-Gitlab-Token": key},
        covers=False,
    ),
    Family(
        name="bearer token",
        scheme=Token(header="Authorization", prefix="Bearer "),
        sign=lambda key: {"Authorization": f"Bearer {key}"},
        covers=False,
    ),
    Family(
        name="token in the address",
        scheme=Token(query="token"),
        sign=lambda key: {"token": key},
        covers=False,
        query=True,
    ),
    Family(
        name="basic",
        scheme=BasicAuth(),
        sign=lambda key: {"Authorization": "Basic " + b64(key.encode())},
        secret="user:" + SECRET,
        old="user:" + OLD,
        covers=False,
    ),
    Family(
        name="netlify, JWT with the body's hash",
        scheme=scheme_of("netlify"),
        sign=lambda key: {
            "X-Webhook-Signature": jwt.encode(
                {"alg": "HS256"},
                {"iss": "netlify", "sha256": hashlib.sha256(BODY).hexdigest()},
                OctKey.import_key(key),
            )
        },
    ),
    Family(
        name="JWT that expires, as Monday and Jira send it",
        scheme=Jwt(prefix="Bearer "),
        sign=lambda key: {
            "Authorization": "Bearer "
            + jwt.encode({"alg": "HS256"}, {"exp": int(NOW.timestamp()) + 60}, OctKey.import_key(key))
        },
        timed=True,
        covers=False,
    ),
]


def call(family: Family, *, key: str, body: bytes = BODY) -> Call:
    made = family.sign(key)
    return Call(
        body=body if family.in_body is None else family.in_body(key),
        headers={} if family.query else made,
        query=made if family.query else {},
        url=URL,
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_genuine_call_is_believed(family: Family) -> None:
    """As the vendor signs it."""
    assert Believed(0) == judge(
        family.scheme, call(family, key=family.secret), secrets=[family.secret], now=NOW
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_during_a_rotation_both_secrets_are_good_and_then_only_the_new_one(family: Family) -> None:
    """The previous secret stands behind the current one."""
    sent = call(family, key=family.old)
    assert Believed(1) == judge(family.scheme, sent, secrets=[family.secret, family.old], now=NOW)
    assert Refused(Refusal.MISMATCH) == judge(family.scheme, sent, secrets=[family.secret], now=NOW)


@pytest.mark.parametrize("family", [each for each in FAMILIES if each.covers], ids=lambda family: family.name)
def test_a_changed_body_is_refused(family: Family) -> None:
    """One byte is enough."""
    sent = call(family, key=family.secret, body=BODY.replace(b'"1"', b'"2"'))
    assert Refused(Refusal.MISMATCH) == judge(family.scheme, sent, secrets=[family.secret], now=NOW)


@pytest.mark.parametrize("family", [each for each in FAMILIES if each.timed], ids=lambda family: family.name)
@pytest.mark.parametrize("late", [timedelta(minutes=6), timedelta(days=-2)])
def test_a_call_of_another_time_is_refused(family: Family, late: timedelta) -> None:
    """Played again later, or from a clock that is wrong; a token that expires later is good until then."""
    if isinstance(family.scheme, Jwt) and late < timedelta():
        return
    sent = call(family, key=family.secret)
    assert Refused(Refusal.STALE) == judge(family.scheme, sent, secrets=[family.secret], now=NOW + late)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("spoilt", ["absent", "empty", "garbled", "non-ascii"])
def test_a_call_without_its_proof_is_refused(family: Family, spoilt: str) -> None:
    """No header, nothing in it, and what cannot be read; an error would be a way in as well."""
    good = call(family, key=family.secret)
    value = {"empty": "", "garbled": "v1=%%", "non-ascii": "é\ud800"}.get(spoilt)
    spoil = lambda pairs: {} if value is None else dict.fromkeys(pairs, value)  # noqa: E731
    sent = msgspec.structs.replace(good, headers=spoil(good.headers), query=spoil(good.query))
    if family.in_body is not None:
        sent = msgspec.structs.replace(sent, body=b"{}" if value is None else value.encode(errors="replace"))
    assert isinstance(judge(family.scheme, sent, secrets=[family.secret], now=NOW), Refused)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("secrets", [[], [""], [SECRET, ""]])
def test_without_a_secret_nobody_is_believed(family: Family, secrets: list[str]) -> None:
    """An empty key would let everybody sign."""
    sent = call(family, key=family.secret)
    assert Refused(Refusal.NO_SECRET) == judge(family.scheme, sent, secrets=secrets, now=NOW)


def test_the_example_that_github_publishes_is_believed() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    sent = Call(body=b"Hello, World!", headers={"X-Hub-Signature-256": signature})
    assert Believed(0) == judge(scheme_of("github"), sent, secrets=["It's a Secret to Everybody"], now=NOW)


def test_the_example_that_slack_publishes_is_believed() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    sent = Call(body=body, headers=headers)
    at = datetime.fromtimestamp(1531420618, tz=UTC)
    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    assert Believed(0) == judge(scheme_of("slack"), sent, secrets=[secret], now=at)


def test_the_example_of_the_standard_is_believed() -> None:
    """The vector of the reference libraries of Standard Webhooks."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    sent = Call(body=b'{"test": 2432232314}', headers=headers)
    at = datetime.fromtimestamp(1614265330, tz=UTC)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert Believed(0) == judge(StandardWebhooks(), sent, secrets=[secret], now=at)


def test_a_token_that_is_meant_for_others_or_of_others_is_refused() -> None:
    """RS256 with the vendor's keys: the signature alone is not enough."""
    google = "https://accounts.google.com"
    scheme = Jwt(prefix="Bearer ", algorithm="RS256", issuer=google, audience="{url}")
    key = RSAKey.generate_key(2048, parameters={"kid": "1"})
    keys = json.dumps(KeySet([key]).as_dict(private=False))

    def judged(**said: object) -> object:
        claims = {"exp": int(NOW.timestamp()) + 60, **said}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
        sent = Call(body=b"{}", url=URL, headers={"Authorization": f"Bearer {token}"})
        return judge(scheme, sent, secrets=[keys], now=NOW)

    assert Believed(0) == judged(iss=google, aud=URL)
    assert Refused(Refusal.MISMATCH) == judged(iss=google, aud="https://elsewhere.example.com")
    assert Refused(Refusal.MISMATCH) == judged(iss="https://evil.example.com", aud=URL)
    assert Refused(Refusal.MISMATCH) == judged(aud=URL)
    assert Refused(Refusal.STALE) == judged(iss=google, aud=URL, exp=int(NOW.timestamp()) - 1)


def test_a_token_must_be_signed_as_agreed() -> None:
    """ "none", and a public key used as a shared one, are the classics."""
    unsigned = "eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9."
    sent = Call(body=b"", headers={"Authorization": unsigned})
    assert Refused(Refusal.MISMATCH) == judge(Jwt(), sent, secrets=[SECRET], now=NOW)
    key = RSAKey.generate_key(2048)
    public = json.dumps(KeySet([key]).as_dict(private=False))
    forged = jwt.encode({"alg": "HS256"}, {"exp": 9999999999}, OctKey.import_key(public))
    sent = Call(body=b"", headers={"Authorization": forged})
    assert Refused(Refusal.MISMATCH) == judge(Jwt(algorithm="RS256"), sent, secrets=[public], now=NOW)


def signed_message(key: rsa.RSAPrivateKey, **changes: str) -> dict[str, str]:
    """A notification as Amazon SNS sends it, version 2."""
    message = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Subject": "ALARM",
        "Message": '{"AlarmName": "a"}',
        "Timestamp": "2026-11-22T11:59:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        **changes,
    }
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if message["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names)
    algorithm = hashes.SHA1() if message["SignatureVersion"] == "1" else hashes.SHA256()
    message["Signature"] = b64(key.sign(text.encode(), padding.PKCS1v15(), algorithm))
    return message


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_amazon_sns_is_believed_by_its_certificate_and_topic_alone() -> None:
    """Both versions, and the confirmation; nothing that was changed, is old, or is another's."""
    key, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    certificates = {CERTIFICATE_URL: certificate(key)}

    def judged(message: dict[str, str], **at_hand: object) -> object:
        sent = Call(body=json.dumps(message).encode(), headers={})
        return judge(Sns(), sent, secrets=[TOPIC], now=NOW, **{"certificates": certificates, **at_hand})

    good = signed_message(key)
    confirmation = {"Type": "SubscriptionConfirmation", "SubscribeURL": "https://x", "Token": "t"}
    assert Believed(0) == judged(good)
    assert Believed(0) == judged(signed_message(key, SignatureVersion="1"))
    assert Believed(0) == judged(signed_message(key, **confirmation))
    assert CertificateNeeded(CERTIFICATE_URL) == judged(good, certificates={})
    assert Refused(Refusal.MISMATCH) == judged({**good, "Message": "{}"})
    assert Refused(Refusal.MISMATCH) == judged({**good, "TopicArn": TOPIC + "2"})
    assert Refused(Refusal.MISMATCH) == judged(signed_message(other))
    assert Refused(Refusal.STALE) == judged(signed_message(key, Timestamp="2026-11-22T10:00:00.000Z"))
    assert Refused(Refusal.MALFORMED) == judged(signed_message(key, SignatureVersion="3"))
    assert Refused(Refusal.MISSING) == judged({k: v for k, v in good.items() if k != "Signature"})


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-west-1.amazonaws.com.evil.example.com/a.pem",
        "https://evil.example.com/sns.eu-west-1.amazonaws.com/a.pem",
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example.com/a.pem",
        "https://s3.eu-west-1.amazonaws.com/mine/a.pem",
    ],
)
def test_a_certificate_is_never_asked_of_others(url: str) -> None:
    """Otherwise anybody could sign for Amazon, and let us fetch what they like."""
    key = rsa.generate_private_key(65537, 2048)
    sent = Call(body=json.dumps(signed_message(key, SigningCertURL=url)).encode(), headers={})
    judged = judge(Sns(), sent, secrets=[TOPIC], now=NOW, certificates={url: certificate(key)})
    assert Refused(Refusal.MALFORMED) == judged


def test_every_scheme_of_the_catalogue_refuses_a_bare_call() -> None:
    """No manifest is open by mistake."""
    schemes = [(m.type, scheme) for m in catalogue() if m.webhook for scheme in m.webhook.verify]
    bare = Call(body=b"{}", headers={"Host": "api.example.com"}, url=URL)
    open_ = [t for t, s in schemes if not isinstance(judge(s, bare, secrets=[SECRET], now=NOW), Refused)]
    assert open_ == []
    assert len(schemes) > 80


def test_twilio_signs_the_address_and_the_sorted_fields_of_a_form() -> None:
    """The example of https://www.twilio.com/docs/usage/security, with another key."""
    scheme = Hmac(header="X-Twilio-Signature", algorithm="sha1", encoding="base64", signed="{url}{form}")
    body = b"To=%2B18005551212&CallSid=CA1&From=%2B14158675310&Digits=1234"
    signed = URL + "CallSidCA1Digits1234From+14158675310To+18005551212"
    good = Call(
        body=body,
        url=URL,
        headers={"X-Twilio-Signature": b64(digest(signed.encode(), algorithm="sha1"))},
    )
    assert Believed(0) == judge(scheme, good, secrets=[SECRET], now=NOW)
    for changed in (body.replace(b"1234", b"1235"), b"\xff", b""):
        sent = msgspec.structs.replace(good, body=changed)
        assert Refused(Refusal.MISMATCH) == judge(scheme, sent, secrets=[SECRET], now=NOW)


def test_google_is_believed_by_its_keys_and_only_for_the_sender_that_was_named() -> None:
    """Anybody can have Google sign a token for our address; who it is has to be the one that was agreed."""
    scheme, key = scheme_of("gcp_monitoring", 2), RSAKey.generate_key(2048, parameters={"kid": "1"})
    assert isinstance(scheme, Jwt) and scheme.keys_url is not None
    keys = {scheme.keys_url: json.dumps(KeySet([key]).as_dict(private=False)).encode()}
    sender = "alerts@project.iam.gserviceaccount.com"

    def judged(at_hand: dict[str, bytes] = keys, **said: object) -> object:
        claims = {"exp": int(NOW.timestamp()) + 60, "iss": "https://accounts.google.com", "aud": URL, **said}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
        sent = Call(body=b"{}", url=URL, headers={"Authorization": f"Bearer {token}"})
        return judge_any([scheme], sent, secrets=[sender], now=NOW, certificates=at_hand)

    assert Believed(0) == judged(email=sender)
    assert CertificateNeeded(scheme.keys_url) == judged({}, email=sender)
    assert Refused(Refusal.MISMATCH) == judged(email="evil@project.iam.gserviceaccount.com")
    assert Refused(Refusal.MISMATCH) == judged(email=sender, email_verified=False)
    assert Refused(Refusal.MISMATCH) == judged(email=sender, aud="https://elsewhere.example.com")
    assert Refused(Refusal.STALE) == judged(email=sender, exp=int(NOW.timestamp()) - 1)


def own(key: str = SECRET, *, at: str | None = None, body: bytes = BODY) -> Call:
    """A call that is signed in our own way."""
    signed = body if at is None else at.encode() + b"." + body
    headers = {"x-causeloop-signature": digest(signed, key=key).hex()}
    return Call(body=body, headers=headers if at is None else {**headers, "x-causeloop-timestamp": at})


@pytest.mark.parametrize("type_", ["github", "aws_cloudwatch", "datadog", "netlify"])
def test_our_own_signature_is_good_for_every_type(type_: str) -> None:
    """In either of its headers, with or without a time; tampered, stale or with another's key it is not."""
    webhook = manifest_of(type_).webhook
    assert webhook is not None

    def judged(call: Call, *secrets: str) -> object:
        return judge_any(webhook.verify, call, secrets=secrets or [SECRET, OLD], now=NOW)

    as_hub = Call(body=BODY, headers={"X-Hub-Signature-256": f"sha256={digest(BODY).hex()}"})
    assert Believed(0) == judged(own()) == judged(as_hub) == judged(own(at=SECONDS))
    assert Believed(1) == judged(own(OLD)) == judged(own(OLD, at=SECONDS))
    assert Refused(Refusal.MISMATCH) == judged(own(OLD), SECRET)
    assert Refused(Refusal.MISMATCH) == judged(msgspec.structs.replace(own(), body=BODY + b" "))
    late = str(int(NOW.timestamp()) - 301)
    assert Refused(Refusal.STALE) == judged(own(at=late))
    other_time = {**own(at=SECONDS).headers, "x-causeloop-timestamp": str(int(SECONDS) - 1)}
    assert Refused(Refusal.MISMATCH) == judged(Call(body=BODY, headers=other_time))
    unsaid = {"x-causeloop-signature": own(at=SECONDS).headers["x-causeloop-signature"]}
    assert Refused(Refusal.MISMATCH) == judged(Call(body=BODY, headers=unsaid))
    assert isinstance(judged(Call(body=BODY, headers={})), Refused)


def test_what_others_know_signs_nothing() -> None:
    """A topic's name, a vendor's public keys and a sender's name only stand for what they are."""
    google = json.dumps(KeySet([RSAKey.generate_key(2048)]).as_dict(private=False))
    for type_, known in (
        ("aws_cloudwatch", TOPIC),
        ("gcp_monitoring", google),
        ("gcp_monitoring", "alerts@project.iam.gserviceaccount.com"),
    ):
        webhook = manifest_of(type_).webhook
        assert webhook is not None
        as_token = Call(body=BODY, headers={}, query={"auth_token": known})
        for sent in (own(known), as_token):
            assert isinstance(judge_any(webhook.verify, sent, secrets=[known], now=NOW), Refused)


def test_every_scheme_of_the_catalogue_is_tried_by_a_family() -> None:
    """A new kind of scheme has to come with its suite."""
    tried = {type(family.scheme) for family in FAMILIES} | {Sns}
    used = {type(scheme) for each in catalogue() if each.webhook for scheme in each.webhook.verify}
    assert used <= tried and Digest in used
