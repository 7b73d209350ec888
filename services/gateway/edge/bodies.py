"""Limits on JSON that a type cannot state: how deep it nests; and where in it a fault is."""

import re

import msgspec
from runtime.errors import details_of

DEPTH_MAX = 32

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ROUND = bytes.maketrans(b"[{]}", b"(())")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = re.compile(r"[^.\[\]]+")
_LAST_STEP = re.compile(r"(^|\.)[^.\[\]]+$|\[\d*\]$")
_INDEX = re.compile(r"[0-9]{1,9}")
_FAULTS_MAX = 20
_TRIES_MAX = 4 * _FAULTS_MAX
_BYTES_LOOKED_AT_AGAIN_MAX = 64 * 1024
"""Each further fault costs a pass over the body, and nobody else is answered meanwhile."""


def is_too_deep(raw: bytes) -> bool:
    """Whether JSON text nests deeper than DEPTH_MAX; a few passes at C speed over any text, well-formed or not."""
    if raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:
        return False
    # Brackets inside strings are rare, so strings are cut out only when their brackets may have misled us.
    return not _is_flat(raw) and not _is_flat(_STRING.sub(b"", raw))


def _is_flat(raw: bytes) -> bool:
    """Whether peeling the innermost pairs so many times leaves nothing; what has no pairs left is for the parser."""
    brackets = raw.translate(_ROUND, _NO_BRACKETS)
    for _ in range(DEPTH_MAX):
        peeled = brackets.replace(b"()", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return b"()" not in brackets


def faults_in(raw: bytes, kind: object, error: msgspec.DecodeError | UnicodeDecodeError) -> dict[str, str]:
    """The field path and the fault of a body that is none of that kind: {"records[3].title": "Expected `str`…"}.

    Of a body of at most 64 KiB up to 20 of them, one in each list; of a larger one the first.
    """
    faults = details_of(error)
    if isinstance(error, msgspec.ValidationError) and len(raw) <= _BYTES_LOOKED_AT_AGAIN_MAX:
        try:
            body = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as behind:
            # The decoder did not get to where the text is no JSON any more, or holds a number beyond all numbers.
            return faults | details_of(behind)
        _add_others(faults, body, kind)
    return faults


def _add_others(faults: dict[str, str], body: object, kind: object) -> None:
    """The decoder stops at the first fault, so what it names is taken away, or what is around it, until none is left."""
    [path] = faults
    taken: set[str] = set()
    # A caller's field may be named as if it were a path of several steps, so what is counted is what ends this.
    for _ in range(_TRIES_MAX):
        if not path or len(faults) >= _FAULTS_MAX:
            break
        taken.add(path)
        if not _take_away(body, path):
            path = _around(path)
            continue
        try:
            msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            [(path, fault)] = details_of(error).items()
            # What we have taken is missing now; that is no fault of the caller's.
            if path not in taken:
                faults[path] = fault
        else:
            return
    if isinstance(body, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            name = field.encode_name
            if field.required and name not in {*body, *taken} and len(faults) < _FAULTS_MAX:
                faults[name] = f"Object missing required field `{name}`"


def _around(path: str) -> str:
    """The path of what a field is in, empty: of the whole; and of what is no path."""
    around = _LAST_STEP.sub("", path)
    return around if around != path else ""


def _take_away(body: object, path: str) -> bool:
    """Whether the field at the path was there; it is not any more. An element of a list has to stay where it is."""
    *way, last = _STEP.findall(path) or [""]
    for step in way:
        if isinstance(body, list):
            body = body[int(step)] if _INDEX.fullmatch(step) and int(step) < len(body) else None
        elif isinstance(body, dict):
            body = body.get(step)
    if not isinstance(body, dict) or last not in body:
        return False
    del body[last]
    return True
