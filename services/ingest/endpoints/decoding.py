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


def _raw_records(body: bytes) -> list[Raw]:
    try:
        return _decode_raw_batch(body).records
    except _REFUSED as error:
        raise InvalidIssueError(_problems(error, whole="body")) from error


def _record(raw: Raw) -> ingest.IssueReport | InvalidIssueError:
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
    return {whole: f"{text}; send a JSON object as the contract describes it"}
