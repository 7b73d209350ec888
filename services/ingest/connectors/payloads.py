"""What arrives as a whole, a webhook's body, a page of a list or a file, → the records in it. Pure."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from services.ingest.connectors.expressions import ExpressionError
from services.ingest.connectors.manifest import Manifest, Place, RecordPath, Webhook

Form = Literal["records", "page", "webhook"]


class UnreadableError(ValueError):
    """A body is neither JSON nor a form."""


class TooManyValuesError(UnreadableError):
    """A body has more values than are read of one, whatever they are."""


VALUES_MAX: Final = 100_000
"""Of one body: tiny values are many times as large in memory as in JSON."""
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 1_000
_STEPS: Final = re.compile(r"[^.\[\]]+")


def n_values(body: bytes) -> int:
    """How many values JSON has at most, found without reading it: each is the first or stands behind one of these.

    Commas and brackets in texts are counted too.
    """
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


def payload_of(body: bytes, content_type: str) -> object:
    """What a webhook's body holds: JSON, a form that has JSON as its field `payload`, or a form's fields.

    Raises UnreadableError, and TooManyValuesError for one with more than VALUES_MAX values.
    """
    try:
        if content_type.partition(";")[0].strip().lower() == _FORM:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX))
            if "payload" not in fields:
                return fields
            body = fields["payload"].encode()
        if n_values(body) <= VALUES_MAX:
            return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableError("neither JSON nor a form") from error
    raise TooManyValuesError(f"more than {VALUES_MAX} values")


class Delivery(Struct, frozen=True, kw_only=True):
    """One webhook call as its manifest reads it.

    records: none when the event is of a kind that is not followed.
    """

    event_id: str | None
    event_type: str | None
    records: tuple[object, ...]


class Sample(Struct, frozen=True):
    """The records of something, and what it was taken for."""

    form: Form
    records: tuple[object, ...]


def read_delivery(webhook: Webhook, payload: object, headers: Mapping[str, str] | None) -> Delivery:
    """What a webhook's decoded body holds.

    headers: of the request, names in any case; None where nobody knows them, as with a file: event types
    that stand in a header are then not compared.
    """
    known = None if headers is None else {name.lower(): value for name, value in headers.items()}
    event_type = _at(webhook.event_type, payload, known)
    is_unknowable = known is None and webhook.event_type is not None and webhook.event_type.header is not None
    for spot in webhook.records:
        if spot.events and not is_unknowable and not _is_one_of(event_type, spot.events):
            continue
        records = _records(spot, payload)
        if records:
            break
    else:
        records = ()
    return Delivery(event_id=_at(webhook.event_id, payload, known), event_type=event_type, records=records)


def event_id_of(webhook: Webhook, payload: object, headers: Mapping[str, str]) -> str | None:
    """What the vendor calls a delivery; None where it does not say. headers: names in lower case."""
    try:
        return _at(webhook.event_id, payload, headers) or None
    except ExpressionError:
        return None


def records_in(manifest: Manifest, payload: object) -> Sample:
    """The records of a payload of which nobody says what it is: a list, a page, a webhook's body, one record."""
    if isinstance(payload, list):
        return Sample("records", tuple(payload))
    if isinstance(payload, dict):
        for stream in manifest.streams:
            page = _selected(payload, stream.endpoint.data_selector) if stream.endpoint is not None else None
            if isinstance(page, list):
                return Sample("page", tuple(page))
        if manifest.webhook is not None:
            delivery = read_delivery(manifest.webhook, payload, None)
            if delivery.records:
                return Sample("webhook", delivery.records)
    return Sample("records", (payload,))


def _records(spot: RecordPath, payload: object) -> tuple[object, ...]:
    found = spot.path.find(payload)
    if spot.decode and isinstance(found, str):
        try:
            found = msgspec.json.decode(found)
        except (msgspec.DecodeError, RecursionError):
            return (found,)
    if spot.then is not None:
        found = spot.then.find(found)
    if found is None:
        return ()
    added = {name: value for name, path in spot.add.items() if (value := path.find(payload)) is not None}
    items = found if isinstance(found, list) else [found]
    return tuple({**added, **item} if isinstance(item, dict) else item for item in items)


def _at(place: Place | None, payload: object, headers: Mapping[str, str] | None) -> str | None:
    if place is None:
        return None
    if place.header is not None:
        return None if headers is None else headers.get(place.header.lower())
    found = None if place.path is None else place.path.find(payload)
    return str(found) if isinstance(found, str | int) else None


def _is_one_of(event_type: str | None, patterns: tuple[str, ...]) -> bool:
    return event_type is not None and any(fnmatchcase(event_type, pattern) for pattern in patterns)


def _selected(payload: dict[str, object], selector: str) -> object:
    found: object = payload
    for step in _STEPS.findall(selector) if selector != "$" else ():
        if isinstance(found, list) and step.isdecimal():
            found = found[int(step)] if int(step) < len(found) else None
        else:
            found = found.get(step) if isinstance(found, dict) else None
    return found
