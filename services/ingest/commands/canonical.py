"""Canonical shape: one spelling for what sources spell differently, and a reason for what is refused."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from unicodedata import normalize

import msgspec
from contracts import ingest

EXTERNAL_ID_LENGTH_MAX = 300
TITLE_LENGTH_MAX = 300
LINE_LENGTH_MAX = 300
BODY_LENGTH_MAX = 65_536
REASON_LENGTH_MAX = 2_000
COMMENT_LENGTH_MAX = 10_000
URL_LENGTH_MAX = 2_048
METADATA_BYTES_MAX = 65_536
METADATA_DEPTH_MAX = 16
AHEAD_MAX = timedelta(days=1)

SEVERITIES: Mapping[str, ingest.Severity] = {
    **{severity.value: severity for severity in ingest.Severity},
    "critical": ingest.Severity.P1,
    "high": ingest.Severity.P2,
    "medium": ingest.Severity.P3,
    "low": ingest.Severity.P4,
}
"""Every spelling of a severity."""

STATUSES: Mapping[str, ingest.IssueStatus] = {
    **{status.value: status for status in ingest.IssueStatus},
    "open": ingest.IssueStatus.NEW,
    "in_progress": ingest.IssueStatus.MITIGATING,
}
"""Every spelling of a status; a status group becomes its first or its working member."""

GROUPS: Mapping[str, frozenset[ingest.IssueStatus]] = {
    "open": frozenset({ingest.IssueStatus.NEW, ingest.IssueStatus.ANALYZING, ingest.IssueStatus.ANALYZED}),
    "in_progress": frozenset(
        {ingest.IssueStatus.IN_LOOP, ingest.IssueStatus.PATTERN_FOUND, ingest.IssueStatus.MITIGATING}
    ),
}
"""The groups that are not statuses themselves, and their members."""

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CARRIAGE_RETURNS = re.compile(r"\r\n?")
# Terminal colours as a whole, then every control character but tab and line feed.
_CONTROLS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_URL = re.compile(r"https?://([^\s/?#\x00-\x1f\x7f]+)(?:[/?#][^\s\x00-\x1f\x7f]*)?", re.IGNORECASE)
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_sorted_encoder = msgspec.json.Encoder(order="sorted")
_plain_decoder = msgspec.json.Decoder(dict[str, object])


class Cleaner:
    """Brings field after field into canonical shape and keeps every problem, so that all are told at once."""

    __slots__ = ("_now", "problems")

    def __init__(self, *, now: datetime) -> None:
        self.problems: dict[str, str] = {}
        self._now = now

    def line(self, field: str, value: str, *, length_max: int = LINE_LENGTH_MAX) -> str:
        """One line: NFC, line breaks as spaces, no control characters, nothing around it."""
        value = value.strip() if value.isascii() and value.isprintable() else _one_line(value)
        if len(value) > length_max:
            self._too_long(field, len(value), length_max)
        return value

    def text(self, field: str, value: str, *, length_max: int = BODY_LENGTH_MAX) -> str:
        """Several lines: as `line`, but tabs and line breaks stay, the latter as line feeds."""
        # Most texts are clean; looking is much cheaper than substituting.
        if not (value.isascii() and value.replace("\n", "").replace("\t", "").isprintable()):
            value = normalize("NFC", _CONTROLS.sub("", _CARRIAGE_RETURNS.sub("\n", value)))
        value = value.strip()
        if len(value) > length_max:
            self._too_long(field, len(value), length_max)
        return value

    def external_id(self, value: str) -> str:
        """An identity: NFC and stripped; a control character is refused, since dropping it could merge two ids."""
        value = value.strip()
        if not (value.isascii() and value.isprintable()):
            value = normalize("NFC", value)
            if _CONTROLS.search(value) or _LINE_BREAKS.search(value):
                self.problems["external_id"] = "holds a control character; remove it"
        if len(value) > EXTERNAL_ID_LENGTH_MAX:
            self._too_long("external_id", len(value), EXTERNAL_ID_LENGTH_MAX)
        return value

    def one_of(self, field: str, value: str, spellings: Mapping[str, T]) -> T | None:
        """What a spelling in any case stands for; None, and a problem, for one that nobody knows."""
        known = spellings.get(value)
        if known is None:
            known = spellings.get(slug(value))
        if known is None:
            self.problems[field] = f"{value[:40]!r} is none of {', '.join(spellings)}; use one of them"
        return known

    def url(self, field: str, value: str) -> str:
        """An http or https address without a user name or password."""
        value = value.strip()
        if not value:
            return value
        found = _URL.fullmatch(value)
        if len(value) > URL_LENGTH_MAX:
            self._too_long(field, len(value), URL_LENGTH_MAX)
        elif found is None:
            self.problems[field] = "is not an address; use http:// or https:// and no spaces"
        elif "@" in found.group(1):
            self.problems[field] = "holds a user name or password; remove it"
        return value

    def moment(self, field: str, value: datetime) -> datetime:
        """A time in UTC, between 1970 and a day from now."""
        if value.tzinfo is not UTC:
            if value.utcoffset() is None:
                self.problems[field] = "has no time zone; end it with Z or with an offset"
                return self._now
            try:
                value = value.astimezone(UTC)
            except OverflowError:
                value = _EPOCH - AHEAD_MAX
        if value > self._now + AHEAD_MAX:
            self.problems[field] = (
                "lies more than a day in the future; correct the source's clock or time zone"
            )
        elif value < _EPOCH:
            self.problems[field] = "lies before 1970; send the real time or leave it out"
        return value

    def metadata(self, value: dict[str, object]) -> dict[str, object]:
        """Metadata with its keys sorted on every level; NUL, which no database takes, is dropped."""
        if not value:
            return {}
        try:
            encoded = _sorted_encoder.encode(value)
        except UnicodeEncodeError:
            self.problems["metadata"] = (
                "holds half of a surrogate pair, which is no character; send both or neither"
            )
            return {}
        except ValueError:
            self.problems["metadata"] = "holds a number that is too long; send it as a string"
            return {}
        except RecursionError:
            self._too_deep()
            return {}
        if rb"\u0000" in encoded:
            encoded = _sorted_encoder.encode(_plain_decoder.decode(_NUL.sub(rb"\1", encoded)))
        if len(encoded) > METADATA_BYTES_MAX:
            self.problems["metadata"] = (
                f"is {len(encoded)} bytes of JSON; shorten it to at most {METADATA_BYTES_MAX}"
            )
        # Brackets in strings only make the quick look more cautious.
        elif encoded.count(b"{") + encoded.count(b"[") > METADATA_DEPTH_MAX and is_deeper(
            value, METADATA_DEPTH_MAX
        ):
            self._too_deep()
        else:
            return _plain_decoder.decode(encoded)
        return {}

    def _too_deep(self) -> None:
        self.problems["metadata"] = (
            f"is nested more than {METADATA_DEPTH_MAX} levels deep; flatten it or send the part as a string"
        )

    def _too_long(self, field: str, length: int, length_max: int) -> None:
        self.problems[field] = f"is {length} characters long; shorten it to at most {length_max}"


def usable_line(value: object) -> str | None:
    """A string that metadata offers for a field that is missing; None when it would not be taken there."""
    line = _one_line(value) if isinstance(value, str) else ""
    return line if 0 < len(line) <= LINE_LENGTH_MAX else None


def slug(value: str) -> str:
    """Lower case, with one underscore for every run of spaces and hyphens."""
    return "_".join(value.lower().replace("-", " ").split())


def is_same_metadata(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether both are the same JSON; to Python alone 1, 1.0 and True are equal."""
    return one == other and _sorted_encoder.encode(one) == _sorted_encoder.encode(other)


def _one_line(value: str) -> str:
    return normalize("NFC", _CONTROLS.sub("", _LINE_BREAKS.sub(" ", value))).strip()


def is_deeper(value: object, levels: int) -> bool:
    """Whether objects and lists stand in each other more than so many levels deep."""
    level = [value]
    for _ in range(levels):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
