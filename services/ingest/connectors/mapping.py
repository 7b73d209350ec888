"""A vendor's record → an issue as ingest takes it, or a reason; the record itself goes along untouched. Pure."""

import re
from datetime import datetime
from typing import Final

import msgspec
from contracts import ingest
from msgspec import Struct
from msgspec.structs import replace

from services.ingest.commands.canonical import BODY_LENGTH_MAX, LINE_LENGTH_MAX, TITLE_LENGTH_MAX, is_deeper
from services.ingest.commands.report import canonical_report
from services.ingest.connectors import normalization
from services.ingest.connectors.expressions import Budget, Expression, ExpressionError, is_true
from services.ingest.connectors.manifest import Manifest, Mapping
from services.ingest.connectors.markup import shown
from services.ingest.connectors.tickets import is_pushed
from services.ingest.errors import InvalidIssueError

DEPTH_MAX: Final = 100
"""Levels of a record: whatever encodes or walks it stays far from the end of Python's stack."""

Record = dict[str, object]

_LINES: Final = ("service", "component", "error_type", "environment", "version", "team", "assignee")
# What JMESPath's to_string makes of nothing; all records that lack an id would become one issue.
_NOTHING_INSIDE: Final = re.compile(r"(^|[-/#])null($|[-/#])")
_CANONICAL: Final = (*_LINES, "external_id", "title", "body", "external_url", "metadata")


class Mapped(Struct, frozen=True):
    """An issue in canonical shape, and the record that it was made of."""

    issue: ingest.IssueReport
    raw: object


class Ignored(Struct, frozen=True):
    """A record that the manifest knows to be no failure, or a ticket of ours.

    issue: what a ticket stands for where that is an issue already: people may have written a marker into it.
    """

    raw: object
    issue: ingest.IssueReport | None = None


class Rejected(Struct, frozen=True):
    """A record that cannot become an issue. path: the field of the issue, empty when it is about all of it."""

    reason: str
    path: str
    raw: object

    @property
    def problem(self) -> str:
        """Field and reason on one line."""
        return f"{self.path}: {self.reason}" if self.path else self.reason


Outcome = Mapped | Ignored | Rejected


def map_record(manifest: Manifest, record: object, *, now: datetime) -> Outcome:
    """The issue that a record stands for, by the first of the manifest's mappings that fits.

    A title over its limit is cut and kept whole in the body; other lines and the body are cut; an address that
    is none is left out. The same record gives the same outcome, apart from times more than a day after `now`.
    """
    if is_deeper(record, DEPTH_MAX):
        # Without the record, which nothing could write down.
        return Rejected(f"is nested more than {DEPTH_MAX} levels deep", "", None)
    if not isinstance(record, dict):
        return Rejected("is not a JSON object", "", record)
    budget = Budget()
    try:
        mapping = _fitting(manifest, record, budget)
        if mapping is None:
            return Rejected("is of no kind that the manifest maps: no `when` fits", "", record)
        if _holds(mapping.ignore, record, budget, if_absent=False):
            return Ignored(record)
        issue = _canonical(_Reading(mapping, record, budget).report(manifest.type), now=now)
        is_ticket = manifest.push is not None and is_pushed(record)
        return Ignored(record, issue) if is_ticket else Mapped(issue, record)
    except _FieldError as error:
        return Rejected(error.reason, error.path, record)
    except ExpressionError as error:
        return Rejected(str(error), "", record)
    except InvalidIssueError as error:
        path = next(iter(error.problems))
        return Rejected(error.problems[path], path, record)
    except (ArithmeticError, RecursionError, ValueError) as error:
        # A number that is too long, nesting that is too deep: whatever it is, the next record is another.
        return Rejected(f"cannot be read ({type(error).__name__})", "", record)


def id_of(manifest: Manifest, record: object) -> str | None:
    """The external_id of the issue that a record stands for; None where none can be read."""
    if is_deeper(record, DEPTH_MAX) or not isinstance(record, dict):
        return None
    budget = Budget()
    try:
        mapping = _fitting(manifest, record, budget)
        return None if mapping is None else _Reading(mapping, record, budget).external_id()
    except (_FieldError, ArithmeticError, RecursionError, ValueError):  # an ExpressionError is a ValueError
        return None


def _fitting(manifest: Manifest, record: Record, budget: Budget) -> Mapping | None:
    """The first of a manifest's mappings that is for a record. Raises ExpressionError."""
    fitting = (each for each in manifest.mappings if _holds(each.when, record, budget, if_absent=True))
    return next(fitting, None)


class _FieldError(Exception):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class _Reading:
    """Reads one record, field by field."""

    def __init__(self, mapping: Mapping, record: Record, budget: Budget) -> None:
        self._mapping = mapping
        self._record = record
        self._budget = budget

    def external_id(self) -> str:
        expression = self._mapping.external_id
        external_id = self._line("external_id", expression)
        if external_id is None:
            raise _FieldError("external_id", f"nothing at {expression.text[:60]!r}")
        if _NOTHING_INSIDE.search(external_id):
            raise _FieldError("external_id", f"{external_id!r} is made of something that the record lacks")
        return external_id

    def report(self, source: str) -> ingest.IssueReport:
        mapping = self._mapping
        external_id = self.external_id()
        html = self._html()
        title, body = (
            shown(text) if text is not None and text in html else text
            for text in (self._line("title", mapping.title), self._body())
        )
        title, body = _fitted(title, body)
        return ingest.IssueReport(
            external_id=external_id,
            source=source,
            title=title,
            body=body,
            severity=None
            if mapping.severity is None
            else normalization.severity(mapping.severity, self._found("severity", mapping.severity.path)),
            status=None
            if mapping.status is None
            else normalization.status(mapping.status, self._found("status", mapping.status.path)),
            external_url=self._url(),
            source_created_at=self._moment("occurred_at", mapping.occurred_at),
            source_updated_at=self._moment("updated_at", mapping.updated_at),
            metadata=self._metadata(),
            **{name: self._short(name) for name in _LINES},
        )

    def _found(self, path: str, expression: Expression | None) -> object:
        try:
            return None if expression is None else expression.find(self._record, self._budget)
        except ExpressionError as error:
            raise _FieldError(path, str(error)) from error

    def _line(self, path: str, expression: Expression | None) -> str | None:
        found = self._found(path, expression)
        if isinstance(found, list):
            found = next((item for item in found if item not in (None, "")), None)
        match found:
            case None:
                return None
            case bool():
                return str(found).lower()
            case str():
                return _whole(found).strip() or None
            case int():
                return str(found)
            case float():
                return str(int(found)) if found.is_integer() else str(found)
            case _:
                raise _FieldError(path, f"found {_kind(found)} where text is needed")

    def _short(self, path: str) -> str | None:
        line = self._line(path, getattr(self._mapping, path))
        return line if line is None or len(line) <= LINE_LENGTH_MAX else f"{line[: LINE_LENGTH_MAX - 1]}…"

    def _body(self) -> str | None:
        found = self._found("body", self._mapping.body)
        if isinstance(found, dict | list):
            text = plain_text(found)
            return text if text is None else _whole(text)
        return self._line("body", self._mapping.body)

    def _html(self) -> frozenset[str]:
        """As a title or a body would have them."""
        found = self._found("html", self._mapping.html)
        texts = found if isinstance(found, list) else [found]
        return frozenset(_whole(text).strip() for text in texts if isinstance(text, str))

    def _url(self) -> str | None:
        url = self._line("url", self._mapping.url)
        return url if url is not None and url.lower().startswith(("https://", "http://")) else None

    def _moment(self, path: str, expression: Expression | None) -> datetime | None:
        found = self._found(path, expression)
        if found is None or found == "":
            return None
        moment = normalization.moment(found)
        if moment is None:
            raise _FieldError(path, f"cannot read {str(found)[:80]!r} as a time")
        return moment

    def _metadata(self) -> dict[str, object] | None:
        pairs = (
            (name, self._found(f"metadata.{name}", path)) for name, path in self._mapping.metadata.items()
        )
        return {name: value for name, value in pairs if value not in (None, "", [], {})} or None


def plain_text(value: object) -> str | None:
    """The text of a rich document, such as Atlassian's document format; other JSON as it is written."""
    if isinstance(value, dict) and value.get("type") == "doc":
        return "\n".join(line for line in _paragraphs(value) if line.strip()) or None
    return msgspec.json.encode(value).decode() if value else None


def _paragraphs(node: dict[str, object]) -> list[str]:
    """The lines of a document: one per innermost block."""
    lines: list[str] = []
    running = ""
    content = node.get("content")
    for child in content if isinstance(content, list) else []:
        if not isinstance(child, dict):
            continue
        if "content" in child:
            lines.append(running)
            running = ""
            lines.extend(_paragraphs(child))
        else:
            running += "\n" if child.get("type") == "hardBreak" else str(child.get("text") or "")
    return [*lines, running]


def _fitted(title: str | None, body: str | None) -> tuple[str | None, str | None]:
    line = " ".join(title.split()) if title else title
    if line and len(line) > TITLE_LENGTH_MAX:
        body = f"{line}\n\n{body or ''}".rstrip()
        line = f"{line[: TITLE_LENGTH_MAX - 1].rstrip()}…"
    if body and len(body) > BODY_LENGTH_MAX:
        body = f"{body[: BODY_LENGTH_MAX - 1]}…"
    return line, body


def _canonical(report: ingest.IssueReport, *, now: datetime) -> ingest.IssueReport:
    """The report with every text as ingest would store it; raises InvalidIssueError as ingest would."""
    command = canonical_report(report, workspace_id="", fresh_id=None, now=now)
    texts = {name: getattr(command, name) for name in _CANONICAL}
    return replace(
        report,
        **texts,
        source=command.source,
        source_created_at=command.source_created_at,
        source_updated_at=command.source_updated_at,
    )


def _whole(text: str) -> str:
    """The text with ? for each half of a surrogate pair, as what was cut in the middle of a sign has at its end."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _holds(condition: Expression | None, record: Record, budget: Budget, *, if_absent: bool) -> bool:
    return if_absent if condition is None else is_true(condition.find(record, budget))


def _kind(found: object) -> str:
    return "an object" if isinstance(found, dict) else "a list" if isinstance(found, list) else "a value"
