"""The contract as the generators see it: contexts, messages, fields and enums with their comments."""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from codegen.image import EnumDescriptor, FieldDescriptor, FileDescriptor, Image, MessageDescriptor

ROOT_PACKAGE = "causeloop."

_MESSAGE_PATH, _ENUM_PATH, _MEMBER_PATH = 4, 5, 2
_EMITTED = re.compile(r"Emitted by (?P<emitter>\w+) on (?P<aggregate>\w+)/<(?P<key>\w+)>")
_ENDPOINT = re.compile(r"Endpoint: (?P<endpoint>[a-z_]+\.[a-z_]+)\.")

_SCALARS: Mapping[str, str] = {
    "TYPE_STRING": "str",
    "TYPE_INT32": "int",
    "TYPE_INT64": "int",
    "TYPE_DOUBLE": "float",
    "TYPE_BOOL": "bool",
}
_WELL_KNOWN: Mapping[str, str] = {
    ".google.protobuf.Timestamp": "datetime",
    ".google.protobuf.Struct": "object",
}


class ContractError(Exception):
    """A .proto file says something that the rules of proto/README.md do not allow."""


class TypeRef(Struct, frozen=True):
    """The type of a field's value: a scalar, "datetime", "object", or a message or enum of a context."""

    name: str
    context: str | None = None
    is_enum: bool = False


class Field(Struct, frozen=True):
    """One field of a message."""

    name: str
    number: int
    type: TypeRef
    is_optional: bool
    is_repeated: bool
    is_map: bool
    comment: str


class Message(Struct, frozen=True):
    """One message; an event when it has an emitter, a request when it has an endpoint."""

    name: str
    full_name: str
    comment: str
    fields: tuple[Field, ...]
    emitter: str | None = None
    aggregate: str | None = None
    aggregate_key: str | None = None
    endpoint: str | None = None


class EnumValue(Struct, frozen=True):
    """One value of an enum: its name in Python and its text on the wire."""

    name: str
    text: str
    comment: str


class Enum(Struct, frozen=True):
    """One enum without its UNSPECIFIED value."""

    name: str
    full_name: str
    comment: str
    values: tuple[EnumValue, ...]


class Context(Struct, frozen=True):
    """All that one context says in its events.proto and commands.proto."""

    name: str
    package: str
    enums: tuple[Enum, ...]
    messages: tuple[Message, ...]

    @property
    def events(self) -> tuple[Message, ...]:
        """The facts, in the order of the file."""
        return tuple(message for message in self.messages if message.emitter is not None)

    @property
    def requests(self) -> tuple[Message, ...]:
        """What may be asked of the context's service, in the order of the file."""
        return tuple(message for message in self.messages if message.endpoint is not None)


def contexts(image: Image) -> tuple[Context, ...]:
    """The contexts of an image by name, each with events before commands.

    Raises ContractError on a construct that the generators have no rule for.
    """
    own = [file for file in image.file if file.package.startswith(ROOT_PACKAGE)]
    enum_names = {f".{file.package}.{enum.name}" for file in own for enum in file.enum_type}
    grouped: dict[str, list[FileDescriptor]] = {}
    for file in sorted(own, key=_events_first):
        grouped.setdefault(file.package, []).append(file)
    found = [_context(package, files, enum_names) for package, files in sorted(grouped.items())]
    return tuple(found)


def _events_first(file: FileDescriptor) -> tuple[str, bool]:
    return file.package, not file.name.endswith("/events.proto")


def _context(package: str, files: Sequence[FileDescriptor], enum_names: set[str]) -> Context:
    return Context(
        name=package.split(".")[1],
        package=package,
        enums=tuple(enum for file in files for enum in _enums(file)),
        messages=tuple(message for file in files for message in _messages(file, enum_names)),
    )


def _comments(file: FileDescriptor) -> dict[tuple[int, ...], str]:
    return {
        location.path: "\n".join(line.strip() for line in location.leading_comments.strip().splitlines())
        for location in file.source_code_info.location
    }


def _enums(file: FileDescriptor) -> Iterator[Enum]:
    comments = _comments(file)
    for index, enum in enumerate(file.enum_type):
        values = tuple(
            EnumValue(
                name=_unprefixed(enum, value.name),
                text=_unprefixed(enum, value.name).lower(),
                comment=_required(comments, (_ENUM_PATH, index, _MEMBER_PATH, position), value.name),
            )
            for position, value in enumerate(enum.value)
            if value.number != 0
        )
        yield Enum(
            name=enum.name,
            full_name=f"{file.package}.{enum.name}",
            comment=_required(comments, (_ENUM_PATH, index), enum.name),
            values=values,
        )


def _unprefixed(enum: EnumDescriptor, value: str) -> str:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return value.removeprefix(prefix)


def _messages(file: FileDescriptor, enum_names: set[str]) -> Iterator[Message]:
    comments = _comments(file)
    is_events_file = file.name.endswith("/events.proto")
    for index, message in enumerate(file.message_type):
        comment = _required(comments, (_MESSAGE_PATH, index), message.name)
        fields = tuple(
            _field(
                message,
                field,
                comment=_required(comments, (_MESSAGE_PATH, index, _MEMBER_PATH, position), field.name),
                enum_names=enum_names,
            )
            for position, field in enumerate(message.field)
        )
        emitted = _EMITTED.search(comment) if is_events_file else None
        asked = None if is_events_file else _ENDPOINT.search(comment)
        yield Message(
            name=message.name,
            full_name=f"{file.package}.{message.name}",
            comment=comment,
            fields=fields,
            emitter=emitted["emitter"] if emitted else None,
            aggregate=emitted["aggregate"] if emitted else None,
            aggregate_key=emitted["key"] if emitted else None,
            endpoint=asked["endpoint"] if asked else None,
        )


def _field(
    message: MessageDescriptor, field: FieldDescriptor, *, comment: str, enum_names: set[str]
) -> Field:
    value = _map_value(message, field)
    return Field(
        name=field.name,
        number=field.number,
        type=_type_ref(value or field, enum_names),
        is_optional=field.proto3_optional,
        is_repeated=field.label == "LABEL_REPEATED" and value is None,
        is_map=value is not None,
        comment=comment,
    )


def _map_value(message: MessageDescriptor, field: FieldDescriptor) -> FieldDescriptor | None:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{message.name}.{nested.name}"):
            return nested.field[1]
    return None


def _type_ref(field: FieldDescriptor, enum_names: set[str]) -> TypeRef:
    if field.type in _SCALARS:
        return TypeRef(_SCALARS[field.type])
    if field.type_name in _WELL_KNOWN:
        return TypeRef(_WELL_KNOWN[field.type_name])
    parts = field.type_name.split(".")
    if field.type_name.startswith(f".{ROOT_PACKAGE}") and len(parts) == 5:
        return TypeRef(parts[-1], context=parts[2], is_enum=field.type_name in enum_names)
    raise ContractError(f"{field.name}: no rule for type {field.type} {field.type_name}")


def _required(comments: Mapping[tuple[int, ...], str], path: tuple[int, ...], name: str) -> str:
    comment = comments.get(path, "")
    if not comment:
        raise ContractError(f"{name} has no comment")
    return comment
