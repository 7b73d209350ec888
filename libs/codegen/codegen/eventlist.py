"""The page docs/reference/events.md: every event for people to read."""

from collections.abc import Iterator, Sequence

from codegen.model import Context, Enum, Field, Message, TypeRef
from codegen.outline import ENVELOPE, subject

_INTRODUCTION = """\
<!-- Generated from proto/ by `causeloop-codegen events`; do not edit. -->

# Events

Every fact of Causeloop is one of these events, appended to the log for good. The machine-readable form is
[asyncapi.yaml](asyncapi.yaml); the rules of change are in [proto/README.md](../../proto/README.md).
Each event is one CloudEvents 1.0 JSON object: the attributes below, then `data` with the event's own fields.
A field marked *optional* is absent when it has no value; a list may be absent when it is empty.
"""
_JSON_NAMES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "datetime": "timestamp",
    "object": "object",
}


def page(contexts: Sequence[Context]) -> str:
    """The page as Markdown."""
    blocks = [_INTRODUCTION.rstrip("\n"), "\n".join(_envelope()), "\n".join(_contents(contexts))]
    for context in contexts:
        if context.events:
            blocks += ["\n\n".join(_context(context))]
    return "\n\n".join(blocks) + "\n"


def _envelope() -> Iterator[str]:
    yield "## The envelope"
    yield ""
    yield "| attribute | meaning |"
    yield "| --- | --- |"
    for attribute in ENVELOPE:
        mark = "" if attribute.is_required else " *(optional)*"
        yield f"| `{attribute.name}`{mark} | {attribute.meaning} |"


def _contents(contexts: Sequence[Context]) -> Iterator[str]:
    yield "## All events"
    yield ""
    yield "| event | emitted by | subject |"
    yield "| --- | --- | --- |"
    for context in contexts:
        for event in context.events:
            yield f"| [{event.name}](#{event.name.lower()}) | {event.emitter} | `{subject(event)}` |"


def _context(context: Context) -> Iterator[str]:
    yield f"## {context.name}"
    for event in context.events:
        yield f"### {event.name}"
        yield _prose(event.comment)
        yield f"Type `{event.full_name}`, emitted by {event.emitter} on `{subject(event)}`."
        yield "\n".join(_fields(event, context))
    for message in _parts(context):
        yield f"### {message.name}"
        yield _prose(message.comment)
        yield "\n".join(_fields(message, context))
    for enum in _enums(context):
        yield f"### {enum.name}"
        yield _prose(enum.comment)
        yield "\n".join(f"- `{value.text}`: {value.comment}" for value in enum.values)


def _prose(comment: str) -> str:
    # The sentence that says emitter and subject is rendered from its parts.
    sentences = [line for line in comment.splitlines() if not line.startswith("Emitted by")]
    return "\n".join(sentences).replace("<", "&lt;")


def _fields(message: Message, context: Context) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "| --- | --- | --- |"
    for field in message.fields:
        meaning = " ".join(field.comment.split()).replace("|", "\\|")
        yield f"| `{field.name}` | {_type(field, context)} | {meaning} |"


def _type(field: Field, context: Context) -> str:
    name = _type_name(field.type, context)
    if field.is_repeated:
        return f"list of {name}"
    if field.is_map:
        return f"object of {name}"
    return f"{name}, optional" if field.is_optional else name


def _type_name(ref: TypeRef, context: Context) -> str:
    if ref.context is None:
        return _JSON_NAMES[ref.name]
    label = ref.name if ref.context == context.name else f"{ref.context}.{ref.name}"
    return f"[{label}](#{ref.name.lower()})"


def _used(context: Context) -> set[str]:
    fields = {message.name: message.fields for message in context.messages}
    wanted = [event.name for event in context.events]
    used: set[str] = set()
    while wanted:
        name = wanted.pop()
        used.add(name)
        wanted += [f.type.name for f in fields.get(name, ()) if f.type.context == context.name]
    return used


def _parts(context: Context) -> list[Message]:
    used = _used(context)
    return [m for m in context.messages if m.name in used and m.emitter is None]


def _enums(context: Context) -> list[Enum]:
    used = _used(context)
    return [enum for enum in context.enums if enum.name in used]
