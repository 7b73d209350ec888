"""Whether a webhook call comes from its vendor: a judgement of its raw bytes, secrets and a time. Pure.

Whatever is missing, unreadable or unexpected refuses. Comparisons take the same time wherever they fail.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never
from urllib.parse import parse_qsl

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from msgspec import Struct

from services.ingest.connectors.expressions import ExpressionError
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
from services.ingest.connectors.normalization import moment
from services.ingest.connectors.payloads import UnreadableError, payload_of


class Refusal(StrEnum):
    """Why a call is not believed."""

    NO_SECRET = "no_secret"  # noqa: S105 - a name
    """The connector has none."""
    MISSING = "missing"
    """The signature or the token is not there."""
    MALFORMED = "malformed"
    """It, the body or the secret cannot be read."""
    STALE = "stale"
    """The time is missing, too old or in the future."""
    MISMATCH = "mismatch"
    """It does not fit."""


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP call as it came in. url: the whole address as the vendor wrote it; headers: names in any case."""

    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"
    url: str = ""
    query: Mapping[str, str] = {}

    def header(self, name: str) -> str | None:
        """The value of a header; None where it is absent or empty."""
        wanted = name.lower()
        if found := self.headers.get(wanted):
            return found
        return next((value for key, value in self.headers.items() if key.lower() == wanted), None) or None


class Believed(Struct, frozen=True):
    """The call is genuine. secret: which of the secrets fitted, 0 is the current one."""

    secret: int


class Refused(Struct, frozen=True):
    """The call is not."""

    refusal: Refusal


class CertificateNeeded(Struct, frozen=True):
    """The signer's certificate or keys are not at hand; the address is the vendor's. Not believed until it is read."""

    url: str


Judgement = Believed | Refused | CertificateNeeded

_SVIX: Final = {"webhook": "webhook-", "svix": "svix-"}
_SNS_CERTIFICATE: Final = re.compile(
    r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/SimpleNotificationService-[0-9a-f]{32}\.pem"
)
_SNS_HASHES: Final[Mapping[str, Callable[[], hashes.HashAlgorithm]]] = {"1": hashes.SHA1, "2": hashes.SHA256}
_SNS_FIELDS: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SNS_CONFIRMATION_FIELDS: Final = (
    "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
)  # fmt: skip
_SNS_TOLERANCE: Final = timedelta(hours=1)
_PLACEHOLDER: Final = re.compile(r"\{(body|form|timestamp|method|url|h:[\w-]+)\}")
_PUBLIC: Final = re.compile(
    r"arn:aws[\w-]*:sns:.*|\s*\{.*\}\s*|[^:@\s]+@[^:@\s]+\.gserviceaccount\.com", re.DOTALL
)
"""A topic, a vendor's public keys, a sender's name: others know them, so nothing may be signed or shown with them."""
_OWN: Final = (
    Hmac(header="x-causeloop-signature"),
    Hmac(header="x-hub-signature-256", prefix="sha256="),
)
_OWN_TIMED: Final = (
    Hmac(
        header="x-causeloop-signature", timestamp_header="x-causeloop-timestamp", signed="{timestamp}.{body}"
    ),
)
_TELLING: Final = (Refusal.STALE, Refusal.MISMATCH, Refusal.MALFORMED, Refusal.MISSING, Refusal.NO_SECRET)


class _NotGenuineError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def judge_any(
    schemes: Sequence[Scheme],
    call: Call,
    *,
    secrets: Sequence[str],
    now: datetime,
    certificates: Mapping[str, bytes] | None = None,
) -> Judgement:
    """Whether the call is genuine under one of the schemes, or signed in our own way with a secret of the connector.

    Our own way: `x-causeloop-signature: <hex>` or `x-hub-signature-256: sha256=<hex>`, HMAC-SHA256 of the body with
    the secret as it is written; with `x-causeloop-timestamp` (seconds) beside the former, of `{timestamp}.{body}`.
    """
    own = _OWN if call.header("x-causeloop-timestamp") is None else _OWN_TIMED
    needed: CertificateNeeded | None = None
    refusals: list[Refusal] = []
    for scheme in (*schemes, *own):
        is_for_public = isinstance(scheme, Sns) or (isinstance(scheme, Jwt) and scheme.algorithm == "RS256")
        good = [secret for secret in secrets if bool(_PUBLIC.fullmatch(secret)) is is_for_public]
        judgement = judge(scheme, call, secrets=good, now=now, certificates=certificates)
        match judgement:
            case Believed(index):
                return Believed(secrets.index(good[index]))
            case CertificateNeeded():
                needed = judgement
            case Refused(refusal):
                refusals.append(refusal)
    return needed or Refused(min(refusals, key=_TELLING.index))


def judge(
    scheme: Scheme,
    call: Call,
    *,
    secrets: Sequence[str],
    now: datetime,
    certificates: Mapping[str, bytes] | None = None,
) -> Judgement:
    """Whether the call is genuine under the scheme.

    secrets: the current one first; during a rotation the previous one too. certificates: PEM by address, for SNS.
    """
    if not secrets or not all(secrets):
        return Refused(Refusal.NO_SECRET)
    try:
        match scheme:
            case Hmac():
                return _hmac(scheme, call, secrets, now)
            case Digest():
                return _digest(scheme, call, secrets)
            case StandardWebhooks():
                return _hmac(_standard(scheme), call, secrets, now)
            case Token():
                return _token(scheme, call, secrets)
            case BasicAuth():
                return _basic(call, secrets)
            case Jwt():
                return _jwt(scheme, call, secrets, now, certificates or {})
            case Sns():
                return _sns(call, secrets, now, certificates or {})
            case _:
                assert_never(scheme)
    except _NotGenuineError as error:
        return Refused(error.refusal)


def _hmac(scheme: Hmac, call: Call, secrets: Sequence[str], now: datetime) -> Judgement:
    header = call.header(scheme.header)
    if header is None:
        raise _NotGenuineError(Refusal.MISSING)
    timestamp = _timestamp(scheme, call, header, now)
    given = list(_signatures(scheme, header))
    if not given:
        raise _NotGenuineError(Refusal.MALFORMED)
    signed = _signed(scheme.signed, call, timestamp)
    found: int | None = None
    for index, secret in enumerate(secrets):
        digest = hmac.digest(_key(scheme, secret, timestamp), signed, scheme.algorithm)
        # Every secret and every signature is compared, so that the time says nothing of which one fitted.
        fits = [hmac.compare_digest(digest, each) for each in given]
        if any(fits) and found is None:
            found = index
    if found is None:
        raise _NotGenuineError(Refusal.MISMATCH)
    return Believed(found)


def _digest(scheme: Digest, call: Call, secrets: Sequence[str]) -> Judgement:
    given = call.header(scheme.header)
    if given is None:
        raise _NotGenuineError(Refusal.MISSING)
    before, _, after = scheme.signed.partition("{secret}")
    expected = [
        hashlib.sha256(_signed(before, call, "") + _bytes(secret) + _signed(after, call, "")).hexdigest()
        for secret in secrets
    ]
    return _same(given.strip().lower(), expected)


def _standard(scheme: StandardWebhooks) -> Hmac:
    """Standard Webhooks in the words of the general scheme. Source: its specification, 1.0."""
    start = _SVIX[scheme.headers]
    return Hmac(
        header=f"{start}signature",
        encoding="base64",
        prefix="v1,",
        split=" ",
        timestamp_header=f"{start}timestamp",
        tolerance_seconds=scheme.tolerance_seconds,
        key_encoding="base64",
        signed=f"{{h:{start}id}}.{{timestamp}}.{{body}}",
    )


def _signatures(scheme: Hmac, header: str) -> Iterator[bytes]:
    """The signatures that a header names; one that cannot be read is none."""
    parts = header.split(scheme.split) if scheme.split else [header]
    for part in (each.strip() for each in parts):
        text = part
        if scheme.signature_key is not None:
            key, equals, text = part.partition("=")
            if not equals or key.strip() != scheme.signature_key:
                continue
        if not text.startswith(scheme.prefix):
            continue
        text = text.removeprefix(scheme.prefix).strip()
        try:
            yield bytes.fromhex(text) if scheme.encoding == "hex" else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            continue


def _timestamp(scheme: Hmac, call: Call, header: str, now: datetime) -> str:
    """The time as the vendor wrote it, empty where the scheme has none; refused when it is not about now."""
    written: str | None
    if scheme.timestamp_key is not None:
        pairs = [part.strip().partition("=") for part in header.split(scheme.split or ",")]
        written = next((value for key, _, value in pairs if key == scheme.timestamp_key), None)
    elif scheme.timestamp_header is not None:
        written = call.header(scheme.timestamp_header)
    elif scheme.timestamp_path is not None:
        written = _in_body(scheme, call)
    else:
        return ""
    at = None if written is None else _moment(written, scheme.timestamp_unit)
    if written is None or at is None or abs(now - at) > timedelta(seconds=scheme.tolerance_seconds):
        raise _NotGenuineError(Refusal.STALE)
    return written


def _in_body(scheme: Hmac, call: Call) -> str | None:
    try:
        found = None if scheme.timestamp_path is None else scheme.timestamp_path.find(_json(call.body))
    except ExpressionError:
        return None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def _moment(written: str, unit: str) -> datetime | None:
    if unit == "rfc3339":
        return moment(written)
    if not re.fullmatch(r"\d{1,16}(\.\d{1,9})?", written):
        return None
    try:
        return datetime.fromtimestamp(float(written) / (1000 if unit == "ms" else 1), tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _key(scheme: Hmac, secret: str, timestamp: str) -> bytes:
    text = scheme.key.replace("{timestamp}", timestamp).replace("{secret}", secret)
    try:
        match scheme.key_encoding:
            case "utf8":
                return _bytes(text)
            case "base64":
                return base64.b64decode(text.removeprefix("whsec_"), validate=True)
            case "hex":
                return bytes.fromhex(text)
    except (ValueError, binascii.Error) as error:
        raise _NotGenuineError(Refusal.MALFORMED) from error


def _signed(template: str, call: Call, timestamp: str) -> bytes:
    """What is hashed: the template's parts as bytes, since a body need not be text."""
    parts: list[bytes] = []
    end = 0
    for found in _PLACEHOLDER.finditer(template):
        parts.append(template[end : found.start()].encode())
        match found[1]:
            case "body":
                parts.append(call.body)
            case "form":
                fields = parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True)
                parts.append(_bytes("".join(name + value for name, value in sorted(fields))))
            case "timestamp":
                parts.append(_bytes(timestamp))
            case "method":
                parts.append(_bytes(call.method.upper()))
            case "url":
                parts.append(_bytes(call.url))
            case name:
                value = call.header(name.removeprefix("h:"))
                if value is None:
                    raise _NotGenuineError(Refusal.MISSING)
                parts.append(_bytes(value))
        end = found.end()
    return b"".join([*parts, template[end:].encode()])


def _token(scheme: Token, call: Call, secrets: Sequence[str]) -> Judgement:
    given: object
    if scheme.header is not None:
        given = call.header(scheme.header)
    elif scheme.query is not None:
        given = call.query.get(scheme.query)
    else:
        try:
            said = payload_of(call.body, call.header("content-type") or "")
            given = None if scheme.path is None else scheme.path.find(said)
        except (ExpressionError, UnreadableError):
            given = None
    if not isinstance(given, str) or not given:
        raise _NotGenuineError(Refusal.MISSING)
    if not given.startswith(scheme.prefix):
        raise _NotGenuineError(Refusal.MALFORMED)
    given = given.removeprefix(scheme.prefix)
    if scheme.query is not None:
        # Half of all secrets have a +, which an address that nobody encoded says as a space.
        given, secrets = given.replace(" ", "+"), [secret.replace(" ", "+") for secret in secrets]
    return _same(given, secrets)


def _basic(call: Call, secrets: Sequence[str]) -> Judgement:
    kind, _, encoded = (call.header("authorization") or "").partition(" ")
    if not encoded:
        raise _NotGenuineError(Refusal.MISSING)
    try:
        given = base64.b64decode(encoded.strip(), validate=True).decode() if kind.lower() == "basic" else ""
    except (ValueError, binascii.Error):
        given = ""
    if not given:
        raise _NotGenuineError(Refusal.MALFORMED)
    return _same(given, secrets)


def _same(given: str, secrets: Sequence[str]) -> Judgement:
    fits = [hmac.compare_digest(_bytes(given), _bytes(secret)) for secret in secrets]
    if True not in fits:
        raise _NotGenuineError(Refusal.MISMATCH)
    return Believed(fits.index(True))


def _jwt(
    scheme: Jwt, call: Call, secrets: Sequence[str], now: datetime, certificates: Mapping[str, bytes]
) -> Judgement:
    """A token that is signed, meant for us, of this body and of now. Source: RFC 7519, RFC 8725."""
    header = call.header(scheme.header)
    if header is None:
        raise _NotGenuineError(Refusal.MISSING)
    if not header.startswith(scheme.prefix):
        raise _NotGenuineError(Refusal.MALFORMED)
    token = header.removeprefix(scheme.prefix).strip()
    if scheme.keys_url is not None:
        if scheme.keys_url not in certificates:
            return CertificateNeeded(scheme.keys_url)
        claims = _claims(scheme, token, certificates[scheme.keys_url].decode(errors="replace"))
        if claims is None or claims.get("email_verified") is False:
            raise _NotGenuineError(Refusal.MISMATCH)
        _check_claims(scheme, claims, call, now)
        return _same(str(claims.get(scheme.identity_claim) or ""), secrets)
    for index, secret in enumerate(secrets):
        claims = _claims(scheme, token, secret)
        if claims is not None:
            _check_claims(scheme, claims, call, now)
            return Believed(index)
    raise _NotGenuineError(Refusal.MISMATCH)


def _claims(scheme: Jwt, token: str, key: str) -> dict[str, object] | None:
    """The claims of a token that this key, or one of this key set, has signed; None otherwise."""
    try:
        if scheme.algorithm == "HS256":
            return dict(jwt.decode(token, OctKey.import_key(key), algorithms=["HS256"]).claims)
        keys = KeySet.import_key_set(json.loads(key))
        return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _check_claims(scheme: Jwt, claims: Mapping[str, object], call: Call, now: datetime) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if scheme.issuer is not None and claims.get("iss") != scheme.issuer:
        raise _NotGenuineError(Refusal.MISMATCH)
    if scheme.audience is not None and scheme.audience.replace("{url}", call.url) not in audiences:
        raise _NotGenuineError(Refusal.MISMATCH)
    if scheme.body_hash_claim is not None:
        given = str(claims.get(scheme.body_hash_claim) or "").lower()
        if not hmac.compare_digest(_bytes(given), hashlib.sha256(call.body).hexdigest().encode()):
            raise _NotGenuineError(Refusal.MISMATCH)
    expires, begins = claims.get("exp"), claims.get("nbf")
    if expires is None and not scheme.requires_expiry:
        return
    if not isinstance(expires, int | float) or expires <= now.timestamp():
        raise _NotGenuineError(Refusal.STALE)
    if isinstance(begins, int | float) and begins > now.timestamp() + 60:
        raise _NotGenuineError(Refusal.STALE)


def _sns(call: Call, secrets: Sequence[str], now: datetime, certificates: Mapping[str, bytes]) -> Judgement:
    """Source: Amazon SNS developer guide, "Verifying the signatures of Amazon SNS messages"."""
    message = _json(call.body)
    if not isinstance(message, dict):
        raise _NotGenuineError(Refusal.MALFORMED)
    believed = _same(_text(message, "TopicArn"), secrets)
    url, version = _text(message, "SigningCertURL"), _text(message, "SignatureVersion")
    if not _SNS_CERTIFICATE.fullmatch(url) or version not in _SNS_HASHES:
        raise _NotGenuineError(Refusal.MALFORMED)
    at = moment(_text(message, "Timestamp"))
    if at is None or abs(now - at) > _SNS_TOLERANCE:
        raise _NotGenuineError(Refusal.STALE)
    if url not in certificates:
        return CertificateNeeded(url)
    is_confirmation = message.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation")
    names = _SNS_CONFIRMATION_FIELDS if is_confirmation else _SNS_FIELDS
    signed = "".join(
        f"{name}\n{_text(message, name)}\n" for name in names if name != "Subject" or name in message
    )
    try:
        key = load_pem_x509_certificate(certificates[url]).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise _NotGenuineError(Refusal.MALFORMED)
        signature = base64.b64decode(_text(message, "Signature"), validate=True)
        key.verify(signature, _bytes(signed), padding.PKCS1v15(), _SNS_HASHES[version]())
    except InvalidSignature as error:
        raise _NotGenuineError(Refusal.MISMATCH) from error
    except (ValueError, binascii.Error) as error:
        raise _NotGenuineError(Refusal.MALFORMED) from error
    return believed


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not value:
        raise _NotGenuineError(Refusal.MISSING if name == "Signature" else Refusal.MALFORMED)
    return value


def _bytes(text: str) -> bytes:
    """UTF-8, whatever somebody put into a header or into JSON: half a surrogate pair is no reason to fail."""
    return text.encode(errors="surrogatepass")


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
