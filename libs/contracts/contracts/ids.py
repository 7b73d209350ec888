"""Ids: derived from what they stand for, or new and sortable by time."""

import random
from datetime import datetime
from hashlib import sha256

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26
# Five bits of each of 26 bytes: one table look-up in C instead of arithmetic on a long integer.
_FIVE_BITS = bytes(ord(_CROCKFORD[byte & 31]) for byte in range(256))


def derived_id(prefix: str, *parts: str) -> str:
    """The id that these parts always get: prefix and 26 Crockford characters (130 bits of SHA-256).

    Parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ.
    """
    return prefix + digest("".join([f"{len(part)}:{part}" for part in parts]).encode())


def issue_id(workspace_id: str, source: str, external_id: str) -> str:
    """The id of the issue that a source knows by `external_id`; the same report gives the same id."""
    return derived_id("iss_", workspace_id, source, external_id)


def new_id(prefix: str, *, now: datetime, rng: random.Random) -> str:
    """A fresh ULID: 48 bits of `now` in milliseconds, then 80 bits of `rng`; later ids sort later."""
    value = (int(now.timestamp() * 1000) << 80) | rng.getrandbits(80)
    return prefix + _crockford(value)


def digest(content: bytes) -> str:
    """130 bits of the SHA-256 of `content` as 26 Crockford characters."""
    return sha256(content).digest()[:_LENGTH].translate(_FIVE_BITS).decode()


def _crockford(value: int) -> str:
    return "".join([_CROCKFORD[(value >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)])


def remainder_id(issue_id: str, last_sequence: int) -> str:
    """Under which rows keep what stays of a purged issue: a report of the same failure begins a new issue."""
    return f"{issue_id}-{last_sequence}"
