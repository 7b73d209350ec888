"""The envelope: one event as it is stored, a CloudEvents 1.0 structured JSON body."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, Union, cast

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from contracts.generated import AGGREGATES, EVENT_TYPES, Event
from contracts.ids import digest
from contracts.types import Timestamp
from contracts.upcasts import UPCASTS, Upcast

E = TypeVar("E", covariant=True)

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
SCHEMA_PREFIX = "urn:causeloop:schema:"


class UnknownEventError(Exception):
    """An event has a type that this build does not know; a newer build wrote it."""

    def __init__(self, event_type: str) -> None:
        super().__init__(f"unknown event type {event_type!r}")
        self.event_type = event_type


class MalformedEventError(Exception):
    """A payload is not an event: broken JSON, or fields that its type does not allow."""


def _spec_version() -> str:
    return SPEC_VERSION


def _content_type() -> str:
    return CONTENT_TYPE


_NAMES = {
    "workspace_id": "workspaceid",
    "recorded_at": "recordedtime",
    "actor": "actorid",
    "causation_id": "causationid",
    "correlation_id": "correlationid",
    # No CloudEvents attribute may have a hyphen, so these two can never come from a payload.
    "seq": "-seq",
    "partition": "-partition",
}


class Recorded(Struct, Generic[E], frozen=True, kw_only=True, omit_defaults=True, rename=_NAMES):
    """One event with its envelope; made by `record` or read by `decode`, never constructed directly.

    type: "causeloop.<context>.v1.<Event>".
    id: unique within the log, prefix "evt_".
    source: "/causeloop/<service that emitted it>".
    subject: "<aggregate type>/<aggregate id>".
    time: when it happened.
    recorded_at: when it was decided to append it.
    actor: who caused it (usr_…, svc_…); None: the system by itself.
    causation_id: the event that it followed from.
    correlation_id: the same for all that follows from one request.
    traceparent: W3C trace context of the work that emitted it.
    seq, partition: its place in the log; set on reading, 0 before, never in the JSON.
    """

    type: ClassVar[str] = ""

    id: str
    source: str
    subject: str
    time: Timestamp
    dataschema: str
    workspace_id: str
    recorded_at: Timestamp
    # A factory's value is written even where omit_defaults drops plain defaults.
    specversion: str = msgspec.field(default_factory=_spec_version)
    datacontenttype: str = msgspec.field(default_factory=_content_type)
    actor: str | None = None
    causation_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    data: E
    seq: int = 0
    partition: int = 0

    @property
    def aggregate_type(self) -> str:
        """The kind of thing that the event is about, such as "issue"."""
        return self.subject.partition("/")[0]

    @property
    def aggregate_id(self) -> str:
        """The id of the thing that the event is about."""
        return self.subject.partition("/")[2]


def _envelope(event_type: str, event: type[Event]) -> type[Recorded[Event]]:
    """The envelope of one event class; its tag is what the decoder dispatches on."""
    made = msgspec.defstruct(
        f"Recorded{event.__name__}",
        [("data", event)],
        bases=(Recorded,),
        tag_field="type",
        tag=event_type,
        frozen=True,
        kw_only=True,
        omit_defaults=True,
        rename=_NAMES,
        module=__name__,
    )
    made.type = event_type  # type: ignore[attr-defined]  # the tag, readable as an attribute
    return cast(type[Recorded[Event]], made)


_ENVELOPES: dict[type[Event], type[Recorded[Event]]] = {
    event: _envelope(event_type, event) for event_type, event in EVENT_TYPES.items()
}
_KINDS: dict[type[Event], tuple[type[Recorded[Event]], str, str]] = {
    event: (_ENVELOPES[event], f"{AGGREGATES[event]}/", SCHEMA_PREFIX + event_type)
    for event_type, event in EVENT_TYPES.items()
}
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Recorded[Event]] = msgspec.json.Decoder(
    Union[tuple(_ENVELOPES.values())]  # noqa: UP007  # made at run time, one per event
)


# msgspec tells broken UTF-8 and absurd nesting by Python's own errors.
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _TypeOnly(Struct, frozen=True):
    """Just enough of an envelope to say what it is."""

    type: str


def encode(event: Recorded[Event]) -> bytes:
    """The event as one JSON body; its place in the log is not part of it."""
    if event.seq or event.partition:
        event = msgspec.structs.replace(event, seq=0, partition=0)
    return _encoder.encode(event)


def decode(
    payload: bytes, *, seq: int, partition: int, upcasts: Mapping[str, Upcast] = UPCASTS
) -> Recorded[Event]:
    """The event that a stored body holds, at its place in the log; an old type is upcast to a known one.

    Fields that this build does not know are ignored.
    Raises UnknownEventError for a type that this build does not know, MalformedEventError for anything else
    that is not an event. One pass over the bytes unless the type is old.
    """
    try:
        event = _decoder.decode(payload)
    except _REFUSALS as error:
        event = _decode_old(payload, upcasts, error)
    # Nobody else has seen the fresh object, so setting beats copying it.
    force_setattr(event, "seq", seq)
    force_setattr(event, "partition", partition)
    return event


def _decode_old(payload: bytes, upcasts: Mapping[str, Upcast], refused: Exception) -> Recorded[Event]:
    """The event behind a type that the decoder refused, after every upcast that applies."""
    try:
        event_type = msgspec.json.decode(payload, type=_TypeOnly).type
        if event_type in EVENT_TYPES:
            raise MalformedEventError(str(refused)) from refused
        if event_type not in upcasts:
            raise UnknownEventError(event_type)
        body = msgspec.json.decode(payload, type=dict[str, object])
        return msgspec.convert(_upcast(body, upcasts), type=_decoder.type)
    except _REFUSALS as error:
        raise MalformedEventError(str(error)) from error


def _upcast(body: dict[str, object], upcasts: Mapping[str, Upcast]) -> dict[str, object]:
    event_type, data = msgspec.convert(
        (body.get("type"), body.get("data")), type=tuple[str, dict[str, object]]
    )
    while event_type in upcasts:
        step = upcasts[event_type]
        event_type, data = step.new_type, step.convert(data)
    if event_type not in EVENT_TYPES:
        raise UnknownEventError(event_type)
    return {**body, "type": event_type, "dataschema": SCHEMA_PREFIX + event_type, "data": data}


def record(  # one argument per attribute of the envelope
    data: Event,
    *,
    workspace_id: str,
    aggregate_id: str,
    occurred_at: datetime,
    recorded_at: datetime,
    source: str,
    cause: Recorded[Event] | None = None,
    actor: str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    event_id: str | None = None,
) -> Recorded[Event]:
    """The event in its envelope, ready to append.

    source: name of the service that emits it.
    cause: the event that it follows from; correlation and trace are inherited from it unless given.
    event_id: default: derived from workspace, subject, type, data and the cause, or without a cause from the
    correlation and `occurred_at`; deciding the same again gives the same id.
    """
    envelope, subject_prefix, dataschema = _KINDS[type(data)]
    subject = subject_prefix + aggregate_id
    causation_id = None
    if cause is not None:
        causation_id = cause.id
        correlation_id = correlation_id or cause.correlation_id or cause.id
        traceparent = traceparent or cause.traceparent
    if event_id is None:
        origin = causation_id or f"{correlation_id}/{occurred_at.isoformat()}"
        content = f"{workspace_id}\n{subject}\n{envelope.type}\n{origin}\n".encode() + _encoder.encode(data)
        event_id = "evt_" + digest(content)
    return envelope(
        id=event_id,
        source="/causeloop/" + source,
        subject=subject,
        time=occurred_at,
        dataschema=dataschema,
        workspace_id=workspace_id,
        recorded_at=recorded_at,
        specversion=SPEC_VERSION,
        datacontenttype=CONTENT_TYPE,
        actor=actor,
        causation_id=causation_id,
        correlation_id=correlation_id,
        traceparent=traceparent,
        data=data,
    )
