"""A connector's settings against the manifest of its type: what is asked, what counts, what is wrong. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec
from contracts import connector, ingest
from cryptography.x509 import load_pem_x509_certificates
from msgspec import Struct
from msgspec.structs import replace

from services.ingest.connectors import manifest as language
from services.ingest.connectors import schedules
from services.ingest.connectors.expressions import Expression, ExpressionError
from services.ingest.connectors.manifest import (
    ApiKey,
    Auth,
    AuthorizationCode,
    AwsKeys,
    Basic,
    ClientCredentials,
    ConfigField,
    DatabaseLogin,
    JwtBearer,
    KeyPair,
    Manifest,
    SeverityRule,
    StatusRule,
)
from services.ingest.connectors.registry import (
    CUSTOM_PREFIX,
    ManifestError,
    UnknownTypeError,
    manifest_of,
    read,
)
from services.ingest.connectors.templates import HOST, TemplateError, fill_address
from services.ingest.errors import InvalidConnectorError

DISPLAY_NAME_LENGTH_MAX: Final = 100
VALUE_LENGTH_MAX: Final = 4_096
SECRET_LENGTH_MAX: Final = 16_384
"""A service account's key is about 2,400 characters long, a set of public keys some thousand."""
MANIFEST_BYTES_MAX: Final = 65_536
MANIFESTS_KEPT_MAX: Final = 128
"""Manifests of workspaces' own that are kept read."""
FIELDS_MAX: Final = 50
CA_CERTIFICATE: Final = "ca_certificate"
"""The config field with the certificates (PEM) of somebody's own authority: the server's has to be of it."""
CERTIFICATES_LENGTH_MAX: Final = 16_384
CUSTOM_TYPE: Final = "custom_api"

_RULES: Final = {"severity": SeverityRule, "status": StatusRule}
_MAPPED: Final = frozenset(
    name for name in language.Mapping.__struct_fields__ if name not in {"when", "metadata"}
)
_METADATA: Final = "metadata."
_SECRET: Final = re.compile(r"\{secret\.([a-z0-9_]+)\}")
_CONFIG: Final = re.compile(r"\{config\.([a-z0-9_]+)\}")
_ADDRESS: Final = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Source(Struct, frozen=True):
    """A connector as it is polled and mapped: its manifest with its own mapping over it."""

    connector_id: str
    settings: connector.ConnectorSettings
    manifest: Manifest

    @property
    def streams(self) -> tuple[language.Stream, ...]:
        """The streams that are polled."""
        chosen = self.settings.streams
        return tuple(stream for stream in self.manifest.streams if not chosen or stream.name in chosen)

    @property
    def auth(self) -> Auth:
        """The way to sign in."""
        return self.manifest.auth[self.settings.auth]

    def asked_by(self, stream: language.Stream) -> str:
        """What a stream asks, as a digest: its request, under which address, with what people have set.

        Who asks is not of it, nor is how often; a key that is renewed leaves it as it is.
        """
        request = (stream.endpoint, stream.query, stream.details, stream.partition)
        return self._digest_of(self.manifest.base_url, self.manifest.headers, request)

    @property
    def mapped_by(self) -> str:
        """What makes an issue of a record, as a digest: the mappings, and what stands before ids and behind links."""
        return self._digest_of(self.manifest.mappings, self.manifest.id_scope, self.manifest.link)

    def _digest_of(self, *parts: object) -> str:
        """Of parts of the manifest, with what people have set."""
        config = {key: value for key, value in self.settings.config.items() if key != CA_CERTIFICATE}
        return _digest(msgspec.to_builtins((*parts, config), enc_hook=language.encode_hook))

    def qualified(self, issue: ingest.IssueReport) -> ingest.IssueReport:
        """The issue as this connector reports it: its id with what stands before it, its source, its connector."""
        scope = self._scope()
        external_id = f"{scope}/{issue.external_id}" if scope else issue.external_id
        url = self._link(issue.external_id) or issue.external_url
        return replace(issue, external_id=external_id, connector_id=self.connector_id, external_url=url)

    def _link(self, id_: str | None) -> str | None:
        if not self.manifest.link or not id_:
            return None
        values = {f"config.{key}": value for key, value in self.settings.config.items()}
        try:
            return fill_address(self.manifest.link, {**values, "id": id_})
        except TemplateError:
            return None

    def _scope(self) -> str:
        config = self.settings.config
        scope = _CONFIG.sub(lambda found: config.get(found[1], ""), self.manifest.id_scope)
        # All types of a workspace's own share one source, so the type keeps their ids apart.
        parts = (self.manifest.type if is_custom(self.manifest.type) else "", scope)
        return "/".join(part for part in parts if part)


def is_custom(type_: str) -> bool:
    """Whether a type is a workspace's own."""
    return type_.startswith(CUSTOM_PREFIX) and type_ != CUSTOM_TYPE


def source_of(connector_id: str, settings: connector.ConnectorSettings) -> Source:
    """What settings that were checked once stand for. Raises InvalidConnectorError where a type is gone since."""
    problems: dict[str, str] = {}
    manifest = _manifest(settings, problems, is_kept=True)
    if manifest is None or problems:
        raise InvalidConnectorError(problems)
    if settings.mapping:
        manifest = with_mapping(manifest, settings.mapping)
    return Source(connector_id, settings, manifest)


def with_mapping(manifest: Manifest, fields: Mapping[str, str]) -> Manifest:
    """A manifest whose mappings find these fields elsewhere: a name such as "title" or "metadata.team" → JMESPath.

    The maps of words, and what decides which mapping fits, stay. Raises InvalidConnectorError.
    """
    problems = {f"mapping.{name}": fault for name, fault in _mapping_faults(fields)}
    if problems:
        raise InvalidConnectorError(problems)
    return replace(manifest, mappings=tuple(_mapped(each, fields) for each in manifest.mappings))


def checked(
    settings: connector.ConnectorSettings, *, kept: connector.ConnectorSettings | None = None
) -> connector.ConnectorSettings:
    """The settings in the shape in which they are kept: trimmed, with the defaults of the manifest.

    kept: those before. A manifest that stays as it is needs to meet no rule that is younger than it.
    Raises InvalidConnectorError with every problem, by path.
    """
    is_kept = kept is not None and settings.manifest == kept.manifest
    problems: dict[str, str] = {}
    settings = replace(settings, display_name=settings.display_name.strip())
    if not 0 < len(settings.display_name) <= DISPLAY_NAME_LENGTH_MAX:
        problems["display_name"] = f"needs 1 to {DISPLAY_NAME_LENGTH_MAX} characters"
    manifest = _manifest(settings, problems, is_kept=is_kept)
    if manifest is not None:
        config = {key: value.strip() for key, value in settings.config.items() if value.strip()}
        defaults = {field.key: field.default for field in manifest.config if field.default is not None}
        settings = replace(settings, type=manifest.type, config={**defaults, **config})
        problems.update(_setting_faults(settings, manifest))
    if settings.schedule is not None:
        problems.update(schedules.problems(settings.schedule))
    problems.update((f"mapping.{name}", fault) for name, fault in _mapping_faults(settings.mapping))
    if problems:
        raise InvalidConnectorError(problems)
    return settings


def changed(
    settings: connector.ConnectorSettings, cmd: connector.ConfigureConnector
) -> connector.ConnectorSettings:
    """The settings with what a command changes; not yet checked."""
    changes: dict[str, object] = {
        name: value
        for name in ("display_name", "auth", "schedule", "manifest")
        if (value := getattr(cmd, name)) is not None
    }
    if cmd.without_schedule:
        changes["schedule"] = None
    if cmd.config:
        changes["config"] = {**settings.config, **cmd.config}
    if cmd.streams or cmd.all_streams:
        changes["streams"] = () if cmd.all_streams else cmd.streams
    if cmd.mapping or cmd.manifest_mapping:
        changes["mapping"] = {} if cmd.manifest_mapping else cmd.mapping
    return replace(settings, **changes)


def is_polled(manifest: Manifest) -> bool:
    """Whether there is something to ask the vendor; otherwise records only come by themselves."""
    return bool(manifest.streams)


def deciding_config(manifest: Manifest, auth: int) -> frozenset[str]:
    """Fields of config that decide where credentials are sent to."""
    addresses = [*_addresses(manifest)]
    addresses += [getattr(manifest.auth[auth], name, "") for name in ("authorize_url", "token_url")]
    selected: set[str] = set() if isinstance(manifest.base_url, str | None) else {manifest.base_url.select}
    if isinstance(manifest.auth[auth], DatabaseLogin):
        selected |= {"host", "port", "tls"}
    if any(field.key == CA_CERTIFICATE for field in manifest.config):
        selected.add(CA_CERTIFICATE)
    return frozenset(selected.union(*(_CONFIG.findall(address) for address in addresses)))


def address_of(source: Source) -> str:
    """Where the source's credentials are sent to, as it is kept beside them."""
    fields = deciding_config(source.manifest, source.settings.auth)
    config = {key: source.settings.config.get(key) for key in sorted(fields)}
    return msgspec.json.encode(_Address(_fit(source), config)).decode()


def is_sent_to(source: Source, address: str) -> bool:
    """Whether the source sends its credentials to the address that was kept beside them."""
    kept = msgspec.json.decode(address, type=_Address)
    # Up to 2026-11-22 all of a manifest was kept.
    if kept.manifest not in {_fit(source), _digest(source.settings.manifest)}:
        return False
    fields = deciding_config(source.manifest, source.settings.auth) & kept.config.keys()
    return all(source.settings.config.get(key) == kept.config[key] for key in fields)


def sends_elsewhere(before: Source, after: Source) -> bool:
    """Whether credentials that were given for one would go to another address with the other, or would not fit it."""
    if _fit(before) != _fit(after):
        return True
    fields = deciding_config(after.manifest, after.settings.auth)
    return any(before.settings.config.get(key) != after.settings.config.get(key) for key in fields)


def readdressed(address: str, before: Source, after: Source) -> str | None:
    """What is kept beside credentials that stay with another manifest; None where they were not for the one before."""
    return address_of(after) if is_sent_to(before, address) else None


class _Address(Struct, frozen=True):
    """manifest: names a custom type's, empty for the catalogue's. config: what decides where requests go."""

    manifest: str
    config: dict[str, str | None]


def _fit(source: Source) -> str:
    """What of a custom type's manifest decides where credentials go and which they are; empty for the catalogue's."""
    if source.settings.manifest is None:
        return ""
    manifest = source.manifest
    ways = [
        (
            type(auth).__name__,
            getattr(auth, "authorize_url", ""),
            getattr(auth, "token_url", ""),
            [field.key for field in asked_secrets(auth)],
        )
        for auth in manifest.auth
    ]
    has_authority = any(field.key == CA_CERTIFICATE for field in manifest.config)
    return _digest((msgspec.to_builtins(manifest.base_url), manifest.adapter, ways, has_authority))


def _digest(manifest: object) -> str:
    return "" if manifest is None else sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()


def needs_person(auth: Auth) -> bool:
    """Whether somebody has to agree in a browser before anything can be asked."""
    return isinstance(auth, AuthorizationCode)


def asked_secrets(auth: Auth) -> tuple[ConfigField, ...]:
    """What a person gives to sign in this way, and what nobody can read again."""
    match auth:
        case ApiKey():
            return _fields_in(*auth.headers.values(), *auth.params.values())
        case Basic():
            return _fields_in(auth.username, auth.password)
        case AuthorizationCode():
            return (
                ConfigField(key="client_id", title="Client ID of your own application", required=False),
                ConfigField(key="client_secret", title="Its client secret", required=False),
            )
        case ClientCredentials():
            return (
                ConfigField(key="client_id", title="Client ID"),
                ConfigField(key="client_secret", title="Client secret"),
            )
        case JwtBearer():
            return (ConfigField(key="service_account_key", title="Key of a service account (JSON)"),)
        case AwsKeys():
            return (
                ConfigField(key="access_key_id", title="Access key ID"),
                ConfigField(key="secret_access_key", title="Secret access key"),
                ConfigField(key="session_token", title="Session token", required=False),
            )
        case KeyPair():
            return (
                ConfigField(key="username", title="User name"),
                ConfigField(key="private_key", title="Private key (PEM, PKCS#8, RSA)"),
                ConfigField(key="passphrase", title="Passphrase of the key", required=False),
            )
        case DatabaseLogin():
            return (
                ConfigField(key="username", title="User name"),
                ConfigField(key="password", title="Password"),
            )
        case _:
            return ()


def check_credentials(auth: Auth, given: Mapping[str, str], *, held: Collection[str]) -> None:
    """Refuse what this way to sign in does not ask, and what it lacks with these and those that are held.

    Raises InvalidConnectorError by path, with no value in it.
    """
    fields = {field.key: field for field in asked_secrets(auth)}
    problems: dict[str, str] = {}
    for name, value in given.items():
        if name not in fields:
            names = ", ".join(fields) or "nothing"
            problems[f"credentials.{name[:60]}"] = f"is not asked; this way to sign in takes {names}"
        elif not 0 < len(value) <= SECRET_LENGTH_MAX:
            problems[f"credentials.{name}"] = f"needs 1 to {SECRET_LENGTH_MAX} characters"
        elif isinstance(auth, ApiKey | AwsKeys) and not (value.isascii() and value.isprintable()):
            problems[f"credentials.{name}"] = "has a character that no header can have; copy it again"
    for name, field in fields.items():
        if field.required and name not in given and name not in held:
            problems[f"credentials.{name}"] = f"is missing: {field.title}"
    if problems:
        raise InvalidConnectorError(problems)


def _manifest(
    settings: connector.ConnectorSettings, problems: dict[str, str], *, is_kept: bool = False
) -> Manifest | None:
    if is_custom(settings.type):
        return _own_manifest(settings, problems, is_kept=is_kept)
    if settings.manifest is not None:
        problems["manifest"] = f"is for a type of your own, named {CUSTOM_PREFIX}…; leave it out"
    try:
        return manifest_of(settings.type)
    except (UnknownTypeError, ManifestError):
        problems["type"] = (
            f"there is no type {settings.type[:60]!r}; see the catalogue, or begin it with custom_"
        )
        return None


def _own_manifest(
    settings: connector.ConnectorSettings, problems: dict[str, str], *, is_kept: bool
) -> Manifest | None:
    if settings.manifest is None:
        problems["manifest"] = "is needed for a type of your own"
        return None
    if settings.manifest.get("type", settings.type) != settings.type:
        problems["manifest.type"] = f"is not the connector's type, {settings.type}"
        return None
    try:
        content = msgspec.json.encode(settings.manifest)
    except (ValueError, RecursionError):
        content = b""
    if not 0 < len(content) <= MANIFEST_BYTES_MAX:
        problems["manifest"] = f"is too long or too deep; at most {MANIFEST_BYTES_MAX} bytes of JSON"
        return None
    try:
        return _read(content, f"{settings.type}.yaml", is_kept=is_kept)
    except (ManifestError, RecursionError) as error:
        faults = error.problems if isinstance(error, ManifestError) else ()
        for fault in faults:
            # One place may have two, such as two placeholders that stand for nothing.
            place = f"manifest.{fault.path}".rstrip(".")
            problems[place] = f"{problems[place]}; {fault.problem}" if place in problems else fault.problem
        problems.setdefault("manifest", "cannot be read as a manifest")
        return None


@lru_cache(maxsize=MANIFESTS_KEPT_MAX)
def _read(content: bytes, file: str, *, is_kept: bool) -> Manifest:
    """Reading one takes ten milliseconds, and each run begins with it."""
    return read(content, file=file, is_kept=is_kept)


def _setting_faults(settings: connector.ConnectorSettings, manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield from _config_faults(settings.config, manifest)
    if not 0 <= settings.auth < len(manifest.auth):
        yield (
            "auth",
            f"is {settings.auth}; {manifest.name} has ways to sign in from 0 to {len(manifest.auth) - 1}",
        )
    names = [stream.name for stream in manifest.streams]
    for index, name in enumerate(settings.streams):
        if name not in names:
            yield (
                f"streams[{index}]",
                f"{name[:60]!r} is none of {', '.join(names) or 'them: there are no streams'}",
            )
    if settings.schedule is not None and not is_polled(manifest):
        yield "schedule", f"{manifest.name} is not polled: it only sends; leave it out"


def _config_faults(config: Mapping[str, str], manifest: Manifest) -> Iterator[tuple[str, str]]:
    fields = {field.key: field for field in manifest.config}
    for key, value in config.items():
        field = fields.get(key)
        if field is None:
            yield (
                f"config.{key[:60]}",
                f"is not a field of {manifest.name}; it has {', '.join(fields) or 'none'}",
            )
        elif field.choices and value not in field.choices:
            yield f"config.{key}", f"is none of {', '.join(field.choices)}"
        elif key == CA_CERTIFICATE:
            if not _is_certificates(value):
                yield (
                    f"config.{key}",
                    f"needs certificates in PEM, at most {CERTIFICATES_LENGTH_MAX} characters, and no private key",
                )
        elif len(value) > VALUE_LENGTH_MAX or _UNPRINTABLE.search(value):
            yield f"config.{key}", f"needs at most {VALUE_LENGTH_MAX} printable characters"
        elif fault := _place_fault(key, value, manifest):
            yield f"config.{key}", fault
    for key, field in fields.items():
        if field.required and key not in config:
            yield f"config.{key}", f"is missing: {field.title}"


def _is_certificates(value: str) -> bool:
    if len(value) > CERTIFICATES_LENGTH_MAX or not value.isascii() or "PRIVATE KEY" in value:
        return False
    try:
        return bool(load_pem_x509_certificates(value.encode()))
    except ValueError:
        return False


def _place_fault(key: str, value: str, manifest: Manifest) -> str | None:
    """What is wrong with a value that is an address, or part of a host's name, in one of the manifest's addresses."""
    placeholder = f"{{config.{key}}}"
    for address in _addresses(manifest):
        if address.startswith(placeholder):
            if not _ADDRESS.fullmatch(value):
                return "needs an address such as https://example.com, without user, query and fragment"
        elif placeholder in address.partition("://")[2].partition("/")[0] and not HOST.fullmatch(value):
            return "needs a host's name or a part of it: letters, digits, dots, hyphens and underscores"
    return None


def _addresses(manifest: Manifest) -> Iterator[str]:
    """Templates of addresses to which credentials are sent."""
    if isinstance(manifest.base_url, str):
        yield manifest.base_url
    elif manifest.base_url is not None:
        yield from manifest.base_url.choices.values()
    for auth in manifest.auth:
        for name in ("authorize_url", "token_url"):
            yield getattr(auth, name, "")


def _mapping_faults(fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in list(fields.items())[: FIELDS_MAX + 1]:
        is_metadata = name.startswith(_METADATA) and len(name) > len(_METADATA)
        if name not in _MAPPED and not is_metadata:
            yield name[:60], f"is no field of an issue; use {', '.join(sorted(_MAPPED))} or {_METADATA}NAME"
        elif len(text) > VALUE_LENGTH_MAX:
            yield name[:60], f"needs at most {VALUE_LENGTH_MAX} characters"
        else:
            try:
                Expression(text)
            except ExpressionError as error:
                yield name[:60], str(error)
    if len(fields) > FIELDS_MAX:
        yield "…", f"has {len(fields)} fields; at most {FIELDS_MAX}"


def _mapped(mapping: language.Mapping, fields: Mapping[str, str]) -> language.Mapping:
    changes: dict[str, object] = {}
    metadata = dict(mapping.metadata)
    for name, text in fields.items():
        path = Expression(text)
        if name.startswith(_METADATA):
            metadata[name.removeprefix(_METADATA)] = path
        elif name in _RULES:
            rule = getattr(mapping, name)
            changes[name] = _RULES[name](path=path) if rule is None else replace(rule, path=path)
        else:
            changes[name] = path
    return replace(mapping, metadata=metadata, **changes)


def _fields_in(*templates: str) -> tuple[ConfigField, ...]:
    names = dict.fromkeys(name for template in templates for name in _SECRET.findall(template))
    return tuple(ConfigField(key=name, title=name.replace("_", " ").capitalize()) for name in names)
