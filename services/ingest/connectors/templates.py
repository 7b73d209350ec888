"""Fills the placeholders of a manifest: `{config.site}`, `{target.project}`, `{title}`."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\}")

_AUTHORITY: Final = re.compile(r"(https?://)([^/?#]*)(.*)", re.DOTALL)
HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_OF_A_PATH: Final = ":*,~"
"""What a person writes in a path on purpose, and what parts nothing there."""
_ENCODED_TWICE: Final = re.compile(r"%25(?=[0-9A-Fa-f]{2})")


class TemplateError(ValueError):
    """A placeholder stands for nothing, or for something that may not stand there; says which."""


def fill(value: object, values: Mapping[str, object]) -> object:
    """A JSON value with every placeholder replaced, by its name such as "config.site".

    A text that is nothing but one placeholder becomes the value itself, of whatever type; elsewhere it is written
    into the text as it is. Raises TemplateError for a name that `values` lacks.
    """
    if isinstance(value, str):
        alone = PLACEHOLDER.fullmatch(value)
        return _value(values, alone[1]) if alone else fill_text(value, values)
    if isinstance(value, dict):
        return {name: fill(item, values) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, values) for item in value]
    return value


def fill_text(text: str, values: Mapping[str, object]) -> str:
    """The same for a text that stays one."""
    return PLACEHOLDER.sub(lambda found: str(_value(values, found[1])), text)


def fill_address(template: str, values: Mapping[str, object]) -> str:
    """An address in which no value can reach beyond its place: in the host it is a host's name, behind it it is quoted.

    A placeholder that begins the address is an address by itself. Raises TemplateError.
    """
    first = PLACEHOLDER.match(template)
    start = ""
    if first:
        start, template = str(_value(values, first[1])).rstrip("/"), template[first.end() :]
    else:
        parts = _AUTHORITY.fullmatch(template)
        if parts:
            start = parts[1] + PLACEHOLDER.sub(lambda found: _host_part(values, found[1]), parts[2])
            template = parts[3]
    return start + fill_path(template, values)


def fill_path(template: str, values: Mapping[str, object]) -> str:
    """A path or query in which every value is quoted. Raises TemplateError."""
    return PLACEHOLDER.sub(lambda found: _quoted(values, found[1]), template)


def _value(values: Mapping[str, object], name: str) -> object:
    if name not in values:
        raise TemplateError(f"{name} is missing")
    return values[name]


def in_host(text: str, name: str) -> str:
    """A value where a host's name stands, or a part of one. Raises TemplateError."""
    if not HOST.fullmatch(text):
        raise TemplateError(
            f"{name} is no part of a host's name, such as one without https:// and without a path"
        )
    return text


def in_path(text: str, name: str, *, is_folders: bool = False) -> str:
    """What people set where a part of a path stands, or a value in a query: it reaches beyond its place nowhere.

    What they have encoded on purpose, as a slash, stays as it is. is_folders: its slashes part folders of the path.
    Raises TemplateError.
    """
    # Dots alone would climb out of the folder.
    if {".", ".."} & {unquote(part) for part in (text.split("/") if is_folders else [text])}:
        raise TemplateError(f"{name} may not be {text!r}")
    return _ENCODED_TWICE.sub("%", quote(text, safe=_OF_A_PATH + "/" * is_folders))


def _host_part(values: Mapping[str, object], name: str) -> str:
    return in_host(str(_value(values, name)).strip(), name)


def _quoted(values: Mapping[str, object], name: str) -> str:
    text = str(_value(values, name)).strip()
    if name.startswith("config."):
        return in_path(text, name)
    if text in {".", ".."}:
        raise TemplateError(f"{name} may not be {text!r}")
    return quote(text, safe="")
