"""Rows of a file → issue reports: which column becomes which field, and how values are read. Pure."""

import ast
import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

import msgspec
from contracts import ingest
from msgspec import Struct

from causeloop.exits import UsageError
from causeloop.severity import Vocabulary, for_source

Row = Mapping[str, object]

TITLE_LIMIT: Final = 300
BODY_LIMIT: Final = 65_536
TEXT_LIMIT: Final = 300

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "external_id": (
        "external_id", "id", "key", "issue_id", "issue_key", "incident_id", "event_id", "ticket_id",
        "ticket", "number", "guid", "uuid", "sys_id",
    ),
    "source": ("source",),
    "title": ("title", "summary", "short_description", "subject", "headline", "name", "message", "msg"),
    "body": ("body", "description", "details", "text", "content", "long_description"),
    "severity": ("severity", "priority", "level", "impact", "urgency"),
    "status": ("status", "state"),
    "service": (
        "service", "service_name", "services", "product", "application", "app", "system", "project", "repository",
    ),
    "component": ("component", "components", "module", "subsystem"),
    "error_type": ("error_type", "exception", "exception_type", "error_class", "exception_class"),
    "environment": ("environment", "env", "stage"),
    "version": ("version", "release", "app_version", "affects_version"),
    "team": ("team", "owner_team", "assignment_group", "owning_team"),
    "assignee": ("assignee", "assigned_to"),
    "external_url": ("external_url", "url", "link", "html_url", "permalink", "shortlink", "self"),
    "connector_id": ("connector_id",),
    "source_created_at": (
        "source_created_at", "created_at", "ts", "timestamp", "time", "created", "occurred_at", "opened_at",
        "started_at", "start_time", "date",
    ),
    "source_updated_at": (
        "source_updated_at", "updated_at", "updated", "modified", "last_modified", "changed_at",
    ),
    "metadata": ("metadata", "attributes"),
}  # fmt: skip
"""Field of a report → the columns it is taken from when nothing is said; the first that has a value wins."""

STATUSES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("new", "open", "opened", "todo", "to do", "unconfirmed", "reopened", "triggered"), "new"
    ),
    **dict.fromkeys(
        ("in progress", "in_progress", "assigned", "acknowledged", "investigating"), "mitigating"
    ),
    **dict.fromkeys(("mitigating", "identified", "monitoring", "started", "active"), "mitigating"),
    **dict.fromkeys(("resolved", "fixed", "done", "verified", "completed", "postmortem"), "resolved"),
    **dict.fromkeys(("closed", "cancelled", "canceled", "duplicate"), "closed"),
    **dict.fromkeys(("wont_fix", "wontfix", "won't fix", "invalid"), "wont_fix"),
    **{status: status for status in ("analyzing", "analyzed", "in_loop", "pattern_found")},
}
"""Status words of other systems → the contract's; an unknown word is kept in the metadata instead."""


class Line(Struct, frozen=True):
    """One row, or why it could not be read."""

    number: int
    """Line of a JSON Lines file, row of a table; from 1, a header is not counted."""
    row: Row | None
    problem: str = ""


class RowError(Exception):
    """A row cannot become a report; the message names the field."""


class Mapped(Struct, frozen=True):
    """One row, ready to be reported."""

    report: ingest.IssueReport
    notes: tuple[str, ...] = ()
    """What was changed on the way, such as "title cut to 300 characters"."""


class FieldMapping(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"columns": "map", "constants": "set"},
):
    """Which column becomes which field; what a mapping file holds."""

    columns: dict[str, str] = {}
    """Field → column; a dot looks into nested objects. Fields that are not named follow ALIASES."""
    constants: dict[str, str] = {}
    """Field → the same value for every row."""
    severity: dict[str, str] | None = None
    """Severity word → p1 to p4; None chooses by the row's source."""
    ignore: tuple[str, ...] = ()
    """Columns that are neither mapped nor kept as metadata."""

    def __post_init__(self) -> None:
        """Raises UsageError for a field that a report does not have."""
        for field in (*self.columns, *self.constants):
            if field not in ALIASES:
                raise UsageError(f"there is no field {field!r}", advice=f"Fields are {', '.join(ALIASES)}.")

    def severity_words(self, source: str | None) -> Vocabulary:
        """The words to read a severity with, for a row of this source."""
        return for_source(source) if self.severity is None else self.severity


def read_mapping_file(content: bytes, *, name: str) -> FieldMapping:
    """The mapping that a YAML file describes; raises UsageError naming the place that is wrong."""
    try:
        return msgspec.yaml.decode(content, type=FieldMapping)
    except msgspec.DecodeError as error:
        advice = "It may hold map, set, severity and ignore; see docs/how-to/import.md."
        raise UsageError(f"mapping file {name}: {error}", advice=advice) from error


def combined(base: FieldMapping, more: FieldMapping) -> FieldMapping:
    """Both mappings; where they differ, `more` wins."""
    return FieldMapping(
        columns=base.columns | more.columns,
        constants=base.constants | more.constants,
        severity=more.severity if more.severity is not None else base.severity,
        ignore=(*base.ignore, *more.ignore),
    )


def map_row(row: Row, mapping: FieldMapping) -> Mapped:
    """The report that a row describes; columns that nothing reads go into its metadata.

    Raises RowError when a value cannot be read or nothing in the row can be a title.
    """
    return _RowReader(row, mapping).mapped()


class _RowReader:
    """Reads one row field by field and remembers which columns were used."""

    def __init__(self, row: Row, mapping: FieldMapping) -> None:
        self._row = row
        self._mapping = mapping
        self._by_name = {_normal(name): name for name in reversed(list(row))}
        self._used: set[str] = set(mapping.ignore)
        self._kept: dict[str, object] = {}
        self._notes: list[str] = []

    def mapped(self) -> Mapped:
        """The report and the notes."""
        source = self._text("source")
        fields = {name: self._text(name) for name in _PLAIN_TEXT}
        external_id = self._text("external_id") or _content_id(self._row)
        title, body = self._title_and_body()
        report = ingest.IssueReport(
            external_id=self._fits("external_id", external_id, TEXT_LIMIT),
            source=source,
            title=title,
            body=body,
            severity=self._severity(self._mapping.severity_words(source)),
            status=self._status(),
            source_created_at=self._time("source_created_at"),
            source_updated_at=self._time("source_updated_at"),
            metadata=self._metadata() or None,
            **fields,
        )
        return Mapped(report=report, notes=tuple(self._notes))

    def _value(self, field: str) -> object:
        """What the row says about a field: the constant, the named column, or the first alias with a value."""
        if field in self._mapping.constants:
            return self._mapping.constants[field]
        if field in self._mapping.columns:
            return self._column(self._mapping.columns[field])
        for alias in ALIASES[field]:
            name = self._by_name.get(alias)
            if name is None or name in self._used or _is_blank(self._row[name]):
                continue
            self._used.add(name)
            return self._row[name]
        return None

    def _column(self, path: str) -> object:
        """The value at a column's name, or inside nested objects at a dotted path."""
        if path in self._row:
            self._used.add(path)
            return self._row[path]
        head, *rest = path.split(".")
        value: object = self._row.get(head)
        for name in rest:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def _text(self, field: str) -> str | None:
        value = self._value(field)
        if isinstance(value, list | tuple) and len(value) > 1:
            self._kept[field if field.endswith("s") else f"{field}s"] = value
        return _as_text(value)

    def _title_and_body(self) -> tuple[str, str | None]:
        title = self._text("title")
        body = self._text("body")
        line = " ".join((title or _first_line(body)).split())
        if not line:
            raise RowError("title: no column has a text for it; name one with --map title=COLUMN")
        if len(line) > TITLE_LIMIT:
            body = f"{line}\n\n{body or ''}".rstrip()
            line = line[: TITLE_LIMIT - 1].rstrip() + "…"
            self._notes.append(f"title cut to {TITLE_LIMIT} characters")
        if body is not None and len(body) > BODY_LIMIT:
            body = body[: BODY_LIMIT - 1] + "…"
            self._notes.append(f"body cut to {BODY_LIMIT:,} characters")
        return line, body

    def _severity(self, words: Vocabulary) -> str | None:
        text = self._text("severity")
        if text is None:
            return None
        level = words.get(text.strip().lower())
        if level is None:
            self._kept["severity"] = text
            self._notes.append(f"severity {text!r} is not known, p3 taken")
        return level

    def _status(self) -> str | None:
        text = self._text("status")
        if text is None:
            return None
        status = STATUSES.get(text.strip().lower())
        if status is None:
            self._kept["status"] = text
        return status

    def _time(self, field: str) -> datetime | None:
        value = self._value(field)
        if _is_blank(value):
            return None
        moment = as_time(value)
        if moment is None:
            raise RowError(f"{field}: cannot read {str(value)[:80]!r} as a time")
        return moment

    def _fits(self, field: str, value: str, limit: int) -> str:
        if len(value) > limit:
            raise RowError(f"{field}: has {len(value)} characters, at most {limit} are allowed")
        return value

    def _metadata(self) -> dict[str, object]:
        given = self._value("metadata")
        metadata: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
        if given is not None and not isinstance(given, Mapping):
            metadata["metadata"] = given
        for name, value in self._row.items():
            if name not in self._used and not _is_blank(value):
                metadata.setdefault(name, value)
        metadata |= self._kept
        plain = msgspec.to_builtins(metadata, str_keys=True, enc_hook=str)
        return {name: _finite(value) for name, value in plain.items()}


_PLAIN_TEXT: Final = (
    "service", "component", "error_type", "environment", "version", "team", "assignee", "external_url",
    "connector_id",
)  # fmt: skip


def _normal(name: str) -> str:
    """A column's name as ALIASES spells it: "Issue Key" and "issueKey" become "issue_key"."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _is_blank(value: object) -> bool:
    match value:
        case None:
            return True
        case str():
            return not value.strip()
        case float():
            return math.isnan(value)
        case list() | tuple() | dict():
            return not value
        case _:
            return False


def _as_text(value: object) -> str | None:
    """A value as one text; the first item of a list, also of one that was written out as text."""
    match value:
        case _ if _is_blank(value):
            return None
        case str() if value.startswith("['") or value.startswith('["'):
            return _as_text(_written_list(value))
        case str():
            return value.strip()
        case list() | tuple():
            return _as_text(value[0])
        case Mapping():
            return _as_text(value.get("name") or value.get("displayName") or value.get("id"))
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case datetime() | date():
            return value.isoformat()
        case _:
            return str(value)


def _written_list(text: str) -> object:
    """The items of a list that somebody wrote into a text column; a text of its own when it is none."""
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text.lstrip("['\"").rstrip("]'\"")
    return (
        items
        if isinstance(items, list) and items and not str(items[0]).startswith(("['", '["'))
        else text.strip("[]'\"")
    )


def _first_line(text: str | None) -> str:
    return next((line for line in (text or "").splitlines() if line.strip()), "")


def _finite(value: object) -> object:
    """The value without NaN and infinities, which JSON cannot carry."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value


def _content_id(row: Row) -> str:
    """An id made of the row's content, so that reading the same file again reports nothing new."""
    content = msgspec.json.encode(dict(row), order="deterministic", enc_hook=str)
    return f"row-{hashlib.sha256(content).hexdigest()[:20]}"


_EPOCH_UNITS: Final[tuple[tuple[float, float], ...]] = ((1e11, 1), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))


def as_time(value: object) -> datetime | None:
    """The moment that a value names, aware and in UTC; None when it names none.

    Takes datetimes, dates, ISO 8601 and common log spellings, and epoch seconds, milli-, micro- or
    nanoseconds. A time without a zone is read as UTC.
    """
    match value:
        case datetime():
            return _aware(value)
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        case bool():
            return None
        case int() | float():
            return _from_epoch(float(value))
        case str():
            return _from_text(value.strip())
        case _:
            return None


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _from_epoch(number: float) -> datetime | None:
    for limit, per_second in _EPOCH_UNITS:
        if 0 < number < limit:
            return datetime.fromtimestamp(number / per_second, tz=UTC)
    return None


_SPELLINGS: Final = (
    "%Y-%m-%d %H:%M:%S %z", "%Y/%m/%d %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M",
    "%d-%m-%Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%y %I:%M %p", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip


def _from_text(text: str) -> datetime | None:
    if re.fullmatch(r"\d{9,19}(\.\d+)?", text):
        return _from_epoch(float(text))
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        pass
    for spelling in _SPELLINGS:
        try:
            return _aware(datetime.strptime(text, spelling))  # noqa: DTZ007 - a time without a zone is read as UTC
        except ValueError:
            continue
    return None
