"""The order of versions, as far as there is one; where there is none, nothing is guessed."""

import re
from typing import Literal

from msgspec import Struct

Order = Literal["older", "same", "newer", "unknown"]

_SHAPE = re.compile(
    r"(?:(?P<package>[^\s@]+)@)?v?(?P<numbers>\d{1,15}(?:\.\d{1,15}){0,5})"
    r"(?:-(?P<tags>[0-9a-z-]+(?:\.[0-9a-z-]+)*))?(?:\+[0-9a-z.-]+)?",
    re.IGNORECASE,
)
_LENGTH_MAX = 200

_Tag = tuple[int, int, str]


class _Version(Struct, frozen=True):
    """A version taken apart. tags: of a pre-release, comparable; is_bare: a number without dots."""

    package: str
    numbers: tuple[int, ...]
    tags: tuple[_Tag, ...]
    is_bare: bool

    @property
    def key(self) -> tuple[tuple[int, ...], bool, tuple[_Tag, ...]]:
        """What it sorts by: a pre-release comes before its release."""
        return self.numbers, not self.tags, self.tags


def order_of(version: str, reference: str) -> Order:
    """How a version stands to a reference: by the numbers between its dots, as in semantic versioning.

    "v1.10" is newer than "1.9.3", "2.0.0-rc.1" older than "2.0.0", "1.2" the same as "1.2.0"; what follows a "+" does
    not count. Build numbers are compared with build numbers only, "shop@1.2" only with "shop@…". Everything else, such as
    two different commit hashes, is unknown; equal texts are the same.
    """
    if version.strip().lower() == reference.strip().lower():
        return "same"
    one, other = _taken_apart(version), _taken_apart(reference)
    if one is None or other is None or one.is_bare != other.is_bare or one.package != other.package:
        return "unknown"
    if one.key == other.key:
        return "same"
    return "older" if one.key < other.key else "newer"


def _taken_apart(text: str) -> _Version | None:
    found = _SHAPE.fullmatch(text.strip()) if len(text) <= _LENGTH_MAX else None
    if found is None:
        return None
    numbers = [int(part) for part in found["numbers"].split(".")]
    is_bare = len(numbers) == 1
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    tags = found["tags"].lower().split(".") if found["tags"] else []
    return _Version(
        package=(found["package"] or "").lower(),
        numbers=tuple(numbers),
        tags=tuple((0, int(tag), "") if tag.isdecimal() else (1, 0, tag) for tag in tags),
        is_bare=is_bare,
    )
