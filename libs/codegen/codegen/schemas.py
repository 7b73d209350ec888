"""JSON Schema of the contract's messages and enums."""

from collections.abc import Mapping, Sequence

from codegen.model import Context, Enum, Field, Message, TypeRef

Schema = dict[str, object]

_SCALARS: Mapping[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"type": "object"},
}


def key(context: str, name: str) -> str:
    """The name of a schema in a document, unique over contexts."""
    return f"{context}_{name}"


def reference(context: str, name: str) -> Schema:
    """A pointer to a schema of the same document."""
    return {"$ref": f"#/components/schemas/{key(context, name)}"}


def of_events(contexts: Sequence[Context]) -> dict[str, Schema]:
    """The schemas of all events and of all that they contain, by key, in the order of the contract."""
    messages = {key(c.name, m.name): (c, m) for c in contexts for m in c.messages}
    wanted = [key(c.name, event.name) for c in contexts for event in c.events]
    used: set[str] = set()
    while wanted:
        name = wanted.pop()
        used.add(name)
        if name in messages:
            refs = [field.type for field in messages[name][1].fields]
            found = {key(ref.context, ref.name) for ref in refs if ref.context is not None}
            wanted += sorted(found - used)
    enums = {key(c.name, e.name): of_enum(e) for c in contexts for e in c.enums}
    schemas = {name: of_message(message) for name, (_, message) in messages.items()} | enums
    return {name: schema for name, schema in schemas.items() if name in used}


def of_message(message: Message) -> Schema:
    """The schema of one message; fields that it does not name are allowed, as readers tolerate them."""
    required = [f.name for f in message.fields if not (f.is_optional or f.is_repeated or f.is_map)]
    schema: Schema = {
        "type": "object",
        "description": " ".join(message.comment.split()),
        "properties": {field.name: _of_field(field) for field in message.fields},
    }
    return schema | ({"required": required} if required else {})


def of_enum(enum: Enum) -> Schema:
    """The schema of one enum."""
    meanings = " ".join(f"{value.text}: {value.comment}" for value in enum.values)
    return {
        "type": "string",
        "description": " ".join(f"{enum.comment} {meanings}".split()),
        "enum": [value.text for value in enum.values],
    }


def _of_field(field: Field) -> Schema:
    value = _of_type(field.type)
    description = " ".join(field.comment.split())
    if field.is_repeated:
        return {"type": "array", "description": description, "items": value}
    if field.is_map:
        return {"type": "object", "description": description, "additionalProperties": value}
    # Draft 7 ignores what stands beside a $ref, so the reference is wrapped.
    return {"description": description} | ({"allOf": [value]} if "$ref" in value else value)


def _of_type(ref: TypeRef) -> Schema:
    if ref.context is None:
        return dict(_SCALARS[ref.name])
    return reference(ref.context, ref.name)
