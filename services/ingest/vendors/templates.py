"""Fills the templates of manifests with what a connector was given."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from services.ingest.connectors.manifest import Manifest, Stream
from services.ingest.connectors.templates import TemplateError, in_host, in_path
from services.ingest.errors import VendorError

_MARK: Final = re.compile(r"\{\{|\}\}|\{(config|secret|incremental)\.([a-z0-9_]+)\}")
_RESOLUTIONS: Final = {
    "date": timedelta(days=1),
    "minute": timedelta(minutes=1),
    "epoch_ms": timedelta(milliseconds=1),
}


class Values:
    """What stands for the placeholders: configuration with the manifest's defaults, secrets, the ends of a window."""

    def __init__(
        self,
        manifest: Manifest,
        config: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
        window: Mapping[str, str] | None = None,
    ) -> None:
        defaults = {field.key: field.default for field in manifest.config if field.default is not None}
        optional = {field.key: "" for field in manifest.config if not field.required}
        self._folders = {field.key for field in manifest.config if field.is_folders}
        self._values: dict[str, Mapping[str, str]] = {
            "config": {**optional, **defaults, **{key: value for key, value in config.items() if value}},
            "secret": secrets or {},
            "incremental": window or {},
        }

    def text(self, template: str) -> str:
        """The template, filled. Raises VendorError("not_configured") for what nobody gave."""
        return _MARK.sub(self._value, template)

    def option(self, key: str) -> str:
        """A field of config that need not be there; empty where it is not."""
        return self._values["config"].get(key, "")

    def path(self, template: str) -> str:
        """The same for a path of an address: values cannot begin a query or a fragment, nor another part of the path.

        Raises VendorError("not_configured") for an address of its own, to which the credentials would go.
        """
        path = _MARK.sub(self._part, template)
        if urlsplit(path).scheme in ("http", "https"):
            raise VendorError(
                "not_configured", "a path is no address: where requests go is base_url's to say"
            )
        return path

    def tree(self, template: object) -> object:
        """The same for every text in a JSON value; a copy, so that whoever gets it may change it."""
        if isinstance(template, str):
            return self.text(template)
        if isinstance(template, Mapping):
            return {key: self.tree(value) for key, value in template.items()}
        if isinstance(template, list | tuple):
            return [self.tree(value) for value in template]
        return template

    def base_url(self, manifest: Manifest) -> str:
        """The address that everything of this connector is asked under.

        A value in the place of a host can be a host with a port and nothing else.
        Raises VendorError("not_configured").
        """
        template = manifest.base_url
        if template is None:
            raise VendorError("not_configured", f"{manifest.name} has no address to ask")
        if not isinstance(template, str):
            chosen = self.text(f"{{config.{template.select}}}")
            if chosen not in template.choices:
                raise VendorError(
                    "not_configured", f"{template.select} is one of {', '.join(template.choices)}"
                )
            template = template.choices[chosen]
        scheme, separator, rest = template.partition("://")
        if not separator:  # the whole address is asked of a person
            url = self.text(template)
        else:
            authority, slash, path = rest.partition("/")
            url = f"{scheme}://{_MARK.sub(self._host, authority)}{slash}{self.path(path)}"
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise VendorError("not_configured", f"{url!r} is not an address") from error
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
            raise VendorError("not_configured", f"{url!r} is not an address that begins with https://")
        if parts.username is not None or parts.password is not None:
            raise VendorError("not_configured", "an address holds no user name; there are fields for that")
        return url.rstrip("/")

    def _host(self, match: re.Match[str]) -> str:
        value = self._value(match)
        try:
            return in_host(value, match[2]) if match[1] else value
        except TemplateError as error:
            raise VendorError("not_configured", str(error)) from error

    def _part(self, match: re.Match[str]) -> str:
        value = self._value(match)
        try:
            return in_path(value, match[2], is_folders=match[2] in self._folders) if match[1] else value
        except TemplateError as error:
            raise VendorError("not_configured", str(error)) from error

    def _value(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = self._values[match[1]].get(match[2])
        if value is None:
            raise VendorError("not_configured", f"{match[2]} has not been given")
        return value


def written(moment: datetime, time_format: str) -> str:
    """A moment as a vendor wants the ends of a window; finer parts than it writes are left out."""
    moment = moment.astimezone(UTC)
    match time_format:
        case "epoch_s":
            return str(int(moment.timestamp()))
        case "epoch_ms":
            return str(int(moment.timestamp() * 1000))
        case "date":
            return moment.strftime("%Y-%m-%d")
        case "space":
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        case "minute":
            return moment.strftime("%Y-%m-%d %H:%M")
        case _:
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def resolution(stream: Stream) -> timedelta:
    """The least difference between two ends of a window that the vendor can tell."""
    return _RESOLUTIONS.get(stream.time_format, timedelta(seconds=1))


def window_values(stream: Stream, start: datetime, end: datetime) -> dict[str, str]:
    """The ends of a window under the names that templates have for them, both rounded outwards."""
    last = end + resolution(stream) - timedelta(microseconds=1)
    return {
        "start_value": written(start, stream.time_format),
        "end_value": written(last, stream.time_format),
    }
