"""The bytes of a batch: as a whole where they are right, record by record where one is not."""

import re

import msgspec
from contracts import ingest
from msgspec import Raw, Struct

from services.ingest.errors import InvalidIssueError

BATCH_SIZE_MAX = 500


class _Record(ingest.IssueReport, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record whose every field must be known, so that a misspelt one is not lost in silence."""


class _Batch(Struct, frozen=True, forbid_unknown_fields=True):
    records: list[_Record]


class _RawBatch(Struct, frozen=True, forbid_unknown_fields=True):
    records: list[Raw]


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_raw_batch = msgspec.json.Decoder(_RawBatch).decode
_decode_record = msgspec.json.Decoder(_Record).decode

# What msgspec raises for bytes that are not the message.
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PATH = re.compile(r"(?P<fault>.*) - at `\$\.?(?P<field>\w+).*`", re.DOTALL)
_OPENING = re.compile(rb'\s*\{\s*"records"\s*:\s*\[')
_CLOSING = re.compile(rb"\]\s*\}\s*")
# A string that nobody closes reaches to the end, so that no byte is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.?)*(?:"|\Z)|[][{},]', re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)


def decode_batch(body: bytes) -> list[ingest.IssueReport | InvalidIssueError]:
    """The records of a ReportIssues message in order; for one that cannot be read, the reason.

    Raises InvalidIssueError when the message itself cannot be read, or holds no record or too many.
    """
    records: list[ingest.IssueReport | InvalidIssueError]
    try:
        records = [*_decode_batch(body).records]
    except _REFUSED:
        records = [_record(raw) for raw in _raw_records(body)]
    if not 0 < len(records) <= BATCH_SIZE_MAX:
        problem = f"holds {len(records)} records; send 1 to {BATCH_SIZE_MAX}"
        raise InvalidIssueError({"records": problem})
    return records


def split_records(body: bytes) -> list[bytes] | None:
    """The records of a message as they stand between its commas; None where its brackets do not match.

    For bytes that no JSON reader takes as a whole: half a surrogate pair (a title that JavaScript cut inside
    an emoji), absurd nesting. One pass, linear in the length, whatever the bytes are.
    """
    opening = _OPENING.match(body)
    if opening is None:
        return None
    pieces: list[bytes] = []
    depth, begin = 1, opening.end()
    for token in _TOKEN.finditer(body, begin):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    last = body[begin : token.start()].strip()
                    is_closed = _CLOSING.fullmatch(body, token.start()) is not None
                    return [*pieces, *([last] if last or pieces else [])] if is_closed else None
            case b"," if depth == 1:
                pieces.append(body[begin : token.start()])
                begin = token.end()
    return None


def _raw_records(body: bytes) -> list[Raw] | list[bytes]:
    try:
        return _decode_raw_batch(body).records
    except _REFUSED as error:
        pieces = split_records(body)
        if pieces is None:
            raise InvalidIssueError(_problems(error, whole="body")) from error
        return pieces


def _record(raw: Raw | bytes) -> ingest.IssueReport | InvalidIssueError:
    try:
        return _decode_record(raw)
    except _REFUSED as error:
        return InvalidIssueError(_problems(error, whole="record"))


def _problems(error: Exception, *, whole: str) -> dict[str, str]:
    """The field that a decoding error is about and what to do; `whole` where it is about no field."""
    match error:
        case RecursionError():
            return {whole: "is nested too deeply; flatten it"}
        case UnicodeDecodeError():
            return {whole: "is not UTF-8; encode it as UTF-8"}
    text = str(error)
    if unknown := _UNKNOWN_FIELD.match(text):
        return {unknown["field"][:80]: "is not a known field; check its spelling, or put it into metadata"}
    if located := _PATH.fullmatch(text):
        return {located["field"]: f"{located['fault']}; send the right type"}
    if isinstance(error, msgspec.ValidationError):
        return {whole: f"{text}; send a JSON object as the contract describes it"}
    return {whole: f"{text}; mend the JSON (a text that was cut inside an emoji is a usual cause)"}
