"""Reads manifests from files and says what is wrong with them, by file and place."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from services.ingest.commands.sources import known_source
from services.ingest.connectors.manifest import (
    ApiKey,
    AuthorizationCode,
    Cursor,
    Details,
    Digest,
    Echo,
    GivenSecret,
    Hmac,
    Incremental,
    Manifest,
    Paginator,
    Token,
    decode,
    decode_hook,
    encode_hook,
)
from services.ingest.connectors.reserved import RESERVED
from services.ingest.connectors.templates import TemplateError, fill_address
from services.ingest.connectors.validation import faults_of

FOLDER: Final = Path(__file__).parent / "manifests"

DATABASES: Final = ("sql", "mysql", "snowflake")
"""Adapters that run queries."""

CUSTOM_PREFIX: Final = "custom_"
"""How the types of manifests begin that a workspace has for itself; their issues are of source custom_api."""

PROBLEMS_MAX: Final = 20
"""Problems of one manifest that are told at once."""

_PLACEHOLDER: Final = re.compile(r"\{(config|secret|target)\.([a-z0-9_]+)\}")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""
_NOT_OURS: Final = frozenset(
    {"connection", "content-length", "forwarded", "host", "transfer-encoding", "x-forwarded-host"}
)
"""Headers that say which host is meant, or where a request ends: behind a shared entrance credentials would go astray."""
_NAME: Final = r"(?:(?!where(?:not)?\b)[A-Za-z_@][A-Za-z0-9_@-]*|'[^'\\]+')(?:\[(?:-?\d+|'[^'\\]+')\])*"
_PATH: Final = re.compile(rf"(?:\$\.)?{_NAME}(?:\.{_NAME})*")
"""Of JSONPath what leads to one value. Wildcards, filters and descent cost what the answer likes, and have two ends."""
_PATHS: Final = frozenset(
    [
        "cursor_path",
        "next_url_path",
        "total_path",
        "has_more_path",
        "cursor_body_path",
        "offset_body_path",
        "limit_body_path",
        "page_body_path",
        "ids_path",
        "data_selector",
    ]
)
_COUNTS: Final = {"limit": 1, "maximum_offset": 1, "maximum_page": 1, "base_page": 0}
_BRACED: Final = re.compile(r"\{\w+\}")
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OF_CHANGES: Final = re.compile(
    r"activity|chang|clos(?!ing)|complet|done|edited|end((ed|s)?(at|on|time|date)?)?$|finish|last|modif|modstamp|resolved|stop|updat"
)
_OF_EVENTS: Final = re.compile(r"seen|notice|occur")
"""How words begin, in small letters, that say of a time that a record is listed by it anew when it changes or ends; and
some that say that it is not, since it may be closed without another event."""
_DANGLING: Final = re.compile(r"\{(config|secret)\.(?![a-z0-9_]+\})|\{config(?!\.)")


class Problem(Struct, frozen=True):
    """What is wrong in a manifest, and where: the file and the path of keys in it."""

    file: str
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.problem}" if self.path else f"{self.file}: {self.problem}"


class ManifestError(Exception):
    """A manifest cannot be used; all problems that were found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnknownTypeError(Exception):
    """There is no such type of source."""


def read(content: bytes, *, file: str, is_kept: bool = False) -> Manifest:
    """The manifest in a file's content.

    is_kept: it was read before, so what was allowed then is; only what is new has to say what becomes of late changes
    and what of it was run, and has its paths, limits, defaults, times of signatures and names of secrets looked at.
    Raises ManifestError with up to PROBLEMS_MAX problems, where it is not YAML with the first one; what only shows when
    all of it is of the right types comes behind that.
    """
    try:
        manifest = decode(content)
    except msgspec.ValidationError as error:
        found = faults_of(msgspec.yaml.decode(content), Manifest, hook=decode_hook)
        faults = [*islice(found, PROBLEMS_MAX)] or [("", str(error))]
        raise ManifestError(*(Problem(file, path, problem) for path, problem in faults)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(Problem(file, "", str(error))) from error
    problems = [
        Problem(file, path, problem)
        for path, problem in islice(_faults(manifest, Path(file).stem, is_kept=is_kept), PROBLEMS_MAX)
    ]
    if problems:
        raise ManifestError(*problems)
    return manifest


@cache
def types() -> tuple[str, ...]:
    """Every type that has a manifest, in order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def manifest_of(type_: str) -> Manifest:
    """The manifest of a type, in any usual spelling.

    Raises UnknownTypeError for a type without one, ManifestError when its file is wrong.
    """
    slug = type_ if type_ in types() else known_source(type_)
    if slug not in types() or (slug == "custom_api" and type_ != slug):
        raise UnknownTypeError(type_)
    path = FOLDER / f"{slug}.yaml"
    return read(path.read_bytes(), file=path.name)


def catalogue() -> tuple[Manifest, ...]:
    """All manifests, in the order of their types; raises ManifestError when a file is wrong."""
    return tuple(manifest_of(type_) for type_ in types())


def _faults(manifest: Manifest, stem: str, *, is_kept: bool) -> Iterator[tuple[str, str]]:
    """What the types cannot say: path and problem."""
    if manifest.type != stem:
        yield "type", f"{manifest.type!r} is not the file's name, {stem}.yaml"
    if known_source(manifest.type) != manifest.type and not manifest.type.startswith(CUSTOM_PREFIX):
        yield (
            "type",
            f"{manifest.type!r} is not in KNOWN_SOURCES of services/ingest/commands/sources.py, so that its issues "
            f"would be stored as {known_source(manifest.type)!r}; add it there",
        )
    if manifest.verified != bool(manifest.evidence):
        yield "evidence", "says which payloads were run, when and only when verified is true"
    yield from _mapping_faults(manifest)
    yield from _auth_faults(manifest)
    yield from _header_faults(manifest)
    yield from _template_faults(manifest)
    yield from _webhook_faults(manifest)
    names = [stream.name for stream in manifest.streams]
    if len(set(names)) < len(names):
        yield "streams", "two have the same name"
    if manifest.base_url is None and any(stream.endpoint is not None for stream in manifest.streams):
        yield "base_url", "is needed where there are streams"
    yield from _stream_faults(manifest)
    if not is_kept:
        yield from _evidence_faults(manifest)
        yield from _secret_faults(manifest)
        yield from _address_faults(manifest)
        yield from _time_faults(manifest)
        yield from _cursor_faults(manifest)
        yield from _paging_faults(manifest)


def _stream_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    fields = {field.key for field in manifest.config}
    for index, stream in enumerate(manifest.streams):
        place = f"streams[{index}]"
        if (stream.endpoint is None) == (stream.query is None):
            yield place, "needs an endpoint or a query, not both"
        if stream.query is not None and manifest.adapter not in DATABASES:
            yield f"{place}.query", f"needs adapter: {' or '.join(DATABASES)}"
        if stream.partition is not None and stream.partition not in fields:
            yield f"{place}.partition", f"{stream.partition!r} is not a field of config"
        if stream.partition_as is not None and stream.partition is None:
            yield f"{place}.partition_as", "needs partition"
        if stream.cursor_alone and not (
            stream.endpoint is not None
            and isinstance(stream.endpoint.paginator, Cursor)
            and (stream.endpoint.paginator.cursor_param or stream.endpoint.paginator.cursor_body_path)
        ):
            yield f"{place}.cursor_alone", "needs a cursor in the query or in the body"


def _cursor_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Lists that are asked by when something began, so that what ends later is before the next window for good."""
    for index, stream in enumerate(manifest.streams):
        endpoint = stream.endpoint
        if endpoint is None or endpoint.incremental is None or stream.reread_days or stream.cursor_is_change:
            continue
        cursor = endpoint.incremental.cursor_path
        said = [word.lower() for word in _WORD.findall(cursor)]
        is_of_changes = any(map(_OF_CHANGES.match, said)) and not any(map(_OF_EVENTS.match, said))
        is_narrowed = endpoint.says("start") or stream.order == "descending"
        if is_narrowed and not is_of_changes:
            yield (
                f"streams[{index}].reread_days",
                f"is needed, since {cursor} seems to be when something began, and what changes later would never be seen; "
                "where it is when the record changed last, or nothing of it changes later, say cursor_is_change: true",
            )


def _evidence_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """A way in of which nothing was run is not verified by what was run of the other."""
    is_own = manifest.type.startswith(CUSTOM_PREFIX)
    if manifest.verified == ("mapping" in manifest.unchecked) and not (is_own and not manifest.verified):
        yield (
            "unchecked",
            "names mapping, unless a real payload went through it: then verified is true and evidence says which",
        )
    ways = (("list", bool(manifest.streams)), ("webhook", manifest.webhook is not None))
    for way, is_there in ways:
        if manifest.verified and is_there and way not in manifest.evidence and way not in manifest.unchecked:
            yield "unchecked", f"names {way}, unless evidence says which {way} was run and made an issue"


def _paging_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Paths and limits that a run would stumble over, or walk an answer of any size by."""
    for index, stream in enumerate(manifest.streams):
        place = f"streams[{index}]"
        parts: dict[str, Details | Incremental | Paginator | None] = {"details": stream.details}
        if stream.endpoint is not None:
            parts |= {
                "endpoint.paginator": stream.endpoint.paginator,
                "endpoint.incremental": stream.endpoint.incremental,
            }
        for where, part in parts.items():
            fields = () if part is None else part.__struct_fields__
            for name, value in ((name, getattr(part, name)) for name in fields):
                if value == "":
                    yield f"{place}.{where}.{name}", "is empty"
                elif isinstance(value, str) and name in _PATHS and not _PATH.fullmatch(value):
                    yield (
                        f"{place}.{where}.{name}",
                        f"{value!r} is not names joined by dots, one of a list by its number: meta.pages[0].next; "
                        "a name with other signs stands in quotes: '@odata.nextLink', _source['@timestamp']",
                    )
                elif name in _COUNTS and value is not None and value < _COUNTS[name]:
                    yield f"{place}.{where}.{name}", f"is at least {_COUNTS[name]}"


def _mapping_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if not manifest.mappings:
        yield "mappings", "one is needed"
    for index, mapping in enumerate(manifest.mappings):
        place = f"mappings[{index}]"
        if mapping.when is None and index < len(manifest.mappings) - 1:
            yield f"{place}.when", "is needed, since mappings follow that would never be reached"
        for field in ("severity", "status"):
            rule = getattr(mapping, field)
            shouted = [word for word in (rule.map if rule else ()) if word != word.lower()]
            if shouted:
                yield (
                    f"{place}.{field}.map",
                    f"words are compared in lower case; write {shouted[0].lower()!r}",
                )
        bands = mapping.severity.bands if mapping.severity else ()
        if list(bands) != sorted(bands, key=lambda band: -band[0]):
            yield f"{place}.severity.bands", "begin with the highest"


def _auth_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if not manifest.auth:
        yield "auth", "one way is needed; `kind: none` where nothing is asked"
    for index, auth in enumerate(manifest.auth):
        if isinstance(auth, ApiKey) and not (auth.headers or auth.params):
            yield f"auth[{index}]", "headers or params are needed"
        for name in ("authorize_url", "token_url"):
            url = getattr(auth, name, "https://")
            if not url.startswith(("https://", "{")):
                yield f"auth[{index}].{name}", "must begin with https://"
        if isinstance(auth, AuthorizationCode) and auth.authorize_url == auth.token_url:
            yield f"auth[{index}].token_url", "is the address to authorize"


def _header_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    push = manifest.push
    places: dict[str, object] = {
        "": manifest,
        **{f"auth[{index}].": auth for index, auth in enumerate(manifest.auth)},
        **{f"streams[{index}].endpoint.": stream.endpoint for index, stream in enumerate(manifest.streams)},
        "push.": push,
        "push.find.": push and push.find,
        "push.status.": push and push.status,
    }
    for place, part in places.items():
        for kind in ("headers", "token_headers"):
            for name in getattr(part, kind, ()):
                if not _HEADER.fullmatch(name) or name.lower() in _NOT_OURS:
                    yield f"{place}{kind}.{name}", "is no header that a manifest may set"


def _template_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Placeholders that stand for nothing; regions without an address."""
    fields = {field.key: field for field in manifest.config}
    asked = {field.key for field in manifest.push.target} if manifest.push is not None else set()
    if not isinstance(manifest.base_url, str | None):
        selected = fields.get(manifest.base_url.select)
        if selected is None:
            yield "base_url.select", f"{manifest.base_url.select!r} is not a field of config"
        elif set(selected.choices) != set(manifest.base_url.choices):
            yield "base_url.choices", f"are not the choices of {selected.key!r}"
    for field in manifest.config:
        if field.choices and field.default is not None and field.default not in field.choices:
            yield f"config.{field.key}", f"the default {field.default!r} is none of the choices"
    for path, text in _texts(msgspec.to_builtins(manifest, enc_hook=encode_hook), ""):
        for kind, key in _PLACEHOLDER.findall(text):
            if kind == "config" and key not in fields:
                yield path, f"{{config.{key}}} is not a field of config"
            elif kind == "target" and (key not in asked or not path.startswith("push.")):
                yield path, f"{{target.{key}}} is not a field of push.target"
            elif kind == "secret" and not path.startswith("auth["):
                yield path, "a secret may only be used in auth"
        if _DANGLING.search(text):
            yield path, "holds a placeholder that is not of the form {config.key} or {secret.key}"


def _secret_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Secrets under names of ours: whoever gave one would write what only we may, such as a token."""
    for path, text in _texts(msgspec.to_builtins(manifest.auth), "auth"):
        for kind, name in _PLACEHOLDER.findall(text):
            if kind == "secret" and name in RESERVED:
                yield (
                    path,
                    f"{{secret.{name}}} is the name of a secret of ours; choose another, such as api_key",
                )


def _address_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Defaults and choices that cannot stand where an address has them, such as a path in the place of a host."""
    base = manifest.base_url
    regions = {} if base is None or isinstance(base, str) else base.choices
    addresses = {f"base_url.choices.{region}": address for region, address in regions.items()}
    if isinstance(base, str):
        addresses["base_url"] = base
    for index, auth in enumerate(manifest.auth):
        urls = {name: getattr(auth, name, "") for name in ("authorize_url", "token_url")}
        addresses |= {f"auth[{index}].{name}": url for name, url in urls.items()}
    values: dict[str, object] = {f"config.{field.key}": "x" for field in manifest.config}
    for field in manifest.config:
        for given in sorted({*field.choices, field.default or "x"}):
            for path, address in addresses.items():
                try:
                    fill_address(address, {**values, f"config.{field.key}": given})
                except TemplateError as error:
                    if f"config.{field.key} " in error.detail:
                        yield f"config.{field.key}", f"{given!r} cannot stand in {path}: {error.detail}"


def _webhook_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    webhook = manifest.webhook
    if webhook is None:
        return
    if not webhook.verify:
        yield "webhook.verify", "one scheme is needed; nothing is believed unproved"
    if not webhook.records:
        yield "webhook.records", "one path is needed"
    for index, spot in enumerate(webhook.records):
        if spot.events and webhook.event_type is None:
            yield f"webhook.records[{index}].events", "need webhook.event_type"
    for name in ("event_id", "event_type"):
        place = getattr(webhook, name)
        if place is not None and (place.header is None) == (place.path is None):
            yield f"webhook.{name}", "needs a header or a path, not both"
    for index, scheme in enumerate(webhook.verify):
        if (
            isinstance(scheme, Token)
            and sum(x is not None for x in (scheme.header, scheme.query, scheme.path)) != 1
        ):
            yield f"webhook.verify[{index}]", "needs one of header, query and path"
        if isinstance(scheme, Hmac) and not {"{body}", "{form}"} & set(_BRACED.findall(scheme.signed)):
            yield (
                f"webhook.verify[{index}].signed",
                "must hold {body} or {form}; otherwise anybody could change it",
            )
        if isinstance(scheme, Digest) and set(_BRACED.findall(scheme.signed)) < {"{body}", "{secret}"}:
            yield f"webhook.verify[{index}].signed", "must hold {secret} and {body}"
    for index, handshake in enumerate(webhook.handshake):
        places = [getattr(handshake, name, None) for name in ("header", "query", "path")]
        is_found = isinstance(handshake, Echo | GivenSecret)
        if is_found and sum(place is not None for place in places) != 1:
            yield f"webhook.handshake[{index}]", "needs one place that the text stands at"


def _time_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Signatures over a time that stands nowhere."""
    for index, scheme in enumerate(manifest.webhook.verify if manifest.webhook else ()):
        if isinstance(scheme, Hmac) and "{timestamp}" in scheme.signed + scheme.key and not _is_timed(scheme):
            yield (
                f"webhook.verify[{index}]",
                "holds {timestamp}, but no timestamp_header, timestamp_key or timestamp_path says where that is",
            )


def _is_timed(scheme: Hmac) -> bool:
    return any((scheme.timestamp_header, scheme.timestamp_key, scheme.timestamp_path))


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
