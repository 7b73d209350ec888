"""What must not leave, in the shapes that logs have it in."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.engine.evidence import Failure, explain
from services.gateway.engine.redacting import MARKS, Redaction, redact

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
SECRET = "hunter2hunter"
SHAPES = (
    "Login failed password: {} for bob",
    "password={}&user=bob",
    '{{"password":"{}"}}',
    '{{"password": "{}, and a comma"}}',
    r"{{\"password\":\"{}\"}}",
    r"{{\\\"passphrase\\\": \\\"a {}\\\"}}",
    '"tokens": ["one", "{}"]',
    '"cookies": {{\n  "sid": "{}"\n}}',
    "password%22%3A%22{}%22",
    "Cookie: a=1; sid={}",
    "Set-Cookie: a=1; Path=/; sid={}",
    r'"request": "GET /\r\nCookie: a=1; sid={}\r\nHost: x"',
    "Authorization: ApiKey {}",
    "Proxy-Authorization: Negotiate x {}",
    "{{'Authorization': 'AWS4-HMAC-SHA256 Credential=x, Signature={}'}}",
    "sent bearer {}",
    "redis://:{}@cache:6379/0",
    "amqp://user:{}@queue",
    "https://{}@github.example/x.git",
    "postgres://user:a@{}@db/x",
    "<password>{}</password>",
    '<ns:db-password type="plain">{}</ns:db-password>',
    "<secret><![CDATA[a < {}]]></secret>",
    "&lt;password&gt;{}&lt;/password&gt;",
    '<add key="DbPassword" value="{}"/>',
    '<property name="db.password">{}</property>',
    '{{"name": "DB_PASSWORD", "value": "{}"}}',
    "passphrase: {}",
    "pass={}",
    "DB_PASS={}",
    "AccountKey={}",
    "--db-password {} --verbose",
    "mysql -u root -p{} shop",
    "curl -s -u bob:{} https://x",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{}\n-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN RSA PRIVATE KEY-----\n{}",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\n{}\nPrivate-MAC: 0a",
)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_stays_whatever_its_shape(shape: str) -> None:
    """Nor when the text was redacted before: a prompt's evidence is made of redacted titles."""
    once = redact(shape.format(SECRET), Redaction())
    assert SECRET not in once
    assert any(mark in once for mark in MARKS)
    assert redact(once, Redaction()) == once


def test_keys_of_providers_are_found_in_any_case() -> None:
    """AWS's are told by their prefix and length, so that a text in lower case has none either."""
    for key in ("AKIAIOSFODNN7EXAMPLE", "akiaiosfodnn7example"):
        assert redact(f"key {key} is unknown", Redaction()) == "key «secret» is unknown"


@pytest.mark.parametrize(
    "text",
    [
        "passed: 12 tests, bypass=true, compass: north",
        "region asia-northeast1 does not answer",
        "https://shop.example:8443/cart?item=7 answered 500",
        "<title>Gateway timeout</title>",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A failure has to be told from what is left."""
    assert redact(text, Redaction()) == text


@pytest.mark.parametrize(
    "part", ["password", "<pass ", "-----BEGIN PRIVATE KEY", 'key="', "a://", "mysql ", "cookie:"]
)
def test_a_hostile_text_takes_no_time(part: str) -> None:
    """Linear in the text: 64 KiB of what patterns begin with."""
    began = time.process_time()
    redact(part * (65_536 // len(part)), Redaction())
    assert time.process_time() - began < 1.0


def test_no_word_is_cut_from_a_secret() -> None:
    """Sentences about words of titles are made of what is left of the titles."""
    leaking = f"Login failed password: {SECRET} for bob@acme.example"

    def failures(title: str, count: int) -> list[Failure]:
        return [
            Failure(
                issue_id=f"iss_{title[0]}{n}",
                title=title,
                occurred_at=BEGIN + timedelta(hours=n),
                source="api",
            )
            for n in range(count)
        ]

    members, others = failures(redact(leaking, Redaction()), 5), failures("Disk full", 60)
    said = " ".join(statement.text for statement in explain(members, others).statements)
    assert "“login”" in said
    for word in ("hunter2", "acme", "secret", "e-mail"):
        assert word not in said
