"""The words that tools have for how bad and how far a failure is, and the moments they write down."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from services.ingest.connectors.manifest import Level, SeverityRule, Stage, StatusRule

SEVERITY_WORDS: Final[Mapping[str, Level]] = {
    **dict.fromkeys(("critical", "crit", "fatal", "blocker", "urgent", "highest", "disaster"), "p1"),
    **dict.fromkeys(("emergency", "sev0", "sev1", "p0", "p1"), "p1"),
    **dict.fromkeys(("high", "error", "err", "major", "page", "severe", "sev2", "p2"), "p2"),
    **dict.fromkeys(("medium", "warning", "warn", "moderate", "average", "normal", "sev3", "p3"), "p3"),
    **dict.fromkeys(("low", "lowest", "info", "informational", "information", "minor", "trivial"), "p4"),
    **dict.fromkeys(("debug", "notice", "planning", "ok", "sev4", "sev5", "p4", "p5"), "p4"),
}
"""What a word means where a manifest says nothing else."""

STATUS_WORDS: Final[Mapping[str, Stage]] = {
    **dict.fromkeys(("firing", "triggered", "new", "open", "opened", "active", "alerting", "alarm"), "open"),
    **dict.fromkeys(("problem", "unresolved", "failed", "down", "todo", "backlog", "reopened"), "open"),
    **dict.fromkeys(("acknowledged", "acked", "investigating", "inprogress", "identified"), "mitigating"),
    **dict.fromkeys(("monitoring", "started", "assigned", "fixing", "mitigating"), "mitigating"),
    **dict.fromkeys(
        ("resolved", "ok", "recovered", "solved", "fixed", "up", "normal", "success"), "resolved"
    ),
    **dict.fromkeys(("closed", "done", "canceled", "cancelled", "declined", "dismissed"), "closed"),
    **dict.fromkeys(("archived", "ignored", "merged", "deleted", "duplicate", "completed"), "closed"),
}
"""As above; spaces, hyphens and underscores do not count."""

V = TypeVar("V")

_JOINS: Final = re.compile(r"[\s_-]+")
_DIGITS: Final = re.compile(r"\d{9,19}(\.\d+)?")
_SPACE_BEFORE_ZONE: Final = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")
_EPOCH_UNITS: Final = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def severity(rule: SeverityRule, found: object) -> Level:
    """The level of what was found: a word, a number or a list of either."""
    for item in _items(found):
        if rule.bands and (number := _number(item)) is not None:
            for least, level in rule.bands:
                if number >= least:
                    return level
        elif (known := _known(item, rule.map, SEVERITY_WORDS)) is not None:
            return known
    return rule.default


def status(rule: StatusRule, found: object) -> Stage:
    """The stage of what was found: a word, a truth value or a list of words."""
    for item in _items(found):
        if (known := _known(item, rule.map, STATUS_WORDS)) is not None:
            return known
    return rule.default


def moment(found: object) -> datetime | None:
    """The moment that was written, aware, in UTC; None for what is not one.

    Takes ISO 8601, RFC 5322, and seconds, milli-, micro- or nanoseconds since 1970, also as text.
    A time without a zone is read as UTC.
    """
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    if not isinstance(found, str):
        return _from_epoch(found)
    text = found.strip()
    if _DIGITS.fullmatch(text):
        return _from_epoch(float(text))
    try:
        read = datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", text.removesuffix(" UTC")))
    except ValueError:
        try:
            read = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
    try:
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except OverflowError:
        return None


def _from_epoch(number: float) -> datetime | None:
    for limit, per_second in _EPOCH_UNITS:
        if 0 < number < limit:
            return _EPOCH + timedelta(seconds=number / per_second)
    return None


def _items(found: object) -> list[object]:
    return found if isinstance(found, list) else [found]


def _number(item: object) -> float | None:
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        return None
    try:
        return float(item)
    except (ValueError, OverflowError):
        return None


def _known(item: object, own: Mapping[str, V], usual: Mapping[str, V]) -> V | None:
    """What an item means: as it stands, without joints, behind its last colon or slash, by its first and last word."""
    if item is None or isinstance(item, dict | list):
        return None
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    word = str(item).strip().lower()
    if not word:
        return None
    tail = re.split(r"[:/]", word)[-1].strip()
    for spelling in (
        word,
        _JOINS.sub("", word),
        tail,
        _JOINS.sub("", tail),
        word.split()[0],
        word.split()[-1],
    ):
        if (known := own.get(spelling, usual.get(spelling))) is not None:
            return known
    return None
