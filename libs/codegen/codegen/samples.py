"""One payload of every event as a release writes it, kept for ever as that release's golden payloads."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from codegen.model import Context, Enum, Field, Message, TypeRef
from codegen.outline import SCHEMA_PREFIX

_OCCURRED_AT = "2026-11-22T08:15:30.250000Z"
_RECORDED_AT = "2026-11-22T08:15:31Z"
_ID_BODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
_PREFIXES = {
    "workspace_id": "ws_",
    "issue_id": "iss_",
    "issue_ids": "iss_",
    "pattern_id": "pat_",
    "target_pattern_id": "pat_",
    "source_pattern_id": "pat_",
    "new_pattern_id": "pat_",
    "prediction_id": "prd_",
    "recommendation_id": "rec_",
    "connector_id": "con_",
}
_SCALARS: dict[str, object] = {
    "int": 3,
    "float": 0.25,
    "bool": True,
    "datetime": _OCCURRED_AT,
    "object": {
        "region": "eu-west-1",
        "attempt": 2,
        "labels": ["checkout", "ü"],
        "nested": {"is_retry": False},
    },
}


class Sample(Struct, frozen=True):
    """One golden payload: the file's name and the exact bytes on the wire."""

    file_name: str
    payload: bytes


def samples(contexts: Sequence[Context]) -> tuple[Sample, ...]:
    """Two payloads of every event: one with every field, one with the least that is valid."""
    return tuple(
        Sample(f"{context.name}.{event.name}.{kind}.json", _payload(event, contexts, is_full=is_full))
        for context in contexts
        for event in context.events
        for kind, is_full in (("full", True), ("least", False))
    )


def _payload(event: Message, contexts: Sequence[Context], *, is_full: bool) -> bytes:
    aggregate_id = _text(event.aggregate_key or "")
    envelope = {
        "type": event.full_name,
        "id": f"evt_{_ID_BODY}",
        "source": f"/causeloop/{event.emitter}",
        "subject": f"{event.aggregate}/{aggregate_id}",
        "time": _OCCURRED_AT,
        "dataschema": SCHEMA_PREFIX + event.full_name,
        "workspaceid": f"ws_{_ID_BODY}",
        "recordedtime": _RECORDED_AT,
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    optional = {
        "actorid": f"usr_{_ID_BODY}",
        "causationid": f"evt_{_ID_BODY}",
        "correlationid": f"req_{_ID_BODY}",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    extra = optional if is_full else {}
    return msgspec.json.encode({**envelope, **extra, "data": _message(event, contexts, is_full=is_full)})


def _message(message: Message, contexts: Sequence[Context], *, is_full: bool) -> dict[str, object]:
    return {
        field.name: _field(field, contexts, is_full=is_full)
        for field in message.fields
        if is_full or not (field.is_optional or field.is_repeated or field.is_map)
    }


def _field(field: Field, contexts: Sequence[Context], *, is_full: bool) -> object:
    value = _value(field.name, field.type, contexts, is_full=is_full)
    if field.is_repeated:
        return [value, value]
    return {"key": value} if field.is_map else value


def _value(name: str, ref: TypeRef, contexts: Sequence[Context], *, is_full: bool) -> object:
    if ref.context is None:
        return _text(name) if ref.name == "str" else _SCALARS[ref.name]
    match _find(ref, contexts):
        case Enum(values=values):
            return values[-1].text
        case Message() as message:
            return _message(message, contexts, is_full=is_full)


def _find(ref: TypeRef, contexts: Sequence[Context]) -> Enum | Message:
    context = next(context for context in contexts if context.name == ref.context)
    candidates: tuple[Enum | Message, ...] = (*context.enums, *context.messages)
    return next(candidate for candidate in candidates if candidate.name == ref.name)


def _text(name: str) -> str:
    prefix = _PREFIXES.get(name)
    return f"{prefix}{_ID_BODY}" if prefix else f'The {name.replace("_", " ")}: "ü" \\ 例'
