"""Every place at which a decoded value is not what its type says; the decoder itself stops at the first. Pure."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

import msgspec

Hook = Callable[[type, object], object]


def faults_of(value: object, kind: object, *, hook: Hook, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and problem of each fault. kind: of Structs, tuples, dicts and what is in them; hook: as msgspec has it."""
    args = get_args(kind)
    struct = _struct_of(value, kind)
    if struct is not None and isinstance(value, dict):
        yield from _faults_of_struct(value, struct, hook=hook, path=path)
    elif get_origin(kind) is tuple and args[-1] is Ellipsis and isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults_of(item, args[0], hook=hook, path=f"{path}[{index}]")
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from faults_of(item, args[1], hook=hook, path=_joined(path, str(key)))
    else:
        try:
            msgspec.convert(value, kind, dec_hook=hook, builtin_types=(datetime, date))
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `$")
            yield _joined(path, place.rstrip("`").lstrip(".")), problem + _choices(problem, kind)


def _faults_of_struct(
    value: dict[object, object], kind: type[msgspec.Struct], *, hook: Hook, path: str
) -> Iterator[tuple[str, str]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        name = str(key)
        if name in fields:
            yield from faults_of(item, fields[name].type, hook=hook, path=_joined(path, name))
        elif name != kind.__struct_config__.tag_field:
            near = get_close_matches(name, fields, n=1)
            hint = f"; is it `{near[0]}`?" if near else f"; there are {', '.join(fields)}"
            yield _joined(path, name), f"Object contains unknown field `{name}`{hint}"
    for name, field in fields.items():
        if field.required and name not in value:
            yield _joined(path, name), f"Object missing required field `{name}`"


def _choices(problem: str, kind: object) -> str:
    """What may stand where something else does, of a choice of words or of tagged objects; else nothing."""
    if not problem.startswith(("Invalid value", "Invalid enum value")):
        return ""
    args = get_args(kind)
    tags = [
        each.__struct_config__.tag
        for each in args
        if isinstance(each, type) and issubclass(each, msgspec.Struct)
    ]
    words = tags or [word for each in (kind, *args) if get_origin(each) is Literal for word in get_args(each)]
    return f"; there are {', '.join(map(str, words))}" if words else ""


def _struct_of(value: object, kind: object) -> type[msgspec.Struct] | None:
    """The Struct that an object has to be; None where that is another kind, or it does not say of which it is."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    structs = [each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    if not isinstance(value, dict) or len(structs) < len(
        [each for each in kinds if each not in {NoneType, str}]
    ):
        return None
    for each in structs:
        config = each.__struct_config__
        if config.tag_field is None or value.get(config.tag_field) == config.tag:
            return each
    return None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name and not name.startswith("[") else path + name
