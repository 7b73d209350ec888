"""Fills the placeholders of a manifest: `{config.site}`, `{target.project}`, `{title}`. Pure.

A text takes a value as it is. In an address a value reaches nowhere beyond its place: where a host stands it is a part of
a host's name, and behind that it is quoted.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from services.ingest.connectors.manifest import Manifest
from services.ingest.errors import VendorError

PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\}")
POLLED: Final = re.compile(r"\{\{|\}\}|\{((?:config|secret|incremental)\.[a-z0-9_]+)\}")
"""As dlt writes what is polled: two braces stand for one, and other words in braces stay, for GraphQL is full of them."""
HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?")

_AUTHORITY: Final = re.compile(r"((?i:https?)://)([^/?#]*)(.*)", re.DOTALL)
_SET: Final = ("config.", "secret.", "incremental.")
"""Names of what stands in addresses as whoever wrote it meant it; a slash that is encoded already stays as it is."""
_OF_A_PATH: Final = ":*,~"
"""What people write in a path on purpose, and what parts nothing there."""
_ENCODED_TWICE: Final = re.compile(r"%25(?=[0-9A-Fa-f]{2})")
_CLIMBING: Final = frozenset({".", ".."})
"""Dots alone would climb out of the folder."""


class TemplateError(VendorError):
    """A placeholder stands for nothing, or for something that may not stand there; says which."""

    def __init__(self, detail: str) -> None:
        super().__init__("not_configured", detail)


class Values:
    """What stands for the placeholders of what is polled: config and its defaults, secrets, the ends of a window.

    window: "start_value" and "end_value". Each method raises TemplateError, a VendorError("not_configured"), for what
    nobody gave.
    """

    def __init__(
        self,
        manifest: Manifest,
        config: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
        window: Mapping[str, str] | None = None,
    ) -> None:
        self._folders = folders_of(manifest)
        self._values = config_values(manifest, config)
        for scope, given in (("secret", secrets), ("incremental", window)):
            self._values |= {f"{scope}.{name}": value for name, value in (given or {}).items()}

    def text(self, template: str) -> str:
        """The template, filled."""
        return fill_text(template, self._values, notation=POLLED)

    def option(self, key: str) -> str:
        """A field of config that need not be there; empty where it is not."""
        return self._values.get(f"config.{key}", "")

    def path(self, template: str) -> str:
        """The same for a path below `base_url`; an address of its own is refused, for the credentials would go there."""
        path = fill_path(template, self._values, folders=self._folders, notation=POLLED)
        if urlsplit(path).scheme in ("http", "https"):
            raise TemplateError("a path is no address: where requests go is base_url's to say")
        return path

    def tree(self, template: object) -> object:
        """The same for every text in a JSON value; a copy, so that whoever gets it may change it."""
        return fill(template, self._values, notation=POLLED)

    def base_url(self, manifest: Manifest) -> str:
        """The address that everything of this connector is asked under, without a slash at its end."""
        template = manifest.base_url
        if template is None:
            raise TemplateError(f"{manifest.name} has no address to ask")
        if not isinstance(template, str):
            chosen = self.text(f"{{config.{template.select}}}")
            if chosen not in template.choices:
                raise TemplateError(f"{template.select} is one of {', '.join(template.choices)}")
            template = template.choices[chosen]
        self.path(template.partition("://")[2].partition("/")[2])  # for its refusal of an address as a value
        url = fill_address(template, self._values, folders=self._folders, notation=POLLED)
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise TemplateError(f"{url!r} is not an address") from error
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
            raise TemplateError(f"{url!r} is not an address that begins with https://")
        if parts.username is not None or parts.password is not None:
            raise TemplateError("an address holds no user name; there are fields for that")
        return url.rstrip("/")


def config_values(manifest: Manifest, config: Mapping[str, str]) -> dict[str, str]:
    """What `{config.…}` stands for: what a connector says, and the manifest's defaults."""
    known = {
        field.key: field.default or ""
        for field in manifest.config
        if field.default is not None or not field.required
    }
    known |= {key: value for key, value in config.items() if value}
    return {f"config.{key}": value for key, value in known.items()}


def folders_of(manifest: Manifest) -> frozenset[str]:
    """Names of values whose slashes part folders of a path, by the manifest's `is_folders`."""
    return frozenset(f"config.{field.key}" for field in manifest.config if field.is_folders)


def fill(value: object, values: Mapping[str, object], *, notation: re.Pattern[str] = PLACEHOLDER) -> object:
    """A JSON value with every placeholder replaced, by its name such as "config.site".

    A text that is nothing but one placeholder becomes the value itself, of whatever type; elsewhere it is written
    into the text as it is. Raises TemplateError for a name that `values` lacks.
    """
    if isinstance(value, str):
        alone = notation.fullmatch(value)
        if alone and alone[1]:
            return _value(values, alone[1])
        return fill_text(value, values, notation=notation)
    if isinstance(value, Mapping):
        return {name: fill(item, values, notation=notation) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, values, notation=notation) for item in value]
    return value


def fill_text(text: str, values: Mapping[str, object], *, notation: re.Pattern[str] = PLACEHOLDER) -> str:
    """The same for a text that stays one."""
    return _filled(text, values, notation, lambda found, _: found)


def fill_address(
    template: str,
    values: Mapping[str, object],
    *,
    folders: Collection[str] = (),
    notation: re.Pattern[str] = PLACEHOLDER,
) -> str:
    """An address in which no value can reach beyond its place: in the host it is a host's name, behind it it is quoted.

    A placeholder that begins the address is an address by itself. Raises TemplateError.
    """
    first = notation.match(template)
    start = ""
    if first and first[1]:
        start, template = str(_value(values, first[1])).rstrip("/"), template[first.end() :]
    elif parts := _AUTHORITY.fullmatch(template):
        start, template = parts[1] + _filled(parts[2], values, notation, _in_host), parts[3]
    return start + fill_path(template, values, folders=folders, notation=notation)


def fill_path(
    template: str,
    values: Mapping[str, object],
    *,
    folders: Collection[str] = (),
    notation: re.Pattern[str] = PLACEHOLDER,
) -> str:
    """A path or query in which every value is quoted. folders: as `folders_of` has them. Raises TemplateError."""
    return _filled(template, values, notation, lambda found, name: _in_path(found, name, folders))


def _filled(
    template: str,
    values: Mapping[str, object],
    notation: re.Pattern[str],
    placed: Callable[[str, str], str],
) -> str:
    """The template with each value as `placed` makes it of the value and its name."""

    def replacement(match: re.Match[str]) -> str:
        name: str | None = match[1]
        return match[0][0] if name is None else placed(str(_value(values, name)), name)

    return notation.sub(replacement, template)


def _value(values: Mapping[str, object], name: str) -> object:
    if name not in values:
        raise TemplateError(f"{name} has not been given")
    return values[name]


def _in_host(text: str, name: str) -> str:
    text = text.strip()
    if not HOST.fullmatch(text):
        raise TemplateError(
            f"{name} is no part of a host's name, such as one without https:// and without a path"
        )
    return text


def _in_path(text: str, name: str, folders: Collection[str]) -> str:
    text = text.strip()
    if not name.startswith(_SET):
        if text in _CLIMBING:
            raise TemplateError(f"{name} may not be {text!r}")
        return quote(text, safe="")
    is_folders = name in folders
    if _CLIMBING & {unquote(part) for part in (text.split("/") if is_folders else [text])}:
        raise TemplateError(f"{name} may not be {text!r}")
    return _ENCODED_TWICE.sub("%", quote(text, safe=_OF_A_PATH + "/" * is_folders))
