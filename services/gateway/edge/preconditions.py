"""Conditional requests (RFC 9110, section 13) and preferences (RFC 7240)."""

import re
from contextvars import ContextVar
from hashlib import blake2b

from msgspec import Struct

WAIT_SECONDS = 2.0
"""How long a write waits until a GET finds it, when the caller prefers nothing."""
WAIT_SECONDS_MAX = 10.0

patience: ContextVar[float] = ContextVar("patience", default=WAIT_SECONDS)
"""How long the present request waits until a GET finds what it wrote, in seconds."""

_PREFERENCE = re.compile(r'\s*([A-Za-z-]+)\s*(?:=\s*"?([^",;]*)"?\s*)?(?:;[^,]*)?(?:,|$)')


def etag_of(representation: bytes) -> str:
    """The strong entity tag of a representation: two with the same tag have the same bytes."""
    return f'"{blake2b(representation, digest_size=16).hexdigest()}"'


def is_same(header: str, etag: str) -> bool:
    """Whether an If-None-Match names the tag, weakly compared."""
    return header.strip() == "*" or etag in (tag.removeprefix("W/") for tag in _tags(header))


def is_expected(header: str, etag: str | None) -> bool:
    """Whether an If-Match names the tag, strongly compared: a weak tag matches nothing. None: there is nothing."""
    if etag is None:
        return False
    return header.strip() == "*" or etag in _tags(header)


def _tags(header: str) -> list[str]:
    return [tag.strip() for tag in header.split(",")]


class Preference(Struct, frozen=True):
    """How long a caller is ready to wait, and how the answer names that."""

    seconds: float
    applied: str


def preference_of(header: str) -> Preference | None:
    """What a Prefer header wants of us; None when nothing that we know. What is malformed is ignored (RFC 7240)."""
    wait: int | None = None
    is_async = False
    for name, value in _PREFERENCE.findall(header):
        match name.lower():
            case "wait" if wait is None and value.strip().isdecimal() and value.isascii():
                wait = min(int(value.strip()[:9]), int(WAIT_SECONDS_MAX))
            case "respond-async":
                is_async = True
    if wait is None and not is_async:
        return None
    applied = ", ".join(
        [*(["respond-async"] if is_async else []), *([f"wait={wait}"] if wait is not None else [])]
    )
    return Preference(float(wait or 0), applied)
