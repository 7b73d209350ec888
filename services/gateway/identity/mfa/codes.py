"""One-time codes, pure: RFC 6238 by pyotp, and recovery codes."""

import re
from base64 import b32encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from secrets import token_bytes

import pyotp
import segno
from msgspec import Struct

STEP_SECONDS = 30
SKEW_STEPS = 1
N_RECOVERY_CODES = 10
_APPLICATION = "Causeloop"
_SEPARATORS = re.compile(r"[\s-]")


class Enrolment(Struct, frozen=True):
    """What an authenticator app is set up with.

    secret: base32. uri: otpauth://… with the secret in it. qr: the same as a data: URI of an SVG.
    """

    secret: str
    uri: str
    qr: str


def enrolment(secret: str, *, account: str) -> Enrolment:
    """The secret in the forms that people and apps take it."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=_APPLICATION)
    return Enrolment(secret, uri, segno.make(uri, error="m").svg_data_uri(scale=4, border=2))


def new_secret() -> str:
    """160 bits of chance in base32."""
    return pyotp.random_base32()


def step_of(code: str, secret: str, *, now: datetime, after: int) -> int | None:
    """The time step that this is the code of: the current one, or one beside it for clocks that differ.

    after: the newest step whose code was taken before; that one and older ones are not found.
    """
    current = int(now.timestamp()) // STEP_SECONDS
    totp = pyotp.TOTP(secret)
    found = None
    for step in range(current - SKEW_STEPS, current + SKEW_STEPS + 1):
        # All are compared, so that the time it takes tells nothing.
        if compare_digest(totp.generate_otp(step), code) and step > after:
            found = step
    return found


def new_recovery_codes() -> tuple[str, ...]:
    """Ten codes of 80 bits, grouped by four for reading."""
    texts = (b32encode(token_bytes(10)).decode().lower() for _ in range(N_RECOVERY_CODES))
    return tuple("-".join(text[at : at + 4] for at in range(0, 16, 4)) for text in texts)


def hash_recovery_code(code: str) -> str:
    """What is stored of a recovery code; how it was grouped and cased does not matter."""
    return sha256(_SEPARATORS.sub("", code).lower().encode()).hexdigest()


def hash_recovery_codes(codes: Sequence[str]) -> list[str]:
    """The same for several."""
    return [hash_recovery_code(code) for code in codes]
