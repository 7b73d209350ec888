"""What a manifest says to whoever chooses a source: what is asked, and what it can do. Pure."""

from collections.abc import Iterable
from typing import Final

from contracts import connector

from services.ingest.connectors import registry
from services.ingest.connectors.connecting import asked_secrets
from services.ingest.connectors.manifest import (
    Auth,
    AuthorizationCode,
    AwsKeys,
    ClientCredentials,
    ConfigField,
    JwtBearer,
    Manifest,
    NoAuth,
)

_TITLES: Final[dict[type, str]] = {
    AuthorizationCode: "Sign in with the vendor",
    ClientCredentials: "OAuth client",
    JwtBearer: "Service account",
    AwsKeys: "AWS access keys",
    NoAuth: "Nothing",
}
"""Of ways to sign in whose manifest has no words of its own."""


def described(type_: str | None) -> connector.SourcesDescribed:
    """One type, or all in the order of their names. Raises UnknownTypeError."""
    manifests = registry.catalogue() if type_ is None else (registry.manifest_of(type_),)
    return connector.SourcesDescribed(types=tuple(describe(manifest) for manifest in manifests))


def describe(manifest: Manifest) -> connector.SourceType:
    """A type of source as the catalogue shows it."""
    return connector.SourceType(
        type=manifest.type,
        name=manifest.name,
        category=manifest.category,
        docs_url=manifest.docs_url,
        is_verified=manifest.verified,
        evidence=manifest.evidence,
        unchecked=manifest.unchecked,
        notes=manifest.notes,
        config=_fields(manifest.config),
        auth=tuple(_auth(way) for way in manifest.auth),
        streams=tuple(stream.name for stream in manifest.streams),
        webhook_schemes=_schemes(manifest),
        is_tracker=manifest.push is not None,
        target=() if manifest.push is None else _fields(manifest.push.target),
    )


def _auth(way: Auth) -> connector.SourceAuth:
    return connector.SourceAuth(
        kind=str(way.__struct_config__.tag),
        title=getattr(way, "title", _TITLES.get(type(way), "")),
        secrets=_fields(asked_secrets(way)),
    )


def _schemes(manifest: Manifest) -> tuple[str, ...]:
    schemes = () if manifest.webhook is None else manifest.webhook.verify
    return tuple(dict.fromkeys(str(scheme.__struct_config__.tag) for scheme in schemes))


def _fields(fields: Iterable[ConfigField]) -> tuple[connector.SourceField, ...]:
    return tuple(
        connector.SourceField(
            key=field.key,
            title=field.title,
            is_required=field.required,
            default=field.default,
            choices=field.choices,
        )
        for field in fields
    )
